//! Datagram sessions: one tuple, idle for at most 60 s, answered from the address that was asked.

use super::Entry;
use crate::conn::{Conn, DatagramSink};
use crate::recorder::{BoxFuture, Room};
use crate::session::{self, Peer, Session};
use bytes::Bytes;
use glasshive_daemon::net::{Datagrams, ReplyFrom};
use glasshive_event::{Transport, Tuple};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::mpsc;

/// The idle constant of datagram sessions, shared with the sensor.
pub(super) const IDLE: Duration = Duration::from_secs(60);
/// Datagram sessions at once.
const MAX_SESSIONS: usize = 16_384;
/// Datagrams waiting for one session.
const QUEUE: usize = 32;
/// Largest datagram.
const MAX_DATAGRAM: usize = 65_535;

struct Sink {
    socket: Arc<Datagrams>,
    from: ReplyFrom,
    to: SocketAddr,
}

impl DatagramSink for Sink {
    fn send<'a>(&'a self, data: &'a [u8]) -> BoxFuture<'a, std::io::Result<()>> {
        Box::pin(async move { self.socket.send_from_to(data, self.from, self.to).await.map(|_| ()) })
    }
}

/// Serves one UDP socket until the daemon stops. `shown` maps the port of the socket to the port the
/// persona offers (they differ in plain mode).
pub async fn serve_udp(socket: Arc<Datagrams>, entry: Arc<Entry>, port: u16) {
    let mut open: HashMap<(SocketAddr, SocketAddr), mpsc::Sender<Bytes>> = HashMap::new();
    let mut buffer = vec![0u8; MAX_DATAGRAM];
    loop {
        let received = tokio::select! {
            () = entry.cancel.cancelled() => return,
            received = socket.recv_from_to(&mut buffer) => received,
        };
        let Ok(datagram) = received else {
            tokio::task::yield_now().await;
            continue;
        };
        if !entry.gate.is_open() {
            entry.counts.datagrams_dropped.fetch_add(1, Ordering::Relaxed);
            continue;
        }
        let data = Bytes::copy_from_slice(buffer.get(..datagram.len).unwrap_or_default());
        let key = (datagram.source, datagram.destination);
        let data = match open.get(&key).map(|queue| queue.try_send(data.clone())) {
            Some(Ok(())) => continue,
            Some(Err(mpsc::error::TrySendError::Full(_))) => {
                entry.counts.datagrams_skipped.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            // The session ended: this datagram begins the next one.
            Some(Err(mpsc::error::TrySendError::Closed(data))) => data,
            None => data,
        };
        let asked = SocketAddr::new(datagram.destination.ip(), port);
        let Some(target) = entry.targets.at(asked, Transport::Udp) else { continue };
        if open.len() >= MAX_SESSIONS {
            open.retain(|_, queue| !queue.is_closed());
        }
        if open.len() >= MAX_SESSIONS || !*entry.accepting.borrow() {
            entry.counts.datagrams_dropped.fetch_add(1, Ordering::Relaxed);
            continue;
        }
        let (queue, rx) = mpsc::channel(QUEUE);
        let _ = queue.try_send(data);
        open.insert(key, queue);
        entry.counts.datagram_sessions.fetch_add(1, Ordering::Relaxed);
        let wire = Tuple { source: datagram.source.into(), destination: datagram.destination.into() };
        let peer = Peer { transport: Transport::Udp, wire, claimed: None, conn: None };
        let session = Session::new(
            entry.recorder.clone(),
            Some(Arc::clone(&entry.targets) as Arc<dyn session::Router>),
            Arc::clone(&target.decoy),
            target.service_name,
            peer,
            entry.gate.era(),
        );
        let sink = Arc::new(Sink { socket: Arc::clone(&socket), from: datagram.reply, to: datagram.source });
        let conn = Conn::datagram(rx, sink, session.counters(), IDLE);
        let service = Arc::clone(&target.service);
        let entry = Arc::clone(&entry);
        entry.tasks.clone().spawn(async move {
            if !session::run(service, conn, session, Room::Now).await {
                entry.counts.datagrams_dropped.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
}
