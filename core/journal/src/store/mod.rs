//! The controller's store: the log of all nodes' records, and the summary every list is made from.
//!
//! - `log/NUMBER/`: blocks of records as the nodes sent them, in segments that are deleted whole.
//! - `summary/YYYY-MM-DD/`: rows for sessions, flows, findings, credentials, files, hours, sources, users
//!   and nodes of one UTC day, with postings to find sessions by. It can be made again from the log.
//! - `schema`: the stamp of both ([`crate::schema`]).
//!
//! Records are taken exactly once and in order, and acknowledged when they survive a power cut. One
//! OS thread writes the log, one folds it into the summary, one deletes what is too old; questions
//! run on blocking threads. Nothing here opens a socket, and no list ever opens the log.
//!
//! `open` is the only way in, for the daemon and for a command line when the daemon is down: the
//! second process is told who holds the store.

mod append;
mod config;
mod day;
mod distinct;
mod findings;
mod flows;
mod fold;
mod follower;
mod join;
mod keys;
mod lists;
mod lock;
mod log;
mod merge;
mod pool;
mod query;
mod retain;
mod rows;
mod scan;
mod sessions;
mod summary;
mod tops;
mod value;
mod writer;

pub use append::{MAX_BATCH, NodeBatch};
pub use config::{AppendError, HighWater, OpenReport, StoreConfig, StoreError, Tampered};
pub use distinct::Distinct;
pub use findings::{FindingQuery, FindingRow};
pub use flows::{FlowQuery, FlowRow};
pub use join::{Join, JoinQuery, JoinRate, JoinedFlow, SLACK_NS};
pub use query::{
    CredentialQuery, Cursor, DEFAULT_LIMIT, EventQuery, FileQuery, IpPrefix, Lookup, MAX_LIMIT, NodeStatus, Order, Page, SessionQuery,
    Stats, StatsQuery, StoredEvent,
};
pub use retain::Swept;
pub use rows::{
    Counts, CredentialRow, FileRow, GapRow, HourRow, MAX_FINGERPRINTS, MAX_NAMES, MAX_SOURCES, MAX_SPANS, MAX_TEXT, MAX_USERS, NodeRow,
    Sample, SessionRow, SourceRow, Span, UserRow,
};
pub use writer::Appended;

use crate::schema;
use follower::{Follower, Told};
use glasshive_event::LogId;
use lock::DirLock;
use log::StoredGap;
use retain::Keeper;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, PoisonError, RwLock};
use std::thread::JoinHandle;
use tokio::sync::{Semaphore, broadcast, mpsc, oneshot};
use writer::{Command, Published, Writer};

/// KiB of batches that may wait for the writer.
const ROOM_KIB: usize = 32 * 1024;
/// Group commits that may wait for the follower; what finds no room it reads from the log.
const FOLLOWER_QUEUE: usize = 16;
/// Questions answered at the same time.
const QUESTIONS: usize = 8;

/// The owner of an open store. Dropping it without [`Store::close`] is an unclean stop: nothing
/// acknowledged is lost, the next start recovers.
pub struct Store {
    shared: Arc<Shared>,
    writer: Option<JoinHandle<()>>,
    follower: Option<JoinHandle<()>>,
    keeper: Option<(SyncSender<()>, JoinHandle<()>)>,
    _lock: DirLock,
}

/// A way to a store; cheap to clone.
#[derive(Clone)]
pub struct StoreHandle {
    shared: Arc<Shared>,
}

/// What the threads and the questions share.
pub(crate) struct Shared {
    pub(crate) config: StoreConfig,
    pub(crate) log: Arc<log::Log>,
    pub(crate) summary: Arc<summary::Summary>,
    pub(crate) published: Arc<Published>,
    pub(crate) follower: SyncSender<Told>,
    commands: mpsc::Sender<Command>,
    room: Arc<Semaphore>,
    questions: Semaphore,
    closed: AtomicBool,
}

/// Opens (or makes) the store in `config.dir`: takes the lock, recovers what was left open, catches
/// the summary up. Blocks; never call it on an async thread.
pub fn open(config: StoreConfig) -> Result<(Store, StoreHandle, OpenReport), StoreError> {
    let found = schema::look(&config.dir)?;
    std::fs::create_dir_all(&config.dir).map_err(StoreError::io(&config.dir))?;
    let lock = DirLock::take(&config.dir)?;
    schema::settle(&config.dir, found)?;
    let mut report = OpenReport::default();
    // sled uses several times what it is given, so the parts add up to about half: a quarter for the
    // segment being written, the rest for up to four days in work and for readers.
    let small = (config.cache_bytes / 64).clamp(1 << 20, 8 << 20);
    let opened = log::Log::open(config.dir.join("log"), small, &mut report)?;
    let log = Arc::new(opened.log);
    let summary = Arc::new(summary::Summary::open(config.dir.join("summary"), small, &mut report)?);
    let day_cache = (config.cache_bytes / 16).max(1 << 20);
    let (follower, reindexed) = Follower::open(log.clone(), summary.clone(), day_cache, config.part_entries.max(1))?;
    report.reindexed = reindexed;
    let published = Arc::new(Published {
        high: RwLock::new(opened.high),
        tampered: RwLock::new(opened.tampered),
        full: AtomicBool::new(false),
        live: broadcast::channel(config.follow.max(1)).0,
    });
    let (commands, mut received) = mpsc::channel(config.queue.max(1));
    let (tell, told) = sync_channel(FOLLOWER_QUEUE);
    let shared = Arc::new(Shared {
        config: config.clone(),
        log: log.clone(),
        summary,
        published: published.clone(),
        follower: tell.clone(),
        commands,
        room: Arc::new(Semaphore::new(ROOM_KIB)),
        questions: Semaphore::new(QUESTIONS),
        closed: AtomicBool::new(false),
    });
    let writer = Writer::new(config.clone(), log, published, tell);
    let thread = |name: &str| std::thread::Builder::new().name(name.to_owned());
    let spawn_failed = || StoreError::io(&config.dir);
    let writer = thread("store-writer").spawn(move || writer.run(&mut received)).map_err(spawn_failed())?;
    let follower = thread("store-follower").spawn(move || follower.run(&told)).map_err(spawn_failed())?;
    let (stop, stopped) = sync_channel(1);
    let keeper = Keeper::new(shared.clone());
    keeper.look_at_space();
    let keeper = thread("store-keeper").spawn(move || keeper.run(&stopped)).map_err(spawn_failed())?;
    let store = Store { shared: shared.clone(), writer: Some(writer), follower: Some(follower), keeper: Some((stop, keeper)), _lock: lock };
    Ok((store, StoreHandle { shared }, report))
}

/// Keeps everybody from opening a store until dropped.
pub struct Held {
    _lock: DirLock,
}

/// Holds the store in `dir` without opening it, so that its files can be copied.
pub fn hold(dir: &std::path::Path) -> Result<Held, StoreError> {
    DirLock::take(dir).map(|lock| Held { _lock: lock })
}

impl Store {
    /// Ends the threads, makes the summary whole and closes every database. Blocks.
    pub fn close(mut self) {
        self.stop(true);
    }

    fn stop(&mut self, clean: bool) {
        self.shared.closed.store(true, Ordering::Release);
        if let Some((stop, keeper)) = self.keeper.take() {
            drop(stop);
            let _ = keeper.join();
        }
        if let Some(writer) = self.writer.take() {
            // The queue may be full, and this thread may belong to a runtime: offer until taken.
            let mut stop = Command::Stop(clean);
            while let Err(mpsc::error::TrySendError::Full(back)) = self.shared.commands.try_send(stop) {
                stop = back;
                std::thread::park_timeout(std::time::Duration::from_millis(1));
            }
            let _ = writer.join();
        }
        if let Some(follower) = self.follower.take() {
            let _ = self.shared.follower.send(Told::Stop(clean));
            let _ = follower.join();
        }
        self.shared.log.pool.shut(clean);
        self.shared.summary.pool.shut(clean);
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.stop(false);
    }
}

impl StoreHandle {
    /// Stores a batch; durable when it returns. Waits for room.
    pub async fn append(&self, batch: NodeBatch) -> Result<Appended, AppendError> {
        let shared = &self.shared;
        if shared.published.full.load(Ordering::Acquire) {
            return Err(AppendError::Full);
        }
        if batch.bytes.len() > MAX_BATCH {
            return Err(AppendError::Damaged("batch is empty or larger than 8 MiB"));
        }
        let kib = u32::try_from(batch.bytes.len().div_ceil(1024)).unwrap_or(u32::MAX).max(1);
        let room = shared.room.clone().acquire_many_owned(kib).await.map_err(|_| AppendError::Closed)?;
        let (reply, answer) = oneshot::channel();
        self.command(Command::Append { batch, room, reply }).await?;
        answer.await.map_err(|_| AppendError::Closed)?
    }

    /// Records that a node will never send `from..=to` of a log, and goes on behind it. What is
    /// already stored of it stays.
    pub async fn append_gap(
        &self,
        node: &str,
        net: &str,
        log: LogId,
        range: std::ops::RangeInclusive<u64>,
        why: &str,
        received_ns: i64,
    ) -> Result<Appended, AppendError> {
        if self.shared.published.full.load(Ordering::Acquire) {
            return Err(AppendError::Full);
        }
        let (from, to) = range.into_inner();
        let gap = StoredGap { node: node.to_owned(), net: net.to_owned(), from, to, why: why.to_owned(), received_ns };
        let (reply, answer) = oneshot::channel();
        self.command(Command::Gap { log, gap, reply }).await?;
        answer.await.map_err(|_| AppendError::Closed)?
    }

    /// How far a log is stored; `None` when nothing of it is, or it is another node's.
    pub fn high_water(&self, node: &str, log: LogId) -> Option<HighWater> {
        let high = self.shared.published.high.read().unwrap_or_else(PoisonError::into_inner);
        high.get(&log).filter(|row| row.node == node).cloned()
    }

    /// Every log there is.
    pub fn logs(&self) -> Vec<HighWater> {
        self.shared.published.high.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// Records that contradicted stored ones, oldest first, at most 256.
    pub fn tampered(&self) -> Vec<Tampered> {
        self.shared.published.tampered.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether appends are refused because the disk is nearly full.
    pub fn is_full(&self) -> bool {
        self.shared.published.full.load(Ordering::Acquire)
    }

    /// Records that are stored and in no list yet: the summary follows what is durable, and under load
    /// not at once.
    pub fn behind(&self) -> u64 {
        self.shared.log.behind(&self.shared.published.high.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Events as they become durable, log by log in order. A reader that is too slow is told how
    /// many it missed; the summary and [`Self::events`] have them.
    pub fn follow(&self) -> broadcast::Receiver<Arc<StoredEvent>> {
        self.shared.published.live.subscribe()
    }

    /// Returns when everything appended before is in the summary.
    pub async fn settled(&self) -> Result<(), StoreError> {
        let (reply, answer) = oneshot::channel();
        self.command(Command::Settle(reply)).await.map_err(|_| StoreError::Closed)?;
        answer.await.map_err(|_| StoreError::Closed)?
    }

    /// Makes the summary again from the log; days the log no longer holds all of stay as they are.
    /// Returns the records folded. Lists are incomplete meanwhile.
    pub async fn rebuild(&self) -> Result<u64, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.question(move |shared| shared.follower.send(Told::Rebuild(reply)).map_err(|_| StoreError::Closed)).await?;
        answer.await.map_err(|_| StoreError::Closed)?
    }

    /// Deletes what is older than `max_age` and, oldest first, what is over the quota, as the
    /// keeper does every `check_every`.
    pub async fn sweep(&self, now_ns: i64) -> Result<Swept, StoreError> {
        self.question(move |shared| Keeper::new(shared.clone()).sweep(now_ns)).await
    }

    /// Sessions, newest first.
    pub async fn sessions(&self, query: SessionQuery) -> Result<Page<SessionRow>, StoreError> {
        self.question(move |shared| sessions::list(&shared.summary, &query)).await
    }

    /// The session of that id, or of an unambiguous start or end of one (at least 4 hexadecimal digits).
    pub async fn session(&self, name: &str) -> Result<Lookup<SessionRow>, StoreError> {
        let name = name.to_owned();
        self.question(move |shared| sessions::lookup(&shared.summary, &name)).await
    }

    /// The events of a session in the order of its log, `limit` at most (0 = 10 000). Reads only the
    /// blocks its row points at; what retention deleted is missing.
    pub async fn session_events(&self, row: &SessionRow, limit: usize) -> Result<Vec<StoredEvent>, StoreError> {
        let row = row.clone();
        self.question(move |shared| scan::session_events(&shared.log, &row, limit)).await
    }

    /// Stored events in the order of time (merged over logs; within a log always by sequence
    /// number), into `out`. Ends early when nobody receives. Memory: one block a log.
    pub async fn events(&self, query: EventQuery, out: mpsc::Sender<StoredEvent>) -> Result<(), StoreError> {
        // Not counted among the questions: it lasts as long as its reader takes.
        let shared = self.shared.clone();
        let run = move || scan::events(&shared, &query, |event| out.blocking_send(event).is_ok());
        tokio::task::spawn_blocking(run).await.map_err(|_| StoreError::Closed)?
    }

    /// The next records of one log behind a position, in its order: `limit` at most, about `bytes` at
    /// most (one block more). A follower of its own reads this way; empty = nothing newer is stored.
    pub async fn log_events(&self, log: LogId, after: u64, limit: usize, bytes: usize) -> Result<Vec<StoredEvent>, StoreError> {
        self.question(move |shared| scan::log_events(&shared.log, log, after, limit, bytes)).await
    }

    /// One stored record.
    pub async fn event(&self, log: LogId, seq: u64) -> Result<Option<StoredEvent>, StoreError> {
        self.question(move |shared| scan::event(&shared.log, log, seq)).await
    }

    /// Credentials tried.
    pub async fn credentials(&self, query: CredentialQuery) -> Result<Page<CredentialRow>, StoreError> {
        self.question(move |shared| lists::credentials(&shared.summary, &query)).await
    }

    /// Files seen.
    pub async fn files(&self, query: FileQuery) -> Result<Page<FileRow>, StoreError> {
        self.question(move |shared| lists::files(&shared.summary, &query)).await
    }

    /// Sums by net, service, hour, source and account name.
    pub async fn stats(&self, query: StatsQuery) -> Result<Stats, StoreError> {
        self.question(move |shared| lists::stats(&shared.summary, &query)).await
    }

    /// Nodes with their last signs of life, losses and gaps, summed over the days from `since` on.
    pub async fn nodes(&self, since: Option<i64>) -> Result<Vec<NodeStatus>, StoreError> {
        self.question(move |shared| lists::nodes(shared, since)).await
    }

    async fn command(&self, command: Command) -> Result<(), AppendError> {
        if self.shared.closed.load(Ordering::Acquire) {
            return Err(AppendError::Closed);
        }
        self.shared.commands.send(command).await.map_err(|_| AppendError::Closed)
    }

    /// Runs a question on a blocking thread, a bounded number at a time.
    async fn question<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&Arc<Shared>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let _turn = self.shared.questions.acquire().await.map_err(|_| StoreError::Closed)?;
        if self.shared.closed.load(Ordering::Acquire) {
            return Err(StoreError::Closed);
        }
        let shared = self.shared.clone();
        tokio::task::spawn_blocking(move || ask(&shared)).await.map_err(|_| StoreError::Closed)?
    }
}

/// Cases of a property test over bytes from outside: 10⁴, or `GLASSHIVE_FUZZ`.
#[cfg(test)]
pub(crate) fn fuzz_cases() -> u32 {
    std::env::var("GLASSHIVE_FUZZ").ok().and_then(|number| number.parse().ok()).unwrap_or(10_000)
}
