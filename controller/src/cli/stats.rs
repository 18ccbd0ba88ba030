//! `glasshive stats`

use super::Shell;
use super::filters::Span;
use crate::ask::Request;
use crate::desk::now_ns;
use crate::fail::Failure;
use crate::screen::{Column, number, second, shown, size};
use clap::ValueEnum;
use glasshive_journal::store::StatsQuery;
use serde_json::Value;

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum By {
    /// Hours
    Hour,
    /// Services
    Service,
    /// Source addresses
    Source,
    /// Account names
    User,
    /// Nets
    Net,
}

/// Sum up visits by hour, service, source, user or net
#[derive(clap::Args)]
#[command(after_help = "Examples:
  glasshive stats                        the last 24 hours by service
  glasshive stats --by source --since 7d who comes most
  glasshive stats --by hour --net dmz    when

Sources and users count by whole UTC days.")]
pub(super) struct Args {
    /// What to sum up by
    #[arg(long, value_enum, default_value = "service")]
    by: By,
    #[command(flatten)]
    span: Span,
    /// Only this service
    #[arg(long, value_name = "SERVICE", help_heading = "Filters")]
    service: Option<String>,
    /// Sources or users listed at most
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000), help_heading = "Filters")]
    limit: u32,
}

pub(super) async fn run(args: Args, shell: &mut Shell) -> Result<(), Failure> {
    let day_ago = now_ns().saturating_sub(86_400_000_000_000);
    let query = StatsQuery {
        since: Some(args.span.since.unwrap_or(day_ago)),
        until: args.span.until,
        net: args.span.net,
        service: args.service,
        top: args.limit as usize,
    };
    let (rows, _) = shell.all(Request::Stats { query }).await?;
    let by = args.by.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
    let mut rows: Vec<Value> = rows.into_iter().filter(|row| shown(row, "by") == by).collect();
    if matches!(args.by, By::Service | By::Net) {
        rows.sort_by_key(|row| std::cmp::Reverse(number(row, "sessions")));
        // Records of no service or net (health, audit) are not visits.
        rows.retain(|row| !shown(row, &by).is_empty() || shell.out.json);
    }
    if by == "hour" && !shell.out.json {
        rows.retain(|row| !shown(row, "service").is_empty());
    }
    if shell.out.json {
        return rows.iter().try_for_each(|row| shell.out.object(row));
    }
    let columns = if args.by == By::User { USERS } else { COUNTS };
    shell.out.table(columns, &rows, "nothing happened in that time")
}

const USERS: &[Column] = &[
    Column::text("USER", |row| shown(row, "user")),
    Column::number("LOGINS", |row| number(row, "logins").to_string()),
    Column::number("IN", |row| number(row, "accepted").to_string()),
    Column::number("SOURCES", |row| number(row, "source_count").to_string()),
    Column::whole("FIRST", |row| second(row, "first")),
    Column::whole("LAST", |row| second(row, "last")),
];

const COUNTS: &[Column] = &[
    Column::text("BY", name),
    Column::number("SESSIONS", |row| number(row, "sessions").to_string()),
    Column::number("LOGINS", |row| number(row, "logins").to_string()),
    Column::number("IN", |row| number(row, "accepted").to_string()),
    Column::number("COMMANDS", |row| number(row, "commands").to_string()),
    Column::number("REQUESTS", |row| number(row, "requests").to_string()),
    Column::number("FILES", |row| number(row, "files").to_string()),
    Column::number("MALFORMED", |row| number(row, "malformed").to_string()).from(100),
    Column::number("BYTES", |row| size(number(row, "bytes_in").saturating_add(number(row, "bytes_out")))).from(100),
];

fn name(row: &Value) -> String {
    match shown(row, "by").as_str() {
        "hour" => format!("{} {}/{}", second(row, "hour"), shown(row, "net"), shown(row, "service")),
        by => shown(row, by),
    }
}
