//! `glasshive credentials`

use super::Shell;
use super::filters::{Paging, Reveal, Span};
use crate::ask::Request;
use crate::fail::Failure;
use crate::screen::{Column, number, second, shown};
use glasshive_journal::store::{CredentialQuery, IpPrefix, Order};
use serde_json::Value;

/// List account names and secrets tried, masked
#[derive(clap::Args)]
#[command(after_help = "Examples:
  glasshive credentials                                  most tried first
  glasshive credentials --accepted --since 7d            what opened a door
  glasshive credentials --source 192.0.2.7               one visitor's dictionary
  glasshive credentials --reveal --reason 'case 7'       with the secrets; audited

Times count by whole UTC days. Equal secrets have equal pivots:
  glasshive sessions --hash PIVOT")]
pub(super) struct Args {
    #[command(flatten)]
    span: Span,
    /// At this service
    #[arg(long, value_name = "SERVICE", help_heading = "Filters")]
    service: Option<String>,
    /// By this address or prefix
    #[arg(long, value_name = "ADDRESS", help_heading = "Filters")]
    source: Option<IpPrefix>,
    /// This account name, exactly
    #[arg(long, value_name = "NAME", help_heading = "Filters")]
    user: Option<String>,
    /// This secret, by its pivot
    #[arg(long, value_name = "PIVOT", help_heading = "Filters")]
    hash: Option<String>,
    /// Only those a decoy let in
    #[arg(long, help_heading = "Filters")]
    accepted: bool,
    /// Last tried first, instead of most tried first
    #[arg(long)]
    recent: bool,
    #[command(flatten)]
    paging: Paging,
    #[command(flatten)]
    reveal: Reveal,
}

pub(super) async fn run(args: Args, shell: &mut Shell) -> Result<(), Failure> {
    let query = CredentialQuery {
        since: args.span.since,
        until: args.span.until,
        net: args.span.net,
        service: args.service,
        source: args.source,
        user: args.user,
        hash: args.hash,
        accepted: args.accepted,
        order: if args.recent { Order::Last } else { Order::Count },
        limit: args.paging.limit(),
        cursor: args.paging.cursor(),
    };
    let (rows, end) = shell.all(Request::Credentials { query, reveal: args.reveal.wanted() }).await?;
    if shell.out.json {
        rows.iter().try_for_each(|row| shell.out.object(row))?;
    } else {
        shell.out.table(COLUMNS, &rows, "no credentials: nobody tried to log in, or the filters are too narrow")?;
    }
    shell.next_page(&end)
}

const COLUMNS: &[Column] = &[
    Column::text("USER", |row| shown(row, "user")),
    Column::text("SECRET", secret),
    Column::text("PIVOT", |row| shown(row, "secret_pivot").chars().take(12).collect()).until(111),
    Column::whole("PIVOT", |row| shown(row, "secret_pivot")).from(112),
    Column::number("TRIED", |row| number(row, "count").to_string()),
    Column::number("IN", |row| number(row, "accepted").to_string()),
    Column::number("SOURCES", sources),
    Column::whole("LAST", |row| second(row, "last")),
    Column::text("SERVICES", |row| shown(row, "services")).from(100),
];

fn secret(row: &Value) -> String {
    let secret = shown(row, "secret");
    let error = shown(row, "secret_error");
    match (secret.is_empty(), error.is_empty()) {
        (_, false) => error,
        (true, true) => format!("({})", shown(row, "secret_kind")),
        (false, true) => secret,
    }
}

fn sources(row: &Value) -> String {
    let about = if row.get("source_count_exact") == Some(&Value::Bool(false)) { "~" } else { "" };
    format!("{about}{}", number(row, "source_count"))
}
