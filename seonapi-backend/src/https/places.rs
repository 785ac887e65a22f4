//! How many connections there may be, in all and from one address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

/// The places for connections.
pub struct Places {
    all: usize,
    of_one: usize,
    taken: Mutex<HashMap<IpAddr, usize>>,
}

/// A place that is taken until it is dropped.
pub struct Place {
    places: Arc<Places>,
    address: IpAddr,
}

impl Places {
    /// So many in all, and so many for one address.
    pub fn new(all: usize, of_one: usize) -> Arc<Self> {
        Arc::new(Self { all, of_one, taken: Mutex::default() })
    }

    /// A place for a connection from this address, if there is one.
    pub fn take(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        let address = verification::plain(address);
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let here = taken.get(&address).copied().unwrap_or_default();
        if here >= self.of_one || taken.values().sum::<usize>() >= self.all {
            return None;
        }
        taken.insert(address, here + 1);
        Some(Place { places: self.clone(), address })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock().unwrap_or_else(PoisonError::into_inner);
        match taken.get_mut(&self.address) {
            Some(here) if *here > 1 => *here -= 1,
            _ => drop(taken.remove(&self.address)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_never_takes_all_places_and_what_is_given_back_is_there_again() {
        let places = Places::new(3, 2);
        let [one, mapped, two, three] = ["192.0.2.1", "::ffff:192.0.2.1", "2001:db8::2", "192.0.2.3"]
            .map(|address| address.parse::<IpAddr>().unwrap());
        let first = places.take(one).unwrap();
        let second = places.take(mapped).unwrap();
        assert!(places.take(one).is_none() && places.take(mapped).is_none(), "two of one address");
        let third = places.take(two).unwrap();
        assert!(places.take(three).is_none(), "three in all");
        drop(second);
        assert!(places.take(three).is_some() && places.take(one).is_some());
        drop((first, third));
        assert!(places.taken.lock().unwrap().is_empty());
    }
}
