//! A flow: what the sensor saw between two ends. One shape for the `flow` event, `read --json` and
//! the detectors, so that live capture and a file give equal objects.
//!
//! It holds nothing that depends on where or when it was read: no node, log, file or export time.

use crate::envelope::{Envelope, Transport, Tuple};
use crate::id::{ConnId, FlowId};
use crate::kind::Kind;
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
    #[serde(default)]
    pub seq: u32,
    /// Why it was written.
    #[serde(default)]
    pub end: FlowEnd,
    /// First packet.
    pub first: Timestamp,
    /// Last packet so far.
    pub last: Timestamp,
    /// Join key with a decoy's session; needs the SYN and the net's name.
    #[serde(default)]
    pub conn: Option<ConnId>,
    /// Community ID, version 1, seed 0; for outsiders, never a key.
    #[serde(default)]
    pub community_id: String,
    /// IP protocol number.
    pub protocol: u8,
    /// Ends; ports are 0 where the protocol has none.
    pub wire: Tuple,
    /// Why the source is the source.
    #[serde(default)]
    pub direction: DirectionBasis,
    /// Type and code of the first ICMP message.
    #[serde(default)]
    pub icmp: Option<(u8, u8)>,
    /// Layers from the frame inward: `eth`, `vlan`, `ipv4`, `gre`, `tcp`, …
    #[serde(default)]
    pub layers: Vec<String>,
    /// VLAN identifiers, outermost first.
    #[serde(default)]
    pub vlans: Vec<u16>,
    /// From source to destination.
    #[serde(default)]
    pub sent: Side,
    /// From destination to source.
    #[serde(default)]
    pub received: Side,
    /// Handshake and end in one word as Zeek's `conn_state`: S0, S1, SF, REJ, RSTO, RSTR, …; `OTH` else.
    #[serde(default)]
    pub state: String,
    /// The letters of Zeek's `history`, at most 64.
    #[serde(default)]
    pub history: String,
    /// Whether the TCP handshake was completed (SYN, SYN-ACK, ACK).
    #[serde(default)]
    pub established: bool,
    /// SYN to SYN-ACK at the sensor, nanoseconds.
    #[serde(default)]
    pub rtt_ns: Option<i64>,
    /// What was spoken, once known.
    #[serde(default)]
    pub application: Option<Application>,
    /// Whether packets were lost while it lasted.
    #[serde(default)]
    pub loss: bool,
}

impl Flow {
    /// Whether this is its last record.
    pub fn is_final(&self) -> bool {
        self.end != FlowEnd::Active
    }

    /// The envelope of its event: what a list filters by without reading the detail.
    pub fn envelope(&self) -> Envelope {
        Envelope {
            kind: Kind::Flow.number(),
            conn: self.conn,
            transport: [Transport::Tcp, Transport::Udp].into_iter().find(|transport| transport.number() == self.protocol),
            wire: Some(self.wire),
            ..Envelope::default()
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn sample() -> Flow {
        let end = |text: &str| text.parse::<std::net::SocketAddr>().unwrap().into();
        Flow {
            flow: FlowId([0x11; 16]),
            seq: 1,
            end: FlowEnd::Fin,
            first: Timestamp(1_700_000_000_000_000_001),
            last: Timestamp(1_700_000_001_000_000_001),
            conn: Some(ConnId([0x22; 16])),
            community_id: "1:wCb3OG7yAFWelaUydu0D+125CLM=".into(),
            protocol: 6,
            wire: Tuple { source: end("192.0.2.7:40001"), destination: end("[2001:db8::1]:22") },
            direction: DirectionBasis::Syn,
            icmp: None,
            layers: vec!["eth".into(), "ipv4".into(), "tcp".into()],
            vlans: vec![],
            sent: Side { packets: 3, ip_bytes: 180, entropy: 4.5, sample: "5353".into(), ttl_min: 64, ttl_max: 64, ..Side::default() },
            received: Side::default(),
            state: "SF".into(),
            history: "ShADadFf".into(),
            established: true,
            rtt_ns: Some(210_000),
            application: Some(Application { protocol: "ssh".into(), both: true, ..Application::default() }),
            loss: false,
        }
    }

    /// Golden vector of the detail: names and forms are what other programs read.
    #[test]
    fn golden() {
        let json = serde_json::to_string(&sample()).unwrap();
        let side = |packets: u64, ip_bytes: u64, ttl: u8, sample: &str, entropy: &str| {
            format!(
                r#"{{"packets":{packets},"ip_bytes":{ip_bytes},"payload_bytes":0,"missed_bytes":0,"retransmits":0,"out_of_order":0,"zero_window":0,"bad_checksum":0,"fragments":0,"truncated":0,"ttl_min":{ttl},"ttl_max":{ttl},"tcp_flags":0,"sample":"{sample}","entropy":{entropy},"mac":null}}"#
            )
        };
        let expected = [
            r#"{"flow":"11111111-1111-1111-1111-111111111111","seq":1,"end":"fin","first":1700000000000000001,"#,
            r#""last":1700000001000000001,"conn":"22222222222222222222222222222222","community_id":"1:wCb3OG7yAFWelaUydu0D+125CLM=","#,
            r#""protocol":6,"wire":{"source":{"ip":"192.0.2.7","port":40001},"destination":{"ip":"2001:db8::1","port":22}},"#,
            r#""direction":"syn","icmp":null,"layers":["eth","ipv4","tcp"],"vlans":[],"sent":"#,
            &side(3, 180, 64, "5353", "4.5"),
            r#","received":"#,
            &side(0, 0, 0, "", "0.0"),
            r#","state":"SF","history":"ShADadFf","established":true,"rtt_ns":210000,"application":{"protocol":"ssh","both":true,"#,
            r#""ja3":null,"ja4":null,"ja3s":null,"hassh":null,"hassh_server":null,"sni":null,"version":null,"cipher":null},"loss":false}"#,
        ]
        .concat();
        assert_eq!(json, expected);
        assert_eq!(serde_json::from_str::<Flow>(&json).unwrap(), sample());
    }

    #[test]
    fn least_said_is_read_and_the_envelope_tells_the_ends() {
        let json = r#"{"flow":"11111111-1111-1111-1111-111111111111","first":1,"last":2,"protocol":17,"wire":{"source":{"ip":"192.0.2.7","port":1},"destination":{"ip":"10.0.0.1","port":53}},"later":1}"#;
        let flow: Flow = serde_json::from_str(json).unwrap();
        assert!(!flow.is_final() && flow.conn.is_none() && sample().is_final());
        let envelope = flow.envelope();
        assert_eq!((envelope.kind, envelope.transport, envelope.wire), (12, Some(Transport::Udp), Some(flow.wire)));
    }
}
