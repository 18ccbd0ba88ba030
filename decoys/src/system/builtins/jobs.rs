//! Builtins about processes, history and limits.

use std::sync::Arc;

use crate::system::commands::{Cx, number, show};

pub(super) fn jobs(cx: &mut Cx<'_, '_>, _: &[Vec<u8>]) -> i32 {
    let jobs = cx.st.jobs.clone();
    let count = jobs.len();
    for (n, (_, text)) in jobs.into_iter().enumerate() {
        let mark = if n + 1 == count {
            '+'
        } else if n + 2 == count {
            '-'
        } else {
            ' '
        };
        cx.say(&format!("[{}]{mark}  Done                    {}\n", n + 1, show(&text)));
    }
    cx.st.jobs.clear();
    0
}

pub(super) fn background(cx: &mut Cx<'_, '_>, args: &[Vec<u8>]) -> i32 {
    if !cx.st.interactive {
        return cx.complain("no job control");
    }
    match args.get(1) {
        Some(job) => cx.complain(&format!("{}: no such job", show(job))),
        None => cx.complain("current: no such job"),
    }
}

pub(super) fn kill(cx: &mut Cx<'_, '_>, args: &[Vec<u8>]) -> i32 {
    crate::system::commands::kill_builtin(cx, args)
}

pub(super) fn enable(cx: &mut Cx<'_, '_>, args: &[Vec<u8>]) -> i32 {
    if args.len() > 1 && args.iter().skip(1).all(|a| super::find(a, false).is_some() || a.first() == Some(&b'-')) {
        return 0;
    }
    if let Some(name) = args.get(1) {
        return cx.complain(&format!("{}: not a shell builtin", show(name)));
    }
    for name in super::names() {
        cx.say(&format!("enable {name}\n"));
    }
    0
}

pub(super) fn help(cx: &mut Cx<'_, '_>, args: &[Vec<u8>]) -> i32 {
    if let Some(topic) = args.get(1) {
        if super::find(topic, false).is_some() {
            cx.say(&format!("{t}: {t}\n", t = show(topic)));
            return 0;
        }
        return cx.complain(&format!("no help topics match `{t}'.  Try `help help' or `man -k {t}' or `info {t}'.", t = show(topic)));
    }
    cx.say("GNU bash, version 5.2.15(1)-release (x86_64-pc-linux-gnu)\nThese shell commands are defined internally.  Type `help' to see this list.\nType `help name' to find out more about the function `name'.\nUse `info bash' to find out more about the shell in general.\nUse `man -k' or `info' to find out more about commands not in this list.\n\nA star (*) next to a name means that the command is disabled.\n\n");
    for name in super::names() {
        cx.say(&format!(" {name}\n"));
    }
    0
}

pub(super) fn history(cx: &mut Cx<'_, '_>, args: &[Vec<u8>]) -> i32 {
    match args.get(1).map(Vec::as_slice) {
        Some(b"-c") => {
            Arc::make_mut(&mut cx.st.history).clear();
            return 0;
        }
        Some(b"-w" | b"-a") => {
            let Some(path) = cx.st.get(b"HISTFILE") else { return 0 };
            let mut text = cx.st.history.iter().cloned().collect::<Vec<_>>().join(&b'\n');
            text.push(b'\n');
            return match cx.write_file(&path, text) {
                Ok(()) => 0,
                Err(e) => cx.complain(&format!("{}: cannot create: {}", show(&path), e.text())),
            };
        }
        Some(b"-d") => {
            if let Some(at) = args.get(2).and_then(|a| number::<usize>(a)) {
                Arc::make_mut(&mut cx.st.history).remove(at.saturating_sub(1));
            }
            return 0;
        }
        Some(b"-r" | b"-n") => return 0,
        Some(arg) if number::<usize>(arg).is_none() => {
            return cx.complain(&format!("{}: numeric argument required", show(arg)));
        }
        _ => {}
    }
    let all = Arc::clone(&cx.st.history);
    let skip = args.get(1).and_then(|a| number::<usize>(a)).map_or(0, |n| all.len().saturating_sub(n));
    for (n, line) in all.iter().enumerate().skip(skip) {
        let text = [format!("{:>5}  ", n + 1).as_bytes(), line, b"\n"].concat();
        cx.out(&text);
    }
    0
}

pub(super) fn times(cx: &mut Cx<'_, '_>, _: &[Vec<u8>]) -> i32 {
    cx.say("0m0.004s 0m0.002s\n0m0.001s 0m0.003s\n");
    0
}

/// What `ulimit -a` shows: letter, description, unit, value.
const LIMITS: [(u8, &str, &str, &str); 16] = [
    (b'R', "real-time non-blocking time", "microseconds, -R", "unlimited"),
    (b'c', "core file size", "blocks, -c", "0"),
    (b'd', "data seg size", "kbytes, -d", "unlimited"),
    (b'e', "scheduling priority", "-e", "0"),
    (b'f', "file size", "blocks, -f", "unlimited"),
    (b'i', "pending signals", "-i", "@"),
    (b'l', "max locked memory", "kbytes, -l", "#"),
    (b'm', "max memory size", "kbytes, -m", "unlimited"),
    (b'n', "open files", "-n", "1024"),
    (b'p', "pipe size", "512 bytes, -p", "8"),
    (b'q', "POSIX message queues", "bytes, -q", "819200"),
    (b'r', "real-time priority", "-r", "0"),
    (b's', "stack size", "kbytes, -s", "8192"),
    (b't', "cpu time", "seconds, -t", "unlimited"),
    (b'u', "max user processes", "-u", "@"),
    (b'v', "virtual memory", "kbytes, -v", "unlimited"),
];

pub(super) fn ulimit(cx: &mut Cx<'_, '_>, args: &[Vec<u8>]) -> i32 {
    let mem = cx.x.machine.facts.mem_kb;
    let value = |v: &str| match v {
        "@" => (mem / 260).to_string(),
        "#" => (mem / 8).to_string(),
        other => other.to_owned(),
    };
    let letters: Vec<u8> = args
        .iter()
        .skip(1)
        .filter(|a| a.first() == Some(&b'-'))
        .flat_map(|a| a.iter().skip(1).copied())
        .filter(|l| !matches!(l, b'S' | b'H'))
        .collect();
    if letters.contains(&b'a') {
        for (_, name, unit, v) in LIMITS {
            cx.say(&format!("{name:<27} {:>20} {}\n", format!("({unit})"), value(v)));
        }
        cx.say("file locks                                  (-x) unlimited\n");
        return 0;
    }
    let letter = letters.first().copied().unwrap_or(b'f');
    if args.iter().skip(1).any(|a| a.first() != Some(&b'-')) {
        return 0;
    }
    match LIMITS.iter().find(|l| l.0 == letter) {
        Some((_, _, _, v)) => {
            let line = format!("{}\n", value(v));
            cx.say(&line);
            0
        }
        None => {
            cx.complain(&format!("-{}: invalid option", char::from(letter)));
            2
        }
    }
}

pub(super) fn umask(cx: &mut Cx<'_, '_>, args: &[Vec<u8>]) -> i32 {
    match args.get(1).map(Vec::as_slice) {
        None => {
            let line = format!("{:04o}\n", cx.st.umask);
            cx.say(&line);
            0
        }
        Some(b"-S") => {
            let bits = |shift: u32| {
                let b = !cx.st.umask >> shift;
                [(4, 'r'), (2, 'w'), (1, 'x')].iter().filter(|(m, _)| b & m != 0).map(|(_, c)| *c).collect::<String>()
            };
            let line = format!("u={},g={},o={}\n", bits(6), bits(3), bits(0));
            cx.say(&line);
            0
        }
        Some(text) => match u32::from_str_radix(&show(text), 8) {
            Ok(mask) if mask <= 0o777 => {
                cx.st.umask = mask;
                0
            }
            _ => cx.complain(&format!("{}: octal number out of range", show(text))),
        },
    }
}
