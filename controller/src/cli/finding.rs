//! `glasshive finding ID`

use super::sessions::{did, flow_line, place, short};
use super::{Shell, findings, narrate};
use crate::ask::Request;
use crate::fail::Failure;
use crate::screen::{endpoint, lasted, number, plural, second, shown, story, wire};
use serde_json::Value;

/// Flows listed; more are said.
const MAX_FLOWS: usize = 20;

/// Show one finding: rule, reason, evidence, sessions, flows, and the packets that show it
#[derive(clap::Args)]
#[command(after_help = "Examples:
  glasshive finding 3f9a01bc             why it was found
  glasshive finding 3f9a01bc --json      the same for a program
  glasshive export finding 3f9a01bc --format pcapng -o DIR
                                         its packets; the tshark line shown here reads them")]
pub(super) struct Args {
    /// Finding id, or at least 4 digits of its start or end
    #[arg(value_name = "ID")]
    id: String,
}

pub(super) async fn run(args: Args, shell: &mut Shell) -> Result<(), Failure> {
    let (mut items, _) = shell.all(Request::Finding { id: args.id }).await?;
    for item in &mut items {
        let line = tshark(item);
        if let (Value::Object(map), Some(line)) = (item, line) {
            map.insert("tshark".to_owned(), Value::String(line));
        }
    }
    if shell.out.json {
        return items.iter().try_for_each(|item| shell.out.object(item));
    }
    let of = |kind: &str| items.iter().filter(|item| shown(item, "type") == kind).collect::<Vec<_>>();
    let Some(finding) = of("finding").first().copied() else { return Err(Failure::failed("the answer holds no finding")) };
    let width = shell.out.width;
    let mut part = |title: &str, rows: &[[String; 3]]| -> Result<(), Failure> {
        if rows.is_empty() {
            return Ok(());
        }
        if !title.starts_with("finding ") {
            shell.out.line("")?;
        }
        shell.out.heading(title)?;
        story(rows, width).lines().try_for_each(|line| shell.out.line(line))
    };
    let head = header(finding);
    let evidence = evidence(finding);
    let sessions: Vec<_> = of("session")
        .iter()
        .map(|row| [String::new(), short(row), format!("{} from {}, {}", place(row), endpoint(row, "source"), did(row))])
        .collect();
    let flows = of("flow");
    let mut lines: Vec<_> = flows.iter().take(MAX_FLOWS).map(|flow| [String::new(), second(flow, "first"), flow_line(flow)]).collect();
    let more = number(finding, "flow_count").max(flows.len() as u64).saturating_sub(lines.len() as u64);
    if more > 0 && !lines.is_empty() {
        lines.push([String::new(), String::new(), format!("and {more} more")]);
    }
    part(&format!("finding {}", shown(finding, "finding")), &head)?;
    part("evidence", &evidence)?;
    part("sessions", &sessions)?;
    part("flows", &lines)?;
    for missing in of("missing") {
        shell.out.line("")?;
        shell.out.line(&shown(missing, "why"))?;
    }
    shell.out.line("")?;
    shell.out.heading("packets")?;
    let id = findings::short(finding);
    shell.out.line(&format!("glasshive export finding {id} --format pcapng -o finding-{id}"))?;
    // Whole on one line of its own: people copy it.
    shell.out.line(&tshark(finding).unwrap_or_default())
}

/// What shows the finding's packets in the file its export writes.
fn tshark(finding: &Value) -> Option<String> {
    let filter = finding.get("display_filter")?.as_str()?;
    // The filter is built from numbers and addresses; a quote in it would be ours to explain.
    (!filter.contains('\'')).then(|| format!("tshark -r finding-{}/original.pcapng -Y '{filter}'", findings::short(finding)))
}

fn header(finding: &Value) -> Vec<[String; 3]> {
    let text = |key: &str| shown(finding, key);
    let mut rows = Vec::new();
    let mut put = |word: &str, text: String| {
        if !text.is_empty() {
            rows.push([String::new(), word.to_owned(), text]);
        }
    };
    put("severity", format!("{}, confidence {} of 100", text("severity"), number(finding, "confidence")));
    put("reason", text("summary"));
    put("rule", text("rule"));
    put("detector", format!("{} version {}, told by {}", text("detector"), number(finding, "version"), text("node")));
    let vantage = text("vantage");
    put("net", if vantage.is_empty() { text("net") } else { format!("{}, vantage {vantage}", text("net")) });
    let late =
        if finding.get("late") == Some(&Value::Bool(true)) { ", found late: its records came after their time was looked at" } else { "" };
    put("when", format!("{} to {}{late}", narrate::milli(finding, "first"), narrate::milli(finding, "at")));
    let who = match (text("actor"), text("target")) {
        (actor, target) if target.is_empty() => actor,
        (actor, target) if actor.is_empty() => format!("to {target}"),
        (actor, target) => format!("{actor} to {target}"),
    };
    put("who", who);
    for (index, technique) in finding.get("techniques").and_then(Value::as_array).into_iter().flatten().enumerate() {
        let tactics = technique.get("tactics").map(wire).filter(|tactics| !tactics.is_empty()).map(|tactics| format!(" ({tactics})"));
        let line = format!("{} {}{}", shown(technique, "id"), shown(technique, "name"), tactics.unwrap_or_default());
        put(if index == 0 { "technique" } else { "also" }, line.trim_end().to_owned());
    }
    put("use case", text("use_cases"));
    put("told", plural(number(finding, "records"), "time"));
    let cut = number(finding, "cut");
    put("cut", if cut > 0 { format!("{} left out or widened to fit a record", plural(cut, "part")) } else { String::new() });
    rows
}

/// Each measure with what it had to reach.
fn evidence(finding: &Value) -> Vec<[String; 3]> {
    let all = finding.get("evidence").and_then(Value::as_array).into_iter().flatten();
    all.map(|one| {
        let window = number(one, "window_s");
        let window = if window == 0 { String::new() } else { format!(" within {}", lasted(window.saturating_mul(1_000_000_000))) };
        let samples = shown(one, "samples");
        let samples = if samples.is_empty() { samples } else { format!(": {samples}") };
        [String::new(), shown(one, "metric"), format!("{}, threshold {}{window}{samples}", plain(one, "value"), plain(one, "threshold"))]
    })
    .collect()
}

/// A number without a needless fraction.
fn plain(row: &Value, key: &str) -> String {
    let value = row.get(key).and_then(Value::as_f64).unwrap_or(0.0);
    if value.fract() == 0.0 && value.abs() < 1e15 { format!("{value:.0}") } else { format!("{value:.3}") }
}
