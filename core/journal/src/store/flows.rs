//! Flows in the summary: one row a flow, and the keys by which flows and sessions find each other.
//!
//! A flow is filed under the day of its first packet, a session under the day of its id. Both put a
//! join key into their own day: one by `conn` (net, tuple and ISN hashed alike by decoys and sensor),
//! one by net, protocol and tuple. Rows change by maxima and sums only, so that rebuilding gives
//! equal rows whatever came first.

use super::config::StoreError;
use super::day::{Day, DayWork};
use super::fold::{Event, cut};
use super::keys;
use super::query::{Cursor, IpPrefix, Page, page_limit};
use super::rows::{self, Row};
use super::summary::Summary;
use super::{StoreHandle, join};
use crate::segment::Segment;
use glasshive_event::flow::FlowEnd;
use glasshive_event::{ConnId, Flow, FlowId, LogId, SessionId, Tuple};
use serde::{Deserialize, Serialize};

/// One flow.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct FlowRow {
    /// Its id.
    pub flow: FlowId,
    /// Net of the sensor.
    pub net: String,
    /// Sensor that recorded it last.
    pub node: String,
    /// Log of its newest record.
    pub log: LogId,
    /// Sequence number of its newest record.
    pub seq: u64,
    /// Records there are of it.
    pub records: u64,
    /// Number of the newest record, from 0.
    pub number: u32,
    /// Why that was written.
    pub end: FlowEnd,
    /// First packet, nanoseconds UTC.
    pub first_ns: i64,
    /// Last packet so far.
    pub last_ns: i64,
    /// Join key.
    pub conn: Option<ConnId>,
    /// IP protocol number.
    pub protocol: u8,
    /// Ends.
    pub wire: Tuple,
    /// Community ID.
    pub community_id: String,
    /// Handshake and end in one word.
    pub state: String,
    /// Whether the TCP handshake was completed.
    pub established: bool,
    /// Packets to the destination.
    pub packets_in: u64,
    /// Packets to the source.
    pub packets_out: u64,
    /// Payload bytes to the destination.
    pub bytes_in: u64,
    /// Payload bytes to the source.
    pub bytes_out: u64,
    /// Protocol by content.
    pub application: Option<String>,
    /// Whether packets were lost while it lasted.
    pub loss: bool,
}

impl Row for FlowRow {}

/// Which flows, newest first.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct FlowQuery {
    /// First packet at or after, nanoseconds UTC.
    pub since: Option<i64>,
    /// First packet before.
    pub until: Option<i64>,
    /// Net.
    pub net: Option<String>,
    /// Source address or prefix.
    pub source: Option<IpPrefix>,
    /// Only probes: TCP flows without a completed handshake and without a session.
    pub probes: bool,
    /// Rows a page; 0 = [`super::DEFAULT_LIMIT`].
    pub limit: usize,
    /// From the page before.
    pub cursor: Option<Cursor>,
}

impl StoreHandle {
    /// Flows, newest first.
    pub async fn flows(&self, query: FlowQuery) -> Result<Page<FlowRow>, StoreError> {
        self.question(move |shared| list(&shared.summary, &query)).await
    }

    /// One flow.
    pub async fn flow(&self, id: FlowId) -> Result<Option<FlowRow>, StoreError> {
        self.question(move |shared| find(&shared.summary, &id)).await
    }
}

/// Time a flow is filed under.
pub(crate) fn flow_ns(flow: &Flow, received_ns: i64) -> i64 {
    Day::row_ns(flow.first.0, received_ns)
}

/// Folds a record of a flow into its row.
pub(crate) fn fold_flow(row: &mut FlowRow, event: &Event<'_>, flow: &Flow) {
    let records = row.records.saturating_add(1);
    let newest = (flow.seq, flow.last.0, event.log, event.seq);
    if row.records == 0 || newest > (row.number, row.last_ns, row.log, row.seq) {
        *row = FlowRow {
            flow: flow.flow,
            net: event.net.to_owned(),
            node: event.node.to_owned(),
            log: event.log,
            seq: event.seq,
            records,
            number: flow.seq,
            end: flow.end,
            first_ns: flow.first.0,
            last_ns: flow.last.0,
            conn: flow.conn,
            protocol: flow.protocol,
            wire: flow.wire,
            community_id: cut(&flow.community_id),
            state: cut(&flow.state),
            established: flow.established,
            packets_in: flow.sent.packets,
            packets_out: flow.received.packets,
            bytes_in: flow.sent.payload_bytes,
            bytes_out: flow.received.payload_bytes,
            application: flow.application.as_ref().map(|application| cut(&application.protocol)).filter(|name| !name.is_empty()),
            loss: flow.loss,
        };
    }
    row.records = records;
}

impl DayWork {
    /// What a flow's record means to its row.
    pub(crate) fn flow(&mut self, event: &Event<'_>, flow: &Flow) -> Result<(), StoreError> {
        self.flows.change(&self.segment, &[&flow.flow.0], |row| fold_flow(row, event, flow))?;
        if let Some(conn) = flow.conn {
            self.mark(keys::join(&conn.0, keys::FLOW, &flow.flow.0));
        }
        self.mark(keys::join(&keys::tuple16(event.net, flow.protocol, &flow.wire), keys::FLOW, &flow.flow.0));
        Ok(())
    }

    /// The keys by which a session's flows find it. Sessions inside others have no packets of their own.
    pub(crate) fn joinable(&mut self, event: &Event<'_>, session: SessionId) {
        let envelope = &event.envelope;
        if let Some(conn) = envelope.conn {
            self.mark(keys::key(keys::CONN_OF, &[&session.0, &conn.0]));
            self.mark(keys::join(&conn.0, keys::SESSION, &session.0));
        }
        if let (Some(wire), Some(transport)) = (&envelope.wire, envelope.transport)
            && (envelope.parent.is_none() || envelope.conn.is_some())
        {
            self.mark(keys::join(&keys::tuple16(event.net, transport.number(), wire), keys::SESSION, &session.0));
        }
    }
}

/// A flow's row in a day.
pub(crate) fn read(day: &Segment, flow: &FlowId) -> Result<Option<FlowRow>, StoreError> {
    let value = day.get(&keys::key(keys::FLOW, &[&flow.0])).map_err(StoreError::database("summary"))?;
    Ok(value.and_then(|bytes| rows::decode(&bytes)))
}

/// Nanoseconds of the millisecond an id begins with; flow and session ids both do.
pub(crate) fn id_ns(id: &[u8; 16]) -> i64 {
    let [a, b, c, d, e, f, ..] = *id;
    i64::try_from(u64::from_be_bytes([0, 0, a, b, c, d, e, f])).ok().and_then(|ms| ms.checked_mul(1_000_000)).unwrap_or(i64::MAX)
}

/// The smallest (`rest` 0) or largest (`rest` 0xff) id of a time.
pub(crate) fn id_at(ns: i64, rest: u8) -> [u8; 16] {
    let ms = u64::try_from(ns.div_euclid(1_000_000)).unwrap_or(0).min((1 << 48) - 1).to_be_bytes();
    let mut id = [rest; 16];
    for (to, from) in id.iter_mut().zip(ms.into_iter().skip(2)) {
        *to = from;
    }
    id
}

fn find(summary: &Summary, id: &FlowId) -> Result<Option<FlowRow>, StoreError> {
    let at = id_ns(&id.0);
    // Nearly always the day of the id; another when the sensor's clock was far off.
    let near = summary.parts(Some(at), Some(at));
    let rest = summary.parts(None, None).into_iter().rev().filter(|day| !near.contains(day)).collect::<Vec<_>>();
    for day in near.iter().chain(&rest) {
        if let Some(row) = read(&*summary.day(*day)?, id)? {
            return Ok(Some(row));
        }
    }
    Ok(None)
}

/// Answers [`StoreHandle::flows`].
fn list(summary: &Summary, query: &FlowQuery) -> Result<Page<FlowRow>, StoreError> {
    let limit = page_limit(query.limit);
    let cursor = query.cursor.as_ref().map(parse_cursor).transpose()?;
    let mut page = Page::default();
    let mut last = None;
    let low = query.since.map_or([0; 16], |since| id_at(since, 0));
    let high = query.until.map_or([0xff; 16], |until| id_at(until, 0xff));
    for day in summary.parts(query.since, query.until).into_iter().rev() {
        let below = match cursor {
            Some((of, _)) if day > of => continue,
            Some((of, flow)) if day == of => Some(flow),
            _ => None,
        };
        let segment = summary.day(day)?;
        let top = below.map_or(high, |below| high.min(below.0));
        if low > top {
            continue;
        }
        let (from, to) = (keys::key(keys::FLOW, &[&low]), keys::key(keys::FLOW, &[&top]));
        for entry in segment.range(&from[..]..=&to[..]).rev() {
            let (_, value) = entry.map_err(StoreError::database(day.name()))?;
            let Some(row) = rows::decode::<FlowRow>(&value) else { continue };
            if Some(row.flow) == below || !fits(summary, query, &row)? {
                continue;
            }
            if page.rows.len() >= limit {
                page.next = last.map(|(day, flow): (Day, FlowId)| Cursor(format!("{}/{flow}", day.name())));
                return Ok(page);
            }
            last = Some((day, row.flow));
            page.rows.push(row);
        }
    }
    Ok(page)
}

fn fits(summary: &Summary, query: &FlowQuery, row: &FlowRow) -> Result<bool, StoreError> {
    let plain = query.since.is_none_or(|since| row.first_ns >= since)
        && query.until.is_none_or(|until| row.first_ns < until)
        && query.net.as_ref().is_none_or(|net| *net == row.net)
        && query.source.is_none_or(|source| source.contains(row.wire.source.ip))
        && (!query.probes || (row.protocol == 6 && !row.established));
    Ok(plain && (!query.probes || join::sessions_of(summary, row, 1)?.is_empty()))
}

fn parse_cursor(cursor: &Cursor) -> Result<(Day, FlowId), StoreError> {
    let parsed = cursor.0.split_once('/').and_then(|(day, flow)| Some((Day::parse(day)?, flow.parse().ok()?)));
    parsed.ok_or_else(|| StoreError::Query(format!("{:?} is not a cursor of this list", cursor.0)))
}
