//! When a CRL is fetched next.

use super::Good;

/// Longest pause after a failure, in seconds.
const LONGEST_PAUSE: u64 = 3600;
/// Pause after the first failure, and the least between two tries of a CRL that ends soon, in seconds.
const SHORTEST_PAUSE: u64 = 60;

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

/// When the next try is due: `every` so many seconds, earlier before nextUpdate, and after failures in growing pauses.
pub fn due(last: Option<&Download>, every: u64) -> u64 {
    let Some(last) = last else { return 0 };
    if last.failures > 0 {
        let doubled = SHORTEST_PAUSE << (last.failures - 1).min(10);
        return last.tried + doubled.min(LONGEST_PAUSE).min(every);
    }
    let ends = last.crl.as_ref().map_or(u64::MAX, |crl| {
        // A tenth of its life is time enough to try again where it fails.
        let early = (crl.next_update.saturating_sub(crl.this_update) / 10).min(LONGEST_PAUSE);
        crl.next_update.saturating_sub(early).max(last.tried + SHORTEST_PAUSE)
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
        assert_eq!(due(None, DAY), 0);
        assert_eq!(due(Some(&last(1000 * DAY, 0, good(999 * DAY, 1100 * DAY))), DAY), 1001 * DAY);
        assert_eq!(due(Some(&last(1000 * DAY, 0, good(999 * DAY, 1100 * DAY))), 1), 1000 * DAY + 1);
    }

    #[test]
    fn it_is_fetched_before_its_next_update() {
        let next_update = 1000 * DAY + 5 * HOUR;
        assert_eq!(due(Some(&last(1000 * DAY, 0, good(990 * DAY, next_update))), DAY), next_update - HOUR);
        // One that lives for an hour: six minutes before.
        assert_eq!(due(Some(&last(1000 * DAY, 0, good(1000 * DAY, 1000 * DAY + HOUR))), DAY), 1000 * DAY + 3240);
        // One that stays what it is until its end is not asked for all the time.
        assert_eq!(due(Some(&last(1000 * DAY, 0, good(990 * DAY, 1000 * DAY + 5))), DAY), 1000 * DAY + 60);
    }

    #[test]
    fn after_failures_the_pauses_grow_to_an_hour() {
        let pauses: Vec<_> = (1..=9).map(|failures| due(Some(&last(DAY, failures, None)), DAY) - DAY).collect();
        assert_eq!(pauses, [60, 120, 240, 480, 960, 1920, 3600, 3600, 3600]);
        assert_eq!(due(Some(&last(DAY, u64::MAX, None)), 10), DAY + 10, "never more rarely than when all is well");
    }
}
