//! POSIX regular expressions (basic and extended, with the GNU additions `\w \s \b \< \> \+ \? \|`) over bytes.
//!
//! A backtracking machine with back-references; every search is given an amount of work and gives up when it is spent, so
//! a hostile pattern costs no more than an honest one.

use super::shell::pattern;

/// A pattern that cannot be compiled, worded as the GNU library does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    Bracket,
    Paren,
    OpenParen,
    Reference,
    Backslash,
    Big,
}

impl Fault {
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Bracket => "Unmatched [, [^, [:, [., or [=",
            Self::Paren => "Unmatched ( or \\(",
            Self::OpenParen => "Unmatched ) or \\)",
            Self::Reference => "Invalid back reference",
            Self::Backslash => "Trailing backslash",
            Self::Big => "Regular expression too big",
        }
    }
}

#[derive(Clone, Debug)]
enum Ast {
    Empty,
    Byte(u8),
    Any,
    Set(Box<[u64; 4]>),
    Start,
    End,
    Word(bool),
    WordStart,
    WordEnd,
    Back(usize),
    Group(usize, Box<Ast>),
    Cat(Vec<Ast>),
    Alt(Vec<Ast>),
    Repeat(Box<Ast>, u32, Option<u32>),
}

#[derive(Clone, Debug)]
enum Op {
    Byte(u8),
    Any,
    Set(Box<[u64; 4]>),
    Start,
    End,
    Word(bool),
    WordStart,
    WordEnd,
    Back(usize),
    Save(usize),
    Split(usize, usize),
    Jump(usize),
    Mark(usize),
    Progress(usize),
    Match,
}

/// Start and end of the whole match and of each group.
pub(super) type Groups = Vec<Option<(usize, usize)>>;

/// A compiled pattern.
#[derive(Clone, Debug)]
pub(super) struct Regex {
    ops: Vec<Op>,
    groups: usize,
    marks: usize,
    icase: bool,
    /// Alternatives make the longest match another than the first.
    longest: bool,
    /// A byte every match begins with.
    first: Option<u8>,
}

const MAX_OPS: usize = 8_192;

struct Parser<'a> {
    src: &'a [u8],
    pos: usize,
    extended: bool,
    groups: usize,
    closed: Vec<usize>,
    depth: usize,
    alternates: bool,
}

impl Regex {
    /// A basic expression (`grep`, `sed`).
    pub(super) fn basic(text: &[u8], icase: bool) -> Result<Self, Fault> {
        Self::compile(text, icase, false)
    }

    /// An extended expression (`grep -E`, `awk`, `[[ =~ ]]`).
    pub(super) fn extended(text: &[u8], icase: bool) -> Result<Self, Fault> {
        Self::compile(text, icase, true)
    }

    fn compile(text: &[u8], icase: bool, extended: bool) -> Result<Self, Fault> {
        if text.len() > 4_096 {
            return Err(Fault::Big);
        }
        let mut p = Parser { src: text, pos: 0, extended, groups: 0, closed: Vec::new(), depth: 0, alternates: false };
        let ast = p.alt()?;
        if p.pos < text.len() {
            return Err(Fault::OpenParen);
        }
        let mut regex = Self { ops: Vec::new(), groups: p.groups + 1, marks: 0, icase, longest: p.alternates, first: None };
        regex.emit(&ast)?;
        regex.push(Op::Match)?;
        if !icase && let Some(Op::Byte(b)) = regex.ops.first() {
            regex.first = Some(*b);
        }
        Ok(regex)
    }

    fn push(&mut self, op: Op) -> Result<usize, Fault> {
        if self.ops.len() >= MAX_OPS {
            return Err(Fault::Big);
        }
        self.ops.push(op);
        Ok(self.ops.len() - 1)
    }

    fn set(&mut self, at: usize, op: Op) {
        if let Some(slot) = self.ops.get_mut(at) {
            *slot = op;
        }
    }

    fn emit(&mut self, ast: &Ast) -> Result<(), Fault> {
        match ast {
            Ast::Empty => {}
            Ast::Byte(b) => {
                let b = if self.icase { b.to_ascii_lowercase() } else { *b };
                self.push(Op::Byte(b))?;
            }
            Ast::Any => {
                self.push(Op::Any)?;
            }
            Ast::Set(set) => {
                let mut set = set.clone();
                if self.icase {
                    for b in b'a'..=b'z' {
                        let upper = b.to_ascii_uppercase();
                        if in_set(&set, b) || in_set(&set, upper) {
                            add(&mut set, b);
                            add(&mut set, upper);
                        }
                    }
                }
                self.push(Op::Set(set))?;
            }
            Ast::Start => {
                self.push(Op::Start)?;
            }
            Ast::End => {
                self.push(Op::End)?;
            }
            Ast::Word(edge) => {
                self.push(Op::Word(*edge))?;
            }
            Ast::WordStart => {
                self.push(Op::WordStart)?;
            }
            Ast::WordEnd => {
                self.push(Op::WordEnd)?;
            }
            Ast::Back(n) => {
                self.push(Op::Back(*n))?;
            }
            Ast::Group(n, inner) => {
                self.push(Op::Save(n * 2))?;
                self.emit(inner)?;
                self.push(Op::Save(n * 2 + 1))?;
            }
            Ast::Cat(items) => {
                for item in items {
                    self.emit(item)?;
                }
            }
            Ast::Alt(items) => {
                let mut ends = Vec::new();
                for (at, item) in items.iter().enumerate() {
                    if at + 1 == items.len() {
                        self.emit(item)?;
                        break;
                    }
                    let split = self.push(Op::Split(0, 0))?;
                    self.emit(item)?;
                    ends.push(self.push(Op::Jump(0))?);
                    let next = self.ops.len();
                    self.set(split, Op::Split(split + 1, next));
                }
                let end = self.ops.len();
                for at in ends {
                    self.set(at, Op::Jump(end));
                }
            }
            Ast::Repeat(inner, least, most) => {
                for _ in 0..*least {
                    self.emit(inner)?;
                }
                match most {
                    None => {
                        let mark = self.marks;
                        self.marks += 1;
                        let split = self.push(Op::Split(0, 0))?;
                        self.push(Op::Mark(mark))?;
                        self.emit(inner)?;
                        self.push(Op::Progress(mark))?;
                        self.push(Op::Jump(split))?;
                        let end = self.ops.len();
                        self.set(split, Op::Split(split + 1, end));
                    }
                    Some(most) => {
                        let mut splits = Vec::new();
                        for _ in *least..*most {
                            splits.push(self.push(Op::Split(0, 0))?);
                            self.emit(inner)?;
                        }
                        let end = self.ops.len();
                        for at in splits {
                            self.set(at, Op::Split(at + 1, end));
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// The leftmost (and longest) match at or after `from`, within `work` steps.
    pub(super) fn find(&self, text: &[u8], from: usize, work: &mut u64) -> Option<Groups> {
        let mut start = from;
        while start <= text.len() {
            if let Some(first) = self.first {
                let skip = text.get(start..)?.iter().position(|b| *b == first)?;
                start += skip;
                *work = work.saturating_sub(skip as u64 / 16);
            }
            if let Some(found) = self.at(text, start, work) {
                return Some(found);
            }
            *work = work.checked_sub(1)?;
            start += 1;
        }
        None
    }

    fn at(&self, text: &[u8], start: usize, work: &mut u64) -> Option<Groups> {
        let slots = self.groups * 2 + self.marks;
        let mut caps: Vec<Option<usize>> = vec![None; slots];
        let mut stack: Vec<(usize, usize, Option<(usize, Option<usize>)>)> = Vec::new();
        let (mut pc, mut at) = (0usize, start);
        let mut best: Option<(usize, Vec<Option<usize>>)> = None;
        let word = |i: Option<usize>| i.and_then(|i| text.get(i)).is_some_and(|b| *b == b'_' || b.is_ascii_alphanumeric());
        loop {
            *work = work.checked_sub(1)?;
            let ok = match self.ops.get(pc)? {
                Op::Byte(b) => {
                    let hit = text.get(at).is_some_and(|t| t == b || self.icase && t.to_ascii_lowercase() == *b);
                    at += usize::from(hit);
                    hit
                }
                Op::Any => {
                    let hit = at < text.len();
                    at += usize::from(hit);
                    hit
                }
                Op::Set(set) => {
                    let hit = text.get(at).is_some_and(|t| in_set(set, *t));
                    at += usize::from(hit);
                    hit
                }
                Op::Start => at == 0,
                Op::End => at == text.len(),
                Op::Word(edge) => (word(at.checked_sub(1)) != word(Some(at))) == *edge,
                Op::WordStart => !word(at.checked_sub(1)) && word(Some(at)),
                Op::WordEnd => word(at.checked_sub(1)) && !word(Some(at)),
                Op::Back(n) => {
                    let range = (caps.get(n * 2).copied().flatten(), caps.get(n * 2 + 1).copied().flatten());
                    match range {
                        (Some(s), Some(e)) => {
                            let want = text.get(s..e).unwrap_or_default();
                            let rest = text.get(at..).unwrap_or_default();
                            let hit = if self.icase {
                                rest.get(..want.len()).is_some_and(|r| r.eq_ignore_ascii_case(want))
                            } else {
                                rest.starts_with(want)
                            };
                            *work = work.saturating_sub(want.len() as u64 / 8);
                            at += if hit { want.len() } else { 0 };
                            hit
                        }
                        _ => false,
                    }
                }
                Op::Save(slot) => {
                    if let Some(c) = caps.get_mut(*slot) {
                        stack.push((usize::MAX, 0, Some((*slot, *c))));
                        *c = Some(at);
                    }
                    true
                }
                Op::Mark(mark) => {
                    let slot = self.groups * 2 + mark;
                    if let Some(c) = caps.get_mut(slot) {
                        stack.push((usize::MAX, 0, Some((slot, *c))));
                        *c = Some(at);
                    }
                    true
                }
                // A repeated part that matched nothing must not go round again.
                Op::Progress(mark) => caps.get(self.groups * 2 + mark).copied().flatten() != Some(at),
                Op::Split(first, second) => {
                    stack.push((*second, at, None));
                    pc = *first;
                    continue;
                }
                Op::Jump(to) => {
                    pc = *to;
                    continue;
                }
                Op::Match => {
                    if best.as_ref().is_none_or(|(end, _)| at > *end) {
                        best = Some((at, caps.clone()));
                    }
                    if !self.longest {
                        break;
                    }
                    false
                }
            };
            if ok {
                pc += 1;
                continue;
            }
            if stack.len() > 100_000 {
                return None;
            }
            // Back to the last choice, undoing what was saved since.
            loop {
                match stack.pop() {
                    None => {
                        pc = usize::MAX;
                        break;
                    }
                    Some((_, _, Some((slot, old)))) => {
                        if let Some(c) = caps.get_mut(slot) {
                            *c = old;
                        }
                    }
                    Some((to, from, None)) => {
                        (pc, at) = (to, from);
                        break;
                    }
                }
            }
            if pc == usize::MAX {
                break;
            }
        }
        let (end, caps) = best?;
        let mut groups: Groups = vec![Some((start, end))];
        for n in 1..self.groups {
            groups.push(caps.get(n * 2).copied().flatten().zip(caps.get(n * 2 + 1).copied().flatten()));
        }
        Some(groups)
    }
}

fn in_set(set: &[u64; 4], b: u8) -> bool {
    set.get(usize::from(b >> 6)).is_some_and(|w| w >> (b & 63) & 1 == 1)
}

fn add(set: &mut [u64; 4], b: u8) {
    if let Some(w) = set.get_mut(usize::from(b >> 6)) {
        *w |= 1 << (b & 63);
    }
}

impl Parser<'_> {
    fn peek(&self) -> Option<u8> {
        self.src.get(self.pos).copied()
    }

    /// Whether an operator stands here: bare in extended syntax, after a backslash in basic.
    fn operator(&self, op: u8) -> bool {
        if self.extended { self.peek() == Some(op) } else { self.peek() == Some(b'\\') && self.src.get(self.pos + 1) == Some(&op) }
    }

    fn skip_operator(&mut self) {
        self.pos += if self.extended { 1 } else { 2 };
    }

    fn alt(&mut self) -> Result<Ast, Fault> {
        self.depth += 1;
        if self.depth > 32 {
            return Err(Fault::Big);
        }
        let mut options = vec![self.cat()?];
        while self.operator(b'|') {
            self.skip_operator();
            self.alternates = true;
            options.push(self.cat()?);
        }
        self.depth -= 1;
        if options.len() == 1
            && let Some(only) = options.pop()
        {
            return Ok(only);
        }
        Ok(Ast::Alt(options))
    }

    fn cat(&mut self) -> Result<Ast, Fault> {
        let mut items: Vec<Ast> = Vec::new();
        loop {
            if self.peek().is_none() || self.operator(b'|') || (self.operator(b')') && (self.depth > 1 || !self.extended)) {
                break;
            }
            let first = items.is_empty() || (items.len() == 1 && matches!(items.first(), Some(Ast::Start)));
            let atom = self.atom(first)?;
            items.push(self.repeats(atom)?);
        }
        Ok(if items.is_empty() { Ast::Empty } else { Ast::Cat(items) })
    }

    fn repeats(&mut self, mut atom: Ast) -> Result<Ast, Fault> {
        loop {
            let star = self.peek() == Some(b'*');
            let (least, most) = if star {
                self.pos += 1;
                (0, None)
            } else if self.operator(b'+') {
                self.skip_operator();
                (1, None)
            } else if self.operator(b'?') {
                self.skip_operator();
                (0, Some(1))
            } else if self.operator(b'{') {
                match self.interval() {
                    Some(pair) => pair,
                    None => return Ok(atom),
                }
            } else {
                return Ok(atom);
            };
            if least > 255 || most.is_some_and(|m| m > 255 || m < least) {
                return Err(Fault::Big);
            }
            atom = Ast::Repeat(Box::new(atom), least, most);
        }
    }

    fn interval(&mut self) -> Option<(u32, Option<u32>)> {
        let start = self.pos;
        self.skip_operator();
        let rest = self.src.get(self.pos..)?;
        let close = rest.iter().position(|b| *b == b'}')?;
        let text = rest.get(..close)?;
        let text = if self.extended { text } else { text.strip_suffix(b"\\").unwrap_or(text) };
        let text = std::str::from_utf8(text).ok()?;
        let number = |t: &str| t.parse::<u32>().ok();
        let pair = match text.split_once(',') {
            None => number(text).map(|n| (n, Some(n))),
            Some((a, "")) => number(if a.is_empty() { "0" } else { a }).map(|n| (n, None)),
            Some((a, b)) => number(if a.is_empty() { "0" } else { a }).and_then(|a| number(b).map(|b| (a, Some(b)))),
        };
        match pair {
            Some(pair) => {
                self.pos += close + 1;
                Some(pair)
            }
            None => {
                self.pos = start;
                None
            }
        }
    }

    fn atom(&mut self, first: bool) -> Result<Ast, Fault> {
        if self.operator(b'(') {
            self.skip_operator();
            self.groups += 1;
            let n = self.groups;
            let inner = self.alt()?;
            if !self.operator(b')') {
                return Err(Fault::Paren);
            }
            self.skip_operator();
            self.closed.push(n);
            return Ok(Ast::Group(n, Box::new(inner)));
        }
        if !self.extended && self.operator(b')') {
            return Err(Fault::OpenParen);
        }
        let Some(b) = self.peek() else { return Ok(Ast::Empty) };
        self.pos += 1;
        Ok(match b {
            b'.' => Ast::Any,
            b'[' => self.bracket()?,
            b'^' if self.extended || first => Ast::Start,
            b'$' if self.extended => Ast::End,
            b'$' if self.peek().is_none() || self.operator(b')') || self.operator(b'|') => Ast::End,
            b'*' if first => Ast::Byte(b'*'),
            b'+' | b'?' if self.extended && first => Ast::Byte(b),
            b'{' if self.extended => Ast::Byte(b'{'),
            b'\\' => {
                let Some(next) = self.peek() else { return Err(Fault::Backslash) };
                self.pos += 1;
                match next {
                    b'n' => Ast::Byte(b'\n'),
                    b't' => Ast::Byte(b'\t'),
                    b'w' | b'W' | b's' | b'S' | b'd' => {
                        let mut set = Box::new([0u64; 4]);
                        for c in 0..=255u8 {
                            let hit = match next {
                                b'w' => c == b'_' || c.is_ascii_alphanumeric(),
                                b'W' => !(c == b'_' || c.is_ascii_alphanumeric()),
                                b's' => pattern::class(b"space", c),
                                b'S' => !pattern::class(b"space", c),
                                _ => c == b'd',
                            };
                            if hit {
                                add(&mut set, c);
                            }
                        }
                        Ast::Set(set)
                    }
                    b'b' => Ast::Word(true),
                    b'B' => Ast::Word(false),
                    b'<' => Ast::WordStart,
                    b'>' => Ast::WordEnd,
                    b'`' => Ast::Start,
                    b'\'' => Ast::End,
                    b'1'..=b'9' => {
                        let n = usize::from(next - b'0');
                        if !self.closed.contains(&n) {
                            return Err(Fault::Reference);
                        }
                        Ast::Back(n)
                    }
                    other => Ast::Byte(other),
                }
            }
            other => Ast::Byte(other),
        })
    }

    fn bracket(&mut self) -> Result<Ast, Fault> {
        let start = self.pos - 1;
        let mut set = Box::new([0u64; 4]);
        // The shell's bracket reader takes a backslash as quoting; here it is a plain byte.
        let mut copy = Vec::new();
        let rest = self.src.get(start..).unwrap_or_default();
        let mut at = 1;
        let mut end = None;
        copy.push(b'[');
        if matches!(rest.get(at), Some(b'^')) {
            copy.push(b'^');
            at += 1;
        }
        let first = at;
        while let Some(&b) = rest.get(at) {
            match b {
                b']' if at > first => {
                    end = Some(at);
                    break;
                }
                b'[' if matches!(rest.get(at + 1), Some(b':' | b'.' | b'=')) => {
                    let mark = rest.get(at + 1).copied().unwrap_or(b':');
                    let tail = rest.get(at + 2..).unwrap_or_default();
                    let Some(len) = tail.windows(2).position(|w| w == [mark, b']']) else { return Err(Fault::Bracket) };
                    copy.extend_from_slice(rest.get(at..at + len + 4).unwrap_or_default());
                    at += len + 4;
                    continue;
                }
                b'\\' => copy.extend_from_slice(b"\\\\"),
                b'!' if at == first && copy.len() == 1 => copy.extend_from_slice(b"\\!"),
                _ => copy.push(b),
            }
            at += 1;
        }
        let Some(end) = end else { return Err(Fault::Bracket) };
        copy.push(b']');
        for b in 0..=255u8 {
            if pattern::set(&copy, b).is_some_and(|(hit, _)| hit) {
                add(&mut set, b);
            }
        }
        self.pos = start + end + 1;
        Ok(Ast::Set(set))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(regex: &Regex, text: &str) -> Option<String> {
        let mut work = 100_000;
        regex.find(text.as_bytes(), 0, &mut work).map(|g| {
            let (s, e) = g[0].unwrap();
            text[s..e].to_owned()
        })
    }

    #[test]
    fn extended_and_basic() {
        for (p, t, want) in [
            ("a|ab", "xab", Some("ab")),
            ("^[0-9]+$", "123", Some("123")),
            ("(a*)*b", "aaab", Some("aaab")),
            ("a{2,3}", "aaaa", Some("aaa")),
            ("[^ ]+", "  hi there", Some("hi")),
            (r"\bfoo\b", "a foo b", Some("foo")),
            ("x*", "y", Some("")),
            (r"(ab|a)(bc)?", "abc", Some("abc")),
            ("[[:upper:]_]+", "abC_D", Some("C_D")),
            ("[]x]", "]", Some("]")),
            (r"[\n]", "\\", Some("\\")),
            ("a.c", "abd", None),
        ] {
            assert_eq!(found(&Regex::extended(p.as_bytes(), false).unwrap(), t).as_deref(), want, "{p} on {t}");
        }
        for (p, t, want) in [
            (r"\(.\)\1", "abccd", Some("cc")),
            ("a+b", "a+b", Some("a+b")),
            (r"a\+b", "aab", Some("aab")),
            ("*x", "a*x", Some("*x")),
            ("a$b", "a$b", Some("a$b")),
            (r"a\|b", "xb", Some("b")),
            (r"x\{2\}", "xxx", Some("xx")),
            ("^a", "ba", None),
        ] {
            assert_eq!(found(&Regex::basic(p.as_bytes(), false).unwrap(), t).as_deref(), want, "{p} on {t}");
        }
        assert_eq!(found(&Regex::extended(b"ABC", true).unwrap(), "xabc").as_deref(), Some("abc"));
        assert_eq!(Regex::extended(b"[a", false).unwrap_err(), Fault::Bracket);
    }

    #[test]
    fn hostile_patterns_give_up() {
        let regex = Regex::extended(b"(a*)*(a|aa)*c", false).unwrap();
        let mut work = 50_000;
        assert!(regex.find(&[b'a'; 4_000], 0, &mut work).is_none());
        assert!(Regex::extended(b"((((a{255}){255}){255}){255})", false).is_err());
    }
}
