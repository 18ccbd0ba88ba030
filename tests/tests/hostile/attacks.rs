//! What hostile visitors do, one a line of the table. Each returns how many connections it made from
//! its own address, or nothing when a program made them that does not say.

use super::{DECOY, Ground, connect, full, syn};
use glasshive_tests::process::{pause, run_ok};
use russh::keys::PublicKeyOrCertificate;
use russh::{Disconnect, client};
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A kind of harm.
pub(crate) struct Attack {
    pub(crate) name: &'static str,
    /// Gets the ground, its own address, and whether the good visitor has made his visits.
    pub(crate) run: fn(&Ground, Ipv4Addr, &dyn Fn() -> bool) -> Option<usize>,
}

/// All of them, in order.
pub(crate) const ATTACKS: [Attack; 6] = [
    Attack { name: "500 slow visitors", run: slow },
    Attack { name: "half-open handshakes", run: half_open },
    Attack { name: "lines without end", run: lines },
    Attack { name: "uploads", run: uploads },
    Attack { name: "SSH channels", run: channels },
    Attack { name: "nmap -A", run: nmap },
];

/// TCP ports of the persona.
const PORTS: [u16; 7] = [21, 22, 23, 53, 80, 443, 9100];

fn pick(reduced: usize, whole: usize) -> usize {
    if full() { whole } else { reduced }
}

/// So many who say a byte a second each, until the good visitor is through.
fn slow(ground: &Ground, from: Ipv4Addr, good_is_through: &dyn Fn() -> bool) -> Option<usize> {
    let count = 500;
    let mut held: Vec<TcpStream> = ground.outside(|| (0..count).map(|n| connect(from, PORTS[n % PORTS.len()]).unwrap()).collect());
    for stream in &held {
        stream.set_nonblocking(true).unwrap();
    }
    let mut sink = [0; 4096];
    // At least three bytes each, however fast the good visitor is.
    for byte in b"GET / HTTP/1.1\r\nHost: slow\r\nX-Slow: ".iter().chain(b"a".iter().cycle()).enumerate().map(|(n, byte)| (n, *byte)) {
        let next = Instant::now() + Duration::from_secs(1);
        for stream in &mut held {
            // Whoever was sent away is not held; his connection counts all the same.
            let _ = stream.write(&[byte.1]);
            let _ = stream.read(&mut sink);
        }
        if byte.0 >= 2 && good_is_through() {
            break;
        }
        // The pace is the visitor's way, not a wait for something.
        while Instant::now() < next {
            pause();
        }
    }
    Some(count)
}

/// Handshakes of which the last part never comes: no sessions at all.
fn half_open(ground: &Ground, from: Ipv4Addr, good_is_through: &dyn Fn() -> bool) -> Option<usize> {
    let lab = ground.world.lab.as_ref().unwrap();
    let mut silent = lab.inside("v1", std::path::Path::new("nft"));
    // The visitors' kernel knows nothing of these and would refuse what is answered.
    silent.arg(format!(
        "table ip half {{ chain out {{ type filter hook output priority 0; ip saddr {from} tcp flags & rst == rst drop\n }}\n }}"
    ));
    run_ok(silent, None, Duration::from_secs(20)).unwrap();
    let count = pick(500, 4_000);
    ground.outside(|| syn::flood(from, DECOY, &[21, 22, 80], count)).unwrap();
    let held = lab.enter("n1", || Ok(std::fs::read_to_string("/proc/thread-self/net/tcp")?)).unwrap();
    let held = held.lines().filter(|line| line.split_whitespace().nth(3) == Some("03")).count();
    println!("  {count} handshakes begun, {held} half open at once");
    assert!(held > 0, "nothing is half open: this lab cannot show that it does no harm");
    while !good_is_through() {
        pause();
    }
    let mut end = lab.inside("v1", std::path::Path::new("nft"));
    end.args(["delete", "table", "ip", "half"]);
    run_ok(end, None, Duration::from_secs(20)).unwrap();
    Some(0)
}

/// A line of megabytes on every port.
fn lines(ground: &Ground, from: Ipv4Addr, _: &dyn Fn() -> bool) -> Option<usize> {
    ground.outside(|| {
        std::thread::scope(|scope| {
            for port in PORTS {
                // Made here: a thread begun here is on the visitors' host too.
                let mut stream = connect(from, port).unwrap();
                scope.spawn(move || {
                    let block = [b'A'; 64 << 10];
                    for _ in 0..pick(32, 160) {
                        if stream.write_all(&block).is_err() {
                            return;
                        }
                    }
                    let _ = stream.shutdown(std::net::Shutdown::Write);
                    drain(&mut stream);
                });
            }
        });
    });
    Some(PORTS.len())
}

fn drain(stream: &mut TcpStream) {
    let mut sink = [0; 4096];
    while stream.read(&mut sink).is_ok_and(|read| read > 0) {}
}

/// A large body by HTTP and a large file by FTP.
fn uploads(ground: &Ground, from: Ipv4Addr, _: &dyn Fn() -> bool) -> Option<usize> {
    let size = pick(5 << 20, 100 << 20);
    ground.outside(|| {
        let mut stream = connect(from, 80).unwrap();
        let head = format!("POST /upload HTTP/1.1\r\nHost: web-01\r\nContent-Type: application/octet-stream\r\nContent-Length: {size}\r\nConnection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        let block = [b'B'; 64 << 10];
        for _ in 0..size / block.len() {
            if stream.write_all(&block).is_err() {
                break;
            }
        }
        drain(&mut stream);
    });
    let file = ground.world.dir.join("upload");
    std::fs::write(&file, vec![b'C'; size]).unwrap();
    let mut curl = ground.world.lab.as_ref().unwrap().inside("v1", std::path::Path::new("curl"));
    curl.args(["-sS", "--interface", &from.to_string(), "-m", "60", "-T"]).arg(&file);
    curl.arg(format!("ftp://backup:backup123@{DECOY}/upload"));
    // Whether the file is taken is the persona's affair: a server may end a file that is too large.
    let _ = glasshive_tests::process::run(curl, None, Duration::from_secs(90)).unwrap();
    Some(2)
}

struct Trusting;

impl client::Handler for Trusting {
    type Error = russh::Error;
    async fn check_server_key(&mut self, _: &PublicKeyOrCertificate) -> Result<bool, russh::Error> {
        Ok(true)
    }
}

/// One SSH connection that opens channel after channel and closes none.
fn channels(ground: &Ground, from: Ipv4Addr, _: &dyn Fn() -> bool) -> Option<usize> {
    let stream = ground.outside(|| connect(from, 22).unwrap());
    stream.set_nonblocking(true).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let count = pick(500, 10_000);
    let opened = runtime.block_on(async {
        let stream = tokio::net::TcpStream::from_std(stream).unwrap();
        let config = Arc::new(client::Config { inactivity_timeout: Some(Duration::from_secs(60)), ..client::Config::default() });
        let mut handle = client::connect_stream(config, stream, Trusting).await.unwrap();
        assert!(handle.authenticate_password("backup", "backup123").await.unwrap().success());
        let (mut opened, mut held) = (0, Vec::new());
        for _ in 0..count {
            match handle.channel_open_session().await {
                Ok(channel) => {
                    opened += 1;
                    held.push(channel);
                }
                Err(russh::Error::ChannelOpenFailure(_)) => {}
                // Sent away: as good an answer as any.
                Err(_) => break,
            }
        }
        let _ = handle.disconnect(Disconnect::ByApplication, "", "").await;
        opened
    });
    println!("  {opened} of {count} channels were opened");
    assert!(opened > 0);
    Some(1)
}

/// A whole scan with versions, scripts and the system's fingerprint. It comes from the host's own
/// address, by connections it does not count.
fn nmap(ground: &Ground, _: Ipv4Addr, _: &dyn Fn() -> bool) -> Option<usize> {
    let mut nmap = ground.world.lab.as_ref().unwrap().inside("v1", std::path::Path::new("nmap"));
    let ports = if full() { "-p-" } else { "-p21,22,80" };
    nmap.args(["-A", ports, "-n", "-Pn", "-T4", &DECOY.to_string()]);
    let said = run_ok(nmap, None, Duration::from_secs(if full() { 1_800 } else { 180 })).unwrap();
    for port in [21, 22, 80] {
        assert!(said.contains(&format!("{port}/tcp")) && said.contains("open"), "{said}");
    }
    None
}
