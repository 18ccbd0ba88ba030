//! Files too large for a record: `<dir>/ab/<sha256 hex>`.
//!
//! The name is the SHA-256 of what was captured; what is stored is whatever the caller writes (a
//! sealed file is named by its plaintext's hash, which the caller knows). A blob appears whole or not
//! at all. When the quota is full the oldest unpinned ones go, counted. All calls block: from
//! asynchronous code use `spawn_blocking`. Content is never interpreted here.

use crate::disk;
use glasshive_event::text::{hex, unhex};
use sha2::{Digest, Sha256};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

const TMP: &str = "tmp";
const PIN: &str = "pin";
/// Most bytes one [`Blobs::read`] gives.
pub const MAX_READ: usize = 1 << 20;

/// Why a blob cannot be kept or read.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    /// The operating system refused.
    #[error("blob store {}: {source}; make it readable and writable for the user the daemon runs as", path.display())]
    Io {
        /// Directory or file.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// Larger than one blob may be: nothing is kept of it.
    #[error("a captured file is larger than the limit of {0} bytes")]
    Large(u64),
    /// No room: the disk is short, or everything in the quota is pinned.
    #[error("no room for a captured file: {0}")]
    Full(&'static str),
}

/// Settings of a blob store.
#[derive(Clone, Debug)]
pub struct BlobsConfig {
    /// Directory, made when missing (0700).
    pub dir: PathBuf,
    /// All blobs together, bytes on disk.
    pub quota_bytes: u64,
    /// Largest blob, bytes.
    pub max_bytes: u64,
}

/// What was evicted to make room, since the store was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Evicted {
    /// Blobs.
    pub count: u64,
    /// Bytes on disk.
    pub bytes: u64,
}

/// A stored blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its name.
    pub name: [u8; 32],
    /// Bytes stored.
    pub bytes: u64,
    /// `false`: it was there already.
    pub new: bool,
}

/// A store of blobs. One per directory.
pub struct Blobs {
    config: BlobsConfig,
    /// Bytes on disk and evictions; the lock also serialises evicting and publishing.
    state: Mutex<(u64, Evicted)>,
    serial: AtomicU64,
}

impl Blobs {
    /// Opens or makes the store; what an unclean stop left half written goes.
    pub fn open(config: BlobsConfig) -> Result<Self, BlobError> {
        let at = |source| BlobError::Io { path: config.dir.clone(), source };
        let tmp = config.dir.join(TMP);
        disk::remove_tree(&tmp).map_err(at)?;
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&tmp).map_err(at)?;
        let used = list(&config.dir).map_err(at)?.iter().fold(0u64, |sum, blob| sum.saturating_add(blob.bytes));
        Ok(Self { config, state: Mutex::new((used, Evicted::default())), serial: AtomicU64::new(0) })
    }

    /// Begins a blob.
    pub fn put(&self) -> Result<Put<'_>, BlobError> {
        let space = disk::Space::of(&self.config.dir).map_err(|source| self.at(source))?;
        if space.free < space.floor() {
            return Err(BlobError::Full("the disk is short of space"));
        }
        let tmp = self.config.dir.join(TMP).join(format!("{}", self.serial.fetch_add(1, Ordering::Relaxed)));
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&tmp).map_err(|source| self.at(source))?;
        Ok(Put { blobs: self, tmp, file, hash: Sha256::new(), bytes: 0 })
    }

    /// Stores bytes under their own hash.
    pub fn put_bytes(&self, bytes: &[u8]) -> Result<Stored, BlobError> {
        let mut put = self.put()?;
        put.write(bytes)?;
        put.finish()
    }

    /// Size of a blob, if it is here.
    pub fn size(&self, name: &[u8; 32]) -> Result<Option<u64>, BlobError> {
        match fs::metadata(self.path(name)) {
            Ok(meta) => Ok(Some(meta.len())),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(self.at(e)),
        }
    }

    /// Up to `len` bytes (at most [`MAX_READ`]) from `offset`; `None` when the blob is not here, fewer
    /// at its end.
    pub fn read(&self, name: &[u8; 32], offset: u64, len: usize) -> Result<Option<Vec<u8>>, BlobError> {
        let file = match File::open(self.path(name)) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(self.at(e)),
        };
        let rest = file.metadata().map_err(|e| self.at(e))?.len().saturating_sub(offset);
        let want = (len.min(MAX_READ) as u64).min(rest) as usize;
        let mut bytes = vec![0; want];
        file.read_exact_at(&mut bytes, offset).map_err(|e| self.at(e))?;
        Ok(Some(bytes))
    }

    /// Keeps a blob from eviction (a hold, or not fetched yet), across restarts, or lets go of it.
    pub fn pin(&self, name: &[u8; 32], pinned: bool) -> Result<(), BlobError> {
        let path = self.path(name).with_extension(PIN);
        let result = if pinned { File::create(&path).and_then(|file| file.sync_all()) } else { fs::remove_file(&path) };
        match result {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other.map_err(|e| self.at(e))?,
        }
        disk::sync_parent(&path).map_err(|e| self.at(e))
    }

    /// Removes a blob, pinned or not. Says whether it was there.
    pub fn remove(&self, name: &[u8; 32]) -> Result<bool, BlobError> {
        let mut state = self.lock();
        let path = self.path(name);
        let Ok(meta) = fs::metadata(&path) else { return Ok(false) };
        fs::remove_file(&path).map_err(|e| self.at(e))?;
        let _ = fs::remove_file(path.with_extension(PIN));
        state.0 = state.0.saturating_sub(meta.blocks().saturating_mul(512));
        Ok(true)
    }

    /// Bytes on disk.
    pub fn used_bytes(&self) -> u64 {
        self.lock().0
    }

    /// What the quota cost since the store was opened.
    pub fn evicted(&self) -> Evicted {
        self.lock().1
    }

    fn path(&self, name: &[u8; 32]) -> PathBuf {
        let name = hex(name);
        self.config.dir.join(name.get(..2).unwrap_or_default()).join(&name)
    }

    fn at(&self, source: io::Error) -> BlobError {
        if source.kind() == io::ErrorKind::StorageFull {
            return BlobError::Full("the disk is full");
        }
        BlobError::Io { path: self.config.dir.clone(), source }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, (u64, Evicted)> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Deletes the oldest unpinned blobs until `need` more bytes fit, and a tenth of the quota besides,
    /// so that the next ones need no scan.
    fn make_room(&self, state: &mut (u64, Evicted), need: u64) -> Result<(), BlobError> {
        let quota = self.config.quota_bytes;
        if state.0.saturating_add(need) <= quota {
            return Ok(());
        }
        let mut blobs = list(&self.config.dir).map_err(|e| self.at(e))?;
        blobs.retain(|blob| !blob.pinned);
        blobs.sort_by(|a, b| (a.at, &a.path).cmp(&(b.at, &b.path)));
        for blob in blobs {
            if state.0.saturating_add(need) <= quota - quota / 10 {
                break;
            }
            fs::remove_file(&blob.path).map_err(|e| self.at(e))?;
            state.0 = state.0.saturating_sub(blob.bytes);
            state.1.count += 1;
            state.1.bytes = state.1.bytes.saturating_add(blob.bytes);
        }
        if state.0.saturating_add(need) > quota {
            return Err(BlobError::Full("the quota is full of pinned files; raise it or release holds"));
        }
        Ok(())
    }
}

/// A blob being written; dropped without finishing it leaves nothing.
pub struct Put<'a> {
    blobs: &'a Blobs,
    tmp: PathBuf,
    file: File,
    hash: Sha256,
    bytes: u64,
}

impl Put<'_> {
    /// Writes on; an error once the limit is passed.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), BlobError> {
        let total = self.bytes.saturating_add(bytes.len() as u64);
        if total > self.blobs.config.max_bytes {
            return Err(BlobError::Large(self.blobs.config.max_bytes));
        }
        self.file.write_all(bytes).map_err(|e| self.blobs.at(e))?;
        self.hash.update(bytes);
        self.bytes = total;
        Ok(())
    }

    /// Publishes under the hash of what was written.
    pub fn finish(self) -> Result<Stored, BlobError> {
        let name = self.hash.clone().finalize().into();
        self.finish_as(name)
    }

    /// Publishes under a name the caller knows: the hash of the plaintext of what was written sealed.
    pub fn finish_as(self, name: [u8; 32]) -> Result<Stored, BlobError> {
        let blobs = self.blobs;
        self.file.sync_all().map_err(|e| blobs.at(e))?;
        let used = self.file.metadata().map_err(|e| blobs.at(e))?.blocks().saturating_mul(512);
        let mut state = blobs.lock();
        let path = blobs.path(&name);
        if let Ok(there) = fs::metadata(&path) {
            return Ok(Stored { name, bytes: there.len(), new: false });
        }
        blobs.make_room(&mut state, used)?;
        let folder = path.parent().unwrap_or(&blobs.config.dir);
        if !folder.exists() {
            fs::DirBuilder::new().mode(0o700).create(folder).map_err(|e| blobs.at(e))?;
            disk::sync_parent(folder).map_err(|e| blobs.at(e))?;
        }
        fs::rename(&self.tmp, &path).map_err(|e| blobs.at(e))?;
        disk::sync_dir(folder).map_err(|e| blobs.at(e))?;
        state.0 = state.0.saturating_add(used);
        Ok(Stored { name, bytes: self.bytes, new: true })
    }
}

impl Drop for Put<'_> {
    fn drop(&mut self) {
        // Gone already when it was published.
        let _ = fs::remove_file(&self.tmp);
    }
}

/// A name as people and links write it: 64 hexadecimal digits.
pub fn parse_name(text: &str) -> Option<[u8; 32]> {
    unhex(text)?.try_into().ok()
}

struct Found {
    path: PathBuf,
    bytes: u64,
    at: SystemTime,
    pinned: bool,
}

fn list(dir: &Path) -> io::Result<Vec<Found>> {
    let mut found = Vec::new();
    for folder in fs::read_dir(dir)? {
        let folder = folder?;
        if folder.file_name().len() != 2 || !folder.file_type()?.is_dir() {
            continue;
        }
        for entry in fs::read_dir(folder.path())? {
            let path = entry?.path();
            if path.extension().is_some() {
                continue;
            }
            let meta = fs::metadata(&path)?;
            let pinned = path.with_extension(PIN).exists();
            found.push(Found { bytes: meta.blocks().saturating_mul(512), at: meta.modified()?, pinned, path });
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(dir: &Path, quota: u64) -> Blobs {
        Blobs::open(BlobsConfig { dir: dir.join("files"), quota_bytes: quota, max_bytes: 100_000 }).unwrap()
    }

    /// Golden layout: the path is part of what the link and people rely on.
    #[test]
    fn layout_and_ranges() {
        let tmp = tempfile::tempdir().unwrap();
        let blobs = open(tmp.path(), 1 << 20);
        let stored = blobs.put_bytes(b"hello").unwrap();
        let name = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
        assert_eq!(hex(&stored.name), name);
        assert_eq!(parse_name(name), Some(stored.name));
        assert_eq!(fs::read(tmp.path().join("files/2c").join(name)).unwrap(), b"hello");
        assert!(stored.new && !blobs.put_bytes(b"hello").unwrap().new);
        let read = |offset, len| blobs.read(&stored.name, offset, len).unwrap();
        assert_eq!(read(0, 100).unwrap(), b"hello");
        assert_eq!(read(1, 3).unwrap(), b"ell");
        assert_eq!(read(9, 3).unwrap(), b"");
        assert_eq!(blobs.read(&[0; 32], 0, 1).unwrap(), None);
        assert_eq!(blobs.size(&stored.name).unwrap(), Some(5));
        assert!(blobs.remove(&stored.name).unwrap() && !blobs.remove(&stored.name).unwrap());
        assert_eq!(blobs.used_bytes(), 0);
    }

    #[test]
    fn sealed_content_is_named_by_the_caller_and_unfinished_leaves_nothing() {
        let tmp = tempfile::tempdir().unwrap();
        let blobs = open(tmp.path(), 1 << 20);
        let mut put = blobs.put().unwrap();
        put.write(b"sealed").unwrap();
        assert_eq!(put.finish_as([7; 32]).unwrap().bytes, 6);
        assert_eq!(blobs.read(&[7; 32], 0, 10).unwrap().unwrap(), b"sealed");
        let mut put = blobs.put().unwrap();
        assert!(matches!(put.write(&[0; 100_001]), Err(BlobError::Large(100_000))));
        drop(put);
        assert_eq!(fs::read_dir(tmp.path().join("files/tmp")).unwrap().count(), 0);
        fs::write(tmp.path().join("files/tmp/0"), b"half").unwrap();
        let used = blobs.used_bytes();
        drop(blobs);
        let blobs = open(tmp.path(), 1 << 20);
        assert_eq!(fs::read_dir(tmp.path().join("files/tmp")).unwrap().count(), 0);
        assert_eq!(blobs.used_bytes(), used);
    }

    #[test]
    fn the_oldest_unpinned_go_first_and_are_counted() {
        let tmp = tempfile::tempdir().unwrap();
        let blobs = open(tmp.path(), 100_000);
        let mut names = Vec::new();
        for n in 0..10u8 {
            let name = blobs.put_bytes(&[n; 8000]).unwrap().name;
            let age = SystemTime::now() - std::time::Duration::from_secs(1000 - u64::from(n));
            File::options().write(true).open(blobs.path(&name)).unwrap().set_modified(age).unwrap();
            names.push(name);
        }
        blobs.pin(&names[0], true).unwrap();
        assert_eq!(blobs.evicted(), Evicted::default());
        let big = blobs.put_bytes(&[99; 40_000]).unwrap().name;
        let evicted = blobs.evicted();
        assert!(evicted.count > 0 && blobs.used_bytes() <= 100_000);
        let here = |name: &[u8; 32]| blobs.size(name).unwrap().is_some();
        assert!(here(&names[0]) && here(&big));
        assert!((1..=evicted.count as usize).all(|n| !here(&names[n])) && here(&names[9]));
        for name in &names {
            blobs.pin(name, true).unwrap();
        }
        blobs.pin(&big, true).unwrap();
        assert!(matches!(blobs.put_bytes(&[1; 90_000]), Err(BlobError::Full(_))));
        blobs.pin(&big, false).unwrap();
    }
}
