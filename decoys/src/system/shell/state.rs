//! What a shell remembers between commands.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use super::ast::Node;
use crate::system::{facts::Rng, fs::Who, limits};

/// A variable's value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::system) enum Value {
    Text(Vec<u8>),
    Array(BTreeMap<i64, Vec<u8>>),
    Map(BTreeMap<Vec<u8>, Vec<u8>>),
}

/// A variable.
#[derive(Clone, Debug)]
pub(in crate::system) struct Var {
    pub value: Value,
    pub export: bool,
    pub readonly: bool,
    pub integer: bool,
}

/// A function: its body and its text.
pub(in crate::system) type Function = (Arc<Node>, Arc<Vec<u8>>);

/// A lasting redirection made by `exec`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::system) enum Kept {
    Null,
    File(Vec<u8>),
    Input(Arc<Vec<u8>>),
}

/// Shell state. Cloned for subshells, so it stays small ([`limits::STATE`]).
#[derive(Clone, Debug)]
pub(in crate::system) struct State {
    pub vars: BTreeMap<Vec<u8>, Var>,
    pub funcs: BTreeMap<Vec<u8>, Function>,
    pub aliases: BTreeMap<Vec<u8>, Vec<u8>>,
    pub cwd: Vec<u8>,
    pub umask: u32,
    pub last: i32,
    pub pid: u32,
    pub subshell: bool,
    pub last_job: Option<u32>,
    pub jobs: Vec<(u32, Vec<u8>)>,
    pub args: Vec<Vec<u8>>,
    pub arg0: Vec<u8>,
    /// How error messages begin.
    pub label: Vec<u8>,
    /// Whether messages tell the line.
    pub numbered: bool,
    pub line: u32,
    pub flags: BTreeMap<u8, ()>,
    pub pipefail: bool,
    pub shopt: BTreeMap<Vec<u8>, bool>,
    pub who: Who,
    pub user: Vec<u8>,
    pub home: Vec<u8>,
    pub history: Arc<VecDeque<Vec<u8>>>,
    pub traps: BTreeMap<Vec<u8>, Vec<u8>>,
    pub locals: Vec<Vec<(Vec<u8>, Option<Var>)>>,
    pub kept: BTreeMap<u32, Kept>,
    pub random: Rng,
    pub started: i64,
    pub interactive: bool,
    pub dirs: Vec<Vec<u8>>,
    pub getopts: usize,
    pub pipestatus: Vec<i32>,
    /// Bytes counted against [`limits::STATE`].
    pub bytes: usize,
    /// `dash` instead of `bash`.
    pub posix: bool,
}

impl State {
    pub(in crate::system) fn get(&self, name: &[u8]) -> Option<Vec<u8>> {
        match &self.vars.get(name)?.value {
            Value::Text(t) => Some(t.clone()),
            Value::Array(a) => a.get(&0).cloned(),
            Value::Map(m) => m.get(b"0".as_slice()).cloned(),
        }
    }

    pub(in crate::system) fn text(&self, name: &str) -> Vec<u8> {
        self.get(name.as_bytes()).unwrap_or_default()
    }

    /// Sets a variable; `false` when it is read-only or the state is full.
    pub(in crate::system) fn set(&mut self, name: &[u8], value: impl Into<Vec<u8>>) -> bool {
        self.put(name, Value::Text(value.into()))
    }

    pub(in crate::system) fn put(&mut self, name: &[u8], value: Value) -> bool {
        let size = match &value {
            Value::Text(t) => t.len(),
            Value::Array(a) => a.values().map(|v| v.len() + 16).sum(),
            Value::Map(m) => m.iter().map(|(k, v)| k.len() + v.len() + 16).sum(),
        };
        let old = self.vars.get(name);
        if old.is_some_and(|v| v.readonly) {
            return false;
        }
        let before = old.map_or(0, |v| match &v.value {
            Value::Text(t) => t.len() + name.len() + 64,
            Value::Array(a) => a.values().map(|v| v.len() + 16).sum::<usize>() + name.len() + 64,
            Value::Map(m) => m.iter().map(|(k, v)| k.len() + v.len() + 16).sum::<usize>() + name.len() + 64,
        });
        let bytes = self.bytes.saturating_sub(before) + size + name.len() + 64;
        if bytes > limits::STATE {
            return false;
        }
        self.bytes = bytes;
        match self.vars.get_mut(name) {
            Some(var) => var.value = value,
            None => {
                let export = self.flags.contains_key(&b'a');
                self.vars.insert(name.to_vec(), Var { value, export, readonly: false, integer: false });
            }
        }
        true
    }

    pub(in crate::system) fn export(&mut self, name: &[u8], value: impl Into<Vec<u8>>) {
        self.set(name, value);
        if let Some(var) = self.vars.get_mut(name) {
            var.export = true;
        }
    }

    pub(in crate::system) fn unset(&mut self, name: &[u8]) {
        if let Some(var) = self.vars.remove(name) {
            let size = if let Value::Text(t) = &var.value { t.len() } else { 0 };
            self.bytes = self.bytes.saturating_sub(size + name.len() + 64);
        }
    }

    /// `NAME=value` of everything exported.
    pub(in crate::system) fn environment(&self) -> Vec<Vec<u8>> {
        self.vars
            .iter()
            .filter(|(_, v)| v.export)
            .filter_map(|(name, v)| if let Value::Text(t) = &v.value { Some([name, b"=".as_slice(), t].concat()) } else { None })
            .collect()
    }

    pub(in crate::system) fn flag(&self, flag: u8) -> bool {
        self.flags.contains_key(&flag)
    }
}
