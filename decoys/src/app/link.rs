//! The link in a process of its own: the only one of this daemon that may connect. The journal's
//! blocks go to it over a socketpair; it holds the identity's private key, we do not need it.

use crate::config::Config;
use glasshive_daemon::reexec::Helper;
use glasshive_daemon::shutdown::Shutdown;
use glasshive_journal::blobs::Blobs;
use glasshive_journal::journal::JournalHandle;
use glasshive_link::{BlobPart, Block, BlockSource, LinkPhase, LinkStatus, SourceClosed, SourceState};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

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
