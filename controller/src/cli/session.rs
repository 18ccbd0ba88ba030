//! `glasshive session ID`

use super::filters::Reveal;
use super::sessions::{did, flow_line, place, short};
use super::{Shell, findings, narrate};
use crate::ask::Request;
use crate::fail::Failure;
use crate::screen::{endpoint, lasted, number, plural, shown, size, story};
use serde_json::Value;
use std::collections::BTreeMap;

/// Show one session: who, where, and what was done, in order
#[derive(clap::Args)]
#[command(after_help = "Examples:
  glasshive session 3f9a01bc                                    the story
  glasshive session 3f9a01bc --json                             every event, for a program
  glasshive session 3f9a01bc --reveal --reason 'case 7, S. Fox' with the secrets tried

Secrets are masked. A pivot is the same wherever the same secret was used:
  glasshive sessions --hash PIVOT")]
pub(super) struct Args {
    /// Session id, or at least 4 digits of its start or end
    #[arg(value_name = "ID")]
    id: String,
    #[command(flatten)]
    reveal: Reveal,
}

pub(super) async fn run(args: Args, shell: &mut Shell) -> Result<(), Failure> {
    let (items, _) = shell.all(Request::Session { id: args.id, reveal: args.reveal.wanted() }).await?;
    if shell.out.json {
        return items.iter().try_for_each(|item| shell.out.object(item));
    }
    let of = |kind: &str| items.iter().filter(|item| shown(item, "type") == kind).collect::<Vec<_>>();
    let Some(session) = of("session").first().copied() else { return Err(Failure::failed("the answer holds no session")) };
    shell.out.heading(&format!("session {}", shown(session, "session")))?;
    for line in header(session, shell.out.width).lines() {
        shell.out.line(line)?;
    }
    let width = shell.out.width;
    let flows: Vec<_> = of("flow")
        .iter()
        .map(|flow| {
            let how = if shown(flow, "join") == "exact" { "joined by key" } else { "joined by tuple and time" };
            [String::new(), how.to_owned(), format!("{}; sensor {}", flow_line(flow), shown(flow, "node"))]
        })
        .collect();
    let found: Vec<_> = of("finding")
        .iter()
        .map(|finding| {
            let text = format!("{} {}", shown(finding, "techniques"), shown(finding, "summary"));
            [findings::short(finding), shown(finding, "severity"), text]
        })
        .collect();
    for (title, rows) in [("on the wire", flows), ("findings", found)] {
        if !rows.is_empty() {
            shell.out.line("")?;
            shell.out.heading(title)?;
            story(&rows, width).lines().try_for_each(|line| shell.out.line(line))?;
        }
    }
    let children = of("child");
    if !children.is_empty() {
        let rows: Vec<_> = children
            .iter()
            .map(|child| [String::new(), short(child), format!("{} to {}, {}", place(child), endpoint(child, "destination"), did(child))])
            .collect();
        shell.out.line("")?;
        shell.out.heading("opened inside it")?;
        story(&rows, shell.out.width).lines().try_for_each(|line| shell.out.line(line))?;
    }
    shell.out.line("")?;
    let events = of("event");
    let start = events.first().map_or(0, |event| narrate::time_ns(event));
    let mut streams: BTreeMap<(u64, String), (u64, u64)> = BTreeMap::new();
    let mut files: BTreeMap<String, String> = BTreeMap::new();
    let mut rows = Vec::new();
    for event in events {
        if shown(event, "kind") == "stream" {
            let detail = event.get("detail").unwrap_or(&Value::Null);
            let entry = streams.entry((number(detail, "channel"), shown(detail, "role"))).or_default();
            let bytes =
                crate::streams::pieces(event).map_or(0, |(_, pieces)| pieces.iter().map(|piece| piece.bytes.len() as u64).sum::<u64>());
            if shown(detail, "direction") == "in" {
                entry.0 += bytes
            } else {
                entry.1 += bytes
            }
            continue;
        }
        let (word, text) = narrate::event(event);
        if word == "file" {
            let detail = event.get("detail").unwrap_or(&Value::Null);
            files.insert(shown(detail, "sha256"), shown(detail, "name"));
        }
        rows.push([narrate::offset(start, narrate::time_ns(event)), word, text]);
    }
    for missing in of("missing") {
        rows.push([String::new(), "missing".into(), format!("{}: {}", plural(number(missing, "count"), "event"), shown(missing, "why"))]);
    }
    story(&rows, shell.out.width).lines().try_for_each(|line| shell.out.line(line))?;
    // Whole hashes on lines of their own: people copy them.
    if !files.is_empty() {
        shell.out.line("")?;
    }
    for (sha256, name) in files {
        let room = usize::from(shell.out.width).saturating_sub(sha256.len() + 2);
        let name = if name.chars().count() > room {
            format!("{}…", name.chars().take(room.saturating_sub(1)).collect::<String>())
        } else {
            name
        };
        shell.out.line(&format!("{sha256}  {name}"))?;
    }
    if !streams.is_empty() {
        shell.out.line("")?;
        for ((channel, role), (inbound, outbound)) in streams {
            let text = format!(
                "channel {channel} ({role}): {} in, {} out; glasshive replay {} --channel {channel}",
                size(inbound),
                size(outbound),
                short(session)
            );
            shell.out.line(&text)?;
        }
    }
    Ok(())
}

fn header(session: &Value, width: u16) -> String {
    let mut rows = Vec::new();
    let mut put = |word: &str, text: String| {
        if !text.is_empty() {
            rows.push([String::new(), word.to_owned(), text]);
        }
    };
    let source = endpoint(session, "source");
    let claimed = endpoint(session, "wire_source");
    put("visitor", if claimed.is_empty() { source } else { format!("{source} as told by the proxy {claimed}") });
    let persona = shown(session, "persona");
    let persona = if persona.is_empty() { persona } else { format!(", persona {persona}") };
    put(
        "decoy",
        format!(
            "{} {} at {}/{}{persona}",
            shown(session, "decoy"),
            shown(session, "service"),
            endpoint(session, "destination"),
            shown(session, "transport")
        ),
    );
    put("net", format!("{}, node {}", shown(session, "net"), shown(session, "node")));
    let ended = match session.get("duration_ns").and_then(Value::as_u64) {
        Some(ns) => format!(", lasted {}, ended by {}", lasted(ns), shown(session, "reason")),
        None => ", still open or its end has not arrived".to_owned(),
    };
    put("opened", format!("{}{ended}", narrate::milli(session, "open")));
    put("bytes", format!("{} in, {} out", size(number(session, "bytes_in")), size(number(session, "bytes_out"))));
    put("did", did(session));
    let prints = session.get("fingerprints").and_then(Value::as_array).cloned().unwrap_or_default();
    for print in prints {
        put(&shown(&print, "kind"), shown(&print, "value"));
    }
    put("inside", shown(session, "parent"));
    if number(session, "cut_bytes") > 0 {
        put("lost", format!("{} were not kept because of a cap", size(number(session, "cut_bytes"))));
    }
    story(&rows, width)
}
