//! Accept loops: every completed connection and every first datagram becomes a session, whatever the
//! service does. They pause when the journal cannot take more; they never wait for a visitor.

mod gate;
mod proxy;
mod sources;
mod udp;

pub use gate::Gate;
pub use sources::Sources;
pub use udp::serve_udp;

use crate::conn::Conn;
use crate::recorder::{BoxFuture, Recorder, Room};
use crate::services::{Outcome, Service};
use crate::session::{self, Peer, Session};
use crate::targets::{Target, Targets};
use glasshive_daemon::config::Prefix;
use glasshive_daemon::net::client_isn;
use glasshive_event::{ConnId, Transport, Tuple};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Connections the kernel holds for us.
const BACKLOG: i32 = 4_096;

/// What every accept loop shares.
pub struct Entry {
    /// Records and clocks.
    pub recorder: Recorder,
    /// What is open where.
    pub targets: Arc<Targets>,
    /// `false` while the journal cannot take more: accept loops wait.
    pub accepting: watch::Receiver<bool>,
    /// Closed while the wall does not stand: nobody is answered.
    pub gate: Gate,
    /// Peers whose PROXY-protocol header is believed.
    pub proxies: Vec<Prefix>,
    /// Sessions at once, of all visitors.
    pub slots: Arc<Semaphore>,
    /// Sessions at once, by source.
    pub sources: Sources,
    /// Ends everything.
    pub cancel: CancellationToken,
    /// Session tasks.
    pub tasks: TaskTracker,
    /// Counts shown in heartbeats.
    pub counts: Counts,
}

/// What the listeners counted since the start.
#[derive(Debug, Default)]
pub struct Counts {
    /// TCP connections accepted.
    pub accepted: AtomicU64,
    /// UDP sessions begun.
    pub datagram_sessions: AtomicU64,
    /// First datagrams dropped because a queue or table was full, or nobody is answered.
    pub datagrams_dropped: AtomicU64,
    /// Later datagrams of a session dropped because it did not read them.
    pub datagrams_skipped: AtomicU64,
    /// Connections refused because their source had too many.
    pub over_source: AtomicU64,
    /// Connections that could not be recorded because the journal had closed.
    pub unrecorded: AtomicU64,
}

/// Accepts on one TCP listener until the daemon stops. `fixed` names the service of a plain listener;
/// a transparent one is looked up by the address the visitor meant.
pub async fn serve_tcp(mut listener: TcpListener, entry: Arc<Entry>, fixed: Option<Target>) {
    // What is accepted inherits it: one call instead of one a connection.
    let _ = socket2::SockRef::from(&listener).set_tcp_nodelay(true);
    let mut accepting = entry.accepting.clone();
    loop {
        if !entry.gate.is_open() {
            match refuse(listener, &entry, fixed.as_ref()).await {
                Some(again) => listener = again,
                None => return,
            }
        }
        let slot = tokio::select! {
            () = entry.cancel.cancelled() => return,
            () = entry.gate.closed() => continue,
            slot = ready(&mut accepting, &entry.slots) => slot,
        };
        let Some(slot) = slot else { return };
        let accepted = tokio::select! {
            () = entry.cancel.cancelled() => return,
            () = entry.gate.closed() => continue,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, source)) => visit(stream, source, &entry, fixed.clone(), Some(slot)),
            Err(error) => {
                tracing::warn!(%error, "accepting failed; trying again");
                // Out of descriptors: let sessions end before asking the kernel again.
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

/// One connection, in a task of its own.
fn visit(
    stream: TcpStream,
    source: SocketAddr,
    entry: &Arc<Entry>,
    fixed: Option<Target>,
    slot: Option<tokio::sync::OwnedSemaphorePermit>,
) {
    entry.counts.accepted.fetch_add(1, Ordering::Relaxed);
    let entry = Arc::clone(entry);
    entry.tasks.clone().spawn(async move {
        handle(stream, source, &entry, fixed).await;
        drop(slot);
    });
}

/// While the gate is closed: stops listening, so that the kernel refuses, and listens again when it
/// opens. Connections the kernel had completed are recorded and closed. `None` when the daemon ends.
async fn refuse(listener: TcpListener, entry: &Arc<Entry>, fixed: Option<&Target>) -> Option<TcpListener> {
    while let Some(Ok((stream, source))) = futures_util::FutureExt::now_or_never(listener.accept()) {
        visit(stream, source, entry, fixed.cloned(), None);
    }
    // Out of the runtime and back: it remembers for good that a listener was shut down.
    let listener = listener.into_std().ok()?;
    let _ = socket2::SockRef::from(&listener).shutdown(std::net::Shutdown::Both);
    tokio::select! {
        () = entry.cancel.cancelled() => return None,
        () = entry.gate.opened() => {}
    }
    let opened = socket2::SockRef::from(&listener).listen(BACKLOG);
    let again = opened.and_then(|()| TcpListener::from_std(listener));
    if let Err(error) = &again {
        tracing::error!(%error, "a listener cannot be opened again; restart the daemon");
    }
    again.ok()
}

/// Waits until the journal takes records and a slot is free; `None` when the daemon is ending.
async fn ready(accepting: &mut watch::Receiver<bool>, slots: &Arc<Semaphore>) -> Option<tokio::sync::OwnedSemaphorePermit> {
    accepting.wait_for(|open| *open).await.ok()?;
    Arc::clone(slots).acquire_owned().await.ok()
}

async fn handle(mut stream: TcpStream, source: SocketAddr, entry: &Arc<Entry>, fixed: Option<Target>) {
    // The address comes from accept(): after an early reset the kernel no longer knows the peer.
    let Ok(local) = stream.local_addr() else { return };
    let wire = Tuple { source: source.into(), destination: local.into() };
    let conn_id = client_isn(&stream)
        .map(|isn| ConnId::derive(&entry.recorder.net, Transport::Tcp.number(), wire.source.into(), wire.destination.into(), isn));
    let mut peer = Peer { transport: Transport::Tcp, wire, claimed: None, conn: conn_id };
    let target = match fixed {
        Some(target) => target,
        None => match entry.targets.at(wire.destination.into(), Transport::Tcp) {
            Some(target) => target.clone(),
            None => {
                // The rules let in what the personas do not offer: a fault of ours, worth a line.
                tracing::error!(%local, "connection to an address that is not open; check the entry rules");
                return;
            }
        },
    };
    let mut first = bytes::Bytes::new();
    let mut damaged = None;
    if entry.proxies.iter().any(|prefix| prefix.contains(wire.source.ip)) {
        match Box::pin(proxy::read(&mut stream)).await {
            proxy::Header::Claims(claimed, rest) => (peer.claimed, first) = (claimed, rest),
            proxy::Header::Damaged(bytes, offset, what) => damaged = Some((bytes, offset, what)),
        }
    }
    let by = peer.claimed.unwrap_or(peer.wire.source).ip;
    let admitted = entry.sources.enter(by, target.decoy.limits.per_source);
    let session = Session::new(
        entry.recorder.clone(),
        Some(Arc::clone(&entry.targets) as Arc<dyn session::Router>),
        Arc::clone(&target.decoy),
        target.service_name,
        peer,
        entry.gate.era(),
    );
    let mut conn = Conn::stream(stream, session.counters(), target.decoy.limits.idle);
    if !first.is_empty() {
        // They came with the header, before the session counted.
        conn.counters().received(first.len());
        conn.unread(first);
    }
    let service = match (damaged, &admitted) {
        (Some((bytes, offset, what)), _) => Arc::new(Damaged(bytes, offset, what)) as Arc<dyn Service>,
        (None, None) => {
            entry.counts.over_source.fetch_add(1, Ordering::Relaxed);
            Arc::new(Refuse)
        }
        (None, Some(_)) if !entry.gate.is_open() => Arc::new(Refuse),
        (None, Some(_)) => target.service,
    };
    if !session::run(service, conn, session, Room::Wait).await {
        entry.counts.unrecorded.fetch_add(1, Ordering::Relaxed);
    }
}

/// Closes at once: the source has too many sessions, as a daemon at MaxStartups does, or the gate closed.
struct Refuse;

impl Service for Refuse {
    fn serve(&self, _conn: Conn, _session: Session) -> BoxFuture<'static, Outcome> {
        Box::pin(async { Outcome::Limit })
    }
}

/// A trusted peer sent something that is no PROXY header: recorded, then closed.
struct Damaged(bytes::Bytes, u64, &'static str);

impl Service for Damaged {
    fn serve(&self, mut conn: Conn, session: Session) -> BoxFuture<'static, Outcome> {
        let (bytes, offset, what) = (self.0.clone(), self.1, self.2);
        Box::pin(async move {
            session.malformed("proxy", what, offset, &bytes).await;
            conn.reset();
            Outcome::Server
        })
    }
}
