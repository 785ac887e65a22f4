//! One of the two connections of a session, TLS or plain, seen as a stream of plaintext.

use std::io::{self, Read};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};

use crate::area::Area;
use crate::loss::Loss;
use crate::sending;
use crate::tls::{LARGEST_READ, Reading, Tls};

/// One connection of a session.
pub enum Side {
    /// The partner, or the data link: after the handshake.
    Tls(Tls),
    /// The receive daemon, or an inside station.
    Plain(TcpStream),
}

impl From<Tls> for Side {
    fn from(tls: Tls) -> Self {
        Self::Tls(tls)
    }
}

impl From<TcpStream> for Side {
    fn from(socket: TcpStream) -> Self {
        Self::Plain(socket)
    }
}

impl Side {
    /// Sets what every socket of a session needs: never blocking, and never holding a small message back, as every
    /// credit and every turn costs a round trip as it is.
    pub(crate) fn prepare(&self) -> io::Result<()> {
        match self {
            Self::Tls(_) => Ok(()), // before its handshake
            Self::Plain(socket) => {
                socket.set_nonblocking(true)?;
                socket.set_nodelay(true)
            }
        }
    }

    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        self.socket().as_fd()
    }

    /// Whether reading gives something without the socket.
    pub(crate) fn has_kept(&self) -> bool {
        matches!(self, Self::Tls(tls) if tls.has_kept())
    }

    /// Whether less than a whole TLS record has come.
    pub(crate) fn has_partial(&self) -> bool {
        matches!(self, Self::Tls(tls) if tls.has_partial())
    }

    /// Reads once, at most what `into` has room for.
    pub(crate) fn read(&mut self, into: &mut Area) -> Result<Reading, Loss> {
        match self {
            Self::Tls(tls) => tls.read(into),
            Self::Plain(socket) => {
                let most = into.room().min(LARGEST_READ);
                if most == 0 {
                    return Ok(Reading::Nothing);
                }
                match socket.read(&mut into.spare(most)[..most]) {
                    Ok(0) => Ok(Reading::End { orderly: true }),
                    Ok(octets) => {
                        into.added(octets);
                        Ok(if octets == most { Reading::Full } else { Reading::Some })
                    }
                    Err(error) if is_for_later(&error) => Ok(Reading::Nothing),
                    Err(error) => Err(Loss::Io(error)),
                }
            }
        }
    }

    /// Takes octets from the front of `octets` and returns how many; none when the connection is full. With `more` to follow
    /// the last of them may wait for it, until [`Side::let_go`] is called.
    pub(crate) fn write(&mut self, octets: &[u8], more: bool) -> Result<usize, Loss> {
        match self {
            Self::Tls(tls) => tls.write(octets, more),
            Self::Plain(_) if octets.is_empty() => Ok(0),
            Self::Plain(socket) => match sending::send(socket, octets, more) {
                Ok(taken) => Ok(taken),
                Err(error) if is_for_later(&error) => Ok(0),
                Err(error) => Err(Loss::Io(error)),
            },
        }
    }

    /// Nothing follows after all.
    pub(crate) fn let_go(&self) {
        sending::let_go(self.socket());
    }

    /// Octets that were taken and wait for the socket.
    pub(crate) fn output(&self) -> usize {
        match self {
            Self::Tls(tls) => tls.output(),
            Self::Plain(_) => 0,
        }
    }

    /// Writes what waits; true when nothing waits any more.
    pub(crate) fn flush(&mut self) -> Result<bool, Loss> {
        match self {
            Self::Tls(tls) => tls.flush(),
            Self::Plain(_) => Ok(true),
        }
    }

    /// Says that nothing more will come, behind everything that was taken. True when that is written.
    pub(crate) fn finish(&mut self) -> Result<bool, Loss> {
        match self {
            Self::Tls(tls) => tls.finish(),
            Self::Plain(socket) => {
                // Fails only when the peer has gone already.
                let _ = socket.shutdown(Shutdown::Write);
                Ok(true)
            }
        }
    }

    /// Closes at once, whatever waits.
    pub(crate) fn cut(&mut self) {
        let _ = self.socket().shutdown(Shutdown::Both);
    }

    /// Whether there is memory to give back.
    pub(crate) fn holds_memory(&self) -> bool {
        matches!(self, Self::Tls(tls) if tls.holds_memory())
    }

    /// Gives memory back that an idle connection does not need.
    pub(crate) fn give_back(&mut self) {
        if let Self::Tls(tls) = self {
            tls.give_back();
        }
    }

    fn socket(&self) -> &TcpStream {
        match self {
            Self::Tls(tls) => tls.socket(),
            Self::Plain(socket) => socket,
        }
    }
}

fn is_for_later(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}
