//! One sled database a directory: the primitive under the journal, the controller's log and its
//! summary.
//!
//! What it promises: [`Segment::apply`] returns only when the batch survives a power cut; a
//! directory that was not closed cleanly is copied before sled may touch it; sled's panics become
//! [`SegmentError::Damaged`]. What it must never do: open a directory somebody else holds, delete
//! anything it was not told to, or leave `CLEAN` beside an open database.
//!
//! Files beside sled's own: `READY` (creation finished), `CLEAN` (closed, nothing to recover).
//! Names in the parent: `copy-NAME` (the untouched state before a recovery that has not been
//! accepted), `quarantine-…` (kept, never opened), `.trash-…` and `.copying-…` (leftovers, swept).

use crate::disk;
use std::fs::{self, File};
use std::io;
use std::ops::{Bound, Deref, RangeBounds};
use std::os::unix::fs::MetadataExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

mod directory;
mod nudge;

pub use directory::{check_room, is_clean, list, quarantine, remove};

use directory::{copy_name, drop_unfinished_snapshots, save_copy, wait_for_lock};

const READY: &str = "READY";
const CLEAN: &str = "CLEAN";
/// sled releases its lock a little after the last handle drops; this long we wait for it.
const LOCK_WAIT: Duration = Duration::from_secs(5);
/// Largest value of an entry, bytes. sled keeps up to 17 entries in a page, and writes a page over a
/// quarter of its own segment into a file under `blobs/` that it never syncs: a power cut could take a
/// whole page of durable entries. So pages must stay below that.
pub const MAX_VALUE: usize = 24 << 10;
/// sled's own segment: 17 entries of the largest size and their keys are less than a quarter of it.
const SLED_SEGMENT: usize = 2 << 20;
/// Room taken on disk ahead of what is written, bytes.
const AHEAD: u64 = 1 << 20;
/// The same for opening: sled may write a little at the next multiple of its own segment.
const AHEAD_OPEN: u64 = 1 << 20;
/// A drop of sled that takes longer is left behind, and the segment stays without `CLEAN`.
const DROP_WAIT: Duration = Duration::from_secs(60);

/// Why a segment cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SegmentError {
    /// The operating system refused.
    #[error("segment {}: {source}", path.display())]
    Io {
        /// Directory or file.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// The disk is full; nothing of the batch is promised. Close, make room, open again.
    #[error("segment {}: the disk is full; free space or lower the quota", dir.display())]
    Full {
        /// The segment.
        dir: PathBuf,
    },
    /// sled says, or its panic shows, that the content is damaged: quarantine it.
    #[error("segment {} is damaged: {why}", dir.display())]
    Damaged {
        /// The segment.
        dir: PathBuf,
        /// What sled said.
        why: String,
    },
    /// Another process (or a handle still closing) holds it.
    #[error("segment {} is held by another process; stop it first", dir.display())]
    Locked {
        /// The segment.
        dir: PathBuf,
    },
    /// An earlier call failed; only closing and opening again helps.
    #[error("segment {} failed earlier and must be opened again", dir.display())]
    Broken {
        /// The segment.
        dir: PathBuf,
    },
}

/// Bytes of a key or value, shared with the database's cache.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Slice(sled::IVec);

impl Deref for Slice {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.0
    }
}
impl AsRef<[u8]> for Slice {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}
impl std::fmt::Debug for Slice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Slice({} bytes)", self.0.len())
    }
}

/// Changes applied together: after a crash all of them are there, or none.
#[derive(Default)]
pub struct Batch {
    inner: sled::Batch,
    operations: usize,
    bytes: usize,
    largest: usize,
}

impl Batch {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets `key` to `value`, of at most [`MAX_VALUE`] bytes together; [`Segment::apply`] refuses larger ones.
    pub fn put(&mut self, key: &[u8], value: &[u8]) {
        self.inner.insert(key, value);
        self.largest = self.largest.max(key.len().saturating_add(value.len()));
        self.operations += 1;
        self.bytes = self.bytes.saturating_add(key.len()).saturating_add(value.len());
    }

    /// Removes `key`. Not for expiry: sled gives nothing back; delete whole segments.
    pub fn remove(&mut self, key: &[u8]) {
        self.inner.remove(key);
        self.operations += 1;
        self.bytes = self.bytes.saturating_add(key.len());
    }

    /// Number of changes.
    pub fn len(&self) -> usize {
        self.operations
    }

    /// Whether there is nothing to apply.
    pub fn is_empty(&self) -> bool {
        self.operations == 0
    }

    /// Bytes of keys and values.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

/// One open database. Dropping it without [`Segment::close`] is an unclean stop.
pub struct Segment {
    dir: PathBuf,
    db: Option<sled::Db>,
    nudge: Option<nudge::Nudge>,
    file: File,
    broken: AtomicBool,
    /// Disk blocks are ours up to this offset of `db`; `u64::MAX` where the file system cannot promise any.
    promised: AtomicU64,
}

/// What opening found.
pub struct Opened {
    /// The database.
    pub segment: Segment,
    /// It had been closed properly: nothing was recovered.
    pub clean: bool,
    /// Its creation had never finished, so it was made again, empty.
    pub was_new: bool,
    /// The state before recovery. Verify the segment, then [`Opened::accept`] it **before writing**,
    /// or [`quarantine`] it. `None` after a clean stop, or when there was no room to copy.
    pub copy: Option<PathBuf>,
}

impl Opened {
    /// The recovered content was verified: the copy goes.
    pub fn accept(self) -> Result<Segment, SegmentError> {
        if let Some(copy) = &self.copy {
            remove(copy)?;
        }
        Ok(self.segment)
    }
}

impl Segment {
    /// Makes `dir` and an empty database in it, durable by name. The parent must exist, `dir` must not.
    pub fn create(dir: &Path, cache_bytes: u64) -> Result<Self, SegmentError> {
        let at = |source| io_error(dir, source);
        fs::create_dir(dir).map_err(at)?;
        let segment = open_sled(dir, cache_bytes)?;
        // sled never syncs `conf`; without this a power cut makes it take the database for a new one and cut it.
        disk::sync_tree(dir).map_err(at)?;
        File::create(dir.join(READY)).and_then(|file| file.sync_all()).map_err(at)?;
        disk::sync_dir(dir).map_err(at)?;
        disk::sync_parent(dir).map_err(at)?;
        Ok(segment)
    }

    /// Opens `dir`, if the disk has at least 1 MiB left: sled writes when it opens, and on a full disk
    /// fails in ways that look like damage. Without `CLEAN` the directory is copied first and sled recovers, on its own
    /// thread, panics caught.
    pub fn open(dir: &Path, cache_bytes: u64) -> Result<Opened, SegmentError> {
        let at = |source| io_error(dir, source);
        if !dir.try_exists().map_err(at)? && !copy_name(dir).try_exists().map_err(at)? {
            return Err(SegmentError::Damaged { dir: dir.to_owned(), why: "its directory is gone".to_owned() });
        }
        if !dir.join(READY).try_exists().map_err(at)? && !copy_name(dir).try_exists().map_err(at)? {
            disk::remove_tree(dir).map_err(at)?;
            return Ok(Opened { segment: Self::create(dir, cache_bytes)?, clean: true, was_new: true, copy: None });
        }
        wait_for_lock(dir)?;
        check_room(dir, 0)?;
        let clean = is_clean(dir);
        let mut copy = None;
        if clean {
            fs::remove_file(dir.join(CLEAN)).map_err(at)?;
            disk::sync_dir(dir).map_err(at)?;
        } else {
            // Without room for the copy recovery still goes on, but never where the disk may fill under it.
            check_room(dir, 1 << 20)?;
            copy = save_copy(dir)?;
        }
        drop_unfinished_snapshots(dir)?;
        let segment = open_sled(dir, cache_bytes).map_err(|e| check_room(dir, 0).err().unwrap_or(e))?;
        Ok(Opened { segment, clean, was_new: false, copy })
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Applies a batch; durable when it returns. On a full disk it fails before sled is asked, and may
    /// be called again; after any other error the segment is [broken](Segment::is_broken).
    pub fn apply(&self, batch: Batch) -> Result<(), SegmentError> {
        if batch.is_empty() {
            return Ok(());
        }
        if batch.largest > MAX_VALUE {
            let why = format!("an entry of {} bytes is over the limit of {MAX_VALUE}", batch.largest);
            return Err(SegmentError::Io { path: self.dir.clone(), source: io::Error::new(io::ErrorKind::InvalidInput, why) });
        }
        self.promise_room(batch.bytes())?;
        self.guard(|db| {
            db.apply_batch(batch.inner)?;
            self.flush(db)
        })
        .map_err(|e| {
            self.broken.store(true, Ordering::Release);
            check_room(&self.dir, 0).err().unwrap_or(e)
        })
    }

    /// Whether only closing (dropping) and opening again can help.
    pub fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Acquire)
    }

    /// The durable point: everything written so far survives a power cut.
    fn flush(&self, db: &sled::Db) -> sled::Result<()> {
        match &self.nudge {
            Some(nudge) => nudge.watching(|| db.flush())?,
            None => db.flush()?,
        };
        self.file.sync_data().map_err(sled::Error::from)
    }

    /// Takes room for a batch, unless enough is taken already.
    fn promise_room(&self, bytes: usize) -> Result<(), SegmentError> {
        let at = |source| io_error(&self.dir, source);
        let meta = self.file.metadata().map_err(at)?;
        if meta.nlink() == 0 {
            self.broken.store(true, Ordering::Release);
            return Err(SegmentError::Damaged { dir: self.dir.clone(), why: "its files were deleted while it was open".to_owned() });
        }
        let need = meta.len().saturating_add((bytes as u64).saturating_mul(2)).saturating_add(AHEAD / 2);
        if need > self.promised.load(Ordering::Acquire) {
            self.promised.store(take_ahead(&self.file, need.saturating_add(AHEAD / 2)).map_err(at)?, Ordering::Release);
        }
        Ok(())
    }

    /// The value of `key`.
    pub fn get(&self, key: &[u8]) -> Result<Option<Slice>, SegmentError> {
        self.guard(|db| db.get(key)).map(|value| value.map(Slice))
    }

    /// The entry with the smallest key.
    pub fn first(&self) -> Result<Option<(Slice, Slice)>, SegmentError> {
        self.guard(|db| db.first()).map(|entry| entry.map(|(key, value)| (Slice(key), Slice(value))))
    }

    /// The entry with the largest key.
    pub fn last(&self) -> Result<Option<(Slice, Slice)>, SegmentError> {
        self.guard(|db| db.last()).map(|entry| entry.map(|(key, value)| (Slice(key), Slice(value))))
    }

    /// The entry with the largest key not above `key`: the block that holds a sequence number.
    pub fn at_or_before(&self, key: &[u8]) -> Result<Option<(Slice, Slice)>, SegmentError> {
        self.range((Bound::Unbounded, Bound::Included(key))).next_back().transpose()
    }

    /// Entries in key order, read as they are asked for; from both ends.
    pub fn range<'k, R: RangeBounds<&'k [u8]>>(&self, range: R) -> Range<'_> {
        let own = |bound: Bound<&&'k [u8]>| match bound {
            Bound::Included(key) => Bound::Included(sled::IVec::from(*key)),
            Bound::Excluded(key) => Bound::Excluded(sled::IVec::from(*key)),
            Bound::Unbounded => Bound::Unbounded,
        };
        let bounds = (own(range.start_bound()), own(range.end_bound()));
        // sled panics on an inverted range; nothing lies in it.
        let inverted = match (&bounds.0, &bounds.1) {
            (Bound::Included(a), Bound::Included(b)) => a > b,
            (Bound::Included(a) | Bound::Excluded(a), Bound::Included(b) | Bound::Excluded(b)) => a >= b,
            _ => false,
        };
        let inner = if inverted { None } else { self.db.as_ref().map(|db| db.range(bounds)) };
        Range { segment: self, inner }
    }

    /// Bytes on disk, without the room taken ahead.
    pub fn size_on_disk(&self) -> Result<u64, SegmentError> {
        let used = || -> io::Result<u64> {
            let all = disk::used_bytes(&self.dir)?;
            let db = self.file.metadata()?;
            let ahead = db.blocks().saturating_mul(512).saturating_sub(db.len().next_multiple_of(4096));
            Ok(all.saturating_sub(ahead))
        };
        used().map_err(|source| io_error(&self.dir, source))
    }

    /// Closes, syncs everything and leaves `CLEAN`: the next open has nothing to recover.
    pub fn close(mut self) -> Result<(), SegmentError> {
        self.guard(|db| self.flush(db))?;
        let dir = self.dir.clone();
        let at = |source| io_error(&dir, source);
        if !drop_sled(self.db.take(), self.nudge.take()) {
            return Err(SegmentError::Broken { dir });
        }
        wait_for_lock(&dir)?;
        // Setting the same length gives back the room taken ahead.
        self.file.metadata().and_then(|meta| self.file.set_len(meta.len())).map_err(at)?;
        disk::sync_tree(&dir).map_err(at)?;
        File::create(dir.join(CLEAN)).and_then(|file| file.sync_all()).map_err(at)?;
        disk::sync_dir(&dir).map_err(at)
    }

    /// Runs `work` on the database; an error sled never recovers from, or a panic, breaks the segment.
    fn guard<T>(&self, work: impl FnOnce(&sled::Db) -> sled::Result<T>) -> Result<T, SegmentError> {
        let broken = || SegmentError::Broken { dir: self.dir.clone() };
        let db = self.db.as_ref().ok_or_else(broken)?;
        if self.broken.load(Ordering::Acquire) {
            return Err(broken());
        }
        match catch_unwind(AssertUnwindSafe(|| work(db))) {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(e)) => {
                self.broken.store(true, Ordering::Release);
                Err(from_sled(&self.dir, e))
            }
            Err(panic) => {
                self.broken.store(true, Ordering::Release);
                Err(SegmentError::Damaged { dir: self.dir.clone(), why: panic_text(panic.as_ref()) })
            }
        }
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        if self.db.is_some() {
            drop_sled(self.db.take(), self.nudge.take());
        }
    }
}

/// Entries of a segment, lazily.
pub struct Range<'a> {
    segment: &'a Segment,
    inner: Option<sled::Iter>,
}

impl Range<'_> {
    fn step(
        &mut self,
        step: impl FnOnce(&mut sled::Iter) -> Option<sled::Result<(sled::IVec, sled::IVec)>>,
    ) -> Option<Result<(Slice, Slice), SegmentError>> {
        let inner = self.inner.as_mut()?;
        match self.segment.guard(|_| step(inner).transpose()) {
            Ok(Some((key, value))) => Some(Ok((Slice(key), Slice(value)))),
            Ok(None) => None,
            Err(e) => {
                self.inner = None;
                Some(Err(e))
            }
        }
    }
}

impl Iterator for Range<'_> {
    type Item = Result<(Slice, Slice), SegmentError>;
    fn next(&mut self) -> Option<Self::Item> {
        self.step(Iterator::next)
    }
}
impl DoubleEndedIterator for Range<'_> {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.step(DoubleEndedIterator::next_back)
    }
}

/// Takes disk blocks behind the end of the file, up to offset `to`, without changing its length. A write
/// of sled that meets a full disk can hang it, or leave a database that does not open again (both seen);
/// what is taken here cannot fail so. Gives how far the promise goes.
fn take_ahead(file: &File, to: u64) -> io::Result<u64> {
    let end = file.metadata()?.len();
    match rustix::fs::fallocate(file, rustix::fs::FallocateFlags::KEEP_SIZE, end, to.saturating_sub(end).max(1)) {
        Ok(()) => Ok(to),
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => Ok(u64::MAX),
        Err(e) => Err(e.into()),
    }
}

fn open_sled(dir: &Path, cache_bytes: u64) -> Result<Segment, SegmentError> {
    let at = |source| io_error(dir, source);
    let file = File::options().write(true).create(true).truncate(false).open(dir.join("db")).map_err(at)?;
    let end = file.metadata().map_err(at)?.len();
    take_ahead(&file, end.saturating_add(AHEAD_OPEN)).map_err(at)?;
    let config = sled::Config::new().path(dir).cache_capacity(cache_bytes).segment_size(SLED_SEGMENT).flush_every_ms(Some(200));
    let until = Instant::now() + LOCK_WAIT;
    let db = loop {
        let config = config.clone();
        let opener = std::thread::Builder::new()
            .name("segment-open".into())
            .spawn(move || catch_unwind(AssertUnwindSafe(|| config.open())))
            .map_err(|e| io_error(dir, e))?;
        match opener.join().and_then(|result| result) {
            Ok(Ok(db)) => break db,
            Ok(Err(e)) if is_lock(&e) && Instant::now() < until => std::thread::park_timeout(Duration::from_millis(5)),
            Ok(Err(e)) if is_lock(&e) => return Err(SegmentError::Locked { dir: dir.to_owned() }),
            Ok(Err(e)) => return Err(from_sled(dir, e)),
            Err(panic) => return Err(SegmentError::Damaged { dir: dir.to_owned(), why: panic_text(panic.as_ref()) }),
        }
    };
    // Opening may have cut the file, and with it what was taken.
    let promised = take_ahead(&file, end.saturating_add(AHEAD_OPEN)).map_err(at)?;
    let nudge = nudge::Nudge::start(db.clone()).map_err(at)?;
    Ok(Segment {
        dir: dir.to_owned(),
        db: Some(db),
        nudge: Some(nudge),
        file,
        broken: AtomicBool::new(false),
        promised: AtomicU64::new(promised),
    })
}

/// Drops sled on a thread of its own: after a failure its drop may panic or hang, which must not
/// take the caller along. Says whether it ended properly.
fn drop_sled(db: Option<sled::Db>, nudge: Option<nudge::Nudge>) -> bool {
    let Some(db) = db else { return true };
    let (done, wait) = std::sync::mpsc::sync_channel(1);
    let spawned = std::thread::Builder::new().name("segment-close".into()).spawn(move || {
        // The drop flushes too, unwatched. After a watched flush it has nothing to wait for, or an error to see.
        let ended = catch_unwind(AssertUnwindSafe(|| {
            if let Some(nudge) = nudge {
                let _ = nudge.watching(|| db.flush());
            }
            drop(db);
        }))
        .is_ok();
        let _ = done.send(ended);
    });
    spawned.is_ok() && wait.recv_timeout(DROP_WAIT).unwrap_or(false)
}

fn is_lock(e: &sled::Error) -> bool {
    // sled wraps the lock's WouldBlock in a new error of kind Other that names the lock.
    matches!(e, sled::Error::Io(io) if io.kind() == io::ErrorKind::WouldBlock || io.to_string().contains("could not acquire lock"))
}

fn from_sled(dir: &Path, e: sled::Error) -> SegmentError {
    let dir = dir.to_owned();
    match e {
        sled::Error::Io(e) if e.kind() == io::ErrorKind::StorageFull => SegmentError::Full { dir },
        sled::Error::Io(source) => SegmentError::Io { path: dir, source },
        other => SegmentError::Damaged { dir, why: other.to_string() },
    }
}

pub(crate) fn io_error(path: &Path, source: io::Error) -> SegmentError {
    if source.kind() == io::ErrorKind::StorageFull {
        return SegmentError::Full { dir: path.to_owned() };
    }
    SegmentError::Io { path: path.to_owned(), source }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    panic
        .downcast_ref::<String>()
        .cloned()
        .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
        .unwrap_or_else(|| "sled panicked".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u64) -> [u8; 8] {
        n.to_be_bytes()
    }

    fn fill(segment: &Segment, range: std::ops::Range<u64>) {
        let mut batch = Batch::new();
        for n in range {
            batch.put(&key(n), format!("value {n}").as_bytes());
        }
        segment.apply(batch).unwrap();
    }

    #[test]
    fn create_apply_close_open() {
        let tmp = tempfile::tempdir().unwrap();
        let dir = tmp.path().join("a");
        let segment = Segment::create(&dir, 1 << 20).unwrap();
        fill(&segment, 1..100);
        assert!(!is_clean(&dir));
        segment.close().unwrap();
        assert!(is_clean(&dir));
        let opened = Segment::open(&dir, 1 << 20).unwrap();
        assert!(opened.clean && opened.copy.is_none() && !is_clean(&dir));
        let segment = opened.accept().unwrap();
        assert_eq!(&*segment.get(&key(7)).unwrap().unwrap(), b"value 7");
        assert_eq!(&*segment.first().unwrap().unwrap().0, key(1));
        assert_eq!(&*segment.last().unwrap().unwrap().0, key(99));
        assert_eq!(&*segment.at_or_before(&key(1000)).unwrap().unwrap().0, key(99));
        assert!(segment.at_or_before(&key(0)).unwrap().is_none());
        let keys: Vec<_> = segment.range(&key(5)[..]..&key(8)[..]).map(|entry| entry.unwrap().0.to_vec()).collect();
        assert_eq!(keys, [key(5), key(6), key(7)]);
        let (high, low) = (key(8), key(5));
        assert_eq!(segment.range(&high[..]..&low[..]).count(), 0);
        assert!(segment.size_on_disk().unwrap() > 0);
        assert_eq!(list(tmp.path()).unwrap(), ["a"]);
        segment.close().unwrap();
        remove(&dir).unwrap();
        assert!(list(tmp.path()).unwrap().is_empty());
    }

    #[test]
    fn unclean_stop_is_copied_then_accepted() {
        let tmp = tempfile::tempdir().unwrap();
        let dir = tmp.path().join("a");
        let segment = Segment::create(&dir, 1 << 20).unwrap();
        fill(&segment, 1..10);
        drop(segment);
        let opened = Segment::open(&dir, 1 << 20).unwrap();
        assert!(!opened.clean);
        let copy = opened.copy.clone().unwrap();
        assert!(copy.exists());
        // A crash here: the next open starts again from the copy.
        drop(opened);
        fs::remove_file(dir.join("db")).unwrap();
        let opened = Segment::open(&dir, 1 << 20).unwrap();
        assert_eq!(opened.segment.range(..).count(), 9);
        let segment = opened.accept().unwrap();
        assert!(!copy.exists());
        segment.close().unwrap();
        // The segment vanished in between: the copy takes its place.
        fs::rename(&dir, tmp.path().join("copy-a")).unwrap();
        assert_eq!(list(tmp.path()).unwrap(), ["a"]);
    }

    /// What a full disk, a kill or a power cut leaves when it meets sled writing a snapshot.
    #[test]
    fn an_unfinished_snapshot_is_no_damage() {
        let tmp = tempfile::tempdir().unwrap();
        let dir = tmp.path().join("a");
        let segment = Segment::create(&dir, 1 << 20).unwrap();
        fill(&segment, 1..1000);
        drop(segment);
        // Recovery writes one.
        Segment::open(&dir, 1 << 20).unwrap().accept().unwrap().close().unwrap();
        let names = fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path());
        let snapshot = names.filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("snap.")).max().unwrap();
        let snapshot = fs::read(snapshot).unwrap();
        let unfinished = dir.join("snap.7FFFFFFFFFFFFFFF.generating");
        for length in [0, 5, snapshot.len() / 2, snapshot.len() - 1] {
            fs::write(&unfinished, &snapshot[..length]).unwrap();
            fs::remove_file(dir.join(CLEAN)).unwrap();
            let segment = Segment::open(&dir, 1 << 20).unwrap().accept().unwrap();
            assert_eq!(segment.range(..).count(), 999, "{length} bytes of a snapshot");
            assert!(!unfinished.exists());
            segment.close().unwrap();
        }
    }

    #[test]
    fn nothing_is_durable_in_a_deleted_directory() {
        let tmp = tempfile::tempdir().unwrap();
        let dir = tmp.path().join("a");
        let segment = Segment::create(&dir, 1 << 20).unwrap();
        fs::remove_dir_all(&dir).unwrap();
        let mut batch = Batch::new();
        batch.put(b"k", b"v");
        assert!(matches!(segment.apply(batch), Err(SegmentError::Damaged { .. })) && segment.is_broken());
        assert!(matches!(Segment::open(&dir, 1 << 20), Err(SegmentError::Damaged { .. })));
    }

    /// What sled would put under `blobs/` is not durable when `apply` returns.
    #[test]
    fn the_largest_entries_stay_out_of_unsynced_files() {
        let tmp = tempfile::tempdir().unwrap();
        let dir = tmp.path().join("a");
        let segment = Segment::create(&dir, 1 << 20).unwrap();
        for group in 0..40u64 {
            let mut batch = Batch::new();
            for n in 0..40 {
                batch.put(&key(group * 40 + n), &vec![n as u8; MAX_VALUE - 8]);
            }
            segment.apply(batch).unwrap();
            assert_eq!(fs::read_dir(dir.join("blobs")).unwrap().count(), 0);
        }
        let mut batch = Batch::new();
        batch.put(&key(1), &vec![0; MAX_VALUE]);
        assert!(segment.apply(batch).is_err() && !segment.is_broken());
        segment.close().unwrap();
        assert_eq!(fs::read_dir(dir.join("blobs")).unwrap().count(), 0);
    }

    #[test]
    fn room_taken_ahead_is_given_back() {
        let tmp = tempfile::tempdir().unwrap();
        let dir = tmp.path().join("a");
        let segment = Segment::create(&dir, 1 << 20).unwrap();
        fill(&segment, 1..100);
        let (size, used) = (segment.size_on_disk().unwrap(), disk::used_bytes(&dir).unwrap());
        assert!(used >= size + (1 << 19), "{used} on disk, {size} without what is taken ahead");
        segment.close().unwrap();
        assert!(disk::used_bytes(&dir).unwrap() < size + (1 << 18));
    }

    #[test]
    fn unfinished_creation_starts_again() {
        let tmp = tempfile::tempdir().unwrap();
        let dir = tmp.path().join("a");
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join("conf"), b"").unwrap();
        let opened = Segment::open(&dir, 1 << 20).unwrap();
        assert!(opened.was_new);
        fill(&opened.segment, 1..3);
    }

    #[test]
    fn second_open_is_refused_and_harms_nothing() {
        let tmp = tempfile::tempdir().unwrap();
        let dir = tmp.path().join("a");
        let segment = Segment::create(&dir, 1 << 20).unwrap();
        assert!(matches!(Segment::open(&dir, 1 << 20), Err(SegmentError::Locked { .. })));
        fill(&segment, 1..3);
        segment.close().unwrap();
    }

    #[test]
    fn damage_is_an_error_and_quarantine_keeps_the_original() {
        let tmp = tempfile::tempdir().unwrap();
        let dir = tmp.path().join("a");
        let segment = Segment::create(&dir, 1 << 20).unwrap();
        fill(&segment, 1..2000);
        segment.close().unwrap();
        fs::remove_file(dir.join(CLEAN)).unwrap();
        let conf = fs::read(dir.join("conf")).unwrap();
        fs::write(dir.join("conf"), conf.iter().map(|byte| byte ^ 0x55).collect::<Vec<_>>()).unwrap();
        assert!(Segment::open(&dir, 1 << 20).is_err());
        let kept = quarantine(&dir, tmp.path()).unwrap();
        assert!(kept.join("db").exists() && !dir.exists());
        assert!(list(tmp.path()).unwrap().is_empty());
    }
}
