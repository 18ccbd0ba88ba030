//! Words: quoting, `$…` and backquotes. Works on bytes, never recurses deeper than
//! [`SYNTAX_DEPTH`](super::super::limits::SYNTAX_DEPTH).

use std::sync::Arc;

use super::ast::{Node, Op, Param, Part, Word};
use crate::system::limits;

/// Why a line could not be parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::system) enum Fault {
    /// The text ends inside a construct; the byte is the quote that is missing, or 0.
    End(u8),
    /// An unexpected token.
    Token(Vec<u8>),
    /// Nested too deeply.
    Depth,
    /// `${…}` that means nothing; holds its text.
    Bad(Vec<u8>),
}

/// Where a word ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::system) enum Stop {
    /// At a blank or an operator.
    Blank,
    /// At an unquoted `}`: inside `${…}`.
    Brace,
    /// At `/` or `}`: the pattern of `${x/…}`.
    Slash,
    /// At `:` or `}`: the offset of `${x:…}`.
    Colon,
    /// At `]`: a subscript.
    Bracket,
    /// At `"`: the inside of double quotes.
    Quote,
    /// At the end of the text: here-documents and arithmetic.
    End,
    /// A regular expression of `[[`: parentheses and bars are text.
    Regex,
}

/// A place in a source text.
pub(in crate::system) struct Lexer<'a> {
    pub src: &'a [u8],
    pub pos: usize,
    pub depth: usize,
    pub line: u32,
    /// The newline that ends the current line, and where to go on after it, when here-documents follow.
    pub here: Option<(usize, usize)>,
    /// Whether an unfinished here-document asks for more (a terminal) or ends with the text.
    pub more: bool,
    /// Here-documents that the end of the text closed: line and delimiter.
    pub warnings: Vec<(u32, Vec<u8>)>,
}

pub(in crate::system) fn is_name_start(b: u8) -> bool {
    b == b'_' || b.is_ascii_alphabetic()
}

pub(in crate::system) fn is_name(b: u8) -> bool {
    b == b'_' || b.is_ascii_alphanumeric()
}

/// Whether the text is a valid variable name.
pub(in crate::system) fn valid_name(text: &[u8]) -> bool {
    text.first().is_some_and(|b| is_name_start(*b)) && text.iter().all(|b| is_name(*b))
}

impl<'a> Lexer<'a> {
    pub(in crate::system) fn new(src: &'a [u8], more: bool) -> Self {
        Self { src, pos: 0, depth: 0, line: 1, here: None, more, warnings: Vec::new() }
    }

    pub(super) fn peek(&self) -> Option<u8> {
        self.src.get(self.pos).copied()
    }

    pub(super) fn peek_at(&self, ahead: usize) -> Option<u8> {
        self.src.get(self.pos + ahead).copied()
    }

    pub(super) fn starts(&self, text: &[u8]) -> bool {
        self.src.get(self.pos..).unwrap_or_default().starts_with(text)
    }

    /// Goes on by one byte; a newline may jump over here-documents.
    pub(super) fn bump(&mut self) -> Option<u8> {
        let b = self.peek()?;
        if b == b'\n' {
            self.line = self.line.saturating_add(1);
            if let Some((at, next)) = self.here
                && at == self.pos
            {
                self.pos = next;
                self.here = None;
                return Some(b);
            }
        }
        self.pos += 1;
        Some(b)
    }

    pub(super) fn enter(&mut self) -> Result<(), Fault> {
        self.depth += 1;
        if self.depth > limits::SYNTAX_DEPTH { Err(Fault::Depth) } else { Ok(()) }
    }

    /// One word; empty when none begins here.
    pub(in crate::system) fn word(&mut self, stop: Stop) -> Result<Word, Fault> {
        self.enter()?;
        let result = self.parts(stop);
        self.depth -= 1;
        result
    }

    fn parts(&mut self, stop: Stop) -> Result<Word, Fault> {
        let mut word = Word::new();
        let mut lit = Vec::new();
        let quoted = stop == Stop::Quote || stop == Stop::End;
        let mut open = 0usize;
        while let Some(b) = self.peek() {
            let ends = match stop {
                Stop::Blank => matches!(b, b' ' | b'\t' | b'\n' | b';' | b'&' | b'|' | b'<' | b'>' | b'(' | b')'),
                Stop::Brace => b == b'}',
                Stop::Slash => b == b'}' || (b == b'/' && !(word.is_empty() && lit.is_empty())),
                Stop::Colon => b == b'}' || (b == b':' && open == 0),
                Stop::Bracket => b == b']',
                Stop::Quote => b == b'"',
                Stop::End => false,
                Stop::Regex => matches!(b, b' ' | b'\t' | b'\n') && open == 0,
            };
            if ends {
                // `<(…)` begins a part, not an operator.
                if stop == Stop::Blank && b == b'<' && self.peek_at(1) == Some(b'(') {
                    flush(&mut lit, &mut word);
                    self.pos += 2;
                    let node = self.sub_program()?;
                    word.push(Part::Process(Arc::new(node)));
                    continue;
                }
                break;
            }
            match b {
                b'\\' => {
                    self.pos += 1;
                    let Some(next) = self.peek() else {
                        if self.more {
                            return Err(Fault::End(0));
                        }
                        lit.push(b'\\');
                        break;
                    };
                    if next == b'\n' {
                        self.bump();
                    } else if quoted && !matches!(next, b'$' | b'`' | b'"' | b'\\') || stop == Stop::End && next == b'"' {
                        lit.push(b'\\');
                    } else {
                        self.pos += 1;
                        flush(&mut lit, &mut word);
                        word.push(Part::Quoted(vec![next]));
                    }
                }
                b'\'' if !quoted => {
                    self.pos += 1;
                    let text = self.until(b'\'')?;
                    flush(&mut lit, &mut word);
                    word.push(Part::Quoted(text));
                }
                b'"' if !quoted => {
                    self.pos += 1;
                    let inner = self.word(Stop::Quote)?;
                    if self.peek() != Some(b'"') {
                        return Err(Fault::End(b'"'));
                    }
                    self.pos += 1;
                    flush(&mut lit, &mut word);
                    word.push(Part::Double(inner));
                }
                b'`' => {
                    self.pos += 1;
                    let mut text = Vec::new();
                    loop {
                        match self.bump() {
                            None => return Err(Fault::End(b'`')),
                            Some(b'`') => break,
                            Some(b'\\') => match self.bump() {
                                Some(n @ (b'`' | b'\\' | b'$')) => text.push(n),
                                Some(b'"') if quoted => text.push(b'"'),
                                Some(n) => text.extend([b'\\', n]),
                                None => return Err(Fault::End(b'`')),
                            },
                            Some(n) => text.push(n),
                        }
                    }
                    flush(&mut lit, &mut word);
                    let node = self.nested(&text)?;
                    word.push(Part::Cmd(Arc::new(node)));
                }
                b'$' => {
                    if let Some(part) = self.dollar(quoted)? {
                        flush(&mut lit, &mut word);
                        word.push(part);
                    } else {
                        lit.push(b'$');
                    }
                }
                _ => {
                    if matches!(stop, Stop::Regex | Stop::Colon) {
                        match b {
                            b'(' => open += 1,
                            b')' => open = open.saturating_sub(1),
                            _ => {}
                        }
                    }
                    // Extended patterns such as `@(a|b)` stay text.
                    if stop == Stop::Blank && matches!(b, b'@' | b'?' | b'*' | b'+' | b'!') && self.peek_at(1) == Some(b'(') && b != b'?' {
                        let from = self.pos;
                        if let Some(len) = closing(self.src.get(self.pos + 1..).unwrap_or_default()) {
                            lit.extend_from_slice(self.src.get(from..from + 1 + len).unwrap_or_default());
                            self.pos += 1 + len;
                            continue;
                        }
                    }
                    lit.push(b);
                    self.bump();
                }
            }
        }
        flush(&mut lit, &mut word);
        Ok(word)
    }

    /// Text up to (and past) the given byte.
    fn until(&mut self, end: u8) -> Result<Vec<u8>, Fault> {
        let mut text = Vec::new();
        loop {
            match self.bump() {
                None => return Err(Fault::End(end)),
                Some(b) if b == end => return Ok(text),
                Some(b) => text.push(b),
            }
        }
    }

    /// What follows a `$`; `None` when it is just a dollar sign (already passed).
    fn dollar(&mut self, quoted: bool) -> Result<Option<Part>, Fault> {
        self.pos += 1;
        let Some(b) = self.peek() else { return Ok(None) };
        match b {
            b'(' if self.peek_at(1) == Some(b'(') => {
                let start = self.pos + 2;
                if let Some(len) = arith_end(self.src.get(start..).unwrap_or_default()) {
                    let text = self.src.get(start..start + len).unwrap_or_default();
                    self.line = self.line.saturating_add(u32::try_from(text.iter().filter(|b| **b == b'\n').count()).unwrap_or(0));
                    self.pos = start + len + 2;
                    return Ok(Some(Part::Arith(self.nested_word(text)?)));
                }
                self.pos += 1;
                Ok(Some(Part::Cmd(Arc::new(self.sub_program()?))))
            }
            b'(' => {
                self.pos += 1;
                Ok(Some(Part::Cmd(Arc::new(self.sub_program()?))))
            }
            b'[' => {
                let start = self.pos + 1;
                let Some(len) = self.src.get(start..).unwrap_or_default().iter().position(|b| *b == b']') else {
                    return Ok(None);
                };
                self.pos = start + len + 1;
                Ok(Some(Part::Arith(self.nested_word(self.src.get(start..start + len).unwrap_or_default())?)))
            }
            b'{' => self.braced().map(Some),
            b'\'' if !quoted => {
                self.pos += 1;
                let mut text = Vec::new();
                loop {
                    match self.bump() {
                        None => return Err(Fault::End(b'\'')),
                        Some(b'\'') => break,
                        Some(b'\\') => {
                            text.push(b'\\');
                            if let Some(n) = self.bump() {
                                text.push(n);
                            }
                        }
                        Some(n) => text.push(n),
                    }
                }
                Ok(Some(Part::Quoted(super::escape::ansi_c(&text))))
            }
            b'"' if !quoted => Ok(Some(Part::Lit(Vec::new()))),
            b if is_name_start(b) => {
                let len = self.src.get(self.pos..).unwrap_or_default().iter().take_while(|b| is_name(**b)).count();
                let name = self.src.get(self.pos..self.pos + len).unwrap_or_default().to_vec();
                self.pos += len;
                Ok(Some(plain(name)))
            }
            b'0'..=b'9' | b'?' | b'$' | b'!' | b'#' | b'*' | b'@' | b'-' => {
                self.pos += 1;
                Ok(Some(plain(vec![b])))
            }
            _ => Ok(None),
        }
    }

    fn braced(&mut self) -> Result<Part, Fault> {
        let start = self.pos;
        self.pos += 1;
        let mut param = Param { name: Vec::new(), index: None, length: false, indirect: false, op: Op::None };
        if self.peek() == Some(b'#') && self.peek_at(1).is_some_and(|b| is_name(b) || matches!(b, b'@' | b'*' | b'?' | b'$' | b'!')) {
            param.length = true;
            self.pos += 1;
        } else if self.peek() == Some(b'!')
            && (self.peek_at(1).is_some_and(is_name) || self.peek_at(1) == Some(b'#') && self.peek_at(2) == Some(b'}'))
        {
            param.indirect = true;
            self.pos += 1;
        }
        match self.peek() {
            Some(b) if is_name_start(b) => {
                while let Some(b) = self.peek().filter(|b| is_name(*b)) {
                    param.name.push(b);
                    self.pos += 1;
                }
            }
            Some(b) if b.is_ascii_digit() => {
                while let Some(b) = self.peek().filter(u8::is_ascii_digit) {
                    param.name.push(b);
                    self.pos += 1;
                }
            }
            Some(b @ (b'?' | b'$' | b'!' | b'#' | b'*' | b'@' | b'-')) => {
                param.name.push(b);
                self.pos += 1;
            }
            None => return Err(Fault::End(b'}')),
            _ => {}
        }
        if self.peek() == Some(b'[') && !param.name.is_empty() {
            self.pos += 1;
            param.index = Some(self.word(Stop::Bracket)?);
            if self.bump() != Some(b']') {
                return Err(Fault::End(b'}'));
            }
        }
        let colon = self.peek() == Some(b':');
        let next = if colon { self.peek_at(1) } else { self.peek() };
        param.op = match next {
            Some(kind @ (b'-' | b'=' | b'?' | b'+')) => {
                self.pos += 1 + usize::from(colon);
                Op::Test { kind, colon, word: self.word(Stop::Brace)? }
            }
            _ if colon => {
                self.pos += 1;
                let from = self.word(Stop::Colon)?;
                let len = if self.peek() == Some(b':') {
                    self.pos += 1;
                    Some(self.word(Stop::Brace)?)
                } else {
                    None
                };
                Op::Slice { from, len }
            }
            Some(mark @ (b'#' | b'%')) => {
                self.pos += 1;
                let long = self.peek() == Some(mark);
                self.pos += usize::from(long);
                Op::Trim { end: mark == b'%', long, pattern: self.word(Stop::Brace)? }
            }
            Some(b'/') => {
                self.pos += 1;
                let kind = match self.peek() {
                    Some(k @ (b'/' | b'#' | b'%')) => {
                        self.pos += 1;
                        k
                    }
                    _ => 0,
                };
                let pattern = self.word(Stop::Slash)?;
                let with = if self.peek() == Some(b'/') {
                    self.pos += 1;
                    self.word(Stop::Brace)?
                } else {
                    Word::new()
                };
                Op::Replace { kind, pattern, with }
            }
            Some(mark @ (b'^' | b',')) => {
                self.pos += 1;
                let all = self.peek() == Some(mark);
                self.pos += usize::from(all);
                Op::Case { upper: mark == b'^', all }
            }
            Some(b'*' | b'@') if param.indirect => {
                self.pos += 1;
                Op::Names
            }
            _ => Op::None,
        };
        match self.peek() {
            Some(b'}') if !param.name.is_empty() => {
                self.pos += 1;
                Ok(Part::Param(Box::new(param)))
            }
            None => Err(Fault::End(b'}')),
            _ => {
                let rest = self.src.get(self.pos..).unwrap_or_default();
                let len = rest.iter().position(|b| *b == b'}').map_or(rest.len(), |p| p + 1);
                let text = self.src.get(start..self.pos + len).unwrap_or_default();
                Err(Fault::Bad([b"$", text].concat()))
            }
        }
    }

    /// Parses a text of its own, counting the depth.
    fn nested(&mut self, text: &[u8]) -> Result<Node, Fault> {
        let mut inner = Lexer::new(text, false);
        inner.depth = self.depth;
        inner.line = self.line;
        super::parser::program(&mut inner)
    }

    fn nested_word(&self, text: &[u8]) -> Result<Word, Fault> {
        let mut inner = Lexer::new(text, false);
        inner.depth = self.depth;
        inner.word(Stop::End)
    }

    /// The inside of `$(` or `<(` up to and past its `)`.
    fn sub_program(&mut self) -> Result<Node, Fault> {
        self.enter()?;
        let node = super::parser::until_paren(self)?;
        self.depth -= 1;
        Ok(node)
    }
}

fn plain(name: Vec<u8>) -> Part {
    Part::Param(Box::new(Param { name, index: None, length: false, indirect: false, op: Op::None }))
}

fn flush(lit: &mut Vec<u8>, word: &mut Word) {
    if !lit.is_empty() {
        word.push(Part::Lit(std::mem::take(lit)));
    }
}

/// Length of a balanced `(…)` at the start, with both parentheses, on one line.
fn closing(text: &[u8]) -> Option<usize> {
    let mut open = 0usize;
    for (at, b) in text.iter().enumerate() {
        match b {
            b'(' => open += 1,
            b')' => {
                open = open.checked_sub(1)?;
                if open == 0 {
                    return Some(at + 1);
                }
            }
            b'\n' | b';' | b'&' => return None,
            _ => {}
        }
    }
    None
}

/// Length of arithmetic text up to its `))`.
pub(super) fn arith_end(text: &[u8]) -> Option<usize> {
    let mut open = 0usize;
    let mut at = 0;
    while let Some(b) = text.get(at) {
        match b {
            b'(' => open += 1,
            b')' if open > 0 => open -= 1,
            b')' => return (text.get(at + 1) == Some(&b')')).then_some(at),
            _ => {}
        }
        at += 1;
    }
    None
}
