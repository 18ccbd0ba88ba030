//! `glasshive nodes`

use super::Shell;
use crate::ask::Request;
use crate::fail::Failure;
use crate::screen::{Column, lasted, number, shown};
use serde_json::Value;

/// List nodes: net, role, connection, last record, lag, clock, losses, certificate
#[derive(clap::Args)]
#[command(after_help = "Examples:
  glasshive nodes             one line a node
  glasshive nodes --json      with logs, losses by place, and gaps

LAG is how long after it happened the last record arrived. CLOCK is the node's clock
minus ours. LOST counts what a node said it could not keep; GAPS are holes in its log.
CERT is days until its certificate expires; nodes renew at 10 days.")]
pub(super) struct Args {}

pub(super) async fn run(_: Args, shell: &mut Shell) -> Result<(), Failure> {
    let (rows, _) = shell.all(Request::Nodes).await?;
    if shell.out.json {
        return rows.iter().try_for_each(|row| shell.out.object(row));
    }
    shell.out.table(COLUMNS, &rows, "no nodes: let one in with glasshive enroll NODE --net NET --role decoys")
}

pub(super) const COLUMNS: &[Column] = &[
    Column::text("NODE", |row| shown(row, "node")),
    Column::text("NET", |row| shown(row, "net")),
    Column::text("ROLE", |row| shown(row, "role")),
    Column::whole("STATE", state),
    Column::number("LAST", last),
    Column::number("LAG", |row| row.get("lag_ns").and_then(Value::as_u64).map_or_else(|| "-".into(), lasted)),
    Column::number("CLOCK", clock),
    Column::number("LOST", |row| number(row, "loss_count").to_string()),
    Column::number("GAPS", |row| number(row, "gap_count").to_string()),
    Column::number("CERT", |row| row.get("certificate_days").and_then(Value::as_i64).map_or_else(|| "-".into(), |days| format!("{days}d"))),
    Column::text("REMOTE", |row| shown(row, "remote")).from(112),
    Column::text("VERSION", |row| shown(row, "version")).from(112),
];

/// What the node is, in one word.
pub(super) fn state(row: &Value) -> String {
    match (row.get("connected"), shown(row, "state")) {
        (Some(Value::Bool(true)), _) => "connected".into(),
        (Some(Value::Bool(false)), state) if state == "enrolled" => "away".into(),
        (_, state) => state,
    }
}

/// How long ago its last record was written.
pub(super) fn last(row: &Value) -> String {
    let Some(last) = row.get("last").and_then(Value::as_str).and_then(|text| text.parse::<jiff::Timestamp>().ok()) else {
        return "never".into();
    };
    let now = i128::from(crate::desk::now_ns());
    let ago = u64::try_from((now - last.as_nanosecond()).max(0)).unwrap_or(0);
    // Below a second it is now, and tests need not know the clock.
    if ago < 1_000_000_000 { "now".into() } else { format!("{} ago", lasted(ago - ago % 1_000_000_000).replace(".0s", "s")) }
}

fn clock(row: &Value) -> String {
    let Some(offset) = row.get("clock_offset_ns").and_then(Value::as_i64) else { return "-".into() };
    let sign = if offset < 0 { '-' } else { '+' };
    format!("{sign}{}", lasted(offset.unsigned_abs()))
}
