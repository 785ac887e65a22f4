//! Learning which children have ended, at a cost that does not grow with those that live.
//!
//! To ask the kernel for any child that has ended costs a walk through all of them. The signal names one, which is asked
//! for alone; but of several that end at about the same time only one is named, so that the walk is owed after each
//! signal. It is made at once where it is cheap, and takes a small part of the gate's time: after one that
//! took long, the next one waits, though never long.

use std::time::{Duration, Instant};

use nix::unistd::Pid;

use crate::fork::{Ending, reap, reap_one};

/// So many times as long as a walk took, none follows it.
const REST: u32 = 255;
/// The longest rest, whatever a walk took on a busy machine: who has ended is known so much later at most.
const LONGEST_REST: Duration = Duration::from_millis(250);

/// When all children are to be asked for.
#[derive(Debug)]
pub struct Reaper {
    owed: bool,
    rests_until: Option<Instant>,
}

impl Default for Reaper {
    /// Owes a walk from the start: a process that goes on as another program may have children that ended before.
    fn default() -> Self {
        Self { owed: true, rests_until: None }
    }
}

impl Reaper {
    /// A child has ended; `named` is whom the signal came from. That one, if it has not been told of.
    pub fn signalled(&mut self, named: Option<Pid>) -> Option<(Pid, Ending)> {
        self.owed = true;
        named.and_then(|pid| Some((pid, reap_one(pid)?)))
    }

    /// All that have ended and were not told of, when it is time for a walk; otherwise none.
    pub fn due(&mut self, now: Instant) -> Vec<(Pid, Ending)> {
        if !self.is_due(now) {
            return Vec::new();
        }
        let begun = Instant::now();
        let ended = reap().collect();
        self.walked(now, begun.elapsed());
        ended
    }

    /// When the next walk is due; none when nobody has ended since the last one.
    pub fn next(&self, now: Instant) -> Option<Instant> {
        self.owed.then(|| self.rests_until.unwrap_or(now))
    }

    fn is_due(&self, now: Instant) -> bool {
        self.owed && self.rests_until.is_none_or(|until| until <= now)
    }

    fn walked(&mut self, now: Instant, took: Duration) {
        self.owed = false;
        self.rests_until = Some(now + took + (took * REST).min(LONGEST_REST));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_walk_is_owed_at_the_start_and_after_each_signal_and_no_longer() {
        let (mut reaper, now) = (Reaper::default(), Instant::now());
        assert_eq!((reaper.is_due(now), reaper.next(now)), (true, Some(now)));
        reaper.walked(now, Duration::ZERO);
        assert_eq!((reaper.is_due(now), reaper.next(now)), (false, None));
        assert_eq!(reaper.signalled(None), None);
        assert_eq!((reaper.is_due(now), reaper.next(now)), (true, Some(now)));
    }

    #[test]
    fn who_is_no_child_has_not_ended() {
        for number in [0, -1, 1] {
            assert_eq!(Reaper::default().signalled(Some(Pid::from_raw(number))), None);
        }
    }

    #[test]
    fn walks_take_a_small_part_of_the_time_and_are_never_far_away() {
        for (took, rest) in [(100, 25_500), (900, 229_500), (100_000, 250_000)].map(|(took, rest)| (us(took), us(rest)))
        {
            let (mut reaper, now) = (Reaper::default(), Instant::now());
            reaper.walked(now, took);
            assert_eq!(reaper.next(now), None);
            reaper.signalled(None);
            let again = now + took + rest;
            assert_eq!(reaper.next(now), Some(again));
            assert!(!reaper.is_due(again - us(1)) && reaper.is_due(again));
        }
    }

    fn us(count: u64) -> Duration {
        Duration::from_micros(count)
    }
}
