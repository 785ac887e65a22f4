//! The judgement itself, in its order: read, trust (pin or chain), which partner, where from, usage, revocation.

use std::net::IpAddr;

use rustls_pki_types::{CertificateDer, UnixTime};
use serde::{Deserialize, Serialize};

use crate::certificate::Certificate;
use crate::chain::{self, Path};
use crate::der;
use crate::facts::{self, CertificateFacts};
use crate::key::{KeyFault, KeyKind};
use crate::name::Name;
use crate::policy::{ExtendedKeyUsage, PartnerView, Policy, Revocation};
use crate::refusal::{ChainRule, Part, Refusal, Shown};
use crate::revocation::index::{self, Standing};
use crate::verified::{CrlPoint, Found, Trust, Unsure, VerifiedPartner};

/// Most certificates of a chain that are looked at. Six CAs can be in one chain; some partners send all they have.
pub(crate) const MOST_CERTIFICATES: usize = 16;
/// Most octets of a chain. A TLS message of certificates holds no more.
pub(crate) const MOST_OCTETS: usize = 65_536;

/// Most CRL distribution points told of one chain: what the Seon API takes at once.
const MOST_CRL_POINTS: usize = 64;

const CLIENT_AUTH: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x02];
const SERVER_AUTH: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x01];

/// Which end of the TLS connection the peer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Direction {
    /// It came to us: TLS client, clientAuth.
    Caller,
    /// We went to it: TLS server, serverAuth.
    Called,
}

/// Who the peer is to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer<'a> {
    /// It came to us.
    Caller,
    /// We called this partner; its `server_name` is checked where it has one, its `allow_from` is not.
    Called {
        /// Its name in the policy.
        partner: &'a str,
    },
}

impl Peer<'_> {
    /// Which end of the TLS connection it is.
    pub const fn direction(&self) -> Direction {
        match self {
            Self::Caller => Direction::Caller,
            Self::Called { .. } => Direction::Called,
        }
    }
}

/// Everything that a peer showed.
#[derive(Debug, Clone, Copy)]
pub struct Presented<'a> {
    /// Its certificates as they came, its own first.
    pub chain: &'a [CertificateDer<'a>],
    /// Who it is to us.
    pub peer: Peer<'a>,
}

/// The times of a judgement.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    /// Certificates and CRLs must not have ended before.
    pub(crate) valid_at: UnixTime,
    /// CRLs must have begun.
    pub(crate) now: UnixTime,
}

/// Judges a peer at the start of a session. `source` is the peer's address.
///
/// # Errors
/// The reason why it may not have one.
pub fn judge(
    presented: Presented<'_>,
    policy: &Policy<'_>,
    now: UnixTime,
    source: IpAddr,
) -> Result<VerifiedPartner, Refusal> {
    judge_at(presented, policy, Clock { valid_at: now, now }, source)
}

/// Judges a peer again in the middle of its session, by a new policy. What ended meanwhile only because time went on
/// (certificate, anchor, CRL) still stands as it did when the session was `established`.
///
/// # Errors
/// The reason why the session may not go on.
pub fn judge_again(
    presented: Presented<'_>,
    policy: &Policy<'_>,
    established: UnixTime,
    now: UnixTime,
    source: IpAddr,
) -> Result<VerifiedPartner, Refusal> {
    judge_at(presented, policy, Clock { valid_at: established, now }, source)
}

fn judge_at(
    presented: Presented<'_>,
    policy: &Policy<'_>,
    clock: Clock,
    source: IpAddr,
) -> Result<VerifiedPartner, Refusal> {
    let case = Case::open(presented, policy, clock, source)?;
    let pinned = policy.is_pinned(&case.facts.fingerprint);
    if pinned && policy.partner_of_certificate(&case.facts.fingerprint).is_some() {
        return case.by_pin();
    }
    // A pinned certificate that no partner lists may still be a partner's by a chain. What was said of that partner stands;
    // without one it is trusted, and nobody's.
    match case.by_chain() {
        Err(refusal) if pinned && !refusal.is_of_a_partner() => case.by_pin(),
        judged => judged,
    }
}

/// One peer under one policy.
pub(crate) struct Case<'a> {
    pub(crate) presented: Presented<'a>,
    pub(crate) policy: &'a Policy<'a>,
    pub(crate) clock: Clock,
    pub(crate) end_entity: Certificate<'a>,
    pub(crate) source: IpAddr,
    pub(crate) facts: CertificateFacts,
}

impl<'a> Case<'a> {
    fn open(presented: Presented<'a>, policy: &'a Policy<'a>, clock: Clock, source: IpAddr) -> Result<Self, Refusal> {
        let first = presented.chain.first().ok_or(Refusal::CertificateMissing)?;
        let (certificates, octets) = (presented.chain.len(), presented.chain.iter().map(|der| der.len()).sum());
        if certificates > MOST_CERTIFICATES || octets > MOST_OCTETS {
            return Err(Refusal::ChainTooLong { certificates, octets });
        }
        // Tolerated: what comes behind and cannot be read. It is no part of any chain then.
        let unreadable = |what: &str| Refusal::CertificateUnreadable { position: 0, what: what.to_owned() };
        let end_entity = Certificate::read(first).map_err(|malformed| unreadable(malformed.0))?;
        let facts = CertificateFacts::read(first).map_err(|error| unreadable(error.0))?;
        Ok(Self { presented, policy, clock, end_entity, source, facts })
    }

    /// Trust by the very certificate: whatever version, CA or not, whoever issued it. CRLs of anchors revoke it. Those of
    /// other CAs do not: they are proven by what the peer shows beside its certificate, which it could leave out.
    fn by_pin(&self) -> Result<VerifiedPartner, Refusal> {
        self.check_end_entity()?;
        let partner = match self.policy.partner_of_certificate(&self.facts.fingerprint) {
            Some(index) => Some(self.policy.partner(index).ok_or(Refusal::PolicyUnreadable)?),
            None => None,
        };
        let partner = self.admitted(partner, None)?;
        if self.revocation(partner) != Revocation::Off
            && let Standing::Revoked { since, reason } =
                index::standing(self.policy, &self.end_entity, None, self.clock).ok_or(Refusal::PolicyUnreadable)?
        {
            return Err(Refusal::CertificateRevoked {
                certificate: self.shown(),
                issuer: self.facts.issuer.clone(),
                since,
                reason,
            });
        }
        let facts = self.facts.clone();
        let crl_points = crl_points([&facts]);
        Ok(Found { partner, facts, trust: Trust::Pin, unsure: Vec::new(), crl_points }.into())
    }

    /// Trust by a chain to an anchor.
    fn by_chain(&self) -> Result<VerifiedPartner, Refusal> {
        let not_pinned = || Refusal::NotPinned { certificate: self.shown() };
        if !self.policy.has_anchors() {
            return Err(not_pinned());
        }
        if self.end_entity.is_self_issued() && self.policy.anchors_named(self.end_entity.issuer).next().is_none() {
            return Err(not_pinned());
        }
        if self.end_entity.is_ca() {
            return Err(Refusal::CaAsEndEntity { certificate: self.shown() });
        }
        self.check_end_entity()?;
        if self.end_entity.version != 3 {
            return Err(self.broken(ChainRule::Version(self.end_entity.version)));
        }
        if let Some(identifier) = self.end_entity.extensions.unknown_critical {
            return Err(self.broken(ChainRule::CriticalExtension(der::dotted(identifier))));
        }
        chain::build(self)
    }

    /// Judges one way from the peer's certificate to an anchor. All signatures in it are right.
    pub(crate) fn along(&self, path: &Path<'_>) -> Result<VerifiedPartner, Refusal> {
        path.check(self.clock)?;
        let partner = self.admitted(self.partner_by_chain(path)?, Some(path))?;
        if partner.map(|partner| partner.extended_key_usage()).unwrap_or_default() == ExtendedKeyUsage::Require {
            self.check_purpose(path)?;
        }
        let unsure = self.check_revocation(path, self.revocation(partner))?;
        let above: Vec<_> = path.shown_above().filter_map(|der| CertificateFacts::read(der).ok()).collect();
        let facts = self.facts.clone();
        let crl_points = crl_points(std::iter::once(&facts).chain(&above));
        Ok(Found { partner, facts, trust: Trust::Anchor(path.anchor.fingerprint), unsure, crl_points }.into())
    }

    /// What holds for pin and chain alike: validity, key, keyUsage.
    fn check_end_entity(&self) -> Result<(), Refusal> {
        check_validity(&self.end_entity, self.clock.valid_at, || self.shown())?;
        check_key(&self.end_entity.key(), || self.shown())?;
        // RFC 8446, 4.4.2.2: where there is a keyUsage, it must include digitalSignature.
        if self.end_entity.extensions.key_usage.is_some_and(|usage| !usage.digital_signature()) {
            return Err(Refusal::KeyUsage { certificate: self.shown(), needed: "digitalSignature" });
        }
        Ok(())
    }

    fn check_purpose(&self, path: &Path<'_>) -> Result<(), Refusal> {
        let (purpose, needed) = match self.presented.peer.direction() {
            Direction::Caller => (CLIENT_AUTH, "clientAuth"),
            Direction::Called => (SERVER_AUTH, "serverAuth"),
        };
        for (certificate, part) in path.certificates() {
            let shown = || shown(certificate, part);
            match certificate.extensions.allows_purpose(purpose) {
                Ok(None | Some(true)) => {}
                Ok(Some(false)) => return Err(Refusal::ExtendedKeyUsage { certificate: shown(), needed }),
                Err(malformed) => {
                    let rule = ChainRule::Other(format!("{} cannot be read", malformed.0));
                    return Err(Refusal::ChainInvalid { certificate: shown(), rule });
                }
            }
        }
        Ok(())
    }

    fn revocation(&self, partner: Option<PartnerView<'_>>) -> Revocation {
        partner.map_or(self.policy.revocation(), |partner| partner.revocation())
    }

    /// Every certificate below the anchor.
    fn check_revocation(&self, path: &Path<'_>, rule: Revocation) -> Result<Vec<Unsure>, Refusal> {
        let mut unsure = Vec::new();
        if rule == Revocation::Off {
            return Ok(unsure);
        }
        for (certificate, part, issuer) in path.issued() {
            let standing = index::standing(self.policy, certificate, Some(issuer), self.clock);
            let shown = || shown(certificate, part);
            let issuer = Name::read(certificate.issuer).map(|name| name.display()).unwrap_or_default();
            match (standing.ok_or(Refusal::PolicyUnreadable)?, rule) {
                (Standing::Clear, _) => {}
                (Standing::Revoked { since, reason }, _) => {
                    return Err(Refusal::CertificateRevoked { certificate: shown(), issuer, since, reason });
                }
                (Standing::Missing { signer_not_allowed }, Revocation::Require) => {
                    return Err(Refusal::CrlMissing { certificate: shown(), issuer, signer_not_allowed });
                }
                (Standing::Expired { next_update }, Revocation::Require) => {
                    return Err(Refusal::CrlExpired { certificate: shown(), issuer, next_update });
                }
                (Standing::Missing { .. }, _) => unsure.push(Unsure::CrlMissing { issuer }),
                (Standing::Expired { next_update }, _) => unsure.push(Unsure::CrlExpired { issuer, next_update }),
            }
        }
        Ok(unsure)
    }

    pub(crate) fn shown(&self) -> Shown {
        shown(&self.end_entity, Part::EndEntity)
    }

    pub(crate) fn broken(&self, rule: ChainRule) -> Refusal {
        Refusal::ChainInvalid { certificate: self.shown(), rule }
    }
}

fn crl_points<'a>(chain: impl IntoIterator<Item = &'a CertificateFacts>) -> Vec<CrlPoint> {
    let of = |facts: &'a CertificateFacts| {
        let (certificate, issuer) = (facts.fingerprint, &facts.issuer);
        facts.crl_urls().map(move |url| CrlPoint { url: url.to_owned(), certificate, issuer: issuer.clone() })
    };
    chain.into_iter().flat_map(of).take(MOST_CRL_POINTS).collect()
}

pub(crate) fn shown(certificate: &Certificate<'_>, part: Part) -> Shown {
    Shown {
        part,
        subject: Name::read(certificate.subject).map(|name| name.display()).unwrap_or_default(),
        serial: facts::serial(certificate.serial),
    }
}

pub(crate) fn check_validity(
    certificate: &Certificate<'_>,
    now: UnixTime,
    shown: impl FnOnce() -> Shown,
) -> Result<(), Refusal> {
    let (not_before, not_after) = (certificate.not_before, certificate.not_after);
    if now > not_after {
        return Err(Refusal::CertificateExpired { certificate: shown(), not_after, now });
    }
    if now < not_before {
        return Err(Refusal::CertificateNotYetValid { certificate: shown(), not_before, now });
    }
    Ok(())
}

pub(crate) fn check_key(key: &KeyKind, shown: impl FnOnce() -> Shown) -> Result<(), Refusal> {
    match key.check() {
        Ok(()) => Ok(()),
        Err(KeyFault::Weak) => Err(Refusal::KeyTooWeak { certificate: shown(), key: key.clone() }),
        Err(KeyFault::Unsupported) => Err(Refusal::KeyUnsupported { certificate: shown(), key: key.clone() }),
    }
}
