//! The Internet checksum (RFC 1071) with TCP's and UDP's pseudo header.

use std::net::IpAddr;

/// Sum of big-endian halves, not folded yet.
fn sum(bytes: &[u8]) -> u64 {
    let (quads, rest) = bytes.as_chunks::<4>();
    let mut total = quads.iter().fold(0u64, |total, quad| total.wrapping_add(u64::from(u32::from_be_bytes(*quad))));
    let mut last = [0; 4];
    for (to, from) in last.iter_mut().zip(rest) {
        *to = *from;
    }
    total = total.wrapping_add(u64::from(u32::from_be_bytes(last)));
    total
}

fn folds_to_ones(mut total: u64) -> bool {
    while total > 0xffff {
        total = (total & 0xffff).wrapping_add(total >> 16);
    }
    total == 0xffff
}

/// Whether the checksum within `bytes` (an IPv4 header, an ICMP message) is right.
pub(super) fn is_right(bytes: &[u8]) -> bool {
    folds_to_ones(sum(bytes))
}

/// Whether the checksum within a TCP segment, UDP datagram or ICMPv6 message is right.
pub(super) fn is_right_between(source: IpAddr, destination: IpAddr, protocol: u8, bytes: &[u8]) -> bool {
    let address = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => sum(&ip.octets()),
        IpAddr::V6(ip) => sum(&ip.octets()),
    };
    let pseudo = address(source).wrapping_add(address(destination)).wrapping_add(u64::from(protocol)).wrapping_add(bytes.len() as u64);
    folds_to_ones(pseudo.wrapping_add(sum(bytes)))
}
