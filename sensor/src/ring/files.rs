//! Names and small files of a ring's directory.
//!
//! ```text
//! 00000000000000000042.pcapng   a finished segment; hidden (a dot before it) while it is written
//! 00000000000000000042.index    its index, growing with it
//! 00000000000000000042.json     what is known of it once it is finished and read through: its hash
//! losses.jsonl                  what was lost and when
//! purged.json                   what the quota took
//! told                          the last segment whose hash the journal has
//! ```

use glasshive_event::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

/// Largest of the small files read.
const MAX_SMALL: u64 = 1 << 20;

/// A ring's directory.
#[derive(Debug, Clone)]
pub struct RingDir(PathBuf);

/// A segment as it lies there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// Its number; numbers grow and are never used again.
    pub serial: u64,
    /// Whether it is still hidden: being written, or left by a crash.
    pub hidden: bool,
    /// Bytes of its file.
    pub bytes: u64,
}

/// What is known of a finished segment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    /// Version of this format: 1.
    pub version: u16,
    /// Its number.
    pub segment: u64,
    /// SHA-256 of its file, hexadecimal.
    pub sha256: String,
    /// Bytes of its file.
    pub bytes: u64,
    /// Packets in it.
    pub packets: u64,
    /// Earliest packet.
    pub first: Option<Timestamp>,
    /// Latest packet.
    pub last: Option<Timestamp>,
    /// Packets lost before they came here while it was written, by its own statistics block.
    pub dropped: u64,
    /// It was found unfinished after an unclean stop.
    #[serde(default)]
    pub recovered: bool,
}

/// What the quota took, since the ring was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Purged {
    /// Segments.
    pub segments: u64,
    /// Their packets, as far as known.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Latest packet among them.
    pub until: Option<Timestamp>,
    /// Last segment counted: one that a stop kept from being deleted is not counted again.
    pub through: u64,
}

/// Something was lost in an interval.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LossSpan {
    /// Since when at the earliest.
    pub from: Timestamp,
    /// Until when at the latest.
    pub to: Timestamp,
    /// What: one of [`crate::capture::Cause`]'s names.
    pub cause: String,
    /// Packets.
    pub count: u64,
    /// Bytes, where known.
    #[serde(default)]
    pub bytes: u64,
}

impl RingDir {
    /// The ring in `dir`; nothing is touched.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self(dir.into())
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// A finished segment's file.
    pub fn segment(&self, serial: u64) -> PathBuf {
        self.0.join(format!("{serial:020}.pcapng"))
    }

    /// Its file while it is written.
    pub fn hidden(&self, serial: u64) -> PathBuf {
        self.0.join(format!(".{serial:020}.pcapng"))
    }

    /// Its index.
    pub fn index(&self, serial: u64) -> PathBuf {
        self.0.join(format!("{serial:020}.index"))
    }

    /// What is known of it.
    pub fn meta_path(&self, serial: u64) -> PathBuf {
        self.0.join(format!("{serial:020}.json"))
    }

    /// What was lost.
    pub fn losses_path(&self) -> PathBuf {
        self.0.join("losses.jsonl")
    }

    /// Opens a segment under either name, whichever it has now.
    ///
    /// # Errors
    /// The system's; `NotFound` when the quota took it.
    pub fn open(&self, serial: u64) -> io::Result<File> {
        match File::open(self.segment(serial)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => return other,
        }
        match File::open(self.hidden(serial)) {
            // Published between the two looks.
            Err(error) if error.kind() == io::ErrorKind::NotFound => File::open(self.segment(serial)),
            other => other,
        }
    }

    /// All segments, oldest first. One that is renamed meanwhile is there all the same.
    ///
    /// # Errors
    /// The system's; a directory that is not there holds none.
    pub fn segments(&self) -> io::Result<Vec<Segment>> {
        let mut found: BTreeMap<u64, (bool, u64)> = BTreeMap::new();
        let entries = match std::fs::read_dir(&self.0) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name();
            let Some((serial, hidden, "pcapng")) = name.to_str().and_then(parse_name) else { continue };
            let bytes = entry.metadata().map_or(0, |meta| meta.len());
            let known = found.entry(serial).or_insert((hidden, bytes));
            known.0 &= hidden;
            known.1 = known.1.max(bytes);
        }
        // A listing may miss a file that changes its name while it is made.
        if let (Some(first), Some(last)) = (found.keys().next().copied(), found.keys().next_back().copied())
            && last.saturating_sub(first) < 1 << 20
        {
            for serial in first..=last.saturating_add(1) {
                if found.contains_key(&serial) {
                    continue;
                }
                for (path, hidden) in [(self.segment(serial), false), (self.hidden(serial), true)] {
                    if let Ok(meta) = std::fs::metadata(path) {
                        found.entry(serial).or_insert((hidden, meta.len()));
                    }
                }
            }
        }
        Ok(found.into_iter().map(|(serial, (hidden, bytes))| Segment { serial, hidden, bytes }).collect())
    }

    /// What is known of a segment; `None` when it was not read through yet, or its file is damaged.
    pub fn meta(&self, serial: u64) -> Option<Meta> {
        let bytes = glasshive_journal::disk::read_small(&self.meta_path(serial), MAX_SMALL).ok()?;
        serde_json::from_slice::<Meta>(&bytes).ok().filter(|meta| meta.version == 1 && meta.segment == serial)
    }

    /// Writes what is known of a segment, durably.
    ///
    /// # Errors
    /// The system's.
    pub fn write_meta(&self, meta: &Meta) -> io::Result<()> {
        let bytes = serde_json::to_vec(meta).map_err(io::Error::other)?;
        glasshive_journal::disk::write_atomic(&self.meta_path(meta.segment), &bytes)
    }

    /// What the quota took.
    pub fn purged(&self) -> Purged {
        let bytes = glasshive_journal::disk::read_small(&self.0.join("purged.json"), MAX_SMALL).unwrap_or_default();
        serde_json::from_slice(&bytes).unwrap_or_default()
    }

    /// Deletes a segment and all about it, and adds it to what the quota took.
    ///
    /// # Errors
    /// The system's.
    pub fn purge(&self, serial: u64) -> io::Result<()> {
        let path = self.segment(serial);
        let bytes = std::fs::metadata(&path).map_or(0, |meta| meta.len());
        let meta = self.meta(serial);
        // Where it was not read through yet its index knows the times of most of it.
        let last = meta.as_ref().and_then(|meta| meta.last).or_else(|| {
            let index = super::index::Index::open(&self.index(serial)).ok().flatten()?;
            index.parts.iter().map(|part| part.latest).max()
        });
        // Counted before it goes, so that a stop between loses no count.
        let mut purged = self.purged();
        let counted = serial <= purged.through;
        if !counted {
            purged.through = serial;
            purged.segments = purged.segments.saturating_add(1);
            purged.bytes = purged.bytes.saturating_add(bytes);
            purged.packets = purged.packets.saturating_add(meta.map_or(0, |meta| meta.packets));
            purged.until = purged.until.max(last);
        }
        let note = serde_json::to_vec(&purged).map_err(io::Error::other)?;
        let write = || glasshive_journal::disk::write_atomic(&self.0.join("purged.json"), &note);
        let noted = counted || write().is_ok();
        remove(&path)?;
        remove(&self.index(serial))?;
        remove(&self.meta_path(serial))?;
        if !noted {
            // A full disk took no new file; now there is room, and what was freed is worth more than the count.
            let _ = write();
        }
        Ok(())
    }

    /// The last segment whose hash the journal has.
    pub fn told(&self) -> Option<u64> {
        let bytes = glasshive_journal::disk::read_small(&self.0.join("told"), 64).ok()?;
        std::str::from_utf8(&bytes).ok()?.trim().parse().ok()
    }

    /// Remembers that the journal has a segment's hash.
    ///
    /// # Errors
    /// The system's.
    pub fn set_told(&self, serial: u64) -> io::Result<()> {
        glasshive_journal::disk::write_atomic(&self.0.join("told"), format!("{serial}\n").as_bytes())
    }

    /// What was lost, oldest first.
    pub fn losses(&self) -> Vec<LossSpan> {
        let bytes = glasshive_journal::disk::read_small(&self.losses_path(), 16 * MAX_SMALL).unwrap_or_default();
        bytes.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect()
    }
}

/// Removes a file; that it is gone already is fine.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// `.00000000000000000042.pcapng` → (42, hidden, "pcapng").
pub(super) fn parse_name(name: &str) -> Option<(u64, bool, &str)> {
    let bare = name.strip_prefix('.').unwrap_or(name);
    let (serial, kind) = bare.split_once('.')?;
    let digits = serial.len() == 20 && serial.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| Some((serial.parse().ok()?, bare.len() < name.len(), kind)))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        assert_eq!(parse_name("00000000000000000042.pcapng"), Some((42, false, "pcapng")));
        assert_eq!(parse_name(".00000000000000000042.pcapng"), Some((42, true, "pcapng")));
        for other in ["42.pcapng", "losses.jsonl", ".", "0000000000000000004x.pcapng", "99999999999999999999.pcapng"] {
            assert_eq!(parse_name(other), None, "{other}");
        }
    }

    #[test]
    fn a_ring_is_listed_and_purged() {
        let dir = tempfile::tempdir().unwrap();
        let ring = RingDir::new(dir.path().join("ring"));
        assert!(ring.segments().unwrap().is_empty());
        std::fs::create_dir(ring.path()).unwrap();
        std::fs::write(ring.segment(3), "abc").unwrap();
        std::fs::write(ring.hidden(4), "ab").unwrap();
        std::fs::write(ring.index(3), "").unwrap();
        let meta = Meta {
            version: 1,
            segment: 3,
            sha256: "x".into(),
            bytes: 3,
            packets: 7,
            first: Some(Timestamp(1)),
            last: Some(Timestamp(9)),
            dropped: 0,
            recovered: false,
        };
        ring.write_meta(&meta).unwrap();
        assert_eq!(ring.meta(3), Some(meta));
        let expected = [Segment { serial: 3, hidden: false, bytes: 3 }, Segment { serial: 4, hidden: true, bytes: 2 }];
        assert_eq!(ring.segments().unwrap(), expected);
        ring.purge(3).unwrap();
        let counted = Purged { segments: 1, packets: 7, bytes: 3, until: Some(Timestamp(9)), through: 3 };
        assert_eq!(ring.purged(), counted);
        // A stop after the count and before the deletion: it goes, and is not counted twice.
        std::fs::write(ring.segment(3), "abc").unwrap();
        ring.purge(3).unwrap();
        assert_eq!(ring.purged(), counted);
        assert_eq!(ring.segments().unwrap().len(), 1);
        assert!(ring.open(4).is_ok() && ring.open(3).is_err());
        assert_eq!(std::fs::read_dir(ring.path()).unwrap().count(), 2);
    }
}
