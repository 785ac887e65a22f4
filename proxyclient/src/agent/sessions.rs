//! Sessions as the agent knows them: in set-up, and running (to be judged again by each new configuration).

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use proxydaemon::asynchronous::AsyncChannel;
use proxylink::pairing::{Direction, SessionId};
use proxylink::particulars::Particulars;

use serde::{Deserialize, Serialize};
use verification::UnixTime;

use super::calling::Called;
use crate::between::Assignment;

/// One session.
#[derive(Debug)]
pub struct Session {
    /// The link it belongs to, while it is in set-up.
    pub link: u64,
    /// Who called whom.
    pub direction: Direction,
    /// The partner's address as configured, when it was called.
    pub called: Option<String>,
    /// Name of its partner.
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
    /// Its process has ended; what it said before is still to be heard.
    pub ended: bool,
    /// What it waits for.
    pub phase: Phase,
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
            ended: false,
            phase: Phase::Running,
        }
    }
}

/// All sessions of the agent.
#[derive(Debug, Default)]
pub struct Sessions {
    all: HashMap<SessionId, Session>,
}

impl Sessions {
    /// Adds one; `false` when the name is taken.
    pub fn add(&mut self, id: SessionId, session: Session) -> bool {
        if self.all.contains_key(&id) {
            return false;
        }
        self.all.insert(id, session);
        true
    }

    /// A session.
    pub fn get_mut(&mut self, id: SessionId) -> Option<&mut Session> {
        self.all.get_mut(&id)
    }

    /// Forgets a session.
    pub fn remove(&mut self, id: SessionId) -> Option<Session> {
        self.all.remove(&id)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.all.len()
    }

    /// How many this partner has.
    pub fn of_partner(&self, partner: &str) -> usize {
        self.all.values().filter(|session| session.partner.as_deref() == Some(partner)).count()
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (SessionId, &Session)> {
        self.all.iter().map(|(id, session)| (*id, session))
    }

    /// Those in set-up whose time is over, or whose link has ended.
    pub fn overdue(&self, now: Instant, link: Option<u64>) -> Vec<SessionId> {
        self.iter()
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

    #[test]
    fn what_is_kept_says_who_was_called() {
        for (direction, called) in
            [(Direction::Incoming, None), (Direction::Outgoing, Some("acme.example:1".to_owned()))]
        {
            let session = Session {
                link: 7,
                direction,
                called: called.clone(),
                partner: Some("ACME".to_owned()),
                peer: "192.0.2.7:6619".parse().unwrap(),
                shown: "shown".to_owned(),
                about: Particulars::default(),
                chain: vec![b"certificate".to_vec()],
                established: UnixTime::since_unix_epoch(Duration::from_secs(5)),
                ended: true,
                phase: Phase::Running,
            };
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
