//! Addresses that were at fault again and again: refused at accept for a time that grows (`offender_refuse_s`).
//!
//! A fault is a handshake that failed or came to nothing by the peer's doing, a certificate that was refused, a broken
//! rule of RFC 5024, and a session that crashed or misbehaved. Of an address in some partner's `allow_from` only the last
//! two count: who has forgotten to renew a certificate should not find the port closed as well. The port of the link
//! knows no offenders, so that nobody who shares the proxyclient's address can keep it out.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use proxydaemon::gate::Overdue;
use serde::{Deserialize, Serialize};

use super::children::Share;

/// Faults without consequence: a partner's first attempts with a new certificate, a port scanner.
const FORGIVEN: u32 = 2;
/// A fault is forgotten after so long without another one; a refusal does not count as time.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(3600);
/// The refusal time doubles so often at most: 256 times the first one.
const DOUBLINGS: u32 = 8;
/// Addresses that are remembered. The one that was at fault longest ago makes room.
const MOST: usize = 4096;
/// Between two looks for those that are forgotten.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// What was seen of one address.
#[derive(Debug, Clone, Copy)]
struct Offender {
    address: IpAddr,
    faults: u32,
    refusals: u32,
    last: Instant,
    refused_until: Option<Instant>,
    refused: u64,
}

/// As the gate tells its successor.
#[derive(Debug, Serialize, Deserialize)]
pub struct Kept {
    address: IpAddr,
    faults: u32,
    refusals: u32,
    /// Since the last fault, or the end of the last refusal.
    age: Duration,
    refused_for: Option<Duration>,
    refused: u64,
}

/// An address is refused from now on, or no longer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offence {
    /// The address that was at fault last; of IPv6 its /64 is meant.
    pub address: IpAddr,
    /// What is to be told.
    pub text: String,
}

/// All addresses that were at fault lately.
#[derive(Debug, Default)]
pub struct Offenders {
    all: HashMap<Share, Offender>,
    /// Refusals, by their end.
    refused: Overdue<Share>,
    look_at: Option<Instant>,
}

impl Offenders {
    /// Whether a connection from there is refused now.
    pub fn refuses(&mut self, address: IpAddr, now: Instant) -> bool {
        let Some(offender) = self.all.get_mut(&Share::of(address)) else { return false };
        let refused = offender.refused_until.is_some_and(|until| now < until);
        offender.refused += u64::from(refused);
        refused
    }

    /// An address was at fault; the line when it is refused for that. `first` is the first refusal time; zero = never.
    pub fn fault(&mut self, address: IpAddr, first: Duration, now: Instant) -> Option<Offence> {
        if first.is_zero() {
            return None;
        }
        self.make_room(Share::of(address));
        let fresh = Offender { address, faults: 0, refusals: 0, last: now, refused_until: None, refused: 0 };
        let offender = self.all.entry(Share::of(address)).or_insert(fresh);
        // Its connections of before the refusal have been paid for.
        if offender.refused_until.is_some() {
            return None;
        }
        if now.duration_since(offender.last) >= FORGOTTEN_AFTER {
            *offender = fresh;
        }
        offender.last = now;
        offender.faults += 1;
        if offender.faults <= FORGIVEN {
            return None;
        }
        let time = first.saturating_mul(1 << offender.refusals.min(DOUBLINGS));
        offender.refused_until = now.checked_add(time);
        if let Some(until) = offender.refused_until {
            self.refused.expect(Share::of(address), until);
        }
        offender.refusals += 1;
        let text = format!("{} faults; nothing is taken from there for {} s", offender.faults, time.as_secs());
        Some(Offence { address, text })
    }

    /// The lines for refusals that are over, if anybody has noticed them.
    pub fn due(&mut self, now: Instant) -> Vec<Offence> {
        let mut lines = Vec::new();
        while let Some(share) = self.refused.due(now) {
            let Some(offender) = self.all.get_mut(&share) else { continue };
            offender.refused_until = None;
            offender.last = now;
            let refused = std::mem::take(&mut offender.refused);
            let text = format!("{refused} connections were refused; the next fault costs twice the time");
            lines.push(Offence { address: offender.address, text });
        }
        if self.look_at.is_none_or(|at| at <= now) {
            self.look_at = Some(now + LOOK_EVERY);
            self.all.retain(|_, offender| {
                offender.refused_until.is_some() || now.duration_since(offender.last) < FORGOTTEN_AFTER
            });
        }
        lines
    }

    /// When the next refusal is over.
    pub fn next_due(&self) -> Option<Instant> {
        self.refused.next()
    }

    /// For a gate that executes itself anew.
    pub fn kept(&self, now: Instant) -> Vec<Kept> {
        let kept = |offender: &Offender| Kept {
            address: offender.address,
            faults: offender.faults,
            refusals: offender.refusals,
            age: now.saturating_duration_since(offender.last),
            refused_for: offender.refused_until.map(|until| until.saturating_duration_since(now)),
            refused: offender.refused,
        };
        self.all.values().map(kept).collect()
    }

    /// What a gate before this one has seen.
    pub fn take_over(kept: Vec<Kept>, now: Instant) -> Self {
        let offender = |kept: Kept| {
            let Kept { address, faults, refusals, age, refused_for, refused } = kept;
            let last = now.checked_sub(age).unwrap_or(now);
            let refused_until = refused_for.and_then(|time| now.checked_add(time));
            Offender { address, faults, refusals, last, refused_until, refused }
        };
        let mut offenders = Self::default();
        for kept in kept {
            let (share, offender) = (Share::of(kept.address), offender(kept));
            if let Some(until) = offender.refused_until {
                offenders.refused.expect(share, until);
            }
            offenders.all.insert(share, offender);
        }
        offenders
    }

    fn make_room(&mut self, newcomer: Share) {
        if self.all.len() < MOST || self.all.contains_key(&newcomer) {
            return;
        }
        // One that is refused stays longer than one that only was at fault.
        let oldest = self.all.iter().min_by_key(|(_, offender)| (offender.refused_until.is_some(), offender.last));
        if let Some(oldest) = oldest.map(|(share, _)| *share) {
            self.all.remove(&oldest);
            self.refused.forget(oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Duration = Duration::from_secs(10);

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// Faults until it is refused; for how long it is.
    fn offend(offenders: &mut Offenders, from: IpAddr, now: Instant) -> Duration {
        while offenders.fault(from, FIRST, now).is_none() {}
        offenders.next_due().unwrap() - now
    }

    #[test]
    fn the_third_fault_is_refused_for_and_each_one_after_it_twice_as_long() {
        let (mut offenders, mut now, from) = (Offenders::default(), Instant::now(), address("192.0.2.1"));
        assert_eq!(offenders.fault(from, FIRST, now), None);
        assert_eq!(offenders.fault(from, FIRST, now), None);
        assert!(!offenders.refuses(from, now));
        let line = offenders.fault(from, FIRST, now).unwrap();
        assert_eq!((line.address, line.text.as_str()), (from, "3 faults; nothing is taken from there for 10 s"));
        let mut expected = FIRST;
        for time in 1..=12 {
            assert!(offenders.refuses(from, now) && !offenders.refuses(address("192.0.2.2"), now));
            let until = offenders.next_due().unwrap();
            assert_eq!(until - now, expected, "refusal {time}");
            assert_eq!(offenders.due(until - Duration::from_millis(1)), []);
            let over = offenders.due(until);
            assert!(over[0].text.starts_with("1 connections were refused"), "{over:?}");
            now = until;
            assert!(!offenders.refuses(from, now), "it gets another chance");
            assert!(offenders.fault(from, FIRST, now).is_some(), "which it wastes");
            expected = (expected * 2).min(FIRST * 256);
        }
    }

    #[test]
    fn what_it_had_open_does_not_count_and_an_hour_is_forgotten() {
        let (mut offenders, now, from) = (Offenders::default(), Instant::now(), address("192.0.2.1"));
        offend(&mut offenders, from, now);
        for _ in 0..10 {
            assert_eq!(offenders.fault(from, FIRST, now), None);
        }
        let over = now + FIRST;
        assert_eq!(offenders.due(over).len(), 1);
        let later = over + FORGOTTEN_AFTER;
        assert_eq!(offenders.fault(from, FIRST, later), None, "the first one again");
        assert_eq!(offend(&mut offenders, from, later), FIRST);
        offenders.due(later + FIRST);
        offenders.due(later + FIRST + FORGOTTEN_AFTER);
        assert!(offenders.all.is_empty());
    }

    #[test]
    fn nothing_is_kept_when_it_is_off() {
        let mut offenders = Offenders::default();
        for _ in 0..10 {
            assert_eq!(offenders.fault(address("192.0.2.1"), Duration::ZERO, Instant::now()), None);
        }
        assert!(offenders.all.is_empty());
    }

    #[test]
    fn all_of_a_64_are_one_and_the_table_is_bounded() {
        let (mut offenders, now) = (Offenders::default(), Instant::now());
        offend(&mut offenders, address("2001:db8:0:1::1"), now);
        assert!(offenders.refuses(address("2001:db8:0:1:ffff::2"), now));
        for number in 0..2 * MOST {
            let from = IpAddr::from([10, 0, (number / 256) as u8, (number % 256) as u8]);
            offenders.fault(from, FIRST, now + Duration::from_millis(number as u64));
        }
        assert_eq!(offenders.all.len(), MOST);
        assert!(offenders.refuses(address("2001:db8:0:1::3"), now), "those that are refused stay");
    }

    #[test]
    fn the_next_gate_goes_on_refusing() {
        let (mut offenders, now, from) = (Offenders::default(), Instant::now(), address("192.0.2.1"));
        offend(&mut offenders, from, now);
        offenders.fault(address("192.0.2.2"), FIRST, now);
        let later = now + Duration::from_secs(4);
        let kept = postcard::to_allocvec(&offenders.kept(later)).unwrap();
        let mut offenders = Offenders::take_over(postcard::from_bytes(&kept).unwrap(), later);
        assert!(offenders.refuses(from, later) && !offenders.refuses(address("192.0.2.2"), later));
        assert_eq!(offenders.next_due(), Some(now + FIRST));
        assert_eq!(offenders.due(now + FIRST).len(), 1);
        assert!(offenders.fault(from, FIRST, now + FIRST).is_some());
        assert_eq!(offenders.next_due(), Some(now + FIRST + FIRST * 2));
    }

    #[test]
    fn the_next_gate_forgets_when_this_one_would_have_and_counts_on() {
        let (mut offenders, now, from) = (Offenders::default(), Instant::now() + FORGOTTEN_AFTER, address("192.0.2.1"));
        for _ in 0..FORGIVEN {
            assert_eq!(offenders.fault(from, FIRST, now), None);
        }
        let over = |offenders: &Offenders, at: Instant| Offenders::take_over(offenders.kept(at), at);
        let [almost, after] = [FORGOTTEN_AFTER - FIRST, FORGOTTEN_AFTER].map(|time| now + time);
        assert!(over(&offenders, almost).fault(from, FIRST, almost).is_some());
        assert_eq!(over(&offenders, almost).fault(from, FIRST, after), None);
        assert!(offenders.fault(from, FIRST, now).is_some());
        assert!(offenders.refuses(from, now));
        let line = over(&offenders, now).due(now + FIRST).remove(0);
        assert!(line.text.starts_with("1 connections were refused"), "{}", line.text);
    }
}
