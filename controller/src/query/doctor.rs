//! Is every hop alive, does anything get lost, and what would help.

use super::findings::typed;
use super::{Context, Sink, nodes};
use crate::desk::{self, now_ns};
use crate::fail::Failure;
use crate::fusion::Status;
use crate::notify::ChannelStatus;
use crate::screen::{lasted, plural};
use crate::sight;
use glasshive_event::Severity;
use glasshive_journal::store::{JoinQuery, JoinRate};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

const MINUTE_NS: i64 = 60_000_000_000;
/// Losses, gaps and joins are judged over this long.
const WINDOW_NS: i64 = 24 * 60 * MINUTE_NS;
/// A flow is told after its end: sessions younger than this are not judged.
const SETTLE_NS: i64 = 2 * MINUTE_NS;
/// Nodes renew at ten days; fewer days mean that renewal does not work.
const CERTIFICATE_DAYS: i64 = 7;
/// A node's clock further off than this joins nothing by interval.
const CLOCK_NS: u64 = 2_000_000_000;
/// A connected node's newest record may be this old: three heartbeats.
const SILENT_NS: i64 = 3 * MINUTE_NS;
/// Records of a node that may wait.
const BEHIND: u64 = 10_000;
/// The share of sessions that must have a flow, and of completed connections that must have a session.
const JOINED: f64 = 0.95;
/// Fewer than these are not judged.
const FEW: u64 = 5;
/// Fusion may be this far behind while there are records to look at.
const FUSION_LAG_NS: i64 = 2 * MINUTE_NS;

/// What is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trouble {
    /// What kind of trouble: stays the same while its words change.
    pub(crate) code: &'static str,
    /// Whom it is about.
    pub(crate) about: String,
    /// In words.
    pub(crate) what: String,
    /// What helps.
    pub(crate) remedy: String,
}

impl Trouble {
    /// How bad, for notifications.
    pub(crate) fn severity(&self) -> Severity {
        match self.code {
            "wall" | "tampered" => Severity::Critical,
            _ => Severity::High,
        }
    }
}

#[derive(Default)]
struct Troubles(Vec<Trouble>);

impl Troubles {
    fn add(&mut self, code: &'static str, about: impl Into<String>, what: impl Into<String>, remedy: impl Into<String>) {
        self.0.push(Trouble { code, about: about.into(), what: what.into(), remedy: remedy.into() });
    }
}

/// What was looked at, and what is wrong.
pub(crate) struct Examined {
    /// One object a node, net and part.
    pub(crate) items: Vec<Value>,
    /// What is wrong.
    pub(crate) troubles: Vec<Trouble>,
}

pub(super) async fn run(cx: &Context, sink: &mut Sink) -> Result<Option<String>, Failure> {
    let Examined { items, troubles } = examine(cx).await;
    for item in items {
        sink.item(item).await?;
    }
    for Trouble { code, about, what, remedy } in troubles {
        sink.item(json!({"type": "trouble", "code": code, "about": about, "what": what, "remedy": remedy})).await?;
    }
    Ok(None)
}

/// Looks at everything; what cannot be looked at is trouble, too.
pub(crate) async fn examine(cx: &Context) -> Examined {
    let now = now_ns();
    let mut troubles = Troubles::default();
    let mut items = Vec::new();
    // A store that cannot be read is the worst trouble, and must not hide the others.
    let mut unread = None;
    let words = or_none(words(cx, now).await, &mut unread);
    let mut all = nodes::gather_with(cx, or_none(cx.store.nodes(None).await, &mut unread));
    // What was lost long ago is history, not trouble.
    let recent = or_none(cx.store.nodes(Some(now.saturating_sub(WINDOW_NS))).await, &mut unread);
    let recent: BTreeMap<String, Map<String, Value>> =
        recent.into_iter().map(|status| (status.row.node.clone(), crate::view::node(&status))).collect();
    for (name, node) in &mut all {
        for key in ["loss_count", "losses", "gap_count", "gaps"] {
            match recent.get(name).and_then(|recent| recent.get(key)) {
                Some(value) => drop(node.insert(key.to_owned(), value.clone())),
                None => drop(node.remove(key)),
            }
        }
        if let Some(word) = words.get(name) {
            for key in ["wall", "paused"] {
                word.get(key).map(|value| node.insert(key.to_owned(), value.clone()));
            }
        }
        judge_node(name, node, now, &mut troubles);
        items.push(typed(Value::Object(node.clone()), "node"));
    }
    let query = JoinQuery { since: Some(now.saturating_sub(WINDOW_NS)), until: Some(now.saturating_sub(SETTLE_NS)), net: None };
    for rate in or_none(cx.store.join_rates(query).await, &mut unread) {
        let sensors = all.values().filter(|node| is(node, "net", &rate.net) && is(node, "role", "sensor") && is(node, "state", "enrolled"));
        let sensors = sensors.count() as u64;
        let listed = cx.config.net.get(&rate.net).is_some_and(|net| net.segment.is_some());
        judge_net(&rate, sensors, listed, &mut troubles);
        let mut net = sight::join_rate(&rate);
        if let Value::Object(map) = &mut net {
            map.insert("sensors".to_owned(), json!(sensors));
        }
        items.push(typed(net, "net"));
    }
    match &cx.live {
        Some(live) => {
            let status = live.fusion();
            judge_fusion(&status, &mut troubles);
            let mut fusion = serde_json::to_value(&status).unwrap_or_default();
            if let (Value::Object(map), true) = (&mut fusion, status.frontier_ns > 0) {
                map.insert("watermark".to_owned(), crate::view::time(status.frontier_ns));
            }
            items.push(typed(fusion, "fusion"));
            for channel in live.channels() {
                judge_channel(&channel, &mut troubles);
                items.push(typed(serde_json::to_value(&channel).unwrap_or_default(), "notify"));
            }
        }
        None => troubles.add("down", "controller", "the daemon is down; this was read from disk", "start glasshive serve"),
    }
    let tampered = cx.store.tampered();
    items.push(json!({"type": "store", "full": cx.store.is_full(), "behind": cx.store.behind(), "tampered": tampered.len()}));
    if let (Some(why), false) = (unread, cx.store.is_full()) {
        troubles.add("store", "store", format!("it cannot be read: {why}"), "see what is wrong with its disk; glasshive's log says more");
    }
    if cx.store.is_full() {
        troubles.add(
            "disk",
            "store",
            format!("{}: free space is under the floor; nodes are told to wait, and keep what they have", cx.config.state_dir.display()),
            "free space there, or lower [store] quota in controller.toml",
        );
    }
    for name in tampered.iter().map(|tampered| &tampered.node).collect::<std::collections::BTreeSet<_>>() {
        let remedy = "keep this node's disk as evidence, then glasshive revoke it";
        troubles.add("tampered", format!("node {name}"), "it sent records that contradict stored ones", remedy);
    }
    Examined { items, troubles: troubles.0 }
}

/// What was read, else nothing; the first reason is kept.
fn or_none<T: Default, E: std::fmt::Display>(read: Result<T, E>, unread: &mut Option<String>) -> T {
    read.unwrap_or_else(|error| {
        unread.get_or_insert_with(|| error.to_string());
        T::default()
    })
}

/// What each node said of itself last: the running daemon remembers, else the newest records are read.
async fn words(cx: &Context, now: i64) -> Result<BTreeMap<String, Map<String, Value>>, Failure> {
    if let Some(live) = &cx.live {
        return Ok(live.words());
    }
    Ok(crate::live::read_words(&cx.store, now.saturating_sub(SILENT_NS)).await?)
}

fn is(node: &Map<String, Value>, key: &str, wanted: &str) -> bool {
    node.get(key).and_then(Value::as_str) == Some(wanted)
}

fn judge_node(name: &str, node: &Map<String, Value>, now: i64, troubles: &mut Troubles) {
    let count = |key: &str| node.get(key).and_then(Value::as_u64).unwrap_or(0);
    let about = || format!("node {name}");
    let (lost, gaps) = (count("loss_count"), count("gap_count"));
    if lost > 0 {
        troubles.add("loss", about(), format!("{lost} not kept within a day"), "see where and why: glasshive tail --kind loss");
    }
    if gaps > 0 {
        troubles.add("gap", about(), format!("{} in its log within a day", plural(gaps, "gap")), "see which: glasshive tail --kind gap");
    }
    if name == desk::NODE || !is(node, "state", "enrolled") {
        return;
    }
    judge_wall(node, troubles, &about());
    if let Some(why) = node.get("paused").and_then(Value::as_str) {
        let remedy = "free space on that host, or raise [journal] quota there; visitors wait until then";
        troubles.add("disk", about(), format!("its journal cannot take more: {why}"), remedy);
    }
    let connected = node.get("connected").and_then(Value::as_bool);
    if connected == Some(false) {
        let why = node.get("last_error").and_then(Value::as_str).map(|why| format!(": {why}")).unwrap_or_default();
        troubles.add(
            "away",
            about(),
            format!("not connected{why}"),
            "on that host: systemctl status, then its log; is the controller's port reachable?",
        );
    }
    if let Some(days) = node.get("certificate_days").and_then(Value::as_i64).filter(|days| *days < CERTIFICATE_DAYS) {
        let remedy = format!("renewal does not work: restart its daemon, or let it in again with glasshive enroll {name}");
        troubles.add("certificate", about(), format!("its certificate ends in {days} days"), remedy);
    }
    if let Some(offset) = node.get("clock_offset_ns").and_then(Value::as_i64).filter(|offset| offset.unsigned_abs() > CLOCK_NS) {
        let side = if offset < 0 { "behind" } else { "ahead" };
        let what = format!("its clock is {} {side}", lasted(offset.unsigned_abs()));
        troubles.add("clock", about(), what, "set up time synchronisation there; until then its findings come late");
    }
    let behind = count("records_behind");
    if behind > BEHIND {
        troubles.add("behind", about(), format!("{behind} records wait on it"), "wait for it to catch up, or look at the network between");
    }
    let last = node.get("received").and_then(Value::as_str).and_then(|text| text.parse::<jiff::Timestamp>().ok());
    let last = last.and_then(|time| i64::try_from(time.as_nanosecond()).ok());
    if let (Some(true), Some(last)) = (connected, last)
        && !node.contains_key("paused")
        && now.saturating_sub(last) > SILENT_NS
    {
        let ago = lasted(now.saturating_sub(last).unsigned_abs());
        troubles.add(
            "silent",
            about(),
            format!("connected, but its last record came {ago} ago"),
            "it writes a heartbeat a minute: restart its daemon",
        );
    }
}

/// A node that looks for no wall says nothing of one.
fn judge_wall(node: &Map<String, Value>, troubles: &mut Troubles, about: &str) {
    let Some(wall) = node.get("wall").and_then(Value::as_object) else { return };
    let said = |key: &str| wall.get(key).and_then(Value::as_bool);
    if said("stands") == Some(false) {
        let why = wall.get("why").and_then(Value::as_str).unwrap_or("no reason given");
        let visitors = if said("answering") == Some(false) { "its visitors are refused" } else { "its visitors are answered all the same" };
        let remedy = "on that host: load the wall (systemctl restart nftables), and see that glasshive-decoys wall runs (systemctl status glasshive-wall)";
        troubles.add("wall", about, format!("its wall does not stand: {why}; {visitors}"), remedy);
    }
    if said("entry") == Some(false) {
        let remedy = "on that host: systemctl restart glasshive-decoys, which loads them; glasshive-decoys check --nft prints them";
        troubles.add("entry", about, "its entry rules are not loaded: nobody reaches its decoys", remedy);
    }
}

fn judge_channel(channel: &ChannelStatus, troubles: &mut Troubles) {
    let about = format!("notify {}", channel.channel);
    if let Some(error) = &channel.error {
        let remedy = "is the receiver there, and may this host reach it? then: glasshive notify test";
        troubles.add("notify", &about, format!("{}: the last note did not arrive: {error}", channel.target), remedy);
    }
    if channel.dropped > 0 {
        let remedy = "what they said is in glasshive findings and doctor; restart glasshive serve to begin counting anew";
        troubles.add("notify_dropped", &about, format!("{} dropped since the start", plural(channel.dropped, "note")), remedy);
    }
}

/// `listed`: whether the controller has the net's segment list.
fn judge_net(rate: &JoinRate, sensors: u64, listed: bool, troubles: &mut Troubles) {
    let about = format!("net {}", rate.net);
    if rate.flows_seen == 0 && sensors == 0 {
        return;
    }
    if !listed {
        troubles.add(
            "segment",
            &about,
            "no segment list: detectors do not know which ports should answer",
            format!("glasshive-decoys check --segment > FILE on each node, then segment = \"FILE\" in [net.{}]", rate.net),
        );
    }
    let poor = |part: u64, all: u64| all >= FEW && (part as f64) < JOINED * all as f64;
    let remedy = "the sensor must see the decoys' own tuples (no NAT between), all of the segment, and be enrolled in the same net";
    if poor(rate.sessions_joined, rate.sessions) {
        troubles.add("sessions", &about, format!("only {} of {} sessions have a flow", rate.sessions_joined, rate.sessions), remedy);
    }
    if poor(rate.flows_joined, rate.flows) {
        let what = format!("only {} of {} completed connections to decoys have a session", rate.flows_joined, rate.flows);
        troubles.add(
            "connections",
            &about,
            what,
            "a decoys node is away, silenced or not recording: see its row above, and glasshive findings",
        );
    }
}

fn judge_fusion(status: &Status, troubles: &mut Troubles) {
    let mut add = |code, what: String, remedy: &str| troubles.add(code, "fusion", what, remedy);
    if let Some(error) = &status.error {
        add("fusion", format!("the last turn failed: {error}"), "it is tried again; if it stays, look at the disk");
    } else if !status.running {
        add("fusion", "it does not run".to_owned(), "restart glasshive serve, and keep its log");
    }
    if status.behind > 0 && status.lag_ns > FUSION_LAG_NS {
        let what = format!("{} behind, {} records wait", lasted(status.lag_ns.unsigned_abs()), status.behind);
        add("fusion_behind", what, "it catches up after a backlog; if it grows, this machine is too small for these nodes");
    }
    let evicted: u64 = status.evicted.values().sum();
    if evicted > 0 {
        add(
            "evicted",
            format!("detectors forgot {evicted} keys for want of room"),
            "a flood of sources: findings on the quiet ones may be missing",
        );
    }
    let unseen = status.dropped.saturating_add(status.skipped).saturating_add(status.missing);
    if unseen > 0 {
        let what = format!(
            "{} dropped, {} skipped, {} gone unseen",
            plural(status.dropped, "finding"),
            plural(status.skipped, "observation"),
            plural(status.missing, "record")
        );
        add("unseen", what, "give the store more room, or look at fewer nets with one controller");
    }
}

#[cfg(test)]
mod tests;
