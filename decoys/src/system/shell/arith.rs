//! Integer arithmetic of `$((…))`, `((…))`, `let` and subscripts: 64 bits, wrapping, C operators.

use super::{
    lexer::{is_name, is_name_start},
    state::State,
};

/// A failed evaluation, worded as bash does after the expression.
pub(in crate::system) type Fault = String;

struct Eval<'a> {
    src: Vec<u8>,
    pos: usize,
    st: &'a mut State,
    depth: u32,
    /// Nothing is assigned in the branch not taken.
    quiet: u32,
}

/// Evaluates an expression after expansion.
pub(in crate::system) fn eval(st: &mut State, text: &[u8]) -> Result<i64, Fault> {
    nested(st, text, 0)
}

fn nested(st: &mut State, text: &[u8], depth: u32) -> Result<i64, Fault> {
    let shown = || String::from_utf8_lossy(text.trim_ascii()).into_owned();
    if depth > 16 {
        return Err(format!("{}: expression recursion level exceeded (error token is \"{}\")", shown(), shown()));
    }
    let src: Vec<u8> = text.iter().copied().filter(|b| *b != b'"').collect();
    let mut e = Eval { src, pos: 0, st, depth, quiet: 0 };
    e.blanks();
    if e.pos >= e.src.len() {
        return Ok(0);
    }
    let value = e.comma().map_err(|m| format!("{}: {m}", shown()))?;
    e.blanks();
    if e.pos < e.src.len() {
        let rest = String::from_utf8_lossy(e.src.get(e.pos..).unwrap_or_default()).into_owned();
        return Err(format!("{}: syntax error in expression (error token is \"{rest}\")", shown()));
    }
    Ok(value)
}

/// Binary operators by falling looseness of binding; longer ones first in each row.
const LEVELS: [&[&[u8]]; 10] = [
    &[b"||"],
    &[b"&&"],
    &[b"|"],
    &[b"^"],
    &[b"&"],
    &[b"==", b"!="],
    &[b"<=", b">=", b"<", b">"],
    &[b"<<", b">>"],
    &[b"+", b"-"],
    &[b"*", b"/", b"%"],
];

impl Eval<'_> {
    fn blanks(&mut self) {
        while self.src.get(self.pos).is_some_and(u8::is_ascii_whitespace) {
            self.pos += 1;
        }
    }

    fn peek(&mut self) -> Option<u8> {
        self.blanks();
        self.src.get(self.pos).copied()
    }

    fn at(&mut self, text: &[u8]) -> bool {
        self.blanks();
        self.src.get(self.pos..).unwrap_or_default().starts_with(text)
    }

    fn take(&mut self, text: &[u8]) -> bool {
        let hit = self.at(text);
        if hit {
            self.pos += text.len();
        }
        hit
    }

    fn fault<T>(&self, what: &str) -> Result<T, Fault> {
        let rest = String::from_utf8_lossy(self.src.get(self.pos..).unwrap_or_default()).into_owned();
        Err(format!("{what} (error token is \"{rest}\")"))
    }

    fn deeper<T>(&mut self, f: impl FnOnce(&mut Self) -> Result<T, Fault>) -> Result<T, Fault> {
        self.depth += 1;
        if self.depth > 48 {
            return self.fault("expression recursion level exceeded");
        }
        let result = f(self);
        self.depth -= 1;
        result
    }

    fn comma(&mut self) -> Result<i64, Fault> {
        let mut value = self.assign()?;
        while self.take(b",") {
            value = self.assign()?;
        }
        Ok(value)
    }

    fn assign(&mut self) -> Result<i64, Fault> {
        self.deeper(|e| {
            let start = e.pos;
            if let Some(name) = e.name() {
                let index = e.subscript()?;
                const OPS: [&[u8]; 11] = [b"<<=", b">>=", b"+=", b"-=", b"*=", b"/=", b"%=", b"&=", b"|=", b"^=", b"="];
                for op in OPS {
                    if e.at(op) && !(op == b"=" && e.at(b"==")) {
                        e.pos += op.len();
                        let right = e.assign()?;
                        let value = if op == b"=" {
                            right
                        } else {
                            let left = e.value(&name, index)?;
                            e.apply(op.get(..op.len() - 1).unwrap_or_default(), left, right)?
                        };
                        e.store(&name, index, value);
                        return Ok(value);
                    }
                }
                e.pos = start;
            }
            e.ternary()
        })
    }

    fn ternary(&mut self) -> Result<i64, Fault> {
        let cond = self.binary(0)?;
        if !self.take(b"?") {
            return Ok(cond);
        }
        self.quiet += u32::from(cond == 0);
        let yes = self.assign()?;
        self.quiet -= u32::from(cond == 0);
        if !self.take(b":") {
            return self.fault("`:' expected for conditional expression");
        }
        self.quiet += u32::from(cond != 0);
        let no = self.assign()?;
        self.quiet -= u32::from(cond != 0);
        Ok(if cond != 0 { yes } else { no })
    }

    fn binary(&mut self, level: usize) -> Result<i64, Fault> {
        let Some(ops) = LEVELS.get(level) else { return self.power() };
        let mut left = self.binary(level + 1)?;
        'again: loop {
            for op in *ops {
                if self.at(op) && !self.longer(op) {
                    self.pos += op.len();
                    let skip = (*op == b"||" && left != 0) || (*op == b"&&" && left == 0);
                    self.quiet += u32::from(skip);
                    let right = self.binary(level + 1)?;
                    self.quiet -= u32::from(skip);
                    left = self.apply(op, left, right)?;
                    continue 'again;
                }
            }
            return Ok(left);
        }
    }

    /// Whether the text here is a longer operator than the one looked for.
    fn longer(&self, op: &[u8]) -> bool {
        let next = self.src.get(self.pos + op.len()).copied();
        match op {
            b"|" => matches!(next, Some(b'|' | b'=')),
            b"&" => matches!(next, Some(b'&' | b'=')),
            b"<" => matches!(next, Some(b'<' | b'=')),
            b">" => matches!(next, Some(b'>' | b'=')),
            b"*" => matches!(next, Some(b'*' | b'=')),
            b"+" | b"-" | b"/" | b"%" | b"^" | b"<<" | b">>" => next == Some(b'='),
            _ => false,
        }
    }

    fn power(&mut self) -> Result<i64, Fault> {
        let base = self.unary()?;
        if self.take(b"**") {
            let exponent = self.deeper(Self::power)?;
            if exponent < 0 {
                return self.fault("exponent less than 0");
            }
            return Ok(base.wrapping_pow(u32::try_from(exponent.min(10_000)).unwrap_or(0)));
        }
        Ok(base)
    }

    fn unary(&mut self) -> Result<i64, Fault> {
        self.deeper(|e| match e.peek() {
            Some(b'!') if !e.at(b"!=") => {
                e.pos += 1;
                Ok(i64::from(e.unary()? == 0))
            }
            Some(b'~') => {
                e.pos += 1;
                Ok(!e.unary()?)
            }
            Some(sign @ (b'+' | b'-')) => {
                if e.at(&[sign, sign]) {
                    let start = e.pos;
                    e.pos += 2;
                    e.blanks();
                    if let Some(name) = e.name() {
                        let index = e.subscript()?;
                        let step = if sign == b'+' { 1 } else { -1 };
                        let value = e.value(&name, index)?.wrapping_add(step);
                        e.store(&name, index, value);
                        return Ok(value);
                    }
                    e.pos = start;
                }
                e.pos += 1;
                let value = e.unary()?;
                Ok(if sign == b'-' { value.wrapping_neg() } else { value })
            }
            _ => e.primary(),
        })
    }

    fn primary(&mut self) -> Result<i64, Fault> {
        match self.peek() {
            Some(b'(') => {
                self.pos += 1;
                let value = self.deeper(Self::comma)?;
                if !self.take(b")") {
                    return self.fault("missing `)'");
                }
                Ok(value)
            }
            Some(b) if b.is_ascii_digit() => self.number(),
            Some(b) if is_name_start(b) => {
                let Some(name) = self.name() else { return self.fault("syntax error: operand expected") };
                let index = self.subscript()?;
                let value = self.value(&name, index)?;
                for (op, step) in [(b"++", 1i64), (b"--", -1)] {
                    if self.take(op) {
                        self.store(&name, index, value.wrapping_add(step));
                    }
                }
                Ok(value)
            }
            _ => self.fault("syntax error: operand expected"),
        }
    }

    fn number(&mut self) -> Result<i64, Fault> {
        let start = self.pos;
        while self.src.get(self.pos).is_some_and(|b| is_name(*b) || matches!(b, b'#' | b'@')) {
            self.pos += 1;
        }
        let text = String::from_utf8_lossy(self.src.get(start..self.pos).unwrap_or_default()).into_owned();
        let (digits, base) = if let Some((base, digits)) = text.split_once('#') {
            (digits.to_owned(), base.parse().unwrap_or(10))
        } else if let Some(hex) = text.strip_prefix("0x").or(text.strip_prefix("0X")) {
            (hex.to_owned(), 16u32)
        } else if text.len() > 1 && text.starts_with('0') {
            (text.clone(), 8)
        } else {
            (text.clone(), 10)
        };
        let mut value = 0i64;
        for c in digits.chars() {
            let digit = c.to_digit(36).unwrap_or(99);
            if digit >= base.min(36) {
                self.pos = start;
                return Err(format!("value too great for base (error token is \"{text}\")"));
            }
            value = value.wrapping_mul(i64::from(base)).wrapping_add(i64::from(digit));
        }
        Ok(value)
    }

    fn name(&mut self) -> Option<Vec<u8>> {
        self.blanks();
        let rest = self.src.get(self.pos..).unwrap_or_default();
        if !rest.first().is_some_and(|b| is_name_start(*b)) {
            return None;
        }
        let len = rest.iter().take_while(|b| is_name(**b)).count();
        let name = rest.get(..len)?.to_vec();
        self.pos += len;
        Some(name)
    }

    fn subscript(&mut self) -> Result<Option<i64>, Fault> {
        if self.src.get(self.pos) != Some(&b'[') {
            return Ok(None);
        }
        self.pos += 1;
        let value = self.deeper(Self::comma)?;
        if !self.take(b"]") {
            return self.fault("syntax error: invalid arithmetic operator");
        }
        Ok(Some(value))
    }

    fn value(&mut self, name: &[u8], index: Option<i64>) -> Result<i64, Fault> {
        let text = super::expand::lookup(self.st, name, index).unwrap_or_default();
        if text.is_empty() {
            return Ok(0);
        }
        if let Some(number) =
            std::str::from_utf8(&text).ok().filter(|t| !t.starts_with('0') || t.len() == 1).and_then(|t| t.trim().parse().ok())
        {
            return Ok(number);
        }
        let depth = self.depth + 1;
        nested(self.st, &text, depth)
    }

    fn store(&mut self, name: &[u8], index: Option<i64>, value: i64) {
        if self.quiet == 0 {
            super::expand::store(self.st, name, index, value.to_string().into_bytes());
        }
    }

    fn apply(&self, op: &[u8], a: i64, b: i64) -> Result<i64, Fault> {
        Ok(match op {
            b"||" => i64::from(a != 0 || b != 0),
            b"&&" => i64::from(a != 0 && b != 0),
            b"|" => a | b,
            b"^" => a ^ b,
            b"&" => a & b,
            b"==" => i64::from(a == b),
            b"!=" => i64::from(a != b),
            b"<" => i64::from(a < b),
            b">" => i64::from(a > b),
            b"<=" => i64::from(a <= b),
            b">=" => i64::from(a >= b),
            b"<<" => a.wrapping_shl((b & 63) as u32),
            b">>" => a.wrapping_shr((b & 63) as u32),
            b"+" => a.wrapping_add(b),
            b"-" => a.wrapping_sub(b),
            b"*" => a.wrapping_mul(b),
            b"/" | b"%" if b == 0 => {
                if self.quiet > 0 {
                    return Ok(0);
                }
                let start =
                    self.src.get(..self.pos).unwrap_or_default().iter().rposition(|c| matches!(c, b'/' | b'%')).map_or(0, |p| p + 1);
                let token = String::from_utf8_lossy(self.src.get(start..).unwrap_or_default().trim_ascii()).into_owned();
                return Err(format!("division by 0 (error token is \"{token}\")"));
            }
            b"/" => a.wrapping_div(b),
            _ => a.wrapping_rem(b),
        })
    }
}
