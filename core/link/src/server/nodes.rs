//! The controller's table of nodes: who holds which connection, and a snapshot for `nodes` and `doctor`.

use super::bulk::{CarveStream, Command, FileError, FileStream, Range};
use crate::carve::CarveQuery;
use crate::ingest::Peer;
use crate::name::{BlobName, NodeName, Role};
use crate::tls::Channel;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{Mutex as AsyncMutex, mpsc};
use tokio_util::sync::CancellationToken;

/// A node as the link sees it. Times are the controller's, nanoseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeStatus {
    /// The node.
    pub node: NodeName,
    /// Its net and daemon, once it was connected.
    pub enrolled: Option<(String, Role)>,
    /// Since when it is connected; `None` when it is not.
    pub connected_since_ns: Option<i64>,
    /// When the last frame came.
    pub last_frame_ns: Option<i64>,
    /// Where it is connected from.
    pub remote: Option<SocketAddr>,
    /// Its build.
    pub version: Option<String>,
    /// Highest record durable here.
    pub durable: u64,
    /// One more than the last record durable there, as it said last.
    pub next: u64,
    /// Its clock minus ours, nanoseconds.
    pub offset_ns: Option<i64>,
    /// Whether its bulk connection stands.
    pub bulk: bool,
    /// Why it is not connected.
    pub last_error: Option<String>,
    /// How often it has connected since this controller started.
    pub connections: u64,
    /// How often something of it was not taken since: records out of order, twice and different, or of no use.
    pub refusals: u64,
}

impl NodeStatus {
    /// Records durable there and not here.
    pub fn lag(&self) -> u64 {
        self.next.saturating_sub(1).saturating_sub(self.durable)
    }

    fn new(node: NodeName) -> Self {
        Self {
            node,
            enrolled: None,
            connected_since_ns: None,
            last_frame_ns: None,
            remote: None,
            version: None,
            durable: 0,
            next: 0,
            offset_ns: None,
            bulk: false,
            last_error: None,
            connections: 0,
            refusals: 0,
        }
    }
}

struct Node {
    status: NodeStatus,
    main: Seat,
    bulk: Seat,
    commands: Option<mpsc::Sender<Command>>,
}

#[derive(Default)]
struct Seat {
    holder: CancellationToken,
    turn: Arc<AsyncMutex<()>>,
}

/// A connection's claim to its channel.
pub(super) struct Place {
    /// Cancelled when a newer connection takes over.
    pub(super) cancel: CancellationToken,
    /// Held while running.
    pub(super) turn: Arc<AsyncMutex<()>>,
}

#[derive(Default)]
pub(super) struct Nodes(Mutex<BTreeMap<NodeName, Node>>);

impl Nodes {
    /// The newest proven connection gets the channel; the older one is told to end.
    pub(super) fn take_place(&self, peer: &Peer, channel: Channel) -> Place {
        self.edit(&peer.node, |node| {
            node.status.enrolled = Some((peer.net.clone(), peer.role));
            let seat = if channel == Channel::Main { &mut node.main } else { &mut node.bulk };
            seat.holder.cancel();
            seat.holder = CancellationToken::new();
            Place { cancel: seat.holder.clone(), turn: seat.turn.clone() }
        })
    }

    pub(super) fn update(&self, node: &NodeName, edit: impl FnOnce(&mut NodeStatus)) {
        self.edit(node, |node| edit(&mut node.status));
    }

    pub(super) fn disconnected(&self, node: &NodeName, why: &str) {
        self.update(node, |status| {
            status.connected_since_ns = None;
            status.last_error = Some(why.to_owned());
        });
    }

    /// A node that could not be dialled; one that is connected keeps its state.
    pub(super) fn failed(&self, node: &NodeName, why: &str) {
        self.update(node, |status| {
            if status.connected_since_ns.is_none() {
                status.last_error = Some(why.to_owned());
            }
        });
    }

    pub(super) fn bulk(&self, node: &NodeName, commands: Option<mpsc::Sender<Command>>) {
        self.edit(node, |node| {
            node.status.bulk = commands.is_some();
            node.commands = commands;
        });
    }

    pub(super) fn status(&self) -> Vec<NodeStatus> {
        self.lock().values().map(|node| node.status.clone()).collect()
    }

    pub(super) async fn request_file(&self, node: &NodeName, blob: &BlobName, range: Range) -> Result<FileStream, FileError> {
        FileStream::request(self.commands(node)?, node.clone(), blob.clone(), range).await
    }

    pub(super) async fn request_carve(&self, node: &NodeName, query: CarveQuery) -> Result<CarveStream, FileError> {
        CarveStream::request(self.commands(node)?, node.clone(), query).await
    }

    fn commands(&self, node: &NodeName) -> Result<mpsc::Sender<Command>, FileError> {
        let commands = self.lock().get(node).and_then(|node| node.commands.clone());
        commands.ok_or_else(|| FileError::NotConnected(node.clone()))
    }

    fn edit<R>(&self, name: &NodeName, edit: impl FnOnce(&mut Node) -> R) -> R {
        let mut nodes = self.lock();
        let node = nodes.entry(name.clone()).or_insert_with(|| Node {
            status: NodeStatus::new(name.clone()),
            main: Seat::default(),
            bulk: Seat::default(),
            commands: None,
        });
        edit(node)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<NodeName, Node>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
