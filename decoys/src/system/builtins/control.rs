//! Builtins that steer the shell: directories, evaluation, loops, leaving.

use crate::system::{
    commands::{Cx, number, show},
    fs::Errno,
    shell::exec::Flow,
};

pub(super) use crate::system::commands::builtin_echo as echo;
pub(super) use crate::system::commands::builtin_printf as printf;
pub(super) use crate::system::commands::builtin_test as test;

pub(super) fn nothing(_: &mut Cx<'_, '_>, _: &[Vec<u8>]) -> i32 {
    0
}

pub(super) fn no(_: &mut Cx<'_, '_>, _: &[Vec<u8>]) -> i32 {
    1
}

/// Goes to a directory; the message is written when it cannot.
fn go(cx: &mut Cx<'_, '_>, to: &[u8], physical: bool) -> bool {
    let old = cx.st.cwd.clone();
    // `cd` keeps the path as walked: links are shown unless -P.
    let mut logical: Vec<Vec<u8>> = if to.first() == Some(&b'/') {
        Vec::new()
    } else {
        old.split(|b| *b == b'/').filter(|p| !p.is_empty()).map(<[u8]>::to_vec).collect()
    };
    for part in to.split(|b| *b == b'/') {
        match part {
            b"" | b"." => {}
            b".." => {
                logical.pop();
            }
            p => logical.push(p.to_vec()),
        }
    }
    let mut path = vec![b'/'];
    path.extend(logical.join(&b'/'));
    let result = match cx.x.fs.stat(&old, to, true) {
        Err(e) => Err(e),
        Ok((_, node)) if !node.is_dir() => Err(Errno::NotDir),
        Ok((real, node)) if !cx.x.fs.may(&cx.st.who, &node, 1) || !cx.x.fs.reach(&cx.st.who, &real) => Err(Errno::Access),
        Ok((real, _)) => Ok(real),
    };
    match result {
        Ok(real) => {
            cx.st.cwd = if physical { real } else { path };
            cx.st.set(b"OLDPWD", old);
            let now = cx.st.cwd.clone();
            cx.st.set(b"PWD", now.clone());
            cx.x.fs.procs.cwd = now;
            true
        }
        Err(e) => {
            let why = if cx.st.posix { format!("can't cd to {}", show(to)) } else { format!("{}: {}", show(to), e.text()) };
            cx.complain(&why);
            false
        }
    }
}

pub(super) fn cd(cx: &mut Cx<'_, '_>, args: &[Vec<u8>]) -> i32 {
    let mut physical = false;
    let mut rest: Vec<&Vec<u8>> = Vec::new();
    for arg in args.iter().skip(1) {
        match arg.as_slice() {
            b"-P" => physical = true,
            b"-L" | b"-e" | b"--" => {}
            a if a.len() > 1 && a.first() == Some(&b'-') => {
                cx.complain(&format!("{}: invalid option", show(a.get(..2).unwrap_or_default())));
                cx.err("cd: usage: cd [-L|[-P [-e]] [-@]] [dir]\n");
                return 2;
            }
            _ => rest.push(arg),
        }
    }
    if rest.len() > 1 {
        return cx.complain("too many arguments");
    }
    let (to, print) = match rest.first().map(|r| r.as_slice()) {
        None => match cx.st.get(b"HOME") {
            Some(home) => (home, false),
            None => return cx.complain("HOME not set"),
        },
        Some(b"-") => match cx.st.get(b"OLDPWD") {
            Some(old) => (old, true),
            None => return cx.complain("OLDPWD not set"),
        },
        Some(b"") => return 0,
        Some(path) => (path.to_vec(), false),
    };
    if !go(cx, &to, physical) {
        return if cx.st.posix { 2 } else { 1 };
    }
    if print {
        let line = [cx.st.cwd.as_slice(), b"\n"].concat();
        cx.out(&line);
    }
    0
}

pub(super) fn pwd(cx: &mut Cx<'_, '_>, args: &[Vec<u8>]) -> i32 {
    let mut path = cx.st.cwd.clone();
    if args.get(1).is_some_and(|a| a == b"-P")
        && let Ok((real, _)) = cx.x.fs.stat(b"/", &path, true)
    {
        path = real;
    }
    path.push(b'\n');
    cx.out(&path);
    0
}

fn shown_dirs(cx: &Cx<'_, '_>) -> Vec<u8> {
    let home = cx.st.text("HOME");
    let short = |p: &Vec<u8>| match p.strip_prefix(home.as_slice()) {
        Some(rest) if home.len() > 1 && (rest.is_empty() || rest.first() == Some(&b'/')) => [b"~", rest].concat(),
        _ => p.clone(),
    };
    let mut all = vec![short(&cx.st.cwd)];
    all.extend(cx.st.dirs.iter().rev().map(short));
    let mut line = all.join(&b' ');
    line.push(b'\n');
    line
}

pub(super) fn dirs(cx: &mut Cx<'_, '_>, _: &[Vec<u8>]) -> i32 {
    let line = shown_dirs(cx);
    cx.out(&line);
    0
}

pub(super) fn pushd(cx: &mut Cx<'_, '_>, args: &[Vec<u8>]) -> i32 {
    let here = cx.st.cwd.clone();
    let to = match args.get(1) {
        Some(dir) => dir.clone(),
        None => match cx.st.dirs.pop() {
            Some(dir) => dir,
            None => return cx.complain("no other directory"),
        },
    };
    if !go(cx, &to, false) {
        return 1;
    }
    if cx.st.dirs.len() < 64 {
        cx.st.dirs.push(here);
    }
    dirs(cx, args)
}

pub(super) fn popd(cx: &mut Cx<'_, '_>, args: &[Vec<u8>]) -> i32 {
    match cx.st.dirs.pop() {
        Some(dir) if go(cx, &dir, false) => dirs(cx, args),
        Some(_) => 1,
        None => cx.complain("directory stack empty"),
    }
}

pub(super) fn eval(cx: &mut Cx<'_, '_>, args: &[Vec<u8>]) -> i32 {
    let text = args.get(1..).unwrap_or_default().join(&b' ');
    if text.trim_ascii().is_empty() {
        return 0;
    }
    if !cx.x.deeper(cx.st, cx.io) {
        return 137;
    }
    let status = cx.x.source(cx.st, cx.io, &text);
    cx.x.depth -= 1;
    status
}

pub(super) fn source(cx: &mut Cx<'_, '_>, args: &[Vec<u8>]) -> i32 {
    let Some(path) = args.get(1) else {
        cx.complain("filename argument required");
        cx.err(".: usage: . filename [arguments]\n");
        return 2;
    };
    let found = if path.contains(&b'/') { None } else { cx.x.which(cx.st, path).into_iter().next().map(|(_, real)| real) };
    let text = cx.read(found.as_deref().unwrap_or(path));
    match text {
        Ok(text) => {
            if !cx.x.deeper(cx.st, cx.io) {
                return 137;
            }
            let saved = (args.len() > 2).then(|| std::mem::replace(&mut cx.st.args, args.get(2..).unwrap_or_default().to_vec()));
            cx.x.sourcing += 1;
            let mut status = cx.x.source(cx.st, cx.io, text.get(..text.len().min(crate::system::limits::SOURCE)).unwrap_or_default());
            cx.x.sourcing -= 1;
            if cx.x.flow == Flow::Return {
                cx.x.flow = Flow::None;
                status = cx.st.last;
            }
            if let Some(saved) = saved {
                cx.st.args = saved;
            }
            cx.x.depth -= 1;
            status
        }
        Err(e) => {
            let line = format!("{}: {}", show(path), e.text());
            cx.x.complain(cx.st, cx.io, &line);
            1
        }
    }
}

pub(super) fn exec(cx: &mut Cx<'_, '_>, args: &[Vec<u8>]) -> i32 {
    let mut rest = args.get(1..).unwrap_or_default();
    while let Some(first) = rest.first() {
        match first.as_slice() {
            b"-a" => rest = rest.get(2..).unwrap_or_default(),
            b"-l" | b"-c" | b"--" => rest = rest.get(1..).unwrap_or_default(),
            _ => break,
        }
    }
    let Some(name) = rest.first().cloned() else { return 0 };
    let Some((_, real)) = cx.x.which(cx.st, &name).into_iter().next() else {
        cx.x.unknown = true;
        cx.complain(&format!("{}: not found", show(&name)));
        if !cx.st.interactive {
            cx.st.last = 127;
            cx.x.flow = Flow::Exit;
        }
        return 127;
    };
    let status = cx.x.program(cx.st, cx.io, &real, rest);
    if cx.x.flow != Flow::Stop {
        cx.st.last = status;
        cx.x.flow = Flow::Exit;
    }
    status
}

pub(super) fn exit(cx: &mut Cx<'_, '_>, args: &[Vec<u8>]) -> i32 {
    if cx.name == "logout" && !cx.st.interactive {
        cx.complain("not login shell: use `exit'");
        return 1;
    }
    let mut status = cx.st.last;
    if let Some(arg) = args.get(1) {
        match number::<i64>(arg) {
            Some(n) => status = (n & 0xff) as i32,
            None => {
                cx.complain(&format!("{}: numeric argument required", show(arg)));
                status = 2;
            }
        }
    }
    if cx.st.interactive && !cx.st.subshell {
        cx.err("logout\n");
    }
    cx.st.last = status;
    cx.x.flow = Flow::Exit;
    status
}

pub(super) fn give_back(cx: &mut Cx<'_, '_>, args: &[Vec<u8>]) -> i32 {
    if cx.st.locals.is_empty() && cx.x.sourcing == 0 {
        return cx.complain("can only `return' from a function or sourced script");
    }
    let status = args.get(1).and_then(|a| number::<i64>(a)).map_or(cx.st.last, |n| (n & 0xff) as i32);
    cx.st.last = status;
    cx.x.flow = Flow::Return;
    status
}

pub(super) fn leave_loop(cx: &mut Cx<'_, '_>, args: &[Vec<u8>]) -> i32 {
    if cx.x.loops == 0 {
        cx.complain("only meaningful in a `for', `while', or `until' loop");
        return 0;
    }
    let n = args.get(1).and_then(|a| number::<u32>(a)).unwrap_or(1).clamp(1, cx.x.loops);
    cx.x.flow = if cx.name == "break" { Flow::Break(n) } else { Flow::Continue(n) };
    0
}

pub(super) fn builtin(cx: &mut Cx<'_, '_>, args: &[Vec<u8>]) -> i32 {
    let rest = args.get(1..).unwrap_or_default();
    let Some(name) = rest.first() else { return 0 };
    match super::find(name, false) {
        Some(found) => {
            let mut inner = Cx { x: cx.x, st: cx.st, io: cx.io, name: found.name };
            (found.run)(&mut inner, rest)
        }
        None => cx.complain(&format!("{}: not a shell builtin", show(name))),
    }
}

pub(super) fn command(cx: &mut Cx<'_, '_>, args: &[Vec<u8>]) -> i32 {
    let mut rest = args.get(1..).unwrap_or_default();
    let mut mode = 0u8;
    while let Some(first) = rest.first() {
        match first.as_slice() {
            b"-v" => mode = b'v',
            b"-V" => mode = b'V',
            b"-p" | b"--" => {}
            _ => break,
        }
        rest = rest.get(1..).unwrap_or_default();
    }
    if mode != 0 {
        let mut status = 1;
        for name in rest {
            if describe(cx, name, mode == b'V') {
                status = 0;
            } else if mode == b'V' {
                cx.complain(&format!("{}: not found", show(name)));
            }
        }
        return status;
    }
    let Some(name) = rest.first() else { return 0 };
    if let Some(found) = super::find(name, cx.st.posix) {
        let mut inner = Cx { x: cx.x, st: cx.st, io: cx.io, name: found.name };
        return (found.run)(&mut inner, rest);
    }
    match cx.x.which(cx.st, name).into_iter().next() {
        Some((_, real)) => cx.x.program(cx.st, cx.io, &real, rest),
        None => {
            cx.x.unknown = true;
            let line = format!("{}: command not found", show(name));
            cx.x.complain(cx.st, cx.io, &line);
            127
        }
    }
}

/// Prints what a name is, long (`type`) or short (`command -v`).
fn describe(cx: &mut Cx<'_, '_>, name: &[u8], long: bool) -> bool {
    let n = show(name);
    let line = if let Some(value) = cx.st.aliases.get(name).cloned() {
        if long { format!("{n} is aliased to `{}'\n", show(&value)) } else { format!("alias {n}='{}'\n", show(&value)) }
    } else if super::KEYWORDS.contains(&n.as_str()) {
        if long { format!("{n} is a shell keyword\n") } else { format!("{n}\n") }
    } else if let Some((_, source)) = cx.st.funcs.get(name).cloned() {
        if long { format!("{n} is a function\n{}\n", show(&source)) } else { format!("{n}\n") }
    } else if super::find(name, cx.st.posix).is_some() {
        if long { format!("{n} is a shell builtin\n") } else { format!("{n}\n") }
    } else if let Some((path, _)) = cx.x.which(cx.st, name).into_iter().next() {
        if long { format!("{n} is {}\n", show(&path)) } else { format!("{}\n", show(&path)) }
    } else {
        return false;
    };
    cx.say(&line);
    true
}

pub(super) fn type_of(cx: &mut Cx<'_, '_>, args: &[Vec<u8>]) -> i32 {
    let mut status = 0;
    let (mut kind, mut path, mut all) = (false, false, false);
    for arg in args.iter().skip(1) {
        match arg.as_slice() {
            b"-t" => kind = true,
            b"-p" | b"-P" => path = true,
            b"-a" => all = true,
            _ if kind => {
                let word = if cx.st.aliases.contains_key(arg) {
                    "alias"
                } else if super::KEYWORDS.contains(&show(arg).as_str()) {
                    "keyword"
                } else if cx.st.funcs.contains_key(arg) {
                    "function"
                } else if super::find(arg, false).is_some() {
                    "builtin"
                } else if !cx.x.which(cx.st, arg).is_empty() {
                    "file"
                } else {
                    status = 1;
                    continue;
                };
                cx.say(&format!("{word}\n"));
            }
            _ if path => match cx.x.which(cx.st, arg).into_iter().next() {
                Some((p, _)) => cx.out(&[p.as_slice(), b"\n"].concat()),
                None => status = 1,
            },
            _ => {
                if !describe(cx, arg, true) {
                    cx.complain(&format!("{}: not found", show(arg)));
                    status = 1;
                } else if all && super::find(arg, false).is_some() {
                    for (p, _) in cx.x.which(cx.st, arg) {
                        cx.say(&format!("{} is {}\n", show(arg), show(&p)));
                    }
                }
            }
        }
    }
    status
}
