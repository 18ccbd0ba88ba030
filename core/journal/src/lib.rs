//! Everything that is stored: a node's durable journal, its captured files, and the controller's
//! log and summary. The only crate that names sled.
//!
//! Nothing here opens a socket, and nothing here is asynchronous inside: one OS thread owns each
//! database, callers talk to it through bounded queues. A record counts as durable only after
//! sled's flush *and* an `fdatasync` of its file; sled's flush alone loses everything at a power
//! cut (measured).

pub mod blobs;
pub mod block;
pub mod build;
pub mod disk;
pub mod journal;
pub mod schema;
pub mod segment;
pub mod store;

pub use journal::{
    Block, Closed, Durable, Gauges, Journal, JournalConfig, JournalError, JournalHandle, Lost, OnFull, OpenReport, OpenSession, Pending,
    Pressure, TryAppendError, admissible, boot_id, open,
};
