//! The CRLs at hand. Each is fetched once; together they have a bound in number and octets, beyond which single ones are left
//! out, the last of the list. A configuration does not wait for them for long, and what earlier ones had stays until all of the new
//! one are there, or a quarter of an hour, or its room is needed: so that nothing that was revoked is forgotten in between.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use proxylink::snapshot::{LARGEST_CRLS, MOST_CRLS};
use seonapi_client::Fingerprint;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, timeout_at};

use super::in_force::Crls;

/// CRLs that are asked for at the same time.
const AT_ONCE: usize = 4;
/// How long a CRL stays that is not named any more, where some that are do not come.
const GRACE: Duration = Duration::from_secs(15 * 60);

/// What all CRLs together may be. The DMZ takes no more; it would end the link as if it were attacked.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    number: usize,
    octets: usize,
}

/// What came of asking for one.
type Fetched = (Fingerprint, Result<Vec<u8>, String>);

/// CRLs at hand, and those that are on their way.
pub struct CrlStore {
    bounds: Bounds,
    /// Those that the configuration names, in its order, as many as there may be.
    named: Vec<Fingerprint>,
    at_hand: HashMap<Fingerprint, Arc<Vec<u8>>>,
    /// Named, and not to be had at the last try. Each is told once.
    missing: HashSet<Fingerprint>,
    /// How often each of those was asked for in vain: who was not comes first.
    in_vain: HashMap<Fingerprint, u32>,
    /// Named, and without room. Not asked for again as long as the configuration names the same.
    no_room: HashSet<Fingerprint>,
    /// At hand, and not named any more; until when they stay.
    former: HashMap<Fingerprint, Instant>,
    /// Those that are being fetched go on from one question to the next.
    fetching: JoinSet<Fetched>,
    under_way: HashSet<Fingerprint>,
}

impl CrlStore {
    /// None yet.
    pub fn new() -> Self {
        Self::within(Bounds { number: MOST_CRLS, octets: LARGEST_CRLS })
    }

    fn within(bounds: Bounds) -> Self {
        Self {
            bounds,
            named: Vec::new(),
            at_hand: HashMap::new(),
            missing: HashSet::new(),
            in_vain: HashMap::new(),
            no_room: HashSet::new(),
            former: HashMap::new(),
            fetching: JoinSet::new(),
            under_way: HashSet::new(),
        }
    }

    /// Takes note of what a configuration names. What is to be told of it comes back.
    pub fn name(&mut self, crls: &[Fingerprint]) -> Option<String> {
        let mut seen = HashSet::new();
        let mut named: Vec<_> = crls.iter().filter(|hash| seen.insert(**hash)).copied().collect();
        let beyond = named.len().saturating_sub(self.bounds.number);
        named.truncate(self.bounds.number);
        if named == self.named {
            return None;
        }
        self.missing.retain(|hash| named.contains(hash));
        self.in_vain.retain(|hash, _| named.contains(hash));
        self.no_room.clear();
        let until = Instant::now() + GRACE;
        for hash in self.at_hand.keys() {
            self.former.entry(*hash).or_insert(until);
        }
        self.former.retain(|hash, _| !named.contains(hash));
        self.named = named;
        let most = self.bounds.number;
        (beyond > 0).then(|| {
            format!("trust.crls names {} CRLs; {most} are the most, the last {beyond} are left out", most + beyond)
        })
    }

    /// Whether some of those that are named could still come.
    pub fn waits(&self) -> bool {
        self.named.iter().any(|hash| self.lacks(hash))
    }

    fn lacks(&self, hash: &Fingerprint) -> bool {
        !self.at_hand.contains_key(hash) && !self.no_room.contains(hash)
    }

    /// Fetches those that are lacking, a few at a time, for so long. Whether there are others than before; `tell` hears what
    /// is left out, each once.
    pub async fn fetch<F, E>(
        &mut self,
        within: Duration,
        ask: impl Fn(Fingerprint) -> F,
        mut tell: impl FnMut(String),
    ) -> bool
    where
        F: Future<Output = Result<Vec<u8>, E>> + Send + 'static,
        E: fmt::Display,
    {
        let until = Instant::now() + within;
        let mut changed = false;
        while let Some(ended) = self.fetching.try_join_next() {
            changed |= self.ended(ended, &mut tell);
        }
        let mut lacking: Vec<_> = self.named.iter().filter(|hash| self.lacks(hash)).copied().collect();
        lacking.sort_by_key(|hash| self.in_vain.get(hash).copied().unwrap_or(0));
        let mut next =
            lacking.iter().copied().filter(|hash| !self.under_way.contains(hash)).collect::<Vec<_>>().into_iter();
        loop {
            while self.under_way.len() < AT_ONCE
                && let Some(hash) = next.next()
            {
                let asked = ask(hash);
                self.under_way.insert(hash);
                self.fetching.spawn(async move { (hash, asked.await.map_err(|error| error.to_string())) });
            }
            // What an earlier configuration named may still be on its way; nobody waits for that but for its place.
            if next.len() == 0 && !lacking.iter().any(|hash| self.lacks(hash) && self.under_way.contains(hash)) {
                break;
            }
            match timeout_at(until, self.fetching.join_next()).await {
                Ok(Some(ended)) => changed |= self.ended(ended, &mut tell),
                Ok(None) => break,
                Err(_) => {
                    let late = lacking.iter().filter(|hash| self.lacks(hash)).copied().collect::<Vec<_>>();
                    for hash in late.into_iter().filter(|hash| self.missing.insert(*hash)) {
                        tell(format!("{hash}: it is not there after {} s; it is waited for", within.as_secs_f64()));
                    }
                    break;
                }
            }
        }
        let (now, waits) = (Instant::now(), self.waits());
        let before = self.former.len();
        self.former.retain(|_, until| waits && *until > now);
        if self.former.len() < before {
            self.at_hand.retain(|hash, _| self.named.contains(hash) || self.former.contains_key(hash));
            // There may be room now.
            self.no_room.clear();
            changed = true;
        }
        changed
    }

    /// A task has ended; whether its CRL is at hand now.
    fn ended(&mut self, ended: Result<Fetched, JoinError>, tell: &mut impl FnMut(String)) -> bool {
        match ended {
            Ok((hash, answer)) => {
                self.under_way.remove(&hash);
                self.answered(hash, answer, tell)
            }
            // Which one it was is not known any more: each is asked for again.
            Err(_) => {
                self.fetching = JoinSet::new();
                self.under_way.clear();
                false
            }
        }
    }

    /// Whether it is at hand now.
    fn answered(&mut self, hash: Fingerprint, answer: Result<Vec<u8>, String>, tell: &mut impl FnMut(String)) -> bool {
        let crl = match answer {
            Ok(crl) => crl,
            Err(error) => {
                *self.in_vain.entry(hash).or_default() += 1;
                if self.missing.insert(hash) {
                    tell(format!("{hash}: {error}; it is asked for again"));
                }
                return false;
            }
        };
        self.missing.remove(&hash);
        self.in_vain.remove(&hash);
        if !self.named.contains(&hash) {
            return false;
        }
        let Some(going) = self.in_the_way_of(&hash, crl.len()) else {
            self.leave_out(hash, crl.len(), tell);
            return false;
        };
        for other in going {
            let octets = self.at_hand.remove(&other).map_or(0, |crl| crl.len());
            if self.former.remove(&other).is_none() {
                self.leave_out(other, octets, tell);
            }
        }
        self.at_hand.insert(hash, Arc::new(crl));
        true
    }

    /// It is for its octets: there are no more names than places, and who is not named makes room.
    fn leave_out(&mut self, hash: Fingerprint, octets: usize, tell: &mut impl FnMut(String)) {
        self.no_room.insert(hash);
        let most = self.bounds.octets;
        tell(format!("{hash}: left out, as it has {octets} octets and all CRLs together may have {most}"));
    }

    /// Which have to go for this one, if there can be room: those that are not named any more, those first that go soonest; then
    /// the last of the list, but none before this one.
    fn in_the_way_of(&self, hash: &Fingerprint, octets: usize) -> Option<Vec<Fingerprint>> {
        let place = self.named.iter().position(|named| named == hash).unwrap_or(usize::MAX);
        let behind = self.named.iter().skip(place.saturating_add(1)).rev();
        let mut former: Vec<_> = self.former.iter().collect();
        former.sort_by_key(|(_, until)| **until);
        let candidates = former.into_iter().map(|(other, _)| other).chain(behind);
        let mut candidates = candidates.filter_map(|other| Some((*other, self.at_hand.get(other)?.len())));
        let mut number = self.at_hand.len();
        let mut held: usize = self.at_hand.values().map(|crl| crl.len()).sum();
        let mut going = Vec::new();
        while number >= self.bounds.number || held.saturating_add(octets) > self.bounds.octets {
            let (other, octets) = candidates.next()?;
            (number, held) = (number - 1, held - octets);
            going.push((other, octets));
        }
        // Those need not go for which there is room all the same; who came last in this has most right to stay.
        going.reverse();
        going.retain(|(_, its)| {
            let stays = number + 1 < self.bounds.number && held + its + octets <= self.bounds.octets;
            (number, held) = if stays { (number + 1, held + its) } else { (number, held) };
            !stays
        });
        Some(going.into_iter().map(|(other, _)| other).collect())
    }

    /// All that are at hand, to be worked with.
    pub fn at_hand(&self) -> Crls {
        self.at_hand.iter().map(|(hash, crl)| (*hash.as_octets(), Arc::clone(crl))).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    const SOON: Duration = Duration::from_millis(50);
    const LATE: Duration = Duration::from_secs(60);

    fn hash(name: &str) -> Fingerprint {
        Fingerprint::of(name.as_bytes())
    }

    /// Fetches with a backend that has CRLs of so many octets; the others it never answers for.
    fn fetch(store: &mut CrlStore, within: Duration, has: &[(&str, usize)]) -> (bool, Vec<String>) {
        let told = RefCell::new(Vec::new());
        let has: HashMap<_, _> = has.iter().map(|(name, octets)| (hash(name), *octets)).collect();
        let ask = |asked: Fingerprint| {
            let octets = has.get(&asked).copied();
            async move {
                match octets {
                    Some(0) => Err("not there"),
                    Some(octets) => Ok(vec![0; octets]),
                    None => std::future::pending().await,
                }
            }
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let more = runtime.block_on(store.fetch(within, ask, |text| told.borrow_mut().push(text)));
        (more, told.into_inner())
    }

    fn at_hand(store: &CrlStore, names: &[&str]) -> Vec<bool> {
        names.iter().map(|name| store.at_hand().contains_key(hash(name).as_octets())).collect()
    }

    #[test]
    fn those_of_before_stay_until_all_new_ones_are_there() {
        let mut store = CrlStore::new();
        store.name(&[hash("old")]);
        assert_eq!(fetch(&mut store, LATE, &[("old", 1)]), (true, vec![]));
        store.name(&[hash("new"), hash("other")]);
        let (more, told) = fetch(&mut store, LATE, &[("new", 1), ("other", 0)]);
        assert!(more && told == [format!("{}: not there; it is asked for again", hash("other"))], "{told:?}");
        assert_eq!(at_hand(&store, &["old", "new", "other"]), [true, true, false]);
        assert_eq!(fetch(&mut store, LATE, &[("other", 0)]), (false, vec![]), "told once");
        assert!(store.waits());
        assert_eq!(fetch(&mut store, LATE, &[("other", 1)]), (true, vec![]));
        assert_eq!(at_hand(&store, &["old", "new", "other"]), [false, true, true]);
        assert!(!store.waits());
    }

    #[test]
    fn one_that_does_not_come_is_not_waited_for() {
        let mut store = CrlStore::new();
        store.name(&[hash("never"), hash("there")]);
        let (more, told) = fetch(&mut store, SOON, &[("there", 1)]);
        assert!(more && store.waits());
        assert_eq!(told, [format!("{}: it is not there after 0.05 s; it is waited for", hash("never"))]);
        assert_eq!(at_hand(&store, &["never", "there"]), [false, true]);
        assert_eq!(fetch(&mut store, SOON, &[]), (false, vec![]));
    }

    #[test]
    fn what_has_no_room_is_left_out_alone() {
        let mut store = CrlStore::within(Bounds { number: 3, octets: 100 });
        store.name(&[hash("a"), hash("b"), hash("c")]);
        let (_, told) = fetch(&mut store, LATE, &[("a", 60), ("b", 60), ("c", 40)]);
        assert_eq!(told, [format!("{}: left out, as it has 60 octets and all CRLs together may have 100", hash("b"))]);
        assert_eq!(at_hand(&store, &["a", "b", "c"]), [true, false, true]);
        assert!(!store.waits(), "it is not asked for again");
        let told = store.name(&[hash("b"), hash("c"), hash("c"), hash("d"), hash("e")]);
        let expected = "trust.crls names 4 CRLs; 3 are the most, the last 1 are left out";
        assert_eq!(told.as_deref(), Some(expected));
        assert_eq!(fetch(&mut store, LATE, &[("b", 60), ("d", 0)]).1.len(), 1, "the one of before makes room");
        assert_eq!(at_hand(&store, &["a", "b", "c", "d", "e"]), [false, true, true, false, false]);
    }

    #[test]
    fn who_stands_before_in_the_list_comes_first_whatever_the_order_of_arrival() {
        let mut store = CrlStore::within(Bounds { number: 9, octets: 100 });
        store.name(&[hash("old"), hash("foreign")]);
        fetch(&mut store, LATE, &[("old", 50), ("foreign", 50)]);
        // A new one takes the place of the old one; another foreign one, which is large, comes before it.
        store.name(&[hash("new"), hash("foreign"), hash("large")]);
        let (_, told) = fetch(&mut store, SOON, &[("large", 60)]);
        assert_eq!(told.len(), 2, "without room, and late: {told:?}");
        assert_eq!(at_hand(&store, &["old", "foreign", "large"]), [true, true, false], "the old one stays meanwhile");
        // The runtime that fetched it has gone.
        store.under_way.clear();
        fetch(&mut store, LATE, &[("new", 60), ("large", 60)]);
        assert_eq!(at_hand(&store, &["new", "foreign", "large"]), [true, false, false]);
    }

    #[test]
    fn those_of_before_do_not_stay_for_ever() {
        let mut store = CrlStore::new();
        store.name(&[hash("old")]);
        fetch(&mut store, LATE, &[("old", 1)]);
        store.name(&[hash("never")]);
        assert!(!fetch(&mut store, SOON, &[]).0);
        assert_eq!(at_hand(&store, &["old"]), [true]);
        store.former.insert(hash("old"), Instant::now());
        assert!(fetch(&mut store, SOON, &[]).0, "there are others than before");
        assert_eq!(at_hand(&store, &["old"]), [false]);
    }

    #[test]
    fn each_of_before_stays_for_its_own_time_and_makes_room_for_one_that_is_named() {
        let mut store = CrlStore::within(Bounds { number: 3, octets: 100 });
        store.name(&[hash("a"), hash("b"), hash("never")]);
        fetch(&mut store, SOON, &[("a", 10), ("b", 20)]);
        store.name(&[hash("b"), hash("never")]);
        let until = store.former[&hash("a")];
        store.under_way.clear();
        store.name(&[hash("c"), hash("never")]);
        assert_eq!(store.former[&hash("a")], until, "another change of the list does not make it younger");
        let (_, told) = fetch(&mut store, SOON, &[("c", 10)]);
        assert_eq!((told, at_hand(&store, &["a", "b", "c"])), (vec![], vec![true; 3]));
        // There is no place left, and the first of the list does not come.
        store.under_way.clear();
        store.name(&[hash("never"), hash("d"), hash("c")]);
        assert_eq!(fetch(&mut store, SOON, &[("d", 10)]).1, [""; 0]);
        assert_eq!(at_hand(&store, &["a", "b", "c", "d"]), [false, true, true, true]);
        store.former.insert(hash("b"), Instant::now());
        store.under_way.clear();
        fetch(&mut store, SOON, &[]);
        assert_eq!(at_hand(&store, &["b", "c", "d"]), [false, true, true]);
    }

    #[test]
    fn those_that_failed_come_last() {
        let asked = RefCell::new(Vec::new());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let (end, ended) = tokio::sync::watch::channel(false);
            let mut store = CrlStore::new();
            let all = ["a", "b", "c", "d", "e", "f"].map(hash);
            store.name(&all);
            let ask = |hash| {
                asked.borrow_mut().push(hash);
                let mut ended = ended.clone();
                async move {
                    let _ = ended.wait_for(|ended| *ended).await;
                    if hash == all[4] { Ok(vec![0]) } else { Err("silent for too long") }
                }
            };
            store.fetch(SOON, ask, drop).await;
            assert_eq!(asked.take(), all[..AT_ONCE]);
            // They end in vain when nobody waits for them any more.
            end.send(true).unwrap();
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
            assert!(store.fetch(LATE, ask, drop).await);
            assert_eq!(asked.take(), [all[4], all[5], all[0], all[1], all[2], all[3]]);
            assert_eq!(at_hand(&store, &["e"]), [true]);
        });
    }

    #[test]
    fn what_is_named_no_more_and_still_on_its_way_holds_nobody_up() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let (end, ended) = tokio::sync::watch::channel(false);
            let slow = |_: Fingerprint| {
                let mut ended = ended.clone();
                async move {
                    let _ = ended.wait_for(|ended| *ended).await;
                    Ok::<_, String>(vec![0])
                }
            };
            let mut store = CrlStore::new();
            store.name(&["a", "b", "c", "d", "e"].map(hash));
            store.fetch(SOON, slow, drop).await;
            assert_eq!(store.under_way.len(), AT_ONCE);
            store.name(&[hash("new")]);
            let at_once = |_: Fingerprint| async { Ok::<_, String>(vec![0]) };
            assert!(!store.fetch(SOON, at_once, drop).await, "no place is free");
            end.send(true).unwrap();
            assert!(store.fetch(LATE, at_once, drop).await);
            assert_eq!(at_hand(&store, &["new", "a"]), [true, false]);
        });
    }
}
