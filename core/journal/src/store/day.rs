//! One day of the summary, or a part of one, while it is written: rows kept decoded, written together
//! with the position they stand for.

use super::config::StoreError;
use super::findings::FindingRow;
use super::flows::FlowRow;
use super::fold::{self, Detail, Event, HOUR_NS};
use super::keys::{self, Posting};
use super::log::StoredGap;
use super::rows::{self, CredentialRow, FileRow, GapRow, HourRow, NodeRow, Row, SessionRow, SourceRow, UserRow};
use super::tops::Tops;
use crate::segment::{Batch, Segment};
use glasshive_event::detail::{File, Login};
use glasshive_event::{Kind, LogId, SessionId, Timestamp};
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Nanoseconds of a day.
const DAY_NS: i64 = 24 * HOUR_NS;
const MS_NS: i64 = 1_000_000;
/// Events whose time is this far from when they came are filed under the day they came: a node with
/// a wrong clock must not make thousands of days.
const PAST_NS: i64 = 400 * DAY_NS;
const FUTURE_NS: i64 = DAY_NS;
/// Rows of one table kept decoded between commits.
const CACHED: usize = 2_048;

/// A UTC day, or a part of one that begins later, by its first nanosecond.
///
/// sled holds something of every page of an open database in memory, so a day with very many sessions
/// goes on in parts. A part has the rows of sessions and flows from its beginning to the next part's;
/// sums, credentials, files, findings and nodes are in the day itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Day(i64);

impl Day {
    /// The day of a time.
    pub(crate) fn of(ns: i64) -> Self {
        Self(ns.div_euclid(DAY_NS).saturating_mul(DAY_NS))
    }

    /// The part that begins at the next whole millisecond after a time: no session or flow id lies across.
    pub(crate) fn after(ns: i64) -> Self {
        Self(ns.div_euclid(MS_NS).saturating_add(1).saturating_mul(MS_NS))
    }

    /// The bound of everything that begins up to a time.
    pub(crate) fn at(ns: i64) -> Self {
        Self(ns)
    }

    /// The time an event is filed under, given when it came.
    pub(crate) fn filed(wall_ns: i64, received_ns: i64) -> i64 {
        let near = received_ns.saturating_sub(PAST_NS)..=received_ns.saturating_add(FUTURE_NS);
        if near.contains(&wall_ns) { wall_ns } else { received_ns }
    }

    /// The time a session's or flow's row is filed under, the same for all of its events of a day: where its clock
    /// is far off, the beginning of the day they came.
    pub(crate) fn row_ns(begin_ns: i64, received_ns: i64) -> i64 {
        let filed = Self::filed(begin_ns, received_ns);
        if filed == begin_ns { filed } else { Self::of(filed).0 }
    }

    /// The day it is, or is part of.
    pub(crate) fn whole(self) -> Self {
        Self::of(self.0)
    }

    /// Whether it is a later part of a day.
    pub(crate) fn is_part(self) -> bool {
        self != self.whole()
    }

    /// Whether the other is the day behind this one.
    pub(crate) fn is_before(self, other: Self) -> bool {
        self.whole().0.saturating_add(DAY_NS) == other.whole().0
    }

    /// Its first nanosecond.
    pub(crate) fn start_ns(self) -> i64 {
        self.0
    }

    /// The last nanosecond of its day.
    pub(crate) fn end_ns(self) -> i64 {
        self.whole().0.saturating_add(DAY_NS - 1)
    }

    /// How far its beginning is from a stretch of time, nanoseconds.
    pub(crate) fn distance(self, since: i64, until: i64) -> i64 {
        if self.0 > until { self.0.saturating_sub(until) } else { since.saturating_sub(self.0).max(0) }
    }

    /// Its directory: `2026-01-31`, a part `2026-01-31+MS` with the milliseconds since midnight.
    pub(crate) fn name(self) -> String {
        let day = Timestamp(self.whole().0).day();
        if self.is_part() { format!("{day}+{:08}", self.0.saturating_sub(self.whole().0) / MS_NS) } else { day }
    }

    /// Reads a directory's name.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        let (day, rest) = name.split_once('+').unwrap_or((name, "0"));
        let day = Self::of(Timestamp::parse(&format!("{day}T00:00:00Z"), Timestamp(0)).ok()?.0);
        let part = Self(day.0.checked_add(rest.parse::<i64>().ok()?.checked_mul(MS_NS)?)?);
        (part.name() == name).then_some(part)
    }
}

/// The time a session is filed under: the one of its id.
pub(crate) fn session_ns(session: &SessionId, received_ns: i64) -> i64 {
    let ns = i64::try_from(session.unix_ms()).ok().and_then(|ms| ms.checked_mul(MS_NS)).unwrap_or(i64::MAX);
    Day::row_ns(ns, received_ns)
}

/// What a day or part says of its rows of sessions and flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    /// Newest time anything was filed under; the next part begins after it.
    pub(crate) newest_ns: i64,
    /// Entries written.
    pub(crate) entries: u64,
}

impl Extent {
    /// Nothing filed.
    pub(crate) const EMPTY: Self = Self { newest_ns: i64::MIN, entries: 0 };

    /// Writes it.
    pub(crate) fn put(self, batch: &mut Batch) {
        let mut value = [0; 16];
        for (to, from) in value.iter_mut().zip(self.newest_ns.to_be_bytes().into_iter().chain(self.entries.to_be_bytes())) {
            *to = from;
        }
        batch.put(&[keys::EXTENT], &value);
    }

    /// What was written last. A day of an earlier build has none: all of it may be filed up to its end.
    pub(crate) fn read(segment: &Segment) -> Result<Option<Self>, StoreError> {
        let value = segment.get(&[keys::EXTENT]).map_err(StoreError::database(segment.dir().display().to_string()))?;
        Ok(value.and_then(|value| {
            let (newest, entries) = (value.first_chunk::<8>()?, value.last_chunk::<8>()?);
            Some(Self { newest_ns: i64::from_be_bytes(*newest), entries: u64::from_be_bytes(*entries) })
        }))
    }
}

/// Rows of one kind, decoded.
pub(crate) struct Table<R> {
    tag: u8,
    rows: HashMap<Vec<u8>, (R, bool)>,
}

impl<R: Row> Table<R> {
    fn new(tag: u8) -> Self {
        Self { tag, rows: HashMap::new() }
    }

    /// The row of a key, to be changed; read from the day when it is not here, new when it is not there.
    pub(crate) fn change(&mut self, segment: &Segment, parts: &[&[u8]], change: impl FnOnce(&mut R)) -> Result<(), StoreError> {
        let slot = match self.rows.entry(keys::key(self.tag, parts)) {
            Entry::Occupied(slot) => slot.into_mut(),
            Entry::Vacant(slot) => {
                let stored = segment.get(slot.key()).map_err(StoreError::database(segment.dir().display().to_string()))?;
                // A row of a later build is started anew: the summary can be rebuilt, the log is untouched.
                let row = stored.and_then(|bytes| rows::decode(&bytes)).unwrap_or_default();
                slot.insert((row, false))
            }
        };
        change(&mut slot.0);
        slot.1 = true;
        Ok(())
    }

    /// Writes what changed into the batch.
    fn put(&self, batch: &mut Batch) {
        for (key, (row, _)) in self.rows.iter().filter(|(_, (_, dirty))| *dirty) {
            batch.put(key, &rows::encode(row));
        }
    }

    /// What changed is durable.
    fn settle(&mut self) {
        if self.rows.len() > CACHED {
            self.rows.clear();
        }
        for (_, dirty) in self.rows.values_mut() {
            *dirty = false;
        }
    }
}

/// A day being written.
pub(crate) struct DayWork {
    pub(crate) segment: Arc<Segment>,
    positions: BTreeMap<LogId, u64>,
    pub(crate) sessions: Table<SessionRow>,
    pub(crate) flows: Table<FlowRow>,
    pub(crate) findings: Table<FindingRow>,
    credentials: Table<CredentialRow>,
    files: Table<FileRow>,
    hours: Table<HourRow>,
    sources: Table<SourceRow>,
    users: Table<UserRow>,
    nodes: Table<NodeRow>,
    tops: Arc<Mutex<Tops>>,
    /// Keys without a value that are new since the last commit.
    marks: HashSet<Vec<u8>>,
    pub(crate) extent: Extent,
    /// When its last change became durable.
    pub(crate) changed: Instant,
    pub(crate) dirty: bool,
}

impl DayWork {
    /// Takes a day up where its stored positions say.
    pub(crate) fn new((segment, tops): (Arc<Segment>, Arc<Mutex<Tops>>)) -> Result<Self, StoreError> {
        let mut positions = BTreeMap::new();
        let (low, high) = keys::span(&[keys::POSITION], 16);
        for entry in segment.range(&low[..]..=&high[..]) {
            let (key, value) = entry.map_err(StoreError::database(segment.dir().display().to_string()))?;
            if let (Some(log), Ok(seq)) = (keys::tail(&key), <[u8; 8]>::try_from(&*value)) {
                positions.insert(LogId(log), u64::from_be_bytes(seq));
            }
        }
        // Without an extent, rows of an earlier build may lie anywhere in the day: it is not divided.
        let unknown = Extent { newest_ns: i64::MAX, entries: 0 };
        let extent = Extent::read(&segment)?.unwrap_or(if positions.is_empty() { Extent::EMPTY } else { unknown });
        Ok(Self {
            segment,
            positions,
            extent,
            sessions: Table::new(keys::SESSION),
            flows: Table::new(keys::FLOW),
            findings: Table::new(keys::FINDING),
            credentials: Table::new(keys::CREDENTIAL),
            files: Table::new(keys::FILE),
            hours: Table::new(keys::HOUR),
            sources: Table::new(keys::SOURCE),
            users: Table::new(keys::USER),
            nodes: Table::new(keys::NODE),
            tops,
            marks: HashSet::new(),
            changed: Instant::now(),
            dirty: false,
        })
    }

    /// Whether this day already knows everything up to `seq` of a log.
    pub(crate) fn knows(&self, log: LogId, seq: u64) -> bool {
        self.positions.get(&log).is_some_and(|known| *known >= seq)
    }

    /// Moves a log's position; part of the next commit.
    pub(crate) fn advance(&mut self, log: LogId, seq: u64) {
        self.positions.insert(log, seq);
        self.dirty = true;
    }

    /// Takes note of the time a row of this day is filed under.
    pub(crate) fn filed(&mut self, ns: i64) {
        self.extent.newest_ns = self.extent.newest_ns.max(ns);
    }

    /// What an event means to its session.
    pub(crate) fn session(&mut self, event: &Event<'_>, session: SessionId) -> Result<(), StoreError> {
        let mut own = false;
        let mut first = false;
        self.sessions.change(&self.segment, &[&session.0], |row| {
            let before = row.events;
            fold::fold_session(row, event);
            own = row.events > before;
            first = own && (before == 0 || matches!(event.detail, Detail::Open(_)));
        })?;
        if !own {
            return Ok(());
        }
        if first {
            self.mark(keys::key(keys::ENDING, &[&keys::reversed(&session)]));
            self.joinable(event, session);
            if let Some(parent) = event.envelope.parent {
                self.mark(keys::key(keys::CHILD, &[&parent.0, &session.0]));
            }
            self.find_by(Posting::Node, event.node.as_bytes(), session);
            self.find_by(Posting::Net, event.net.as_bytes(), session);
            if let Some(decoy) = &event.envelope.decoy {
                self.find_by(Posting::Decoy, decoy.as_bytes(), session);
            }
            if let Some(service) = &event.envelope.service {
                self.find_by(Posting::Service, service.as_bytes(), session);
            }
            let claimed = event.envelope.claimed.map(|end| end.ip);
            for ip in event.envelope.wire.map(|wire| wire.source.ip).into_iter().chain(claimed) {
                self.mark(keys::posting(Posting::Source, &keys::ip16(ip), session));
            }
        }
        match &event.detail {
            Detail::Login(login) => {
                self.find_by(Posting::User, &login.user.to_bytes(), session);
                if let Some(pivot) = &login.secret_pivot {
                    self.find_by(Posting::Hash, pivot.as_bytes(), session);
                }
            }
            Detail::File(file) => self.find_by(Posting::Hash, file.sha256.as_bytes(), session),
            _ => {}
        }
        for (_, value) in fold::fingerprints(event) {
            self.find_by(Posting::Fingerprint, value.as_bytes(), session);
        }
        Ok(())
    }

    /// What an event means to everything else.
    pub(crate) fn totals(&mut self, event: &Event<'_>) -> Result<(), StoreError> {
        let node = keys::text16(event.node.as_bytes());
        self.nodes.change(&self.segment, &[&node], |row| fold::fold_node(row, event))?;
        let hour_ns = self.hour(event);
        let hour = u32::try_from(hour_ns / HOUR_NS).unwrap_or(0).to_be_bytes();
        let service = event.envelope.service.as_deref().unwrap_or_default();
        let of = keys::parts16(&[event.net.as_bytes(), service.as_bytes()]);
        self.hours.change(&self.segment, &[&hour, &of], |row| fold::fold_hour(row, event, hour_ns))?;
        let judgement = matches!(event.kind, Some(Kind::Finding | Kind::Audit | Kind::Blocked));
        let source = event.envelope.source().map(|end| end.ip).filter(|_| !judgement);
        if let Some(ip) = source {
            let mut sessions = 0;
            self.sources.change(&self.segment, &[&keys::ip16(ip)], |row| {
                fold::fold_source(row, event, ip);
                sessions = row.counts.sessions;
            })?;
            self.tops().sources.note(keys::ip16(ip), sessions);
        }
        match &event.detail {
            Detail::Login(login) => self.login(event, login, source),
            Detail::File(file) => self.file(event, file),
            Detail::Finding(finding) => self.finding(event, finding),
            _ => Ok(()),
        }
    }

    /// A gap somebody declared.
    pub(crate) fn gap(&mut self, log: LogId, gap: &StoredGap) -> Result<(), StoreError> {
        self.nodes.change(&self.segment, &[&keys::text16(gap.node.as_bytes())], |row| {
            let row_gap = GapRow { wall_ns: gap.received_ns, log, from: Some(gap.from), to: Some(gap.to), why: fold::cut(&gap.why) };
            if row.node.is_empty() {
                *row = NodeRow { node: gap.node.clone(), net: gap.net.clone(), first_ns: gap.received_ns, ..NodeRow::default() };
                row.last_ns = gap.received_ns;
            }
            row.first_ns = row.first_ns.min(gap.received_ns);
            row.last_ns = row.last_ns.max(gap.received_ns);
            row.received_ns = row.received_ns.max(gap.received_ns);
            fold::add_gap(row, row_gap);
        })
    }

    /// Everything since the last commit, with its positions, durable.
    pub(crate) fn commit(&mut self) -> Result<(), StoreError> {
        if !self.dirty {
            return Ok(());
        }
        let mut batch = Batch::new();
        self.sessions.put(&mut batch);
        self.flows.put(&mut batch);
        self.findings.put(&mut batch);
        self.credentials.put(&mut batch);
        self.files.put(&mut batch);
        self.hours.put(&mut batch);
        self.sources.put(&mut batch);
        self.users.put(&mut batch);
        self.nodes.put(&mut batch);
        for key in &self.marks {
            batch.put(key, &[]);
        }
        self.extent.entries = self.extent.entries.saturating_add(self.marks.len() as u64);
        self.extent.put(&mut batch);
        for (log, seq) in &self.positions {
            batch.put(&keys::key(keys::POSITION, &[&log.0]), &seq.to_be_bytes());
        }
        self.segment.apply(batch).map_err(StoreError::database(self.segment.dir().display().to_string()))?;
        self.sessions.settle();
        self.flows.settle();
        self.findings.settle();
        self.credentials.settle();
        self.files.settle();
        self.hours.settle();
        self.sources.settle();
        self.users.settle();
        self.nodes.settle();
        self.marks.clear();
        self.dirty = false;
        self.changed = Instant::now();
        Ok(())
    }

    fn login(&mut self, event: &Event<'_>, login: &Login, source: Option<IpAddr>) -> Result<(), StoreError> {
        let user = login.user.to_bytes();
        let pivot = login.secret_pivot.as_deref().unwrap_or_default();
        let credential = keys::parts16(&[&user, pivot.as_bytes(), login.secret_kind.as_bytes()]);
        self.credentials.change(&self.segment, &[&credential], |row| fold::fold_credential(row, event, login))?;
        let user = keys::text16(&user);
        let mut logins = 0;
        self.users.change(&self.segment, &[&user], |row| {
            fold::fold_user(row, event, login);
            logins = row.logins;
        })?;
        self.tops().users.note(user, logins);
        if let Some(ip) = source {
            self.mark(keys::key(keys::TRIED, &[&keys::ip16(ip), &credential]));
        }
        Ok(())
    }

    fn file(&mut self, event: &Event<'_>, file: &File) -> Result<(), StoreError> {
        let key = keys::text16(file.sha256.as_bytes());
        self.files.change(&self.segment, &[&key], |row| fold::fold_file(row, event, file))
    }

    /// Hour of an event; of its receipt when its clock is far off.
    fn hour(&self, event: &Event<'_>) -> i64 {
        Day::filed(event.wall_ns, event.received_ns).div_euclid(HOUR_NS).saturating_mul(HOUR_NS)
    }

    /// The busiest of this day. They may be ahead of what is committed, never behind.
    pub(crate) fn tops(&self) -> MutexGuard<'_, Tops> {
        self.tops.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find_by(&mut self, by: Posting, value: &[u8], session: SessionId) {
        if !value.is_empty() {
            self.mark(keys::posting(by, &keys::text16(value), session));
        }
    }

    pub(crate) fn mark(&mut self, key: Vec<u8>) {
        self.marks.insert(key);
    }

    /// Whether a mark is there, stored or about to be.
    pub(crate) fn is_marked(&self, key: &[u8]) -> Result<bool, StoreError> {
        if self.marks.contains(key) {
            return Ok(true);
        }
        let stored = self.segment.get(key).map_err(StoreError::database(self.segment.dir().display().to_string()))?;
        Ok(stored.is_some())
    }
}
