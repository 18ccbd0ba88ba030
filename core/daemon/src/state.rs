//! The state directory: one process at a time, and room left on its file system.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// Name of the lock file within the directory.
pub const LOCK_FILE: &str = "lock";

/// An exclusive hold on a state directory, until dropped or the process ends in any way.
#[derive(Debug)]
pub struct DirLock {
    file: File,
    dir: PathBuf,
}

/// Why a state directory cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Someone else has it.
    #[error("{dir}: in use by {holder}: stop it, or name another with --state-dir DIR", dir = dir.display())]
    Held {
        /// The directory.
        dir: PathBuf,
        /// `name (pid 123)`, as the holder wrote it.
        holder: String,
    },
    /// It cannot be made or written.
    #[error("{path}: cannot be used as state directory: {source}: make it writable for this user, or name another with --state-dir DIR", path = path.display())]
    Unusable {
        /// The directory or lock file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
}

/// Refuses to let root make files in a state directory of another user, whose daemon could not read them.
/// `becomes`: root gives itself up for that user later.
///
/// # Errors
/// One line with the remedy.
pub fn refuse_for_another(dir: &Path, becomes: bool) -> Result<(), String> {
    let owner = std::fs::metadata(dir).map_or(0, |meta| meta.uid());
    if owner == 0 || becomes || !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let dir = dir.display();
    Err(format!("{dir}: belongs to another user: run this as that one: runuser -u \"$(stat -c %U {dir})\" -- …"))
}

impl DirLock {
    /// Makes the directory when needed (mode 0700) and locks it.
    ///
    /// # Errors
    /// [`LockError`], one line.
    pub fn acquire(dir: &Path) -> Result<Self, LockError> {
        let unusable = |path: &Path| {
            let path = path.to_owned();
            move |source| LockError::Unusable { path, source }
        };
        if !dir.is_dir() {
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(unusable(dir))?;
        }
        let path = dir.join(LOCK_FILE);
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path).map_err(unusable(&path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(LockError::Held { dir: dir.to_owned(), holder: holder(&mut file) }),
            Err(TryLockError::Error(error)) => return Err(unusable(&path)(error)),
        }
        let name = std::env::current_exe().ok().and_then(|exe| exe.file_name().map(|name| name.to_string_lossy().into_owned()));
        file.set_len(0).map_err(unusable(&path))?;
        writeln!(file, "{} {}", std::process::id(), name.unwrap_or_default().replace(char::is_whitespace, "_")).map_err(unusable(&path))?;
        Ok(Self { file, dir: dir.to_owned() })
    }

    /// The locked directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }
}

impl Drop for DirLock {
    fn drop(&mut self) {
        // The file stays: removing it would let two processes lock two files of one name.
        let _ = self.file.set_len(0);
        let _ = self.file.unlock();
    }
}

fn holder(file: &mut File) -> String {
    let mut text = String::new();
    let read = file.rewind().and_then(|()| file.take(256).read_to_string(&mut text));
    let words: Vec<&str> = text.split_whitespace().collect();
    match (read, words.as_slice()) {
        (Ok(_), [pid, name]) => format!("{name} (pid {pid})"),
        (Ok(_), [pid]) => format!("pid {pid}"),
        _ => String::from("another process"),
    }
}

/// Room on a file system, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// Size of the file system.
    pub total: u64,
    /// What an unprivileged process may still write.
    pub free: u64,
    /// Files that may still be made.
    pub files: u64,
}

/// Room on the file system that holds `path`.
///
/// # Errors
/// The system's, when `path` does not exist or cannot be asked.
pub fn space(path: &Path) -> io::Result<Space> {
    let stat = rustix::fs::statvfs(path)?;
    let unit = stat.f_frsize.max(1);
    Ok(Space { total: stat.f_blocks.saturating_mul(unit), free: stat.f_bavail.saturating_mul(unit), files: stat.f_favail })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("a/b");
        let lock = DirLock::acquire(&state).unwrap();
        assert_eq!(lock.dir(), state);
        let error = DirLock::acquire(&state).unwrap_err().to_string();
        assert!(
            error.contains(&format!("(pid {})", std::process::id())) && error.contains("--state-dir") && !error.contains('\n'),
            "{error}"
        );
        drop(lock);
        drop(DirLock::acquire(&state).unwrap());
    }

    /// Only root can be wrong here: for any other user the system itself refuses.
    #[test]
    fn root_makes_nothing_for_another() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(refuse_for_another(dir.path(), false), Ok(()));
        assert_eq!(refuse_for_another(&dir.path().join("not yet"), false), Ok(()));
        std::os::unix::fs::chown(dir.path(), Some(65_534), None).unwrap();
        let error = refuse_for_another(dir.path(), false).unwrap_err();
        assert!(error.contains("runuser") && error.contains(&dir.path().display().to_string()), "{error}");
        assert_eq!(refuse_for_another(dir.path(), true), Ok(()));
    }

    #[test]
    fn unusable_directory_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("f");
        std::fs::write(&file, "").unwrap();
        let error = DirLock::acquire(&file.join("x")).unwrap_err().to_string();
        assert!(error.contains("cannot be used as state directory"), "{error}");
    }

    #[test]
    fn room() {
        let room = space(Path::new("/")).unwrap();
        assert!(room.total >= room.free && room.total > 0);
        assert!(space(Path::new("/nonexistent")).is_err());
    }
}
