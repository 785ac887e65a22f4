//! A daemon in the background, as an administrator starts it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tests::harness::{PATIENCE, table, until};

/// A daemon in the background, ended when it is dropped.
pub struct Daemon {
    /// Its gate.
    pub pid: i32,
    /// Where its program lies.
    pub directory: PathBuf,
}

/// Starts a daemon in the background, from a working directory that is not its own.
pub fn run(command: &Command) -> Output {
    let arguments = command.get_args().filter(|argument| *argument != "-d");
    let mut command = Command::new(command.get_program());
    let output = command.args(arguments.map(ToOwned::to_owned).collect::<Vec<_>>()).current_dir("/");
    output.stdin(Stdio::null()).output().unwrap()
}

impl Daemon {
    /// Starts it. What its starter said comes along.
    pub fn start(command: &Command) -> (Self, String) {
        let program = Path::new(command.get_program()).to_owned();
        let output = run(command);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{said}");
        let pid = fs::read_to_string(program.with_extension("pid")).unwrap().trim().parse().unwrap();
        (Self { pid, directory: program.parent().unwrap().to_owned() }, said)
    }

    /// Whether it runs.
    pub fn is_there(&self) -> bool {
        table::Entry::of(self.pid).is_some()
    }

    /// Ends it in order.
    pub fn end(&self) {
        kill(Pid::from_raw(self.pid), Signal::SIGTERM).unwrap();
        assert!(until(PATIENCE, || (!self.is_there()).then_some(())).is_some(), "it did not end");
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let family = table::below(self.pid);
        let _ = kill(Pid::from_raw(self.pid), Signal::SIGTERM);
        if until(PATIENCE, || (!self.is_there()).then_some(())).is_none() {
            let _ = kill(Pid::from_raw(self.pid), Signal::SIGKILL);
        }
        for left in family.iter().filter(|left| left.still_there()) {
            let _ = kill(Pid::from_raw(left.pid), Signal::SIGKILL);
        }
    }
}
