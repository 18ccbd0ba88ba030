//! Programs that print words: `echo`, `printf`, `expr`.

use super::{Cx, number, show};
use crate::system::{
    limits,
    shell::{
        arith,
        escape::{self, Style},
        state::State,
    },
};

pub(in crate::system) fn echo(cx: &mut Cx<'_, '_>, args: &[Vec<u8>]) -> i32 {
    // dash's echo always reads escapes and knows only -n.
    let (mut newline, mut escapes) = (true, cx.st.posix);
    let mut rest = args.get(1..).unwrap_or_default();
    while let Some(first) = rest.first() {
        let flags = first.strip_prefix(b"-").unwrap_or_default();
        let known: &[u8] = if cx.st.posix { b"n" } else { b"neE" };
        if flags.is_empty() || !flags.iter().all(|f| known.contains(f)) {
            break;
        }
        for flag in flags {
            match flag {
                b'n' => newline = false,
                b'e' => escapes = true,
                _ => escapes = false,
            }
        }
        rest = rest.get(1..).unwrap_or_default();
    }
    let mut text = rest.join(&b' ');
    if escapes {
        let (out, stop) = escape::all(&text, Style::Echo);
        text = out;
        newline &= !stop;
    }
    if newline {
        text.push(b'\n');
    }
    match cx.x.write(cx.io.get(1), &text) {
        Ok(()) => 0,
        Err(e) => cx.complain(&format!("write error: {}", e.text())),
    }
}

pub(in crate::system) fn printf(cx: &mut Cx<'_, '_>, args: &[Vec<u8>]) -> i32 {
    let mut rest = args.get(1..).unwrap_or_default();
    let mut variable = None;
    if rest.first().is_some_and(|a| a == b"-v") {
        variable = rest.get(1).cloned();
        rest = rest.get(2..).unwrap_or_default();
    }
    if rest.first().is_some_and(|a| a == b"--") {
        rest = rest.get(1..).unwrap_or_default();
    }
    let Some(format) = rest.first().cloned() else {
        cx.err("printf: usage: printf [-v var] format [arguments]\n");
        return 2;
    };
    let mut values = rest.get(1..).unwrap_or_default().iter();
    let mut out = Vec::new();
    let mut status = 0;
    loop {
        let before = values.len();
        let (done, failed) = format_once(cx, &format, &mut values, &mut out);
        status |= i32::from(failed);
        if done || values.len() == 0 || values.len() == before || out.len() > limits::PIPE || !cx.alive() {
            break;
        }
    }
    match variable {
        Some(name) => {
            cx.st.set(&name, out);
        }
        None => cx.out(&out),
    }
    status
}

/// One pass over the format; tells whether output stops for good, and whether a value was bad.
fn format_once(cx: &mut Cx<'_, '_>, format: &[u8], values: &mut std::slice::Iter<'_, Vec<u8>>, out: &mut Vec<u8>) -> (bool, bool) {
    let mut at = 0;
    let mut failed = false;
    while let Some(&b) = format.get(at) {
        at += 1;
        if b == b'\\' {
            match escape::one(format.get(at..).unwrap_or_default(), Style::Printf) {
                Some((bytes, used, stop)) => {
                    out.extend(bytes);
                    at += used;
                    if stop {
                        return (true, failed);
                    }
                }
                None if format.get(at) == Some(&b'c') => return (true, failed),
                None => out.push(b'\\'),
            }
            continue;
        }
        if b != b'%' {
            out.push(b);
            continue;
        }
        let mut flags = Vec::new();
        while let Some(f) = format.get(at).filter(|f| b"-+ #0".contains(f)) {
            flags.push(*f);
            at += 1;
        }
        let mut size = |at: &mut usize| -> Option<i64> {
            if format.get(*at) == Some(&b'*') {
                *at += 1;
                return Some(values.next().and_then(number::<i64>).unwrap_or(0));
            }
            let len = format.get(*at..).unwrap_or_default().iter().take_while(|b| b.is_ascii_digit()).count();
            let value = number::<i64>(format.get(*at..*at + len).unwrap_or_default());
            *at += len;
            value
        };
        let width = size(&mut at).unwrap_or(0);
        let precision = if format.get(at) == Some(&b'.') {
            at += 1;
            Some(size(&mut at).unwrap_or(0))
        } else {
            None
        };
        while format.get(at).is_some_and(|b| b"hlLjzt".contains(b)) {
            at += 1;
        }
        let Some(&code) = format.get(at) else {
            let line = format!("`{}': missing format character", show(format.get(at.saturating_sub(1)..).unwrap_or_default()));
            cx.complain(&line);
            return (true, true);
        };
        at += 1;
        let spec = Spec {
            left: flags.contains(&b'-') || width < 0,
            zero: flags.contains(&b'0'),
            plus: flags.contains(&b'+'),
            space: flags.contains(&b' '),
            alt: flags.contains(&b'#'),
            width: (width.unsigned_abs() as usize).min(65_536),
            precision: precision.and_then(|p| usize::try_from(p).ok()).map(|p| p.min(65_536)),
        };
        match code {
            b'%' => out.push(b'%'),
            b's' | b'c' | b'b' | b'q' => {
                let mut text = values.next().cloned().unwrap_or_default();
                let mut stop = false;
                match code {
                    b'c' => text.truncate(1),
                    b'b' => (text, stop) = escape::all(&text, Style::Echo),
                    b'q' => text = if text.is_empty() { b"''".to_vec() } else { quote_q(&text) },
                    _ => {}
                }
                if let Some(p) = spec.precision {
                    text.truncate(p);
                }
                spec.pad(text, out);
                if stop {
                    return (true, failed);
                }
            }
            b'd' | b'i' | b'u' | b'x' | b'X' | b'o' => {
                let text = values.next().cloned().unwrap_or_default();
                let (value, good) = integer(cx.st, &text);
                if !good {
                    cx.complain(&format!("{}: invalid number", show(&text)));
                    failed = true;
                }
                spec.integer(value, code, out);
            }
            b'f' | b'F' | b'e' | b'E' | b'g' | b'G' => {
                let text = values.next().cloned().unwrap_or_default();
                let value = number::<f64>(&text).unwrap_or(0.0);
                spec.float(value, code, out);
            }
            b'(' => {
                let len = format.get(at..).unwrap_or_default().iter().position(|b| *b == b')').unwrap_or(0);
                let pattern = format.get(at..at + len).unwrap_or_default().to_vec();
                at += len + 2;
                let when = values.next().and_then(number::<i64>).filter(|t| *t >= 0).unwrap_or_else(|| cx.now());
                let pattern = if pattern.is_empty() { b"%X".to_vec() } else { pattern };
                spec.pad(crate::system::time::format(&pattern, when, 0), out);
            }
            other => {
                cx.complain(&format!("`{}': invalid format character", char::from(other)));
                return (true, true);
            }
        }
    }
    (false, failed)
}

fn quote_q(text: &[u8]) -> Vec<u8> {
    if text.iter().any(|b| *b < 32 || *b == 127) {
        let mut out = b"$'".to_vec();
        for b in text {
            match b {
                b'\n' => out.extend_from_slice(b"\\n"),
                b'\t' => out.extend_from_slice(b"\\t"),
                b'\r' => out.extend_from_slice(b"\\r"),
                27 => out.extend_from_slice(b"\\E"),
                b'\'' | b'\\' => out.extend([b'\\', *b]),
                0..=31 | 127 => out.extend(format!("\\{b:03o}").into_bytes()),
                _ => out.push(*b),
            }
        }
        out.push(b'\'');
        return out;
    }
    let mut out = Vec::new();
    for (at, b) in text.iter().enumerate() {
        if b" |&;<>()$`\"'\\*?[]{}!^,".contains(b) || (at == 0 && matches!(b, b'~' | b'#')) {
            out.push(b'\\');
        }
        out.push(*b);
    }
    out
}

fn integer(st: &mut State, text: &[u8]) -> (i64, bool) {
    let text = text.trim_ascii_start();
    if text.is_empty() {
        return (0, true);
    }
    if let [b'"' | b'\'', c, ..] = text {
        return (i64::from(*c), true);
    }
    let len = text.iter().enumerate().take_while(|(at, b)| b.is_ascii_alphanumeric() || (*at == 0 && matches!(b, b'-' | b'+'))).count();
    let (head, tail) = text.split_at_checked(len).unwrap_or((text, b""));
    let digits = head.strip_prefix(b"-").or(head.strip_prefix(b"+")).unwrap_or(head);
    if !digits.first().is_some_and(u8::is_ascii_digit) {
        return (0, false);
    }
    match arith::eval(st, digits) {
        Ok(v) => (if head.first() == Some(&b'-') { v.wrapping_neg() } else { v }, tail.is_empty()),
        Err(_) => {
            let n = digits.iter().take_while(|b| b.is_ascii_digit()).count();
            (number(digits.get(..n).unwrap_or_default()).unwrap_or(0), false)
        }
    }
}

/// A conversion's flags and sizes.
pub(super) struct Spec {
    pub left: bool,
    pub zero: bool,
    pub plus: bool,
    pub space: bool,
    pub alt: bool,
    pub width: usize,
    pub precision: Option<usize>,
}

impl Spec {
    pub(super) fn pad(&self, text: Vec<u8>, out: &mut Vec<u8>) {
        let missing = self.width.saturating_sub(text.len());
        if !self.left {
            out.resize(out.len() + missing, b' ');
        }
        out.extend(text);
        if self.left {
            out.resize(out.len() + missing, b' ');
        }
    }

    fn sign(&self, negative: bool) -> &'static str {
        if negative {
            "-"
        } else if self.plus {
            "+"
        } else if self.space {
            " "
        } else {
            ""
        }
    }

    fn with_sign(&self, sign: &str, mut digits: String, zeros: bool, out: &mut Vec<u8>) {
        if zeros && self.zero && !self.left {
            let room = self.width.saturating_sub(sign.len());
            digits = format!("{}{digits}", "0".repeat(room.saturating_sub(digits.len())));
        }
        self.pad(format!("{sign}{digits}").into_bytes(), out);
    }

    pub(super) fn integer(&self, value: i64, code: u8, out: &mut Vec<u8>) {
        let mut digits = match code {
            b'd' | b'i' => value.unsigned_abs().to_string(),
            b'u' => (value as u64).to_string(),
            b'x' => format!("{:x}", value as u64),
            b'X' => format!("{:X}", value as u64),
            _ => format!("{:o}", value as u64),
        };
        if let Some(p) = self.precision {
            digits = format!("{}{digits}", "0".repeat(p.saturating_sub(digits.len())));
        }
        if self.alt && value != 0 {
            match code {
                b'x' => digits = format!("0x{digits}"),
                b'X' => digits = format!("0X{digits}"),
                b'o' if !digits.starts_with('0') => digits = format!("0{digits}"),
                _ => {}
            }
        }
        let sign = if matches!(code, b'd' | b'i') { self.sign(value < 0) } else { "" };
        self.with_sign(sign, digits, self.precision.is_none(), out);
    }

    pub(super) fn float(&self, value: f64, code: u8, out: &mut Vec<u8>) {
        let p = self.precision.unwrap_or(6).min(64);
        let magnitude = value.abs();
        let digits = match code {
            b'f' | b'F' => format!("{magnitude:.p$}"),
            b'e' | b'E' => exponent(magnitude, p, code == b'E'),
            _ => general(magnitude, p.max(1), self.alt),
        };
        self.with_sign(self.sign(value.is_sign_negative()), digits, value.is_finite(), out);
    }
}

fn exponent(value: f64, precision: usize, upper: bool) -> String {
    if !value.is_finite() {
        return if value.is_nan() { "nan".to_owned() } else { "inf".to_owned() };
    }
    let text = format!("{value:.precision$e}");
    let (mantissa, exp) = text.split_once('e').unwrap_or((&text, "0"));
    let (sign, digits) = exp.strip_prefix('-').map_or(('+', exp), |d| ('-', d));
    format!("{mantissa}{}{sign}{digits:0>2}", if upper { 'E' } else { 'e' })
}

/// `%g`.
pub(super) fn general(value: f64, precision: usize, keep: bool) -> String {
    if !value.is_finite() {
        return exponent(value, 0, false);
    }
    if value == 0.0 {
        return "0".to_owned();
    }
    let text = format!("{value:.*e}", precision.saturating_sub(1));
    let exp: i32 = text.split_once('e').and_then(|(_, e)| e.parse().ok()).unwrap_or(0);
    let out = if exp < -4 || exp >= precision as i32 {
        exponent(value, precision.saturating_sub(1), false)
    } else {
        format!("{value:.*}", (precision as i32 - 1 - exp).max(0) as usize)
    };
    if keep || !out.contains('.') {
        return out;
    }
    match out.split_once('e') {
        Some((m, e)) => format!("{}e{e}", m.trim_end_matches('0').trim_end_matches('.')),
        None => out.trim_end_matches('0').trim_end_matches('.').to_owned(),
    }
}

pub(super) fn expr(cx: &mut Cx<'_, '_>, args: &[Vec<u8>]) -> i32 {
    let words: Vec<Vec<u8>> = args.iter().skip(1).cloned().collect();
    if words.is_empty() {
        cx.err("expr: missing operand\nTry 'expr --help' for more information.\n");
        return 2;
    }
    let mut at = 0;
    match expr_level(&words, &mut at, 0, 0) {
        Ok(value) if at >= words.len() => {
            cx.out(&[value.as_slice(), b"\n"].concat());
            i32::from(value.is_empty() || value == b"0")
        }
        Ok(_) => {
            let extra = words.get(at).cloned().unwrap_or_default();
            cx.fail(&format!("syntax error: unexpected argument ‘{}’", show(&extra)));
            2
        }
        Err(message) => {
            cx.fail(&message);
            2
        }
    }
}

const EXPR: [&[&[u8]]; 5] = [&[b"|"], &[b"&"], &[b"=", b"==", b"!=", b"<", b"<=", b">", b">="], &[b"+", b"-"], &[b"*", b"/", b"%"]];

fn expr_level(words: &[Vec<u8>], at: &mut usize, level: usize, depth: usize) -> Result<Vec<u8>, String> {
    if depth > 24 {
        return Err("syntax error".to_owned());
    }
    let Some(ops) = EXPR.get(level) else { return expr_atom(words, at, depth) };
    let mut left = expr_level(words, at, level + 1, depth)?;
    while let Some(op) = words.get(*at).filter(|w| ops.contains(&w.as_slice())) {
        *at += 1;
        let right = expr_level(words, at, level + 1, depth)?;
        let truth = |t: &[u8]| !t.is_empty() && t != b"0";
        let int = |t: &[u8]| number::<i64>(t);
        left = match op.as_slice() {
            b"|" => {
                if truth(&left) {
                    left
                } else {
                    right
                }
            }
            b"&" => {
                if truth(&left) && truth(&right) {
                    left
                } else {
                    b"0".to_vec()
                }
            }
            op @ (b"+" | b"-" | b"*" | b"/" | b"%") => {
                let (Some(a), Some(b)) = (int(&left), int(&right)) else { return Err("non-integer argument".to_owned()) };
                if b == 0 && matches!(op, b"/" | b"%") {
                    return Err("division by zero".to_owned());
                }
                let value = match op {
                    b"+" => a.wrapping_add(b),
                    b"-" => a.wrapping_sub(b),
                    b"*" => a.wrapping_mul(b),
                    b"/" => a.wrapping_div(b),
                    _ => a.wrapping_rem(b),
                };
                value.to_string().into_bytes()
            }
            op => {
                let order = match (int(&left), int(&right)) {
                    (Some(a), Some(b)) => a.cmp(&b),
                    _ => left.cmp(&right),
                };
                let hit = match op {
                    b"=" | b"==" => order.is_eq(),
                    b"!=" => order.is_ne(),
                    b"<" => order.is_lt(),
                    b"<=" => order.is_le(),
                    b">" => order.is_gt(),
                    _ => order.is_ge(),
                };
                i32::from(hit).to_string().into_bytes()
            }
        };
    }
    Ok(left)
}

fn expr_atom(words: &[Vec<u8>], at: &mut usize, depth: usize) -> Result<Vec<u8>, String> {
    let Some(word) = words.get(*at).cloned() else {
        let last = words.last().cloned().unwrap_or_default();
        return Err(format!("syntax error: missing argument after ‘{}’", show(&last)));
    };
    *at += 1;
    let next = |at: &mut usize| {
        let w = words.get(*at).cloned().unwrap_or_default();
        *at += 1;
        w
    };
    let left = match word.as_slice() {
        b"(" => {
            let value = expr_level(words, at, 0, depth + 1)?;
            if words.get(*at).is_none_or(|w| w != b")") {
                return Err("syntax error: expecting ')' after the expression".to_owned());
            }
            *at += 1;
            value
        }
        b"length" => next(at).len().to_string().into_bytes(),
        b"substr" => {
            let text = next(at);
            let from = number::<usize>(&next(at)).unwrap_or(0);
            let len = number::<usize>(&next(at)).unwrap_or(0);
            if from == 0 { Vec::new() } else { text.into_iter().skip(from - 1).take(len).collect() }
        }
        b"index" => {
            let text = next(at);
            let set = next(at);
            text.iter().position(|b| set.contains(b)).map_or(0, |p| p + 1).to_string().into_bytes()
        }
        b"match" => {
            let text = next(at);
            let pattern = next(at);
            return match_expr(&text, &pattern);
        }
        _ => word,
    };
    if words.get(*at).is_some_and(|w| w == b":") {
        *at += 1;
        let pattern = next(at);
        return match_expr(&left, &pattern);
    }
    Ok(left)
}

fn match_expr(text: &[u8], pattern: &[u8]) -> Result<Vec<u8>, String> {
    let regex = crate::system::regex::Regex::basic(&[b"^".as_slice(), pattern].concat(), false).map_err(|f| f.text().to_owned())?;
    let mut work = 100_000;
    let group = pattern.windows(2).any(|w| w == b"\\(");
    Ok(match regex.find(text, 0, &mut work) {
        Some(found) if group => found.get(1).copied().flatten().and_then(|(s, e)| text.get(s..e)).unwrap_or_default().to_vec(),
        Some(found) => found.first().copied().flatten().map_or(0, |(_, e)| e).to_string().into_bytes(),
        None if group => Vec::new(),
        None => b"0".to_vec(),
    })
}
