//! The segments of one log: where records go, are found again, and leave.
//!
//! Owned by the writer thread (and by recovery before it); [`super::stored`] says how records lie in
//! a segment. At most the active segment and one closed one are open at a time.

use super::sessions::Sessions;
use super::state::Closed;
use super::stored::{blocks, seq_of, split, stored};
use super::{Block, OnFull};
use crate::block::{self, Packer};
use crate::disk;
use crate::segment::{self, Batch, Segment, SegmentError};
use glasshive_event::record::{chain_hash, leaf_hash};
use glasshive_event::{LogId, RecordView};
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// A closed segment that fails this often is given up.
const GIVE_UP: u32 = 3;

pub(super) struct Log {
    pub(super) dir: PathBuf,
    pub(super) id: LogId,
    cache_bytes: u64,
    pub(super) closed: VecDeque<Closed>,
    pub(super) active: Option<Segment>,
    pub(super) active_first: u64,
    pub(super) active_bytes: u64,
    born: Instant,
    pub(super) last: u64,
    pub(super) chain: [u8; 32],
    pub(super) wall_ns: i64,
    pub(super) sessions: Sessions,
    reader: Option<(u64, Segment)>,
    used: Instant,
    unreadable: Vec<Unreadable>,
}

/// A closed segment that failed to be read.
struct Unreadable {
    first: u64,
    last: u64,
    failures: u32,
    /// Whether the log has a `gap` for it.
    told: bool,
}

/// What [`Log::expire`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expired {
    /// Within all limits.
    Fits,
    /// Over the quota, and nothing may go.
    Over,
    /// These would have to go although not acknowledged; write a gap record, then call [`Log::drop_oldest`].
    Oldest(u64, u64),
}

impl Log {
    pub(super) fn new(dir: &Path, id: LogId, cache_bytes: u64) -> Self {
        Self {
            dir: dir.to_owned(),
            id,
            cache_bytes,
            closed: VecDeque::new(),
            active: None,
            active_first: 1,
            active_bytes: 0,
            born: Instant::now(),
            last: 0,
            chain: [0; 32],
            wall_ns: 0,
            sessions: Sessions::default(),
            reader: None,
            used: Instant::now(),
            unreadable: Vec::new(),
        }
    }

    pub(super) fn cache_bytes(&self) -> u64 {
        self.cache_bytes
    }

    /// Goes on with a verified segment as the active one.
    pub(super) fn adopt(&mut self, segment: Segment) {
        // A roll that a crash cut short may have left one, and it would soon be wrong.
        Closed::forget(segment.dir());
        self.active = Some(segment);
        self.born = Instant::now();
        self.measure();
    }

    pub(super) fn segment_path(&self, first: u64) -> PathBuf {
        segment_path(&self.dir, first)
    }

    /// First sequence number still here.
    pub(super) fn first(&self) -> u64 {
        self.closed.front().map_or(self.active_first, |closed| closed.first)
    }

    /// Bytes on disk of all segments.
    pub(super) fn used_bytes(&self) -> u64 {
        self.closed.iter().fold(self.active_bytes, |sum, closed| sum.saturating_add(closed.bytes))
    }

    /// Stores `count` records, made by `make(index, seq)`, durably. On error nothing has changed here,
    /// and the same records may be given again.
    pub(super) fn commit(&mut self, count: usize, mut make: impl FnMut(usize, u64) -> Vec<u8>) -> Result<(), SegmentError> {
        if count == 0 {
            return Ok(());
        }
        self.ensure_active()?;
        let (mut batch, mut packer) = (Batch::new(), Packer::new());
        let (mut seq, mut chain) = (self.last, self.chain);
        let (mut first, mut before) = (seq + 1, chain);
        let mut wall_ns = self.wall_ns;
        let mut sessions = Vec::new();
        for index in 0..count {
            let record = make(index, seq + 1);
            match packer.push(&record) {
                Ok(None) => {}
                Ok(Some(full)) => {
                    batch.put(&first.to_be_bytes(), &stored(&before, &full));
                    (first, before) = (seq + 1, chain);
                }
                Err(e) => {
                    tracing::error!(error = %e, "a record that no session can make was refused");
                    continue;
                }
            }
            seq += 1;
            chain = chain_hash(&chain, &leaf_hash(&record));
            if let Ok(view) = RecordView::parse(&record) {
                wall_ns = view.header.wall_ns;
            }
            if Sessions::concerns(&record) {
                sessions.push(record);
            }
        }
        if let Some(rest) = packer.finish() {
            batch.put(&first.to_be_bytes(), &stored(&before, &rest));
        }
        let Some(active) = &self.active else { return Err(SegmentError::Broken { dir: self.segment_path(self.active_first) }) };
        if let Err(e) = active.apply(batch) {
            // sled does not recover from a failed write; dropping it makes the next commit open it again.
            if active.is_broken() {
                self.active = None;
            }
            return Err(e);
        }
        (self.last, self.chain, self.wall_ns) = (seq, chain, wall_ns);
        for record in &sessions {
            self.sessions.observe(record);
        }
        self.measure();
        Ok(())
    }

    /// Whether the active segment should be closed now.
    pub(super) fn due(&self, limit: u64, age: std::time::Duration) -> bool {
        self.last >= self.active_first && (self.active_bytes >= limit || self.born.elapsed() >= age)
    }

    /// Closes the active segment; the next commit begins another. A close that fails leaves a segment
    /// that is recovered when it is next opened: its records are durable already.
    pub(super) fn roll(&mut self) {
        let path = self.segment_path(self.active_first);
        let Some(active) = self.active.take() else { return };
        let mut closed =
            Closed { first: self.active_first, last: self.last, chain: self.chain, wall_ns: self.wall_ns, bytes: self.active_bytes };
        if let Err(e) = closed.write(&path) {
            tracing::warn!(segment = %path.display(), error = %e, "segment's side file was not written");
        }
        if let Err(e) = active.close() {
            tracing::warn!(segment = %path.display(), error = %e, "segment was not closed cleanly");
        }
        closed.bytes = disk::used_bytes(&path).unwrap_or(closed.bytes);
        self.closed.push_back(closed);
        self.active_first = self.last + 1;
        self.active_bytes = 0;
    }

    /// Whole durable blocks from the one that holds `from`, or the first behind it, up to about
    /// `max_bytes` (at least one block when there is one). A damaged segment is skipped and
    /// remembered; any other error means that it cannot be read now.
    pub(super) fn read(&mut self, from: u64, max_bytes: usize) -> Result<Vec<Block>, SegmentError> {
        let mut from = from.max(self.first());
        while from <= self.last {
            let (first, last) = match self.closed.iter().find(|closed| from <= closed.last) {
                Some(closed) => (closed.first, closed.last),
                None => (self.active_first, self.last),
            };
            match self.read_segment(first, last, from.max(first), max_bytes) {
                Ok(blocks) if blocks.is_empty() => from = last + 1,
                Ok(blocks) => return Ok(blocks),
                Err(e @ (SegmentError::Damaged { .. } | SegmentError::Broken { .. })) if self.seems_unreadable(first, last) => {
                    tracing::error!(segment = %self.segment_path(first).display(), error = %e, "segment cannot be read; its records are skipped");
                    from = last + 1;
                }
                Err(e) => return Err(e),
            }
        }
        Ok(Vec::new())
    }

    fn read_segment(&mut self, first: u64, last: u64, from: u64, max_bytes: usize) -> Result<Vec<Block>, SegmentError> {
        if first == self.active_first {
            // Closed by a failed write until the next commit opens it: nothing to read meanwhile.
            return self.active.as_ref().map_or(Ok(Vec::new()), |active| blocks(active, from, last, max_bytes));
        }
        self.used = Instant::now();
        if let Some((open, segment)) = &self.reader
            && *open == first
        {
            let found = blocks(segment, from, last, max_bytes);
            if found.is_err() {
                self.reader = None;
            }
            return found;
        }
        self.release_reader();
        let path = self.segment_path(first);
        // Recovering without room for the copy is for the active segment only.
        if !segment::is_clean(&path) {
            segment::check_room(&path, disk::used_bytes(&path).unwrap_or(0))?;
        }
        let segment = Segment::open(&path, self.cache_bytes.min(1 << 20))?.accept()?;
        let found = blocks(&segment, from, last, max_bytes);
        if found.is_ok() {
            self.reader = Some((first, segment));
        }
        found
    }

    /// Whether a closed segment has failed often enough to be given up: reading skips it from then on.
    fn seems_unreadable(&mut self, first: u64, last: u64) -> bool {
        match self.unreadable.iter_mut().find(|segment| segment.first == first) {
            Some(segment) => segment.failures += 1,
            None => self.unreadable.push(Unreadable { first, last, failures: 1, told: false }),
        }
        self.unreadable.iter().any(|segment| segment.first == first && segment.failures >= GIVE_UP)
    }

    /// Closes the closed segment that reading had opened.
    pub(super) fn release_reader(&mut self) {
        if let Some((first, segment)) = self.reader.take()
            && let Err(e) = segment.close()
        {
            tracing::warn!(segment = %self.segment_path(first).display(), error = %e, "segment was not closed cleanly after reading");
        }
    }

    /// Closes the reader when it has not been used for a while.
    pub(super) fn release_idle_reader(&mut self, idle: std::time::Duration) {
        if self.reader.is_some() && self.used.elapsed() >= idle {
            self.release_reader();
        }
    }

    /// Deletes closed segments that may go: all up to `deletable` (acknowledged) that are older than
    /// `before_ns`, or while more than `quota` is used, or while `pressed` says the disk is short.
    pub(super) fn expire(
        &mut self,
        deletable: u64,
        before_ns: i64,
        quota: u64,
        on_full: OnFull,
        mut pressed: impl FnMut() -> bool,
    ) -> Expired {
        while let Some(oldest) = self.closed.front() {
            let short = self.used_bytes() > quota || pressed();
            if oldest.last <= deletable {
                if !short && oldest.wall_ns >= before_ns {
                    return Expired::Fits;
                }
                self.drop_oldest();
                continue;
            }
            return match (short, on_full) {
                (false, _) => Expired::Fits,
                (true, OnFull::Pause) => Expired::Over,
                (true, OnFull::DropOldest) => Expired::Oldest(oldest.first, oldest.last),
            };
        }
        if self.used_bytes() > quota { Expired::Over } else { Expired::Fits }
    }

    /// Deletes the oldest closed segment.
    pub(super) fn drop_oldest(&mut self) {
        let Some(oldest) = self.closed.pop_front() else { return };
        if self.reader.as_ref().is_some_and(|(first, _)| *first == oldest.first) {
            self.release_reader();
        }
        let path = self.segment_path(oldest.first);
        match segment::remove(&path) {
            Ok(()) => tracing::info!(first = oldest.first, last = oldest.last, bytes = oldest.bytes, "segment deleted"),
            Err(e) => tracing::warn!(segment = %path.display(), error = %e, "segment was not deleted"),
        }
    }

    /// Closes everything cleanly.
    pub(super) fn close(&mut self) -> Result<(), SegmentError> {
        self.release_reader();
        self.active.take().map_or(Ok(()), Segment::close)
    }

    /// Opens or makes the active segment. One that exists must hold exactly what was durable; what a
    /// failed batch may have left behind it is removed.
    pub(super) fn ensure_active(&mut self) -> Result<(), SegmentError> {
        if self.active.is_some() {
            return Ok(());
        }
        let path = self.segment_path(self.active_first);
        let segment = if path.exists() {
            let opened = Segment::open(&path, self.cache_bytes)?;
            self.check_end(&opened.segment, &path)?;
            let segment = opened.accept()?;
            let mut stale = Batch::new();
            for entry in segment.range(&(self.last + 1).to_be_bytes()[..]..) {
                stale.remove(&entry?.0);
            }
            segment.apply(stale)?;
            segment
        } else {
            Segment::create(&path, self.cache_bytes)?
        };
        if self.last < self.active_first {
            self.sessions.save(&path).map_err(|source| SegmentError::Io { path: path.clone(), source })?;
            self.born = Instant::now();
        }
        self.active = Some(segment);
        self.measure();
        Ok(())
    }

    fn check_end(&self, segment: &Segment, path: &Path) -> Result<(), SegmentError> {
        if self.last < self.active_first {
            return Ok(());
        }
        let damaged = |why: &str| SegmentError::Damaged { dir: path.to_owned(), why: why.to_owned() };
        let (key, value) = segment.at_or_before(&self.last.to_be_bytes())?.ok_or_else(|| damaged("durable records are missing"))?;
        let (before, bytes) = split(&value).ok_or_else(|| damaged("a block is cut"))?;
        let (count, chain) = block::advance(bytes, before).map_err(|e| damaged(&e.to_string()))?;
        if seq_of(&key).and_then(|first| first.checked_add(count)) != Some(self.last + 1) || chain != self.chain {
            return Err(damaged("the last durable record is not the last one stored"));
        }
        Ok(())
    }

    /// Segments given up that the log does not tell of yet.
    pub(super) fn take_unreadable(&mut self) -> Vec<(u64, u64)> {
        let given_up = self.unreadable.iter_mut().filter(|segment| segment.failures >= GIVE_UP && !segment.told);
        given_up
            .map(|segment| {
                segment.told = true;
                (segment.first, segment.last)
            })
            .collect()
    }

    fn measure(&mut self) {
        if let Some(active) = &self.active {
            self.active_bytes = active.size_on_disk().unwrap_or(self.active_bytes);
        }
    }
}

/// Directory of the segment that begins with `first`.
pub(super) fn segment_path(log_dir: &Path, first: u64) -> PathBuf {
    log_dir.join(format!("{first:020}"))
}

/// First sequence number from a segment's name.
pub(super) fn parse_name(name: &str) -> Option<u64> {
    (name.len() == 20).then(|| name.parse().ok()).flatten()
}
