//! Packets for an export: which ones a session means, who holds them, and asking them. Sensors are
//! asked before the first object leaves, so that an export without packets leaves nothing behind.

use super::{Context, Sink, allow_reveal, sessions};
use crate::desk::Operator;
use crate::fail::Failure;
use crate::view;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use glasshive_event::detail::Secret;
use glasshive_event::{Kind, PacketMatch, PacketScope, Timestamp, Tuple};
use glasshive_journal::store::{SessionRow, StoredEvent};
use glasshive_link::CarveQuery;
use glasshive_link::name::Role;
use glasshive_link::server::{CarveStream, FileError};
use serde_json::{Value, json};

/// Most bytes one sensor sends for one export.
const MAX_BYTES: u64 = 16 << 30;
/// Packets may come this much before a session's open and after its close.
const SLACK_NS: i64 = 5_000_000_000;
/// Sessions within sessions that are taken along.
const MAX_CHILDREN: usize = 1_000;

/// Packets, and who may hold them.
pub(super) struct Packets {
    /// Sensors to ask.
    pub(super) nodes: Vec<String>,
    /// Which packets.
    pub(super) scope: PacketScope,
}

/// The packets of a session and of those related to it that came over the wire themselves.
pub(super) fn of_session(cx: &Context, row: &SessionRow, children: &[SessionRow]) -> Packets {
    let wire = children.iter().filter(|child| !in_process(child, row));
    let scope = PacketScope(std::iter::once(row).chain(wire).filter_map(tuple).collect());
    let sensors = cx.identity.iter().flat_map(|identity| identity.nodes());
    let sensors = sensors.filter(|(_, entry)| entry.role == Role::Sensor && entry.net == row.net && entry.revoked_ns.is_none());
    Packets { nodes: sensors.map(|(name, _)| name.to_string()).collect(), scope }
}

fn tuple(row: &SessionRow) -> Option<PacketMatch> {
    let wire = Tuple { source: row.source?, destination: row.destination? };
    let close = row.close_ns.unwrap_or(row.last_ns).max(row.open_ns);
    let (since, until) = (Timestamp(row.open_ns.saturating_sub(SLACK_NS)), Timestamp(close.saturating_add(SLACK_NS)));
    Some(PacketMatch::tuple(row.transport?.number(), wire, since, until))
}

/// A session answered within another never was on the wire: its source is the decoy, not the visitor.
fn in_process(child: &SessionRow, root: &SessionRow) -> bool {
    child.source.map(|end| end.ip) != root.source.map(|end| end.ip)
}

/// Sessions within a session, and within those.
pub(super) async fn children(cx: &Context, row: &SessionRow) -> Result<Vec<SessionRow>, Failure> {
    let (mut all, mut next) = (Vec::new(), vec![row.session]);
    while let Some(parent) = next.pop() {
        for child in sessions::children(cx, parent).await? {
            if all.len() >= MAX_CHILDREN {
                return Ok(all);
            }
            next.push(child.session);
            all.push(child);
        }
    }
    all.sort_by_key(|child| (child.open_ns, child.session));
    Ok(all)
}

/// The child as an object of the answer.
pub(super) fn child(child: &SessionRow, root: &SessionRow) -> Value {
    let mut item = view::session(child);
    if let Value::Object(map) = &mut item {
        map.insert("type".to_owned(), json!("child"));
        map.insert("in_process".to_owned(), json!(in_process(child, root)));
    }
    item
}

/// Carves that began; nothing of them is sent yet.
pub(super) struct Asked(Vec<Carve>);

struct Carve {
    node: String,
    stream: CarveStream,
    first: Option<Result<Bytes, FileError>>,
}

/// Asks the sensors. `needed` = without packets there is no export.
pub(super) async fn ask(cx: &Context, net: &str, packets: &Packets, needed: bool) -> Result<Asked, Failure> {
    if packets.nodes.is_empty() && !needed {
        return Ok(Asked(Vec::new()));
    }
    if packets.nodes.is_empty() {
        return Err(Failure::not_found(format!(
            "net {net} has no sensor, so no packets were captured: --format decrypted writes what the records alone give"
        )));
    }
    if packets.scope.0.is_empty() {
        return Err(Failure::not_found("it names no addresses, so it means no packets"));
    }
    let Some(live) = cx.live.as_deref() else {
        return Err(Failure::unreachable("only the running daemon asks sensors for packets: start glasshive serve and ask again"));
    };
    let mut asked = Vec::new();
    for node in &packets.nodes {
        let query = CarveQuery { scope: packets.scope.clone(), bpf: None, max_bytes: MAX_BYTES };
        let mut stream = live.carve(node, query).await?;
        let first = stream.next().await;
        if let Some(Err(error)) = first {
            return Err(failed(error));
        }
        asked.push(Carve { node: node.clone(), stream, first });
    }
    Ok(Asked(asked))
}

fn failed(error: FileError) -> Failure {
    match error {
        FileError::NotConnected(_) | FileError::Broken(_) => Failure::unreachable(error),
        _ => Failure::failed(error),
    }
}

impl Asked {
    /// Sends each sensor's packets and its statement.
    pub(super) async fn send(self, net: &str, sink: &mut Sink) -> Result<(), Failure> {
        if self.0.is_empty() {
            return sink.item(json!({"type": "no_packets", "why": format!("net {net} has no sensor")})).await;
        }
        let nodes: Vec<&str> = self.0.iter().map(|carve| carve.node.as_str()).collect();
        sink.item(json!({"type": "sensors", "nodes": nodes})).await?;
        for Carve { node, mut stream, first } in self.0 {
            sink.item(json!({"type": "sensor", "node": node})).await?;
            let mut next = first;
            while let Some(part) = next {
                let data = STANDARD.encode(part.map_err(failed)?);
                sink.item(json!({"type": "packets", "node": node, "data": data})).await?;
                next = stream.next().await;
            }
            sink.item(json!({"type": "statement", "node": node, "statement": stream.statement()})).await?;
        }
        Ok(())
    }
}

/// Whether keys may be opened, and that they are is kept. Before anything is sent.
pub(super) async fn allow(cx: &Context, by: &Operator, object: &str, reason: &str) -> Result<(), Failure> {
    allow_reveal(cx, by, &format!("keys of {object}"), reason).await.map(|_| ())
}

/// The key-log lines of an event, opened; one that cannot be is said.
pub(super) async fn keys(cx: &Context, stored: &StoredEvent, sink: &mut Sink) -> Result<(), Failure> {
    let is_secret = view::envelope(stored).is_some_and(|envelope| envelope.kind == Kind::Secret.number());
    let (true, Some(live)) = (is_secret, cx.live.as_deref()) else { return Ok(()) };
    let Some(detail) = stored.view().and_then(|view| view.detail::<Secret>().ok()) else { return Ok(()) };
    if detail.secret_kind != "tls-keylog" {
        return Ok(());
    }
    let opened = live.unseal(&detail.secret_sealed);
    let event = stored.id();
    match opened {
        Ok(lines) => sink.item(json!({"type": "keylog", "event": event, "lines": String::from_utf8_lossy(&lines)})).await,
        Err(failure) => sink.item(json!({"type": "no_keys", "event": event, "why": failure.message})).await,
    }
}
