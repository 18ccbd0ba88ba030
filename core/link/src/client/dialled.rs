//! A node that its controller dials: the same frames, TCP the other way round, so that the decoys'
//! segment needs no way out. The node is the TLS server; the caller must prove to be the controller.

use super::{ClientConfig, Node};
use crate::clock::Clock;
use crate::error::LinkError;
use crate::frame::MAX_UNPROVEN;
use crate::source::BlockSource;
use crate::status::{LinkPhase, LinkStatus};
use crate::tls::{self, Channel};
use crate::wire::{Wire, linger};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex as AsyncMutex, Semaphore, watch};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Connections that have not proven anything yet.
const UNPROVEN: usize = 16;

/// One channel of the controller: the newest proven connection has it.
#[derive(Default)]
struct Place {
    holder: Mutex<CancellationToken>,
    turn: AsyncMutex<()>,
}

/// Serves a controller that dials, until `shutdown`.
pub async fn serve_dialled<S: BlockSource>(
    config: ClientConfig,
    listener: TcpListener,
    source: S,
    clock: Arc<dyn Clock>,
    status: watch::Sender<LinkStatus>,
    shutdown: CancellationToken,
) {
    let node = Arc::new(Node { config, source, clock, status });
    let identity = node.identity().await;
    node.status.send_modify(|status| status.phase = LinkPhase::Waiting);
    if let Err(error) = identity {
        node.failed(&error);
    }
    let places = Arc::new([Place::default(), Place::default()]);
    let unproven = Arc::new(Semaphore::new(UNPROVEN));
    let tasks = TaskTracker::new();
    let accepting = async {
        loop {
            let Ok(permit) = unproven.clone().acquire_owned().await else { return };
            let (tcp, remote) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "accept");
                    sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let (node, places, stop) = (node.clone(), places.clone(), shutdown.clone());
            tasks.spawn(async move {
                let serving = serve(&node, tcp, remote, &places, permit);
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = serving => {}
                }
            });
        }
    };
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = accepting => {}
    }
    tasks.close();
    tasks.wait().await;
    node.status.send_modify(|status| status.phase = LinkPhase::Stopped);
}

async fn serve<S: BlockSource>(
    node: &Node<S>,
    tcp: TcpStream,
    remote: SocketAddr,
    places: &[Place; 2],
    permit: tokio::sync::OwnedSemaphorePermit,
) {
    let (channel, error) = match proven(node, tcp, remote).await {
        Err(error) => (None, error),
        Ok((identity, channel, stream)) => {
            drop(permit);
            let [main, bulk] = places;
            let place = if channel == Channel::Main { main } else { bulk };
            let mine = CancellationToken::new();
            std::mem::replace(&mut *place.holder.lock().unwrap_or_else(PoisonError::into_inner), mine.clone()).cancel();
            let _turn = place.turn.lock().await;
            let mut wire = Wire::new(stream, MAX_UNPROVEN);
            let remote = remote.to_string();
            let ended = tokio::select! {
                biased;
                () = mine.cancelled() => Err(LinkError::Replaced),
                ended = node.session(&identity, channel, &remote, &mut wire) => ended,
            };
            let Err(error) = ended;
            (Some(channel), error)
        }
    };
    match channel {
        Some(Channel::Main) => node.failed(&error),
        Some(_) => tracing::debug!(%error, "bulk connection ended"),
        None => {
            tracing::info!(%remote, %error, "rejected a connection");
            // Junk must not hide the state of a connection that stands.
            let idle = node.status.borrow().phase != LinkPhase::Connected;
            if idle && !matches!(error, LinkError::Silent(_) | LinkError::Closed) {
                node.failed(&error);
            }
        }
    }
}

type Proven = (crate::identity::NodeIdentity, Channel, tokio_rustls::server::TlsStream<TcpStream>);

async fn proven<S: BlockSource>(node: &Node<S>, tcp: TcpStream, _remote: SocketAddr) -> Result<Proven, LinkError> {
    let identity = node.identity().await?;
    let _ = tcp.set_nodelay(true);
    let acceptor = TlsAcceptor::from(tls::node_accepts(&identity, &node.clock)?);
    let deadline = node.config.handshake;
    let stream = match timeout(deadline, acceptor.accept(tcp).into_fallible()).await {
        Err(_) => return Err(LinkError::Silent(deadline)),
        Ok(Ok(stream)) => stream,
        Ok(Err((error, tcp))) => {
            linger(tcp).await;
            return Err(LinkError::Tls(error));
        }
    };
    let channel = stream.get_ref().1.alpn_protocol().and_then(Channel::from_alpn);
    match channel {
        Some(channel) => Ok((identity, channel, stream)),
        None => Err(LinkError::Violation("no channel was named".into())),
    }
}
