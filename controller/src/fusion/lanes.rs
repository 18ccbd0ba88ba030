//! The logs side by side: each is read in its own order, a window at a time, and the earliest record
//! of all comes next.

use super::Status;
use super::observe::{Seen, Watchers, hole, observe, time};
use crate::fail::Failure;
use glasshive_event::LogId;
use glasshive_event::observation::Observation;
use glasshive_journal::store::{HighWater, StoreHandle};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};

/// Records of one log held at most.
const WINDOW: usize = 256;
/// Bytes of records of one log read at once, about.
const WINDOW_BYTES: usize = 256 * 1024;

/// One record of one log.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) log: LogId,
    pub(super) seq: u64,
    pub(super) at: i64,
    pub(super) net: String,
    pub(super) seen: Option<Box<Observation>>,
    /// Records between the one before and this one will never come.
    pub(super) hole: Option<Box<Observation>>,
}

#[derive(Debug, Default)]
struct Lane {
    /// Last record read into the window.
    read: u64,
    /// Last record that is stored.
    stored: u64,
    /// Time of the last record read; 0 before the first.
    last_at: i64,
    window: VecDeque<Item>,
}

/// All logs but the controller's own.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    lanes: BTreeMap<LogId, Lane>,
    heads: BinaryHeap<Reverse<(i64, LogId)>>,
}

impl Lanes {
    /// Takes note of what is stored now; logs not known yet begin behind `positions`.
    pub(super) fn stored(&mut self, logs: &[HighWater], positions: &BTreeMap<LogId, u64>) {
        for high in logs {
            let lane = self
                .lanes
                .entry(high.log)
                .or_insert_with(|| Lane { read: positions.get(&high.log).copied().unwrap_or(0), ..Lane::default() });
            lane.stored = lane.stored.max(high.seq);
        }
    }

    /// Reads on wherever a window is empty and more is stored: only then is the earliest known.
    pub(super) async fn fill(&mut self, store: &StoreHandle, watchers: &Watchers, status: &mut Status) -> Result<(), Failure> {
        for (log, lane) in &mut self.lanes {
            while lane.window.is_empty() && lane.read < lane.stored {
                fill(*log, lane, store, watchers, status).await?;
                if let Some(head) = lane.window.front() {
                    self.heads.push(Reverse((head.at, *log)));
                }
            }
        }
        Ok(())
    }

    /// The earliest record before `until`; its log is read on when its window ran empty.
    pub(super) async fn next(
        &mut self,
        until: i64,
        store: &StoreHandle,
        watchers: &Watchers,
        status: &mut Status,
    ) -> Result<Option<Item>, Failure> {
        let Some(Reverse((at, log))) = self.heads.peek().copied() else { return Ok(None) };
        if at >= until {
            return Ok(None);
        }
        let Some(lane) = self.lanes.get_mut(&log) else { return Ok(None) };
        // Read on first: when that fails, nothing was taken.
        if lane.window.len() == 1 && lane.read < lane.stored {
            fill(log, lane, store, watchers, status).await?;
        }
        self.heads.pop();
        let item = lane.window.pop_front();
        if let Some(head) = lane.window.front() {
            self.heads.push(Reverse((head.at, log)));
        }
        Ok(item)
    }

    /// Records stored and not taken yet.
    pub(super) fn behind(&self) -> u64 {
        self.lanes.values().map(|lane| lane.stored.saturating_sub(lane.read).saturating_add(lane.window.len() as u64)).sum()
    }
}

/// Reads the next records of a log behind its window.
async fn fill(log: LogId, lane: &mut Lane, store: &StoreHandle, watchers: &Watchers, status: &mut Status) -> Result<(), Failure> {
    let read = store.log_events(log, lane.read, WINDOW, WINDOW_BYTES).await?;
    if read.is_empty() {
        // Declared lost by its node, or deleted by retention before anyone looked.
        status.missing = status.missing.saturating_add(lane.stored.saturating_sub(lane.read));
        lane.read = lane.stored;
        return Ok(());
    }
    for stored in &read {
        status.read = status.read.saturating_add(1);
        let at = time(stored);
        let gone = stored.seq.saturating_sub(lane.read).saturating_sub(1);
        // Before the first record of a log nothing is known to be missing.
        let hole = if gone > 0 && lane.last_at != 0 { hole(&stored.node, lane.last_at, at, watchers) } else { None };
        status.missing = status.missing.saturating_add(if lane.read > 0 { gone } else { 0 });
        let seen = match observe(stored, watchers) {
            Seen::Fact(observation) => Some(observation),
            Seen::Nothing => None,
            Seen::Unreadable => {
                status.unreadable = status.unreadable.saturating_add(1);
                None
            }
        };
        lane.window.push_back(Item { log, seq: stored.seq, at, net: stored.net.clone(), seen, hole });
        (lane.read, lane.last_at) = (stored.seq, at);
    }
    Ok(())
}
