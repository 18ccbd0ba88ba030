//! The daemon, read from the top: store (with the lock), identity, own log, link, fusion, admin socket.

use crate::admin;
use crate::client::{close_store, open_store};
use crate::config::Config;
use crate::desk::Desk;
use crate::fail::Failure;
use crate::fusion::{self, Follower};
use crate::ingest::StoreIngest;
use crate::live::{Live, read_words, take_word};
use crate::notify;
use crate::query::Context;
use futures_util::future::BoxFuture;
use glasshive_daemon::shutdown::Shutdown;
use glasshive_detect::DetectorDef;
use glasshive_event::Kind;
use glasshive_event::detail::Health;
use glasshive_event::observation::Watcher;
use glasshive_journal::build;
use glasshive_journal::store::{Store, StoreError, StoreHandle, StoredEvent};
use glasshive_link::identity::ControllerIdentity;
use glasshive_link::name::Role;
use glasshive_link::server::{CarveStream, Range, Server, ServerConfig};
use glasshive_link::{BlobName, CarveQuery, NodeName, SystemClock};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// What nodes said of themselves is read back this far.
const MEMORY_NS: i64 = 180_000_000_000;
/// How long open answers and connections may take to end.
const DRAIN: Duration = Duration::from_secs(10);
/// How long the daemon waits for a command that holds the store.
const PATIENCE: Duration = Duration::from_secs(3);
/// How often freed memory is given back: databases are opened, filled and closed all day.
const TRIM: Duration = Duration::from_secs(3);
/// Largest sealed file fetched from a node.
const MAX_FETCH: u64 = 1 << 30;

/// A controller that serves.
pub struct Running {
    /// Where nodes reach it.
    pub listen: SocketAddr,
    /// What questions are answered from; tests look through it.
    pub context: Context,
    server: Server<StoreIngest>,
    store: Store,
    stop_admin: CancellationToken,
    admin: JoinHandle<()>,
    notices: JoinHandle<()>,
    stop_fusion: CancellationToken,
    fusion: JoinHandle<()>,
    stop_notify: CancellationToken,
    notify: Option<JoinHandle<()>>,
    words: JoinHandle<()>,
}

/// Opens the store. A command that found no daemon may hold it for a moment: that is waited out, so
/// that asking at the wrong moment cannot keep the daemon from starting.
async fn open_patiently(config: &Config) -> Result<(Store, StoreHandle), Failure> {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let opening = config.clone();
        match tokio::task::spawn_blocking(move || open_store(&opening)).await.map_err(Failure::failed)? {
            Err(StoreError::Locked { .. }) if tokio::time::Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            opened => return Ok(opened?),
        }
    }
}

/// Makes every part in order and binds eagerly: what can fail fails here.
pub async fn start(config: Config, shutdown: Shutdown) -> Result<Running, Failure> {
    start_with(config, shutdown, glasshive_detect::DETECTORS).await
}

/// [`start`] with another table of detectors.
pub async fn start_with(config: Config, shutdown: Shutdown, detectors: &'static [DetectorDef]) -> Result<Running, Failure> {
    let (store, handle) = open_patiently(&config).await?;
    let identity = Arc::new(load_identity(&config)?);
    let desk = Arc::new(Desk::open(handle.clone(), &config.state_dir).await?);
    let address = config.listen.0;
    let listener = TcpListener::bind(address).await.map_err(|error| {
        Failure::failed(format!("{address}: cannot listen for nodes: {error}: set listen in controller.toml to an address of this host"))
    })?;
    let listen = listener.local_addr()?;
    let socket = admin::bind(&config.socket)?;

    let words = Words::default();
    let listening = tokio::spawn(words.clone().listen(handle.clone(), handle.follow()));
    let notify_board = notify::Board::default();
    let notify_records = notify::wanted(&config.notify)?.then(|| handle.follow());
    let (ingest, notices) = StoreIngest::new(handle.clone(), Arc::clone(&desk));
    let server = Server::new(ServerConfig::default(), Arc::clone(&identity), ingest, Arc::new(SystemClock));
    let accepting = server.clone();
    shutdown.spawn(async move { accepting.listen(listener).await });
    for dial in &config.dial {
        let node: NodeName = dial.node.parse().map_err(Failure::usage)?;
        server.dial(node, dial.address.to_string());
    }
    let board = fusion::Board::default();
    let parts = fusion::Parts {
        store: handle.clone(),
        desk: Arc::clone(&desk),
        path: config.state_dir.join("fusion"),
        detectors,
        settings: fusion::Settings::of(&config)?,
        watchers: watchers(&identity),
        board: board.clone(),
    };
    let follower = Follower::open(parts).await?;
    let live = Daemon {
        server: server.clone(),
        identity: Arc::clone(&identity),
        files: config.state_dir.join("files"),
        board,
        words,
        channels: notify_board.clone(),
    };
    let context =
        Context { store: handle, config: Arc::new(config), desk: Arc::clone(&desk), identity: Some(identity), live: Some(Arc::new(live)) };
    health(&desk, "start", json!({"listen": listen.to_string(), "version": build::version(), "schema": build::schema()})).await?;
    let stop_fusion = CancellationToken::new();
    let fusion = tokio::spawn(follower.run(stop_fusion.clone()));
    let stop_notify = CancellationToken::new();
    let notify = notify_records.map(|records| {
        let parts = notify::Parts { context: context.clone(), records, board: notify_board };
        tokio::spawn(notify::run(parts, stop_notify.clone()))
    });
    let ending = shutdown.clone();
    shutdown.spawn(async move {
        let mut turns = tokio::time::interval(TRIM);
        while !ending.is_requested() {
            tokio::select! {
                () = ending.requested() => {}
                _ = turns.tick() => { let _ = tokio::task::spawn_blocking(glasshive_daemon::memory::trim).await; }
            }
        }
    });
    let stop_admin = CancellationToken::new();
    let admin = tokio::spawn(admin::serve(socket, context.clone(), stop_admin.clone()));
    tracing::info!(%listen, socket = %context.config.socket.display(), nets = context.config.net.len(), "controller serves");
    Ok(Running { listen, context, server, store, stop_admin, admin, notices, stop_fusion, fusion, stop_notify, notify, words: listening })
}

impl Running {
    /// Whether every part still runs, and the runtime with it.
    pub async fn is_alive(&self) -> bool {
        let ended = self.admin.is_finished() || self.fusion.is_finished() || self.notify.as_ref().is_some_and(JoinHandle::is_finished);
        !ended && glasshive_daemon::shutdown::runtime_is_alive().await
    }

    /// Drains: answers end, nodes are told goodbye, what was taken is durable, the store closes.
    pub async fn stop(self) -> Result<(), Failure> {
        let Self { context, server, store, stop_admin, admin, notices, stop_fusion, fusion, stop_notify, notify, words, .. } = self;
        stop_admin.cancel();
        let _ = tokio::time::timeout(DRAIN, admin).await;
        let _ = tokio::time::timeout(DRAIN, server.shutdown()).await;
        drop(server);
        // After the last batch was taken: the checkpoint says how far it was looked at.
        stop_fusion.cancel();
        let _ = tokio::time::timeout(DRAIN, fusion).await;
        // After the last finding was told.
        stop_notify.cancel();
        if let Some(notify) = notify {
            let _ = tokio::time::timeout(DRAIN, notify).await;
        }
        words.abort();
        let desk = Arc::clone(&context.desk);
        let live = context.live.is_some();
        drop(context);
        // The notices' sender lives in the server; a task that still holds it does not hold the end.
        let _ = tokio::time::timeout(Duration::from_secs(1), notices).await;
        if live {
            health(&desk, "stop", json!({})).await?;
        }
        drop(desk);
        close_store(store).await?;
        tracing::info!("controller stopped");
        Ok(())
    }
}

async fn health(desk: &Desk, what: &str, fields: Value) -> Result<(), Failure> {
    let fields = match fields {
        Value::Object(map) => map,
        _ => Map::new(),
    };
    let detail = Health { what: what.to_owned(), message: "controller".to_owned(), fields };
    desk.write(Kind::Health, &detail).await.map(|_| ())
}

fn load_identity(config: &Config) -> Result<ControllerIdentity, Failure> {
    let dir = config.identity_dir();
    let clock = Arc::new(SystemClock);
    let identity = if ControllerIdentity::exists(&dir) {
        ControllerIdentity::load(&dir, clock)
    } else {
        tracing::info!(dir = %dir.display(), "first start: making the certificate authority and the sealing key; back this directory up");
        ControllerIdentity::init(&dir, clock)
    };
    Ok(identity.map_err(Failure::failed)?.with_addresses(config.controllers()))
}

/// What each node watches with, by its enrolment.
fn watchers(identity: &Arc<ControllerIdentity>) -> Arc<fusion::observe::Watchers> {
    let identity = Arc::clone(identity);
    Arc::new(move |node: &str| {
        let name: NodeName = node.parse().ok()?;
        identity.nodes().get(&name).map(|entry| match entry.role {
            Role::Sensor => Watcher::Sensor,
            Role::Decoys => Watcher::Decoys,
        })
    })
}

/// What only the running daemon can do.
struct Daemon {
    server: Server<StoreIngest>,
    identity: Arc<ControllerIdentity>,
    files: PathBuf,
    board: fusion::Board,
    words: Words,
    channels: notify::Board,
}

/// What nodes say of themselves, as it comes.
#[derive(Clone, Default)]
struct Words(Arc<Mutex<BTreeMap<String, Map<String, Value>>>>);

impl Words {
    async fn listen(self, store: StoreHandle, mut records: broadcast::Receiver<Arc<StoredEvent>>) {
        // What was said before this daemon started; a heartbeat comes once a minute.
        match read_words(&store, crate::desk::now_ns().saturating_sub(MEMORY_NS)).await {
            Ok(before) => *self.0.lock().unwrap_or_else(PoisonError::into_inner) = before,
            Err(error) => tracing::warn!(%error, "what nodes said last cannot be read"),
        }
        drop(store);
        loop {
            match records.recv().await {
                Ok(stored) => take_word(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner), &stored),
                // The next heartbeat says it again.
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return,
            }
        }
    }
}

impl Live for Daemon {
    fn links(&self) -> BTreeMap<String, Map<String, Value>> {
        let status = self.server.status();
        status
            .into_iter()
            .map(|node| {
                let mut facts = Map::new();
                facts.insert("connected".to_owned(), json!(node.connected_since_ns.is_some()));
                facts.insert("records_behind".to_owned(), json!(node.lag()));
                facts.insert("connections".to_owned(), json!(node.connections));
                facts.insert("refusals".to_owned(), json!(node.refusals));
                let mut put = |key: &str, value: Option<Value>| {
                    if let Some(value) = value {
                        facts.insert(key.to_owned(), value);
                    }
                };
                put("connected_since", node.connected_since_ns.map(crate::view::time));
                put("last_frame", node.last_frame_ns.map(crate::view::time));
                put("remote", node.remote.map(|remote| json!(remote.to_string())));
                put("version", node.version.map(|version| json!(version)));
                put("clock_offset_ns", node.offset_ns.map(|offset| json!(offset)));
                put("last_error", node.last_error.map(|error| json!(error)));
                (node.node.to_string(), facts)
            })
            .collect()
    }

    fn fusion(&self) -> fusion::Status {
        self.board.status()
    }

    fn words(&self) -> BTreeMap<String, Map<String, Value>> {
        self.words.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn channels(&self) -> Vec<notify::ChannelStatus> {
        self.channels.status()
    }

    fn unseal(&self, sealed: &str) -> Result<Vec<u8>, Failure> {
        self.identity.unsealer().open(sealed).map_err(|error| Failure::failed(format!("cannot be opened: {error}")))
    }

    fn unseal_bytes(&self, sealed: &[u8]) -> Result<Vec<u8>, Failure> {
        let mut plain = Vec::new();
        let mut sealed = sealed;
        let opened = self.identity.unsealer().open_file(&mut sealed, &mut plain);
        opened.map(|_| plain).map_err(|error| Failure::failed(format!("cannot be opened: {error}")))
    }

    fn blob<'a>(&'a self, node: &'a str, name: &'a str) -> BoxFuture<'a, Result<PathBuf, Failure>> {
        Box::pin(fetch(&self.server, &self.files, node, name))
    }

    fn carve<'a>(&'a self, node: &'a str, query: CarveQuery) -> BoxFuture<'a, Result<CarveStream, Failure>> {
        Box::pin(async move {
            let node: NodeName = node.parse().map_err(Failure::failed)?;
            self.server.request_carve(&node, query).await.map_err(Failure::unreachable)
        })
    }
}

/// The sealed blob as a file of ours: kept under its name, so it is fetched once.
async fn fetch(server: &Server<StoreIngest>, files: &Path, node: &str, name: &str) -> Result<PathBuf, Failure> {
    let blob: BlobName = name.parse().map_err(|error| Failure::failed(format!("the event names no blob: {error}")))?;
    let dir = files.join(name.get(..2).unwrap_or("00"));
    let path = dir.join(name);
    if path.exists() {
        return Ok(path);
    }
    let from: NodeName = node.parse().map_err(|error| Failure::failed(format!("the event names no node: {error}")))?;
    let fail = |error: std::io::Error| Failure::failed(format!("{}: {error}", path.display()));
    std::fs::create_dir_all(&dir).map_err(fail)?;
    let mut stream = server.request_file(&from, &blob, Range::ALL).await.map_err(Failure::unreachable)?;
    // Beside and renamed: a file that is there is whole. Two fetches at once make two of these.
    let beside = dir.join(format!("{name}.{}.part", uuid::Uuid::now_v7().simple()));
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside).map_err(fail)?;
    let mut size = 0u64;
    let result = loop {
        match stream.next().await {
            None => break Ok(()),
            Some(Err(error)) => break Err(Failure::unreachable(error)),
            Some(Ok(bytes)) => {
                size = size.saturating_add(bytes.len() as u64);
                if size > MAX_FETCH {
                    break Err(Failure::failed(format!("{name}: node {node} sends more than 1 GiB")));
                }
                if let Err(error) = file.write_all(&bytes) {
                    break Err(fail(error));
                }
            }
        }
    };
    let result = result.and_then(|()| file.sync_all().and_then(|()| std::fs::rename(&beside, &path)).map_err(fail));
    if result.is_err() {
        let _ = std::fs::remove_file(&beside);
    }
    result.map(|()| path)
}
