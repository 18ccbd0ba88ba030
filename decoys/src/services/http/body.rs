//! The body of a request: counted or chunked, taken from what has come and never waited for here.

use super::nginx::content_length;
use bytes::{Buf as _, BytesMut};
use glasshive_proto::http::Headers;

/// Bytes of one body that are kept; more are counted.
const KEPT: usize = 1 << 20;

/// How far a body has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Progress {
    Whole,
    More,
    Malformed,
}

/// One body being received.
pub(super) struct Body {
    chunked: bool,
    left: u64,
    ended: bool,
    /// What was kept.
    pub(super) content: Vec<u8>,
    /// Bytes over what is kept.
    pub(super) cut: u64,
}

impl Body {
    /// The body `headers` announce.
    pub(super) fn new(headers: &Headers) -> Self {
        let chunked = headers.get("Transfer-Encoding").is_some();
        let left = headers.get("Content-Length").and_then(content_length).unwrap_or(0);
        Self { chunked, left, ended: !chunked && left == 0, content: Vec::new(), cut: 0 }
    }

    /// No body at all.
    pub(super) fn none() -> Self {
        Self { chunked: false, left: 0, ended: true, content: Vec::new(), cut: 0 }
    }

    /// Bytes announced and not yet come; 0 for a chunked one.
    pub(super) fn left(&self) -> u64 {
        self.left
    }

    /// Takes what belongs to the body out of `buf`.
    pub(super) fn take(&mut self, buf: &mut BytesMut) -> Progress {
        while !self.ended {
            if self.left > 0 {
                let part = buf.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
                if part == 0 {
                    return Progress::More;
                }
                self.keep(&buf.split_to(part));
                self.left -= part as u64;
                self.ended = self.left == 0 && !self.chunked;
                continue;
            }
            match chunk(buf) {
                Chunk::Data { head, data } => {
                    buf.advance(head.min(buf.len()));
                    self.left = data;
                }
                Chunk::End(whole) => {
                    buf.advance(whole.min(buf.len()));
                    self.ended = true;
                }
                Chunk::Malformed => return Progress::Malformed,
                Chunk::More => return Progress::More,
            }
        }
        Progress::Whole
    }

    fn keep(&mut self, part: &[u8]) {
        let kept = part.get(..part.len().min(KEPT.saturating_sub(self.content.len()))).unwrap_or_default();
        self.content.extend_from_slice(kept);
        self.cut += (part.len() - kept.len()) as u64;
    }
}

/// What stands at the start of a chunked body (RFC 9112 §7.1), or after the data of a chunk.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Chunk {
    /// A chunk's first line of `head` bytes, which announces `data` bytes.
    Data { head: usize, data: u64 },
    /// The last chunk and its trailer.
    End(usize),
    /// Not a chunk.
    Malformed,
    /// More bytes are needed.
    More,
}

/// Longest line and trailer looked at.
const MAX_LINE: usize = 8 * 1024;

/// Reads a chunk's first line, the end of line of the chunk before it included.
pub(super) fn chunk(input: &[u8]) -> Chunk {
    // The end of the chunk before.
    let (skipped, input) = match input {
        [] | [b'\r'] => return Chunk::More,
        [b'\r', b'\n', rest @ ..] => (2, rest),
        [b'\n', rest @ ..] => (1, rest),
        _ => (0, input),
    };
    let digits = input.iter().take_while(|b| b.is_ascii_hexdigit()).count();
    if digits == input.len() && digits <= 16 {
        return Chunk::More;
    }
    let size = input.get(..digits).and_then(|text| i64::from_str_radix(std::str::from_utf8(text).ok()?, 16).ok());
    let Some(size) = size.and_then(|size| u64::try_from(size).ok()) else { return Chunk::Malformed };
    // nginx takes an extension after a semicolon, or blanks.
    if !matches!(input.get(digits), Some(b'\r' | b'\n' | b';' | b' ' | b'\t')) {
        return Chunk::Malformed;
    }
    let Some(end) = input.iter().take(MAX_LINE).position(|b| *b == b'\n') else {
        return if input.len() >= MAX_LINE { Chunk::Malformed } else { Chunk::More };
    };
    let head = end + 1;
    if size > 0 {
        return Chunk::Data { head: skipped + head, data: size };
    }
    let trailer = input.get(head..).unwrap_or_default();
    let mut at = 0;
    loop {
        let rest = trailer.get(at..).unwrap_or_default();
        let Some(line) = rest.iter().position(|b| *b == b'\n') else {
            return if trailer.len() > MAX_LINE { Chunk::Malformed } else { Chunk::More };
        };
        at += line + 1;
        if rest.get(..line).is_some_and(|line| line.trim_ascii().is_empty()) {
            return Chunk::End(skipped + head + at);
        }
    }
}
