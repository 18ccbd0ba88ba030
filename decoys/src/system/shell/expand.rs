//! Expansion of words: braces, tilde, parameters, commands, arithmetic, splitting and file names.

use std::collections::BTreeMap;

use super::{
    arith,
    ast::{Op, Param, Part, Word},
    exec::{Exec, Flow, Io},
    pattern,
    state::{State, Value},
};
use crate::system::{fs, limits};

/// A word being built: its text, and the same as a pattern with quoted characters escaped.
#[derive(Clone, Debug, Default)]
struct Field {
    text: Vec<u8>,
    pattern: Vec<u8>,
    /// Present even when empty (it was quoted).
    quoted: bool,
}

struct Fields {
    done: Vec<Field>,
    now: Field,
    split: bool,
    ifs: Vec<u8>,
    bytes: usize,
}

impl Fields {
    fn literal(&mut self, text: &[u8]) {
        self.now.text.extend_from_slice(text);
        self.now.pattern.extend_from_slice(text);
        self.bytes += text.len();
    }
    fn quoted(&mut self, text: &[u8]) {
        self.now.text.extend_from_slice(text);
        pattern::quote(text, &mut self.now.pattern);
        self.now.quoted = true;
        self.bytes += text.len();
    }
    fn finish(&mut self) {
        let field = std::mem::take(&mut self.now);
        if field.quoted || !field.text.is_empty() {
            self.done.push(field);
        }
    }
    /// An unquoted value: split at IFS.
    fn value(&mut self, text: &[u8]) {
        self.bytes += text.len();
        if !self.split {
            self.now.text.extend_from_slice(text);
            self.now.pattern.extend_from_slice(text);
            return;
        }
        let white = |b: u8| matches!(b, b' ' | b'\t' | b'\n') && self.ifs.contains(&b);
        let mut at = 0;
        while let Some(&b) = text.get(at) {
            if !self.ifs.contains(&b) {
                self.now.text.push(b);
                // A backslash in a value stays a backslash.
                if b == b'\\' {
                    self.now.pattern.push(b'\\');
                }
                self.now.pattern.push(b);
                at += 1;
                continue;
            }
            let mut hard = 0;
            while let Some(&s) = text.get(at).filter(|s| self.ifs.contains(s)) {
                if !white(s) {
                    hard += 1;
                    if hard > 1 {
                        break;
                    }
                }
                at += 1;
            }
            if hard > 0 {
                self.now.quoted = true;
            }
            let field = std::mem::take(&mut self.now);
            if field.quoted || !field.text.is_empty() {
                self.done.push(field);
            }
        }
    }
}

/// A variable by name and index.
pub(super) fn lookup(st: &State, name: &[u8], index: Option<i64>) -> Option<Vec<u8>> {
    match (&st.vars.get(name)?.value, index) {
        (Value::Text(t), None | Some(0)) => Some(t.clone()),
        (Value::Text(_), _) => None,
        (Value::Array(a), i) => {
            let i = i.unwrap_or(0);
            let i = if i < 0 { a.keys().next_back().map_or(0, |k| k + 1) + i } else { i };
            a.get(&i).cloned()
        }
        (Value::Map(m), i) => m.get(i.unwrap_or(0).to_string().as_bytes()).cloned(),
    }
}

/// Sets a variable by name and index.
pub(super) fn store(st: &mut State, name: &[u8], index: Option<i64>, value: Vec<u8>) -> bool {
    let array = matches!(st.vars.get(name).map(|v| &v.value), Some(Value::Array(_)));
    match index {
        None if !array => st.set(name, value),
        _ => {
            let mut map = match st.vars.get(name).map(|v| v.value.clone()) {
                Some(Value::Array(a)) => a,
                Some(Value::Text(t)) => BTreeMap::from([(0, t)]),
                Some(Value::Map(mut m)) => {
                    m.insert(index.unwrap_or(0).to_string().into_bytes(), value);
                    return st.put(name, Value::Map(m));
                }
                None => BTreeMap::new(),
            };
            let i = index.unwrap_or(0);
            let i = if i < 0 { map.keys().next_back().map_or(0, |k| k + 1) + i } else { i };
            map.insert(i, value);
            st.put(name, Value::Array(map))
        }
    }
}

impl Exec<'_> {
    /// All words of a command.
    pub(super) fn words(&mut self, st: &mut State, io: Io, words: &[Word]) -> Vec<Vec<u8>> {
        let mut out = Vec::new();
        for word in words {
            for word in self.braces(word) {
                let mut fields = self.fields(st, io, &word, true);
                for field in fields.drain(..) {
                    if !st.flag(b'f') && pattern::special(&field.pattern) {
                        let found = self.glob(st, &field.pattern);
                        if !found.is_empty() {
                            out.extend(found);
                            continue;
                        }
                        if st.shopt.get(b"nullglob".as_slice()) == Some(&true) {
                            continue;
                        }
                    }
                    out.push(field.text);
                }
                if self.flow != Flow::None || out.len() > limits::WORDS {
                    out.truncate(limits::WORDS);
                    return out;
                }
            }
        }
        out
    }

    /// A word without splitting or file names.
    pub(super) fn single(&mut self, st: &mut State, io: Io, word: &Word) -> Vec<u8> {
        let fields = self.fields(st, io, word, false);
        fields.into_iter().map(|f| f.text).collect::<Vec<_>>().join(&b' ')
    }

    /// A word as a pattern.
    pub(super) fn pattern(&mut self, st: &mut State, io: Io, word: &Word) -> Vec<u8> {
        let fields = self.fields(st, io, word, false);
        fields.into_iter().map(|f| f.pattern).collect::<Vec<_>>().join(&b' ')
    }

    /// Arithmetic text after expansion.
    pub(super) fn arith(&mut self, st: &mut State, io: Io, word: &Word) -> Result<i64, String> {
        let text = self.single(st, io, word);
        self.spend(1 + text.len() as u64 / 256);
        arith::eval(st, &text)
    }

    fn fields(&mut self, st: &mut State, io: Io, word: &Word, split: bool) -> Vec<Field> {
        let ifs = st.get(b"IFS").unwrap_or_else(|| b" \t\n".to_vec());
        let mut out = Fields { done: Vec::new(), now: Field::default(), split, ifs, bytes: 0 };
        for (at, part) in word.iter().enumerate() {
            if let (0, Part::Lit(text)) = (at, part)
                && text.first() == Some(&b'~')
            {
                let len = text.iter().position(|b| *b == b'/').unwrap_or(text.len());
                if len == text.len() && word.len() > 1 {
                    out.literal(text);
                } else if let Some(home) = self.tilde(st, text.get(1..len).unwrap_or_default()) {
                    out.quoted(&home);
                    out.literal(text.get(len..).unwrap_or_default());
                } else {
                    out.literal(text);
                }
                continue;
            }
            self.part(st, io, part, false, &mut out);
            if out.bytes > limits::PIPE {
                self.kill();
                break;
            }
            if self.flow != Flow::None {
                break;
            }
        }
        out.finish();
        out.done
    }

    fn tilde(&mut self, st: &State, user: &[u8]) -> Option<Vec<u8>> {
        match user {
            b"" => Some(st.get(b"HOME").unwrap_or_else(|| st.home.clone())),
            b"+" => Some(st.cwd.clone()),
            b"-" => st.get(b"OLDPWD"),
            _ => self.account(user).map(|a| a.home),
        }
    }

    fn part(&mut self, st: &mut State, io: Io, part: &Part, quoted: bool, out: &mut Fields) {
        match part {
            Part::Lit(text) if quoted => out.quoted(text),
            Part::Lit(text) => out.literal(text),
            Part::Quoted(text) => out.quoted(text),
            Part::Double(inner) => {
                let nothing = inner.iter().all(
                    |p| matches!(p, Part::Param(p) if p.name == b"@" || matches!(p.index.as_deref(), Some([Part::Lit(l)]) if l == b"@")),
                );
                if !nothing || inner.is_empty() {
                    out.now.quoted = true;
                }
                for part in inner {
                    self.part(st, io, part, true, out);
                }
            }
            Part::Param(param) => self.param(st, io, param, quoted, out),
            Part::Cmd(node) => {
                let text = self.substitute(st, io, node);
                if quoted { out.quoted(&text) } else { out.value(&text) }
            }
            Part::Arith(word) => match self.arith(st, io, word) {
                Ok(value) => {
                    let text = value.to_string().into_bytes();
                    if quoted { out.quoted(&text) } else { out.value(&text) }
                }
                Err(message) => {
                    self.complain(st, io, &message);
                    self.discard(st);
                }
            },
            Part::Process(node) => {
                let text = self.capture(st, io, node);
                let path = self.process_file(text);
                out.quoted(&path);
            }
        }
    }

    fn param(&mut self, st: &mut State, io: Io, param: &Param, quoted: bool, out: &mut Fields) {
        self.spend(1);
        // Lists: `$@`, `$*`, `${a[@]}`, `${a[*]}`.
        let star = match (&param.name[..], param.index.as_deref()) {
            (b"@", None) => Some(false),
            (b"*", None) => Some(true),
            (_, Some([Part::Lit(l)])) if l == b"@" => Some(false),
            (_, Some([Part::Lit(l)])) if l == b"*" => Some(true),
            _ => None,
        };
        if let Some(star) = star {
            return self.list_param(st, io, param, star, quoted, out);
        }
        if matches!(param.op, Op::Names) {
            let names: Vec<Vec<u8>> = st.vars.keys().filter(|k| k.starts_with(&param.name)).cloned().collect();
            out.value(&names.join(&b' '));
            return;
        }
        let mut value = self.value(st, io, &param.name, param.index.as_ref());
        if param.indirect {
            let name = value.unwrap_or_default();
            value = self.value(st, io, &name, None);
        }
        if param.length {
            let text = value.unwrap_or_default();
            let count = text.iter().filter(|b| **b & 0xc0 != 0x80).count();
            out.value(count.to_string().as_bytes());
            return;
        }
        if let Op::Test { kind, colon, word } = &param.op {
            let set = value.as_ref().is_some_and(|v| !*colon || !v.is_empty());
            match kind {
                b'-' if !set => return self.alternative(st, io, word, quoted, out),
                b'+' => {
                    if set {
                        self.alternative(st, io, word, quoted, out);
                    }
                    return;
                }
                b'=' if !set => {
                    let text = self.single(st, io, word);
                    st.set(&param.name, text.clone());
                    value = Some(text);
                }
                b'?' if !set => {
                    let text = self.single(st, io, word);
                    let text = if text.is_empty() { b"parameter null or not set".to_vec() } else { text };
                    let message = format!("{}: {}", String::from_utf8_lossy(&param.name), String::from_utf8_lossy(&text));
                    self.complain(st, io, &message);
                    self.abort(st);
                    return;
                }
                _ => {}
            }
        } else if value.is_none() && st.flag(b'u') {
            let message = format!("{}: unbound variable", String::from_utf8_lossy(&param.name));
            self.complain(st, io, &message);
            self.abort(st);
            return;
        }
        let text = value.unwrap_or_default();
        let text = self.apply(st, io, &param.op, text);
        if quoted { out.quoted(&text) } else { out.value(&text) }
    }

    fn alternative(&mut self, st: &mut State, io: Io, word: &Word, quoted: bool, out: &mut Fields) {
        for part in word {
            self.part(st, io, part, quoted, out);
        }
    }

    fn list_param(&mut self, st: &mut State, io: Io, param: &Param, star: bool, quoted: bool, out: &mut Fields) {
        let mut values: Vec<Vec<u8>> = if param.index.is_none() {
            st.args.clone()
        } else {
            match st.vars.get(&param.name).map(|v| &v.value) {
                Some(Value::Array(a)) if param.indirect => a.keys().map(|k| k.to_string().into_bytes()).collect(),
                Some(Value::Map(m)) if param.indirect => m.keys().cloned().collect(),
                Some(Value::Array(a)) => a.values().cloned().collect(),
                Some(Value::Map(m)) => m.values().cloned().collect(),
                Some(Value::Text(t)) => vec![t.clone()],
                None => Vec::new(),
            }
        };
        if param.length {
            out.value(values.len().to_string().as_bytes());
            return;
        }
        match &param.op {
            Op::Slice { from, len } => {
                let from = self.arith(st, io, from).unwrap_or(0);
                let len = len.as_ref().map(|l| self.arith(st, io, l).unwrap_or(0));
                if param.index.is_none() {
                    values.insert(0, st.arg0.clone());
                }
                let start = if from < 0 { (values.len() as i64 + from).max(0) } else { from } as usize;
                let count = len.map_or(usize::MAX, |l| l.max(0) as usize);
                values = values.into_iter().skip(start).take(count).collect();
            }
            Op::Test { kind, word, .. } => match kind {
                b'-' if values.is_empty() => return self.alternative(st, io, word, quoted, out),
                b'+' => {
                    if !values.is_empty() {
                        self.alternative(st, io, word, quoted, out);
                    }
                    return;
                }
                _ => {}
            },
            Op::None | Op::Names => {}
            op => values = values.into_iter().map(|v| self.apply(st, io, op, v)).collect(),
        }
        if quoted && star {
            let joiner: Vec<u8> = st.get(b"IFS").map_or(vec![b' '], |ifs| ifs.first().copied().into_iter().collect());
            out.quoted(&values.join(joiner.as_slice()));
            return;
        }
        for (at, value) in values.iter().enumerate() {
            if at > 0 {
                if quoted && !out.split {
                    out.quoted(b" ");
                } else if out.split {
                    out.finish();
                } else {
                    out.value(b" ");
                }
            }
            if quoted { out.quoted(value) } else { out.value(value) }
        }
    }

    fn apply(&mut self, st: &mut State, io: Io, op: &Op, text: Vec<u8>) -> Vec<u8> {
        match op {
            Op::Slice { from, len } => {
                let total = text.len() as i64;
                let from = self.arith(st, io, from).unwrap_or(0);
                let start = if from < 0 { total + from } else { from };
                if start < 0 || start > total {
                    return Vec::new();
                }
                let end = match len {
                    None => total,
                    Some(l) => match self.arith(st, io, l).unwrap_or(0) {
                        l if l < 0 => total + l,
                        l => start.saturating_add(l).min(total),
                    },
                };
                text.get(start as usize..end.max(start) as usize).unwrap_or_default().to_vec()
            }
            Op::Trim { end, long, pattern: word } => {
                let p = self.pattern(st, io, word);
                self.spend(1 + text.len() as u64 / 64);
                let mut cuts: Vec<usize> = (0..=text.len()).collect();
                // The shortest prefix is tried from the left, the shortest suffix from the right.
                if *end != *long {
                    cuts.reverse();
                }
                for cut in cuts {
                    let (head, tail) = text.split_at_checked(cut).unwrap_or((&text, b""));
                    let (gone, kept) = if *end { (tail, head) } else { (head, tail) };
                    if pattern::matches(&p, gone) {
                        return kept.to_vec();
                    }
                }
                text
            }
            Op::Replace { kind, pattern: word, with } => {
                let p = self.pattern(st, io, word);
                let with = self.single(st, io, with);
                self.replace(&text, &p, &with, *kind)
            }
            Op::Case { upper, all } => {
                let change = |b: u8| if *upper { b.to_ascii_uppercase() } else { b.to_ascii_lowercase() };
                text.iter().enumerate().map(|(at, b)| if at == 0 || *all { change(*b) } else { *b }).collect()
            }
            Op::None | Op::Names | Op::Test { .. } => text,
        }
    }

    fn replace(&mut self, text: &[u8], p: &[u8], with: &[u8], kind: u8) -> Vec<u8> {
        if p.is_empty() {
            return text.to_vec();
        }
        let mut out = Vec::new();
        let mut at = 0;
        let plain = !pattern::special(p);
        let fixed = pattern::unquote(p);
        while at <= text.len() {
            if !self.spend(1 + (text.len() - at) as u64 / 512) || out.len() > limits::PIPE {
                break;
            }
            let rest = text.get(at..).unwrap_or_default();
            let hit = if kind == b'%' && plain {
                (rest == fixed).then_some(rest.len())
            } else if plain {
                rest.starts_with(&fixed).then_some(fixed.len())
            } else if kind == b'%' {
                pattern::matches(p, rest).then_some(rest.len())
            } else {
                (1..=rest.len()).rev().find(|len| pattern::matches(p, rest.get(..*len).unwrap_or_default()))
            };
            match hit {
                Some(len) if len > 0 => {
                    out.extend_from_slice(with);
                    at += len;
                    if kind != b'/' {
                        break;
                    }
                }
                _ if kind == b'#' => break,
                _ => {
                    out.extend(text.get(at));
                    at += 1;
                }
            }
        }
        out.extend_from_slice(text.get(at..).unwrap_or_default());
        out
    }

    /// The value of a parameter; `None` when unset.
    fn value(&mut self, st: &mut State, io: Io, name: &[u8], index: Option<&Word>) -> Option<Vec<u8>> {
        let number = |n: i64| Some(n.to_string().into_bytes());
        if let Some(index) = index {
            if let Some(Value::Map(_)) = st.vars.get(name).map(|v| &v.value) {
                let key = self.single(st, io, index);
                let Some(Value::Map(map)) = st.vars.get(name).map(|v| &v.value) else { return None };
                return map.get(&key).cloned();
            }
            if name == b"PIPESTATUS" {
                let at = self.arith(st, io, index).unwrap_or(0);
                return st.pipestatus.get(usize::try_from(at).ok()?).map(|s| s.to_string().into_bytes());
            }
            let at = match self.arith(st, io, index) {
                Ok(at) => at,
                Err(message) => {
                    self.complain(st, io, &message);
                    return None;
                }
            };
            return lookup(st, name, Some(at));
        }
        match name {
            b"?" => number(i64::from(st.last)),
            b"$" => number(i64::from(st.pid)),
            b"!" => st.last_job.map(|p| p.to_string().into_bytes()),
            b"#" => number(st.args.len() as i64),
            b"-" => {
                let mut flags: Vec<u8> = if st.interactive { b"himBHs".to_vec() } else { b"hBc".to_vec() };
                flags.extend(st.flags.keys());
                Some(flags)
            }
            b"0" => Some(st.arg0.clone()),
            b"@" | b"*" => Some(st.args.join(&b' ')),
            b"RANDOM" => number((st.random.next() & 0x7fff) as i64),
            b"SRANDOM" => number((st.random.next() & 0xffff_ffff) as i64),
            b"SECONDS" => number(self.now_ns / 1_000_000_000 - st.started),
            b"EPOCHSECONDS" => number(self.now_ns / 1_000_000_000),
            b"EPOCHREALTIME" => Some(format!("{}.{:06}", self.now_ns / 1_000_000_000, self.now_ns / 1_000 % 1_000_000).into_bytes()),
            b"LINENO" => number(i64::from(st.line)),
            b"BASHPID" => number(i64::from(if st.subshell { st.pid + 1 } else { st.pid })),
            b"PPID" => number(i64::from(st.pid.saturating_sub(1))),
            b"UID" | b"EUID" => number(i64::from(st.who.uid)),
            b"PIPESTATUS" => number(i64::from(st.pipestatus.first().copied().unwrap_or(st.last))),
            b"FUNCNAME" => None,
            _ if name.first().is_some_and(u8::is_ascii_digit) => {
                let at: usize = std::str::from_utf8(name).ok()?.parse().ok()?;
                st.args.get(at.checked_sub(1)?).cloned()
            }
            _ => st.get(name),
        }
    }

    /// File names that match, sorted; empty when none does.
    fn glob(&mut self, st: &State, pattern: &[u8]) -> Vec<Vec<u8>> {
        let absolute = pattern.first() == Some(&b'/');
        let mut found: Vec<Vec<u8>> = vec![if absolute { b"/".to_vec() } else { Vec::new() }];
        let parts: Vec<&[u8]> = pattern.split(|b| *b == b'/').filter(|p| !p.is_empty()).collect();
        let slash = pattern.last() == Some(&b'/');
        for (at, part) in parts.iter().enumerate() {
            let last = at + 1 == parts.len();
            let mut next = Vec::new();
            for base in &found {
                let dir = if base.is_empty() { b".".to_vec() } else { base.clone() };
                let Ok((real, node)) = self.fs.stat(&st.cwd, &dir, true) else { continue };
                if !node.is_dir() || !self.fs.reach(&st.who, &real) {
                    continue;
                }
                if !pattern::special(part) {
                    let name = pattern::unquote(part);
                    let path = if base.is_empty() { name } else { fs::join(base, &name) };
                    if self.fs.stat(&st.cwd, &path, false).is_ok() {
                        next.push(path);
                    }
                    continue;
                }
                if !self.fs.may(&st.who, &node, 4) {
                    continue;
                }
                let mut entries = self.fs.list(&real);
                self.spend(1 + entries.len() as u64 / 4);
                entries.retain(|(name, node)| {
                    (name.first() != Some(&b'.') || part.first() == Some(&b'.'))
                        && (last && !slash || node.is_dir() || node.is_link())
                        && pattern::matches(part, name)
                });
                next.extend(entries.into_iter().map(|(name, _)| if base.is_empty() { name } else { fs::join(base, &name) }));
                if next.len() > limits::WORDS || self.flow != Flow::None {
                    return Vec::new();
                }
            }
            found = next;
        }
        if slash {
            for path in &mut found {
                path.push(b'/');
            }
        }
        found.sort();
        found
    }

    /// `{a,b}` and `{1..9}`.
    fn braces(&mut self, word: &Word) -> Vec<Word> {
        if !word.iter().any(|p| matches!(p, Part::Lit(l) if l.contains(&b'{'))) {
            return vec![word.clone()];
        }
        // One byte of literal text or one other part at a time.
        let mut flat: Vec<Part> = Vec::new();
        for part in word {
            match part {
                Part::Lit(text) => flat.extend(text.iter().map(|b| Part::Lit(vec![*b]))),
                other => flat.push(other.clone()),
            }
        }
        let mut out = Vec::new();
        self.brace_parts(flat, &mut out, 0);
        out.into_iter().map(join_literals).collect()
    }

    fn brace_parts(&mut self, flat: Vec<Part>, out: &mut Vec<Word>, depth: usize) {
        self.spend(1);
        if out.len() >= limits::WORDS || depth > limits::RUN_DEPTH || self.flow != Flow::None {
            out.push(flat);
            return;
        }
        let lit = |p: Option<&Part>| match p {
            Some(Part::Lit(l)) => l.first().copied(),
            _ => None,
        };
        for open in 0..flat.len() {
            if lit(flat.get(open)) != Some(b'{') {
                continue;
            }
            let mut level = 0usize;
            let mut commas = Vec::new();
            let mut close = None;
            for at in open + 1..flat.len() {
                match lit(flat.get(at)) {
                    Some(b'{') => level += 1,
                    Some(b'}') if level == 0 => {
                        close = Some(at);
                        break;
                    }
                    Some(b'}') => level -= 1,
                    Some(b',') if level == 0 => commas.push(at),
                    _ => {}
                }
            }
            let Some(close) = close else { continue };
            let head = flat.get(..open).unwrap_or_default();
            let tail = flat.get(close + 1..).unwrap_or_default();
            let choices: Vec<Vec<Part>> = if commas.is_empty() {
                match sequence(flat.get(open + 1..close).unwrap_or_default()) {
                    Some(items) => items.into_iter().map(|i| vec![Part::Lit(i)]).collect(),
                    None => continue,
                }
            } else {
                let mut from = open + 1;
                let mut items = Vec::new();
                for to in commas.into_iter().chain([close]) {
                    items.push(flat.get(from..to).unwrap_or_default().to_vec());
                    from = to + 1;
                }
                items
            };
            for choice in choices {
                let mut next = head.to_vec();
                next.extend(choice);
                next.extend_from_slice(tail);
                self.brace_parts(next, out, depth + 1);
                if out.len() >= limits::WORDS || self.flow != Flow::None {
                    return;
                }
            }
            return;
        }
        out.push(flat);
    }
}

fn join_literals(word: Word) -> Word {
    let mut out = Word::new();
    for part in word {
        match (out.last_mut(), part) {
            (Some(Part::Lit(before)), Part::Lit(text)) => before.extend(text),
            (_, part) => out.push(part),
        }
    }
    out
}

fn sequence(parts: &[Part]) -> Option<Vec<Vec<u8>>> {
    let mut text = Vec::new();
    for part in parts {
        match part {
            Part::Lit(l) => text.extend_from_slice(l),
            _ => return None,
        }
    }
    let text = String::from_utf8(text).ok()?;
    let mut pieces = text.split("..");
    let (from, to) = (pieces.next()?, pieces.next()?);
    let step: i64 = pieces.next().map_or(Some(1), |s| s.parse().ok())?;
    if pieces.next().is_some() {
        return None;
    }
    let step = step.unsigned_abs().clamp(1, i64::MAX as u64) as usize;
    if let (Ok(a), Ok(b)) = (from.parse::<i64>(), to.parse::<i64>()) {
        let zero = |t: &str| t.trim_start_matches('-').starts_with('0') && t.trim_start_matches('-').len() > 1;
        let width = if zero(from) || zero(to) { from.len().max(to.len()) } else { 0 };
        let show = |n: i64| format!("{n:0width$}").into_bytes();
        let count = a.abs_diff(b);
        let most = limits::WORDS as u64;
        let items = (0..=count.min(most.saturating_mul(step as u64))).step_by(step).take(limits::WORDS);
        return Some(items.map(|i| show(if a <= b { a.wrapping_add(i as i64) } else { a.wrapping_sub(i as i64) })).collect());
    }
    match (from.as_bytes(), to.as_bytes()) {
        ([a], [b]) if a.is_ascii_alphabetic() && b.is_ascii_alphabetic() => {
            let range: Vec<u8> = if a <= b { (*a..=*b).collect() } else { (*b..=*a).rev().collect() };
            Some(range.into_iter().step_by(step).map(|c| vec![c]).collect())
        }
        _ => None,
    }
}
