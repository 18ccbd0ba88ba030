//! The fusion follower against a store of its own: order of time, watermark, second pass, restarts.
//! Times are the test's: nothing waits.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, missing_docs)]

mod common;

use common::{Node, SECOND, START};
use glasshive_controller::desk::{self, Desk};
use glasshive_controller::fusion::{Board, Follower, Parts, Settings, Status};
use glasshive_detect::window::Keyed;
use glasshive_detect::{BuildError, Detector, DetectorDef, Evidence, Finding, Findings, Segment, Severity, Site};
use glasshive_event::detail::{Health, Login, Loss, SessionClose, SessionOpen};
use glasshive_event::flow::Side;
use glasshive_event::observation::{Fact, Observation, Watcher};
use glasshive_event::{
    ConnId, Endpoint, Envelope, FindingId, Flow, FlowId, Kind, PacketScope, SessionId, StoredFinding, Timestamp, Transport, Tuple,
};
use glasshive_journal::store::{EventQuery, NodeBatch, Store, StoreConfig, StoreHandle, open};
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// Tells of every login that was let in: what it says does not depend on what came before.
struct LetIn;
/// Tells when one source was refused three times within a minute, and again at thirty.
struct Guess(Keyed<IpAddr, (Timestamp, u64)>);

fn finding(key: String, first: Timestamp, seen: &Observation, actor: IpAddr) -> Finding {
    Finding {
        at: seen.at,
        first,
        key,
        severity: Severity::High,
        confidence: 90,
        techniques: vec!["T1021.004"],
        use_cases: vec![],
        actor: Some(actor),
        target: seen.wire.map(|wire| wire.destination.ip),
        summary: "somebody was let in or guesses".into(),
        evidence: vec![Evidence { metric: "logins", value: 3.0, threshold: 3.0, window_s: 60, samples: vec![] }],
        sessions: seen.session.into_iter().collect(),
        flows: vec![],
        flow_count: 0,
        scope: PacketScope::default(),
    }
}

impl Detector for LetIn {
    fn observe(&mut self, seen: &Observation, out: &mut Findings) {
        if let (Fact::Login(login), Some(wire), Some(session)) = (&seen.fact, seen.wire, seen.session)
            && login.accepted
        {
            out.push(finding(session.to_string(), seen.at, seen, wire.source.ip));
        }
    }
}
impl Detector for Guess {
    fn observe(&mut self, seen: &Observation, out: &mut Findings) {
        if let (Fact::Login(login), Some(wire)) = (&seen.fact, seen.wire)
            && !login.accepted
        {
            let (first, count) = self.0.touch(&wire.source.ip, seen.at, || (seen.at, 0));
            *first = seen.at.min(*first);
            *count += 1;
            if *count == 3 || *count == 30 {
                let (key, first) = (wire.source.ip.to_string(), *first);
                out.push(finding(key, first, seen, wire.source.ip));
            }
        }
    }
}

const fn def(name: &'static str, site: Site, build: glasshive_detect::Build) -> DetectorDef {
    DetectorDef { name, version: 1, site, techniques: &["T1021.004"], use_cases: &[], summary: "For tests.", topology: "None.", build }
}
fn let_in(_: &toml::Table, _: &Arc<Segment>) -> Result<Box<dyn Detector>, BuildError> {
    Ok(Box::new(LetIn))
}
fn guess(_: &toml::Table, _: &Arc<Segment>) -> Result<Box<dyn Detector>, BuildError> {
    Ok(Box::new(Guess(Keyed::new(1_000, Duration::from_secs(60)))))
}
fn never(_: &toml::Table, _: &Arc<Segment>) -> Result<Box<dyn Detector>, BuildError> {
    panic!("a wire detector does not run here")
}
static TABLE: &[DetectorDef] = &[def("let_in", Site::Fusion, let_in), def("wire", Site::Wire, never), def("guess", Site::Fusion, guess)];

/// A controller's store and log, without the daemon.
struct World {
    dir: tempfile::TempDir,
    store: Store,
    handle: StoreHandle,
    desk: Arc<Desk>,
}

impl World {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (store, handle, _) = open(StoreConfig { cache_bytes: 8 << 20, ..StoreConfig::new(dir.path()) }).unwrap();
        let desk = Arc::new(Desk::open(handle.clone(), dir.path()).await.unwrap());
        Self { dir, store, handle, desk }
    }

    async fn follower(&self) -> Follower {
        self.with(TABLE, Settings::default()).await
    }

    /// Nodes named `eye…` are sensors.
    async fn with(&self, detectors: &'static [DetectorDef], settings: Settings) -> Follower {
        self.handle.settled().await.unwrap();
        let parts = Parts {
            store: self.handle.clone(),
            desk: Arc::clone(&self.desk),
            path: self.dir.path().join("fusion"),
            detectors,
            settings,
            watchers: Arc::new(|node: &str| Some(if node.starts_with("eye") { Watcher::Sensor } else { Watcher::Decoys })),
            board: Board::default(),
        };
        Follower::open(parts).await.unwrap()
    }

    async fn take(&self, node: &mut Node, received: i64) {
        let block = node.block();
        if block.bytes.is_empty() {
            return;
        }
        let batch = NodeBatch {
            node: node.name.clone(),
            net: "dmz".into(),
            log: node.log,
            first: block.first,
            chain_before: block.chain_before,
            bytes: block.bytes,
            received_ns: received,
        };
        self.handle.append(batch).await.unwrap();
    }

    /// Every finding record there is, in order.
    async fn told(&self) -> Vec<StoredFinding> {
        let (to, mut from) = tokio::sync::mpsc::channel(1_000);
        let query = EventQuery { kinds: vec![Kind::Finding.number()], ..EventQuery::default() };
        self.handle.events(query, to).await.unwrap();
        let mut found = Vec::new();
        while let Some(stored) = from.recv().await {
            assert_eq!((stored.node.as_str(), stored.net.as_str()), (desk::NODE, "dmz"));
            found.push(stored.view().unwrap().detail().unwrap());
        }
        found
    }
}

fn ids(told: &[StoredFinding]) -> BTreeSet<FindingId> {
    told.iter().map(|finding| finding.finding).collect()
}

/// A login at a second after the start; the session is of that login alone.
fn login(node: &mut Node, clock: i64, visitor: u8, accepted: bool) {
    let id = SessionId::new(clock, [visitor, node.name.len() as u8, (clock / SECOND % 251) as u8, 0, 0, 0, 0, 0, 0, u8::from(accepted)]);
    let end = |ip: String, port| Endpoint { ip: ip.parse().unwrap(), port };
    let envelope = Envelope {
        session: Some(id),
        transport: Some(Transport::Tcp),
        wire: Some(Tuple { source: end(format!("192.0.2.{visitor}"), 40_000), destination: end("10.0.0.5".into(), 22) }),
        ..Envelope::default()
    };
    node.add(clock, Kind::SessionOpen, &envelope, &SessionOpen::default());
    node.add(clock, Kind::Login, &envelope, &Login { user: "root".into(), accepted, ..Login::default() });
}

fn beat(node: &mut Node, clock: i64) {
    node.add(clock, Kind::Health, &Envelope::default(), &Health { what: "heartbeat".into(), ..Health::default() });
}

fn at(seconds: i64) -> i64 {
    START + seconds * SECOND
}

async fn turns(follower: &mut Follower, now: i64) -> Status {
    while follower.turn(now).await.unwrap() {}
    follower.status()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_nodes_are_merged_in_the_order_of_time_whoever_comes_first() {
    let world = World::new().await;
    let mut follower = world.follower().await;
    let (mut a, mut b) = (Node::new("a", 1), Node::new("bb", 2));
    beat(&mut a, at(0));
    beat(&mut b, at(1));
    login(&mut a, at(3), 7, false);
    login(&mut a, at(9), 7, false);
    world.take(&mut b, at(1)).await;
    world.take(&mut a, at(10)).await;
    // Node b spoke last at 1 s: what lies behind waits for it.
    let status = turns(&mut follower, at(10)).await;
    assert_eq!((status.observed, status.frontier_ns, status.told), (1, at(1), 0));
    login(&mut b, at(5), 7, false);
    beat(&mut b, at(11));
    world.take(&mut b, at(12)).await;
    let status = turns(&mut follower, at(12)).await;
    assert_eq!((status.frontier_ns, status.late), (at(9), 0));
    beat(&mut a, at(20));
    world.take(&mut a, at(20)).await;
    let status = turns(&mut follower, at(20)).await;
    // The heartbeats at the watermark and behind it wait.
    assert_eq!((status.observed, status.told, status.late, status.behind), (8, 1, 0, 2));
    let told = world.told().await;
    assert_eq!((told.len(), told[0].first, told[0].at, told[0].late), (1, Timestamp(at(3)), Timestamp(at(9)), false));
    assert_eq!((told[0].detector.as_str(), told[0].version, told[0].actor), ("guess", 1, Some("192.0.2.7".parse().unwrap())));
    drop(follower);
    world.store.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_node_does_not_hold_it_and_its_late_records_are_found_and_marked() {
    let world = World::new().await;
    let mut follower = world.follower().await;
    let (mut a, mut b) = (Node::new("a", 1), Node::new("bb", 2));
    beat(&mut b, at(1));
    world.take(&mut b, at(1)).await;
    for second in [3, 9, 14] {
        login(&mut a, at(second), 8, true);
    }
    login(&mut a, at(16), 7, false);
    login(&mut a, at(17), 7, false);
    beat(&mut a, at(60));
    world.take(&mut a, at(60)).await;
    // b is silent: not waited for longer than 30 s.
    let status = turns(&mut follower, at(40)).await;
    assert_eq!((status.frontier_ns, status.told), (at(10), 2));
    let status = turns(&mut follower, at(60)).await;
    assert_eq!((status.frontier_ns, status.told, status.late), (at(30), 3, 0));
    // It comes back with what happened meanwhile: one let in, one refused that makes three.
    login(&mut b, at(15), 9, true);
    login(&mut b, at(18), 7, false);
    beat(&mut b, at(61));
    world.take(&mut b, at(61)).await;
    let status = turns(&mut follower, at(61)).await;
    assert_eq!((status.late, status.waiting, status.second_passes, status.told), (4, 1, 0, 3));
    // Killed now, it still knows that a second pass is due.
    follower.write().unwrap();
    drop(follower);
    let mut follower = world.follower().await;
    let status = turns(&mut follower, at(64)).await;
    assert_eq!((status.waiting, status.second_passes, status.told, status.told_late), (0, 1, 2, 2));
    let told = world.told().await;
    assert_eq!(told.len(), 5, "{told:#?}");
    let late: Vec<_> =
        told.iter().filter(|finding| finding.late).map(|finding| (finding.detector.as_str(), finding.first, finding.at)).collect();
    assert_eq!(late, [("let_in", Timestamp(at(15)), Timestamp(at(15))), ("guess", Timestamp(at(16)), Timestamp(at(18)))]);
    // The detectors that looked again stay, and know what the late ones knew.
    for second in 62..62 + 27 {
        login(&mut a, at(second), 7, false);
    }
    beat(&mut a, at(200));
    world.take(&mut a, at(200)).await;
    turns(&mut follower, at(230)).await;
    let told = world.told().await;
    assert_eq!(told.len(), 6, "{told:#?}");
    assert_eq!(
        (told[5].finding, told[5].at, told[5].late),
        (told[4].finding, Timestamp(at(88)), false),
        "thirty are an update of the same"
    );
    drop(follower);
    world.store.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_with_a_wrong_clock_loses_nothing() {
    let world = World::new().await;
    let mut follower = world.follower().await;
    let (mut right, mut behind, mut ahead) = (Node::new("a", 1), Node::new("bb", 2), Node::new("ccc", 3));
    for minute in 0..10 {
        let now = at(minute * 60);
        login(&mut right, now, 1, true);
        login(&mut behind, now - 120 * SECOND, 2, true);
        login(&mut ahead, now + 3_600 * SECOND, 3, true);
        for node in [&mut right, &mut behind, &mut ahead] {
            world.take(node, now).await;
        }
        turns(&mut follower, now + SECOND).await;
    }
    for pause in [40, 80, 120] {
        turns(&mut follower, at(540 + pause)).await;
    }
    let told = world.told().await;
    let of = |visitor: u8, late: bool| {
        let actor: IpAddr = format!("192.0.2.{visitor}").parse().unwrap();
        told.iter().filter(|finding| finding.actor == Some(actor) && finding.late == late).count()
    };
    // An hour ahead counts as happened when it came; two minutes behind comes late, every time but the first.
    assert_eq!((of(1, false), of(1, true)), (10, 0), "{:?}", follower.status());
    assert_eq!((of(3, false), of(3, true)), (10, 0), "{:?}", follower.status());
    assert_eq!(of(2, false) + of(2, true), 10, "{:?}", follower.status());
    assert!(of(2, true) >= 8, "{:?}", follower.status());
    assert_eq!(ids(&told).len(), told.len());
    drop(follower);
    world.store.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_neither_loses_nor_doubles() {
    let world = World::new().await;
    let mut follower = world.follower().await;
    let mut a = Node::new("a", 1);
    login(&mut a, at(1), 7, false);
    login(&mut a, at(2), 7, false);
    login(&mut a, at(3), 8, true);
    world.take(&mut a, at(4)).await;
    turns(&mut follower, at(40)).await;
    follower.write().unwrap();
    assert_eq!(world.told().await.len(), 1);
    // Told, and killed before the checkpoint was written.
    login(&mut a, at(10), 9, true);
    world.take(&mut a, at(10)).await;
    turns(&mut follower, at(41)).await;
    assert_eq!(world.told().await.len(), 2);
    drop(follower);
    let mut follower = world.follower().await;
    let status = turns(&mut follower, at(42)).await;
    assert_eq!((status.repeated, status.told), (1, 0));
    // What a detector half knew before the restart it knows after it.
    login(&mut a, at(30), 7, false);
    world.take(&mut a, at(31)).await;
    turns(&mut follower, at(70)).await;
    let told = world.told().await;
    assert_eq!((told.len(), told[2].detector.as_str(), told[2].first), (3, "guess", Timestamp(at(1))));
    drop(follower);
    // Without a checkpoint, or with a damaged one, everything is looked at again and nothing told twice.
    for damage in ["", "{}"] {
        std::fs::write(world.dir.path().join("fusion"), damage).unwrap();
        let mut follower = world.follower().await;
        let status = turns(&mut follower, at(80)).await;
        assert_eq!((status.read, status.told, status.repeated), (10, 0, 3), "{status:?}");
    }
    assert_eq!(world.told().await.len(), 3);
    world.store.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_is_counted_and_passed_over() {
    let world = World::new().await;
    let mut follower = world.follower().await;
    let mut a = Node::new("a", 1);
    a.add(at(1), Kind::Login, &Envelope::default(), &serde_json::json!({"user": 7}));
    a.add(at(1), Kind::Flow, &Envelope::default(), &serde_json::json!({"flow": "\u{1b}[2J"}));
    a.add(at(1), Kind::Finding, &Envelope::default(), &serde_json::json!({"finding": "f"}));
    login(&mut a, at(2), 7, true);
    world.take(&mut a, at(3)).await;
    world.handle.append_gap("a", "dmz", a.log, 6..=9, "lost", at(4)).await.unwrap();
    let status = turns(&mut follower, at(60)).await;
    assert_eq!((status.read, status.unreadable, status.observed, status.told, status.missing, status.behind), (5, 2, 2, 1, 4, 0));
    drop(follower);
    world.store.close();
}

/// A connection from second to second: as the decoys tell it, as the sensor tells it, or both.
fn connection(decoys: Option<&mut Node>, sensor: Option<&mut Node>, port: u16, from: i64, to: i64) {
    let end = |ip: &str, port| Endpoint { ip: ip.parse().unwrap(), port };
    let wire = Tuple { source: end("192.0.2.7", port), destination: end("10.0.0.5", 22) };
    let conn = ConnId::derive("dmz", 6, wire.source.into(), wire.destination.into(), 7);
    if let Some(node) = decoys {
        let envelope = Envelope {
            session: Some(SessionId::new(at(from), [port as u8; 10])),
            transport: Some(Transport::Tcp),
            conn: Some(conn),
            wire: Some(wire),
            ..Envelope::default()
        };
        node.add(at(from), Kind::SessionOpen, &envelope, &SessionOpen::default());
        let close = SessionClose { reason: "client".into(), bytes_in: 500, bytes_out: 900, ..SessionClose::default() };
        node.add(at(to), Kind::SessionClose, &envelope, &close);
    }
    if let Some(node) = sensor {
        let flow = FlowId::derive("dmz", 6, wire.source.into(), wire.destination.into(), 7, Timestamp(at(from)));
        let side = |bytes| Side { packets: 9, payload_bytes: bytes, ip_bytes: bytes + 360, ..Side::default() };
        let detail = serde_json::json!({"flow": flow, "end": "fin", "first": at(from), "last": at(to), "conn": conn, "protocol": 6, "wire": wire,
            "direction": "syn", "sent": side(500), "received": side(900), "state": "SF", "established": true});
        let seen: Flow = serde_json::from_value(detail).unwrap();
        node.add(at(to), Kind::Flow, &seen.envelope(), &seen);
    }
}

/// Two minutes of both nodes, with heartbeats every `beat` seconds and a look every second. Returns
/// what was told, and up to when records had been looked at when it was.
async fn watch(world: &World, beat_s: i64, happens: impl Fn(i64, &mut Node, &mut Node)) -> (Vec<(StoredFinding, i64)>, Status) {
    let list = "version = 1\n[[open]]\naddress = \"10.0.0.5\"\nport = 22\ntransport = \"tcp\"\nprotocol = \"ssh\"\n";
    let segments = [("dmz".to_owned(), Arc::new(Segment::parse(list).unwrap()))].into();
    let mut follower = world.with(glasshive_detect::DETECTORS, Settings { segments, ..Settings::default() }).await;
    let (mut decoys, mut sensor) = (Node::new("edge", 1), Node::new("eye-1", 2));
    let mut found = Vec::new();
    for second in 0..240 {
        if second % beat_s == 0 {
            beat(&mut decoys, at(second));
            beat(&mut sensor, at(second));
        }
        happens(second, &mut decoys, &mut sensor);
        world.take(&mut decoys, at(second)).await;
        world.take(&mut sensor, at(second)).await;
        turns(&mut follower, at(second) + SECOND / 2).await;
        let told = world.told().await;
        let frontier = follower.status().frontier_ns;
        found.extend(told.into_iter().skip(found.len()).map(|finding| (finding, frontier)));
    }
    let status = follower.status();
    (found, status)
}

#[tokio::test(flavor = "multi_thread")]
async fn one_connection_whose_events_are_dropped_is_told_within_a_minute() {
    for beat_s in [5, 60] {
        let world = World::new().await;
        let happens = |second: i64, decoys: &mut Node, sensor: &mut Node| match second {
            70 => connection(Some(decoys), Some(sensor), 40_001, 69, 70),
            // The decoys' side of one, and the sensor's side of another, never come.
            80 => connection(None, Some(sensor), 40_002, 79, 80),
            90 => connection(Some(decoys), None, 40_003, 89, 90),
            95 => connection(Some(decoys), Some(sensor), 40_004, 94, 95),
            _ => {}
        };
        let (found, status) = watch(&world, beat_s, happens).await;
        let reconcile: Vec<_> = found.iter().filter(|(finding, _)| finding.detector == "reconcile").collect();
        assert_eq!(reconcile.len(), 2, "beat {beat_s}: {found:#?} {status:?}");
        for (end, (finding, frontier)) in [80, 90].into_iter().zip(&reconcile) {
            assert!(*frontier <= at(end + 60), "told after {} s: {finding:?}", (frontier - at(end)) / SECOND);
            assert!(!finding.late && finding.use_cases == ["DUC0089"]);
        }
        assert_eq!((reconcile[0].0.flows.len(), reconcile[0].0.sessions.len()), (1, 0), "{reconcile:#?}");
        assert_eq!((reconcile[1].0.flows.len(), reconcile[1].0.sessions.len()), (0, 1), "{reconcile:#?}");
        world.store.close();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_records_were_lost_nobody_is_accused() {
    let world = World::new().await;
    let happens = |second: i64, decoys: &mut Node, sensor: &mut Node| match second {
        80 => connection(None, Some(sensor), 40_002, 79, 80),
        85 => decoys.add(at(85), Kind::Loss, &Envelope::default(), &Loss { place: "accept".into(), count: 1, ..Loss::default() }),
        _ => {}
    };
    let (found, status) = watch(&world, 5, happens).await;
    assert!(found.iter().all(|(finding, _)| finding.detector != "reconcile"), "{found:#?}");
    assert_eq!(status.unknowable, 1, "{status:?}");
    world.store.close();
}

/// One login of one of three nodes.
#[derive(Clone, Debug)]
struct Step {
    node: usize,
    second: i64,
    visitor: u8,
    accepted: bool,
}

/// Plays logins into three nodes' logs. `arrivals` = (node, how many, pause before), then the rest of
/// each; with none, everything is there before anyone looks.
async fn play(steps: &[Step], arrivals: Option<&[(usize, usize, i64)]>) -> (Vec<StoredFinding>, Status) {
    let world = World::new().await;
    let mut follower = world.follower().await;
    let mut logs: [Vec<Step>; 3] = std::array::from_fn(|node| {
        let mut own: Vec<_> = steps.iter().filter(|step| step.node == node).cloned().collect();
        own.sort_by_key(|step| step.second);
        own.reverse();
        own
    });
    let mut nodes: [Node; 3] = [Node::new("a", 1), Node::new("bb", 2), Node::new("ccc", 3)];
    // Nothing arrives before it happened.
    let mut now = at(0);
    let rest = [(0, usize::MAX, 0), (1, usize::MAX, 0), (2, usize::MAX, 0)];
    for (node, count, pause) in arrivals.unwrap_or_default().iter().chain(&rest) {
        now += pause * SECOND;
        for _ in 0..*count {
            let Some(step) = logs[*node].pop() else { break };
            login(&mut nodes[*node], at(step.second), step.visitor, step.accepted);
            now = now.max(at(step.second));
        }
        world.take(&mut nodes[*node], now).await;
        if arrivals.is_some() {
            turns(&mut follower, now).await;
        }
    }
    for _ in 0..4 {
        now += 60 * SECOND;
        turns(&mut follower, now).await;
    }
    let status = follower.status();
    let told = world.told().await;
    drop(follower);
    world.store.close();
    (told, status)
}

fn of(told: &[StoredFinding], detector: &str) -> BTreeSet<FindingId> {
    told.iter().filter(|finding| finding.detector == detector).map(|finding| finding.finding).collect()
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: std::env::var("GLASSHIVE_FUZZ").ok().and_then(|n| n.parse::<u32>().ok()).map_or(24, |n| (n / 100).clamp(1, 500)),
        max_shrink_iters: 60,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// Whatever order the same records arrive in, the same findings are told; late ones are marked.
    #[test]
    fn any_order_of_arrival_tells_the_same(
        steps in proptest::collection::vec(
            (0usize..3, 0i64..400, 0u8..4, any::<bool>()).prop_map(|(node, second, visitor, accepted)| Step { node, second, visitor, accepted }), 1..40),
        arrivals in proptest::collection::vec((0usize..3, 1usize..12, 0i64..45), 0..16),
    ) {
        let rt = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        // No two at one moment: their order would be a matter of the log's number.
        let mut seen = BTreeSet::new();
        let steps: Vec<Step> = steps.into_iter().filter(|step| seen.insert(step.second)).collect();
        let (ordered, calm) = rt.block_on(play(&steps, None));
        let (told, status) = rt.block_on(play(&steps, Some(&arrivals)));
        let (whole, shuffled) = (of(&ordered, "let_in"), of(&told, "let_in"));
        let accepted = steps.iter().filter(|step| step.accepted).count();
        prop_assert_eq!((shuffled.len(), &shuffled), (accepted, &whole), "{:?}\n{:?}", status, calm);
        // What rests on several records may have been told of a part of them before the rest came:
        // nothing is missing, and without late records nothing differs.
        let (whole, shuffled) = (of(&ordered, "guess"), of(&told, "guess"));
        prop_assert!(shuffled.is_superset(&whole), "{:?}\n{:?}\n{:?}", whole, shuffled, status);
        if status.late == 0 && calm.late == 0 {
            prop_assert_eq!(shuffled, whole);
            prop_assert!(told.iter().all(|finding| !finding.late));
        }
        let ids: BTreeSet<_> = told.iter().map(|finding| (finding.finding, finding.at)).collect();
        prop_assert_eq!(ids.len(), told.len(), "told twice");
    }
}
