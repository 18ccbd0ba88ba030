//! The generator of the packet benchmarks: numbered UDP packets as fast as one thread can send them, to
//! a host that is not there, so that nobody spends time on answers. What a recorder has is told from
//! the numbers within the packets, never from its own counters.

use crate::sensor::SensorLab;
use crate::world::LIMIT;
use anyhow::{Context as _, bail};
use glasshive_pcapng::Packets;
use rustix::net::{MMsgHdr, SendAncillaryBuffer, SendFlags, sendmmsg};
use std::fs::File;
use std::io::IoSlice;
use std::net::UdpSocket;
use std::path::Path;
use std::time::{Duration, Instant};

/// Where packets go: on the segment, and nobody has it.
pub(super) const NOWHERE: &str = "10.77.0.99";
/// Source port of the first flow.
pub(super) const FIRST_PORT: u16 = 4000;
/// Packets a system call sends, all of one flow.
const BATCH: u32 = 64;
/// Bytes of a frame before the payload: Ethernet, IPv4, UDP.
const HEADERS: usize = 42;

/// Sizes of frames: what they are called, and that of packet `n`.
pub(super) type Sizes = (&'static str, fn(u32) -> usize);

/// The sizes of RFC 6985's simple mix, 7 : 4 : 1.
pub(super) fn mixed(n: u32) -> usize {
    match n % 12 {
        0..=6 => 64,
        7..=10 => 590,
        _ => 1514,
    }
}

/// Lets packets leave the sender although nobody answers for the address.
pub(super) fn prepare(sensor: &SensorLab) -> crate::Result<()> {
    sensor.lab.ip("a", &["neigh", "add", NOWHERE, "lladdr", "02:00:00:00:00:99", "dev", "eth0"])
}

/// Sends packets `numbers` in that many flows; how long that took.
pub(super) fn send(sensor: &SensorLab, numbers: std::ops::Range<u32>, flows: u16, size: fn(u32) -> usize) -> crate::Result<Duration> {
    sensor.lab.enter("a", move || {
        let mut sockets = Vec::new();
        for flow in 0..flows {
            let socket = crate::process::until("the sender's port", LIMIT, || UdpSocket::bind(("10.77.0.1", FIRST_PORT + flow)).ok())?;
            socket.connect((NOWHERE, 9))?;
            sockets.push(socket);
        }
        let filler = [0x5a_u8; 1600];
        let start = Instant::now();
        let mut next = numbers.start;
        while next < numbers.end {
            let flow = next / BATCH % u32::from(flows.max(1));
            let socket = sockets.get(flow as usize).context("no flow")?;
            let heads: Vec<[u8; 4]> = (next..numbers.end.min(next + BATCH)).map(u32::to_be_bytes).collect();
            let parts: Vec<[IoSlice<'_>; 2]> = heads
                .iter()
                .map(|head| {
                    let rest = size(u32::from_be_bytes(*head)).saturating_sub(HEADERS + 4).min(filler.len());
                    [IoSlice::new(head), IoSlice::new(filler.get(..rest).unwrap_or_default())]
                })
                .collect();
            let mut controls: Vec<SendAncillaryBuffer<'_, '_, '_>> = heads.iter().map(|_| SendAncillaryBuffer::default()).collect();
            let mut messages: Vec<MMsgHdr<'_>> =
                parts.iter().zip(&mut controls).map(|(parts, control)| MMsgHdr::new(parts, control)).collect();
            match sendmmsg(socket, &mut messages, SendFlags::empty()) {
                Ok(sent) => next += u32::try_from(sent)?,
                Err(rustix::io::Errno::NOBUFS | rustix::io::Errno::INTR) => {}
                Err(error) => bail!("sending: {error}"),
            }
        }
        Ok(start.elapsed())
    })
}

/// Which numbers a capture file holds.
#[derive(Debug, Default)]
pub(super) struct Found {
    seen: Vec<bool>,
    /// Numbers found more than once.
    pub(super) twice: usize,
}

impl Found {
    /// Reads a file of any of the recorders; a file damaged anywhere but at its end is an error.
    pub(super) fn read(path: &Path) -> crate::Result<Self> {
        let mut packets = Packets::new(File::open(path).with_context(|| path.display().to_string())?);
        let mut found = Self::default();
        while let Some(packet) = packets.next_packet() {
            if let Some(number) = number(packet.data) {
                let at = number as usize;
                if found.seen.len() <= at {
                    found.seen.resize(at + 1, false);
                }
                if let Some(seen) = found.seen.get_mut(at) {
                    found.twice += usize::from(*seen);
                    *seen = true;
                }
            }
        }
        if let Some(damage) = packets.damage() {
            bail!("{}: {damage}", path.display());
        }
        Ok(found)
    }

    /// How many different ones of `numbers` it holds.
    pub(super) fn of(&self, numbers: std::ops::Range<u32>) -> usize {
        self.seen.iter().skip(numbers.start as usize).take(numbers.len()).filter(|seen| **seen).count()
    }

    /// All numbers, in order.
    pub(super) fn numbers(&self) -> Vec<u32> {
        self.seen.iter().enumerate().filter(|(_, seen)| **seen).filter_map(|(at, _)| u32::try_from(at).ok()).collect()
    }
}

/// The number within a frame of the generator's.
fn number(frame: &[u8]) -> Option<u32> {
    if frame.get(23) != Some(&17) || frame.get(36..38) != Some(&[0, 9]) {
        return None;
    }
    Some(u32::from_be_bytes(*frame.get(HEADERS..)?.first_chunk::<4>()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mix_is_as_named() {
        let bytes: usize = (0..1200).map(mixed).sum();
        assert_eq!(bytes / 1200, (7 * 64 + 4 * 590 + 1514) / 12);
    }

    #[test]
    fn what_is_missing_or_double_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("x.pcap");
        let mut bytes: Vec<u8> = [0xa1b2_c3d4u32, 4 << 16 | 2, 0, 0, 262_144, 1].iter().flat_map(|word| word.to_le_bytes()).collect();
        for number in [0u32, 2, 2, 5] {
            let mut frame = vec![0; 46];
            (frame[23], frame[37]) = (17, 9);
            frame[42..].copy_from_slice(&number.to_be_bytes());
            bytes.extend([0, 0, 46, 46].iter().flat_map(|word: &u32| word.to_le_bytes()));
            bytes.extend(frame);
        }
        std::fs::write(&file, &bytes).unwrap();
        let found = Found::read(&file).unwrap();
        assert_eq!((found.of(0..6), found.of(1..5), found.twice), (3, 1, 1));
        assert_eq!(found.numbers(), [0, 2, 5]);
        std::fs::write(&file, &bytes[..bytes.len() - 3]).unwrap();
        assert!(Found::read(&file).is_err());
    }
}
