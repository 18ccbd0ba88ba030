//! Making a part: pairs of number and offset are gathered, sorted once, and written as lists.

use super::{BLOCK, ENTRY, HEAD, Key, MAGIC, STRETCH};
use glasshive_event::Timestamp;
use glasshive_proto::layers::{Layer, Layers};
use std::net::SocketAddr;

/// Pairs a part holds; 16 MiB while it is made.
const MAX_PAIRS: usize = 1 << 20;
/// Bytes of the segment a part speaks of: what a lookup must read that finds it not yet written.
const MAX_BYTES: u64 = 32 << 20;
/// Connections whose number is remembered, a power of two.
const REMEMBERED: usize = 1024;

#[derive(Debug, Clone, Copy)]
struct Time {
    offset: u64,
    earliest: Timestamp,
    latest: Timestamp,
}

/// Gathers one part.
#[derive(Debug)]
pub struct Builder {
    from: u64,
    to: u64,
    packets: u32,
    pairs: Vec<(u64, u32)>,
    times: Vec<Time>,
    flows: Vec<Option<(u8, SocketAddr, SocketAddr, u64)>>,
}

impl Builder {
    /// A part that begins at `from`.
    pub fn new(from: u64) -> Self {
        Self { from, to: from, packets: 0, pairs: Vec::new(), times: Vec::new(), flows: vec![None; REMEMBERED] }
    }

    /// Where it ends so far.
    pub fn to(&self) -> u64 {
        self.to
    }

    /// Whether it should be written.
    pub fn is_full(&self) -> bool {
        self.pairs.len() >= MAX_PAIRS || self.to.saturating_sub(self.from) >= MAX_BYTES
    }

    /// Passes over a block that is no packet.
    pub fn pass(&mut self, end: u64) {
        self.to = end;
    }

    /// Adds the packet at `offset`, whose block ends at `end`.
    pub fn add(&mut self, offset: u64, end: u64, at: Timestamp, layers: &Layers) {
        self.to = end;
        self.packets = self.packets.saturating_add(1);
        match self.times.last_mut() {
            Some(last) if offset.saturating_sub(last.offset) < STRETCH => {
                last.earliest = last.earliest.min(at);
                last.latest = last.latest.max(at);
            }
            _ => self.times.push(Time { offset, earliest: at, latest: at }),
        }
        let Ok(place) = u32::try_from(offset / 4) else { return };
        let first = self.pairs.len();
        for layer in layers.iter() {
            self.pairs.push((Key::Address(layer.source.ip()).number(), place));
            self.pairs.push((Key::Address(layer.destination.ip()).number(), place));
            if layer.ports {
                self.pairs.push((Key::Port(layer.source.port()).number(), place));
                self.pairs.push((Key::Port(layer.destination.port()).number(), place));
            }
            if layer.later_fragment {
                self.pairs.push((Key::LaterFragment.number(), place));
            }
            match layer.protocol {
                None => self.pairs.push((Key::Arp.number(), place)),
                Some(protocol) => {
                    if !matches!(protocol, 6 | 17) {
                        self.pairs.push((Key::Protocol(protocol).number(), place));
                    }
                    if let Some(number) = self.flow(layer, protocol) {
                        self.pairs.push((number, place));
                    }
                }
            }
        }
        // Both ends or two layers may say the same.
        if let Some(new) = self.pairs.get_mut(first..) {
            new.sort_unstable();
        }
        let mut kept = first;
        for at in first..self.pairs.len() {
            let pair = self.pairs.get(at).copied();
            if kept == first || self.pairs.get(kept.wrapping_sub(1)).copied() != pair {
                if let (Some(slot), Some(pair)) = (self.pairs.get_mut(kept), pair) {
                    *slot = pair;
                }
                kept += 1;
            }
        }
        self.pairs.truncate(kept);
    }

    /// Number of a layer's connection; the Community ID is computed once for packets that follow each other.
    fn flow(&mut self, layer: &Layer, protocol: u8) -> Option<u64> {
        if layer.later_fragment {
            return None;
        }
        let Layer { source, destination, .. } = *layer;
        let slot =
            usize::from(source.port() ^ destination.port()) ^ usize::from(last(source.ip())) ^ usize::from(last(destination.ip())) << 2;
        let slot = self.flows.get_mut(slot % REMEMBERED)?;
        if let Some((known, from, to, number)) = slot
            && (*known, *from, *to) == (protocol, source, destination)
        {
            return Some(*number);
        }
        let id = glasshive_proto::community_id::community_id(protocol, source.ip(), source.port(), destination.ip(), destination.port())?;
        let number = Key::Flow(&id).number();
        *slot = Some((protocol, source, destination, number));
        Some(number)
    }

    /// The part's bytes; the builder then goes on behind it.
    pub fn finish(&mut self) -> Vec<u8> {
        self.pairs.sort_unstable();
        let (mut keys, mut lists) = (Vec::new(), Vec::new());
        let mut count = 0u32;
        let mut block = 0;
        for same in self.pairs.chunk_by(|a, b| a.0 == b.0) {
            let Some((number, first)) = same.first().copied() else { continue };
            let (place, bytes) = if same.len() == 1 { (first, 0) } else { list(&mut lists, same) };
            keys.extend_from_slice(&number.to_le_bytes());
            keys.extend_from_slice(&place.to_le_bytes());
            keys.extend_from_slice(&bytes.to_le_bytes());
            count += 1;
            if (count as usize).is_multiple_of(BLOCK) {
                close(&mut keys, &mut block);
            }
        }
        if keys.len() > block {
            close(&mut keys, &mut block);
        }
        let mut times = Vec::with_capacity(self.times.len() * super::TIME);
        for time in &self.times {
            times.extend_from_slice(&time.offset.to_le_bytes());
            times.extend_from_slice(&time.earliest.0.to_le_bytes());
            times.extend_from_slice(&time.latest.0.to_le_bytes());
        }
        let earliest = self.times.iter().map(|time| time.earliest.0).min().unwrap_or(i64::MAX);
        let latest = self.times.iter().map(|time| time.latest.0).max().unwrap_or(i64::MIN);
        let length = HEAD + times.len() + keys.len() + lists.len();
        let mut out = Vec::with_capacity(length);
        out.extend_from_slice(MAGIC);
        for number in [length as u32, count, self.times.len() as u32, lists.len() as u32, self.packets, crc32fast::hash(&times)] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        for number in [self.from, self.to, earliest.cast_unsigned(), latest.cast_unsigned(), 0] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(&[0; 4]);
        let crc = crc32fast::hash(&out);
        out.extend_from_slice(&crc.to_le_bytes());
        out.extend_from_slice(&times);
        out.extend_from_slice(&keys);
        out.extend_from_slice(&lists);
        self.from = self.to;
        self.packets = 0;
        self.pairs.clear();
        self.times.clear();
        out
    }
}

const _: () = assert!(ENTRY == 16);

/// Ends a block of keys with its checksum.
fn close(keys: &mut Vec<u8>, block: &mut usize) {
    let crc = crc32fast::hash(keys.get(*block..).unwrap_or_default());
    keys.extend_from_slice(&crc.to_le_bytes());
    *block = keys.len();
}

/// Writes one list; its place and length.
fn list(lists: &mut Vec<u8>, pairs: &[(u64, u32)]) -> (u32, u32) {
    let start = lists.len();
    let mut before = 0;
    for (_, place) in pairs {
        let mut rest = place.wrapping_sub(before);
        before = *place;
        while rest >= 0x80 {
            lists.push(rest as u8 | 0x80);
            rest >>= 7;
        }
        lists.push(rest as u8);
    }
    let bytes = lists.len() - start;
    let crc = crc32fast::hash(lists.get(start..).unwrap_or_default());
    lists.extend_from_slice(&crc.to_le_bytes());
    (start as u32, bytes as u32)
}

fn last(ip: std::net::IpAddr) -> u8 {
    match ip {
        std::net::IpAddr::V4(ip) => ip.octets()[3],
        std::net::IpAddr::V6(ip) => ip.octets()[15],
    }
}
