//! Prints what sealing costs on this machine: `cargo run -p glasshive-link --example seal_cost`.

use glasshive_link::seal::{RecipientSealer, Sealer};
use std::time::Instant;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = std::env::temp_dir().join(format!("glasshive-seal-cost-{}", std::process::id()));
    let sealer = RecipientSealer::standalone(&dir)?;
    let rounds = 2_000u32;
    let begun = Instant::now();
    let mut bytes = 0;
    for _ in 0..rounds {
        bytes = sealer.seal(b"Passw0rd2024").len();
    }
    println!("seal of 12 bytes: {:.1} µs, {bytes} characters", begun.elapsed().as_secs_f64() * 1e6 / f64::from(rounds));
    let begun = Instant::now();
    for _ in 0..rounds {
        sealer.pivot(b"Passw0rd2024");
    }
    println!("pivot: {:.1} µs", begun.elapsed().as_secs_f64() * 1e6 / f64::from(rounds));
    let plain = vec![7u8; 16 << 20];
    let begun = Instant::now();
    sealer.seal_file(&mut plain.as_slice(), &mut std::io::sink())?;
    println!("file of 16 MiB: {:.0} MiB/s", 16.0 / begun.elapsed().as_secs_f64());
    std::fs::remove_dir_all(&dir)?;
    Ok(())
}
