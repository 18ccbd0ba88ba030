//! Gathers the bytes of a session's channels into `stream` records.

use super::Direction;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use glasshive_event::detail::Stream;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Most bytes in one record.
pub(super) const FULL: usize = 8 * 1024;
/// Oldest a gathered byte may get.
pub(super) const FLUSH_AFTER: Duration = Duration::from_millis(250);
/// Channels of one session that are recorded; more are counted as cut.
const MAX_CHANNELS: usize = 256;
/// Pieces in one record: each costs JSON around it.
const MAX_PIECES: usize = 128;

/// One finished record and the time of its first byte.
pub(super) struct Chunk {
    pub(super) detail: Stream,
    pub(super) wall_ns: i64,
    pub(super) mono_ns: u64,
}

#[derive(Default)]
struct Buffer {
    role: String,
    offset: u64,
    start: (i64, u64),
    pieces: Vec<(u64, Vec<u8>)>,
    len: usize,
}

#[derive(Default)]
struct State {
    buffers: BTreeMap<(u32, Direction), Buffer>,
    terminals: BTreeMap<u32, (u32, u32)>,
    total: u64,
    cut: u64,
    flusher: bool,
}

/// All channels of one session.
pub(super) struct Streams {
    state: Mutex<State>,
    cap: u64,
}

impl Streams {
    pub(super) fn new(cap: u64) -> Self {
        Self { state: Mutex::default(), cap }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds bytes; returns the records that became full.
    pub(super) fn push(&self, channel: u32, role: &str, direction: Direction, bytes: &[u8], now: (i64, u64)) -> Vec<Chunk> {
        let mut state = self.lock();
        let room = usize::try_from(self.cap.saturating_sub(state.total)).unwrap_or(usize::MAX);
        let kept = bytes.get(..bytes.len().min(room)).unwrap_or_default();
        state.cut += (bytes.len() - kept.len()) as u64;
        let key = (channel, direction);
        if !state.buffers.contains_key(&key) && state.buffers.len() >= MAX_CHANNELS {
            state.cut += kept.len() as u64;
            return Vec::new();
        }
        state.total += kept.len() as u64;
        let terminal = state.terminals.get(&channel).copied();
        let buffer = state.buffers.entry(key).or_default();
        if buffer.role.is_empty() {
            role.clone_into(&mut buffer.role);
        }
        let mut full = Vec::new();
        let mut rest = kept;
        while !rest.is_empty() {
            let (part, later) = rest.split_at(rest.len().min(FULL - buffer.len));
            rest = later;
            if buffer.pieces.is_empty() {
                buffer.start = now;
            }
            let delta = now.1.saturating_sub(buffer.start.1);
            match buffer.pieces.last_mut() {
                Some((at, piece)) if *at == delta => piece.extend_from_slice(part),
                _ => buffer.pieces.push((delta, part.to_vec())),
            }
            buffer.len += part.len();
            if buffer.len >= FULL || buffer.pieces.len() >= MAX_PIECES {
                full.extend(take(key, buffer, terminal));
            }
        }
        full
    }

    /// Takes everything gathered, oldest first.
    pub(super) fn drain(&self) -> Vec<Chunk> {
        let mut state = self.lock();
        let State { buffers, terminals, .. } = &mut *state;
        let mut chunks: Vec<_> =
            buffers.iter_mut().filter_map(|(key, buffer)| take(*key, buffer, terminals.get(&key.0).copied())).collect();
        chunks.sort_by_key(|chunk| chunk.mono_ns);
        chunks
    }

    pub(super) fn terminal(&self, channel: u32, columns: u32, rows: u32) {
        let mut state = self.lock();
        if state.terminals.len() < MAX_CHANNELS {
            state.terminals.insert(channel, (columns.min(1000), rows.min(1000)));
        }
    }

    pub(super) fn pending(&self) -> bool {
        self.lock().buffers.values().any(|buffer| buffer.len > 0)
    }

    /// `true` once until released: the caller starts the flush timer.
    pub(super) fn take_flusher(&self) -> bool {
        let mut state = self.lock();
        let wanted = !state.flusher && state.buffers.values().any(|buffer| buffer.len > 0);
        state.flusher |= wanted;
        wanted
    }

    pub(super) fn release_flusher(&self) {
        self.lock().flusher = false;
    }

    pub(super) fn cut(&self) -> u64 {
        self.lock().cut
    }
}

fn take(key: (u32, Direction), buffer: &mut Buffer, terminal: Option<(u32, u32)>) -> Option<Chunk> {
    if buffer.len == 0 {
        return None;
    }
    let pieces = std::mem::take(&mut buffer.pieces);
    let detail = Stream {
        channel: key.0,
        direction: key.1.name().to_owned(),
        offset: buffer.offset,
        role: buffer.role.clone(),
        terminal,
        chunks: pieces.iter().map(|(delta, bytes)| (*delta, STANDARD.encode(bytes))).collect(),
    };
    buffer.offset += buffer.len as u64;
    buffer.len = 0;
    Some(Chunk { detail, wall_ns: buffer.start.0, mono_ns: buffer.start.1 })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(chunk: &Chunk) -> Vec<u8> {
        chunk.detail.chunks.iter().flat_map(|(_, data)| STANDARD.decode(data).unwrap()).collect()
    }

    #[test]
    fn fills_and_drains_without_loss() {
        let streams = Streams::new(u64::MAX);
        let data: Vec<u8> = (0..20_000u32).map(|n| n as u8).collect();
        let mut all = streams.push(0, "shell", Direction::In, &data, (10, 10));
        assert_eq!(all.len(), 2);
        all.extend(streams.drain());
        assert_eq!(all.iter().flat_map(bytes).collect::<Vec<_>>(), data);
        assert_eq!(all.iter().map(|c| c.detail.offset).collect::<Vec<_>>(), [0, 8192, 16384]);
        assert!(!streams.pending());
    }

    #[test]
    fn cap_is_counted() {
        let streams = Streams::new(10);
        streams.push(0, "shell", Direction::Out, &[1; 25], (0, 0));
        assert_eq!(streams.cut(), 15);
        assert_eq!(streams.drain().iter().map(|c| bytes(c).len()).sum::<usize>(), 10);
    }

    #[test]
    fn times_are_relative_to_the_first_byte() {
        let streams = Streams::new(u64::MAX);
        streams.push(1, "shell", Direction::In, b"a", (1_000, 500));
        streams.push(1, "shell", Direction::In, b"b", (1_300, 800));
        let chunks = streams.drain();
        assert_eq!(chunks[0].wall_ns, 1_000);
        assert_eq!(chunks[0].detail.chunks.iter().map(|c| c.0).collect::<Vec<_>>(), [0, 300]);
    }
}
