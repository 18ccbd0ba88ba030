//! Reading events back: of one session, or all in the order of time.

use super::Shared;
use super::config::StoreError;
use super::keys;
use super::log::{self, Log};
use super::query::{EventQuery, StoredEvent};
use super::rows::SessionRow;
use super::value::{BlockView, Records};
use crate::segment::Segment;
use glasshive_event::{LogId, RecordView, SessionId};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::sync::Arc;

/// Events of one session given at once when the caller does not say.
const SESSION_EVENTS: usize = 10_000;
/// Bytes of one session's events given at once.
const SESSION_BYTES: usize = 64 << 20;

/// Answers [`super::StoreHandle::session_events`].
pub(crate) fn session_events(log: &Log, row: &SessionRow, limit: usize) -> Result<Vec<StoredEvent>, StoreError> {
    let limit = if limit == 0 { SESSION_EVENTS } else { limit };
    let mut found = Vec::new();
    let mut bytes = 0;
    each_session_event(log, row, |event| {
        bytes += event.record.len();
        found.push(event);
        found.len() < limit && bytes < SESSION_BYTES
    })?;
    Ok(found)
}

fn each_session_event(log: &Log, row: &SessionRow, mut visit: impl FnMut(StoredEvent) -> bool) -> Result<(), StoreError> {
    let known = log.indexes();
    let mut done: BTreeMap<LogId, u64> = BTreeMap::new();
    // The session's own log first: what a restart wrote about it in a new log came later.
    let (own, other): (Vec<_>, Vec<_>) = row.spans.iter().partition(|span| span.log == row.log);
    for span in own.into_iter().chain(other).filter(|span| known.contains_key(&span.segment)) {
        let segment = log.segment(span.segment)?;
        let (low, high) = (keys::block(span.log, span.from), keys::block(span.log, span.to));
        for entry in segment.range(&low[..]..=&high[..]) {
            let (key, value) = entry.map_err(StoreError::database(log::name(span.segment)))?;
            let (Some((_, first)), Some(block)) = (keys::parse_block(&key), BlockView::parse(&value)) else { continue };
            for (seq, record) in (first..).zip(block.iter()) {
                let again = done.get(&span.log).is_some_and(|done| seq <= *done);
                if again || session_of(record) != Some(row.session) {
                    continue;
                }
                done.insert(span.log, seq);
                if !visit(stored(&block, span.log, seq, record)) {
                    return Ok(());
                }
            }
        }
    }
    Ok(())
}

/// Answers [`super::StoreHandle::event`].
pub(crate) fn event(log: &Log, id: LogId, seq: u64) -> Result<Option<StoredEvent>, StoreError> {
    for (number, index) in log.indexes() {
        if !index.logs.get(&id).is_some_and(|range| range.first <= seq && seq <= range.last) {
            continue;
        }
        let first = log.block_before(number, id, seq)?;
        let segment = log.segment(number)?;
        let Some(value) = segment.get(&keys::block(id, first)).map_err(StoreError::database(log::name(number)))? else { continue };
        let Some(block) = BlockView::parse(&value) else { continue };
        let place = usize::try_from(seq.saturating_sub(first)).unwrap_or(usize::MAX);
        if let Some(record) = block.iter().nth(place) {
            return Ok(Some(stored(&block, id, seq, record)));
        }
    }
    Ok(None)
}

/// Answers [`super::StoreHandle::log_events`].
pub(crate) fn log_events(log: &Log, id: LogId, after: u64, limit: usize, bytes: usize) -> Result<Vec<StoredEvent>, StoreError> {
    let query = EventQuery { after: BTreeMap::from([(id, after)]), ..EventQuery::default() };
    let mut cursor = LogCursor::new(log, id, &query);
    let (mut found, mut held) = (Vec::new(), 0);
    while found.len() < limit && held < bytes && cursor.fill(log, &query)?.is_some() {
        let Some((_, event)) = cursor.ready.pop_front() else { break };
        held += event.record.len();
        found.push(event);
    }
    Ok(found)
}

/// Answers [`super::StoreHandle::events`]: the logs' own orders merged by wall time.
pub(crate) fn events(shared: &Shared, query: &EventQuery, mut out: impl FnMut(StoredEvent) -> bool) -> Result<(), StoreError> {
    let mut left = if query.limit == 0 { usize::MAX } else { query.limit };
    let mut send = |event: StoredEvent| {
        left -= 1;
        out(event) && left > 0
    };
    if let Some(session) = query.session {
        let found = super::sessions::lookup(&shared.summary, &session.to_string())?;
        let super::query::Lookup::Found(row) = found else { return Ok(()) };
        return each_session_event(&shared.log, &row, |event| !wanted(query, &event) || send(event));
    }
    let mut cursors: Vec<LogCursor> = Vec::new();
    let mut heads: BinaryHeap<Reverse<(i64, usize)>> = BinaryHeap::new();
    for log in logs(shared, query) {
        let mut cursor = LogCursor::new(&shared.log, log, query);
        if let Some(wall) = cursor.fill(&shared.log, query)? {
            heads.push(Reverse((wall, cursors.len())));
        }
        cursors.push(cursor);
    }
    while let Some(Reverse((_, place))) = heads.pop() {
        let Some(cursor) = cursors.get_mut(place) else { continue };
        if let Some((_, event)) = cursor.ready.pop_front()
            && !send(event)
        {
            return Ok(());
        }
        if let Some(wall) = cursor.fill(&shared.log, query)? {
            heads.push(Reverse((wall, place)));
        }
    }
    Ok(())
}

/// The logs that can matter.
fn logs(shared: &Shared, query: &EventQuery) -> Vec<LogId> {
    let high = shared.published.high.read().unwrap_or_else(std::sync::PoisonError::into_inner);
    high.values().filter(|row| query.node.as_ref().is_none_or(|node| *node == row.node)).map(|row| row.log).collect()
}

/// Where the scan of one log stands.
struct LogCursor {
    log: LogId,
    segments: VecDeque<u64>,
    open: Option<(u64, Arc<Segment>)>,
    /// Key of the next block.
    at: u64,
    /// Highest sequence number looked at.
    done: u64,
    /// Matching events of the last block, with their wall times.
    ready: VecDeque<(i64, StoredEvent)>,
}

impl LogCursor {
    fn new(log: &Log, id: LogId, query: &EventQuery) -> Self {
        let done = query.after.get(&id).copied().unwrap_or(0);
        let segments = log.segments_of(id, |range| {
            range.last > done
                && query.since.is_none_or(|since| range.wall_max >= since)
                && query.until.is_none_or(|until| range.wall_min < until)
        });
        Self { log: id, segments, open: None, at: 0, done, ready: VecDeque::new() }
    }

    /// Reads on until something matches; the wall time of the next event, `None` at the end.
    fn fill(&mut self, log: &Log, query: &EventQuery) -> Result<Option<i64>, StoreError> {
        while self.ready.is_empty() {
            if self.open.is_none() {
                let Some(number) = self.segments.pop_front() else { return Ok(None) };
                // Retention may have been here first.
                if !log.has(number) {
                    continue;
                }
                // The next record may lie within a block.
                self.at = log.block_before(number, self.log, self.done.saturating_add(1))?;
                self.open = Some((number, log.segment(number)?));
            }
            let Some((number, segment)) = self.open.clone() else { return Ok(None) };
            let (low, high) = (keys::block(self.log, self.at), keys::block(self.log, u64::MAX));
            for entry in segment.range(&low[..]..=&high[..]) {
                let (key, value) = entry.map_err(StoreError::database(log::name(number)))?;
                let Some((_, first)) = keys::parse_block(&key) else { continue };
                self.at = first.saturating_add(1);
                self.take(first, &value, query);
                if !self.ready.is_empty() {
                    break;
                }
            }
            if self.ready.is_empty() {
                self.open = None;
            }
        }
        Ok(self.ready.front().map(|(wall, _)| *wall))
    }

    fn take(&mut self, first: u64, value: &[u8], query: &EventQuery) {
        let Some(block) = BlockView::parse(value) else { return };
        for (seq, record) in (first..).zip(Records(block.records)) {
            if seq <= self.done {
                continue;
            }
            self.done = seq;
            let event = stored(&block, self.log, seq, record);
            if wanted(query, &event) {
                let wall = event.view().map_or(event.received_ns, |view| view.header.wall_ns);
                self.ready.push_back((wall, event));
            }
        }
    }
}

fn wanted(query: &EventQuery, event: &StoredEvent) -> bool {
    let view = event.view();
    let wall = view.map_or(event.received_ns, |view| view.header.wall_ns);
    query.since.is_none_or(|since| wall >= since)
        && query.until.is_none_or(|until| wall < until)
        && query.node.as_ref().is_none_or(|node| *node == event.node)
        && query.net.as_ref().is_none_or(|net| *net == event.net)
        && query.after.get(&event.log).is_none_or(|after| event.seq > *after)
        && (query.kinds.is_empty() || kind_of(view).is_some_and(|kind| query.kinds.contains(&kind)))
}

fn kind_of(view: Option<RecordView<'_>>) -> Option<u16> {
    Some(view?.split().ok()?.0.kind)
}

fn session_of(record: &[u8]) -> Option<SessionId> {
    RecordView::parse(record).ok()?.split().ok()?.0.session
}

fn stored(block: &BlockView<'_>, log: LogId, seq: u64, record: &[u8]) -> StoredEvent {
    StoredEvent {
        node: block.node.to_owned(),
        net: block.net.to_owned(),
        received_ns: block.received_ns,
        log,
        seq,
        record: record.to_vec(),
    }
}
