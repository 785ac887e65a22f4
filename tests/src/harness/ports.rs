//! Free loopback ports for daemons that cannot choose one themselves.

use std::collections::HashSet;
use std::net::TcpListener;
use std::sync::{Mutex, PoisonError};

use super::Trouble;

/// A port on 127.0.0.1 that is free now and is handed out once in this process.
pub fn free_port() -> Result<u16, Trouble> {
    static TAKEN: Mutex<Option<HashSet<u16>>> = Mutex::new(None);
    let mut taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
    let taken = taken.get_or_insert_default();
    // Kept open until a new one is found, so that the system does not offer the same one again.
    let mut refused = Vec::new();
    loop {
        let listener = TcpListener::bind("127.0.0.1:0").map_err(Trouble::io("find a free port"))?;
        let port = listener.local_addr().map_err(Trouble::io("find a free port"))?.port();
        if taken.insert(port) {
            return Ok(port);
        }
        refused.push(listener);
    }
}
