//! The link key of a proxyclient: made from its security token, so that there is nothing more to store or to rotate.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Salt};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use zeroize::Zeroizing;

use crate::hex;
use crate::token::SecurityToken;

/// Changes only together with the form of the link key; every `client:` line changes with it.
const LABEL: &[u8] = b"seon proxylink client key, version 1";
const SEED: usize = 32;
/// RFC 8410, section 7: version 0, algorithm 1.3.101.112, and an octet string in an octet string; the seed follows.
const PKCS8_BEFORE_SEED: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];
/// RFC 8410, section 4: algorithm 1.3.101.112 and a bit string without unused bits; the public key follows.
const SPKI_BEFORE_KEY: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
const MARK: &str = "ed25519:";

/// The Ed25519 key that a proxyclient shows on the link. Zeroized on drop, never printed.
pub struct LinkKey {
    pkcs8: Zeroizing<[u8; PKCS8_BEFORE_SEED.len() + SEED]>,
    public: ClientKey,
    spki: [u8; SPKI_BEFORE_KEY.len() + 32],
}

impl LinkKey {
    /// The key of this token: HKDF-SHA-256 (RFC 5869) without salt. The same token always gives the same key, and
    /// the key tells nothing about the token.
    pub fn derive(token: &SecurityToken) -> Self {
        let mut pkcs8 = Zeroizing::new([0; PKCS8_BEFORE_SEED.len() + SEED]);
        let (head, seed) = pkcs8.split_at_mut(PKCS8_BEFORE_SEED.len());
        head.copy_from_slice(&PKCS8_BEFORE_SEED);
        let expanded = Salt::new(HKDF_SHA256, &[])
            .extract(token.secret())
            .expand(&[LABEL], SeedLength)
            .and_then(|output| output.fill(seed));
        // Both fail for outputs longer than 255 hashes or of another length than SeedLength only.
        assert!(expanded.is_ok(), "HKDF-SHA-256 gives 32 octets");
        let public = ClientKey(public_of_seed(seed));
        Self { pkcs8, public, spki: public.spki() }
    }

    /// The private key as PKCS#8 version 1 (RFC 5208, RFC 8410).
    pub fn pkcs8(&self) -> &[u8] {
        self.pkcs8.as_ref()
    }

    /// The public key as SubjectPublicKeyInfo (DER).
    pub fn spki(&self) -> &[u8] {
        &self.spki
    }

    /// The public key as the licence names it.
    pub fn client_key(&self) -> ClientKey {
        self.public
    }
}

impl fmt::Debug for LinkKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LinkKey(private ***, {})", self.public)
    }
}

/// The line for the licence file that lets this proxyclient link; `name` is for the reader of the file only.
pub fn client_line(key: &LinkKey, name: Option<&str>) -> String {
    let name: String = name.unwrap_or_default().chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    format!("client: {} {}", key.client_key(), name.trim()).trim_end().to_owned()
}

/// The public link key of a proxyclient. Printed as `ed25519:` and 64 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ClientKey([u8; 32]);

/// Why a text is no public link key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a client key: `ed25519:` and 64 digits of 0-9 and a-f expected; the proxyclient prints its line")]
pub struct ClientKeyError;

impl ClientKey {
    /// Whether this is the key with this SubjectPublicKeyInfo (DER).
    pub fn matches_spki(&self, spki: &[u8]) -> bool {
        self.spki() == spki
    }

    /// The key as SubjectPublicKeyInfo (DER, RFC 8410).
    pub fn spki(&self) -> [u8; 44] {
        let mut spki = [0; SPKI_BEFORE_KEY.len() + 32];
        let (head, key) = spki.split_at_mut(SPKI_BEFORE_KEY.len());
        head.copy_from_slice(&SPKI_BEFORE_KEY);
        key.copy_from_slice(&self.0);
        spki
    }

    /// The key from its SubjectPublicKeyInfo (DER); `None` where that is no Ed25519 key.
    pub fn of_spki(spki: &[u8]) -> Option<Self> {
        spki.strip_prefix(&SPKI_BEFORE_KEY)?.try_into().ok().map(Self)
    }
}

impl FromStr for ClientKey {
    type Err = ClientKeyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.strip_prefix(MARK).and_then(hex::decode).map(Self).ok_or(ClientKeyError)
    }
}

impl fmt::Display for ClientKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{MARK}{}", hex::encode(&self.0))
    }
}

impl fmt::Debug for ClientKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClientKey({self})")
    }
}

/// The public key of an Ed25519 seed of 32 octets.
pub(crate) fn public_of_seed(seed: &[u8]) -> [u8; 32] {
    let mut public = [0; 32];
    match Ed25519KeyPair::from_seed_unchecked(seed) {
        Ok(pair) => public.copy_from_slice(pair.public_key().as_ref()),
        Err(error) => unreachable!("every 32 octets are an Ed25519 seed (RFC 8032, 5.1.5): {error}"),
    }
    public
}

struct SeedLength;

impl KeyType for SeedLength {
    fn len(&self) -> usize {
        SEED
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The token of octets 0 to 31, and what Python's hmac and cryptography make of it after RFC 5869 and RFC 8032.
    const TOKEN: &str = "seon_aaaqeayeaudaocajbifqydiob4ibceqtcqkrmfyydenbwha5dypvgmrv";
    const SEED_OF_TOKEN: &str = "c92a6764491375dd4ca34327a17b7d6a7ab399dc896fb904513166420ff40535";
    const KEY_OF_TOKEN: &str = "ed25519:cfd2659f2fa691b44831cc62a36da5995a3508a339b590ce89f73544f62f2da0";

    fn link_key() -> LinkKey {
        LinkKey::derive(&TOKEN.parse().unwrap())
    }

    #[test]
    fn a_known_token_gives_the_known_key() {
        let key = link_key();
        assert_eq!(hex::encode(&key.pkcs8()[16..]), SEED_OF_TOKEN);
        assert_eq!(key.client_key().to_string(), KEY_OF_TOKEN);
        assert!(key.client_key().matches_spki(key.spki()));
        assert_eq!(ClientKey::of_spki(key.spki()), Some(key.client_key()));
    }

    #[test]
    fn the_private_key_is_pkcs8_of_the_same_public_key() {
        let key = link_key();
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(key.pkcs8()).unwrap();
        assert_eq!(pair.public_key().as_ref(), &key.spki()[12..]);
    }

    #[test]
    fn another_token_gives_another_key() {
        let other = LinkKey::derive(&SecurityToken::new_random().unwrap());
        assert_ne!(other.client_key(), link_key().client_key());
        assert!(!other.client_key().matches_spki(link_key().spki()));
    }

    #[test]
    fn the_client_line_is_one_line() {
        assert_eq!(client_line(&link_key(), None), format!("client: {KEY_OF_TOKEN}"));
        assert_eq!(client_line(&link_key(), Some("inside\n1 ")), format!("client: {KEY_OF_TOKEN} inside 1"));
    }

    #[test]
    fn nothing_else_is_a_client_key() {
        for text in ["", "ed25519:", &KEY_OF_TOKEN[8..], &KEY_OF_TOKEN[..71], &KEY_OF_TOKEN.to_uppercase()] {
            assert_eq!(text.parse::<ClientKey>(), Err(ClientKeyError), "{text:?}");
        }
        assert_eq!(ClientKey::of_spki(&link_key().spki()[..43]), None);
    }

    #[test]
    fn the_private_key_is_never_printed() {
        assert_eq!(format!("{:?}", link_key()), format!("LinkKey(private ***, {KEY_OF_TOKEN})"));
    }
}
