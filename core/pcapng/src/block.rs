//! Blocks as types.

use crate::options::OptionList;
use std::borrow::Cow;
use std::net::IpAddr;

/// One block. Texts and data borrow from the bytes read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Block<'a> {
    /// Start of a section.
    SectionHeader(SectionHeader<'a>),
    /// An interface; the first of a section is number 0.
    Interface(Interface<'a>),
    /// A packet (Enhanced, Simple or obsolete Packet Block).
    Packet(Packet<'a>),
    /// Secrets that decrypt packets after it.
    Secrets(Secrets<'a>),
    /// Names of addresses.
    Names(Vec<NameRecord<'a>>),
    /// Counters of an interface.
    Statistics(Statistics<'a>),
    /// A type this crate does not know; counted and skipped by [`crate::BlockReader`].
    Unknown(UnknownBlock<'a>),
}

/// Section Header Block (§4.1).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SectionHeader<'a> {
    /// `shb_hardware`, `shb_os`, `shb_userappl`, comments.
    pub options: OptionList<'a>,
}

/// Interface Description Block (§4.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface<'a> {
    /// Link type, see [`crate::link_type`].
    pub link_type: u16,
    /// Most bytes kept of a packet; 0 is no limit.
    pub snap_length: u32,
    /// Unit of its packets' times (`if_tsresol` and `if_tsoffset`).
    pub timescale: Timescale,
    /// `if_name`, `if_description`, … without the two of `timescale`.
    pub options: OptionList<'a>,
}

/// Unit and zero of an interface's times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timescale {
    /// `if_tsresol` as stored: negative power of ten, or of two with the top bit set.
    pub resolution: u8,
    /// `if_tsoffset`: seconds added to every time.
    pub offset_seconds: i64,
}

/// A packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet<'a> {
    /// Index of its interface within the section.
    pub interface: u32,
    /// Time in the interface's units, `None` in a Simple Packet Block.
    pub time: Option<u64>,
    /// Length on the wire.
    pub original_length: u32,
    /// The captured bytes.
    pub data: Cow<'a, [u8]>,
    /// Comments, flags, ….
    pub options: OptionList<'a>,
}

/// Decryption Secrets Block (§4.7).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Secrets<'a> {
    /// What they are.
    pub kind: SecretsKind,
    /// For TLS: lines of the NSS key log format.
    pub data: Cow<'a, [u8]>,
    /// Comments.
    pub options: OptionList<'a>,
}

/// Kinds of secrets by their registered number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SecretsKind(pub u32);

impl SecretsKind {
    /// TLS key log.
    pub const TLS_KEY_LOG: Self = Self(0x544c_534b);
    /// SSH key log.
    pub const SSH_KEY_LOG: Self = Self(0x5353_484b);
}

/// One address with its names (§4.5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameRecord<'a> {
    /// The address.
    pub address: IpAddr,
    /// Its names, at least one.
    pub names: Vec<Cow<'a, str>>,
}

/// Interface Statistics Block (§4.6).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statistics<'a> {
    /// Index of the interface within the section.
    pub interface: u32,
    /// When the counters were read, in the interface's units.
    pub time: u64,
    /// `isb_ifrecv`: packets received.
    pub received: Option<u64>,
    /// `isb_ifdrop`: packets dropped for want of room.
    pub dropped: Option<u64>,
    /// The other options.
    pub options: OptionList<'a>,
}

/// A block of a type not known here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownBlock<'a> {
    /// Its type.
    pub kind: u32,
    /// Its body, without type and lengths.
    pub body: Cow<'a, [u8]>,
}

impl Timescale {
    /// Nanoseconds: what Glasshive writes.
    pub const NANOSECONDS: Self = Self { resolution: 9, offset_seconds: 0 };
    /// The default of a file that says nothing.
    pub const MICROSECONDS: Self = Self { resolution: 6, offset_seconds: 0 };

    /// A packet's time in nanoseconds since 1970; `None` out of range. Finer units are cut.
    pub fn nanoseconds(&self, time: u64) -> Option<i64> {
        let exponent = u32::from(self.resolution & 0x7f);
        let time = u128::from(time);
        let ns = if self.resolution & 0x80 != 0 {
            // 2^64 × 10^9 fits 128 bits; a shift by more than that is zero.
            time.checked_mul(1_000_000_000)?.checked_shr(exponent).unwrap_or(0)
        } else if exponent <= 9 {
            time.checked_mul(10u128.checked_pow(9 - exponent)?)?
        } else {
            10u128.checked_pow(exponent - 9).map_or(0, |unit| time / unit)
        };
        i64::try_from(ns).ok()?.checked_add(self.offset_seconds.checked_mul(1_000_000_000)?)
    }
}

impl<'a> Packet<'a> {
    /// A whole packet with a time in the interface's units.
    pub fn new(interface: u32, time: u64, data: impl Into<Cow<'a, [u8]>>) -> Self {
        let data = data.into();
        let original_length = u32::try_from(data.len()).unwrap_or(u32::MAX);
        Self { interface, time: Some(time), original_length, data, options: OptionList::default() }
    }

    /// Adds a comment.
    #[must_use]
    pub fn comment(mut self, text: impl Into<Cow<'a, str>>) -> Self {
        self.options.push_text(crate::code::COMMENT, text);
        self
    }
}

impl<'a> Interface<'a> {
    /// An interface with a name and nanosecond times.
    pub fn new(link_type: u16, name: impl Into<Cow<'a, str>>) -> Self {
        let mut options = OptionList::default();
        options.push_text(crate::code::IF_NAME, name);
        Self { link_type, snap_length: 0, timescale: Timescale::NANOSECONDS, options }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        let check = |resolution, offset_seconds, time, expected| {
            assert_eq!(Timescale { resolution, offset_seconds }.nanoseconds(time), expected, "{resolution} {time}");
        };
        check(9, 0, 1_700_000_000_123_456_789, Some(1_700_000_000_123_456_789));
        check(6, 0, 1_700_000_000_123_456, Some(1_700_000_000_123_456_000));
        check(0, 0, 5, Some(5_000_000_000));
        check(12, 0, 5_999, Some(5));
        check(127, 0, u64::MAX, Some(0));
        check(0x80 | 10, 0, 1536, Some(1_500_000_000));
        check(0x80 | 127, 0, u64::MAX, Some(0));
        check(9, -1, 1, Some(-999_999_999));
        check(0, 0, u64::MAX, None);
        check(9, i64::MAX, 0, None);
    }
}
