//! Connections refused at the door: the first is told at once, those after it are counted and told once a minute, so that
//! a storm leaves a readable log.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use proxylink::situation::Situation;

const TOLD_EVERY: Duration = Duration::from_secs(60);

/// What is to be told.
#[derive(Debug, PartialEq, Eq)]
pub struct Line {
    /// What happened.
    pub situation: Situation,
    /// How often, and by whom last.
    pub text: String,
    /// The last peer.
    pub peer: SocketAddr,
}

#[derive(Debug)]
struct Count {
    since: Instant,
    untold: u64,
    last: SocketAddr,
}

/// Counts of refused connections, by situation and reason.
#[derive(Debug, Default)]
pub struct Tally {
    counts: HashMap<(Situation, &'static str), Count>,
}

impl Tally {
    /// Counts a refusal; the line for the log when it is time for one.
    pub fn refused(
        &mut self,
        situation: Situation,
        reason: &'static str,
        peer: SocketAddr,
        now: Instant,
    ) -> Option<Line> {
        match self.counts.get_mut(&(situation, reason)) {
            None => {
                self.counts.insert((situation, reason), Count { since: now, untold: 0, last: peer });
                Some(Line { situation, text: format!("peer={peer}: {reason}"), peer })
            }
            Some(count) => {
                count.untold += 1;
                count.last = peer;
                None
            }
        }
    }

    /// The lines that are due, at a minute's distance from the one before.
    pub fn due(&mut self, now: Instant) -> Vec<Line> {
        let mut lines = Vec::new();
        self.counts.retain(|&(situation, reason), count| {
            if now.duration_since(count.since) < TOLD_EVERY {
                return true;
            }
            if count.untold == 0 {
                return false;
            }
            let text = format!("peer={}: {reason}; {} more in the last minute", count.last, count.untold);
            lines.push(Line { situation, text, peer: count.last });
            *count = Count { since: now, untold: 0, last: count.last };
            true
        });
        lines
    }

    /// When the next line may be due.
    pub fn next_due(&self) -> Option<Instant> {
        self.counts.values().map(|count| count.since + TOLD_EVERY).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_storm_gives_one_line_a_minute() {
        let mut tally = Tally::default();
        let (peer, start) = ("192.0.2.1:1".parse().unwrap(), Instant::now());
        let refuse = |tally: &mut Tally| tally.refused(Situation::LimitReached, "max_sessions", peer, start);
        assert!(refuse(&mut tally).is_some());
        for _ in 0..10_000 {
            assert_eq!(refuse(&mut tally), None);
        }
        assert_eq!(tally.due(start + Duration::from_secs(59)), []);
        let lines = tally.due(start + Duration::from_secs(60));
        assert_eq!(lines.len(), 1);
        assert!(lines[0].text.contains("10000 more"), "{}", lines[0].text);
        assert_eq!(tally.due(start + Duration::from_secs(121)), []);
        assert_eq!(tally.next_due(), None);
    }
}
