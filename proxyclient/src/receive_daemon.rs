//! Connecting to the receive daemon, before the session is confined. No octet is read here.

use std::net::{SocketAddr, TcpStream};
use std::time::Instant;

use proxydaemon::descriptors;

/// Tries the addresses in turn until one answers. Each has its share of what is left until the deadline, so that one which
/// says nothing leaves time for the others.
///
/// # Errors
/// What each of them answered.
pub fn connect(addresses: &[SocketAddr], deadline: Instant) -> Result<TcpStream, String> {
    let mut failures = Vec::new();
    for (place, &address) in addresses.iter().enumerate() {
        let begun = Instant::now();
        let left = u32::try_from(addresses.len() - place).unwrap_or(u32::MAX);
        let share = deadline.saturating_duration_since(begun) / left;
        match descriptors::connect(address, None, begun + share) {
            Ok(socket) => return Ok(socket),
            Err(error) => failures.push(format!("{address}: {error}")),
        }
    }
    Err(if failures.is_empty() { "it has no address".to_owned() } else { failures.join("; ") })
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::time::Duration;

    use super::*;

    #[test]
    fn an_address_that_says_nothing_leaves_time_for_the_next() {
        // A queue that is full answers nobody.
        let silent = descriptors::Listener::bind("127.0.0.1:0".parse().unwrap(), 0).unwrap();
        let silent = silent.address().unwrap();
        let soon = || Instant::now() + Duration::from_millis(100);
        let filling: Vec<_> = std::iter::from_fn(|| descriptors::connect(silent, None, soon()).ok()).take(64).collect();
        assert!(filling.len() < 64, "the queue is never full");
        let daemon = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = daemon.local_addr().unwrap();
        let socket = connect(&[silent, address], Instant::now() + Duration::from_secs(4)).unwrap();
        assert_eq!(socket.peer_addr().unwrap(), address);
    }

    #[test]
    fn what_each_address_answers_is_told() {
        let deserted = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let [one, other] = [deserted(), deserted()];
        let told = connect(&[one, other], Instant::now() + Duration::from_secs(20)).unwrap_err();
        assert!(told.contains(&one.to_string()) && told.contains(&other.to_string()), "{told}");
        assert_eq!(connect(&[], Instant::now()).unwrap_err(), "it has no address");
    }
}
