//! The follower: one OS thread that folds what the log holds into the summary.
//!
//! Each day keeps, in the batch that holds its rows, how far of each log it knows; so an event is
//! counted once however often it is offered. `POSITION` says from where a start must look at all;
//! it is never ahead of the days, and without it everything is looked at again.

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

/// Records folded between commits at most.
const COMMIT_RECORDS: u64 = 20_000;
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
    /// Something could not be written: fold from the log again before anything else.
    behind: bool,
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
        };
        follower.position = follower.read_position().unwrap_or_default();
        follower.durable = follower.position.clone();
        let folded = follower.catch_up()?;
        Ok((follower, folded))
    }

    /// Runs until told to stop.
    pub(crate) fn run(mut self, told: &Receiver<Told>) {
        let mut since = Instant::now();
        loop {
            let next = match told.try_recv() {
                Ok(next) => next,
                Err(TryRecvError::Disconnected) => return,
                Err(TryRecvError::Empty) => {
                    self.commit_or_warn();
                    since = Instant::now();
                    match told.recv_timeout(IDLE_PART) {
                        Ok(next) => next,
                        Err(RecvTimeoutError::Timeout) => continue,
                        Err(RecvTimeoutError::Disconnected) => return,
                    }
                }
            };
            match next {
                Told::Items(items) => self.fold_or_warn(&items),
                Told::Barrier(reply) => drop(reply.send(self.commit())),
                Told::Rebuild(reply) => drop(reply.send(self.rebuild())),
                Told::Expire(day, reply) => drop(reply.send(self.expire(day))),
                Told::Stop(true) => return self.finish(),
                Told::Stop(false) => return,
            }
            if self.folded >= COMMIT_RECORDS || since.elapsed() >= COMMIT_TIME {
                self.commit_or_warn();
                since = Instant::now();
            }
        }
    }

    fn fold_or_warn(&mut self, items: &[Item]) {
        let result = if self.behind { self.catch_up().map(drop) } else { items.iter().try_for_each(|item| self.fold(item)) };
        match result {
            Ok(()) => self.behind = false,
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
        tracing::error!(error = %e, "summary not written; it is caught up from the log");
        for day in std::mem::take(&mut self.work).into_keys() {
            self.summary.pool.discard(&day.name());
        }
        self.position.clone_from(&self.durable);
        self.behind = true;
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
            let segment = self.summary.day_for_writing(day, self.cache_bytes)?;
            self.work.insert(day, DayWork::new(segment)?);
        }
        self.work.get_mut(&day).ok_or(StoreError::Closed)
    }

    fn put_down(&mut self, day: Day) -> Result<(), StoreError> {
        match self.work.remove(&day) {
            Some(work) => self.summary.put_down(day, &work.segment),
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

    /// Folds what the log has and the summary does not, block by block.
    fn catch_up(&mut self) -> Result<u64, StoreError> {
        let log = self.log.clone();
        let before = self.total;
        for (number, index) in log.indexes() {
            for (id, range) in index.logs {
                let known = self.position.get(&id).copied().unwrap_or(0);
                if range.last <= known {
                    continue;
                }
                let mut gaps = log.gaps(number, id)?.into_iter().peekable();
                let from = log.block_before(number, id, known.saturating_add(1))?;
                let segment = log.segment(number)?;
                let (low, high) = (keys::block(id, from), keys::block(id, u64::MAX));
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
                }
                for gap in gaps {
                    self.fold_new_gap(id, gap)?;
                }
            }
        }
        self.commit()?;
        self.write_position()?;
        Ok(self.total - before)
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
        self.folded = 0;
        self.behind = false;
        self.catch_up()
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
        if !self.behind
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
        if self.behind {
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
