//! `find` and `xargs`.

use super::{Cx, has, number, shells, show, value};
use crate::system::{
    fs::{self, Kind, Node},
    limits,
    shell::pattern,
};

enum Test {
    Name(Vec<u8>, bool),
    Path(Vec<u8>),
    Type(Vec<u8>),
    Size(u8, u64, u64),
    Age(u8, i64, i64),
    Perm(u8, u32),
    User(u32),
    Group(u32),
    Newer(i64),
    Empty,
    Always(bool),
    Print(u8),
    Format(Vec<u8>),
    Exec(Vec<Vec<u8>>, bool),
    Delete,
    Prune,
    Quit,
    Ls,
    Not(Box<Test>),
    And(Vec<Test>),
    Or(Vec<Test>),
}

struct Build<'a> {
    words: &'a [Vec<u8>],
    at: usize,
    depth: usize,
    acts: bool,
    min: usize,
    max: usize,
    depth_first: bool,
}

fn signed(text: &[u8]) -> (u8, &[u8]) {
    match text.split_first() {
        Some((s @ (b'+' | b'-'), rest)) => (*s, rest),
        _ => (b'=', text),
    }
}

impl Build<'_> {
    fn next(&mut self) -> Option<Vec<u8>> {
        let w = self.words.get(self.at).cloned();
        self.at += 1;
        w
    }

    fn or(&mut self, cx: &mut Cx<'_, '_>) -> Result<Test, String> {
        self.depth += 1;
        if self.depth > 24 {
            return Err("expression too complex".to_owned());
        }
        let mut all = vec![self.and(cx)?];
        while matches!(self.words.get(self.at).map(Vec::as_slice), Some(b"-o" | b"-or")) {
            self.at += 1;
            all.push(self.and(cx)?);
        }
        self.depth -= 1;
        Ok(Test::Or(all))
    }

    fn and(&mut self, cx: &mut Cx<'_, '_>) -> Result<Test, String> {
        let mut all = Vec::new();
        while let Some(word) = self.words.get(self.at) {
            match word.as_slice() {
                b"-a" | b"-and" => self.at += 1,
                b"-o" | b"-or" | b")" => break,
                _ => all.push(self.one(cx)?),
            }
        }
        Ok(Test::And(all))
    }

    fn one(&mut self, cx: &mut Cx<'_, '_>) -> Result<Test, String> {
        let word = self.next().unwrap_or_default();
        let shown = show(&word);
        let argument = |b: &mut Self| b.next().ok_or_else(|| format!("missing argument to `{shown}'"));
        Ok(match word.as_slice() {
            b"!" | b"-not" => Test::Not(Box::new(self.one(cx)?)),
            b"(" => {
                let inner = self.or(cx)?;
                if self.next().as_deref() != Some(b")") {
                    return Err("invalid expression; expected to find a ')' but didn't see one.".to_owned());
                }
                inner
            }
            b"-name" => Test::Name(argument(self)?, false),
            b"-iname" => Test::Name(argument(self)?.to_ascii_lowercase(), true),
            b"-path" | b"-wholename" => Test::Path(argument(self)?),
            b"-type" => Test::Type(argument(self)?),
            b"-size" => {
                let text = argument(self)?;
                let (sign, rest) = signed(&text);
                let digits = rest.iter().take_while(|b| b.is_ascii_digit()).count();
                let unit = match rest.get(digits..) {
                    Some(b"c") => 1,
                    Some(b"w") => 2,
                    Some(b"k") => 1 << 10,
                    Some(b"M") => 1 << 20,
                    Some(b"G") => 1 << 30,
                    _ => 512,
                };
                let n = number(rest.get(..digits).unwrap_or_default()).ok_or_else(|| format!("invalid -size type `{}'", show(&text)))?;
                Test::Size(sign, n, unit)
            }
            b"-mtime" | b"-mmin" | b"-ctime" | b"-cmin" | b"-atime" | b"-amin" => {
                let text = argument(self)?;
                let (sign, rest) = signed(&text);
                let n = number(rest).ok_or_else(|| format!("invalid argument `{}' to `{shown}'", show(&text)))?;
                Test::Age(sign, n, if word.ends_with(b"min") { 60 } else { 86_400 })
            }
            b"-perm" => {
                let text = argument(self)?;
                let (sign, rest) = match text.split_first() {
                    Some((s @ (b'-' | b'/'), rest)) => (*s, rest),
                    _ => (b'=', text.as_slice()),
                };
                let mode = super::files::mode(rest, 0, false, 0).ok_or_else(|| format!("invalid mode ‘{}’", show(&text)))?;
                Test::Perm(sign, mode)
            }
            b"-user" => {
                let name = argument(self)?;
                Test::User(
                    cx.x.account(&name)
                        .map(|a| a.uid)
                        .or(number(&name))
                        .ok_or_else(|| format!("‘{}’ is not the name of a known user", show(&name)))?,
                )
            }
            b"-group" => {
                let name = argument(self)?;
                Test::Group(
                    cx.x.groups()
                        .iter()
                        .find(|g| g.0 == name)
                        .map(|g| g.1)
                        .or(number(&name))
                        .ok_or_else(|| format!("‘{}’ is not the name of an existing group", show(&name)))?,
                )
            }
            b"-newer" | b"-cnewer" => {
                let path = argument(self)?;
                match cx.stat(&path, true) {
                    Ok((_, n)) => Test::Newer(n.mtime),
                    Err(e) => return Err(format!("‘{}’: {}", show(&path), e.text())),
                }
            }
            b"-empty" => Test::Empty,
            b"-true" => Test::Always(true),
            b"-false" => Test::Always(false),
            b"-executable" => Test::Perm(b'/', 0o111),
            b"-readable" => Test::Perm(b'/', 0o444),
            b"-writable" => Test::Perm(b'/', 0o222),
            b"-print" => {
                self.acts = true;
                Test::Print(b'\n')
            }
            b"-print0" => {
                self.acts = true;
                Test::Print(0)
            }
            b"-printf" => {
                self.acts = true;
                Test::Format(argument(self)?)
            }
            b"-ls" => {
                self.acts = true;
                Test::Ls
            }
            b"-delete" => {
                self.acts = true;
                self.depth_first = true;
                Test::Delete
            }
            b"-prune" => Test::Prune,
            b"-quit" => Test::Quit,
            b"-exec" | b"-execdir" | b"-ok" => {
                self.acts = true;
                let mut words = Vec::new();
                let mut many = false;
                loop {
                    match self.next() {
                        None => return Err(format!("missing argument to `{shown}'")),
                        Some(w) if w == b";" => break,
                        Some(w) if w == b"+" && words.last().is_some_and(|l: &Vec<u8>| l == b"{}") => {
                            many = true;
                            break;
                        }
                        Some(w) => words.push(w),
                    }
                }
                Test::Exec(words, many)
            }
            b"-maxdepth" => {
                self.max = number(&argument(self)?).unwrap_or(0);
                Test::Always(true)
            }
            b"-mindepth" => {
                self.min = number(&argument(self)?).unwrap_or(0);
                Test::Always(true)
            }
            b"-depth" => {
                self.depth_first = true;
                Test::Always(true)
            }
            b"-xdev" | b"-mount" | b"-follow" | b"-noleaf" | b"-warn" | b"-nowarn" | b"-daystart" => Test::Always(true),
            b"-regex" | b"-iregex" | b"-links" | b"-inum" | b"-samefile" | b"-fstype" => {
                argument(self)?;
                Test::Always(false)
            }
            _ if word.first() == Some(&b'-') => return Err(format!("unknown predicate `{shown}'")),
            _ => return Err(format!("paths must precede expression: `{shown}'")),
        })
    }
}

struct Walk {
    test: Test,
    min: usize,
    max: usize,
    depth_first: bool,
    pruned: bool,
    quit: bool,
    batch: Vec<Vec<u8>>,
    status: i32,
    seen: usize,
}

pub(super) fn find(cx: &mut Cx<'_, '_>, args: &[Vec<u8>]) -> i32 {
    let mut rest = args.get(1..).unwrap_or_default();
    while matches!(rest.first().map(Vec::as_slice), Some(b"-L" | b"-H" | b"-P")) {
        rest = rest.get(1..).unwrap_or_default();
    }
    let count = rest.iter().take_while(|w| w.first() != Some(&b'-') && !matches!(w.as_slice(), b"!" | b"(")).count();
    let (paths, words) = rest.split_at_checked(count).unwrap_or((rest, &[]));
    let paths = if paths.is_empty() { vec![b".".to_vec()] } else { paths.to_vec() };
    let mut build = Build { words, at: 0, depth: 0, acts: false, min: 0, max: usize::MAX, depth_first: false };
    let test = match build.or(cx) {
        Ok(t) if build.at >= words.len() => t,
        Ok(_) => return cx.fail("invalid expression; you have too many ')'"),
        Err(message) => return cx.fail(&message),
    };
    let test = if build.acts { test } else { Test::And(vec![test, Test::Print(b'\n')]) };
    let mut walk = Walk {
        test,
        min: build.min,
        max: build.max,
        depth_first: build.depth_first,
        pruned: false,
        quit: false,
        batch: Vec::new(),
        status: 0,
        seen: 0,
    };
    for path in paths {
        match cx.stat(&path, false) {
            Ok((real, node)) => visit(cx, &mut walk, &real, &path, &node, 0),
            Err(e) => {
                cx.fail(&format!("‘{}’: {}", show(&path), e.text()));
                walk.status = 1;
            }
        }
    }
    if !walk.batch.is_empty() {
        let batch = std::mem::take(&mut walk.batch);
        run_batches(cx, &walk.test, &batch);
    }
    walk.status
}

fn run_batches(cx: &mut Cx<'_, '_>, test: &Test, batch: &[Vec<u8>]) {
    match test {
        Test::And(all) | Test::Or(all) => all.iter().for_each(|t| run_batches(cx, t, batch)),
        Test::Not(t) => run_batches(cx, t, batch),
        Test::Exec(words, true) => {
            let mut all: Vec<Vec<u8>> = words.iter().take(words.len().saturating_sub(1)).cloned().collect();
            all.extend(batch.iter().cloned());
            shells::run_words(cx, &all);
        }
        _ => {}
    }
}

fn visit(cx: &mut Cx<'_, '_>, walk: &mut Walk, real: &[u8], shown: &[u8], node: &Node, depth: usize) {
    walk.seen += 1;
    if walk.quit || !cx.alive() || depth > 64 || walk.seen > 40_000 {
        return;
    }
    walk.pruned = false;
    let test = std::mem::replace(&mut walk.test, Test::Always(true));
    if !walk.depth_first && depth >= walk.min {
        check(cx, walk, &test, real, shown, node, depth);
    }
    walk.test = test;
    if node.is_dir() && depth < walk.max && !walk.pruned && !walk.quit {
        if !cx.x.fs.may(&cx.st.who, node, 5) {
            cx.fail(&format!("‘{}’: Permission denied", show(shown)));
            walk.status = 1;
        } else {
            for (name, child) in cx.x.fs.list(real) {
                visit(cx, walk, &fs::join(real, &name), &fs::join(shown, &name), &child, depth + 1);
            }
        }
    }
    if walk.depth_first && depth >= walk.min && !walk.quit {
        let test = std::mem::replace(&mut walk.test, Test::Always(true));
        check(cx, walk, &test, real, shown, node, depth);
        walk.test = test;
    }
}

fn order(sign: u8, have: i64, want: i64) -> bool {
    match sign {
        b'+' => have > want,
        b'-' => have < want,
        _ => have == want,
    }
}

fn check(cx: &mut Cx<'_, '_>, walk: &mut Walk, test: &Test, real: &[u8], shown: &[u8], node: &Node, depth: usize) -> bool {
    let name = shown.rsplit(|b| *b == b'/').find(|p| !p.is_empty()).unwrap_or(b"/");
    match test {
        Test::And(all) => all.iter().all(|t| check(cx, walk, t, real, shown, node, depth)),
        Test::Or(all) => all.iter().any(|t| check(cx, walk, t, real, shown, node, depth)),
        Test::Not(t) => !check(cx, walk, t, real, shown, node, depth),
        Test::Name(p, fold) => {
            if *fold {
                pattern::matches(p, &name.to_ascii_lowercase())
            } else {
                pattern::matches(p, name)
            }
        }
        Test::Path(p) => pattern::matches(p, shown),
        Test::Type(letters) => letters.split(|b| *b == b',').any(|l| {
            matches!(
                (l.first(), &node.kind),
                (Some(b'f'), Kind::File(_))
                    | (Some(b'd'), Kind::Dir)
                    | (Some(b'l'), Kind::Link(_))
                    | (Some(b'c'), Kind::Char(..))
                    | (Some(b'b'), Kind::Block(..))
                    | (Some(b'p'), Kind::Fifo)
                    | (Some(b's'), Kind::Socket)
            )
        }),
        Test::Size(sign, n, unit) => order(*sign, node.size().div_ceil(*unit) as i64, *n as i64),
        Test::Age(sign, n, unit) => order(*sign, (cx.now() - node.mtime).div_euclid(*unit), *n),
        Test::Perm(b'-', m) => node.mode & m == *m,
        Test::Perm(b'/', m) => *m == 0 || node.mode & m != 0,
        Test::Perm(_, m) => node.mode == *m,
        Test::User(u) => node.uid == *u,
        Test::Group(g) => node.gid == *g,
        Test::Newer(t) => node.mtime > *t,
        Test::Empty => (node.is_file() && node.size() == 0) || (node.is_dir() && cx.x.fs.list(real).is_empty()),
        Test::Always(b) => *b,
        Test::Print(end) => {
            cx.out(&[shown, &[*end]].concat());
            true
        }
        Test::Format(format) => {
            let (format, _) = crate::system::shell::escape::all(format, crate::system::shell::escape::Style::Printf);
            let mut out = Vec::new();
            let mut bytes = format.iter();
            while let Some(b) = bytes.next() {
                if *b != b'%' {
                    out.push(*b);
                    continue;
                }
                let text = match bytes.next() {
                    Some(b'p') => shown.to_vec(),
                    Some(b'f') => name.to_vec(),
                    Some(b'h') => {
                        let at = shown.iter().rposition(|b| *b == b'/');
                        at.map_or(b".".to_vec(), |p| shown.get(..p).unwrap_or_default().to_vec())
                    }
                    Some(b's') => node.size().to_string().into_bytes(),
                    Some(b'm') => format!("{:o}", node.mode).into_bytes(),
                    Some(b'M') => node.mode_text().into_bytes(),
                    Some(b'u') => cx.x.user_name(node.uid),
                    Some(b'g') => cx.x.group_name(node.gid),
                    Some(b'y') => node.mode_text().bytes().take(1).map(|b| if b == b'-' { b'f' } else { b }).collect(),
                    Some(b'd') => depth.to_string().into_bytes(),
                    Some(b'i') => node.ino.to_string().into_bytes(),
                    Some(b't') => crate::system::time::format(b"%a %b %e %H:%M:%S.%N0 %Y", node.mtime, node.nanos),
                    Some(b'T') => match bytes.next() {
                        Some(b'@') => format!("{}.{:09}0", node.mtime, node.nanos).into_bytes(),
                        Some(b'+') => crate::system::time::format(b"%Y-%m-%d+%H:%M:%S.%N0", node.mtime, node.nanos),
                        Some(c) => crate::system::time::format(&[b'%', *c], node.mtime, node.nanos),
                        None => Vec::new(),
                    },
                    Some(b'%') => b"%".to_vec(),
                    Some(other) => vec![b'%', *other],
                    None => Vec::new(),
                };
                out.extend(text);
            }
            cx.out(&out);
            true
        }
        Test::Ls => {
            let (user, group) = (show(&cx.x.user_name(node.uid)), show(&cx.x.group_name(node.gid)));
            let links = cx.x.fs.nlink(real, node);
            let when = crate::system::time::ls(node.mtime, cx.now());
            cx.say(&format!(
                "{:>9} {:>6} {} {links:>3} {user:<8} {group:<8} {:>8} {when} {}\n",
                node.ino,
                node.blocks() / 2,
                node.mode_text(),
                node.size(),
                show(shown)
            ));
            true
        }
        Test::Exec(_, true) => {
            if walk.batch.len() < limits::WORDS {
                walk.batch.push(shown.to_vec());
            }
            true
        }
        Test::Exec(words, false) => {
            let all: Vec<Vec<u8>> = words
                .iter()
                .map(|w| {
                    let text = show(w);
                    if text.contains("{}") { text.replace("{}", &show(shown)).into_bytes() } else { w.clone() }
                })
                .collect();
            shells::run_words(cx, &all) == 0
        }
        Test::Delete => {
            if shown == b"." {
                return true;
            }
            cx.x.note_removed(real);
            let who = cx.st.who.clone();
            match cx.x.fs.remove(&who, real) {
                Ok(()) => true,
                Err(e) => {
                    cx.fail(&format!("cannot delete ‘{}’: {}", show(shown), e.text()));
                    walk.status = 1;
                    false
                }
            }
        }
        Test::Prune => {
            walk.pruned = true;
            true
        }
        Test::Quit => {
            walk.quit = true;
            true
        }
    }
}

pub(super) fn xargs(cx: &mut Cx<'_, '_>, args: &[Vec<u8>]) -> i32 {
    let longs = [
        ("null", b'0'),
        ("max-args=", b'n'),
        ("no-run-if-empty", b'r'),
        ("replace[=", b'i'),
        ("max-procs=", b'P'),
        ("delimiter=", b'd'),
        ("verbose", b't'),
        ("max-lines=", b'L'),
        ("arg-file=", b'a'),
    ];
    let Ok((options, words)) = cx.options(args, "+0n:rI:P:d:tL:s:a:xpE:", &longs) else { return 1 };
    if has(&options, 0) {
        return 0;
    }
    let data = match value(&options, b'a') {
        Some(path) => {
            let path = path.to_vec();
            match cx.read(&path) {
                Ok(d) => d.as_ref().clone(),
                Err(e) => return cx.fail(&format!("Cannot open input file ‘{}’: {}", show(&path), e.text())),
            }
        }
        None => cx.input(),
    };
    if cx.x.waiting.is_some() {
        return 0;
    }
    let words = if words.is_empty() { vec![b"echo".to_vec()] } else { words };
    let replace = value(&options, b'I').map(<[u8]>::to_vec);
    let delimiter = if has(&options, b'0') {
        Some(0)
    } else {
        value(&options, b'd')
            .map(|d| crate::system::shell::escape::all(d, crate::system::shell::escape::Style::Printf).0.first().copied().unwrap_or(b'\n'))
    };
    let items: Vec<Vec<u8>> = if let Some(d) = delimiter {
        let body = data.strip_suffix(&[d]).unwrap_or(&data);
        if data.is_empty() { Vec::new() } else { body.split(|b| *b == d).map(<[u8]>::to_vec).collect() }
    } else if replace.is_some() || has(&options, b'L') {
        super::lines(&data).map(|l| l.trim_ascii_start().to_vec()).filter(|l| !l.is_empty()).collect()
    } else {
        match tokens(&data) {
            Some(t) => t,
            None => return cx.fail("unmatched single quote; by default quotes are special to xargs unless you use the -0 option"),
        }
    };
    let mut status = 0;
    let mut run = |cx: &mut Cx<'_, '_>, all: &[Vec<u8>]| {
        if has(&options, b't') {
            cx.err(&format!("{}\n", show(&all.join(&b' '))));
        }
        match shells::run_words(cx, all) {
            0 => {}
            126 => status = 126,
            127 => status = 127,
            255 => status = 124,
            _ => status = status.max(123),
        }
    };
    if let Some(mark) = replace {
        for item in items {
            if !cx.alive() {
                break;
            }
            let all: Vec<Vec<u8>> = words.iter().map(|w| show(w).replace(&show(&mark), &show(&item)).into_bytes()).collect();
            run(cx, &all);
        }
        return status;
    }
    if items.is_empty() && has(&options, b'r') {
        return 0;
    }
    let size = value(&options, b'n').or(value(&options, b'L')).and_then(|n| number::<usize>(n)).unwrap_or(4_096).max(1);
    let chunks: Vec<&[Vec<u8>]> = if items.is_empty() { vec![&[]] } else { items.chunks(size).collect() };
    for chunk in chunks {
        if !cx.alive() {
            break;
        }
        let mut all = words.clone();
        all.extend(chunk.iter().cloned());
        run(cx, &all);
    }
    status
}

/// Words as `xargs` takes them apart: blanks, quotes, backslashes.
fn tokens(data: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut out = Vec::new();
    let mut now: Option<Vec<u8>> = None;
    let mut bytes = data.iter().copied();
    while let Some(b) = bytes.next() {
        match b {
            b' ' | b'\t' | b'\n' | b'\r' | 11 | 12 if b != b'\r' => out.extend(now.take()),
            b'\'' | b'"' => {
                let word = now.get_or_insert_with(Vec::new);
                loop {
                    match bytes.next() {
                        None | Some(b'\n') => return None,
                        Some(c) if c == b => break,
                        Some(c) => word.push(c),
                    }
                }
            }
            b'\\' => now.get_or_insert_with(Vec::new).extend(bytes.next()),
            _ => now.get_or_insert_with(Vec::new).push(b),
        }
        if out.len() > limits::WORDS {
            break;
        }
    }
    out.extend(now);
    Some(out)
}
