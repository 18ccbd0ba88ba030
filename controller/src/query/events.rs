//! Events in order of time: the tail, and what an export is made of.

use super::{Context, Sink, packets, sessions};
use crate::ask::{Filter, What};
use crate::desk::Operator;
use crate::fail::Failure;
use crate::live::Live;
use crate::view;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use glasshive_event::{Kind, LogId};
use glasshive_journal::store::{EventQuery, StoreError, StoredEvent};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;

/// Newest events a tail begins with at most.
const MAX_LAST: usize = 10_000;
/// Bytes of a file in one answer line.
const PIECE: usize = 256 * 1024;
/// Largest sealed blob that is opened.
const MAX_BLOB: u64 = 1 << 30;

/// Whether an event passes.
pub(super) fn passes(stored: &StoredEvent, query: &EventQuery, filter: &Filter) -> bool {
    let same = |wanted: &Option<String>, is: Option<&str>| wanted.as_deref().is_none_or(|wanted| is == Some(wanted));
    if !same(&query.node, Some(&stored.node)) || !same(&query.net, Some(&stored.net)) {
        return false;
    }
    let plain = query.kinds.is_empty() && query.session.is_none() && *filter == Filter::default();
    let Some(view) = stored.view() else { return plain };
    let at = view.header.wall_ns;
    if query.since.is_some_and(|since| at < since) || query.until.is_some_and(|until| at >= until) {
        return false;
    }
    let Ok((envelope, detail)) = view.split() else { return plain };
    let kind = query.kinds.is_empty() || query.kinds.contains(&envelope.kind);
    let session = query.session.is_none() || query.session == envelope.session;
    let source = filter.source.is_none_or(|prefix| {
        envelope.claimed.is_some_and(|end| prefix.contains(end.ip)) || envelope.wire.is_some_and(|wire| prefix.contains(wire.source.ip))
    });
    if !(kind && session && source && same(&filter.decoy, envelope.decoy.as_deref()) && same(&filter.service, envelope.service.as_deref()))
    {
        return false;
    }
    if filter.user.is_none() && filter.hash.is_none() {
        return true;
    }
    let detail: Value = serde_json::from_str(detail).unwrap_or(Value::Null);
    let field = |key: &str| detail.get(key).and_then(Value::as_str);
    same(&filter.user, field("user"))
        && filter.hash.as_deref().is_none_or(|hash| field("sha256") == Some(hash) || field("secret_pivot") == Some(hash))
}

/// A scan of the log in order of time; only what passes comes out.
struct Scan {
    from: mpsc::Receiver<StoredEvent>,
    task: tokio::task::JoinHandle<Result<(), StoreError>>,
}

impl Scan {
    fn start(cx: &Context, query: &EventQuery) -> Self {
        let (to, from) = mpsc::channel(64);
        // The newest few or all that pass are chosen here, so the store must not stop early.
        let (store, asked) = (cx.store.clone(), EventQuery { limit: 0, ..query.clone() });
        Self { from, task: tokio::spawn(async move { store.events(asked, to).await }) }
    }

    async fn next(&mut self, query: &EventQuery, filter: &Filter) -> Option<StoredEvent> {
        while let Some(stored) = self.from.recv().await {
            if passes(&stored, query, filter) {
                return Some(stored);
            }
        }
        None
    }

    async fn finish(self) -> Result<(), Failure> {
        drop(self.from);
        match self.task.await {
            Ok(result) => Ok(result?),
            Err(error) => Err(Failure::failed(format!("reading the log: {error}"))),
        }
    }
}

pub(super) async fn tail(
    cx: &Context,
    query: EventQuery,
    filter: &Filter,
    follow: bool,
    sink: &mut Sink,
) -> Result<Option<String>, Failure> {
    let mut next = cx.store.follow();
    let last = query.limit.min(MAX_LAST);
    let mut kept = VecDeque::new();
    let mut shown: BTreeMap<LogId, u64> = BTreeMap::new();
    if last > 0 {
        let mut scan = Scan::start(cx, &query);
        while let Some(stored) = scan.next(&query, filter).await {
            if kept.len() >= last {
                kept.pop_front();
            }
            let mark = shown.entry(stored.log).or_default();
            *mark = (*mark).max(stored.seq);
            kept.push_back(stored);
        }
        scan.finish().await?;
    }
    for stored in &kept {
        sink.item(view::event(stored, false)).await?;
    }
    drop(kept);
    // What comes from now on is new, whatever the node's clock says.
    let query = EventQuery { since: None, ..query };
    while follow && !sink.gone() {
        let stored = tokio::select! {
            () = sink.closed() => break,
            stored = next.recv() => stored,
        };
        match stored {
            Ok(stored) => {
                let old = shown.get(&stored.log).is_some_and(|mark| stored.seq <= *mark);
                if !old && passes(&stored, &query, filter) {
                    sink.item(view::event(&stored, false)).await?;
                }
            }
            Err(RecvError::Lagged(count)) => sink.item(json!({"type": "missed", "count": count})).await?,
            Err(RecvError::Closed) => break,
        }
    }
    Ok(None)
}

/// What goes into an export besides the events.
#[derive(Clone, Copy)]
pub(super) struct Take {
    /// Captured files, opened.
    pub(super) files: bool,
    /// Packets of the net's sensors.
    pub(super) packets: bool,
    /// Keys that decrypt them, opened.
    pub(super) secrets: bool,
}

/// What an export is made of. The audit event is durable before the first object leaves.
pub(super) async fn export(
    cx: &Context,
    by: &Operator,
    what: What,
    [format, to, reason]: [&str; 3],
    take: Take,
    sink: &mut Sink,
) -> Result<Option<String>, Failure> {
    let live = if take.files {
        let live = cx.live.as_deref();
        Some(live.ok_or_else(|| Failure::unreachable("only the running daemon opens captured files: start glasshive serve and ask again"))?)
    } else {
        None
    };
    let object = |what: String| format!("{what} as {format} to {to}");
    match what {
        What::Session(id) if !take.packets => {
            let row = sessions::find(cx, &id).await?;
            cx.desk.audit(by, "export", &object(format!("session {}", row.session)), reason).await?;
            let mut session = view::session(&row);
            if let Value::Object(map) = &mut session {
                map.insert("type".to_owned(), json!("session"));
            }
            sink.item(session).await?;
            let mut done = BTreeSet::new();
            for stored in cx.store.session_events(&row, sessions::MAX_EVENTS).await? {
                one(&stored, live, &mut done, sink).await?;
            }
        }
        What::Session(id) => with_packets(cx, by, packets::of_session(cx, &id).await?, [format, to, reason], take, live, sink).await?,
        What::Finding(id) => with_packets(cx, by, packets::of_finding(cx, &id).await?, [format, to, reason], take, live, sink).await?,
        What::Filter { query, filter } => {
            if take.packets {
                return Err(Failure::usage("packets are exported of a session or a finding: glasshive export session ID"));
            }
            let said = serde_json::to_string(&(&query, &filter)).unwrap_or_default();
            cx.desk.audit(by, "export", &object(format!("filter {said}")), reason).await?;
            let mut done = BTreeSet::new();
            let mut scan = Scan::start(cx, &query);
            while let Some(stored) = scan.next(&query, &filter).await {
                one(&stored, live, &mut done, sink).await?;
            }
            scan.finish().await?;
        }
    }
    Ok(None)
}

/// Sessions with those within them, their findings, and what the format takes besides. Sensors are asked first.
async fn with_packets(
    cx: &Context,
    by: &Operator,
    wanted: packets::Wanted,
    [format, to, reason]: [&str; 3],
    take: Take,
    live: Option<&dyn Live>,
    sink: &mut Sink,
) -> Result<(), Failure> {
    cx.desk.audit(by, "export", &format!("{} as {format} to {to}", wanted.named), reason).await?;
    if take.secrets {
        packets::allow(cx, by, &wanted.named, reason).await?;
    }
    let asked = if take.packets { Some(packets::ask(cx, &wanted, !take.secrets).await?) } else { None };
    for item in wanted.items {
        sink.item(item).await?;
    }
    let mut done = BTreeSet::new();
    for of in &wanted.sessions {
        for stored in cx.store.session_events(of, sessions::MAX_EVENTS).await? {
            one(&stored, live, &mut done, sink).await?;
            if take.secrets {
                packets::keys(cx, &stored, sink).await?;
            }
        }
    }
    match asked {
        Some(asked) => asked.send(&wanted.net, sink).await,
        None => Ok(()),
    }
}

async fn one(stored: &StoredEvent, live: Option<&dyn Live>, done: &mut BTreeSet<String>, sink: &mut Sink) -> Result<(), Failure> {
    let mut item = view::event(stored, true);
    if let Value::Object(map) = &mut item {
        map.insert("type".to_owned(), json!("event"));
    }
    sink.item(item).await?;
    let is_file = view::envelope(stored).is_some_and(|envelope| envelope.kind == Kind::File.number());
    if let (true, Some(live)) = (is_file, live) {
        let Some(detail) = stored.view().and_then(|view| view.detail::<glasshive_event::detail::File>().ok()) else { return Ok(()) };
        if done.insert(detail.sha256.clone()) {
            content(stored, &detail, live, sink).await?;
        }
    }
    Ok(())
}

/// The bytes of one captured file, or why they are not there.
async fn content(stored: &StoredEvent, detail: &glasshive_event::detail::File, live: &dyn Live, sink: &mut Sink) -> Result<(), Failure> {
    let opened = match (&detail.content_sealed, &detail.blob) {
        (Some(sealed), _) => live.unseal(sealed),
        (None, Some(name)) => match live.blob(&stored.node, name).await {
            Ok(path) => open(&path, live),
            Err(failure) => Err(failure),
        },
        (None, None) => Err(Failure::not_found("its content was not kept")),
    };
    let about = json!({"type": "file", "sha256": detail.sha256, "size": detail.size, "name": detail.name, "magic": detail.magic,
        "session": view::envelope(stored).and_then(|envelope| envelope.session), "event": stored.id(), "cut_bytes": detail.cut_bytes});
    let with = |more: Value| {
        let mut about = about.clone();
        if let (Value::Object(about), Value::Object(more)) = (&mut about, more) {
            about.extend(more);
        }
        about
    };
    match opened {
        Ok(bytes) => {
            sink.item(with(json!({"bytes": bytes.len()}))).await?;
            for piece in bytes.chunks(PIECE) {
                sink.item(json!({"type": "piece", "sha256": detail.sha256, "data": STANDARD.encode(piece)})).await?;
            }
            Ok(())
        }
        Err(failure) => sink.item(with(json!({"missing": failure.message}))).await,
    }
}

fn open(path: &std::path::Path, live: &dyn Live) -> Result<Vec<u8>, Failure> {
    let size = std::fs::metadata(path)?.len();
    if size > MAX_BLOB {
        return Err(Failure::failed(format!("{}: {size} bytes is more than is opened at once (1 GiB)", path.display())));
    }
    live.unseal_bytes(&std::fs::read(path)?)
}
