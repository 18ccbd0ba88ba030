//! Giving up what the daemon no longer needs, once its sockets are open.
//!
//! Order: user, capabilities, `no_new_privs`, core dumps, Landlock, system calls. Capabilities and
//! Landlock belong to a thread and are inherited by those it starts, so [`Lockdown::apply`] refuses
//! to run beside other threads: call it before the async runtime. What it cannot enforce it says.
//!
//! It never widens anything, and nothing takes it back.

mod files;
mod report;
mod syscalls;
mod user;

pub use files::Files;
pub use report::{Report, report};
pub use syscalls::Calls;
pub use user::User;

use caps::CapSet;
use std::io;

/// What to give up.
#[derive(Debug, Clone, Default)]
pub struct Lockdown {
    /// Become this user, when started as root (otherwise it must already be this user).
    pub user: Option<User>,
    /// The only files reachable; `None` leaves file access as it is.
    pub files: Option<Files>,
    /// System calls refused.
    pub calls: Calls,
    /// Capabilities not given up.
    pub keep: Keep,
}

/// Capabilities a locked-down process still has. With [`Lockdown::user`] none survive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Keep {
    /// None.
    #[default]
    Nothing,
    /// `CAP_NET_ADMIN`, where it is there: the wall's reader asks the kernel with it.
    NetAdmin,
}

/// Why a process could not be locked down. It must not serve visitors then.
#[derive(Debug, thiserror::Error)]
pub enum LockdownError {
    /// Called too late.
    #[error("lockdown: {0} threads are running: apply it before the runtime starts")]
    Threads(usize),
    /// The user does not exist or cannot be taken.
    #[error("lockdown: user {0}")]
    User(String),
    /// Capabilities stay.
    #[error("lockdown: capabilities cannot be dropped: {0}")]
    Capabilities(String),
    /// Another step of the system failed.
    #[error("lockdown: {0}: {1}")]
    System(&'static str, io::Error),
    /// The file rules cannot be set.
    #[error("lockdown: file rules: {0}")]
    Files(String),
    /// The system call filter cannot be set.
    #[error("lockdown: system call filter: {0}")]
    Calls(String),
}

impl Lockdown {
    /// Applies everything to this process and returns what the kernel says is in force.
    ///
    /// # Errors
    /// [`LockdownError`], one line; the process may then be locked down in part and should end.
    pub fn apply(&self) -> Result<Report, LockdownError> {
        let threads = report::threads().map_err(|error| LockdownError::System("threads cannot be counted", error))?;
        if threads.len() != 1 {
            return Err(LockdownError::Threads(threads.len()));
        }
        // Read once, while /proc/sys can be reached.
        crate::clock::boot_id();
        // While CAP_SETPCAP is still there.
        drop_bounding()?;
        if let Some(user) = &self.user {
            user.take()?;
        }
        drop_capabilities(self.keep)?;
        rustix::thread::set_no_new_privs(true).map_err(|error| LockdownError::System("no_new_privs", error.into()))?;
        // A core file would hold visitors' secrets in the clear.
        let none = rustix::process::Rlimit { current: Some(0), maximum: Some(0) };
        rustix::process::setrlimit(rustix::process::Resource::Core, none)
            .map_err(|error| LockdownError::System("core dumps cannot be turned off", error.into()))?;
        if let Some(files) = &self.files {
            report::remember(files.restrict()?);
        }
        self.calls.restrict()?;
        Ok(report())
    }
}

fn drop_bounding() -> Result<(), LockdownError> {
    let fault = |error: caps::errors::CapsError| LockdownError::Capabilities(error.to_string());
    // Without CAP_SETPCAP the set cannot shrink; without capabilities and with no_new_privs it gives nothing.
    if caps::has_cap(None, CapSet::Effective, caps::Capability::CAP_SETPCAP).map_err(fault)? {
        caps::clear(None, CapSet::Bounding).map_err(fault)?;
    }
    Ok(())
}

fn drop_capabilities(keep: Keep) -> Result<(), LockdownError> {
    let fault = |error: caps::errors::CapsError| LockdownError::Capabilities(error.to_string());
    caps::clear(None, CapSet::Ambient).map_err(fault)?;
    caps::clear(None, CapSet::Inheritable).map_err(fault)?;
    let had = caps::read(None, CapSet::Permitted).map_err(fault)?;
    let kept: caps::CapsHashSet = match keep {
        Keep::Nothing => caps::CapsHashSet::new(),
        Keep::NetAdmin => had.into_iter().filter(|cap| *cap == caps::Capability::CAP_NET_ADMIN).collect(),
    };
    caps::set(None, CapSet::Effective, &kept).map_err(fault)?;
    caps::set(None, CapSet::Permitted, &kept).map_err(fault)
}
