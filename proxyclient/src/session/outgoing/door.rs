//! The station while it has no session: its request, its leaving, and what it is told; and the agent beside it.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::poll::PollFlags;
use proxydaemon::descriptors::{Channel, wait_ready};
use proxydaemon::gate::{Wanted, wait};
use proxylink::message::Refused;
use proxylink::situation::Situation;
use relay::{EndOrder, Orders};

use super::super::say;
use crate::between::{FromSession, LARGEST, NotCalled, ToSession};
use crate::outgoing::{Dialect, Request, Step, Target};

/// For the agent to take a message.
const AGENT_TAKES: Duration = Duration::from_secs(5);
/// For the station to take what it is told, and to close.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// What the session holds until it relays.
pub struct Door {
    /// The station; never blocks.
    pub socket: TcpStream,
    /// To the agent.
    pub agent: Channel,
    /// Orders of the gate.
    pub orders: Box<dyn Orders>,
}

/// Why there is nothing to go on with.
#[derive(Debug)]
pub enum NoWord {
    /// The station has closed its connection.
    Left,
    /// It is to be told this.
    Refuse(Refused),
}

/// What came first.
enum Came {
    /// Octets of the station.
    Octets(usize),
    /// A word of the agent.
    Word(Box<ToSession>, Vec<OwnedFd>),
    /// An end.
    End(NoWord),
    /// Nothing in time.
    Nothing,
}

impl Door {
    /// Reads the station's request, until it is whole or `deadline` comes.
    ///
    /// # Errors
    /// There is none that could be served; with what the station is told.
    pub fn request(&mut self, deadline: Instant) -> Result<(Target, Dialect), (NoWord, Vec<u8>)> {
        let mut request = Request::default();
        let mut octets = [0; Request::READ];
        let invalid = |text: String| NoWord::Refuse(Refused { situation: Situation::StationRequestInvalid, text });
        loop {
            match request.step() {
                Step::Asked(target, dialect) => return Ok((target, dialect)),
                Step::Say(words) => {
                    // A few octets into an empty send buffer: they go at once or the station is gone.
                    if self.socket.write_all(words).is_err() {
                        return Err((NoWord::Left, Vec::new()));
                    }
                    continue;
                }
                Step::Refuse(wrong) => return Err((invalid(wrong.text), wrong.answer)),
                Step::More => {}
            }
            match self.next(deadline, &mut octets) {
                Came::Octets(count) => request.take(octets.get(..count).unwrap_or_default()),
                Came::Word(word, _) => {
                    let refused = match *word {
                        ToSession::Refused(not_called) => not_called.refused,
                        _ => out_of_turn(),
                    };
                    let answer = request.dialect().refused(&refused);
                    return Err((NoWord::Refuse(refused), answer));
                }
                Came::End(NoWord::Refuse(refused)) => {
                    let answer = request.dialect().refused(&refused);
                    return Err((NoWord::Refuse(refused), answer));
                }
                Came::End(NoWord::Left) => return Err((NoWord::Left, Vec::new())),
                Came::Nothing => {
                    let text = "it did not come in time".to_owned();
                    let answer = request.dialect().too_late(&text);
                    return Err((invalid(text), answer));
                }
            }
        }
    }

    /// The agent's next word, while the station waits.
    ///
    /// # Errors
    /// The station left, or spoke; an order came; or the agent is gone or silent.
    pub fn hear_agent(&mut self, deadline: Instant) -> Result<(ToSession, Vec<OwnedFd>), NoWord> {
        match self.next(deadline, &mut [0; 64]) {
            Came::Word(word, descriptors) => Ok((*word, descriptors)),
            // The Responder speaks first in OFTP2 (RFC 5024, 4.2.2).
            Came::Octets(_) => Err(refuse(Situation::StationRequestInvalid, "it spoke before it was answered")),
            Came::End(end) => Err(end),
            Came::Nothing => Err(refuse(Situation::CallTimeout, "nothing came of the call in time")),
        }
    }

    /// Why the session is ordered to end.
    pub fn why_ordered(&self, order: EndOrder) -> NotCalled {
        // The agent says why before it has the gate give the order.
        let refused = match self.word() {
            Some(Came::Word(word, _)) => match *word {
                ToSession::Refused(not_called) => return *not_called,
                _ => out_of_turn(),
            },
            Some(Came::End(NoWord::Refuse(refused))) => refused,
            _ => ordered(order),
        };
        NotCalled { refused, seen: None }
    }

    /// Tells the agent.
    ///
    /// # Errors
    /// It is gone, or does not take it.
    pub fn tell_agent(&self, word: &FromSession) -> io::Result<()> {
        say(&self.agent, word, Instant::now() + AGENT_TAKES)
    }

    /// Says this to the station and closes. Closing at once could destroy it on its way, when octets are still unread.
    pub fn last_words(&mut self, words: &[u8]) {
        if words.is_empty() {
            return;
        }
        let deadline = Instant::now() + LAST_WORDS;
        let mut rest = words;
        while !rest.is_empty() {
            match self.socket.write(rest) {
                Ok(taken) => rest = rest.get(taken..).unwrap_or_default(),
                Err(error) if is_for_later(&error) => {
                    if !matches!(wait_ready(&self.socket, PollFlags::POLLOUT, Some(deadline)), Ok(true)) {
                        return;
                    }
                }
                Err(_) => return,
            }
        }
        let _ = self.socket.shutdown(Shutdown::Write);
        let mut dropped = [0; 1024];
        while Instant::now() < deadline {
            match self.socket.read(&mut dropped) {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) if is_for_later(&error) => {
                    if !matches!(wait_ready(&self.socket, PollFlags::POLLIN, Some(deadline)), Ok(true)) {
                        return;
                    }
                }
                Err(_) => return,
            }
        }
    }

    /// Waits for whoever speaks first.
    fn next(&mut self, deadline: Instant, octets: &mut [u8]) -> Came {
        loop {
            let wanted = [
                Wanted::to_read(self.orders.descriptor()),
                Wanted::to_read(self.agent.as_fd()),
                Wanted::to_read(self.socket.as_fd()),
            ];
            let Ok(ready) = wait(&wanted, Some(deadline)) else {
                return Came::End(refuse(Situation::InternalFault, "the kernel refuses to wait"));
            };
            let is_ready = |place: usize| ready.get(place).copied().unwrap_or(false);
            // The agent says why before it has the gate give the order.
            if is_ready(1)
                && let Some(came) = self.word()
            {
                return came;
            }
            if is_ready(0)
                && let Some(order) = self.orders.take()
            {
                return Came::End(NoWord::Refuse(ordered(order)));
            }
            if is_ready(2) {
                match self.socket.read(octets) {
                    Ok(0) => return Came::End(NoWord::Left),
                    Ok(count) => return Came::Octets(count),
                    Err(error) if is_for_later(&error) => {}
                    Err(_) => return Came::End(NoWord::Left),
                }
            }
            if Instant::now() >= deadline {
                return Came::Nothing;
            }
        }
    }

    fn word(&self) -> Option<Came> {
        let mut octets = vec![0; LARGEST];
        let gone = || Came::End(refuse(Situation::RoleDied, "the agent is gone, and with it the call"));
        match self.agent.try_receive(&mut octets) {
            Ok(Some(received)) => {
                let word = proxylink::frame::decode(octets.get(..received.len).unwrap_or_default());
                Some(word.map_or_else(|_| gone(), |word| Came::Word(Box::new(word), received.descriptors)))
            }
            Err(error) if is_for_later(&error) => None,
            Ok(None) | Err(_) => Some(gone()),
        }
    }
}

fn ordered(order: EndOrder) -> Refused {
    let situation = match order {
        EndOrder::StopNow => Situation::SessionStopped,
        EndOrder::Withdraw => Situation::SessionWithdrawn,
        EndOrder::GiveUp => Situation::SessionAborted,
    };
    Refused { situation, text: order.to_string() }
}

fn out_of_turn() -> Refused {
    Refused { situation: Situation::InternalFault, text: "the agent spoke out of turn".to_owned() }
}

fn refuse(situation: Situation, text: &str) -> NoWord {
    NoWord::Refuse(Refused { situation, text: text.to_owned() })
}

fn is_for_later(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}
