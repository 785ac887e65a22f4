//! `--log-level PID LEVEL [--for TIME]`: has one process of the same program log at another level.

use std::time::Duration;

use nix::errno::Errno;
use nix::unistd::Pid;

use crate::logging::{LevelOrder, Threshold, UnknownLevel};
use crate::{signals, title};

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LevelCommand {
    process: Pid,
    order: LevelOrder,
}

/// Why nothing was done.
#[derive(Debug, thiserror::Error)]
pub enum LevelCommandError {
    /// Not as many words as there should be.
    #[error("--log-level takes a process number and a level, for example --log-level 4711 debug")]
    Words,
    /// Not the number of a process.
    #[error("--log-level: {0:?} is no process number; `ps -e -o pid,args` shows them")]
    Number(String),
    /// Not a level.
    #[error("--log-level: {0}")]
    Level(#[from] UnknownLevel),
    /// There is no such process.
    #[error("there is no process {0}")]
    Gone(Pid),
    /// It is something else.
    #[error("process {pid} is no {program} but {other}; nothing was sent to it")]
    Foreign {
        /// Its number.
        pid: Pid,
        /// What it should be.
        program: &'static str,
        /// What it is.
        other: String,
    },
    /// It is one, and would die of the signal: not yet, or not of this version.
    #[error(
        "process {0} does not take log levels (it is just starting, or of another version); nothing was sent to it"
    )]
    Deaf(Pid),
    /// Not ours to signal.
    #[error("process {0} is another user's: do this as that user, or as root")]
    NotPermitted(Pid),
    /// The kernel refused the signal.
    #[error("process {pid} cannot be sent a signal: {error}")]
    NotSent {
        /// Its number.
        pid: Pid,
        /// What the kernel answered.
        error: std::io::Error,
    },
}

impl LevelCommandError {
    /// Whether the command line itself is wrong.
    pub const fn is_usage(&self) -> bool {
        matches!(self, Self::Words | Self::Number(_) | Self::Level(_))
    }
}

/// All that is wrong with the words behind `--log-level`, to be told with the other mistakes of the command line.
pub fn mistakes(words: &[String]) -> Vec<String> {
    let [number, level] = words else { return vec![LevelCommandError::Words.to_string()] };
    let process = process(number).err();
    let level = level.parse::<Threshold>().err().map(LevelCommandError::from);
    process.into_iter().chain(level).map(|error| error.to_string()).collect()
}

fn process(number: &str) -> Result<i32, LevelCommandError> {
    let process = number.parse().ok().filter(|number: &i32| *number > 0);
    process.ok_or_else(|| LevelCommandError::Number(number.to_owned()))
}

impl LevelCommand {
    /// From the words behind `--log-level`, and the time behind `--for`.
    ///
    /// # Errors
    /// They are no process number and level.
    pub fn read(words: &[String], time: Option<Duration>) -> Result<Self, LevelCommandError> {
        let [number, level] = words else { return Err(LevelCommandError::Words) };
        let process = process(number)?;
        let level: Threshold = level.parse()?;
        let order = time.map_or(LevelOrder::Set(level), |time| LevelOrder::Lend(level, time));
        Ok(Self { process: Pid::from_raw(process), order })
    }

    /// Sends the order, when the process is one of `program`. What was done, in a sentence.
    ///
    /// # Errors
    /// It is none, or cannot be sent a signal.
    pub fn carry_out(self, program: &'static str) -> Result<String, LevelCommandError> {
        let pid = self.process;
        let found = |error: std::io::Error| match error.kind() {
            std::io::ErrorKind::NotFound => LevelCommandError::Gone(pid),
            _ => LevelCommandError::NotSent { pid, error },
        };
        let other = title::program_of(pid).map_err(found)?;
        if other != program {
            return Err(LevelCommandError::Foreign { pid, program, other });
        }
        if !signals::takes_level_orders(pid).map_err(found)? {
            return Err(LevelCommandError::Deaf(pid));
        }
        signals::order_level(pid, self.order).map_err(|error| match error.raw_os_error().map(Errno::from_raw) {
            Some(Errno::ESRCH) => LevelCommandError::Gone(pid),
            Some(Errno::EPERM) => LevelCommandError::NotPermitted(pid),
            _ => LevelCommandError::NotSent { pid, error },
        })?;
        Ok(match self.order {
            LevelOrder::Lend(level, time) => {
                format!("process {pid} was told to log at {level} for {} s, then as before", time.as_secs())
            }
            LevelOrder::Set(level) => format!("process {pid} was told to log at {level}"),
            LevelOrder::Return => format!("process {pid} was told to log as before"),
        })
    }
}

/// Reads a time: a number and `s`, `m`, `h` or `d`, such as `10m`. At least a second, at most [`LevelOrder::LONGEST`].
///
/// # Errors
/// It is no such time.
pub fn time(text: &str) -> Result<Duration, String> {
    let refuse = || format!("{text:?} is no time such as 90s, 10m, 2h or 1d, up to 30d");
    let (number, unit) = text.split_at(text.len() - text.chars().last().map_or(0, char::len_utf8));
    let unit = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 60 * 60,
        "d" => 24 * 60 * 60,
        _ => return Err(refuse()),
    };
    if number.is_empty() || !number.bytes().all(|octet| octet.is_ascii_digit()) {
        return Err(refuse());
    }
    let seconds = number.parse::<u64>().ok().and_then(|number| number.checked_mul(unit)).ok_or_else(refuse)?;
    let time = Duration::from_secs(seconds);
    if time.is_zero() || time > LevelOrder::LONGEST { Err(refuse()) } else { Ok(time) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::process::Stdio;

    fn read(words: &[&str]) -> Result<LevelCommand, LevelCommandError> {
        LevelCommand::read(&words.iter().map(ToString::to_string).collect::<Vec<_>>(), None)
    }

    #[test]
    fn times_have_a_unit_and_bounds() {
        let seconds = |text| time(text).ok().map(|time| time.as_secs());
        for (text, expected) in [("1s", 1), ("90s", 90), ("10m", 600), ("2h", 7200), ("1d", 86400), ("30d", 2_592_000)]
        {
            assert_eq!(seconds(text), Some(expected), "{text}");
        }
        let wrong =
            ["", "s", "10", "0s", "-1s", "+1s", "1.5h", "31d", "1w", "10 m", "99999999999999999999s", "1ü", "١s"];
        for text in wrong {
            assert!(time(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_process_and_a_level_are_needed() {
        assert!(read(&["4711", "Debug"]).is_ok());
        for (words, said) in [
            (&["4711"][..], "takes a process number and a level"),
            (&["0", "info"], "\"0\" is no process number"),
            (&["-1", "info"], "\"-1\" is no process number"),
            (&["gate", "info"], "\"gate\" is no process number"),
            (&["4711", "loud"], "\"loud\" is no log level"),
        ] {
            let error = read(words).unwrap_err();
            assert!(error.is_usage() && error.to_string().contains(said), "{error}");
        }
    }

    #[test]
    fn what_is_no_process_of_the_program_is_refused_by_name() {
        let parent = std::os::unix::process::parent_id().to_string();
        let error = read(&[&parent, "trace"]).unwrap().carry_out("seon_test").unwrap_err();
        let name = title::program_of(Pid::from_raw(parent.parse().unwrap())).unwrap();
        assert!(error.to_string().contains(&format!("is no seon_test but {name}")), "{error}");
        // One by that name that would be killed by the signal. What it echoes shows that it has its name by now.
        let mut cat = std::process::Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        cat.stdin.as_mut().unwrap().write_all(b"x").unwrap();
        cat.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
        let order = read(&[&cat.id().to_string(), "trace"]).unwrap();
        let error = order.carry_out("cat").unwrap_err();
        assert!(matches!(error, LevelCommandError::Deaf(_)), "{error}");
        assert_eq!(cat.try_wait().unwrap(), None, "nothing was sent to it");
        cat.kill().unwrap();
        cat.wait().unwrap();
        let error = order.carry_out("cat").unwrap_err();
        assert!(matches!(error, LevelCommandError::Gone(_)), "{error}");
    }
}
