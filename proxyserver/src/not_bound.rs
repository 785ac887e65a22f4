//! Why the port of the link cannot be listened on, with what to do about it.

use std::io::{Error, ErrorKind};
use std::net::SocketAddr;

/// The sentence for whoever starts the daemon.
pub fn text(address: SocketAddr, error: &Error) -> String {
    let to_do = match error.kind() {
        ErrorKind::PermissionDenied if address.port() < 1024 => {
            "a port below 1024 needs the right to bind it, as root has it with -u; -i names another port"
        }
        ErrorKind::PermissionDenied => "the system forbids it to this user; -i names another port",
        ErrorKind::AddrNotAvailable => "it is no address of this host; -i names another",
        ErrorKind::AddrInUse => "see who holds the port, -i names another",
        _ => "-i names another address and port",
    };
    format!("cannot listen on {address} for the proxyclient: {error}; {to_do}")
}

#[cfg(test)]
mod tests {
    use nix::libc::{EACCES, EADDRINUSE, EADDRNOTAVAIL, EMFILE};

    use super::*;

    #[test]
    fn each_kind_of_failure_has_its_advice() {
        for (address, errno, to_do) in [
            ("127.0.0.1:80", EACCES, "a port below 1024 needs the right to bind it"),
            ("127.0.0.1:2878", EACCES, "the system forbids it to this user"),
            ("192.0.2.1:2878", EADDRNOTAVAIL, "it is no address of this host"),
            ("127.0.0.1:2878", EADDRINUSE, "see who holds the port"),
            ("127.0.0.1:2878", EMFILE, "-i names another address"),
        ] {
            let told = text(address.parse().unwrap(), &Error::from_raw_os_error(errno));
            assert!(told.starts_with(&format!("cannot listen on {address} ")) && told.contains(to_do), "{told}");
            assert_eq!(told.contains("who holds"), errno == EADDRINUSE, "{told}");
        }
    }
}
