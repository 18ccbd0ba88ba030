//! The follower: turn by turn from its checkpoint to the watermark.
//!
//! A turn feeds what lies before the watermark in the order of time, tells what was found, makes the
//! second passes that are due, and then writes the checkpoint: never before everything is told.

use super::checkpoint::Checkpoint;
use super::lanes::{Item, Lanes};
use super::late::Late;
use super::observe::{Seen, Watchers, kinds, observe, time};
use super::panel::Panel;
use super::past::Past;
use super::teller::{Teller, Untold};
use super::watermark::watermark;
use super::{Board, Settings, Status, table};
use crate::desk::{self, Desk};
use crate::fail::Failure;
use glasshive_detect::DetectorDef;
use glasshive_event::observation::{Fact, Observation};
use glasshive_journal::store::{EventQuery, HighWater, StoreHandle};
use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Records fed in one turn at most.
const TURN: usize = 20_000;
/// Detectors that start anew are fed this much of the past first; no window is longer.
const WARM_NS: i64 = 1_800_000_000_000;
/// Findings read back at the start are those told since this long before the checkpoint.
const READ_BACK_NS: i64 = 7 * 86_400_000_000_000;
/// Sessions of one node write side by side: within this much, a log need not be in the order of time.
/// Detectors take it as it comes; it is not late.
const DISORDER_NS: i64 = 2_000_000_000;
/// Nets at most.
const MAX_NETS: usize = 256;
/// Time between two looks at the store when there was nothing to do.
const PAUSE: Duration = Duration::from_millis(250);
/// Time between two checkpoints when nothing was told.
const CHECKPOINT_NS: i64 = 2_000_000_000;

/// What a follower is made of.
pub struct Parts {
    /// Log and summary.
    pub store: StoreHandle,
    /// The controller's own log.
    pub desk: Arc<Desk>,
    /// Its checkpoint.
    pub path: PathBuf,
    /// Detectors; those of the other site are passed over.
    pub detectors: &'static [DetectorDef],
    /// Settings of detectors and nets.
    pub settings: Settings,
    /// What each node watches with.
    pub watchers: Arc<Watchers>,
    /// Where its status is shown.
    pub board: Board,
}

/// The follower.
pub struct Follower {
    store: StoreHandle,
    path: PathBuf,
    defs: Vec<&'static DetectorDef>,
    settings: Settings,
    watchers: Arc<Watchers>,
    board: Board,
    checkpoint: Checkpoint,
    written: Checkpoint,
    written_ns: i64,
    lanes: Lanes,
    panels: BTreeMap<String, Panel>,
    late: BTreeMap<String, Late>,
    passes: BTreeMap<String, i64>,
    teller: Teller,
    untold: VecDeque<Untold>,
    warm: bool,
    status: Status,
}

impl Follower {
    /// Goes on where the checkpoint says; the first turn feeds the detectors what came just before it.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn open(parts: Parts) -> Result<Self, Failure> {
        let Parts { store, desk, path, detectors, settings, watchers, board } = parts;
        let checkpoint = Checkpoint::read(&path);
        let since = checkpoint.frontier_ns.saturating_sub(READ_BACK_NS);
        let teller = Teller::open(store.clone(), desk, since).await?;
        let late = checkpoint.late.iter().map(|(net, (low, high))| (net.clone(), Late::remembered(*low, *high))).collect();
        let status = Status { running: true, frontier_ns: checkpoint.frontier_ns, ..Status::default() };
        let follower = Self {
            store,
            path,
            defs: table(detectors),
            settings,
            watchers,
            board,
            written: checkpoint.clone(),
            written_ns: 0,
            checkpoint,
            lanes: Lanes::default(),
            panels: BTreeMap::new(),
            late,
            passes: BTreeMap::new(),
            teller,
            untold: VecDeque::new(),
            warm: false,
            status,
        };
        follower.show();
        Ok(follower)
    }

    /// Turns until told to stop; a turn that fails is tried again.
    pub async fn run(mut self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            let more = match self.turn(desk::now_ns()).await {
                Ok(more) => {
                    self.status.error = None;
                    more
                }
                Err(failure) => {
                    if self.status.error.is_none() {
                        tracing::error!(%failure, "fusion: the turn is tried again");
                    }
                    self.status.error = Some(failure.message);
                    false
                }
            };
            self.show();
            if more {
                tokio::task::yield_now().await;
            } else {
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = tokio::time::sleep(PAUSE) => {}
                }
            }
        }
        if let Err(failure) = self.write() {
            tracing::warn!(%failure, "fusion checkpoint not written; the next start looks at more");
        }
        self.status.running = false;
        self.show();
    }

    /// One turn at the controller's time `now_ns`; `true` when there is more to do at once.
    ///
    /// # Errors
    /// The store cannot be read or written; nothing is lost, turn again.
    pub async fn turn(&mut self, now_ns: i64) -> Result<bool, Failure> {
        if !self.warm {
            // Not at the start: a controller must not wait for its detectors.
            self.panels.clear();
            self.warm_up().await?;
            self.warm = true;
        }
        self.tell().await?;
        let logs: Vec<HighWater> = self.store.logs().into_iter().filter(|high| high.node != desk::NODE).collect();
        let mark = watermark(now_ns, logs.iter().map(|high| (high.node.as_str(), high.wall_ns)));
        self.lanes.stored(&logs, &self.checkpoint.logs);
        self.lanes.fill(&self.store, &*self.watchers, &mut self.status).await?;
        let mut fed = 0;
        let mut drained = false;
        while fed < TURN && self.untold.is_empty() {
            let Some(item) = self.lanes.next(mark, &self.store, &*self.watchers, &mut self.status).await? else {
                drained = true;
                break;
            };
            fed += 1;
            self.take(item, now_ns);
        }
        if drained {
            let frontier = self.checkpoint.frontier_ns.max(mark);
            self.checkpoint.frontier_ns = frontier;
            for (net, panel) in &mut self.panels {
                panel.tick_to(frontier);
                collect(&mut self.untold, net, panel, |_| Some(false));
            }
        }
        self.tell().await?;
        if drained {
            self.second_passes(now_ns).await?;
        }
        self.checkpoint.late = self.late.iter().map(|(net, late)| (net.clone(), (late.low, late.high))).collect();
        let changed = self.checkpoint != self.written;
        if changed && (now_ns.saturating_sub(self.written_ns).abs() >= CHECKPOINT_NS) {
            self.write()?;
            self.written_ns = now_ns;
        }
        self.count(now_ns);
        Ok(!drained)
    }

    /// Writes the checkpoint now.
    ///
    /// # Errors
    /// The disk refused.
    pub fn write(&mut self) -> Result<(), Failure> {
        if self.untold.is_empty() && self.checkpoint != self.written {
            self.checkpoint.write(&self.path)?;
            self.written = self.checkpoint.clone();
        }
        Ok(())
    }

    /// As of the last turn.
    pub fn status(&self) -> Status {
        self.status.clone()
    }

    /// One record, in its place in time or too late for it.
    fn take(&mut self, item: Item, now_ns: i64) {
        let Item { log, seq, at, net, seen, hole } = item;
        self.checkpoint.logs.insert(log, seq);
        for seen in hole.into_iter().chain(seen) {
            self.see(&net, at, &seen, now_ns);
        }
    }

    fn see(&mut self, net: &str, at: i64, seen: &Observation, now_ns: i64) {
        // A heartbeat changes nothing that was looked at.
        let beat = matches!(seen.fact, Fact::Alive { .. });
        if !beat && at < self.checkpoint.frontier_ns.saturating_sub(DISORDER_NS) {
            self.status.late = self.status.late.saturating_add(1);
            self.late.entry(net.to_owned()).or_insert_with(|| Late::new(at, now_ns)).add(at, now_ns, seen);
            return;
        }
        self.checkpoint.frontier_ns = at.max(self.checkpoint.frontier_ns);
        self.status.observed = self.status.observed.saturating_add(1);
        if !self.panels.contains_key(net) {
            if self.panels.len() >= MAX_NETS {
                self.status.skipped = self.status.skipped.saturating_add(1);
                return;
            }
            self.panels.insert(net.to_owned(), Panel::new(&self.defs, &self.settings, net));
        }
        if let Some(panel) = self.panels.get_mut(net) {
            panel.observe(seen);
            collect(&mut self.untold, net, panel, |_| Some(false));
        }
    }

    /// Writes what was found, oldest first. What fails stays first in line.
    async fn tell(&mut self) -> Result<(), Failure> {
        while let Some(untold) = self.untold.front() {
            self.teller.tell(untold, &mut self.status).await?;
            self.untold.pop_front();
        }
        Ok(())
    }

    /// Feeds new detectors what came just before the checkpoint; what they find was told.
    async fn warm_up(&mut self) -> Result<(), Failure> {
        let frontier = self.checkpoint.frontier_ns;
        if frontier == 0 || self.defs.is_empty() {
            return Ok(());
        }
        let query = EventQuery {
            since: Some(frontier.saturating_sub(WARM_NS)),
            until: Some(frontier.saturating_add(1)),
            kinds: kinds(),
            ..EventQuery::default()
        };
        let mut past = Past::start(&self.store, query);
        while let Some(stored) = past.next().await {
            let known = self.checkpoint.logs.get(&stored.log).is_some_and(|seq| stored.seq <= *seq);
            if !known || stored.node == desk::NODE {
                continue;
            }
            let Seen::Fact(seen) = observe(&stored, &*self.watchers) else { continue };
            if !self.panels.contains_key(&stored.net) && self.panels.len() < MAX_NETS {
                self.panels.insert(stored.net.clone(), Panel::new(&self.defs, &self.settings, &stored.net));
            }
            if let Some(panel) = self.panels.get_mut(&stored.net) {
                panel.observe(&seen);
                if panel.has_findings() {
                    panel.drain();
                }
            }
        }
        past.finish().await?;
        for panel in self.panels.values_mut() {
            panel.tick_to(frontier);
            panel.drain();
        }
        Ok(())
    }

    /// Looks again at the surroundings of late records, net by net, with detectors that start anew;
    /// these then stay, because they saw everything in order.
    async fn second_passes(&mut self, now_ns: i64) -> Result<(), Failure> {
        let due: Vec<String> = self
            .late
            .iter()
            .filter(|(net, late)| late.is_due(now_ns, self.passes.get(*net).copied()))
            .map(|(net, _)| net.clone())
            .collect();
        for net in due {
            self.second_pass(&net).await?;
            self.late.remove(&net);
            self.passes.insert(net, now_ns);
            self.status.second_passes = self.status.second_passes.saturating_add(1);
        }
        Ok(())
    }

    async fn second_pass(&mut self, net: &str) -> Result<(), Failure> {
        let Some(late) = self.late.get(net) else { return Ok(()) };
        let frontier = self.checkpoint.frontier_ns;
        let mut panel = Panel::new(&self.defs, &self.settings, net);
        let query = EventQuery {
            since: Some(late.low.saturating_sub(WARM_NS)),
            until: Some(frontier.saturating_add(super::observe::AHEAD_NS)),
            net: Some(net.to_owned()),
            kinds: kinds(),
            ..EventQuery::default()
        };
        let told = |finding: &glasshive_detect::Finding| late.touches(finding).then_some(true);
        let mut past = Past::start(&self.store, query);
        while let Some(stored) = past.next().await {
            // What the first pass has not come to yet is left to it.
            let known = self.checkpoint.logs.get(&stored.log).is_some_and(|seq| stored.seq <= *seq);
            if !known || time(&stored) > frontier || stored.node == desk::NODE {
                continue;
            }
            let Seen::Fact(seen) = observe(&stored, &*self.watchers) else { continue };
            panel.observe(&seen);
            collect(&mut self.untold, net, &mut panel, told);
            while let Some(untold) = self.untold.front() {
                self.teller.tell(untold, &mut self.status).await?;
                self.untold.pop_front();
            }
        }
        past.finish().await?;
        panel.tick_to(frontier);
        collect(&mut self.untold, net, &mut panel, told);
        self.tell().await?;
        if let Some(before) = self.panels.get(net) {
            panel.replaces(before);
        }
        self.panels.insert(net.to_owned(), panel);
        Ok(())
    }

    fn count(&mut self, now_ns: i64) {
        let status = &mut self.status;
        status.frontier_ns = self.checkpoint.frontier_ns;
        status.lag_ns = now_ns.saturating_sub(self.checkpoint.frontier_ns);
        status.behind = self.lanes.behind();
        status.waiting = self.late.len() as u64;
        status.dropped = self.panels.values().map(Panel::dropped).sum();
        status.unknowable = self.panels.values().map(Panel::unknowable).sum();
        status.evicted.clear();
        for panel in self.panels.values() {
            for (name, count) in panel.evicted() {
                let sum = status.evicted.entry(name.to_owned()).or_default();
                *sum = sum.saturating_add(count);
            }
        }
    }

    fn show(&self) {
        let status = self.status.clone();
        self.board.change(|shown| *shown = status);
    }
}

/// Moves what a panel found into the line; `as_late` says whether it is marked, `None` leaves it out.
fn collect(untold: &mut VecDeque<Untold>, net: &str, panel: &mut Panel, as_late: impl Fn(&glasshive_detect::Finding) -> Option<bool>) {
    if !panel.has_findings() {
        return;
    }
    for (def, finding) in panel.drain() {
        if let Some(late) = as_late(&finding) {
            untold.push_back(Untold { net: net.to_owned(), def, finding, late });
        }
    }
}
