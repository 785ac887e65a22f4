//! Crashes of sessions, counted over an hour.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

const WITHIN: Duration = Duration::from_secs(3600);
/// The crashes of the last hour.
#[derive(Debug, Default)]
pub struct Crashes(VecDeque<Instant>);

impl Crashes {
    /// So many within the hour show that somebody is trying, and has learnt of the address layout.
    pub const TOO_MANY: usize = 5;

    /// One more; whether there are too many now.
    pub fn count(&mut self, now: Instant) -> bool {
        self.0.retain(|at| now.duration_since(*at) < WITHIN);
        self.0.push_back(now);
        self.0.len() >= Self::TOO_MANY
    }

    /// How long ago each of them was, for a gate that executes itself anew.
    pub fn ages(&self, now: Instant) -> Vec<Duration> {
        self.0.iter().map(|at| now.saturating_duration_since(*at)).collect()
    }

    /// What a gate before this one has counted. What is older than the clock is forgotten.
    pub fn take_over(ages: Vec<Duration>, now: Instant) -> Self {
        Self(ages.into_iter().filter_map(|age| now.checked_sub(age)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fifth_within_an_hour_is_too_many() {
        let (mut crashes, start) = (Crashes::default(), Instant::now());
        let minutes = |minutes: u64| start + Duration::from_secs(minutes * 60);
        let told: Vec<bool> = [0, 20, 40, 59, 60, 61].map(|at| crashes.count(minutes(at))).into();
        // The one at 0 is an hour old at 60.
        assert_eq!(told, [false, false, false, false, false, true]);
    }

    #[test]
    fn a_gate_that_takes_over_counts_on() {
        let (mut before, start) = (Crashes::default(), Instant::now() + WITHIN);
        let minutes = |minutes: u64| start + Duration::from_secs(minutes * 60);
        assert!([0, 1, 2, 3].map(|at| before.count(minutes(at))).iter().all(|too_many| !too_many));
        let mut after = Crashes::take_over(before.ages(minutes(4)), minutes(4));
        assert!(after.count(minutes(59)), "the fifth");
        let mut after = Crashes::take_over(before.ages(minutes(4)), minutes(4));
        assert!(!after.count(minutes(60)), "the first is an hour old");
    }
}
