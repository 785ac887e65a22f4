//! Which kind of public key a certificate holds, and whether it is good enough.

use std::fmt;

use crate::der::{self, Reader};

const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
const RSASSA_PSS: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0a];
const EC: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
const P192: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x01];
const P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
const P224: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x21];
const P384: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x22];
const P521: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x23];
const ED25519: &[u8] = &[0x2b, 0x65, 0x70];
const ML_DSA: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x03];

/// Kind and size of a public key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyKind {
    /// RSA with a modulus of so many bits.
    Rsa(u32),
    /// RSA that may only sign by RSASSA-PSS. No TLS library in use here verifies it.
    RsaPss,
    /// A curve of NIST, by its bits: 192, 224, 256, 384 or 521.
    Ec(u32),
    /// Ed25519.
    Ed25519,
    /// ML-DSA: 44, 65 or 87.
    MlDsa(u32),
    /// Something else: its object identifier (for other curves, the curve's).
    Other(String),
}

/// What keeps a key from being used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeyFault {
    Weak,
    Unsupported,
}

impl KeyKind {
    /// Of a SubjectPublicKeyInfo with tag and length.
    pub(crate) fn of(spki: &[u8]) -> Self {
        Self::read(spki).unwrap_or_else(|_| Self::Other("unreadable".to_owned()))
    }

    fn read(spki: &[u8]) -> Result<Self, der::Malformed> {
        let mut fields = Reader::new(der::only(spki, der::SEQUENCE, "the public key")?);
        let mut algorithm = Reader::new(fields.expect(der::SEQUENCE, "the key's algorithm")?);
        let identifier = algorithm.expect(der::OBJECT_IDENTIFIER, "the key's algorithm")?;
        let key = fields.bits("the key")?;
        Ok(match identifier {
            RSA => {
                let mut numbers = Reader::new(der::only(key, der::SEQUENCE, "the RSA key")?);
                let modulus = numbers.expect(der::INTEGER, "the modulus")?;
                if modulus.first().is_none_or(|octet| octet & 0x80 != 0) {
                    return Err(der::Malformed("the modulus, which is not positive"));
                }
                let modulus = der::magnitude(modulus);
                let unused = modulus.first().map_or(0, |octet| octet.leading_zeros());
                Self::Rsa(u32::try_from(modulus.len()).unwrap_or(u32::MAX / 8).saturating_mul(8).saturating_sub(unused))
            }
            RSASSA_PSS => Self::RsaPss,
            EC => match algorithm.expect(der::OBJECT_IDENTIFIER, "the curve")? {
                P192 => Self::Ec(192),
                P224 => Self::Ec(224),
                P256 => Self::Ec(256),
                P384 => Self::Ec(384),
                P521 => Self::Ec(521),
                other => Self::Other(der::dotted(other)),
            },
            ED25519 => Self::Ed25519,
            _ => match identifier.strip_prefix(ML_DSA) {
                Some([17]) => Self::MlDsa(44),
                Some([18]) => Self::MlDsa(65),
                Some([19]) => Self::MlDsa(87),
                _ => Self::Other(der::dotted(identifier)),
            },
        })
    }

    /// Strong enough, and of a kind that signatures can be verified with here.
    pub(crate) fn check(&self) -> Result<(), KeyFault> {
        match self {
            // What aws-lc verifies ends at 8192 bits.
            Self::Rsa(2048..=8192) | Self::Ec(256..) | Self::Ed25519 | Self::MlDsa(_) => Ok(()),
            Self::Rsa(..2048) | Self::Ec(..256) => Err(KeyFault::Weak),
            Self::Rsa(8193..) | Self::RsaPss | Self::Other(_) => Err(KeyFault::Unsupported),
        }
    }
}

impl fmt::Display for KeyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rsa(bits) => write!(f, "RSA-{bits}"),
            Self::RsaPss => f.write_str("RSASSA-PSS"),
            Self::Ec(bits) => write!(f, "P-{bits}"),
            Self::Ed25519 => f.write_str("Ed25519"),
            Self::MlDsa(set) => write!(f, "ML-DSA-{set}"),
            Self::Other(identifier) => write!(f, "type {identifier}"),
        }
    }
}
