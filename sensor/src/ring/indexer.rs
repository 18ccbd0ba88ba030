//! The thread behind the writer: it reads every segment once, as it grows, and makes of it the hash,
//! the index and the note. It reads the file and not the chunks: so it can fall behind and catch up
//! without losing anything, and a ring found on disk is treated alike.

use super::index::Builder;
use super::walk::{self, FileWalk};
use super::{Meta, RingDir, Shared};
use glasshive_event::Timestamp;
use glasshive_event::text::hex;
use sha2::{Digest as _, Sha256};
use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

/// Bytes read before others are looked at again.
const TURN: u64 = 8 << 20;
/// How long it may go on after the writer ended.
const FAREWELL: Duration = Duration::from_secs(5);
/// Time between looks at a segment that does not grow.
const PAUSE: Duration = Duration::from_millis(200);

/// A segment to be read through.
struct Unread {
    serial: u64,
    /// It was there before this process began it.
    recovered: bool,
}

pub(super) struct Indexer {
    dir: RingDir,
    shared: Arc<Shared>,
    waiting: VecDeque<Unread>,
    work: Option<Work>,
}

/// What comes of reading a segment's blocks in order: the same for the thread and for `ring verify`.
pub(super) struct Reading {
    pub(super) offset: u64,
    pub(super) hash: Sha256,
    builder: Builder,
    link_type: u16,
    pub(super) packets: u64,
    first: Timestamp,
    last: Timestamp,
    pub(super) dropped: u64,
}

impl Reading {
    pub(super) fn new() -> Self {
        Self {
            offset: 0,
            hash: Sha256::new(),
            builder: Builder::new(0),
            link_type: 0,
            packets: 0,
            first: Timestamp(i64::MAX),
            last: Timestamp(i64::MIN),
            dropped: 0,
        }
    }

    /// Takes the next block; a part of the index when one is full.
    pub(super) fn block(&mut self, offset: u64, kind: u32, block: &[u8]) -> Option<Vec<u8>> {
        self.hash.update(block);
        let behind = offset.saturating_add(block.len() as u64);
        self.offset = behind;
        if let Some(packet) = walk::packet(block) {
            self.packets += 1;
            self.first = self.first.min(packet.at);
            self.last = self.last.max(packet.at);
            self.builder.add(offset, behind, packet.at, &glasshive_proto::layers::layers(self.link_type, packet.data));
        } else {
            match kind {
                glasshive_pcapng::block_type::INTERFACE => {
                    if let Ok(glasshive_pcapng::Block::Interface(interface)) = glasshive_pcapng::parse_block(block, false, 0) {
                        self.link_type = interface.link_type;
                    }
                }
                glasshive_pcapng::block_type::STATISTICS => self.dropped = dropped(block),
                _ => {}
            }
            self.builder.pass(behind);
        }
        self.builder.is_full().then(|| self.builder.finish())
    }

    /// The last part of the index.
    pub(super) fn finish(&mut self) -> Vec<u8> {
        self.builder.finish()
    }
}

/// One segment being read.
struct Work {
    serial: u64,
    file: File,
    index: Option<File>,
    /// Whole parts of the index file.
    index_length: u64,
    reading: Reading,
    /// It was there before this process began it.
    recovered: bool,
}

impl Indexer {
    pub(super) fn new(dir: RingDir, shared: Arc<Shared>, unread: VecDeque<u64>) -> Self {
        let waiting = unread.into_iter().map(|serial| Unread { serial, recovered: true }).collect();
        Self { dir, shared, waiting, work: None }
    }

    pub(super) fn run(mut self) {
        super::niceness(19);
        let mut stopped: Option<Instant> = None;
        loop {
            let stopping = self.shared.stop.load(Relaxed);
            // What is not read through by then is at the next start.
            if stopping && stopped.get_or_insert_with(Instant::now).elapsed() > FAREWELL {
                return;
            }
            if self.work.is_none() {
                self.take_up(stopping);
                if let Some(Unread { serial, recovered }) = self.waiting.pop_front() {
                    self.work = Work::begin(&self.dir, serial, recovered)
                        .inspect_err(|error| tracing::warn!(serial, %error, "a segment cannot be read through"))
                        .ok()
                        .flatten();
                    continue;
                }
                if stopping {
                    return;
                }
                self.pause();
                continue;
            }
            match self.advance() {
                Ok(true) => {}
                Ok(false) if self.work.is_some() => self.pause(),
                Ok(false) => {}
                Err(error) => {
                    let serial = self.work.take().map_or(0, |work| work.serial);
                    tracing::warn!(serial, %error, "a segment cannot be read through; carving reads it without an index");
                }
            }
        }
    }

    /// Takes up the segments begun meanwhile: behind those found at the start, but before them once time is short.
    fn take_up(&mut self, stopping: bool) {
        let begun = std::mem::take(&mut self.shared.lock().begun);
        let mut begun: VecDeque<_> = begun.into_iter().map(|serial| Unread { serial, recovered: false }).collect();
        if stopping {
            begun.append(&mut self.waiting);
            self.waiting = begun;
        } else {
            self.waiting.append(&mut begun);
        }
    }

    fn pause(&self) {
        let state = self.shared.lock();
        if !self.shared.stop.load(Relaxed) {
            let _ = self.shared.changed.wait_timeout(state, PAUSE);
        }
    }

    /// Reads on in the present segment; false when there was nothing new.
    fn advance(&mut self) -> io::Result<bool> {
        let Some(work) = &mut self.work else { return Ok(false) };
        // Asked before the length: what is not active any more does not grow any more.
        let growing = self.shared.lock().active == Some(work.serial);
        let length = work.file.metadata()?.len();
        let before = work.reading.offset;
        let end = work.read(&self.dir, length)?;
        let more = work.reading.offset - before;
        if !work.recovered {
            self.shared.lock().read += more;
        }
        if more > 0 && !end {
            return Ok(true);
        }
        if growing {
            return Ok(false);
        }
        if let Some(work) = self.work.take() {
            work.finish(&self.dir, length)?;
        }
        Ok(false)
    }
}

impl Work {
    fn begin(dir: &RingDir, serial: u64, recovered: bool) -> io::Result<Option<Self>> {
        let file = match dir.open(serial) {
            // The quota took it meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        let index = OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(dir.index(serial)).ok();
        Ok(Some(Self { serial, file, index, index_length: 0, reading: Reading::new(), recovered }))
    }

    /// Reads a turn's bytes; true when the walk came to an end before them.
    fn read(&mut self, dir: &RingDir, length: u64) -> io::Result<bool> {
        let mut walk = FileWalk::new(&self.file, self.reading.offset, length);
        let until = self.reading.offset.saturating_add(TURN);
        let (mut end, mut parts) = (true, Vec::new());
        while let Some((offset, kind, block)) = walk.next_block()? {
            parts.extend(self.reading.block(offset, kind, block));
            if self.reading.offset >= until {
                end = false;
                break;
            }
        }
        for part in parts {
            self.write(dir, &part);
        }
        Ok(end)
    }

    /// Appends a part. A disk without room costs the index, not the packets: the rest is read instead.
    fn write(&mut self, dir: &RingDir, part: &[u8]) {
        let Some(index) = &mut self.index else { return };
        match index.write_all(part) {
            Ok(()) => self.index_length += part.len() as u64,
            Err(error) => {
                tracing::warn!(serial = self.serial, %error, "an index cannot be written; carving reads the segment instead");
                let _ = index.set_len(self.index_length);
                self.index = None;
                if self.index_length == 0 {
                    let _ = std::fs::remove_file(dir.index(self.serial));
                }
            }
        }
    }

    fn finish(mut self, dir: &RingDir, length: u64) -> io::Result<()> {
        let part = self.reading.finish();
        self.write(dir, &part);
        // Bytes that are no blocks belong to the file all the same.
        rest(&mut self.file, self.reading.offset, &mut self.reading.hash)?;
        self.file.sync_all()?;
        if let Some(index) = &self.index {
            index.sync_all()?;
        }
        let Reading { hash, packets, first, last, dropped, .. } = self.reading;
        let some = packets > 0;
        let meta = Meta {
            version: 1,
            segment: self.serial,
            sha256: hex(&hash.finalize()),
            bytes: length,
            packets,
            first: some.then_some(first),
            last: some.then_some(last),
            dropped,
            recovered: self.recovered,
        };
        dir.write_meta(&meta)?;
        if !dir.segment(self.serial).exists() {
            // The quota took it while it was read.
            super::files::remove(&dir.meta_path(self.serial))?;
            super::files::remove(&dir.index(self.serial))?;
        }
        Ok(())
    }
}

/// Hashes what follows the last whole block.
pub(super) fn rest(file: &mut File, from: u64, hash: &mut Sha256) -> io::Result<()> {
    file.seek(io::SeekFrom::Start(from))?;
    let mut buffer = vec![0; 1 << 16];
    loop {
        let got = file.read(&mut buffer)?;
        if got == 0 {
            return Ok(());
        }
        hash.update(buffer.get(..got).unwrap_or_default());
    }
}

/// All a statistics block says was dropped.
fn dropped(block: &[u8]) -> u64 {
    let Ok(glasshive_pcapng::Block::Statistics(statistics)) = glasshive_pcapng::parse_block(block, false, 0) else { return 0 };
    let system =
        statistics.options.get(super::writer::ISB_SYSTEM_DROPPED).and_then(|value| Some(u64::from_le_bytes(value.try_into().ok()?)));
    statistics.dropped.unwrap_or(0).saturating_add(system.unwrap_or(0))
}
