//! Programs about running programs and printing words: `echo`, `printf`, `test`, `sh`, `env`, `nohup`, `expr`.

use super::{Cx, number, show};
use crate::system::{
    fs::{Content, Kind, Made},
    limits,
    shell::{
        arith,
        escape::{self, Style},
        exec::{Exec, Io},
        state::State,
    },
};

pub(super) fn yes_sir(_: &mut Cx<'_, '_>, _: &[Vec<u8>]) -> i32 {
    0
}

pub(super) fn no(_: &mut Cx<'_, '_>, _: &[Vec<u8>]) -> i32 {
    1
}

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
                return Some(values.next().and_then(|v| number::<i64>(v)).unwrap_or(0));
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
        while format
            .get(at)
            .is_some_and(|b| b"hlLqjzt".contains(b) && !(*b == b'q' && !matches!(format.get(at + 1), Some(b'd' | b'i' | b'u' | b'x'))))
        {
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
                let when = values.next().and_then(|v| number::<i64>(v)).filter(|t| *t >= 0).unwrap_or_else(|| cx.now());
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

/// A file test with one operand.
pub(in crate::system) fn test_unary(x: &mut Exec<'_>, st: &mut State, io: Io, op: u8, text: &[u8]) -> bool {
    let node = |x: &Exec<'_>, follow| x.fs.stat(&st.cwd, text, follow).ok();
    match op {
        b'n' => !text.is_empty(),
        b'z' => text.is_empty(),
        b'v' => st.vars.contains_key(text),
        b'o' => text == b"pipefail" && st.pipefail,
        b't' => number::<u32>(text).is_some_and(|fd| x.is_tty(io.get(fd))),
        b'h' | b'L' => node(x, false).is_some_and(|(_, n)| n.is_link()),
        b'e' | b'a' => node(x, true).is_some(),
        b'f' => node(x, true).is_some_and(|(_, n)| n.is_file()),
        b'd' => node(x, true).is_some_and(|(_, n)| n.is_dir()),
        b's' => node(x, true).is_some_and(|(_, n)| n.size() > 0),
        b'b' => node(x, true).is_some_and(|(_, n)| matches!(n.kind, Kind::Block(..))),
        b'c' => node(x, true).is_some_and(|(_, n)| matches!(n.kind, Kind::Char(..))),
        b'p' => node(x, true).is_some_and(|(_, n)| n.kind == Kind::Fifo),
        b'S' => node(x, true).is_some_and(|(_, n)| n.kind == Kind::Socket),
        b'u' => node(x, true).is_some_and(|(_, n)| n.mode & 0o4000 != 0),
        b'g' => node(x, true).is_some_and(|(_, n)| n.mode & 0o2000 != 0),
        b'k' => node(x, true).is_some_and(|(_, n)| n.mode & 0o1000 != 0),
        b'O' => node(x, true).is_some_and(|(_, n)| n.uid == st.who.uid),
        b'G' => node(x, true).is_some_and(|(_, n)| n.gid == st.who.gid),
        b'N' => false,
        b'r' | b'w' | b'x' => {
            let want = match op {
                b'r' => 4,
                b'w' => 2,
                _ => 1,
            };
            node(x, true).is_some_and(|(p, n)| x.fs.reach(&st.who, &p) && x.fs.may(&st.who, &n, want))
        }
        _ => false,
    }
}

/// `-nt`, `-ot`, `-ef`.
pub(in crate::system) fn test_files(x: &mut Exec<'_>, st: &State, op: &[u8], a: &[u8], b: &[u8]) -> bool {
    let find = |p: &[u8]| x.fs.stat(&st.cwd, p, true).ok();
    match (find(a), find(b)) {
        (Some((pa, na)), Some((pb, nb))) => match op {
            b"-nt" => (na.mtime, na.nanos) > (nb.mtime, nb.nanos),
            b"-ot" => (na.mtime, na.nanos) < (nb.mtime, nb.nanos),
            _ => pa == pb,
        },
        (Some(_), None) => op == b"-nt",
        (None, Some(_)) => op == b"-ot",
        _ => false,
    }
}

pub(in crate::system) fn test(cx: &mut Cx<'_, '_>, args: &[Vec<u8>]) -> i32 {
    let mut words = args.get(1..).unwrap_or_default();
    if cx.name == "[" {
        match words.split_last() {
            Some((last, rest)) if last == b"]" => words = rest,
            _ => {
                cx.complain("missing `]'");
                return 2;
            }
        }
    }
    let mut at = 0;
    match test_or(cx, words, &mut at, 0) {
        Ok(value) if at >= words.len() => i32::from(!value),
        Ok(_) => {
            cx.complain("too many arguments");
            2
        }
        Err(message) => {
            cx.complain(&message);
            2
        }
    }
}

fn test_or(cx: &mut Cx<'_, '_>, words: &[Vec<u8>], at: &mut usize, depth: u32) -> Result<bool, String> {
    let mut value = test_and(cx, words, at, depth)?;
    while words.get(*at).is_some_and(|w| w == b"-o") {
        *at += 1;
        value |= test_and(cx, words, at, depth)?;
    }
    Ok(value)
}

fn test_and(cx: &mut Cx<'_, '_>, words: &[Vec<u8>], at: &mut usize, depth: u32) -> Result<bool, String> {
    let mut value = test_one(cx, words, at, depth)?;
    while words.get(*at).is_some_and(|w| w == b"-a") {
        *at += 1;
        value &= test_one(cx, words, at, depth)?;
    }
    Ok(value)
}

fn test_one(cx: &mut Cx<'_, '_>, words: &[Vec<u8>], at: &mut usize, depth: u32) -> Result<bool, String> {
    if depth > 24 || !cx.alive() {
        return Err("too many arguments".to_owned());
    }
    let Some(first) = words.get(*at).cloned() else { return Ok(false) };
    let left = words.len() - *at;
    // A binary operator in the second place wins over everything else.
    if left >= 3
        && let (Some(op), Some(right)) = (words.get(*at + 1).cloned(), words.get(*at + 2).cloned())
    {
        let hit = match op.as_slice() {
            b"=" | b"==" => Some(first == right),
            b"!=" => Some(first != right),
            b"<" => Some(first < right),
            b">" => Some(first > right),
            b"-nt" | b"-ot" | b"-ef" => Some(test_files(cx.x, cx.st, &op, &first, &right)),
            b"-eq" | b"-ne" | b"-lt" | b"-le" | b"-gt" | b"-ge" => {
                let int = |t: &[u8]| number::<i64>(t).ok_or_else(|| format!("{}: integer expression expected", show(t)));
                let (a, b) = (int(&first)?, int(&right)?);
                Some(match op.as_slice() {
                    b"-eq" => a == b,
                    b"-ne" => a != b,
                    b"-lt" => a < b,
                    b"-le" => a <= b,
                    b"-gt" => a > b,
                    _ => a >= b,
                })
            }
            _ => None,
        };
        if let Some(hit) = hit {
            *at += 3;
            return Ok(hit);
        }
    }
    if first == b"!" && left > 1 {
        *at += 1;
        return Ok(!test_one(cx, words, at, depth + 1)?);
    }
    if first == b"(" && left > 2 {
        *at += 1;
        let value = test_or(cx, words, at, depth + 1)?;
        if words.get(*at).is_none_or(|w| w != b")") {
            return Err("`)' expected".to_owned());
        }
        *at += 1;
        return Ok(value);
    }
    if left >= 2
        && let [b'-', op] = first.as_slice()
        && b"abcdefghknoprstuvwxzGLNOS".contains(op)
        && let Some(operand) = words.get(*at + 1).cloned()
    {
        *at += 2;
        return Ok(test_unary(cx.x, cx.st, cx.io, *op, &operand));
    }
    if left == 2 || left >= 3 && !matches!(words.get(*at + 1).map(Vec::as_slice), Some(b"-a" | b"-o" | b")")) {
        let what = words.get(*at + usize::from(left > 2)).cloned().unwrap_or_default();
        return Err(if left == 2 {
            format!("{}: unary operator expected", show(&what))
        } else {
            format!("{}: binary operator expected", show(&what))
        });
    }
    *at += 1;
    Ok(!first.is_empty())
}

pub(super) fn sh(cx: &mut Cx<'_, '_>, args: &[Vec<u8>]) -> i32 {
    shell(cx, args, true)
}

pub(super) fn bash(cx: &mut Cx<'_, '_>, args: &[Vec<u8>]) -> i32 {
    if args.get(1).is_some_and(|a| a == b"--version") {
        cx.say("GNU bash, version 5.2.15(1)-release (x86_64-pc-linux-gnu)\nCopyright (C) 2022 Free Software Foundation, Inc.\nLicense GPLv3+: GNU GPL version 3 or later <http://gnu.org/licenses/gpl.html>\n\nThis is free software; you are free to change and redistribute it.\nThere is NO WARRANTY, to the extent permitted by law.\n");
        return 0;
    }
    shell(cx, args, false)
}

fn shell(cx: &mut Cx<'_, '_>, args: &[Vec<u8>], posix: bool) -> i32 {
    let name = args.first().cloned().unwrap_or_default();
    let mut rest = args.get(1..).unwrap_or_default();
    let (mut command, mut stdin, mut trace) = (false, false, Vec::new());
    while let Some(first) = rest.first() {
        if first == b"--" {
            rest = rest.get(1..).unwrap_or_default();
            break;
        }
        if first.starts_with(b"--") {
            rest = rest.get(1..).unwrap_or_default();
            continue;
        }
        let Some(flags) = first.strip_prefix(b"-").or(first.strip_prefix(b"+")).filter(|f| !f.is_empty()) else { break };
        for flag in flags {
            match flag {
                b'c' => command = true,
                b's' => stdin = true,
                b'e' | b'x' | b'u' => trace.push(*flag),
                _ => {}
            }
        }
        let with_value = flags.last() == Some(&b'o');
        rest = rest.get(1 + usize::from(with_value)..).unwrap_or_default();
        if command {
            break;
        }
    }
    let short = crate::system::fs::split(&name).1.to_vec();
    let label = if short.is_empty() { name.clone() } else { short };
    let run = |cx: &mut Cx<'_, '_>, text: &[u8], argv: &[Vec<u8>]| {
        let mut inner = cx.x.subshell_state(cx.st);
        for flag in &trace {
            inner.flags.insert(*flag, ());
        }
        cx.x.script(&inner, cx.io, text, argv, posix)
    };
    if command {
        let Some(text) = rest.first().cloned() else {
            cx.err(&format!("{}: -c: option requires an argument\n", show(&label)));
            return 2;
        };
        let mut argv = vec![rest.get(1).cloned().unwrap_or(label)];
        argv.extend(rest.get(2..).unwrap_or_default().iter().cloned());
        return run(cx, &text, &argv);
    }
    if stdin || rest.is_empty() {
        let mut argv = vec![label];
        if stdin {
            argv.extend(rest.iter().cloned());
        }
        // Lines are run as they come, so that later commands may read what follows in the input.
        let text = cx.input();
        if cx.x.waiting.is_some() {
            return 0;
        }
        return run(cx, &text, &argv);
    }
    let path = rest.first().cloned().unwrap_or_default();
    match cx.read(&path) {
        Ok(text) => {
            if text.iter().take(128).any(|b| *b == 0) {
                cx.err(&format!("{}: {}: cannot execute binary file\n", show(&path), show(&path)));
                return 126;
            }
            if let Ok((real, node)) = cx.x.fs.stat(&cx.st.cwd, &path, true)
                && !matches!(node.kind, Kind::File(Content::Made(Made::Program(..))))
                && cx.x.executed.len() < limits::REPORTS
            {
                cx.x.executed.push(crate::system::api::Executed { path: real, content: std::sync::Arc::clone(&text) });
            }
            run(cx, &text, rest)
        }
        Err(e) => {
            let line = if posix {
                format!("{}: 0: cannot open {}: {}\n", show(&label), show(&path), e.text().trim_end_matches(" or directory"))
            } else {
                format!("{}: {}: {}\n", show(&label), show(&path), e.text())
            };
            cx.err(&line);
            if posix { 2 } else { 127 }
        }
    }
}

/// Runs a command line of words in place of a program: for `env`, `nohup`, `xargs`, `timeout`, `find -exec`.
pub(super) fn run_words(cx: &mut Cx<'_, '_>, words: &[Vec<u8>]) -> i32 {
    let Some(name) = words.first() else { return 0 };
    if !cx.x.deeper(cx.st, cx.io) {
        return 137;
    }
    let status = match cx.x.which(cx.st, name).into_iter().next() {
        Some((_, real)) => {
            let mut inner = cx.x.subshell_state(cx.st);
            cx.x.program(&mut inner, cx.io, &real, words)
        }
        None => {
            cx.x.unknown = true;
            let line = match (cx.name, name.contains(&b'/')) {
                ("nohup" | "timeout" | "nice" | "stdbuf", _) => {
                    format!("{}: failed to run command '{}': No such file or directory\n", cx.name, show(name))
                        .replace('\'', "’")
                        .replacen('’', "‘", 1)
                }
                ("setsid", _) => format!("setsid: failed to execute {}: No such file or directory\n", show(name)),
                ("env", _) => format!("env: ‘{}’: No such file or directory\n", show(name)),
                _ => format!("{}: {}: No such file or directory\n", cx.name, show(name)),
            };
            cx.err(&line);
            127
        }
    };
    cx.x.depth -= 1;
    status
}

pub(super) fn env(cx: &mut Cx<'_, '_>, args: &[Vec<u8>]) -> i32 {
    let mut rest = args.get(1..).unwrap_or_default();
    let mut inner = cx.x.subshell_state(cx.st);
    while let Some(first) = rest.first() {
        let mut used = 1;
        match first.as_slice() {
            b"-i" | b"-" => inner.vars.retain(|_, v| !v.export),
            b"-u" => {
                inner.unset(rest.get(1).map_or(b"".as_slice(), Vec::as_slice));
                used = 2;
            }
            b"-S" | b"--" | b"-0" => {}
            word => match word.iter().position(|b| *b == b'=') {
                Some(at) => inner.export(word.get(..at).unwrap_or_default(), word.get(at + 1..).unwrap_or_default()),
                None => break,
            },
        }
        rest = rest.get(used..).unwrap_or_default();
    }
    if rest.is_empty() {
        let mut all = inner.environment();
        // The shell tells each program its own path in `_`.
        for line in &mut all {
            if line.starts_with(b"_=") {
                *line = b"_=/usr/bin/env".to_vec();
            }
        }
        for line in all {
            cx.out(&[line.as_slice(), b"\n"].concat());
        }
        return 0;
    }
    let mut inner_cx = Cx { x: cx.x, st: &mut inner, io: cx.io, name: "env" };
    run_words(&mut inner_cx, rest)
}

pub(super) fn printenv(cx: &mut Cx<'_, '_>, args: &[Vec<u8>]) -> i32 {
    if args.len() < 2 {
        return env(cx, &[b"env".to_vec()]);
    }
    let mut status = 0;
    for name in args.iter().skip(1) {
        match cx.st.vars.get(name).filter(|v| v.export).and_then(|_| cx.st.get(name)) {
            Some(value) => cx.out(&[value.as_slice(), b"\n"].concat()),
            None => status = 1,
        }
    }
    status
}

pub(super) fn pwd(cx: &mut Cx<'_, '_>, _: &[Vec<u8>]) -> i32 {
    let path = cx.x.fs.stat(b"/", &cx.st.cwd, true).map_or_else(|_| cx.st.cwd.clone(), |(p, _)| p);
    cx.out(&[path.as_slice(), b"\n"].concat());
    0
}

pub(super) fn nohup(cx: &mut Cx<'_, '_>, args: &[Vec<u8>]) -> i32 {
    let mut rest = args.get(1..).unwrap_or_default();
    while let Some(first) = rest.first().filter(|a| a.first() == Some(&b'-') && a.len() > 1) {
        let with_value = first == b"-n" && cx.name == "nice";
        rest = rest.get(1 + usize::from(with_value)..).unwrap_or_default();
    }
    if rest.is_empty() {
        if cx.name == "nice" {
            cx.say("0\n");
            return 0;
        }
        let line = format!("{n}: missing operand\nTry '{n} --help' for more information.\n", n = cx.name);
        cx.err(&line);
        return 125;
    }
    if cx.name == "nohup" && cx.x.is_tty(cx.io.get(1)) {
        cx.err("nohup: ignoring input and appending output to 'nohup.out'\n");
        if let Ok(fd) = cx.x.open_write(cx.st, b"nohup.out", true, crate::system::api::How::Command("nohup")) {
            cx.io = cx.io.with(1, fd).with(0, crate::system::shell::exec::Fd::Null);
        }
    }
    run_words(cx, rest)
}

fn duration(text: &[u8]) -> Option<f64> {
    let (digits, unit) = match text.last() {
        Some(b's') => (text.get(..text.len() - 1)?, 1.0),
        Some(b'm') => (text.get(..text.len() - 1)?, 60.0),
        Some(b'h') => (text.get(..text.len() - 1)?, 3_600.0),
        Some(b'd') => (text.get(..text.len() - 1)?, 86_400.0),
        _ => (text, 1.0),
    };
    number::<f64>(digits).filter(|v| v.is_finite() && *v >= 0.0).map(|v| v * unit)
}

pub(super) fn sleep(cx: &mut Cx<'_, '_>, args: &[Vec<u8>]) -> i32 {
    if args.len() < 2 {
        cx.err("sleep: missing operand\nTry 'sleep --help' for more information.\n");
        return 1;
    }
    let mut total = 0.0;
    for arg in args.iter().skip(1) {
        match duration(arg) {
            Some(seconds) => total += seconds,
            None => {
                cx.err(&format!("sleep: invalid time interval ‘{}’\nTry 'sleep --help' for more information.\n", show(arg)));
                return 1;
            }
        }
    }
    cx.x.pass((total.min(86_400.0) * 1e9) as i64);
    0
}

pub(super) fn timeout(cx: &mut Cx<'_, '_>, args: &[Vec<u8>]) -> i32 {
    let mut rest = args.get(1..).unwrap_or_default();
    while let Some(first) = rest.first().filter(|a| a.first() == Some(&b'-') && a.len() > 1) {
        let with_value = matches!(first.as_slice(), b"-s" | b"-k");
        rest = rest.get(1 + usize::from(with_value)..).unwrap_or_default();
    }
    let Some(limit) = rest.first().and_then(|a| duration(a)) else {
        cx.err("timeout: missing operand\nTry 'timeout --help' for more information.\n");
        return 125;
    };
    let before = cx.x.took_ns;
    let status = run_words(cx, rest.get(1..).unwrap_or_default());
    let most = (limit.min(86_400.0) * 1e9) as i64;
    if cx.x.took_ns - before > most && most > 0 {
        let over = cx.x.took_ns - before - most;
        cx.x.took_ns -= over;
        cx.x.now_ns -= over;
        return 124;
    }
    status
}

pub(super) fn which(cx: &mut Cx<'_, '_>, args: &[Vec<u8>]) -> i32 {
    let all = args.iter().any(|a| a == b"-a");
    let mut status = 0;
    for name in args.iter().skip(1).filter(|a| a.first() != Some(&b'-')) {
        let found = cx.x.which(cx.st, name);
        if found.is_empty() {
            status = 1;
        }
        for (path, _) in found.into_iter().take(if all { usize::MAX } else { 1 }) {
            cx.out(&[path.as_slice(), b"\n"].concat());
        }
    }
    status
}

pub(super) fn perl(cx: &mut Cx<'_, '_>, args: &[Vec<u8>]) -> i32 {
    match args.get(1).map(Vec::as_slice) {
        Some(b"-v" | b"--version") => {
            cx.say("\nThis is perl 5, version 36, subversion 0 (v5.36.0) built for x86_64-linux-gnu-thread-multi\n(with 45 registered patches, see perl -V for more detail)\n\nCopyright 1987-2022, Larry Wall\n\nPerl may be copied only under the terms of either the Artistic License or the\nGNU General Public License, which may be found in the Perl 5 source kit.\n\nComplete documentation for Perl, including FAQ lists, should be found on\nthis system using \"man perl\" or \"perldoc perl\".  If you have access to the\nInternet, point your browser at https://www.perl.org/, the Perl Home Page.\n\n");
            0
        }
        Some(flag) if flag.first() == Some(&b'-') => {
            // perl-base lacks most modules; that is what a script trips over first.
            let code = show(args.get(2).map_or(b"".as_slice(), Vec::as_slice));
            if let Some(module) = code
                .split("use ")
                .nth(1)
                .and_then(|r| r.split([';', ' ', '\n']).next())
                .filter(|m| !matches!(*m, "strict" | "warnings" | "Socket" | "IO::Socket"))
            {
                cx.err(&format!("Can't locate {}.pm in @INC (you may need to install the {module} module) (@INC contains: /etc/perl /usr/local/lib/x86_64-linux-gnu/perl/5.36.0 /usr/local/share/perl/5.36.0 /usr/lib/x86_64-linux-gnu/perl5/5.36 /usr/share/perl5 /usr/lib/x86_64-linux-gnu/perl-base /usr/lib/x86_64-linux-gnu/perl/5.36 /usr/share/perl/5.36 /usr/local/lib/site_perl) at -e line 1.\nBEGIN failed--compilation aborted at -e line 1.\n", module.replace("::", "/")));
                return 2;
            }
            // `print "text"` is the usual probe.
            if let Some(rest) = code.trim().strip_prefix("print") {
                let rest = rest.trim().trim_start_matches('(').trim_end_matches(';').trim_end_matches(')');
                if let Some(text) = rest.strip_prefix('"').and_then(|t| t.strip_suffix('"')) {
                    let (bytes, _) = escape::all(text.as_bytes(), Style::AnsiC);
                    cx.out(&bytes);
                } else if let Some(text) = rest.strip_prefix('\'').and_then(|t| t.strip_suffix('\'')) {
                    cx.say(text);
                } else if let Ok(value) = arith::eval(cx.st, rest.as_bytes())
                    && rest.bytes().all(|b| b.is_ascii_digit() || b"+-*/() ".contains(&b))
                {
                    cx.say(&value.to_string());
                }
            }
            0
        }
        Some(path) => {
            let path = path.to_vec();
            match cx.read(&path) {
                Ok(content) => {
                    if let Ok((real, _)) = cx.x.fs.stat(&cx.st.cwd, &path, true)
                        && cx.x.executed.len() < limits::REPORTS
                    {
                        cx.x.executed.push(crate::system::api::Executed { path: real, content });
                    }
                    0
                }
                Err(e) => {
                    cx.err(&format!("Can't open perl script \"{}\": {}\n", show(&path), e.text()));
                    2
                }
            }
        }
        None => {
            cx.input();
            0
        }
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
