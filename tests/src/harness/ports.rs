//! Free loopback ports for daemons that cannot choose one themselves.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU32, Ordering};

use super::Trouble;

/// Below the range from which the system takes ports for outgoing connections (`ip_local_port_range`): none of those, of
/// which a storm makes thousands, can take a port between its being found free and its daemon's start.
const FIRST: u32 = 10_240;
const COUNT: u32 = 32_000 - FIRST;
/// Apart from each other begin processes that look for ports at the same time.
const STRIDE: u32 = 199;

/// A port on 127.0.0.1 that is free now and is handed out once in this process.
pub fn free_port() -> Result<u16, Trouble> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let start = std::process::id().wrapping_mul(STRIDE);
    let mut last = None;
    loop {
        let place = NEXT.fetch_add(1, Ordering::Relaxed);
        if place >= COUNT {
            break;
        }
        let port = u16::try_from(FIRST + start.wrapping_add(place) % COUNT).unwrap_or_default();
        match TcpListener::bind(("127.0.0.1", port)) {
            Ok(_) => return Ok(port),
            Err(error) => last = Some(error),
        }
    }
    Err(Trouble::io("find a free port")(last.unwrap_or_else(|| std::io::ErrorKind::AddrInUse.into())))
}
