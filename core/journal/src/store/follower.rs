//! The follower: one OS thread that folds what the log holds into the summary.
//!
//! Each day keeps, in the batch that holds its rows, how far of each log it knows; so an event is
//! counted once however often it is offered. `POSITION` says from where a start must look at all;
//! it is never ahead of the days, and without it everything is looked at again.
//!
//! The writer never waits for it: what finds no room in its queue is read from the log, a slice at a
//! time, so that it still answers between two of them.

use super::config::StoreError;
use super::day::{Day, DayWork, session_ns};
use super::findings::judged;
use super::flows::flow_ns;
use super::fold::{Detail, Event};
use super::keys;
use super::log::{Log, StoredGap};
use super::summary::Summary;
use super::value::BlockView;
use crate::disk;
use glasshive_event::{LogId, SessionId};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// Records folded between commits at most. sled keeps every version of a page until a batch is through: with four
/// times as many that is hundreds of megabytes.
const COMMIT_RECORDS: u64 = 5_000;
/// Records read from the log before what was told is looked at again: about a second.
const SLICE: u64 = 8 * COMMIT_RECORDS;
/// Pause before what failed is tried again.
const AGAIN: Duration = Duration::from_secs(1);
/// Time between commits at most while there is always more.
const COMMIT_TIME: Duration = Duration::from_millis(300);
/// Days and parts kept in work; more are put down, the least recently changed first. Sessions and flows end in the
/// part they began in, so several parts of a busy day are.
const MAX_WORK: usize = 6;
/// Time without a change after which a day is put down.
const IDLE_DAY: Duration = Duration::from_secs(60);
/// The same for a day or part behind which another has begun: a finding that rests on old sessions opens their
/// parts, and an open one takes tens of megabytes.
const IDLE_PART: Duration = Duration::from_secs(5);
/// A day itself takes this part of the entries a later part takes: it stays open all day for its sums, and sled goes
/// through everything beside them as often as it makes room.
const FIRST: u64 = 16;
/// Time between two writes of `POSITION`.
const POSITION_TIME: Duration = Duration::from_secs(2);

/// Something durable in the log.
pub(crate) enum Item {
    /// A stored block.
    Block { segment: u64, log: LogId, first: u64, value: Vec<u8> },
    /// A declared gap.
    Gap { log: LogId, gap: StoredGap },
}

/// What the thread is told.
pub(crate) enum Told {
    /// Newly durable.
    Items(Vec<Item>),
    /// Answer when everything told before is in the summary.
    Barrier(oneshot::Sender<Result<(), StoreError>>),
    /// Make the summary again from the log; answers with the records folded.
    Rebuild(oneshot::Sender<Result<u64, StoreError>>),
    /// Delete a day; answers whether it is gone.
    Expire(Day, oneshot::Sender<Result<bool, StoreError>>),
    /// End; `true` = cleanly.
    Stop(bool),
    /// Do nothing until the sender is gone.
    #[cfg(test)]
    Hold(Receiver<()>),
}

/// What one event means to one day.
enum Part {
    /// Its session's row.
    Session(SessionId),
    /// Its flow's row.
    Flow,
    /// A session a finding rests on.
    Judged(SessionId),
    /// Everything else.
    Totals,
}

/// The state of the thread.
pub(crate) struct Follower {
    log: Arc<Log>,
    summary: Arc<Summary>,
    cache_bytes: u64,
    /// Entries after which a day goes on in a new part.
    part_entries: u64,
    work: HashMap<Day, DayWork>,
    /// How far each log is folded, and how far that is durable.
    position: BTreeMap<LogId, u64>,
    durable: BTreeMap<LogId, u64>,
    /// Records folded since the last commit, and ever.
    folded: u64,
    total: u64,
    position_written: Option<Instant>,
    /// The log holds something that was not told: it is read from there.
    behind: bool,
    /// When something could not be written; what was folded since the last commit is to be folded again.
    broken: Option<Instant>,
    /// Who waits until everything is folded that was in the log when they asked.
    waiting: Vec<oneshot::Sender<Result<(), StoreError>>>,
}

/// `POSITION` as it is written.
#[derive(Serialize, Deserialize)]
struct Position {
    days: BTreeSet<String>,
    logs: BTreeMap<LogId, u64>,
}

impl Follower {
    /// Catches the summary up with the log; returns the follower and how many records it folded.
    pub(crate) fn open(log: Arc<Log>, summary: Arc<Summary>, cache_bytes: u64, part_entries: u64) -> Result<(Self, u64), StoreError> {
        let mut follower = Self {
            log,
            summary,
            cache_bytes,
            part_entries,
            work: HashMap::new(),
            position: BTreeMap::new(),
            durable: BTreeMap::new(),
            folded: 0,
            total: 0,
            position_written: None,
            behind: false,
            broken: None,
            waiting: Vec::new(),
        };
        follower.position = follower.read_position().unwrap_or_default();
        follower.durable = follower.position.clone();
        follower.log.follow(&follower.durable);
        follower.catch_up(u64::MAX)?;
        follower.write_position()?;
        let folded = follower.total;
        Ok((follower, folded))
    }

    /// Runs until told to stop.
    pub(crate) fn run(mut self, told: &Receiver<Told>) {
        let mut since = Instant::now();
        loop {
            let next = match told.try_recv() {
                Ok(next) => next,
                Err(TryRecvError::Disconnected) => return,
                Err(TryRecvError::Empty) if self.behind && self.broken.is_none_or(|at| at.elapsed() >= AGAIN) => {
                    self.slice();
                    continue;
                }
                Err(TryRecvError::Empty) => {
                    self.commit_or_warn();
                    since = Instant::now();
                    match told.recv_timeout(if self.behind { AGAIN } else { IDLE_PART }) {
                        Ok(next) => next,
                        Err(RecvTimeoutError::Timeout) => continue,
                        Err(RecvTimeoutError::Disconnected) => return,
                    }
                }
            };
            // Asked with every message: when one was left out, the queue was full of others.
            if self.log.was_left_out() {
                self.fall_behind();
            }
            match next {
                // In the log already, as everything told is.
                Told::Items(_) if self.behind => continue,
                Told::Items(items) => self.fold_or_warn(&items),
                Told::Barrier(reply) if self.behind => self.waiting.push(reply),
                Told::Barrier(reply) => drop(reply.send(self.commit())),
                Told::Rebuild(reply) => drop(reply.send(self.rebuild())),
                Told::Expire(day, reply) => drop(reply.send(self.expire(day))),
                Told::Stop(true) => return self.finish(),
                Told::Stop(false) => return,
                #[cfg(test)]
                Told::Hold(until) => drop(until.recv()),
            }
            if self.folded >= COMMIT_RECORDS || since.elapsed() >= COMMIT_TIME {
                self.commit_or_warn();
                since = Instant::now();
            }
        }
    }

    fn fold_or_warn(&mut self, items: &[Item]) {
        if let Err(e) = items.iter().try_for_each(|item| self.fold(item)) {
            self.failed(&e);
        }
    }

    /// From now on what is told is read from the log, where it is, until all of it is folded.
    fn fall_behind(&mut self) {
        self.behind = true;
        self.log.fall_behind(&self.durable);
    }

    /// Some of what was not told; behind the last of it whoever waits is answered.
    fn slice(&mut self) {
        match self.catch_up(SLICE) {
            Ok(all) => {
                self.broken = None;
                if all {
                    // Whoever waits asked before this slice began.
                    self.waiting.drain(..).for_each(|reply| drop(reply.send(Ok(()))));
                    // What was left out meanwhile may lie behind the end that was seen.
                    self.behind = !self.log.caught_up();
                }
            }
            Err(e) => self.failed(&e),
        }
    }

    fn commit_or_warn(&mut self) {
        if let Err(e) = self.commit() {
            self.failed(&e);
        }
    }

    /// What was not written is dropped and read from the log again; days whose database failed are
    /// opened again.
    fn failed(&mut self, e: &StoreError) {
        match self.broken {
            None => tracing::error!(error = %e, "summary not written; it is caught up from the log, tried again every second"),
            Some(_) => tracing::debug!(error = %e, "summary still not written"),
        }
        for day in std::mem::take(&mut self.work).into_keys() {
            self.summary.pool.discard(&day.name());
        }
        self.position.clone_from(&self.durable);
        self.broken = Some(Instant::now());
        self.fall_behind();
        for reply in self.waiting.drain(..) {
            let _ = reply.send(Err(StoreError::Database { what: "summary".into(), why: e.to_string() }));
        }
    }

    fn fold(&mut self, item: &Item) -> Result<(), StoreError> {
        match item {
            Item::Gap { log, gap } => {
                let work = self.day(Day::of(gap.received_ns))?;
                if !work.knows(*log, gap.to) {
                    work.gap(*log, gap)?;
                    work.advance(*log, gap.to);
                }
                self.position.insert(*log, gap.to);
                Ok(())
            }
            Item::Block { segment, log, first, value } => {
                let Some(block) = BlockView::parse(value) else {
                    tracing::error!(segment, first, "stored block is damaged; its events are not in the summary");
                    return Ok(());
                };
                for (seq, record) in (*first..).zip(block.iter()) {
                    if self.position.get(log).is_some_and(|known| *known >= seq) {
                        continue;
                    }
                    let event = Event::read(record, &block, *log, seq, (*segment, *first));
                    self.record(&event)?;
                    self.position.insert(*log, seq);
                    self.folded += 1;
                    self.total += 1;
                }
                Ok(())
            }
        }
    }

    /// One event: every day that has a part in it, each if it does not know it yet.
    fn record(&mut self, event: &Event<'_>) -> Result<(), StoreError> {
        let (log, seq) = (event.log, event.seq);
        let totals = Day::of(Day::filed(event.wall_ns, event.received_ns));
        let mut rows: Vec<(i64, Part)> = Vec::new();
        match (&event.detail, event.envelope.session) {
            (Detail::Finding(finding), _) => {
                rows.extend(judged(finding, event.received_ns, totals).map(|(ns, session)| (ns, Part::Judged(session))));
            }
            (Detail::Flow(flow), _) => rows.push((flow_ns(flow, event.received_ns), Part::Flow)),
            (_, Some(session)) => rows.push((session_ns(&session, event.received_ns), Part::Session(session))),
            _ => {}
        }
        let mut parts: Vec<(Day, i64, Part)> = rows.into_iter().map(|(ns, part)| (self.summary.place(ns), ns, part)).collect();
        parts.push((totals, i64::MIN, Part::Totals));
        parts.sort_by_key(|(day, ..)| *day);
        for group in parts.chunk_by(|(a, ..), (b, ..)| a == b) {
            let Some((day, ..)) = group.first() else { continue };
            let work = self.day(*day)?;
            if work.knows(log, seq) {
                continue;
            }
            for (_, ns, part) in group {
                work.filed(*ns);
                match (part, &event.detail) {
                    (Part::Judged(session), Detail::Finding(finding)) => work.judge(finding.finding, *session)?,
                    (Part::Flow, Detail::Flow(flow)) => work.flow(event, flow)?,
                    (Part::Session(session), _) => work.session(event, *session)?,
                    _ => work.totals(event)?,
                }
            }
            work.advance(log, seq);
        }
        Ok(())
    }

    fn day(&mut self, day: Day) -> Result<&mut DayWork, StoreError> {
        if !self.work.contains_key(&day) {
            if self.work.len() >= MAX_WORK {
                // No new part begins here: what is being folded has its place already.
                self.settle()?;
                let oldest = self.work.iter().min_by_key(|(day, work)| (work.changed, **day)).map(|(day, _)| *day);
                if let Some(oldest) = oldest {
                    self.put_down(oldest)?;
                    self.summary.pool.release(&oldest.name())?;
                }
            }
            let work = DayWork::new(self.summary.day_for_writing(day, self.cache_bytes)?)?;
            self.work.insert(day, work);
        }
        self.work.get_mut(&day).ok_or(StoreError::Closed)
    }

    fn put_down(&mut self, day: Day) -> Result<(), StoreError> {
        match self.work.remove(&day) {
            Some(work) => {
                // A copy, so that no question waits while the filter is made.
                let tops = work.tops().clone();
                self.summary.put_down(day, &work.segment, &tops)
            }
            None => Ok(()),
        }
    }

    /// Makes everything folded so far durable, between two records.
    fn commit(&mut self) -> Result<(), StoreError> {
        self.settle()?;
        self.divide()
    }

    fn settle(&mut self) -> Result<(), StoreError> {
        let mut changed = false;
        for work in self.work.values_mut() {
            changed |= work.dirty;
            work.commit()?;
        }
        self.folded = 0;
        if changed {
            self.durable.clone_from(&self.position);
            self.log.follow(&self.durable);
        }
        let most = |day: Day| if self.summary.is_last(day) { IDLE_DAY } else { IDLE_PART };
        let idle = |(day, work): &(&Day, &DayWork)| work.changed.elapsed() > most(**day);
        let idle: Vec<Day> = self.work.iter().filter(idle).map(|(day, _)| *day).collect();
        for day in idle {
            self.put_down(day)?;
            self.summary.pool.release(&day.name())?;
        }
        if changed && self.position_written.is_none_or(|at| at.elapsed() >= POSITION_TIME) {
            self.write_position()?;
        }
        Ok(())
    }

    /// Begins a new part of a day whose last one has enough entries. The full one is closed: what sled
    /// gathered in memory while it was written goes, and late events open it again.
    fn divide(&mut self) -> Result<(), StoreError> {
        let most = |day: Day| if day.is_part() { self.part_entries } else { self.part_entries / FIRST };
        let full = |(day, work): &(&Day, &DayWork)| work.extent.entries >= most(**day) && self.summary.is_last(**day);
        let full: Vec<(Day, Day)> = self.work.iter().filter(full).map(|(day, work)| (*day, Day::after(work.extent.newest_ns))).collect();
        for (day, next) in full {
            // A clock that is ahead may have filed rows under times to come.
            if next > day && next.whole() == day.whole() && next.is_part() {
                self.summary.begin(next, self.cache_bytes)?;
                self.work.remove(&day);
                self.summary.pool.release(&day.name())?;
            }
        }
        Ok(())
    }

    /// Folds what the log has and the summary does not, block by block: `most` records, or the rest of a block
    /// more. Says whether that was everything the log held when it began.
    fn catch_up(&mut self, most: u64) -> Result<bool, StoreError> {
        let log = self.log.clone();
        let end = self.total.saturating_add(most);
        for (number, index) in log.indexes() {
            for (id, range) in index.logs {
                let known = self.position.get(&id).copied().unwrap_or(0);
                if range.last <= known {
                    continue;
                }
                // Up to where the index stood: a gap and the blocks behind it may come while this reads.
                let mut gaps = log.gaps(number, id)?.into_iter().filter(|gap| gap.to <= range.last).peekable();
                let from = log.block_before(number, id, known.saturating_add(1))?;
                let segment = log.segment(number)?;
                let (low, high) = (keys::block(id, from), keys::block(id, range.last));
                for entry in segment.range(&low[..]..=&high[..]) {
                    let (key, value) = entry.map_err(StoreError::database(super::log::name(number)))?;
                    let Some((_, first)) = keys::parse_block(&key) else { continue };
                    while let Some(gap) = gaps.next_if(|gap| gap.from < first) {
                        self.fold_new_gap(id, gap)?;
                    }
                    self.fold(&Item::Block { segment: number, log: id, first, value: value.to_vec() })?;
                    if self.folded >= COMMIT_RECORDS {
                        self.commit()?;
                    }
                    if self.total >= end {
                        return Ok(false);
                    }
                }
                for gap in gaps {
                    self.fold_new_gap(id, gap)?;
                }
            }
        }
        self.commit()?;
        Ok(true)
    }

    fn fold_new_gap(&mut self, log: LogId, gap: StoredGap) -> Result<(), StoreError> {
        if self.position.get(&log).is_some_and(|known| *known >= gap.to) {
            return Ok(());
        }
        self.fold(&Item::Gap { log, gap })
    }

    /// Makes every day again that the log still holds all of.
    fn rebuild(&mut self) -> Result<u64, StoreError> {
        let _ = std::fs::remove_file(self.position_file());
        self.work.clear();
        let kept = self.log.forgotten().map(Day::of);
        for day in self.summary.parts(None, None) {
            if kept.is_some_and(|kept| day.whole() <= kept) {
                continue;
            }
            if !self.summary.remove(day)? {
                return Err(StoreError::Query(format!("the summary of {} is being read; try again", day.name())));
            }
        }
        self.position.clear();
        self.durable.clear();
        (self.folded, self.broken) = (0, None);
        self.fall_behind();
        let before = self.total;
        self.catch_up(u64::MAX)?;
        self.write_position()?;
        Ok(self.total - before)
    }

    fn expire(&mut self, day: Day) -> Result<bool, StoreError> {
        self.commit()?;
        self.work.retain(|part, _| part.whole() != day);
        // Before the day goes: a start that misses a day it should have looks at the whole log again.
        self.write_position_without(Some(day))?;
        let mut gone = true;
        for part in self.summary.parts(Some(day.start_ns()), Some(day.end_ns())) {
            gone &= self.summary.remove(part)?;
        }
        Ok(gone)
    }

    fn finish(mut self) {
        self.commit_or_warn();
        if self.broken.is_none()
            && let Err(e) = self.write_position()
        {
            tracing::warn!(error = %e, "summary position not written; the next start looks at more");
        }
        for day in self.work.keys().copied().collect::<Vec<_>>() {
            if let Err(e) = self.put_down(day) {
                tracing::warn!(error = %e, "source filter not written");
            }
        }
    }

    fn position_file(&self) -> PathBuf {
        self.summary.pool.path("POSITION")
    }

    fn write_position(&mut self) -> Result<(), StoreError> {
        self.write_position_without(None)
    }

    fn write_position_without(&mut self, gone: Option<Day>) -> Result<(), StoreError> {
        if self.broken.is_some() {
            return Ok(());
        }
        let days = self.summary.parts(None, None).into_iter().filter(|day| Some(day.whole()) != gone).map(Day::name).collect();
        let position = Position { days, logs: self.position.clone() };
        let path = self.position_file();
        let text = serde_json::to_vec(&position).map_err(StoreError::database(path.display().to_string()))?;
        disk::write_atomic(&path, &text).map_err(StoreError::io(path))?;
        self.position_written = Some(Instant::now());
        Ok(())
    }

    /// Where to start; `None` when it cannot be trusted.
    fn read_position(&self) -> Option<BTreeMap<LogId, u64>> {
        let bytes = disk::read_small(&self.position_file(), 16 << 20).ok()?;
        let position: Position = serde_json::from_slice(&bytes).ok()?;
        let days: BTreeSet<String> = self.summary.parts(None, None).into_iter().map(Day::name).collect();
        position.days.is_subset(&days).then_some(position.logs)
    }
}

#[cfg(test)]
#[path = "follower_tests.rs"]
mod tests;
