//! One connection of the station: commands in Stream Transmission Buffers (RFC 5024, 8), in and out.
//!
//! Scenarios use it directly, to say by hand what no honest station says.

use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::Connection as Tls;

use super::command::{Command, Level};
use super::failure::{Failure, Malformed};
use super::misbehaviour::{Misbehaviour, Rule};
use super::negotiation::Agreement;
use super::reason::esid;
use super::report::Transcript;
use super::wire::Wire;

/// Changes the octets of a Stream Transmission Buffer before they are sent: to misbehave on purpose.
pub type Tamper = Arc<dyn Fn(&Command, Vec<u8>) -> Vec<u8> + Send + Sync>;

const HEADER: usize = 4;
const LONGEST: usize = 100_003;

/// A connection that speaks commands.
pub struct Connection {
    wire: Wire,
    level: Option<Level>,
    received: Vec<u8>,
    /// Where the octets not yet looked at begin in `received`.
    start: usize,
    tamper: Option<Tamper>,
    misbehaviour: Option<Misbehaviour>,
    transcript: Option<Transcript>,
}

impl Connection {
    /// Takes a connected socket; with `tls` the handshake is made here. No wait is longer than `patience`.
    pub fn new(socket: TcpStream, tls: Option<Tls>, patience: Duration) -> Result<Self, Failure> {
        let wire = Wire::new(socket, tls, patience)?;
        Ok(Self {
            wire,
            level: None,
            received: Vec::new(),
            start: 0,
            tamper: None,
            misbehaviour: None,
            transcript: None,
        })
    }

    /// Lets `tamper` see, and change, all that is sent from here on.
    pub fn set_tamper(&mut self, tamper: Option<Tamper>) {
        self.tamper = tamper;
    }

    /// Breaks that rule with what is sent from here on.
    pub(super) fn set_rule(&mut self, rule: Option<&'static Rule>) {
        self.misbehaviour = rule.map(Misbehaviour::new);
    }

    /// What holds for the session, once it is known: rules are broken by it.
    pub(super) fn set_terms(&mut self, agreement: &Agreement) {
        if let Some(misbehaviour) = &mut self.misbehaviour {
            misbehaviour.set_terms(agreement);
        }
    }

    /// Whether this connection keeps back the EFID for a CDT, as it should.
    pub(super) fn waits_for_credit(&self) -> bool {
        !self.misbehaviour.as_ref().is_some_and(Misbehaviour::ends_file_without_credit)
    }

    /// Keeps all octets from here on.
    pub(super) fn keep_transcript(&mut self) {
        self.transcript = Some(Transcript::default());
    }

    /// What has been kept.
    pub(super) fn transcript(&mut self) -> Option<Transcript> {
        self.transcript.take()
    }

    /// Fixes the layout of commands, once both SSIDs have passed.
    pub fn set_level(&mut self, level: Level) {
        self.level = Some(level);
    }

    /// Bounds each wait from here on.
    pub fn set_patience(&mut self, patience: Duration) -> Result<(), Failure> {
        self.wire.set_patience(patience)
    }

    /// TLS version and cipher suite, or that there is none.
    pub fn protection(&self) -> String {
        self.wire.protection()
    }

    /// The other end's address, while connected.
    pub fn peer(&self) -> Option<SocketAddr> {
        self.wire.peer()
    }

    /// The other end's certificates (DER), its own first; none without TLS.
    pub fn peer_certificates(&self) -> Vec<Vec<u8>> {
        self.wire.peer_certificates()
    }

    /// Sends one command.
    pub fn send(&mut self, command: &Command) -> Result<(), Failure> {
        let mut buffer = vec![0x10, 0, 0, 0];
        command.write(self.layout(command), &mut buffer);
        let length = u32::try_from(buffer.len()).unwrap_or(u32::MAX) & 0x00ff_ffff;
        for (octet, value) in buffer.iter_mut().zip((0x1000_0000 | length).to_be_bytes()) {
            *octet = value;
        }
        if let Some(tamper) = &self.tamper {
            buffer = tamper(command, buffer);
        }
        let mut misbehaved_at = None;
        if let Some(misbehaviour) = &mut self.misbehaviour {
            misbehaved_at = misbehaviour.change(command.name(), &mut buffer);
        }
        if let Some(transcript) = &mut self.transcript {
            transcript.misbehaved_at = transcript.misbehaved_at.or(misbehaved_at.map(|at| transcript.sent.len() + at));
            transcript.sent.extend_from_slice(&buffer);
        }
        self.wire.send(&buffer)
    }

    /// Sends octets as they are, without stream header: for what no command can say.
    pub fn send_octets(&mut self, octets: &[u8]) -> Result<(), Failure> {
        self.wire.send(octets)
    }

    /// The next command. [`Failure::Closed`] when the other end has closed, [`Failure::Silent`] when it says nothing.
    pub fn receive(&mut self) -> Result<Command, Failure> {
        loop {
            if let Some(command) = self.whole_command()? {
                return Ok(command);
            }
            self.receive_more()?;
        }
    }

    /// The next command, if a whole one has come already. Never waits for the other end to begin one.
    pub fn receive_if_there(&mut self) -> Result<Option<Command>, Failure> {
        loop {
            if let Some(command) = self.whole_command()? {
                return Ok(Some(command));
            }
            match self.wire.receive_if_there(&mut self.received)? {
                None => return Ok(None),
                Some(0) => return Err(self.closed()),
                Some(count) => self.note(count),
            }
        }
    }

    /// The next octets as they come, at least one; empty when the other end has closed.
    pub fn receive_octets(&mut self) -> Result<Vec<u8>, Failure> {
        if self.start == self.received.len() {
            self.wire.receive(&mut self.received)?;
        }
        let octets = self.received.split_off(self.start);
        self.received.clear();
        self.start = 0;
        Ok(octets)
    }

    /// Tells the other end why the session ends, and waits until it has closed (RFC 5024, 1.2), 10 s at most.
    pub fn end(&mut self, reason: u8, text: &str) {
        if self.send(&Command::Esid { reason, text: text.to_owned() }).is_ok() {
            self.wait_for_close();
        }
        self.close();
    }

    /// Waits until the other end has closed, 10 s at most; what still comes is not looked at.
    pub fn wait_for_close(&mut self) {
        let Ok(()) = self.wire.set_patience(Duration::from_secs(10)) else { return };
        let mut dropped = Vec::new();
        while self.wire.receive(&mut dropped).is_ok_and(|count| count > 0) {
            dropped.clear();
        }
    }

    /// Says that nothing more follows.
    pub fn close(&mut self) {
        self.wire.close();
    }

    fn receive_more(&mut self) -> Result<(), Failure> {
        if self.start > 0 {
            self.received.drain(..self.start);
            self.start = 0;
        }
        match self.wire.receive(&mut self.received)? {
            0 => Err(self.closed()),
            count => {
                self.note(count);
                Ok(())
            }
        }
    }

    /// Puts the last `count` octets that came into the transcript.
    fn note(&mut self, count: usize) {
        if let Some(transcript) = &mut self.transcript {
            let before = self.received.len().saturating_sub(count);
            transcript.received.extend_from_slice(self.received.get(before..).unwrap_or_default());
        }
    }

    fn closed(&self) -> Failure {
        let between = self.received.len() == self.start;
        Failure::Closed(if between { "without ESID" } else { "in the middle of an Exchange Buffer" })
    }

    fn whole_command(&mut self) -> Result<Option<Command>, Malformed> {
        let pending = self.received.get(self.start..).unwrap_or_default();
        let Some(&[first, high, middle, low]) = pending.first_chunk::<HEADER>() else { return Ok(None) };
        let length = u32::from_be_bytes([0, high, middle, low]) as usize;
        if first >> 4 != 1 {
            let what = format!("stream header begins with {first:02x}, version 1 expected");
            return Err(Malformed { esid: esid::PROTOCOL, what });
        }
        if !(HEADER + 1..=LONGEST).contains(&length) {
            return Err(Malformed::size(format!("stream header says {length} octets, 5 to {LONGEST} expected")));
        }
        let Some(buffer) = pending.get(HEADER..length) else { return Ok(None) };
        let command = Command::read(buffer, self.level.unwrap_or(Level::Five))?;
        self.start += length;
        Ok(Some(command))
    }

    /// Before both SSIDs have passed, an ESID takes the short form, which every level has.
    fn layout(&self, command: &Command) -> Level {
        match (self.level, command) {
            (Some(level), _) => level,
            (None, Command::Esid { .. }) => Level::Four,
            (None, _) => Level::Five,
        }
    }
}
