//! The session a service records through: a cheap clone, whose records carry who and where.
//!
//! The listener keeps its own clone and writes `session.close` when the service's future and every
//! task it spawned have ended. A session never blocks on anything but room in the journal.

mod passive;
mod streams;
mod upload;

pub use passive::{DataConn, Passive, PassivePort, PassivePorts};
pub use upload::Upload;

use crate::conn::{Conn, Counters};
use crate::persona::Decoy;
use crate::recorder::{BoxFuture, Entry, Recorder, Room};
use crate::services::Outcome;
use futures_util::FutureExt as _;
use glasshive_event::detail::{Command, Forward, Hello, Login, Loss, Malformed, Request, Secret, SessionClose, SessionOpen};
use glasshive_event::text::hex;
use glasshive_event::{Body, ConnId, Endpoint, Envelope, Kind, SessionId, Transport, Tuple, WireText};
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::cell::Cell;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Deepest nesting of sessions opened inside sessions.
pub const MAX_DEPTH: u8 = 4;
/// Bytes kept of a malformed input.
pub const MALFORMED_BYTES: usize = 256;

/// What a visitor proved himself with.
#[derive(Clone, Copy, Debug)]
pub enum Credential<'a> {
    /// A secret in clear.
    Plain(&'a [u8]),
    /// A public key: OpenSSH text, SHA-256 fingerprint, and whether a signature was verified.
    PublicKey {
        /// `ssh-ed25519 AAAA…`
        openssh: &'a str,
        /// `SHA256:…`
        fingerprint: &'a str,
        /// Whether the visitor proved to hold the private key.
        signed: bool,
    },
    /// Nothing at all.
    None,
}

/// Direction of bytes, seen from the decoy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Direction {
    /// From the visitor.
    In,
    /// To the visitor.
    Out,
}

impl Direction {
    /// `in` or `out`.
    pub fn name(self) -> &'static str {
        match self {
            Self::In => "in",
            Self::Out => "out",
        }
    }
}

/// Finds the own persona's service behind an address a visitor asked to be forwarded to.
pub trait Router: Send + Sync {
    /// The decoy and service at that target as seen from `from` (`localhost` is itself), or `None`
    /// when it is not ours to answer for.
    fn route(&self, from: &Arc<Decoy>, host: &str, port: u16, transport: Transport) -> Option<Route>;
}

/// An own service that can answer in process.
pub struct Route {
    /// The decoy.
    pub decoy: Arc<Decoy>,
    /// Name of the service.
    pub service_name: &'static str,
    /// The service.
    pub service: Arc<dyn crate::services::Service>,
    /// Address and port the visitor meant.
    pub address: SocketAddr,
}

/// What the listener knows of a connection.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Transport.
    pub transport: Transport,
    /// Socket tuple.
    pub wire: Tuple,
    /// Source claimed by an allow-listed PROXY-protocol peer.
    pub claimed: Option<Endpoint>,
    /// Join key, when the SYN was saved.
    pub conn: Option<ConnId>,
}

struct Inner {
    id: SessionId,
    parent: Option<SessionId>,
    depth: u8,
    peer: Peer,
    decoy: Arc<Decoy>,
    service: &'static str,
    recorder: Recorder,
    router: Option<Arc<dyn Router>>,
    counters: Arc<Counters>,
    cut_bytes: AtomicU64,
    opened_mono: u64,
    target: Option<String>,
    streams: streams::Streams,
    tasks: TaskTracker,
    cancel: CancellationToken,
}

/// Handle of one session; cloning is cheap.
#[derive(Clone)]
pub struct Session(Arc<Inner>);

impl Session {
    /// Begins a session; nothing is recorded until [`Session::open`].
    pub fn new(
        recorder: Recorder,
        router: Option<Arc<dyn Router>>,
        decoy: Arc<Decoy>,
        service: &'static str,
        peer: Peer,
        cancel: CancellationToken,
    ) -> Self {
        Self::build(recorder, router, decoy, service, peer, cancel, None, 0, None)
    }

    #[allow(clippy::too_many_arguments)]
    fn build(
        recorder: Recorder,
        router: Option<Arc<dyn Router>>,
        decoy: Arc<Decoy>,
        service: &'static str,
        peer: Peer,
        cancel: CancellationToken,
        parent: Option<SessionId>,
        depth: u8,
        target: Option<String>,
    ) -> Self {
        let id = SessionId::new(recorder.clock.wall_ns(), random());
        let opened_mono = recorder.clock.mono_ns();
        let cap = decoy.limits.stream_bytes;
        Self(Arc::new(Inner {
            id,
            parent,
            depth,
            peer,
            decoy,
            service,
            recorder,
            router,
            counters: Arc::default(),
            cut_bytes: AtomicU64::new(0),
            opened_mono,
            target,
            streams: streams::Streams::new(cap),
            tasks: TaskTracker::new(),
            cancel,
        }))
    }

    /// The session's id.
    pub fn id(&self) -> SessionId {
        self.0.id
    }
    /// The decoy visited.
    pub fn decoy(&self) -> &Arc<Decoy> {
        &self.0.decoy
    }
    /// The address an analyst means by "source": the claimed one behind an allow-listed proxy, else the wire's.
    pub fn source(&self) -> SocketAddr {
        self.0.peer.claimed.unwrap_or(self.0.peer.wire.source).into()
    }
    /// The decoy's address and port the visitor reached.
    pub fn local(&self) -> SocketAddr {
        self.0.peer.wire.destination.into()
    }
    /// Transport.
    pub fn transport(&self) -> Transport {
        self.0.peer.transport
    }
    /// Counters to build the session's [`Conn`] with.
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.0.counters)
    }
    /// Wall time in nanoseconds UTC: the only clock a service has.
    pub fn now_ns(&self) -> i64 {
        self.0.recorder.clock.wall_ns()
    }
    /// Monotonic time in nanoseconds.
    pub fn mono_ns(&self) -> u64 {
        self.0.recorder.clock.mono_ns()
    }
    /// Cancelled when the session must end now (shutdown, pause). Long waits select on it.
    pub fn cancelled(&self) -> CancellationToken {
        self.0.cancel.clone()
    }

    /// Runs a task that belongs to the session: `close` waits for it.
    pub fn spawn<F>(&self, future: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.0.tasks.spawn(future);
    }

    fn envelope(&self, kind: Kind) -> Envelope {
        let inner = &self.0;
        Envelope {
            kind: kind.number(),
            session: Some(inner.id),
            parent: inner.parent,
            conn: inner.peer.conn,
            decoy: Some(inner.decoy.name.clone()),
            service: Some(inner.service.to_owned()),
            transport: Some(inner.peer.transport),
            wire: Some(inner.peer.wire),
            claimed: inner.peer.claimed,
        }
    }

    /// Opens a passive port on the decoy's address; `None`: all are in use.
    pub fn passive(&self) -> Option<Passive> {
        let port = self.0.decoy.passive.get()?.open(self.local().ip())?;
        Some(Passive::new(self.clone(), port))
    }

    /// Records one event. A detail too large for a record is replaced by a counted `loss`; services
    /// bound what they record so that this does not happen.
    pub async fn emit<D: Serialize + Sync>(&self, kind: Kind, detail: &D) {
        // Boxed apart: services wait for visitors far longer than for room, and must not hold this room meanwhile.
        Box::pin(self.emit_with(kind, detail, Room::Wait)).await;
    }

    async fn emit_with<D: Serialize + Sync>(&self, kind: Kind, detail: &D, room: Room) -> bool {
        self.flush_before(kind).await;
        self.emit_at(kind, detail, room, self.now_ns(), self.mono_ns()).await
    }

    async fn emit_at<D: Serialize + Sync>(&self, kind: Kind, detail: &D, room: Room, wall_ns: i64, mono_ns: u64) -> bool {
        let body = match Body::encode(&self.envelope(kind), detail) {
            Ok(body) => body,
            Err(error) => {
                let loss =
                    Loss { place: "record".into(), count: 1, why: format!("{} not recorded: {error}", kind.name()), ..Loss::default() };
                match Body::encode(&self.envelope(Kind::Loss), &loss) {
                    Ok(body) => body,
                    Err(_) => return false,
                }
            }
        };
        self.0.recorder.sink.append(Entry { wall_ns, mono_ns, body }, room).await
    }

    /// Records `session.open`. `false`: not recorded, so the connection must not be served.
    pub async fn open(&self, room: Room) -> bool {
        let inner = &self.0;
        let detail = SessionOpen {
            persona: inner.decoy.persona.clone(),
            persona_hash: inner.decoy.persona_hash.clone(),
            config_hash: inner.recorder.config_hash.to_string(),
            binary_hash: inner.recorder.binary_hash.to_string(),
            target: inner.target.clone(),
        };
        self.emit_with(Kind::SessionOpen, &detail, room).await
    }

    /// Waits for the session's tasks, flushes its streams and records `session.close`.
    pub async fn close(&self, reason: &str, error: Option<String>, grace: Duration) {
        let inner = &self.0;
        inner.tasks.close();
        if tokio::time::timeout(grace, inner.tasks.wait()).await.is_err() {
            inner.cancel.cancel();
            let _ = tokio::time::timeout(grace, inner.tasks.wait()).await;
        }
        self.flush_streams().await;
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let detail = SessionClose {
            reason: reason.to_owned(),
            duration_ns: self.mono_ns().saturating_sub(inner.opened_mono),
            bytes_in: get(&inner.counters.bytes_in),
            bytes_out: get(&inner.counters.bytes_out),
            packets_in: get(&inner.counters.packets_in),
            packets_out: get(&inner.counters.packets_out),
            cut_bytes: get(&inner.cut_bytes) + inner.streams.cut(),
            error,
        };
        self.emit_with(Kind::SessionClose, &detail, Room::Reserved).await;
    }

    /// Counts visitor bytes that were not kept because a cap was reached.
    pub fn count_cut(&self, bytes: u64) {
        self.0.cut_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Decides by the persona's policy whether a credential opens the account, and records the attempt.
    pub async fn login(&self, user: &[u8], method: &str, credential: Credential<'_>) -> bool {
        let accepted = self.0.decoy.policy.decide(user, credential, self.source().ip(), self.now_ns());
        self.login_as(user, method, credential, accepted).await;
        accepted
    }

    /// Records an attempt whose outcome the service decided itself.
    pub async fn login_as(&self, user: &[u8], method: &str, credential: Credential<'_>, accepted: bool) {
        let seal = &self.0.recorder.seal;
        let mut login = Login { user: clip(user), method: method.to_owned(), accepted, ..Login::default() };
        match credential {
            Credential::Plain(secret) => {
                login.secret_kind = "plain".into();
                login.secret_len = secret.len() as u64;
                login.secret_pivot = Some(seal.pivot(secret));
                let kept = secret.get(..secret.len().min(1024)).unwrap_or_default();
                self.count_cut((secret.len() - kept.len()) as u64);
                login.secret_sealed = Some(seal.seal(kept));
            }
            Credential::PublicKey { openssh, fingerprint, signed } => {
                login.secret_kind = "ssh-key".into();
                login.public_key = Some(openssh.chars().take(6 * 1024).collect());
                login.fingerprint = Some(fingerprint.to_owned());
                login.signature = Some(signed);
            }
            Credential::None => login.secret_kind = "none".into(),
        }
        self.emit(Kind::Login, &login).await;
    }

    /// Records a command of the pretended operating system with a digest of what it showed.
    pub async fn command(&self, channel: Option<u32>, input: &[u8], output: &[u8], exit: Option<i32>, known: bool) {
        self.command_since(None, channel, input, output, exit, known).await;
    }

    /// The same for a command given at `began`, a time of [`Self::mono_ns`].
    pub async fn command_since(
        &self,
        began: Option<u64>,
        channel: Option<u32>,
        input: &[u8],
        output: &[u8],
        exit: Option<i32>,
        known: bool,
    ) {
        let detail = Command {
            took_ns: began.map(|began| self.mono_ns().saturating_sub(began)),
            input: clip(input),
            exit,
            output_sha256: Some(hex(&Sha256::digest(output))),
            output_len: output.len() as u64,
            channel,
            known,
        };
        self.count_cut(input.len().saturating_sub(CLIP) as u64);
        self.emit(Kind::Command, &detail).await;
    }

    /// Records a request. Bound the fields: together they must stay well below 16 KiB.
    pub async fn request(&self, detail: &Request) {
        self.emit(Kind::Request, detail).await;
    }

    /// Records a greeting with its fingerprints.
    pub async fn hello(&self, detail: &Hello) {
        self.emit(Kind::Hello, detail).await;
    }

    /// Records input the protocol does not allow; `rest` is the input from the first wrong byte on.
    pub async fn malformed(&self, protocol: &str, what: &str, offset: u64, rest: &[u8]) {
        let probe = glasshive_proto::probe(rest);
        let certain = probe.verdict == glasshive_proto::probe::Verdict::Certain;
        let detail = Malformed {
            protocol: protocol.to_owned(),
            what: what.to_owned(),
            offset,
            bytes: hex(rest.get(..rest.len().min(MALFORMED_BYTES)).unwrap_or_default()),
            looks_like: probe.protocol.filter(|_| certain).map(str::to_owned),
        };
        self.emit(Kind::Malformed, &detail).await;
    }

    /// Records the key-log lines of one handshake, sealed together.
    pub async fn tls_secret(&self, lines: &str) {
        let detail = Secret {
            secret_kind: "tls-keylog".into(),
            secret_sealed: self.0.recorder.seal.seal(lines.as_bytes()),
            lines: lines.lines().count() as u64,
        };
        self.emit(Kind::Secret, &detail).await;
    }

    /// Records bytes of a channel; they are gathered and written at 250 ms or 8 KiB.
    pub async fn stream(&self, channel: u32, role: &str, direction: Direction, bytes: &[u8]) {
        let now = (self.now_ns(), self.mono_ns());
        let full = self.0.streams.push(channel, role, direction, bytes, now);
        if !full.is_empty() {
            Box::pin(self.write_streams(full)).await;
        }
        if self.0.streams.take_flusher() {
            let session = self.clone();
            // Not part of `tasks`: close() flushes by itself and must not wait for this timer.
            tokio::spawn(async move {
                tokio::time::sleep(streams::FLUSH_AFTER).await;
                session.0.streams.release_flusher();
                session.flush_streams().await;
            });
        }
    }

    /// Notes the terminal size of a channel; its next stream records carry it.
    pub fn terminal(&self, channel: u32, columns: u32, rows: u32) {
        self.0.streams.terminal(channel, columns, rows);
    }

    /// Writes gathered stream bytes now.
    pub async fn flush_streams(&self) {
        self.write_streams(self.0.streams.drain()).await;
    }

    async fn write_streams(&self, chunks: Vec<streams::Chunk>) {
        for chunk in chunks {
            self.emit_at(Kind::Stream, &chunk.detail, Room::Wait, chunk.wall_ns, chunk.mono_ns).await;
        }
    }

    /// Keeps the order a reader expects: what was typed and shown before an event comes before it.
    async fn flush_before(&self, kind: Kind) {
        if kind != Kind::Stream && self.0.streams.pending() {
            self.flush_streams().await;
        }
    }

    /// Begins a file the visitor sends.
    pub fn upload(&self, name: &[u8]) -> Upload {
        Upload::new(self.clone(), name, self.0.decoy.limits.file_bytes)
    }

    /// Opens a session inside this one when `host:port` is an own persona's service, and serves it in
    /// process; `None`: not ours to answer for, or nested too deep. The asking is recorded either way.
    pub async fn child(&self, host: &[u8], port: u16, transport: Transport, mechanism: &str, originator: Option<String>) -> Option<Conn> {
        self.child_on(None, host, port, transport, mechanism, originator).await
    }

    /// The same for a target asked for on `channel`, whose stream records then are what was forwarded.
    pub async fn child_on(
        &self,
        channel: Option<u32>,
        host: &[u8],
        port: u16,
        transport: Transport,
        mechanism: &str,
        originator: Option<String>,
    ) -> Option<Conn> {
        let inner = &self.0;
        let name = String::from_utf8_lossy(host).into_owned();
        let route = if inner.depth < MAX_DEPTH {
            inner.router.as_ref().and_then(|router| router.route(&inner.decoy, &name, port, transport))
        } else {
            None
        };
        let mut forward = Forward {
            host: clip(host),
            port: port.into(),
            mechanism: mechanism.to_owned(),
            originator,
            answered: route.is_some(),
            child: None,
            channel,
        };
        let Some(route) = route else {
            self.emit(Kind::Forward, &forward).await;
            return None;
        };
        // The inner source is the decoy itself: that is where a forwarded connection would come from.
        let source = Endpoint { ip: self.local().ip(), port: 32768u16.wrapping_add(port) | 0x8000 };
        let peer =
            Peer { transport, wire: Tuple { source, destination: route.address.into() }, claimed: Some(self.source().into()), conn: None };
        let child = Self::build(
            inner.recorder.clone(),
            inner.router.clone(),
            route.decoy,
            route.service_name,
            peer,
            inner.cancel.child_token(),
            Some(inner.id),
            inner.depth + 1,
            Some(format!("{name}:{port}")),
        );
        forward.child = Some(child.id().to_string());
        self.emit(Kind::Forward, &forward).await;
        let (near, far) = tokio::io::duplex(16 * 1024);
        let conn = Conn::stream(near, child.counters(), child.decoy().limits.idle);
        let service = route.service;
        self.spawn(async move {
            run(service, conn, child, Room::Wait).await;
        });
        Some(Conn::wrapped(far, inner.decoy.limits.idle))
    }

    /// A session with this one as its parent, on a connection of its own (an FTP data connection).
    pub fn related(&self, peer: Peer, target: Option<String>) -> Session {
        let inner = &self.0;
        Self::build(
            inner.recorder.clone(),
            inner.router.clone(),
            Arc::clone(&inner.decoy),
            inner.service,
            peer,
            inner.cancel.child_token(),
            Some(inner.id),
            inner.depth.saturating_add(1),
            target,
        )
    }

    pub(crate) fn recorder(&self) -> &Recorder {
        &self.0.recorder
    }

    /// Address of the visitor without its port.
    pub fn source_ip(&self) -> IpAddr {
        self.source().ip()
    }
}

/// Largest visitor text kept in one field.
pub const CLIP: usize = 4096;

/// Visitor text for one field: at most [`CLIP`] bytes.
pub fn clip(bytes: &[u8]) -> WireText {
    WireText::from_bytes(bytes.get(..bytes.len().min(CLIP)).unwrap_or_default())
}

/// Random bytes of an id, drawn from the kernel for many ids at a time.
fn random() -> [u8; 10] {
    thread_local!(static DRAWN: Cell<([u8; 250], usize)> = const { Cell::new(([0; 250], 0)) });
    let (mut bytes, mut left) = DRAWN.get();
    if left == 0 {
        // Without randomness the kernel would not run; a zero id still keeps its time.
        left = if getrandom::fill(&mut bytes).is_ok() { bytes.len() } else { 0 };
    }
    let id = bytes.get(..left).and_then(|drawn| drawn.last_chunk().copied()).unwrap_or_default();
    DRAWN.set((bytes, left.saturating_sub(id.len())));
    id
}

/// Serves one session from open to close: the one place where sessions begin and end.
///
/// A panic of the service becomes `reason: panic`; the session's deadline and the shutdown token end
/// it. Returns `false` when the open could not be recorded and the visitor was therefore not served.
pub async fn run(service: Arc<dyn crate::services::Service>, conn: Conn, session: Session, room: Room) -> bool {
    // What is not waited for long is boxed apart: this is the room a silent visitor holds.
    if !Box::pin(session.open(room)).await {
        return false;
    }
    let limit = session.decoy().limits.session;
    let cancel = session.cancelled();
    let mut task = AssertUnwindSafe(service.serve(conn, session.clone())).catch_unwind();
    let (reason, error) = tokio::select! {
        done = &mut task => match outcome(done) {
            // It saw the token before this did.
            ("server", error) if cancel.is_cancelled() => ("shutdown", error),
            other => other,
        },
        () = tokio::time::sleep(limit) => ("limit", None),
        () = cancel.cancelled() => {
            // Services that watch the token get a moment to say goodbye as the real one would.
            match Box::pin(tokio::time::timeout(Duration::from_millis(500), &mut task)).await {
                Ok(done) => { let (_, error) = outcome(done); ("shutdown", error) }
                Err(_) => ("shutdown", None),
            }
        }
    };
    // The connection ends with the service, not with the record of its end.
    drop(task);
    Box::pin(session.close(reason, error, Duration::from_secs(2))).await;
    true
}

fn outcome(done: std::thread::Result<Outcome>) -> (&'static str, Option<String>) {
    match done {
        Ok(Outcome::Error(text)) => ("error", Some(text)),
        Ok(outcome) => (outcome.reason(), None),
        Err(_) => ("panic", None),
    }
}

/// A [`BoxFuture`] of a service.
pub type Serving = BoxFuture<'static, Outcome>;

#[cfg(test)]
mod tests {
    #[test]
    fn random_parts_of_ids_differ() {
        let drawn: std::collections::BTreeSet<_> = (0..1000).map(|_| super::random()).collect();
        assert_eq!(drawn.len(), 1000);
    }
}
