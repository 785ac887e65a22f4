//! Connections that are refused: the first of each kind in a minute are told singly, those after them are counted and
//! told together, so that a storm leaves a readable log.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use proxylink::situation::Situation;

const MINUTE: Duration = Duration::from_secs(60);
/// Lines of one situation in a minute.
const TOLD_SINGLY: u64 = 20;

/// What is to be told.
#[derive(Debug, PartialEq, Eq)]
pub struct Line {
    /// What happened.
    pub situation: Situation,
    /// By whom and why; or how often, and by whom last.
    pub text: String,
    /// The last peer.
    pub peer: SocketAddr,
}

#[derive(Debug)]
struct Count {
    since: Instant,
    told: u64,
    untold: u64,
    last: SocketAddr,
}

/// Counts of refused connections, by situation.
#[derive(Debug, Default)]
pub struct Tally {
    counts: HashMap<Situation, Count>,
}

impl Tally {
    /// Counts a refusal; the line for the log unless there were many already.
    pub fn refused(&mut self, situation: Situation, reason: &str, peer: SocketAddr, now: Instant) -> Option<Line> {
        let count = self.counts.entry(situation).or_insert(Count { since: now, told: 0, untold: 0, last: peer });
        count.last = peer;
        if count.told < TOLD_SINGLY {
            count.told += 1;
            return Some(Line { situation, text: format!("peer={peer}: {reason}"), peer });
        }
        count.untold += 1;
        None
    }

    /// The lines about what was not told singly, when its minute is over.
    pub fn due(&mut self, now: Instant) -> Vec<Line> {
        let mut lines = Vec::new();
        self.counts.retain(|&situation, count| {
            if now.duration_since(count.since) < MINUTE {
                return true;
            }
            if count.untold > 0 {
                let text = format!("{} more in the last minute; the last was peer={}", count.untold, count.last);
                lines.push(Line { situation, text, peer: count.last });
            }
            false
        });
        lines
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
}
