//! Frames: the unit both ends of the link read and write.
//!
//! ```text
//! length u32 BE (of what follows, 2 ..= 4 MiB) ‖ type u8 ‖ flags u8 ‖ body
//! flags bit 0: the body is u32 BE raw length ‖ zstd frame; other bits are zero
//! ```
//!
//! Every length is checked before anything is allocated for it, and a compressed body may neither
//! be declared larger than [`MAX_RAW`] nor than [`MAX_RATIO`] times its size: a node may belong to
//! the adversary. This module must never panic on any bytes.

mod message;

pub use message::{
    Ack, Batch, BulkRequest, Credit, FileData, FileEnd, FileGet, GapFrame, GoAway, GoAwayWhy, Hello, Join, Message, Nack, NackWhy, Note,
    Ping, Pong, Refused, RefusedWhy, VERSION_MAX, VERSION_MIN, Welcome, kind,
};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio_util::codec::{Decoder, Encoder};

/// Largest frame: type, flags and body.
pub const MAX_FRAME: usize = 4 * 1024 * 1024;
/// Largest frame before the other side has proven who it is.
pub const MAX_UNPROVEN: usize = 64 * 1024;
/// Largest body after decompression.
pub const MAX_RAW: usize = 8 * 1024 * 1024;
/// Highest accepted ratio of decompressed to compressed size. The encoder sends bodies that would be smaller still uncompressed.
pub const MAX_RATIO: usize = 200;
/// Bodies below this are not worth compressing.
const MIN_COMPRESS: usize = 512;
const LEVEL: i32 = 1;
const FLAG_ZSTD: u8 = 1;

/// Why bytes are not a frame or a message.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// Declared longer than allowed.
    #[error("frame of {0} bytes is over the limit of {1}")]
    Long(usize, usize),
    /// Declared shorter than type and flags.
    #[error("frame of {0} bytes is too short")]
    Short(usize),
    /// A flag this version does not know.
    #[error("frame flags {0:#04x} are unknown")]
    Flags(u8),
    /// Bad or too greedy compression.
    #[error("frame does not decompress: {0}")]
    Inflate(&'static str),
    /// The body is not a message of its type.
    #[error("frame of type {0} is malformed")]
    Malformed(u8),
    /// A message that may not come here.
    #[error("frame of type {0} is not allowed here")]
    Unexpected(u8),
    /// The connection broke.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// One frame, its body still as it travels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Number of [`kind`].
    pub kind: u8,
    flags: u8,
    body: Bytes,
}

impl Frame {
    /// A frame whose body travels as it is.
    pub fn plain(kind: u8, body: impl Into<Bytes>) -> Self {
        Self { kind, flags: 0, body: body.into() }
    }

    /// A frame whose body is compressed if that helps and the other side would accept it.
    pub fn compressed(kind: u8, body: Vec<u8>) -> Self {
        if body.len() >= MIN_COMPRESS
            && let Ok(raw_len) = u32::try_from(body.len())
            && let Ok(small) = zstd::bulk::compress(&body, LEVEL)
        {
            let travels = small.len().saturating_add(4);
            if travels < body.len() && body.len() <= small.len().saturating_mul(MAX_RATIO) {
                let mut out = BytesMut::with_capacity(travels);
                out.put_u32(raw_len);
                out.put_slice(&small);
                return Self { kind, flags: FLAG_ZSTD, body: out.freeze() };
            }
        }
        Self::plain(kind, body)
    }

    /// Bytes the frame takes on the wire.
    pub fn wire_len(&self) -> usize {
        self.body.len().saturating_add(6)
    }

    /// The body, decompressed within bounds.
    pub fn body(&self) -> Result<Bytes, FrameError> {
        if self.flags & FLAG_ZSTD == 0 {
            return Ok(self.body.clone());
        }
        let mut rest = self.body.clone();
        if rest.len() < 4 {
            return Err(FrameError::Inflate("no length"));
        }
        let declared = rest.get_u32() as usize;
        if declared > MAX_RAW {
            return Err(FrameError::Inflate("declared too large"));
        }
        if declared > rest.len().saturating_mul(MAX_RATIO) {
            return Err(FrameError::Inflate("ratio too high"));
        }
        let mut raw = vec![0u8; declared];
        match zstd::bulk::decompress_to_buffer(&rest, &mut raw) {
            Ok(length) if length == declared => Ok(raw.into()),
            Ok(_) => Err(FrameError::Inflate("shorter than declared")),
            Err(_) => Err(FrameError::Inflate("damaged")),
        }
    }
}

/// Reads and writes frames of at most `max` bytes.
#[derive(Clone, Copy, Debug)]
pub struct FrameCodec {
    max: usize,
}

impl FrameCodec {
    /// A codec that refuses frames over `max` bytes ([`MAX_FRAME`] at most).
    pub fn new(max: usize) -> Self {
        Self { max: max.min(MAX_FRAME) }
    }

    /// Changes the limit, once the other side has proven itself.
    pub fn set_max(&mut self, max: usize) {
        self.max = max.min(MAX_FRAME);
    }
}

impl Decoder for FrameCodec {
    type Item = Frame;
    type Error = FrameError;

    fn decode(&mut self, src: &mut BytesMut) -> Result<Option<Frame>, FrameError> {
        let Some(head) = src.first_chunk::<4>() else { return Ok(None) };
        let length = u32::from_be_bytes(*head) as usize;
        if length > self.max {
            return Err(FrameError::Long(length, self.max));
        }
        if length < 2 {
            return Err(FrameError::Short(length));
        }
        if src.len() < length.saturating_add(4) {
            return Ok(None);
        }
        src.advance(4);
        let mut frame = src.split_to(length);
        let (kind, flags) = (frame.get_u8(), frame.get_u8());
        if flags & !FLAG_ZSTD != 0 {
            return Err(FrameError::Flags(flags));
        }
        Ok(Some(Frame { kind, flags, body: frame.freeze() }))
    }
}

impl Encoder<Frame> for FrameCodec {
    type Error = FrameError;

    fn encode(&mut self, frame: Frame, dst: &mut BytesMut) -> Result<(), FrameError> {
        let length = frame.body.len().saturating_add(2);
        if length > self.max {
            return Err(FrameError::Long(length, self.max));
        }
        dst.reserve(length.saturating_add(4));
        dst.put_u32(length as u32);
        dst.put_u8(frame.kind);
        dst.put_u8(frame.flags);
        dst.put_slice(&frame.body);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
