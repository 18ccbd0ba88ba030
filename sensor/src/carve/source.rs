//! Reading single blocks of a segment, near ones with one read.

use crate::ring::walk::{MAX_BLOCK, Step, step};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

/// Bytes read for one block when the next is far, and when it is near.
const ALONE: usize = 4 << 10;
const TOGETHER: usize = 64 << 10;

/// Fetches blocks by their offset, ascending.
#[derive(Debug)]
pub struct Fetcher<'a> {
    file: &'a File,
    length: u64,
    window: Vec<u8>,
    base: u64,
}

impl<'a> Fetcher<'a> {
    /// Over the first `length` bytes of a segment.
    pub fn new(file: &'a File, length: u64) -> Self {
        Self { file, length, window: Vec::new(), base: 0 }
    }

    /// The block at `offset`; `None` when there is none. `next` is what will be asked for after it.
    ///
    /// # Errors
    /// The system's.
    pub fn block(&mut self, offset: u64, next: Option<u64>) -> io::Result<Option<&[u8]>> {
        let near = next.is_some_and(|next| next.saturating_sub(offset) < TOGETHER as u64);
        let mut size = if near { TOGETHER } else { ALONE };
        loop {
            let start = usize::try_from(offset.wrapping_sub(self.base)).unwrap_or(usize::MAX);
            match self.window.get(start..).map(step) {
                Some(Step::Block { length, .. }) => return Ok(self.window.get(start..start + length)),
                Some(Step::Damaged) => return Ok(None),
                // Behind the window, or not whole in it.
                Some(Step::Partial) | None => {}
            }
            if self.base == offset && self.window.len() >= MAX_BLOCK {
                return Ok(None);
            }
            if self.base == offset && !self.window.is_empty() {
                size = MAX_BLOCK;
                if self.base.saturating_add(self.window.len() as u64) >= self.length {
                    return Ok(None);
                }
            }
            if offset >= self.length {
                return Ok(None);
            }
            let size = usize::try_from(self.length.saturating_sub(offset)).unwrap_or(size).min(size);
            self.window.resize(size, 0);
            self.base = offset;
            self.file.read_exact_at(&mut self.window, offset)?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use glasshive_pcapng::{Encoder, OptionList};
    use std::io::Write as _;

    #[test]
    fn blocks_near_far_large_and_absent() {
        let mut encoder = Encoder::new();
        let mut offsets = Vec::new();
        for length in [10usize, 262_144, 60, 3000, 5000, 100_000, 1] {
            offsets.push(encoder.bytes().len() as u64);
            encoder.enhanced_packet(0, 0, length as u32, &vec![7; length], &OptionList::new());
        }
        let bytes = encoder.take();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&bytes).unwrap();
        let mut fetcher = Fetcher::new(&file, bytes.len() as u64);
        for (at, offset) in offsets.iter().enumerate() {
            let end = offsets.get(at + 1).copied();
            let block = fetcher.block(*offset, end).unwrap().unwrap();
            assert_eq!(block, &bytes[*offset as usize..end.map_or(bytes.len(), |end| end as usize)]);
        }
        for absent in [4, 8, bytes.len() as u64, u64::MAX - 3] {
            assert_eq!(fetcher.block(absent, None).unwrap(), None, "{absent}");
        }
        // The last block is not whole within a smaller mark.
        let mut short = Fetcher::new(&file, bytes.len() as u64 - 4);
        assert_eq!(short.block(*offsets.last().unwrap(), None).unwrap(), None);
    }
}
