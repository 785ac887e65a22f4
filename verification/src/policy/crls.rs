//! The CRLs of a policy: each is judged alone, and of several for the same certificates the newest counts.

use rustls_pki_types::UnixTime;

use super::compile::{Anchor, LeftOutCrl, PolicyError, PolicyFault, at};
use super::image::Writer;
use crate::expiry::Expiry;
use crate::fingerprint::{Fingerprint, sha256};
use crate::name::Name;
use crate::revocation::crl::Crl;
use crate::revocation::{CrlFault, index};
use crate::signature;

/// A CRL that is good by itself.
struct Good<'a> {
    index: usize,
    fingerprint: Fingerprint,
    crl: Crl<'a>,
    digested: Vec<u8>,
    key: [u8; 32],
    proven_by: Option<&'a [u8]>,
}

type Revoked = (Vec<LeftOutCrl>, Vec<usize>);

/// Judges each CRL alone, writes those that count, and tells which do not.
pub(crate) fn revoked(
    crls: &[&[u8]],
    anchors: &[Anchor<'_>],
    now: UnixTime,
    writer: &mut Writer,
    expiries: &mut Vec<Expiry>,
) -> Result<Revoked, PolicyError> {
    let mut left_out = Vec::new();
    let mut good: Vec<Good<'_>> = Vec::new();
    for (index, der) in crls.iter().enumerate() {
        let fingerprint = Fingerprint::of(der);
        if good.iter().any(|other| other.fingerprint == fingerprint) {
            continue;
        }
        match judged(der, anchors) {
            Ok((crl, digested, key, proven_by)) => {
                good.push(Good { index, fingerprint, crl, digested, key, proven_by })
            }
            Err(fault) => left_out.push(LeftOutCrl { index, fingerprint, fault }),
        }
    }
    let mut unproven = Vec::new();
    for one in &good {
        let fault = match newer(one, &good, now) {
            Some(by) => Some(CrlFault::Superseded { by }),
            None if one.crl.this_update > now => Some(CrlFault::NotYetValid(one.crl.this_update)),
            None => None,
        };
        if !matches!(fault, Some(CrlFault::Superseded { .. })) {
            if one.proven_by.is_none() {
                unproven.push(one.index);
            }
            // Read a second time here, so that only one table of serials is in memory at once.
            let mut entries: Vec<_> = one.crl.entries().filter_map(Result::ok).collect();
            index::write(writer, &one.crl, &one.digested, &mut entries, one.proven_by)
                .ok_or_else(|| at(format!("crls[{}]", one.index))(PolicyFault::TooLarge))?;
            expiries.extend(Expiry::of_crl(&one.crl, one.fingerprint));
        }
        left_out.extend(fault.map(|fault| LeftOutCrl { index: one.index, fingerprint: one.fingerprint, fault }));
    }
    left_out.sort_by_key(|left_out| left_out.index);
    Ok((left_out, unproven))
}

/// The one that takes its place: newer, already valid, of the same key and for the same certificates.
fn newer(one: &Good<'_>, good: &[Good<'_>], now: UnixTime) -> Option<Fingerprint> {
    let age = |crl: &Good<'_>| (crl.crl.this_update, crl.crl.number.len(), crl.crl.number.to_vec(), crl.fingerprint);
    let same = |other: &&Good<'_>| {
        other.key == one.key
            && other.crl.scope == one.crl.scope
            && other.proven_by.is_some()
            && other.proven_by == one.proven_by
    };
    let newest =
        good.iter().filter(same).filter(|other| other.crl.this_update <= now).max_by_key(|other| age(other))?;
    (age(newest) > age(one)).then_some(newest.fingerprint)
}

type Judged<'a> = (Crl<'a>, Vec<u8>, [u8; 32], Option<&'a [u8]>);

/// Judges a CRL alone.
fn judged<'a>(der: &'a [u8], anchors: &[Anchor<'a>]) -> Result<Judged<'a>, CrlFault> {
    let crl = Crl::read(der)?;
    let name = Name::read(crl.issuer)?;
    let digested = crl.digested()?;
    for entry in crl.entries() {
        entry?;
    }
    let key = sha256(&name.canonical());
    let mut namesakes = anchors.iter().filter(|anchor| anchor.key == Some(key)).peekable();
    let issuer = || name.display();
    if namesakes.peek().is_none() {
        return Ok((crl, digested, key, None));
    }
    let signer = namesakes
        .find(|anchor| signature::verifies(anchor.certificate.spki, crl.algorithm, &digested, crl.signature))
        .ok_or_else(|| CrlFault::SignatureWrong { issuer: issuer() })?;
    // RFC 5280, 4.2.1.3: cRLSign. Several anchors of one key: any of them may allow it.
    let may_sign = |anchor: &Anchor<'_>| {
        anchor.certificate.spki == signer.certificate.spki
            && anchor.certificate.extensions.key_usage.is_none_or(|usage| usage.crl_sign())
    };
    if !anchors.iter().any(|anchor| anchor.key == Some(key) && may_sign(anchor)) {
        return Err(CrlFault::SignerNotAllowed { issuer: issuer() });
    }
    let spki = signer.certificate.spki;
    Ok((crl, digested, key, Some(spki)))
}
