//! Dropped packets put together: the first of a kind is told at once, repeats are counted and told
//! after 10 s, then at doubling distances up to 10 min. Bounded in kinds and in records a second;
//! what does not fit is counted.

use super::{Direction, Packet};
use glasshive_event::detail::Blocked;
use glasshive_event::{Endpoint, Envelope, Kind, Timestamp, Transport, Tuple};
use std::collections::HashMap;
use std::net::IpAddr;

/// Kinds remembered.
const MAX_KINDS: usize = 1_024;
/// Records a second.
const MAX_RECORDS: u32 = 20;
/// Repeats are told after this, nanoseconds, then after twice as long.
const FIRST_WAIT_NS: u64 = 10_000_000_000;
/// At most this far apart; a kind that came no more for this long is forgotten.
const LONGEST_WAIT_NS: u64 = 600_000_000_000;

/// What makes two packets the same attempt; the sender's port does not.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    direction: Direction,
    protocol: u8,
    source: IpAddr,
    destination: IpAddr,
    port: u16,
    icmp: Option<(u8, u8)>,
    answer: bool,
    interface: String,
    prefix: String,
    uid: Option<u32>,
}

struct Seen {
    packet: Packet,
    first_ns: i64,
    last_ns: i64,
    untold: u64,
    total: u64,
    due_ns: u64,
    wait_ns: u64,
}

/// What was dropped lately.
#[derive(Default)]
pub struct Attempts {
    seen: HashMap<Key, Seen>,
    told_this_second: u32,
    unkept: u64,
}

impl Attempts {
    /// Takes one packet; answers with its record when it is the first of its kind.
    pub fn add(&mut self, packet: Packet, wall_ns: i64, mono_ns: u64) -> Option<(Envelope, Blocked)> {
        let key = Key {
            direction: packet.direction,
            protocol: packet.protocol,
            source: packet.source.ip(),
            destination: packet.destination.ip(),
            port: packet.destination.port(),
            icmp: packet.icmp,
            answer: is_answer(packet.protocol, packet.flags),
            interface: packet.interface.clone(),
            prefix: packet.prefix.clone(),
            uid: packet.uid,
        };
        if let Some(seen) = self.seen.get_mut(&key) {
            seen.last_ns = wall_ns;
            seen.untold = seen.untold.saturating_add(1);
            seen.total = seen.total.saturating_add(1);
            return None;
        }
        if self.seen.len() >= MAX_KINDS {
            self.unkept = self.unkept.saturating_add(1);
            return None;
        }
        let now = self.told_this_second < MAX_RECORDS;
        let wait_ns = FIRST_WAIT_NS;
        let due_ns = mono_ns.saturating_add(if now { wait_ns } else { 0 });
        let mut seen = Seen { packet, first_ns: wall_ns, last_ns: wall_ns, untold: 1, total: 1, due_ns, wait_ns };
        let told = now.then(|| {
            self.told_this_second = self.told_this_second.saturating_add(1);
            record(&mut seen)
        });
        self.seen.insert(key, seen);
        told
    }

    /// Once a second: records of repeats that are due.
    pub fn tick(&mut self, mono_ns: u64) -> Vec<(Envelope, Blocked)> {
        self.told_this_second = 0;
        let mut told = Vec::new();
        self.seen.retain(|_, seen| {
            if mono_ns < seen.due_ns {
                return true;
            }
            if seen.untold == 0 {
                return mono_ns < seen.due_ns.saturating_add(LONGEST_WAIT_NS);
            }
            if told.len() < MAX_RECORDS as usize {
                told.push(record(seen));
                seen.due_ns = mono_ns.saturating_add(seen.wait_ns);
                seen.wait_ns = seen.wait_ns.saturating_mul(2).min(LONGEST_WAIT_NS);
            }
            true
        });
        told
    }

    /// Everything untold, when the daemon ends.
    pub fn finish(&mut self) -> Vec<(Envelope, Blocked)> {
        self.seen.drain().map(|(_, seen)| seen).filter(|seen| seen.untold > 0).map(|mut seen| record(&mut seen)).collect()
    }

    /// Packets of kinds there was no room for, since the last time.
    pub fn take_unkept(&mut self) -> u64 {
        std::mem::take(&mut self.unkept)
    }
}

/// A TCP segment that answers: nothing begins with it.
fn is_answer(protocol: u8, flags: u8) -> bool {
    protocol == 6 && flags & 0x12 != 0x02
}

fn record(seen: &mut Seen) -> (Envelope, Blocked) {
    let packet = &seen.packet;
    let transport = match packet.protocol {
        6 => Some(Transport::Tcp),
        17 => Some(Transport::Udp),
        _ => None,
    };
    let wire = Tuple { source: Endpoint::from(packet.source), destination: Endpoint::from(packet.destination) };
    let envelope = Envelope { kind: Kind::Blocked.number(), transport, wire: Some(wire), ..Envelope::default() };
    let detail = Blocked {
        direction: packet.direction.name().to_owned(),
        protocol: packet.protocol,
        flags: packet.flags,
        icmp: packet.icmp,
        interface: packet.interface.clone(),
        prefix: packet.prefix.clone(),
        uid: packet.uid,
        count: seen.untold,
        total: seen.total,
        first: Some(Timestamp(seen.first_ns)),
        last: Some(Timestamp(seen.last_ns)),
        len: u64::from(packet.len),
        bytes: packet.bytes.clone(),
    };
    seen.untold = 0;
    (envelope, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn packet(port: u16, from: u16) -> Packet {
        Packet {
            direction: Direction::Out,
            protocol: 6,
            source: ([10, 66, 1, 10], from).into(),
            destination: ([192, 0, 2, 7], port).into(),
            flags: 2,
            icmp: None,
            interface: "dcy0".into(),
            prefix: "glasshive out".into(),
            uid: None,
            len: 60,
            bytes: "45".into(),
        }
    }

    #[test]
    fn a_flood_of_one_kind_is_a_few_records() {
        let mut attempts = Attempts::default();
        let mut told = Vec::new();
        // 1000 packets a second for an hour, from changing ports.
        for second in 0..3_600u64 {
            for index in 0..1_000u64 {
                told.extend(attempts.add(packet(443, index as u16), second as i64, second * SECOND));
            }
            told.extend(attempts.tick(second * SECOND));
        }
        told.extend(attempts.finish());
        assert!(told.len() < 16, "{}", told.len());
        assert_eq!((told[0].1.count, told[0].1.total), (1, 1), "the first is told at once");
        assert_eq!(told.iter().map(|(_, detail)| detail.count).sum::<u64>(), 3_600_000, "every packet is counted");
        assert_eq!(told.last().unwrap().1.total, 3_600_000);
        assert_eq!(attempts.take_unkept(), 0);
    }

    #[test]
    fn a_sweep_is_bounded_and_what_has_no_room_is_counted() {
        let mut attempts = Attempts::default();
        let mut told: Vec<_> = (1..=2_000).filter_map(|port| attempts.add(packet(port, 9), 1, SECOND)).collect();
        assert_eq!(told.len(), MAX_RECORDS as usize);
        for second in 1..200 {
            let more = attempts.tick(second * SECOND);
            assert!(more.len() <= MAX_RECORDS as usize);
            told.extend(more);
        }
        assert_eq!(told.len(), MAX_KINDS);
        assert_eq!(attempts.take_unkept(), 2_000 - MAX_KINDS as u64);
        // Quiet kinds are forgotten, and there is room again.
        attempts.tick(10_000 * SECOND);
        assert!(attempts.add(packet(5_000, 9), 1, 10_000 * SECOND).is_some());
    }

    #[test]
    fn answers_and_attempts_are_told_apart() {
        let mut attempts = Attempts::default();
        assert!(attempts.add(packet(443, 9), 1, 1).is_some());
        assert!(attempts.add(Packet { flags: 0x12, ..packet(443, 9) }, 1, 1).is_some(), "a SYN-ACK is another kind");
        assert!(attempts.add(Packet { flags: 0x10, ..packet(443, 9) }, 1, 1).is_none());
    }
}
