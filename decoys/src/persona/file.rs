//! The persona file: read, checked for plausibility, and turned into a decoy with its services.

use super::{AccountPolicy, Decoy, KeyStore, Limits, Policy, Seed};
use crate::services::{self, Build, SERVICES, Service, ServiceDef};
use glasshive_daemon::config::{ConfigError, Period, Size, Source};
use glasshive_event::text::hex;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Most services of one host; more is a giveaway.
const MAX_SERVICES: usize = 12;
/// Names published honeypots used for years; scanners look for them.
const BURNT_HOSTS: [&str; 6] = ["svr03", "svr04", "nas3", "ubuntu", "server", "honeypot"];
const BURNT_USERS: [&str; 3] = ["phil", "richard", "sshd:"];
/// Operating systems a persona can wear.
pub const SYSTEMS: [&str; 1] = ["debian12"];

/// What happens on ports the persona does not offer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OtherPorts {
    /// Reset, as a host without a firewall.
    #[default]
    Closed,
    /// Silence, as behind a firewall.
    Filtered,
    /// `generic_tcp` answers: only for dark addresses.
    Answer,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    /// Operating system pretended.
    os: String,
    /// Host name; drawn when absent.
    hostname: Option<String>,
    #[serde(default)]
    domain: String,
    #[serde(default)]
    other_ports: OtherPorts,
    #[serde(default)]
    account: Vec<AccountPolicy>,
    #[serde(default)]
    limits: RawLimits,
    #[serde(default)]
    service: BTreeMap<String, toml::Value>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawLimits {
    idle: Option<Period>,
    session: Option<Period>,
    stream: Option<Size>,
    file: Option<Size>,
    per_source: Option<usize>,
}

/// A persona as loaded: still without addresses.
pub struct Persona {
    /// Name: the file's stem.
    pub name: String,
    /// File it came from.
    pub path: PathBuf,
    /// SHA-256 of the file, hexadecimal.
    pub hash: String,
    /// What happens on ports it does not offer.
    pub other_ports: OtherPorts,
    raw: Raw,
}

/// One service of a decoy, built.
pub struct Offered {
    /// Its row in the table.
    pub def: &'static ServiceDef,
    /// Ports it listens on.
    pub ports: Vec<u16>,
    /// Whether the persona means its cryptography to be weak.
    pub weak: bool,
    /// The service.
    pub service: Arc<dyn Service>,
}

/// A decoy and what it offers.
pub struct Host {
    /// The decoy.
    pub decoy: Arc<Decoy>,
    /// Its services.
    pub offered: Vec<Offered>,
    /// What happens on other ports.
    pub other_ports: OtherPorts,
    /// Serves other ports when they answer.
    pub fallback: Option<Arc<dyn Service>>,
}

impl Persona {
    /// Reads `NAME.toml` and refuses what no real host would be.
    ///
    /// # Errors
    /// One line with file, key and remedy.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let loaded = Source::file(path).load::<Raw>()?;
        let refuse = |key: &str, why: String| Err(loaded.refuse(key, why));
        let raw = &loaded.value;
        if !SYSTEMS.contains(&raw.os.as_str()) {
            return refuse("os", format!("{:?} is not a system this build can pretend; use one of: {}", raw.os, SYSTEMS.join(", ")));
        }
        if let Some(host) = &raw.hostname
            && (BURNT_HOSTS.contains(&host.as_str()) || !is_label(host))
        {
            return refuse(
                "hostname",
                format!("{host:?} is known from published honeypots or no host name; use another, or leave it out to have one drawn"),
            );
        }
        for account in &raw.account {
            if BURNT_USERS.contains(&account.name.as_str()) || account.name.is_empty() {
                return refuse("account", format!("{:?} is a name published honeypots use; choose another", account.name));
            }
            if account.after == 1 {
                return refuse(
                    "account",
                    format!("{}: after = 1 lets in the first guess, which no real host does; use 3 or more", account.name),
                );
            }
        }
        if raw.service.is_empty() {
            return refuse("service", "offers nothing; add at least one, for example [service.ssh]".into());
        }
        if raw.service.len() > MAX_SERVICES {
            return refuse(
                "service",
                format!("{} services on one host are not plausible; keep {MAX_SERVICES} or fewer", raw.service.len()),
            );
        }
        for name in raw.service.keys() {
            if services::find(name).is_none() {
                let known: Vec<_> = SERVICES.iter().map(|def| def.name).collect();
                return refuse(&format!("service.{name}"), format!("no such service; known: {}", known.join(", ")));
            }
        }
        let bytes = std::fs::read(path).unwrap_or_default();
        let name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        Ok(Self { name, path: path.to_owned(), hash: hex(&Sha256::digest(&bytes)), other_ports: raw.other_ports, raw: loaded.value })
    }

    /// Makes the decoy `name` on `addresses` wear this persona.
    ///
    /// # Errors
    /// One line naming file, key and remedy.
    pub fn dress(&self, name: &str, addresses: Vec<IpAddr>, node_seed: &Seed, keys: Arc<dyn KeyStore>) -> Result<Host, String> {
        let seed = node_seed.derive(&format!("decoy/{name}"));
        let mut accounts = self.raw.account.clone();
        if !accounts.iter().any(|account| account.name == "root") {
            accounts.insert(0, AccountPolicy { name: "root".into(), passwords: Vec::new(), keys: Vec::new(), after: 0, uid: Some(0) });
        }
        let defaults = Limits::default();
        let limits = &self.raw.limits;
        let decoy = Arc::new(Decoy {
            name: name.to_owned(),
            persona: self.name.clone(),
            persona_hash: self.hash.clone(),
            os: self.raw.os.clone(),
            hostname: self.raw.hostname.clone().unwrap_or_else(|| draw_hostname(&seed)),
            domain: self.raw.domain.clone(),
            addresses,
            policy: Policy::new(&accounts, seed.derive("policy")),
            seed,
            keys,
            limits: Limits {
                idle: limits.idle.map_or(defaults.idle, |p| p.0),
                session: limits.session.map_or(defaults.session, |p| p.0),
                stream_bytes: limits.stream.map_or(defaults.stream_bytes, |s| s.0),
                file_bytes: limits.file.map_or(defaults.file_bytes, |s| s.0),
                per_source: limits.per_source.unwrap_or(defaults.per_source),
            },
            accounts,
            offers: self.raw.service.iter().flat_map(|(name, value)| offers(name, value)).collect(),
            passive: std::sync::OnceLock::new(),
            pretended: crate::persona::Pretended::default(),
        });
        let mut offered = Vec::new();
        let mut taken = BTreeSet::new();
        for (service, value) in &self.raw.service {
            let at = |why: String| format!("{}: key service.{service}: {why}", self.path.display());
            let def = services::find(service).ok_or_else(|| at("no such service".into()))?;
            for table in tables(value).ok_or_else(|| at("must be a table; write [service.NAME]".into()))? {
                let mut settings = table.clone();
                let ports = ports(settings.remove("ports"), def).map_err(&at)?;
                let weak = match settings.remove("weak") {
                    None => false,
                    Some(value) => value.as_bool().ok_or_else(|| at("weak: must be true or false".into()))?,
                };
                for port in &ports {
                    for transport in def.transports {
                        if !taken.insert((*port, *transport)) {
                            return Err(at(format!("port {port}/{} is offered twice; give one of them another", transport.name())));
                        }
                    }
                }
                let built = (def.build)(&Build { decoy: &decoy, settings }).map_err(&at)?;
                offered.push(Offered { def, ports, weak, service: built });
            }
        }
        let fallback = match (self.other_ports, services::find("generic_tcp")) {
            (OtherPorts::Answer, Some(def)) => Some((def.build)(&Build { decoy: &decoy, settings: toml::Table::new() })?),
            _ => None,
        };
        Ok(Host { decoy, offered, other_ports: self.other_ports, fallback })
    }
}

/// All persona files of a directory, by name.
///
/// # Errors
/// The first file that cannot be used, or the directory that cannot be read.
pub fn load_all(dir: &Path) -> Result<BTreeMap<String, Persona>, String> {
    let entries = std::fs::read_dir(dir).map_err(|error| {
        format!("{}: cannot read the persona directory: {error}; create it or set `personas` in decoys.toml", dir.display())
    })?;
    let mut found = BTreeMap::new();
    for entry in entries.flatten() {
        let path = entry.path();
        if path.extension().is_some_and(|ext| ext == "toml") {
            let persona = Persona::load(&path).map_err(|error| error.to_string())?;
            found.insert(persona.name.clone(), persona);
        }
    }
    Ok(found)
}

fn tables(value: &toml::Value) -> Option<Vec<&toml::Table>> {
    match value {
        toml::Value::Table(table) => Some(vec![table]),
        toml::Value::Array(items) => items.iter().map(toml::Value::as_table).collect(),
        _ => None,
    }
}

fn offers(name: &str, value: &toml::Value) -> Vec<(u16, String)> {
    let Some(def) = services::find(name) else { return Vec::new() };
    let listed = tables(value).unwrap_or_default();
    listed
        .into_iter()
        .flat_map(|table| ports(table.get("ports").cloned(), def).unwrap_or_default())
        .map(|port| (port, name.to_owned()))
        .collect()
}

fn ports(value: Option<toml::Value>, def: &ServiceDef) -> Result<Vec<u16>, String> {
    let ports: Vec<u16> = match value {
        None => def.default_ports.to_vec(),
        Some(value) => Vec::<u16>::deserialize(value).map_err(|_| "ports: must be a list of port numbers, such as [22]".to_owned())?,
    };
    if ports.is_empty() || ports.contains(&0) {
        return Err("ports: name at least one port from 1 to 65535".into());
    }
    Ok(ports)
}

fn is_label(text: &str) -> bool {
    !text.is_empty() && text.len() <= 63 && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-') && !text.starts_with('-')
}

/// A host name as small companies give them.
fn draw_hostname(seed: &Seed) -> String {
    let role =
        seed.choose("host-role", &["app", "web", "store", "build", "files", "intra", "crm", "wiki", "repo", "mon"]).unwrap_or(&"app");
    format!("{role}-{:02}", 2 + seed.below("host-number", 37))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::persona::MemoryKeys;

    fn check(text: &str, expected: &str) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("web.toml");
        std::fs::write(&path, text).unwrap();
        let result = Persona::load(&path).map_err(|error| error.to_string()).and_then(|persona| {
            persona.dress("web-1", vec!["192.0.2.1".parse().unwrap()], &Seed([1; 32]), Arc::new(MemoryKeys::default()))
        });
        match result {
            Ok(host) => assert_eq!(expected, "", "accepted: {}", host.decoy.hostname),
            Err(error) => {
                assert!(!expected.is_empty() && error.contains(expected), "{error:?} lacks {expected:?}");
                assert!(error.contains("web.toml") && !error.contains('\n'), "{error:?}");
            }
        }
    }

    #[test]
    fn plausible_is_accepted_and_the_rest_refused_with_the_reason() {
        check("os = \"debian12\"\n[service.dns]\n", "");
        check("os = \"debian12\"\n[[service.generic_tcp]]\nports = [81]\n[[service.generic_tcp]]\nports = [82]\n", "");
        check("os = \"beos\"\n[service.dns]\n", "debian12");
        check("os = \"debian12\"\n", "offers nothing");
        check("os = \"debian12\"\nhostname = \"svr04\"\n[service.dns]\n", "published honeypots");
        check("os = \"debian12\"\n[service.gopher]\n", "no such service");
        check("os = \"debian12\"\n[[account]]\nname = \"root\"\nafter = 1\n[service.dns]\n", "first guess");
        check("os = \"debian12\"\n[service.dns]\nports = [0]\n", "at least one port");
        check("os = \"debian12\"\n[service.dns]\n[service.generic_tcp]\nports = [53]\n", "offered twice");
        check("os = \"debian12\"\n[service.dns]\nzoen = \"x\"\n", "zoen");
        check("os = \"debian12\"\n[service.dns]\nweak = true\n", "");
        check("os = \"debian12\"\n[service.dns]\nweak = 1\n", "weak: must be true or false");
        check("oss = \"debian12\"\n[service.dns]\n", "oss");
    }

    #[test]
    fn draws_differ_by_seed_and_stay() {
        let names: BTreeSet<_> = (0..20u8).map(|n| draw_hostname(&Seed([n; 32]))).collect();
        assert!(names.len() > 5);
        assert_eq!(draw_hostname(&Seed([3; 32])), draw_hostname(&Seed([3; 32])));
    }
}
