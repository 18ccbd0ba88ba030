//! Keys of a log segment and of a day, in one place.
//!
//! Log segment: `log id 16 ‖ first seq u64 BE` (24 bytes) → [`super::value`]; other lengths are meta:
//! `h ‖ log id` → high water, `t ‖ log id ‖ seq` → evidence of tampering.
//!
//! Day: one byte says what the key is, then fixed-width parts, so that no visitor's text is ever
//! part of a key: texts are the first 16 bytes of their SHA-256.

use glasshive_event::{LogId, SessionId, Tuple};
use sha2::{Digest, Sha256};
use std::net::IpAddr;

/// `R` → newest time of a row i64 BE ‖ entries u64 BE: where the next part of the day may begin.
pub(crate) const EXTENT: u8 = b'R';
/// `P ‖ log` → highest sequence number folded into this day, u64 BE.
pub(crate) const POSITION: u8 = b'P';
/// `S ‖ session` → session row.
pub(crate) const SESSION: u8 = b'S';
/// `E ‖ nibbles of the session id in reverse` → nothing: sessions by the end of their id.
pub(crate) const ENDING: u8 = b'E';
/// `K ‖ parent ‖ session` → nothing: children.
pub(crate) const CHILD: u8 = b'K';
/// `X ‖ posting ‖ value 16 ‖ session` → nothing.
pub(crate) const POSTING: u8 = b'X';
/// `c ‖ credential 16` → credential row.
pub(crate) const CREDENTIAL: u8 = b'c';
/// `y ‖ ip 16 ‖ credential 16` → nothing: credentials by source.
pub(crate) const TRIED: u8 = b'y';
/// `f ‖ sha256 16` → file row.
pub(crate) const FILE: u8 = b'f';
/// `h ‖ hour u32 BE ‖ net and service 16` → hour row.
pub(crate) const HOUR: u8 = b'h';
/// `s ‖ ip 16` → source row.
pub(crate) const SOURCE: u8 = b's';
/// `u ‖ user 16` → user row.
pub(crate) const USER: u8 = b'u';
/// `n ‖ node 16` → node row.
pub(crate) const NODE: u8 = b'n';

/// `L ‖ flow` → flow row.
pub(crate) const FLOW: u8 = b'L';
/// `J ‖ conn 16, or net, protocol and tuple 16 ‖ FLOW or SESSION ‖ id` → nothing: who has it.
pub(crate) const JOIN: u8 = b'J';
/// `V ‖ session ‖ conn` → nothing: join keys of a session.
pub(crate) const CONN_OF: u8 = b'V';
/// `F ‖ finding` → finding row.
pub(crate) const FINDING: u8 = b'F';
/// `e ‖ nibbles of the finding id in reverse` → nothing: findings by the end of their id.
pub(crate) const FINDING_ENDING: u8 = b'e';
/// `W ‖ session ‖ finding` → nothing: findings that rest on a session.
pub(crate) const JUDGED: u8 = b'W';

/// What a posting finds sessions by. The number is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub(crate) enum Posting {
    Source = 1,
    User = 2,
    Hash = 3,
    Fingerprint = 4,
    Net = 5,
    Decoy = 6,
    Service = 7,
    Node = 8,
}

/// A text of any length as 16 bytes.
pub(crate) fn text16(text: &[u8]) -> [u8; 16] {
    parts16(&[text])
}

/// Several texts as 16 bytes; lengths are part of it, so that no two lists of texts meet.
pub(crate) fn parts16(parts: &[&[u8]]) -> [u8; 16] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    let mut out = [0; 16];
    for (to, from) in out.iter_mut().zip(hash.finalize()) {
        *to = from;
    }
    out
}

/// An address as IPv6, IPv4 mapped.
pub(crate) fn ip16(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

/// A key of parts.
pub(crate) fn key(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::with_capacity(1 + parts.iter().map(|part| part.len()).sum::<usize>());
    out.push(tag);
    for part in parts {
        out.extend_from_slice(part);
    }
    out
}

/// The key of a session in a posting list.
pub(crate) fn posting(posting: Posting, value: &[u8; 16], session: SessionId) -> Vec<u8> {
    key(POSTING, &[&[posting as u8], value, &session.0])
}

/// The key by which flows and sessions find each other; `what` is [`FLOW`] or [`SESSION`].
pub(crate) fn join(by: &[u8; 16], what: u8, id: &[u8; 16]) -> Vec<u8> {
    key(JOIN, &[by, &[what], id])
}

/// Net, IP protocol and both ends as 16 bytes.
pub(crate) fn tuple16(net: &str, protocol: u8, wire: &Tuple) -> [u8; 16] {
    let (source, destination) = (wire.source, wire.destination);
    let ports = [source.port.to_be_bytes(), destination.port.to_be_bytes()];
    parts16(&[net.as_bytes(), &[protocol], &ip16(source.ip), &ip16(destination.ip), &ports.concat()])
}

/// First and last possible key of a prefix followed by `width` free bytes.
pub(crate) fn span(prefix: &[u8], width: usize) -> (Vec<u8>, Vec<u8>) {
    let mut low = prefix.to_vec();
    let mut high = prefix.to_vec();
    low.resize(prefix.len() + width, 0);
    high.resize(prefix.len() + width, 0xff);
    (low, high)
}

/// The last `N` bytes of a key.
pub(crate) fn tail<const N: usize>(key: &[u8]) -> Option<[u8; N]> {
    key.last_chunk::<N>().copied()
}

/// The session id with its hexadecimal digits in reverse.
pub(crate) fn reversed(session: &SessionId) -> [u8; 16] {
    reversed16(session.0)
}

/// An id with its hexadecimal digits in reverse.
pub(crate) fn reversed16(id: [u8; 16]) -> [u8; 16] {
    let mut out = id;
    out.reverse();
    out.map(|byte| byte.rotate_left(4))
}

/// Bounds of the ids that start with these hexadecimal digits (at most 32).
pub(crate) fn digits_span(digits: &[u8]) -> Option<([u8; 16], [u8; 16])> {
    let (mut low, mut high) = (0u128, 0u128);
    if digits.len() > 32 {
        return None;
    }
    for place in 0..32 {
        let (zero, full) = match digits.get(place) {
            Some(digit) => {
                let value = u128::from(char::from(*digit).to_digit(16)?);
                (value, value)
            }
            None => (0, 15),
        };
        low = low << 4 | zero;
        high = high << 4 | full;
    }
    Some((low.to_be_bytes(), high.to_be_bytes()))
}

/// Key of a block.
pub(crate) fn block(log: LogId, first: u64) -> [u8; 24] {
    let mut out = [0; 24];
    for (to, from) in out.iter_mut().zip(log.0.into_iter().chain(first.to_be_bytes())) {
        *to = from;
    }
    out
}

/// Log and first sequence number of a block's key; `None` for meta keys.
pub(crate) fn parse_block(key: &[u8]) -> Option<(LogId, u64)> {
    let key: &[u8; 24] = key.try_into().ok()?;
    Some((LogId(*key.first_chunk()?), u64::from_be_bytes(*key.last_chunk()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_both_ways() {
        let id: SessionId = "0192a3b4-c5d6-7e8f-9012-3456789abcde".parse().unwrap();
        let (low, high) = digits_span(b"0192a").unwrap();
        assert!(low <= id.0 && id.0 <= high);
        let (low, high) = digits_span(b"edcba").unwrap();
        let back = reversed(&id);
        assert!(low <= back && back <= high);
        assert_eq!(reversed(&SessionId(back)), id.0);
        assert!(digits_span(b"xyz1").is_none() && digits_span(&[b'0'; 33]).is_none());
    }

    #[test]
    fn block_keys() {
        let key = block(LogId([7; 16]), 0x0102);
        assert_eq!(parse_block(&key), Some((LogId([7; 16]), 0x0102)));
        assert_eq!(parse_block(b"h"), None);
    }

    #[test]
    fn parts_do_not_meet() {
        assert_ne!(parts16(&[b"ab", b"c"]), parts16(&[b"a", b"bc"]));
        assert_ne!(parts16(&[b"ab"]), parts16(&[b"ab", b""]));
    }
}
