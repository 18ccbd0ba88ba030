//! One flow out of many: `glasshive-sensor carve` by its index, beside tcpdump and tshark reading the same
//! packets from a file. All must find the same packets.

use super::capture::possible;
use super::measure::Budget;
use super::store::timed;
use super::traffic::{FIRST_PORT, Found, NOWHERE, mixed, prepare, send};
use super::{Bench, Run};
use crate::process::{binary, command, installed, run_ok, until};
use crate::sensor::SensorLab;
use crate::world::LIMIT;
use anyhow::ensure;
use std::path::Path;
use std::process::Command;

/// See the module.
pub(super) static BENCH: Bench = Bench {
    name: "carve",
    summary: "one flow out of a ring of packets, beside tcpdump -r and tshark -Y on a file of the same",
    run,
    workers: &[],
};

/// Flows the packets belong to; the first is wanted.
const FLOWS: u16 = 1_000;

fn run(run: &mut Run) -> crate::Result<()> {
    if !possible(run) {
        return Ok(());
    }
    let bytes: u64 = if run.options.full { 2_500_000_000 } else { run.pick(8_000_000, 256_000_000) as u64 };
    let dir = run.fresh("carve")?;
    let mut sensor = SensorLab::new(&dir, "[ring]\nquota = \"8 GiB\"\n")?;
    prepare(&sensor)?;
    sensor.start()?;
    let (mut next, mut sent) = (0u32, 0u64);
    while sent < bytes {
        let some = next..next + 16_000;
        send(&sensor, some.clone(), FLOWS, mixed)?;
        next = some.end;
        sent += some.map(|n| mixed(n) as u64).sum::<u64>();
    }
    sensor.stop()?;
    let whole = dir.join("all.pcap");
    let original = dir.join("all.pcapng");
    run_ok(carve(&sensor, &[], &original)?, None, LIMIT * 10)?;
    run_ok(tcpdump(&original, &whole, ""), None, LIMIT * 10)?;
    std::fs::remove_file(&original)?;
    let size = std::fs::metadata(&whole)?.len();
    let wanted: Vec<u32> = Found::read(&whole)?.numbers().into_iter().filter(|n| n / 64 % u32::from(FLOWS) == 0).collect();
    until("the last segment's index", LIMIT * 5, || {
        let ring = String::from_utf8(sensor.ask(&["ring", "--json"]).ok()?).ok()?;
        ring.lines().all(|line| line.contains("\"complete\"")).then_some(())
    })?;
    let flow = format!("udp:10.77.0.1:{FIRST_PORT}-{NOWHERE}:9");
    let name = "one flow";
    let check = |file: &Path, who: &str| -> crate::Result<()> {
        let found = Found::read(file)?.numbers();
        ensure!(found == wanted, "{who} found {} packets of the flow, {} are in the file", found.len(), wanted.len());
        Ok(std::fs::remove_file(file)?)
    };
    for round in 0..run.rounds {
        let out = dir.join("one");
        for turn in 0..3 {
            match (turn + round) % 3 {
                0 => {
                    let took = timed(carve(&sensor, &["--flow", &flow], &out)?)?;
                    check(&out, "glasshive-sensor")?;
                    run.measure(name, "ms").subject(took).budget(Budget::AtMost(20.0));
                }
                1 => {
                    let filter = format!("udp and host 10.77.0.1 and host {NOWHERE} and port {FIRST_PORT} and port 9");
                    let took = timed(tcpdump(&whole, &out, &filter))?;
                    check(&out, "tcpdump")?;
                    run.measure(name, "ms").beside("tcpdump", took);
                }
                // Minutes for the large file: once.
                _ if !installed("tshark") || (run.options.full && round > 0) => {}
                _ => {
                    let filter = format!("ip.addr == 10.77.0.1 && ip.addr == {NOWHERE} && udp.port == {FIRST_PORT} && udp.port == 9");
                    let mut tshark = command(["tshark", "-n", "-r"]);
                    tshark.arg(&whole).args(["-Y", &filter, "-w"]).arg(&out);
                    let took = timed(tshark)?;
                    check(&out, "tshark")?;
                    run.measure(name, "ms").beside("tshark", took);
                }
            }
        }
        let took = timed(carve(&sensor, &["--flow", "udp:10.77.0.1:4-10.77.0.98:9"], &out)?)?;
        run.measure("a flow that is not there", "ms").subject(took);
        let _ = std::fs::remove_file(&out);
    }
    run.note(format!("{} packets of {} flows, {:.0} MB; {} packets are of the flow; the file lies in the page cache; the start of each program is included", next, FLOWS, size as f64 / 1e6, wanted.len()));
    Ok(())
}

fn carve(sensor: &SensorLab, selection: &[&str], out: &Path) -> crate::Result<Command> {
    let _ = std::fs::remove_file(out);
    let mut command = Command::new(binary("glasshive-sensor")?);
    command.arg("--config").arg(sensor.dir.join("sensor.toml")).arg("carve").args(selection).arg("--out").arg(out);
    Ok(command)
}

fn tcpdump(from: &Path, to: &Path, filter: &str) -> Command {
    let mut tcpdump = command(["tcpdump", "-n", "-Z", "root", "-r"]);
    tcpdump.arg(from).arg("-w").arg(to);
    if !filter.is_empty() {
        tcpdump.arg(filter);
    }
    tcpdump
}
