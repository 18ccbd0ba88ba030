//! The wall: what the firewall around the segment (the *honeywall*) drops, and whether it stands.
//!
//! Two processes. The *reader* ([`reader`], `glasshive-decoys wall`) alone holds `CAP_NET_ADMIN`: it
//! reads the packets the wall dropped (NFLOG) and asks the kernel once a second whether the wall's
//! table is loaded and drops by default. It hands both to the decoys daemon as lines of JSON over a
//! Unix socket. The daemon stores what was dropped, put together so that a flood cannot fill the
//! journal ([`blocked`]), and stops answering visitors while the wall does not stand.
//!
//! Neither ever changes a rule. A reader that says nothing is a wall that does not stand.

pub mod blocked;
mod nfnetlink;
mod nft;
pub mod reader;

use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// Longest line the reader writes and the daemon reads, bytes.
pub const MAX_LINE: usize = 4 * 1024;
/// First bytes kept of a dropped packet, from its IP header or the beginning of ARP.
pub const MAX_BYTES: usize = 64;

/// Where a dropped packet was going.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// Into this host.
    In,
    /// Out of this host: an attempt to leave.
    Out,
    /// Through this host.
    Forward,
}

impl Direction {
    /// The word.
    pub fn name(self) -> &'static str {
        match self {
            Self::In => "in",
            Self::Out => "out",
            Self::Forward => "forward",
        }
    }
}

/// A hook of the network stack a base chain of the wall sits at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Hook {
    /// What comes in.
    Input,
    /// What goes through.
    Forward,
    /// What goes out.
    Output,
}

impl Hook {
    /// The word nft has for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Input => "input",
            Self::Forward => "forward",
            Self::Output => "output",
        }
    }
}

/// One dropped packet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Packet {
    /// Where it was going.
    pub direction: Direction,
    /// IP protocol number; 0 for an ARP packet, whose ends are who it claims to be and whom it asks or tells.
    pub protocol: u8,
    /// Sender; port 0 where there is none.
    pub source: SocketAddr,
    /// Receiver; port 0 where there is none.
    pub destination: SocketAddr,
    /// TCP flags, 0 for others.
    pub flags: u8,
    /// Type and code, for ICMP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub icmp: Option<(u8, u8)>,
    /// Interface it came in on, or was to leave by.
    pub interface: String,
    /// The rule's log prefix.
    pub prefix: String,
    /// User whose socket sent it, when it was sent here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// Bytes of the packet as far as the kernel handed it over.
    pub len: u32,
    /// Its first bytes, hexadecimal.
    pub bytes: String,
}

/// How the wall stands, and what the reader counted since its start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct State {
    /// Family and name of the table looked for.
    pub table: String,
    /// It is loaded and in force (a dormant table is not).
    pub loaded: bool,
    /// Hooks without a base chain of the table that drops by default.
    pub open: Vec<Hook>,
    /// The entry's table is loaded.
    pub entry: bool,
    /// Generation of the kernel's whole ruleset.
    pub generation: u32,
    /// SHA-256 over the table's chains and rules, without counters, hexadecimal.
    pub hash: String,
    /// The hash it must have, where somebody deployed one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected: Option<String>,
    /// Why nothing is known, when the kernel could not be asked.
    pub error: Option<String>,
    /// Dropped packets seen.
    pub seen: u64,
    /// Dropped packets not handed over, because they came too fast or nobody listened.
    pub skipped: u64,
    /// Dropped packets the kernel could not queue for the reader.
    pub lost: u64,
    /// Messages of the kernel the reader could not read.
    pub unreadable: u64,
}

impl State {
    /// Why the wall does not stand; `None` when it does.
    pub fn fault(&self) -> Option<String> {
        if let Some(error) = &self.error {
            return Some(format!("the kernel cannot be asked: {error}"));
        }
        if !self.loaded {
            return Some(format!("table {} is not loaded", self.table));
        }
        if !self.open.is_empty() {
            let names: Vec<_> = self.open.iter().map(|hook| hook.name()).collect();
            return Some(format!("table {} does not drop by default at {}", self.table, names.join(", ")));
        }
        let expected = self.expected.as_ref().filter(|expected| **expected != self.hash)?;
        let short = |hash: &str| hash.chars().take(12).collect::<String>();
        Some(format!("table {} is not the one that was deployed: rules {} instead of {}", self.table, short(&self.hash), short(expected)))
    }
}

/// One line from the reader to the daemon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Message {
    /// How the wall stands; at least once a second.
    State(State),
    /// A packet it dropped.
    Blocked(Packet),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wall_stands_or_says_why_not() {
        let well = State { table: "inet glasshive_wall".into(), loaded: true, ..State::default() };
        assert_eq!(well.fault(), None);
        for (state, why) in [
            (State { loaded: false, ..well.clone() }, "table inet glasshive_wall is not loaded"),
            (State { open: vec![Hook::Output, Hook::Forward], ..well.clone() }, "does not drop by default at output, forward"),
            (
                State { hash: "cd".into(), expected: Some("ab".into()), ..well.clone() },
                "is not the one that was deployed: rules cd instead of ab",
            ),
            (State { error: Some("EPERM".into()), ..well.clone() }, "the kernel cannot be asked: EPERM"),
        ] {
            let fault = state.fault().unwrap();
            assert!(fault.ends_with(why), "{fault}");
        }
    }

    /// Both ends are one binary, but may be of two versions while an upgrade runs.
    #[test]
    fn golden_lines() {
        let packet = Packet {
            direction: Direction::Out,
            protocol: 6,
            source: "10.66.1.10:4000".parse().unwrap(),
            destination: "[fd00::7]:443".parse().unwrap(),
            flags: 2,
            icmp: None,
            interface: "dcy0".into(),
            prefix: "glasshive out".into(),
            uid: Some(990),
            len: 60,
            bytes: "45".into(),
        };
        let line = serde_json::to_string(&Message::Blocked(packet.clone())).unwrap();
        let golden = r#"{"blocked":{"direction":"out","protocol":6,"source":"10.66.1.10:4000","destination":"[fd00::7]:443","flags":2,"interface":"dcy0","prefix":"glasshive out","uid":990,"len":60,"bytes":"45"}}"#;
        assert_eq!(line, golden);
        assert_eq!(serde_json::from_str::<Message>(golden).unwrap(), Message::Blocked(packet));
        let state = r#"{"state":{"table":"inet w","loaded":true,"open":["output"],"later":1}}"#;
        assert!(matches!(serde_json::from_str(state), Ok(Message::State(state)) if state.loaded && state.open == [Hook::Output]));
    }
}
