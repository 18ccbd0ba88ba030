//! `glasshive events`

use super::Shell;
use crate::fail::Failure;
use crate::screen::{Column, shown};
use glasshive_event::kind::{catalog_json, catalog_markdown};
use serde_json::Value;

/// Describe the kinds of events and their fields
#[derive(clap::Args)]
#[command(after_help = "Examples:
  glasshive events                 one line a kind
  glasshive events --catalog       every field of every kind
  glasshive events --markdown      the same as Markdown, for documentation
  glasshive events --json          for a program")]
pub(super) struct Args {
    /// All fields
    #[arg(long)]
    catalog: bool,
    /// All fields, as Markdown
    #[arg(long, conflicts_with = "catalog")]
    markdown: bool,
}

pub(super) async fn run(args: Args, shell: &mut Shell) -> Result<(), Failure> {
    let kinds = catalog_json();
    if shell.out.json {
        return kinds.iter().try_for_each(|kind| shell.out.object(kind));
    }
    if args.markdown {
        return catalog_markdown().lines().try_for_each(|line| shell.out.line(line));
    }
    if !args.catalog {
        return shell.out.table(KINDS, &kinds, "");
    }
    for kind in &kinds {
        shell.out.heading(&format!("{} ({})", shown(kind, "kind"), shown(kind, "number")))?;
        shell.out.line(&shown(kind, "summary"))?;
        let rows: Vec<_> = kind
            .get("fields")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .map(|field| [shown(field, "field"), shown(field, "type"), shown(field, "meaning")])
            .collect();
        crate::screen::story(&rows, shell.out.width).lines().try_for_each(|line| shell.out.line(line))?;
        shell.out.line("")?;
    }
    Ok(())
}

const KINDS: &[Column] = &[
    Column::whole("KIND", |row| shown(row, "kind")),
    Column::number("NUMBER", |row| shown(row, "number")),
    Column::text("MEANS", |row| shown(row, "summary")),
];
