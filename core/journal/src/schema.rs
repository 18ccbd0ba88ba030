//! The schema stamp of a database: a file `schema` with one number in the directory of a node's journal and of the
//! controller's store.
//!
//! A program that meets a newer number than it knows must not touch what is there: it says so in one line and exits
//! with [`EXIT`]. An older one is raised. A packet ring has no stamp: its files carry versions of their own, and what
//! is not readable of them is made again from the packets.

use crate::build;
use crate::disk;
use std::io;
use std::path::{Path, PathBuf};

/// Exit code of every program that refuses a newer database.
pub const EXIT: u8 = 7;

const FILE: &str = "schema";
/// Journals and stores both keep their segments here; one without a stamp is from before there were any.
const SEGMENTS: &str = "log";
/// Schema of what has no stamp.
const UNSTAMPED: u32 = 1;

/// Why a database is not opened.
#[derive(Debug, thiserror::Error)]
pub enum SchemaError {
    /// A newer program wrote it.
    #[error(
        "{dir} has schema {found}, this program knows {known}: install the newer package again, or put back the copy from before the upgrade (backup-VERSION in the state directory); nothing was changed",
        dir = .dir.display()
    )]
    Newer {
        /// The database's directory.
        dir: PathBuf,
        /// Its schema.
        found: u32,
        /// The newest schema this program knows.
        known: u32,
    },
    /// The stamp is not a number.
    #[error("{path} does not hold a schema number: restore it from a backup", path = .0.display())]
    Damaged(PathBuf),
    /// The stamp cannot be read or written.
    #[error("{path}: {source}; make it readable and writable for the user the daemon runs as", path = .path.display())]
    Io {
        /// The stamp.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// What was found of a stamp: its number, `None` for a database that is still to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found(Option<u32>);

/// Judges the database in `dir` without touching anything, before its lock is taken.
pub fn look(dir: &Path) -> Result<Found, SchemaError> {
    let path = dir.join(FILE);
    let found = match disk::read_small(&path, 32) {
        Ok(bytes) => {
            let number = std::str::from_utf8(&bytes).ok().and_then(|text| text.trim_end().parse().ok());
            Some(number.ok_or_else(|| SchemaError::Damaged(path.clone()))?)
        }
        // Also where the directory is none: making it says what is wrong with it.
        Err(source) if matches!(source.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            dir.join(SEGMENTS).exists().then_some(UNSTAMPED)
        }
        Err(source) if source.kind() == io::ErrorKind::InvalidData => return Err(SchemaError::Damaged(path)),
        Err(source) => return Err(SchemaError::Io { path, source }),
    };
    let known = build::schema();
    match found {
        Some(found) if found > known => Err(SchemaError::Newer { dir: dir.to_owned(), found, known }),
        found => Ok(Found(found)),
    }
}

/// Brings the database to this program's schema and stamps it; the caller holds its lock. Nothing needs converting
/// yet: a conversion belongs before the stamp, so that one that is interrupted is begun again.
pub fn settle(dir: &Path, found: Found) -> Result<(), SchemaError> {
    let (path, known) = (dir.join(FILE), build::schema());
    match found.0 {
        Some(found) if found < known => tracing::warn!(dir = %dir.display(), from = found, to = known, "database raised to a newer schema"),
        Some(_) if path.exists() => return Ok(()),
        _ => {}
    }
    disk::write_atomic(&path, format!("{known}\n").as_bytes()).map_err(|source| SchemaError::Io { path, source })
}
