//! The preamble: the only cleartext on the link, 42 octets that the proxyclient sends first on every connection.
//!
//! It never carries a secret: the pairing token only finds the session, the TLS handshake behind it proves the right.

use crate::pairing::Token;

/// Octets of a preamble.
pub const LENGTH: usize = 42;

/// Version of the link that this build speaks.
pub const VERSION: u8 = 1;

const MAGIC: [u8; 8] = *b"SEONLINK";
const KIND_CONTROL: u8 = 1;
const KIND_DATA: u8 = 2;

/// What the connection behind a preamble is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preamble {
    /// The one control connection of a proxyclient.
    Control,
    /// The data connection of the session that this token finds.
    Data(Token),
}

/// Why a preamble was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PreambleError {
    /// The first octets are not those of the link.
    #[error("the connection does not begin with the link's magic octets; something else talks to this port")]
    NotTheLink,
    /// Another version of the link.
    #[error(
        "the other side speaks version {0} of the link, this side speaks version {VERSION}; install matching versions"
    )]
    OtherVersion(u8),
    /// Neither control nor data.
    #[error("connection kind {0} is unknown, 1 (control) or 2 (data) expected")]
    UnknownKind(u8),
    /// A control connection carries no token.
    #[error("a control connection came with a pairing token, 32 zero octets expected")]
    TokenOnControl,
}

impl Preamble {
    /// The octets to send.
    pub fn write(&self) -> [u8; LENGTH] {
        let (kind, token) = match self {
            Self::Control => (KIND_CONTROL, [0; Token::LENGTH]),
            Self::Data(token) => (KIND_DATA, *token.octets()),
        };
        let mut octets = [0; LENGTH];
        octets[..8].copy_from_slice(&MAGIC);
        octets[8] = VERSION;
        octets[9] = kind;
        octets[10..].copy_from_slice(&token);
        octets
    }

    /// Reads the octets received.
    ///
    /// # Errors
    /// [`PreambleError`] names what differs.
    pub fn read(octets: &[u8; LENGTH]) -> Result<Self, PreambleError> {
        let mut token = [0; Token::LENGTH];
        token.copy_from_slice(&octets[10..]);
        if octets[..8] != MAGIC {
            return Err(PreambleError::NotTheLink);
        }
        if octets[8] != VERSION {
            return Err(PreambleError::OtherVersion(octets[8]));
        }
        match octets[9] {
            KIND_CONTROL if token == [0; Token::LENGTH] => Ok(Self::Control),
            KIND_CONTROL => Err(PreambleError::TokenOnControl),
            KIND_DATA => Ok(Self::Data(Token::from_octets(token))),
            other => Err(PreambleError::UnknownKind(other)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_data_preamble_has_the_documented_octets() {
        let octets = Preamble::Data(Token::from_octets([7; 32])).write();
        assert_eq!(&octets[..10], b"SEONLINK\x01\x02");
        assert_eq!(octets[10..], [7; 32]);
        assert_eq!(Preamble::read(&octets), Ok(Preamble::Data(Token::from_octets([7; 32]))));
    }

    #[test]
    fn every_other_octet_is_refused() {
        let mut octets = Preamble::Control.write();
        assert_eq!(Preamble::read(&octets), Ok(Preamble::Control));
        octets[8] = 2;
        assert_eq!(Preamble::read(&octets), Err(PreambleError::OtherVersion(2)));
        octets[8] = 1;
        octets[9] = 3;
        assert_eq!(Preamble::read(&octets), Err(PreambleError::UnknownKind(3)));
        octets[9] = 1;
        octets[41] = 1;
        assert_eq!(Preamble::read(&octets), Err(PreambleError::TokenOnControl));
        assert_eq!(Preamble::read(b"GET / HTTP/1.1\r\nHost: example.test\r\n\r\n    "), Err(PreambleError::NotTheLink));
    }
}
