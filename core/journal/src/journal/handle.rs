//! The callers' side: bounded room, then a message to the thread.

use super::recover::Recovered;
use super::writer::{Entry, Message, Writer};
use super::{Block, Closed, Durable, JournalConfig, JournalError, OpenReport, Pending, Pressure, TryAppendError};
use glasshive_event::LogId;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread::{JoinHandle, Thread};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError, oneshot, watch};

/// Bytes of body a unit of the queue stands for.
const UNIT: usize = 512;
/// Reads and acknowledgements waiting at once.
const CONTROL: usize = 64;

/// Room and measures, shared by handles and thread.
pub(super) struct Shared {
    pub(super) room: Arc<Semaphore>,
    pub(super) room_units: usize,
    pub(super) reserved: Arc<Semaphore>,
    pub(super) reserved_units: usize,
    control: Arc<Semaphore>,
    pub(super) first: AtomicU64,
    pub(super) acknowledged: AtomicU64,
    pub(super) used_bytes: AtomicU64,
}

impl Shared {
    /// Nobody gets room any more; who waits is told.
    pub(super) fn close(&self) {
        self.room.close();
        self.reserved.close();
        self.control.close();
    }

    /// Whether all room is back: nobody is between taking room and sending.
    pub(super) fn idle(&self) -> bool {
        self.room.available_permits() == self.room_units && self.reserved.available_permits() == self.reserved_units
    }
}

/// Measures of a journal, for health events and status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gauges {
    /// First sequence number still in the journal.
    pub first: u64,
    /// Last durable one.
    pub durable: u64,
    /// The controller holds everything up to here.
    pub acknowledged: u64,
    /// Bytes on disk.
    pub used_bytes: u64,
    /// Free units of the queue, and all of them.
    pub room: (usize, usize),
}

/// Owner of a journal: [`Journal::close`] it before the process ends, or the next open has to recover.
pub struct Journal {
    send: SyncSender<Message>,
    thread: Option<JoinHandle<Result<(), JournalError>>>,
}

impl Journal {
    /// Stores what was accepted, closes cleanly and joins the thread. Blocks.
    pub fn close(mut self) -> Result<(), JournalError> {
        self.end()
    }

    fn end(&mut self) -> Result<(), JournalError> {
        let Some(thread) = self.thread.take() else { return Ok(()) };
        let _ = self.send.try_send(Message::Close);
        thread.thread().unpark();
        thread.join().unwrap_or_else(|_| Err(JournalError::Thread(std::io::Error::other("the journal's thread panicked"))))
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        if let Err(e) = self.end() {
            tracing::error!(error = %e, "journal was not closed cleanly");
        }
    }
}

/// What callers hold: cheap to clone.
#[derive(Clone)]
pub struct JournalHandle {
    shared: Arc<Shared>,
    send: SyncSender<Message>,
    /// The journal's, which sleeps a little while records gather.
    thread: Thread,
    log: LogId,
    pressure: watch::Receiver<Pressure>,
    durable: watch::Receiver<Durable>,
}

impl JournalHandle {
    /// Appends when there is room. `Ok` means accepted: it is stored soon, also when the journal is closed.
    pub async fn append(&self, pending: Pending) -> Result<(), Closed> {
        let permit = self.room(&pending).await?;
        self.put(Entry { pending, permit: Some(permit), reply: None }).map_err(|_| Closed)
    }

    /// Appends if there is room now.
    pub fn try_append(&self, pending: Pending) -> Result<(), TryAppendError> {
        match self.shared.room.clone().try_acquire_many_owned(units(&pending)) {
            Ok(permit) => {
                self.put(Entry { pending, permit: Some(permit), reply: None }).map_err(|entry| TryAppendError::Closed(entry.pending))
            }
            Err(TryAcquireError::NoPermits) => Err(TryAppendError::Full(pending)),
            Err(TryAcquireError::Closed) => Err(TryAppendError::Closed(pending)),
        }
    }

    /// Like [`JournalHandle::append`], with room besides that nothing else may take: for `session.close`.
    pub async fn append_reserved(&self, pending: Pending) -> Result<(), Closed> {
        let permit = match self.shared.room.clone().try_acquire_many_owned(units(&pending)) {
            Ok(permit) => permit,
            Err(_) => {
                let cap = u32::try_from(self.shared.reserved_units).unwrap_or(u32::MAX);
                let reserved = self.shared.reserved.clone().acquire_many_owned(units(&pending).min(cap));
                tokio::select! {
                    permit = reserved => permit.map_err(|_| Closed)?,
                    permit = self.room(&pending) => permit?,
                }
            }
        };
        self.put(Entry { pending, permit: Some(permit), reply: None }).map_err(|_| Closed)
    }

    /// Appends and waits until it is on disk; gives its sequence number.
    pub async fn append_durable(&self, pending: Pending) -> Result<u64, Closed> {
        let permit = self.room(&pending).await?;
        let (reply, answer) = oneshot::channel();
        self.put(Entry { pending, permit: Some(permit), reply: Some(reply) }).map_err(|_| Closed)?;
        self.thread.unpark();
        answer.await.map_err(|_| Closed)
    }

    /// Whether accept loops may go on; ends when the journal ends. Never hold a `borrow()` over an
    /// await: the journal's thread waits for it.
    pub fn pressure(&self) -> watch::Receiver<Pressure> {
        self.pressure.clone()
    }

    /// How far the journal is durable; ends when the journal ends. Never hold a `borrow()` over an
    /// await: the journal's thread waits for it.
    pub fn durable(&self) -> watch::Receiver<Durable> {
        self.durable.clone()
    }

    /// The log that is written.
    pub fn log_id(&self) -> LogId {
        self.log
    }

    /// First sequence number still in the journal. Asking [`JournalHandle::read`] for less gives blocks from here.
    pub fn first(&self) -> u64 {
        self.shared.first.load(Ordering::Acquire)
    }

    /// Measures for health and status.
    pub fn gauges(&self) -> Gauges {
        Gauges {
            first: self.first(),
            durable: self.durable.borrow().seq,
            acknowledged: self.shared.acknowledged.load(Ordering::Acquire),
            used_bytes: self.shared.used_bytes.load(Ordering::Acquire),
            room: (self.shared.room.available_permits(), self.shared.room_units),
        }
    }

    /// Durable whole blocks from the one that holds `from` (or the first behind it that is still
    /// there), together about `max_bytes`, at least one; empty when nothing that far is durable yet.
    pub async fn read(&self, from: u64, max_bytes: usize) -> Result<Vec<Block>, Closed> {
        let permit = self.shared.control.clone().acquire_owned().await.map_err(|_| Closed)?;
        let (reply, answer) = oneshot::channel();
        self.send.try_send(Message::Read { from, max_bytes, reply, permit }).map_err(|_| Closed)?;
        self.thread.unpark();
        answer.await.map_err(|_| Closed)
    }

    /// The controller holds everything up to `seq`. Persisted when this returns; older segments may go now.
    pub async fn acknowledged(&self, seq: u64) -> Result<(), Closed> {
        let permit = self.shared.control.clone().acquire_owned().await.map_err(|_| Closed)?;
        let (reply, answer) = oneshot::channel();
        self.send.try_send(Message::Acknowledged { seq, reply, permit }).map_err(|_| Closed)?;
        self.thread.unpark();
        answer.await.map_err(|_| Closed)
    }

    async fn room(&self, pending: &Pending) -> Result<OwnedSemaphorePermit, Closed> {
        self.shared.room.clone().acquire_many_owned(units(pending)).await.map_err(|_| Closed)
    }

    /// The channel holds as many messages as there are permits, so it is never full.
    fn put(&self, entry: Entry) -> Result<(), Box<Entry>> {
        match self.send.try_send(Message::Record(entry)) {
            Err(TrySendError::Full(Message::Record(entry)) | TrySendError::Disconnected(Message::Record(entry))) => Err(Box::new(entry)),
            _ => Ok(()),
        }
    }
}

/// A record's share of the queue.
fn units(pending: &Pending) -> u32 {
    1 + u32::try_from(pending.body.as_bytes().len() / UNIT).unwrap_or(0)
}

/// Starts the thread.
pub(super) fn start(config: JournalConfig, recovered: Recovered) -> Result<(Journal, JournalHandle, OpenReport), JournalError> {
    let room_units = config.queue.clamp(64, 1 << 20);
    let reserved_units = config.reserved.clamp(8, 1 << 20);
    let (send, receive) = sync_channel(room_units + reserved_units + CONTROL + 1);
    let shared = Arc::new(Shared {
        room: Arc::new(Semaphore::new(room_units)),
        room_units,
        reserved: Arc::new(Semaphore::new(reserved_units)),
        reserved_units,
        control: Arc::new(Semaphore::new(CONTROL)),
        first: AtomicU64::new(recovered.log.first()),
        acknowledged: AtomicU64::new(recovered.state.acknowledged),
        used_bytes: AtomicU64::new(recovered.log.used_bytes()),
    });
    let (pressure_send, pressure) = watch::channel(Pressure::Normal);
    let now = Durable { seq: recovered.log.last, chain: recovered.log.chain, wall_ns: recovered.log.wall_ns };
    let (durable_send, durable) = watch::channel(now);
    let report = recovered.report;
    let writer = Writer::new(config, recovered.log, recovered.state, recovered.lock, receive, shared.clone(), pressure_send, durable_send)?;
    let thread = std::thread::Builder::new().name("journal".into()).spawn(move || writer.run()).map_err(JournalError::Thread)?;
    let handle = JournalHandle { shared, send: send.clone(), thread: thread.thread().clone(), log: report.log, pressure, durable };
    Ok((Journal { send, thread: Some(thread) }, handle, report))
}
