//! TLS on a non-blocking socket, driven by `poll`: the transport under a session.
//!
//! It stands on the unbuffered interface of rustls, which decrypts in our buffer and encrypts into it; the caller says
//! when to read and write. Early data and resumption are the configuration's business and are expected to be off.
//!
//! One rule holds everywhere: whatever was read is decrypted at once, so that what remains in the buffer is never a
//! whole record. Only then may octets be encrypted, because rustls hands out both through the same call and insists
//! on seeing the remainder each time (it remembers how far it has looked into it).

mod connection;
mod handshake;

use std::io::{self, Read};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};

use proxylink::pairing::TlsFacts;
use rustls::Error;
use rustls::pki_types::CertificateDer;

pub use handshake::HandshakeError;

use crate::area::Area;
use crate::loss::Loss;
use crate::sending::send;
use connection::{Connection, Speak, Step};

/// Octets read in one go: with half of it a session wakes the next process more often, which costs a twentieth more.
pub(crate) const LARGEST_READ: usize = 256 * 1024;

/// Between plaintext and ciphertext that lie in one buffer: the plaintext of one record (RFC 8446, 5.1).
pub(crate) const GAP: usize = 16 * 1024;

/// Octets of plaintext encrypted in one go. With what TLS adds they still fit what is sent in one go.
const LARGEST_RUN: usize = 288 * 1024;

/// Room for one whole TLS record of ours (alert, handshake message) beside a full run.
const RECORD_ROOM: usize = 20 * 1024;

/// Room for a run's record headers, tags and nonces: at most 40 octets for each of its records of 16 KiB.
const OVERHEAD: usize = 8 * 1024;

/// Result of reading from a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reading {
    /// Something came (perhaps not one octet of plaintext yet).
    Some,
    /// As much came as is read in one go: more is there already.
    Full,
    /// Nothing is there now.
    Nothing,
    /// The peer says no more; `orderly` when it said so in TLS (always on plain TCP).
    End { orderly: bool },
}

/// An established TLS connection, as client or as server.
pub struct Tls {
    socket: TcpStream,
    connection: Box<Connection>,
    /// Ciphertext: less than a whole record between two calls.
    incoming: Area,
    /// Ciphertext on its way to the socket.
    outgoing: Area,
    /// Plaintext that came with the end of the handshake.
    kept: Vec<u8>,
    /// Why nothing more can be read, while plaintext that came before it is handed out.
    failed: Option<Error>,
    peer_closed: bool,
    end_told: bool,
    said_goodbye: bool,
}

impl Tls {
    fn new(socket: TcpStream, connection: Connection) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        socket.set_nodelay(true)?;
        Ok(Self {
            socket,
            connection: Box::new(connection),
            incoming: Area::new(LARGEST_READ)?,
            outgoing: Area::new(LARGEST_RUN + OVERHEAD + RECORD_ROOM)?,
            kept: Vec::new(),
            failed: None,
            peer_closed: false,
            end_told: false,
            said_goodbye: false,
        })
    }

    /// What the handshake agreed on, by the names of the IANA registry.
    pub fn facts(&self) -> TlsFacts {
        let common = self.connection.common();
        let version = common.protocol_version().and_then(|version| version.as_str());
        let suite = common.negotiated_cipher_suite().and_then(|suite| suite.suite().as_str());
        let group = common.negotiated_key_exchange_group().and_then(|group| group.name().as_str());
        TlsFacts {
            version: version.unwrap_or("unknown").replace("TLSv1_", "TLSv1."),
            cipher_suite: suite.unwrap_or("unknown").replacen("TLS13_", "TLS_", 1),
            key_exchange: group.unwrap_or("unknown").to_owned(),
        }
    }

    /// The certificates that the peer showed, end entity first; with raw public keys its SubjectPublicKeyInfo alone.
    pub fn peer_certificates(&self) -> &[CertificateDer<'static>] {
        self.connection.common().peer_certificates().unwrap_or_default()
    }

    /// The socket below.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    pub(crate) fn socket(&self) -> &TcpStream {
        &self.socket
    }

    /// Whether plaintext, or its end, is here without reading from the socket.
    pub(crate) fn has_kept(&self) -> bool {
        !self.kept.is_empty() || self.failed.is_some() || self.peer_closed && !self.end_told
    }

    /// Whether a record, or plaintext, has begun to arrive and is not complete.
    pub(crate) fn has_partial(&self) -> bool {
        !self.incoming.is_empty() && !self.peer_closed
    }

    /// Reads once from the socket and adds what it decrypts to to `into`.
    ///
    /// Reads no more than `into` has room for, as plaintext is never longer than its ciphertext.
    ///
    /// # Errors
    /// The connection is of no more use: see [`Loss`]. An alert for the peer has been sent if TLS has one. What came before
    /// the error has been handed out.
    pub(crate) fn read(&mut self, into: &mut Area) -> Result<Reading, Loss> {
        if !self.kept.is_empty() {
            let fitting = self.kept.len().min(into.room());
            into.add(&self.kept[..fitting]);
            self.kept.drain(..fitting);
            return Ok(Reading::Some);
        }
        if let Some(error) = self.failed.take() {
            return Err(Loss::Tls(error));
        }
        if self.peer_closed {
            self.end_told = true;
            return Ok(Reading::End { orderly: true });
        }
        let begun = self.incoming.len();
        let most = into.room().saturating_sub(GAP + begun).min(LARGEST_READ - begun);
        if most == 0 {
            // Only handshake messages without end can fill the buffer, as everything else is taken out of it.
            return Err(if self.incoming.room() == 0 { Loss::Endless } else { return Ok(Reading::Nothing) });
        }
        // Ciphertext comes to lie behind a gap, and plaintext record by record in front of it: in memory that has just been
        // used, so that a reading touches as much memory as it has octets, and no more.
        let spare = &mut into.spare(GAP + begun + most)[..GAP + begun + most];
        match self.socket.read(&mut spare[GAP + begun..]) {
            Ok(0) => Ok(Reading::End { orderly: false }),
            Ok(octets) => {
                spare[GAP..GAP + begun].copy_from_slice(self.incoming.filled());
                self.incoming.clear();
                let plaintext = self.open(&mut spare[..GAP + begun + octets])?;
                into.added(plaintext);
                Ok(if octets == most { Reading::Full } else { Reading::Some })
            }
            Err(error) if is_for_later(&error) => Ok(Reading::Nothing),
            Err(error) => Err(Loss::Io(error)),
        }
    }

    /// Decrypts the records that stand behind the gap of `octets` and moves their plaintext to its front; returns how much
    /// that is. What is no whole record is kept, and an error behind plaintext, for the next reading.
    fn open(&mut self, octets: &mut [u8]) -> Result<usize, Loss> {
        let (mut opened, mut done) = (0, GAP);
        let step = loop {
            let (front, records) = octets.split_at_mut(done);
            let mut fits = true;
            let (discard, step) = self.connection.step(records, Speak::Nothing, &mut self.outgoing, &mut |plaintext| {
                // A record has less plaintext than octets: once it is done with, the gap is as wide as before.
                match front.get_mut(opened..opened + plaintext.len()) {
                    Some(place) => {
                        place.copy_from_slice(plaintext);
                        opened += plaintext.len();
                    }
                    None => fits = false,
                }
            });
            done += discard;
            match step {
                Ok(_) if !fits => break Err(Error::PeerSentOversizedRecord),
                Ok(Step::Again) => {}
                step => break step,
            }
        };
        self.incoming.add(&octets[done..]);
        let ended = self.after(step).and_then(|step| match step {
            Step::PeerClosed => self.process(Speak::Nothing, &mut |_| {}),
            Step::Again | Step::Rest => Ok(()),
        });
        match ended {
            Err(error) if opened > 0 => self.failed = Some(error),
            ended => ended.map_err(Loss::Tls)?,
        }
        Ok(opened)
    }

    /// Encrypts the beginning of `octets` and writes it, as far as the socket takes it. Returns how many octets of
    /// plaintext were taken: none while ciphertext waits. With `more` to follow the last segment may wait for it
    /// ([`crate::sending`]).
    ///
    /// # Errors
    /// The connection is of no more use.
    pub(crate) fn write(&mut self, octets: &[u8], more: bool) -> Result<usize, Loss> {
        if !self.flush()? || octets.is_empty() {
            return Ok(0);
        }
        let run = &octets[..octets.len().min(LARGEST_RUN)];
        self.say(Speak::Octets(run)).map_err(Loss::Tls)?;
        self.send(more)?;
        Ok(run.len())
    }

    /// Writes what waits; true when nothing waits any more.
    pub(crate) fn flush(&mut self) -> Result<bool, Loss> {
        self.send(false)
    }

    fn send(&mut self, more: bool) -> Result<bool, Loss> {
        while !self.outgoing.is_empty() {
            match send(&self.socket, self.outgoing.filled(), more) {
                Ok(octets) => self.outgoing.take(octets),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if is_for_later(&error) => return Ok(false),
                Err(error) => return Err(Loss::Io(error)),
            }
        }
        Ok(true)
    }

    /// Octets of ciphertext that wait for the socket.
    pub(crate) fn output(&self) -> usize {
        self.outgoing.len()
    }

    /// Says `close_notify` (once) and, when everything is written, ends the sending direction. True when that is done.
    pub(crate) fn finish(&mut self) -> Result<bool, Loss> {
        if !self.said_goodbye {
            self.said_goodbye = true;
            self.say(Speak::CloseNotify).map_err(Loss::Tls)?;
        }
        // The end of the direction follows, and goes in the same segment.
        let done = self.send(true)?;
        if done {
            // Fails only when the peer has gone already.
            let _ = self.socket.shutdown(Shutdown::Write);
        }
        Ok(done)
    }

    /// Gives memory back that an idle connection does not need.
    pub(crate) fn give_back(&mut self) {
        self.incoming.give_back();
        self.outgoing.give_back();
        self.kept.shrink_to_fit();
    }

    /// Whether there is memory to give back.
    pub(crate) fn holds_memory(&self) -> bool {
        self.incoming.is_idle() || self.outgoing.is_idle()
    }

    /// Encrypts something for the peer. Plaintext that turns up on the way is kept for the next reading.
    fn say(&mut self, speak: Speak<'_>) -> Result<(), Error> {
        let mut kept = std::mem::take(&mut self.kept);
        let result = self.process(speak, &mut |plaintext| kept.extend_from_slice(plaintext));
        self.kept = kept;
        result
    }

    /// Lets rustls work until it wants more ciphertext; then, if asked, speaks.
    fn process(&mut self, speak: Speak<'_>, plaintext: &mut dyn FnMut(&[u8])) -> Result<(), Error> {
        loop {
            let (discard, step) =
                self.connection.step(self.incoming.filled_mut(), speak, &mut self.outgoing, plaintext);
            self.incoming.take(discard);
            if self.after(step)? == Step::Rest {
                return Ok(());
            }
        }
    }

    /// Takes note of the end of what the peer says, and answers an error.
    fn after(&mut self, step: Result<Step, Error>) -> Result<Step, Error> {
        match step {
            Ok(Step::PeerClosed) => {
                self.peer_closed = true;
                // "Any data received after a closure alert has been received MUST be ignored" (RFC 8446, 6.1).
                self.incoming.clear();
            }
            Ok(_) => {}
            Err(_) => {
                self.queue_alert();
                let _ = self.flush();
            }
        }
        step
    }

    /// After an error rustls hands out the alert for the peer, if there is one, when it is called once more.
    fn queue_alert(&mut self) {
        let (discard, _) =
            self.connection.step(self.incoming.filled_mut(), Speak::Nothing, &mut self.outgoing, &mut |_| {});
        self.incoming.take(discard);
    }
}

fn is_for_later(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}
