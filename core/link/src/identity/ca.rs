//! The controller's identity: CA, its own certificate, the sealing key, the pivot key and the registry.
//!
//! One process owns the directory at a time (the daemon, or the CLI that took its lock).

use super::authority::{Authority, Phase, Step};
use super::cert::{self, DAY_NS};
use super::files::{ensure_dir, read_private, read_private_text, write_private};
use super::registry::{Issued, NodeEntry, PendingToken, Registry};
use super::{Bundle, IdentityError, Pin, Token, random};
use crate::clock::Clock;
use crate::ingest::Peer;
use crate::name::{CONTROLLER_URI, NodeName, Role, check_name};
use crate::seal::Unsealer;
use crate::tls::{self, CertifiedKey};
use rcgen::{KeyPair, PublicKeyData, SubjectPublicKeyInfo};
use rustls_pki_types::CertificateDer;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;
use tokio::sync::watch;

/// Days a certificate is valid.
pub const VALID_DAYS: i64 = 30;
/// Days after which it is renewed.
pub const RENEW_AT_DAYS: i64 = 20;

const INIT: &str = "run glasshive serve once, it makes the controller's identity";

/// Who must not be let in; changes are told to open connections.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Denied {
    /// Revoked nodes.
    pub nodes: BTreeSet<NodeName>,
    /// Certificates of nodes that enrolled anew.
    pub serials: BTreeSet<String>,
}

impl Denied {
    /// Whether this certificate of this node may not be used.
    pub fn denies(&self, node: &NodeName, serial: &str) -> bool {
        self.nodes.contains(node) || self.serials.contains(serial)
    }
}

/// Where a change of authorities stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rotated {
    /// Which step was made last.
    pub phase: Phase,
    /// Pins of all roots that are trusted, the issuing one first.
    pub pins: Vec<Pin>,
    /// Nodes that have not come back since.
    pub behind: Vec<String>,
    /// This call made a step.
    pub changed: bool,
}

struct Server {
    certified: Arc<CertifiedKey>,
    renew_ns: i64,
}

/// The controller's identity.
pub struct ControllerIdentity {
    dir: PathBuf,
    clock: Arc<dyn Clock>,
    authority: RwLock<Arc<Authority>>,
    /// Generation of its roots, told to open connections.
    generation: watch::Sender<u64>,
    unsealer: Unsealer,
    pivot: [u8; 32],
    controllers: Vec<String>,
    registry: Mutex<Registry>,
    denied: watch::Sender<Arc<Denied>>,
    server: Mutex<Server>,
}

impl std::fmt::Debug for ControllerIdentity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ControllerIdentity").field("dir", &self.dir).field("pin", &self.pin()).finish_non_exhaustive()
    }
}

impl ControllerIdentity {
    /// Whether `dir` holds an identity.
    pub fn exists(dir: &Path) -> bool {
        dir.join("ca.key").exists()
    }

    /// Makes a new identity in `dir`; refuses if one is there.
    pub fn init(dir: &Path, clock: Arc<dyn Clock>) -> Result<Self, IdentityError> {
        ensure_dir(dir)?;
        if Self::exists(dir) {
            return Err(IdentityError::Exists(dir.join("ca.key")));
        }
        let key = cert::new_key()?;
        let ca = cert::ca_params(clock.wall_ns())?.self_signed(&key).map_err(cert::certificate_error)?;
        write_private(&dir.join("ca.crt"), ca.pem().as_bytes())?;
        write_private(&dir.join("seal.key"), Unsealer::generate().secret().as_bytes())?;
        write_private(&dir.join("pivot.key"), glasshive_event::text::hex(&random::<32>()?).as_bytes())?;
        write_private(&dir.join("nodes.json"), &Registry::default().to_json())?;
        // Last: its presence says that the identity is whole.
        write_private(&dir.join("ca.key"), key.serialize_pem().as_bytes())?;
        Self::load(dir, clock)
    }

    /// Loads the identity of `dir`; its own certificate is made or renewed if due.
    pub fn load(dir: &Path, clock: Arc<dyn Clock>) -> Result<Self, IdentityError> {
        let missing = dir.join("ca.key");
        if !missing.exists() {
            return Err(IdentityError::Missing { path: missing, remedy: INIT });
        }
        ensure_dir(dir)?;
        let text = |name: &str| read_private_text(&dir.join(name), "restore the controller's identity from a backup");
        let damaged = |name: &str, what: String| IdentityError::Damaged { path: dir.join(name), what };
        let authority = Authority::load(dir)?;
        let unsealer = Unsealer::from_secret(text("seal.key")?.trim()).map_err(|error| damaged("seal.key", error.to_string()))?;
        let pivot = key_from_hex(&text("pivot.key")?).ok_or_else(|| damaged("pivot.key", "not 64 hexadecimal digits".into()))?;
        let nodes = read_private(&dir.join("nodes.json"), "restore the controller's identity from a backup")?;
        let registry = Registry::from_json(&nodes).map_err(|what| damaged("nodes.json", what))?;
        let server = load_server(dir, &authority, clock.wall_ns()).map_or_else(|| new_server(dir, &authority, clock.wall_ns()), Ok)?;
        let denied = watch::Sender::new(Arc::new(denied_of(&registry)));
        Ok(Self {
            dir: dir.into(),
            clock,
            generation: watch::Sender::new(authority.generation()),
            authority: RwLock::new(Arc::new(authority)),
            unsealer,
            pivot,
            controllers: Vec::new(),
            registry: Mutex::new(registry),
            denied,
            server: Mutex::new(server),
        })
    }

    /// Addresses (`host:port`) that bundles tell nodes to dial.
    #[must_use]
    pub fn with_addresses(mut self, controllers: Vec<String>) -> Self {
        self.controllers = controllers;
        self
    }

    /// The pin nodes recognise this controller by.
    pub fn pin(&self) -> Pin {
        self.authority().pin
    }

    /// Opens what nodes sealed.
    pub fn unsealer(&self) -> &Unsealer {
        &self.unsealer
    }

    /// Key of the pivot HMAC.
    pub fn pivot_key(&self) -> &[u8; 32] {
        &self.pivot
    }

    /// Lets `node` join once within `ttl`; an earlier unused token of the node is void.
    pub fn enroll(&self, node: NodeName, net: &str, role: Role, ttl: Duration) -> Result<Token, IdentityError> {
        check_name(net)?;
        let token = Token::new(node.clone(), self.pin())?;
        let now = self.clock.wall_ns();
        let expires = now.saturating_add(i64::try_from(ttl.as_nanos()).unwrap_or(i64::MAX));
        self.change(|registry| {
            registry.add_token(&token.secret, node, net.to_owned(), role, now, expires);
            Ok(())
        })?;
        Ok(token)
    }

    /// Signs a request made offline; the node's name is the request's, net and role the operator's.
    pub fn sign_csr(&self, pem: &str, net: &str, role: Role) -> Result<Bundle, IdentityError> {
        check_name(net)?;
        let (key, node) = cert::read_request(pem)?;
        let (certificate, issued) = self.certify(&key, &node)?;
        let now = self.clock.wall_ns();
        self.change(|registry| {
            registry.enrolled(&node, net.to_owned(), role, issued, now);
            Ok(())
        })?;
        Ok(self.bundle(node, net.to_owned(), role, certificate))
    }

    /// Answers an online JOIN.
    pub(crate) fn redeem(&self, secret: &[u8; 32], node: &NodeName, csr: &str) -> Result<Bundle, IdentityError> {
        let (key, named) = cert::read_request(csr)?;
        if named != *node {
            return Err(IdentityError::Request(format!("it is for node {named}, the token for {node}")));
        }
        let key_id = Pin(spki_hash(&key)).to_string();
        let (certificate, issued) = self.certify(&key, node)?;
        let now = self.clock.wall_ns();
        let (net, role) = self.change(|registry| {
            let (net, role) = registry.redeem(secret, node, &key_id, now)?;
            registry.enrolled(node, net.clone(), role, issued, now);
            Ok((net, role))
        })?;
        Ok(self.bundle(node.clone(), net, role, certificate))
    }

    /// Answers a RENEW of a node that proved its identity.
    pub(crate) fn renew(&self, node: &NodeName, csr: &str) -> Result<Bundle, IdentityError> {
        let (key, named) = cert::read_request(csr)?;
        if named != *node {
            return Err(IdentityError::Request(format!("node {node} asked for a certificate of {named}")));
        }
        let (certificate, issued) = self.certify(&key, node)?;
        let now = self.clock.wall_ns();
        let (net, role) = self.change(|registry| registry.renewed(node, issued, now).map(|entry| (entry.net.clone(), entry.role)))?;
        Ok(self.bundle(node.clone(), net, role, certificate))
    }

    /// Shuts a node out: its certificates and tokens are void and open connections close at once.
    pub fn revoke(&self, node: &NodeName) -> Result<(), IdentityError> {
        let now = self.clock.wall_ns();
        self.change(|registry| registry.revoke(node, now))
    }

    /// Sets or clears where the controller dials a node.
    pub fn set_dial(&self, node: &NodeName, address: Option<String>) -> Result<(), IdentityError> {
        self.change(|registry| {
            let entry = registry.nodes.get_mut(node).ok_or_else(|| IdentityError::UnknownNode(node.clone()))?;
            entry.dial = address;
            Ok(())
        })
    }

    /// All nodes.
    pub fn nodes(&self) -> BTreeMap<NodeName, NodeEntry> {
        self.lock().nodes.clone()
    }

    /// Tokens that still open the door.
    pub fn pending(&self) -> Vec<PendingToken> {
        self.lock().pending(self.clock.wall_ns())
    }

    /// Who is shut out, and changes to it.
    pub fn denied(&self) -> watch::Receiver<Arc<Denied>> {
        self.denied.subscribe()
    }

    /// Judges a certificate that was verified against the CA.
    pub(crate) fn admit(&self, node: &NodeName, serial: &str) -> Result<Peer, IdentityError> {
        let registry = self.lock();
        let entry = registry.nodes.get(node).ok_or_else(|| IdentityError::UnknownNode(node.clone()))?;
        if self.denied.borrow().denies(node, serial) {
            return Err(IdentityError::Revoked(node.clone()));
        }
        Ok(Peer { node: node.clone(), net: entry.net.clone(), role: entry.role })
    }

    /// Every root that is trusted, the issuing one first.
    pub(crate) fn roots(&self) -> Vec<CertificateDer<'static>> {
        self.authority().roots.clone()
    }

    /// Changes of the generation of roots.
    pub(crate) fn generation(&self) -> watch::Receiver<u64> {
        self.generation.subscribe()
    }

    /// Where a change of authorities stands.
    pub fn rotation(&self) -> Rotated {
        let authority = self.authority();
        let pins = authority.roots.iter().filter_map(|root| cert::pin_of(root).ok()).collect();
        let behind = self.lock().behind(authority.generation());
        Rotated { phase: authority.phase(), pins, behind, changed: false }
    }

    /// Makes a step of a change of authorities; one that was made already changes nothing. Refused while nodes have not
    /// come back since the last one, unless `force`: those would have to be enrolled anew.
    pub fn rotate(&self, step: Step, force: bool) -> Result<Rotated, IdentityError> {
        let mut held = self.authority.write().unwrap_or_else(PoisonError::into_inner);
        if held.is_next(step)? {
            let behind = self.lock().behind(held.generation());
            if step != Step::Distribute && !force && !behind.is_empty() {
                return Err(IdentityError::Behind(behind));
            }
            held.step(&self.dir, step, self.clock.wall_ns())?;
            let authority = Authority::load(&self.dir)?;
            let mut server = self.server.lock().unwrap_or_else(PoisonError::into_inner);
            *server = new_server(&self.dir, &authority, self.clock.wall_ns())?;
            let generation = authority.generation();
            *held = Arc::new(authority);
            drop(server);
            drop(held);
            self.generation.send_replace(generation);
            return Ok(Rotated { changed: true, ..self.rotation() });
        }
        drop(held);
        Ok(self.rotation())
    }

    /// A node proved this certificate. When the roots have changed since it was handed out, the bundle with a new one for
    /// the same key; the node installs what comes as RENEWED, asked for or not.
    pub(crate) fn renewal_of(&self, node: &NodeName, serial: &str, public_key: &[u8]) -> Result<Option<Bundle>, IdentityError> {
        let generation = self.authority().generation();
        let known = self.lock().nodes.get(node).map(|entry| (entry.roots, entry.issued_roots(serial)));
        let Some((noted, has)) = known else { return Ok(None) };
        if has > noted {
            self.change(|registry| {
                registry.came_back(node, has);
                Ok(())
            })?;
        }
        if has >= generation {
            return Ok(None);
        }
        let key = SubjectPublicKeyInfo::from_der(public_key).map_err(cert::certificate_error)?;
        let (certificate, issued) = self.certify(&key, node)?;
        let now = self.clock.wall_ns();
        let (net, role) = self.change(|registry| registry.renewed(node, issued, now).map(|entry| (entry.net.clone(), entry.role)))?;
        Ok(Some(self.bundle(node.clone(), net, role, certificate)))
    }

    fn authority(&self) -> Arc<Authority> {
        self.authority.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The controller's certificate, renewed when two thirds of its life are over.
    pub(crate) fn certified(&self) -> Result<Arc<CertifiedKey>, IdentityError> {
        // Before the lock: a step of a rotation takes them in this order.
        let (now, authority) = (self.clock.wall_ns(), self.authority());
        let mut server = self.server.lock().unwrap_or_else(PoisonError::into_inner);
        if now >= server.renew_ns {
            *server = new_server(&self.dir, &authority, now)?;
        }
        Ok(server.certified.clone())
    }

    fn certify(&self, key: &impl PublicKeyData, node: &NodeName) -> Result<(String, Issued), IdentityError> {
        let authority = self.authority();
        let certificate = cert::issue(&authority.issuer, key, node.as_str(), &node.uri(), self.clock.wall_ns(), VALID_DAYS)?;
        let facts = cert::facts(certificate.der())?;
        Ok((certificate.pem(), Issued { serial: facts.serial, not_after_ns: facts.not_after_ns, roots: authority.generation() }))
    }

    fn bundle(&self, node: NodeName, net: String, role: Role, certificate: String) -> Bundle {
        Bundle {
            version: 1,
            node,
            net,
            role,
            certificate,
            ca: self.authority().pem.clone(),
            recipient: self.unsealer.recipient(),
            pivot: glasshive_event::text::hex(&self.pivot),
            controllers: self.controllers.clone(),
        }
    }

    /// Changes a copy, writes it, and only then believes it.
    fn change<T>(&self, edit: impl FnOnce(&mut Registry) -> Result<T, IdentityError>) -> Result<T, IdentityError> {
        let mut registry = self.lock();
        let mut copy = registry.clone();
        let answer = edit(&mut copy)?;
        write_private(&self.dir.join("nodes.json"), &copy.to_json())?;
        let denied = Arc::new(denied_of(&copy));
        *registry = copy;
        self.denied.send_if_modified(|current| {
            let changed = **current != *denied;
            *current = denied;
            changed
        });
        Ok(answer)
    }

    fn lock(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn denied_of(registry: &Registry) -> Denied {
    let mut denied = Denied::default();
    for (node, entry) in &registry.nodes {
        if entry.revoked_ns.is_some() {
            denied.nodes.insert(node.clone());
        }
        denied.serials.extend(entry.denied.iter().map(|cert| cert.serial.clone()));
    }
    denied
}

/// The certificate on disk, if it is whole, ours and not due.
fn load_server(dir: &Path, authority: &Authority, now_ns: i64) -> Option<Server> {
    let key = KeyPair::from_pem(&read_private_text(&dir.join("server.key"), "").ok()?).ok()?;
    let der = cert::certificate_from_pem(&read_private_text(&dir.join("server.crt"), "").ok()?).ok()?;
    let facts = cert::facts(&der).ok()?;
    let renew_ns = renew_time(facts.not_after_ns);
    if facts.uri != CONTROLLER_URI || facts.key.0 != spki_hash(&key) || now_ns >= renew_ns || now_ns < facts.not_before_ns {
        return None;
    }
    tls::issued_by(&der, std::slice::from_ref(&authority.ca)).ok()?;
    Some(Server { certified: tls::certified(vec![der, authority.ca.clone()], key.serialize_der()).ok()?, renew_ns })
}

fn new_server(dir: &Path, authority: &Authority, now_ns: i64) -> Result<Server, IdentityError> {
    let key = cert::new_key()?;
    let certificate = cert::issue(&authority.issuer, &key, "glasshive controller", CONTROLLER_URI, now_ns, VALID_DAYS)?;
    write_private(&dir.join("server.key"), key.serialize_pem().as_bytes())?;
    write_private(&dir.join("server.crt"), certificate.pem().as_bytes())?;
    let renew_ns = renew_time(cert::facts(certificate.der())?.not_after_ns);
    let certified = tls::certified(vec![certificate.der().clone(), authority.ca.clone()], key.serialize_der())?;
    Ok(Server { certified, renew_ns })
}

/// When a certificate that ends at `not_after_ns` is renewed.
pub(super) fn renew_time(not_after_ns: i64) -> i64 {
    not_after_ns.saturating_sub((VALID_DAYS - RENEW_AT_DAYS).saturating_mul(DAY_NS))
}

pub(super) fn spki_hash(key: &impl PublicKeyData) -> [u8; 32] {
    Sha256::digest(key.subject_public_key_info()).into()
}

pub(super) fn key_from_hex(text: &str) -> Option<[u8; 32]> {
    glasshive_event::text::unhex(text.trim())?.try_into().ok()
}
