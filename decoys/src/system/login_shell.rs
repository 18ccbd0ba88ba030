//! The shell one session drives: lines, waiting commands, shells started inside it.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use super::{
    api::{How, Input, Ran, Waiting, WrittenFile},
    fs::{Fs, Overlay},
    limits,
    machine::{Machine, Session},
    proc::ProcView,
    shell::{
        exec::{Exec, Flow},
        lexer::{Fault, Lexer},
        parser,
        state::State,
    },
    terminal::Completion,
};

/// A run that waits for standard input, and what is needed to repeat it with more.
struct Pending {
    text: Vec<u8>,
    stdin: Vec<u8>,
    shown: (usize, usize),
    now_ns: i64,
    took: Duration,
    before: Box<State>,
    reported: usize,
}

/// One shell of one session.
pub struct Shell {
    machine: Arc<Machine>,
    session: Session,
    state: State,
    overlay: Arc<Mutex<Overlay>>,
    partial: Vec<u8>,
    pending: Option<Pending>,
    greeting: Vec<u8>,
    ended: bool,
    /// Reads line after line, rather than one command.
    reads_lines: bool,
    /// Shells that wait for the one started inside them to end.
    outer: Vec<State>,
    /// Without a terminal: what a shell started inside has yet to read, and how many shells stood outside it.
    reading: Option<(Vec<u8>, usize)>,
    /// Bytes of standard input the last run took.
    taken: usize,
    /// The last run started such a shell.
    began: bool,
}

/// Shells started inside each other.
const LEVELS: usize = 16;

impl Drop for Shell {
    fn drop(&mut self) {
        if self.session.tty.is_some() {
            self.machine.leave(self.session.client.peer.ip());
        }
    }
}

impl Shell {
    /// What is printed between the login and the first prompt: kernel line, message of the day, last login.
    pub fn greeting(&self) -> &[u8] {
        &self.greeting
    }

    pub(super) fn start(
        machine: Arc<Machine>,
        session: Session,
        state: State,
        overlay: Arc<Mutex<Overlay>>,
        greeting: Vec<u8>,
        reads_lines: bool,
    ) -> Self {
        Self {
            machine,
            session,
            state,
            overlay,
            partial: Vec::new(),
            pending: None,
            greeting,
            ended: false,
            reads_lines,
            outer: Vec::new(),
            reading: None,
            taken: 0,
            began: false,
        }
    }

    /// Runs one line, or one `bash -c` command. A call while [`Ran::waiting`] stood gives that command up first.
    pub fn run(&mut self, line: &[u8], stdin: Input<'_>, now_ns: i64) -> Ran {
        self.pending = None;
        let room = limits::SOURCE.saturating_sub(self.partial.len() + 1);
        let cut = line.len() > room;
        let line = line.get(..line.len().min(room)).unwrap_or_default();
        let mut text = std::mem::take(&mut self.partial);
        if !text.is_empty() {
            text.push(b'\n');
        }
        text.extend(line.iter().copied().filter(|b| *b != 0));
        if (self.reads_lines || self.reading.is_some()) && !cut {
            if unfinished(&text) {
                self.partial = text;
                return Ran { needs_more: true, known: true, exit: self.state.last, ..Ran::default() };
            }
            if self.state.interactive {
                self.remember(&text);
            }
        }
        let before = (!stdin.eof).then(|| Box::new(self.state.clone()));
        let mut stdin_bytes = stdin.bytes.to_vec();
        stdin_bytes.truncate(limits::PIPE);
        let levels = self.outer.len();
        let mut ran = self.execute(&text, &stdin_bytes, stdin.eof, now_ns);
        if self.outer.len() == levels {
            self.state.first_line = self.state.first_line.saturating_add(1 + text.iter().filter(|b| **b == b'\n').count() as u32);
        }
        ran.cut |= cut;
        if let (Some(_), Some(before)) = (ran.waiting, before.filter(|_| !self.just_reading(&ran))) {
            self.pending = Some(Pending {
                text,
                reported: stdin_bytes.len(),
                stdin: stdin_bytes,
                shown: (ran.stdout.len(), ran.stderr.len()),
                now_ns,
                took: ran.took,
                before,
            });
        }
        ran
    }

    /// Whether the run waits because a shell started inside reads the input from now on, so that nothing is to be repeated.
    fn just_reading(&self, ran: &Ran) -> bool {
        ran.waiting.is_some() && self.began
    }

    /// Continues a run that waits: `more` bytes of standard input, and whether it ended. Without a waiting run nothing happens.
    pub fn input(&mut self, more: &[u8], eof: bool, now_ns: i64) -> Ran {
        if self.reading.is_some() {
            return self.read_on(more, eof, now_ns);
        }
        self.resume(more, eof)
    }

    /// The connection ended: a waiting command sees the end of its input, so that what it had taken is not lost.
    pub fn hang_up(&mut self, now_ns: i64) -> Ran {
        self.input(b"", true, now_ns)
    }

    fn resume(&mut self, more: &[u8], eof: bool) -> Ran {
        let Some(mut pending) = self.pending.take() else { return Ran { known: true, ..Ran::default() } };
        let room = limits::PIPE.saturating_sub(pending.stdin.len());
        pending.stdin.extend_from_slice(more.get(..more.len().min(room)).unwrap_or_default());
        let eof = eof || more.len() > room;
        // A long input is worked on when it doubles or ends, so that many small pieces do not cost the square.
        if !eof && pending.stdin.len() > 16_384 && pending.stdin.len() < pending.reported * 2 {
            let ran = Ran { waiting: Some(Waiting::Line), known: true, ..Ran::default() };
            self.pending = Some(pending);
            return ran;
        }
        // The same run again, with more input: everything up to the point it waited at repeats exactly.
        let line = self.state.first_line;
        self.state = (*pending.before).clone();
        let mut ran = self.execute(&pending.text, &pending.stdin, eof, pending.now_ns);
        self.state.first_line = line;
        let (out, err) = (ran.stdout.len(), ran.stderr.len());
        ran.stdout.drain(..pending.shown.0.min(out));
        ran.stderr.drain(..pending.shown.1.min(err));
        ran.took = ran.took.saturating_sub(pending.took);
        if ran.waiting.is_some() && !self.just_reading(&ran) {
            pending.shown = (out, err);
            pending.took += ran.took;
            pending.reported = pending.stdin.len();
            self.pending = Some(pending);
        } else if let Some((rest, _)) = &mut self.reading
            && !self.began
        {
            // What the command did not read is for the shell that started it.
            let mut left = pending.stdin.split_off(self.taken.min(pending.stdin.len()));
            left.append(rest);
            *rest = left;
        }
        ran
    }

    /// Lines of a shell that was started inside and reads the connection's input.
    fn read_on(&mut self, more: &[u8], eof: bool, now_ns: i64) -> Ran {
        let mut all = Ran { known: true, ..Ran::default() };
        if self.pending.is_some() {
            let ran = self.resume(more, eof);
            merge(&mut all, ran);
            if all.waiting.is_some() || all.logout {
                return all;
            }
        } else if let Some((rest, _)) = &mut self.reading {
            let room = limits::PIPE.saturating_sub(rest.len());
            rest.extend_from_slice(more.get(..more.len().min(room)).unwrap_or_default());
            all.cut |= more.len() > room;
        }
        while let Some((rest, _)) = &mut self.reading {
            let end = rest.iter().position(|b| *b == b'\n');
            let whole = end.is_some() || rest.len() > limits::SOURCE;
            let last = eof && !rest.is_empty();
            if !whole && !last {
                break;
            }
            let mut line: Vec<u8> = rest.drain(..end.map_or(rest.len().min(limits::SOURCE), |p| p + 1)).collect();
            if line.last() == Some(&b'\n') {
                line.pop();
            }
            let left = std::mem::take(rest);
            let ran = self.run(&line, Input { bytes: &left, eof }, now_ns);
            let waits = ran.waiting.is_some() && !self.began;
            if !waits
                && !self.began
                && let Some((rest, _)) = &mut self.reading
            {
                *rest = left.get(if ran.needs_more { 0 } else { self.taken.min(left.len()) }..).unwrap_or_default().to_vec();
            }
            let stop = waits || ran.logout;
            merge(&mut all, ran);
            if stop {
                return all;
            }
            all.waiting = None;
            if all.stdout.len() + all.stderr.len() > limits::OUTPUT {
                all.cut = true;
                break;
            }
        }
        all.needs_more = false;
        if self.reading.is_some() && !eof {
            if self.state.interactive {
                all.stdout.extend(self.prompt());
            }
            all.waiting = Some(Waiting::Line);
            return all;
        }
        // The end of its input ends the inner shell, and with it the one command that started it.
        all.logout = true;
        all.exit = self.state.last & 0xff;
        self.ended = true;
        all
    }

    /// Interrupt (^C): drops an unfinished line or a waiting command.
    pub fn interrupt(&mut self, _now_ns: i64) -> Ran {
        self.partial.clear();
        self.pending = None;
        self.state.last = 130;
        Ran { exit: 130, known: true, ..Ran::default() }
    }

    /// Whether an unfinished line is open, so that [`Shell::prompt`] gives the second prompt.
    pub fn continues(&self) -> bool {
        !self.partial.is_empty()
    }

    /// The terminal's size changed.
    pub fn resize(&mut self, columns: u16, rows: u16) {
        if let Some(tty) = &mut self.session.tty {
            (tty.columns, tty.rows) = (columns, rows);
            self.state.set(b"COLUMNS", columns.to_string());
            self.state.set(b"LINES", rows.to_string());
        }
    }

    /// Sets an environment variable the client sent (`LANG`, `LC_*`; others are refused as sshd's `AcceptEnv` does).
    pub fn set_env(&mut self, name: &str, value: &[u8]) -> bool {
        let ok = (name == "LANG" || name.starts_with("LC_"))
            && name.len() < 64
            && value.len() < 1_024
            && super::shell::lexer::valid_name(name.as_bytes());
        if ok {
            self.state.export(name.as_bytes(), value);
        }
        ok
    }

    fn remember(&mut self, text: &[u8]) {
        let control = self.state.text("HISTCONTROL");
        if text.iter().all(u8::is_ascii_whitespace)
            || !self.state.vars.contains_key(b"HISTFILE".as_slice()) && self.state.text("HISTSIZE") == b"0"
        {
            return;
        }
        if text.first() == Some(&b' ') && control.starts_with(b"ignore") {
            return;
        }
        let history = Arc::make_mut(&mut self.state.history);
        history.push_back(text.iter().copied().take(4_096).collect());
        while history.len() > limits::HISTORY {
            history.pop_front();
        }
    }

    fn execute(&mut self, text: &[u8], stdin: &[u8], eof: bool, now_ns: i64) -> Ran {
        if self.ended {
            return Ran { logout: true, known: true, exit: self.state.last, ..Ran::default() };
        }
        if !self.reads_lines
            && self.reading.is_none()
            && let Some(own) = Arc::make_mut(&mut self.session.processes).iter_mut().find(|p| p.pid == self.session.pid)
        {
            own.args = [b"bash -c ".as_slice(), text.get(..text.len().min(4_096)).unwrap_or_default()].concat();
        }
        let mut overlay = self.overlay.lock().unwrap_or_else(PoisonError::into_inner);
        // A run that waits is undone and repeated with more input; meanwhile the lock keeps other sessions of this source out.
        let snapshot = (!eof).then(|| overlay.clone());
        let procs = ProcView {
            list: Arc::clone(&self.session.processes),
            own: self.session.pid,
            cwd: self.state.cwd.clone(),
            tty: if self.session.tty.is_some() { format!("/dev/{}", self.session.tty_name).into_bytes() } else { Vec::new() },
        };
        let fs = Fs {
            base: &self.machine.base,
            over: &mut overlay,
            procs,
            now: (now_ns.div_euclid(1_000_000_000), now_ns.rem_euclid(1_000_000_000) as u32),
        };
        self.began = false;
        let mut exec = Exec::new(&self.machine, &self.session, fs, now_ns, Arc::new(stdin.to_vec()), eof);
        let io = exec.initial(&self.state);
        let mut status = exec.source(&mut self.state, io, text);
        let mut ran = Ran { known: !exec.unknown, waiting: exec.waiting, cut: exec.cut, ..Ran::default() };
        match exec.flow {
            Flow::Exit => {
                ran.logout = true;
                status = exec.leave(&mut self.state, io, status);
            }
            Flow::Stop if exec.cut => status = 137,
            _ => {}
        }
        if !self.reads_lines && self.reading.is_none() && ran.waiting.is_none() && exec.nested.is_none() {
            if exec.flow == Flow::None && !ran.logout {
                status = exec.leave(&mut self.state, io, status);
            }
            ran.logout = true;
        }
        if exec.cut && exec.flow == Flow::Stop && ran.waiting.is_none() {
            exec.flow = Flow::None;
            exec.complain(&self.state, io, "Killed");
        }
        if ran.waiting.is_none() {
            self.state.last = status;
        }
        let forks = exec.forks;
        ran.exit = status & 0xff;
        ran.took = Duration::from_nanos(exec.took_ns.unsigned_abs());
        ran.files_written = written(&mut exec);
        ran.downloads = std::mem::take(&mut exec.downloads);
        ran.executed = std::mem::take(&mut exec.executed);
        ran.stdout = std::mem::take(&mut exec.out);
        ran.stderr = std::mem::take(&mut exec.err);
        self.taken = exec.taken();
        let nested = exec.nested.take().filter(|_| self.outer.len() < LEVELS);
        drop(exec);
        self.session.forks = self.session.forks.wrapping_add(forks) % 100_000;
        if let Some(inner) = nested {
            // The shell that was started reads from now on; what ran before it stands.
            self.outer.push(std::mem::replace(&mut self.state, *inner));
            ran.waiting = None;
            if !self.reads_lines || self.session.tty.is_none() {
                let rest = stdin.get(self.taken..).unwrap_or_default().to_vec();
                let level = self.reading.as_ref().map_or(self.outer.len(), |r| r.1);
                self.reading = Some((rest, level));
                self.began = true;
                ran.waiting = Some(Waiting::Line);
                if self.state.interactive {
                    ran.stdout.extend(self.prompt());
                }
            }
        } else if ran.logout
            && let Some(mut outer) = self.outer.pop()
        {
            // Only the inner shell ended.
            outer.last = status;
            outer.random = self.state.random.clone();
            self.state = outer;
            let over = self.reading.as_ref().is_some_and(|r| self.outer.len() < r.1);
            ran.logout = false;
            if over {
                self.reading = None;
                ran.logout = !self.reads_lines;
            }
        } else if ran.waiting.is_some()
            && let Some(snapshot) = snapshot
        {
            *overlay = snapshot;
            ran.files_written.clear();
            ran.downloads.clear();
            ran.executed.clear();
        }
        let bytes = overlay.bytes();
        drop(overlay);
        self.machine.account_bytes(self.session.client.peer.ip(), bytes);
        self.ended = ran.logout;
        ran
    }

    /// Candidates for the word at the end of `before`: file names, or command names at the start.
    pub fn complete(&self, before: &[u8]) -> Completion {
        let start =
            before.iter().rposition(|b| matches!(b, b' ' | b'\t' | b';' | b'|' | b'&' | b'>' | b'<' | b'(' | b'=')).map_or(0, |p| p + 1);
        let word = before.get(start..).unwrap_or_default();
        let command = before.get(..start).unwrap_or_default().trim_ascii_end();
        let first = matches!(command.last(), None | Some(b';' | b'|' | b'&' | b'('));
        let mut overlay = self.overlay.lock().unwrap_or_else(PoisonError::into_inner);
        let fs = Fs { base: &self.machine.base, over: &mut overlay, procs: ProcView::default(), now: (0, 0) };
        let mut words: Vec<Vec<u8>> = Vec::new();
        if first && !word.contains(&b'/') {
            if word.is_empty() {
                return Completion::default();
            }
            for dir in [b"/usr/sbin".as_slice(), b"/usr/bin"] {
                words.extend(fs.list(dir).into_iter().map(|(n, _)| n).filter(|n| n.starts_with(word)));
            }
            words.extend(super::builtins::names().filter(|n| n.as_bytes().starts_with(word)).map(|n| n.as_bytes().to_vec()));
            words.sort();
            words.dedup();
        } else {
            let cut = word.iter().rposition(|b| *b == b'/').map_or(0, |p| p + 1);
            let (dir, name) = word.split_at_checked(cut).unwrap_or((b"", word));
            let mut look = if dir.is_empty() { b".".to_vec() } else { dir.to_vec() };
            if look.starts_with(b"~/") {
                look = [self.state.home.as_slice(), look.get(1..).unwrap_or_default()].concat();
            }
            if let Ok((real, node)) = fs.stat(&self.state.cwd, &look, true)
                && node.is_dir()
                && fs.may(&self.state.who, &node, 4)
            {
                for (entry, node) in fs.list(&real) {
                    if entry.starts_with(name) && (!name.is_empty() || entry.first() != Some(&b'.')) {
                        let is_dir = node.is_dir() || fs.stat(&real, &entry, true).is_ok_and(|(_, n)| n.is_dir());
                        words.push([dir, &entry, if is_dir { b"/".as_slice() } else { b"" }].concat());
                    }
                }
            }
        }
        words.truncate(1_000);
        Completion { replace: word.len(), words }
    }

    /// The prompt to show; the second one while a line is unfinished.
    pub fn prompt(&self) -> Vec<u8> {
        if !self.partial.is_empty() {
            return self.state.text("PS2");
        }
        super::prompt::render(&self.state, &self.machine.spec.hostname, &self.state.text("PS1"))
    }
}

fn written(exec: &mut Exec<'_>) -> Vec<WrittenFile> {
    let mut all = std::mem::take(&mut exec.removed);
    let touched: Vec<(Vec<u8>, How)> = std::mem::take(&mut exec.touched).into_iter().collect();
    for (path, how) in touched {
        if let Ok(content) = exec.read_path(&path) {
            all.push(WrittenFile { path, content, how, removed: false });
        }
    }
    all
}

/// Whether a text ends inside a construct.
fn unfinished(text: &[u8]) -> bool {
    let mut lex = Lexer::new(text, true);
    loop {
        match parser::unit(&mut lex) {
            Ok(Some(_)) => {}
            Err(Fault::End(_)) => return true,
            _ => return false,
        }
    }
}

/// Adds what a further run did.
fn merge(all: &mut Ran, ran: Ran) {
    all.stdout.extend(ran.stdout);
    all.stderr.extend(ran.stderr);
    all.exit = ran.exit;
    all.known &= ran.known;
    all.logout = ran.logout;
    all.waiting = ran.waiting;
    all.took += ran.took;
    all.files_written.extend(ran.files_written);
    all.downloads.extend(ran.downloads);
    all.executed.extend(ran.executed);
    all.cut |= ran.cut;
}
