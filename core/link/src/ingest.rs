//! What the link needs of the controller's store.

use crate::name::{NodeName, Role};
use glasshive_event::LogId;
use std::future::Future;
use std::net::SocketAddr;

/// A proven node: the name is its certificate's, net and role are the controller's registry's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Name in the certificate.
    pub node: NodeName,
    /// Net it was enrolled for.
    pub net: String,
    /// Daemon it was enrolled as.
    pub role: Role,
}

/// Where the controller's copy of a log ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HighWater {
    /// Highest durable sequence number; 0 when there is none.
    pub seq: u64,
    /// Head of the hash chain there.
    pub chain: [u8; 32],
}

/// Whole blocks of one log, as they came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// The log.
    pub log: LogId,
    /// Sequence number of the first record.
    pub first: u64,
    /// How many records the node says are inside.
    pub count: u64,
    /// Head of the hash chain before the first record, as the node says.
    pub chain_before: [u8; 32],
    /// Block bytes: (u32 BE length ‖ record)*.
    pub bytes: Vec<u8>,
    /// Controller's wall time of arrival, nanoseconds.
    pub received_ns: i64,
}

/// Records a node does not have any more and never sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The log.
    pub log: LogId,
    /// First missing record.
    pub from: u64,
    /// Last missing record.
    pub to: u64,
    /// The node's reason.
    pub why: String,
}

/// Why the store did not take a batch.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The next record must be this one.
    #[error("expected record {0} next")]
    Expected(u64),
    /// A record already held differs from the one sent.
    #[error("record {seq} differs from the one already held")]
    Tamper {
        /// The record.
        seq: u64,
    },
    /// The hash chain does not continue.
    #[error("the hash chain breaks at record {seq}")]
    Chain {
        /// First record that does not fit.
        seq: u64,
    },
    /// Not well-formed blocks of records of this log, or a log of another node.
    #[error("batch refused: {0}")]
    Damaged(String),
    /// No room: try later.
    #[error("the controller's store is full")]
    Full,
    /// The controller is stopping.
    #[error("the controller's store is closed")]
    Closed,
}

/// Something that happened on the link, for logs, events and counters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// A node proved its identity and sends.
    Connected {
        /// Who.
        node: NodeName,
        /// From where.
        remote: SocketAddr,
        /// Its build.
        version: String,
    },
    /// Its main connection ended.
    Disconnected {
        /// Who.
        node: NodeName,
        /// Why, in one line.
        why: String,
    },
    /// A node joined with a token, or renewed.
    Enrolled {
        /// Who.
        node: NodeName,
        /// True for a renewal.
        renewed: bool,
    },
    /// Someone who could not prove a node's identity: junk, silence, a wrong certificate, a wrong token.
    Rejected {
        /// From where.
        remote: SocketAddr,
        /// Why, in one line.
        why: String,
    },
    /// A proven node broke the protocol or its log's integrity.
    Violation {
        /// Who.
        node: NodeName,
        /// What, in one line.
        what: String,
    },
}

/// The controller's store as the link sees it. Calls of one node come one after the other.
pub trait Ingest: Send + Sync + 'static {
    /// Where this node's log ends here.
    fn high_water(&self, peer: &Peer, log: LogId) -> impl Future<Output = HighWater> + Send;

    /// Stores a batch; returns the highest sequence number that is durable.
    fn batch(&self, peer: &Peer, batch: Batch) -> impl Future<Output = Result<u64, Refusal>> + Send;

    /// Accepts that records are missing; returns the sequence number the log continues after.
    fn gap(&self, peer: &Peer, gap: Gap) -> impl Future<Output = Result<u64, Refusal>> + Send;

    /// Keeps a signed checkpoint note of the node's log.
    fn checkpoint(&self, peer: &Peer, log: LogId, note: Vec<u8>) -> impl Future<Output = ()> + Send;

    /// Something happened; must return at once.
    fn notice(&self, notice: Notice);
}
