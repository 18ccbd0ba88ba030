//! Private files: written beside, synced, renamed; refused when others can read them.

use super::IdentityError;
use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

const FILE_MODE: u32 = 0o600;
const DIR_MODE: u32 = 0o700;
/// A registry of ten thousand nodes stays far below.
const MAX_FILE: u64 = 16 * 1024 * 1024;

/// Makes `dir` (0700) or checks that others cannot look into it.
pub(crate) fn ensure_dir(dir: &Path) -> Result<(), IdentityError> {
    match std::fs::metadata(dir) {
        Ok(meta) if !meta.is_dir() => Err(IdentityError::Damaged { path: dir.into(), what: "not a directory".into() }),
        Ok(meta) => check_mode(dir, meta.permissions().mode(), DIR_MODE),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            DirBuilder::new().recursive(true).mode(DIR_MODE).create(dir).map_err(|source| io(dir, source))
        }
        Err(source) => Err(io(dir, source)),
    }
}

/// Replaces `path` by `bytes` (0600): after a crash there is the old file or the new one.
pub(crate) fn write_private(path: &Path, bytes: &[u8]) -> Result<(), IdentityError> {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let dir = path.parent().unwrap_or_else(|| Path::new("."));
    let beside = dir.join(format!(".{name}.new"));
    let write = || -> std::io::Result<()> {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(FILE_MODE).open(&beside)?;
        // An old file of that name keeps its mode: set it before anything secret is inside.
        file.set_permissions(Permissions::from_mode(FILE_MODE))?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&beside, path)?;
        File::open(dir)?.sync_all()
    };
    write().map_err(|source| io(path, source))
}

/// Reads a private file; `remedy` is what to type when it is missing.
pub(crate) fn read_private(path: &Path, remedy: &'static str) -> Result<Vec<u8>, IdentityError> {
    let file = File::open(path).map_err(|source| match source.kind() {
        std::io::ErrorKind::NotFound => IdentityError::Missing { path: path.into(), remedy },
        _ => io(path, source),
    })?;
    let meta = file.metadata().map_err(|source| io(path, source))?;
    check_mode(path, meta.permissions().mode(), FILE_MODE)?;
    if meta.len() > MAX_FILE {
        return Err(IdentityError::Damaged { path: path.into(), what: format!("{} bytes", meta.len()) });
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE).read_to_end(&mut bytes).map_err(|source| io(path, source))?;
    Ok(bytes)
}

/// The same as text.
pub(crate) fn read_private_text(path: &Path, remedy: &'static str) -> Result<String, IdentityError> {
    String::from_utf8(read_private(path, remedy)?).map_err(|_| IdentityError::Damaged { path: path.into(), what: "not UTF-8".into() })
}

/// Removes a file if it is there.
pub(crate) fn remove(path: &Path) -> Result<(), IdentityError> {
    match std::fs::remove_file(path) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => Err(io(path, source)),
        _ => Ok(()),
    }
}

fn check_mode(path: &Path, mode: u32, want: u32) -> Result<(), IdentityError> {
    let mode = mode & 0o7777;
    if mode & 0o077 == 0 { Ok(()) } else { Err(IdentityError::Permissions { path: path.into(), mode, want }) }
}

fn io(path: &Path, source: std::io::Error) -> IdentityError {
    IdentityError::Io { path: path.into(), source }
}
