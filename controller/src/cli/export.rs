//! `glasshive export`

use super::Shell;
use super::filters::{Span, Visit};
use super::tail::{filter, kind};
use crate::ask::{Answer, Request, What};
use crate::export::{Export, FORMATS, FormatDef};
use crate::fail::Failure;
use crate::screen::{number, plural, shown, size};
use glasshive_journal::store::EventQuery;
use serde_json::json;
use std::path::PathBuf;

/// Export a session, a finding, or all events that pass a filter, with a manifest of hashes
#[derive(clap::Args)]
#[command(after_help = "Examples:
  glasshive export session 3f9a01bc --format jsonl -o case-7
  glasshive export session 3f9a01bc --format cast -o casts     then: asciinema play casts/*.cast
  glasshive export session 3f9a01bc --format files -o files --reason 'malware analysis'
  glasshive export session 3f9a01bc --format pcapng -o case-7
  glasshive export session 3f9a01bc --format decrypted -o case-7 --reason 'court order 12'
  glasshive export finding 81d2c0aa --format pcapng -o scan
  glasshive export filter --since 24h --net dmz --format csv -o today

Formats: jsonl (ECS names, one event a line), csv (for spreadsheets), cast (asciinema v2),
files (captured files, opened by the daemon), pcapng (original.pcapng: the sensor's packets,
nothing added), decrypted (that and decrypted.pcapng, which holds TLS keys and what went through
SSH and tunnels in clear: needs --reason; without a sensor in the net, of the records alone), pcap
(the packets in the classic format). Every export is kept as an audit event; DIR gets manifest.json
with the SHA-256 of each file and what is missing. Secrets stay sealed but in decrypted.")]
pub(super) struct Args {
    #[command(subcommand)]
    what: Part,
}

#[derive(clap::Subcommand)]
enum Part {
    /// One session
    Session {
        /// Session id, or at least 4 digits of its start or end
        #[arg(value_name = "ID")]
        id: String,
        #[command(flatten)]
        to: To,
    },
    /// One finding: its packets and its sessions
    Finding {
        /// Finding id, or at least 4 digits of its start or end
        #[arg(value_name = "ID")]
        id: String,
        #[command(flatten)]
        to: To,
    },
    /// All events that pass
    Filter {
        #[command(flatten)]
        span: Span,
        #[command(flatten)]
        visit: Visit,
        /// By this node
        #[arg(long, value_name = "NODE", help_heading = "Filters")]
        node: Option<String>,
        /// Only these kinds; see glasshive events
        #[arg(long, value_name = "KIND", value_delimiter = ',', value_parser = kind, help_heading = "Filters")]
        kind: Vec<u16>,
        #[command(flatten)]
        to: To,
    },
}

#[derive(clap::Args)]
struct To {
    /// jsonl, csv, cast, files, pcapng, decrypted or pcap
    #[arg(long, value_name = "FORMAT", value_parser = format)]
    format: Format,
    /// Directory to write to; made when it is not there
    #[arg(short, long, visible_alias = "out", value_name = "DIR")]
    output: PathBuf,
    /// Why, for the audit event
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
}

#[derive(Clone, Copy)]
struct Format(&'static FormatDef);

fn format(text: &str) -> Result<Format, String> {
    let names = || FORMATS.iter().map(|format| format!("{} ({})", format.name, format.summary)).collect::<Vec<_>>().join("; ");
    // The design's word for it, and the name of the file.
    let text = if text == "original" { "pcapng" } else { text };
    FORMATS.iter().find(|format| format.name == text).map(Format).ok_or_else(|| format!("no such format; there are {}", names()))
}

pub(super) async fn run(args: Args, shell: &mut Shell) -> Result<(), Failure> {
    let (what, to) = match args.what {
        Part::Session { id, to } => (What::Session(id), to),
        Part::Finding { id, to } => (What::Finding(id), to),
        Part::Filter { span, visit, node, kind, to } => {
            let query = EventQuery { since: span.since, until: span.until, net: span.net, node, kinds: kind, ..EventQuery::default() };
            (What::Filter { query: Box::new(query), filter: filter(visit) }, to)
        }
    };
    let Format(format) = to.format;
    let directory = std::path::absolute(&to.output)?;
    let request = Request::Export {
        what,
        format: format.name.to_owned(),
        to: directory.display().to_string(),
        reason: to.reason,
        files: format.opens_files,
        packets: format.packets,
        secrets: format.secrets,
    };
    let mut answers = shell.client().await?.ask(request).await?;
    let mut export: Option<Export> = None;
    let progress = indicatif::ProgressBar::new_spinner();
    loop {
        match answers.recv().await {
            Some(Answer::Item(item)) => {
                // Made only once there is something: a wrong id leaves no directory behind.
                let export = match &mut export {
                    Some(export) => export,
                    None => export.insert(Export::new(format, &to.output)?),
                };
                export.item(&item)?;
                progress.inc(1);
                if progress.position().is_multiple_of(1_000) {
                    progress.set_message(format!("{} objects", progress.position()));
                }
            }
            Some(Answer::End(_)) => break,
            Some(Answer::Error(failure)) => return Err(failure),
            None => return Err(Failure::failed("the answer broke off")),
        }
    }
    progress.finish_and_clear();
    let Some(export) = export else { return Err(Failure::not_found("nothing passes that filter, so nothing was written")) };
    let written = export.finish()?;
    if shell.out.json {
        let value = json!({"directory": directory, "format": format.name, "events": written.events, "files": written.files, "notes": written.notes});
        return shell.out.object(&value);
    }
    for file in &written.files {
        shell.out.line(&format!(
            "{}  {}  {}",
            shown(file, "sha256"),
            to.output.join(shown(file, "name")).display(),
            size(number(file, "bytes"))
        ))?;
    }
    for note in &written.notes {
        shell.out.note(&format!("note: {note}"))?;
    }
    let files = plural(written.files.len() as u64, "file");
    shell.out.line(&format!("{}, {files} and manifest.json in {}", plural(written.events, "event"), to.output.display()))
}
