//! A small reader of Ethernet captures for tests: IPv4 and IPv6, TCP put in order by its numbers, UDP.
//! Plain on purpose: what it does not know it leaves out.

use glasshive_event::Timestamp;
use glasshive_event::observation::Fact;
use glasshive_pcapng::Packets;
use glasshive_sensor::app::{Conversation, Speaker};
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

/// What one flow was given and what it said.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) protocol: String,
    pub(crate) facts: Vec<Fact>,
    /// The stream's pieces in the order they were given; `Err`: so many bytes were missing.
    pub(crate) given: Vec<(Speaker, Result<Vec<u8>, u64>)>,
}

#[derive(Debug, Default)]
struct Half {
    next: Option<u32>,
    offset: u64,
    waiting: BTreeMap<u32, Vec<u8>>,
}

struct Flow {
    conversation: Conversation,
    source: (IpAddr, u16),
    halves: [Half; 2],
    facts: Vec<Fact>,
    given: Vec<(Speaker, Result<Vec<u8>, u64>)>,
}

type End = (IpAddr, u16);

/// Reads a capture and lets the parsers speak.
pub(crate) fn tell(file: &[u8]) -> Vec<Told> {
    let mut packets = Packets::new(file);
    let mut flows: HashMap<(u8, End, End), Flow> = HashMap::new();
    let mut done = Vec::new();
    let mut order = Vec::new();
    while let Some(packet) = packets.next_packet() {
        let at = Timestamp(packet.time_ns);
        let Some((protocol, source, destination, body)) = (packet.link_type == 1).then(|| network(packet.data)).flatten() else { continue };
        let Some((a, b, tcp, payload)) = transport(protocol, body) else { continue };
        let (from, to) = ((source, a), (destination, b));
        let key = if from <= to { (protocol, from, to) } else { (protocol, to, from) };
        let syn = tcp.is_some_and(|(_, flags)| flags & 0x12 == 2);
        if syn && flows.get(&key).is_some_and(|flow| flow.halves.iter().any(|half| half.offset > 0)) {
            done.extend(flows.remove(&key).map(|flow| end(flow, at)));
        }
        let flow = flows.entry(key).or_insert_with(|| {
            order.push(key);
            let swapped = tcp.is_some_and(|(_, flags)| flags & 0x12 == 0x12) || protocol == 17 && a < 1024 && b >= 1024;
            let (source, port) = if swapped { (to, a) } else { (from, b) };
            Flow {
                conversation: Conversation::new(protocol, port),
                source,
                halves: Default::default(),
                facts: Vec::new(),
                given: Vec::new(),
            }
        });
        let speaker = if flow.source == from { Speaker::Source } else { Speaker::Destination };
        match tcp {
            None => flow.conversation.datagram(at, speaker, payload, &mut flow.facts),
            Some((seq, flags)) => segment(flow, at, speaker, seq, flags, payload),
        }
    }
    let at = Timestamp(0);
    for key in order {
        done.extend(flows.remove(&key).map(|flow| end(flow, at)));
    }
    done
}

fn end(mut flow: Flow, at: Timestamp) -> Told {
    for speaker in [Speaker::Source, Speaker::Destination] {
        flush(&mut flow, at, speaker);
    }
    flow.conversation.finish(at, &mut flow.facts);
    let protocol = flow.conversation.application().map(|a| a.protocol.clone()).unwrap_or_default();
    Told { protocol, facts: flow.facts, given: flow.given }
}

fn segment(flow: &mut Flow, at: Timestamp, speaker: Speaker, seq: u32, flags: u8, payload: &[u8]) {
    let half = &mut flow.halves[speaker as usize];
    let seq = if flags & 2 != 0 {
        half.next.get_or_insert(seq.wrapping_add(1));
        seq.wrapping_add(1)
    } else {
        seq
    };
    if payload.is_empty() {
        return;
    }
    half.next.get_or_insert(seq);
    half.waiting
        .entry(seq)
        .and_modify(|old| {
            if old.len() < payload.len() {
                *old = payload.to_vec()
            }
        })
        .or_insert_with(|| payload.to_vec());
    deliver(flow, at, speaker);
    if flow.halves[speaker as usize].waiting.len() > 64 {
        flush(flow, at, speaker);
    }
}

fn deliver(flow: &mut Flow, at: Timestamp, speaker: Speaker) {
    loop {
        let half = &mut flow.halves[speaker as usize];
        let Some(next) = half.next else { return };
        let Some(seq) = half.waiting.keys().copied().find(|seq| (next.wrapping_sub(*seq) as i32) >= 0) else { return };
        let bytes = half.waiting.remove(&seq).unwrap();
        let old = next.wrapping_sub(seq) as usize;
        if let Some(new) = bytes.get(old..).filter(|new| !new.is_empty()) {
            flow.conversation.bytes(at, speaker, half.offset, new, &mut flow.facts);
            flow.given.push((speaker, Ok(new.to_vec())));
            half.offset += new.len() as u64;
            half.next = Some(next.wrapping_add(new.len() as u32));
        }
    }
}

/// Gives up on what is missing.
fn flush(flow: &mut Flow, at: Timestamp, speaker: Speaker) {
    loop {
        deliver(flow, at, speaker);
        let half = &mut flow.halves[speaker as usize];
        let Some(next) = half.next else { return };
        let Some(seq) = half.waiting.keys().copied().min_by_key(|seq| seq.wrapping_sub(next)) else { return };
        let missing = u64::from(seq.wrapping_sub(next));
        flow.conversation.gap(at, speaker, missing, &mut flow.facts);
        flow.given.push((speaker, Err(missing)));
        half.offset += missing;
        half.next = Some(seq);
    }
}

fn network(frame: &[u8]) -> Option<(u8, IpAddr, IpAddr, &[u8])> {
    let mut at = 12;
    let mut kind = u16::from_be_bytes(frame.get(at..at + 2)?.try_into().ok()?);
    while matches!(kind, 0x8100 | 0x88a8) {
        at += 4;
        kind = u16::from_be_bytes(frame.get(at..at + 2)?.try_into().ok()?);
    }
    let ip = frame.get(at + 2..)?;
    match kind {
        0x0800 => {
            let header = usize::from(ip.first()? & 15) * 4;
            let total = usize::from(u16::from_be_bytes([*ip.get(2)?, *ip.get(3)?]));
            let total = if total == 0 { ip.len() } else { total.min(ip.len()) };
            if u16::from_be_bytes([*ip.get(6)?, *ip.get(7)?]) & 0x3fff != 0 {
                return None;
            }
            let address = |from: usize| ip.get(from..from + 4).and_then(|b| <[u8; 4]>::try_from(b).ok()).map(IpAddr::from);
            Some((*ip.get(9)?, address(12)?, address(16)?, ip.get(header..total)?))
        }
        0x86dd => {
            let length = usize::from(u16::from_be_bytes([*ip.get(4)?, *ip.get(5)?]));
            let address = |from: usize| ip.get(from..from + 16).and_then(|b| <[u8; 16]>::try_from(b).ok()).map(IpAddr::from);
            Some((*ip.get(6)?, address(8)?, address(24)?, ip.get(40..(40 + length).min(ip.len()))?))
        }
        _ => None,
    }
}

type Transport<'a> = (u16, u16, Option<(u32, u8)>, &'a [u8]);

fn transport(protocol: u8, body: &[u8]) -> Option<Transport<'_>> {
    let port = |at: usize| body.get(at..at + 2).map(|b| u16::from_be_bytes([b[0], b[1]]));
    match protocol {
        6 => {
            let seq = u32::from_be_bytes(body.get(4..8)?.try_into().ok()?);
            let header = usize::from(body.get(12)? >> 4) * 4;
            Some((port(0)?, port(2)?, Some((seq, *body.get(13)?)), body.get(header..)?))
        }
        17 => Some((port(0)?, port(2)?, None, body.get(8..)?)),
        _ => None,
    }
}
