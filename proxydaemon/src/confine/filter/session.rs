//! What a session may ask of the kernel.

use std::os::fd::BorrowedFd;

use nix::libc;
use seccompiler::BpfProgram;

use super::tree::{Permissions, Permitted, Word, compile};
use super::{FilterError, LOG_TO_COME, PID_TO_COME, install, places_for};

/// The filter of a session, compiled once by the gate, installed by each session for itself.
///
/// | Calls | For |
/// | --- | --- |
/// | poll, read, pread, write, recv, send and their kind; close, fcntl on flags, ioctl FIONBIO, getsockopt, TCP_NODELAY | the descriptors it has |
/// | shutdown | those of them that are not the log |
/// | mmap and mprotect without PROT_EXEC, anonymous; munmap, mremap, madvise, brk | memory |
/// | timer_create, timer_settime, timer_delete | the end of a log level that was lent |
/// | futex, getrandom, clock_gettime, getpid, gettid, rt_sig*, sigaltstack, restart_syscall, tgkill of itself, exit_group | the runtime of the language |
#[derive(Debug)]
pub(in super::super) struct SessionFilter(BpfProgram);

impl SessionFilter {
    /// Compiles it.
    ///
    /// # Errors
    /// Not with the calls below, which the tests see to.
    pub(in super::super) fn compile() -> Result<Self, FilterError> {
        let program = compile(&permissions())?;
        if [PID_TO_COME, LOG_TO_COME].iter().any(|number| places_for(*number, &program) != 1) {
            return Err(FilterError::NoPlace);
        }
        Ok(Self(program))
    }

    /// Installs it in this process, whose log is at this descriptor, for good.
    pub(in super::super) fn install(&self, log: BorrowedFd<'_>) -> Result<(), FilterError> {
        install(self.0.clone(), Some(log))
    }
}

fn permissions() -> Permissions {
    let mut permissions = Permissions::new();
    let mut permit = |call: i64, permitted| {
        if let Ok(number) = u32::try_from(call) {
            permissions.insert(number, permitted);
        }
    };
    for call in ALWAYS {
        permit(*call, Permitted::Always);
    }
    #[cfg(target_arch = "x86_64")]
    permit(libc::SYS_poll, Permitted::Always);

    let flags = [libc::F_GETFL, libc::F_SETFL, libc::F_GETFD, libc::F_SETFD].map(i32::cast_unsigned);
    permit(libc::SYS_fcntl, Permitted::When(vec![vec![Word::low(1, flags.to_vec())]]));
    permit(libc::SYS_ioctl, Permitted::When(vec![vec![Word::low(1, vec![libc::FIONBIO as u32])]]));
    // No buffers, no filters, no upper layer protocols, no device.
    let (level, option) = (libc::IPPROTO_TCP.cast_unsigned(), libc::TCP_NODELAY.cast_unsigned());
    permit(libc::SYS_setsockopt, Permitted::When(vec![vec![Word::low(1, vec![level]), Word::low(2, vec![option])]]));
    // Without an address: an inherited socket speaks to the peer it is connected to, and to nobody else.
    permit(libc::SYS_sendto, Permitted::When(vec![vec![Word::low(4, vec![0]), Word::high(4, vec![0])]]));

    let not_executable = Word::low(2, vec![0]).masked(libc::PROT_EXEC.cast_unsigned());
    let anonymous = libc::MAP_ANONYMOUS.cast_unsigned();
    let anonymous = Word::low(3, vec![anonymous]).masked(anonymous);
    permit(libc::SYS_mprotect, Permitted::When(vec![vec![not_executable.clone()]]));
    permit(libc::SYS_mmap, Permitted::When(vec![vec![not_executable, anonymous]]));

    // All children of a gate, and the gate, hold the socket of the log: who shut it down would end it for all of them. A
    // session has no call that gives the socket another number.
    permit(libc::SYS_shutdown, Permitted::Unless(Word::low(0, vec![LOG_TO_COME])));

    // abort() sends the signal this way.
    permit(libc::SYS_tgkill, Permitted::When(vec![vec![Word::low(0, vec![PID_TO_COME])]]));
    permissions
}

const ALWAYS: &[i64] = &[
    libc::SYS_ppoll,
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_pread64,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_sendmsg,
    libc::SYS_close,
    libc::SYS_getsockopt,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    libc::SYS_getrandom,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_brk,
    libc::SYS_futex,
    libc::SYS_clock_gettime,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_restart_syscall,
    libc::SYS_timer_create,
    libc::SYS_timer_settime,
    libc::SYS_timer_delete,
];

#[cfg(test)]
mod tests {
    use super::super::tree::tests::{Call, follow, permits};
    use super::super::tree::{Permitted, THIS_ARCHITECTURE};
    use super::super::{FORBIDDEN_TO_ALL, FORBIDDEN_TO_RUNTIMES};
    use super::*;

    fn number(call: i64) -> u32 {
        u32::try_from(call).unwrap()
    }

    #[test]
    fn every_number_gets_the_answer_of_the_table_without_arguments() {
        let SessionFilter(program) = SessionFilter::compile().unwrap();
        let mut always: Vec<u32> = ALWAYS.iter().copied().map(number).collect();
        #[cfg(target_arch = "x86_64")]
        always.push(number(libc::SYS_poll));
        let by_argument = [
            libc::SYS_fcntl,
            libc::SYS_ioctl,
            libc::SYS_setsockopt,
            libc::SYS_sendto,
            libc::SYS_mprotect,
            libc::SYS_mmap,
            libc::SYS_shutdown,
            libc::SYS_tgkill,
        ]
        .map(number);
        let x32 = 1 << 30;
        for call in (0..1024).chain(x32..x32 + 1024).chain([u32::MAX - 1, u32::MAX, 1 << 31]) {
            if by_argument.contains(&call) {
                continue;
            }
            for arguments in [[0; 6], [u64::MAX; 6], [1; 6]] {
                assert_eq!(permits(&program, call, arguments), always.contains(&call), "call {call}");
            }
        }
        let permissions = permissions();
        assert_eq!(permissions.len(), always.len() + by_argument.len());
        assert!(by_argument.iter().all(|call| !matches!(permissions.get(call), None | Some(Permitted::Always))));
    }

    #[test]
    fn arguments_decide_where_the_table_says_so() {
        let SessionFilter(program) = SessionFilter::compile().unwrap();
        let asks = |call: i64, arguments: [i64; 6]| permits(&program, number(call), arguments.map(i64::cast_unsigned));

        for command in (0..1100).chain([i64::from(u32::MAX)]) {
            let flags = [libc::F_GETFL, libc::F_SETFL, libc::F_GETFD, libc::F_SETFD].map(i64::from);
            assert_eq!(asks(libc::SYS_fcntl, [7, command, 0, 0, 0, 0]), flags.contains(&command), "fcntl {command}");
        }
        for request in (0x5400..0x5500).chain([0, 0x8901, 0x8912]) {
            let expected = request == 0x5421; // FIONBIO
            assert_eq!(asks(libc::SYS_ioctl, [7, request, 0, 0, 0, 0]), expected, "ioctl {request:#x}");
        }
        for level in 0..300 {
            for option in 0..130 {
                let expected = level == 6 && option == 1; // TCP_NODELAY
                let seen = asks(libc::SYS_setsockopt, [7, level, option, 0, 0, 0]);
                assert_eq!(seen, expected, "level {level} option {option}");
            }
        }
        assert!(asks(libc::SYS_sendto, [7, -1, -1, -1, 0, -1]));
        for address in [1, 1 << 32, 1 << 63, -1] {
            assert!(!asks(libc::SYS_sendto, [7, 0, 0, 0, address, 16]), "{address:#x}");
        }
        for protection in 0..16 {
            let executable = protection & 4 != 0;
            assert_eq!(asks(libc::SYS_mprotect, [0, 4096, protection, 0, 0, 0]), !executable);
            for flags in 0..64 {
                let anonymous = flags & 0x20 != 0;
                let expected = anonymous && !executable;
                assert_eq!(asks(libc::SYS_mmap, [0, 4096, protection, flags, -1, 0]), expected);
            }
        }
        let log = i64::from(LOG_TO_COME); // what installing puts the number of the log's descriptor for
        for how in 0..3 {
            assert!(!asks(libc::SYS_shutdown, [log, how, 0, 0, 0, 0]), "{how}");
            assert!(!asks(libc::SYS_shutdown, [log | 1 << 32, how, 0, 0, 0, 0]), "{how}");
            assert!(asks(libc::SYS_shutdown, [7, how, log, log, log, log]), "{how}");
        }
        let own = i64::from(PID_TO_COME); // what installing puts the PID for
        assert!(asks(libc::SYS_tgkill, [own, 1, 6, 0, 0, 0]));
        assert!(!asks(libc::SYS_tgkill, [own + 1, own, 6, 0, 0, 0]) && !asks(libc::SYS_tgkill, [0, own, 6, 0, 0, 0]));
    }

    #[test]
    fn the_filter_is_small_and_no_number_takes_long() {
        let SessionFilter(program) = SessionFilter::compile().unwrap();
        assert!(program.len() < 90, "{} instructions", program.len());
        let longest = (0..1024).map(|number| {
            follow(&program, &Call { architecture: THIS_ARCHITECTURE, number, arguments: [u64::MAX; 6] }).1
        });
        assert!(longest.clone().max().unwrap() < 30, "{:?}", longest.max());
    }

    #[test]
    fn a_session_has_no_call_that_makes_or_reaches_anything_new() {
        let permissions = permissions();
        for call in [
            libc::SYS_socket,
            libc::SYS_socketpair,
            libc::SYS_connect,
            libc::SYS_bind,
            libc::SYS_accept4,
            libc::SYS_openat,
            libc::SYS_execve,
            libc::SYS_clone,
            libc::SYS_clone3,
            libc::SYS_kill,
            libc::SYS_ptrace,
            libc::SYS_prctl,
            libc::SYS_dup,
            libc::SYS_memfd_create,
        ] {
            assert!(!permissions.contains_key(&number(call)), "call {call}");
        }
        let forbidden = FORBIDDEN_TO_ALL.iter().chain(FORBIDDEN_TO_RUNTIMES);
        assert!(forbidden.copied().all(|call| !permissions.contains_key(&number(call))));
    }
}
