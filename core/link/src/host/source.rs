//! The journal, the captured files and the packets of a daemon as the link reads them.

use crate::carve::{CarveParts, CarveQuery, Carver};
use crate::frame::RefusedWhy;
use crate::source::{BlobPart, Block, BlockSource, SourceClosed, SourceState};
use bytes::Bytes;
use glasshive_journal::JournalHandle;
use glasshive_journal::blobs::{Blobs, parse_name};
use std::sync::Arc;

/// The journal as the link reads it.
#[derive(Clone)]
pub struct JournalSource {
    journal: JournalHandle,
    files: Option<Arc<Blobs>>,
    carver: Option<Carver>,
}

impl JournalSource {
    /// A source over the journal and, where the daemon captures files, those.
    pub fn new(journal: JournalHandle, files: Option<Arc<Blobs>>) -> Self {
        Self { journal, files, carver: None }
    }

    /// The same, carving packets too.
    #[must_use]
    pub fn with_carver(self, carver: Carver) -> Self {
        Self { carver: Some(carver), ..self }
    }
}

impl BlockSource for JournalSource {
    async fn state(&self) -> Result<SourceState, SourceClosed> {
        let durable = *self.journal.durable().borrow();
        let next = durable.seq.saturating_add(1);
        Ok(SourceState { log: self.journal.log_id(), first: self.journal.first().min(next), next, chain: durable.chain })
    }

    async fn changed(&self, after: u64) -> Result<(), SourceClosed> {
        self.journal.durable().wait_for(|durable| durable.seq > after).await.map(|_| ()).map_err(|_| SourceClosed)
    }

    async fn read(&self, from: u64, max_bytes: usize) -> Result<Vec<Block>, SourceClosed> {
        let blocks = self.journal.read(from, max_bytes).await.map_err(|_| SourceClosed)?;
        Ok(blocks.into_iter().map(|b| Block { first: b.first, last: b.last, chain_before: b.chain_before, bytes: b.bytes }).collect())
    }

    async fn acknowledged(&self, seq: u64) -> Result<(), SourceClosed> {
        self.journal.acknowledged(seq).await.map_err(|_| SourceClosed)
    }

    async fn blob(&self, name: &str, offset: u64, len: u32) -> Result<Option<BlobPart>, SourceClosed> {
        let (Some(name), Some(files)) = (parse_name(name), self.files.as_ref().map(Arc::clone)) else { return Ok(None) };
        let part = tokio::task::spawn_blocking(move || {
            let total = files.size(&name).ok().flatten()?;
            let bytes = files.read(&name, offset, len as usize).ok().flatten()?;
            Some(BlobPart { total, bytes: Bytes::from(bytes) })
        });
        Ok(part.await.unwrap_or(None))
    }

    async fn carve(&self, query: CarveQuery) -> Result<Result<CarveParts, RefusedWhy>, SourceClosed> {
        Ok(self.carver.as_ref().map_or(Err(RefusedWhy::NotSupported), |carver| carver.start(query)))
    }
}
