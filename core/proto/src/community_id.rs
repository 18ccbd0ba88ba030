//! Community ID version 1: the flow name other tools (Zeek, Suricata, Wireshark) compute too.
//!
//! `"1:" + base64(SHA-1(seed ‖ address ‖ address ‖ protocol ‖ 0 [‖ port ‖ port]))` with the smaller
//! endpoint first. For outsiders only; it must never be used as a key of ours: it repeats when ports do.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest as _, Sha1};
use std::net::IpAddr;

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;
const SCTP: u8 = 132;

/// The Community ID of a flow with the default seed 0.
///
/// `protocol` is the IP protocol number. For ICMP and ICMPv6 give the message's type as
/// `source_port` and its code as `destination_port`. Ports of other protocols than TCP, UDP, SCTP,
/// ICMP and ICMPv6 do not count. `None` when the addresses are of different families.
pub fn community_id(protocol: u8, source: IpAddr, source_port: u16, destination: IpAddr, destination_port: u16) -> Option<String> {
    seeded(0, protocol, source, source_port, destination, destination_port)
}

/// [`community_id`] within another seed's domain.
pub fn seeded(seed: u16, protocol: u8, source: IpAddr, source_port: u16, destination: IpAddr, destination_port: u16) -> Option<String> {
    if source.is_ipv4() != destination.is_ipv4() {
        return None;
    }
    let (ports, one_way) = match protocol {
        TCP | UDP | SCTP => (Some((source_port, destination_port)), false),
        ICMP | ICMPV6 => match counterpart(protocol, source_port) {
            Some(answer) => (Some((source_port, answer)), false),
            None => (Some((source_port, destination_port)), true),
        },
        _ => (None, false),
    };
    let (from, to) = ports.unwrap_or((0, 0));
    let (low, high) = if one_way || (source, from) < (destination, to) {
        ((source, from), (destination, to))
    } else {
        ((destination, to), (source, from))
    };

    let mut hash = Sha1::new();
    hash.update(seed.to_be_bytes());
    update_address(&mut hash, low.0);
    update_address(&mut hash, high.0);
    hash.update([protocol, 0]);
    if ports.is_some() {
        hash.update(low.1.to_be_bytes());
        hash.update(high.1.to_be_bytes());
    }
    Some(format!("1:{}", STANDARD.encode(hash.finalize())))
}

fn update_address(hash: &mut Sha1, address: IpAddr) {
    match address {
        IpAddr::V4(a) => hash.update(a.octets()),
        IpAddr::V6(a) => hash.update(a.octets()),
    }
}

/// The message type that answers an ICMP type, which plays the other port; `None` for one-way messages.
fn counterpart(protocol: u8, kind: u16) -> Option<u16> {
    const V4: &[(u16, u16)] = &[(8, 0), (10, 9), (13, 14), (15, 16), (17, 18)];
    const V6: &[(u16, u16)] = &[(128, 129), (130, 131), (133, 134), (135, 136), (139, 140), (144, 145)];
    let pairs = if protocol == ICMP { V4 } else { V6 };
    pairs.iter().find_map(|&(ask, answer)| match kind {
        k if k == ask => Some(answer),
        k if k == answer => Some(ask),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(protocol: u8, source: &str, source_port: u16, destination: &str, destination_port: u16, expected: &str) {
        let id = community_id(protocol, source.parse().unwrap(), source_port, destination.parse().unwrap(), destination_port);
        assert_eq!(id.as_deref(), Some(expected), "{protocol} {source}:{source_port} {destination}:{destination_port}");
    }

    /// The published baseline of the specification (seed 0).
    #[test]
    fn published_vectors() {
        check(6, "128.232.110.120", 34855, "66.35.250.204", 80, "1:LQU9qZlK+B5F3KDmev6m5PMibrg=");
        check(6, "66.35.250.204", 80, "128.232.110.120", 34855, "1:LQU9qZlK+B5F3KDmev6m5PMibrg=");
        check(17, "192.168.1.52", 54585, "8.8.8.8", 53, "1:d/FP5EW3wiY1vCndhwleRRKHowQ=");
        check(17, "8.8.8.8", 53, "192.168.1.52", 54585, "1:d/FP5EW3wiY1vCndhwleRRKHowQ=");
        let (a, b) = ("2001:470:e5bf:dead:4957:2174:e82c:4887", "2607:f8b0:400c:c03::1a");
        check(6, a, 63943, b, 25, "1:/qFaeAR+gFe1KYjMzVDsMv+wgU4=");
        check(6, b, 25, a, 63943, "1:/qFaeAR+gFe1KYjMzVDsMv+wgU4=");
        check(132, "192.168.170.8", 7, "192.168.170.56", 7, "1:MP2EtRCAUIZvTw6MxJHLV7N7JDs=");
        check(132, "192.168.170.56", 7, "192.168.170.8", 7, "1:MP2EtRCAUIZvTw6MxJHLV7N7JDs=");
        check(46, "10.1.12.1", 0, "10.1.12.2", 0, "1:KHlLkgoJW7ifUTyTSgyVfkFHzKw=");
        check(46, "10.1.12.2", 99, "10.1.12.1", 98, "1:KHlLkgoJW7ifUTyTSgyVfkFHzKw=");
    }

    /// The baseline gives ICMP as port equivalents; the second number is the answer's type or the code.
    #[test]
    fn published_icmp_vectors() {
        check(1, "192.168.0.89", 8, "192.168.0.1", 0, "1:X0snYXpgwiv9TZtqg64sgzUn6Dk=");
        check(1, "192.168.0.1", 0, "192.168.0.89", 0, "1:X0snYXpgwiv9TZtqg64sgzUn6Dk=");
        check(1, "10.0.0.1", 11, "10.0.0.2", 0, "1:YHxtAirCG//0OzkcVAukqKQN9xM=");
        // One-way messages keep their direction: the same from the other side is another flow (computed apart).
        check(1, "10.0.0.2", 11, "10.0.0.1", 0, "1:c5iqfdGYsNWhMJVcYXWPNWbpnKs=");
        let (a, b) = ("fe80::200:86ff:fe05:80da", "fe80::260:97ff:fe07:69ea");
        check(58, a, 135, b, 0, "1:dGHyGvjMfljg6Bppwm3bg0LO8TY=");
        check(58, b, 136, a, 0, "1:dGHyGvjMfljg6Bppwm3bg0LO8TY=");
        check(58, b, 135, a, 0, "1:zavyT/cezQr1fmImYCwYnMXbgck=");
        check(58, "3ffe:507:0:1:200:86ff:fe05:80da", 128, "3ffe:501:0:1001::2", 0, "1:+TW+HtLHvV1xnGhV1lv7XoJrqQg=");
        check(58, "3ffe:501:1800:2345::2", 3, "3ffe:507:0:1:200:86ff:fe05:80da", 0, "1:2ObVBgIn28oZvibYZhZMBgh7WdQ=");
        check(58, "3ffe:501:410:0:2c0:dfff:fe47:33e", 1, "3ffe:507:0:1:200:86ff:fe05:80da", 4, "1:hLZd0XGWojozrvxqE0dWB1iM6R0=");
        check(58, a, 133, "ff02::2", 0, "1:hO+sN4H+MG5MY/8hIrXPqc4ZQz0=");
        check(58, b, 134, "ff02::1", 0, "1:pkvHqCL88/tg1k4cPigmZXUtL00=");
    }

    #[test]
    fn mixed_families_have_no_id() {
        assert_eq!(community_id(6, "10.0.0.1".parse().unwrap(), 1, "::1".parse().unwrap(), 2), None);
    }
}
