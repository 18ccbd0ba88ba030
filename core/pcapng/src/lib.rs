//! pcapng (draft-ietf-opsawg-pcapng): the blocks Glasshive writes, and a bounded reader of anyone's;
//! [`Packets`] reads the packets of any capture file, classic pcap included.
//!
//! Pure bytes to types and back. It must never open a file, keep more than one block, or believe a
//! length: [`BlockReader`] refuses blocks over its limit before allocating, and damage is an error
//! with its offset, after which nothing more is read.
#![forbid(unsafe_code)]

mod block;
mod classic;
mod options;
mod packets;
mod read;
mod write;

pub use block::{Block, Interface, NameRecord, Packet, Secrets, SecretsKind, SectionHeader, Statistics, Timescale, UnknownBlock};
pub use options::{OptionList, code};
pub use packets::{Captured, Damage, DamageKind, Packets};
pub use read::{BlockReader, ReadError, parse_block};
pub use write::Encoder;

/// Block types (§4).
pub mod block_type {
    /// Section Header Block.
    pub const SECTION_HEADER: u32 = 0x0a0d_0d0a;
    /// Interface Description Block.
    pub const INTERFACE: u32 = 1;
    /// Packet Block, obsolete since 2009 and still met.
    pub const OLD_PACKET: u32 = 2;
    /// Simple Packet Block.
    pub const SIMPLE_PACKET: u32 = 3;
    /// Name Resolution Block.
    pub const NAMES: u32 = 4;
    /// Interface Statistics Block.
    pub const STATISTICS: u32 = 5;
    /// Enhanced Packet Block.
    pub const PACKET: u32 = 6;
    /// Decryption Secrets Block.
    pub const SECRETS: u32 = 10;
}

/// Link types in use here (pcap's LINKTYPE registry).
pub mod link_type {
    /// Ethernet frames.
    pub const ETHERNET: u16 = 1;
    /// Raw IPv4 or IPv6 packets.
    pub const RAW_IP: u16 = 101;
}

/// Magic of a section in its own byte order.
pub(crate) const BYTE_ORDER_MAGIC: u32 = 0x1a2b_3c4d;

/// `length` rounded up to the four-byte boundary every field ends at.
pub(crate) fn padded(length: usize) -> Option<usize> {
    length.checked_next_multiple_of(4)
}
