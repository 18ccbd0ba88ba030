//! Programs that read lines: `cat`, `head`, `tail`, `wc`, `sort`, `uniq`, `tr`, `tee`, `seq`, `od`.

use std::cmp::Ordering;

use super::{Cx, has, lines, number, show, value};
use crate::system::{
    limits,
    shell::{
        escape::{self, Style},
        exec::Fd,
        pattern,
    },
};

/// Operands, or standard input.
fn files(rest: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    if rest.is_empty() { vec![b"-".to_vec()] } else { rest }
}

pub(super) fn cat(cx: &mut Cx<'_, '_>, args: &[Vec<u8>]) -> i32 {
    let longs = [
        ("show-all", b'A'),
        ("number", b'n'),
        ("number-nonblank", b'b'),
        ("squeeze-blank", b's'),
        ("show-ends", b'E'),
        ("show-tabs", b'T'),
        ("show-nonprinting", b'v'),
    ];
    let Ok((options, rest)) = cx.options(args, "AbeEnstTuv", &longs) else { return 1 };
    if has(&options, 0) {
        return 0;
    }
    let any = |set: &[u8]| set.iter().any(|l| has(&options, *l));
    let plain = !any(b"AbeEnstTv") || cx.name != "cat";
    let mut status = 0;
    let mut line = 0usize;
    let mut blank = false;
    for path in files(rest) {
        if path == b"-" && cx.stdin_fd() == Fd::Terminal && plain {
            // On a terminal each line comes back as soon as it is typed.
            let (data, end) = cx.x.read_available(Fd::Terminal);
            cx.out(&data);
            if !end {
                cx.x.starve(crate::system::api::Waiting::Line);
                return 0;
            }
            continue;
        }
        let data = match cx.read(&path) {
            Ok(d) => d,
            Err(e) => {
                status = cx.fail(&format!("{}: {}", show(&path), e.text()));
                continue;
            }
        };
        if plain {
            cx.out(&data);
            continue;
        }
        let mut out = Vec::with_capacity(data.len() + 64);
        for part in data.split_inclusive(|b| *b == b'\n') {
            let (body, end) = part.strip_suffix(b"\n").map_or((part, false), |b| (b, true));
            if any(b"s") && body.is_empty() && std::mem::replace(&mut blank, body.is_empty()) {
                continue;
            }
            blank = body.is_empty();
            if any(b"b") && !body.is_empty() || any(b"n") && !any(b"b") {
                line += 1;
                out.extend(format!("{line:>6}\t").into_bytes());
            }
            for &b in body {
                if b == b'\t' && any(b"AtT") {
                    out.extend_from_slice(b"^I");
                } else if any(b"Aevt") && b != b'\t' {
                    let (meta, low) = (b >= 128, b & 127);
                    if meta {
                        out.extend_from_slice(b"M-");
                    }
                    if low < 32 || low == 127 {
                        out.extend([b'^', low ^ 64]);
                    } else {
                        out.push(low);
                    }
                } else {
                    out.push(b);
                }
            }
            if end {
                if any(b"AeE") {
                    out.push(b'$');
                }
                out.push(b'\n');
            }
        }
        cx.out(&out);
    }
    status
}

/// A count as `head` and `tail` take it: suffixes, a leading sign.
fn count(text: &[u8]) -> Option<(u8, usize)> {
    let sign = text.first().copied().filter(|b| matches!(b, b'+' | b'-')).unwrap_or(0);
    let body = text.get(usize::from(sign != 0)..)?;
    let digits = body.iter().take_while(|b| b.is_ascii_digit()).count();
    let n: usize = number(body.get(..digits)?)?;
    let unit = match body.get(digits..)? {
        b"" => 1,
        b"b" => 512,
        b"k" | b"K" | b"KiB" => 1_024,
        b"kB" | b"KB" => 1_000,
        b"M" | b"MiB" => 1 << 20,
        b"MB" => 1_000_000,
        b"G" => 1 << 30,
        _ => return None,
    };
    Some((sign, n.saturating_mul(unit)))
}

/// Rewrites `-5` as `-n 5`.
fn old_style(args: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut out = Vec::new();
    for (at, arg) in args.iter().enumerate() {
        match arg.strip_prefix(b"-") {
            Some(digits)
                if at > 0
                    && digits.first().is_some_and(u8::is_ascii_digit)
                    && !matches!(args.get(at - 1).map(Vec::as_slice), Some(b"-n" | b"-c")) =>
            {
                out.extend([b"-n".to_vec(), digits.to_vec()])
            }
            _ => out.push(arg.clone()),
        }
    }
    out
}

pub(super) fn head(cx: &mut Cx<'_, '_>, args: &[Vec<u8>]) -> i32 {
    let Ok((options, rest)) = cx.options(
        &old_style(args),
        "n:c:qvz",
        &[("lines=", b'n'), ("bytes=", b'c'), ("quiet", b'q'), ("silent", b'q'), ("verbose", b'v')],
    ) else {
        return 1;
    };
    if has(&options, 0) {
        return 0;
    }
    head_tail(cx, &options, rest, true)
}

pub(super) fn tail(cx: &mut Cx<'_, '_>, args: &[Vec<u8>]) -> i32 {
    let longs = [
        ("lines=", b'n'),
        ("bytes=", b'c'),
        ("quiet", b'q'),
        ("silent", b'q'),
        ("verbose", b'v'),
        ("follow", b'f'),
        ("pid=", b'p'),
        ("retry", b'r'),
    ];
    let Ok((options, rest)) = cx.options(&old_style(args), "n:c:qvzfF", &longs) else { return 1 };
    if has(&options, 0) {
        return 0;
    }
    let status = head_tail(cx, &options, rest, false);
    if (has(&options, b'f') || has(&options, b'F')) && status == 0 && cx.stdin_fd() == Fd::Terminal {
        // It would follow for ever; on a terminal the visitor has to interrupt it.
        cx.x.starve(crate::system::api::Waiting::Line);
    }
    status
}

fn head_tail(cx: &mut Cx<'_, '_>, options: &[(u8, Vec<u8>)], rest: Vec<Vec<u8>>, head: bool) -> i32 {
    let bytes = has(options, b'c');
    let text = value(options, if bytes { b'c' } else { b'n' }).unwrap_or(b"10").to_vec();
    let Some((sign, n)) = count(&text) else {
        return cx.fail(&format!("invalid number of {}: ‘{}’", if bytes { "bytes" } else { "lines" }, show(&text)));
    };
    let rest = files(rest);
    let titles = (rest.len() > 1 || has(options, b'v')) && !has(options, b'q');
    let mut status = 0;
    let mut first = true;
    for path in rest {
        // Reading only the lines asked for leaves the rest to whoever shares the input.
        if head && !bytes && sign == 0 && path == b"-" {
            for _ in 0..n {
                match cx.x.read_until(cx.io.get(0), b'\n') {
                    Some(line) => cx.out(&line),
                    None => break,
                }
                if !cx.alive() {
                    break;
                }
            }
            continue;
        }
        if head && bytes && sign == 0 && path == b"-" {
            let data = cx.x.read_bytes(cx.io.get(0), n.min(limits::PIPE));
            cx.out(&data);
            continue;
        }
        let data = match cx.read(&path) {
            Ok(d) => d,
            Err(e) if e == crate::system::fs::Errno::IsDir => {
                status = cx.fail(&format!("error reading '{}': {}", show(&path), e.text()));
                continue;
            }
            Err(e) => {
                status = cx.fail(&format!("cannot open '{}' for reading: {}", show(&path), e.text()));
                continue;
            }
        };
        if titles {
            let name = if path == b"-" { "standard input".to_owned() } else { show(&path) };
            cx.say(&format!("{}==> {name} <==\n", if first { "" } else { "\n" }));
        }
        first = false;
        let part = if bytes {
            match (head, sign) {
                (true, b'-') => data.get(..data.len().saturating_sub(n)),
                (true, _) => data.get(..n.min(data.len())),
                (false, b'+') => data.get(n.saturating_sub(1).min(data.len())..),
                (false, _) => data.get(data.len().saturating_sub(n)..),
            }
        } else {
            let ends: Vec<usize> = data
                .split_inclusive(|b| *b == b'\n')
                .scan(0, |at, l| {
                    *at += l.len();
                    Some(*at)
                })
                .collect();
            let cut = |k: usize| k.checked_sub(1).map_or(0, |k| ends.get(k).copied().unwrap_or(data.len()));
            match (head, sign) {
                (true, b'-') => data.get(..cut(ends.len().saturating_sub(n))),
                (true, _) => data.get(..cut(n)),
                (false, b'+') => data.get(cut(n.saturating_sub(1))..),
                (false, _) => data.get(cut(ends.len().saturating_sub(n))..),
            }
        };
        let part = part.unwrap_or_default().to_vec();
        cx.out(&part);
    }
    status
}

pub(super) fn wc(cx: &mut Cx<'_, '_>, args: &[Vec<u8>]) -> i32 {
    let Ok((options, rest)) =
        cx.options(args, "clmLw", &[("lines", b'l'), ("words", b'w'), ("bytes", b'c'), ("chars", b'm'), ("max-line-length", b'L')])
    else {
        return 1;
    };
    if has(&options, 0) {
        return 0;
    }
    let wanted: Vec<u8> =
        if options.is_empty() { b"lwc".to_vec() } else { b"lwmcL".iter().copied().filter(|l| has(&options, *l)).collect() };
    let unnamed = rest.is_empty();
    let mut rows: Vec<(Vec<usize>, Vec<u8>)> = Vec::new();
    let mut totals = [0usize; 5];
    let mut status = 0;
    let mut width = 1;
    let many = rest.len() > 1;
    let mut regular = true;
    let mut bytes_total = 0u64;
    for path in files(rest) {
        let data = match cx.read(&path) {
            Ok(d) => d,
            Err(e) => {
                status = cx.fail(&format!("{}: {}", show(&path), e.text()));
                if e == crate::system::fs::Errno::IsDir {
                    rows.push((vec![0; wanted.len()], path));
                }
                continue;
            }
        };
        match cx.stat(&path, true) {
            Ok((_, n)) if n.is_file() && path != b"-" => bytes_total += n.size(),
            _ => regular = false,
        }
        cx.x.spend(data.len() as u64 / 4_096);
        let counts = wanted
            .iter()
            .map(|l| match l {
                b'l' => data.iter().filter(|b| **b == b'\n').count(),
                b'w' => data.split(|b| matches!(b, b' ' | 9..=13)).filter(|w| !w.is_empty()).count(),
                b'm' => data.iter().filter(|b| **b & 0xc0 != 0x80).count(),
                b'L' => lines(&data).map(|l| l.len()).max().unwrap_or(0),
                _ => data.len(),
            })
            .collect::<Vec<_>>();
        for (t, c) in totals.iter_mut().zip(&counts) {
            *t += c;
        }
        rows.push((counts, if unnamed { Vec::new() } else { path }));
    }
    // GNU wc sizes its columns from the files' sizes, or 7 when it cannot know them.
    if wanted.len() > 1 || many {
        width = if regular { bytes_total.to_string().len() } else { 7 };
    }
    if rows.len() > 1 {
        rows.push((totals.iter().copied().take(wanted.len()).collect(), b"total".to_vec()));
    }
    for (counts, name) in rows {
        let mut line = counts.iter().map(|c| format!("{c:>width$}")).collect::<Vec<_>>().join(" ").into_bytes();
        if !name.is_empty() {
            line.push(b' ');
            line.extend(name);
        }
        line.push(b'\n');
        cx.out(&line);
    }
    status
}

/// Expands a `tr` set.
fn set(text: &[u8]) -> Vec<u8> {
    let mut plain: Vec<(u8, bool)> = Vec::new();
    let mut at = 0;
    while let Some(&b) = text.get(at) {
        if b == b'[' && text.get(at + 1) == Some(&b':') {
            let rest = text.get(at + 2..).unwrap_or_default();
            if let Some(len) = rest.windows(2).position(|w| w == b":]") {
                let name = rest.get(..len).unwrap_or_default();
                plain.extend((0..=255u8).filter(|c| pattern::class(name, *c)).map(|c| (c, true)));
                at += len + 4;
                continue;
            }
        }
        if b == b'\\' {
            if let Some((bytes, used, _)) = escape::one(text.get(at + 1..).unwrap_or_default(), Style::Printf) {
                plain.extend(bytes.into_iter().map(|c| (c, true)));
                at += 1 + used;
                continue;
            }
            if let Some(next) = text.get(at + 1) {
                plain.push((*next, true));
                at += 2;
                continue;
            }
        }
        plain.push((b, false));
        at += 1;
    }
    let mut out = Vec::new();
    let mut at = 0;
    while let Some(&(b, _)) = plain.get(at) {
        if let (Some(&(b'-', false)), Some(&(high, _))) = (plain.get(at + 1), plain.get(at + 2))
            && high >= b
        {
            out.extend(b..=high);
            at += 3;
            continue;
        }
        out.push(b);
        at += 1;
    }
    out
}

pub(super) fn tr(cx: &mut Cx<'_, '_>, args: &[Vec<u8>]) -> i32 {
    let Ok((options, rest)) =
        cx.options(args, "+cCdst", &[("complement", b'c'), ("delete", b'd'), ("squeeze-repeats", b's'), ("truncate-set1", b't')])
    else {
        return 1;
    };
    if has(&options, 0) {
        return 0;
    }
    let (delete, squeeze) = (has(&options, b'd'), has(&options, b's'));
    let Some(one) = rest.first() else {
        cx.err("tr: missing operand\nTry 'tr --help' for more information.\n");
        return 1;
    };
    if rest.len() == 1 && !delete && !squeeze {
        cx.err(&format!(
            "tr: missing operand after ‘{}’\nTwo strings must be given when translating.\nTry 'tr --help' for more information.\n",
            show(one)
        ));
        return 1;
    }
    let mut from = set(one);
    if has(&options, b'c') || has(&options, b'C') {
        from = (0..=255u8).filter(|b| !from.contains(b)).collect();
    }
    let to = rest.get(1).map(|t| set(t)).unwrap_or_default();
    let last = to.last().copied();
    let mut map: Vec<Option<u8>> = (0..=255u8).map(Some).collect();
    for (at, b) in from.iter().enumerate() {
        if let Some(slot) = map.get_mut(usize::from(*b)) {
            *slot = if delete { None } else { to.get(at).copied().or(last).or(Some(*b)) };
        }
    }
    let squeezed: Vec<u8> = if !squeeze {
        Vec::new()
    } else if rest.len() > 1 {
        to
    } else {
        from
    };
    let data = cx.input();
    cx.x.spend(data.len() as u64 / 1_024);
    let mut out = Vec::with_capacity(data.len());
    let mut before = None;
    for b in data {
        let Some(b) = map.get(usize::from(b)).copied().flatten() else { continue };
        if before == Some(b) && squeezed.contains(&b) {
            continue;
        }
        before = Some(b);
        out.push(b);
    }
    cx.out(&out);
    0
}

/// A sort key: first field, its offset, last field, its offset, and letters.
#[derive(Clone, Default)]
struct Key {
    from: (usize, usize),
    to: Option<(usize, usize)>,
    flags: Vec<u8>,
}

fn key(text: &[u8]) -> Option<Key> {
    let mut key = Key::default();
    let mut parts = text.splitn(2, |b| *b == b',');
    let mut place = |part: &[u8]| {
        let len = part.iter().take_while(|b| b.is_ascii_digit() || **b == b'.').count();
        key.flags.extend_from_slice(part.get(len..).unwrap_or_default());
        let text = String::from_utf8_lossy(part.get(..len)?).into_owned();
        let (f, c) = text.split_once('.').unwrap_or((&text, "0"));
        Some((f.parse::<usize>().ok()?, c.parse::<usize>().ok()?))
    };
    let from = place(parts.next()?)?;
    let to = match parts.next() {
        Some(part) => Some(place(part)?),
        None => None,
    };
    key.from = from;
    key.to = to;
    Some(key)
}

fn extract<'a>(line: &'a [u8], key: &Key, separator: Option<u8>) -> &'a [u8] {
    // Starts of fields: without a separator the blanks before a field belong to it.
    let starts: Vec<usize> = match separator {
        Some(s) => std::iter::once(0).chain(line.iter().enumerate().filter(|(_, b)| **b == s).map(|(at, _)| at + 1)).collect(),
        None => {
            let mut all = vec![0];
            let blank = |b: &u8| matches!(b, b' ' | b'\t');
            for (at, pair) in line.windows(2).enumerate() {
                if let [a, b] = pair
                    && !blank(a)
                    && blank(b)
                {
                    all.push(at + 1);
                }
            }
            all
        }
    };
    let field = |n: usize| starts.get(n.saturating_sub(1)).copied();
    let Some(mut from) = field(key.from.0) else { return b"" };
    if key.flags.contains(&b'b') || key.flags.contains(&b'n') {
        from += line.get(from..).unwrap_or_default().iter().take_while(|b| matches!(b, b' ' | b'\t')).count();
    }
    from += key.from.1.saturating_sub(1);
    let to = match key.to {
        None => line.len(),
        Some((f, 0)) => field(f + 1).map_or(line.len(), |s| if separator.is_some() { s - 1 } else { s }),
        Some((f, c)) => field(f).map_or(line.len(), |s| s + c),
    };
    line.get(from..to.clamp(from, line.len()).max(from)).unwrap_or_default()
}

fn leading_number(text: &[u8]) -> f64 {
    let text = text.trim_ascii_start();
    let len = text.iter().enumerate().take_while(|(at, b)| b.is_ascii_digit() || **b == b'.' || (*at == 0 && **b == b'-')).count();
    number(text.get(..len).unwrap_or_default()).unwrap_or(0.0)
}

fn human_number(text: &[u8]) -> f64 {
    let text = text.trim_ascii();
    let unit = match text.last() {
        Some(b'K' | b'k') => 1e3,
        Some(b'M') => 1e6,
        Some(b'G') => 1e9,
        Some(b'T') => 1e12,
        _ => 1.0,
    };
    leading_number(text) * unit
}

fn compare(a: &[u8], b: &[u8], flags: &[u8]) -> Ordering {
    let order = if flags.contains(&b'h') {
        human_number(a).total_cmp(&human_number(b))
    } else if flags.contains(&b'n') || flags.contains(&b'g') {
        leading_number(a).total_cmp(&leading_number(b))
    } else if flags.contains(&b'V') {
        version(a, b)
    } else if flags.contains(&b'M') {
        let month = |t: &[u8]| {
            crate::system::time::MONTHS
                .iter()
                .position(|m| t.trim_ascii().get(..3).is_some_and(|t| t.eq_ignore_ascii_case(m.get(..3).unwrap_or("").as_bytes())))
        };
        month(a).cmp(&month(b))
    } else if flags.contains(&b'f') || flags.contains(&b'd') {
        let keep = |b: &&u8| !flags.contains(&b'd') || b.is_ascii_alphanumeric() || **b == b' ';
        let fold = |b: &u8| if flags.contains(&b'f') { b.to_ascii_uppercase() } else { *b };
        a.iter().filter(keep).map(fold).cmp(b.iter().filter(keep).map(fold))
    } else {
        a.cmp(b)
    };
    if flags.contains(&b'r') { order.reverse() } else { order }
}

fn version(a: &[u8], b: &[u8]) -> Ordering {
    let (mut i, mut j) = (0, 0);
    loop {
        let (x, y) = (a.get(i..).unwrap_or_default(), b.get(j..).unwrap_or_default());
        let (tx, ty) = (x.iter().take_while(|c| !c.is_ascii_digit()).count(), y.iter().take_while(|c| !c.is_ascii_digit()).count());
        let order = x.get(..tx).cmp(&y.get(..ty));
        if order.is_ne() || x.is_empty() || y.is_empty() {
            return if order.is_ne() { order } else { x.len().cmp(&y.len()) };
        }
        (i, j) = (i + tx, j + ty);
        let (x, y) = (a.get(i..).unwrap_or_default(), b.get(j..).unwrap_or_default());
        let (dx, dy) = (x.iter().take_while(|c| c.is_ascii_digit()).count(), y.iter().take_while(|c| c.is_ascii_digit()).count());
        let trim = |t: &[u8]| t.iter().skip_while(|c| **c == b'0').copied().collect::<Vec<u8>>();
        let (nx, ny) = (trim(x.get(..dx).unwrap_or_default()), trim(y.get(..dy).unwrap_or_default()));
        let order = nx.len().cmp(&ny.len()).then(nx.cmp(&ny));
        if order.is_ne() {
            return order;
        }
        (i, j) = (i + dx, j + dy);
    }
}

pub(super) fn sort(cx: &mut Cx<'_, '_>, args: &[Vec<u8>]) -> i32 {
    let longs = [
        ("reverse", b'r'),
        ("numeric-sort", b'n'),
        ("unique", b'u'),
        ("key=", b'k'),
        ("field-separator=", b't'),
        ("human-numeric-sort", b'h'),
        ("ignore-case", b'f'),
        ("version-sort", b'V'),
        ("output=", b'o'),
        ("random-sort", b'R'),
        ("stable", b's'),
        ("check", b'c'),
    ];
    let Ok((options, rest)) = cx.options(args, "bcdfghik:Mmno:rRst:S:T:uVz", &longs) else { return 2 };
    if has(&options, 0) {
        return 0;
    }
    let mut all: Vec<Vec<u8>> = Vec::new();
    for path in files(rest) {
        match cx.read(&path) {
            Ok(data) => all.extend(lines(&data).map(<[u8]>::to_vec)),
            Err(e) => {
                cx.fail(&format!(
                    "{}: {}: {}",
                    if e == crate::system::fs::Errno::IsDir { "read failed" } else { "cannot read" },
                    show(&path),
                    e.text()
                ));
                return 2;
            }
        }
    }
    if !cx.x.spend(all.len() as u64 / 8) {
        return 137;
    }
    let flags: Vec<u8> = options.iter().map(|o| o.0).filter(|l| b"bdfghMnrV".contains(l)).collect();
    let separator = value(&options, b't').and_then(|t| if t == b"\\0" { Some(0) } else { t.first().copied() });
    let mut keys = Vec::new();
    for (_, text) in options.iter().filter(|o| o.0 == b'k') {
        match key(text) {
            Some(mut k) => {
                if k.flags.is_empty() {
                    k.flags.clone_from(&flags);
                }
                keys.push(k);
            }
            None => {
                cx.fail(&format!("invalid number at field start: invalid count at start of ‘{}’", show(text)));
                return 2;
            }
        }
    }
    if has(&options, b'R') || cx.name == "shuf" {
        for at in (1..all.len()).rev() {
            let to = (cx.st.random.next() % (at as u64 + 1)) as usize;
            all.swap(at, to);
        }
    } else {
        let by = |a: &Vec<u8>, b: &Vec<u8>| {
            if keys.is_empty() {
                return compare(a, b, &flags);
            }
            keys.iter()
                .map(|k| compare(extract(a, k, separator), extract(b, k, separator), &k.flags))
                .find(|o| o.is_ne())
                .unwrap_or(Ordering::Equal)
        };
        let last = |a: &Vec<u8>, b: &Vec<u8>| {
            if has(&options, b's') || has(&options, b'u') {
                Ordering::Equal
            } else if flags.contains(&b'r') {
                b.cmp(a)
            } else {
                a.cmp(b)
            }
        };
        if has(&options, b'c') {
            for pair in all.windows(2) {
                if let [a, b] = pair
                    && by(a, b).is_gt()
                {
                    let line = format!("-:{}: disorder: {}", all.iter().position(|l| l == b).map_or(0, |p| p + 1), show(b));
                    return cx.fail(&line);
                }
            }
            return 0;
        }
        all.sort_by(|a, b| by(a, b).then_with(|| last(a, b)));
        if has(&options, b'u') {
            all.dedup_by(|a, b| by(a, b).is_eq());
        }
    }
    let mut out = all.join(&b'\n');
    if !all.is_empty() {
        out.push(b'\n');
    }
    match value(&options, b'o') {
        Some(path) => {
            let path = path.to_vec();
            i32::from(cx.write_file(&path, out).is_err()) * 2
        }
        None => {
            cx.out(&out);
            0
        }
    }
}

pub(super) fn uniq(cx: &mut Cx<'_, '_>, args: &[Vec<u8>]) -> i32 {
    let Ok((options, rest)) = cx.options(
        args,
        "cdDuif:s:w:z",
        &[("count", b'c'), ("repeated", b'd'), ("unique", b'u'), ("ignore-case", b'i'), ("skip-fields=", b'f'), ("skip-chars=", b's')],
    ) else {
        return 1;
    };
    if has(&options, 0) {
        return 0;
    }
    let path = rest.first().cloned().unwrap_or_else(|| b"-".to_vec());
    let data = match cx.read(&path) {
        Ok(d) => d,
        Err(e) => return cx.fail(&format!("{}: {}", show(&path), e.text())),
    };
    let skip_fields = value(&options, b'f').and_then(|v| number::<usize>(v)).unwrap_or(0);
    let skip = value(&options, b's').and_then(|v| number::<usize>(v)).unwrap_or(0);
    let view = |l: &[u8]| {
        let mut at = 0;
        for _ in 0..skip_fields {
            at += l.get(at..).unwrap_or_default().iter().take_while(|b| b.is_ascii_whitespace()).count();
            at += l.get(at..).unwrap_or_default().iter().take_while(|b| !b.is_ascii_whitespace()).count();
        }
        let text = l.get((at + skip).min(l.len())..).unwrap_or_default().to_vec();
        if has(&options, b'i') { text.to_ascii_lowercase() } else { text }
    };
    let mut groups: Vec<(usize, &[u8], Vec<u8>)> = Vec::new();
    for line in lines(&data) {
        let v = view(line);
        match groups.last_mut() {
            Some((n, _, old)) if *old == v => *n += 1,
            _ => groups.push((1, line, v)),
        }
    }
    cx.x.spend(groups.len() as u64 / 16);
    let mut out = Vec::new();
    for (n, line, _) in groups {
        if has(&options, b'd') && n < 2 || has(&options, b'u') && n > 1 {
            continue;
        }
        if has(&options, b'c') {
            out.extend(format!("{n:>7} ").into_bytes());
        }
        out.extend_from_slice(line);
        out.push(b'\n');
    }
    cx.out(&out);
    0
}

pub(super) fn tee(cx: &mut Cx<'_, '_>, args: &[Vec<u8>]) -> i32 {
    let Ok((options, rest)) = cx.options(args, "aip", &[("append", b'a'), ("ignore-interrupts", b'i')]) else { return 1 };
    if has(&options, 0) {
        return 0;
    }
    let data = cx.input();
    if cx.x.waiting.is_some() {
        return 0;
    }
    let mut status = 0;
    cx.out(&data);
    for path in rest {
        let result = if has(&options, b'a') { cx.append_file(&path, &data) } else { cx.write_file(&path, data.clone()) };
        if let Err(e) = result {
            status = cx.fail(&format!("{}: {}", show(&path), e.text()));
        }
    }
    status
}

pub(super) fn tac(cx: &mut Cx<'_, '_>, args: &[Vec<u8>]) -> i32 {
    each(cx, args, |data| {
        let mut all: Vec<&[u8]> = data.split_inclusive(|b| *b == b'\n').collect();
        all.reverse();
        all.concat()
    })
}

pub(super) fn rev(cx: &mut Cx<'_, '_>, args: &[Vec<u8>]) -> i32 {
    each(cx, args, |data| {
        let mut out = Vec::with_capacity(data.len());
        for line in data.split_inclusive(|b| *b == b'\n') {
            let body = line.strip_suffix(b"\n").unwrap_or(line);
            match std::str::from_utf8(body) {
                Ok(text) => out.extend(text.chars().rev().collect::<String>().into_bytes()),
                Err(_) => out.extend(body.iter().rev()),
            }
            if line.len() > body.len() {
                out.push(b'\n');
            }
        }
        out
    })
}

pub(super) fn fold(cx: &mut Cx<'_, '_>, args: &[Vec<u8>]) -> i32 {
    let width = args
        .iter()
        .skip_while(|a| a.as_slice() != b"-w")
        .nth(1)
        .and_then(|a| number::<usize>(a))
        .or_else(|| args.iter().find_map(|a| number(a.strip_prefix(b"-w")?)))
        .unwrap_or(80)
        .max(1);
    let names: Vec<Vec<u8>> = args
        .iter()
        .enumerate()
        .filter(|(at, a)| *at == 0 || (a.first() != Some(&b'-') && number::<usize>(a).is_none()))
        .map(|(_, a)| a.clone())
        .collect();
    each(cx, &names, move |data| {
        let mut out = Vec::new();
        for line in data.split_inclusive(|b| *b == b'\n') {
            let body = line.strip_suffix(b"\n").unwrap_or(line);
            out.extend(body.chunks(width).collect::<Vec<_>>().join(&b'\n'));
            if line.len() > body.len() {
                out.push(b'\n');
            }
        }
        out
    })
}

fn each(cx: &mut Cx<'_, '_>, args: &[Vec<u8>], change: impl Fn(&[u8]) -> Vec<u8>) -> i32 {
    let Ok((_, rest)) = cx.options(args, "bsr", &[]) else { return 1 };
    let mut status = 0;
    for path in files(rest) {
        match cx.read(&path) {
            Ok(data) => {
                let out = change(&data);
                cx.out(&out);
            }
            Err(e) => status = cx.fail(&format!("failed to open '{}' for reading: {}", show(&path), e.text())),
        }
    }
    status
}

pub(super) fn nl(cx: &mut Cx<'_, '_>, args: &[Vec<u8>]) -> i32 {
    let Ok((options, rest)) = cx.options(args, "b:w:s:v:n:", &[("body-numbering=", b'b')]) else { return 1 };
    let every = value(&options, b'b') == Some(b"a");
    let width = value(&options, b'w').and_then(|v| number::<usize>(v)).unwrap_or(6).min(40);
    let between = value(&options, b's').unwrap_or(b"\t").to_vec();
    let mut n = value(&options, b'v').and_then(|v| number::<i64>(v)).unwrap_or(1);
    let mut out = Vec::new();
    for path in files(rest) {
        let Ok(data) = cx.read(&path) else { return cx.fail(&format!("{}: No such file or directory", show(&path))) };
        for line in lines(&data) {
            if every || !line.is_empty() {
                out.extend(format!("{n:>width$}").into_bytes());
                out.extend_from_slice(&between);
                n += 1;
            } else {
                out.resize(out.len() + width + 1, b' ');
            }
            out.extend_from_slice(line);
            out.push(b'\n');
        }
    }
    cx.out(&out);
    0
}

pub(super) fn seq(cx: &mut Cx<'_, '_>, args: &[Vec<u8>]) -> i32 {
    let mut separator = b"\n".to_vec();
    let mut wide = false;
    let mut format = None;
    let mut values: Vec<Vec<u8>> = Vec::new();
    let mut rest = args.iter().skip(1);
    while let Some(arg) = rest.next() {
        match arg.as_slice() {
            b"-s" => separator = rest.next().cloned().unwrap_or_default(),
            b"-w" => wide = true,
            b"-f" => format = rest.next().cloned(),
            a if a.starts_with(b"-s") => separator = a.get(2..).unwrap_or_default().to_vec(),
            _ => values.push(arg.clone()),
        }
    }
    let mut parsed = Vec::new();
    for v in &values {
        match number::<f64>(v).filter(|n| n.is_finite()) {
            Some(n) => parsed.push(n),
            None => {
                cx.err(&format!("seq: invalid floating point argument: ‘{}’\nTry 'seq --help' for more information.\n", show(v)));
                return 1;
            }
        }
    }
    let (from, step, to) = match parsed.as_slice() {
        [to] => (1.0, 1.0, *to),
        [from, to] => (*from, 1.0, *to),
        [from, step, to] => (*from, *step, *to),
        _ => {
            cx.err("seq: missing operand\nTry 'seq --help' for more information.\n");
            return 1;
        }
    };
    if step == 0.0 {
        return cx.fail("invalid Zero increment value: ‘0’");
    }
    let decimals =
        values.iter().take(2).map(|v| v.iter().position(|b| *b == b'.').map_or(0, |p| v.len() - p - 1)).max().unwrap_or(0).min(20);
    let width = if wide { [from, to].iter().map(|v| format!("{v:.decimals$}").len()).max().unwrap_or(0) } else { 0 };
    let mut out = Vec::new();
    let mut n = 0u64;
    loop {
        let v = from + step * n as f64;
        if step > 0.0 && v > to + 1e-10 || step < 0.0 && v < to - 1e-10 {
            break;
        }
        if n > 0 {
            out.extend_from_slice(&separator);
        }
        match &format {
            Some(f) => {
                let text = String::from_utf8_lossy(f)
                    .replace("%g", &format!("{v:.decimals$}"))
                    .replace("%02g", &format!("{v:02.0}"))
                    .replace("%03g", &format!("{v:03.0}"));
                out.extend(text.into_bytes());
            }
            None => out.extend(format!("{v:0width$.decimals$}").into_bytes()),
        }
        n += 1;
        if n % 256 == 0 && !cx.alive() || out.len() > limits::PIPE {
            break;
        }
    }
    if n > 0 {
        out.push(b'\n');
    }
    cx.out(&out);
    0
}

pub(super) fn yes(cx: &mut Cx<'_, '_>, args: &[Vec<u8>]) -> i32 {
    let mut line = if args.len() > 1 { args.get(1..).unwrap_or_default().join(&b' ') } else { b"y".to_vec() };
    line.push(b'\n');
    // A pipe's reader stops it long before; on its own it runs into the bound.
    let endless = !matches!(cx.io.get(1), Fd::Pipe(_));
    let total = if endless { limits::OUTPUT + 1 } else { 131_072 };
    let block = line.repeat((total / line.len()).max(1));
    cx.out(&block);
    141
}

pub(super) fn od(cx: &mut Cx<'_, '_>, args: &[Vec<u8>]) -> i32 {
    let Ok((options, rest)) = cx.options(args, "A:t:N:j:vcxbdow:", &[("address-radix=", b'A'), ("format=", b't'), ("read-bytes=", b'N')])
    else {
        return 1;
    };
    let path = rest.first().cloned().unwrap_or_else(|| b"-".to_vec());
    let data = match cx.read(&path) {
        Ok(d) => d,
        Err(e) => return cx.fail(&format!("{}: {}", show(&path), e.text())),
    };
    let skip = value(&options, b'j').and_then(|v| number::<usize>(v)).unwrap_or(0);
    let most = value(&options, b'N').and_then(|v| number::<usize>(v)).unwrap_or(usize::MAX);
    let data: Vec<u8> = data.iter().skip(skip).take(most).copied().collect();
    let format = match value(&options, b't') {
        Some(f) => show(f),
        None if has(&options, b'c') => "c".to_owned(),
        None if has(&options, b'x') => "x2".to_owned(),
        None if has(&options, b'b') => "o1".to_owned(),
        None if has(&options, b'd') => "u2".to_owned(),
        None => "o2".to_owned(),
    };
    let radix = value(&options, b'A').and_then(|a| a.first().copied()).unwrap_or(b'o');
    let address = |n: usize| match radix {
        b'n' => String::new(),
        b'd' => format!("{n:07}"),
        b'x' => format!("{n:06x}"),
        _ => format!("{n:07o}"),
    };
    let kind = format.chars().next().unwrap_or('o');
    let size: usize = format
        .trim_start_matches(|c: char| c.is_alphabetic())
        .chars()
        .take_while(char::is_ascii_digit)
        .collect::<String>()
        .parse()
        .unwrap_or(if matches!(kind, 'c' | 'a') { 1 } else { 4 });
    let size = size.clamp(1, 8);
    let mut out = String::new();
    let mut at = 0;
    let mut before: Option<&[u8]> = None;
    let mut starred = false;
    for row in data.chunks(16) {
        if before == Some(row) && !has(&options, b'v') && row.len() == 16 {
            if !starred {
                out.push_str("*\n");
            }
            starred = true;
            at += row.len();
            continue;
        }
        starred = false;
        before = Some(row);
        out.push_str(&address(at));
        for unit in row.chunks(size) {
            let mut wide = [0u8; 8];
            for (slot, b) in wide.iter_mut().zip(unit) {
                *slot = *b;
            }
            let n = u64::from_le_bytes(wide);
            let text = match kind {
                'c' => match n as u8 {
                    0 => "\\0".to_owned(),
                    7 => "\\a".to_owned(),
                    8 => "\\b".to_owned(),
                    9 => "\\t".to_owned(),
                    10 => "\\n".to_owned(),
                    11 => "\\v".to_owned(),
                    12 => "\\f".to_owned(),
                    13 => "\\r".to_owned(),
                    b @ 32..=126 => char::from(b).to_string(),
                    b => format!("{b:03o}"),
                },
                'x' => format!("{n:0w$x}", w = size * 2),
                'd' => {
                    let shift = 64 - 8 * size as u32;
                    ((n << shift) as i64 >> shift).to_string()
                }
                'u' => n.to_string(),
                _ => format!("{n:0w$o}", w = (size * 8).div_ceil(3)),
            };
            let width = match (kind, size) {
                ('c', _) => 4,
                ('x', s) => s * 2 + 1,
                ('d', 1) => 5,
                ('u', 1) => 4,
                ('d', 2) => 7,
                ('u', 2) => 6,
                ('d' | 'u', 4) => 12,
                ('d' | 'u', _) => 21,
                (_, s) => (s * 8).div_ceil(3) + 1,
            };
            out.push_str(&format!("{text:>width$}"));
        }
        out.push('\n');
        at += row.len();
        if !cx.alive() {
            return 137;
        }
    }
    if radix != b'n' {
        out.push_str(&address(at));
        out.push('\n');
    }
    cx.say(&out);
    0
}
