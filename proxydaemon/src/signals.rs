//! Signals: blocked first of all, then read from a descriptor, with who sent them.
//!
//! | Signal | Meaning |
//! | --- | --- |
//! | 20, 21, 22, 23, 24 | log level TRACE, DEBUG, INFO, ERROR, FATAL, to any single process |
//! | a real-time signal | any log level, for good or for a time: [`order_level`] |
//! | 20 from the terminal (Ctrl-Z) | suspend, in the foreground |
//! | TERM, INT, HUP | drain, drain, end at once: acted on by the gate alone |
//! | CHLD | [`crate::gate::Reaper`]; not ignored, whatever the starter did |
//! | a real-time signal | end this session, with a reason: [`order_end`] |
//! | PIPE | ignored: a write to a closed connection is an error |

use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::libc;
use nix::unistd::Pid;

use crate::checked;
use crate::logging::{LevelOrder, Threshold};

mod timer;

pub(crate) use timer::LevelTimer;

/// The order to one session to end. Real-time, as only those carry a value; the first two are glibc's own.
fn end_signal() -> i32 {
    libc::SIGRTMIN() + 3
}

/// The order to one process to log at another level.
fn level_signal() -> i32 {
    libc::SIGRTMIN() + 4
}

/// Proof that the signals of this process are blocked, and which ones they are. Inherited by children and kept across exec.
#[derive(Clone, Copy, Debug)]
pub struct Signals(libc::sigset_t);

impl Signals {
    /// Blocks every signal that means something to us, ignores PIPE, and does not ignore CHLD. The first thing `main` does: unblocked, signal 24
    /// would kill the process and 20 stop it.
    ///
    /// # Errors
    /// Not with a kernel that works.
    pub fn block() -> io::Result<Self> {
        // A peer that has gone, and a bound for files (RLIMIT_FSIZE) that is reached, are errors of the call that met them.
        // A starter may ignore the end of its children, which outlives an exec: nobody would be told of those of ours.
        let dispositions =
            [(libc::SIGPIPE, libc::SIG_IGN), (libc::SIGXFSZ, libc::SIG_IGN), (libc::SIGCHLD, libc::SIG_DFL)];
        for (signal, disposition) in dispositions {
            // SAFETY: neither disposition is a handler.
            if unsafe { libc::signal(signal, disposition) } == libc::SIG_ERR {
                return Err(io::Error::last_os_error());
            }
        }
        let set = handled();
        mask(libc::SIG_BLOCK, &set)?;
        Ok(Self(set))
    }

    /// A descriptor to read the blocked signals from. To be made in each process anew: one that was made before a fork
    /// does not wake the child's event loop.
    ///
    /// # Errors
    /// Out of descriptors.
    pub fn descriptor(self) -> io::Result<SignalFd> {
        // SAFETY: it is a live, initialised set.
        let number = unsafe { libc::signalfd(-1, &raw const self.0, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
        checked(i64::from(number))?;
        // SAFETY: the kernel has just opened this descriptor for us, nobody else owns it.
        Ok(SignalFd(unsafe { OwnedFd::from_raw_fd(number) }))
    }

    /// Lets the signals through, for a process whose runtime has registered handlers for **all** of them (and not before:
    /// a blocked signal waits, an unhandled one kills). A process that reads a [`SignalFd`] never calls this.
    ///
    /// # Errors
    /// Not with a kernel that works.
    pub fn unblock_after_registration(self) -> io::Result<()> {
        mask(libc::SIG_UNBLOCK, &self.0)
    }
}

fn mask(how: i32, set: &libc::sigset_t) -> io::Result<()> {
    // SAFETY: `set` is a live, initialised set; the old mask is not asked for.
    match unsafe { libc::pthread_sigmask(how, set, std::ptr::null_mut()) } {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

fn handled() -> libc::sigset_t {
    let mut numbers = vec![libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGCHLD, end_signal(), level_signal()];
    numbers.extend(20..=24);
    // SAFETY: `sigemptyset` initialises the set before anything reads it, and all numbers are valid signals.
    unsafe {
        let mut set: libc::sigset_t = mem::zeroed();
        libc::sigemptyset(&raw mut set);
        for number in numbers {
            libc::sigaddset(&raw mut set, number);
        }
        set
    }
}

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// 20 to 24 sent by a process, [`order_level`], or the end of a lent level: see [`crate::logging::change_level`].
    Level(LevelOrder),
    /// 20, sent by the terminal (Ctrl-Z): see [`suspend`].
    Suspend,
    /// TERM.
    Terminate,
    /// INT, from a terminal as Ctrl-C.
    Interrupt,
    /// HUP.
    Hangup,
    /// At least one child has ended; the sender is one of them.
    Child,
    /// The gate tells this session to end, with the reason given to [`order_end`]; 0 when it got lost.
    End {
        /// The reason, a number that the daemon gives a meaning to.
        reason: u16,
    },
}

/// A signal and its sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrived {
    /// What it asks for.
    pub signal: Signal,
    /// The process that sent it; `None` when the kernel did, for a terminal or otherwise.
    pub sender: Option<Pid>,
    /// Whether the kernel sent it, which for these signals means: a terminal.
    pub from_terminal: bool,
}

/// The signals of this process, read one by one. Never waits: `poll` it for reading, or hand it to an event loop.
#[derive(Debug)]
pub struct SignalFd(OwnedFd);

impl SignalFd {
    /// The next signal that has arrived; `None` when there is none.
    ///
    /// # Errors
    /// Not with a kernel that works.
    pub fn next(&self) -> io::Result<Option<Arrived>> {
        loop {
            // SAFETY: all-zero octets are a valid signalfd_siginfo, which holds integers only.
            let mut info: libc::signalfd_siginfo = unsafe { mem::zeroed() };
            let size = mem::size_of_val(&info);
            // SAFETY: `info` is writable for `size` octets.
            let read = unsafe { libc::read(self.0.as_raw_fd(), (&raw mut info).cast(), size) };
            match checked(read as i64) {
                Ok(read) if read as usize == size => {}
                Ok(_) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            }
            if let Some(arrived) = decode(info.ssi_signo, info.ssi_code, info.ssi_pid, info.ssi_int) {
                return Ok(Some(arrived));
            }
        }
    }
}

/// `code` as in sigaction(2): SI_KERNEL for the terminal, SI_USER for kill, SI_QUEUE for sigqueue.
fn decode(number: u32, code: i32, pid: u32, value: i32) -> Option<Arrived> {
    let number = i32::try_from(number).ok()?;
    let from_terminal = code == libc::SI_KERNEL;
    let signal = match number {
        libc::SIGTERM => Signal::Terminate,
        libc::SIGINT => Signal::Interrupt,
        libc::SIGHUP => Signal::Hangup,
        libc::SIGCHLD => Signal::Child,
        libc::SIGTSTP if from_terminal => Signal::Suspend,
        // The kernel also sends 21 to 24 for reasons of its own (terminal, urgent data, CPU limit); those are no orders.
        20..=24 if from_terminal => return None,
        20..=24 => Signal::Level(LevelOrder::Set(Threshold::from_signal(number)?)),
        _ if number == level_signal() => Signal::Level(match code {
            libc::SI_TIMER => LevelOrder::Return,
            libc::SI_QUEUE => LevelOrder::from_number(value)?,
            _ => return None,
        }),
        _ if number == end_signal() => {
            let carried = if code == libc::SI_QUEUE { u16::try_from(value).unwrap_or(0) } else { 0 };
            Signal::End { reason: carried }
        }
        _ => return None,
    };
    // A timer has no sender.
    let nobody = from_terminal || code == libc::SI_TIMER;
    let sender = i32::try_from(pid).ok().filter(|pid| *pid > 0 && !nobody).map(Pid::from_raw);
    Some(Arrived { signal, sender, from_terminal })
}

impl AsFd for SignalFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for SignalFd {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// Tells one session process to end, with a reason for it to read as [`Signal::End`].
///
/// When the kernel has no room to queue the reason, the order arrives without it (reason 0).
///
/// # Errors
/// ESRCH when the process is gone.
pub fn order_end(session: Pid, reason: u16) -> io::Result<()> {
    match queue(session, end_signal(), i32::from(reason)) {
        Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => {
            // SAFETY: passes a PID and a valid signal.
            checked(i64::from(unsafe { libc::kill(session.as_raw(), end_signal()) })).map(drop)
        }
        sent => sent,
    }
}

/// Tells one process of ours to log at another level, which it reads as [`Signal::Level`]. One that is not ours would be
/// killed by the signal: see [`takes_level_orders`].
///
/// # Errors
/// ESRCH when the process is gone, EPERM when it is another user's, EAGAIN when the kernel has no room to queue the order.
pub fn order_level(process: Pid, order: LevelOrder) -> io::Result<()> {
    queue(process, level_signal(), order.to_number())
}

/// Whether a process has the signal of [`order_level`] blocked, as all of ours have from their first moment on.
///
/// # Errors
/// There is no such process, or `/proc` hides it.
pub fn takes_level_orders(process: Pid) -> io::Result<bool> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let blocked = status.lines().find_map(|line| line.strip_prefix("SigBlk:"));
    let blocked = blocked.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    Ok(blocked >> (level_signal() - 1) & 1 == 1)
}

fn queue(process: Pid, signal: i32, number: i32) -> io::Result<()> {
    // `sival_ptr` overlays `sival_int`, whose octets are the first ones on a little-endian machine; writing the integer
    // through a pointer to the whole union fits both.
    let mut value = libc::sigval { sival_ptr: std::ptr::null_mut() };
    // SAFETY: the union is as large as a pointer and aligned for an integer, which is its first member.
    unsafe { (&raw mut value).cast::<i32>().write(number) };
    // SAFETY: passes a PID, a valid signal and a plain value.
    checked(i64::from(unsafe { libc::sigqueue(process.as_raw(), signal, value) })).map(drop)
}

/// Sends TERM to a child: to a role at the end of the gate's work.
///
/// # Errors
/// ESRCH when the process is gone.
pub fn order_terminate(child: Pid) -> io::Result<()> {
    Ok(nix::sys::signal::kill(child, nix::sys::signal::Signal::SIGTERM)?)
}

/// Stops this process until it is continued, as a shell user expects of Ctrl-Z. Its children go on.
///
/// By the very signal of the terminal, so that the shell shows it as stopped from there. As for any program, that does
/// nothing where no shell could continue it (an orphaned process group).
///
/// # Errors
/// Not with a kernel that works.
pub fn suspend() -> io::Result<()> {
    use nix::sys::signal::{SigSet, Signal, raise};
    let stop = SigSet::from(Signal::SIGTSTP);
    raise(Signal::SIGTSTP)?; // waits, as it is blocked
    stop.thread_unblock()?; // stops here; goes on when continued
    Ok(stop.thread_block()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_told_from_the_terminal() {
        let from_kill = decode(20, libc::SI_USER, 77, 0).unwrap();
        assert_eq!(from_kill.signal, Signal::Level(LevelOrder::Set(Threshold::Trace)));
        assert_eq!((from_kill.sender, from_kill.from_terminal), (Some(Pid::from_raw(77)), false));
        let from_terminal = decode(20, 128, 0, 0).unwrap();
        assert_eq!((from_terminal.signal, from_terminal.sender), (Signal::Suspend, None));
        assert!(from_terminal.from_terminal);
        for number in 21..=24 {
            assert_eq!(decode(number, 128, 0, 0), None);
        }
    }

    #[test]
    fn each_number_means_its_level() {
        let levels = [
            (20, Threshold::Trace),
            (21, Threshold::Debug),
            (22, Threshold::Info),
            (23, Threshold::Error),
            (24, Threshold::Fatal),
        ];
        for (number, level) in levels {
            assert_eq!(decode(number, 0, 1, 0).unwrap().signal, Signal::Level(LevelOrder::Set(level)));
        }
    }

    #[test]
    fn a_queued_level_has_its_time_and_a_timer_no_sender() {
        let number = u32::try_from(level_signal()).unwrap();
        let order = LevelOrder::Lend(Threshold::Warn, std::time::Duration::from_secs(90));
        assert_eq!(decode(number, libc::SI_QUEUE, 7, order.to_number()).unwrap().signal, Signal::Level(order));
        let over = decode(number, libc::SI_TIMER, 7, 0).unwrap();
        assert_eq!((over.signal, over.sender), (Signal::Level(LevelOrder::Return), None));
        assert_eq!(decode(number, libc::SI_USER, 7, order.to_number()), None);
        assert_eq!(decode(number, libc::SI_QUEUE, 7, -1), None);
    }

    #[test]
    fn an_interrupt_from_the_keyboard_has_no_sender() {
        let interrupt = decode(2, 128, 0, 0).unwrap();
        assert_eq!((interrupt.signal, interrupt.sender, interrupt.from_terminal), (Signal::Interrupt, None, true));
    }

    #[test]
    fn a_reason_comes_only_with_a_queued_order() {
        let number = u32::try_from(end_signal()).unwrap();
        assert_eq!(decode(number, libc::SI_QUEUE, 1, 5).unwrap().signal, Signal::End { reason: 5 });
        assert_eq!(decode(number, libc::SI_USER, 1, 5).unwrap().signal, Signal::End { reason: 0 });
        assert_eq!(decode(number, libc::SI_QUEUE, 1, -5).unwrap().signal, Signal::End { reason: 0 });
        assert_eq!(decode(10, 0, 1, 0), None);
    }
}
