//! Telling the service manager (systemd, `Type=notify`) how the daemon is. Without one, everything here does nothing.

use std::io;
use std::time::Duration;

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

/// How often [`alive`] has to be called, if the service manager watches: half of what it allows.
pub fn alive_every() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|allowed| allowed / 2)
}

/// The daemon is not stuck.
///
/// # Errors
/// As [`ready`].
pub fn alive() -> io::Result<()> {
    sd_notify::notify(&[NotifyState::Watchdog])
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
}
