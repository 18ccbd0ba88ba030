//! Events under the names of the Elastic Common Schema. What has no name there stays under
//! `glasshive.*`; the session and both ends of the connection are on every line.

use glasshive_event::attack;
use glasshive_event::kind::KINDS;
use serde_json::{Map, Value, json};

/// Version of the schema the names are taken from.
pub(super) const VERSION: &str = "8.17.0";

/// The event as one ECS document; `session` is the export's session, for events without own ends.
pub(super) fn document(item: &Value, session: &Value) -> Value {
    let mut out = Map::new();
    let field = |key: &str| item.get(key).filter(|value| !value.is_null()).cloned();
    let or_session = |key: &str| field(key).or_else(|| session.get(key).filter(|value| !value.is_null()).cloned());
    let kind = item.get("kind").and_then(Value::as_str).unwrap_or_default();
    let detail = item.get("detail").cloned().unwrap_or(Value::Null);
    let said = |key: &str| detail.get(key).filter(|value| !value.is_null()).cloned();
    let mut put = |path: &str, value: Option<Value>| {
        if let Some(value) = value {
            set(&mut out, path, value);
        }
    };

    put("@timestamp", field("time"));
    put("ecs.version", Some(json!(VERSION)));
    let def = KINDS.iter().find(|def| def.name == kind);
    put("event.id", field("event"));
    put("event.kind", Some(json!(if kind == "finding" { "alert" } else { "event" })));
    put("event.category", def.map(|def| json!([def.ecs_category])));
    put("event.type", Some(json!(types(kind))));
    put("event.action", Some(json!(kind)));
    put("event.module", Some(json!("glasshive")));
    put("event.dataset", Some(json!(format!("glasshive.{kind}"))));
    put("event.sequence", field("seq"));
    put("event.ingested", field("received"));
    put("event.original", field("record"));
    put("event.hash", field("record_sha256"));
    put("source.ip", or_session("source").and_then(|end| end.get("ip").cloned()));
    put("source.port", or_session("source").and_then(|end| end.get("port").cloned()));
    put("destination.ip", or_session("destination").and_then(|end| end.get("ip").cloned()));
    put("destination.port", or_session("destination").and_then(|end| end.get("port").cloned()));
    put("network.transport", or_session("transport"));
    put("network.protocol", or_session("service"));
    put("observer.name", field("node"));
    put("observer.vendor", Some(json!("Glasshive")));
    put("observer.type", Some(json!("honeypot")));
    put("host.name", or_session("decoy"));
    put("glasshive.session", or_session("session"));
    put("glasshive.parent", or_session("parent"));
    put("glasshive.conn", field("conn"));
    put("glasshive.net", field("net"));
    put("glasshive.log", field("log"));
    put("glasshive.kind", Some(json!(kind)));
    put("glasshive.attack_version", Some(json!(attack::VERSION)));
    put("glasshive.wire_source", field("wire_source"));

    match kind {
        "session.close" => {
            put("event.duration", said("duration_ns"));
            put("event.reason", said("reason"));
            put("source.bytes", said("bytes_in"));
            put("destination.bytes", said("bytes_out"));
            put("source.packets", said("packets_in"));
            put("destination.packets", said("packets_out"));
        }
        "login" => {
            let accepted = detail.get("accepted") == Some(&json!(true));
            put("event.outcome", Some(json!(if accepted { "success" } else { "failure" })));
            put("user.name", said("user").map(text));
        }
        "command" => {
            put("process.command_line", said("input").map(text));
            put("process.exit_code", said("exit"));
        }
        "request" => {
            if said("protocol") == Some(json!("http")) {
                put("http.request.method", said("verb").map(text));
                put("url.original", said("target").map(text));
                put(
                    "http.response.status_code",
                    said("status").and_then(|status| status.as_str()?.parse::<u16>().ok()).map(|code| json!(code)),
                );
            }
            if said("protocol") == Some(json!("dns")) {
                put("dns.question.name", said("target").map(text));
                put("dns.question.type", said("verb").map(text));
                put("dns.response_code", said("status"));
            }
        }
        "file" => {
            put("file.name", said("name").map(text));
            put("file.size", said("size"));
            put("file.hash.sha256", said("sha256"));
        }
        "hello" => {
            put("tls.client.ja3", said("ja3"));
            put("tls.client.server_name", said("sni").map(text));
            put("tls.version", said("version"));
        }
        "finding" => {
            let ids: Vec<String> = said("techniques").and_then(|list| serde_json::from_value(list).ok()).unwrap_or_default();
            let known: Vec<_> = ids.iter().filter_map(|id| attack::technique(id)).collect();
            put("threat.framework", Some(json!("MITRE ATT&CK")));
            put("threat.technique.id", Some(json!(ids)));
            put("threat.technique.name", Some(json!(known.iter().map(|technique| technique.name).collect::<Vec<_>>())));
            put("threat.tactic.name", Some(json!(known.iter().flat_map(|technique| technique.tactics.split(',')).collect::<Vec<_>>())));
            put("rule.name", said("detector"));
            put("rule.id", said("finding"));
        }
        "audit" => {
            put("user.name", said("user"));
            put("user.id", said("uid").map(|uid| json!(uid.to_string())));
            put("event.reason", said("reason"));
        }
        _ => {}
    }
    put(&format!("glasshive.{}", kind.replace('.', "_")), Some(detail.clone()).filter(|detail| !detail.is_null()));
    Value::Object(out)
}

/// ECS `event.type` of a kind.
fn types(kind: &str) -> &'static [&'static str] {
    match kind {
        "session.open" => &["connection", "start"],
        "session.close" => &["connection", "end"],
        "login" | "command" => &["start"],
        "request" => &["access"],
        "file" => &["creation"],
        "hello" | "stream" | "forward" | "malformed" | "secret" => &["protocol"],
        "blocked" => &["denied"],
        "finding" => &["indicator"],
        "audit" => &["change"],
        _ => &["info"],
    }
}

/// Visitor bytes as ECS text: themselves when UTF-8, escaped when not. The bytes stay in `event.original`.
fn text(value: Value) -> Value {
    match &value {
        Value::String(_) => value,
        other => json!(crate::screen::wire(other)),
    }
}

fn set(out: &mut Map<String, Value>, path: &str, value: Value) {
    match path.split_once('.') {
        None => {
            out.insert(path.to_owned(), value);
        }
        Some((first, rest)) => {
            if let Value::Object(inner) = out.entry(first.to_owned()).or_insert_with(|| Value::Object(Map::new())) {
                set(inner, rest, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_ends_are_on_every_line() {
        let session = json!({"session": "s", "source": {"ip": "192.0.2.7", "port": 4}, "destination": {"ip": "10.0.0.1", "port": 22}, "service": "ssh"});
        for def in KINDS {
            let item = json!({"event": "e", "time": "t", "kind": def.name, "net": "dmz", "node": "n", "detail": {"user": {"hex": "ff"}}});
            let document = document(&item, &session);
            for (path, expected) in [
                ("/@timestamp", "t"),
                ("/glasshive/session", "s"),
                ("/source/ip", "192.0.2.7"),
                ("/destination/ip", "10.0.0.1"),
                ("/ecs/version", VERSION),
                ("/event/action", def.name),
                ("/glasshive/attack_version", "18"),
            ] {
                assert_eq!(document.pointer(path), Some(&json!(expected)), "{} {path}", def.name);
            }
        }
        let login = json!({"kind": "login", "detail": {"user": {"hex": "ff"}, "accepted": true}});
        let document = document(&login, &session);
        assert_eq!(document.pointer("/user/name"), Some(&json!("\\xff")));
        assert_eq!(document.pointer("/event/outcome"), Some(&json!("success")));
    }

    #[test]
    fn findings_name_their_techniques() {
        let finding = json!({"kind": "finding", "detail": {"detector": "d", "techniques": ["T1021", "T9999"]}});
        let document = document(&finding, &Value::Null);
        assert_eq!(document.pointer("/threat/technique/id"), Some(&json!(["T1021", "T9999"])));
        assert_eq!(document.pointer("/threat/technique/name"), Some(&json!(["Remote Services"])));
        assert_eq!(document.pointer("/event/kind"), Some(&json!("alert")));
    }
}
