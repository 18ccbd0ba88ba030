//! Findings in the summary: one row a finding and day, merged over the days it was told of, and the
//! keys by which a session's findings are found.
//!
//! A row holds what lists show; evidence and packets are in the record it points at.

use super::StoreHandle;
use super::config::StoreError;
use super::day::{Day, DayWork, session_ns};
use super::fold::{Event, cut};
use super::keys;
use super::merge::{Top, merged};
use super::query::{Cursor, IpPrefix, Lookup, Page, page_limit};
use super::rows::{self, MAX_NAMES, Row};
use super::summary::Summary;
use crate::segment::Segment;
use glasshive_event::{FindingId, LogId, SessionId, Severity, StoredFinding};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

/// Findings an ambiguous name shows.
const SHOWN: usize = 8;
/// Findings listed of one session.
const MAX_OF_SESSION: usize = 256;
/// Days a finding is looked for after the session it names.
const MAX_DAYS: usize = 64;

/// One finding, as its newest record says.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct FindingRow {
    /// Its id.
    pub finding: FindingId,
    /// Net.
    pub net: String,
    /// Node that recorded it: the sensor, or the controller.
    pub node: String,
    /// Log of its newest record.
    pub log: LogId,
    /// Sequence number of its newest record.
    pub seq: u64,
    /// Records there are of it.
    pub records: u64,
    /// Detector.
    pub detector: String,
    /// Its version.
    pub version: u16,
    /// Same key, same matter.
    pub key: String,
    /// How bad.
    pub severity: Severity,
    /// How sure, 0 to 100.
    pub confidence: u8,
    /// Techniques, primary first.
    pub techniques: Vec<String>,
    /// Use cases.
    pub use_cases: Vec<String>,
    /// Who did it.
    pub actor: Option<IpAddr>,
    /// To whom.
    pub target: Option<IpAddr>,
    /// The reason in one sentence.
    pub summary: String,
    /// Earliest evidence, nanoseconds UTC.
    pub first_ns: i64,
    /// The observation that made the newest record.
    pub at_ns: i64,
    /// Whether any record of it came from the second pass.
    pub late: bool,
    /// Sessions it rests on, up to [`MAX_NAMES`].
    pub sessions: Vec<SessionId>,
    /// How many flows it rests on.
    pub flow_count: u64,
}

impl Row for FindingRow {}

/// Which findings, newest first.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct FindingQuery {
    /// Told at or after, nanoseconds UTC.
    pub since: Option<i64>,
    /// Told before.
    pub until: Option<i64>,
    /// Net.
    pub net: Option<String>,
    /// Technique; `T1021` means its sub-techniques too.
    pub technique: Option<String>,
    /// Actor: address or prefix.
    pub source: Option<IpPrefix>,
    /// Detector.
    pub detector: Option<String>,
    /// Node that recorded it.
    pub node: Option<String>,
    /// At least this bad.
    pub min_severity: Severity,
    /// Rows a page; 0 = [`super::DEFAULT_LIMIT`].
    pub limit: usize,
    /// From the page before.
    pub cursor: Option<Cursor>,
}

impl StoreHandle {
    /// Findings, newest first.
    pub async fn findings(&self, query: FindingQuery) -> Result<Page<FindingRow>, StoreError> {
        self.question(move |shared| list(&shared.summary, &query)).await
    }

    /// The finding of that id, or of an unambiguous start or end of one (at least 4 hexadecimal digits).
    pub async fn finding(&self, name: &str) -> Result<Lookup<FindingRow>, StoreError> {
        let name = name.to_owned();
        self.question(move |shared| lookup(&shared.summary, &name)).await
    }

    /// Findings that rest on a session, oldest first.
    pub async fn session_findings(&self, session: SessionId) -> Result<Vec<FindingRow>, StoreError> {
        self.question(move |shared| of_session(&shared.summary, session)).await
    }
}

/// Folds a record of a finding into its row.
pub(crate) fn fold_finding(row: &mut FindingRow, event: &Event<'_>, finding: &StoredFinding) {
    let cut_all = |names: &[String]| names.iter().take(MAX_NAMES).map(|name| cut(name)).collect();
    let new = FindingRow {
        finding: finding.finding,
        net: event.net.to_owned(),
        node: event.node.to_owned(),
        log: event.log,
        seq: event.seq,
        records: 1,
        detector: cut(&finding.detector),
        version: finding.version,
        key: cut(&finding.key),
        severity: finding.severity,
        confidence: finding.confidence,
        techniques: cut_all(&finding.techniques),
        use_cases: cut_all(&finding.use_cases),
        actor: finding.actor,
        target: finding.target,
        summary: cut(&finding.summary),
        first_ns: finding.first.0,
        at_ns: finding.at.0,
        late: finding.late,
        sessions: finding.sessions.iter().take(MAX_NAMES).copied().collect(),
        flow_count: finding.flow_count,
    };
    merge_finding(row, &new);
}

/// Adds another record's, or another day's, row of the same finding: the newest record stands.
pub(crate) fn merge_finding(row: &mut FindingRow, other: &FindingRow) {
    if row.records == 0 {
        row.clone_from(other);
        return;
    }
    let (records, late) = (row.records.saturating_add(other.records), row.late || other.late);
    let first_ns = row.first_ns.min(other.first_ns);
    let age = |row: &FindingRow| (row.at_ns, row.severity, row.log, row.seq);
    if age(other) > age(row) {
        row.clone_from(other);
    }
    (row.records, row.late, row.first_ns) = (records, late, first_ns);
}

/// Times of the sessions a finding counts for, those of its own day and the one before, so that a node cannot
/// make days by naming sessions of all times.
pub(crate) fn judged(finding: &StoredFinding, received_ns: i64, told: Day) -> impl Iterator<Item = (i64, SessionId)> {
    let times = finding.sessions.iter().map(move |session| (session_ns(session, received_ns), *session));
    times.filter(move |(ns, _)| Day::of(*ns) == told || Day::of(*ns).is_before(told))
}

impl DayWork {
    /// What a finding's record means to its row.
    pub(crate) fn finding(&mut self, event: &Event<'_>, finding: &StoredFinding) -> Result<(), StoreError> {
        self.findings.change(&self.segment, &[&finding.finding.0], |row| fold_finding(row, event, finding))?;
        self.mark(keys::key(keys::FINDING_ENDING, &[&keys::reversed16(finding.finding.0)]));
        Ok(())
    }

    /// What a finding means to a session it rests on: it is counted once, however often it is told.
    pub(crate) fn judge(&mut self, finding: FindingId, session: SessionId) -> Result<(), StoreError> {
        let key = keys::key(keys::JUDGED, &[&session.0, &finding.0]);
        let known = self.is_marked(&key)?;
        if !known {
            self.sessions.change(&self.segment, &[&session.0], |row| {
                row.session = session;
                row.findings = row.findings.saturating_add(1);
            })?;
            self.mark(key);
        }
        Ok(())
    }
}

fn open(summary: &Summary, days: &[Day]) -> Result<Vec<Arc<Segment>>, StoreError> {
    days.iter().map(|day| summary.day(*day)).collect()
}

/// Answers [`StoreHandle::findings`].
fn list(summary: &Summary, query: &FindingQuery) -> Result<Page<FindingRow>, StoreError> {
    // Rows lie under the day their record was written, which is not before the day it speaks of.
    let days = open(summary, &summary.days(query.since, None))?;
    let mut top = Top::new(page_limit(query.limit), query.cursor.as_ref())?;
    let same = |asked: &Option<String>, is: &str| asked.as_deref().is_none_or(|asked| asked == is);
    merged(&days, &keys::span(&[keys::FINDING], 16), merge_finding, |key, row: FindingRow| {
        let fits = query.since.is_none_or(|since| row.at_ns >= since)
            && query.until.is_none_or(|until| row.at_ns < until)
            && row.severity >= query.min_severity
            && same(&query.net, &row.net)
            && same(&query.detector, &row.detector)
            && same(&query.node, &row.node)
            && query.source.is_none_or(|source| row.actor.is_some_and(|actor| source.contains(actor)))
            && query.technique.as_deref().is_none_or(|wanted| row.techniques.iter().any(|id| is_technique(id, wanted)));
        if fits {
            top.offer(row.at_ns, key, row);
        }
    })?;
    Ok(top.page())
}

/// `T1021.004` is a `T1021`.
fn is_technique(id: &str, wanted: &str) -> bool {
    id.strip_prefix(wanted).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// Answers [`StoreHandle::finding`].
fn lookup(summary: &Summary, name: &str) -> Result<Lookup<FindingRow>, StoreError> {
    let digits: Vec<u8> = name.bytes().filter(|byte| *byte != b'-').map(|byte| byte.to_ascii_lowercase()).collect();
    if digits.len() < 4 || digits.len() > 32 || !digits.iter().all(u8::is_ascii_hexdigit) {
        return Err(StoreError::Query(format!("{name:?} is no finding id: give it whole, or at least 4 digits of its start or end")));
    }
    let mut ending = digits.clone();
    ending.reverse();
    let (Some(start), Some(end)) = (keys::digits_span(&digits), keys::digits_span(&ending)) else { return Ok(Lookup::NotFound) };
    let mut found: BTreeSet<FindingId> = BTreeSet::new();
    for day in summary.days(None, None).into_iter().rev() {
        let segment = summary.day(day)?;
        for (tag, (low, high)) in [(keys::FINDING, &start), (keys::FINDING_ENDING, &end)] {
            let (low, high) = (keys::key(tag, &[low]), keys::key(tag, &[high]));
            for entry in segment.range(&low[..]..=&high[..]).take(SHOWN) {
                let (key, _) = entry.map_err(StoreError::database(day.name()))?;
                let Some(id) = keys::tail::<16>(&key) else { continue };
                found.insert(FindingId(if tag == keys::FINDING_ENDING { keys::reversed16(id) } else { id }));
            }
        }
        if found.len() >= SHOWN {
            break;
        }
    }
    let days = open(summary, &summary.days(None, None))?;
    let mut rows = Vec::new();
    for id in found.into_iter().take(SHOWN) {
        rows.extend(whole(&days, id)?);
    }
    Ok(match rows.len() {
        0 => Lookup::NotFound,
        1 => rows.pop().map_or(Lookup::NotFound, |row| Lookup::Found(Box::new(row))),
        _ => Lookup::Ambiguous(rows),
    })
}

/// A finding over all its days.
fn whole(days: &[Arc<Segment>], id: FindingId) -> Result<Option<FindingRow>, StoreError> {
    let key = keys::key(keys::FINDING, &[&id.0]);
    let mut sum = FindingRow::default();
    for day in days {
        let value = day.get(&key).map_err(StoreError::database("summary"))?;
        if let Some(row) = value.and_then(|bytes| rows::decode::<FindingRow>(&bytes)) {
            merge_finding(&mut sum, &row);
        }
    }
    Ok(Some(sum).filter(|row| row.records > 0))
}

/// Answers [`StoreHandle::session_findings`].
fn of_session(summary: &Summary, session: SessionId) -> Result<Vec<FindingRow>, StoreError> {
    let day_ns = 86_400_000_000_000;
    let at = super::flows::id_ns(&session.0);
    let mut days: Vec<Day> = summary.days(Some(at.saturating_sub(day_ns)), None);
    days.truncate(MAX_DAYS);
    let days = open(summary, &days)?;
    let mut found: BTreeSet<FindingId> = BTreeSet::new();
    let (low, high) = keys::span(&keys::key(keys::JUDGED, &[&session.0]), 16);
    for part in summary.near(at, at, MAX_DAYS) {
        for entry in summary.day(part)?.range(&low[..]..=&high[..]).take(MAX_OF_SESSION) {
            let (key, _) = entry.map_err(StoreError::database("summary"))?;
            found.extend(keys::tail::<16>(&key).map(FindingId));
        }
    }
    let mut rows = Vec::new();
    for id in found {
        rows.extend(whole(&days, id)?);
    }
    rows.sort_by_key(|row| (row.first_ns, row.finding));
    Ok(rows)
}
