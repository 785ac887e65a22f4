//! Children that have to be over by a certain time: those that are not are ended by force.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::time::{Duration, Instant};

/// Who has to be over, and when: as many as there are children.
#[derive(Debug)]
pub struct Overdue<T> {
    by_time: BTreeMap<(Instant, u64), T>,
    by_name: HashMap<T, (Instant, u64)>,
    next: u64,
}

impl<T> Default for Overdue<T> {
    fn default() -> Self {
        Self { by_time: BTreeMap::new(), by_name: HashMap::new(), next: 0 }
    }
}

impl<T: Copy + Eq + Hash> Overdue<T> {
    /// This one has to be over by then; the first word counts.
    pub fn expect(&mut self, who: T, by: Instant) {
        self.next += 1;
        let place = (by, self.next);
        if let std::collections::hash_map::Entry::Vacant(entry) = self.by_name.entry(who) {
            entry.insert(place);
            self.by_time.insert(place, who);
        }
    }

    /// It is over, or may go on.
    pub fn forget(&mut self, who: T) {
        if let Some(place) = self.by_name.remove(&who) {
            self.by_time.remove(&place);
        }
    }

    /// Who is awaited, and for how long still; for a gate that executes itself anew.
    pub fn remaining(&self, now: Instant) -> Vec<(T, Duration)> {
        self.by_time.iter().map(|((by, _), who)| (*who, by.saturating_duration_since(now))).collect()
    }

    /// Those whom a gate before this one awaited.
    pub fn take_over(remaining: Vec<(T, Duration)>, now: Instant) -> Self {
        let mut overdue = Self::default();
        for (who, left) in remaining {
            // Whoever has longer than the clock can tell is not awaited.
            if let Some(by) = now.checked_add(left) {
                overdue.expect(who, by);
            }
        }
        overdue
    }

    /// Whose time has come.
    pub fn due(&mut self, now: Instant) -> Option<T> {
        let first = self.by_time.first_entry().filter(|first| first.key().0 <= now)?;
        let who = first.remove();
        self.by_name.remove(&who);
        Some(who)
    }

    /// When somebody's time comes next.
    pub fn next(&self) -> Option<Instant> {
        self.by_time.first_key_value().map(|((by, _), _)| *by)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_comes_up_once_when_its_time_has_come() {
        let (mut overdue, start) = (Overdue::default(), Instant::now());
        let after = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(overdue.next(), None);
        for (who, by) in [("two", 2), ("one", 1), ("one", 9), ("also", 2), ("never", 3)] {
            overdue.expect(who, after(by));
        }
        overdue.forget("never");
        assert_eq!((overdue.next(), overdue.due(start)), (Some(after(1)), None));
        let all: Vec<_> = std::iter::from_fn(|| overdue.due(after(5))).collect();
        assert_eq!(all, ["one", "two", "also"]);
        overdue.expect("one", after(6));
        assert_eq!((overdue.due(after(5)), overdue.due(after(6)), overdue.next()), (None, Some("one"), None));
        assert!(overdue.by_name.is_empty() && overdue.by_time.is_empty());
    }

    #[test]
    fn who_is_taken_over_keeps_the_time_that_was_left() {
        let (mut before, start) = (Overdue::default(), Instant::now());
        let after = |seconds| start + Duration::from_secs(seconds);
        for (who, by) in [("late", 20), ("soon", 11), ("past", 5)] {
            before.expect(who, after(by));
        }
        let left = before.remaining(after(10));
        assert_eq!(left, [("past", 0), ("soon", 1), ("late", 10)].map(|(who, left)| (who, Duration::from_secs(left))));
        // Whatever the time was there.
        let mut taken = Overdue::take_over(left, after(1000));
        let due =
            |overdue: &mut Overdue<&'static str>, at| std::iter::from_fn(|| overdue.due(after(at))).collect::<Vec<_>>();
        assert_eq!((due(&mut taken, 1000), due(&mut taken, 1009)), (vec!["past"], vec!["soon"]));
        taken.forget("late");
        assert_eq!(taken.next(), None);
    }
}
