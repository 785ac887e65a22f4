//! The octets of one connection, plain or in TLS, blocking, each wait bounded.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustls::Connection as Tls;

use super::failure::Failure;

const READ_SIZE: usize = 64 * 1024;

/// A TCP connection, with TLS around it or without.
pub(super) struct Wire {
    socket: TcpStream,
    tls: Option<Box<Tls>>,
    patience: Duration,
    /// What TLS has deciphered and nobody has received yet.
    plain: Vec<u8>,
    /// The other end has said goodbye in TLS.
    goodbye: bool,
}

impl Wire {
    /// Takes a connected socket. With TLS the handshake is made here, so that a refusal has its name.
    pub fn new(socket: TcpStream, tls: Option<Tls>, patience: Duration) -> Result<Self, Failure> {
        let prepare = || {
            socket.set_nodelay(true)?;
            socket.set_read_timeout(Some(patience))?;
            socket.set_write_timeout(Some(patience))
        };
        prepare().map_err(Failure::io("set up the connection"))?;
        let mut wire = Self { socket, tls: tls.map(Box::new), patience, plain: Vec::new(), goodbye: false };
        wire.handshake()?;
        Ok(wire)
    }

    /// TLS version and cipher suite, for people.
    pub fn protection(&self) -> String {
        match self.tls.as_deref() {
            Some(tls) => match (tls.protocol_version(), tls.negotiated_cipher_suite()) {
                (Some(version), Some(suite)) => {
                    format!("{} {:?}", format!("{version:?}").replace('_', "."), suite.suite())
                }
                _ => "TLS".into(),
            },
            None => "plain TCP".into(),
        }
    }

    /// The other end's address, while connected.
    pub fn peer(&self) -> Option<SocketAddr> {
        self.socket.peer_addr().ok()
    }

    /// The other end's certificates, its own first; none without TLS.
    pub fn peer_certificates(&self) -> Vec<Vec<u8>> {
        let shown = self.tls.as_deref().and_then(|tls| tls.peer_certificates()).unwrap_or_default();
        shown.iter().map(|certificate| certificate.to_vec()).collect()
    }

    /// Bounds each wait from here on.
    pub fn set_patience(&mut self, patience: Duration) -> Result<(), Failure> {
        self.patience = patience;
        self.socket.set_read_timeout(Some(patience)).map_err(Failure::io("set a time-out"))
    }

    /// Sends all of `octets`.
    pub fn send(&mut self, octets: &[u8]) -> Result<(), Failure> {
        let Some(tls) = self.tls.as_deref_mut() else {
            return self.socket.write_all(octets).map_err(|error| silent_or("send", error, self.patience));
        };
        let mut rest = octets;
        while !rest.is_empty() {
            let taken = tls.writer().write(rest).map_err(Failure::io("send"))?;
            rest = rest.get(taken..).unwrap_or_default();
            while tls.wants_write() {
                tls.write_tls(&mut self.socket).map_err(|error| silent_or("send", error, self.patience))?;
            }
        }
        Ok(())
    }

    /// Appends what has come, at least one octet; zero when the other end has closed.
    pub fn receive(&mut self, into: &mut Vec<u8>) -> Result<usize, Failure> {
        let mut octets = [0; READ_SIZE];
        loop {
            if let Some(count) = self.deciphered(into) {
                return Ok(count);
            }
            if let Some(count) = self.read_once(&mut octets, into)? {
                return Ok(count);
            }
        }
    }

    /// As [`Self::receive`], but `None` when nothing has come yet.
    pub fn receive_if_there(&mut self, into: &mut Vec<u8>) -> Result<Option<usize>, Failure> {
        let mut octets = [0; READ_SIZE];
        loop {
            if let Some(count) = self.deciphered(into) {
                return Ok(Some(count));
            }
            let mut look = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
            if !poll(&mut look, PollTimeout::ZERO).is_ok_and(|ready| ready > 0) {
                return Ok(None);
            }
            if let Some(count) = self.read_once(&mut octets, into)? {
                return Ok(Some(count));
            }
        }
    }

    /// Says goodbye (TLS close_notify) and that nothing more follows.
    pub fn close(&mut self) {
        if let Some(tls) = self.tls.as_deref_mut() {
            tls.send_close_notify();
            while tls.wants_write() && tls.write_tls(&mut self.socket).is_ok_and(|sent| sent > 0) {}
        }
        // The other end may have closed before: then there is nothing to shut down.
        let _ = self.socket.shutdown(std::net::Shutdown::Write);
    }

    /// One read from the socket. With TLS its octets are deciphered first: `None`, look for plaintext again.
    fn read_once(&mut self, octets: &mut [u8], into: &mut Vec<u8>) -> Result<Option<usize>, Failure> {
        let count = match self.socket.read(octets) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(None),
            Err(error) if closes(&error) => 0,
            Err(error) => return Err(silent_or("receive", error, self.patience)),
        };
        let arrived = octets.get(..count).unwrap_or_default();
        if self.tls.is_none() || arrived.is_empty() {
            into.extend_from_slice(arrived);
            return Ok(Some(count));
        }
        self.take_in(arrived)?;
        Ok(None)
    }

    fn handshake(&mut self) -> Result<(), Failure> {
        while let Some(tls) = self.tls.as_deref_mut().filter(|tls| tls.is_handshaking()) {
            while tls.wants_write() {
                tls.write_tls(&mut self.socket).map_err(|error| silent_or("TLS handshake", error, self.patience))?;
            }
            if !tls.is_handshaking() {
                break;
            }
            let mut octets = [0; READ_SIZE];
            let count =
                self.socket.read(&mut octets).map_err(|error| silent_or("TLS handshake", error, self.patience))?;
            if count == 0 {
                return Err(Failure::Closed("in the TLS handshake"));
            }
            self.take_in(octets.get(..count).unwrap_or_default())?;
        }
        Ok(())
    }

    /// Moves what TLS has deciphered; `Some(0)` when the other end has said goodbye before.
    fn deciphered(&mut self, into: &mut Vec<u8>) -> Option<usize> {
        let count = self.plain.len();
        into.append(&mut self.plain);
        (count > 0 || self.goodbye).then_some(count)
    }

    fn take_in(&mut self, mut arrived: &[u8]) -> Result<(), Failure> {
        let Some(tls) = self.tls.as_deref_mut() else { return Ok(()) };
        while !arrived.is_empty() {
            tls.read_tls(&mut arrived).map_err(Failure::io("receive"))?;
            let judged = tls.process_new_packets();
            // Also after a refusal: the alert that tells the other end why is still to be sent.
            while tls.wants_write() {
                if let Err(error) = tls.write_tls(&mut self.socket) {
                    judged.map_err(Failure::Tls)?;
                    return Err(silent_or("send", error, self.patience));
                }
            }
            judged.map_err(Failure::Tls)?;
            // rustls takes nothing more in while deciphered octets wait.
            match tls.reader().read_to_end(&mut self.plain) {
                Ok(_) => self.goodbye = true,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(Failure::Io { doing: "receive", source: error }),
            }
        }
        Ok(())
    }
}

/// A connection that is reset while one waits for octets is closed like any other.
fn closes(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe)
}

fn silent_or(doing: &'static str, error: io::Error, patience: Duration) -> Failure {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Failure::Silent(patience.as_secs()),
        _ => Failure::Io { doing, source: error },
    }
}
