//! Chunks of packets, and the bounded pool their buffers come from.

use glasshive_event::Timestamp;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

/// Whole packet blocks, ready to be appended to a segment.
#[derive(Debug)]
pub struct Chunk {
    bytes: Vec<u8>,
    /// Packets in it.
    pub packets: u32,
    /// Earliest packet.
    pub first: Timestamp,
    /// Latest packet.
    pub last: Timestamp,
    pool: Arc<Pool>,
}

impl Chunk {
    pub(super) fn new(bytes: Vec<u8>, packets: u32, first: Timestamp, last: Timestamp, pool: Arc<Pool>) -> Self {
        Self { bytes, packets, first, last, pool }
    }

    /// The blocks.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        self.pool.give(std::mem::take(&mut self.bytes));
    }
}

/// Buffers, a fixed number at most; they are made when first needed and used again.
#[derive(Debug)]
pub struct Pool {
    state: Mutex<State>,
    freed: Condvar,
    most: usize,
    size: usize,
}

#[derive(Debug, Default)]
struct State {
    free: Vec<Vec<u8>>,
    out: usize,
}

impl Pool {
    /// At most `most` buffers of about `size` bytes.
    pub fn new(most: usize, size: usize) -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), freed: Condvar::new(), most: most.max(2), size })
    }

    /// Buffers it may have.
    pub fn most(&self) -> usize {
        self.most
    }

    /// A buffer, within `limit`.
    pub fn take(&self, limit: Duration) -> Option<Vec<u8>> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut state, _) =
            self.freed.wait_timeout_while(state, limit, |state| state.out >= self.most).unwrap_or_else(PoisonError::into_inner);
        if state.out >= self.most {
            return None;
        }
        state.out += 1;
        // The last given back is the one whose pages are warm.
        Some(state.free.pop().unwrap_or_else(|| Vec::with_capacity(self.size)))
    }

    pub(super) fn give(&self, mut buffer: Vec<u8>) {
        buffer.clear();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.out = state.out.saturating_sub(1);
        state.free.push(buffer);
        drop(state);
        self.freed.notify_one();
    }
}

#[cfg(test)]
pub(crate) mod testing {
    use super::*;
    use glasshive_pcapng::{Encoder, OptionList};

    /// A chunk of packets: time and bytes each.
    pub(crate) fn chunk(pool: &Arc<Pool>, packets: &[(i64, Vec<u8>)]) -> Arc<Chunk> {
        let mut encoder = Encoder::with_buffer(pool.take(Duration::from_secs(60)).unwrap());
        for (at, data) in packets {
            encoder.enhanced_packet(0, *at as u64, data.len() as u32, data, &OptionList::new());
        }
        let times = || packets.iter().map(|(at, _)| Timestamp(*at));
        let (first, last) = (times().min().unwrap(), times().max().unwrap());
        Arc::new(Chunk::new(encoder.take(), packets.len() as u32, first, last, Arc::clone(pool)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_bounded_and_come_back() {
        let pool = Pool::new(2, 64);
        let (a, b) = (pool.take(Duration::ZERO).unwrap(), pool.take(Duration::ZERO).unwrap());
        assert_eq!((a.capacity(), pool.take(Duration::ZERO)), (64, None));
        let chunk = Arc::new(Chunk::new(a, 0, Timestamp(0), Timestamp(0), Arc::clone(&pool)));
        let second = Arc::clone(&chunk);
        drop(chunk);
        assert_eq!(pool.take(Duration::ZERO), None);
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| pool.take(Duration::from_secs(60)));
            drop(second);
            assert!(waiting.join().unwrap().is_some());
        });
        pool.give(b);
        assert!(pool.take(Duration::ZERO).is_some());
    }
}
