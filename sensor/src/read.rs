//! `glasshive-sensor read FILE…`: the pipeline over capture files.
//!
//! It writes as it reads and keeps no more than the pipeline does, and of the table its first rows. It must
//! never end without a summary once a file was opened: damage is told, and the next file is read.

use crate::pipeline::{Counts, Output, Packet, Pipeline, Settings};
use anyhow::Context as _;
use comfy_table::presets::NOTHING;
use comfy_table::{Cell, ContentArrangement, Row, Table};
use glasshive_detect::{DetectorDef, Finding, Segment};
use glasshive_event::flow::{Flow, FlowEnd};
use glasshive_event::observation::Fact;
use glasshive_event::{FindingId, Timestamp};
use glasshive_pcapng::{Damage, Packets};
use serde::Serialize;
use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Rows of the table; the summary tells how many flows there are more.
const MAX_ROWS: usize = 1000;
/// Width when standard output is no terminal.
const PLAIN_WIDTH: u16 = 120;

/// What to read and how to tell it.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Capture files (pcap or pcapng), read as one in the order given; - is standard input
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// List of what is open on the segment (TOML), as the decoys' `check --segment` writes it
    #[arg(long, value_name = "FILE")]
    pub segment: Option<PathBuf>,
    /// Name of the net, for ids that join with the decoys' sessions
    #[arg(long, value_name = "NAME")]
    pub net: Option<String>,
    /// One JSON object a line, a summary last
    #[arg(long)]
    pub json: bool,
}

/// One line of `--json`.
#[derive(Serialize)]
struct Line<'a, T> {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(flatten)]
    rest: &'a T,
}

/// A finding with what names it.
#[derive(Serialize)]
struct Found<'a> {
    id: FindingId,
    detector: &'static str,
    version: u16,
    #[serde(flatten)]
    finding: &'a Finding,
    /// Wireshark's display filter for the packets that show it.
    tshark: String,
}

/// A damaged file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Damaged {
    file: String,
    kind: &'static str,
    offset: u64,
    what: &'static str,
}

#[derive(Serialize)]
struct Summary<'a> {
    files: usize,
    #[serde(flatten)]
    counts: Counts,
    /// First and last packet.
    first: Option<Timestamp>,
    last: Option<Timestamp>,
    damage: &'a [Damaged],
}

/// Reads the files and writes to standard output.
///
/// # Errors
/// One line: a file that cannot be opened, a segment list that is wrong.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let mut out = BufWriter::with_capacity(64 * 1024, io::stdout());
    match write(options, &mut out).and_then(|()| Ok(out.flush()?)) {
        // Who reads has seen enough (`| head`).
        Err(error) if error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe) => {
            // What is still buffered has nowhere to go.
            let _ = out.into_parts();
            Ok(())
        }
        other => other,
    }
}

/// [`run`] to any output.
///
/// # Errors
/// As [`run`], and what writing fails with.
pub fn write(options: &Options, out: &mut dyn Write) -> anyhow::Result<()> {
    let settings = settings(options)?;
    for file in options.files.iter().filter(|file| !is_standard_input(file)) {
        // What is wrong shows before hours of reading. A pipe can be opened only once.
        if std::fs::metadata(file).with_context(|| file.display().to_string())?.is_file() {
            open(file)?;
        }
    }
    let mut pipeline = Pipeline::new(settings)?;
    let mut teller = if options.json { Teller::Json(out) } else { Teller::Table(out, Board::default()) };
    let mut failed = None;
    let mut span: Option<(i64, i64)> = None;
    let mut damage = Vec::new();
    for file in &options.files {
        let input: Box<dyn Read> = if is_standard_input(file) { Box::new(io::stdin().lock()) } else { Box::new(open(file)?) };
        let mut packets = Packets::new(input);
        while let Some(captured) = packets.next_packet() {
            let at = Timestamp(captured.time_ns);
            let (first, last) = span.unwrap_or((at.0, at.0));
            span = Some((first.min(at.0), last.max(at.0)));
            let packet = Packet { at, link_type: captured.link_type, data: captured.data, original_length: captured.original_length };
            pipeline.packet(&packet, &mut |output| teller.tell(&output, &mut failed));
            if let Some(error) = failed.take() {
                return Err(error.into());
            }
        }
        if let Some(Damage { kind, offset, what }) = packets.damage() {
            damage.push(Damaged { file: file.display().to_string(), kind: kind.name(), offset, what });
        }
    }
    pipeline.finish(FlowEnd::Shutdown, &mut |output| teller.tell(&output, &mut failed));
    if let Some(error) = failed.take() {
        return Err(error.into());
    }
    let summary = Summary {
        files: options.files.len(),
        counts: pipeline.counts(),
        first: span.map(|(first, _)| Timestamp(first)),
        last: span.map(|(_, last)| Timestamp(last)),
        damage: &damage,
    };
    teller.end(&summary)?;
    Ok(())
}

fn settings(options: &Options) -> anyhow::Result<Settings> {
    let segment = match &options.segment {
        None => Segment::default(),
        Some(path) => {
            let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
            Segment::parse(&text).map_err(|error| anyhow::anyhow!("{}: {error}", path.display()))?
        }
    };
    Ok(Settings { net: options.net.clone().unwrap_or_default(), segment: Arc::new(segment), ..Settings::default() })
}

fn is_standard_input(path: &Path) -> bool {
    path.as_os_str() == "-"
}

fn open(path: &Path) -> anyhow::Result<File> {
    File::open(path).with_context(|| path.display().to_string())
}

enum Teller<'o> {
    Json(&'o mut dyn Write),
    Table(&'o mut dyn Write, Board),
}

/// What the table will show.
#[derive(Default)]
struct Board {
    rows: Vec<Flow>,
    findings: Vec<(&'static DetectorDef, Finding)>,
}

impl Teller<'_> {
    /// Tells one thing; the first failure to write stays in `failed`.
    fn tell(&mut self, output: &Output, failed: &mut Option<io::Error>) {
        if failed.is_some() {
            return;
        }
        let told = match self {
            Self::Json(out) => json(output, out),
            Self::Table(_, board) => {
                board.note(output);
                Ok(())
            }
        };
        *failed = told.err();
    }

    fn end(self, summary: &Summary<'_>) -> io::Result<()> {
        match self {
            Self::Json(out) => line(out, "summary", summary),
            Self::Table(out, board) => board.show(summary, out),
        }
    }
}

fn json(output: &Output, out: &mut dyn Write) -> io::Result<()> {
    match output {
        Output::Flow(flow) => line(out, "flow", flow.as_ref()),
        Output::Observation(observation) if matches!(observation.fact, Fact::Malformed(_)) => line(out, "malformed", observation.as_ref()),
        Output::Observation(observation) => line(out, "observation", observation.as_ref()),
        Output::Finding(def, finding) => {
            let (id, tshark) = (finding.id(def), finding.scope.display_filter());
            line(out, "finding", &Found { id, detector: def.name, version: def.version, finding, tshark })
        }
    }
}

fn line<T: Serialize>(mut out: &mut dyn Write, kind: &'static str, rest: &T) -> io::Result<()> {
    serde_json::to_writer(&mut out, &Line { kind, rest })?;
    out.write_all(b"\n")
}

impl Board {
    fn note(&mut self, output: &Output) {
        match output {
            Output::Flow(flow) if flow.is_final() && self.rows.len() < MAX_ROWS => self.rows.push(flow.as_ref().clone()),
            Output::Finding(def, finding) if self.findings.len() < MAX_ROWS => self.findings.push((def, finding.as_ref().clone())),
            _ => {}
        }
    }

    fn show(mut self, summary: &Summary<'_>, out: &mut dyn Write) -> io::Result<()> {
        self.rows.sort_by_key(|flow| (flow.first, flow.flow));
        if !self.rows.is_empty() {
            let mut table = Table::new();
            let width = table.width().filter(|width| *width >= 40).unwrap_or(PLAIN_WIDTH);
            table.load_style(NOTHING);
            table.force_no_tty();
            table.set_width(width);
            table.set_content_arrangement(ContentArrangement::Dynamic);
            table.set_truncation_indicator("…");
            table.set_header(["TIME", "SOURCE", "DESTINATION", "PROTOCOL", "STATE", "PACKETS", "BYTES"]);
            for flow in &self.rows {
                let mut line = Row::from(row(flow).map(Cell::new).to_vec());
                line.max_height(1);
                table.add_row(line);
            }
            for column in table.column_iter_mut() {
                column.set_padding((0, 2));
            }
            for line in table.to_string().lines() {
                writeln!(out, "{}", line.trim_end())?;
            }
            let more = summary.counts.flows.saturating_sub(self.rows.len() as u64);
            if more > 0 {
                writeln!(out, "… and {more} more: --json tells all")?;
            }
            writeln!(out)?;
        }
        for (def, finding) in &self.findings {
            writeln!(out, "finding {} {:?} {}: {}", finding.id(def).short(), finding.severity, def.name, finding.summary)?;
            writeln!(out, "  tshark -Y '{}'", finding.scope.display_filter())?;
        }
        let Counts {
            packets,
            bytes,
            flows,
            findings,
            malformed,
            unknown_link,
            not_ip,
            flows_evicted,
            reassembly_evicted,
            detector_evicted,
        } = summary.counts;
        writeln!(out, "{packets} packets, {bytes} bytes, {flows} flows, {findings} findings")?;
        for (count, what) in [
            (malformed, "packets break a protocol"),
            (not_ip, "frames are neither IP nor ARP"),
            (unknown_link, "packets are of a link type not known"),
            (flows_evicted, "flows were forgotten for want of room"),
            (reassembly_evicted, "fragments or segments were forgotten for want of room"),
            (detector_evicted, "keys of detectors were forgotten for want of room"),
        ] {
            if count > 0 {
                writeln!(out, "{count} {what}")?;
            }
        }
        for Damaged { file, kind, offset, what } in summary.damage {
            writeln!(out, "damage: {}: {kind} at byte {offset}: {what}", glasshive_event::text::escape(file))?;
        }
        Ok(())
    }
}

fn row(flow: &Flow) -> [String; 7] {
    let end = |end: glasshive_event::Endpoint| if end.port == 0 { end.ip.to_string() } else { end.to_string() };
    let carried = match flow.protocol {
        1 => "icmp".to_owned(),
        6 => "tcp".to_owned(),
        17 => "udp".to_owned(),
        58 => "icmpv6".to_owned(),
        132 => "sctp".to_owned(),
        _ => flow.layers.last().filter(|layer| !layer.starts_with("ip")).cloned().unwrap_or_else(|| format!("ip {}", flow.protocol)),
    };
    let protocol = match &flow.application {
        Some(application) => format!("{carried} {}", application.protocol),
        None => carried,
    };
    let sum = |one: u64, other: u64| one.saturating_add(other).to_string();
    [
        flow.first.rfc3339().chars().take(23).collect::<String>() + "Z",
        end(flow.wire.source),
        end(flow.wire.destination),
        protocol,
        flow.state.clone(),
        sum(flow.sent.packets, flow.received.packets),
        sum(flow.sent.ip_bytes, flow.received.ip_bytes),
    ]
}
