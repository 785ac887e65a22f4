//! Telling the service manager (systemd, `Type=notify`) how the daemon is. Without one, everything here does nothing.

use std::io;
use std::time::{Duration, Instant};

use sd_notify::NotifyState;

/// The daemon works.
///
/// # Errors
/// There is a service manager and it cannot be reached.
pub fn ready(status: &str) -> io::Result<()> {
    let status = one_line(status);
    let pid = NotifyState::MainPid(std::process::id());
    sd_notify::notify(&[NotifyState::Ready, pid, NotifyState::Status(&status)])
}

/// What the daemon does at present, in one line.
///
/// # Errors
/// As [`ready`].
pub fn status(status: &str) -> io::Result<()> {
    sd_notify::notify(&[NotifyState::Status(&one_line(status))])
}

/// The daemon ends, once its sessions have.
///
/// # Errors
/// As [`ready`].
pub fn stopping(status: &str) -> io::Result<()> {
    sd_notify::notify(&[NotifyState::Stopping, NotifyState::Status(&one_line(status))])
}

/// Says that the daemon is not stuck, where the service manager watches (`WatchdogSec=`), twice in the time it allows.
#[derive(Debug)]
pub struct Watchdog {
    every: Option<Duration>,
    next: Option<Instant>,
}

impl Watchdog {
    /// As the service manager wants it; nothing ever becomes due without one.
    pub fn of_service_manager() -> Self {
        Self::every(sd_notify::watchdog_enabled().map(|allowed| allowed / 2))
    }

    fn every(every: Option<Duration>) -> Self {
        Self { every, next: every.map(|_| Instant::now()) }
    }

    /// When [`Watchdog::due`] has to be called next.
    pub const fn next(&self) -> Option<Instant> {
        self.next
    }

    /// Says it, if it is time.
    pub fn due(&mut self, now: Instant) {
        if let (Some(every), Some(next)) = (self.every, self.next)
            && next <= now
        {
            // One that is not heard is missed by the service manager, which then acts.
            let _ = sd_notify::notify(&[NotifyState::Watchdog]);
            self.next = Some(now + every);
        }
    }
}

/// A line break would begin another assignment of the protocol.
fn one_line(status: &str) -> String {
    status.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_cannot_smuggle_another_assignment() {
        assert_eq!(one_line("linked\nMAINPID=1"), "linked MAINPID=1");
    }

    #[test]
    fn a_watchdog_is_due_at_once_and_then_at_its_pace() {
        let mut watchdog = Watchdog::every(Some(Duration::from_secs(10)));
        let begun = Instant::now();
        assert!(watchdog.next().is_some_and(|next| next <= begun));
        watchdog.due(begun);
        assert_eq!(watchdog.next(), Some(begun + Duration::from_secs(10)));
        watchdog.due(begun + Duration::from_secs(9));
        assert_eq!(watchdog.next(), Some(begun + Duration::from_secs(10)), "not yet");
        assert_eq!(Watchdog::every(None).next(), None);
    }
}
