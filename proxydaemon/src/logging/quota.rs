//! How many records a process may log: so many at once, and then so many a second.
//!
//! Each child keeps to its own quota, and counts what goes beyond. The gate holds every child to a larger one: who exceeds
//! that is none of ours any more, and would keep the others from being heard.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use nix::unistd::Pid;

/// A quota.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rate {
    per_second: u32,
    at_once: u32,
}

/// What a child allows itself. At level DEBUG a busy session would log each of its messages.
pub(super) const OF_CHILD: Rate = Rate { per_second: 500, at_once: 2000 };

/// What the gate takes from one child: as much again, and all that the socket may hold when the gate was busy.
pub(super) const OF_GATE: Rate = Rate { per_second: 1000, at_once: 8000 };

/// Processes whose use is remembered before those that have none left to pay are forgotten.
const REMEMBERED: usize = 256;

/// What was used of a quota.
#[derive(Debug, Default)]
pub(super) struct Used {
    /// When all that was taken will have been paid at the rate.
    paid_at: Option<Instant>,
}

impl Used {
    /// Takes one; whether there was one left.
    pub(super) fn take(&mut self, rate: Rate, now: Instant) -> bool {
        let each = Duration::from_secs(1) / rate.per_second;
        let paid_at = self.paid_at.map_or(now, |at| at.max(now)) + each;
        if paid_at - now > each * rate.at_once {
            return false;
        }
        self.paid_at = Some(paid_at);
        true
    }

    fn is_paid(&self, now: Instant) -> bool {
        self.paid_at.is_none_or(|at| at <= now)
    }
}

/// What each child has used of the gate's quota, and what was dropped of it.
#[derive(Debug, Default)]
pub(super) struct Children {
    used: HashMap<Pid, (Used, u64)>,
    /// Of how many records were dropped.
    dropping: usize,
    forget_at: usize,
}

/// What becomes of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Take,
    /// It is the first beyond the quota.
    First,
    /// Another one, which is counted.
    Drop,
}

impl Children {
    /// Judges one record of a child.
    pub(super) fn judge(&mut self, pid: Pid, now: Instant) -> Verdict {
        if self.used.len() >= self.forget_at.max(REMEMBERED) {
            self.used.retain(|_, (used, dropped)| *dropped > 0 || !used.is_paid(now));
            self.forget_at = self.used.len() * 2;
        }
        let (used, dropped) = self.used.entry(pid).or_default();
        if *dropped == 0 && used.take(OF_GATE, now) {
            return Verdict::Take;
        }
        *dropped += 1;
        if *dropped > 1 {
            return Verdict::Drop;
        }
        self.dropping += 1;
        Verdict::First
    }

    /// A child of which records were dropped, and how many: each once.
    pub(super) fn dropped(&mut self) -> Option<(Pid, u64)> {
        if self.dropping == 0 {
            return None;
        }
        self.dropping -= 1;
        let (pid, (_, dropped)) = self.used.iter_mut().find(|(_, (_, dropped))| *dropped > 0)?;
        Some((*pid, std::mem::take(dropped)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate { per_second: 10, at_once: 3 };

    fn taken(used: &mut Used, times: u32, now: Instant) -> usize {
        (0..times).filter(|_| used.take(RATE, now)).count()
    }

    #[test]
    fn so_many_at_once_and_then_so_many_a_second() {
        let (mut used, start) = (Used::default(), Instant::now());
        assert_eq!(taken(&mut used, 10, start), 3);
        assert_eq!(taken(&mut used, 10, start + Duration::from_millis(100)), 1);
        assert_eq!(taken(&mut used, 10, start + Duration::from_millis(300)), 2);
        // Who was silent gains no more than at the start.
        assert_eq!(taken(&mut used, 10, start + Duration::from_secs(60)), 3);
        assert!(!used.is_paid(start + Duration::from_secs(60)) && used.is_paid(start + Duration::from_secs(61)));
    }

    #[test]
    fn one_child_has_no_part_in_the_quota_of_another() {
        let (mut children, now) = (Children::default(), Instant::now());
        let (noisy, quiet) = (Pid::from_raw(1), Pid::from_raw(2));
        let verdicts: Vec<Verdict> = (0..8010).map(|_| children.judge(noisy, now)).collect();
        assert!(verdicts[..8000].iter().all(|verdict| *verdict == Verdict::Take));
        assert_eq!((verdicts[8000], verdicts[8001]), (Verdict::First, Verdict::Drop));
        assert_eq!(children.judge(quiet, now), Verdict::Take);
        assert_eq!((children.dropped(), children.dropped()), (Some((noisy, 10)), None));
        assert_eq!(children.judge(noisy, now), Verdict::First);
    }

    #[test]
    fn children_that_are_gone_are_forgotten() {
        let (mut children, start) = (Children::default(), Instant::now());
        for number in 1..100_000 {
            let now = start + Duration::from_millis(u64::try_from(number).unwrap());
            assert_eq!(children.judge(Pid::from_raw(number), now), Verdict::Take);
        }
        assert!(children.used.len() <= 2 * REMEMBERED, "{}", children.used.len());
    }
}
