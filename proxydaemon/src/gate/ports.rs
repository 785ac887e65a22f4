//! The addresses at which a gate accepts: those that it is told to, opened when they can be, closed at once.

use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};

use crate::descriptors::{Accepted, Listener};

/// Connections that may wait for the gate.
const BACKLOG: u16 = 512;

/// The open addresses, and those that should be.
#[derive(Debug, Default)]
pub struct Ports {
    listeners: Vec<(SocketAddr, Listener)>,
    missing: Vec<SocketAddr>,
}

/// An address that cannot be listened on.
#[derive(Debug)]
pub struct Unavailable {
    /// Which.
    pub address: SocketAddr,
    /// What the system says.
    pub error: std::io::Error,
}

impl Ports {
    /// Listens on exactly these addresses; those that are open already stay open. What cannot be opened is given back the
    /// first time, and tried again by each further call.
    pub fn listen(&mut self, addresses: &[SocketAddr]) -> Vec<Unavailable> {
        self.listeners.retain(|(address, _)| addresses.contains(address));
        let missed = std::mem::take(&mut self.missing);
        let mut unavailable = Vec::new();
        for &address in addresses {
            if self.listeners.iter().any(|(open, _)| *open == address) {
                continue;
            }
            match Listener::bind(address, BACKLOG) {
                Ok(listener) => self.listeners.push((address, listener)),
                Err(error) => {
                    self.missing.push(address);
                    if !missed.contains(&address) {
                        unavailable.push(Unavailable { address, error });
                    }
                }
            }
        }
        unavailable
    }

    /// Whether an address could not be opened.
    pub fn is_incomplete(&self) -> bool {
        !self.missing.is_empty()
    }

    /// The open addresses as they were asked for, and what they are open by.
    pub fn listeners(&self) -> impl Iterator<Item = (SocketAddr, &Listener)> {
        self.listeners.iter().map(|(address, listener)| (*address, listener))
    }

    /// The addresses that could not be opened, which was told.
    pub fn missing(&self) -> &[SocketAddr] {
        &self.missing
    }

    /// Takes over addresses that an earlier gate has opened, and those that it could not open.
    pub fn take_over(&mut self, listeners: Vec<(SocketAddr, Listener)>, missing: Vec<SocketAddr>) {
        (self.listeners, self.missing) = (listeners, missing);
    }

    /// Closes all; whether any was open.
    pub fn close(&mut self) -> bool {
        let open = !self.listeners.is_empty();
        self.listeners.clear();
        self.missing.clear();
        open
    }

    /// Where one can connect.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.listeners.iter().map(|(address, listener)| listener.address().unwrap_or(*address)).collect()
    }

    /// What to poll.
    pub fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.listeners.iter().map(|(_, listener)| listener.as_fd())
    }

    /// The next connection at the listener with this place in [`Ports::descriptors`].
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_is_taken_is_told_once_and_opened_when_it_is_free() {
        let other = Listener::bind("127.0.0.1:0".parse().unwrap(), 1).unwrap();
        let taken = other.address().unwrap();
        let free = "127.0.0.2:0".parse().unwrap();
        let mut port = Ports::default();
        let told = port.listen(&[taken, free]);
        assert_eq!(told.iter().map(|failed| failed.address).collect::<Vec<_>>(), [taken]);
        assert!(port.is_incomplete());
        assert_eq!(port.listen(&[taken, free]).len(), 0);
        assert_eq!((port.is_incomplete(), port.addresses().len()), (true, 1));
        drop(other);
        assert_eq!(port.listen(&[taken, free]).len(), 0);
        assert_eq!((port.is_incomplete(), port.addresses().len()), (false, 2));
        // Gone and missing again, it is told again.
        assert_eq!(port.listen(&[free]).len(), 0);
        let _other = Listener::bind(taken, 1).unwrap();
        assert_eq!(port.listen(&[taken, free]).len(), 1);
        assert!(port.close());
        assert!(!port.is_incomplete());
    }
}
