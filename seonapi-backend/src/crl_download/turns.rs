//! Which of the distribution points that are due are fetched from now. One partner's certificates can name many places
//! that are slow or dead: they must not keep the others waiting.

use reqwest::Url;

use super::Point;
use super::schedule::due;

/// Downloads at once from points that the configuration names; told ones never take these places.
const CONFIGURED: usize = 2;
/// Downloads at once from all others.
const TOLD: usize = 4;
/// How many of those may be from points that brought no good CRL so far, whatever their number.
const UNTRIED: usize = 2;

/// A download that runs, as far as others have to wait for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnderWay {
    host: String,
    place: Place,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Configured,
    Told { brought_some: bool },
}

/// The points to fetch from now, beside those `under_way`: configured ones first, then those that wait longest. Points that
/// wait equally long stay in their order.
pub fn next(points: Vec<Point>, under_way: &[UnderWay], every: u64, now: u64) -> Vec<(Point, UnderWay)> {
    let due = |point: &Point| due(point.last.as_ref(), point.named_by.is_configured(), every);
    let mut waiting: Vec<_> = points.into_iter().filter(|point| due(point) <= now).collect();
    waiting.sort_by_key(|point| (!point.named_by.is_configured(), due(point)));
    let mut busy = under_way.to_vec();
    let mut next = Vec::new();
    for point in waiting {
        let turn = UnderWay::of(&point);
        if turn.has_room(&busy) {
            busy.push(turn.clone());
            next.push((point, turn));
        }
    }
    next
}

impl UnderWay {
    fn of(point: &Point) -> Self {
        let brought_some = point.last.as_ref().is_some_and(|last| last.crl.is_some());
        let place = if point.named_by.is_configured() { Place::Configured } else { Place::Told { brought_some } };
        Self { host: host(&point.url), place }
    }

    fn has_room(&self, busy: &[Self]) -> bool {
        let number = |is: fn(Place) -> bool| busy.iter().filter(|other| is(other.place)).count();
        let room = match self.place {
            Place::Configured => number(|place| place == Place::Configured) < CONFIGURED,
            Place::Told { brought_some } => {
                number(|place| matches!(place, Place::Told { .. })) < TOLD
                    && (brought_some || number(|place| place == Place::Told { brought_some: false }) < UNTRIED)
            }
        };
        room && busy.iter().all(|other| other.host != self.host)
    }
}

/// The host in a form that compares. What is no URL is a host of its own; it fails at once.
fn host(url: &str) -> String {
    let parsed = Url::parse(url);
    let host = parsed.as_ref().ok().and_then(Url::host_str);
    host.map_or_else(|| url.to_owned(), |host| host.trim_end_matches('.').to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::super::{Download, Good, NamedBy};
    use super::*;

    const NOW: u64 = 100_000_000;
    const HOUR: u64 = 3600;

    fn point(url: &str, configured: bool, last: Option<(u64, u64, bool)>) -> Point {
        let url = format!("http://{url}");
        let last = last.map(|(tried, failures, brought_some)| {
            let sha256 = seonapi_client::Fingerprint::of(b"CRL");
            let (this_update, next_update) = (0, 2 * NOW);
            let good = Good { sha256, issuer: "CN=CA".to_owned(), this_update, next_update, proven: true };
            Download { url: url.clone(), tried, failures, trouble: None, crl: brought_some.then_some(good) }
        });
        Point { url, named_by: NamedBy::of(configured, (!configured).then(|| "CN=CA".to_owned())), last }
    }

    fn new(url: &str) -> Point {
        point(url, false, None)
    }

    /// One that brought a CRL so long ago.
    fn good(url: &str, age: u64) -> Point {
        point(url, false, Some((NOW - age, 0, true)))
    }

    fn urls(next: &[(Point, UnderWay)]) -> Vec<&str> {
        next.iter().map(|(point, _)| point.url.trim_start_matches("http://")).collect()
    }

    fn chosen(points: Vec<Point>) -> String {
        urls(&next(points, &[], HOUR, NOW)).join(" ")
    }

    #[test]
    fn configured_points_come_first_and_have_places_of_their_own() {
        let configured = |url| point(url, true, None);
        let told = |host: &str| good(&format!("{host}/t"), 2 * HOUR);
        let points = vec![told("a"), told("b"), told("c"), told("d"), told("e"), configured("z"), configured("y")];
        assert_eq!(chosen(points), "z y a/t b/t c/t d/t");
        assert_eq!(chosen(vec![configured("z"), configured("y"), configured("x"), told("a")]), "z y a/t");
        // Those that run count.
        let running: Vec<_> = next(vec![told("a"), told("b"), told("c"), told("d")], &[], HOUR, NOW);
        let running: Vec<_> = running.into_iter().map(|(_, turn)| turn).collect();
        assert_eq!(urls(&next(vec![told("e"), configured("z")], &running, HOUR, NOW)), ["z"]);
        assert_eq!(urls(&next(vec![told("e"), configured("z")], &running[1..], HOUR, NOW)), ["z", "e/t"]);
    }

    #[test]
    fn of_told_points_the_longest_overdue_come_first_and_the_alphabet_does_not_count() {
        let points =
            vec![good("a", HOUR), good("b", 9 * HOUR), good("c", 2 * HOUR), good("d", HOUR), good("e", HOUR / 2)];
        assert_eq!(chosen(points), "b c a d");
        // Received in this order.
        assert_eq!(chosen(vec![new("z"), new("a"), new("k")]), "z a");
    }

    #[test]
    fn many_dead_places_leave_room_for_those_that_work() {
        let dead = |number: u64| point(&format!("dead{number}.example"), false, Some((NOW - 90 * HOUR, 3, false)));
        let mut points: Vec<_> = (0..990).map(dead).collect();
        points.extend((0..5).map(|number| new(&format!("new{number}.example"))));
        points.push(good("works.example", HOUR));
        assert_eq!(chosen(points), "new0.example new1.example works.example");
    }

    #[test]
    fn one_host_is_asked_for_one_crl_at_a_time() {
        let points =
            || vec![good("ca.example/1", HOUR), good("CA.example.:8080/2", 2 * HOUR), good("ca2.example/1", HOUR)];
        assert_eq!(chosen(points()), "CA.example.:8080/2 ca2.example/1");
        let running = next(vec![point("ca.example/3", true, None)], &[], HOUR, NOW).remove(0).1;
        assert_eq!(urls(&next(points(), &[running], HOUR, NOW)), ["ca2.example/1"]);
    }
}
