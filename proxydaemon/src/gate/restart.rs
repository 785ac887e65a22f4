//! When a role that died is started anew.

use std::time::{Duration, Instant};

const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// For a role that cannot do its work as long as an administrator does nothing.
const LONGEST_PAUSE_UNUSABLE: Duration = Duration::from_secs(60);
/// A role that lived as long is taken to be well.
const WELL_AFTER: Duration = Duration::from_secs(30);

/// The pauses before a role is started again: each twice as long as the one before, until it has been well.
#[derive(Debug)]
pub struct RoleRestart {
    at: Option<Instant>,
    pause: Duration,
    unusable: bool,
}

impl Default for RoleRestart {
    fn default() -> Self {
        Self { at: None, pause: FIRST_PAUSE, unusable: false }
    }
}

impl RoleRestart {
    /// The role died, having lived so long; it is due again after the pause.
    pub fn died(&mut self, lived: Duration, now: Instant) {
        if lived >= WELL_AFTER {
            self.well();
        }
        self.unusable = false;
        self.plan(now, LONGEST_PAUSE);
    }

    /// It could not be started at all.
    pub fn not_started(&mut self, now: Instant) {
        self.plan(now, LONGEST_PAUSE);
    }

    /// It ended because it cannot work as things are (no licence, a refused token), which only an administrator changes.
    /// Whether this is the first time in a row, and to be told.
    pub fn unusable(&mut self, lived: Duration, now: Instant) -> bool {
        if lived >= WELL_AFTER {
            self.well();
        }
        self.plan(now, LONGEST_PAUSE_UNUSABLE);
        !std::mem::replace(&mut self.unusable, true)
    }

    /// The role does its work: the next pause is a short one, and what is wrong then is told.
    pub fn well(&mut self) {
        self.pause = FIRST_PAUSE;
        self.unusable = false;
    }

    /// Whether the last one ended as unusable, which was told.
    pub fn is_unusable(&self) -> bool {
        self.unusable
    }

    /// It is not started again.
    pub fn cancel(&mut self) {
        self.at = None;
    }

    /// Whether it is to be started now; `true` once.
    pub fn due(&mut self, now: Instant) -> bool {
        let due = self.at.is_some_and(|at| at <= now);
        if due {
            self.at = None;
        }
        due
    }

    /// The next pause, and whether the last one ended as unusable; for a gate that executes itself anew while the role runs.
    pub fn kept(&self) -> (Duration, bool) {
        (self.pause, self.unusable)
    }

    /// As a gate before this one had it, while the role runs.
    pub fn take_over((pause, unusable): (Duration, bool)) -> Self {
        Self { at: None, pause: pause.clamp(FIRST_PAUSE, LONGEST_PAUSE_UNUSABLE), unusable }
    }

    /// When it is to be started.
    pub fn next(&self) -> Option<Instant> {
        self.at
    }

    fn plan(&mut self, now: Instant, longest: Duration) {
        let pause = self.pause.min(longest);
        self.at = Some(now + pause);
        self.pause = (pause * 2).min(longest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pauses(restart: &mut RoleRestart, how_often: u32, end: impl Fn(&mut RoleRestart, Instant)) -> Vec<u128> {
        let now = Instant::now();
        let mut pause = || {
            end(restart, now);
            restart.next().unwrap().duration_since(now).as_millis()
        };
        (0..how_often).map(|_| pause()).collect()
    }

    #[test]
    fn pauses_grow_to_ten_seconds_and_shrink_once_it_was_well() {
        let mut restart = RoleRestart::default();
        let died = |restart: &mut RoleRestart, now| restart.died(Duration::from_secs(1), now);
        assert_eq!(pauses(&mut restart, 8, died), [200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]);
        let lived = |restart: &mut RoleRestart, now| restart.died(Duration::from_secs(30), now);
        assert_eq!(pauses(&mut restart, 1, lived), [200]);
    }

    #[test]
    fn what_only_an_administrator_mends_is_told_once_and_tried_each_minute() {
        let mut restart = RoleRestart::default();
        let now = Instant::now();
        assert!(restart.unusable(Duration::ZERO, now));
        assert!(!restart.unusable(Duration::ZERO, now));
        let unusable = |restart: &mut RoleRestart, now| assert!(!restart.unusable(Duration::ZERO, now));
        assert_eq!(pauses(&mut restart, 9, unusable).last(), Some(&60_000));
        // Mended meanwhile: it worked, and what is wrong now is told.
        assert!(restart.unusable(Duration::from_secs(30), now));
        assert_eq!(restart.next(), Some(now + Duration::from_millis(200)));
    }

    #[test]
    fn a_gate_that_takes_over_goes_on_with_the_same_pauses() {
        let (mut before, now) = (RoleRestart::default(), Instant::now());
        let died = |restart: &mut RoleRestart, now| restart.died(Duration::from_secs(1), now);
        assert_eq!(pauses(&mut before, 3, died), [200, 400, 800]);
        assert_eq!(pauses(&mut RoleRestart::take_over(before.kept()), 1, died), [1600]);
        assert!(before.unusable(Duration::from_secs(1), now));
        let mut after = RoleRestart::take_over(before.kept());
        assert!(after.is_unusable() && !after.unusable(Duration::from_secs(1), now));
        assert_eq!(RoleRestart::take_over((Duration::MAX, false)).kept().0, LONGEST_PAUSE_UNUSABLE);
    }

    #[test]
    fn it_is_due_once() {
        let mut restart = RoleRestart::default();
        let now = Instant::now();
        assert!(!restart.due(now));
        restart.not_started(now);
        assert!(!restart.due(now));
        let then = restart.next().unwrap();
        assert!(restart.due(then));
        assert!(!restart.due(then));
        restart.not_started(now);
        restart.cancel();
        assert_eq!(restart.next(), None);
    }
}
