//! Simple commands: assignments, aliases, functions, builtins and programs.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    ast::{Assign, AssignValue, Node, Part, Redir, Word},
    exec::{Exec, Fd, Flow, Io},
    lexer::Lexer,
    parser,
    state::{State, Value},
};
use crate::system::{
    api::Executed,
    builtins,
    commands::{self, Cx},
    fs::{Content, Kind, Made, Node as File},
    limits,
};

/// Whether `set -e` looks at this node's status itself (compound ones leave it to their parts).
pub(super) fn negatable(node: &Node) -> bool {
    match node {
        Node::Simple { .. } | Node::Subshell(..) | Node::Cond(..) | Node::Arith(..) => true,
        Node::Pipeline { negate, .. } => !negate,
        _ => false,
    }
}

/// The command at the end of a node, where more words would go.
fn last_command(node: &mut Node) -> Option<&mut Node> {
    match node {
        Node::List(nodes) => last_command(nodes.last_mut()?),
        Node::And(_, right) | Node::Or(_, right) => last_command(right),
        Node::Pipeline { stages, .. } => last_command(&mut stages.last_mut()?.0),
        other => Some(other),
    }
}

/// What a command name stands for.
pub(in crate::system) enum Target {
    Function,
    Builtin(&'static builtins::Builtin),
    /// A program at a normal path.
    Program(Vec<u8>),
    Missing,
}

impl Exec<'_> {
    pub(super) fn simple(&mut self, st: &mut State, io: Io, assigns: &[Assign], words: &[Word], redirs: &[Redir]) -> i32 {
        if st.interactive
            && let Some([Part::Lit(name)]) = words.first().map(Vec::as_slice)
            && let Some(value) = st.aliases.get(name).cloned()
            && !self.aliased.contains(name)
        {
            return self.alias(st, io, name, &value, assigns, words, redirs);
        }
        let before = st.last;
        let args = self.words(st, io, words);
        if self.flow != Flow::None {
            return st.last;
        }
        let after = st.last;
        let Some(name) = args.first().cloned() else {
            // A command substitution's status counts when nothing else does.
            st.last = if words.is_empty() { 0 } else { after };
            let Some(_) = self.redirect(st, io, redirs) else { return 1 };
            for assign in assigns {
                if !self.assign(st, io, assign) {
                    self.discard(st);
                    return 1;
                }
            }
            return st.last;
        };
        st.last = before;
        if st.flag(b'x') {
            let shown: Vec<u8> = args.iter().map(|a| commands::quote_shell(a)).collect::<Vec<_>>().join(&b' ');
            let _ = self.write(io.get(2), &[b"+ ".as_slice(), &shown, b"\n"].concat());
        }
        let outer = io;
        let Some(io) = self.redirect(st, io, redirs) else { return 1 };
        let target = self.target(st, &name);
        let declares = matches!(name.as_slice(), b"declare" | b"typeset" | b"local" | b"export" | b"readonly");
        let mut saved: Vec<(Vec<u8>, Option<super::state::Var>)> = Vec::new();
        for assign in assigns {
            if !declares {
                saved.push((assign.name.clone(), st.vars.get(&assign.name).cloned()));
            }
            if declares && name == b"local" {
                builtins::make_local(st, &assign.name);
            }
            if !self.assign(st, io, assign) {
                return 1;
            }
            if !declares && let Some(var) = st.vars.get_mut(&assign.name) {
                var.export = true;
            }
        }
        let status = match target {
            Target::Function => self.function(st, io, &args),
            Target::Builtin(builtin) => {
                if name == b"exec" && args.len() == 1 {
                    self.keep(st, io);
                    self.kept_io = Some(io);
                    let _ = outer;
                    0
                } else {
                    let mut cx = Cx { x: self, st, io, name: builtin.name };
                    (builtin.run)(&mut cx, &args)
                }
            }
            Target::Program(path) => self.program(st, io, &path, &args),
            Target::Missing => {
                commands::missed(self, &args);
                self.missing(st, io, &name)
            }
        };
        if name != b"exec" {
            for (name, var) in saved.into_iter().rev() {
                match var {
                    Some(var) => {
                        st.vars.insert(name, var);
                    }
                    None => st.unset(&name),
                }
            }
        }
        status
    }

    fn missing(&mut self, st: &State, io: Io, name: &[u8]) -> i32 {
        self.unknown = true;
        let shown = String::from_utf8_lossy(name).into_owned();
        let message = if name.contains(&b'/') {
            match self.fs.stat(&st.cwd, name, true) {
                Ok((_, node)) if node.is_dir() => {
                    self.complain(st, io, &format!("{shown}: Is a directory"));
                    return 126;
                }
                Ok(_) => {
                    self.complain(st, io, &format!("{shown}: Permission denied"));
                    return 126;
                }
                Err(e) => format!("{shown}: {}", if st.posix { "not found" } else { e.text() }),
            }
        } else if st.posix {
            format!("{shown}: not found")
        } else {
            format!("{shown}: command not found")
        };
        self.complain(st, io, &message);
        127
    }

    fn alias(&mut self, st: &mut State, io: Io, name: &[u8], value: &[u8], assigns: &[Assign], words: &[Word], redirs: &[Redir]) -> i32 {
        let mut lex = Lexer::new(value, false);
        let parsed = parser::program(&mut lex);
        let Ok(mut node) = parsed else {
            self.complain(st, io, "syntax error in alias");
            return 2;
        };
        // The rest of the line goes to the alias's last command.
        if let Some(Node::Simple { assigns: a, words: w, redirs: r, .. }) = last_command(&mut node) {
            a.splice(0..0, assigns.iter().cloned());
            w.extend(words.iter().skip(1).cloned());
            r.extend(redirs.iter().cloned());
        }
        self.aliased.push(name.to_vec());
        let status = self.node(st, io, &node);
        self.aliased.pop();
        status
    }

    fn assign(&mut self, st: &mut State, io: Io, assign: &Assign) -> bool {
        let name = &assign.name;
        let readonly = st.vars.get(name).is_some_and(|v| v.readonly);
        if readonly {
            self.complain(st, io, &format!("{}: readonly variable", String::from_utf8_lossy(name)));
            return false;
        }
        match &assign.value {
            AssignValue::Array(items) => {
                let old = st.vars.get(name).map(|v| v.value.clone());
                if let Some(Value::Map(old)) = old {
                    let mut map = if assign.append { old } else { BTreeMap::new() };
                    for (key, word) in items {
                        let key = key.as_ref().map(|k| self.single(st, io, k)).unwrap_or_default();
                        let value = self.single(st, io, word);
                        map.insert(key, value);
                    }
                    return st.put(name, Value::Map(map));
                }
                let mut map = match old {
                    Some(Value::Array(a)) if assign.append => a,
                    _ => BTreeMap::new(),
                };
                let mut at = map.keys().next_back().map_or(0, |k| k + 1);
                for (key, word) in items {
                    if let Some(key) = key {
                        at = self.arith(st, io, key).unwrap_or(0);
                        let value = self.single(st, io, word);
                        map.insert(at, value);
                        at = at.wrapping_add(1);
                        continue;
                    }
                    for value in self.words(st, io, std::slice::from_ref(word)) {
                        map.insert(at, value);
                        at = at.wrapping_add(1);
                    }
                }
                st.put(name, Value::Array(map))
            }
            AssignValue::Word(word) => {
                let value = self.assigned(st, io, word);
                if let Some(index) = &assign.index {
                    if matches!(st.vars.get(name).map(|v| &v.value), Some(Value::Map(_))) {
                        let key = self.single(st, io, index);
                        if let Some(Value::Map(mut map)) = st.vars.get(name).map(|v| v.value.clone()) {
                            map.insert(key, value);
                            return st.put(name, Value::Map(map));
                        }
                    }
                    let at = self.arith(st, io, index).unwrap_or(0);
                    return super::expand::store(st, name, Some(at), value);
                }
                let integer = st.vars.get(name).is_some_and(|v| v.integer);
                let value = if integer { super::arith::eval(st, &value).unwrap_or(0).to_string().into_bytes() } else { value };
                let value = if assign.append {
                    let old = st.get(name).unwrap_or_default();
                    if integer {
                        let number = |t: &[u8]| std::str::from_utf8(t).ok().and_then(|t| t.parse::<i64>().ok()).unwrap_or(0);
                        number(&old).wrapping_add(number(&value)).to_string().into_bytes()
                    } else {
                        [old, value].concat()
                    }
                } else {
                    value
                };
                if !super::expand::store(st, name, None, value) {
                    self.complain(st, io, "xrealloc: cannot allocate memory");
                    self.kill();
                    return false;
                }
                true
            }
        }
    }

    /// The right side of an assignment: a tilde after `=` or `:` counts.
    fn assigned(&mut self, st: &mut State, io: Io, word: &Word) -> Vec<u8> {
        self.single(st, io, word)
    }

    fn function(&mut self, st: &mut State, io: Io, args: &[Vec<u8>]) -> i32 {
        let Some((body, _)) = args.first().and_then(|n| st.funcs.get(n)).cloned() else { return 127 };
        if !self.deeper(st, io) {
            return 137;
        }
        let outer = std::mem::replace(&mut st.args, args.iter().skip(1).cloned().collect());
        st.locals.push(Vec::new());
        let mut status = self.node(st, io, &body);
        if self.flow == Flow::Return {
            self.flow = Flow::None;
            status = st.last;
        }
        for (name, var) in st.locals.pop().unwrap_or_default().into_iter().rev() {
            match var {
                Some(var) => {
                    st.vars.insert(name, var);
                }
                None => st.unset(&name),
            }
        }
        st.args = outer;
        self.depth -= 1;
        status
    }

    /// Looks a command up.
    pub(in crate::system) fn target(&mut self, st: &State, name: &[u8]) -> Target {
        if st.funcs.contains_key(name) {
            return Target::Function;
        }
        if let Some(builtin) = builtins::find(name, st.posix) {
            return Target::Builtin(builtin);
        }
        if name.is_empty() {
            return Target::Missing;
        }
        match self.which(st, name).into_iter().next() {
            Some((_, real)) => Target::Program(real),
            None => Target::Missing,
        }
    }

    /// Where a program is found: the path as named and the normal one.
    pub(in crate::system) fn which(&mut self, st: &State, name: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
        let usable = |x: &Self, path: &[u8]| {
            let (real, node) = x.fs.stat(&st.cwd, path, true).ok()?;
            (node.is_file() && x.fs.may(&st.who, &node, 1) && x.fs.reach(&st.who, &real)).then_some(real)
        };
        if name.contains(&b'/') {
            return usable(self, name).map(|real| (name.to_vec(), real)).into_iter().collect();
        }
        let path = st.get(b"PATH").unwrap_or_else(|| b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_vec());
        let mut found = Vec::new();
        for dir in path.split(|b| *b == b':').take(64) {
            let full = crate::system::fs::join(if dir.is_empty() { b"." } else { dir }, name);
            if let Some(real) = usable(self, &full) {
                found.push((full, real));
            }
        }
        found
    }

    /// Runs the program at a normal path.
    pub(in crate::system) fn program(&mut self, st: &mut State, io: Io, path: &[u8], args: &[Vec<u8>]) -> i32 {
        self.forks = self.forks.wrapping_add(1);
        self.pass(900_000);
        let Some(node) = self.fs.get(path) else { return 127 };
        if let Kind::File(Content::Made(Made::Program(_, name))) = &node.kind {
            let called = args.first().map(|a| crate::system::fs::split(a).1.to_vec()).unwrap_or_default();
            let entry = commands::find(name.as_bytes()).or_else(|| commands::find(&called));
            return match entry {
                Some(command) => {
                    // What a command changes in the shell's state ends with it, as in a process of its own.
                    if !self.deeper(st, io) {
                        return 137;
                    }
                    let status = (command.run)(&mut Cx { x: self, st, io, name: command.name }, args);
                    self.depth -= 1;
                    status
                }
                None => {
                    let text = format!("Usage: {name} [OPTION]...\nTry '{name} --help' for more information.\n");
                    let _ = self.write(io.get(2), text.as_bytes());
                    1
                }
            };
        }
        self.visitor_program(st, io, path, &node, args)
    }

    /// Runs a file that is no program of the system: a script by its lines, anything else not at all.
    pub(in crate::system) fn visitor_program(&mut self, st: &mut State, io: Io, path: &[u8], node: &File, args: &[Vec<u8>]) -> i32 {
        let Ok(content) = self.content(path, node) else { return 126 };
        if self.executed.len() < limits::REPORTS && !self.executed.iter().any(|e| e.path == path && Arc::ptr_eq(&e.content, &content)) {
            self.executed.push(Executed { path: path.to_vec(), content: Arc::clone(&content) });
        }
        let shown = String::from_utf8_lossy(args.first().map_or(path, Vec::as_slice)).into_owned();
        if content.starts_with(b"\x7fELF") {
            // Only a program for this processor could start; then it goes on in the background without a word.
            let class = content.get(4).copied();
            let machine = content.get(18..20).map(<[u8]>::to_vec);
            if matches!((class, machine.as_deref()), (Some(2), Some([0x3e, 0])) | (Some(1), Some([3, 0]))) {
                return 0;
            }
            self.complain(st, io, &format!("{shown}: cannot execute binary file: Exec format error"));
            return 126;
        }
        if content.iter().take(128).any(|b| *b == 0) {
            self.complain(st, io, &format!("{shown}: cannot execute binary file: Exec format error"));
            return 126;
        }
        let first = content.split(|b| *b == b'\n').next().unwrap_or_default();
        let mut posix = false;
        if let Some(line) = first.strip_prefix(b"#!") {
            let line = line.trim_ascii();
            let mut words = line.split(|b| b.is_ascii_whitespace()).filter(|w| !w.is_empty());
            let mut interpreter = words.next().unwrap_or_default().to_vec();
            if interpreter.ends_with(b"/env") {
                interpreter = words.next().unwrap_or_default().to_vec();
            }
            let name = crate::system::fs::split(&interpreter).1.to_vec();
            posix = matches!(name.as_slice(), b"sh" | b"dash");
            let shell = matches!(name.as_slice(), b"sh" | b"dash" | b"bash" | b"rbash");
            if !shell {
                match self.target(st, &interpreter) {
                    Target::Program(real) => {
                        let mut all = vec![interpreter, path.to_vec()];
                        all.extend(args.iter().skip(1).cloned());
                        if !self.deeper(st, io) {
                            return 137;
                        }
                        let status = self.program(st, io, &real, &all);
                        self.depth -= 1;
                        return status;
                    }
                    _ => {
                        let interpreter = String::from_utf8_lossy(&interpreter).into_owned();
                        self.complain(st, io, &format!("{shown}: cannot execute: required file not found"));
                        let _ = interpreter;
                        return 127;
                    }
                }
            }
        }
        self.script(st, io, &content, args, posix)
    }

    /// Runs a text as a script in a shell of its own.
    pub(in crate::system) fn script(&mut self, st: &State, io: Io, text: &[u8], args: &[Vec<u8>], posix: bool) -> i32 {
        let mut inner = self.subshell(st);
        inner.subshell = false;
        inner.vars.retain(|_, v| v.export);
        inner.funcs.clear();
        inner.aliases.clear();
        inner.flags.clear();
        inner.traps.clear();
        inner.locals.clear();
        inner.interactive = false;
        inner.pipefail = false;
        inner.posix = posix;
        inner.pid = self.new_pid();
        inner.arg0 = args.first().cloned().unwrap_or_default();
        inner.label = inner.arg0.clone();
        inner.numbered = inner.label != b"bash";
        inner.args = args.iter().skip(1).cloned().collect();
        inner.last = 0;
        if text.len() > limits::SOURCE {
            self.cut = true;
        }
        if !self.deeper(st, io) {
            return 254;
        }
        let guard = (std::mem::take(&mut self.guard), std::mem::take(&mut self.loops), std::mem::take(&mut self.sourcing));
        let mut status = self.source(&mut inner, io, text.get(..text.len().min(limits::SOURCE)).unwrap_or_default());
        (self.guard, self.loops, self.sourcing) = guard;
        self.depth -= 1;
        status = self.leave(&mut inner, io, status);
        status
    }

    /// Ends a shell: its exit trap, its status.
    pub(in crate::system) fn leave(&mut self, st: &mut State, io: Io, status: i32) -> i32 {
        let mut status = match self.flow {
            Flow::Exit => st.last,
            Flow::Discard => 1,
            Flow::Pipe => 141,
            _ => status,
        };
        if self.flow != Flow::Stop {
            self.flow = Flow::None;
            if let Some(action) = st.traps.remove(b"EXIT".as_slice()) {
                self.source(st, io, &action);
                if self.flow == Flow::Exit {
                    status = st.last;
                    self.flow = Flow::None;
                }
            }
        }
        status
    }

    pub(in crate::system) fn new_pid(&mut self) -> u32 {
        self.forks = self.forks.wrapping_add(1);
        self.session.pid.saturating_add(self.session.forks).saturating_add(self.forks).saturating_add(2)
    }

    /// An account by name, from the `/etc/passwd` of this source.
    pub(in crate::system) fn account(&mut self, name: &[u8]) -> Option<Passwd> {
        self.accounts().into_iter().find(|a| a.name == name)
    }

    pub(in crate::system) fn accounts(&mut self) -> Vec<Passwd> {
        let data = self.read_path(b"/etc/passwd").unwrap_or_default();
        data.split(|b| *b == b'\n')
            .take(2_000)
            .filter_map(|line| {
                let mut f = line.split(|b| *b == b':');
                let name = f.next().filter(|n| !n.is_empty())?.to_vec();
                f.next()?;
                let number = |t: Option<&[u8]>| std::str::from_utf8(t?).ok()?.parse().ok();
                Some(Passwd {
                    name,
                    uid: number(f.next())?,
                    gid: number(f.next())?,
                    gecos: f.next()?.to_vec(),
                    home: f.next()?.to_vec(),
                    shell: f.next().unwrap_or_default().to_vec(),
                })
            })
            .collect()
    }

    /// Groups: name, id, members.
    pub(in crate::system) fn groups(&mut self) -> Vec<(Vec<u8>, u32, Vec<Vec<u8>>)> {
        let data = self.read_path(b"/etc/group").unwrap_or_default();
        data.split(|b| *b == b'\n')
            .take(2_000)
            .filter_map(|line| {
                let mut f = line.split(|b| *b == b':');
                let name = f.next().filter(|n| !n.is_empty())?.to_vec();
                f.next()?;
                let id = std::str::from_utf8(f.next()?).ok()?.parse().ok()?;
                let members = f.next().unwrap_or_default().split(|b| *b == b',').filter(|m| !m.is_empty()).map(<[u8]>::to_vec).collect();
                Some((name, id, members))
            })
            .collect()
    }

    pub(in crate::system) fn user_name(&mut self, uid: u32) -> Vec<u8> {
        self.accounts().into_iter().find(|a| a.uid == uid).map_or_else(|| uid.to_string().into_bytes(), |a| a.name)
    }

    pub(in crate::system) fn group_name(&mut self, gid: u32) -> Vec<u8> {
        self.groups().into_iter().find(|g| g.1 == gid).map_or_else(|| gid.to_string().into_bytes(), |g| g.0)
    }

    /// Whether standard output is the terminal.
    pub(in crate::system) fn is_tty(&self, fd: Fd) -> bool {
        self.session.tty.is_some() && matches!(fd, Fd::Out | Fd::Err | Fd::Terminal)
    }
}

/// One line of `/etc/passwd`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::system) struct Passwd {
    pub name: Vec<u8>,
    pub uid: u32,
    pub gid: u32,
    pub gecos: Vec<u8>,
    pub home: Vec<u8>,
    pub shell: Vec<u8>,
}
