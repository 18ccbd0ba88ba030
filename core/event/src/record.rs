//! Record encoding, version 1:
//!
//! ```text
//! version u8 ‖ log id 16 ‖ seq u64 BE ‖ wall i64 BE ns UTC ‖ monotonic u64 BE ns ‖ boot id 16
//! ‖ postcard envelope ‖ JSON detail (UTF-8 object, to the end)
//! ```
//!
//! Session tasks encode the [`Body`]; the journal thread prepends the header. The bytes are hashed,
//! stored, sent and exported as they are. A reader that meets an unknown version keeps the bytes.

use crate::envelope::{Envelope, Wire};
use crate::id::{EventId, LogId};
use serde::Serialize;
use sha2::{Digest, Sha256};

/// The version this build writes; it reads 1..=1.
pub const VERSION: u8 = 1;
/// Bytes before the envelope.
pub const HEADER_LEN: usize = 1 + 16 + 8 + 8 + 8 + 16;
/// Largest record; a detail that would exceed it goes to a blob.
pub const MAX_RECORD: usize = 16 * 1024;
/// Largest body: [`MAX_RECORD`] without the header.
pub const MAX_BODY: usize = MAX_RECORD - HEADER_LEN;

/// Why bytes are not a record, or a body cannot become one.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum RecordError {
    /// Shorter than a header.
    #[error("record of {0} bytes is shorter than its header")]
    Short(usize),
    /// A version this build does not know; keep the bytes.
    #[error("record version {0} is unknown to this build (it reads 1)")]
    Version(u8),
    /// The envelope does not decode.
    #[error("record envelope is damaged")]
    Envelope,
    /// The detail is not a JSON object.
    #[error("record detail is not a JSON object")]
    Detail,
    /// The body is larger than [`MAX_BODY`].
    #[error("record body of {0} bytes is over the limit of {MAX_BODY}")]
    Large(usize),
}

/// Envelope and detail, encoded, without a header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Body(Vec<u8>);

impl Body {
    /// Encodes; fails when the result would not fit a record.
    pub fn encode<D: Serialize + ?Sized>(envelope: &Envelope, detail: &D) -> Result<Self, RecordError> {
        let mut bytes = postcard::to_stdvec(&Wire::from(envelope)).map_err(|_| RecordError::Envelope)?;
        serde_json::to_writer(&mut bytes, detail).map_err(|_| RecordError::Detail)?;
        if bytes.len() > MAX_BODY {
            return Err(RecordError::Large(bytes.len()));
        }
        Ok(Self(bytes))
    }

    /// The encoded bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The whole record under `header`.
    pub fn with_header(&self, header: &Header) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER_LEN + self.0.len());
        out.push(VERSION);
        out.extend_from_slice(&header.log.0);
        out.extend_from_slice(&header.seq.to_be_bytes());
        out.extend_from_slice(&header.wall_ns.to_be_bytes());
        out.extend_from_slice(&header.mono_ns.to_be_bytes());
        out.extend_from_slice(&header.boot);
        out.extend_from_slice(&self.0);
        out
    }
}

/// The fixed part of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The journal the record belongs to.
    pub log: LogId,
    /// Its place in it, from 1.
    pub seq: u64,
    /// Wall time, nanoseconds UTC.
    pub wall_ns: i64,
    /// Monotonic clock of the node, nanoseconds.
    pub mono_ns: u64,
    /// Boot id of the node's kernel.
    pub boot: [u8; 16],
}

/// A record read in place.
#[derive(Clone, Copy, Debug)]
pub struct RecordView<'a> {
    /// The fixed part.
    pub header: Header,
    bytes: &'a [u8],
}

impl<'a> RecordView<'a> {
    /// Reads the header; the rest is decoded on demand.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, RecordError> {
        let short = || RecordError::Short(bytes.len());
        let (version, rest) = bytes.split_first().ok_or_else(short)?;
        if *version != VERSION {
            return Err(RecordError::Version(*version));
        }
        let (log, rest) = rest.split_first_chunk::<16>().ok_or_else(short)?;
        let (seq, rest) = rest.split_first_chunk::<8>().ok_or_else(short)?;
        let (wall, rest) = rest.split_first_chunk::<8>().ok_or_else(short)?;
        let (mono, rest) = rest.split_first_chunk::<8>().ok_or_else(short)?;
        let (boot, _) = rest.split_first_chunk::<16>().ok_or_else(short)?;
        let header = Header {
            log: LogId(*log),
            seq: u64::from_be_bytes(*seq),
            wall_ns: i64::from_be_bytes(*wall),
            mono_ns: u64::from_be_bytes(*mono),
            boot: *boot,
        };
        Ok(Self { header, bytes })
    }

    /// The whole record, as stored.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Everything behind the header.
    pub fn body(&self) -> &'a [u8] {
        self.bytes.get(HEADER_LEN..).unwrap_or_default()
    }

    /// Envelope, and the detail as JSON text.
    pub fn split(&self) -> Result<(Envelope, &'a str), RecordError> {
        let (wire, rest) = postcard::take_from_bytes::<Wire>(self.body()).map_err(|_| RecordError::Envelope)?;
        let detail = std::str::from_utf8(rest).map_err(|_| RecordError::Detail)?;
        Ok((wire.into(), detail))
    }

    /// The detail as one of the shapes in [`crate::detail`], or as any JSON value.
    pub fn detail<T: serde::de::DeserializeOwned>(&self) -> Result<T, RecordError> {
        let (_, detail) = self.split()?;
        serde_json::from_str(detail).map_err(|_| RecordError::Detail)
    }

    /// The event's identifier.
    pub fn id(&self) -> EventId {
        EventId::derive(self.header.log, self.header.seq)
    }

    /// Leaf hash: SHA-256(0x00 ‖ record), as in RFC 6962 §2.1.
    pub fn leaf(&self) -> [u8; 32] {
        leaf_hash(self.bytes)
    }
}

/// Leaf hash of record bytes: SHA-256(0x00 ‖ record).
pub fn leaf_hash(record: &[u8]) -> [u8; 32] {
    Sha256::new().chain_update([0]).chain_update(record).finalize().into()
}

/// Next head of the hash chain: SHA-256(0x02 ‖ previous head ‖ leaf). The head before the first record is zero.
pub fn chain_hash(previous: &[u8; 32], leaf: &[u8; 32]) -> [u8; 32] {
    Sha256::new().chain_update([2]).chain_update(previous).chain_update(leaf).finalize().into()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::envelope::{Endpoint, Transport, Tuple};
    use crate::id::{ConnId, SessionId};
    use crate::text::hex;
    use proptest::prelude::*;

    fn sample() -> (Envelope, Header) {
        let end = |ip: &str, port| Endpoint { ip: ip.parse().unwrap(), port };
        let envelope = Envelope {
            kind: 3,
            session: Some(SessionId([0x11; 16])),
            parent: None,
            conn: Some(ConnId([0x22; 16])),
            decoy: Some("web-1".into()),
            service: Some("ssh".into()),
            transport: Some(Transport::Tcp),
            wire: Some(Tuple { source: end("192.0.2.7", 40001), destination: end("2001:db8::1", 22) }),
            claimed: None,
        };
        let header = Header { log: LogId([0x33; 16]), seq: 7, wall_ns: 1_700_000_000_000_000_001, mono_ns: 99, boot: [0x44; 16] };
        (envelope, header)
    }

    /// Golden vector of record version 1. A change here breaks every stored journal: add a version instead.
    #[test]
    fn golden_v1() {
        let (envelope, header) = sample();
        let record = Body::encode(&envelope, &serde_json::json!({"user": "root"})).unwrap().with_header(&header);
        let expected = concat!(
            "01",
            "33333333333333333333333333333333",
            "0000000000000007",
            "17979cfe362a0001",
            "0000000000000063",
            "44444444444444444444444444444444",
            "00", // envelope variant V1
            "03", // kind
            "01",
            "11111111111111111111111111111111",
            "00",
            "01",
            "22222222222222222222222222222222",
            "01",
            "05",
            "7765622d31",
            "01",
            "03",
            "737368",
            "01",
            "06",
            "01",
            "00",
            "c0000207",
            "c1b802",
            "01",
            "20010db8000000000000000000000001",
            "16",
            "00",
            "7b2275736572223a22726f6f74227d"
        );
        assert_eq!(hex(&record), expected);
        let view = RecordView::parse(&record).unwrap();
        assert_eq!(view.header, header);
        let (back, detail) = view.split().unwrap();
        assert_eq!(back, envelope);
        assert_eq!(detail, r#"{"user":"root"}"#);
    }

    #[test]
    fn chain_golden() {
        let leaf = leaf_hash(b"record");
        assert_eq!(hex(&leaf), "e610a112edd75ddb57ea4d2ed191a086bc913ce590bb8f2b6db95d3cc3fe2e0e");
        assert_eq!(hex(&chain_hash(&[0; 32], &leaf)), "8b0ceafeaeb0714e3d048a6247d29971d07229d55f77c7cd7cd725fe87ae732d");
    }

    #[test]
    fn bad_records_are_errors() {
        assert_eq!(RecordView::parse(b"").unwrap_err(), RecordError::Short(0));
        assert_eq!(RecordView::parse(&[9; 80]).unwrap_err(), RecordError::Version(9));
        let (envelope, header) = sample();
        let big = "x".repeat(MAX_RECORD);
        assert!(matches!(Body::encode(&envelope, &big), Err(RecordError::Large(_))));
        let record = Body::encode(&envelope, &serde_json::json!({})).unwrap().with_header(&header);
        for cut in 0..record.len() {
            let part = record.get(..cut).unwrap();
            if let Ok(view) = RecordView::parse(part) {
                let _ = view.split();
            }
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
            let mut bytes = bytes;
            if let Some(first) = bytes.first_mut() { *first = VERSION; }
            if let Ok(view) = RecordView::parse(&bytes) {
                let _ = view.split();
                let _ = view.detail::<serde_json::Value>();
            }
        }
    }
}
