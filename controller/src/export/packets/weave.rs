//! Captured packets and derived ones in one pcapng file, in order of time: secrets and names first,
//! captured frames byte-equal on their own interfaces, derived ones on one of their own.
//!
//! The input is read twice and never held; the same input and story give the same bytes.

use super::place::{self, Addressed};
use super::story::{Mark, Story};
use super::synth::{self, Segment};
use super::tuples::{self, Pairs, Seen};
use crate::fail::Failure;
use glasshive_event::{Endpoint, Timestamp, Tuple};
use glasshive_pcapng::{
    Block, BlockReader, Encoder, Interface, NameRecord, OptionList, Secrets, SecretsKind, SectionHeader, Statistics, Timescale, code,
    link_type,
};
use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::io::BufReader;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

/// Name of the interface of derived packets.
pub(super) const DERIVED: &str = "derived-plaintext";
/// Flows whose first packet is looked for; more go without a comment, counted.
const MAX_FLOWS: usize = 1 << 20;
/// Names in one block.
const NAMES: usize = 500;

/// What was woven.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Woven {
    /// Captured packets.
    pub(super) captured: u64,
    /// Derived packets.
    pub(super) derived: u64,
    /// Derived connections.
    pub(super) connections: u64,
    /// What the reader must know.
    pub(super) notes: Vec<String>,
}

/// A captured packet, out of its reader's hands.
struct Frame {
    ns: i64,
    interface: u32,
    time: u64,
    original_length: u32,
    data: Vec<u8>,
    options: OptionList<'static>,
}

enum Next {
    Frame(Frame),
    Statistics(Statistics<'static>),
}

/// Reads one captured file; interfaces of all files and sections are numbered in a row.
struct Reader {
    path: PathBuf,
    blocks: BlockReader<BufReader<File>>,
    /// Number of the present section's interface 0.
    base: u32,
    count: u32,
    last_ns: i64,
    back: u64,
    interfaces: Vec<Interface<'static>>,
    names: Vec<NameRecord<'static>>,
    secrets: Vec<Secrets<'static>>,
}

impl Reader {
    fn open(path: &Path, base: u32) -> Result<Self, Failure> {
        let file = File::open(path).map_err(|error| Failure::failed(format!("{}: {error}", path.display())))?;
        let blocks = BlockReader::new(BufReader::with_capacity(256 * 1024, file));
        let (interfaces, names, secrets) = (Vec::new(), Vec::new(), Vec::new());
        Ok(Self { path: path.to_owned(), blocks, base, count: 0, last_ns: 0, back: 0, interfaces, names, secrets })
    }

    fn next(&mut self) -> Result<Option<Next>, Failure> {
        loop {
            let block = self.blocks.next_block().map_err(|error| Failure::failed(format!("{}: {error}", self.path.display())))?;
            match block {
                None => return Ok(None),
                Some(Block::SectionHeader(_)) => {
                    self.base = self.base.saturating_add(self.count);
                    self.count = 0;
                }
                Some(Block::Interface(interface)) => {
                    self.count = self.count.saturating_add(1);
                    self.interfaces.push(Interface { options: owned(&interface.options), ..interface });
                }
                Some(Block::Packet(packet)) => {
                    let (interface, time, original_length) = (packet.interface, packet.time, packet.original_length);
                    let (options, data) = (owned(&packet.options), packet.data.to_vec());
                    drop(packet);
                    let scale = self.blocks.timescale(interface).unwrap_or(Timescale::NANOSECONDS);
                    let ns = time.and_then(|time| scale.nanoseconds(time)).unwrap_or(self.last_ns);
                    self.back += u64::from(ns < self.last_ns);
                    self.last_ns = ns;
                    let interface = self.base.saturating_add(interface);
                    return Ok(Some(Next::Frame(Frame { ns, interface, time: time.unwrap_or(0), original_length, data, options })));
                }
                Some(Block::Statistics(statistics)) => {
                    let interface = self.base.saturating_add(statistics.interface);
                    let options = owned(&statistics.options);
                    return Ok(Some(Next::Statistics(Statistics { interface, options, ..statistics })));
                }
                Some(Block::Names(records)) => self.names.extend(records.into_iter().map(|record| NameRecord {
                    address: record.address,
                    names: record.names.into_iter().map(|name| Cow::Owned(name.into_owned())).collect(),
                })),
                Some(Block::Secrets(secrets)) => self.secrets.push(Secrets {
                    kind: secrets.kind,
                    data: Cow::Owned(secrets.data.into_owned()),
                    options: owned(&secrets.options),
                }),
                Some(Block::Unknown(_)) => {}
            }
        }
    }
}

fn owned(options: &OptionList<'_>) -> OptionList<'static> {
    let mut list = OptionList::new();
    for (code, value) in options.iter() {
        list.push(code, value.to_vec());
    }
    list
}

/// What a first reading tells.
#[derive(Default)]
struct Index {
    interfaces: Vec<Interface<'static>>,
    /// First interface number of each file.
    bases: Vec<u32>,
    names: Vec<NameRecord<'static>>,
    secrets: Vec<Secrets<'static>>,
    reserved: BTreeSet<IpAddr>,
    back: u64,
    unknown: u64,
}

fn index(inputs: &[PathBuf]) -> Result<Index, Failure> {
    let mut index = Index::default();
    for path in inputs {
        let base = index.interfaces.len() as u32;
        index.bases.push(base);
        let mut reader = Reader::open(path, base)?;
        while let Some(next) = reader.next()? {
            let Next::Frame(frame) = next else { continue };
            let link = link_of(&index.interfaces, &reader, frame.interface);
            if let Some(Seen { ends, .. }) = tuples::seen(link, &frame.data) {
                index.reserved.extend([ends.source.ip, ends.destination.ip].into_iter().filter(|ip| place::is_reserved(*ip)));
            }
        }
        index.back += reader.back;
        index.unknown += reader.blocks.unknown_blocks();
        index.interfaces.append(&mut reader.interfaces);
        index.names.append(&mut reader.names);
        index.secrets.append(&mut reader.secrets);
    }
    Ok(index)
}

fn link_of(before: &[Interface<'_>], reader: &Reader, interface: u32) -> u16 {
    let at = (interface as usize).checked_sub(before.len());
    at.and_then(|at| reader.interfaces.get(at)).map_or(0xffff, |interface| interface.link_type)
}

/// Says of a flow's first packet what there is to say of it.
struct Marks<'a> {
    marks: &'a [Mark],
    /// Marks not yet said, by flow.
    open: HashMap<(Option<u8>, Endpoint, Endpoint), Vec<usize>>,
    unlooked: u64,
}

impl<'a> Marks<'a> {
    fn new(marks: &'a [Mark]) -> Self {
        Self { marks, open: HashMap::new(), unlooked: 0 }
    }

    fn say(&mut self, seen: Seen, at: Timestamp, options: &mut OptionList<'static>) {
        let Tuple { source, destination } = seen.ends;
        let both =
            if (source.ip, source.port) <= (destination.ip, destination.port) { (source, destination) } else { (destination, source) };
        let key = (seen.protocol, both.0, both.1);
        if !self.open.contains_key(&key) {
            if self.open.len() >= MAX_FLOWS {
                self.unlooked += 1;
                return;
            }
            // Those that mean this flow at some time.
            let may = |mark: &Mark| {
                mark.scope.0.iter().any(|one| {
                    let always = glasshive_event::PacketMatch { since: None, until: None, ..one.clone() };
                    always.matches(at, seen.protocol, Some(seen.ends))
                })
            };
            let may = self.marks.iter().enumerate().filter(|(_, mark)| may(mark)).map(|(index, _)| index).collect();
            self.open.insert(key, may);
        }
        let Some(open) = self.open.get_mut(&key) else { return };
        open.retain(|index| {
            let said = self.marks.get(*index).filter(|mark| mark.scope.matches(at, seen.protocol, Some(seen.ends)));
            if let Some(mark) = said {
                options.push_text(code::COMMENT, mark.text.clone());
            }
            said.is_none()
        });
    }
}

/// Weaves the packets of `inputs` (each in order of time) and the story's derived ones; `put` takes the file's bytes in order.
pub(super) fn weave(
    inputs: &[PathBuf],
    story: &Story,
    about: &str,
    put: &mut dyn FnMut(&[u8]) -> Result<(), Failure>,
) -> Result<Woven, Failure> {
    let index = index(inputs)?;
    let mut woven = Woven::default();
    let addressed = place::addresses(story, &index.reserved);
    let placed = placed(inputs, &index, story, &addressed)?;
    let mut derived = derive(story, &placed, &mut woven);

    let mut out = Encoder::new();
    let mut options = OptionList::new();
    options.push_text(code::SHB_APPLICATION, format!("glasshive {}", glasshive_journal::build::version()));
    options.push_text(code::COMMENT, about.to_owned());
    out.section_header(&SectionHeader { options });
    for interface in &index.interfaces {
        out.interface(interface);
    }
    let own = index.interfaces.len() as u32;
    if derived.peek().is_some() {
        let mut interface = Interface::new(link_type::RAW_IP, DERIVED);
        let words =
            "Not captured: made from records of encrypted and tunnelled channels. Every packet's comment names its session and channel.";
        interface.options.push_text(code::IF_DESCRIPTION, words);
        out.interface(&interface);
    }
    for secrets in &index.secrets {
        out.secrets(secrets);
    }
    if !story.keylog.is_empty() {
        let data = Cow::Borrowed(story.keylog.as_bytes());
        out.secrets(&Secrets { kind: SecretsKind::TLS_KEY_LOG, data, options: OptionList::new() });
    }
    names(&index.names, story, &addressed, &mut out);
    put(&out.take())?;

    let mut readers = Vec::new();
    for (path, base) in inputs.iter().zip(&index.bases) {
        let mut reader = Reader::open(path, *base)?;
        let first = reader.next()?;
        readers.push((reader, first));
    }
    let mut marks = Marks::new(&story.marks);
    while let Some(frame) = take(&mut readers, &mut out)? {
        while derived.peek().is_some_and(|(segment, _)| segment.at_ns < frame.ns) {
            write(derived.next(), own, &mut out);
        }
        let mut options = frame.options;
        let link = index.interfaces.get(frame.interface as usize).map_or(0xffff, |interface| interface.link_type);
        if let Some(seen) = tuples::seen(link, &frame.data) {
            marks.say(seen, Timestamp(frame.ns), &mut options);
        }
        out.enhanced_packet(frame.interface, frame.time, frame.original_length, &frame.data, &options);
        woven.captured += 1;
        put(&out.take())?;
    }
    while derived.peek().is_some() {
        write(derived.next(), own, &mut out);
        put(&out.take())?;
    }
    put(&out.take())?;
    let mut note = |count: u64, what: &str| {
        if count > 0 {
            woven.notes.push(format!("{count} {what}"));
        }
    };
    note(index.back, "captured packets stand earlier in time than the one before them; they are kept in the order of the capture");
    note(index.unknown, "blocks of the original are of types this build does not know; decrypted.pcapng does not have them");
    note(marks.unlooked, "packets belong to flows beyond the limit of flows that get comments");
    Ok(woven)
}

/// Looks for the connections' hosts in everything captured, and gives each a port nobody has.
fn placed(
    inputs: &[PathBuf],
    index: &Index,
    story: &Story,
    addressed: &Addressed,
) -> Result<Vec<Option<(SocketAddr, SocketAddr)>>, Failure> {
    let mut pairs = Pairs::new(addressed.ends.iter().copied());
    if !pairs.is_empty() {
        for (path, base) in inputs.iter().zip(&index.bases) {
            let mut reader = Reader::open(path, *base)?;
            while let Some(next) = reader.next()? {
                if let Next::Frame(frame) = next {
                    pairs.look(&frame.data);
                }
            }
        }
    }
    Ok(place::ports(&story.connections, &addressed.ends, &pairs))
}

type Derived<'a> = std::iter::Peekable<std::vec::IntoIter<(Segment, &'a str)>>;

/// All derived packets in order of time.
fn derive<'a>(story: &'a Story, placed: &[Option<(SocketAddr, SocketAddr)>], woven: &mut Woven) -> Derived<'a> {
    let (mut all, mut lost) = (Vec::new(), 0u64);
    for (connection, ends) in story.connections.iter().zip(placed) {
        let Some((client, server)) = *ends else {
            lost += 1;
            continue;
        };
        woven.connections += 1;
        let segments = synth::packets(connection, client, server, place::isn(connection));
        all.extend(segments.into_iter().map(|segment| (segment, connection.about.as_str())));
    }
    if lost > 0 {
        woven.notes.push(format!("{lost} channels found no free port between their two addresses and were left out"));
    }
    woven.derived = all.len() as u64;
    // Stable: a connection's packets stay in their order.
    all.sort_by_key(|(segment, _)| segment.at_ns);
    all.into_iter().peekable()
}

fn write(next: Option<(Segment, &str)>, interface: u32, out: &mut Encoder) {
    let Some((segment, about)) = next else { return };
    let mut options = OptionList::new();
    for comment in segment.comments {
        options.push_text(code::COMMENT, comment);
    }
    options.push_text(code::COMMENT, about.to_owned());
    let time = u64::try_from(segment.at_ns).unwrap_or(0);
    out.enhanced_packet(interface, time, segment.bytes.len() as u32, &segment.bytes, &options);
}

/// The earliest captured packet; statistics on the way are written where they stand.
fn take(readers: &mut [(Reader, Option<Next>)], out: &mut Encoder) -> Result<Option<Frame>, Failure> {
    for (reader, next) in readers.iter_mut() {
        while let Some(Next::Statistics(statistics)) = next {
            out.statistics(statistics);
            *next = reader.next()?;
        }
    }
    let earliest = readers.iter().enumerate().filter_map(|(at, (_, next))| match next {
        Some(Next::Frame(frame)) => Some((frame.ns, at)),
        _ => None,
    });
    let Some((_, at)) = earliest.min() else { return Ok(None) };
    let Some((reader, next)) = readers.get_mut(at) else { return Ok(None) };
    let after = reader.next()?;
    match std::mem::replace(next, after) {
        Some(Next::Frame(frame)) => Ok(Some(frame)),
        _ => Ok(None),
    }
}

fn names(captured: &[NameRecord<'static>], story: &Story, addressed: &Addressed, out: &mut Encoder) {
    let own = story.names.iter().chain(&addressed.names);
    let own = own.map(|(address, name)| NameRecord { address: *address, names: vec![Cow::Borrowed(name.as_str())] });
    let all: Vec<NameRecord<'_>> = captured.iter().cloned().chain(own).collect();
    for some in all.chunks(NAMES) {
        out.names(some);
    }
}
