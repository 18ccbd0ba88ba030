//! The controller's list of nodes and outstanding tokens: `nodes.json`, replaced whole.

use super::IdentityError;
use super::token::digest;
use crate::name::{NodeName, Role};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Tokens are forgotten this long after they expired; until then a late use gets a precise answer.
const KEEP_TOKENS_NS: i64 = 30 * super::cert::DAY_NS;
/// More valid certificates than this of one node are never needed (renewal leaves two).
const MAX_ISSUED: usize = 64;

/// A certificate that was given out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Issued {
    /// Its serial number, hexadecimal.
    pub serial: String,
    /// End of its validity, nanoseconds.
    pub not_after_ns: i64,
    /// Generation of the roots it was handed out with.
    #[serde(default)]
    pub roots: u64,
}

/// A node as the controller knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeEntry {
    /// Its net.
    pub net: String,
    /// Its daemon.
    pub role: Role,
    /// When it was enrolled last, nanoseconds.
    pub enrolled_ns: i64,
    /// When it was revoked, if it is.
    pub revoked_ns: Option<i64>,
    /// Where the controller dials it, if it does.
    pub dial: Option<String>,
    /// Newest generation of roots the node has come back with.
    #[serde(default)]
    pub roots: u64,
    /// Certificates given out and not expired.
    pub issued: Vec<Issued>,
    /// Certificates that must not be accepted any more.
    pub denied: Vec<Issued>,
}

impl NodeEntry {
    /// Generation of the roots the certificate with this serial was handed out with.
    pub(super) fn issued_roots(&self, serial: &str) -> u64 {
        self.issued.iter().find(|issued| issued.serial == serial).map_or(0, |issued| issued.roots)
    }
}

/// A token not used yet, without its secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingToken {
    /// For this node.
    pub node: NodeName,
    /// In this net.
    pub net: String,
    /// As this daemon.
    pub role: Role,
    /// Until then, nanoseconds.
    pub expires_ns: i64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct TokenEntry {
    sha256: String,
    node: NodeName,
    net: String,
    role: Role,
    expires_ns: i64,
    used_ns: Option<i64>,
    /// SHA-256 of the key that used it: the same key may ask again when the answer got lost.
    used_by: Option<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Registry {
    version: u32,
    pub(super) nodes: BTreeMap<NodeName, NodeEntry>,
    tokens: Vec<TokenEntry>,
}

impl Default for Registry {
    fn default() -> Self {
        Self { version: 1, nodes: BTreeMap::new(), tokens: Vec::new() }
    }
}

impl Registry {
    pub(super) fn from_json(bytes: &[u8]) -> Result<Self, String> {
        let registry: Self = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        if registry.version == 1 { Ok(registry) } else { Err(format!("version {} is unknown to this build", registry.version)) }
    }

    pub(super) fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec_pretty(self).unwrap_or_default()
    }

    /// Adds a token; an unused one of the same node is void from now on.
    pub(super) fn add_token(&mut self, secret: &[u8; 32], node: NodeName, net: String, role: Role, now_ns: i64, expires_ns: i64) {
        self.tokens.retain(|token| token.expires_ns.saturating_add(KEEP_TOKENS_NS) > now_ns);
        self.tokens.retain(|token| token.node != node || token.used_ns.is_some());
        self.tokens.push(TokenEntry { sha256: digest(secret), node, net, role, expires_ns, used_ns: None, used_by: None });
    }

    /// Uses a token once; returns net and role it was made for.
    pub(super) fn redeem(&mut self, secret: &[u8; 32], node: &NodeName, key: &str, now_ns: i64) -> Result<(String, Role), IdentityError> {
        let refused = |what: String| Err(IdentityError::Token(what));
        let wanted = digest(secret);
        let Some(token) = self.tokens.iter_mut().find(|token| token.sha256 == wanted) else {
            return refused("it is not one of this controller's (any more); make a new one with glasshive enroll".into());
        };
        if token.node != *node {
            return refused(format!("it was made for node {}, not for {node}", token.node));
        }
        if token.expires_ns <= now_ns {
            return refused(format!("it expired at {}", glasshive_event::Timestamp(token.expires_ns)));
        }
        if let Some(used) = token.used_ns
            && token.used_by.as_deref() != Some(key)
        {
            return refused(format!("it was used at {}", glasshive_event::Timestamp(used)));
        }
        token.used_ns.get_or_insert(now_ns);
        token.used_by = Some(key.to_owned());
        Ok((token.net.clone(), token.role))
    }

    /// A node gets its first certificate of this enrolment: every earlier one is void.
    pub(super) fn enrolled(&mut self, node: &NodeName, net: String, role: Role, issued: Issued, now_ns: i64) {
        let (mut denied, dial) = match self.nodes.remove(node) {
            Some(old) => ([old.issued, old.denied].concat(), old.dial),
            None => (Vec::new(), None),
        };
        denied.retain(|cert| cert.not_after_ns > now_ns);
        let entry = NodeEntry { net, role, enrolled_ns: now_ns, revoked_ns: None, dial, roots: 0, issued: vec![issued], denied };
        self.nodes.insert(node.clone(), entry);
    }

    pub(super) fn renewed(&mut self, node: &NodeName, issued: Issued, now_ns: i64) -> Result<&NodeEntry, IdentityError> {
        let entry = self.nodes.get_mut(node).ok_or_else(|| IdentityError::UnknownNode(node.clone()))?;
        if entry.revoked_ns.is_some() {
            return Err(IdentityError::Revoked(node.clone()));
        }
        entry.issued.retain(|cert| cert.not_after_ns > now_ns);
        entry.denied.retain(|cert| cert.not_after_ns > now_ns);
        if entry.issued.len() >= MAX_ISSUED {
            return Err(IdentityError::Request("too many renewals within the life of a certificate".into()));
        }
        entry.issued.push(issued);
        Ok(entry)
    }

    /// Nodes let in that have not come back with roots of `generation`.
    pub(super) fn behind(&self, generation: u64) -> Vec<String> {
        let behind = self.nodes.iter().filter(|(_, entry)| entry.revoked_ns.is_none() && entry.roots < generation);
        behind.map(|(node, _)| node.to_string()).collect()
    }

    /// A node has come back with roots of that generation.
    pub(super) fn came_back(&mut self, node: &NodeName, roots: u64) {
        if let Some(entry) = self.nodes.get_mut(node) {
            entry.roots = entry.roots.max(roots);
        }
    }

    pub(super) fn revoke(&mut self, node: &NodeName, now_ns: i64) -> Result<(), IdentityError> {
        // A token still out would let the node straight back in.
        let tokens = self.tokens.len();
        self.tokens.retain(|token| token.node != *node || token.used_ns.is_some());
        match self.nodes.get_mut(node) {
            Some(entry) => {
                entry.revoked_ns.get_or_insert(now_ns);
                let issued = std::mem::take(&mut entry.issued);
                entry.denied.extend(issued);
                Ok(())
            }
            None if self.tokens.len() < tokens => Ok(()),
            None => Err(IdentityError::UnknownNode(node.clone())),
        }
    }

    pub(super) fn pending(&self, now_ns: i64) -> Vec<PendingToken> {
        let open = self.tokens.iter().filter(|token| token.used_ns.is_none() && token.expires_ns > now_ns);
        open.map(|t| PendingToken { node: t.node.clone(), net: t.net.clone(), role: t.role, expires_ns: t.expires_ns }).collect()
    }
}
