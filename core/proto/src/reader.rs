//! The bounded cursor all wire reading goes through.
//!
//! A [`Reader`] can never panic, never reads past its end and never allocates. Its errors say what
//! was being read and where, counted from the start of the visitor's stream or datagram, also
//! inside sub-readers. It must never guess: a short field is an error, not zeros.

use thiserror::Error;

/// Wire bytes that are not what the protocol allows: a fact about the peer, not a fault of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("{what} at offset {offset}")]
pub struct ParseError {
    /// Offset of the first wrong (or first missing) byte from the start of the input.
    pub offset: usize,
    /// What was wrong, in a few words.
    pub what: &'static str,
}

impl ParseError {
    /// An error about the byte at `offset`.
    pub const fn new(offset: usize, what: &'static str) -> Self {
        Self { offset, what }
    }
}

/// What an incremental parser says about the bytes read so far.
///
/// Parsers that return this look at the whole input each time; the caller keeps the bytes and asks
/// again when more arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum Parsed<T> {
    /// The thing is complete and took the first `used` bytes of the input.
    Done {
        /// What was read.
        value: T,
        /// Bytes of the input it occupied.
        used: usize,
    },
    /// Nothing wrong so far; at least `needed` more bytes (never 0) must arrive to go on.
    Incomplete {
        /// Lower bound of the bytes still missing.
        needed: usize,
    },
    /// No continuation can make this valid.
    Malformed {
        /// Offset of the first wrong byte from the start of the input.
        offset: usize,
        /// What was wrong, in a few words.
        what: &'static str,
    },
}

impl<T> Parsed<T> {
    /// [`Parsed::Malformed`] at `offset`.
    pub const fn malformed(offset: usize, what: &'static str) -> Self {
        Self::Malformed { offset, what }
    }

    /// [`Parsed::Incomplete`] when `have` bytes are there and `want` are needed.
    pub const fn missing(have: usize, want: usize) -> Self {
        let gap = want.saturating_sub(have);
        Self::Incomplete { needed: if gap == 0 { 1 } else { gap } }
    }

    /// Applies `f` to the value of a complete result.
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> Parsed<U> {
        match self {
            Self::Done { value, used } => Parsed::Done { value: f(value), used },
            Self::Incomplete { needed } => Parsed::Incomplete { needed },
            Self::Malformed { offset, what } => Parsed::Malformed { offset, what },
        }
    }

    /// The value when complete.
    pub fn done(self) -> Option<T> {
        match self {
            Self::Done { value, .. } => Some(value),
            _ => None,
        }
    }

    /// The error when malformed.
    pub const fn error(&self) -> Option<ParseError> {
        match self {
            Self::Malformed { offset, what } => Some(ParseError::new(*offset, what)),
            _ => None,
        }
    }
}

impl<T> From<ParseError> for Parsed<T> {
    fn from(e: ParseError) -> Self {
        Self::Malformed { offset: e.offset, what: e.what }
    }
}

/// A cursor over bytes somebody else chose.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    rest: &'a [u8],
    offset: usize,
}

impl<'a> Reader<'a> {
    /// Reads `bytes` from their start, which counts as offset 0.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, offset: 0 }
    }

    /// Reads `bytes` whose first byte lies at `offset` of a larger input.
    pub const fn at(bytes: &'a [u8], offset: usize) -> Self {
        Self { rest: bytes, offset }
    }

    /// Offset of the next byte from the start of the whole input.
    pub const fn offset(&self) -> usize {
        self.offset
    }

    /// Bytes left.
    pub const fn len(&self) -> usize {
        self.rest.len()
    }

    /// Whether nothing is left.
    pub const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The bytes left, without consuming them.
    pub const fn peek(&self) -> &'a [u8] {
        self.rest
    }

    /// An error about the next byte.
    pub const fn error(&self, what: &'static str) -> ParseError {
        ParseError::new(self.offset, what)
    }

    /// The next `n` bytes. Errors at the end of the input when fewer are left.
    pub fn take(&mut self, n: usize, what: &'static str) -> Result<&'a [u8], ParseError> {
        match self.rest.split_at_checked(n) {
            Some((taken, rest)) => {
                self.rest = rest;
                self.offset = self.offset.saturating_add(n);
                Ok(taken)
            }
            None => Err(ParseError::new(self.offset.saturating_add(self.rest.len()), what)),
        }
    }

    /// The next `N` bytes as an array.
    pub fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], ParseError> {
        let here = self.offset;
        self.take(N, what)?.try_into().map_err(|_| ParseError::new(here, what))
    }

    /// One byte.
    pub fn u8(&mut self, what: &'static str) -> Result<u8, ParseError> {
        self.array::<1>(what).map(|[b]| b)
    }

    /// Two bytes, big-endian.
    pub fn u16(&mut self, what: &'static str) -> Result<u16, ParseError> {
        self.array(what).map(u16::from_be_bytes)
    }

    /// Three bytes, big-endian.
    pub fn u24(&mut self, what: &'static str) -> Result<u32, ParseError> {
        self.array(what).map(|[a, b, c]| u32::from_be_bytes([0, a, b, c]))
    }

    /// Four bytes, big-endian.
    pub fn u32(&mut self, what: &'static str) -> Result<u32, ParseError> {
        self.array(what).map(u32::from_be_bytes)
    }

    /// Eight bytes, big-endian.
    pub fn u64(&mut self, what: &'static str) -> Result<u64, ParseError> {
        self.array(what).map(u64::from_be_bytes)
    }

    /// Passes over `n` bytes.
    pub fn skip(&mut self, n: usize, what: &'static str) -> Result<(), ParseError> {
        self.take(n, what).map(|_| ())
    }

    /// Everything left; the reader is empty afterwards.
    pub fn rest(&mut self) -> &'a [u8] {
        let all = self.rest;
        self.offset = self.offset.saturating_add(all.len());
        self.rest = &[];
        all
    }

    /// A reader of the next `n` bytes that keeps counting offsets from the same start.
    pub fn sub(&mut self, n: usize, what: &'static str) -> Result<Self, ParseError> {
        let offset = self.offset;
        self.take(n, what).map(|bytes| Self { rest: bytes, offset })
    }

    /// A vector with a length prefix of one byte.
    pub fn vec8(&mut self, what: &'static str) -> Result<Self, ParseError> {
        let n = self.u8(what)?;
        self.sub(usize::from(n), what)
    }

    /// A vector with a length prefix of two bytes, big-endian.
    pub fn vec16(&mut self, what: &'static str) -> Result<Self, ParseError> {
        let n = self.u16(what)?;
        self.sub(usize::from(n), what)
    }

    /// A vector with a length prefix of three bytes, big-endian.
    pub fn vec24(&mut self, what: &'static str) -> Result<Self, ParseError> {
        let n = self.u24(what)?;
        self.sub(usize::try_from(n).unwrap_or(usize::MAX), what)
    }

    /// A vector with a length prefix of four bytes, big-endian (the SSH `string`).
    pub fn vec32(&mut self, what: &'static str) -> Result<Self, ParseError> {
        let n = self.u32(what)?;
        self.sub(usize::try_from(n).unwrap_or(usize::MAX), what)
    }

    /// The rest as two-byte numbers; an odd byte left over is an error.
    pub fn u16s(mut self, what: &'static str) -> Result<Vec<u16>, ParseError> {
        let mut out = Vec::with_capacity(self.len() / 2);
        while !self.is_empty() {
            out.push(self.u16(what)?);
        }
        Ok(out)
    }

    /// Ends the reading: bytes left over are an error at the first of them.
    pub fn finish(self, what: &'static str) -> Result<(), ParseError> {
        if self.rest.is_empty() { Ok(()) } else { Err(ParseError::new(self.offset, what)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_every_width() {
        let mut r = Reader::new(&[1, 0, 2, 0, 0, 3, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 5, 9]);
        assert_eq!(r.u8("a").unwrap(), 1);
        assert_eq!(r.u16("a").unwrap(), 2);
        assert_eq!(r.u24("a").unwrap(), 3);
        assert_eq!(r.u32("a").unwrap(), 4);
        assert_eq!(r.u64("a").unwrap(), 5);
        assert_eq!(r.clone().finish("trailing"), Err(ParseError::new(18, "trailing")));
        assert_eq!(r.rest(), &[9]);
        assert_eq!(r.offset(), 19);
        assert_eq!(r.finish("trailing"), Ok(()));
    }

    #[test]
    fn offsets_are_absolute_in_sub_readers() {
        let mut r = Reader::at(&[0xaa, 0, 3, 7, 2, 8], 100);
        r.skip(1, "a").unwrap();
        let mut v = r.vec16("vector").unwrap();
        assert_eq!(v.offset(), 103);
        assert_eq!(v.u8("a").unwrap(), 7);
        assert_eq!(v.vec8("inner").unwrap_err(), ParseError::new(106, "inner"));
        assert!(r.is_empty());
    }

    #[test]
    fn a_failed_read_consumes_nothing() {
        let mut r = Reader::new(&[1, 2]);
        assert_eq!(r.u32("number").unwrap_err(), ParseError::new(2, "number"));
        assert_eq!(r.u16("number").unwrap(), 0x0102);
    }

    #[test]
    fn huge_lengths_do_not_overflow() {
        let mut r = Reader::at(&[0xff, 0xff, 0xff, 0xff], usize::MAX);
        assert!(r.vec32("v").is_err());
        assert_eq!(Parsed::<()>::missing(5, 5), Parsed::Incomplete { needed: 1 });
    }

    proptest! {
        #[test]
        fn take_and_rest_partition_the_input(bytes: Vec<u8>, n in 0usize..300) {
            let mut r = Reader::new(&bytes);
            let head = r.take(n, "x").map(<[u8]>::to_vec).unwrap_or_default();
            let mut all = head;
            all.extend_from_slice(r.rest());
            prop_assert_eq!(all, bytes);
        }
    }
}
