//! Exports: what an analyst takes elsewhere, each file with its SHA-256 in `manifest.json`.
//!
//! Adding a format = one file and one line in [`FORMATS`]. A format gets the objects of an export
//! answer one by one and writes through [`Target`], which refuses to overwrite and hashes as it goes.

mod cast;
mod csv;
mod ecs;
mod files;
mod jsonl;
mod packets;

use crate::fail::Failure;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// One format.
pub struct FormatDef {
    /// Name on the command line.
    pub name: &'static str,
    /// What it is for.
    pub summary: &'static str,
    /// Whether captured files are opened for it.
    pub opens_files: bool,
    /// Whether sensors are asked for packets.
    pub packets: bool,
    /// Whether keys that decrypt packets are opened for it; that needs a reason.
    pub secrets: bool,
    /// Makes a writer.
    pub build: fn() -> Box<dyn Format>,
}

/// All formats.
pub static FORMATS: &[FormatDef] =
    &[jsonl::FORMAT, csv::FORMAT, cast::FORMAT, files::FORMAT, packets::PCAPNG, packets::DECRYPTED_PCAPNG, packets::PCAP];

/// Turns the objects of an export answer into files.
pub trait Format: Send {
    /// One object: `type` is session, child, finding, event, file, piece, keylog, sensors, sensor, packets, statement or no_packets.
    fn item(&mut self, item: &Value, to: &mut Target) -> Result<(), Failure>;
    /// No more objects.
    fn finish(&mut self, to: &mut Target) -> Result<(), Failure>;
}

/// The directory an export goes to.
pub struct Target {
    dir: PathBuf,
    written: Vec<Value>,
    notes: Vec<String>,
    pinned: serde_json::Map<String, Value>,
}

/// A file being written; hashed as it goes.
pub struct Part {
    name: String,
    file: BufWriter<File>,
    hash: Sha256,
    bytes: u64,
}

impl Part {
    /// Adds bytes.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.hash.update(bytes);
        self.bytes += bytes.len() as u64;
        self.file.write_all(bytes).map_err(|error| Failure::failed(format!("{}: {error}", self.name)))
    }
}

impl Target {
    /// An export into `dir`, which is made.
    pub fn new(dir: &Path) -> Result<Self, Failure> {
        std::fs::create_dir_all(dir).map_err(|error| Failure::failed(format!("{}: {error}", dir.display())))?;
        if dir.join("manifest.json").exists() {
            return Err(Failure::usage(format!("{} already holds an export: choose another -o DIR", dir.display())));
        }
        Ok(Self { dir: dir.to_owned(), written: Vec::new(), notes: Vec::new(), pinned: serde_json::Map::new() })
    }

    /// Begins a file; `name` is ours, never a visitor's. Mode 0600: readable by its owner, never executable.
    pub fn create(&mut self, name: &str) -> Result<Part, Failure> {
        let path = self.dir.join(name);
        let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        let file = file.map_err(|error| Failure::failed(format!("{}: {error}", path.display())))?;
        Ok(Part { name: name.to_owned(), file: BufWriter::new(file), hash: Sha256::new(), bytes: 0 })
    }

    /// Ends a file, durably; returns its SHA-256.
    pub fn close(&mut self, part: Part, about: Value) -> Result<String, Failure> {
        let Part { name, file, hash, bytes } = part;
        let fail = |error: std::io::Error| Failure::failed(format!("{name}: {error}"));
        file.into_inner().map_err(|error| fail(error.into_error()))?.sync_all().map_err(fail)?;
        let sha256 = glasshive_event::text::hex(&hash.finalize());
        let mut entry = json!({"name": name, "bytes": bytes, "sha256": sha256});
        if let (Value::Object(entry), Value::Object(about)) = (&mut entry, about) {
            entry.extend(about);
        }
        self.written.push(entry);
        Ok(sha256)
    }

    /// Where a file of that name is or will be.
    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// A fact for the manifest.
    fn pin(&mut self, key: &str, value: Value) {
        self.pinned.insert(key.to_owned(), value);
    }

    /// Something the reader of the export must know.
    pub fn note(&mut self, text: impl Into<String>) {
        self.notes.push(text.into());
    }
}

/// One export: feeds a format, counts, and writes the manifest last.
pub struct Export {
    format: &'static FormatDef,
    writer: Box<dyn Format>,
    target: Target,
    session: Value,
    events: u64,
}

/// What was written.
#[derive(Debug)]
pub struct Written {
    /// File names with sizes and hashes.
    pub files: Vec<Value>,
    /// Events taken.
    pub events: u64,
    /// Things to know.
    pub notes: Vec<String>,
}

impl Export {
    /// Begins.
    pub fn new(format: &'static FormatDef, dir: &Path) -> Result<Self, Failure> {
        Ok(Self { format, writer: (format.build)(), target: Target::new(dir)?, session: Value::Null, events: 0 })
    }

    /// One object of the answer.
    pub fn item(&mut self, item: &Value) -> Result<(), Failure> {
        match item.get("type").and_then(Value::as_str) {
            // A finding's export holds several; the manifest lists the first as the one asked for.
            Some("session") if self.session.is_null() => self.session = item.clone(),
            Some("event") => self.events += 1,
            _ => {}
        }
        self.writer.item(item, &mut self.target)
    }

    /// Ends: closes the files and writes `manifest.json`.
    pub fn finish(mut self) -> Result<Written, Failure> {
        self.writer.finish(&mut self.target)?;
        let Target { dir, written, notes, pinned } = self.target;
        let mut manifest = json!({
            "manifest": 1,
            "format": self.format.name,
            "tool": format!("glasshive {}", glasshive_journal::build::version()),
            "exported": glasshive_event::Timestamp(crate::desk::now_ns()).rfc3339(),
            "attack_version": glasshive_event::attack::VERSION,
            "ecs_version": ecs::VERSION,
            "session": self.session,
            "events": self.events,
            "files": written,
            "notes": notes,
        });
        if let Value::Object(manifest) = &mut manifest {
            manifest.extend(pinned);
        }
        let text = crate::screen::json_pretty(&manifest);
        let path = dir.join("manifest.json");
        let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        file.and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()))
            .map_err(|error| Failure::failed(format!("{}: {error}", path.display())))?;
        Ok(Written { files: written, events: self.events, notes })
    }
}

/// File name for what belongs to the whole export.
fn base_name(session: &Value) -> String {
    session.get("session").and_then(Value::as_str).map_or_else(|| "events".to_owned(), str::to_owned)
}
