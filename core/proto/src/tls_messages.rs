//! What a TLS server says in clear after its hello, up to TLS 1.2: Certificate and ServerKeyExchange
//! (RFC 5246 §7.4.2, §7.4.3; RFC 8422 §5.4; RFC 5288), from the body of one handshake message.
//!
//! It verifies no signature, builds no chain and judges nothing.

use crate::reader::{ParseError, Reader};

/// Handshake message types (RFC 8446 §4, RFC 5246 §7.4).
pub mod message {
    #![allow(missing_docs)]
    pub const HELLO_REQUEST: u8 = 0;
    pub const CLIENT_HELLO: u8 = 1;
    pub const SERVER_HELLO: u8 = 2;
    pub const NEW_SESSION_TICKET: u8 = 4;
    pub const CERTIFICATE: u8 = 11;
    pub const SERVER_KEY_EXCHANGE: u8 = 12;
    pub const SERVER_HELLO_DONE: u8 = 14;
    pub const CLIENT_KEY_EXCHANGE: u8 = 16;
    pub const FINISHED: u8 = 20;
    pub const CERTIFICATE_STATUS: u8 = 22;
}

/// The first certificate of a Certificate message, in DER; `None` for an empty list.
///
/// # Errors
/// Lengths that do not fit, at their offset in the body.
pub fn first_certificate(body: &[u8]) -> Result<Option<&[u8]>, ParseError> {
    let mut r = Reader::new(body);
    let mut list = r.vec24("TLS certificate list")?;
    let mut first = None;
    while !list.is_empty() {
        let der = list.vec24("TLS certificate")?.rest();
        first.get_or_insert(der);
    }
    r.finish("bytes after the TLS certificates")?;
    Ok(first)
}

/// How a suite up to TLS 1.2 agrees on a key, as far as ServerKeyExchange tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exchange {
    /// Ephemeral Diffie-Hellman over a curve.
    Ecdhe,
    /// Ephemeral Diffie-Hellman over a prime field, anonymous included.
    Dhe,
    /// Something else, or nothing said: RSA, static Diffie-Hellman, pre-shared keys, unknown.
    Other,
}

/// How `cipher` agrees on a key, by the IANA registry of suites.
pub const fn exchange(cipher: u16) -> Exchange {
    match cipher {
        0xc006..=0xc00a
        | 0xc010..=0xc019
        | 0xc023..=0xc024
        | 0xc027..=0xc028
        | 0xc02b..=0xc02c
        | 0xc02f..=0xc030
        | 0xc048..=0xc049
        | 0xc04c..=0xc04d
        | 0xc05c..=0xc05d
        | 0xc060..=0xc061
        | 0xc072..=0xc073
        | 0xc076..=0xc077
        | 0xc086..=0xc087
        | 0xc08a..=0xc08b
        | 0xc0ac..=0xc0af
        | 0xcc13..=0xcc14
        | 0xcca8..=0xcca9 => Exchange::Ecdhe,
        0x0011..=0x001b
        | 0x0032..=0x0034
        | 0x0038..=0x003a
        | 0x0040
        | 0x0044..=0x0046
        | 0x0063
        | 0x0065..=0x0067
        | 0x006a..=0x006d
        | 0x0087..=0x0089
        | 0x0099..=0x009b
        | 0x009e..=0x009f
        | 0x00a2..=0x00a3
        | 0x00a6..=0x00a7
        | 0x00bd..=0x00bf
        | 0x00c3..=0x00c5
        | 0xc042..=0xc043
        | 0xc044..=0xc047
        | 0xc052..=0xc053
        | 0xc056..=0xc057
        | 0xc05a..=0xc05b
        | 0xc07c..=0xc07d
        | 0xc080..=0xc081
        | 0xc084..=0xc085
        | 0xc09e..=0xc09f
        | 0xc0a2..=0xc0a3
        | 0xcc15
        | 0xccaa => Exchange::Dhe,
        _ => Exchange::Other,
    }
}

/// What a ServerKeyExchange says of the group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct KeyExchange {
    /// Named group of an elliptic exchange.
    pub group: Option<u16>,
    /// Bits of the prime of a finite-field exchange, leading zeros aside.
    pub dh_bits: Option<u32>,
}

/// Reads a ServerKeyExchange of a suite with that exchange; other exchanges say nothing.
///
/// # Errors
/// Lengths that do not fit, at their offset in the body.
pub fn server_key_exchange(body: &[u8], exchange: Exchange) -> Result<KeyExchange, ParseError> {
    let mut r = Reader::new(body);
    match exchange {
        Exchange::Ecdhe => {
            // Explicit curves (types 1 and 2) were never used; they name no group.
            if r.u8("TLS curve type")? != 3 {
                return Ok(KeyExchange::default());
            }
            let group = r.u16("TLS named curve")?;
            r.vec8("TLS public point")?;
            Ok(KeyExchange { group: Some(group), dh_bits: None })
        }
        Exchange::Dhe => {
            let prime = r.vec16("TLS DH prime")?.rest();
            r.vec16("TLS DH generator")?;
            r.vec16("TLS DH public value")?;
            Ok(KeyExchange { group: None, dh_bits: Some(bits(prime)) })
        }
        Exchange::Other => Ok(KeyExchange::default()),
    }
}

/// Bits of a big-endian number.
pub fn bits(number: &[u8]) -> u32 {
    let zeros = number.iter().take_while(|&&b| b == 0).count();
    let Some((first, rest)) = number.get(zeros..).and_then(<[u8]>::split_first) else { return 0 };
    let whole = u32::try_from(rest.len()).unwrap_or(u32::MAX / 8).saturating_mul(8);
    whole.saturating_add(8_u32.saturating_sub(first.leading_zeros()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn vec16(body: &[u8]) -> Vec<u8> {
        [&u16::try_from(body.len()).unwrap().to_be_bytes(), body].concat()
    }

    fn vec24(body: &[u8]) -> Vec<u8> {
        [&u32::try_from(body.len()).unwrap().to_be_bytes()[1..], body].concat()
    }

    #[test]
    fn certificates() {
        let body = vec24(&[vec24(b"first"), vec24(b"second")].concat());
        assert_eq!(first_certificate(&body), Ok(Some(b"first".as_slice())));
        assert_eq!(first_certificate(&[0, 0, 0]), Ok(None));
        assert_eq!(first_certificate(&[0, 0, 4, 0, 0, 2, 9]).unwrap_err().offset, 7);
        assert_eq!(first_certificate(&vec24(&[0, 0, 2, 9])).unwrap_err(), ParseError::new(7, "TLS certificate"));
        assert_eq!(first_certificate(&[&body[..], b"x"].concat()).unwrap_err().offset, body.len());
    }

    #[test]
    fn key_exchanges() {
        let ecdhe = [&[3, 0, 29, 32][..], &[7; 32], &[4, 1, 0, 1, 9]].concat();
        assert_eq!(server_key_exchange(&ecdhe, exchange(0xc02f)), Ok(KeyExchange { group: Some(29), dh_bits: None }));
        let mut prime = vec![0, 0x7f];
        prime.extend([1; 95]);
        let dhe = [vec16(&prime), vec16(&[2]), vec16(&[9; 96]), vec![0]].concat();
        assert_eq!(server_key_exchange(&dhe, exchange(0x0039)), Ok(KeyExchange { group: None, dh_bits: Some(767) }));
        assert_eq!(server_key_exchange(&[1], exchange(0x002f)), Ok(KeyExchange::default()));
        assert_eq!(server_key_exchange(&ecdhe[..20], Exchange::Ecdhe).unwrap_err().offset, 20);
        assert_eq!(server_key_exchange(&dhe[..98], Exchange::Dhe).unwrap_err().offset, 98);
    }

    #[test]
    fn suites() {
        for (cipher, expected) in [
            (0x0005, Exchange::Other),
            (0x0014, Exchange::Dhe),
            (0x0018, Exchange::Dhe),
            (0x0033, Exchange::Dhe),
            (0x009c, Exchange::Other),
            (0x009e, Exchange::Dhe),
            (0xc004, Exchange::Other),
            (0xc009, Exchange::Ecdhe),
            (0xc00e, Exchange::Other),
            (0xc013, Exchange::Ecdhe),
            (0xc02d, Exchange::Other),
            (0xc030, Exchange::Ecdhe),
            (0xcca8, Exchange::Ecdhe),
            (0x1301, Exchange::Other),
        ] {
            assert_eq!(exchange(cipher), expected, "{cipher:04x}");
        }
        assert_eq!([bits(&[]), bits(&[0, 0]), bits(&[1]), bits(&[0, 0x80, 0])], [0, 0, 1, 16]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(crate::tests::cases()))]

        #[test]
        fn arbitrary_bodies(body: Vec<u8>, cipher: u16) {
            if let Err(e) = first_certificate(&body) {
                prop_assert!(e.offset <= body.len());
            }
            if let Err(e) = server_key_exchange(&body, exchange(cipher)) {
                prop_assert!(e.offset <= body.len());
            }
        }
    }
}
