//! Capture to disk beside tcpdump, dumpcap and netsniff-ng, one after the other on the same interface
//! with the same ring, to the same disk. The generator's ceiling, with nobody listening, is printed:
//! where all come near it, it is the generator that was measured.

use super::measure::Budget;
use super::traffic::{Found, Sizes, mixed, prepare, send};
use super::tree::Tree;
use super::{Bench, Run};
use crate::lab::Lab;
use crate::process::{Daemon, installed, pause, run_ok, until};
use crate::sensor::SensorLab;
use crate::world::LIMIT;
use anyhow::{Context as _, ensure};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// See the module.
pub(super) static BENCH: Bench = Bench {
    name: "capture",
    summary: "packets lost and CPU time for each, capturing to disk beside tcpdump, dumpcap, netsniff-ng",
    run,
    workers: &[],
};

/// Bytes of everyone's ring.
const RING_MIB: u32 = 128;
/// The generator, nobody listening.
const ALONE: &str = "generator alone";

const SIZES: [Sizes; 3] = [("64 B", |_| 64), ("mixed sizes", mixed), ("1514 B", |_| 1514)];

/// Another recorder.
struct Recorder {
    name: &'static str,
    arguments: fn(&Path) -> Vec<String>,
    /// What it says when it captures.
    ready: &'static str,
}

static RECORDERS: [Recorder; 3] = [
    Recorder {
        name: "tcpdump",
        arguments: |file| {
            let ring = (RING_MIB * 1024).to_string();
            words(&["-i", "eth0", "-n", "-s", "262144", "-B", &ring, "-Z", "root", "-w"], file)
        },
        ready: "listening on",
    },
    Recorder {
        name: "dumpcap",
        arguments: |file| words(&["-i", "eth0", "-q", "-s", "262144", "-B", &RING_MIB.to_string(), "-w"], file),
        ready: "File:",
    },
    Recorder {
        name: "netsniff-ng",
        arguments: |file| words(&["--in", "eth0", "--silent", "--ring-size", &format!("{RING_MIB}MiB"), "--out"], file),
        ready: "Running!",
    },
];

fn words(words: &[&str], file: &Path) -> Vec<String> {
    let mut all: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
    all.push(file.display().to_string());
    all
}

/// Whether this benchmark can run; says so when not.
pub(super) fn possible(run: &mut Run) -> bool {
    let possible = Lab::possible() && installed("tcpdump");
    if !possible {
        run.note("not run: packets are captured in network namespaces, which needs root, ip, nft and tcpdump".to_owned());
    }
    possible
}

fn run(run: &mut Run) -> crate::Result<()> {
    if !possible(run) {
        return Ok(());
    }
    let dir = run.fresh("capture")?;
    let config = format!("[capture]\nring = \"{RING_MIB} MiB\"\n[ring]\nquota = \"8 GiB\"\n");
    let mut sensor = SensorLab::new(&dir, &config)?;
    prepare(&sensor)?;
    // One shows that everything runs.
    let sizes = if run.options.quick { SIZES.get(1..2) } else { SIZES.get(..) };
    for round in 0..run.rounds {
        for sizes in sizes.into_iter().flatten().copied() {
            let count = u32::try_from(run.pick(5_000, if sizes.0 == "1514 B" { 60_000 } else { 150_000 }))?;
            let took = send(&sensor, 0..count, 16, sizes.1)?;
            run.measure(&sent(sizes), "k/s").beside(ALONE, f64::from(count) / took.as_secs_f64() / 1000.0);
            let mut order: Vec<Option<&Recorder>> = std::iter::once(None).chain(RECORDERS.iter().map(Some)).collect();
            order.rotate_left(round % 4);
            for recorder in order {
                match recorder {
                    None => of_subject(run, &mut sensor, sizes, count)?,
                    Some(recorder) => of_recorder(run, &sensor, recorder, sizes, count)?,
                }
            }
        }
    }
    run.note(format!("rings of {RING_MIB} MiB; lost is told from the numbers within the packets; the kernel's copy into the ring is on the sender's account for all"));
    Ok(())
}

fn sent(sizes: Sizes) -> String {
    format!("{}, sent while capturing", sizes.0)
}

fn lost(sizes: Sizes) -> String {
    format!("{}, packets lost", sizes.0)
}

fn cost(sizes: Sizes) -> String {
    format!("{}, CPU a packet, capture and write", sizes.0)
}

/// CPU time the tree used until it no longer works, nanoseconds by thread.
fn at_rest(tree: Tree) -> Vec<(String, u64)> {
    let (mut last, mut since) = (tree.threads_ns(), Instant::now());
    while since.elapsed() < Duration::from_millis(500) {
        pause();
        let now = tree.threads_ns();
        let sum = |all: &[(String, u64)]| all.iter().map(|(_, ns)| *ns).sum::<u64>();
        // One that waits for its turn on a busy machine uses nothing and is not through.
        if sum(&now) > sum(&last) + 2_000_000 || tree.busy() {
            (last, since) = (now, Instant::now());
        }
    }
    tree.threads_ns()
}

/// Microseconds a packet of those threads.
fn each(before: &[(String, u64)], after: &[(String, u64)], count: u32, of: impl Fn(&str) -> bool) -> f64 {
    let sum = |all: &[(String, u64)]| all.iter().filter(|(name, _)| of(name)).map(|(_, ns)| *ns).sum::<u64>();
    sum(after).saturating_sub(sum(before)) as f64 / 1000.0 / f64::from(count)
}

fn of_subject(run: &mut Run, sensor: &mut SensorLab, sizes: Sizes, count: u32) -> crate::Result<()> {
    let state = sensor.dir.join("state");
    if state.exists() {
        std::fs::remove_dir_all(&state)?;
    }
    sensor.start()?;
    let tree = Tree(sensor.daemon.as_ref().context("no sensor")?.pid());
    let before = at_rest(tree);
    let took = send(sensor, 0..count, 16, sizes.1)?;
    let after = at_rest(tree);
    let memory = tree.own_kib();
    sensor.stop()?;
    let file = sensor.dir.join("all.pcapng");
    let mut carve = Command::new(crate::process::binary("glasshive-sensor")?);
    carve.arg("--config").arg(sensor.dir.join("sensor.toml")).args(["carve", "--out"]).arg(&file);
    run_ok(carve, None, LIMIT * 5)?;
    let found = Found::read(&file)?;
    std::fs::remove_file(&file)?;
    ensure!(found.twice == 0, "{} packets are kept twice", found.twice);
    run.measure(&sent(sizes), "k/s").subject(f64::from(count) / took.as_secs_f64() / 1000.0);
    run.measure(&lost(sizes), "").subject(f64::from(count) - found.of(0..count) as f64).budget(Budget::AtMost(0.0));
    let own = |name: &str| matches!(name, "capture" | "ring");
    run.measure(&cost(sizes), "us").subject(each(&before, &after, count, own)).budget(Budget::Times(1.5, "tcpdump"));
    for (what, thread) in [("index", "index"), ("analysis", "analyse")] {
        let value = each(&before, &after, count, |name| name == thread);
        run.measure(&format!("{}, CPU a packet, {what}", sizes.0), "us").subject(value);
    }
    run.measure(&format!("{}, resident memory", sizes.0), "MiB").subject(memory as f64 / 1024.0).budget(Budget::AtMost(512.0));
    Ok(())
}

fn of_recorder(run: &mut Run, sensor: &SensorLab, recorder: &Recorder, sizes: Sizes, count: u32) -> crate::Result<()> {
    if !installed(recorder.name) {
        run.note(format!("{} is not installed", recorder.name));
        for (measure, unit) in [(sent(sizes), "k/s"), (lost(sizes), ""), (cost(sizes), "us")] {
            run.measure(&measure, unit).without(recorder.name);
        }
        return Ok(());
    }
    let file = sensor.dir.join(format!("{}.pcap", recorder.name));
    let log = sensor.dir.join(format!("{}.txt", recorder.name));
    for old in [&file, &log] {
        let _ = std::fs::remove_file(old);
    }
    let mut command = sensor.lab.inside("b", Path::new(recorder.name));
    command.args((recorder.arguments)(&file));
    let mut daemon = Daemon::start(recorder.name, command, &log)?;
    daemon.wait_for(recorder.ready, LIMIT)?;
    // What is sent before the ring is there is no loss of the recorder's.
    until(&format!("the socket of {}", recorder.name), LIMIT, || (capturing(sensor) || !daemon.alive()).then_some(()))?;
    ensure!(daemon.alive(), "{} ended at start:\n{}", recorder.name, daemon.output());
    let tree = Tree(daemon.pid());
    let before = at_rest(tree);
    let took = send(sensor, 0..count, 16, sizes.1)?;
    let after = at_rest(tree);
    // As a person ends it.
    daemon.signal(2);
    until(&format!("the end of {}", recorder.name), LIMIT, || (!daemon.alive()).then_some(()))?;
    let found = Found::read(&file)?;
    std::fs::remove_file(&file)?;
    run.measure(&sent(sizes), "k/s").beside(recorder.name, f64::from(count) / took.as_secs_f64() / 1000.0);
    run.measure(&lost(sizes), "").beside(recorder.name, f64::from(count) - found.of(0..count) as f64);
    run.measure(&cost(sizes), "us").beside(recorder.name, each(&before, &after, count, |_| true));
    Ok(())
}

/// Whether a packet socket runs on the receiver.
fn capturing(sensor: &SensorLab) -> bool {
    let sockets = sensor.lab.enter("b", || Ok(std::fs::read_to_string("/proc/thread-self/net/packet")?));
    // sk RefCnt Type Proto Iface R Rmem User Inode
    sockets.is_ok_and(|text| text.lines().skip(1).any(|line| line.split_whitespace().nth(5) == Some("1")))
}
