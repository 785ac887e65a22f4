//! TCP sockets as the gate makes them: listeners, accepted connections, connections from a given address.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::Instant;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, accept4, bind, connect as start_connect, listen,
    setsockopt, socket, sockopt,
};

use super::wait_any;

/// A bound TCP port that never waits. An IPv6 address takes IPv6 connections only, so that both families can be bound.
#[derive(Debug)]
pub struct Listener(TcpListener);

/// A connection that was taken from a [`Listener`]: non-blocking, closed on exec, without Nagle's delay.
#[derive(Debug)]
pub struct Accepted {
    /// The connection.
    pub stream: TcpStream,
    /// Where it comes from.
    pub peer: SocketAddr,
}

impl Listener {
    /// Binds `address` and listens with room for `backlog` connections nobody accepted yet. Port 0 takes a free one.
    ///
    /// # Errors
    /// The address is in use, not of this host, or not permitted; out of descriptors.
    pub fn bind(address: SocketAddr, backlog: u16) -> io::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(family(address), SockType::Stream, flags, None)?;
        setsockopt(&socket, sockopt::ReuseAddr, &true)?;
        if address.is_ipv6() {
            setsockopt(&socket, sockopt::Ipv6V6Only, &true)?;
        }
        bind(socket.as_raw_fd(), &SockaddrStorage::from(address))?;
        listen(&socket, Backlog::new(i32::from(backlog)).unwrap_or(Backlog::MAXCONN))?;
        Ok(Self(socket.into()))
    }

    /// Listens as after [`Listener::bind`], whatever somebody else who had the socket did with it: shut it down, or have it
    /// wait. Connections in its queue stay there.
    ///
    /// # Errors
    /// It was shut down, and the port is another's by now, as may be one that the kernel had chosen.
    pub fn listen_again(&self, backlog: u16) -> io::Result<()> {
        self.0.set_nonblocking(true)?;
        Ok(listen(&self.0, Backlog::new(i32::from(backlog)).unwrap_or(Backlog::MAXCONN))?)
    }

    /// The address it is bound to, with the port the kernel chose if it was 0.
    ///
    /// # Errors
    /// As `getsockname`.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    /// Takes the next connection that is there; `None` when there is no more.
    ///
    /// # Errors
    /// Out of descriptors or memory (EMFILE, ENFILE, ENOBUFS, ENOMEM): the connection stays in the queue. What befell a
    /// single connection before it was accepted is passed over.
    pub fn accept(&self) -> io::Result<Option<Accepted>> {
        loop {
            let number = match accept4(self.0.as_raw_fd(), SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK) {
                Ok(number) => number,
                Err(Errno::EAGAIN) => return Ok(None),
                Err(error @ (Errno::EMFILE | Errno::ENFILE | Errno::ENOBUFS | Errno::ENOMEM)) => {
                    return Err(error.into());
                }
                // Linux hands errors of the new connection's network to accept (accept(2)); they are not the listener's.
                Err(
                    Errno::EINTR
                    | Errno::ECONNABORTED
                    | Errno::EPROTO
                    | Errno::EPERM
                    | Errno::ETIMEDOUT
                    | Errno::ENETDOWN
                    | Errno::ENETUNREACH
                    | Errno::EHOSTDOWN
                    | Errno::EHOSTUNREACH
                    | Errno::ENONET
                    | Errno::ENOPROTOOPT
                    | Errno::EOPNOTSUPP,
                ) => continue,
                Err(error) => return Err(error.into()),
            };
            // SAFETY: the kernel has just opened this descriptor for us, nobody else owns it.
            let stream = TcpStream::from(unsafe { OwnedFd::from_raw_fd(number) });
            // A peer that reset the connection meanwhile has no address any more.
            let Ok(peer) = stream.peer_addr() else { continue };
            if stream.set_nodelay(true).is_err() {
                continue;
            }
            return Ok(Some(Accepted { stream, peer }));
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for Listener {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// Takes over a listening socket that survived an exec or came by a channel.
impl From<OwnedFd> for Listener {
    fn from(fd: OwnedFd) -> Self {
        Self(fd.into())
    }
}

impl From<Listener> for OwnedFd {
    fn from(listener: Listener) -> Self {
        listener.0.into()
    }
}

/// Connects to `to`, from the local address `from` if one is given, until `deadline`. The connection is non-blocking,
/// closed on exec and without Nagle's delay.
///
/// # Errors
/// `TimedOut` at the deadline; `AddrNotAvailable` when `from` is not an address of this host, or no port is free; what the
/// network answers.
pub fn connect(to: SocketAddr, from: Option<IpAddr>, deadline: Instant) -> io::Result<TcpStream> {
    connect_unless(to, from, deadline, &[], &mut || false)
}

/// As [`connect`]. Whenever one of `watched` is ready to be read, `gives_up` is asked; it must take what is there, or give
/// the connection up.
///
/// # Errors
/// As [`connect`]; `Interrupted` when it was given up.
pub fn connect_unless(
    to: SocketAddr,
    from: Option<IpAddr>,
    deadline: Instant,
    watched: &[BorrowedFd<'_>],
    gives_up: &mut dyn FnMut() -> bool,
) -> io::Result<TcpStream> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(family(to), SockType::Stream, flags, None)?;
    if let Some(from) = from {
        // The port is chosen at connect, so that connections to different peers can share it.
        setsockopt(&socket, sockopt::IpBindAddressNoPort, &true)?;
        bind(socket.as_raw_fd(), &SockaddrStorage::from(SocketAddr::new(from, 0)))?;
    }
    match start_connect(socket.as_raw_fd(), &SockaddrStorage::from(to)) {
        Ok(()) => {}
        Err(Errno::EINPROGRESS) => loop {
            let mut awaited = vec![PollFd::new(socket.as_fd(), PollFlags::POLLOUT)];
            awaited.extend(watched.iter().map(|watched| PollFd::new(*watched, PollFlags::POLLIN)));
            let is_ready = |fd: &PollFd<'_>| fd.any() == Some(true);
            if !wait_any(&mut awaited, Some(deadline))? {
                return Err(io::ErrorKind::TimedOut.into());
            }
            if awaited.first().is_some_and(is_ready) {
                break;
            }
            if gives_up() {
                return Err(io::ErrorKind::Interrupted.into());
            }
        },
        Err(error) => return Err(error.into()),
    }
    let stream = TcpStream::from(socket);
    match stream.take_error()? {
        Some(error) => Err(error),
        None => {
            stream.set_nodelay(true)?;
            Ok(stream)
        }
    }
}

/// Whether this host has the address, so that connections can be opened from it.
///
/// # Errors
/// Why not, in the system's words.
pub fn can_call_from(address: IpAddr) -> io::Result<()> {
    let socket = socket(family((address, 0).into()), SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    setsockopt(&socket, sockopt::IpBindAddressNoPort, &true)?;
    Ok(bind(socket.as_raw_fd(), &SockaddrStorage::from(SocketAddr::new(address, 0)))?)
}

fn family(address: SocketAddr) -> AddressFamily {
    if address.is_ipv6() { AddressFamily::Inet6 } else { AddressFamily::Inet }
}

#[cfg(test)]
mod tests {
    use super::super::{Channel, wait_ready};
    use super::*;
    use std::io::{Read, Write};
    use std::time::Duration;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(20)
    }

    fn loopback(address: &str) -> SocketAddr {
        address.parse().unwrap()
    }

    #[test]
    fn a_listener_that_was_shut_down_by_another_listens_again_and_one_that_was_not_keeps_its_queue() {
        use nix::sys::socket::{Shutdown, shutdown};
        // One that the kernel has chosen is lost with the end of listening.
        let free = Listener::bind(loopback("127.0.0.1:0"), 1).unwrap().address().unwrap();
        let listener = Listener::bind(free, 16).unwrap();
        let address = listener.address().unwrap();
        let waits = connect(address, None, soon()).unwrap();
        listener.listen_again(16).unwrap();
        assert!(wait_ready(&listener, PollFlags::POLLIN, Some(soon())).unwrap());
        assert_eq!(listener.accept().unwrap().unwrap().peer, waits.local_addr().unwrap());

        let another = listener.as_fd().try_clone_to_owned().unwrap();
        shutdown(another.as_raw_fd(), Shutdown::Both).unwrap();
        nix::fcntl::fcntl(&another, nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::empty())).unwrap();
        assert!(connect(address, None, soon()).is_err());
        listener.listen_again(16).unwrap();
        assert!(listener.accept().unwrap().is_none(), "it does not wait");
        let client = connect(address, None, soon()).unwrap();
        assert!(wait_ready(&listener, PollFlags::POLLIN, Some(soon())).unwrap());
        assert_eq!(listener.accept().unwrap().unwrap().peer, client.local_addr().unwrap());
    }

    #[test]
    fn accepts_what_is_there_and_never_waits() {
        let listener = Listener::bind(loopback("127.0.0.1:0"), 16).unwrap();
        assert!(listener.accept().unwrap().is_none());
        let address = listener.address().unwrap();
        let mut client = connect(address, Some("127.0.0.2".parse().unwrap()), soon()).unwrap();
        assert!(wait_ready(&listener, PollFlags::POLLIN, Some(soon())).unwrap());
        let accepted = listener.accept().unwrap().unwrap();
        assert_eq!(accepted.peer, client.local_addr().unwrap());
        assert_eq!(accepted.peer.ip(), "127.0.0.2".parse::<IpAddr>().unwrap());
        assert!(accepted.stream.nodelay().unwrap() && client.nodelay().unwrap());
        let mut stream = accepted.stream;
        assert_eq!(stream.read(&mut [0]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        client.write_all(b"x").unwrap();
        assert!(wait_ready(&stream, PollFlags::POLLIN, Some(soon())).unwrap());
        assert_eq!(stream.read(&mut [0]).unwrap(), 1);
    }

    #[test]
    fn both_families_share_a_port_and_a_second_bind_is_refused() {
        let Ok(six) = Listener::bind(loopback("[::]:0"), 1) else {
            return; // a kernel without IPv6
        };
        let port = six.address().unwrap().port();
        let _four = Listener::bind(SocketAddr::new("0.0.0.0".parse().unwrap(), port), 1).unwrap();
        let again = Listener::bind(SocketAddr::new("0.0.0.0".parse().unwrap(), port), 1).unwrap_err();
        assert_eq!(again.kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn a_refused_connection_and_a_foreign_address_say_so() {
        let listener = Listener::bind(loopback("127.0.0.1:0"), 1).unwrap();
        let address = listener.address().unwrap();
        drop(listener);
        assert_eq!(connect(address, None, soon()).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        let foreign = Some("192.0.2.1".parse().unwrap()); // RFC 5737: no host has it
        assert_eq!(connect(address, foreign, soon()).unwrap_err().kind(), io::ErrorKind::AddrNotAvailable);
    }

    #[test]
    fn an_address_to_call_from_is_one_of_the_host() {
        for ours in ["127.0.0.1", "127.0.0.2", "0.0.0.0"] {
            can_call_from(ours.parse().unwrap()).unwrap();
        }
        let foreign = can_call_from("192.0.2.1".parse().unwrap()).unwrap_err();
        assert_eq!(foreign.kind(), io::ErrorKind::AddrNotAvailable);
    }

    /// A port whose queue is full: whoever comes now waits.
    fn silent() -> (Listener, Vec<TcpStream>) {
        let listener = Listener::bind(loopback("127.0.0.1:0"), 0).unwrap();
        let address = listener.address().unwrap();
        let at_once = || connect(address, None, Instant::now() + Duration::from_millis(200));
        let queue = std::iter::from_fn(|| at_once().ok()).take(20).collect();
        (listener, queue)
    }

    #[test]
    fn a_connection_that_nobody_answers_is_given_up_when_it_is_told() {
        let (listener, _queue) = silent();
        let address = listener.address().unwrap();
        let (ours, theirs) = Channel::pair().unwrap();
        theirs.send(b"a word", &[]).unwrap();
        let mut asked = 0;
        let takes = |buffer: &mut [u8]| matches!(ours.try_receive(buffer), Ok(Some(_)));
        let gone = connect_unless(address, None, soon(), &[ours.as_fd()], &mut || {
            asked += 1;
            // What was said is taken first; then the other end is gone.
            if takes(&mut [0; 16]) {
                theirs.send(b"another", &[]).unwrap();
            }
            asked == 3
        });
        assert_eq!((gone.unwrap_err().kind(), asked), (io::ErrorKind::Interrupted, 3));
        let late = Instant::now() + Duration::from_millis(100);
        assert_eq!(connect(address, None, late).unwrap_err().kind(), io::ErrorKind::TimedOut);
    }
}
