//! Connecting to the receive daemon, before the session is confined. No octet is read here.

use std::net::{SocketAddr, TcpStream};
use std::time::Instant;

use proxydaemon::descriptors;

/// Tries the addresses in turn until one answers or the deadline comes.
///
/// # Errors
/// What the last one answered.
pub fn connect(addresses: &[SocketAddr], deadline: Instant) -> Result<TcpStream, String> {
    let mut last = "it has no address".to_owned();
    for &address in addresses {
        match descriptors::connect(address, None, deadline) {
            Ok(socket) => return Ok(socket),
            Err(error) => last = format!("{address}: {error}"),
        }
    }
    Err(last)
}
