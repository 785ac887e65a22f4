//! Sending on a TCP connection, with as few segments as there need be.
//!
//! Nothing is ever held back for what may come. But while bulk data passes, the next octets are there already when a run is
//! written, and each run would end with a short segment that costs as much as a full one: that one may wait for them.

use std::io;
use std::net::TcpStream;
use std::os::fd::AsRawFd;

use nix::libc;
use nix::sys::socket::{self, MsgFlags};

/// Writes once, as far as the connection takes it. With `more` the kernel keeps what fills no segment until something
/// else is sent, or [`let_go`] is called.
pub(crate) fn send(socket: &TcpStream, octets: &[u8], more: bool) -> io::Result<usize> {
    let more = MsgFlags::from_bits_retain(if more { libc::MSG_MORE } else { 0 });
    Ok(socket::send(socket.as_raw_fd(), octets, more | MsgFlags::MSG_NOSIGNAL)?)
}

/// Has the kernel send what it keeps, as setting this option does even where it is set already (tcp(7), TCP_NODELAY).
pub(crate) fn let_go(socket: &TcpStream) {
    // Fails on no connection that could still send.
    let _ = socket.set_nodelay(true);
}
