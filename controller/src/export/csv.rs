//! One event a row for spreadsheets. A cell a spreadsheet would run as a formula is led by an
//! apostrophe; control characters are visible escapes; every cell is quoted (RFC 4180).

use super::{Format, FormatDef, Part, Target, base_name};
use crate::fail::Failure;
use crate::screen::wire;
use serde_json::{Value, json};

pub(super) const FORMAT: FormatDef = FormatDef {
    name: "csv",
    summary: "one event a row for spreadsheets; cells that would run as formulas are neutralised",
    opens_files: false,
    packets: false,
    secrets: false,
    build: || Box::new(Csv::default()),
};

/// Heading and where the value stands in an event object.
const COLUMNS: &[(&str, &str)] = &[
    ("time", "/time"),
    ("kind", "/kind"),
    ("session", "/session"),
    ("net", "/net"),
    ("node", "/node"),
    ("decoy", "/decoy"),
    ("service", "/service"),
    ("transport", "/transport"),
    ("source_ip", "/source/ip"),
    ("source_port", "/source/port"),
    ("destination_ip", "/destination/ip"),
    ("destination_port", "/destination/port"),
    ("user", "/detail/user"),
    ("secret_kind", "/detail/secret_kind"),
    ("secret_pivot", "/detail/secret_pivot"),
    ("accepted", "/detail/accepted"),
    ("command", "/detail/input"),
    ("exit", "/detail/exit"),
    ("verb", "/detail/verb"),
    ("target", "/detail/target"),
    ("status", "/detail/status"),
    ("file_name", "/detail/name"),
    ("file_size", "/detail/size"),
    ("sha256", "/detail/sha256"),
    ("reason", "/detail/reason"),
    ("duration_ns", "/detail/duration_ns"),
    ("bytes_in", "/detail/bytes_in"),
    ("bytes_out", "/detail/bytes_out"),
    ("event", "/event"),
    ("record_sha256", "/record_sha256"),
];
/// Columns an event without own ends takes from its session.
const FROM_SESSION: &[&str] = &["session", "decoy", "service", "transport", "source", "destination"];

#[derive(Default)]
struct Csv {
    session: Value,
    part: Option<Part>,
}

impl Csv {
    fn part(&mut self, to: &mut Target) -> Result<&mut Part, Failure> {
        if self.part.is_none() {
            let mut part = to.create(&format!("{}.csv", base_name(&self.session)))?;
            part.write(row(COLUMNS.iter().map(|(name, _)| (*name).to_owned())).as_bytes())?;
            self.part = Some(part);
        }
        self.part.as_mut().ok_or_else(|| Failure::failed("no file"))
    }
}

impl Format for Csv {
    fn item(&mut self, item: &Value, to: &mut Target) -> Result<(), Failure> {
        match item.get("type").and_then(Value::as_str) {
            Some("session") => self.session = item.clone(),
            Some("event") => {
                let mut item = item.clone();
                if let Value::Object(map) = &mut item {
                    for key in FROM_SESSION {
                        if let (false, Some(value)) = (map.contains_key(*key), self.session.get(*key)) {
                            map.insert((*key).to_owned(), value.clone());
                        }
                    }
                }
                let line = row(COLUMNS.iter().map(|(_, path)| item.pointer(path).map(wire).unwrap_or_default()));
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
        to.note("a leading apostrophe was put before cells a spreadsheet would run as a formula");
        Ok(())
    }
}

fn row(cells: impl Iterator<Item = String>) -> String {
    let mut line = cells.map(|text| format!("\"{}\"", neutral(text).replace('"', "\"\""))).collect::<Vec<_>>().join(",");
    line.push_str("\r\n");
    line
}

/// Text no spreadsheet takes for a formula: those look past leading blanks, and some take the
/// full-width forms too.
fn neutral(text: String) -> String {
    let first = text.trim_start().chars().next();
    if first.is_some_and(|c| "=+-@|%\u{ff1d}\u{ff0b}\u{ff0d}\u{ff20}".contains(c)) { format!("'{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formulas_are_text() {
        for (input, expected) in [
            ("=cmd|' /C calc'!A0", "\"'=cmd|' /C calc'!A0\"\r\n"),
            ("+1", "\"'+1\"\r\n"),
            ("-1", "\"'-1\"\r\n"),
            ("@SUM(A1)", "\"'@SUM(A1)\"\r\n"),
            ("  =1", "\"'  =1\"\r\n"),
            ("a\"b,c", "\"a\"\"b,c\"\r\n"),
            ("\"=1", "\"\"\"=1\"\r\n"),
            ("ls -la", "\"ls -la\"\r\n"),
        ] {
            assert_eq!(row(std::iter::once(input.to_owned())), expected);
        }
    }
}
