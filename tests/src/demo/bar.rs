//! A progress bar: one line on a terminal, nothing elsewhere.

use std::io::{self, IsTerminal, Write};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

const WIDTH: u64 = 40;
/// Oftener nobody can read it.
const PAUSE: Duration = Duration::from_millis(50);

/// The bar.
pub(super) struct Bar {
    terminal: bool,
    begun: Instant,
    shown: Mutex<Option<Instant>>,
}

impl Bar {
    pub fn new() -> Self {
        Self { terminal: io::stdout().is_terminal(), begun: Instant::now(), shown: Mutex::new(None) }
    }

    /// So many of so many octets are done.
    pub fn show(&self, done: u64, octets: u64) {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.terminal || (done < octets && shown.is_some_and(|last| last.elapsed() < PAUSE)) {
            return;
        }
        *shown = Some(Instant::now());
        // A bar that cannot be shown is no reason to stop.
        let _ =
            write!(io::stdout(), "\r{}", line(done, octets, self.begun.elapsed())).and_then(|()| io::stdout().flush());
    }

    /// Leaves its line.
    pub fn end(&self) {
        if self.shown.lock().unwrap_or_else(PoisonError::into_inner).is_some() {
            let _ = writeln!(io::stdout());
        }
    }
}

fn line(done: u64, octets: u64, elapsed: Duration) -> String {
    let part = (u128::from(done) * u128::from(WIDTH) / u128::from(octets.max(1))).min(WIDTH.into()) as usize;
    let mebi = |octets: u64| octets as f64 / 1024.0 / 1024.0;
    let speed = mebi(done) / elapsed.as_secs_f64().max(0.001);
    let (full, empty) = ("#".repeat(part), ".".repeat(WIDTH as usize - part));
    format!("  [{full}{empty}] {:.1} of {:.1} MiB, {speed:.0} MiB/s ", mebi(done), mebi(octets))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_fills_and_never_overflows() {
        let at = |done, octets| line(done, octets, Duration::from_secs(1));
        assert_eq!(at(0, 0).matches('#').count(), 0);
        assert_eq!(at(1 << 20, 2 << 20), format!("  [{}{}] 1.0 of 2.0 MiB, 1 MiB/s ", "#".repeat(20), ".".repeat(20)));
        assert_eq!(at(3, 2).matches('#').count(), 40);
    }
}
