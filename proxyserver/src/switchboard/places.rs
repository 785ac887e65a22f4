//! Places on the link's port for connections that have not yet shown who they are. Strangers have few of them, and cannot
//! take those of the client that is linked, or was last.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};

const MOST: usize = 32;
const MOST_OF_ONE: usize = 8;
/// The linked client brings a data connection for every session, many at once after an outage.
const MOST_OF_THE_CLIENT: usize = 512;
/// Why there is no place.
pub const TOO_MANY: &str = "too many connections without authentication (32 in all, 8 of one address or /64 of IPv6)";

/// The places that are taken.
#[derive(Debug, Default)]
pub struct Places {
    taken: HashMap<IpAddr, usize>,
    /// Where the client is that is linked; after that, where it was, since it comes back from there.
    client: Option<IpAddr>,
}

impl Places {
    /// A client is linked from this address.
    pub fn client_is(&mut self, address: IpAddr) {
        self.client = Some(party(address));
    }

    /// Takes a place, if there is one.
    pub fn take(&mut self, address: IpAddr) -> bool {
        let address = party(address);
        let own = self.taken.get(&address).copied().unwrap_or(0);
        let free = if self.client == Some(address) {
            own < MOST_OF_THE_CLIENT
        } else {
            let others = self.taken.iter().filter(|(from, _)| Some(**from) != self.client);
            own < MOST_OF_ONE && others.map(|(_, count)| count).sum::<usize>() < MOST
        };
        if free {
            self.taken.insert(address, own + 1);
        }
        free
    }

    /// Gives a place back.
    pub fn give_back(&mut self, address: IpAddr) {
        let address = party(address);
        match self.taken.get_mut(&address) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(self.taken.remove(&address)),
        }
    }
}

/// What counts as one: whoever has an address of IPv6 has its whole /64.
fn party(address: IpAddr) -> IpAddr {
    match verification::plain(address) {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// How many of so many get a place.
    fn taken(places: &mut Places, address: impl Fn(usize) -> String, attempts: usize) -> usize {
        (0..attempts).filter(|attempt| places.take(at(&address(*attempt)))).count()
    }

    #[test]
    fn one_address_has_eight_places_and_all_strangers_have_32() {
        let mut places = Places::default();
        assert_eq!(taken(&mut places, |_| "192.0.2.1".to_owned(), 20), 8);
        assert_eq!(taken(&mut places, |number| format!("2001:db8::{number}"), 20), 8, "of one /64");
        assert_eq!(taken(&mut places, |number| format!("198.51.100.{number}"), 100), 16);
        places.give_back(at("192.0.2.1"));
        assert_eq!(taken(&mut places, |_| "::ffff:192.0.2.1".to_owned(), 20), 1);
        for _ in 0..8 {
            places.give_back(at("192.0.2.1"));
        }
        assert_eq!(taken(&mut places, |number| format!("203.0.113.{number}"), 100), 8);
    }

    #[test]
    fn strangers_do_not_keep_the_client_out_that_was_linked() {
        let mut places = Places::default();
        places.client_is(at("192.0.2.1"));
        assert_eq!(taken(&mut places, |number| format!("198.51.100.{number}"), 100), 32);
        assert_eq!(taken(&mut places, |_| "192.0.2.1".to_owned(), 1000), 512);
        // It has moved.
        places.client_is(at("192.0.2.2"));
        assert!(places.take(at("192.0.2.2")) && !places.take(at("192.0.2.1")));
    }
}
