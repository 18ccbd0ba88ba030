//! `decoys.toml`: which decoys this node pretends, where its journal lives, how it reaches its controller.

use crate::wall::Hook;
use glasshive_daemon::config::{ConfigError, Loaded, Period, Prefix, Size, Source};
use glasshive_link::host::{Host, IsolationSettings, LinkSettings};
use serde::Deserialize;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where the file is when `--config` does not say.
pub const DEFAULT_PATH: &str = "/etc/glasshive/decoys.toml";

/// How visitors come in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EntryMode {
    /// TPROXY when root, plain listeners otherwise.
    #[default]
    Auto,
    /// One transparent listener a family; nftables decides what is open.
    Tproxy,
    /// Plain listeners on loopback, port + `port_offset`.
    Plain,
}

/// The whole file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Journal, identity, keys and captured files live here.
    #[serde(default = "default_state")]
    pub state_dir: PathBuf,
    /// Name of this node until an enrolment gives it one.
    #[serde(default = "default_node")]
    pub node: String,
    /// Net this node belongs to; part of the key that joins sessions with captured packets.
    pub net: String,
    /// Where the net stands, `inside` among a company's hosts or `edge` facing the world: what detectors call a scan depends on it.
    #[serde(default)]
    pub vantage: glasshive_detect::Vantage,
    /// Directory of persona files.
    #[serde(default = "default_personas")]
    pub personas: PathBuf,
    /// How visitors come in.
    #[serde(default)]
    pub entry: EntryMode,
    /// Added to every port in plain mode.
    #[serde(default = "default_offset")]
    pub port_offset: u16,
    /// Port of the transparent listeners on loopback.
    #[serde(default = "default_tproxy_port")]
    pub tproxy_port: u16,
    /// The pretended hosts.
    #[serde(default)]
    pub decoy: Vec<DecoyConfig>,
    /// PROXY protocol.
    #[serde(default)]
    pub proxy_protocol: ProxyProtocol,
    /// The journal.
    #[serde(default)]
    pub journal: JournalConfig,
    /// Captured files.
    #[serde(default)]
    pub files: FilesConfig,
    /// The link to the controller.
    #[serde(default)]
    pub link: LinkSettings,
    /// The daemon's isolation.
    #[serde(default)]
    pub isolation: IsolationSettings,
    /// The wall around the segment; absent = none is looked for.
    #[serde(default)]
    pub wall: Option<WallConfig>,
    /// FTP's passive ports: first and last, inclusive.
    #[serde(default = "default_passive")]
    pub passive_ports: (u16, u16),
}

/// One pretended host.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DecoyConfig {
    /// Unique name.
    pub name: String,
    /// Persona it wears.
    pub persona: String,
    /// Addresses it answers on.
    #[serde(default)]
    pub addresses: Vec<IpAddr>,
}

/// Peers whose PROXY-protocol header is believed.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProxyProtocol {
    /// Addresses of those peers; from all others the header is the visitor's first bytes.
    #[serde(default)]
    pub from: Vec<Prefix>,
}

/// The wall around the segment: what `glasshive-decoys wall` reads and the daemon believes.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WallConfig {
    /// Visitors are answered only while the wall stands and its reader says so.
    pub required: bool,
    /// Socket the daemon takes the reader's lines on.
    pub socket: PathBuf,
    /// Users besides root and the daemon's own that may be the reader, by name or `UID:GID`.
    pub readers: Vec<String>,
    /// NFLOG group the wall logs to.
    pub group: u16,
    /// Family and name of the wall's table.
    pub table: String,
    /// Where the table must have a base chain that drops by default.
    pub hooks: Vec<Hook>,
    /// File with the SHA-256 of its chains and rules, as `glasshive-decoys wall --hash` prints it; a wall with another
    /// one does not stand. The reader reads it at its start. Absent = any rules will do.
    pub hash_file: Option<PathBuf>,
    /// Dropped packets handed over in a second; more are counted.
    pub packets_per_second: u32,
}

impl Default for WallConfig {
    fn default() -> Self {
        Self {
            required: false,
            socket: "/run/glasshive-decoys/wall.sock".into(),
            readers: Vec::new(),
            group: 7,
            table: "inet glasshive_wall".into(),
            hooks: vec![Hook::Input, Hook::Forward, Hook::Output],
            hash_file: None,
            packets_per_second: 200,
        }
    }
}

/// What to do when the journal may not grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnFull {
    /// Accept loops pause until there is room.
    #[default]
    Pause,
    /// The oldest records go, with a gap record.
    DropOldest,
}

/// The journal.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct JournalConfig {
    /// Most disk space.
    pub quota: Size,
    /// Oldest record kept once acknowledged (or, standalone, at all).
    pub max_age: Period,
    /// What to do when full.
    pub on_full: OnFull,
}

impl Default for JournalConfig {
    fn default() -> Self {
        Self { quota: Size(4 << 30), max_age: Period(Duration::from_secs(30 * 86_400)), on_full: OnFull::Pause }
    }
}

/// Captured files.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FilesConfig {
    /// Most disk space; the oldest go first, counted.
    pub quota: Size,
}

impl Default for FilesConfig {
    fn default() -> Self {
        Self { quota: Size(1 << 30) }
    }
}

fn default_state() -> PathBuf {
    "/var/lib/glasshive/decoys".into()
}
fn default_node() -> String {
    "decoys".into()
}
fn default_personas() -> PathBuf {
    "/etc/glasshive/personas".into()
}
fn default_offset() -> u16 {
    20_000
}
fn default_tproxy_port() -> u16 {
    7_400
}
/// Below the ports the kernel gives to connections going out, so that none of them is in the way.
fn default_passive() -> (u16, u16) {
    (30_000, 30_063)
}

impl Config {
    /// What the link's processes need of it.
    pub fn host(&self, path: &Path) -> Host {
        Host {
            config_path: path.to_owned(),
            state_dir: self.state_dir.clone(),
            link: self.link.clone(),
            isolation: self.isolation.clone(),
            product: glasshive_journal::build::version().into(),
        }
    }
}

/// Reads and checks the file, `GLASSHIVE_*` and the flags.
///
/// # Errors
/// One line naming file, key and remedy.
pub fn load(path: &Path, state_dir: Option<&Path>) -> Result<Config, ConfigError> {
    let state = state_dir.map(|dir| dir.to_string_lossy().into_owned());
    let loaded: Loaded<Config> = Source::file(path).environment().flag("state_dir", state).load()?;
    let config = &loaded.value;
    if config.net.is_empty() {
        return Err(loaded.refuse("net", "must name the net this node belongs to, as in the controller's [net.NAME]"));
    }
    if config.decoy.is_empty() {
        return Err(loaded.refuse("decoy", "no decoy is configured; add [[decoy]] with name, persona and addresses"));
    }
    let mut names = BTreeSet::new();
    let mut addresses = BTreeSet::new();
    for decoy in &config.decoy {
        if decoy.name.is_empty() || !names.insert(&decoy.name) {
            return Err(loaded.refuse("decoy", format!("name {:?} is empty or used twice; give every decoy its own", decoy.name)));
        }
        for address in &decoy.addresses {
            if !addresses.insert(address) {
                return Err(loaded.refuse("decoy", format!("{}: address {address} belongs to two decoys; remove one", decoy.name)));
            }
        }
    }
    if let Some(wall) = &config.wall
        && !wall.table.split_once(' ').is_some_and(|(family, name)| ["inet", "ip", "ip6"].contains(&family) && !name.is_empty())
    {
        return Err(loaded.refuse("wall.table", "must be family and name, such as \"inet glasshive_wall\""));
    }
    let (first, last) = config.passive_ports;
    if first == 0 || last < first || last - first >= 1024 {
        return Err(loaded.refuse("passive_ports", "must be [first, last] with at most 1024 ports, such as [30000, 30063]"));
    }
    Ok(loaded.value)
}
