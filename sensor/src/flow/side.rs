//! The counts of one direction.

use crate::decode::{Few, Transport, Unit};
use glasshive_event::flow::Side;
use glasshive_event::text;

/// Payload bytes entropy is taken of.
const ENTROPY_BYTES: u16 = 4096;

/// How often each byte came, until enough came.
#[derive(Debug, Default)]
enum Entropy {
    #[default]
    Nothing,
    Counting(Box<[u16; 256]>, u16),
    Known(f32),
}

impl Entropy {
    fn add(&mut self, bytes: &[u8]) {
        if let Self::Nothing = self {
            *self = Self::Counting(Box::new([0; 256]), 0);
        }
        let Self::Counting(counts, total) = self else { return };
        let room = usize::from(ENTROPY_BYTES.saturating_sub(*total));
        let taken = bytes.get(..room).unwrap_or(bytes);
        for byte in taken {
            if let Some(count) = counts.get_mut(usize::from(*byte)) {
                *count = count.saturating_add(1);
            }
        }
        *total = total.saturating_add(taken.len() as u16);
        if *total >= ENTROPY_BYTES {
            *self = Self::Known(self.bits());
        }
    }

    fn bits(&self) -> f32 {
        match self {
            Self::Nothing => 0.0,
            Self::Known(bits) => *bits,
            Self::Counting(counts, total) => {
                let total = f64::from((*total).max(1));
                let parts = counts.iter().filter(|count| **count > 0).map(|count| {
                    let share = f64::from(*count) / total;
                    -share * share.log2()
                });
                // Never the negative zero of a sum of nothing.
                (parts.sum::<f64>() + 0.0) as f32
            }
        }
    }
}

/// What is kept of one direction.
#[derive(Debug, Default)]
pub(super) struct Counts {
    packets: u64,
    ip_bytes: u64,
    pub(super) payload_bytes: u64,
    pub(super) missed_bytes: u64,
    pub(super) retransmits: u64,
    pub(super) out_of_order: u64,
    pub(super) zero_window: u64,
    bad_checksum: u64,
    fragments: u64,
    truncated: u64,
    ttl: Option<(u8, u8)>,
    tcp_flags: u8,
    mac: Option<[u8; 6]>,
    sample: Few<u8, 64>,
    entropy: Entropy,
}

impl Counts {
    /// Notes a packet, without its payload.
    pub(super) fn packet(&mut self, unit: &Unit<'_>) {
        let add = |to: &mut u64, more: u64| *to = to.saturating_add(more);
        let packets = u64::from(unit.packets);
        add(&mut self.packets, packets);
        add(&mut self.ip_bytes, unit.ip_bytes);
        add(&mut self.bad_checksum, unit.bad_checksum.into());
        add(&mut self.fragments, unit.fragments.into());
        add(&mut self.truncated, unit.truncated.into());
        let (least, most) = self.ttl.unwrap_or((unit.ttl, unit.ttl));
        self.ttl = Some((least.min(unit.ttl), most.max(unit.ttl)));
        if let Transport::Tcp(tcp) = unit.transport {
            self.tcp_flags |= tcp.flags;
        }
        if self.mac.is_none() {
            self.mac = unit.macs.0;
        }
    }

    /// The other end's hardware address, until it speaks itself.
    pub(super) fn spoken_to(&mut self, mac: Option<[u8; 6]>) {
        // A group's address is nobody's.
        if let (None, Some([first, ..])) = (self.mac, mac)
            && first & 1 == 0
        {
            self.mac = mac;
        }
    }

    /// Notes payload in its order.
    pub(super) fn payload(&mut self, bytes: &[u8]) {
        for byte in bytes {
            if !self.sample.push(*byte) {
                break;
            }
        }
        if !matches!(self.entropy, Entropy::Known(_)) && !bytes.is_empty() {
            self.entropy.add(bytes);
        }
    }

    pub(super) fn has_packets(&self) -> bool {
        self.packets > 0
    }

    /// As a record shows it.
    pub(super) fn side(&self) -> Side {
        let (ttl_min, ttl_max) = self.ttl.unwrap_or_default();
        Side {
            packets: self.packets,
            ip_bytes: self.ip_bytes,
            payload_bytes: self.payload_bytes,
            missed_bytes: self.missed_bytes,
            retransmits: self.retransmits,
            out_of_order: self.out_of_order,
            zero_window: self.zero_window,
            bad_checksum: self.bad_checksum,
            fragments: self.fragments,
            truncated: self.truncated,
            ttl_min,
            ttl_max,
            tcp_flags: self.tcp_flags,
            sample: text::hex(self.sample.as_slice()),
            entropy: self.entropy.bits(),
            mac: self.mac.map(crate::decode::mac),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entropy_is_of_the_first_bytes_only() {
        let of = |parts: &[&[u8]]| {
            let mut counts = Counts::default();
            parts.iter().for_each(|part| counts.payload(part));
            counts.side().entropy
        };
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!((of(&[]), of(&[b"aaaa"]), of(&[b"ab", b"ab"]), of(&[&all])), (0.0, 0.0, 1.0, 8.0));
        assert!(of(&[]).is_sign_positive() && of(&[b"a"]).is_sign_positive());
        assert_eq!(of(&[&[b'a'; 4096], &all]), 0.0);
        assert_eq!(of(&[&all.repeat(17)]), of(&[&all.repeat(16)]));
    }
}
