//! What is in force, asked of the kernel: for the health event and `doctor`.

use super::files::Enforced;
use serde::Serialize;
use std::fmt;
use std::io;
use std::sync::OnceLock;

static FILES: OnceLock<Enforced> = OnceLock::new();

/// The state of this process. Where threads differ, the least locked down one counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Threads looked at; 0 when the kernel's account could not be read (then nothing is claimed).
    pub threads: usize,
    /// No thread has any capability or can get one from its ambient or inheritable set.
    pub no_capabilities: bool,
    /// The bounding set is empty too.
    pub bounding_empty: bool,
    /// No program can give privileges.
    pub no_new_privs: bool,
    /// System call filters are on.
    pub call_filter: bool,
    /// Landlock file rules: `full`, `partial` (an older kernel knows fewer rights), `none` (the kernel has none), `off` (not asked).
    pub files: &'static str,
    /// The kernel's Landlock version.
    pub landlock_abi: Option<i32>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let yes = |on: bool| if on { "yes" } else { "NO" };
        write!(
            f,
            "user {}:{}, capabilities dropped {}, no new privileges {}, system calls filtered {}, file rules {}",
            self.uid,
            self.gid,
            yes(self.no_capabilities),
            yes(self.no_new_privs),
            yes(self.call_filter),
            self.files
        )?;
        self.landlock_abi.map_or(Ok(()), |abi| write!(f, " (Landlock {abi})"))
    }
}

/// Asks the kernel about every thread of this process.
pub fn report() -> Report {
    let threads = threads().unwrap_or_default();
    let known = !threads.is_empty();
    let files = FILES.get();
    Report {
        uid: rustix::process::getuid().as_raw(),
        gid: rustix::process::getgid().as_raw(),
        threads: threads.len(),
        no_capabilities: known && threads.iter().all(|thread| thread.capabilities == 0),
        bounding_empty: known && threads.iter().all(|thread| thread.bounding == 0),
        no_new_privs: known && threads.iter().all(|thread| thread.no_new_privs),
        call_filter: known && threads.iter().all(|thread| thread.filtered),
        files: files.map_or("off", |enforced| enforced.state),
        landlock_abi: files.and_then(|enforced| enforced.abi),
    }
}

pub(super) fn remember(enforced: Enforced) {
    let _ = FILES.set(enforced);
}

/// One thread, as `/proc/self/task/N/status` tells.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Thread {
    capabilities: u64,
    bounding: u64,
    no_new_privs: bool,
    filtered: bool,
}

pub(super) fn threads() -> io::Result<Vec<Thread>> {
    let mut found = Vec::new();
    for task in std::fs::read_dir("/proc/self/task")? {
        match std::fs::read_to_string(task?.path().join("status")) {
            Ok(status) => {
                found.push(parse(&status).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "status of a thread not understood"))?)
            }
            // It ended meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ESRCH) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

fn parse(status: &str) -> Option<Thread> {
    let cell = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim);
    let set = |name: &str| u64::from_str_radix(cell(name)?, 16).ok();
    let mut capabilities = 0;
    for name in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        capabilities |= set(name)?;
    }
    Some(Thread { capabilities, bounding: set("CapBnd")?, no_new_privs: cell("NoNewPrivs")? == "1", filtered: cell("Seccomp")? == "2" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_is_read() {
        let status = "Name:\tx\nCapInh:\t0000000000000000\nCapPrm:\t0000000000000400\nCapEff:\t0000000000000000\nCapBnd:\t000001ffffffffff\nCapAmb:\t0000000000000000\nNoNewPrivs:\t1\nSeccomp:\t2\n";
        assert_eq!(parse(status), Some(Thread { capabilities: 0x400, bounding: 0x1ff_ffff_ffff, no_new_privs: true, filtered: true }));
        assert_eq!(parse(""), None);
        assert!(report().threads >= 1);
    }
}
