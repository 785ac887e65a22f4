//! Lines that strangers can cause: so many a minute, and then how many there were.

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::{Level, say};

const MINUTE: Duration = Duration::from_secs(60);
const A_MINUTE: u32 = 20;

/// Lines of one kind.
pub struct Sparing(Mutex<Minute>);

struct Minute {
    began: Option<Instant>,
    said: u32,
    left_out: u64,
}

impl Sparing {
    /// Nothing was said yet.
    pub const fn new() -> Self {
        Self(Mutex::new(Minute { began: None, said: 0, left_out: 0 }))
    }

    /// Writes the line, or counts it.
    pub fn say(&self, level: Level, what: impl fmt::Display) {
        let (left_out, goes) = self.at(Instant::now());
        if left_out > 0 {
            say(level, format_args!("{left_out} more lines of this kind were left out"));
        }
        if goes {
            say(level, what);
        }
    }

    /// How many were left out before, and whether one goes now.
    fn at(&self, now: Instant) -> (u64, bool) {
        let mut minute = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut left_out = 0;
        if minute.began.is_none_or(|began| now.saturating_duration_since(began) >= MINUTE) {
            left_out = minute.left_out;
            *minute = Minute { began: Some(now), said: 0, left_out: 0 };
        }
        if minute.said < A_MINUTE {
            minute.said += 1;
            return (left_out, true);
        }
        minute.left_out += 1;
        (left_out, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twenty_lines_a_minute_go_and_the_others_are_counted() {
        let (lines, start) = (Sparing::new(), Instant::now());
        for second in 0..59 {
            assert_eq!(lines.at(start + Duration::from_secs(second)), (0, second < 20), "{second}");
        }
        assert_eq!(lines.at(start + MINUTE), (39, true));
        assert_eq!(lines.at(start + MINUTE), (0, true));
    }
}
