//! Who is who: the controller's CA and registry of nodes, the node's key and certificate, one-time
//! tokens, and the bundle that carries a certificate to its node.
//!
//! A node's name stands in its certificate as `glasshive://node/<name>`; net and role come from the
//! controller's registry and are never read from what a node says. Private files are 0600 in a 0700
//! directory, written beside and renamed; a file that others can read is refused.

mod authority;
mod ca;
mod cert;
mod files;
mod node;
mod registry;
mod token;

pub use authority::{Phase, Step};
pub use ca::{ControllerIdentity, Denied, RENEW_AT_DAYS, Rotated, VALID_DAYS};
pub use cert::{CertificateFacts, facts, pin_of};
pub use node::{IdentityDir, NodeIdentity};
pub use registry::{Issued, NodeEntry, PendingToken};
pub use token::{Pin, Token};

pub(crate) use files::{ensure_dir, read_private, write_private};

use crate::name::{NodeName, Role};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// What can go wrong with identities; each says in one line what to do.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// Nothing there.
    #[error("{path} does not exist: {remedy}", path = .path.display())]
    Missing {
        /// The file.
        path: PathBuf,
        /// What to type.
        remedy: &'static str,
    },
    /// Already there.
    #[error("{path} exists: this directory already holds an identity", path = .0.display())]
    Exists(PathBuf),
    /// Others can read it.
    #[error("{path} can be read by others (mode {mode:04o}): run chmod {want:o} {path}", path = .path.display())]
    Permissions {
        /// The file or directory.
        path: PathBuf,
        /// Its mode.
        mode: u32,
        /// The mode it should have.
        want: u32,
    },
    /// The file system refused.
    #[error("{path}: {source}", path = .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Not what we wrote.
    #[error("{path} is damaged ({what}): restore it from a backup or enrol again", path = .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// Making or reading a certificate failed.
    #[error("certificate: {0}")]
    Certificate(String),
    /// A signing request we do not sign.
    #[error("signing request refused: {0}")]
    Request(String),
    /// A bundle we do not install.
    #[error("bundle refused: {0}")]
    Bundle(String),
    /// Not in the registry.
    #[error("node {0} is not enrolled here: run glasshive enroll {0}")]
    UnknownNode(NodeName),
    /// On the deny list.
    #[error("node {0} was revoked: enrol it again to let it back in")]
    Revoked(NodeName),
    /// A step of a change of authorities that is not next.
    #[error("{0}")]
    Step(&'static str),
    /// Nodes that have not come back since the last step.
    #[error("these nodes have not come back since the last step, and could not after this one: {}; wait for them, revoke them, or add --force", .0.join(", "))]
    Behind(Vec<String>),
    /// A token that does not open anything.
    #[error("token refused: {0}")]
    Token(String),
    /// A name.
    #[error(transparent)]
    Name(#[from] crate::name::NameError),
    /// The operating system gave no randomness.
    #[error("no randomness from the operating system")]
    Random,
}

/// What enrolment hands to a node: JSON, printed by the controller, read by `identity install`.
/// It holds the pivot key: keep it as private as the node's key.
#[derive(Clone, Serialize, Deserialize)]
pub struct Bundle {
    /// Format, 1.
    pub version: u32,
    /// The node.
    pub node: NodeName,
    /// Its net.
    pub net: String,
    /// Its daemon.
    pub role: Role,
    /// The node's certificate, PEM.
    pub certificate: String,
    /// Certificates of all CAs to trust, PEM; the issuing one first.
    pub ca: String,
    /// Where secrets are sealed to (`age1…`).
    pub recipient: String,
    /// Key of the pivot HMAC, 64 hexadecimal digits.
    pub pivot: String,
    /// Addresses of the controller, `host:port`.
    #[serde(default)]
    pub controllers: Vec<String>,
}

impl Bundle {
    /// As JSON.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_default()
    }

    /// From JSON of at most 64 KiB.
    pub fn from_json(bytes: &[u8]) -> Result<Self, IdentityError> {
        if bytes.len() > 64 * 1024 {
            return Err(IdentityError::Bundle("longer than 64 KiB".into()));
        }
        let bundle: Self = serde_json::from_slice(bytes).map_err(|error| IdentityError::Bundle(format!("not a bundle ({error})")))?;
        if bundle.version != 1 {
            return Err(IdentityError::Bundle(format!("version {} is unknown to this build (it reads 1)", bundle.version)));
        }
        Ok(bundle)
    }
}

impl std::fmt::Debug for Bundle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bundle").field("node", &self.node).field("net", &self.net).field("role", &self.role).finish_non_exhaustive()
    }
}

/// `N` random bytes of the operating system.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], IdentityError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|_| IdentityError::Random)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests;
