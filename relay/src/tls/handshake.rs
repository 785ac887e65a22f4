//! The TLS handshake, as server and as client: bounded in time and in octets, and interruptible by an order.

use std::io::{self, Read};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::ServerName;
use rustls::server::UnbufferedServerConnection;
use rustls::{AlertDescription, ClientConfig, Error, ServerConfig};

use super::connection::{Connection, Speak, Step};
use super::{Tls, is_for_later};
use crate::loss::Loss;
use crate::orders::{EndOrder, Orders};
use crate::wait::{Interest, wait};

/// Octets that a peer may send in a handshake: rustls takes chains of up to 64 KiB; the rest is small beside it.
const LARGEST_HANDSHAKE: usize = 128 * 1024;

/// How long a peer gets to take an alert and to close.
const ALERT_PATIENCE: Duration = Duration::from_secs(2);

/// Why a handshake did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// We refuse: what the peer offered, or what the certificate verifier said. The alert has been sent.
    #[error("{0}")]
    Refused(Error),
    /// The peer refuses with this alert.
    #[error("the peer refuses: alert {0:?}")]
    PeerAlert(AlertDescription),
    /// Not finished before the deadline.
    #[error("the TLS handshake was not finished in time")]
    TimedOut,
    /// The peer closed the connection.
    #[error("the peer closed the connection within the TLS handshake")]
    Closed,
    /// More octets than any handshake has.
    #[error("the peer sent more octets than a TLS handshake has")]
    TooLarge,
    /// The network's answer.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// Our own daemon had the session ended.
    #[error("{0}")]
    Ordered(EndOrder),
}

impl Tls {
    /// Answers a handshake as TLS server.
    ///
    /// The configuration's verifier and signer may block; the deadline is looked at between their calls. Octets that
    /// come right behind the handshake are kept for the relay.
    ///
    /// # Errors
    /// [`HandshakeError`]. The alert, if there is one, has then been written; the socket is closed on return.
    pub fn accept(
        socket: impl Into<TcpStream>,
        configuration: Arc<ServerConfig>,
        deadline: Instant,
        orders: &mut dyn Orders,
    ) -> Result<Self, HandshakeError> {
        let connection = UnbufferedServerConnection::new(configuration).map_err(HandshakeError::Refused)?;
        Self::new(socket.into(), Connection::Server(connection))?.shake_hands(deadline, orders)
    }

    /// Opens a handshake as TLS client, for the server of this name. Otherwise as [`Tls::accept`].
    ///
    /// # Errors
    /// As [`Tls::accept`].
    pub fn connect(
        socket: impl Into<TcpStream>,
        configuration: Arc<ClientConfig>,
        name: ServerName<'static>,
        deadline: Instant,
        orders: &mut dyn Orders,
    ) -> Result<Self, HandshakeError> {
        let connection = UnbufferedClientConnection::new(configuration, name).map_err(HandshakeError::Refused)?;
        Self::new(socket.into(), Connection::Client(connection))?.shake_hands(deadline, orders)
    }

    /// After a handshake: waits for the first octets that the peer says, and keeps them for the relay. In TLS 1.3 a server
    /// looks at our certificate only when our handshake is done, so its refusal comes here (RFC 8446, 4.4.2.4).
    ///
    /// # Errors
    /// As [`Tls::accept`].
    pub fn await_words(mut self, deadline: Instant, orders: &mut dyn Orders) -> Result<Self, HandshakeError> {
        let mut octets_read = 0;
        while self.kept.is_empty() {
            if self.peer_closed {
                return Err(HandshakeError::Closed);
            }
            self.await_octets(true, deadline, orders, &mut octets_read)?;
            if let Err(error) = self.advance() {
                return Err(self.refuse(error, deadline));
            }
        }
        Ok(self)
    }

    fn shake_hands(mut self, deadline: Instant, orders: &mut dyn Orders) -> Result<Self, HandshakeError> {
        let mut octets_read = 0;
        loop {
            if let Err(error) = self.advance() {
                return Err(self.refuse(error, deadline));
            }
            let written = self.flush().map_err(broken)?;
            if written && !self.connection.common().is_handshaking() {
                return Ok(self);
            }
            self.await_octets(written, deadline, orders, &mut octets_read)?;
        }
    }

    /// Waits until more has come, or, before everything is `written`, more can be written.
    fn await_octets(
        &mut self,
        written: bool,
        deadline: Instant,
        orders: &mut dyn Orders,
        octets_read: &mut usize,
    ) -> Result<(), HandshakeError> {
        let interest = Interest { read: written || self.connection.common().is_handshaking(), write: !written };
        let ready = wait(&[(self.descriptor(), interest)], orders.descriptor(), Some(deadline))?;
        if ready.order
            && let Some(order) = orders.take()
        {
            return Err(HandshakeError::Ordered(order));
        }
        // Looked at each time: a peer that sends an octet now and then would otherwise never let the wait end.
        if Instant::now() >= deadline {
            return Err(HandshakeError::TimedOut);
        }
        if ready.sides.first().is_some_and(|side| side.read) {
            *octets_read += self.read_handshake()?;
        }
        if *octets_read > LARGEST_HANDSHAKE {
            return Err(HandshakeError::TooLarge);
        }
        Ok(())
    }

    /// Lets rustls work on what has come. Plaintext behind the handshake is kept.
    fn advance(&mut self) -> Result<(), Error> {
        loop {
            let kept = &mut self.kept;
            let (discard, step) =
                self.connection.step(self.incoming.filled_mut(), Speak::Nothing, &mut self.outgoing, &mut |octets| {
                    kept.extend_from_slice(octets);
                });
            self.incoming.take(discard);
            match step? {
                Step::Again => {}
                Step::PeerClosed => {
                    self.peer_closed = true;
                    self.incoming.clear();
                }
                Step::Rest => return Ok(()),
            }
        }
    }

    fn read_handshake(&mut self) -> Result<usize, HandshakeError> {
        let room = self.incoming.room();
        if room == 0 {
            return Err(HandshakeError::TooLarge);
        }
        match self.socket.read(self.incoming.spare(room)) {
            Ok(0) => Err(HandshakeError::Closed),
            Ok(octets) => {
                self.incoming.added(octets);
                Ok(octets)
            }
            Err(error) if is_for_later(&error) => Ok(0),
            Err(error) => Err(HandshakeError::Io(error)),
        }
    }

    /// Sends the alert and waits a little for the peer to take it: closing at once could destroy it on its way, when
    /// octets of the peer are still unread.
    fn refuse(mut self, error: Error, deadline: Instant) -> HandshakeError {
        self.queue_alert();
        let patience = (Instant::now() + ALERT_PATIENCE).min(deadline);
        let mut spoken = false;
        loop {
            match self.flush() {
                Ok(true) if !spoken => {
                    spoken = true;
                    let _ = self.socket.shutdown(Shutdown::Write);
                }
                Ok(_) => {}
                Err(_) => break,
            }
            let interest = Interest { read: true, write: !spoken };
            if wait(&[(self.descriptor(), interest)], None, Some(patience)).is_err() || Instant::now() >= patience {
                break;
            }
            self.incoming.clear();
            let room = self.incoming.room();
            match self.socket.read(self.incoming.spare(room)) {
                Ok(0) => break,
                Err(error) if !is_for_later(&error) => break,
                _ => {}
            }
        }
        match error {
            Error::AlertReceived(alert) => HandshakeError::PeerAlert(alert),
            error => HandshakeError::Refused(error),
        }
    }
}

fn broken(loss: Loss) -> HandshakeError {
    match loss {
        Loss::Io(error) => HandshakeError::Io(error),
        Loss::Tls(error) => HandshakeError::Refused(error),
        _ => HandshakeError::Closed,
    }
}
