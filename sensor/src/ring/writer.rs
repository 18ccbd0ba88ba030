//! The thread that appends chunks to segments and keeps the ring within its bounds.

use super::losses::{self, PendingLosses};
use super::{LossSpan, RingDir, RingSettings, Shared};
use crate::capture::{Chunk, Counters, Sampler, Snapshot, To};
use glasshive_daemon::clock::wall_ns;
use glasshive_event::Timestamp;
use glasshive_journal::disk::{Space, used_bytes};
use glasshive_pcapng::{Encoder, Interface, OptionList, SectionHeader, Statistics, code};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

/// Time between samples of losses, looks at ages and the like.
const TICK: Duration = Duration::from_secs(1);
/// `isb_osdrop`: packets the system had no room for (pcapng §4.6).
pub(super) const ISB_SYSTEM_DROPPED: u16 = 7;
/// `isb_starttime` and `isb_endtime`.
const ISB_TIMES: [u16; 2] = [2, 3];

pub(super) struct Writer {
    settings: RingSettings,
    dir: RingDir,
    counters: Arc<Counters>,
    shared: Arc<Shared>,
    losses: Arc<PendingLosses>,
    sampler: Sampler,
    next: u64,
    active: Option<Active>,
    /// Losses the disk had no room for.
    untold: Vec<LossSpan>,
    complaint: Option<Instant>,
}

struct Active {
    serial: u64,
    file: File,
    length: u64,
    packets: u64,
    opened: Instant,
    opened_at: Timestamp,
    before: Snapshot,
    limit: u64,
}

impl Writer {
    pub(super) fn new(
        settings: RingSettings,
        dir: RingDir,
        counters: Arc<Counters>,
        shared: Arc<Shared>,
        losses: Arc<PendingLosses>,
        next: u64,
    ) -> Self {
        let sampler = Sampler::new(Timestamp(wall_ns()));
        Self { settings, dir, counters, shared, losses, sampler, next, active: None, untold: Vec::new(), complaint: None }
    }

    pub(super) fn run(mut self, chunks: &Receiver<To>) {
        super::niceness(-10);
        let mut ticked = Instant::now();
        loop {
            match chunks.recv_timeout(TICK.saturating_sub(ticked.elapsed())) {
                Ok(To::Chunk(chunk)) => self.chunk(&chunk),
                Ok(To::Skipped(_)) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if ticked.elapsed() >= TICK {
                ticked = Instant::now();
                self.tick();
            }
        }
        self.turn_over();
        self.sample();
    }

    fn chunk(&mut self, chunk: &Chunk) {
        let bytes = chunk.bytes();
        if self.active.as_ref().is_some_and(|active| active.packets > 0 && active.length + bytes.len() as u64 > active.limit) {
            self.turn_over();
        }
        let mut kept = self.make_room(bytes.len() as u64) && self.append(bytes);
        if !kept && self.purge_oldest() {
            // Once more, with one segment less: another's file may have grown meanwhile.
            kept = self.make_room(bytes.len() as u64) && self.append(bytes);
        }
        let packets = u64::from(chunk.packets);
        if kept {
            Counters::add(&self.counters.written, packets);
            Counters::add(&self.counters.written_bytes, bytes.len() as u64);
            if let Some(active) = &mut self.active {
                active.packets += packets;
            }
        } else {
            Counters::add(&self.counters.ring_dropped, packets);
            Counters::add(&self.counters.ring_dropped_bytes, bytes.len() as u64);
        }
    }

    /// Appends to the active segment, after opening one when there is none. On failure nothing is added.
    fn append(&mut self, bytes: &[u8]) -> bool {
        if self.active.is_none()
            && let Err(error) = self.begin()
        {
            self.complain(&error);
            return false;
        }
        let Some(active) = &mut self.active else { return false };
        match active.file.write_all_at(bytes, active.length) {
            Ok(()) => {
                active.length += bytes.len() as u64;
                self.shared.lock().written += bytes.len() as u64;
                self.shared.changed.notify_all();
                true
            }
            Err(error) => {
                // Readers stop at whole blocks; what was written in part is taken back.
                let _ = active.file.set_len(active.length);
                self.complain(&error);
                false
            }
        }
    }

    /// Opens the next segment, after the quota made room for all of it.
    fn begin(&mut self) -> io::Result<()> {
        let space = Space::of(self.dir.path())?;
        let limit = self.settings.segment_limit(space.total);
        while used_bytes(self.dir.path())?.saturating_add(limit) > self.settings.quota {
            if !self.purge_oldest() {
                break;
            }
        }
        let mut encoder = Encoder::new();
        let mut options = OptionList::new();
        options.push_text(code::SHB_APPLICATION, format!("glasshive-sensor {}", glasshive_journal::build::version()));
        encoder.section_header(&SectionHeader { options });
        let interface = Interface::new(self.settings.link_type, self.settings.interface.as_str());
        encoder.interface(&Interface { snap_length: self.settings.snap_length, ..interface });
        let head = encoder.take();
        let serial = self.next;
        let path = self.dir.hidden(serial);
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
        self.next += 1;
        if let Err(error) = file.write_all_at(&head, 0) {
            let _ = std::fs::remove_file(&path);
            return Err(error);
        }
        self.active = Some(Active {
            serial,
            file,
            length: head.len() as u64,
            packets: 0,
            opened: Instant::now(),
            opened_at: Timestamp(wall_ns()),
            before: self.counters.snapshot(),
            limit,
        });
        let mut state = self.shared.lock();
        state.active = Some(serial);
        state.written += head.len() as u64;
        state.begun.push_back(serial);
        Ok(())
    }

    /// Ends the active segment with its counts and publishes it.
    fn turn_over(&mut self) {
        let Some(mut active) = self.active.take() else { return };
        let (now, before) = (self.counters.snapshot(), active.before);
        let end = Timestamp(wall_ns());
        let mut options = OptionList::new();
        for (code, at) in ISB_TIMES.into_iter().zip([active.opened_at, end]) {
            let at = at.0.cast_unsigned();
            options.push(code, [((at >> 32) as u32).to_le_bytes(), (at as u32).to_le_bytes()].concat());
        }
        let system = now.kernel_dropped - before.kernel_dropped + now.ring_dropped - before.ring_dropped;
        options.push(ISB_SYSTEM_DROPPED, system.to_le_bytes().to_vec());
        let mut encoder = Encoder::new();
        encoder.statistics(&Statistics {
            interface: 0,
            time: end.0.cast_unsigned(),
            received: Some(now.received - before.received),
            dropped: Some(now.interface_dropped - before.interface_dropped),
            options,
        });
        let tail = encoder.take();
        match active.file.write_all_at(&tail, active.length) {
            Ok(()) => active.length += tail.len() as u64,
            Err(_) => {
                // Without its counts it is still whole.
                let _ = active.file.set_len(active.length);
            }
        }
        let published = if active.packets == 0 {
            std::fs::remove_file(self.dir.hidden(active.serial))
        } else {
            std::fs::rename(self.dir.hidden(active.serial), self.dir.segment(active.serial))
        };
        if let Err(error) = published {
            self.complain(&error);
        }
        let mut state = self.shared.lock();
        state.active = None;
        state.written += tail.len() as u64;
        drop(state);
        self.shared.changed.notify_all();
    }

    /// Whether `bytes` more leave twice the floor free, after the oldest segments went.
    fn make_room(&mut self, bytes: u64) -> bool {
        loop {
            match Space::of(self.dir.path()) {
                Ok(space) if space.free >= bytes.saturating_add(space.floor().saturating_mul(2)) => return true,
                Ok(_) => {}
                Err(error) => {
                    self.complain(&error);
                    return false;
                }
            }
            if !self.purge_oldest() {
                self.complain(&io::Error::new(io::ErrorKind::StorageFull, "the file system is full of other things"));
                return false;
            }
        }
    }

    /// Deletes the oldest finished segment; false when there is none.
    fn purge_oldest(&mut self) -> bool {
        let segments = self.dir.segments().unwrap_or_default();
        let Some(oldest) = segments.iter().find(|segment| !segment.hidden) else { return false };
        match self.dir.purge(oldest.serial) {
            Ok(()) => {
                Counters::add(&self.counters.purged_segments, 1);
                true
            }
            Err(error) => {
                self.complain(&error);
                false
            }
        }
    }

    fn tick(&mut self) {
        if self.active.as_ref().is_some_and(|active| active.packets > 0 && active.opened.elapsed() >= self.settings.segment_age) {
            self.turn_over();
        }
        self.sample();
        self.age();
    }

    fn sample(&mut self) {
        for (cause, span) in self.sampler.sample(Timestamp(wall_ns()), &self.counters.snapshot()) {
            self.untold.push(span.clone());
            self.losses.push(cause, span);
        }
        if !self.untold.is_empty() {
            match losses::append(&self.dir, &self.untold) {
                Ok(()) => self.untold.clear(),
                // Kept for the next time, within reason; the journal has them too.
                Err(_) => self.untold.truncate(10_000),
            }
        }
    }

    /// Deletes what is older than wanted.
    fn age(&mut self) {
        let max_age = i64::try_from(self.settings.max_age.as_nanos()).unwrap_or(i64::MAX);
        let limit = wall_ns().saturating_sub(max_age);
        while let Some(oldest) = self.dir.segments().unwrap_or_default().iter().find(|segment| !segment.hidden) {
            // Not read through yet: it is not old.
            let Some(last) = self.dir.meta(oldest.serial).and_then(|meta| meta.last) else { return };
            if last.0 >= limit || !self.purge_oldest() {
                return;
            }
        }
    }

    /// One line in the log, not one a chunk.
    fn complain(&mut self, error: &io::Error) {
        Counters::add(&self.counters.write_errors, 1);
        if self.complaint.is_none_or(|last| last.elapsed() >= Duration::from_secs(60)) {
            self.complaint = Some(Instant::now());
            tracing::error!(ring = %self.dir.path().display(), %error, "packets cannot be kept; they are counted");
        }
    }
}
