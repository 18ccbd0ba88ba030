//! `sensor.toml`.

use glasshive_daemon::config::{ConfigError, Loaded, Period, Size};
use glasshive_daemon::telemetry::Format;
use serde::Deserialize;
use std::path::PathBuf;
use std::time::Duration;

/// A file with every key and its default, for people to start from.
pub const EXAMPLE: &str = r#"# Interface to capture from.
interface = "eth1"
# Where journal, identity and ring live.
state_dir = "/var/lib/glasshive/sensor"

[ring]
# The packet ring: the oldest packets go when either is reached.
quota = "10 GiB"
max_age = "7d"

[log]
# text or json
format = "text"
"#;

/// Smallest ring: eight of its smallest segments.
const MIN_QUOTA: Size = Size(32 << 20);

/// The sensor's configuration.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Interface to capture from.
    pub interface: String,
    /// State directory.
    #[serde(default = "default_state_dir")]
    pub state_dir: PathBuf,
    /// The packet ring.
    #[serde(default)]
    pub ring: Ring,
    /// The daemon's own log.
    #[serde(default)]
    pub log: Log,
}

/// `[ring]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Ring {
    /// Most bytes kept.
    pub quota: Size,
    /// Longest time kept.
    pub max_age: Period,
}

/// `[log]`.
#[derive(Debug, Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// Form of the lines.
    pub format: Format,
}

impl Default for Ring {
    fn default() -> Self {
        Self { quota: Size(10 << 30), max_age: Period(Duration::from_secs(7 * 86_400)) }
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
}

/// What types alone cannot say.
pub(crate) fn check(loaded: &Loaded<Config>) -> Result<(), ConfigError> {
    let config = &loaded.value;
    // The kernel's rule for interface names (dev_valid_name).
    let name = &config.interface;
    let valid =
        (1..=15).contains(&name.len()) && name != "." && name != ".." && !name.contains(['/', ':']) && !name.contains(char::is_whitespace);
    if !valid {
        return Err(loaded.refuse("interface", format!("{name:?} is no interface name: `ip link` lists them")));
    }
    if !config.state_dir.is_absolute() {
        return Err(loaded.refuse("state_dir", "must be an absolute path, such as \"/var/lib/glasshive/sensor\""));
    }
    if config.ring.quota < MIN_QUOTA {
        return Err(loaded.refuse("ring.quota", format!("{} is too small: write at least \"{MIN_QUOTA}\"", config.ring.quota)));
    }
    if config.ring.max_age.0.is_zero() {
        return Err(loaded.refuse("ring.max_age", "must be longer than 0, such as \"7d\""));
    }
    Ok(())
}

fn default_state_dir() -> PathBuf {
    PathBuf::from("/var/lib/glasshive/sensor")
}
