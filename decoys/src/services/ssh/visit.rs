//! One visitor as russh reports him: authentication by the persona's policy with sshd's counting, and
//! channels, each handed to a task of its own. It must never wait for a channel's task without bound:
//! the same loop carries the window the task may be waiting for.

use super::Shared;
use super::backlog::Backlog;
use super::channel::{self, Task};
use super::seat::{Event, Queued};
use crate::session::{Credential, Session, clip};
use crate::system::Tty;
use bytes::Bytes;
use glasshive_event::detail::{Forward, Request};
use glasshive_event::{Kind, Transport};
use russh::keys::ssh_key::{Certificate, HashAlg, PublicKey};
use russh::server::{self, Auth, ChannelOpenHandle, Handle, Msg, PublicKeyOffer, Response, VerifiedPublicKey};
use russh::{Channel, ChannelId, ChannelOpenFailure, ChannelWriteHalf, Disconnect, Error, Pty, Sig};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};

/// Session channels at once, sshd's MaxSessions.
const MAX_SESSIONS: usize = 10;
/// Forwarded connections at once.
const MAX_FORWARDS: usize = 64;
/// Records of side requests (env, signals, refused forwards) of one visitor; more is counted.
const MAX_REQUESTS: u32 = 256;
/// Variables of one channel that are kept.
const MAX_ENVIRONMENT: usize = 32;

/// See the module.
pub(super) struct Visit {
    session: Session,
    shared: Arc<Shared>,
    handle: Arc<OnceLock<Handle>>,
    entered: Arc<AtomicBool>,
    goodbye: Arc<AtomicBool>,
    user: Option<String>,
    attempts: u32,
    failures: u32,
    requests: u32,
    remote_forwards: u32,
    channels: HashMap<ChannelId, Slot>,
    sessions: Arc<AtomicUsize>,
    forwards: Arc<AtomicUsize>,
    backlog: Arc<Backlog>,
    gone: CancellationToken,
    _left: DropGuard,
}

/// One of a limited number of places, given back when dropped.
pub(super) struct Place(Arc<AtomicUsize>);

impl Place {
    fn take(of: &Arc<AtomicUsize>, limit: usize) -> Option<Self> {
        of.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| (n < limit).then_some(n + 1)).ok()?;
        Some(Self(Arc::clone(of)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

struct Slot {
    events: mpsc::UnboundedSender<Queued>,
    tty: Option<Tty>,
    environment: Vec<(String, String)>,
    /// What the task needs; taken when it starts.
    start: Option<(ChannelWriteHalf<Msg>, mpsc::UnboundedReceiver<Queued>, Place)>,
}

impl Visit {
    pub(super) fn new(session: Session, shared: Arc<Shared>, handle: Arc<OnceLock<Handle>>, entered: Arc<AtomicBool>) -> Self {
        let gone = CancellationToken::new();
        Self {
            session,
            shared,
            handle,
            entered,
            goodbye: Arc::default(),
            user: None,
            attempts: 0,
            failures: 0,
            requests: 0,
            remote_forwards: 0,
            channels: HashMap::new(),
            sessions: Arc::default(),
            backlog: Arc::default(),
            forwards: Arc::default(),
            _left: gone.clone().drop_guard(),
            gone,
        }
    }

    /// The input that waits for this visit's tasks.
    pub(super) fn backlog(&self) -> Arc<Backlog> {
        Arc::clone(&self.backlog)
    }

    /// Set when the server disconnected the visitor.
    pub(super) fn said_goodbye(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.goodbye)
    }

    async fn goodbye(&self, text: String) {
        self.goodbye.store(true, Ordering::Relaxed);
        if let Some(handle) = self.handle.get() {
            let _ = handle.disconnect(Disconnect::ProtocolError, text, String::new()).await;
        }
    }

    /// Counts the attempt; `false` when the visitor was already told to go.
    async fn attempt(&mut self, user: &str) -> bool {
        self.attempts = self.attempts.saturating_add(1);
        match &self.user {
            None => self.user = Some(user.chars().take(256).collect()),
            Some(first) if first != user => {
                if !self.goodbye.load(Ordering::Relaxed) {
                    let text = format!("Change of username or service not allowed: ({first},ssh-connection) -> ({user},ssh-connection)");
                    self.goodbye(text.chars().take(512).collect()).await;
                }
                return false;
            }
            Some(_) => {}
        }
        !self.goodbye.load(Ordering::Relaxed)
    }

    /// A failed attempt: sshd's count, its words at the end, its time.
    async fn reject(&mut self, method: &str, delay: bool) -> Auth {
        if self.attempts > 1 || method != "none" {
            self.failures = self.failures.saturating_add(1);
        }
        if delay {
            self.fail_delay().await;
        }
        if self.failures >= self.shared.max_auth_tries && !self.goodbye.load(Ordering::Relaxed) {
            self.goodbye("Too many authentication failures".into()).await;
        }
        Auth::Reject { proceed_with_methods: Some(self.shared.methods.clone()), partial_success: false }
    }

    /// Linux-PAM's fail delay: the base, times the mean of three draws between a half and one and a half.
    async fn fail_delay(&self) {
        let label = format!("fail/{}/{}", self.session.id(), self.attempts);
        let draw = |n: u8| self.shared.seed.below(&format!("{label}/{n}"), 1_000_000);
        let mean = draw(0).saturating_add(draw(1)).saturating_add(draw(2)) / 3;
        let nanos = u64::try_from(self.shared.fail_delay.as_nanos()).unwrap_or(u64::MAX);
        // base × (0.5 + mean), in millionths
        let delay = nanos.saturating_mul(mean.saturating_add(500_000)) / 1_000_000;
        tokio::time::sleep(Duration::from_nanos(delay)).await;
    }

    async fn password(&mut self, user: &str, method: &str, secret: &[u8]) -> Auth {
        if self.session.login(user.as_bytes(), method, Credential::Plain(secret)).await {
            return Auth::Accept;
        }
        self.reject(method, true).await
    }

    /// Records a request beside the channels' own work; a visitor's flood of them is counted, not kept.
    async fn note(&mut self, verb: &str, target: &[u8], fields: &[(&str, serde_json::Value)], status: &str) {
        self.requests = self.requests.saturating_add(1);
        if self.requests > MAX_REQUESTS {
            self.session.count_cut(target.len() as u64);
            return;
        }
        let fields = fields.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        let request =
            Request { protocol: "ssh".into(), verb: clip(verb.as_bytes()), target: clip(target), status: Some(status.into()), fields };
        self.session.request(&request).await;
    }

    async fn forward(&mut self, mechanism: &str, host: &[u8], port: u32, originator: Option<String>) {
        self.requests = self.requests.saturating_add(1);
        if self.requests > MAX_REQUESTS {
            self.session.count_cut(host.len() as u64);
            return;
        }
        let forward = Forward { host: clip(host), port, mechanism: mechanism.into(), originator, ..Forward::default() };
        self.session.emit(Kind::Forward, &forward).await;
    }

    /// Makes room for a channel's bytes and remembers it.
    fn seat(&mut self, channel: Channel<Msg>, place: Place) -> ChannelId {
        self.channels.retain(|_, slot| !slot.events.is_closed());
        let id = channel.id();
        // Input comes through the callbacks below; russh's own queue of the channel is given up.
        let (_, write) = channel.split();
        #[allow(clippy::disallowed_methods, reason = "bounded by the backlog: the stream is not read while it is full")]
        let (events, received) = mpsc::unbounded_channel();
        self.channels.insert(id, Slot { events, tty: None, environment: Vec::new(), start: Some((write, received, place)) });
        id
    }

    /// Queues an event for a channel's task; the stream is not read while too much is queued.
    fn give(&self, id: ChannelId, event: Event) {
        if let Some(slot) = self.channels.get(&id)
            && !slot.events.is_closed()
        {
            let bytes = if let Event::Data(bytes) = &event { bytes.len() } else { 0 };
            let _ = slot.events.send((event, self.backlog.add(bytes)));
        }
    }

    fn task(&mut self, id: ChannelId) -> Option<(Task, Option<Tty>)> {
        let slot = self.channels.get_mut(&id)?;
        let (write, events, place) = slot.start.take()?;
        let task = Task {
            session: self.session.clone(),
            user: self.user.clone().unwrap_or_default(),
            environment: std::mem::take(&mut slot.environment),
            write,
            events,
            gone: self.gone.clone(),
            place,
        };
        Some((task, slot.tty.clone()))
    }
}

/// What sshd answers for a target nothing of ours stands for. Nothing is looked up or dialled.
fn refusal(host: &str, session: &Session) -> &'static str {
    match host.parse::<std::net::IpAddr>() {
        Ok(ip) if ip.is_loopback() || ip.is_unspecified() || session.decoy().addresses.contains(&ip) => "Connection refused",
        Ok(_) => "No route to host",
        Err(_) if host.eq_ignore_ascii_case("localhost") || host.eq_ignore_ascii_case(&session.decoy().hostname) => "Connection refused",
        Err(_) => "Temporary failure in name resolution",
    }
}

const CONNECT_FAILED: u32 = 2;

fn failed(reason: &str) -> ChannelOpenFailure {
    ChannelOpenFailure::Other { code: CONNECT_FAILED, reason: reason.to_owned() }
}

fn describe(key: &PublicKey) -> (String, String) {
    let plain = PublicKey::new(key.key_data().clone(), "");
    (plain.to_openssh().unwrap_or_default(), key.fingerprint(HashAlg::Sha256).to_string())
}

fn small(n: u32) -> u16 {
    u16::try_from(n).unwrap_or(u16::MAX)
}

impl server::Handler for Visit {
    type Error = Error;

    async fn auth_none(&mut self, user: &str) -> Result<Auth, Error> {
        if !self.attempt(user).await {
            return Ok(self.reject("none", false).await);
        }
        if self.session.login(user.as_bytes(), "none", Credential::None).await {
            return Ok(Auth::Accept);
        }
        Ok(self.reject("none", false).await)
    }

    async fn auth_password(&mut self, user: &str, password: &str) -> Result<Auth, Error> {
        if !self.attempt(user).await {
            return Ok(self.reject("password", false).await);
        }
        Ok(self.password(user, "password", password.as_bytes()).await)
    }

    async fn auth_keyboard_interactive<'a>(&'a mut self, user: &str, _: &str, response: Option<Response<'a>>) -> Result<Auth, Error> {
        if !self.shared.methods.contains(&russh::MethodKind::KeyboardInteractive) {
            self.attempt(user).await;
            return Ok(self.reject("keyboard-interactive", false).await);
        }
        match response {
            None if !self.attempt(user).await => Ok(self.reject("keyboard-interactive", false).await),
            None => Ok(Auth::Partial { name: "".into(), instructions: "".into(), prompts: vec![("Password: ".into(), false)].into() }),
            Some(mut response) => {
                let secret = response.next().unwrap_or_default();
                Ok(self.password(user, "keyboard-interactive", &secret).await)
            }
        }
    }

    async fn auth_publickey_offered(&mut self, user: &str, offer: PublicKeyOffer<'_>) -> Result<Auth, Error> {
        if !self.attempt(user).await {
            return Ok(self.reject("publickey", false).await);
        }
        let (openssh, fingerprint) = describe(offer.public_key);
        let offered = Credential::PublicKey { openssh: &openssh, fingerprint: &fingerprint, signed: false };
        self.session.login_as(user.as_bytes(), "publickey", offered, false).await;
        if self.session.decoy().policy.knows_key(user.as_bytes(), &fingerprint) {
            return Ok(Auth::Accept);
        }
        Ok(self.reject("publickey", false).await)
    }

    async fn auth_publickey(&mut self, user: &str, key: VerifiedPublicKey<'_>) -> Result<Auth, Error> {
        if !self.attempt(user).await {
            return Ok(self.reject("publickey", false).await);
        }
        let (openssh, fingerprint) = describe(key.public_key);
        let credential = Credential::PublicKey { openssh: &openssh, fingerprint: &fingerprint, signed: true };
        if self.session.login(user.as_bytes(), "publickey", credential).await {
            return Ok(Auth::Accept);
        }
        Ok(self.reject("publickey", false).await)
    }

    async fn auth_openssh_certificate(&mut self, user: &str, certificate: &Certificate) -> Result<Auth, Error> {
        if !self.attempt(user).await {
            return Ok(self.reject("publickey", false).await);
        }
        // No authority is trusted: the key is recorded, the certificate opens nothing.
        let (openssh, fingerprint) = describe(&PublicKey::new(certificate.public_key().clone(), ""));
        let credential = Credential::PublicKey { openssh: &openssh, fingerprint: &fingerprint, signed: true };
        self.session.login_as(user.as_bytes(), "publickey", credential, false).await;
        Ok(self.reject("publickey", false).await)
    }

    async fn auth_succeeded(&mut self, _: &mut server::Session) -> Result<(), Error> {
        self.entered.store(true, Ordering::Relaxed);
        Ok(())
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _: &mut server::Session,
    ) -> Result<(), Error> {
        match Place::take(&self.sessions, MAX_SESSIONS) {
            Some(place) => {
                self.seat(channel, place);
                reply.accept().await;
            }
            None => {
                self.note("session", b"", &[], "refused: MaxSessions").await;
                reply.reject(failed("open failed")).await;
            }
        }
        Ok(())
    }

    async fn channel_open_direct_tcpip(
        &mut self,
        channel: Channel<Msg>,
        host: &str,
        port: u32,
        originator: &str,
        originator_port: u32,
        reply: ChannelOpenHandle,
        _: &mut server::Session,
    ) -> Result<(), Error> {
        let origin: String = format!("{originator}:{originator_port}").chars().take(256).collect();
        let Some((place, port)) = Place::take(&self.forwards, MAX_FORWARDS).zip(u16::try_from(port).ok()) else {
            self.forward("direct-tcpip", host.as_bytes(), port, Some(origin)).await;
            reply.reject(failed("open failed")).await;
            return Ok(());
        };
        let number = Some(channel.id().number());
        let Some(conn) = self.session.child_on(number, host.as_bytes(), port, Transport::Tcp, "direct-tcpip", Some(origin)).await else {
            reply.reject(failed(refusal(host, &self.session))).await;
            return Ok(());
        };
        let id = self.seat(channel, place);
        reply.accept().await;
        if let Some((task, _)) = self.task(id) {
            self.session.spawn(channel::forward(task, conn));
        }
        Ok(())
    }

    async fn channel_open_direct_streamlocal(
        &mut self,
        _: Channel<Msg>,
        path: &str,
        reply: ChannelOpenHandle,
        _: &mut server::Session,
    ) -> Result<(), Error> {
        self.forward("streamlocal", path.as_bytes(), 0, None).await;
        reply.reject(failed("open failed")).await;
        Ok(())
    }

    async fn channel_open_x11(
        &mut self,
        _: Channel<Msg>,
        address: &str,
        port: u32,
        reply: ChannelOpenHandle,
        _: &mut server::Session,
    ) -> Result<(), Error> {
        self.forward("x11", address.as_bytes(), port, None).await;
        reply.reject(failed("open failed")).await;
        Ok(())
    }

    async fn channel_open_forwarded_tcpip(
        &mut self,
        _: Channel<Msg>,
        host: &str,
        port: u32,
        originator: &str,
        originator_port: u32,
        reply: ChannelOpenHandle,
        _: &mut server::Session,
    ) -> Result<(), Error> {
        let origin = format!("{originator}:{originator_port}").chars().take(256).collect();
        self.forward("forwarded-tcpip", host.as_bytes(), port, Some(origin)).await;
        reply.reject(failed("open failed")).await;
        Ok(())
    }

    async fn channel_close(&mut self, id: ChannelId, _: &mut server::Session) -> Result<(), Error> {
        self.channels.remove(&id);
        Ok(())
    }

    async fn channel_eof(&mut self, id: ChannelId, _: &mut server::Session) -> Result<(), Error> {
        self.give(id, Event::Eof);
        Ok(())
    }

    async fn data(&mut self, id: ChannelId, data: &[u8], _: &mut server::Session) -> Result<(), Error> {
        self.give(id, Event::Data(Bytes::copy_from_slice(data)));
        Ok(())
    }

    async fn pty_request(
        &mut self,
        id: ChannelId,
        term: &str,
        columns: u32,
        rows: u32,
        _: u32,
        _: u32,
        _: &[(Pty, u32)],
        session: &mut server::Session,
    ) -> Result<(), Error> {
        let slot = self.channels.get_mut(&id).filter(|slot| slot.start.is_some() && slot.tty.is_none());
        let Some(slot) = slot else { return session.channel_failure(id) };
        slot.tty = Some(Tty { term: term.chars().take(64).collect(), columns: small(columns), rows: small(rows) });
        self.session.terminal(id.number(), columns, rows);
        session.channel_success(id)
    }

    async fn window_change_request(
        &mut self,
        id: ChannelId,
        columns: u32,
        rows: u32,
        _: u32,
        _: u32,
        _: &mut server::Session,
    ) -> Result<(), Error> {
        self.session.terminal(id.number(), columns, rows);
        self.give(id, Event::Resize(small(columns), small(rows)));
        Ok(())
    }

    async fn env_request(&mut self, id: ChannelId, name: &str, value: &str, session: &mut server::Session) -> Result<(), Error> {
        // Debian's sshd_config: AcceptEnv LANG LC_*
        let accepted = name == "LANG" || name.starts_with("LC_");
        let value: String = value.chars().take(1024).collect();
        if let Some(slot) = self.channels.get_mut(&id).filter(|slot| accepted && slot.environment.len() < MAX_ENVIRONMENT) {
            slot.environment.push((name.chars().take(64).collect(), value.clone()));
        }
        self.note("env", name.as_bytes(), &[("value", value.into())], if accepted { "accepted" } else { "refused" }).await;
        if accepted { session.channel_success(id) } else { session.channel_failure(id) }
    }

    async fn shell_request(&mut self, id: ChannelId, session: &mut server::Session) -> Result<(), Error> {
        let Some((task, tty)) = self.task(id) else { return session.channel_failure(id) };
        session.channel_success(id)?;
        self.session.spawn(channel::shell(task, tty));
        Ok(())
    }

    async fn exec_request(&mut self, id: ChannelId, command: &[u8], session: &mut server::Session) -> Result<(), Error> {
        let Some((task, tty)) = self.task(id) else { return session.channel_failure(id) };
        session.channel_success(id)?;
        self.session.spawn(channel::exec(task, tty, command.to_vec()));
        Ok(())
    }

    async fn subsystem_request(&mut self, id: ChannelId, name: &str, session: &mut server::Session) -> Result<(), Error> {
        self.note("subsystem", name.as_bytes(), &[], "refused").await;
        session.channel_failure(id)
    }

    async fn x11_request(
        &mut self,
        id: ChannelId,
        _: bool,
        protocol: &str,
        _: &str,
        screen: u32,
        session: &mut server::Session,
    ) -> Result<(), Error> {
        self.note("x11-req", protocol.as_bytes(), &[("screen", screen.into())], "refused").await;
        session.channel_failure(id)
    }

    async fn agent_request(&mut self, _: ChannelId, _: &mut server::Session) -> Result<bool, Error> {
        self.note("auth-agent-req", b"", &[], "refused").await;
        Ok(false)
    }

    async fn signal(&mut self, id: ChannelId, signal: Sig, _: &mut server::Session) -> Result<(), Error> {
        self.note("signal", format!("{signal:?}").as_bytes(), &[], "accepted").await;
        if matches!(signal, Sig::INT | Sig::TERM | Sig::KILL | Sig::HUP | Sig::QUIT) {
            self.give(id, Event::Interrupt);
        }
        Ok(())
    }

    async fn tcpip_forward(&mut self, address: &str, port: &mut u32, _: &mut server::Session) -> Result<bool, Error> {
        let asked = *port;
        self.forward("tcpip-forward", address.as_bytes(), asked, None).await;
        self.remote_forwards = self.remote_forwards.saturating_add(1);
        // As sshd: a privileged port is root's, and nobody has more than a hundred listeners here.
        let allowed =
            self.remote_forwards <= 100 && asked <= 65_535 && (asked == 0 || asked >= 1024 || self.user.as_deref() == Some("root"));
        if allowed && asked == 0 {
            let label = format!("listen/{}/{}", self.session.id(), self.remote_forwards);
            *port = u32::try_from(self.shared.seed.below(&label, 28_232)).unwrap_or(0).saturating_add(32_768);
        }
        Ok(allowed)
    }

    async fn cancel_tcpip_forward(&mut self, address: &str, port: u32, _: &mut server::Session) -> Result<bool, Error> {
        self.forward("cancel-tcpip-forward", address.as_bytes(), port, None).await;
        Ok(self.remote_forwards > 0)
    }

    async fn streamlocal_forward(&mut self, path: &str, _: &mut server::Session) -> Result<bool, Error> {
        self.forward("streamlocal-forward", path.as_bytes(), 0, None).await;
        Ok(false)
    }
}
