//! The controller's side of the link: accepts nodes, dials those that are dialled, hands batches to
//! an [`Ingest`] and acknowledges only what that says is durable.
//!
//! It must never take a node's word for its name, net or role, and never let one connection disturb
//! another: everything before the proof has a deadline, a size limit and a cap per source.

mod admission;
mod bulk;
mod enrol;
mod main;
mod nodes;

pub use bulk::{CarveStream, FileError, FileStream, Range};
pub use nodes::NodeStatus;

use crate::carve::CarveQuery;
use crate::clock::Clock;
use crate::common::{connect, pause};
use crate::error::LinkError;
use crate::frame::{GoAwayWhy, Hello, MAX_FRAME, MAX_UNPROVEN, Message, VERSION_MAX, VERSION_MIN};
use crate::identity::{ControllerIdentity, IdentityError};
use crate::ingest::{Ingest, Notice, Peer};
use crate::name::{BlobName, NodeName};
use crate::tls::{self, Channel};
use crate::wire::{Stream, Wire, linger};
use admission::Admission;
use nodes::Nodes;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::LazyConfigAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long stopping may take.
const GOODBYES: Duration = Duration::from_secs(3);

/// How the controller's side behaves; the defaults are the product's.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// Most connections.
    pub max_connections: usize,
    /// Most connections that have not proven anything yet, in all and of one source address.
    pub max_unproven: (usize, usize),
    /// Deadline of each step before the proof.
    pub handshake: Duration,
    /// Bytes a node may have sent and not yet acknowledged.
    pub credit: u32,
    /// How often PING is sent.
    pub ping: Duration,
    /// Silence after which a node counts as gone.
    pub idle: Duration,
    /// JOIN attempts of one source address within a minute.
    pub joins_per_minute: u32,
    /// First and longest pause between attempts of dialling a node.
    pub pause: (Duration, Duration),
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            max_connections: 1024,
            max_unproven: (256, 32),
            handshake: Duration::from_secs(10),
            credit: 4 * 1024 * 1024,
            ping: Duration::from_secs(15),
            idle: Duration::from_secs(45),
            joins_per_minute: 10,
            pause: (Duration::from_millis(500), Duration::from_secs(5)),
        }
    }
}

/// The controller's side. Clones share everything.
pub struct Server<I>(Arc<Shared<I>>);

impl<I> Clone for Server<I> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

struct Shared<I> {
    config: ServerConfig,
    identity: Arc<ControllerIdentity>,
    ingest: I,
    clock: Arc<dyn Clock>,
    admission: Admission,
    nodes: Nodes,
    stop: CancellationToken,
    tasks: TaskTracker,
}

/// A connection's other end, proven.
#[derive(Clone, Debug)]
struct Proof {
    peer: Peer,
    serial: String,
    /// Its public key, DER.
    public_key: Vec<u8>,
    remote: SocketAddr,
}

impl<I: Ingest> Server<I> {
    /// Nothing runs until [`Self::listen`] or [`Self::dial`].
    pub fn new(config: ServerConfig, identity: Arc<ControllerIdentity>, ingest: I, clock: Arc<dyn Clock>) -> Self {
        let admission = Admission::new(&config);
        let (nodes, stop, tasks) = (Nodes::default(), CancellationToken::new(), TaskTracker::new());
        Self(Arc::new(Shared { config, identity, ingest, clock, admission, nodes, stop, tasks }))
    }

    /// Accepts connections until [`Self::shutdown`].
    pub async fn listen(&self, listener: TcpListener) {
        let shared = &self.0;
        let accepting = async {
            loop {
                match listener.accept().await {
                    Ok((tcp, remote)) => self.accepted(tcp, remote),
                    Err(error) => {
                        tracing::warn!(%error, "accept");
                        sleep(Duration::from_millis(100)).await;
                    }
                }
            }
        };
        tokio::select! {
            () = shared.stop.cancelled() => {}
            () = accepting => {}
        }
    }

    /// Dials `node` at `address` until [`Self::shutdown`] or until the node is revoked; returns at once.
    pub fn dial(&self, node: NodeName, address: String) {
        for channel in [Channel::Main, Channel::Bulk] {
            let (shared, node, address) = (self.0.clone(), node.clone(), address.clone());
            self.0.tasks.spawn(async move {
                let dialling = keep_dialling(&shared, &node, &address, channel);
                tokio::select! {
                    biased;
                    () = dialling => {}
                    () = shared.stopped() => {}
                }
            });
        }
    }

    /// Every node that was ever connected since start.
    pub fn status(&self) -> Vec<NodeStatus> {
        self.0.nodes.status()
    }

    /// Asks `node` for part of a blob; ends, with an error or not, when the node answered or went away.
    pub async fn request_file(&self, node: &NodeName, blob: &BlobName, range: Range) -> Result<FileStream, FileError> {
        self.0.nodes.request_file(node, blob, range).await
    }

    /// Asks `node` for packets of its ring; a node without any refuses.
    pub async fn request_carve(&self, node: &NodeName, query: CarveQuery) -> Result<CarveStream, FileError> {
        self.0.nodes.request_carve(node, query).await
    }

    /// The identity it runs with.
    pub fn identity(&self) -> &Arc<ControllerIdentity> {
        &self.0.identity
    }

    /// Says goodbye to every node and waits until all connections ended.
    pub async fn shutdown(&self) {
        self.0.stop.cancel();
        self.0.tasks.close();
        self.0.tasks.wait().await;
    }

    fn accepted(&self, tcp: TcpStream, remote: SocketAddr) {
        let shared = self.0.clone();
        let Some(mut pass) = shared.admission.enter(remote.ip()) else {
            shared.rejected(remote, "too many connections".into());
            return;
        };
        self.0.tasks.spawn(async move {
            let serving = async {
                if let Err(error) = accept(&shared, tcp, remote, &mut pass).await {
                    shared.rejected(remote, error.to_string());
                }
            };
            tokio::select! {
                biased;
                () = serving => {}
                () = shared.stopped() => {}
            }
        });
    }
}

impl<I: Ingest> Shared<I> {
    /// Once stopping, and the time for goodbyes is over.
    async fn stopped(&self) {
        self.stop.cancelled().await;
        sleep(GOODBYES).await;
    }

    fn rejected(&self, remote: SocketAddr, why: String) {
        tracing::info!(%remote, %why, "rejected a connection");
        self.ingest.notice(Notice::Rejected { remote, why });
    }

    /// Reads HELLO, checks it against the proof, and runs the session. Only errors before the proof are returned.
    async fn session<T: Stream>(self: &Arc<Self>, stream: T, channel: Channel, proof: Proof) -> Result<(), LinkError> {
        let mut wire = Wire::new(stream, MAX_UNPROVEN);
        let hello = match self.hello(&mut wire, &proof).await {
            Ok(hello) => hello,
            Err((why, error)) => {
                wire.goodbye(why, error.to_string(), 60_000).await;
                return Err(error);
            }
        };
        wire.set_max(MAX_FRAME);
        let place = self.nodes.take_place(&proof.peer, channel);
        // The older connection ends before the newer one asks where the log ends.
        let Ok(turn) = timeout(self.config.handshake, place.turn.lock()).await else {
            wire.goodbye(GoAwayWhy::Busy, "the older connection of this node has not ended yet".into(), 5_000).await;
            return Ok(());
        };
        let ended: Result<Infallible, LinkError> = {
            let running = async {
                match channel {
                    Channel::Main => main::run(self, &proof, hello, &mut wire, &place.cancel).await,
                    _ => bulk::run(self, &proof, hello, &mut wire).await,
                }
            };
            tokio::select! {
                biased;
                () = self.stop.cancelled() => Err(LinkError::Stopping),
                () = place.cancel.cancelled() => Err(LinkError::Replaced),
                () = self.shut_out(&proof) => Err(LinkError::Revoked),
                ended = running => ended,
            }
        };
        // Whatever of this connection is still queued must not be stored any more.
        place.cancel.cancel();
        let Err(error) = ended;
        if channel == Channel::Main {
            self.nodes.disconnected(&proof.peer.node, &error.to_string());
            self.ingest.notice(Notice::Disconnected { node: proof.peer.node.clone(), why: error.to_string() });
        }
        tracing::info!(node = %proof.peer.node, ?channel, %error, "connection ended");
        drop(turn);
        let (why, retry) = match &error {
            LinkError::Stopping => (GoAwayWhy::Stopping, 1_000),
            LinkError::Replaced => (GoAwayWhy::Replaced, 5_000),
            // Its own pauses grow; enrolled anew it should not wait.
            LinkError::Revoked => (GoAwayWhy::Revoked, 0),
            LinkError::Away { why, retry, .. } => (*why, retry.as_millis() as u64),
            LinkError::Diverged(_) => (GoAwayWhy::Diverged, 60_000),
            LinkError::Violation(_) | LinkError::Frame(_) => (GoAwayWhy::Protocol, 5_000),
            _ => return Ok(()),
        };
        if matches!(error, LinkError::Violation(_) | LinkError::Diverged(_) | LinkError::Frame(_)) && !is_io(&error) {
            self.ingest.notice(Notice::Violation { node: proof.peer.node.clone(), what: error.to_string() });
        }
        if !is_io(&error) {
            wire.goodbye(why, error.to_string(), retry).await;
        }
        Ok(())
    }

    async fn hello<T: Stream>(&self, wire: &mut Wire<T>, proof: &Proof) -> Result<Hello, (GoAwayWhy, LinkError)> {
        let protocol = |error| (GoAwayWhy::Protocol, error);
        let hello = match wire.message(self.config.handshake).await.map_err(protocol)? {
            Message::Hello(hello) => hello,
            _ => return Err(protocol(LinkError::Violation("the first frame was not HELLO".into()))),
        };
        let peer = &proof.peer;
        if hello.node != peer.node {
            let text = format!("HELLO of node {} with the certificate of node {}", hello.node, peer.node);
            return Err((GoAwayWhy::Identity, LinkError::Violation(text)));
        }
        if hello.role != peer.role {
            let text = format!("node {} is enrolled as {}, this is a {} daemon", peer.node, peer.role, hello.role);
            return Err((GoAwayWhy::Identity, LinkError::Violation(text)));
        }
        if hello.oldest > VERSION_MAX || hello.newest < VERSION_MIN {
            let text =
                format!("node speaks link versions {} to {}, this controller {VERSION_MIN} to {VERSION_MAX}", hello.oldest, hello.newest);
            return Err((GoAwayWhy::Version, LinkError::Violation(text)));
        }
        if hello.first == 0 || hello.next < hello.first {
            return Err(protocol(LinkError::Violation("HELLO with impossible record numbers".into())));
        }
        Ok(hello)
    }

    /// Returns once the node is shut out.
    async fn shut_out(&self, proof: &Proof) {
        let mut denied = self.identity.denied();
        // The identity lives as long as we do, so the channel stays open.
        let _ = denied.wait_for(|denied| denied.denies(&proof.peer.node, &proof.serial)).await;
    }
}

/// From TCP to a session or a JOIN.
async fn accept<I: Ingest>(
    shared: &Arc<Shared<I>>,
    tcp: TcpStream,
    remote: SocketAddr,
    pass: &mut admission::Pass,
) -> Result<(), LinkError> {
    let deadline = Instant::now() + shared.config.handshake;
    let silent = |_| LinkError::Silent(shared.config.handshake);
    let _ = tcp.set_nodelay(true);
    let acceptor = LazyConfigAcceptor::new(rustls::server::Acceptor::default(), tcp);
    tokio::pin!(acceptor);
    let start = match tokio::time::timeout_at(deadline, acceptor.as_mut()).await.map_err(silent)? {
        Ok(start) => start,
        Err(error) => {
            if let Some(tcp) = acceptor.take_io() {
                linger(tcp).await;
            }
            return Err(LinkError::Tls(error));
        }
    };
    let join = start.client_hello().alpn().is_some_and(|mut names| names.any(|name| name == Channel::Join.alpn()));
    let config = if join {
        tls::controller_accepts_join(&shared.identity, &shared.clock)?
    } else {
        tls::controller_accepts(&shared.identity, &shared.clock)?
    };
    let handshake = start.into_stream(config).into_fallible();
    let stream = match tokio::time::timeout_at(deadline, handshake).await.map_err(silent)? {
        Ok(stream) => stream,
        Err((error, tcp)) => {
            linger(tcp).await;
            return Err(LinkError::Tls(error));
        }
    };
    let channel = stream.get_ref().1.alpn_protocol().and_then(Channel::from_alpn);
    match channel {
        Some(Channel::Join) => enrol::join(shared, stream, remote).await,
        Some(channel) => {
            let proof = prove(shared, stream.get_ref().1.peer_certificates(), remote)?;
            pass.proven();
            shared.session(stream, channel, proof).await
        }
        None => Err(LinkError::Violation("no channel was named".into())),
    }
}

/// Who the verified certificate is of.
fn prove<I: Ingest>(
    shared: &Shared<I>,
    certificates: Option<&[rustls_pki_types::CertificateDer<'_>]>,
    remote: SocketAddr,
) -> Result<Proof, LinkError> {
    let facts = tls::proven(certificates).ok_or_else(|| LinkError::Violation("no certificate".into()))?;
    let node = facts.node().ok_or_else(|| LinkError::Violation("the certificate names no node".into()))?;
    let peer = shared.identity.admit(&node, &facts.serial)?;
    Ok(Proof { peer, serial: facts.serial, public_key: facts.public_key, remote })
}

async fn keep_dialling<I: Ingest>(shared: &Arc<Shared<I>>, node: &NodeName, address: &str, channel: Channel) {
    let mut attempt = 0u32;
    loop {
        let begun = Instant::now();
        let error = match dial_once(shared, node, address, channel).await {
            Ok(()) => LinkError::Closed,
            Err(error) => error,
        };
        if matches!(error, LinkError::Identity(IdentityError::Revoked(_))) {
            shared.nodes.failed(node, &error.to_string());
            return;
        }
        if channel == Channel::Main {
            shared.nodes.failed(node, &error.to_string());
        }
        // One that lasted longer than the longest pause and broke may be tried again soon without harm.
        let healthy = begun.elapsed() > shared.config.pause.1;
        attempt = if healthy { 0 } else { attempt.saturating_add(1) };
        tokio::select! {
            () = shared.stop.cancelled() => return,
            () = sleep(pause(shared.config.pause, attempt)) => {}
        }
    }
}

async fn dial_once<I: Ingest>(shared: &Arc<Shared<I>>, node: &NodeName, address: &str, channel: Channel) -> Result<(), LinkError> {
    if shared.identity.denied().borrow().nodes.contains(node) {
        return Err(IdentityError::Revoked(node.clone()).into());
    }
    let tls = tls::controller_dials(&shared.identity, node, channel, &shared.clock)?;
    let stream = connect(address, tls, shared.config.handshake).await?;
    let (tcp, session) = stream.get_ref();
    let remote = tcp.peer_addr().map_err(|source| LinkError::Unreachable { address: address.into(), source })?;
    let proof = prove(shared, session.peer_certificates(), remote)?;
    shared.session(stream, channel, proof).await
}

fn is_io(error: &LinkError) -> bool {
    matches!(error, LinkError::Frame(crate::frame::FrameError::Io(_)))
}
