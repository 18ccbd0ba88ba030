//! TLS as a service's face: a certificate the persona keeps, the visitor's hello recorded, and the
//! handshake's secrets handed to the record. It must never choose its answer by who asks.
//!
//! rustls speaks TLS 1.2 and 1.3; older hellos and what is no hello get the alert bytes OpenSSL 3
//! behind nginx sends, by hand.

mod certificate;

use crate::conn::{Conn, Duplex};
use crate::persona::Decoy;
use crate::services::Outcome;
use crate::session::{Session, clip};
use glasshive_event::detail::Hello;
use glasshive_event::text::hex;
use glasshive_proto::ja::{self, Carrier};
use glasshive_proto::reader::Parsed;
use glasshive_proto::tls::{self, ClientHello, alerts};
use rustls::{KeyLog, ServerConfig};
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::AsyncWriteExt as _;
use tokio_rustls::TlsAcceptor;

/// nginx gives a handshake as long as a request's head (`client_header_timeout`).
const HANDSHAKE_TIME: Duration = Duration::from_secs(60);
/// Longest hello read, records included; OpenSSL takes messages of 16 KiB.
const MAX_HELLO: usize = 20 * 1024;
/// Application protocols kept of a hello.
const MAX_ALPN: usize = 16;
/// Cipher suites kept of a hello.
const MAX_CIPHERS: usize = 512;

/// The TLS face of one service: certificate, key and versions.
#[derive(Clone)]
pub struct Profile(Arc<ServerConfig>);

impl Profile {
    /// The profile kept under `label` in the decoy's key store; key and certificate are made the first time.
    ///
    /// # Errors
    /// One line saying what could not be made, read or used.
    pub fn new(decoy: &Decoy, label: &str) -> Result<Self, String> {
        let (chain, key) = certificate::kept(decoy, label)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
            .map_err(|error| format!("{label}: the kept certificate does not serve: {error}; remove it to have it made again"))?;
        // As nginx without http2; a client that offers none of these gets no_application_protocol there too.
        config.alpn_protocols = [&b"http/1.1"[..], b"http/1.0", b"http/0.9"].map(<[u8]>::to_vec).to_vec();
        // Debian's nginx.conf: ssl_prefer_server_ciphers on.
        config.ignore_client_order = true;
        config.ticketer = rustls::crypto::ring::Ticketer::new().map_err(|error| format!("{label}: no ticket keys: {error}"))?;
        Ok(Self(Arc::new(config)))
    }

    /// The same face with other application protocols (none: the extension is ignored).
    #[must_use]
    pub fn with_alpn(&self, protocols: &[&[u8]]) -> Self {
        let mut config = (*self.0).clone();
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        Self(Arc::new(config))
    }
}

/// Gathers one handshake's secrets as SSLKEYLOGFILE lines.
#[derive(Debug, Default)]
struct Lines(Mutex<String>);

/// More than any handshake makes; renewed keys must not grow it.
const MAX_LINES: usize = 4 * 1024;

impl KeyLog for Lines {
    fn log(&self, label: &str, client_random: &[u8], secret: &[u8]) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() < MAX_LINES {
            let _ = writeln!(lines, "{label} {} {}", hex(client_random), hex(secret));
        }
    }
}

impl Duplex for tokio_rustls::server::TlsStream<Conn> {
    fn reset_on_drop(&mut self) {
        self.get_mut().0.reset();
    }
}

impl Conn {
    /// Speaks TLS from here on: records the visitor's hello, shakes hands and gives the inner stream.
    ///
    /// # Errors
    /// How the session ended instead, after the alert a real server sends.
    pub async fn upgrade_tls(self, session: &Session, profile: &Profile) -> Result<Conn, Outcome> {
        let idle = self.idle();
        let shake = shake(self, session, profile);
        let stream = tokio::time::timeout(HANDSHAKE_TIME, shake).await.unwrap_or(Err(Outcome::Timeout))?;
        Ok(Conn::wrapped(stream, idle))
    }
}

async fn shake(mut conn: Conn, session: &Session, profile: &Profile) -> Result<tokio_rustls::server::TlsStream<Conn>, Outcome> {
    conn.set_idle(HANDSHAKE_TIME);
    let hello = read_hello(&mut conn, session).await?;
    session.hello(&describe(&hello)).await;
    if let Some(bytes) = too_old(&hello) {
        session.malformed("tls", "TLS version too old", 0, &conn.peek(0).await?).await;
        return Err(say_goodbye(conn, &bytes).await);
    }
    // Under TLS the wrapper's idle deadline rules; the transport's must not fire before it.
    conn.set_idle(session.decoy().limits.session.saturating_add(HANDSHAKE_TIME));
    let lines = Arc::new(Lines::default());
    let mut config = (*profile.0).clone();
    config.key_log = Arc::clone(&lines) as Arc<dyn KeyLog>;
    match TlsAcceptor::from(Arc::new(config)).accept(conn).into_fallible().await {
        Ok(stream) => {
            let lines = std::mem::take(&mut *lines.0.lock().unwrap_or_else(PoisonError::into_inner));
            session.tls_secret(&lines).await;
            Ok(stream)
        }
        Err((error, conn)) => {
            // Why the visitor broke off may stand in what is encrypted already: an alert over our certificate.
            let lines = std::mem::take(&mut *lines.0.lock().unwrap_or_else(PoisonError::into_inner));
            if !lines.is_empty() {
                session.tls_secret(&lines).await;
            }
            session.malformed("tls", &format!("TLS handshake: {error}"), 0, &[]).await;
            if error.kind() == std::io::ErrorKind::UnexpectedEof {
                return Err(Outcome::Client);
            }
            // rustls has sent its alert already.
            Err(say_goodbye(conn, &[]).await)
        }
    }
}

/// Reads the hello and leaves it in front of the stream.
async fn read_hello(conn: &mut Conn, session: &Session) -> Result<ClientHello, Outcome> {
    let mut want = 5;
    loop {
        let bytes = conn.peek(want).await?;
        let (at, what) = match tls::client_hello(&bytes) {
            Parsed::Done { value, .. } => return Ok(value),
            Parsed::Malformed { offset, what } => (offset, what),
            Parsed::Incomplete { .. } if bytes.len() >= MAX_HELLO => (bytes.len(), "TLS hello too long"),
            Parsed::Incomplete { needed } => {
                if bytes.len() < want {
                    // The visitor closed or went silent within its hello.
                    if !bytes.is_empty() {
                        session.malformed("tls", "TLS hello cut off", 0, &bytes).await;
                    }
                    let closed = conn.counters().visitor_closed.load(std::sync::atomic::Ordering::Relaxed);
                    return Err(if closed { Outcome::Client } else { Outcome::Timeout });
                }
                want = bytes.len().saturating_add(needed.max(1)).min(MAX_HELLO);
                continue;
            }
        };
        session.malformed("tls", what, at as u64, bytes.get(at.min(bytes.len())..).unwrap_or_default()).await;
        let alert = match what {
            // OpenSSL says nothing to what does not look like TLS.
            "TLS record version" => None,
            "TLS record length" => Some(alerts::RECORD_OVERFLOW),
            "not a TLS client hello" => Some(alerts::UNEXPECTED_MESSAGE),
            "TLS hello too long" => Some(alerts::ILLEGAL_PARAMETER),
            _ => Some(alerts::DECODE_ERROR),
        };
        let bytes = alert.map(|alert| tls::alert(alerts::FATAL, alert, 0x0303));
        let conn = std::mem::replace(conn, Conn::wrapped(tokio::io::duplex(1).0, Duration::ZERO));
        return Err(say_goodbye(conn, bytes.as_ref().map_or(&[][..], |bytes| bytes)).await);
    }
}

/// What OpenSSL 3 answers a client that knows nothing newer than TLS 1.1.
fn too_old(hello: &ClientHello) -> Option<[u8; 7]> {
    match hello.highest_version() {
        Some(version @ (0x0301 | 0x0302)) => {
            // Debian's nginx.conf enables these versions, its OpenSSL then finds no signature allowed for them.
            Some(tls::alert(alerts::FATAL, alerts::INTERNAL_ERROR, version))
        }
        Some(version) if version >= 0x0303 => None,
        _ => Some(tls::alert(alerts::FATAL, alerts::PROTOCOL_VERSION, hello.version.clamp(0x0300, 0x0303))),
    }
}

/// Sends the last bytes and reads what is still coming, so that they are not lost to a reset.
async fn say_goodbye(mut conn: Conn, bytes: &[u8]) -> Outcome {
    conn.set_idle(Duration::from_secs(5));
    let said = async {
        conn.write_all(bytes).await?;
        conn.shutdown().await?;
        let mut dropped = 0;
        while dropped < 64 * 1024 {
            match conn.read_some(16 * 1024).await?.len() {
                0 => break,
                n => dropped += n,
            }
        }
        Ok::<_, std::io::Error>(())
    };
    // Whether they arrived changes nothing any more: we ended it.
    let _ = said.await;
    Outcome::Server
}

fn describe(hello: &ClientHello) -> Hello {
    Hello {
        protocol: "tls".into(),
        ja3: Some(ja::ja3(hello)),
        ja4: Some(ja::ja4(hello, Carrier::Tcp)),
        sni: hello.sni.as_deref().map(clip),
        alpn: hello.alpn.iter().take(MAX_ALPN).map(|name| String::from_utf8_lossy(name).into_owned()).collect(),
        version: hello.highest_version().map(|version| tls::version_name(version).into_owned()),
        ciphers: hello.ciphers.iter().take(MAX_CIPHERS).copied().collect(),
        ..Hello::default()
    }
}
