//! SSH before encryption (RFC 4253 §4.2, §6, §7.1): identification lines, packet framing, KEXINIT
//! and the HASSH fingerprints.
//!
//! Lists are kept as sent, in wire order. It never decrypts and never negotiates.

use crate::md5_hex;
use crate::reader::{ParseError, Parsed, Reader};

/// Longest packet accepted before encryption, as OpenSSH's own limit.
pub const MAX_PACKET: usize = 256 * 1024;
/// Message number of KEXINIT.
pub const MSG_KEXINIT: u8 = 20;

/// Bounds of the identification exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdLimits {
    /// Longest line in bytes, line end included. RFC: 255; OpenSSH reads up to 8192.
    pub line: usize,
    /// Lines allowed before the identification: only a server may send them, so 0 for a client.
    pub pre_lines: usize,
}

impl Default for IdLimits {
    fn default() -> Self {
        Self { line: 255, pre_lines: 0 }
    }
}

/// An identification line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identification {
    /// The whole line without its end, as sent: `SSH-2.0-OpenSSH_9.2p1 Debian-2`.
    pub line: Vec<u8>,
    /// Protocol version: `2.0`.
    pub protocol: Vec<u8>,
    /// Software version: `OpenSSH_9.2p1`.
    pub software: Vec<u8>,
    /// What follows the first space.
    pub comment: Option<Vec<u8>>,
    /// Whether the line ended in CR LF, as the RFC wants, or in LF alone.
    pub crlf: bool,
    /// Lines sent before, without their ends.
    pub pre_lines: Vec<Vec<u8>>,
}

/// Reads up to the identification line.
///
/// NUL, and CR without LF, are malformed at once (as OpenSSH treats them); any other wrong line only
/// when it is complete or too long, because the real server waits that long too.
pub fn identification(input: &[u8], limits: IdLimits) -> Parsed<Identification> {
    let mut r = Reader::new(input);
    let mut pre_lines = Vec::new();
    loop {
        let start = r.offset();
        let here = r.peek();
        let window = here.get(..limits.line).unwrap_or(here);
        let end = window.iter().position(|&b| b == b'\n');
        let line = window.get(..end.unwrap_or(window.len())).unwrap_or_default();
        let (text, crlf) = line.strip_suffix(b"\r").map_or((line, false), |t| (t, true));
        if let Some(bad) = text.iter().position(|&b| b == 0 || b == b'\r') {
            let after = usize::from(text.get(bad) == Some(&b'\r'));
            return Parsed::malformed(start.saturating_add(bad).saturating_add(after), "control byte in the SSH identification");
        }
        if end.is_none() {
            if here.len() >= limits.line {
                return Parsed::malformed(start.saturating_add(limits.line), "SSH identification too long");
            }
            return Parsed::missing(0, 1);
        }
        let _ = r.take(line.len().saturating_add(1), "line");
        if text.starts_with(b"SSH-") {
            let used = r.offset();
            return match split_identification(text, start) {
                Ok((protocol, software, comment)) => {
                    Parsed::Done { value: Identification { line: text.to_vec(), protocol, software, comment, crlf, pre_lines }, used }
                }
                Err(e) => e.into(),
            };
        }
        if pre_lines.len() >= limits.pre_lines {
            let same = text.iter().zip(b"SSH-").take_while(|(a, b)| a == b).count();
            return Parsed::malformed(start.saturating_add(same), "not an SSH identification");
        }
        pre_lines.push(text.to_vec());
    }
}

type IdParts = (Vec<u8>, Vec<u8>, Option<Vec<u8>>);

fn split_identification(text: &[u8], start: usize) -> Result<IdParts, ParseError> {
    let rest = text.get(4..).unwrap_or_default();
    let Some(dash) = rest.iter().position(|&b| b == b'-') else {
        return Err(ParseError::new(start.saturating_add(text.len()), "SSH identification without software version"));
    };
    let (protocol, rest) = rest.split_at_checked(dash).unwrap_or_default();
    let rest = rest.get(1..).unwrap_or_default();
    let mut parts = rest.splitn(2, |&b| b == b' ');
    let software = parts.next().unwrap_or_default().to_vec();
    Ok((protocol.to_vec(), software, parts.next().map(<[u8]>::to_vec)))
}

/// One unencrypted binary packet (RFC 4253 §6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet<'a> {
    /// The message; its first byte is the message number.
    pub payload: &'a [u8],
    /// Offset of the payload from the start of the input: 5.
    pub payload_offset: usize,
    /// Bytes of padding.
    pub padding: u8,
}

/// Reads one unencrypted packet of at most `max` bytes (and never more than [`MAX_PACKET`]).
pub fn packet(input: &[u8], max: usize) -> Parsed<Packet<'_>> {
    let mut r = Reader::new(input);
    let Ok(length) = r.u32("length") else { return Parsed::missing(input.len(), 6) };
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    if length < 5 || length > max.min(MAX_PACKET) || length.saturating_add(4) % 8 != 0 {
        return Parsed::malformed(0, "SSH packet length");
    }
    let used = length.saturating_add(4);
    let Ok(padding) = r.u8("padding length") else { return Parsed::missing(input.len(), used) };
    // At least four bytes of padding, and room for a message number.
    let Some(size) = length.checked_sub(usize::from(padding).saturating_add(1)).filter(|&n| n > 0 && padding >= 4) else {
        return Parsed::malformed(4, "SSH padding length");
    };
    let Ok(payload) = r.take(size, "payload") else { return Parsed::missing(input.len(), used) };
    if r.len() < usize::from(padding) {
        return Parsed::missing(input.len(), used);
    }
    Parsed::Done { value: Packet { payload, payload_offset: 5, padding }, used }
}

/// A comma-separated list of names, as sent.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NameList(pub Vec<u8>);

impl NameList {
    /// The names in order; none for an empty list.
    pub fn names(&self) -> impl Iterator<Item = &[u8]> {
        self.0.split(|&b| b == b',').filter(|_| !self.0.is_empty())
    }
}

/// A key exchange offer (RFC 4253 §7.1).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KexInit {
    /// Random cookie.
    pub cookie: [u8; 16],
    /// Key exchange methods.
    pub kex: NameList,
    /// Host key algorithms.
    pub host_key: NameList,
    /// Ciphers, client to server.
    pub cipher_in: NameList,
    /// Ciphers, server to client.
    pub cipher_out: NameList,
    /// MACs, client to server.
    pub mac_in: NameList,
    /// MACs, server to client.
    pub mac_out: NameList,
    /// Compression, client to server.
    pub compression_in: NameList,
    /// Compression, server to client.
    pub compression_out: NameList,
    /// Languages, client to server.
    pub language_in: NameList,
    /// Languages, server to client.
    pub language_out: NameList,
    /// Whether a guessed key exchange packet follows.
    pub first_kex_follows: bool,
    /// Reserved number, 0.
    pub reserved: u32,
}

impl KexInit {
    /// The text HASSH hashes: the client's view, lists 0;2;4;6. Bytes that are not UTF-8 are
    /// replaced here but hashed as sent.
    pub fn hassh_algorithms(&self) -> String {
        lossy(&self.client_lists())
    }

    /// HASSH of a client: 32 hexadecimal digits.
    pub fn hassh(&self) -> String {
        md5_hex(&self.client_lists())
    }

    /// The text hasshServer hashes: lists 0;3;5;7.
    pub fn hassh_server_algorithms(&self) -> String {
        lossy(&self.server_lists())
    }

    /// hasshServer: 32 hexadecimal digits.
    pub fn hassh_server(&self) -> String {
        md5_hex(&self.server_lists())
    }

    fn client_lists(&self) -> Vec<u8> {
        joined([&self.kex, &self.cipher_in, &self.mac_in, &self.compression_in])
    }

    fn server_lists(&self) -> Vec<u8> {
        joined([&self.kex, &self.cipher_out, &self.mac_out, &self.compression_out])
    }
}

fn joined(lists: [&NameList; 4]) -> Vec<u8> {
    lists.map(|l| l.0.as_slice()).join(&b';')
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Reads the KEXINIT that follows the identification line. Offsets count from the packet's start.
pub fn kexinit(input: &[u8]) -> Parsed<KexInit> {
    // A wrong message number is known as soon as its byte is there.
    if let Some(&number) = input.get(5)
        && number != MSG_KEXINIT
        && !matches!(packet(input, MAX_PACKET), Parsed::Malformed { .. })
    {
        return Parsed::malformed(5, "not an SSH KEXINIT");
    }
    match packet(input, MAX_PACKET) {
        Parsed::Done { value: packet, used } => match kexinit_payload(Reader::at(packet.payload, packet.payload_offset)) {
            Ok(value) => Parsed::Done { value, used },
            Err(e) => e.into(),
        },
        other => other.map(|_| KexInit::default()),
    }
}

/// Reads a KEXINIT message from a packet's payload.
pub fn kexinit_payload(mut r: Reader<'_>) -> Result<KexInit, ParseError> {
    let at = r.offset();
    if r.u8("SSH message number")? != MSG_KEXINIT {
        return Err(ParseError::new(at, "not an SSH KEXINIT"));
    }
    let cookie = r.array("KEXINIT cookie")?;
    let mut list = |what| r.vec32(what).map(|mut body| NameList(body.rest().to_vec()));
    let mut init = KexInit {
        cookie,
        kex: list("KEXINIT kex algorithms")?,
        host_key: list("KEXINIT host key algorithms")?,
        cipher_in: list("KEXINIT ciphers")?,
        cipher_out: list("KEXINIT ciphers")?,
        mac_in: list("KEXINIT MACs")?,
        mac_out: list("KEXINIT MACs")?,
        compression_in: list("KEXINIT compression")?,
        compression_out: list("KEXINIT compression")?,
        language_in: list("KEXINIT languages")?,
        language_out: list("KEXINIT languages")?,
        ..KexInit::default()
    };
    init.first_kex_follows = r.u8("KEXINIT flag")? != 0;
    init.reserved = r.u32("KEXINIT reserved")?;
    r.finish("bytes after the KEXINIT")?;
    Ok(init)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(input: &[u8]) -> Parsed<Identification> {
        identification(input, IdLimits::default())
    }

    fn framed(payload: &[u8]) -> Vec<u8> {
        let padding = 4 + (8 - (payload.len() + 5 + 4) % 8) % 8;
        let mut out = u32::try_from(payload.len() + padding + 1).unwrap().to_be_bytes().to_vec();
        out.push(u8::try_from(padding).unwrap());
        out.extend(payload);
        out.resize(out.len() + padding, 0);
        out
    }

    fn offer(lists: [&str; 10]) -> Vec<u8> {
        let mut payload = vec![MSG_KEXINIT];
        payload.extend([0x42; 16]);
        for list in lists {
            payload.extend(u32::try_from(list.len()).unwrap().to_be_bytes());
            payload.extend(list.as_bytes());
        }
        payload.extend([0, 0, 0, 0, 0]);
        payload
    }

    const LISTS: [&str; 10] = ["kex1,kex2", "ssh-ed25519", "c-in", "c-out", "m-in", "m-out", "none", "none,zlib", "", ""];

    #[test]
    fn identification_lines() {
        let Parsed::Done { value, used } = id(b"SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3\r\n\0\0\x05") else { panic!() };
        assert_eq!(used, 40);
        assert_eq!(value.line, b"SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3");
        assert_eq!((value.protocol.as_slice(), value.software.as_slice()), (b"2.0".as_slice(), b"OpenSSH_9.2p1".as_slice()));
        assert_eq!((value.comment.as_deref(), value.crlf), (Some(b"Debian-2+deb12u3".as_slice()), true));

        let value = id(b"SSH-1.99-libssh-0.1\n").done().unwrap();
        assert_eq!((value.software.as_slice(), value.comment, value.crlf), (b"libssh-0.1".as_slice(), None, false));
        for cut in 0..39 {
            assert!(matches!(id(&b"SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3\r\n"[..cut]), Parsed::Incomplete { needed: 1 }));
        }
    }

    #[test]
    fn lines_before_the_identification() {
        let input = b"Welcome\r\nto it\nSSH-2.0-x\r\n";
        let two = IdLimits { pre_lines: 2, ..IdLimits::default() };
        assert_eq!(identification(input, two).done().unwrap().pre_lines, [b"Welcome".to_vec(), b"to it".to_vec()]);
        let one = IdLimits { pre_lines: 1, ..IdLimits::default() };
        assert_eq!(identification(input, one).error().unwrap().offset, 9);
    }

    #[test]
    fn identification_faults() {
        let fault = |input: &[u8]| id(input).error().map(|e| e.offset);
        assert_eq!(fault(b"GET / HTTP/1.1\r\n"), Some(0));
        assert_eq!(fault(b"GET / HTTP/1.1"), None);
        assert_eq!(fault(b"SSX-2.0-x\r\n"), Some(2));
        assert_eq!(fault(b"SSH-2.0\r\n"), Some(7));
        assert_eq!(fault(b"SSH-2.0-a\0"), Some(9));
        assert_eq!(fault(b"SSH-2.0-a\rb"), Some(10));
        assert_eq!(fault(b"SSH-2.0-a\r"), None);
        assert_eq!(fault(&[b'a'; 254]), None);
        assert_eq!(fault(&[b'a'; 255]), Some(255));
        let mut longest = b"SSH-2.0-".to_vec();
        longest.resize(253, b'x');
        longest.extend(b"\r\n");
        assert!(id(&longest).done().is_some());
    }

    #[test]
    fn kexinit_and_hassh() {
        let bytes = framed(&offer(LISTS));
        for cut in 0..bytes.len() {
            let Parsed::Incomplete { needed } = kexinit(&bytes[..cut]) else { panic!("{cut}") };
            assert!(needed >= 1 && cut + needed <= bytes.len());
        }
        let Parsed::Done { value, used } = kexinit(&[bytes.clone(), vec![9]].concat()) else { panic!() };
        assert_eq!(used, bytes.len());
        assert_eq!(value.cookie, [0x42; 16]);
        assert_eq!(value.kex.names().collect::<Vec<_>>(), [b"kex1", b"kex2"]);
        assert_eq!(value.language_in.names().count(), 0);
        assert_eq!(value.hassh_algorithms(), "kex1,kex2;c-in;m-in;none");
        assert_eq!(value.hassh_server_algorithms(), "kex1,kex2;c-out;m-out;none,zlib");
        // printf %s 'kex1,kex2;c-in;m-in;none' | md5sum, and the other.
        assert_eq!(value.hassh(), "31a06502c02c5ab913e72b240d546cef");
        assert_eq!(value.hassh_server(), "c747070521fc3b075252b65a5623e6e3");
    }

    /// Offers of an OpenSSH 5 client and its server; digests as Wireshark 4.0 prints them.
    #[test]
    fn hassh_of_real_offers() {
        const KEX: &str = "diffie-hellman-group-exchange-sha256,diffie-hellman-group-exchange-sha1,\
                           diffie-hellman-group14-sha1,diffie-hellman-group1-sha1";
        const CIPHERS: &str = "aes128-ctr,aes192-ctr,aes256-ctr,arcfour256,arcfour128,aes128-cbc,3des-cbc,\
                               blowfish-cbc,cast128-cbc,aes192-cbc,aes256-cbc,arcfour,rijndael-cbc@lysator.liu.se";
        const MACS: &str = "hmac-md5,hmac-sha1,umac-64@openssh.com,hmac-ripemd160,hmac-ripemd160@openssh.com,hmac-sha1-96,hmac-md5-96";
        let client = offer([KEX, "k", CIPHERS, "x", MACS, "x", "none,zlib@openssh.com,zlib", "x", "", ""]);
        assert_eq!(kexinit(&framed(&client)).done().unwrap().hassh(), "21b457a327ce7a2d4fce5ef2c42400bd");

        let kex = format!("ecdh-sha2-nistp256,ecdh-sha2-nistp384,ecdh-sha2-nistp521,{KEX}");
        let server = offer([&kex, "k", "x", CIPHERS, "x", MACS, "x", "none,zlib@openssh.com", "", ""]);
        assert_eq!(kexinit(&framed(&server)).done().unwrap().hassh_server(), "60205d0b53ffd441ead5c43b5a6f1bc7");
    }

    #[test]
    fn packet_faults() {
        let fault = |input: &[u8]| kexinit(input).error().unwrap();
        assert_eq!(fault(b"GET / HTTP").offset, 0);
        assert_eq!(fault(&[0, 0, 0, 13, 4, 1]).offset, 0);
        assert_eq!(fault(&[0, 0, 0, 12, 3, 20]).offset, 4);
        assert_eq!(fault(&[0, 0, 0, 12, 11, 20]).offset, 4);
        assert_eq!(fault(&[0, 0, 0, 12, 4, 21]), ParseError::new(5, "not an SSH KEXINIT"));
        let mut payload = offer(LISTS);
        payload[1 + 16 + 3] = 255;
        payload[1 + 16 + 2] = 255;
        let bytes = framed(&payload);
        assert_eq!(fault(&bytes).offset, 5 + payload.len());
        payload = offer(LISTS);
        payload.push(0);
        assert_eq!(fault(&framed(&payload)).offset, 5 + payload.len() - 1);
    }
}
