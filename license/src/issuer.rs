//! The issuer of licences: its public key is built into every proxyserver, its private key signs licences.
//!
//! Both are kept in text files: one line with the key, and comment lines that begin with `#`.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use zeroize::Zeroizing;

use crate::hex;
use crate::link_key::public_of_seed;

const PUBLIC_MARK: &str = "ed25519:";
const PRIVATE_MARK: &str = "ed25519-private:";
/// The community issuer's key, or that of `SEON_LICENCE_ISSUER` at build time.
const BUILT_IN: [u8; 32] = include!(concat!(env!("OUT_DIR"), "/issuer.rs"));
/// Signed before every licence, so that the key can never be brought to sign something else that looks like one.
const CONTEXT: &[u8] = b"seon proxy licence, version 1\n";

/// The public key of a licence issuer. Printed as `ed25519:` and 64 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct IssuerKey([u8; 32]);

/// The private key of a licence issuer. Zeroized on drop, never printed.
pub struct IssuerSecret {
    seed: Zeroizing<[u8; 32]>,
    pair: Ed25519KeyPair,
}

/// Why there is no issuer key. The text itself is never repeated, since it may be a private key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IssuerError {
    /// Not the text of a public key.
    #[error("no public issuer key: one line `ed25519:` and 64 digits of 0-9 and a-f expected")]
    Public,
    /// Not the text of a private key.
    #[error("no private issuer key: one line `ed25519-private:` and 64 digits of 0-9 and a-f expected")]
    Private,
    /// The system gave no random numbers.
    #[error("the system gives no random numbers; no issuer key was made")]
    NoRandom,
}

impl IssuerKey {
    /// The issuer whose licences this build accepts: the community issuer, unless the environment variable
    /// `SEON_LICENCE_ISSUER` named another key, or the file of one, when this was built.
    pub fn built_in() -> Self {
        Self(BUILT_IN)
    }

    /// Whether the issuer signed this text.
    pub(crate) fn has_signed(&self, text: &str, signature: &[u8; 64]) -> bool {
        UnparsedPublicKey::new(&ED25519, &self.0).verify(&in_context(text), signature).is_ok()
    }
}

impl IssuerSecret {
    /// A new issuer from the system's random numbers.
    pub fn new_random() -> Result<Self, IssuerError> {
        let mut seed = Zeroizing::new([0; 32]);
        aws_lc_rs::rand::fill(seed.as_mut()).map_err(|_| IssuerError::NoRandom)?;
        Self::of_seed(seed)
    }

    /// The public key.
    pub fn public(&self) -> IssuerKey {
        IssuerKey(public_of_seed(self.seed.as_ref()))
    }

    /// The private key as one line, for the issuer's file. Nothing else may show it.
    pub fn reveal(&self) -> Zeroizing<String> {
        Zeroizing::new(format!("{PRIVATE_MARK}{}", *Zeroizing::new(hex::encode(self.seed.as_ref()))))
    }

    pub(crate) fn sign(&self, text: &str) -> [u8; 64] {
        let mut signature = [0; 64];
        // ED25519 signatures always have 64 octets (RFC 8032, 5.1.6).
        signature.copy_from_slice(self.pair.sign(&in_context(text)).as_ref());
        signature
    }

    fn of_seed(seed: Zeroizing<[u8; 32]>) -> Result<Self, IssuerError> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed.as_ref()).map_err(|_| IssuerError::Private)?;
        debug_assert_eq!(pair.public_key().as_ref(), public_of_seed(seed.as_ref()));
        Ok(Self { seed, pair })
    }
}

impl FromStr for IssuerKey {
    type Err = IssuerError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        key_line(text).strip_prefix(PUBLIC_MARK).and_then(hex::decode).map(Self).ok_or(IssuerError::Public)
    }
}

impl FromStr for IssuerSecret {
    type Err = IssuerError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let seed = key_line(text).strip_prefix(PRIVATE_MARK).and_then(hex::decode).ok_or(IssuerError::Private)?;
        Self::of_seed(Zeroizing::new(seed))
    }
}

impl fmt::Display for IssuerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PUBLIC_MARK}{}", hex::encode(&self.0))
    }
}

impl fmt::Debug for IssuerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IssuerKey({self})")
    }
}

impl fmt::Debug for IssuerSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IssuerSecret(***)")
    }
}

/// The line of a key file that holds the key: the first that is neither empty nor a comment.
fn key_line(text: &str) -> &str {
    text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#')).unwrap_or_default()
}

fn in_context(text: &str) -> Vec<u8> {
    [CONTEXT, text.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_community_issuer_ships_as_a_pair_that_belongs_together() {
        let secret: IssuerSecret = include_str!("../../etc/seon_community_issuer.key").parse().unwrap();
        let public: IssuerKey = include_str!("../../etc/seon_community_issuer.pub").parse().unwrap();
        assert_eq!(secret.public(), public);
    }

    #[test]
    fn a_written_key_is_read_back() {
        let secret = IssuerSecret::new_random().unwrap();
        let file = format!("# test\n\n {}\n", *secret.reveal());
        assert_eq!(file.parse::<IssuerSecret>().unwrap().public(), secret.public());
        assert_eq!(secret.public().to_string().parse(), Ok(secret.public()));
    }

    #[test]
    fn a_signature_is_of_one_text_and_one_issuer() {
        let (one, two) = (IssuerSecret::new_random().unwrap(), IssuerSecret::new_random().unwrap());
        let signature = one.sign("text");
        assert!(one.public().has_signed("text", &signature));
        assert!(!one.public().has_signed("texT", &signature));
        assert!(!two.public().has_signed("text", &signature));
    }

    #[test]
    fn public_and_private_are_not_confused() {
        let secret = IssuerSecret::new_random().unwrap();
        assert_eq!(secret.reveal().parse::<IssuerKey>(), Err(IssuerError::Public));
        assert_eq!(secret.public().to_string().parse::<IssuerSecret>().unwrap_err(), IssuerError::Private);
        assert_eq!(format!("{secret:?}"), "IssuerSecret(***)");
    }
}
