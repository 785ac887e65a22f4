//! The CRLs at hand. Each is fetched once; together they have a bound in number and octets, beyond which single ones are left
//! out. A configuration does not wait for them for long, and what the one before had stays until all of the new one are there: so
//! that nothing that was revoked is forgotten in between.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use proxylink::snapshot::{LARGEST_CRLS, MOST_CRLS};
use seonapi_client::Fingerprint;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use super::in_force::Crls;

/// CRLs that are asked for at the same time.
const AT_ONCE: usize = 4;

/// What all CRLs together may be. The DMZ takes no more; it would end the link as if it were attacked.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    number: usize,
    octets: usize,
}

/// CRLs at hand, and those that are on their way.
pub struct CrlStore {
    bounds: Bounds,
    /// Those that the configuration names, in its order, as many as there may be.
    named: Vec<Fingerprint>,
    at_hand: HashMap<Fingerprint, Arc<Vec<u8>>>,
    /// Named, and not to be had at the last try. Each is told once.
    missing: HashSet<Fingerprint>,
    /// Named, and without room. Not asked for again as long as the configuration names the same.
    no_room: HashSet<Fingerprint>,
    /// Those that are being fetched go on from one question to the next.
    fetching: JoinSet<(Fingerprint, Result<Vec<u8>, String>)>,
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
            no_room: HashSet::new(),
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
        self.no_room.clear();
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

    /// Fetches those that are lacking, a few at a time, for so long. Whether there are more than before; `tell` hears what
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
        let lacking: Vec<_> = self.named.iter().filter(|hash| self.lacks(hash)).copied().collect();
        let mut next =
            lacking.iter().copied().filter(|hash| !self.under_way.contains(hash)).collect::<Vec<_>>().into_iter();
        let mut more = false;
        loop {
            while self.under_way.len() < AT_ONCE
                && let Some(hash) = next.next()
            {
                let asked = ask(hash);
                self.under_way.insert(hash);
                self.fetching.spawn(async move { (hash, asked.await.map_err(|error| error.to_string())) });
            }
            // What an earlier configuration named may still be on its way; nobody waits for that.
            if !lacking.iter().any(|hash| self.lacks(hash) && self.under_way.contains(hash)) {
                break;
            }
            match timeout_at(until, self.fetching.join_next()).await {
                Ok(Some(Ok((hash, answer)))) => {
                    self.under_way.remove(&hash);
                    more |= self.answered(hash, answer, &mut tell);
                }
                // Which one it was is not known any more: each is asked for again.
                Ok(Some(Err(_))) => {
                    self.fetching = JoinSet::new();
                    self.under_way.clear();
                    break;
                }
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
        if !self.waits() {
            self.at_hand.retain(|hash, _| self.named.contains(hash));
        }
        more
    }

    /// Whether it is at hand now.
    fn answered(&mut self, hash: Fingerprint, answer: Result<Vec<u8>, String>, tell: &mut impl FnMut(String)) -> bool {
        let crl = match answer {
            Ok(crl) => crl,
            Err(error) => {
                if self.missing.insert(hash) {
                    tell(format!("{hash}: {error}; it is asked for again"));
                }
                return false;
            }
        };
        self.missing.remove(&hash);
        if !self.named.contains(&hash) {
            return false;
        }
        if !self.makes_room(crl.len()) {
            self.no_room.insert(hash);
            let (octets, most) = (crl.len(), self.bounds.octets);
            tell(format!("{hash}: left out, as it has {octets} octets and all CRLs together may have {most}"));
            return false;
        }
        self.at_hand.insert(hash, Arc::new(crl));
        true
    }

    /// Whether there is room for one more, which may be that of those that are named no more.
    fn makes_room(&mut self, octets: usize) -> bool {
        let has_room = |at_hand: &HashMap<_, Arc<Vec<u8>>>| {
            let held: usize = at_hand.values().map(|crl| crl.len()).sum();
            at_hand.len() < self.bounds.number && held.saturating_add(octets) <= self.bounds.octets
        };
        if has_room(&self.at_hand) {
            return true;
        }
        self.at_hand.retain(|hash, _| self.named.contains(hash));
        has_room(&self.at_hand)
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
}
