//! Putting a ring in order after whatever happened: once, at start, before anybody writes.

use super::RingDir;
use super::files::{parse_name, remove};
use super::index::Index;
use super::walk::{Ended, FileWalk};
use std::collections::{BTreeSet, VecDeque};
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Recovered {
    /// Unfinished segments whose packets were kept.
    pub kept: u64,
    /// Packets in them.
    pub packets: u64,
    /// Bytes behind the last whole packet, cut off.
    pub cut_bytes: u64,
    /// Number of the next segment.
    pub(super) next: u64,
    /// Segments not read through yet, oldest first.
    pub(super) unread: VecDeque<u64>,
}

pub(super) fn recover(dir: &RingDir) -> io::Result<Recovered> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir.path())?;
    let mut found = Recovered { next: 1, ..Recovered::default() };
    for segment in dir.segments()? {
        found.next = found.next.max(segment.serial.saturating_add(1));
        // Both names at once cannot come of a rename: the published one is whole.
        if dir.segment(segment.serial).exists() {
            remove(&dir.hidden(segment.serial))?;
        } else {
            unfinished(dir, segment.serial, &mut found)?;
        }
    }
    sweep(dir)?;
    for segment in dir.segments()? {
        if !is_read_through(dir, segment.serial, segment.bytes)? {
            found.unread.push_back(segment.serial);
        }
    }
    glasshive_journal::disk::sync_dir(dir.path())?;
    Ok(found)
}

/// Cuts an unfinished segment behind its last whole block and publishes it; without a packet it goes.
fn unfinished(dir: &RingDir, serial: u64, found: &mut Recovered) -> io::Result<()> {
    let path = dir.hidden(serial);
    let file = OpenOptions::new().read(true).write(true).open(&path)?;
    let length = file.metadata()?.len();
    let mut walk = FileWalk::new(&file, 0, length);
    let (mut packets, mut blocks) = (0u64, 0u64);
    let mut readable = true;
    while let Some((_, kind, block)) = walk.next_block()? {
        readable &= match blocks {
            0 => kind == glasshive_pcapng::block_type::SECTION_HEADER,
            1 => kind == glasshive_pcapng::block_type::INTERFACE,
            _ => true,
        };
        blocks += 1;
        packets += u64::from(super::walk::packet(block).is_some());
    }
    let whole = walk.offset();
    debug_assert!(walk.ended() != Ended::Open);
    if packets == 0 || !readable {
        found.cut_bytes += if blocks > 2 || walk.ended() != Ended::Clean { length } else { 0 };
        remove(&path)?;
        return remove(&dir.index(serial));
    }
    if whole < length {
        file.set_len(whole)?;
        found.cut_bytes += length - whole;
    }
    file.sync_all()?;
    std::fs::rename(&path, dir.segment(serial))?;
    found.kept += 1;
    found.packets += packets;
    Ok(())
}

/// Removes what belongs to no segment: indexes and notes of purged ones, files of a write cut short.
fn sweep(dir: &RingDir) -> io::Result<()> {
    let there: BTreeSet<u64> = dir.segments()?.iter().map(|segment| segment.serial).collect();
    for entry in std::fs::read_dir(dir.path())? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        let orphan = match parse_name(name) {
            Some((serial, _, "index" | "json")) => !there.contains(&serial),
            _ => name.ends_with(".tmp"),
        };
        if orphan {
            remove(&entry.path())?;
        }
    }
    Ok(())
}

/// Whether a finished segment has its note, of the size it has, and a whole index up to its end.
fn is_read_through(dir: &RingDir, serial: u64, bytes: u64) -> io::Result<bool> {
    let meta = dir.meta(serial);
    let index = Index::open(&dir.index(serial))?;
    let known = meta.is_some_and(|meta| meta.bytes == bytes);
    Ok(known && index.is_some_and(|index| index.whole == index.length && index.parts.last().is_some_and(|part| part.to == bytes)))
}
