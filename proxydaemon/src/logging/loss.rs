//! Lines that could not be written to a file of the log, as of a full disk. The file can tell it only when it can be written again;
//! until then the system log has to.

use std::io;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Between two reports.
const PAUSE: Duration = Duration::from_secs(60);

static LOSS: Mutex<Loss> = Mutex::new(Loss { untold: None, told: None });

/// What was lost and not told yet, and when something was told last.
struct Loss {
    untold: Option<(u64, String)>,
    told: Option<Instant>,
}

impl Loss {
    fn count(&mut self, path: &Path, error: &io::Error) {
        let lines = self.untold.take().map_or(0, |(lines, _)| lines);
        self.untold = Some((lines + 1, format!("{}: {error}", path.display())));
    }

    fn take(&mut self, now: Instant) -> Option<String> {
        if self.told.is_some_and(|told| now < told + PAUSE) {
            return None;
        }
        let (lines, why) = self.untold.take()?;
        self.told = Some(now);
        Some(format!("{lines} lines could not be written, last to {why}"))
    }
}

/// A line was lost.
pub(super) fn count(path: &Path, error: &io::Error) {
    LOSS.lock().unwrap_or_else(PoisonError::into_inner).count(path, error);
}

/// What is to be reported of lines lost since the last report, at most once a minute. For a gate, which alone writes files.
pub fn take(now: Instant) -> Option<String> {
    LOSS.lock().unwrap_or_else(PoisonError::into_inner).take(now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lost_is_told_at_once_and_then_once_a_minute() {
        let (mut loss, now) = (Loss { untold: None, told: None }, Instant::now());
        let full = || io::Error::from_raw_os_error(nix::libc::ENOSPC);
        let (path, second) = (Path::new("/opt/seon/seon.log"), Duration::from_secs(1));
        assert_eq!(loss.take(now), None);
        loss.count(path, &full());
        let told = loss.take(now).unwrap();
        assert!(told.starts_with("1 lines could not be written, last to /opt/seon/seon.log: No space"), "{told}");
        for _ in 0..5 {
            loss.count(path, &full());
        }
        assert_eq!(loss.take(now + PAUSE - second), None);
        assert!(loss.take(now + PAUSE).unwrap().starts_with("5 lines"));
        assert_eq!(loss.take(now + PAUSE * 3), None);
    }
}
