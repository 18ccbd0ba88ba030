//! The fold: how one record changes the rows of the summary. Pure functions, one a row.
//!
//! A function here never reads a clock, a database or another row. Rows several nodes add to change
//! by sums, minima, maxima and order-free unions only (see [`super::rows`]); a session row is
//! written by one node, in the order of its log.

use super::rows::{
    Counts, CredentialRow, FileRow, GapRow, HourRow, MAX_FINGERPRINTS, MAX_NAMES, MAX_SOURCES, MAX_SPANS, MAX_TEXT, MAX_USERS, NodeRow,
    Sample, SessionRow, SourceRow, Span, UserRow,
};
use glasshive_event::detail::{File, Gap, Hello, Login, Loss, SessionClose, SessionOpen};
use glasshive_event::{Envelope, Flow, Kind, LogId, RecordView, StoredFinding, WireText};
use serde::Deserialize;
use std::net::IpAddr;

/// Nanoseconds of an hour.
pub(crate) const HOUR_NS: i64 = 3_600_000_000_000;

/// One record with what surrounds it.
pub(crate) struct Event<'a> {
    pub(crate) node: &'a str,
    pub(crate) net: &'a str,
    pub(crate) received_ns: i64,
    pub(crate) log: LogId,
    pub(crate) seq: u64,
    /// Wall time, or the receive time of a record this build cannot read.
    pub(crate) wall_ns: i64,
    /// Log segment and first sequence number of the block it lies in.
    pub(crate) place: (u64, u64),
    pub(crate) envelope: Envelope,
    pub(crate) kind: Option<Kind>,
    pub(crate) detail: Detail,
}

/// The details the summary looks into. The others only count: their JSON is not parsed.
#[derive(Debug, PartialEq)]
pub(crate) enum Detail {
    Open(Box<SessionOpen>),
    Close(Box<SessionClose>),
    Login(Box<Login>),
    File(Box<File>),
    Hello(Box<Hello>),
    Loss(Box<Loss>),
    Gap(Box<Gap>),
    Flow(Box<Flow>),
    Finding(Box<StoredFinding>),
    Heartbeat,
    Other,
}

impl<'a> Event<'a> {
    /// Reads what the fold needs. Anything unreadable still counts as an event of its node.
    pub(crate) fn read(record: &'a [u8], block: &super::value::BlockView<'a>, log: LogId, seq: u64, place: (u64, u64)) -> Self {
        let mut event = Self {
            node: block.node,
            net: block.net,
            received_ns: block.received_ns,
            log,
            seq,
            wall_ns: block.received_ns,
            place,
            envelope: Envelope::default(),
            kind: None,
            detail: Detail::Other,
        };
        let Ok(view) = RecordView::parse(record) else { return event };
        event.wall_ns = view.header.wall_ns;
        let Ok((envelope, detail)) = view.split() else { return event };
        event.kind = Kind::from_number(envelope.kind);
        event.envelope = envelope;
        event.detail = event.kind.map_or(Detail::Other, |kind| Detail::read(kind, detail));
        event
    }
}

impl Detail {
    fn read(kind: Kind, json: &str) -> Self {
        /// All a heartbeat is known by.
        #[derive(Deserialize, Default)]
        #[serde(default)]
        struct What {
            what: String,
        }
        fn boxed<'de, T: Deserialize<'de>>(json: &'de str) -> Option<Box<T>> {
            serde_json::from_str(json).ok().map(Box::new)
        }
        let read = match kind {
            Kind::SessionOpen => boxed(json).map(Self::Open),
            Kind::SessionClose => boxed(json).map(Self::Close),
            Kind::Login => boxed(json).map(Self::Login),
            Kind::File => boxed(json).map(Self::File),
            Kind::Hello => boxed(json).map(Self::Hello),
            Kind::Loss => boxed(json).map(Self::Loss),
            Kind::Gap => boxed(json).map(Self::Gap),
            Kind::Flow => boxed(json).map(Self::Flow),
            Kind::Finding => boxed(json).map(Self::Finding),
            Kind::Health => boxed::<What>(json).filter(|health| health.what == "heartbeat").map(|_| Self::Heartbeat),
            _ => None,
        };
        // A detail that is not what its kind says still counts; nothing is taken from it.
        read.unwrap_or(Self::Other)
    }
}

/// Folds an event into its session's row; a row of no session yet takes its shape from it.
/// Events of another node never change a session (ids are not secret to the controller's nodes
/// together, and only the node that served it may write it); findings are the controller's.
pub(crate) fn fold_session(row: &mut SessionRow, event: &Event<'_>) {
    let judgement = matches!(event.kind, Some(Kind::Finding | Kind::Audit));
    if judgement {
        row.session = event.envelope.session.unwrap_or(row.session);
        row.findings = row.findings.saturating_add(u64::from(event.kind == Some(Kind::Finding)));
        return;
    }
    if row.events == 0 {
        shape(row, event);
    } else if row.node != event.node {
        return;
    }
    row.events = row.events.saturating_add(1);
    row.last_ns = row.last_ns.max(event.wall_ns);
    if event.log == row.log {
        row.first_seq = row.first_seq.min(event.seq);
        row.last_seq = row.last_seq.max(event.seq);
    }
    place(&mut row.spans, event);
    match event.kind {
        Some(Kind::Command) => row.commands = row.commands.saturating_add(1),
        Some(Kind::Request) => row.requests = row.requests.saturating_add(1),
        Some(Kind::Stream) => row.streams = row.streams.saturating_add(1),
        Some(Kind::Forward) => row.forwards = row.forwards.saturating_add(1),
        Some(Kind::Malformed) => row.malformed = row.malformed.saturating_add(1),
        Some(Kind::Login) => row.logins = row.logins.saturating_add(1),
        Some(Kind::File) => row.files = row.files.saturating_add(1),
        _ => {}
    }
    match &event.detail {
        Detail::Open(open) => {
            // A restart may have closed the session in a new log that was read first.
            let (last_ns, events) = (row.last_ns, row.events);
            shape(row, event);
            (row.last_ns, row.events) = (last_ns.max(event.wall_ns), events);
            row.open_ns = event.wall_ns;
            row.persona = cut(&open.persona);
        }
        Detail::Close(close) => {
            row.close_ns = Some(event.wall_ns);
            row.duration_ns = Some(close.duration_ns);
            row.reason = Some(cut(&close.reason));
            row.bytes_in = close.bytes_in;
            row.bytes_out = close.bytes_out;
            row.packets_in = close.packets_in;
            row.packets_out = close.packets_out;
            row.cut_bytes = row.cut_bytes.saturating_add(close.cut_bytes);
        }
        Detail::Login(login) => {
            row.accepted = row.accepted.saturating_add(u64::from(login.accepted));
            let user = cut_wire(&login.user);
            row.users.retain(|known| *known != user);
            row.users.push(user);
            if row.users.len() > MAX_USERS {
                row.users.remove(0);
            }
        }
        Detail::File(file) => row.cut_bytes = row.cut_bytes.saturating_add(file.cut_bytes),
        _ => {}
    }
    for (kind, value) in fingerprints(event) {
        let found = (kind.to_owned(), cut(value));
        if row.fingerprints.len() < MAX_FINGERPRINTS && !row.fingerprints.contains(&found) {
            row.fingerprints.push(found);
        }
    }
}

/// Fingerprints an event shows: (kind, value).
pub(crate) fn fingerprints<'e>(event: &'e Event<'_>) -> Vec<(&'static str, &'e str)> {
    let mut found = Vec::new();
    match &event.detail {
        Detail::Hello(hello) => {
            for (kind, value) in [("ja3", &hello.ja3), ("ja4", &hello.ja4), ("hassh", &hello.hassh)] {
                found.extend(value.as_deref().map(|value| (kind, value)));
            }
        }
        Detail::Login(login) => found.extend(login.fingerprint.as_deref().map(|value| ("ssh_key", value))),
        _ => {}
    }
    found.retain(|(_, value)| !value.is_empty());
    found
}

/// Folds a login into the row of its account name and secret.
pub(crate) fn fold_credential(row: &mut CredentialRow, event: &Event<'_>, login: &Login) {
    if row.count == 0 {
        row.user = cut_wire(&login.user);
        row.secret_pivot = login.secret_pivot.as_deref().map(cut);
        row.secret_kind = cut(&login.secret_kind);
    }
    times(row.count == 0, &mut row.first_ns, &mut row.last_ns, event.wall_ns);
    row.count = row.count.saturating_add(1);
    row.accepted = row.accepted.saturating_add(u64::from(login.accepted));
    if let Some(source) = event.envelope.source() {
        smallest(&mut row.sources, source.ip, MAX_SOURCES);
        row.source_count.insert(source.ip);
    }
    smallest_text(&mut row.nets, event.net, MAX_NAMES);
    if let Some(service) = &event.envelope.service {
        smallest_text(&mut row.services, service, MAX_NAMES);
    }
    // What does not fit a row is still in the event; it only cannot be the sample.
    if let Some(sealed) = login.secret_sealed.as_ref().filter(|sealed| sealed.len() <= 4096) {
        let sample = Sample { wall_ns: event.wall_ns, log: event.log, seq: event.seq, sealed: sealed.clone() };
        if row.sample.as_ref().is_none_or(|known| sample < *known) {
            row.sample = Some(sample);
        }
    }
}

/// Adds another day's row of the same credential.
pub(crate) fn merge_credential(row: &mut CredentialRow, other: &CredentialRow) {
    if row.count == 0 {
        row.clone_from(other);
        return;
    }
    row.first_ns = row.first_ns.min(other.first_ns);
    row.last_ns = row.last_ns.max(other.last_ns);
    row.count = row.count.saturating_add(other.count);
    row.accepted = row.accepted.saturating_add(other.accepted);
    union(&mut row.sources, &other.sources, MAX_SOURCES);
    row.source_count.merge(&other.source_count);
    union(&mut row.nets, &other.nets, MAX_NAMES);
    union(&mut row.services, &other.services, MAX_NAMES);
    if let Some(sample) = &other.sample
        && row.sample.as_ref().is_none_or(|known| sample < known)
    {
        row.sample = Some(sample.clone());
    }
}

/// Folds a file event into the row of its content.
pub(crate) fn fold_file(row: &mut FileRow, event: &Event<'_>, file: &File) {
    if row.count == 0 {
        row.sha256 = cut(&file.sha256);
    }
    // One content has one size and magic; a node that says otherwise must not depend on who came first.
    row.size = row.size.max(file.size);
    if row.magic < file.magic {
        row.magic = cut(&file.magic);
    }
    times(row.count == 0, &mut row.first_ns, &mut row.last_ns, event.wall_ns);
    row.count = row.count.saturating_add(1);
    smallest_by(&mut row.names, cut_wire(&file.name), MAX_NAMES, WireText::to_bytes);
    smallest_text(&mut row.directions, &file.direction, 4);
    if let Some(session) = event.envelope.session {
        newest(&mut row.sessions, session);
    }
    smallest_text(&mut row.nets, event.net, MAX_NAMES);
    if let Some(blob) = &file.blob {
        smallest(&mut row.blobs, (event.node.to_owned(), cut(blob)), MAX_NAMES);
    }
    if file.content_sealed.is_some() {
        let here = (event.wall_ns, event.log, event.seq);
        row.inline = Some(row.inline.map_or(here, |known| known.min(here)));
    }
    row.cut_bytes = row.cut_bytes.max(file.cut_bytes);
}

/// Adds another day's row of the same content.
pub(crate) fn merge_file(row: &mut FileRow, other: &FileRow) {
    if row.count == 0 {
        row.clone_from(other);
        return;
    }
    row.size = row.size.max(other.size);
    if row.magic < other.magic {
        row.magic.clone_from(&other.magic);
    }
    row.first_ns = row.first_ns.min(other.first_ns);
    row.last_ns = row.last_ns.max(other.last_ns);
    row.count = row.count.saturating_add(other.count);
    for name in &other.names {
        smallest_by(&mut row.names, name.clone(), MAX_NAMES, WireText::to_bytes);
    }
    union(&mut row.directions, &other.directions, 4);
    for session in &other.sessions {
        newest(&mut row.sessions, *session);
    }
    union(&mut row.nets, &other.nets, MAX_NAMES);
    union(&mut row.blobs, &other.blobs, MAX_NAMES);
    row.inline = match (row.inline, other.inline) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    };
    row.cut_bytes = row.cut_bytes.max(other.cut_bytes);
}

/// Adds an event to counts.
pub(crate) fn count(counts: &mut Counts, event: &Event<'_>) {
    let mut one = Counts { events: 1, ..Counts::default() };
    match event.kind {
        Some(Kind::SessionOpen) => one.sessions = 1,
        Some(Kind::Login) => one.logins = 1,
        Some(Kind::Command) => one.commands = 1,
        Some(Kind::Request) => one.requests = 1,
        Some(Kind::File) => one.files = 1,
        Some(Kind::Malformed) => one.malformed = 1,
        Some(Kind::Flow) => one.flows = 1,
        Some(Kind::Finding) => one.findings = 1,
        _ => {}
    }
    match &event.detail {
        Detail::Login(login) => one.accepted = u64::from(login.accepted),
        Detail::Close(close) => (one.bytes_in, one.bytes_out) = (close.bytes_in, close.bytes_out),
        _ => {}
    }
    counts.add(&one);
}

/// Folds an event into its hour.
pub(crate) fn fold_hour(row: &mut HourRow, event: &Event<'_>, hour_ns: i64) {
    row.hour_ns = hour_ns;
    if row.counts.events == 0 {
        row.net = event.net.to_owned();
        row.service = event.envelope.service.as_deref().map(cut).unwrap_or_default();
    }
    count(&mut row.counts, event);
}

/// Folds an event into the row of its source.
pub(crate) fn fold_source(row: &mut SourceRow, event: &Event<'_>, source: IpAddr) {
    row.source = source;
    times(row.counts.events == 0, &mut row.first_ns, &mut row.last_ns, event.wall_ns);
    smallest_text(&mut row.nets, event.net, MAX_NAMES);
    if let Some(service) = &event.envelope.service {
        smallest_text(&mut row.services, service, MAX_NAMES);
    }
    count(&mut row.counts, event);
}

/// Adds another day's row of the same source.
pub(crate) fn merge_source(row: &mut SourceRow, other: &SourceRow) {
    if row.counts.events == 0 {
        row.clone_from(other);
        return;
    }
    row.first_ns = row.first_ns.min(other.first_ns);
    row.last_ns = row.last_ns.max(other.last_ns);
    union(&mut row.nets, &other.nets, MAX_NAMES);
    union(&mut row.services, &other.services, MAX_NAMES);
    row.counts.add(&other.counts);
}

/// Folds a login into the row of its account name.
pub(crate) fn fold_user(row: &mut UserRow, event: &Event<'_>, login: &Login) {
    if row.logins == 0 {
        row.user = cut_wire(&login.user);
    }
    times(row.logins == 0, &mut row.first_ns, &mut row.last_ns, event.wall_ns);
    row.logins = row.logins.saturating_add(1);
    row.accepted = row.accepted.saturating_add(u64::from(login.accepted));
    if let Some(source) = event.envelope.source() {
        row.sources.insert(source.ip);
    }
}

/// Adds another day's row of the same account name.
pub(crate) fn merge_user(row: &mut UserRow, other: &UserRow) {
    if row.logins == 0 {
        row.clone_from(other);
        return;
    }
    row.first_ns = row.first_ns.min(other.first_ns);
    row.last_ns = row.last_ns.max(other.last_ns);
    row.logins = row.logins.saturating_add(other.logins);
    row.accepted = row.accepted.saturating_add(other.accepted);
    row.sources.merge(&other.sources);
}

/// Folds an event into the row of its node.
pub(crate) fn fold_node(row: &mut NodeRow, event: &Event<'_>) {
    let new = row.events.is_empty() && row.gap_count == 0;
    if new {
        row.node = event.node.to_owned();
    }
    // The controller writes findings of every net into its one log; they do not make it a node of any.
    if row.net != event.net && row.received_ns <= event.received_ns && event.kind != Some(Kind::Finding) {
        row.net = event.net.to_owned();
    }
    times(new, &mut row.first_ns, &mut row.last_ns, event.wall_ns);
    row.received_ns = row.received_ns.max(event.received_ns);
    let name = event.kind.map_or("unknown", Kind::name);
    match row.events.get_mut(name) {
        Some(number) => *number = number.saturating_add(1),
        None => drop(row.events.insert(name.to_owned(), 1)),
    }
    match &event.detail {
        Detail::Heartbeat => row.heartbeat_ns = Some(row.heartbeat_ns.map_or(event.wall_ns, |known| known.max(event.wall_ns))),
        Detail::Loss(loss) => {
            // Places are our own words; the bound is against a node that invents them.
            let place =
                if row.losses.len() < MAX_NAMES * 2 || row.losses.contains_key(&loss.place) { cut(&loss.place) } else { "other".into() };
            let (events, bytes) = row.losses.entry(place).or_default();
            *events = events.saturating_add(loss.count);
            *bytes = bytes.saturating_add(loss.bytes);
        }
        Detail::Gap(gap) => {
            let log = gap.log.as_deref().and_then(|text| text.parse().ok()).unwrap_or(event.log);
            add_gap(row, GapRow { wall_ns: event.wall_ns, log, from: gap.from, to: gap.to, why: cut(&gap.why) });
        }
        _ => {}
    }
}

/// Remembers a gap.
pub(crate) fn add_gap(row: &mut NodeRow, gap: GapRow) {
    row.gap_count = row.gap_count.saturating_add(1);
    if let Err(place) = row.gaps.binary_search(&gap) {
        row.gaps.insert(place, gap);
        if row.gaps.len() > MAX_NAMES {
            row.gaps.remove(0);
        }
    }
}

/// Adds another day's row of the same node.
pub(crate) fn merge_node(row: &mut NodeRow, other: &NodeRow) {
    if row.events.is_empty() && row.gap_count == 0 {
        row.clone_from(other);
        return;
    }
    if row.received_ns <= other.received_ns {
        row.net.clone_from(&other.net);
    }
    row.first_ns = row.first_ns.min(other.first_ns);
    row.last_ns = row.last_ns.max(other.last_ns);
    row.received_ns = row.received_ns.max(other.received_ns);
    row.heartbeat_ns = row.heartbeat_ns.max(other.heartbeat_ns);
    for (kind, number) in &other.events {
        let sum = row.events.entry(kind.clone()).or_default();
        *sum = sum.saturating_add(*number);
    }
    for (place, (events, bytes)) in &other.losses {
        let sum = row.losses.entry(place.clone()).or_default();
        *sum = (sum.0.saturating_add(*events), sum.1.saturating_add(*bytes));
    }
    let total = row.gap_count.saturating_add(other.gap_count);
    for gap in &other.gaps {
        add_gap(row, gap.clone());
    }
    row.gap_count = total;
}

/// What a session row is before its first event counts.
fn shape(row: &mut SessionRow, event: &Event<'_>) {
    let envelope = &event.envelope;
    row.session = envelope.session.unwrap_or(row.session);
    row.parent = envelope.parent;
    row.net = event.net.to_owned();
    row.node = event.node.to_owned();
    row.log = event.log;
    row.decoy = envelope.decoy.as_deref().map(cut).unwrap_or_default();
    row.service = envelope.service.as_deref().map(cut).unwrap_or_default();
    row.transport = envelope.transport;
    row.source = envelope.wire.map(|wire| wire.source);
    row.destination = envelope.wire.map(|wire| wire.destination);
    row.claimed = envelope.claimed;
    (row.open_ns, row.last_ns) = (event.wall_ns, event.wall_ns);
    (row.first_seq, row.last_seq) = (event.seq, event.seq);
}

/// Remembers the block an event lies in. Sorted; when there are too many single blocks, those of one
/// log and segment become a range.
fn place(spans: &mut Vec<Span>, event: &Event<'_>) {
    let (segment, block) = event.place;
    let home = (segment, event.log);
    // Nearly always the newest block again.
    if spans.last().is_some_and(|last| (last.segment, last.log) == home && last.from <= block && block <= last.to) {
        return;
    }
    let start = spans.partition_point(|span| (span.segment, span.log) < home);
    let end = spans.partition_point(|span| (span.segment, span.log) <= home);
    let group = spans.get_mut(start..end).unwrap_or_default();
    if group.iter().any(|span| span.from <= block && block <= span.to) {
        return;
    }
    if let Some(range) = group.iter_mut().find(|span| span.from < span.to) {
        (range.from, range.to) = (range.from.min(block), range.to.max(block));
        return;
    }
    let at = start + group.partition_point(|span| span.from < block);
    spans.insert(at, Span { segment, log: event.log, from: block, to: block });
    if spans.len() > MAX_SPANS {
        spans.dedup_by(|next, kept| {
            let same = (next.segment, next.log) == (kept.segment, kept.log);
            if same {
                kept.to = kept.to.max(next.to);
            }
            same
        });
    }
}

fn times(new: bool, first: &mut i64, last: &mut i64, now: i64) {
    *first = if new { now } else { now.min(*first) };
    *last = if new { now } else { now.max(*last) };
}

/// Keeps the smallest `most` different values, sorted.
fn smallest<T: Ord>(values: &mut Vec<T>, value: T, most: usize) {
    if let Err(place) = values.binary_search(&value)
        && place < most
    {
        values.insert(place, value);
        values.truncate(most);
    }
}

fn smallest_text(values: &mut Vec<String>, value: &str, most: usize) {
    let value = clip(value);
    if let Err(place) = values.binary_search_by(|known| known.as_str().cmp(value))
        && place < most
    {
        values.insert(place, value.to_owned());
        values.truncate(most);
    }
}

fn smallest_by<T, K: Ord>(values: &mut Vec<T>, value: T, most: usize, key: impl Fn(&T) -> K) {
    if let Err(place) = values.binary_search_by_key(&key(&value), &key)
        && place < most
    {
        values.insert(place, value);
        values.truncate(most);
    }
}

fn union<T: Ord + Clone>(values: &mut Vec<T>, more: &[T], most: usize) {
    for value in more {
        smallest(values, value.clone(), most);
    }
}

/// Keeps the newest sessions, oldest first.
fn newest(values: &mut Vec<glasshive_event::SessionId>, value: glasshive_event::SessionId) {
    if let Err(place) = values.binary_search(&value) {
        values.insert(place, value);
        if values.len() > MAX_NAMES {
            values.remove(0);
        }
    }
}

/// The first [`MAX_TEXT`] bytes of a text, at a character's end.
pub(crate) fn cut(text: &str) -> String {
    clip(text).to_owned()
}

fn clip(text: &str) -> &str {
    text.get(..text.floor_char_boundary(MAX_TEXT)).unwrap_or(text)
}

/// The first [`MAX_TEXT`] bytes a visitor sent.
pub(crate) fn cut_wire(text: &WireText) -> WireText {
    let bytes = text.to_bytes();
    match bytes.get(..MAX_TEXT) {
        Some(start) => match std::str::from_utf8(&bytes) {
            Ok(text) => WireText::Text(cut(text)),
            Err(_) => WireText::from_bytes(start),
        },
        None => text.clone(),
    }
}

#[cfg(test)]
#[path = "fold_tests.rs"]
mod tests;
