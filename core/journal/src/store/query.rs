//! What can be asked of the summary and of the log. Types only.

use super::rows::{Counts, HourRow, NodeRow, SourceRow, UserRow};
use glasshive_event::{EventId, LogId, RecordView, SessionId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::str::FromStr;

/// Rows a page holds when the question does not say.
pub const DEFAULT_LIMIT: usize = 50;
/// Rows a page holds at most.
pub const MAX_LIMIT: usize = 10_000;

/// Addresses of one prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IpPrefix {
    /// Any address in it.
    pub ip: IpAddr,
    /// Leading bits that count: at most 32 for IPv4, 128 for IPv6.
    pub bits: u8,
}

impl IpPrefix {
    /// Whether the address lies in it.
    pub fn contains(&self, ip: IpAddr) -> bool {
        let (low, high) = self.bounds();
        let ip = super::keys::ip16(ip);
        low <= ip && ip <= high
    }

    /// Whether it is one single address.
    pub(crate) fn is_whole(&self) -> bool {
        self.bits >= if self.ip.to_canonical().is_ipv4() { 32 } else { 128 }
    }

    /// First and last address, as IPv6 (v4-mapped).
    pub(crate) fn bounds(&self) -> ([u8; 16], [u8; 16]) {
        let skipped = if self.ip.to_canonical().is_ipv4() { 96 } else { 0 };
        let bits = u32::from(self.bits).saturating_add(skipped).min(128);
        let mask = u128::MAX.checked_shl(128 - bits).unwrap_or(0);
        let ip = u128::from_be_bytes(super::keys::ip16(self.ip));
        ((ip & mask).to_be_bytes(), (ip | !mask).to_be_bytes())
    }
}

impl From<IpAddr> for IpPrefix {
    fn from(ip: IpAddr) -> Self {
        let ip = ip.to_canonical();
        Self { ip, bits: if ip.is_ipv4() { 32 } else { 128 } }
    }
}

impl FromStr for IpPrefix {
    type Err = String;
    /// `192.0.2.7`, `192.0.2.0/24`, `2001:db8::/32`.
    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("{text:?} is neither an address nor a prefix such as 192.0.2.0/24");
        let (ip, bits) = match text.split_once('/') {
            None => (text, None),
            Some((ip, bits)) => (ip, Some(bits.parse::<u8>().map_err(|_| bad())?)),
        };
        let whole = Self::from(ip.parse::<IpAddr>().map_err(|_| bad())?);
        let bits = bits.unwrap_or(whole.bits);
        if bits > whole.bits {
            return Err(bad());
        }
        Ok(Self { ip: whole.ip, bits })
    }
}

/// Where the next page starts; opaque, and valid for the same question only.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Cursor(pub String);

/// One page of a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page<T> {
    /// The rows, in order.
    pub rows: Vec<T>,
    /// Ask again with this for the rows after them; `None` = that was all.
    pub next: Option<Cursor>,
}

impl<T> Default for Page<T> {
    fn default() -> Self {
        Self { rows: Vec::new(), next: None }
    }
}

/// Which sessions, newest first.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct SessionQuery {
    /// Opened at or after, nanoseconds UTC (the session id's millisecond counts).
    pub since: Option<i64>,
    /// Opened before, nanoseconds UTC.
    pub until: Option<i64>,
    /// Net.
    pub net: Option<String>,
    /// Decoy.
    pub decoy: Option<String>,
    /// Service.
    pub service: Option<String>,
    /// Source address or prefix: the visitor on the wire, or what an allow-listed proxy claimed.
    pub source: Option<IpPrefix>,
    /// Account name tried, exactly.
    pub user: Option<String>,
    /// SHA-256 of a file, or a secret's pivot.
    pub hash: Option<String>,
    /// JA3, JA4, HASSH or SSH key fingerprint, exactly.
    pub fingerprint: Option<String>,
    /// Node.
    pub node: Option<String>,
    /// Only sessions opened inside this one.
    pub parent: Option<SessionId>,
    /// Sessions opened inside others are listed too.
    pub children: bool,
    /// Rows a page; 0 = [`DEFAULT_LIMIT`].
    pub limit: usize,
    /// From the page before.
    pub cursor: Option<Cursor>,
}

/// Order of credentials and files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// Most often first.
    #[default]
    Count,
    /// Last seen first.
    Last,
}

/// Which credentials. Time is by whole UTC days.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct CredentialQuery {
    /// Days from the one of this time on, nanoseconds UTC.
    pub since: Option<i64>,
    /// Days before the one of this time, and that one.
    pub until: Option<i64>,
    /// Tried in this net.
    pub net: Option<String>,
    /// Tried at this service.
    pub service: Option<String>,
    /// Tried by this source address or prefix.
    pub source: Option<IpPrefix>,
    /// Account name, exactly.
    pub user: Option<String>,
    /// Pivot of the secret.
    pub hash: Option<String>,
    /// Only those a decoy let in.
    pub accepted: bool,
    /// Order.
    pub order: Order,
    /// Rows a page; 0 = [`DEFAULT_LIMIT`].
    pub limit: usize,
    /// From the page before.
    pub cursor: Option<Cursor>,
}

/// Which files. Time is by whole UTC days.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct FileQuery {
    /// Days from the one of this time on, nanoseconds UTC.
    pub since: Option<i64>,
    /// Days before the one of this time, and that one.
    pub until: Option<i64>,
    /// Seen in this net.
    pub net: Option<String>,
    /// SHA-256, whole.
    pub hash: Option<String>,
    /// Order.
    pub order: Order,
    /// Rows a page; 0 = [`DEFAULT_LIMIT`].
    pub limit: usize,
    /// From the page before.
    pub cursor: Option<Cursor>,
}

/// Which hours and days to sum up.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct StatsQuery {
    /// Hours from the one of this time on, nanoseconds UTC; for sources and users, days.
    pub since: Option<i64>,
    /// Up to the hour of this time, exclusive when it is a full hour; for sources and users, days.
    pub until: Option<i64>,
    /// Only this net (sums by net, service and hour).
    pub net: Option<String>,
    /// Only this service (sums by net, service and hour).
    pub service: Option<String>,
    /// Sources and users listed, most active first; 0 = [`DEFAULT_LIMIT`].
    pub top: usize,
}

/// Sums over the hours asked for.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Stats {
    /// Everything.
    pub total: Counts,
    /// By net.
    pub nets: BTreeMap<String, Counts>,
    /// By service; events of none under the empty name.
    pub services: BTreeMap<String, Counts>,
    /// By hour, net and service, oldest first.
    pub hours: Vec<HourRow>,
    /// Most active sources (by sessions), whole days.
    pub sources: Vec<SourceRow>,
    /// Most tried account names, whole days.
    pub users: Vec<UserRow>,
}

/// A node, as far as its events and its logs tell.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct NodeStatus {
    /// From the summary.
    #[serde(flatten)]
    pub row: NodeRow,
    /// Its logs and the highest durable sequence number of each.
    pub logs: Vec<(LogId, u64)>,
}

/// Which events, oldest first.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct EventQuery {
    /// At or after, nanoseconds UTC.
    pub since: Option<i64>,
    /// Before, nanoseconds UTC.
    pub until: Option<i64>,
    /// Node.
    pub node: Option<String>,
    /// Net.
    pub net: Option<String>,
    /// Session.
    pub session: Option<SessionId>,
    /// Numbers of kinds; empty = all.
    pub kinds: Vec<u16>,
    /// Only records behind these positions: a reader's own checkpoint, one entry a log.
    pub after: BTreeMap<LogId, u64>,
    /// Events at most; 0 = all.
    pub limit: usize,
}

/// A stored record and where it came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredEvent {
    /// Node that wrote it.
    pub node: String,
    /// Its net.
    pub net: String,
    /// When it came, nanoseconds UTC.
    pub received_ns: i64,
    /// The log.
    pub log: LogId,
    /// Its place in the log.
    pub seq: u64,
    /// The record, as the node wrote it.
    pub record: Vec<u8>,
}

impl StoredEvent {
    /// The event's id.
    pub fn id(&self) -> EventId {
        EventId::derive(self.log, self.seq)
    }

    /// The record read in place; `None` when it is of a later build.
    pub fn view(&self) -> Option<RecordView<'_>> {
        RecordView::parse(&self.record).ok()
    }
}

/// What a name people type stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lookup<T> {
    /// Exactly one.
    Found(Box<T>),
    /// None.
    NotFound,
    /// Several: the newest few of them.
    Ambiguous(Vec<T>),
}

/// Rows a page really holds.
pub(crate) fn page_limit(limit: usize) -> usize {
    if limit == 0 { DEFAULT_LIMIT } else { limit.min(MAX_LIMIT) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes() {
        let check = |text: &str, inside: &[&str], outside: &[&str]| {
            let prefix: IpPrefix = text.parse().unwrap();
            for ip in inside {
                assert!(prefix.contains(ip.parse().unwrap()), "{text} {ip}");
            }
            for ip in outside {
                assert!(!prefix.contains(ip.parse().unwrap()), "{text} {ip}");
            }
        };
        check("192.0.2.7", &["192.0.2.7", "::ffff:192.0.2.7"], &["192.0.2.8"]);
        check("192.0.2.0/24", &["192.0.2.0", "192.0.2.255"], &["192.0.3.0", "2001:db8::1"]);
        check("0.0.0.0/0", &["1.2.3.4"], &["2001:db8::1"]);
        check("2001:db8::/32", &["2001:db8:1::1"], &["2001:db9::1", "1.2.3.4"]);
        check("::/0", &["2001:db8::1", "1.2.3.4"], &[]);
        for bad in ["", "x", "1.2.3.4/33", "::1/129", "1.2.3.4/", "1.2.3/8"] {
            assert!(bad.parse::<IpPrefix>().is_err(), "{bad}");
        }
    }
}
