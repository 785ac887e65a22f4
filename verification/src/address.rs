//! Networks in `allow_from`. IPv4-mapped addresses and `::1` count as their IPv4 form (`::1` is 127.0.0.1).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A network: an address and the number of its leading bits that count. `192.0.2.0/24`, or one address alone.
///
/// Bits beyond the length must be zero, so that a mistyped length is noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cidr {
    base: IpAddr,
    length: u8,
}

/// The form under which an address is compared.
pub fn plain(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(Ipv6Addr::LOCALHOST) => IpAddr::V4(Ipv4Addr::LOCALHOST),
        other => other.to_canonical(),
    }
}

impl Cidr {
    /// Whether the address lies inside.
    pub fn contains(&self, address: IpAddr) -> bool {
        let (first, last) = self.range();
        let address = Position::of(address);
        first <= address && address <= last
    }

    /// First and last address.
    pub(crate) fn range(&self) -> (Position, Position) {
        let (first, width) = match self.base {
            IpAddr::V4(base) => (Position { family: 4, number: u128::from(u32::from(base)) }, 32_u32),
            IpAddr::V6(base) => (Position { family: 6, number: u128::from(base) }, 128),
        };
        let beyond = (1_u128.checked_shl(width.saturating_sub(u32::from(self.length))).unwrap_or(0)).wrapping_sub(1);
        (first, Position { family: first.family, number: first.number | beyond })
    }
}

impl Cidr {
    /// The network with this first and last address.
    pub(crate) fn of_range(first: Position, last: Position) -> Option<Self> {
        let host_bits = u128::BITS - (first.number ^ last.number).leading_zeros();
        let (base, width) = match first.family {
            4 => (IpAddr::V4(Ipv4Addr::from(u32::try_from(first.number).ok()?)), 32),
            _ => (IpAddr::V6(Ipv6Addr::from(first.number)), 128),
        };
        let network = Self { base, length: u8::try_from(u32::checked_sub(width, host_bits)?).ok()? };
        (network.range() == (first, last)).then_some(network)
    }
}

/// An address as a place in one order: all of IPv4, then all of IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Position {
    pub(crate) family: u8,
    pub(crate) number: u128,
}

impl Position {
    pub(crate) fn of(address: IpAddr) -> Self {
        match plain(address) {
            IpAddr::V4(address) => Self { family: 4, number: u128::from(u32::from(address)) },
            IpAddr::V6(address) => Self { family: 6, number: u128::from(address) },
        }
    }
}

/// Why text is no network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotANetwork {
    /// The part before the slash.
    #[error("not an IP address or network such as 192.0.2.0/24 or 2001:db8::/32")]
    Address,
    /// The part after the slash.
    #[error("the length after the slash must be a number from 0 to {0}")]
    Length(u8),
    /// Bits set that the length excludes.
    #[error("bits are set beyond the length; {0} is meant?")]
    Beyond(Cidr),
}

impl FromStr for Cidr {
    type Err = NotANetwork;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| NotANetwork::Address)?;
        let width = if address.is_ipv4() { 32 } else { 128 };
        let length = match length {
            None => width,
            Some(digits) if !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit()) => {
                digits.parse().ok().filter(|length| *length <= width).ok_or(NotANetwork::Length(width))?
            }
            Some(_) => return Err(NotANetwork::Length(width)),
        };
        let network = match (address, plain(address)) {
            // What is wholly inside ::ffff:0:0/96, and ::1 itself, is an IPv4 network.
            (IpAddr::V6(six), base @ IpAddr::V4(_))
                if length == 128 || (length >= 96 && six.to_ipv4_mapped().is_some()) =>
            {
                Self { base, length: length - 96 }
            }
            _ => Self { base: address, length },
        };
        let meant = network.masked();
        if meant == network { Ok(network) } else { Err(NotANetwork::Beyond(meant)) }
    }
}

impl Cidr {
    fn masked(&self) -> Self {
        let zeros = |width: u8| u32::from(width.saturating_sub(self.length));
        let base = match self.base {
            IpAddr::V4(base) => {
                let number = u32::from(base);
                IpAddr::V4(Ipv4Addr::from(
                    number.checked_shr(zeros(32)).unwrap_or(0).checked_shl(zeros(32)).unwrap_or(0),
                ))
            }
            IpAddr::V6(base) => {
                let number = u128::from(base);
                IpAddr::V6(Ipv6Addr::from(
                    number.checked_shr(zeros(128)).unwrap_or(0).checked_shl(zeros(128)).unwrap_or(0),
                ))
            }
        };
        Self { base, length: self.length }
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base, self.length)
    }
}

impl TryFrom<String> for Cidr {
    type Error = NotANetwork;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Cidr> for String {
    fn from(network: Cidr) -> Self {
        network.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_found_again_by_its_first_and_last_address() {
        for text in ["0.0.0.0/0", "192.0.2.0/24", "198.51.100.7/32", "::/0", "2001:db8::/33", "2001:db8::1/128"] {
            let network: Cidr = text.parse().unwrap();
            let (first, last) = network.range();
            assert_eq!(Cidr::of_range(first, last), Some(network), "{text}");
        }
        let at = |address: &str| Position::of(address.parse().unwrap());
        assert_eq!(Cidr::of_range(at("192.0.2.1"), at("192.0.2.2")), None);
    }

    #[test]
    fn an_address_is_inside_or_outside() {
        for (network, address, inside) in [
            ("192.0.2.0/24", "192.0.2.0", true),
            ("192.0.2.0/24", "192.0.2.255", true),
            ("192.0.2.0/24", "192.0.3.0", false),
            ("192.0.2.0/24", "::ffff:192.0.2.7", true),
            ("192.0.2.7", "192.0.2.7", true),
            ("192.0.2.7", "192.0.2.8", false),
            ("0.0.0.0/0", "255.255.255.255", true),
            ("0.0.0.0/0", "2001:db8::1", false),
            ("127.0.0.0/8", "::1", true),
            ("::1", "127.0.0.1", true),
            ("::1/128", "::1", true),
            ("::ffff:192.0.2.0/120", "192.0.2.9", true),
            ("::ffff:192.0.2.0/120", "192.0.3.9", false),
            ("2001:db8::/32", "2001:db8:ffff::1", true),
            ("2001:db8::/32", "2001:db9::", false),
            ("::/0", "2001:db8::1", true),
            ("::/0", "192.0.2.1", false),
        ] {
            let network: Cidr = network.parse().unwrap();
            assert_eq!(network.contains(address.parse().unwrap()), inside, "{address} in {network}");
        }
    }

    #[test]
    fn text_that_is_no_network_says_why() {
        for (text, reason) in [
            ("", NotANetwork::Address),
            ("example.com", NotANetwork::Address),
            ("192.0.2/24", NotANetwork::Address),
            ("192.0.2.0/", NotANetwork::Length(32)),
            ("192.0.2.0/33", NotANetwork::Length(32)),
            ("192.0.2.0/+8", NotANetwork::Length(32)),
            ("2001:db8::/129", NotANetwork::Length(128)),
            ("192.0.2.1/24", NotANetwork::Beyond("192.0.2.0/24".parse().unwrap())),
            ("::1/96", NotANetwork::Beyond("::/96".parse().unwrap())),
            ("2001:db8::1/32", NotANetwork::Beyond("2001:db8::/32".parse().unwrap())),
        ] {
            assert_eq!(text.parse::<Cidr>(), Err(reason), "{text}");
        }
        assert_eq!("192.0.2.7".parse::<Cidr>().unwrap().to_string(), "192.0.2.7/32");
    }
}
