//! `glasshive findings`

use super::Shell;
use super::filters::{Paging, Span};
use crate::ask::Request;
use crate::fail::Failure;
use crate::screen::{Column, number, second, shown};
use glasshive_event::Severity;
use glasshive_journal::store::{FindingQuery, IpPrefix};
use serde_json::Value;

/// List findings, newest first
#[derive(clap::Args)]
#[command(after_help = "Examples:
  glasshive findings --since 24h                         what the detectors say
  glasshive findings --min-severity high --net dmz       the bad ones of one net
  glasshive findings --technique T1021 --json            one technique and its parts
  glasshive findings --source 192.0.2.7                  of one visitor
  glasshive finding ID                                   why, and the packets that show it

A finding is told again when there is more to it; RECORDS counts how often. LATE means that
records it rests on came after their time had been looked at.")]
pub(super) struct Args {
    #[command(flatten)]
    span: Span,
    /// Of this technique, such as T1021; its sub-techniques too
    #[arg(long, value_name = "ID", value_parser = technique, help_heading = "Filters")]
    technique: Option<String>,
    /// By this address or prefix, such as 192.0.2.7 or 192.0.2.0/24
    #[arg(long, value_name = "ADDRESS", help_heading = "Filters")]
    source: Option<IpPrefix>,
    /// At least this bad: info, low, medium, high, critical
    #[arg(long, value_name = "SEVERITY", default_value_t = Severity::Info, help_heading = "Filters")]
    min_severity: Severity,
    /// By this detector; see glasshive coverage
    #[arg(long, value_name = "NAME", help_heading = "Filters")]
    detector: Option<String>,
    #[command(flatten)]
    paging: Paging,
}

fn technique(text: &str) -> Result<String, String> {
    let id = text.to_ascii_uppercase();
    match glasshive_event::attack::technique(&id) {
        Some(_) => Ok(id),
        None => Err(format!("not in ATT&CK v{}: give an id such as T1021 or T1021.004", glasshive_event::attack::VERSION)),
    }
}

pub(super) async fn run(args: Args, shell: &mut Shell) -> Result<(), Failure> {
    let query = FindingQuery {
        since: args.span.since,
        until: args.span.until,
        net: args.span.net,
        technique: args.technique,
        source: args.source,
        detector: args.detector,
        node: None,
        min_severity: args.min_severity,
        limit: args.paging.limit(),
        cursor: args.paging.cursor(),
    };
    let (rows, end) = shell.all(Request::Findings { query }).await?;
    if shell.out.json {
        rows.iter().try_for_each(|row| shell.out.object(row))?;
    } else {
        shell.out.table(COLUMNS, &rows, "no findings: widen the filters; what is looked for: glasshive coverage")?;
    }
    shell.next_page(&end)
}

pub(super) const COLUMNS: &[Column] = &[
    Column::whole("FINDING", short),
    Column::whole("SEV", |row| shown(row, "severity")).until(99),
    Column::whole("SEVERITY", |row| shown(row, "severity")).from(100),
    Column::whole("AT", minute).until(99),
    Column::whole("AT", |row| second(row, "at")).from(100),
    Column::whole("TECHNIQUE", |row| {
        row.get("techniques").and_then(Value::as_array).and_then(|all| all.first()).map(crate::screen::wire).unwrap_or_default()
    }),
    Column::text("ACTOR", |row| shown(row, "actor")),
    Column::text("TARGET", |row| shown(row, "target")).from(112),
    Column::text("NET", |row| shown(row, "net")).from(112),
    Column::text("DETECTOR", |row| shown(row, "detector")).from(132),
    Column::number("RECORDS", |row| number(row, "records").to_string()).from(132),
    Column::text("LATE", |row| if row.get("late") == Some(&Value::Bool(true)) { "late".into() } else { String::new() }).from(112),
    Column::text("REASON", |row| shown(row, "summary")),
];

/// `01-31T12:01Z`: on a narrow screen the reason needs the room.
fn minute(row: &Value) -> String {
    second(row, "at").get(5..16).map(|text| format!("{text}Z")).unwrap_or_default()
}

/// The eight digits people type.
pub(super) fn short(row: &Value) -> String {
    let id = shown(row, "finding");
    id.get(id.len().saturating_sub(8)..).unwrap_or(&id).to_owned()
}
