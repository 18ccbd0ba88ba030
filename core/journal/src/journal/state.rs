//! The journal's small side files: `state` (what the controller acknowledged, what was durable when
//! last written), `LOG` (the log id), `CLOSED` (what a closed segment holds), and the lock.

use super::JournalError;
use crate::disk;
use glasshive_event::LogId;
use glasshive_event::text::{hex, unhex};
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

const STATE: &str = "state";
const LOG: &str = "LOG";
const CLOSED: &str = "CLOSED";
const SMALL: u64 = 4096;

/// What must survive besides the records. Written by rename, so old or new, never a part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct State {
    pub(super) log: LogId,
    /// The controller holds everything up to here.
    pub(super) acknowledged: u64,
    /// Everything up to here was durable: recovering less is a loss.
    pub(super) durable: u64,
    /// Last record when the journal was opened, until the controller is heard: should this state have come back
    /// from an older copy, what follows is what the controller cannot have.
    #[serde(default)]
    pub(super) since: Option<u64>,
    /// The controller holds more of this log than is here: it cannot be continued.
    #[serde(default)]
    pub(super) superseded: bool,
    /// The journal was closed as a whole. A process can also die between two segments, when the last one is closed.
    /// `None` in what earlier builds wrote.
    #[serde(default)]
    pub(super) stopped: Option<bool>,
}

impl State {
    pub(super) fn read(dir: &Path) -> Option<Self> {
        let bytes = disk::read_small(&dir.join(STATE), SMALL).ok()?;
        serde_json::from_slice(&bytes).ok()
    }

    /// The controller says that it holds everything up to `seq`; `last` is the last record here.
    pub(super) fn heard(&mut self, seq: u64, last: u64) {
        if seq > last && !self.superseded {
            tracing::error!(controller = seq, here = last, "the controller holds more of this log; the next start begins a new one");
            self.superseded = true;
        }
        if self.superseded {
            // What was written since has gone nowhere, whatever numbers the controller names.
            self.acknowledged = self.acknowledged.max(self.since.unwrap_or(0).min(last));
        } else {
            self.since = None;
            self.acknowledged = self.acknowledged.max(seq);
        }
    }

    /// Why the log cannot be continued, when the controller holds more of it; then what was there before it was
    /// found out to be older counts as acknowledged, and nothing that was written since.
    pub(super) fn overtaken(&mut self, last: u64) -> Option<String> {
        self.superseded.then(|| {
            self.acknowledged = self.since.unwrap_or(self.acknowledged).min(last);
            "this state came back from an older copy: its numbers were given already".to_owned()
        })
    }

    pub(super) fn write(&self, dir: &Path) -> io::Result<()> {
        disk::write_atomic(&dir.join(STATE), &serde_json::to_vec(self)?)
    }
}

pub(super) fn read_log_id(log_dir: &Path) -> Option<LogId> {
    let bytes = disk::read_small(&log_dir.join(LOG), SMALL).ok()?;
    std::str::from_utf8(&bytes).ok()?.trim().parse().ok()
}

pub(super) fn write_log_id(log_dir: &Path, log: LogId) -> io::Result<()> {
    disk::write_atomic(&log_dir.join(LOG), format!("{log}\n").as_bytes())
}

/// What a closed segment holds, so that it need not be opened to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Closed {
    pub(super) first: u64,
    pub(super) last: u64,
    /// Chain head behind the last record.
    pub(super) chain: [u8; 32],
    /// Wall time of the last record.
    pub(super) wall_ns: i64,
    /// Bytes on disk; measured, not stored.
    pub(super) bytes: u64,
}

#[derive(Serialize, Deserialize)]
struct ClosedFile {
    first: u64,
    last: u64,
    chain: String,
    wall_ns: i64,
}

impl Closed {
    /// Reads the sidecar and measures; `None` when it is missing or damaged.
    pub(super) fn read(segment: &Path) -> Option<Self> {
        let bytes = disk::read_small(&segment.join(CLOSED), SMALL).ok()?;
        let file: ClosedFile = serde_json::from_slice(&bytes).ok()?;
        let chain = <[u8; 32]>::try_from(unhex(&file.chain)?).ok()?;
        Some(Self { first: file.first, last: file.last, chain, wall_ns: file.wall_ns, bytes: disk::used_bytes(segment).ok()? })
    }

    pub(super) fn forget(segment: &Path) {
        let _ = std::fs::remove_file(segment.join(CLOSED));
    }

    pub(super) fn write(&self, segment: &Path) -> io::Result<()> {
        let file = ClosedFile { first: self.first, last: self.last, chain: hex(&self.chain), wall_ns: self.wall_ns };
        disk::write_atomic(&segment.join(CLOSED), &serde_json::to_vec(&file)?)
    }
}

/// Held as long as the journal is open; the kernel lets go of it when the process ends.
#[derive(Debug)]
pub(super) struct Lock(#[allow(dead_code, reason = "held, never read")] File);

impl Lock {
    pub(super) fn take(dir: &Path) -> Result<Self, JournalError> {
        let path = dir.join("lock");
        let at = |source| JournalError::Directory { path: path.clone(), source };
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path).map_err(at)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(std::fs::TryLockError::WouldBlock) => {
                let mut text = String::new();
                let _ = file.take(32).read_to_string(&mut text);
                return Err(JournalError::Locked { dir: dir.to_owned(), pid: text.trim().parse().ok() });
            }
            Err(std::fs::TryLockError::Error(e)) => return Err(at(e)),
        }
        file.set_len(0).and_then(|()| file.rewind()).and_then(|()| writeln!(file, "{}", std::process::id())).map_err(at)?;
        Ok(Self(file))
    }
}
