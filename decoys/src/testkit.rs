//! A decoy in memory for tests and tools: one service, real connections, records in a list.

use crate::conn::Conn;
use crate::persona::{AccountPolicy, Decoy, Limits, MemoryKeys, Policy, Seed};
use crate::recorder::{BoxFuture, Clock, Entry, EventSink, FileSink, FileStore, Recorder, Room, Seal};
use crate::services::{Build, Service, ServiceDef};
use crate::session::{self, PassivePort, PassivePorts, Peer, Session};
use glasshive_event::{Envelope, Kind, RecordView, Transport, Tuple};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use tokio_util::sync::CancellationToken;

/// Records in memory.
#[derive(Default)]
pub struct Memory(Mutex<Vec<Entry>>, tokio::sync::Notify);

/// One record, read back.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Kind.
    pub kind: Kind,
    /// Envelope.
    pub envelope: Envelope,
    /// Detail.
    pub detail: serde_json::Value,
}

impl Memory {
    /// All records so far.
    pub fn seen(&self) -> Vec<Seen> {
        let entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        entries.iter().filter_map(read_back).collect()
    }

    /// Records of one kind.
    pub fn of(&self, kind: Kind) -> Vec<Seen> {
        self.seen().into_iter().filter(|seen| seen.kind == kind).collect()
    }

    /// Waits until `condition` holds over the records.
    pub async fn wait(&self, condition: impl Fn(&[Seen]) -> bool) -> Vec<Seen> {
        loop {
            let changed = self.1.notified();
            let seen = self.seen();
            if condition(&seen) {
                return seen;
            }
            changed.await;
        }
    }

    /// Waits until `count` sessions were closed.
    pub async fn closed(&self, count: usize) -> Vec<Seen> {
        self.wait(|seen| seen.iter().filter(|s| s.kind == Kind::SessionClose).count() >= count).await
    }
}

fn read_back(entry: &Entry) -> Option<Seen> {
    let header = glasshive_event::Header {
        log: glasshive_event::LogId([0; 16]),
        seq: 1,
        wall_ns: entry.wall_ns,
        mono_ns: entry.mono_ns,
        boot: [0; 16],
    };
    let record = entry.body.with_header(&header);
    let (envelope, detail) = RecordView::parse(&record).ok()?.split().ok()?;
    Some(Seen { kind: Kind::from_number(envelope.kind)?, detail: serde_json::from_str(detail).ok()?, envelope })
}

impl EventSink for Memory {
    fn append(&self, entry: Entry, _room: Room) -> BoxFuture<'_, bool> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(entry);
        self.1.notify_waiters();
        Box::pin(async { true })
    }
}

/// Seals nothing: secrets stay readable for the test (`sealed:…`).
pub struct OpenSeal;

impl Seal for OpenSeal {
    fn seal(&self, secret: &[u8]) -> String {
        format!("sealed:{}", glasshive_event::text::escape_bytes(secret))
    }
    fn pivot(&self, secret: &[u8]) -> String {
        glasshive_event::text::hex(&glasshive_event::record::leaf_hash(secret)).chars().take(32).collect()
    }
}

/// Files in memory by SHA-256.
#[derive(Default, Clone)]
pub struct MemoryFiles(pub Arc<Mutex<std::collections::HashMap<String, Vec<u8>>>>);

struct MemoryFile(MemoryFiles, Vec<u8>);

impl FileStore for MemoryFiles {
    fn create(&self) -> std::io::Result<Box<dyn FileSink>> {
        Ok(Box::new(MemoryFile(self.clone(), Vec::new())))
    }
}
impl FileSink for MemoryFile {
    fn write(&mut self, data: &[u8]) -> std::io::Result<()> {
        self.1.extend_from_slice(data);
        Ok(())
    }
    fn finish(self: Box<Self>, sha256: &str) -> std::io::Result<String> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner).insert(sha256.to_owned(), self.1);
        Ok(sha256.to_owned())
    }
}

/// The system's clocks.
pub struct SystemClock(std::time::Instant);

impl Default for SystemClock {
    fn default() -> Self {
        Self(std::time::Instant::now())
    }
}
impl Clock for SystemClock {
    fn wall_ns(&self) -> i64 {
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| i64::try_from(d.as_nanos()).unwrap_or(i64::MAX))
    }
    fn mono_ns(&self) -> u64 {
        u64::try_from(self.0.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

/// One decoy with one service.
pub struct Kit {
    /// The decoy.
    pub decoy: Arc<Decoy>,
    /// Its records.
    pub memory: Arc<Memory>,
    /// Its files.
    pub files: MemoryFiles,
    /// Ends every session.
    pub cancel: CancellationToken,
    recorder: Recorder,
    service: Arc<dyn Service>,
    name: &'static str,
    router: std::sync::OnceLock<Arc<dyn session::Router>>,
}

impl Kit {
    /// Builds `def` with the settings of a TOML text; account `root` opens to `toor`, `admin` to the
    /// third guess, `anonymous`-style accounts are up to the service.
    pub fn new(def: &'static ServiceDef, settings: &str) -> Result<Self, String> {
        let account = |name: &str, passwords: &[&str], after| AccountPolicy {
            name: name.into(),
            passwords: passwords.iter().map(|p| (*p).to_owned()).collect(),
            keys: Vec::new(),
            after,
            uid: None,
        };
        let accounts = vec![account("root", &["toor"], 0), account("admin", &[], 3)];
        let seed = Seed([9; 32]);
        let decoy = Arc::new(Decoy {
            name: "web-1".into(),
            persona: "web".into(),
            persona_hash: "00".into(),
            os: "debian12".into(),
            hostname: "web-1".into(),
            domain: "corp.example".into(),
            addresses: vec![std::net::Ipv4Addr::LOCALHOST.into()],
            policy: Policy::new(&accounts, seed.derive("policy")),
            seed,
            keys: Arc::new(MemoryKeys::default()),
            limits: Limits::default(),
            accounts,
            pretended: Default::default(),
            offers: def.default_ports.iter().map(|port| (*port, def.name.to_owned())).collect(),
            passive: std::sync::OnceLock::new(),
        });
        let _ = decoy.passive.set(Arc::new(LoopbackPorts));
        let settings = settings.parse::<toml::Table>().map_err(|error| error.message().to_owned())?;
        let service = (def.build)(&Build { decoy: &decoy, settings })?;
        let memory = Arc::new(Memory::default());
        let files = MemoryFiles::default();
        let recorder = Recorder {
            sink: memory.clone(),
            clock: Arc::new(SystemClock::default()),
            seal: Arc::new(OpenSeal),
            files: Arc::new(files.clone()),
            config_hash: "00".into(),
            binary_hash: "00".into(),
            net: "test".into(),
        };
        Ok(Self {
            decoy,
            memory,
            files,
            cancel: CancellationToken::new(),
            recorder,
            service,
            name: def.name,
            router: std::sync::OnceLock::new(),
        })
    }

    /// Answers forwards of later sessions through `router`; without one nothing is answered.
    pub fn route(&self, router: Arc<dyn session::Router>) {
        let _ = self.router.set(router);
    }

    /// Serves one in-memory connection; returns the visitor's end.
    pub fn connect(&self) -> tokio::io::DuplexStream {
        let (near, far) = tokio::io::duplex(64 * 1024);
        let source = SocketAddr::from(([192, 0, 2, 7], 40_000));
        self.serve(near, source, SocketAddr::from(([192, 0, 2, 1], 0)));
        far
    }

    /// Bytes of a visit that has just begun: of its task, and of its service in it.
    pub fn visit_bytes(&self) -> (usize, usize) {
        let visit = || {
            let (near, _far) = tokio::io::duplex(64);
            let session = self.session(SocketAddr::from(([192, 0, 2, 7], 40_000)), SocketAddr::from(([192, 0, 2, 1], 0)));
            (Conn::stream(near, session.counters(), self.decoy.limits.idle), session)
        };
        let (conn, session) = visit();
        let service = size_of_val(&*self.service.serve(conn, session));
        let (conn, session) = visit();
        (size_of_val(&session::run(Arc::clone(&self.service), conn, session, Room::Wait)), service)
    }

    fn session(&self, source: SocketAddr, local: SocketAddr) -> Session {
        let wire = Tuple { source: source.into(), destination: local.into() };
        let peer = Peer { transport: Transport::Tcp, wire, claimed: None, conn: None };
        let router = self.router.get().cloned();
        Session::new(self.recorder.clone(), router, Arc::clone(&self.decoy), self.name, peer, self.cancel.child_token())
    }

    /// Serves one datagram session; returns where to send, and where answers arrive.
    pub fn datagrams(&self) -> (tokio::sync::mpsc::Sender<bytes::Bytes>, tokio::sync::mpsc::Receiver<Vec<u8>>) {
        let (tx, rx) = tokio::sync::mpsc::channel(32);
        let (answers, answered) = tokio::sync::mpsc::channel(1024);
        let source = SocketAddr::from(([192, 0, 2, 7], 40_000));
        let local = SocketAddr::from(([192, 0, 2, 1], 53));
        let wire = Tuple { source: source.into(), destination: local.into() };
        let peer = Peer { transport: Transport::Udp, wire, claimed: None, conn: None };
        let session = Session::new(
            self.recorder.clone(),
            self.router.get().cloned(),
            Arc::clone(&self.decoy),
            self.name,
            peer,
            self.cancel.child_token(),
        );
        let conn = Conn::datagram(rx, Arc::new(Answers(answers)), session.counters(), self.decoy.limits.idle);
        tokio::spawn(session::run(Arc::clone(&self.service), conn, session, Room::Now));
        (tx, answered)
    }

    fn serve(&self, stream: impl crate::conn::Duplex + 'static, source: SocketAddr, local: SocketAddr) {
        let session = self.session(source, local);
        let conn = Conn::stream(stream, session.counters(), self.decoy.limits.idle);
        tokio::spawn(session::run(Arc::clone(&self.service), conn, session, Room::Wait));
    }

    /// Listens on loopback for real clients until the kit is cancelled.
    pub async fn listen(self: &Arc<Self>, address: SocketAddr) -> std::io::Result<SocketAddr> {
        let listener = tokio::net::TcpListener::bind(address).await?;
        let bound = listener.local_addr()?;
        let kit = Arc::clone(self);
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    () = kit.cancel.cancelled() => return,
                    accepted = listener.accept() => {
                        if let Ok((stream, source)) = accepted {
                            let local = stream.local_addr().unwrap_or(bound);
                            kit.serve(stream, source, local);
                        }
                    }
                }
            }
        });
        Ok(bound)
    }
}

/// Hands a datagram session's answers to the test.
struct Answers(tokio::sync::mpsc::Sender<Vec<u8>>);

impl crate::conn::DatagramSink for Answers {
    fn send<'a>(&'a self, data: &'a [u8]) -> BoxFuture<'a, std::io::Result<()>> {
        let _ = self.0.try_send(data.to_vec());
        Box::pin(async { Ok(()) })
    }
}

/// Passive ports on loopback, any number.
struct LoopbackPorts;

struct LoopbackPort(tokio::net::TcpListener, SocketAddr);

impl PassivePorts for LoopbackPorts {
    fn open(&self, _address: std::net::IpAddr) -> Option<Box<dyn PassivePort>> {
        let listener = std::net::TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0)).ok()?;
        listener.set_nonblocking(true).ok()?;
        let address = listener.local_addr().ok()?;
        Some(Box::new(LoopbackPort(tokio::net::TcpListener::from_std(listener).ok()?, address)))
    }
}

impl PassivePort for LoopbackPort {
    fn address(&self) -> SocketAddr {
        self.1
    }
    fn accept(&mut self) -> BoxFuture<'_, std::io::Result<(Box<dyn crate::conn::Duplex>, Peer)>> {
        Box::pin(async move {
            let (stream, source) = self.0.accept().await?;
            let wire = Tuple { source: source.into(), destination: self.1.into() };
            let peer = Peer { transport: Transport::Tcp, wire, claimed: None, conn: None };
            Ok((Box::new(stream) as Box<dyn crate::conn::Duplex>, peer))
        })
    }
}
