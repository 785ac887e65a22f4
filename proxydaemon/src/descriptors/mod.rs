//! File descriptors: what is inherited, handed over, sealed, listened on, or closed.

mod aside;
mod channel;
mod directory;
mod sealed;
mod tcp;

use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

pub use aside::{Aside, Place};
pub use channel::{Channel, MAX_DESCRIPTORS, Received};
pub(crate) use channel::{has_no_room, is_gone, receive};
pub use directory::Directory;
pub(crate) use directory::read_bounded;
pub use sealed::{Mapping, SealedFile};
pub use tcp::{Accepted, Listener, can_call_from, connect, connect_unless};

use crate::checked;

/// Closes every descriptor above 2 that is not named in `keep`.
///
/// For a child directly after the fork: objects inherited from the parent that own one of the closed descriptors must not
/// be used or dropped afterwards. (The child leaves by `_exit`, so those that the parent's frames own are not dropped;
/// what the child's own closure captured by value and does not keep has to be forgotten or dropped before.)
///
/// # Errors
/// The kernel lacks `close_range` (before Linux 5.9).
pub fn close_all_but(keep: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut kept: Vec<u32> = keep.iter().filter_map(|fd| u32::try_from(fd.as_raw_fd()).ok()).collect();
    kept.sort_unstable();
    let mut first: u32 = 3;
    for number in kept {
        if number > first {
            close_range(first, number - 1)?;
        }
        first = first.max(number + 1);
    }
    close_range(first, u32::MAX)
}

fn close_range(first: u32, last: u32) -> io::Result<()> {
    // SAFETY: passes integers only. That nobody uses what is closed is what `close_all_but` asks of its caller; a use of a
    // closed descriptor is an error (EBADF), not a violation of memory.
    checked(unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) }).map(drop)
}

/// Points descriptors 0, 1 and 2 at `/dev/null`.
///
/// # Errors
/// `/dev/null` cannot be opened.
pub fn null_on_standard() -> io::Result<()> {
    let null: OwnedFd = OpenOptions::new().read(true).write(true).open("/dev/null")?.into();
    put_on_standard(&null)?;
    if null.as_raw_fd() <= 2 {
        std::mem::forget(null); // it took the place of a standard descriptor that was closed before
    }
    Ok(())
}

/// Points descriptors 0, 1 and 2 at what `null` is.
pub(crate) fn put_on_standard(null: &OwnedFd) -> io::Result<()> {
    for standard in 0..=2 {
        // SAFETY: passes integers only; the standard descriptors belong to the process as a whole.
        checked(i64::from(unsafe { libc::dup2(null.as_raw_fd(), standard) }))?;
    }
    Ok(())
}

/// Waits until `fd` is ready for one of `events`, hung up or broken; `false` when `deadline` came first.
///
/// # Errors
/// As `poll`; an interrupting signal handler only makes it wait again.
pub fn wait_ready(fd: impl AsFd, events: PollFlags, deadline: Option<Instant>) -> io::Result<bool> {
    wait_any(&mut [PollFd::new(fd.as_fd(), events)], deadline)
}

/// As [`wait_ready`], for any of several; what each is ready for stands in it afterwards.
pub(crate) fn wait_any(awaited: &mut [PollFd<'_>], deadline: Option<Instant>) -> io::Result<bool> {
    loop {
        let timeout = match deadline {
            None => PollTimeout::NONE,
            Some(deadline) => {
                // Rounded up: a deadline half a millisecond away must not become a busy loop.
                let left = deadline.saturating_duration_since(Instant::now()) + Duration::from_micros(999);
                PollTimeout::try_from(left.as_millis()).unwrap_or(PollTimeout::MAX)
            }
        };
        match poll(awaited, timeout) {
            Ok(0) if deadline.is_some_and(|deadline| deadline <= Instant::now()) => return Ok(false),
            Ok(0) | Err(nix::errno::Errno::EINTR) => {}
            Ok(_) => return Ok(true),
            Err(error) => return Err(error.into()),
        }
    }
}
