//! The JSON detail of each kind. Field names are the words of the catalogue; unknown fields are
//! ignored on reading, absent ones take their default, so a shape may grow but never change meaning.

use crate::envelope::Tuple;
use crate::finding::{Severity, StoredEvidence};
use crate::flow::{Application, DirectionBasis, FlowEnd, Side};
use crate::id::{ConnId, FindingId, FlowId, SessionId};
use crate::scope::PacketScope;
use crate::text::WireText;
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

pub use crate::finding::StoredFinding as Finding;
pub use crate::flow::Flow;

/// The catalogue's rows of a shape defined elsewhere. A field that is missing here, or has another
/// type, does not compile.
macro_rules! catalogued {
    ($owner:ident { $($field:ident : $ty:ty = $doc:literal),* $(,)? }) => {
        impl $owner {
            /// Field names in order, for the catalogue.
            pub const FIELDS: &'static [(&'static str, &'static str, &'static str)] =
                &[$((stringify!($field), stringify!($ty), $doc)),*];

            #[allow(dead_code)]
            fn all_fields(self) {
                let Self { $($field),* } = self;
                $(let _: $ty = $field;)*
            }
        }
    };
}

catalogued! { Flow {
    flow: FlowId = "Flow id.",
    seq: u32 = "Number of this record of the flow, from 0.",
    end: FlowEnd = "Why it was written: active (every five minutes of a long flow), fin, rst, idle, evicted, shutdown.",
    first: Timestamp = "First packet.",
    last: Timestamp = "Last packet so far.",
    conn: Option<ConnId> = "Join key with a decoy's session.",
    community_id: String = "Community ID, version 1, seed 0; never a key.",
    protocol: u8 = "IP protocol number.",
    wire: Tuple = "Ends: source and destination, each ip and port.",
    direction: DirectionBasis = "Why the source is the source: syn, syn_ack, port, application, first_packet.",
    icmp: Option<(u8, u8)> = "Type and code of the first ICMP message.",
    layers: Vec<String> = "Layers from the frame inward.",
    vlans: Vec<u16> = "VLAN identifiers, outermost first.",
    sent: Side = "Counts from source to destination: packets, bytes, flags, TTL, first bytes.",
    received: Side = "Counts from destination to source.",
    state: String = "Handshake and end in one word as Zeek's conn_state: S0, SF, REJ, ….",
    history: String = "The letters of Zeek's history.",
    established: bool = "Whether the TCP handshake was completed.",
    rtt_ns: Option<i64> = "SYN to SYN-ACK at the sensor, nanoseconds.",
    application: Option<Application> = "What was spoken: protocol by content, fingerprints, version, cipher.",
    loss: bool = "Whether packets were lost while it lasted.",
} }

catalogued! { Finding {
    finding: FindingId = "Finding id; a later record with it updates the earlier one.",
    detector: String = "Detector.",
    version: u16 = "Version of the detector.",
    at: Timestamp = "Time of the observation that made it.",
    first: Timestamp = "Time of the earliest evidence.",
    key: String = "Same key, same matter.",
    severity: Severity = "How bad: info, low, medium, high, critical.",
    confidence: u8 = "How sure, 0 to 100.",
    techniques: Vec<String> = "Techniques, primary for the net's vantage first.",
    use_cases: Vec<String> = "Use cases.",
    actor: Option<IpAddr> = "Who did it.",
    target: Option<IpAddr> = "To whom.",
    summary: String = "The reason in one sentence.",
    evidence: Vec<StoredEvidence> = "Why: metric, value, threshold, window in seconds, samples.",
    sessions: Vec<SessionId> = "Sessions it rests on.",
    flows: Vec<FlowId> = "Flows it rests on.",
    flow_count: u64 = "How many flows it rests on in all.",
    scope: PacketScope = "The packets that show it.",
    late: bool = "Found in the second pass: its records came after their time had been looked at.",
    cut: u64 = "Parts left out or widened so that it fits a record.",
} }

macro_rules! details {
    ($($(#[$doc:meta])* $name:ident { $($(#[doc = $fdoc:literal])* $field:ident : $ty:ty),* $(,)? })*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize)]
        #[serde(default)]
        pub struct $name { $($(#[doc = $fdoc])* #[serde(skip_serializing_if = "crate::detail::empty")] pub $field: $ty),* }

        impl $name {
            /// Field names in order, for the catalogue.
            pub const FIELDS: &'static [(&'static str, &'static str, &'static str)] =
                &[$((stringify!($field), stringify!($ty), concat!($($fdoc),*))),*];
        }
    )*};
}

/// Fields that say nothing are left out of the JSON.
pub(crate) trait Empty {
    fn is_empty_value(&self) -> bool;
}
pub(crate) fn empty<T: Empty>(value: &T) -> bool {
    value.is_empty_value()
}
impl<T> Empty for Option<T> {
    fn is_empty_value(&self) -> bool {
        self.is_none()
    }
}
impl<T> Empty for Vec<T> {
    fn is_empty_value(&self) -> bool {
        self.is_empty()
    }
}
impl Empty for String {
    fn is_empty_value(&self) -> bool {
        self.is_empty()
    }
}
macro_rules! never_empty { ($($ty:ty),*) => { $(impl Empty for $ty { fn is_empty_value(&self) -> bool { false } })* } }
never_empty!(u8, u16, u32, u64, i32, i64, bool, f64, WireText, serde_json::Value);
impl Empty for serde_json::Map<String, serde_json::Value> {
    fn is_empty_value(&self) -> bool {
        self.is_empty()
    }
}

details! {
    /// A connection was accepted, or the first datagram of a tuple arrived.
    SessionOpen {
        /// Name of the persona.
        persona: String,
        /// SHA-256 of the persona as loaded.
        persona_hash: String,
        /// SHA-256 of the configuration.
        config_hash: String,
        /// SHA-256 of the binary.
        binary_hash: String,
        /// Target the visitor asked for, when the session was opened inside another.
        target: Option<String>,
    }
    /// The session ended; written for every open, also after a panic or a crash.
    SessionClose {
        /// Why: client, server, timeout, limit, error, panic, shutdown, node_crash.
        reason: String,
        /// Nanoseconds from open to close on the monotonic clock.
        duration_ns: u64,
        /// Application bytes from the visitor.
        bytes_in: u64,
        /// Application bytes to the visitor.
        bytes_out: u64,
        /// Datagrams (UDP) or reads (TCP) from the visitor.
        packets_in: u64,
        /// Datagrams (UDP) or writes (TCP) to the visitor.
        packets_out: u64,
        /// Stream bytes not recorded because the session's cap was reached.
        cut_bytes: u64,
        /// Our own fault, when there was one.
        error: Option<String>,
    }
    /// One attempt to authenticate.
    Login {
        /// Account name as sent.
        user: WireText,
        /// How: password, keyboard-interactive, publickey, basic, none.
        method: String,
        /// What the secret is: plain, ssh-key, none.
        secret_kind: String,
        /// The secret, sealed to the controller's key (age, base64).
        secret_sealed: Option<String>,
        /// Length of the secret in bytes.
        secret_len: u64,
        /// Keyed HMAC-SHA-256 of the secret, first 16 bytes in hexadecimal: equal secrets, equal pivot.
        secret_pivot: Option<String>,
        /// Whether the decoy let the visitor in.
        accepted: bool,
        /// Public key offered, in OpenSSH form.
        public_key: Option<String>,
        /// SHA-256 fingerprint of the public key.
        fingerprint: Option<String>,
        /// Whether the visitor proved to hold the private key.
        signature: Option<bool>,
    }
    /// A command given to the pretended operating system.
    Command {
        /// What the visitor typed or sent.
        input: WireText,
        /// Exit status it was told.
        exit: Option<i32>,
        /// SHA-256 of the output shown.
        output_sha256: Option<String>,
        /// Bytes of output shown.
        output_len: u64,
        /// Channel of the session.
        channel: Option<u32>,
        /// Whether the pretended system knew it.
        known: bool,
        /// Nanoseconds from its being given to this record: the record's time less this is when it was given.
        took_ns: Option<u64>,
    }
    /// One request of a request/response protocol.
    Request {
        /// Protocol the fields belong to: http, dns, ftp, …
        protocol: String,
        /// Verb: GET, AXFR, STOR, ….
        verb: WireText,
        /// What was asked for: path, name, file.
        target: WireText,
        /// Status answered.
        status: Option<String>,
        /// The protocol's own fields (HTTP: version, host, headers, body; DNS: type, class, answers).
        fields: serde_json::Map<String, serde_json::Value>,
    }
    /// Bytes of one channel in one direction, at most 8 KiB, flushed at 250 ms or when full.
    Stream {
        /// Channel within the session; 0 when there is only one.
        channel: u32,
        /// `in` from the visitor, `out` to the visitor.
        direction: String,
        /// Offset of the first byte in that direction of that channel.
        offset: u64,
        /// What the channel is: shell, exec, tcp, udp, control.
        role: String,
        /// Terminal columns and rows, when the channel has a terminal.
        terminal: Option<(u32, u32)>,
        /// Nanoseconds since the event's wall time, and the bytes in base64.
        chunks: Vec<(u64, String)>,
    }
    /// A file the visitor sent, or was sent.
    File {
        /// Name as the visitor gave it.
        name: WireText,
        /// Bytes.
        size: u64,
        /// SHA-256 of the content.
        sha256: String,
        /// `upload` from the visitor, `download` to the visitor.
        direction: String,
        /// What the first bytes look like: elf, pe, script, zip, gzip, text, data.
        magic: String,
        /// Content in base64, sealed, when at most 8 KiB.
        content_sealed: Option<String>,
        /// Name of the sealed blob holding the content when it is larger.
        blob: Option<String>,
        /// Bytes not kept because a cap was reached.
        cut_bytes: u64,
    }
    /// Greeting of a client, with fingerprints.
    Hello {
        /// `tls` or `ssh`.
        protocol: String,
        /// JA3 (TLS).
        ja3: Option<String>,
        /// JA4 (TLS).
        ja4: Option<String>,
        /// Server name asked for (TLS).
        sni: Option<WireText>,
        /// Application protocols offered (TLS).
        alpn: Vec<String>,
        /// Highest version offered (TLS), as `1.3`.
        version: Option<String>,
        /// Cipher suite numbers offered (TLS).
        ciphers: Vec<u16>,
        /// Identification line (SSH).
        id: Option<WireText>,
        /// HASSH of the client's lists (SSH).
        hassh: Option<String>,
        /// The lists HASSH was made from (SSH).
        hassh_algorithms: Option<String>,
    }
    /// The visitor asked to be forwarded; nothing is ever dialled.
    Forward {
        /// Host asked for.
        host: WireText,
        /// Port asked for.
        port: u32,
        /// direct-tcpip, tcpip-forward, streamlocal, connect, socks.
        mechanism: String,
        /// Whether an own persona answered in process.
        answered: bool,
        /// The session that answered.
        child: Option<String>,
        /// Originator the client named.
        originator: Option<String>,
        /// Channel of the session that carries it.
        channel: Option<u32>,
    }
    /// Secrets that decrypt this session's packets, sealed once per handshake.
    Secret {
        /// `tls-keylog`.
        secret_kind: String,
        /// Key-log lines, sealed to the controller's key (age, base64).
        secret_sealed: String,
        /// Number of lines.
        lines: u64,
    }
    /// Input the protocol does not allow; what followed is what the real server does.
    Malformed {
        /// Protocol that was expected.
        protocol: String,
        /// What was wrong.
        what: String,
        /// Offset of the first wrong byte in the visitor's stream or datagram.
        offset: u64,
        /// Up to 256 bytes from there, hexadecimal.
        bytes: String,
        /// What the bytes look like instead, when the probe knows.
        looks_like: Option<String>,
    }
    /// Something was not kept, and exactly what.
    Loss {
        /// Where: udp_queue, stream_cap, accept_paused, blob_quota, journal; on a sensor capture_kernel,
        /// capture_interface, ring, ring_cut, analysis, analysis_journal; of packets the wall dropped wall_reader, wall_kinds.
        place: String,
        /// How many events, datagrams or connections.
        count: u64,
        /// How many bytes.
        bytes: u64,
        /// Why, and what would help.
        why: String,
        /// Since when at the earliest, where the interval is known.
        since: Option<Timestamp>,
        /// Until when at the latest.
        until: Option<Timestamp>,
    }
    /// A daemon's state: start, stop, heartbeat, clock step, listener trouble.
    Health {
        /// start, stop, heartbeat, clock_step, listener, wall, identity.
        what: String,
        /// In words.
        message: String,
        /// Measures.
        fields: serde_json::Map<String, serde_json::Value>,
    }
    /// A hole in a log: records that are not and will not be there.
    Gap {
        /// First missing sequence number, when known.
        from: Option<u64>,
        /// Last missing sequence number, when known.
        to: Option<u64>,
        /// The log the hole is in, when it is not this one.
        log: Option<String>,
        /// Why.
        why: String,
    }
    /// An operator did something.
    Audit {
        /// reveal, export, replay, enroll, revoke, ….
        action: String,
        /// User id of the operator.
        uid: u32,
        /// User name of the operator.
        user: String,
        /// What it was done to.
        object: String,
        /// The reason given.
        reason: String,
    }
    /// Signed head of a log.
    Checkpoint {
        /// Last sequence number covered.
        seq: u64,
        /// Chain head, hexadecimal.
        chain: String,
        /// Note in C2SP tlog-checkpoint form.
        note: String,
    }
    /// Packets the wall dropped, of one attempt: same ends but for the sender's port, same interface and rule.
    Blocked {
        /// `out` of the node's host, `in` to it, or `forward` through it.
        direction: String,
        /// IP protocol number.
        protocol: u8,
        /// TCP flags of the first, 0 for others.
        flags: u8,
        /// Type and code, for ICMP.
        icmp: Option<(u8, u8)>,
        /// Interface it came in on, or was to leave by.
        interface: String,
        /// Log prefix of the rule.
        prefix: String,
        /// User whose socket sent it, when it was sent on the node's host.
        uid: Option<u32>,
        /// Packets since the record before.
        count: u64,
        /// Packets since the first.
        total: u64,
        /// First packet.
        first: Option<Timestamp>,
        /// Last packet.
        last: Option<Timestamp>,
        /// Bytes of the first.
        len: u64,
        /// Its first bytes from the IP header, at most 64, hexadecimal.
        bytes: String,
    }
    /// A line from a router, switch, firewall or proxy.
    Device {
        /// Input it came by.
        input: String,
        /// The raw line.
        raw: WireText,
        /// Normalised fields.
        fields: serde_json::Map<String, serde_json::Value>,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn empty_fields_are_left_out_and_come_back() {
        let login = Login { user: "root".into(), method: "password".into(), ..Login::default() };
        let json = serde_json::to_string(&login).unwrap();
        assert_eq!(json, r#"{"user":"root","method":"password","secret_len":0,"accepted":false}"#);
        assert_eq!(serde_json::from_str::<Login>(&json).unwrap(), login);
    }

    #[test]
    fn unknown_fields_are_ignored() {
        let gap: Gap = serde_json::from_str(r#"{"why":"x","later":1}"#).unwrap();
        assert_eq!(gap.why, "x");
    }
}
