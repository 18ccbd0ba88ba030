//! SSH: an OpenSSH server of the claimed release in front of the pretended machine.
//!
//! Until the visitor's identification line is there only a small buffer is held; then stock russh takes
//! the stream over (`ssh/wire.rs`). It must never dial: forwards are answered in process or refused.

pub(in crate::services) mod backlog;
mod channel;
mod claims;
mod hostkeys;
mod ident;
pub(in crate::services) mod seat;
mod visit;
mod wire;

use super::{Build, Outcome, Service, ServiceDef};
use crate::conn::Conn;
use crate::persona::Seed;
use crate::recorder::BoxFuture;
use crate::session::Session;
use glasshive_event::Transport;
use ident::{Ident, Verdict};
use russh::server::Config;
use russh::{MethodKind, MethodSet, SshId};
use serde::Deserialize;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio_util::sync::CancellationToken;
use visit::Visit;
use wire::Wire;

/// The row of the services table.
pub(super) static SERVICE: ServiceDef = ServiceDef {
    name: "ssh",
    transports: &[Transport::Tcp],
    default_ports: &[22],
    passive: false,
    protocol: "ssh",
    summary: "OpenSSH with a shell, exec, forwards and a pretended Debian behind it",
    build,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Settings {
    /// Software version of the banner; drawn from the seed when absent.
    version: Option<String>,
    /// Whether `keyboard-interactive` is offered too.
    keyboard_interactive: bool,
    /// Failed attempts after which the server disconnects.
    max_auth_tries: u32,
    /// Seconds a visitor has to log in.
    login_grace_time: u64,
    /// Middle of the delay of a failed password, milliseconds.
    fail_delay_ms: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { version: None, keyboard_interactive: false, max_auth_tries: 6, login_grace_time: 120, fail_delay_ms: 2000 }
    }
}

/// What every visit of one decoy's SSH shares.
struct Shared {
    banner: String,
    config: Arc<Config>,
    methods: MethodSet,
    max_auth_tries: u32,
    grace: Duration,
    fail_delay: Duration,
    seed: Seed,
}

struct Ssh(Arc<Shared>);

fn build(build: &Build<'_>) -> Result<Arc<dyn Service>, String> {
    let settings: Settings = build.settings()?;
    let decoy = build.decoy;
    let version = claims::version(&decoy.os, &decoy.seed, settings.version.as_deref())?;
    if !(1..=100).contains(&settings.max_auth_tries) {
        return Err("max_auth_tries: must be 1 to 100".into());
    }
    if !(1..=3600).contains(&settings.login_grace_time) {
        return Err("login_grace_time: must be 1 to 3600 seconds".into());
    }
    let mut methods = MethodSet::from(&[MethodKind::PublicKey, MethodKind::Password][..]);
    if settings.keyboard_interactive {
        methods.push(MethodKind::KeyboardInteractive);
    }
    decoy.pretended.ssh_version(&version);
    let config = Config {
        server_id: SshId::Standard(format!("SSH-2.0-{version}").into()),
        methods: methods.clone(),
        auth_rejection_time: Duration::ZERO,
        auth_rejection_time_initial: Some(Duration::ZERO),
        keys: hostkeys::load(decoy)?,
        window_size: 2 * 1024 * 1024,
        maximum_packet_size: 32 * 1024,
        channel_buffer_size: 1,
        event_buffer_size: 8,
        preferred: claims::preferred(),
        // Counted in `visit.rs`, with OpenSSH's rules and its words.
        max_auth_attempts: 0,
        inactivity_timeout: None,
        keepalive_interval: None,
        nodelay: false,
        ..Config::default()
    };
    Ok(Arc::new(Ssh(Arc::new(Shared {
        banner: format!("SSH-2.0-{version}\r\n"),
        config: Arc::new(config),
        methods,
        max_auth_tries: settings.max_auth_tries,
        grace: Duration::from_secs(settings.login_grace_time),
        fail_delay: Duration::from_millis(settings.fail_delay_ms),
        seed: decoy.seed.derive("ssh"),
    }))))
}

impl Service for Ssh {
    fn serve(&self, conn: Conn, session: Session) -> BoxFuture<'static, Outcome> {
        let shared = Arc::clone(&self.0);
        Box::pin(async move {
            let until = tokio::time::Instant::now() + shared.grace;
            let (conn, id) = match tokio::time::timeout_at(until, greet(conn, &session, &shared.banner)).await {
                Ok(Greeted::On(conn, id)) => (conn, id),
                Ok(Greeted::Over(outcome)) => return outcome,
                Err(_) => return Outcome::Timeout,
            };
            // Boxed apart, so that a visitor who says nothing does not hold the room of one who does.
            Box::pin(talk(conn, session, shared, id, until)).await
        })
    }
}

enum Greeted {
    On(Conn, Vec<u8>),
    Over(Outcome),
}

/// Sends our line and reads the visitor's, as sshd does before anything else.
async fn greet(mut conn: Conn, session: &Session, banner: &str) -> Greeted {
    if let Err(error) = conn.write_all(banner.as_bytes()).await {
        return Greeted::Over(error.into());
    }
    let mut ident = Ident::default();
    // The first bytes as sent, for the record of what is no identification line.
    let mut head = Vec::new();
    loop {
        let bytes = match conn.read_some(256).await {
            Ok(bytes) if !bytes.is_empty() => bytes,
            other => {
                if !head.is_empty() {
                    session.malformed("ssh", "identification line without an end", 0, &head).await;
                }
                return Greeted::Over(other.map_or_else(Outcome::from, |_| Outcome::Client));
            }
        };
        head.extend(bytes.iter().take(crate::session::MALFORMED_BYTES.saturating_sub(head.len())));
        let (used, verdict) = ident.push(&bytes);
        let rest = bytes.slice(used..);
        match verdict {
            None => {}
            Some(Verdict::Go(id)) => {
                if !rest.is_empty() {
                    conn.unread(rest);
                }
                return Greeted::On(conn, id);
            }
            Some(Verdict::Hang(_)) => {
                wire::greet_without_kexinit(session, ident.line()).await;
                return Greeted::Over(Outcome::Server);
            }
            Some(Verdict::Refuse { says, what }) => {
                session.malformed("ssh", what, 0, &head).await;
                let _ = conn.write_all(says.as_bytes()).await;
                let _ = conn.flush().await;
                if rest.is_empty() {
                    let _ = conn.write_all(b"\r\n").await;
                    let _ = conn.shutdown().await;
                } else {
                    // sshd dies with input unread: the kernel resets, and the line end written after the
                    // text is still waiting for its acknowledgement.
                    conn.reset();
                }
                return Greeted::Over(Outcome::Server);
            }
        }
    }
}

/// Everything after the identification lines.
async fn talk(conn: Conn, session: Session, shared: Arc<Shared>, id: Vec<u8>, until: tokio::time::Instant) -> Outcome {
    let stop = CancellationToken::new();
    let _dropped = stop.clone().drop_guard();
    let counters = conn.counters();
    let entered = Arc::new(AtomicBool::new(false));
    let handle = Arc::new(OnceLock::new());
    let visit = Visit::new(session.clone(), Arc::clone(&shared), Arc::clone(&handle), Arc::clone(&entered));
    let wire = Wire::new(conn, session.clone(), id, visit.backlog(), stop.clone());
    let said_goodbye = visit.said_goodbye();
    let mut running = match russh::server::run_stream(Arc::clone(&shared.config), wire, visit).await {
        Ok(running) => running,
        Err(error) => return ended(&session, error, &counters).await,
    };
    let _ = handle.set(running.handle());
    let cancelled = session.cancelled();
    let late = async {
        tokio::time::sleep_until(until).await;
        // In time: there is no other limit here.
        while entered.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
    };
    let over = tokio::select! {
        result = &mut running => Err(result),
        () = late => Ok(Outcome::Timeout),
        () = cancelled.cancelled() => Ok(Outcome::Server),
    };
    let result = match over {
        Err(result) => result,
        Ok(outcome) => {
            // The visitor's last records are written before the session closes.
            stop.cancel();
            let _ = tokio::time::timeout(Duration::from_millis(400), running).await;
            return outcome;
        }
    };
    match result {
        Ok(()) if said_goodbye.load(Ordering::Relaxed) => Outcome::Server,
        Ok(()) => Outcome::Client,
        Err(error) => ended(&session, error, &counters).await,
    }
}

/// What the end of russh's session says about the visitor.
async fn ended(session: &Session, error: russh::Error, counters: &crate::conn::Counters) -> Outcome {
    use russh::Error;
    let what = match error {
        Error::IO(error) => return Outcome::from_io(&error),
        Error::Disconnect | Error::HUP | Error::SendError => return Outcome::Client,
        // The lists are in the visitor's hello; sshd closes without a word.
        Error::NoCommonAlgo { .. } | Error::UnknownAlgo => return Outcome::Server,
        Error::InactivityTimeout | Error::ConnectionTimeout | Error::KeepaliveTimeout => return Outcome::Timeout,
        Error::Join(_) => return Outcome::Error("the SSH session's task failed".into()),
        other => other.to_string(),
    };
    let offset = counters.bytes_in.load(Ordering::Relaxed);
    session.malformed("ssh", &what, offset, b"").await;
    Outcome::Server
}

#[cfg(test)]
mod tests;
