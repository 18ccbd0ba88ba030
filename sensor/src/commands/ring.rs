//! `glasshive-sensor ring`: what the ring holds, and whether it is what it was.

use super::Exit;
use crate::ring::verify::verify;
use crate::ring::{Meta, RingDir};
use clap::{Args, Subcommand};
use glasshive_event::Timestamp;
use serde::Serialize;
use std::fmt::Write as _;
use std::path::Path;

/// What to do with the ring.
#[derive(Debug, Args)]
pub struct Arguments {
    /// One JSON object a line
    #[arg(long, global = true)]
    json: bool,
    /// What to do [default: list the segments]
    #[command(subcommand)]
    command: Option<Command>,
}

/// Commands on the ring.
#[derive(Debug, Subcommand)]
enum Command {
    /// Read every finished segment again and compare hash, counts and index
    Verify,
}

/// One segment as it is listed.
#[derive(Debug, Serialize)]
struct Row {
    segment: u64,
    file: String,
    /// `active`, `reading` (published, not yet hashed) or `complete`.
    state: &'static str,
    bytes: u64,
    packets: Option<u64>,
    first: Option<String>,
    last: Option<String>,
    dropped: Option<u64>,
    sha256: Option<String>,
}

/// Runs the command. The text goes to standard output.
///
/// # Errors
/// One line; exit code 5 when something is not what it was.
pub fn run(ring: &Path, arguments: &Arguments) -> anyhow::Result<String> {
    let dir = RingDir::new(ring);
    match arguments.command {
        None => list(&dir, arguments.json),
        Some(Command::Verify) => verify_all(&dir, arguments.json),
    }
}

fn list(dir: &RingDir, json: bool) -> anyhow::Result<String> {
    let time = |at: Option<Timestamp>| at.map(|at| at.rfc3339());
    let mut rows = Vec::new();
    for segment in dir.segments()? {
        let meta = if segment.hidden { None } else { dir.meta(segment.serial) };
        let state = match (segment.hidden, &meta) {
            (true, _) => "active",
            (false, None) => "reading",
            (false, Some(_)) => "complete",
        };
        let path = if segment.hidden { dir.hidden(segment.serial) } else { dir.segment(segment.serial) };
        rows.push(Row {
            segment: segment.serial,
            file: path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            state,
            bytes: segment.bytes,
            packets: meta.as_ref().map(|meta: &Meta| meta.packets),
            first: time(meta.as_ref().and_then(|meta| meta.first)),
            last: time(meta.as_ref().and_then(|meta| meta.last)),
            dropped: meta.as_ref().map(|meta| meta.dropped),
            sha256: meta.map(|meta| meta.sha256),
        });
    }
    let mut out = String::new();
    if json {
        for row in &rows {
            let _ = writeln!(out, "{}", serde_json::to_string(row)?);
        }
        return Ok(out.trim_end().to_owned());
    }
    if rows.is_empty() {
        return Ok(format!("{}: no segments; `glasshive-sensor run` writes them", dir.path().display()));
    }
    let _ = writeln!(
        out,
        "{:>8}  {:<8}  {:>12}  {:>10}  {:>8}  {:<20}  {:<20}",
        "segment", "state", "bytes", "packets", "dropped", "first", "last"
    );
    let short = |text: &Option<String>| text.as_ref().map_or("-".to_owned(), |text| format!("{}Z", text.get(..19).unwrap_or(text)));
    let count = |count: Option<u64>| count.map_or("-".to_owned(), |count| count.to_string());
    for row in &rows {
        let (packets, dropped) = (count(row.packets), count(row.dropped));
        let (first, last) = (short(&row.first), short(&row.last));
        let _ =
            writeln!(out, "{:>8}  {:<8}  {:>12}  {packets:>10}  {dropped:>8}  {first:<20}  {last:<20}", row.segment, row.state, row.bytes);
    }
    let bytes: u64 = rows.iter().map(|row| row.bytes).sum();
    let _ = writeln!(out, "{} segments, {bytes} bytes", rows.len());
    let purged = dir.purged();
    if purged.segments > 0 {
        let until = purged.until.map_or_else(|| "-".to_owned(), |until| until.rfc3339());
        let _ = writeln!(out, "the quota took {} segments with {} packets so far, the last of {until}", purged.segments, purged.packets);
    }
    for span in dir.losses().iter().rev().take(10).rev() {
        let _ = writeln!(out, "lost: {} {} to {}: {} packets, {} bytes", span.cause, span.from, span.to, span.count, span.bytes);
    }
    Ok(out.trim_end().to_owned())
}

fn verify_all(dir: &RingDir, json: bool) -> anyhow::Result<String> {
    let (mut out, mut faults, mut segments) = (String::new(), 0, 0);
    for segment in dir.segments()?.iter().filter(|segment| !segment.hidden) {
        let Some(verdict) = verify(dir, segment.serial)? else { continue };
        segments += 1;
        faults += verdict.faults.len();
        if json {
            let _ = writeln!(out, "{}", serde_json::to_string(&verdict)?);
        } else if verdict.faults.is_empty() {
            let _ = writeln!(out, "{}: good: {} packets, sha256 {}", verdict.file, verdict.packets, verdict.sha256);
        } else {
            for fault in &verdict.faults {
                let _ = writeln!(out, "{}: {fault}", verdict.file);
            }
        }
    }
    if faults > 0 {
        print!("{out}");
        return Err(Exit { code: 5, why: format!("ring verify: {faults} faults in {segments} segments") }.into());
    }
    if !json {
        let _ = writeln!(out, "{segments} segments verified");
    }
    Ok(out.trim_end().to_owned())
}
