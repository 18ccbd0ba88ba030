//! Flows from hand-made packets: states, direction, reassembly, times, ids, and the pipeline around them.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod build;

use build::*;
use glasshive_detect::{BuildError, Detector, DetectorDef, Evidence, Finding, Findings, Segment, Severity, Site};
use glasshive_event::flow::{DirectionBasis, FlowEnd};
use glasshive_event::observation::{Fact, Observation};
use glasshive_event::{ConnId, PacketScope, Timestamp};
use glasshive_sensor::pipeline::{Pipeline, Settings};
use proptest::prelude::*;
use std::sync::Arc;

const CLIENT: (&str, u16) = ("10.0.0.1", 40_000);
const SERVER: (&str, u16) = ("10.0.0.2", 80);

fn talk() -> Talk {
    Talk::new(CLIENT, SERVER)
}

/// A whole exchange: 4 bytes up, 6 down, both FIN.
fn whole() -> Talk {
    let mut talk = talk();
    talk.handshake().up(PSH | ACK, 101, 901, b"aabb").down(PSH | ACK, 901, 105, b"answer").up(ACK, 105, 907, b"");
    talk.up(FIN | ACK, 105, 907, b"").down(FIN | ACK, 907, 106, b"").up(ACK, 106, 908, b"");
    talk
}

#[test]
fn one_flow_golden() {
    let told = run(&whole().packets);
    assert_eq!(told.flows.len(), 1);
    let written = serde_json::to_string_pretty(&told.flows[0]).unwrap() + "\n";
    let place = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/flow.json");
    if std::env::var_os("GLASSHIVE_TEST_WRITE_GOLDEN").is_some() {
        std::fs::write(place, &written).unwrap();
    }
    assert_eq!(written, std::fs::read_to_string(place).unwrap());
}

#[test]
fn states_histories_and_ends() {
    type Steps = fn(&mut Talk);
    let cases: &[(&str, &str, FlowEnd, bool, Steps)] = &[
        ("S0", "S", FlowEnd::Shutdown, false, |t| {
            t.up(SYN, 100, 0, b"");
        }),
        ("S0", "ST", FlowEnd::Shutdown, false, |t| {
            t.up(SYN, 100, 0, b"").wait(SECOND).up(SYN, 100, 0, b"");
        }),
        ("REJ", "Sr", FlowEnd::Rst, false, |t| {
            t.up(SYN, 100, 0, b"").down(RST | ACK, 0, 101, b"");
        }),
        ("S1", "Sh", FlowEnd::Shutdown, false, |t| {
            t.up(SYN, 100, 0, b"").down(SYN | ACK, 900, 101, b"");
        }),
        ("RSTO", "ShR", FlowEnd::Rst, false, |t| {
            t.up(SYN, 100, 0, b"").down(SYN | ACK, 900, 101, b"").up(RST, 101, 0, b"");
        }),
        ("S1", "ShAD", FlowEnd::Shutdown, true, |t| {
            t.handshake().up(ACK, 101, 901, b"x");
        }),
        ("RSTR", "ShAr", FlowEnd::Rst, true, |t| {
            t.handshake().down(RST | ACK, 901, 101, b"");
        }),
        ("RSTO", "ShAR", FlowEnd::Rst, true, |t| {
            t.handshake().up(RST | ACK, 101, 901, b"");
        }),
        ("S2", "ShAF", FlowEnd::Shutdown, true, |t| {
            t.handshake().up(FIN | ACK, 101, 901, b"");
        }),
        ("S3", "ShAf", FlowEnd::Shutdown, true, |t| {
            t.handshake().down(FIN | ACK, 901, 101, b"");
        }),
        ("SF", "ShAFfR", FlowEnd::Fin, true, |t| {
            t.handshake().up(FIN | ACK, 101, 901, b"").down(FIN | ACK, 901, 102, b"").up(RST, 102, 0, b"");
        }),
        ("RSTOS0", "SR", FlowEnd::Rst, false, |t| {
            t.up(SYN, 100, 0, b"").up(RST, 101, 0, b"");
        }),
        ("SH", "SF", FlowEnd::Shutdown, false, |t| {
            t.up(SYN, 100, 0, b"").up(FIN, 101, 0, b"");
        }),
        ("RSTRH", "^hr", FlowEnd::Rst, false, |t| {
            t.down(SYN | ACK, 900, 101, b"").down(RST, 901, 0, b"");
        }),
        ("SHR", "^hf", FlowEnd::Shutdown, false, |t| {
            t.down(SYN | ACK, 900, 101, b"").down(FIN | ACK, 901, 101, b"");
        }),
        ("OTH", "Da", FlowEnd::Shutdown, false, |t| {
            t.up(ACK, 500, 700, b"x").down(ACK, 700, 501, b"");
        }),
        // nmap's Xmas and null scans, and a SYN with FIN.
        ("OTH", "Fr", FlowEnd::Rst, false, |t| {
            t.up(0x29, 5, 0, b"").down(RST | ACK, 0, 6, b"");
        }),
        ("OTH", "", FlowEnd::Shutdown, false, |t| {
            t.up(0, 5, 0, b"");
        }),
        ("SH", "QSF", FlowEnd::Shutdown, false, |t| {
            t.up(SYN | FIN, 5, 0, b"");
        }),
    ];
    for (state, history, end, established, steps) in cases {
        let mut talk = talk();
        steps(&mut talk);
        let told = run(&talk.packets);
        let flow = &told.flows[0];
        assert_eq!((flow.state.as_str(), flow.history.as_str(), flow.end, flow.established), (*state, *history, *end, *established));
        assert_eq!((told.established(), told.flows.len()), (usize::from(*established), 1), "{state}");
        assert_eq!(flow.wire.source.port, CLIENT.1, "{state} {history}");
    }
}

#[test]
fn join_keys_need_the_syn_and_the_net() {
    let client = |end: (&str, u16)| std::net::SocketAddr::new(end.0.parse().unwrap(), end.1);
    let flow = run(&whole().packets).flows.remove(0);
    assert_eq!(flow.conn, Some(ConnId::derive("lab", 6, client(CLIENT), client(SERVER), 100)));
    assert_eq!((flow.rtt_ns, flow.direction), (Some(10 * MS), DirectionBasis::Syn));
    assert_eq!(run_as(1, &whole().packets, Settings::default()).flows[0].conn, None);
    let late = run(&whole().packets[1..]).flows.remove(0);
    assert_eq!((late.conn, late.direction, late.wire), (None, DirectionBasis::SynAck, flow.wire));
    assert_ne!(late.flow, flow.flow);
}

#[test]
fn late_starts_find_who_asked() {
    let (a, b) = ("10.0.0.1", "10.0.0.2");
    for (frame, source, basis) in [
        (tcp((b, 80), (a, 40_000), ACK, 1, 1, b"x"), a, DirectionBasis::Port),
        (tcp((a, 40_000), (b, 80), ACK, 1, 1, b"x"), a, DirectionBasis::Port),
        (tcp((b, 50_000), (a, 40_000), ACK, 1, 1, b"x"), b, DirectionBasis::FirstPacket),
        (udp((b, 53), (a, 40_000), b"x"), a, DirectionBasis::Port),
        (udp((b, 53), (a, 53), b"x"), b, DirectionBasis::FirstPacket),
        (icmp(b, a, 0, 9, b"x"), a, DirectionBasis::Application),
        (icmp(b, a, 8, 9, b"x"), b, DirectionBasis::Application),
        (icmp(b, a, 3, 9, b"x"), b, DirectionBasis::FirstPacket),
    ] {
        let flow = one(1, frame).flows.remove(0);
        assert_eq!((flow.wire.source.ip.to_string().as_str(), flow.direction), (source, basis), "{flow:?}");
    }
    // Both directions are one flow, with one Community ID whoever came first.
    let both = [(START, icmp(a, b, 8, 9, b"x")), (START + MS, icmp(b, a, 0, 9, b"x"))];
    let (one, other) = (run(&both), run(&[both[1].clone(), (START + 2 * MS, both[0].1.clone())]));
    assert_eq!((one.flows.len(), one.flows[0].sent.packets, one.flows[0].received.packets), (1, 1, 1));
    assert_eq!((other.flows.len(), &other.flows[0].community_id), (1, &one.flows[0].community_id));
    assert_eq!(run(&[both[0].clone(), (START + MS, icmp(a, b, 8, 10, b"x"))]).flows.len(), 2, "two pings");
}

#[test]
fn counts_of_retransmits_gaps_and_order() {
    let mut talk = talk();
    talk.handshake().up(ACK, 101, 901, b"one").up(ACK, 101, 901, b"one").up(ACK, 107, 901, b"three").up(ACK, 104, 901, b"two");
    talk.down(ACK, 901, 112, b"").up(ACK, 120, 901, b"late").down(ACK, 901, 124, b"").wait(SECOND).down(ACK, 901, 124, b"");
    let told = run(&talk.packets);
    let sent = &told.flows[0].sent;
    assert_eq!((sent.payload_bytes, sent.retransmits, sent.out_of_order, sent.missed_bytes), (15, 1, 1, 8));
    assert!(told.flows[0].history.contains('G') && told.flows[0].history.contains('T') && told.malformed.is_empty());
    assert_eq!(sent.sample, "6f6e6574776f74687265656c617465");
}

#[test]
fn differing_overlaps_are_told_once_each() {
    let mut talk = talk();
    talk.handshake().up(ACK, 101, 901, b"GET /good").up(ACK, 101, 901, b"GET /evil");
    let told = run(&talk.packets);
    assert_eq!(told.malformed.len(), 1);
    let found = &told.malformed[0];
    assert_eq!((found.protocol, found.offset, found.bytes.as_str()), ("tcp", 5, "474554202f6576696c"));
    for _ in 0..50 {
        talk.up(ACK, 101, 901, b"GET /evil");
    }
    assert_eq!(run(&talk.packets).malformed.len(), 8, "bounded a flow");
}

#[test]
fn a_new_syn_begins_another_flow() {
    let mut talk = talk();
    talk.up(SYN, 100, 0, b"")
        .down(RST | ACK, 0, 101, b"")
        .up(SYN, 200, 0, b"")
        .down(RST | ACK, 0, 201, b"")
        .up(SYN, 300, 0, b"")
        .up(SYN, 400, 0, b"");
    let told = run(&talk.packets);
    assert_eq!(told.flows.iter().map(|flow| flow.state.as_str()).collect::<Vec<_>>(), ["REJ", "REJ", "S0", "S0"]);
    // A SYN captured after its answer is still one connection.
    let mut talk = Talk::new(CLIENT, SERVER);
    talk.down(SYN | ACK, 900, 101, b"").up(SYN, 100, 0, b"").up(ACK, 101, 901, b"x");
    let told = run(&talk.packets);
    assert_eq!((told.flows.len(), told.established(), told.flows[0].state.as_str()), (1, 1, "S1"));
    // A SYN thrown into an established connection does not end it.
    let mut talk = Talk::new(CLIENT, SERVER);
    talk.handshake().up(SYN, 77_777, 0, b"").up(ACK, 101, 901, b"x");
    assert_eq!(run(&talk.packets).flows.len(), 1);
}

#[test]
fn idle_times_and_records_of_long_flows() {
    let udp_at = |seconds: i64| (START + seconds * SECOND, udp(CLIENT, ("10.0.0.2", 5000), b"x"));
    let ends =
        |packets: &[(i64, Vec<u8>)]| run(packets).flows.iter().map(|flow| (flow.seq, flow.end, flow.sent.packets)).collect::<Vec<_>>();
    assert_eq!(ends(&[udp_at(0), udp_at(60)]), [(0, FlowEnd::Shutdown, 2)]);
    assert_eq!(ends(&[udp_at(0), (udp_at(60).0 + 1, udp_at(0).1)]), [(0, FlowEnd::Idle, 1), (0, FlowEnd::Shutdown, 1)]);
    let long: Vec<_> = (0..=14).map(|n| udp_at(n * 50)).collect();
    assert_eq!(ends(&long), [(0, FlowEnd::Active, 7), (1, FlowEnd::Active, 13), (2, FlowEnd::Shutdown, 15)]);
    let all = run(&long);
    assert!(all.flows.windows(2).all(|pair| pair[0].flow == pair[1].flow && pair[0].last <= pair[1].last));
    // Hours of silence end a connection; a new packet begins a flow of its own.
    let mut talk = talk();
    talk.handshake().wait(3601 * SECOND).up(ACK, 101, 901, b"x");
    let told = run(&talk.packets);
    assert_eq!(told.flows.iter().map(|flow| flow.end).collect::<Vec<_>>(), [FlowEnd::Active, FlowEnd::Idle, FlowEnd::Shutdown]);
}

/// Tells the tick by which five seconds have passed since the last observation.
#[derive(Default)]
struct Alarm(Option<i64>);

impl Detector for Alarm {
    fn observe(&mut self, observation: &Observation, _: &mut Findings) {
        self.0 = Some(observation.at.0);
    }
    fn tick(&mut self, now: Timestamp, out: &mut Findings) {
        if self.0.take_if(|last| now.0 - *last >= 5 * SECOND).is_some() {
            out.push(finding(now, vec![]));
        }
    }
}

fn alarm(_: &toml::Table, _: &Arc<Segment>) -> Result<Box<dyn Detector>, BuildError> {
    Ok(Box::new(Alarm::default()))
}

static ALARMS: &[DetectorDef] = &[DetectorDef { name: "alarm", build: alarm, ..ROW }];

/// Whoever calls `tick`, and how often, the same is said.
#[test]
fn ticks_change_nothing() {
    let mut packets = whole().packets;
    packets.push((START + 100 * SECOND + 7, udp(CLIENT, ("10.0.0.2", 5000), b"x")));
    packets.push((START + 900 * SECOND, udp(CLIENT, ("10.0.0.2", 5001), b"x")));
    let run = |step: Option<i64>| {
        let (mut pipeline, mut told) = (Pipeline::with_detectors(settings(), ALARMS).unwrap(), Told::default());
        let mut now = START;
        for (at, data) in &packets {
            while let Some(step) = step.filter(|_| now < *at) {
                pipeline.tick(Timestamp(now), &mut |output| told.take(output));
                now += step;
            }
            pipeline.packet(&packet(*at, 1, data), &mut |output| told.take(output));
        }
        pipeline.finish(FlowEnd::Shutdown, &mut |output| told.take(output));
        told
    };
    let without = run(None);
    assert!(without.findings >= 2, "{}", without.findings);
    for step in [SECOND / 3, SECOND, 7 * SECOND] {
        assert_eq!(run(Some(step)).text, without.text, "{step}");
    }
}

fn finding(at: Timestamp, evidence: Vec<Evidence>) -> Finding {
    Finding {
        at,
        first: at,
        key: "k".to_owned(),
        severity: Severity::Low,
        confidence: 1,
        techniques: vec![],
        use_cases: vec![],
        actor: None,
        target: None,
        summary: "s".to_owned(),
        evidence,
        sessions: vec![],
        flows: vec![],
        flow_count: 0,
        scope: PacketScope::default(),
    }
}

#[test]
fn clocks_that_jump_are_survived() {
    let at = |ns: i64| (ns, udp(CLIENT, ("10.0.0.2", 5000), b"x"));
    let told = run(&[at(START), at(i64::MAX), at(START + SECOND), at(i64::MIN), at(0), at(START + 2 * SECOND), at(START + MS)]);
    assert_eq!(told.counts.packets, 7);
    assert!(told.flows.iter().all(|flow| flow.last >= flow.first));
    assert_eq!(told.flows.iter().map(|flow| flow.sent.packets).sum::<u64>(), 7);
}

#[test]
fn the_quietest_flow_goes_when_there_is_no_room() {
    let frame = |n: u16| udp(("10.0.0.1", n), ("10.0.0.2", 5000), b"x");
    let packets: Vec<_> = [1, 2, 1, 3].iter().enumerate().map(|(at, n)| (START + at as i64, frame(40_000 + n))).collect();
    let told = run_as(1, &packets, Settings { max_flows: 2, ..settings() });
    assert_eq!((told.counts.flows, told.counts.flows_evicted), (3, 1));
    assert_eq!((told.flows[0].end, told.flows[0].wire.source.port), (FlowEnd::Evicted, 40_002));
    // A flood stays within the bound.
    let flood: Vec<_> = (0..5000u16).map(|n| (START + i64::from(n), tcp(("10.0.0.9", 1024 + n), SERVER, SYN, 1, 0, b""))).collect();
    let told = run_as(1, &flood, Settings { max_flows: 100, ..settings() });
    assert_eq!((told.counts.flows, told.counts.flows_evicted, told.flows.len()), (5000, 4900, 5000));
}

#[test]
fn loss_marks_open_flows() {
    let (mut pipeline, mut told) = (Pipeline::new(settings()).unwrap(), Told::default());
    let packets = whole().packets;
    for (index, (at, data)) in packets.iter().enumerate() {
        pipeline.packet(&packet(*at, 1, data), &mut |output| told.take(output));
        if index == 3 {
            pipeline.lost(Timestamp(*at), 5);
        }
    }
    pipeline.packet(&packet(START + SECOND, 1, &udp(CLIENT, ("10.0.0.2", 9), b"x")), &mut |output| told.take(output));
    pipeline.finish(FlowEnd::Shutdown, &mut |output| told.take(output));
    let mut loss: Vec<_> = told.flows.iter().map(|flow| (flow.protocol, flow.loss)).collect();
    loss.sort_unstable();
    assert_eq!(loss, [(6, true), (17, false)]);
}

#[test]
fn hardware_addresses_and_checksums_are_noted() {
    let mut packets = whole().packets;
    let flow = run(&packets).flows.remove(0);
    assert_eq!((flow.sent.mac.as_deref(), flow.sent.bad_checksum), (Some("02:00:00:00:00:01"), 0));
    let last = packets[3].1.len() - 1;
    packets[3].1[last] ^= 1;
    let told = run(&packets);
    assert_eq!((told.flows[0].sent.bad_checksum, told.flows[0].sent.payload_bytes, told.counts.malformed), (1, 4, 0));
    assert!(told.flows[0].history.contains('C'));
}

/// Counts what it sees, in order.
#[derive(Default)]
struct Watcher {
    seen: u32,
    last: i64,
    ticks: u32,
}

impl Detector for Watcher {
    fn observe(&mut self, observation: &Observation, out: &mut Findings) {
        self.seen += 1;
        assert!(observation.at.0 >= self.last, "in time order");
        self.last = observation.at.0;
        if let Fact::Flow(flow) = &observation.fact {
            assert_eq!(Some(flow.flow), observation.flow);
            let evidence =
                Evidence { metric: "seen", value: f64::from(self.seen), threshold: f64::from(self.ticks), window_s: 0, samples: vec![] };
            out.push(finding(observation.at, vec![evidence]));
        }
    }
    fn tick(&mut self, _: Timestamp, _: &mut Findings) {
        self.ticks += 1;
    }
    fn evicted(&self) -> u64 {
        7
    }
}

fn watcher(table: &toml::Table, _: &Arc<Segment>) -> Result<Box<dyn Detector>, BuildError> {
    match table.get("bad") {
        Some(_) => Err(BuildError { detector: "watcher", why: "bad".to_owned() }),
        None => Ok(Box::new(Watcher::default())),
    }
}

const ROW: DetectorDef = DetectorDef {
    name: "watcher",
    version: 1,
    site: Site::Wire,
    techniques: &["T1595"],
    use_cases: &[],
    summary: "s",
    topology: "t",
    build: watcher,
};
static WATCHERS: &[DetectorDef] = &[ROW, DetectorDef { name: "fused", site: Site::Fusion, ..ROW }];

#[test]
fn wire_detectors_see_every_observation_and_their_findings_come_out() {
    let (mut pipeline, mut told) = (Pipeline::with_detectors(settings(), WATCHERS).unwrap(), Told::default());
    for (at, data) in &whole().packets {
        pipeline.packet(&packet(*at, 1, data), &mut |output| told.take(output));
    }
    pipeline.finish(FlowEnd::Shutdown, &mut |output| told.take(output));
    // Opened and established, then the flow.
    assert!(told.text.last().unwrap().contains("value: 3.0"), "{:?}", told.text.last());
    assert_eq!((told.findings, pipeline.counts().findings, pipeline.counts().detector_evicted), (1, 1, 7));
    for (settings, expected) in [
        ("[watcher]\nbad = 1", "[detect.watcher]: bad"),
        ("watcher = 1", "[detect.watcher]: must be a table of settings"),
        ("[wacher]", "[detect.*]: there is no detector named \"wacher\""),
    ] {
        let detect = settings.parse().unwrap();
        let error = Pipeline::with_detectors(Settings { detect, ..Settings::default() }, WATCHERS).err().unwrap();
        assert_eq!(error.to_string(), expected);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(fuzz_cases().min(50_000)))]

    /// Hostile segments over a few tuples, more than there is room for: every packet ends in exactly one flow, every
    /// flow has one last record, and the same comes out again, ticks or not.
    #[test]
    fn any_segments_are_counted_once(steps in prop::collection::vec((0u16..5, any::<bool>(), any::<u8>(), 0u32..200, 0u32..200, 0usize..20, 0i64..8), 0..40)) {
        let mut at = START;
        let packets: Vec<_> = steps.into_iter().map(|(port, up, flags, seq, ack, length, wait)| {
            // Now and then an hour of silence.
            at += if wait == 7 { 4000 * SECOND } else { wait * wait * SECOND / 3 };
            let (client, server) = (("10.0.0.1", 40_000 + port), SERVER);
            let (from, to) = if up { (client, server) } else { (server, client) };
            (at, tcp(from, to, flags, seq, ack, &[port as u8; 20][..length]))
        }).collect();
        let once = |ticks: bool| {
            let (mut pipeline, mut told) = (Pipeline::new(Settings { max_flows: 3, ..settings() }).unwrap(), Told::default());
            for (at, data) in &packets {
                if ticks {
                    pipeline.tick(Timestamp(*at - SECOND / 2), &mut |output| told.take(output));
                }
                pipeline.packet(&packet(*at, 1, data), &mut |output| told.take(output));
            }
            pipeline.finish(FlowEnd::Shutdown, &mut |output| told.take(output));
            told.counts = pipeline.counts();
            told
        };
        let told = once(false);
        let last: Vec<_> = told.flows.iter().filter(|flow| flow.is_final()).collect();
        prop_assert_eq!(last.len() as u64, told.counts.flows);
        prop_assert_eq!(last.iter().map(|flow| flow.sent.packets + flow.received.packets).sum::<u64>(), packets.len() as u64);
        prop_assert!(told.flows.iter().all(|flow| flow.last >= flow.first && flow.history.len() <= 64));
        prop_assert_eq!(told.text, once(true).text);
    }
}
