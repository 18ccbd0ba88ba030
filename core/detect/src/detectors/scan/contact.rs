//! What a flow's first packet says of its sender: the kind of probe, and the tool that makes such
//! packets. Traits are guesses: anyone can imitate them, and a changed tool is not recognised.

use glasshive_event::observation::Opening;
use glasshive_event::{Endpoint, Tuple};
use std::net::IpAddr;

const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;
/// URG, ACK, PSH, RST, SYN, FIN: without the two flags of congestion notice (RFC 3168).
const FLAGS: u8 = 0x3f;

/// A kind of probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Probe {
    /// As a connection or exchange begins: SYN, INIT, a datagram.
    Connect,
    /// A bare ACK, or FIN and ACK, outside of any connection.
    Ack,
    /// Flags no connection begins with.
    Stealth(Stealth),
    /// An ICMP question whether a host is there.
    Echo,
    /// Another IP protocol.
    Protocol,
}

/// Flags no connection begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Stealth {
    /// None.
    Null,
    /// FIN alone.
    Fin,
    /// FIN, PSH and URG.
    Xmas,
    /// Others that contradict each other.
    Odd,
}

impl Probe {
    /// Word in keys.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Ack => "ack",
            Self::Stealth(Stealth::Null) => "null",
            Self::Stealth(Stealth::Fin) => "fin",
            Self::Stealth(Stealth::Xmas) => "xmas",
            Self::Stealth(Stealth::Odd) => "odd",
            Self::Echo => "echo",
            Self::Protocol => "protocol",
        }
    }

    /// What was sent, in words.
    pub(super) fn words(self) -> &'static str {
        match self {
            Self::Connect => "packets as a connection or exchange begins",
            Self::Ack => "bare ACK packets outside of any connection",
            Self::Stealth(Stealth::Null) => "packets without TCP flags (NULL), which no connection begins with",
            Self::Stealth(Stealth::Fin) => "bare FIN packets, which no connection begins with",
            Self::Stealth(Stealth::Xmas) => "packets with FIN, PSH and URG (Xmas), which no connection begins with",
            Self::Stealth(Stealth::Odd) => "TCP flags that contradict each other",
            Self::Echo => "ICMP questions",
            Self::Protocol => "packets of that protocol",
        }
    }
}

/// The probe a first packet is, if it may be one.
pub(super) fn probe(opening: &Opening, wire: Tuple) -> Option<Probe> {
    let Tuple { source, destination } = wire;
    if is_many(destination.ip) || destination.ip.is_unspecified() || source.ip == destination.ip {
        return None;
    }
    match opening.protocol {
        1 => matches!(opening.icmp, Some((8 | 13 | 15 | 17, 0))).then_some(Probe::Echo),
        58 => matches!(opening.icmp, Some((128, 0))).then_some(Probe::Echo),
        // Without a sequence number the header was cut, and its flags are not known.
        6 => opening.tcp_seq.and_then(|_| tcp(opening)),
        17 => (!is_answer(source, destination) && !is_traceroute(opening, destination)).then_some(Probe::Connect),
        132 => Some(Probe::Connect),
        2 => None,
        _ => Some(Probe::Protocol),
    }
}

fn tcp(opening: &Opening) -> Option<Probe> {
    let flags = opening.tcp_flags & FLAGS;
    match flags {
        0 => Some(Probe::Stealth(Stealth::Null)),
        FIN => Some(Probe::Stealth(Stealth::Fin)),
        0x29 => Some(Probe::Stealth(Stealth::Xmas)),
        _ if flags & SYN != 0 && flags & (FIN | RST) != 0 => Some(Probe::Stealth(Stealth::Odd)),
        _ if flags & RST != 0 => None,
        _ if flags & SYN != 0 => (flags & ACK == 0).then_some(Probe::Connect),
        _ if flags & ACK == 0 => Some(Probe::Stealth(Stealth::Odd)),
        ACK | 0x11 if opening.payload_bytes == 0 => Some(Probe::Ack),
        _ => None,
    }
}

/// Multicast or broadcast.
fn is_many(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => v4.is_multicast() || v4.is_broadcast(),
        IpAddr::V6(v6) => v6.is_multicast(),
    }
}

/// A server's datagram to a client whose question nobody saw.
fn is_answer(source: Endpoint, destination: Endpoint) -> bool {
    source.port < 1024 && destination.port >= 1024
}

/// The ports and hop limits of traceroute: one more of each a packet.
fn is_traceroute(opening: &Opening, destination: Endpoint) -> bool {
    (33_434..=33_700).contains(&destination.port) && opening.ttl <= 32
}

/// A tool known by its packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Tool {
    /// IP identification made of address, port and sequence number.
    Masscan,
    /// IP identification 54321.
    Zmap,
    /// Window a multiple of 1024 up to 4096; at most a segment size as option.
    Nmap,
    /// Window 512, no option.
    Hping,
}

impl Tool {
    /// Its name.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Masscan => "masscan",
            Self::Zmap => "zmap",
            Self::Nmap => "nmap",
            Self::Hping => "hping",
        }
    }
}

/// The tool whose first packets look so.
pub(super) fn tool(opening: &Opening, destination: Endpoint) -> Option<Tool> {
    if opening.protocol != 6 || opening.payload_bytes != 0 {
        return None;
    }
    if let (Some(id), Some(seq), IpAddr::V4(ip)) = (opening.ip_id, opening.tcp_seq, destination.ip) {
        let mixed = u32::from(ip) ^ u32::from(destination.port) ^ seq;
        if mixed & 0xffff == u32::from(id) && id != 0 {
            return Some(Tool::Masscan);
        }
    }
    let syn = opening.tcp_flags & FLAGS == SYN;
    match (opening.ip_id, opening.window, opening.tcp_options.as_slice()) {
        (Some(54_321), _, _) if syn => Some(Tool::Zmap),
        (_, Some(1024 | 2048 | 3072 | 4096), [2]) if syn => Some(Tool::Nmap),
        (_, Some(1024 | 2048 | 3072 | 4096), []) if !syn => Some(Tool::Nmap),
        (_, Some(512), []) => Some(Tool::Hping),
        _ => None,
    }
}
