//! Bare `glasshive`: one screen.

use super::Shell;
use super::nodes::{last, state};
use crate::ask::Request;
use crate::fail::{Code, Failure};
use crate::screen::{Column, number, plural, second, shown, size, table};
use serde_json::Value;

/// Nodes that fit the screen.
const MAX_NODES: usize = 5;

pub(super) async fn run(shell: &mut Shell) -> Result<(), Failure> {
    let answer = shell.all(Request::Status).await;
    let status = match answer {
        Ok((items, _)) => items.into_iter().next().unwrap_or(Value::Null),
        Err(failure) if failure.code == Code::Unreachable && !shell.out.json => {
            shell.out.line("glasshive: no controller answers here")?;
            shell.out.line("")?;
            shell.out.line("Next  glasshive serve --help     how to run one")?;
            shell.out.line("      glasshive check            is the configuration good?")?;
            shell.out.line("      glasshive --help           all commands")?;
            return Err(failure);
        }
        Err(failure) => return Err(failure),
    };
    if shell.out.json {
        return shell.out.object(&status);
    }
    for line in screen(&status, shell.out.width) {
        shell.out.line(&line)?;
    }
    Ok(())
}

fn list(status: &Value, key: &str) -> Vec<Value> {
    status.get(key).and_then(Value::as_array).cloned().unwrap_or_default()
}

/// At most 24 lines.
fn screen(status: &Value, width: u16) -> Vec<String> {
    let mut lines = Vec::new();
    let serving = status.get("serving") == Some(&Value::Bool(true));
    let daemon = if serving { "serving" } else { "the daemon is DOWN, read from disk" };
    lines.push(format!("glasshive {}   {}   {daemon}", shown(status, "version"), second(status, "time")));
    lines.push(String::new());
    let nodes = list(status, "nodes");
    let (connected, enrolled) = (number(status, "connected"), number(status, "enrolled"));
    lines.push(match (nodes.is_empty(), serving) {
        (true, _) => "Nodes   none yet".to_owned(),
        (false, true) => format!("Nodes   {connected} of {enrolled} connected"),
        (false, false) => format!("Nodes   {enrolled} enrolled"),
    });
    if !nodes.is_empty() {
        for line in table(NODES, nodes.get(..nodes.len().min(MAX_NODES)).unwrap_or_default(), width.saturating_sub(8)).lines() {
            lines.push(format!("        {}", line.trim_end()));
        }
        if nodes.len() > MAX_NODES {
            lines.push(format!("        and {} more: glasshive nodes", nodes.len() - MAX_NODES));
        }
    }
    lines.push(String::new());
    let none = Value::Null;
    let today = status.get("today").unwrap_or(&none);
    let count = |key: &str, one: &str| plural(number(today, key), one);
    lines.push(format!(
        "Today   {}, {} ({} let in), {}, {}, {}",
        count("sessions", "session"),
        count("logins", "login"),
        number(today, "accepted"),
        count("commands", "command"),
        count("requests", "request"),
        count("files", "file")
    ));
    let top = |key: &str, name: &str, counted: &str| {
        let items: Vec<_> =
            list(status, key).iter().map(|row| format!("{} {}", clip(&shown(row, name)), number(row, counted))).take(3).collect();
        items.join(", ")
    };
    for (title, text) in [
        ("services", top("services", "service", "sessions")),
        ("sources", top("sources", "source", "sessions")),
        ("accounts", top("users", "user", "logins")),
    ] {
        if !text.is_empty() {
            lines.push(format!("        {title:9} {text}"));
        }
    }
    let findings = number(today, "findings");
    if findings > 0 {
        lines.push(format!("        findings  told {}: glasshive findings", plural(findings, "time")));
    }
    let bytes = number(today, "bytes_in").saturating_add(number(today, "bytes_out"));
    if bytes > 0 {
        lines.push(format!("        traffic   {}", size(bytes)));
    }
    let (lost, gaps) = (number(status, "loss_count"), number(status, "gap_count"));
    lines.push(match (lost, gaps) {
        (0, 0) => "Loss    none".to_owned(),
        _ => format!("Loss    {lost} not kept, {}: glasshive tail --kind loss,gap --since 7d", plural(gaps, "gap")),
    });
    lines.push(String::new());
    lines.extend(next(status, &nodes, number(today, "sessions"), serving));
    lines
}

/// What to type next, the most useful first.
fn next(status: &Value, nodes: &[Value], sessions: u64, serving: bool) -> Vec<String> {
    let mut steps = Vec::new();
    if !serving {
        steps.push(("glasshive serve".to_owned(), "start the controller"));
    }
    if list(status, "nets").is_empty() {
        steps.push(("glasshive check".to_owned(), "there is no net yet: add [net.NAME] to controller.toml"));
    } else if nodes.is_empty() {
        let net = list(status, "nets").first().and_then(Value::as_str).map(crate::screen::scrub).unwrap_or_default();
        steps.push((format!("glasshive enroll NODE --net {net} --role decoys"), "let a node in"));
    }
    if sessions > 0 {
        steps.push(("glasshive sessions".to_owned(), "who came"));
        steps.push(("glasshive credentials".to_owned(), "what they tried"));
    }
    if serving {
        steps.push(("glasshive tail -f".to_owned(), "watch live"));
    }
    steps.push(("glasshive --help".to_owned(), "all commands"));
    let width = steps.iter().map(|(command, _)| command.len()).max().unwrap_or(0);
    steps
        .iter()
        .enumerate()
        .map(|(index, (command, why))| format!("{:8}{command:width$}  {why}", if index == 0 { "Next" } else { "" }))
        .collect()
}

fn clip(text: &str) -> String {
    if text.chars().count() > 20 { format!("{}…", text.chars().take(19).collect::<String>()) } else { text.to_owned() }
}

const NODES: &[Column] = &[
    Column::text("NODE", |row| shown(row, "node")),
    Column::text("NET", |row| shown(row, "net")),
    Column::text("ROLE", |row| shown(row, "role")),
    Column::whole("STATE", state),
    Column::number("LAST RECORD", last),
    Column::number("LOST", |row| number(row, "loss_count").to_string()),
];
