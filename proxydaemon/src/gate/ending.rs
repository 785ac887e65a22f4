//! How a daemon ends: its sessions may finish, then are told to end, then are told again, then are killed.

use std::time::{Duration, Instant};

/// From the order to end until a session is killed: ten seconds for the peers to close, and room.
const PATIENCE: Duration = Duration::from_secs(13);
/// The same on SIGHUP.
const HANGUP_PATIENCE: Duration = Duration::from_secs(2);
/// Before a session is killed it is told once more, which makes it close at once and write its record.
const LAST_WORD: Duration = Duration::from_millis(500);
/// Between two attempts to kill what is left.
const KILL_AGAIN: Duration = Duration::from_secs(1);

/// What is to be done with the sessions that are left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Tell them to end.
    Tell,
    /// Tell them once more: they close at once.
    TellAgain,
    /// Kill them.
    Kill,
}

/// The plan of a daemon that ends. Nothing that comes later postpones what it has already set.
#[derive(Debug, Clone, Copy)]
pub struct EndingPlan {
    tell_at: Instant,
    told: bool,
    again_at: Instant,
    told_again: bool,
    kill_at: Instant,
    patience: Duration,
}

impl EndingPlan {
    /// The sessions get `drain` to finish by themselves; none on SIGHUP.
    pub fn begin(now: Instant, drain: Duration, hangup: bool) -> Self {
        let patience = if hangup { HANGUP_PATIENCE } else { PATIENCE };
        let tell_at = if hangup { now } else { now + drain };
        let kill_at = tell_at + patience;
        Self { tell_at, told: false, again_at: kill_at - LAST_WORD, told_again: false, kill_at, patience }
    }

    /// A further signal: sessions that were not told are told now, those that were are told again.
    pub fn hurry(&mut self, now: Instant, hangup: bool) {
        if hangup {
            self.patience = HANGUP_PATIENCE;
        }
        if self.told {
            self.again_at = now;
            self.told_again = false;
        } else {
            self.tell_at = self.tell_at.min(now);
        }
        self.kill_at = self.kill_at.min(now + self.patience);
    }

    /// What is due now, one step after the other; `None` when nothing is.
    pub fn due(&mut self, now: Instant) -> Option<Step> {
        if !self.told && self.tell_at <= now {
            self.told = true;
            self.kill_at = now + self.patience;
            self.again_at = self.kill_at - LAST_WORD;
            return Some(Step::Tell);
        }
        if self.told && !self.told_again && self.again_at <= now {
            self.told_again = true;
            return Some(Step::TellAgain);
        }
        if self.told && self.kill_at <= now {
            self.kill_at = now + KILL_AGAIN;
            return Some(Step::Kill);
        }
        None
    }

    /// When something is due next.
    pub fn next(&self) -> Instant {
        match (self.told, self.told_again) {
            (false, _) => self.tell_at,
            (true, false) => self.again_at.min(self.kill_at),
            (true, true) => self.kill_at,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DRAIN: Duration = Duration::from_secs(60);

    fn after(start: Instant, seconds: f64) -> Instant {
        start + Duration::from_secs_f64(seconds)
    }

    #[test]
    fn sessions_finish_are_told_told_again_and_killed() {
        let start = Instant::now();
        let mut plan = EndingPlan::begin(start, DRAIN, false);
        assert_eq!((plan.next(), plan.due(after(start, 59.9))), (after(start, 60.0), None));
        assert_eq!(plan.due(after(start, 60.0)), Some(Step::Tell));
        assert_eq!(plan.due(after(start, 60.0)), None);
        assert_eq!(plan.due(after(start, 72.5)), Some(Step::TellAgain));
        assert_eq!(plan.due(after(start, 72.9)), None);
        assert_eq!(plan.due(after(start, 73.0)), Some(Step::Kill));
        assert_eq!(plan.due(after(start, 73.5)), None);
        assert_eq!(plan.due(plan.next()), Some(Step::Kill));
    }

    #[test]
    fn a_second_signal_tells_at_once_and_a_third_tells_again_without_delay() {
        let start = Instant::now();
        let mut plan = EndingPlan::begin(start, DRAIN, false);
        plan.hurry(after(start, 1.0), false);
        assert_eq!(plan.due(after(start, 1.0)), Some(Step::Tell));
        plan.hurry(after(start, 5.0), false);
        assert_eq!(plan.due(after(start, 5.0)), Some(Step::TellAgain));
        plan.hurry(after(start, 13.9), false);
        assert_eq!(plan.due(after(start, 13.9)), Some(Step::TellAgain));
        assert_eq!((plan.next(), plan.due(after(start, 14.0))), (after(start, 14.0), Some(Step::Kill)));
    }

    #[test]
    fn a_hangup_leaves_two_seconds_whenever_it_comes() {
        let start = Instant::now();
        let mut plan = EndingPlan::begin(start, DRAIN, true);
        assert_eq!(plan.due(start), Some(Step::Tell));
        assert_eq!(plan.due(after(start, 1.5)), Some(Step::TellAgain));
        assert_eq!(plan.due(after(start, 2.0)), Some(Step::Kill));

        let mut draining = EndingPlan::begin(start, DRAIN, false);
        draining.hurry(after(start, 10.0), true);
        assert_eq!(draining.due(after(start, 10.0)), Some(Step::Tell));
        assert_eq!(draining.due(after(start, 11.5)), Some(Step::TellAgain));
        assert_eq!(draining.due(after(start, 12.0)), Some(Step::Kill));

        let mut told = EndingPlan::begin(start, Duration::ZERO, false);
        assert_eq!(told.due(start), Some(Step::Tell));
        told.hurry(after(start, 1.0), true);
        assert_eq!(told.due(after(start, 1.0)), Some(Step::TellAgain));
        assert_eq!(told.next(), after(start, 3.0));
        assert_eq!(told.due(after(start, 3.0)), Some(Step::Kill));
    }
}
