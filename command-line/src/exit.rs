//! The exit codes of all programs, in one table.

use std::fmt;

macro_rules! exit_codes {
    ($($(#[$doc:meta])* $variant:ident = $number:literal, $name:literal, $sentence:literal;)+) => {
        /// How a process of ours ends. The sentence of each stands in the manual pages.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum ExitCode {
            $($(#[$doc])* $variant = $number,)+
        }

        impl ExitCode {
            /// The whole table, in the order of its numbers.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// The kebab-case name, as in log lines and manual pages.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// What it means, in one sentence for an administrator.
            pub fn sentence(self) -> &'static str {
                match self { $(Self::$variant => $sentence,)+ }
            }

            /// The code with this number, if there is one.
            pub fn from_number(number: i32) -> Option<Self> {
                match number { $($number => Some(Self::$variant),)+ _ => None }
            }
        }
    };
}

exit_codes! {
    /// The program did what it was asked and ended in order.
    Ok = 0, "ok", "The program did what it was asked to do, or ended in order.";
    /// A failure without a code of its own.
    Failure = 1, "failure", "The program failed for the reason it printed.";
    /// The command line is wrong.
    Usage = 2, "usage", "The command line is wrong; every error in it was printed.";
    /// The `.logrc` or another configuration file of the program is wrong.
    Configuration = 3, "configuration", "A configuration or .logrc file is wrong; the message names file and place.";
    /// No valid licence for this machine.
    Licence = 4, "licence", "There is no licence, or it is not valid for this Proxy ID and time.";
    /// The backend refused the security token at start.
    TokenRefused = 5, "token-refused", "The backend refused the security token.";
    /// The PID file names a live process of the same program.
    AlreadyRunning = 6, "already-running", "The PID file names a running process of the same program.";
    /// The PID file is left over, or could not be made.
    PidFile = 7, "pid-file", "The PID file is a stale one, or cannot be created.";
    /// A listening address cannot be bound.
    CannotBind = 8, "cannot-bind", "A listening address cannot be bound: in use, not of this host, or not permitted.";
    /// Started as root without a user to become, or the user cannot be taken on.
    Privileges = 9, "privileges", "The program was started as root without -u USER, or cannot become that user.";
    /// The identity key of the proxyserver, or the state directory of a daemon, cannot be read or made.
    Identity = 10, "identity", "The identity key or the state directory cannot be read or written.";
    /// An address the configuration sends from is not of this host.
    OutgoingAddress = 11, "outgoing-address", "The configuration names an outgoing_ip that this host does not have.";
    /// The kernel cannot confine processes as it must.
    Confinement = 12, "confinement", "A process could not give up its privileges as it has to before it works.";
    /// A system resource is missing at start (descriptors, processes, memory).
    Resources = 13, "resources", "The system refused descriptors, processes or memory needed to start.";
    /// A session ended because of its peer. Seen by the gate only.
    SessionPeer = 20, "session-peer", "A session process ended: its peer was refused or broke the rules.";
    /// A session ended because a connection was lost. Seen by the gate only.
    SessionLost = 21, "session-lost", "A session process ended: one of its connections was lost or timed out.";
    /// A session ended by an order of its gate. Seen by the gate only.
    SessionStopped = 22, "session-stopped", "A session process ended because its gate told it to.";
    /// An error in the program itself.
    Internal = 70, "internal-fault", "An error in the program itself; please report it with the log.";
    /// A process panicked.
    Panic = 71, "panic", "An error in the program itself ended it at once; please report it with the log.";
}

impl ExitCode {
    /// The number the process ends with.
    pub fn number(self) -> i32 {
        self as i32
    }

    /// Whether a program ends with it, so that its starter sees it; the others pass between a session and its gate.
    pub fn is_of_a_program(self) -> bool {
        !matches!(self, Self::SessionPeer | Self::SessionLost | Self::SessionStopped)
    }
}

/// The exit codes of our programs, for the end of their help. A program ends with those of them that can befall it.
pub fn help() -> String {
    let line = |code: &ExitCode| format!("  {:>2}  {}", code.number(), code.sentence());
    let lines: Vec<_> = ExitCode::ALL.iter().filter(|code| code.is_of_a_program()).map(line).collect();
    format!("Exit codes:\n{}", lines.join("\n"))
}

impl fmt::Display for ExitCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name(), self.number())
    }
}

impl From<ExitCode> for std::process::ExitCode {
    fn from(code: ExitCode) -> Self {
        Self::from(code as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_are_unique_and_each_has_a_sentence() {
        for (place, code) in ExitCode::ALL.iter().enumerate() {
            for other in &ExitCode::ALL[place + 1..] {
                assert!(code.number() < other.number(), "{code} stands before {other}");
                assert_ne!(code.name(), other.name());
            }
            assert!(code.sentence().ends_with('.'), "{code}");
            assert!(code.name().bytes().all(|c| c.is_ascii_lowercase() || c == b'-'), "{code}");
            assert_eq!(ExitCode::from_number(code.number()), Some(*code));
        }
    }

    #[test]
    fn help_has_each_code_that_can_be_seen_from_outside() {
        let help = help();
        for code in ExitCode::ALL {
            assert_eq!(help.contains(code.sentence()), code.is_of_a_program(), "{code}");
            assert!(code.sentence().len() <= 94, "{code} takes more than a line of help");
        }
    }

    #[test]
    fn no_code_looks_like_death_by_signal_in_a_shell() {
        assert!(ExitCode::ALL.iter().all(|code| code.number() < 126));
        assert_eq!(ExitCode::from_number(14), None);
    }
}
