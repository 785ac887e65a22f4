//! Whom an inside station asks for.

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// Octets of a name: what SOCKS5 can carry, and as long as a DNS name may be.
const LONGEST_NAME: usize = 255;

/// A host and a port, as the station named them; read once, and only compared from then on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// The host.
    pub host: Host,
    /// TCP port, 1 to 65535.
    pub port: u16,
}

/// A host in the form in which hosts are compared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Host {
    /// An address; an IPv4-mapped one as its IPv4 form.
    Address(IpAddr),
    /// Anything else: a DNS name without the dot at its end, or a partner's name. 1 to 255 octets, no control character.
    Name(String),
}

/// Why octets are no target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotATarget {
    /// Nothing stands where the host should.
    #[error("the host is missing")]
    NoHost,
    /// Longer than any name.
    #[error("the host has more than {LONGEST_NAME} octets")]
    LongHost,
    /// Something in it is part of no name.
    #[error("the host is neither a name nor an address")]
    Host,
    /// Not 1 to 65535.
    #[error("the port is missing or no number from 1 to 65535")]
    Port,
}

impl Target {
    /// The target at an address.
    ///
    /// # Errors
    /// Port 0.
    pub fn at(address: IpAddr, port: u16) -> Result<Self, NotATarget> {
        Self::new(Host::Address(address.to_canonical()), port)
    }

    /// The target with this name, which may be an address in text.
    ///
    /// # Errors
    /// [`NotATarget`] says what is wrong with it.
    pub fn named(host: &str, port: u16) -> Result<Self, NotATarget> {
        Self::new(Host::read(host)?, port)
    }

    /// `host:port`, an IPv6 address in brackets (RFC 9112, 3.2.3: authority-form).
    ///
    /// # Errors
    /// [`NotATarget`] says what is wrong with it.
    pub fn read(authority: &str) -> Result<Self, NotATarget> {
        let (host, port) = authority.rsplit_once(':').ok_or(NotATarget::Port)?;
        // Without brackets nobody could tell an IPv6 address from its port.
        if host.contains(':') && !(host.starts_with('[') && host.ends_with(']')) {
            return Err(NotATarget::Host);
        }
        let digits = !port.is_empty() && port.bytes().all(|digit| digit.is_ascii_digit());
        let port = port.parse().ok().filter(|_| digits).ok_or(NotATarget::Port)?;
        Self::named(host, port)
    }

    fn new(host: Host, port: u16) -> Result<Self, NotATarget> {
        if port == 0 { Err(NotATarget::Port) } else { Ok(Self { host, port }) }
    }
}

impl Host {
    /// Reads a name or an address, with or without brackets around IPv6.
    ///
    /// # Errors
    /// [`NotATarget`] says what is wrong with it.
    pub fn read(text: &str) -> Result<Self, NotATarget> {
        if text.is_empty() {
            return Err(NotATarget::NoHost);
        }
        if text.len() > LONGEST_NAME {
            return Err(NotATarget::LongHost);
        }
        if let Some(bracketed) = text.strip_prefix('[') {
            let address = bracketed.strip_suffix(']').and_then(|address| address.parse::<std::net::Ipv6Addr>().ok());
            return address.map(|address| Self::Address(address.to_canonical())).ok_or(NotATarget::Host);
        }
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self::Address(address.to_canonical()));
        }
        let name = text.strip_suffix('.').unwrap_or(text);
        if name.is_empty() || name.chars().any(|character| character.is_control() || "/@?#[]:".contains(character)) {
            return Err(NotATarget::Host);
        }
        Ok(Self::Name(name.to_owned()))
    }

    /// Whether it is the same host. Letters A to Z count as a to z (RFC 4343).
    pub fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Address(one), Self::Address(other)) => one == other,
            (Self::Name(one), Self::Name(other)) => one.eq_ignore_ascii_case(other),
            _ => false,
        }
    }
}

/// As `host:port`; characters that could break or hide in a line are escaped.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Address(IpAddr::V6(address)) => write!(f, "[{address}]:{}", self.port),
            Host::Address(address) => write!(f, "{address}:{}", self.port),
            Host::Name(name) => write!(f, "{}:{}", name.escape_debug(), self.port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        Target::read(text).map_or_else(|error| format!("{error:?}"), |target| target.to_string())
    }

    #[test]
    fn an_authority_is_read_in_all_its_forms() {
        for (text, expected) in [
            ("oftp.acme.example:6619", "oftp.acme.example:6619"),
            ("OFTP.ACME.example.:6619", "OFTP.ACME.example:6619"),
            ("192.0.2.7:6619", "192.0.2.7:6619"),
            ("[2001:db8::1]:6619", "[2001:db8::1]:6619"),
            ("[::ffff:192.0.2.7]:6619", "192.0.2.7:6619"),
            ("ACME:65535", "ACME:65535"),
            ("", "Port"),
            ("acme", "Port"),
            ("acme:", "Port"),
            ("acme:0", "Port"),
            ("acme:65536", "Port"),
            ("acme:+1", "Port"),
            ("acme:66 19", "Port"),
            (":6619", "NoHost"),
            (".:6619", "Host"),
            ("2001:db8::1:6619", "Host"),
            ("[2001:db8::1:6619", "Host"),
            ("[192.0.2.7]:6619", "Host"),
            ("[]:6619", "Host"),
            ("user@acme:6619", "Host"),
            ("http://acme:6619", "Host"),
            ("ac\tme:6619", "Host"),
        ] {
            assert_eq!(shown(text), expected, "{text}");
        }
        assert_eq!(shown(&format!("{}:1", "a".repeat(255))).len(), 257);
        assert_eq!(shown(&format!("{}:1", "a".repeat(256))), "LongHost");
    }

    #[test]
    fn hosts_are_compared_as_names_or_as_addresses() {
        let same = |one: &str, other: &str| Host::read(one).unwrap().is(&Host::read(other).unwrap());
        assert!(same("oftp.acme.example", "OFTP.Acme.Example."));
        assert!(same("::ffff:192.0.2.7", "192.0.2.7"));
        assert!(same("[2001:db8:0::1]", "2001:db8::1"));
        assert!(!same("192.0.2.7", "192.0.2.70"));
        assert!(!same("acme", "acme.example"));
    }
}
