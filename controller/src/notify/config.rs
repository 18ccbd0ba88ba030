//! `[notify]` of `controller.toml`.

use super::{Channel, syslog, webhook};
use glasshive_daemon::config::{HostPort, Period};
use glasshive_event::Severity;
use serde::Deserialize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// What is told to whom; without a channel nothing is sent.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Notify {
    /// Findings at least this bad.
    pub min_severity: Severity,
    /// Findings of these nets; empty = all.
    pub nets: Vec<String>,
    /// Whether the doctor's troubles are told too.
    pub troubles: bool,
    /// Findings of one detector and net within this long after the first are told together.
    pub window: Period,
    /// How often the doctor looks; a trouble is told when it is seen twice.
    pub check: Period,
    /// A POST of JSON.
    pub webhook: Option<Webhook>,
    /// RFC 5424.
    pub syslog: Option<Syslog>,
}

impl Default for Notify {
    fn default() -> Self {
        Self {
            min_severity: Severity::High,
            nets: Vec::new(),
            troubles: true,
            window: Period(Duration::from_secs(600)),
            check: Period(Duration::from_secs(30)),
            webhook: None,
            syslog: None,
        }
    }
}

/// `[notify.webhook]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Webhook {
    /// `https://host[:port]/path`, or `http://` where the way there is trusted. Redirects are not followed.
    pub url: String,
    /// File with the key of the signature, at least 16 bytes; white space around it does not count.
    pub secret_file: PathBuf,
    /// Certificates the server's must come from (PEM); absent = the system's.
    #[serde(default)]
    pub ca: Option<PathBuf>,
    /// Instead of `notify.min_severity`.
    #[serde(default)]
    pub min_severity: Option<Severity>,
    /// Instead of `notify.nets`.
    #[serde(default)]
    pub nets: Option<Vec<String>>,
}

/// How syslog is spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SyslogTransport {
    /// A datagram a note (RFC 5426); nobody knows whether it arrives.
    Udp,
    /// Octet counting (RFC 6587 §3.4.1).
    #[default]
    Tcp,
    /// The same over TLS (RFC 5425).
    Tls,
}

/// `[notify.syslog]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Syslog {
    /// The collector.
    pub address: HostPort,
    /// `udp`, `tcp` or `tls`.
    #[serde(default)]
    pub transport: SyslogTransport,
    /// Certificates the collector's must come from (PEM); absent = the system's.
    #[serde(default)]
    pub ca: Option<PathBuf>,
    /// Facility number, 0 to 23; 16 is local0.
    #[serde(default = "local0")]
    pub facility: u8,
    /// Instead of `notify.min_severity`.
    #[serde(default)]
    pub min_severity: Option<Severity>,
    /// Instead of `notify.nets`.
    #[serde(default)]
    pub nets: Option<Vec<String>>,
}

fn local0() -> u8 {
    16
}

/// What a channel is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Filter {
    pub(super) min_severity: Severity,
    pub(super) nets: Vec<String>,
}

impl Filter {
    /// Whether a finding of that net and severity is told.
    pub(super) fn passes(&self, net: &str, severity: Severity) -> bool {
        severity >= self.min_severity && (self.nets.is_empty() || self.nets.iter().any(|wanted| wanted == net))
    }
}

/// A channel with its filter.
pub(super) type Filtered = (Arc<dyn Channel>, Filter);

impl Notify {
    /// Builds the channels.
    ///
    /// # Errors
    /// The key and what is wrong with it.
    pub(super) fn channels(&self) -> Result<Vec<Filtered>, (String, String)> {
        let filter = |severity: Option<Severity>, nets: &Option<Vec<String>>| Filter {
            min_severity: severity.unwrap_or(self.min_severity),
            nets: nets.clone().unwrap_or_else(|| self.nets.clone()),
        };
        let mut channels: Vec<Filtered> = Vec::new();
        if let Some(settings) = &self.webhook {
            let channel = webhook::open(settings).map_err(|(key, why)| (format!("notify.webhook.{key}"), why))?;
            channels.push((Arc::new(channel), filter(settings.min_severity, &settings.nets)));
        }
        if let Some(settings) = &self.syslog {
            let channel = syslog::open(settings).map_err(|(key, why)| (format!("notify.syslog.{key}"), why))?;
            channels.push((Arc::new(channel), filter(settings.min_severity, &settings.nets)));
        }
        Ok(channels)
    }

    /// Checks what can be checked without opening anything.
    ///
    /// # Errors
    /// The key and what is wrong with it.
    pub fn check<'a>(&self, nets: impl Iterator<Item = &'a String> + Clone) -> Result<(), (String, String)> {
        if let Some(settings) = &self.webhook {
            super::http::Url::parse(&settings.url).map_err(|why| ("notify.webhook.url".to_owned(), why))?;
        }
        if let Some(settings) = self.syslog.as_ref().filter(|settings| settings.facility > 23) {
            return Err(("notify.syslog.facility".to_owned(), format!("{} is not 0 to 23", settings.facility)));
        }
        if self.check.0 < Duration::from_secs(1) {
            return Err(("notify.check".to_owned(), "must be at least 1s".to_owned()));
        }
        let lists = [
            ("notify.nets", Some(&self.nets)),
            ("notify.webhook.nets", self.webhook.as_ref().and_then(|webhook| webhook.nets.as_ref())),
            ("notify.syslog.nets", self.syslog.as_ref().and_then(|syslog| syslog.nets.as_ref())),
        ];
        for (key, list) in lists {
            if let Some(unknown) = list.into_iter().flatten().find(|wanted| nets.clone().all(|net| net != *wanted)) {
                return Err((key.to_owned(), format!("there is no [net.{unknown}]")));
            }
        }
        Ok(())
    }
}
