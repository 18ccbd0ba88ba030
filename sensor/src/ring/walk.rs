//! Blocks of the ring's own pcapng bytes, walked in place: in a chunk, or in a file through one buffer.
//!
//! Bytes on disk may be cut or damaged: nothing is believed, and a walk ends at the first wrong block
//! and says where. Only what the ring itself writes is understood (little-endian, nanoseconds).

use glasshive_event::Timestamp;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

/// Largest block the ring writes: a packet of the largest snapshot length with its head.
pub const MAX_BLOCK: usize = (256 << 10) + 64;
/// Bytes of a packet block before the packet.
pub const PACKET_HEAD: usize = 28;
/// Bytes read from a file at once.
const SLAB: usize = 1 << 20;

/// What stands at the beginning of some bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// A whole block of that type and length.
    Block {
        /// Its type.
        kind: u32,
        /// Its length.
        length: usize,
    },
    /// The beginning of a block.
    Partial,
    /// No block.
    Damaged,
}

/// Looks at the beginning of `bytes`.
pub fn step(bytes: &[u8]) -> Step {
    let Some([a, b, c, d, e, f, g, h]) = bytes.first_chunk::<8>().copied() else { return Step::Partial };
    let (kind, length) = (u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h]) as usize);
    if !(12..=MAX_BLOCK).contains(&length) || !length.is_multiple_of(4) {
        return Step::Damaged;
    }
    match bytes.get(..length).and_then(|block| block.last_chunk::<4>()) {
        None => Step::Partial,
        Some(last) if u32::from_le_bytes(*last) as usize == length => Step::Block { kind, length },
        Some(_) => Step::Damaged,
    }
}

/// A packet block, in place.
#[derive(Debug, Clone, Copy)]
pub struct PacketBlock<'a> {
    /// Index of its interface.
    pub interface: u32,
    /// When it was captured.
    pub at: Timestamp,
    /// Length on the wire.
    pub original_length: u32,
    /// The captured bytes.
    pub data: &'a [u8],
}

/// Reads a whole packet block.
pub fn packet(block: &[u8]) -> Option<PacketBlock<'_>> {
    let word = |at: usize| Some(u32::from_le_bytes(*block.get(at..)?.first_chunk::<4>()?));
    if word(0)? != glasshive_pcapng::block_type::PACKET {
        return None;
    }
    let time = u64::from(word(12)?) << 32 | u64::from(word(16)?);
    let captured = usize::try_from(word(20)?).ok()?;
    let end = PACKET_HEAD.checked_add(captured)?;
    if end > block.len().checked_sub(4)? {
        return None;
    }
    Some(PacketBlock {
        interface: word(8)?,
        at: Timestamp(i64::try_from(time).ok()?),
        original_length: word(24)?,
        data: block.get(PACKET_HEAD..end)?,
    })
}

/// The packets of a chunk.
pub fn packets(mut bytes: &[u8]) -> impl Iterator<Item = PacketBlock<'_>> {
    std::iter::from_fn(move || {
        loop {
            let Step::Block { length, .. } = step(bytes) else { return None };
            let (block, rest) = bytes.split_at_checked(length)?;
            bytes = rest;
            if let Some(packet) = packet(block) {
                return Some(packet);
            }
        }
    })
}

/// How a walk over a file ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Not yet.
    Open,
    /// At the end of a block.
    Clean,
    /// Within a block, as a file that is still written or was cut does.
    Torn,
    /// At bytes that are no block.
    Damaged,
}

/// Blocks of a file, one after the other.
#[derive(Debug)]
pub struct FileWalk<'a> {
    file: &'a File,
    buffer: Vec<u8>,
    /// Where in the file the buffer begins.
    base: u64,
    /// Next block within the buffer.
    next: usize,
    limit: u64,
    ended: Ended,
}

impl<'a> FileWalk<'a> {
    /// From a block's beginning to at most `limit`.
    pub fn new(file: &'a File, from: u64, limit: u64) -> Self {
        Self { file, buffer: Vec::new(), base: from, next: 0, limit, ended: Ended::Open }
    }

    /// Where the next block begins.
    pub fn offset(&self) -> u64 {
        self.base.saturating_add(self.next as u64)
    }

    /// How it ended.
    pub fn ended(&self) -> Ended {
        self.ended
    }

    /// The next block: its place, type and bytes.
    ///
    /// # Errors
    /// The system's.
    pub fn next_block(&mut self) -> io::Result<Option<(u64, u32, &[u8])>> {
        if self.ended != Ended::Open {
            return Ok(None);
        }
        loop {
            match step(self.buffer.get(self.next..).unwrap_or_default()) {
                Step::Block { kind, length } => {
                    let (start, offset) = (self.next, self.offset());
                    self.next += length;
                    return Ok(self.buffer.get(start..self.next).map(|block| (offset, kind, block)));
                }
                Step::Damaged => {
                    self.ended = Ended::Damaged;
                    return Ok(None);
                }
                Step::Partial => {
                    if !self.refill()? {
                        self.ended = if self.buffer.len() == self.next { Ended::Clean } else { Ended::Torn };
                        return Ok(None);
                    }
                }
            }
        }
    }

    /// Reads on behind what is in the buffer; false at the end.
    fn refill(&mut self) -> io::Result<bool> {
        self.base = self.offset();
        self.buffer.drain(..self.next);
        self.next = 0;
        let have = self.buffer.len();
        let from = self.base.saturating_add(have as u64);
        let want = usize::try_from(self.limit.saturating_sub(from)).unwrap_or(SLAB).min(SLAB);
        self.buffer.resize(have + want, 0);
        let mut got = 0;
        while got < want {
            let Some(room) = self.buffer.get_mut(have + got..) else { break };
            match self.file.read_at(room, from.saturating_add(got as u64)) {
                Ok(0) => break,
                Ok(more) => got += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.buffer.truncate(have + got);
        Ok(got > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use glasshive_pcapng::{Encoder, OptionList};
    use std::io::Write as _;

    #[test]
    fn a_file_is_walked_to_where_it_is_whole() {
        let mut encoder = Encoder::new();
        for (index, length) in [0usize, 1, 60, 1500, 65_535, 262_144, 7].into_iter().enumerate() {
            encoder.enhanced_packet(0, index as u64, length as u32, &vec![index as u8; length], &OptionList::new());
        }
        let bytes = encoder.take();
        let whole: Vec<(u64, usize)> = packets(&bytes).map(|packet| (packet.at.0 as u64, packet.data.len())).collect();
        assert_eq!(whole.len(), 7);
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&bytes).unwrap();
        for (limit, expected, ended) in [
            (bytes.len(), 7, Ended::Clean),
            (bytes.len() - 1, 6, Ended::Torn),
            (bytes.len() - 40, 6, Ended::Clean),
            (10, 0, Ended::Torn),
            (0, 0, Ended::Clean),
        ] {
            let mut walk = FileWalk::new(&file, 0, limit as u64);
            let mut count = 0;
            while let Some((offset, kind, block)) = walk.next_block().unwrap() {
                assert_eq!((kind, block), (6, &bytes[offset as usize..][..block.len()]));
                count += 1;
            }
            assert_eq!((count, walk.ended()), (expected, ended), "{limit}");
        }
        let mut changed = bytes.clone();
        changed[4] ^= 1;
        assert_eq!(step(&changed), Step::Damaged);
        assert_eq!(step(&[0; 40]), Step::Damaged);
        assert!(packet(&bytes[..32]).is_some() && packet(&[6, 0, 0, 0]).is_none());
    }
}
