//! One session: who, where, its children, its events in order; and its streams for a replay.

use super::findings::typed;
use super::{Context, Sink, allow_reveal};
use crate::desk::Operator;
use crate::fail::Failure;
use crate::{sight, view};
use glasshive_event::{Kind, SessionId};
use glasshive_journal::store::{Join, Lookup, SessionQuery, SessionRow, StoredEvent};
use std::collections::BTreeSet;
use tokio::sync::broadcast::error::RecvError;

/// Events of one session that are read at most; more is said, never silent.
pub(super) const MAX_EVENTS: usize = 200_000;
/// Children listed.
const MAX_CHILDREN: usize = 1_000;

/// The session a person means.
pub(super) async fn find(cx: &Context, id: &str) -> Result<SessionRow, Failure> {
    let typed = id.trim();
    if typed.len() < 4 || typed.len() > 36 || !typed.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-') {
        return Err(Failure::usage(format!(
            "{:?} is not a session id: give all of it, or at least 4 digits of its start or end",
            typed.chars().take(40).collect::<String>()
        )));
    }
    match cx.store.session(typed).await? {
        Lookup::Found(row) => Ok(*row),
        Lookup::NotFound => Err(Failure::not_found(format!("no session {typed}: list them with glasshive sessions"))),
        Lookup::Ambiguous(rows) => {
            let ids: Vec<_> = rows.iter().take(4).map(|row| row.session.to_string()).collect();
            Err(Failure::usage(format!("{typed} fits several sessions: {}; give more digits", ids.join(", "))))
        }
    }
}

/// Sessions opened inside one, oldest first.
pub(super) async fn children(cx: &Context, parent: SessionId) -> Result<Vec<SessionRow>, Failure> {
    let query = SessionQuery { parent: Some(parent), children: true, limit: MAX_CHILDREN, ..SessionQuery::default() };
    let mut rows = cx.store.sessions(query).await?.rows;
    rows.reverse();
    Ok(rows)
}

/// Says how a session or flow was joined with its other half.
pub(super) fn with_join(value: &mut serde_json::Value, join: Option<Join>) {
    if let (serde_json::Value::Object(map), Some(join)) = (value, join) {
        map.insert("join".to_owned(), sight::join(join).into());
    }
}

pub(super) async fn show(
    cx: &Context,
    by: &Operator,
    id: &str,
    reveal: Option<String>,
    sink: &mut Sink,
) -> Result<Option<String>, Failure> {
    let row = find(cx, id).await?;
    let live = match &reveal {
        Some(reason) => Some(allow_reveal(cx, by, &format!("session {}", row.session), reason).await?),
        None => None,
    };
    let joined = cx.store.session_flows(&row).await?;
    let mut session = view::session(&row);
    with_join(&mut session, joined.first().map(|joined| joined.join));
    sink.item(typed(session, "session")).await?;
    for joined in &joined {
        let mut flow = sight::flow(&joined.flow);
        with_join(&mut flow, Some(joined.join));
        sink.item(typed(flow, "flow")).await?;
    }
    for finding in cx.store.session_findings(row.session).await? {
        sink.item(typed(sight::finding(&finding), "finding")).await?;
    }
    for child in children(cx, row.session).await? {
        sink.item(typed(view::session(&child), "child")).await?;
    }
    let events = cx.store.session_events(&row, MAX_EVENTS).await?;
    for stored in &events {
        let mut item = view::event(stored, false);
        if let Some(live) = live
            && let Some(sealed) = view::sealed_secret(stored)
        {
            match live.unseal(&sealed) {
                Ok(secret) => view::reveal(&mut item, &secret),
                Err(failure) => super::lists::note(&mut item, &failure),
            }
        }
        sink.item(typed(item, "event")).await?;
    }
    if row.events > events.len() as u64 {
        let missing = row.events - events.len() as u64;
        sink.item(serde_json::json!({"type": "missing", "count": missing, "why": "more events than are shown, or their segment was deleted by retention"}))
            .await?;
    }
    Ok(None)
}

/// Stream events, first the header.
pub(super) async fn streams(cx: &Context, id: &str, follow: bool, sink: &mut Sink) -> Result<Option<String>, Failure> {
    // Subscribed before the log is read: nothing falls between.
    let mut next = cx.store.follow();
    let row = find(cx, id).await?;
    sink.item(typed(view::session(&row), "session")).await?;
    let mut seen = BTreeSet::new();
    let mut open = row.close_ns.is_none();
    for stored in cx.store.session_events(&row, MAX_EVENTS).await? {
        seen.insert(stored.seq);
        open &= !is(&stored, Kind::SessionClose);
        if is(&stored, Kind::Stream) {
            sink.item(typed(view::event(&stored, false), "event")).await?;
        }
    }
    while follow && open {
        let stored = tokio::select! {
            () = sink.closed() => break,
            stored = next.recv() => stored,
        };
        match stored {
            Ok(stored) => {
                let ours = view::envelope(&stored).is_some_and(|envelope| envelope.session == Some(row.session));
                if !ours || !seen.insert(stored.seq) {
                    continue;
                }
                open = !is(&stored, Kind::SessionClose);
                if is(&stored, Kind::Stream) {
                    sink.item(typed(view::event(&stored, false), "event")).await?;
                }
            }
            Err(RecvError::Lagged(count)) => sink.item(serde_json::json!({"type": "missed", "count": count})).await?,
            Err(RecvError::Closed) => break,
        }
    }
    Ok(None)
}

fn is(stored: &StoredEvent, kind: Kind) -> bool {
    view::envelope(stored).is_some_and(|envelope| envelope.kind == kind.number())
}
