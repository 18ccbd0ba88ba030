//! `ls`, `dir`, `vdir`.

use super::{Cx, has, human, quote_shell, show, value};
use crate::system::{
    fs::{self, Kind, Node},
    proc::ProcView,
    terminal::columns,
    time,
};

struct Entry {
    name: Vec<u8>,
    path: Vec<u8>,
    node: Node,
}

pub(super) fn ls(cx: &mut Cx<'_, '_>, args: &[Vec<u8>]) -> i32 {
    let longs = [
        ("all", b'a'),
        ("almost-all", b'A'),
        ("directory", b'd'),
        ("human-readable", b'h'),
        ("recursive", b'R'),
        ("reverse", b'r'),
        ("inode", b'i'),
        ("size", b's'),
        ("color[=", b'!'),
        ("classify", b'F'),
        ("sort=", b'@'),
        ("time-style=", b'%'),
        ("full-time", b'#'),
        ("group-directories-first", b'$'),
        ("numeric-uid-gid", b'n'),
    ];
    let Ok((options, mut rest)) = cx.options(args, "aAbBcCdfFgGhHiklLmnNopqQrRsStuUvxXZ1", &longs) else { return 2 };
    if has(&options, 0) {
        return 0;
    }
    if rest.is_empty() {
        rest.push(b".".to_vec());
    }
    let on = |l: u8| has(&options, l);
    let long = on(b'l') || on(b'n') || on(b'g') || on(b'o') || on(b'#') || cx.name == "vdir";
    let follow = !long && !on(b'd') && !on(b'F') || on(b'L') || on(b'H');
    let mut status = 0;
    let (mut files, mut dirs) = (Vec::new(), Vec::new());
    for path in rest {
        match cx.stat(&path, follow).or_else(|e| if follow { cx.stat(&path, false) } else { Err(e) }) {
            Ok((real, node)) => {
                let entry = Entry { name: path, path: real, node };
                if entry.node.is_dir() && !on(b'd') { dirs.push(entry) } else { files.push(entry) }
            }
            Err(e) => {
                cx.fail(&format!("cannot access {}: {}", show(&quote_always(&path)), e.text()));
                status = 2;
            }
        }
    }
    let titles = files.len() + dirs.len() > 1 || on(b'R') || status != 0 && !dirs.is_empty();
    let any_files = !files.is_empty();
    if any_files {
        sort(&options, &mut files);
        list(cx, &options, &files, long, false);
    }
    sort(&options, &mut dirs);
    let mut first = !any_files;
    for dir in dirs {
        if !cx.alive() {
            break;
        }
        if !directory(cx, &options, &dir, long, titles, &mut first, 0) {
            status = status.max(if titles { 1 } else { 2 });
        }
    }
    status
}

fn quote_always(word: &[u8]) -> Vec<u8> {
    let quoted = quote_shell(word);
    if quoted == word { [b"'".as_slice(), word, b"'"].concat() } else { quoted }
}

fn sort(options: &[(u8, Vec<u8>)], entries: &mut [Entry]) {
    let on = |l: u8| has(options, l);
    if on(b'U') || on(b'f') {
        return;
    }
    let key = value(options, b'@').unwrap_or_default().to_vec();
    if on(b't') || key == b"time" {
        entries.sort_by(|a, b| (b.node.mtime, b.node.nanos).cmp(&(a.node.mtime, a.node.nanos)).then(a.name.cmp(&b.name)));
    } else if on(b'S') || key == b"size" {
        entries.sort_by(|a, b| b.node.size().cmp(&a.node.size()).then(a.name.cmp(&b.name)));
    } else if on(b'X') {
        let ext = |n: &[u8]| n.iter().rposition(|b| *b == b'.').and_then(|p| n.get(p..)).unwrap_or_default().to_vec();
        entries.sort_by(|a, b| ext(&a.name).cmp(&ext(&b.name)).then(a.name.cmp(&b.name)));
    } else {
        entries.sort_by(|a, b| a.name.cmp(&b.name));
    }
    if on(b'r') {
        entries.reverse();
    }
    if on(b'$') {
        entries.sort_by_key(|e| !e.node.is_dir());
    }
}

fn directory(
    cx: &mut Cx<'_, '_>,
    options: &[(u8, Vec<u8>)],
    dir: &Entry,
    long: bool,
    titles: bool,
    first: &mut bool,
    depth: usize,
) -> bool {
    let on = |l: u8| has(options, l);
    if !cx.x.fs.may(&cx.st.who, &dir.node, 4) {
        cx.fail(&format!("cannot open directory {}: Permission denied", show(&quote_always(&dir.name))));
        return false;
    }
    if titles {
        let title = format!("{}{}:\n", if *first { "" } else { "\n" }, show(&dir.name));
        cx.say(&title);
    }
    *first = false;
    let mut entries: Vec<Entry> = Vec::new();
    let all = on(b'a') || on(b'f');
    if all {
        for (name, path) in [(b".".to_vec(), dir.path.clone()), (b"..".to_vec(), fs::split(&dir.path).0.to_vec())] {
            if let Some(node) = cx.x.fs.get(&path) {
                entries.push(Entry { name, path, node });
            }
        }
    }
    for (name, node) in cx.x.fs.list(&dir.path) {
        if name.first() == Some(&b'.') && !all && !on(b'A') {
            continue;
        }
        entries.push(Entry { path: fs::join(&dir.path, &name), name, node });
    }
    cx.x.spend(1 + entries.len() as u64 / 8);
    sort(options, &mut entries);
    list(cx, options, &entries, long, true);
    let mut ok = true;
    if on(b'R') && depth < 32 {
        for entry in entries {
            if entry.node.is_dir() && entry.name != b"." && entry.name != b".." && cx.alive() {
                let inner = Entry { name: fs::join(&dir.name, &entry.name), path: entry.path, node: entry.node };
                ok &= directory(cx, options, &inner, long, true, first, depth + 1);
            }
        }
    }
    ok
}

/// The colour `ls --color` gives with no `LS_COLORS`.
fn color(node: &Node, name: &[u8]) -> &'static str {
    match node.kind {
        Kind::Dir if node.mode & 0o1002 == 0o1002 => "30;42",
        Kind::Dir if node.mode & 0o002 != 0 => "34;42",
        Kind::Dir if node.mode & 0o1000 != 0 => "37;44",
        Kind::Dir => "01;34",
        Kind::Link(_) => "01;36",
        Kind::Char(..) | Kind::Block(..) => "40;33;01",
        Kind::Fifo => "40;33",
        Kind::Socket => "01;35",
        Kind::File(_) if node.mode & 0o4000 != 0 => "37;41",
        Kind::File(_) if node.mode & 0o2000 != 0 => "30;43",
        Kind::File(_) if node.mode & 0o111 != 0 => "01;32",
        Kind::File(_) => {
            let archive = [".tar", ".tgz", ".gz", ".zip", ".bz2", ".xz", ".deb", ".rpm", ".jar", ".7z"];
            if archive.iter().any(|e| name.ends_with(e.as_bytes())) { "01;31" } else { "" }
        }
    }
}

fn decorated(cx: &Cx<'_, '_>, options: &[(u8, Vec<u8>)], entry: &Entry, name: &[u8]) -> Vec<u8> {
    let colored = value(options, b'!')
        .is_some_and(|v| v == b"always" || v == b"yes" || (v != b"never" && v != b"no" && (v.is_empty() || cx.tty_out())));
    let mut out = if cx.tty_out() && !has(options, b'N') { quote_shell(name) } else { name.to_vec() };
    if colored {
        let code = color(&entry.node, name);
        if !code.is_empty() {
            out = [b"\x1b[", code.as_bytes(), b"m", &out, b"\x1b[0m"].concat();
        }
    }
    if has(options, b'F') || has(options, b'p') {
        match entry.node.kind {
            Kind::Dir => out.push(b'/'),
            Kind::Link(_) if has(options, b'F') && !has(options, b'l') => out.push(b'@'),
            Kind::File(_) if has(options, b'F') && entry.node.mode & 0o111 != 0 => out.push(b'*'),
            Kind::Fifo if has(options, b'F') => out.push(b'|'),
            Kind::Socket if has(options, b'F') => out.push(b'='),
            _ => {}
        }
    }
    out
}

fn size_text(entry: &Node, human_readable: bool) -> String {
    match entry.kind {
        Kind::Char(a, b) | Kind::Block(a, b) => format!("{a}, {b:>3}"),
        _ if human_readable => human(entry.size()),
        _ => entry.size().to_string(),
    }
}

fn list(cx: &mut Cx<'_, '_>, options: &[(u8, Vec<u8>)], entries: &[Entry], long: bool, total: bool) {
    let on = |l: u8| has(options, l);
    if total && (long || on(b's')) {
        let blocks: u64 = entries.iter().map(|e| e.node.blocks()).sum();
        let text = if on(b'h') { human(blocks * 512) } else { (blocks / 2).to_string() };
        cx.say(&format!("total {text}\n"));
    }
    let prefix = |e: &Entry| {
        let mut text = String::new();
        if on(b'i') {
            text.push_str(&format!("{} ", e.node.ino));
        }
        if on(b's') {
            text.push_str(&format!("{} ", if on(b'h') { human(e.node.blocks() * 512) } else { (e.node.blocks() / 2).to_string() }));
        }
        text
    };
    let heads: Vec<String> = entries.iter().map(prefix).collect();
    let head_width = heads.iter().map(String::len).max().unwrap_or(0);
    if !long {
        let names: Vec<Vec<u8>> = entries
            .iter()
            .zip(&heads)
            .map(|(e, h)| [format!("{h:>head_width$}").as_bytes(), &decorated(cx, options, e, &e.name)].concat())
            .collect();
        let mut out = Vec::new();
        if on(b'm') {
            out = names.join(b", ".as_slice());
            if !out.is_empty() {
                out.push(b'\n');
            }
        } else if (cx.tty_out() || on(b'C') || on(b'x')) && !on(b'1') {
            let plain: Vec<&[u8]> = names.iter().map(Vec::as_slice).collect();
            let width = cx.x.session.tty.as_ref().map_or(80, |t| usize::from(t.columns.max(20)));
            if names.iter().any(|n| n.contains(&27)) {
                out = colored_columns(&plain, width);
            } else {
                out = columns(&plain, width);
            }
        } else {
            for name in names {
                out.extend(name);
                out.push(b'\n');
            }
        }
        cx.out(&out);
        return;
    }
    let links: Vec<String> = entries.iter().map(|e| cx.x.fs.nlink(&e.path, &e.node).to_string()).collect();
    let numeric = on(b'n');
    let mut users: std::collections::BTreeMap<u32, Vec<u8>> = Default::default();
    let mut groups: std::collections::BTreeMap<u32, Vec<u8>> = Default::default();
    for e in entries {
        if !users.contains_key(&e.node.uid) {
            let name = if numeric { e.node.uid.to_string().into_bytes() } else { cx.x.user_name(e.node.uid) };
            users.insert(e.node.uid, name);
        }
        if !groups.contains_key(&e.node.gid) {
            let name = if numeric { e.node.gid.to_string().into_bytes() } else { cx.x.group_name(e.node.gid) };
            groups.insert(e.node.gid, name);
        }
    }
    let user = |e: &Entry| users.get(&e.node.uid).cloned().unwrap_or_default();
    let group = |e: &Entry| groups.get(&e.node.gid).cloned().unwrap_or_default();
    let sizes: Vec<String> = entries.iter().map(|e| size_text(&e.node, on(b'h'))).collect();
    let widest = |items: &mut dyn Iterator<Item = usize>| items.max().unwrap_or(0);
    let wl = widest(&mut links.iter().map(String::len));
    let wu = widest(&mut entries.iter().map(|e| user(e).len()));
    let wg = widest(&mut entries.iter().map(|e| group(e).len()));
    let ws = widest(&mut sizes.iter().map(String::len));
    let now = cx.now();
    let style = value(options, b'%').unwrap_or_default().to_vec();
    let mut out = Vec::new();
    for (((e, link), size), head) in entries.iter().zip(&links).zip(&sizes).zip(&heads) {
        // What the kernel makes up carries the time of the look.
        let mtime = if e.path.starts_with(b"/proc") || e.path.starts_with(b"/sys") {
            ProcView::mtime(&e.path, now, cx.x.session.boot)
        } else {
            e.node.mtime
        };
        let when = if on(b'#') || style == b"full-iso" {
            String::from_utf8_lossy(&time::format(b"%Y-%m-%d %H:%M:%S.%N %z", mtime, e.node.nanos)).into_owned()
        } else if style == b"long-iso" {
            String::from_utf8_lossy(&time::format(b"%Y-%m-%d %H:%M", mtime, 0)).into_owned()
        } else if let Some(f) = style.strip_prefix(b"+") {
            String::from_utf8_lossy(&time::format(f, mtime, e.node.nanos)).into_owned()
        } else {
            time::ls(mtime, now)
        };
        let mut line = format!("{head:>head_width$}{} {link:>wl$} ", e.node.mode_text());
        if !on(b'g') {
            line.push_str(&format!("{:<wu$} ", show(&user(e))));
        }
        if !on(b'G') && !on(b'o') {
            line.push_str(&format!("{:<wg$} ", show(&group(e))));
        }
        line.push_str(&format!("{size:>ws$} {when} "));
        out.extend(line.into_bytes());
        out.extend(decorated(cx, options, e, &e.name));
        if let Kind::Link(target) = &e.node.kind {
            out.extend_from_slice(b" -> ");
            out.extend_from_slice(target);
        }
        out.push(b'\n');
    }
    cx.out(&out);
}

/// Columns for names that hold colour codes, which take no room.
fn colored_columns(names: &[&[u8]], width: usize) -> Vec<u8> {
    let strip = |n: &[u8]| {
        let mut out = Vec::new();
        let mut escape = false;
        for b in n {
            match (escape, b) {
                (false, 27) => escape = true,
                (true, b'm') => escape = false,
                (true, _) => {}
                (false, b) => out.push(*b),
            }
        }
        out
    };
    let plain: Vec<Vec<u8>> = names.iter().map(|n| strip(n)).collect();
    let refs: Vec<&[u8]> = plain.iter().map(Vec::as_slice).collect();
    let laid = columns(&refs, width);
    let rows = laid.iter().filter(|b| **b == b'\n').count().max(1);
    let mut out = Vec::new();
    for (row, line) in laid.split(|b| *b == b'\n').enumerate().take(rows) {
        let mut at = 0;
        let mut column = row;
        while let (Some(p), Some(n)) = (plain.get(column), names.get(column)) {
            out.extend_from_slice(n);
            at += p.len();
            let gap = line.get(at..).unwrap_or_default().iter().take_while(|b| **b == b' ').count();
            let next_exists = plain.get(column + rows).is_some();
            if next_exists {
                out.resize(out.len() + gap, b' ');
            }
            at += gap;
            column += rows;
        }
        out.push(b'\n');
    }
    out
}
