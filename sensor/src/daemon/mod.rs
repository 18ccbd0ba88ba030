//! Composition of the sensor daemon, in order: configuration, keeper of the link's process, identity,
//! analysis, interface, lockdown, ring, journal, threads. Everything that can fail does so here, at
//! start, in one line; afterwards the daemon only ends when told to.

mod analyse;
mod health;

use crate::capture::{CHUNK, Counters, Live, Outlets};
use crate::carve::RingCarver;
use crate::config::{Config, OnFull};
use crate::pipeline::{Pipeline, Settings};
use crate::ring::{Recovered, Ring, RingDir, RingSettings};
use anyhow::{Context as _, bail};
use glasshive_daemon::lockdown::{Calls, Files, Lockdown, Report};
use glasshive_daemon::reexec::Helper;
use glasshive_daemon::shutdown::{Notifier, Shutdown};
use glasshive_daemon::state::DirLock;
use glasshive_detect::Segment;
use glasshive_journal::{Journal, JournalConfig, JournalHandle, OpenReport};
use glasshive_link::carve::Carver;
use glasshive_link::host::{JournalSource, serve_pipe};
use glasshive_link::identity::IdentityDir;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Directories of the state the locked-down process writes.
const WRITABLE: [&str; 2] = ["journal", "ring"];

/// A segment of the journal is closed at this size on disk: sled keeps nearly all of an open one in memory.
const SEGMENT_BYTES: u64 = 16 << 20;

/// How long a stopping daemon waits for a journal that has no room.
const PATIENCE: Duration = Duration::from_secs(3);

/// A sensor whose parts are built, not yet running.
pub struct App {
    config: Config,
    _lock: DirLock,
    notifier: Notifier,
    journal: Journal,
    handle: JournalHandle,
    opened: OpenReport,
    ring: Ring,
    live: Live,
    pipeline: Pipeline,
    counters: Arc<Counters>,
    helper: Option<Helper>,
    identity: Identity,
    report: Report,
}

/// Who this node is.
struct Identity {
    node: String,
    net: Option<String>,
}

impl App {
    /// Builds everything up to an opened interface. Call before a runtime is started: the link's
    /// process is made here.
    ///
    /// # Errors
    /// One line naming file or interface, key and remedy.
    pub fn prepare(config: Config, config_path: &Path) -> anyhow::Result<Self> {
        let notifier = Notifier::from_environment();
        // Before ring, interface or the link's process: what a newer program wrote is left alone.
        glasshive_journal::admissible(&config.state_dir.join("journal"))?;
        let lock = DirLock::acquire(&config.state_dir)?;
        let host = config.host(config_path);
        let dir = IdentityDir::new(config.state_dir.join("identity"));
        let enrolled = if dir.exists() { Some(dir.load()?) } else { None };
        let helper = if enrolled.is_some() && config.link.is_wanted() { Some(host.start_keeper()?) } else { None };
        let net = match (&enrolled, &config.net) {
            (Some(enrolled), Some(net)) if enrolled.net != *net => bail!(
                "{}: key net: {net:?} is not the net this node was enrolled for ({:?}); remove the key or enrol again",
                config_path.display(),
                enrolled.net
            ),
            (Some(enrolled), _) => Some(enrolled.net.clone()),
            (None, net) => net.clone(),
        };
        let identity = Identity { node: enrolled.as_ref().map_or_else(|| config.node.clone(), |enrolled| enrolled.node.to_string()), net };
        let pipeline = pipeline(&config, identity.net.clone().unwrap_or_default())?;
        let live = Live::open(&config.capture_settings())?;
        crate::ring::allow_priority();
        for dir in WRITABLE {
            let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(config.state_dir.join(dir));
            made.with_context(|| format!("{}: making {dir}", config.state_dir.display()))?;
        }
        // Threads inherit file rules from the one that starts them: lock down before there are any.
        let report = lock_down(&config)?;
        let counters = Arc::new(Counters::default());
        let ring = Ring::open(ring_settings(&config, live.link_type), Arc::clone(&counters))?;
        let (journal, handle, opened) = glasshive_journal::open(journal_config(&config, helper.is_none()))?;
        Ok(Self { config, _lock: lock, notifier, journal, handle, opened, ring, live, pipeline, counters, helper, identity, report })
    }

    /// Captures until `shutdown` is requested, then writes down what it has and closes ring and journal.
    ///
    /// # Errors
    /// What kept threads from starting or the journal from closing.
    pub async fn run(self, shutdown: Shutdown) -> anyhow::Result<()> {
        let Self { config, _lock, notifier, journal, handle, opened, ring, live, pipeline, counters, helper, identity, report } = self;
        let health = health::Health::new(handle.clone(), Arc::clone(&counters));
        health.recovered(&opened, ring.recovered()).await;
        let chunks = config.capture_settings().pool_bytes / CHUNK;
        // The writer's channel holds every chunk there is; the analyser gets at most half of them.
        let (to_writer, from_capture) = sync_channel(chunks.max(2) + 2);
        let (to_analyser, chunks_to_analyse) = sync_channel((chunks / 2).max(1));
        let ring = ring.start(from_capture).context("starting the ring's threads")?;
        let give_up = CancellationToken::new();
        let analyser = analyse::Analyser::new(pipeline, live.link_type, handle.clone(), Arc::clone(&counters), give_up.clone());
        let seen = analyser.seen();
        let analyser = std::thread::Builder::new()
            .name("analyse".into())
            .spawn(move || analyser.run(&chunks_to_analyse))
            .context("starting analysis")?;
        let capture = live.start(Outlets { writer: to_writer, analyser: Some(to_analyser) }, Arc::clone(&counters))?;
        let (link_status, link_seen) = watch::channel(glasshive_link::LinkStatus::default());
        let linked = match helper {
            Some(helper) => {
                let carver = Carver::new(Arc::new(RingCarver::new(RingDir::new(config.ring_dir()))));
                Some(serve_pipe(helper, JournalSource::new(handle.clone(), None).with_carver(carver), link_status)?)
            }
            None => None,
        };
        health.started(&identity.node, identity.net.as_deref(), &config.interface, linked.is_some(), &report).await;
        let net = identity.net.as_ref().map_or_else(|| "no net yet".to_owned(), |net| format!("net {net}"));
        let words = if linked.is_some() { "" } else { ", standalone: no controller" };
        println!("{}: capturing from {}, {net}{words}", identity.node, config.interface);
        notifier.ready("capturing");
        let watch = ring.watch();
        let beat = tokio::spawn(health.clone().beat(seen, watch.clone(), shutdown.token()));
        notifier.watch(&shutdown, || async { !analyser.is_finished() && glasshive_daemon::shutdown::runtime_is_alive().await }).await;
        notifier.stopping();
        // A journal without room must not keep the daemon from ending.
        tokio::spawn(async move {
            tokio::time::sleep(PATIENCE).await;
            give_up.cancel();
        });
        // In this order: what the kernel has goes into chunks, chunks to disk and to analysis.
        tokio::task::spawn_blocking(move || {
            capture.stop();
            ring.finish();
            if analyser.join().is_err() {
                tracing::error!("the analyser panicked");
            }
        })
        .await?;
        let _ = tokio::time::timeout(PATIENCE, beat).await;
        if tokio::time::timeout(PATIENCE, health.stopped(&watch)).await.is_err() {
            tracing::error!("the journal has no room; the last records about this daemon are lost");
        }
        if let Some(linked) = linked {
            linked.finish(&handle, || link_seen.borrow().durable).await;
        }
        drop(health);
        drop(handle);
        tokio::task::spawn_blocking(move || journal.close()).await?.context("closing the journal")?;
        Ok(())
    }
}

/// Analysis from the configuration.
///
/// # Errors
/// One line naming file or key.
pub fn pipeline(config: &Config, net: String) -> anyhow::Result<Pipeline> {
    let segment = match &config.segment {
        None => Segment::default(),
        Some(path) => {
            let text = std::fs::read_to_string(path).with_context(|| format!("key segment: {}", path.display()))?;
            Segment::parse(&text).map_err(|why| anyhow::anyhow!("{}: {why}", path.display()))?
        }
    };
    let settings = Settings { net, segment: Arc::new(segment), detect: config.detect.clone(), ..Settings::default() };
    Ok(Pipeline::new(settings)?)
}

fn ring_settings(config: &Config, link_type: u16) -> RingSettings {
    RingSettings {
        quota: config.ring.quota.0,
        max_age: config.ring.max_age.0,
        segment_bytes: config.ring.segment.0,
        segment_age: config.ring.segment_age.0,
        snap_length: config.capture.snap_length,
        ..RingSettings::new(config.ring_dir(), config.interface.clone(), link_type)
    }
}

fn journal_config(config: &Config, standalone: bool) -> JournalConfig {
    let mut journal = JournalConfig::new(config.state_dir.join("journal"));
    journal.segment_bytes = SEGMENT_BYTES;
    journal.quota_bytes = config.journal.quota.0;
    journal.max_age = config.journal.max_age.0;
    journal.on_full = match config.journal.on_full {
        OnFull::Pause => glasshive_journal::OnFull::Pause,
        OnFull::DropOldest => glasshive_journal::OnFull::DropOldest,
    };
    journal.standalone = standalone;
    journal
}

fn lock_down(config: &Config) -> anyhow::Result<Report> {
    if !config.isolation.lockdown {
        return Ok(glasshive_daemon::lockdown::report());
    }
    let files = Files {
        // libpcap reads the interface's own drop counters there.
        read: vec![
            "/proc/self".into(),
            "/proc/sys/kernel/random".into(),
            PathBuf::from("/sys/class/net").join(&config.interface).join("statistics"),
        ],
        // Not `identity`: the link's process alone reads the node's key.
        write: WRITABLE.iter().map(|dir| config.state_dir.join(dir)).collect(),
        no_connect: true,
    };
    Ok(Lockdown { user: config.isolation.user()?, calls: Calls::Decoys, files: Some(files), ..Lockdown::default() }.apply()?)
}

/// What the ring's recovery found, in words; `None` when there was nothing to do.
fn recovery(found: &Recovered) -> Option<String> {
    (found.kept > 0 || found.cut_bytes > 0).then(|| {
        format!("unclean stop: {} unfinished segments with {} whole packets kept, {} bytes cut", found.kept, found.packets, found.cut_bytes)
    })
}
