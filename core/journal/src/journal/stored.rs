//! How blocks lie in a segment: key = first sequence number, u64 BE; value = chain head before the
//! block (32) ‖ block. Reading and verifying them.

use super::Block;
use crate::block;
use crate::segment::{Segment, SegmentError};
use glasshive_event::record::RecordError;
use glasshive_event::{LogId, RecordView};

const CHAIN: usize = 32;

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

/// Blocks of a segment from the one that holds `from`, none behind `last`, about `max_bytes`, at least one.
pub(super) fn blocks(segment: &Segment, from: u64, last: u64, max_bytes: usize) -> Result<Vec<Block>, SegmentError> {
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

/// The stored value of a block.
pub(super) fn stored(before: &[u8; 32], block: &[u8]) -> Vec<u8> {
    let mut value = Vec::with_capacity(CHAIN + block.len());
    value.extend_from_slice(before);
    value.extend_from_slice(block);
    value
}

/// Chain head and block of a stored value.
pub(super) fn split(value: &[u8]) -> Option<([u8; 32], &[u8])> {
    value.split_first_chunk::<CHAIN>().map(|(before, block)| (*before, block))
}

/// First sequence number from a key.
pub(super) fn seq_of(key: &[u8]) -> Option<u64> {
    key.try_into().ok().map(u64::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use glasshive_event::text::hex;

    /// Golden vector of a stored value: a change here breaks every journal on disk.
    #[test]
    fn golden() {
        let value = stored(&[0xab; 32], b"\0\0\0\x03one");
        assert_eq!(hex(&value), format!("{}000000036f6e65", "ab".repeat(32)));
        assert_eq!(split(&value), Some(([0xab; 32], &b"\0\0\0\x03one"[..])));
        assert_eq!(split(&[0; 31]), None);
        assert_eq!(seq_of(&[0, 0, 0, 0, 0, 0, 1, 2]), Some(258));
        assert_eq!(seq_of(&[0; 7]), None);
    }
}
