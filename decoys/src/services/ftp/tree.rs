//! The files one account shows to one source: a small tree in memory. What a source uploads it can
//! fetch again; nobody else ever sees it.

use std::collections::BTreeMap;
use std::sync::Arc;

/// Most files and directories of one tree.
const MAX_NODES: usize = 512;
/// Most bytes of one tree.
pub(super) const MAX_BYTES: usize = 16 << 20;
/// Longest path.
const MAX_PATH: usize = 1024;

/// One file, directory or link.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) kind: Kind,
    pub(super) mode: u16,
    pub(super) uid: u32,
    pub(super) modified_ns: i64,
}

#[derive(Clone, Debug)]
pub(super) enum Kind {
    Directory,
    File(Arc<Vec<u8>>),
    /// A link, for listings only.
    Link(&'static str),
}

/// The tree of one account and source.
#[derive(Clone, Debug)]
pub(super) struct Tree {
    nodes: BTreeMap<Vec<u8>, Node>,
    bytes: usize,
    pub(super) uid: u32,
    pub(super) home: Vec<u8>,
}

/// What was not possible; the service says it in vsftpd's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refused;

impl Tree {
    /// An empty system with the account's home.
    pub(super) fn new(home: &str, uid: u32, made_ns: i64) -> Self {
        let mut tree = Self { nodes: BTreeMap::new(), bytes: 0, uid, home: home.as_bytes().to_vec() };
        let mut add = |path: &str, kind: Kind, mode, uid| {
            tree.nodes.insert(path.as_bytes().to_vec(), Node { kind, mode, uid, modified_ns: made_ns });
        };
        for (path, mode) in [
            ("/", 0o755),
            ("/boot", 0o755),
            ("/dev", 0o755),
            ("/etc", 0o755),
            ("/home", 0o755),
            ("/media", 0o755),
            ("/mnt", 0o755),
            ("/opt", 0o755),
            ("/root", 0o700),
            ("/run", 0o755),
            ("/srv", 0o755),
            ("/tmp", 0o1777),
            ("/usr", 0o755),
            ("/var", 0o755),
        ] {
            add(path, Kind::Directory, mode, 0);
        }
        for (path, to) in [("/bin", "usr/bin"), ("/lib", "usr/lib"), ("/lib64", "usr/lib64"), ("/sbin", "usr/sbin")] {
            add(path, Kind::Link(to), 0o777, 0);
        }
        let mode = if uid == 0 { 0o700 } else { 0o755 };
        add(home, Kind::Directory, mode, uid);
        tree
    }

    /// Adds a file of the persona, with the directories above it.
    pub(super) fn furnish(&mut self, path: &str, content: &[u8], made_ns: i64) {
        let path = path.as_bytes();
        for at in path.iter().enumerate().skip(1).filter(|(_, b)| **b == b'/').map(|(at, _)| at) {
            let above = path.get(..at).unwrap_or_default().to_vec();
            self.nodes.entry(above).or_insert(Node { kind: Kind::Directory, mode: 0o755, uid: self.uid, modified_ns: made_ns });
        }
        let node = Node { kind: Kind::File(Arc::new(content.to_vec())), mode: 0o644, uid: self.uid, modified_ns: made_ns };
        self.bytes += content.len();
        self.nodes.insert(path.to_vec(), node);
    }

    /// The node at a normalised path.
    pub(super) fn get(&self, path: &[u8]) -> Option<&Node> {
        self.nodes.get(path)
    }

    /// Whether the account may look into that directory.
    pub(super) fn is_open_directory(&self, path: &[u8]) -> bool {
        self.get(path)
            .is_some_and(|node| matches!(node.kind, Kind::Directory) && (self.uid == 0 || node.uid == self.uid || node.mode & 0o5 == 0o5))
    }

    /// The content of a file the account may read.
    pub(super) fn file(&self, path: &[u8]) -> Option<(Arc<Vec<u8>>, i64)> {
        let node = self.get(path)?;
        let readable = (self.uid == 0 || node.uid == self.uid || node.mode & 0o4 != 0) && self.is_open_directory(parent(path));
        match &node.kind {
            Kind::File(content) if readable => Some((Arc::clone(content), node.modified_ns)),
            _ => None,
        }
    }

    /// Names and nodes of a directory, in byte order.
    pub(super) fn children<'a>(&'a self, path: &[u8]) -> Vec<(&'a [u8], &'a Node)> {
        let mut prefix = path.to_vec();
        if !prefix.ends_with(b"/") {
            prefix.push(b'/');
        }
        let len = prefix.len();
        self.nodes
            .range(prefix.clone()..)
            .take_while(|(key, _)| key.starts_with(&prefix))
            .filter_map(|(key, node)| key.get(len..).filter(|name| !name.is_empty() && !name.contains(&b'/')).map(|name| (name, node)))
            .collect()
    }

    /// Links of a directory as `ls` counts them.
    pub(super) fn links(&self, path: &[u8]) -> usize {
        2 + self.children(path).iter().filter(|(_, node)| matches!(node.kind, Kind::Directory)).count()
    }

    fn writable(&self, path: &[u8]) -> bool {
        let above = parent(path);
        path.len() <= MAX_PATH
            && path != above
            && self
                .get(above)
                .is_some_and(|node| matches!(node.kind, Kind::Directory) && (self.uid == 0 || node.uid == self.uid || node.mode & 0o2 != 0))
    }

    /// Bytes that still fit.
    pub(super) fn room(&self) -> usize {
        MAX_BYTES.saturating_sub(self.bytes)
    }

    /// Bytes held.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Makes or replaces a file.
    pub(super) fn write(&mut self, path: &[u8], content: Vec<u8>, now_ns: i64) -> Result<(), Refused> {
        let before = match self.get(path) {
            Some(Node { kind: Kind::File(content), uid, .. }) if self.uid == 0 || *uid == self.uid => content.len(),
            Some(_) => return Err(Refused),
            None if self.nodes.len() < MAX_NODES => 0,
            None => return Err(Refused),
        };
        if !self.writable(path) || content.len() > self.room().saturating_add(before) {
            return Err(Refused);
        }
        self.bytes = self.bytes.saturating_sub(before).saturating_add(content.len());
        // local_umask of a default vsftpd is 077.
        let mode = self.get(path).map_or(0o600, |node| node.mode);
        self.nodes.insert(path.to_vec(), Node { kind: Kind::File(Arc::new(content)), mode, uid: self.uid, modified_ns: now_ns });
        Ok(())
    }

    /// Makes a directory.
    pub(super) fn make_directory(&mut self, path: &[u8], now_ns: i64) -> Result<(), Refused> {
        if self.get(path).is_some() || !self.writable(path) || self.nodes.len() >= MAX_NODES {
            return Err(Refused);
        }
        self.nodes.insert(path.to_vec(), Node { kind: Kind::Directory, mode: 0o700, uid: self.uid, modified_ns: now_ns });
        Ok(())
    }

    /// Removes a file (`directory` false) or an empty directory.
    pub(super) fn remove(&mut self, path: &[u8], directory: bool) -> Result<(), Refused> {
        let node = self.get(path).ok_or(Refused)?;
        let own = self.uid == 0 || node.uid == self.uid;
        let size = match &node.kind {
            Kind::File(content) if !directory => content.len(),
            Kind::Directory if directory && self.children(path).is_empty() => 0,
            _ => return Err(Refused),
        };
        if !own || !self.writable(path) {
            return Err(Refused);
        }
        self.bytes = self.bytes.saturating_sub(size);
        self.nodes.remove(path);
        Ok(())
    }

    /// Gives a node another name, with all below it.
    pub(super) fn rename(&mut self, from: &[u8], to: &[u8]) -> Result<(), Refused> {
        let mut below = from.to_vec();
        below.push(b'/');
        let own = self.get(from).is_some_and(|node| self.uid == 0 || node.uid == self.uid);
        if !own || !self.writable(from) || !self.writable(to) || to.starts_with(&below) {
            return Err(Refused);
        }
        if from == to {
            return Ok(());
        }
        match self.get(to).map(|node| &node.kind) {
            None => {}
            Some(Kind::File(old)) => self.bytes = self.bytes.saturating_sub(old.len()),
            Some(_) => return Err(Refused),
        }
        let moved: Vec<_> = self.nodes.keys().filter(|key| *key == from || key.starts_with(&below)).cloned().collect();
        for key in moved {
            if let Some(node) = self.nodes.remove(&key) {
                let rest = key.get(from.len()..).unwrap_or_default();
                self.nodes.insert([to, rest].concat(), node);
            }
        }
        Ok(())
    }

    /// Sets the mode of an own node.
    pub(super) fn set_mode(&mut self, path: &[u8], mode: u16) -> Result<(), Refused> {
        let uid = self.uid;
        let node = self.nodes.get_mut(path).filter(|node| uid == 0 || node.uid == uid).ok_or(Refused)?;
        node.mode = mode & 0o7777;
        Ok(())
    }

    /// Sets the modification time of an own file.
    pub(super) fn set_time(&mut self, path: &[u8], at_ns: i64) -> Result<(), Refused> {
        let uid = self.uid;
        let node =
            self.nodes.get_mut(path).filter(|node| (uid == 0 || node.uid == uid) && matches!(node.kind, Kind::File(_))).ok_or(Refused)?;
        node.modified_ns = at_ns;
        Ok(())
    }
}

/// The directory a path is in.
pub(super) fn parent(path: &[u8]) -> &[u8] {
    match path.iter().rposition(|b| *b == b'/') {
        None | Some(0) => b"/",
        Some(at) => path.get(..at).unwrap_or(b"/"),
    }
}

/// A path from `cwd`, with dots resolved.
pub(super) fn resolve(cwd: &[u8], path: &[u8]) -> Vec<u8> {
    let mut parts: Vec<&[u8]> = Vec::new();
    let start: &[u8] = if path.starts_with(b"/") { b"" } else { cwd };
    for part in start.split(|b| *b == b'/').chain(path.split(|b| *b == b'/')) {
        match part {
            b"" | b"." => {}
            b".." => {
                parts.pop();
            }
            other => parts.push(other),
        }
    }
    let mut out = Vec::new();
    for part in parts {
        out.push(b'/');
        out.extend_from_slice(part);
    }
    if out.is_empty() { b"/".to_vec() } else { out }
}
