//! The addresses at which a gate accepts: those that it is told to, opened when they can be, closed at once.

use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;

use crate::descriptors::{Accepted, Listener};

/// Connections that may wait for the gate.
const BACKLOG: u16 = 512;

/// The open addresses, and those that should be.
#[derive(Debug, Default)]
pub struct Ports {
    listeners: Vec<(SocketAddr, Listener)>,
    missing: Vec<SocketAddr>,
    /// Wildcards whose family the host does not have, where the other family's is asked for, too.
    without: Vec<SocketAddr>,
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
    /// first time, and tried again by each further call. Of the two wildcards of a port one is enough where the host is
    /// without the other family.
    pub fn listen(&mut self, addresses: &[SocketAddr]) -> Vec<Unavailable> {
        self.listeners.retain(|(address, _)| addresses.contains(address));
        let missed = std::mem::take(&mut self.missing);
        let lacked = std::mem::take(&mut self.without);
        let mut unavailable = Vec::new();
        for &address in addresses {
            if self.listeners.iter().any(|(open, _)| *open == address) {
                continue;
            }
            match Listener::bind(address, BACKLOG) {
                Ok(listener) => self.listeners.push((address, listener)),
                Err(error) if lacks_family(address, &error) && has_twin(address, addresses) => {
                    if !lacked.contains(&address) {
                        log::debug!("nobody listens on {address}: this host is without that family ({error})");
                    }
                    self.without.push(address);
                }
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
        self.without.clear();
    }

    /// Closes all; whether any was open.
    pub fn close(&mut self) -> bool {
        let open = !self.listeners.is_empty();
        self.listeners.clear();
        self.missing.clear();
        self.without.clear();
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

/// Whether the host lacks the family of this wildcard: none in the kernel, or no address of it (IPv6 switched off).
pub fn lacks_family(address: SocketAddr, error: &std::io::Error) -> bool {
    let number = error.raw_os_error();
    address.ip().is_unspecified()
        && (number == Some(Errno::EAFNOSUPPORT as i32)
            || (address.is_ipv6() && number == Some(Errno::EADDRNOTAVAIL as i32)))
}

/// Whether the other family's wildcard with the same port is there, too.
fn has_twin(wildcard: SocketAddr, addresses: &[SocketAddr]) -> bool {
    addresses.iter().any(|other| {
        other.ip().is_unspecified() && other.port() == wildcard.port() && other.is_ipv4() != wildcard.is_ipv4()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_without_a_family_lacks_its_wildcard_and_nothing_else() {
        let error = |number: Errno| std::io::Error::from_raw_os_error(number as i32);
        let [four, six, own]: [SocketAddr; 3] =
            ["0.0.0.0:1", "[::]:1", "[::1]:1"].map(|address| address.parse().unwrap());
        for wildcard in [four, six] {
            assert!(lacks_family(wildcard, &error(Errno::EAFNOSUPPORT)));
            for fault in [Errno::EADDRINUSE, Errno::EACCES, Errno::EMFILE] {
                assert!(!lacks_family(wildcard, &error(fault)), "{fault}");
            }
        }
        assert!(lacks_family(six, &error(Errno::EADDRNOTAVAIL)));
        assert!(!lacks_family(four, &error(Errno::EADDRNOTAVAIL)));
        assert!(!lacks_family(own, &error(Errno::EAFNOSUPPORT)), "that one was meant");
        assert!(has_twin(four, &[four, six]) && has_twin(six, &[six, own, four]));
        assert!(!has_twin(four, &[four, own]) && !has_twin(six, &[six, "0.0.0.0:2".parse().unwrap()]));
    }

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
