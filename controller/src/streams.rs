//! The channels of a session put together again from its stream events, in order of time.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use glasshive_event::detail::Stream;
use serde_json::Value;
use std::collections::BTreeMap;

/// Bytes of one direction at one time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Wall time, nanoseconds UTC.
    pub at_ns: i64,
    /// From the visitor.
    pub inbound: bool,
    /// The bytes.
    pub bytes: Vec<u8>,
}

/// One channel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Channel {
    /// Number within the session.
    pub channel: u32,
    /// shell, exec, tcp, udp, control.
    pub role: String,
    /// Columns and rows, when it has a terminal.
    pub terminal: Option<(u32, u32)>,
    /// What passed, in order of time.
    pub pieces: Vec<Piece>,
}

impl Channel {
    /// Whether a person would have seen its output on a screen.
    pub fn is_terminal(&self) -> bool {
        self.terminal.is_some() || self.role == "shell" || self.role == "exec"
    }
}

/// All channels of one session.
#[derive(Clone, Debug, Default)]
pub struct Streams(BTreeMap<u32, Channel>);

impl Streams {
    /// Adds an event object; others than stream events are ignored.
    pub fn add(&mut self, event: &Value) {
        let Some((detail, pieces)) = pieces(event) else { return };
        let channel = self.0.entry(detail.channel).or_default();
        channel.channel = detail.channel;
        if channel.role.is_empty() {
            channel.role = detail.role;
        }
        channel.terminal = channel.terminal.or(detail.terminal);
        channel.pieces.extend(pieces);
    }

    /// The channels by number.
    pub fn channels(&mut self) -> impl Iterator<Item = &Channel> {
        self.0.values_mut().map(|channel| {
            channel.pieces.sort_by_key(|piece| piece.at_ns);
            &*channel
        })
    }
}

/// What a stream event holds.
pub fn pieces(event: &Value) -> Option<(Stream, Vec<Piece>)> {
    if event.get("kind")?.as_str()? != "stream" {
        return None;
    }
    let time = event.get("time")?.as_str()?.parse::<jiff::Timestamp>().ok()?;
    let start = i64::try_from(time.as_nanosecond()).ok()?;
    let detail: Stream = serde_json::from_value(event.get("detail")?.clone()).ok()?;
    let inbound = detail.direction == "in";
    let pieces = detail
        .chunks
        .iter()
        .filter_map(|(delta, data)| {
            let at_ns = start.saturating_add(i64::try_from(*delta).unwrap_or(i64::MAX));
            Some(Piece { at_ns, inbound, bytes: STANDARD.decode(data).ok()? })
        })
        .collect();
    Some((detail, pieces))
}
