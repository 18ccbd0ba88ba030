//! A node's identity: the key never leaves the node; certificate, recipient and pivot key come in a bundle.

use super::ca::{key_from_hex, renew_time, spki_hash};
use super::cert::{self, CertificateFacts};
use super::files::{ensure_dir, read_private, read_private_text, remove, write_private};
use super::{Bundle, IdentityError, Pin};
use crate::name::{NodeName, Role};
use crate::tls::{self, CertifiedKey};
use rcgen::KeyPair;
use rustls_pki_types::CertificateDer;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::Arc;

const IDENTITY: &str = "identity.json";
const REQUEST: &str = "request.key";
const REMEDY: &str =
    "run identity request, have it signed with glasshive enroll --sign, then identity install (or identity join with a token)";

/// The directory a node keeps its identity in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityDir(PathBuf);

/// Key and certificate stand in one file, so that one rename replaces both.
#[derive(Serialize, Deserialize)]
struct Stored {
    key: String,
    bundle: Bundle,
}

impl IdentityDir {
    /// Names the directory; nothing is read or made yet.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self(dir.into())
    }

    /// The path.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Whether an identity is installed.
    pub fn exists(&self) -> bool {
        self.0.join(IDENTITY).exists()
    }

    /// A signing request (PEM) for `node`. The key is made here on first use and kept until a bundle for it is installed,
    /// so asking twice gives requests of the same key.
    pub fn request(&self, node: &NodeName) -> Result<String, IdentityError> {
        ensure_dir(&self.0)?;
        let path = self.0.join(REQUEST);
        let key = if path.exists() {
            let pem = read_private_text(&path, REMEDY)?;
            KeyPair::from_pem(&pem).map_err(|error| IdentityError::Damaged { path, what: error.to_string() })?
        } else {
            let key = cert::new_key()?;
            write_private(&path, key.serialize_pem().as_bytes())?;
            key
        };
        cert::request(&key, node)
    }

    /// Installs a bundle made for the key requested here (or for the one already in use).
    pub fn install(&self, bundle: &[u8]) -> Result<NodeIdentity, IdentityError> {
        ensure_dir(&self.0)?;
        let bundle = Bundle::from_json(bundle)?;
        let wanted = cert::pin_of(&cert::certificate_from_pem(&bundle.certificate)?)?;
        let mut keys = Vec::new();
        if self.0.join(REQUEST).exists() {
            keys.push(read_private_text(&self.0.join(REQUEST), REMEDY)?);
        }
        if self.exists() {
            keys.push(self.stored()?.key);
        }
        let key = keys.into_iter().find(|pem| KeyPair::from_pem(pem).is_ok_and(|key| spki_hash(&key) == wanted.0));
        let Some(key) = key else {
            return Err(IdentityError::Bundle(
                "its certificate is not for the key in this directory; run identity request again and sign that".into(),
            ));
        };
        let stored = Stored { key, bundle };
        let identity = NodeIdentity::build(&stored)?;
        write_private(&self.0.join(IDENTITY), &serde_json::to_vec_pretty(&stored).unwrap_or_default())?;
        remove(&self.0.join(REQUEST))?;
        Ok(identity)
    }

    /// Loads the installed identity.
    pub fn load(&self) -> Result<NodeIdentity, IdentityError> {
        NodeIdentity::build(&self.stored()?)
    }

    fn stored(&self) -> Result<Stored, IdentityError> {
        let path = self.0.join(IDENTITY);
        let bytes = read_private(&path, REMEDY)?;
        ensure_dir(&self.0)?;
        serde_json::from_slice(&bytes).map_err(|error| IdentityError::Damaged { path, what: error.to_string() })
    }
}

/// An installed identity.
#[derive(Clone)]
pub struct NodeIdentity {
    /// The node.
    pub node: NodeName,
    /// Its net, as the controller said at enrolment.
    pub net: String,
    /// Its daemon.
    pub role: Role,
    /// Addresses of the controller, if the bundle named any.
    pub controllers: Vec<String>,
    /// Where secrets are sealed to.
    pub recipient: String,
    /// What matters of the certificate.
    pub certificate: CertificateFacts,
    pub(crate) pivot: [u8; 32],
    /// Every root it trusts, the issuing one first.
    pub(crate) roots: Vec<CertificateDer<'static>>,
    pub(crate) certified: Arc<CertifiedKey>,
}

impl std::fmt::Debug for NodeIdentity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NodeIdentity").field("node", &self.node).field("net", &self.net).field("role", &self.role).finish_non_exhaustive()
    }
}

impl NodeIdentity {
    /// Whole days until the certificate expires; negative when it has.
    pub fn days_left(&self, now_ns: i64) -> i64 {
        self.certificate.days_left(now_ns)
    }

    /// Whether two thirds of the certificate's life are over.
    pub fn renewal_due(&self, now_ns: i64) -> bool {
        now_ns >= renew_time(self.certificate.not_after_ns)
    }

    /// The controller's pin.
    pub fn pin(&self) -> Result<Pin, IdentityError> {
        self.roots.first().map_or_else(|| Err(IdentityError::Bundle("it names no CA".into())), |ca| cert::pin_of(ca))
    }

    fn build(stored: &Stored) -> Result<Self, IdentityError> {
        let bundle = &stored.bundle;
        let bad = |what: &str| IdentityError::Bundle(what.into());
        let der = cert::certificate_from_pem(&bundle.certificate)?;
        let roots = cert::certificates_from_pem(&bundle.ca)?;
        let facts = cert::facts(&der)?;
        if facts.node().as_ref() != Some(&bundle.node) {
            return Err(bad("its certificate is for another node"));
        }
        tls::issued_by(&der, &roots)?;
        let key = KeyPair::from_pem(&stored.key).map_err(cert::certificate_error)?;
        Ok(Self {
            node: bundle.node.clone(),
            net: bundle.net.clone(),
            role: bundle.role,
            controllers: bundle.controllers.clone(),
            recipient: crate::seal::check_recipient(&bundle.recipient).map_err(|_| bad("its recipient is not an age recipient"))?,
            certificate: facts,
            pivot: key_from_hex(&bundle.pivot).ok_or_else(|| bad("its pivot key is not 64 hexadecimal digits"))?,
            certified: tls::certified(vec![der], key.serialize_der())?,
            roots,
        })
    }
}
