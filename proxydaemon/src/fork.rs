//! Forking a process with one thread into roles and sessions, and learning how they ended.
//!
//! A child never returns from here and leaves by `_exit`, so that no destructor of an object that belongs to the parent
//! runs in it.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, OnceLock, PoisonError};

use nix::libc;
use nix::unistd::{Pid, setpgid};

use crate::exit::ExitCode;
use crate::{logging, title};

/// Why no child was made.
#[derive(Debug, thiserror::Error)]
pub enum ForkError {
    /// Another thread may hold a lock that would stay locked in the child for ever.
    #[error("refused to fork: this process has {0} threads, and a fork is safe from a single one only")]
    Threads(u64),
    /// The kernel refused; at a limit of processes or memory this is EAGAIN or ENOMEM.
    #[error("cannot fork: {0}")]
    Refused(#[source] io::Error),
    /// `/proc` is not mounted, so the threads cannot be counted.
    #[error("cannot count the threads of this process in /proc/self/task: {0}")]
    Uncounted(#[source] io::Error),
}

/// Forks a child that runs `role` and ends with its exit code, and returns the child's PID.
///
/// The child gets a process group of its own (a terminal's signals reach the gate alone), the title `name` and the
/// signal mask of the parent. It ends by `_exit` in every case; after a panic with [`ExitCode::Panic`]. What `role` took by
/// value is dropped in the parent on return, so a descriptor moved into it stays open in the child alone.
///
/// # Errors
/// The calling process has more than one thread, or the kernel refuses a process.
pub fn fork_role<R>(name: &str, role: R) -> Result<Pid, ForkError>
where
    R: FnOnce() -> ExitCode,
{
    let threads = threads().map_err(ForkError::Uncounted)?;
    if threads != 1 {
        return Err(ForkError::Threads(threads));
    }
    // SAFETY: the process has one thread (counted above; only this thread could have started another), so no lock can be
    // held by a thread that the child lacks, and the child may use everything, allocation included. Nothing that is linked here
    // registers handlers for a fork, which would not be called; what a name service module registers, with which a gate has looked up
    // its user, is for looking up more of them, which no child does.
    match unsafe { way_to_fork()() } {
        -1 => Err(ForkError::Refused(io::Error::last_os_error())),
        0 => {
            let _ = setpgid(Pid::from_raw(0), Pid::from_raw(0));
            logging::leave_to_parent();
            title::set_title(name);
            let code = catch_unwind(AssertUnwindSafe(role)).unwrap_or(ExitCode::Panic);
            logging::tell_lost();
            leave(code)
        }
        child => {
            let child = Pid::from_raw(child);
            // Both sides set it, so that it holds for whoever goes on first. It fails when the child is gone already.
            let _ = setpgid(child, child);
            Ok(child)
        }
    }
}

type Fork = unsafe extern "C" fn() -> libc::pid_t;

/// `_Fork` of POSIX.1-2024, which is `fork` without handlers (`pthread_atfork`): for a process with a single thread the C library has
/// nothing else to do there, and the pages that it would change stay shared. One without it, as glibc before 2.34, forks as ever.
fn way_to_fork() -> Fork {
    static WAY: OnceLock<Fork> = OnceLock::new();
    *WAY.get_or_init(|| {
        // SAFETY: looks for a name among those of the program and its libraries.
        let found = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"_Fork".as_ptr()) };
        if found.is_null() {
            return libc::fork;
        }
        // SAFETY: the name is reserved for the C library, whose <unistd.h> declares it as `pid_t _Fork(void)`.
        unsafe { std::mem::transmute::<*mut libc::c_void, Fork>(found) }
    })
}

/// Ends this process at once: no destructor, no `atexit` function, no buffer flushed.
pub fn leave(code: ExitCode) -> ! {
    // SAFETY: `_exit` may be called at any time and does not return.
    unsafe { libc::_exit(code.number()) }
}

/// How many threads this process has.
///
/// # Errors
/// `/proc` is not mounted.
pub fn threads() -> io::Result<u64> {
    /// Where the kernel counts them, of the process that opened it: finding it by its name each time costs more than asking.
    static TASKS: Mutex<Option<(Pid, File)>> = Mutex::new(None);
    const PATH: &str = "/proc/self/task";
    let mut tasks = TASKS.lock().unwrap_or_else(PoisonError::into_inner);
    if tasks.as_ref().is_none_or(|(opened_by, _)| *opened_by != Pid::this()) {
        // What a parent had open is not closed here: most children close what they inherit (before they count), and the number may
        // be another's by now.
        std::mem::forget(tasks.take());
        // A process without descriptors to spare asks by the name.
        *tasks = File::open(PATH).ok().map(|directory| (Pid::this(), directory));
    }
    let metadata = tasks.as_ref().map_or_else(|| std::fs::metadata(PATH), |(_, directory)| directory.metadata())?;
    // The kernel reports two links more than threads.
    Ok(metadata.nlink().saturating_sub(2))
}

/// How a child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It left with this code, see [`ExitCode::from_number`].
    Exited(i32),
    /// A signal with this number ended it.
    Killed(i32),
}

impl Ending {
    /// Whether something killed it that it could not hear.
    pub fn is_killed(self) -> bool {
        self == Self::Killed(libc::SIGKILL)
    }

    /// Whether it died as a process does that was attacked or is broken: by SEGV, BUS, ILL, ABRT, FPE or SYS, or by a panic,
    /// which is our own way to abort.
    pub fn is_crash(self) -> bool {
        const CRASHES: [i32; 6] =
            [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGABRT, libc::SIGFPE, libc::SIGSYS];
        match self {
            Self::Killed(signal) => CRASHES.contains(&signal),
            Self::Exited(code) => code == ExitCode::Panic.number(),
        }
    }
}

impl std::fmt::Display for Ending {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match *self {
            Self::Exited(number) => match ExitCode::from_number(number) {
                Some(code) => write!(f, "ended with {code}"),
                None => write!(f, "ended with code {number}"),
            },
            Self::Killed(number) => match nix::sys::signal::Signal::try_from(number) {
                Ok(signal) => write!(f, "was killed by signal {number} ({signal})"),
                Err(_) => write!(f, "was killed by signal {number}"),
            },
        }
    }
}

/// All children that have ended and were not told of yet; never waits.
///
/// The kernel looks through all children for each that has ended, and once more to find none: who has many asks a
/// [`Reaper`](crate::gate::Reaper) instead.
pub fn reap() -> impl Iterator<Item = (Pid, Ending)> {
    std::iter::from_fn(|| ended(-1))
}

/// How this child ended, if it has and was not told of yet; never waits. Since Linux 5.13 it costs the same however many children
/// there are.
pub fn reap_one(pid: Pid) -> Option<Ending> {
    // Zero and negative numbers would mean groups of processes.
    ended(Some(pid.as_raw()).filter(|number| *number > 0)?).map(|(_, ending)| ending)
}

/// As waitpid(2) takes it: a PID, or -1 for any child.
fn ended(whose: i32) -> Option<(Pid, Ending)> {
    loop {
        let mut status = 0;
        // Not nix's waitpid: it answers an error for a child killed by a real-time signal, after reaping it.
        // SAFETY: the pointer is to a live integer.
        let pid = unsafe { libc::waitpid(whose, &raw mut status, libc::WNOHANG) };
        if pid <= 0 {
            return None;
        }
        let ending = if libc::WIFEXITED(status) {
            Ending::Exited(libc::WEXITSTATUS(status))
        } else if libc::WIFSIGNALED(status) {
            Ending::Killed(libc::WTERMSIG(status))
        } else {
            continue; // stopped or continued: not an end
        };
        return Some((Pid::from_raw(pid), ending));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_six_signals_of_a_broken_process_are_a_crash() {
        for signal in 1..=64 {
            let expected = [4, 6, 7, 8, 11, 31].contains(&signal); // ILL ABRT BUS FPE SEGV SYS on Linux
            assert_eq!(Ending::Killed(signal).is_crash(), expected, "signal {signal}");
        }
        assert!(!Ending::Exited(11).is_crash());
        assert!(Ending::Exited(ExitCode::Panic.number()).is_crash());
    }

    #[test]
    fn endings_say_what_happened() {
        assert_eq!(Ending::Exited(0).to_string(), "ended with ok (0)");
        assert_eq!(Ending::Exited(99).to_string(), "ended with code 99");
        assert_eq!(Ending::Killed(11).to_string(), "was killed by signal 11 (SIGSEGV)");
        assert_eq!(Ending::Killed(40).to_string(), "was killed by signal 40");
    }

    #[test]
    fn a_test_with_its_harness_thread_is_refused() {
        let counted = std::fs::read_dir("/proc/self/task").unwrap().count() as u64;
        assert!(counted >= 2, "the test harness runs tests in a thread beside the main one");
        assert!(matches!(fork_role("never", || ExitCode::Ok), Err(ForkError::Threads(n)) if n >= 2));
    }
}
