//! `remote_service`: who uses, guesses at and gets into the decoys' services (T1021, T1110, T1078).
//!
//! All of it is a decoy's own truth: a login was refused or accepted because the decoy says so. A bare
//! connect raises nothing, it is a scan's matter. Guessing and the login it led to are told apart, and
//! the second names the first. Guessing is called spraying where few secrets meet many accounts, and
//! stuffing where every account meets its own; both need the keyed hash of the secret, without which
//! it is guessing.
//!
//! Known misses: guesses slower than the window; one actor behind many addresses; keys offered and
//! refused count once a session, because an honest client offers several.

mod labels;

use crate::matter::{Contact, MAX_THRESHOLD, Matters, Rule, Told, Value, cut};
use crate::window::{Distinct, Keyed};
use crate::works::Works;
use crate::{BuildError, Detector, DetectorDef, Evidence, Finding, Findings, Segment, Severity, Site, settings};
use glasshive_event::observation::{Fact, Login, Observation, SessionOpened};
use glasshive_event::{Flow, PacketMatch, SessionId, Timestamp, Tuple};
use labels::{Guessing, remote, service};
use serde::Deserialize;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

pub(crate) const DETECTOR: DetectorDef = DetectorDef {
    name: "remote_service",
    version: 1,
    site: Site::Fusion,
    techniques: &[
        "T1021",
        "T1021.001",
        "T1021.002",
        "T1021.003",
        "T1021.004",
        "T1021.005",
        "T1021.006",
        "T1110",
        "T1110.001",
        "T1110.003",
        "T1110.004",
        "T1078",
        "T1059",
        "T1133",
    ],
    use_cases: &[],
    summary: "Tells who uses a decoy's remote services, guesses its logins, gets in and types commands, and decoys that reach out.",
    topology: "Decoys alone, for what comes to them; a decoy that reaches out needs a sensor on the segment.",
    build,
};

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Settings {
    /// Refused logins of one source at one service within five minutes.
    failures: u64,
    /// Or so many accounts among them.
    users: u64,
    /// Refused logins from where on it is told again, and high.
    many: u64,
    /// Decoys guessed at from where on it is high.
    targets: u64,
    /// Sources, sessions and services remembered.
    max_keys: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { failures: 5, users: 3, many: 30, targets: 3, max_keys: 16_384 }
    }
}

const WINDOW: Duration = Duration::from_secs(300);
const HOUR: Duration = Duration::from_secs(3_600);

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Key {
    Guesses { source: IpAddr, service: String },
    Accepted { source: IpAddr, decoy: IpAddr, service: String },
    Used { source: IpAddr, decoy: IpAddr, service: String },
    Commands { source: IpAddr, decoy: IpAddr, service: String },
    Outbound { decoy: IpAddr, target: IpAddr, service: &'static str },
}

/// A session as it began.
struct Seen {
    wire: Tuple,
    source: IpAddr,
    service: String,
    protocol: u8,
    at: Timestamp,
}

/// What a source tried at one service.
struct Tries {
    refused: u64,
    within: Distinct<Box<str>>,
    users: Distinct<Box<str>>,
    secrets: Distinct<Box<str>>,
    pairs: Distinct<Box<str>>,
    decoys: Distinct<IpAddr>,
}

impl Tries {
    fn new() -> Self {
        Self {
            refused: 0,
            within: Distinct::new(WINDOW, 64),
            users: Distinct::new(HOUR, 256),
            secrets: Distinct::new(HOUR, 256),
            pairs: Distinct::new(HOUR, 512),
            decoys: Distinct::new(HOUR, 64),
        }
    }
}

struct RemoteService {
    works: Works,
    settings: Settings,
    sessions: Keyed<SessionId, Seen>,
    tries: Keyed<(IpAddr, String), Tries>,
    matters: Matters<Key>,
}

fn build(table: &toml::Table, segment: &Arc<Segment>) -> Result<Box<dyn Detector>, BuildError> {
    let settings: Settings = settings(DETECTOR.name, table)?;
    for (key, value) in [("failures", settings.failures), ("users", settings.users), ("many", settings.many), ("targets", settings.targets)]
    {
        if !(1..=MAX_THRESHOLD).contains(&value) {
            return Err(BuildError { detector: DETECTOR.name, why: format!("{key} must be from 1 to {MAX_THRESHOLD}") });
        }
    }
    Ok(Box::new(RemoteService {
        works: Works::new(segment),
        sessions: Keyed::new(settings.max_keys, HOUR),
        // What is kept of a source's guesses is large.
        tries: Keyed::new((settings.max_keys / 16).max(16), HOUR),
        matters: Matters::new(settings.max_keys, HOUR),
        settings,
    }))
}

impl Detector for RemoteService {
    fn observe(&mut self, observation: &Observation, out: &mut Findings) {
        self.works.observe(observation);
        match &observation.fact {
            Fact::SessionOpened(opened) => self.opened(observation, opened),
            Fact::Login(login) => self.login(observation, login, out),
            Fact::Command { .. } => self.command(observation, out),
            Fact::Flow(flow) => self.outbound(observation, flow, out),
            _ => {}
        }
    }

    fn tick(&mut self, now: Timestamp, _: &mut Findings) {
        self.matters.tick(now);
        while self.sessions.pop_due(now).is_some() {}
        while self.tries.pop_due(now).is_some() {}
    }

    fn evicted(&self) -> u64 {
        [self.matters.evicted(), self.sessions.evicted(), self.tries.evicted()].iter().fold(0, |sum, part| sum.saturating_add(*part))
    }
}

impl RemoteService {
    fn opened(&mut self, observation: &Observation, opened: &SessionOpened) {
        let (Some(session), Some(wire)) = (observation.session, observation.wire) else { return };
        let seen = Seen {
            wire,
            source: opened.claimed.map_or(wire.source.ip, |claimed| claimed.ip),
            service: cut(&opened.service).to_owned(),
            protocol: if opened.transport == "udp" { 17 } else { 6 },
            at: observation.at,
        };
        self.sessions.touch(&session, observation.at, || seen);
    }

    /// Who, where, on what service, and the contact with the session's packets.
    fn contact(&mut self, observation: &Observation, named: &str) -> Option<(IpAddr, IpAddr, String, Contact)> {
        let seen = observation.session.filter(|session| self.sessions.get(session).is_some()).map(|session| {
            // Touched, so that a long session is not forgotten.
            let none = || Seen {
                wire: Tuple::default(),
                source: IpAddr::from([0, 0, 0, 0]),
                service: String::new(),
                protocol: 6,
                at: observation.at,
            };
            let seen = self.sessions.touch(&session, observation.at, none);
            (seen.wire, seen.source, seen.service.clone(), seen.protocol, seen.at)
        });
        let (wire, source, service, protocol, began) = match (seen, observation.wire) {
            (Some(seen), _) => seen,
            (None, Some(wire)) => (wire, wire.source.ip, cut(named).to_owned(), 6, observation.at),
            (None, None) => return None,
        };
        if self.works.allow(source, wire.destination.port) {
            return None;
        }
        let packets = PacketMatch::tuple(protocol, wire, began.min(observation.at), observation.at);
        let contact = Contact { at: observation.at, flow: observation.flow, session: observation.session, packets };
        Some((source, wire.destination.ip, service, contact))
    }

    fn login(&mut self, observation: &Observation, login: &Login, out: &mut Findings) {
        // "none" asks which methods there are (RFC 4252 §5.2).
        if login.method == "none" && !login.accepted {
            return;
        }
        let Some((source, decoy, service, contact)) = self.contact(observation, &login.service) else { return };
        let user = cut(&login.user.shown()).to_owned();
        if remote(&service).is_some() {
            let key = Key::Used { source, decoy, service: service.clone() };
            if let Some(told) = self.matters.add(&key, session_value(observation), contact.clone(), &Rule::at_once()) {
                out.push(self.used(&service, source, decoy, &told));
            }
        }
        if login.accepted {
            let refused = self.tries.get(&(source, service.clone())).map_or(0, |tries| tries.refused);
            let key = Key::Accepted { source, decoy, service: service.clone() };
            // Every accepted login is one value; the account is what people want to see.
            let value = Value::text(&format!("{user} at {}", observation.at));
            if let Some(told) = self.matters.add(&key, value, contact, &Rule::at_once()) {
                out.push(self.accepted(&service, source, decoy, refused, &told));
            }
        } else {
            self.refused(observation, login, (source, decoy, service, contact), user, out);
        }
    }

    fn refused(
        &mut self,
        observation: &Observation,
        login: &Login,
        (source, decoy, service, contact): (IpAddr, IpAddr, String, Contact),
        user: String,
        out: &mut Findings,
    ) {
        let now = observation.at;
        let key = (source, service.clone());
        let tries = self.tries.touch(&key, now, Tries::new);
        tries.refused = tries.refused.saturating_add(1);
        tries.within.add(now, user.as_str().into());
        tries.users.add(now, user.as_str().into());
        tries.decoys.add(now, decoy);
        if let Some(pivot) = &login.pivot {
            tries.secrets.add(now, cut(pivot).into());
            tries.pairs.add(now, format!("{user} {}", cut(pivot)).into());
        }
        // An honest client offers each of its keys: they count once a session.
        let value = match (login.method.as_str(), observation.session) {
            ("publickey", Some(session)) => Value::text(&format!("keys in {session}")),
            _ => Value::text(&format!("{user} #{}", tries.refused)),
        };
        let spread = tries.within.tally(now).count as u64 >= self.settings.users;
        let opens = if spread { self.settings.users.min(self.settings.failures) } else { self.settings.failures };
        let rule = Rule { opens: vec![(opens, WINDOW)], again: self.settings.many };
        let told = self.matters.add(&Key::Guesses { source, service: service.clone() }, value, contact, &rule);
        if let Some(told) = told {
            let guessing = self.guessing(&key, now);
            out.push(self.guessed(&service, source, decoy, &guessing, &told));
        }
    }

    fn guessing(&mut self, key: &(IpAddr, String), now: Timestamp) -> Guessing {
        let tries = self.tries.touch(key, now, Tries::new);
        let count = |tally: crate::window::Tally| tally.count as u64;
        Guessing {
            users: count(tries.users.tally(now)),
            secrets: count(tries.secrets.tally(now)),
            pairs: count(tries.pairs.tally(now)),
            decoys: count(tries.decoys.tally(now)),
            names: {
                let mut names: Vec<String> = tries.users.values().map(|name| name.to_string()).collect();
                names.sort_unstable();
                names.truncate(Evidence::MAX_SAMPLES);
                names
            },
        }
    }

    fn command(&mut self, observation: &Observation, out: &mut Findings) {
        let Some((source, decoy, service, contact)) = self.contact(observation, "") else { return };
        let key = Key::Commands { source, decoy, service: service.clone() };
        let Fact::Command { input } = &observation.fact else { return };
        let value = Value::text(&format!("{} at {}", cut(&input.shown()), observation.at));
        if let Some(told) = self.matters.add(&key, value, contact, &Rule::at_once()) {
            out.push(self.commands(&service, source, decoy, &told));
        }
    }

    /// A decoy that connects to somebody's remote service: decoys never do.
    fn outbound(&mut self, observation: &Observation, flow: &Flow, out: &mut Findings) {
        let Tuple { source, destination } = flow.wire;
        if !flow.established || !self.works.segment.is_decoy(source.ip) {
            return;
        }
        let spoken = flow.application.as_ref().map(|application| application.protocol.as_str());
        let Some(name) = service(spoken, destination.port) else { return };
        let Some(mut contact) = Contact::of(observation, flow.protocol) else { return };
        (contact.at, contact.packets.until) = (flow.last, Some(flow.last));
        let key = Key::Outbound { decoy: source.ip, target: destination.ip, service: name };
        if let Some(told) = self.matters.add(&key, Value::Flow(flow.flow), contact, &Rule::at_once()) {
            out.push(self.reached_out(name, source.ip, destination.ip, &told));
        }
    }
}

fn session_value(observation: &Observation) -> Value {
    observation.session.map_or(Value::Number(observation.at.0 as u64), |session| Value::text(&session.to_string()))
}

/// The parts all findings share.
fn base(key: String, source: IpAddr, target: IpAddr, told: &Told, metric: &'static str) -> Finding {
    let later = PacketMatch::between(source, target);
    Finding {
        at: told.at,
        first: told.first,
        key,
        severity: Severity::Medium,
        confidence: 90,
        techniques: Vec::new(),
        use_cases: Vec::new(),
        actor: Some(source),
        target: Some(target),
        summary: String::new(),
        evidence: vec![told.evidence(metric)],
        sessions: told.sessions.clone(),
        flows: told.flows.clone(),
        flow_count: told.flow_count,
        scope: told.scope(later),
    }
}

#[cfg(test)]
mod tests;
