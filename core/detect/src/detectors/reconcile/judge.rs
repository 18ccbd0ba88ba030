//! Who was heard when, and what does not go together.

use glasshive_event::observation::Watcher;
use glasshive_event::{FlowId, SessionId, Timestamp};
use std::collections::VecDeque;

/// What does not go together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum What {
    /// A connection without a session.
    NoSession,
    /// A session without a flow.
    NoFlow,
    /// Other bytes.
    Bytes,
}

/// One judgement of a pair, also that all is well.
#[derive(Debug, Clone)]
pub(super) struct Mismatch {
    pub(super) what: What,
    /// Whether it is one.
    pub(super) mismatch: bool,
    pub(super) flow: Option<FlowId>,
    pub(super) session: Option<SessionId>,
    pub(super) since: Timestamp,
    pub(super) until: Timestamp,
    /// Metric, bytes on the wire, bytes the decoy counted.
    pub(super) counts: [(&'static str, u64, u64); 2],
}

/// Holes remembered; of older ones only their number is.
const HOLES: usize = 1_024;

/// From when to when each watcher was heard, and where its records have holes.
#[derive(Debug, Default)]
pub(super) struct Lives {
    sensor: Option<(i64, i64)>,
    decoys: Option<(i64, i64)>,
    holes: VecDeque<(i64, i64)>,
    forgotten: u64,
}

impl Lives {
    pub(super) fn heard(&mut self, watcher: Watcher, at: Timestamp) {
        let life = match watcher {
            Watcher::Sensor => &mut self.sensor,
            Watcher::Decoys => &mut self.decoys,
        };
        let (first, last) = life.unwrap_or((at.0, at.0));
        *life = Some((first.min(at.0), last.max(at.0)));
    }

    /// Records of either are needed for either judgement.
    pub(super) fn hole(&mut self, _: Watcher, since: Timestamp, until: Timestamp) {
        if self.holes.len() >= HOLES && self.holes.pop_front().is_some() {
            self.forgotten = self.forgotten.saturating_add(1);
        }
        self.holes.push_back((since.0.min(until.0), since.0.max(until.0)));
    }

    /// Whether both were heard at or after that moment.
    pub(super) fn both_after(&self, at: Timestamp) -> bool {
        [self.sensor, self.decoys].iter().all(|life| life.is_some_and(|(_, last)| last >= at.0))
    }

    /// Whether silence of that time means something: both were there, and nothing was lost.
    pub(super) fn knows(&self, since: Timestamp, until: Timestamp) -> bool {
        let there = [self.sensor, self.decoys].iter().all(|life| life.is_some_and(|(first, last)| first <= since.0 && last >= until.0));
        let (from, to) = (since.0.saturating_sub(super::APART), until.0.saturating_add(super::APART));
        there && !self.holes.iter().any(|(since, until)| *since <= to && *until >= from)
    }

    pub(super) fn forgotten(&self) -> u64 {
        self.forgotten
    }
}
