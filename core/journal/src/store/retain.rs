//! The keeper: deletes whole segments and whole days by age and quota, and watches free space.
//!
//! It never touches the segment or the days being written; what somebody reads, and what the summary
//! has not read yet, waits for the next look. Under the free-space floor nothing is deleted for it:
//! appends are refused, nodes keep their records, and an operator decides.

use super::Shared;
use super::config::StoreError;
use super::day::Day;
use super::follower::Told;
use crate::disk::{self, Space};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::oneshot;

/// A database nobody asked for so long is closed: sled keeps what it read and wrote in memory, well over its cache.
const IDLE: Duration = Duration::from_secs(30);

/// What a sweep deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Swept {
    /// Log segments.
    pub segments: usize,
    /// Days of the summary.
    pub days: usize,
    /// Bytes still used by both.
    pub used_bytes: u64,
}

/// What may be deleted, by the time of its newest content.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Candidate {
    Segment(u64),
    Day(Day),
}

/// The state of the thread.
pub(crate) struct Keeper(Arc<Shared>);

impl Keeper {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self(shared)
    }

    /// Runs until the sender is gone.
    pub(crate) fn run(self, stopped: &Receiver<()>) {
        while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(self.0.config.check_every) {
            self.look_at_space();
            self.0.log.pool.close_idle(IDLE);
            self.0.summary.pool.close_idle(IDLE);
            if self.0.config.max_age.is_none() && self.0.config.quota_bytes.is_none() {
                continue;
            }
            let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |age| i64::try_from(age.as_nanos()).unwrap_or(i64::MAX));
            match self.sweep(now) {
                Ok(swept) if swept.segments + swept.days > 0 => {
                    tracing::info!(segments = swept.segments, days = swept.days, used_bytes = swept.used_bytes, "retention deleted");
                }
                Ok(_) => {}
                Err(e) => tracing::warn!(error = %e, "retention failed; it is tried again"),
            }
        }
    }

    /// Refuses appends below the floor.
    pub(crate) fn look_at_space(&self) {
        let space = match Space::of(&self.0.config.dir) {
            Ok(space) => space,
            Err(e) => return tracing::warn!(error = %e, "free space unknown"),
        };
        let floor = self.0.config.free_floor.unwrap_or_else(|| space.floor());
        let full = space.free < floor;
        if self.0.published.full.swap(full, Ordering::AcqRel) != full {
            if full {
                tracing::error!(free = space.free, floor, "free space is under the floor: nothing is taken from nodes until there is more");
            } else {
                tracing::info!(free = space.free, "free space is back");
            }
        }
    }

    /// Deletes what is too old, then, oldest first, what is over the quota.
    pub(crate) fn sweep(&self, now_ns: i64) -> Result<Swept, StoreError> {
        let mut swept = Swept::default();
        let mut candidates = self.candidates();
        if let Some(age) = self.0.config.max_age {
            let before = now_ns.saturating_sub(i64::try_from(age.as_nanos()).unwrap_or(i64::MAX));
            let old = candidates.partition_point(|(newest, _)| *newest < before);
            for (_, candidate) in candidates.drain(..old) {
                self.delete(candidate, &mut swept)?;
            }
        }
        swept.used_bytes = self.used()?;
        if let Some(quota) = self.0.config.quota_bytes {
            let mut oldest = candidates.into_iter();
            while swept.used_bytes > quota {
                let Some((_, candidate)) = oldest.next() else { break };
                self.delete(candidate, &mut swept)?;
                swept.used_bytes = self.used()?;
            }
        }
        Ok(swept)
    }

    /// Everything that is not being written and that the summary does not wait for, oldest first.
    fn candidates(&self) -> Vec<(i64, Candidate)> {
        let indexes = self.0.log.indexes();
        let active = indexes.keys().next_back().copied();
        // A segment is as old as the day it came, whatever a node's clock said.
        let mut all: Vec<(i64, Candidate)> = indexes
            .iter()
            .filter(|(number, index)| Some(**number) != active && !self.0.log.is_awaited(index))
            .map(|(number, index)| (index.newest_ns, Candidate::Segment(*number)))
            .collect();
        let mut days: Vec<Day> = self.0.summary.parts(None, None).into_iter().map(Day::whole).collect();
        days.dedup();
        let newest = days.last().copied();
        all.extend(days.into_iter().filter(|day| Some(*day) != newest).map(|day| (day.end_ns(), Candidate::Day(day))));
        all.sort_unstable();
        all
    }

    fn delete(&self, candidate: Candidate, swept: &mut Swept) -> Result<(), StoreError> {
        match candidate {
            Candidate::Segment(number) => swept.segments += usize::from(self.0.log.remove(number)?),
            Candidate::Day(day) => {
                let (reply, answer) = oneshot::channel();
                self.0.follower.send(Told::Expire(day, reply)).map_err(|_| StoreError::Closed)?;
                swept.days += usize::from(answer.blocking_recv().map_err(|_| StoreError::Closed)??);
            }
        }
        Ok(())
    }

    fn used(&self) -> Result<u64, StoreError> {
        let mut total = 0u64;
        for dir in [self.0.log.pool.dir(), self.0.summary.pool.dir()] {
            total = total.saturating_add(disk::used_bytes(dir).map_err(StoreError::io(dir))?);
        }
        Ok(total)
    }
}
