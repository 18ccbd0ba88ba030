//! Making and reading the few certificates there are: one CA level, ECDSA P-256, one URI each.

use super::{IdentityError, Pin, random};
use crate::name::NodeName;
use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData, SanType, SerialNumber, date_time_ymd,
};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use sha2::{Digest, Sha256};
use std::time::Duration;

pub(crate) const DAY_NS: i64 = 86_400_000_000_000;
const HOUR_NS: i64 = DAY_NS / 24;
const CA_DAYS: i64 = 7305;
const MAX_CSR: usize = 16 * 1024;
/// Roots a bundle may name.
const MAX_ROOTS: usize = 4;

/// What matters of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFacts {
    /// The one URI in it, empty when there is none or more than one.
    pub uri: String,
    /// Serial number, hexadecimal.
    pub serial: String,
    /// Start of validity, nanoseconds.
    pub not_before_ns: i64,
    /// End of validity, nanoseconds.
    pub not_after_ns: i64,
    /// SHA-256 of the SubjectPublicKeyInfo.
    pub key: Pin,
    /// The SubjectPublicKeyInfo, DER.
    pub public_key: Vec<u8>,
}

impl CertificateFacts {
    /// The node it is for, if it is a node's.
    pub fn node(&self) -> Option<NodeName> {
        NodeName::from_uri(&self.uri)
    }

    /// Whole days until it expires; negative when it has.
    pub fn days_left(&self, now_ns: i64) -> i64 {
        self.not_after_ns.saturating_sub(now_ns).div_euclid(DAY_NS)
    }
}

/// Reads a certificate.
pub fn facts(der: &[u8]) -> Result<CertificateFacts, IdentityError> {
    let bad = |what: &str| IdentityError::Certificate(what.into());
    let (_, cert) = x509_parser::parse_x509_certificate(der).map_err(|_| bad("not an X.509 certificate"))?;
    let mut uris = Vec::new();
    if let Ok(Some(names)) = cert.subject_alternative_name() {
        for name in &names.value.general_names {
            if let x509_parser::extensions::GeneralName::URI(uri) = name {
                uris.push((*uri).to_owned());
            }
        }
    }
    let uri = if uris.len() == 1 { uris.pop().unwrap_or_default() } else { String::new() };
    let ns = |seconds: i64| seconds.saturating_mul(1_000_000_000);
    Ok(CertificateFacts {
        uri,
        serial: glasshive_event::text::hex(cert.raw_serial()),
        not_before_ns: ns(cert.validity().not_before.timestamp()),
        not_after_ns: ns(cert.validity().not_after.timestamp()),
        key: Pin(Sha256::digest(cert.public_key().raw).into()),
        public_key: cert.public_key().raw.to_vec(),
    })
}

/// SHA-256 of a certificate's SubjectPublicKeyInfo.
pub fn pin_of(der: &[u8]) -> Result<Pin, IdentityError> {
    facts(der).map(|facts| facts.key)
}

pub(crate) fn certificate_from_pem(pem: &str) -> Result<CertificateDer<'static>, IdentityError> {
    CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|_| IdentityError::Certificate("not a PEM certificate".into()))
}

/// All certificates of a PEM text, at least one.
pub(crate) fn certificates_from_pem(pem: &str) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
    let bad = || IdentityError::Certificate("not a PEM certificate".into());
    let all: Vec<_> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<_, _>>().map_err(|_| bad())?;
    if all.is_empty() || all.len() > MAX_ROOTS { Err(bad()) } else { Ok(all) }
}

pub(crate) fn new_key() -> Result<KeyPair, IdentityError> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(certificate_error)
}

/// The CA's own certificate.
pub(crate) fn ca_params(now_ns: i64) -> Result<CertificateParams, IdentityError> {
    // A name of its own: two of them are trusted at once while one takes the other's place.
    let name = format!("Glasshive CA {}", glasshive_event::text::hex(&random::<4>()?));
    let mut params = base(&name, now_ns.saturating_sub(DAY_NS), now_ns.saturating_add(CA_DAYS * DAY_NS))?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

/// Issues a certificate for `uri`, valid `days` from an hour ago: a node's clock may be somewhat behind.
pub(crate) fn issue(
    issuer: &Issuer<'_, KeyPair>,
    public_key: &impl PublicKeyData,
    common_name: &str,
    uri: &str,
    now_ns: i64,
    days: i64,
) -> Result<rcgen::Certificate, IdentityError> {
    let mut params = base(common_name, now_ns.saturating_sub(HOUR_NS), now_ns.saturating_add(days.saturating_mul(DAY_NS)))?;
    params.is_ca = IsCa::ExplicitNoCa;
    params.subject_alt_names = vec![uri_name(uri)?];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    // Either side may be the one that dials, so either may be TLS server or client.
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    params.signed_by(public_key, issuer).map_err(certificate_error)
}

/// A signing request for `node`.
pub(crate) fn request(key: &KeyPair, node: &NodeName) -> Result<String, IdentityError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = name(node.as_str());
    params.subject_alt_names = vec![uri_name(&node.uri())?];
    params.serialize_request(key).and_then(|request| request.pem()).map_err(certificate_error)
}

/// A signing request whose signature was checked: its key, and the node it asks for. Nothing else in it counts.
pub(crate) fn read_request(pem: &str) -> Result<(rcgen::PublicKey, NodeName), IdentityError> {
    let bad = |what: &str| IdentityError::Request(what.into());
    if pem.len() > MAX_CSR {
        return Err(bad("longer than 16 KiB"));
    }
    let request = CertificateSigningRequestParams::from_pem(pem).map_err(|error| IdentityError::Request(error.to_string()))?;
    if *request.public_key.algorithm() != PKCS_ECDSA_P256_SHA256 {
        return Err(bad("the key is not ECDSA P-256"));
    }
    let node = match request.params.subject_alt_names.as_slice() {
        [SanType::URI(uri)] => NodeName::from_uri(uri.as_str()),
        _ => None,
    };
    Ok((request.public_key, node.ok_or_else(|| bad("it names no node (make it with identity request)"))?))
}

fn base(common_name: &str, from_ns: i64, to_ns: i64) -> Result<CertificateParams, IdentityError> {
    let mut params = CertificateParams::default();
    let at = |ns: i64| date_time_ymd(1970, 1, 1) + Duration::from_secs(u64::try_from(ns / 1_000_000_000).unwrap_or(0));
    params.not_before = at(from_ns);
    params.not_after = at(to_ns);
    let mut serial: [u8; 16] = random()?;
    // A positive number without a leading zero byte (RFC 5280 §4.1.2.2).
    if let Some(first) = serial.first_mut() {
        *first = (*first & 0x7f) | 0x40;
    }
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    params.distinguished_name = name(common_name);
    Ok(params)
}

fn name(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name
}

fn uri_name(uri: &str) -> Result<SanType, IdentityError> {
    Ia5String::try_from(uri).map(SanType::URI).map_err(certificate_error)
}

pub(crate) fn certificate_error(error: rcgen::Error) -> IdentityError {
    IdentityError::Certificate(error.to_string())
}
