//! Packets of an export: `original.pcapng` as the sensors gave it, `decrypted.pcapng` derived from it
//! and from the records, and a classic pcap for old tools.
//!
//! `original.pcapng` is never touched after it came; `decrypted.pcapng` is a function of it, of the
//! records and of this build, all pinned in the manifest, so that anyone can make it again and
//! compare. With several sensors each one's file is kept as it came and `original.pcapng` is woven of
//! them. Secrets are in `decrypted.pcapng` only.

mod classic;
mod place;
mod story;
mod synth;
#[cfg(test)]
mod tests;
mod tuples;
mod weave;

use super::{Format, FormatDef, Part, Target};
use crate::fail::Failure;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use glasshive_event::text::hex;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use story::{Gather, Story};

const ORIGINAL: &str = "original.pcapng";
const DECRYPTED: &str = "decrypted.pcapng";
const CLASSIC: &str = "original.pcap";

pub(super) const PCAPNG: FormatDef = FormatDef {
    name: "pcapng",
    summary: "captured packets as the sensor holds them, nothing added, no secrets",
    opens_files: false,
    packets: true,
    secrets: false,
    build: || Box::new(Packets::new(Which::Original)),
};

pub(super) const DECRYPTED_PCAPNG: FormatDef = FormatDef {
    name: "decrypted",
    summary: "the same, and a second file with TLS keys, SSH and tunnel channels in clear, names and comments",
    opens_files: false,
    packets: true,
    secrets: true,
    build: || Box::new(Packets::new(Which::Decrypted)),
};

pub(super) const PCAP: FormatDef = FormatDef {
    name: "pcap",
    summary: "captured packets in the classic format; it has no place for secrets, names or comments",
    opens_files: false,
    packets: true,
    secrets: false,
    build: || Box::new(Packets::new(Which::Classic)),
};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Which {
    Original,
    Decrypted,
    Classic,
}

struct Packets {
    which: Which,
    gather: Gather,
    /// Sensors asked, in the order their packets come.
    sensors: Vec<String>,
    open: Option<(String, Part)>,
    /// Files of captured packets.
    files: Vec<PathBuf>,
    captured: Vec<Value>,
    missing: Vec<Value>,
    /// Why there are no packets.
    without: Option<String>,
}

fn text<'a>(item: &'a Value, key: &str) -> &'a str {
    item.get(key).and_then(Value::as_str).unwrap_or_default()
}

impl Packets {
    fn new(which: Which) -> Self {
        let (gather, sensors, files) = (Gather::default(), Vec::new(), Vec::new());
        Self { which, gather, sensors, open: None, files, captured: Vec::new(), missing: Vec::new(), without: None }
    }

    /// A sensor's packets begin.
    fn begin(&mut self, node: &str, to: &mut Target) -> Result<(), Failure> {
        // Node names are ours: letters, digits, dots and dashes.
        let plain = !node.is_empty() && node.len() <= 64 && node.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
        if !plain || self.files.len() >= 64 {
            return Err(Failure::failed("the answer names a sensor that is none"));
        }
        let name = if self.sensors.len() > 1 { format!("sensor-{node}.pcapng") } else { ORIGINAL.to_owned() };
        self.files.push(to.path(&name));
        self.open = Some((node.to_owned(), to.create(&name)?));
        Ok(())
    }

    /// A sensor's packets are all here; its statement says what is missing.
    fn end(&mut self, item: &Value, to: &mut Target) -> Result<(), Failure> {
        let Some((node, part)) = self.open.take() else { return Ok(()) };
        let sha256 = to.close(part, json!({"sensor": node}))?;
        let statement = item.get("statement").cloned().unwrap_or(Value::Null);
        let list = |key: &str| statement.get(key).and_then(Value::as_array).cloned().unwrap_or_default();
        for (key, words) in [("purged", "not kept any more"), ("lost", "lost on the way into the ring")] {
            for one in list(key) {
                let (since, until) = (text(&one, "since"), text(&one, "until"));
                to.note(crate::screen::scrub(&format!("sensor {node}: packets {words}, {since} to {until}: {}", text(&one, "why"))));
                self.missing.push(json!({"sensor": node, "what": key, "of": one}));
            }
        }
        if statement.get("limited").and_then(Value::as_bool) == Some(true) {
            to.note(format!("sensor {node}: there are more packets than one export takes; narrow it in time"));
            self.missing.push(json!({"sensor": node, "what": "limited"}));
        }
        for note in list("notes") {
            to.note(crate::screen::scrub(&format!("sensor {node}: {}", note.as_str().unwrap_or_default())));
        }
        self.captured.push(json!({"sensor": node, "sha256": sha256, "statement": statement}));
        Ok(())
    }

    /// One file of captured packets, of however many sensors.
    fn original(&self, to: &mut Target) -> Result<Option<PathBuf>, Failure> {
        if self.files.len() <= 1 {
            return Ok(self.files.first().cloned());
        }
        let mut part = to.create(ORIGINAL)?;
        let about = "Woven of the files of several sensors, which stand beside it as they came; frames and times are theirs.";
        let woven = weave::weave(&self.files, &Story::default(), about, &mut |bytes| part.write(bytes))?;
        to.close(part, json!({"packets": woven.captured, "woven_of": self.files.len()}))?;
        woven.notes.into_iter().for_each(|note| to.note(note));
        Ok(Some(to.path(ORIGINAL)))
    }

    fn decrypted(&self, original: Option<&Path>, story: &Story, to: &mut Target) -> Result<(), Failure> {
        let mut part = to.create(DECRYPTED)?;
        let inputs: Vec<PathBuf> = original.into_iter().map(Path::to_owned).collect();
        let woven = weave::weave(&inputs, story, &about(original.is_some()), &mut |bytes| part.write(bytes))?;
        let lines = story.keylog.lines().count();
        to.close(
            part,
            json!({"packets": woven.captured, "derived_packets": woven.derived, "derived_connections": woven.connections,
                "keylog_lines": lines, "holds_secrets": true}),
        )?;
        woven.notes.into_iter().for_each(|note| to.note(note));
        to.note("decrypted.pcapng holds secrets and what was typed in clear: keep it as you keep those");
        to.note("ports other than 443 may need a hint to be decrypted: tshark -d tcp.port==PORT,tls");
        Ok(())
    }
}

fn about(captured: bool) -> String {
    let from = if captured { "original.pcapng and the records" } else { "the records alone: no packets were captured" };
    format!(
        "Derived from {from} named in manifest.json; can be made again byte for byte. Packets of interface {} never were on a wire.",
        weave::DERIVED
    )
}

impl Format for Packets {
    fn item(&mut self, item: &Value, to: &mut Target) -> Result<(), Failure> {
        match text(item, "type") {
            "sensors" => {
                let nodes = item.get("nodes").and_then(Value::as_array).into_iter().flatten();
                self.sensors = nodes.filter_map(Value::as_str).map(str::to_owned).collect();
            }
            "sensor" => self.begin(text(item, "node"), to)?,
            "packets" => {
                let damaged = || Failure::failed("packets came damaged");
                let (_, part) = self.open.as_mut().ok_or_else(damaged)?;
                part.write(&STANDARD.decode(text(item, "data")).map_err(|_| damaged())?)?;
            }
            "statement" => self.end(item, to)?,
            "no_packets" => self.without = Some(text(item, "why").to_owned()),
            _ => self.gather.item(item),
        }
        Ok(())
    }

    fn finish(&mut self, to: &mut Target) -> Result<(), Failure> {
        if self.open.is_some() {
            return Err(Failure::failed("the packets broke off: export again"));
        }
        let story = std::mem::take(&mut self.gather).finish();
        let original = self.original(to)?;
        if let Some(why) = &self.without {
            to.note(format!("no original.pcapng: {why}"));
        }
        match (self.which, &original) {
            (Which::Original, _) => to.note("no secrets are in original.pcapng; --format decrypted makes a file that holds them"),
            (Which::Decrypted, original) => self.decrypted(original.as_deref(), &story, to)?,
            (Which::Classic, Some(original)) => {
                let mut part = to.create(CLASSIC)?;
                let packets = classic::write(original, &mut |bytes| part.write(bytes))?;
                to.close(part, json!({"packets": packets, "holds_secrets": false}))?;
                to.note("original.pcap carries no secrets, names, comments or loss counts: the classic format has no place for them");
            }
            (Which::Classic, None) => {}
        }
        if self.which == Which::Decrypted {
            story.notes.iter().for_each(|note| to.note(note.clone()));
        }
        to.pin("captured", json!(self.captured));
        to.pin("missing", json!(self.missing));
        to.pin("records", story.records);
        to.pin("findings", json!(story.findings));
        to.pin("build", json!({"version": glasshive_journal::build::version(), "binary_sha256": own_hash()}));
        Ok(())
    }
}

/// SHA-256 of the running binary.
fn own_hash() -> Option<String> {
    let mut file = std::fs::File::open("/proc/self/exe").ok()?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0u8; 256 * 1024];
    loop {
        match file.read(&mut buffer).ok()? {
            0 => return Some(hex(&hash.finalize())),
            n => hash.update(buffer.get(..n).unwrap_or_default()),
        }
    }
}
