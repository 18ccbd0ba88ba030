//! `controller.toml`: where state lives, where nodes and operators reach the controller, and which
//! nets there are. A net that does not say whose it is, why, on what basis and for how long its
//! records are kept is refused.

use glasshive_daemon::config::{ConfigError, HostPort, Listen, Loaded, Period, Size, Source};
use glasshive_link::name::check_name;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Where the file is unless `--config` or `GLASSHIVE_CONFIG` says otherwise.
pub const DEFAULT_PATH: &str = "/etc/glasshive/controller.toml";
/// State directory unless the file says otherwise.
pub const DEFAULT_STATE: &str = "/var/lib/glasshive/controller";
/// Admin socket unless the file says otherwise.
pub const DEFAULT_SOCKET: &str = "/run/glasshive/controller.sock";

/// The controller's configuration.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Log, summary, identity and fetched files.
    #[serde(default = "default_state")]
    pub state_dir: PathBuf,
    /// Where nodes that dial are awaited: a management address.
    #[serde(default = "default_listen")]
    pub listen: Listen,
    /// Addresses nodes are told to dial, `host:port`; empty = `listen`, unless that is a wildcard.
    #[serde(default)]
    pub advertise: Vec<HostPort>,
    /// Admin socket, mode 0600.
    #[serde(default = "default_socket")]
    pub socket: PathBuf,
    /// Limits of the store.
    #[serde(default)]
    pub store: StoreSection,
    /// Nets by name.
    #[serde(default)]
    pub net: BTreeMap<String, Net>,
    /// Nodes the controller dials.
    #[serde(default)]
    pub dial: Vec<Dial>,
    /// Who is told of findings and troubles, and how.
    #[serde(default)]
    pub notify: crate::notify::Notify,
    /// Settings of detectors that run here, by their names.
    #[serde(default)]
    pub detect: BTreeMap<String, toml::Table>,
}

/// Limits of the store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StoreSection {
    /// Bytes log and summary may take together; absent = as much as there is above `free_floor`.
    pub quota: Option<Size>,
    /// Free space at which nodes are told to wait; absent = min(256 MiB, 5 %).
    pub free_floor: Option<Size>,
    /// A log segment is closed at this size; absent = 32 MiB.
    pub segment: Option<Size>,
    /// Memory for the databases' caches; absent = 64 MiB.
    pub cache: Option<Size>,
}

/// Where a net's visitors come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Vantage {
    /// From within the organisation.
    Inside,
    /// From outside.
    Edge,
}

/// One decoy network. All of owner, purpose, legal_basis and retention must be said.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Net {
    /// Where its visitors come from.
    pub vantage: Vantage,
    /// Who answers for it.
    pub owner: String,
    /// What it is for.
    pub purpose: String,
    /// On what legal basis it records.
    pub legal_basis: String,
    /// How long its records are kept.
    pub retention: Period,
    /// When it is to be paused.
    #[serde(default)]
    pub pause_criteria: Option<String>,
    /// Segment list of the net, as the decoys print it: without one, detectors here do not know which
    /// ports of decoys should answer.
    #[serde(default)]
    pub segment: Option<PathBuf>,
}

/// A node the controller dials.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dial {
    /// Its name.
    pub node: String,
    /// Where it listens.
    pub address: HostPort,
}

fn default_state() -> PathBuf {
    DEFAULT_STATE.into()
}
fn default_socket() -> PathBuf {
    DEFAULT_SOCKET.into()
}
fn default_listen() -> Listen {
    Listen(std::net::SocketAddr::from(([0, 0, 0, 0], 7443)))
}

/// What the flags of every command say about the configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// `--config`; `None` = [`DEFAULT_PATH`], which may be missing.
    pub config: Option<PathBuf>,
    /// `--state-dir`.
    pub state_dir: Option<PathBuf>,
    /// `--socket`.
    pub socket: Option<PathBuf>,
}

impl Config {
    /// Reads file, `GLASSHIVE_*` variables and flags, and checks them.
    ///
    /// # Errors
    /// One line with file, key and remedy.
    pub fn load(overrides: &Overrides) -> Result<Self, ConfigError> {
        let text = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
        let source = match &overrides.config {
            Some(path) => Source::file(path),
            None => Source::optional(DEFAULT_PATH),
        };
        let loaded =
            source.environment().flag("state_dir", text(&overrides.state_dir)).flag("socket", text(&overrides.socket)).load::<Self>()?;
        check(&loaded)?;
        Ok(loaded.value)
    }

    /// Longest retention of any net: what the log is kept for.
    pub fn retention(&self) -> Option<std::time::Duration> {
        self.net.values().map(|net| net.retention.0).max()
    }

    /// The directory of the controller's identity.
    pub fn identity_dir(&self) -> PathBuf {
        self.state_dir.join("identity")
    }

    /// Addresses a node may be told to dial.
    pub fn controllers(&self) -> Vec<String> {
        if !self.advertise.is_empty() {
            return self.advertise.iter().map(ToString::to_string).collect();
        }
        let own = self.listen.0;
        if own.ip().is_unspecified() { Vec::new() } else { vec![own.to_string()] }
    }

    /// Settings of the store.
    pub fn store(&self) -> glasshive_journal::store::StoreConfig {
        let mut store = glasshive_journal::store::StoreConfig::new(&self.state_dir);
        store.quota_bytes = self.store.quota.map(|size| size.0);
        store.free_floor = self.store.free_floor.map(|size| size.0);
        if let Some(size) = self.store.segment {
            store.segment_bytes = size.0;
        }
        if let Some(size) = self.store.cache {
            store.cache_bytes = size.0;
        }
        store.max_age = self.retention();
        store
    }
}

fn check(loaded: &Loaded<Config>) -> Result<(), ConfigError> {
    for (name, net) in &loaded.value.net {
        let key = format!("net.{name}");
        check_name(name).map_err(|error| loaded.refuse(&key, error.to_string()))?;
        let said = [("owner", &net.owner), ("purpose", &net.purpose), ("legal_basis", &net.legal_basis)];
        for (part, text) in said {
            if text.trim().is_empty() {
                let remedy = match part {
                    "owner" => "say who answers for this net, such as owner = \"security@example.org\"",
                    "purpose" => "say what this net is for, such as purpose = \"detect lateral movement\"",
                    _ => "say on what legal basis this net records, such as legal_basis = \"legitimate interest, DPIA 12\"",
                };
                return Err(loaded.refuse(&format!("{key}.{part}"), remedy));
            }
        }
        if net.retention.0.is_zero() {
            return Err(loaded.refuse(&format!("{key}.retention"), "say how long records are kept, such as retention = \"90d\""));
        }
    }
    if let Err((name, why)) = crate::fusion::check(&loaded.value.detect) {
        return Err(loaded.refuse(&format!("detect.{name}"), why));
    }
    if let Err((key, why)) = loaded.value.notify.check(loaded.value.net.keys()) {
        return Err(loaded.refuse(&key, why));
    }
    let mut dialled = std::collections::BTreeSet::new();
    for dial in &loaded.value.dial {
        check_name(&dial.node).map_err(|error| loaded.refuse("dial", format!("node: {error}")))?;
        if !dialled.insert(&dial.node) {
            return Err(loaded.refuse("dial", format!("node {} is dialled twice: keep one [[dial]] for it", dial.node)));
        }
    }
    Ok(())
}

/// What `glasshive check` prints: the nets and their terms.
pub fn describe(config: &Config, path: &Path) -> Vec<String> {
    let mut lines = vec![
        format!("{} is good", path.display()),
        format!("  state      {}", config.state_dir.display()),
        format!("  listen     {}", config.listen),
        format!("  socket     {}", config.socket.display()),
    ];
    for (name, net) in &config.net {
        let vantage = if net.vantage == Vantage::Inside { "inside" } else { "edge" };
        lines.push(format!("  net        {name} ({vantage}), kept {}, owner {}", net.retention, net.owner));
        lines.push(format!("             purpose {}; legal basis {}", net.purpose, net.legal_basis));
    }
    for dial in &config.dial {
        lines.push(format!("  dial       {} at {}", dial.node, dial.address));
    }
    if config.net.is_empty() {
        lines
            .push("  no net yet: add [net.NAME] with vantage, owner, purpose, legal_basis and retention before enrolling nodes".to_owned());
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<Config, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("controller.toml");
        std::fs::write(&path, text).unwrap();
        let shown = dir.path().display().to_string();
        Config::load(&Overrides { config: Some(path), ..Overrides::default() }).map_err(|error| error.to_string().replace(&shown, "/d"))
    }

    const NET: &str = "[net.dmz]\nvantage = \"edge\"\nowner = \"sec@example.org\"\npurpose = \"early warning\"\nlegal_basis = \"legitimate interest\"\nretention = \"90d\"\n";

    #[test]
    fn a_whole_file() {
        let text = format!("listen = \"10.0.0.1:7443\"\n{NET}[[dial]]\nnode = \"edge-1\"\naddress = \"10.0.0.7:7444\"\n");
        let config = load(&text).unwrap();
        assert_eq!(config.controllers(), ["10.0.0.1:7443"]);
        assert_eq!(config.retention().unwrap().as_secs(), 90 * 86_400);
        assert_eq!(config.socket, Path::new(DEFAULT_SOCKET));
        assert_eq!(describe(&config, Path::new("/d/x.toml")).len(), 7);
        assert!(load("").unwrap().controllers().is_empty());
    }

    #[test]
    fn a_net_without_its_terms_is_refused() {
        for key in ["owner", "purpose", "legal_basis", "retention", "vantage"] {
            let without: String = NET.lines().filter(|line| !line.starts_with(key)).map(|line| format!("{line}\n")).collect();
            let error = load(&without).unwrap_err();
            assert!(error.contains("/d/controller.toml") && error.contains(key) && !error.contains('\n'), "{error}");
        }
        for (key, empty) in [("owner", "owner = \" \""), ("legal_basis", "legal_basis = \"\""), ("retention", "retention = \"0s\"")] {
            let text: String = NET.lines().map(|line| format!("{}\n", if line.starts_with(key) { empty } else { line })).collect();
            let error = load(&text).unwrap_err();
            assert!(error.contains(&format!("net.dmz.{key}")) && error.contains("say "), "{error}");
        }
        assert!(load("lisen = \"10.0.0.1:1\"\n").unwrap_err().contains("did you mean `listen`?"));
        assert!(load("[detect.nonsense]\nx = 1\n").unwrap_err().contains("no detector of that name runs at the controller"));
        let twice = format!("{NET}[[dial]]\nnode = \"a\"\naddress = \"h:1\"\n[[dial]]\nnode = \"a\"\naddress = \"h:2\"\n");
        assert!(load(&twice).unwrap_err().contains("dialled twice"));
    }
}
