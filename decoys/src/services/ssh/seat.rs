//! A visitor at the pretended machine: a shell, with or without a terminal, whose every line, byte and
//! file is recorded. Telnet uses it too. It must never hold more input than its bounded queue.

use super::backlog::Weight;
use crate::session::{Direction, Session};
use crate::system::{Action, Input, Mode, Ran, Shell, Terminal, Waiting};
use bytes::Bytes;
use glasshive_event::detail::Request;
use glasshive_event::text::hex;
use sha2::{Digest, Sha256};
use std::collections::VecDeque;
use std::future::Future;
use std::time::Duration;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio_util::sync::CancellationToken;

/// Longest time a command may seem to take.
const LONGEST: Duration = Duration::from_secs(300);
/// Bytes of a command given in several lines that are kept for its record.
const COMMAND: usize = 16 * 1024;
/// Bytes of standard input handed to a waiting command at once.
const PIECE: usize = 32 * 1024;

/// What reaches a seat.
#[derive(Debug)]
pub(in crate::services) enum Event {
    /// Bytes of the visitor.
    Data(Bytes),
    /// The visitor will send no more.
    Eof,
    /// The window has so many columns and rows now.
    Resize(u16, u16),
    /// A signal for the running command.
    Interrupt,
}

/// An event and what it weighs until it is used.
pub(in crate::services) type Queued = (Event, Weight);

/// Where a seat's output goes. `false`: the visitor is gone.
pub(in crate::services) trait Screen: Send {
    /// Standard output, or all output of a terminal.
    fn out(&mut self, bytes: Bytes) -> impl Future<Output = bool> + Send;
    /// Standard error.
    fn error(&mut self, bytes: Bytes) -> impl Future<Output = bool> + Send;
}

/// One shell of one channel.
pub(in crate::services) struct Seat<S> {
    /// The session it records through.
    pub session: Session,
    /// Channel of the session.
    pub channel: u32,
    /// `shell` or `exec`.
    pub role: &'static str,
    /// The pretended shell.
    pub shell: Shell,
    /// Where output goes.
    pub screen: S,
    /// What the visitor sends, bounded by the backlog.
    pub events: UnboundedReceiver<Queued>,
    /// Cancelled when the visitor is gone.
    pub gone: CancellationToken,
    /// The command at work; starts empty.
    pub command: Command,
}

/// The visitor is gone.
struct Gone;

impl<S: Screen> Seat<S> {
    /// A login shell on a terminal. Returns its exit status, `None` when the visitor left.
    pub(in crate::services) async fn terminal(mut self, terminal: Terminal) -> Option<i32> {
        let status = self.on_terminal(terminal).await;
        self.left(status).await
    }

    /// One command of an exec channel. Returns its exit status, `None` when the visitor left.
    pub(in crate::services) async fn exec(mut self, line: &[u8], terminal: Option<Terminal>) -> Option<i32> {
        let status = self.one_command(line, terminal).await;
        self.left(status).await
    }

    /// A shell that reads its lines from a pipe (`ssh -T host < script`). Returns its exit status, `None` when the
    /// visitor left.
    pub(in crate::services) async fn piped(mut self) -> Option<i32> {
        let status = self.on_pipe().await;
        self.left(status).await
    }

    /// What a visitor leaves behind who goes while a command is at work: a command that reads gets its end of input,
    /// as the hang-up gives it, and what it made of the input so far is kept; the command is recorded either way.
    async fn left(&mut self, status: Result<i32, Gone>) -> Option<i32> {
        if let Ok(status) = status {
            return Some(status);
        }
        if self.command.waiting {
            let ran = self.shell.input(b"", true, self.session.now_ns());
            self.command.add(&ran);
            self.facts(&ran).await;
        }
        self.record(None, true).await;
        None
    }

    /// The next event.
    async fn event(&mut self) -> Result<Queued, Gone> {
        tokio::select! {
            biased;
            () = self.gone.cancelled() => Err(Gone),
            event = self.events.recv() => event.ok_or(Gone),
        }
    }

    async fn on_terminal(&mut self, mut terminal: Terminal) -> Result<i32, Gone> {
        let greeting = Terminal::output(self.shell.greeting());
        self.show(greeting).await?;
        let prompt = terminal.begin(&self.shell.prompt());
        self.show(prompt).await?;
        loop {
            match self.event().await? {
                (Event::Data(bytes), _) => self.typed(&mut terminal, &bytes).await,
                (Event::Resize(columns, rows), _) => self.resize(&mut terminal, columns, rows),
                (Event::Interrupt, _) => self.typed(&mut terminal, &[3]).await,
                (Event::Eof, _) => {}
            }
            while let Some(action) = self.next_action(&mut terminal) {
                let ran = match action {
                    Action::Echo(bytes) => {
                        self.show(bytes).await?;
                        continue;
                    }
                    Action::Line(line) => self.line(&line),
                    Action::Interrupt => {
                        self.command.interrupted = true;
                        self.shell.interrupt(self.session.now_ns())
                    }
                    Action::Eof if self.command.waiting => self.shell.input(b"", true, self.session.now_ns()),
                    Action::Eof => self.line(b"exit"),
                };
                if let Some(status) = self.settle(&mut terminal, ran).await? {
                    return Ok(status);
                }
            }
        }
    }

    /// Shows what a run printed, and says what the terminal reads next. `Some`: the shell ended.
    async fn settle(&mut self, terminal: &mut Terminal, ran: Ran) -> Result<Option<i32>, Gone> {
        self.command.add(&ran);
        self.facts(&ran).await;
        self.command.waiting = ran.waiting.is_some();
        self.pass(&ran, Some(terminal)).await?;
        let mut output = Terminal::output(&ran.stdout);
        output.extend(Terminal::output(&ran.stderr));
        self.show(output).await?;
        if let Some(waiting) = ran.waiting {
            terminal.set_mode(if waiting == Waiting::Secret { Mode::Secret } else { Mode::Cooked });
            return Ok(None);
        }
        if ran.needs_more && !ran.logout {
            let prompt = terminal.begin(&self.shell.prompt());
            self.show(prompt).await?;
            return Ok(None);
        }
        self.note(&ran).await;
        if ran.logout {
            return Ok(Some(ran.exit));
        }
        let prompt = terminal.begin(&self.shell.prompt());
        self.show(prompt).await?;
        Ok(None)
    }

    async fn one_command(&mut self, line: &[u8], mut terminal: Option<Terminal>) -> Result<i32, Gone> {
        let mut ran = self.line(line);
        let mut pending: VecDeque<u8> = VecDeque::new();
        let mut eof = false;
        loop {
            self.command.add(&ran);
            self.facts(&ran).await;
            self.command.waiting = ran.waiting.is_some() && !ran.logout;
            self.pass(&ran, terminal.as_mut()).await?;
            if terminal.is_some() {
                let mut output = Terminal::output(&ran.stdout);
                output.extend(Terminal::output(&ran.stderr));
                self.show(output).await?;
            } else {
                self.apart(&ran).await?;
            }
            let Some(waiting) = ran.waiting.filter(|_| !ran.logout) else { break };
            if let Some(terminal) = &mut terminal {
                terminal.set_mode(if waiting == Waiting::Secret { Mode::Secret } else { Mode::Cooked });
                ran = self.cooked(terminal).await?;
                continue;
            }
            while pending.is_empty() && !eof {
                match self.event().await? {
                    (Event::Data(bytes), _) => {
                        self.session.stream(self.channel, self.role, Direction::In, &bytes).await;
                        pending.extend(bytes);
                    }
                    (Event::Eof, _) => eof = true,
                    (Event::Resize(..), _) => {}
                    (Event::Interrupt, _) => {
                        self.note(&ran).await;
                        return Ok(130);
                    }
                }
            }
            let n = pending.len().min(PIECE);
            let piece: Vec<u8> = pending.drain(..n).collect();
            ran = self.shell.input(&piece, eof && pending.is_empty(), self.session.now_ns());
        }
        self.note(&ran).await;
        Ok(ran.exit)
    }

    /// A line typed at a command that runs on a terminal.
    async fn cooked(&mut self, terminal: &mut Terminal) -> Result<Ran, Gone> {
        loop {
            while let Some(action) = self.next_action(terminal) {
                match action {
                    Action::Echo(bytes) => self.show(bytes).await?,
                    Action::Line(line) => return Ok(self.line(&line)),
                    Action::Interrupt => return Ok(Ran { exit: 130, logout: true, known: true, ..Ran::default() }),
                    Action::Eof => return Ok(self.shell.input(b"", true, self.session.now_ns())),
                }
            }
            match self.event().await? {
                (Event::Data(bytes), _) => self.typed(terminal, &bytes).await,
                (Event::Resize(columns, rows), _) => self.resize(terminal, columns, rows),
                (Event::Interrupt, _) => self.typed(terminal, &[3]).await,
                (Event::Eof, _) => {}
            }
        }
    }

    async fn on_pipe(&mut self) -> Result<i32, Gone> {
        let mut text: Vec<u8> = Vec::new();
        let mut eof = false;
        let mut status = 0;
        loop {
            let end = text.iter().position(|b| *b == b'\n').map(|end| end + 1);
            let take = end.or_else(|| ((eof && !text.is_empty()) || text.len() > crate::system::limits::SOURCE).then_some(text.len()));
            let Some(take) = take else {
                if eof {
                    break;
                }
                match self.event().await? {
                    (Event::Data(bytes), _) => {
                        self.session.stream(self.channel, self.role, Direction::In, &bytes).await;
                        text.extend_from_slice(&bytes);
                    }
                    (Event::Eof, _) => eof = true,
                    (Event::Interrupt, _) => return Ok(130),
                    (Event::Resize(..), _) => {}
                }
                continue;
            };
            let mut line: Vec<u8> = text.drain(..take).collect();
            if line.last() == Some(&b'\n') {
                line.pop();
            }
            let ran = self.line(&line);
            status = self.after(&ran).await?;
            if ran.logout {
                return Ok(status);
            }
        }
        if self.command.waiting {
            let ran = self.shell.input(b"", true, self.session.now_ns());
            status = self.after(&ran).await?;
        }
        Ok(status)
    }

    async fn after(&mut self, ran: &Ran) -> Result<i32, Gone> {
        self.command.add(ran);
        self.facts(ran).await;
        self.command.waiting = ran.waiting.is_some();
        self.pass(ran, None).await?;
        self.apart(ran).await?;
        if !self.command.waiting && !ran.needs_more {
            self.note(ran).await;
        }
        Ok(ran.exit)
    }

    fn line(&mut self, line: &[u8]) -> Ran {
        let now = self.session.now_ns();
        if self.command.waiting {
            let mut more = line.to_vec();
            more.push(b'\n');
            return self.shell.input(&more, false, now);
        }
        self.command.began.get_or_insert(self.session.mono_ns());
        self.command.more(line);
        self.shell.run(line, Input { bytes: b"", eof: false }, now)
    }

    fn next_action(&self, terminal: &mut Terminal) -> Option<Action> {
        let shell = &self.shell;
        terminal.next(&mut |before: &[u8]| shell.complete(before))
    }

    fn resize(&mut self, terminal: &mut Terminal, columns: u16, rows: u16) {
        terminal.resize(columns);
        self.shell.resize(columns, rows);
    }

    async fn typed(&mut self, terminal: &mut Terminal, bytes: &[u8]) {
        self.session.stream(self.channel, self.role, Direction::In, bytes).await;
        let kept = terminal.push(bytes);
        self.session.count_cut(bytes.len().saturating_sub(kept) as u64);
    }

    /// Lets the time pass a command seems to take. What is typed meanwhile waits in the terminal; ^C ends the wait.
    async fn pass(&mut self, ran: &Ran, mut terminal: Option<&mut Terminal>) -> Result<(), Gone> {
        if ran.took.is_zero() {
            return Ok(());
        }
        let until = tokio::time::Instant::now() + ran.took.min(LONGEST);
        // Input of a command without a terminal stays in the bounded queue.
        let Some(terminal) = terminal.take() else {
            return tokio::select! {
                () = tokio::time::sleep_until(until) => Ok(()),
                () = self.gone.cancelled() => Err(Gone),
            };
        };
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(until) => return Ok(()),
                event = self.event() => match event? {
                    (Event::Data(bytes), _) => {
                        self.typed(terminal, &bytes).await;
                        if bytes.contains(&3) {
                            return Ok(());
                        }
                    }
                    (Event::Resize(columns, rows), _) => self.resize(terminal, columns, rows),
                    (Event::Interrupt, _) => return Ok(()),
                    (Event::Eof, _) => {}
                }
            }
        }
    }

    async fn show(&mut self, bytes: Vec<u8>) -> Result<(), Gone> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.session.stream(self.channel, self.role, Direction::Out, &bytes).await;
        if self.screen.out(bytes.into()).await { Ok(()) } else { Err(Gone) }
    }

    /// Output of a run without a terminal: standard output and error apart.
    async fn apart(&mut self, ran: &Ran) -> Result<(), Gone> {
        self.show(ran.stdout.clone()).await?;
        if ran.stderr.is_empty() {
            return Ok(());
        }
        self.session.stream(self.channel, self.role, Direction::Out, &ran.stderr).await;
        if self.screen.error(ran.stderr.clone().into()).await { Ok(()) } else { Err(Gone) }
    }

    /// Files written, fetches tried and files run.
    async fn facts(&self, ran: &Ran) {
        for file in &ran.files_written {
            let mut upload = self.session.upload(&file.path);
            for piece in file.content.chunks(64 * 1024) {
                upload.write(piece).await;
            }
            upload.finish().await;
        }
        for download in &ran.downloads {
            self.session
                .request(&Request {
                    protocol: "shell-download".into(),
                    verb: crate::session::clip(download.tool.as_bytes()),
                    target: crate::session::clip(&download.url),
                    ..Request::default()
                })
                .await;
        }
        for executed in &ran.executed {
            let mut fields = serde_json::Map::new();
            fields.insert("sha256".into(), hex(&Sha256::digest(executed.content.as_slice())).into());
            fields.insert("size".into(), executed.content.len().into());
            self.session
                .request(&Request {
                    protocol: "shell-execute".into(),
                    verb: crate::session::clip(b"run"),
                    target: crate::session::clip(&executed.path),
                    fields,
                    ..Request::default()
                })
                .await;
        }
    }

    async fn note(&mut self, ran: &Ran) {
        self.record(Some(ran.exit), ran.known).await;
    }

    /// Records the command, unless nothing was typed.
    async fn record(&mut self, exit: Option<i32>, known: bool) {
        let done = std::mem::take(&mut self.command);
        if done.input.iter().all(u8::is_ascii_whitespace) {
            return;
        }
        self.session.count_cut(done.cut);
        let exit = if done.interrupted { Some(130) } else { exit };
        self.session.command_since(done.began, Some(self.channel), &done.input, &done.output, exit, done.known && known).await;
    }
}

/// A command on its way to its record.
pub(in crate::services) struct Command {
    /// When its first line was given, by the session's monotonic clock.
    began: Option<u64>,
    input: Vec<u8>,
    output: Vec<u8>,
    cut: u64,
    known: bool,
    waiting: bool,
    interrupted: bool,
}

impl Default for Command {
    fn default() -> Self {
        Self { began: None, input: Vec::new(), output: Vec::new(), cut: 0, known: true, waiting: false, interrupted: false }
    }
}

impl Command {
    fn more(&mut self, line: &[u8]) {
        if !self.input.is_empty() {
            self.input.push(b'\n');
        }
        let room = COMMAND.saturating_sub(self.input.len());
        self.input.extend(line.iter().take(room));
        self.cut = self.cut.saturating_add(line.len().saturating_sub(room) as u64);
    }

    fn add(&mut self, ran: &Ran) {
        self.known &= ran.known;
        let room = crate::system::limits::OUTPUT.saturating_sub(self.output.len());
        self.output.extend(ran.stdout.iter().chain(&ran.stderr).take(room));
    }
}
