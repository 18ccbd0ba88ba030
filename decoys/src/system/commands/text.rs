//! Programs that read lines: `cat`, `head`, `tail`, `wc`, `tr`, `tee`, `seq`, `od`.

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
pub(super) fn files(rest: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
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
        .and_then(number::<usize>)
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
    let width = value(&options, b'w').and_then(number::<usize>).unwrap_or(6).min(40);
    let between = value(&options, b's').unwrap_or(b"\t").to_vec();
    let mut n = value(&options, b'v').and_then(number::<i64>).unwrap_or(1);
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
        if n.is_multiple_of(256) && !cx.alive() || out.len() > limits::PIPE {
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
    let total = if endless { limits::OUTPUT + line.len() } else { 131_072 };
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
    let skip = value(&options, b'j').and_then(number::<usize>).unwrap_or(0);
    let most = value(&options, b'N').and_then(number::<usize>).unwrap_or(usize::MAX);
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
