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
    taken: HashMap<Who, usize>,
    /// Where the client is that is linked; after that, where it was, since it comes back from there.
    client: Option<IpAddr>,
}

/// Whose places are counted together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Who {
    /// The client, at its very address.
    Client(IpAddr),
    /// An address, or a network, of anybody else.
    Stranger(IpAddr),
}

impl Places {
    /// A client is linked from this address.
    pub fn client_is(&mut self, address: IpAddr) {
        self.client = Some(verification::plain(address));
    }

    /// Takes a place, if there is one; whose it is, for [`Places::give_back`].
    pub fn take(&mut self, address: IpAddr) -> Option<Who> {
        let address = verification::plain(address);
        let who = if self.client == Some(address) { Who::Client(address) } else { Who::Stranger(party(address)) };
        let own = self.taken.get(&who).copied().unwrap_or(0);
        let free = match who {
            Who::Client(_) => own < MOST_OF_THE_CLIENT,
            Who::Stranger(_) => {
                let strangers = self.taken.iter().filter(|(who, _)| matches!(who, Who::Stranger(_)));
                own < MOST_OF_ONE && strangers.map(|(_, count)| count).sum::<usize>() < MOST
            }
        };
        free.then(|| {
            self.taken.insert(who, own + 1);
            who
        })
    }

    /// Gives a place back.
    pub fn give_back(&mut self, who: Who) {
        match self.taken.get_mut(&who) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(self.taken.remove(&who)),
        }
    }
}

/// What counts as one: whoever has an address of IPv6 has its whole /64.
fn party(address: IpAddr) -> IpAddr {
    match address {
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
        (0..attempts).filter(|attempt| places.take(at(&address(*attempt))).is_some()).count()
    }

    #[test]
    fn one_address_has_eight_places_and_all_strangers_have_32() {
        let mut places = Places::default();
        assert_eq!(taken(&mut places, |_| "192.0.2.1".to_owned(), 20), 8);
        assert_eq!(taken(&mut places, |number| format!("2001:db8::{number}"), 20), 8, "of one /64");
        assert_eq!(taken(&mut places, |number| format!("198.51.100.{number}"), 100), 16);
        let first = Who::Stranger(at("192.0.2.1"));
        places.give_back(first);
        assert_eq!(taken(&mut places, |_| "::ffff:192.0.2.1".to_owned(), 20), 1);
        for _ in 0..8 {
            places.give_back(first);
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
        assert!(places.take(at("192.0.2.2")).is_some() && places.take(at("192.0.2.1")).is_none());
        // Its neighbours are none of it.
        places.client_is(at("2001:db8::1"));
        assert_eq!(taken(&mut places, |number| format!("2001:db8::1:{number}"), 20), 0);
        assert!(places.take(at("2001:db8::1")).is_some());
    }
}
