//! The writer: one OS thread that owns the log. Batches that wait are checked and made durable
//! together, then answered, then handed to the follower and to live readers.

use super::append::{self, Checked, NodeBatch, Refused};
use super::config::{AppendError, HighWater, StoreConfig, StoreError, Tampered};
use super::follower::{Item, Told};
use super::log::{self, Log, StoredGap};
use super::query::StoredEvent;
use super::value::BlockView;
use crate::segment::{Batch, Segment};
use glasshive_event::LogId;
use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{SyncSender, TrySendError};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, broadcast, mpsc, oneshot};

/// Bytes of one group commit, about.
const GROUP_BYTES: usize = 2 << 20;
/// Logs one node may open in all; more is a node gone wrong.
const MAX_LOGS: usize = 1_000;
/// Declared gaps a high-water row keeps (the rest is in the segments' gap rows).
const MAX_GAPS: usize = 64;
/// Time between two notes of what was acknowledged.
const ACKNOWLEDGE_TIME: Duration = Duration::from_secs(5);
/// Contradicting records kept per process.
const MAX_TAMPERED: usize = 256;

/// What is durable after an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Highest durable sequence number of the log.
    pub durable: u64,
}

/// What the thread is told.
pub(crate) enum Command {
    Append { batch: NodeBatch, room: OwnedSemaphorePermit, reply: oneshot::Sender<Result<Appended, AppendError>> },
    Gap { log: LogId, gap: StoredGap, reply: oneshot::Sender<Result<Appended, AppendError>> },
    Settle(oneshot::Sender<Result<(), StoreError>>),
    Stop(bool),
}

/// What the writer publishes.
pub(crate) struct Published {
    pub(crate) high: RwLock<BTreeMap<LogId, HighWater>>,
    pub(crate) tampered: RwLock<Vec<Tampered>>,
    /// Free space is under the floor.
    pub(crate) full: AtomicBool,
    pub(crate) live: broadcast::Sender<Arc<StoredEvent>>,
}

/// The state of the thread.
pub(crate) struct Writer {
    pub(crate) config: StoreConfig,
    pub(crate) log: Arc<Log>,
    pub(crate) published: Arc<Published>,
    pub(crate) follower: SyncSender<Told>,
    active: Option<Active>,
    acknowledged: Instant,
}

struct Active {
    number: u64,
    segment: Arc<Segment>,
    since: Instant,
    bytes: u64,
}

/// Batches checked and not yet durable.
#[derive(Default)]
struct Group {
    batch: Batch,
    high: BTreeMap<LogId, HighWater>,
    checked: Vec<(LogId, Checked, i64)>,
    gaps: Vec<(LogId, StoredGap)>,
    replies: Vec<(oneshot::Sender<Result<Appended, AppendError>>, u64)>,
    rooms: Vec<OwnedSemaphorePermit>,
}

impl Writer {
    /// A writer that will go on in a new segment.
    pub(crate) fn new(config: StoreConfig, log: Arc<Log>, published: Arc<Published>, follower: SyncSender<Told>) -> Self {
        Self { config, log, published, follower, active: None, acknowledged: Instant::now() }
    }

    /// Runs until told to stop.
    pub(crate) fn run(mut self, commands: &mut mpsc::Receiver<Command>) {
        let mut clean = false;
        while let Some(first) = commands.blocking_recv() {
            let mut group = Group::default();
            let mut next = Some(first);
            let mut stop = false;
            while let Some(command) = next.take() {
                match command {
                    Command::Append { batch, room, reply } => {
                        self.append(&mut group, &batch, reply);
                        group.rooms.push(room);
                    }
                    Command::Gap { log, gap, reply } => self.gap(&mut group, log, gap, reply),
                    Command::Settle(reply) => {
                        self.commit(std::mem::take(&mut group));
                        let _ = self.follower.send(Told::Barrier(reply));
                    }
                    Command::Stop(how) => (clean, stop) = (how, true),
                }
                if !stop && group.batch.bytes() < GROUP_BYTES {
                    next = commands.try_recv().ok();
                }
            }
            self.commit(group);
            if stop {
                break;
            }
        }
        if clean && let Some(Active { number, .. }) = self.active.take() {
            self.acknowledge();
            if let Err(e) = self.log.seal(number) {
                tracing::warn!(error = %e, "segment index not written; the next start makes it");
            }
        }
    }

    fn append(&mut self, group: &mut Group, batch: &NodeBatch, reply: oneshot::Sender<Result<Appended, AppendError>>) {
        // Records of this very group cannot be compared before they are stored.
        if group.high.get(&batch.log).is_some_and(|high| batch.first <= high.seq) {
            self.commit(std::mem::take(group));
        }
        let high = group.high.get(&batch.log).cloned().or_else(|| self.high(batch.log));
        if high.is_none() && self.too_many_logs(&batch.node, group) {
            let _ = reply.send(Err(AppendError::TooManyLogs));
            return;
        }
        let log = self.log.clone();
        let stored = |seq| {
            log.leaf(batch.log, seq).map_err(|e| {
                tracing::error!(error = %e, "stored record not readable");
                AppendError::Full
            })
        };
        match append::check(batch, high.as_ref(), stored) {
            Ok(checked) => {
                if checked.records == 0 {
                    let _ = reply.send(Ok(Appended { durable: checked.high.seq }));
                    return;
                }
                if self.make_active().is_err() {
                    let _ = reply.send(Err(AppendError::Full));
                    return;
                }
                for (first, value) in &checked.blocks {
                    group.batch.put(&super::keys::block(batch.log, *first), value);
                }
                group.replies.push((reply, checked.high.seq));
                group.high.insert(batch.log, checked.high.clone());
                group.checked.push((batch.log, checked, batch.received_ns));
            }
            Err(Refused::Append(e)) => drop(reply.send(Err(e))),
            Err(Refused::Tamper { seq, stored, received }) => {
                self.evidence(Tampered { node: batch.node.clone(), log: batch.log, seq, stored, received, received_ns: batch.received_ns });
                let _ = reply.send(Err(AppendError::Tamper { seq }));
            }
        }
    }

    fn gap(&mut self, group: &mut Group, id: LogId, mut gap: StoredGap, reply: oneshot::Sender<Result<Appended, AppendError>>) {
        let mut high = match self.check_gap(group, id, &gap) {
            Ok(high) => high,
            Err(e) => return drop(reply.send(Err(e))),
        };
        if gap.to <= high.seq {
            // Declared before, or not a gap: nothing is missing.
            return drop(reply.send(Ok(Appended { durable: high.seq })));
        }
        if self.make_active().is_err() {
            return drop(reply.send(Err(AppendError::Full)));
        }
        gap.from = high.seq.saturating_add(1);
        gap.why = super::fold::cut(&gap.why);
        high.seq = gap.to;
        (high.chain, high.chain_known) = ([0; 32], false);
        high.gaps.push((gap.from, gap.to, gap.why.clone()));
        if high.gaps.len() > MAX_GAPS {
            high.gaps.remove(0);
        }
        log::put_gap(&mut group.batch, id, &gap);
        group.replies.push((reply, high.seq));
        group.high.insert(id, high);
        group.gaps.push((id, gap));
    }

    /// Where the log of a gap stands, when the gap may be declared.
    fn check_gap(&self, group: &Group, id: LogId, gap: &StoredGap) -> Result<HighWater, AppendError> {
        if gap.to < gap.from
            || gap.from == 0
            || gap.node.is_empty()
            || gap.node.len() > append::MAX_NAME
            || gap.net.len() > append::MAX_NAME
        {
            return Err(AppendError::Damaged("gap ends before it starts, or a name is empty or too long"));
        }
        let high = match group.high.get(&id).cloned().or_else(|| self.high(id)) {
            Some(high) if high.node != gap.node => return Err(AppendError::Foreign { owner: high.node }),
            Some(high) => high,
            None if self.too_many_logs(&gap.node, group) => return Err(AppendError::TooManyLogs),
            None => append::fresh(gap.node.clone(), gap.net.clone(), id),
        };
        if gap.from > high.seq.saturating_add(1) {
            return Err(AppendError::Expected(high.seq.saturating_add(1)));
        }
        Ok(high)
    }

    /// Makes a group durable, answers, tells the follower and live readers.
    fn commit(&mut self, mut group: Group) {
        if group.replies.is_empty() {
            return;
        }
        for row in group.high.values() {
            log::put_high(&mut group.batch, row);
        }
        let bytes = group.batch.bytes() as u64;
        let applied = match &self.active {
            Some(active) => active.segment.apply(group.batch).map(|()| active.number).map_err(|e| e.to_string()),
            None => Err("no segment".to_owned()),
        };
        let number = match applied {
            Ok(number) => number,
            Err(e) => {
                tracing::error!(error = e, "batch not stored");
                self.abandon();
                for (reply, _) in group.replies {
                    let _ = reply.send(Err(AppendError::Full));
                }
                return;
            }
        };
        self.log.update(number, |index| {
            for (log, checked, received_ns) in &group.checked {
                let last = checked.high.seq;
                let first = last.saturating_sub(checked.records.saturating_sub(1));
                index.add(*log, first, last, checked.wall, *received_ns, checked.records);
            }
            for (log, gap) in &group.gaps {
                index.add(*log, gap.from, gap.to, None, gap.received_ns, 0);
            }
        });
        self.published.high.write().unwrap_or_else(PoisonError::into_inner).append(&mut group.high);
        for (reply, durable) in group.replies {
            let _ = reply.send(Ok(Appended { durable }));
        }
        self.publish(&group.checked);
        let mut items: Vec<Item> = Vec::new();
        for (log, checked, _) in group.checked {
            items.extend(checked.blocks.into_iter().map(|(first, value)| Item::Block { segment: number, log, first, value }));
        }
        items.extend(group.gaps.into_iter().map(|(log, gap)| Item::Gap { log, gap }));
        // In the order of each log: a gap and the records behind it may be of one group.
        items.sort_by_key(|item| match item {
            Item::Block { log, first, .. } => (*log, *first),
            Item::Gap { log, gap } => (*log, gap.from),
        });
        // Nobody waits for the follower: memory stays bounded, and it reads from the log what it was not told.
        if let Err(TrySendError::Full(_)) = self.follower.try_send(Told::Items(items)) {
            self.log.leave_out();
        }
        if self.acknowledged.elapsed() >= ACKNOWLEDGE_TIME {
            self.acknowledge();
        }
        if let Some(active) = &mut self.active {
            active.bytes = active.bytes.saturating_add(bytes);
            if active.bytes >= self.config.segment_limit() || active.since.elapsed() >= self.config.segment_age {
                let number = active.number;
                self.active = None;
                if let Err(e) = self.log.seal(number) {
                    tracing::warn!(error = %e, "segment index not written; the next start makes it");
                }
            }
        }
    }

    fn acknowledge(&mut self) {
        self.acknowledged = Instant::now();
        let high = self.published.high.read().unwrap_or_else(PoisonError::into_inner).clone();
        if let Err(e) = self.log.acknowledge(&high) {
            tracing::warn!(error = %e, "acknowledged positions not written");
        }
    }

    fn publish(&self, checked: &[(LogId, Checked, i64)]) {
        if self.published.live.receiver_count() == 0 {
            return;
        }
        for (log, checked, _) in checked {
            for (first, value) in &checked.blocks {
                let Some(block) = BlockView::parse(value) else { continue };
                for (seq, record) in (*first..).zip(block.iter()) {
                    let _ = self.published.live.send(Arc::new(StoredEvent {
                        node: block.node.to_owned(),
                        net: block.net.to_owned(),
                        received_ns: block.received_ns,
                        log: *log,
                        seq,
                        record: record.to_vec(),
                    }));
                }
            }
        }
    }

    fn make_active(&mut self) -> Result<(), StoreError> {
        if self.active.is_some() {
            return Ok(());
        }
        let high = self.published.high.read().unwrap_or_else(PoisonError::into_inner).clone();
        let (number, segment) = self.log.create(&high, self.config.cache_bytes / 4).inspect_err(|e| {
            tracing::error!(error = %e, "no new segment");
        })?;
        self.active = Some(Active { number, segment, since: Instant::now(), bytes: 0 });
        Ok(())
    }

    /// The active segment failed: what it holds durably is published already; go on in a new one.
    /// Parts of the failed batch may have reached it, and nodes will send those records again.
    fn abandon(&mut self) {
        if let Some(active) = self.active.take() {
            self.log.pool.discard(&log::name(active.number));
        }
    }

    /// Keeps a contradicting record, durably when a segment is at hand.
    fn evidence(&mut self, tampered: Tampered) {
        {
            let known = self.published.tampered.read().unwrap_or_else(PoisonError::into_inner);
            let again = known.iter().any(|t| (t.log, t.seq, &t.received) == (tampered.log, tampered.seq, &tampered.received));
            if again || known.len() >= MAX_TAMPERED {
                return;
            }
        }
        if self.make_active().is_ok()
            && let Some(active) = &self.active
        {
            let mut batch = Batch::new();
            log::put_tampered(&mut batch, &tampered);
            if let Err(e) = active.segment.apply(batch) {
                tracing::error!(error = %e, "evidence of tampering is kept in memory only");
                self.abandon();
            }
        }
        self.published.tampered.write().unwrap_or_else(PoisonError::into_inner).push(tampered);
    }

    fn high(&self, log: LogId) -> Option<HighWater> {
        self.published.high.read().unwrap_or_else(PoisonError::into_inner).get(&log).cloned()
    }

    fn too_many_logs(&self, node: &str, group: &Group) -> bool {
        let high = self.published.high.read().unwrap_or_else(PoisonError::into_inner);
        high.values().chain(group.high.values()).filter(|row| row.node == node).count() >= MAX_LOGS
    }
}
