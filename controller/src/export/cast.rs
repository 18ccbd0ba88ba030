//! One asciinema version 2 file for each channel with a terminal.
//!
//! The visitor's bytes go through the same filter as a replay, so that playing a cast elsewhere is
//! as safe as here; the bytes themselves stay in the records (`--format jsonl`).

use super::{Format, FormatDef, Target, base_name};
use crate::fail::Failure;
use crate::streams::{Piece, Streams};
use crate::terminal::Filter;
use serde_json::{Value, json};

pub(super) const FORMAT: FormatDef = FormatDef {
    name: "cast",
    summary: "asciinema v2, one file a terminal channel (asciinema play FILE)",
    opens_files: false,
    packets: false,
    secrets: false,
    build: || Box::new(Cast::default()),
};

#[derive(Default)]
struct Cast {
    session: Value,
    streams: Streams,
}

impl Format for Cast {
    fn item(&mut self, item: &Value, to: &mut Target) -> Result<(), Failure> {
        match item.get("type").and_then(Value::as_str) {
            Some("session") if !self.session.is_null() => return Err(one_session()),
            Some("session") => self.session = item.clone(),
            Some("event") => {
                // A filter export joins many sessions, whose channels would mix.
                if self.session.is_null() {
                    return Err(one_session());
                }
                self.streams.add(item);
            }
            _ => {}
        }
        let _ = to;
        Ok(())
    }

    fn finish(&mut self, to: &mut Target) -> Result<(), Failure> {
        for channel in self.streams.channels() {
            if !channel.is_terminal() {
                continue;
            }
            let name = format!("{}-channel-{}.cast", base_name(&self.session), channel.channel);
            let mut part = to.create(&name)?;
            let (columns, rows) = channel.terminal.unwrap_or((80, 24));
            let first = channel.pieces.first().map_or(0, |piece| piece.at_ns);
            let header = json!({"version": 2, "width": columns.max(1), "height": rows.max(1), "timestamp": first.div_euclid(1_000_000_000),
                "title": format!("glasshive session {}", base_name(&self.session))});
            part.write(format!("{header}\n").as_bytes())?;
            let mut filters = [Filter::default(), Filter::default()];
            for piece in &channel.pieces {
                part.write(line(piece, first, &mut filters).as_bytes())?;
            }
            to.close(part, json!({"channel": channel.channel, "role": channel.role, "filtered": true}))?;
        }
        to.note("terminal output passed the replay filter: colours and cursor movement kept, other control sequences dropped");
        Ok(())
    }
}

fn one_session() -> Failure {
    Failure::usage("a cast is of one session: glasshive export session ID --format cast")
}

fn line(piece: &Piece, first: i64, [output, input]: &mut [Filter; 2]) -> String {
    let (code, filter) = if piece.inbound { ("i", input) } else { ("o", output) };
    let text = filter.push(&piece.bytes);
    if text.is_empty() {
        return String::new();
    }
    let seconds = (piece.at_ns - first).max(0) as f64 / 1e9;
    format!("[{seconds:.6}, \"{code}\", {}]\n", Value::String(text))
}
