//! `sort`, `shuf`, `uniq`.

use std::cmp::Ordering;

use super::{Cx, has, lines, number, show, text::files, value};

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
    let skip_fields = value(&options, b'f').and_then(number::<usize>).unwrap_or(0);
    let skip = value(&options, b's').and_then(number::<usize>).unwrap_or(0);
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
