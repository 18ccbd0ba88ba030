//! `glasshive sessions`

use super::Shell;
use super::filters::{Paging, Span, Visit};
use crate::ask::Request;
use crate::fail::Failure;
use crate::screen::{Column, endpoint, lasted, number, plural, second, shown, size};
use glasshive_journal::store::{FlowQuery, SessionQuery};
use serde_json::Value;

/// List sessions, newest first
#[derive(clap::Args)]
#[command(after_help = "Examples:
  glasshive sessions --since 2h                     the last two hours
  glasshive sessions --source 192.0.2.0/24 --json   one prefix, for a program
  glasshive sessions --user root --service ssh      who tried root over ssh
  glasshive sessions --hash 9f86d081…               who brought this file or secret
  glasshive sessions --probes --since 1h            who knocked: refused and half-open SYNs

--probes lists flows the sensor saw that never became a session; of the filters it takes
--since, --until, --net, --source, --limit and --cursor.")]
pub(super) struct Args {
    #[command(flatten)]
    span: Span,
    #[command(flatten)]
    visit: Visit,
    /// By this node
    #[arg(long, value_name = "NODE", help_heading = "Filters")]
    node: Option<String>,
    /// With this fingerprint: JA3, JA4, HASSH or SSH key
    #[arg(long, value_name = "VALUE", help_heading = "Filters")]
    fingerprint: Option<String>,
    /// Also sessions opened inside others (tunnels, FTP data)
    #[arg(long, help_heading = "Filters")]
    children: bool,
    /// Instead: TCP flows without a completed handshake and without a session
    #[arg(long, conflicts_with_all = ["decoy", "service", "user", "hash", "node", "fingerprint", "children"])]
    probes: bool,
    #[command(flatten)]
    paging: Paging,
}

pub(super) async fn run(args: Args, shell: &mut Shell) -> Result<(), Failure> {
    if args.probes {
        return probes(args, shell).await;
    }
    let query = SessionQuery {
        since: args.span.since,
        until: args.span.until,
        net: args.span.net,
        decoy: args.visit.decoy,
        service: args.visit.service,
        source: args.visit.source,
        user: args.visit.user,
        hash: args.visit.hash,
        fingerprint: args.fingerprint,
        node: args.node,
        parent: None,
        children: args.children,
        limit: args.paging.limit(),
        cursor: args.paging.cursor(),
    };
    let (rows, end) = shell.all(Request::Sessions { query }).await?;
    if shell.out.json {
        rows.iter().try_for_each(|row| shell.out.object(row))?;
    } else {
        shell.out.table(COLUMNS, &rows, "no sessions: widen the filters, or watch for one with glasshive tail -f")?;
    }
    shell.next_page(&end)
}

async fn probes(args: Args, shell: &mut Shell) -> Result<(), Failure> {
    let query = FlowQuery {
        since: args.span.since,
        until: args.span.until,
        net: args.span.net,
        source: args.visit.source,
        probes: true,
        limit: args.paging.limit(),
        cursor: args.paging.cursor(),
    };
    let (rows, end) = shell.all(Request::Probes { query }).await?;
    if shell.out.json {
        rows.iter().try_for_each(|row| shell.out.object(row))?;
    } else {
        shell.out.table(PROBES, &rows, "no probes: widen the filters; they are seen by a sensor only")?;
    }
    shell.next_page(&end)
}

const PROBES: &[Column] = &[
    Column::whole("FIRST", |row| second(row, "first")),
    Column::text("SOURCE", |row| endpoint(row, "source")),
    Column::text("DESTINATION", |row| endpoint(row, "destination")),
    Column::whole("STATE", |row| shown(row, "state")),
    Column::number("PACKETS", |row| number(row, "packets_in").saturating_add(number(row, "packets_out")).to_string()),
    Column::text("NET", |row| shown(row, "net")).from(100),
    Column::text("SENSOR", |row| shown(row, "node")).from(112),
    Column::whole("FLOW", |row| shown(row, "flow")).from(132),
];

/// A flow on one line: ends, state, counts, what was spoken.
pub(super) fn flow_line(flow: &Value) -> String {
    let protocol = match number(flow, "protocol") {
        6 => "tcp".to_owned(),
        17 => "udp".to_owned(),
        1 | 58 => "icmp".to_owned(),
        other => format!("ip {other}"),
    };
    let spoken = shown(flow, "application");
    let spoken = if spoken.is_empty() { spoken } else { format!(", {spoken}") };
    let loss = if flow.get("loss") == Some(&Value::Bool(true)) { ", packets were lost meanwhile" } else { "" };
    format!(
        "{protocol} {} to {}, {} {}, {} in, {} out{spoken}{loss}",
        endpoint(flow, "source"),
        endpoint(flow, "destination"),
        shown(flow, "state"),
        lasted(number(flow, "duration_ns")),
        size(number(flow, "bytes_in")),
        size(number(flow, "bytes_out")),
    )
}

pub(super) const COLUMNS: &[Column] = &[
    Column::whole("SESSION", short),
    Column::whole("OPEN", |row| second(row, "open")),
    Column::text("SOURCE", |row| endpoint(row, "source")).from(112),
    Column::text("SOURCE", |row| row.get("source").map(|end| shown(end, "ip")).unwrap_or_default()).until(111),
    Column::text("NET", |row| shown(row, "net")).from(112),
    Column::text("DECOY/SERVICE", place),
    Column::number("LASTED", |row| row.get("duration_ns").and_then(Value::as_u64).map_or_else(|| "open".to_owned(), lasted)).from(100),
    Column::number("BYTES", |row| size(number(row, "bytes_in").saturating_add(number(row, "bytes_out")))).from(112),
    Column::text("DID", did),
];

/// The eight digits people type.
pub(super) fn short(row: &Value) -> String {
    let id = shown(row, "session");
    id.get(id.len().saturating_sub(8)..).unwrap_or(&id).to_owned()
}

/// `web-1/ssh`.
pub(super) fn place(row: &Value) -> String {
    format!("{}/{}", shown(row, "decoy"), shown(row, "service"))
}

/// What the visitor did, the most telling first.
pub(super) fn did(row: &Value) -> String {
    let mut parts = Vec::new();
    let accepted = number(row, "accepted");
    if accepted > 0 {
        parts.push("got in".to_owned());
    }
    for (key, one) in [
        ("findings", "finding"),
        ("commands", "command"),
        ("files", "file"),
        ("forwards", "forward"),
        ("logins", "login"),
        ("requests", "request"),
    ] {
        let count = number(row, key);
        // One accepted login is already said.
        if count > 0 && !(key == "logins" && accepted == count) {
            parts.push(plural(count, one));
        }
    }
    if number(row, "malformed") > 0 {
        parts.push(format!("{} malformed", number(row, "malformed")));
    }
    if parts.is_empty() {
        let bytes = number(row, "bytes_in");
        parts.push(if bytes == 0 { "connected only".to_owned() } else { format!("sent {}", size(bytes)) });
    }
    parts.join(", ")
}
