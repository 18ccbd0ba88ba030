//! Running `awk` programs over records and fields.

use std::collections::{BTreeMap, HashMap};

use super::parse::{Expr, Op, Pattern, Program, Stmt};
use crate::system::{
    commands::{
        Cx, number,
        shells::{Spec, general},
    },
    limits,
    regex::Regex,
};

pub(super) const BUILTINS: [&str; 20] = [
    "length", "substr", "index", "split", "sub", "gsub", "match", "sprintf", "tolower", "toupper", "int", "sqrt", "exp", "log", "sin",
    "cos", "rand", "srand", "system", "close",
];

#[derive(Clone, Debug)]
pub(super) enum Value {
    Nothing,
    Number(f64),
    Text(Vec<u8>),
    /// Text from input that looks like a number.
    Input(Vec<u8>, f64),
}

/// How a statement ended.
enum End {
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
    program: &'c Program,
    vars: HashMap<String, Value>,
    arrays: HashMap<String, BTreeMap<Vec<u8>, Value>>,
    record: Vec<u8>,
    fields: Vec<Vec<u8>>,
    input: Vec<Vec<u8>>,
    at: usize,
    ranges: Vec<bool>,
    files: BTreeMap<Vec<u8>, (u8, Vec<u8>)>,
    streams: HashMap<Vec<u8>, (Vec<Vec<u8>>, usize)>,
    regexes: HashMap<Vec<u8>, Regex>,
    pub status: i32,
    depth: usize,
    nest: usize,
    held: usize,
}

fn numeric(text: &[u8]) -> Option<f64> {
    let text = text.trim_ascii();
    let first = *text.first()?;
    if !(first.is_ascii_digit() || matches!(first, b'.' | b'-' | b'+')) {
        return None;
    }
    number::<f64>(text).filter(|v| v.is_finite())
}

/// The number a text begins with.
fn leading(text: &[u8]) -> f64 {
    let text = text.trim_ascii_start();
    let mut len = 0;
    let (mut dot, mut digits) = (false, false);
    while let Some(b) = text.get(len) {
        match b {
            b'0'..=b'9' => digits = true,
            b'.' if !dot => dot = true,
            b'+' | b'-' if len == 0 => {}
            b'e' | b'E' if digits => {
                let rest = text.get(len + 1..).unwrap_or_default();
                let sign = usize::from(matches!(rest.first(), Some(b'+' | b'-')));
                let n = rest.get(sign..).unwrap_or_default().iter().take_while(|b| b.is_ascii_digit()).count();
                if n > 0 {
                    len += 1 + sign + n;
                }
                break;
            }
            _ => break,
        }
        len += 1;
    }
    number(text.get(..len).unwrap_or_default()).unwrap_or(0.0)
}

pub(super) fn show_number(value: f64) -> Vec<u8> {
    if value == value.trunc() && value.abs() < 1e16 {
        return format!("{value:.0}").replace("-0", if value == 0.0 { "0" } else { "-0" }).into_bytes();
    }
    general_signed(value, 6).into_bytes()
}

fn general_signed(value: f64, precision: usize) -> String {
    let text = general(value.abs(), precision, false);
    if value < 0.0 { format!("-{text}") } else { text }
}

impl Value {
    fn number(&self) -> f64 {
        match self {
            Self::Nothing => 0.0,
            Self::Number(n) | Self::Input(_, n) => *n,
            Self::Text(t) => leading(t),
        }
    }
    fn text(&self) -> Vec<u8> {
        match self {
            Self::Nothing => Vec::new(),
            Self::Number(n) => show_number(*n),
            Self::Text(t) | Self::Input(t, _) => t.clone(),
        }
    }
    fn truth(&self) -> bool {
        match self {
            Self::Nothing => false,
            Self::Number(n) | Self::Input(_, n) => *n != 0.0,
            Self::Text(t) => !t.is_empty(),
        }
    }
    fn from_input(text: Vec<u8>) -> Self {
        match numeric(&text) {
            Some(n) => Self::Input(text, n),
            None => Self::Text(text),
        }
    }
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

    fn flush(&mut self, target: &[u8], kind: u8, data: Vec<u8>) {
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

    fn work(&mut self) -> u64 {
        self.cx.x.steps.saturating_mul(8)
    }

    fn regex(&mut self, text: &[u8]) -> Option<Regex> {
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

    fn split(&mut self, text: &[u8], separator: &[u8]) -> Vec<Vec<u8>> {
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

    fn stmt(&mut self, stmt: &Stmt) -> End {
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

    fn print(&mut self, args: &[Expr], formatted: bool, target: Option<&(u8, Expr)>) -> Result<(), String> {
        let mut out = if formatted {
            let mut values = Vec::new();
            for a in args {
                values.push(self.eval(a)?);
            }
            self.sprintf(&values)
        } else if args.is_empty() {
            self.record.clone()
        } else {
            let ofs = self.var("OFS").text();
            let mut parts = Vec::new();
            for a in args {
                parts.push(self.eval(a)?.text());
            }
            parts.join(ofs.as_slice())
        };
        if !formatted {
            out.extend(self.var("ORS").text());
        }
        match target {
            None => self.cx.out(&out),
            Some((kind, target)) => {
                let name = self.eval(target)?.text();
                match name.as_slice() {
                    b"/dev/stdout" | b"-" => self.cx.out(&out),
                    b"/dev/stderr" => {
                        let _ = self.cx.x.write(self.cx.io.get(2), &out);
                    }
                    _ => {
                        self.held += out.len();
                        if self.held > limits::PIPE || self.files.len() > 32 {
                            self.cx.x.kill();
                            return Ok(());
                        }
                        self.files.entry(name).or_insert_with(|| (*kind, Vec::new())).1.extend(out);
                    }
                }
            }
        }
        Ok(())
    }

    fn sprintf(&mut self, values: &[Value]) -> Vec<u8> {
        let format = values.first().map(Value::text).unwrap_or_default();
        let mut rest = values.iter().skip(1);
        let mut out = Vec::new();
        let mut at = 0;
        while let Some(&b) = format.get(at) {
            at += 1;
            if b != b'%' {
                out.push(b);
                continue;
            }
            let mut spec = Spec { left: false, zero: false, plus: false, space: false, alt: false, width: 0, precision: None };
            let mut digits: Option<usize> = None;
            let mut dot = false;
            loop {
                let Some(&f) = format.get(at) else { break };
                match f {
                    b'-' => spec.left = true,
                    b'+' => spec.plus = true,
                    b' ' => spec.space = true,
                    b'#' => spec.alt = true,
                    b'0' if !dot && digits.is_none() => spec.zero = true,
                    b'0'..=b'9' => digits = Some((digits.unwrap_or(0) * 10 + usize::from(f - b'0')).min(65_536)),
                    b'*' => digits = rest.next().map(|v| (v.number().abs() as usize).min(65_536)),
                    b'.' => {
                        spec.width = digits.take().unwrap_or(0);
                        dot = true;
                    }
                    b'l' | b'h' => {}
                    _ => break,
                }
                at += 1;
            }
            if dot {
                spec.precision = Some(digits.unwrap_or(0));
            } else {
                spec.width = digits.unwrap_or(0);
            }
            let Some(&code) = format.get(at) else {
                out.push(b'%');
                break;
            };
            at += 1;
            match code {
                b'%' => out.push(b'%'),
                b'd' | b'i' | b'x' | b'X' | b'o' | b'u' => {
                    let v = rest.next().map_or(0.0, Value::number);
                    spec.integer(v as i64, code, &mut out);
                }
                b'f' | b'F' | b'e' | b'E' | b'g' | b'G' => {
                    let v = rest.next().map_or(0.0, Value::number);
                    spec.float(v, code, &mut out);
                }
                b'c' => {
                    let text = match rest.next() {
                        Some(Value::Number(n) | Value::Input(_, n)) => vec![*n as u8],
                        Some(v) => v.text().into_iter().take(1).collect(),
                        None => Vec::new(),
                    };
                    spec.pad(text, &mut out);
                }
                _ => {
                    let mut text = rest.next().map(Value::text).unwrap_or_default();
                    if let Some(p) = spec.precision {
                        text.truncate(p);
                    }
                    spec.pad(text, &mut out);
                }
            }
        }
        out
    }

    fn var(&self, name: &str) -> Value {
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

    fn assign(&mut self, target: &Expr, value: Value) -> Result<(), String> {
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

    fn eval(&mut self, e: &Expr) -> Result<Value, String> {
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

    fn call(&mut self, name: &str, args: &[Expr]) -> Result<Value, String> {
        let program = self.program;
        if let Some((_, params, body)) = program.functions.iter().find(|f| f.0 == name) {
            return self.user(params, body, args);
        }
        // `split`, `sub` and `gsub` take names, not values.
        match name {
            "split" => {
                let text = args.first().map(|a| self.eval(a)).transpose()?.unwrap_or(Value::Nothing).text();
                let Some(Expr::Var(array)) = args.get(1) else { return Err("split: second argument is no array".to_owned()) };
                let parts = match args.get(2) {
                    Some(Expr::Regex(r)) => {
                        let regex = r.as_ref().clone();
                        let mut parts = Vec::new();
                        let (mut from, mut work) = (0, self.work());
                        while let Some((s, e)) =
                            regex.find(&text, from, &mut work).and_then(|g| g.first().copied().flatten()).filter(|(s, e)| e > s)
                        {
                            parts.push(text.get(from..s).unwrap_or_default().to_vec());
                            from = e;
                        }
                        parts.push(text.get(from..).unwrap_or_default().to_vec());
                        if text.is_empty() { Vec::new() } else { parts }
                    }
                    Some(e) => {
                        let sep = self.eval(e)?.text();
                        self.split(&text, &sep)
                    }
                    None => {
                        let sep = self.var("FS").text();
                        self.split(&text, &sep)
                    }
                };
                let n = parts.len();
                self.cx.x.spend(n as u64 / 4);
                self.arrays.insert(
                    array.clone(),
                    parts.into_iter().enumerate().map(|(k, v)| ((k + 1).to_string().into_bytes(), Value::from_input(v))).collect(),
                );
                return Ok(Value::Number(n as f64));
            }
            "sub" | "gsub" => return self.substitute(args, name == "gsub"),
            "length" => {
                if let Some(Expr::Var(array)) = args.first()
                    && let Some(a) = self.arrays.get(array)
                {
                    return Ok(Value::Number(a.len() as f64));
                }
                let text = match args.first() {
                    Some(a) => self.eval(a)?.text(),
                    None => self.record.clone(),
                };
                return Ok(Value::Number(text.len() as f64));
            }
            "match" => {
                let text = args.first().map(|a| self.eval(a)).transpose()?.unwrap_or(Value::Nothing).text();
                let regex = match args.get(1) {
                    Some(Expr::Regex(r)) => Some(r.as_ref().clone()),
                    Some(other) => {
                        let p = self.eval(other)?.text();
                        self.regex(&p)
                    }
                    None => None,
                };
                let mut work = self.work();
                let found = regex.and_then(|r| r.find(&text, 0, &mut work)).and_then(|g| g.first().copied().flatten());
                let (start, len) = found.map_or((0.0, -1.0), |(s, e)| (s as f64 + 1.0, (e - s) as f64));
                self.vars.insert("RSTART".to_owned(), Value::Number(start));
                self.vars.insert("RLENGTH".to_owned(), Value::Number(len));
                return Ok(Value::Number(start));
            }
            _ => {}
        }
        let mut values = Vec::new();
        for a in args {
            values.push(self.eval(a)?);
        }
        let first = values.first().cloned().unwrap_or(Value::Nothing);
        let n = first.number();
        Ok(match name {
            "substr" => {
                let text = first.text();
                let from = values.get(1).map_or(1.0, Value::number).round();
                let len = values.get(2).map_or(f64::from(u32::MAX), Value::number).round();
                let end = (from + len).min(text.len() as f64 + 1.0);
                let start = from.max(1.0);
                if end > start {
                    Value::Text(text.get(start as usize - 1..end as usize - 1).unwrap_or_default().to_vec())
                } else {
                    Value::Text(Vec::new())
                }
            }
            "index" => {
                let (text, part) = (first.text(), values.get(1).map(Value::text).unwrap_or_default());
                let at = if part.is_empty() { Some(0) } else { text.windows(part.len()).position(|w| w == part.as_slice()) };
                Value::Number(at.map_or(0.0, |p| p as f64 + 1.0))
            }
            "sprintf" => Value::Text(self.sprintf(&values)),
            "tolower" => Value::Text(first.text().to_ascii_lowercase()),
            "toupper" => Value::Text(first.text().to_ascii_uppercase()),
            "int" => Value::Number(n.trunc()),
            "sqrt" => Value::Number(n.sqrt()),
            "exp" => Value::Number(n.exp()),
            "log" => Value::Number(n.ln()),
            "sin" => Value::Number(n.sin()),
            "cos" => Value::Number(n.cos()),
            "atan2" => Value::Number(n.atan2(values.get(1).map_or(0.0, Value::number))),
            "rand" => Value::Number((self.cx.st.random.next() >> 11) as f64 / (1u64 << 53) as f64),
            "srand" => Value::Number(0.0),
            "systime" => Value::Number(self.cx.now() as f64),
            "system" => {
                let command = first.text();
                let state = self.cx.x.subshell_state(self.cx.st);
                let io = self.cx.io;
                Value::Number(f64::from(self.cx.x.script(&state, io, &command, &[b"sh".to_vec()], true)))
            }
            "close" => {
                let name = first.text();
                self.streams.remove(&name);
                if let Some((kind, data)) = self.files.remove(&name) {
                    self.flush(&name, kind, data);
                }
                Value::Number(0.0)
            }
            "fflush" => Value::Number(0.0),
            other => return Err(format!("function {other} never defined")),
        })
    }

    fn user(&mut self, params: &[String], body: &Stmt, args: &[Expr]) -> Result<Value, String> {
        if self.depth >= limits::RUN_DEPTH {
            self.cx.x.kill();
            return Ok(Value::Nothing);
        }
        let mut values = Vec::new();
        // Arrays go in by name: the caller's array is moved in and back out.
        let mut moved: Vec<(String, String)> = Vec::new();
        for (param, arg) in params.iter().zip(args) {
            match arg {
                Expr::Var(name) if self.arrays.contains_key(name) => moved.push((param.clone(), name.clone())),
                _ => {}
            }
            values.push(self.eval(arg)?);
        }
        let saved: Vec<(String, Option<Value>, Option<BTreeMap<Vec<u8>, Value>>)> = params
            .iter()
            .map(|p| (p.clone(), self.vars.remove(p), if moved.iter().any(|m| &m.1 == p) { None } else { self.arrays.remove(p) }))
            .collect();
        for (param, name) in &moved {
            if param != name
                && let Some(array) = self.arrays.remove(name)
            {
                self.arrays.insert(param.clone(), array);
            }
        }
        for (param, value) in params.iter().zip(values) {
            self.vars.insert(param.clone(), value);
        }
        self.depth += 1;
        let end = self.stmt(body);
        self.depth -= 1;
        for (param, name) in &moved {
            if param != name
                && let Some(array) = self.arrays.remove(param)
            {
                self.arrays.insert(name.clone(), array);
            }
        }
        for (name, value, array) in saved {
            match value {
                Some(v) => self.vars.insert(name.clone(), v),
                None => self.vars.remove(&name),
            };
            if let Some(a) = array {
                self.arrays.insert(name, a);
            }
        }
        match end {
            End::Return(v) => Ok(v),
            End::Fault(m) => Err(m),
            _ => Ok(Value::Nothing),
        }
    }

    fn substitute(&mut self, args: &[Expr], global: bool) -> Result<Value, String> {
        let regex = match args.first() {
            Some(Expr::Regex(r)) => Some(r.as_ref().clone()),
            Some(other) => {
                let p = self.eval(other)?.text();
                self.regex(&p)
            }
            None => None,
        };
        let Some(regex) = regex else { return Ok(Value::Number(0.0)) };
        let with = args.get(1).map(|a| self.eval(a)).transpose()?.unwrap_or(Value::Nothing).text();
        let record = Expr::Field(Box::new(Expr::Number(0.0)));
        let target = args.get(2).unwrap_or(&record).clone();
        let text = self.eval(&target)?.text();
        let mut out = Vec::new();
        let (mut at, mut count) = (0, 0u32);
        let before = self.work();
        let mut work = before;
        while at <= text.len() {
            let Some((s, e)) = regex.find(&text, at, &mut work).and_then(|g| g.first().copied().flatten()) else { break };
            out.extend_from_slice(text.get(at..s).unwrap_or_default());
            count += 1;
            let mut bytes = with.iter().peekable();
            while let Some(b) = bytes.next() {
                match b {
                    b'\\' if matches!(bytes.peek(), Some(b'&' | b'\\')) => out.extend(bytes.next()),
                    b'&' => out.extend_from_slice(text.get(s..e).unwrap_or_default()),
                    _ => out.push(*b),
                }
            }
            at = e;
            if s == e {
                out.extend(text.get(e));
                at = e + 1;
            }
            if !global || out.len() > limits::PIPE {
                break;
            }
        }
        self.cx.x.spend((before - work) / 16);
        if count > 0 {
            out.extend_from_slice(text.get(at..).unwrap_or_default());
            self.assign(&target, Value::Text(out))?;
        }
        Ok(Value::Number(f64::from(count)))
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
