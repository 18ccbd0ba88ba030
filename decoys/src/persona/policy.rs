//! Who may log in. A real host does not let in the first guess, nor forget a password that worked.

use super::Seed;
use crate::session::Credential;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

/// Sources whose guesses are remembered; the oldest is forgotten first.
const MAX_SOURCES: usize = 16_384;

/// One account of a persona.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccountPolicy {
    /// Account name.
    pub name: String,
    /// Passwords that open it.
    #[serde(default)]
    pub passwords: Vec<String>,
    /// SHA-256 fingerprints (`SHA256:…`) of public keys that open it.
    #[serde(default)]
    pub keys: Vec<String>,
    /// Opens to the n-th different password of one source, and to that password ever after; 0 = never.
    #[serde(default)]
    pub after: u32,
    /// User id of the pretended system; drawn when absent.
    pub uid: Option<u32>,
}

/// The accept policy of one decoy.
pub struct Policy {
    accounts: BTreeMap<String, AccountPolicy>,
    seed: Seed,
    guesses: Mutex<Guesses>,
}

#[derive(Default)]
struct Guesses {
    sources: HashMap<(IpAddr, String), Tried>,
    clock: u64,
}

#[derive(Default)]
struct Tried {
    seen: Vec<[u8; 8]>,
    opened: Option<[u8; 8]>,
    used: u64,
}

impl Policy {
    /// The policy of `accounts`.
    pub fn new(accounts: &[AccountPolicy], seed: Seed) -> Self {
        Self { accounts: accounts.iter().map(|a| (a.name.clone(), a.clone())).collect(), seed, guesses: Mutex::default() }
    }

    /// Whether the credential opens the account.
    pub fn decide(&self, user: &[u8], credential: Credential<'_>, source: IpAddr, _now_ns: i64) -> bool {
        let Some(account) = std::str::from_utf8(user).ok().and_then(|user| self.accounts.get(user)) else {
            return false;
        };
        match credential {
            Credential::None => false,
            Credential::PublicKey { fingerprint, signed, .. } => signed && account.keys.iter().any(|key| key == fingerprint),
            Credential::Plain(secret) => {
                account.passwords.iter().any(|password| password.as_bytes() == secret) || self.guessed(account, secret, source)
            }
        }
    }

    /// Whether a public key would be accepted, before the visitor proves to hold it.
    pub fn knows_key(&self, user: &[u8], fingerprint: &str) -> bool {
        std::str::from_utf8(user)
            .ok()
            .and_then(|user| self.accounts.get(user))
            .is_some_and(|account| account.keys.iter().any(|key| key == fingerprint))
    }

    fn guessed(&self, account: &AccountPolicy, secret: &[u8], source: IpAddr) -> bool {
        if account.after == 0 || secret.is_empty() {
            return false;
        }
        let [a, b, c, d, e, f, g, h, ..]: [u8; 32] = Sha256::new().chain_update(self.seed.0).chain_update(secret).finalize().into();
        let digest = [a, b, c, d, e, f, g, h];
        let mut guesses = self.guesses.lock().unwrap_or_else(PoisonError::into_inner);
        guesses.clock += 1;
        let now = guesses.clock;
        let key = (source, account.name.clone());
        if !guesses.sources.contains_key(&key)
            && guesses.sources.len() >= MAX_SOURCES
            && let Some(oldest) = guesses.sources.iter().min_by_key(|(_, tried)| tried.used).map(|(key, _)| key.clone())
        {
            guesses.sources.remove(&oldest);
        }
        let tried = guesses.sources.entry(key).or_default();
        tried.used = now;
        if let Some(opened) = tried.opened {
            return opened == digest;
        }
        if !tried.seen.contains(&digest) {
            tried.seen.push(digest);
        }
        if tried.seen.len() >= account.after as usize {
            tried.opened = Some(digest);
            tried.seen = Vec::new();
            return true;
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> Policy {
        let accounts = vec![
            AccountPolicy { name: "root".into(), passwords: vec!["toor".into()], keys: vec!["SHA256:k".into()], after: 3, uid: None },
            AccountPolicy { name: "www".into(), passwords: vec![], keys: vec![], after: 0, uid: None },
        ];
        Policy::new(&accounts, Seed([1; 32]))
    }

    #[test]
    fn listed_guessed_and_refused() {
        let policy = policy();
        let [a, b]: [IpAddr; 2] = ["192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap()];
        let plain = |user: &str, secret: &str, ip| policy.decide(user.as_bytes(), Credential::Plain(secret.as_bytes()), ip, 0);
        assert!(plain("root", "toor", a));
        assert!(!plain("root", "1", a));
        assert!(!plain("root", "1", a), "the same guess again is no new guess");
        assert!(!plain("root", "2", a));
        assert!(plain("root", "3", a), "the third different guess opens");
        assert!(plain("root", "3", a), "and stays the password");
        assert!(!plain("root", "4", a));
        assert!(!plain("root", "3", b), "another source guesses for itself");
        assert!(!plain("www", "x", a));
        assert!(!plain("nobody", "toor", a));
    }

    #[test]
    fn keys_need_a_signature() {
        let policy = policy();
        let ip = "192.0.2.1".parse().unwrap();
        let key = |signed| Credential::PublicKey { openssh: "", fingerprint: "SHA256:k", signed };
        assert!(policy.decide(b"root", key(true), ip, 0));
        assert!(!policy.decide(b"root", key(false), ip, 0));
        assert!(policy.knows_key(b"root", "SHA256:k") && !policy.knows_key(b"root", "SHA256:other"));
    }
}
