//! The Proxy ID: the name of a proxyserver, made from its identity key.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::digest::{SHA256, digest};

use crate::hex;

/// SHA-256 over the SubjectPublicKeyInfo (DER) of a proxyserver's identity key, written as 64 hex digits and `px`.
///
/// Licences are issued for it, and the proxyclient pins it on the link.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProxyId([u8; 32]);

/// Why a text is no Proxy ID.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a Proxy ID: 64 digits of 0-9 and a-f followed by `px` expected; `seon_proxyserver2 -L` prints the right one"
)]
pub struct ProxyIdError;

impl ProxyId {
    /// The Proxy ID of the key with this SubjectPublicKeyInfo (DER).
    pub fn of_spki(spki: &[u8]) -> Self {
        let mut octets = [0; 32];
        octets.copy_from_slice(digest(&SHA256, spki).as_ref());
        Self(octets)
    }

    /// Whether this is the Proxy ID of the key with this SubjectPublicKeyInfo (DER).
    pub fn matches_spki(&self, spki: &[u8]) -> bool {
        *self == Self::of_spki(spki)
    }

    /// The hash itself.
    pub fn as_octets(&self) -> &[u8; 32] {
        &self.0
    }
}

impl FromStr for ProxyId {
    type Err = ProxyIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text.strip_suffix("px").ok_or(ProxyIdError)?;
        hex::decode(digits).map(Self).ok_or(ProxyIdError)
    }
}

impl fmt::Display for ProxyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}px", hex::encode(&self.0))
    }
}

impl fmt::Debug for ProxyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ProxyId({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // SHA-256 of "abc", FIPS 180-2, appendix B.1.
    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015adpx";

    #[test]
    fn it_is_the_sha_256_of_the_public_key_information() {
        assert_eq!(ProxyId::of_spki(b"abc").to_string(), ABC);
        assert!(ABC.parse::<ProxyId>().is_ok_and(|id| id.matches_spki(b"abc") && !id.matches_spki(b"abd")));
    }

    #[test]
    fn nothing_else_is_a_proxy_id() {
        let upper = ABC.to_uppercase();
        for text in [&ABC[1..], &ABC[..64], upper.as_str(), "", "px", &format!("{ABC}x"), &format!(" {ABC}")] {
            assert_eq!(text.parse::<ProxyId>(), Err(ProxyIdError), "{text:?}");
        }
    }
}
