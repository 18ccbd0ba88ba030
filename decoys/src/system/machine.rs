//! Stand-in until the pretended system is merged: just enough for the services' own tests. Replaced whole.

use super::{Completion, Download, How, Input, Login, MachineSpec, Ran, Waiting, WrittenFile};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Why a machine cannot be built.
#[derive(Debug, thiserror::Error)]
#[error("broken profile")]
pub struct MachineError;

/// One pretended machine.
pub struct Machine {
    spec: MachineSpec,
    files: Mutex<HashMap<String, Vec<u8>>>,
}

impl Machine {
    /// Builds the machine.
    ///
    /// # Errors
    /// Never here.
    pub fn new(spec: MachineSpec) -> Result<Arc<Self>, MachineError> {
        Ok(Arc::new(Self { spec, files: Mutex::default() }))
    }
    /// `uname -srvm`.
    pub fn uname(&self) -> String {
        "Linux 6.1.0-31-amd64 #1 SMP x86_64".into()
    }
    /// Starts a session.
    pub fn login(self: &Arc<Self>, login: Login) -> Shell {
        Shell { machine: self.clone(), login, unfinished: String::new(), reading: None }
    }
}

/// One shell.
pub struct Shell {
    machine: Arc<Machine>,
    login: Login,
    unfinished: String,
    reading: Option<(String, Vec<u8>, String)>,
}

impl Shell {
    /// Text before the first prompt.
    pub fn greeting(&self) -> &[u8] {
        b"Welcome\n"
    }
    /// Sets a variable.
    pub fn set_env(&mut self, _: &str, _: &[u8]) -> bool {
        true
    }
    /// The window changed.
    pub fn resize(&mut self, _: u16, _: u16) {}
    /// Completion.
    pub fn complete(&self, _: &[u8]) -> Completion {
        Completion::default()
    }
    /// Prompt.
    pub fn prompt(&self) -> Vec<u8> {
        if self.unfinished.is_empty() {
            format!("{}@{}:~# ", self.login.user, self.machine.spec.hostname).into_bytes()
        } else {
            b"> ".to_vec()
        }
    }
    /// Interrupt.
    pub fn interrupt(&mut self, _: i64) -> Ran {
        self.reading = None;
        self.unfinished.clear();
        Ran { known: true, exit: 130, ..Ran::default() }
    }
    /// Runs a line.
    pub fn run(&mut self, line: &[u8], _: Input<'_>, _: i64) -> Ran {
        let line = String::from_utf8_lossy(line).into_owned();
        if line.starts_with("if ") || !self.unfinished.is_empty() {
            self.unfinished.push_str(&line);
            self.unfinished.push('\n');
            if line != "fi" {
                return Ran { known: true, needs_more: true, ..Ran::default() };
            }
            let body = std::mem::take(&mut self.unfinished);
            let inner: Vec<&str> = body.lines().filter(|l| l.starts_with("echo")).collect();
            return self.script(&inner.join("; "));
        }
        self.script(&line)
    }
    fn script(&mut self, line: &str) -> Ran {
        let mut ran = Ran { known: true, ..Ran::default() };
        let mut rest = line;
        while !rest.is_empty() {
            let (one, tail) = rest.split_once("; ").unwrap_or((rest, ""));
            rest = tail;
            let mut files = self.machine.files.lock().unwrap_or_else(PoisonError::into_inner);
            match one.split_once(' ').unwrap_or((one, "")) {
                ("echo", text) => match text.strip_suffix(" >&2") {
                    Some(text) => ran.stderr.extend(format!("{text}\n").into_bytes()),
                    None => ran.stdout.extend(format!("{}\n", text.replace('"', "")).into_bytes()),
                },
                ("exit", n) => (ran.exit, ran.logout) = (n.parse().unwrap_or(0), true),
                ("cat", to) => {
                    self.reading = Some((to.trim_start_matches("> ").to_owned(), Vec::new(), rest.to_owned()));
                    ran.waiting = Some(Waiting::Line);
                    return ran;
                }
                ("wc", what) => {
                    let name = what.rsplit(' ').next().unwrap_or_default();
                    let size = files.get(name).map_or(0, Vec::len);
                    let shown = if what.contains('<') { format!("{size}\n") } else { format!("{size} {name}\n") };
                    ran.stdout.extend(shown.into_bytes());
                }
                ("wget", url) => ran.downloads.push(Download { url: url.into(), tool: "wget" }),
                ("true" | "id" | "", _) => {}
                _ => ran.known = false,
            }
            files.shrink_to_fit();
        }
        ran
    }
    /// Input of a waiting command.
    pub fn input(&mut self, more: &[u8], eof: bool, _: i64) -> Ran {
        let mut ran = Ran { known: true, ..Ran::default() };
        let Some((name, mut content, rest)) = self.reading.take() else { return ran };
        if name.is_empty() {
            ran.stdout.extend_from_slice(more);
        } else {
            content.extend_from_slice(more);
        }
        if !eof {
            self.reading = Some((name, content, rest));
            ran.waiting = Some(Waiting::Line);
            return ran;
        }
        if !name.is_empty() {
            self.machine.files.lock().unwrap_or_else(PoisonError::into_inner).insert(name.clone(), content.clone());
            ran.files_written.push(WrittenFile { path: name.into(), content: Arc::new(content), how: How::Redirect, removed: false });
        }
        let after = self.script(&rest);
        ran.stdout.extend(after.stdout);
        ran.exit = after.exit;
        ran
    }
}
