//! kill -9 of daemons picked at random, at random moments, under load, each started again at once. What the
//! node had durable is at the controller exactly once and in order, the chain verifies, each restart says that
//! there is a gap and closes what was open, and every visit is a session or falls into a gap.
//!
//! `GLASSHIVE_KILLS` kills; the same choices come again with the printed `GLASSHIVE_SEED`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use glasshive_event::{Kind, LogId, SessionId};
use glasshive_tests::faults::load::{Load, PERSONA, Visit, now};
use glasshive_tests::faults::records::{self, Log};
use glasshive_tests::faults::{Random, copy, number};
use glasshive_tests::lab::{Lab, within};
use glasshive_tests::process::{Daemon, until};
use glasshive_tests::world::{Dial, LIMIT, Plan, World};
use glasshive_tests::world_sensor::Sensor;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Visitors at once.
const LANES: usize = 6;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Who {
    Decoys,
    Controller,
    Sensor,
}

/// Everything that runs, and what it had promised each time one of it was killed.
struct Scene {
    world: World,
    sensor: Option<Sensor>,
    /// Log, how far it reached, and the chain's head there.
    seen: Vec<(Who, LogId, u64, [u8; 32])>,
    kills: usize,
    /// From the last record the decoys had stored to their kill, nanoseconds.
    exposed: Vec<i64>,
    /// The slowest start of each after a kill.
    starts: BTreeMap<Who, Duration>,
}

impl Scene {
    fn journal(&self, who: Who) -> PathBuf {
        match who {
            Who::Sensor => self.sensor.as_ref().unwrap().dir.join("state/journal"),
            _ => self.world.nodes[0].dir.join("state/journal"),
        }
    }

    fn daemon(&mut self, who: Who) -> &mut Option<Daemon> {
        match who {
            Who::Decoys => &mut self.world.nodes[0].daemon,
            Who::Controller => &mut self.world.controller,
            Who::Sensor => &mut self.sensor.as_mut().unwrap().daemon,
        }
    }

    fn start(&mut self, who: Who) {
        match who {
            Who::Decoys => self.world.start_node(0).unwrap(),
            Who::Controller => self.world.start_controller().unwrap(),
            Who::Sensor => self.sensor.as_mut().unwrap().run(&self.world).unwrap(),
        }
    }

    /// Starts without waiting for anything.
    fn spawn(&mut self, who: Who) {
        let (command, dir) = match who {
            Who::Decoys => (self.world.decoys(0, &["run"]), self.world.nodes[0].dir.clone()),
            Who::Controller => (self.world.cli_command(&["serve"]), self.world.dir.join("controller")),
            Who::Sensor => {
                let sensor = self.sensor.as_ref().unwrap();
                (sensor.command(&self.world, &["run"]), sensor.dir.clone())
            }
        };
        let daemon = Daemon::start("a short life", command.unwrap(), &dir.join("log.txt")).unwrap();
        *self.daemon(who) = Some(daemon);
    }

    /// Kills one, keeps what lies on the disk, and starts it again, sometimes only to kill it in the middle of that.
    fn kill(&mut self, who: Who, load: &Load, random: &mut Random, scratch: &Path) {
        let killed_ns = now().unwrap();
        self.daemon(who).take().unwrap().kill();
        self.kills += 1;
        let kept = scratch.join(format!("kill-{}", self.kills));
        let state = if who == Who::Controller { self.world.dir.join("controller/state") } else { self.journal(who) };
        // What the nodes were told by a controller that now is dead, it must have.
        let told: Vec<_> =
            self.nodes().iter().filter_map(|who| records::promised(&self.journal(*who)).ok()).filter(|told| told.1 > 0).collect();
        // The kill came under load, and so does the start; the copy alone need not grow meanwhile.
        load.hold(true);
        copy(&state, &kept).unwrap();
        load.hold(false);
        let mut early = 0;
        while random.below(3) == 0 {
            self.spawn(who);
            load.wait(random.below(60)).unwrap();
            self.daemon(who).take().unwrap().kill();
            early += 1;
        }
        let began = Instant::now();
        self.start(who);
        let slowest = self.starts.entry(who).or_default();
        *slowest = began.elapsed().max(*slowest);
        // What was killed is looked at in peace.
        load.hold(true);
        if who == Who::Controller {
            let marks = records::marks(&kept).unwrap();
            for (log, acknowledged, _) in told {
                let stored = marks.get(&log).map_or(0, |mark| mark.0);
                assert!(stored >= acknowledged, "{acknowledged} were acknowledged, {stored} are stored");
            }
            println!("  controller: {} logs, killed {early} times while it started", marks.len());
            self.seen.extend(marks.into_iter().map(|(log, (seq, head))| (who, log, seq, head)));
        } else {
            let (log, _, durable) = records::promised(&kept).unwrap();
            let (found, records, report) = records::journal(&kept).unwrap();
            assert!(report.lost.is_empty() && report.quarantined.is_empty() && !report.clean, "{report:?}");
            assert!(found == log && records.last() >= durable, "{durable} were durable, {} are there", records.last());
            println!(
                "  {who:?}: {} records, {} sessions open, killed {early} times while it started",
                records.last(),
                report.open_sessions.len()
            );
            if let (Who::Decoys, Some(last)) = (who, records.entries.last()) {
                self.exposed.push(killed_ns - last.wall_ns);
            }
            self.seen.push((who, log, records.last(), records.head(records.last()).unwrap()));
        }
        std::fs::remove_dir_all(kept).unwrap();
        load.hold(false);
    }

    fn nodes(&self) -> Vec<Who> {
        if self.sensor.is_some() { vec![Who::Decoys, Who::Sensor] } else { vec![Who::Decoys] }
    }

    fn listed(&self) -> BTreeMap<String, Value> {
        let nodes = self.world.cli(&["nodes", "--json"]).unwrap();
        let nodes = nodes.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        nodes.map(|node| (node["node"].as_str().unwrap().to_owned(), node)).collect()
    }

    /// Ends the nodes as an operator does, once the controller holds all they have.
    fn finish_nodes(&mut self) {
        for who in self.nodes() {
            let name = if who == Who::Decoys { "node1" } else { "sensor1" };
            let complete = |scene: &Self| {
                let (log, _, durable) = records::promised(&scene.journal(who)).ok()?;
                let listed = scene.listed();
                let logs = listed.get(name)?["logs"].as_array()?.clone();
                logs.iter().any(|at| at["log"] == log.to_string() && at["seq"].as_u64() >= Some(durable)).then_some(())
            };
            // What a node says last it may not get rid of in its last seconds: then it is given more.
            for more in 0.. {
                until("the link", LIMIT, || (self.listed().get(name)?["connected"] == true).then_some(())).unwrap();
                until("the last records", LIMIT, || complete(self)).unwrap();
                assert_eq!(self.daemon(who).take().unwrap().stop(LIMIT), Some(0));
                if complete(self).is_some() {
                    break;
                }
                assert!(more < 5, "{who:?} keeps records for itself");
                self.start(who);
            }
        }
    }
}

#[test]
fn what_was_acknowledged_is_there_once_and_in_order() {
    let kills = number("GLASSHIVE_KILLS", 5);
    let mut random = Random::new("kills");
    let dir = tempfile::tempdir().unwrap();
    let root = Lab::possible();
    if !root {
        println!("without a sensor, which needs root");
    }
    let plan = Plan { dir: &dir.path().join("hive"), root, nets: &[("alpha", Dial::Node)], persona: PERSONA, extra: "" };
    let mut world = World::start(&plan).unwrap();
    let sensor = root.then(|| Sensor::start(&mut world, 0, "").unwrap());
    let address = SocketAddr::new(world.nodes[0].decoy, world.port(9100));
    let netns = world.lab.as_ref().map(|lab| lab.netns("v1"));
    let mut scene = Scene { world, sensor, seen: Vec::new(), kills: 0, exposed: Vec::new(), starts: BTreeMap::new() };
    let load = Load::default();
    let lanes: Vec<Vec<Visit>> = std::thread::scope(|scope| {
        let visitors: Vec<_> = (0..LANES)
            .map(|_| {
                scope.spawn(|| match &netns {
                    Some(netns) => within(netns, || load.lane(address)),
                    None => load.lane(address),
                })
            })
            .collect();
        let run = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let mut turn: Vec<Who> = Vec::new();
            for round in 0..kills {
                load.wait(random.below(500)).unwrap();
                // Each comes at least once in a while.
                if turn.is_empty() {
                    turn = scene.nodes();
                    turn.push(Who::Controller);
                }
                let who = turn.swap_remove(random.below(turn.len() as u64) as usize);
                println!("{round}: kill {who:?} after {} visits", load.done());
                scene.kill(who, &load, &mut random, dir.path());
            }
            load.wait(100).unwrap();
        }));
        load.end();
        let lanes = visitors.into_iter().map(|visitor| visitor.join().unwrap().unwrap()).collect();
        run.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        lanes
    });
    scene.finish_nodes();
    // The summary comes behind the log.
    let settled = until("the summary of all records", LIMIT, || {
        let listed = scene.listed();
        let whole = |node: &Value| {
            let folded: u64 = node["events"].as_object().unwrap().values().filter_map(Value::as_u64).sum();
            let stored: u64 = node["logs"].as_array().unwrap().iter().filter_map(|log| log["seq"].as_u64()).sum();
            folded == stored
        };
        listed.iter().filter(|(name, _)| *name != "controller").all(|(_, node)| whole(node)).then_some(listed)
    });
    let listed = settled.unwrap_or_else(|error| panic!("{error}: {:?}", scene.listed()));
    let sessions = scene.world.sessions().unwrap();
    assert_eq!(scene.world.controller.take().unwrap().stop(LIMIT), Some(0));

    let stored = records::store(&scene.world.dir.join("controller/state")).unwrap();
    for (who, log, seq, head) in &scene.seen {
        let now = stored.get(log).map(|log| log.head(*seq));
        assert_eq!(now, Some(Some(*head)), "what {who:?} held when it was killed, {seq} records, is not what is stored");
    }
    for who in scene.nodes() {
        let (log, there, report) = records::journal(&scene.journal(who)).unwrap();
        assert!(report.clean, "{report:?}");
        let at_controller = &stored[&log];
        records::same(at_controller, &there).unwrap();
        let logs = stored.values().filter(|log| log.node == at_controller.node).count();
        assert_eq!(logs, 1, "{} has begun another log", at_controller.node);
        let node = &listed[&at_controller.node];
        let kinds: BTreeMap<String, u64> = serde_json::from_value(node["events"].clone()).unwrap();
        assert!(kinds.iter().map(|(kind, count)| (kind.as_str(), *count)).eq(at_controller.kinds()), "{kinds:?}");
        assert_eq!(node["gap_count"].as_u64(), at_controller.kinds().get("gap").copied(), "{node}");
        let killed = scene.seen.iter().any(|(seen, ..)| *seen == who);
        assert_eq!(restarts(at_controller) > 0, killed, "{who:?}");
        if who == Who::Decoys {
            exposure(at_controller, &scene.exposed);
            let found = visits(at_controller, &lanes, load.broken());
            assert_eq!(sessions.len(), found, "the list of sessions is not what the log holds");
        }
    }
    println!("slowest starts: {:?}", scene.starts);
    println!("{} kills, {} visits, {} broken off, {} records", scene.kills, load.done(), load.broken(), {
        stored.values().map(Log::last).sum::<u64>()
    });
}

/// How long a visit is known to this machine's memory only: measured, judged by people.
fn exposure(log: &Log, killed: &[i64]) {
    let opens = log.entries.iter().filter(|entry| entry.kind == Some(Kind::SessionOpen));
    let mut delays: Vec<i64> = opens.map(|entry| entry.received_ns - entry.wall_ns).collect();
    delays.sort_unstable();
    let of = |part: usize| delays.get(delays.len() * part / 100).map_or(0, |ns| ns / 1_000_000);
    let most = killed.iter().max().map_or(0, |ns| ns / 1_000_000);
    println!(
        "exposure: kills came at most {most} ms behind the last record on disk; from accept to the controller {} ms (p50), {} ms (p90), kills among it",
        of(50),
        of(90)
    );
}

fn is(entry: &records::Entry, kind: Kind, key: &str, value: &str) -> bool {
    entry.kind == Some(kind) && entry.detail[key] == value
}

fn is_gap(entry: &records::Entry) -> bool {
    entry.kind == Some(Kind::Gap) && entry.detail["why"].as_str().unwrap().starts_with("unclean stop")
}

/// Every start but the first comes behind a gap, or a stop as told. How many came behind a gap.
fn restarts(log: &Log) -> usize {
    let (mut gap, mut stop, mut count) = (false, true, 0);
    for entry in &log.entries {
        gap |= is_gap(entry);
        stop |= is(entry, Kind::Health, "what", "stop");
        if is(entry, Kind::Health, "what", "start") {
            assert!(gap || stop, "a start after a kill that tells of no gap");
            count += usize::from(gap);
            (gap, stop) = (false, false);
        }
    }
    count
}

/// Sessions are closed once, by a restart when a kill left them open; and each visit that was carried through has a
/// session, or none of that visitor's later ones has before the next gap. How many sessions there are.
fn visits(log: &Log, lanes: &[Vec<Visit>], broken: u64) -> usize {
    let mut open: BTreeSet<SessionId> = BTreeSet::new();
    let mut left: BTreeSet<SessionId> = BTreeSet::new();
    let mut opened: BTreeMap<u16, Vec<(i64, usize)>> = BTreeMap::new();
    let (mut gaps, mut count, mut crashed) = (0, 0, 0);
    for entry in &log.entries {
        match entry.kind {
            Some(Kind::SessionOpen) => {
                assert!(open.insert(entry.session.unwrap()), "opened twice");
                opened.entry(entry.source.unwrap().port).or_default().push((entry.wall_ns, gaps));
                count += 1;
            }
            Some(Kind::SessionClose) => {
                let session = entry.session.unwrap();
                assert!(open.remove(&session), "closed without being open");
                let crash = entry.detail["reason"] == "node_crash";
                assert_eq!(left.remove(&session), crash, "{session}: {}", entry.detail);
                crashed += usize::from(crash);
            }
            _ if is_gap(entry) => {
                gaps += 1;
                left.clone_from(&open);
                assert_eq!(entry.detail["why"], format!("unclean stop; {} sessions were open", left.len()));
            }
            _ if is(entry, Kind::Health, "what", "start") => assert!(left.is_empty(), "{} left open by a restart", left.len()),
            _ => {}
        }
    }
    assert!(open.is_empty(), "{} sessions have no end", open.len());
    let (mut found, mut lost) = (0, 0);
    for lane in lanes {
        // Gaps before the last session found, and visits without one since.
        let (mut before, mut since) = (0, 0);
        for visit in lane {
            let during = |(at, _): &&(i64, usize)| (visit.from_ns..=visit.to_ns).contains(at);
            let of: Vec<_> = opened.get(&visit.port).into_iter().flatten().filter(during).collect();
            assert!(of.len() <= 1, "two sessions of one visit");
            match of.first() {
                Some((_, gaps)) => {
                    assert!(since == 0 || *gaps > before, "{since} visits have no session, and no gap tells of it");
                    (before, since) = (*gaps, 0);
                    found += 1;
                }
                None => {
                    since += 1;
                    lost += 1;
                }
            }
        }
        assert!(since == 0 || gaps > before, "{since} visits have no session at the end");
    }
    // The rest are of visitors who did not see the end.
    assert!((count - found) as u64 <= broken, "{count} sessions, {found} of visits, {broken} tries were broken off");
    println!(
        "{count} sessions in {gaps} gaps: {found} of visits carried through, {lost} visits lost in gaps, {crashed} closed by restarts"
    );
    count
}
