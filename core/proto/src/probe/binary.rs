//! Checks of protocols whose first bytes are a binary header.
//!
//! Each inner function reads forward and answers as soon as one byte rules the protocol out;
//! `None` (from `?`) means the bytes ended first.

use super::Verdict::{Certain, NotForUs, Unsure};
use super::{Seen, Verdict, prefix, verdict};
use crate::reader::Reader;

/// Defines `pub(super) fn NAME(first) -> Verdict` from a body that may run out of bytes.
macro_rules! checks {
    ($($(#[$doc:meta])* $name:ident($first:ident) $body:block)*) => {$(
        $(#[$doc])*
        pub(super) fn $name($first: &[u8]) -> Verdict {
            fn seen($first: &[u8]) -> Seen $body
            verdict(seen($first))
        }
    )*};
}

/// Leaves the check with "not for us" unless the condition holds.
macro_rules! need {
    ($condition:expr) => {
        if !$condition {
            return Some(NotForUs);
        }
    };
}

checks! {
    /// A handshake record that starts with a client's or server's hello, or an SSL 2 client hello.
    tls(first) {
        match at(first, 0)? {
            22 => {
                need!(at(first, 1)? == 3 && at(first, 2)? <= 4);
                let length = be16(first, 3)?;
                need!((1..=16_384).contains(&length));
                need!(matches!(at(first, 5)?, 1 | 2));
                if length < 4 {
                    // The hello's own header is cut over records: the next one must follow.
                    let next = usize::from(length) + 5;
                    need!(length == 1 || at(first, 6)? == 0);
                    need!(at(first, next)? == 22 && at(first, next + 1)? == 3);
                    return Some(Certain);
                }
                need!(at(first, 6)? == 0);
                Some(Certain)
            }
            high if high & 0x80 != 0 => {
                let length = u32::from(high & 0x7f) << 8 | u32::from(at(first, 1)?);
                need!((12..=1_024).contains(&length));
                need!(at(first, 2)? == 1);
                need!(matches!((at(first, 3)?, at(first, 4)?), (3, 0..=4) | (0, 2)));
                let (ciphers, session, challenge) = (be16(first, 5)?, be16(first, 7)?, be16(first, 9)?);
                need!(ciphers > 0 && ciphers % 3 == 0 && matches!(session, 0 | 16) && (16..=32).contains(&challenge));
                need!(u32::from(ciphers) + u32::from(session) + u32::from(challenge) + 9 == length);
                Some(Certain)
            }
            _ => Some(NotForUs),
        }
    }

    /// An X.224 connection request that carries an `mstshash` or routing cookie or an RDP negotiation request.
    rdp(first) {
        connection_request(first)?;
        need!(connection_request(first)? != NotForUs);
        let rest = first.get(11..)?;
        let length = usize::from(be16(first, 2)?);
        if length == 11 {
            return Some(Unsure); // old clients send nothing more; so do others
        }
        if let Certain = prefix(rest, b"Cookie: mst") {
            return Some(Certain);
        }
        match prefix(rest, b"Cookie: mst") {
            Unsure => None,
            _ => {
                need!(at(rest, 0)? == 1 && be16(rest, 2).is_none_or(|n| n == 0x0800));
                be32(rest, 4)?;
                Some(Certain)
            }
        }
    }

    /// An X.224 connection request with TSAP parameters, as S7 and other ISO-on-TCP devices use.
    iso_tsap(first) {
        connection_request(first)?;
        need!(connection_request(first)? != NotForUs);
        need!(be16(first, 2)? > 13);
        let (code, length) = (at(first, 11)?, at(first, 12)?);
        need!(matches!((code, length), (0xc0, 1) | (0xc1 | 0xc2, 1..=32)));
        Some(Certain)
    }

    smb1(first) {
        smb(first, &[0xff])
    }

    /// SMB 2 and 3, encrypted and compressed forms included.
    smb2(first) {
        smb(first, &[0xfe, 0xfd, 0xfc])
    }

    /// A session request for a NetBIOS name (RFC 1002 §4.3.2).
    netbios_session(first) {
        need!(at(first, 0)? == 0x81 && at(first, 1)? == 0 && at(first, 2)? == 0 && at(first, 3)? == 0x44 && at(first, 4)? == 0x20);
        for i in 5..37 {
            need!((b'A'..=b'P').contains(&at(first, i)?));
        }
        Some(Certain)
    }

    /// DCE/RPC version 5 over a stream: bind, request and their kin.
    dcerpc(first) {
        need!(at(first, 0)? == 5 && at(first, 1)? <= 1);
        need!(at(first, 2)? <= 20);
        at(first, 3)?;
        need!(matches!(at(first, 4)?, 0 | 0x10) && at(first, 5)? == 0 && at(first, 6)? == 0 && at(first, 7)? == 0);
        let length = if at(first, 4)? == 0x10 { le16(first, 8)? } else { be16(first, 8)? };
        need!((16..=8_192).contains(&length));
        Some(Certain)
    }

    /// Option negotiation (RFC 854).
    telnet(first) {
        need!(at(first, 0)? == 0xff);
        match (at(first, 1)?, at(first, 2)?) {
            // FF FE also begins UTF-16 text: there a zero follows.
            (0xfb..=0xfe, 0..=49) => match first.get(3) {
                Some(0) => Some(NotForUs),
                None if at(first, 1)? == 0xfe => Some(Unsure),
                _ => Some(Certain),
            },
            (0xfa, 0..=49) => Some(Certain),
            _ => Some(NotForUs),
        }
    }

    /// A client's handshake response or TLS request, or a server's greeting.
    mysql(first) {
        let length = usize::from(at(first, 0)?) | usize::from(at(first, 1)?) << 8 | usize::from(at(first, 2)?) << 16;
        need!((32..=4_096).contains(&length));
        if at(first, 3)? == 0 {
            need!(at(first, 4)? == 10 && at(first, 5)?.is_ascii_digit());
            for i in 6..first.len().min(64) {
                match at(first, i)? {
                    0 => return Some(if i >= 8 { Certain } else { NotForUs }),
                    b if b.is_ascii_graphic() => {}
                    _ => return Some(NotForUs),
                }
            }
            return None;
        }
        need!(at(first, 3)? == 1);
        need!(at(first, 5)? & 2 != 0); // CLIENT_PROTOCOL_41
        let zeros = first.get(13..32).or_else(|| first.get(13..))?;
        need!(zeros.iter().all(|&b| b == 0));
        at(first, 31)?;
        Some(Certain)
    }

    /// A startup message, or a request for TLS, GSS encryption or cancellation.
    postgres(first) {
        need!(at(first, 0)? == 0 && at(first, 1)? == 0);
        let length = be32(first, 0)?;
        need!((8..=10_000).contains(&length));
        need!(prefix(first.get(4..)?, &[0, 3]) != NotForUs || prefix(first.get(4..)?, &[4, 0xd2, 0x16]) != NotForUs);
        match (length, be32(first, 4)?) {
            (8, 80_877_103 | 80_877_104) | (16, 80_877_102) => Some(Certain),
            (9.., 196_608 | 196_610) => {
                need!(at(first, 8)?.is_ascii_lowercase() || at(first, 8)? == b'_');
                Some(Certain)
            }
            _ => Some(NotForUs),
        }
    }

    /// TDS: a PRELOGIN with its first option, or a LOGIN7.
    mssql(first) {
        let kind = at(first, 0)?;
        need!(matches!(kind, 0x12 | 0x10) && at(first, 1)? <= 1);
        let length = be16(first, 2)?;
        need!((20..=4_096).contains(&length));
        at(first, 6)?;
        need!(at(first, 7)? == 0);
        if kind == 0x12 {
            need!(at(first, 8)? == 0 && (6..=64).contains(&be16(first, 9)?) && be16(first, 11)? == 6);
            return Some(Certain);
        }
        need!(le32(first, 8)? == u32::from(length).saturating_sub(8));
        need!(matches!(at(first, 15)?, 0x70..=0x74));
        Some(Certain)
    }

    /// A TNS CONNECT packet.
    oracle_tns(first) {
        let length = be16(first, 0)?;
        need!((34..=4_096).contains(&length));
        need!(at(first, 2)? == 0 && at(first, 3)? == 0);
        need!(at(first, 4)? == 1 && at(first, 6)? == 0 && at(first, 7)? == 0);
        need!((0x0100..=0x0160).contains(&be16(first, 8)?));
        Some(Certain)
    }

    /// A message header with a request's operation code.
    mongodb(first) {
        let length = le32(first, 0)?;
        need!((16..=48_000_000).contains(&length));
        let answers = first.get(8..first.len().min(12))?;
        need!(answers.iter().all(|&b| b == 0));
        need!(matches!(le32(first, 12)?, 2_001 | 2_002 | 2_004..=2_007 | 2_010..=2_013));
        Some(Certain)
    }

    /// A bind, search, extended or other request with a plausible message id.
    ldap(first) {
        let mut r = Reader::new(first);
        need!(ber(&mut r, 0x30)?);
        let id = ber_integer(&mut r)?;
        need!(id.is_some());
        match r.u8("operation").ok()? {
            0x60 => {
                need!(ber_length(&mut r)?.is_some_and(|n| n >= 5));
                need!(matches!(ber_integer(&mut r)?, Some(2 | 3)));
                Some(Certain)
            }
            0x63 => {
                need!(ber_length(&mut r)?.is_some_and(|n| n >= 10));
                need!(r.u8("base").ok()? == 0x04);
                Some(Certain)
            }
            0x77 => {
                need!(ber_length(&mut r)?.is_some_and(|n| n >= 3));
                need!(r.u8("name").ok()? == 0x80);
                Some(Certain)
            }
            _ => Some(NotForUs),
        }
    }

    /// A request of Kerberos 5, with a stream's length or bare as in datagrams.
    kerberos(first) {
        let mut r = Reader::new(first);
        if at(first, 0)? == 0 {
            let length = be32(first, 0)?;
            need!((20..=65_536).contains(&length));
            r.skip(4, "length").ok()?;
        }
        let tag = r.u8("tag").ok()?;
        need!(matches!(tag, 0x6a | 0x6c));
        need!(ber_length(&mut r)?.is_some());
        need!(ber(&mut r, 0x30)? && ber(&mut r, 0xa1)?);
        need!(ber_integer(&mut r)? == Some(5));
        need!(ber(&mut r, 0xa2)?);
        need!(ber_integer(&mut r)? == Some(u32::from(tag & 0x1f)));
        Some(Certain)
    }

    snmp(first) {
        let mut r = Reader::new(first);
        need!(ber(&mut r, 0x30)?);
        match ber_integer(&mut r)? {
            Some(0 | 1) => {
                need!(r.u8("community").ok()? == 0x04);
                let Some(length) = ber_length(&mut r)? else { return Some(NotForUs) };
                r.skip(length, "community").ok()?;
                need!(matches!(r.u8("PDU").ok()?, 0xa0..=0xa8));
                Some(Certain)
            }
            Some(3) => {
                need!(ber(&mut r, 0x30)?);
                need!(ber_integer(&mut r)?.is_some() && ber_integer(&mut r)?.is_some());
                need!(r.u8("flags").ok()? == 0x04 && r.u8("flags").ok()? == 1);
                Some(Certain)
            }
            _ => Some(NotForUs),
        }
    }

    /// A query in a stream, with its length: one question of a known class, nothing left over.
    dns(first) {
        let length = usize::from(be16(first, 0)?);
        need!((17..=1_232).contains(&length));
        at(first, 3)?;
        need!(at(first, 4)? & 0x80 == 0 && at(first, 4)? >> 3 & 15 <= 5 && at(first, 5)? & 0x4f == 0);
        need!(be16(first, 6)? == 1 && be16(first, 8)? <= 1 && be16(first, 10)? <= 4 && be16(first, 12)? <= 3);
        let mut r = Reader::new(first.get(14..)?);
        let mut name = 1_usize;
        loop {
            let label = usize::from(r.u8("label").ok()?);
            if label == 0 {
                break;
            }
            name = name.saturating_add(label).saturating_add(1);
            need!(label <= 63 && name <= 255);
            r.skip(label, "label").ok()?;
        }
        need!(r.u16("type").ok()? != 0);
        need!(matches!(r.u16("class").ok()?, 1 | 3 | 4 | 254 | 255));
        let message = first.get(2..length.saturating_add(2))?;
        need!(crate::dns::message(message).is_ok_and(|m| m.trailing == 0));
        Some(Certain)
    }

    /// A CONNECT with its protocol name.
    mqtt(first) {
        need!(at(first, 0)? == 0x10);
        let mut i = 1;
        while at(first, i)? & 0x80 != 0 {
            i += 1;
            need!(i <= 4);
        }
        let rest = first.get(i + 1..)?;
        match (prefix(rest, b"\0\x04MQTT"), prefix(rest, b"\0\x06MQIsdp")) {
            (NotForUs, NotForUs) => Some(NotForUs),
            (Certain, _) => Some(if matches!(at(rest, 6)?, 3..=5) { Certain } else { NotForUs }),
            (_, Certain) => Some(if at(rest, 8)? == 3 { Certain } else { NotForUs }),
            _ => None,
        }
    }

    /// A request whose user id, and host name (4a), end the bytes.
    socks4(first) {
        need!(at(first, 0)? == 4 && matches!(at(first, 1)?, 1 | 2));
        need!(be16(first, 2)? != 0);
        let address = be32(first, 4)?;
        need!(address != 0);
        let mut rest = first.get(8..)?;
        let strings = if address < 256 { 2 } else { 1 };
        for _ in 0..strings {
            let end = rest.iter().position(|&b| b == 0);
            let string = rest.get(..end.unwrap_or(rest.len()))?;
            need!(string.len() <= 255 && string.iter().all(|b| (b' '..0x7f).contains(b)));
            rest = rest.get(end? + 1..)?;
        }
        need!(rest.is_empty());
        Some(Certain)
    }

    /// A method offer that is all there is, or is followed by a request at once.
    socks5(first) {
        need!(at(first, 0)? == 5);
        let count = usize::from(at(first, 1)?);
        need!((1..=16).contains(&count));
        let methods = first.get(2..first.len().min(count + 2))?;
        need!(methods.iter().all(|&m| m <= 9 || (0x80..0xff).contains(&m)));
        at(first, count + 1)?;
        match first.get(count + 2..)? {
            [] => Some(Certain),
            [5, 1..=3, 0, ..] => Some(Certain),
            [1, ..] if methods.contains(&2) => Some(Unsure),
            [5] | [5, 1..=3] => Some(Unsure),
            _ => Some(NotForUs),
        }
    }

    /// A connection setup, protocol 11.0, in either byte order.
    x11(first) {
        match at(first, 0)? {
            b'l' => need!(at(first, 1)? == 0 && at(first, 2)? == 11 && at(first, 3)? == 0),
            b'B' => need!(at(first, 1)? == 0 && at(first, 2)? == 0 && at(first, 3)? == 11),
            _ => return Some(NotForUs),
        }
        need!(at(first, 4)? == 0 && at(first, 5)? == 0);
        Some(Certain)
    }

    /// A message whose magic is the complement of its command.
    adb(first) {
        const COMMANDS: [&[u8]; 4] = [b"CNXN", b"AUTH", b"OPEN", b"STLS"];
        need!(COMMANDS.iter().any(|command| prefix(first, command) != NotForUs));
        need!(le32(first, 20)? == !le32(first, 0)?);
        Some(Certain)
    }

    /// One whole request whose length fits its function.
    modbus(first) {
        be16(first, 0)?;
        need!(be16(first, 2)? == 0);
        let length = usize::from(be16(first, 4)?);
        need!((2..=254).contains(&length));
        need!(first.len() <= length + 6);
        at(first, 6)?;
        let fits = match at(first, 7)? {
            1..=6 => length == 6,
            7 | 11 | 12 | 17 => length == 2,
            8 => length >= 6,
            15 | 16 => length >= 8 && usize::from(at(first, 12)?) + 7 == length,
            22 => length == 8,
            23 => length >= 11,
            43 => length == 5 && at(first, 8)? == 14,
            _ => false,
        };
        need!(fits);
        at(first, length + 5)?;
        Some(Certain)
    }

    /// A forwarded request, ping, shutdown or CPing from a web server.
    ajp(first) {
        need!(at(first, 0)? == 0x12 && at(first, 1)? == 0x34);
        let length = be16(first, 2)?;
        match at(first, 4)? {
            2 => {
                need!(length > 20 && (1..=27).contains(&at(first, 5)?));
                // The protocol string follows.
                need!(be16(first, 6)? <= 16);
                Some(Certain)
            }
            7 | 8 | 10 => {
                need!(length == 1);
                Some(Certain)
            }
            _ => Some(NotForUs),
        }
    }
}

/// memcached's binary request header.
pub(super) fn memcached(first: &[u8]) -> Seen {
    need!(at(first, 0)? == 0x80 && at(first, 1)? <= 0x24);
    let key = u32::from(be16(first, 2)?);
    let extras = u32::from(at(first, 4)?);
    need!(key <= 250 && extras <= 20 && at(first, 5)? == 0);
    need!((key + extras..=1_048_576).contains(&be32(first, 8)?));
    be32(first, 20)?;
    Some(Certain)
}

/// Whether a TPKT with an X.224 connection request of class 0 begins here; `NotForUs` or `Unsure`.
fn connection_request(first: &[u8]) -> Seen {
    need!(at(first, 0)? == 3 && at(first, 1)? == 0);
    let length = be16(first, 2)?;
    need!((11..=1_024).contains(&length));
    need!(u16::from(at(first, 4)?) + 5 == length);
    need!(at(first, 5)? == 0xe0);
    need!(be16(first, 6)? == 0);
    at(first, 9)?;
    need!(at(first, 10)? == 0);
    Some(Unsure)
}

/// An SMB message in its session frame.
fn smb(first: &[u8], marks: &[u8]) -> Seen {
    need!(at(first, 0)? == 0 && at(first, 1)? <= 1);
    at(first, 3)?;
    need!(marks.contains(&at(first, 4)?));
    match prefix(first.get(5..)?, b"SMB") {
        Unsure => None,
        other => Some(other),
    }
}

/// Consumes a BER tag and its length: `Some(false)` when either is wrong.
pub(super) fn ber(r: &mut Reader<'_>, tag: u8) -> Option<bool> {
    if r.u8("tag").ok()? != tag {
        return Some(false);
    }
    Some(ber_length(r)?.is_some())
}

/// A definite length of at most four bytes; the inner `None` when it is something else.
pub(super) fn ber_length(r: &mut Reader<'_>) -> Option<Option<usize>> {
    let first = r.u8("length").ok()?;
    if first < 0x80 {
        return Some(Some(usize::from(first)));
    }
    let count = usize::from(first & 0x7f);
    if !(1..=4).contains(&count) {
        return Some(None);
    }
    let bytes = r.take(count, "length").ok()?;
    let length = bytes.iter().fold(0_usize, |n, &b| n << 8 | usize::from(b));
    Some((length <= 0x0100_0000).then_some(length))
}

/// A small non-negative INTEGER; the inner `None` when it is something else.
pub(super) fn ber_integer(r: &mut Reader<'_>) -> Option<Option<u32>> {
    if r.u8("tag").ok()? != 2 {
        return Some(None);
    }
    let length = usize::from(r.u8("length").ok()?);
    if !(1..=4).contains(&length) {
        return Some(None);
    }
    let bytes = r.take(length, "integer").ok()?;
    let negative = bytes.first().is_some_and(|b| b & 0x80 != 0);
    Some((!negative).then(|| bytes.iter().fold(0_u32, |n, &b| n << 8 | u32::from(b))))
}

pub(super) fn at(first: &[u8], i: usize) -> Option<u8> {
    first.get(i).copied()
}

fn array<const N: usize>(first: &[u8], i: usize) -> Option<[u8; N]> {
    first.get(i..i.checked_add(N)?)?.try_into().ok()
}

pub(super) fn be16(first: &[u8], i: usize) -> Option<u16> {
    array(first, i).map(u16::from_be_bytes)
}

pub(super) fn le16(first: &[u8], i: usize) -> Option<u16> {
    array(first, i).map(u16::from_le_bytes)
}

pub(super) fn be32(first: &[u8], i: usize) -> Option<u32> {
    array(first, i).map(u32::from_be_bytes)
}

pub(super) fn le32(first: &[u8], i: usize) -> Option<u32> {
    array(first, i).map(u32::from_le_bytes)
}
