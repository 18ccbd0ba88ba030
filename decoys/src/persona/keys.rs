//! Keys and other secrets of a decoy that are made once and kept, so that a restart keeps its face.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

/// Makes once, keeps for ever. Used while services are built, never while visitors are served.
pub trait KeyStore: Send + Sync {
    /// The bytes kept under `label`, made with `make` the first time.
    fn get_or_make(&self, label: &str, make: &mut dyn FnMut() -> Result<Vec<u8>, String>) -> Result<Vec<u8>, String>;
}

/// Keeps keys in memory: tests.
#[derive(Default)]
pub struct MemoryKeys(Mutex<HashMap<String, Vec<u8>>>);

impl KeyStore for MemoryKeys {
    fn get_or_make(&self, label: &str, make: &mut dyn FnMut() -> Result<Vec<u8>, String>) -> Result<Vec<u8>, String> {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bytes) = held.get(label) {
            return Ok(bytes.clone());
        }
        let bytes = make()?;
        held.insert(label.to_owned(), bytes.clone());
        Ok(bytes)
    }
}

/// Keeps keys in a directory only the daemon reads, one file a label.
pub struct FileKeys(pub PathBuf);

impl KeyStore for FileKeys {
    fn get_or_make(&self, label: &str, make: &mut dyn FnMut() -> Result<Vec<u8>, String>) -> Result<Vec<u8>, String> {
        let name: String = label.chars().map(|c| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '_' }).collect();
        let path = self.0.join(name.trim_start_matches('.'));
        match std::fs::read(&path) {
            Ok(bytes) if !bytes.is_empty() => return Ok(bytes),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(format!("{}: cannot read the decoy's key: {error}; make it readable for the daemon", path.display())),
        }
        let bytes = make()?;
        write_private(&path, &bytes).map_err(|error| format!("{}: cannot keep the decoy's key: {error}", path.display()))?;
        Ok(bytes)
    }
}

fn write_private(path: &std::path::Path, bytes: &[u8]) -> io::Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
    if let Some(dir) = path.parent() {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    }
    let tmp = path.with_extension("new");
    let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&tmp)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&tmp, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kept_over_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let first = FileKeys(dir.path().join("keys")).get_or_make("web/ssh", &mut || Ok(vec![1, 2, 3])).unwrap();
        let second = FileKeys(dir.path().join("keys")).get_or_make("web/ssh", &mut || Err("made twice".into())).unwrap();
        assert_eq!(first, second);
    }
}
