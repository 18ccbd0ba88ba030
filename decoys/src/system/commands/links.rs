//! Programs about names: `ln`, `readlink`, `realpath`, `basename`, `dirname`, `mktemp`, `stat`.

use super::{Cx, has, show, value};
use crate::system::{
    fs::{self, Content, Kind, Node},
    time,
};

pub(super) fn ln(cx: &mut Cx<'_, '_>, args: &[Vec<u8>]) -> i32 {
    let Ok((options, mut rest)) =
        cx.options(args, "sfnvirTt:L", &[("symbolic", b's'), ("force", b'f'), ("no-dereference", b'n'), ("verbose", b'v')])
    else {
        return 1;
    };
    if has(&options, 0) {
        return 0;
    }
    if rest.is_empty() {
        cx.err("ln: missing file operand\nTry 'ln --help' for more information.\n");
        return 1;
    }
    let link = if rest.len() > 1 { rest.pop().unwrap_or_default() } else { b".".to_vec() };
    let mut status = 0;
    let symbolic = has(&options, b's');
    for target in rest {
        let is_dir = cx.stat(&link, !has(&options, b'n')).is_ok_and(|(_, n)| n.is_dir());
        let to =
            if is_dir { fs::join(&link, target.rsplit(|b| *b == b'/').find(|p| !p.is_empty()).unwrap_or_default()) } else { link.clone() };
        let who = cx.st.who.clone();
        let kind = if symbolic {
            Ok(Kind::Link(target.clone()))
        } else {
            match cx.stat(&target, true) {
                Ok((_, n)) if n.is_dir() => {
                    status = cx.fail(&format!("{}: hard link not allowed for directory", show(&target)));
                    continue;
                }
                Ok((_, n)) => Ok(n.kind),
                Err(e) => Err(e),
            }
        };
        let kind = match kind {
            Ok(k) => k,
            Err(e) => {
                status = cx.fail(&format!("failed to access '{}': {}", show(&target), e.text()));
                continue;
            }
        };
        let mode = if symbolic { 0o777 } else { cx.stat(&target, true).map_or(0o644, |(_, n)| n.mode) };
        let result = cx.x.fs.find(&cx.st.cwd, &to, false).and_then(|f| {
            if has(&options, b'f') && f.node.as_ref().is_some_and(|n| !n.is_dir()) {
                cx.x.fs.remove(&who, &f.path)?;
            }
            cx.x.fs.create(&who, &f.path, kind, mode)
        });
        match result {
            Ok(()) if has(&options, b'v') => cx.say(&format!("'{}' -> '{}'\n", show(&to), show(&target))),
            Ok(()) => {}
            Err(e) => {
                status =
                    cx.fail(&format!("failed to create {} link '{}': {}", if symbolic { "symbolic" } else { "hard" }, show(&to), e.text()))
            }
        }
    }
    status
}

pub(super) fn readlink(cx: &mut Cx<'_, '_>, args: &[Vec<u8>]) -> i32 {
    let longs = [
        ("canonicalize", b'f'),
        ("no-newline", b'n'),
        ("canonicalize-existing", b'e'),
        ("canonicalize-missing", b'm'),
        ("strip", b's'),
        ("quiet", b'q'),
    ];
    let Ok((options, rest)) = cx.options(args, "fenmqsvz", &longs) else { return 1 };
    if has(&options, 0) {
        return 0;
    }
    if rest.is_empty() {
        let line = format!("{n}: missing operand\nTry '{n} --help' for more information.\n", n = cx.name);
        cx.err(&line);
        return 1;
    }
    let full = cx.name == "realpath" || has(&options, b'f') || has(&options, b'e') || has(&options, b'm');
    let mut status = 0;
    for path in rest {
        let found = cx.x.fs.find(&cx.st.cwd, &path, full);
        let result = match found {
            Ok(f) if full && (f.node.is_some() || !has(&options, b'e')) => Some(f.path),
            Ok(fs::Found { node: Some(Node { kind: Kind::Link(target), .. }), .. }) if !full => Some(target),
            Ok(_) => None,
            Err(e) => {
                if cx.name == "realpath" {
                    cx.fail(&format!("{}: {}", show(&path), e.text()));
                }
                None
            }
        };
        match result {
            Some(mut text) => {
                if !has(&options, b'n') {
                    text.push(b'\n');
                }
                cx.out(&text);
            }
            None => status = 1,
        }
    }
    status
}

pub(super) fn basename(cx: &mut Cx<'_, '_>, args: &[Vec<u8>]) -> i32 {
    let Ok((options, rest)) = cx.options(args, "+as:z", &[("multiple", b'a'), ("suffix=", b's')]) else { return 1 };
    if has(&options, 0) {
        return 0;
    }
    if rest.is_empty() {
        cx.err("basename: missing operand\nTry 'basename --help' for more information.\n");
        return 1;
    }
    let many = has(&options, b'a') || has(&options, b's');
    if !many && rest.len() > 2 {
        cx.err(&format!(
            "basename: extra operand ‘{}’\nTry 'basename --help' for more information.\n",
            show(rest.get(2).map_or(b"".as_slice(), Vec::as_slice))
        ));
        return 1;
    }
    let suffix = value(&options, b's').map(<[u8]>::to_vec).or_else(|| if many { None } else { rest.get(1).cloned() }).unwrap_or_default();
    for path in rest.iter().take(if many { usize::MAX } else { 1 }) {
        let name = path.rsplit(|b| *b == b'/').find(|p| !p.is_empty()).unwrap_or(if path.is_empty() { b"" } else { b"/" });
        let name = name.strip_suffix(suffix.as_slice()).filter(|n| !n.is_empty()).unwrap_or(name);
        cx.out(&[name, b"\n"].concat());
    }
    0
}

pub(super) fn dirname(cx: &mut Cx<'_, '_>, args: &[Vec<u8>]) -> i32 {
    let Ok((_, rest)) = cx.options(args, "z", &[]) else { return 1 };
    if rest.is_empty() {
        cx.err("dirname: missing operand\nTry 'dirname --help' for more information.\n");
        return 1;
    }
    for path in rest {
        let mut end = path.len();
        let slash = |end: usize| end > 0 && path.get(end - 1) == Some(&b'/');
        while end > 1 && slash(end) {
            end -= 1;
        }
        while end > 0 && !slash(end) {
            end -= 1;
        }
        while end > 1 && slash(end) {
            end -= 1;
        }
        let dir = if end == 0 { b"." } else { path.get(..end).unwrap_or_default() };
        cx.out(&[dir, b"\n"].concat());
    }
    0
}

pub(super) fn mktemp(cx: &mut Cx<'_, '_>, args: &[Vec<u8>]) -> i32 {
    let Ok((options, rest)) = cx.options(args, "dqup:t", &[("directory", b'd'), ("dry-run", b'u'), ("tmpdir[=", b't'), ("suffix=", b's')])
    else {
        return 1;
    };
    if has(&options, 0) {
        return 0;
    }
    let template = rest.first().cloned().unwrap_or_else(|| b"tmp.XXXXXXXXXX".to_vec());
    let marks = template.iter().rev().skip_while(|b| **b != b'X').take_while(|b| **b == b'X').count();
    if marks < 3 {
        return cx.fail(&format!("too few X's in template ‘{}’", show(&template)));
    }
    const ALPHABET: &[u8] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let last = template.iter().rposition(|b| *b == b'X').unwrap_or(0);
    let mut name = template.clone();
    for (at, slot) in name.iter_mut().enumerate() {
        if at <= last && at + marks > last {
            *slot = cx.st.random.pick(ALPHABET).copied().unwrap_or(b'a');
        }
    }
    let path = if rest.is_empty() || has(&options, b't') || has(&options, b'p') {
        let dir = value(&options, b'p')
            .filter(|p| !p.is_empty())
            .map(<[u8]>::to_vec)
            .or_else(|| cx.st.get(b"TMPDIR"))
            .unwrap_or_else(|| b"/tmp".to_vec());
        fs::join(&dir, &name)
    } else {
        name
    };
    let who = cx.st.who.clone();
    let kind = if has(&options, b'd') { Kind::Dir } else { Kind::File(Content::new(Vec::new())) };
    let mode = if has(&options, b'd') { 0o700 } else { 0o600 };
    let result =
        cx.x.fs
            .find(&cx.st.cwd, &path, false)
            .and_then(|f| if has(&options, b'u') { Ok(()) } else { cx.x.fs.create(&who, &f.path, kind, mode) });
    match result {
        Ok(()) => {
            cx.out(&[path.as_slice(), b"\n"].concat());
            0
        }
        Err(e) => cx.fail(&format!(
            "failed to create {} via template ‘{}’: {}",
            if has(&options, b'd') { "directory" } else { "file" },
            show(&template),
            e.text()
        )),
    }
}

fn kind_name(node: &Node) -> &'static str {
    match node.kind {
        Kind::Dir => "directory",
        Kind::File(_) if node.size() == 0 => "regular empty file",
        Kind::File(_) => "regular file",
        Kind::Link(_) => "symbolic link",
        Kind::Char(..) => "character special file",
        Kind::Block(..) => "block special file",
        Kind::Fifo => "fifo",
        Kind::Socket => "socket",
    }
}

fn full_time(seconds: i64, nanos: u32) -> String {
    String::from_utf8_lossy(&time::format(b"%F %T.%N %z", seconds, nanos)).into_owned()
}

pub(super) fn stat(cx: &mut Cx<'_, '_>, args: &[Vec<u8>]) -> i32 {
    let Ok((options, rest)) =
        cx.options(args, "Lfc:t", &[("dereference", b'L'), ("format=", b'c'), ("printf=", b'p'), ("file-system", b'f'), ("terse", b't')])
    else {
        return 1;
    };
    if has(&options, 0) {
        return 0;
    }
    if rest.is_empty() {
        cx.err("stat: missing operand\nTry 'stat --help' for more information.\n");
        return 1;
    }
    let mut status = 0;
    for path in rest {
        let (real, node) = match cx.stat(&path, has(&options, b'L')) {
            Ok(f) => f,
            Err(e) => {
                status = cx.fail(&format!("cannot statx '{}': {}", show(&path), e.text()));
                continue;
            }
        };
        if has(&options, b'f') {
            let f = &cx.x.machine.facts;
            let blocks = f.root_kb / 4;
            let free = blocks.saturating_sub(f.disk_used(cx.now()) / 4);
            let text = format!(
                "  File: \"{}\"\n    ID: {} Namelen: 255     Type: ext2/ext3\nBlock size: 4096       Fundamental block size: 4096\nBlocks: Total: {blocks:<10} Free: {free:<10} Available: {}\nInodes: Total: {:<10} Free: {}\n",
                show(&path),
                f.machine_id.get(..16).unwrap_or(""),
                free.saturating_sub(blocks / 20),
                f.root_kb / 16,
                f.root_kb / 16 - 31_000
            );
            cx.say(&text);
            continue;
        }
        let links = cx.x.fs.nlink(&real, &node);
        let user = show(&cx.x.user_name(node.uid));
        let group = show(&cx.x.group_name(node.gid));
        let mtime = (node.mtime, node.nanos);
        let format =
            value(&options, b'c')
                .map(|f| (f.to_vec(), true))
                .or(value(&options, b'p')
                    .map(|f| (crate::system::shell::escape::all(f, crate::system::shell::escape::Style::Printf).0, false)));
        if let Some((format, newline)) = format {
            let mut out = Vec::new();
            let mut bytes = format.iter();
            while let Some(b) = bytes.next() {
                if *b != b'%' {
                    out.push(*b);
                    continue;
                }
                let text = match bytes.next() {
                    Some(b'n') => show(&path),
                    Some(b'N') => match &node.kind {
                        Kind::Link(t) => format!("'{}' -> '{}'", show(&path), show(t)),
                        _ => format!("'{}'", show(&path)),
                    },
                    Some(b's') => node.size().to_string(),
                    Some(b'b') => node.blocks().to_string(),
                    Some(b'B') => "512".to_owned(),
                    Some(b'o') => "4096".to_owned(),
                    Some(b'a') => format!("{:o}", node.mode),
                    Some(b'A') => node.mode_text(),
                    Some(b'f') => format!(
                        "{:x}",
                        node.mode
                            | match node.kind {
                                Kind::Dir => 0o040_000,
                                Kind::Link(_) => 0o120_000,
                                Kind::Char(..) => 0o020_000,
                                Kind::Block(..) => 0o060_000,
                                Kind::Fifo => 0o010_000,
                                Kind::Socket => 0o140_000,
                                Kind::File(_) => 0o100_000,
                            }
                    ),
                    Some(b'F') => kind_name(&node).to_owned(),
                    Some(b'u') => node.uid.to_string(),
                    Some(b'U') => user.clone(),
                    Some(b'g') => node.gid.to_string(),
                    Some(b'G') => group.clone(),
                    Some(b'h') => links.to_string(),
                    Some(b'i') => node.ino.to_string(),
                    Some(b'd') => "65025".to_owned(),
                    Some(b'm') => "/".to_owned(),
                    Some(b'x' | b'y' | b'z' | b'w') => full_time(mtime.0, mtime.1),
                    Some(b'X' | b'Y' | b'Z' | b'W') => mtime.0.to_string(),
                    Some(b'%') => "%".to_owned(),
                    Some(other) => format!("?{}", char::from(*other)),
                    None => "%".to_owned(),
                };
                out.extend(text.into_bytes());
            }
            if newline {
                out.push(b'\n');
            }
            cx.out(&out);
            continue;
        }
        let name = match &node.kind {
            Kind::Link(t) => format!("{} -> {}", show(&path), show(t)),
            _ => show(&path),
        };
        let device = match node.kind {
            Kind::Char(a, b) | Kind::Block(a, b) => {
                format!("Device: 0,5\tInode: {:<11} Links: {links:<5} Device type: {a},{b}\n", node.ino)
            }
            _ => format!("Device: {},1\tInode: {:<11} Links: {links}\n", if cx.x.machine.facts.disk == "sda" { 8 } else { 254 }, node.ino),
        };
        let when = full_time(mtime.0, mtime.1);
        let text = format!(
            "  File: {name}\n  Size: {:<10}\tBlocks: {:<10} IO Block: 4096   {}\n{device}Access: ({:04o}/{})  Uid: ({:>5}/{:>8})   Gid: ({:>5}/{:>8})\nAccess: {when}\nModify: {when}\nChange: {when}\n Birth: {when}\n",
            node.size(),
            node.blocks(),
            kind_name(&node),
            node.mode,
            node.mode_text(),
            node.uid,
            user,
            node.gid,
            group
        );
        cx.say(&text);
    }
    status
}
