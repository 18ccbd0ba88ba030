//! `tar`, `gzip` and their kin: plain tar archives are read and written, compressed data is refused as damaged or foreign.

use super::{Cx, has, show, value};
use crate::system::{
    fs::{self, Content, Kind},
    limits, time,
};

pub(super) fn gzip(cx: &mut Cx<'_, '_>, args: &[Vec<u8>]) -> i32 {
    let Ok((options, rest)) = cx.options(
        args,
        "cdfhkLlnNqrtvV123456789",
        &[("decompress", b'd'), ("stdout", b'c'), ("force", b'f'), ("keep", b'k'), ("list", b'l'), ("test", b't')],
    ) else {
        return 1;
    };
    if has(&options, 0) {
        return 0;
    }
    let (name, suffix) = if cx.name.contains("bz") { ("bzip2", ".bz2") } else { ("gzip", ".gz") };
    if rest.is_empty() {
        if cx.tty_out() {
            cx.err(&format!(
                "{name}: compressed data not written to a terminal. Use -f to force compression.\nFor help, type: {name} -h\n"
            ));
            return 1;
        }
        cx.input();
        if cx.x.waiting.is_none() {
            cx.err(&format!("\n{name}: stdin: not in {name} format\n"));
        }
        return 1;
    }
    let mut status = 0;
    for path in rest {
        match cx.read(&path) {
            Err(e) => {
                cx.err(&format!("{name}: {}: {}\n", show(&path), e.text()));
                status = 1;
            }
            Ok(data) => {
                let decompress = has(&options, b'd') || cx.name != name;
                if decompress && !show(&path).ends_with(suffix) && cx.name != "zcat" {
                    cx.err(&format!("{name}: {}: unknown suffix -- ignored\n", show(&path)));
                    status = 2;
                } else if decompress && !data.starts_with(b"\x1f\x8b") {
                    cx.err(&format!("\n{name}: {}: not in {name} format\n", show(&path)));
                    status = 1;
                } else if decompress {
                    cx.err(&format!("\n{name}: {}: unexpected end of file\n", show(&path)));
                    status = 1;
                } else {
                    cx.err(&format!("{name}: {}{suffix}: No space left on device\n", show(&path)));
                    status = 1;
                }
            }
        }
    }
    status
}

fn octal(field: &[u8]) -> usize {
    field.iter().filter(|b| (b'0'..=b'7').contains(b)).take(11).fold(0usize, |n, b| n * 8 + usize::from(b - b'0'))
}

pub(super) fn tar(cx: &mut Cx<'_, '_>, args: &[Vec<u8>]) -> i32 {
    let mut args = args.to_vec();
    // The first word may be letters without a dash.
    if let Some(first) = args.get_mut(1)
        && first.first().is_some_and(u8::is_ascii_alphabetic)
    {
        first.insert(0, b'-');
    }
    let longs = [
        ("extract", b'x'),
        ("create", b'c'),
        ("list", b't'),
        ("file=", b'f'),
        ("gzip", b'z'),
        ("verbose", b'v'),
        ("directory=", b'C'),
        ("strip-components=", b'S'),
        ("bzip2", b'j'),
        ("xz", b'J'),
    ];
    let Ok((options, rest)) = cx.options(&args, "xctf:zvC:jJpkmPhOS:r", &longs) else { return 2 };
    if has(&options, 0) {
        return 0;
    }
    let file = value(&options, b'f').unwrap_or(b"-").to_vec();
    let verbose = has(&options, b'v');
    if has(&options, b'x') || has(&options, b't') {
        let data = match cx.read(&file) {
            Ok(d) => d,
            Err(e) => {
                cx.err(&format!("tar: {}: Cannot open: {}\ntar: Error is not recoverable: exiting now\n", show(&file), e.text()));
                return 2;
            }
        };
        if cx.x.waiting.is_some() {
            return 0;
        }
        if data.starts_with(b"\x1f\x8b") || has(&options, b'z') {
            cx.err(if data.starts_with(b"\x1f\x8b") {
                "\ngzip: stdin: unexpected end of file\ntar: Child returned status 1\ntar: Error is not recoverable: exiting now\n"
            } else {
                "\ngzip: stdin: not in gzip format\ntar: Child returned status 1\ntar: Error is not recoverable: exiting now\n"
            });
            return 2;
        }
        if data.get(257..262) != Some(b"ustar") {
            cx.err("tar: This does not look like a tar archive\ntar: Exiting with failure status due to previous errors\n");
            return 2;
        }
        return extract(cx, &options, &data, &rest, verbose);
    }
    if has(&options, b'c') {
        if rest.is_empty() {
            cx.err("tar: Cowardly refusing to create an empty archive\nTry 'tar --help' or 'tar --usage' for more information.\n");
            return 2;
        }
        return create(cx, &file, &rest, verbose);
    }
    cx.err("tar: You must specify one of the '-Acdtrux', '--delete' or '--test-label' options\nTry 'tar --help' or 'tar --usage' for more information.\n");
    2
}

fn extract(cx: &mut Cx<'_, '_>, options: &[(u8, Vec<u8>)], data: &[u8], only: &[Vec<u8>], verbose: bool) -> i32 {
    let dir = value(options, b'C').unwrap_or(b".").to_vec();
    let mut at = 0;
    let mut status = 0;
    while let Some(head) = data.get(at..at + 512) {
        if head.iter().all(|b| *b == 0) || !cx.alive() {
            break;
        }
        let text =
            |from: usize, len: usize| head.get(from..from + len).unwrap_or_default().split(|b| *b == 0).next().unwrap_or_default().to_vec();
        let mut name = text(0, 100);
        let prefix = text(345, 155);
        if !prefix.is_empty() {
            name = fs::join(&prefix, &name);
        }
        let size = octal(head.get(124..136).unwrap_or_default());
        let mode = octal(head.get(100..108).unwrap_or_default()) as u32 & 0o7777;
        let mtime = octal(head.get(136..148).unwrap_or_default()) as i64;
        let kind = head.get(156).copied().unwrap_or(b'0');
        let body = data.get(at + 512..(at + 512).saturating_add(size)).unwrap_or_default();
        at = at.saturating_add(512 + size.div_ceil(512).saturating_mul(512));
        if !only.is_empty() && !only.iter().any(|o| name.starts_with(o)) {
            continue;
        }
        let relative = name.iter().skip_while(|b| **b == b'/').copied().collect::<Vec<u8>>();
        if has(options, b't') {
            let line = if verbose {
                format!(
                    "{}{} root/root {size:>9} {} {}\n",
                    if kind == b'5' { 'd' } else { '-' },
                    fs::Node::new(Kind::File(Content::new("")), mode, 0, 0, 0).mode_text().get(1..).unwrap_or(""),
                    String::from_utf8_lossy(&time::format(b"%F %R", mtime, 0)),
                    show(&name)
                )
            } else {
                format!("{}\n", show(&name))
            };
            cx.say(&line);
            continue;
        }
        if verbose {
            cx.say(&format!("{}\n", show(&name)));
        }
        let path = fs::join(&dir, &relative);
        if kind == b'5' {
            super::files::mkdir(cx, &[b"mkdir".to_vec(), b"-p".to_vec(), path]);
        } else if kind == b'0' || kind == 0 {
            if let Some(cut) = path.iter().rposition(|b| *b == b'/') {
                let parent = path.get(..cut).unwrap_or_default().to_vec();
                if !parent.is_empty() && cx.stat(&parent, true).is_err() {
                    super::files::mkdir(cx, &[b"mkdir".to_vec(), b"-p".to_vec(), parent]);
                }
            }
            match cx.write_file(&path, body.to_vec()) {
                Ok(()) => {
                    if let Ok((real, _)) = cx.stat(&path, true) {
                        let _ = cx.x.fs.change(&real, |n| (n.mode, n.mtime) = (mode, mtime));
                    }
                }
                Err(e) => {
                    cx.err(&format!("tar: {}: Cannot open: {}\n", show(&name), e.text()));
                    status = 2;
                }
            }
        }
    }
    status
}

fn create(cx: &mut Cx<'_, '_>, file: &[u8], paths: &[Vec<u8>], verbose: bool) -> i32 {
    let mut out = Vec::new();
    let mut status = 0;
    let mut todo: Vec<Vec<u8>> = paths.iter().rev().cloned().collect();
    let mut stripped = false;
    while let Some(path) = todo.pop() {
        if !cx.alive() || out.len() > limits::PIPE {
            break;
        }
        let (real, node) = match cx.stat(&path, false) {
            Ok(f) => f,
            Err(e) => {
                cx.err(&format!("tar: {}: Cannot stat: {}\n", show(&path), e.text()));
                status = 2;
                continue;
            }
        };
        let mut name: Vec<u8> = path.iter().skip_while(|b| **b == b'/').copied().collect();
        if name.len() < path.len() && !std::mem::replace(&mut stripped, true) {
            cx.err("tar: Removing leading `/' from member names\n");
        }
        let body = if node.is_file() { cx.x.content(&real, &node).unwrap_or_default() } else { Default::default() };
        if node.is_dir() {
            name.push(b'/');
            let children: Vec<Vec<u8>> = cx.x.fs.list(&real).into_iter().rev().map(|(n, _)| fs::join(&path, &n)).collect();
            todo.extend(children);
            todo.truncate(limits::WORDS);
        }
        if verbose {
            let line = format!("{}\n", show(&name));
            if file == b"-" { cx.err(&line) } else { cx.say(&line) }
        }
        let mut head = vec![0u8; 512];
        let mut put = |at: usize, text: &[u8]| {
            for (slot, b) in head.iter_mut().skip(at).zip(text) {
                *slot = *b;
            }
        };
        put(0, name.get(..name.len().min(100)).unwrap_or_default());
        put(100, format!("{:07o}", node.mode).as_bytes());
        put(108, format!("{:07o}", node.uid).as_bytes());
        put(116, format!("{:07o}", node.gid).as_bytes());
        put(124, format!("{:011o}", body.len()).as_bytes());
        put(136, format!("{:011o}", node.mtime).as_bytes());
        put(148, b"        ");
        put(156, if node.is_dir() { b"5" } else { b"0" });
        put(257, b"ustar  ");
        put(265, b"root");
        put(297, b"root");
        let sum: u32 = head.iter().map(|b| u32::from(*b)).sum();
        for (slot, b) in head.iter_mut().skip(148).zip(format!("{sum:06o}\0 ").bytes()) {
            *slot = b;
        }
        out.extend(head);
        out.extend_from_slice(&body);
        out.resize(out.len().div_ceil(512) * 512, 0);
    }
    out.resize((out.len() + 1_024).div_ceil(10_240) * 10_240, 0);
    if file == b"-" {
        cx.out(&out);
    } else if let Err(e) = cx.write_file(file, out) {
        cx.err(&format!("tar: {}: Cannot open: {}\ntar: Error is not recoverable: exiting now\n", show(file), e.text()));
        return 2;
    }
    status
}
