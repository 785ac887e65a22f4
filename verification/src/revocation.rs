//! Revocation by CRL (RFC 5280, 5 and 6.3). Each CRL is read and judged alone when a policy is compiled ([`crl`]); what it
//! revokes becomes a sorted table in the image ([`index`]), which is asked for each certificate below the anchor.

pub(crate) mod crl;
pub(crate) mod index;

use std::fmt;

use rustls_pki_types::UnixTime;

use crate::fingerprint::Fingerprint;
use crate::policy::crls::LARGEST_KEPT;
use crate::time::rfc3339;

/// Why a CRL is left out, or in doubt. It disturbs nobody; the issuer's other CRLs count as if it were not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CrlFault {
    /// Not DER, or not a CRL.
    Unreadable(&'static str),
    /// Signed with SHA-1 or worse, or in a way that is not supported.
    SignatureAlgorithm(String),
    /// It carries the name of an anchor, and another's signature. Not left out altogether: it counts for certificates that
    /// the very key made which signed it, as after a CA has changed its key (RFC 4210, 4.4).
    SignatureWrong {
        /// The name.
        issuer: String,
    },
    /// `keyUsage` of the anchor that signed it lacks cRLSign.
    SignerNotAllowed {
        /// The anchor.
        issuer: String,
    },
    /// Only changes to another CRL (RFC 5280, 5.2.4).
    Delta,
    /// Speaks for other issuers (RFC 5280, 5.2.5).
    Indirect,
    /// Holds only some reasons, only attribute certificates, or a part named relative to its issuer (RFC 5280, 5.2.5).
    Partial,
    /// A critical extension that nobody here understands.
    CriticalExtension(String),
    /// `thisUpdate` lies ahead: it counts from then on, without a new compilation.
    NotYetValid(UnixTime),
    /// A newer one of the same issuer counts.
    Superseded {
        /// The newer one.
        by: Fingerprint,
    },
    /// Signed by none of the anchors with Ed25519, which signs the message itself: all of it would have to be kept, and
    /// read for each certificate of its issuer's name.
    TooLargeToProve {
        /// Octets of it.
        octets: usize,
    },
    /// All CRLs together are larger than a policy may be. The smallest ones have found room, those that an anchor proves
    /// before the others.
    NoRoom {
        /// Octets that it would take.
        octets: usize,
        /// Octets that all together may have.
        room: usize,
    },
}

impl CrlFault {
    /// Part of the ordinary course of things, and nothing to look after.
    pub const fn is_ordinary(&self) -> bool {
        matches!(self, Self::Superseded { .. } | Self::NotYetValid(_))
    }
}

impl fmt::Display for CrlFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(what) => write!(f, "it cannot be read as a CRL: {what}"),
            Self::SignatureAlgorithm(algorithm) => write!(f, "it is signed by {algorithm}; SHA-256 is the least"),
            Self::SignatureWrong { issuer } => {
                write!(
                    f,
                    "the key of \"{issuer}\", whose name it carries, did not sign it; it counts only for certificates made with the key that did"
                )
            }
            Self::SignerNotAllowed { issuer } => write!(f, "keyUsage of its issuer \"{issuer}\" lacks cRLSign"),
            Self::Delta => f.write_str("it is a delta CRL; complete ones are needed"),
            Self::Indirect => f.write_str("it is an indirect CRL, which speaks for other issuers"),
            Self::Partial => f.write_str("it covers only some reasons or certificates in a way that is not supported"),
            Self::CriticalExtension(identifier) => {
                write!(f, "its critical extension {identifier} is not understood here")
            }
            Self::NotYetValid(this_update) => write!(f, "its thisUpdate {} lies ahead", rfc3339(*this_update)),
            Self::Superseded { by } => write!(f, "a newer one of the same issuer counts, {by}"),
            Self::TooLargeToProve { octets } => write!(
                f,
                "it is signed with Ed25519 by none of the anchors, and has {octets} octets; {LARGEST_KEPT} are the most, or its issuer must be an anchor"
            ),
            Self::NoRoom { octets, room } => {
                write!(f, "it would take {octets} octets, and all CRLs together may take {room}")
            }
        }
    }
}

/// CRLReason (RFC 5280, 5.3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RevocationReason(pub(crate) u8);

impl fmt::Display for RevocationReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            1 => "keyCompromise",
            2 => "cACompromise",
            3 => "affiliationChanged",
            4 => "superseded",
            5 => "cessationOfOperation",
            6 => "certificateHold",
            9 => "privilegeWithdrawn",
            10 => "aACompromise",
            _ => "unspecified",
        })
    }
}
