//! `scan`: who looks for hosts and open ports (T1595.001 from outside, T1046 and T1018 inside).
//!
//! All first contacts count, not only failed ones, because decoys answer. Of hosts that are no
//! decoys only those contacts count that led to no connection. A scan is told at its threshold and
//! at each tenfold, apart for every target and every port, so that one never hides another.
//!
//! Not counted: flows whose first packet is an answer (backscatter, captures begun late), traceroute,
//! the net's own works, multicast and broadcast, a server's UDP answers whose question nobody saw,
//! passive data ports of a decoy's FTP. Known misses: a scan slower than its long window; a connect
//! scan of open ports on hosts that are no decoys; a source that changes its address.

mod contact;
mod finding;
mod web;

use crate::matter::{Contact, MAX_THRESHOLD, Matters, Rule, Told, Value};
use crate::window::Keyed;
use crate::works::Works;
use crate::{BuildError, Detector, DetectorDef, Finding, Findings, Segment, Site, settings};
use contact::{Probe, Tool, probe, tool};
use glasshive_event::observation::{Arp, Fact, Observation, Opening};
use glasshive_event::{Flow, Timestamp, Tuple};
use serde::Deserialize;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

pub(crate) const DETECTOR: DetectorDef = DetectorDef {
    name: "scan",
    version: 1,
    site: Site::Wire,
    techniques: &["T1595.001", "T1046", "T1018", "T1595.002", "T1595.003"],
    use_cases: &[],
    summary: "Looks for hosts, open ports and versions: port and host sweeps by SYN, FIN, NULL, Xmas, ACK, UDP, ICMP and ARP, fast and slow.",
    topology: "The sensor sees the packets to the decoys' addresses; ARP sweeps only within the segment.",
    build,
};

/// Thresholds; each is a number of distinct values within its window.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Settings {
    /// Ports of one host within a minute.
    ports: u64,
    /// Ports of one host within a day.
    slow_ports: u64,
    /// UDP ports of one decoy within a minute.
    udp_ports: u64,
    /// UDP ports of another host within a minute.
    other_udp_ports: u64,
    /// Decoys at one port within five minutes (at most half of them, at least 2).
    decoys: u64,
    /// Other hosts at one port within five minutes.
    other_hosts: u64,
    /// Packets no connection begins with, from where on it is more than an oddity.
    stealth: u64,
    /// Decoys asked by ICMP within five minutes (at most half of them, at least 2).
    echo_decoys: u64,
    /// Other hosts asked by ICMP within five minutes.
    other_echo_hosts: u64,
    /// Addresses asked for by ARP within a minute.
    arp: u64,
    /// IP protocols of one host within five minutes.
    protocols: u64,
    /// Answers "not found" of one server within a minute.
    not_found: u64,
    /// Sources and targets remembered.
    max_keys: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            ports: 8,
            slow_ports: 15,
            udp_ports: 5,
            other_udp_ports: 15,
            decoys: 3,
            other_hosts: 25,
            stealth: 3,
            echo_decoys: 4,
            other_echo_hosts: 10,
            arp: 16,
            protocols: 8,
            not_found: 20,
            max_keys: 16_384,
        }
    }
}

const MINUTE: Duration = Duration::from_secs(60);
const FIVE_MINUTES: Duration = Duration::from_secs(300);
const DAY: Duration = Duration::from_secs(86_400);

/// What is counted together.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Key {
    Ports { protocol: u8, probe: Probe, source: IpAddr, target: IpAddr },
    Hosts { protocol: u8, port: u16, source: IpAddr, decoys: bool },
    Echo { source: IpAddr, decoys: bool },
    Arp { source: IpAddr, mac: String },
    Protocols { source: IpAddr, target: IpAddr },
    Web { what: web::Sign, source: IpAddr, target: IpAddr, port: u16 },
}

impl Key {
    fn source(&self) -> IpAddr {
        match self {
            Self::Ports { source, .. }
            | Self::Hosts { source, .. }
            | Self::Echo { source, .. }
            | Self::Arp { source, .. }
            | Self::Protocols { source, .. }
            | Self::Web { source, .. } => *source,
        }
    }
}

/// Of rules for other hosts and for decoys, the one that applies.
fn pick(rules: &[Rule; 2], decoys: bool) -> &Rule {
    let [others, own] = rules;
    if decoys { own } else { others }
}

struct Scan {
    works: Works,
    matters: Matters<Key>,
    rules: Rules,
    /// First packets of a source that look like one tool's.
    tools: Keyed<(IpAddr, Tool), u64>,
}

struct Rules {
    ports: Rule,
    udp: [Rule; 2],
    hosts: [Rule; 2],
    stealth: Rule,
    echo: [Rule; 2],
    arp: Rule,
    protocols: Rule,
    tool: Rule,
    not_found: Rule,
}

fn build(table: &toml::Table, segment: &Arc<Segment>) -> Result<Box<dyn Detector>, BuildError> {
    let set: Settings = settings(DETECTOR.name, table)?;
    for (key, value) in [
        ("ports", set.ports),
        ("slow_ports", set.slow_ports),
        ("udp_ports", set.udp_ports),
        ("other_udp_ports", set.other_udp_ports),
        ("decoys", set.decoys),
        ("other_hosts", set.other_hosts),
        ("stealth", set.stealth),
        ("echo_decoys", set.echo_decoys),
        ("other_echo_hosts", set.other_echo_hosts),
        ("arp", set.arp),
        ("protocols", set.protocols),
        ("not_found", set.not_found),
    ] {
        if !(1..=MAX_THRESHOLD).contains(&value) {
            return Err(BuildError { detector: DETECTOR.name, why: format!("{key} must be from 1 to {MAX_THRESHOLD}") });
        }
    }
    // There are few decoys: half of them is much.
    let half = (segment.addresses().len() as u64).div_ceil(2).max(2);
    let rules = Rules {
        ports: Rule { opens: vec![(set.ports, MINUTE), (set.slow_ports, DAY)], again: set.ports },
        udp: [Rule::new(set.other_udp_ports, MINUTE), Rule::new(set.udp_ports, MINUTE)],
        hosts: [Rule::new(set.other_hosts, FIVE_MINUTES), Rule::new(set.decoys.min(half), FIVE_MINUTES)],
        stealth: Rule { opens: vec![(1, MINUTE)], again: set.stealth },
        echo: [Rule::new(set.other_echo_hosts, FIVE_MINUTES), Rule::new(set.echo_decoys.min(half), FIVE_MINUTES)],
        arp: Rule::new(set.arp, MINUTE),
        protocols: Rule::new(set.protocols, FIVE_MINUTES),
        tool: Rule::at_once(),
        not_found: Rule::new(set.not_found, MINUTE),
    };
    Ok(Box::new(Scan { works: Works::new(segment), matters: Matters::new(set.max_keys, DAY), rules, tools: Keyed::new(256, DAY) }))
}

impl Detector for Scan {
    fn observe(&mut self, observation: &Observation, out: &mut Findings) {
        self.works.observe(observation);
        match &observation.fact {
            Fact::FlowOpened(opening) => self.opened(observation, opening, out),
            Fact::Established => self.connected(observation, 6),
            Fact::Identified(identified) if identified.both => self.connected(observation, 17),
            Fact::Arp(arp) => self.arp(observation.at, arp, out),
            Fact::Flow(flow) => self.refused(observation, flow, out),
            Fact::HttpRequest(request) => {
                if let Some(sign) = web::request(request) {
                    self.web(observation, sign, out);
                }
            }
            Fact::HttpResponse(response) if response.status == 404 => self.web(observation, web::Sign::NotFound, out),
            _ => {}
        }
    }

    fn tick(&mut self, now: Timestamp, _: &mut Findings) {
        self.matters.tick(now);
    }

    fn evicted(&self) -> u64 {
        self.matters.evicted()
    }
}

impl Scan {
    fn opened(&mut self, observation: &Observation, opening: &Opening, out: &mut Findings) {
        let Some(wire) = observation.wire else { return };
        let Tuple { source, destination } = wire;
        if self.works.allow(source.ip, destination.port) {
            return;
        }
        let Some(probe) = probe(opening, wire) else { return };
        let Some(contact) = Contact::of(observation, opening.protocol) else { return };
        let tool = tool(opening, destination);
        if let Some(tool) = tool {
            let seen = self.tools.touch(&(source.ip, tool), observation.at, || 0);
            *seen = seen.saturating_add(1);
        }
        let decoys = self.works.segment.is_decoy(destination.ip);
        let (protocol, target) = (opening.protocol, destination.ip);
        let mut add = |scan: &mut Self, key: Key, value: Value, rule: &dyn Fn(&Rules) -> &Rule| {
            let told = scan.matters.add(&key, value, contact.clone(), rule(&scan.rules));
            if let Some(told) = told {
                out.push(scan.finding(&key, &told, tool));
            }
        };
        match probe {
            Probe::Echo => add(self, Key::Echo { source: source.ip, decoys }, Value::Host(target), &|rules| pick(&rules.echo, decoys)),
            Probe::Protocol => {
                let value = Value::Number(u64::from(protocol));
                add(self, Key::Protocols { source: source.ip, target }, value, &|rules| &rules.protocols);
            }
            _ => {
                let key = Key::Ports { protocol, probe, source: source.ip, target };
                add(self, key, Value::Port(destination.port), &|rules| match (probe, protocol) {
                    (Probe::Stealth(_), _) => &rules.stealth,
                    (_, 17) => pick(&rules.udp, decoys),
                    _ => &rules.ports,
                });
                let key = Key::Hosts { protocol, port: destination.port, source: source.ip, decoys };
                add(self, key, Value::Host(target), &|rules| pick(&rules.hosts, decoys));
            }
        }
    }

    /// What answered as a service does was no probe, unless a decoy answered.
    fn connected(&mut self, observation: &Observation, protocol: u8) {
        let Some(Tuple { source, destination }) = observation.wire else { return };
        let segment = &self.works.segment;
        let decoys = segment.is_decoy(destination.ip);
        let passive = protocol == 6
            && destination.port >= 1024
            && segment.open(destination.ip, destination.port, "tcp").is_none()
            && segment.open.iter().any(|open| open.address == destination.ip && open.protocol == "ftp");
        if decoys && !passive {
            return;
        }
        let probe = Probe::Connect;
        let ports = Key::Ports { protocol, probe, source: source.ip, target: destination.ip };
        self.matters.withdraw(&ports, &Value::Port(destination.port), observation.flow);
        let hosts = Key::Hosts { protocol, port: destination.port, source: source.ip, decoys };
        self.matters.withdraw(&hosts, &Value::Host(destination.ip), observation.flow);
    }

    fn arp(&mut self, at: Timestamp, arp: &Arp, out: &mut Findings) {
        // Probes and announcements ask for the own address (RFC 5227).
        if arp.operation != 1 || arp.sender == arp.target || arp.sender.is_unspecified() {
            return;
        }
        if self.works.allow(arp.sender, 0) {
            return;
        }
        let key = Key::Arp { source: arp.sender, mac: arp.frame_mac.chars().take(17).collect() };
        let contact = Contact::arp(at, arp.sender, arp.target);
        if let Some(told) = self.matters.add(&key, Value::Host(arp.target), contact, &self.rules.arp) {
            out.push(self.finding(&key, &told, None));
        }
    }

    /// "Protocol unreachable" answers show a protocol scan whose questions carry no ports.
    fn refused(&mut self, observation: &Observation, flow: &Flow, out: &mut Findings) {
        let wire = Tuple { source: flow.wire.destination, destination: flow.wire.source };
        if !matches!(flow.icmp, Some((3, 2))) || !flow.is_final() || self.works.allow(wire.source.ip, 0) {
            return;
        }
        let key = Key::Protocols { source: wire.source.ip, target: wire.destination.ip };
        let times = flow.sent.packets.min(MAX_THRESHOLD);
        for number in 0..times {
            let Some(mut contact) = Contact::of(observation, flow.protocol) else { return };
            contact.at = flow.last;
            // Refusals are counted apart from protocols seen: those are below 256.
            let told = self.matters.add(&key, Value::Number(number.saturating_add(256)), contact, &self.rules.protocols);
            if let Some(told) = told {
                out.push(self.finding(&key, &told, None));
            }
        }
    }

    fn web(&mut self, observation: &Observation, what: web::Sign, out: &mut Findings) {
        let Some(wire) = observation.wire else { return };
        let Tuple { source, destination } = wire;
        if self.works.allow(source.ip, destination.port) {
            return;
        }
        let Some(contact) = Contact::of(observation, 6) else { return };
        let key = Key::Web { what, source: source.ip, target: destination.ip, port: destination.port };
        let (value, rule) = match what {
            // Each answer counts once.
            web::Sign::NotFound => (Value::Text(format!("{:?}{}", observation.flow, observation.at.0).into()), &self.rules.not_found),
            _ => (observation.flow.map_or(Value::Number(0), Value::Flow), &self.rules.tool),
        };
        if let Some(told) = self.matters.add(&key, value, contact, rule) {
            out.push(self.finding(&key, &told, None));
        }
    }

    /// The finding of a told matter; `last` is the tool the last contact looked like.
    fn finding(&self, key: &Key, told: &Told, last: Option<Tool>) -> Finding {
        let tool = last.filter(|tool| {
            let source = key.source();
            self.tools.get(&(source, *tool)).copied().unwrap_or(0).saturating_mul(2) >= told.count
        });
        finding::make(key, told, tool, &self.works.segment, self.rules.stealth.again)
    }
}

#[cfg(test)]
mod tests;
