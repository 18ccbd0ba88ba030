//! Long runs: what a session leaves in the memory of each daemon after it is over, and what days of
//! records leave behind where records are deleted by age. Slopes are printed; memory is
//! judged at the full numbers only, behind which caches have filled. The first needs root and the programs of `tests/install.sh test`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use glasshive_journal::store::{NodeBatch, StoreConfig};
use glasshive_tests::bench::records::Node;
use glasshive_tests::bench::tree::Tree;
use glasshive_tests::lab::Lab;
use glasshive_tests::process::until;
use glasshive_tests::world::{Dial, LIMIT, Plan, World};
use glasshive_tests::world_sensor::Sensor;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

const PERSONA: &str = "os = \"debian12\"\n[limits]\nper_source = 1000000\n[service.ftp]\n";

/// The second measures its own process.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn turn() -> MutexGuard<'static, ()> {
    ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Looks at memory after the warm-up.
const POINTS: usize = 30;

/// How many connections are asked for.
fn connections() -> usize {
    std::env::var("GLASSHIVE_CONNECTIONS").ok().and_then(|text| text.parse().ok()).unwrap_or(10_000)
}

/// Whether these are the full numbers of `make soak`.
fn soak() -> bool {
    connections() >= 100_000
}

/// One whole visit: banner, a refused login, goodbye.
fn visit() -> std::io::Result<()> {
    let mut stream = TcpStream::connect("10.66.1.10:21")?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    stream.set_nodelay(true)?;
    let mut heard = Vec::new();
    for (wait, say) in [("220 ", "USER root\r\n"), ("331 ", "QUIT\r\n")] {
        let mut bytes = [0; 512];
        heard.clear();
        while !heard.windows(wait.len()).any(|window| window == wait.as_bytes()) {
            let read = stream.read(&mut bytes)?;
            if read == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            heard.extend_from_slice(&bytes[..read]);
        }
        stream.write_all(say.as_bytes())?;
    }
    stream.read_to_end(&mut heard).map(|_| ())
}

/// The most there was, MiB.
fn most(points: &[(f64, f64)]) -> f64 {
    points.iter().map(|point| point.1 / 1024.0).fold(0.0, f64::max)
}

fn closes(world: &World) -> u64 {
    let nodes = world.cli(&["nodes", "--json"]).unwrap();
    let node = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["events"]["session.close"].as_u64().unwrap_or(0);
    nodes.lines().map(node).sum()
}

/// How memory goes with sessions, bytes a session.
struct Growth {
    /// The middle of the slopes between any two points (Theil and Sen).
    middle: f64,
    /// Kendall's 95 % bounds of it. Databases are opened, filled and closed, so memory goes up and down by
    /// megabytes: growth is shown when the lower bound is above nothing.
    bounds: (f64, f64),
}

/// From points of (sessions, KiB).
fn growth(points: &[(f64, f64)]) -> Growth {
    let mut slopes = Vec::new();
    for (at, a) in points.iter().enumerate() {
        slopes.extend(points[at + 1..].iter().map(|b| (b.1 - a.1) / (b.0 - a.0) * 1024.0));
    }
    slopes.sort_by(f64::total_cmp);
    let (n, count) = (points.len() as f64, slopes.len() as f64);
    let spread = 1.96 * (n * (n - 1.0) * (2.0 * n + 5.0) / 18.0).sqrt();
    let at = |place: f64| slopes[(place.max(0.0) as usize).min(slopes.len() - 1)];
    Growth { middle: at(count / 2.0), bounds: (at((count - spread) / 2.0), at((count + spread) / 2.0)) }
}

#[test]
fn growth_is_told_from_ups_and_downs() {
    let points = |each: f64| -> Vec<(f64, f64)> {
        (0..30)
            .map(|n| (f64::from(n) * 1_000.0, 200_000.0 + f64::from(n * 7 % 10) * 1_000.0 + f64::from(n) * each * 1_000.0 / 1_024.0))
            .collect()
    };
    for (each, grows) in [(0.0, false), (-300.0, false), (1_100.0, true)] {
        let found = growth(&points(each));
        assert_eq!(found.bounds.0 > 1.0, grows, "{each}: {} {:?}", found.middle, found.bounds);
        assert!((found.middle - each).abs() < 200.0, "{each}: {}", found.middle);
    }
}

/// The memory of decoys, controller and sensor over so many sessions, the first half of which warms up.
/// The full number is 600 000 (`GLASSHIVE_CONNECTIONS=100000`): the detectors' windows are half an hour long, so that
/// they fill up to their bounds.
#[test]
fn a_session_leaves_nothing_behind() {
    let _turn = turn();
    assert!(Lab::possible(), "this scenario needs root and the programs of tests/install.sh test");
    let total = if soak() { 6 * connections() } else { (connections() / 5).max(2_000) };
    let dir = tempfile::tempdir().unwrap();
    let plan = Plan { dir: dir.path(), root: true, nets: &[("alpha", Dial::Node)], persona: PERSONA, extra: "" };
    let mut world = World::start(&plan).unwrap();
    let sensor = Sensor::start(&mut world, 0, "").unwrap();
    let pids = [
        ("decoys", world.nodes[0].daemon.as_ref().unwrap().pid()),
        ("controller", world.controller.as_ref().unwrap().pid()),
        ("sensor", sensor.daemon.as_ref().unwrap().pid()),
    ];
    let mut points: Vec<Vec<(f64, f64)>> = pids.iter().map(|_| Vec::new()).collect();
    let part = total.div_ceil(2 * POINTS);
    let mut made = 0;
    // The first half warms up: caches fill, and pools grow to what the load needs.
    for turn in 0..2 * POINTS {
        world
            .lab
            .as_ref()
            .unwrap()
            .enter("v1", || {
                std::thread::scope(|scope| {
                    let lanes: Vec<_> = (0..8)
                        .map(|lane| scope.spawn(move || (lane..part).step_by(8).for_each(|_| visit().expect("a visit goes well"))))
                        .collect();
                    lanes.into_iter().for_each(|lane| lane.join().unwrap());
                });
                Ok(())
            })
            .unwrap();
        made += part;
        until("the sessions at the controller", LIMIT * 2, || (closes(&world) >= made as u64).then_some(())).unwrap();
        if turn >= POINTS {
            for ((_, pid), points) in pids.iter().zip(&mut points) {
                points.push((made as f64, Tree(*pid).settled_kib(Duration::from_millis(300), Duration::from_secs(5)) as f64));
            }
        }
    }
    assert_eq!(closes(&world), made as u64, "every session exactly once");
    for ((name, _), points) in pids.iter().zip(&points) {
        let Growth { middle, bounds: (low, high) } = growth(points);
        let (first, last) = (points.first().unwrap().1 / 1024.0, points.last().unwrap().1 / 1024.0);
        println!(
            "{name}: {middle:.1} B a session ({low:.1} to {high:.1}) over {} sessions after as many, {first:.1} to {last:.1} MiB, at most {:.1}",
            part * POINTS,
            most(points),
        );
    }
    // Pages come by the dozen: over few sessions one more is much for each, and caches still fill. All are printed
    // before one is judged.
    for ((name, _), points) in pids.iter().zip(&points) {
        let least = growth(points).bounds.0;
        assert!(!soak() || least < 1.0, "{name} keeps {least:.0} B or more of every session: {points:?}");
        assert!(!soak() || *name != "controller" || most(points) < 512.0, "{name} takes {:.0} MiB", most(points));
    }
}

/// Days of records, hour by hour, through a store that keeps eight hours: what lies on disk on the
/// last day is what lay there on the third, and memory too.
#[test]
fn days_through_retention_leave_disk_and_memory_flat() {
    let _turn = turn();
    const HOUR_NS: i64 = 3_600_000_000_000;
    const VISITS: u64 = 150;
    let days: u64 = if soak() { 30 } else { 6 };
    let dir = tempfile::tempdir().unwrap();
    let config = StoreConfig {
        segment_bytes: 1 << 20,
        max_age: Some(Duration::from_secs(8 * 3_600)),
        // The test looks itself, at its own time.
        check_every: Duration::from_secs(86_400),
        ..StoreConfig::new(dir.path().join("store"))
    };
    let (store, handle, _) = glasshive_journal::store::open(config).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let begin = 1_767_225_600_000_000_000;
    let own = Tree(std::process::id());
    let mut node = Node::new(1);
    let (mut used, mut kib, mut deleted) = (Vec::new(), Vec::new(), 0);
    for hour in 0..24 * days {
        let start = begin + i64::try_from(hour).unwrap() * HOUR_NS;
        for n in 0..VISITS {
            node.visit(hour * VISITS + n, start + i64::try_from(n).unwrap() * (HOUR_NS / i64::try_from(VISITS).unwrap())).unwrap();
            if n % 50 == 49 || n + 1 == VISITS {
                // Brought over when it happened, not when this test runs.
                let batch = NodeBatch { received_ns: start + HOUR_NS, ..node.batch() };
                runtime.block_on(handle.append(batch)).unwrap();
            }
        }
        runtime.block_on(handle.settled()).unwrap();
        let swept = runtime.block_on(handle.sweep(start + HOUR_NS)).unwrap();
        deleted += swept.segments + swept.days;
        used.push(swept.used_bytes);
        kib.push(own.own_kib());
    }
    drop(handle);
    store.close();
    let peak = |all: &[u64], day: usize| *all[day * 24..(day + 1) * 24].iter().max().unwrap();
    let last = usize::try_from(days).unwrap() - 1;
    let (before, after) = (peak(&used, 2), peak(&used, last));
    let memory: Vec<u64> = (0..=last).map(|day| peak(&kib, day) / 1024).collect();
    println!(
        "{} records in {days} days, {deleted} segments and days deleted; most on disk on day 3: {:.1} MiB, on the last: {:.1} MiB; memory by day {memory:?} MiB",
        24 * days * VISITS * 10,
        before as f64 / 1_048_576.0,
        after as f64 / 1_048_576.0,
    );
    assert!(deleted > 0 && after <= before + before / 4, "disk grows from day to day: {used:?}");
    // Its caches fill until the ninth day.
    assert!(!soak() || peak(&kib, last) <= peak(&kib, 11) + (48 << 10), "memory grows from day to day: {kib:?}");
}
