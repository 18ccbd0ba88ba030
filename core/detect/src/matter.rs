//! Matters: what a detector knows of one key, from the first contact to the last step it told.
//!
//! A matter opens when enough distinct values were seen within a window, and is told then and at
//! each tenfold. What it tells depends only on the contacts of its own key, and its packet selection
//! holds every contact it rests on: so the same packets read from an export open the same matter at
//! the same contact with the same first evidence, and its finding has the same id.
//!
//! Late contacts count where they still fall into the window; nothing here fails on any order.

use crate::window::{Keyed, Steps};
use crate::{Evidence, Finding};
use glasshive_event::observation::Observation;
use glasshive_event::{FlowId, PacketMatch, PacketScope, SessionId, Timestamp, Tuple};
use std::collections::HashSet;
use std::fmt;
use std::hash::{BuildHasher, Hash, RandomState};
use std::net::IpAddr;
use std::time::Duration;

/// Most contacts a matter may need to open: each is one part of the packet selection, and one more
/// part is for what follows.
pub(crate) const MAX_THRESHOLD: u64 = Finding::MAX_MATCHES as u64 - 4;
/// A matter nobody touched for so long is closed; the next contact begins another.
const IDLE: Duration = Duration::from_secs(3_600);
/// Most distinct values counted of one matter; behind them the count is "at least".
const MAX_VALUES: u64 = 2_048;
/// Longest value or sample kept, in bytes.
const MAX_TEXT: usize = 128;

/// What a matter counts.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Value {
    /// A port.
    Port(u16),
    /// A host.
    Host(IpAddr),
    /// A number.
    Number(u64),
    /// A flow.
    Flow(FlowId),
    /// Words, cut to a bound.
    Text(Box<str>),
}

impl Value {
    /// Words as a value, cut to the bound.
    pub(crate) fn text(text: &str) -> Self {
        Self::Text(cut(text).into())
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Port(port) => port.fmt(f),
            Self::Host(host) => host.fmt(f),
            Self::Number(number) => number.fmt(f),
            Self::Flow(flow) => flow.fmt(f),
            Self::Text(text) => text.fmt(f),
        }
    }
}

/// One piece of evidence: when, and the packets that show it.
#[derive(Debug, Clone)]
pub(crate) struct Contact {
    /// When.
    pub(crate) at: Timestamp,
    /// Its flow.
    pub(crate) flow: Option<FlowId>,
    /// Its session.
    pub(crate) session: Option<SessionId>,
    /// Its packets; the end is set when the matter is told.
    pub(crate) packets: PacketMatch,
}

impl Contact {
    /// The packets of the observation's flow, from its first to this one.
    pub(crate) fn of(observation: &Observation, protocol: u8) -> Option<Self> {
        let wire = observation.wire?;
        let at = observation.at;
        Some(Self {
            at,
            flow: observation.flow,
            session: observation.session,
            packets: PacketMatch::tuple(protocol, wire, opened(observation), at),
        })
    }

    /// An ARP packet.
    pub(crate) fn arp(at: Timestamp, sender: IpAddr, target: IpAddr) -> Self {
        let packets = PacketMatch { arp: true, since: Some(at), until: Some(at), ..PacketMatch::between(sender, target) };
        Self { at, flow: None, session: None, packets }
    }
}

/// When the observation's flow began: its flow id says so, to the millisecond.
pub(crate) fn opened(observation: &Observation) -> Timestamp {
    observation.flow.map_or(observation.at, |flow| flow.opened().min(observation.at))
}

/// When a matter opens.
#[derive(Debug, Clone)]
pub(crate) struct Rule {
    /// So many distinct values within so long; the first that holds.
    pub(crate) opens: Vec<(u64, Duration)>,
    /// It is told again from here on, at each tenfold.
    pub(crate) again: u64,
}

impl Rule {
    /// One threshold.
    pub(crate) fn new(threshold: u64, window: Duration) -> Self {
        Self { opens: vec![(threshold, window)], again: threshold }
    }

    /// The first contact opens it.
    pub(crate) fn at_once() -> Self {
        Self::new(1, IDLE)
    }
}

/// A matter as it is told.
#[derive(Debug)]
pub(crate) struct Told {
    /// Earliest contact it rests on.
    pub(crate) first: Timestamp,
    /// Time of the contact that made it told.
    pub(crate) at: Timestamp,
    /// Distinct values so far.
    pub(crate) count: u64,
    /// Whether values were left uncounted for want of room.
    pub(crate) at_least: bool,
    /// Threshold it opened at.
    pub(crate) threshold: u64,
    /// Window it opened in.
    pub(crate) window: Duration,
    /// Whether it opens now, or was told before.
    pub(crate) opens: bool,
    /// Values, as many as a finding shows.
    pub(crate) samples: Vec<String>,
    /// Flows, as many as a finding keeps.
    pub(crate) flows: Vec<FlowId>,
    /// All flows.
    pub(crate) flow_count: u64,
    /// Sessions, as many as a finding keeps.
    pub(crate) sessions: Vec<SessionId>,
    exact: Vec<PacketMatch>,
    opened_at: Timestamp,
}

impl Told {
    fn none(at: Timestamp) -> Self {
        Self {
            first: at,
            at,
            count: 0,
            at_least: false,
            threshold: 1,
            window: IDLE,
            opens: false,
            samples: Vec::new(),
            flows: Vec::new(),
            flow_count: 0,
            sessions: Vec::new(),
            exact: Vec::new(),
            opened_at: at,
        }
    }

    /// The packets: exactly those it opened with, and since then those of `later` (without times).
    pub(crate) fn scope(&self, later: PacketMatch) -> PacketScope {
        let mut parts = self.exact.clone();
        if !self.opens {
            parts.push(PacketMatch { since: Some(self.opened_at), until: Some(self.at), ..later });
        }
        PacketScope(parts)
    }

    /// The count with its threshold and window.
    pub(crate) fn evidence(&self, metric: &'static str) -> Evidence {
        Evidence {
            metric,
            value: self.count as f64,
            threshold: self.threshold as f64,
            window_s: self.window.as_secs(),
            samples: self.samples.clone(),
        }
    }

    /// The count in words: `8`, `at least 2048`.
    pub(crate) fn number(&self) -> String {
        if self.at_least { format!("at least {}", self.count) } else { self.count.to_string() }
    }
}

#[derive(Debug)]
struct Pending {
    contacts: Vec<(Value, Contact)>,
    newest: i64,
}

#[derive(Debug)]
struct Open {
    told: Told,
    /// Hashes of the values: a thousand matters of two thousand texts would be a hundred megabytes. Empty again
    /// once all that are counted were seen.
    seen: HashSet<u64>,
    /// Distinct values.
    count: u64,
    steps: Steps,
    newest: i64,
    last_flow: Option<FlowId>,
}

/// The matters of one detector, bounded.
#[derive(Debug)]
pub(crate) struct Matters<K> {
    pending: Keyed<K, Pending>,
    open: Keyed<K, Open>,
    /// Keyed at random, so that no visitor can choose values that count as one.
    hash: RandomState,
}

impl<K: Clone + Eq + Hash> Matters<K> {
    /// At most `keys` that have not opened yet, each forgotten `longest` after its last contact, and
    /// a sixteenth of that (at least 16) that have.
    pub(crate) fn new(keys: usize, longest: Duration) -> Self {
        Self { pending: Keyed::new(keys, longest), open: Keyed::new((keys / 16).max(16), IDLE), hash: RandomState::new() }
    }

    /// Takes one contact; answers when there is something to tell.
    pub(crate) fn add(&mut self, key: &K, value: Value, contact: Contact, rule: &Rule) -> Option<Told> {
        let idle = i64::try_from(IDLE.as_nanos()).unwrap_or(i64::MAX);
        match self.open.get(key) {
            Some(open) if contact.at.0.saturating_sub(open.newest) <= idle => return self.again(key, &value, contact),
            Some(_) => {
                self.open.remove(key);
            }
            None => {}
        }
        let pending = self.pending.touch(key, contact.at, || Pending { contacts: Vec::new(), newest: i64::MIN });
        pending.newest = pending.newest.max(contact.at.0);
        let at = contact.at;
        match pending.contacts.iter_mut().find(|(known, _)| *known == value) {
            Some((_, old)) if old.at > contact.at => {}
            Some((_, old)) => *old = contact,
            None => pending.contacts.push((value, contact)),
        }
        let since = |window: Duration| pending.newest.saturating_sub(i64::try_from(window.as_nanos()).unwrap_or(i64::MAX));
        let longest = rule.opens.iter().map(|(_, window)| since(*window)).min().unwrap_or(i64::MIN);
        pending.contacts.retain(|(_, contact)| contact.at.0 >= longest);
        let (threshold, window) = rule.opens.iter().copied().find(|(threshold, window)| {
            let oldest = since(*window);
            pending.contacts.iter().filter(|(_, contact)| contact.at.0 >= oldest).count() as u64 >= *threshold
        })?;
        let oldest = since(window);
        let mut evidence = self.pending.remove(key)?.contacts;
        evidence.retain(|(_, contact)| contact.at.0 >= oldest);
        self.opens(key, evidence, at, (threshold, window), rule)
    }

    /// The contact with that value and flow was none after all; told matters keep it.
    pub(crate) fn withdraw(&mut self, key: &K, value: &Value, flow: Option<FlowId>) {
        if self.pending.get(key).is_none() {
            return;
        }
        if let Some(mut pending) = self.pending.remove(key) {
            pending.contacts.retain(|(known, contact)| known != value || contact.flow != flow);
            if !pending.contacts.is_empty() {
                let newest = Timestamp(pending.newest);
                self.pending.touch(key, newest, || pending);
            }
        }
    }

    /// Keys forgotten for want of room.
    pub(crate) fn evicted(&self) -> u64 {
        self.pending.evicted().saturating_add(self.open.evicted())
    }

    /// Forgets what is due, to give its memory back; never changes what is told.
    pub(crate) fn tick(&mut self, now: Timestamp) {
        while self.pending.pop_due(now).is_some() {}
        while self.open.pop_due(now).is_some() {}
    }

    fn opens(
        &mut self,
        key: &K,
        evidence: Vec<(Value, Contact)>,
        at: Timestamp,
        (threshold, window): (u64, Duration),
        rule: &Rule,
    ) -> Option<Told> {
        let first = evidence.iter().map(|(_, contact)| contact.at).min()?;
        let last = evidence.iter().map(|(_, contact)| contact.at).max()?.max(at);
        let exact = merged(evidence.iter().map(|(_, contact)| contact.packets.clone()), last);
        let told = Told { at: last, opened_at: last, threshold, window, opens: true, exact, ..Told::none(first) };
        let mut open = Open { told, seen: HashSet::new(), count: 0, steps: Steps::new(rule.again), newest: last.0, last_flow: None };
        for (value, contact) in &evidence {
            open.note(value, self.hash.hash_one(value), contact);
        }
        open.steps.reached(open.count);
        let told = open.tell(true);
        self.open.touch(key, last, || open);
        Some(told)
    }

    fn again(&mut self, key: &K, value: &Value, contact: Contact) -> Option<Told> {
        // It is there: the caller looked.
        let none = || Open {
            told: Told::none(contact.at),
            seen: HashSet::new(),
            count: 0,
            steps: Steps::new(1),
            newest: contact.at.0,
            last_flow: None,
        };
        let open = self.open.touch(key, contact.at, none);
        open.note(value, self.hash.hash_one(value), &contact);
        open.newest = open.newest.max(contact.at.0);
        open.told.at = Timestamp(open.newest);
        open.steps.reached(open.count).then(|| open.tell(false))
    }
}

impl Open {
    fn note(&mut self, value: &Value, hash: u64, contact: &Contact) {
        if contact.flow != self.last_flow || contact.flow.is_none() {
            self.last_flow = contact.flow;
            if let Some(flow) = contact.flow.filter(|flow| !self.told.flows.contains(flow)) {
                self.told.flow_count = self.told.flow_count.saturating_add(1);
                if self.told.flows.len() < Finding::MAX_FLOWS {
                    self.told.flows.push(flow);
                }
            }
        }
        if let Some(session) = contact.session
            && self.told.sessions.len() < Finding::MAX_SESSIONS
            && !self.told.sessions.contains(&session)
        {
            self.told.sessions.push(session);
        }
        if self.count >= MAX_VALUES {
            self.told.at_least = true;
            return;
        }
        if !self.seen.insert(hash) {
            return;
        }
        self.count = self.count.saturating_add(1);
        if self.told.samples.len() < Evidence::MAX_SAMPLES {
            self.told.samples.push(cut(&value.to_string()).to_owned());
        }
        if self.count >= MAX_VALUES {
            self.seen = HashSet::new();
        }
    }

    fn tell(&self, opens: bool) -> Told {
        let told = &self.told;
        Told {
            count: self.count,
            opens,
            samples: told.samples.clone(),
            flows: told.flows.clone(),
            sessions: told.sessions.clone(),
            exact: told.exact.clone(),
            ..*told
        }
    }
}

/// Parts of the same ends become one, all end at `until`.
fn merged(parts: impl Iterator<Item = PacketMatch>, until: Timestamp) -> Vec<PacketMatch> {
    let mut out: Vec<PacketMatch> = Vec::new();
    for mut part in parts {
        part.until = Some(until);
        let same = |old: &&mut PacketMatch| PacketMatch { since: part.since, ..(**old).clone() } == part;
        match out.iter_mut().find(same) {
            Some(old) => old.since = old.since.min(part.since),
            None => out.push(part),
        }
    }
    out
}

/// The first part of a text within the bound.
pub(crate) fn cut(text: &str) -> &str {
    let mut end = text.len().min(MAX_TEXT);
    while !text.is_char_boundary(end) {
        end = end.saturating_sub(1);
    }
    text.get(..end).unwrap_or_default()
}

/// The ends without times, for [`Told::scope`].
pub(crate) fn ends(protocol: Option<u8>, wire: Tuple, source_port: bool, destination_port: bool) -> PacketMatch {
    PacketMatch {
        protocol,
        a_port: source_port.then_some(wire.source.port),
        b_port: destination_port.then_some(wire.destination.port),
        ..PacketMatch::between(wire.source.ip, wire.destination.ip)
    }
}

#[cfg(test)]
#[path = "matter/tests.rs"]
mod tests;
