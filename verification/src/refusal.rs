//! Why a peer is not let in. Each reason has a code, a sentence with what was seen, and the TLS alert that goes out.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use rustls::{AlertDescription, CertificateError, OtherError};
use rustls_pki_types::UnixTime;

use crate::key::KeyKind;
use crate::revocation::RevocationReason;
use crate::time::rfc3339;

/// Which certificate of a chain is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// Its part in the chain.
    pub part: Part,
    /// RFC 4514 form, escaped.
    pub subject: String,
    /// Hex pairs with colons; empty for an anchor.
    pub serial: String,
}

/// The part that a certificate has in a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The peer's own.
    EndEntity,
    /// A CA's, sent by the peer.
    Intermediate,
    /// A configured one.
    Anchor,
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { part, subject, serial } = self;
        match part {
            Part::EndEntity => write!(f, "certificate {serial} of \"{subject}\""),
            Part::Intermediate => write!(f, "intermediate certificate {serial} of \"{subject}\""),
            Part::Anchor => write!(f, "anchor \"{subject}\""),
        }
    }
}

/// Why a peer is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// The peer showed no certificate.
    CertificateMissing,
    /// More than is looked at.
    ChainTooLong {
        /// Certificates shown.
        certificates: usize,
        /// Their octets.
        octets: usize,
    },
    /// Not DER, or not X.509.
    CertificateUnreadable {
        /// Place in what was shown, 0 for the peer's own.
        position: usize,
        /// What could not be read.
        what: String,
    },
    /// Past `notAfter`.
    CertificateExpired {
        /// Which.
        certificate: Shown,
        /// Last second.
        not_after: UnixTime,
        /// Time of the judgement.
        now: UnixTime,
    },
    /// Before `notBefore`.
    CertificateNotYetValid {
        /// Which.
        certificate: Shown,
        /// First second.
        not_before: UnixTime,
        /// Time of the judgement.
        now: UnixTime,
    },
    /// Listed in its issuer's CRL.
    CertificateRevoked {
        /// Which.
        certificate: Shown,
        /// Issuer of the CRL.
        issuer: String,
        /// Revocation date of the entry.
        since: UnixTime,
        /// Reason of the entry.
        reason: RevocationReason,
    },
    /// No chain to an anchor.
    IssuerUnknown {
        /// Which.
        certificate: Shown,
        /// The last issuer that was looked for.
        issuer: String,
    },
    /// Self-signed, or no anchors are configured, and not one of the pins.
    NotPinned {
        /// Which.
        certificate: Shown,
    },
    /// RSA below 2048 bits, curves below 256.
    KeyTooWeak {
        /// Which.
        certificate: Shown,
        /// Its key.
        key: KeyKind,
    },
    /// A key that no signature can be verified with here.
    KeyUnsupported {
        /// Which.
        certificate: Shown,
        /// Its key.
        key: KeyKind,
    },
    /// Signed with SHA-1 or worse, or in a way that is not supported.
    SignatureAlgorithm {
        /// Which.
        certificate: Shown,
        /// Name or object identifier.
        algorithm: String,
        /// The hash is broken; otherwise just not supported.
        weak: bool,
    },
    /// A certificate that its issuer's key did not sign.
    SignatureWrong {
        /// The peer's own; the chain holds the fault.
        certificate: Shown,
    },
    /// `keyUsage` does not allow what the key does.
    KeyUsage {
        /// Which.
        certificate: Shown,
        /// The bit that is missing.
        needed: &'static str,
    },
    /// `extendedKeyUsage` does not allow what the peer does.
    ExtendedKeyUsage {
        /// Which.
        certificate: Shown,
        /// The purpose that is missing.
        needed: &'static str,
    },
    /// A CA's certificate shown as the peer's own, and not pinned.
    CaAsEndEntity {
        /// Which.
        certificate: Shown,
    },
    /// The chain breaks another rule of RFC 5280.
    ChainInvalid {
        /// The peer's own, or the one that breaks the rule where that is known.
        certificate: Shown,
        /// The rule.
        rule: ChainRule,
    },
    /// Under `require`: no CRL that says anything of the certificate.
    CrlMissing {
        /// Which.
        certificate: Shown,
        /// Its issuer.
        issuer: String,
        /// There is one, signed by a CA whose `keyUsage` does not allow that.
        signer_not_allowed: bool,
    },
    /// Under `require`: the CRL is past its `nextUpdate`, or never had one.
    CrlExpired {
        /// Which.
        certificate: Shown,
        /// Its issuer.
        issuer: String,
        /// `nextUpdate` of the newest CRL.
        next_update: Option<UnixTime>,
    },
    /// Trusted, and no partner's.
    PartnerUnknown {
        /// Which.
        certificate: Shown,
    },
    /// Fits two partners.
    PartnerAmbiguous {
        /// Which.
        certificate: Shown,
        /// Two of the partners.
        partners: [String; 2],
    },
    /// Configured as not enabled.
    PartnerDisabled {
        /// Its name.
        partner: String,
    },
    /// From outside the partner's `allow_from`.
    PartnerAddress {
        /// Its name.
        partner: String,
        /// Where the session comes from.
        address: IpAddr,
        /// From where it may come, as `192.0.2.0/24, 198.51.100.7/32 and 2 more`: for the administrator alone.
        allowed: String,
    },
    /// The certificate of one partner where another was called.
    PartnerNotCalled {
        /// Who was called.
        called: String,
        /// Who answered.
        found: String,
    },
    /// The called partner's certificate lacks the configured `server_name`.
    ServerName {
        /// Which.
        certificate: Shown,
        /// The configured name.
        expected: String,
        /// The names it has.
        presented: String,
    },
    /// The signature over the handshake is not by the certificate's key.
    PossessionUnproven {
        /// What was found instead.
        reason: String,
    },
    /// What was signed is no handshake of this kind.
    HandshakeForm {
        /// What differs.
        reason: String,
    },
    /// The compiled policy cannot be read: a bug or damaged memory.
    PolicyUnreadable,
}

/// Rules of RFC 5280 that a chain can break as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChainRule {
    /// 4.2.1.9: an issuer that is no CA.
    IssuerNotCa,
    /// 4.2.1.9: more CAs below one than it allows.
    PathLength,
    /// 4.2.1.10.
    NameConstraints,
    /// 4.2: a critical extension that nobody here understands.
    CriticalExtension(String),
    /// 4.1.2.1: version 1 or 2 below an anchor.
    Version(u8),
    /// More ways to build the chain than are tried.
    TooComplex,
    /// Something else, in words.
    Other(String),
}

impl fmt::Display for ChainRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::IssuerNotCa => f.write_str("one of its issuers is no CA (RFC 5280, 4.2.1.9)"),
            Self::PathLength => {
                f.write_str("there are more CAs in its chain than one of them allows (RFC 5280, 4.2.1.9)")
            }
            Self::NameConstraints => f.write_str("a CA in its chain may not issue for its names (RFC 5280, 4.2.1.10)"),
            Self::CriticalExtension(identifier) => {
                write!(f, "extension {identifier} is critical and not understood here (RFC 5280, 4.2)")
            }
            Self::Version(version) => {
                write!(f, "it is X.509 version {version}, which is accepted only when pinned (RFC 5280, 4.1.2.1)")
            }
            Self::TooComplex => f.write_str("there are too many ways to build its chain"),
            Self::Other(rule) => f.write_str(rule),
        }
    }
}

impl Refusal {
    /// Every code that [`Refusal::code`] gives.
    pub const CODES: &'static [&'static str] = &[
        "partner-certificate-missing",
        "partner-certificate-unreadable",
        "partner-certificate-expired",
        "partner-certificate-not-yet-valid",
        "partner-certificate-revoked",
        "partner-certificate-issuer-unknown",
        "partner-certificate-not-pinned",
        "partner-certificate-key-too-weak",
        "partner-certificate-signature-invalid",
        "partner-certificate-usage",
        "partner-certificate-chain-invalid",
        "partner-certificate-name-mismatch",
        "crl-missing",
        "crl-expired",
        "partner-unknown",
        "partner-disabled",
        "partner-address-refused",
        "partner-handshake-signature-invalid",
        "snapshot-refused",
    ];

    /// Stable kebab-case name of the situation.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::CertificateMissing => "partner-certificate-missing",
            Self::CertificateUnreadable { .. } => "partner-certificate-unreadable",
            Self::CertificateExpired { .. } => "partner-certificate-expired",
            Self::CertificateNotYetValid { .. } => "partner-certificate-not-yet-valid",
            Self::CertificateRevoked { .. } => "partner-certificate-revoked",
            Self::IssuerUnknown { .. } => "partner-certificate-issuer-unknown",
            Self::NotPinned { .. } => "partner-certificate-not-pinned",
            Self::KeyTooWeak { .. } | Self::KeyUnsupported { .. } => "partner-certificate-key-too-weak",
            Self::SignatureAlgorithm { .. } | Self::SignatureWrong { .. } => "partner-certificate-signature-invalid",
            Self::KeyUsage { .. } | Self::ExtendedKeyUsage { .. } => "partner-certificate-usage",
            Self::ChainTooLong { .. } | Self::CaAsEndEntity { .. } | Self::ChainInvalid { .. } => {
                "partner-certificate-chain-invalid"
            }
            Self::PartnerNotCalled { .. } | Self::ServerName { .. } => "partner-certificate-name-mismatch",
            Self::CrlMissing { .. } => "crl-missing",
            Self::CrlExpired { .. } => "crl-expired",
            Self::PartnerUnknown { .. } | Self::PartnerAmbiguous { .. } => "partner-unknown",
            Self::PartnerDisabled { .. } => "partner-disabled",
            Self::PartnerAddress { .. } => "partner-address-refused",
            Self::PossessionUnproven { .. } | Self::HandshakeForm { .. } => "partner-handshake-signature-invalid",
            Self::PolicyUnreadable => "snapshot-refused",
        }
    }

    /// The partner, where it is known who it is.
    pub fn partner(&self) -> Option<&str> {
        match self {
            Self::PartnerDisabled { partner } | Self::PartnerAddress { partner, .. } => Some(partner),
            Self::PartnerNotCalled { found, .. } => Some(found),
            _ => None,
        }
    }

    /// It is known whose certificate it is, or of which partners it is one's.
    pub(crate) const fn is_of_a_partner(&self) -> bool {
        matches!(
            self,
            Self::PartnerAmbiguous { .. }
                | Self::PartnerDisabled { .. }
                | Self::PartnerAddress { .. }
                | Self::PartnerNotCalled { .. }
        )
    }

    /// What a rustls verifier returns, so that the right alert reaches the peer.
    pub fn tls_error(&self) -> rustls::Error {
        match self {
            Self::CertificateMissing => rustls::Error::NoCertificatesPresented,
            other => rustls::Error::InvalidCertificate(other.certificate_error()),
        }
    }

    /// The TLS alert that tells the peer (RFC 8446, 6.2).
    pub fn alert(&self) -> AlertDescription {
        match self {
            Self::CertificateMissing => AlertDescription::CertificateRequired,
            other => other.certificate_error().into(),
        }
    }

    fn certificate_error(&self) -> CertificateError {
        match self {
            Self::CertificateExpired { not_after, now, .. } => {
                CertificateError::ExpiredContext { time: *now, not_after: *not_after }
            }
            Self::CertificateNotYetValid { not_before, now, .. } => {
                CertificateError::NotValidYetContext { time: *now, not_before: *not_before }
            }
            Self::CertificateRevoked { .. } => CertificateError::Revoked,
            Self::IssuerUnknown { .. } | Self::NotPinned { .. } => CertificateError::UnknownIssuer,
            Self::CrlMissing { .. } | Self::CrlExpired { .. } => CertificateError::UnknownRevocationStatus,
            Self::CertificateMissing
            | Self::ChainTooLong { .. }
            | Self::CertificateUnreadable { .. }
            | Self::SignatureWrong { .. } => CertificateError::BadEncoding,
            Self::ChainInvalid { .. } => CertificateError::UnhandledCriticalExtension,
            Self::KeyTooWeak { .. }
            | Self::KeyUnsupported { .. }
            | Self::SignatureAlgorithm { .. }
            | Self::KeyUsage { .. }
            | Self::ExtendedKeyUsage { .. }
            | Self::CaAsEndEntity { .. } => CertificateError::InvalidPurpose,
            Self::ServerName { .. } => CertificateError::NotValidForName,
            Self::PartnerUnknown { .. }
            | Self::PartnerAmbiguous { .. }
            | Self::PartnerDisabled { .. }
            | Self::PartnerAddress { .. }
            | Self::PartnerNotCalled { .. } => CertificateError::ApplicationVerificationFailure,
            Self::PossessionUnproven { .. } | Self::HandshakeForm { .. } => CertificateError::BadSignature,
            Self::PolicyUnreadable => CertificateError::Other(OtherError(Arc::new(self.clone()))),
        }
    }
}

impl std::error::Error for Refusal {}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CertificateMissing => f.write_str("no certificate was shown; every session needs one"),
            Self::ChainTooLong { certificates, octets } => write!(
                f,
                "{certificates} certificates of {octets} octets were shown; at most {} of {} octets are looked at",
                crate::judgement::MOST_CERTIFICATES,
                crate::judgement::MOST_OCTETS
            ),
            Self::CertificateUnreadable { position, what } => {
                write!(f, "certificate {position} of what was shown cannot be read as X.509: {what}")
            }
            Self::CertificateExpired { certificate, not_after, now } => {
                write!(f, "{certificate} expired {}, now is {}", rfc3339(*not_after), rfc3339(*now))
            }
            Self::CertificateNotYetValid { certificate, not_before, now } => {
                write!(f, "{certificate} is not valid before {}, now is {}", rfc3339(*not_before), rfc3339(*now))
            }
            Self::CertificateRevoked { certificate, issuer, since, reason } => {
                write!(f, "{certificate} is revoked by \"{issuer}\" since {}, reason {reason}", rfc3339(*since))
            }
            Self::IssuerUnknown { certificate, issuer } => {
                write!(
                    f,
                    "{certificate} has no chain to a configured anchor: issuer \"{issuer}\" is none, or was not sent"
                )
            }
            Self::NotPinned { certificate } => write!(f, "{certificate} is none of the pinned ones"),
            Self::KeyTooWeak { certificate, key } => {
                write!(f, "{certificate} has the key {key}; RSA-2048 or P-256 is the least")
            }
            Self::KeyUnsupported { certificate, key } => {
                write!(
                    f,
                    "{certificate} has the key {key}, which is not supported; RSA-2048 to RSA-8192, P-256, P-384, P-521 and Ed25519 are"
                )
            }
            Self::SignatureAlgorithm { certificate, algorithm, weak: true } => {
                write!(f, "{certificate} is signed by {algorithm}, which is too weak; SHA-256 is the least")
            }
            Self::SignatureAlgorithm { certificate, algorithm, weak: false } => {
                write!(f, "{certificate} is signed by {algorithm}, which is not supported")
            }
            Self::SignatureWrong { certificate } => {
                write!(f, "{certificate} or an issuer of it carries a signature that its issuer's key did not make")
            }
            Self::KeyUsage { certificate, needed } => write!(f, "keyUsage of {certificate} lacks {needed}"),
            Self::ExtendedKeyUsage { certificate, needed } => {
                write!(f, "extendedKeyUsage of {certificate} lacks {needed}")
            }
            Self::CaAsEndEntity { certificate } => {
                write!(f, "{certificate} is a CA's, which is accepted as a partner's own only when pinned")
            }
            Self::ChainInvalid { certificate, rule } => write!(f, "{certificate} is refused: {rule}"),
            Self::CrlMissing { certificate, issuer, signer_not_allowed: false } => {
                write!(f, "no CRL of \"{issuer}\" is known for {certificate}, and revocation is required to be known")
            }
            Self::CrlMissing { certificate, issuer, signer_not_allowed: true } => {
                write!(
                    f,
                    "the CRL of \"{issuer}\" for {certificate} does not count: keyUsage of its issuer lacks cRLSign"
                )
            }
            Self::CrlExpired { certificate, issuer, next_update: Some(next_update) } => {
                write!(f, "the CRL of \"{issuer}\" for {certificate} expired {}", rfc3339(*next_update))
            }
            Self::CrlExpired { certificate, issuer, next_update: None } => {
                write!(f, "the CRL of \"{issuer}\" for {certificate} has no nextUpdate and clears nobody")
            }
            Self::PartnerUnknown { certificate } => {
                write!(f, "{certificate} is trusted and belongs to no configured partner")
            }
            Self::PartnerAmbiguous { certificate, partners: [one, other] } => {
                write!(f, "{certificate} fits both partner {one:?} and partner {other:?}")
            }
            Self::PartnerDisabled { partner } => write!(f, "partner {partner:?} is disabled"),
            Self::PartnerAddress { partner, address, allowed } => write!(
                f,
                "partner {partner:?} may not come from {address}: no network of its allow_from holds it ({allowed})"
            ),
            Self::PartnerNotCalled { called, found } => {
                write!(f, "partner {called:?} was called and the certificate is that of partner {found:?}")
            }
            Self::ServerName { certificate, expected, presented } => {
                write!(f, "{certificate} is not for {expected:?}; it has {presented}")
            }
            Self::PossessionUnproven { reason } => {
                write!(f, "the handshake does not prove the certificate's key: {reason}")
            }
            Self::HandshakeForm { reason } => write!(f, "what was signed is no handshake of this session: {reason}"),
            Self::PolicyUnreadable => {
                f.write_str("the compiled policy cannot be read; this is a fault of this program")
            }
        }
    }
}
