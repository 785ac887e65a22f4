//! A test's process as a parent: forks children and waits for how they end.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use nix::poll::PollFlags;
use proxydaemon::Pid;
use proxydaemon::descriptors::wait_ready;
use proxydaemon::exit::ExitCode;
use proxydaemon::fork::{Ending, fork_role, reap};
use proxydaemon::signals::{Arrived, Signal, SignalFd, Signals};

/// A deadline that only an error reaches.
pub fn soon() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

/// The parent.
pub struct Family {
    signals: SignalFd,
    ended: HashMap<Pid, Ending>,
}

impl Family {
    pub fn new() -> Self {
        Self { signals: Signals::block().unwrap().descriptor().unwrap(), ended: HashMap::new() }
    }

    /// A child that runs `life`.
    pub fn fork(&self, life: impl FnOnce() -> ExitCode) -> Pid {
        fork_role("test: child", life).unwrap()
    }

    /// Waits for the end of one child.
    pub fn ending(&mut self, pid: Pid) -> Ending {
        loop {
            // Its signal may have been taken by a test that waited for another one.
            self.ended.extend(reap());
            if let Some(ending) = self.ended.remove(&pid) {
                return ending;
            }
            assert_eq!(self.next_signal().signal, Signal::Child);
        }
    }

    /// Forks a child and waits for its end.
    pub fn ending_of(&mut self, life: impl FnOnce() -> ExitCode) -> Ending {
        let pid = self.fork(life);
        self.ending(pid)
    }

    /// Waits for the next signal to this process.
    pub fn next_signal(&self) -> Arrived {
        next_signal(&self.signals)
    }
}

/// Waits for the next signal.
pub fn next_signal(signals: &SignalFd) -> Arrived {
    loop {
        if let Some(arrived) = signals.next().unwrap() {
            return arrived;
        }
        assert!(wait_ready(signals, PollFlags::POLLIN, Some(soon())).unwrap(), "no signal came");
    }
}
