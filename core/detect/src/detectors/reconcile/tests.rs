use super::*;
use crate::testing::{at, check_golden, check_shape, flow, record, wire};
use glasshive_event::ConnId;
use glasshive_event::flow::FlowEnd;
use glasshive_event::observation::SessionClosed;
use proptest::prelude::*;

const LIST: &str = r#"
version = 1
[[open]]
address = "10.0.0.20"
port = 22
transport = "tcp"
protocol = "ssh"
[[known]]
address = "10.0.0.1"
"#;

fn session(number: u8) -> SessionId {
    SessionId([number; 16])
}

fn conn(wire: Tuple) -> ConnId {
    ConnId::derive("n", 6, wire.source.into(), wire.destination.into(), 1)
}

fn sat(number: u8, seconds: f64, ends: Tuple, fact: Fact) -> Observation {
    Observation { at: at(seconds), session: Some(session(number)), flow: None, wire: Some(ends), fact }
}

fn opens(number: u8, seconds: f64, ends: Tuple, conn: Option<ConnId>) -> Observation {
    let opened = SessionOpened { service: "ssh".into(), decoy: "d".into(), transport: "tcp", conn, ..SessionOpened::default() };
    sat(number, seconds, ends, Fact::SessionOpened(opened))
}

fn closes(number: u8, seconds: f64, ends: Tuple, reason: &str, bytes: (u64, u64)) -> Observation {
    let closed = SessionClosed { reason: reason.into(), bytes_in: bytes.0, bytes_out: bytes.1, duration_ns: 1 };
    sat(number, seconds, ends, Fact::SessionClosed(closed))
}

fn ends() -> Tuple {
    wire("10.0.0.66:40000", "10.0.0.20:22")
}

fn visit(bytes: (u64, u64)) -> Vec<Observation> {
    vec![opens(1, 10.0, ends(), Some(conn(ends()))), closes(1, 12.0, ends(), "client", bytes)]
}

/// The flow of [`visit`]: 100 bytes each way.
fn carried() -> Flow {
    flow(at(9.9), at(12.1), ends())
}

/// Feeds with a tick every second and a heartbeat of both sides every ten, until `seconds`.
fn run(all: &[Observation], alive: impl Fn(u32, Watcher) -> bool, seconds: u32) -> (Vec<Finding>, u64, u64) {
    let segment = Arc::new(Segment::parse(LIST).unwrap());
    let mut detector = (DETECTOR.build)(&toml::Table::new(), &segment).unwrap();
    let mut out = Findings::new(10_000);
    let mut rest: Vec<&Observation> = all.iter().collect();
    rest.sort_by_key(|one| one.at);
    let mut rest = rest.into_iter().peekable();
    let mut found = Vec::new();
    for second in 0..=seconds {
        let now = at(f64::from(second));
        while let Some(one) = rest.next_if(|one| one.at <= now) {
            detector.observe(one, &mut out);
        }
        if second % 10 == 0 {
            for watcher in [Watcher::Sensor, Watcher::Decoys] {
                if alive(second, watcher) {
                    let beat = Observation { at: now, session: None, flow: None, wire: None, fact: Fact::Alive { watcher } };
                    detector.observe(&beat, &mut out);
                }
            }
        }
        detector.tick(now, &mut out);
        for finding in out.drain() {
            check_shape(&DETECTOR, &finding);
            let event = finding.at.0;
            assert!(now.0 - event <= 60 * SECOND || finding.summary.contains("no sensor saw"), "{} s late", (now.0 - event) / SECOND);
            found.push(finding);
        }
    }
    (found, detector.unknowable(), detector.evicted())
}

fn keys(all: &[Observation], seconds: u32) -> Vec<String> {
    let (found, unknowable, _) = run(all, |_, _| true, seconds);
    assert_eq!(unknowable, 0);
    found.into_iter().map(|finding| finding.key).collect()
}

fn and(mut all: Vec<Observation>, more: Flow) -> Vec<Observation> {
    all.push(record(more));
    all
}

const NO_FLOW: &str = "no-flow 10.0.0.66 10.0.0.20:22";
const NO_SESSION: &str = "no-session 10.0.0.66 10.0.0.20:22";
const BYTES: &str = "bytes 10.0.0.66 10.0.0.20:22";

#[test]
fn what_does_not_go_together_is_found() {
    let other = Flow { conn: Some(ConnId([9; 16])), ..carried() };
    let mut changed = carried();
    changed.received.payload_bytes = 100 + 257;
    let mut slow = visit((100, 100));
    slow[1] = closes(1, 12.0, ends(), "timeout", (100, 100));
    for (name, all, expected) in [
        ("a session alone", visit((100, 100)), vec![NO_FLOW]),
        ("a session that went on alone", vec![opens(1, 10.0, ends(), None)], vec![NO_FLOW]),
        ("a session that timed out alone", slow, vec![NO_FLOW]),
        ("a flow alone", vec![record(carried())], vec![NO_SESSION]),
        ("of two connections of one tuple", and(visit((100, 100)), other), vec![NO_FLOW, NO_SESSION]),
        ("the decoy read 257 bytes more", and(visit((358, 100)), carried()), vec![BYTES]),
        (
            "the decoy read 257 bytes less",
            and(visit((100, 100)), Flow { sent: glasshive_event::flow::Side { payload_bytes: 358, ..Default::default() }, ..carried() }),
            vec![BYTES],
        ),
        ("257 bytes more came back", and(visit((100, 99)), changed), vec![BYTES]),
    ] {
        assert_eq!(keys(&all, 600), expected, "{name}");
    }
}

#[test]
fn what_goes_together_raises_nothing() {
    let nameless = Flow { conn: None, ..carried() };
    let reset = Flow { end: FlowEnd::Rst, ..carried() };
    let refused = Flow { established: false, ..carried() };
    let elsewhere = flow(at(9.9), at(12.1), wire("10.0.0.66:40000", "10.9.9.9:22"));
    let passive = flow(at(9.9), at(12.1), wire("10.0.0.66:40000", "10.0.0.20:40001"));
    let works = flow(at(9.9), at(12.1), wire("10.0.0.1:40000", "10.0.0.20:22"));
    let mut holed = carried();
    holed.sent.missed_bytes = 5_000;
    let lost = Flow { loss: true, ..carried() };
    let mut server = visit((100, 100));
    server[1] = closes(1, 12.0, ends(), "server", (100, 100));
    let mut unread = carried();
    unread.sent.payload_bytes = 9_000;
    let mut panicked = visit((0, 0));
    panicked[1] = closes(1, 12.0, ends(), "panic", (0, 0));
    let mut child = visit((100, 100));
    if let Fact::SessionOpened(opened) = &mut child[0].fact {
        (opened.parent, opened.conn) = (Some(session(7)), None);
    }
    for (name, all) in [
        ("exactly alike", and(visit((100, 100)), carried())),
        ("256 bytes apart", and(visit((356, 100)), carried())),
        ("by tuple and time", and(visit((100, 100)), nameless)),
        ("the visitor reset before all had come", and(visit((100, 9_000)), reset)),
        ("the service closed before it read all", and(server, unread)),
        ("a service that panicked", and(panicked, carried())),
        ("a refused connection", vec![record(refused)]),
        ("no decoy's connection", vec![record(elsewhere)]),
        ("a port not declared", vec![record(passive)]),
        ("the net's own works", vec![record(works)]),
        ("holes in the flow", and(visit((100, 100)), holed)),
        ("loss while it lasted", and(visit((100, 9_000)), lost.clone())),
        ("loss, and no session", vec![record(lost)]),
        ("a session inside another", child),
    ] {
        assert_eq!(keys(&all, 600), Vec::<String>::new(), "{name}");
    }
}

#[test]
fn silence_of_a_side_that_was_not_heard_proves_nothing() {
    let not = |silent: Watcher, from: u32| move |second: u32, watcher: Watcher| watcher != silent || second < from;
    let (session, flow) = (visit((100, 100)), vec![record(carried())]);
    for (name, all, (found, unknowable, _)) in [
        ("no sensor at all", &session, run(&session, not(Watcher::Sensor, 0), 600)),
        ("no decoys at all", &flow, run(&flow, not(Watcher::Decoys, 0), 600)),
        ("the sensor was gone before the session ended", &session, run(&session, not(Watcher::Sensor, 10), 600)),
        ("the decoys were gone", &flow, run(&flow, not(Watcher::Decoys, 10), 600)),
        ("the sensor came later", &session, run(&session, |second, watcher| watcher == Watcher::Decoys || second > 10, 600)),
    ] {
        assert_eq!((found.len(), unknowable), (0, 1), "{name}: {all:?}");
    }
}

#[test]
fn a_hole_makes_its_time_unknowable() {
    let hole = |since: f64, until: f64, watcher| {
        let fact = Fact::Hole(Hole { watcher, since: at(since), until: at(until) });
        Observation { at: at(until), session: None, flow: None, wire: None, fact }
    };
    for (since, until, expected) in
        [(11.0, 11.5, (0, 1)), (0.0, 5.0, (0, 1)), (17.0, 18.0, (0, 1)), (0.0, 4.9, (1, 0)), (17.1, 20.0, (1, 0))]
    {
        for watcher in [Watcher::Sensor, Watcher::Decoys] {
            let mut all = visit((100, 100));
            all.push(hole(since, until, watcher));
            let (found, unknowable, _) = run(&all, |_, _| true, 120);
            assert_eq!((found.len(), unknowable), expected, "{since} {until}");
        }
    }
}

#[test]
fn many_of_one_matter_are_one_finding_in_steps() {
    let mut all = Vec::new();
    for n in 0..100u16 {
        let ends = wire(&format!("10.0.0.66:{}", 40_000 + n), "10.0.0.20:22");
        all.push(record(flow(at(f64::from(n)), at(f64::from(n) + 0.5), ends)));
    }
    let (found, _, _) = run(&all, |_, _| true, 200);
    assert_eq!(found.iter().map(|finding| finding.flow_count).collect::<Vec<_>>(), [1, 10, 100]);
    assert!(found.iter().all(|finding| finding.id(&DETECTOR) == found[0].id(&DETECTOR)));
    assert_eq!((found[0].techniques[0], found[0].use_cases[0]), ("T1557", "DUC0089"));
}

#[test]
fn more_connections_than_there_is_room_for_are_counted() {
    let segment = Arc::new(Segment::parse(LIST).unwrap());
    let mut detector = (DETECTOR.build)(&"max_keys = 16".parse().unwrap(), &segment).unwrap();
    let mut out = Findings::new(10);
    for n in 0..100u16 {
        let ends = wire(&format!("10.0.0.66:{}", 40_000 + n), "10.0.0.20:22");
        detector.observe(&record(flow(at(f64::from(n)), at(f64::from(n) + 0.5), ends)), &mut out);
    }
    assert_eq!(detector.evicted(), 84 + 36, "pairs, and times to judge them");
    // One tuple over and over.
    let mut detector = (DETECTOR.build)(&toml::Table::new(), &segment).unwrap();
    for n in 0..20 {
        let began = at(f64::from(n));
        detector.observe(&record(flow(began, began, ends())), &mut out);
    }
    assert_eq!(detector.evicted(), 12);
}

#[test]
fn golden_finding() {
    let (mut found, _, _) = run(&and(visit((358, 100)), carried()), |_, _| true, 60);
    check_golden(&DETECTOR, &found.remove(0), "f45a4fef-85c9-8e11-881b-096ad4d32327", include_str!("golden.json"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(crate::testing::cases()))]

    #[test]
    fn any_order_of_anything_is_answered(
        steps in proptest::collection::vec((any::<i64>(), 0u8..6, 0u8..4, any::<u64>(), any::<bool>()), 0..50),
    ) {
        let segment = Arc::new(Segment::parse(LIST).unwrap());
        let mut detector = (DETECTOR.build)(&"max_keys = 8".parse().unwrap(), &segment).unwrap();
        let mut out = Findings::new(10_000);
        for (when, kind, number, bytes, flag) in steps {
            let now = Timestamp(when);
            let ends = wire(&format!("10.0.0.66:{number}"), "10.0.0.20:22");
            let mut one = match kind {
                0 => opens(number, 0.0, ends, flag.then(|| conn(ends))),
                1 => closes(number, 0.0, ends, if flag { "client" } else { "timeout" }, (bytes, 0)),
                2 => record(Flow { end: if flag { FlowEnd::Fin } else { FlowEnd::Active }, ..flow(now, Timestamp(when.saturating_add(9)), ends) }),
                3 => Observation { at: now, session: None, flow: None, wire: None, fact: Fact::Alive { watcher: if flag { Watcher::Sensor } else { Watcher::Decoys } } },
                4 => Observation { at: now, session: None, flow: None, wire: None, fact: Fact::Hole(Hole { watcher: Watcher::Sensor, since: now, until: Timestamp(bytes as i64) }) },
                _ => { detector.tick(now, &mut out); continue }
            };
            one.at = now;
            detector.observe(&one, &mut out);
        }
        detector.tick(Timestamp(i64::MAX), &mut out);
        for finding in out.drain() {
            check_shape(&DETECTOR, &finding);
        }
    }
}
