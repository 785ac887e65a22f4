//! Chains to an anchor. webpki builds them and checks signatures, basic constraints, path lengths, name constraints and
//! critical extensions; each chain that it finds is then judged by our own rules, until one is accepted.

use std::cell::RefCell;

use rustls_pki_types::{CertificateDer, SignatureVerificationAlgorithm, TrustAnchor};
use webpki::{EndEntityCert, ExtendedKeyUsageValidator, KeyPurposeIdIter, VerifiedPath};

use crate::certificate::Certificate;
use crate::der;
use crate::judgement::{Case, Clock, check_key, check_validity, shown};
use crate::key::KeyKind;
use crate::name::Name;
use crate::policy::AnchorView;
use crate::refusal::{ChainRule, Part, Refusal, Shown};
use crate::revocation::index::Issuer;
use crate::signature;
use crate::verified::VerifiedPartner;

/// Most anchors of one name that are tried. Keys are rolled over one by one.
const MOST_ANCHORS: usize = 16;

/// One way from the peer's certificate to an anchor.
pub(crate) struct Path<'a> {
    end_entity: &'a Certificate<'a>,
    /// From the peer's issuer upwards.
    intermediates: Vec<Certificate<'a>>,
    /// The same, as they were shown.
    ders: Vec<&'a [u8]>,
    pub(crate) anchor: AnchorView<'a>,
}

/// Purposes are judged when the partner is known, not while the chain is built.
struct AnyPurpose;

impl ExtendedKeyUsageValidator for AnyPurpose {
    fn validate(&self, _: KeyPurposeIdIter<'_, '_>) -> Result<(), webpki::Error> {
        Ok(())
    }
}

/// Finds a chain that every rule accepts.
pub(crate) fn build(case: &Case<'_>) -> Result<VerifiedPartner, Refusal> {
    let chain = case.presented.chain;
    let (first, others) = chain.split_first().ok_or(Refusal::CertificateMissing)?;
    let end_entity = EndEntityCert::try_from(first).map_err(|error| explained(case, &[], &error))?;
    let anchors = candidates(case);
    let trust_anchors: Vec<TrustAnchor<'_>> = anchors.iter().filter_map(AnchorView::trust_anchor).collect();
    if trust_anchors.len() != anchors.len() {
        return Err(Refusal::PolicyUnreadable);
    }

    let accepted = RefCell::new(None);
    let refused: RefCell<Option<Refusal>> = RefCell::new(None);
    let along = |found: &VerifiedPath<'_>| -> Result<(), webpki::Error> {
        match path(case, found, &trust_anchors, &anchors).and_then(|path| case.along(&path)) {
            Ok(verified) => {
                accepted.replace(Some(verified));
                Ok(())
            }
            Err(refusal) => {
                // Of several ways the one that led to a partner tells most.
                let mut refused = refused.borrow_mut();
                if refused.as_ref().is_none_or(|earlier| matches!(earlier, Refusal::PartnerUnknown { .. })) {
                    *refused = Some(refusal);
                }
                Err(webpki::Error::UnknownIssuer)
            }
        }
    };
    let algorithms = rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms.all;
    let remembering = case.policy.known().map(|known| known.before(algorithms)).unwrap_or_default();
    let remembering: Vec<_> =
        remembering.iter().map(|algorithm| algorithm as &dyn SignatureVerificationAlgorithm).collect();
    let verified = end_entity.verify_for_usage(
        if remembering.is_empty() { algorithms } else { &remembering },
        &trust_anchors,
        others,
        case.clock.valid_at,
        AnyPurpose,
        None,
        Some(&along),
    );
    match (verified.map(drop), accepted.take(), refused.take()) {
        (Ok(()), Some(verified), _) => Ok(verified),
        (Ok(()), None, _) => Err(Refusal::PolicyUnreadable),
        (Err(_), _, Some(refusal)) => Err(refusal),
        (Err(error), ..) => Err(explained(case, &anchors, &error)),
    }
}

/// The anchors that issued one of the certificates shown, by name.
fn candidates<'a>(case: &Case<'a>) -> Vec<AnchorView<'a>> {
    let mut anchors: Vec<AnchorView<'_>> = Vec::new();
    for certificate in shown_certificates(case) {
        if anchors.iter().any(|anchor| anchor.subject == certificate.issuer) {
            continue;
        }
        anchors.extend(case.policy.anchors_named(certificate.issuer).take(MOST_ANCHORS));
    }
    anchors
}

fn shown_certificates<'a>(case: &Case<'a>) -> impl Iterator<Item = Certificate<'a>> + use<'a> {
    case.presented.chain.iter().filter_map(|der| Certificate::read(der).ok())
}

/// The path that webpki found, with our own reading of its certificates.
fn path<'a>(
    case: &'a Case<'_>,
    found: &VerifiedPath<'_>,
    trust_anchors: &[TrustAnchor<'_>],
    anchors: &[AnchorView<'a>],
) -> Result<Path<'a>, Refusal> {
    let (mut intermediates, mut ders) = (Vec::new(), Vec::new());
    for intermediate in found.intermediate_certificates() {
        let der = intermediate.der();
        let ours = case.presented.chain.iter().find(|shown| **shown == der);
        let ours = ours.and_then(|der: &CertificateDer<'_>| Some((Certificate::read(der).ok()?, der.as_ref())));
        let unreadable = || case.broken(ChainRule::Other("its chain cannot be read".to_owned()));
        let (certificate, der) = ours.ok_or_else(unreadable)?;
        intermediates.push(certificate);
        ders.push(der);
    }
    let anchor = trust_anchors.iter().position(|anchor| std::ptr::eq(anchor, found.anchor()));
    let anchor = anchor.and_then(|index| anchors.get(index)).ok_or(Refusal::PolicyUnreadable)?;
    Ok(Path { end_entity: &case.end_entity, intermediates, ders, anchor: *anchor })
}

impl<'a> Path<'a> {
    /// The certificates below the anchor, the peer's own first.
    pub(crate) fn certificates(&self) -> impl Iterator<Item = (&Certificate<'a>, Part)> {
        let intermediates = self.intermediates.iter().map(|certificate| (certificate, Part::Intermediate));
        std::iter::once((self.end_entity, Part::EndEntity)).chain(intermediates)
    }

    /// The DER forms of the CAs between the peer's own certificate and the anchor.
    pub(crate) fn shown_above(&self) -> impl Iterator<Item = &'a [u8]> {
        self.ders.iter().copied()
    }

    /// The certificates below the anchor, each with its issuer.
    pub(crate) fn issued(&self) -> impl Iterator<Item = (&Certificate<'a>, Part, Issuer<'_>)> {
        let issuers = self.intermediates.iter().map(|issuer| Issuer {
            spki: issuer.spki,
            may_sign_crls: issuer.extensions.key_usage.is_none_or(|usage| usage.crl_sign()),
        });
        let anchor = Issuer { spki: self.anchor.spki, may_sign_crls: true };
        self.certificates()
            .zip(issuers.chain(std::iter::once(anchor)))
            .map(|((certificate, part), issuer)| (certificate, part, issuer))
    }

    /// What webpki leaves open: strength of keys, keyUsage of CAs, and of the anchor its path length and validity. RFC 5280,
    /// 6.2 leaves those of an anchor to us: what its certificate denies, nobody has in it.
    pub(crate) fn check(&self, clock: Clock) -> Result<(), Refusal> {
        for (certificate, part) in self.certificates().skip(1) {
            let shown = || shown(certificate, part);
            check_key(&certificate.key(), shown)?;
            if let Some(identifier) = certificate.extensions.unknown_critical {
                let rule = ChainRule::CriticalExtension(der::dotted(identifier));
                return Err(Refusal::ChainInvalid { certificate: shown(), rule });
            }
            // RFC 5280, 4.2.1.3: keyCertSign.
            if certificate.extensions.key_usage.is_some_and(|usage| !usage.key_cert_sign()) {
                return Err(Refusal::KeyUsage { certificate: shown(), needed: "keyCertSign" });
            }
        }
        let AnchorView { not_before, not_after, path_length, .. } = self.anchor;
        if path_length != u8::MAX && self.intermediates.len() > usize::from(path_length) {
            let certificate = shown(self.end_entity, Part::EndEntity);
            return Err(Refusal::ChainInvalid { certificate, rule: ChainRule::PathLength });
        }
        check_key(&KeyKind::of(self.anchor.spki), || anchor_shown(&self.anchor))?;
        let now = clock.valid_at;
        if now > not_after {
            return Err(Refusal::CertificateExpired { certificate: anchor_shown(&self.anchor), not_after, now });
        }
        if now < not_before {
            return Err(Refusal::CertificateNotYetValid { certificate: anchor_shown(&self.anchor), not_before, now });
        }
        Ok(())
    }
}

fn anchor_shown(anchor: &AnchorView<'_>) -> Shown {
    let subject = Name::read(anchor.subject).map(|name| name.display()).unwrap_or_default();
    Shown { part: Part::Anchor, subject, serial: String::new() }
}

/// webpki's reason, with the names and numbers it leaves out.
fn explained(case: &Case<'_>, anchors: &[AnchorView<'_>], error: &webpki::Error) -> Refusal {
    use webpki::Error as E;
    if let Some(refusal) = plainer(case, anchors, error) {
        return refusal;
    }
    match error {
        E::UnknownIssuer => unreadable(case)
            .unwrap_or_else(|| Refusal::IssuerUnknown { certificate: case.shown(), issuer: missing_issuer(case) }),
        E::InvalidSignatureForPublicKey | E::UnsupportedSignatureAlgorithmForPublicKeyContext(_) => {
            Refusal::SignatureWrong { certificate: case.shown() }
        }
        E::CaUsedAsEndEntity => Refusal::CaAsEndEntity { certificate: case.shown() },
        E::EndEntityUsedAsCa => case.broken(ChainRule::IssuerNotCa),
        E::PathLenConstraintViolated => case.broken(ChainRule::PathLength),
        E::NameConstraintViolation | E::MalformedNameConstraint | E::InvalidNetworkMaskConstraint => {
            case.broken(ChainRule::NameConstraints)
        }
        E::MaximumPathBuildCallsExceeded
        | E::MaximumPathDepthExceeded
        | E::MaximumSignatureChecksExceeded
        | E::MaximumNameConstraintComparisonsExceeded => case.broken(ChainRule::TooComplex),
        other => unreadable(case).unwrap_or_else(|| {
            case.broken(ChainRule::Other(format!("a certificate of its chain is malformed ({other})")))
        }),
    }
}

/// Some reasons are seen better in what was shown than in what webpki says: weak keys and hashes look like wrong
/// signatures to it, and it does not tell which certificate expired.
fn plainer(case: &Case<'_>, anchors: &[AnchorView<'_>], error: &webpki::Error) -> Option<Refusal> {
    use webpki::Error as E;
    let certificates = || {
        shown_certificates(case)
            .enumerate()
            .map(|(index, certificate)| (certificate, if index == 0 { Part::EndEntity } else { Part::Intermediate }))
    };
    match error {
        E::CertExpired { .. } | E::CertNotValidYet { .. } | E::InvalidCertValidity => {
            certificates().find_map(|(certificate, part)| {
                check_validity(&certificate, case.clock.valid_at, || shown(&certificate, part)).err()
            })
        }
        E::InvalidSignatureForPublicKey
        | E::UnsupportedSignatureAlgorithmContext(_)
        | E::UnsupportedSignatureAlgorithmForPublicKeyContext(_) => {
            let weak_key = certificates()
                .find_map(|(certificate, part)| check_key(&certificate.key(), || shown(&certificate, part)).err());
            let weak_anchor = || {
                anchors.iter().find_map(|anchor| check_key(&KeyKind::of(anchor.spki), || anchor_shown(anchor)).err())
            };
            let algorithm = || {
                certificates().find_map(|(certificate, part)| {
                    let unsupported = signature::digested(certificate.signature_algorithm, &[]).is_none();
                    // A root that was sent along signs itself, which nobody looks at.
                    (unsupported && !(certificate.is_self_issued() && part == Part::Intermediate)).then(|| {
                        let (algorithm, weak) = signature::name(certificate.signature_algorithm);
                        Refusal::SignatureAlgorithm { certificate: shown(&certificate, part), algorithm, weak }
                    })
                })
            };
            weak_key.or_else(weak_anchor).or_else(algorithm)
        }
        E::UnsupportedCertVersion => {
            certificates().find(|(certificate, _)| certificate.version != 3).map(|(certificate, part)| {
                Refusal::ChainInvalid {
                    certificate: shown(&certificate, part),
                    rule: ChainRule::Version(certificate.version),
                }
            })
        }
        E::UnsupportedCriticalExtension => certificates().find_map(|(certificate, part)| {
            let identifier = certificate.extensions.unknown_critical?;
            let rule = ChainRule::CriticalExtension(der::dotted(identifier));
            Some(Refusal::ChainInvalid { certificate: shown(&certificate, part), rule })
        }),
        _ => None,
    }
}

/// A certificate that was sent along and might have been the missing one.
fn unreadable(case: &Case<'_>) -> Option<Refusal> {
    case.presented.chain.iter().enumerate().find_map(|(position, der)| {
        let malformed = Certificate::read(der).err()?;
        Some(Refusal::CertificateUnreadable { position, what: malformed.0.to_owned() })
    })
}

/// Follows the names upwards to the issuer that nobody is.
fn missing_issuer(case: &Case<'_>) -> String {
    let mut issuer = case.end_entity.issuer;
    for _ in case.presented.chain {
        let next =
            shown_certificates(case).find(|certificate| certificate.subject == issuer && !certificate.is_self_issued());
        match next {
            Some(certificate) => issuer = certificate.issuer,
            None => break,
        }
    }
    Name::read(issuer).map(|name| name.display()).unwrap_or_default()
}
