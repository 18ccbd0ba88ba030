//! Running `awk` programs over records and fields.

use std::collections::{BTreeMap, HashMap};

use super::{
    ast::{Expr, Op, Pattern, Program, Stmt},
    value::Value,
};
use crate::system::{commands::Cx, limits, regex::Regex};

pub(super) const BUILTINS: [&str; 20] = [
    "length", "substr", "index", "split", "sub", "gsub", "match", "sprintf", "tolower", "toupper", "int", "sqrt", "exp", "log", "sin",
    "cos", "rand", "srand", "system", "close",
];

pub(super) type Array = BTreeMap<Vec<u8>, Value>;

/// How a statement ended.
pub(super) enum End {
    Normal,
    Next,
    Exit,
    Break,
    Continue,
    Return(Value),
    Fault(String),
}

pub(super) struct Awk<'c, 'a, 'm> {
    pub cx: &'c mut Cx<'a, 'm>,
    pub(super) program: &'c Program,
    pub(super) vars: HashMap<String, Value>,
    pub(super) arrays: HashMap<String, Array>,
    pub(super) record: Vec<u8>,
    pub(super) fields: Vec<Vec<u8>>,
    pub(super) input: Vec<Vec<u8>>,
    pub(super) at: usize,
    pub(super) ranges: Vec<bool>,
    pub(super) files: BTreeMap<Vec<u8>, (u8, Vec<u8>)>,
    pub(super) streams: HashMap<Vec<u8>, (Vec<Vec<u8>>, usize)>,
    pub(super) regexes: HashMap<Vec<u8>, Regex>,
    pub status: i32,
    pub(super) depth: usize,
    pub(super) nest: usize,
    pub(super) held: usize,
}

impl<'c, 'a, 'm> Awk<'c, 'a, 'm> {
    pub(super) fn new(cx: &'c mut Cx<'a, 'm>, program: &'c Program) -> Self {
        let mut vars = HashMap::new();
        for (name, value) in [
            ("FS", " "),
            ("OFS", " "),
            ("ORS", "\n"),
            ("RS", "\n"),
            ("SUBSEP", "\x1c"),
            ("OFMT", "%.6g"),
            ("CONVFMT", "%.6g"),
            ("FILENAME", ""),
        ] {
            vars.insert(name.to_owned(), Value::Text(value.as_bytes().to_vec()));
        }
        for name in ["NR", "NF", "FNR", "RSTART"] {
            vars.insert(name.to_owned(), Value::Number(0.0));
        }
        vars.insert("RLENGTH".to_owned(), Value::Number(-1.0));
        let mut arrays = HashMap::new();
        let lines = cx.st.environment();
        let environ = lines.iter().filter_map(|line| {
            let at = line.iter().position(|b| *b == b'=')?;
            Some((line.get(..at)?.to_vec(), Value::from_input(line.get(at + 1..)?.to_vec())))
        });
        arrays.insert("ENVIRON".to_owned(), environ.collect());
        Self {
            cx,
            program,
            vars,
            arrays,
            record: Vec::new(),
            fields: Vec::new(),
            input: Vec::new(),
            at: 0,
            ranges: vec![false; program.rules.len()],
            files: BTreeMap::new(),
            streams: HashMap::new(),
            regexes: HashMap::new(),
            status: 0,
            depth: 0,
            nest: 0,
            held: 0,
        }
    }

    pub(super) fn preset(&mut self, name: &str, value: Vec<u8>) {
        self.vars.insert(name.to_owned(), Value::from_input(value));
    }

    /// Whether the program only has BEGIN rules, so that no input is read.
    fn only_begin(&self) -> bool {
        self.program.rules.iter().all(|r| matches!(r.0, Pattern::Begin))
    }

    pub(super) fn run(&mut self, paths: &[Vec<u8>]) -> Result<(), String> {
        let argv = std::iter::once(b"awk".to_vec())
            .chain(paths.iter().cloned())
            .enumerate()
            .map(|(n, p)| (n.to_string().into_bytes(), Value::from_input(p)));
        self.arrays.insert("ARGV".to_owned(), argv.collect());
        self.vars.insert("ARGC".to_owned(), Value::Number(paths.len() as f64 + 1.0));
        let program = self.program;
        let mut over = false;
        for (pattern, action) in &program.rules {
            if matches!(pattern, Pattern::Begin)
                && let Some(stmt) = action
            {
                match self.stmt(stmt) {
                    End::Exit => over = true,
                    End::Fault(m) => return Err(m),
                    _ => {}
                }
                if over {
                    break;
                }
            }
        }
        if self.only_begin() {
            self.finish();
            return Ok(());
        }
        if !over {
            let paths = if paths.iter().all(|p| assignment(p).is_some()) {
                paths.iter().cloned().chain([b"-".to_vec()]).collect()
            } else {
                paths.to_vec()
            };
            for path in paths {
                if let Some((name, value)) = assignment(&path) {
                    let name = String::from_utf8_lossy(name).into_owned();
                    self.preset(&name, value.to_vec());
                    continue;
                }
                match self.cx.read(&path) {
                    Ok(data) => {
                        self.vars.insert("FILENAME".to_owned(), Value::Text(if path == b"-" { Vec::new() } else { path.clone() }));
                        self.vars.insert("FNR".to_owned(), Value::Number(0.0));
                        self.input = self.records(&data);
                        self.at = 0;
                        match self.main()? {
                            true => {}
                            false => break,
                        }
                    }
                    Err(e) => {
                        self.cx.err(&format!("mawk: cannot open {} ({})\n", String::from_utf8_lossy(&path), e.text()));
                        self.status = 2;
                        return Ok(());
                    }
                }
            }
        }
        for (pattern, action) in &program.rules {
            if matches!(pattern, Pattern::End)
                && let Some(stmt) = action
            {
                match self.stmt(stmt) {
                    End::Exit => break,
                    End::Fault(m) => return Err(m),
                    _ => {}
                }
            }
        }
        self.finish();
        Ok(())
    }

    fn finish(&mut self) {
        for (target, (kind, data)) in std::mem::take(&mut self.files) {
            self.flush(&target, kind, data);
        }
    }

    pub(super) fn flush(&mut self, target: &[u8], kind: u8, data: Vec<u8>) {
        match kind {
            b'|' => {
                let fd = self.cx.x.input(data);
                let io = self.cx.io.with(0, fd);
                let state = self.cx.x.subshell_state(self.cx.st);
                self.cx.x.script(&state, io, target, &[b"sh".to_vec()], true);
            }
            b'a' => {
                let _ = self.cx.append_file(target, &data);
            }
            _ => {
                let _ = self.cx.write_file(target, data);
            }
        }
    }

    fn records(&mut self, data: &[u8]) -> Vec<Vec<u8>> {
        let rs = self.var("RS").text();
        match rs.as_slice() {
            b"\n" => crate::system::commands::lines(data).map(<[u8]>::to_vec).collect(),
            b"" => {
                let mut out: Vec<Vec<u8>> = Vec::new();
                let mut now: Vec<u8> = Vec::new();
                for line in crate::system::commands::lines(data) {
                    if line.is_empty() {
                        if !now.is_empty() {
                            out.push(std::mem::take(&mut now));
                        }
                    } else {
                        if !now.is_empty() {
                            now.push(b'\n');
                        }
                        now.extend_from_slice(line);
                    }
                }
                if !now.is_empty() {
                    out.push(now);
                }
                out
            }
            [b] => {
                let body = data.strip_suffix(&[*b]).unwrap_or(data);
                if data.is_empty() { Vec::new() } else { body.split(|c| c == b).map(<[u8]>::to_vec).collect() }
            }
            pattern => {
                let pattern = pattern.to_vec();
                let body = data.strip_suffix(b"\n").unwrap_or(data).to_vec();
                self.split_regex(&body, &pattern)
            }
        }
    }

    pub(super) fn work(&mut self) -> u64 {
        self.cx.x.steps.saturating_mul(8)
    }

    pub(super) fn regex(&mut self, text: &[u8]) -> Option<Regex> {
        if let Some(r) = self.regexes.get(text) {
            return Some(r.clone());
        }
        let regex = Regex::extended(text, false).ok()?;
        if self.regexes.len() < 64 {
            self.regexes.insert(text.to_vec(), regex.clone());
        }
        Some(regex)
    }

    fn split_regex(&mut self, text: &[u8], pattern: &[u8]) -> Vec<Vec<u8>> {
        let Some(regex) = self.regex(pattern) else { return vec![text.to_vec()] };
        let mut out = Vec::new();
        let (mut from, mut at) = (0, 0);
        let mut work = self.work();
        while at <= text.len() {
            match regex.find(text, at, &mut work).and_then(|g| g.first().copied().flatten()) {
                Some((s, e)) if e > s => {
                    out.push(text.get(from..s).unwrap_or_default().to_vec());
                    (from, at) = (e, e);
                }
                Some((s, _)) => at = s + 1,
                None => break,
            }
        }
        self.cx.x.spend(1 + out.len() as u64 / 8);
        out.push(text.get(from..).unwrap_or_default().to_vec());
        out
    }

    pub(super) fn split(&mut self, text: &[u8], separator: &[u8]) -> Vec<Vec<u8>> {
        if text.is_empty() {
            return Vec::new();
        }
        match separator {
            b" " => text.split(|b| matches!(b, b' ' | b'\t' | b'\n')).filter(|f| !f.is_empty()).map(<[u8]>::to_vec).collect(),
            b"" => text.iter().map(|b| vec![*b]).collect(),
            [b] if *b != b'\\' && !b".[]()*+?^$|{}".contains(b)
                || matches!(b, b'|' | b'.' | b'*' | b'+' | b'?' | b'$' | b'^' | b'(' | b')' | b'{' | b'}' | b'[' | b']') =>
            {
                text.split(|c| c == b).map(<[u8]>::to_vec).collect()
            }
            pattern => self.split_regex(text, pattern),
        }
    }

    fn set_record(&mut self, record: Vec<u8>) {
        let fs = self.var("FS").text();
        self.fields = self.split(&record, &fs);
        self.record = record;
        self.vars.insert("NF".to_owned(), Value::Number(self.fields.len() as f64));
    }

    fn rebuild(&mut self) {
        let ofs = self.var("OFS").text();
        self.record = self.fields.join(ofs.as_slice());
        self.vars.insert("NF".to_owned(), Value::Number(self.fields.len() as f64));
    }

    fn count(&mut self) {
        for name in ["NR", "FNR"] {
            let n = self.var(name).number() + 1.0;
            self.vars.insert(name.to_owned(), Value::Number(n));
        }
    }

    /// All records; `false` after `exit`.
    fn main(&mut self) -> Result<bool, String> {
        let program = self.program;
        while let Some(record) = self.input.get_mut(self.at).map(std::mem::take) {
            self.at += 1;
            if !self.cx.alive() {
                return Ok(false);
            }
            self.count();
            self.set_record(record);
            for (n, (pattern, action)) in program.rules.iter().enumerate() {
                let hit = match pattern {
                    Pattern::Begin | Pattern::End => false,
                    Pattern::Always => true,
                    Pattern::When(e) => self.eval(e)?.truth(),
                    Pattern::Range(from, to) => {
                        let open = self.ranges.get(n).copied().unwrap_or(false);
                        let inside = open || self.eval(from)?.truth();
                        if inside {
                            let ends = self.eval(to)?.truth();
                            if let Some(slot) = self.ranges.get_mut(n) {
                                *slot = !ends;
                            }
                        }
                        inside
                    }
                };
                if !hit {
                    continue;
                }
                let end = match action {
                    Some(stmt) => self.stmt(stmt),
                    None => self.stmt(&Stmt::Print(Vec::new(), false, None)),
                };
                match end {
                    End::Next => break,
                    End::Exit => return Ok(false),
                    End::Fault(m) => return Err(m),
                    _ => {}
                }
            }
        }
        Ok(true)
    }

    pub(super) fn stmt(&mut self, stmt: &Stmt) -> End {
        if !self.cx.alive() {
            return End::Exit;
        }
        match self.stmt_inner(stmt) {
            Ok(end) => end,
            Err(m) => End::Fault(m),
        }
    }

    fn looped(&mut self, body: &Stmt) -> Option<End> {
        match self.stmt(body) {
            End::Break => Some(End::Normal),
            End::Normal | End::Continue => None,
            other => Some(other),
        }
    }

    fn stmt_inner(&mut self, stmt: &Stmt) -> Result<End, String> {
        Ok(match stmt {
            Stmt::Expr(e) => {
                self.eval(e)?;
                End::Normal
            }
            Stmt::Print(args, formatted, target) => {
                self.print(args, *formatted, target.as_ref())?;
                End::Normal
            }
            Stmt::If(cond, yes, no) => {
                if self.eval(cond)?.truth() {
                    self.stmt(yes)
                } else if let Some(no) = no {
                    self.stmt(no)
                } else {
                    End::Normal
                }
            }
            Stmt::While(cond, body) => {
                while self.eval(cond)?.truth() {
                    if let Some(end) = self.looped(body) {
                        return Ok(end);
                    }
                }
                End::Normal
            }
            Stmt::Do(body, cond) => loop {
                if let Some(end) = self.looped(body) {
                    return Ok(end);
                }
                if !self.eval(cond)?.truth() {
                    return Ok(End::Normal);
                }
            },
            Stmt::For(init, cond, step, body) => {
                if let Some(init) = init {
                    self.stmt(init);
                }
                loop {
                    if let Some(cond) = cond
                        && !self.eval(cond)?.truth()
                    {
                        return Ok(End::Normal);
                    }
                    if let Some(end) = self.looped(body) {
                        return Ok(end);
                    }
                    if let Some(step) = step
                        && let End::Exit = self.stmt(step)
                    {
                        return Ok(End::Exit);
                    }
                }
            }
            Stmt::ForIn(var, array, body) => {
                let keys: Vec<Vec<u8>> = self.arrays.get(array).map(|a| a.keys().cloned().collect()).unwrap_or_default();
                for key in keys {
                    self.set_var(var, Value::from_input(key));
                    if let Some(end) = self.looped(body) {
                        return Ok(end);
                    }
                }
                End::Normal
            }
            Stmt::Block(all) => {
                for stmt in all {
                    match self.stmt(stmt) {
                        End::Normal => {}
                        other => return Ok(other),
                    }
                }
                End::Normal
            }
            Stmt::Next => End::Next,
            Stmt::Exit(value) => {
                if let Some(value) = value {
                    self.status = (self.eval(value)?.number() as i64 & 0xff) as i32;
                }
                End::Exit
            }
            Stmt::Return(value) => End::Return(match value {
                Some(v) => self.eval(v)?,
                None => Value::Nothing,
            }),
            Stmt::Break => End::Break,
            Stmt::Continue => End::Continue,
            Stmt::Delete(name, index) => {
                match index {
                    Some(index) => {
                        let key = self.key(index)?;
                        if let Some(array) = self.arrays.get_mut(name) {
                            array.remove(&key);
                        }
                    }
                    None => {
                        self.arrays.remove(name);
                    }
                }
                End::Normal
            }
        })
    }

    pub(super) fn var(&self, name: &str) -> Value {
        self.vars.get(name).cloned().unwrap_or(Value::Nothing)
    }

    fn set_var(&mut self, name: &str, value: Value) {
        if name == "NF" {
            let n = (value.number().max(0.0) as usize).min(32_768);
            self.fields.resize(n, Vec::new());
            self.rebuild();
            return;
        }
        if let Value::Text(t) | Value::Input(t, _) = &value {
            if t.len() > limits::PIPE {
                self.cx.x.kill();
                return;
            }
            self.cx.x.spend(t.len() as u64 / 512);
        }
        if self.vars.len() < 4_096 || self.vars.contains_key(name) {
            self.vars.insert(name.to_owned(), value);
        }
    }

    fn key(&mut self, index: &[Expr]) -> Result<Vec<u8>, String> {
        let mut parts = Vec::new();
        for e in index {
            parts.push(self.eval(e)?.text());
        }
        let sep = self.var("SUBSEP").text();
        Ok(parts.join(sep.as_slice()))
    }

    pub(super) fn assign(&mut self, target: &Expr, value: Value) -> Result<(), String> {
        match target {
            Expr::Var(name) => self.set_var(name, value),
            Expr::Index(name, index) => {
                let key = self.key(index)?;
                self.held += 64 + key.len();
                if self.held > 8 * limits::PIPE {
                    self.cx.x.kill();
                    return Ok(());
                }
                self.arrays.entry(name.clone()).or_default().insert(key, value);
            }
            Expr::Field(n) => {
                let n = self.eval(n)?.number();
                if !(0.0..=32_768.0).contains(&n) {
                    return Err("attempt to assign to a field out of range".to_owned());
                }
                let n = n as usize;
                if n == 0 {
                    self.set_record(value.text());
                } else {
                    if self.fields.len() < n {
                        self.fields.resize(n, Vec::new());
                    }
                    if let Some(slot) = self.fields.get_mut(n - 1) {
                        *slot = value.text();
                    }
                    self.rebuild();
                }
            }
            Expr::Group(inner) => return self.assign(inner, value),
            _ => return Err("assignment to something that is no variable".to_owned()),
        }
        Ok(())
    }

    fn matches(&mut self, text: &[u8], pattern: &Expr) -> Result<bool, String> {
        let regex = match pattern {
            Expr::Regex(r) => r.as_ref().clone(),
            other => {
                let p = self.eval(other)?.text();
                match self.regex(&p) {
                    Some(r) => r,
                    None => return Ok(false),
                }
            }
        };
        let before = self.work();
        let mut work = before;
        let hit = regex.find(text, 0, &mut work).is_some();
        self.cx.x.spend((before - work) / 16);
        Ok(hit)
    }

    pub(super) fn eval(&mut self, e: &Expr) -> Result<Value, String> {
        if !self.cx.x.spend(1) {
            return Ok(Value::Nothing);
        }
        self.nest += 1;
        if self.nest > limits::NEST {
            self.cx.x.kill();
            self.nest -= 1;
            return Ok(Value::Nothing);
        }
        let value = self.eval_inner(e);
        self.nest -= 1;
        value
    }

    fn eval_inner(&mut self, e: &Expr) -> Result<Value, String> {
        let truth = |b: bool| Value::Number(f64::from(u8::from(b)));
        Ok(match e {
            Expr::Number(n) => Value::Number(*n),
            Expr::Text(t) => Value::Text(t.clone()),
            Expr::Group(inner) => self.eval(inner)?,
            Expr::Regex(_) => {
                let record = self.record.clone();
                truth(self.matches(&record, e)?)
            }
            Expr::Field(n) => {
                let n = self.eval(n)?.number();
                if n < 0.0 {
                    return Err("negative field index".to_owned());
                }
                match n as usize {
                    0 => Value::from_input(self.record.clone()),
                    n => self.fields.get(n - 1).map_or(Value::Nothing, |f| Value::from_input(f.clone())),
                }
            }
            Expr::Var(name) => self.var(name),
            Expr::Index(name, index) => {
                let key = self.key(index)?;
                match self.arrays.get(name).and_then(|a| a.get(&key)) {
                    Some(v) => v.clone(),
                    None => {
                        // Looking makes the element, as `in` later tells.
                        self.assign(e, Value::Nothing)?;
                        Value::Nothing
                    }
                }
            }
            Expr::Assign(target, op, value) => {
                let right = self.eval(value)?;
                let result = if *op == b'=' {
                    right
                } else {
                    let left = self.eval(target)?.number();
                    let op = match op {
                        b'+' => Op::Add,
                        b'-' => Op::Sub,
                        b'*' => Op::Mul,
                        b'/' => Op::Div,
                        b'%' => Op::Mod,
                        _ => Op::Pow,
                    };
                    Value::Number(arithmetic(op, left, right.number())?)
                };
                self.assign(target, result.clone())?;
                result
            }
            Expr::Cond(c, yes, no) => {
                if self.eval(c)?.truth() {
                    self.eval(yes)?
                } else {
                    self.eval(no)?
                }
            }
            Expr::Binary(Op::Or, a, b) => truth(self.eval(a)?.truth() || self.eval(b)?.truth()),
            Expr::Binary(Op::And, a, b) => truth(self.eval(a)?.truth() && self.eval(b)?.truth()),
            Expr::Binary(Op::Concat, a, b) => {
                let mut text = self.eval(a)?.text();
                text.extend(self.eval(b)?.text());
                if text.len() > limits::PIPE {
                    self.cx.x.kill();
                }
                self.cx.x.spend(text.len() as u64 / 512);
                Value::Text(text)
            }
            Expr::Binary(op @ (Op::Less | Op::LessEq | Op::Equal | Op::NotEqual | Op::Greater | Op::GreaterEq), a, b) => {
                let (a, b) = (self.eval(a)?, self.eval(b)?);
                let textual = matches!(a, Value::Text(_)) || matches!(b, Value::Text(_));
                let order = if textual { a.text().cmp(&b.text()) } else { a.number().total_cmp(&b.number()) };
                truth(match op {
                    Op::Less => order.is_lt(),
                    Op::LessEq => order.is_le(),
                    Op::Equal => order.is_eq(),
                    Op::NotEqual => order.is_ne(),
                    Op::Greater => order.is_gt(),
                    _ => order.is_ge(),
                })
            }
            Expr::Binary(op, a, b) => {
                let (a, b) = (self.eval(a)?.number(), self.eval(b)?.number());
                Value::Number(arithmetic(*op, a, b)?)
            }
            Expr::Match(negate, text, pattern) => {
                let text = self.eval(text)?.text();
                truth(self.matches(&text, pattern)? != *negate)
            }
            Expr::In(index, name) => {
                let key = self.key(index)?;
                truth(self.arrays.get(name).is_some_and(|a| a.contains_key(&key)))
            }
            Expr::Not(inner) => truth(!self.eval(inner)?.truth()),
            Expr::Minus(inner) => Value::Number(-self.eval(inner)?.number()),
            Expr::Plus(inner) => Value::Number(self.eval(inner)?.number()),
            Expr::Step(target, step, old) => {
                let before = self.eval(target)?.number();
                self.assign(target, Value::Number(before + step))?;
                Value::Number(if *old { before } else { before + step })
            }
            Expr::Getline(target, from) => self.getline(target.as_deref(), from.as_ref())?,
            Expr::Call(name, args) => self.call(name, args)?,
        })
    }

    fn getline(&mut self, target: Option<&Expr>, from: Option<&(bool, Box<Expr>)>) -> Result<Value, String> {
        let record = match from {
            None => {
                let record = self.input.get_mut(self.at).map(std::mem::take);
                if record.is_some() {
                    self.at += 1;
                    self.count();
                }
                record
            }
            Some((command, source)) => {
                let name = self.eval(source)?.text();
                if !self.streams.contains_key(&name) {
                    if self.streams.len() > 32 {
                        return Ok(Value::Number(-1.0));
                    }
                    let data = if *command {
                        self.capture(&name)
                    } else {
                        match self.cx.read(&name) {
                            Ok(d) => d.as_ref().clone(),
                            Err(_) => return Ok(Value::Number(-1.0)),
                        }
                    };
                    let lines = crate::system::commands::lines(&data).map(<[u8]>::to_vec).collect();
                    self.streams.insert(name.clone(), (lines, 0));
                }
                self.streams.get_mut(&name).and_then(|(lines, at)| {
                    *at += 1;
                    lines.get(*at - 1).cloned()
                })
            }
        };
        let Some(record) = record else { return Ok(Value::Number(0.0)) };
        match target {
            Some(t) => self.assign(t, Value::from_input(record))?,
            None => self.set_record(record),
        }
        Ok(Value::Number(1.0))
    }

    fn capture(&mut self, command: &[u8]) -> Vec<u8> {
        let state = self.cx.x.subshell_state(self.cx.st);
        self.cx.x.capture_script(&state, self.cx.io, command)
    }
}

fn arithmetic(op: Op, a: f64, b: f64) -> Result<f64, String> {
    Ok(match op {
        Op::Add => a + b,
        Op::Sub => a - b,
        Op::Mul => a * b,
        Op::Div if b == 0.0 => return Err("division by zero".to_owned()),
        Op::Div => a / b,
        Op::Mod if b == 0.0 => return Err("division by zero in %".to_owned()),
        Op::Mod => a % b,
        _ => a.powf(b),
    })
}

/// `name=value` among the operands.
pub(super) fn assignment(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = text.iter().position(|b| *b == b'=')?;
    let name = text.get(..at)?;
    crate::system::shell::lexer::valid_name(name).then_some((name, text.get(at + 1..)?))
}
