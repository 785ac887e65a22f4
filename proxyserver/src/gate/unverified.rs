//! Who is not verified yet, by network: whom a newcomer replaces is at hand, however many there are.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use proxydaemon::Pid;

/// Sessions of peers that are not verified.
#[derive(Debug, Default)]
pub struct Unverified {
    /// Of each network, by age.
    networks: HashMap<Network, BTreeMap<u64, Pid>>,
    /// The oldest of each network, by how many it has and then by age.
    oldest: BTreeMap<(usize, Reverse<u64>), Pid>,
    count: usize,
}

impl Unverified {
    /// How many there are.
    pub const fn count(&self) -> usize {
        self.count
    }

    /// Adds a session. `order` is its age and its alone: a lower one is older.
    pub fn add(&mut self, address: IpAddr, order: u64, pid: Pid) {
        self.change(address, |network| network.insert(order, pid));
    }

    /// Takes a session out, if it is there.
    pub fn remove(&mut self, address: IpAddr, order: u64) {
        self.change(address, |network| network.remove(&order));
    }

    /// The oldest of the network that has the most; of several such networks, of all of them.
    pub fn oldest_of_largest(&self) -> Option<Pid> {
        self.oldest.last_key_value().map(|(_, pid)| *pid)
    }

    fn change(&mut self, address: IpAddr, change: impl FnOnce(&mut BTreeMap<u64, Pid>) -> Option<Pid>) {
        let name = Network::of(address);
        let network = self.networks.entry(name).or_default();
        let before = network.len();
        if let Some((order, _)) = network.first_key_value() {
            self.oldest.remove(&(before, Reverse(*order)));
        }
        change(network);
        self.count = self.count - before + network.len();
        match network.first_key_value() {
            Some((order, pid)) => drop(self.oldest.insert((network.len(), Reverse(*order)), *pid)),
            None => drop(self.networks.remove(&name)),
        }
    }
}

/// A /24 of IPv4, a /64 of IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Network {
    V4([u8; 3]),
    V6([u16; 4]),
}

impl Network {
    fn of(address: IpAddr) -> Self {
        match verification::plain(address) {
            IpAddr::V4(address) => {
                let [a, b, c, _] = address.octets();
                Self::V4([a, b, c])
            }
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                Self::V6([a, b, c, d])
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// The same by looking at all of them.
    fn looked_for(all: &[(IpAddr, u64, Pid)]) -> Option<Pid> {
        let of_network = |one: IpAddr| all.iter().filter(|other| Network::of(other.0) == Network::of(one)).count();
        all.iter().max_by_key(|one| (of_network(one.0), u64::MAX - one.1)).map(|one| one.2)
    }

    #[test]
    fn the_oldest_of_the_largest_network_is_at_hand_whatever_comes_and_goes() {
        let addresses = ["192.0.2.1", "192.0.2.9", "198.51.100.1", "2001:db8::1", "2001:db8::2:1", "2001:db8:0:1::1"];
        let (mut unverified, mut all) = (Unverified::default(), Vec::new());
        let mut random = 1_u64;
        for step in 0..2000_u64 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let choice = usize::try_from(random >> 40).unwrap();
            if choice % 5 < 3 || all.is_empty() {
                let address = at(addresses[choice % addresses.len()]);
                let pid = Pid::from_raw(i32::try_from(step).unwrap() + 1);
                unverified.add(address, step, pid);
                all.push((address, step, pid));
            } else {
                let (address, order, _) = all.swap_remove(choice % all.len());
                unverified.remove(address, order);
            }
            assert_eq!((unverified.count(), unverified.oldest_of_largest()), (all.len(), looked_for(&all)), "{step}");
        }
        for (address, order, _) in all {
            unverified.remove(address, order);
            unverified.remove(address, order);
        }
        assert_eq!((unverified.count(), unverified.oldest_of_largest()), (0, None));
        assert!(unverified.networks.is_empty() && unverified.oldest.is_empty());
    }

    #[test]
    fn the_forms_of_an_address_of_ipv4_are_of_one_network() {
        for (one, other) in [("::1", "127.0.0.1"), ("::ffff:127.0.0.1", "::1"), ("::ffff:192.0.2.7", "192.0.2.7")] {
            assert_eq!(Network::of(at(one)), Network::of(at(other)), "{one} {other}");
        }
        assert_ne!(Network::of(at("::2")), Network::of(at("127.0.0.1")));
    }
}
