//! The backend's own log: one line each on standard error, with the time.

use std::fmt;
use std::io::Write;

use chrono::{SecondsFormat, Utc};

/// Writes a line; what comes from outside must be escaped already (see [`escaped`]).
pub fn say(level: &str, what: impl fmt::Display) {
    let time = Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true);
    // One write, so that lines of several threads stay whole; nobody is left to tell where it fails.
    let _ = std::io::stderr().write_all(format!("{time} {level} {what}\n").as_bytes());
}

/// A foreign text as it may stand in a line.
pub fn escaped(text: &str) -> String {
    text.chars().take(500).flat_map(char::escape_debug).collect()
}
