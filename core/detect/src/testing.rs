//! What the detectors' tests share: observations as the sensor and the decoys make them, and the
//! check that a finding comes out the same when only the packets of its scope are read again.

use crate::{DetectorDef, Finding, Findings, Segment};
use glasshive_event::flow::{Application, DirectionBasis, FlowEnd, Side};
use glasshive_event::observation::{Arp, Fact, Identified, Observation, Opening};
use glasshive_event::{ConnId, Endpoint, Flow, FlowId, PacketScope, Timestamp, Tuple};
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// Begin of the tests' time.
const EPOCH: i64 = 1_700_000_000_000_000_000;

pub(crate) fn at(seconds: f64) -> Timestamp {
    Timestamp(EPOCH + (seconds * 1e6).round() as i64 * 1_000)
}

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub(crate) fn end(text: &str) -> Endpoint {
    text.parse::<SocketAddr>().unwrap().into()
}

pub(crate) fn wire(source: &str, destination: &str) -> Tuple {
    Tuple { source: end(source), destination: end(destination) }
}

/// A flow of a wire tuple that began then.
pub(crate) fn flow_id(began: Timestamp, protocol: u8, wire: Tuple) -> FlowId {
    FlowId::derive("", protocol, wire.source.into(), wire.destination.into(), 1, began)
}

/// A fact of the flow that began then.
pub(crate) fn fact(now: Timestamp, began: Timestamp, protocol: u8, wire: Tuple, fact: Fact) -> Observation {
    Observation { at: now, session: None, flow: Some(flow_id(began, protocol, wire)), wire: Some(wire), fact }
}

pub(crate) fn opening(protocol: u8) -> Opening {
    Opening {
        protocol,
        tcp_flags: if protocol == 6 { 2 } else { 0 },
        icmp: None,
        payload_bytes: 0,
        ttl: 64,
        window: Some(64_240),
        ip_id: Some(7),
        tcp_options: vec![2, 4, 8, 1, 3],
        tcp_seq: Some(99),
    }
}

/// The first packet of a flow.
pub(crate) fn opened(now: Timestamp, wire: Tuple, opening: Opening) -> Observation {
    fact(now, now, opening.protocol, wire, Fact::FlowOpened(opening))
}

pub(crate) fn arp(now: Timestamp, mac: &str, sender: &str, target: &str) -> Observation {
    let fact = Fact::Arp(Arp {
        operation: 1,
        frame_mac: mac.into(),
        sender_mac: mac.into(),
        sender: ip(sender),
        target_mac: "00:00:00:00:00:00".into(),
        target: ip(target),
    });
    Observation { at: now, session: None, flow: None, wire: None, fact }
}

pub(crate) fn identified(now: Timestamp, began: Timestamp, wire: Tuple, protocol: &'static str, both: bool) -> Observation {
    let said = Identified { protocol, both, samples: ["00".into(), if both { "01".into() } else { String::new() }] };
    fact(now, began, 6, wire, Fact::Identified(said))
}

/// A whole TCP flow's record.
pub(crate) fn flow(began: Timestamp, last: Timestamp, wire: Tuple) -> Flow {
    Flow {
        flow: flow_id(began, 6, wire),
        seq: 0,
        end: FlowEnd::Fin,
        first: began,
        last,
        conn: Some(ConnId::derive("n", 6, wire.source.into(), wire.destination.into(), 1)),
        community_id: String::new(),
        protocol: 6,
        wire,
        direction: DirectionBasis::Syn,
        icmp: None,
        layers: Vec::new(),
        vlans: Vec::new(),
        sent: Side { packets: 5, payload_bytes: 100, ..Side::default() },
        received: Side { packets: 5, payload_bytes: 100, ..Side::default() },
        state: "SF".into(),
        history: String::new(),
        established: true,
        rtt_ns: None,
        application: None,
        loss: false,
    }
}

pub(crate) fn speaking(protocol: &str, both: bool) -> Option<Application> {
    Some(Application { protocol: protocol.into(), both, ..Application::default() })
}

pub(crate) fn record(flow: Flow) -> Observation {
    Observation { at: flow.last, session: None, flow: Some(flow.flow), wire: Some(flow.wire), fact: Fact::Flow(Box::new(flow)) }
}

/// All findings of a fresh detector.
pub(crate) fn findings(def: &DetectorDef, segment: &Arc<Segment>, all: &[Observation]) -> Vec<Finding> {
    findings_with(def, "", segment, all).0
}

/// All findings of a fresh detector with settings, and what it forgot.
pub(crate) fn findings_with(def: &DetectorDef, table: &str, segment: &Arc<Segment>, all: &[Observation]) -> (Vec<Finding>, u64) {
    let mut detector = (def.build)(&table.parse().unwrap(), segment).unwrap();
    let mut out = Findings::new(100_000);
    for observation in all {
        detector.observe(observation, &mut out);
    }
    assert_eq!(out.dropped(), 0);
    (out.drain().collect(), detector.evicted())
}

/// What of the observations an export of that scope holds.
pub(crate) fn exported(all: &[Observation], scope: &PacketScope) -> Vec<Observation> {
    let protocols: HashMap<FlowId, u8> = all
        .iter()
        .filter_map(|one| match (&one.fact, one.flow) {
            (Fact::FlowOpened(opening), Some(flow)) => Some((flow, opening.protocol)),
            (Fact::Flow(record), Some(flow)) => Some((flow, record.protocol)),
            _ => None,
        })
        .collect();
    let kept = |one: &&Observation| match &one.fact {
        Fact::Arp(arp) => {
            let ends = Tuple { source: Endpoint { ip: arp.sender, port: 0 }, destination: Endpoint { ip: arp.target, port: 0 } };
            scope.matches(one.at, None, Some(ends))
        }
        _ => scope.matches(one.at, Some(one.flow.and_then(|flow| protocols.get(&flow).copied()).unwrap_or(6)), one.wire),
    };
    all.iter().filter(kept).cloned().collect()
}

/// Every finding's scope, exported and read again, gives a finding with the same id, and holds the
/// first packet of every flow the finding names.
pub(crate) fn check_exports(def: &DetectorDef, segment: &Arc<Segment>, all: &[Observation]) {
    let found = findings(def, segment, all);
    for finding in &found {
        assert!(!finding.scope.0.is_empty() && finding.scope.0.len() <= Finding::MAX_MATCHES, "{finding:?}");
        let part = exported(all, &finding.scope);
        for flow in &finding.flows {
            let began = all.iter().filter(|one| one.flow == Some(*flow)).map(|one| one.at).min();
            let kept = part.iter().filter(|one| one.flow == Some(*flow)).map(|one| one.at).min();
            assert_eq!(kept, began, "the scope of {} cuts a flow", finding.key);
        }
        let again = findings(def, segment, &part);
        let same = again.iter().find(|other| other.id(def) == finding.id(def));
        assert!(same.is_some(), "{} is not found again among {:?}", finding.key, again.iter().map(|f| &f.key).collect::<Vec<_>>());
    }
}

/// What must hold of any finding.
pub(crate) fn check_shape(def: &DetectorDef, finding: &Finding) {
    assert!(!finding.techniques.is_empty() && finding.techniques.iter().all(|id| def.techniques.contains(id)), "{finding:?}");
    assert!(finding.use_cases.iter().all(|id| def.use_cases.contains(id)), "{finding:?}");
    assert!(finding.first <= finding.at && !finding.key.is_empty() && !finding.scope.0.is_empty(), "{finding:?}");
    assert!(finding.summary.ends_with('.') && !finding.summary.chars().any(char::is_control), "{finding:?}");
    assert!(!finding.evidence.is_empty() && finding.evidence.iter().all(|one| one.value.is_finite()), "{finding:?}");
    assert!(finding.flow_count >= finding.flows.len() as u64 && finding.confidence <= 100, "{finding:?}");
}

/// How many cases a property is tried with. Each is a whole story, not a mutated message: a soak's
/// million of them would take hours.
pub(crate) fn cases() -> u32 {
    std::env::var("GLASSHIVE_FUZZ").ok().and_then(|number| number.parse().ok()).unwrap_or(10_000).min(50_000)
}

/// The finding serialised, against the text that stands for the format.
pub(crate) fn check_golden(def: &DetectorDef, finding: &Finding, id: &str, golden: &str) {
    let now = format!("{}\n{}\n", finding.id(def), serde_json::to_string_pretty(finding).unwrap());
    assert_eq!(now, format!("{id}\n{golden}"), "\n{now}");
}
