//! Lists of sessions, and a session by part of its id. From the summary only.

use super::config::StoreError;
use super::day::Day;
use super::keys::{self, Posting};
use super::query::{Cursor, IpPrefix, Lookup, Page, SessionQuery, page_limit};
use super::rows::{self, SessionRow};
use super::summary::Summary;
use crate::segment::Segment;
use glasshive_event::SessionId;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Entries of each posting list looked at to find the shortest.
const RACE: usize = 512;
/// Sessions an ambiguous name shows.
const SHOWN: usize = 8;

/// Answers [`super::StoreHandle::sessions`].
pub(crate) fn list(summary: &Summary, query: &SessionQuery) -> Result<Page<SessionRow>, StoreError> {
    let limit = page_limit(query.limit);
    let cursor = query.cursor.as_ref().map(parse_cursor).transpose()?;
    let window = Window::new(query);
    let mut page = Page::default();
    let mut last = None;
    for day in days(summary, query).into_iter().rev() {
        let below = match cursor {
            Some((of, _)) if day > of => continue,
            Some((of, session)) if day == of => Some(session),
            _ => None,
        };
        if query.source.as_ref().is_some_and(|source| !summary.may_hold(day, source)) {
            continue;
        }
        let segment = summary.day(day)?;
        let mut more = false;
        let mut visit = |session: SessionId| -> Result<bool, StoreError> {
            let Some(row) = read(&segment, &session)?.filter(|row| row.events > 0) else { return Ok(true) };
            if !fits(&segment, query, &row)? {
                return Ok(true);
            }
            if page.rows.len() >= limit {
                more = true;
                return Ok(false);
            }
            last = Some((day, row.session));
            page.rows.push(row);
            Ok(true)
        };
        match (best(&segment, query)?, query.source.filter(|source| !source.is_whole())) {
            (Some((prefix, _)), _) => walk(&segment, &prefix, &window, below, &mut visit)?,
            (None, Some(source)) => walk_range(&segment, &source, &window, below, limit, &mut visit)?,
            (None, None) => walk(&segment, &[keys::SESSION], &window, below, &mut visit)?,
        }
        if more {
            page.next = last.map(|(day, session)| Cursor(format!("{}/{session}", day.name())));
            break;
        }
    }
    Ok(page)
}

/// Answers [`super::StoreHandle::session`].
pub(crate) fn lookup(summary: &Summary, name: &str) -> Result<Lookup<SessionRow>, StoreError> {
    let digits: Vec<u8> = name.bytes().filter(|byte| *byte != b'-').map(|byte| byte.to_ascii_lowercase()).collect();
    if digits.len() < 4 || digits.len() > 32 || !digits.iter().all(u8::is_ascii_hexdigit) {
        return Err(StoreError::Query(format!("{name:?} is no session id: give it whole, or at least 4 digits of its start or end")));
    }
    let mut ending = digits.clone();
    ending.reverse();
    let (Some(start), Some(end)) = (keys::digits_span(&digits), keys::digits_span(&ending)) else { return Ok(Lookup::NotFound) };
    let mut found: Vec<SessionRow> = Vec::new();
    for day in places(summary, &digits)?.into_iter().rev() {
        let segment = summary.day(day)?;
        for (tag, (low, high)) in [(keys::SESSION, &start), (keys::ENDING, &end)] {
            let (low, high) = (keys::key(tag, &[low]), keys::key(tag, &[high]));
            for entry in segment.range(&low[..]..=&high[..]).rev() {
                let (key, _) = entry.map_err(StoreError::database(day.name()))?;
                let Some(id) = keys::tail::<16>(&key).map(SessionId) else { continue };
                let id = if tag == keys::ENDING { SessionId(keys::reversed(&id)) } else { id };
                if found.iter().any(|row| row.session == id) {
                    continue;
                }
                found.extend(read(&segment, &id)?.filter(|row| row.events > 0));
                if found.len() >= SHOWN {
                    return Ok(Lookup::Ambiguous(found));
                }
            }
        }
    }
    let first = found.pop();
    Ok(match first {
        None => Lookup::NotFound,
        Some(row) if found.is_empty() => Lookup::Found(Box::new(row)),
        Some(row) => {
            found.push(row);
            Lookup::Ambiguous(found)
        }
    })
}

/// The days and parts a session of that name can be in, oldest first: of a whole id the one it says, if it is there.
fn places(summary: &Summary, digits: &[u8]) -> Result<Vec<Day>, StoreError> {
    let whole = std::str::from_utf8(digits).ok().and_then(|text| text.parse::<SessionId>().ok());
    if let Some(session) = whole {
        let at = super::flows::id_ns(&session.0);
        let near = summary.parts(Some(at), Some(at));
        for day in &near {
            if read(&*summary.day(*day)?, &session)?.is_some_and(|row| row.events > 0) {
                return Ok(near);
            }
        }
    }
    Ok(summary.parts(None, None))
}

/// Bounds of session ids by time.
struct Window {
    low: [u8; 16],
    high: [u8; 16],
}

impl Window {
    fn new(query: &SessionQuery) -> Self {
        let id = |ns: i64, rest: u8| {
            let ms = u64::try_from(ns.div_euclid(1_000_000)).unwrap_or(0).to_be_bytes();
            let mut id = [rest; 16];
            for (to, from) in id.iter_mut().zip(ms.into_iter().skip(2)) {
                *to = from;
            }
            id
        };
        Self {
            low: query.since.map_or([0; 16], |since| id(since, 0)),
            high: query.until.map_or([0xff; 16], |until| id(until.saturating_sub(1), 0xff)),
        }
    }
}

fn days(summary: &Summary, query: &SessionQuery) -> Vec<Day> {
    // Children are filed by their own time, never before their parent's.
    let since = match query.parent {
        Some(parent) => i64::try_from(parent.unix_ms()).ok().and_then(|ms| ms.checked_mul(1_000_000)).max(query.since),
        None => query.since,
    };
    summary.parts(since, query.until.map(|until| until.saturating_sub(1)))
}

/// The shortest of the key lists a question allows, in this day.
fn best(segment: &Segment, query: &SessionQuery) -> Result<Option<(Vec<u8>, usize)>, StoreError> {
    let mut best: Option<(Vec<u8>, usize)> = None;
    for prefix in prefixes(query) {
        let (low, high) = keys::span(&prefix, 16);
        let mut length = 0;
        for entry in segment.range(&low[..]..=&high[..]).take(best.as_ref().map_or(RACE, |(_, length)| *length)) {
            entry.map_err(StoreError::database("summary"))?;
            length += 1;
        }
        if best.as_ref().is_none_or(|(_, shortest)| length < *shortest) {
            best = Some((prefix, length));
        }
    }
    Ok(best)
}

fn prefixes(query: &SessionQuery) -> Vec<Vec<u8>> {
    let posting = |by: Posting, value: [u8; 16]| keys::key(keys::POSTING, &[&[by as u8], &value]);
    let mut out: Vec<Vec<u8>> = texts(query).map(|(by, text)| posting(by, keys::text16(text.as_bytes()))).collect();
    out.extend(query.source.filter(IpPrefix::is_whole).map(|source| posting(Posting::Source, keys::ip16(source.ip))));
    out.extend(query.parent.map(|parent| keys::key(keys::CHILD, &[&parent.0])));
    out
}

fn texts(query: &SessionQuery) -> impl Iterator<Item = (Posting, &str)> {
    [
        (Posting::Hash, &query.hash),
        (Posting::Fingerprint, &query.fingerprint),
        (Posting::User, &query.user),
        (Posting::Decoy, &query.decoy),
        (Posting::Node, &query.node),
        (Posting::Service, &query.service),
        (Posting::Net, &query.net),
    ]
    .into_iter()
    .filter_map(|(by, text)| text.as_deref().map(|text| (by, text)))
}

/// Whether a row answers the whole question. What a row holds only part of (users, fingerprints,
/// hashes) is asked of the postings.
fn fits(segment: &Segment, query: &SessionQuery, row: &SessionRow) -> Result<bool, StoreError> {
    let same = |asked: &Option<String>, is: &str| asked.as_deref().is_none_or(|asked| asked == is);
    if !(same(&query.net, &row.net) && same(&query.decoy, &row.decoy) && same(&query.service, &row.service) && same(&query.node, &row.node))
    {
        return Ok(false);
    }
    let child = row.parent.is_some();
    if query.parent.map_or(child && !query.children, |parent| row.parent != Some(parent)) {
        return Ok(false);
    }
    if let Some(source) = &query.source {
        let ends = [row.source, row.claimed];
        if !ends.iter().flatten().any(|end| source.contains(end.ip)) {
            return Ok(false);
        }
    }
    for (by, text) in texts(query).filter(|(by, _)| matches!(by, Posting::Hash | Posting::Fingerprint | Posting::User)) {
        let key = keys::posting(by, &keys::text16(text.as_bytes()), row.session);
        if segment.get(&key).map_err(StoreError::database("summary"))?.is_none() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Session ids behind a prefix, newest first, until `visit` says `false`.
fn walk(
    segment: &Segment,
    prefix: &[u8],
    window: &Window,
    below: Option<SessionId>,
    visit: &mut impl FnMut(SessionId) -> Result<bool, StoreError>,
) -> Result<(), StoreError> {
    let (mut low, mut high) = (prefix.to_vec(), prefix.to_vec());
    low.extend_from_slice(&window.low);
    high.extend_from_slice(&below.map_or(window.high, |below| window.high.min(below.0)));
    for entry in segment.range(&low[..]..=&high[..]).rev() {
        let (key, _) = entry.map_err(StoreError::database("summary"))?;
        let Some(session) = keys::tail::<16>(&key).map(SessionId) else { continue };
        if below != Some(session) && !visit(session)? {
            break;
        }
    }
    Ok(())
}

/// Sessions of many sources, newest first: their keys are sorted by address, so the newest are
/// picked a page at a time.
fn walk_range(
    segment: &Segment,
    source: &IpPrefix,
    window: &Window,
    below: Option<SessionId>,
    limit: usize,
    visit: &mut impl FnMut(SessionId) -> Result<bool, StoreError>,
) -> Result<(), StoreError> {
    let (low, high) = source.bounds();
    let tag = [Posting::Source as u8];
    let (low, high) = (keys::key(keys::POSTING, &[&tag, &low, &[0; 16]]), keys::key(keys::POSTING, &[&tag, &high, &[0xff; 16]]));
    let mut below = below;
    let room = limit.saturating_add(1).max(256);
    loop {
        let mut newest: BinaryHeap<Reverse<SessionId>> = BinaryHeap::new();
        for entry in segment.range(&low[..]..=&high[..]) {
            let (key, _) = entry.map_err(StoreError::database("summary"))?;
            let Some(session) = keys::tail::<16>(&key).map(SessionId) else { continue };
            let in_window = window.low <= session.0 && session.0 <= window.high;
            if in_window
                && below.is_none_or(|below| session < below)
                && (newest.len() < room || newest.peek().is_some_and(|Reverse(least)| *least < session))
            {
                newest.push(Reverse(session));
                if newest.len() > room {
                    newest.pop();
                }
            }
        }
        let sorted = newest.into_sorted_vec();
        let full = sorted.len() >= room;
        let mut before = None;
        for Reverse(session) in sorted {
            // A session has two postings when a proxy claimed another source of the same prefix.
            if before.replace(session) != Some(session) && !visit(session)? {
                return Ok(());
            }
        }
        below = before;
        if !full {
            return Ok(());
        }
    }
}

fn read(segment: &Segment, session: &SessionId) -> Result<Option<SessionRow>, StoreError> {
    let value = segment.get(&keys::key(keys::SESSION, &[&session.0])).map_err(StoreError::database("summary"))?;
    Ok(value.and_then(|bytes| rows::decode(&bytes)))
}

fn parse_cursor(cursor: &Cursor) -> Result<(Day, SessionId), StoreError> {
    let parsed = cursor.0.split_once('/').and_then(|(day, session)| Some((Day::parse(day)?, session.parse().ok()?)));
    parsed.ok_or_else(|| StoreError::Query(format!("{:?} is not a cursor of this list", cursor.0)))
}
