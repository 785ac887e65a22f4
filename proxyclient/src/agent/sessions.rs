//! Sessions as the agent knows them: in set-up, and running (to be judged again by each new configuration).

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use proxydaemon::asynchronous::AsyncChannel;
use proxylink::pairing::{Direction, SessionId};
use proxylink::particulars::Particulars;
use proxylink::record::{SessionOutcome, SessionReport, UnixMillis};
use proxylink::situation::Situation;

use serde::{Deserialize, Serialize};
use verification::UnixTime;

use super::calling::Called;
use crate::between::{Assignment, HowEnded};

/// One session.
#[derive(Debug)]
pub struct Session {
    /// The link it belongs to, while it is in set-up.
    pub link: u64,
    /// Who called whom.
    pub direction: Direction,
    /// The partner's address as configured, when it was called.
    pub called: Option<String>,
    /// Name of its partner; stays as it was when the session was added.
    pub partner: Option<String>,
    /// Where the partner is; unspecified while it is called.
    pub peer: SocketAddr,
    /// What TLS agreed and what the partner's certificate says, for the line that it is paired.
    pub shown: String,
    /// The same, for the fields of that line.
    pub about: Particulars,
    /// What the partner showed.
    pub chain: Vec<Vec<u8>>,
    /// When the partner was judged.
    pub established: UnixTime,
    /// How its process has ended, if it has; what it said before is still to be heard.
    pub ended: Option<HowEnded>,
    /// Its record has come.
    pub recorded: bool,
    /// What it waits for.
    pub phase: Phase,
}

/// What happened to the process of a session.
type Told = (Situation, &'static str);

/// It ran and left no record: the gate killed it, or the record was lost on the way.
pub const UNRECORDED: Told = (Situation::SessionAborted, "the inside's process of the session ended without a record");

/// What is told whether there is a record or not.
pub const fn fault(how: HowEnded) -> Option<Told> {
    match how {
        HowEnded::Crashed => Some((Situation::SessionCrashed, "the inside's process of the session crashed")),
        HowEnded::Killed => Some((Situation::SessionKilled, "the inside's process of the session was killed")),
        HowEnded::Otherwise => None,
    }
}

/// What a session in set-up waits for.
#[derive(Debug)]
pub enum Phase {
    /// The gate forks it.
    Forking(Box<Assignment>, Instant),
    /// It connects to the receive daemon and makes its key.
    Preparing(Arc<AsyncChannel>, Instant),
    /// The DMZ knows its key; it connects there.
    Connecting(Instant),
    /// The DMZ calls the partner for it.
    Calling(Box<Called>),
    /// The called partner stands; the data connection is opened and handed over.
    Joining(Box<Called>),
    /// It runs.
    Running,
}

/// What a successor of this agent needs to judge a running session again.
#[derive(Debug, Serialize, Deserialize)]
pub struct Kept {
    direction: Direction,
    called: Option<String>,
    partner: Option<String>,
    peer: SocketAddr,
    chain: Vec<serde_bytes::ByteBuf>,
    established: u64,
}

impl Session {
    /// To be kept by the gate.
    pub fn kept(&self) -> Kept {
        Kept {
            direction: self.direction,
            called: self.called.clone(),
            partner: self.partner.clone(),
            peer: self.peer,
            chain: self.chain.iter().map(|der| serde_bytes::ByteBuf::from(der.as_slice())).collect(),
            established: self.established.as_secs(),
        }
    }

    /// The record of one that ran and whose process is gone without having written it, for this reason.
    pub fn lost(&self, id: SessionId, fault: Option<Told>, ended: UnixMillis) -> SessionReport {
        let partner = self.partner.as_deref().unwrap_or("(unknown)");
        let (situation, what) = fault.unwrap_or(UNRECORDED);
        let detail = format!(
            "peer={} partner={partner}: {what}; which files went through is not known here, and what was not acknowledged is \
             sent again in the next session",
            self.peer
        );
        SessionReport {
            id,
            direction: self.direction,
            partner: self.partner.clone(),
            ssid_code: None,
            peer: self.peer,
            called: self.called.clone(),
            certificate: self.chain.first().map(|der| *verification::Fingerprint::of(der).as_bytes()),
            tls: None,
            started: UnixMillis(i64::try_from(self.established.as_secs()).unwrap_or(i64::MAX).saturating_mul(1000)),
            ended,
            outcome: SessionOutcome::Aborted,
            situation,
            detail,
            octets_from_partner: 0,
            octets_to_partner: 0,
            files: Vec::new(),
        }
    }

    /// A session that runs since before this agent was started.
    pub fn running(kept: Kept) -> Self {
        Self {
            link: 0,
            direction: kept.direction,
            called: kept.called,
            partner: kept.partner,
            peer: kept.peer,
            shown: String::new(),
            about: Particulars::default(),
            chain: kept.chain.into_iter().map(serde_bytes::ByteBuf::into_vec).collect(),
            established: UnixTime::since_unix_epoch(Duration::from_secs(kept.established)),
            ended: None,
            recorded: false,
            phase: Phase::Running,
        }
    }
}

/// All sessions of the agent.
#[derive(Debug, Default)]
pub struct Sessions {
    all: HashMap<SessionId, Session>,
    of_partner: HashMap<String, usize>,
    /// All in set-up, and such as were at the last look.
    in_set_up: HashSet<SessionId>,
}

impl Sessions {
    /// Adds one; `false` when the name is taken.
    pub fn add(&mut self, id: SessionId, session: Session) -> bool {
        let Entry::Vacant(place) = self.all.entry(id) else { return false };
        if let Some(partner) = &session.partner {
            match self.of_partner.get_mut(partner) {
                Some(count) => *count += 1,
                None => drop(self.of_partner.insert(partner.clone(), 1)),
            }
        }
        if !matches!(session.phase, Phase::Running) {
            self.in_set_up.insert(id);
        }
        place.insert(session);
        true
    }

    /// A session.
    pub fn get_mut(&mut self, id: SessionId) -> Option<&mut Session> {
        self.all.get_mut(&id)
    }

    /// Forgets a session.
    pub fn remove(&mut self, id: SessionId) -> Option<Session> {
        let session = self.all.remove(&id)?;
        self.in_set_up.remove(&id);
        if let Some(partner) = &session.partner
            && let Some(count) = self.of_partner.get_mut(partner)
        {
            *count -= 1;
            if *count == 0 {
                self.of_partner.remove(partner);
            }
        }
        Some(session)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.all.len()
    }

    /// How many this partner has.
    pub fn of_partner(&self, partner: &str) -> usize {
        self.of_partner.get(partner).copied().unwrap_or(0)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (SessionId, &Session)> {
        self.all.iter().map(|(id, session)| (*id, session))
    }

    /// Those in set-up.
    pub fn in_set_up(&mut self) -> impl Iterator<Item = (SessionId, &Session)> {
        let all = &self.all;
        let waits = |id: &SessionId| all.get(id).is_some_and(|session| !matches!(session.phase, Phase::Running));
        self.in_set_up.retain(waits);
        self.in_set_up.iter().filter_map(|id| Some((*id, all.get(id)?)))
    }

    /// Those in set-up whose time is over, or whose link has ended.
    pub fn overdue(&mut self, now: Instant, link: Option<u64>) -> Vec<SessionId> {
        self.in_set_up()
            .filter(|(_, session)| match session.phase {
                Phase::Forking(_, deadline) | Phase::Preparing(_, deadline) => {
                    deadline <= now || link != Some(session.link)
                }
                Phase::Calling(ref called) => called.deadline <= now || link != Some(session.link),
                Phase::Joining(ref called) => called.deadline <= now,
                Phase::Connecting(deadline) => deadline <= now,
                Phase::Running => false,
            })
            .map(|(id, _)| id)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(partner: &str, phase: Phase) -> Session {
        Session {
            link: 7,
            direction: Direction::Incoming,
            called: None,
            partner: Some(partner.to_owned()),
            peer: "192.0.2.7:6619".parse().unwrap(),
            shown: "shown".to_owned(),
            about: Particulars::default(),
            chain: vec![b"certificate".to_vec()],
            established: UnixTime::since_unix_epoch(Duration::from_secs(5)),
            ended: Some(HowEnded::Otherwise),
            recorded: false,
            phase,
        }
    }

    fn id(number: u8) -> SessionId {
        SessionId::from_random([number; 16])
    }

    #[test]
    fn sessions_of_a_partner_are_counted_until_they_are_forgotten() {
        let mut sessions = Sessions::default();
        for (number, partner) in [(1, "ACME"), (2, "ACME"), (3, "OTHER")] {
            assert!(sessions.add(id(number), session(partner, Phase::Running)));
        }
        assert!(!sessions.add(id(3), session("ACME", Phase::Running)), "the name is taken");
        let counts = |sessions: &Sessions| ["ACME", "OTHER", "NOBODY"].map(|name| sessions.of_partner(name));
        assert_eq!((counts(&sessions), sessions.count()), ([2, 1, 0], 3));
        assert!(sessions.remove(id(1)).is_some() && sessions.remove(id(1)).is_none());
        assert!(sessions.remove(id(3)).is_some());
        assert_eq!((counts(&sessions), sessions.count()), ([1, 0, 0], 1));
        assert!(sessions.remove(id(2)).is_some());
        assert!(sessions.of_partner.is_empty());
    }

    #[test]
    fn those_in_set_up_are_overdue_by_their_time_or_without_their_link_and_those_that_run_never() {
        let (mut sessions, now) = (Sessions::default(), Instant::now());
        let later = now + Duration::from_secs(1);
        sessions.add(id(1), session("ACME", Phase::Connecting(later)));
        sessions.add(id(2), session("ACME", Phase::Connecting(now)));
        sessions.add(id(3), session("ACME", Phase::Connecting(now)));
        sessions.add(id(4), session("ACME", Phase::Running));
        sessions.get_mut(id(3)).unwrap().phase = Phase::Running;
        assert_eq!(sessions.overdue(now, Some(7)), [id(2)]);
        assert_eq!(sessions.in_set_up.len(), 2, "who runs is not looked at again");
        sessions.remove(id(2));
        assert_eq!(sessions.overdue(now, Some(7)), []);
        assert_eq!(sessions.overdue(later, Some(7)), [id(1)]);
        // One that connects needs the link no more.
        assert_eq!(sessions.overdue(now, None), []);
    }

    #[test]
    fn the_record_of_one_that_left_none_says_what_happened_to_its_process() {
        for (how, situation, what) in [
            (HowEnded::Crashed, Situation::SessionCrashed, "crashed;"),
            (HowEnded::Killed, Situation::SessionKilled, "was killed;"),
            (HowEnded::Otherwise, Situation::SessionAborted, "ended without a record;"),
        ] {
            let record = session("ACME", Phase::Running).lost(id(1), fault(how), UnixMillis(9000));
            assert_eq!((record.situation, record.outcome, record.ended.0), (situation, SessionOutcome::Aborted, 9000));
            assert!(record.detail.contains("partner=ACME") && record.detail.contains(what), "{}", record.detail);
        }
    }

    #[test]
    fn what_is_kept_says_who_was_called() {
        for (direction, called) in
            [(Direction::Incoming, None), (Direction::Outgoing, Some("acme.example:1".to_owned()))]
        {
            let session = Session { direction, called: called.clone(), ..session("ACME", Phase::Running) };
            let octets = postcard::to_allocvec(&session.kept()).unwrap();
            let again = Session::running(postcard::from_bytes(&octets).unwrap());
            assert_eq!((again.direction, again.called, again.partner), (direction, called, session.partner));
            assert_eq!(
                (again.peer, again.chain, again.established),
                (session.peer, session.chain, session.established)
            );
        }
    }
}
