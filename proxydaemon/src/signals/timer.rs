//! A timer of the kernel that sends this process the signal for a log level when its time is over. So nobody has to wait
//! for it, whatever loop the process is in.

use std::io;
use std::mem;
use std::time::Duration;

use nix::libc;

use super::level_signal;
use crate::checked;

/// A running timer of this very process. A child has to forget its parent's (with [`mem::forget`]): timers are not
/// inherited, and its number may be another's there.
#[derive(Debug)]
pub(crate) struct LevelTimer(libc::timer_t);

// SAFETY: the value is a number that the kernel gave this process; any thread may use it.
unsafe impl Send for LevelTimer {}

impl LevelTimer {
    /// Sends the signal once, after `delay`.
    ///
    /// # Errors
    /// The kernel has no room for a timer or its signal.
    pub(crate) fn start(delay: Duration) -> io::Result<Self> {
        // SAFETY: all-zero octets are a valid sigevent: integers, and a value that nobody reads as a pointer.
        let mut event: libc::sigevent = unsafe { mem::zeroed() };
        event.sigev_notify = libc::SIGEV_SIGNAL;
        event.sigev_signo = level_signal();
        let mut timer: libc::timer_t = std::ptr::null_mut();
        // SAFETY: both pointers are to live values of their types.
        checked(i64::from(unsafe { libc::timer_create(libc::CLOCK_MONOTONIC, &raw mut event, &raw mut timer) }))?;
        let timer = Self(timer);
        // SAFETY: all-zero octets are a valid itimerspec, which holds integers only.
        let mut times: libc::itimerspec = unsafe { mem::zeroed() };
        // Of zero length it would never run.
        let delay = delay.max(Duration::from_nanos(1));
        times.it_value.tv_sec = delay.as_secs().try_into().unwrap_or(libc::time_t::MAX);
        times.it_value.tv_nsec = delay.subsec_nanos().into();
        // SAFETY: the timer was made just now, `times` is live, the old times are not asked for.
        checked(i64::from(unsafe { libc::timer_settime(timer.0, 0, &raw const times, std::ptr::null_mut()) }))?;
        Ok(timer)
    }
}

impl Drop for LevelTimer {
    fn drop(&mut self) {
        // SAFETY: the timer is this process's own and was not deleted before.
        unsafe { libc::timer_delete(self.0) };
    }
}
