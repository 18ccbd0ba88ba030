//! `sed`: addresses, `s d p q = a i c y n N D P g G h H x b t r w`, blocks, in-place editing.

use std::collections::BTreeMap;

use super::{Cx, has, number, show};
use crate::system::{limits, regex::Regex};

#[derive(Clone)]
enum Address {
    Line(usize),
    Last,
    Regex(Box<Regex>),
    Step(usize, usize),
    Plus(usize),
    Zero,
}

#[derive(Clone)]
enum Op {
    Substitute { regex: Box<Regex>, with: Vec<Piece>, global: bool, nth: usize, print: bool, write: Option<Vec<u8>> },
    Delete,
    DeleteFirst,
    Print,
    PrintFirst,
    Quit(i32, bool),
    Number,
    Append(Vec<u8>),
    Insert(Vec<u8>),
    Change(Vec<u8>),
    Translate(Vec<u8>, Vec<u8>),
    Next,
    NextAppend,
    Get(bool),
    Hold(bool),
    Exchange,
    Branch(Vec<u8>),
    BranchIf(Vec<u8>),
    Label,
    Open(usize),
    Close,
    Read(Vec<u8>),
    Write(Vec<u8>),
    List,
}

#[derive(Clone)]
enum Piece {
    Text(Vec<u8>),
    Group(usize),
    Case(u8),
}

struct Command {
    from: Option<Address>,
    to: Option<Address>,
    negate: bool,
    op: Op,
    /// The line a range began on, while it is open.
    open: Option<usize>,
}

struct Parser<'a> {
    src: &'a [u8],
    pos: usize,
    extended: bool,
    last: Option<Regex>,
}

impl Parser<'_> {
    fn peek(&self) -> Option<u8> {
        self.src.get(self.pos).copied()
    }
    fn blanks(&mut self, more: &[u8]) {
        while self.peek().is_some_and(|b| matches!(b, b' ' | b'\t') || more.contains(&b)) {
            self.pos += 1;
        }
    }
    fn digits(&mut self) -> Option<usize> {
        let start = self.pos;
        while self.peek().is_some_and(|b| b.is_ascii_digit()) {
            self.pos += 1;
        }
        number(self.src.get(start..self.pos)?)
    }
    /// Text up to an unescaped delimiter. `keep` leaves the backslash before other characters.
    fn until(&mut self, end: u8, set: bool) -> Result<Vec<u8>, String> {
        let mut out = Vec::new();
        let mut bracket = false;
        loop {
            match self.peek() {
                None => return Err(String::new()),
                Some(b'\\') => {
                    let next = self.src.get(self.pos + 1).copied();
                    self.pos += 2;
                    match next {
                        Some(n) if n == end && end != b'&' => out.push(n),
                        Some(n) => out.extend([b'\\', n]),
                        None => return Err(String::new()),
                    }
                }
                Some(b) => {
                    self.pos += 1;
                    if b == end && !bracket {
                        return Ok(out);
                    }
                    if set {
                        if b == b'[' && !bracket {
                            bracket = true;
                            out.push(b);
                            for c in [b'^', b']'] {
                                if self.peek() == Some(c) {
                                    out.push(c);
                                    self.pos += 1;
                                }
                            }
                            continue;
                        }
                        if b == b']' {
                            bracket = false;
                        }
                    }
                    out.push(b);
                }
            }
        }
    }
    fn regex(&mut self, text: &[u8], icase: bool) -> Result<Regex, String> {
        if text.is_empty() {
            return self.last.clone().ok_or_else(|| "no previous regular expression".to_owned());
        }
        let compiled = if self.extended { Regex::extended(text, icase) } else { Regex::basic(text, icase) };
        let regex = compiled.map_err(|f| f.text().to_owned())?;
        self.last = Some(regex.clone());
        Ok(regex)
    }
    fn address(&mut self) -> Result<Option<Address>, String> {
        Ok(match self.peek() {
            Some(b'$') => {
                self.pos += 1;
                Some(Address::Last)
            }
            Some(b'0'..=b'9') => {
                let n = self.digits().unwrap_or(0);
                if self.peek() == Some(b'~') {
                    self.pos += 1;
                    let step = self.digits().unwrap_or(0);
                    Some(Address::Step(n, step))
                } else if n == 0 {
                    Some(Address::Zero)
                } else {
                    Some(Address::Line(n))
                }
            }
            Some(b'+') => {
                self.pos += 1;
                Some(Address::Plus(self.digits().unwrap_or(0)))
            }
            Some(b @ (b'/' | b'\\')) => {
                self.pos += 1;
                let end = if b == b'\\' {
                    let e = self.peek().unwrap_or(b'/');
                    self.pos += 1;
                    e
                } else {
                    b'/'
                };
                let text = self.until(end, true).map_err(|_| "unterminated address regex".to_owned())?;
                let icase = self.peek() == Some(b'I');
                self.pos += usize::from(icase);
                Some(Address::Regex(Box::new(self.regex(&text, icase)?)))
            }
            _ => None,
        })
    }
    fn text(&mut self) -> Vec<u8> {
        // `a\` newline text, or `a text` on one line.
        self.blanks(b"");
        if self.peek() == Some(b'\\') {
            self.pos += 1;
            self.blanks(b"");
            if self.peek() == Some(b'\n') {
                self.pos += 1;
            }
        }
        let mut out = Vec::new();
        while let Some(b) = self.peek() {
            self.pos += 1;
            match b {
                b'\\' => {
                    if let Some(n) = self.peek() {
                        self.pos += 1;
                        match n {
                            b't' => out.push(b'\t'),
                            n => out.push(n),
                        }
                    }
                }
                b'\n' => break,
                _ => out.push(b),
            }
        }
        out.push(b'\n');
        out
    }
    fn name(&mut self) -> Vec<u8> {
        self.blanks(b"");
        let start = self.pos;
        while self.peek().is_some_and(|b| b != b'\n' && b != b';' && b != b'}') {
            self.pos += 1;
        }
        self.src.get(start..self.pos).unwrap_or_default().trim_ascii().to_vec()
    }
    fn line(&mut self) -> Vec<u8> {
        self.blanks(b"");
        let start = self.pos;
        while self.peek().is_some_and(|b| b != b'\n') {
            self.pos += 1;
        }
        self.src.get(start..self.pos).unwrap_or_default().to_vec()
    }

    fn commands(&mut self) -> Result<(Vec<Command>, BTreeMap<Vec<u8>, usize>), String> {
        let mut out: Vec<Command> = Vec::new();
        let mut labels = BTreeMap::new();
        let mut blocks = Vec::new();
        loop {
            self.blanks(b";\n");
            if self.peek().is_none() {
                break;
            }
            if out.len() > 1_024 {
                return Err("too many commands".to_owned());
            }
            let from = self.address()?;
            self.blanks(b"");
            let to = if from.is_some() && self.peek() == Some(b',') {
                self.pos += 1;
                self.blanks(b"");
                match self.address()? {
                    Some(a) => Some(a),
                    None => return Err("unexpected `,'".to_owned()),
                }
            } else {
                None
            };
            self.blanks(b"");
            let mut negate = false;
            while self.peek() == Some(b'!') {
                negate = true;
                self.pos += 1;
                self.blanks(b"");
            }
            let Some(letter) = self.peek() else { return Err("missing command".to_owned()) };
            self.pos += 1;
            let op = match letter {
                b'#' => {
                    self.line();
                    continue;
                }
                b's' => self.substitute()?,
                b'y' => {
                    let end = self.peek().unwrap_or(b'/');
                    self.pos += 1;
                    let plain = |t: Vec<u8>| crate::system::shell::escape::all(&t, crate::system::shell::escape::Style::Printf).0;
                    let a = plain(self.until(end, false).map_err(|_| "unterminated `y' command".to_owned())?);
                    let b = plain(self.until(end, false).map_err(|_| "unterminated `y' command".to_owned())?);
                    if a.len() != b.len() {
                        return Err("strings for `y' command are different lengths".to_owned());
                    }
                    Op::Translate(a, b)
                }
                b'd' => Op::Delete,
                b'D' => Op::DeleteFirst,
                b'p' => Op::Print,
                b'P' => Op::PrintFirst,
                b'l' => Op::List,
                b'q' | b'Q' => {
                    self.blanks(b"");
                    Op::Quit(self.digits().map_or(0, |d| d as i32), letter == b'q')
                }
                b'=' => Op::Number,
                b'a' => Op::Append(self.text()),
                b'i' => Op::Insert(self.text()),
                b'c' => Op::Change(self.text()),
                b'n' => Op::Next,
                b'N' => Op::NextAppend,
                b'g' => Op::Get(false),
                b'G' => Op::Get(true),
                b'h' => Op::Hold(false),
                b'H' => Op::Hold(true),
                b'x' => Op::Exchange,
                b'b' => Op::Branch(self.name()),
                b't' => Op::BranchIf(self.name()),
                b':' => {
                    labels.insert(self.name(), out.len());
                    Op::Label
                }
                b'{' => {
                    blocks.push(out.len());
                    Op::Open(0)
                }
                b'}' => {
                    let Some(start) = blocks.pop() else { return Err("unexpected `}'".to_owned()) };
                    let end = out.len();
                    if let Some(Command { op: Op::Open(to), .. }) = out.get_mut(start) {
                        *to = end;
                    }
                    Op::Close
                }
                b'r' => Op::Read(self.line()),
                b'w' => Op::Write(self.line()),
                other => return Err(format!("unknown command: `{}'", char::from(other))),
            };
            let open_ended = matches!(op, Op::Open(_) | Op::Append(_) | Op::Insert(_) | Op::Change(_) | Op::Label);
            out.push(Command { from, to, negate, op, open: None });
            self.blanks(b"");
            if !open_ended && !matches!(self.peek(), None | Some(b';' | b'\n' | b'}' | b'#')) {
                return Err("extra characters after command".to_owned());
            }
        }
        if !blocks.is_empty() {
            self.pos = 0;
            return Err("unmatched `{'".to_owned());
        }
        Ok((out, labels))
    }

    fn substitute(&mut self) -> Result<Op, String> {
        let unterminated = || "unterminated `s' command".to_owned();
        let end = self.peek().ok_or_else(unterminated)?;
        self.pos += 1;
        let pattern = self.until(end, true).map_err(|_| unterminated())?;
        let text = self.until(end, false).map_err(|_| unterminated())?;
        let (mut global, mut nth, mut print, mut icase, mut write) = (false, 0, false, false, None);
        loop {
            match self.peek() {
                Some(b'g') => global = true,
                Some(b'p') => print = true,
                Some(b'i' | b'I') => icase = true,
                Some(b'e' | b'm' | b'M') => {}
                Some(b'0'..=b'9') => {
                    nth = self.digits().unwrap_or(0);
                    continue;
                }
                Some(b'w') => {
                    self.pos += 1;
                    write = Some(self.line());
                    break;
                }
                Some(b' ' | b'\t') => {}
                None | Some(b';' | b'\n' | b'}' | b'#') => break,
                Some(_) => return Err("unknown option to `s'".to_owned()),
            }
            self.pos += 1;
        }
        let regex = Box::new(self.regex(&pattern, icase)?);
        let mut with = Vec::new();
        let mut literal = Vec::new();
        let mut bytes = text.iter().copied().peekable();
        while let Some(b) = bytes.next() {
            let piece = match b {
                b'&' => Piece::Group(0),
                b'\\' => match bytes.next() {
                    Some(d @ b'0'..=b'9') => Piece::Group(usize::from(d - b'0')),
                    Some(c @ (b'U' | b'L' | b'E' | b'u' | b'l')) => Piece::Case(c),
                    Some(b'n') => {
                        literal.push(b'\n');
                        continue;
                    }
                    Some(b't') => {
                        literal.push(b'\t');
                        continue;
                    }
                    Some(b'r') => {
                        literal.push(b'\r');
                        continue;
                    }
                    Some(other) => {
                        literal.push(other);
                        continue;
                    }
                    None => continue,
                },
                _ => {
                    literal.push(b);
                    continue;
                }
            };
            if !literal.is_empty() {
                with.push(Piece::Text(std::mem::take(&mut literal)));
            }
            with.push(piece);
        }
        if !literal.is_empty() {
            with.push(Piece::Text(literal));
        }
        Ok(Op::Substitute { regex, with, global, nth, print, write })
    }
}

struct Sed<'c, 'a, 'm> {
    cx: &'c mut Cx<'a, 'm>,
    out: Vec<u8>,
    work: u64,
}

impl Sed<'_, '_, '_> {
    fn matches(&mut self, address: &Address, space: &[u8], line: usize, last: bool) -> bool {
        match address {
            Address::Line(n) => *n == line,
            Address::Last => last,
            Address::Regex(r) => r.find(space, 0, &mut self.work).is_some(),
            Address::Step(first, step) => {
                if *step == 0 {
                    *first == line
                } else {
                    line >= *first && (line - first) % step == 0
                }
            }
            Address::Plus(_) | Address::Zero => false,
        }
    }

    fn selects(&mut self, command: &mut Command, space: &[u8], line: usize, last: bool) -> bool {
        let Some(from) = command.from.clone() else { return !command.negate };
        let hit = match command.to.clone() {
            None => self.matches(&from, space, line, last),
            Some(to) => {
                let ends = |s: &mut Self, began: usize| match &to {
                    Address::Line(n) => line >= *n,
                    Address::Plus(n) => line >= began + n,
                    Address::Zero => true,
                    other => s.matches(other, space, line, last),
                };
                match command.open {
                    Some(began) => {
                        if let Address::Line(n) = to
                            && line > n
                        {
                            command.open = None;
                            self.matches(&from, space, line, last)
                        } else {
                            if ends(self, began) {
                                command.open = None;
                            }
                            true
                        }
                    }
                    None if matches!(from, Address::Zero) && line == 1 => {
                        if !ends(self, 1) {
                            command.open = Some(1);
                        }
                        true
                    }
                    None if self.matches(&from, space, line, last) => {
                        let at_once = match &to {
                            Address::Line(n) => *n <= line,
                            Address::Plus(0) => true,
                            _ => false,
                        };
                        if !at_once {
                            command.open = Some(line);
                        }
                        true
                    }
                    None => false,
                }
            }
        };
        hit != command.negate
    }

    fn substitute(&mut self, space: &mut Vec<u8>, regex: &Regex, with: &[Piece], global: bool, nth: usize) -> bool {
        let mut out = Vec::new();
        let (mut at, mut count, mut done) = (0, 0usize, false);
        let mut after_match = None;
        while at <= space.len() {
            let Some(groups) = regex.find(space, at, &mut self.work) else { break };
            let Some((s, e)) = groups.first().copied().flatten() else { break };
            if s == e && after_match == Some(s) {
                out.extend(space.get(s));
                at = s + 1;
                after_match = None;
                continue;
            }
            out.extend_from_slice(space.get(at..s).unwrap_or_default());
            count += 1;
            if count >= nth.max(1) {
                done = true;
                let mut case = (b'E', 0u8);
                for piece in with {
                    let text = match piece {
                        Piece::Text(t) => t.clone(),
                        Piece::Group(n) => {
                            groups.get(*n).copied().flatten().and_then(|(s, e)| space.get(s..e)).unwrap_or_default().to_vec()
                        }
                        Piece::Case(c) => {
                            if matches!(c, b'u' | b'l') {
                                case.1 = *c;
                            } else {
                                case.0 = *c;
                            }
                            continue;
                        }
                    };
                    let mut text = match case.0 {
                        b'U' => text.to_ascii_uppercase(),
                        b'L' => text.to_ascii_lowercase(),
                        _ => text,
                    };
                    if let Some(first) = text.first_mut() {
                        match std::mem::take(&mut case.1) {
                            b'u' => *first = first.to_ascii_uppercase(),
                            b'l' => *first = first.to_ascii_lowercase(),
                            _ => {}
                        }
                    }
                    out.extend(text);
                }
            } else {
                out.extend_from_slice(space.get(s..e).unwrap_or_default());
            }
            at = e;
            after_match = Some(e);
            if s == e {
                out.extend(space.get(e));
                at = e + 1;
                after_match = None;
            }
            if (done && !global) || out.len() > limits::PIPE {
                break;
            }
        }
        if done {
            out.extend_from_slice(space.get(at..).unwrap_or_default());
            *space = out;
        }
        done
    }
}

pub(super) fn sed(cx: &mut Cx<'_, '_>, args: &[Vec<u8>]) -> i32 {
    // `-i` takes a suffix only when it is attached.
    let mut args = args.to_vec();
    let mut in_place = false;
    let mut suffix = Vec::new();
    args.retain(|a| {
        let hit = a.starts_with(b"-i") || a.starts_with(b"--in-place");
        if hit {
            in_place = true;
            suffix = a.strip_prefix(b"-i").or(a.strip_prefix(b"--in-place=")).unwrap_or_default().to_vec();
        }
        !hit
    });
    let longs = [
        ("quiet", b'n'),
        ("silent", b'n'),
        ("expression=", b'e'),
        ("file=", b'f'),
        ("regexp-extended", b'E'),
        ("separate", b's'),
        ("unbuffered", b'u'),
        ("null-data", b'z'),
    ];
    let Ok((options, mut rest)) = cx.options(&args, "ne:f:rEsuz", &longs) else { return 1 };
    if has(&options, 0) {
        return 0;
    }
    let mut script: Vec<Vec<u8>> = options.iter().filter(|o| o.0 == b'e').map(|o| o.1.clone()).collect();
    for (_, path) in options.iter().filter(|o| o.0 == b'f') {
        match cx.read(path) {
            Ok(text) => script.push(text.as_ref().clone()),
            Err(e) => return cx.fail(&format!("couldn't open file {}: {}", show(path), e.text())),
        }
    }
    if script.is_empty() {
        if rest.is_empty() {
            cx.err("Usage: sed [OPTION]... {script-only-if-no-other-script} [input-file]...\n");
            return 1;
        }
        script.push(rest.remove(0));
    }
    let text = script.join(&b'\n');
    let mut parser = Parser { src: &text, pos: 0, extended: has(&options, b'E') || has(&options, b'r'), last: None };
    let (mut commands, labels) = match parser.commands() {
        Ok(c) => c,
        Err(message) => {
            let at = parser.pos;
            return cx.fail(&format!("-e expression #1, char {at}: {message}"));
        }
    };
    let quiet = has(&options, b'n');
    let paths = if rest.is_empty() { vec![b"-".to_vec()] } else { rest };
    let mut status = 0;
    if in_place {
        for path in paths {
            let data = match cx.read(&path) {
                Ok(d) => d,
                Err(e) => {
                    status = cx.fail(&format!("can't read {}: {}", show(&path), e.text()));
                    continue;
                }
            };
            for c in &mut commands {
                c.open = None;
            }
            let (out, code) = run(cx, &mut commands, &labels, &data, quiet);
            if !suffix.is_empty() {
                let backup = [path.as_slice(), &suffix].concat();
                let _ = cx.write_file(&backup, data.as_ref().clone());
            }
            if let Err(e) = cx.write_file(&path, out) {
                status = cx.fail(&format!("couldn't open temporary file {}: {}", show(&path), e.text()));
            }
            status = status.max(code);
        }
        return status;
    }
    let mut all = Vec::new();
    for path in paths {
        match cx.read(&path) {
            Ok(d) => {
                if !all.is_empty() && all.last() != Some(&b'\n') {
                    all.push(b'\n');
                }
                all.extend_from_slice(&d);
            }
            Err(e) => {
                cx.fail(&format!(
                    "{} {}: {}",
                    if e == crate::system::fs::Errno::IsDir { "couldn't edit" } else { "can't read" },
                    show(&path),
                    e.text()
                ));
                status = 2;
            }
        }
    }
    let (out, code) = run(cx, &mut commands, &labels, &all, quiet);
    cx.out(&out);
    status.max(code)
}

fn run(cx: &mut Cx<'_, '_>, commands: &mut [Command], labels: &BTreeMap<Vec<u8>, usize>, data: &[u8], quiet: bool) -> (Vec<u8>, i32) {
    let ended = data.last().is_none_or(|b| *b == b'\n');
    let lines: Vec<&[u8]> = super::lines(data).collect();
    let total = lines.len();
    let work = cx.x.steps.saturating_mul(16);
    let mut s = Sed { cx, out: Vec::new(), work };
    let mut hold: Vec<u8> = Vec::new();
    let mut at = 0;
    let mut space: Vec<u8> = Vec::new();
    let mut keep = false;
    let mut written: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
    let mut quit = None;
    while (at < total || keep) && quit.is_none() {
        if !std::mem::take(&mut keep) {
            space = lines.get(at).copied().unwrap_or_default().to_vec();
            at += 1;
        }
        let mut after: Vec<u8> = Vec::new();
        let mut flag = false;
        let mut print = !quiet;
        let mut pc = 0;
        while let Some(command) = commands.get_mut(pc) {
            pc += 1;
            s.work = s.work.saturating_sub(4);
            if s.work == 0 || !s.cx.alive() || s.out.len() > limits::PIPE || space.len() > limits::PIPE {
                s.cx.x.spend(u64::MAX);
                return (s.out, 4);
            }
            let hit = s.selects(command, &space, at, at >= total);
            if !hit {
                if let Op::Open(end) = command.op {
                    pc = end + 1;
                }
                continue;
            }
            match command.op.clone() {
                Op::Substitute { regex, with, global, nth, print: show, write } => {
                    if s.substitute(&mut space, &regex, &with, global, nth) {
                        flag = true;
                        if show {
                            s.out.extend_from_slice(&space);
                            s.out.push(b'\n');
                        }
                        if let Some(path) = write {
                            written.entry(path).or_default().extend([space.as_slice(), b"\n"].concat());
                        }
                    }
                }
                Op::Delete => {
                    print = false;
                    break;
                }
                Op::DeleteFirst => {
                    print = false;
                    if let Some(p) = space.iter().position(|b| *b == b'\n') {
                        space.drain(..=p);
                        keep = true;
                    }
                    break;
                }
                Op::Print => {
                    s.out.extend_from_slice(&space);
                    s.out.push(b'\n');
                }
                Op::PrintFirst => {
                    s.out.extend_from_slice(space.split(|b| *b == b'\n').next().unwrap_or_default());
                    s.out.push(b'\n');
                }
                Op::List => {
                    s.out.extend(space.escape_ascii().to_string().into_bytes());
                    s.out.extend_from_slice(b"$\n");
                }
                Op::Quit(code, show) => {
                    quit = Some(code);
                    print &= show;
                    break;
                }
                Op::Number => s.out.extend(format!("{at}\n").into_bytes()),
                Op::Append(text) => after.extend(text),
                Op::Insert(text) => s.out.extend(text),
                Op::Change(text) => {
                    print = false;
                    if command.to.is_none() || command.open.is_none() {
                        s.out.extend(text);
                    }
                    break;
                }
                Op::Translate(a, b) => {
                    for byte in &mut space {
                        if let Some(p) = a.iter().position(|x| x == byte) {
                            *byte = b.get(p).copied().unwrap_or(*byte);
                        }
                    }
                }
                Op::Next => {
                    if at >= total {
                        quit = Some(0);
                        break;
                    }
                    if print {
                        s.out.extend_from_slice(&space);
                        s.out.push(b'\n');
                    }
                    s.out.append(&mut after);
                    space = lines.get(at).copied().unwrap_or_default().to_vec();
                    at += 1;
                }
                Op::NextAppend => {
                    if at >= total {
                        quit = Some(0);
                        break;
                    }
                    space.push(b'\n');
                    space.extend_from_slice(lines.get(at).copied().unwrap_or_default());
                    at += 1;
                }
                Op::Get(append) => {
                    if append {
                        space.push(b'\n');
                        space.extend_from_slice(&hold);
                    } else {
                        space.clone_from(&hold);
                    }
                }
                Op::Hold(append) => {
                    if append {
                        hold.push(b'\n');
                        hold.extend_from_slice(&space);
                        hold.truncate(limits::PIPE);
                    } else {
                        hold.clone_from(&space);
                    }
                }
                Op::Exchange => std::mem::swap(&mut hold, &mut space),
                Op::Branch(label) => {
                    if label.is_empty() {
                        break;
                    }
                    pc = labels.get(&label).copied().unwrap_or(usize::MAX);
                }
                Op::BranchIf(label) => {
                    if std::mem::take(&mut flag) {
                        if label.is_empty() {
                            break;
                        }
                        pc = labels.get(&label).copied().unwrap_or(usize::MAX);
                    }
                }
                Op::Label | Op::Open(_) | Op::Close => {}
                Op::Read(path) => {
                    if let Ok(text) = s.cx.read(&path) {
                        after.extend_from_slice(&text);
                    }
                }
                Op::Write(path) => written.entry(path).or_default().extend([space.as_slice(), b"\n"].concat()),
            }
        }
        if print {
            s.out.extend_from_slice(&space);
            if at < total || ended || quit.is_some() || !after.is_empty() {
                s.out.push(b'\n');
            }
        }
        s.out.extend(after);
    }
    let spent = work - s.work;
    let out = s.out;
    cx.x.spend(spent / 16);
    for (path, data) in written {
        if path == b"/dev/stdout" {
            cx.out(&data);
        } else {
            let _ = cx.write_file(&path, data);
        }
    }
    (out, quit.unwrap_or(0))
}
