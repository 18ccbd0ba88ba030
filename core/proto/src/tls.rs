//! TLS hellos from the raw bytes of a stream (RFC 8446 §4.1, RFC 5246 §7.4.1), kept as sent: order,
//! GREASE and unknown numbers included, so that fingerprints ([`crate::ja`]) can be made.
//!
//! A hello may be cut over several records and may be incomplete. It never decrypts, never
//! negotiates. What follows the hellos is read in [`crate::tls_messages`], SSL 2 in [`crate::ssl2`].

use crate::reader::{ParseError, Parsed, Reader};
use std::borrow::Cow;

/// Longest hello accepted, bytes of the handshake message's body.
pub const MAX_HELLO: usize = 65_536;
/// Most records one hello may be cut into.
pub const MAX_RECORDS: usize = 4_096;
/// Longest plaintext record (RFC 8446 §5.1).
pub const MAX_RECORD: usize = 16_384;

/// Extension numbers the parsers look into.
pub mod extension {
    #![allow(missing_docs)]
    pub const SERVER_NAME: u16 = 0;
    pub const SUPPORTED_GROUPS: u16 = 10;
    pub const EC_POINT_FORMATS: u16 = 11;
    pub const SIGNATURE_ALGORITHMS: u16 = 13;
    pub const ALPN: u16 = 16;
    pub const SUPPORTED_VERSIONS: u16 = 43;
    pub const KEY_SHARE: u16 = 51;
}

/// Alert levels and descriptions (RFC 8446 §6) for [`alert`].
pub mod alerts {
    #![allow(missing_docs)]
    pub const WARNING: u8 = 1;
    pub const FATAL: u8 = 2;
    pub const CLOSE_NOTIFY: u8 = 0;
    pub const UNEXPECTED_MESSAGE: u8 = 10;
    pub const RECORD_OVERFLOW: u8 = 22;
    pub const HANDSHAKE_FAILURE: u8 = 40;
    pub const ILLEGAL_PARAMETER: u8 = 47;
    pub const DECODE_ERROR: u8 = 50;
    pub const PROTOCOL_VERSION: u8 = 70;
    pub const INTERNAL_ERROR: u8 = 80;
    pub const UNRECOGNIZED_NAME: u8 = 112;
    pub const NO_APPLICATION_PROTOCOL: u8 = 120;
}

/// One extension as sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extension {
    /// Extension number.
    pub kind: u16,
    /// Body.
    pub data: Vec<u8>,
}

/// A client's hello.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ClientHello {
    /// Version of the first record; 0 when read without a record layer.
    pub record_version: u16,
    /// Number of records the hello was cut into; 0 without a record layer.
    pub records: usize,
    /// The hello's own (legacy) version.
    pub version: u16,
    /// Client random.
    pub random: [u8; 32],
    /// Session id, 0 to 32 bytes.
    pub session_id: Vec<u8>,
    /// Cipher suites in order, GREASE and signalling values included.
    pub ciphers: Vec<u16>,
    /// Compression methods.
    pub compression: Vec<u8>,
    /// Extensions in order.
    pub extensions: Vec<Extension>,
    /// First host name asked for (server_name).
    pub sni: Option<Vec<u8>>,
    /// Application protocols in order.
    pub alpn: Vec<Vec<u8>>,
    /// Versions of supported_versions, in order; empty when the extension is absent.
    pub supported_versions: Vec<u16>,
    /// Signature algorithms in order.
    pub signature_algorithms: Vec<u16>,
    /// Groups (curves) in order.
    pub groups: Vec<u16>,
    /// EC point formats in order.
    pub point_formats: Vec<u8>,
    /// Known extensions whose bodies are wrong, which a real server answers with decode_error.
    pub faults: Vec<ParseError>,
}

impl ClientHello {
    /// Extension numbers in order.
    pub fn extension_kinds(&self) -> impl Iterator<Item = u16> {
        self.extensions.iter().map(|e| e.kind)
    }

    /// Highest version offered, GREASE aside; `None` when the client offers only GREASE.
    pub fn highest_version(&self) -> Option<u16> {
        if self.extension_kinds().any(|k| k == extension::SUPPORTED_VERSIONS) {
            self.supported_versions.iter().copied().filter(|&v| !is_grease(v)).max()
        } else {
            Some(self.version)
        }
    }
}

/// A server's hello.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ServerHello {
    /// Version of the first record.
    pub record_version: u16,
    /// The hello's own (legacy) version.
    pub version: u16,
    /// Server random.
    pub random: [u8; 32],
    /// Session id echoed or given.
    pub session_id: Vec<u8>,
    /// Cipher suite chosen.
    pub cipher: u16,
    /// Compression method chosen.
    pub compression: u8,
    /// Extensions in order.
    pub extensions: Vec<Extension>,
    /// Version of supported_versions, when present.
    pub selected_version: Option<u16>,
    /// Application protocol chosen, when said in clear.
    pub alpn: Option<Vec<u8>>,
}

impl ServerHello {
    /// The version the connection uses.
    pub fn negotiated(&self) -> u16 {
        self.selected_version.unwrap_or(self.version)
    }

    /// The group of key_share: the server's share, or the group it asks for (RFC 8446 §4.2.8).
    pub fn key_share_group(&self) -> Option<u16> {
        let share = self.extensions.iter().find(|e| e.kind == extension::KEY_SHARE)?;
        Reader::new(&share.data).u16("key_share").ok()
    }

    /// Whether the random ends as a server's that could have agreed on more (RFC 8446 §4.1.3).
    pub fn downgrade_sentinel(&self) -> bool {
        self.random.ends_with(b"DOWNGRD\x00") || self.random.ends_with(b"DOWNGRD\x01")
    }

    /// Whether this asks the client for another hello (RFC 8446 §4.1.3).
    pub fn is_retry(&self) -> bool {
        const RETRY: [u8; 32] = [
            0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11, 0xbe, 0x1d, 0x8c, 0x02, 0x1e, 0x65, 0xb8, 0x91, 0xc2, 0xa2, 0x11, 0x16, 0x7a,
            0xbb, 0x8c, 0x5e, 0x07, 0x9e, 0x09, 0xe2, 0xc8, 0xa8, 0x33, 0x9c,
        ];
        self.random == RETRY
    }
}

/// Whether a number is one of the sixteen GREASE values (RFC 8701): `0x0a0a`, `0x1a1a`, … `0xfafa`.
pub const fn is_grease(value: u16) -> bool {
    value & 0x0f0f == 0x0a0a && value >> 8 == value & 0xff
}

/// A version as people write it (`1.3`); unknown ones in hexadecimal.
pub fn version_name(version: u16) -> Cow<'static, str> {
    Cow::Borrowed(match version {
        0x0304 => "1.3",
        0x0303 => "1.2",
        0x0302 => "1.1",
        0x0301 => "1.0",
        0x0300 => "ssl3",
        0x0002 => "ssl2",
        other => return Cow::Owned(format!("0x{other:04x}")),
    })
}

/// A whole alert record.
pub const fn alert(level: u8, description: u8, version: u16) -> [u8; 7] {
    let [hi, lo] = version.to_be_bytes();
    [21, hi, lo, 0, 2, level, description]
}

/// Reads a client's hello from the first bytes of a stream. `used` ends at the hello's last byte.
pub fn client_hello(input: &[u8]) -> Parsed<ClientHello> {
    match handshake(input, 1, "not a TLS client hello") {
        Parsed::Done { value: message, used } => {
            let hello = client_body(Reader::new(&message.body)).map(|mut hello| {
                hello.record_version = message.record_version;
                hello.records = message.map.len();
                for fault in &mut hello.faults {
                    fault.offset = message.stream_offset(fault.offset);
                }
                hello
            });
            message.finish(hello, used)
        }
        other => other.map(|_| ClientHello::default()),
    }
}

/// Reads a client's hello from a handshake message without a record layer (as QUIC carries it).
pub fn client_hello_message(input: &[u8]) -> Parsed<ClientHello> {
    bare(input, 1, "not a TLS client hello", client_body)
}

/// Reads a server's hello from a handshake message without a record layer.
pub fn server_hello_message(input: &[u8]) -> Parsed<ServerHello> {
    bare(input, 2, "not a TLS server hello", server_body)
}

fn bare<'a, T>(input: &'a [u8], kind: u8, not_this: &'static str, body: impl Fn(Reader<'a>) -> Result<T, ParseError>) -> Parsed<T> {
    let mut r = Reader::new(input);
    match r.u8("handshake type") {
        Ok(found) if found == kind => {}
        Ok(_) => return Parsed::malformed(0, not_this),
        Err(_) => return Parsed::missing(0, 4),
    }
    let Ok(length) = r.u24("length") else { return Parsed::missing(input.len(), 4) };
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    if length > MAX_HELLO {
        return Parsed::malformed(1, "TLS hello too long");
    }
    let used = length.saturating_add(4);
    let Ok(message) = r.sub(length, "body") else { return Parsed::missing(input.len(), used) };
    match body(message) {
        Ok(value) => Parsed::Done { value, used },
        Err(e) => e.into(),
    }
}

/// Reads a server's hello from the first bytes it sent. `used` ends at the hello's last byte.
pub fn server_hello(input: &[u8]) -> Parsed<ServerHello> {
    match handshake(input, 2, "not a TLS server hello") {
        Parsed::Done { value: message, used } => {
            let hello =
                server_body(Reader::new(&message.body)).map(|hello| ServerHello { record_version: message.record_version, ..hello });
            message.finish(hello, used)
        }
        other => other.map(|_| ServerHello::default()),
    }
}

/// The body of one handshake message, put together from its records.
struct Message<'a> {
    body: Cow<'a, [u8]>,
    record_version: u16,
    /// Where each record's part of the body starts: (offset in body, offset in stream).
    map: Vec<(usize, usize)>,
}

impl Message<'_> {
    fn stream_offset(&self, at: usize) -> usize {
        let part = self.map.partition_point(|&(body, _)| body <= at).saturating_sub(1);
        let (body, stream) = self.map.get(part).copied().unwrap_or_default();
        stream.saturating_add(at.saturating_sub(body))
    }

    fn finish<T>(&self, result: Result<T, ParseError>, used: usize) -> Parsed<T> {
        match result {
            Ok(value) => Parsed::Done { value, used },
            Err(e) => Parsed::malformed(self.stream_offset(e.offset), e.what),
        }
    }
}

/// Collects the first handshake message of a stream, which must be of type `kind`.
fn handshake<'a>(input: &'a [u8], kind: u8, not_this: &'static str) -> Parsed<Message<'a>> {
    let mut r = Reader::new(input);
    let mut header: Vec<u8> = Vec::with_capacity(4);
    let mut length = None;
    let mut body: Cow<'a, [u8]> = Cow::Borrowed(&[]);
    let mut map = Vec::new();
    let mut record_version = 0;

    for record in 0..MAX_RECORDS {
        let start = r.offset();
        let first_bytes = r.peek();
        if first_bytes.first().is_some_and(|&b| b != 22) {
            return Parsed::malformed(start, not_this);
        }
        if first_bytes.get(1).is_some_and(|&b| b != 3) {
            return Parsed::malformed(start.saturating_add(1), "TLS record version");
        }
        let head = (|| Ok::<_, ParseError>((r.u8("type")?, r.u16("version")?, r.u16("length")?)))();
        let Ok((_, version, size)) = head else {
            return Parsed::missing(first_bytes.len(), 5);
        };
        let size = usize::from(size);
        if size == 0 || size > MAX_RECORD {
            return Parsed::malformed(start.saturating_add(3), "TLS record length");
        }
        if record == 0 {
            record_version = version;
        }
        let missing = size.saturating_sub(r.len());
        let Ok(mut part) = r.sub(size.min(r.len()), "record") else {
            return Parsed::missing(0, missing);
        };

        while header.len() < 4 {
            let at = part.offset();
            let Ok(byte) = part.u8("header") else { break };
            if header.is_empty() && byte != kind {
                return Parsed::malformed(at, not_this);
            }
            header.push(byte);
            if let [_, a, b, c] = header.as_slice() {
                let total = usize::try_from(u32::from_be_bytes([0, *a, *b, *c])).unwrap_or(usize::MAX);
                if total > MAX_HELLO {
                    return Parsed::malformed(at, "TLS hello too long");
                }
                length = Some(total);
            }
        }
        if let Some(total) = length {
            let want = total.saturating_sub(body.len());
            let here = part.offset();
            let piece = part.take(want.min(part.len()), "part").unwrap_or_default();
            if !piece.is_empty() || map.is_empty() {
                map.push((body.len(), here));
            }
            if body.is_empty() {
                body = Cow::Borrowed(piece);
            } else {
                body.to_mut().extend_from_slice(piece);
            }
            if body.len() >= total {
                return Parsed::Done { value: Message { body, record_version, map }, used: part.offset() };
            }
        }
        if missing > 0 {
            let rest = length.map_or(1, |total| total.saturating_sub(body.len()));
            return Parsed::missing(0, missing.min(rest));
        }
    }
    Parsed::malformed(r.offset(), "TLS hello cut into too many records")
}

fn client_body(mut r: Reader<'_>) -> Result<ClientHello, ParseError> {
    let mut hello = ClientHello { version: r.u16("TLS hello version")?, random: r.array("TLS random")?, ..ClientHello::default() };
    hello.session_id = session_id(&mut r)?;
    let ciphers = r.vec16("TLS cipher suites")?;
    if ciphers.is_empty() {
        return Err(ciphers.error("TLS cipher suites"));
    }
    hello.ciphers = ciphers.u16s("TLS cipher suites")?;
    let mut compression = r.vec8("TLS compression methods")?;
    if compression.is_empty() {
        return Err(compression.error("TLS compression methods"));
    }
    hello.compression = compression.rest().to_vec();
    for (kind, body) in extensions(&mut r)? {
        hello.extensions.push(Extension { kind, data: body.peek().to_vec() });
        if let Err(fault) = client_extension(&mut hello, kind, body) {
            hello.faults.push(fault);
        }
    }
    r.finish("bytes after the TLS hello")?;
    Ok(hello)
}

fn client_extension(hello: &mut ClientHello, kind: u16, mut r: Reader<'_>) -> Result<(), ParseError> {
    match kind {
        extension::SERVER_NAME => {
            let mut list = r.vec16("server_name list")?;
            while !list.is_empty() {
                let name_kind = list.u8("server_name type")?;
                let mut name = list.vec16("server_name")?;
                if name_kind == 0 && hello.sni.is_none() {
                    hello.sni = Some(name.rest().to_vec());
                }
            }
        }
        extension::ALPN => {
            let mut list = r.vec16("ALPN list")?;
            while !list.is_empty() {
                let name = list.vec8("ALPN name")?.rest().to_vec();
                hello.alpn.push(name);
            }
        }
        extension::SUPPORTED_VERSIONS => hello.supported_versions = r.vec8("supported_versions")?.u16s("supported_versions")?,
        extension::SIGNATURE_ALGORITHMS => hello.signature_algorithms = r.vec16("signature_algorithms")?.u16s("signature_algorithms")?,
        extension::SUPPORTED_GROUPS => hello.groups = r.vec16("supported_groups")?.u16s("supported_groups")?,
        extension::EC_POINT_FORMATS => hello.point_formats = r.vec8("ec_point_formats")?.rest().to_vec(),
        _ => return Ok(()),
    }
    r.finish("bytes after a TLS extension's content")
}

fn server_body(mut r: Reader<'_>) -> Result<ServerHello, ParseError> {
    let mut hello = ServerHello { version: r.u16("TLS hello version")?, random: r.array("TLS random")?, ..ServerHello::default() };
    hello.session_id = session_id(&mut r)?;
    hello.cipher = r.u16("TLS cipher suite")?;
    hello.compression = r.u8("TLS compression method")?;
    for (kind, mut body) in extensions(&mut r)? {
        hello.extensions.push(Extension { kind, data: body.peek().to_vec() });
        match kind {
            extension::SUPPORTED_VERSIONS => hello.selected_version = Some(body.u16("supported_versions")?),
            extension::ALPN => hello.alpn = Some(body.vec16("ALPN list")?.vec8("ALPN name")?.rest().to_vec()),
            _ => {}
        }
    }
    r.finish("bytes after the TLS hello")?;
    Ok(hello)
}

fn session_id(r: &mut Reader<'_>) -> Result<Vec<u8>, ParseError> {
    let at = r.offset();
    let mut id = r.vec8("TLS session id")?;
    if id.len() > 32 {
        return Err(ParseError::new(at, "TLS session id too long"));
    }
    Ok(id.rest().to_vec())
}

/// The extension block, which may be absent altogether (RFC 5246 §7.4.1.2).
fn extensions<'a>(r: &mut Reader<'a>) -> Result<Vec<(u16, Reader<'a>)>, ParseError> {
    let mut out = Vec::new();
    if r.is_empty() {
        return Ok(out);
    }
    let mut block = r.vec16("TLS extensions")?;
    while !block.is_empty() {
        out.push((block.u16("TLS extension type")?, block.vec16("TLS extension")?));
    }
    Ok(out)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn vec8(body: &[u8]) -> Vec<u8> {
        [&[u8::try_from(body.len()).unwrap()], body].concat()
    }
    pub(crate) fn vec16(body: &[u8]) -> Vec<u8> {
        [&u16::try_from(body.len()).unwrap().to_be_bytes(), body].concat()
    }
    pub(crate) fn numbers(list: &[u16]) -> Vec<u8> {
        list.iter().flat_map(|n| n.to_be_bytes()).collect()
    }
    pub(crate) fn ext(kind: u16, body: &[u8]) -> Vec<u8> {
        [kind.to_be_bytes().to_vec(), vec16(body)].concat()
    }
    pub(crate) fn sni(name: &[u8]) -> Vec<u8> {
        ext(0, &vec16(&[vec![0], vec16(name)].concat()))
    }

    /// A client hello's handshake message.
    pub(crate) fn message(version: u16, ciphers: &[u16], extensions: Option<&[Vec<u8>]>) -> Vec<u8> {
        let mut body = version.to_be_bytes().to_vec();
        body.extend([7; 32]);
        body.extend(vec8(&[9; 32]));
        body.extend(vec16(&numbers(ciphers)));
        body.extend(vec8(&[0]));
        if let Some(list) = extensions {
            body.extend(vec16(&list.concat()));
        }
        let mut out = vec![1];
        out.extend(&u32::try_from(body.len()).unwrap().to_be_bytes()[1..]);
        out.extend(body);
        out
    }

    /// A handshake message in records of at most `size` bytes.
    pub(crate) fn records(message: &[u8], size: usize) -> Vec<u8> {
        message.chunks(size).flat_map(|part| [vec![22, 3, 1], vec16(part)].concat()).collect()
    }

    fn sample() -> Vec<u8> {
        let list = [
            ext(0x8a8a, &[]),
            sni(b"decoy.example"),
            ext(10, &vec16(&numbers(&[0x1a1a, 29, 23]))),
            ext(11, &vec8(&[0])),
            ext(13, &vec16(&numbers(&[0x0403, 0x0804]))),
            ext(16, &vec16(&[vec8(b"h2"), vec8(b"http/1.1")].concat())),
            ext(43, &vec8(&numbers(&[0x2a2a, 0x0304, 0x0303]))),
        ];
        message(0x0303, &[0x3a3a, 0x1301, 0xc02b, 0x00ff], Some(&list))
    }

    fn done(input: &[u8]) -> ClientHello {
        match client_hello(input) {
            Parsed::Done { value, used } => {
                assert_eq!(used, input.len());
                value
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn keeps_everything_in_order() {
        let hello = done(&records(&sample(), 16_384));
        assert_eq!(hello.record_version, 0x0301);
        assert_eq!(hello.version, 0x0303);
        assert_eq!(hello.ciphers, [0x3a3a, 0x1301, 0xc02b, 0x00ff]);
        assert_eq!(hello.extension_kinds().collect::<Vec<_>>(), [0x8a8a, 0, 10, 11, 13, 16, 43]);
        assert_eq!(hello.sni.as_deref(), Some(b"decoy.example".as_slice()));
        assert_eq!(hello.alpn, [b"h2".to_vec(), b"http/1.1".to_vec()]);
        assert_eq!(hello.groups, [0x1a1a, 29, 23]);
        assert_eq!(hello.signature_algorithms, [0x0403, 0x0804]);
        assert_eq!(hello.point_formats, [0]);
        assert_eq!(hello.supported_versions, [0x2a2a, 0x0304, 0x0303]);
        assert_eq!((hello.random, hello.session_id.len(), hello.compression.as_slice()), ([7; 32], 32, [0].as_slice()));
        assert_eq!(hello.highest_version(), Some(0x0304));
        assert!(hello.faults.is_empty());
    }

    #[test]
    fn any_fragmentation_gives_the_same_hello() {
        let message = sample();
        let whole = done(&records(&message, 16_384));
        for size in [1, 2, 3, 4, 5, 37, 100] {
            let cut = done(&records(&message, size));
            assert_eq!(cut.records, message[4..].len().div_ceil(size).max(cut.records));
            assert_eq!(ClientHello { records: 1, ..cut }, whole, "records of {size}");
        }
        assert_eq!(client_hello_message(&message).done().unwrap().extensions, whole.extensions);
    }

    #[test]
    fn every_prefix_is_incomplete_and_needed_is_honest() {
        for size in [3, 50, 16_384] {
            let bytes = records(&sample(), size);
            for cut in 0..bytes.len() {
                match client_hello(&bytes[..cut]) {
                    Parsed::Incomplete { needed } => assert!(needed >= 1 && cut + needed <= bytes.len(), "{cut} {needed}"),
                    other => panic!("{cut}: {other:?}"),
                }
            }
        }
    }

    #[test]
    fn faults_are_found_at_their_byte() {
        let fault = |bytes: &[u8]| client_hello(bytes).error().unwrap();
        assert_eq!(fault(b"GET / HTTP/1.1").offset, 0);
        assert_eq!(fault(&[22, 4]).offset, 1);
        assert_eq!(fault(&[22, 3, 1, 0, 0]).offset, 3);
        assert_eq!(fault(&[22, 3, 1, 0x40, 1]).offset, 3);
        assert_eq!(fault(&[22, 3, 1, 0, 9, 2]).offset, 5);
        assert_eq!(fault(&[22, 3, 1, 0, 9, 1, 0xff, 0, 0]).offset, 8);
        assert_eq!(fault(&[22, 3, 1, 0, 4, 1, 0, 0, 9, 21]).offset, 9);

        let mut bytes = records(&sample(), 16_384);
        let ciphers_at = 5 + 4 + 2 + 32 + 33;
        bytes[ciphers_at + 1] -= 1;
        assert_eq!(fault(&bytes), ParseError::new(ciphers_at + 2 + 7, "TLS cipher suites"));

        // The same fault seen through records of ten bytes: 5 bytes of header before each.
        let mut message = sample();
        message[4 + 2 + 32] = 33;
        let at = 4 + 2 + 32;
        assert_eq!(fault(&records(&message, 10)).offset, at + 5 * (at / 10 + 1));
    }

    #[test]
    fn a_wrong_extension_body_does_not_hide_the_hello() {
        let list = [ext(0, &[0, 9, 0]), ext(43, &vec8(&numbers(&[0x0304])))];
        let bytes = records(&message(0x0303, &[0x1301], Some(&list)), 16_384);
        let hello = done(&bytes);
        assert_eq!(hello.supported_versions, [0x0304]);
        let body_of_sni = bytes.len() - list[1].len() - 3;
        assert_eq!(hello.faults, [ParseError::new(body_of_sni + 3, "server_name list")]);
    }

    #[test]
    fn old_hellos_have_no_extensions() {
        let hello = done(&records(&message(0x0300, &[4, 5], None), 100));
        assert_eq!((hello.extensions.len(), hello.highest_version()), (0, Some(0x0300)));
    }

    #[test]
    fn server_hellos() {
        let mut body = vec![3, 3];
        body.extend([5; 32]);
        body.extend(vec8(&[]));
        body.extend([0x13, 0x01, 0]);
        body.extend(vec16(&[ext(43, &[3, 4]), ext(16, &vec16(&vec8(b"h2")))].concat()));
        let mut message = vec![2, 0, 0, u8::try_from(body.len()).unwrap()];
        message.extend(&body);
        let end = message.len() + 5;
        message.extend([11, 0, 0, 0]); // the certificate follows in the same record
        let bytes = records(&message, 16_384);
        for cut in 0..end {
            let Parsed::Incomplete { needed } = server_hello(&bytes[..cut]) else { panic!("{cut}") };
            assert!(needed >= 1 && cut + needed <= end, "{cut} {needed}");
        }
        match server_hello(&bytes) {
            Parsed::Done { value, used } => {
                assert_eq!((used, value.cipher, value.negotiated()), (end, 0x1301, 0x0304));
                assert_eq!(value.alpn.as_deref(), Some(b"h2".as_slice()));
                assert!(!value.is_retry());
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn small_encoders_and_names() {
        assert_eq!(alert(alerts::FATAL, alerts::PROTOCOL_VERSION, 0x0301), [21, 3, 1, 0, 2, 2, 70]);
        assert_eq!(version_name(0x0304), "1.3");
        assert_eq!(version_name(0x7f1c), "0x7f1c");
        assert_eq!((0..=u16::MAX).filter(|&v| is_grease(v)).count(), 16);
        assert!(is_grease(0xfafa) && !is_grease(0x0a1a));
    }
}
