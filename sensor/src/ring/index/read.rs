//! Looking things up in an index file. Everything read is checked; damage is said, not guessed around.

use super::{BLOCK, ENTRY, HEAD, Key, MAGIC, TIME};
use glasshive_event::Timestamp;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

/// The index does not hold what it should; the segment has to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the index is damaged")]
pub struct IndexDamage;

/// An index file.
#[derive(Debug)]
pub struct Index {
    file: File,
    /// Its whole parts, in order.
    pub parts: Vec<Part>,
    /// Bytes of them; what follows is a part still being written, or damage.
    pub whole: u64,
    /// Bytes of the file.
    pub length: u64,
}

/// One part's head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// First byte of the segment it speaks of.
    pub from: u64,
    /// The byte behind its last.
    pub to: u64,
    /// Packets.
    pub packets: u32,
    /// Earliest packet.
    pub earliest: Timestamp,
    /// Latest packet.
    pub latest: Timestamp,
    at: u64,
    keys: u32,
    times: u32,
    lists: u32,
    times_crc: u32,
}

/// A stretch of a segment and its times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stretch {
    /// Where it begins, at a block; it goes to the next one.
    pub offset: u64,
    /// Earliest packet.
    pub earliest: Timestamp,
    /// Latest packet.
    pub latest: Timestamp,
}

impl Index {
    /// Reads the heads. A missing file is an index of nothing.
    ///
    /// # Errors
    /// The system's.
    pub fn open(path: &Path) -> io::Result<Option<Self>> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let length = file.metadata()?.len();
        let (mut parts, mut whole): (Vec<Part>, u64) = (Vec::new(), 0);
        while let Some((part, bytes)) = head(&file, whole, length) {
            if parts.last().is_some_and(|before| before.to > part.from) {
                break;
            }
            parts.push(part);
            whole = whole.saturating_add(bytes);
        }
        Ok(Some(Self { file, parts, whole, length }))
    }

    /// Where each packet of `key` begins, ascending, as far as `part` knows.
    ///
    /// # Errors
    /// [`IndexDamage`], also when the file cannot be read.
    pub fn find(&self, part: &Part, key: &Key<'_>) -> Result<Vec<u64>, IndexDamage> {
        let number = key.number();
        let Some((place, bytes)) = self.entry(part, number)? else { return Ok(Vec::new()) };
        let offsets = if bytes == 0 {
            vec![u64::from(place) * 4]
        } else {
            if u64::from(place) + u64::from(bytes) + 4 > u64::from(part.lists) {
                return Err(IndexDamage);
            }
            let list = self.checked(part.lists_at() + u64::from(place), bytes as usize)?;
            decode(&list).ok_or(IndexDamage)?
        };
        let inside = |offset: &u64| *offset >= part.from && *offset < part.to;
        if offsets.iter().all(inside) && offsets.is_sorted() { Ok(offsets) } else { Err(IndexDamage) }
    }

    /// The part's time table.
    ///
    /// # Errors
    /// [`IndexDamage`].
    pub fn times(&self, part: &Part) -> Result<Vec<Stretch>, IndexDamage> {
        let bytes = self.bytes(part.at + HEAD as u64, part.times as usize * TIME)?;
        if crc32fast::hash(&bytes) != part.times_crc {
            return Err(IndexDamage);
        }
        let stretch = |entry: &[u8]| {
            let number = |at: usize| Some(u64::from_le_bytes(*entry.get(at..)?.first_chunk::<8>()?));
            Some(Stretch {
                offset: number(0)?,
                earliest: Timestamp(number(8)?.cast_signed()),
                latest: Timestamp(number(16)?.cast_signed()),
            })
        };
        let times: Vec<Stretch> = bytes.chunks_exact(TIME).filter_map(stretch).collect();
        let inside = times.iter().all(|time| time.offset >= part.from && time.offset < part.to);
        if inside && times.is_sorted_by_key(|time| time.offset) { Ok(times) } else { Err(IndexDamage) }
    }

    /// Finds a number's entry: binary search over blocks, each checked before it is believed, since a
    /// wrong first number would lead away from what is there.
    fn entry(&self, part: &Part, number: u64) -> Result<Option<(u32, u32)>, IndexDamage> {
        let (mut low, mut high) = (0, (part.keys as usize).div_ceil(BLOCK));
        while low < high {
            let middle = (low + high) / 2;
            let entries = (part.keys as usize - middle * BLOCK).min(BLOCK);
            let block = self.checked(part.block_at(middle), entries * ENTRY)?;
            let key = |entry: Option<&[u8]>| Some(u64::from_le_bytes(*entry?.first_chunk::<8>()?));
            let mut all = block.chunks_exact(ENTRY);
            let (first, last) = (key(all.clone().next()).ok_or(IndexDamage)?, key(all.clone().next_back()).ok_or(IndexDamage)?);
            if number < first {
                high = middle;
            } else if number > last {
                low = middle + 1;
            } else {
                return Ok(all.find(|entry| key(Some(entry)) == Some(number)).and_then(|entry| {
                    let word = |at: usize| Some(u32::from_le_bytes(*entry.get(at..)?.first_chunk::<4>()?));
                    Some((word(8)?, word(12)?))
                }));
            }
        }
        Ok(None)
    }

    /// Bytes with their CRC behind them.
    fn checked(&self, at: u64, length: usize) -> Result<Vec<u8>, IndexDamage> {
        let mut bytes = self.bytes(at, length + 4)?;
        let crc = bytes.last_chunk::<4>().copied().ok_or(IndexDamage)?;
        bytes.truncate(length);
        if crc32fast::hash(&bytes) == u32::from_le_bytes(crc) { Ok(bytes) } else { Err(IndexDamage) }
    }

    fn bytes(&self, at: u64, length: usize) -> Result<Vec<u8>, IndexDamage> {
        // A part's length is bounded by the file's, so nothing more than the file is ever asked for.
        if at.saturating_add(length as u64) > self.whole {
            return Err(IndexDamage);
        }
        let mut bytes = vec![0; length];
        self.file.read_exact_at(&mut bytes, at).map_err(|_| IndexDamage)?;
        Ok(bytes)
    }
}

impl Part {
    fn block_at(&self, block: usize) -> u64 {
        self.at + HEAD as u64 + u64::from(self.times) * TIME as u64 + block as u64 * (BLOCK * ENTRY + 4) as u64
    }

    fn lists_at(&self) -> u64 {
        let blocks = u64::from(self.keys).div_ceil(BLOCK as u64);
        self.at + HEAD as u64 + u64::from(self.times) * TIME as u64 + u64::from(self.keys) * ENTRY as u64 + blocks * 4
    }
}

/// The head at `at`, when the part is whole.
fn head(file: &File, at: u64, length: u64) -> Option<(Part, u64)> {
    let mut bytes = [0; HEAD];
    file.read_exact_at(&mut bytes, at).ok()?;
    let (covered, crc) = bytes.split_last_chunk::<4>()?;
    if covered.first_chunk::<8>() != Some(MAGIC) || crc32fast::hash(covered) != u32::from_le_bytes(*crc) {
        return None;
    }
    let word = |at: usize| Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk::<4>()?));
    let long = |at: usize| Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk::<8>()?));
    let part = Part {
        from: long(32)?,
        to: long(40)?,
        packets: word(24)?,
        earliest: Timestamp(long(48)?.cast_signed()),
        latest: Timestamp(long(56)?.cast_signed()),
        at,
        keys: word(12)?,
        times: word(16)?,
        lists: word(20)?,
        times_crc: word(28)?,
    };
    let total = u64::from(word(8)?);
    let whole = part.lists_at() - at + u64::from(part.lists) == total && at.checked_add(total)? <= length;
    (whole && part.from <= part.to).then_some((part, total))
}

fn decode(mut bytes: &[u8]) -> Option<Vec<u64>> {
    let mut offsets = Vec::new();
    let mut place = 0u32;
    while !bytes.is_empty() {
        let (mut value, mut shift) = (0u32, 0);
        loop {
            let (byte, rest) = bytes.split_first()?;
            bytes = rest;
            value |= u32::from(byte & 0x7f).checked_shl(shift)?;
            if byte & 0x80 == 0 {
                break;
            }
            shift += 7;
        }
        place = place.checked_add(value)?;
        offsets.push(u64::from(place) * 4);
    }
    Some(offsets)
}
