//! The journal's thread: gathers, commits, rolls, expires, answers reads.

use super::config::clocks;
use super::handle::Shared;
use super::log::Log;
use super::state::{Lock, State};
use super::{Block, Durable, JournalConfig, JournalError, Pending, Pressure, reserve};
use crate::disk::Space;
use crate::segment::SegmentError;
use glasshive_event::detail::Gap;
use glasshive_event::{Body, Envelope, Header, Kind};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, oneshot, watch};

mod space;

/// So many records waiting are committed at once.
const GROUP: usize = 256;
/// Most records in one commit: when the disk is slower than the visitors, larger groups make up for it
/// (three times the rate of 256, measured).
const GROUP_MOST: usize = 1024;
/// Most body bytes in one commit (and one record).
const GROUP_BYTES: usize = 1 << 20;
/// Longest a record waits for company.
const GROUP_WAIT: Duration = Duration::from_millis(20);
/// While records wait for company, the queue is looked at this often: a visitor's task does not wake the
/// thread for each record.
const LOOK: Duration = Duration::from_millis(2);
/// Space, age and retention are looked at this often.
const TICK: Duration = Duration::from_millis(250);
/// The durable mark is written this often while it moves.
const STATE_EVERY: Duration = Duration::from_secs(1);
/// A closed segment opened for reading is closed again when unused this long.
const READER_IDLE: Duration = Duration::from_secs(10);
/// Commits that may fail in a row for another reason than a full disk.
const FAILURES: u32 = 3;
/// Closing waits this long for callers between taking room and sending.
const CLOSE_WAIT: Duration = Duration::from_secs(1);

/// A record in the queue. Its room is given back when it is durable.
pub(super) struct Entry {
    pub(super) pending: Pending,
    #[allow(dead_code, reason = "given back when dropped")]
    pub(super) permit: Option<OwnedSemaphorePermit>,
    pub(super) reply: Option<oneshot::Sender<u64>>,
}

pub(super) enum Message {
    Record(Entry),
    Read { from: u64, max_bytes: usize, reply: oneshot::Sender<Vec<Block>>, permit: OwnedSemaphorePermit },
    Acknowledged { seq: u64, reply: oneshot::Sender<()>, permit: OwnedSemaphorePermit },
    Close,
}

pub(super) struct Writer {
    config: JournalConfig,
    log: Log,
    state: State,
    /// What `state` says on disk.
    saved: State,
    saved_at: Instant,
    _lock: Lock,
    receive: Receiver<Message>,
    shared: Arc<Shared>,
    pressure: watch::Sender<Pressure>,
    durable: watch::Sender<Durable>,
    backlog: VecDeque<Entry>,
    /// When the oldest entry of the backlog came.
    since: Instant,
    /// Entries of the backlog somebody waits for.
    waited: usize,
    acknowledging: Vec<oneshot::Sender<()>>,
    segment_limit: u64,
    ticked: Instant,
    paused: Option<(String, Instant)>,
    crowded: bool,
    failures: u32,
    /// Set when only a restart, with its recovery, can help.
    fatal: Option<JournalError>,
    closing: bool,
}

impl Writer {
    #[allow(clippy::too_many_arguments, reason = "called once")]
    pub(super) fn new(
        config: JournalConfig,
        log: Log,
        state: State,
        lock: Lock,
        receive: Receiver<Message>,
        shared: Arc<Shared>,
        pressure: watch::Sender<Pressure>,
        durable: watch::Sender<Durable>,
    ) -> Result<Self, JournalError> {
        let space = Space::of(&config.dir).map_err(|source| JournalError::Directory { path: config.dir.clone(), source })?;
        reserve::restore(&config.dir, space);
        let now = Instant::now();
        Ok(Self {
            segment_limit: config.segment_limit(space),
            config,
            log,
            saved: state.clone(),
            state,
            saved_at: now,
            _lock: lock,
            receive,
            shared,
            pressure,
            durable,
            backlog: VecDeque::new(),
            since: now,
            waited: 0,
            acknowledging: Vec::new(),
            ticked: now.checked_sub(TICK).unwrap_or(now),
            paused: None,
            crowded: false,
            failures: 0,
            fatal: None,
            closing: false,
        })
    }

    pub(super) fn run(mut self) -> Result<(), JournalError> {
        while !self.closing {
            self.gather();
            self.save_acknowledged();
            if self.ticked.elapsed() >= TICK {
                self.tick();
            }
            if self.ready() {
                self.commit();
            }
            if let Some(e) = self.fatal.take() {
                return Err(e);
            }
            self.publish_pressure();
        }
        self.finish()
    }

    /// Takes messages: waits for the first as long as there is nothing to do, then what is there.
    fn gather(&mut self) {
        let mut wait = TICK.saturating_sub(self.ticked.elapsed());
        if self.paused.is_none() && !self.backlog.is_empty() {
            wait = wait.min(GROUP_WAIT.saturating_sub(self.since.elapsed()));
            if self.waited > 0 || self.backlog.len() >= GROUP {
                wait = Duration::ZERO;
            }
        }
        let company = self.paused.is_none() && !self.backlog.is_empty() && !wait.is_zero();
        if company {
            // Who must not wait (a durable append, a read, an acknowledgement, the end) unparks.
            std::thread::park_timeout(wait.min(LOOK));
        }
        let mut next = if company || wait.is_zero() {
            self.receive.try_recv().map_err(|e| e == TryRecvError::Disconnected)
        } else {
            self.receive.recv_timeout(wait).map_err(|e| e == RecvTimeoutError::Disconnected)
        };
        loop {
            match next {
                Ok(message) => self.take(message),
                Err(ended) => {
                    self.closing |= ended;
                    return;
                }
            }
            if self.closing || (self.backlog.len() >= GROUP_MOST && self.paused.is_none()) {
                return;
            }
            next = self.receive.try_recv().map_err(|e| e == TryRecvError::Disconnected);
        }
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Record(entry) => {
                if self.backlog.is_empty() {
                    self.since = Instant::now();
                }
                self.waited += usize::from(entry.reply.is_some());
                self.backlog.push_back(entry);
            }
            Message::Read { from, max_bytes, reply, permit } => {
                let _ = reply.send(self.read(from, max_bytes));
                drop(permit);
            }
            Message::Acknowledged { seq, reply, permit } => {
                self.state.heard(seq, self.log.last);
                self.acknowledging.push(reply);
                drop(permit);
            }
            Message::Close => self.closing = true,
        }
    }

    /// On a full disk the reserve is what lets the controller fetch, acknowledge and so make room.
    fn read(&mut self, from: u64, max_bytes: usize) -> Vec<Block> {
        let mut found = self.log.read(from, max_bytes);
        if matches!(found, Err(SegmentError::Full { .. })) {
            reserve::release(&self.config.dir);
            found = self.log.read(from, max_bytes);
        }
        found.unwrap_or_else(|e| {
            tracing::warn!(error = %e, from, "the journal cannot be read now");
            Vec::new()
        })
    }

    fn ready(&self) -> bool {
        self.paused.is_none()
            && !self.backlog.is_empty()
            && (self.waited > 0 || self.backlog.len() >= GROUP || self.since.elapsed() >= GROUP_WAIT)
    }

    /// Stores the oldest entries.
    fn commit(&mut self) {
        if let Some(why) = self.obstacle(false) {
            self.pause(why);
            return;
        }
        let mut bytes = 0usize;
        let fits = |entry: &&Entry| {
            bytes = bytes.saturating_add(entry.pending.body.as_bytes().len());
            bytes <= GROUP_BYTES
        };
        let count = self.backlog.iter().take(GROUP_MOST).take_while(fits).count().max(1);
        let (log, boot) = (self.log.id, self.config.boot);
        let backlog = &self.backlog;
        let result = self.log.commit(count, |index, seq| match backlog.get(index) {
            Some(entry) => record(&entry.pending, log, boot, seq),
            None => Vec::new(),
        });
        match result {
            Ok(()) => {
                self.failures = 0;
                // Before their room is given back: an empty queue means that everything is known to be durable.
                self.publish_durable();
                let first = self.log.last.saturating_sub(count as u64);
                for (entry, seq) in self.backlog.drain(..count).zip(first + 1..) {
                    if let Some(reply) = entry.reply {
                        self.waited = self.waited.saturating_sub(1);
                        let _ = reply.send(seq);
                    }
                }
                self.since = Instant::now();
                if self.log.due(self.segment_limit, self.config.segment_age) {
                    self.roll();
                }
            }
            Err(e) => self.failed(e),
        }
    }

    fn roll(&mut self) {
        self.log.roll();
        self.save_state();
        self.expire();
        self.publish_measures();
    }

    fn failed(&mut self, e: SegmentError) {
        if matches!(e, SegmentError::Full { .. }) {
            // What was accepted may still fit into the reserve; nothing new is accepted until there is space.
            reserve::release(&self.config.dir);
            self.pause(format!("{e}"));
            return;
        }
        self.failures += 1;
        tracing::error!(error = %e, failures = self.failures, "the journal cannot store records");
        if self.failures >= FAILURES {
            let why = format!("the journal failed and needs a restart: {e}");
            self.pressure.send_replace(Pressure::Paused { why });
            self.fatal = Some(JournalError::NotStored(self.backlog.len(), e.to_string()));
        }
        self.pause(format!("the journal failed and is opened again: {e}"));
    }

    fn tick(&mut self) {
        self.ticked = Instant::now();
        if self.paused.is_some() {
            self.resume();
        } else {
            self.expire();
            if let Ok(space) = Space::of(&self.config.dir) {
                reserve::restore(&self.config.dir, space);
            }
            if self.log.due(self.segment_limit, self.config.segment_age) {
                self.roll();
            }
        }
        self.log.release_idle_reader(READER_IDLE);
        for (from, to) in self.log.take_unreadable() {
            let gap =
                Gap { from: Some(from), to: Some(to), log: None, why: "the segment that held them is damaged on the node".to_owned() };
            let _ = self.write_own(Kind::Gap, &gap);
        }
        if self.saved != self.state && self.saved_at.elapsed() >= STATE_EVERY {
            self.save_state();
        }
    }

    /// Stores a record of the journal's own at once, ahead of the queue.
    fn write_own<D: serde::Serialize>(&mut self, kind: Kind, detail: &D) -> Result<(), SegmentError> {
        let (wall_ns, mono_ns) = clocks();
        let envelope = Envelope { kind: kind.number(), ..Envelope::default() };
        let Ok(body) = Body::encode(&envelope, detail) else { return Ok(()) };
        let pending = Pending { wall_ns, mono_ns, body };
        let (log, boot) = (self.log.id, self.config.boot);
        self.log.commit(1, |_, seq| record(&pending, log, boot, seq)).inspect_err(|e| {
            tracing::error!(error = %e, kind = kind.name(), "the journal's own record was not stored");
        })?;
        self.publish_durable();
        Ok(())
    }

    fn save_acknowledged(&mut self) {
        if self.acknowledging.is_empty() {
            return;
        }
        if (self.saved.acknowledged, self.saved.superseded) != (self.state.acknowledged, self.state.superseded) {
            self.save_state();
            self.expire();
        }
        for reply in self.acknowledging.drain(..) {
            let _ = reply.send(());
        }
    }

    fn save_state(&mut self) {
        self.saved_at = Instant::now();
        self.state.durable = self.log.last;
        match self.state.write(&self.config.dir) {
            Ok(()) => self.saved = self.state.clone(),
            Err(e) => tracing::warn!(error = %e, "the journal's state file was not written; it is tried again"),
        }
    }

    fn publish_durable(&mut self) {
        self.state.durable = self.log.last;
        self.durable.send_replace(Durable { seq: self.log.last, chain: self.log.chain, wall_ns: self.log.wall_ns });
        self.publish_measures();
    }

    fn publish_measures(&self) {
        self.shared.first.store(self.log.first(), Ordering::Release);
        self.shared.acknowledged.store(self.state.acknowledged, Ordering::Release);
        self.shared.used_bytes.store(self.log.used_bytes(), Ordering::Release);
    }

    /// Accept loops also wait while the queue is nearly full, so that open sessions find room in it.
    fn publish_pressure(&mut self) {
        let free = self.shared.room.available_permits();
        self.crowded = if self.crowded { free < self.shared.room_units / 2 } else { free < self.shared.room_units / 8 };
        let now = match &self.paused {
            Some((why, _)) => Pressure::Paused { why: why.clone() },
            None if self.crowded => {
                Pressure::Crowded { why: "the journal's queue is full; the disk is slower than the visitors".to_owned() }
            }
            None => Pressure::Normal,
        };
        self.pressure.send_if_modified(|shown| {
            let changed = *shown != now;
            *shown = now;
            changed
        });
    }

    /// Nothing more is accepted; what was is stored.
    fn finish(mut self) -> Result<(), JournalError> {
        self.shared.close();
        let until = Instant::now() + CLOSE_WAIT;
        loop {
            match self.receive.recv_timeout(Duration::from_millis(1)) {
                Ok(message) => self.take(message),
                Err(RecvTimeoutError::Disconnected) => {}
                Err(RecvTimeoutError::Timeout) => {}
            }
            if self.paused.is_some() {
                self.resume();
            }
            if self.paused.is_none() && !self.backlog.is_empty() {
                self.commit();
            }
            if self.shared.idle() || Instant::now() >= until {
                break;
            }
        }
        self.save_acknowledged();
        self.save_state();
        let left = self.backlog.len();
        let why = self.paused.take().map(|(why, _)| why);
        self.log.close()?;
        if left > 0 {
            return Err(JournalError::NotStored(left, why.unwrap_or_default()));
        }
        // Only now: dying before this is an unclean stop, whatever state the last segment is in.
        self.state.stopped = Some(true);
        self.save_state();
        Ok(())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // However the thread ends, callers must not wait for it.
        self.shared.close();
    }
}

fn record(pending: &Pending, log: glasshive_event::LogId, boot: [u8; 16], seq: u64) -> Vec<u8> {
    pending.body.with_header(&Header { log, seq, wall_ns: pending.wall_ns, mono_ns: pending.mono_ns, boot })
}
