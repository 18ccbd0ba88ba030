//! A copy of everything a controller is: state directory (identity with CA, sealing key and deny list, log, summary,
//! fetched files) and configuration, with a manifest of hashes; and the way back onto an empty host.
//!
//! The store is held, not open, while it is copied: what lies on disk is whole then. It must never write into a state
//! directory that holds anything.

use crate::config::Config;
use crate::fail::Failure;
use glasshive_event::text::hex;
use glasshive_journal::{schema, store};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

const MANIFEST: &str = "MANIFEST";
const STATE: &str = "state";
const CONFIG: &str = "controller.toml";
/// Where a restore works until it is whole.
const WORK: &str = ".restoring";
/// Largest manifest read: a million files.
const MAX_MANIFEST: u64 = 256 << 20;

/// What was copied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Copied {
    /// Files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Copies state and configuration into the new directory `to` (0700). Nobody may have the store open.
///
/// # Errors
/// One line; nothing is left at `to` then.
pub fn save(config: &Config, config_path: &Path, to: &Path) -> Result<Copied, Failure> {
    if to.exists() {
        return Err(Failure::refused(format!("{} exists: name a directory that is still to be made", to.display())));
    }
    let _held = store::hold(&config.state_dir)?;
    let beside = beside(to);
    let saved = write(config, config_path, &beside).and_then(|copied| {
        fs::rename(&beside, to).map_err(at(to))?;
        Ok(copied)
    });
    if saved.is_err() {
        let _ = fs::remove_dir_all(&beside);
    }
    saved
}

fn write(config: &Config, config_path: &Path, to: &Path) -> Result<Copied, Failure> {
    make_dir(to)?;
    let mut walk = Walk { copied: Copied::default(), manifest: String::new(), expected: None, owner: None };
    walk.tree(&config.state_dir, &to.join(STATE), Path::new(STATE), &|name| {
        // Copies of upgrades, and what a lock or a restore left, are not the state.
        ["LOCK", "lock", WORK].contains(&name) || name.starts_with("backup-") || name.starts_with("aside-")
    })?;
    if config_path.exists() {
        walk.file(config_path, &to.join(CONFIG), Path::new(CONFIG))?;
    }
    let path = to.join(MANIFEST);
    let mut manifest = File::create(&path).map_err(at(&path))?;
    manifest.write_all(walk.manifest.as_bytes()).and_then(|()| manifest.sync_all()).map_err(at(&path))?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).map_err(at(&path))?;
    File::open(to).and_then(|dir| dir.sync_all()).map_err(at(to))?;
    Ok(walk.copied)
}

/// Puts the state of the backup `from` into the configured state directory, which must be empty or missing. The controller
/// begins a new log of its own: what it wrote after the backup had the numbers that would come next.
///
/// # Errors
/// One line; the state directory is as it was then.
pub fn restore(from: &Path, config: &Config) -> Result<Copied, Failure> {
    let state = &config.state_dir;
    let filled = state.exists() && fs::read_dir(state).map_err(at(state))?.next().is_some();
    if filled {
        return Err(Failure::refused(format!(
            "{} is not empty: a backup is restored onto a new host only; move the directory away first",
            state.display()
        )));
    }
    schema::look(&from.join(STATE)).map_err(store::StoreError::from)?;
    let expected = manifest(from)?;
    if !state.exists() {
        make_dir(state)?;
    }
    let work = state.join(WORK);
    let meta = fs::metadata(state).map_err(at(state))?;
    let owner = rustix::process::geteuid().is_root().then(|| (meta.uid(), meta.gid()));
    let mut moved = Vec::new();
    let restored = put_back(from, &work, expected, owner).and_then(|copied| {
        // The identity last: with it the state is whole.
        let mut names: Vec<_> = fs::read_dir(&work).map_err(at(&work))?.filter_map(|entry| Some(entry.ok()?.file_name())).collect();
        names.sort_by_key(|name| name == "identity");
        for name in names {
            fs::rename(work.join(&name), state.join(&name)).map_err(at(state))?;
            moved.push(state.join(name));
        }
        fs::remove_dir(&work).map_err(at(&work))?;
        File::open(state).and_then(|dir| dir.sync_all()).map_err(at(state))?;
        Ok(copied)
    });
    if restored.is_err() {
        for path in moved {
            let _ = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        }
        let _ = fs::remove_dir_all(&work);
    }
    restored
}

fn put_back(from: &Path, work: &Path, expected: BTreeMap<PathBuf, String>, owner: Option<(u32, u32)>) -> Result<Copied, Failure> {
    let wanted = expected.keys().filter(|path| path.starts_with(STATE)).count() as u64;
    let mut walk = Walk { copied: Copied::default(), manifest: String::new(), expected: Some(expected), owner };
    walk.tree(&from.join(STATE), work, Path::new(STATE), &|_| false)?;
    if walk.copied.files != wanted {
        return Err(Failure::verification(format!("{}: {} of {wanted} files are there", from.display(), walk.copied.files)));
    }
    let own_log = work.join("controller-log");
    match fs::remove_file(&own_log) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(at(&own_log)(error)),
        _ => Ok(walk.copied),
    }
}

/// The hashes a backup says its files have.
fn manifest(from: &Path) -> Result<BTreeMap<PathBuf, String>, Failure> {
    let path = from.join(MANIFEST);
    let mut text = String::new();
    let file = File::open(&path)
        .map_err(|error| Failure::not_found(format!("{}: {error}: name a directory glasshive backup made", path.display())))?;
    file.take(MAX_MANIFEST).read_to_string(&mut text).map_err(at(&path))?;
    let line = |line: &str| {
        let (hash, name) = line.split_once("  ")?;
        Some((PathBuf::from(name), hash.to_owned()))
    };
    let damaged = || Failure::verification(format!("{} is damaged", path.display()));
    text.lines().map(|text| line(text).ok_or_else(damaged)).collect()
}

/// Copies files and hashes them on the way.
struct Walk {
    copied: Copied,
    manifest: String,
    /// What the hashes must be.
    expected: Option<BTreeMap<PathBuf, String>>,
    /// Whose the copies become.
    owner: Option<(u32, u32)>,
}

impl Walk {
    fn tree(&mut self, from: &Path, to: &Path, name: &Path, skip: &dyn Fn(&str) -> bool) -> Result<(), Failure> {
        make_dir(to)?;
        self.own(to)?;
        let mut entries: Vec<_> = fs::read_dir(from).and_then(Iterator::collect).map_err(at(from))?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let file_name = entry.file_name();
            let Some(text) = file_name.to_str().filter(|text| !text.contains('\n')) else {
                return Err(Failure::failed(format!("{}: a name that is not one of ours", entry.path().display())));
            };
            if skip(text) {
                continue;
            }
            let (target, name) = (to.join(text), name.join(text));
            let kind = entry.file_type().map_err(at(&entry.path()))?;
            if kind.is_dir() {
                self.tree(&entry.path(), &target, &name, &|_| false)?;
            } else if kind.is_file() {
                self.file(&entry.path(), &target, &name)?;
            }
        }
        File::open(to).and_then(|dir| dir.sync_all()).map_err(at(to))
    }

    fn file(&mut self, from: &Path, to: &Path, name: &Path) -> Result<(), Failure> {
        let mut source = File::open(from).map_err(at(from))?;
        let mut target = File::create(to).map_err(at(to))?;
        // Before anything secret is inside.
        target.set_permissions(fs::Permissions::from_mode(0o600)).map_err(at(to))?;
        let (mut hash, mut part) = (Sha256::new(), vec![0; 1 << 16]);
        loop {
            let read = source.read(&mut part).map_err(at(from))?;
            let Some(bytes) = part.get(..read).filter(|bytes| !bytes.is_empty()) else { break };
            hash.update(bytes);
            target.write_all(bytes).map_err(at(to))?;
            self.copied.bytes += bytes.len() as u64;
        }
        target.sync_all().map_err(at(to))?;
        self.own(to)?;
        self.copied.files += 1;
        let hash = hex(&hash.finalize());
        if self.expected.as_ref().is_some_and(|expected| expected.get(name) != Some(&hash)) {
            return Err(Failure::verification(format!("{} is not what the manifest says: take another backup", from.display())));
        }
        self.manifest.push_str(&format!("{hash}  {}\n", name.display()));
        Ok(())
    }

    fn own(&self, path: &Path) -> Result<(), Failure> {
        let Some((user, group)) = self.owner else { return Ok(()) };
        std::os::unix::fs::chown(path, Some(user), Some(group)).map_err(at(path))
    }
}

fn make_dir(path: &Path) -> Result<(), Failure> {
    fs::DirBuilder::new().mode(0o700).create(path).map_err(at(path))
}

/// Where a backup is written until it is whole.
fn beside(to: &Path) -> PathBuf {
    let mut name = to.file_name().unwrap_or_default().to_os_string();
    name.push(".new");
    to.with_file_name(name)
}

fn at(path: &Path) -> impl FnOnce(std::io::Error) -> Failure {
    let path = path.to_owned();
    move |error| Failure::failed(format!("{}: {error}", path.display()))
}
