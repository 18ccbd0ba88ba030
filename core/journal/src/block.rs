//! A block: consecutive records of one log, the unit that is stored, sent and acknowledged.
//!
//! ```text
//! block = (u32 BE length ‖ record)+      at most 8 KiB, or one larger record alone (≤ 16 KiB)
//! ```
//!
//! The same bytes are a stored value, the payload of a BATCH (several blocks end to end read like
//! one) and what the controller keeps. Reading trusts no length: every one is checked before use.

use glasshive_event::record::{MAX_RECORD, chain_hash, leaf_hash};

/// Largest block of more than one record, bytes.
pub const MAX_BLOCK: usize = 8 * 1024;
/// Largest block at all: one record of the largest size and its length.
pub const MAX_SINGLE: usize = MAX_RECORD + LENGTH;
const LENGTH: usize = 4;

/// Why bytes are not blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BlockError {
    /// A length says more than there is.
    #[error("block is cut at byte {0}")]
    Cut(usize),
    /// A length of zero, or over the largest record.
    #[error("block names a record of {length} bytes at byte {at}; 1 to {MAX_RECORD} are allowed")]
    Length {
        /// Offset of the length.
        at: usize,
        /// What it says.
        length: u32,
    },
}

/// Records of one or more blocks, in order. Ends after the first error.
#[derive(Clone, Debug)]
pub struct Records<'a> {
    rest: &'a [u8],
    at: usize,
}

/// The records in `bytes`.
pub fn records(bytes: &[u8]) -> Records<'_> {
    Records { rest: bytes, at: 0 }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<&'a [u8], BlockError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let rest = std::mem::take(&mut self.rest);
        let Some((length, rest)) = rest.split_first_chunk::<LENGTH>() else { return Some(Err(BlockError::Cut(self.at))) };
        let length = u32::from_be_bytes(*length);
        if length == 0 || length as usize > MAX_RECORD {
            return Some(Err(BlockError::Length { at: self.at, length }));
        }
        let Some((record, rest)) = rest.split_at_checked(length as usize) else { return Some(Err(BlockError::Cut(self.at))) };
        self.at += LENGTH + record.len();
        self.rest = rest;
        Some(Ok(record))
    }
}

/// Counts the records and carries the chain over them; an error when any length is wrong.
pub fn advance(bytes: &[u8], mut chain: [u8; 32]) -> Result<(u64, [u8; 32]), BlockError> {
    let mut count = 0;
    for record in records(bytes) {
        chain = chain_hash(&chain, &leaf_hash(record?));
        count += 1;
    }
    Ok((count, chain))
}

/// Packs records into blocks, greedily and in order.
#[derive(Debug, Default)]
pub struct Packer {
    bytes: Vec<u8>,
}

impl Packer {
    /// An empty packer.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a record of 1 to [`MAX_RECORD`] bytes (a longer or empty one is a bug of the caller and
    /// is refused with `Err`). Gives back the block that was full without it.
    pub fn push(&mut self, record: &[u8]) -> Result<Option<Vec<u8>>, BlockError> {
        let length = u32::try_from(record.len()).unwrap_or(u32::MAX);
        if record.is_empty() || record.len() > MAX_RECORD {
            return Err(BlockError::Length { at: self.bytes.len(), length });
        }
        let full = !self.bytes.is_empty() && self.bytes.len() + LENGTH + record.len() > MAX_BLOCK;
        let done = if full { self.finish() } else { None };
        self.bytes.extend_from_slice(&length.to_be_bytes());
        self.bytes.extend_from_slice(record);
        Ok(done)
    }

    /// The block begun, if any.
    pub fn finish(&mut self) -> Option<Vec<u8>> {
        if self.bytes.is_empty() { None } else { Some(std::mem::take(&mut self.bytes)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pack(list: &[Vec<u8>]) -> Vec<Vec<u8>> {
        let mut packer = Packer::new();
        let mut blocks: Vec<_> = list.iter().filter_map(|record| packer.push(record).unwrap()).collect();
        blocks.extend(packer.finish());
        blocks
    }

    /// Golden vector: a change here breaks every stored journal and the link.
    #[test]
    fn golden() {
        let blocks = pack(&[b"one".to_vec(), b"three".to_vec()]);
        assert_eq!(blocks, [b"\0\0\0\x03one\0\0\0\x05three"]);
        let (count, chain) = advance(&blocks[0], [0; 32]).unwrap();
        assert_eq!(count, 2);
        assert_eq!(glasshive_event::text::hex(&chain), "44c709aa58517b2b9a69a8f469989458eefb0cab2dc418f2d1f1b305165da3ab");
    }

    #[test]
    fn sizes() {
        let blocks = pack(&[vec![1; 100], vec![2; MAX_RECORD], vec![3; 100], vec![4; 8000], vec![5; 100]]);
        let sizes: Vec<_> = blocks.iter().map(Vec::len).collect();
        assert_eq!(sizes, [104, MAX_SINGLE, 104 + 8004, 104]);
        assert_eq!(pack(&[vec![1; MAX_BLOCK - 4], vec![2]]).len(), 2);
        assert!(Packer::new().push(&[]).is_err());
        assert!(Packer::new().push(&[0; MAX_RECORD + 1]).is_err());
    }

    #[test]
    fn bad_bytes() {
        let last = |bytes: &'static [u8]| records(bytes).last().unwrap();
        assert_eq!(last(&[0, 0, 0]), Err(BlockError::Cut(0)));
        assert_eq!(last(b"\0\0\0\x01a\0\0\0\x02b"), Err(BlockError::Cut(5)));
        assert_eq!(last(&[0, 0, 0, 0]), Err(BlockError::Length { at: 0, length: 0 }));
        assert_eq!(last(&[0xff; 8]), Err(BlockError::Length { at: 0, length: u32::MAX }));
        assert_eq!(records(&[0xff; 8]).count(), 1);
    }

    fn cases() -> ProptestConfig {
        ProptestConfig::with_cases(std::env::var("GLASSHIVE_FUZZ").ok().and_then(|n| n.parse().ok()).unwrap_or(10_000))
    }

    proptest! {
        #![proptest_config(cases())]
        #[test]
        fn mutated_blocks_stay_in_bounds(list in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..60), 1..8),
                                         at in any::<prop::sample::Index>(), byte: u8, cut in any::<prop::sample::Index>()) {
            let mut bytes = pack(&list).concat();
            let back: Vec<_> = records(&bytes).map(|record| record.unwrap().to_vec()).collect();
            prop_assert_eq!(&back, &list);
            let at = at.index(bytes.len());
            bytes[at] = byte;
            bytes.truncate(cut.index(bytes.len()) + 1);
            let total: usize = records(&bytes).filter_map(Result::ok).map(|record| record.len() + 4).sum();
            prop_assert!(total <= bytes.len());
            prop_assert!(records(&bytes).filter(Result::is_err).count() <= 1);
        }
    }
}
