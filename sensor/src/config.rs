//! `sensor.toml`: what is captured, what is kept of it, how the node reaches its controller.

use crate::capture::Settings as CaptureSettings;
use glasshive_daemon::config::{ConfigError, Loaded, Period, Size, Source};
use glasshive_daemon::telemetry::Format;
use glasshive_link::host::{Host, IsolationSettings, LinkSettings};
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where the file is when `--config` does not say.
pub const DEFAULT_PATH: &str = "/etc/glasshive/sensor.toml";

/// A file with every key and its default, for people to start from.
pub const EXAMPLE: &str = r#"# Interface to capture from.
interface = "eth1"
# Where journal, identity and ring live.
state_dir = "/var/lib/glasshive/sensor"
# Name of this node until an enrolment gives it one.
node = "sensor"
# Net this node belongs to; an enrolment gives it. Part of the key that joins packets with sessions.
# net = "dmz"
# What is open on the segment, made from the personas.
# segment = "/etc/glasshive/segment.toml"

[capture]
# Kernel ring: too small loses packets, and so does far too large.
ring = "128 MiB"
# Packets on their way to disk, at most.
pool = "128 MiB"
# Bytes kept of a packet.
snap_length = 262144
# pcap filter. When the link to the controller goes over the same interface, leave it out here.
# filter = "not (host 10.0.0.9 and port 7443)"
promiscuous = true

[ring]
# The packet ring: the oldest packets go when either is reached.
quota = "10 GiB"
max_age = "7d"
# A segment ends at this size (at most an eighth of the quota) or, with packets in it, at this age.
segment = "256 MiB"
segment_age = "10m"

[journal]
quota = "4 GiB"
max_age = "30d"
# pause or drop_oldest
on_full = "pause"

# One table for each detector: `glasshive coverage` lists them.
[detect]

[link]
# controller = "10.0.0.9:7443"

[isolation]
# user = "glasshive-sensor"
lockdown = true

[log]
# text or json
format = "text"
"#;

/// Smallest ring: eight of its smallest segments.
const MIN_QUOTA: Size = Size(32 << 20);

/// The sensor's configuration.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Interface to capture from.
    pub interface: String,
    /// State directory.
    #[serde(default = "default_state_dir")]
    pub state_dir: PathBuf,
    /// Name of this node until an enrolment gives it one.
    #[serde(default = "default_node")]
    pub node: String,
    /// Net this node belongs to until an enrolment gives it one; without, sessions are not joined with packets.
    #[serde(default)]
    pub net: Option<String>,
    /// File with the segment list.
    #[serde(default)]
    pub segment: Option<PathBuf>,
    /// The capture.
    #[serde(default)]
    pub capture: Capture,
    /// The packet ring.
    #[serde(default)]
    pub ring: Ring,
    /// The journal.
    #[serde(default)]
    pub journal: Journal,
    /// A table of settings for each detector.
    #[serde(default)]
    pub detect: toml::Table,
    /// The link to the controller.
    #[serde(default)]
    pub link: LinkSettings,
    /// The daemon's isolation.
    #[serde(default)]
    pub isolation: IsolationSettings,
    /// The daemon's own log.
    #[serde(default)]
    pub log: Log,
}

/// `[capture]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Capture {
    /// Kernel ring.
    pub ring: Size,
    /// Chunks on their way, together.
    pub pool: Size,
    /// Bytes kept of a packet.
    pub snap_length: u32,
    /// pcap filter.
    pub filter: Option<String>,
    /// See traffic that is not for this host.
    pub promiscuous: bool,
}

/// `[ring]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Ring {
    /// Most bytes kept.
    pub quota: Size,
    /// Longest time kept.
    pub max_age: Period,
    /// Most bytes of a segment.
    pub segment: Size,
    /// Longest time a segment with packets stays open.
    pub segment_age: Period,
}

/// `[journal]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Journal {
    /// Most disk space.
    pub quota: Size,
    /// Oldest record kept once acknowledged (or, standalone, at all).
    pub max_age: Period,
    /// What to do when full.
    pub on_full: OnFull,
}

/// What to do when the journal may not grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnFull {
    /// Analysis waits, and skips packets; they stay in the ring.
    #[default]
    Pause,
    /// The oldest records go, with a gap record.
    DropOldest,
}

/// `[log]`.
#[derive(Clone, Debug, Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// Form of the lines.
    pub format: Format,
}

impl Default for Capture {
    fn default() -> Self {
        let CaptureSettings { ring_bytes, snap_length, pool_bytes, promiscuous, .. } = CaptureSettings::new("");
        Self { ring: Size(ring_bytes.into()), pool: Size(pool_bytes as u64), snap_length, filter: None, promiscuous }
    }
}

impl Default for Ring {
    fn default() -> Self {
        let period = |seconds| Period(Duration::from_secs(seconds));
        Self { quota: Size(10 << 30), max_age: period(7 * 86_400), segment: Size(256 << 20), segment_age: period(600) }
    }
}

impl Default for Journal {
    fn default() -> Self {
        Self { quota: Size(4 << 30), max_age: Period(Duration::from_secs(30 * 86_400)), on_full: OnFull::Pause }
    }
}

impl Config {
    /// What it means, in one line.
    pub fn summary(&self) -> String {
        format!(
            "interface {}, ring at most {} and {}, state in {}",
            self.interface,
            self.ring.quota,
            self.ring.max_age,
            self.state_dir.display()
        )
    }

    /// What the link's processes need of it.
    pub fn host(&self, config_path: &Path) -> Host {
        Host {
            config_path: config_path.to_owned(),
            state_dir: self.state_dir.clone(),
            link: self.link.clone(),
            isolation: self.isolation.clone(),
            product: glasshive_journal::build::version().to_owned(),
        }
    }

    /// Directory of the packet ring.
    pub fn ring_dir(&self) -> PathBuf {
        self.state_dir.join("ring")
    }

    /// What the capture needs.
    pub fn capture_settings(&self) -> CaptureSettings {
        CaptureSettings {
            interface: self.interface.clone(),
            ring_bytes: u32::try_from(self.capture.ring.0).unwrap_or(u32::MAX),
            snap_length: self.capture.snap_length,
            filter: self.capture.filter.clone(),
            pool_bytes: usize::try_from(self.capture.pool.0).unwrap_or(usize::MAX),
            promiscuous: self.capture.promiscuous,
        }
    }
}

/// Reads and checks the file, `GLASSHIVE_*` and the flags.
///
/// # Errors
/// One line naming file, key and remedy.
pub fn load(path: &Path, state_dir: Option<&Path>) -> Result<Loaded<Config>, ConfigError> {
    let state = state_dir.map(|dir| dir.to_string_lossy().into_owned());
    let loaded = Source::file(path).environment().flag("state_dir", state).load::<Config>()?;
    check(&loaded)?;
    Ok(loaded)
}

/// What types alone cannot say.
fn check(loaded: &Loaded<Config>) -> Result<(), ConfigError> {
    let config = &loaded.value;
    // The kernel's rule for interface names (dev_valid_name).
    let name = &config.interface;
    let valid =
        (1..=15).contains(&name.len()) && name != "." && name != ".." && !name.contains(['/', ':']) && !name.contains(char::is_whitespace);
    let refuse = |key: &str, why: String| Err(loaded.refuse(key, why));
    if !valid {
        return refuse("interface", format!("{name:?} is no interface name: `ip link` lists them"));
    }
    if !config.state_dir.is_absolute() {
        return refuse("state_dir", "must be an absolute path, such as \"/var/lib/glasshive/sensor\"".into());
    }
    if config.net.as_ref().is_some_and(String::is_empty) {
        return refuse("net", "must name the net this node belongs to, as in the controller's [net.NAME], or be left out".into());
    }
    let Capture { ring, pool, snap_length, .. } = &config.capture;
    if !(16 << 20..=1 << 30).contains(&ring.0) {
        return refuse("capture.ring", format!("{ring}: must be between \"16 MiB\" and \"1 GiB\""));
    }
    if !(16 << 20..=4 << 30).contains(&pool.0) {
        return refuse("capture.pool", format!("{pool}: must be between \"16 MiB\" and \"4 GiB\""));
    }
    if !(64..=crate::capture::Settings::new("").snap_length).contains(snap_length) {
        return refuse("capture.snap_length", format!("{snap_length}: must be between 64 and 262144; 262144 keeps every frame whole"));
    }
    if config.ring.quota < MIN_QUOTA {
        return refuse("ring.quota", format!("{} is too small: write at least \"{MIN_QUOTA}\"", config.ring.quota));
    }
    if !(4 << 20..=1 << 30).contains(&config.ring.segment.0) {
        return refuse("ring.segment", format!("{}: must be between \"4 MiB\" and \"1 GiB\"", config.ring.segment));
    }
    for (key, period) in [("ring.max_age", config.ring.max_age), ("ring.segment_age", config.ring.segment_age)] {
        if period.0.is_zero() {
            return refuse(key, "must be longer than 0, such as \"7d\"".into());
        }
    }
    Ok(())
}

fn default_state_dir() -> PathBuf {
    PathBuf::from("/var/lib/glasshive/sensor")
}
fn default_node() -> String {
    "sensor".into()
}
