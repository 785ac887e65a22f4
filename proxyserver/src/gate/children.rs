//! The sessions that the gate has forked, and whether one more may come.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use nix::sys::signal::{Signal as Kill, kill};
use proxydaemon::Pid;
use proxydaemon::gate::Generation;
use proxylink::pairing::SessionId;
use proxylink::snapshot::Limits;
use serde::{Deserialize, Serialize};

use super::unverified::Unverified;

/// One running session.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Child {
    /// Its name.
    pub session: SessionId,
    /// Who is served.
    pub peer: SocketAddr,
    /// Whether we called. It takes no place of those that come in.
    pub called: bool,
    /// Whether `peer` is surely who is served: a called partner with several addresses is behind one of them.
    pub sure: bool,
    /// Whether the inside has verified the peer.
    pub verified: bool,
    /// Whether the peer's address is in some partner's `allow_from`.
    pub preferred: bool,
    /// It was sent away and has not ended yet: it takes no place any more.
    pub going: bool,
    /// The gate has killed it.
    pub killed: bool,
    /// Grows with every session: age.
    order: u64,
}

impl Child {
    /// Whether it takes one of the places of its address.
    const fn has_place(&self) -> bool {
        !self.going && !self.called
    }

    /// Whether it takes one of the places of the unverified.
    const fn waits(&self) -> bool {
        self.has_place() && !self.verified
    }
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
    of_address: HashMap<Share, u32>,
    strangers: Unverified,
    preferred: Unverified,
    going: usize,
    next: u64,
    generation: Generation,
}

impl Children {
    /// Adds a session.
    pub fn add(&mut self, pid: Pid, session: SessionId, peer: SocketAddr, preferred: bool) {
        let (called, sure, verified, going, killed, order) = (false, true, false, false, false, self.next + 1);
        self.generation.born(pid);
        self.add_child(pid, Child { session, peer, called, sure, verified, preferred, going, killed, order });
    }

    /// Adds a session that calls this peer; `sure` when it has no other address.
    pub fn add_calling(&mut self, pid: Pid, session: SessionId, peer: SocketAddr, sure: bool) {
        let (called, verified, going, killed, preferred, order) = (true, false, false, false, false, self.next + 1);
        self.generation.born(pid);
        self.add_child(pid, Child { session, peer, called, sure, verified, preferred, going, killed, order });
    }

    /// Adds one that an earlier gate knew, as it was.
    pub fn add_child(&mut self, pid: Pid, child: Child) {
        self.next = self.next.max(child.order);
        if child.has_place() {
            *self.of_address.entry(Share::of(child.peer.ip())).or_default() += 1;
        }
        if child.waits() {
            self.waiting_like(&child).add(child.peer.ip(), child.order, pid);
        }
        self.going += usize::from(child.going);
        self.pids.insert(child.session, pid);
        self.sessions.insert(pid, child);
    }

    /// The gate kills it: its end is told by whoever wants it.
    pub fn kill(&mut self, pid: Pid) {
        if let Some(child) = self.sessions.get_mut(&pid) {
            child.killed = true;
            let _ = kill(pid, Kill::SIGKILL);
        }
    }

    /// Forgets a session that has ended.
    pub fn remove(&mut self, pid: Pid) -> Option<Child> {
        let child = self.sessions.remove(&pid)?;
        self.generation.ended(pid);
        self.pids.remove(&child.session);
        self.vacate(&child);
        self.going -= usize::from(child.going);
        Some(child)
    }

    /// Gives back the room of those that have gone.
    pub fn shrink(&mut self) {
        self.sessions.shrink_to_fit();
        self.pids.shrink_to_fit();
        self.of_address.shrink_to_fit();
    }

    /// This session has to make room: it takes no place from now on, and is not chosen again. Who it was.
    pub fn send_away(&mut self, pid: Pid) -> Option<SocketAddr> {
        let child = self.sessions.get_mut(&pid)?;
        let before = child.clone();
        child.going = true;
        self.vacate(&before);
        self.going += usize::from(!before.going);
        Some(before.peer)
    }

    /// Gives back the places that this session has.
    fn vacate(&mut self, child: &Child) {
        if child.waits() {
            self.waiting_like(child).remove(child.peer.ip(), child.order);
        }
        if child.has_place() {
            self.give_back(child.peer.ip());
        }
    }

    fn waiting_like(&mut self, child: &Child) -> &mut Unverified {
        if child.preferred { &mut self.preferred } else { &mut self.strangers }
    }

    fn give_back(&mut self, address: IpAddr) {
        if let Entry::Occupied(mut count) = self.of_address.entry(Share::of(address)) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }

    /// Those that were added, not taken over.
    pub const fn generation(&self) -> &Generation {
        &self.generation
    }

    /// As [`Children::generation`].
    pub const fn generation_mut(&mut self) -> &mut Generation {
        &mut self.generation
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
        let Some(child) = self.pids.get(&session).and_then(|pid| self.sessions.get_mut(pid)) else { return };
        let before = child.clone();
        child.verified = true;
        if before.waits() {
            self.waiting_like(&before).remove(before.peer.ip(), before.order);
        }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.sessions.len()
    }

    /// All sessions with their processes.
    pub fn all(&self) -> impl Iterator<Item = (Pid, &Child)> {
        self.sessions.iter().map(|(pid, child)| (*pid, child))
    }

    /// All processes.
    pub fn pids(&self) -> impl Iterator<Item = Pid> + '_ {
        self.sessions.keys().copied()
    }

    /// Whether one more session may be, whoever opens it.
    pub fn has_room(&self, limits: &Limits) -> bool {
        self.sessions.len() < limits.max_sessions as usize
    }

    /// Whether a connection from `address` may come in. Half of the places of the unverified are kept for preferred
    /// addresses; when the rest is full, the oldest of the network that has the most of them goes, unless as many as
    /// there are places are on their way out already.
    pub fn admit(&self, address: IpAddr, preferred: bool, limits: &Limits) -> Admission {
        if !self.has_room(limits) {
            return Admission::Full("max_sessions");
        }
        if self.of_address.get(&Share::of(address)).is_some_and(|&count| count >= limits.max_sessions_per_address) {
            return Admission::Full("max_sessions_per_address");
        }
        let (strangers, all) = (self.strangers.count(), self.strangers.count() + self.preferred.count());
        let places = limits.max_unverified as usize;
        let free = all < places && (preferred || strangers < places - places / 2);
        if free {
            return Admission::Welcome;
        }
        if self.going >= places {
            return Admission::Full("max_unverified");
        }
        // A preferred one takes a stranger's place first; a stranger only ever a stranger's.
        let candidates = if preferred && strangers == 0 { &self.preferred } else { &self.strangers };
        candidates.oldest_of_largest().map_or(Admission::Full("max_unverified"), Admission::InPlaceOf)
    }
}

/// What counts as one address: an address of IPv4, a /64 of IPv6, any address of which its owner can take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Share {
    V4(Ipv4Addr),
    V6([u16; 4]),
}

impl Share {
    pub(super) fn of(address: IpAddr) -> Self {
        match verification::plain(address) {
            IpAddr::V4(address) => Self::V4(address),
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

    #[test]
    fn the_forms_of_an_address_of_ipv4_count_as_one() {
        for (one, other) in [("::1", "127.0.0.1"), ("::ffff:127.0.0.1", "::1"), ("::ffff:192.0.2.7", "192.0.2.7")] {
            let (one, other): (IpAddr, IpAddr) = (one.parse().unwrap(), other.parse().unwrap());
            assert_eq!(Share::of(one), Share::of(other), "{one} {other}");
        }
        assert_ne!(Share::of("::2".parse().unwrap()), Share::of("127.0.0.1".parse().unwrap()));
    }

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
    fn all_addresses_of_a_64_share_what_one_address_gets() {
        let mut children = Children::default();
        for pid in 1..=20 {
            add(&mut children, pid, &format!("2001:db8:0:1::{pid}"), false);
        }
        let same = "2001:db8:0:1:ffff::1".parse().unwrap();
        let other = "2001:db8:0:2::1".parse().unwrap();
        assert_eq!(children.admit(same, false, &limits(100)), Admission::Full("max_sessions_per_address"));
        assert_eq!(children.admit(other, false, &limits(100)), Admission::Welcome);
        assert_eq!(children.admit("192.0.2.1".parse().unwrap(), false, &limits(100)), Admission::Welcome);
    }

    #[test]
    fn a_batch_of_newcomers_sends_each_victim_away_once_and_no_more_than_there_are_places() {
        let mut children = Children::default();
        for pid in 1..=4 {
            add(&mut children, pid, "198.51.100.1", true);
        }
        let limits = limits(4);
        let newcomer: IpAddr = "203.0.113.1".parse().unwrap();
        let mut victims = Vec::new();
        // None of them is reaped meanwhile.
        for pid in 5..=20 {
            match children.admit(newcomer, true, &limits) {
                Admission::InPlaceOf(victim) => {
                    let peer = children.send_away(victim).unwrap();
                    victims.push((victim.as_raw(), peer.ip().to_string()));
                    add(&mut children, pid, "203.0.113.1", true);
                }
                full => assert_eq!(full, Admission::Full("max_unverified")),
            }
        }
        let of_198 = |pid| (pid, "198.51.100.1".to_owned());
        // Then the newcomers' own network is the most present one.
        assert_eq!(victims[..2], [of_198(1), of_198(2)]);
        let mut chosen: Vec<_> = victims.iter().map(|(pid, _)| *pid).collect();
        chosen.sort_unstable();
        chosen.dedup();
        assert_eq!((chosen.len(), children.count()), (4, 8));
        for victim in chosen {
            children.remove(Pid::from_raw(victim));
        }
        assert_eq!(children.count(), 4);
        assert!(matches!(children.admit(newcomer, true, &limits), Admission::InPlaceOf(_)));
    }

    #[test]
    fn one_that_goes_gives_its_share_of_its_address_back_once() {
        let mut children = Children::default();
        for pid in 1..=20 {
            add(&mut children, pid, "192.0.2.1", false);
        }
        let address = "192.0.2.1".parse().unwrap();
        children.send_away(Pid::from_raw(3));
        children.send_away(Pid::from_raw(3));
        children.remove(Pid::from_raw(3));
        assert_eq!(children.admit(address, false, &limits(100)), Admission::Welcome);
        add(&mut children, 3, "192.0.2.1", false);
        assert_eq!(children.admit(address, false, &limits(100)), Admission::Full("max_sessions_per_address"));
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

    #[test]
    fn a_called_partner_takes_a_session_and_no_place_of_those_that_come_in() {
        let mut children = Children::default();
        let peer = |last: u8| SocketAddr::from(([192, 0, 2, last], 1));
        let limits = Limits { max_sessions: 4, max_sessions_per_address: 1, ..limits(2) };
        for number in 1..=2_u8 {
            let session = SessionId::from_random([number; 16]);
            children.add_calling(Pid::from_raw(i32::from(number)), session, peer(7), true);
        }
        assert_eq!(children.admit(peer(7).ip(), false, &limits), Admission::Welcome);
        add(&mut children, 3, "192.0.2.7", false);
        // None of them has to go for a stranger, though they are the oldest of their network.
        assert_eq!(children.admit(peer(8).ip(), false, &limits), Admission::InPlaceOf(Pid::from_raw(3)));
        assert_eq!(children.admit(peer(7).ip(), true, &limits), Admission::Full("max_sessions_per_address"));
        assert!(children.has_room(&limits));
        add(&mut children, 4, "198.51.100.1", true);
        assert!(!children.has_room(&limits));
        for number in 1..=4 {
            children.remove(Pid::from_raw(number));
        }
        assert_eq!(children.admit(peer(7).ip(), false, &limits), Admission::Welcome);
    }
}
