//! SSL 2 hellos (draft-hickman-netscape-ssl-00 §2.5), the client's also as later clients sent it to
//! offer up to TLS 1.2 (RFC 5246 appendix E.2).
//!
//! It never decrypts. A client's hello is told by [`crate::probe`] first: nothing here guesses.

use crate::reader::{ParseError, Parsed, Reader};

/// A client's hello.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ClientHello {
    /// Highest version offered: 0x0002, or 0x0300 and above.
    pub version: u16,
    /// Cipher kinds of three bytes; those below 0x10000 are TLS suites.
    pub ciphers: Vec<u32>,
}

impl ClientHello {
    /// The suites that later versions know.
    pub fn tls_ciphers(&self) -> Vec<u16> {
        self.ciphers.iter().filter_map(|&kind| u16::try_from(kind).ok()).collect()
    }
}

/// A server's hello.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ServerHello {
    /// Version: 0x0002.
    pub version: u16,
    /// The certificate in DER; empty when a session goes on.
    pub certificate: Vec<u8>,
    /// Cipher kinds both sides know.
    pub ciphers: Vec<u32>,
}

/// Reads a client's hello from the first bytes of a stream.
pub fn client_hello(input: &[u8]) -> Parsed<ClientHello> {
    record(input, 1, "not an SSL 2 client hello", |r| {
        let version = r.u16("SSL 2 version")?;
        let (ciphers, session, challenge) = (r.u16("SSL 2 lengths")?, r.u16("SSL 2 lengths")?, r.u16("SSL 2 lengths")?);
        let kinds = r.sub(usize::from(ciphers), "SSL 2 ciphers")?;
        r.skip(usize::from(session), "SSL 2 session id")?;
        r.skip(usize::from(challenge), "SSL 2 challenge")?;
        Ok(ClientHello { version, ciphers: cipher_kinds(kinds)? })
    })
}

/// Reads a server's hello from the first bytes it sent.
pub fn server_hello(input: &[u8]) -> Parsed<ServerHello> {
    record(input, 4, "not an SSL 2 server hello", |r| {
        r.u8("SSL 2 session hit")?;
        r.u8("SSL 2 certificate type")?;
        let version = r.u16("SSL 2 version")?;
        let (certificate, ciphers, connection) = (r.u16("SSL 2 lengths")?, r.u16("SSL 2 lengths")?, r.u16("SSL 2 lengths")?);
        let certificate = r.take(usize::from(certificate), "SSL 2 certificate")?.to_vec();
        let kinds = r.sub(usize::from(ciphers), "SSL 2 ciphers")?;
        r.skip(usize::from(connection), "SSL 2 connection id")?;
        Ok(ServerHello { version, certificate, ciphers: cipher_kinds(kinds)? })
    })
}

fn cipher_kinds(mut r: Reader<'_>) -> Result<Vec<u32>, ParseError> {
    let mut kinds = Vec::with_capacity(r.len() / 3);
    while !r.is_empty() {
        kinds.push(r.u24("SSL 2 cipher")?);
    }
    Ok(kinds)
}

/// One record with its two-byte header (the three-byte form is for ciphers with padding, which no
/// hello has), holding one message of type `kind`.
fn record<T>(input: &[u8], kind: u8, not_this: &'static str, body: impl Fn(&mut Reader<'_>) -> Result<T, ParseError>) -> Parsed<T> {
    let mut r = Reader::new(input);
    let Ok(length) = r.u16("length") else {
        return if r.peek().first().is_some_and(|b| b & 0x80 == 0) {
            Parsed::malformed(0, not_this)
        } else {
            Parsed::missing(input.len(), 3)
        };
    };
    if length & 0x8000 == 0 {
        return Parsed::malformed(0, not_this);
    }
    if r.peek().first().is_some_and(|&b| b != kind) {
        return Parsed::malformed(2, not_this);
    }
    let length = usize::from(length & 0x7fff);
    let used = length.saturating_add(2);
    if length == 0 {
        return Parsed::malformed(0, not_this);
    }
    let Ok(mut message) = r.sub(length, "body") else { return Parsed::missing(input.len(), used) };
    let result = message.skip(1, "type").and_then(|()| {
        let value = body(&mut message)?;
        message.finish("bytes after the SSL 2 hello")?;
        Ok(value)
    });
    match result {
        Ok(value) => Parsed::Done { value, used },
        Err(e) => e.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn client() -> Vec<u8> {
        [&[0x80, 9 + 6 + 16, 1, 3, 1, 0, 6, 0, 0, 0, 16, 1, 0, 0x80, 0, 0, 0x39][..], &[7; 16]].concat()
    }

    fn server() -> Vec<u8> {
        [&[0x80, 11 + 4 + 3 + 16, 4, 0, 1, 0, 2, 0, 4, 0, 3, 0, 16][..], b"cert", &[7, 0, 0xc0], &[9; 16]].concat()
    }

    #[test]
    fn hellos() {
        let hello = client_hello(&client()).done().unwrap();
        assert_eq!((hello.version, hello.ciphers.as_slice(), hello.tls_ciphers()), (0x0301, [0x01_0080, 0x39].as_slice(), vec![0x39]));
        let hello = server_hello(&[server(), vec![1, 2]].concat()).done().unwrap();
        assert_eq!((hello.version, hello.certificate.as_slice(), hello.ciphers), (2, b"cert".as_slice(), vec![0x07_00c0]));
        for cut in 0..client().len() {
            let Parsed::Incomplete { needed } = client_hello(&client()[..cut]) else { panic!("{cut}") };
            assert!(needed >= 1 && cut + needed <= client().len());
        }
    }

    #[test]
    fn faults() {
        let fault = |bytes: &[u8]| client_hello(bytes).error().unwrap().offset;
        assert_eq!([fault(&[22, 3, 1]), fault(&[0x80, 9, 4]), fault(&[0x80, 0, 1])], [0, 2, 0]);
        let mut bytes = client();
        bytes[6] = 5;
        assert_eq!(fault(&bytes), 11 + 5);
        bytes[6] = 3;
        assert_eq!(fault(&bytes), 11 + 3 + 16);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(crate::tests::cases()))]

        #[test]
        fn arbitrary_bytes(mut bytes: Vec<u8>, flip in 0usize..40, to: u8) {
            for real in [client(), server()] {
                let mut changed = real.clone();
                if let Some(byte) = changed.get_mut(flip) { *byte = to; }
                bytes = [changed, bytes].concat();
                for answer in [client_hello(&bytes).map(|_| ()), server_hello(&bytes).map(|_| ())] {
                    match answer {
                        Parsed::Done { used, .. } => prop_assert!(used <= bytes.len()),
                        Parsed::Incomplete { needed } => prop_assert!(needed > 0),
                        Parsed::Malformed { offset, .. } => prop_assert!(offset <= bytes.len()),
                    }
                }
            }
        }
    }
}
