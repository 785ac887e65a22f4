//! The policy as plain data: derived from the configuration, sent over the link, compiled on both sides.

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::address::Cidr;
use crate::fingerprint::Fingerprint;

/// The DER form of a certificate or CRL.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Der(#[serde(with = "serde_bytes")] pub Vec<u8>);

impl AsRef<[u8]> for Der {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl From<Vec<u8>> for Der {
    fn from(octets: Vec<u8>) -> Self {
        Self(octets)
    }
}

impl fmt::Debug for Der {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Der({} octets, sha256 {})", self.0.len(), Fingerprint::of(&self.0))
    }
}

/// All that the judgement works with.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PolicySource {
    /// CA certificates that may issue partner certificates.
    pub anchors: Vec<Der>,
    /// Partner certificates that are trusted as they are.
    pub pinned: Vec<Der>,
    /// CRLs in force. May be left empty where they are given to [`compile_with_crls`](super::compile_with_crls).
    pub crls: Vec<Der>,
    /// What becomes of a certificate whose revocation is not known.
    pub revocation: Revocation,
    /// What becomes of a trusted certificate that belongs to no partner.
    pub unknown_partners: UnknownPartners,
    /// The partners, in the configuration's order.
    pub partners: Vec<PartnerSource>,
}

/// One partner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartnerSource {
    /// Unique, not empty.
    pub name: String,
    /// A partner that is not enabled is known and refused.
    pub enabled: bool,
    /// Certificates that are this partner's. Trust comes from a pin or a chain.
    pub certificate_sha256: Vec<Fingerprint>,
    /// RFC 4514 names or `dns:NAME`; any of them, in a certificate that chains to one of `issuers`.
    pub subjects: Vec<String>,
    /// Anchors that may issue for `subjects`. May be empty while there is only one anchor.
    pub issuers: Vec<Fingerprint>,
    /// Identification codes that the partner may use in SSID; empty: any that no other partner lists.
    pub ssid_codes: Vec<String>,
    /// Where its incoming sessions may come from; empty: anywhere.
    pub allow_from: Vec<Cidr>,
    /// Most sessions at once.
    pub max_sessions: Option<u32>,
    /// Whether the extended key usage must fit.
    pub extended_key_usage: ExtendedKeyUsage,
    /// Instead of the common rule.
    pub revocation: Option<Revocation>,
    /// How strictly RFC 5024 is held against its messages.
    pub conformance: Conformance,
    /// `host:port` for outgoing sessions.
    pub address: Option<String>,
    /// Name to check in the certificate that the partner shows when called.
    pub server_name: Option<String>,
    /// Local address for outgoing sessions, instead of the common one.
    pub outgoing_ip: Option<IpAddr>,
}

impl PartnerSource {
    /// An enabled partner with this name and the defaults of the Seon API. It matches no certificate yet.
    pub fn named(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            enabled: true,
            certificate_sha256: Vec::new(),
            subjects: Vec::new(),
            issuers: Vec::new(),
            ssid_codes: Vec::new(),
            allow_from: Vec::new(),
            max_sessions: None,
            extended_key_usage: ExtendedKeyUsage::Require,
            revocation: None,
            conformance: Conformance::Standard,
            address: None,
            server_name: None,
            outgoing_ip: None,
        }
    }
}

/// What becomes of a certificate whose issuer has no current CRL. A revoked one is refused unless `Off`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Revocation {
    /// Refused.
    Require,
    /// Accepted with a warning.
    #[default]
    Prefer,
    /// CRLs are not looked at.
    Off,
}

/// What becomes of a trusted certificate that belongs to no partner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UnknownPartners {
    /// Refused.
    #[default]
    Refuse,
    /// Accepted without a name.
    Accept,
}

/// Whether `extendedKeyUsage`, where a certificate has it, must allow what the peer does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ExtendedKeyUsage {
    /// clientAuth of callers, serverAuth of called partners.
    #[default]
    Require,
    /// Not looked at.
    Ignore,
}

/// How strictly RFC 5024 is held against a partner's messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Conformance {
    /// What working partners are known to do is tolerated and told.
    #[default]
    Standard,
    /// Word by word.
    Strict,
}
