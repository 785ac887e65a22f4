//! The small values that configuration and messages are made of.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::de::{Deserialize, Deserializer, Error as _};
use serde::ser::{Serialize, Serializer};
use zeroize::Zeroizing;

/// What was expected in the place of a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ValueError(pub(crate) String);

/// SHA-256 over the DER form of a certificate or CRL; 64 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// The fingerprint of these octets.
    pub fn of(der: &[u8]) -> Self {
        Self::from_digest(&aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, der))
    }

    /// From a digest that was made with SHA-256.
    pub(crate) fn from_digest(digest: &aws_lc_rs::digest::Digest) -> Self {
        let mut octets = [0; 32];
        octets.copy_from_slice(digest.as_ref());
        Self(octets)
    }

    /// The hash itself.
    pub fn as_octets(&self) -> &[u8; 32] {
        &self.0
    }
}

impl From<[u8; 32]> for Fingerprint {
    fn from(octets: [u8; 32]) -> Self {
        Self(octets)
    }
}

impl FromStr for Fingerprint {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || ValueError(format!("{} is no fingerprint: 64 digits of 0-9 and a-f expected", shown(text)));
        let nibble = |digit: &u8| match digit {
            b'0'..=b'9' => Some(digit - b'0'),
            b'a'..=b'f' => Some(digit - b'a' + 10),
            _ => None,
        };
        if text.len() != 64 {
            return Err(wrong());
        }
        let mut octets = [0; 32];
        for (octet, pair) in octets.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let [high, low] = pair else { return Err(wrong()) };
            *octet = nibble(high).ok_or_else(wrong)? << 4 | nibble(low).ok_or_else(wrong)?;
        }
        Ok(Self(octets))
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|octet| write!(f, "{octet:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

/// The form under which an address is compared: IPv4-mapped addresses and `::1` in their IPv4 form (`::1` is 127.0.0.1).
pub fn plain(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(Ipv6Addr::LOCALHOST) => IpAddr::V4(Ipv4Addr::LOCALHOST),
        other => other,
    }
}

/// A range of addresses: `192.0.2.0/24`, `2001:db8::/32`, or a single address.
///
/// IPv4 addresses in IPv6 form (`::ffff:192.0.2.1`, and `::1`) count as IPv4, in the range and in the address held
/// against it; see [`plain`].
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Cidr {
    first: IpAddr,
    prefix: u8,
}

impl Cidr {
    /// Whether the address lies in the range.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.first, plain(address)) {
            (IpAddr::V4(first), IpAddr::V4(address)) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.prefix)).unwrap_or(0);
                u32::from(address) & mask == u32::from(first)
            }
            (IpAddr::V6(first), IpAddr::V6(address)) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.prefix)).unwrap_or(0);
                u128::from(address) & mask == u128::from(first)
            }
            _ => false,
        }
    }

    /// First address of the range.
    pub fn first(&self) -> IpAddr {
        self.first
    }

    /// Number of leading bits that the addresses of the range have in common: at most 32 or 128.
    pub fn prefix(&self) -> u8 {
        self.prefix
    }
}

impl FromStr for Cidr {
    type Err = ValueError;

    /// Tolerated: bits behind the prefix (`192.0.2.7/24`); they do not count.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || ValueError(format!("{} is no address range: 192.0.2.0/24 or 192.0.2.7 expected", shown(text)));
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let written: IpAddr = address.parse().map_err(|_| wrong())?;
        let longest = if written.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            None => longest,
            Some(digits) if !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit()) => {
                digits.parse::<u8>().ok().filter(|prefix| *prefix <= longest).ok_or_else(wrong)?
            }
            Some(_) => return Err(wrong()),
        };
        Ok(match (written, plain(written)) {
            // What is wholly inside ::ffff:0:0/96 is an IPv4 range; of those around ::1 only itself.
            (IpAddr::V6(six), IpAddr::V4(address))
                if prefix == 128 || (prefix >= 96 && six.to_ipv4_mapped().is_some()) =>
            {
                Self::cut(address.into(), prefix - 96)
            }
            _ => Self::cut(written, prefix),
        })
    }
}

impl Cidr {
    fn cut(address: IpAddr, prefix: u8) -> Self {
        let first = match address {
            IpAddr::V4(address) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
                IpAddr::V4((u32::from(address) & mask).into())
            }
            IpAddr::V6(address) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
                IpAddr::V6((u128::from(address) & mask).into())
            }
        };
        Self { first, prefix }
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first, self.prefix)
    }
}

impl fmt::Debug for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cidr({self})")
    }
}

/// A host, by name or address, and a port: `station.example:6619`, `[2001:db8::1]:6619`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct HostPort {
    /// DNS name or IP address, without brackets.
    pub host: String,
    /// TCP port, 1 to 65535.
    pub port: u16,
}

impl FromStr for HostPort {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || ValueError(format!("{} is not host:port", shown(text)));
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            Some(address) => address.parse::<Ipv6Addr>().map(|_| address).map_err(|_| wrong())?,
            // Without brackets nobody could tell an IPv6 address from its port.
            None if host.contains(':') => return Err(wrong()),
            None => check_host(host).map(|()| host).map_err(|_| wrong())?,
        };
        let digits = !port.is_empty() && port.bytes().all(|digit| digit.is_ascii_digit());
        let port = port.parse().ok().filter(|port| digits && *port != 0).ok_or_else(wrong)?;
        Ok(Self { host: host.to_owned(), port })
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// A DNS name or an IP address; what a resolver would only stumble over is refused.
pub(crate) fn check_host(host: &str) -> Result<(), ValueError> {
    let name = |host: &str| {
        host.bytes().any(|octet| octet.is_ascii_alphanumeric())
            && host.len() <= 253
            && host.bytes().all(|octet| octet.is_ascii_alphanumeric() || b".-_".contains(&octet))
    };
    if host.parse::<IpAddr>().is_ok() || name(host) {
        return Ok(());
    }
    Err(ValueError(format!("{} is neither a host name nor an address", shown(host))))
}

/// A private key in PEM. Zeroized on drop; prints as `***`. It is serialized only for the answer of the backend.
#[derive(Clone, PartialEq, Eq)]
pub struct PrivateKeyPem(Zeroizing<String>);

impl PrivateKeyPem {
    /// Takes the text of the key.
    pub fn new(pem: String) -> Self {
        Self(Zeroizing::new(pem))
    }

    /// The text of the key. Nothing may show it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for PrivateKeyPem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKeyPem(***)")
    }
}

impl Serialize for PrivateKeyPem {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for PrivateKeyPem {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::new)
    }
}

macro_rules! as_text {
    ($($value:ty),+) => { $(
        impl Serialize for $value {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $value {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
            }
        }
    )+ };
}

as_text!(Fingerprint, Cidr, HostPort);

/// A foreign text as it may stand in a message: quoted, escaped, at most 100 characters.
pub(crate) fn shown(text: &str) -> String {
    let mut cut: String = text.chars().take(100).flat_map(char::escape_debug).collect();
    if text.chars().nth(100).is_some() {
        cut.push('…');
    }
    format!("\"{cut}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_holds_what_it_says() {
        for (range, inside, outside) in [
            ("192.0.2.0/24", "192.0.2.255", "192.0.3.0"),
            ("198.51.100.7", "198.51.100.7", "198.51.100.8"),
            ("2001:db8::/32", "2001:db8:ffff::1", "2001:db9::"),
            ("192.0.2.7/24", "192.0.2.1", "192.0.3.7"),
            ("0.0.0.0/0", "203.0.113.1", "::2"),
            ("::/0", "2001:db8::1", "203.0.113.1"),
            ("127.0.0.0/8", "::ffff:127.0.0.1", "::2"),
            // `::1` is 127.0.0.1 in a range and in what is held against it.
            ("127.0.0.0/8", "::1", "::ffff:128.0.0.1"),
            ("::1", "127.0.0.1", "127.0.0.2"),
            ("::ffff:192.0.2.0/120", "192.0.2.9", "192.0.3.9"),
            ("::ffff:0:0/96", "192.0.2.9", "2001:db8::1"),
            ("::1/96", "::2", "192.0.2.9"),
            ("::1/127", "::", "127.0.0.1"),
        ] {
            let range: Cidr = range.parse().unwrap();
            assert!(range.contains(inside.parse().unwrap()), "{range} {inside}");
            assert!(!range.contains(outside.parse().unwrap()), "{range} {outside}");
        }
    }

    #[test]
    fn what_is_no_range_is_refused_in_words() {
        for text in
            ["", "192.0.2", "192.0.2.0/33", "2001:db8::/129", "192.0.2.0/", "192.0.2.0/+1", "host", "1.2.3.4/24/2"]
        {
            let error = text.parse::<Cidr>().unwrap_err().to_string();
            assert!(error.contains("no address range"), "{text}: {error}");
        }
    }

    #[test]
    fn host_and_port() {
        for (text, host, port) in [
            ("station.example:6619", "station.example", 6619),
            ("192.0.2.1:1", "192.0.2.1", 1),
            ("[2001:db8::1]:65535", "2001:db8::1", 65535),
        ] {
            let parsed: HostPort = text.parse().unwrap();
            assert_eq!((parsed.host.as_str(), parsed.port), (host, port));
            assert_eq!(parsed.to_string(), text);
        }
        for text in [
            "",
            "host",
            "host:",
            ":1",
            "host:0",
            "host:65536",
            "host:+1",
            "2001:db8::1:6619",
            "[host]:1",
            "a b:1",
            "[::1:1",
        ] {
            assert!(text.parse::<HostPort>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_fingerprint_is_lower_case_hex() {
        // SHA-256 of "abc", FIPS 180-2, appendix B.1.
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(abc.parse(), Ok(Fingerprint::of(b"abc")));
        assert_eq!(Fingerprint::of(b"abc").to_string(), abc);
        for text in [&abc[1..], &abc.to_uppercase(), "", &format!("{abc}0")] {
            assert!(text.parse::<Fingerprint>().is_err(), "{text}");
        }
    }

    #[test]
    fn foreign_text_is_escaped_and_cut() {
        assert_eq!(shown("a\n\x1b\""), r#""a\n\u{1b}\"""#);
        assert_eq!(shown(&"x".repeat(101)).chars().count(), 103);
    }
}
