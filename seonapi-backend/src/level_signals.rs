//! The signals 20 to 24, which choose the level of the backend's own log as they do for the two daemons.

use std::io;

use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::getpid;

use crate::journal::{self, Level, say};

/// 20 to 24 by the names that they have on Linux.
const SIGNALS: [Signal; 5] = [Signal::SIGTSTP, Signal::SIGTTIN, Signal::SIGTTOU, Signal::SIGURG, Signal::SIGXCPU];

/// The blocked signals. Programs that are started do not inherit that.
pub struct LevelSignals(SignalFd);

impl LevelSignals {
    /// Blocks them, before there is a second thread; not blocked, they would stop or end the process.
    pub fn block() -> io::Result<Self> {
        let mut set = SigSet::empty();
        SIGNALS.iter().for_each(|signal| set.add(*signal));
        set.thread_block()?;
        Ok(Self(SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC)?))
    }

    /// Does what they say, for ever, in a thread of its own.
    pub fn obey(self) -> io::Result<()> {
        let read = move || {
            if let Err(error) = self.read() {
                say(Level::Error, format_args!("signals 20 to 24 cannot be read any more: {error}"));
            }
        };
        std::thread::Builder::new().name("level signals".to_owned()).spawn(read).map(drop)
    }

    fn read(&self) -> io::Result<()> {
        loop {
            let Some(signal) = self.0.read_signal()? else { continue };
            // Ctrl-Z comes from the terminal, without a sender: whoever types it wants what it does everywhere.
            if signal.ssi_signo == 20 && signal.ssi_pid == 0 {
                kill(getpid(), Signal::SIGSTOP)?;
            } else if let Some(level) = Level::by_signal(signal.ssi_signo) {
                journal::set_level(level, &format!("signal {} of process {}", signal.ssi_signo, signal.ssi_pid));
            }
        }
    }
}
