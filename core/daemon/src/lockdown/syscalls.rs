//! The system call filter of the process that speaks to visitors.
//!
//! It refuses (EPERM) what a decoy never does: opening connections or new network sockets, starting
//! programs, looking into other processes, changing the system. Everything else goes on as before,
//! so the list says what is impossible and not what is needed. Where a name can be reached by
//! another door, that door is refused too: `io_uring`, TCP fast open, the x32 numbering.
//!
//! Not expressible here: the destination of a datagram. The firewall ruleset sees to that.

use super::LockdownError;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen as Len, SeccompCmpOp as Op, SeccompCondition, SeccompFilter, SeccompRule,
    apply_filter_all_threads,
};
use std::collections::BTreeMap;

/// Which calls are refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Calls {
    /// None: the filter is off.
    #[default]
    Any,
    /// For the decoys: no connections, no new sockets but Unix ones, no programs, no meddling.
    Decoys,
    /// For a process that must connect (the link, the controller): as for the decoys, but connections
    /// and IP sockets stay. Raw, packet and netlink sockets go.
    Connecting,
}

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

impl Calls {
    pub(super) fn restrict(self) -> Result<(), LockdownError> {
        if self == Self::Any {
            return Ok(());
        }
        let fault = |error: String| LockdownError::Calls(error);
        let refuse = compile(self.rules().map_err(|error| fault(error.to_string()))?, libc::EPERM).map_err(fault)?;
        // clone3 hides its flags in memory a filter cannot read; C libraries fall back to clone on ENOSYS.
        let no_clone3 = compile(BTreeMap::from([(libc::SYS_clone3, Vec::new())]), libc::ENOSYS).map_err(fault)?;
        for program in [refuse, no_clone3] {
            apply_filter_all_threads(&program).map_err(|error| fault(error.to_string()))?;
        }
        Ok(())
    }

    fn rules(self) -> Result<Rules, seccompiler::BackendError> {
        let mut rules: Rules = ALWAYS.iter().map(|number| (*number, Vec::new())).collect();
        rules.insert(libc::SYS_clone, masks(0, NAMESPACES)?);
        let fast_open = libc::MSG_FASTOPEN as u64;
        match self {
            Self::Any => return Ok(BTreeMap::new()),
            Self::Decoys => {
                rules.insert(libc::SYS_connect, Vec::new());
                rules.insert(libc::SYS_socket, vec![SeccompRule::new(vec![is_not(0, libc::AF_UNIX)?])?]);
                // These connect without `connect`.
                rules.insert(libc::SYS_sendto, masks(3, &[fast_open])?);
                rules.insert(libc::SYS_sendmsg, masks(2, &[fast_open])?);
                rules.insert(libc::SYS_sendmmsg, masks(3, &[fast_open])?);
            }
            Self::Connecting => {
                let other = vec![is_not(0, libc::AF_UNIX)?, is_not(0, libc::AF_INET)?, is_not(0, libc::AF_INET6)?];
                let raw = vec![SeccompCondition::new(1, Len::Dword, Op::MaskedEq(0xf), libc::SOCK_RAW as u64)?];
                rules.insert(libc::SYS_socket, vec![SeccompRule::new(other)?, SeccompRule::new(raw)?]);
            }
        }
        Ok(with_x32(rules))
    }
}

fn compile(rules: Rules, errno: i32) -> Result<BpfProgram, String> {
    let arch = std::env::consts::ARCH.try_into().map_err(|error: seccompiler::BackendError| error.to_string())?;
    let filter =
        SeccompFilter::new(rules, SeccompAction::Allow, SeccompAction::Errno(errno as u32), arch).map_err(|error| error.to_string())?;
    filter.try_into().map_err(|error: seccompiler::BackendError| error.to_string())
}

/// One rule a mask: the call is refused when all bits of any mask are set in the argument.
fn masks(argument: u8, masks: &[u64]) -> Result<Vec<SeccompRule>, seccompiler::BackendError> {
    masks.iter().map(|mask| SeccompRule::new(vec![SeccompCondition::new(argument, Len::Dword, Op::MaskedEq(*mask), *mask)?])).collect()
}

fn is_not(argument: u8, value: i32) -> Result<SeccompCondition, seccompiler::BackendError> {
    SeccompCondition::new(argument, Len::Dword, Op::Ne, value as u64)
}

/// On x86-64 most calls have a second number (x32) under the same architecture word.
#[cfg(target_arch = "x86_64")]
fn with_x32(mut rules: Rules) -> Rules {
    const X32: i64 = 0x4000_0000;
    /// Calls with an x32 number of their own: execve, ptrace, process_vm_readv, process_vm_writev,
    /// kexec_load, execveat.
    const OWN: [i64; 6] = [520, 521, 539, 540, 528, 545];
    let own_data: [(i64, i64); 2] = [(518, libc::SYS_sendmsg), (538, libc::SYS_sendmmsg)];
    let mut twins: Rules = rules.iter().map(|(number, rule)| (X32 | number, rule.clone())).collect();
    twins.extend(OWN.iter().map(|number| (X32 | number, Vec::new())));
    twins.extend(own_data.iter().filter_map(|(own, plain)| Some((X32 | own, rules.get(plain)?.clone()))));
    twins.insert(X32 | libc::SYS_clone3, Vec::new());
    rules.append(&mut twins);
    rules
}

#[cfg(not(target_arch = "x86_64"))]
fn with_x32(rules: Rules) -> Rules {
    rules
}

/// Flags of `clone` that make namespaces.
const NAMESPACES: &[u64] = &[
    libc::CLONE_NEWNS as u64,
    libc::CLONE_NEWCGROUP as u64,
    libc::CLONE_NEWUTS as u64,
    libc::CLONE_NEWIPC as u64,
    libc::CLONE_NEWUSER as u64,
    libc::CLONE_NEWPID as u64,
    libc::CLONE_NEWNET as u64,
];

/// Refused whatever the arguments.
const ALWAYS: &[i64] = &[
    // Programs.
    libc::SYS_execve,
    libc::SYS_execveat,
    // Other processes.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    // Doors around the filter and the file rules.
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_open_by_handle_at,
    libc::SYS_userfaultfd,
    libc::SYS_unshare,
    libc::SYS_setns,
    // File systems.
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_quotactl,
    libc::SYS_acct,
    // The kernel.
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_reboot,
    libc::SYS_syslog,
    libc::SYS_personality,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_vhangup,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_iopl,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_ioperm,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_modify_ldt,
    // Keys.
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
];

#[cfg(test)]
mod tests {
    use super::*;

    /// What the kernel would answer: the few BPF instructions the compiler emits, over `seccomp_data`.
    fn answer(program: &BpfProgram, number: i64, arguments: [u64; 6]) -> u32 {
        let arch: u32 = if cfg!(target_arch = "x86_64") { 0xc000_003e } else { 0xc000_00b7 };
        let mut data = [(number as u32).to_ne_bytes(), arch.to_ne_bytes(), [0; 4], [0; 4]].concat();
        arguments.iter().for_each(|argument| data.extend(argument.to_ne_bytes()));
        let (mut at, mut accumulator) = (0, 0u32);
        loop {
            let step = &program[at];
            at += 1;
            let mut jump = |holds: bool| at += usize::from(if holds { step.jt } else { step.jf });
            match step.code {
                0x20 => accumulator = u32::from_ne_bytes(data[step.k as usize..][..4].try_into().unwrap()),
                0x05 => at += step.k as usize,
                0x15 => jump(accumulator == step.k),
                0x25 => jump(accumulator > step.k),
                0x35 => jump(accumulator >= step.k),
                0x54 => accumulator &= step.k,
                0x06 => return step.k,
                code => panic!("instruction {code:#x}"),
            }
        }
    }

    fn refused(calls: Calls, number: i64, arguments: &[u64]) -> bool {
        let program = compile(calls.rules().unwrap(), libc::EPERM).unwrap();
        let mut all = [0; 6];
        all[..arguments.len()].copy_from_slice(arguments);
        match answer(&program, number, all) {
            0x7fff_0000 => false,
            0x0005_0001 => true,
            other => panic!("{other:#x}"),
        }
    }

    #[test]
    fn listed_calls_are_refused_under_each_number() {
        assert!(Calls::Any.rules().unwrap().is_empty());
        for calls in [Calls::Decoys, Calls::Connecting] {
            for number in ALWAYS {
                assert!(refused(calls, *number, &[]), "{number}");
                #[cfg(target_arch = "x86_64")]
                assert!(refused(calls, 0x4000_0000 | number, &[]), "x32 {number}");
            }
        }
        #[cfg(target_arch = "x86_64")]
        for own in [520, 521, 528, 539, 540, 545] {
            assert!(refused(Calls::Decoys, 0x4000_0000 | own, &[]));
        }
    }

    #[test]
    fn decoys_never_connect_and_connecting_processes_do() {
        let (inet, inet6, unix) = (libc::AF_INET as u64, libc::AF_INET6 as u64, libc::AF_UNIX as u64);
        assert!(refused(Calls::Decoys, libc::SYS_connect, &[3]) && !refused(Calls::Connecting, libc::SYS_connect, &[3]));
        for family in (0..46).filter(|family| *family != unix) {
            assert!(refused(Calls::Decoys, libc::SYS_socket, &[family, 1]), "{family}");
            let kept = family == inet || family == inet6;
            assert_eq!(refused(Calls::Connecting, libc::SYS_socket, &[family, 1]), !kept, "{family}");
        }
        // The kernel reads 32 bits of the family: high bits must not slip past.
        assert!(refused(Calls::Decoys, libc::SYS_socket, &[1 << 32 | inet, 1]));
        assert!(!refused(Calls::Decoys, libc::SYS_socket, &[unix, 1]));
        for flags in [0, libc::SOCK_CLOEXEC as u64, libc::SOCK_NONBLOCK as u64] {
            assert!(refused(Calls::Connecting, libc::SYS_socket, &[inet, libc::SOCK_RAW as u64 | flags]));
            assert!(!refused(Calls::Connecting, libc::SYS_socket, &[inet6, libc::SOCK_DGRAM as u64 | flags]));
        }
    }

    #[test]
    fn fast_open_and_namespaces_by_flag() {
        let (fast_open, quiet) = (libc::MSG_FASTOPEN as u64, libc::MSG_NOSIGNAL as u64);
        for (number, position) in [(libc::SYS_sendto, 3), (libc::SYS_sendmsg, 2), (libc::SYS_sendmmsg, 3)] {
            for (flags, expected) in [(0, false), (quiet, false), (fast_open, true), (fast_open | quiet, true)] {
                let mut arguments = [3, 1, 1, 0];
                arguments[position] = flags;
                assert_eq!(refused(Calls::Decoys, number, &arguments), expected, "{number} {flags:#x}");
                assert!(!refused(Calls::Connecting, number, &arguments));
            }
        }
        let thread = (libc::CLONE_VM | libc::CLONE_THREAD | libc::CLONE_SIGHAND) as u64;
        assert!(!refused(Calls::Decoys, libc::SYS_clone, &[thread]));
        for flag in NAMESPACES {
            assert!(refused(Calls::Decoys, libc::SYS_clone, &[*flag | 17]), "{flag:#x}");
        }
    }

    #[test]
    fn everyday_calls_go_on() {
        use libc::{
            SYS_accept4, SYS_bind, SYS_clone3, SYS_epoll_pwait, SYS_fdatasync, SYS_futex, SYS_getsockopt, SYS_listen, SYS_openat,
            SYS_recvmsg,
        };
        use libc::{SYS_shutdown, SYS_socketpair, SYS_write};
        let kept = [SYS_accept4, SYS_bind, SYS_epoll_pwait, SYS_fdatasync, SYS_futex, SYS_getsockopt, SYS_listen, SYS_openat, SYS_recvmsg];
        for number in kept.into_iter().chain([SYS_shutdown, SYS_socketpair, SYS_write]) {
            assert!(!refused(Calls::Decoys, number, &[]), "{number}");
        }
        let no_clone3 = compile(BTreeMap::from([(SYS_clone3, Vec::new())]), libc::ENOSYS).unwrap();
        assert_eq!(answer(&no_clone3, SYS_clone3, [0; 6]), 0x0005_0000 | libc::ENOSYS as u32);
        // Another architecture's numbers mean other calls: the process is ended.
        let program = compile(Calls::Decoys.rules().unwrap(), libc::EPERM).unwrap();
        assert!(program.iter().any(|step| step.code == 0x06 && step.k == 0x8000_0000));
    }
}
