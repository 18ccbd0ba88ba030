//! Handshakes begun by hand: SYN segments from a raw socket, as no kernel sends them.

use socket2::{Domain, Protocol, Socket, Type};
use std::net::{Ipv4Addr, SocketAddr};

/// Begins `count` handshakes, taking turns between the ports.
pub(crate) fn flood(from: Ipv4Addr, to: Ipv4Addr, ports: &[u16], count: usize) -> std::io::Result<()> {
    let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::TCP))?;
    socket.bind(&SocketAddr::from((from, 0)).into())?;
    for n in 0..count {
        let source = 20_000 + u16::try_from(n % 40_000).unwrap();
        let segment = syn(from, source, to, ports[n % ports.len()], u32::try_from(n).unwrap().wrapping_mul(2_654_435_761));
        socket.send_to(&segment, &SocketAddr::from((to, 0)).into())?;
    }
    Ok(())
}

/// A TCP header with SYN set and its checksum (RFC 9293 section 3.1).
fn syn(from: Ipv4Addr, source: u16, to: Ipv4Addr, destination: u16, sequence: u32) -> Vec<u8> {
    let mut header = Vec::with_capacity(20);
    header.extend(source.to_be_bytes());
    header.extend(destination.to_be_bytes());
    header.extend(sequence.to_be_bytes());
    header.extend([0; 4]);
    // Five words, SYN, window, no checksum yet, no urgent data.
    header.extend([0x50, 0x02, 0xfa, 0xf0, 0, 0, 0, 0]);
    let pseudo = [&from.octets()[..], &to.octets(), &[0, 6, 0, 20]].concat();
    let sum: u32 = pseudo.chunks(2).chain(header.chunks(2)).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let checksum = !u16::try_from((folded & 0xffff) + (folded >> 16)).unwrap();
    header[16..18].copy_from_slice(&checksum.to_be_bytes());
    header
}
