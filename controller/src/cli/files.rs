//! `glasshive files`

use super::Shell;
use super::filters::{Paging, Span};
use crate::ask::Request;
use crate::fail::Failure;
use crate::screen::{Column, number, second, shown, size};
use glasshive_journal::store::{FileQuery, Order};

/// List files visitors sent or were sent, by content
#[derive(clap::Args)]
#[command(after_help = "Examples:
  glasshive files --since 7d                                    what was brought
  glasshive files --hash SHA256 --json                          names, sessions, where it is kept
  glasshive export session ID --format files -o evidence        the content, audited

Times count by whole UTC days.")]
pub(super) struct Args {
    #[command(flatten)]
    span: Span,
    /// This content, by its whole SHA-256
    #[arg(long, value_name = "SHA256", help_heading = "Filters")]
    hash: Option<String>,
    /// Most often seen first, instead of last seen first
    #[arg(long)]
    common: bool,
    #[command(flatten)]
    paging: Paging,
}

pub(super) async fn run(args: Args, shell: &mut Shell) -> Result<(), Failure> {
    let query = FileQuery {
        since: args.span.since,
        until: args.span.until,
        net: args.span.net,
        hash: args.hash,
        order: if args.common { Order::Count } else { Order::Last },
        limit: args.paging.limit(),
        cursor: args.paging.cursor(),
    };
    let (rows, end) = shell.all(Request::Files { query }).await?;
    if shell.out.json {
        rows.iter().try_for_each(|row| shell.out.object(row))?;
    } else {
        shell.out.table(COLUMNS, &rows, "no files")?;
    }
    shell.next_page(&end)
}

const COLUMNS: &[Column] = &[
    Column::whole("SHA256", |row| shown(row, "sha256").chars().take(16).collect()).until(131),
    Column::whole("SHA256", |row| shown(row, "sha256")).from(132),
    Column::number("SIZE", |row| size(number(row, "size"))),
    Column::text("LOOKS", |row| shown(row, "magic")),
    Column::number("SEEN", |row| number(row, "count").to_string()),
    Column::whole("LAST", |row| second(row, "last")),
    Column::text("NAMES", |row| shown(row, "names")),
];
