//! `egress`: a node tries to leave its segment, and the wall stops it. A decoy begins nothing, so
//! whatever it begins is somebody else's doing: the worst that can happen to a honeynet.
//!
//! Judged are packets the wall dropped (`blocked` records). Answers that came too late for connection
//! tracking, ICMP errors and echo replies, neighbour discovery, multicast and broadcast are what any
//! host sends; destinations in `allow` are baits and their quotas, or the operator's own works.
//!
//! Known misses: what the wall lets through, and what root on the node hides by changing the wall
//! (its state is told apart, and a gateway has a wall of its own).

use crate::matter::{Contact, Matters, Rule, Told, Value, ends};
use crate::{BuildError, Detector, DetectorDef, Evidence, Finding, Findings, Segment, Severity, Site, settings};
use glasshive_event::observation::{Blocked, Fact, Observation};
use glasshive_event::{Endpoint, Tuple};
use serde::Deserialize;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

pub(crate) const DETECTOR: DetectorDef = DetectorDef {
    name: "egress",
    version: 1,
    site: Site::Fusion,
    techniques: &["T1071", "T1021", "T1095", "T1090"],
    use_cases: &["DUC0198"],
    summary: "Finds nodes and decoys that try to leave the segment, and visitors that try to pass through a node.",
    topology: "The honeywall on the node logs what it drops, and glasshive-decoys wall reads it.",
    build,
};

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Settings {
    /// Destinations that are no finding: an address or prefix, `:port` behind it for one port
    /// (`192.0.2.7:443`, `10.99.0.0/24`, `[2001:db8::7]:53`).
    allow: Vec<String>,
    /// Log prefixes with this in them are the host's own housekeeping: high, not critical.
    host_prefix: String,
    /// Sources remembered.
    max_keys: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { allow: Vec::new(), host_prefix: "mgmt".into(), max_keys: 4_096 }
    }
}

/// Remote services of T1021, by port.
const REMOTE: [u16; 8] = [22, 23, 445, 3389, 5900, 5985, 5986, 139];
const WINDOW: Duration = Duration::from_secs(3_600);

struct Allowed {
    network: IpAddr,
    bits: u32,
    port: Option<u16>,
}

struct Egress {
    segment: Arc<Segment>,
    allowed: Vec<Allowed>,
    host_prefix: String,
    matters: Matters<(IpAddr, bool)>,
}

fn build(table: &toml::Table, segment: &Arc<Segment>) -> Result<Box<dyn Detector>, BuildError> {
    let settings: Settings = settings(DETECTOR.name, table)?;
    let allowed = settings.allow.iter().map(|text| {
        let why = || format!("allow: {text:?} is no ADDRESS, ADDRESS/BITS, or one of them with :PORT");
        parse(text).ok_or_else(|| BuildError { detector: DETECTOR.name, why: why() })
    });
    Ok(Box::new(Egress {
        allowed: allowed.collect::<Result<_, _>>()?,
        segment: Arc::clone(segment),
        host_prefix: settings.host_prefix,
        matters: Matters::new(settings.max_keys, WINDOW),
    }))
}

fn parse(text: &str) -> Option<Allowed> {
    let (host, port) = match text.parse::<IpAddr>() {
        Ok(_) => (text, None),
        Err(_) => match text.rsplit_once(':') {
            Some((host, port)) if text.starts_with('[') || !host.contains(':') => (host, Some(port.parse().ok()?)),
            _ => (text, None),
        },
    };
    let host = host.strip_prefix('[').map_or(Some(host), |host| host.strip_suffix(']'))?;
    let (address, bits) = host.split_once('/').map_or((host, None), |(address, bits)| (address, Some(bits)));
    let network: IpAddr = address.parse().ok()?;
    let most = if network.is_ipv4() { 32 } else { 128 };
    let bits = bits.map_or(Some(most), |bits| bits.parse().ok().filter(|bits| *bits <= most))?;
    Some(Allowed { network, bits, port })
}

impl Allowed {
    fn covers(&self, end: Endpoint) -> bool {
        let (a, b) = match (self.network, end.ip) {
            (IpAddr::V4(a), IpAddr::V4(b)) => (u128::from(u32::from(a)) << 96, u128::from(u32::from(b)) << 96),
            (IpAddr::V6(a), IpAddr::V6(b)) => (u128::from(a), u128::from(b)),
            _ => return false,
        };
        let same = (a ^ b).checked_shr(128_u32.saturating_sub(self.bits)).unwrap_or(0) == 0;
        same && self.port.is_none_or(|port| port == end.port)
    }
}

impl Detector for Egress {
    fn observe(&mut self, observation: &Observation, out: &mut Findings) {
        let (Fact::Blocked(blocked), Some(wire)) = (&observation.fact, observation.wire) else { return };
        let through = match blocked.direction.as_str() {
            "out" => false,
            "forward" => true,
            _ => return,
        };
        let outside = wire.destination;
        if !begins(blocked, wire) || everyday(outside.ip) || self.allowed.iter().any(|allowed| allowed.covers(outside)) {
            return;
        }
        // An answer of a decoy's own service, whose visitor is long gone.
        let transport = if blocked.protocol == 17 { "udp" } else { "tcp" };
        if self.segment.open(wire.source.ip, wire.source.port, transport).is_some() {
            return;
        }
        let Some(contact) = Contact::of(observation, blocked.protocol) else { return };
        let value = Value::text(&target(blocked, outside));
        if let Some(told) = self.matters.add(&(wire.source.ip, through), value, contact, &Rule::at_once()) {
            out.push(self.finding(blocked, wire, through, &told));
        }
    }

    fn tick(&mut self, now: glasshive_event::Timestamp, _: &mut Findings) {
        self.matters.tick(now);
    }

    fn evicted(&self) -> u64 {
        self.matters.evicted()
    }
}

impl Egress {
    fn finding(&self, blocked: &Blocked, wire: Tuple, through: bool, told: &Told) -> Finding {
        let (source, outside) = (wire.source.ip, wire.destination);
        let decoy = self.segment.is_decoy(source);
        let own = !decoy && !self.host_prefix.is_empty() && blocked.prefix.contains(&self.host_prefix);
        let (severity, who) = match (through, decoy, own) {
            (true, ..) => (Severity::High, "tried to pass through the node"),
            (_, true, _) => (Severity::Critical, "is a decoy and tried to leave the segment"),
            (.., true) => (Severity::High, "is the node's management side and tried to reach what it must not"),
            _ => (Severity::Critical, "is a decoy node and tried to leave the segment"),
        };
        let primary = match (through, blocked.protocol) {
            (true, _) => "T1090",
            (_, 6) if REMOTE.contains(&outside.port) => "T1021",
            (_, 6 | 17) => "T1071",
            _ => "T1095",
        };
        let mut evidence = vec![told.evidence("destinations")];
        evidence.push(Evidence {
            metric: "packets",
            value: blocked.total as f64,
            threshold: 1.0,
            window_s: 0,
            samples: vec![target(blocked, outside)],
        });
        if let Some(uid) = blocked.uid {
            evidence.push(Evidence { metric: "uid", value: f64::from(uid), threshold: 0.0, window_s: 0, samples: Vec::new() });
        }
        Finding {
            at: told.at,
            first: told.first,
            key: format!("{} {source}", if through { "forward" } else { "out" }),
            severity,
            confidence: 95,
            techniques: vec![primary],
            use_cases: vec!["DUC0198"],
            actor: Some(source),
            target: Some(outside.ip),
            summary: if told.count == 1 {
                format!("{source} {who}: the wall dropped packets to {}.", target(blocked, outside))
            } else {
                format!("{source} {who}: the wall dropped packets to {} destinations, last {}.", told.number(), target(blocked, outside))
            },
            evidence,
            sessions: told.sessions.clone(),
            flows: told.flows.clone(),
            flow_count: told.flow_count,
            scope: told.scope(ends(None, Tuple { destination: outside, ..wire }, false, false)),
        }
    }
}

/// Whether the packet begins something, and is not an answer or what every host says.
fn begins(blocked: &Blocked, wire: Tuple) -> bool {
    match (blocked.protocol, blocked.icmp) {
        // SYN alone.
        (6, _) => blocked.flags & 0x12 == 0x02,
        // DHCP (RFC 2131 §4.1, RFC 8415 §7.2).
        (17, _) => !matches!((wire.source.port, wire.destination.port), (68, 67) | (546, 547)),
        // Echo request only: replies, errors and quench answer others (RFC 792).
        (1, Some((kind, _))) => matches!(kind, 8 | 13 | 15 | 17),
        // Echo request only: not ND, MLD or errors (RFC 4443, RFC 4861).
        (58, Some((kind, _))) => kind == 128,
        (1 | 58, None) => false,
        // IGMP and MLD for themselves.
        (2, _) => false,
        _ => true,
    }
}

/// Multicast, broadcast, link-local and unspecified destinations never leave a segment.
fn everyday(destination: IpAddr) -> bool {
    match destination {
        IpAddr::V4(ip) => ip.is_multicast() || ip.is_broadcast() || ip.is_unspecified() || ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_multicast() || ip.is_unspecified() || ip.is_unicast_link_local(),
    }
}

fn target(blocked: &Blocked, outside: Endpoint) -> String {
    match blocked.protocol {
        6 => format!("{outside}/tcp"),
        17 => format!("{outside}/udp"),
        1 | 58 => format!("{} icmp", outside.ip),
        other => format!("{} protocol {other}", outside.ip),
    }
}

#[cfg(test)]
mod tests;
