//! Segments as directories: listing, removing, copying before a recovery, putting aside.

use super::{CLEAN, LOCK_WAIT, SegmentError, io_error};
use crate::disk;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Whether `dir` was closed properly and has not been opened since.
pub fn is_clean(dir: &Path) -> bool {
    dir.join(CLEAN).exists()
}

/// Names of the segments in `parent`, sorted; finishes what a crash interrupted (sweeps `.trash-…`
/// and `.copying-…`, puts a saved copy back where its segment is missing).
pub fn list(parent: &Path) -> Result<Vec<String>, SegmentError> {
    let at = |source| io_error(parent, source);
    let mut names = Vec::new();
    let mut copies = Vec::new();
    for entry in fs::read_dir(parent).map_err(at)? {
        let entry = entry.map_err(at)?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        if name.starts_with(".trash-") || name.starts_with(".copying-") {
            disk::remove_tree(&entry.path()).map_err(at)?;
        } else if let Some(of) = name.strip_prefix("copy-") {
            copies.push(of.to_owned());
        } else if !name.starts_with("quarantine-") && !name.starts_with('.') && entry.file_type().map_err(at)?.is_dir() {
            names.push(name);
        }
    }
    for name in copies {
        if !names.contains(&name) {
            fs::rename(parent.join(format!("copy-{name}")), parent.join(&name)).map_err(at)?;
            disk::sync_dir(parent).map_err(at)?;
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// What opening and closing a segment takes at most, with a margin, bytes.
const ROOM: u64 = 1 << 20;

/// [`SegmentError::Full`] when the disk lacks room to open a segment, and `more` bytes besides.
pub fn check_room(dir: &Path, more: u64) -> Result<(), SegmentError> {
    match disk::Space::of(dir) {
        Ok(space) if space.free < more.saturating_add(ROOM) => Err(SegmentError::Full { dir: dir.to_owned() }),
        _ => Ok(()),
    }
}

/// Deletes a closed segment: renamed first, so that a crash leaves nothing that looks like one.
pub fn remove(dir: &Path) -> Result<(), SegmentError> {
    let at = |source| io_error(dir, source);
    let name = dir.file_name().unwrap_or_default().to_string_lossy();
    let trash = dir.with_file_name(format!(".trash-{name}"));
    disk::remove_tree(&trash).map_err(at)?;
    match fs::rename(dir, &trash) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other.map_err(at)?,
    }
    disk::sync_parent(dir).map_err(at)?;
    // The rename is what counts; what cannot be unlinked now is swept by the next `list`.
    if let Err(e) = disk::remove_tree(&trash) {
        tracing::warn!(path = %trash.display(), error = %e, "removed segment is not unlinked yet");
    }
    Ok(())
}

/// Puts a damaged segment aside under `into` (same file system) as `quarantine-NAME-N` and returns
/// where. The state from before recovery is kept when there is one, else what is there.
/// Drop the [`Segment`] first.
pub fn quarantine(dir: &Path, into: &Path) -> Result<PathBuf, SegmentError> {
    let at = |source| io_error(dir, source);
    let name = dir.file_name().unwrap_or_default().to_string_lossy();
    let target = (0..u32::MAX)
        .map(|n| into.join(format!("quarantine-{name}-{n}")))
        .find(|path| !path.exists())
        .ok_or_else(|| at(io::Error::from(io::ErrorKind::AlreadyExists)))?;
    let copy = copy_name(dir);
    if copy.try_exists().map_err(at)? {
        fs::rename(&copy, &target).map_err(at)?;
        disk::sync_dir(into).map_err(at)?;
        remove(dir)?;
    } else {
        fs::rename(dir, &target).map_err(at)?;
        disk::sync_dir(into).map_err(at)?;
    }
    disk::sync_parent(dir).map_err(at)?;
    Ok(target)
}

pub(super) fn copy_name(dir: &Path) -> PathBuf {
    dir.with_file_name(format!("copy-{}", dir.file_name().unwrap_or_default().to_string_lossy()))
}

/// Saves the state before recovery. A copy already there comes from a recovery that was interrupted
/// before it was accepted, so it is the better state: recovery starts again from it.
pub(super) fn save_copy(dir: &Path) -> Result<Option<PathBuf>, SegmentError> {
    let at = |source| io_error(dir, source);
    let copy = copy_name(dir);
    let name = dir.file_name().unwrap_or_default().to_string_lossy();
    let copying = dir.with_file_name(format!(".copying-{name}"));
    disk::remove_tree(&copying).map_err(at)?;
    let again = copy.try_exists().map_err(at)?;
    let (from, to) = if again { (copy.as_path(), dir) } else { (dir, copy.as_path()) };
    let need = disk::used_bytes(from).map_err(at)?.saturating_add(1 << 20);
    if disk::Space::of(from).map_err(at)?.free < need {
        tracing::warn!(segment = %dir.display(), need, "no room to copy the segment before recovering it");
        if again {
            remove(dir)?;
            fs::rename(&copy, dir).map_err(at)?;
            disk::sync_parent(dir).map_err(at)?;
        }
        return Ok(None);
    }
    disk::copy_tree(from, &copying).map_err(at)?;
    if again {
        remove(dir)?;
    }
    fs::rename(&copying, to).map_err(at)?;
    disk::sync_parent(dir).map_err(at)?;
    Ok(Some(copy))
}

/// Removes snapshots of sled that were never finished. sled writes `snap.N.generating` and renames it; a
/// full disk, a kill or a power cut in between leaves it behind, and the next open takes it for the newest
/// snapshot and finds the database damaged. Nothing is in it that the log file does not tell.
/// Nobody may hold the database.
pub(super) fn drop_unfinished_snapshots(dir: &Path) -> Result<(), SegmentError> {
    let at = |source| io_error(dir, source);
    for entry in fs::read_dir(dir).map_err(at)? {
        let entry = entry.map_err(at)?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("snap.") && name.ends_with(".generating") {
            fs::remove_file(entry.path()).map_err(at)?;
        }
    }
    Ok(())
}

/// Waits until nobody holds the database, so that nothing is touched that somebody else has open.
pub(super) fn wait_for_lock(dir: &Path) -> Result<(), SegmentError> {
    let file = match File::open(dir.join("db")) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(io_error(dir, e)),
    };
    let until = Instant::now() + LOCK_WAIT;
    loop {
        match file.try_lock() {
            Ok(()) => return file.unlock().map_err(|e| io_error(dir, e)),
            Err(fs::TryLockError::WouldBlock) if Instant::now() < until => std::thread::park_timeout(Duration::from_millis(2)),
            Err(fs::TryLockError::WouldBlock) => return Err(SegmentError::Locked { dir: dir.to_owned() }),
            Err(fs::TryLockError::Error(e)) => return Err(io_error(dir, e)),
        }
    }
}
