//! What the link needs of a node's journal. The link holds no queue: it reads from here whatever
//! the controller does not yet hold.

use crate::carve::{CarveParts, CarveQuery};
use crate::frame::RefusedWhy;
use bytes::Bytes;
use glasshive_event::LogId;
use std::future::Future;
use std::sync::Arc;

/// Consecutive durable records: `bytes` is (u32 BE length ‖ record)*, never interpreted here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// Sequence number of the first record.
    pub first: u64,
    /// Sequence number of the last record.
    pub last: u64,
    /// Head of the hash chain before the first record.
    pub chain_before: [u8; 32],
    /// The records.
    pub bytes: Vec<u8>,
}

/// What a journal holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SourceState {
    /// The journal's life.
    pub log: LogId,
    /// Oldest record still kept (equal to `next` when none is).
    pub first: u64,
    /// One more than the last durable record.
    pub next: u64,
    /// Head of the hash chain at the last durable record.
    pub chain: [u8; 32],
}

/// Part of a blob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlobPart {
    /// Size of the whole blob as stored.
    pub total: u64,
    /// Bytes from the asked offset, at most as many as asked; empty at or beyond the end.
    pub bytes: Bytes,
}

/// The journal is closed: the daemon is stopping.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the journal is closed")]
pub struct SourceClosed;

/// A node's journal as the link sees it. All methods may be cancelled.
pub trait BlockSource: Send + Sync + 'static {
    /// What is there now.
    fn state(&self) -> impl Future<Output = Result<SourceState, SourceClosed>> + Send;

    /// Returns once a record later than `after` is durable.
    fn changed(&self, after: u64) -> impl Future<Output = Result<(), SourceClosed>> + Send;

    /// Durable whole blocks holding `from` and on: at least one if there is any, and as many more as fit `max_bytes`.
    /// A first block that begins after `from` says that everything between was dropped.
    fn read(&self, from: u64, max_bytes: usize) -> impl Future<Output = Result<Vec<Block>, SourceClosed>> + Send;

    /// The controller holds everything up to `seq` durably; retention may delete it here.
    fn acknowledged(&self, seq: u64) -> impl Future<Output = Result<(), SourceClosed>> + Send;

    /// Part of the blob `name`, or `None` if it is not kept. `name` is 64 hexadecimal digits.
    fn blob(&self, name: &str, offset: u64, len: u32) -> impl Future<Output = Result<Option<BlobPart>, SourceClosed>> + Send;

    /// Begins a carve; a node without packets refuses it.
    fn carve(&self, query: CarveQuery) -> impl Future<Output = Result<Result<CarveParts, RefusedWhy>, SourceClosed>> + Send {
        let _ = query;
        std::future::ready(Ok(Err(RefusedWhy::NotSupported)))
    }
}

impl<S: BlockSource> BlockSource for Arc<S> {
    fn state(&self) -> impl Future<Output = Result<SourceState, SourceClosed>> + Send {
        S::state(self)
    }
    fn changed(&self, after: u64) -> impl Future<Output = Result<(), SourceClosed>> + Send {
        S::changed(self, after)
    }
    fn read(&self, from: u64, max_bytes: usize) -> impl Future<Output = Result<Vec<Block>, SourceClosed>> + Send {
        S::read(self, from, max_bytes)
    }
    fn acknowledged(&self, seq: u64) -> impl Future<Output = Result<(), SourceClosed>> + Send {
        S::acknowledged(self, seq)
    }
    fn blob(&self, name: &str, offset: u64, len: u32) -> impl Future<Output = Result<Option<BlobPart>, SourceClosed>> + Send {
        S::blob(self, name, offset, len)
    }
    fn carve(&self, query: CarveQuery) -> impl Future<Output = Result<Result<CarveParts, RefusedWhy>, SourceClosed>> + Send {
        S::carve(self, query)
    }
}
