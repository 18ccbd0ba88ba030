//! Rows of the summary: what every list is made from, without opening the log.
//!
//! A row is bounded however long a session lasts or however many visitors come. Rows that several
//! nodes add to (credentials, files, hours, sources, users) only ever change by sums, minima,
//! maxima and unions that keep the smallest or largest few, so that the order in which nodes'
//! batches arrive does not change them: rebuilding gives equal rows.
//!
//! Stored form: one version byte, then postcard. A field is never added to a published struct:
//! a new shape is a new version byte, and readers keep every old one.

use super::distinct::Distinct;
use glasshive_event::{Endpoint, LogId, SessionId, Transport, WireText};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Account names a session row keeps (the last ones).
pub const MAX_USERS: usize = 8;
/// Fingerprints a session row keeps (the first ones).
pub const MAX_FINGERPRINTS: usize = 8;
/// Single blocks a session row points at before they are merged into ranges.
pub const MAX_SPANS: usize = 256;
/// Sources a credential row keeps.
pub const MAX_SOURCES: usize = 32;
/// Names, sessions, nets and services an aggregate row keeps.
pub const MAX_NAMES: usize = 16;
/// Bytes of any text a row keeps.
pub const MAX_TEXT: usize = 256;

/// Version byte of stored rows.
pub(crate) const ROW_VERSION: u8 = 1;

/// Something kept under one key of a day.
pub(crate) trait Row: Serialize + DeserializeOwned + Default + Clone {}

/// The stored form of a row.
pub(crate) fn encode<R: Row>(row: &R) -> Vec<u8> {
    // Rows hold nothing postcard refuses, so the empty value (read back as damaged) is never made.
    postcard::to_extend(row, vec![ROW_VERSION]).unwrap_or_default()
}

/// Reads a stored row; `None` when it is damaged or of a later build.
pub(crate) fn decode<R: Row>(bytes: &[u8]) -> Option<R> {
    let (version, rest) = bytes.split_first()?;
    if *version != ROW_VERSION {
        return None;
    }
    postcard::from_bytes(rest).ok()
}

/// Blocks of one log in one segment that hold a session's events: keys `from..=to`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Span {
    /// Number of the log segment.
    pub segment: u64,
    /// The log.
    pub log: LogId,
    /// First sequence number of the first block.
    pub from: u64,
    /// First sequence number of the last block.
    pub to: u64,
}

/// One session: one visitor's exchange with one service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionRow {
    /// Its id.
    pub session: SessionId,
    /// The session it was opened inside of.
    pub parent: Option<SessionId>,
    /// Net of the node.
    pub net: String,
    /// Node that recorded it.
    pub node: String,
    /// Log it was recorded in.
    pub log: LogId,
    /// Name of the decoy.
    pub decoy: String,
    /// Name of the service.
    pub service: String,
    /// Transport.
    pub transport: Option<Transport>,
    /// The visitor, on the wire.
    pub source: Option<Endpoint>,
    /// The decoy's address and port.
    pub destination: Option<Endpoint>,
    /// Source an allow-listed proxy claimed.
    pub claimed: Option<Endpoint>,
    /// Name of the persona.
    pub persona: String,
    /// Wall time of the open event, nanoseconds UTC; of the first event seen when there is none.
    pub open_ns: i64,
    /// Wall time of the close event.
    pub close_ns: Option<i64>,
    /// Wall time of the newest event.
    pub last_ns: i64,
    /// Duration on the node's monotonic clock, when closed.
    pub duration_ns: Option<u64>,
    /// Why it ended.
    pub reason: Option<String>,
    /// Application bytes from the visitor.
    pub bytes_in: u64,
    /// Application bytes to the visitor.
    pub bytes_out: u64,
    /// Datagrams or reads from the visitor.
    pub packets_in: u64,
    /// Datagrams or writes to the visitor.
    pub packets_out: u64,
    /// Attempts to authenticate.
    pub logins: u64,
    /// Those the decoy let in.
    pub accepted: u64,
    /// Account names, the last [`MAX_USERS`] different ones, oldest first.
    #[serde(with = "texts")]
    pub users: Vec<WireText>,
    /// Commands.
    pub commands: u64,
    /// Requests.
    pub requests: u64,
    /// Files sent or received.
    pub files: u64,
    /// Forwards asked for.
    pub forwards: u64,
    /// Malformed inputs.
    pub malformed: u64,
    /// Stream events.
    pub streams: u64,
    /// Findings that name the session.
    pub findings: u64,
    /// Stream and file bytes not recorded because of a cap.
    pub cut_bytes: u64,
    /// Fingerprints as (kind, value): ja3, ja4, hassh, ssh_key.
    pub fingerprints: Vec<(String, String)>,
    /// First sequence number in `log`.
    pub first_seq: u64,
    /// Last sequence number in `log`.
    pub last_seq: u64,
    /// All its events.
    pub events: u64,
    /// Where its events are.
    pub spans: Vec<Span>,
}

impl Default for SessionRow {
    fn default() -> Self {
        Self {
            session: SessionId([0; 16]),
            parent: None,
            net: String::new(),
            node: String::new(),
            log: LogId([0; 16]),
            decoy: String::new(),
            service: String::new(),
            transport: None,
            source: None,
            destination: None,
            claimed: None,
            persona: String::new(),
            open_ns: 0,
            close_ns: None,
            last_ns: 0,
            duration_ns: None,
            reason: None,
            bytes_in: 0,
            bytes_out: 0,
            packets_in: 0,
            packets_out: 0,
            logins: 0,
            accepted: 0,
            users: Vec::new(),
            commands: 0,
            requests: 0,
            files: 0,
            forwards: 0,
            malformed: 0,
            streams: 0,
            findings: 0,
            cut_bytes: 0,
            fingerprints: Vec::new(),
            first_seq: 0,
            last_seq: 0,
            events: 0,
            spans: Vec::new(),
        }
    }
}

/// A sealed secret and the login event it came from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Sample {
    /// Wall time of the login.
    pub wall_ns: i64,
    /// Its log.
    pub log: LogId,
    /// Its sequence number.
    pub seq: u64,
    /// The secret, sealed to the controller's key.
    pub sealed: String,
}

/// One account name with one secret, over all visitors of a day (or of the days asked for).
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CredentialRow {
    /// Account name as sent.
    #[serde(with = "text")]
    pub user: WireText,
    /// Keyed HMAC of the secret: equal secrets, equal pivot.
    pub secret_pivot: Option<String>,
    /// plain, ssh-key, none, ….
    pub secret_kind: String,
    /// Attempts.
    pub count: u64,
    /// Attempts the decoy let in.
    pub accepted: u64,
    /// First attempt, nanoseconds UTC.
    pub first_ns: i64,
    /// Last attempt.
    pub last_ns: i64,
    /// Up to [`MAX_SOURCES`] source addresses (the numerically smallest).
    pub sources: Vec<IpAddr>,
    /// How many different sources: exact up to [`MAX_SOURCES`], estimated (± 7 %) above.
    pub source_count: Distinct,
    /// Nets it was tried in.
    pub nets: Vec<String>,
    /// Services it was tried at.
    pub services: Vec<String>,
    /// The earliest sealed secret, for a reveal.
    pub sample: Option<Sample>,
}

/// One file content, by SHA-256.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct FileRow {
    /// SHA-256 of the content, lower-case hexadecimal.
    pub sha256: String,
    /// Bytes.
    pub size: u64,
    /// What the first bytes look like.
    pub magic: String,
    /// Names it was given, up to [`MAX_NAMES`].
    #[serde(with = "texts")]
    pub names: Vec<WireText>,
    /// `upload`, `download`.
    pub directions: Vec<String>,
    /// Times seen.
    pub count: u64,
    /// First time, nanoseconds UTC.
    pub first_ns: i64,
    /// Last time.
    pub last_ns: i64,
    /// Sessions it was seen in, the newest [`MAX_NAMES`].
    pub sessions: Vec<SessionId>,
    /// Nets it was seen in.
    pub nets: Vec<String>,
    /// Nodes that hold the sealed content as a blob, with the blob's name.
    pub blobs: Vec<(String, String)>,
    /// An event (wall time, log, seq) that holds the sealed content itself.
    pub inline: Option<(i64, LogId, u64)>,
    /// Bytes not kept because of a cap, at most in one event.
    pub cut_bytes: u64,
}

/// What happened within one hour, net and service, or to one source or user.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counts {
    /// Events of any kind.
    pub events: u64,
    /// Sessions opened.
    pub sessions: u64,
    /// Attempts to authenticate.
    pub logins: u64,
    /// Those let in.
    pub accepted: u64,
    /// Commands.
    pub commands: u64,
    /// Requests.
    pub requests: u64,
    /// Files.
    pub files: u64,
    /// Malformed inputs.
    pub malformed: u64,
    /// Flows the sensor saw.
    pub flows: u64,
    /// Findings.
    pub findings: u64,
    /// Application bytes from visitors, counted at close.
    pub bytes_in: u64,
    /// Application bytes to visitors, counted at close.
    pub bytes_out: u64,
}

impl Counts {
    /// Adds another row's counts.
    pub fn add(&mut self, other: &Self) {
        let pairs = [
            (&mut self.events, other.events),
            (&mut self.sessions, other.sessions),
            (&mut self.logins, other.logins),
            (&mut self.accepted, other.accepted),
            (&mut self.commands, other.commands),
            (&mut self.requests, other.requests),
            (&mut self.files, other.files),
            (&mut self.malformed, other.malformed),
            (&mut self.flows, other.flows),
            (&mut self.findings, other.findings),
            (&mut self.bytes_in, other.bytes_in),
            (&mut self.bytes_out, other.bytes_out),
        ];
        for (to, more) in pairs {
            *to = to.saturating_add(more);
        }
    }
}

/// Roll-up of one hour, net and service.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct HourRow {
    /// Start of the hour, nanoseconds UTC.
    pub hour_ns: i64,
    /// Net.
    pub net: String,
    /// Service; empty for events of none.
    pub service: String,
    /// What happened.
    pub counts: Counts,
}

/// One source address over a day (or the days asked for).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceRow {
    /// The address.
    pub source: IpAddr,
    /// First event, nanoseconds UTC.
    pub first_ns: i64,
    /// Last event.
    pub last_ns: i64,
    /// Nets visited, up to [`MAX_NAMES`].
    pub nets: Vec<String>,
    /// Services visited, up to [`MAX_NAMES`].
    pub services: Vec<String>,
    /// What it did.
    pub counts: Counts,
}

impl Default for SourceRow {
    fn default() -> Self {
        Self {
            source: IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED),
            first_ns: 0,
            last_ns: 0,
            nets: Vec::new(),
            services: Vec::new(),
            counts: Counts::default(),
        }
    }
}

/// One account name over a day (or the days asked for).
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct UserRow {
    /// Account name as sent.
    #[serde(with = "text")]
    pub user: WireText,
    /// First attempt, nanoseconds UTC.
    pub first_ns: i64,
    /// Last attempt.
    pub last_ns: i64,
    /// Attempts.
    pub logins: u64,
    /// Those let in.
    pub accepted: u64,
    /// How many different sources.
    pub sources: Distinct,
}

/// A declared or recorded hole in a node's log.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct GapRow {
    /// When it became known, nanoseconds UTC.
    pub wall_ns: i64,
    /// The log.
    pub log: LogId,
    /// First missing sequence number, when known.
    pub from: Option<u64>,
    /// Last missing sequence number, when known.
    pub to: Option<u64>,
    /// Why.
    pub why: String,
}

/// What is known of one node.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct NodeRow {
    /// Its name.
    pub node: String,
    /// Its net.
    pub net: String,
    /// Wall time of its first event of the days asked for.
    pub first_ns: i64,
    /// Wall time of its last event.
    pub last_ns: i64,
    /// When its last batch came.
    pub received_ns: i64,
    /// Wall time of its last heartbeat.
    pub heartbeat_ns: Option<i64>,
    /// Events by kind name; `unknown` for kinds and record versions of later builds.
    pub events: BTreeMap<String, u64>,
    /// Losses by place: (events, bytes).
    pub losses: BTreeMap<String, (u64, u64)>,
    /// The newest gaps, up to [`MAX_NAMES`].
    pub gaps: Vec<GapRow>,
    /// How many gaps.
    pub gap_count: u64,
}

impl Row for SessionRow {}
impl Row for CredentialRow {}
impl Row for FileRow {}
impl Row for HourRow {}
impl Row for SourceRow {}
impl Row for UserRow {}
impl Row for NodeRow {}

/// [`WireText`] as itself in JSON, as bytes in postcard (which cannot read untagged enums).
mod text {
    use super::{Deserialize, Serialize, WireText};

    pub(super) fn serialize<S: serde::Serializer>(value: &WireText, s: S) -> Result<S::Ok, S::Error> {
        if s.is_human_readable() { value.serialize(s) } else { value.to_bytes().serialize(s) }
    }
    pub(super) fn deserialize<'de, D: serde::Deserializer<'de>>(d: D) -> Result<WireText, D::Error> {
        if d.is_human_readable() { WireText::deserialize(d) } else { Ok(WireText::from_bytes(&Vec::<u8>::deserialize(d)?)) }
    }
}

/// [`text`] for lists.
mod texts {
    use super::{Deserialize, Serialize, WireText};

    pub(super) fn serialize<S: serde::Serializer>(values: &[WireText], s: S) -> Result<S::Ok, S::Error> {
        if s.is_human_readable() { values.serialize(s) } else { s.collect_seq(values.iter().map(WireText::to_bytes)) }
    }
    pub(super) fn deserialize<'de, D: serde::Deserializer<'de>>(d: D) -> Result<Vec<WireText>, D::Error> {
        if d.is_human_readable() {
            return Vec::deserialize(d);
        }
        let values = Vec::<Vec<u8>>::deserialize(d)?;
        Ok(values.iter().map(|bytes| WireText::from_bytes(bytes)).collect())
    }
}
