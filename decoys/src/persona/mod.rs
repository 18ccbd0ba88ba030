//! Personas: the pretended hosts, from a TOML file and a per-node seed.
//!
//! `check` refuses implausible ones with the reason. Everything not written in the file is drawn from
//! the seed, so that no two installations look alike and one never changes its mind.

pub mod file;
mod keys;
mod machine;
mod policy;
mod seed;

pub use keys::{FileKeys, KeyStore, MemoryKeys};
pub use machine::Pretended;
pub use policy::{AccountPolicy, Policy};
pub use seed::Seed;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// One pretended host as services see it.
pub struct Decoy {
    /// Name of the decoy, unique on the node.
    pub name: String,
    /// Name of the persona it wears.
    pub persona: String,
    /// SHA-256 of the persona file, hexadecimal.
    pub persona_hash: String,
    /// Pretended operating system (`debian12`).
    pub os: String,
    /// Host name without domain.
    pub hostname: String,
    /// Domain, or empty.
    pub domain: String,
    /// Addresses it answers on.
    pub addresses: Vec<IpAddr>,
    /// Seed of everything drawn for this decoy.
    pub seed: Seed,
    /// Who may log in, and how.
    pub policy: Policy,
    /// Keys made once and kept: host keys, certificates.
    pub keys: Arc<dyn KeyStore>,
    /// Caps of every session.
    pub limits: Limits,
    /// The persona's accounts.
    pub accounts: Vec<AccountPolicy>,
    /// The pretended machine, and what services tell it; starts empty.
    pub pretended: Pretended,
    /// Ports and names of the services it offers, as its process list shows them.
    pub offers: Vec<(u16, String)>,
    /// Passive ports, set once the listeners are bound.
    pub passive: std::sync::OnceLock<Arc<dyn crate::session::PassivePorts>>,
}

impl Decoy {
    /// Host name with domain.
    pub fn fqdn(&self) -> String {
        if self.domain.is_empty() { self.hostname.clone() } else { format!("{}.{}", self.hostname, self.domain) }
    }
}

/// Caps of a session, from the persona.
#[derive(Clone, Debug)]
pub struct Limits {
    /// A read that waits longer ends the session (services may set a shorter one, as the real daemon has).
    pub idle: Duration,
    /// Longest session.
    pub session: Duration,
    /// Stream bytes recorded for one session.
    pub stream_bytes: u64,
    /// Bytes kept of one received file.
    pub file_bytes: u64,
    /// Concurrent sessions of one source.
    pub per_source: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            idle: Duration::from_secs(300),
            session: Duration::from_secs(3600),
            stream_bytes: 16 << 20,
            file_bytes: 64 << 20,
            per_source: 256,
        }
    }
}
