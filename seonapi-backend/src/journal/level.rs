//! How grave a line of the log is.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How grave a line is, from the least to the most.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum Level {
    /// For those who look for a fault in the backend itself.
    Trace,
    /// What was done, step by step.
    Debug,
    /// What an administrator may want to know.
    #[default]
    Info,
    /// Something is odd, and goes on.
    Warn,
    /// Something did not work.
    Error,
    /// The backend ends.
    Fatal,
}

impl Level {
    /// As it stands in a line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Trace => "TRACE",
            Self::Debug => "DEBUG",
            Self::Info => "INFO",
            Self::Warn => "WARN",
            Self::Error => "ERROR",
            Self::Fatal => "FATAL",
        }
    }

    /// The level that a signal chooses; the same numbers as those of the two daemons.
    pub fn by_signal(number: u32) -> Option<Self> {
        match number {
            20 => Some(Self::Trace),
            21 => Some(Self::Debug),
            22 => Some(Self::Info),
            23 => Some(Self::Error),
            24 => Some(Self::Fatal),
            _ => None,
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
