//! Misbehaviour of the proxyclient's processes, towards whoever is stronger.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use proxydaemon::descriptors::Channel;
use proxydaemon::logging::ChildLog;
use proxylink::pairing::{Direction, KeyHash, SessionId};
use proxylink::record::{SessionOutcome, SessionReport};
use proxylink::situation::Situation;

use crate::between::{Assignment, FromSession, LARGEST};

const PATIENCE: Duration = Duration::from_secs(60);

/// A session that has just confined itself: what its partner's address orders instead of its work.
pub fn session(assignment: &Assignment, agent: &Channel, log: &ChildLog) {
    if let Some(attempt) = attempts::attempt_of(assignment.peer.ip()) {
        attempts::make(attempt);
    }
    let Some(words) = attempts::inside_words_of(assignment.peer.ip()) else { return };
    let said = say(words, assignment, agent, log);
    log::debug!("evil session: {words}: {said:?}");
    attempts::idle(PATIENCE);
    log::error!("evil session: {words}: nobody minded");
}

fn say(words: &str, assignment: &Assignment, agent: &Channel, log: &ChildLog) -> std::io::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    match words {
        "a second key" => {
            let key = FromSession::Key(KeyHash::from_octets([9; 32]));
            agent.send_by(deadline, &postcard::to_allocvec(&key).unwrap_or_default(), &[])
        }
        "words after its last one" => {
            let linked = postcard::to_allocvec(&FromSession::Linked).unwrap_or_default();
            (0..10).try_for_each(|_| agent.send_by(deadline, &linked, &[]))
        }
        "an unknown kind" => agent.send_by(deadline, &[99, 1], &[]),
        "too large for the channel" => agent.send_by(deadline, &vec![0; LARGEST + 1], &[]),
        "a record of another session" => {
            let record = record(assignment);
            log.hand_over(&postcard::to_allocvec(&record).unwrap_or_default(), deadline)
        }
        _ => attempts::say_to_log(words, log.as_fd()),
    }
}

fn record(assignment: &Assignment) -> SessionReport {
    SessionReport {
        id: SessionId::from_random([7; 16]),
        direction: Direction::Incoming,
        partner: assignment.partner.clone(),
        ssid_code: None,
        called: None,
        peer: assignment.peer,
        certificate: None,
        tls: None,
        started: assignment.started,
        ended: assignment.started,
        outcome: SessionOutcome::Completed,
        situation: Situation::SessionEnded,
        detail: "evil".into(),
        octets_from_partner: 0,
        octets_to_partner: 0,
        files: Vec::new(),
    }
}
