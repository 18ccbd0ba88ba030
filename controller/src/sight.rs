//! Flows and findings as the JSON objects everyone is shown. Whoever prints escapes.

use crate::view::time;
use glasshive_event::{Endpoint, StoredFinding, attack};
use glasshive_journal::store::{FindingRow, FlowRow, Join, JoinRate};
use serde_json::{Map, Value, json};

fn lean(value: Value) -> Value {
    match value {
        Value::Object(map) => Value::Object(map.into_iter().filter(|(_, value)| !value.is_null()).collect()),
        other => other,
    }
}

/// `exact` or `interval`.
pub fn join(join: Join) -> &'static str {
    match join {
        Join::Exact => "exact",
        Join::Interval => "interval",
    }
}

/// A flow of a list.
pub fn flow(row: &FlowRow) -> Value {
    let end = |end: Endpoint| json!({"ip": end.ip, "port": end.port});
    lean(json!({
        "flow": row.flow,
        "net": row.net,
        "node": row.node,
        "first": time(row.first_ns),
        "last": time(row.last_ns),
        "duration_ns": row.last_ns.saturating_sub(row.first_ns).max(0),
        "end": row.end,
        "conn": row.conn,
        "community_id": row.community_id,
        "protocol": row.protocol,
        "source": end(row.wire.source),
        "destination": end(row.wire.destination),
        "state": row.state,
        "established": row.established,
        "packets_in": row.packets_in,
        "packets_out": row.packets_out,
        "bytes_in": row.bytes_in,
        "bytes_out": row.bytes_out,
        "application": row.application,
        "loss": row.loss,
        "log": row.log,
        "seq": row.seq,
    }))
}

/// A finding of a list.
pub fn finding(row: &FindingRow) -> Value {
    lean(json!({
        "finding": row.finding,
        "net": row.net,
        "node": row.node,
        "detector": row.detector,
        "version": row.version,
        "severity": row.severity,
        "confidence": row.confidence,
        "techniques": row.techniques,
        "use_cases": row.use_cases,
        "actor": row.actor,
        "target": row.target,
        "summary": row.summary,
        "first": time(row.first_ns),
        "at": time(row.at_ns),
        "late": row.late,
        "sessions": row.sessions,
        "flow_count": row.flow_count,
        "records": row.records,
        "log": row.log,
        "seq": row.seq,
    }))
}

/// What the record adds to the row: evidence, names of techniques, flows and packets.
pub fn finding_detail(row: &FindingRow, detail: &StoredFinding) -> Map<String, Value> {
    let Value::Object(mut out) = finding(row) else { return Map::new() };
    let techniques: Vec<_> = detail
        .techniques
        .iter()
        .map(|id| match attack::technique(id) {
            Some(known) => json!({"id": id, "name": known.name, "tactics": known.tactics.split(',').collect::<Vec<_>>()}),
            None => json!({"id": id}),
        })
        .collect();
    out.extend([
        ("techniques".to_owned(), json!(techniques)),
        ("attack_version".to_owned(), json!(attack::VERSION)),
        ("key".to_owned(), json!(detail.key)),
        ("evidence".to_owned(), json!(detail.evidence)),
        ("sessions".to_owned(), json!(detail.sessions)),
        ("flows".to_owned(), json!(detail.flows)),
        ("cut".to_owned(), json!(detail.cut)),
    ]);
    out
}

/// How well flows and sessions of a net meet.
pub fn join_rate(rate: &JoinRate) -> Value {
    let share = |part: u64, all: u64| if all == 0 { Value::Null } else { json!((part as f64 / all as f64 * 10_000.0).round() / 10_000.0) };
    lean(json!({
        "net": rate.net,
        "sessions": rate.sessions,
        "sessions_joined": rate.sessions_joined,
        "by_interval": rate.by_interval,
        "join_rate": share(rate.sessions_joined, rate.sessions),
        "flows_seen": rate.flows_seen,
        "flows": rate.flows,
        "flows_joined": rate.flows_joined,
        "flow_rate": share(rate.flows_joined, rate.flows),
        "capped": rate.capped,
    }))
}
