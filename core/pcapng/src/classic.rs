//! Classic pcap: the file header of every flavour and its records.
//!
//! It must never believe a length: a record grows with the bytes that arrive.

use crate::packets::{Damage, DamageKind};
use std::io::Read;

/// Largest record taken.
const MAX_RECORD: u32 = 16 << 20;
const FILE_HEADER: usize = 24;

/// What a file's magic says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Flavour {
    big: bool,
    /// Nanoseconds of the fraction's unit.
    unit: i64,
    /// Bytes of a record header.
    header: usize,
    /// Bytes between the file header and the first record.
    skip: u64,
}

/// The flavour of a magic, read in the file's order.
fn flavour(magic: [u8; 4]) -> Option<Flavour> {
    [true, false].into_iter().find_map(|big| {
        let value = word(magic, big);
        // Microseconds, nanoseconds, Kuznetzov's longer records, Navtel's and IXIA's two nanosecond forms
        // (the latter with the length of all records behind the file header).
        let (unit, header, skip) = match value {
            0xa1b2_c3d4 => (1000, 16, 0),
            0xa1b2_3c4d | 0xa12b_3c4d => (1, 16, 0),
            0xa1b2_cd34 => (1000, 24, 0),
            0x1c00_01ac | 0x1c00_01ab => (1, 16, 4),
            _ => return None,
        };
        Some(Flavour { big, unit, header, skip })
    })
}

/// Whether a file that begins so is a classic pcap.
pub(crate) fn is_classic(magic: [u8; 4]) -> bool {
    flavour(magic).is_some()
}

/// A record without its data.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Record {
    pub(crate) time_ns: i64,
    pub(crate) original_length: u32,
}

/// Reads records one at a time.
#[derive(Debug)]
pub(crate) struct Classic<R> {
    input: R,
    flavour: Flavour,
    minor: u16,
    pub(crate) link_type: u16,
    offset: u64,
    head: Vec<u8>,
}

impl<R: Read> Classic<R> {
    /// Reads the file header.
    pub(crate) fn open(mut input: R) -> Result<Self, Damage> {
        let mut head = Vec::with_capacity(FILE_HEADER);
        let damage = |kind, what| Err(Damage { kind, offset: 0, what });
        if read(&mut input, FILE_HEADER as u64, &mut head, 0)? < FILE_HEADER {
            return damage(DamageKind::CutHeader, "the file ends within its header");
        }
        let magic = head.first_chunk::<4>().copied().unwrap_or_default();
        let Some(flavour) = flavour(magic) else { return damage(DamageKind::NotACapture, "neither pcap nor pcapng") };
        let (major, minor) = (half(&head, 4, flavour.big), half(&head, 6, flavour.big));
        // 543.0 is what some tools of old wrote for 2.4.
        if !matches!((major, minor), (2, 0..=4) | (543, 0)) {
            return damage(DamageKind::BadVersion, "a version of pcap nobody wrote");
        }
        let mut offset = FILE_HEADER as u64;
        if flavour.skip > 0 {
            offset = offset.saturating_add(read(&mut input, flavour.skip, &mut Vec::new(), offset)? as u64);
        }
        // The upper half tells the length of a checksum behind the frame; the lower is the link type.
        let link_type = full(&head, 20, flavour.big) as u16;
        Ok(Self { input, flavour, minor, link_type, offset, head: Vec::new() })
    }

    /// The next record, its data into `data`; `None` at a clean end.
    pub(crate) fn next(&mut self, data: &mut Vec<u8>) -> Result<Option<Record>, Damage> {
        let (offset, big) = (self.offset, self.flavour.big);
        let damage = |kind, what| Err(Damage { kind, offset, what });
        self.head.clear();
        match read(&mut self.input, self.flavour.header as u64, &mut self.head, offset)? {
            0 => return Ok(None),
            got if got < self.flavour.header => return damage(DamageKind::CutRecord, "the file ends within a record's header"),
            _ => {}
        }
        let [seconds, fraction, mut captured, mut original] = [0, 4, 8, 12].map(|at| full(&self.head, at, big));
        // Before version 2.3 the two lengths stood the other way round, and 2.3 was written both ways.
        if self.minor < 3 || (self.minor == 3 && captured > original) {
            std::mem::swap(&mut captured, &mut original);
        }
        if captured > MAX_RECORD {
            return damage(DamageKind::BadLength, "a record longer than any packet");
        }
        data.clear();
        if read(&mut self.input, captured.into(), data, offset)? < captured as usize {
            return damage(DamageKind::CutRecord, "the file ends within a record");
        }
        self.offset = offset.saturating_add(self.flavour.header as u64).saturating_add(captured.into());
        let time_ns =
            i64::from(seconds).saturating_mul(1_000_000_000).saturating_add(i64::from(fraction).saturating_mul(self.flavour.unit));
        Ok(Some(Record { time_ns, original_length: original.max(captured) }))
    }
}

/// Appends up to `count` bytes; less only at the end of the input.
fn read<R: Read>(input: &mut R, count: u64, into: &mut Vec<u8>, offset: u64) -> Result<usize, Damage> {
    input.take(count).read_to_end(into).map_err(|error| Damage::unreadable(&error, offset))
}

fn word(bytes: [u8; 4], big: bool) -> u32 {
    if big { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) }
}

fn full(bytes: &[u8], at: usize, big: bool) -> u32 {
    bytes.get(at..).and_then(|rest| rest.first_chunk::<4>()).map_or(0, |chunk| word(*chunk, big))
}

fn half(bytes: &[u8], at: usize, big: bool) -> u16 {
    let pair = bytes.get(at..).and_then(|rest| rest.first_chunk::<2>()).copied().unwrap_or_default();
    if big { u16::from_be_bytes(pair) } else { u16::from_le_bytes(pair) }
}
