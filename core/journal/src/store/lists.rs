//! Credentials, files, sums and nodes, from the summary only.

use super::config::StoreError;
use super::day::Day;
use super::fold::{HOUR_NS, cut_wire, merge_credential, merge_file, merge_node, merge_source, merge_user};
use super::keys;
use super::merge::{Top, merged};
use super::query::{CredentialQuery, FileQuery, NodeStatus, Order, Page, Stats, StatsQuery, page_limit};
use super::rows::{self, CredentialRow, FileRow, HourRow, NodeRow, Row, SourceRow, UserRow};
use super::summary::Summary;
use super::tops::{Busiest, Tops};
use crate::segment::Segment;
use glasshive_event::WireText;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError};

/// Credentials a source filter looks up one by one at most; above it the list is read through.
const MAX_TRIED: usize = 100_000;

/// Answers [`super::StoreHandle::credentials`].
pub(crate) fn credentials(summary: &Summary, query: &CredentialQuery) -> Result<Page<CredentialRow>, StoreError> {
    let mut days = days(summary, query.since, query.until);
    if let Some(source) = &query.source {
        days.retain(|day| summary.may_hold(*day, source));
    }
    let days = open(summary, &days)?;
    let mut top = Top::new(page_limit(query.limit), query.cursor.as_ref())?;
    let user = query.user.as_ref().map(|user| cut_wire(&WireText::from(user.as_str())));
    let fits = |row: &CredentialRow| {
        query.net.as_ref().is_none_or(|net| row.nets.contains(net))
            && query.service.as_ref().is_none_or(|service| row.services.contains(service))
            && user.as_ref().is_none_or(|user| row.user == *user)
            && query.hash.as_ref().is_none_or(|hash| row.secret_pivot.as_ref() == Some(hash))
            && (!query.accepted || row.accepted > 0)
    };
    let mut offer = |key: &[u8], row: CredentialRow| {
        if fits(&row) {
            let rank = rank(query.order, row.count, row.last_ns);
            top.offer(rank, key, row);
        }
    };
    match &query.source {
        None => merged(&days, &keys::span(&[keys::CREDENTIAL], 16), merge_credential, offer)?,
        Some(source) => {
            let (low, high) = source.bounds();
            let (low, high) = (keys::key(keys::TRIED, &[&low, &[0; 16]]), keys::key(keys::TRIED, &[&high, &[0xff; 16]]));
            let mut tried = BTreeSet::new();
            for day in &days {
                for entry in day.range(&low[..]..=&high[..]) {
                    let (key, _) = entry.map_err(StoreError::database("summary"))?;
                    tried.extend(keys::tail::<16>(&key));
                    if tried.len() > MAX_TRIED {
                        return Err(StoreError::Query("too many credentials of that source; narrow the time or the prefix".into()));
                    }
                }
            }
            for credential in tried {
                let key = keys::key(keys::CREDENTIAL, &[&credential]);
                merged(&days, &(key.clone(), key), merge_credential, &mut offer)?;
            }
        }
    }
    Ok(top.page())
}

/// Answers [`super::StoreHandle::files`].
pub(crate) fn files(summary: &Summary, query: &FileQuery) -> Result<Page<FileRow>, StoreError> {
    let days = open(summary, &days(summary, query.since, query.until))?;
    let mut top = Top::new(page_limit(query.limit), query.cursor.as_ref())?;
    let bounds = match &query.hash {
        Some(hash) => {
            let key = keys::key(keys::FILE, &[&keys::text16(hash.to_ascii_lowercase().as_bytes())]);
            (key.clone(), key)
        }
        None => keys::span(&[keys::FILE], 16),
    };
    merged(&days, &bounds, merge_file, |key, row: FileRow| {
        if query.net.as_ref().is_none_or(|net| row.nets.contains(net)) {
            let rank = rank(query.order, row.count, row.last_ns);
            top.offer(rank, key, row);
        }
    })?;
    Ok(top.page())
}

/// Answers [`super::StoreHandle::stats`].
pub(crate) fn stats(summary: &Summary, query: &StatsQuery) -> Result<Stats, StoreError> {
    let names = days(summary, query.since, query.until);
    let tops: Option<Vec<Tops>> = names.iter().map(|day| summary.tops(*day)).collect();
    let days = open(summary, &names)?;
    let mut stats = Stats::default();
    let since = query.since.map_or(i64::MIN, |since| since.div_euclid(HOUR_NS).saturating_mul(HOUR_NS));
    let until = query.until.unwrap_or(i64::MAX);
    let mut hours: BTreeMap<(i64, String, String), HourRow> = BTreeMap::new();
    for day in &days {
        let (low, high) = keys::span(&[keys::HOUR], 20);
        for entry in day.range(&low[..]..=&high[..]) {
            let (_, value) = entry.map_err(StoreError::database("summary"))?;
            let Some(row) = rows::decode::<HourRow>(&value) else { continue };
            let wanted = row.hour_ns >= since
                && row.hour_ns < until
                && query.net.as_ref().is_none_or(|net| row.net == *net)
                && query.service.as_ref().is_none_or(|service| row.service == *service);
            if !wanted {
                continue;
            }
            stats.total.add(&row.counts);
            stats.nets.entry(row.net.clone()).or_default().add(&row.counts);
            stats.services.entry(row.service.clone()).or_default().add(&row.counts);
            match hours.entry((row.hour_ns, row.net.clone(), row.service.clone())) {
                std::collections::btree_map::Entry::Occupied(mut sum) => sum.get_mut().counts.add(&row.counts),
                std::collections::btree_map::Entry::Vacant(slot) => drop(slot.insert(row)),
            }
        }
    }
    stats.hours = hours.into_values().collect();
    let limit = page_limit(query.top);
    let of = |pick: fn(Tops) -> Busiest| tops.clone().map(|tops| tops.into_iter().map(pick).collect::<Vec<_>>());
    let sources = (keys::SOURCE, merge_source as fn(&mut SourceRow, &SourceRow), |row: &SourceRow| row.counts.sessions);
    stats.sources = busiest(&days, of(|tops| tops.sources), sources, limit)?;
    let users = (keys::USER, merge_user as fn(&mut UserRow, &UserRow), |row: &UserRow| row.logins);
    stats.users = busiest(&days, of(|tops| tops.users), users, limit)?;
    Ok(stats)
}

/// The `limit` rows with the largest counts over all days: those the days' lists prove to be, or else found among
/// all rows.
fn busiest<R: Row>(
    days: &[Arc<Segment>],
    listed: Option<Vec<Busiest>>,
    (tag, merge, count): (u8, fn(&mut R, &R), impl Fn(&R) -> u64),
    limit: usize,
) -> Result<Vec<R>, StoreError> {
    let rank = |row: &R| i64::try_from(count(row)).unwrap_or(i64::MAX);
    if let Some(listed) = listed {
        let sum = |each: &dyn Fn(&Busiest) -> u64| i64::try_from(listed.iter().map(each).fold(0, u64::saturating_add)).unwrap_or(i64::MAX);
        // What no list has, and what is listed, the most it can have first: nothing behind the first that is too small fits.
        let unlisted = sum(&Busiest::least);
        let keys: BTreeSet<&[u8; 16]> = listed.iter().flat_map(Busiest::keys).collect();
        let mut keys: Vec<(i64, &[u8; 16])> = keys.into_iter().map(|key| (sum(&|list| list.at_most(key)), key)).collect();
        keys.sort_unstable_by(|a, b| b.cmp(a));
        let mut top = Top::new(limit, None)?;
        for (most, key) in keys {
            if top.least().is_some_and(|least| least > most) {
                break;
            }
            let stored = keys::key(tag, &[key]);
            let mut sum: Option<R> = None;
            for day in days {
                let value = day.get(&stored).map_err(StoreError::database("summary"))?;
                let Some(row) = value.and_then(|value| rows::decode::<R>(&value)) else { continue };
                match &mut sum {
                    Some(sum) => merge(sum, &row),
                    None => sum = Some(row),
                }
            }
            if let Some(row) = sum {
                top.offer(rank(&row), &stored, row);
            }
        }
        if listed.iter().all(Busiest::is_whole) || top.least().is_some_and(|least| least > unlisted) {
            return Ok(top.page().rows);
        }
    }
    let mut top = Top::new(limit, None)?;
    merged(days, &keys::span(&[tag], 16), merge, |key, row: R| top.offer(rank(&row), key, row))?;
    Ok(top.page().rows)
}

/// Answers [`super::StoreHandle::nodes`].
pub(crate) fn nodes(shared: &super::Shared, since: Option<i64>) -> Result<Vec<NodeStatus>, StoreError> {
    let days = open(&shared.summary, &days(&shared.summary, since, None))?;
    let mut nodes: BTreeMap<String, NodeStatus> = BTreeMap::new();
    merged(&days, &keys::span(&[keys::NODE], 16), merge_node, |_, row: NodeRow| {
        nodes.insert(row.node.clone(), NodeStatus { row, logs: Vec::new() });
    })?;
    for high in shared.published.high.read().unwrap_or_else(PoisonError::into_inner).values() {
        let status = nodes.entry(high.node.clone()).or_insert_with(|| NodeStatus {
            row: NodeRow { node: high.node.clone(), net: high.net.clone(), ..NodeRow::default() },
            logs: Vec::new(),
        });
        // A node not heard of in the days asked for is still known by its log.
        status.row.last_ns = status.row.last_ns.max(high.wall_ns);
        status.logs.push((high.log, high.seq));
    }
    Ok(nodes.into_values().collect())
}

fn rank(order: Order, count: u64, last_ns: i64) -> i64 {
    match order {
        Order::Count => i64::try_from(count).unwrap_or(i64::MAX),
        Order::Last => last_ns,
    }
}

fn days(summary: &Summary, since: Option<i64>, until: Option<i64>) -> Vec<Day> {
    summary.days(since, until)
}

fn open(summary: &Summary, days: &[Day]) -> Result<Vec<Arc<Segment>>, StoreError> {
    days.iter().map(|day| summary.day(*day)).collect()
}
