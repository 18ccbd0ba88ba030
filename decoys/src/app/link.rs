//! The link in a process of its own: the only one of this daemon that may connect. The journal's
//! blocks go to it over a socketpair; it holds the identity's private key, this process does not.

use crate::config::Config;
use anyhow::Context as _;
use bytes::Bytes;
use glasshive_daemon::keeper::{self, Backoff, Kept};
use glasshive_daemon::lockdown::{Calls, Files, Lockdown};
use glasshive_daemon::net::{TcpOptions, listen_tcp};
use glasshive_daemon::reexec::Helper;
use glasshive_journal::JournalHandle;
use glasshive_journal::blobs::{Blobs, parse_name};
use glasshive_link::client::ClientConfig;
use glasshive_link::identity::IdentityDir;
use glasshive_link::pipe::{PipeEvent, RemoteSource};
use glasshive_link::{BlobPart, Block, BlockSource, LinkPhase, LinkStatus, SourceClosed, SourceState};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, UnixStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Longest pause between tries to reach the controller.
const RETRY: Duration = Duration::from_secs(15);
/// How long a stopping daemon waits for its last records to be acknowledged.
const FAREWELL: Duration = Duration::from_secs(2);

/// Arguments that start this binary again as `command` with the same configuration.
fn arguments(config: &Config, config_path: &Path, command: &str) -> [OsString; 5] {
    ["--config".into(), config_path.as_os_str().to_owned(), "--state-dir".into(), config.state_dir.as_os_str().to_owned(), command.into()]
}

/// Starts the keeper of the link's process, which starts it again whenever it ends: this process
/// could not, having given up starting programs.
pub(super) fn start_keeper(config: &Config, config_path: &Path) -> anyhow::Result<Helper> {
    Ok(Kept::start(arguments(config, config_path, "link-keeper"))?)
}

/// The keeper's own main.
///
/// # Errors
/// One line.
pub fn keeper_main(config: &Config, config_path: &Path) -> anyhow::Result<()> {
    Ok(keeper::keep(&arguments(config, config_path, "link-helper"), Backoff::default())?)
}

/// The journal as the link reads it.
#[derive(Clone)]
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

/// The link's process while the daemon runs.
pub(super) struct Linked {
    stop: CancellationToken,
    serving: JoinHandle<Kept>,
}

impl Linked {
    /// Gives the link a moment to bring the last records over, then ends it.
    pub(super) async fn finish(self, journal: &JournalHandle, acknowledged: impl Fn() -> u64) {
        let deadline = tokio::time::Instant::now() + FAREWELL;
        while acknowledged() < journal.durable().borrow().seq && tokio::time::Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        self.stop.cancel();
        if let Ok(kept) = self.serving.await {
            let _ = tokio::task::spawn_blocking(move || kept.finish()).await;
        }
    }
}

/// Answers the link's questions from the journal, and passes on what it says about the link.
pub(super) fn serve_pipe(keeper: Helper, source: JournalSource, link: watch::Sender<LinkStatus>) -> anyhow::Result<Linked> {
    let kept = Kept::adopt(keeper).context("the link's process")?;
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    let serving = tokio::spawn(async move {
        tokio::select! {
            () = stopped.cancelled() => {}
            () = answer(&kept, &source, &link) => {}
        }
        kept
    });
    Ok(Linked { stop, serving })
}

/// Serves one worker after the other.
async fn answer(kept: &Kept, source: &JournalSource, link: &watch::Sender<LinkStatus>) {
    let mut said = None;
    loop {
        let stream = match kept.worker().await {
            Ok(stream) => stream,
            Err(error) => {
                tracing::error!(%error, "the link's keeper ended; records stay here until this daemon is started again");
                return;
            }
        };
        let (events, mut heard) = mpsc::channel(16);
        let listening = async {
            while let Some(event) = heard.recv().await {
                if let PipeEvent::Status(status) = event {
                    say(&status, &mut said);
                    link.send_replace(*status);
                }
            }
        };
        let (ended, ()) = tokio::join!(glasshive_link::pipe::serve(source.clone(), stream, events), listening);
        if let Err(error) = ended {
            tracing::warn!(%error, "the link's process ended and is started again");
        }
    }
}

/// One line for every change an operator should know of.
fn say(status: &LinkStatus, said: &mut Option<(LinkPhase, Option<String>)>) {
    let now = (status.phase, status.last_error.clone());
    if said.as_ref() == Some(&now) {
        return;
    }
    let controller = status.controller.as_deref().unwrap_or("the controller");
    match (&status.phase, &status.last_error) {
        (LinkPhase::Connected, _) => tracing::info!(%controller, "linked"),
        (_, Some(error)) => tracing::warn!(%controller, %error, "not linked; records stay here"),
        _ => {}
    }
    *said = Some(now);
}

/// The helper's own main: proves the identity to the controller and sends what the journal holds.
///
/// # Errors
/// One line.
pub fn helper_main(config: &Config) -> anyhow::Result<()> {
    let stream = glasshive_daemon::reexec::inherited()?;
    let listener = match &config.link.listen {
        Some(listen) => Some(listen_tcp(listen.0, &TcpOptions::default())?),
        None => None,
    };
    if config.isolation.lockdown {
        let files = Files {
            read: ["/etc/hosts", "/etc/resolv.conf", "/etc/nsswitch.conf", "/etc/host.conf", "/etc/gai.conf", "/lib", "/usr/lib"]
                .map(PathBuf::from)
                .to_vec(),
            write: vec![config.state_dir.join("identity")],
            no_connect: false,
        };
        Lockdown { user: user(config)?, calls: Calls::Connecting, files: Some(files) }.apply()?;
    }
    glasshive_daemon::reexec::die_with_parent().context("the daemon has ended")?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().context("starting the runtime")?;
    runtime.block_on(async {
        stream.set_nonblocking(true)?;
        let source = RemoteSource::new(UnixStream::from_std(stream)?);
        let identity = IdentityDir::new(config.state_dir.join("identity"));
        let controllers = config.link.controller.iter().map(ToString::to_string).collect();
        let mut client = ClientConfig::new(identity.clone(), controllers);
        client.product = env!("CARGO_PKG_VERSION").to_owned();
        client.pause.1 = RETRY;
        let (status, seen) = watch::channel(LinkStatus::default());
        let stop = CancellationToken::new();
        let clock = Arc::new(glasshive_link::SystemClock);
        let report = source.report(seen, identity);
        let work = async {
            match listener {
                Some(listener) => match TcpListener::from_std(listener) {
                    Ok(listener) => {
                        glasshive_link::client::serve_dialled(client, listener, source.clone(), clock, status, stop.clone()).await
                    }
                    Err(error) => tracing::error!(%error, "the link's listener"),
                },
                None => glasshive_link::client::run(client, source.clone(), clock, status, stop.clone()).await,
            }
        };
        tokio::select! {
            () = source.closed() => {}
            () = async { tokio::join!(work, report); } => {}
        }
        Ok(())
    })
}

/// The user to become, from the configuration.
pub(super) fn user(config: &Config) -> anyhow::Result<Option<glasshive_daemon::lockdown::User>> {
    config.isolation.user.as_ref().map(|name| name.parse().map_err(|error| anyhow::anyhow!("key isolation.user: {error}"))).transpose()
}
