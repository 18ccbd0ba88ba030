//! One process at a time: `LOCK` in the store's directory, held with flock, naming the holder.

use super::config::StoreError;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Holds the store's directory until dropped. The kernel lets go when the process dies, however it dies.
pub(crate) struct DirLock(#[expect(dead_code, reason = "held, not read")] File);

impl DirLock {
    /// Takes the lock or says who has it.
    pub(crate) fn take(dir: &Path) -> Result<Self, StoreError> {
        let path = dir.join("LOCK");
        let io = || StoreError::io(&path);
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path).map_err(io())?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut pid = String::new();
                let _ = (&mut file).take(20).read_to_string(&mut pid);
                let pid = pid.trim();
                let pid = if pid.is_empty() { "of unknown id" } else { pid }.to_owned();
                return Err(StoreError::Locked { dir: dir.to_owned(), pid });
            }
            Err(TryLockError::Error(e)) => return Err(io()(e)),
        }
        file.set_len(0).map_err(io())?;
        file.rewind().map_err(io())?;
        writeln!(file, "{}", std::process::id()).map_err(io())?;
        Ok(Self(file))
    }
}
