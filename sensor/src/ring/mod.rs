//! The packet ring: segments of pcapng on disk, each with its index, within a quota.
//!
//! A segment is hidden while it is written and published by rename; what it is then never changes. It
//! is `section header, interface, packets…, statistics`, so any tool reads it. Everything beside it is
//! made from it and can be made again. Two threads: the writer appends chunks, turns segments over and
//! keeps the quota; the indexer reads the files behind it, hashes and indexes them, and never delays it.
//!
//! A full or failing disk never ends anything: what cannot be kept is counted. Nothing here knows
//! interfaces or analysis.

mod files;
pub mod index;
mod indexer;
mod losses;
mod recover;
pub mod verify;
pub mod walk;
mod writer;

pub use files::{LossSpan, Meta, Purged, RingDir, Segment};
pub use losses::PendingLosses;
pub use recover::Recovered;

use crate::capture::{Counters, To};
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// Smallest segment: no smaller than a chunk.
const MIN_SEGMENT: u64 = crate::capture::CHUNK as u64;

/// What to keep and how.
#[derive(Debug, Clone)]
pub struct RingSettings {
    /// Directory; made when missing (0700).
    pub dir: PathBuf,
    /// Most bytes on disk.
    pub quota: u64,
    /// Packets older than this go.
    pub max_age: Duration,
    /// A segment ends at this size. Clamped to 1/8 of quota and file system.
    pub segment_bytes: u64,
    /// A segment with packets ends at this age.
    pub segment_age: Duration,
    /// Name of the interface, for the files.
    pub interface: String,
    /// pcap's LINKTYPE number.
    pub link_type: u16,
    /// Most bytes kept of a packet.
    pub snap_length: u32,
}

impl RingSettings {
    /// The defaults: 256 MiB or ten minutes a segment.
    pub fn new(dir: impl Into<PathBuf>, interface: impl Into<String>, link_type: u16) -> Self {
        Self {
            dir: dir.into(),
            quota: 10 << 30,
            max_age: Duration::from_secs(7 * 86_400),
            segment_bytes: 256 << 20,
            segment_age: Duration::from_secs(600),
            interface: interface.into(),
            link_type,
            snap_length: crate::capture::Settings::new("").snap_length,
        }
    }

    /// Size at which a segment ends on a file system of `total` bytes.
    fn segment_limit(&self, total: u64) -> u64 {
        self.segment_bytes.min(self.quota / 8).min(total / 8).max(MIN_SEGMENT)
    }
}

/// A ring whose directory is in order, not yet written to.
#[derive(Debug)]
pub struct Ring {
    settings: RingSettings,
    dir: RingDir,
    counters: Arc<Counters>,
    shared: Arc<Shared>,
    recovered: Recovered,
}

/// A ring being written.
#[derive(Debug)]
pub struct RingHandle {
    shared: Arc<Shared>,
    dir: RingDir,
    losses: Arc<PendingLosses>,
    writer: Option<JoinHandle<()>>,
    indexer: Option<JoinHandle<()>>,
}

/// How the ring stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct Standing {
    /// Segments, the one being written among them.
    pub segments: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes written and not indexed yet.
    pub index_lag_bytes: u64,
}

/// A view of a ring being written, cheap to clone.
#[derive(Debug, Clone)]
pub struct RingWatch {
    shared: Arc<Shared>,
    dir: RingDir,
    losses: Arc<PendingLosses>,
}

impl RingWatch {
    /// Losses not yet told to anybody.
    pub fn losses(&self) -> &PendingLosses {
        &self.losses
    }

    /// Its directory.
    pub fn dir(&self) -> &RingDir {
        &self.dir
    }

    /// How it stands.
    pub fn standing(&self) -> Standing {
        let segments = self.dir.segments().unwrap_or_default();
        let state = self.shared.lock();
        Standing {
            segments: segments.len() as u64,
            bytes: segments.iter().map(|segment| segment.bytes).sum(),
            index_lag_bytes: state.written.saturating_sub(state.read),
        }
    }
}

/// What the two threads tell each other.
#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    stop: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    /// Segment being written.
    active: Option<u64>,
    /// Segments begun that the indexer has not taken up.
    begun: std::collections::VecDeque<u64>,
    /// Bytes written since the start, and bytes read behind.
    written: u64,
    read: u64,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ring {
    /// Makes the directory, and puts in order what an unclean stop left: the whole packets of an
    /// unfinished segment are kept, what follows is cut and counted. Blocks.
    ///
    /// # Errors
    /// The system's, with the path.
    pub fn open(settings: RingSettings, counters: Arc<Counters>) -> io::Result<Self> {
        let dir = RingDir::new(&settings.dir);
        let recovered = recover::recover(&dir)
            .map_err(|error| io::Error::new(error.kind(), format!("packet ring {}: {error}", settings.dir.display())))?;
        Counters::add(&counters.cut_bytes, recovered.cut_bytes);
        Ok(Self { settings, dir, counters, shared: Arc::default(), recovered })
    }

    /// What opening found.
    pub fn recovered(&self) -> &Recovered {
        &self.recovered
    }

    /// Starts both threads. The ring ends when the sending side of `chunks` is gone.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub fn start(self, chunks: Receiver<To>) -> io::Result<RingHandle> {
        let losses = Arc::new(PendingLosses::default());
        let Self { settings, dir, counters, shared, recovered } = self;
        let indexer = indexer::Indexer::new(dir.clone(), Arc::clone(&shared), recovered.unread);
        let indexer = std::thread::Builder::new().name("index".into()).spawn(move || indexer.run())?;
        let writer = writer::Writer::new(settings, dir.clone(), counters, Arc::clone(&shared), Arc::clone(&losses), recovered.next);
        let writer = std::thread::Builder::new().name("ring".into()).spawn(move || writer.run(&chunks))?;
        Ok(RingHandle { shared, dir, losses, writer: Some(writer), indexer: Some(indexer) })
    }
}

impl RingHandle {
    /// For whoever reports on it.
    pub fn watch(&self) -> RingWatch {
        RingWatch { shared: Arc::clone(&self.shared), dir: self.dir.clone(), losses: Arc::clone(&self.losses) }
    }

    /// Waits until all chunks are written (their sender must be gone), the segment is published, read
    /// through, hashed and indexed. Blocks.
    pub fn finish(mut self) {
        self.end();
    }

    fn end(&mut self) {
        if let Some(writer) = self.writer.take()
            && writer.join().is_err()
        {
            tracing::error!("the ring's writer panicked");
        }
        self.shared.stop.store(true, Relaxed);
        self.shared.changed.notify_all();
        if let Some(indexer) = self.indexer.take()
            && indexer.join().is_err()
        {
            tracing::error!("the ring's indexer panicked");
        }
    }
}

impl Drop for RingHandle {
    fn drop(&mut self) {
        self.end();
    }
}

/// Sets the calling thread's niceness: capture and writer before everything else, the indexer behind it.
pub(crate) fn niceness(value: i32) {
    let thread = rustix::thread::gettid();
    // Refused (see `allow_priority`): then it competes, and the kernel's ring has to be enough.
    let _ = rustix::process::setpriority_process(Some(thread), value);
}

/// Lets threads of this process take a better niceness later, when it has no rights any more.
pub(crate) fn allow_priority() {
    // 20 less the niceness (setrlimit(2), RLIMIT_NICE).
    let limit = rustix::process::Rlimit { current: Some(30), maximum: Some(30) };
    // Not root: then it stays as it is.
    let _ = rustix::process::setrlimit(rustix::process::Resource::Nice, limit);
}

#[cfg(test)]
pub(crate) mod tests;
