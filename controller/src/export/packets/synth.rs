//! IP packets of a TCP connection that never was on a wire: what went through an encrypted channel,
//! as any tool follows it. Pure; the same pieces give the same packets.

use super::story::{Connection, Piece};
use std::net::{IpAddr, SocketAddr};

/// Most payload of one packet: a record's stream bytes fit twice.
const SEGMENT: usize = 16 * 1024;
/// Bytes of one direction after which the other side says that it got them.
const ACK_EVERY: u32 = 32 * 1024;
/// A hole in a channel's bytes is shown at most this wide, its true width in a comment.
const HOLE: u64 = 1 << 20;

const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const PSH: u8 = 0x08;
const ACK: u8 = 0x10;

/// A packet to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    /// Wall time, nanoseconds; never less than that of the packet before.
    pub(super) at_ns: i64,
    /// From the IP header on.
    pub(super) bytes: Vec<u8>,
    /// What to say of it beside what it is.
    pub(super) comments: Vec<String>,
}

struct Side {
    end: SocketAddr,
    /// Next sequence number.
    next: u32,
    /// Next byte of the stream, by the records' count.
    offset: u64,
    /// Bytes sent since the other side acknowledged.
    unsaid: u32,
}

/// The packets of a connection between `client` and `server`. `isn` = both sides' first sequence numbers.
pub(super) fn packets(connection: &Connection, client: SocketAddr, server: SocketAddr, isn: [u32; 2]) -> Vec<Segment> {
    let side = |end, next| Side { end, next, offset: 0, unsaid: 0 };
    let mut talk = Talk { sides: [side(client, isn[0]), side(server, isn[1])], now: connection.open_ns.max(0), out: Vec::new() };
    talk.send(0, SYN, b"", Vec::new());
    talk.send(1, SYN | ACK, b"", Vec::new());
    talk.send(0, ACK, b"", Vec::new());
    for piece in &connection.pieces {
        talk.piece(piece);
    }
    talk.now = talk.now.max(connection.close_ns);
    talk.send(1, FIN | ACK, b"", Vec::new());
    talk.send(0, FIN | ACK, b"", Vec::new());
    talk.send(1, ACK, b"", Vec::new());
    talk.out
}

struct Talk {
    /// Client, server.
    sides: [Side; 2],
    now: i64,
    out: Vec<Segment>,
}

impl Talk {
    fn piece(&mut self, piece: &Piece) {
        self.now = self.now.max(piece.at_ns);
        let from = usize::from(!piece.inbound);
        let mut bytes = piece.bytes.as_slice();
        let mut comments = piece.comments.clone();
        let Some(side) = self.sides.get_mut(from) else { return };
        if piece.offset > side.offset {
            let hole = piece.offset - side.offset;
            side.next = side.next.wrapping_add(u32::try_from(hole.min(HOLE)).unwrap_or(0));
            comments.insert(0, format!("missing: {hole} bytes of this direction before this packet were not recorded"));
            side.offset = piece.offset;
        }
        // Bytes that came before are not said twice.
        let known = usize::try_from(side.offset - piece.offset).unwrap_or(usize::MAX);
        bytes = bytes.get(known..).unwrap_or_default();
        side.offset = side.offset.saturating_add(bytes.len() as u64);
        if bytes.is_empty() {
            // What was to be said of it is said of a packet without data.
            if !comments.is_empty() {
                self.send(from, ACK, b"", comments);
            }
            return;
        }
        for part in bytes.chunks(SEGMENT) {
            self.send(from, PSH | ACK, part, std::mem::take(&mut comments));
            if self.sides.get(from).is_some_and(|side| side.unsaid >= ACK_EVERY) {
                self.send(1 - from, ACK, b"", Vec::new());
            }
        }
    }

    fn send(&mut self, from: usize, flags: u8, payload: &[u8], comments: Vec<String>) {
        let [client, server] = &mut self.sides;
        let (side, other) = if from == 0 { (client, server) } else { (server, client) };
        let ack = if flags & ACK == 0 { 0 } else { other.next };
        let bytes = packet(side.end, other.end, side.next, ack, flags, payload);
        let length = payload.len() as u32;
        side.next = side.next.wrapping_add(length).wrapping_add(u32::from(flags & (SYN | FIN) != 0));
        side.unsaid = side.unsaid.saturating_add(length);
        other.unsaid = 0;
        self.out.push(Segment { at_ns: self.now, bytes, comments });
    }
}

/// One packet with right checksums. Both ends are of one family.
fn packet(from: SocketAddr, to: SocketAddr, seq: u32, ack: u32, flags: u8, payload: &[u8]) -> Vec<u8> {
    let mut tcp = Vec::with_capacity(24 + payload.len());
    tcp.extend_from_slice(&from.port().to_be_bytes());
    tcp.extend_from_slice(&to.port().to_be_bytes());
    tcp.extend_from_slice(&seq.to_be_bytes());
    tcp.extend_from_slice(&ack.to_be_bytes());
    let mss: &[u8] = if flags & SYN == 0 { &[] } else { &[2, 4, 0x40, 0x00] };
    tcp.push(((20 + mss.len()) as u8 / 4) << 4);
    tcp.push(flags);
    tcp.extend_from_slice(&u16::MAX.to_be_bytes());
    tcp.extend_from_slice(&[0; 4]);
    tcp.extend_from_slice(mss);
    tcp.extend_from_slice(payload);
    let length = tcp.len() as u16;
    let (mut ip, pseudo) = match (from.ip(), to.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let mut head = vec![0x45, 0];
            head.extend_from_slice(&length.saturating_add(20).to_be_bytes());
            // Not fragmented, 64 hops, TCP.
            head.extend_from_slice(&[0, 0, 0x40, 0, 64, 6, 0, 0]);
            head.extend_from_slice(&from.octets());
            head.extend_from_slice(&to.octets());
            let check = checksum(&[&head]);
            set(&mut head, 10, check);
            let mut pseudo = [from.octets(), to.octets()].concat();
            pseudo.extend_from_slice(&[0, 6]);
            pseudo.extend_from_slice(&length.to_be_bytes());
            (head, pseudo)
        }
        (from, to) => {
            let v6 = |ip| match ip {
                IpAddr::V4(v4) => v4.to_ipv6_mapped(),
                IpAddr::V6(v6) => v6,
            };
            let (from, to) = (v6(from).octets(), v6(to).octets());
            let mut head = vec![0x60, 0, 0, 0];
            head.extend_from_slice(&length.to_be_bytes());
            head.extend_from_slice(&[6, 64]);
            head.extend_from_slice(&from);
            head.extend_from_slice(&to);
            let mut pseudo = [from, to].concat();
            pseudo.extend_from_slice(&u32::from(length).to_be_bytes());
            pseudo.extend_from_slice(&[0, 0, 0, 6]);
            (head, pseudo)
        }
    };
    let check = checksum(&[&pseudo, &tcp]);
    set(&mut tcp, 16, check);
    ip.append(&mut tcp);
    ip
}

fn set(bytes: &mut [u8], at: usize, value: u16) {
    if let Some(place) = bytes.get_mut(at..at + 2) {
        place.copy_from_slice(&value.to_be_bytes());
    }
}

/// RFC 1071; every part but the last has even length.
fn checksum(parts: &[&[u8]]) -> u16 {
    let mut sum = 0u64;
    for part in parts {
        for pair in part.chunks(2) {
            let high = u64::from(pair.first().copied().unwrap_or(0)) << 8;
            sum += high | u64::from(pair.get(1).copied().unwrap_or(0));
        }
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(at_ns: i64, inbound: bool, offset: u64, bytes: &[u8]) -> Piece {
        Piece { at_ns, inbound, offset, bytes: bytes.to_vec(), comments: Vec::new() }
    }

    fn built(pieces: Vec<Piece>, ends: [&str; 2]) -> Vec<Segment> {
        let connection = Connection { open_ns: 5, close_ns: 100, pieces, ..Connection::default() };
        packets(&connection, ends[0].parse().unwrap(), ends[1].parse().unwrap(), [u32::MAX - 2, 7])
    }

    /// Sequence number, acknowledgement, flags and payload; checks the checksums.
    fn read(bytes: &[u8]) -> (u32, u32, u8, Vec<u8>) {
        let v6 = bytes[0] >> 4 == 6;
        let head = if v6 { 40 } else { 20 };
        if !v6 {
            assert_eq!(checksum(&[&bytes[..20]]), 0);
            assert_eq!(usize::from(u16::from_be_bytes([bytes[2], bytes[3]])), bytes.len());
        }
        let tcp = &bytes[head..];
        let addresses = if v6 { &bytes[8..40] } else { &bytes[12..20] };
        let rest = [&[0, 6][..], &(tcp.len() as u16).to_be_bytes()].concat();
        assert_eq!(checksum(&[addresses, &rest, tcp]), 0);
        let word = |at: usize| u32::from_be_bytes(tcp[at..at + 4].try_into().unwrap());
        (word(4), word(8), tcp[13], tcp[usize::from(tcp[12] >> 4) * 4..].to_vec())
    }

    #[test]
    fn a_connection_reads_back_in_both_families() {
        for ends in [["192.0.2.1:50000", "192.0.2.2:23"], ["[2001:db8::1]:50000", "[2001:db8::2]:23"]] {
            let out = built(vec![piece(10, true, 0, b"ls\r"), piece(9, false, 0, b"a b"), piece(30, true, 3, b"x")], ends);
            let seen: Vec<_> = out.iter().map(|segment| (segment.at_ns, read(&segment.bytes))).collect();
            let c = u32::MAX - 2;
            let expected = [
                (5, (c, 0, SYN, vec![])),
                (5, (7, c + 1, SYN | ACK, vec![])),
                (5, (c + 1, 8, ACK, vec![])),
                (10, (c + 1, 8, PSH | ACK, b"ls\r".to_vec())),
                (10, (8, 1, PSH | ACK, b"a b".to_vec())),
                (30, (1, 11, PSH | ACK, b"x".to_vec())),
                (100, (11, 2, FIN | ACK, vec![])),
                (100, (2, 12, FIN | ACK, vec![])),
                (100, (12, 3, ACK, vec![])),
            ];
            assert_eq!(seen, expected, "{ends:?}");
        }
    }

    #[test]
    fn holes_are_holes_and_repeated_bytes_are_not_said_twice() {
        let out = built(
            vec![
                piece(1, false, 0, b"abc"),
                piece(2, false, 1, b"bcd"),
                piece(3, false, 0, b"ab"),
                piece(4, false, 10, b"z"),
                piece(5, false, u64::MAX, b"e"),
            ],
            ["192.0.2.1:1", "192.0.2.2:2"],
        );
        let data: Vec<_> = out.iter().map(|s| (read(&s.bytes), s.comments.len())).filter(|((_, _, _, data), _)| !data.is_empty()).collect();
        assert_eq!(data.len(), 4);
        assert_eq!((data[0].0.0, data[0].0.3.as_slice()), (8, &b"abc"[..]));
        assert_eq!((data[1].0.0, data[1].0.3.as_slice()), (11, &b"d"[..]));
        assert_eq!((data[2].0.0, data[2].1), (18, 1));
        assert_eq!((data[3].0.0, data[3].1), (19 + HOLE as u32, 1));
    }

    #[test]
    fn large_pieces_are_cut_and_acknowledged() {
        let out = built(vec![piece(1, false, 0, &vec![7; 200_000])], ["192.0.2.1:1", "192.0.2.2:2"]);
        let all: Vec<u8> = out.iter().flat_map(|segment| read(&segment.bytes).3).collect();
        assert_eq!(all.len(), 200_000);
        assert!(out.iter().all(|segment| segment.bytes.len() <= SEGMENT + 60));
        assert_eq!(out.iter().filter(|segment| read(&segment.bytes).2 == ACK).count(), 2 + 200_000 / ACK_EVERY as usize);
    }
}
