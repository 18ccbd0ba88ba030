//! Packets for an export: which ones a session or a finding means, who holds them, and asking them. Sensors are
//! asked before the first object leaves, so that an export without packets leaves nothing behind.

use super::findings::typed;
use super::{Context, Sink, allow_reveal, resolve, sessions};
use crate::desk::Operator;
use crate::fail::Failure;
use crate::{sight, view};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use glasshive_event::detail::Secret;
use glasshive_event::{Kind, PacketScope};
use glasshive_journal::store::{SessionRow, StoredEvent};
use glasshive_link::CarveQuery;
use glasshive_link::server::{CarveStream, FileError};
use serde_json::{Value, json};

/// Most bytes one sensor sends for one export.
const MAX_BYTES: u64 = 16 << 30;
/// Sessions within sessions that are taken along.
const MAX_CHILDREN: usize = 1_000;
/// Findings whose packets are marked in one export.
const MAX_FINDINGS: usize = 200;

/// What an export with packets is of.
pub(super) struct Wanted {
    /// In words, for the audit.
    pub(super) named: String,
    /// The net.
    pub(super) net: String,
    /// Sensors to ask.
    nodes: Vec<String>,
    /// Which packets.
    scope: PacketScope,
    /// Sessions whose events are taken.
    pub(super) sessions: Vec<SessionRow>,
    /// Sessions as objects of the answer, and findings.
    pub(super) items: Vec<Value>,
}

/// A session, those within it, its findings and its packets.
pub(super) async fn of_session(cx: &Context, id: &str) -> Result<Wanted, Failure> {
    let resolve::ResolvedSession { row, packets, .. } = resolve::session(cx, id).await?;
    let named = format!("session {}", row.session);
    let mut wanted =
        Wanted { named, net: row.net.clone(), nodes: packets.nodes, scope: packets.scope, sessions: Vec::new(), items: Vec::new() };
    wanted.items.push(typed(view::session(&row), "session"));
    for found in cx.store.session_findings(row.session).await?.into_iter().take(MAX_FINDINGS) {
        wanted.items.push(finding(&resolve::finding(cx, &found.finding.to_string()).await?));
    }
    wanted.family(cx, row).await?;
    Ok(wanted)
}

/// A finding, its sessions and its packets.
pub(super) async fn of_finding(cx: &Context, id: &str) -> Result<Wanted, Failure> {
    let found = resolve::finding(cx, id).await?;
    let mut wanted = Wanted {
        named: format!("finding {}", found.row.finding),
        net: found.row.net.clone(),
        nodes: found.packets.nodes.clone(),
        scope: found.packets.scope.clone(),
        sessions: Vec::new(),
        items: vec![finding(&found)],
    };
    for row in found.sessions {
        wanted.items.push(typed(view::session(&row), "session"));
        wanted.family(cx, row).await?;
    }
    Ok(wanted)
}

impl Wanted {
    /// Takes a session with those within it. What came over the wire by itself (an FTP data connection) brings its packets.
    async fn family(&mut self, cx: &Context, root: SessionRow) -> Result<(), Failure> {
        let mut inner = children(cx, &root).await?;
        for child in &inner {
            let in_process = in_process(child, &root);
            let mut item = typed(view::session(child), "child");
            if let Value::Object(map) = &mut item {
                map.insert("in_process".to_owned(), json!(in_process));
            }
            self.items.push(item);
            if !in_process {
                self.scope.0.extend(resolve::session(cx, &child.session.to_string()).await?.packets.scope.0);
            }
        }
        self.sessions.push(root);
        self.sessions.append(&mut inner);
        Ok(())
    }
}

/// A finding as an object of the answer, with what marks its packets.
fn finding(found: &resolve::ResolvedFinding) -> Value {
    let mut item = typed(sight::finding(&found.row), "finding");
    if let Value::Object(map) = &mut item {
        map.insert("scope".to_owned(), json!(found.packets.scope));
    }
    item
}

/// A session answered within another never was on the wire: its source is the decoy, not the visitor.
fn in_process(child: &SessionRow, root: &SessionRow) -> bool {
    child.source.map(|end| end.ip) != root.source.map(|end| end.ip)
}

/// Sessions within a session, and within those.
async fn children(cx: &Context, row: &SessionRow) -> Result<Vec<SessionRow>, Failure> {
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

/// Carves that began; nothing of them is sent yet.
pub(super) struct Asked(Vec<Carve>);

struct Carve {
    node: String,
    stream: CarveStream,
    first: Option<Result<Bytes, FileError>>,
}

/// Asks the sensors. `needed` = without packets there is no export.
pub(super) async fn ask(cx: &Context, packets: &Wanted, needed: bool) -> Result<Asked, Failure> {
    let net = &packets.net;
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
