//! The language of `awk`: text to statements.

use crate::system::{limits, regex::Regex, shell::escape};

pub(super) type Name = String;

#[derive(Clone, Debug)]
pub(super) enum Expr {
    Number(f64),
    Text(Vec<u8>),
    Regex(Box<Regex>),
    Field(Box<Expr>),
    Var(Name),
    Index(Name, Vec<Expr>),
    Assign(Box<Expr>, u8, Box<Expr>),
    Cond(Box<Expr>, Box<Expr>, Box<Expr>),
    Binary(Op, Box<Expr>, Box<Expr>),
    Match(bool, Box<Expr>, Box<Expr>),
    In(Vec<Expr>, Name),
    Not(Box<Expr>),
    Minus(Box<Expr>),
    Plus(Box<Expr>),
    /// Target, step, and whether the old value is the result.
    Step(Box<Expr>, f64, bool),
    Call(Name, Vec<Expr>),
    Getline(Option<Box<Expr>>, Option<(bool, Box<Expr>)>),
    Group(Box<Expr>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Op {
    Or,
    And,
    Less,
    LessEq,
    Equal,
    NotEqual,
    Greater,
    GreaterEq,
    Concat,
    Add,
    Sub,
    Mul,
    Div,
    Mod,
    Pow,
}

#[derive(Clone, Debug)]
pub(super) enum Stmt {
    Expr(Expr),
    /// Arguments, whether it is `printf`, and where to: `>`, `a` for `>>`, `|`.
    Print(Vec<Expr>, bool, Option<(u8, Expr)>),
    If(Expr, Box<Stmt>, Option<Box<Stmt>>),
    While(Expr, Box<Stmt>),
    Do(Box<Stmt>, Expr),
    For(Option<Box<Stmt>>, Option<Expr>, Option<Box<Stmt>>, Box<Stmt>),
    ForIn(Name, Name, Box<Stmt>),
    Block(Vec<Stmt>),
    Next,
    Exit(Option<Expr>),
    Return(Option<Expr>),
    Break,
    Continue,
    Delete(Name, Option<Vec<Expr>>),
}

#[derive(Clone, Debug)]
pub(super) enum Pattern {
    Begin,
    End,
    Always,
    When(Expr),
    Range(Expr, Expr),
}

#[derive(Clone, Debug, Default)]
pub(super) struct Program {
    pub rules: Vec<(Pattern, Option<Stmt>)>,
    pub functions: Vec<(Name, Vec<Name>, Stmt)>,
}

pub(super) struct Parser<'a> {
    src: &'a [u8],
    pos: usize,
    depth: usize,
    /// `>` is a redirection here, not a comparison.
    no_greater: bool,
    no_in: bool,
    pub line: usize,
}

type Result<T> = std::result::Result<T, String>;

const KEYWORDS: [&str; 17] = [
    "BEGIN", "END", "if", "else", "while", "for", "do", "in", "next", "exit", "return", "break", "continue", "delete", "print", "printf",
    "function",
];

impl<'a> Parser<'a> {
    pub(super) fn new(src: &'a [u8]) -> Self {
        Self { src, pos: 0, depth: 0, no_greater: false, no_in: false, line: 1 }
    }

    fn peek(&self) -> Option<u8> {
        self.src.get(self.pos).copied()
    }

    fn blanks(&mut self, newlines: bool) {
        while let Some(b) = self.peek() {
            match b {
                b' ' | b'\t' | b'\r' => self.pos += 1,
                b'\\' if self.src.get(self.pos + 1) == Some(&b'\n') => {
                    self.pos += 2;
                    self.line += 1;
                }
                b'#' => {
                    while self.peek().is_some_and(|b| b != b'\n') {
                        self.pos += 1;
                    }
                }
                b'\n' if newlines => {
                    self.pos += 1;
                    self.line += 1;
                }
                b';' if newlines => self.pos += 1,
                _ => break,
            }
        }
    }

    fn lines(&mut self) {
        loop {
            self.blanks(false);
            if self.peek() != Some(b'\n') {
                return;
            }
            self.pos += 1;
            self.line += 1;
        }
    }

    fn at(&mut self, text: &str) -> bool {
        self.blanks(false);
        self.src.get(self.pos..).unwrap_or_default().starts_with(text.as_bytes())
    }

    fn take(&mut self, text: &str) -> bool {
        let hit = self.at(text);
        if hit {
            self.pos += text.len();
        }
        hit
    }

    fn expect(&mut self, text: &str) -> Result<()> {
        if self.take(text) { Ok(()) } else { Err(self.fault()) }
    }

    fn fault(&mut self) -> String {
        self.blanks(false);
        let rest = self.src.get(self.pos..).unwrap_or_default();
        let len = rest.iter().take_while(|b| b.is_ascii_alphanumeric() || **b == b'_').count().max(1);
        let token = String::from_utf8_lossy(rest.get(..len.min(rest.len())).unwrap_or_default()).into_owned();
        if token.is_empty() || token == "\n" {
            "syntax error at or near end of line".to_owned()
        } else {
            format!("syntax error at or near {token}")
        }
    }

    fn ident(&mut self) -> Option<String> {
        self.blanks(false);
        let rest = self.src.get(self.pos..)?;
        if !rest.first().is_some_and(|b| b.is_ascii_alphabetic() || *b == b'_') {
            return None;
        }
        let len = rest.iter().take_while(|b| b.is_ascii_alphanumeric() || **b == b'_').count();
        Some(String::from_utf8_lossy(rest.get(..len)?).into_owned())
    }

    fn keyword(&mut self, word: &str) -> bool {
        if self.ident().as_deref() == Some(word) {
            self.pos += word.len();
            return true;
        }
        false
    }

    fn deeper(&mut self) -> Result<()> {
        self.depth += 1;
        if self.depth > 2 * limits::SYNTAX_DEPTH { Err("program too deep".to_owned()) } else { Ok(()) }
    }

    pub(super) fn program(&mut self) -> Result<Program> {
        let mut program = Program::default();
        loop {
            self.blanks(true);
            if self.peek().is_none() {
                return Ok(program);
            }
            if program.rules.len() + program.functions.len() > 256 {
                return Err("program too big".to_owned());
            }
            if self.keyword("function") || self.keyword("func") {
                let name = self.name()?;
                self.expect("(")?;
                let mut params = Vec::new();
                while !self.take(")") {
                    params.push(self.name()?);
                    self.take(",");
                }
                self.lines();
                let body = self.block()?;
                program.functions.push((name, params, body));
                continue;
            }
            let pattern = if self.keyword("BEGIN") {
                Pattern::Begin
            } else if self.keyword("END") {
                Pattern::End
            } else if self.at("{") {
                Pattern::Always
            } else {
                let first = self.expr()?;
                if self.take(",") {
                    self.lines();
                    Pattern::Range(first, self.expr()?)
                } else {
                    Pattern::When(first)
                }
            };
            let action = if self.at("{") { Some(self.block()?) } else { None };
            if action.is_none() && matches!(pattern, Pattern::Begin | Pattern::End) {
                return Err(self.fault());
            }
            program.rules.push((pattern, action));
        }
    }

    fn name(&mut self) -> Result<String> {
        let Some(name) = self.ident() else { return Err(self.fault()) };
        self.pos += name.len();
        Ok(name)
    }

    fn block(&mut self) -> Result<Stmt> {
        self.deeper()?;
        self.expect("{")?;
        let mut all = Vec::new();
        loop {
            self.blanks(true);
            if self.take("}") {
                break;
            }
            if self.peek().is_none() {
                return Err(self.fault());
            }
            all.push(self.statement()?);
        }
        self.depth -= 1;
        Ok(Stmt::Block(all))
    }

    fn end(&mut self) -> Result<()> {
        self.blanks(false);
        match self.peek() {
            Some(b';' | b'\n') => {
                self.line += usize::from(self.peek() == Some(b'\n'));
                self.pos += 1;
                Ok(())
            }
            None | Some(b'}') => Ok(()),
            _ => Err(self.fault()),
        }
    }

    fn body(&mut self) -> Result<Stmt> {
        self.lines();
        if self.take(";") {
            return Ok(Stmt::Block(Vec::new()));
        }
        self.statement()
    }

    fn statement(&mut self) -> Result<Stmt> {
        self.deeper()?;
        let stmt = self.statement_inner()?;
        self.depth -= 1;
        Ok(stmt)
    }

    fn statement_inner(&mut self) -> Result<Stmt> {
        if self.at("{") {
            return self.block();
        }
        if self.keyword("if") {
            self.expect("(")?;
            let cond = self.expr()?;
            self.expect(")")?;
            let yes = self.body()?;
            let mark = (self.pos, self.line);
            self.blanks(true);
            if self.keyword("else") {
                return Ok(Stmt::If(cond, Box::new(yes), Some(Box::new(self.body()?))));
            }
            (self.pos, self.line) = mark;
            return Ok(Stmt::If(cond, Box::new(yes), None));
        }
        if self.keyword("while") {
            self.expect("(")?;
            let cond = self.expr()?;
            self.expect(")")?;
            return Ok(Stmt::While(cond, Box::new(self.body()?)));
        }
        if self.keyword("do") {
            let body = self.body()?;
            self.blanks(true);
            if !self.keyword("while") {
                return Err(self.fault());
            }
            self.expect("(")?;
            let cond = self.expr()?;
            self.expect(")")?;
            self.end()?;
            return Ok(Stmt::Do(Box::new(body), cond));
        }
        if self.keyword("for") {
            self.expect("(")?;
            let mark = self.pos;
            if let Some(var) = self.ident() {
                self.pos += var.len();
                if self.keyword("in")
                    && let Some(array) = self.ident()
                {
                    self.pos += array.len();
                    if self.take(")") {
                        return Ok(Stmt::ForIn(var, array, Box::new(self.body()?)));
                    }
                }
                self.pos = mark;
            }
            let init = if self.at(";") { None } else { Some(Box::new(self.simple()?)) };
            self.expect(";")?;
            self.lines();
            let cond = if self.at(";") { None } else { Some(self.expr()?) };
            self.expect(";")?;
            self.lines();
            let step = if self.at(")") { None } else { Some(Box::new(self.simple()?)) };
            self.expect(")")?;
            return Ok(Stmt::For(init, cond, step, Box::new(self.body()?)));
        }
        let stmt = self.simple()?;
        self.end()?;
        Ok(stmt)
    }

    fn simple(&mut self) -> Result<Stmt> {
        if self.keyword("next") {
            return Ok(Stmt::Next);
        }
        if self.keyword("break") {
            return Ok(Stmt::Break);
        }
        if self.keyword("continue") {
            return Ok(Stmt::Continue);
        }
        for (word, exit) in [("exit", true), ("return", false)] {
            if self.keyword(word) {
                self.blanks(false);
                let value = if matches!(self.peek(), None | Some(b';' | b'\n' | b'}')) { None } else { Some(self.expr()?) };
                return Ok(if exit { Stmt::Exit(value) } else { Stmt::Return(value) });
            }
        }
        if self.keyword("delete") {
            let name = self.name()?;
            let index = if self.take("[") {
                let list = self.list("]")?;
                Some(list)
            } else {
                None
            };
            return Ok(Stmt::Delete(name, index));
        }
        for (word, formatted) in [("printf", true), ("print", false)] {
            if self.keyword(word) {
                return self.print(formatted);
            }
        }
        Ok(Stmt::Expr(self.expr()?))
    }

    fn print(&mut self, formatted: bool) -> Result<Stmt> {
        let outer = std::mem::replace(&mut self.no_greater, true);
        let mut args = Vec::new();
        self.blanks(false);
        if !matches!(self.peek(), None | Some(b';' | b'\n' | b'}' | b'>' | b'|')) {
            let mark = self.pos;
            // `print (a, b)` is a list in parentheses, `print (a) b` is not.
            let grouped = self.take("(") && {
                self.no_greater = false;
                let list = self.list(")");
                self.no_greater = true;
                self.blanks(false);
                match list {
                    Ok(list) if matches!(self.peek(), None | Some(b';' | b'\n' | b'}' | b'>' | b'|')) => {
                        args = list;
                        true
                    }
                    _ => false,
                }
            };
            if !grouped {
                self.pos = mark;
                loop {
                    args.push(self.expr()?);
                    if !self.take(",") {
                        break;
                    }
                    self.lines();
                }
            }
        }
        self.no_greater = outer;
        let kind = if self.take(">>") {
            b'a'
        } else if self.take(">") {
            b'>'
        } else if self.at("|") && !self.at("||") {
            self.pos += 1;
            b'|'
        } else {
            return Ok(Stmt::Print(args, formatted, None));
        };
        let outer = std::mem::replace(&mut self.no_greater, true);
        let target = self.concat()?;
        self.no_greater = outer;
        Ok(Stmt::Print(args, formatted, Some((kind, target))))
    }

    fn list(&mut self, end: &str) -> Result<Vec<Expr>> {
        let mut all = Vec::new();
        self.lines();
        if self.take(end) {
            return Ok(all);
        }
        loop {
            all.push(self.expr()?);
            self.lines();
            if self.take(end) {
                return Ok(all);
            }
            self.expect(",")?;
            self.lines();
        }
    }

    pub(super) fn expr(&mut self) -> Result<Expr> {
        self.deeper()?;
        let left = self.ternary()?;
        let result = if matches!(left, Expr::Var(_) | Expr::Field(_) | Expr::Index(..)) {
            let mut found = None;
            for (text, op) in
                [("+=", b'+'), ("-=", b'-'), ("*=", b'*'), ("/=", b'/'), ("%=", b'%'), ("^=", b'^'), ("**=", b'^'), ("=", b'=')]
            {
                if self.at(text) && !(text == "=" && self.at("==")) {
                    self.pos += text.len();
                    self.lines();
                    found = Some(op);
                    break;
                }
            }
            match found {
                Some(op) => Expr::Assign(Box::new(left), op, Box::new(self.expr()?)),
                None => left,
            }
        } else {
            left
        };
        self.depth -= 1;
        Ok(result)
    }

    fn ternary(&mut self) -> Result<Expr> {
        let cond = self.or()?;
        if !self.take("?") {
            return Ok(cond);
        }
        self.lines();
        let yes = self.expr()?;
        self.lines();
        self.expect(":")?;
        self.lines();
        let no = self.expr()?;
        Ok(Expr::Cond(Box::new(cond), Box::new(yes), Box::new(no)))
    }

    fn or(&mut self) -> Result<Expr> {
        let mut left = self.and()?;
        while self.take("||") {
            self.lines();
            left = Expr::Binary(Op::Or, Box::new(left), Box::new(self.and()?));
        }
        Ok(left)
    }

    fn and(&mut self) -> Result<Expr> {
        let mut left = self.member()?;
        while self.take("&&") {
            self.lines();
            left = Expr::Binary(Op::And, Box::new(left), Box::new(self.member()?));
        }
        Ok(left)
    }

    fn member(&mut self) -> Result<Expr> {
        let mut left = self.matching()?;
        while !self.no_in && self.keyword("in") {
            let name = self.name()?;
            left = Expr::In(vec![left], name);
        }
        Ok(left)
    }

    fn matching(&mut self) -> Result<Expr> {
        let mut left = self.compare()?;
        loop {
            let negate = self.at("!~");
            if !negate && !self.at("~") {
                return Ok(left);
            }
            self.pos += 1 + usize::from(negate);
            left = Expr::Match(negate, Box::new(left), Box::new(self.compare()?));
        }
    }

    fn compare(&mut self) -> Result<Expr> {
        let left = self.concat()?;
        for (text, op) in
            [("<=", Op::LessEq), ("==", Op::Equal), ("!=", Op::NotEqual), (">=", Op::GreaterEq), ("<", Op::Less), (">", Op::Greater)]
        {
            if self.at(text) && !(text.starts_with('>') && self.no_greater) {
                self.pos += text.len();
                return Ok(Expr::Binary(op, Box::new(left), Box::new(self.concat()?)));
            }
        }
        // `command | getline`.
        if self.at("|") && !self.at("||") {
            let mark = self.pos;
            self.pos += 1;
            if self.keyword("getline") {
                let target = self.target()?;
                return Ok(Expr::Getline(target, Some((true, Box::new(left)))));
            }
            self.pos = mark;
        }
        Ok(left)
    }

    fn target(&mut self) -> Result<Option<Box<Expr>>> {
        self.blanks(false);
        if self.peek() == Some(b'$') || self.ident().is_some_and(|i| !KEYWORDS.contains(&i.as_str())) {
            return Ok(Some(Box::new(self.postfix()?)));
        }
        Ok(None)
    }

    fn concat(&mut self) -> Result<Expr> {
        let mut left = self.sum()?;
        let mut count = 0;
        loop {
            self.blanks(false);
            let starts = match self.peek() {
                Some(b'$' | b'"' | b'(' | b'!') => !self.at("!=") && !self.at("!~"),
                Some(b'-' | b'+') => false,
                Some(b) if b.is_ascii_digit() || b == b'.' => true,
                Some(b) if b.is_ascii_alphabetic() || b == b'_' => {
                    !self.ident().is_some_and(|i| KEYWORDS.contains(&i.as_str()) || i == "getline")
                }
                _ => false,
            };
            count += 1;
            if !starts {
                return Ok(left);
            }
            if count > 512 {
                return Err("program too big".to_owned());
            }
            left = Expr::Binary(Op::Concat, Box::new(left), Box::new(self.sum()?));
        }
    }

    fn sum(&mut self) -> Result<Expr> {
        let mut left = self.product()?;
        loop {
            let op = if self.at("+") && !self.at("+=") && !self.at("++") {
                Op::Add
            } else if self.at("-") && !self.at("-=") && !self.at("--") {
                Op::Sub
            } else {
                return Ok(left);
            };
            self.pos += 1;
            left = Expr::Binary(op, Box::new(left), Box::new(self.product()?));
        }
    }

    fn product(&mut self) -> Result<Expr> {
        let mut left = self.unary()?;
        loop {
            let op = if self.at("*") && !self.at("*=") && !self.at("**") {
                Op::Mul
            } else if self.at("/") && !self.at("/=") {
                Op::Div
            } else if self.at("%") && !self.at("%=") {
                Op::Mod
            } else {
                return Ok(left);
            };
            self.pos += 1;
            left = Expr::Binary(op, Box::new(left), Box::new(self.unary()?));
        }
    }

    fn unary(&mut self) -> Result<Expr> {
        self.deeper()?;
        let result = if self.at("!") && !self.at("!=") && !self.at("!~") {
            self.pos += 1;
            Expr::Not(Box::new(self.unary()?))
        } else if self.at("-") && !self.at("--") {
            self.pos += 1;
            Expr::Minus(Box::new(self.unary()?))
        } else if self.at("+") && !self.at("++") {
            self.pos += 1;
            Expr::Plus(Box::new(self.unary()?))
        } else {
            self.power()?
        };
        self.depth -= 1;
        Ok(result)
    }

    fn power(&mut self) -> Result<Expr> {
        let base = self.postfix()?;
        let double = self.at("**") && !self.at("**=");
        if double || self.at("^") && !self.at("^=") {
            self.pos += 1 + usize::from(double);
            let exponent = self.unary()?;
            return Ok(Expr::Binary(Op::Pow, Box::new(base), Box::new(exponent)));
        }
        Ok(base)
    }

    fn postfix(&mut self) -> Result<Expr> {
        for (text, step) in [("++", 1.0), ("--", -1.0)] {
            if self.take(text) {
                return Ok(Expr::Step(Box::new(self.postfix()?), step, false));
            }
        }
        let inner = self.primary()?;
        if matches!(inner, Expr::Var(_) | Expr::Field(_) | Expr::Index(..)) {
            for (text, step) in [("++", 1.0), ("--", -1.0)] {
                if self.take(text) {
                    return Ok(Expr::Step(Box::new(inner), step, true));
                }
            }
        }
        Ok(inner)
    }

    fn primary(&mut self) -> Result<Expr> {
        self.deeper()?;
        let result = self.primary_inner()?;
        self.depth -= 1;
        Ok(result)
    }

    fn primary_inner(&mut self) -> Result<Expr> {
        self.blanks(false);
        match self.peek() {
            Some(b'$') => {
                self.pos += 1;
                for (text, step) in [("++", 1.0), ("--", -1.0)] {
                    if self.take(text) {
                        let inner = self.primary()?;
                        return Ok(Expr::Field(Box::new(Expr::Step(Box::new(inner), step, false))));
                    }
                }
                Ok(Expr::Field(Box::new(self.primary()?)))
            }
            Some(b'(') => {
                self.pos += 1;
                let outer = (std::mem::take(&mut self.no_greater), std::mem::take(&mut self.no_in));
                let mut list = self.list(")")?;
                (self.no_greater, self.no_in) = outer;
                if list.len() > 1 {
                    if !self.keyword("in") {
                        return Err(self.fault());
                    }
                    let name = self.name()?;
                    return Ok(Expr::In(list, name));
                }
                list.pop().map(|e| Expr::Group(Box::new(e))).ok_or_else(|| self.fault())
            }
            Some(b'"') => {
                self.pos += 1;
                let mut text = Vec::new();
                loop {
                    match self.peek() {
                        None | Some(b'\n') => return Err(format!("runaway string constant \"{} ...", String::from_utf8_lossy(&text))),
                        Some(b'"') => {
                            self.pos += 1;
                            return Ok(Expr::Text(text));
                        }
                        Some(b'\\') => {
                            let rest = self.src.get(self.pos + 1..).unwrap_or_default();
                            if rest.first() == Some(&b'/') {
                                text.push(b'/');
                                self.pos += 2;
                            } else if let Some((bytes, used, _)) = escape::one(rest, escape::Style::Printf) {
                                text.extend(bytes);
                                self.pos += 1 + used;
                            } else {
                                text.push(b'\\');
                                text.extend(rest.first());
                                self.pos += 2;
                            }
                        }
                        Some(b) => {
                            text.push(b);
                            self.pos += 1;
                        }
                    }
                }
            }
            Some(b'/') => {
                self.pos += 1;
                let mut text = Vec::new();
                let mut bracket = false;
                loop {
                    match self.peek() {
                        None | Some(b'\n') => {
                            return Err(format!("regular expression compile failed (missing operand)\n{}", String::from_utf8_lossy(&text)));
                        }
                        Some(b'/') if !bracket => break,
                        Some(b'\\') => {
                            let next = self.src.get(self.pos + 1).copied().unwrap_or(b'\\');
                            if next == b'/' {
                                text.push(b'/');
                            } else {
                                text.extend([b'\\', next]);
                            }
                            self.pos += 2;
                            continue;
                        }
                        Some(b) => {
                            bracket = if b == b'[' { true } else { bracket && b != b']' };
                            text.push(b);
                        }
                    }
                    self.pos += 1;
                }
                self.pos += 1;
                Regex::extended(&text, false)
                    .map(|r| Expr::Regex(Box::new(r)))
                    .map_err(|f| format!("regular expression compile failed ({})\n{}", f.text(), String::from_utf8_lossy(&text)))
            }
            Some(b) if b.is_ascii_digit() || b == b'.' => {
                let rest = self.src.get(self.pos..).unwrap_or_default();
                let mut len = rest.iter().take_while(|b| b.is_ascii_digit() || **b == b'.').count();
                if matches!(rest.get(len), Some(b'e' | b'E'))
                    && rest.get(len + 1).is_some_and(|b| b.is_ascii_digit() || matches!(b, b'+' | b'-'))
                {
                    len += 2 + rest.get(len + 2..).unwrap_or_default().iter().take_while(|b| b.is_ascii_digit()).count();
                }
                self.pos += len;
                let text = String::from_utf8_lossy(rest.get(..len).unwrap_or_default()).into_owned();
                text.parse().map(Expr::Number).map_err(|_| self.fault())
            }
            _ => {
                let Some(name) = self.ident() else { return Err(self.fault()) };
                if name == "getline" {
                    self.pos += name.len();
                    let target = self.target()?;
                    let from = if self.take("<") { Some((false, Box::new(self.postfix()?))) } else { None };
                    return Ok(Expr::Getline(target, from));
                }
                if KEYWORDS.contains(&name.as_str()) {
                    return Err(self.fault());
                }
                self.pos += name.len();
                if self.peek() == Some(b'(') || (super::run::BUILTINS.contains(&name.as_str()) && self.at("(")) {
                    self.expect("(")?;
                    let outer = std::mem::take(&mut self.no_greater);
                    let args = self.list(")")?;
                    self.no_greater = outer;
                    return Ok(Expr::Call(name, args));
                }
                if name == "length" {
                    return Ok(Expr::Call(name, Vec::new()));
                }
                if self.peek() == Some(b'[') {
                    self.pos += 1;
                    let index = self.list("]")?;
                    return Ok(Expr::Index(name, index));
                }
                Ok(Expr::Var(name))
            }
        }
    }
}
