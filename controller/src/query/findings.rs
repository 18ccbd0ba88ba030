//! Findings, one finding, and the flows nobody answered.

use super::{Context, Sink, resolve};
use crate::config::Vantage;
use crate::fail::Failure;
use crate::{sight, view};
use glasshive_journal::store::{FindingQuery, FlowQuery};
use serde_json::{Value, json};

pub(super) async fn list(cx: &Context, query: FindingQuery, sink: &mut Sink) -> Result<Option<String>, Failure> {
    let page = cx.store.findings(query).await?;
    for row in &page.rows {
        sink.item(sight::finding(row)).await?;
    }
    Ok(page.next.map(|cursor| cursor.0))
}

pub(super) async fn probes(cx: &Context, query: FlowQuery, sink: &mut Sink) -> Result<Option<String>, Failure> {
    let page = cx.store.flows(FlowQuery { probes: true, ..query }).await?;
    for row in &page.rows {
        sink.item(sight::flow(row)).await?;
    }
    Ok(page.next.map(|cursor| cursor.0))
}

/// An object of an answer that holds several kinds of them.
pub(super) fn typed(mut value: Value, kind: &str) -> Value {
    if let Value::Object(map) = &mut value {
        map.insert("type".to_owned(), Value::String(kind.to_owned()));
    }
    value
}

pub(super) async fn show(cx: &Context, id: &str, sink: &mut Sink) -> Result<Option<String>, Failure> {
    let found = resolve::finding(cx, id).await?;
    let mut finding = sight::finding_detail(&found.row, &found.detail);
    if let Some(net) = cx.config.net.get(&found.row.net) {
        finding.insert("vantage".to_owned(), json!(if net.vantage == Vantage::Edge { "edge" } else { "inside" }));
    }
    if let Some(def) = glasshive_detect::find(&found.row.detector) {
        finding.insert("rule".to_owned(), json!(def.summary));
    }
    finding.insert("packet_nodes".to_owned(), json!(found.packets.nodes));
    finding.insert("scope".to_owned(), json!(found.packets.scope));
    finding.insert("display_filter".to_owned(), json!(found.packets.scope.display_filter()));
    sink.item(typed(Value::Object(finding), "finding")).await?;
    for row in &found.sessions {
        sink.item(typed(view::session(row), "session")).await?;
    }
    for row in &found.packets.flows {
        sink.item(typed(sight::flow(row), "flow")).await?;
    }
    if !found.whole {
        let why = "its record was deleted by retention: evidence and flows are gone";
        sink.item(json!({"type": "missing", "why": why})).await?;
    }
    Ok(None)
}
