//! Sessions in set-up: what each may ask, in which phase, and the tokens that find them.

use std::collections::HashMap;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use proxydaemon::asynchronous::AsyncChannel;
use proxylink::message::SignRequest;
use proxylink::pairing::{LARGEST_CHAIN, PairingRequest, SessionId, TRIES, Token};

use crate::between::FromSession;

/// Octets of the largest message that a handshake signs: the transcript of a TLS 1.2 handshake.
const LARGEST_SIGNED: usize = 64 * 1024;

/// One session in set-up.
#[derive(Debug)]
pub struct Waiting {
    /// To its process.
    pub channel: Arc<AsyncChannel>,
    /// Who called.
    pub peer: SocketAddr,
    /// Where.
    pub local: SocketAddr,
    /// The link that serves it.
    pub link: u64,
    phase: Phase,
    /// A data connection that overtook the inside's answer on the control connection.
    early: Option<TcpStream>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// In the partner's handshake; a signature may be asked for once.
    Handshake { asked: bool },
    /// The inside judges.
    Judging(Token),
    /// The inside has said yes; so many connections with the token may still come.
    Connecting(Token, u8),
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
    #[error("a session named another peer than its own")]
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
    /// The session ends unpaired, with its record.
    Ended(Box<proxylink::record::SessionReport>),
}

/// All sessions in set-up.
#[derive(Debug, Default)]
pub struct Sessions {
    waiting: HashMap<SessionId, Waiting>,
    tokens: HashMap<Token, SessionId>,
}

impl Sessions {
    /// Adds a session that was just forked.
    pub fn add(
        &mut self,
        session: SessionId,
        channel: Arc<AsyncChannel>,
        peer: SocketAddr,
        local: SocketAddr,
        link: u64,
    ) {
        let phase = Phase::Handshake { asked: false };
        self.waiting.insert(session, Waiting { channel, peer, local, link, phase, early: None });
    }

    /// Forgets a session and its token; whether it was in set-up, and with which link.
    pub fn remove(&mut self, session: SessionId) -> Option<Waiting> {
        let waiting = self.waiting.remove(&session)?;
        if let Phase::Judging(token) | Phase::Connecting(token, _) = waiting.phase {
            self.tokens.remove(&token);
        }
        Some(waiting)
    }

    /// Forgets all sessions that this link serves, and gives them to be told.
    pub fn remove_of(&mut self, link: u64) -> Vec<(SessionId, Waiting)> {
        let gone: Vec<_> =
            self.waiting.iter().filter(|(_, waiting)| waiting.link == link).map(|(session, _)| *session).collect();
        gone.into_iter().filter_map(|session| Some((session, self.remove(session)?))).collect()
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
                if (request.peer, request.local) != (waiting.peer, waiting.local) {
                    return Err(Misconduct::OtherPeer);
                }
                if request.chain.octets() > LARGEST_CHAIN || request.signature.message.len() > LARGEST_SIGNED {
                    return Err(Misconduct::TooLarge);
                }
                if self.tokens.contains_key(&request.token) {
                    return Err(Misconduct::OutOfTurn);
                }
                self.tokens.insert(request.token, session);
                waiting.phase = Phase::Judging(request.token);
                Ok(Permitted::Pair(request))
            }
            (Phase::Connecting(..), FromSession::Linked) => {
                self.remove(session);
                Ok(Permitted::Done)
            }
            (_, FromSession::Refused(record)) => {
                if record.id != session || record.peer != waiting.peer {
                    return Err(Misconduct::OtherPeer);
                }
                self.remove(session);
                Ok(Permitted::Ended(record))
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

/// No session waits for this token: it was guessed, spent, or its session has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no session waits for this pairing token (guessed, spent or too late)")]
pub struct TokenUnknown;
