//! Packets of any capture file: classic pcap in all its flavours and pcapng, told apart by content.
//!
//! Damage ends the reading after the packets before it were given. It must never guess what a damaged
//! file meant, nor allocate what a length promises before the bytes are there.

use crate::block::Block;
use crate::classic::{self, Classic};
use crate::read::{BlockReader, ReadError};
use std::io::{self, BufReader, Chain, Cursor, Read};

/// Bytes asked of the input at once.
const BUFFER: usize = 256 * 1024;

/// What is wrong with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DamageKind {
    /// Not one byte in it.
    Empty,
    /// Neither pcap nor pcapng.
    NotACapture,
    /// It ends within its header.
    CutHeader,
    /// It ends within a record or block.
    CutRecord,
    /// A length that cannot be.
    BadLength,
    /// A version of the format nobody wrote.
    BadVersion,
    /// A block that breaks the format.
    BadBlock,
    /// The input failed.
    Unreadable,
}

impl DamageKind {
    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::NotACapture => "not-a-capture",
            Self::CutHeader => "cut-header",
            Self::CutRecord => "cut-record",
            Self::BadLength => "bad-length",
            Self::BadVersion => "bad-version",
            Self::BadBlock => "bad-block",
            Self::Unreadable => "unreadable",
        }
    }
}

/// Where and how a file is damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Damage {
    /// What kind.
    pub kind: DamageKind,
    /// Where the damaged record or block begins, in bytes from the start.
    pub offset: u64,
    /// In a few words.
    pub what: &'static str,
}

impl Damage {
    pub(crate) fn unreadable(error: &io::Error, offset: u64) -> Self {
        let what = match error.kind() {
            io::ErrorKind::IsADirectory => "it is a directory",
            io::ErrorKind::PermissionDenied => "permission denied",
            _ => "the input failed",
        };
        Self { kind: DamageKind::Unreadable, offset, what }
    }
}

impl std::fmt::Display for Damage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} at byte {}: {}", self.kind.name(), self.offset, self.what)
    }
}

impl From<ReadError> for Damage {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::NotPcapng => Self { kind: DamageKind::CutHeader, offset: 0, what: "the file ends within its header" },
            ReadError::Truncated { offset } => Self { kind: DamageKind::CutRecord, offset, what: "the file ends within a block" },
            ReadError::Damaged { offset, what: what @ ("length" | "the lengths at its ends differ") } => {
                Self { kind: DamageKind::BadLength, offset, what }
            }
            ReadError::Damaged { offset, what } => Self { kind: DamageKind::BadBlock, offset, what },
            ReadError::TooLarge { offset, .. } => Self { kind: DamageKind::BadLength, offset, what: "a block longer than any packet" },
            ReadError::Io(error) => Self::unreadable(&error, 0),
        }
    }
}

/// One packet of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Captured<'a> {
    /// Link type (pcap's LINKTYPE registry).
    pub link_type: u16,
    /// Nanoseconds since 1970. A packet without a time has that of the one before it.
    pub time_ns: i64,
    /// Length on the wire.
    pub original_length: u32,
    /// The bytes captured.
    pub data: &'a [u8],
}

type Input<R> = BufReader<Chain<Cursor<Vec<u8>>, R>>;

#[derive(Debug)]
enum Format<R> {
    Classic(Classic<Input<R>>),
    Blocks(BlockReader<Input<R>>),
    Ended,
}

/// Reads the packets of a file, keeping one at a time.
#[derive(Debug)]
pub struct Packets<R> {
    format: Format<R>,
    link_types: Vec<u16>,
    last_ns: i64,
    data: Vec<u8>,
    damage: Option<Damage>,
}

impl<R: Read> Packets<R> {
    /// Looks at the first bytes. What is no capture file is [`Self::damage`], and gives no packet.
    pub fn new(mut input: R) -> Self {
        let mut magic = Vec::new();
        let got = (&mut input).take(4).read_to_end(&mut magic);
        let first = magic.first_chunk::<4>().copied();
        let all = |magic| BufReader::with_capacity(BUFFER, Cursor::new(magic).chain(input));
        let damage = |kind, what| Err(Damage { kind, offset: 0, what });
        let format = match (got, first) {
            (Err(error), _) => Err(Damage::unreadable(&error, 0)),
            (Ok(0), _) => damage(DamageKind::Empty, "not one byte"),
            (_, None) => damage(DamageKind::CutHeader, "the file ends within its header"),
            (_, Some([0x0a, 0x0d, 0x0d, 0x0a])) => Ok(Format::Blocks(BlockReader::new(all(magic)))),
            (_, Some(first)) if classic::is_classic(first) => Classic::open(all(magic)).map(Format::Classic),
            _ => damage(DamageKind::NotACapture, "neither pcap nor pcapng"),
        };
        let (format, damage) = match format {
            Ok(format) => (format, None),
            Err(damage) => (Format::Ended, Some(damage)),
        };
        Self { format, link_types: Vec::new(), last_ns: 0, data: Vec::new(), damage }
    }

    /// The next packet; `None` at the end and at damage.
    pub fn next_packet(&mut self) -> Option<Captured<'_>> {
        let found = match &mut self.format {
            Format::Classic(reader) => reader
                .next(&mut self.data)
                .map(|record| record.map(|record| (reader.link_type, Some(record.time_ns), record.original_length))),
            Format::Blocks(reader) => next_of_blocks(reader, &mut self.link_types, &mut self.data),
            Format::Ended => return None,
        };
        let (link_type, time_ns, original_length) = match found {
            Ok(Some(found)) => found,
            ended => {
                self.damage = ended.err();
                self.format = Format::Ended;
                return None;
            }
        };
        self.last_ns = time_ns.unwrap_or(self.last_ns);
        Some(Captured { link_type, time_ns: self.last_ns, original_length, data: &self.data })
    }

    /// What ended the reading before the file's end.
    pub fn damage(&self) -> Option<Damage> {
        self.damage
    }
}

type Found = (u16, Option<i64>, u32);

fn next_of_blocks<R: Read>(reader: &mut BlockReader<R>, links: &mut Vec<u16>, data: &mut Vec<u8>) -> Result<Option<Found>, Damage> {
    loop {
        let (interface, time, original) = match reader.next_block()? {
            None => return Ok(None),
            Some(Block::SectionHeader(_)) => {
                links.clear();
                continue;
            }
            Some(Block::Interface(interface)) => {
                links.push(interface.link_type);
                continue;
            }
            Some(Block::Packet(packet)) => {
                data.clear();
                data.extend_from_slice(&packet.data);
                (packet.interface, packet.time, packet.original_length)
            }
            Some(_) => continue,
        };
        let link_type = usize::try_from(interface).ok().and_then(|index| links.get(index)).copied().unwrap_or(u16::MAX);
        let time = time.and_then(|time| reader.timescale(interface)?.nanoseconds(time));
        let kept = u32::try_from(data.len()).unwrap_or(u32::MAX);
        return Ok(Some((link_type, time, original.max(kept))));
    }
}
