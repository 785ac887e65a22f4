//! Which addresses a CRL may be fetched from. Distribution points are written by CAs and told by way of the DMZ: they must
//! not make the backend ask around in the own network.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What kind of address it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Of the internet.
    Public,
    /// Of this host, or of a network that is somebody's own.
    Private,
    /// No host's that serves CRLs: group, link, documentation, nothing.
    Never,
}

/// Whether a connection to this address is permitted; `private` permits those of the own network.
pub fn permitted(address: IpAddr, private: bool) -> bool {
    match kind(address) {
        Kind::Public => true,
        Kind::Private => private,
        Kind::Never => false,
    }
}

fn kind(address: IpAddr) -> Kind {
    match address {
        IpAddr::V4(address) => kind_v4(address),
        IpAddr::V6(address) => kind_v6(address),
    }
}

/// By the IANA IPv4 Special-Purpose Address Registry.
fn kind_v4(address: Ipv4Addr) -> Kind {
    match address.octets() {
        [127 | 10, ..] | [172, 16..=31, ..] | [192, 168, ..] | [100, 64..=127, ..] => Kind::Private,
        [0 | 224.., ..] | [169, 254, ..] | [192, 0, 0 | 2, _] | [192, 88, 99, _] => Kind::Never,
        [198, 18 | 19, ..] | [198, 51, 100, _] | [203, 0, 113, _] => Kind::Never,
        _ => Kind::Public,
    }
}

/// By the IANA IPv6 Special-Purpose Address Registry: only what is global unicast (2000::/3) is of the internet. An
/// address that holds an IPv4 address is as that one.
fn kind_v6(address: Ipv6Addr) -> Kind {
    let embedded = |high: u16, low: u16| {
        let [[a, b], [c, d]] = [high.to_be_bytes(), low.to_be_bytes()];
        kind_v4(Ipv4Addr::new(a, b, c, d))
    };
    match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 1] => Kind::Private,
        // IPv4-mapped, and the well-known prefix of NAT64 (RFC 6052, 2.1).
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => embedded(high, low),
        // 6to4 (RFC 3056, 2).
        [0x2002, high, low, ..] => embedded(high, low),
        [0xfc00..=0xfdff, ..] => Kind::Private,
        // Protocol assignments, among them Teredo; documentation.
        [0x2001, 0..=0x01ff | 0x0db8, ..] | [0x3fff, 0..=0x0fff, ..] => Kind::Never,
        [0x2000..=0x3fff, ..] => Kind::Public,
        _ => Kind::Never,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_of_the_internet_are_permitted_and_private_ones_by_an_option() {
        let rows = [
            (Kind::Public, "1.1.1.1 9.255.255.255 11.0.0.0 172.15.0.1 172.32.0.1 192.167.0.1 100.63.0.1 100.128.0.1"),
            (Kind::Public, "193.0.0.1 198.17.0.1 198.20.0.1 223.255.255.255 2606:4700::1111 2a00::1 ::ffff:8.8.8.8"),
            (Kind::Public, "64:ff9b::808:808 2002:808:808::1"),
            (Kind::Private, "127.0.0.1 127.255.255.254 10.0.0.1 172.16.0.1 172.31.255.255 192.168.1.1 100.64.0.1"),
            (Kind::Private, "::1 fc00::1 fdff::1 ::ffff:127.0.0.1 ::ffff:10.1.2.3 64:ff9b::7f00:1 2002:a00:1::1"),
            (Kind::Never, "0.0.0.0 0.1.2.3 169.254.169.254 224.0.0.1 240.0.0.1 255.255.255.255 192.0.2.1 192.0.0.8"),
            (Kind::Never, "198.18.0.1 198.51.100.1 203.0.113.1 :: fe80::1 ff02::1 2001:db8::1 2001::1 100::1 ::2"),
            (Kind::Never, "::ffff:169.254.169.254 ::ffff:0.0.0.0 3fff::1 fec0::1"),
        ];
        for (expected, addresses) in rows {
            for address in addresses.split(' ') {
                let address: IpAddr = address.parse().unwrap();
                assert_eq!(kind(address), expected, "{address}");
                assert_eq!(permitted(address, false), expected == Kind::Public, "{address}");
                assert_eq!(permitted(address, true), expected != Kind::Never, "{address}");
            }
        }
    }
}
