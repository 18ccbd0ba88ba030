//! Accounting for a carve: what is in it, and what cannot be.

use super::{Output, Selection};
use crate::capture::Cause;
use crate::ring::walk::Ended;
use crate::ring::{Meta, Purged, RingDir};
use glasshive_event::Timestamp;
use glasshive_event::text::hex;
use glasshive_link::carve::{CarveError, CarveStatement, Missing, SegmentDigest};
use sha2::{Digest as _, Sha256};
use std::io::{self, Read as _};

/// Losses listed one by one; more are given as one.
const LISTED: usize = 200;

/// A segment packets came from.
#[derive(Debug)]
struct Source {
    serial: u64,
    note: Option<Meta>,
    length: u64,
    exported: u64,
}

#[derive(Debug)]
pub(super) struct Account {
    since: Option<Timestamp>,
    until: Option<Timestamp>,
    pub(super) matched: u64,
    exported: u64,
    sources: Vec<Source>,
    purged: Vec<Missing>,
    index_faults: u64,
    damaged_bytes: u64,
    first: Option<Timestamp>,
    last: Option<Timestamp>,
}

impl Account {
    pub(super) fn new(selection: &Selection) -> Self {
        let (since, until) = selection.scope.span();
        Self {
            since,
            until,
            matched: 0,
            exported: 0,
            sources: Vec::new(),
            purged: Vec::new(),
            index_faults: 0,
            damaged_bytes: 0,
            first: None,
            last: None,
        }
    }

    /// What the quota took before.
    pub(super) fn purged(&mut self, purged: &Purged) {
        // Where the last of them is not known, it may be of the time asked for.
        let after = purged.until.zip(self.since).is_some_and(|(until, since)| since > until);
        if purged.segments == 0 || after {
            return;
        }
        self.purged.push(Missing {
            since: self.since,
            until: purged.until.map(|until| self.until.map_or(until, |asked| asked.min(until))),
            packets: None,
            why: "the ring's quota took packets of this time; all older ones are gone too".to_owned(),
        });
    }

    /// A segment that went while it was asked for.
    pub(super) fn gone(&mut self, note: Option<&Meta>) {
        self.purged.push(Missing {
            since: note.and_then(|note| note.first),
            until: note.and_then(|note| note.last),
            packets: None,
            why: "the ring's quota took this segment while it was asked for".to_owned(),
        });
    }

    /// Begins with a segment; its place in the account.
    pub(super) fn segment(&mut self, serial: u64, note: Option<&Meta>, length: u64) -> usize {
        self.sources.push(Source { serial, note: note.cloned(), length, exported: 0 });
        self.sources.len() - 1
    }

    pub(super) fn exported(&mut self, source: usize, at: Timestamp) {
        self.exported += 1;
        self.first = Some(self.first.map_or(at, |first| first.min(at)));
        self.last = self.last.max(Some(at));
        if let Some(source) = self.sources.get_mut(source) {
            source.exported += 1;
        }
    }

    pub(super) fn index_fault(&mut self) {
        self.index_faults += 1;
    }

    /// How a scan ended, and how many bytes it left. A growing segment may end within a block.
    pub(super) fn ended(&mut self, ended: Ended, left: u64, growing: bool) {
        if ended == Ended::Damaged || (ended == Ended::Torn && !growing) {
            self.damaged_bytes = self.damaged_bytes.saturating_add(left);
        }
    }

    pub(super) fn statement(self, dir: &RingDir, output: &Output<'_>, disorder: u64) -> Result<CarveStatement, CarveError> {
        let mut notes = Vec::new();
        if let (Some(first), Some(last)) = (self.first, self.last) {
            notes.push(format!("first packet {first}, last packet {last}"));
        }
        if self.index_faults > 0 {
            notes.push(format!("{} times an index was damaged; the segments were read instead", self.index_faults));
        }
        if self.damaged_bytes > 0 {
            notes.push(format!("{} bytes of the ring's files are damaged and could not be read", self.damaged_bytes));
        }
        if disorder > 0 {
            notes.push(format!("{disorder} packets stand behind later ones: the node's clock was set back"));
        }
        let mut segments = Vec::new();
        for source in self.sources.iter().filter(|source| source.exported > 0) {
            segments.push(digest(dir, source)?);
        }
        Ok(CarveStatement {
            failed: None,
            matched: self.matched,
            exported: self.exported,
            bytes: output.bytes,
            limited: output.limited,
            lost: self.lost(dir),
            purged: self.purged,
            segments,
            notes,
        })
    }

    /// What was lost on the way into the ring in the time asked for.
    fn lost(&self, dir: &RingDir) -> Vec<Missing> {
        let packets = |name: &str| Cause::ALL.into_iter().find(|cause| cause.name() == name).filter(|cause| cause.is_packets());
        let mut lost: Vec<Missing> = dir
            .losses()
            .into_iter()
            .filter(|span| self.since.is_none_or(|since| span.to >= since) && self.until.is_none_or(|until| span.from <= until))
            .filter_map(|span| {
                let why = packets(&span.cause)?.why().to_owned();
                Some(Missing { since: Some(span.from), until: Some(span.to), packets: Some(span.count), why })
            })
            .collect();
        if lost.len() > LISTED {
            let all = Missing {
                since: lost.iter().filter_map(|one| one.since).min(),
                until: lost.iter().filter_map(|one| one.until).max(),
                packets: Some(lost.iter().filter_map(|one| one.packets).sum()),
                why: format!("in {} intervals packets were lost on the way into the ring", lost.len()),
            };
            lost = vec![all];
        }
        lost
    }
}

/// A finished segment's hash is known; of another it is that of the bytes that were there.
fn digest(dir: &RingDir, source: &Source) -> io::Result<SegmentDigest> {
    let name = dir.segment(source.serial).file_name().unwrap_or_default().to_string_lossy().into_owned();
    if let Some(note) = &source.note {
        let (sha256, bytes) = (note.sha256.clone(), note.bytes);
        return Ok(SegmentDigest { name, sha256, bytes, complete: true, exported: source.exported });
    }
    let mut hash = Sha256::new();
    let mut file = match dir.open(source.serial) {
        Ok(file) => file.take(source.length),
        // Gone meanwhile: its packets are in the answer, its hash is in the journal.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(SegmentDigest { name, exported: source.exported, ..SegmentDigest::default() });
        }
        Err(error) => return Err(error),
    };
    let (mut buffer, mut bytes) = (vec![0; 256 << 10], 0u64);
    loop {
        let got = file.read(&mut buffer)?;
        if got == 0 {
            break;
        }
        bytes += got as u64;
        hash.update(buffer.get(..got).unwrap_or_default());
    }
    Ok(SegmentDigest { name, sha256: hex(&hash.finalize()), bytes, complete: false, exported: source.exported })
}
