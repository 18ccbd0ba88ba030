//! FTP as Debian's vsftpd 3.0.3 speaks it, passive mode only. Facts were taken from the real daemon
//! run side by side. Every source has files of its own: what it uploads nobody else ever sees.

mod commands;
mod list;
mod transfer;
mod tree;

use super::{Build, Outcome, Service, ServiceDef};
use crate::conn::Conn;
use crate::recorder::BoxFuture;
use crate::session::{Credential, Passive, Session, clip};
use bytes::{Buf as _, BytesMut};
use glasshive_event::Transport;
use glasshive_event::WireText;
use glasshive_event::detail::Request;
use serde::Deserialize;
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tree::Tree;

pub(super) static SERVICE: ServiceDef = ServiceDef {
    name: "ftp",
    transports: &[Transport::Tcp],
    default_ports: &[21],
    passive: true,
    protocol: "ftp",
    summary: "file server (vsftpd) with passive transfers; records logins, commands and files both ways",
    build,
};

/// vsftpd's longest line, its end included.
const MAX_LINE: usize = 4096;
/// `idle_session_timeout`.
const IDLE: Duration = Duration::from_secs(300);
/// `max_login_fails`.
const MAX_FAILS: usize = 3;
/// Trees held; the one unused longest is forgotten first.
const MAX_TREES: usize = 1024;
/// Bytes of all trees together.
const MAX_TOTAL: usize = 128 << 20;

/// Settings of `[service.ftp]`.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Settings {
    /// Whether `anonymous` and `ftp` may log in; Debian's default is no.
    anonymous: bool,
    /// `write_enable`.
    writable: bool,
    /// Files every account sees: absolute path to content.
    files: BTreeMap<String, String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { anonymous: false, writable: true, files: BTreeMap::new() }
    }
}

/// Largest file of a persona file.
const MAX_FILE: usize = 1 << 20;

fn build(build: &Build<'_>) -> Result<Arc<dyn Service>, String> {
    let settings: Settings = build.settings()?;
    for (path, content) in &settings.files {
        if !path.starts_with('/') || path.ends_with('/') || path.contains("..") {
            return Err(format!("files: {path:?} is not the absolute path of a file, such as \"/srv/ftp/price-list.txt\""));
        }
        if content.len() > MAX_FILE {
            return Err(format!("files: {path:?} is larger than {MAX_FILE} bytes; shorten it"));
        }
    }
    let day = 1_725_148_800 + 86_400 * i64::try_from(build.decoy.seed.below("ftp-day", 500)).unwrap_or(0);
    let at = (day + i64::try_from(build.decoy.seed.below("ftp-second", 36_000)).unwrap_or(0)) * 1_000_000_000;
    Ok(Arc::new(Ftp(Arc::new(Server { settings, made_ns: at, trees: Mutex::default(), clients: AtomicUsize::new(0) }))))
}

struct Ftp(Arc<Server>);

/// One server and what its visitors left.
struct Server {
    settings: Settings,
    made_ns: i64,
    trees: Mutex<Trees>,
    clients: AtomicUsize,
}

#[derive(Default)]
struct Trees {
    held: HashMap<(IpAddr, Vec<u8>), (u64, Shared)>,
    clock: u64,
}

/// A tree shared by the connections of one source and account.
type Shared = Arc<Mutex<Tree>>;

impl Service for Ftp {
    fn serve(&self, conn: Conn, session: Session) -> BoxFuture<'static, Outcome> {
        let server = Arc::clone(&self.0);
        Box::pin(async move {
            let clients = Client::new(&server);
            let mut visit = Visit::new(&server, session, clients.count);
            visit.talk(conn).await.unwrap_or_else(Into::into)
        })
    }
}

/// Counts a client while it is served.
struct Client<'a> {
    server: &'a Server,
    count: usize,
}

impl<'a> Client<'a> {
    fn new(server: &'a Server) -> Self {
        Self { server, count: server.clients.fetch_add(1, Ordering::Relaxed) + 1 }
    }
}
impl Drop for Client<'_> {
    fn drop(&mut self) {
        self.server.clients.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Server {
    /// The tree of an account for a source.
    fn tree(&self, source: IpAddr, user: &[u8], uid: u32) -> Shared {
        let mut trees = self.trees.lock().unwrap_or_else(PoisonError::into_inner);
        trees.clock += 1;
        let now = trees.clock;
        let key = (source, user.to_vec());
        if let Some((used, tree)) = trees.held.get_mut(&key) {
            *used = now;
            return Arc::clone(tree);
        }
        let size = |tree: &Shared| tree.lock().unwrap_or_else(PoisonError::into_inner).bytes();
        let mut total: usize = trees.held.values().map(|(_, tree)| size(tree)).sum();
        while trees.held.len() >= MAX_TREES || total > MAX_TOTAL.saturating_sub(tree::MAX_BYTES) {
            let Some(oldest) = trees.held.iter().min_by_key(|(_, (used, _))| *used).map(|(key, _)| key.clone()) else { break };
            if let Some((_, tree)) = trees.held.remove(&oldest) {
                total = total.saturating_sub(size(&tree));
            }
        }
        let name = String::from_utf8_lossy(user);
        let home = if uid == 0 { "/root".to_owned() } else { format!("/home/{name}") };
        let mut tree = Tree::new(&home, uid, self.made_ns);
        for (path, content) in &self.settings.files {
            tree.furnish(path, content.as_bytes(), self.made_ns);
        }
        let tree = Arc::new(Mutex::new(tree));
        trees.held.insert(key, (now, Arc::clone(&tree)));
        tree
    }
}

/// Whoever logged in.
struct Account {
    user: Vec<u8>,
    anonymous: bool,
    tree: Shared,
    cwd: Vec<u8>,
}

/// One control connection.
struct Visit<'a> {
    server: &'a Server,
    session: Session,
    client_count: usize,
    user: Option<Vec<u8>>,
    account: Option<Account>,
    fails: usize,
    passive: Option<Passive>,
    only_epsv: bool,
    binary: bool,
    restart: u64,
    rename: Option<Vec<u8>>,
}

/// What a command comes to.
enum Reply {
    /// These bytes, whose first three are the status.
    Say(Vec<u8>),
    /// These bytes, and the end.
    Last(Vec<u8>),
}

fn say(text: &str) -> Reply {
    Reply::Say(format!("{text}\r\n").into_bytes())
}

impl<'a> Visit<'a> {
    fn new(server: &'a Server, session: Session, client_count: usize) -> Self {
        Self {
            server,
            session,
            client_count,
            user: None,
            account: None,
            fails: 0,
            passive: None,
            only_epsv: false,
            binary: false,
            restart: 0,
            rename: None,
        }
    }

    async fn talk(&mut self, mut conn: Conn) -> io::Result<Outcome> {
        conn.set_idle(IDLE);
        conn.write_all(b"220 (vsFTPd 3.0.3)\r\n").await?;
        let mut buf = BytesMut::new();
        let mut offset = 0u64;
        loop {
            let end = buf.iter().take(MAX_LINE).position(|b| *b == b'\n');
            let Some(end) = end else {
                if buf.len() >= MAX_LINE {
                    self.session.malformed("ftp", "line too long", offset, &buf).await;
                    conn.write_all(b"500 Input line too long.\r\n").await?;
                    return Box::pin(goodbye(conn)).await;
                }
                match conn.read_buf(&mut buf).await {
                    Ok(0) => {
                        if !buf.is_empty() {
                            self.session.malformed("ftp", "line cut off", offset, &buf).await;
                        }
                        return Ok(Outcome::Client);
                    }
                    Ok(_) => continue,
                    Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                        conn.write_all(b"421 Timeout.\r\n").await?;
                        conn.shutdown().await?;
                        return Ok(Outcome::Timeout);
                    }
                    Err(error) => return Err(error),
                }
            };
            let line = buf.split_to(end + 1);
            offset += line.len() as u64;
            let mut line = line.get(..end).unwrap_or_default();
            while let Some(rest) = line.strip_suffix(b"\r") {
                line = rest;
            }
            if line.is_empty() {
                continue;
            }
            let at = line.iter().position(|b| *b == b' ').unwrap_or(line.len());
            let (verb, argument) = (line.get(..at).unwrap_or_default().to_ascii_uppercase(), line.get(at + 1..).unwrap_or_default());
            if !verb.iter().all(u8::is_ascii_graphic) && verb != TELNET_ABOR {
                self.session.malformed("ftp", "command", offset - (end + 1) as u64, line).await;
            }
            // Boxed apart, as all that is only there while a command is answered.
            let reply = Box::pin(self.answer(&mut conn, &verb, argument)).await?;
            let (Reply::Say(bytes) | Reply::Last(bytes)) = &reply;
            Box::pin(self.record(&verb, argument, bytes)).await;
            conn.write_all(bytes).await?;
            if matches!(reply, Reply::Last(_)) {
                return Box::pin(goodbye(conn)).await;
            }
            buf.reserve(64);
            if buf.remaining() == 0 {
                buf.clear();
            }
        }
    }

    /// One command as a request; a password is in the sealed login only.
    async fn record(&mut self, verb: &[u8], argument: &[u8], reply: &[u8]) {
        let target = if verb == b"PASS" && !argument.is_empty() { WireText::from_bytes(b"(sealed in the login)") } else { clip(argument) };
        let mut fields = serde_json::Map::new();
        if let Some(account) = &self.account {
            fields.insert("user".into(), serde_json::to_value(clip(&account.user)).unwrap_or_default());
        }
        let detail = Request {
            protocol: "ftp".into(),
            verb: WireText::from_bytes(verb.get(..verb.len().min(64)).unwrap_or_default()),
            target,
            status: Some(String::from_utf8_lossy(reply.get(..3).unwrap_or_default()).into_owned()),
            fields,
        };
        self.session.request(&detail).await;
    }

    async fn password(&mut self, secret: &[u8]) -> Reply {
        if self.account.is_some() {
            return say("230 Already logged in.");
        }
        let Some(user) = self.user.take() else { return say("503 Login with USER first.") };
        let anonymous = self.server.settings.anonymous && (user.eq_ignore_ascii_case(b"anonymous") || user.eq_ignore_ascii_case(b"ftp"));
        let accepted = if anonymous {
            self.session.login_as(&user, "password", Credential::Plain(secret), true).await;
            true
        } else {
            self.session.login(&user, "password", Credential::Plain(secret)).await
        };
        if accepted {
            self.enter(user, anonymous);
            return say("230 Login successful.");
        }
        // delay_failed_login and PAM's own delay of two seconds, which it varies by a quarter.
        let mut random = [0u8; 2];
        let _ = getrandom::fill(&mut random);
        let delay = Duration::from_millis(2500 + u64::from(u16::from_le_bytes(random)) % 1000);
        tokio::select! {
            () = tokio::time::sleep(delay) => {}
            () = self.session.cancelled().cancelled_owned() => {}
        }
        self.fails += 1;
        let text = b"530 Login incorrect.\r\n".to_vec();
        if self.fails >= MAX_FAILS { Reply::Last(text) } else { Reply::Say(text) }
    }

    fn enter(&mut self, user: Vec<u8>, anonymous: bool) {
        let decoy = self.session.decoy();
        let account = decoy.accounts.iter().position(|account| account.name.as_bytes() == user);
        let drawn = 1000 + u32::try_from(account.unwrap_or(0)).unwrap_or(0);
        let uid = account.and_then(|at| decoy.accounts.get(at)).and_then(|account| account.uid);
        let uid = uid.unwrap_or(if user == b"root" { 0 } else { drawn });
        // An account name is the persona's own, so it makes a plain path.
        let tree = self.server.tree(self.session.source_ip(), &user, if anonymous { 107 } else { uid });
        let cwd = if anonymous { b"/".to_vec() } else { tree.lock().unwrap_or_else(PoisonError::into_inner).home.clone() };
        self.account = Some(Account { user, anonymous, tree, cwd });
    }
}

/// `ABOR` behind the Telnet signals clients put before it.
const TELNET_ABOR: &[u8] = b"\xff\xf4\xff\xf2ABOR";

/// Ends the control connection so that the last words arrive.
async fn goodbye(mut conn: Conn) -> io::Result<Outcome> {
    conn.shutdown().await?;
    conn.set_idle(Duration::from_secs(2));
    let mut dropped = 0;
    while dropped < 64 * 1024 {
        match conn.read_some(16 * 1024).await {
            Ok(data) if !data.is_empty() => dropped += data.len(),
            _ => break,
        }
    }
    Ok(Outcome::Server)
}

#[cfg(test)]
mod tests;
