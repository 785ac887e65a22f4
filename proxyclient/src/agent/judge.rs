//! The second judgement: what the DMZ presents is verified again, from the octets of the handshake, and the partner is
//! named here.

use std::collections::{HashSet, VecDeque};
use std::time::{SystemTime, UNIX_EPOCH};

use proxylink::message::Refused;
use proxylink::pairing::{Direction, PairingRequest, SessionId};
use proxylink::situation::Situation;
use rustls::pki_types::{CertificateDer, UnixTime};
use verification::{
    CertificateFacts, Fingerprint, KnownSignatures, Peer, Policy, Presented, Refusal, Unsure, VerifiedPartner,
};

use super::sessions::Session;
use super::spent::Spent;

/// Refusals whose record the DMZ may still send.
const MOST_REFUSED: usize = 4096;
/// Issuers that are told of in one configuration. More than a configuration has.
const MOST_DOUBTS: usize = 4096;

/// Judges a pairing request, at this time.
///
/// # Errors
/// The refusal, with its situation and what the certificate that was presented says of itself.
pub fn judge(
    request: &PairingRequest,
    peer: Peer<'_>,
    policy: &[u8],
    known: &KnownSignatures,
    own_certificates: &[[u8; 32]],
    spent: &mut Spent,
    now: UnixTime,
) -> Result<VerifiedPartner, Refused> {
    let (direction, side) = match peer {
        Peer::Caller => (Direction::Incoming, "no such session was called"),
        Peer::Called { .. } => (Direction::Outgoing, "the session was called, and did not come"),
    };
    if request.direction != direction {
        let text = side.to_owned();
        return Err(Refused { situation: Situation::PairingRefused, text });
    }
    let chain: Vec<_> = request.chain.0.iter().map(|der| CertificateDer::from(der.as_slice())).collect();
    let end_entity = chain.first().ok_or_else(|| Refused {
        situation: Situation::CertificateMissing,
        text: "the DMZ presents no certificate".to_owned(),
    })?;
    let refused = |refusal: Refusal| told(&refusal, end_entity);
    let possession = request.signature.verify(end_entity, peer.direction()).map_err(refused)?;
    // In TLS 1.2 the partner signed the whole handshake, our certificate in it: one made towards another server does not count.
    if let Some(server_chain) = request.signature.server_chain(peer.direction())
        && !server_chain.first().is_some_and(|own| own_certificates.contains(Fingerprint::of(own).as_bytes()))
    {
        return Err(Refused {
            situation: Situation::HandshakeSignatureInvalid,
            text: with_facts("the signature was made in a handshake with another server".to_owned(), end_entity),
        });
    }
    let policy = Policy::open(policy)
        .map_err(|error| Refused { situation: Situation::PairingRefused, text: error.to_string() })?;
    let (policy, presented) = (policy.remembering(known), Presented { chain: &chain, peer });
    let partner = verification::judge(presented, &policy, now, request.peer.ip()).map_err(refused)?;
    // Only now, so that nobody fills the memory with signatures of keys that nobody trusts.
    let (first_time, kept) = spent.take(*possession.digest(), *partner.fingerprint().as_bytes());
    if !first_time {
        return Err(Refused {
            situation: Situation::SignatureReplayed,
            text: with_facts("this handshake signature was presented before".to_owned(), end_entity),
        });
    }
    if let Err(error) = kept {
        Situation::SpoolUnwritable.tell(format_args!("the memory of handshake signatures: {error}"));
    }
    Ok(partner)
}

/// Judges a running session again, by a newer policy; expiry alone does not end a session.
///
/// # Errors
/// Why it no longer stands.
pub fn still_stands(session: &Session, policy: &[u8], known: &KnownSignatures) -> Result<(), Refused> {
    let chain: Vec<_> = session.chain.iter().map(|der| CertificateDer::from(der.as_slice())).collect();
    let policy = Policy::open(policy)
        .map_err(|error| Refused { situation: Situation::PairingRefused, text: error.to_string() })?;
    let name = session.partner.as_deref();
    let peer = match (session.direction, name) {
        (Direction::Outgoing, Some(partner)) => Peer::Called { partner },
        _ => Peer::Caller,
    };
    let (policy, presented) = (policy.remembering(known), Presented { chain: &chain, peer });
    match verification::judge_again(presented, &policy, session.established, now(), session.peer.ip()) {
        Ok(partner) if partner.name() == name => Ok(()),
        Ok(partner) => Err(Refused {
            situation: Situation::PartnerUnknown,
            text: format!("its certificate is now that of {}", partner.name().unwrap_or("no configured partner")),
        }),
        Err(refusal) => Err(told(&refusal, chain.first().map_or(&[], AsRef::as_ref))),
    }
}

/// Whether these certificates, shown by a server in a handshake that is not done, are the called partner's.
///
/// # Errors
/// Why not.
pub fn is_partners(chain: &[&[u8]], partner: &str, policy: &[u8]) -> Result<(), Refused> {
    let chain: Vec<_> = chain.iter().map(|der| CertificateDer::from(*der)).collect();
    let policy = Policy::open(policy)
        .map_err(|error| Refused { situation: Situation::PairingRefused, text: error.to_string() })?;
    let presented = Presented { chain: &chain, peer: Peer::Called { partner } };
    // Where it was called at is no question of the judgement on a called partner.
    let anywhere = std::net::Ipv6Addr::UNSPECIFIED.into();
    match verification::judge(presented, &policy, now(), anywhere) {
        Ok(_) => Ok(()),
        Err(refusal) => Err(told(&refusal, chain.first().map_or(&[], AsRef::as_ref))),
    }
}

/// The situation of a refusal.
pub fn situation(refusal: &Refusal) -> Situation {
    Situation::by_code(refusal.code()).unwrap_or(Situation::CertificateChainInvalid)
}

fn told(refusal: &Refusal, end_entity: &[u8]) -> Refused {
    Refused { situation: situation(refusal), text: with_facts(refusal.to_string(), end_entity) }
}

fn with_facts(text: String, end_entity: &[u8]) -> String {
    match CertificateFacts::read(end_entity) {
        Ok(facts) => format!("{text}; shown was {facts}"),
        Err(_) => text,
    }
}

/// What was told already of that which a judgement could not know: once for each issuer in one configuration.
#[derive(Debug, Default)]
pub struct Doubts {
    told: HashSet<(Situation, String)>,
}

impl Doubts {
    /// Another configuration is in force.
    pub fn begin_anew(&mut self) {
        self.told.clear();
    }

    /// What is new among the doubts about this partner.
    pub fn new_of(&mut self, partner: &VerifiedPartner) -> Vec<(Situation, String)> {
        let new = |unsure: &Unsure| {
            let (situation, issuer) = match unsure {
                Unsure::CrlMissing { issuer } => (Situation::CrlMissing, issuer),
                Unsure::CrlExpired { issuer, .. } => (Situation::CrlExpired, issuer),
            };
            let room = self.told.len() < MOST_DOUBTS;
            (room && self.told.insert((situation, issuer.clone()))).then(|| (situation, unsure.to_string()))
        };
        partner.unsure().iter().filter_map(new).collect()
    }
}

/// Sessions that were refused here, so that the event of the DMZ's record is not a second one.
#[derive(Debug, Default)]
pub struct RefusedHere {
    known: HashSet<SessionId>,
    order: VecDeque<SessionId>,
}

impl RefusedHere {
    /// This session was refused here, with an event.
    pub fn add(&mut self, session: SessionId) {
        if self.known.insert(session) {
            self.order.push_back(session);
        }
        if self.order.len() > MOST_REFUSED
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }

    /// Whether this session was refused here.
    pub fn has(&self, session: SessionId) -> bool {
        self.known.contains(&session)
    }
}

/// The time, for judgements.
pub fn now() -> UnixTime {
    UnixTime::since_unix_epoch(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(number: usize) -> SessionId {
        let mut octets = [0; 16];
        octets[..4].copy_from_slice(&u32::try_from(number).unwrap().to_be_bytes());
        SessionId::from_random(octets)
    }

    #[test]
    fn sessions_refused_here_are_known_and_the_oldest_forgotten() {
        let mut refused = RefusedHere::default();
        for number in 0..MOST_REFUSED + 2 {
            refused.add(session(number));
            refused.add(session(number));
        }
        assert!(!refused.has(session(0)) && !refused.has(session(1)));
        assert!(refused.has(session(2)) && refused.has(session(MOST_REFUSED + 1)));
        assert_eq!((refused.known.len(), refused.order.len()), (MOST_REFUSED, MOST_REFUSED));
    }

    #[test]
    fn every_code_of_the_judgement_is_a_situation() {
        for code in Refusal::CODES {
            assert!(Situation::by_code(code).is_some(), "{code}");
        }
    }
}
