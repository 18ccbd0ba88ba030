//! The node's side of the link: [`run`] when the node dials, [`serve_dialled`] when the controller
//! does, [`join`] to become a node.
//!
//! It holds no queue: what is not acknowledged is read again from the journal. It must never accept
//! anything from the network before the other side proved to be the controller.

mod bulk;
mod dialled;
mod sender;

pub use dialled::serve_dialled;

use crate::clock::Clock;
use crate::common::{blocking, connect, pause};
use crate::error::LinkError;
use crate::frame::{Hello, Join, MAX_FRAME, MAX_UNPROVEN, Message, VERSION_MAX, VERSION_MIN};
use crate::identity::{IdentityDir, IdentityError, NodeIdentity, Token};
use crate::source::BlockSource;
use crate::status::{LinkPhase, LinkStatus, Problem};
use crate::tls::{self, Channel};
use crate::wire::{Stream, Wire};
use bytes::Bytes;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

/// How a node's link behaves; the defaults are the product's.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// Where the identity is kept; read again at each attempt, so that installing one takes effect without a restart.
    pub identity: IdentityDir,
    /// Addresses of the controller (`host:port`), tried in turn; empty = those of the bundle.
    pub controllers: Vec<String>,
    /// Product version, told to the controller.
    pub product: String,
    /// Deadline of connecting, and of the handshake.
    pub handshake: Duration,
    /// First and longest pause between attempts; the actual one is drawn from below (full jitter).
    pub pause: (Duration, Duration),
    /// How often PING is sent.
    pub ping: Duration,
    /// Silence after which the controller counts as gone.
    pub idle: Duration,
}

impl ClientConfig {
    /// The product's values.
    pub fn new(identity: IdentityDir, controllers: Vec<String>) -> Self {
        Self {
            identity,
            controllers,
            product: glasshive_journal::build::version().into(),
            handshake: Duration::from_secs(10),
            // The controller is one, and somebody who has mended it looks at the screen.
            pause: (Duration::from_millis(500), Duration::from_secs(5)),
            ping: Duration::from_secs(15),
            idle: Duration::from_secs(45),
        }
    }
}

/// Dials the controller until `shutdown`, sending whatever `source` holds and the controller does not.
pub async fn run<S: BlockSource>(
    config: ClientConfig,
    source: S,
    clock: Arc<dyn Clock>,
    status: watch::Sender<LinkStatus>,
    shutdown: CancellationToken,
) {
    let node = Arc::new(Node { config, source, clock, status });
    tokio::join!(dial(&node, Channel::Main, &shutdown), dial(&node, Channel::Bulk, &shutdown));
    node.status.send_modify(|status| status.phase = LinkPhase::Stopped);
}

/// Becomes a node: makes a key, asks the controller at `address` for a certificate with a one-time token, installs it.
/// Asking again after a broken connection is safe: the same key may use the token again.
pub async fn join(address: &str, token: &Token, dir: &IdentityDir, clock: Arc<dyn Clock>) -> Result<NodeIdentity, LinkError> {
    let deadline = Duration::from_secs(20);
    let (keep, node) = (dir.clone(), token.node.clone());
    let csr = blocking(move || keep.request(&node)).await?;
    let tls = tls::join_dials(token.pin, &clock)?;
    let stream = connect(address, tls, deadline).await?;
    let mut wire = Wire::new(stream, MAX_UNPROVEN);
    wire.send(&Message::Join(Join { secret: token.secret, node: token.node.clone(), csr })).await?;
    let bundle = match wire.message(deadline).await? {
        Message::Joined(bundle) => bundle,
        _ => return Err(LinkError::Violation("the controller answered JOIN with something else".into())),
    };
    let keep = dir.clone();
    blocking(move || keep.install(&bundle)).await
}

/// What all connections of a node share.
struct Node<S> {
    config: ClientConfig,
    source: S,
    clock: Arc<dyn Clock>,
    status: watch::Sender<LinkStatus>,
}

impl<S: BlockSource> Node<S> {
    /// The identity, checked against our own clock.
    async fn identity(&self) -> Result<NodeIdentity, LinkError> {
        let dir = self.config.identity.clone();
        let identity = blocking(move || dir.load()).await?;
        let now = self.clock.wall_ns();
        let days = identity.days_left(now);
        self.status.send_modify(|status| {
            status.node = Some(identity.node.to_string());
            status.certificate_days = Some(days);
            status.serial = Some(identity.certificate.serial.clone());
        });
        if now > identity.certificate.not_after_ns {
            return Err(LinkError::Expired(-days));
        }
        if now < identity.certificate.not_before_ns {
            return Err(LinkError::NotYet(glasshive_event::Timestamp(identity.certificate.not_before_ns)));
        }
        Ok(identity)
    }

    /// Runs a proven connection until it ends.
    async fn session<T: Stream>(
        &self,
        identity: &NodeIdentity,
        channel: Channel,
        remote: &str,
        wire: &mut Wire<T>,
    ) -> Result<Infallible, LinkError> {
        wire.set_max(MAX_FRAME);
        match channel {
            Channel::Main => sender::run(self, identity, remote, wire).await,
            Channel::Bulk => bulk::run(self, identity, wire).await,
            Channel::Join => Err(LinkError::Violation("JOIN does not belong here".into())),
        }
    }

    /// HELLO and the answer.
    async fn hello<T: Stream>(&self, identity: &NodeIdentity, wire: &mut Wire<T>) -> Result<(Hello, crate::frame::Welcome), LinkError> {
        let state = self.source.state().await?;
        let hello = Hello {
            oldest: VERSION_MIN,
            newest: VERSION_MAX,
            node: identity.node.clone(),
            role: identity.role,
            product: self.config.product.clone(),
            log: state.log,
            first: state.first,
            next: state.next,
            chain_head: state.chain,
        };
        wire.send(&Message::Hello(hello.clone())).await?;
        match wire.message(self.config.handshake).await? {
            Message::Welcome(welcome) if (VERSION_MIN..=VERSION_MAX).contains(&welcome.version) => Ok((hello, welcome)),
            _ => Err(LinkError::Violation("the controller answered HELLO with something else".into())),
        }
    }

    fn failed(&self, error: &LinkError) {
        let (problem, text) = (error.problem(), error.to_string());
        self.status.send_modify(|status| {
            let alone = matches!(error, LinkError::Identity(IdentityError::Missing { .. }));
            status.phase = if alone { LinkPhase::Standalone } else { LinkPhase::Waiting };
            status.in_flight = 0;
            if status.last_error.as_deref() != Some(&text) {
                tracing::warn!(error = %text, "link");
            }
            status.problem = Some(problem);
            status.last_error = Some(text);
        });
    }
}

/// Keeps one channel connected.
async fn dial<S: BlockSource>(node: &Node<S>, channel: Channel, shutdown: &CancellationToken) {
    let mut attempt = 0u32;
    loop {
        let attempts = async {
            if channel == Channel::Bulk {
                connected(&node.status).await;
            }
            let begun = Instant::now();
            let error = match once(node, channel, attempt).await {
                Ok(never) => match never {},
                Err(error) => error,
            };
            // A connection that lasted and broke is tried again soon; one that is refused again and again is not.
            let healthy = begun.elapsed() > node.config.pause.1;
            if channel == Channel::Main {
                node.failed(&error);
            }
            let pause = pause(node.config.pause, if healthy { 0 } else { attempt }).max(error.retry());
            attempt = if healthy { 0 } else { attempt.saturating_add(1) };
            sleep(pause).await;
        };
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = attempts => {}
        }
    }
}

async fn once<S: BlockSource>(node: &Node<S>, channel: Channel, attempt: u32) -> Result<Infallible, LinkError> {
    let identity = node.identity().await?;
    let addresses = if node.config.controllers.is_empty() { &identity.controllers } else { &node.config.controllers };
    let Some(address) = addresses.get((attempt as usize).checked_rem(addresses.len()).unwrap_or(0)) else {
        return Err(IdentityError::Bundle("no controller address: set controllers in the daemon's configuration".into()).into());
    };
    if channel == Channel::Main {
        node.status.send_modify(|status| {
            status.phase = LinkPhase::Waiting;
            status.controller = Some(address.clone());
        });
    }
    let tls = tls::node_dials(&identity, channel, &node.clock)?;
    let stream = connect(address, tls, node.config.handshake).await?;
    node.session(&identity, channel, address, &mut Wire::new(stream, MAX_UNPROVEN)).await
}

/// Waits until the main connection stands.
async fn connected(status: &watch::Sender<LinkStatus>) {
    let mut changes = status.subscribe();
    // The sender is borrowed here, so the channel cannot be closed.
    let _ = changes.wait_for(|status| status.phase == LinkPhase::Connected).await;
}

/// Asks for a new certificate when two thirds of the life of the present one are over.
async fn renewal_request<S: BlockSource>(node: &Node<S>, identity: &NodeIdentity) -> Result<Option<Message>, LinkError> {
    if !identity.renewal_due(node.clock.wall_ns()) {
        return Ok(None);
    }
    let (dir, name) = (node.config.identity.clone(), identity.node.clone());
    let csr = blocking(move || dir.request(&name)).await?;
    Ok(Some(Message::Renew(Bytes::from(csr))))
}

/// Installs what came as RENEWED.
async fn renewed<S: BlockSource>(node: &Node<S>, bundle: Bytes) -> Result<NodeIdentity, LinkError> {
    let dir = node.config.identity.clone();
    let identity = blocking(move || dir.install(&bundle)).await?;
    let days = identity.days_left(node.clock.wall_ns());
    node.status.send_modify(|status| {
        status.certificate_days = Some(days);
        status.serial = Some(identity.certificate.serial.clone());
    });
    tracing::info!(days, "certificate renewed");
    Ok(identity)
}

fn connected_now(status: &mut LinkStatus, remote: &str) {
    status.phase = LinkPhase::Connected;
    status.controller = Some(remote.to_owned());
    status.connections = status.connections.saturating_add(1);
    status.problem = None::<Problem>;
    status.last_error = None;
}
