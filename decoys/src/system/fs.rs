//! The pretended file system: one read-only base per machine and one bounded layer of changes per source.
//!
//! Paths here are absolute and normal (`/a/b`, no `.`, no `..`, no doubled slash) unless a function says that it
//! resolves. It must never touch a real file.

use std::{collections::BTreeMap, sync::Arc};

use super::{limits, proc::ProcView};

/// Why an operation failed, worded as the C library does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Errno {
    Access,
    Busy,
    Exist,
    Invalid,
    IsDir,
    Loop,
    NameTooLong,
    NoEnt,
    NoSpace,
    NotDir,
    NotEmpty,
    NotPermitted,
    NoDevice,
}

impl Errno {
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Access => "Permission denied",
            Self::Busy => "Device or resource busy",
            Self::Exist => "File exists",
            Self::Invalid => "Invalid argument",
            Self::IsDir => "Is a directory",
            Self::Loop => "Too many levels of symbolic links",
            Self::NameTooLong => "File name too long",
            Self::NoEnt => "No such file or directory",
            Self::NoSpace => "No space left on device",
            Self::NotDir => "Not a directory",
            Self::NotEmpty => "Directory not empty",
            Self::NotPermitted => "Operation not permitted",
            Self::NoDevice => "No such device or address",
        }
    }
}

/// Content that is made when it is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Made {
    /// A file of `/proc`, `/sys` or a log, by its path.
    Path,
    /// A file of one process.
    Pid(u32, &'static str),
    /// A program of this size; the bytes are drawn from its name.
    Program(u64, &'static str),
    /// This many zero bytes (what `dd if=/dev/zero` leaves).
    Zeros(u64),
}

/// What a file holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Content {
    Bytes(Arc<Vec<u8>>),
    Made(Made),
}

impl Content {
    pub(super) fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self::Bytes(Arc::new(bytes.into()))
    }
}

/// What a name stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Dir,
    File(Content),
    Link(Vec<u8>),
    Char(u32, u32),
    Block(u32, u32),
    Fifo,
    Socket,
}

/// A file system node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Node {
    pub kind: Kind,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// Seconds since 1970.
    pub mtime: i64,
    pub nanos: u32,
    pub ino: u64,
}

impl Node {
    pub(super) fn new(kind: Kind, mode: u32, uid: u32, gid: u32, mtime: i64) -> Self {
        Self { kind, mode, uid, gid, mtime, nanos: 0, ino: 0 }
    }
    pub(super) fn is_dir(&self) -> bool {
        self.kind == Kind::Dir
    }
    pub(super) fn is_link(&self) -> bool {
        matches!(self.kind, Kind::Link(_))
    }
    pub(super) fn is_file(&self) -> bool {
        matches!(self.kind, Kind::File(_))
    }
    /// The size as `stat` tells it.
    pub(super) fn size(&self) -> u64 {
        match &self.kind {
            Kind::Dir => 4096,
            Kind::File(Content::Bytes(b)) => b.len() as u64,
            Kind::File(Content::Made(Made::Program(n, _) | Made::Zeros(n))) => *n,
            Kind::Link(t) => t.len() as u64,
            _ => 0,
        }
    }
    /// 512-byte blocks on an ext4 with 4 KiB blocks.
    pub(super) fn blocks(&self) -> u64 {
        match &self.kind {
            Kind::Dir => 8,
            Kind::File(_) => self.size().div_ceil(4096) * 8,
            _ => 0,
        }
    }
    /// The mode as `ls -l` prints it.
    pub(super) fn mode_text(&self) -> String {
        let mut text = String::with_capacity(10);
        text.push(match self.kind {
            Kind::Dir => 'd',
            Kind::File(_) => '-',
            Kind::Link(_) => 'l',
            Kind::Char(..) => 'c',
            Kind::Block(..) => 'b',
            Kind::Fifo => 'p',
            Kind::Socket => 's',
        });
        for (shift, special, letter) in [(6, 0o4000, 's'), (3, 0o2000, 's'), (0, 0o1000, 't')] {
            let bits = self.mode >> shift;
            text.push(if bits & 4 != 0 { 'r' } else { '-' });
            text.push(if bits & 2 != 0 { 'w' } else { '-' });
            text.push(match (self.mode & special != 0, bits & 1 != 0) {
                (true, true) => letter,
                (true, false) => letter.to_ascii_uppercase(),
                (false, true) => 'x',
                (false, false) => '-',
            });
        }
        text
    }
    fn cost(&self) -> usize {
        256 + match &self.kind {
            Kind::File(Content::Bytes(b)) => b.len(),
            Kind::Link(t) => t.len(),
            _ => 0,
        }
    }
}

/// The files every visitor meets first.
#[derive(Debug, Default)]
pub(super) struct Base {
    nodes: BTreeMap<Vec<u8>, Node>,
    next_ino: u64,
}

/// Map key: parent, NUL, name; so that a directory's entries are one range.
fn key(path: &[u8]) -> Vec<u8> {
    let (dir, name) = split(path);
    let mut key = Vec::with_capacity(path.len() + 1);
    key.extend_from_slice(dir);
    key.push(0);
    key.extend_from_slice(name);
    key
}

/// Parent and last part of a normal path.
pub(super) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|b| *b == b'/') {
        Some(0) => (b"/", path.get(1..).unwrap_or_default()),
        Some(at) => (path.get(..at).unwrap_or_default(), path.get(at + 1..).unwrap_or_default()),
        None => (b"/", path),
    }
}

/// A path below a directory.
pub(super) fn join(dir: &[u8], name: &[u8]) -> Vec<u8> {
    let mut path = dir.to_vec();
    if path.last() != Some(&b'/') {
        path.push(b'/');
    }
    path.extend_from_slice(name);
    path
}

impl Base {
    /// Puts a node, making missing parents (0755 root).
    pub(super) fn put(&mut self, path: &str, mut node: Node) {
        let path = path.trim_end_matches('/').as_bytes();
        if path.is_empty() {
            return;
        }
        let (dir, _) = split(path);
        if dir != b"/" && !self.nodes.contains_key(&key(dir)) {
            let parent = Node::new(Kind::Dir, 0o755, 0, 0, node.mtime);
            self.put(&String::from_utf8_lossy(dir).into_owned(), parent);
        }
        self.next_ino += 1 + (self.nodes.len() as u64 % 3);
        node.ino = 131_072 + self.next_ino;
        self.nodes.insert(key(path), node);
    }
    pub(super) fn file(&mut self, path: &str, content: impl Into<Vec<u8>>, mode: u32, mtime: i64) {
        self.put(path, Node::new(Kind::File(Content::new(content)), mode, 0, 0, mtime));
    }
    pub(super) fn dir(&mut self, path: &str, mode: u32, mtime: i64) {
        self.put(path, Node::new(Kind::Dir, mode, 0, 0, mtime));
    }
    pub(super) fn link(&mut self, path: &str, target: &str, mtime: i64) {
        self.put(path, Node::new(Kind::Link(target.into()), 0o777, 0, 0, mtime));
    }
    pub(super) fn made(&mut self, path: &str, mode: u32, mtime: i64) {
        self.put(path, Node::new(Kind::File(Content::Made(Made::Path)), mode, 0, 0, mtime));
    }
    pub(super) fn own(&mut self, path: &str, uid: u32, gid: u32) {
        if let Some(node) = self.nodes.get_mut(&key(path.as_bytes())) {
            (node.uid, node.gid) = (uid, gid);
        }
    }
    pub(super) fn get(&self, path: &[u8]) -> Option<&Node> {
        self.nodes.get(&key(path))
    }
    pub(super) fn len(&self) -> usize {
        self.nodes.len()
    }
}

/// One source's changes.
#[derive(Clone, Debug, Default)]
pub(super) struct Overlay {
    nodes: BTreeMap<Vec<u8>, Option<Node>>,
    bytes: usize,
    next_ino: u64,
}

impl Overlay {
    /// Bytes it counts for.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
    fn set(&mut self, key: Vec<u8>, node: Option<Node>) -> Result<(), Errno> {
        let cost = |n: &Option<Node>| n.as_ref().map_or(64, Node::cost);
        let old = self.nodes.get(&key).map_or(0, cost);
        let bytes = self.bytes.saturating_sub(old).saturating_add(cost(&node)).saturating_add(if old == 0 { key.len() } else { 0 });
        // Removing something always works, or a full file system could never be cleared.
        if node.is_some() && (bytes > limits::SOURCE_BYTES || (old == 0 && self.nodes.len() >= limits::SOURCE_NODES)) {
            return Err(Errno::NoSpace);
        }
        if node.is_none() && old == 0 && self.nodes.len() >= 2 * limits::SOURCE_NODES {
            return Err(Errno::NoSpace);
        }
        self.bytes = bytes;
        self.nodes.insert(key, node);
        Ok(())
    }
}

/// Where a path leads.
#[derive(Clone, Debug)]
pub(super) struct Found {
    /// The normal path, links resolved.
    pub path: Vec<u8>,
    /// What is there; `None` when only its directory exists.
    pub node: Option<Node>,
}

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Who {
    pub uid: u32,
    pub gid: u32,
    pub groups: Vec<u32>,
}

/// Base and changes together.
pub(super) struct Fs<'m> {
    pub base: &'m Base,
    pub over: &'m mut Overlay,
    pub procs: ProcView,
    /// Seconds and nanoseconds stamped on changes.
    pub now: (i64, u32),
}

impl Fs<'_> {
    fn root(&self) -> Node {
        let mut node = Node::new(Kind::Dir, 0o755, 0, 0, self.base.get(b"/etc").map_or(0, |n| n.mtime));
        node.ino = 2;
        node
    }

    /// The node at a normal path, without following a link there.
    pub(super) fn get(&self, path: &[u8]) -> Option<Node> {
        if path == b"/" || path.is_empty() {
            return Some(self.root());
        }
        if let Some(rest) = path.strip_prefix(b"/proc/")
            && let Some(node) = self.procs.node(rest)
        {
            return Some(node);
        }
        let key = key(path);
        match self.over.nodes.get(&key) {
            Some(changed) => changed.clone(),
            None => self.base.nodes.get(&key).cloned(),
        }
    }

    /// Resolves a path from a directory; with `follow` the last part too.
    pub(super) fn find(&self, cwd: &[u8], path: &[u8], follow: bool) -> Result<Found, Errno> {
        if path.is_empty() {
            return Err(Errno::NoEnt);
        }
        if path.len() > limits::PATH {
            return Err(Errno::NameTooLong);
        }
        let mut at: Vec<u8> = if path.first() == Some(&b'/') { b"/".to_vec() } else { cwd.to_vec() };
        let mut node = self.get(&at);
        let mut todo: Vec<Vec<u8>> = path.split(|b| *b == b'/').rev().map(<[u8]>::to_vec).collect();
        // A trailing slash asks for a directory.
        let slash = path.last() == Some(&b'/');
        let mut links = 0;
        while let Some(part) = todo.pop() {
            if part.is_empty() || part == b"." {
                continue;
            }
            if part.len() > 255 {
                return Err(Errno::NameTooLong);
            }
            match &node {
                None => return Err(Errno::NoEnt),
                Some(n) if !n.is_dir() => return Err(Errno::NotDir),
                _ => {}
            }
            if part == b".." {
                at = split(&at).0.to_vec();
                node = self.get(&at);
                continue;
            }
            let next = join(&at, &part);
            let found = self.get(&next);
            let last = todo.iter().all(|p| p.is_empty() || p == b".");
            if let Some(Node { kind: Kind::Link(target), .. }) = &found
                && (follow || !last || slash)
            {
                links += 1;
                if links > limits::LINKS {
                    return Err(Errno::Loop);
                }
                // Links of `/proc` may name what is no path, such as `pipe:[1234]`.
                if target.first() == Some(&b'/') {
                    at = b"/".to_vec();
                    node = self.get(&at);
                }
                todo.extend(target.split(|b| *b == b'/').rev().map(<[u8]>::to_vec));
                continue;
            }
            at = next;
            node = found;
        }
        if slash && node.as_ref().is_some_and(|n| !n.is_dir()) {
            return Err(Errno::NotDir);
        }
        Ok(Found { path: at, node })
    }

    /// Resolves to something that exists.
    pub(super) fn stat(&self, cwd: &[u8], path: &[u8], follow: bool) -> Result<(Vec<u8>, Node), Errno> {
        let found = self.find(cwd, path, follow)?;
        found.node.map(|n| (found.path, n)).ok_or(Errno::NoEnt)
    }

    /// Whether the permission bits (4 read, 2 write, 1 run) allow it.
    pub(super) fn may(&self, who: &Who, node: &Node, want: u32) -> bool {
        if who.uid == 0 {
            return want & 1 == 0 || node.is_dir() || node.mode & 0o111 != 0;
        }
        let bits = if who.uid == node.uid {
            node.mode >> 6
        } else if who.gid == node.gid || who.groups.contains(&node.gid) {
            node.mode >> 3
        } else {
            node.mode
        };
        bits & want == want
    }

    /// Whether all directories above a normal path may be entered.
    pub(super) fn reach(&self, who: &Who, path: &[u8]) -> bool {
        if who.uid == 0 {
            return true;
        }
        let mut dir = split(path).0;
        while dir != b"/" && !dir.is_empty() {
            if self.get(dir).is_some_and(|n| !self.may(who, &n, 1)) {
                return false;
            }
            dir = split(dir).0;
        }
        true
    }

    /// A directory's entries in byte order.
    pub(super) fn list(&self, dir: &[u8]) -> Vec<(Vec<u8>, Node)> {
        let mut from = dir.to_vec();
        from.push(0);
        let mut to = dir.to_vec();
        to.push(1);
        let name = |k: &Vec<u8>| k.get(from.len()..).unwrap_or_default().to_vec();
        let mut all: BTreeMap<Vec<u8>, Node> = self.base.nodes.range(from.clone()..to.clone()).map(|(k, n)| (name(k), n.clone())).collect();
        for (k, change) in self.over.nodes.range(from.clone()..to) {
            match change {
                Some(node) => all.insert(name(k), node.clone()),
                None => all.remove(&name(k)),
            };
        }
        if let Some(rest) = dir.strip_prefix(b"/proc") {
            for (name, node) in self.procs.list(rest.strip_prefix(b"/").unwrap_or(rest)) {
                all.insert(name, node);
            }
        }
        all.into_iter().collect()
    }

    /// Links to a directory: itself, its dot and its subdirectories.
    pub(super) fn nlink(&self, path: &[u8], node: &Node) -> usize {
        if !node.is_dir() {
            return 1;
        }
        2 + self.list(path).iter().filter(|(_, n)| n.is_dir()).count()
    }

    fn writable_dir(&self, who: &Who, path: &[u8]) -> Result<(), Errno> {
        let dir = split(path).0;
        if dir.starts_with(b"/proc") || dir == b"/sys" || dir.starts_with(b"/sys/") {
            return Err(if dir.starts_with(b"/proc") { Errno::NoEnt } else { Errno::NotPermitted });
        }
        let node = self.get(dir).ok_or(Errno::NoEnt)?;
        if !node.is_dir() {
            return Err(Errno::NotDir);
        }
        if !self.reach(who, path) || !self.may(who, &node, 3) {
            return Err(Errno::Access);
        }
        Ok(())
    }

    fn store(&mut self, path: &[u8], mut node: Node, stamp: bool) -> Result<(), Errno> {
        if stamp {
            (node.mtime, node.nanos) = self.now;
        }
        if node.ino == 0 {
            self.over.next_ino += 1;
            node.ino = 131_072 + 3 * self.base.len() as u64 + self.over.next_ino;
        }
        self.over.set(key(path), Some(node))
    }

    /// Makes a node at a normal path.
    pub(super) fn create(&mut self, who: &Who, path: &[u8], kind: Kind, mode: u32) -> Result<(), Errno> {
        if self.get(path).is_some() {
            return Err(Errno::Exist);
        }
        self.writable_dir(who, path)?;
        let node = Node::new(kind, mode, who.uid, who.gid, 0);
        self.store(path, node, true)?;
        self.touch_dir(path);
        Ok(())
    }

    fn touch_dir(&mut self, path: &[u8]) {
        let dir = split(path).0.to_vec();
        if let Some(node) = self.get(&dir).filter(|_| dir != b"/") {
            // The time of a directory is not worth an error.
            let _ = self.store(&dir, node, true);
        }
    }

    /// Replaces a file's content; makes it when missing.
    pub(super) fn write(&mut self, who: &Who, path: &[u8], content: Content, mode: u32) -> Result<(), Errno> {
        match self.get(path) {
            Some(mut node) => {
                match &node.kind {
                    Kind::Dir => return Err(Errno::IsDir),
                    Kind::File(_) => {}
                    _ => return Ok(()),
                }
                if !self.reach(who, path) || !self.may(who, &node, 2) {
                    return Err(Errno::Access);
                }
                if path.starts_with(b"/proc/") || path.starts_with(b"/sys/") {
                    return if node.mode & 0o222 == 0 { Err(Errno::Access) } else { Ok(()) };
                }
                node.kind = Kind::File(content);
                self.store(path, node, true)
            }
            None => self.create(who, path, Kind::File(content), mode),
        }
    }

    /// Adds to a file that holds plain bytes, in place when nobody shares them.
    pub(super) fn append(&mut self, path: &[u8], more: &[u8]) -> Result<(), Errno> {
        let now = self.now;
        let room = limits::SOURCE_BYTES.saturating_sub(self.over.bytes);
        let Some(Some(Node { kind: Kind::File(Content::Bytes(bytes)), mtime, nanos, .. })) = self.over.nodes.get_mut(&key(path)) else {
            return Err(Errno::NoEnt);
        };
        if more.len() > room {
            return Err(Errno::NoSpace);
        }
        Arc::make_mut(bytes).extend_from_slice(more);
        (*mtime, *nanos) = now;
        self.over.bytes += more.len();
        Ok(())
    }

    /// Changes mode, owner or time.
    pub(super) fn change(&mut self, path: &[u8], edit: impl FnOnce(&mut Node)) -> Result<(), Errno> {
        if path == b"/" || path.starts_with(b"/proc/") {
            return Err(Errno::NotPermitted);
        }
        let mut node = self.get(path).ok_or(Errno::NoEnt)?;
        edit(&mut node);
        self.store(path, node, false)
    }

    /// Removes a file, link or empty directory.
    pub(super) fn remove(&mut self, who: &Who, path: &[u8]) -> Result<(), Errno> {
        let node = self.get(path).ok_or(Errno::NoEnt)?;
        if path == b"/" {
            return Err(Errno::Busy);
        }
        if path.starts_with(b"/proc/") || path.starts_with(b"/sys/") {
            return Err(Errno::NotPermitted);
        }
        if matches!(path, b"/proc" | b"/sys" | b"/dev" | b"/run") {
            return Err(Errno::Busy);
        }
        self.writable_dir(who, path)?;
        if let Some(dir) = self.get(split(path).0)
            && dir.mode & 0o1000 != 0
            && who.uid != 0
            && who.uid != node.uid
            && who.uid != dir.uid
        {
            return Err(Errno::NotPermitted);
        }
        if node.is_dir() && !self.list(path).is_empty() {
            return Err(Errno::NotEmpty);
        }
        let key = key(path);
        if self.base.nodes.contains_key(&key) {
            self.over.set(key, None)?;
        } else if let Some(Some(old)) = self.over.nodes.remove(&key) {
            self.over.bytes = self.over.bytes.saturating_sub(old.cost() + key.len());
        }
        self.touch_dir(path);
        Ok(())
    }

    /// Moves a node and all below it. Both paths normal.
    pub(super) fn rename(&mut self, who: &Who, from: &[u8], to: &[u8]) -> Result<(), Errno> {
        if from == to {
            return Ok(());
        }
        let node = self.get(from).ok_or(Errno::NoEnt)?;
        if to.strip_prefix(from).is_some_and(|r| r.first() == Some(&b'/')) {
            return Err(Errno::Invalid);
        }
        self.writable_dir(who, from)?;
        self.writable_dir(who, to)?;
        let entries = if node.is_dir() { self.list(from) } else { Vec::new() };
        if self.get(to).is_some() {
            self.remove(who, to)?;
        }
        self.store(to, node, false)?;
        for (name, _) in entries {
            self.rename(who, &join(from, &name), &join(to, &name))?;
        }
        self.remove(who, from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root() -> Who {
        Who { uid: 0, gid: 0, groups: vec![] }
    }

    fn with(test: impl FnOnce(&mut Fs<'_>)) {
        let mut base = Base::default();
        base.dir("/tmp", 0o1777, 1);
        base.file("/usr/bin/ls", "x", 0o755, 1);
        base.link("/bin", "usr/bin", 1);
        base.link("/loop", "/loop", 1);
        let mut over = Overlay::default();
        test(&mut Fs { base: &base, over: &mut over, procs: ProcView::default(), now: (5, 0) });
    }

    #[test]
    fn resolves_links_and_dots() {
        with(|fs| {
            assert_eq!(fs.stat(b"/tmp", b"../bin/./ls", true).unwrap().0, b"/usr/bin/ls");
            assert_eq!(fs.stat(b"/", b"bin", false).unwrap().0, b"/bin");
            assert_eq!(fs.stat(b"/", b"/loop/x", true).unwrap_err(), Errno::Loop);
            assert_eq!(fs.stat(b"/", b"/bin/ls/x", true).unwrap_err(), Errno::NotDir);
            assert_eq!(fs.stat(b"/", b"/nope/x", true).unwrap_err(), Errno::NoEnt);
        });
    }

    #[test]
    fn changes_hide_and_show() {
        with(|fs| {
            fs.write(&root(), b"/tmp/a", Content::new("hi"), 0o644).unwrap();
            fs.append(b"/tmp/a", b"!").unwrap();
            fs.rename(&root(), b"/tmp/a", b"/tmp/b").unwrap();
            assert_eq!(fs.list(b"/tmp").len(), 1);
            fs.remove(&root(), b"/usr/bin/ls").unwrap();
            assert!(fs.get(b"/usr/bin/ls").is_none());
            assert_eq!(fs.remove(&root(), b"/usr").unwrap_err(), Errno::NotEmpty);
        });
    }

    #[test]
    fn bytes_are_bounded_and_given_back() {
        with(|fs| {
            let start = fs.over.bytes();
            fs.write(&root(), b"/tmp/a", Content::new(vec![0; limits::SOURCE_BYTES - 4096]), 0o644).unwrap();
            assert_eq!(fs.write(&root(), b"/tmp/b", Content::new(vec![0; 4096]), 0o644).unwrap_err(), Errno::NoSpace);
            assert_eq!(fs.append(b"/tmp/a", &[0; 8192]).unwrap_err(), Errno::NoSpace);
            fs.remove(&root(), b"/tmp/a").unwrap();
            assert!(fs.over.bytes() < start + 1024);
            for i in 0..limits::SOURCE_NODES + 5 {
                let _ = fs.write(&root(), format!("/tmp/{i}").as_bytes(), Content::new("x"), 0o644);
            }
            assert!(fs.list(b"/tmp").len() < limits::SOURCE_NODES);
        });
    }
}
