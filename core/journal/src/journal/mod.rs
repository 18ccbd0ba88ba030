//! A node's journal: one OS thread, group commit, truly durable.
//!
//! Callers encode a record's body; the thread gives it the next sequence number, prepends the
//! header, chains its hash and stores it in blocks ([`crate::block`]). What it must never do: give a
//! sequence number twice under one log id, say durable before the disk has it, delete what the
//! controller has not acknowledged (unless told to by `on_full`, and then it says so in the log), or
//! lose an accepted record because the disk is full: callers wait instead.
//!
//! On disk, under the journal's directory: `schema` ([`crate::schema`]), `log/LOG` (log id), `log/<first seq, 20 digits>/` (one
//! segment), `state`, `lock`, `reserve`, `restored` (left by a rollback), and `quarantine-…` (kept for people, never touched again).

mod config;
mod handle;
mod log;
mod recover;
mod reserve;
mod sessions;
mod state;
mod stored;
mod writer;

pub use config::{JournalConfig, OnFull, boot_id};
pub use handle::{Gauges, Journal, JournalHandle};
pub use sessions::OpenSession;

use crate::schema::{self, SchemaError};
use crate::segment::SegmentError;
use glasshive_event::{Body, LogId};
use std::io;
use std::path::PathBuf;

/// A record on its way in: the journal adds log, sequence number and boot id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    /// Wall time, nanoseconds UTC.
    pub wall_ns: i64,
    /// Monotonic clock of the node, nanoseconds.
    pub mono_ns: u64,
    /// Envelope and detail.
    pub body: Body,
}

/// How far the journal is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Durable {
    /// Last durable record; 0 when there is none.
    pub seq: u64,
    /// Chain head behind it.
    pub chain: [u8; 32],
    /// Its wall time, nanoseconds UTC.
    pub wall_ns: i64,
}

/// Whether accept loops may go on.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum Pressure {
    /// They may.
    #[default]
    Normal,
    /// They wait until open sessions have room in the queue again; records are taken and stored.
    Crowded {
        /// Why, in words for an operator.
        why: String,
    },
    /// They wait until it is normal again; nothing is stored.
    Paused {
        /// Why, in words for an operator.
        why: String,
    },
}

/// A durable block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// Sequence number of the first record.
    pub first: u64,
    /// Sequence number of the last record.
    pub last: u64,
    /// Chain head before the first record.
    pub chain_before: [u8; 32],
    /// (u32 BE length ‖ record)+, see [`crate::block`].
    pub bytes: Vec<u8>,
}

/// The journal's thread has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the journal is closed")]
pub struct Closed;

/// Why a record was not taken at once; it is given back.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TryAppendError {
    /// No room now: count it.
    #[error("the journal's queue is full")]
    Full(Pending),
    /// The journal's thread has ended.
    #[error("the journal is closed")]
    Closed(Pending),
}

/// Records that are not in the log any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    /// The log they were in.
    pub log: LogId,
    /// First missing sequence number.
    pub from: u64,
    /// Last missing sequence number.
    pub to: u64,
    /// Why.
    pub why: String,
}

/// What opening found. The daemon writes a `gap` for an unclean stop and for each of `lost`, and a
/// `session.close` with reason `node_crash` for each of `open_sessions`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenReport {
    /// The log that is now written.
    pub log: LogId,
    /// The journal had been closed properly.
    pub clean: bool,
    /// Last record found, in the log found; 0 when there was none.
    pub recovered_last: u64,
    /// There was no journal before.
    pub was_new: bool,
    /// What was put aside. People may look at it and delete it; we do not.
    pub quarantined: Vec<PathBuf>,
    /// Records that were durable and are not readable.
    pub lost: Vec<Lost>,
    /// Records of the old log that were written again, first, under the new log id.
    pub salvaged: u64,
    /// Why the log found could not be continued and a new one was begun.
    pub replaced: Option<String>,
    /// Sessions opened and not closed, oldest first.
    pub open_sessions: Vec<OpenSession>,
}

/// Why a journal cannot be opened or closed.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// Another process has it.
    #[error("journal {} is in use by {}; stop that process first", dir.display(), holder(*pid))]
    Locked {
        /// The journal's directory.
        dir: PathBuf,
        /// Who holds it.
        pid: Option<u32>,
    },
    /// The directory or a file in it cannot be used.
    #[error("journal {}: {source}; make it readable and writable for the user the daemon runs as, or set another state directory", path.display())]
    Directory {
        /// What could not be used.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The quota is too small to work with.
    #[error("journal quota of {0} bytes is too small; set at least 8 MiB")]
    Quota(u64),
    /// A newer program wrote it, or its stamp is not readable.
    #[error("journal: {0}")]
    Schema(#[from] SchemaError),
    /// A segment failed in a way that is not damage.
    #[error("journal: {0}")]
    Segment(#[from] SegmentError),
    /// A new log could not be begun in place of a damaged one.
    #[error("journal {} cannot be used: {why}; move it away, a new one is made", dir.display())]
    Unusable {
        /// The journal's directory.
        dir: PathBuf,
        /// Why.
        why: String,
    },
    /// Accepted records could not be stored before closing, because the disk is full or failed.
    #[error("journal closed with {0} accepted records not stored: {1}")]
    NotStored(usize, String),
    /// No thread for the journal.
    #[error("journal thread: {0}")]
    Thread(io::Error),
}

impl JournalError {
    /// Exit code of a daemon that could not open its journal.
    pub fn exit_code(&self) -> u8 {
        if matches!(self, Self::Schema(SchemaError::Newer { .. })) { schema::EXIT } else { 1 }
    }
}

/// Judges the schema of the journal in `dir` and touches nothing: a daemon asks before it does anything else.
pub fn admissible(dir: &std::path::Path) -> Result<(), JournalError> {
    Ok(schema::look(dir).map(|_| ())?)
}

fn holder(pid: Option<u32>) -> String {
    pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"))
}

/// Opens the journal in `config.dir`, or makes one, and starts its thread. Blocks (recovery may take
/// seconds): call it before the runtime is busy.
pub fn open(config: JournalConfig) -> Result<(Journal, JournalHandle, OpenReport), JournalError> {
    if config.quota_bytes < config::MIN_QUOTA {
        return Err(JournalError::Quota(config.quota_bytes));
    }
    let recovered = recover::recover(&config)?;
    handle::start(config, recovered)
}
