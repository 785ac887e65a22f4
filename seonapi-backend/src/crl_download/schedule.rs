//! When a CRL is fetched next.

use super::Good;

/// Longest pause after a failure, in seconds.
const LONGEST_PAUSE: u64 = 3600;
/// The same for told points that never brought a good CRL, in seconds. Nobody waits for most of them, and certificates can
/// name any number.
const LONGEST_PAUSE_IN_VAIN: u64 = 86_400;
/// Pause after the first failure, and the least between two tries of a CRL that ends soon, in seconds.
const SHORTEST_PAUSE: u64 = 60;
/// The same for told points that brought a good CRL, in seconds. With each new CRL every proxy compiles all of its CRLs
/// anew: a CA whose CRLs live for minutes must not have that done each minute.
const SHORTEST_PAUSE_TOLD: u64 = 600;

/// What came of a distribution point so far. Times are seconds since 1970 (UTC).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Download {
    /// The distribution point.
    pub url: String,
    /// The last try.
    pub tried: u64,
    /// Tries since the last good one.
    pub failures: u64,
    /// Why the last try brought nothing.
    pub trouble: Option<String>,
    /// The last good CRL.
    pub crl: Option<Good>,
}

/// When the next try is due: `every` so many seconds, earlier before nextUpdate, and after failures in growing pauses. These
/// are no longer than `every`, but for told points that never brought a good CRL. The administrator who named a point
/// in the configuration waits for it, and has perhaps just made it reachable.
pub fn due(last: Option<&Download>, configured: bool, every: u64) -> u64 {
    let Some(last) = last else { return 0 };
    let shortest = if configured { SHORTEST_PAUSE } else { SHORTEST_PAUSE_TOLD };
    if last.failures > 0 {
        let doubled = SHORTEST_PAUSE << (last.failures - 1).min(11);
        let pause = match (&last.crl, configured) {
            (None, false) => doubled.min(LONGEST_PAUSE_IN_VAIN),
            (None, true) => doubled.min(LONGEST_PAUSE).min(every),
            (Some(_), _) => doubled.clamp(shortest, LONGEST_PAUSE).min(every),
        };
        return last.tried + pause;
    }
    let ends = last.crl.as_ref().map_or(u64::MAX, |crl| {
        // A tenth of its life is time enough to try again where it fails.
        let early = (crl.next_update.saturating_sub(crl.this_update) / 10).min(LONGEST_PAUSE);
        crl.next_update.saturating_sub(early).max(last.tried + shortest)
    });
    (last.tried + every).min(ends)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3600;
    const DAY: u64 = 24 * HOUR;

    fn good(this_update: u64, next_update: u64) -> Option<Good> {
        let sha256 = seonapi_client::Fingerprint::of(b"CRL");
        Some(Good { sha256, issuer: "CN=CA".to_owned(), this_update, next_update, proven: true })
    }

    fn last(tried: u64, failures: u64, crl: Option<Good>) -> Download {
        Download { url: "http://crl.example/1".to_owned(), tried, failures, trouble: None, crl }
    }

    #[test]
    fn a_new_one_is_fetched_at_once_and_then_again_and_again() {
        for configured in [true, false] {
            assert_eq!(due(None, configured, DAY), 0);
            let last = last(1000 * DAY, 0, good(999 * DAY, 1100 * DAY));
            assert_eq!(due(Some(&last), configured, DAY), 1001 * DAY);
            assert_eq!(due(Some(&last), configured, 1), 1000 * DAY + 1, "as the configuration says");
        }
    }

    #[test]
    fn it_is_fetched_before_its_next_update() {
        let due = |this_update, next_update, configured, every| {
            due(Some(&last(1000 * DAY, 0, good(this_update, next_update))), configured, every) - 1000 * DAY
        };
        for configured in [true, false] {
            assert_eq!(due(990 * DAY, 1000 * DAY + 5 * HOUR, configured, DAY), 4 * HOUR);
            // One that lives for an hour: six minutes before.
            assert_eq!(due(1000 * DAY, 1000 * DAY + HOUR, configured, DAY), 3240);
        }
        // One that stays what it is until its end, or lives for minutes, is not asked for all the time; and what came of a
        // certificate does not have the proxies compile all CRLs each minute.
        for (configured, least) in [(true, 60), (false, 600)] {
            assert_eq!(due(990 * DAY, 1000 * DAY + 5, configured, DAY), least);
            assert_eq!(due(1000 * DAY, 1000 * DAY + 50, configured, DAY), least);
            assert_eq!(due(1000 * DAY, 1000 * DAY + 50, configured, 10), 10, "as the configuration says");
        }
    }

    #[test]
    fn after_failures_the_pauses_grow() {
        let pauses = |configured: bool, crl: Option<Good>| -> Vec<u64> {
            let pause = |failures| due(Some(&last(DAY, failures, crl.clone())), configured, DAY) - DAY;
            [1, 2, 3, 4, 5, 6, 7, 11, 12, u64::MAX].into_iter().map(pause).collect()
        };
        let (some, none) = (good(0, 2 * DAY), None);
        assert_eq!(pauses(true, none.clone()), [60, 120, 240, 480, 960, 1920, 3600, 3600, 3600, 3600]);
        assert_eq!(pauses(true, some.clone()), [60, 120, 240, 480, 960, 1920, 3600, 3600, 3600, 3600]);
        assert_eq!(pauses(false, some.clone()), [600, 600, 600, 600, 960, 1920, 3600, 3600, 3600, 3600]);
        assert_eq!(pauses(false, none.clone()), [60, 120, 240, 480, 960, 1920, 3840, 61_440, DAY, DAY]);
        // Never more rarely than when all is well, but for what nobody knows to be there.
        for (configured, crl, pause) in [(true, &none, 10), (true, &some, 10), (false, &some, 10), (false, &none, DAY)]
        {
            assert_eq!(due(Some(&last(DAY, u64::MAX, crl.clone())), configured, 10), DAY + pause);
        }
    }
}
