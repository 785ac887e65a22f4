//! A shell in a pseudo terminal, and somebody who types.

use std::io::Write;
use std::process::{ChildStdin, Command};

use super::{Mark, Process, Trouble};

/// Ctrl-C.
pub const INTERRUPT: &str = "\u{3}";
/// Ctrl-Z.
pub const SUSPEND: &str = "\u{1a}";

/// The terminal. What runs in it is ended when it is dropped.
pub struct Terminal {
    process: Process,
    keyboard: ChildStdin,
}

impl Terminal {
    /// Opens one, with an interactive shell.
    pub fn open() -> Result<Self, Trouble> {
        // `script` gives a pseudo terminal to what it starts, and passes its own input and output through.
        let mut command = Command::new("script");
        command.args(["--quiet", "--flush", "--command", "sh -i", "/dev/null"]).env("PS1", "$ ");
        let (process, keyboard) = Process::start_to_write("terminal", &mut command)?;
        Ok(Self { process, keyboard })
    }

    /// Types that.
    pub fn type_in(&mut self, keys: &str) -> Result<(), Trouble> {
        self.keyboard.write_all(keys.as_bytes()).and_then(|()| self.keyboard.flush()).map_err(Trouble::io("type"))
    }

    /// Types a command and the key that ends it.
    pub fn enter(&mut self, command: &str) -> Result<(), Trouble> {
        self.type_in(&format!("{command}\n"))
    }

    /// Waits for a line on the screen that has `text` in it.
    pub fn shows(&self, text: &str) -> Result<String, Trouble> {
        self.process.wait_after(Mark::default(), text, |line| line.contains(text))
    }

    /// The process of the terminal; what was started in it descends from this one.
    pub fn process(&self) -> &Process {
        &self.process
    }
}
