//! The sessions that the gate has forked, and whether one more may come.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use proxydaemon::Pid;
use proxylink::pairing::SessionId;
use proxylink::snapshot::Limits;

/// One running session.
#[derive(Debug, Clone)]
pub struct Child {
    /// Its name.
    pub session: SessionId,
    /// Who is served.
    pub peer: SocketAddr,
    /// Whether the inside has verified the peer.
    pub verified: bool,
    /// Whether the peer's address is in some partner's `allow_from`.
    pub preferred: bool,
    /// Grows with every session: age.
    order: u64,
}

/// Whether a new connection may come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// It may.
    Welcome,
    /// It may, in place of this one, which is not verified and one of many of its network.
    InPlaceOf(Pid),
    /// It may not; the limit that is reached.
    Full(&'static str),
}

/// All running sessions.
#[derive(Debug, Default)]
pub struct Children {
    sessions: HashMap<Pid, Child>,
    pids: HashMap<SessionId, Pid>,
    of_address: HashMap<IpAddr, u32>,
    next: u64,
}

impl Children {
    /// Adds a session.
    pub fn add(&mut self, pid: Pid, session: SessionId, peer: SocketAddr, preferred: bool) {
        self.next += 1;
        *self.of_address.entry(peer.ip()).or_default() += 1;
        self.pids.insert(session, pid);
        self.sessions.insert(pid, Child { session, peer, verified: false, preferred, order: self.next });
    }

    /// Forgets a session that has ended.
    pub fn remove(&mut self, pid: Pid) -> Option<Child> {
        let child = self.sessions.remove(&pid)?;
        self.pids.remove(&child.session);
        if let Some(count) = self.of_address.get_mut(&child.peer.ip()) {
            *count -= 1;
            if *count == 0 {
                self.of_address.remove(&child.peer.ip());
            }
        }
        Some(child)
    }

    /// The process of a session.
    pub fn pid_of(&self, session: SessionId) -> Option<Pid> {
        self.pids.get(&session).copied()
    }

    /// The session of a process.
    pub fn get(&self, pid: Pid) -> Option<&Child> {
        self.sessions.get(&pid)
    }

    /// The inside has verified this session's peer.
    pub fn verified(&mut self, session: SessionId) {
        if let Some(child) = self.pids.get(&session).and_then(|pid| self.sessions.get_mut(pid)) {
            child.verified = true;
        }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.sessions.len()
    }

    /// All processes.
    pub fn pids(&self) -> impl Iterator<Item = Pid> + '_ {
        self.sessions.keys().copied()
    }

    /// Whether a connection from `address` may come in. Half of the places of the unverified are kept for preferred
    /// addresses; when the rest is full, the oldest of the network that has the most of them goes.
    pub fn admit(&self, address: IpAddr, preferred: bool, limits: &Limits) -> Admission {
        if self.sessions.len() >= limits.max_sessions as usize {
            return Admission::Full("max_sessions");
        }
        if self.of_address.get(&address).is_some_and(|&count| count >= limits.max_sessions_per_address) {
            return Admission::Full("max_sessions_per_address");
        }
        let unverified = || self.sessions.iter().filter(|(_, child)| !child.verified);
        let all = unverified().count();
        let strangers = unverified().filter(|(_, child)| !child.preferred).count();
        let places = limits.max_unverified as usize;
        let free = all < places && (preferred || strangers < places - places / 2);
        if free {
            return Admission::Welcome;
        }
        // A preferred one takes a stranger's place first; a stranger only ever a stranger's.
        let candidates: Vec<_> = match (preferred, strangers) {
            (true, 0) => unverified().collect(),
            _ => unverified().filter(|(_, child)| !child.preferred).collect(),
        };
        let mut networks: HashMap<Network, u32> = HashMap::new();
        for (_, child) in &candidates {
            *networks.entry(Network::of(child.peer.ip())).or_default() += 1;
        }
        let oldest_of_largest = candidates.into_iter().max_by_key(|(_, child)| {
            (networks.get(&Network::of(child.peer.ip())).copied().unwrap_or(0), u64::MAX - child.order)
        });
        match oldest_of_largest {
            Some((pid, _)) => Admission::InPlaceOf(*pid),
            None => Admission::Full("max_unverified"),
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
        match address.to_canonical() {
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
    use std::time::Duration;

    fn limits(max_unverified: u32) -> Limits {
        Limits {
            max_sessions: 1000,
            max_sessions_per_address: 20,
            max_unverified,
            handshake_timeout: Duration::from_secs(30),
            pairing_timeout: Duration::from_secs(10),
            inactivity_timeout: Duration::from_secs(300),
            drain_timeout: Duration::from_secs(60),
            max_exchange_buffer: 99_999,
            offender_refuse: Duration::ZERO,
        }
    }

    fn add(children: &mut Children, pid: i32, address: &str, preferred: bool) {
        let session = SessionId::from_random([u8::try_from(pid).unwrap(); 16]);
        children.add(Pid::from_raw(pid), session, (address.parse::<IpAddr>().unwrap(), 1).into(), preferred);
    }

    #[test]
    fn one_address_gets_no_more_than_its_share() {
        let mut children = Children::default();
        for pid in 1..=20 {
            add(&mut children, pid, "192.0.2.1", false);
        }
        let address = "192.0.2.1".parse().unwrap();
        assert_eq!(children.admit(address, false, &limits(100)), Admission::Full("max_sessions_per_address"));
        children.remove(Pid::from_raw(1));
        assert_eq!(children.admit(address, false, &limits(100)), Admission::Welcome);
    }

    #[test]
    fn in_a_storm_the_oldest_of_the_most_present_network_goes() {
        let mut children = Children::default();
        add(&mut children, 1, "198.51.100.1", false);
        add(&mut children, 2, "192.0.2.1", false);
        add(&mut children, 3, "192.0.2.2", false);
        let newcomer = "203.0.113.1".parse().unwrap();
        assert_eq!(children.admit(newcomer, false, &limits(6)), Admission::InPlaceOf(Pid::from_raw(2)));
        assert_eq!(children.admit(newcomer, true, &limits(6)), Admission::Welcome);
    }

    #[test]
    fn strangers_never_push_out_a_preferred_one() {
        let mut children = Children::default();
        add(&mut children, 1, "192.0.2.1", true);
        add(&mut children, 2, "192.0.2.2", true);
        let newcomer = "203.0.113.1".parse().unwrap();
        assert_eq!(children.admit(newcomer, false, &limits(2)), Admission::Full("max_unverified"));
        assert_eq!(children.admit(newcomer, true, &limits(2)), Admission::InPlaceOf(Pid::from_raw(1)));
        children.verified(SessionId::from_random([1; 16]));
        assert_eq!(children.admit(newcomer, true, &limits(2)), Admission::Welcome);
    }
}
