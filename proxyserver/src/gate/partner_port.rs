//! The addresses where partners connect: open while a snapshot is in force, closed at once when it is not.

use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};

use proxydaemon::descriptors::{Accepted, Listener};

/// Connections that may wait for the gate.
const BACKLOG: u16 = 512;

/// The open addresses.
#[derive(Debug, Default)]
pub struct PartnerPort {
    listeners: Vec<(SocketAddr, Listener)>,
}

/// An address that cannot be listened on.
#[derive(Debug)]
pub struct Unavailable {
    /// Which.
    pub address: SocketAddr,
    /// What the system says.
    pub error: std::io::Error,
}

impl PartnerPort {
    /// Listens on exactly these addresses; those that are open already stay open. What cannot be opened is given back.
    pub fn listen(&mut self, addresses: &[SocketAddr]) -> Vec<Unavailable> {
        self.listeners.retain(|(address, _)| addresses.contains(address));
        let mut unavailable = Vec::new();
        for &address in addresses {
            if self.listeners.iter().any(|(open, _)| *open == address) {
                continue;
            }
            match Listener::bind(address, BACKLOG) {
                Ok(listener) => self.listeners.push((address, listener)),
                Err(error) => unavailable.push(Unavailable { address, error }),
            }
        }
        unavailable
    }

    /// Closes all; whether any was open.
    pub fn close(&mut self) -> bool {
        let open = !self.listeners.is_empty();
        self.listeners.clear();
        open
    }

    /// Where partners can connect.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.listeners.iter().map(|(address, listener)| listener.address().unwrap_or(*address)).collect()
    }

    /// What to poll.
    pub fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.listeners.iter().map(|(_, listener)| listener.as_fd())
    }

    /// The next connection at the listener with this place in [`PartnerPort::descriptors`].
    ///
    /// # Errors
    /// Out of descriptors or memory; the connection waits.
    pub fn accept(&self, place: usize) -> std::io::Result<Option<(Accepted, SocketAddr)>> {
        let Some((bound, listener)) = self.listeners.get(place) else { return Ok(None) };
        Ok(listener.accept()?.map(|accepted| {
            let local = accepted.stream.local_addr().unwrap_or(*bound);
            (accepted, local)
        }))
    }
}
