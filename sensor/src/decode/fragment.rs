//! IP fragments put together: the first to claim a byte wins, others that differ are told.
//!
//! It holds at most [`MAX_DATAGRAMS`] datagrams of [`MAX_BYTES`] in all; the oldest goes when there is no room.

use super::Context;
use super::ip::Head;
use glasshive_event::Timestamp;
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

/// Datagrams held at once.
const MAX_DATAGRAMS: usize = 1024;
/// Bytes held at once, what each piece costs besides included.
const MAX_BYTES: usize = 8 << 20;
/// What a piece costs besides its bytes.
const PIECE_COST: usize = 64;
/// Pieces of one datagram: the smallest MTU makes 1 400 of the largest.
const MAX_PIECES: usize = 2048;
/// Largest datagram.
const MAX_LENGTH: u32 = 65_535;
/// How long the rest is waited for (RFC 8200 says 60 s, hosts take 30 s).
const WAIT_NS: i64 = 30_000_000_000;

/// Which datagram a fragment belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) source: IpAddr,
    pub(super) destination: IpAddr,
    pub(super) id: u32,
    pub(super) protocol: u8,
    pub(super) depth: u8,
}

/// One fragment.
pub(super) struct Piece<'a> {
    pub(super) head: Head,
    pub(super) offset: u32,
    pub(super) more: bool,
    pub(super) bytes: &'a [u8],
    pub(super) context: Context<'static>,
}

/// A datagram put together, or the beginning of one.
#[derive(Debug)]
pub(super) struct Datagram {
    pub(super) head: Head,
    pub(super) protocol: u8,
    pub(super) context: Context<'static>,
    pub(super) bytes: Vec<u8>,
}

pub(super) enum Added {
    Held,
    Whole(Box<Datagram>),
    Refused(&'static str),
}

#[derive(Debug)]
struct Held {
    head: Head,
    context: Context<'static>,
    order: u64,
    pieces: BTreeMap<u32, Vec<u8>>,
    /// Bytes covered, and where the datagram ends once known.
    covered: usize,
    end: Option<u32>,
}

impl Held {
    fn cost(&self) -> usize {
        self.covered.saturating_add(self.pieces.len().saturating_mul(PIECE_COST))
    }

    /// What is there from the start on.
    fn into_datagram(self, protocol: u8) -> Datagram {
        let mut bytes = Vec::with_capacity(self.covered);
        for (offset, piece) in &self.pieces {
            if *offset as usize != bytes.len() {
                break;
            }
            bytes.extend_from_slice(piece);
        }
        Datagram { head: self.head, protocol, context: self.context, bytes }
    }
}

#[derive(Debug, Default)]
pub(super) struct Fragments {
    held: HashMap<Key, Held>,
    order: BTreeMap<u64, Key>,
    ticket: u64,
    bytes: usize,
    evicted: u64,
    out: Vec<Datagram>,
}

impl Fragments {
    /// Takes a fragment; also tells where in it bytes differ from those there were.
    pub(super) fn add(&mut self, key: Key, piece: Piece<'_>) -> (Added, Option<usize>) {
        let length = piece.bytes.len();
        let end = piece.offset.saturating_add(u32::try_from(length).unwrap_or(u32::MAX));
        if end > MAX_LENGTH {
            return (Added::Refused("fragment beyond the largest datagram"), None);
        }
        if length == 0 || (piece.more && !length.is_multiple_of(8)) {
            return (Added::Refused("fragment of a length that cannot be"), None);
        }
        let held = self.held.entry(key).or_insert_with(|| {
            self.ticket = self.ticket.saturating_add(1);
            self.order.insert(self.ticket, key);
            let head = Head { ip_bytes: 0, packets: 0, fragments: 0, ..piece.head };
            Held { head, context: piece.context, order: self.ticket, pieces: BTreeMap::new(), covered: 0, end: None }
        });
        if held.end.is_some_and(|known| end > known || (!piece.more && end != known)) || (!piece.more && held.reach() > end) {
            return (Added::Refused("fragments that disagree on the end"), None);
        }
        let before = held.cost();
        if !piece.more {
            held.end = Some(end);
        }
        held.head.ip_bytes = held.head.ip_bytes.saturating_add(piece.head.ip_bytes);
        held.head.packets = held.head.packets.saturating_add(1);
        held.head.fragments = held.head.fragments.saturating_add(1);
        held.head.bad_checksum |= piece.head.bad_checksum;
        if piece.offset == 0 {
            held.head.ttl = piece.head.ttl;
        }
        let conflict = held.insert(piece.offset, piece.bytes);
        let (full, after) = (held.pieces.len() > MAX_PIECES, held.cost());
        let whole = held.end.is_some_and(|end| held.covered >= end as usize);
        self.bytes = self.bytes.saturating_sub(before).saturating_add(after);
        if whole {
            let added = self.remove(&key).map_or(Added::Held, |datagram| Added::Whole(Box::new(datagram)));
            return (added, conflict);
        }
        if full {
            self.evict(Some(key));
        }
        while self.held.len() > MAX_DATAGRAMS || self.bytes > MAX_BYTES {
            self.evict(None);
        }
        (Added::Held, conflict)
    }

    fn evict(&mut self, key: Option<Key>) {
        let Some(key) = key.or_else(|| self.order.first_key_value().map(|(_, key)| *key)) else { return };
        self.evicted = self.evicted.saturating_add(1);
        if let Some(datagram) = self.remove(&key) {
            self.out.push(datagram);
        }
    }

    fn remove(&mut self, key: &Key) -> Option<Datagram> {
        let held = self.held.remove(key)?;
        self.order.remove(&held.order);
        self.bytes = self.bytes.saturating_sub(held.cost());
        Some(held.into_datagram(key.protocol))
    }

    /// One that had to go for want of room.
    pub(super) fn pop_evicted(&mut self) -> Option<Datagram> {
        self.out.pop()
    }

    /// One that waited too long, oldest first.
    pub(super) fn pop_due(&mut self, now: Timestamp) -> Option<Datagram> {
        let (_, key) = self.order.first_key_value()?;
        let since = self.held.get(key)?.context.at;
        if now.0.saturating_sub(since.0) < WAIT_NS {
            return None;
        }
        self.pop_oldest()
    }

    pub(super) fn pop_oldest(&mut self) -> Option<Datagram> {
        let (_, key) = self.order.first_key_value()?;
        let key = *key;
        self.remove(&key)
    }

    /// Datagrams forgotten for want of room.
    pub(super) fn evicted(&self) -> u64 {
        self.evicted
    }
}

impl Held {
    /// End of the last byte there is.
    fn reach(&self) -> u32 {
        self.pieces.last_key_value().map_or(0, |(offset, piece)| offset.saturating_add(piece.len() as u32))
    }

    /// Keeps what is new of a piece; tells where it differs from what there was.
    fn insert(&mut self, offset: u32, bytes: &[u8]) -> Option<usize> {
        let end = offset.saturating_add(bytes.len() as u32);
        let mut conflict = None;
        let mut at = offset;
        let mut fresh = Vec::new();
        let first = self.pieces.range(..=offset).next_back().map_or(offset, |(start, _)| *start);
        for (start, piece) in self.pieces.range(first..end) {
            let stop = start.saturating_add(piece.len() as u32);
            if stop <= at {
                continue;
            }
            if *start > at {
                fresh.push((at, *start));
                at = *start;
            }
            let until = stop.min(end);
            let old = piece.get((at.saturating_sub(*start)) as usize..(until.saturating_sub(*start)) as usize);
            let new = bytes.get((at.saturating_sub(offset)) as usize..(until.saturating_sub(offset)) as usize);
            if old != new && conflict.is_none() {
                let same = old.unwrap_or_default().iter().zip(new.unwrap_or_default()).take_while(|(old, new)| old == new).count();
                conflict = Some((at.saturating_sub(offset) as usize).saturating_add(same));
            }
            at = until;
        }
        if at < end {
            fresh.push((at, end));
        }
        for (from, to) in fresh {
            let part = bytes.get(from.saturating_sub(offset) as usize..to.saturating_sub(offset) as usize).unwrap_or_default();
            self.covered = self.covered.saturating_add(part.len());
            self.pieces.insert(from, part.to_vec());
        }
        conflict
    }
}
