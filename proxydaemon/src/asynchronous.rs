//! Channels and signals within tokio: roles with a runtime speak with gate and sessions without blocking.
//!
//! Only to be made in a process that was forked before it had a runtime.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::descriptors::Channel;
use crate::logging;
use crate::signals::{Arrived, Signal, SignalFd, Signals};

/// A channel whose messages are postcard, of one type per direction, bounded in octets.
#[derive(Debug)]
pub struct AsyncChannel {
    channel: AsyncFd<Channel>,
    largest: usize,
}

impl AsyncChannel {
    /// Takes the channel into the runtime of this process. `largest` bounds a message in octets.
    ///
    /// # Errors
    /// When the descriptor cannot be watched.
    pub fn new(channel: Channel, largest: usize) -> io::Result<Self> {
        // SAFETY: the channel owns its descriptor, answers the same number always and stays open until it is dropped, which
        // happens within the `AsyncFd`.
        let channel = unsafe { AsyncFd::register_with_interest(channel, Interest::READABLE) }?;
        Ok(Self { channel, largest })
    }

    /// Waits for the next message and the descriptors that came with it; `None` when the other end is gone. Cancel-safe.
    ///
    /// # Errors
    /// As `recvmsg`; `InvalidData` for octets that are no message.
    pub async fn receive<M: DeserializeOwned>(&self) -> io::Result<Option<(M, Vec<OwnedFd>)>> {
        loop {
            let mut ready = self.channel.readable().await?;
            let mut octets = vec![0; self.largest];
            match ready.get_inner().try_receive(&mut octets) {
                Ok(None) => return Ok(None),
                Ok(Some(received)) => {
                    let message = octets.get(..received.len).unwrap_or_default();
                    return match postcard::take_from_bytes(message) {
                        Ok((message, [])) => Ok(Some((message, received.descriptors))),
                        _ => Err(io::Error::new(
                            io::ErrorKind::InvalidData,
                            format!("{} octets are no message between these processes", received.len),
                        )),
                    };
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready.clear_ready(),
                Err(error) => return Err(error),
            }
        }
    }

    /// Sends a message at once. `WouldBlock` means that the other end does not read its answers.
    ///
    /// # Errors
    /// As `sendmsg`; `InvalidInput` for a message beyond the bound.
    pub fn send<M: Serialize>(&self, message: &M, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let octets =
            postcard::to_allocvec(message).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        if octets.len() > self.largest {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("a message of {} octets", octets.len())));
        }
        self.channel.get_ref().try_send(&octets, descriptors)
    }
}

/// The signals of a role within tokio, with their senders, read from a [`SignalFd`]; nothing has to be unblocked.
#[derive(Debug)]
pub struct AsyncSignals(AsyncFd<SignalFd>);

impl AsyncSignals {
    /// Takes the signals of this process into its runtime.
    ///
    /// # Errors
    /// Out of descriptors, or the descriptor cannot be watched.
    pub fn new(signals: Signals) -> io::Result<Self> {
        let descriptor = signals.descriptor()?;
        // SAFETY: as for the channel above.
        Ok(Self(unsafe { AsyncFd::register_with_interest(descriptor, Interest::READABLE) }?))
    }

    /// Waits for the next signal. Cancel-safe.
    ///
    /// # Errors
    /// Not with a kernel that works.
    pub async fn next(&self) -> io::Result<Arrived> {
        loop {
            let mut ready = self.0.readable().await?;
            if let Some(arrived) = ready.get_inner().next()? {
                return Ok(arrived);
            }
            ready.clear_ready();
        }
    }
}

/// The log level signals of a role whose other signals are its gate's business: those are taken and do nothing.
#[derive(Debug)]
pub struct LevelSignals(AsyncSignals);

impl LevelSignals {
    /// Takes the signals of this process into its runtime.
    ///
    /// # Errors
    /// As [`AsyncSignals::new`].
    pub fn new() -> io::Result<Self> {
        Ok(Self(AsyncSignals::new(Signals::block()?)?))
    }

    /// Waits for the next signal and changes the log level if it asks for that. Cancel-safe.
    pub async fn next(&mut self) {
        match self.0.next().await {
            Ok(Arrived { signal: Signal::Level(level), sender, .. }) => logging::change_level(level, sender),
            Ok(_) => {}
            // A signalfd does not fail; if it did, the role would do without.
            Err(_) => std::future::pending().await,
        }
    }
}
