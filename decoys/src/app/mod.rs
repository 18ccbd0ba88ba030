//! Composition of the daemon, in order: configuration, helper process for the link, journal, identity,
//! personas and services, sockets, lockdown, accept loops. Everything that can fail does so here, at
//! start, in one line; afterwards the daemon only ends when told to.

mod bind;
mod health;
mod records;
mod wall;

use crate::config::{Config, EntryMode};
use crate::listener::{Counts, Entry, Gate, Sources, serve_tcp, serve_udp};
use crate::persona::file::{Host, load_all};
use crate::persona::{FileKeys, Seed};
use crate::recorder::Recorder;
use crate::targets::Targets;
use anyhow::{Context as _, anyhow, bail};
use glasshive_daemon::activation::Passed;
use glasshive_daemon::lockdown::{Calls, Files, Lockdown};
use glasshive_daemon::shutdown::{Notifier, Shutdown};
use glasshive_daemon::state::DirLock;
use glasshive_event::text::hex;
use glasshive_journal::{Journal, JournalHandle, OpenReport, Pressure};
use glasshive_link::host::{JournalSource, serve_pipe};
use glasshive_link::identity::IdentityDir;
use sha2::{Digest as _, Sha256};
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, watch};
use tokio_util::task::TaskTracker;

/// Directories of the state the locked-down process writes.
const WRITABLE: [&str; 3] = ["journal", "files", "standalone"];
/// How long sessions get to end when the daemon is told to.
const DRAIN: Duration = Duration::from_secs(5);

/// A node whose parts are built and bound, not yet serving.
pub struct App {
    config: Config,
    _lock: DirLock,
    journal: Journal,
    handle: JournalHandle,
    opened: OpenReport,
    recorder: Recorder,
    targets: Arc<Targets>,
    sockets: bind::Sockets,
    helper: Option<glasshive_daemon::reexec::Helper>,
    transparent: bool,
    node: String,
    report: glasshive_daemon::lockdown::Report,
    files: Arc<glasshive_journal::blobs::Blobs>,
    wall: Option<wall::Wall>,
    notifier: Notifier,
}

impl App {
    /// Builds everything up to bound sockets. Call before a runtime is started: the link's process is
    /// made here.
    ///
    /// # Errors
    /// One line naming file or port, key and remedy.
    pub fn prepare(config: Config, config_path: &Path) -> anyhow::Result<Self> {
        let notifier = Notifier::from_environment();
        // Before anything is opened: they are known by their numbers.
        let mut passed = Passed::take().context("taking the service manager's sockets")?;
        raise_descriptors();
        // Before rules, sockets or the link's process: what a newer program wrote is left alone.
        glasshive_journal::admissible(&config.state_dir.join("journal"))?;
        let lock = DirLock::acquire(&config.state_dir)?;
        let identity = IdentityDir::new(config.state_dir.join("identity"));
        let enrolled = if identity.exists() { Some(identity.load()?) } else { None };
        let helper = match (&enrolled, config.link.is_wanted()) {
            (Some(_), true) => Some(config.host(config_path).start_keeper()?),
            _ => None,
        };
        let node = enrolled.as_ref().map_or_else(|| config.node.clone(), |identity| identity.node.to_string());
        if let Some(identity) = &enrolled
            && identity.net != config.net
        {
            bail!(
                "{}: key net: {:?} is not the net this node was enrolled for ({:?}); correct it or enrol again",
                config_path.display(),
                config.net,
                identity.net
            );
        }
        let config_hash = hex(&Sha256::digest(std::fs::read(config_path).unwrap_or_default()));
        let binary_hash = records::binary_hash()?;
        let transparent = match config.entry {
            EntryMode::Tproxy => true,
            EntryMode::Plain => false,
            EntryMode::Auto => {
                rustix::process::geteuid().is_root() || glasshive_daemon::nft::is_permitted() || handed_entry(&passed, config.tproxy_port)
            }
        };
        let hosts = hosts(&config, transparent)?;
        let targets = Arc::new(Targets::new(&hosts));
        let handed = !passed.is_empty();
        let sockets = bind::bind(&config, &hosts, &targets, transparent, &mut passed)?;
        if transparent && handed && !glasshive_daemon::nft::is_permitted() {
            tracing::info!("sockets were handed over and there is no right to load rules: the service manager loads the entry's");
        } else if transparent {
            glasshive_daemon::nft::apply(&targets.nft(config.tproxy_port))?;
        }
        let daemon = config.isolation.user()?.map(|user| user.ids()).transpose()?.map_or(rustix::process::getuid().as_raw(), |ids| ids.0);
        let wall = config.wall.as_ref().map(|settings| wall::bind(settings, daemon, &hosts, &mut passed)).transpose()?;
        for left in passed.left() {
            tracing::warn!(socket = left, "handed over by the service manager, but nothing is offered there: it is closed");
        }
        drop(passed);
        for dir in WRITABLE {
            let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(config.state_dir.join(dir));
            made.with_context(|| format!("{}: making {dir}", config.state_dir.display()))?;
        }
        // Threads inherit file rules from the one that starts them: lock down before there are any.
        let report = lock_down(&config)?;
        let (journal, handle, opened) = glasshive_journal::open(records::journal_config(&config, helper.is_none()))?;
        let files = Arc::new(glasshive_journal::blobs::Blobs::open(records::blobs_config(&config))?);
        let recorder = records::recorder(&config, &handle, &files, enrolled.as_ref(), &config_hash, &binary_hash)?;
        Ok(Self {
            config,
            _lock: lock,
            journal,
            handle,
            opened,
            recorder,
            targets,
            sockets,
            helper,
            transparent,
            node,
            report,
            files,
            wall,
            notifier,
        })
    }

    /// Serves until `shutdown` is requested, then drains and closes the journal.
    ///
    /// # Errors
    /// What kept the daemon from locking itself down or from closing its journal.
    pub async fn run(self, shutdown: Shutdown) -> anyhow::Result<()> {
        let Self {
            config,
            _lock,
            journal,
            handle,
            opened,
            recorder,
            targets,
            sockets,
            helper,
            transparent,
            node,
            report,
            files,
            wall,
            notifier,
        } = self;
        let health = health::Health::new(handle.clone(), Arc::clone(&recorder.clock), wall.as_ref().map(wall::Wall::standing));
        health.recovered(&opened).await;
        let (accepting_tx, accepting) = watch::channel(true);
        let answering = !config.wall.as_ref().is_some_and(|wall| wall.required);
        let gate = Gate::new(answering, shutdown.token());
        let entry = Arc::new(Entry {
            recorder: recorder.clone(),
            targets: Arc::clone(&targets),
            accepting,
            gate: gate.clone(),
            proxies: config.proxy_protocol.from.clone(),
            slots: Arc::new(Semaphore::new(slots())),
            sources: Sources::default(),
            cancel: shutdown.token(),
            tasks: TaskTracker::new(),
            counts: Counts::default(),
        });
        let loops = TaskTracker::new();
        let count = sockets.tcp.len() + sockets.udp.len();
        for (listener, fixed) in sockets.tcp {
            let listener = tokio::net::TcpListener::from_std(listener).context("handing a listener to the runtime")?;
            loops.spawn(serve_tcp(listener, Arc::clone(&entry), fixed));
        }
        for (socket, port) in sockets.udp {
            let socket = glasshive_daemon::net::Datagrams::from_std(socket).context("handing a socket to the runtime")?;
            loops.spawn(serve_udp(Arc::new(socket), Arc::clone(&entry), port));
        }
        loops.spawn(follow_pressure(handle.pressure(), accepting_tx, shutdown.token()));
        if let Some(wall) = wall {
            loops.spawn(wall.serve(health.clone(), gate, transparent, shutdown.token()));
        }
        let (link_status, link_seen) = watch::channel(glasshive_link::LinkStatus::default());
        let linked = match helper {
            Some(helper) => Some(serve_pipe(helper, JournalSource::new(handle.clone(), Some(Arc::clone(&files))), link_status)?),
            None => None,
        };
        health.started(&node, &config.net, transparent, linked.is_some(), &report).await;
        let words = if linked.is_some() { "" } else { ", standalone: no controller" };
        println!("{node}: listening with {count} sockets for {} decoys of net {}{words}", config.decoy.len(), config.net);
        notifier.ready("serving");
        let beat = loops.spawn(health.clone().heartbeat(Arc::clone(&entry), shutdown.token()));
        notifier.watch(&shutdown, || async { !beat.is_finished() && glasshive_daemon::shutdown::runtime_is_alive().await }).await;
        notifier.stopping();
        loops.close();
        entry.tasks.close();
        if tokio::time::timeout(DRAIN, entry.tasks.wait()).await.is_err() {
            tracing::warn!("sessions did not end in time; their close follows at the next start");
        }
        let _ = tokio::time::timeout(Duration::from_secs(1), beat).await;
        health.stopped(&entry).await;
        if let Some(linked) = linked {
            linked.finish(&handle, || link_seen.borrow().durable).await;
        }
        drop(entry);
        drop(recorder);
        drop(handle);
        tokio::task::spawn_blocking(move || journal.close()).await?.context("closing the journal")?;
        Ok(())
    }
}

/// Loads the personas and dresses the configured decoys.
///
/// # Errors
/// One line naming file, key and remedy.
pub fn hosts(config: &Config, transparent: bool) -> anyhow::Result<Vec<Host>> {
    let seed = node_seed(&config.state_dir)?;
    let personas = load_all(&config.personas).map_err(|why| anyhow!(why))?;
    let mut hosts = Vec::new();
    for (index, decoy) in config.decoy.iter().enumerate() {
        let persona = personas.get(&decoy.persona).ok_or_else(|| {
            let known: Vec<_> = personas.keys().map(String::as_str).collect();
            anyhow!(
                "decoy {}: persona {:?} is not in {}; known: {}",
                decoy.name,
                decoy.persona,
                config.personas.display(),
                if known.is_empty() { "none".to_owned() } else { known.join(", ") }
            )
        })?;
        let addresses: Vec<IpAddr> = if transparent {
            if decoy.addresses.is_empty() {
                bail!("decoy {}: key addresses: names no address; give it at least one of the decoy segment", decoy.name);
            }
            decoy.addresses.clone()
        } else {
            vec![IpAddr::V4(loopback(index))]
        };
        let keys = Arc::new(FileKeys(config.state_dir.join("keys").join(&decoy.name)));
        hosts.push(persona.dress(&decoy.name, addresses, &seed, keys).map_err(|why| anyhow!(why))?);
    }
    Ok(hosts)
}

/// Whether the service manager handed over a listener of the transparent entry.
fn handed_entry(passed: &Passed, port: u16) -> bool {
    [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(std::net::Ipv6Addr::LOCALHOST)].iter().any(|ip| passed.has_tcp((*ip, port).into()))
}

/// In plain mode every decoy has a loopback address of its own.
fn loopback(index: usize) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(Ipv4Addr::LOCALHOST).saturating_add(u32::try_from(index % 0x00ff_fff0).unwrap_or(0)))
}

/// The node's seed, made once.
fn node_seed(state_dir: &Path) -> anyhow::Result<Seed> {
    use crate::persona::KeyStore as _;
    let bytes = FileKeys(state_dir.join("keys"))
        .get_or_make("seed", &mut || {
            let mut seed = vec![0u8; 32];
            getrandom::fill(&mut seed).map_err(|error| error.to_string())?;
            Ok(seed)
        })
        .map_err(|why| anyhow!(why))?;
    <[u8; 32]>::try_from(bytes)
        .map(Seed)
        .map_err(|_| anyhow!("{}: the seed is damaged; remove it to have a new face drawn", state_dir.display()))
}

fn lock_down(config: &Config) -> anyhow::Result<glasshive_daemon::lockdown::Report> {
    if !config.isolation.lockdown {
        return Ok(glasshive_daemon::lockdown::report());
    }
    let user = config.isolation.user()?;
    let files = Files {
        read: vec!["/proc/self".into(), "/proc/sys/kernel/random".into()],
        // Not `identity` (the link's process alone reads the node's key) and not `keys`.
        write: WRITABLE.iter().map(|dir| config.state_dir.join(dir)).collect(),
        no_connect: true,
    };
    Ok(Lockdown { user, calls: Calls::Decoys, files: Some(files), ..Lockdown::default() }.apply()?)
}

/// Turns the journal's pressure into "accept or wait", and says so once each time.
async fn follow_pressure(
    mut pressure: watch::Receiver<Pressure>,
    accepting: watch::Sender<bool>,
    cancel: tokio_util::sync::CancellationToken,
) {
    loop {
        match &*pressure.borrow_and_update() {
            Pressure::Normal => {
                if !accepting.send_replace(true) {
                    tracing::info!("the journal takes records again; accepting visitors");
                }
            }
            Pressure::Crowded { why } | Pressure::Paused { why } => {
                if accepting.send_replace(false) {
                    tracing::error!(%why, "visitors wait: the journal cannot take more");
                }
            }
        }
        tokio::select! {
            () = cancel.cancelled() => return,
            changed = pressure.changed() => if changed.is_err() { return },
        }
    }
}

/// Sessions at once: what the descriptors allow, with room for the rest of the daemon.
fn slots() -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(65_536);
    usize::try_from(limit.saturating_sub(limit / 8).saturating_sub(64)).unwrap_or(60_000).clamp(64, 200_000)
}

fn raise_descriptors() {
    let mut limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    limit.current = limit.maximum;
    // Refused: the limit stays what it was, and `slots` follows it.
    let _ = rustix::process::setrlimit(rustix::process::Resource::Nofile, limit);
}
