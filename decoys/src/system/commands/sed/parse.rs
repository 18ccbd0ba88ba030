//! The language of `sed`: text to commands.

use std::collections::BTreeMap;

use crate::system::{commands::number, regex::Regex};

#[derive(Clone)]
pub(super) enum Address {
    Line(usize),
    Last,
    Regex(Box<Regex>),
    Step(usize, usize),
    Plus(usize),
    Zero,
}

#[derive(Clone)]
pub(super) enum Op {
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
pub(super) enum Piece {
    Text(Vec<u8>),
    Group(usize),
    Case(u8),
}

pub(super) struct Command {
    pub from: Option<Address>,
    pub to: Option<Address>,
    pub negate: bool,
    pub op: Op,
    /// The line a range began on, while it is open.
    pub open: Option<usize>,
}

/// The commands and where each label stands.
pub(super) type Script = (Vec<Command>, BTreeMap<Vec<u8>, usize>);

pub(super) struct Parser<'a> {
    pub src: &'a [u8],
    pub pos: usize,
    pub extended: bool,
    pub last: Option<Regex>,
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

    pub(super) fn commands(&mut self) -> Result<Script, String> {
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
