//! SOCKS5 (RFC 1928): method 0 (no authentication), the command CONNECT, all three kinds of address.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::request::Wrong;
use super::target::Target;

/// RFC 1928, 3: version 5, no authentication required.
pub const NO_AUTHENTICATION: &[u8] = &[VERSION, 0];
const NO_ACCEPTABLE_METHOD: &[u8] = &[VERSION, 0xff];

/// First octet of everything.
pub const VERSION: u8 = 5;

// RFC 1928, 6: what a reply says.
const SUCCEEDED: u8 = 0;
/// General SOCKS server failure.
pub const GENERAL_FAILURE: u8 = 1;
/// Connection not allowed by ruleset.
pub const NOT_ALLOWED: u8 = 2;
/// Network unreachable.
pub const NETWORK_UNREACHABLE: u8 = 3;
/// Host unreachable.
pub const HOST_UNREACHABLE: u8 = 4;
/// Connection refused.
pub const CONNECTION_REFUSED: u8 = 5;
/// TTL expired: what is nearest to a time-out.
pub const TTL_EXPIRED: u8 = 6;
const COMMAND_NOT_SUPPORTED: u8 = 7;
const ADDRESS_TYPE_NOT_SUPPORTED: u8 = 8;

const CONNECT: u8 = 1;
const IPV4: u8 = 1;
const DOMAIN_NAME: u8 = 3;
const IPV6: u8 = 4;

/// Reads the greeting (RFC 1928, 3): version, count, methods. Its length; `None` while its end has not come.
///
/// # Errors
/// No authentication is not among the methods.
pub fn greeting(octets: &[u8]) -> Result<Option<usize>, Wrong> {
    let Some((&[_, count], rest)) = octets.split_first_chunk::<2>() else { return Ok(None) };
    let Some(methods) = rest.get(..usize::from(count)) else { return Ok(None) };
    if !methods.contains(&0) {
        let text = "SOCKS5 without the method of no authentication, which is the only one here".to_owned();
        return Err(Wrong { text, answer: NO_ACCEPTABLE_METHOD.to_vec() });
    }
    Ok(Some(2 + methods.len()))
}

/// Reads the request (RFC 1928, 4); `None` while its end has not come. The number is that of its octets.
///
/// # Errors
/// It is none that could be served.
pub fn request(octets: &[u8]) -> Result<Option<(Target, usize)>, Wrong> {
    let wrong = |reply: u8, text: &str| Wrong { text: format!("SOCKS5: {text}"), answer: self::reply(reply) };
    let Some((&[version, command, reserved, kind], rest)) = octets.split_first_chunk::<4>() else { return Ok(None) };
    if version != VERSION || reserved != 0 {
        return Err(wrong(GENERAL_FAILURE, "the request does not begin with 05, a command, 00"));
    }
    if command != CONNECT {
        return Err(wrong(COMMAND_NOT_SUPPORTED, "the command is not CONNECT; nothing else is served here"));
    }
    let length = match (kind, rest.first()) {
        (IPV4, _) => 4,
        (IPV6, _) => 16,
        (DOMAIN_NAME, Some(&length)) => 1 + usize::from(length),
        (DOMAIN_NAME, None) => return Ok(None),
        _ => return Err(wrong(ADDRESS_TYPE_NOT_SUPPORTED, "the address is of no kind that RFC 1928 knows")),
    };
    let Some((address, behind)) = rest.split_at_checked(length) else { return Ok(None) };
    let Some((&port, behind)) = behind.split_first_chunk::<2>() else { return Ok(None) };
    let port = u16::from_be_bytes(port);
    let target = if let Ok(address) = <[u8; 4]>::try_from(address)
        && kind == IPV4
    {
        Target::at(Ipv4Addr::from(address).into(), port)
    } else if let Ok(address) = <[u8; 16]>::try_from(address)
        && kind == IPV6
    {
        Target::at(Ipv6Addr::from(address).into(), port)
    } else {
        let name = address.get(1..).and_then(|name| str::from_utf8(name).ok());
        Target::named(name.ok_or_else(|| wrong(GENERAL_FAILURE, "the name is no text"))?, port)
    };
    let target = target.map_err(|error| wrong(GENERAL_FAILURE, &error.to_string()))?;
    Ok(Some((target, octets.len() - behind.len())))
}

/// RFC 1928, 6. The bound address means nothing to a station and is given as 0.0.0.0:0.
pub fn reply(code: u8) -> Vec<u8> {
    vec![VERSION, code, 0, IPV4, 0, 0, 0, 0, 0, 0]
}

/// The reply after which OFTP2 begins.
pub fn granted() -> Vec<u8> {
    reply(SUCCEEDED)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(octets: &[u8]) -> String {
        match request(octets) {
            Ok(None) => "more".to_owned(),
            Ok(Some((target, length))) => format!("{target} +{}", octets.len() - length),
            Err(wrong) => format!("reply {}", wrong.answer[1]),
        }
    }

    #[test]
    fn greetings() {
        for (octets, expected) in [
            (b"\x05\x01\x00".as_slice(), Ok(Some(3))),
            (b"\x05\x02\x02\x00", Ok(Some(4))),
            (b"\x05\x01\x00\x05\x01", Ok(Some(3))),
            (b"\x05", Ok(None)),
            (b"\x05\x02\x00", Ok(None)),
            (b"\x05\x00", Err(vec![5, 0xff])),
            (b"\x05\x02\x01\x02", Err(vec![5, 0xff])),
        ] {
            assert_eq!(greeting(octets).map_err(|wrong| wrong.answer), expected, "{octets:02x?}");
        }
    }

    #[test]
    fn requests() {
        for (octets, expected) in [
            (b"\x05\x01\x00\x01\xc0\x00\x02\x07\x19\xdb".as_slice(), "192.0.2.7:6619 +0"),
            (b"\x05\x01\x00\x03\x04acme\x19\xdbSSRM", "acme:6619 +4"),
            (b"\x05\x01\x00\x03\x09192.0.2.7\x19\xdb", "192.0.2.7:6619 +0"),
            (
                b"\x05\x01\x00\x04\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x19\xdb",
                "[2001:db8::1]:6619 +0",
            ),
            (
                b"\x05\x01\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\xc0\x00\x02\x07\x19\xdb",
                "192.0.2.7:6619 +0",
            ),
            (b"\x05\x01\x00\x03\x04acme\x19", "more"),
            (b"\x05\x01\x00\x03", "more"),
            (b"\x04\x01\x00\x01\xc0\x00\x02\x07\x19\xdb", "reply 1"),
            (b"\x05\x01\x01\x01\xc0\x00\x02\x07\x19\xdb", "reply 1"),
            (b"\x05\x02\x00\x01\xc0\x00\x02\x07\x19\xdb", "reply 7"),
            (b"\x05\x03\x00\x01\xc0\x00\x02\x07\x19\xdb", "reply 7"),
            (b"\x05\x01\x00\x02\xc0\x00\x02\x07\x19\xdb", "reply 8"),
            (b"\x05\x01\x00\x03\x00\x19\xdb", "reply 1"),
            (b"\x05\x01\x00\x03\x02\xff\xfe\x19\xdb", "reply 1"),
            (b"\x05\x01\x00\x03\x02a\x00\x19\xdb", "reply 1"),
            (b"\x05\x01\x00\x01\xc0\x00\x02\x07\x00\x00", "reply 1"),
        ] {
            assert_eq!(asked(octets), expected, "{octets:02x?}");
        }
    }

    #[test]
    fn a_reply_has_the_octets_of_the_rfc() {
        assert_eq!(granted(), b"\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00");
        assert_eq!(reply(NOT_ALLOWED), b"\x05\x02\x00\x01\x00\x00\x00\x00\x00\x00");
    }
}
