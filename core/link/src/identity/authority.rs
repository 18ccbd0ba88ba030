//! The controller's certificate authority, and its change for another in three steps, each of which may be asked for
//! again: both roots are distributed, certificates are issued anew by the new one, the old one is dropped.
//!
//! Every step makes a new generation of roots. A node is up to date when it has come back with a certificate that was
//! handed out together with the roots of this generation; only then may the next step be made, so that at no time the
//! two sides trust different roots.

use super::IdentityError;
use super::ca::spki_hash;
use super::cert;
use super::files::{read_private, read_private_text, write_private};
use super::token::Pin;
use rcgen::{Issuer, KeyPair};
use rustls_pki_types::CertificateDer;
use serde::{Deserialize, Serialize};
use std::path::Path;

const FILE: &str = "rotation.json";
const REMEDY: &str = "restore the controller's identity from a backup";

/// Where a change of authorities stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// There is one authority.
    #[default]
    Settled,
    /// Nodes are given the root of the next one too; the present one issues.
    Distributed,
    /// The next one is the present one; the root of the one before is still trusted.
    Reissued,
}

/// A step of the change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Make the next authority and distribute its root.
    Distribute,
    /// Let it issue.
    Reissue,
    /// Drop the root of the one before.
    Drop,
}

impl std::str::FromStr for Step {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "distribute" => Ok(Self::Distribute),
            "reissue" => Ok(Self::Reissue),
            "drop" => Ok(Self::Drop),
            other => Err(format!("{other} is no step: distribute, reissue or drop")),
        }
    }
}

#[derive(Clone, Serialize, Deserialize)]
struct Next {
    key: String,
    certificate: String,
}

/// What is written down of a change: one file, replaced whole.
#[derive(Clone, Default, Serialize, Deserialize)]
struct Rotation {
    version: u32,
    generation: u64,
    phase: Phase,
    /// The next authority, while its root is distributed; and while it takes the place of the present one.
    next: Option<Next>,
    /// Certificate of the one before, while it is trusted.
    old: Option<String>,
}

/// The authority that issues, and every root that is trusted.
pub(super) struct Authority {
    pub(super) issuer: Issuer<'static, KeyPair>,
    pub(super) ca: CertificateDer<'static>,
    pub(super) pin: Pin,
    /// All roots trusted, the issuing one first.
    pub(super) roots: Vec<CertificateDer<'static>>,
    /// The same as PEM, for bundles.
    pub(super) pem: String,
    rotation: Rotation,
}

impl Authority {
    /// Reads it; a step that was interrupted is carried out.
    pub(super) fn load(dir: &Path) -> Result<Self, IdentityError> {
        let damaged = |name: &str, what: String| IdentityError::Damaged { path: dir.join(name), what };
        let rotation = if dir.join(FILE).exists() {
            let bytes = read_private(&dir.join(FILE), REMEDY)?;
            let rotation: Rotation = serde_json::from_slice(&bytes).map_err(|error| damaged(FILE, error.to_string()))?;
            if rotation.version != 1 {
                return Err(damaged(FILE, format!("version {} is unknown to this build", rotation.version)));
            }
            rotation
        } else {
            Rotation { version: 1, ..Rotation::default() }
        };
        if let (Phase::Reissued, Some(next)) = (rotation.phase, &rotation.next) {
            write_private(&dir.join("ca.crt"), next.certificate.as_bytes())?;
            write_private(&dir.join("ca.key"), next.key.as_bytes())?;
            write(dir, &Rotation { next: None, ..rotation.clone() })?;
            return Self::load(dir);
        }
        let key =
            KeyPair::from_pem(&read_private_text(&dir.join("ca.key"), REMEDY)?).map_err(|error| damaged("ca.key", error.to_string()))?;
        let mut pem = read_private_text(&dir.join("ca.crt"), REMEDY)?;
        let ca = cert::certificate_from_pem(&pem).map_err(|error| damaged("ca.crt", error.to_string()))?;
        let pin = cert::pin_of(&ca)?;
        if pin.0 != spki_hash(&key) {
            return Err(damaged("ca.crt", "it is not the certificate of ca.key".into()));
        }
        let issuer = Issuer::from_ca_cert_der(&ca, key).map_err(|error| damaged("ca.crt", error.to_string()))?;
        let mut roots = vec![ca.clone()];
        for other in rotation.next.iter().map(|next| &next.certificate).chain(&rotation.old) {
            roots.push(cert::certificate_from_pem(other).map_err(|error| damaged(FILE, error.to_string()))?);
            pem.push_str(other);
        }
        Ok(Self { issuer, ca, pin, roots, pem, rotation })
    }

    /// Where the change stands.
    pub(super) fn phase(&self) -> Phase {
        self.rotation.phase
    }

    /// Number of the roots handed out with certificates now.
    pub(super) fn generation(&self) -> u64 {
        self.rotation.generation
    }

    /// Whether a step is to be made now; `false` when it was made already.
    pub(super) fn is_next(&self, step: Step) -> Result<bool, IdentityError> {
        match (step, self.rotation.phase) {
            (Step::Distribute, Phase::Settled) | (Step::Reissue, Phase::Distributed) | (Step::Drop, Phase::Reissued) => Ok(true),
            (Step::Distribute, _) | (Step::Reissue, Phase::Reissued) | (Step::Drop, Phase::Settled) => Ok(false),
            (Step::Reissue, Phase::Settled) => Err(IdentityError::Step("distribute the new root first: glasshive rotate distribute")),
            (Step::Drop, Phase::Distributed) => Err(IdentityError::Step("the old root still issues: glasshive rotate reissue first")),
        }
    }

    /// Writes a step down that [`Self::is_next`]; the load that follows carries it out.
    pub(super) fn step(&self, dir: &Path, step: Step, now_ns: i64) -> Result<(), IdentityError> {
        let (phase, next, old) = match step {
            Step::Distribute => (Phase::Distributed, Some(made(now_ns)?), None),
            Step::Reissue => (Phase::Reissued, self.rotation.next.clone(), Some(read_private_text(&dir.join("ca.crt"), REMEDY)?)),
            Step::Drop => (Phase::Settled, None, None),
        };
        write(dir, &Rotation { version: 1, generation: self.rotation.generation.saturating_add(1), phase, next, old })
    }
}

fn made(now_ns: i64) -> Result<Next, IdentityError> {
    let key = cert::new_key()?;
    let certificate = cert::ca_params(now_ns)?.self_signed(&key).map_err(cert::certificate_error)?;
    Ok(Next { key: key.serialize_pem(), certificate: certificate.pem() })
}

fn write(dir: &Path, rotation: &Rotation) -> Result<(), IdentityError> {
    let bytes = serde_json::to_vec_pretty(rotation).unwrap_or_default();
    write_private(&dir.join(FILE), &bytes)
}
