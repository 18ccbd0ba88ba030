//! Protocols whose first messages only open the way for another: an RDP or database negotiation that
//! may lead to TLS, a SOCKS request, a PROXY header. What follows is looked at anew.
//!
//! Each is one line of a client's and a server's framing; nothing of the messages is kept.

use super::pair::Pair;
use super::say::Say;
use super::side::Side;
use super::{Parser, Role, Step};
use glasshive_proto::{Parsed, proxy};

/// How long one side's part is, from its first bytes: `Done` when it is all there.
type Frame = fn(&[u8]) -> Parsed<Lead>;

/// Where a side's part leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lead {
    /// To what is inside.
    Inside,
    /// To more of the same protocol: there is nothing inside.
    Nowhere,
}

#[derive(Debug)]
struct Prelude {
    inside: &'static str,
    frames: Pair<Option<Frame>>,
}

fn prelude(inside: &'static str, client: Option<Frame>, server: Option<Frame>) -> Box<dyn Parser> {
    let mut frames = Pair::default();
    *frames.of_mut(Role::Client) = client;
    *frames.of_mut(Role::Server) = server;
    Box::new(Prelude { inside, frames })
}

/// A connection request and its answer (MS-RDPBCGR §2.2.1.1).
pub(super) fn rdp() -> Box<dyn Parser> {
    prelude("rdp", Some(tpkt), Some(tpkt))
}

/// A greeting and a request for TLS.
pub(super) fn mysql() -> Box<dyn Parser> {
    prelude("mysql", Some(mysql_client), Some(mysql_server))
}

/// A request for TLS and its one-byte answer.
pub(super) fn postgres() -> Box<dyn Parser> {
    prelude("postgres", Some(postgres_client), Some(postgres_server))
}

/// RFC 1928, with or without RFC 1929.
pub(super) fn socks5() -> Box<dyn Parser> {
    prelude("socks5", Some(socks5_client), Some(socks5_server))
}

/// SOCKS 4 and 4a.
pub(super) fn socks4() -> Box<dyn Parser> {
    prelude(
        "socks4",
        Some(socks4_client),
        Some(|input| if input.get(1).is_some_and(|&code| code != 0x5a) { nowhere(8) } else { fixed(input, 8) }),
    )
}

/// A proxy's header before the client's own bytes.
pub(super) fn proxy_header() -> Box<dyn Parser> {
    prelude("proxy", Some(|input| proxy::header(input).map(|_| Lead::Inside)), None)
}

impl Parser for Prelude {
    fn advance(&mut self, from: Role, side: &mut Side, _say: &mut Say<'_>) -> Step {
        let Some(frame) = self.frames.of(from) else { return Step::More };
        let input = side.peek();
        match frame(input) {
            Parsed::Done { value: Lead::Nowhere, .. } => Step::Done,
            Parsed::Done { value: Lead::Inside, used } => {
                side.take(used);
                *self.frames.of_mut(from) = None;
                if self.frames.all(Option::is_none) { Step::Inside(self.inside) } else { Step::More }
            }
            Parsed::Incomplete { needed } => {
                side.want(input.len() + needed);
                Step::More
            }
            Parsed::Malformed { offset, what } => Step::malformed(side, offset, what),
        }
    }
}

fn fixed(input: &[u8], length: usize) -> Parsed<Lead> {
    if input.len() < length { Parsed::missing(input.len(), length) } else { Parsed::Done { value: Lead::Inside, used: length } }
}

fn nowhere(used: usize) -> Parsed<Lead> {
    Parsed::Done { value: Lead::Nowhere, used }
}

fn byte(input: &[u8], at: usize) -> Option<u8> {
    input.get(at).copied()
}

fn tpkt(input: &[u8]) -> Parsed<Lead> {
    match (byte(input, 0), byte(input, 2), byte(input, 3)) {
        (Some(version), ..) if version != 3 => Parsed::malformed(0, "TPKT version"),
        (Some(_), Some(high), Some(low)) => match u16::from_be_bytes([high, low]) {
            length @ 7..=2_048 => fixed(input, usize::from(length)),
            _ => Parsed::malformed(2, "TPKT length"),
        },
        _ => Parsed::missing(input.len(), 4),
    }
}

fn mysql_packet(input: &[u8]) -> Option<usize> {
    let length = input.first_chunk::<4>()?;
    Some(usize::from(length[0]) | usize::from(length[1]) << 8 | usize::from(length[2]) << 16)
}

fn mysql_server(input: &[u8]) -> Parsed<Lead> {
    match mysql_packet(input) {
        None => Parsed::missing(input.len(), 5),
        Some(length @ 8..=4_096) => match byte(input, 4) {
            Some(10) => fixed(input, length + 4),
            None => Parsed::missing(input.len(), 5),
            Some(_) => nowhere(1),
        },
        Some(_) => Parsed::malformed(0, "MySQL packet length"),
    }
}

/// A request for TLS is a login's first 32 bytes with CLIENT_SSL set.
fn mysql_client(input: &[u8]) -> Parsed<Lead> {
    match (mysql_packet(input), byte(input, 5)) {
        (Some(32), Some(flags)) if flags & 0x08 != 0 => fixed(input, 36),
        (Some(_), Some(_)) => nowhere(1),
        _ => Parsed::missing(input.len(), 6),
    }
}

fn postgres_client(input: &[u8]) -> Parsed<Lead> {
    match input.first_chunk::<8>() {
        Some([0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f]) => fixed(input, 8),
        Some(_) => nowhere(1),
        None => Parsed::missing(input.len(), 8),
    }
}

fn postgres_server(input: &[u8]) -> Parsed<Lead> {
    if byte(input, 0) == Some(b'S') { fixed(input, 1) } else { nowhere(1) }
}

fn socks4_client(input: &[u8]) -> Parsed<Lead> {
    let strings = match input.first_chunk::<8>() {
        None => return Parsed::missing(input.len(), 9),
        Some([_, _, _, _, 0, 0, 0, 1..=255]) => 2,
        Some(_) => 1,
    };
    let mut ends = input.iter().enumerate().skip(8).filter(|(_, b)| **b == 0).map(|(at, _)| at);
    match ends.nth(strings - 1) {
        Some(end) => Parsed::Done { value: Lead::Inside, used: end + 1 },
        None if input.len() > 1_024 => Parsed::malformed(8, "SOCKS user id"),
        None => Parsed::missing(0, 1),
    }
}

/// Methods, user name and password if they come (told by their version 1), then the request.
fn socks5_client(input: &[u8]) -> Parsed<Lead> {
    let Some(methods) = byte(input, 1) else { return Parsed::missing(input.len(), 2) };
    let mut at = 2 + usize::from(methods);
    if byte(input, at) == Some(1) {
        let Some(user) = byte(input, at + 1) else { return Parsed::missing(input.len(), at + 2) };
        at += 2 + usize::from(user);
        let Some(password) = byte(input, at) else { return Parsed::missing(input.len(), at + 1) };
        at += 1 + usize::from(password);
    }
    match byte(input, at) {
        None => Parsed::missing(input.len(), at + 1),
        Some(5) => socks5_address(input, at),
        Some(_) => Parsed::malformed(at, "SOCKS version"),
    }
}

fn socks5_server(input: &[u8]) -> Parsed<Lead> {
    let Some(method) = byte(input, 1) else { return Parsed::missing(input.len(), 2) };
    let at = match method {
        0 => 2,
        // The outcome of user name and password.
        2 => match byte(input, 3) {
            None => return Parsed::missing(input.len(), 4),
            Some(0) => 4,
            Some(_) => return nowhere(4),
        },
        _ => return nowhere(2),
    };
    match byte(input, at + 1) {
        None => Parsed::missing(input.len(), at + 2),
        Some(0) => socks5_address(input, at),
        Some(_) => nowhere(at),
    }
}

/// The end of a request or reply that starts at `at`.
fn socks5_address(input: &[u8], at: usize) -> Parsed<Lead> {
    let length = match byte(input, at + 3) {
        None => return Parsed::missing(input.len(), at + 4),
        Some(1) => 4,
        Some(4) => 16,
        Some(3) => match byte(input, at + 4) {
            None => return Parsed::missing(input.len(), at + 5),
            Some(name) => 1 + usize::from(name),
        },
        Some(_) => return Parsed::malformed(at + 3, "SOCKS address type"),
    };
    fixed(input, at + 4 + length + 2)
}
