//! Settings of the controller's store and the errors it reports.

use glasshive_event::LogId;
use std::path::PathBuf;
use std::time::Duration;

/// Where the store lives and how much it may keep.
#[derive(Clone, Debug)]
pub struct StoreConfig {
    /// State directory: `log/`, `summary/` and `LOCK` are made below it.
    pub dir: PathBuf,
    /// A log segment is closed when it holds this many bytes.
    pub segment_bytes: u64,
    /// A log segment is closed when it is this old.
    pub segment_age: Duration,
    /// Entries of sessions and flows (about 13 a visit) after which a day of the summary goes on in a new part.
    pub part_entries: u64,
    /// Memory sled may use for its caches, in bytes.
    pub cache_bytes: u64,
    /// Segments and days whose newest event is older are deleted; `None` keeps them.
    pub max_age: Option<Duration>,
    /// Bytes `log/` and `summary/` may occupy together; the oldest segment or day goes first. `None` = no limit.
    pub quota_bytes: Option<u64>,
    /// Free bytes of the file system below which appends are refused with [`AppendError::Full`];
    /// `None` = min(256 MiB, 5 % of the file system).
    pub free_floor: Option<u64>,
    /// How often age, quota and free space are looked at.
    pub check_every: Duration,
    /// Batches that may wait for the writing thread.
    pub queue: usize,
    /// Events a follower may be behind before it is told how many it missed.
    pub follow: usize,
}

impl StoreConfig {
    /// The defaults of the design for a store below `dir`.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            // sled keeps nearly all of an open segment in memory, whatever its cache is; three are open under load.
            segment_bytes: 32 << 20,
            segment_age: Duration::from_secs(3_600),
            part_entries: 250_000,
            cache_bytes: 64 << 20,
            max_age: None,
            quota_bytes: None,
            free_floor: None,
            check_every: Duration::from_secs(5),
            queue: 256,
            follow: 4_096,
        }
    }

    /// Segment size after clamping to 1/8 of the quota, so that a small disk still rolls.
    pub(crate) fn segment_limit(&self) -> u64 {
        self.quota_bytes.map_or(self.segment_bytes, |quota| self.segment_bytes.min(quota / 8)).max(1 << 20)
    }
}

/// Our own failures; what a visitor or a node sends is never one of these.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process has the store open.
    #[error("{dir} is in use by process {pid}: ask the running daemon through its admin socket, or stop it first", dir = .dir.display())]
    Locked {
        /// The store's directory.
        dir: PathBuf,
        /// What the lock file says: a process id, or `unknown`.
        pid: String,
    },
    /// A newer program wrote the store, or its stamp is not readable.
    #[error(transparent)]
    Schema(#[from] crate::schema::SchemaError),
    /// A file operation failed.
    #[error("{path}: {source}", path = .path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The database of a segment or day failed.
    #[error("{what}: {why}")]
    Database {
        /// Segment or day.
        what: String,
        /// What it said.
        why: String,
    },
    /// The question cannot be answered as asked.
    #[error("{0}")]
    Query(String),
    /// The store is shutting down.
    #[error("the store is closed")]
    Closed,
}

impl StoreError {
    /// For `map_err` on file operations.
    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }

    /// For `map_err` on anything that can be printed.
    pub(crate) fn database<E: std::fmt::Display>(what: impl Into<String>) -> impl FnOnce(E) -> Self {
        let what = what.into();
        move |why| Self::Database { what, why: why.to_string() }
    }
}

/// Why a batch or a gap was not taken. Nothing of a refused batch is stored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// The batch starts behind a hole; send from this sequence number, or declare the gap.
    #[error("expected sequence number {0}")]
    Expected(u64),
    /// A record stored under this sequence number is not the one received: evidence of tampering.
    #[error("record {seq} differs from the one already stored")]
    Tamper {
        /// The sequence number.
        seq: u64,
    },
    /// The hash chain does not continue ours.
    #[error("hash chain breaks at record {seq}")]
    Chain {
        /// First record the chain does not lead to.
        seq: u64,
    },
    /// The bytes are not consecutive records of that log.
    #[error("batch is damaged: {0}")]
    Damaged(&'static str),
    /// The log belongs to another node.
    #[error("log belongs to node {owner}")]
    Foreign {
        /// The node that wrote it first.
        owner: String,
    },
    /// The node opened more logs than one node ever needs.
    #[error("node has too many logs")]
    TooManyLogs,
    /// Free space is under the floor, or the disk refused the write; try again later.
    #[error("the store is full")]
    Full,
    /// The store is shutting down.
    #[error("the store is closed")]
    Closed,
}

/// What opening found and mended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OpenReport {
    /// Log segments there are.
    pub segments: usize,
    /// Days there are.
    pub days: usize,
    /// Segments and days moved aside because they could not be read, with the reason.
    pub quarantined: Vec<String>,
    /// Whether the last stop was unclean.
    pub unclean: bool,
    /// Logs that came back shorter than what was acknowledged: (log, acknowledged, recovered). An
    /// alarm: their nodes may no longer have the records between. The state before recovery is kept
    /// as a quarantined segment.
    pub lost: Vec<(LogId, u64, u64)>,
    /// Records folded into the summary because it was behind the log.
    pub reindexed: u64,
}

/// How far one log of one node is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HighWater {
    /// Node that owns the log.
    pub node: String,
    /// Net the node belonged to when it last wrote.
    pub net: String,
    /// The log.
    pub log: LogId,
    /// Highest durable sequence number.
    pub seq: u64,
    /// Chain head after it; zero after a declared gap, until the next batch brings its own.
    pub chain: [u8; 32],
    /// Whether `chain` is known (false right after a gap).
    pub chain_known: bool,
    /// Wall time of the last record, nanoseconds UTC.
    pub wall_ns: i64,
    /// Declared gaps: first and last missing sequence number, and why. The newest 64.
    pub gaps: Vec<(u64, u64, String)>,
}

/// A record that contradicts a stored one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tampered {
    /// Node that sent it.
    pub node: String,
    /// Its log.
    pub log: LogId,
    /// The sequence number both claim.
    pub seq: u64,
    /// Leaf hash of the stored record.
    pub stored: [u8; 32],
    /// The record received, at most 16 KiB.
    pub received: Vec<u8>,
    /// When it came, nanoseconds UTC.
    pub received_ns: i64,
}
