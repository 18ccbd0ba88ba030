//! The link between a node and the controller: frames over TLS 1.3 with both sides certified,
//! the identities they prove, and the sealing of what only the controller may read.
//!
//! A daemon uses it through [`host`]. Data flow: [`source::BlockSource`] (a node's journal, or [`pipe::RemoteSource`] in a child
//! process) → [`client`] → TLS → [`server`] → [`ingest::Ingest`] (the controller's store).
//! A record is deleted on the node only after the controller said that it is durable there.
//!
//! This crate must never interpret a record, keep a queue of its own on the node, trust a name a
//! peer merely claims (names come from certificates, net and role from the controller's registry),
//! or write a secret to a log.
#![forbid(unsafe_code)]

pub mod carve;
pub mod client;
pub mod clock;
mod common;
mod error;
pub mod frame;
pub mod host;
pub mod identity;
pub mod ingest;
pub mod name;
pub mod pipe;
pub mod seal;
pub mod server;
pub mod source;
pub mod status;
pub mod tls;
mod wire;

pub use carve::{CarveError, CarveOut, CarveQuery, CarveSource, CarveStatement, Carver};
pub use clock::{Clock, SystemClock};
pub use error::LinkError;
pub use ingest::{Batch, Gap, HighWater, Ingest, Notice, Peer, Refusal};
pub use name::{BlobName, NodeName, Role};
pub use source::{BlobPart, Block, BlockSource, SourceClosed, SourceState};
pub use status::{LinkPhase, LinkStatus, Problem};

#[cfg(test)]
mod tests;
