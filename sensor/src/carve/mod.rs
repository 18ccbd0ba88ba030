//! Taking packets out of the ring again: by who spoke to whom and when, in order of time, frames as
//! they stand in the ring, with a statement of what is not there.
//!
//! ```text
//! selection ─► plan (index: where may it be) ─► fetch or scan ─► test each packet ─► order ─► pcapng
//! ```
//!
//! The index only says where to look: every packet is tested with the whole selection, so a wrong index
//! costs packets at worst and a damaged one costs time. It works beside the running sensor, in any
//! process, and never changes the ring.

mod filter;
mod order;
mod plan;
mod source;
mod statement;

pub use filter::Selection;
pub use source::Fetcher;

use crate::ring::index::Index;
use crate::ring::walk::{self, FileWalk};
use crate::ring::{Meta, RingDir, Segment};
use filter::Filter;
use glasshive_link::carve::{CarveError, CarveOut, CarveQuery, CarveSource, CarveStatement};
use glasshive_pcapng::{Block, Encoder, OptionList, SectionHeader, block_type, code, parse_block};
use order::Order;
use plan::Piece;
use statement::Account;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::sync::{Mutex, PoisonError};

/// Packets between two looks whether somebody still wants the rest.
const LOOK: u32 = 1024;

/// Where a carve goes.
pub trait Sink: Write {
    /// Whether nobody wants the rest any more.
    fn is_cancelled(&self) -> bool {
        false
    }
}

impl Sink for CarveOut {
    fn is_cancelled(&self) -> bool {
        CarveOut::is_cancelled(self)
    }
}
impl Sink for Vec<u8> {}
impl Sink for io::BufWriter<File> {}
impl Sink for io::StdoutLock<'_> {}

/// Carves from one ring; may be shared.
#[derive(Debug)]
pub struct RingCarver {
    dir: RingDir,
    /// Notes of finished segments, which never change.
    notes: Mutex<BTreeMap<u64, Meta>>,
}

impl CarveSource for RingCarver {
    fn carve(&self, query: &CarveQuery, out: &mut CarveOut) -> Result<CarveStatement, CarveError> {
        let selection = Selection { scope: query.scope.clone(), communities: Vec::new(), bpf: query.bpf.clone() };
        self.carve_to(&selection, query.max_bytes, out)
    }
}

impl RingCarver {
    /// Over the ring in `dir`.
    pub fn new(dir: RingDir) -> Self {
        Self { dir, notes: Mutex::default() }
    }

    /// Writes the selected packets to `out` as pcapng, at most `max_bytes`, and says what is missing. Blocks.
    ///
    /// # Errors
    /// [`CarveError`]; what was written until then is void.
    pub fn carve_to(&self, selection: &Selection, max_bytes: u64, out: &mut dyn Sink) -> Result<CarveStatement, CarveError> {
        let mut carving = Carving {
            filter: Filter::new(selection)?,
            order: Order::default(),
            output: Output::new(out, max_bytes),
            account: Account::new(selection),
            looked: 0,
        };
        carving.account.purged(&self.dir.purged());
        let segments = self.dir.segments()?;
        for segment in &segments {
            let note = if segment.hidden { None } else { self.note(segment.serial) };
            if let Some(note) = &note
                && !carving.filter.may_hold(note.first, note.last)
            {
                continue;
            }
            match self.segment(&mut carving, segment, note.as_ref()) {
                Ok(()) => {}
                Err(Stop::Gone) => carving.account.gone(note.as_ref()),
                Err(Stop::Limit) => break,
                Err(Stop::Cancelled) => return Err(CarveError::Failed("nobody wants the rest any more".to_owned())),
                Err(Stop::Io(error)) => return Err(error.into()),
            }
        }
        match carving.drain() {
            Ok(()) | Err(Stop::Limit) => {}
            Err(Stop::Io(error)) => return Err(error.into()),
            Err(Stop::Gone | Stop::Cancelled) => return Err(CarveError::Failed("nobody wants the rest any more".to_owned())),
        }
        if carving.output.known.is_none()
            && let Some(newest) = segments.last()
            && let Ok(file) = self.dir.open(newest.serial)
        {
            let interface = head(&file, newest.bytes).ok().flatten();
            carving.output.known = interface.map(|interface| interface.block);
        }
        carving.output.finish()?;
        let Carving { output, account, order, .. } = carving;
        account.statement(&self.dir, &output, order.disorder())
    }

    fn note(&self, serial: u64) -> Option<Meta> {
        let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(note) = notes.get(&serial) {
            return Some(note.clone());
        }
        let note = self.dir.meta(serial)?;
        // Those the quota took are the oldest.
        while notes.len() >= 65_536 {
            notes.pop_first();
        }
        notes.insert(serial, note.clone());
        Some(note)
    }

    fn segment(&self, carving: &mut Carving<'_>, segment: &Segment, note: Option<&Meta>) -> Result<(), Stop> {
        let file = match self.dir.open(segment.serial) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(Stop::Gone),
            other => other?,
        };
        // The mark up to which it is written: what comes later belongs to a later question.
        let length = file.metadata()?.len();
        let Some(interface) = head(&file, length)? else { return Ok(()) };
        carving.filter.link_type(interface.link_type)?;
        carving.output.known.get_or_insert_with(|| interface.block.clone());
        let source = carving.account.segment(segment.serial, note, length);
        let index = Index::open(&self.dir.index(segment.serial)).ok().flatten();
        for piece in plan::pieces(&carving.filter, index.as_ref(), length, &mut carving.account) {
            match piece {
                Piece::Scan(from, to) => {
                    let mut walk = FileWalk::new(&file, from, to);
                    while let Some((_, _, block)) = walk.next_block()? {
                        carving.block(block, &interface, source)?;
                    }
                    carving.account.ended(walk.ended(), to.saturating_sub(walk.offset()), segment.hidden);
                }
                Piece::Fetch(offsets) => {
                    let mut fetcher = Fetcher::new(&file, length);
                    for (at, offset) in offsets.iter().enumerate() {
                        let next = offsets.get(at + 1).copied();
                        match fetcher.block(*offset, next)? {
                            Some(block) => carving.block(block, &interface, source)?,
                            None => carving.account.index_fault(),
                        }
                    }
                }
            }
        }
        Ok(())
    }
}

/// Why a segment was not gone through to its end.
enum Stop {
    Gone,
    Limit,
    Cancelled,
    Io(io::Error),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}
impl From<CarveError> for Stop {
    fn from(error: CarveError) -> Self {
        Self::Io(io::Error::other(error.to_string()))
    }
}

/// A segment's interface.
#[derive(Debug, Clone, PartialEq, Eq)]
struct SegmentInterface {
    link_type: u16,
    block: Vec<u8>,
}

/// Reads the interface from a segment's head; `None` while there is none yet.
fn head(file: &File, length: u64) -> io::Result<Option<SegmentInterface>> {
    let mut walk = FileWalk::new(file, 0, length.min(64 << 10));
    while let Some((_, kind, block)) = walk.next_block()? {
        if kind == block_type::INTERFACE {
            let Ok(Block::Interface(interface)) = parse_block(block, false, 0) else { return Ok(None) };
            return Ok(Some(SegmentInterface { link_type: interface.link_type, block: block.to_vec() }));
        }
        if kind != block_type::SECTION_HEADER {
            break;
        }
    }
    Ok(None)
}

/// One carve's state.
struct Carving<'a> {
    filter: Filter,
    order: Order,
    output: Output<'a>,
    account: Account,
    looked: u32,
}

impl Carving<'_> {
    /// Tests a block and takes it when it is meant.
    fn block(&mut self, block: &[u8], interface: &SegmentInterface, source: usize) -> Result<(), Stop> {
        self.looked += 1;
        if self.looked.is_multiple_of(LOOK) && self.output.out.is_cancelled() {
            return Err(Stop::Cancelled);
        }
        let Some(packet) = walk::packet(block) else { return Ok(()) };
        if !self.filter.passes(packet.at, packet.data) {
            return Ok(());
        }
        self.account.matched += 1;
        let number = self.output.interface(interface);
        self.order.push(packet.at, number, source, block);
        while self.order.is_full() {
            self.emit()?;
        }
        Ok(())
    }

    fn emit(&mut self) -> Result<bool, Stop> {
        let Some(next) = self.order.pop() else { return Ok(false) };
        if !self.output.packet(next.interface, &next.block)? {
            return Err(Stop::Limit);
        }
        self.account.exported(next.source, next.at);
        Ok(true)
    }

    fn drain(&mut self) -> Result<(), Stop> {
        if self.output.limited {
            return Ok(());
        }
        while self.emit()? {}
        Ok(())
    }
}

/// The file that is written.
struct Output<'a> {
    out: &'a mut dyn Sink,
    buffer: Vec<u8>,
    interfaces: Vec<SegmentInterface>,
    /// Interfaces described so far.
    described: usize,
    /// An interface of the ring, for a file without packets.
    known: Option<Vec<u8>>,
    bytes: u64,
    most: u64,
    limited: bool,
}

impl<'a> Output<'a> {
    fn new(out: &'a mut dyn Sink, most: u64) -> Self {
        let mut encoder = Encoder::new();
        let mut options = OptionList::new();
        options.push_text(code::SHB_APPLICATION, format!("glasshive-sensor {}", glasshive_journal::build::version()));
        encoder.section_header(&SectionHeader { options });
        let buffer = encoder.take();
        let bytes = buffer.len() as u64;
        // No room for the head: then for nothing.
        let (buffer, limited) = if bytes > most { (Vec::new(), true) } else { (buffer, false) };
        Self { out, bytes: buffer.len() as u64, buffer, interfaces: Vec::new(), described: 0, known: None, most, limited }
    }

    /// Number of an interface in this file.
    fn interface(&mut self, interface: &SegmentInterface) -> u32 {
        let known = self.interfaces.iter().position(|known| known == interface);
        let number = known.unwrap_or_else(|| {
            self.interfaces.push(interface.clone());
            self.interfaces.len() - 1
        });
        number as u32
    }

    /// Writes a packet block, after the interfaces up to its own; false when it does not fit.
    fn packet(&mut self, interface: u32, block: &[u8]) -> io::Result<bool> {
        let new = self.interfaces.get(self.described..=interface as usize).unwrap_or_default();
        let more = new.iter().map(|new| new.block.len()).sum::<usize>() + block.len();
        if self.limited || self.bytes.saturating_add(more as u64) > self.most {
            self.limited = true;
            return Ok(false);
        }
        for new in new {
            self.buffer.extend_from_slice(&new.block);
        }
        self.described = self.described.max(interface as usize + 1);
        let at = self.buffer.len();
        self.buffer.extend_from_slice(block);
        if let Some(slot) = self.buffer.get_mut(at + 8..at + 12) {
            slot.copy_from_slice(&interface.to_le_bytes());
        }
        self.bytes += more as u64;
        if self.buffer.len() >= 64 << 10 {
            self.flush()?;
        }
        Ok(true)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.write_all(&self.buffer)?;
        self.buffer.clear();
        Ok(())
    }

    /// A file without packets describes an interface all the same, where it may: some readers want one.
    fn finish(&mut self) -> io::Result<()> {
        if let (0, Some(known)) = (self.described, self.known.take())
            && self.bytes > 0
            && self.bytes.saturating_add(known.len() as u64) <= self.most
        {
            self.buffer.extend_from_slice(&known);
            self.bytes += known.len() as u64;
        }
        self.flush()?;
        self.out.flush()
    }
}

#[cfg(test)]
mod tests;
