//! Where the follower stands, in one small file that is replaced whole. It is never ahead of what was
//! told: a crash makes the follower look at records again, and the teller writes nothing twice.

use crate::fail::Failure;
use glasshive_event::LogId;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// Version written and read.
const VERSION: u16 = 1;
/// Largest file read back.
const MAX_BYTES: u64 = 16 << 20;

/// The checkpoint. Version 1.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Checkpoint {
    pub(super) version: u16,
    /// Everything before this was looked at, nanoseconds UTC.
    pub(super) frontier_ns: i64,
    /// Last record of each log that was looked at, or waits for a second pass.
    pub(super) logs: BTreeMap<LogId, u64>,
    /// Nets that wait for a second pass: first and last time of their late records.
    #[serde(default)]
    pub(super) late: BTreeMap<String, (i64, i64)>,
}

impl Checkpoint {
    /// Reads the file. None, a damaged one, or one of a later build: everything is looked at again.
    pub(super) fn read(path: &Path) -> Self {
        let bytes = match glasshive_journal::disk::read_small(path, MAX_BYTES) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Self::default(),
            Err(error) => {
                tracing::warn!(%error, path = %path.display(), "fusion checkpoint not readable; everything is looked at again");
                return Self::default();
            }
        };
        match serde_json::from_slice::<Self>(&bytes) {
            Ok(read) if read.version == VERSION => read,
            _ => {
                tracing::warn!(path = %path.display(), "fusion checkpoint is damaged or of a later build; everything is looked at again");
                Self::default()
            }
        }
    }

    /// Writes the file, durably. Blocks for one small write.
    pub(super) fn write(&self, path: &Path) -> Result<(), Failure> {
        let text = serde_json::to_vec(&Self { version: VERSION, ..self.clone() }).map_err(Failure::failed)?;
        glasshive_journal::disk::write_atomic(path, &text).map_err(|error| Failure::failed(format!("{}: {error}", path.display())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comes_back_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("fusion");
        assert_eq!(Checkpoint::read(&path), Checkpoint::default());
        let kept =
            Checkpoint { version: VERSION, frontier_ns: 7, logs: [(LogId([1; 16]), 9)].into(), late: [("dmz".to_owned(), (1, 2))].into() };
        kept.write(&path).unwrap();
        assert_eq!(Checkpoint::read(&path), kept);
        assert_eq!(
            std::fs::read_to_string(&path).unwrap(),
            r#"{"version":1,"frontier_ns":7,"logs":{"01010101-0101-0101-0101-010101010101":9},"late":{"dmz":[1,2]}}"#
        );
        for bad in ["", "{", r#"{"version":2,"frontier_ns":7,"logs":{}}"#] {
            std::fs::write(&path, bad).unwrap();
            assert_eq!(Checkpoint::read(&path), Checkpoint::default(), "{bad}");
        }
    }
}
