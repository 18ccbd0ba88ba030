//! Nodes: what their events, the registry and the link say of them; letting them in and out.

use super::{Context, Sink};
use crate::desk::{self, Operator, now_ns};
use crate::fail::Failure;
use crate::view;
use glasshive_event::Timestamp;
use glasshive_journal::store::{NodeStatus, StatsQuery};
use glasshive_link::identity::{ControllerIdentity, IdentityError, Step};
use glasshive_link::name::{NodeName, Role};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

/// Longest life of a token.
const MAX_TTL: u64 = 7 * 86_400;
const DAY_NS: i64 = 86_400_000_000_000;

/// All nodes by name: enrolled, waiting to join, or known by their records.
pub(super) async fn gather(cx: &Context) -> Result<BTreeMap<String, Map<String, Value>>, Failure> {
    Ok(gather_with(cx, cx.store.nodes(None).await?))
}

/// The same, given what their records say of them.
pub(super) fn gather_with(cx: &Context, known_nodes: Vec<NodeStatus>) -> BTreeMap<String, Map<String, Value>> {
    let mut nodes: BTreeMap<String, Map<String, Value>> = BTreeMap::new();
    for status in known_nodes {
        nodes.insert(status.row.node.clone(), known(&status));
    }
    let now = now_ns();
    if let Some(identity) = &cx.identity {
        for (name, entry) in identity.nodes() {
            let node = nodes.entry(name.to_string()).or_default();
            let days = entry.issued.iter().map(|issued| issued.not_after_ns.saturating_sub(now).div_euclid(DAY_NS)).max();
            node.insert("node".to_owned(), json!(name));
            node.insert("net".to_owned(), json!(entry.net));
            node.insert("role".to_owned(), json!(entry.role));
            node.insert("state".to_owned(), json!(if entry.revoked_ns.is_some() { "revoked" } else { "enrolled" }));
            node.insert("enrolled".to_owned(), view::time(entry.enrolled_ns));
            if let Some(revoked) = entry.revoked_ns {
                node.insert("revoked".to_owned(), view::time(revoked));
            }
            if let Some(days) = days {
                node.insert("certificate_days".to_owned(), json!(days));
            }
        }
        for token in identity.pending() {
            let node = nodes.entry(token.node.to_string()).or_default();
            node.insert("node".to_owned(), json!(token.node));
            node.entry("net").or_insert_with(|| json!(token.net));
            node.entry("role").or_insert_with(|| json!(token.role));
            node.entry("state").or_insert_with(|| json!("token"));
            node.insert("token_expires".to_owned(), view::time(token.expires_ns));
        }
    }
    if let Some(live) = &cx.live {
        for (name, facts) in live.links() {
            nodes.entry(name.clone()).or_default().extend(facts);
        }
    }
    let own = cx.live.is_some();
    for (name, node) in &mut nodes {
        node.entry("node").or_insert_with(|| json!(name));
        if name == desk::NODE {
            // Its log holds findings of every net; it is in none.
            node.insert("net".to_owned(), json!(""));
        }
        let state = if name == desk::NODE { "own log" } else { "unknown" };
        node.entry("state").or_insert_with(|| json!(state));
        // With the daemon down nobody knows who would be connected.
        if own && name != desk::NODE {
            node.entry("connected").or_insert_with(|| json!(false));
        }
    }
    nodes
}

fn known(status: &NodeStatus) -> Map<String, Value> {
    let mut node = view::node(status);
    if status.row.received_ns > 0 && status.row.last_ns > 0 {
        node.insert("lag_ns".to_owned(), json!(status.row.received_ns.saturating_sub(status.row.last_ns).max(0)));
    }
    node
}

pub(super) async fn list(cx: &Context, sink: &mut Sink) -> Result<Option<String>, Failure> {
    for node in gather(cx).await?.into_values() {
        sink.item(Value::Object(node)).await?;
    }
    Ok(None)
}

pub(super) async fn status(cx: &Context, sink: &mut Sink) -> Result<Option<String>, Failure> {
    let nodes = gather(cx).await?;
    let now = now_ns();
    let midnight = now - now.rem_euclid(DAY_NS);
    let today = cx.store.stats(StatsQuery { since: Some(midnight), top: 5, ..StatsQuery::default() }).await?;
    let others = || nodes.iter().filter(|(name, _)| *name != desk::NODE).map(|(_, node)| node);
    let is = |node: &Map<String, Value>, key: &str, wanted: Value| node.get(key) == Some(&wanted);
    let sources: Vec<_> = today.sources.iter().map(view::source).collect();
    let users: Vec<_> = today.users.iter().map(view::user).collect();
    sink.item(json!({
        "time": view::time(now),
        "serving": cx.live.is_some(),
        "version": glasshive_journal::build::version(),
        "nets": cx.config.net.keys().collect::<Vec<_>>(),
        "nodes": others().cloned().collect::<Vec<_>>(),
        "connected": others().filter(|node| is(node, "connected", json!(true))).count(),
        "enrolled": others().filter(|node| is(node, "state", json!("enrolled"))).count(),
        "today": view::sums("total", "", &today.total),
        "services": today.services.iter().filter(|(name, _)| !name.is_empty()).map(|(name, counts)| view::sums("service", name, counts)).collect::<Vec<_>>(),
        "sources": sources,
        "users": users,
        "loss_count": others().filter_map(|node| node.get("loss_count").and_then(Value::as_u64)).sum::<u64>(),
        "gap_count": others().filter_map(|node| node.get("gap_count").and_then(Value::as_u64)).sum::<u64>(),
    }))
    .await?;
    Ok(None)
}

fn identity(cx: &Context) -> Result<&ControllerIdentity, Failure> {
    let why = "the controller has no identity yet: start glasshive serve once, it makes one";
    cx.identity.as_deref().ok_or_else(|| Failure::unreachable(why))
}

/// Node, net and role as the operator typed them, checked against the configuration.
fn admissible(cx: &Context, net: &str, role: &str) -> Result<Role, Failure> {
    let role: Role = role.parse().map_err(Failure::usage)?;
    if !cx.config.net.contains_key(net) {
        let known: Vec<_> = cx.config.net.keys().map(String::as_str).collect();
        let known = if known.is_empty() { "there is none".to_owned() } else { format!("the nets are {}", known.join(", ")) };
        let shown = glasshive_event::text::escape(net);
        return Err(Failure::not_found(format!(
            "no net {shown}: {known}; add [net.{shown}] to controller.toml and restart glasshive serve"
        )));
    }
    Ok(role)
}

fn node_name(text: &str) -> Result<NodeName, Failure> {
    let name: NodeName = text.parse().map_err(Failure::usage)?;
    if name.as_str() == desk::NODE {
        return Err(Failure::usage("the name controller is taken by the controller's own log: choose another"));
    }
    Ok(name)
}

pub(super) async fn enroll(
    cx: &Context,
    by: &Operator,
    [node, net, role]: [&String; 3],
    ttl_s: u64,
    sink: &mut Sink,
) -> Result<Option<String>, Failure> {
    let role = admissible(cx, net, role)?;
    let name = node_name(node)?;
    if ttl_s == 0 || ttl_s > MAX_TTL {
        return Err(Failure::usage("--ttl must be between 1s and 7d"));
    }
    let identity = identity(cx)?;
    cx.desk.audit(by, "enroll", &format!("node {name} as {role} in net {net}, token good for {ttl_s} s"), "").await?;
    let token = identity.enroll(name.clone(), net, role, Duration::from_secs(ttl_s)).map_err(refusal)?;
    let expires = Timestamp(now_ns().saturating_add(i64::try_from(ttl_s).unwrap_or(i64::MAX).saturating_mul(1_000_000_000)));
    let dialled = cx.config.dial.iter().any(|dial| dial.node == name.as_str());
    sink.item(json!({
        "node": name, "net": net, "role": role, "token": token.to_string(), "pin": identity.pin().to_string(),
        "expires": expires.rfc3339(), "controllers": cx.config.controllers(), "listen": cx.config.listen.to_string(), "dialled": dialled,
    }))
    .await?;
    Ok(None)
}

pub(super) async fn sign(
    cx: &Context,
    by: &Operator,
    csr: &str,
    [net, role]: [&String; 2],
    sink: &mut Sink,
) -> Result<Option<String>, Failure> {
    let role = admissible(cx, net, role)?;
    let identity = identity(cx)?;
    cx.desk.audit(by, "enroll", &format!("a signing request as {role} in net {net}"), "").await?;
    let bundle = identity.sign_csr(csr, net, role).map_err(refusal)?;
    if bundle.node.as_str() == desk::NODE {
        identity.revoke(&bundle.node).map_err(refusal)?;
        node_name(desk::NODE)?;
    }
    cx.desk.audit(by, "enrolled", &format!("node {} as {role} in net {net}", bundle.node), "").await?;
    sink.item(json!({"node": bundle.node, "net": bundle.net, "role": bundle.role, "bundle": bundle.to_json()})).await?;
    Ok(None)
}

pub(super) async fn revoke(cx: &Context, by: &Operator, node: &str, reason: &str, sink: &mut Sink) -> Result<Option<String>, Failure> {
    let name: NodeName = node.parse().map_err(Failure::usage)?;
    if reason.trim().is_empty() {
        return Err(Failure::refused("a revocation needs a reason: add --reason TEXT"));
    }
    let identity = identity(cx)?;
    let known = identity.nodes().contains_key(&name) || identity.pending().iter().any(|token| token.node == name);
    if !known {
        return Err(Failure::not_found(format!("node {name} is not enrolled: list nodes with glasshive nodes")));
    }
    cx.desk.audit(by, "revoke", &format!("node {name}"), reason).await?;
    let connected = cx.live.as_ref().and_then(|live| live.links().get(name.as_str()).and_then(|facts| facts.get("connected").cloned()));
    identity.revoke(&name).map_err(refusal)?;
    sink.item(json!({"node": name, "state": "revoked", "was_connected": connected.unwrap_or(json!(false)), "serving": cx.live.is_some()}))
        .await?;
    Ok(None)
}

pub(super) async fn rotate(
    cx: &Context,
    by: &Operator,
    step: Option<String>,
    reason: &str,
    force: bool,
    sink: &mut Sink,
) -> Result<Option<String>, Failure> {
    let identity = identity(cx)?;
    let rotated = match step {
        None => identity.rotation(),
        Some(text) => {
            let step: Step = text.parse().map_err(Failure::usage)?;
            if reason.trim().is_empty() {
                return Err(Failure::refused("a change of the certificate authority needs a reason: add --reason TEXT"));
            }
            let object = format!("certificate authority: {text}{}", if force { ", whoever is left behind" } else { "" });
            cx.desk.audit(by, "rotate", &object, reason).await?;
            identity.rotate(step, force).map_err(refusal)?
        }
    };
    let pins: Vec<_> = rotated.pins.iter().map(ToString::to_string).collect();
    sink.item(json!({"phase": rotated.phase, "changed": rotated.changed, "pins": pins, "behind": rotated.behind})).await?;
    Ok(None)
}

fn refusal(error: IdentityError) -> Failure {
    match error {
        IdentityError::UnknownNode(_) => Failure::not_found(error),
        IdentityError::Request(_) | IdentityError::Name(_) => Failure::usage(error),
        IdentityError::Revoked(_) | IdentityError::Token(_) | IdentityError::Step(_) | IdentityError::Behind(_) => Failure::refused(error),
        _ => Failure::failed(error),
    }
}
