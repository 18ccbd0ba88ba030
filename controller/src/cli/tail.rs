//! `glasshive tail`

use super::filters::{Span, Visit};
use super::sessions::place;
use super::{Shell, narrate};
use crate::ask::{Answer, Filter, Request};
use crate::desk::now_ns;
use crate::fail::Failure;
use crate::screen::{number, shown};
use glasshive_event::Kind;
use glasshive_journal::store::EventQuery;
use serde_json::Value;

/// Show the newest events, one line each, and go on with -f
#[derive(clap::Args)]
#[command(after_help = "Examples:
  glasshive tail -f                          watch everything
  glasshive tail -f --kind login,command     only what people do
  glasshive tail --since 10m --limit 200     what just happened
  glasshive tail -f --source 192.0.2.7 --json | jq .detail")]
pub(super) struct Args {
    /// Go on with what comes, until interrupted
    #[arg(short, long)]
    follow: bool,
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
    /// Events to begin with at most
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(0..=10_000), help_heading = "Filters")]
    limit: u32,
}

pub(super) fn kind(text: &str) -> Result<u16, String> {
    let names = || glasshive_event::kind::KINDS.iter().map(|def| def.name).collect::<Vec<_>>().join(", ");
    Kind::from_name(text).map(Kind::number).ok_or_else(|| format!("no such kind; there are {}", names()))
}

pub(super) async fn run(args: Args, shell: &mut Shell) -> Result<(), Failure> {
    let day_ago = now_ns().saturating_sub(86_400_000_000_000);
    let query = EventQuery {
        since: Some(args.span.since.unwrap_or(day_ago)),
        until: args.span.until,
        net: args.span.net,
        node: args.node,
        kinds: args.kind,
        limit: args.limit as usize,
        ..EventQuery::default()
    };
    let filter = filter(args.visit);
    let mut answers = shell.client().await?.ask(Request::Tail { query, filter, follow: args.follow }).await?;
    let mut any = false;
    loop {
        let answer = tokio::select! {
            answer = answers.recv() => answer,
            interrupted = tokio::signal::ctrl_c() => {
                interrupted?;
                return Ok(());
            }
        };
        match answer {
            Some(Answer::Item(item)) if shown(&item, "type") == "missed" => {
                shell.out.note(&format!("{} events went by faster than they could be shown; they are kept", number(&item, "count")))?;
            }
            Some(Answer::Item(item)) => {
                any = true;
                show(&item, shell)?;
            }
            Some(Answer::End(_)) => {
                if !any && !shell.out.json {
                    shell.out.note("no events in the last day: widen with --since, or watch with -f")?;
                }
                return Ok(());
            }
            Some(Answer::Error(failure)) => return Err(failure),
            None => return Err(Failure::failed("the answer broke off")),
        }
    }
}

fn show(item: &Value, shell: &mut Shell) -> Result<(), Failure> {
    if shell.out.json {
        return shell.out.object(item);
    }
    shell.out.line(&line(item))
}

/// One event on one line, however long: a tail is for grep as well as for eyes.
fn line(item: &Value) -> String {
    let (word, text) = narrate::event(item);
    let session = shown(item, "session");
    let session = session.get(session.len().saturating_sub(8)..).unwrap_or_default().to_owned();
    let who = item.get("source").map(|end| shown(end, "ip")).unwrap_or_default();
    let place = if item.get("decoy").is_some() { place(item) } else { shown(item, "node") };
    let session = if session.is_empty() { "-".to_owned() } else { session };
    let who = if who.is_empty() { "-".to_owned() } else { who };
    format!("{} {session:8} {who:15} {place:14} {word:9} {text}", narrate::milli(item, "time"))
}

pub(super) fn filter(visit: Visit) -> Filter {
    Filter { decoy: visit.decoy, service: visit.service, source: visit.source, user: visit.user, hash: visit.hash }
}
