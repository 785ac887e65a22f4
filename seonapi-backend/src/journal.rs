//! The backend's own log: one line each, with time and level, on standard error or in one file a day.

mod daily_file;
mod level;
mod sparing;

use std::fmt;
use std::io::{self, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, PoisonError};

use chrono::{Local, SecondsFormat, Utc};

pub use level::Level;
pub use sparing::Sparing;

use daily_file::DailyFile;

/// Least level that is written.
static THRESHOLD: AtomicU8 = AtomicU8::new(Level::Info as u8);
/// None is standard error.
static FILE: Mutex<Option<DailyFile>> = Mutex::new(None);

/// Writes from now on into `path`, to whose name the date is added, or to standard error.
///
/// # Errors
/// The file cannot be opened; nothing has changed then.
pub fn write_to(path: Option<&Path>) -> io::Result<()> {
    let file = path.map(|path| DailyFile::open(path, Local::now())).transpose()?;
    *FILE.lock().unwrap_or_else(PoisonError::into_inner) = file;
    Ok(())
}

/// Writes what is of this level or graver from now on, and says so at this very level.
pub fn set_level(level: Level, by: &str) {
    THRESHOLD.store(level as u8, Ordering::Relaxed);
    say(level, format_args!("log level {level}, by {by}"));
}

/// Writes what is of this level or graver from now on.
pub fn begin_with(level: Level) {
    THRESHOLD.store(level as u8, Ordering::Relaxed);
}

/// Writes a line; what comes from outside must be escaped already (see [`escaped`]).
pub fn say(level: Level, what: impl fmt::Display) {
    if level as u8 >= THRESHOLD.load(Ordering::Relaxed) {
        write(level.name(), what);
    }
}

/// Writes a line that was asked for by an option of its own, at any level.
pub fn say_anyway(kind: &str, what: impl fmt::Display) {
    write(kind, what);
}

fn write(kind: &str, what: impl fmt::Display) {
    let time = Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true);
    let line = format!("{time} {kind} {what}\n");
    let mut file = FILE.lock().unwrap_or_else(PoisonError::into_inner);
    let written = file.as_mut().is_some_and(|file| file.write(Local::now(), line.as_bytes()).is_ok());
    if !written {
        // One write, so that lines of several threads stay whole; nobody is left to tell where it fails.
        let _ = io::stderr().write_all(line.as_bytes());
    }
}

/// A foreign text as it may stand in a line.
pub fn escaped(text: &str) -> String {
    text.chars().take(500).flat_map(char::escape_debug).collect()
}

/// The same at the end of a line, where quotation marks in it mislead nobody.
pub fn legible(text: &str) -> String {
    let escape = |c: char| if matches!(c, '"' | '\'') { c.to_string() } else { c.escape_debug().to_string() };
    text.chars().take(500).map(escape).collect()
}
