//! Flags lists have in common.

use crate::desk::now_ns;
use glasshive_event::Timestamp;
use glasshive_event::time::parse_duration_ns;
use glasshive_journal::store::{Cursor, IpPrefix};

/// RFC 3339, or an age such as `2h`.
pub(super) fn time(text: &str) -> Result<i64, String> {
    Timestamp::parse(text, Timestamp(now_ns())).map(|time| time.0)
}

/// `90s`, `30m`, `1h`, `7d` in seconds.
pub(super) fn seconds(text: &str) -> Result<u64, String> {
    parse_duration_ns(text)
        .and_then(|ns| u64::try_from(ns / 1_000_000_000).ok())
        .ok_or_else(|| format!("{text:?} is not a length of time: use 90s, 30m, 1h or 7d"))
}

/// When and where.
#[derive(clap::Args, Clone, Default)]
pub(super) struct Span {
    /// From this time on: RFC 3339, or an age such as 2h or 7d
    #[arg(long, value_name = "TIME", value_parser = time, help_heading = "Filters")]
    pub(super) since: Option<i64>,
    /// Before this time
    #[arg(long, value_name = "TIME", value_parser = time, help_heading = "Filters")]
    pub(super) until: Option<i64>,
    /// In this net
    #[arg(long, value_name = "NET", help_heading = "Filters")]
    pub(super) net: Option<String>,
}

/// Who did what to whom.
#[derive(clap::Args, Clone, Default)]
pub(super) struct Visit {
    /// At this decoy
    #[arg(long, value_name = "DECOY", help_heading = "Filters")]
    pub(super) decoy: Option<String>,
    /// At this service
    #[arg(long, value_name = "SERVICE", help_heading = "Filters")]
    pub(super) service: Option<String>,
    /// From this address or prefix, such as 192.0.2.7 or 192.0.2.0/24
    #[arg(long, value_name = "ADDRESS", help_heading = "Filters")]
    pub(super) source: Option<IpPrefix>,
    /// With this account name, exactly
    #[arg(long, value_name = "NAME", help_heading = "Filters")]
    pub(super) user: Option<String>,
    /// With this file (SHA-256) or secret (pivot)
    #[arg(long, value_name = "HASH", help_heading = "Filters")]
    pub(super) hash: Option<String>,
}

/// How much, and from where on.
#[derive(clap::Args, Clone, Default)]
pub(super) struct Paging {
    /// Rows at most
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000), help_heading = "Filters")]
    pub(super) limit: u32,
    /// Go on where a page ended; the end of a page says with what
    #[arg(long, value_name = "CURSOR", help_heading = "Filters")]
    pub(super) cursor: Option<String>,
}

impl Paging {
    pub(super) fn limit(&self) -> usize {
        self.limit as usize
    }
    pub(super) fn cursor(&self) -> Option<Cursor> {
        self.cursor.clone().map(Cursor)
    }
}

/// Showing secrets.
#[derive(clap::Args, Clone, Default)]
pub(super) struct Reveal {
    /// Show secrets; needs --reason, goes through the daemon, and is kept as an audit event
    #[arg(long, help_heading = "Secrets")]
    pub(super) reveal: bool,
    /// Why, for the audit event
    #[arg(long, value_name = "TEXT", help_heading = "Secrets")]
    pub(super) reason: Option<String>,
}

impl Reveal {
    /// The reason when secrets are asked for; an empty one is refused where it is answered.
    pub(super) fn wanted(&self) -> Option<String> {
        self.reveal.then(|| self.reason.clone().unwrap_or_default())
    }
}
