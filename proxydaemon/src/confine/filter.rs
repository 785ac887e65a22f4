//! System call filters. A call that is not permitted kills the process, which the kernel notes in the audit log and the
//! gate counts as a crash (signal SYS).

mod session;
mod tree;

use std::collections::BTreeMap;
use std::env::consts::ARCH;
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::libc;
use nix::unistd::Pid;
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen as Len, SeccompCmpOp as Op,
    SeccompCondition as Condition, SeccompFilter, SeccompRule as Rule, apply_filter, sock_filter,
};

pub(super) use self::session::SessionFilter;
use crate::checked;

/// Why there is no filter.
#[derive(Debug, thiserror::Error)]
pub enum FilterError {
    /// It does not compile, which the tests exclude for the supported machines.
    #[error("the system call filter cannot be made: {0}")]
    Compile(#[from] BackendError),
    /// The kernel refused it.
    #[error("the system call filter is refused: {0}")]
    Refused(#[from] seccompiler::Error),
    /// It has more instructions than a jump can pass over, which the tests exclude.
    #[error("the system call filter cannot be made: it is too long")]
    TooLong,
    /// The place for the PID, or for the number of a descriptor, is not there exactly once.
    #[error("the system call filter cannot be made: no place for the number of a process or a descriptor")]
    NoPlace,
}

/// Stands in a compiled filter for the PID of the process that will install it.
const PID_TO_COME: u32 = 0x5eed_91d5;

/// Stands in a compiled filter for the number of the log's descriptor in that process.
const LOG_TO_COME: u32 = 0x5eed_106f;

type Rules = BTreeMap<i64, Vec<Rule>>;

fn compile(rules: Rules, otherwise: SeccompAction, matching: SeccompAction) -> Result<BpfProgram, FilterError> {
    Ok(SeccompFilter::new(rules, otherwise, matching, ARCH.try_into()?)?.try_into()?)
}

fn places_for(number: u32, program: &BpfProgram) -> usize {
    program.iter().filter(|instruction| instruction.k == number).count()
}

fn install(mut program: BpfProgram, log: Option<BorrowedFd<'_>>) -> Result<(), FilterError> {
    let own = u32::try_from(Pid::this().as_raw()).map_err(|_| FilterError::NoPlace)?;
    let log = log.and_then(|log| u32::try_from(log.as_raw_fd()).ok());
    for instruction in &mut program {
        match (instruction.k, log) {
            (PID_TO_COME, _) => instruction.k = own,
            (LOG_TO_COME, Some(log)) => instruction.k = log,
            _ => {}
        }
    }
    Ok(apply_filter(&program)?)
}

fn word(argument: u8, op: Op, value: u64) -> Result<Condition, BackendError> {
    Condition::new(argument, Len::Dword, op, value)
}

fn integer(value: i32) -> u64 {
    u64::from(value.cast_unsigned())
}

/// Installs the filter of a role with a runtime, or of the gate: everything but what such a process never does.
pub(super) fn install_for_role(gate: bool) -> Result<(), FilterError> {
    let programs = role_programs(gate)?;
    for program in programs {
        install(program, None)?;
    }
    Ok(())
}

fn role_programs(gate: bool) -> Result<Vec<BpfProgram>, FilterError> {
    let mut programs = Vec::new();
    if !gate {
        // Sockets by path: landlock does not know them. Told that there are none, a name service goes on to the next (to DNS
        // behind nscd and systemd-resolved's own socket).
        let unix = Rule::new(vec![word(0, Op::Eq, integer(libc::AF_UNIX))?])?;
        let no_unix = Rules::from([(libc::SYS_socket, vec![unix])]);
        let not_supported = SeccompAction::Errno(libc::EAFNOSUPPORT.cast_unsigned());
        programs.push(compile(no_unix, SeccompAction::Allow, not_supported)?);
    }
    // The arguments of clone3 lie in memory, where no filter sees them. Told that it does not exist, libc takes clone.
    let no_clone3 = Rules::from([(libc::SYS_clone3, vec![])]);
    let not_there = SeccompAction::Errno(libc::ENOSYS.cast_unsigned());
    programs.extend([
        compile(no_clone3, SeccompAction::Allow, not_there)?,
        compile(forbidden_to_roles(gate)?, SeccompAction::Allow, SeccompAction::KillProcess)?,
        no_foreign_numbers(),
    ]);
    Ok(programs)
}

fn forbidden_to_roles(gate: bool) -> Result<Rules, BackendError> {
    let mut rules: Rules = FORBIDDEN_TO_ALL.iter().map(|call| (*call, vec![])).collect();
    #[cfg(target_arch = "x86_64")]
    rules.extend([libc::SYS_iopl, libc::SYS_ioperm, libc::SYS_modify_ldt, libc::SYS_uselib].map(|call| (call, vec![])));

    let mut clones = Vec::new();
    if !gate {
        // No process; a thread, for name resolution. The gate itself never has one, but its children inherit this.
        clones.push(Rule::new(vec![word(0, Op::MaskedEq(integer(libc::CLONE_THREAD)), 0)?])?);
    }
    for namespace in [
        libc::CLONE_NEWNS,
        libc::CLONE_NEWUSER,
        libc::CLONE_NEWPID,
        libc::CLONE_NEWNET,
        libc::CLONE_NEWIPC,
        libc::CLONE_NEWUTS,
        libc::CLONE_NEWCGROUP,
    ] {
        clones.push(Rule::new(vec![word(0, Op::MaskedEq(integer(namespace)), integer(namespace))?])?);
    }
    rules.insert(libc::SYS_clone, clones);

    let families = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK]; // the last for getaddrinfo
    let foreign: Result<Vec<_>, _> = families.into_iter().map(|family| word(0, Op::Ne, integer(family))).collect();
    // Landlock knows the connections of TCP itself: not those that another protocol makes to TCP ports (MPTCP).
    let protocols = [0, libc::IPPROTO_TCP, libc::IPPROTO_UDP];
    let other: Result<Vec<_>, _> = protocols.into_iter().map(|protocol| word(2, Op::Ne, integer(protocol))).collect();
    let mut sockets = vec![Rule::new(foreign?)?, Rule::new(other?)?];
    // Of no protocol by number, but of SCTP and DCCP by their kind.
    for kind in [libc::SOCK_SEQPACKET, libc::SOCK_DCCP] {
        sockets.push(Rule::new(vec![word(1, Op::MaskedEq(0xf), integer(kind))?])?);
    }
    rules.insert(libc::SYS_socket, sockets);

    // Nor those that begin by sending, for which nobody calls connect. (A session's sockets are connected: to them the kernel
    // says EISCONN.)
    let fast_open = integer(libc::MSG_FASTOPEN);
    for (call, flags) in [(libc::SYS_sendto, 3), (libc::SYS_sendmsg, 2), (libc::SYS_sendmmsg, 3)] {
        rules.insert(call, vec![Rule::new(vec![word(flags, Op::MaskedEq(fast_open), fast_open)?])?]);
    }

    // A descriptor whose events signal its owner, with any signal: kill by another name (fcntl(2), "Managing signals").
    for (call, commands) in [(libc::SYS_fcntl, OWNER_BY_FCNTL), (libc::SYS_ioctl, OWNER_BY_IOCTL)] {
        let rule = |command: &u64| Rule::new(vec![word(1, Op::Eq, *command)?]);
        rules.insert(call, commands.iter().map(rule).collect::<Result<_, _>>()?);
    }

    if !gate {
        rules.extend(FORBIDDEN_TO_RUNTIMES.iter().map(|call| (*call, vec![])));
        #[cfg(target_arch = "x86_64")]
        rules.extend([libc::SYS_fork, libc::SYS_vfork].map(|call| (call, vec![])));
        // A pair of sockets by path, of which each may be connected anew, to any path; not one of streams, which a runtime makes.
        let may_be_connected = [libc::SOCK_DGRAM, libc::SOCK_RAW, libc::SOCK_SEQPACKET];
        let pair = |kind: i32| Rule::new(vec![word(1, Op::MaskedEq(0xf), integer(kind))?]);
        rules.insert(libc::SYS_socketpair, may_be_connected.into_iter().map(pair).collect::<Result<_, _>>()?);
        // What would stay with a socket that is shared with the gate, when the role is gone.
        let stays = |option: &i32| {
            Rule::new(vec![word(1, Op::Eq, integer(libc::SOL_SOCKET))?, word(2, Op::Eq, integer(*option))?])
        };
        rules.insert(libc::SYS_setsockopt, STAYS_WITH_A_SOCKET.iter().map(stays).collect::<Result<_, _>>()?);
        rules.insert(libc::SYS_tgkill, vec![Rule::new(vec![word(0, Op::Ne, u64::from(PID_TO_COME))?])?]);
    }
    Ok(rules)
}

/// Filters of what comes, and devices that it must come by. (Those of a group of ports need SO_REUSEPORT, which no port of
/// ours has.)
const STAYS_WITH_A_SOCKET: &[i32] =
    &[libc::SO_ATTACH_FILTER, libc::SO_LOCK_FILTER, libc::SO_ATTACH_BPF, libc::SO_BINDTODEVICE, libc::SO_BINDTOIFINDEX];

/// F_SETOWN, F_SETSIG, F_SETOWN_EX.
const OWNER_BY_FCNTL: &[u64] = &[8, 10, 15];

/// FIOSETOWN, SIOCSPGRP.
const OWNER_BY_IOCTL: &[u64] = &[0x8901, 0x8902];

/// Other processes' memory, the system as a whole, and large parts of the kernel that nothing here uses.
const FORBIDDEN_TO_ALL: &[i64] = &[
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_kcmp,
    libc::SYS_pidfd_getfd,
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
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_open_by_handle_at,
    libc::SYS_name_to_handle_at,
    libc::SYS_fanotify_init,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_personality,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_reboot,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_adjtimex,
    libc::SYS_clock_adjtime,
    libc::SYS_syslog,
    libc::SYS_vhangup,
    libc::SYS_mbind,
    libc::SYS_set_mempolicy,
    libc::SYS_migrate_pages,
    libc::SYS_move_pages,
];

/// Other programs, other processes, another user.
const FORBIDDEN_TO_RUNTIMES: &[i64] = &[
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_kill,
    libc::SYS_tkill,
    libc::SYS_rt_sigqueueinfo,
    libc::SYS_rt_tgsigqueueinfo,
    libc::SYS_pidfd_open,
    libc::SYS_pidfd_send_signal,
    libc::SYS_setuid,
    libc::SYS_setgid,
    libc::SYS_setreuid,
    libc::SYS_setregid,
    libc::SYS_setresuid,
    libc::SYS_setresgid,
    libc::SYS_setgroups,
    libc::SYS_setfsuid,
    libc::SYS_setfsgid,
    libc::SYS_capset,
];

/// Kills on every number from 2^30 on: the x32 calls of x86-64, by which a list of forbidden numbers could be passed.
fn no_foreign_numbers() -> BpfProgram {
    const LOAD_WORD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
    const JUMP_IF_AT_LEAST: u16 = 0x35; // BPF_JMP | BPF_JGE | BPF_K
    const RETURN: u16 = 0x06; // BPF_RET | BPF_K
    let instruction = |code, jt, jf, k| sock_filter { code, jt, jf, k };
    vec![
        instruction(LOAD_WORD, 0, 0, 0), // the number stands at octet 0 of struct seccomp_data
        instruction(JUMP_IF_AT_LEAST, 0, 1, 1 << 30),
        instruction(RETURN, 0, 0, libc::SECCOMP_RET_KILL_PROCESS),
        instruction(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW),
    ]
}

/// What this kernel's filters cannot do, of what is used here.
pub(super) fn lacks() -> Option<&'static str> {
    let action = libc::SECCOMP_RET_KILL_PROCESS;
    // SAFETY: the call reads one 32-bit word, which lives.
    let answer = checked(unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_GET_ACTION_AVAIL, 0, std::ptr::from_ref(&action))
    });
    answer.err().map(|_| "no system call filter that kills (seccomp, Linux 4.14), without which no session starts")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filters_of_roles_compile_and_stay_small() {
        for gate in [true, false] {
            for program in role_programs(gate).unwrap() {
                assert!(program.len() < 600, "{} instructions", program.len());
                assert!(places_for(PID_TO_COME, &program) <= usize::from(!gate));
            }
        }
    }
}
