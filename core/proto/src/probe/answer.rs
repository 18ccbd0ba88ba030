//! What the one who was asked says first, protocol by protocol.
//!
//! Most answers prove little alone (`220 ready` is SMTP or FTP, one byte `S` is PostgreSQL's yes to
//! TLS): they fit a request, and only a few name a protocol.

use super::Fit::{Fits, More, Names, No};
use super::binary::{at, be16, be32, ber, ber_integer, ber_length, le16, le32};
use super::text::{contains, line_of, matched};
use super::{Fit, Verdict, prefix};
use crate::reader::Reader;

/// An answer that ran out of bytes.
type Seen = Option<Fit>;

fn fit(seen: Seen) -> Fit {
    seen.unwrap_or(More)
}

fn when(condition: bool, then: Fit) -> Fit {
    if condition { then } else { No }
}

/// A fixed beginning, and what it says.
fn begins(first: &[u8], with: &[u8], then: Fit) -> Fit {
    match prefix(first, with) {
        Verdict::Certain => then,
        Verdict::Unsure => More,
        Verdict::NotForUs => No,
    }
}

fn best<const N: usize>(answers: [Fit; N]) -> Fit {
    [Names, Fits, More].into_iter().find(|fit| answers.contains(fit)).unwrap_or(No)
}

/// The check itself, where both sides begin alike.
fn alike(verdict: Verdict, then: Fit) -> Fit {
    match verdict {
        Verdict::Certain => then,
        Verdict::Unsure => More,
        Verdict::NotForUs => No,
    }
}

/// Defines `pub(super) fn NAME(first) -> Fit` from a body that may run out of bytes.
macro_rules! answers {
    ($($(#[$doc:meta])* $name:ident($first:ident) $body:block)*) => {$(
        $(#[$doc])*
        pub(super) fn $name($first: &[u8]) -> Fit {
            fn seen($first: &[u8]) -> Seen $body
            fit(seen($first))
        }
    )*};
}

/// No answer of its own is known.
pub(super) fn none(_: &[u8]) -> Fit {
    No
}

answers! {
    /// A server's hello of TLS or SSL 2, or an alert.
    tls(first) {
        match at(first, 0)? {
            22 => {
                let hello = at(first, 5)? == 2;
                Some(match super::binary::tls(first) {
                    Verdict::Certain if hello => Names,
                    Verdict::Unsure if hello => More,
                    _ => No,
                })
            }
            21 => Some(when(at(first, 1)? == 3 && at(first, 2)? <= 4 && be16(first, 3)? == 2 && matches!(at(first, 5)?, 1 | 2), Fits)),
            high if high & 0x80 != 0 => {
                let hello = at(first, 2)? == 4 && at(first, 3)? <= 1 && at(first, 4)? <= 1;
                Some(when(hello && be16(first, 5)? == 2, Fits))
            }
            _ => Some(No),
        }
    }

    /// The identification, after lines of text if need be (RFC 4253 §4.2).
    ssh(first) {
        let mut rest = first;
        for _ in 0..32 {
            match best([begins(rest, b"SSH-2.", Names), begins(rest, b"SSH-1.", Names)]) {
                No => {}
                said => return Some(said),
            }
            let (line, complete) = line_of(rest);
            if line.contains(&0) || line.len() > 255 {
                return Some(No);
            }
            if !complete {
                return None;
            }
            rest = rest.get(rest.iter().position(|&b| b == b'\n')?.saturating_add(1)..)?;
        }
        Some(No)
    }

    /// A SETTINGS frame of stream 0.
    http2(first) {
        Some(when(at(first, 0)? == 0 && at(first, 3)? == 4 && at(first, 4)? <= 1 && be32(first, 5)? == 0, Fits))
    }

    /// A connection confirmed in a TPKT.
    rdp(first) {
        let tpkt = at(first, 0)? == 3 && at(first, 1)? == 0 && (11..=1_024).contains(&be16(first, 2)?);
        Some(when(tpkt && u16::from(at(first, 4)?) + 5 == be16(first, 2)? && at(first, 5)? & 0xf0 == 0xd0, Fits))
    }

    /// A positive or negative answer to a session request.
    netbios_session(first) {
        Some(match at(first, 0)? {
            0x82 => when(be16(first, 1)? == 0 && at(first, 3)? == 0, Fits),
            0x83 => when(be16(first, 1)? == 0 && at(first, 3)? == 1, Fits),
            _ => No,
        })
    }

    dcerpc(first) {
        let head = at(first, 0)? == 5 && at(first, 1)? <= 1 && matches!(at(first, 2)?, 2 | 3 | 12 | 13 | 15);
        let length = if at(first, 4)? == 0x10 { le16(first, 8)? } else { be16(first, 8)? };
        Some(when(head && length >= 16, Fits))
    }

    /// A greeting, or an error instead of one.
    mysql(first) {
        let length = usize::from(le16(first, 0)?);
        let greeting = at(first, 2)? == 0 && at(first, 3)? == 0;
        Some(match at(first, 4)? {
            10 => match super::binary::mysql(first) {
                Verdict::Certain => Names,
                Verdict::Unsure => More,
                Verdict::NotForUs => No,
            },
            0xff => when(greeting && (8..=1_024).contains(&length), Fits),
            _ => No,
        })
    }

    /// Yes or no to TLS, an authentication request, an error.
    postgres(first) {
        Some(match at(first, 0)? {
            b'S' | b'N' => when(first.len() == 1 || first.get(1).is_some_and(|b| *b == 22 || *b == b'R'), Fits),
            b'R' => when((8..=2_000).contains(&be32(first, 1)?), Fits),
            b'E' => when((8..=30_000).contains(&be32(first, 1)?), Fits),
            _ => No,
        })
    }

    /// A tabular result.
    mssql(first) {
        Some(when(at(first, 0)? == 4 && at(first, 1)? <= 1 && (9..=32_768).contains(&be16(first, 2)?) && at(first, 7)? == 0, Fits))
    }

    oracle_tns(first) {
        let head = (8..=8_192).contains(&be16(first, 0)?) && be16(first, 2)? == 0;
        Some(when(head && matches!(at(first, 4)?, 2 | 4 | 5 | 11), Fits))
    }

    mongodb(first) {
        Some(when((16..=48_000_000).contains(&le32(first, 0)?) && matches!(le32(first, 12)?, 1 | 2_013), Fits))
    }

    /// A simple string, an error, a number, a bulk string or an array.
    redis(first) {
        let (line, complete) = line_of(first);
        match line.split_first() {
            Some((b'+' | b'-', text)) if text.iter().all(|b| (b' '..0x7f).contains(b)) => {
                Some(if contains(line, b"PONG") || line.starts_with(b"-NOAUTH") { Names } else if complete { Fits } else { More })
            }
            Some((b':' | b'$' | b'*', text)) if text.iter().all(|b| b.is_ascii_digit() || *b == b'-') => {
                Some(if complete { Fits } else { More })
            }
            None if !complete => None,
            _ => Some(No),
        }
    }

    memcached(first) {
        if at(first, 0)? == 0x81 {
            return Some(when(at(first, 1)? <= 0x24, Fits));
        }
        let one = |text: &[u8]| begins(first, text, Fits);
        Some(best([
            one(b"STAT "),
            one(b"STORED\r\n"),
            one(b"NOT_STORED\r\n"),
            one(b"VALUE "),
            one(b"END\r\n"),
            one(b"ERROR\r\n"),
            one(b"VERSION "),
            one(b"CLIENT_ERROR "),
            one(b"SERVER_ERROR "),
            one(b"OK\r\n"),
        ]))
    }

    ldap(first) {
        let mut r = Reader::new(first);
        if !ber(&mut r, 0x30)? || ber_integer(&mut r)?.is_none() {
            return Some(No);
        }
        Some(when(matches!(r.u8("operation").ok()?, 0x61 | 0x64 | 0x65 | 0x73 | 0x78 | 0x79), Fits))
    }

    /// A reply or an error, with a stream's length or bare.
    kerberos(first) {
        let mut r = Reader::new(first);
        if at(first, 0)? == 0 {
            r.skip(4, "length").ok()?;
        }
        let tag = matches!(r.u8("tag").ok()?, 0x6b | 0x6d | 0x7e);
        Some(when(tag && ber_length(&mut r)?.is_some() && r.u8("sequence").ok()? == 0x30, Fits))
    }

    /// A response in a stream, with its length.
    dns(first) {
        Some(when((12..=16_384).contains(&be16(first, 0)?) && at(first, 4)? & 0xf8 == 0x80 && be16(first, 6)? <= 1, Fits))
    }

    mqtt(first) {
        Some(when(at(first, 0)? == 0x20 && matches!(at(first, 1)?, 2..=127) && at(first, 2)? <= 1, Fits))
    }

    /// A frame of channel 0, or the protocol header of a version refused.
    amqp(first) {
        match begins(first, b"AMQP", Names) {
            No => Some(when(at(first, 0)? == 1 && be16(first, 1)? == 0 && be32(first, 3)? < 131_072, Fits)),
            said => Some(said),
        }
    }

    socks4(first) {
        Some(when(at(first, 0)? == 0 && matches!(at(first, 1)?, 0x5a..=0x5d), Fits))
    }

    socks5(first) {
        Some(when(at(first, 0)? == 5 && matches!(at(first, 1)?, 0..=9 | 0x80..=0xff), Fits))
    }

    x11(first) {
        let (big, little) = (be16(first, 2)?, le16(first, 2)?);
        Some(when(at(first, 0)? <= 2 && (big == 11 || little == 11), Fits))
    }

    modbus(first) {
        be16(first, 0)?;
        let head = be16(first, 2)? == 0 && (3..=254).contains(&be16(first, 4)?);
        Some(when(head && matches!(at(first, 7)? & 0x7f, 1..=43), Fits))
    }

    /// The acknowledgement of the stream protocol.
    java_rmi(first) {
        Some(when(at(first, 0)? == 0x4e, Fits))
    }

    /// A pkt-line.
    git(first) {
        at(first, 3)?;
        Some(when(first.get(..4)?.iter().all(u8::is_ascii_hexdigit), Fits))
    }

    stratum(first) {
        Some(when(at(first, 0)? == b'{', Fits))
    }
}

pub(super) fn http(first: &[u8]) -> Fit {
    best([alike(matched(first, b"HTTP/1.# ###"), Names), alike(matched(first, b"HTTP/0.9 ###"), Names)])
}

pub(super) fn rtsp(first: &[u8]) -> Fit {
    begins(first, b"RTSP/1.0 ", Names)
}

pub(super) fn sip(first: &[u8]) -> Fit {
    begins(first, b"SIP/2.0 ", Names)
}

pub(super) fn smb1(first: &[u8]) -> Fit {
    // A server that knows version 2 answers the first question in it.
    best([alike(super::binary::smb1(first), Fits), alike(super::binary::smb2(first), Fits)])
}

pub(super) fn smb2(first: &[u8]) -> Fit {
    alike(super::binary::smb2(first), Fits)
}

/// `220 …`, or a refusal; a greeting that says SMTP names it.
pub(super) fn smtp(first: &[u8]) -> Fit {
    code(first, &[b"220", b"421", b"554"], &[b"SMTP"])
}

pub(super) fn ftp(first: &[u8]) -> Fit {
    code(first, &[b"220", b"120", b"421", b"530"], &[b"FTP", b"FileZilla"])
}

pub(super) fn pop3(first: &[u8]) -> Fit {
    let (line, complete) = line_of(first);
    let words = line.to_ascii_uppercase();
    match best([begins(line, b"+OK", Fits), begins(line, b"-ERR", Fits)]) {
        Fits if contains(&words, b"POP") => Names,
        Fits if !complete => More,
        Fits => when(matches!(line.get(3), None | Some(b' ')) || line.starts_with(b"-ERR"), Fits),
        More if complete => No,
        other => other,
    }
}

pub(super) fn imap(first: &[u8]) -> Fit {
    let (line, complete) = line_of(first);
    let words = line.to_ascii_uppercase();
    match best([begins(&words, b"* OK", Fits), begins(&words, b"* PREAUTH", Fits), begins(&words, b"* BYE", Fits)]) {
        Fits if contains(&words, b"IMAP") || contains(&words, b"[CAPABILITY") => Names,
        Fits if !complete => More,
        More if complete => No,
        other => other,
    }
}

pub(super) fn irc(first: &[u8]) -> Fit {
    let (line, complete) = line_of(first);
    if line.starts_with(b":") {
        let numeric = line.split(|&b| b == b' ').nth(1).is_some_and(|w| w == b"NOTICE" || w.len() == 3 && w.iter().all(u8::is_ascii_digit));
        return if complete { when(numeric, Fits) } else { More };
    }
    best([begins(first, b"NOTICE ", Fits), begins(first, b"PING :", Fits), begins(first, b"ERROR :", Fits)])
}

pub(super) fn telnet(first: &[u8]) -> Fit {
    alike(super::binary::telnet(first), Fits)
}

pub(super) fn snmp(first: &[u8]) -> Fit {
    alike(super::binary::snmp(first), Fits)
}

pub(super) fn vnc(first: &[u8]) -> Fit {
    alike(super::text::vnc(first), Names)
}

pub(super) fn adb(first: &[u8]) -> Fit {
    alike(super::binary::adb(first), Fits)
}

pub(super) fn ajp(first: &[u8]) -> Fit {
    begins(first, b"AB", Fits)
}

pub(super) fn bittorrent(first: &[u8]) -> Fit {
    alike(super::text::bittorrent(first), Names)
}

pub(super) fn rsync(first: &[u8]) -> Fit {
    alike(super::text::rsync(first), Names)
}

/// A reply code with text; `names` in the first line name the protocol.
fn code(first: &[u8], codes: &[&[u8]], names: &[&[u8]]) -> Fit {
    let (line, complete) = line_of(first);
    let (digits, rest) = line.split_at_checked(3).unwrap_or((line, &[]));
    let known = codes.iter().any(|code| if digits.len() == 3 { **code == *digits } else { code.starts_with(digits) && !complete });
    match rest.first() {
        _ if !known => No,
        None => {
            if complete {
                Fits
            } else {
                More
            }
        }
        Some(b' ' | b'-') if names.iter().any(|name| contains(rest, name)) => Names,
        Some(b' ' | b'-') => {
            if complete {
                Fits
            } else {
                More
            }
        }
        Some(_) => No,
    }
}
