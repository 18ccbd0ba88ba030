//! The segments of one log: where records go, are found again, and leave.
//!
//! Owned by the writer thread (and by recovery before it). A stored value is
//! `chain head before the block (32) ‖ block`, its key the block's first sequence number, u64 BE.
//! At most the active segment and one closed one are open at a time.

use super::sessions::Sessions;
use super::state::Closed;
use super::{Block, OnFull};
use crate::block::{self, Packer};
use crate::disk;
use crate::segment::{self, Batch, Segment, SegmentError};
use glasshive_event::record::{RecordError, chain_hash, leaf_hash};
use glasshive_event::{LogId, RecordView};
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::time::Instant;

const CHAIN: usize = 32;

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
    /// Damaged closed segments met by reading: first, last, whether the log says so already.
    pub(super) unreadable: Vec<(u64, u64, bool)>,
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
            self.active = None;
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
                Err(e @ SegmentError::Damaged { .. }) => {
                    tracing::error!(segment = %self.segment_path(first).display(), error = %e, "segment cannot be read; its records are skipped");
                    if !self.unreadable.iter().any(|(seen, ..)| *seen == first) {
                        self.unreadable.push((first, last, false));
                    }
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
        let segment = Segment::open(&self.segment_path(first), self.cache_bytes.min(1 << 20))?.accept()?;
        let found = blocks(&segment, from, last, max_bytes);
        if found.is_ok() {
            self.reader = Some((first, segment));
        }
        found
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

    /// Damaged segments met by reading that the log does not tell of yet.
    pub(super) fn take_unreadable(&mut self) -> Vec<(u64, u64)> {
        let told = |entry: &mut (u64, u64, bool)| (!std::mem::replace(&mut entry.2, true)).then_some((entry.0, entry.1));
        self.unreadable.iter_mut().filter_map(told).collect()
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

/// What verifying a segment found.
#[derive(Clone, Debug)]
pub(super) struct Scan {
    /// Chain head before the first record; `None` when there is none.
    pub(super) before: Option<[u8; 32]>,
    /// Last good record; `first - 1` when there is none.
    pub(super) last: u64,
    /// Chain head behind it.
    pub(super) chain: [u8; 32],
    pub(super) wall_ns: i64,
    /// What is wrong with what follows.
    pub(super) damage: Option<String>,
}

/// Reads a whole segment and checks lengths, sequence numbers, log id and hash chain.
/// `before` is the chain head the first block must continue, when known; `each` sees every good record.
pub(super) fn scan(segment: &Segment, log: LogId, first: u64, before: Option<[u8; 32]>, mut each: impl FnMut(u64, &[u8])) -> Scan {
    let mut scan = Scan { before: None, last: first.saturating_sub(1), chain: before.unwrap_or([0; 32]), wall_ns: 0, damage: None };
    let mut expected = before;
    for entry in segment.range(..) {
        let result = entry.map_err(|e| e.to_string()).and_then(|(key, value)| {
            let (chain, bytes) = split(&value).ok_or("a stored value is cut")?;
            if seq_of(&key) != Some(scan.last + 1) {
                return Err(format!("a block begins elsewhere than at {}", scan.last + 1));
            }
            if expected.is_some_and(|expected| expected != chain) {
                return Err("the hash chain is broken".to_owned());
            }
            let (_, after) = block::advance(bytes, chain).map_err(|e| e.to_string())?;
            // Whole block first, records after: a block counts entirely or not at all.
            let mut seq = scan.last;
            for record in block::records(bytes).flatten() {
                seq += 1;
                match RecordView::parse(record) {
                    Ok(view) if view.header.log == log && view.header.seq == seq => scan.wall_ns = view.header.wall_ns,
                    // A newer build's record: kept as it is, the chain vouches for it.
                    Err(RecordError::Version(_)) => {}
                    _ => return Err(format!("record {seq} is not what it should be")),
                }
            }
            Ok((value.clone(), chain, after, seq))
        });
        match result {
            Ok((value, chain, after, last)) => {
                let first_of_block = scan.last + 1;
                if let Some((_, bytes)) = split(&value) {
                    block::records(bytes).flatten().zip(first_of_block..).for_each(|(record, seq)| each(seq, record));
                }
                scan.before.get_or_insert(chain);
                scan.last = last;
                scan.chain = after;
                expected = Some(after);
            }
            Err(why) => {
                scan.damage = Some(why);
                return scan;
            }
        }
    }
    scan
}

fn blocks(segment: &Segment, from: u64, last: u64, max_bytes: usize) -> Result<Vec<Block>, SegmentError> {
    let damaged = |why: &str| SegmentError::Damaged { dir: segment.dir().to_owned(), why: why.to_owned() };
    let from_key = from.to_be_bytes();
    let start = segment.at_or_before(&from_key)?.map_or(from_key.to_vec(), |(key, _)| key.to_vec());
    let (mut found, mut bytes) = (Vec::new(), 0usize);
    for entry in segment.range(&start[..]..=&last.to_be_bytes()[..]) {
        let (key, value) = entry?;
        let (chain_before, block) = split(&value).ok_or_else(|| damaged("a stored value is cut"))?;
        let first = seq_of(&key).ok_or_else(|| damaged("a key is not a sequence number"))?;
        let mut count = 0u64;
        for record in block::records(block) {
            record.map_err(|e| damaged(&e.to_string()))?;
            count += 1;
        }
        let end = first.saturating_add(count).saturating_sub(1);
        if end < from {
            continue;
        }
        if !found.is_empty() && bytes.saturating_add(block.len()) > max_bytes {
            break;
        }
        bytes = bytes.saturating_add(block.len());
        found.push(Block { first, last: end, chain_before, bytes: block.to_vec() });
    }
    Ok(found)
}

fn stored(before: &[u8; 32], block: &[u8]) -> Vec<u8> {
    let mut value = Vec::with_capacity(CHAIN + block.len());
    value.extend_from_slice(before);
    value.extend_from_slice(block);
    value
}

fn split(value: &[u8]) -> Option<([u8; 32], &[u8])> {
    value.split_first_chunk::<CHAIN>().map(|(before, block)| (*before, block))
}

fn seq_of(key: &[u8]) -> Option<u64> {
    key.try_into().ok().map(u64::from_be_bytes)
}
