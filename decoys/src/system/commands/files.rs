//! Programs that make, remove and change files: `mkdir`, `rm`, `touch`, `chmod`, `chown`, `du`, `file`.

use super::{Cx, has, human, number, show, value};
use crate::system::{
    fs::{self, Content, Errno, Kind},
    time,
};

/// A mode as `chmod` takes it, applied to an old one.
pub(super) fn mode(text: &[u8], old: u32, dir: bool, umask: u32) -> Option<u32> {
    if text.iter().all(|b| (b'0'..=b'7').contains(b)) && !text.is_empty() && text.len() <= 5 {
        return u32::from_str_radix(std::str::from_utf8(text).ok()?, 8).ok().filter(|m| *m <= 0o7777);
    }
    let mut mode = old;
    for clause in text.split(|b| *b == b',') {
        let len = clause.iter().take_while(|b| b"ugoa".contains(b)).count();
        let who = clause.get(..len)?;
        let mut rest = clause.get(len..)?;
        if rest.is_empty() {
            return None;
        }
        while let Some((op, tail)) = rest.split_first() {
            if !b"+-=".contains(op) {
                return None;
            }
            let n = tail.iter().take_while(|b| !b"+-=".contains(b)).count();
            let (perms, next) = tail.split_at_checked(n)?;
            let targets: &[u8] = if who.is_empty() || who.contains(&b'a') { b"ugo" } else { who };
            let (mut bits, mut mask) = (0u32, 0u32);
            for w in targets {
                let shift = match w {
                    b'u' => 6,
                    b'g' => 3,
                    _ => 0,
                };
                mask |= 7 << shift;
                for p in perms {
                    bits |= match p {
                        b'r' => 4 << shift,
                        b'w' => 2 << shift,
                        b'x' => 1 << shift,
                        b'X' if dir || old & 0o111 != 0 => 1 << shift,
                        b'X' => 0,
                        b's' if *w == b'u' => 0o4000,
                        b's' if *w == b'g' => 0o2000,
                        b's' => 0,
                        b't' => 0o1000,
                        b'u' => (old >> 6 & 7) << shift,
                        b'g' => (old >> 3 & 7) << shift,
                        b'o' => (old & 7) << shift,
                        _ => return None,
                    };
                }
            }
            if who.is_empty() {
                bits &= !umask | 0o7000;
            }
            match op {
                b'+' => mode |= bits,
                b'-' => mode &= !bits,
                _ => mode = mode & !mask | bits,
            }
            rest = next;
        }
    }
    Some(mode)
}

pub(super) fn chmod(cx: &mut Cx<'_, '_>, args: &[Vec<u8>]) -> i32 {
    let longs = [("recursive", b'R'), ("verbose", b'v'), ("changes", b'c'), ("quiet", b'f'), ("silent", b'f')];
    // `-x` is a mode, not an option.
    let (flags, words): (Vec<Vec<u8>>, Vec<Vec<u8>>) =
        args.iter().skip(1).cloned().partition(|a| {
            a.starts_with(b"--") || (a.first() == Some(&b'-') && a.len() > 1 && a.iter().skip(1).all(|b| b"Rvcf".contains(b)))
        });
    let mut all = vec![b"chmod".to_vec()];
    all.extend(flags);
    let Ok((options, _)) = cx.options(&all, "Rvcf", &longs) else { return 1 };
    if has(&options, 0) {
        return 0;
    }
    let Some((wanted, paths)) = words.split_first() else {
        cx.err("chmod: missing operand\nTry 'chmod --help' for more information.\n");
        return 1;
    };
    if mode(wanted, 0, false, 0).is_none() {
        cx.err(&format!("chmod: invalid mode: ‘{}’\nTry 'chmod --help' for more information.\n", show(wanted)));
        return 1;
    }
    if paths.is_empty() {
        cx.err(&format!("chmod: missing operand after ‘{}’\nTry 'chmod --help' for more information.\n", show(wanted)));
        return 1;
    }
    let mut status = 0;
    for path in paths {
        match cx.stat(path, true) {
            Ok((real, _)) => status |= chmod_one(cx, &real, path, wanted, has(&options, b'R'), has(&options, b'v'), 0),
            Err(e) => {
                if !has(&options, b'f') {
                    cx.fail(&format!("cannot access '{}': {}", show(path), e.text()));
                }
                status = 1;
            }
        }
    }
    status
}

fn chmod_one(cx: &mut Cx<'_, '_>, real: &[u8], shown: &[u8], wanted: &[u8], recursive: bool, verbose: bool, depth: usize) -> i32 {
    let Some(node) = cx.x.fs.get(real) else { return 1 };
    let Some(new) = mode(wanted, node.mode, node.is_dir(), cx.st.umask) else { return 1 };
    if cx.st.who.uid != 0 && cx.st.who.uid != node.uid {
        return cx.fail(&format!("changing permissions of '{}': Operation not permitted", show(shown)));
    }
    if let Err(e) = cx.x.fs.change(real, |n| n.mode = new) {
        return cx.fail(&format!("changing permissions of '{}': {}", show(shown), e.text()));
    }
    if verbose {
        let mut changed = node.clone();
        changed.mode = new;
        let text = |n: &fs::Node| n.mode_text().get(1..).unwrap_or("").to_owned();
        let line = if node.mode == new {
            format!("mode of '{}' retained as {:04o} ({})\n", show(shown), new, text(&node))
        } else {
            format!("mode of '{}' changed from {:04o} ({}) to {:04o} ({})\n", show(shown), node.mode, text(&node), new, text(&changed))
        };
        cx.say(&line);
    }
    let mut status = 0;
    if recursive && node.is_dir() && depth < 32 {
        for (name, child) in cx.x.fs.list(real) {
            if !child.is_link() && cx.alive() {
                status |= chmod_one(cx, &fs::join(real, &name), &fs::join(shown, &name), wanted, true, verbose, depth + 1);
            }
        }
    }
    status
}

pub(super) fn chown(cx: &mut Cx<'_, '_>, args: &[Vec<u8>]) -> i32 {
    let Ok((options, rest)) =
        cx.options(args, "RvcfhHLP", &[("recursive", b'R'), ("no-dereference", b'h'), ("verbose", b'v'), ("reference=", b'r')])
    else {
        return 1;
    };
    if has(&options, 0) {
        return 0;
    }
    let Some((spec, paths)) = rest.split_first() else {
        let line = format!("{n}: missing operand\nTry '{n} --help' for more information.\n", n = cx.name);
        cx.err(&line);
        return 1;
    };
    if paths.is_empty() {
        let line = format!("{n}: missing operand after ‘{}’\nTry '{n} --help' for more information.\n", show(spec), n = cx.name);
        cx.err(&line);
        return 1;
    }
    let mut parts = spec.splitn(2, |b| *b == b':' || *b == b'.');
    let (user, group) = if cx.name == "chgrp" { (None, Some(spec.as_slice())) } else { (parts.next(), parts.next()) };
    let mut uid = None;
    if let Some(user) = user.filter(|u| !u.is_empty()) {
        uid = cx.x.account(user).map(|a| a.uid).or(number(user));
        if uid.is_none() {
            return cx.fail(&format!("invalid user: ‘{}’", show(spec)));
        }
    }
    let mut gid = None;
    if let Some(group) = group.filter(|g| !g.is_empty()) {
        gid = cx.x.groups().iter().find(|g| g.0 == group).map(|g| g.1).or(number(group));
        if gid.is_none() {
            return cx.fail(&format!("invalid group: ‘{}’", show(spec)));
        }
    }
    let mut status = 0;
    for path in paths {
        match cx.stat(path, !has(&options, b'h')) {
            Ok((real, _)) => status |= chown_one(cx, &real, path, uid, gid, has(&options, b'R'), 0),
            Err(e) => status = cx.fail(&format!("cannot access '{}': {}", show(path), e.text())),
        }
    }
    status
}

fn chown_one(cx: &mut Cx<'_, '_>, real: &[u8], shown: &[u8], uid: Option<u32>, gid: Option<u32>, recursive: bool, depth: usize) -> i32 {
    if cx.st.who.uid != 0 {
        return cx.fail(&format!(
            "changing {} of '{}': Operation not permitted",
            if cx.name == "chgrp" { "group" } else { "ownership" },
            show(shown)
        ));
    }
    let result = cx.x.fs.change(real, |n| {
        n.uid = uid.unwrap_or(n.uid);
        n.gid = gid.unwrap_or(n.gid);
    });
    if let Err(e) = result {
        return cx.fail(&format!("changing ownership of '{}': {}", show(shown), e.text()));
    }
    let mut status = 0;
    if recursive && depth < 32 && cx.x.fs.get(real).is_some_and(|n| n.is_dir()) {
        for (name, _) in cx.x.fs.list(real) {
            if cx.alive() {
                status |= chown_one(cx, &fs::join(real, &name), &fs::join(shown, &name), uid, gid, true, depth + 1);
            }
        }
    }
    status
}

pub(super) fn mkdir(cx: &mut Cx<'_, '_>, args: &[Vec<u8>]) -> i32 {
    let Ok((options, rest)) = cx.options(args, "pm:v", &[("parents", b'p'), ("mode=", b'm'), ("verbose", b'v')]) else { return 1 };
    if has(&options, 0) {
        return 0;
    }
    if rest.is_empty() {
        cx.err("mkdir: missing operand\nTry 'mkdir --help' for more information.\n");
        return 1;
    }
    let perms = value(&options, b'm').and_then(|m| mode(m, 0o777, true, 0)).unwrap_or(0o777 & !cx.st.umask);
    let mut status = 0;
    for path in rest {
        if let Err(e) = make(cx, &path, perms, has(&options, b'p'), has(&options, b'v')) {
            status = cx.fail(&format!("cannot create directory ‘{}’: {}", show(&path), e.text()));
        }
    }
    status
}

fn make(cx: &mut Cx<'_, '_>, path: &[u8], perms: u32, parents: bool, verbose: bool) -> Result<(), Errno> {
    let trimmed = path.strip_suffix(b"/").filter(|p| !p.is_empty()).unwrap_or(path);
    let who = cx.st.who.clone();
    if parents {
        let mut so_far = if trimmed.first() == Some(&b'/') { b"/".to_vec() } else { Vec::new() };
        for part in trimmed.split(|b| *b == b'/').filter(|p| !p.is_empty()).take(128) {
            so_far = if so_far.is_empty() { part.to_vec() } else { fs::join(&so_far, part) };
            let found = cx.x.fs.find(&cx.st.cwd, &so_far, true)?;
            match found.node {
                Some(n) if n.is_dir() => {}
                Some(_) => return Err(if so_far == trimmed { Errno::Exist } else { Errno::NotDir }),
                None => {
                    cx.x.fs.create(&who, &found.path, Kind::Dir, if so_far == trimmed { perms } else { 0o777 & !cx.st.umask })?;
                    if verbose {
                        cx.say(&format!("mkdir: created directory '{}'\n", show(&so_far)));
                    }
                }
            }
        }
        return Ok(());
    }
    let found = cx.x.fs.find(&cx.st.cwd, trimmed, false)?;
    cx.x.fs.create(&who, &found.path, Kind::Dir, perms)?;
    if verbose {
        cx.say(&format!("mkdir: created directory '{}'\n", show(path)));
    }
    Ok(())
}

pub(super) fn rmdir(cx: &mut Cx<'_, '_>, args: &[Vec<u8>]) -> i32 {
    let Ok((_, rest)) = cx.options(args, "pv", &[("parents", b'p'), ("ignore-fail-on-non-empty", b'i')]) else { return 1 };
    if rest.is_empty() {
        cx.err("rmdir: missing operand\nTry 'rmdir --help' for more information.\n");
        return 1;
    }
    let mut status = 0;
    for path in rest {
        let who = cx.st.who.clone();
        let result = match cx.stat(&path, false) {
            Ok((real, node)) if node.is_dir() => cx.x.fs.remove(&who, &real),
            Ok(_) => Err(Errno::NotDir),
            Err(e) => Err(e),
        };
        if let Err(e) = result {
            status = cx.fail(&format!("failed to remove '{}': {}", show(&path), e.text()));
        }
    }
    status
}

pub(super) fn rm(cx: &mut Cx<'_, '_>, args: &[Vec<u8>]) -> i32 {
    let longs = [
        ("recursive", b'r'),
        ("force", b'f'),
        ("verbose", b'v'),
        ("dir", b'd'),
        ("interactive[=", b'i'),
        ("no-preserve-root", b'N'),
        ("preserve-root", b'K'),
        ("one-file-system", b'O'),
    ];
    let Ok((options, rest)) = cx.options(args, "rRfvidI", &longs) else { return 1 };
    if has(&options, 0) {
        return 0;
    }
    let (recursive, force) = (has(&options, b'r') || has(&options, b'R'), has(&options, b'f'));
    if rest.is_empty() {
        if force {
            return 0;
        }
        let line = format!("{n}: missing operand\nTry '{n} --help' for more information.\n", n = cx.name);
        cx.err(&line);
        return 1;
    }
    let mut status = 0;
    for path in rest {
        let last = path.rsplit(|b| *b == b'/').find(|p| !p.is_empty()).unwrap_or_default();
        if last == b"." || last == b".." {
            status = cx.fail(&format!("refusing to remove '.' or '..' directory: skipping '{}'", show(&path)));
            continue;
        }
        match cx.stat(&path, false) {
            Ok((real, _)) if real == b"/" && recursive && !has(&options, b'N') => {
                cx.err("rm: it is dangerous to operate recursively on '/'\nrm: use --no-preserve-root to override this failsafe\n");
                status = 1;
            }
            Ok((real, node)) if node.is_dir() && !recursive && !has(&options, b'd') => {
                let _ = real;
                status = cx.fail(&format!("cannot remove '{}': Is a directory", show(&path)));
            }
            Ok((real, _)) => status |= remove(cx, &real, &path, has(&options, b'v'), 0),
            Err(Errno::NoEnt | Errno::NotDir) if force => {}
            Err(e) => status = cx.fail(&format!("cannot remove '{}': {}", show(&path), e.text())),
        }
    }
    status
}

/// Removes a tree, noting files this run wrote.
pub(super) fn remove(cx: &mut Cx<'_, '_>, real: &[u8], shown: &[u8], verbose: bool, depth: usize) -> i32 {
    let Some(node) = cx.x.fs.get(real) else { return 0 };
    let mut status = 0;
    if node.is_dir() && depth < 64 {
        if real.starts_with(b"/proc") || real.starts_with(b"/sys") {
            return cx.fail(&format!("cannot remove '{}': Operation not permitted", show(shown)));
        }
        for (name, _) in cx.x.fs.list(real) {
            if !cx.alive() {
                return 1;
            }
            status |= remove(cx, &fs::join(real, &name), &fs::join(shown, &name), verbose, depth + 1);
        }
    }
    cx.x.note_removed(real);
    let who = cx.st.who.clone();
    match cx.x.fs.remove(&who, real) {
        Ok(()) => {
            if verbose {
                cx.say(&format!("removed {}'{}'\n", if node.is_dir() { "directory " } else { "" }, show(shown)));
            }
            status
        }
        Err(_) if status != 0 => status,
        Err(e) => cx.fail(&format!("cannot remove '{}': {}", show(shown), e.text())),
    }
}

pub(super) fn touch(cx: &mut Cx<'_, '_>, args: &[Vec<u8>]) -> i32 {
    let longs = [("no-create", b'c'), ("date=", b'd'), ("reference=", b'r'), ("time=", b'T')];
    let Ok((options, rest)) = cx.options(args, "acmfhd:r:t:", &longs) else { return 1 };
    if has(&options, 0) {
        return 0;
    }
    if rest.is_empty() {
        cx.err("touch: missing file operand\nTry 'touch --help' for more information.\n");
        return 1;
    }
    let mut when = None;
    if let Some(text) = value(&options, b'd') {
        when = time::parse(&show(text), cx.now());
        if when.is_none() {
            return cx.fail(&format!("invalid date format ‘{}’", show(text)));
        }
    }
    if let Some(text) = value(&options, b't') {
        when = stamp(text, cx.now());
        if when.is_none() {
            return cx.fail(&format!("invalid date format ‘{}’", show(text)));
        }
    }
    if let Some(path) = value(&options, b'r') {
        let path = path.to_vec();
        match cx.stat(&path, true) {
            Ok((_, node)) => when = Some(node.mtime),
            Err(e) => return cx.fail(&format!("failed to get attributes of '{}': {}", show(&path), e.text())),
        }
    }
    let mut status = 0;
    for path in rest {
        let result = match cx.x.fs.find(&cx.st.cwd, &path, true) {
            Err(e) => Err(e),
            Ok(found) if found.node.is_none() && has(&options, b'c') => Ok(()),
            Ok(found) if found.node.is_none() && path.last() == Some(&b'/') => Err(Errno::NoEnt),
            Ok(found) => {
                let who = cx.st.who.clone();
                let made = match &found.node {
                    None => {
                        let made = cx.x.fs.write(&who, &found.path, Content::new(Vec::new()), 0o666 & !cx.st.umask);
                        if made.is_ok() {
                            cx.x.note(&found.path, crate::system::api::How::Command("touch"));
                        }
                        made
                    }
                    Some(n) if who.uid != 0 && who.uid != n.uid && !cx.x.fs.may(&who, n, 2) => Err(Errno::Access),
                    Some(_) => Ok(()),
                };
                let (now, nanos) = when.map_or(cx.x.fs.now, |w| (w, 0));
                made.and_then(|()| match cx.x.fs.change(&found.path, |n| (n.mtime, n.nanos) = (now, nanos)) {
                    Err(Errno::NotPermitted) => Ok(()),
                    other => other,
                })
            }
        };
        if let Err(e) = result {
            status = cx.fail(&format!("cannot touch '{}': {}", show(&path), e.text()));
        }
    }
    status
}

/// `[[CC]YY]MMDDhhmm[.ss]`.
fn stamp(text: &[u8], now: i64) -> Option<i64> {
    let (main, seconds) = match text.iter().position(|b| *b == b'.') {
        Some(p) => (text.get(..p)?, number::<i64>(text.get(p + 1..)?)?),
        None => (text, 0),
    };
    if !main.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let (year, rest) = match main.len() {
        8 => (time::civil(now).year, main),
        10 => {
            let y = number::<i64>(main.get(..2)?)?;
            (if y < 69 { 2_000 + y } else { 1_900 + y }, main.get(2..)?)
        }
        12 => (number::<i64>(main.get(..4)?)?, main.get(4..)?),
        _ => return None,
    };
    let two = |at: usize| number::<i64>(rest.get(at..at + 2)?);
    let (month, day, hour, minute) = (two(0)?, two(2)?, two(4)?, two(6)?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || hour > 23 || minute > 59 || seconds > 60 {
        return None;
    }
    Some(time::days(year, month as u32, day as u32) * 86_400 + hour * 3_600 + minute * 60 + seconds)
}

pub(super) fn truncate(cx: &mut Cx<'_, '_>, args: &[Vec<u8>]) -> i32 {
    let Ok((options, rest)) = cx.options(args, "s:cr:o", &[("size=", b's'), ("no-create", b'c')]) else { return 1 };
    let Some(size) = value(&options, b's').and_then(super::copy::size) else {
        cx.err("truncate: you must specify either ‘--size’ or ‘--reference’\nTry 'truncate --help' for more information.\n");
        return 1;
    };
    for path in rest {
        let old = cx.read(&path).map(|d| d.as_ref().clone()).unwrap_or_default();
        let result = if size as usize > crate::system::limits::PIPE {
            let who = cx.st.who.clone();
            let mask = cx.st.umask;
            cx.x.fs
                .find(&cx.st.cwd, &path, true)
                .and_then(|f| cx.x.fs.write(&who, &f.path, Content::Made(fs::Made::Zeros(size)), 0o666 & !mask))
        } else {
            let mut data = old;
            data.resize(size as usize, 0);
            cx.write_file(&path, data)
        };
        if let Err(e) = result {
            return cx.fail(&format!("cannot open '{}' for writing: {}", show(&path), e.text()));
        }
    }
    0
}

pub(super) fn shred(cx: &mut Cx<'_, '_>, args: &[Vec<u8>]) -> i32 {
    let Ok((options, rest)) = cx.options(args, "fn:uvzxs:", &[("remove[=", b'u')]) else { return 1 };
    let mut status = 0;
    for path in rest {
        match cx.stat(&path, true) {
            Ok((real, node)) if node.is_file() => {
                if has(&options, b'u') {
                    status |= remove(cx, &real, &path, false, 0);
                }
            }
            Ok(_) => status = cx.fail(&format!("{}: invalid file type", show(&path))),
            Err(e) => status = cx.fail(&format!("{}: failed to open for writing: {}", show(&path), e.text())),
        }
    }
    status
}

pub(super) fn mkfifo(cx: &mut Cx<'_, '_>, args: &[Vec<u8>]) -> i32 {
    let Ok((_, rest)) = cx.options(args, "m:", &[("mode=", b'm')]) else { return 1 };
    let count = if cx.name == "mknod" { 1 } else { rest.len() };
    if rest.is_empty() {
        let line = format!("{n}: missing operand\nTry '{n} --help' for more information.\n", n = cx.name);
        cx.err(&line);
        return 1;
    }
    let kind = match (rest.get(1).map(Vec::as_slice), rest.get(2), rest.get(3)) {
        (Some(b"c" | b"u"), Some(a), Some(b)) if cx.name == "mknod" => Kind::Char(number(a).unwrap_or(0), number(b).unwrap_or(0)),
        (Some(b"b"), Some(a), Some(b)) if cx.name == "mknod" => Kind::Block(number(a).unwrap_or(0), number(b).unwrap_or(0)),
        _ => Kind::Fifo,
    };
    for path in rest.iter().take(count) {
        let who = cx.st.who.clone();
        let mask = cx.st.umask;
        let result = cx.x.fs.find(&cx.st.cwd, path, false).and_then(|f| cx.x.fs.create(&who, &f.path, kind.clone(), 0o666 & !mask));
        if let Err(e) = result {
            return cx.fail(&format!("cannot create fifo '{}': {}", show(path), e.text()));
        }
    }
    0
}

pub(super) fn chattr(cx: &mut Cx<'_, '_>, args: &[Vec<u8>]) -> i32 {
    let paths: Vec<&Vec<u8>> = args.iter().skip(1).filter(|a| !matches!(a.first(), Some(b'+' | b'-' | b'='))).collect();
    if args.len() < 3 {
        cx.err("Usage: chattr [-RVf] [-+=aAcCdDeijPsStTuFx] [-p project] [-v version] files...\n");
        return 1;
    }
    let mut status = 0;
    for path in paths {
        if let Err(e) = cx.stat(path, true) {
            status = cx.fail(&format!("{} while trying to stat {}", e.text(), show(path)));
        } else if cx.st.who.uid != 0 {
            status = cx.fail(&format!("Operation not permitted while setting flags on {}", show(path)));
        }
    }
    status
}

pub(super) fn lsattr(cx: &mut Cx<'_, '_>, args: &[Vec<u8>]) -> i32 {
    let Ok((options, mut rest)) = cx.options(args, "RVadlpv", &[]) else { return 1 };
    if rest.is_empty() {
        rest.push(b".".to_vec());
    }
    let mut status = 0;
    for path in rest {
        match cx.stat(&path, true) {
            Ok((real, node)) if node.is_dir() && !has(&options, b'd') => {
                for (name, _) in cx.x.fs.list(&real).into_iter().filter(|(n, _)| n.first() != Some(&b'.')) {
                    cx.say(&format!("--------------e------- {}\n", show(&fs::join(&path, &name))));
                }
            }
            Ok(_) => cx.say(&format!("--------------e------- {}\n", show(&path))),
            Err(e) => status = cx.fail(&format!("{} while trying to stat {}", e.text(), show(&path))),
        }
    }
    status
}

pub(super) fn du(cx: &mut Cx<'_, '_>, args: &[Vec<u8>]) -> i32 {
    let longs = [
        ("summarize", b's'),
        ("human-readable", b'h'),
        ("all", b'a'),
        ("total", b'c'),
        ("max-depth=", b'd'),
        ("bytes", b'b'),
        ("apparent-size", b'A'),
    ];
    let Ok((options, mut rest)) = cx.options(args, "shackmbd:xDLPlS", &longs) else { return 1 };
    if has(&options, 0) {
        return 0;
    }
    if rest.is_empty() {
        rest.push(b".".to_vec());
    }
    let (mut status, mut total) = (0, 0);
    for path in rest {
        match cx.stat(&path, false) {
            Ok((real, _)) => {
                let most = if has(&options, b's') { 0 } else { value(&options, b'd').and_then(|d| number(d)).unwrap_or(usize::MAX) };
                total += du_one(cx, &options, &real, &path, 0, most);
            }
            Err(e) => status = cx.fail(&format!("cannot access '{}': {}", show(&path), e.text())),
        }
    }
    if has(&options, b'c') {
        let text = du_text(&options, total);
        cx.say(&format!("{text}\ttotal\n"));
    }
    status
}

fn du_text(options: &[(u8, Vec<u8>)], bytes: u64) -> String {
    if has(options, b'h') {
        if bytes == 0 { "0".to_owned() } else { human(bytes) }
    } else if has(options, b'b') {
        bytes.to_string()
    } else if has(options, b'm') {
        bytes.div_ceil(1 << 20).to_string()
    } else {
        bytes.div_ceil(1_024).to_string()
    }
}

fn du_one(cx: &mut Cx<'_, '_>, options: &[(u8, Vec<u8>)], real: &[u8], shown: &[u8], depth: usize, most: usize) -> u64 {
    let Some(node) = cx.x.fs.get(real) else { return 0 };
    let virt = real.starts_with(b"/proc") || real.starts_with(b"/sys");
    let mut total = if virt {
        0
    } else if has(options, b'b') {
        node.size()
    } else {
        node.blocks() * 512
    };
    if node.is_dir() && depth < 48 && !virt {
        for (name, _) in cx.x.fs.list(real) {
            if !cx.alive() {
                break;
            }
            total += du_one(cx, options, &fs::join(real, &name), &fs::join(shown, &name), depth + 1, most);
        }
    }
    if depth == 0 || depth <= most && (node.is_dir() || has(options, b'a')) {
        let text = du_text(options, total);
        cx.say(&format!("{text}\t{}\n", show(shown)));
    }
    total
}

pub(super) fn file(cx: &mut Cx<'_, '_>, args: &[Vec<u8>]) -> i32 {
    let Ok((options, rest)) = cx.options(args, "bihLNsz", &[("brief", b'b'), ("mime-type", b'i'), ("mime", b'i')]) else { return 1 };
    let width = rest.iter().map(Vec::len).max().unwrap_or(0);
    for path in rest {
        let kind = match cx.stat(&path, false) {
            Err(_) => format!("cannot open `{}' (No such file or directory)", show(&path)),
            Ok((real, node)) => match &node.kind {
                Kind::Dir if node.mode & 0o1000 != 0 => "sticky, directory".to_owned(),
                Kind::Dir => "directory".to_owned(),
                Kind::Link(t) => format!("symbolic link to {}", show(t)),
                Kind::Char(a, b) => format!("character special ({a}/{b})"),
                Kind::Block(a, b) => format!("block special ({a}/{b})"),
                Kind::Fifo => "fifo (named pipe)".to_owned(),
                Kind::Socket => "socket".to_owned(),
                Kind::File(_) => {
                    let data = cx.x.content(&real, &node).unwrap_or_default();
                    kind_of(&data)
                }
            },
        };
        let line =
            if has(&options, b'b') { format!("{kind}\n") } else { format!("{:<w$} {kind}\n", format!("{}:", show(&path)), w = width + 1) };
        cx.say(&line);
    }
    0
}

fn kind_of(data: &[u8]) -> String {
    if data.is_empty() {
        return "empty".to_owned();
    }
    if data.starts_with(b"\x7fELF") {
        let bits = if data.get(4) == Some(&1) { 32 } else { 64 };
        let order = if data.get(5) == Some(&2) { "MSB" } else { "LSB" };
        let pair = |at: usize| {
            let (a, b) = (u16::from(data.get(at).copied().unwrap_or(0)), u16::from(data.get(at + 1).copied().unwrap_or(0)));
            if order == "MSB" { a << 8 | b } else { b << 8 | a }
        };
        let machine = match pair(18) {
            3 => "Intel 80386",
            8 => "MIPS, MIPS-I",
            20 => "PowerPC or cisco 4500",
            40 => "ARM, EABI5",
            42 => "Renesas SH",
            62 => "x86-64",
            183 => "ARM aarch64",
            _ => "unknown arch",
        };
        let kind = match pair(16) {
            1 => "relocatable",
            2 => "executable",
            3 => "pie executable",
            _ => "core file",
        };
        return format!("ELF {bits}-bit {order} {kind}, {machine}, version 1 (SYSV)");
    }
    for (magic, text) in [
        (b"#!/bin/bash".as_slice(), "Bourne-Again shell script, ASCII text executable"),
        (b"#!/bin/sh", "POSIX shell script, ASCII text executable"),
        (b"\x1f\x8b", "gzip compressed data"),
        (b"BZh", "bzip2 compressed data"),
        (b"PK\x03\x04", "Zip archive data"),
        (b"\x89PNG", "PNG image data"),
        (b"%PDF", "PDF document"),
    ] {
        if data.starts_with(magic) {
            return text.to_owned();
        }
    }
    if data.iter().take(4_096).all(|b| (32..127).contains(b) || matches!(b, 9 | 10 | 13)) {
        return if data.contains(&b'\n') { "ASCII text".to_owned() } else { "ASCII text, with no line terminators".to_owned() };
    }
    if std::str::from_utf8(data).is_ok() { "Unicode text, UTF-8 text".to_owned() } else { "data".to_owned() }
}
