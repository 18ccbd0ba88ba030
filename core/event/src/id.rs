//! Identifiers: sessions, logs, events and the wire join key.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
        pub struct $name(pub [u8; 16]);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                uuid::Uuid::from_bytes(self.0).hyphenated().fmt(f)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
        impl FromStr for $name {
            type Err = uuid::Error;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Ok(Self(*uuid::Uuid::parse_str(text)?.as_bytes()))
            }
        }
        /// Text in formats people read (JSON), sixteen raw bytes in postcard.
        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                if s.is_human_readable() {
                    s.collect_str(self)
                } else {
                    self.0.serialize(s)
                }
            }
        }
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                if d.is_human_readable() {
                    let text = std::borrow::Cow::<'de, str>::deserialize(d)?;
                    text.parse().map_err(serde::de::Error::custom)
                } else {
                    <[u8; 16]>::deserialize(d).map(Self)
                }
            }
        }
    };
}

uuid_id!(
    /// One visitor's exchange with one service: a UUIDv7 given by the decoys' listener.
    SessionId
);
uuid_id!(
    /// One journal life: random, and new after quarantine, restore or re-enrolment.
    LogId
);
uuid_id!(
    /// UUIDv8 over (log, seq); derived, never stored.
    EventId
);

uuid_id!(
    /// What the sensor saw between two ends: UUIDv8 of the first packet's millisecond and a hash, so
    /// that live capture and reading the file give the same.
    FlowId
);
uuid_id!(
    /// A detector's judgement: UUIDv8 of a hash over detector, version, key and first evidence.
    FindingId
);

impl FlowId {
    /// From the segment's name (empty when none is given), the IP protocol, the ends as seen on the
    /// first packet, the first sequence number (0 without TCP) and the first packet's time.
    pub fn derive(segment: &str, protocol: u8, source: SocketAddr, destination: SocketAddr, isn: u32, first: crate::Timestamp) -> Self {
        let ConnId(conn) = ConnId::derive(segment, protocol, source, destination, isn);
        let digest = Sha256::new().chain_update(conn).chain_update(first.0.to_be_bytes()).finalize();
        let millis = u64::try_from(first.0.div_euclid(1_000_000)).unwrap_or(0).to_be_bytes();
        let mut bytes = [0u8; 16];
        for (to, from) in bytes.iter_mut().zip(millis.iter().skip(2).chain(digest.iter())) {
            *to = *from;
        }
        Self(*uuid::Builder::from_custom_bytes(bytes).into_uuid().as_bytes())
    }

    /// The millisecond its first packet was captured in: what an export of the flow begins with.
    pub fn opened(&self) -> crate::Timestamp {
        let [a, b, c, d, e, f, ..] = self.0;
        let millis = i64::from_be_bytes([0, 0, a, b, c, d, e, f]);
        crate::Timestamp(millis.saturating_mul(1_000_000))
    }

    /// The eight characters people type: the last eight hexadecimal digits.
    pub fn short(&self) -> String {
        short(&self.to_string())
    }
}

impl FindingId {
    /// From the detector, its version, the matter's key and the time of the first evidence.
    pub fn derive(detector: &str, version: u16, key: &str, first: crate::Timestamp) -> Self {
        let digest = Sha256::new()
            .chain_update(detector.as_bytes())
            .chain_update([0])
            .chain_update(version.to_be_bytes())
            .chain_update(key.as_bytes())
            .chain_update([0])
            .chain_update(first.0.to_be_bytes())
            .finalize();
        let mut bytes = [0u8; 16];
        for (to, from) in bytes.iter_mut().zip(digest.iter()) {
            *to = *from;
        }
        Self(*uuid::Builder::from_custom_bytes(bytes).into_uuid().as_bytes())
    }

    /// The eight characters people type: the last eight hexadecimal digits.
    pub fn short(&self) -> String {
        short(&self.to_string())
    }
}

fn short(text: &str) -> String {
    text.get(text.len().saturating_sub(8)..).unwrap_or(text).to_owned()
}

impl SessionId {
    /// A UUIDv7 from a wall time in nanoseconds and ten random bytes.
    ///
    /// The clock and the randomness come from the caller: this crate has neither.
    pub fn new(wall_ns: i64, random: [u8; 10]) -> Self {
        let millis = u64::try_from(wall_ns / 1_000_000).unwrap_or(0);
        Self(*uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid().as_bytes())
    }

    /// The eight characters people type: the last eight hexadecimal digits, which are random.
    pub fn short(&self) -> String {
        short(&self.to_string())
    }

    /// Milliseconds since 1970 kept in the identifier.
    pub fn unix_ms(&self) -> u64 {
        let [a, b, c, d, e, f, ..] = self.0;
        u64::from_be_bytes([0, 0, a, b, c, d, e, f])
    }
}

impl EventId {
    /// UUIDv8 of the first sixteen bytes of SHA-256(log ‖ seq BE).
    pub fn derive(log: LogId, seq: u64) -> Self {
        let digest = Sha256::new().chain_update(log.0).chain_update(seq.to_be_bytes()).finalize();
        let mut bytes = [0u8; 16];
        for (to, from) in bytes.iter_mut().zip(digest.iter()) {
            *to = *from;
        }
        Self(*uuid::Builder::from_custom_bytes(bytes).into_uuid().as_bytes())
    }
}

/// The join key of decoys and sensor: the first sixteen bytes of
/// SHA-256(net ‖ 0 ‖ protocol ‖ source address ‖ source port ‖ destination address ‖ destination
/// port ‖ client ISN), addresses as IPv6 (v4-mapped for IPv4), numbers big endian.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ConnId(#[serde(with = "hex16")] pub [u8; 16]);

impl ConnId {
    /// Computes the key from what is on the wire; `protocol` is the IP protocol number (6 for TCP).
    pub fn derive(net: &str, protocol: u8, source: SocketAddr, destination: SocketAddr, isn: u32) -> Self {
        let mut hash = Sha256::new().chain_update(net.as_bytes()).chain_update([0, protocol]);
        for end in [source, destination] {
            let ip = match end.ip() {
                std::net::IpAddr::V4(v4) => v4.to_ipv6_mapped(),
                std::net::IpAddr::V6(v6) => v6,
            };
            hash.update(ip.octets());
            hash.update(end.port().to_be_bytes());
        }
        hash.update(isn.to_be_bytes());
        let mut bytes = [0u8; 16];
        for (to, from) in bytes.iter_mut().zip(hash.finalize().iter()) {
            *to = *from;
        }
        Self(bytes)
    }
}

impl fmt::Display for ConnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&crate::text::hex(&self.0))
    }
}
impl fmt::Debug for ConnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

mod hex16 {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8; 16], s: S) -> Result<S::Ok, S::Error> {
        if s.is_human_readable() { s.serialize_str(&crate::text::hex(bytes)) } else { bytes.serialize(s) }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<[u8; 16], D::Error> {
        if d.is_human_readable() {
            let text = std::borrow::Cow::<'de, str>::deserialize(d)?;
            crate::text::unhex(&text)
                .and_then(|bytes| <[u8; 16]>::try_from(bytes).ok())
                .ok_or_else(|| serde::de::Error::custom("expected 32 hexadecimal digits"))
        } else {
            <[u8; 16]>::deserialize(d)
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn session_id_is_uuid_v7_with_its_time() {
        let id = SessionId::new(1_700_000_000_123_456_789, [7; 10]);
        assert_eq!(id.unix_ms(), 1_700_000_000_123);
        assert_eq!(id.to_string(), "018bcfe5-687b-7707-8707-070707070707");
        assert_eq!(id.short(), "07070707");
        assert_eq!(id.to_string().parse::<SessionId>().unwrap(), id);
    }

    #[test]
    fn event_id_golden() {
        let id = EventId::derive(LogId([1; 16]), 42);
        assert_eq!(id.to_string().as_bytes().get(14), Some(&b'8'));
        assert_eq!(id, EventId::derive(LogId([1; 16]), 42));
        assert_ne!(id, EventId::derive(LogId([1; 16]), 43));
    }

    #[test]
    fn flow_id_sorts_by_time_and_depends_on_every_part() {
        let a: SocketAddr = "10.0.0.1:1234".parse().unwrap();
        let b: SocketAddr = "10.0.0.2:22".parse().unwrap();
        let at = |ns: i64| crate::Timestamp(1_700_000_000_123_000_000 + ns);
        let base = FlowId::derive("", 6, a, b, 1, at(0));
        for other in [
            FlowId::derive("s", 6, a, b, 1, at(0)),
            FlowId::derive("", 17, a, b, 1, at(0)),
            FlowId::derive("", 6, b, a, 1, at(0)),
            FlowId::derive("", 6, a, b, 2, at(0)),
            FlowId::derive("", 6, a, b, 1, at(1)),
        ] {
            assert_ne!(base, other);
        }
        assert!(base < FlowId::derive("", 6, a, b, 1, at(5_000_000)));
        assert!(base.to_string().starts_with("018bcfe5-687b-8"), "{base}");
    }

    /// Computed apart, from the words of [`FlowId::derive`] and [`FindingId::derive`] alone.
    #[test]
    fn flow_and_finding_ids_golden() {
        let end = |text: &str| text.parse::<SocketAddr>().unwrap();
        let first = crate::Timestamp(1_700_000_000_123_456_789);
        for (segment, protocol, source, destination, isn, expected) in [
            ("", 6, "10.0.0.1:1234", "10.0.0.2:22", 0x1234_5678, "018bcfe5-687b-86d0-9c2c-33ce074b611e"),
            ("lab", 17, "[2001:db8::1]:53", "[2001:db8::2]:5353", 0, "018bcfe5-687b-8499-bed1-c9765ce9edd4"),
        ] {
            let id = FlowId::derive(segment, protocol, end(source), end(destination), isn, first);
            assert_eq!(id.to_string(), expected);
            assert_eq!(id.opened(), crate::Timestamp(1_700_000_000_123_000_000));
        }
        assert_eq!(
            FindingId::derive("scan", 1, "ports tcp connect 10.0.0.1 10.0.0.2", first).to_string(),
            "f9451fc9-b674-863a-9a5c-521eb7e74e58"
        );
    }

    #[test]
    fn finding_id_depends_on_every_part() {
        let at = crate::Timestamp(5);
        let base = FindingId::derive("scan", 1, "k", at);
        for other in [
            FindingId::derive("scan", 2, "k", at),
            FindingId::derive("scam", 1, "k", at),
            FindingId::derive("scan", 1, "l", at),
            FindingId::derive("scan", 1, "k", crate::Timestamp(6)),
        ] {
            assert_ne!(base, other);
        }
    }

    #[test]
    fn conn_id_depends_on_every_part() {
        let a: SocketAddr = "10.0.0.1:1234".parse().unwrap();
        let b: SocketAddr = "10.0.0.2:22".parse().unwrap();
        let base = ConnId::derive("n", 6, a, b, 1);
        let all = [
            ConnId::derive("m", 6, a, b, 1),
            ConnId::derive("n", 17, a, b, 1),
            ConnId::derive("n", 6, b, a, 1),
            ConnId::derive("n", 6, a, b, 2),
        ];
        assert!(all.iter().all(|other| *other != base));
        let mapped: SocketAddr = "[::ffff:10.0.0.1]:1234".parse().unwrap();
        assert_eq!(base, ConnId::derive("n", 6, mapped, b, 1));
    }
}
