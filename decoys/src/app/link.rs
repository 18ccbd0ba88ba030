//! The link in a process of its own: the only one of this daemon that may connect. The journal's
//! blocks go to it over a socketpair; it holds the identity's private key, this process does not.

use crate::config::Config;
use bytes::Bytes;
use glasshive_daemon::reexec::Helper;
use glasshive_journal::JournalHandle;
use glasshive_journal::blobs::{Blobs, parse_name};
use glasshive_link::{BlobPart, Block, BlockSource, SourceClosed, SourceState};
use std::path::Path;
use std::sync::Arc;

/// Starts the helper process.
pub(super) fn start_helper(config: &Config, config_path: &Path) -> anyhow::Result<Helper> {
    let arguments = [
        "--config".into(),
        config_path.as_os_str().to_owned(),
        "--state-dir".into(),
        config.state_dir.as_os_str().to_owned(),
        "link-helper".into(),
    ];
    Ok(Helper::start(arguments)?)
}

/// The journal as the link reads it.
pub struct JournalSource {
    journal: JournalHandle,
    files: Arc<Blobs>,
}

impl JournalSource {
    /// A source over the journal and the captured files.
    pub fn new(journal: JournalHandle, files: Arc<Blobs>) -> Self {
        Self { journal, files }
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
        let Some(name) = parse_name(name) else { return Ok(None) };
        let files = Arc::clone(&self.files);
        let part = tokio::task::spawn_blocking(move || {
            let total = files.size(&name).ok().flatten()?;
            let bytes = files.read(&name, offset, len as usize).ok().flatten()?;
            Some(BlobPart { total, bytes: Bytes::from(bytes) })
        });
        Ok(part.await.unwrap_or(None))
    }
}

/// The helper process while the daemon runs.
pub(super) struct Linked(Helper);

impl Linked {
    /// Ends it.
    pub(super) async fn finish(self) {
        let _ = tokio::task::spawn_blocking(move || self.0.finish()).await;
    }
}

pub(super) fn serve_pipe(helper: Helper, source: JournalSource, cancel: tokio_util::sync::CancellationToken) -> anyhow::Result<Linked> {
    let _ = (source, cancel);
    Ok(Linked(helper))
}

/// The helper's own main: proves the identity to the controller and sends what the journal holds.
///
/// # Errors
/// One line.
pub fn helper_main(config: &Config) -> anyhow::Result<()> {
    let _ = config;
    anyhow::bail!("the link is not in this build")
}
