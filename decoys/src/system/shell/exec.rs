//! One run: what it reads, writes, spends and reports.

use std::{collections::BTreeMap, sync::Arc};

use super::{ast::Node, state::State};
use crate::system::{
    api::{Download, Executed, How, Waiting, WrittenFile},
    fs::{Content, Errno, Fs, Kind, Made, Node as File},
    limits,
    machine::{Machine, Session},
    proc,
};

/// Where a file descriptor leads. Indexes point into the run's tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::system) enum Fd {
    Closed,
    Terminal,
    Out,
    Err,
    Null,
    Full,
    Pipe(usize),
    Input(usize),
    File(usize),
}

/// The descriptors of a command.
#[derive(Clone, Copy, Debug)]
pub(in crate::system) struct Io(pub [Fd; 10]);

impl Io {
    pub(in crate::system) fn get(&self, fd: u32) -> Fd {
        self.0.get(fd as usize).copied().unwrap_or(Fd::Closed)
    }
    pub(in crate::system) fn with(mut self, fd: u32, to: Fd) -> Self {
        if let Some(slot) = self.0.get_mut(fd as usize) {
            *slot = to;
        }
        self
    }
}

/// What the run is doing other than going on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::system) enum Flow {
    None,
    Break(u32),
    Continue(u32),
    Return,
    /// The (sub)shell ends.
    Exit,
    /// An error drops the rest of the line.
    Discard,
    /// The reader of a pipe is satisfied: the stage ends.
    Pipe,
    /// The run ends: killed by a bound, or it waits for input.
    Stop,
}

/// An input being read: all its bytes and how far.
#[derive(Clone, Debug, Default)]
pub(super) struct Source {
    pub data: Arc<Vec<u8>>,
    pub pos: usize,
}

/// A file opened for writing.
#[derive(Clone, Debug)]
pub(super) struct Open {
    pub path: Vec<u8>,
    pub pos: usize,
    pub append: bool,
}

/// One run of a shell.
pub(in crate::system) struct Exec<'m> {
    pub machine: &'m Machine,
    pub session: &'m Session,
    pub fs: Fs<'m>,
    pub now_ns: i64,
    pub took_ns: i64,
    pub flow: Flow,
    pub steps: u64,
    pub cut: bool,
    pub depth: usize,
    pub out: Vec<u8>,
    pub err: Vec<u8>,
    pub unknown: bool,
    pub waiting: Option<Waiting>,
    pub downloads: Vec<Download>,
    pub executed: Vec<Executed>,
    pub touched: BTreeMap<Vec<u8>, How>,
    pub removed: Vec<WrittenFile>,
    pub forks: u32,
    /// Above 0 while a status is being tested, where `set -e` does not act.
    pub guard: u32,
    /// Nodes being run inside each other.
    pub(super) nest: usize,
    /// Loops being run inside each other.
    pub loops: u32,
    /// Files being sourced inside each other.
    pub sourcing: u32,
    /// Aliases being expanded.
    pub(super) aliased: Vec<Vec<u8>>,
    /// Descriptors that `exec` made the shell's own.
    pub kept_io: Option<Io>,
    pub(super) stdin: Source,
    pub(super) eof: bool,
    pub(super) pipes: Vec<Vec<u8>>,
    pub(super) inputs: Vec<Source>,
    pub(super) files: Vec<Open>,
    process_files: Vec<(Vec<u8>, Arc<Vec<u8>>)>,
    /// Bytes that all pipes and inputs of this run ever held.
    pub(super) held: usize,
}

impl<'m> Exec<'m> {
    pub(in crate::system) fn new(
        machine: &'m Machine,
        session: &'m Session,
        fs: Fs<'m>,
        now_ns: i64,
        stdin: Arc<Vec<u8>>,
        eof: bool,
    ) -> Self {
        Self {
            machine,
            session,
            fs,
            now_ns,
            took_ns: 0,
            flow: Flow::None,
            steps: limits::STEPS,
            cut: false,
            depth: 0,
            out: Vec::new(),
            err: Vec::new(),
            unknown: false,
            waiting: None,
            downloads: Vec::new(),
            executed: Vec::new(),
            touched: BTreeMap::new(),
            removed: Vec::new(),
            forks: 0,
            guard: 0,
            nest: 0,
            loops: 0,
            sourcing: 0,
            aliased: Vec::new(),
            kept_io: None,
            stdin: Source { data: stdin, pos: 0 },
            eof,
            pipes: Vec::new(),
            inputs: Vec::new(),
            files: Vec::new(),
            process_files: Vec::new(),
            held: 0,
        }
    }

    pub(in crate::system) fn seconds(&self) -> i64 {
        self.now_ns.div_euclid(1_000_000_000)
    }

    /// Lets time pass, at most an hour in all.
    pub(in crate::system) fn pass(&mut self, ns: i64) {
        let ns = ns.clamp(0, 3_600_000_000_000 - self.took_ns.min(3_600_000_000_000));
        self.took_ns += ns;
        self.now_ns = self.now_ns.saturating_add(ns);
        self.fs.now = (self.seconds(), self.now_ns.rem_euclid(1_000_000_000) as u32);
    }

    /// Spends work; `false` when the budget is gone and the run ends.
    pub(in crate::system) fn spend(&mut self, steps: u64) -> bool {
        match self.steps.checked_sub(steps) {
            Some(left) => self.steps = left,
            None => {
                self.steps = 0;
                self.kill();
            }
        }
        self.flow != Flow::Stop
    }

    /// Ends the run as the kernel ends a process that is too greedy.
    pub(in crate::system) fn kill(&mut self) {
        self.cut = true;
        self.flow = Flow::Stop;
    }

    /// Drops the rest of the line after an expansion error.
    pub(super) fn discard(&mut self, st: &mut State) {
        st.last = 1;
        if self.flow == Flow::None {
            self.flow = Flow::Discard;
        }
    }

    /// Ends a shell that may not go on (`set -u`, `${x?}`); an interactive one only drops the line.
    pub(super) fn abort(&mut self, st: &mut State) {
        if st.interactive {
            return self.discard(st);
        }
        st.last = if st.label == b"bash" { 127 } else { 1 };
        if self.flow == Flow::None {
            self.flow = Flow::Exit;
        }
    }

    /// Writes to a descriptor.
    pub(in crate::system) fn write(&mut self, fd: Fd, bytes: &[u8]) -> Result<(), Errno> {
        if self.flow == Flow::Stop || bytes.is_empty() {
            return Ok(());
        }
        self.spend(bytes.len() as u64 / 1_024);
        match fd {
            Fd::Out | Fd::Err | Fd::Terminal => {
                let room = limits::OUTPUT.saturating_sub(self.out.len() + self.err.len());
                let part = bytes.get(..bytes.len().min(room)).unwrap_or_default();
                if fd == Fd::Err && self.session.tty.is_none() {
                    self.err.extend_from_slice(part)
                } else {
                    self.out.extend_from_slice(part)
                }
                if part.len() < bytes.len() {
                    self.kill();
                }
                Ok(())
            }
            Fd::Null => Ok(()),
            Fd::Full => Err(Errno::NoSpace),
            Fd::Closed | Fd::Input(_) => Err(Errno::Invalid),
            Fd::Pipe(at) => {
                self.held += bytes.len();
                if self.held > 32 * limits::PIPE {
                    self.kill();
                    return Ok(());
                }
                let Some(pipe) = self.pipes.get_mut(at) else { return Ok(()) };
                let room = limits::PIPE.saturating_sub(pipe.len());
                pipe.extend_from_slice(bytes.get(..bytes.len().min(room)).unwrap_or_default());
                if room < bytes.len() && self.flow == Flow::None {
                    self.flow = Flow::Pipe;
                }
                Ok(())
            }
            Fd::File(at) => self.write_file(at, bytes),
        }
    }

    fn write_file(&mut self, at: usize, bytes: &[u8]) -> Result<(), Errno> {
        let Some(open) = self.files.get(at).cloned() else { return Err(Errno::Invalid) };
        let Some(node) = self.fs.get(&open.path) else {
            // Removed while open: written into nowhere.
            return Ok(());
        };
        let end = if let Kind::File(Content::Bytes(b)) = &node.kind { Some(b.len()) } else { None };
        drop(node);
        let pos = if open.append { end.unwrap_or(0) } else { open.pos };
        let room = limits::SOURCE_BYTES;
        let result = if pos.saturating_add(bytes.len()) > room {
            Err(Errno::NoSpace)
        } else if end == Some(pos) && self.fs.append(&open.path, bytes).is_ok() {
            Ok(())
        } else {
            let mut data = self.read_path(&open.path).map(|d| d.as_ref().clone()).unwrap_or_default();
            if data.len() < pos {
                data.resize(pos, 0);
            }
            let tail = data.get(pos + bytes.len()..).unwrap_or_default().to_vec();
            data.truncate(pos);
            data.extend_from_slice(bytes);
            data.extend(tail);
            let who = crate::system::fs::Who { uid: 0, gid: 0, groups: Vec::new() };
            self.fs.write(&who, &open.path, Content::new(data), 0o644)
        };
        if result.is_ok()
            && let Some(open) = self.files.get_mut(at)
        {
            open.pos = pos + bytes.len();
        }
        result
    }

    /// All remaining bytes of an input.
    pub(in crate::system) fn read_all(&mut self, fd: Fd) -> Vec<u8> {
        match fd {
            Fd::Terminal => {
                if !self.eof {
                    self.starve(Waiting::Line);
                    return Vec::new();
                }
                take(&mut self.stdin, usize::MAX)
            }
            Fd::Input(at) => {
                let data = self.inputs.get_mut(at).map(|s| take(s, usize::MAX)).unwrap_or_default();
                self.spend(data.len() as u64 / 2_048);
                data
            }
            _ => Vec::new(),
        }
    }

    /// What has arrived of an input, for commands that answer line by line (`cat` on a terminal).
    pub(in crate::system) fn read_available(&mut self, fd: Fd) -> (Vec<u8>, bool) {
        if fd == Fd::Terminal && !self.eof {
            return (take(&mut self.stdin, usize::MAX), false);
        }
        (self.read_all(fd), true)
    }

    /// One line with its newline; `None` at the end.
    pub(in crate::system) fn read_until(&mut self, fd: Fd, end: u8) -> Option<Vec<u8>> {
        let eof = self.eof;
        let source = match fd {
            Fd::Terminal => &mut self.stdin,
            Fd::Input(at) => self.inputs.get_mut(at)?,
            _ => return None,
        };
        let rest = source.data.get(source.pos..).unwrap_or_default();
        let found = rest.iter().position(|b| *b == end);
        if found.is_none() && fd == Fd::Terminal && !eof {
            self.starve(Waiting::Line);
            return None;
        }
        let line = take(source, found.map_or(usize::MAX, |p| p + 1));
        (!line.is_empty()).then_some(line)
    }

    /// Some bytes.
    pub(in crate::system) fn read_bytes(&mut self, fd: Fd, count: usize) -> Vec<u8> {
        let eof = self.eof;
        let source = match fd {
            Fd::Terminal => &mut self.stdin,
            Fd::Input(at) => match self.inputs.get_mut(at) {
                Some(s) => s,
                None => return Vec::new(),
            },
            _ => return Vec::new(),
        };
        if fd == Fd::Terminal && !eof && source.data.len().saturating_sub(source.pos) < count {
            self.starve(Waiting::Line);
            return Vec::new();
        }
        take(source, count)
    }

    /// The run waits for input that has not arrived.
    pub(in crate::system) fn starve(&mut self, what: Waiting) {
        self.waiting = Some(what);
        self.flow = Flow::Stop;
    }

    /// A new input from bytes.
    pub(in crate::system) fn input(&mut self, data: impl Into<Arc<Vec<u8>>>) -> Fd {
        let data = data.into();
        self.held += data.len();
        if self.held > 64 * limits::PIPE {
            self.kill();
            return Fd::Null;
        }
        self.inputs.push(Source { data, pos: 0 });
        Fd::Input(self.inputs.len() - 1)
    }

    pub(super) fn pipe(&mut self) -> usize {
        self.pipes.push(Vec::new());
        self.pipes.len() - 1
    }

    pub(super) fn drain(&mut self, pipe: usize) -> Vec<u8> {
        self.pipes.get_mut(pipe).map(std::mem::take).unwrap_or_default()
    }

    /// A path that reads these bytes (`<(…)`).
    pub(super) fn process_file(&mut self, data: Vec<u8>) -> Vec<u8> {
        let path = format!("/dev/fd/{}", 63usize.saturating_sub(self.process_files.len())).into_bytes();
        self.process_files.push((path.clone(), Arc::new(data)));
        path
    }

    /// A file's bytes by normal path, at most [`limits::PIPE`] of what is made on reading.
    pub(in crate::system) fn read_path(&mut self, path: &[u8]) -> Result<Arc<Vec<u8>>, Errno> {
        if let Some((_, data)) = self.process_files.iter().find(|(p, _)| p == path) {
            return Ok(data.clone());
        }
        let node = self.fs.get(path).ok_or(Errno::NoEnt)?;
        self.content(path, &node)
    }

    /// A node's bytes.
    pub(in crate::system) fn content(&mut self, path: &[u8], node: &File) -> Result<Arc<Vec<u8>>, Errno> {
        match &node.kind {
            Kind::Dir => Err(Errno::IsDir),
            Kind::Link(_) => Err(Errno::Loop),
            Kind::Fifo | Kind::Socket => Err(Errno::NoDevice),
            Kind::Block(..) => Ok(Arc::new(vec![0; 65_536])),
            Kind::Char(1, 5 | 7) => Ok(Arc::new(vec![0; limits::PIPE / 4])),
            Kind::Char(1, 8 | 9) => {
                self.spend(400);
                let mut rng = crate::system::facts::Rng::new(&self.machine.facts.seed, &self.now_ns.to_le_bytes());
                for _ in 0..self.forks {
                    rng.next();
                }
                self.forks = self.forks.wrapping_add(1);
                Ok(Arc::new(rng.bytes(limits::PIPE / 4)))
            }
            Kind::Char(..) => Ok(Arc::new(Vec::new())),
            Kind::File(Content::Bytes(b)) => Ok(b.clone()),
            Kind::File(Content::Made(made)) => Ok(Arc::new(match made {
                Made::Zeros(n) => vec![0; (*n as usize).min(limits::PIPE)],
                Made::Program(size, name) => {
                    self.spend(size / 1_024);
                    crate::system::binary::program(&self.machine.facts.seed, name, (*size as usize).min(2 * limits::PIPE))
                }
                Made::Pid(pid, name) => match *name {
                    "environ" => self.session.environ.clone(),
                    _ => proc::pid_file(&self.fs.procs, self.machine, *pid, name),
                },
                Made::Path => proc::path_file(self.machine, self.session, path, self.now_ns).unwrap_or_default(),
            })),
        }
    }

    /// Notes that a file was written.
    pub(in crate::system) fn note(&mut self, path: &[u8], how: How) {
        if self.touched.len() < limits::REPORTS || self.touched.contains_key(path) {
            self.touched.insert(path.to_vec(), how);
        } else {
            self.cut = true;
        }
    }

    /// Keeps what a file holds before it is removed in the run that wrote it.
    pub(in crate::system) fn note_removed(&mut self, path: &[u8]) {
        if let Some(how) = self.touched.remove(path)
            && let Ok(content) = self.read_path(path)
            && self.removed.len() < limits::REPORTS
        {
            self.removed.push(WrittenFile { path: path.to_vec(), content, how, removed: true });
        }
    }

    /// Notes a fetch.
    pub(in crate::system) fn note_download(&mut self, tool: &'static str, url: &[u8]) {
        if self.downloads.len() < limits::REPORTS {
            self.downloads.push(Download { url: url.iter().copied().take(4_096).collect(), tool });
        } else {
            self.cut = true;
        }
    }

    /// An error message of the shell itself.
    pub(in crate::system) fn complain(&mut self, st: &State, io: Io, message: &str) {
        let mut text = st.label.clone();
        if st.posix {
            text.extend_from_slice(format!(": {}: ", st.line.max(1)).as_bytes());
        } else if st.numbered {
            text.extend_from_slice(format!(": line {}: ", st.line.max(1)).as_bytes());
        } else {
            text.extend_from_slice(b": ");
        }
        text.extend_from_slice(message.as_bytes());
        text.push(b'\n');
        // Where an error message cannot be written it is lost, as on a real machine.
        let _ = self.write(io.get(2), &text);
    }

    /// Runs a node in a copy of the shell and returns its output.
    pub(super) fn capture(&mut self, st: &mut State, io: Io, node: &Node) -> Vec<u8> {
        let pipe = self.pipe();
        let mut inner = self.subshell(st);
        inner.last = 0;
        let status = self.run_sub(&mut inner, io.with(1, Fd::Pipe(pipe)), node);
        st.last = status;
        st.random = inner.random;
        self.drain(pipe)
    }

    /// The output of a text run by `sh -c`.
    pub(in crate::system) fn capture_script(&mut self, st: &State, io: Io, text: &[u8]) -> Vec<u8> {
        let pipe = self.pipe();
        self.script(st, io.with(1, Fd::Pipe(pipe)), text, &[b"sh".to_vec()], true);
        self.drain(pipe)
    }

    /// Command substitution.
    pub(super) fn substitute(&mut self, st: &mut State, io: Io, node: &Node) -> Vec<u8> {
        // `$(< file)` reads the file.
        if let Node::Simple { assigns, words, redirs, .. } = node
            && assigns.is_empty()
            && words.is_empty()
            && let [redir] = redirs.as_slice()
            && redir.kind == super::ast::RedirKind::In
        {
            let path = self.single(st, io, &redir.target);
            if let Ok((real, _)) = self.fs.stat(&st.cwd, &path, true)
                && let Ok(data) = self.read_path(&real)
            {
                return trim_newlines(data.as_ref().clone());
            }
        }
        let text = self.capture(st, io, node);
        trim_newlines(text)
    }

    /// A copy of the shell's state for a subshell.
    pub(in crate::system) fn subshell_state(&mut self, st: &State) -> State {
        self.subshell(st)
    }

    pub(super) fn subshell(&mut self, st: &State) -> State {
        self.spend(2 + st.bytes as u64 / 512);
        self.forks = self.forks.wrapping_add(1);
        let mut inner = st.clone();
        inner.subshell = true;
        inner.jobs.clear();
        inner
    }

    /// Runs a node as a subshell: `exit` ends only it.
    pub(super) fn run_sub(&mut self, st: &mut State, io: Io, node: &Node) -> i32 {
        if !self.deeper(st, io) {
            return 254;
        }
        let kept = self.kept_io.take();
        let status = self.node(st, io, node);
        self.kept_io = kept;
        self.depth -= 1;
        let status = match self.flow {
            Flow::Exit => st.last,
            Flow::Discard => 1,
            Flow::Pipe => 141,
            _ => status,
        };
        if self.flow != Flow::Stop {
            self.flow = Flow::None;
        }
        status
    }

    /// Goes one level deeper; `false` when that is too deep and the run ends.
    pub(in crate::system) fn deeper(&mut self, st: &State, io: Io) -> bool {
        if self.depth >= limits::RUN_DEPTH {
            self.complain(st, io, "fork: retry: Resource temporarily unavailable");
            self.kill();
            return false;
        }
        self.depth += 1;
        true
    }
}

fn take(source: &mut Source, count: usize) -> Vec<u8> {
    let rest = source.data.get(source.pos..).unwrap_or_default();
    let data = rest.get(..count.min(rest.len())).unwrap_or_default().to_vec();
    source.pos += data.len();
    data
}

fn trim_newlines(mut text: Vec<u8>) -> Vec<u8> {
    while text.last() == Some(&b'\n') {
        text.pop();
    }
    text.retain(|b| *b != 0);
    text
}
