//! Landlock: the files a process may reach, and no outgoing TCP where the kernel can forbid it.

use super::LockdownError;
use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible as _, LandlockStatus, PathBeneath, PathFd, Ruleset,
    RulesetAttr as _, RulesetCreatedAttr as _, RulesetStatus,
};
use std::path::{Path, PathBuf};

/// Files and directories (with all below them) that stay reachable.
#[derive(Debug, Clone, Default)]
pub struct Files {
    /// Readable. Those that do not exist are left out: then nothing can be read there.
    pub read: Vec<PathBuf>,
    /// Readable and writable; directories also for making and removing. They must exist.
    pub write: Vec<PathBuf>,
    /// Also forbid every outgoing TCP connection (kernel 6.7 and later; the decoys process also
    /// has the system call filter for it). The link's process must leave this off.
    pub no_connect: bool,
}

/// What the kernel made of the rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Enforced {
    pub(super) state: &'static str,
    pub(super) abi: Option<i32>,
}

/// The rules are made for this version and asked for as far as the kernel knows them; Debian 12 has 2.
const NEWEST: ABI = ABI::V5;

impl Files {
    pub(super) fn restrict(&self) -> Result<Enforced, LockdownError> {
        let fault = |error: landlock::RulesetError| LockdownError::Files(error.to_string());
        let ruleset = Ruleset::default().set_compatibility(CompatLevel::BestEffort);
        let mut ruleset = ruleset.handle_access(AccessFs::from_all(NEWEST)).map_err(fault)?;
        if self.no_connect {
            ruleset = ruleset.handle_access(AccessNet::ConnectTcp).map_err(fault)?;
        }
        let mut created = ruleset.create().map_err(fault)?;
        let look = AccessFs::ReadFile | AccessFs::ReadDir;
        // Always: what this process's threads may do, which `report` reads.
        let own = PathBuf::from("/proc/self/task");
        for path in self.read.iter().chain([&own]) {
            match PathFd::new(path) {
                Ok(open) => created = created.add_rule(PathBeneath::new(open, fitting(path, look))).map_err(fault)?,
                Err(_) if !path.exists() => {}
                Err(error) => return Err(LockdownError::Files(error.to_string())),
            }
        }
        let change = AccessFs::from_all(NEWEST) & !(AccessFs::Execute | AccessFs::MakeChar | AccessFs::MakeBlock | AccessFs::IoctlDev);
        for path in &self.write {
            let open = PathFd::new(path)
                .map_err(|error| LockdownError::Files(format!("{}: must exist before the lockdown: {error}", path.display())))?;
            created = created.add_rule(PathBeneath::new(open, fitting(path, change))).map_err(fault)?;
        }
        let status = created.restrict_self().map_err(fault)?;
        let abi = match status.landlock {
            LandlockStatus::Available { effective_abi, kernel_abi } => Some(kernel_abi.unwrap_or(effective_abi as i32)),
            _ => None,
        };
        let state = match status.ruleset {
            RulesetStatus::FullyEnforced => "full",
            RulesetStatus::PartiallyEnforced => "partial",
            RulesetStatus::NotEnforced => "none",
        };
        Ok(Enforced { state, abi })
    }
}

/// A rule on a file takes no rights that only directories have.
fn fitting(path: &Path, access: BitFlags<AccessFs>) -> BitFlags<AccessFs> {
    if path.is_dir() { access } else { access & AccessFs::from_file(NEWEST) }
}
