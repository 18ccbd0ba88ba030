//! `cp`, `mv`, `install`, `dd`.

use super::{Cx, has, number, show, value};
use crate::system::{
    api::How,
    fs::{self, Content, Errno, Kind, Made},
    limits,
    shell::exec::Fd,
};

pub(super) fn cp(cx: &mut Cx<'_, '_>, args: &[Vec<u8>]) -> i32 {
    let longs = [
        ("recursive", b'r'),
        ("force", b'f'),
        ("archive", b'a'),
        ("preserve[=", b'p'),
        ("verbose", b'v'),
        ("no-clobber", b'n'),
        ("target-directory=", b't'),
        ("update", b'u'),
        ("no-target-directory", b'T'),
    ];
    let Ok((options, mut rest)) = cx.options(args, "rRafpvnduiLPHslt:Tb", &longs) else { return 1 };
    if has(&options, 0) {
        return 0;
    }
    let Some(target) = target(cx, &options, &mut rest) else { return 1 };
    let recursive = has(&options, b'r') || has(&options, b'R') || has(&options, b'a');
    let keep = has(&options, b'p') || has(&options, b'a');
    let mut status = 0;
    for source in rest {
        let to = place(cx, &source, &target);
        match cx.stat(&source, !recursive || has(&options, b'L')) {
            Err(e) => status = cx.fail(&format!("cannot stat '{}': {}", show(&source), e.text())),
            Ok((_, node)) if node.is_dir() && !recursive => {
                status = cx.fail(&format!("-r not specified; omitting directory '{}'", show(&source)));
            }
            Ok((real, _)) => {
                if has(&options, b'n') && cx.stat(&to, true).is_ok() {
                    continue;
                }
                status |= copy(cx, &real, &source, &to, keep, has(&options, b'v'), 0);
            }
        }
    }
    status
}

/// Takes the destination off the operands.
fn target(cx: &mut Cx<'_, '_>, options: &[(u8, Vec<u8>)], rest: &mut Vec<Vec<u8>>) -> Option<Vec<u8>> {
    if let Some(dir) = value(options, b't') {
        return Some(dir.to_vec());
    }
    let n = cx.name;
    if rest.is_empty() {
        cx.err(&format!("{n}: missing file operand\nTry '{n} --help' for more information.\n"));
        return None;
    }
    if rest.len() == 1 {
        cx.err(&format!("{n}: missing destination file operand after '{}'\nTry '{n} --help' for more information.\n", show(rest.first()?)));
        return None;
    }
    let target = rest.pop()?;
    let is_dir = cx.stat(&target, true).is_ok_and(|(_, node)| node.is_dir());
    if rest.len() > 1 && !is_dir {
        let why = if cx.stat(&target, true).is_ok() { "Not a directory" } else { "No such file or directory" };
        cx.err(&format!("{n}: target '{}': {why}\n", show(&target)));
        return None;
    }
    Some(target)
}

fn place(cx: &mut Cx<'_, '_>, source: &[u8], target: &[u8]) -> Vec<u8> {
    if cx.stat(target, true).is_ok_and(|(_, n)| n.is_dir()) {
        let name = source.rsplit(|b| *b == b'/').find(|p| !p.is_empty()).unwrap_or_default();
        return fs::join(target, name);
    }
    target.to_vec()
}

fn copy(cx: &mut Cx<'_, '_>, real: &[u8], source: &[u8], to: &[u8], keep: bool, verbose: bool, depth: usize) -> i32 {
    let Some(node) = cx.x.fs.get(real) else { return 1 };
    let found = match cx.x.fs.find(&cx.st.cwd, to, true) {
        Ok(f) => f,
        Err(e) => return cx.fail(&format!("cannot create regular file '{}': {}", show(to), e.text())),
    };
    let who = cx.st.who.clone();
    if found.path == real {
        return cx.fail(&format!("'{}' and '{}' are the same file", show(source), show(to)));
    }
    if verbose {
        cx.say(&format!("'{}' -> '{}'\n", show(source), show(to)));
    }
    if node.is_dir() {
        if depth > 32 || !cx.alive() {
            return 1;
        }
        if found.path.strip_prefix(real).is_some_and(|r| r.first() == Some(&b'/')) {
            return cx.fail(&format!("cannot copy a directory, '{}', into itself, '{}'", show(source), show(to)));
        }
        if found.node.is_none()
            && let Err(e) = cx.x.fs.create(&who, &found.path, Kind::Dir, node.mode & !cx.st.umask)
        {
            return cx.fail(&format!("cannot create directory '{}': {}", show(to), e.text()));
        }
        let mut status = 0;
        for (name, _) in cx.x.fs.list(real) {
            status |= copy(cx, &fs::join(real, &name), &fs::join(source, &name), &fs::join(to, &name), keep, verbose, depth + 1);
        }
        return status;
    }
    if !cx.x.fs.may(&who, &node, 4) || !cx.x.fs.reach(&who, real) {
        return cx.fail(&format!("cannot open '{}' for reading: Permission denied", show(source)));
    }
    let result = match &node.kind {
        Kind::Link(target) => cx.x.fs.create(&who, &found.path, Kind::Link(target.clone()), 0o777),
        Kind::File(Content::Made(Made::Program(..) | Made::Zeros(_))) => {
            let Kind::File(content) = node.kind.clone() else { return 1 };
            cx.x.fs.write(&who, &found.path, content, node.mode & !cx.st.umask)
        }
        _ => match cx.x.content(real, &node) {
            Ok(data) => {
                let written = match found.node.as_ref().map(|n| n.kind.clone()) {
                    Some(Kind::Char(..)) => Ok(()),
                    _ => cx.x.fs.write(&who, &found.path, Content::Bytes(data), node.mode & 0o777 & !cx.st.umask),
                };
                cx.x.note(&found.path, How::Command(cx.name));
                written
            }
            Err(e) => Err(e),
        },
    };
    if let Err(e) = result {
        return cx.fail(&format!("cannot create regular file '{}': {}", show(to), e.text()));
    }
    if keep {
        let _ = cx.x.fs.change(&found.path, |n| {
            (n.mtime, n.nanos, n.mode) = (node.mtime, node.nanos, node.mode);
            if who.uid == 0 {
                (n.uid, n.gid) = (node.uid, node.gid);
            }
        });
    }
    0
}

pub(super) fn mv(cx: &mut Cx<'_, '_>, args: &[Vec<u8>]) -> i32 {
    let longs = [
        ("force", b'f'),
        ("verbose", b'v'),
        ("no-clobber", b'n'),
        ("target-directory=", b't'),
        ("update", b'u'),
        ("no-target-directory", b'T'),
    ];
    let Ok((options, mut rest)) = cx.options(args, "fvniut:Tb", &longs) else { return 1 };
    if has(&options, 0) {
        return 0;
    }
    let Some(target) = target(cx, &options, &mut rest) else { return 1 };
    let mut status = 0;
    for source in rest {
        let to = place(cx, &source, &target);
        let real = match cx.stat(&source, false) {
            Ok((real, _)) => real,
            Err(e) => {
                status = cx.fail(&format!("cannot stat '{}': {}", show(&source), e.text()));
                continue;
            }
        };
        if has(&options, b'n') && cx.stat(&to, false).is_ok() {
            continue;
        }
        let who = cx.st.who.clone();
        let result = cx.x.fs.find(&cx.st.cwd, &to, false).and_then(|f| {
            if f.path == real {
                return Err(Errno::Exist);
            }
            cx.x.note_removed(&f.path);
            cx.x.fs.rename(&who, &real, &f.path)?;
            // A file written in this run is told under its new name.
            if cx.x.touched.remove(&real).is_some() || matches!(cx.x.fs.get(&f.path).map(|n| n.kind), Some(Kind::File(Content::Bytes(_)))) {
                cx.x.note(&f.path, How::Command("mv"));
            }
            Ok(())
        });
        match result {
            Ok(()) => {
                if has(&options, b'v') {
                    cx.say(&format!("renamed '{}' -> '{}'\n", show(&source), show(&to)));
                }
            }
            Err(Errno::Exist) => status = cx.fail(&format!("'{}' and '{}' are the same file", show(&source), show(&to))),
            Err(Errno::Invalid) => {
                status = cx.fail(&format!("cannot move '{}' to a subdirectory of itself, '{}'", show(&source), show(&to)))
            }
            Err(e) => status = cx.fail(&format!("cannot move '{}' to '{}': {}", show(&source), show(&to), e.text())),
        }
    }
    status
}

pub(super) fn install(cx: &mut Cx<'_, '_>, args: &[Vec<u8>]) -> i32 {
    let Ok((options, mut rest)) =
        cx.options(args, "dm:o:g:Dvpct:T", &[("mode=", b'm'), ("directory", b'd'), ("owner=", b'o'), ("group=", b'g')])
    else {
        return 1;
    };
    let perms = value(&options, b'm').and_then(|m| super::files::mode(m, 0, false, 0)).unwrap_or(0o755);
    if has(&options, b'd') {
        let mut words = vec![b"mkdir".to_vec(), b"-p".to_vec()];
        words.extend(rest);
        return super::files::mkdir(cx, &words);
    }
    let Some(target) = target(cx, &options, &mut rest) else { return 1 };
    let mut status = 0;
    for source in rest {
        let to = place(cx, &source, &target);
        match cx.stat(&source, true) {
            Ok((real, _)) => {
                status |= copy(cx, &real, &source, &to, false, has(&options, b'v'), 0);
                if let Ok((path, _)) = cx.stat(&to, true) {
                    let _ = cx.x.fs.change(&path, |n| n.mode = perms);
                }
            }
            Err(e) => status = cx.fail(&format!("cannot stat '{}': {}", show(&source), e.text())),
        }
    }
    status
}

/// A size with a unit, as `dd` and `truncate` take it.
pub(super) fn size(text: &[u8]) -> Option<u64> {
    let digits = text.iter().take_while(|b| b.is_ascii_digit()).count();
    let n: u64 = number(text.get(..digits)?)?;
    let unit: u64 = match text.get(digits..)? {
        b"" | b"c" | b"B" => 1,
        b"w" => 2,
        b"b" => 512,
        b"k" | b"K" | b"KiB" => 1 << 10,
        b"kB" | b"KB" => 1_000,
        b"M" | b"MiB" => 1 << 20,
        b"MB" => 1_000_000,
        b"G" | b"GiB" => 1 << 30,
        b"GB" => 1_000_000_000,
        b"T" => 1 << 40,
        _ => return None,
    };
    n.checked_mul(unit)
}

/// `dd`'s closing line.
fn amount(bytes: u64, seconds: f64) -> String {
    let si = |v: f64, units: [&str; 5], base: f64| {
        let (mut v, mut at) = (v, 0);
        while v >= base && at < 4 {
            v /= base;
            at += 1;
        }
        let unit = units.get(at).copied().unwrap_or("");
        if v < 10.0 && at > 0 { format!("{v:.1} {unit}") } else { format!("{v:.0} {unit}") }
    };
    let mut head = format!("{bytes} byte{}", if bytes == 1 { "" } else { "s" });
    if bytes >= 1_000 {
        head.push_str(&format!(" ({}", si(bytes as f64, ["B", "kB", "MB", "GB", "TB"], 1_000.0)));
        if bytes >= 1_024 {
            head.push_str(&format!(", {}", si(bytes as f64, ["B", "KiB", "MiB", "GiB", "TiB"], 1_024.0)));
        }
        head.push(')');
    }
    format!(
        "{head} copied, {} s, {}/s\n",
        super::shells::general(seconds, 6, false),
        si(bytes as f64 / seconds, ["B", "kB", "MB", "GB", "TB"], 1_000.0)
    )
}

pub(super) fn dd(cx: &mut Cx<'_, '_>, args: &[Vec<u8>]) -> i32 {
    let (mut input, mut output, mut ibs, mut obs, mut count, mut skip, mut seek) = (None, None, 512u64, 512u64, None, 0u64, 0u64);
    let (mut notrunc, mut quiet, mut swab, mut upper, mut append) = (false, 0u8, false, None, false);
    for arg in args.iter().skip(1) {
        let Some(at) = arg.iter().position(|b| *b == b'=') else {
            if arg == b"--help" || arg == b"--version" {
                let line = super::version("dd");
                cx.say(&line);
                return 0;
            }
            cx.err(&format!("dd: unrecognized operand ‘{}’\nTry 'dd --help' for more information.\n", show(arg)));
            return 1;
        };
        let (key, text) = (arg.get(..at).unwrap_or_default(), arg.get(at + 1..).unwrap_or_default());
        let parsed = || text.split(|b| *b == b'x').map(size).try_fold(1u64, |a, s| a.checked_mul(s?));
        let numeric = matches!(key, b"bs" | b"ibs" | b"obs" | b"count" | b"skip" | b"seek" | b"iseek" | b"oseek" | b"cbs");
        let n = if numeric { parsed() } else { Some(0) };
        let Some(n) = n else { return cx.fail(&format!("invalid number: ‘{}’", show(text))) };
        match key {
            b"if" => input = Some(text.to_vec()),
            b"of" => output = Some(text.to_vec()),
            b"bs" => (ibs, obs) = (n, n),
            b"ibs" => ibs = n,
            b"obs" => obs = n,
            b"count" => count = Some(n),
            b"skip" | b"iseek" => skip = n,
            b"seek" | b"oseek" => seek = n,
            b"cbs" => {}
            b"status" => {
                quiet = match text {
                    b"none" => 2,
                    b"noxfer" => 1,
                    _ => 0,
                }
            }
            b"conv" => {
                for c in text.split(|b| *b == b',') {
                    match c {
                        b"notrunc" => notrunc = true,
                        b"swab" => swab = true,
                        b"ucase" => upper = Some(true),
                        b"lcase" => upper = Some(false),
                        _ => {}
                    }
                }
            }
            b"oflag" => append = text.split(|b| *b == b',').any(|f| f == b"append"),
            b"iflag" => {}
            _ => {
                cx.err(&format!("dd: unrecognized operand ‘{}’\nTry 'dd --help' for more information.\n", show(arg)));
                return 1;
            }
        }
    }
    if ibs == 0 || obs == 0 {
        return cx.fail("invalid number: ‘0’");
    }
    let want = count.map(|c| c.saturating_mul(ibs));
    let endless = input.as_deref().and_then(|p| cx.stat(p, true).ok()).map(|(_, n)| n.kind);
    let mut virtual_zeros = None;
    let data: Vec<u8> = match &input {
        Some(path) => match cx.x.open_read(cx.st, cx.io, path, false) {
            Ok(_) if endless == Some(Kind::Dir) => return cx.fail(&format!("error reading '{}': Is a directory", show(path))),
            Ok(fd) => {
                if let (Some(Kind::Char(1, 5 | 8 | 9)), Some(want)) = (&endless, want)
                    && want > (limits::PIPE / 4) as u64
                {
                    virtual_zeros = Some(want);
                    Vec::new()
                } else {
                    let skipped = skip.saturating_mul(ibs);
                    let all = cx.x.read_all(fd);
                    let all = all.get((skipped.min(all.len() as u64)) as usize..).unwrap_or_default();
                    all.get(..want.unwrap_or(u64::MAX).min(all.len() as u64) as usize).unwrap_or_default().to_vec()
                }
            }
            Err(e) => return cx.fail(&format!("failed to open '{}': {}", show(path), e.text())),
        },
        None => {
            let fd = cx.stdin_fd();
            cx.x.read_bytes(fd, skip.saturating_mul(ibs).min(limits::PIPE as u64) as usize);
            match want {
                // Only what is asked for, so that the rest stays for others.
                Some(want) if want <= limits::PIPE as u64 => cx.x.read_bytes(fd, want as usize),
                _ => cx.x.read_all(fd),
            }
        }
    };
    if cx.x.waiting.is_some() {
        return 0;
    }
    let total = virtual_zeros.unwrap_or(data.len() as u64);
    let free = cx.x.machine.facts.root_kb.saturating_sub(cx.x.machine.facts.disk_used(cx.now())) * 1_024;
    let mut failed = false;
    let mut data = data;
    if swab {
        for pair in data.chunks_mut(2) {
            pair.reverse();
        }
    }
    match upper {
        Some(true) => data.make_ascii_uppercase(),
        Some(false) => data.make_ascii_lowercase(),
        None => {}
    }
    let null = output.as_deref().and_then(|p| cx.stat(p, true).ok()).is_some_and(|(_, n)| matches!(n.kind, Kind::Char(..)));
    match (&output, virtual_zeros) {
        (Some(path), Some(n)) if !null => {
            let who = cx.st.who.clone();
            let mask = cx.st.umask;
            let result =
                cx.x.fs
                    .find(&cx.st.cwd, path, true)
                    .and_then(|f| cx.x.fs.write(&who, &f.path, Content::Made(Made::Zeros(n.min(free))), 0o666 & !mask));
            if let Err(e) = result {
                return cx.fail(&format!("failed to open '{}': {}", show(path), e.text()));
            }
            if n > free {
                cx.fail(&format!("error writing '{}': No space left on device", show(path)));
                failed = true;
            }
        }
        (Some(path), None) => {
            let offset = seek.saturating_mul(obs) as usize;
            let result = if offset > 0 || notrunc || append {
                let mut old = cx.read(path).map(|d| d.as_ref().clone()).unwrap_or_default();
                if append {
                    old.extend_from_slice(&data);
                } else {
                    if !notrunc {
                        old.truncate(offset);
                    }
                    let end = offset.saturating_add(data.len());
                    if end > limits::SOURCE_BYTES {
                        return cx.fail(&format!("error writing '{}': No space left on device", show(path)));
                    }
                    if old.len() < end {
                        old.resize(end, 0);
                    }
                    for (slot, b) in old.iter_mut().skip(offset).zip(&data) {
                        *slot = *b;
                    }
                }
                cx.write_file(path, old)
            } else {
                cx.write_file(path, data.clone())
            };
            if let Err(e) = result {
                return cx.fail(&format!("failed to open '{}': {}", show(path), e.text()));
            }
        }
        (None, Some(n)) => {
            let block = vec![0u8; (n as usize).min(limits::OUTPUT + 1)];
            if !matches!(cx.io.get(1), Fd::Null) {
                cx.out(&block);
            }
        }
        _ => cx.out(&data),
    }
    // About 400 MB/s to disk, and never the same twice.
    let jitter = (cx.st.random.next() % 1_000) as f64;
    let seconds = 0.000_08 + total as f64 / 410e6 * (1.0 + jitter / 5_000.0) + jitter * 1e-7;
    cx.x.pass((seconds * 1e9) as i64);
    if quiet < 2 {
        let (full, part) = (total / ibs, u64::from(total % ibs != 0));
        let (ofull, opart) = (total / obs, u64::from(total % obs != 0));
        let mut text = format!("{full}+{part} records in\n{ofull}+{opart} records out\n");
        if quiet == 0 {
            text.push_str(&amount(total, seconds));
        }
        cx.err(&text);
    }
    i32::from(failed)
}
