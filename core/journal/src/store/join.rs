//! Which flow belongs to which session, and how sure that is.
//!
//! `exact`: both carry the same `conn`. `interval`: one of them has none (UDP, no SYN seen), the
//! tuples are equal and the times overlap within [`SLACK_NS`]; then n flows may meet m sessions. Two
//! that carry different `conn`s are never joined: the port was used again.

use super::StoreHandle;
use super::config::StoreError;
use super::day::Day;
use super::flows::{self, FlowRow, id_at};
use super::fold::HOUR_NS;
use super::keys;
use super::rows::{self, NodeRow, SessionRow};
use super::summary::Summary;
use crate::segment::Segment;
use glasshive_event::{ConnId, FlowId, Kind, SessionId, Transport, Tuple};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// How far the clocks of two hosts on one segment may be apart.
pub const SLACK_NS: i64 = 5_000_000_000;
/// Partners given of one flow or session.
const MOST: usize = 64;
/// Entries of one tuple looked at.
const MOST_SEEN: usize = 1_024;
/// Days and parts a session or flow is looked for in, the nearest first.
const MOST_DAYS: usize = 8;
/// Sessions and flows a rate is taken over, the newest ones.
const MOST_RATED: u64 = 20_000;
/// Addresses of decoys a net is known to have.
const MOST_DECOYS: usize = 65_536;

/// How two were joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Join {
    /// By the join key.
    Exact,
    /// By tuple and overlapping times.
    Interval,
}

/// A flow of a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinedFlow {
    /// The flow.
    pub flow: FlowRow,
    /// How.
    pub join: Join,
}

/// Over what a rate is taken.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct JoinQuery {
    /// Opened, or first packet, at or after, nanoseconds UTC.
    pub since: Option<i64>,
    /// Opened, or first packet, before.
    pub until: Option<i64>,
    /// Only this net.
    pub net: Option<String>,
}

/// How well flows and sessions of a net meet.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct JoinRate {
    /// Net.
    pub net: String,
    /// Closed TCP sessions without a parent.
    pub sessions: u64,
    /// Those with a flow.
    pub sessions_joined: u64,
    /// Those joined by interval only.
    pub by_interval: u64,
    /// Completed TCP connections the sensor saw to addresses of decoys.
    pub flows: u64,
    /// Those with a session.
    pub flows_joined: u64,
    /// All flows of the window, of any protocol: none means that no sensor looks at this net.
    pub flows_seen: u64,
    /// There were more than are looked at: these are the newest.
    pub capped: bool,
}

impl StoreHandle {
    /// Flows of a session: exact ones, or, when there are none, those of the same tuple and time.
    pub async fn session_flows(&self, row: &SessionRow) -> Result<Vec<JoinedFlow>, StoreError> {
        let row = row.clone();
        self.question(move |shared| flows_of(&shared.summary, &row, MOST)).await
    }

    /// How each session is joined with a flow, in their order.
    pub async fn joins(&self, rows: Vec<SessionRow>) -> Result<Vec<Option<Join>>, StoreError> {
        self.question(move |shared| {
            let nets = nets_with_flows(&shared.summary, rows.iter().map(|row| row.open_ns).min().unwrap_or(i64::MAX))?;
            let join = |row: &SessionRow| match &nets {
                Some(nets) if !nets.contains(&row.net) => Ok(None),
                _ => Ok(flows_of(&shared.summary, row, 1)?.first().map(|joined| joined.join)),
            };
            rows.iter().map(join).collect()
        })
        .await
    }

    /// Sessions of a flow.
    pub async fn flow_sessions(&self, row: &FlowRow) -> Result<Vec<(SessionId, Join)>, StoreError> {
        let row = row.clone();
        self.question(move |shared| sessions_of(&shared.summary, &row, MOST)).await
    }

    /// How well flows and sessions meet, by net.
    pub async fn join_rates(&self, query: JoinQuery) -> Result<Vec<JoinRate>, StoreError> {
        self.question(move |shared| rates(&shared.summary, &query)).await
    }
}

/// Nets that told of flows from the day before a time on: a list of sessions in a net without a sensor opens no part
/// to look for any. `None` = too many days to ask.
fn nets_with_flows(summary: &Summary, since: i64) -> Result<Option<BTreeSet<String>>, StoreError> {
    let days = summary.days(Some(since.saturating_sub(24 * HOUR_NS)), None);
    if days.len() > MOST_DAYS {
        return Ok(None);
    }
    let (low, high) = keys::span(&[keys::NODE], 16);
    let mut nets = BTreeSet::new();
    for day in days {
        for entry in summary.day(day)?.range(&low[..]..=&high[..]) {
            let (_, value) = entry.map_err(StoreError::database(day.name()))?;
            let row = rows::decode::<NodeRow>(&value).filter(|row| row.events.contains_key(Kind::Flow.name()));
            nets.extend(row.map(|row| row.net));
        }
    }
    Ok(Some(nets))
}

/// Ids behind a join key, up to a time.
fn partners(day: &Segment, key: &[u8; 16], what: u8, until_ns: i64) -> impl Iterator<Item = Result<[u8; 16], StoreError>> {
    let (low, high) = (keys::join(key, what, &[0; 16]), keys::join(key, what, &id_at(until_ns, 0xff)));
    let ids: Vec<_> = day
        .range(&low[..]..=&high[..])
        .rev()
        .take(MOST_SEEN)
        .map(|entry| entry.map_err(StoreError::database("summary")).map(|(key, _)| keys::tail::<16>(&key).unwrap_or_default()))
        .collect();
    ids.into_iter()
}

/// Join keys of a session: they lie where its row lies, nearly always in the nearest of the days.
fn conns_of(summary: &Summary, days: &[Day], session: &SessionId) -> Result<BTreeSet<ConnId>, StoreError> {
    let (low, high) = keys::span(&keys::key(keys::CONN_OF, &[&session.0]), 16);
    let mut conns = BTreeSet::new();
    for day in days {
        for entry in summary.day(*day)?.range(&low[..]..=&high[..]).take(MOST) {
            let (key, _) = entry.map_err(StoreError::database("summary"))?;
            conns.extend(keys::tail::<16>(&key).map(ConnId));
        }
        if !conns.is_empty() {
            break;
        }
    }
    Ok(conns)
}

/// Answers [`StoreHandle::session_flows`].
pub(crate) fn flows_of(summary: &Summary, row: &SessionRow, most: usize) -> Result<Vec<JoinedFlow>, StoreError> {
    let end = row.close_ns.unwrap_or(row.last_ns).max(row.last_ns);
    // Opened one after the other, until enough is found.
    let days = summary.near(row.open_ns, end, MOST_DAYS);
    let conns = conns_of(summary, &days, &row.session)?;
    let mut found: BTreeMap<FlowId, JoinedFlow> = BTreeMap::new();
    for day in days.iter().take_while(|_| !conns.is_empty()) {
        if found.len() >= most {
            break;
        }
        let day = summary.day(*day)?;
        for conn in &conns {
            for id in partners(&day, &conn.0, keys::FLOW, i64::MAX) {
                if found.len() < most
                    && let Some(flow) = flows::read(&day, &FlowId(id?))?
                {
                    found.insert(flow.flow, JoinedFlow { flow, join: Join::Exact });
                }
            }
        }
    }
    if let (true, Some(wire), Some(transport)) = (found.is_empty(), wire(row), row.transport)
        && (row.parent.is_none() || !conns.is_empty())
    {
        let key = keys::tuple16(&row.net, transport.number(), &wire);
        let (low, high) = (row.open_ns.saturating_sub(SLACK_NS), end.saturating_add(SLACK_NS));
        for day in &days {
            if found.len() >= most {
                break;
            }
            let day = summary.day(*day)?;
            for id in partners(&day, &key, keys::FLOW, high) {
                if found.len() < most
                    && let Some(flow) = flows::read(&day, &FlowId(id?))?
                    && flow.first_ns <= high
                    && flow.last_ns >= low
                    && (conns.is_empty() || flow.conn.is_none())
                {
                    found.insert(flow.flow, JoinedFlow { flow, join: Join::Interval });
                }
            }
        }
    }
    Ok(found.into_values().collect())
}

/// Answers [`StoreHandle::flow_sessions`].
pub(crate) fn sessions_of(summary: &Summary, flow: &FlowRow, most: usize) -> Result<Vec<(SessionId, Join)>, StoreError> {
    let days = summary.near(flow.first_ns, flow.last_ns, MOST_DAYS);
    let mut found: BTreeMap<SessionId, Join> = BTreeMap::new();
    if let Some(conn) = &flow.conn {
        for day in &days {
            if found.len() >= most {
                break;
            }
            for id in partners(&*summary.day(*day)?, &conn.0, keys::SESSION, i64::MAX).take(most) {
                found.insert(SessionId(id?), Join::Exact);
            }
        }
    }
    if found.is_empty() {
        let key = keys::tuple16(&flow.net, flow.protocol, &flow.wire);
        let (low, high) = (flow.first_ns.saturating_sub(SLACK_NS), flow.last_ns.saturating_add(SLACK_NS));
        for day in &days {
            if found.len() >= most {
                break;
            }
            let day = summary.day(*day)?;
            for id in partners(&day, &key, keys::SESSION, high) {
                let id = SessionId(id?);
                let Some(row) = session(&day, &id)? else { continue };
                let end = row.close_ns.unwrap_or(row.last_ns).max(row.last_ns);
                let other = || Ok::<_, StoreError>(flow.conn.is_some() && !conns_of(summary, &days, &id)?.is_empty());
                if found.len() < most && row.open_ns <= high && end >= low && !other()? {
                    found.insert(id, Join::Interval);
                }
            }
        }
    }
    Ok(found.into_iter().collect())
}

fn session(day: &Segment, id: &SessionId) -> Result<Option<SessionRow>, StoreError> {
    let value = day.get(&keys::key(keys::SESSION, &[&id.0])).map_err(StoreError::database("summary"))?;
    Ok(value.and_then(|bytes| rows::decode::<SessionRow>(&bytes)).filter(|row| row.events > 0))
}

fn wire(row: &SessionRow) -> Option<Tuple> {
    Some(Tuple { source: row.source?, destination: row.destination? })
}

/// Answers [`StoreHandle::join_rates`].
fn rates(summary: &Summary, query: &JoinQuery) -> Result<Vec<JoinRate>, StoreError> {
    let mut rates: BTreeMap<String, JoinRate> = BTreeMap::new();
    let mut decoys: BTreeMap<String, BTreeSet<IpAddr>> = BTreeMap::new();
    let low = query.since.map_or([0; 16], |since| id_at(since, 0));
    let high = query.until.map_or([0xff; 16], |until| id_at(until, 0xff));
    let within = |ns: i64| query.since.is_none_or(|since| ns >= since) && query.until.is_none_or(|until| ns < until);
    let wanted = |net: &str| query.net.as_deref().is_none_or(|wanted| wanted == net);
    let (mut sessions, mut seen) = (0u64, 0u64);
    let mut capped = false;
    let days = summary.parts(query.since, query.until);
    let nets = nets_with_flows(summary, query.since.or(days.first().map(|day| day.start_ns())).unwrap_or(i64::MAX))?;
    for day in days.iter().rev() {
        let segment = summary.day(*day)?;
        let (from, to) = (keys::key(keys::SESSION, &[&low]), keys::key(keys::SESSION, &[&high]));
        for entry in segment.range(&from[..]..=&to[..]).rev() {
            let (_, value) = entry.map_err(StoreError::database(day.name()))?;
            let Some(row) = rows::decode::<SessionRow>(&value).filter(|row| row.events > 0) else { continue };
            if !wanted(&row.net) || !within(row.open_ns) || row.parent.is_some() || row.transport != Some(Transport::Tcp) {
                continue;
            }
            if let Some(end) = row.destination {
                let known = decoys.entry(row.net.clone()).or_default();
                if known.len() < MOST_DECOYS {
                    known.insert(end.ip);
                }
            }
            // A flow is told when it ends.
            if row.close_ns.is_none() {
                continue;
            }
            if sessions >= MOST_RATED {
                capped = true;
                break;
            }
            sessions += 1;
            let may = nets.as_ref().is_none_or(|nets| nets.contains(&row.net));
            let joined = if may { flows_of(summary, &row, 1)? } else { Vec::new() };
            let rate = rate(&mut rates, &row.net);
            rate.sessions += 1;
            rate.sessions_joined += u64::from(!joined.is_empty());
            rate.by_interval += u64::from(joined.iter().any(|joined| joined.join == Join::Interval));
        }
    }
    for day in days.iter().rev() {
        let segment = summary.day(*day)?;
        let (from, to) = (keys::key(keys::FLOW, &[&low]), keys::key(keys::FLOW, &[&high]));
        for entry in segment.range(&from[..]..=&to[..]).rev() {
            let (_, value) = entry.map_err(StoreError::database(day.name()))?;
            let Some(row) = rows::decode::<FlowRow>(&value) else { continue };
            if !wanted(&row.net) || !within(row.first_ns) {
                continue;
            }
            if seen >= MOST_RATED {
                capped = true;
                break;
            }
            seen += 1;
            let to_decoy = decoys.get(&row.net).is_some_and(|decoys| decoys.contains(&row.wire.destination.ip));
            let counts = row.protocol == 6 && row.established && to_decoy;
            let joined = counts && !sessions_of(summary, &row, 1)?.is_empty();
            let rate = rate(&mut rates, &row.net);
            rate.flows_seen += 1;
            rate.flows += u64::from(counts);
            rate.flows_joined += u64::from(joined);
        }
    }
    Ok(rates.into_values().map(|rate| JoinRate { capped, ..rate }).collect())
}

fn rate<'a>(rates: &'a mut BTreeMap<String, JoinRate>, net: &str) -> &'a mut JoinRate {
    rates.entry(net.to_owned()).or_insert_with(|| JoinRate { net: net.to_owned(), ..JoinRate::default() })
}
