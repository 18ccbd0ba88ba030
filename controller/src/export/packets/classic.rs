//! The captured packets as a classic pcap file, for tools that read nothing newer. It has no place
//! for secrets, names or comments.

use crate::fail::Failure;
use glasshive_pcapng::{Block, BlockReader, Timescale};
use std::fs::File;
use std::io::BufReader;
use std::path::Path;

/// Nanosecond times, little-endian.
const MAGIC: u32 = 0xa1b2_3c4d;
const SNAP: u32 = 262_144;

/// Writes the packets of `original`; returns how many.
pub(super) fn write(original: &Path, put: &mut dyn FnMut(&[u8]) -> Result<(), Failure>) -> Result<u64, Failure> {
    let fail = |error: String| Failure::failed(format!("{}: {error}", original.display()));
    let file = File::open(original).map_err(|error| fail(error.to_string()))?;
    let mut blocks = BlockReader::new(BufReader::with_capacity(256 * 1024, file));
    let (mut link, mut count) = (None, 0u64);
    loop {
        // Of the present section, as the block borrows the reader.
        let scales: Vec<Timescale> = (0..).map_while(|interface| blocks.timescale(interface)).take(1024).collect();
        match blocks.next_block().map_err(|error| fail(error.to_string()))? {
            None => break,
            Some(Block::Interface(interface)) => match link {
                None => {
                    link = Some(interface.link_type);
                    let mut head = MAGIC.to_le_bytes().to_vec();
                    head.extend_from_slice(&[2, 0, 4, 0]);
                    head.extend_from_slice(&[0; 8]);
                    head.extend_from_slice(&SNAP.to_le_bytes());
                    head.extend_from_slice(&u32::from(interface.link_type).to_le_bytes());
                    put(&head)?;
                }
                Some(link) if link != interface.link_type => {
                    return Err(Failure::usage(format!(
                        "the packets come from interfaces of link types {link} and {}, and a classic pcap file holds one: use --format pcapng",
                        interface.link_type
                    )));
                }
                Some(_) => {}
            },
            Some(Block::Packet(packet)) => {
                let scale = scales.get(packet.interface as usize).copied().unwrap_or(Timescale::NANOSECONDS);
                let ns = packet.time.and_then(|time| scale.nanoseconds(time)).unwrap_or(0).max(0);
                let mut record = u32::try_from(ns / 1_000_000_000).unwrap_or(u32::MAX).to_le_bytes().to_vec();
                record.extend_from_slice(&((ns % 1_000_000_000) as u32).to_le_bytes());
                record.extend_from_slice(&(packet.data.len() as u32).to_le_bytes());
                record.extend_from_slice(&packet.original_length.to_le_bytes());
                record.extend_from_slice(&packet.data);
                put(&record)?;
                count += 1;
            }
            Some(_) => {}
        }
    }
    Ok(count)
}
