//! Pairing: how a session of the DMZ and one of the inside find each other and prove that they are meant.
//!
//! Order (the side in parentheses acts): key hash and token go inside with the request (DMZ); the inside judges, and
//! answers with the hash of its session's key *before* that session connects (inside); only then the DMZ session reads
//! an octet of the data connection. The token finds the session, the handshake with exactly those two keys spends it.

use std::fmt;
use std::net::SocketAddr;

use aws_lc_rs::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};
use verification::possession::HandshakeSignature;

/// Octets that the certificates of a chain in a pairing request may have in all.
pub const LARGEST_CHAIN: usize = 64 * 1024;

/// Certificates of such a chain. No judgement looks at more.
pub const MOST_CERTIFICATES: usize = 16;

/// Octets of each name in [`TlsFacts`].
pub const LONGEST_NAME: usize = 64;

/// How often a token may find its session before it is void.
pub const TRIES: u8 = 3;

/// Name of one session on both sides, in logs and in the session record: a random UUID (version 4).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SessionId([u8; 16]);

impl SessionId {
    /// A new one from 16 random octets.
    pub fn from_random(mut octets: [u8; 16]) -> Self {
        octets[6] = octets[6] & 0x0f | 0x40;
        octets[8] = octets[8] & 0x3f | 0x80;
        Self(octets)
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, octet) in self.0.iter().enumerate() {
            if matches!(position, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{octet:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Pairing token: 32 random octets that find a waiting session on the DMZ host. Printed only by its first octets.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Token([u8; Self::LENGTH]);

impl Token {
    /// Octets of a token.
    pub const LENGTH: usize = 32;

    /// Takes over random octets, or those that came in a preamble.
    pub const fn from_octets(octets: [u8; Self::LENGTH]) -> Self {
        Self(octets)
    }

    /// The octets, for the preamble.
    pub const fn octets(&self) -> &[u8; Self::LENGTH] {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({:02x}{:02x}…)", self.0[0], self.0[1])
    }
}

/// SHA-256 over a SubjectPublicKeyInfo: names a key of the link.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct KeyHash([u8; 32]);

impl KeyHash {
    /// A hash that is known already, as that in a Proxy ID.
    pub const fn from_octets(octets: [u8; 32]) -> Self {
        Self(octets)
    }

    /// Hash of a DER encoded SubjectPublicKeyInfo.
    pub fn of_spki(spki: &[u8]) -> Self {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest(&SHA256, spki).as_ref());
        Self(hash)
    }
}

impl fmt::Display for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|octet| write!(f, "{octet:02x}"))
    }
}

impl fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Who opened the TCP connection between proxy and partner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Direction {
    /// The partner called us: it is the OFTP2 Initiator and TLS client.
    Incoming,
    /// An inside station calls the partner: the partner is Responder and TLS server.
    Outgoing,
}

/// What was agreed in the handshake with the partner: for log and record, and for how keys of the data connection are agreed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TlsFacts {
    /// `TLSv1.2` or `TLSv1.3`.
    pub version: String,
    /// Name of the cipher suite as in the IANA registry.
    pub cipher_suite: String,
    /// Name of the key exchange group: `X25519`, `secp256r1`, `X25519MLKEM768` and so on.
    pub key_exchange: String,
}

impl TlsFacts {
    /// Whether its names are no longer than those that TLS knows.
    pub fn is_within_bounds(&self) -> bool {
        [&self.version, &self.cipher_suite, &self.key_exchange].iter().all(|name| name.len() <= LONGEST_NAME)
    }
}

/// A certificate chain, end entity first, DER.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chain(pub Vec<serde_bytes::ByteBuf>);

impl Chain {
    /// Octets of all certificates.
    pub fn octets(&self) -> usize {
        self.0.iter().map(|certificate| certificate.len()).sum()
    }

    /// Whether it is no larger than a pairing request may carry.
    pub fn is_within_bounds(&self) -> bool {
        self.0.len() <= MOST_CERTIFICATES && self.octets() <= LARGEST_CHAIN
    }
}

/// What the DMZ asks when a partner's handshake is done: everything the inside needs to judge the partner again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PairingRequest {
    /// Direction of the session.
    pub direction: Direction,
    /// Address and port of the partner, as the DMZ host saw it.
    pub peer: SocketAddr,
    /// Address and port of ours that the partner used.
    pub local: SocketAddr,
    /// The certificates that the partner showed.
    pub chain: Chain,
    /// The partner's signature in the handshake, with what it signed.
    pub signature: HandshakeSignature,
    /// What TLS agreed.
    pub tls: TlsFacts,
    /// The DMZ session's key on the data connection.
    pub dmz_key: KeyHash,
    /// Finds the DMZ session when the data connection comes.
    pub token: Token,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_named_by_a_version_4_uuid() {
        assert_eq!(SessionId::from_random([0xff; 16]).to_string(), "ffffffff-ffff-4fff-bfff-ffffffffffff");
        assert_eq!(SessionId::from_random([0; 16]).to_string(), "00000000-0000-4000-8000-000000000000");
    }

    #[test]
    fn a_token_is_not_printed() {
        assert_eq!(format!("{:?}", Token::from_octets([0xab; 32])), "Token(abab…)");
    }
}
