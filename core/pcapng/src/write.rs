//! Encoding blocks, little-endian whatever the machine, so that the same input gives the same bytes.

use crate::block::{Block, Interface, NameRecord, Packet, Secrets, SectionHeader, Statistics};
use crate::options::{OptionList, code};
use crate::{BYTE_ORDER_MAGIC, block_type};
use std::net::IpAddr;

/// Appends blocks to a buffer the caller writes out.
///
/// Every block is whole in the buffer after each call. Lengths that a block cannot hold (over
/// 4 GiB) do not occur: callers cap packets far below.
#[derive(Debug, Default)]
pub struct Encoder {
    out: Vec<u8>,
}

impl Encoder {
    /// An empty buffer.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reuses a buffer's room; what is in it is dropped.
    pub fn with_buffer(mut out: Vec<u8>) -> Self {
        out.clear();
        Self { out }
    }

    /// The bytes so far.
    pub fn bytes(&self) -> &[u8] {
        &self.out
    }

    /// Gives the bytes out and goes on with an empty buffer.
    pub fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.out)
    }

    /// Any block. An unknown one is written as it is.
    pub fn block(&mut self, block: &Block<'_>) {
        match block {
            Block::SectionHeader(header) => self.section_header(header),
            Block::Interface(interface) => self.interface(interface),
            Block::Packet(packet) => self.packet(packet),
            Block::Secrets(secrets) => self.secrets(secrets),
            Block::Names(records) => self.names(records),
            Block::Statistics(statistics) => self.statistics(statistics),
            Block::Unknown(unknown) => self.wrap(unknown.kind, |out| {
                out.extend_from_slice(&unknown.body);
                pad(out);
            }),
        }
    }

    /// Starts a section; its interfaces count from 0 again.
    pub fn section_header(&mut self, header: &SectionHeader<'_>) {
        self.wrap(block_type::SECTION_HEADER, |out| {
            out.extend_from_slice(&BYTE_ORDER_MAGIC.to_le_bytes());
            out.extend_from_slice(&1u16.to_le_bytes());
            out.extend_from_slice(&0u16.to_le_bytes());
            // Section length: not given.
            out.extend_from_slice(&u64::MAX.to_le_bytes());
            header.options.encode(out);
        });
    }

    /// Describes an interface.
    pub fn interface(&mut self, interface: &Interface<'_>) {
        self.wrap(block_type::INTERFACE, |out| {
            out.extend_from_slice(&interface.link_type.to_le_bytes());
            out.extend_from_slice(&0u16.to_le_bytes());
            out.extend_from_slice(&interface.snap_length.to_le_bytes());
            let mut options = interface.options.clone();
            options.push(code::IF_TSRESOL, vec![interface.timescale.resolution]);
            if interface.timescale.offset_seconds != 0 {
                options.push(code::IF_TSOFFSET, interface.timescale.offset_seconds.to_le_bytes().to_vec());
            }
            options.encode(out);
        });
    }

    /// A packet, as an Enhanced Packet Block; without a time it gets time 0.
    pub fn packet(&mut self, packet: &Packet<'_>) {
        let time = packet.time.unwrap_or(0);
        self.enhanced_packet(packet.interface, time, packet.original_length, &packet.data, &packet.options);
    }

    /// [`Self::packet`] from borrowed parts, for the capture path.
    pub fn enhanced_packet(&mut self, interface: u32, time: u64, original_length: u32, data: &[u8], options: &OptionList<'_>) {
        self.wrap(block_type::PACKET, |out| {
            out.extend_from_slice(&interface.to_le_bytes());
            out.extend_from_slice(&((time >> 32) as u32).to_le_bytes());
            out.extend_from_slice(&(time as u32).to_le_bytes());
            out.extend_from_slice(&(data.len() as u32).to_le_bytes());
            out.extend_from_slice(&original_length.to_le_bytes());
            out.extend_from_slice(data);
            pad(out);
            options.encode(out);
        });
    }

    /// Secrets; they must come before the packets they decrypt.
    pub fn secrets(&mut self, secrets: &Secrets<'_>) {
        self.wrap(block_type::SECRETS, |out| {
            out.extend_from_slice(&secrets.kind.0.to_le_bytes());
            out.extend_from_slice(&(secrets.data.len() as u32).to_le_bytes());
            out.extend_from_slice(&secrets.data);
            pad(out);
            secrets.options.encode(out);
        });
    }

    /// Names of addresses. NUL in a name ends it, a record keeps as many names as its 65 535 bytes
    /// hold, and one left without a name is left out.
    pub fn names(&mut self, records: &[NameRecord<'_>]) {
        self.wrap(block_type::NAMES, |out| {
            for record in records {
                let (kind, mut value) = match record.address {
                    IpAddr::V4(v4) => (1u16, v4.octets().to_vec()),
                    IpAddr::V6(v6) => (2, v6.octets().to_vec()),
                };
                let bare = value.len();
                for name in &record.names {
                    let name = name.split('\0').next().unwrap_or_default();
                    if value.len() + name.len() + 1 > usize::from(u16::MAX) {
                        break;
                    }
                    value.extend_from_slice(name.as_bytes());
                    value.push(0);
                }
                if value.len() == bare {
                    continue;
                }
                out.extend_from_slice(&kind.to_le_bytes());
                out.extend_from_slice(&(value.len() as u16).to_le_bytes());
                out.extend_from_slice(&value);
                pad(out);
            }
            out.extend_from_slice(&[0; 4]);
        });
    }

    /// Counters of an interface.
    pub fn statistics(&mut self, statistics: &Statistics<'_>) {
        self.wrap(block_type::STATISTICS, |out| {
            out.extend_from_slice(&statistics.interface.to_le_bytes());
            out.extend_from_slice(&((statistics.time >> 32) as u32).to_le_bytes());
            out.extend_from_slice(&(statistics.time as u32).to_le_bytes());
            let mut options = statistics.options.clone();
            for (code, count) in [(code::ISB_RECEIVED, statistics.received), (code::ISB_DROPPED, statistics.dropped)] {
                if let Some(count) = count {
                    options.push(code, count.to_le_bytes().to_vec());
                }
            }
            options.encode(out);
        });
    }

    /// Type, length, body, length.
    fn wrap(&mut self, kind: u32, body: impl FnOnce(&mut Vec<u8>)) {
        let start = self.out.len();
        self.out.extend_from_slice(&kind.to_le_bytes());
        self.out.extend_from_slice(&[0; 4]);
        body(&mut self.out);
        let length = ((self.out.len() - start + 4) as u32).to_le_bytes();
        if let Some(slot) = self.out.get_mut(start + 4..start + 8) {
            slot.copy_from_slice(&length);
        }
        self.out.extend_from_slice(&length);
    }
}

/// Every block begins at a multiple of four, so the buffer's length is enough to pad by.
fn pad(out: &mut Vec<u8>) {
    out.resize(out.len().next_multiple_of(4), 0);
}
