//! One event in words, for the story of a session and for the tail. Everything here is escaped.

use crate::screen::{number, scrub, shown, size, wire};
use serde_json::Value;

/// Wall time of an event object.
pub(super) fn time_ns(event: &Value) -> i64 {
    let time = event.get("time").and_then(Value::as_str).and_then(|text| text.parse::<jiff::Timestamp>().ok());
    time.and_then(|time| i64::try_from(time.as_nanosecond()).ok()).unwrap_or(0)
}

/// Time since the start: `+12.345`.
pub(super) fn offset(start: i64, at: i64) -> String {
    let ns = at.saturating_sub(start);
    let sign = if ns < 0 { '-' } else { '+' };
    let ms = ns.unsigned_abs() / 1_000_000;
    format!("{sign}{}.{:03}", ms / 1_000, ms % 1_000)
}

/// A time field to the millisecond.
pub(super) fn milli(row: &Value, key: &str) -> String {
    let text = shown(row, key);
    match text.split_once('.') {
        Some((whole, rest)) => format!("{whole}.{}Z", rest.get(..3).unwrap_or("000")),
        None => text,
    }
}

/// The word and the text of an event.
pub(super) fn event(event: &Value) -> (String, String) {
    let kind = shown(event, "kind");
    let none = Value::Null;
    let detail = event.get("detail").unwrap_or(&none);
    let text = |key: &str| shown(detail, key);
    let yes = |key: &str| detail.get(key) == Some(&Value::Bool(true));
    let some = |key: &str, before: &str| {
        let value = text(key);
        if value.is_empty() { value } else { format!("{before}{value}") }
    };
    let said = match kind.as_str() {
        "session.open" => format!("opened{}{}", some("persona", ", persona "), some("target", ", target ")),
        "session.close" => format!(
            "closed by {}, {} in, {} out{}",
            text("reason"),
            size(number(detail, "bytes_in")),
            size(number(detail, "bytes_out")),
            some("error", ", our error: ")
        ),
        "login" => login(event, detail),
        "command" => {
            let exit = some("exit", "  → exit ");
            let unknown = if yes("known") { "" } else { ", not known here" };
            format!("{}{exit}{unknown}", text("input"))
        }
        "request" => format!("{} {} {}{}{}", text("protocol"), text("verb"), text("target"), some("status", "  → "), fields(detail)),
        "stream" => stream(event, detail),
        "file" => {
            let cut = number(detail, "cut_bytes");
            let cut = if cut > 0 { format!(", {} not kept", size(cut)) } else { String::new() };
            format!(
                "{} {}, {}, {}{cut}, sha256 {}…",
                text("direction"),
                text("name"),
                size(number(detail, "size")),
                text("magic"),
                text("sha256").chars().take(16).collect::<String>()
            )
        }
        "hello" => format!(
            "{}{}{}{}{}{}{}",
            text("protocol"),
            some("id", " "),
            some("version", " "),
            some("sni", ", name "),
            some("hassh", ", hassh "),
            some("ja3", ", ja3 "),
            some("ja4", ", ja4 ")
        ),
        "forward" => {
            let answered = if yes("answered") { "answered in process" } else { "refused" };
            format!("{} to {}:{}, {answered}{}", text("mechanism"), text("host"), text("port"), some("child", ", session "))
        }
        "secret" => format!("{}, {} lines, sealed", text("secret_kind"), text("lines")),
        "malformed" => {
            let bytes = glasshive_event::text::unhex(&text("bytes"))
                .map_or_else(|| text("bytes"), |bytes| glasshive_event::text::escape_bytes(&bytes));
            format!("{}: {} at byte {}: {bytes}{}", text("protocol"), text("what"), text("offset"), some("looks_like", ", looks like "))
        }
        "flow" => {
            let end = |key: &str| detail.get("wire").map(|wire| crate::screen::endpoint(wire, key)).unwrap_or_default();
            format!("{} to {}, {}{}", end("source"), end("destination"), text("state"), some("end", ", ended by "))
        }
        "finding" => format!("{} {} {}{}", text("severity"), text("detector"), text("techniques"), some("summary", ": ")),
        "device" => text("raw"),
        "audit" => {
            format!("{} {} by {} (uid {}){}", text("action"), text("object"), text("user"), text("uid"), some("reason", ", because: "))
        }
        "loss" => format!("{} lost at {}, {}: {}", number(detail, "count"), text("place"), size(number(detail, "bytes")), text("why")),
        "health" => format!("{} {}", text("what"), text("message")),
        "gap" => format!("records {} to {} are missing: {}", some("from", ""), some("to", ""), text("why")),
        "blocked" => {
            let uid = some("uid", ", by user ");
            let destination =
                event.get("destination").map(|end| format!("{}:{}", shown(end, "ip"), shown(end, "port"))).unwrap_or_default();
            format!(
                "{} to {destination}, protocol {}, {} dropped ({} so far){}{}{uid}",
                text("direction"),
                text("protocol"),
                number(detail, "count"),
                number(detail, "total"),
                some("interface", " at "),
                some("prefix", " by ")
            )
        }
        "checkpoint" => format!("up to record {}", text("seq")),
        _ => wire(detail),
    };
    let word = kind.strip_prefix("session.").unwrap_or(&kind).to_owned();
    (word, scrub(said.trim()))
}

fn login(event: &Value, detail: &Value) -> String {
    let text = |key: &str| shown(detail, key);
    let secret = match (text("secret"), text("fingerprint")) {
        (secret, _) if !secret.is_empty() => secret,
        (_, print) if !print.is_empty() => format!("key {print}"),
        _ => "no secret".to_owned(),
    };
    let pivot = text("secret_pivot");
    let pivot = if pivot.is_empty() { pivot } else { format!(", pivot {pivot}") };
    let outcome = if detail.get("accepted") == Some(&Value::Bool(true)) { "ACCEPTED" } else { "refused" };
    let trouble = shown(event, "secret_error");
    let trouble = if trouble.is_empty() { trouble } else { format!("; {trouble}") };
    format!("{outcome}  {}  {secret}  by {}{pivot}{trouble}", text("user"), text("method"))
}

/// The few fields of a request worth a line; all of them are in `--json`.
fn fields(detail: &Value) -> String {
    let Some(Value::Object(fields)) = detail.get("fields") else { return String::new() };
    let mut out = String::new();
    for key in ["host", "user_agent", "user-agent", "type", "class", "body"] {
        if let Some(value) = fields.get(key).map(wire).filter(|value| !value.is_empty()) {
            let value: String = value.chars().take(200).collect();
            out.push_str(&format!(", {key} {value}"));
        }
    }
    out
}

fn stream(event: &Value, detail: &Value) -> String {
    let bytes: Vec<u8> =
        crate::streams::pieces(event).map(|(_, pieces)| pieces.into_iter().flat_map(|piece| piece.bytes).collect()).unwrap_or_default();
    let head = glasshive_event::text::escape_bytes(bytes.get(..bytes.len().min(120)).unwrap_or_default());
    let more = if bytes.len() > 120 { "…" } else { "" };
    format!("channel {} {}: {head}{more}", shown(detail, "channel"), shown(detail, "direction"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn offsets() {
        assert_eq!(offset(1_000_000_000, 13_345_600_000), "+12.345");
        assert_eq!(offset(1_000_000_000, 0), "-1.000");
    }

    #[test]
    fn every_kind_says_something() {
        for def in glasshive_event::kind::KINDS {
            let (word, _) = event(&json!({"kind": def.name, "detail": {}}));
            assert!(!word.is_empty());
        }
        let (word, text) = event(
            &json!({"kind": "login", "detail": {"user": "ro\u{202e}ot", "method": "password", "secret": "••••", "secret_pivot": "ab", "accepted": true}}),
        );
        assert_eq!((word.as_str(), text.as_str()), ("login", "ACCEPTED  ro\\u{202e}ot  ••••  by password, pivot ab"));
    }
}
