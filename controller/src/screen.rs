//! Everything that reaches a person's terminal goes through here: tables that fit, JSON with every
//! deceptive character escaped, and a last scrub of each line.
//!
//! Callers escape visitor text when they put it into a line ([`wire`], [`shown`]); the scrub is the
//! second wall, so that a forgotten escape shows as `\x1b` and never acts.

use crate::fail::Failure;
use comfy_table::presets::NOTHING;
use comfy_table::{Cell, CellAlignment, ColumnConstraint, ContentArrangement, Row, Table, Width};
use serde_json::Value;
use std::io::{IsTerminal as _, Write};
use std::sync::{Arc, Mutex, PoisonError};

/// Width when the output is not a terminal.
pub const PLAIN_WIDTH: u16 = 80;

/// Where a command writes, and how.
pub struct Out {
    stdout: Box<dyn Write + Send>,
    stderr: Box<dyn Write + Send>,
    /// Columns a line may use.
    pub width: u16,
    /// Whether headings may be styled.
    pub color: bool,
    /// Whether standard output is a terminal.
    pub tty: bool,
    /// One object a line instead of tables.
    pub json: bool,
}

/// What a captured [`Out`] was given.
#[derive(Clone, Default)]
pub struct Capture(Arc<Mutex<Vec<u8>>>);

impl Capture {
    /// The bytes so far.
    pub fn bytes(&self) -> Vec<u8> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The bytes so far as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes()).into_owned()
    }
}

impl Write for Capture {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Out {
    /// The process's own output.
    pub fn process(json: bool) -> Self {
        let tty = std::io::stdout().is_terminal();
        let width = if tty { terminal_width() } else { PLAIN_WIDTH };
        let color = tty && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self { stdout: Box::new(std::io::stdout()), stderr: Box::new(std::io::stderr()), width, color, tty, json }
    }

    /// Output into memory: standard output and standard error.
    pub fn captured(json: bool) -> (Self, Capture, Capture) {
        let (stdout, stderr) = (Capture::default(), Capture::default());
        let out =
            Self { stdout: Box::new(stdout.clone()), stderr: Box::new(stderr.clone()), width: PLAIN_WIDTH, color: false, tty: false, json };
        (out, stdout, stderr)
    }

    /// One line for the reader.
    pub fn line(&mut self, text: &str) -> Result<(), Failure> {
        put(&mut self.stdout, &scrub(text))
    }

    /// One line beside the result: progress, hints, the way to the next page.
    pub fn note(&mut self, text: &str) -> Result<(), Failure> {
        put(&mut self.stderr, &scrub(text))
    }

    /// A heading line.
    pub fn heading(&mut self, text: &str) -> Result<(), Failure> {
        let text = scrub(text);
        let text = if self.color { format!("\x1b[1m{text}\x1b[0m") } else { text };
        put(&mut self.stdout, &text)
    }

    /// One JSON object.
    pub fn object(&mut self, value: &Value) -> Result<(), Failure> {
        put(&mut self.stdout, &json(value))
    }

    /// A table, or a sentence when it has no rows.
    pub fn table(&mut self, columns: &[Column], rows: &[Value], none: &str) -> Result<(), Failure> {
        if rows.is_empty() {
            return self.line(none);
        }
        for (index, line) in table(columns, rows, self.width).lines().enumerate() {
            if index == 0 {
                self.heading(line.trim_end())?;
            } else {
                self.line(line.trim_end())?;
            }
        }
        Ok(())
    }

    /// Bytes that were made inert elsewhere (replay), or that are ours (completions).
    pub fn raw(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.stdout.write_all(bytes).and_then(|()| self.stdout.flush()).or_else(broken_pipe)
    }
}

fn put(to: &mut dyn Write, line: &str) -> Result<(), Failure> {
    to.write_all(line.as_bytes()).and_then(|()| to.write_all(b"\n")).and_then(|()| to.flush()).or_else(broken_pipe)
}

/// `glasshive sessions | head` is not a failure of ours; the exit code tells scripts nothing was lost but the reader.
fn broken_pipe(error: std::io::Error) -> Result<(), Failure> {
    if error.kind() == std::io::ErrorKind::BrokenPipe {
        return Err(Failure::failed(""));
    }
    Err(Failure::failed(format!("cannot write the output: {error}")))
}

fn terminal_width() -> u16 {
    Table::new().width().filter(|width| *width >= 40).unwrap_or(PLAIN_WIDTH)
}

/// A column of a list.
pub struct Column {
    /// Heading.
    pub title: &'static str,
    /// The cell of a row, already escaped.
    pub get: fn(&Value) -> String,
    /// Numbers stand to the right.
    pub right: bool,
    /// Never shortened.
    pub whole: bool,
    /// Shown when the output has at least this many columns.
    pub from: u16,
    /// Shown when it has at most this many.
    pub until: u16,
}

impl Column {
    /// A column that may be shortened.
    pub const fn text(title: &'static str, get: fn(&Value) -> String) -> Self {
        Self { title, get, right: false, whole: false, from: 0, until: u16::MAX }
    }
    /// A column that is never shortened: ids and times.
    pub const fn whole(title: &'static str, get: fn(&Value) -> String) -> Self {
        Self { title, get, right: false, whole: true, from: 0, until: u16::MAX }
    }
    /// A number.
    pub const fn number(title: &'static str, get: fn(&Value) -> String) -> Self {
        Self { title, get, right: true, whole: true, from: 0, until: u16::MAX }
    }
    /// Shown on outputs at least this wide.
    pub const fn from(mut self, width: u16) -> Self {
        self.from = width;
        self
    }
    /// Shown on outputs at most this wide.
    pub const fn until(mut self, width: u16) -> Self {
        self.until = width;
        self
    }
}

/// Draws a list within `width` columns, one line a row.
pub fn table(columns: &[Column], rows: &[Value], width: u16) -> String {
    let columns: Vec<_> = columns.iter().filter(|column| column.from <= width && width <= column.until).collect();
    let mut table = blank(width);
    table.set_header(columns.iter().map(|column| cell(column, column.title.to_owned())).collect::<Vec<_>>());
    for row in rows {
        let mut line = Row::from(columns.iter().map(|column| cell(column, clip((column.get)(row)))).collect::<Vec<_>>());
        line.max_height(1);
        table.add_row(line);
    }
    let last = columns.len().saturating_sub(1);
    for (index, column) in columns.iter().enumerate() {
        if let Some(shape) = table.column_mut(index) {
            shape.set_padding((0, if index == last { 0 } else { 2 }));
            if column.whole {
                shape.set_constraint(ColumnConstraint::ContentWidth);
            }
        }
    }
    table.to_string()
}

/// Lines of a story: a label, a word, and text that wraps under itself.
pub fn story(rows: &[[String; 3]], width: u16) -> String {
    // Without labels the words begin the line.
    let first = usize::from(rows.iter().all(|[label, ..]| label.is_empty()));
    let mut table = blank(width);
    for row in rows {
        table.add_row(row.iter().skip(first).map(|text| Cell::new(scrub(text))).collect::<Vec<_>>());
    }
    for index in first..3 {
        if let Some(shape) = table.column_mut(index - first) {
            shape.set_padding((0, if index == 2 { 0 } else { 2 }));
            match index {
                0 => {
                    shape.set_cell_alignment(CellAlignment::Right);
                    shape.set_constraint(ColumnConstraint::LowerBoundary(Width::Fixed(10)));
                }
                1 => {
                    shape.set_constraint(ColumnConstraint::ContentWidth);
                }
                _ => {}
            }
        }
    }
    table.to_string().lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}

fn blank(width: u16) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING);
    table.force_no_tty();
    table.set_width(width);
    table.set_content_arrangement(ContentArrangement::Dynamic);
    table.set_truncation_indicator("…");
    table
}

fn cell(column: &Column, text: String) -> Cell {
    let cell = Cell::new(text);
    if column.right { cell.set_alignment(CellAlignment::Right) } else { cell }
}

/// A list's cell never needs more than a screen line, whatever a visitor sent.
fn clip(text: String) -> String {
    match text.char_indices().nth(300) {
        Some((at, _)) => format!("{}…", text.get(..at).unwrap_or_default()),
        None => text,
    }
}

/// Makes a composed line inert without doubling the backslashes of what is already escaped.
pub fn scrub(text: &str) -> String {
    if text.bytes().all(|byte| (0x20..0x7f).contains(&byte)) {
        return text.to_owned();
    }
    let mut out = String::with_capacity(text.len());
    let mut buffer = [0u8; 4];
    for c in text.chars() {
        if c == '\\' {
            out.push(c);
        } else {
            out.push_str(&glasshive_event::text::escape(c.encode_utf8(&mut buffer)));
        }
    }
    out
}

/// JSON on one line in which no character can move, hide or reorder what a person reads: all
/// such characters are `\u` escapes, so the value a program reads is unchanged.
pub fn json(value: &Value) -> String {
    inert_json(value.to_string())
}

/// [`json`] over several lines, for files people read.
pub fn json_pretty(value: &Value) -> String {
    let mut text = inert_json(serde_json::to_string_pretty(value).unwrap_or_default());
    text.push('\n');
    text
}

/// Outside of strings JSON has none of these characters, and inside a `\u` escape means the same.
fn inert_json(text: String) -> String {
    if text.bytes().all(|byte| (0x20..0x7f).contains(&byte)) {
        return text;
    }
    let mut out = String::with_capacity(text.len());
    let mut buffer = [0u8; 4];
    for c in text.chars() {
        let one = c.encode_utf8(&mut buffer);
        if c == '\\' || c == '\n' || glasshive_event::text::escape(one) == *one {
            out.push(c);
        } else {
            for unit in c.encode_utf16(&mut [0u16; 2]) {
                out.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    out
}

/// A text field of a row, escaped; empty when absent.
pub fn shown(row: &Value, key: &str) -> String {
    row.get(key).map(wire).unwrap_or_default()
}

/// A value that may hold visitor bytes (`"text"` or `{"hex":"…"}`), escaped on one line.
pub fn wire(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => glasshive_event::text::escape(text),
        Value::Object(map) => match (map.len(), map.get("hex").and_then(Value::as_str)) {
            (1, Some(hex)) => {
                glasshive_event::text::unhex(hex).map_or_else(|| scrub(hex), |bytes| glasshive_event::text::escape_bytes(&bytes))
            }
            _ => glasshive_event::text::escape(&value.to_string()),
        },
        Value::Array(items) => items.iter().map(wire).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

/// A number field; zero when absent.
pub fn number(row: &Value, key: &str) -> u64 {
    row.get(key).and_then(Value::as_u64).unwrap_or(0)
}

/// A time field to the second: `2026-01-31T12:00:00Z`.
pub fn second(row: &Value, key: &str) -> String {
    let text = row.get(key).and_then(Value::as_str).unwrap_or_default();
    match text.split_once('.') {
        Some((whole, _)) => format!("{}Z", scrub(whole)),
        None => scrub(text),
    }
}

/// An endpoint field as `192.0.2.7:40001`.
pub fn endpoint(row: &Value, key: &str) -> String {
    let Some(end) = row.get(key) else { return String::new() };
    let (ip, port) = (shown(end, "ip"), number(end, "port"));
    if ip.contains(':') {
        format!("[{ip}]:{port}")
    } else if ip.is_empty() {
        ip
    } else {
        format!("{ip}:{port}")
    }
}

/// A length of time for people: `850ms`, `12.3s`, `4m10s`, `3h02m`, `2d04h`.
pub fn lasted(ns: u64) -> String {
    let seconds = ns / 1_000_000_000;
    match seconds {
        0 => format!("{}ms", ns / 1_000_000),
        1..60 => format!("{}.{}s", seconds, ns / 100_000_000 % 10),
        60..3_600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{}h{:02}m", seconds / 3_600, seconds / 60 % 60),
        _ => format!("{}d{:02}h", seconds / 86_400, seconds / 3_600 % 24),
    }
}

/// A size for people: `812 B`, `4.1 KiB`.
pub fn size(bytes: u64) -> String {
    let mut value = bytes as f64;
    let mut unit = "B";
    for next in ["KiB", "MiB", "GiB", "TiB"] {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    if unit == "B" { format!("{bytes} B") } else { format!("{value:.1} {unit}") }
}

/// `1 login`, `3 logins`.
pub fn plural(count: u64, one: &str) -> String {
    if count == 1 { format!("1 {one}") } else { format!("{count} {one}s") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn lengths_and_sizes() {
        for (ns, expected) in [
            (0, "0ms"),
            (850_000_000, "850ms"),
            (12_340_000_000, "12.3s"),
            (250_000_000_000, "4m10s"),
            (10_920_000_000_000, "3h02m"),
            (187_200_000_000_000, "2d04h"),
        ] {
            assert_eq!(lasted(ns), expected);
        }
        assert_eq!(size(812), "812 B");
        assert_eq!(size(4_200), "4.1 KiB");
    }

    #[test]
    fn tables_fit_and_keep_one_line_a_row() {
        const COLUMNS: &[Column] = &[
            Column::whole("ID", |row| shown(row, "id")),
            Column::text("TEXT", |row| shown(row, "text")),
            Column::number("N", |row| number(row, "n").to_string()),
        ];
        let rows: Vec<_> = (0..3).map(|n| json!({"id": "0123456789abcdef", "text": "long words ".repeat(40), "n": n})).collect();
        for width in [40u16, 80, 132] {
            let drawn = table(COLUMNS, &rows, width);
            assert_eq!(drawn.lines().count(), 4, "{drawn}");
            for line in drawn.lines() {
                assert!(line.chars().count() <= usize::from(width), "{line:?}");
            }
            assert!(drawn.contains("0123456789abcdef") && drawn.contains('…'));
        }
    }

    proptest! {
        #[test]
        fn nothing_acts_on_a_terminal(text: String) {
            let value = json!({"key": text});
            for shown in [scrub(&text), shown(&value, "key"), json(&value)] {
                prop_assert_eq!(scrub(&shown), shown);
            }
            prop_assert_eq!(serde_json::from_str::<Value>(&json(&value)).unwrap(), value);
        }
    }
}
