//! Rows and events as the JSON objects everyone is shown: words of the design in snake case, times
//! in RFC 3339, secrets masked. Visitor bytes are kept whole here; whoever prints escapes them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use glasshive_event::text::hex;
use glasshive_event::{Endpoint, Envelope, Kind, Timestamp, WireText};
use glasshive_journal::store::{Counts, CredentialRow, FileRow, HourRow, NodeStatus, SessionRow, SourceRow, StoredEvent, UserRow};
use serde_json::{Map, Value, json};

/// What stands for a secret that is not shown.
pub const MASK: &str = "••••";

/// A wall time.
pub fn time(ns: i64) -> Value {
    Value::String(Timestamp(ns).rfc3339())
}

fn end(endpoint: Option<Endpoint>) -> Value {
    endpoint.map_or(Value::Null, |end| json!({"ip": end.ip, "port": end.port}))
}

/// Removes what is absent, so that objects say only what there is.
fn lean(value: Value) -> Value {
    match value {
        Value::Object(map) => Value::Object(map.into_iter().filter(|(_, value)| !value.is_null()).collect()),
        other => other,
    }
}

/// A session of a list.
pub fn session(row: &SessionRow) -> Value {
    let fingerprints: Vec<_> = row.fingerprints.iter().map(|(kind, value)| json!({"kind": kind, "value": value})).collect();
    lean(json!({
        "session": row.session,
        "parent": row.parent,
        "net": row.net,
        "node": row.node,
        "decoy": row.decoy,
        "service": row.service,
        "transport": row.transport.map(|transport| transport.name()),
        "source": end(row.claimed.or(row.source)),
        "destination": end(row.destination),
        "wire_source": row.claimed.and(row.source).map(|source| end(Some(source))),
        "persona": row.persona,
        "open": time(row.open_ns),
        "close": row.close_ns.map(time),
        "last": time(row.last_ns),
        "duration_ns": row.duration_ns,
        "reason": row.reason,
        "bytes_in": row.bytes_in,
        "bytes_out": row.bytes_out,
        "packets_in": row.packets_in,
        "packets_out": row.packets_out,
        "logins": row.logins,
        "accepted": row.accepted,
        "users": row.users,
        "commands": row.commands,
        "requests": row.requests,
        "files": row.files,
        "forwards": row.forwards,
        "malformed": row.malformed,
        "streams": row.streams,
        "findings": row.findings,
        "cut_bytes": row.cut_bytes,
        "fingerprints": fingerprints,
        "events": row.events,
        "log": row.log,
    }))
}

/// An event. With `records`, the stored bytes and their hash are in it.
///
/// Sealed secrets and sealed contents never leave here; a reveal puts `secret` in afterwards.
pub fn event(stored: &StoredEvent, records: bool) -> Value {
    let mut out = Map::new();
    let mut put = |key: &str, value: Value| {
        if !value.is_null() {
            out.insert(key.to_owned(), value);
        }
    };
    put("event", json!(stored.id()));
    put("node", json!(stored.node));
    put("net", json!(stored.net));
    put("log", json!(stored.log));
    put("seq", json!(stored.seq));
    match stored.view().and_then(|view| Some((view.header, view.split().ok()?))) {
        Some((header, (envelope, detail))) => {
            put("time", time(header.wall_ns));
            put("mono_ns", json!(header.mono_ns));
            put(
                "kind",
                Kind::from_number(envelope.kind).map_or_else(|| json!(format!("unknown {}", envelope.kind)), |kind| json!(kind.name())),
            );
            put("session", json!(envelope.session));
            put("parent", json!(envelope.parent));
            put("conn", json!(envelope.conn));
            put("decoy", json!(envelope.decoy));
            put("service", json!(envelope.service));
            put("transport", json!(envelope.transport.map(|transport| transport.name())));
            put("source", end(envelope.source()));
            put("destination", end(envelope.wire.map(|wire| wire.destination)));
            put("wire_source", envelope.claimed.and(envelope.wire).map_or(Value::Null, |wire| end(Some(wire.source))));
            put("detail", masked(serde_json::from_str(detail).unwrap_or(Value::Null)));
        }
        None => {
            put("time", time(stored.received_ns));
            put("kind", json!("unknown"));
            put("detail", json!({"record": hex(stored.record.get(..64).unwrap_or(&stored.record))}));
        }
    }
    put("received", time(stored.received_ns));
    if records {
        put("record", json!(STANDARD.encode(&stored.record)));
        put("record_sha256", json!(hex(&sha256(&stored.record))));
    }
    Value::Object(out)
}

/// SHA-256.
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    use sha2::Digest as _;
    sha2::Sha256::digest(bytes).into()
}

/// A detail without what is sealed.
fn masked(mut detail: Value) -> Value {
    if let Value::Object(map) = &mut detail {
        if map.remove("secret_sealed").is_some() {
            map.insert("secret".to_owned(), json!(MASK));
        }
        if map.remove("content_sealed").is_some() {
            map.insert("content".to_owned(), json!("sealed"));
        }
    }
    detail
}

/// The sealed secret of a login event, for a reveal.
pub fn sealed_secret(stored: &StoredEvent) -> Option<String> {
    let detail: Value = stored.view()?.detail().ok()?;
    Some(detail.get("secret_sealed")?.as_str()?.to_owned())
}

/// Puts the opened secret into an event or credential object; a TLS key log stays text.
pub fn reveal(object: &mut Value, secret: &[u8]) {
    let text = json!(WireText::from_bytes(secret));
    match object.get_mut("detail") {
        Some(Value::Object(detail)) => {
            detail.insert("secret".to_owned(), text);
        }
        _ => {
            if let Value::Object(map) = object {
                map.insert("secret".to_owned(), text);
            }
        }
    }
}

/// Envelope of an event, when this build can read it.
pub fn envelope(stored: &StoredEvent) -> Option<Envelope> {
    Some(stored.view()?.split().ok()?.0)
}

/// A credential of a list.
pub fn credential(row: &CredentialRow) -> Value {
    lean(json!({
        "user": row.user,
        "secret": row.sample.as_ref().map(|_| MASK),
        "secret_kind": row.secret_kind,
        "secret_pivot": row.secret_pivot,
        "count": row.count,
        "accepted": row.accepted,
        "first": time(row.first_ns),
        "last": time(row.last_ns),
        "source_count": row.source_count.count(),
        "source_count_exact": row.source_count.is_exact(),
        "sources": row.sources,
        "nets": row.nets,
        "services": row.services,
    }))
}

/// A file of a list.
pub fn file(row: &FileRow) -> Value {
    let kept: Vec<_> = row.blobs.iter().map(|(node, blob)| json!({"node": node, "blob": blob})).collect();
    lean(json!({
        "sha256": row.sha256,
        "size": row.size,
        "magic": row.magic,
        "names": row.names,
        "directions": row.directions,
        "count": row.count,
        "first": time(row.first_ns),
        "last": time(row.last_ns),
        "sessions": row.sessions,
        "nets": row.nets,
        "blobs": kept,
        "inline": row.inline.is_some(),
        "cut_bytes": row.cut_bytes,
    }))
}

fn counts(counts: &Counts) -> Map<String, Value> {
    match serde_json::to_value(counts) {
        Ok(Value::Object(map)) => map,
        _ => Map::new(),
    }
}

fn with(mut fields: Map<String, Value>, counts_of: &Counts) -> Value {
    fields.extend(counts(counts_of));
    Value::Object(fields)
}

fn fields(pairs: impl IntoIterator<Item = (&'static str, Value)>) -> Map<String, Value> {
    pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

/// Sums of one hour, net and service.
pub fn hour(row: &HourRow) -> Value {
    with(
        fields([("by", json!("hour")), ("hour", time(row.hour_ns)), ("net", json!(row.net)), ("service", json!(row.service))]),
        &row.counts,
    )
}

/// Sums under a name: `by` is net, service or total.
pub fn sums(by: &'static str, name: &str, counts: &Counts) -> Value {
    let mut head = fields([("by", json!(by))]);
    if by != "total" {
        head.insert(by.to_owned(), json!(name));
    }
    with(head, counts)
}

/// Sums of one source.
pub fn source(row: &SourceRow) -> Value {
    let head = fields([
        ("by", json!("source")),
        ("source", json!(row.source)),
        ("first", time(row.first_ns)),
        ("last", time(row.last_ns)),
        ("nets", json!(row.nets)),
        ("services", json!(row.services)),
    ]);
    with(head, &row.counts)
}

/// Sums of one account name.
pub fn user(row: &UserRow) -> Value {
    json!({
        "by": "user", "user": row.user, "first": time(row.first_ns), "last": time(row.last_ns),
        "logins": row.logins, "accepted": row.accepted, "source_count": row.sources.count(),
    })
}

/// A node, as its events tell; what the link knows is added by the caller.
pub fn node(status: &NodeStatus) -> Map<String, Value> {
    let row = &status.row;
    let losses: Vec<_> = row.losses.iter().map(|(place, (count, bytes))| json!({"place": place, "count": count, "bytes": bytes})).collect();
    let gaps: Vec<_> = row
        .gaps
        .iter()
        .map(|gap| lean(json!({"time": time(gap.wall_ns), "log": gap.log, "from": gap.from, "to": gap.to, "why": gap.why})))
        .collect();
    let logs: Vec<_> = status.logs.iter().map(|(log, seq)| json!({"log": log, "seq": seq})).collect();
    fields([
        ("node", json!(row.node)),
        ("net", json!(row.net)),
        ("first", if row.first_ns == 0 { Value::Null } else { time(row.first_ns) }),
        ("last", if row.last_ns == 0 { Value::Null } else { time(row.last_ns) }),
        ("received", if row.received_ns == 0 { Value::Null } else { time(row.received_ns) }),
        ("heartbeat", row.heartbeat_ns.map_or(Value::Null, time)),
        ("events", json!(row.events)),
        ("losses", json!(losses)),
        ("loss_count", json!(row.losses.values().map(|(count, _)| count).sum::<u64>())),
        ("gaps", json!(gaps)),
        ("gap_count", json!(row.gap_count)),
        ("logs", json!(logs)),
    ])
    .into_iter()
    .filter(|(_, value)| !value.is_null())
    .collect()
}
