//! A helper process of the same binary, joined by a socketpair: the link runs in one, so that the
//! process that speaks to visitors can give up connecting.
//!
//! Start it before the lockdown (afterwards no program can be started) and from the main thread
//! (the kernel's parent-death signal follows the thread that started the child).

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};

/// Set for a helper: the pid of the process that started it.
const PARENT: &str = "GLASSHIVE_PARENT";

/// The helper as its parent sees it.
#[derive(Debug)]
pub struct Helper {
    child: Child,
    /// Our end of the socketpair, blocking; `set_nonblocking(true)` before handing it to tokio.
    pub stream: UnixStream,
}

impl Helper {
    /// Starts this binary again with `arguments`; its standard input is the other end of the pair,
    /// output and errors are ours. Environment is inherited.
    ///
    /// # Errors
    /// The system's.
    pub fn start<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> io::Result<Self> {
        // Not current_exe(): after an upgrade the path is another binary, or gone.
        Self::start_program(OsStr::new("/proc/self/exe"), arguments)
    }

    fn start_program<A: AsRef<OsStr>>(program: &OsStr, arguments: impl IntoIterator<Item = A>) -> io::Result<Self> {
        let (ours, theirs) = UnixStream::pair()?;
        let child = Command::new(program)
            .args(arguments)
            .env(PARENT, std::process::id().to_string())
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            // A terminal's Ctrl-C is for the daemon, which lets its helper go when it is done.
            .process_group(0)
            .spawn()?;
        Ok(Self { child, stream: ours })
    }

    /// The child and our end.
    pub(crate) fn into_parts(self) -> (Child, UnixStream) {
        (self.child, self.stream)
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it has; does not wait.
    ///
    /// # Errors
    /// The system's.
    pub fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }

    /// Ends it (SIGTERM first is the caller's business: closing `stream` asks it to go).
    ///
    /// # Errors
    /// The system's.
    pub fn kill(&mut self) -> io::Result<ExitStatus> {
        self.child.kill()?;
        self.child.wait()
    }

    /// Closes our end and waits for it to end.
    ///
    /// # Errors
    /// The system's.
    pub fn finish(self) -> io::Result<ExitStatus> {
        let Self { mut child, stream } = self;
        drop(stream);
        child.wait()
    }
}

/// Whether this process was started by [`Helper::start`].
pub fn is_helper() -> bool {
    std::env::var_os(PARENT).is_some()
}

/// In the helper: its end of the pair, taken from standard input; from now on it dies with its parent.
///
/// # Errors
/// When it was not started by [`Helper::start`], or the parent has ended already.
pub fn inherited() -> io::Result<UnixStream> {
    let stdin = io::stdin();
    // Fails where standard input is no socket.
    rustix::net::sockopt::socket_type(stdin.as_fd()).map_err(|_| {
        io::Error::new(io::ErrorKind::InvalidInput, "standard input is no socket: this command is started by the daemon itself")
    })?;
    let stream = UnixStream::from(stdin.as_fd().try_clone_to_owned()?);
    // The copy is private to us; standard input must not keep the pair open or be read.
    rustix::stdio::dup2_stdin(std::fs::File::open("/dev/null")?)?;
    die_with_parent()?;
    Ok(stream)
}

/// Asks the kernel to end this process when its parent does. Ask again after changing user: that
/// clears it.
///
/// # Errors
/// The system's; `NotConnected` when the parent has ended already.
pub fn die_with_parent() -> io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    let expected: Option<u32> = std::env::var(PARENT).ok().and_then(|pid| pid.parse().ok());
    // A parent in another pid namespace shows as 0 (`None`): then the check says nothing.
    let now = rustix::process::getppid().map(|pid| pid.as_raw_nonzero().get().unsigned_abs());
    match (expected, now) {
        (Some(expected), Some(now)) if expected != now => {
            Err(io::Error::new(io::ErrorKind::NotConnected, "the daemon that started this helper has ended"))
        }
        _ => Ok(()),
    }
}
