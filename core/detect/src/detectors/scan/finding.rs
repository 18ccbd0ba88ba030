//! How a scan is told: words, severity, labels by vantage, and the packets that show it.

use super::contact::{Probe, Tool};
use super::{FIVE_MINUTES, Key, web};
use crate::matter::Told;
use crate::{Evidence, Finding, Segment, Severity, Vantage};
use glasshive_event::PacketMatch;
use std::net::IpAddr;

/// What differs from one kind of scan to another.
struct Face {
    name: String,
    metric: &'static str,
    /// From inside, and the mission's.
    techniques: (&'static str, &'static str),
    severity: Severity,
    confidence: u8,
    /// Packets since the matter opened.
    later: PacketMatch,
    target: Option<IpAddr>,
    what: String,
}

/// The finding of a told matter. From `stealth` packets on, odd flags are more than an oddity.
pub(super) fn make(key: &Key, told: &Told, tool: Option<Tool>, segment: &Segment, stealth: u64) -> Finding {
    let source = key.source();
    let face = face(key, told, segment, stealth);
    let (inside, mission) = face.techniques;
    let mut evidence = vec![told.evidence(face.metric)];
    let mut looks = String::new();
    let (mut severity, mut confidence) = (face.severity, face.confidence);
    if let Some(tool) = tool {
        let samples = vec![tool.name().to_owned()];
        evidence.push(Evidence { metric: "tool", value: 1.0, threshold: 1.0, window_s: told.window.as_secs(), samples });
        looks = format!("; the packets look like {}'s", tool.name());
        severity = severity.max(Severity::Medium);
        confidence = 95;
    }
    Finding {
        at: told.at,
        first: told.first,
        key: face.name,
        severity,
        confidence,
        techniques: if segment.vantage == Vantage::Edge { vec![mission] } else { vec![inside, mission] },
        use_cases: Vec::new(),
        actor: Some(source),
        target: face.target,
        summary: format!("{source} {}{looks}.", face.what),
        evidence,
        sessions: Vec::new(),
        flows: told.flows.clone(),
        flow_count: told.flow_count,
        scope: told.scope(face.later),
    }
}

fn face(key: &Key, told: &Told, segment: &Segment, stealth: u64) -> Face {
    let count = told.count;
    let number = told.number();
    let span = span(told);
    let step = if count >= told.threshold.saturating_mul(10) { Severity::Medium } else { Severity::Low };
    let group = |decoys: bool| if decoys { "decoys" } else { "hosts" };
    match key {
        Key::Ports { protocol, probe, source, target } => {
            let transport = transport(*protocol);
            let (severity, confidence) = match probe {
                Probe::Stealth(_) if count < stealth => (Severity::Low, 50),
                Probe::Stealth(_) => (Severity::Medium, 90),
                _ if told.window > FIVE_MINUTES => (step, 60),
                _ => (step, 80),
            };
            Face {
                name: format!("ports {transport} {} {source} {target}", probe.name()),
                metric: "ports",
                techniques: ("T1046", "T1595.001"),
                severity,
                confidence,
                later: PacketMatch { protocol: Some(*protocol), ..PacketMatch::between(*source, *target) },
                target: Some(*target),
                what: format!("tried {number} {transport} port(s) of {target} {span} with {}", probe.words()),
            }
        }
        Key::Hosts { protocol, port, source, decoys } => {
            let transport = transport(*protocol);
            let half = *decoys && count.saturating_mul(2) >= segment.addresses().len() as u64;
            Face {
                name: format!("hosts {transport}/{port} {source} {}", group(*decoys)),
                metric: "hosts",
                techniques: ("T1046", "T1595.001"),
                severity: if half { Severity::High } else { Severity::Medium },
                confidence: 80,
                later: PacketMatch { a: Some(*source), protocol: Some(*protocol), b_port: Some(*port), ..PacketMatch::default() },
                target: None,
                what: format!("tried {transport} port {port} of {number} {} {span}", group(*decoys)),
            }
        }
        Key::Echo { source, decoys } => Face {
            name: format!("icmp {source} {}", group(*decoys)),
            metric: "hosts",
            techniques: ("T1018", "T1595.001"),
            severity: step,
            confidence: 75,
            later: PacketMatch { a: Some(*source), protocol: Some(if source.is_ipv6() { 58 } else { 1 }), ..PacketMatch::default() },
            target: None,
            what: format!("asked {number} {} by ICMP {span} whether they are there", group(*decoys)),
        },
        Key::Arp { source, mac } => Face {
            name: format!("arp {source} {mac}"),
            metric: "hosts",
            techniques: ("T1018", "T1595.001"),
            severity: step,
            confidence: 85,
            later: PacketMatch { a: Some(*source), arp: true, ..PacketMatch::default() },
            target: None,
            what: format!("asked for {number} addresses by ARP {span}"),
        },
        Key::Protocols { source, target } => Face {
            name: format!("protocols {source} {target}"),
            metric: "protocols",
            techniques: ("T1046", "T1595.001"),
            severity: step,
            confidence: 80,
            later: PacketMatch::between(*source, *target),
            target: Some(*target),
            what: format!("tried {number} IP protocols at {target} {span}"),
        },
        Key::Web { what, source, target, port } => {
            let row = what.row();
            Face {
                name: format!("{} {source} {target}:{port}", row.name),
                metric: row.metric,
                techniques: ("T1046", row.technique),
                severity: Severity::Medium,
                confidence: row.confidence,
                later: PacketMatch { protocol: Some(6), b_port: Some(*port), ..PacketMatch::between(*source, *target) },
                target: Some(*target),
                what: match what {
                    web::Sign::Version => format!("sent requests only a version or script probe makes to port {port} of {target}"),
                    web::Sign::Agent => format!("named itself a scanner in requests to port {port} of {target}"),
                    web::Sign::NotFound => format!("got {number} answers \"not found\" from port {port} of {target} {span}"),
                },
            }
        }
    }
}

/// `within 60 s`, or since when for what went on.
fn span(told: &Told) -> String {
    if told.opens {
        return format!("within {} s", told.window.as_secs());
    }
    format!("in {} s", told.at.0.saturating_sub(told.first.0).div_euclid(1_000_000_000).max(1))
}

fn transport(protocol: u8) -> &'static str {
    match protocol {
        6 => "tcp",
        17 => "udp",
        132 => "sctp",
        _ => "ip",
    }
}
