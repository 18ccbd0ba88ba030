//! `port_mismatch`: a protocol on a port that is another's, or nobody's (T1571).
//!
//! Content decides what is spoken; the port only says what was to be expected. Told at once when both
//! sides speak it; what one side alone says is told when the flow ends, as a remark. A decoy's
//! declared port is exempt for its declared protocol only; a port declared `unknown` has none.
//!
//! Known misses: protocols the probe does not know; a protocol inside another (TLS on 443 carries
//! anything); the first bytes of a flow whose begin nobody saw.

mod expected;

use crate::matter::{Contact, Matters, Rule, Told, Value, ends};
use crate::window::Keyed;
use crate::works::Works;
use crate::{BuildError, Detector, DetectorDef, Evidence, Finding, Findings, Segment, Severity, Site, settings};
use expected::{is_alternative, is_control, is_serious, is_usual, known, registered};
use glasshive_event::flow::DirectionBasis;
use glasshive_event::observation::{Fact, Identified, Observation};
use glasshive_event::{Endpoint, Flow, FlowId, Timestamp, Tuple};
use serde::Deserialize;
use std::sync::Arc;
use std::time::Duration;

pub(crate) const DETECTOR: DetectorDef = DetectorDef {
    name: "port_mismatch",
    version: 1,
    site: Site::Wire,
    techniques: &["T1571"],
    use_cases: &["DUC0159"],
    summary: "Finds protocols spoken on ports that are declared or registered for another, or for none.",
    topology: "The sensor sees both directions of the flow from its first packet; traffic of real hosts needs a mirror port.",
    build,
};

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Settings {
    /// Bits a byte from where on the first bytes of both sides look encrypted.
    entropy: f32,
    /// Bytes each side must have said before entropy means something.
    entropy_bytes: u64,
    /// Pairs of hosts, ports and protocols remembered.
    max_keys: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { entropy: 7.2, entropy_bytes: 512, max_keys: 16_384 }
    }
}

/// Ports whose traffic is worth a look when it is nothing known (research rule N3).
const WATCHED: [u16; 6] = [22, 53, 80, 443, 445, 3389];

/// Why it is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Why {
    /// The segment list declares another protocol there.
    Declared,
    /// The address is a decoy's, and it offers nothing there.
    Undeclared,
    /// The port is registered for another protocol.
    Registered,
    /// The port is registered for none of those known.
    Unlisted,
    /// Only one side spoke it.
    OneSide,
    /// Nothing known, and no pattern in it.
    Unknown,
}

/// Client, server and its port, transport when known, protocol.
type Key = (Why, Option<u8>, Tuple, &'static str);

struct PortMismatch {
    works: Works,
    settings: Settings,
    matters: Matters<Key>,
    /// Transport of the flows opened: what identifies one does not say it.
    transports: Keyed<FlowId, u8>,
}

fn build(table: &toml::Table, segment: &Arc<Segment>) -> Result<Box<dyn Detector>, BuildError> {
    let settings: Settings = settings(DETECTOR.name, table)?;
    let matters = Matters::new(settings.max_keys, Duration::from_secs(3_600));
    let transports = Keyed::new(settings.max_keys.saturating_mul(4), Duration::from_secs(3_600));
    Ok(Box::new(PortMismatch { works: Works::new(segment), settings, matters, transports }))
}

impl Detector for PortMismatch {
    fn observe(&mut self, observation: &Observation, out: &mut Findings) {
        self.works.observe(observation);
        let Some(wire) = observation.wire else { return };
        match &observation.fact {
            Fact::FlowOpened(opening) => {
                if let Some(flow) = observation.flow {
                    self.transports.touch(&flow, observation.at, || opening.protocol);
                }
            }
            Fact::Identified(identified) if identified.both => {
                if let Some(why) = self.why(identified.protocol, wire) {
                    self.tell(observation, why, identified.protocol, wire, Some(identified), out);
                }
            }
            Fact::Flow(flow) if flow.is_final() => self.flow(observation, flow, wire, out),
            _ => {}
        }
    }

    fn tick(&mut self, now: Timestamp, _: &mut Findings) {
        self.matters.tick(now);
        while self.transports.pop_due(now).is_some() {}
    }

    fn evicted(&self) -> u64 {
        self.matters.evicted().saturating_add(self.transports.evicted())
    }
}

impl PortMismatch {
    fn why(&self, protocol: &'static str, wire: Tuple) -> Option<Why> {
        let Tuple { source, destination } = wire;
        if self.works.allow(source.ip, destination.port) {
            return None;
        }
        let segment = &self.works.segment;
        let declared = segment.open.iter().find(|open| open.address == destination.ip && open.port == destination.port);
        if let Some(open) = declared {
            return (open.protocol != "unknown" && !same(&open.protocol, protocol)).then_some(Why::Declared);
        }
        if segment.is_decoy(destination.ip) {
            return Some(Why::Undeclared);
        }
        if is_usual(protocol, destination.port) {
            return None;
        }
        Some(if registered(destination.port).is_some() { Why::Registered } else { Why::Unlisted })
    }

    /// What the flow's record says that nothing said before.
    fn flow(&mut self, observation: &Observation, flow: &Flow, wire: Tuple, out: &mut Findings) {
        let whole = flow.established && flow.direction == DirectionBasis::Syn;
        if flow.protocol != 6 || !whole {
            return;
        }
        match &flow.application {
            Some(application) if application.both => {}
            Some(application) => {
                let Some(protocol) = known(&application.protocol) else { return };
                // One side alone says little where nothing else is expected.
                if matches!(self.why(protocol, wire), Some(Why::Declared | Why::Registered)) {
                    self.tell(observation, Why::OneSide, protocol, wire, None, out);
                }
            }
            None => {
                let sides = [&flow.sent, &flow.received];
                let noise = |side: &&glasshive_event::flow::Side| {
                    side.payload_bytes >= self.settings.entropy_bytes && side.missed_bytes == 0 && side.entropy >= self.settings.entropy
                };
                let open = self.works.segment.open(wire.destination.ip, wire.destination.port, "tcp");
                let expected = open.is_none_or(|open| open.protocol != "unknown");
                if WATCHED.contains(&wire.destination.port) && expected && sides.iter().all(noise) {
                    self.tell(observation, Why::Unknown, "unknown", wire, None, out);
                }
            }
        }
    }

    fn tell(
        &mut self,
        observation: &Observation,
        why: Why,
        protocol: &'static str,
        wire: Tuple,
        said: Option<&Identified>,
        out: &mut Findings,
    ) {
        let number = match &observation.fact {
            Fact::Flow(flow) => Some(flow.protocol),
            _ => observation.flow.and_then(|flow| self.transports.get(&flow).copied()),
        };
        // Without the transport the ends alone say which packets: ports are of TCP first of all.
        let Some(mut contact) = Contact::of(observation, number.unwrap_or(6)) else { return };
        contact.packets.protocol = number;
        if let Fact::Flow(flow) = &observation.fact {
            contact.at = flow.last;
        }
        // The client's port changes from flow to flow; the matter stays.
        let ends_only = Tuple { source: Endpoint { port: 0, ..wire.source }, ..wire };
        let key = (why, number, ends_only, protocol);
        let value = observation.flow.map_or(Value::Number(observation.at.0 as u64), Value::Flow);
        if let Some(told) = self.matters.add(&key, value, contact, &Rule::at_once()) {
            out.push(finding(why, number, protocol, wire, &told, said));
        }
    }
}

fn finding(why: Why, number: Option<u8>, protocol: &'static str, wire: Tuple, told: &Told, said: Option<&Identified>) -> Finding {
    let Tuple { source, destination } = wire;
    let port = destination.port;
    let expected = registered(port).unwrap_or("nothing known");
    let own = if is_serious(protocol) { Severity::Medium } else { Severity::Low };
    let (word, severity, confidence, reason) = match why {
        Why::Declared => ("declared", Severity::High, 90, format!("this decoy's port {port} is declared for another protocol")),
        Why::Undeclared => ("undeclared", Severity::High, 85, format!("the decoy offers nothing on port {port}")),
        Why::Registered => ("registered", Severity::High, 80, format!("port {port} is registered for {expected}")),
        Why::Unlisted if is_alternative(protocol, port) => {
            ("unlisted", Severity::Info, 30, format!("port {port} is an alternative one, registered for nothing known"))
        }
        Why::Unlisted => ("unlisted", own, 60, format!("port {port} is registered for nothing known")),
        Why::OneSide => {
            ("one-side", Severity::Info, 25, format!("port {port} is another protocol's, and the other side did not answer it"))
        }
        Why::Unknown => ("unknown", Severity::Medium, 50, format!("port {port} is registered for {expected}")),
    };
    let transport = if number == Some(17) { "udp" } else { "tcp" };
    let spoken = if why == Why::Unknown { "bytes of no known protocol and without pattern".to_owned() } else { protocol.to_owned() };
    let sides = if why == Why::OneSide { "one side speaks" } else { "both sides speak" };
    let mut evidence = vec![told.evidence("flows")];
    if let Some(said) = said {
        let [client, server] = &said.samples;
        let samples = vec![format!("client {client}"), format!("server {server}")];
        evidence.push(Evidence { metric: "first_bytes", value: 2.0, threshold: 2.0, window_s: 0, samples });
    }
    // Remote control through a port meant to carry something else is an encapsulation nobody expects.
    let unusual = why == Why::Registered && is_control(protocol);
    Finding {
        at: told.at,
        first: told.first,
        key: format!("{word} {transport} {} {destination} {protocol}", source.ip),
        severity,
        confidence,
        techniques: vec!["T1571"],
        use_cases: if unusual { vec!["DUC0159"] } else { Vec::new() },
        actor: Some(source.ip),
        target: Some(destination.ip),
        summary: format!("{sides} {spoken} on {transport} port {port} of {}: {reason}.", destination.ip),
        evidence,
        sessions: told.sessions.clone(),
        flows: told.flows.clone(),
        flow_count: told.flow_count,
        scope: told.scope(ends(number, wire, false, true)),
    }
}

/// Whether a declared protocol is that one, by the names the probe gives.
fn same(declared: &str, spoken: &str) -> bool {
    declared == spoken || matches!((declared, spoken), ("http", "http2") | ("smb", "smb1" | "smb2" | "netbios-session"))
}

#[cfg(test)]
mod tests;
