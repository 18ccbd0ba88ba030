//! Host keys: rsa-3072, ecdsa-p256 and ed25519, as `ssh-keygen -A` makes them, made once per decoy.

use crate::persona::Decoy;
use russh::keys::ssh_key::{self, LineEnding, private::RsaKeypair};
use russh::keys::{Algorithm, EcdsaCurve, PrivateKey};

/// Bits of an RSA key of `ssh-keygen`.
const RSA_BITS: usize = 3072;

/// Makes one key.
type Make = fn() -> ssh_key::Result<PrivateKey>;

/// The decoy's host keys in the order sshd loads them.
pub(super) fn load(decoy: &Decoy) -> Result<Vec<PrivateKey>, String> {
    let kinds: [(&str, Make); 3] = [
        ("rsa", || RsaKeypair::random(&mut russh::keys::key::safe_rng(), RSA_BITS).map(PrivateKey::from)),
        ("ecdsa", || PrivateKey::random(&mut russh::keys::key::safe_rng(), Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 })),
        ("ed25519", || PrivateKey::random(&mut russh::keys::key::safe_rng(), Algorithm::Ed25519)),
    ];
    kinds
        .iter()
        .map(|(name, make)| {
            let label = format!("{}/ssh_host_{name}_key", decoy.name);
            let text = decoy.keys.get_or_make(&label, &mut || {
                let key = make().map_err(|error| format!("{label}: cannot make the key: {error}"))?;
                Ok(key.to_openssh(LineEnding::LF).map_err(|error| format!("{label}: {error}"))?.as_bytes().to_vec())
            })?;
            PrivateKey::from_openssh(text).map_err(|error| format!("{label}: not a host key: {error}; remove it and a new one is made"))
        })
        .collect()
}
