//! Protocols of datagrams, by content. A datagram is whole, so a check knows its end; it must still
//! never ask for the port.

use super::binary::{self, at, be16, be32, le32};
use super::text::{contains, matched};
use super::{Verdict, text};
use crate::dns;
use crate::reader::Reader;

/// One protocol of the table.
#[derive(Debug, Clone, Copy)]
pub struct DatagramDef {
    /// Name, as events carry it.
    pub name: &'static str,
    /// Whether this whole datagram is one of the protocol, as no other known to us would be.
    pub check: fn(&[u8]) -> bool,
}

const fn def(name: &'static str, check: fn(&[u8]) -> bool) -> DatagramDef {
    DatagramDef { name, check }
}

/// All protocols known; on a tie the earlier wins.
pub static DATAGRAMS: &[DatagramDef] = &[
    def("nbns", |d| dns::message(d).is_ok_and(|m| dns_like(&m) && netbios(&m))),
    def("mdns", |d| dns::message(d).is_ok_and(|m| dns_like(&m) && multicast(&m))),
    def("llmnr", |d| dns::message(d).is_ok_and(|m| dns_like(&m) && link_local(&m))),
    def("dns", |d| dns::message(d).is_ok_and(|m| dns_like(&m))),
    def("snmp", |d| binary::snmp(d) == Verdict::Certain),
    def("kerberos", |d| at(d, 0) != Some(0) && (binary::kerberos(d) == Verdict::Certain || kerberos_reply(d))),
    def("cldap", |d| binary::ldap(d) == Verdict::Certain),
    def("quic", |d| quic(d).unwrap_or(false)),
    def("stun", |d| stun(d).unwrap_or(false)),
    def("sip", |d| text::sip(d) == Verdict::Certain),
    def("ssdp", |d| ssdp(d)),
    def("dhcp", |d| matches!(at(d, 0), Some(1 | 2)) && be32(d, 236) == Some(0x6382_5363)),
    def("tftp", |d| tftp(d).unwrap_or(false)),
    def("syslog", |d| syslog(d)),
    def("ike", |d| ike(d).unwrap_or(false)),
    def("wireguard", |d| wireguard(d).unwrap_or(false)),
    def("openvpn", |d| openvpn(d).unwrap_or(false)),
    def("radius", |d| radius(d).unwrap_or(false)),
    def("netflow5", |d| be16(d, 0) == Some(5) && be16(d, 2).is_some_and(|n| (1..=30).contains(&n) && d.len() == 24 + 48 * usize::from(n))),
    def("netflow9", |d| be16(d, 0) == Some(9) && d.len() > 24 && be16(d, 20).is_some_and(|set| set <= 1 || set > 255) && sets(d, 20)),
    def("ipfix", |d| be16(d, 0) == Some(10) && be16(d, 2).is_some_and(|n| usize::from(n) == d.len()) && d.len() > 20 && sets(d, 16)),
    def("sflow", |d| be32(d, 0) == Some(5) && matches!(be32(d, 4), Some(1 | 2)) && d.len() >= 28),
    def("netbios-datagram", |d| matches!(at(d, 0), Some(0x10..=0x12)) && be16(d, 10).is_some_and(|n| usize::from(n) + 14 == d.len())),
    def("bittorrent", |d| d.starts_with(b"d1:ad2:id20:") || d.starts_with(b"d1:rd2:id20:")),
    def("ntp", |d| ntp(d).unwrap_or(false)),
];

/// Names the protocol of one datagram.
pub fn datagram(bytes: &[u8]) -> Option<&'static str> {
    DATAGRAMS.iter().find(|def| (def.check)(bytes)).map(|def| def.name)
}

/// Whether what parsed as a message is likely to be one: something is said, and all of it.
fn dns_like(m: &dns::Message) -> bool {
    const CLASSES: [u16; 6] = [1, 3, 4, 254, 255, 0x8001];
    let class = |class: u16| CLASSES.contains(&class) || class == 0x80ff;
    // The first record's class of an OPT is a size.
    let records = m.answers.iter().chain(&m.authority).chain(&m.additional);
    let known = records.filter(|record| record.kind != 41).all(|record| class(record.class));
    let asked = m.questions.iter().all(|q| class(q.class) && q.kind != 0);
    let response = m.header.is_response();
    let says = m.header.counts.iter().any(|&n| n > 0);
    let opcode = matches!(m.header.opcode(), 0..=8);
    // Only NetBIOS has opcodes 6 to 8, and it always names its question or record.
    m.trailing == 0
        && says
        && known
        && asked
        && opcode
        && (response || m.header.rcode() == 0 || m.header.flags & 0x0010 != 0)
        && (m.questions.len() == 1 || m.header.id == 0 || response || m.header.opcode() != 0)
}

/// A question or record of type NB or NBSTAT with a name in NetBIOS's encoding (RFC 1001 §14.1).
fn netbios(m: &dns::Message) -> bool {
    let encoded = |name: &dns::Name| name.labels().next().is_some_and(|l| l.len() == 32 && l.iter().all(|b| (b'A'..=b'P').contains(b)));
    let question = m.questions.first().map(|q| (&q.name, q.kind));
    let record = m.answers.first().map(|r| (&r.name, r.kind));
    question.or(record).is_some_and(|(name, kind)| matches!(kind, 0x20 | 0x21 | 0x0a) && encoded(name))
}

/// Identifier 0 and a name under `local`, a service's or an address's, or a class with the top bit
/// (RFC 6762 §3, §18).
fn multicast(m: &dns::Message) -> bool {
    let under = |name: &dns::Name| name.labels().last().is_some_and(|l| l.eq_ignore_ascii_case(b"local"));
    let names = m.questions.iter().map(|q| (&q.name, q.class)).chain(m.answers.iter().map(|r| (&r.name, r.class)));
    m.header.id == 0 && names.into_iter().any(|(name, class)| under(name) || class & 0x8000 != 0)
}

/// An answer to a name of one label with none of the flags a DNS server sets (RFC 4795 §2.1). A
/// question cannot be told from one of DNS.
fn link_local(m: &dns::Message) -> bool {
    let one_label = |q: &dns::Question| q.name.labels().count() == 1;
    m.header.flags & 0xfff0 == 0x8000 && m.header.counts[1] > 0 && m.questions.len() == 1 && m.questions.iter().all(one_label)
}

fn kerberos_reply(d: &[u8]) -> bool {
    let mut r = Reader::new(d);
    let tag = matches!(r.u8("tag"), Ok(0x6b | 0x6d | 0x7e));
    let length = tag.then(|| binary::ber_length(&mut r).flatten()).flatten();
    length.is_some_and(|n| n == r.len()) && r.peek().first() == Some(&0x30)
}

/// A long header of a version in use (RFC 9000 §17.2, RFC 9369, Google's and the drafts').
fn quic(d: &[u8]) -> Option<bool> {
    let version = be32(d, 1)?;
    let known =
        matches!(version, 1 | 0x6b33_43cf | 0xff00_0000..=0xff00_00ff | 0x5130_3030..=0x5130_3939) || version & 0x0f0f_0f0f == 0x0a0a_0a0a;
    let destination = usize::from(at(d, 5)?);
    let source = usize::from(at(d, 6 + destination)?);
    let negotiation = version == 0 && d.len() % 4 == (7 + destination + source) % 4;
    Some(
        at(d, 0)? & 0x80 != 0
            && (known && at(d, 0)? & 0x40 != 0 && d.len() >= 40 || negotiation && d.len() >= 15)
            && destination <= 20
            && source <= 20,
    )
}

fn stun(d: &[u8]) -> Option<bool> {
    let length = be16(d, 2)?;
    Some(at(d, 0)? & 0xc0 == 0 && be32(d, 4)? == 0x2112_a442 && length % 4 == 0 && usize::from(length) + 20 == d.len())
}

fn ssdp(d: &[u8]) -> bool {
    let head = d.get(..512).unwrap_or(d);
    d.starts_with(b"M-SEARCH * HTTP/1.")
        || d.starts_with(b"NOTIFY * HTTP/1.")
        || matched(d, b"HTTP/1.# 200") == Verdict::Certain && (contains(head, b"USN:") || contains(head, b"ST:") || contains(head, b"usn:"))
}

/// A read or write request (RFC 1350 §5).
fn tftp(d: &[u8]) -> Option<bool> {
    let mut parts = d.get(2..)?.split(|&b| b == 0);
    let (name, mode) = (parts.next()?, parts.next()?.to_ascii_lowercase());
    let printable = !name.is_empty() && name.iter().all(|b| *b >= b' ' && *b != 0x7f);
    Some(matches!(be16(d, 0)?, 1 | 2) && printable && matches!(mode.as_slice(), b"octet" | b"netascii" | b"mail") && d.ends_with(&[0]))
}

/// A priority of one to three digits up to 191 and text (RFC 5424 §6.2.1, RFC 3164 §4.1.1).
fn syslog(d: &[u8]) -> bool {
    let Some(rest) = d.strip_prefix(b"<") else { return false };
    let digits = rest.iter().take_while(|b| b.is_ascii_digit()).count();
    let priority = rest.get(..digits).and_then(|n| std::str::from_utf8(n).ok()).and_then(|n| n.parse::<u16>().ok());
    (1..=3).contains(&digits)
        && priority.is_some_and(|n| n <= 191)
        && rest.get(digits) == Some(&b'>')
        && rest.len() > digits + 1
        && rest.get(digits + 1).is_some_and(|b| b.is_ascii_graphic() || *b == b' ')
}

/// A header whose length is the datagram's, with or without the non-ESP marker of NAT traversal.
fn ike(d: &[u8]) -> Option<bool> {
    let d = d.strip_prefix(&[0, 0, 0, 0]).unwrap_or(d);
    let version = matches!(at(d, 17)?, 0x10 | 0x20);
    Some(version && matches!(at(d, 18)?, 1..=6 | 32..=37) && usize::try_from(be32(d, 24)?).ok()? == d.len() && d.len() > 28)
}

/// Message types by their fixed sizes (the protocol's paper, §5.4).
fn wireguard(d: &[u8]) -> Option<bool> {
    Some(match le32(d, 0)? {
        1 => d.len() == 148,
        2 => d.len() == 92,
        3 => d.len() == 64,
        _ => false,
    })
}

/// A hard reset of either side with key 0, its session id and an empty or short list of acknowledgements.
fn openvpn(d: &[u8]) -> Option<bool> {
    let opcode = matches!(at(d, 0)?, 0x38 | 0x40 | 0x50);
    let session = d.get(1..9)?.iter().any(|&b| b != 0);
    // Plain: list length, then packet id 0. With tls-auth an HMAC comes between.
    let plain = match at(d, 9)? {
        0 => d.len() == 14 && be32(d, 10)? == 0,
        1 => d.len() == 26,
        _ => false,
    };
    // An authenticated one: digest, a small packet number, time, acknowledgements, message 0.
    let authenticated = [16_usize, 20, 32, 64].iter().map(|digest| 9 + digest).any(|at_number| {
        let first = be32(d, at_number).is_some_and(|number| (1..=16).contains(&number));
        let acknowledged = at(d, at_number + 8).map(usize::from).filter(|n| *n <= 1);
        first && acknowledged.is_some_and(|n| d.len() == at_number + 8 + 1 + n * 12 + 4) && d.ends_with(&[0, 0, 0, 0])
    });
    Some(opcode && session && (plain || authenticated))
}

/// A code in use, the datagram's length and attributes that fill it (RFC 2865 §3).
fn radius(d: &[u8]) -> Option<bool> {
    let mut r = Reader::new(d.get(20..)?);
    if !matches!(at(d, 0)?, 1..=5 | 11 | 40..=45) || usize::from(be16(d, 2)?) != d.len() || r.is_empty() {
        return Some(false);
    }
    while !r.is_empty() {
        let (kind, length) = (r.u8("type").ok()?, r.u8("length").ok()?);
        if kind == 0 || length < 2 || r.skip(usize::from(length) - 2, "value").is_err() {
            return Some(false);
        }
    }
    Some(true)
}

/// Whether sets with lengths of their own fill the datagram from `from` on.
fn sets(d: &[u8], from: usize) -> bool {
    let mut r = Reader::new(d.get(from..).unwrap_or_default());
    while r.len() >= 4 {
        let (Ok(_), Ok(length)) = (r.u16("set"), r.u16("length")) else { return false };
        if length < 4 || r.skip(usize::from(length) - 4, "set").is_err() {
            return false;
        }
    }
    r.is_empty()
}

/// A client's or server's packet: version, mode, and a size an NTP packet has (RFC 5905 §7.3).
fn ntp(d: &[u8]) -> Option<bool> {
    let (version, mode) = (at(d, 0)? >> 3 & 7, at(d, 0)? & 7);
    let control = mode == 6
        && d.len() >= 12
        && usize::from(be16(d, 10)?) + 12 <= d.len()
        && at(d, 1)? & 0x1f <= 31
        && d.len() % 4 == 0
        && be16(d, 8)? == 0;
    let timed = matches!(mode, 1..=5) && (matches!(d.len(), 48 | 52 | 64 | 68 | 72)) && at(d, 1)? <= 16 && at(d, 2)? <= 17;
    Some(matches!(version, 1..=4) && (timed || control))
}
