//! Connections that are refused: the first of each kind in a minute are told singly, those after them are counted and
//! told together, so that a storm leaves a readable log.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::situation::Situation;

const MINUTE: Duration = Duration::from_secs(60);
/// Lines of one situation in a minute.
const TOLD_SINGLY: u64 = 20;
/// The same for what befalls no single peer and is tried again all the time.
const FAILURES_TOLD_SINGLY: u64 = 1;

/// What is to be told.
#[derive(Debug, PartialEq, Eq)]
pub struct Line {
    /// What happened.
    pub situation: Situation,
    /// By whom and why; or how often, and by whom last.
    pub text: String,
    /// The last peer; none when it befell no single one.
    pub peer: Option<SocketAddr>,
}

/// A count as a process tells it to the one that takes over.
#[derive(Debug, Serialize, Deserialize)]
pub struct Kept {
    situation: Situation,
    single: bool,
    age: Duration,
    told: u64,
    untold: u64,
    last: String,
    peer: Option<SocketAddr>,
}

#[derive(Debug)]
struct Count {
    since: Instant,
    told: u64,
    untold: u64,
    last: String,
    peer: Option<SocketAddr>,
}

/// Counts of refused connections, by situation and whether a single peer was refused.
#[derive(Debug, Default)]
pub struct Tally {
    counts: HashMap<(Situation, bool), Count>,
}

impl Tally {
    /// Counts a refusal; the line for the log unless there were many already.
    pub fn refused(&mut self, situation: Situation, reason: &str, peer: SocketAddr, now: Instant) -> Option<Line> {
        self.count(situation, Some(peer), format!("peer={peer}: {reason}"), now)
    }

    /// Counts a failure that keeps connections from coming in at all; the line for the log unless it was told already.
    pub fn failed(&mut self, situation: Situation, reason: &str, now: Instant) -> Option<Line> {
        self.count(situation, None, reason.to_owned(), now)
    }

    /// Counts what somebody can bring about as often as he likes; true while it may be told singly.
    pub fn counted(&mut self, situation: Situation, text: &str, now: Instant) -> bool {
        self.count_up_to(TOLD_SINGLY, situation, None, text.to_owned(), now).is_some()
    }

    fn count(&mut self, situation: Situation, peer: Option<SocketAddr>, text: String, now: Instant) -> Option<Line> {
        let singly = if peer.is_some() { TOLD_SINGLY } else { FAILURES_TOLD_SINGLY };
        self.count_up_to(singly, situation, peer, text, now)
    }

    fn count_up_to(
        &mut self,
        singly: u64,
        situation: Situation,
        peer: Option<SocketAddr>,
        text: String,
        now: Instant,
    ) -> Option<Line> {
        let none = Count { since: now, told: 0, untold: 0, last: String::new(), peer };
        let count = self.counts.entry((situation, peer.is_some())).or_insert(none);
        if count.told < singly {
            count.told += 1;
            return Some(Line { situation, text, peer });
        }
        count.untold += 1;
        count.last = text;
        count.peer = peer;
        None
    }

    /// The lines about what was not told singly, when its minute is over.
    pub fn due(&mut self, now: Instant) -> Vec<Line> {
        let mut lines = Vec::new();
        self.counts.retain(|&(situation, _), count| {
            if now.duration_since(count.since) < MINUTE {
                return true;
            }
            if count.untold > 0 {
                let text = format!("{} more in the last minute; the last was {}", count.untold, count.last);
                lines.push(Line { situation, text, peer: count.peer });
            }
            false
        });
        lines
    }

    /// For a process that executes itself anew: what was told, and what is still to be told.
    pub fn kept(&self, now: Instant) -> Vec<Kept> {
        let kept = |(&(situation, single), count): (&(Situation, bool), &Count)| Kept {
            situation,
            single,
            age: now.saturating_duration_since(count.since),
            told: count.told,
            untold: count.untold,
            last: count.last.clone(),
            peer: count.peer,
        };
        self.counts.iter().map(kept).collect()
    }

    /// What the process before this one has counted.
    pub fn take_over(kept: Vec<Kept>, now: Instant) -> Self {
        let count = |kept: Kept| {
            let Kept { situation, single, age, told, untold, last, peer } = kept;
            let since = now.checked_sub(age).unwrap_or(now);
            ((situation, single), Count { since, told, untold, last, peer })
        };
        Self { counts: kept.into_iter().map(count).collect() }
    }

    /// When the next line may be due.
    pub fn next_due(&self) -> Option<Instant> {
        self.counts.values().map(|count| count.since + MINUTE).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_storm_gives_a_few_lines_and_a_sum() {
        let mut tally = Tally::default();
        let (peer, start) = ("192.0.2.1:1".parse().unwrap(), Instant::now());
        let told = (0..10_020)
            .filter_map(|_| tally.refused(Situation::LimitReached, "max_sessions", peer, start))
            .inspect(|line| assert_eq!(line.text, "peer=192.0.2.1:1: max_sessions"))
            .count();
        assert_eq!(told, 20);
        assert_eq!(tally.due(start + Duration::from_secs(59)), []);
        let lines = tally.due(start + Duration::from_secs(60));
        assert_eq!(lines.len(), 1);
        assert!(lines[0].text.contains("10000 more"), "{}", lines[0].text);
        assert_eq!(tally.next_due(), None);
    }

    #[test]
    fn who_takes_over_tells_no_more_singly_and_all_that_is_untold() {
        let (mut before, peer, start) = (Tally::default(), "192.0.2.1:1".parse().unwrap(), Instant::now());
        for _ in 0..25 {
            before.refused(Situation::LimitReached, "max_sessions", peer, start);
        }
        let later = start + Duration::from_secs(40);
        let mut after = Tally::take_over(before.kept(later), later);
        assert_eq!(after.next_due(), Some(start + MINUTE));
        assert_eq!(after.refused(Situation::LimitReached, "max_sessions", peer, later), None);
        let lines = after.due(start + MINUTE);
        assert_eq!(lines.len(), 1);
        assert!(lines[0].text.starts_with("6 more") && lines[0].peer == Some(peer), "{lines:?}");
    }

    #[test]
    fn a_failure_that_lasts_is_told_with_its_cause_once_and_summed_up() {
        let (mut tally, start) = (Tally::default(), Instant::now());
        let cause = "no connection can be accepted: Too many open files (os error 24)";
        let told: Vec<_> = (0..300).filter_map(|_| tally.failed(Situation::LimitReached, cause, start)).collect();
        assert_eq!(told, [Line { situation: Situation::LimitReached, text: cause.to_owned(), peer: None }]);
        let peer = "192.0.2.1:1".parse().unwrap();
        assert!(tally.refused(Situation::LimitReached, "max_sessions", peer, start).is_some());
        let sums = tally.due(start + MINUTE);
        assert_eq!(sums.len(), 1);
        assert!(sums[0].text.starts_with("299 more") && sums[0].text.ends_with(cause), "{}", sums[0].text);
    }
}
