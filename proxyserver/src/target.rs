//! Where a partner is called, as the configuration writes it: `host:port`.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

/// Octets of a DNS name.
const LONGEST_NAME: usize = 253;

/// A partner's address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Its host.
    pub host: Host,
    /// Its TCP port, not 0.
    pub port: u16,
}

/// A host, by name or by address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Host {
    /// A name, to be resolved for each call.
    Name(String),
    /// An address, in its plain form where it is an IPv4-mapped one.
    Address(IpAddr),
}

impl Target {
    /// Reads `host:port`; an IPv6 address stands in brackets.
    pub fn read(text: &str) -> Option<Self> {
        if let Ok(address) = text.parse::<SocketAddr>() {
            let host = Host::Address(address.ip().to_canonical());
            return (address.port() != 0).then_some(Self { host, port: address.port() });
        }
        let (name, port) = text.rsplit_once(':')?;
        let port = port.parse().ok().filter(|port| *port != 0)?;
        let is_name = |octet: u8| octet.is_ascii_graphic() && !b":[]/".contains(&octet);
        if name.is_empty() || name.len() > LONGEST_NAME || !name.bytes().all(is_name) {
            return None;
        }
        Some(Self { host: Host::Name(name.to_owned()), port })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Name(name) => write!(f, "{name}:{}", self.port),
            Host::Address(address) => SocketAddr::new(*address, self.port).fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_addresses_are_told_apart_and_written_as_they_were() {
        for text in ["oftp.acme.example:6619", "192.0.2.7:3305", "[2001:db8::7]:6619", "localhost:1"] {
            let target = Target::read(text).unwrap();
            assert_eq!(target.to_string(), text);
            assert_eq!(matches!(target.host, Host::Address(_)), !text.starts_with(['o', 'l']), "{text}");
        }
        let mapped = Target::read("[::ffff:192.0.2.7]:6619").unwrap();
        assert_eq!(mapped.host, Host::Address("192.0.2.7".parse().unwrap()));
    }

    #[test]
    fn what_names_no_host_and_port_is_refused() {
        let long = format!("{}:1", "a".repeat(254));
        for text in ["", ":1", "acme", "acme:", "acme:0", "acme:65536", "192.0.2.7:0", "2001:db8::7:1", "a b:1", &long]
        {
            assert_eq!(Target::read(text), None, "{text}");
        }
    }
}
