//! Where records go: the journal, or memory in tests. Carries the clock and the sealer, so that
//! neither a service nor a session has its own. It must never interpret what it records.

use glasshive_event::Body;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

/// A boxed future, as services and sinks return.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// How urgently a record wants its place in the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// Waits for room.
    Wait,
    /// Uses the reserved room of `session.close`.
    Reserved,
    /// Must not wait: first datagrams. A full queue refuses.
    Now,
}

/// A record on its way to the journal.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Wall time, nanoseconds UTC.
    pub wall_ns: i64,
    /// Monotonic time, nanoseconds.
    pub mono_ns: u64,
    /// Envelope and detail.
    pub body: Body,
}

/// Accepts records. `false`: not accepted (full for [`Room::Now`], or the journal is closed).
pub trait EventSink: Send + Sync {
    /// Hands one record over.
    fn append(&self, entry: Entry, room: Room) -> BoxFuture<'_, bool>;
}

/// Seals secrets to the controller and makes pivots of them.
pub trait Seal: Send + Sync {
    /// Seals `secret`; the text is what the record carries.
    fn seal(&self, secret: &[u8]) -> String;
    /// Keyed HMAC: equal secrets give equal text.
    fn pivot(&self, secret: &[u8]) -> String;
}

/// Keeps file content too large for a record, sealed and named by the SHA-256 of the content.
pub trait FileStore: Send + Sync {
    /// Opens a file being received; bounded by the store's own caps.
    fn create(&self) -> std::io::Result<Box<dyn FileSink>>;
}

/// One file being received. Called from blocking context only.
pub trait FileSink: Send {
    /// Appends content.
    fn write(&mut self, data: &[u8]) -> std::io::Result<()>;
    /// Makes it durable under its name; returns the blob's name.
    fn finish(self: Box<Self>, sha256: &str) -> std::io::Result<String>;
}

/// The clock records and services are given.
pub trait Clock: Send + Sync {
    /// Wall time, nanoseconds UTC.
    fn wall_ns(&self) -> i64;
    /// Monotonic time, nanoseconds.
    fn mono_ns(&self) -> u64;
}

/// Everything a session needs to record.
#[derive(Clone)]
pub struct Recorder {
    /// Where records go.
    pub sink: Arc<dyn EventSink>,
    /// Clock of wall and monotonic time.
    pub clock: Arc<dyn Clock>,
    /// Seals secrets.
    pub seal: Arc<dyn Seal>,
    /// Keeps large files.
    pub files: Arc<dyn FileStore>,
    /// SHA-256 of the configuration, hexadecimal.
    pub config_hash: Arc<str>,
    /// SHA-256 of the binary, hexadecimal.
    pub binary_hash: Arc<str>,
    /// Name of the net, part of the join key.
    pub net: Arc<str>,
}
