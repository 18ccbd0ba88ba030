//! `sed`: addresses, `s d p q = a i c y n N D P g G h H x b t r w`, blocks, in-place editing.

mod parse;

use std::collections::BTreeMap;

use self::parse::{Address, Command, Op, Parser, Piece};
use super::{Cx, has, show};
use crate::system::{limits, regex::Regex};

struct Sed<'c, 'a, 'm> {
    cx: &'c mut Cx<'a, 'm>,
    out: Vec<u8>,
    work: u64,
}

impl Sed<'_, '_, '_> {
    fn matches(&mut self, address: &Address, space: &[u8], line: usize, last: bool) -> bool {
        match address {
            Address::Line(n) => *n == line,
            Address::Last => last,
            Address::Regex(r) => r.find(space, 0, &mut self.work).is_some(),
            Address::Step(first, step) => {
                if *step == 0 {
                    *first == line
                } else {
                    line >= *first && (line - first).is_multiple_of(*step)
                }
            }
            Address::Plus(_) | Address::Zero => false,
        }
    }

    fn selects(&mut self, command: &mut Command, space: &[u8], line: usize, last: bool) -> bool {
        let Some(from) = command.from.clone() else { return !command.negate };
        let hit = match command.to.clone() {
            None => self.matches(&from, space, line, last),
            Some(to) => {
                let ends = |s: &mut Self, began: usize| match &to {
                    Address::Line(n) => line >= *n,
                    Address::Plus(n) => line >= began + n,
                    Address::Zero => true,
                    other => s.matches(other, space, line, last),
                };
                match command.open {
                    Some(began) => {
                        if let Address::Line(n) = to
                            && line > n
                        {
                            command.open = None;
                            self.matches(&from, space, line, last)
                        } else {
                            if ends(self, began) {
                                command.open = None;
                            }
                            true
                        }
                    }
                    None if matches!(from, Address::Zero) && line == 1 => {
                        if !ends(self, 1) {
                            command.open = Some(1);
                        }
                        true
                    }
                    None if self.matches(&from, space, line, last) => {
                        let at_once = match &to {
                            Address::Line(n) => *n <= line,
                            Address::Plus(0) => true,
                            _ => false,
                        };
                        if !at_once {
                            command.open = Some(line);
                        }
                        true
                    }
                    None => false,
                }
            }
        };
        hit != command.negate
    }

    fn substitute(&mut self, space: &mut Vec<u8>, regex: &Regex, with: &[Piece], global: bool, nth: usize) -> bool {
        let mut out = Vec::new();
        let (mut at, mut count, mut done) = (0, 0usize, false);
        let mut after_match = None;
        while at <= space.len() {
            let Some(groups) = regex.find(space, at, &mut self.work) else { break };
            let Some((s, e)) = groups.first().copied().flatten() else { break };
            if s == e && after_match == Some(s) {
                out.extend(space.get(s));
                at = s + 1;
                after_match = None;
                continue;
            }
            out.extend_from_slice(space.get(at..s).unwrap_or_default());
            count += 1;
            if count >= nth.max(1) {
                done = true;
                let mut case = (b'E', 0u8);
                for piece in with {
                    let text = match piece {
                        Piece::Text(t) => t.clone(),
                        Piece::Group(n) => {
                            groups.get(*n).copied().flatten().and_then(|(s, e)| space.get(s..e)).unwrap_or_default().to_vec()
                        }
                        Piece::Case(c) => {
                            if matches!(c, b'u' | b'l') {
                                case.1 = *c;
                            } else {
                                case.0 = *c;
                            }
                            continue;
                        }
                    };
                    let mut text = match case.0 {
                        b'U' => text.to_ascii_uppercase(),
                        b'L' => text.to_ascii_lowercase(),
                        _ => text,
                    };
                    if let Some(first) = text.first_mut() {
                        match std::mem::take(&mut case.1) {
                            b'u' => *first = first.to_ascii_uppercase(),
                            b'l' => *first = first.to_ascii_lowercase(),
                            _ => {}
                        }
                    }
                    out.extend(text);
                }
            } else {
                out.extend_from_slice(space.get(s..e).unwrap_or_default());
            }
            at = e;
            after_match = Some(e);
            if s == e {
                out.extend(space.get(e));
                at = e + 1;
                after_match = None;
            }
            if (done && !global) || out.len() > limits::PIPE {
                break;
            }
        }
        if done {
            out.extend_from_slice(space.get(at..).unwrap_or_default());
            *space = out;
        }
        done
    }
}

pub(super) fn sed(cx: &mut Cx<'_, '_>, args: &[Vec<u8>]) -> i32 {
    // `-i` takes a suffix only when it is attached.
    let mut args = args.to_vec();
    let mut in_place = false;
    let mut suffix = Vec::new();
    args.retain(|a| {
        let hit = a.starts_with(b"-i") || a.starts_with(b"--in-place");
        if hit {
            in_place = true;
            suffix = a.strip_prefix(b"-i").or(a.strip_prefix(b"--in-place=")).unwrap_or_default().to_vec();
        }
        !hit
    });
    let longs = [
        ("quiet", b'n'),
        ("silent", b'n'),
        ("expression=", b'e'),
        ("file=", b'f'),
        ("regexp-extended", b'E'),
        ("separate", b's'),
        ("unbuffered", b'u'),
        ("null-data", b'z'),
    ];
    let Ok((options, mut rest)) = cx.options(&args, "ne:f:rEsuz", &longs) else { return 1 };
    if has(&options, 0) {
        return 0;
    }
    let mut script: Vec<Vec<u8>> = options.iter().filter(|o| o.0 == b'e').map(|o| o.1.clone()).collect();
    for (_, path) in options.iter().filter(|o| o.0 == b'f') {
        match cx.read(path) {
            Ok(text) => script.push(text.as_ref().clone()),
            Err(e) => return cx.fail(&format!("couldn't open file {}: {}", show(path), e.text())),
        }
    }
    if script.is_empty() {
        if rest.is_empty() {
            cx.err("Usage: sed [OPTION]... {script-only-if-no-other-script} [input-file]...\n");
            return 1;
        }
        script.push(rest.remove(0));
    }
    let text = script.join(&b'\n');
    let mut parser = Parser { src: &text, pos: 0, extended: has(&options, b'E') || has(&options, b'r'), last: None };
    let (mut commands, labels) = match parser.commands() {
        Ok(c) => c,
        Err(message) => {
            let at = parser.pos;
            return cx.fail(&format!("-e expression #1, char {at}: {message}"));
        }
    };
    let quiet = has(&options, b'n');
    let paths = if rest.is_empty() { vec![b"-".to_vec()] } else { rest };
    let mut status = 0;
    if in_place {
        for path in paths {
            let data = match cx.read(&path) {
                Ok(d) => d,
                Err(e) => {
                    status = cx.fail(&format!("can't read {}: {}", show(&path), e.text()));
                    continue;
                }
            };
            for c in &mut commands {
                c.open = None;
            }
            let (out, code) = run(cx, &mut commands, &labels, &data, quiet);
            if !suffix.is_empty() {
                let backup = [path.as_slice(), &suffix].concat();
                let _ = cx.write_file(&backup, data.as_ref().clone());
            }
            if let Err(e) = cx.write_file(&path, out) {
                status = cx.fail(&format!("couldn't open temporary file {}: {}", show(&path), e.text()));
            }
            status = status.max(code);
        }
        return status;
    }
    let mut all = Vec::new();
    for path in paths {
        match cx.read(&path) {
            Ok(d) => {
                if !all.is_empty() && all.last() != Some(&b'\n') {
                    all.push(b'\n');
                }
                all.extend_from_slice(&d);
            }
            Err(e) => {
                cx.fail(&format!(
                    "{} {}: {}",
                    if e == crate::system::fs::Errno::IsDir { "couldn't edit" } else { "can't read" },
                    show(&path),
                    e.text()
                ));
                status = 2;
            }
        }
    }
    let (out, code) = run(cx, &mut commands, &labels, &all, quiet);
    cx.out(&out);
    status.max(code)
}

fn run(cx: &mut Cx<'_, '_>, commands: &mut [Command], labels: &BTreeMap<Vec<u8>, usize>, data: &[u8], quiet: bool) -> (Vec<u8>, i32) {
    let ended = data.last().is_none_or(|b| *b == b'\n');
    let lines: Vec<&[u8]> = super::lines(data).collect();
    let total = lines.len();
    let work = cx.x.steps.saturating_mul(16);
    let mut s = Sed { cx, out: Vec::new(), work };
    let mut hold: Vec<u8> = Vec::new();
    let mut at = 0;
    let mut space: Vec<u8> = Vec::new();
    let mut keep = false;
    let mut written: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
    let mut quit = None;
    while (at < total || keep) && quit.is_none() {
        if !std::mem::take(&mut keep) {
            space = lines.get(at).copied().unwrap_or_default().to_vec();
            at += 1;
        }
        let mut after: Vec<u8> = Vec::new();
        let mut flag = false;
        let mut print = !quiet;
        let mut pc = 0;
        while let Some(command) = commands.get_mut(pc) {
            pc += 1;
            s.work = s.work.saturating_sub(4);
            if s.work == 0 || !s.cx.alive() || s.out.len() > limits::PIPE || space.len() > limits::PIPE {
                s.cx.x.spend(u64::MAX);
                return (s.out, 4);
            }
            let hit = s.selects(command, &space, at, at >= total);
            if !hit {
                if let Op::Open(end) = command.op {
                    pc = end + 1;
                }
                continue;
            }
            match command.op.clone() {
                Op::Substitute { regex, with, global, nth, print: show, write } => {
                    if s.substitute(&mut space, &regex, &with, global, nth) {
                        flag = true;
                        if show {
                            s.out.extend_from_slice(&space);
                            s.out.push(b'\n');
                        }
                        if let Some(path) = write {
                            written.entry(path).or_default().extend([space.as_slice(), b"\n"].concat());
                        }
                    }
                }
                Op::Delete => {
                    print = false;
                    break;
                }
                Op::DeleteFirst => {
                    print = false;
                    if let Some(p) = space.iter().position(|b| *b == b'\n') {
                        space.drain(..=p);
                        keep = true;
                    }
                    break;
                }
                Op::Print => {
                    s.out.extend_from_slice(&space);
                    s.out.push(b'\n');
                }
                Op::PrintFirst => {
                    s.out.extend_from_slice(space.split(|b| *b == b'\n').next().unwrap_or_default());
                    s.out.push(b'\n');
                }
                Op::List => {
                    s.out.extend(space.escape_ascii().to_string().into_bytes());
                    s.out.extend_from_slice(b"$\n");
                }
                Op::Quit(code, show) => {
                    quit = Some(code);
                    print &= show;
                    break;
                }
                Op::Number => s.out.extend(format!("{at}\n").into_bytes()),
                Op::Append(text) => after.extend(text),
                Op::Insert(text) => s.out.extend(text),
                Op::Change(text) => {
                    print = false;
                    if command.to.is_none() || command.open.is_none() {
                        s.out.extend(text);
                    }
                    break;
                }
                Op::Translate(a, b) => {
                    for byte in &mut space {
                        if let Some(p) = a.iter().position(|x| x == byte) {
                            *byte = b.get(p).copied().unwrap_or(*byte);
                        }
                    }
                }
                Op::Next => {
                    if at >= total {
                        quit = Some(0);
                        break;
                    }
                    if print {
                        s.out.extend_from_slice(&space);
                        s.out.push(b'\n');
                    }
                    s.out.append(&mut after);
                    space = lines.get(at).copied().unwrap_or_default().to_vec();
                    at += 1;
                }
                Op::NextAppend => {
                    if at >= total {
                        quit = Some(0);
                        break;
                    }
                    space.push(b'\n');
                    space.extend_from_slice(lines.get(at).copied().unwrap_or_default());
                    at += 1;
                }
                Op::Get(append) => {
                    if append {
                        space.push(b'\n');
                        space.extend_from_slice(&hold);
                    } else {
                        space.clone_from(&hold);
                    }
                }
                Op::Hold(append) => {
                    if append {
                        hold.push(b'\n');
                        hold.extend_from_slice(&space);
                        hold.truncate(limits::PIPE);
                    } else {
                        hold.clone_from(&space);
                    }
                }
                Op::Exchange => std::mem::swap(&mut hold, &mut space),
                Op::Branch(label) => {
                    if label.is_empty() {
                        break;
                    }
                    pc = labels.get(&label).copied().unwrap_or(usize::MAX);
                }
                Op::BranchIf(label) => {
                    if std::mem::take(&mut flag) {
                        if label.is_empty() {
                            break;
                        }
                        pc = labels.get(&label).copied().unwrap_or(usize::MAX);
                    }
                }
                Op::Label | Op::Open(_) | Op::Close => {}
                Op::Read(path) => {
                    if let Ok(text) = s.cx.read(&path) {
                        after.extend_from_slice(&text);
                    }
                }
                Op::Write(path) => written.entry(path).or_default().extend([space.as_slice(), b"\n"].concat()),
            }
        }
        if print {
            s.out.extend_from_slice(&space);
            if at < total || ended || quit.is_some() || !after.is_empty() {
                s.out.push(b'\n');
            }
        }
        s.out.extend(after);
    }
    let spent = work - s.work;
    let out = s.out;
    cx.x.spend(spent / 16);
    for (path, data) in written {
        if path == b"/dev/stdout" {
            cx.out(&data);
        } else {
            let _ = cx.write_file(&path, data);
        }
    }
    (out, quit.unwrap_or(0))
}
