//! Proof that the peer holds its certificate's key: the signature of the TLS handshake.
//!
//! The session in the DMZ checks it inside its rustls verifier; the agent checks the very same octets again, forwarded as a
//! [`HandshakeSignature`]. Certificates of version 1 and CA certificates, which rustls refuses, are served too: the key is
//! taken from the certificate by our own reading.

use std::fmt;

use rustls::SignatureScheme;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::{CertificateError, DigitallySignedStruct, PeerMisbehaved};
use rustls_pki_types::{CertificateDer, SubjectPublicKeyInfoDer};
use serde::{Deserialize, Serialize};
use webpki::RawPublicKeyEntity;

use crate::certificate::Certificate;
use crate::fingerprint::sha256;
use crate::judgement::Direction;
use crate::refusal::Refusal;
use crate::signing_request::{self, NotAHandshake, Side};
use crate::transcript::{self, Transcript};

/// Longest signature: RSA with 8192 bits has 1024 octets, ML-DSA-87 has 4627.
const MOST_SIGNATURE: usize = 8192;

fn algorithms() -> WebPkiSupportedAlgorithms {
    rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms
}

/// The signature schemes that a verifier offers.
pub fn supported_schemes() -> Vec<SignatureScheme> {
    algorithms().supported_schemes()
}

/// For `verify_tls12_signature` of a rustls verifier.
///
/// # Errors
/// When the key did not make the signature, or the scheme is not supported.
pub fn verify_tls12(
    message: &[u8],
    certificate: &CertificateDer<'_>,
    signed: &DigitallySignedStruct,
) -> Result<HandshakeSignatureValid, rustls::Error> {
    verify(Version::Tls12, message, certificate, signed.scheme, signed.signature())?;
    Ok(HandshakeSignatureValid::assertion())
}

/// For `verify_tls13_signature` of a rustls verifier.
///
/// # Errors
/// When the key did not make the signature, or the scheme is not supported.
pub fn verify_tls13(
    message: &[u8],
    certificate: &CertificateDer<'_>,
    signed: &DigitallySignedStruct,
) -> Result<HandshakeSignatureValid, rustls::Error> {
    verify(Version::Tls13, message, certificate, signed.scheme, signed.signature())?;
    Ok(HandshakeSignatureValid::assertion())
}

/// Version of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Version {
    /// 1.2
    Tls12,
    /// 1.3
    Tls13,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tls12 => "TLS 1.2",
            Self::Tls13 => "TLS 1.3",
        })
    }
}

/// A peer's signature in its handshake, as the DMZ session forwards it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandshakeSignature {
    /// Version that was negotiated.
    pub version: Version,
    /// What was signed, exactly as the rustls verifier got it.
    #[serde(with = "serde_bytes")]
    pub message: Vec<u8>,
    /// Number of the signature scheme.
    pub scheme: u16,
    /// The signature.
    #[serde(with = "serde_bytes")]
    pub signature: Vec<u8>,
}

/// Proven possession. Only [`HandshakeSignature::verify`] makes one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Possession {
    digest: [u8; 32],
}

impl Possession {
    /// Identifies the signature, so that each is taken once.
    pub const fn digest(&self) -> &[u8; 32] {
        &self.digest
    }
}

impl HandshakeSignature {
    /// Keeps what a rustls verifier was given.
    pub fn new(version: Version, message: &[u8], signed: &DigitallySignedStruct) -> Self {
        Self {
            version,
            message: message.to_vec(),
            scheme: signed.scheme.into(),
            signature: signed.signature().to_vec(),
        }
    }

    /// Whether message and signature are within what can be genuine. Cheap; [`verify`](Self::verify) checks it too.
    pub fn is_within_bounds(&self) -> bool {
        self.message.len() <= transcript::MOST_OCTETS && self.signature.len() <= MOST_SIGNATURE
    }

    /// Checks that the message is a handshake of this direction and that the certificate's key signed it.
    ///
    /// # Errors
    /// [`Refusal::HandshakeForm`] or [`Refusal::PossessionUnproven`].
    pub fn verify(&self, end_entity: &CertificateDer<'_>, direction: Direction) -> Result<Possession, Refusal> {
        self.check_form(end_entity, direction)
            .map_err(|reason| Refusal::HandshakeForm { reason: reason.0.to_owned() })?;
        verify(self.version, &self.message, end_entity, self.scheme.into(), &self.signature)
            .map_err(|error| Refusal::PossessionUnproven { reason: error.to_string() })?;
        Ok(Possession { digest: self.digest() })
    }

    fn check_form(&self, end_entity: &CertificateDer<'_>, direction: Direction) -> Result<(), NotAHandshake> {
        if !self.is_within_bounds() {
            return Err(NotAHandshake("it is too long"));
        }
        match (self.version, direction) {
            (Version::Tls13, Direction::Caller) => {
                signing_request::check_certificate_verify_13(&self.message, Side::Client)
            }
            (Version::Tls13, Direction::Called) => {
                signing_request::check_certificate_verify_13(&self.message, Side::Server)
            }
            (Version::Tls12, Direction::Called) => signing_request::check_server_key_exchange(&self.message),
            (Version::Tls12, Direction::Caller) => {
                let transcript = Transcript::read(&self.message).map_err(NotAHandshake)?;
                if transcript.client_chain.first() != Some(&end_entity.as_ref()) {
                    return Err(NotAHandshake("it shows another certificate of the client"));
                }
                Ok(())
            }
        }
    }

    /// For a caller with TLS 1.2: the server certificates in what it signed, which must be ours. `None` for everything
    /// else, which binds them by a hash only.
    pub fn server_chain(&self, direction: Direction) -> Option<Vec<&[u8]>> {
        match (self.version, direction) {
            (Version::Tls12, Direction::Caller) => Transcript::read(&self.message).ok().map(|read| read.server_chain),
            _ => None,
        }
    }

    /// SHA-256 over what was signed. One handshake has one, whatever variants of its signature verify: a signature of
    /// ECDSA has a twin that verifies as well.
    pub fn digest(&self) -> [u8; 32] {
        sha256(&self.message)
    }
}

impl fmt::Debug for HandshakeSignature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "HandshakeSignature({}, scheme {:04x}, {} octets signed by {})",
            self.version,
            self.scheme,
            self.message.len(),
            self.signature.len()
        )
    }
}

/// The signature schemes of TLS 1.3 (RFC 8446, 4.2.3) among those that are supported.
const fn is_of_tls13(scheme: SignatureScheme) -> bool {
    matches!(
        scheme,
        SignatureScheme::ECDSA_NISTP256_SHA256
            | SignatureScheme::ECDSA_NISTP384_SHA384
            | SignatureScheme::ECDSA_NISTP521_SHA512
            | SignatureScheme::ED25519
            | SignatureScheme::RSA_PSS_SHA256
            | SignatureScheme::RSA_PSS_SHA384
            | SignatureScheme::RSA_PSS_SHA512
            | SignatureScheme::ML_DSA_44
            | SignatureScheme::ML_DSA_65
            | SignatureScheme::ML_DSA_87
    )
}

fn verify(
    version: Version,
    message: &[u8],
    certificate: &CertificateDer<'_>,
    scheme: SignatureScheme,
    signature: &[u8],
) -> Result<(), rustls::Error> {
    let unadvertised = || rustls::Error::from(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme);
    let bad_encoding = || rustls::Error::from(CertificateError::BadEncoding);
    let is_ml_dsa =
        matches!(scheme, SignatureScheme::ML_DSA_44 | SignatureScheme::ML_DSA_65 | SignatureScheme::ML_DSA_87);
    if (version == Version::Tls13 && !is_of_tls13(scheme)) || (version == Version::Tls12 && is_ml_dsa) {
        return Err(unadvertised());
    }
    let algorithms = algorithms();
    let candidates = algorithms.mapping.iter().find(|(mapped, _)| *mapped == scheme).ok_or_else(unadvertised)?.1;
    // In TLS 1.2 the scheme names the hash only and the key the curve; in TLS 1.3 it names both, and the first fits.
    let candidates = if version == Version::Tls13 { candidates.get(..1).unwrap_or_default() } else { candidates };

    let certificate = Certificate::read(certificate).map_err(|_| bad_encoding())?;
    let spki = SubjectPublicKeyInfoDer::from(certificate.spki);
    let key = RawPublicKeyEntity::try_from(&spki).map_err(|_| bad_encoding())?;
    for candidate in candidates {
        match key.verify_signature(*candidate, message, signature) {
            Ok(()) => return Ok(()),
            Err(webpki::Error::UnsupportedSignatureAlgorithmForPublicKeyContext(_)) => {}
            Err(_) => break,
        }
    }
    Err(CertificateError::BadSignature.into())
}
