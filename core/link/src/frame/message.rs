//! The messages inside frames. postcard has no field tags: a published `V1` never changes, a new
//! shape is a new variant at the end of its enum, and golden vectors hold each.

use super::{Frame, FrameError};
use crate::name::{BlobName, NodeName, Role};
use bytes::{Buf, Bytes};
use glasshive_event::LogId;
use serde::{Deserialize, Serialize};

/// Oldest protocol version this build speaks.
pub const VERSION_MIN: u16 = 1;
/// Newest protocol version this build speaks.
pub const VERSION_MAX: u16 = 1;

/// Frame types. Numbers are never reused.
pub mod kind {
    #![allow(missing_docs)]
    pub const HELLO: u8 = 1;
    pub const WELCOME: u8 = 2;
    pub const BATCH: u8 = 3;
    pub const ACK: u8 = 4;
    pub const NACK: u8 = 5;
    pub const GAP: u8 = 6;
    pub const CKPT: u8 = 7;
    pub const PING: u8 = 8;
    pub const PONG: u8 = 9;
    pub const GOAWAY: u8 = 10;
    pub const JOIN: u8 = 16;
    pub const JOINED: u8 = 17;
    pub const RENEW: u8 = 18;
    pub const RENEWED: u8 = 19;
    pub const FILE_GET: u8 = 32;
    pub const FILE_DATA: u8 = 33;
    pub const FILE_END: u8 = 34;
    pub const CANCEL: u8 = 35;
    pub const CREDIT: u8 = 36;
    pub const REFUSED: u8 = 37;
    /// Packets of the sensor's ring; a node without them answers REFUSED.
    pub const CARVE: u8 = 40;
    pub const CARVE_DATA: u8 = 41;
    pub const CARVE_END: u8 = 42;
}

macro_rules! versioned {
    ($($(#[$doc:meta])* $name:ident { $($(#[$fdoc:meta])* $field:ident : $type:ty),* $(,)? })*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
        pub struct $name { $($(#[$fdoc])* pub $field: $type),* }
    )*};
}

versioned! {
    /// First frame of a node on the main and the bulk connection.
    Hello {
        /// Oldest version spoken.
        oldest: u16,
        /// Newest version spoken.
        newest: u16,
        /// Who: must equal the certificate's.
        node: NodeName,
        /// Which daemon: must equal the registry's.
        role: Role,
        /// Product version.
        product: String,
        /// The journal's life.
        log: LogId,
        /// Oldest record kept.
        first: u64,
        /// One more than the last durable record.
        next: u64,
        /// Chain head there.
        chain_head: [u8; 32],
    }
    /// The controller's answer to HELLO.
    Welcome {
        /// Version to speak.
        version: u16,
        /// Highest durable record of that log here; sending goes on behind it.
        durable: u64,
        /// Bytes that may be sent and not yet acknowledged.
        credit: u32,
        /// Largest frame.
        max_frame: u32,
        /// The controller's wall time, nanoseconds.
        wall_ns: i64,
    }
    /// Everything up to `durable` is durable at the controller.
    Ack {
        /// Highest durable record.
        durable: u64,
        /// Bytes that may be sent and not yet acknowledged from now on.
        credit: u32,
    }
    /// A batch was not taken; sending goes on at `expected`.
    Nack {
        /// The record wanted next.
        expected: u64,
        /// Why.
        why: NackWhy,
    }
    /// Records a node does not have any more.
    GapFrame {
        /// The log.
        log: LogId,
        /// First missing.
        from: u64,
        /// Last missing.
        to: u64,
        /// Why.
        why: String,
    }
    /// Are you there; measures the clock offset.
    Ping {
        /// Echoed in PONG.
        id: u64,
        /// Sender's wall time, nanoseconds.
        wall_ns: i64,
        /// The node's next record (0 from the controller).
        next: u64,
    }
    /// Answer to PING.
    Pong {
        /// The PING's.
        id: u64,
        /// Answerer's wall time, nanoseconds.
        wall_ns: i64,
        /// The node's next record (0 from the controller).
        next: u64,
    }
    /// The connection ends here.
    GoAway {
        /// When to come back, milliseconds.
        retry_after_ms: u64,
        /// Why, for programs.
        why: GoAwayWhy,
        /// Why, for people.
        text: String,
    }
    /// A request to become a node, before any certificate.
    Join {
        /// Secret of the one-time token.
        secret: [u8; 32],
        /// The name on the token.
        node: NodeName,
        /// Certificate signing request, PEM.
        csr: String,
    }
    /// Asks for part of a blob.
    FileGet {
        /// Number of the request on this connection.
        request: u32,
        /// Which blob.
        name: BlobName,
        /// First byte.
        offset: u64,
        /// How many at most; `u64::MAX` = to the end.
        len: u64,
        /// Bytes that may be sent before more credit comes.
        credit: u32,
    }
    /// An answer's end.
    FileEnd {
        /// The request.
        request: u32,
        /// Size of the whole blob as stored on the node.
        total: u64,
    }
    /// More bytes of an answer may be sent.
    Credit {
        /// The request.
        request: u32,
        /// How many more.
        bytes: u32,
    }
    /// A request will not be answered (further).
    Refused {
        /// The request.
        request: u32,
        /// Why.
        why: RefusedWhy,
    }
}

/// Why a batch was not taken. Variants are only added at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NackWhy {
    /// Not the record expected next.
    Sequence,
    /// The hash chain does not continue.
    Chain,
    /// A record differs from the one already held.
    Tamper,
    /// Not well-formed.
    Damaged,
}

/// Why a connection ends. Variants are only added at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum GoAwayWhy {
    /// The other side is stopping.
    Stopping,
    /// Too many connections, or a limit on attempts.
    Busy,
    /// No room in the store.
    Full,
    /// A newer connection of the same node took over.
    Replaced,
    /// The node was revoked.
    Revoked,
    /// The token is wrong, used or expired.
    Token,
    /// Name or role differ from certificate or registry.
    Identity,
    /// No common version.
    Version,
    /// A frame that makes no sense.
    Protocol,
    /// The same log, other records.
    Diverged,
}

/// Why a bulk request is not answered. Variants are only added at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RefusedWhy {
    /// There is no such blob (any more).
    NotFound,
    /// This node cannot do that.
    NotSupported,
    /// Too many requests at once.
    Busy,
    /// The node could not read it.
    Failed,
    /// The node does not understand the question.
    Question,
}

impl std::fmt::Display for RefusedWhy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::NotFound => "not kept by this node (any more)",
            Self::NotSupported => "not supported by this node",
            Self::Busy => "too many requests at once on this node",
            Self::Failed => "the node could not read it",
            Self::Question => "the node does not understand the question",
        })
    }
}

/// Whole blocks of records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// The log.
    pub log: LogId,
    /// First record.
    pub first: u64,
    /// How many.
    pub count: u64,
    /// Chain head before the first.
    pub chain_before: [u8; 32],
    /// Block bytes.
    pub records: Bytes,
}

/// A signed checkpoint note.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// The log.
    pub log: LogId,
    /// The note.
    pub note: Bytes,
}

/// Part of a blob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileData {
    /// The request.
    pub request: u32,
    /// Where the bytes stand in the blob.
    pub offset: u64,
    /// The bytes.
    pub bytes: Bytes,
}

/// A numbered request with its question, or the last word of its answer: both JSON, see [`crate::carve`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BulkRequest {
    /// The request.
    pub request: u32,
    /// Its content.
    pub query: Bytes,
}

/// Any message.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Message {
    Hello(Hello),
    Welcome(Welcome),
    Batch(Batch),
    Ack(Ack),
    Nack(Nack),
    Gap(GapFrame),
    Checkpoint(Note),
    Ping(Ping),
    Pong(Pong),
    GoAway(GoAway),
    Join(Join),
    /// The bundle, JSON.
    Joined(Bytes),
    /// Certificate signing request, PEM.
    Renew(Bytes),
    /// The bundle, JSON.
    Renewed(Bytes),
    FileGet(FileGet),
    FileData(FileData),
    FileEnd(FileEnd),
    /// The request is not wanted any more.
    Cancel(u32),
    Credit(Credit),
    Refused(Refused),
    /// The query, JSON.
    Carve(BulkRequest),
    CarveData(FileData),
    /// The statement, JSON.
    CarveEnd(BulkRequest),
    /// A type of a later version: ignored.
    Unknown(u8),
}

/// Wire form: one enum per message, so that each can grow alone.
#[derive(Serialize, Deserialize)]
enum Wire<T> {
    V1(T),
}

type BatchHead = (LogId, u64, u64, [u8; 32]);

impl Message {
    /// The frame that carries the message.
    pub fn frame(&self) -> Result<Frame, FrameError> {
        use kind::*;
        Ok(match self {
            Self::Hello(m) => Frame::plain(HELLO, head(HELLO, m)?),
            Self::Welcome(m) => Frame::plain(WELCOME, head(WELCOME, m)?),
            Self::Batch(m) => {
                let head_of: BatchHead = (m.log, m.first, m.count, m.chain_before);
                Frame::compressed(BATCH, joined(head(BATCH, &head_of)?, &m.records))
            }
            Self::Ack(m) => Frame::plain(ACK, head(ACK, m)?),
            Self::Nack(m) => Frame::plain(NACK, head(NACK, m)?),
            Self::Gap(m) => Frame::plain(GAP, head(GAP, m)?),
            Self::Checkpoint(m) => Frame::plain(CKPT, joined(head(CKPT, &m.log)?, &m.note)),
            Self::Ping(m) => Frame::plain(PING, head(PING, m)?),
            Self::Pong(m) => Frame::plain(PONG, head(PONG, m)?),
            Self::GoAway(m) => Frame::plain(GOAWAY, head(GOAWAY, m)?),
            Self::Join(m) => Frame::plain(JOIN, head(JOIN, m)?),
            Self::Joined(bytes) => Frame::plain(JOINED, bytes.clone()),
            Self::Renew(bytes) => Frame::plain(RENEW, bytes.clone()),
            Self::Renewed(bytes) => Frame::plain(RENEWED, bytes.clone()),
            Self::FileGet(m) => Frame::plain(FILE_GET, head(FILE_GET, m)?),
            Self::FileData(m) => Frame::plain(FILE_DATA, joined(head(FILE_DATA, &(m.request, m.offset))?, &m.bytes)),
            Self::FileEnd(m) => Frame::plain(FILE_END, head(FILE_END, m)?),
            Self::Cancel(request) => Frame::plain(CANCEL, head(CANCEL, request)?),
            Self::Credit(m) => Frame::plain(CREDIT, head(CREDIT, m)?),
            Self::Refused(m) => Frame::plain(REFUSED, head(REFUSED, m)?),
            Self::Carve(m) => Frame::plain(CARVE, joined(head(CARVE, &m.request)?, &m.query)),
            Self::CarveData(m) => Frame::plain(CARVE_DATA, joined(head(CARVE_DATA, &(m.request, m.offset))?, &m.bytes)),
            Self::CarveEnd(m) => Frame::compressed(CARVE_END, joined(head(CARVE_END, &m.request)?, &m.query)),
            Self::Unknown(kind) => Frame::plain(*kind, Bytes::new()),
        })
    }

    /// Reads a frame.
    pub fn decode(frame: &Frame) -> Result<Self, FrameError> {
        use kind::*;
        let body = frame.body()?;
        Ok(match frame.kind {
            HELLO => Self::Hello(whole(HELLO, &body)?),
            WELCOME => Self::Welcome(whole(WELCOME, &body)?),
            BATCH => {
                let ((log, first, count, chain_before), records) = split::<BatchHead>(BATCH, body)?;
                if count == 0 || first == 0 || first.checked_add(count).is_none() {
                    return Err(FrameError::Malformed(BATCH));
                }
                Self::Batch(Batch { log, first, count, chain_before, records })
            }
            ACK => Self::Ack(whole(ACK, &body)?),
            NACK => Self::Nack(whole(NACK, &body)?),
            GAP => {
                let gap: GapFrame = whole(GAP, &body)?;
                if gap.from == 0 || gap.to < gap.from || gap.to == u64::MAX {
                    return Err(FrameError::Malformed(GAP));
                }
                Self::Gap(gap)
            }
            CKPT => {
                let (log, note) = split(CKPT, body)?;
                Self::Checkpoint(Note { log, note })
            }
            PING => Self::Ping(whole(PING, &body)?),
            PONG => Self::Pong(whole(PONG, &body)?),
            GOAWAY => Self::GoAway(whole(GOAWAY, &body)?),
            JOIN => Self::Join(whole(JOIN, &body)?),
            JOINED => Self::Joined(body),
            RENEW => Self::Renew(body),
            RENEWED => Self::Renewed(body),
            FILE_GET => Self::FileGet(whole(FILE_GET, &body)?),
            FILE_DATA => {
                let ((request, offset), bytes) = split::<(u32, u64)>(FILE_DATA, body)?;
                Self::FileData(FileData { request, offset, bytes })
            }
            FILE_END => Self::FileEnd(whole(FILE_END, &body)?),
            CANCEL => Self::Cancel(whole(CANCEL, &body)?),
            CREDIT => Self::Credit(whole(CREDIT, &body)?),
            REFUSED => Self::Refused(whole(REFUSED, &body)?),
            CARVE => {
                let (request, query) = split(CARVE, body)?;
                Self::Carve(BulkRequest { request, query })
            }
            CARVE_DATA => {
                let ((request, offset), bytes) = split::<(u32, u64)>(CARVE_DATA, body)?;
                Self::CarveData(FileData { request, offset, bytes })
            }
            CARVE_END => {
                let (request, query) = split(CARVE_END, body)?;
                Self::CarveEnd(BulkRequest { request, query })
            }
            other => Self::Unknown(other),
        })
    }
}

fn head<T: Serialize>(kind: u8, value: &T) -> Result<Vec<u8>, FrameError> {
    postcard::to_stdvec(&Wire::V1(value)).map_err(|_| FrameError::Malformed(kind))
}

fn joined(mut head: Vec<u8>, raw: &[u8]) -> Vec<u8> {
    head.extend_from_slice(raw);
    head
}

/// A head and the raw bytes behind it.
fn split<T: serde::de::DeserializeOwned>(kind: u8, mut body: Bytes) -> Result<(T, Bytes), FrameError> {
    let (Wire::V1(value), rest) = postcard::take_from_bytes::<Wire<T>>(&body).map_err(|_| FrameError::Malformed(kind))?;
    let used = body.len().saturating_sub(rest.len());
    body.advance(used);
    Ok((value, body))
}

/// A head with nothing behind it.
fn whole<T: serde::de::DeserializeOwned>(kind: u8, body: &Bytes) -> Result<T, FrameError> {
    match postcard::take_from_bytes::<Wire<T>>(body) {
        Ok((Wire::V1(value), [])) => Ok(value),
        _ => Err(FrameError::Malformed(kind)),
    }
}
