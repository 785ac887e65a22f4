//! The outcome of a judgement in the peer's favour. Only [`judge`](crate::judge) makes one, so that who holds one has
//! judged.

use std::fmt;

use rustls_pki_types::UnixTime;

use crate::facts::CertificateFacts;
use crate::fingerprint::Fingerprint;
use crate::policy::{Conformance, PartnerView};
use crate::time::rfc3339;

/// Where the trust in a certificate comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// The very certificate is pinned.
    Pin,
    /// A chain to this anchor.
    Anchor(Fingerprint),
}

impl fmt::Display for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pin => f.write_str("pinned"),
            Self::Anchor(fingerprint) => write!(f, "chain to anchor {fingerprint}"),
        }
    }
}

/// What is not known of an accepted certificate's revocation (`prefer`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unsure {
    /// No CRL of this issuer.
    CrlMissing {
        /// RFC 4514 form, escaped.
        issuer: String,
    },
    /// Its newest CRL is past its `nextUpdate`, or never had one.
    CrlExpired {
        /// RFC 4514 form, escaped.
        issuer: String,
        /// Its `nextUpdate`.
        next_update: Option<UnixTime>,
    },
}

impl Unsure {
    /// The same code that the refusal under `require` has.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::CrlMissing { .. } => "crl-missing",
            Self::CrlExpired { .. } => "crl-expired",
        }
    }
}

impl fmt::Display for Unsure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CrlMissing { issuer } => write!(f, "no CRL of \"{issuer}\" is known; accepted all the same"),
            Self::CrlExpired { issuer, next_update: Some(next_update) } => {
                write!(f, "the CRL of \"{issuer}\" expired {}; accepted all the same", rfc3339(*next_update))
            }
            Self::CrlExpired { issuer, next_update: None } => {
                write!(f, "the CRL of \"{issuer}\" has no nextUpdate; accepted all the same")
            }
        }
    }
}

/// A place where a certificate of the verified chain says that its CRL can be fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CrlPoint {
    /// http or https, at most 2048 characters of printable ASCII.
    pub url: String,
    /// The certificate that names it.
    pub certificate: Fingerprint,
    /// That certificate's issuer, RFC 4514 form, escaped.
    pub issuer: String,
}

/// A peer that was judged and may have a session. That it holds the certificate's key is the handshake's proof
/// ([`possession`](crate::possession)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedPartner {
    name: Option<String>,
    index: Option<u32>,
    ssid_codes: Vec<String>,
    conformance: Conformance,
    max_sessions: Option<u32>,
    facts: CertificateFacts,
    trust: Trust,
    unsure: Vec<Unsure>,
    crl_points: Vec<CrlPoint>,
}

/// What a judgement found out on its way.
pub(crate) struct Found<'a> {
    pub(crate) partner: Option<PartnerView<'a>>,
    pub(crate) facts: CertificateFacts,
    pub(crate) trust: Trust,
    pub(crate) unsure: Vec<Unsure>,
    pub(crate) crl_points: Vec<CrlPoint>,
}

impl From<Found<'_>> for VerifiedPartner {
    fn from(Found { partner, facts, trust, unsure, crl_points }: Found<'_>) -> Self {
        Self {
            name: partner.map(|partner| partner.name().to_owned()),
            index: partner.map(|partner| partner.index()),
            ssid_codes: partner.map(|partner| partner.ssid_codes().map(str::to_owned).collect()).unwrap_or_default(),
            conformance: partner.map(|partner| partner.conformance()).unwrap_or_default(),
            max_sessions: partner.and_then(|partner| partner.max_sessions()),
            facts,
            trust,
            unsure,
            crl_points,
        }
    }
}

impl VerifiedPartner {
    /// The partner's name; `None` for one that is not configured and was accepted (`unknown_partners`).
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Its place in the policy it was judged by; `None` as for [`name`](Self::name).
    pub const fn index(&self) -> Option<u32> {
        self.index
    }

    /// SHA-256 of its certificate.
    pub const fn fingerprint(&self) -> Fingerprint {
        self.facts.fingerprint
    }

    /// Identification codes it may use in SSID; none: any that no other partner lists
    /// ([`Policy::holder_of_code`](crate::Policy::holder_of_code)).
    pub fn ssid_codes(&self) -> &[String] {
        &self.ssid_codes
    }

    /// Whether it may use this identification code in SSID, as far as its own list says.
    pub fn may_use_code(&self, code: &str) -> bool {
        self.ssid_codes.is_empty() || self.ssid_codes.iter().any(|own| own == code)
    }

    /// How strictly RFC 5024 is held against its messages.
    pub const fn conformance(&self) -> Conformance {
        self.conformance
    }

    /// Most sessions at once. Counting is the caller's.
    pub const fn max_sessions(&self) -> Option<u32> {
        self.max_sessions
    }

    /// What its certificate says.
    pub const fn facts(&self) -> &CertificateFacts {
        &self.facts
    }

    /// Where the trust comes from.
    pub const fn trust(&self) -> Trust {
        self.trust
    }

    /// What is not known of the chain's revocation; for a warning each.
    pub fn unsure(&self) -> &[Unsure] {
        &self.unsure
    }

    /// Where the CRLs of the verified chain can be fetched, for the backend; at most 64. Certificates that came along and
    /// are no part of the chain say nothing here.
    pub fn crl_points(&self) -> &[CrlPoint] {
        &self.crl_points
    }
}
