//! `reconcile`: what the wire carried against what the decoys say (DUC0089).
//!
//! Three things do not go together: a connection established to a declared port that no decoy knows
//! of, a session no sensor saw the packets of, and a session whose bytes are not those of its flow.
//! Each is told once both sides had time to say it. Nothing is told of a time in which a side was not
//! heard, or records were lost: that is counted as unknowable, because silence proves nothing.
//!
//! What does not go together has honest causes too (a sensor at the wrong port, a decoy that fell
//! over); the finding says both, and its confidence is low where they are likelier.
//!
//! Known misses: UDP; an interposer that passes every byte on unchanged; connections whose first packet
//! was not captured; bytes of sessions that ended by a deadline, a limit or a fault, which are not
//! compared.

mod judge;
mod pair;

use crate::matter::{Contact, Matters, Rule, Told, Value};
use crate::window::Keyed;
use crate::works::Works;
use crate::{BuildError, Detector, DetectorDef, Evidence, Finding, Findings, Segment, Severity, Site, settings};
use glasshive_event::observation::{Fact, Hole, Observation, SessionOpened, Watcher};
use glasshive_event::{Endpoint, Flow, PacketMatch, SessionId, Timestamp, Tuple};
use judge::{Lives, Mismatch, What};
use pair::{Flowed, Pair, Seated};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

pub(crate) const DETECTOR: DetectorDef = DetectorDef {
    name: "reconcile",
    version: 1,
    site: Site::Fusion,
    techniques: &["T1557", "T1599"],
    use_cases: &["DUC0089"],
    summary: "Compares the sensor's flows with the decoys' sessions: connections nobody served, sessions nobody saw, bytes that differ.",
    topology: "A sensor on the decoys' segment, with no address translation between, and decoys, both linked to the controller.",
    build,
};

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Settings {
    /// Seconds after its end until the other side of a session must have spoken.
    grace_s: u32,
    /// Seconds after which the sensor writes the first record of a flow that goes on: until then the
    /// flow of a session that the visitor did not end may still be open.
    record_s: u32,
    /// Bytes that may differ.
    bytes: u64,
    /// Connections remembered.
    max_keys: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { grace_s: 30, record_s: 300, bytes: 256, max_keys: 16_384 }
    }
}

const SECOND: i64 = 1_000_000_000;
/// Clocks of two nodes differ by less.
const APART: i64 = 5 * SECOND;
/// A side not heard for so long after an event is taken to be away.
const PATIENCE: i64 = 55 * SECOND;
const DAY: Duration = Duration::from_secs(86_400);

type Key = (What, IpAddr, Endpoint);

/// So many seconds later.
fn after(at: Timestamp, seconds: u32) -> i64 {
    at.0.saturating_add(i64::from(seconds).saturating_mul(SECOND))
}

struct Reconcile {
    works: Works,
    settings: Settings,
    pairs: Keyed<Tuple, Pair>,
    sessions: Keyed<SessionId, Tuple>,
    waiting: BTreeMap<(i64, u64), Tuple>,
    ticket: u64,
    lives: Lives,
    matters: Matters<Key>,
    unknowable: u64,
    forgotten: u64,
}

fn build(table: &toml::Table, segment: &Arc<Segment>) -> Result<Box<dyn Detector>, BuildError> {
    let settings: Settings = settings(DETECTOR.name, table)?;
    if settings.grace_s > 50 {
        return Err(BuildError { detector: DETECTOR.name, why: "grace_s must be at most 50: findings are due within 60 s".into() });
    }
    Ok(Box::new(Reconcile {
        works: Works::new(segment),
        pairs: Keyed::new(settings.max_keys, DAY),
        sessions: Keyed::new(settings.max_keys, DAY),
        waiting: BTreeMap::new(),
        ticket: 0,
        lives: Lives::default(),
        matters: Matters::new(settings.max_keys, DAY),
        unknowable: 0,
        forgotten: 0,
        settings,
    }))
}

impl Detector for Reconcile {
    fn observe(&mut self, observation: &Observation, _: &mut Findings) {
        self.works.observe(observation);
        match &observation.fact {
            Fact::Flow(flow) => {
                self.lives.heard(Watcher::Sensor, flow.first);
                self.lives.heard(Watcher::Sensor, flow.last);
                self.flow(flow);
            }
            Fact::SessionOpened(opened) => {
                self.lives.heard(Watcher::Decoys, observation.at);
                self.opened(observation, opened);
            }
            Fact::SessionClosed(closed) => {
                self.lives.heard(Watcher::Decoys, observation.at);
                let Some(session) = observation.session else { return };
                let Some(wire) = self.sessions.get(&session).copied() else { return };
                let at = observation.at;
                let Some(seat) = self.pairs.touch(&wire, at, Pair::default).seat(session) else { return };
                seat.close(at, closed);
                let due = seat.due(&self.settings);
                self.wait(due, wire);
            }
            Fact::Login(_) | Fact::Command { .. } => self.lives.heard(Watcher::Decoys, observation.at),
            Fact::Alive { watcher } => self.lives.heard(*watcher, observation.at),
            Fact::Hole(Hole { watcher, since, until }) => self.lives.hole(*watcher, *since, *until),
            _ => {}
        }
    }

    fn tick(&mut self, now: Timestamp, out: &mut Findings) {
        while let Some((&(due, ticket), _)) = self.waiting.first_key_value() {
            if due > now.0 {
                break;
            }
            if let Some(wire) = self.waiting.remove(&(due, ticket)) {
                self.judge(now, wire, out);
            }
        }
        self.matters.tick(now);
        while self.pairs.pop_due(now).is_some() {}
        while self.sessions.pop_due(now).is_some() {}
    }

    fn evicted(&self) -> u64 {
        [self.pairs.evicted(), self.sessions.evicted(), self.matters.evicted(), self.lives.forgotten()]
            .iter()
            .fold(self.forgotten, |sum, part| sum.saturating_add(*part))
    }

    fn unknowable(&self) -> u64 {
        self.unknowable
    }
}

impl Reconcile {
    fn flow(&mut self, flow: &Flow) {
        // Half-open and refused ones are no connections.
        if flow.protocol != 6 || !flow.established {
            return;
        }
        let segment = &self.works.segment;
        let declared = segment.open(flow.wire.destination.ip, flow.wire.destination.port, "tcp").is_some();
        if !declared && !segment.is_decoy(flow.wire.destination.ip) {
            return;
        }
        let dropped = self.pairs.touch(&flow.wire, flow.last, Pair::default).flow(Flowed::new(flow, declared));
        self.forgotten = self.forgotten.saturating_add(dropped);
        self.wait(after(flow.last, self.settings.grace_s), flow.wire);
    }

    fn opened(&mut self, observation: &Observation, opened: &SessionOpened) {
        let (Some(session), Some(wire)) = (observation.session, observation.wire) else { return };
        // A session inside another has no packets of its own, unless it came by its own connection.
        if opened.transport != "tcp" || (opened.parent.is_some() && opened.conn.is_none()) {
            return;
        }
        self.sessions.touch(&session, observation.at, || wire);
        let seat = Seated::new(session, observation.at, opened);
        let due = seat.due(&self.settings);
        let dropped = self.pairs.touch(&wire, observation.at, Pair::default).sit(seat);
        self.forgotten = self.forgotten.saturating_add(dropped);
        self.wait(due, wire);
    }

    fn wait(&mut self, due: i64, wire: Tuple) {
        if self.waiting.len() >= self.settings.max_keys.max(1).saturating_mul(4) && self.waiting.pop_first().is_some() {
            self.forgotten = self.forgotten.saturating_add(1);
        }
        self.ticket = self.ticket.wrapping_add(1);
        self.waiting.insert((due, self.ticket), wire);
    }

    fn judge(&mut self, now: Timestamp, wire: Tuple, out: &mut Findings) {
        let Some(pair) = self.pairs.get(&wire) else { return };
        let due = pair.due(now, &self.settings);
        let mut again = false;
        for found in due {
            if !self.lives.both_after(found.until) && now.0 < found.until.0.saturating_add(PATIENCE) {
                again = true;
                continue;
            }
            self.pairs.touch(&wire, found.until, Pair::default).settle(&found);
            if !found.mismatch {
                continue;
            }
            if self.lives.knows(found.since, found.until) {
                self.tell(&found, wire, out);
            } else {
                self.unknowable = self.unknowable.saturating_add(1);
            }
        }
        if again {
            self.wait(after(now, 1), wire);
        }
    }

    fn tell(&mut self, found: &Mismatch, wire: Tuple, out: &mut Findings) {
        let Tuple { source, destination } = wire;
        if self.works.allow(source.ip, destination.port) {
            return;
        }
        let packets = PacketMatch::tuple(6, wire, found.since, found.until);
        let contact = Contact { at: found.until, flow: found.flow, session: found.session, packets };
        let value = match (found.flow, found.session) {
            (Some(flow), _) => Value::Flow(flow),
            (None, Some(session)) => Value::text(&session.to_string()),
            (None, None) => Value::Number(found.until.0 as u64),
        };
        let key = (found.what, source.ip, destination);
        if let Some(told) = self.matters.add(&key, value, contact, &Rule::at_once()) {
            out.push(finding(found, wire, &told));
        }
    }
}

fn finding(found: &Mismatch, wire: Tuple, told: &Told) -> Finding {
    let Tuple { source, destination } = wire;
    let ends = format!("{} and {destination}", source.ip);
    let (name, severity, confidence, technique, words) = match found.what {
        What::NoSession => (
            "no-session",
            Severity::High,
            50,
            "T1557",
            format!(
                "a connection between {ends} was established on the wire, and no decoy knows of it: something answers in its place, or its record was lost unseen"
            ),
        ),
        What::NoFlow => (
            "no-flow",
            Severity::Medium,
            40,
            "T1599",
            format!(
                "the decoy served a session between {ends} whose packets no sensor saw: it came by another way, or the sensor does not see this decoy"
            ),
        ),
        What::Bytes => (
            "bytes",
            Severity::High,
            70,
            "T1557",
            format!("the bytes between {ends} differ on the wire from what the decoy counted: something between changes them"),
        ),
    };
    let mut evidence = vec![told.evidence("connections")];
    for (metric, wire, decoy) in found.counts {
        evidence.push(Evidence { metric, value: wire as f64, threshold: decoy as f64, window_s: 0, samples: Vec::new() });
    }
    Finding {
        at: told.at,
        first: told.first,
        key: format!("{name} {} {destination}", source.ip),
        severity,
        confidence,
        techniques: vec![technique],
        use_cases: vec!["DUC0089"],
        actor: Some(source.ip),
        target: Some(destination.ip),
        summary: format!("{words}."),
        evidence,
        sessions: told.sessions.clone(),
        flows: told.flows.clone(),
        flow_count: told.flow_count,
        scope: told.scope(PacketMatch {
            protocol: Some(6),
            b_port: Some(destination.port),
            ..PacketMatch::between(source.ip, destination.ip)
        }),
    }
}

#[cfg(test)]
mod tests;
