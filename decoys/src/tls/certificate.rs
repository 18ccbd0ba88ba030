//! A key and certificate as an administrator of the persona's organisation would have made them,
//! made once and kept. Serial, dates and issuer come from the seed: no two installations alike.

use crate::persona::Decoy;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_RSA_SHA256, SerialNumber,
};
use rsa::pkcs8::EncodePrivateKey as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use std::convert::Infallible;
use std::time::Duration;

const DAY: u64 = 86_400;

/// The certificate kept under `label` and its key.
pub(super) fn kept(decoy: &Decoy, label: &str) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), String> {
    let key = decoy.keys.get_or_make(&format!("{label}.key"), &mut rsa_key)?;
    let certificate = decoy.keys.get_or_make(&format!("{label}.crt"), &mut || make(decoy, label, &key))?;
    Ok((vec![CertificateDer::from(certificate)], PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key))))
}

/// RSA-2048 in PKCS #8; ring, which signs with it, cannot make one.
fn rsa_key() -> Result<Vec<u8>, String> {
    let key = rsa::RsaPrivateKey::new(&mut KernelRandom, 2048).map_err(|error| format!("no RSA key: {error}"))?;
    let der = key.to_pkcs8_der().map_err(|error| format!("no RSA key: {error}"))?;
    Ok(der.as_bytes().to_vec())
}

fn make(decoy: &Decoy, label: &str, key: &[u8]) -> Result<Vec<u8>, String> {
    let wrong = |error: rcgen::Error| format!("{label}: no certificate: {error}");
    let pair = |der: &[u8]| KeyPair::from_pkcs8_der_and_sign_algo(&PrivatePkcs8KeyDer::from(der), &PKCS_RSA_SHA256).map_err(wrong);
    let seed = decoy.seed.derive(label);
    let fqdn = decoy.fqdn();
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    let mut serial = seed.derive("serial").0.get(..20).unwrap_or_default().to_vec();
    if let Some(first) = serial.first_mut() {
        // Positive and never shorter than the twenty bytes OpenSSL draws.
        *first = (*first & 0x7f) | 0x40;
    }
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    let now = std::time::SystemTime::now();
    let age = 20 * DAY + seed.below("age", 160 * DAY);
    let begin = now.checked_sub(Duration::from_secs(age)).unwrap_or(now);
    params.not_before = begin.into();
    let days = *seed.choose("days", &[365, 398, 730, 825]).unwrap_or(&398);
    params.not_after = (begin + Duration::from_secs(days * DAY)).into();
    params.use_authority_key_identifier_extension = true;
    let own = pair(key)?;
    if decoy.domain.is_empty() || seed.below("issued", 3) == 0 {
        // `openssl req -x509`: its own issuer, marked as a CA by OpenSSL's default configuration.
        params.distinguished_name.push(DnType::CommonName, fqdn);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        return Ok(params.self_signed(&own).map_err(wrong)?.der().to_vec());
    }
    let organisation = organisation(&decoy.domain);
    params.distinguished_name.push(DnType::OrganizationName, organisation.clone());
    params.distinguished_name.push(DnType::CommonName, fqdn.clone());
    params.subject_alt_names = CertificateParams::new(vec![fqdn]).map_err(wrong)?.subject_alt_names;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.is_ca = IsCa::ExplicitNoCa;
    let mut ca = CertificateParams::default();
    ca.distinguished_name = DistinguishedName::new();
    ca.distinguished_name.push(DnType::OrganizationName, organisation.clone());
    // The issuer is the whole domain's, so it is drawn from its name and not from this host.
    let kind = crate::persona::Seed([0; 32]).derive(&decoy.domain);
    let name =
        *kind.choose("name", &["Internal CA", "Issuing CA 1", "Intranet CA", "IT Services CA", "Internal CA G2"]).unwrap_or(&"Internal CA");
    ca.distinguished_name.push(DnType::CommonName, format!("{organisation} {name}"));
    ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    // Its key signs this once and is forgotten: nobody holds the root, so nothing can be checked against it.
    let issuer = Issuer::new(ca, pair(&rsa_key()?)?);
    Ok(params.signed_by(&own, &issuer).map_err(wrong)?.der().to_vec())
}

/// `corp.example.com` → `Example`.
fn organisation(domain: &str) -> String {
    let mut labels: Vec<_> = domain.split('.').collect();
    if labels.len() > 1 {
        labels.pop();
    }
    let mut letters = labels.last().unwrap_or(&"").chars();
    letters.next().map(|first| first.to_uppercase().collect::<String>() + letters.as_str()).unwrap_or_default()
}

/// The kernel's random numbers in the shape the RSA crate asks for.
struct KernelRandom;

impl rsa::rand_core::TryRng for KernelRandom {
    type Error = Infallible;
    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut bytes = [0; 4];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }
    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = [0; 8];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }
    fn try_fill_bytes(&mut self, dst: &mut [u8]) -> Result<(), Infallible> {
        // The kernel's source fails only before it is seeded at boot; waiting is all one can do then.
        while getrandom::fill(dst).is_err() {
            std::thread::yield_now();
        }
        Ok(())
    }
}

impl rsa::rand_core::TryCryptoRng for KernelRandom {}
