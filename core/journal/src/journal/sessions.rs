//! Which sessions are open, so that a restart can close them.
//!
//! Kept from the envelopes of `session.open` and `session.close` alone. Per open session the record
//! without its detail is kept (about 130 bytes), and that is also how the set is written into the
//! file `SESSIONS` of each new segment: recovery reads that file and replays one segment.

use crate::block;
use crate::disk;
use glasshive_event::record::HEADER_LEN;
use glasshive_event::{Envelope, Kind, RecordView, SessionId};
use std::collections::HashMap;
use std::io;
use std::path::Path;

const FILE: &str = "SESSIONS";
/// More open sessions than this are not tracked (and counted).
pub(super) const MAX_OPEN: usize = 100_000;

/// A session that was opened and not closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenSession {
    /// The session.
    pub session: SessionId,
    /// Sequence number of its `session.open`, in the log it was written to.
    pub seq: u64,
    /// Wall time of its opening, nanoseconds UTC.
    pub wall_ns: i64,
    /// Monotonic time of its opening; comparable only under the same boot id.
    pub mono_ns: u64,
    /// Boot id under which it was opened.
    pub boot: [u8; 16],
    /// Envelope of its `session.open`.
    pub envelope: Envelope,
}

/// The set of open sessions.
#[derive(Clone, Default)]
pub(super) struct Sessions {
    open: HashMap<SessionId, Box<[u8]>>,
    untracked: u64,
}

impl Sessions {
    /// Whether a record may open or close a session: the envelope's variant, then the kind as a
    /// varint, so two bytes decide for almost every record.
    pub(super) fn concerns(record: &[u8]) -> bool {
        let known = [Kind::SessionOpen, Kind::SessionClose].map(Kind::number);
        matches!(record.get(HEADER_LEN..), Some([_, kind, ..]) if known.contains(&u16::from(*kind)))
    }

    /// Takes note of a record that has become durable.
    pub(super) fn observe(&mut self, record: &[u8]) {
        if !Self::concerns(record) {
            return;
        }
        let Ok(view) = RecordView::parse(record) else { return };
        let Ok((envelope, detail)) = view.split() else { return };
        let Some(session) = envelope.session else { return };
        if envelope.kind == Kind::SessionClose.number() {
            self.open.remove(&session);
        } else if self.open.len() < MAX_OPEN {
            let mut short = record.get(..record.len() - detail.len()).unwrap_or(record).to_vec();
            short.extend_from_slice(b"{}");
            self.open.insert(session, short.into_boxed_slice());
        } else {
            self.untracked += 1;
            if self.untracked.is_power_of_two() {
                tracing::warn!(
                    count = self.untracked,
                    limit = MAX_OPEN,
                    "open sessions beyond the limit are not tracked for node_crash closing"
                );
            }
        }
    }

    /// The open sessions, oldest first.
    pub(super) fn list(&self) -> Vec<OpenSession> {
        let mut list: Vec<_> = self
            .open
            .iter()
            .filter_map(|(session, record)| {
                let view = RecordView::parse(record).ok()?;
                let (envelope, _) = view.split().ok()?;
                let header = view.header;
                Some(OpenSession {
                    session: *session,
                    seq: header.seq,
                    wall_ns: header.wall_ns,
                    mono_ns: header.mono_ns,
                    boot: header.boot,
                    envelope,
                })
            })
            .collect();
        list.sort_by_key(|open| (open.wall_ns, open.seq, open.session));
        list
    }

    /// Writes the set into a segment's directory.
    pub(super) fn save(&self, segment: &Path) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(self.open.len().saturating_mul(160));
        for record in self.open.values() {
            bytes.extend_from_slice(&(record.len() as u32).to_be_bytes());
            bytes.extend_from_slice(record);
        }
        disk::write_atomic(&segment.join(FILE), &bytes)
    }

    /// Reads the set as it was when the segment began; `None` when the file is missing or damaged.
    pub(super) fn load(segment: &Path) -> Option<Self> {
        let limit = (MAX_OPEN * 1024) as u64;
        let bytes = disk::read_small(&segment.join(FILE), limit).ok()?;
        let mut sessions = Self::default();
        for record in block::records(&bytes) {
            sessions.observe(record.ok()?);
        }
        Some(sessions)
    }
}
