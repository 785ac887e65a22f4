//! Signatures of certificates and CRLs that were verified before.
//!
//! Whether a signature is right depends on nothing but its octets, the key's and what it signs, so it need not be found out again: not at
//! the next session of the same partner, and not of each running session when a configuration is replaced. Everything else (who may
//! be trusted, validity, revocation, whose certificate it is) is judged each time.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use aws_lc_rs::digest::{Context, SHA256};
use rustls_pki_types::{AlgorithmIdentifier, InvalidSignature, SignatureVerificationAlgorithm};

/// Signatures of one half; there are two.
const MOST: usize = 8192;

/// Signatures that were right, and those of CRLs that were wrong: the last 8,192 at least, at most twice as many, in 32
/// octets each.
#[derive(Debug, Default)]
pub struct KnownSignatures(Mutex<Halves>);

/// When the newer half is full it becomes the older one; what is asked for moves to the newer one.
#[derive(Debug, Default)]
struct Halves {
    newer: HashSet<[u8; 32]>,
    older: HashSet<[u8; 32]>,
}

impl KnownSignatures {
    /// Whether this one was right before.
    fn contains(&self, signature: &[u8; 32]) -> bool {
        let mut halves = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if halves.newer.contains(signature) {
            return true;
        }
        let known = halves.older.contains(signature);
        if known {
            halves.insert(*signature);
        }
        known
    }

    fn insert(&self, signature: [u8; 32]) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(signature);
    }

    /// Whether a signature is right, which is found out once as long as it is remembered. `parts` are everything that this
    /// depends on. What is wrong is remembered, too: of the CRLs that carry an issuer's name each one is tried.
    pub(crate) fn or_find_out(&self, parts: &[&[u8]], verifies: impl FnOnce() -> bool) -> bool {
        let told = |verdict: &[u8]| digest_of(&[&[verdict], parts].concat());
        let (right, wrong) = (told(b"CRL, right"), told(b"CRL, wrong"));
        if self.contains(&right) || self.contains(&wrong) {
            return self.contains(&right);
        }
        let verified = verifies();
        self.insert(if verified { right } else { wrong });
        verified
    }

    /// The same algorithms, which look here first.
    pub(crate) fn before<'a>(&'a self, algorithms: &[&'a dyn SignatureVerificationAlgorithm]) -> Vec<Remembering<'a>> {
        algorithms.iter().map(|algorithm| Remembering { algorithm: *algorithm, known: self }).collect()
    }
}

impl Halves {
    fn insert(&mut self, signature: [u8; 32]) {
        if self.newer.len() >= MOST {
            self.older = std::mem::take(&mut self.newer);
        }
        self.newer.insert(signature);
    }
}

/// An algorithm that verifies nothing twice.
#[derive(Debug)]
pub(crate) struct Remembering<'a> {
    algorithm: &'a dyn SignatureVerificationAlgorithm,
    known: &'a KnownSignatures,
}

impl SignatureVerificationAlgorithm for Remembering<'_> {
    fn verify_signature(&self, public_key: &[u8], message: &[u8], signature: &[u8]) -> Result<(), InvalidSignature> {
        let (of_key, of_signature) = (self.public_key_alg_id(), self.signature_alg_id());
        let parts = [of_key.as_ref(), of_signature.as_ref(), public_key, message, signature];
        let digest = digest_of(&parts);
        if self.known.contains(&digest) {
            return Ok(());
        }
        self.algorithm.verify_signature(public_key, message, signature)?;
        self.known.insert(digest);
        Ok(())
    }

    fn public_key_alg_id(&self) -> AlgorithmIdentifier {
        self.algorithm.public_key_alg_id()
    }

    fn signature_alg_id(&self) -> AlgorithmIdentifier {
        self.algorithm.signature_alg_id()
    }

    fn fips(&self) -> bool {
        self.algorithm.fips()
    }
}

/// SHA-256 over all parts, each behind its length, so that no part can pass for another's end.
fn digest_of(parts: &[&[u8]]) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    for part in parts {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part);
    }
    let mut digest = [0; 32];
    digest.copy_from_slice(context.finish().as_ref());
    digest
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
    use rustls_pki_types::alg_id;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// Counts how often it is asked.
    #[derive(Debug)]
    struct Counting(&'static dyn SignatureVerificationAlgorithm, AtomicUsize);

    impl SignatureVerificationAlgorithm for Counting {
        fn verify_signature(&self, key: &[u8], message: &[u8], signature: &[u8]) -> Result<(), InvalidSignature> {
            self.1.fetch_add(1, Ordering::Relaxed);
            self.0.verify_signature(key, message, signature)
        }

        fn public_key_alg_id(&self) -> AlgorithmIdentifier {
            alg_id::ECDSA_P256
        }

        fn signature_alg_id(&self) -> AlgorithmIdentifier {
            alg_id::ECDSA_SHA256
        }
    }

    #[test]
    fn a_right_signature_is_verified_once_and_a_wrong_one_each_time() {
        let random = SystemRandom::new();
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
        let public = key.public_key().as_ref().to_vec();
        let (right, other) = (key.sign(&random, b"certificate").unwrap(), key.sign(&random, b"another").unwrap());
        let counting = Counting(webpki::aws_lc_rs::ECDSA_P256_SHA256, AtomicUsize::new(0));
        let known = KnownSignatures::default();
        let [algorithm] = <[_; 1]>::try_from(known.before(&[&counting])).unwrap();
        let asked = || counting.1.load(Ordering::Relaxed);
        for _ in 0..3 {
            assert!(algorithm.verify_signature(&public, b"certificate", right.as_ref()).is_ok());
        }
        assert_eq!(asked(), 1);
        for (message, signature) in [(&b"certificate"[..], &other), (b"another", &right), (b"certificat", &right)] {
            let before = asked();
            for _ in 0..2 {
                assert!(algorithm.verify_signature(&public, message, signature.as_ref()).is_err());
            }
            assert_eq!(asked(), before + 2);
        }
        let stranger = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
        let with_another_key =
            algorithm.verify_signature(stranger.public_key().as_ref(), b"certificate", right.as_ref());
        assert!(with_another_key.is_err());
    }

    #[test]
    fn a_signature_of_a_crl_is_found_out_once_be_it_right_or_wrong() {
        let known = KnownSignatures::default();
        for (part, verdict) in [(&b"one"[..], true), (b"other", false)] {
            assert_eq!(known.or_find_out(&[part], || verdict), verdict);
            assert_eq!(known.or_find_out(&[part], || unreachable!("it is remembered")), verdict);
        }
        assert!(known.or_find_out(&[b"o", b"ne"], || true), "other parts are another signature");
    }

    #[test]
    fn parts_do_not_run_into_each_other() {
        assert_ne!(digest_of(&[b"ab", b"c"]), digest_of(&[b"a", b"bc"]));
        assert_ne!(digest_of(&[b"abc"]), digest_of(&[b"abc", b""]));
    }

    #[test]
    fn it_keeps_what_is_asked_for_and_does_not_grow() {
        let known = KnownSignatures::default();
        let number = |number: usize| digest_of(&[&number.to_be_bytes()]);
        known.insert(number(0));
        for each in 1..5 * MOST {
            known.insert(number(each));
            assert!(known.contains(&number(0)), "{each}");
        }
        assert!(known.contains(&number(5 * MOST - 1)) && !known.contains(&number(1)));
        let halves = known.0.lock().unwrap();
        assert!(halves.newer.len() + halves.older.len() <= 2 * MOST);
    }
}
