//! A certificate as facts. It verifies nothing and trusts no field; what cannot be read stays empty,
//! the digest of the bytes is always there.

use super::say::{TEXT, name};
use glasshive_event::observation::Certificate;
use glasshive_event::text::hex;
use glasshive_proto::tls_messages::bits;
use sha2::{Digest as _, Sha256};
use x509_parser::prelude::{FromDer as _, X509Certificate};
use x509_parser::public_key::PublicKey;

/// Signature algorithms by object identifier, named as in RFC 3279, 4055, 5758 and 8410.
const SIGNATURES: &[(&str, &str)] = &[
    ("1.2.840.113549.1.1.2", "md2WithRSAEncryption"),
    ("1.2.840.113549.1.1.3", "md4WithRSAEncryption"),
    ("1.2.840.113549.1.1.4", "md5WithRSAEncryption"),
    ("1.2.840.113549.1.1.5", "sha1WithRSAEncryption"),
    ("1.3.14.3.2.29", "sha1WithRSAEncryption"),
    ("1.2.840.113549.1.1.14", "sha224WithRSAEncryption"),
    ("1.2.840.113549.1.1.11", "sha256WithRSAEncryption"),
    ("1.2.840.113549.1.1.12", "sha384WithRSAEncryption"),
    ("1.2.840.113549.1.1.13", "sha512WithRSAEncryption"),
    ("1.2.840.113549.1.1.10", "rsassaPss"),
    ("1.2.840.10040.4.3", "dsa-with-sha1"),
    ("2.16.840.1.101.3.4.3.1", "dsa-with-sha224"),
    ("2.16.840.1.101.3.4.3.2", "dsa-with-sha256"),
    ("1.2.840.10045.4.1", "ecdsa-with-SHA1"),
    ("1.2.840.10045.4.3.1", "ecdsa-with-SHA224"),
    ("1.2.840.10045.4.3.2", "ecdsa-with-SHA256"),
    ("1.2.840.10045.4.3.3", "ecdsa-with-SHA384"),
    ("1.2.840.10045.4.3.4", "ecdsa-with-SHA512"),
    ("1.3.101.112", "ed25519"),
    ("1.3.101.113", "ed448"),
];

/// Bits of named curves (RFC 5480 §2.1.1.1, RFC 5639).
const CURVES: &[(&str, u32)] = &[
    ("1.2.840.10045.3.1.1", 192),
    ("1.2.840.10045.3.1.7", 256),
    ("1.3.132.0.10", 256),
    ("1.3.132.0.33", 224),
    ("1.3.132.0.34", 384),
    ("1.3.132.0.35", 521),
    ("1.3.36.3.3.2.8.1.1.7", 256),
    ("1.3.36.3.3.2.8.1.1.11", 384),
    ("1.3.36.3.3.2.8.1.1.13", 512),
];

/// What the DER says.
pub(super) fn read(der: &[u8]) -> Certificate {
    let sha256 = hex(&Sha256::digest(der));
    let Ok((_, certificate)) = X509Certificate::from_der(der) else {
        return Certificate { sha256, ..Certificate::default() };
    };
    let oid = certificate.signature_algorithm.algorithm.to_id_string();
    let signature = SIGNATURES.iter().find(|(id, _)| *id == oid).map_or(oid.as_str(), |(_, name)| name);
    let (key, key_bits) = key(&certificate);
    Certificate {
        sha256,
        subject: name(certificate.subject().to_string().as_bytes(), TEXT),
        issuer: name(certificate.issuer().to_string().as_bytes(), TEXT),
        self_signed: certificate.subject().as_raw() == certificate.issuer().as_raw(),
        not_before: certificate.validity().not_before.timestamp(),
        not_after: certificate.validity().not_after.timestamp(),
        key,
        key_bits,
        signature: name(signature.as_bytes(), 128),
    }
}

fn key(certificate: &X509Certificate<'_>) -> (String, u32) {
    let info = certificate.public_key();
    let oid = info.algorithm.algorithm.to_id_string();
    let (kind, size) = match (oid.as_str(), info.parsed()) {
        ("1.3.101.112", _) => ("ed25519", 256),
        ("1.3.101.113", _) => ("ed448", 456),
        (_, Ok(PublicKey::RSA(key))) => ("rsa", bits(key.modulus)),
        (_, Ok(PublicKey::EC(point))) => {
            let curve = info.algorithm.parameters.as_ref().and_then(|any| any.as_oid().ok()).map(|oid| oid.to_id_string());
            let named = CURVES.iter().find(|(id, _)| Some(*id) == curve.as_deref()).map(|(_, bits)| *bits);
            ("ec", named.unwrap_or_else(|| u32::try_from(point.key_size()).unwrap_or(u32::MAX)))
        }
        // The key's own number is no measure: the prime among the parameters is.
        (_, Ok(PublicKey::DSA(_))) => ("dsa", info.algorithm.parameters.as_ref().map_or(0, |any| dsa_prime_bits(any.data))),
        _ => return (name(oid.as_bytes(), 128), 0),
    };
    (kind.to_owned(), size)
}

/// Bits of the first INTEGER of `SEQUENCE { p, q, g }`'s content (RFC 3279 §2.3.2).
fn dsa_prime_bits(content: &[u8]) -> u32 {
    let mut r = glasshive_proto::Reader::new(content);
    let read = (|| {
        if r.u8("tag")? != 2 {
            return Err(r.error("tag"));
        }
        let length = match r.u8("length")? {
            short @ 0..=0x7f => usize::from(short),
            0x81 => usize::from(r.u8("length")?),
            0x82 => usize::from(r.u16("length")?),
            _ => return Err(r.error("length")),
        };
        r.take(length, "prime")
    })();
    read.map_or(0, bits)
}
