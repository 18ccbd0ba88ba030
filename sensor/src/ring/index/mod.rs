//! The index beside each segment: where the packets of a connection, address or port begin.
//!
//! An index file is a row of *parts*, each about a stretch of its segment and whole in itself, so that
//! the segment being written is indexed too. What no part speaks of is read instead. It is made from
//! the segment's file alone and can always be made again; everything read from it is checked (CRC-32)
//! and used as a hint only: whoever looks packets up tests each one again.
//!
//! A part, all numbers little-endian:
//!
//! ```text
//! head 80   magic "GHINDEX1" ‖ length u32 ‖ keys u32 ‖ times u32 ‖ lists u32 (bytes) ‖ packets u32
//!           ‖ times' CRC u32 ‖ from u64 ‖ to u64 ‖ earliest i64 ‖ latest i64 ‖ reserved u64
//!           ‖ reserved u32 ‖ head's CRC u32
//! times     (offset u64 ‖ earliest i64 ‖ latest i64)*, one for each 64 KiB of the segment
//! keys      blocks of at most 256 × (number u64 ‖ place u32 ‖ bytes u32), sorted, each block with CRC u32;
//!           bytes 0: one packet, its offset ÷ 4 is the place; otherwise a list at that place
//! lists     (offset ÷ 4 as varint, then differences)* with CRC u32 behind each
//! ```

mod build;
mod key;
mod read;

pub use build::Builder;
pub use key::Key;
pub use read::{Index, IndexDamage, Part, Stretch};

/// Begins every part; the digit is the version.
const MAGIC: &[u8; 8] = b"GHINDEX1";
/// Bytes of a part's head.
const HEAD: usize = 80;
/// Bytes of an entry of the time table.
const TIME: usize = 24;
/// Bytes of a key's entry, and entries of a block.
const ENTRY: usize = 16;
const BLOCK: usize = 256;
/// Bytes of the segment one entry of the time table speaks of.
const STRETCH: u64 = 64 << 10;

#[cfg(test)]
mod tests;
