//! What a session may ask of the switchboard until it is paired, each with a deadline. After that it needs nobody.

use std::io;
use std::net::TcpStream;
use std::time::Instant;

use proxydaemon::descriptors::Channel;
use proxylink::message::{CallFailed, Refused, SignRequest};
use proxylink::pairing::{KeyHash, PairingRequest};
use proxylink::particulars::ShownCertificate;
use proxylink::record::SessionReport;
use proxylink::situation::Situation;

use crate::between::{FromSession, LARGEST, ToSession};

/// A session's end of its socket pair with the switchboard.
#[derive(Debug)]
pub struct Questions {
    /// `None` once the session is paired. The TLS of a called partner holds the questions until its end.
    channel: Option<Channel>,
    deadline: Instant,
    /// Why the last signature was not given; TLS carries only a text.
    failure: Option<Refused>,
}

impl Questions {
    /// Questions to be answered until `deadline`.
    pub const fn new(channel: Channel, deadline: Instant) -> Self {
        Self { channel: Some(channel), deadline, failure: None }
    }

    /// Sets the deadline of what is asked from now on.
    pub const fn until(&mut self, deadline: Instant) {
        self.deadline = deadline;
    }

    /// Asks the inside for a signature in the partner's handshake.
    ///
    /// # Errors
    /// What stands in its way.
    pub fn sign(&mut self, request: SignRequest) -> Result<Vec<u8>, Refused> {
        let signature = self.ask_signature(request);
        self.failure = signature.as_ref().err().cloned();
        signature
    }

    /// Why the last signature was not given.
    pub const fn take_failure(&mut self) -> Option<Refused> {
        self.failure.take()
    }

    fn ask_signature(&mut self, request: SignRequest) -> Result<Vec<u8>, Refused> {
        self.tell(&FromSession::Sign(request))?;
        let late = |refused: Refused| match refused.situation {
            Situation::PairingTimeout => {
                Refused { situation: Situation::SigningFailed, text: "the inside did not sign in time".to_owned() }
            }
            _ => refused,
        };
        match self.answer().map_err(late)? {
            (ToSession::Signed(signature), _) => signature.map(serde_bytes::ByteBuf::into_vec),
            (other, _) => Err(unexpected(&other)),
        }
    }

    /// Asks the inside to judge the partner and to send a session of its own: its key.
    ///
    /// # Errors
    /// What stands in its way.
    pub fn pair(&mut self, request: PairingRequest) -> Result<KeyHash, Refused> {
        self.tell(&FromSession::Pair(Box::new(request)))?;
        match self.answer()? {
            (ToSession::Paired(key), _) => Ok(key),
            (other, _) => Err(unexpected(&other)),
        }
    }

    /// Waits for a data connection that brought the token.
    ///
    /// # Errors
    /// When none comes in time.
    pub fn data_connection(&mut self) -> Result<TcpStream, Refused> {
        match self.answer()? {
            (ToSession::DataConnection, Some(socket)) => Ok(socket),
            (other, _) => Err(unexpected(&other)),
        }
    }

    /// Tells that the data connection stands, so that the token is spent. From here on nobody is asked any more: the
    /// switchboard may die.
    ///
    /// # Errors
    /// When the switchboard is gone.
    pub fn linked(&mut self) -> Result<(), Refused> {
        self.tell(&FromSession::Linked)?;
        self.channel = None;
        Ok(())
    }

    /// Hands over the record of a session that never came to be; whether somebody was there to take it.
    pub fn refused(&mut self, record: SessionReport, shown: Option<ShownCertificate>) -> bool {
        self.tell(&FromSession::Refused(Box::new(record), shown)).is_ok()
    }

    /// Says why a partner that was to be called has no session; whether somebody was there to hear it.
    pub fn call_failed(&mut self, refused: Refused, record: SessionReport, shown: Option<ShownCertificate>) -> bool {
        let failed = CallFailed { refused, record: Some(record) };
        self.tell(&FromSession::CallFailed(Box::new(failed), shown)).is_ok()
    }

    fn tell(&mut self, message: &FromSession) -> Result<(), Refused> {
        let octets = postcard::to_allocvec(message).map_err(|error| failed(error.to_string()))?;
        if octets.len() > LARGEST {
            return Err(failed(format!("a message of {} octets is too large", octets.len())));
        }
        let channel = self.channel.as_ref().ok_or_else(needed_no_more)?;
        channel.send_by(self.deadline, &octets, &[]).map_err(|error| lost(&error))
    }

    fn answer(&mut self) -> Result<(ToSession, Option<TcpStream>), Refused> {
        let channel = self.channel.as_ref().ok_or_else(needed_no_more)?;
        let taken = channel.take_by(self.deadline, LARGEST).map_err(|error| lost(&error))?;
        let (octets, received) = taken.ok_or_else(|| lost(&io::ErrorKind::UnexpectedEof.into()))?;
        let message = proxylink::frame::decode(&octets).map_err(|error| failed(error.to_string()))?;
        if let ToSession::Refused(refused) = message {
            return Err(refused);
        }
        Ok((message, received.descriptors.into_iter().next().map(TcpStream::from)))
    }
}

fn lost(error: &io::Error) -> Refused {
    match error.kind() {
        io::ErrorKind::TimedOut => {
            Refused { situation: Situation::PairingTimeout, text: "the inside did not answer in time".to_owned() }
        }
        _ => Refused {
            situation: Situation::LinkDown,
            text: format!("the switchboard cannot be asked any more: {error}"),
        },
    }
}

fn needed_no_more() -> Refused {
    failed("the session is paired and asks nobody any more".to_owned())
}

fn failed(text: String) -> Refused {
    Refused { situation: Situation::PairingRefused, text }
}

fn unexpected(message: &ToSession) -> Refused {
    failed(format!("the switchboard answered out of turn: {message:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn who_is_paired_has_closed_its_channel_and_asks_nobody() {
        let (ours, theirs) = Channel::pair().unwrap();
        let soon = Instant::now() + Duration::from_secs(20);
        // As the configuration of TLS does.
        let held = std::sync::Arc::new(std::sync::Mutex::new(Questions::new(ours, soon)));
        let mut questions = held.lock().unwrap();
        questions.linked().unwrap();
        let (said, _) = theirs.take_by(soon, LARGEST).unwrap().expect("its last word");
        assert!(matches!(proxylink::frame::decode(&said), Ok(FromSession::Linked)));
        assert!(theirs.take_by(soon, LARGEST).unwrap().is_none(), "and the end behind it");
        let request = SignRequest { certificate: [0; 32], scheme: 0x0403, message: Vec::new() };
        assert_eq!(questions.sign(request).unwrap_err().situation, Situation::PairingRefused);
    }
}
