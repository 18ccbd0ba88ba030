//! A pure view of an event or parser result, as detectors see it. Never a stored format.

use crate::envelope::{Endpoint, Tuple};
use crate::flow::Flow;
use crate::id::{ConnId, FlowId, SessionId};
use crate::text::WireText;
use crate::time::Timestamp;
use serde::Serialize;
use std::net::IpAddr;

/// One fact at one time.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Observation {
    /// When it happened, from the packet or the record; detectors have no other clock.
    pub at: Timestamp,
    /// Session it belongs to, when a decoy saw it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionId>,
    /// Flow it belongs to, when the sensor saw it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flow: Option<FlowId>,
    /// Ends of the connection; the source is who began it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wire: Option<Tuple>,
    /// The fact.
    #[serde(flatten)]
    pub fact: Fact,
}

/// What was seen. Wire facts come from the sensor's parsers, fusion facts from stored events.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "fact", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Fact {
    /// Wire: the first packet of a flow.
    FlowOpened(Opening),
    /// Wire and fusion: a flow's record, the last or one of a long flow.
    Flow(Box<Flow>),
    /// Wire: the handshake was completed.
    Established,
    /// Wire: what a flow speaks, by content.
    Identified(Identified),
    /// Wire: what is spoken inside another protocol's connection.
    Carried(Carried),
    /// Wire: how a mail or file server and its client dealt with STARTTLS.
    StartTls(StartTls),
    /// Wire: a login whose secret anybody on the wire can read; the secret is not in the fact.
    ClearLogin(ClearLogin),
    /// Wire: a TLS ClientHello.
    TlsClient(TlsClient),
    /// Wire: a TLS ServerHello.
    TlsServer(TlsServer),
    /// Wire: the first certificate of a server.
    Certificate(Certificate),
    /// Wire: both SSH algorithm lists, and so what was agreed on.
    SshAgreed(SshAgreed),
    /// Wire: a request in clear.
    HttpRequest(HttpRequest),
    /// Wire: a response in clear.
    HttpResponse(HttpResponse),
    /// Wire: a DNS message.
    Dns(Dns),
    /// Wire: an ARP packet.
    Arp(Arp),
    /// Wire: bytes that break a protocol.
    Malformed(Malformed),
    /// Fusion: a decoy's session began.
    SessionOpened(SessionOpened),
    /// Fusion: a decoy's session ended.
    SessionClosed(SessionClosed),
    /// Fusion: a login attempt at a decoy.
    Login(Login),
    /// Fusion: a command at a decoy's shell.
    Command {
        /// As typed.
        input: WireText,
    },
    /// Fusion: packets the wall around the segment dropped.
    Blocked(Blocked),
    /// Fusion: a node said that it is there and keeps records.
    Alive {
        /// What it watches with.
        watcher: Watcher,
    },
    /// Fusion: records that were not kept, or packets nobody looked at.
    Hole(Hole),
}

/// What sees a visitor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Watcher {
    /// A sensor, by packets.
    Sensor,
    /// Decoys, by sessions.
    Decoys,
}

/// A time about which a watcher says less than there was: from its `loss` and `gap` records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Hole {
    /// Whose records.
    pub watcher: Watcher,
    /// First moment.
    pub since: Timestamp,
    /// Last moment.
    pub until: Timestamp,
}

/// First packet of a flow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Opening {
    /// IP protocol number.
    pub protocol: u8,
    /// TCP flags, 0 for others.
    pub tcp_flags: u8,
    /// Type and code, for ICMP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub icmp: Option<(u8, u8)>,
    /// Bytes above the transport header.
    pub payload_bytes: u32,
    /// TTL or hop limit.
    pub ttl: u8,
    /// TCP window.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window: Option<u16>,
    /// IPv4 identification.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip_id: Option<u16>,
    /// TCP option kinds in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tcp_options: Vec<u8>,
    /// TCP sequence number (zmap and masscan are told apart by it).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tcp_seq: Option<u32>,
}

/// What a flow speaks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Identified {
    /// Protocol name as in `core/proto`'s probe.
    pub protocol: &'static str,
    /// Whether both sides speak it; an observation is made again when the second side does.
    pub both: bool,
    /// First bytes of both sides, at most 64 each, hexadecimal.
    pub samples: [String; 2],
}

/// A protocol inside another one's connection: after STARTTLS, an HTTP CONNECT or upgrade, a SOCKS
/// request, a PROXY header, an RDP or database negotiation. `Identified` tells of the outer one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Carried {
    /// The protocol that carries.
    pub inside: &'static str,
    /// The protocol inside, as in `core/proto`'s probe, or `websocket`.
    pub protocol: &'static str,
    /// Whether both sides speak it; an observation is made again when the second side does.
    pub both: bool,
    /// First bytes of both sides inside, at most 64 each, hexadecimal.
    pub samples: [String; 2],
}

/// STARTTLS, STLS or AUTH TLS of one connection, said once: when TLS begins or the connection ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StartTls {
    /// `smtp`, `ftp`, `pop3` or `imap`.
    pub protocol: &'static str,
    /// Whether the server's capabilities named it; `None` when they were not asked for.
    pub offered: Option<bool>,
    /// Whether the client asked for it.
    pub asked: bool,
    /// Whether TLS followed.
    pub started: bool,
}

/// A login in clear.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ClearLogin {
    /// Protocol.
    pub protocol: &'static str,
    /// Command or mechanism: `PASS`, `LOGIN`, `PLAIN`, ….
    pub scheme: &'static str,
}

/// A TLS ClientHello.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize)]
pub struct TlsClient {
    /// JA3; empty for an SSL 2 hello, which it is not defined for.
    pub ja3: String,
    /// JA4; empty for an SSL 2 hello.
    pub ja4: String,
    /// Server name.
    pub sni: Option<WireText>,
    /// Protocols offered.
    pub alpn: Vec<WireText>,
    /// Highest version offered, as on the wire (0x0304 = 1.3).
    pub version: u16,
    /// Suites offered.
    pub ciphers: Vec<u16>,
}

/// A TLS ServerHello.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize)]
pub struct TlsServer {
    /// JA3S.
    pub ja3s: String,
    /// Version agreed on, as on the wire; 0x0002 is SSLv2.
    pub version: u16,
    /// Suite agreed on; 0 in SSL 2, where the client settles it later.
    pub cipher: u16,
    /// Group agreed on (TLS 1.3 key_share, or ServerKeyExchange).
    pub group: Option<u16>,
    /// Bits of a finite-field Diffie-Hellman prime.
    pub dh_bits: Option<u32>,
    /// Whether the random ends in a downgrade sentinel (RFC 8446 §4.1.3).
    pub downgrade_sentinel: bool,
}

/// First certificate of a server.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize)]
pub struct Certificate {
    /// SHA-256 of the DER, hexadecimal.
    pub sha256: String,
    /// Subject, one line.
    pub subject: String,
    /// Issuer, one line.
    pub issuer: String,
    /// Whether issuer and subject are equal.
    pub self_signed: bool,
    /// Not before, seconds since 1970.
    pub not_before: i64,
    /// Not after, seconds since 1970.
    pub not_after: i64,
    /// Public key: `rsa`, `ec`, `ed25519`, …
    pub key: String,
    /// Its bits.
    pub key_bits: u32,
    /// Signature algorithm: `sha256WithRSAEncryption`, …
    pub signature: String,
}

/// Both sides' SSH greetings and what follows from them (RFC 4253 §7.1). When the connection ended
/// before both lists were there, or speaks version 1, what is not known is empty.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize)]
pub struct SshAgreed {
    /// Client's line.
    pub client: WireText,
    /// Server's line.
    pub server: WireText,
    /// HASSH.
    pub hassh: String,
    /// HASSH of the server.
    pub hassh_server: String,
    /// Key exchange.
    pub kex: String,
    /// Host key algorithm.
    pub host_key: String,
    /// Cipher to the server, to the client.
    pub ciphers: [String; 2],
    /// MAC to the server, to the client; empty with an AEAD cipher.
    pub macs: [String; 2],
}

/// An HTTP request in clear.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize)]
pub struct HttpRequest {
    /// Method.
    pub method: WireText,
    /// Target as sent.
    pub target: WireText,
    /// Version as sent.
    pub version: WireText,
    /// Host header.
    pub host: Option<WireText>,
    /// User-Agent header.
    pub user_agent: Option<WireText>,
    /// Whether an Authorization header carries a scheme that shows the secret.
    pub cleartext_credential: bool,
}

/// An HTTP response in clear.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize)]
pub struct HttpResponse {
    /// Status.
    pub status: u16,
    /// Server header.
    pub server: Option<WireText>,
    /// Content-Type header.
    pub content_type: Option<WireText>,
}

/// A DNS message. One with several questions, as mDNS sends them, is said once for each, its bytes with
/// the first.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize)]
pub struct Dns {
    /// Identifier.
    pub id: u16,
    /// Whether it is a response.
    pub response: bool,
    /// Response code.
    pub rcode: u16,
    /// The question's name, or the first answer's without one (mDNS), in presentation form without
    /// the final dot.
    pub name: WireText,
    /// The question's type.
    pub qtype: u16,
    /// The question's class.
    pub qclass: u16,
    /// Answers.
    pub answers: u16,
    /// Bytes of the message.
    pub bytes: u32,
}

/// An ARP packet for IPv4.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Arp {
    /// 1 request, 2 reply.
    pub operation: u16,
    /// Source of the frame.
    pub frame_mac: String,
    /// Sender.
    pub sender_mac: String,
    /// Sender.
    pub sender: IpAddr,
    /// Target.
    pub target_mac: String,
    /// Target.
    pub target: IpAddr,
}

/// Bytes that break a protocol.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Malformed {
    /// Layer or protocol.
    pub protocol: &'static str,
    /// What is wrong.
    pub what: String,
    /// Offset of the first wrong byte in the packet or stream.
    pub offset: u64,
    /// Up to 256 bytes from there, hexadecimal.
    pub bytes: String,
}

/// A decoy's session began.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize)]
pub struct SessionOpened {
    /// Decoy.
    pub decoy: String,
    /// Service.
    pub service: String,
    /// `tcp` or `udp`.
    pub transport: &'static str,
    /// Join key.
    pub conn: Option<ConnId>,
    /// Session it was opened inside of.
    pub parent: Option<SessionId>,
    /// The source an analyst means, when a trusted proxy claimed another than the wire's.
    pub claimed: Option<Endpoint>,
}

/// A decoy's session ended.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize)]
pub struct SessionClosed {
    /// Why.
    pub reason: String,
    /// Application bytes from the visitor.
    pub bytes_in: u64,
    /// Application bytes to the visitor.
    pub bytes_out: u64,
    /// How long, nanoseconds.
    pub duration_ns: u64,
}

/// Packets the wall dropped, of one attempt.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize)]
pub struct Blocked {
    /// `out`, `in` or `forward`.
    pub direction: String,
    /// IP protocol number.
    pub protocol: u8,
    /// TCP flags of the first packet.
    pub flags: u8,
    /// Type and code, for ICMP.
    pub icmp: Option<(u8, u8)>,
    /// Interface it came in on, or was to leave by.
    pub interface: String,
    /// Log prefix of the rule.
    pub prefix: String,
    /// User whose socket sent it.
    pub uid: Option<u32>,
    /// Packets so far.
    pub total: u64,
}

/// A login attempt.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize)]
pub struct Login {
    /// Service.
    pub service: String,
    /// Decoy.
    pub decoy: String,
    /// Account as sent.
    pub user: WireText,
    /// How: password, publickey, …
    pub method: String,
    /// Keyed hash of the secret: equal secrets, equal pivot.
    pub pivot: Option<String>,
    /// Whether the decoy let it in.
    pub accepted: bool,
}
