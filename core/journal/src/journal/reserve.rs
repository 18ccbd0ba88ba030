//! A file that only takes up room, so that on a disk somebody else filled there is still room to
//! open sled (which writes) and to store what was accepted.

use crate::disk::{Space, sync_dir};
use rustix::fs::{FallocateFlags, fallocate};
use std::fs::{self, File};
use std::io;
use std::path::Path;

const FILE: &str = "reserve";
const MAX: u64 = 4 << 20;

/// Size of the reserve on a file system.
fn size(space: Space) -> u64 {
    MAX.min(space.floor() / 2)
}

/// Gives the room back to the disk.
pub(super) fn release(dir: &Path) {
    match fs::remove_file(dir.join(FILE)) {
        Ok(()) => tracing::warn!(dir = %dir.display(), "the disk is full: the journal's reserve is in use"),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => tracing::warn!(dir = %dir.display(), error = %e, "the journal's reserve cannot be released"),
    }
}

/// Before opening: with almost nothing free, sled could not open.
pub(super) fn release_when_short(dir: &Path) {
    if Space::of(dir).is_ok_and(|space| space.free < space.floor() / 2) {
        release(dir);
    }
}

/// Takes the room again when there is enough.
pub(super) fn restore(dir: &Path, space: Space) {
    let path = dir.join(FILE);
    let size = size(space);
    if path.exists() || space.free < space.floor().saturating_add(size.saturating_mul(2)) {
        return;
    }
    let made = File::create(&path).and_then(|file| {
        fallocate(&file, FallocateFlags::empty(), 0, size)?;
        file.sync_all()
    });
    if let Err(e) = made.and_then(|()| sync_dir(dir)) {
        tracing::debug!(error = %e, "no reserve on this file system");
        let _ = fs::remove_file(&path);
    }
}
