//! Learning which children have ended, at a cost that does not grow with those that live.
//!
//! To ask the kernel for any child that has ended costs a walk through all of them. The signal names one, which is asked
//! for alone; but of several that end at about the same time only one is named, so that the walk is owed after each
//! signal. It is made at once where it is cheap, and takes a small part of the gate's time: after one that
//! took long, the next one waits, though never long.
//!
//! A walk finds one child, and for the next one it begins anew. Where walks take long, those are therefore asked for alone before
//! whose last words the gate has heard: a session's last act is a record of the log.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use nix::unistd::Pid;

use crate::fork::{Ending, reap, reap_one};

/// So many times as long as a walk took, none follows it.
const REST: u32 = 255;
/// The longest rest, whatever a walk took on a busy machine: who has ended is known so much later at most.
const LONGEST_REST: Duration = Duration::from_millis(250);

/// Where a walk takes longer, those who may have ended are asked for before it.
const LONG: Duration = Duration::from_micros(250);
/// So many are remembered who may have ended, the latest. Others are found by the walk.
const MOST_HEARD: usize = 512;

/// When all children are to be asked for.
#[derive(Debug)]
pub struct Reaper {
    owed: bool,
    rests_until: Option<Instant>,
    /// Walks take long, or none has shown yet how long they take.
    long: bool,
    /// Who was heard since the last walk, where they do; the latest last.
    heard: VecDeque<Pid>,
}

impl Default for Reaper {
    /// Owes a walk from the start: a process that goes on as another program may have children that ended before.
    fn default() -> Self {
        Self { owed: true, rests_until: None, long: true, heard: VecDeque::new() }
    }
}

impl Reaper {
    /// A child has ended; `named` is whom the signal came from. That one, if it has not been told of.
    pub fn signalled(&mut self, named: Option<Pid>) -> Option<(Pid, Ending)> {
        self.owed = true;
        self.heard.retain(|pid| Some(*pid) != named);
        named.and_then(|pid| Some((pid, reap_one(pid)?)))
    }

    /// This child has written to the log, and may end now.
    pub fn heard(&mut self, pid: Pid) {
        if !self.long {
            return;
        }
        self.heard.retain(|other| *other != pid);
        if self.heard.len() == MOST_HEARD {
            self.heard.pop_front();
        }
        self.heard.push_back(pid);
    }

    /// All that have ended and were not told of, when it is time for a walk; otherwise none.
    pub fn due(&mut self, now: Instant) -> Vec<(Pid, Ending)> {
        if !self.is_due(now) {
            return Vec::new();
        }
        let mut ended = self.those_heard();
        let begun = Instant::now();
        ended.extend(reap());
        self.walked(now, begun.elapsed());
        ended
    }

    /// Those that have ended of those that were heard.
    fn those_heard(&mut self) -> Vec<(Pid, Ending)> {
        let (mut ended, mut in_vain) = (Vec::new(), Duration::ZERO);
        for pid in self.heard.drain(..).rev() {
            let asked = Instant::now();
            match reap_one(pid) {
                Some(ending) => ended.push((pid, ending)),
                None => in_vain += asked.elapsed(),
            }
            // Kernels before Linux 5.13 walk for each of them, too.
            if in_vain > LONG {
                break;
            }
        }
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
        self.long = took > LONG;
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

    #[test]
    fn who_was_heard_is_remembered_where_walks_take_long() {
        let (mut reaper, now) = (Reaper::default(), Instant::now());
        for (took, remembered) in [(250, 0), (251, MOST_HEARD), (10, 0)] {
            reaper.heard.clear();
            reaper.walked(now, us(took));
            for number in 1000..1600 {
                reaper.heard(Pid::from_raw(number));
                reaper.heard(Pid::from_raw(number));
            }
            assert_eq!(reaper.heard.len(), remembered, "{took}");
            assert!(reaper.heard.iter().rev().zip((1000..1600).rev()).all(|(pid, number)| pid.as_raw() == number));
        }
    }

    fn us(count: u64) -> Duration {
        Duration::from_micros(count)
    }
}
