//! Reading blocks of either byte order, one at a time, within bounds.

use crate::block::{Block, Interface, NameRecord, Packet, Secrets, SecretsKind, SectionHeader, Statistics, Timescale, UnknownBlock};
use crate::options::{OptionList, code};
use crate::{BYTE_ORDER_MAGIC, block_type, padded};
use std::borrow::Cow;
use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Largest block taken when nothing else is said.
const DEFAULT_MAX_BLOCK: u32 = 16 << 20;
/// Interfaces of one section; more are damage.
const MAX_INTERFACES: usize = 65_536;
/// Name records of one block and names of one record.
const MAX_NAMES: usize = 65_536;
/// Smallest block: type and both lengths.
const MIN_BLOCK: u32 = 12;

/// Why reading stopped. Offsets count from the start of the input.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The input does not begin with a section header.
    #[error("not a pcapng file")]
    NotPcapng,
    /// The input ends within a block, as a file still being written does.
    #[error("the file ends within the block at byte {offset}")]
    Truncated {
        /// Where the block begins.
        offset: u64,
    },
    /// A block breaks the format.
    #[error("damaged block at byte {offset}: {what}")]
    Damaged {
        /// Where the block begins.
        offset: u64,
        /// What is wrong.
        what: &'static str,
    },
    /// A block is larger than the reader takes.
    #[error("block of {length} bytes at byte {offset} is over the limit of {limit}")]
    TooLarge {
        /// Where the block begins.
        offset: u64,
        /// Its length.
        length: u32,
        /// The reader's limit.
        limit: u32,
    },
    /// The input cannot be read.
    #[error("the input cannot be read: {0}")]
    Io(#[from] io::Error),
}

/// Reads blocks from any input, keeping one at a time.
#[derive(Debug)]
pub struct BlockReader<R> {
    input: R,
    buffer: Vec<u8>,
    max_block: u32,
    offset: u64,
    big: Option<bool>,
    timescales: Vec<Timescale>,
    snap_lengths: Vec<u32>,
    unknown: u64,
    failed: bool,
}

impl<R: Read> BlockReader<R> {
    /// Takes blocks of at most 16 MiB.
    pub fn new(input: R) -> Self {
        Self::with_limit(input, DEFAULT_MAX_BLOCK)
    }

    /// Takes blocks of at most `max_block` bytes.
    pub fn with_limit(input: R, max_block: u32) -> Self {
        let (timescales, snap_lengths) = (Vec::new(), Vec::new());
        Self { input, buffer: Vec::new(), max_block, offset: 0, big: None, timescales, snap_lengths, unknown: 0, failed: false }
    }

    /// Where the next block begins.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Blocks of unknown type skipped so far.
    pub fn unknown_blocks(&self) -> u64 {
        self.unknown
    }

    /// The times of an interface of the present section.
    pub fn timescale(&self, interface: u32) -> Option<Timescale> {
        self.timescales.get(usize::try_from(interface).ok()?).copied()
    }

    /// The next known block; `None` at the end. After an error there is nothing more.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn next_block(&mut self) -> Result<Option<Block<'_>>, ReadError> {
        loop {
            if self.failed || !self.fill().inspect_err(|_| self.failed = true)? {
                return Ok(None);
            }
            let kind = self.kind();
            if is_known(kind) {
                break;
            }
            self.unknown = self.unknown.saturating_add(1);
        }
        self.failed = true;
        let start = self.offset.saturating_sub(self.buffer.len() as u64);
        let snap = self.snap_lengths.first().copied().unwrap_or(0);
        let block = parse(&self.buffer, self.big.unwrap_or(false), snap).map_err(|what| ReadError::Damaged { offset: start, what })?;
        let damaged = |what| Err(ReadError::Damaged { offset: start, what });
        match &block {
            Block::SectionHeader(_) => {
                self.timescales.clear();
                self.snap_lengths.clear();
            }
            Block::Interface(_) if self.timescales.len() >= MAX_INTERFACES => return damaged("too many interfaces"),
            Block::Interface(interface) => {
                self.timescales.push(interface.timescale);
                self.snap_lengths.push(interface.snap_length);
            }
            Block::Packet(Packet { interface, .. }) | Block::Statistics(Statistics { interface, .. })
                if usize::try_from(*interface).is_ok_and(|index| index >= self.timescales.len()) =>
            {
                return damaged("it names an interface that was not described");
            }
            _ => {}
        }
        self.failed = false;
        Ok(Some(block))
    }

    fn kind(&self) -> u32 {
        self.buffer.first_chunk::<4>().map_or(0, |bytes| word(*bytes, self.big.unwrap_or(false)))
    }

    /// Reads one block into the buffer; false at a clean end.
    fn fill(&mut self) -> Result<bool, ReadError> {
        let offset = self.offset;
        self.buffer.clear();
        if !self.read(8, offset, true)? {
            return Ok(false);
        }
        // A section header tells its byte order behind its length, and its type is a palindrome.
        let section = self.buffer.first_chunk::<4>() == Some(&block_type::SECTION_HEADER.to_be_bytes());
        if section {
            self.read(4, offset, false)?;
            let magic = self.buffer.last_chunk::<4>().copied().unwrap_or_default();
            self.big = match u32::from_be_bytes(magic) {
                BYTE_ORDER_MAGIC => Some(true),
                other if other.swap_bytes() == BYTE_ORDER_MAGIC => Some(false),
                _ => return Err(ReadError::Damaged { offset, what: "byte-order magic" }),
            };
        }
        let big = self.big.ok_or(ReadError::NotPcapng)?;
        let length = self.buffer.get(4..).and_then(|rest| rest.first_chunk::<4>()).map_or(0, |bytes| word(*bytes, big));
        if length < MIN_BLOCK.max(self.buffer.len() as u32) || !length.is_multiple_of(4) {
            return Err(ReadError::Damaged { offset, what: "length" });
        }
        if length > self.max_block {
            return Err(ReadError::TooLarge { offset, length, limit: self.max_block });
        }
        let missing = u64::from(length).saturating_sub(self.buffer.len() as u64);
        self.read(missing, offset, false)?;
        if self.buffer.last_chunk::<4>().map(|bytes| word(*bytes, big)) != Some(length) {
            return Err(ReadError::Damaged { offset, what: "the lengths at its ends differ" });
        }
        self.offset = offset.saturating_add(u64::from(length));
        Ok(true)
    }

    /// Appends `count` bytes; false when the input is at its end and that is allowed.
    fn read(&mut self, count: u64, offset: u64, may_end: bool) -> Result<bool, ReadError> {
        // `take` grows the buffer with what arrives, so a lying length allocates nothing.
        let got = (&mut self.input).take(count).read_to_end(&mut self.buffer)?;
        match got as u64 {
            got if got == count => Ok(true),
            0 if may_end => Ok(false),
            _ if self.big.is_none() => Err(ReadError::NotPcapng),
            _ => Err(ReadError::Truncated { offset }),
        }
    }
}

/// Parses one whole block (type to last length) of a section with the given byte order, as found by
/// an index. `snap_length` is that of interface 0, which Simple Packet Blocks need.
///
/// # Errors
/// What is wrong, in a few words.
pub fn parse_block(bytes: &[u8], big_endian: bool, snap_length: u32) -> Result<Block<'_>, &'static str> {
    let length = bytes.len();
    let given = |at: Option<&[u8; 4]>| at.map(|found| word(*found, big_endian) as usize);
    let first = bytes.get(4..).and_then(|rest| rest.first_chunk::<4>());
    if length < MIN_BLOCK as usize || given(first) != Some(length) || given(bytes.last_chunk::<4>()) != Some(length) {
        return Err("length");
    }
    parse(bytes, big_endian, snap_length)
}

fn is_known(kind: u32) -> bool {
    use block_type::{INTERFACE, NAMES, OLD_PACKET, PACKET, SECRETS, SECTION_HEADER, SIMPLE_PACKET, STATISTICS};
    matches!(kind, SECTION_HEADER | INTERFACE | OLD_PACKET | SIMPLE_PACKET | NAMES | STATISTICS | PACKET | SECRETS)
}

fn word(bytes: [u8; 4], big: bool) -> u32 {
    if big { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) }
}

/// A cursor over a block's body.
struct Body<'a> {
    rest: &'a [u8],
    big: bool,
}

impl<'a> Body<'a> {
    fn chunk<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (chunk, rest) = self.rest.split_first_chunk::<N>()?;
        self.rest = rest;
        Some(*chunk)
    }
    fn u16(&mut self) -> Option<u16> {
        self.chunk().map(|bytes| if self.big { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) })
    }
    fn u32(&mut self) -> Option<u32> {
        self.chunk().map(|bytes| word(bytes, self.big))
    }
    /// High word first, whatever the byte order (§4.3).
    fn time(&mut self) -> Option<u64> {
        Some(u64::from(self.u32()?) << 32 | u64::from(self.u32()?))
    }
    fn data(&mut self, length: u32) -> Option<&'a [u8]> {
        let length = usize::try_from(length).ok()?;
        let data = self.rest.get(..length)?;
        self.rest = self.rest.get(padded(length)?..)?;
        Some(data)
    }
    fn options(&mut self) -> Result<OptionList<'a>, &'static str> {
        OptionList::parse(self.rest, self.big).ok_or("options")
    }
}

fn parse(bytes: &[u8], big: bool, snap_length: u32) -> Result<Block<'_>, &'static str> {
    const SHORT: &str = "too short for its type";
    let kind = bytes.first_chunk::<4>().map(|bytes| word(*bytes, big)).ok_or(SHORT)?;
    let rest = bytes.get(8..bytes.len().saturating_sub(4)).ok_or(SHORT)?;
    let mut body = Body { rest, big };
    Ok(match kind {
        block_type::SECTION_HEADER => {
            body.u32().ok_or(SHORT)?;
            if body.u16().ok_or(SHORT)? != 1 {
                return Err("version of the format is not 1");
            }
            body.u16().ok_or(SHORT)?;
            body.chunk::<8>().ok_or(SHORT)?;
            Block::SectionHeader(SectionHeader { options: body.options()? })
        }
        block_type::INTERFACE => {
            let link_type = body.u16().ok_or(SHORT)?;
            body.u16().ok_or(SHORT)?;
            let snap_length = body.u32().ok_or(SHORT)?;
            let mut options = body.options()?;
            let mut timescale = Timescale::MICROSECONDS;
            if let Some(value) = options.take(code::IF_TSRESOL) {
                let [resolution] = *value.as_ref() else { return Err("time resolution") };
                timescale.resolution = resolution;
            }
            if let Some(value) = options.take(code::IF_TSOFFSET) {
                timescale.offset_seconds = long(&value, big).ok_or("time offset")?.cast_signed();
            }
            Block::Interface(Interface { link_type, snap_length, timescale, options })
        }
        block_type::PACKET => {
            let interface = body.u32().ok_or(SHORT)?;
            let time = body.time().ok_or(SHORT)?;
            let (captured, original_length) = (body.u32().ok_or(SHORT)?, body.u32().ok_or(SHORT)?);
            let data = body.data(captured).ok_or("packet longer than its block")?;
            Block::Packet(Packet { interface, time: Some(time), original_length, data: data.into(), options: body.options()? })
        }
        block_type::OLD_PACKET => {
            // As the Enhanced one, but for a short interface number and a count of drops beside it.
            let (interface, _drops) = (body.u16().ok_or(SHORT)?, body.u16().ok_or(SHORT)?);
            let time = body.time().ok_or(SHORT)?;
            let (captured, original_length) = (body.u32().ok_or(SHORT)?, body.u32().ok_or(SHORT)?);
            let data = body.data(captured).ok_or("packet longer than its block")?;
            let options = body.options()?;
            Block::Packet(Packet { interface: interface.into(), time: Some(time), original_length, data: data.into(), options })
        }
        block_type::SIMPLE_PACKET => {
            let original_length = body.u32().ok_or(SHORT)?;
            let limit = if snap_length == 0 { u32::MAX } else { snap_length };
            let data = body.data(original_length.min(limit)).ok_or("packet longer than its block")?;
            Block::Packet(Packet { interface: 0, time: None, original_length, data: data.into(), options: OptionList::default() })
        }
        block_type::SECRETS => {
            let kind = SecretsKind(body.u32().ok_or(SHORT)?);
            let length = body.u32().ok_or(SHORT)?;
            let data = body.data(length).ok_or("secrets longer than their block")?;
            Block::Secrets(Secrets { kind, data: data.into(), options: body.options()? })
        }
        block_type::NAMES => Block::Names(names(&mut body).ok_or("name record")?),
        block_type::STATISTICS => {
            let (interface, time) = (body.u32().ok_or(SHORT)?, body.time().ok_or(SHORT)?);
            let mut options = body.options()?;
            let mut count = |code| options.take(code).map(|value| long(&value, big).ok_or("counter")).transpose();
            let (received, dropped) = (count(code::ISB_RECEIVED)?, count(code::ISB_DROPPED)?);
            Block::Statistics(Statistics { interface, time, received, dropped, options })
        }
        kind => Block::Unknown(UnknownBlock { kind, body: rest.into() }),
    })
}

fn long(value: &[u8], big: bool) -> Option<u64> {
    let bytes: [u8; 8] = value.try_into().ok()?;
    Some(if big { u64::from_be_bytes(bytes) } else { u64::from_le_bytes(bytes) })
}

fn names<'a>(body: &mut Body<'a>) -> Option<Vec<NameRecord<'a>>> {
    let mut records = Vec::new();
    loop {
        let (kind, length) = (body.u16()?, body.u16()?);
        if kind == 0 {
            return Some(records);
        }
        let value = body.data(length.into())?;
        let (address, names): (IpAddr, _) = match kind {
            1 => value.split_first_chunk::<4>().map(|(address, names)| (Ipv4Addr::from(*address).into(), names))?,
            2 => value.split_first_chunk::<16>().map(|(address, names)| (Ipv6Addr::from(*address).into(), names))?,
            // Other kinds (EUI-48, EUI-64) are skipped.
            _ => continue,
        };
        let names = names.strip_suffix(&[0])?;
        let names: Vec<Cow<'a, str>> = names.split(|byte| *byte == 0).take(MAX_NAMES).map(String::from_utf8_lossy).collect();
        if records.len() >= MAX_NAMES {
            return None;
        }
        records.push(NameRecord { address, names });
    }
}
