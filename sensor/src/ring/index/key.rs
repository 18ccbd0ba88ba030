//! What packets are found by, as fixed 64-bit numbers: equal everywhere, on every machine.

use std::net::IpAddr;

/// One thing packets are found by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key<'a> {
    /// A connection, by its Community ID (`1:…`).
    Flow(&'a str),
    /// An address, of any layer.
    Address(IpAddr),
    /// A port.
    Port(u16),
    /// An IP protocol other than TCP and UDP.
    Protocol(u8),
    /// ARP packets.
    Arp,
    /// Fragments behind the first, which have no ports.
    LaterFragment,
}

impl Key<'_> {
    /// Its number. Two things may share one: candidates are always looked at again.
    pub fn number(&self) -> u64 {
        match self {
            Self::Flow(id) => words(1, id.as_bytes()),
            Self::Address(IpAddr::V4(address)) => words(2, &address.octets()),
            Self::Address(IpAddr::V6(address)) => words(2, &address.octets()),
            Self::Port(port) => words(3, &port.to_le_bytes()),
            Self::Protocol(protocol) => words(4, &[*protocol]),
            Self::Arp => words(5, &[]),
            Self::LaterFragment => words(6, &[]),
        }
    }
}

fn words(kind: u64, bytes: &[u8]) -> u64 {
    let mut state = mix(kind ^ (bytes.len() as u64) << 8);
    for part in bytes.chunks(8) {
        let mut word = [0; 8];
        word.iter_mut().zip(part).for_each(|(to, from)| *to = *from);
        state = mix(state ^ u64::from_le_bytes(word));
    }
    state
}

/// The finalizer of splitmix64: every input bit reaches every output bit.
fn mix(mut value: u64) -> u64 {
    value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    value = (value ^ value >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ value >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ value >> 31
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A change here makes every stored index unreadable: then raise the index's version.
    #[test]
    fn numbers_are_fixed_and_differ() {
        let keys = [
            Key::Flow("1:LQU9qZlK+B5F3KDmev6m5PMibrg="),
            Key::Address("10.0.0.1".parse().unwrap()),
            Key::Address("::1".parse().unwrap()),
            Key::Port(22),
            Key::Protocol(1),
            Key::Arp,
            Key::LaterFragment,
        ];
        let numbers: Vec<u64> = keys.iter().map(Key::number).collect();
        let mut sorted = numbers.clone();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(sorted.len(), keys.len());
        assert_eq!(Key::Port(22).number(), words(3, &[22, 0]));
        assert_eq!(mix(0), 0xe220_a839_7b1d_cdaf);
    }
}
