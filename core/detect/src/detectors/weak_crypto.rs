//! `weak_crypto`: encryption weaker than it should be (T1600), judged by what was agreed on.
//!
//! An offer is no agreement: a scanner that offers weak suites and is refused raises nothing. A decoy
//! declared weak is left alone. Three things are told: an agreement that is weak by itself, a server
//! that agreed on less than it did within a day although the client offered more (T1600 proper), and
//! a handshake that says of itself that it was pushed down (RFC 8446 §4.1.3).
//!
//! Known misses: TLS 1.3 certificates (encrypted), encryption inside other protocols, versions the
//! parsers do not read, IKE.

mod weakness;

use crate::matter::{Contact, Matters, Rule, Told, Value};
use crate::window::Keyed;
use crate::works::Works;
use crate::{BuildError, Detector, DetectorDef, Evidence, Finding, Findings, Segment, Severity, Site, settings};
use glasshive_event::observation::{Fact, Observation, TlsServer};
use glasshive_event::{Endpoint, FlowId, PacketMatch, Timestamp, Tuple};
use serde::Deserialize;
use std::sync::Arc;
use std::time::Duration;
use weakness::{TLS12, TLS13, Weakness};

pub(crate) const DETECTOR: DetectorDef = DetectorDef {
    name: "weak_crypto",
    version: 1,
    site: Site::Wire,
    techniques: &["T1600", "T1600.001", "T1557"],
    use_cases: &["DUC0089"],
    summary: "Finds weak agreements of TLS, SSL and SSH, servers that agree on less than before, and handshakes pushed down.",
    topology: "The sensor sees both directions of the handshake; traffic of real hosts needs a mirror port.",
    build,
};

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Settings {
    /// Fewest bits of an RSA or DSA key and of a Diffie-Hellman prime.
    bits: u32,
    /// Servers and weaknesses remembered.
    max_keys: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { bits: 2_048, max_keys: 8_192 }
    }
}

const DAY: Duration = Duration::from_secs(86_400);

/// The best agreement of a server within a day.
struct Best {
    version: u16,
    contact: Contact,
}

struct WeakCrypto {
    works: Works,
    settings: Settings,
    matters: Matters<(Endpoint, Weakness)>,
    /// Highest version a flow's client offered.
    offers: Keyed<FlowId, u16>,
    best: Keyed<Endpoint, Best>,
}

fn build(table: &toml::Table, segment: &Arc<Segment>) -> Result<Box<dyn Detector>, BuildError> {
    let settings: Settings = settings(DETECTOR.name, table)?;
    if settings.bits > 16_384 {
        return Err(BuildError { detector: DETECTOR.name, why: "bits must be at most 16384".into() });
    }
    Ok(Box::new(WeakCrypto {
        works: Works::new(segment),
        matters: Matters::new(settings.max_keys, DAY),
        offers: Keyed::new(settings.max_keys, Duration::from_secs(600)),
        best: Keyed::new(settings.max_keys, DAY),
        settings,
    }))
}

impl Detector for WeakCrypto {
    fn observe(&mut self, observation: &Observation, out: &mut Findings) {
        self.works.observe(observation);
        let Some(wire) = observation.wire else { return };
        let declared = self.works.segment.open(wire.destination.ip, wire.destination.port, "tcp").is_some_and(|open| open.weak);
        if declared || self.works.allow(wire.source.ip, wire.destination.port) {
            return;
        }
        let found = match &observation.fact {
            Fact::TlsClient(hello) => {
                if let Some(flow) = observation.flow {
                    self.offers.touch(&flow, observation.at, || hello.version);
                }
                return;
            }
            Fact::TlsServer(hello) => {
                self.downgrade(observation, hello, wire, out);
                weakness::tls(hello, self.settings.bits)
            }
            Fact::Certificate(certificate) => weakness::certificate(certificate, self.settings.bits),
            Fact::SshAgreed(agreed) => weakness::ssh(agreed),
            Fact::Identified(identified) if identified.both => weakness::spoken(identified),
            _ => return,
        };
        for weakness in found {
            let Some(contact) = Contact::of(observation, 6) else { return };
            let key = (wire.destination, weakness.clone());
            let value = observation.flow.map_or(Value::Number(observation.at.0 as u64), Value::Flow);
            if let Some(told) = self.matters.add(&key, value, contact, &Rule::at_once()) {
                // A decoy that is not declared weak is weaker than anybody meant it to be.
                let least = if self.works.segment.is_decoy(wire.destination.ip) { Severity::Medium } else { Severity::Info };
                let found = finding(&weakness, wire, &told);
                out.push(Finding { severity: found.severity.max(least), ..found });
            }
        }
    }

    fn tick(&mut self, now: Timestamp, _: &mut Findings) {
        self.matters.tick(now);
        while self.offers.pop_due(now).is_some() {}
        while self.best.pop_due(now).is_some() {}
    }

    fn evicted(&self) -> u64 {
        [self.matters.evicted(), self.offers.evicted(), self.best.evicted()].iter().fold(0, |sum, part| sum.saturating_add(*part))
    }
}

impl WeakCrypto {
    /// Less than the client offered, and the server gave before or says that it could give.
    fn downgrade(&mut self, observation: &Observation, hello: &TlsServer, wire: Tuple, out: &mut Findings) {
        let Some(contact) = Contact::of(observation, 6) else { return };
        let server = wire.destination;
        let agreed = weakness::rank(hello.version);
        if let Some(offered) = observation.flow.and_then(|flow| self.offers.get(&flow).copied()) {
            let value = observation.flow.map_or(Value::Number(0), Value::Flow);
            // With a client that offers no more than it got, the sentinel is what an honest server sends.
            if hello.downgrade_sentinel && agreed < TLS13 && offered >= if agreed < TLS12 { TLS12 } else { TLS13 } {
                let key = (server, Weakness::pushed_down(hello.version, offered));
                if let Some(told) = self.matters.add(&key, value.clone(), contact.clone(), &Rule::at_once()) {
                    out.push(finding(&key.1, wire, &told));
                }
            }
            let before = self.best.get(&server).filter(|best| {
                let age = observation.at.0.saturating_sub(best.contact.at.0);
                best.version.min(offered) > agreed && age <= i64::try_from(DAY.as_nanos()).unwrap_or(i64::MAX)
            });
            if let Some(best) = before {
                let key = (server, Weakness::regression(best.version, hello.version));
                // It rests on two handshakes: the better one before, and this.
                let two = Rule::new(2, DAY);
                let told = self.matters.add(&key, Value::Number(u64::from(best.version)), best.contact.clone(), &two);
                let told = told.or_else(|| self.matters.add(&key, value, contact.clone(), &two));
                if let Some(told) = told {
                    out.push(finding(&key.1, wire, &told));
                }
            }
        }
        if self.best.get(&server).is_none_or(|best| agreed >= best.version) {
            // The latest of the best: what is compared with must be within a day.
            self.best.remove(&server);
            self.best.touch(&server, observation.at, || Best { version: agreed, contact });
        }
    }
}

fn finding(weakness: &Weakness, wire: Tuple, told: &Told) -> Finding {
    let server = wire.destination;
    let mut evidence = vec![told.evidence("flows")];
    evidence.extend(weakness.measure.map(|(metric, value, threshold)| Evidence {
        metric,
        value: f64::from(value),
        threshold: f64::from(threshold),
        window_s: 0,
        samples: vec![weakness.what.clone()],
    }));
    let later = PacketMatch { protocol: Some(6), a: Some(server.ip), a_port: Some(server.port), ..PacketMatch::default() };
    Finding {
        at: told.at,
        first: told.first,
        key: format!("{} {server} {}", weakness.kind, weakness.what),
        severity: weakness.severity,
        confidence: weakness.confidence,
        techniques: weakness.techniques.to_vec(),
        use_cases: if weakness.techniques.contains(&"T1557") { vec!["DUC0089"] } else { Vec::new() },
        actor: Some(wire.source.ip),
        target: Some(server.ip),
        summary: format!("{server} agreed on weak encryption: {}; {}.", weakness.what, weakness.why),
        evidence,
        sessions: told.sessions.clone(),
        flows: told.flows.clone(),
        flow_count: told.flow_count,
        scope: told.scope(later),
    }
}

#[cfg(test)]
mod tests;
