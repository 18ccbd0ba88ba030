//! Child processes that end with the test, and conditions to wait for.

use anyhow::{Context as _, bail};
use std::ffi::OsStr;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// A running daemon; ended with SIGTERM, then SIGKILL, when dropped.
pub struct Daemon {
    child: Child,
    /// Where its output goes.
    pub log: PathBuf,
    name: String,
}

impl Daemon {
    /// Starts `command` with its output in `log`.
    pub fn start(name: &str, mut command: Command, log: &Path) -> crate::Result<Self> {
        let file = std::fs::OpenOptions::new().create(true).append(true).open(log).with_context(|| format!("opening {}", log.display()))?;
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let child = command.spawn().with_context(|| format!("starting {name}: {command:?}"))?;
        Ok(Self { child, log: log.to_owned(), name: name.to_owned() })
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it still runs.
    pub fn alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Its output so far.
    pub fn output(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits until its output holds `text`; fails with the output when it ends before.
    pub fn wait_for(&mut self, text: &str, limit: Duration) -> crate::Result<()> {
        let deadline = Instant::now() + limit;
        loop {
            if self.output().contains(text) {
                return Ok(());
            }
            if !self.alive() {
                bail!("{} ended before it said {text:?}:\n{}", self.name, self.output());
            }
            if Instant::now() > deadline {
                bail!("{} did not say {text:?} within {limit:?}:\n{}", self.name, self.output());
            }
            pause();
        }
    }

    /// Sends a signal by number.
    pub fn signal(&self, signal: i32) {
        if let Some(signal) = rustix::process::Signal::from_named_raw(signal)
            && let Some(pid) = rustix::process::Pid::from_raw(i32::try_from(self.pid()).unwrap_or(0))
        {
            let _ = rustix::process::kill_process(pid, signal);
        }
    }

    /// Asks it to end and waits; kills it after `limit`. Returns its exit code, if it had one.
    pub fn stop(&mut self, limit: Duration) -> Option<i32> {
        if self.alive() {
            self.signal(15);
        }
        let deadline = Instant::now() + limit;
        while Instant::now() < deadline {
            if let Ok(Some(status)) = self.child.try_wait() {
                return status.code();
            }
            pause();
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        None
    }

    /// Ends it without a word, as a power failure of the process would.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.stop(Duration::from_secs(10));
    }
}

/// One short step of waiting for a condition that has no handle to wait on (another process).
pub fn pause() {
    let _ = rustix::event::poll(&mut [], Some(&rustix::event::Timespec { tv_sec: 0, tv_nsec: 20_000_000 }));
}

/// Waits until `condition` gives a value.
pub fn until<T>(what: &str, limit: Duration, mut condition: impl FnMut() -> Option<T>) -> crate::Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(value) = condition() {
            return Ok(value);
        }
        if Instant::now() > deadline {
            bail!("{what}: not seen within {limit:?}");
        }
        pause();
    }
}

/// Runs a command to its end and returns its output; bounded in time.
pub fn run(mut command: Command, input: Option<&[u8]>, limit: Duration) -> crate::Result<Output> {
    command.stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() }).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("starting {command:?}"))?;
    if let (Some(input), Some(mut stdin)) = (input, child.stdin.take()) {
        let input = input.to_vec();
        std::thread::spawn(move || {
            let _ = stdin.write_all(&input);
        });
    }
    let mut pipes = (child.stdout.take(), child.stderr.take());
    let reader = |pipe: Option<Box<dyn std::io::Read + Send>>| {
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            if let Some(mut pipe) = pipe {
                let _ = pipe.read_to_end(&mut bytes);
            }
            bytes
        })
    };
    let stdout = reader(pipes.0.take().map(|p| Box::new(p) as Box<dyn std::io::Read + Send>));
    let stderr = reader(pipes.1.take().map(|p| Box::new(p) as Box<dyn std::io::Read + Send>));
    let status = until(&format!("end of {command:?}"), limit, || child.try_wait().ok().flatten());
    if status.is_err() {
        let _ = child.kill();
        let _ = child.wait();
    }
    let join = |handle: std::thread::JoinHandle<Vec<u8>>| handle.join().unwrap_or_default();
    Ok(Output { status: status?, stdout: join(stdout), stderr: join(stderr) })
}

/// [`run`], failing on a non-zero exit; returns standard output.
pub fn run_ok(command: Command, input: Option<&[u8]>, limit: Duration) -> crate::Result<String> {
    let shown = format!("{command:?}");
    let output = run(command, input, limit)?;
    if !output.status.success() {
        bail!("{shown} failed ({}): {}{}", output.status, String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A command line from words.
pub fn command<S: AsRef<OsStr>>(words: impl IntoIterator<Item = S>) -> Command {
    let mut words = words.into_iter();
    let mut command = Command::new(words.next().map_or_else(|| "false".into(), |word| word.as_ref().to_owned()));
    command.args(words);
    command
}

/// tcpdump, an independent recorder of what is on an interface: `command` runs it where the interface is.
pub fn tcpdump(mut command: Command, interface: &str, options: &[&str], file: &Path) -> crate::Result<Daemon> {
    const BUFFER_KIB: &str = "131072";
    command.args(["-i", interface, "-n", "-U", "-s", "0", "-B", BUFFER_KIB, "-Z", "root"]).args(options).arg("-w").arg(file);
    let mut daemon = Daemon::start("tcpdump", command, &file.with_extension("log"))?;
    daemon.wait_for("listening on", Duration::from_secs(30))?;
    anyhow::ensure!(daemon.alive(), "tcpdump ended: {}", daemon.output());
    Ok(daemon)
}

/// Our own binary `name`: beside this executable, or in its parent (test executables live in `deps`).
pub fn binary(name: &str) -> crate::Result<PathBuf> {
    let own = std::env::current_exe()?;
    own.ancestors()
        .skip(1)
        .take(2)
        .map(|dir| dir.join(name))
        .find(|path| path.is_file())
        .with_context(|| format!("{name} is not beside {}; build the workspace first (cargo build)", own.display()))
}

/// Whether a program is installed.
pub fn installed(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]).any(|dir| dir.join(name).is_file())
}
