//! Signature algorithms of certificates and CRLs (RFC 5280, 4.1.1.2), by name, and verification of a digest made before.

use aws_lc_rs::digest::{self, Digest};
use aws_lc_rs::signature::{self, UnparsedPublicKey, VerificationAlgorithm};
use rustls_pki_types::{AlgorithmIdentifier, alg_id};

use crate::der::{self, Reader};

/// RSA with an algorithm identifier that lacks the NULL (RFC 4055, 5: must be accepted).
const fn without_parameters(last: u8) -> [u8; 11] {
    [0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, last]
}
const SHA256_WITHOUT: &[u8] = &without_parameters(11);
const SHA384_WITHOUT: &[u8] = &without_parameters(12);
const SHA512_WITHOUT: &[u8] = &without_parameters(13);

struct Combination {
    signature: AlgorithmIdentifier,
    key: AlgorithmIdentifier,
    verification: &'static dyn VerificationAlgorithm,
    /// `None`: the algorithm signs the message itself.
    digest: Option<&'static digest::Algorithm>,
}

macro_rules! combinations {
    ($($signature:expr, $key:ident, $verification:ident, $digest:expr;)*) => {
        &[$(Combination {
            signature: $signature,
            key: alg_id::$key,
            verification: &signature::$verification,
            digest: $digest,
        },)*]
    };
}

static COMBINATIONS: &[Combination] = combinations! {
    alg_id::ECDSA_SHA256, ECDSA_P256, ECDSA_P256_SHA256_ASN1, Some(&digest::SHA256);
    alg_id::ECDSA_SHA384, ECDSA_P256, ECDSA_P256_SHA384_ASN1, Some(&digest::SHA384);
    alg_id::ECDSA_SHA512, ECDSA_P256, ECDSA_P256_SHA512_ASN1, Some(&digest::SHA512);
    alg_id::ECDSA_SHA256, ECDSA_P384, ECDSA_P384_SHA256_ASN1, Some(&digest::SHA256);
    alg_id::ECDSA_SHA384, ECDSA_P384, ECDSA_P384_SHA384_ASN1, Some(&digest::SHA384);
    alg_id::ECDSA_SHA512, ECDSA_P384, ECDSA_P384_SHA512_ASN1, Some(&digest::SHA512);
    alg_id::ECDSA_SHA256, ECDSA_P521, ECDSA_P521_SHA256_ASN1, Some(&digest::SHA256);
    alg_id::ECDSA_SHA384, ECDSA_P521, ECDSA_P521_SHA384_ASN1, Some(&digest::SHA384);
    alg_id::ECDSA_SHA512, ECDSA_P521, ECDSA_P521_SHA512_ASN1, Some(&digest::SHA512);
    alg_id::RSA_PKCS1_SHA256, RSA_ENCRYPTION, RSA_PKCS1_2048_8192_SHA256, Some(&digest::SHA256);
    alg_id::RSA_PKCS1_SHA384, RSA_ENCRYPTION, RSA_PKCS1_2048_8192_SHA384, Some(&digest::SHA384);
    alg_id::RSA_PKCS1_SHA512, RSA_ENCRYPTION, RSA_PKCS1_2048_8192_SHA512, Some(&digest::SHA512);
    AlgorithmIdentifier::from_slice(SHA256_WITHOUT), RSA_ENCRYPTION, RSA_PKCS1_2048_8192_SHA256, Some(&digest::SHA256);
    AlgorithmIdentifier::from_slice(SHA384_WITHOUT), RSA_ENCRYPTION, RSA_PKCS1_2048_8192_SHA384, Some(&digest::SHA384);
    AlgorithmIdentifier::from_slice(SHA512_WITHOUT), RSA_ENCRYPTION, RSA_PKCS1_2048_8192_SHA512, Some(&digest::SHA512);
    alg_id::RSA_PSS_SHA256, RSA_ENCRYPTION, RSA_PSS_2048_8192_SHA256, Some(&digest::SHA256);
    alg_id::RSA_PSS_SHA384, RSA_ENCRYPTION, RSA_PSS_2048_8192_SHA384, Some(&digest::SHA384);
    alg_id::RSA_PSS_SHA512, RSA_ENCRYPTION, RSA_PSS_2048_8192_SHA512, Some(&digest::SHA512);
    alg_id::ED25519, ED25519, ED25519, None;
};

/// What the signature is over, so that it can be verified later without the message: its digest, or the message itself
/// where the algorithm needs it (Ed25519). `None` for algorithms that are not accepted.
pub(crate) fn digested(algorithm: &[u8], message: &[u8]) -> Option<Vec<u8>> {
    let combination = COMBINATIONS.iter().find(|combination| combination.signature.as_ref() == algorithm)?;
    Some(match combination.digest {
        Some(hash) => digest::digest(hash, message).as_ref().to_vec(),
        None => message.to_vec(),
    })
}

/// Whether the key (SubjectPublicKeyInfo with tag and length) made the signature over what [`digested`] gave.
pub(crate) fn verifies(spki: &[u8], algorithm: &[u8], digested: &[u8], signature: &[u8]) -> bool {
    let Ok((key_algorithm, key)) = key_parts(spki) else { return false };
    let found = COMBINATIONS
        .iter()
        .find(|combination| combination.signature.as_ref() == algorithm && combination.key.as_ref() == key_algorithm);
    let Some(combination) = found else { return false };
    let key = UnparsedPublicKey::new(combination.verification, key);
    match combination.digest {
        Some(hash) => {
            Digest::import_less_safe(digested, hash).is_ok_and(|digest| key.verify_digest(&digest, signature).is_ok())
        }
        None => key.verify(digested, signature).is_ok(),
    }
}

fn key_parts(spki: &[u8]) -> Result<(&[u8], &[u8]), der::Malformed> {
    let mut fields = Reader::new(der::only(spki, der::SEQUENCE, "the public key")?);
    Ok((fields.expect(der::SEQUENCE, "the key's algorithm")?, fields.bits("the key")?))
}

/// The algorithm's name, and whether its hash is too weak to be believed.
pub(crate) fn name(algorithm: &[u8]) -> (String, bool) {
    let identifier = Reader::new(algorithm).expect(der::OBJECT_IDENTIFIER, "the algorithm").unwrap_or_default();
    let (name, weak) = match identifier {
        [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 2] => ("MD2 with RSA", true),
        [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 4] => ("MD5 with RSA", true),
        [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 5] => ("SHA-1 with RSA", true),
        [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 10] => ("RSASSA-PSS with unusual parameters", false),
        [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 14] => ("SHA-224 with RSA", true),
        [0x2b, 0x0e, 0x03, 0x02, 29] => ("SHA-1 with RSA", true),
        [0x2a, 0x86, 0x48, 0xce, 0x38, 0x04, 3] => ("SHA-1 with DSA", true),
        [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 1] => ("SHA-1 with ECDSA", true),
        [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 1] => ("SHA-224 with ECDSA", true),
        other => return (der::dotted(other), false),
    };
    (name.to_owned(), weak)
}
