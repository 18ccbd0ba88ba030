//! One side's bytes that no parser has taken yet: a bounded window into that side's stream.

/// Most bytes held of one side.
pub(super) const LIMIT: usize = 65_536;

/// Room kept by an empty window.
const ROOM: usize = 4_096;

/// A window into one side's stream.
#[derive(Debug, Default)]
pub(super) struct Side {
    buffer: Vec<u8>,
    /// Bytes at the buffer's start that are already taken.
    taken: usize,
    /// Offset of the next byte not taken, from the start of the stream.
    offset: u64,
    /// Bytes still to come that nobody wants; `u64::MAX` = all.
    skip: u64,
    /// The parser need not look before this many bytes are there.
    wanted: usize,
    begun: bool,
}

impl Side {
    /// The bytes not taken yet.
    pub(super) fn peek(&self) -> &[u8] {
        self.buffer.get(self.taken..).unwrap_or_default()
    }

    /// Offset in the stream of the first byte of [`Self::peek`].
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// Offset in the stream of the byte expected next.
    pub(super) fn end(&self) -> u64 {
        self.offset.saturating_add(self.peek().len() as u64)
    }

    /// Where the stream begins, when nothing was seen of it.
    pub(super) fn begin_at(&mut self, offset: u64) {
        if !self.begun {
            self.begun = true;
            self.offset = offset;
        }
    }

    /// Takes the next `count` bytes.
    pub(super) fn take(&mut self, count: usize) {
        let count = count.min(self.peek().len());
        self.taken += count;
        self.offset = self.offset.saturating_add(count as u64);
        self.wanted = 0;
        if self.taken == self.buffer.len() {
            self.buffer.clear();
            self.taken = 0;
            // A long head once is no reason to hold its room for the rest of a long flow.
            self.buffer.shrink_to(ROOM);
        }
    }

    /// Passes over the next `count` bytes, those to come included.
    pub(super) fn skip(&mut self, count: u64) {
        let here = usize::try_from(count).unwrap_or(usize::MAX).min(self.peek().len());
        self.take(here);
        self.skip = if count == u64::MAX { count } else { count - here as u64 };
    }

    /// Whether bytes are still being passed over.
    pub(super) fn skipping(&self) -> bool {
        self.skip > 0
    }

    /// Asks not to be woken before `count` bytes are there.
    pub(super) fn want(&mut self, count: usize) {
        self.wanted = count;
    }

    /// Whether there is something a parser may look at.
    pub(super) fn ready(&self) -> bool {
        !self.peek().is_empty() && self.peek().len() >= self.wanted
    }

    /// Adds bytes of the stream; returns how many were taken in (all, unless the window is full).
    pub(super) fn push(&mut self, mut bytes: &[u8]) -> usize {
        let all = bytes.len();
        if self.skip > 0 {
            let skipped = usize::try_from(self.skip).unwrap_or(usize::MAX).min(all);
            self.advance_skip(skipped as u64);
            bytes = bytes.get(skipped..).unwrap_or_default();
        }
        if self.taken > 0 {
            self.buffer.drain(..self.taken);
            self.taken = 0;
        }
        let room = LIMIT.saturating_sub(self.buffer.len()).min(bytes.len());
        self.buffer.extend_from_slice(bytes.get(..room).unwrap_or_default());
        all - (bytes.len() - room)
    }

    /// `missing` bytes will never come; says whether all of them were to be passed over anyway.
    pub(super) fn gap(&mut self, missing: u64) -> bool {
        if self.skip == 0 || self.skip < missing {
            return false;
        }
        self.advance_skip(missing);
        true
    }

    /// Goes on `missing` bytes later with an empty window.
    pub(super) fn jump(&mut self, missing: u64) {
        self.forget();
        self.skip = 0;
        self.offset = self.offset.saturating_add(missing);
    }

    /// Forgets everything and gives the memory back.
    pub(super) fn forget(&mut self) {
        self.offset = self.end();
        self.buffer = Vec::new();
        self.taken = 0;
        self.wanted = 0;
    }

    /// Bytes of memory held.
    pub(super) fn held(&self) -> usize {
        self.buffer.capacity()
    }

    fn advance_skip(&mut self, count: u64) {
        self.offset = self.offset.saturating_add(count);
        if self.skip != u64::MAX {
            self.skip = self.skip.saturating_sub(count);
        }
    }
}
