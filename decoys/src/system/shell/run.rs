//! Running the nodes of the grammar.

use std::sync::Arc;

use super::{
    ast::{Cond, Fall, Node, Redir, Word},
    exec::{Exec, Fd, Flow, Io},
    lexer::{Fault, Lexer},
    parser, pattern,
    simple::negatable,
    state::State,
};
use crate::system::{commands::test_unary, regex::Regex};

impl Exec<'_> {
    /// Runs a text line by line.
    pub(in crate::system) fn source(&mut self, st: &mut State, io: Io, text: &[u8]) -> i32 {
        let mut lex = Lexer::new(text, false);
        let mut status = 0;
        let mut io = io;
        loop {
            self.spend(1);
            let unit = parser::unit(&mut lex);
            for (line, end) in std::mem::take(&mut lex.warnings) {
                st.line = line;
                self.complain(
                    st,
                    io,
                    &format!("warning: here-document at line {line} delimited by end-of-file (wanted `{}')", String::from_utf8_lossy(&end)),
                );
            }
            match unit {
                Ok(None) => return status,
                Ok(Some(node)) => {
                    status = self.node(st, io, &node);
                    io = self.kept_io.take().unwrap_or(io);
                    if self.flow == Flow::Discard {
                        // The next line goes on.
                        self.flow = Flow::None;
                        status = 1;
                        st.last = 1;
                        continue;
                    }
                    if self.flow != Flow::None {
                        return if self.flow == Flow::Exit { st.last } else { status };
                    }
                }
                Err(fault) => {
                    st.line = lex.line;
                    self.syntax(st, io, &fault, text, lex.line);
                    st.last = 2;
                    return 2;
                }
            }
        }
    }

    /// Prints a syntax error as bash does.
    fn syntax(&mut self, st: &mut State, io: Io, fault: &Fault, text: &[u8], line: u32) {
        let shown = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
        let label = shown(&st.label);
        let head = if st.interactive {
            format!("{label}: ")
        } else if label == "bash" {
            format!("bash: -c: line {line}: ")
        } else {
            format!("{label}: line {line}: ")
        };
        let message = match fault {
            Fault::Token(token) if st.posix => format!("{label}: {line}: Syntax error: \"{}\" unexpected\n", shown(token)),
            Fault::End(_) if st.posix => format!("{label}: {line}: Syntax error: end of file unexpected\n"),
            Fault::Token(token) => {
                let mut m = format!("{head}syntax error near unexpected token `{}'\n", shown(token));
                if !st.interactive {
                    let source = text.split(|b| *b == b'\n').nth(line.saturating_sub(1) as usize).unwrap_or_default();
                    m.push_str(&format!("{head}`{}'\n", shown(source)));
                }
                m
            }
            Fault::End(0) => {
                format!("{}syntax error: unexpected end of file\n", head.replace(&format!("line {line}"), &format!("line {}", line + 1)))
            }
            Fault::End(b')') => format!(
                "{}unexpected EOF while looking for matching `)'\n",
                head.replace(&format!("line {line}"), &format!("line {}", line + 1))
            ),
            Fault::End(quote) => format!("{head}unexpected EOF while looking for matching `{}'\n", char::from(*quote)),
            Fault::Depth => format!("{head}memory exhausted\n"),
            Fault::Bad(text) => {
                format!("{}{}: bad substitution\n", if st.interactive { head } else { format!("{label}: line {line}: ") }, shown(text))
            }
        };
        // A message that cannot be written is lost.
        let _ = self.write(io.get(2), message.as_bytes());
    }

    /// Runs one node and sets `$?`.
    pub(in crate::system) fn node(&mut self, st: &mut State, io: Io, node: &Node) -> i32 {
        if !self.spend(1) {
            return 137;
        }
        self.nest += 1;
        if self.nest > crate::system::limits::NEST {
            self.complain(st, io, "fork: retry: Resource temporarily unavailable");
            self.kill();
        }
        if self.flow == Flow::Stop {
            self.nest -= 1;
            return 137;
        }
        let status = self.node_inner(st, io, node);
        self.nest -= 1;
        if self.flow != Flow::Exit && self.flow != Flow::Return {
            st.last = status;
        }
        if status != 0 && st.flag(b'e') && self.flow == Flow::None && negatable(node) && self.guard == 0 {
            st.last = status;
            self.flow = Flow::Exit;
        }
        status
    }

    fn node_inner(&mut self, st: &mut State, io: Io, node: &Node) -> i32 {
        match node {
            Node::Simple { assigns, words, redirs, line } => {
                st.line = *line;
                self.simple(st, io, assigns, words, redirs)
            }
            Node::Pipeline { stages, negate, timed } => self.pipeline(st, io, stages, *negate, *timed),
            Node::And(left, right) | Node::Or(left, right) => {
                self.guard += 1;
                let status = self.node(st, io, left);
                self.guard -= 1;
                if self.flow == Flow::None && (status == 0) == matches!(node, Node::And(..)) { self.node(st, io, right) } else { status }
            }
            Node::List(nodes) => {
                let mut status = 0;
                let mut io = io;
                for node in nodes {
                    let prior = self.kept_io.take();
                    status = self.node(st, io, node);
                    // `exec` with redirections only changes what follows it; the caller sees it too.
                    match self.kept_io {
                        Some(kept) => io = kept,
                        None => self.kept_io = prior,
                    }
                    if self.flow != Flow::None {
                        break;
                    }
                }
                status
            }
            Node::Background(inner, source) => {
                let mut sub = self.subshell(st);
                let pid = self.new_pid();
                let quiet = if st.interactive { io.get(0) } else { Fd::Null };
                let job = st.jobs.len() + 1;
                if st.interactive {
                    let line = format!("[{job}] {pid}\n");
                    let _ = self.write(io.get(2), line.as_bytes());
                }
                let _ = self.run_sub(&mut sub, io.with(0, quiet), inner);
                if st.jobs.len() < 64 {
                    st.jobs.push((pid, source.iter().copied().take(512).collect()));
                }
                st.last_job = Some(pid);
                0
            }
            Node::Group(inner, redirs) => self.redirected(st, io, redirs, |x, st, io| x.node(st, io, inner)),
            Node::Subshell(inner, redirs) => self.redirected(st, io, redirs, |x, st, io| {
                let mut sub = x.subshell(st);
                let status = x.run_sub(&mut sub, io, inner);
                st.random = sub.random;
                status
            }),
            Node::If { arms, otherwise, redirs } => self.redirected(st, io, redirs, |x, st, io| {
                for (cond, body) in arms {
                    x.guard += 1;
                    let status = x.node(st, io, cond);
                    x.guard -= 1;
                    if x.flow != Flow::None {
                        return status;
                    }
                    if status == 0 {
                        return x.node(st, io, body);
                    }
                }
                otherwise.as_ref().map_or(0, |body| x.node(st, io, body))
            }),
            Node::For { name, words, body, redirs } => self.redirected(st, io, redirs, |x, st, io| {
                let items = match words {
                    Some(words) => x.words(st, io, words),
                    None => st.args.clone(),
                };
                let mut status = 0;
                for item in items {
                    if x.flow != Flow::None {
                        break;
                    }
                    st.set(name, item);
                    x.loops += 1;
                    status = x.node(st, io, body);
                    x.loops -= 1;
                    if x.loop_ends() {
                        break;
                    }
                }
                status
            }),
            Node::CFor { init, cond, step, body, redirs } => {
                self.redirected(st, io, redirs, |x, st, io| x.c_for(st, io, [init, cond, step], body))
            }
            Node::While { cond, body, until, redirs } => self.redirected(st, io, redirs, |x, st, io| {
                let mut status = 0;
                loop {
                    x.guard += 1;
                    x.loops += 1;
                    let test = x.node(st, io, cond);
                    x.loops -= 1;
                    x.guard -= 1;
                    if x.loop_ends() || (test == 0) == *until {
                        return status;
                    }
                    x.loops += 1;
                    status = x.node(st, io, body);
                    x.loops -= 1;
                    if x.loop_ends() {
                        return status;
                    }
                }
            }),
            Node::Case { word, arms, redirs } => self.redirected(st, io, redirs, |x, st, io| {
                let text = x.single(st, io, word);
                let mut status = 0;
                let mut through = false;
                for (patterns, body, fall) in arms {
                    let hit = through
                        || patterns.iter().any(|p| {
                            let p = x.pattern(st, io, p);
                            pattern::matches(&p, &text)
                        });
                    if hit {
                        status = x.node(st, io, body);
                        if x.flow != Flow::None {
                            return status;
                        }
                        match fall {
                            Fall::Stop => return status,
                            Fall::Through => through = true,
                            Fall::Retest => through = false,
                        }
                    }
                }
                status
            }),
            Node::Function { name, body, source } => {
                let size = source.len() + name.len();
                if st.bytes + size <= crate::system::limits::STATE {
                    st.bytes += size;
                    st.funcs.insert(name.clone(), (Arc::clone(body), Arc::clone(source)));
                }
                0
            }
            Node::Cond(cond, redirs) => self.redirected(st, io, redirs, |x, st, io| match x.cond(st, io, cond) {
                Ok(hit) => i32::from(!hit),
                Err(()) => 2,
            }),
            Node::Arith(word, redirs) => self.redirected(st, io, redirs, |x, st, io| match x.arith(st, io, word) {
                Ok(value) => i32::from(value == 0),
                Err(message) => {
                    x.complain(st, io, &format!("((: {message}"));
                    1
                }
            }),
        }
    }

    fn redirected(&mut self, st: &mut State, io: Io, redirs: &[Redir], run: impl FnOnce(&mut Self, &mut State, Io) -> i32) -> i32 {
        if redirs.is_empty() {
            return run(self, st, io);
        }
        match self.redirect(st, io, redirs) {
            Some(io) => run(self, st, io),
            None => 1,
        }
    }

    /// Takes `break` and `continue` that end at this loop; tells whether the loop is over.
    fn loop_ends(&mut self) -> bool {
        match self.flow {
            Flow::None => false,
            Flow::Break(n) => {
                self.flow = if n > 1 { Flow::Break(n - 1) } else { Flow::None };
                true
            }
            Flow::Continue(n) if n > 1 => {
                self.flow = Flow::Continue(n - 1);
                true
            }
            Flow::Continue(_) => {
                self.flow = Flow::None;
                false
            }
            _ => true,
        }
    }

    fn c_for(&mut self, st: &mut State, io: Io, [init, cond, step]: [&Word; 3], body: &Node) -> i32 {
        let mut status = 0;
        let eval = |x: &mut Self, st: &mut State, word: &Word, empty: i64| {
            if word.is_empty() {
                return Some(empty);
            }
            match x.arith(st, io, word) {
                Ok(value) => Some(value),
                Err(message) => {
                    x.complain(st, io, &format!("((: {message}"));
                    None
                }
            }
        };
        if eval(self, st, init, 0).is_none() {
            return 1;
        }
        loop {
            match eval(self, st, cond, 1) {
                None => return 1,
                Some(0) => return status,
                Some(_) => {}
            }
            self.loops += 1;
            status = self.node(st, io, body);
            self.loops -= 1;
            if self.loop_ends() {
                return status;
            }
            if eval(self, st, step, 0).is_none() {
                return 1;
            }
            if !self.spend(1) {
                return 137;
            }
        }
    }

    fn pipeline(&mut self, st: &mut State, io: Io, stages: &[(Node, bool)], negate: bool, timed: bool) -> i32 {
        let started = self.took_ns;
        let mut status = 0;
        if let [(only, _)] = stages {
            if negate {
                self.guard += 1;
            }
            status = self.node(st, io, only);
            if negate {
                self.guard -= 1;
            }
            st.pipestatus = vec![status];
        } else if !stages.is_empty() {
            let mut statuses = Vec::with_capacity(stages.len());
            let mut from = io.get(0);
            for (at, (stage, both)) in stages.iter().enumerate() {
                let last = at + 1 == stages.len();
                let mut sub = self.subshell(st);
                let mut stage_io = io.with(0, from);
                let mut pipe = None;
                if !last {
                    let to = self.pipe();
                    pipe = Some(to);
                    stage_io = stage_io.with(1, Fd::Pipe(to));
                    if *both {
                        stage_io = stage_io.with(2, Fd::Pipe(to));
                    }
                }
                status = self.run_sub(&mut sub, stage_io, stage);
                st.random = sub.random;
                statuses.push(status);
                if self.flow == Flow::Stop {
                    return status;
                }
                // What the last reader did not take is let go.
                if let Fd::Input(done) = from
                    && at > 0
                    && let Some(source) = self.inputs.get_mut(done)
                {
                    source.data = Arc::default();
                }
                if let Some(pipe) = pipe {
                    let data = self.drain(pipe);
                    from = self.input(data);
                }
            }
            if st.pipefail {
                status = statuses.iter().rev().copied().find(|s| *s != 0).unwrap_or(0);
            }
            st.pipestatus = statuses;
        }
        if timed {
            let ns = (self.took_ns - started).max(0) + 1_300_000;
            let line = format!(
                "\nreal\t{}m{}.{:03}s\nuser\t0m0.001s\nsys\t0m0.000s\n",
                ns / 60_000_000_000,
                ns / 1_000_000_000 % 60,
                ns / 1_000_000 % 1_000
            );
            let _ = self.write(io.get(2), line.as_bytes());
        }
        if negate { i32::from(status == 0) } else { status }
    }

    /// A `[[ … ]]` expression; an error was printed when it fails.
    fn cond(&mut self, st: &mut State, io: Io, cond: &Cond) -> Result<bool, ()> {
        self.spend(1);
        Ok(match cond {
            Cond::Not(inner) => !self.cond(st, io, inner)?,
            Cond::And(a, b) => self.cond(st, io, a)? && self.cond(st, io, b)?,
            Cond::Or(a, b) => self.cond(st, io, a)? || self.cond(st, io, b)?,
            Cond::Word(word) => !self.single(st, io, word).is_empty(),
            Cond::Unary(op, word) => {
                let text = self.single(st, io, word);
                test_unary(self, st, io, *op, &text)
            }
            Cond::Binary(left, op, right) => {
                let a = self.single(st, io, left);
                match op.as_slice() {
                    b"=" | b"==" | b"!=" => {
                        let p = self.pattern(st, io, right);
                        pattern::matches(&p, &a) == (op != b"!=")
                    }
                    b"=~" => {
                        let text = self.pattern(st, io, right);
                        let Ok(regex) = Regex::extended(&text, false) else { return Err(()) };
                        let mut work = self.steps.min(20_000);
                        let before = work;
                        let found = regex.find(&a, 0, &mut work);
                        self.spend((before - work) / 16);
                        match found {
                            Some(groups) => {
                                let values = groups.iter().enumerate().map(|(at, g)| {
                                    let text = g.and_then(|(s, e)| a.get(s..e)).unwrap_or_default().to_vec();
                                    (at as i64, text)
                                });
                                st.put(b"BASH_REMATCH", super::state::Value::Array(values.collect()));
                                true
                            }
                            None => false,
                        }
                    }
                    b"<" | b">" => {
                        let b = self.single(st, io, right);
                        if op == b"<" { a < b } else { a > b }
                    }
                    b"-nt" | b"-ot" | b"-ef" => {
                        let b = self.single(st, io, right);
                        crate::system::commands::test_files(self, st, op, &a, &b)
                    }
                    _ => {
                        let x = self.arith(st, io, left);
                        let y = self.arith(st, io, right);
                        let (Ok(x), Ok(y)) = (x, y) else { return Err(()) };
                        match op.as_slice() {
                            b"-eq" => x == y,
                            b"-ne" => x != y,
                            b"-lt" => x < y,
                            b"-le" => x <= y,
                            b"-gt" => x > y,
                            _ => x >= y,
                        }
                    }
                }
            }
        })
    }
}
