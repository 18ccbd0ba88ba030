//! What a decoy claims to be: the identification line and algorithm lists of a hardened OpenSSH of a
//! Debian release. It must never name a build known from honeypot kits, nor offer what russh cannot do.

use crate::persona::Seed;
use russh::keys::{Algorithm, EcdsaCurve, HashAlg};
use russh::{Preferred, cipher, compression, kex, mac};
use std::borrow::Cow;

/// Builds Debian 12 supports and that are on no scanner's list.
const DEBIAN_12: &[&str] = &["OpenSSH_9.2p1 Debian-2+deb12u7", "OpenSSH_9.2p1 Debian-2+deb12u9", "OpenSSH_9.2p1 Debian-2+deb12u10"];

/// Software versions scanners take for a honeypot.
const LISTED: &[&str] = &[
    "OpenSSH_9.2p1 Debian-2+deb12u3",
    "OpenSSH_6.0p1 Debian-4+deb7u2",
    "OpenSSH_8.9p1 Ubuntu-3ubuntu0.10",
    "OpenSSH_6.6.1p1 Ubuntu-2ubuntu2.8",
    "OpenSSH_5.1p1 Debian-4",
    "OpenSSH_5.1p1 Debian-5",
    "sshesame",
    "Go",
];

/// The software version shown: the persona's, or one drawn from the seed.
pub(super) fn version(os: &str, seed: &Seed, given: Option<&str>) -> Result<String, String> {
    let Some(given) = given else {
        return match os {
            "debian12" => Ok((*seed.choose("ssh-version", DEBIAN_12).unwrap_or(&"OpenSSH_9.2p1 Debian-2+deb12u7")).to_owned()),
            other => Err(format!(
                "version: no OpenSSH build is known for os `{other}`; write one, as in version = \"OpenSSH_9.2p1 Debian-2+deb12u7\""
            )),
        };
    };
    let version = given.strip_prefix("SSH-2.0-").unwrap_or(given);
    if version.is_empty() || version.len() > 200 || !version.bytes().all(|b| (32..127).contains(&b)) {
        return Err("version: must be 1 to 200 printable ASCII characters".into());
    }
    if LISTED.contains(&version) || version.contains("russh") {
        return Err(format!("version: `{version}` is on scanners' lists of honeypots; use a build the distribution supports now"));
    }
    if !version.starts_with("OpenSSH_8.") && !version.starts_with("OpenSSH_9.") {
        return Err(format!("version: `{version}` would not match the algorithms offered, which are those of OpenSSH 8.5 to 9.9"));
    }
    Ok(version.to_owned())
}

/// The lists of a Debian OpenSSH 9.2p1 whose administrator took out sntrup761 and the UMACs.
pub(super) fn preferred() -> Preferred {
    Preferred {
        kex: Cow::Borrowed(&[
            kex::CURVE25519,
            kex::CURVE25519_PRE_RFC_8731,
            kex::ECDH_SHA2_NISTP256,
            kex::ECDH_SHA2_NISTP384,
            kex::ECDH_SHA2_NISTP521,
            kex::DH_GEX_SHA256,
            kex::DH_G16_SHA512,
            kex::DH_G18_SHA512,
            kex::DH_G14_SHA256,
            kex::EXTENSION_OPENSSH_STRICT_KEX_AS_SERVER,
        ]),
        key: Cow::Borrowed(&[
            Algorithm::Rsa { hash: Some(HashAlg::Sha512) },
            Algorithm::Rsa { hash: Some(HashAlg::Sha256) },
            Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 },
            Algorithm::Ed25519,
        ]),
        cipher: Cow::Borrowed(&[
            cipher::CHACHA20_POLY1305,
            cipher::AES_128_CTR,
            cipher::AES_192_CTR,
            cipher::AES_256_CTR,
            cipher::AES_128_GCM,
            cipher::AES_256_GCM,
        ]),
        mac: Cow::Borrowed(&[
            mac::HMAC_SHA256_ETM,
            mac::HMAC_SHA512_ETM,
            mac::HMAC_SHA1_ETM,
            mac::HMAC_SHA256,
            mac::HMAC_SHA512,
            mac::HMAC_SHA1,
        ]),
        compression: Cow::Borrowed(&[compression::NONE, compression::ZLIB_LEGACY]),
        ..Preferred::DEFAULT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drawn_versions_are_supported_and_stable() {
        for byte in 0..32 {
            let seed = Seed([byte; 32]);
            let drawn = version("debian12", &seed, None).unwrap();
            assert!(DEBIAN_12.contains(&drawn.as_str()) && !LISTED.contains(&drawn.as_str()));
            assert_eq!(drawn, version("debian12", &seed, None).unwrap());
        }
    }

    #[test]
    fn refuses_what_gives_the_decoy_away() {
        let seed = Seed([1; 32]);
        for bad in ["OpenSSH_9.2p1 Debian-2+deb12u3", "SSH-2.0-Go", "", "OpenSSH_9.2p1\nx", "dropbear_2022.83"] {
            assert!(version("debian12", &seed, Some(bad)).unwrap_err().starts_with("version: "), "{bad}");
        }
        assert_eq!(version("x", &seed, Some("SSH-2.0-OpenSSH_9.6p1 Ubuntu-3ubuntu13.5")).unwrap(), "OpenSSH_9.6p1 Ubuntu-3ubuntu13.5");
        assert!(version("plan9", &seed, None).is_err());
    }
}
