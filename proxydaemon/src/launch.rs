//! The start of a daemon, the same for both: from a read command line to a gate that logs.
//!
//! Two steps, so that the caller can bind its ports in between, with the rights it was started with.

use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};

use crate::background::{self, Starter};
use crate::exit::ExitCode;
use crate::logging::{GateLog, binary_directory};
use crate::pid_file::{PidFile, PidFileError, Stale};
use crate::signals::Signals;
use crate::title;
use crate::user::{self, User};

/// What is to be started.
#[derive(Debug)]
pub struct Launch<'a> {
    /// Name of the program, as the process list shows it.
    pub program: &'static str,
    /// Name of its `.logrc`, without the ending.
    pub stem: &'static str,
    /// Stay in the foreground.
    pub foreground: bool,
    /// `-u`.
    pub user: Option<&'a str>,
    /// PID file; by default `PROGRAM.pid` beside the program.
    pub pid_file: Option<&'a Path>,
    /// What becomes of a stale PID file.
    pub stale: Stale,
    /// Descriptors that are open already and go with the daemon.
    pub keep: &'a [BorrowedFd<'a>],
}

/// A daemon that is in its place and has not yet given up the rights it was started with.
#[derive(Debug)]
pub struct Entered {
    stem: &'static str,
    foreground: bool,
    user: Option<User>,
    directory: PathBuf,
    /// Who waits for the daemon to be ready.
    pub starter: Starter,
    pid_file: PidFile,
}

/// A daemon that runs as the user it shall run as, and logs.
#[derive(Debug)]
pub struct Launched {
    /// Who waits for the daemon to be ready.
    pub starter: Starter,
    /// Removed when the gate ends.
    pub pid_file: PidFile,
    /// The log.
    pub log: GateLog,
    /// Where the program lies.
    pub directory: PathBuf,
}

/// Why a daemon does not start.
#[derive(Debug)]
pub struct NotLaunched {
    /// What to print.
    pub text: String,
    /// What to end with.
    pub code: ExitCode,
}

impl NotLaunched {
    /// A failure with its exit code.
    pub fn new(code: ExitCode, text: impl ToString) -> Self {
        Self { text: text.to_string(), code }
    }
}

impl Launch<'_> {
    /// Decides on the user, goes into the background, makes the PID file. From then on errors go through the starter.
    ///
    /// # Errors
    /// [`NotLaunched`], for the terminal.
    pub fn enter(self, signals: Signals) -> Result<Entered, NotLaunched> {
        let user = user::for_start(self.user).map_err(|error| NotLaunched::new(ExitCode::Privileges, error))?;
        let directory = binary_directory().map_err(|error| NotLaunched::new(ExitCode::Failure, error))?;
        let working = std::env::current_dir().unwrap_or_default();
        let pid_file = match self.pid_file {
            Some(path) => working.join(path),
            None => directory.join(format!("{}.pid", self.program)),
        };
        let starter = if self.foreground {
            Starter::foreground()
        } else {
            background::enter(signals, self.keep).map_err(|error| NotLaunched::new(ExitCode::Resources, error))?
        };
        title::set_title(&format!("{}: gate", self.program));
        match PidFile::create_for(&pid_file, self.program, self.stale, user.as_ref()) {
            Ok(pid_file) => {
                Ok(Entered { stem: self.stem, foreground: self.foreground, user, directory, starter, pid_file })
            }
            Err(error) => {
                let code = match error {
                    PidFileError::Running { .. } => ExitCode::AlreadyRunning,
                    _ => ExitCode::PidFile,
                };
                let text = error.to_string();
                starter.failed(&text, code);
                Err(NotLaunched { text: String::new(), code })
            }
        }
    }
}

impl Entered {
    /// The user to become, for files that shall be that user's.
    pub const fn user(&self) -> Option<&User> {
        self.user.as_ref()
    }

    /// Becomes the user and starts the log.
    ///
    /// # Errors
    /// [`NotLaunched`]; the starter has been told.
    pub fn settle(self) -> Result<Launched, NotLaunched> {
        if let Some(user) = &self.user
            && let Err(error) = user.become_user()
        {
            return Err(fail(self.starter, self.pid_file, ExitCode::Privileges, &error.to_string()));
        }
        match GateLog::start(self.stem, &self.directory, self.foreground) {
            Ok(log) => {
                if let Some(note) = log.note() {
                    self.starter.note(note);
                }
                Ok(Launched { starter: self.starter, pid_file: self.pid_file, log, directory: self.directory })
            }
            Err(error) => Err(fail(self.starter, self.pid_file, ExitCode::Configuration, &error.to_string())),
        }
    }

    /// Gives up with this failure; the starter is told.
    pub fn fail(self, code: ExitCode, text: &str) -> NotLaunched {
        fail(self.starter, self.pid_file, code, text)
    }
}

impl Launched {
    /// Gives up with this failure; the starter is told.
    pub fn fail(self, code: ExitCode, text: &str) -> NotLaunched {
        fail(self.starter, self.pid_file, code, text)
    }
}

fn fail(starter: Starter, pid_file: PidFile, code: ExitCode, text: &str) -> NotLaunched {
    // Before the starter ends: whoever waits for that may start the daemon again at once.
    drop(pid_file);
    starter.failed(text, code);
    NotLaunched { text: String::new(), code }
}
