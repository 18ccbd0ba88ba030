//! Notifications: what must not wait until somebody looks, over channels the operator configured and
//! nowhere else.
//!
//! [`engine`] turns stored findings and the doctor's troubles into notes, each matter once: of a flood
//! the first is told at once and the rest as one note with a count. Every channel ([`webhook`],
//! [`syslog`]) has its own filter, its own bounded queue and its own worker that tries again; what was
//! dropped or failed is counted, shown by `doctor`, and told with the next note.
//!
//! It must never wait for a channel, and never send a visitor's bytes unescaped or a secret at all.

mod config;
mod dedupe;
mod engine;
mod http;
mod syslog;
mod tls;
mod webhook;
mod worker;

pub use config::{Notify, Syslog, SyslogTransport, Webhook};
pub use engine::{Parts, run};
pub(crate) use engine::{test, wanted};
pub use worker::{Board, ChannelStatus, Channels};

use futures_util::future::BoxFuture;
use glasshive_event::Severity;
use serde::Serialize;

/// What a note is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NoteKind {
    /// Something a detector found.
    Finding,
    /// Something wrong with the hive itself, as `doctor` says it.
    Trouble,
    /// A trouble that is over.
    Cleared,
    /// `glasshive notify test`.
    Test,
}

impl NoteKind {
    /// The word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Finding => "finding",
            Self::Trouble => "trouble",
            Self::Cleared => "cleared",
            Self::Test => "test",
        }
    }
}

/// One message, the same for every channel. The webhook's body is this as JSON, version 1: fields are
/// added, never changed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Note {
    /// Version of this form.
    pub version: u8,
    /// Id of the note; a note sent again has the same.
    pub id: String,
    /// When it was made, RFC 3339.
    pub time: String,
    /// What it is about.
    pub kind: NoteKind,
    /// How bad.
    pub severity: Severity,
    /// Net it is about; absent when it is about the hive.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub net: Option<String>,
    /// Detector, or whom the trouble is about.
    pub about: String,
    /// In one sentence.
    pub summary: String,
    /// What helps, of a trouble.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
    /// How many findings or troubles it stands for.
    pub count: u64,
    /// Ids of findings, at most [`MAX_IDS`].
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<String>,
    /// Techniques of the worst of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub techniques: Vec<String>,
    /// Who did it, of the worst of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub actor: Option<String>,
    /// Notes of this channel dropped or given up since the last that arrived.
    #[serde(skip_serializing_if = "is_zero")]
    pub dropped: u64,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Ids named in one note.
pub const MAX_IDS: usize = 16;

impl Note {
    /// A note made now.
    pub fn new(kind: NoteKind, severity: Severity, about: impl Into<String>, summary: impl Into<String>, now_ns: i64) -> Self {
        Self {
            version: 1,
            id: uuid::Uuid::now_v7().to_string(),
            time: glasshive_event::Timestamp(now_ns).rfc3339(),
            kind,
            severity,
            net: None,
            about: about.into(),
            summary: summary.into(),
            remedy: None,
            count: 1,
            findings: Vec::new(),
            techniques: Vec::new(),
            actor: None,
            dropped: 0,
        }
    }

    /// The note in one line, for channels of text.
    pub fn line(&self) -> String {
        let net = self.net.as_ref().map_or_else(String::new, |net| format!(" net {net}:"));
        let many = if self.count > 1 { format!(" ({} in all)", self.count) } else { String::new() };
        let remedy = self.remedy.as_ref().map_or_else(String::new, |remedy| format!("; {remedy}"));
        let ids = self.findings.first().map_or_else(String::new, |id| format!(" [glasshive finding {id}]"));
        let dropped = if self.dropped > 0 { format!(" ({} notes before this did not arrive)", self.dropped) } else { String::new() };
        format!("{} {}:{net} {}: {}{many}{remedy}{ids}{dropped}", self.severity, self.kind.name(), self.about, self.summary)
    }
}

/// A way to send a note.
pub trait Channel: Send + Sync + 'static {
    /// Its name in the configuration and in what `notify test` prints.
    fn name(&self) -> &'static str;
    /// Where it sends to, for people.
    fn target(&self) -> String;
    /// Sends once; what it answers on failure is one line.
    fn send<'a>(&'a self, note: &'a Note) -> BoxFuture<'a, Result<(), String>>;
}

#[cfg(test)]
mod tests;
