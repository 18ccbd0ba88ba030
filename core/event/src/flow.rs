//! A flow: what the sensor saw between two ends. One shape for the `flow` event, `read --json` and
//! the detectors, so that live capture and a file give equal objects.
//!
//! It holds nothing that depends on where or when it was read: no node, log, file or export time.

use crate::envelope::Tuple;
use crate::id::{ConnId, FlowId};
use crate::text::WireText;
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};

/// Why a flow's record was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FlowEnd {
    /// Not ended: a record every five minutes of a long flow, with the next `seq`.
    #[default]
    Active,
    /// Both sides sent FIN.
    Fin,
    /// A side sent RST.
    Rst,
    /// Nothing came for the idle time of its protocol.
    Idle,
    /// Forgotten for want of room; counted.
    Evicted,
    /// The capture or the file ended.
    Shutdown,
}

/// Why the source is taken to be the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DirectionBasis {
    /// It sent the SYN.
    Syn,
    /// The other sent the SYN-ACK: capture began late.
    SynAck,
    /// The other's port is the service's.
    Port,
    /// What was said tells who asked.
    Application,
    /// It sent the first packet seen.
    #[default]
    FirstPacket,
}

/// One direction of a flow.
#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Side {
    /// Packets.
    pub packets: u64,
    /// Bytes from the IP header on, as sent.
    pub ip_bytes: u64,
    /// Bytes above the transport header, without retransmits.
    pub payload_bytes: u64,
    /// Bytes the sequence numbers speak of and nobody saw.
    pub missed_bytes: u64,
    /// Segments seen before.
    pub retransmits: u64,
    /// Segments that came after later ones.
    pub out_of_order: u64,
    /// Segments announcing no window.
    pub zero_window: u64,
    /// Packets whose checksum is wrong (normal on a sending host with offload).
    pub bad_checksum: u64,
    /// IP fragments.
    pub fragments: u64,
    /// Packets captured shorter than they were.
    pub truncated: u64,
    /// Smallest TTL or hop limit.
    pub ttl_min: u8,
    /// Largest TTL or hop limit.
    pub ttl_max: u8,
    /// TCP flags seen, all of them.
    pub tcp_flags: u8,
    /// First payload bytes, hexadecimal, at most 64.
    pub sample: String,
    /// Shannon entropy of the first payload bytes (at most 4 KiB), bits a byte.
    pub entropy: f32,
    /// Hardware address, as `02:00:00:00:00:01`.
    pub mac: Option<String>,
}

/// What the parsers learnt of a flow's application.
#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Application {
    /// Protocol by content: `ssh`, `tls`, `http`, `dns`, …
    pub protocol: String,
    /// Whether both sides spoke it.
    pub both: bool,
    /// JA3 of the client.
    pub ja3: Option<String>,
    /// JA4 of the client.
    pub ja4: Option<String>,
    /// JA3S of the server.
    pub ja3s: Option<String>,
    /// HASSH of the client.
    pub hassh: Option<String>,
    /// HASSH of the server.
    pub hassh_server: Option<String>,
    /// Server name asked for.
    pub sni: Option<WireText>,
    /// Protocol version agreed on.
    pub version: Option<String>,
    /// Cipher agreed on.
    pub cipher: Option<String>,
}

/// What was seen between two ends.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Flow {
    /// Its id: the same from live capture and from the file.
    pub flow: FlowId,
    /// Number of this record of the flow, from 0; the last one has another `end` than active.
    pub seq: u32,
    /// Why it was written.
    pub end: FlowEnd,
    /// First packet.
    pub first: Timestamp,
    /// Last packet so far.
    pub last: Timestamp,
    /// Join key with a decoy's session; needs the SYN and the net's name.
    pub conn: Option<ConnId>,
    /// Community ID, version 1, seed 0; for outsiders, never a key.
    pub community_id: String,
    /// IP protocol number.
    pub protocol: u8,
    /// Ends; ports are 0 where the protocol has none.
    pub wire: Tuple,
    /// Why the source is the source.
    pub direction: DirectionBasis,
    /// Type and code of the first ICMP message.
    pub icmp: Option<(u8, u8)>,
    /// Layers from the frame inward: `eth`, `vlan`, `ipv4`, `gre`, `tcp`, …
    pub layers: Vec<String>,
    /// VLAN identifiers, outermost first.
    pub vlans: Vec<u16>,
    /// From source to destination.
    pub sent: Side,
    /// From destination to source.
    pub received: Side,
    /// Handshake and end in one word as Zeek's `conn_state`: S0, S1, SF, REJ, RSTO, RSTR, …; `OTH` else.
    pub state: String,
    /// The letters of Zeek's `history`, at most 64.
    pub history: String,
    /// Whether the TCP handshake was completed (SYN, SYN-ACK, ACK).
    pub established: bool,
    /// SYN to SYN-ACK at the sensor, nanoseconds.
    pub rtt_ns: Option<i64>,
    /// What was spoken, once known.
    pub application: Option<Application>,
    /// Whether packets were lost while it lasted.
    pub loss: bool,
}

impl Flow {
    /// Whether this is its last record.
    pub fn is_final(&self) -> bool {
        self.end != FlowEnd::Active
    }
}
