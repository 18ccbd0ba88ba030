//! PROXY protocol header, versions 1 and 2 (HAProxy's `proxy-protocol.txt`): who the peer *claims*
//! the visitor is.
//!
//! Incremental and bounded to [`MAX_HEADER`] bytes. It must never be taken for the socket's own
//! tuple: the caller keeps claim and wire apart.

use crate::reader::{ParseError, Parsed, Reader};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Longest header accepted: version 2's 16 bytes and 520 of addresses and TLVs; the longest a
/// receiver must support (§2.2).
pub const MAX_HEADER: usize = 536;
/// Longest version 1 line, CR LF included (§2.1).
pub const MAX_LINE: usize = 107;
/// First twelve bytes of version 2.
pub const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// What the header claims.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxyHeader {
    /// 1 or 2.
    pub version: u8,
    /// `true` when the proxy speaks for itself (version 2 LOCAL), so that the addresses do not count.
    pub local: bool,
    /// Kind of connection claimed.
    pub carrier: Carrier,
    /// Claimed source, when it is an IP endpoint.
    pub source: Option<SocketAddr>,
    /// Claimed destination, when it is an IP endpoint.
    pub destination: Option<SocketAddr>,
    /// Version 2 TLVs in order: type and value.
    pub tlvs: Vec<(u8, Vec<u8>)>,
}

/// Kind of connection a header claims.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carrier {
    /// Not said (`UNKNOWN`, `AF_UNSPEC`).
    Unknown,
    /// A byte stream over IP (TCP).
    Stream,
    /// Datagrams over IP (UDP).
    Datagram,
    /// A Unix socket, whose paths are not kept.
    Unix,
}

/// Reads a header from the first bytes of a connection.
///
/// Bytes that are not a PROXY header at all are malformed at the first byte that differs.
pub fn header(input: &[u8]) -> Parsed<ProxyHeader> {
    match input.first() {
        None => Parsed::missing(0, 8),
        Some(b'\r') => version_2(input),
        Some(_) => version_1(input),
    }
}

fn version_1(input: &[u8]) -> Parsed<ProxyHeader> {
    const START: &[u8] = b"PROXY ";
    if let Some(at) = first_difference(input, START) {
        return Parsed::malformed(at, "not a PROXY header");
    }
    let line = match input.iter().take(MAX_LINE).position(|&b| b == b'\n') {
        Some(end) => input.get(..end).unwrap_or_default(),
        None if input.len() >= MAX_LINE => return Parsed::malformed(MAX_LINE, "PROXY line too long"),
        None => return Parsed::missing(input.len(), input.len().saturating_add(1)),
    };
    let Some(text) = line.strip_suffix(b"\r") else {
        return Parsed::malformed(line.len(), "PROXY line ends without CR");
    };
    let used = line.len().saturating_add(1);
    match fields_1(text.get(START.len()..).unwrap_or_default(), START.len()) {
        Ok(value) => Parsed::Done { value, used },
        Err(e) => e.into(),
    }
}

fn fields_1(text: &[u8], base: usize) -> Result<ProxyHeader, ParseError> {
    let mut header = ProxyHeader { version: 1, local: false, carrier: Carrier::Unknown, source: None, destination: None, tlvs: Vec::new() };
    let mut at = base;
    let mut words = text.split(|&b| b == b' ').map(|word| {
        let here = at;
        at = at.saturating_add(word.len()).saturating_add(1);
        (here, word)
    });
    let v6 = match words.next() {
        Some((_, b"UNKNOWN")) => return Ok(header), // the rest of the line must be ignored (§2.1)
        Some((_, b"TCP4")) => false,
        Some((_, b"TCP6")) => true,
        Some((here, _)) => return Err(ParseError::new(here, "PROXY protocol family")),
        None => return Err(ParseError::new(base, "PROXY protocol family")),
    };
    let mut next = |what| words.next().ok_or(ParseError::new(base.saturating_add(text.len()), what));
    let source = address(next("PROXY source address")?, v6, "PROXY source address")?;
    let destination = address(next("PROXY destination address")?, v6, "PROXY destination address")?;
    let source_port = port(next("PROXY source port")?, "PROXY source port")?;
    let destination_port = port(next("PROXY destination port")?, "PROXY destination port")?;
    if let Some((here, _)) = words.next() {
        return Err(ParseError::new(here, "PROXY line goes on"));
    }
    header.carrier = Carrier::Stream;
    header.source = Some(SocketAddr::new(source, source_port));
    header.destination = Some(SocketAddr::new(destination, destination_port));
    Ok(header)
}

fn address((at, word): (usize, &[u8]), v6: bool, what: &'static str) -> Result<IpAddr, ParseError> {
    let text = std::str::from_utf8(word).map_err(|_| ParseError::new(at, what))?;
    let parsed = if v6 { text.parse::<Ipv6Addr>().map(IpAddr::V6) } else { text.parse::<Ipv4Addr>().map(IpAddr::V4) };
    parsed.map_err(|_| ParseError::new(at, what))
}

fn port((at, word): (usize, &[u8]), what: &'static str) -> Result<u16, ParseError> {
    let plain = !word.is_empty() && word.iter().all(u8::is_ascii_digit) && (word.len() == 1 || word.first() != Some(&b'0'));
    let text = std::str::from_utf8(word).ok().filter(|_| plain);
    text.and_then(|t| t.parse().ok()).ok_or(ParseError::new(at, what))
}

fn version_2(input: &[u8]) -> Parsed<ProxyHeader> {
    if let Some(at) = first_difference(input, &SIGNATURE) {
        return Parsed::malformed(at, "not a PROXY header");
    }
    let mut r = Reader::new(input);
    let fixed = (|| {
        r.skip(SIGNATURE.len(), "signature")?;
        Ok::<_, ParseError>((r.u8("version")?, r.u8("family")?, r.u16("length")?))
    })();
    let Ok((command, family, length)) = fixed else {
        // What is there can already be wrong.
        if input.get(12).is_some_and(|b| b & 0xf0 != 0x20 || b & 0x0f > 1) {
            return Parsed::malformed(12, "PROXY version or command");
        }
        return Parsed::missing(input.len(), 16);
    };
    if command & 0xf0 != 0x20 || command & 0x0f > 1 {
        return Parsed::malformed(12, "PROXY version or command");
    }
    if family >> 4 > 3 || family & 0x0f > 2 {
        return Parsed::malformed(13, "PROXY address family or transport");
    }
    let used = usize::from(length).saturating_add(16);
    if used > MAX_HEADER {
        return Parsed::malformed(14, "PROXY header too long");
    }
    let Ok(body) = r.sub(usize::from(length), "body") else {
        return Parsed::missing(input.len(), used);
    };
    match body_2(body, command & 0x0f == 0, family) {
        Ok(value) => Parsed::Done { value, used },
        Err(e) => e.into(),
    }
}

fn body_2(mut r: Reader<'_>, local: bool, family: u8) -> Result<ProxyHeader, ParseError> {
    let mut header = ProxyHeader { version: 2, local, carrier: Carrier::Unknown, source: None, destination: None, tlvs: Vec::new() };
    let carrier = if family & 0x0f == 2 { Carrier::Datagram } else { Carrier::Stream };
    match (family >> 4, family & 0x0f) {
        (1, 1 | 2) => {
            let source = Ipv4Addr::from(r.array::<4>("PROXY source address")?);
            let destination = Ipv4Addr::from(r.array::<4>("PROXY destination address")?);
            header.source = Some(SocketAddr::new(source.into(), r.u16("PROXY source port")?));
            header.destination = Some(SocketAddr::new(destination.into(), r.u16("PROXY destination port")?));
            header.carrier = carrier;
        }
        (2, 1 | 2) => {
            let source = Ipv6Addr::from(r.array::<16>("PROXY source address")?);
            let destination = Ipv6Addr::from(r.array::<16>("PROXY destination address")?);
            header.source = Some(SocketAddr::new(source.into(), r.u16("PROXY source port")?));
            header.destination = Some(SocketAddr::new(destination.into(), r.u16("PROXY destination port")?));
            header.carrier = carrier;
        }
        (3, 1 | 2) => {
            r.skip(216, "PROXY Unix addresses")?;
            header.carrier = Carrier::Unix;
        }
        // Unspecified: the address block's length is unknown, so everything is skipped (§2.2).
        _ => return Ok(header),
    }
    while !r.is_empty() {
        let kind = r.u8("PROXY TLV")?;
        let mut value = r.vec16("PROXY TLV")?;
        header.tlvs.push((kind, value.rest().to_vec()));
    }
    Ok(header)
}

/// Offset of the first byte of `input` that differs from `expected`, over their common length.
fn first_difference(input: &[u8], expected: &[u8]) -> Option<usize> {
    input.iter().zip(expected).position(|(a, b)| a != b)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn done(input: &[u8]) -> (ProxyHeader, usize) {
        match header(input) {
            Parsed::Done { value, used } => (value, used),
            other => panic!("{other:?}"),
        }
    }

    fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let mut out = SIGNATURE.to_vec();
        out.extend([command, family]);
        out.extend(u16::try_from(body.len()).unwrap().to_be_bytes());
        out.extend(body);
        out
    }

    #[test]
    fn version_1_lines() {
        let line = b"PROXY TCP4 192.0.2.1 198.51.100.7 56324 443\r\nGET / HTTP/1.0\r\n";
        let (h, used) = done(line);
        assert_eq!(used, 45);
        assert_eq!((h.version, h.carrier), (1, Carrier::Stream));
        assert_eq!(h.source, Some("192.0.2.1:56324".parse().unwrap()));
        assert_eq!(h.destination, Some("198.51.100.7:443".parse().unwrap()));
        for cut in 0..used {
            assert!(matches!(header(&line[..cut]), Parsed::Incomplete { .. }), "{cut}");
        }
        assert_eq!(done(b"PROXY TCP6 ::1 2001:db8::2 1 65535\r\n").0.destination, Some("[2001:db8::2]:65535".parse().unwrap()));
        assert_eq!(done(b"PROXY UNKNOWN ffff:f 1 2\r\n").0.source, None);
        assert_eq!(done(b"PROXY UNKNOWN\r\n").0.carrier, Carrier::Unknown);
    }

    #[test]
    fn version_1_faults_point_at_the_word() {
        let cases: &[(&[u8], usize)] = &[
            (b"GET / HTTP/1.1\r\n", 0),
            (b"PROXx", 4),
            (b"PROXY TCP5 1.2.3.4 1.2.3.4 1 2\r\n", 6),
            (b"PROXY TCP4 ::1 1.2.3.4 1 2\r\n", 11),
            (b"PROXY TCP4 1.2.3.4 1.2.3.4 1 65536\r\n", 29),
            (b"PROXY TCP4 1.2.3.4 1.2.3.4 01 2\r\n", 27),
            (b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2 3\r\n", 31),
            (b"PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n", 28),
            (b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2\n", 30),
        ];
        for (input, offset) in cases {
            assert_eq!(header(input).error().map(|e| e.offset), Some(*offset), "{}", String::from_utf8_lossy(input));
        }
        let long = [b"PROXY UNKNOWN ".as_slice(), &[b'x'; 200]].concat();
        assert_eq!(header(&long).error().unwrap().offset, MAX_LINE);
    }

    #[test]
    fn version_2_headers() {
        let body = [192, 0, 2, 1, 198, 51, 100, 7, 0xdc, 4, 1, 0xbb, 0x03, 0, 4, 1, 2, 3, 4];
        let bytes = v2(0x21, 0x11, &body);
        let (h, used) = done(&[bytes.clone(), b"rest".to_vec()].concat());
        assert_eq!(used, bytes.len());
        assert_eq!(h.source, Some("192.0.2.1:56324".parse().unwrap()));
        assert_eq!(h.tlvs, vec![(3, vec![1, 2, 3, 4])]);
        for cut in 0..used {
            assert!(matches!(header(&bytes[..cut]), Parsed::Incomplete { .. }), "{cut}");
        }
        let mut six = vec![0; 36];
        six[15] = 1;
        six[35] = 53;
        let (h, _) = done(&v2(0x21, 0x22, &six));
        assert_eq!((h.carrier, h.destination), (Carrier::Datagram, Some("[::]:53".parse().unwrap())));
        assert!(done(&v2(0x20, 0x00, &[])).0.local);
        assert_eq!(done(&v2(0x21, 0x31, &[0; 216])).0.carrier, Carrier::Unix);
    }

    #[test]
    fn version_2_faults() {
        assert_eq!(header(&v2(0x31, 0x11, &[0; 12])).error().unwrap().offset, 12);
        assert_eq!(header(&v2(0x22, 0x11, &[0; 12])).error().unwrap().offset, 12);
        assert_eq!(header(&v2(0x21, 0x43, &[0; 12])).error().unwrap().offset, 13);
        assert_eq!(header(&v2(0x21, 0x11, &[0; 521])).error().unwrap().offset, 14);
        assert_eq!(header(&v2(0x21, 0x11, &[0; 11])).error().unwrap().offset, 27);
        assert_eq!(header(&v2(0x21, 0x11, &[0; 14])).error().unwrap().offset, 30);
        assert_eq!(header(b"\r\n\r\n\0\r\nQUIX").error().unwrap().offset, 10);
    }
}
