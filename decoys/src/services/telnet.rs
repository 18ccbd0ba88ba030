//! Telnet: the option exchange of a Linux telnetd, `login`, and the pretended machine's shell.
//! It must never show or stream a password in clear.

mod iac;
mod options;

use super::ssh::backlog::Backlog;
use super::ssh::seat::{Command, Event, Screen, Seat};
use super::{Build, Outcome, Service, ServiceDef};
use crate::conn::Conn;
use crate::persona::Seed;
use crate::recorder::BoxFuture;
use crate::session::{Credential, Direction, Session, clip};
use crate::system::{Action, Client, Completion, Login, Mode, Terminal, Tty, Via};
use bytes::Bytes;
use glasshive_event::Transport;
use glasshive_event::detail::Request;
use iac::{Parser, Piece, escaped};
use options::{Daemon, Options, Stage};
use serde::Deserialize;
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, WriteHalf};
use tokio::sync::{Mutex, mpsc};
use tokio_util::sync::CancellationToken;

/// The row of the services table.
pub(super) static SERVICE: ServiceDef = ServiceDef {
    name: "telnet",
    transports: &[Transport::Tcp],
    default_ports: &[23],
    passive: false,
    protocol: "telnet",
    summary: "a Linux telnetd with login and a pretended Debian behind it",
    build,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Settings {
    /// Which telnetd is claimed.
    daemon: Daemon,
    /// Failed logins after which the connection ends; `login.defs` of Debian says 5.
    tries: u32,
    /// Seconds to log in; `login.defs` of Debian says 60.
    login_timeout: u64,
    /// Middle of the delay of a failed login, milliseconds; `login.defs` of Debian says 3 s.
    fail_delay_ms: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { daemon: Daemon::default(), tries: 5, login_timeout: 60, fail_delay_ms: 3000 }
    }
}

struct Telnet(Arc<Settings>, Seed);

fn build(build: &Build<'_>) -> Result<Arc<dyn Service>, String> {
    let settings: Settings = build.settings()?;
    if !(1..=20).contains(&settings.tries) {
        return Err("tries: must be 1 to 20".into());
    }
    if !(1..=3600).contains(&settings.login_timeout) {
        return Err("login_timeout: must be 1 to 3600 seconds".into());
    }
    Ok(Arc::new(Telnet(Arc::new(settings), build.decoy.seed.derive("telnet"))))
}

impl Service for Telnet {
    fn serve(&self, conn: Conn, session: Session) -> BoxFuture<'static, Outcome> {
        let settings = Arc::clone(&self.0);
        let seed = self.1.clone();
        Box::pin(async move {
            let (options, first) = Options::new(settings.daemon);
            let mut line = Line {
                conn,
                session,
                parser: Parser::default(),
                options,
                terminal: Terminal::new("", 80, true),
                typed: VecDeque::new(),
                after_cr: false,
                told: false,
            };
            match line.visit(&settings, &seed, first).await {
                Ok(Some(user)) => Box::pin(seat(line, user)).await,
                Ok(None) => Outcome::Server,
                Err(error) => error.into(),
            }
        })
    }
}

/// Text typed ahead of the login's questions that is kept.
const TYPED: usize = 4096;
/// Channel and role of the one channel a Telnet session has.
const CHANNEL: u32 = 0;
const ROLE: &str = "shell";

/// The connection before the shell.
struct Line {
    conn: Conn,
    session: Session,
    parser: Parser,
    options: Options,
    terminal: Terminal,
    /// Text not yet taken by the login.
    typed: VecDeque<u8>,
    /// The last text taken was a CR, whose LF or NUL may still come.
    after_cr: bool,
    told: bool,
}

impl Line {
    /// Negotiates and logs in. `None`: turned away.
    async fn visit(&mut self, settings: &Settings, seed: &Seed, first: Vec<u8>) -> io::Result<Option<Vec<u8>>> {
        self.conn.write_all(&first).await?;
        while self.options.stage() != Stage::Ready {
            self.read().await?;
        }
        self.tell().await;
        let banner = self.banner(settings.daemon);
        self.show(&banner).await?;
        match tokio::time::timeout(Duration::from_secs(settings.login_timeout), self.log_in(settings, seed)).await {
            Ok(result) => result,
            Err(_) => {
                let text = format!("\r\nLogin timed out after {} seconds.\r\n", settings.login_timeout);
                self.show(text.as_bytes()).await?;
                Ok(None)
            }
        }
    }

    fn banner(&self, daemon: Daemon) -> Vec<u8> {
        match daemon {
            Daemon::Linux => b"Debian GNU/Linux 12\r\n".to_vec(),
            Daemon::Inetutils => {
                let uname = self.session.decoy().machine().map(|machine| machine.uname()).unwrap_or_default();
                let release = uname.split_whitespace().nth(1).unwrap_or_default();
                format!("\r\nLinux {release} (localhost) (pts/0)\r\n\r\n").into_bytes()
            }
        }
    }

    async fn log_in(&mut self, settings: &Settings, seed: &Seed) -> io::Result<Option<Vec<u8>>> {
        let prompt = format!("{} login: ", self.session.decoy().hostname);
        for attempt in 0..settings.tries {
            self.show(prompt.as_bytes()).await?;
            let user = self.ask(Mode::Cooked).await?;
            self.show(b"Password: ").await?;
            let secret = self.ask(Mode::Secret).await?;
            if self.session.login(&user, "password", Credential::Plain(&secret)).await {
                return Ok(Some(user));
            }
            // pam_faildelay: the base times one half to one and a half.
            let percent = 50 + seed.below(&format!("fail/{}/{attempt}", self.session.id()), 101);
            tokio::time::sleep(Duration::from_millis(settings.fail_delay_ms.saturating_mul(percent) / 100)).await;
            self.show(b"\r\nLogin incorrect\r\n").await?;
        }
        let text = format!("Maximum number of tries exceeded ({})\r\n", settings.tries);
        self.show(text.as_bytes()).await?;
        Ok(None)
    }

    /// One line of the visitor; ^C and ^D end the login as they do `login`'s. Text is taken byte by byte, so
    /// that what is typed ahead is still there for the next question and a secret is never streamed.
    async fn ask(&mut self, mode: Mode) -> io::Result<Vec<u8>> {
        self.terminal.set_mode(mode);
        loop {
            let mut taken = Vec::new();
            let mut echo = Vec::new();
            let mut end = None;
            while end.is_none() {
                let Some(byte) = self.typed.pop_front() else { break };
                taken.push(byte);
                self.after_cr = byte == b'\r';
                self.terminal.push(&[byte]);
                while let Some(action) = self.terminal.next(&mut |_| Completion::default()) {
                    match action {
                        Action::Echo(bytes) => echo.extend(bytes),
                        other => end = Some(other),
                    }
                }
            }
            if mode == Mode::Cooked && !taken.is_empty() {
                self.session.stream(CHANNEL, ROLE, Direction::In, &taken).await;
            }
            if !echo.is_empty() {
                self.show(&echo).await?;
            }
            match end {
                Some(Action::Line(line)) => return Ok(line),
                Some(_) => return Err(io::ErrorKind::UnexpectedEof.into()),
                None => self.read().await?,
            }
        }
    }

    /// Reads once: options are answered, text waits to be taken.
    async fn read(&mut self) -> io::Result<()> {
        let bytes = self.conn.read_some(256).await?;
        if bytes.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        for piece in self.parser.push(&bytes) {
            let (out, text) = react(&mut self.options, &self.session, &piece);
            self.conn.write_all(&out).await?;
            let room = TYPED.saturating_sub(self.typed.len());
            self.typed.extend(text.iter().take(room));
            self.session.count_cut(text.len().saturating_sub(room) as u64);
        }
        self.session.count_cut(self.parser.cut());
        Ok(())
    }

    async fn show(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.session.stream(CHANNEL, ROLE, Direction::Out, bytes).await;
        self.conn.write_all(&escaped(bytes)).await?;
        self.conn.flush().await
    }

    /// Records once how the visitor negotiated: his client's face.
    async fn tell(&mut self) {
        if std::mem::replace(&mut self.told, true) {
            return;
        }
        let mut fields = serde_json::Map::new();
        fields.insert("options".into(), self.options.said().into());
        if !self.options.environment.is_empty() {
            let text = |bytes: &[u8]| glasshive_event::text::escape_bytes(bytes.get(..bytes.len().min(256)).unwrap_or_default());
            let pairs = self.options.environment.iter().take(16).map(|(name, value)| (text(name), text(value).into()));
            fields.insert("environment".into(), serde_json::Value::Object(pairs.collect()));
        }
        let request = Request {
            protocol: "telnet".into(),
            verb: clip(b"negotiate"),
            target: clip(self.options.term.as_bytes()),
            fields,
            ..Request::default()
        };
        self.session.request(&request).await;
    }
}

/// What a piece of the stream means: bytes to answer, and text for the terminal.
fn react(options: &mut Options, session: &Session, piece: &Piece) -> (Vec<u8>, Vec<u8>) {
    match piece {
        Piece::Text(text) => (options.impatient(), text.clone()),
        Piece::Command(command) => match command {
            246 => (b"\r\n[Yes]\r\n".to_vec(), Vec::new()),
            244 => (Vec::new(), vec![3]),
            243 => (Vec::new(), vec![28]),
            247 => (Vec::new(), vec![127]),
            248 => (Vec::new(), vec![21]),
            236 => (Vec::new(), vec![4]),
            _ => (Vec::new(), Vec::new()),
        },
        Piece::Option(..) | Piece::Sub(..) => {
            let before = options.size;
            let out = options.take(piece);
            if let Some((columns, rows)) = options.size.filter(|_| options.size != before) {
                session.terminal(CHANNEL, columns.into(), rows.into());
            }
            (out, Vec::new())
        }
    }
}

/// How long output waits for a visitor who does not read.
const PATIENCE: Duration = Duration::from_secs(300);

struct LineScreen(Arc<Mutex<WriteHalf<Conn>>>, CancellationToken);

impl LineScreen {
    async fn write(&self, bytes: &[u8]) -> bool {
        let sent = async {
            let mut half = self.0.lock().await;
            half.write_all(&escaped(bytes)).await?;
            half.flush().await
        };
        tokio::select! {
            sent = tokio::time::timeout(PATIENCE, sent) => matches!(sent, Ok(Ok(()))),
            () = self.1.cancelled() => false,
        }
    }
}

impl Screen for LineScreen {
    async fn out(&mut self, bytes: Bytes) -> bool {
        self.write(&bytes).await
    }
    async fn error(&mut self, bytes: Bytes) -> bool {
        self.write(&bytes).await
    }
}

/// The shell, while options go on being answered.
async fn seat(line: Line, user: Vec<u8>) -> Outcome {
    let Line { conn, session, mut parser, mut options, mut typed, mut after_cr, .. } = line;
    let Some(machine) = session.decoy().machine() else {
        return Outcome::Error("the pretended machine could not be built".into());
    };
    let (columns, rows) = options.size.unwrap_or((80, 24));
    let term = if options.term.is_empty() { "network".to_owned() } else { options.term.clone() };
    let shell = machine.login(Login {
        user: String::from_utf8_lossy(&user).into_owned(),
        client: Client { peer: session.source(), local: session.local() },
        via: Via::Telnet,
        tty: Some(Tty { term: term.clone(), columns, rows }),
        interactive: true,
        now_ns: session.now_ns(),
    });
    let (mut from, to) = tokio::io::split(conn);
    let to = Arc::new(Mutex::new(to));
    #[allow(clippy::disallowed_methods, reason = "bounded by the backlog: the stream is not read while it is full")]
    let (events, received) = mpsc::unbounded_channel();
    let backlog = Arc::new(Backlog::default());
    let terminal = Terminal::new(&term, columns, true);
    if after_cr && typed.front().is_some_and(|byte| matches!(byte, b'\n' | 0)) {
        typed.pop_front();
        after_cr = false;
    }
    if !typed.is_empty() {
        after_cr = false;
        let weight = backlog.add(typed.len());
        let _ = events.send((Event::Data(Vec::from(typed).into()), weight));
    }
    let gone = CancellationToken::new();
    let seat = Seat {
        session: session.clone(),
        channel: CHANNEL,
        role: ROLE,
        shell,
        screen: LineScreen(Arc::clone(&to), gone.clone()),
        events: received,
        gone: gone.clone(),
        command: Command::default(),
    };
    let reading = async {
        loop {
            backlog.room().await;
            let mut buffer = bytes::BytesMut::with_capacity(2048);
            match from.read_buf(&mut buffer).await {
                Ok(0) => return Outcome::Client,
                Ok(_) => {}
                Err(error) => return error.into(),
            }
            for piece in parser.push(&buffer) {
                let before = options.size;
                let (out, mut text) = react(&mut options, &session, &piece);
                if !text.is_empty() && std::mem::take(&mut after_cr) && matches!(text.first(), Some(b'\n' | 0)) {
                    text.remove(0);
                }
                if !out.is_empty() && to.lock().await.write_all(&out).await.is_err() {
                    return Outcome::Client;
                }
                if let Some((columns, rows)) = options.size.filter(|_| options.size != before)
                    && events.send((Event::Resize(columns, rows), backlog.add(0))).is_err()
                {
                    return Outcome::Server;
                }
                let weight = backlog.add(text.len());
                if !text.is_empty() && events.send((Event::Data(text.into()), weight)).is_err() {
                    return Outcome::Server;
                }
            }
            session.count_cut(parser.cut());
        }
    };
    let seated = seat.terminal(terminal);
    tokio::pin!(seated);
    let cancelled = session.cancelled();
    let outcome = tokio::select! {
        outcome = reading => outcome,
        status = &mut seated => return if status.is_some() { Outcome::Server } else { Outcome::Client },
        () = cancelled.cancelled() => Outcome::Server,
    };
    // The command at work is recorded before the session closes.
    gone.cancel();
    seated.await;
    outcome
}

#[cfg(test)]
mod tests;
