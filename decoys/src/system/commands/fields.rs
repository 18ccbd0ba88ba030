//! Programs that take lines apart or set them side by side: `cut`, `paste`, `comm`, `cmp`, `diff`.

use super::{Cx, has, lines, number, show, value};

/// Ranges such as `1,3-5,7-`.
fn ranges(text: &[u8]) -> Option<Vec<(usize, usize)>> {
    let mut out = Vec::new();
    for part in text.split(|b| *b == b',' || *b == b' ') {
        let at = part.iter().position(|b| *b == b'-');
        let (from, to) = match at {
            None => {
                let n = number::<usize>(part)?;
                (n, n)
            }
            Some(at) => {
                let (a, b) = (part.get(..at)?, part.get(at + 1..)?);
                if a.is_empty() && b.is_empty() {
                    return None;
                }
                (if a.is_empty() { 1 } else { number(a)? }, if b.is_empty() { usize::MAX } else { number(b)? })
            }
        };
        if from == 0 || to < from {
            return None;
        }
        out.push((from, to));
    }
    Some(out)
}

pub(super) fn cut(cx: &mut Cx<'_, '_>, args: &[Vec<u8>]) -> i32 {
    let longs = [
        ("delimiter=", b'd'),
        ("fields=", b'f'),
        ("bytes=", b'b'),
        ("characters=", b'c'),
        ("only-delimited", b's'),
        ("output-delimiter=", b'O'),
        ("complement", b'C'),
    ];
    let Ok((options, rest)) = cx.options(args, "d:f:b:c:snz", &longs) else { return 1 };
    if has(&options, 0) {
        return 0;
    }
    let by_field = value(&options, b'f');
    let Some(list) = by_field.or(value(&options, b'b')).or(value(&options, b'c')) else {
        cx.err("cut: you must specify a list of bytes, characters, or fields\nTry 'cut --help' for more information.\n");
        return 1;
    };
    let Some(list_ranges) = ranges(list) else {
        let what = if by_field.is_some() { "field" } else { "byte/character position" };
        let line = if list.iter().any(|b| *b == b'0') && number::<usize>(list) == Some(0) {
            format!(
                "cut: {}s are numbered from 1\nTry 'cut --help' for more information.\n",
                if by_field.is_some() { "field" } else { "byte/character position" }
            )
        } else {
            format!("cut: invalid {what} value ‘{}’\nTry 'cut --help' for more information.\n", show(list))
        };
        cx.err(&line);
        return 1;
    };
    let delimiter = match value(&options, b'd') {
        Some([]) => 0,
        Some([b]) => *b,
        Some(_) => {
            cx.err("cut: the delimiter must be a single character\nTry 'cut --help' for more information.\n");
            return 1;
        }
        None => b'\t',
    };
    let joiner = value(&options, b'O').map_or(vec![delimiter], <[u8]>::to_vec);
    let complement = has(&options, b'C');
    let wanted = |n: usize| list_ranges.iter().any(|(a, b)| (*a..=*b).contains(&n)) != complement;
    let only = has(&options, b's');
    let by_field = by_field.is_some();
    let paths = if rest.is_empty() { vec![b"-".to_vec()] } else { rest };
    let mut status = 0;
    for path in paths {
        let data = match cx.read(&path) {
            Ok(d) => d,
            Err(e) => {
                status = cx.fail(&format!("{}: {}", show(&path), e.text()));
                continue;
            }
        };
        let mut out = Vec::new();
        for line in lines(&data) {
            if by_field {
                if !line.contains(&delimiter) {
                    if !only {
                        out.extend_from_slice(line);
                        out.push(b'\n');
                    }
                    continue;
                }
                let fields: Vec<&[u8]> =
                    line.split(|b| *b == delimiter).enumerate().filter(|(n, _)| wanted(n + 1)).map(|(_, f)| f).collect();
                out.extend(fields.join(joiner.as_slice()));
            } else {
                out.extend(line.iter().enumerate().filter(|(n, _)| wanted(n + 1)).map(|(_, b)| *b));
            }
            out.push(b'\n');
        }
        cx.x.spend(data.len() as u64 / 512);
        cx.out(&out);
    }
    status
}

pub(super) fn paste(cx: &mut Cx<'_, '_>, args: &[Vec<u8>]) -> i32 {
    let Ok((options, rest)) = cx.options(args, "d:sz", &[("delimiters=", b'd'), ("serial", b's')]) else { return 1 };
    let delimiters = value(&options, b'd').unwrap_or(b"\t").to_vec();
    let (delimiters, _) = crate::system::shell::escape::all(&delimiters, crate::system::shell::escape::Style::Printf);
    let paths = if rest.is_empty() { vec![b"-".to_vec()] } else { rest };
    let mut columns: Vec<Vec<Vec<u8>>> = Vec::new();
    let dashes = paths.iter().filter(|p| p.as_slice() == b"-").count().max(1);
    let mut shared: Option<Vec<Vec<u8>>> = None;
    let mut dash = 0;
    for path in paths {
        if path == b"-" {
            // Several dashes share the input line by line.
            let data = match &shared {
                Some(d) => d.clone(),
                None => {
                    let data = cx.input();
                    let all: Vec<Vec<u8>> = lines(&data).map(<[u8]>::to_vec).collect();
                    shared = Some(all.clone());
                    all
                }
            };
            columns.push(if has(&options, b's') { data } else { data.into_iter().skip(dash).step_by(dashes).collect() });
            dash += 1;
            continue;
        }
        match cx.read(&path) {
            Ok(data) => columns.push(lines(&data).map(<[u8]>::to_vec).collect()),
            Err(e) => return cx.fail(&format!("{}: {}", show(&path), e.text())),
        }
    }
    let join = |parts: &[Vec<u8>]| {
        let mut line = Vec::new();
        for (n, part) in parts.iter().enumerate() {
            if n > 0 {
                line.extend(delimiters.get((n - 1) % delimiters.len().max(1)));
            }
            line.extend_from_slice(part);
        }
        line.push(b'\n');
        line
    };
    let mut out = Vec::new();
    if has(&options, b's') {
        for column in &columns {
            out.extend(join(column));
        }
    } else {
        for row in 0..columns.iter().map(Vec::len).max().unwrap_or(0) {
            let parts: Vec<Vec<u8>> = columns.iter().map(|c| c.get(row).cloned().unwrap_or_default()).collect();
            out.extend(join(&parts));
        }
    }
    cx.x.spend(out.len() as u64 / 256);
    cx.out(&out);
    0
}

/// Two files to compare.
fn pair(cx: &mut Cx<'_, '_>, rest: &[Vec<u8>]) -> Option<(Vec<u8>, Vec<u8>)> {
    let mut data = Vec::new();
    for path in rest.iter().take(2) {
        match cx.read(path) {
            Ok(d) => data.push(d.as_ref().clone()),
            Err(e) => {
                cx.fail(&format!("{}: {}", show(path), e.text()));
                return None;
            }
        }
    }
    let b = data.pop()?;
    let a = data.pop();
    if a.is_none() {
        let line = format!(
            "{n}: missing operand after '{}'\n{n}: Try '{n} --help' for more information.\n",
            show(rest.first().map_or(b"".as_slice(), Vec::as_slice)),
            n = cx.name
        );
        cx.err(&line);
    }
    Some((a?, b))
}

pub(super) fn comm(cx: &mut Cx<'_, '_>, args: &[Vec<u8>]) -> i32 {
    let Ok((options, rest)) = cx.options(args, "123i", &[]) else { return 1 };
    let Some((a, b)) = pair(cx, &rest) else { return 1 };
    let (mut a, mut b) = (lines(&a).peekable(), lines(&b).peekable());
    let mut out = Vec::new();
    loop {
        let order = match (a.peek(), b.peek()) {
            (None, None) => break,
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, Some(_)) => std::cmp::Ordering::Greater,
            (Some(x), Some(y)) => x.cmp(y),
        };
        let (column, line) = match order {
            std::cmp::Ordering::Less => (1u8, a.next()),
            std::cmp::Ordering::Greater => (2, b.next()),
            std::cmp::Ordering::Equal => {
                a.next();
                (3, b.next())
            }
        };
        if !has(&options, b'0' + column) {
            for n in 1..column {
                if !has(&options, b'0' + n) {
                    out.push(b'\t');
                }
            }
            out.extend_from_slice(line.unwrap_or_default());
            out.push(b'\n');
        }
    }
    cx.out(&out);
    0
}

pub(super) fn cmp(cx: &mut Cx<'_, '_>, args: &[Vec<u8>]) -> i32 {
    let Ok((options, rest)) = cx.options(args, "sl", &[("silent", b's'), ("quiet", b's')]) else { return 2 };
    let Some((a, b)) = pair(cx, &rest) else { return 2 };
    let name = |n: usize| show(rest.get(n).map_or(b"".as_slice(), Vec::as_slice));
    match a.iter().zip(&b).position(|(x, y)| x != y) {
        Some(at) => {
            if !has(&options, b's') {
                let line = 1 + a.iter().take(at).filter(|c| **c == b'\n').count();
                cx.say(&format!("{} {} differ: byte {}, line {line}\n", name(0), name(1), at + 1));
            }
            1
        }
        None if a.len() != b.len() => {
            if !has(&options, b's') {
                let short = if a.len() < b.len() { 0 } else { 1 };
                cx.err(&format!(
                    "cmp: EOF on {} after byte {}, in line {}\n",
                    name(short),
                    a.len().min(b.len()),
                    1 + a.iter().filter(|c| **c == b'\n').count()
                ));
            }
            1
        }
        None => 0,
    }
}

pub(super) fn diff(cx: &mut Cx<'_, '_>, args: &[Vec<u8>]) -> i32 {
    let Ok((options, rest)) = cx.options(args, "quUrNaibw", &[("brief", b'q'), ("unified", b'u')]) else { return 2 };
    let Some((a, b)) = pair(cx, &rest) else { return 2 };
    if a == b {
        return 0;
    }
    let name = |n: usize| show(rest.get(n).map_or(b"".as_slice(), Vec::as_slice));
    if has(&options, b'q') {
        cx.say(&format!("Files {} and {} differ\n", name(0), name(1)));
        return 1;
    }
    let (x, y): (Vec<&[u8]>, Vec<&[u8]>) = (lines(&a).collect(), lines(&b).collect());
    if x.len() * y.len() > 4_000_000 || !cx.x.spend((x.len() * y.len()) as u64 / 64) {
        cx.say(&format!("Files {} and {} differ\n", name(0), name(1)));
        return 1;
    }
    // Longest common subsequence, from the end.
    let width = y.len() + 1;
    let mut table = vec![0u32; (x.len() + 1) * width];
    let at = |t: &[u32], i: usize, j: usize| t.get(i * width + j).copied().unwrap_or(0);
    for i in (0..x.len()).rev() {
        for j in (0..y.len()).rev() {
            let v = if x.get(i) == y.get(j) { at(&table, i + 1, j + 1) + 1 } else { at(&table, i + 1, j).max(at(&table, i, j + 1)) };
            if let Some(slot) = table.get_mut(i * width + j) {
                *slot = v;
            }
        }
    }
    let mut out = Vec::new();
    let (mut i, mut j) = (0, 0);
    while i < x.len() || j < y.len() {
        if i < x.len() && x.get(i) == y.get(j) {
            (i, j) = (i + 1, j + 1);
            continue;
        }
        let (i0, j0) = (i, j);
        while (i < x.len() || j < y.len()) && !(i < x.len() && j < y.len() && x.get(i) == y.get(j)) {
            if j >= y.len() || (i < x.len() && at(&table, i + 1, j) >= at(&table, i, j + 1)) { i += 1 } else { j += 1 }
        }
        let range = |from: usize, to: usize| if to - from == 1 { format!("{}", from + 1) } else { format!("{},{}", from + 1, to) };
        let head = match (i > i0, j > j0) {
            (true, true) => format!("{}c{}\n", range(i0, i), range(j0, j)),
            (true, false) => format!("{}d{j0}\n", range(i0, i)),
            _ => format!("{i0}a{}\n", range(j0, j)),
        };
        out.extend(head.into_bytes());
        for line in x.get(i0..i).unwrap_or_default() {
            out.extend([b"< ".as_slice(), line, b"\n"].concat());
        }
        if i > i0 && j > j0 {
            out.extend_from_slice(b"---\n");
        }
        for line in y.get(j0..j).unwrap_or_default() {
            out.extend([b"> ".as_slice(), line, b"\n"].concat());
        }
    }
    cx.out(&out);
    1
}
