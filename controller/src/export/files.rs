//! Captured files, opened: each under the SHA-256 of its content, readable by its owner, never
//! executable, byte-equal to the upload or not there.

use super::{Format, FormatDef, Part, Target};
use crate::fail::Failure;
use crate::screen::shown;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

pub(super) const FORMAT: FormatDef = FormatDef {
    name: "files",
    summary: "captured files under their SHA-256, byte-equal to the upload",
    opens_files: true,
    packets: false,
    secrets: false,
    build: || Box::new(Files::default()),
};

#[derive(Default)]
struct Files {
    open: Option<(Part, Value)>,
    found: u64,
}

impl Files {
    fn end(&mut self, to: &mut Target) -> Result<(), Failure> {
        let Some((part, about)) = self.open.take() else { return Ok(()) };
        let wanted = shown(&about, "sha256");
        let cut = about.get("cut_bytes").and_then(Value::as_u64).unwrap_or(0);
        let kept = ["session", "event", "magic", "cut_bytes"];
        let mut more: serde_json::Map<String, Value> =
            kept.iter().filter_map(|key| Some(((*key).to_owned(), about.get(*key)?.clone()))).collect();
        more.insert("visitor_name".to_owned(), Value::String(shown(&about, "name")));
        let name = wanted.clone();
        let sha256 = to.close(part, Value::Object(more))?;
        if cut == 0 && sha256 != wanted {
            return Err(Failure::verification(format!(
                "{name}: what was opened has SHA-256 {sha256}: the stored content is not the upload"
            )));
        }
        Ok(())
    }
}

impl Format for Files {
    fn item(&mut self, item: &Value, to: &mut Target) -> Result<(), Failure> {
        match item.get("type").and_then(Value::as_str) {
            Some("file") => {
                self.end(to)?;
                self.found += 1;
                let sha256 = shown(item, "sha256");
                // The name becomes a path: nothing but a hash may.
                if sha256.len() != 64 || !sha256.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                    to.note(format!("an event names a file by {sha256:?}, which is not a SHA-256: left out"));
                } else if let Some(why) = item.get("missing").and_then(Value::as_str) {
                    to.note(format!("{sha256} is not here: {why}"));
                } else {
                    self.open = Some((to.create(&sha256)?, item.clone()));
                }
            }
            Some("piece") => {
                if let Some((part, _)) = &mut self.open {
                    let data = item.get("data").and_then(Value::as_str).unwrap_or_default();
                    part.write(&STANDARD.decode(data).map_err(|_| Failure::failed("a piece of a file came damaged"))?)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn finish(&mut self, to: &mut Target) -> Result<(), Failure> {
        self.end(to)?;
        if self.found == 0 {
            to.note("no files in what was asked for");
        }
        Ok(())
    }
}
