//! What a command that cannot be read is told by.

use crate::{command::CommandName, reason::SessionEndReason};
use std::{borrow::Cow, fmt};

/// Why octets are no command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecodeError {
    /// The command; none when its first octet names none.
    pub command: Option<CommandName>,
    /// The field by the RFC's name, or the whole Exchange Buffer.
    pub field: &'static str,
    /// Where the field begins, counted from the command octet.
    pub position: usize,
    /// What the RFC allows there.
    pub expected: Cow<'static, str>,
    /// What stood there, escaped and cut short; `***` for a password.
    pub seen: String,
    /// The code for the ESID: 01 for an unknown command, 07 for a wrong length, 06 for wrong content.
    pub reason: SessionEndReason,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { field, position, expected, seen, .. } = self;
        match self.command {
            Some(command) => write!(
                f,
                "{field} at {position} of {command} is \"{seen}\", {expected} (RFC 5024, {})",
                command.section()
            ),
            None => write!(f, "{field} at {position} is \"{seen}\", {expected} (RFC 5024, 5.3.11)"),
        }
    }
}

impl std::error::Error for DecodeError {}
