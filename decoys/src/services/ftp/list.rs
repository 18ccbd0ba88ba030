//! Listings as vsftpd writes them.

use super::tree::{Kind, Node, Tree, parent, resolve};

/// Half a year: older (and future) files show their year.
const RECENT_NS: i64 = 182 * 86_400 * 1_000_000_000;

/// What `LIST`, `NLST` and `STAT` show; `None`: the directory cannot be opened.
pub(super) fn list(tree: &Tree, cwd: &[u8], argument: &[u8], long: bool, now_ns: i64) -> Option<Vec<u8>> {
    let (options, path) = match argument.strip_prefix(b"-") {
        Some(rest) => {
            let at = rest.iter().position(|b| *b == b' ').unwrap_or(rest.len());
            (rest.get(..at).unwrap_or_default(), rest.get(at + 1..).unwrap_or_default())
        }
        None => (&b""[..], argument),
    };
    let all = options.contains(&b'a');
    let long = long || options.contains(&b'l');
    let mut shown = path.to_vec();
    let mut filter = b"*".to_vec();
    let whole = resolve(cwd, path);
    let directory = if path.is_empty() || tree.is_open_directory(&whole) {
        whole
    } else {
        let at = path.iter().rposition(|b| *b == b'/').map_or(0, |at| at + 1);
        let (above, name) = path.split_at(at);
        filter = name.to_vec();
        shown = above.to_vec();
        resolve(cwd, above)
    };
    if !tree.is_open_directory(&directory) {
        return None;
    }
    if !shown.is_empty() && !shown.ends_with(b"/") {
        shown.push(b'/');
    }
    let mut rows: Vec<(Vec<u8>, Vec<u8>, Node)> = Vec::new();
    if all {
        for (name, path) in [(&b"."[..], directory.as_slice()), (b"..", parent(&directory))] {
            rows.extend(tree.get(path).map(|node| (name.to_vec(), path.to_vec(), node.clone())));
        }
    }
    for (name, node) in tree.children(&directory) {
        if all || !name.starts_with(b".") {
            rows.push((name.to_vec(), resolve(&directory, name), node.clone()));
        }
    }
    rows.retain(|(name, ..)| matches(&filter, name));
    if options.contains(&b't') {
        rows.sort_by_key(|row| std::cmp::Reverse(row.2.modified_ns));
    }
    if options.contains(&b'r') {
        rows.reverse();
    }
    let mut out = Vec::new();
    for (name, path, node) in rows {
        if long {
            out.extend_from_slice(row(tree, &path, &node, now_ns).as_bytes());
            out.extend_from_slice(&name);
            if let Kind::Link(to) = node.kind {
                out.extend_from_slice(b" -> ");
                out.extend_from_slice(to.as_bytes());
            }
        } else {
            out.extend_from_slice(&shown);
            out.extend_from_slice(&name);
        }
        out.extend_from_slice(b"\r\n");
    }
    Some(out)
}

fn row(tree: &Tree, path: &[u8], node: &Node, now_ns: i64) -> String {
    let (letter, links, size) = match &node.kind {
        Kind::Directory => ('d', tree.links(path), 4096),
        Kind::File(content) => ('-', 1, content.len()),
        Kind::Link(to) => ('l', 1, to.len()),
    };
    let mut mode = String::from(letter);
    for shift in [6, 3, 0] {
        let bits = node.mode >> shift;
        mode.push(if bits & 4 == 0 { '-' } else { 'r' });
        mode.push(if bits & 2 == 0 { '-' } else { 'w' });
        let sticky = shift == 0 && node.mode & 0o1000 != 0;
        mode.push(match (bits & 1 != 0, sticky) {
            (true, true) => 't',
            (false, true) => 'T',
            (true, false) => 'x',
            (false, false) => '-',
        });
    }
    let age = now_ns.saturating_sub(node.modified_ns);
    let form = if (0..RECENT_NS).contains(&age) { "%b %d %H:%M" } else { "%b %d  %Y" };
    let time =
        jiff::Timestamp::from_second(node.modified_ns.div_euclid(1_000_000_000)).map(|t| t.strftime(form).to_string()).unwrap_or_default();
    format!("{mode} {links:>4} {uid:<8} {uid:<8} {size:>8} {time} ", uid = node.uid)
}

/// A file-name pattern of `*` and `?`; linear, no backtracking into itself.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(byte) if *byte == b'?' || name.get(n) == Some(byte) => {
                p += 1;
                n += 1;
            }
            _ => match star {
                Some((at, from)) => {
                    star = Some((at, from + 1));
                    p = at + 1;
                    n = from + 1;
                }
                None => return false,
            },
        }
    }
    pattern.get(p..).unwrap_or_default().iter().all(|b| *b == b'*')
}
