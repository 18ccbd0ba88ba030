//! Redirections.

use std::sync::Arc;

use super::{
    ast::{Part, Redir, RedirKind},
    exec::{Exec, Fd, Io, Open},
    state::{Kept, State},
};
use crate::system::{
    api::How,
    fs::{Content, Errno, Kind},
};

impl Exec<'_> {
    /// Applies redirections; `None` when one failed (the message is written).
    pub(super) fn redirect(&mut self, st: &mut State, mut io: Io, redirs: &[Redir]) -> Option<Io> {
        for redir in redirs {
            if redir.kind == RedirKind::Text {
                let text = self.single(st, io, &redir.target);
                let input = self.input(text);
                io = io.with(redir.fd.unwrap_or(0), input);
                continue;
            }
            let word = self.redirect_target(st, io, redir)?;
            let fail = |x: &mut Self, st: &State, io: Io, why: &str| {
                let shown = String::from_utf8_lossy(&word);
                let message = if st.posix {
                    let reading = matches!(redir.kind, RedirKind::In | RedirKind::ReadWrite);
                    let why = match (reading, why) {
                        (true, "No such file or directory") => "No such file",
                        (false, "No such file or directory") => "Directory nonexistent",
                        (_, other) => other,
                    };
                    format!("cannot {} {shown}: {why}", if reading { "open" } else { "create" })
                } else {
                    format!("{shown}: {why}")
                };
                x.complain(st, io, &message);
            };
            match redir.kind {
                RedirKind::DupIn | RedirKind::DupOut => {
                    let default = if redir.kind == RedirKind::DupIn { 0 } else { 1 };
                    let fd = redir.fd.unwrap_or(default);
                    let text = word.strip_suffix(b"-").unwrap_or(&word);
                    if word == b"-" {
                        io = io.with(fd, Fd::Closed);
                    } else if let Some(from) = std::str::from_utf8(text).ok().and_then(|t| t.parse::<u32>().ok()) {
                        if io.get(from) == Fd::Closed {
                            fail(self, st, io, "Bad file descriptor");
                            return None;
                        }
                        io = io.with(fd, io.get(from));
                    } else if redir.kind == RedirKind::DupOut && redir.fd.is_none() {
                        match self.open_write(st, &word, false, How::Redirect) {
                            Ok(to) => io = io.with(1, to).with(2, to),
                            Err(e) => {
                                fail(self, st, io, e.text());
                                return None;
                            }
                        }
                    } else {
                        fail(self, st, io, "ambiguous redirect");
                        return None;
                    }
                }
                RedirKind::In | RedirKind::ReadWrite => match self.open_read(st, io, &word, redir.kind == RedirKind::ReadWrite) {
                    Ok(from) => io = io.with(redir.fd.unwrap_or(0), from),
                    Err(e) => {
                        fail(self, st, io, e.text());
                        return None;
                    }
                },
                _ => {
                    if redir.kind == RedirKind::Out && st.flag(b'C') && self.fs.stat(&st.cwd, &word, true).is_ok_and(|(_, n)| n.is_file()) {
                        fail(self, st, io, "cannot overwrite existing file");
                        return None;
                    }
                    let append = matches!(redir.kind, RedirKind::Append | RedirKind::BothAppend);
                    match self.open_write_or_dup(st, io, &word, append) {
                        Ok(to) => {
                            io = io.with(redir.fd.unwrap_or(1), to);
                            if matches!(redir.kind, RedirKind::Both | RedirKind::BothAppend) {
                                io = io.with(1, to).with(2, to);
                            }
                        }
                        Err(e) => {
                            fail(self, st, io, e.text());
                            return None;
                        }
                    }
                }
            }
        }
        Some(io)
    }

    fn redirect_target(&mut self, st: &mut State, io: Io, redir: &Redir) -> Option<Vec<u8>> {
        let words = self.words(st, io, std::slice::from_ref(&redir.target));
        let mut words = words.into_iter();
        match (words.next(), words.next()) {
            (Some(word), None) => Some(word),
            _ => {
                let shown: Vec<u8> = redir
                    .target
                    .iter()
                    .flat_map(|p| match p {
                        Part::Lit(t) | Part::Quoted(t) => t.clone(),
                        Part::Param(p) => [b"$".as_slice(), &p.name].concat(),
                        _ => Vec::new(),
                    })
                    .collect();
                let message = format!("{}: ambiguous redirect", String::from_utf8_lossy(&shown));
                self.complain(st, io, &message);
                None
            }
        }
    }

    fn open_write_or_dup(&mut self, st: &State, io: Io, word: &[u8], append: bool) -> Result<Fd, Errno> {
        match word {
            b"/dev/stdout" => Ok(io.get(1)),
            b"/dev/stderr" => Ok(io.get(2)),
            _ => match word.strip_prefix(b"/dev/fd/").and_then(|n| std::str::from_utf8(n).ok()).and_then(|n| n.parse().ok()) {
                Some(fd) => Ok(io.get(fd)),
                None => self.open_write(st, word, append, How::Redirect),
            },
        }
    }

    /// Opens a path for writing.
    pub(in crate::system) fn open_write(&mut self, st: &State, path: &[u8], append: bool, how: How) -> Result<Fd, Errno> {
        if path.starts_with(b"/dev/tcp/") || path.starts_with(b"/dev/udp/") {
            return Err(Errno::NoEnt);
        }
        let found = self.fs.find(&st.cwd, path, true)?;
        if let Some(node) = &found.node {
            match node.kind {
                Kind::Char(1, 7) => return Ok(Fd::Full),
                Kind::Char(5, 0) if self.session.tty.is_none() => return Err(Errno::NoDevice),
                Kind::Char(5, 0) => return Ok(Fd::Out),
                Kind::Char(136, _) => return Ok(if self.session.tty.is_some() { Fd::Out } else { Fd::Null }),
                Kind::Char(..) | Kind::Fifo | Kind::Socket => return Ok(Fd::Null),
                Kind::Block(..) if st.who.uid != 0 => return Err(Errno::Access),
                Kind::Block(..) => return Ok(Fd::Null),
                Kind::Dir => return Err(Errno::IsDir),
                _ => {}
            }
        }
        let keep = if append { found.node.as_ref().is_some() } else { false };
        if found.path.starts_with(b"/proc/") || found.path.starts_with(b"/sys/") {
            self.fs.write(&st.who, &found.path, Content::new(Vec::new()), 0o644)?;
            return Ok(Fd::Null);
        }
        if keep {
            // Appending needs the bytes in the source's own layer; what is made on reading is materialised.
            let data = self.read_path(&found.path)?;
            self.fs.write(&st.who, &found.path, Content::Bytes(Arc::clone(&data)), 0o644)?;
        } else {
            self.fs.write(&st.who, &found.path, Content::new(Vec::new()), 0o666 & !st.umask)?;
        }
        self.note(&found.path, how);
        self.files.push(Open { path: found.path, pos: 0, append });
        Ok(Fd::File(self.files.len() - 1))
    }

    /// Opens a path for reading.
    pub(in crate::system) fn open_read(&mut self, st: &State, io: Io, path: &[u8], create: bool) -> Result<Fd, Errno> {
        if path == b"/dev/stdin" || path == b"/proc/self/fd/0" {
            return Ok(io.get(0));
        }
        if path.starts_with(b"/dev/fd/")
            && let Ok(data) = self.read_path(path)
        {
            return Ok(self.input(data));
        }
        let found = self.fs.find(&st.cwd, path, true)?;
        let Some(node) = found.node else {
            if create {
                self.fs.write(&st.who, &found.path, Content::new(Vec::new()), 0o666 & !st.umask)?;
                return Ok(self.input(Vec::new()));
            }
            return Err(Errno::NoEnt);
        };
        if !self.fs.reach(&st.who, &found.path) || !self.fs.may(&st.who, &node, 4) {
            return Err(Errno::Access);
        }
        match node.kind {
            Kind::Char(1, 3) => Ok(Fd::Null),
            Kind::Char(5, 0) if self.session.tty.is_none() => Err(Errno::NoDevice),
            Kind::Char(5, 0) | Kind::Char(136, _) => Ok(Fd::Terminal),
            Kind::Dir => Ok(Fd::Null),
            _ => {
                let data = self.content(&found.path, &node)?;
                Ok(self.input(data))
            }
        }
    }

    /// The descriptors a shell starts a run with.
    pub(in crate::system) fn initial(&mut self, st: &State) -> Io {
        let err = if self.session.tty.is_some() { Fd::Out } else { Fd::Err };
        let mut io = Io([Fd::Closed; 10]).with(0, Fd::Terminal).with(1, Fd::Out).with(2, err);
        for (fd, kept) in &st.kept {
            let to = match kept {
                Kept::Null => Fd::Null,
                Kept::Input(data) => self.input(Arc::clone(data)),
                Kept::File(path) => {
                    if self.fs.get(path).is_some() {
                        self.note(path, How::Redirect);
                        self.files.push(Open { path: path.clone(), pos: 0, append: true });
                        Fd::File(self.files.len() - 1)
                    } else {
                        Fd::Null
                    }
                }
            };
            io = io.with(*fd, to);
        }
        io
    }

    /// Keeps redirections of `exec` for later runs.
    pub(super) fn keep(&self, st: &mut State, io: Io) {
        let err = if self.session.tty.is_some() { Fd::Out } else { Fd::Err };
        for fd in 0..10u32 {
            let kept = match io.get(fd) {
                Fd::Null => Some(Kept::Null),
                Fd::File(at) => self.files.get(at).map(|f| Kept::File(f.path.clone())),
                Fd::Input(at) => self.inputs.get(at).filter(|s| s.data.len() <= 65_536).map(|s| Kept::Input(Arc::clone(&s.data))),
                Fd::Out if fd == 1 => None,
                to if fd == 2 && to == err => None,
                _ => None,
            };
            match kept {
                Some(k) => st.kept.insert(fd, k),
                None => st.kept.remove(&fd),
            };
        }
    }
}
