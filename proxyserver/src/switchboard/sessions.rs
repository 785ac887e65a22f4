//! Sessions in set-up: what each may ask, in which phase, and the tokens that find them.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::Arc;

use proxydaemon::asynchronous::AsyncChannel;
use proxylink::message::{CallFailed, SignRequest};
use proxylink::pairing::{Direction, PairingRequest, SessionId, TRIES, TlsFacts, Token};
use proxylink::particulars::{Particulars, ShownCertificate};
use proxylink::record::SessionReport;
use tokio::task::AbortHandle;

use crate::between::FromSession;

/// Octets of the largest message that a handshake signs: the transcript of a TLS 1.2 handshake.
const LARGEST_SIGNED: usize = 96 * 1024;

/// Octets of all texts of a record and of what is told with it. Ours cut theirs at [`proxylink::record::LONGEST_DETAIL`].
const LARGEST_TEXTS: usize = 4 * proxylink::record::LONGEST_DETAIL;

/// One session in set-up.
#[derive(Debug)]
pub struct Waiting {
    /// To its process.
    pub channel: Arc<AsyncChannel>,
    /// Between whom it is.
    parties: Parties,
    /// The link that serves it.
    link: u64,
    phase: Phase,
    /// A data connection that overtook the inside's answer on the control connection.
    early: Option<TcpStream>,
    /// Ends the task that listens to it.
    reader: Option<AbortHandle>,
}

/// Between whom a session is, as far as that is known without it.
#[derive(Debug)]
pub enum Parties {
    /// This peer has called, and came in here.
    Incoming {
        /// The partner's end.
        peer: SocketAddr,
        /// Ours.
        local: SocketAddr,
    },
    /// One of these addresses is called.
    Outgoing {
        /// The partner's addresses.
        to: Vec<SocketAddr>,
        /// Ours, where it is configured.
        from: Option<IpAddr>,
    },
}

impl Parties {
    /// Whether a request may speak of this direction and of these two ends.
    fn admit(&self, direction: Direction, peer: SocketAddr, local: SocketAddr) -> bool {
        match self {
            Self::Incoming { peer: caller, local: called } => {
                direction == Direction::Incoming && (peer, local) == (*caller, *called)
            }
            Self::Outgoing { to, from } => {
                // A wildcard chooses the family alone.
                let wanted = from.filter(|from| !from.is_unspecified());
                let ours = wanted.map_or(!local.ip().is_unspecified(), |from| local.ip() == from);
                direction == Direction::Outgoing && to.contains(&peer) && ours
            }
        }
    }

    /// Our end, where it is known.
    const fn local(&self) -> Option<SocketAddr> {
        match self {
            Self::Incoming { local, .. } => Some(*local),
            Self::Outgoing { .. } => None,
        }
    }

    /// Whether a record may speak of this direction and this peer; of an outgoing session perhaps of nobody.
    fn admit_record(&self, record: &SessionReport) -> bool {
        match self {
            Self::Incoming { peer, .. } => record.direction == Direction::Incoming && record.peer == *peer,
            Self::Outgoing { to, .. } => {
                let unreached = record.peer.ip().is_unspecified() && record.peer.port() == 0;
                record.direction == Direction::Outgoing && (unreached || to.contains(&record.peer))
            }
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// In the partner's handshake; a signature may be asked for once.
    Handshake { asked: bool },
    /// The inside judges.
    Judging(Token),
    /// The inside has said yes; so many connections with the token may still come.
    Connecting(Token, u8),
    /// It was refused what it asked for: only its record may still come, or the word that it was linked before it heard.
    Refused { may_be_linked: bool },
}

impl Phase {
    /// Whether it has leave to be linked, and perhaps is without having been heard.
    const fn may_be_linked(self) -> bool {
        matches!(self, Self::Connecting(..) | Self::Refused { may_be_linked: true })
    }
}

/// Something that a session may not send now. It is ended for that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Misconduct {
    /// Out of turn.
    #[error("a session asked for something out of turn")]
    OutOfTurn,
    /// Too large.
    #[error("a session sent something larger than any handshake needs")]
    TooLarge,
    /// About somebody else.
    #[error("a session named another peer or direction than its own")]
    OtherPeer,
}

/// A question that was permitted.
#[derive(Debug)]
pub enum Permitted {
    /// Pass the signing request on.
    Sign(SignRequest),
    /// Pass the pairing request on.
    Pair(Box<PairingRequest>),
    /// The session is paired and needs nobody any more.
    Done,
    /// The session ends unpaired, with its record, and what the log is to know of it.
    Ended(Box<SessionReport>, Box<Particulars>),
    /// The outgoing session ends unpaired.
    CallFailed(Box<CallFailed>, Box<Particulars>),
}

impl Waiting {
    /// Whether we call the partner.
    pub const fn is_outgoing(&self) -> bool {
        matches!(self.parties, Parties::Outgoing { .. })
    }
}

/// All sessions in set-up.
#[derive(Debug, Default)]
pub struct Sessions {
    waiting: HashMap<SessionId, Waiting>,
    tokens: HashMap<Token, SessionId>,
}

impl Sessions {
    /// Adds a session that was just forked.
    pub fn add(&mut self, session: SessionId, channel: Arc<AsyncChannel>, parties: Parties, link: u64) {
        let phase = Phase::Handshake { asked: false };
        self.waiting.insert(session, Waiting { channel, parties, link, phase, early: None, reader: None });
    }

    /// Names the task that listens to a session.
    pub fn listened_to_by(&mut self, session: SessionId, reader: AbortHandle) {
        if let Some(waiting) = self.waiting.get_mut(&session) {
            waiting.reader = Some(reader);
        }
    }

    /// Forgets a session that misbehaves: nothing more of it is heard.
    pub fn expel(&mut self, session: SessionId) -> bool {
        self.forget(session).is_some()
    }

    /// Forgets a session, of which nothing more is heard.
    pub fn forget(&mut self, session: SessionId) -> Option<Waiting> {
        let waiting = self.remove(session)?;
        if let Some(reader) = &waiting.reader {
            reader.abort();
        }
        Some(waiting)
    }

    /// Forgets a session and its token; whether it was in set-up, and with which link. Who listens to it goes on, as nothing
    /// may come but its end.
    fn remove(&mut self, session: SessionId) -> Option<Waiting> {
        let waiting = self.waiting.remove(&session)?;
        if let Phase::Judging(token) | Phase::Connecting(token, _) = waiting.phase {
            self.tokens.remove(&token);
        }
        Some(waiting)
    }

    /// A session is refused what it asked for. Its token is void; it may still hand over its record.
    pub fn refuse(&mut self, session: SessionId) -> Option<&Waiting> {
        let waiting = self.waiting.get_mut(&session)?;
        if let Phase::Judging(token) | Phase::Connecting(token, _) = waiting.phase {
            self.tokens.remove(&token);
        }
        waiting.phase = Phase::Refused { may_be_linked: waiting.phase.may_be_linked() };
        waiting.early = None;
        Some(waiting)
    }

    /// As [`Sessions::refuse`], for all sessions that this link serves.
    pub fn refuse_of(&mut self, link: u64) -> Vec<&Waiting> {
        let served: Vec<_> =
            self.waiting.iter().filter(|(_, waiting)| waiting.link == link).map(|(session, _)| *session).collect();
        for session in &served {
            self.refuse(*session);
        }
        served.iter().filter_map(|session| self.waiting.get(session)).collect()
    }

    /// Whether an outgoing session of this name is in set-up.
    pub fn is_outgoing(&self, session: SessionId) -> bool {
        self.waiting.get(&session).is_some_and(Waiting::is_outgoing)
    }

    /// Whether a session has leave to be linked, and perhaps is without having been heard.
    pub fn may_be_linked(&self, session: SessionId) -> bool {
        self.waiting.get(&session).is_some_and(|waiting| waiting.phase.may_be_linked())
    }

    /// The outgoing sessions in set-up that this link serves.
    pub fn outgoing_of(&self, link: u64) -> impl Iterator<Item = SessionId> {
        let of_link = move |waiting: &Waiting| waiting.link == link && waiting.is_outgoing();
        self.waiting.iter().filter(move |(_, waiting)| of_link(waiting)).map(|(session, _)| *session)
    }

    /// Whether a session is in set-up.
    pub fn is_waiting(&self, session: SessionId) -> bool {
        self.waiting.contains_key(&session)
    }

    /// Holds a question against the session's phase.
    ///
    /// # Errors
    /// [`Misconduct`]: the session is to be ended.
    pub fn permit(&mut self, session: SessionId, question: FromSession) -> Result<Permitted, Misconduct> {
        let waiting = self.waiting.get_mut(&session).ok_or(Misconduct::OutOfTurn)?;
        match (waiting.phase, question) {
            (Phase::Handshake { asked: false }, FromSession::Sign(request)) => {
                if request.message.len() > LARGEST_SIGNED {
                    return Err(Misconduct::TooLarge);
                }
                waiting.phase = Phase::Handshake { asked: true };
                Ok(Permitted::Sign(request))
            }
            (Phase::Handshake { .. }, FromSession::Pair(request)) => {
                if !waiting.parties.admit(request.direction, request.peer, request.local) {
                    return Err(Misconduct::OtherPeer);
                }
                let signature = &request.signature;
                let is_of_a_handshake = request.chain.is_within_bounds()
                    && signature.is_within_bounds()
                    && signature.message.len() <= LARGEST_SIGNED
                    && request.tls.is_within_bounds();
                if !is_of_a_handshake {
                    return Err(Misconduct::TooLarge);
                }
                if self.tokens.contains_key(&request.token) {
                    return Err(Misconduct::OutOfTurn);
                }
                self.tokens.insert(request.token, session);
                waiting.phase = Phase::Judging(request.token);
                Ok(Permitted::Pair(request))
            }
            (phase, FromSession::Linked) if phase.may_be_linked() => {
                self.remove(session);
                Ok(Permitted::Done)
            }
            (_, FromSession::Refused(record, shown)) if !waiting.is_outgoing() => {
                if record.id != session || !waiting.parties.admit_record(&record) {
                    return Err(Misconduct::OtherPeer);
                }
                if !are_brief("", Some(&record), shown.as_ref()) {
                    return Err(Misconduct::TooLarge);
                }
                let local = waiting.parties.local();
                self.remove(session);
                let about = Particulars { local, shown, ..Particulars::of_record(&record) };
                Ok(Permitted::Ended(record, Box::new(about)))
            }
            (_, FromSession::CallFailed(failed, shown)) if waiting.is_outgoing() => {
                let speaks_of_itself =
                    |record: &SessionReport| record.id == session && waiting.parties.admit_record(record);
                if !failed.record.as_ref().is_none_or(speaks_of_itself) {
                    return Err(Misconduct::OtherPeer);
                }
                if !are_brief(&failed.refused.text, failed.record.as_ref(), shown.as_ref()) {
                    return Err(Misconduct::TooLarge);
                }
                self.remove(session);
                let unknown = || Particulars { session: Some(session), ..Particulars::default() };
                let about =
                    Particulars { shown, ..failed.record.as_ref().map_or_else(unknown, Particulars::of_record) };
                Ok(Permitted::CallFailed(failed, Box::new(about)))
            }
            _ => Err(Misconduct::OutOfTurn),
        }
    }

    /// The inside has judged well: connections with the token may come. With the session the one that came already.
    pub fn paired(&mut self, session: SessionId) -> Option<(&Waiting, Option<TcpStream>)> {
        let waiting = self.waiting.get_mut(&session)?;
        let Phase::Judging(token) = waiting.phase else { return None };
        let early = waiting.early.take();
        waiting.phase = Phase::Connecting(token, if early.is_some() { TRIES - 1 } else { TRIES });
        Some((waiting, early))
    }

    /// Whether a signature was asked for and can be answered.
    pub fn awaits_signature(&self, session: SessionId) -> Option<&Waiting> {
        self.waiting.get(&session).filter(|waiting| waiting.phase == Phase::Handshake { asked: true })
    }

    /// Finds the session of a data connection by its token, which costs a try. Gives session and socket when the socket
    /// may be handed over now.
    ///
    /// # Errors
    /// [`TokenUnknown`]; the socket is closed.
    pub fn connect(
        &mut self,
        token: Token,
        socket: TcpStream,
    ) -> Result<Option<(SessionId, &Waiting, TcpStream)>, TokenUnknown> {
        let session = *self.tokens.get(&token).ok_or(TokenUnknown)?;
        let waiting = self.waiting.get_mut(&session).ok_or(TokenUnknown)?;
        match waiting.phase {
            Phase::Connecting(_, tries @ 1..) => {
                waiting.phase = Phase::Connecting(token, tries - 1);
                Ok(Some((session, waiting, socket)))
            }
            Phase::Judging(_) if waiting.early.is_none() => {
                waiting.early = Some(socket);
                Ok(None)
            }
            _ => Err(TokenUnknown),
        }
    }
}

/// Whether the texts at the end of a session are those of one that never was paired, which has no files.
fn are_brief(text: &str, record: Option<&SessionReport>, shown: Option<&ShownCertificate>) -> bool {
    let of_record = record.map_or(0, |record| {
        let words = [&record.partner, &record.ssid_code, &record.called].into_iter().flatten();
        record.detail.len() + words.map(String::len).sum::<usize>()
    });
    let of_shown = shown.map_or(0, |shown| shown.subject.len() + shown.issuer.len() + shown.serial.len());
    text.len() + of_record + of_shown <= LARGEST_TEXTS
        && record.is_none_or(|record| record.files.is_empty())
        && record.and_then(|record| record.tls.as_ref()).is_none_or(TlsFacts::is_within_bounds)
}

/// No session waits for this token: it was guessed, spent, or its session has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no session waits for this pairing token (guessed, spent or too late)")]
pub struct TokenUnknown;

#[cfg(test)]
mod tests {
    use super::*;
    use proxylink::message::SignRequest;
    use proxylink::pairing::{Chain, KeyHash, LARGEST_CHAIN, LONGEST_NAME, MOST_CERTIFICATES};
    use std::net::TcpListener;
    use verification::possession::{HandshakeSignature, Version};

    const PEER: &str = "192.0.2.1:4711";
    const LOCAL: &str = "192.0.2.254:6619";

    fn id(number: u8) -> SessionId {
        SessionId::from_random([number; 16])
    }

    fn sign(octets: usize) -> FromSession {
        FromSession::Sign(SignRequest { certificate: [0; 32], scheme: 0x0403, message: vec![0; octets] })
    }

    fn request(token: u8, peer: &str) -> PairingRequest {
        PairingRequest {
            direction: Direction::Incoming,
            peer: peer.parse().unwrap(),
            local: LOCAL.parse().unwrap(),
            chain: Chain(vec![serde_bytes::ByteBuf::from(vec![0x30; 10])]),
            signature: HandshakeSignature {
                version: Version::Tls13,
                message: vec![0; 130],
                scheme: 0x0403,
                signature: vec![0; 70],
            },
            tls: TlsFacts {
                version: "TLSv1.3".to_owned(),
                cipher_suite: "TLS_AES_256_GCM_SHA384".to_owned(),
                key_exchange: "X25519".to_owned(),
            },
            dmz_key: KeyHash::from_octets([1; 32]),
            token: Token::from_octets([token; 32]),
        }
    }

    fn pair(token: u8) -> FromSession {
        FromSession::Pair(Box::new(request(token, PEER)))
    }

    /// The record of a session that was refused.
    fn record(number: u8) -> SessionReport {
        SessionReport {
            id: id(number),
            direction: Direction::Incoming,
            partner: None,
            ssid_code: None,
            peer: PEER.parse().unwrap(),
            called: None,
            certificate: None,
            tls: None,
            started: proxylink::record::UnixMillis(0),
            ended: proxylink::record::UnixMillis(1),
            outcome: proxylink::record::SessionOutcome::Refused,
            situation: proxylink::situation::Situation::PartnerUnknown,
            detail: String::new(),
            octets_from_partner: 0,
            octets_to_partner: 0,
            files: Vec::new(),
        }
    }

    /// Runs with two sessions in set-up, 1 of link 7 and 2 of link 8.
    fn with_two(test: impl FnOnce(Sessions)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let _inside = runtime.enter();
        let mut sessions = Sessions::default();
        for (number, link) in [(1, 7), (2, 8)] {
            let (ours, theirs) = proxydaemon::descriptors::Channel::pair().unwrap();
            std::mem::forget(theirs);
            let channel = Arc::new(AsyncChannel::new(ours, 1024).unwrap());
            let parties = Parties::Incoming { peer: PEER.parse().unwrap(), local: LOCAL.parse().unwrap() };
            sessions.add(id(number), channel, parties, link);
        }
        test(sessions);
    }

    fn socket() -> TcpStream {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        TcpStream::connect(listener.local_addr().unwrap()).unwrap()
    }

    #[test]
    fn one_signature_and_one_pairing_in_this_order() {
        with_two(|mut sessions| {
            assert!(matches!(sessions.permit(id(1), sign(130)), Ok(Permitted::Sign(_))));
            assert!(matches!(sessions.permit(id(1), sign(130)), Err(Misconduct::OutOfTurn)));
            assert!(matches!(sessions.permit(id(1), FromSession::Linked), Err(Misconduct::OutOfTurn)));
            assert!(matches!(sessions.permit(id(1), pair(1)), Ok(Permitted::Pair(_))));
            assert!(matches!(sessions.permit(id(1), pair(3)), Err(Misconduct::OutOfTurn)));
            assert!(matches!(sessions.permit(id(1), sign(130)), Err(Misconduct::OutOfTurn)));
            assert!(matches!(sessions.permit(id(9), sign(130)), Err(Misconduct::OutOfTurn)), "no such session");
        });
    }

    #[test]
    fn nothing_larger_than_a_handshake_and_nobody_elses_name() {
        with_two(|mut sessions| {
            assert!(matches!(sessions.permit(id(1), sign(LARGEST_SIGNED + 1)), Err(Misconduct::TooLarge)));
            let other = FromSession::Pair(Box::new(request(1, "192.0.2.2:4711")));
            assert!(matches!(sessions.permit(id(1), other), Err(Misconduct::OtherPeer)));
            let mut large = request(1, PEER);
            large.chain = Chain(vec![serde_bytes::ByteBuf::from(vec![0; LARGEST_CHAIN + 1])]);
            assert!(matches!(sessions.permit(id(1), FromSession::Pair(Box::new(large))), Err(Misconduct::TooLarge)));
            let too_large: [&dyn Fn(&mut PairingRequest); 6] = [
                &|request| request.chain = Chain(vec![serde_bytes::ByteBuf::new(); MOST_CERTIFICATES + 1]),
                &|request| request.signature.message = vec![0; LARGEST_SIGNED + 1],
                &|request| request.signature.signature = vec![0; 9000],
                &|request| request.tls.version = "x".repeat(LONGEST_NAME + 1),
                &|request| request.tls.cipher_suite = "x".repeat(LONGEST_NAME + 1),
                &|request| request.tls.key_exchange = "x".repeat(LONGEST_NAME + 1),
            ];
            for change in too_large {
                let mut large = request(1, PEER);
                change(&mut large);
                let answer = sessions.permit(id(1), FromSession::Pair(Box::new(large)));
                assert!(matches!(answer, Err(Misconduct::TooLarge)));
            }
            // A token that another session has already would lead its data connection astray.
            assert!(matches!(sessions.permit(id(1), pair(1)), Ok(Permitted::Pair(_))));
            assert!(matches!(sessions.permit(id(2), pair(1)), Err(Misconduct::OutOfTurn)));
        });
    }

    #[test]
    fn the_largest_that_is_permitted_can_be_passed_on() {
        with_two(|mut sessions| {
            let mut largest = request(1, PEER);
            let certificate = serde_bytes::ByteBuf::from(vec![0; LARGEST_CHAIN / MOST_CERTIFICATES]);
            largest.chain = Chain(vec![certificate; MOST_CERTIFICATES]);
            largest.signature.message = vec![0; LARGEST_SIGNED];
            largest.signature.signature = vec![0; 8192];
            let names = [&mut largest.tls.version, &mut largest.tls.cipher_suite, &mut largest.tls.key_exchange];
            names.into_iter().for_each(|name| *name = "x".repeat(LONGEST_NAME));
            let question = FromSession::Pair(Box::new(largest));
            let octets = proxylink::frame::encode(&question).unwrap().len();
            assert!(octets <= crate::between::LARGEST, "{octets}");
            let Ok(Permitted::Pair(request)) = sessions.permit(id(1), question) else { panic!("not permitted") };
            let message = proxylink::message::FromServer::Pair(id(1), request);
            let around = proxylink::frame::encode(&message).unwrap().len() - octets;
            assert!(around <= proxylink::frame::AROUND, "{around}");
        });
    }

    #[test]
    fn a_record_has_the_texts_of_a_session_that_never_was_paired() {
        let with = |change: &dyn Fn(&mut SessionReport)| {
            let mut record = record(1);
            change(&mut record);
            Box::new(record)
        };
        let file = proxylink::record::FileReport {
            dataset_name: "FILE".to_owned(),
            direction: proxylink::record::FileDirection::FromPartner,
            octets: 1,
            result: proxylink::record::FileResult::Acknowledged,
        };
        let long = || "x".repeat(LARGEST_TEXTS + 1);
        let tls = TlsFacts { version: "x".repeat(LONGEST_NAME + 1), ..request(1, PEER).tls };
        let shown = ShownCertificate { subject: String::new(), issuer: long(), serial: String::new() };
        with_two(|mut sessions| {
            for (record, shown) in [
                (with(&|record| record.detail = long()), None),
                (with(&|record| record.partner = Some(long())), None),
                (with(&|record| record.ssid_code = Some(long())), None),
                (with(&|record| record.called = Some(long())), None),
                (with(&|record| record.tls = Some(tls.clone())), None),
                (with(&|record| record.files = vec![file.clone()]), None),
                (with(&|_| {}), Some(shown)),
            ] {
                let answer = sessions.permit(id(1), FromSession::Refused(record, shown));
                assert!(matches!(answer, Err(Misconduct::TooLarge)));
            }
            let brief = with(&|record| record.detail = "x".repeat(LARGEST_TEXTS));
            assert!(matches!(sessions.permit(id(1), FromSession::Refused(brief, None)), Ok(Permitted::Ended(..))));
        });
    }

    #[test]
    fn an_outgoing_session_speaks_of_its_own_direction_and_of_addresses_it_was_given() {
        let (called, ours) = ("192.0.2.7:6619", "192.0.2.254:40000");
        let outgoing = |change: &dyn Fn(&mut PairingRequest)| {
            let mut request = request(1, called);
            (request.direction, request.local) = (Direction::Outgoing, ours.parse().unwrap());
            change(&mut request);
            FromSession::Pair(Box::new(request))
        };
        let failed = |change: &dyn Fn(&mut SessionReport)| {
            let mut record = record(3);
            (record.direction, record.peer) = (Direction::Outgoing, called.parse().unwrap());
            change(&mut record);
            let refused = proxylink::message::Refused {
                situation: proxylink::situation::Situation::CallSilent,
                text: String::new(),
            };
            FromSession::CallFailed(Box::new(CallFailed { refused, record: Some(record) }), None)
        };
        let nobody = |record: &mut SessionReport| record.peer = "[::]:0".parse().unwrap();
        let other = |record: &mut SessionReport| record.peer = PEER.parse().unwrap();
        let with = |from: Option<&str>, test: &dyn Fn(&mut Sessions)| {
            with_two(|mut sessions| {
                let to = vec!["198.51.100.7:6619".parse().unwrap(), called.parse().unwrap()];
                let parties = Parties::Outgoing { to, from: from.map(|from| from.parse().unwrap()) };
                let channel = Arc::clone(&sessions.waiting[&id(1)].channel);
                sessions.add(id(3), channel, parties, 7);
                test(&mut sessions);
            });
        };
        with(Some("192.0.2.254"), &|sessions| {
            assert!(sessions.is_outgoing(id(3)) && !sessions.is_outgoing(id(1)));
            assert_eq!(sessions.outgoing_of(7).collect::<Vec<_>>(), [id(3)]);
            assert!(matches!(sessions.permit(id(3), sign(130)), Ok(Permitted::Sign(_))));
            assert!(matches!(sessions.permit(id(3), sign(130)), Err(Misconduct::OutOfTurn)));
            let wrong: [&dyn Fn(&mut PairingRequest); 4] = [
                &|request| request.direction = Direction::Incoming,
                &|request| request.peer = PEER.parse().unwrap(),
                &|request| request.peer.set_port(1),
                &|request| request.local = "192.0.2.253:40000".parse().unwrap(),
            ];
            for change in wrong {
                assert!(matches!(sessions.permit(id(3), outgoing(change)), Err(Misconduct::OtherPeer)));
            }
            assert!(matches!(sessions.permit(id(3), outgoing(&|_| {})), Ok(Permitted::Pair(_))));
            assert!(matches!(sessions.permit(id(3), outgoing(&|_| {})), Err(Misconduct::OutOfTurn)));
        });
        with(Some("0.0.0.0"), &|sessions| {
            assert!(matches!(sessions.permit(id(3), outgoing(&|_| {})), Ok(Permitted::Pair(_))));
        });
        with(None, &|sessions| {
            assert!(matches!(sessions.permit(id(3), outgoing(&|_| {})), Ok(Permitted::Pair(_))));
            // Its end is told in the words of its direction, and of nobody else.
            let incoming = FromSession::Refused(Box::new(record(3)), None);
            assert!(matches!(sessions.permit(id(3), incoming), Err(Misconduct::OutOfTurn)));
            assert!(matches!(sessions.permit(id(3), failed(&other)), Err(Misconduct::OtherPeer)));
            assert!(matches!(sessions.permit(id(3), failed(&|record| record.id = id(1))), Err(Misconduct::OtherPeer)));
            assert!(matches!(sessions.permit(id(1), failed(&|record| record.id = id(1))), Err(Misconduct::OutOfTurn)));
            let long = |record: &mut SessionReport| record.detail = "x".repeat(LARGEST_TEXTS + 1);
            assert!(matches!(sessions.permit(id(3), failed(&long)), Err(Misconduct::TooLarge)));
            let refused = proxylink::message::Refused {
                situation: proxylink::situation::Situation::CallSilent,
                text: "x".repeat(LARGEST_TEXTS + 1),
            };
            let said = FromSession::CallFailed(Box::new(CallFailed { refused, record: None }), None);
            assert!(matches!(sessions.permit(id(3), said), Err(Misconduct::TooLarge)));
            assert!(matches!(sessions.permit(id(3), failed(&nobody)), Ok(Permitted::CallFailed(..))));
            assert!(matches!(sessions.permit(id(3), failed(&nobody)), Err(Misconduct::OutOfTurn)), "once");
        });
    }

    #[test]
    fn a_token_finds_its_session_three_times_and_is_spent_by_the_handshake() {
        with_two(|mut sessions| {
            let token = Token::from_octets([1; 32]);
            assert!(sessions.connect(token, socket()).is_err(), "nobody waits for it yet");
            sessions.permit(id(1), pair(1)).unwrap();
            assert!(sessions.paired(id(1)).is_some());
            assert!(sessions.paired(id(1)).is_none(), "once");
            for _ in 0..TRIES {
                assert!(matches!(sessions.connect(token, socket()), Ok(Some((session, ..))) if session == id(1)));
            }
            assert!(sessions.connect(token, socket()).is_err());
            assert!(matches!(sessions.permit(id(1), FromSession::Linked), Ok(Permitted::Done)));
            assert!(sessions.connect(token, socket()).is_err());
        });
    }

    #[test]
    fn a_data_connection_that_overtakes_the_answer_waits_for_it() {
        with_two(|mut sessions| {
            let token = Token::from_octets([1; 32]);
            sessions.permit(id(1), pair(1)).unwrap();
            assert!(matches!(sessions.connect(token, socket()), Ok(None)));
            assert!(sessions.connect(token, socket()).is_err(), "one may wait");
            assert!(matches!(sessions.paired(id(1)), Some((_, Some(_)))));
            for _ in 1..TRIES {
                assert!(matches!(sessions.connect(token, socket()), Ok(Some(_))));
            }
            assert!(sessions.connect(token, socket()).is_err());
        });
    }

    #[test]
    fn after_a_refusal_only_the_record_may_come() {
        with_two(|mut sessions| {
            sessions.permit(id(1), pair(1)).unwrap();
            assert!(sessions.refuse(id(1)).is_some());
            assert!(sessions.connect(Token::from_octets([1; 32]), socket()).is_err());
            assert!(sessions.paired(id(1)).is_none());
            assert!(matches!(sessions.permit(id(1), FromSession::Linked), Err(Misconduct::OutOfTurn)));
            let refused = || FromSession::Refused(Box::new(record(1)), None);
            assert!(matches!(sessions.permit(id(1), refused()), Ok(Permitted::Ended(..))));
            assert!(matches!(sessions.permit(id(1), refused()), Err(Misconduct::OutOfTurn)), "once");
        });
    }

    #[test]
    fn who_was_linked_before_it_heard_that_its_link_is_lost_is_linked() {
        with_two(|mut sessions| {
            sessions.permit(id(1), pair(1)).unwrap();
            assert!(!sessions.may_be_linked(id(1)));
            assert!(sessions.paired(id(1)).is_some() && sessions.may_be_linked(id(1)));
            assert_eq!(sessions.refuse_of(7).len(), 1);
            assert!(sessions.may_be_linked(id(1)));
            assert!(sessions.connect(Token::from_octets([1; 32]), socket()).is_err());
            assert!(matches!(sessions.permit(id(1), FromSession::Linked), Ok(Permitted::Done)));
        });
    }

    #[test]
    fn a_lost_link_takes_its_own_sessions_along() {
        with_two(|mut sessions| {
            sessions.permit(id(1), pair(1)).unwrap();
            let gone = sessions.refuse_of(7);
            assert_eq!(gone.len(), 1);
            assert!(sessions.connect(Token::from_octets([1; 32]), socket()).is_err());
            assert!(matches!(sessions.permit(id(2), pair(2)), Ok(Permitted::Pair(_))));
        });
    }
}
