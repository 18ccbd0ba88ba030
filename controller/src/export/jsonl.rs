//! One event a line, under ECS names.

use super::{Format, FormatDef, Part, Target, base_name, ecs};
use crate::fail::Failure;
use serde_json::{Value, json};

pub(super) const FORMAT: FormatDef = FormatDef {
    name: "jsonl",
    summary: "one event a line under ECS names, with the stored record and its SHA-256",
    opens_files: false,
    packets: false,
    secrets: false,
    build: || Box::new(Jsonl::default()),
};

#[derive(Default)]
struct Jsonl {
    session: Value,
    part: Option<Part>,
}

impl Jsonl {
    fn part(&mut self, to: &mut Target) -> Result<&mut Part, Failure> {
        if self.part.is_none() {
            self.part = Some(to.create(&format!("{}.jsonl", base_name(&self.session)))?);
        }
        self.part.as_mut().ok_or_else(|| Failure::failed("no file"))
    }
}

impl Format for Jsonl {
    fn item(&mut self, item: &Value, to: &mut Target) -> Result<(), Failure> {
        match item.get("type").and_then(Value::as_str) {
            Some("session") => self.session = item.clone(),
            Some("event") => {
                let mut line = crate::screen::json(&ecs::document(item, &self.session));
                line.push('\n');
                self.part(to)?.write(line.as_bytes())?;
            }
            _ => {}
        }
        Ok(())
    }

    fn finish(&mut self, to: &mut Target) -> Result<(), Failure> {
        self.part(to)?;
        if let Some(part) = self.part.take() {
            to.close(part, json!({}))?;
        }
        to.note("event.original is the stored record in base64; event.hash is the SHA-256 of those bytes");
        Ok(())
    }
}
