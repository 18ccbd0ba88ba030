//! `grep`, `egrep`, `fgrep`.

use super::{Cx, has, number, show, value};
use crate::system::{
    fs::{self, Errno},
    regex::Regex,
};

enum Matcher {
    Regex(Regex),
    Fixed(Vec<u8>, bool),
}

impl Matcher {
    fn find(&self, text: &[u8], from: usize, work: &mut u64) -> Option<(usize, usize)> {
        match self {
            Self::Regex(r) => r.find(text, from, work)?.first().copied().flatten(),
            Self::Fixed(needle, icase) => {
                let rest = text.get(from..)?;
                if needle.is_empty() {
                    return Some((from, from));
                }
                *work = work.saturating_sub(rest.len() as u64 / 8);
                rest.windows(needle.len())
                    .position(|w| if *icase { w.eq_ignore_ascii_case(needle) } else { w == needle.as_slice() })
                    .map(|p| (from + p, from + p + needle.len()))
            }
        }
    }
}

pub(super) fn grep(cx: &mut Cx<'_, '_>, args: &[Vec<u8>]) -> i32 {
    let longs = [
        ("ignore-case", b'i'),
        ("invert-match", b'v'),
        ("count", b'c'),
        ("extended-regexp", b'E'),
        ("fixed-strings", b'F'),
        ("line-number", b'n'),
        ("only-matching", b'o'),
        ("quiet", b'q'),
        ("silent", b'q'),
        ("recursive", b'r'),
        ("files-with-matches", b'l'),
        ("files-without-match", b'L'),
        ("word-regexp", b'w'),
        ("line-regexp", b'x'),
        ("no-filename", b'h'),
        ("with-filename", b'H'),
        ("max-count=", b'm'),
        ("after-context=", b'A'),
        ("before-context=", b'B'),
        ("context=", b'C'),
        ("regexp=", b'e'),
        ("file=", b'f'),
        ("text", b'a'),
        ("no-messages", b's'),
        ("color[=", b'1'),
        ("colour[=", b'1'),
        ("include=", b'2'),
        ("exclude=", b'2'),
        ("exclude-dir=", b'2'),
        ("perl-regexp", b'P'),
        ("byte-offset", b'b'),
        ("line-buffered", b'3'),
    ];
    let Ok((options, mut rest)) = cx.options(args, "EFGPivcnoqrRlLwxhHm:A:B:C:e:f:asbIzT", &longs) else { return 2 };
    if has(&options, 0) {
        return 0;
    }
    let mut patterns: Vec<Vec<u8>> = options.iter().filter(|o| o.0 == b'e').map(|o| o.1.clone()).collect();
    if let Some(path) = value(&options, b'f') {
        let path = path.to_vec();
        match cx.read(&path) {
            Ok(data) => patterns.extend(super::lines(&data).map(<[u8]>::to_vec)),
            Err(e) => {
                cx.fail(&format!("{}: {}", show(&path), e.text()));
                return 2;
            }
        }
    } else if patterns.is_empty() {
        if rest.is_empty() {
            cx.err("Usage: grep [OPTION]... PATTERNS [FILE]...\nTry 'grep --help' for more information.\n");
            return 2;
        }
        patterns.push(rest.remove(0));
    }
    let patterns: Vec<Vec<u8>> = patterns.iter().flat_map(|p| p.split(|b| *b == b'\n').map(<[u8]>::to_vec)).take(256).collect();
    let icase = has(&options, b'i');
    let fixed = has(&options, b'F') || cx.name == "fgrep";
    let extended = has(&options, b'E') || has(&options, b'P') || cx.name == "egrep";
    let mut matchers = Vec::new();
    for p in &patterns {
        if fixed {
            matchers.push(Matcher::Fixed(p.clone(), icase));
            continue;
        }
        let text = if has(&options, b'P') { perl(p) } else { p.clone() };
        let compiled = if extended { Regex::extended(&text, icase) } else { Regex::basic(&text, icase) };
        match compiled {
            Ok(r) => matchers.push(Matcher::Regex(r)),
            Err(fault) => {
                cx.fail(fault.text());
                return 2;
            }
        }
    }
    let recursive = has(&options, b'r') || has(&options, b'R');
    let mut paths = Vec::new();
    if rest.is_empty() {
        rest.push(if recursive { b".".to_vec() } else { b"-".to_vec() });
    }
    let many = rest.len() > 1 || recursive;
    let mut status = 1;
    let mut failed = false;
    for path in rest {
        if path != b"-"
            && let Ok((real, node)) = cx.stat(&path, true)
            && node.is_dir()
        {
            if recursive {
                walk(cx, &real, &path, &mut paths, 0);
            } else {
                cx.fail(&format!("{}: Is a directory", show(&path)));
            }
            continue;
        }
        paths.push(path);
    }
    let names = (many && !has(&options, b'h')) || has(&options, b'H');
    for path in paths {
        match cx.read(&path) {
            Ok(data) => {
                if search(cx, &options, &matchers, &path, &data, names) {
                    status = 0;
                    if has(&options, b'q') {
                        return 0;
                    }
                }
            }
            Err(Errno::IsDir) => {}
            Err(e) => {
                if !has(&options, b's') {
                    cx.fail(&format!("{}: {}", show(&path), e.text()));
                }
                failed = true;
            }
        }
        if !cx.alive() {
            break;
        }
    }
    if failed && status != 0 || failed { 2 } else { status }
}

/// The few Perl classes people use with `-P`.
fn perl(p: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut bytes = p.iter();
    while let Some(b) = bytes.next() {
        if *b == b'\\' {
            match bytes.next() {
                Some(b'd') => out.extend_from_slice(b"[0-9]"),
                Some(b'D') => out.extend_from_slice(b"[^0-9]"),
                Some(n) => out.extend([b'\\', *n]),
                None => out.push(b'\\'),
            }
        } else {
            out.push(*b);
        }
    }
    out
}

fn walk(cx: &mut Cx<'_, '_>, real: &[u8], shown: &[u8], paths: &mut Vec<Vec<u8>>, depth: usize) {
    if depth > 32 || paths.len() > 4_096 || !cx.alive() {
        return;
    }
    for (name, node) in cx.x.fs.list(real) {
        let (full, show) = (fs::join(real, &name), fs::join(shown, &name));
        if node.is_dir() {
            if !full.starts_with(b"/proc") && !full.starts_with(b"/sys") {
                walk(cx, &full, &show, paths, depth + 1);
            }
        } else if node.is_file() {
            paths.push(show);
        }
    }
}

fn word(b: Option<&u8>) -> bool {
    b.is_some_and(|b| *b == b'_' || b.is_ascii_alphanumeric())
}

fn search(cx: &mut Cx<'_, '_>, options: &[(u8, Vec<u8>)], matchers: &[Matcher], path: &[u8], data: &[u8], names: bool) -> bool {
    let on = |l: u8| has(options, l);
    let context = |l: u8| value(options, l).or(value(options, b'C')).and_then(|v| number::<usize>(v)).unwrap_or(0);
    let (before, after) = (context(b'B'), context(b'A'));
    let most = value(options, b'm').and_then(|v| number::<usize>(v)).unwrap_or(usize::MAX);
    let binary = !on(b'a') && data.iter().take(32_768).any(|b| *b == 0);
    let name = if path == b"-" { b"(standard input)".to_vec() } else { path.to_vec() };
    let mut count = 0usize;
    let mut out = Vec::new();
    let all: Vec<&[u8]> = super::lines(data).collect();
    let mut printed = 0usize;
    let mut left = 0usize;
    let color = value(options, b'1').is_some_and(|v| v == b"always" || (v.is_empty() || v == b"auto") && cx.tty_out());
    let mut work = cx.x.steps.saturating_mul(16);
    let budget = work;
    let emit = |out: &mut Vec<u8>, n: usize, text: &[u8], mark: u8| {
        if names {
            out.extend_from_slice(&name);
            out.push(mark);
        }
        if on(b'n') {
            out.extend((n + 1).to_string().into_bytes());
            out.push(mark);
        }
        out.extend_from_slice(text);
        out.push(b'\n');
    };
    for (n, line) in all.iter().enumerate() {
        let mut spans = Vec::new();
        let mut from = 0;
        while from <= line.len() && work > 0 {
            let best = matchers.iter().filter_map(|m| m.find(line, from, &mut work)).min_by_key(|(s, e)| (*s, usize::MAX - e));
            let Some((s, e)) = best else { break };
            let fits = (!on(b'w') || (!word(s.checked_sub(1).and_then(|p| line.get(p))) && !word(line.get(e))))
                && (!on(b'x') || (s == 0 && e == line.len()));
            if fits {
                spans.push((s, e));
                if !on(b'o') && !color {
                    break;
                }
            }
            from = if fits && e > s { e } else { s + 1 };
        }
        let hit = spans.is_empty() == on(b'v');
        if hit {
            count += 1;
            if on(b'q') || on(b'l') || on(b'L') {
                break;
            }
            if !on(b'c') && !binary {
                if on(b'o') {
                    for (s, e) in spans.iter().filter(|(s, e)| e > s) {
                        emit(&mut out, n, line.get(*s..*e).unwrap_or_default(), b':');
                    }
                } else {
                    let start = n.saturating_sub(before).max(printed);
                    if (before > 0 || after > 0) && printed > 0 && start > printed {
                        out.extend_from_slice(b"--\n");
                    }
                    for (k, old) in all.iter().enumerate().take(n).skip(start) {
                        emit(&mut out, k, old, b'-');
                    }
                    if color && !spans.is_empty() && !on(b'v') {
                        let mut text = Vec::new();
                        let mut at = 0;
                        for (s, e) in &spans {
                            text.extend_from_slice(line.get(at..*s).unwrap_or_default());
                            text.extend_from_slice(b"\x1b[01;31m\x1b[K");
                            text.extend_from_slice(line.get(*s..*e).unwrap_or_default());
                            text.extend_from_slice(b"\x1b[m\x1b[K");
                            at = *e;
                        }
                        text.extend_from_slice(line.get(at..).unwrap_or_default());
                        emit(&mut out, n, &text, b':');
                    } else {
                        emit(&mut out, n, line, b':');
                    }
                    printed = n + 1;
                    left = after;
                }
            }
            if count >= most {
                break;
            }
        } else if left > 0 && !on(b'c') && !binary {
            emit(&mut out, n, line, b'-');
            printed = n + 1;
            left -= 1;
        }
        if work == 0 {
            break;
        }
    }
    cx.x.spend((budget - work) / 16);
    if on(b'q') {
        return count > 0;
    }
    if on(b'l') || on(b'L') {
        if (count > 0) == on(b'l') {
            cx.out(&[name.as_slice(), b"\n"].concat());
        }
        return count > 0;
    }
    if on(b'c') {
        let head = if names { [name.as_slice(), b":"].concat() } else { Vec::new() };
        cx.out(&[head, format!("{count}\n").into_bytes()].concat());
    } else if binary && count > 0 {
        cx.say(&format!("{}: {}: binary file matches\n", cx.name, show(&name)).replace(&format!("{}: ", cx.name), "grep: "));
    } else {
        cx.out(&out);
    }
    count > 0
}
