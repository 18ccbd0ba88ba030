//! `glasshive doctor`

use super::Shell;
use super::nodes::COLUMNS;
use crate::ask::Request;
use crate::fail::Failure;
use crate::screen::{lasted, number, plural, shown, story};
use serde_json::Value;

/// Is every hop alive, does anything get lost, and what would help
#[derive(clap::Args)]
#[command(after_help = "Examples:
  glasshive doctor                     exit code 0: all is well; 1: something is wrong
  glasshive doctor --json              one object a line: node, net, fusion, notify, store, trouble

Nodes: last record, lag, clock, losses and gaps of the last day, certificate days. Nets: how
many sessions have a flow of the sensor, and how many completed connections have a session.
Fusion: how far the detectors over all nodes' records have come. Walls: whether the firewall
around each node's segment stands, and whether visitors are answered. Notify: every channel.")]
pub(super) struct Args {}

pub(super) async fn run(_: Args, shell: &mut Shell) -> Result<(), Failure> {
    let (items, _) = shell.all(Request::Doctor).await?;
    let of = |kind: &str| items.iter().filter(|item| shown(item, "type") == kind).cloned().collect::<Vec<_>>();
    let troubles = of("trouble");
    if shell.out.json {
        items.iter().try_for_each(|item| shell.out.object(item))?;
    } else {
        shell.out.table(COLUMNS, &of("node"), "no nodes: let one in with glasshive enroll NODE --net NET --role decoys")?;
        let mut rows: Vec<[String; 3]> = Vec::new();
        rows.extend(
            of("node").iter().filter_map(|node| Some([String::new(), format!("wall {}", shown(node, "node")), wall(node.get("wall")?)])),
        );
        rows.extend(of("net").iter().map(|net| [String::new(), format!("net {}", shown(net, "net")), join(net)]));
        rows.extend(of("fusion").iter().map(|status| [String::new(), "fusion".to_owned(), fusion(status)]));
        rows.extend(of("notify").iter().map(|channel| [String::new(), format!("notify {}", shown(channel, "channel")), notify(channel)]));
        rows.extend(of("store").iter().map(|status| [String::new(), "store".to_owned(), store(status)]));
        shell.out.line("")?;
        story(&rows, shell.out.width).lines().try_for_each(|line| shell.out.line(line))?;
        shell.out.line("")?;
        if troubles.is_empty() {
            shell.out.line("all is well")?;
        }
        for trouble in &troubles {
            shell.out.heading(&format!("{}: {}", shown(trouble, "about"), shown(trouble, "what")))?;
            shell.out.line(&format!("  {}", shown(trouble, "remedy")))?;
        }
    }
    match troubles.len() as u64 {
        0 => Ok(()),
        1 => Err(Failure::failed("1 thing is wrong")),
        count => Err(Failure::failed(format!("{count} things are wrong"))),
    }
}

fn wall(wall: &Value) -> String {
    let said = |key: &str| wall.get(key).and_then(Value::as_bool);
    let answering = if said("answering") == Some(false) { "visitors are refused" } else { "visitors are answered" };
    if said("stands") != Some(true) {
        return format!("DOES NOT STAND: {}, {answering}", shown(wall, "why"));
    }
    let hash: String = shown(wall, "hash").chars().take(12).collect();
    let need = if said("required") == Some(true) { "only behind it" } else { "with or without it" };
    format!("{} stands, rules {hash}, {} dropped, {answering} {need}", shown(wall, "table"), plural(number(wall, "seen"), "packet"))
}

fn notify(channel: &Value) -> String {
    let counts = format!("{} sent, {} waiting, {} dropped", number(channel, "sent"), number(channel, "queued"), number(channel, "dropped"));
    match shown(channel, "error") {
        error if error.is_empty() => format!("{}: {counts}", shown(channel, "target")),
        error => format!("{}: {counts}; FAILING: {error}", shown(channel, "target")),
    }
}

fn join(net: &Value) -> String {
    let share = |key: &str| net.get(key).and_then(Value::as_f64).map_or_else(|| "-".to_owned(), |share| format!("{:.1} %", share * 100.0));
    if number(net, "flows_seen") == 0 {
        return format!("{}, no flow of a sensor", plural(number(net, "sessions"), "session"));
    }
    let capped = if net.get("capped") == Some(&Value::Bool(true)) { ", of the newest only" } else { "" };
    format!(
        "{} of {} have a flow ({} by tuple and time), {} of {} to decoys have a session{capped}",
        share("join_rate"),
        plural(number(net, "sessions"), "session"),
        number(net, "by_interval"),
        share("flow_rate"),
        plural(number(net, "flows"), "completed connection"),
    )
}

/// Room, and how many stored records no list shows yet.
fn store(status: &Value) -> String {
    let room = if status.get("full") == Some(&Value::Bool(true)) { "FULL" } else { "has room" };
    match status.get("behind").and_then(Value::as_u64) {
        None | Some(0) => room.to_owned(),
        Some(behind) => format!("{room}; lists are {behind} records behind"),
    }
}

fn fusion(status: &Value) -> String {
    let evicted: u64 = status.get("evicted").and_then(Value::as_object).into_iter().flatten().filter_map(|(_, count)| count.as_u64()).sum();
    let lag = status.get("lag_ns").and_then(Value::as_i64).unwrap_or(0);
    let mark = if shown(status, "watermark").is_empty() {
        "nothing looked at yet".to_owned()
    } else {
        format!("looked at all before {}, {} behind", crate::screen::second(status, "watermark"), lasted(lag.unsigned_abs()))
    };
    format!(
        "{mark}; {} read, {} waiting, {} told, {} late ({} by a second pass), {evicted} evicted",
        plural(number(status, "read"), "record"),
        number(status, "behind"),
        plural(number(status, "told"), "finding"),
        number(status, "late"),
        plural(number(status, "told_late"), "finding"),
    )
}
