//! The CRLs of a policy: each is judged alone, and of several for the same certificates the newest counts. All together have a
//! bound, as partners' CAs decide how large they are.

use rustls_pki_types::UnixTime;

use super::compile::{Anchor, LeftOutCrl, PolicyError, PolicyFault, at};
use super::image::Writer;
use crate::expiry::Expiry;
use crate::fingerprint::{Fingerprint, sha256};
use crate::name::Name;
use crate::revocation::crl::Crl;
use crate::revocation::{CrlFault, index};
use crate::signature;

/// Octets of a message that are kept to prove a CRL later: more than any digest.
pub(crate) const LARGEST_KEPT: usize = 1 << 20;

/// A CRL that is good by itself.
struct Good<'a> {
    index: usize,
    fingerprint: Fingerprint,
    judged: Judged<'a>,
    /// Octets that it takes in the image, about.
    size: usize,
}

/// What is known of a CRL alone.
struct Judged<'a> {
    crl: Crl<'a>,
    entries: usize,
    digested: Vec<u8>,
    key: [u8; 32],
    proven_by: Option<&'a [u8]>,
    /// It counts in part.
    doubt: Option<CrlFault>,
}

type Revoked = (Vec<LeftOutCrl>, Vec<usize>);

/// Judges each CRL alone, writes those that count, and tells which do not, or only in part. `room` is what all may take in
/// octets.
pub(crate) fn revoked(
    crls: &[&[u8]],
    anchors: &[Anchor<'_>],
    now: UnixTime,
    room: usize,
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
            Ok(judged) => {
                let size = index::size(&judged.crl, judged.kept(), judged.entries);
                good.push(Good { index, fingerprint, judged, size });
            }
            Err(fault) => left_out.push(LeftOutCrl { index, fingerprint, fault }),
        }
    }
    // Whatever the order in which they came, each side of the link finds the same room for the same ones.
    good.sort_by_key(|one| (one.judged.proven_by.is_none(), one.size, one.fingerprint));
    let (mut taken, mut unproven) = (0, Vec::new());
    for one in &good {
        let mut tell = |fault| left_out.push(LeftOutCrl { index: one.index, fingerprint: one.fingerprint, fault });
        if let Some(by) = newer(one, &good, now) {
            tell(CrlFault::Superseded { by });
            continue;
        }
        if one.size > room - taken {
            tell(CrlFault::NoRoom { octets: one.size, room });
            continue;
        }
        taken += one.size;
        let Judged { crl, digested, proven_by, doubt, .. } = &one.judged;
        if proven_by.is_none() {
            unproven.push(one.index);
        }
        // Read a second time here, so that only one table of serials is in memory at once.
        let mut entries: Vec<_> = crl.entries().filter_map(Result::ok).collect();
        index::write(writer, crl, digested, &mut entries, *proven_by)
            .ok_or_else(|| at(format!("crls[{}]", one.index))(PolicyFault::TooLarge))?;
        expiries.extend(Expiry::of_crl(crl, one.fingerprint));
        doubt.iter().cloned().for_each(&mut tell);
        if crl.this_update > now {
            tell(CrlFault::NotYetValid(crl.this_update));
        }
    }
    left_out.sort_by_key(|left_out| left_out.index);
    unproven.sort_unstable();
    Ok((left_out, unproven))
}

/// The one that takes its place: newer, already valid, of the same key and for the same certificates.
fn newer(one: &Good<'_>, good: &[Good<'_>], now: UnixTime) -> Option<Fingerprint> {
    let age = |one: &Good<'_>| {
        let crl = &one.judged.crl;
        (crl.this_update, crl.number.len(), crl.number.to_vec(), one.fingerprint)
    };
    let same = |other: &&Good<'_>| {
        let (one, other) = (&one.judged, &other.judged);
        other.key == one.key
            && other.crl.scope == one.crl.scope
            && other.proven_by.is_some()
            && other.proven_by == one.proven_by
    };
    let valid = |other: &&Good<'_>| other.judged.crl.this_update <= now;
    let newest = good.iter().filter(same).filter(valid).max_by_key(|other| age(other))?;
    (age(newest) > age(one)).then_some(newest.fingerprint)
}

impl Judged<'_> {
    /// What is kept to prove it later.
    fn kept(&self) -> &[u8] {
        if self.proven_by.is_some() { &[] } else { &self.digested }
    }
}

/// Judges a CRL alone.
fn judged<'a>(der: &'a [u8], anchors: &[Anchor<'a>]) -> Result<Judged<'a>, CrlFault> {
    let crl = Crl::read(der)?;
    let name = Name::read(crl.issuer)?;
    let digested = crl.digested()?;
    let mut entries = 0;
    for entry in crl.entries() {
        entry?;
        entries += 1;
    }
    let key = sha256(&name.canonical());
    let issuer = || name.display();
    let mut namesakes = anchors.iter().filter(|anchor| anchor.key == Some(key)).peekable();
    let has_namesakes = namesakes.peek().is_some();
    let signer =
        namesakes.find(|anchor| signature::verifies(anchor.certificate.spki, crl.algorithm, &digested, crl.signature));
    let Some(signer) = signer else {
        if digested.len() > LARGEST_KEPT {
            return Err(CrlFault::TooLargeToProve { octets: digested.len() });
        }
        let doubt = has_namesakes.then(|| CrlFault::SignatureWrong { issuer: issuer() });
        return Ok(Judged { crl, entries, digested, key, proven_by: None, doubt });
    };
    // RFC 5280, 4.2.1.3: cRLSign. Several anchors of one key: any of them may allow it.
    let may_sign = |anchor: &Anchor<'_>| {
        anchor.certificate.spki == signer.certificate.spki
            && anchor.certificate.extensions.key_usage.is_none_or(|usage| usage.crl_sign())
    };
    if !anchors.iter().any(|anchor| anchor.key == Some(key) && may_sign(anchor)) {
        return Err(CrlFault::SignerNotAllowed { issuer: issuer() });
    }
    let spki = signer.certificate.spki;
    Ok(Judged { crl, entries, digested, key, proven_by: Some(spki), doubt: None })
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, CertificateRevocationListParams, Issuer, KeyPair, SerialNumber};

    use super::*;
    use crate::fingerprint::Fingerprint;

    /// A CRL of so many entries.
    fn crl(issuer: &Issuer<'_, KeyPair>, entries: u64) -> Vec<u8> {
        let date = rcgen::date_time_ymd;
        let entry = |serial: u64| rcgen::RevokedCertParams {
            serial_number: SerialNumber::from(serial + 1),
            revocation_time: date(2026, 5, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: date(2026, 5, 1),
            next_update: date(2026, 7, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: (0..entries).map(entry).collect(),
            key_identifier_method: rcgen::KeyIdMethod::Sha256,
        };
        params.signed_by(issuer).unwrap().der().to_vec()
    }

    #[test]
    fn where_there_is_no_room_for_all_the_smallest_are_kept_and_proven_ones_before() {
        let ca = |name: &str| {
            let mut params = CertificateParams::default();
            params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
            params.distinguished_name.push(rcgen::DnType::CommonName, name);
            let key = KeyPair::generate().unwrap();
            let der = params.self_signed(&key).unwrap().der().to_vec();
            (Issuer::new(params, key), der)
        };
        let ((anchor, der), (other, _)) = (ca("anchor"), ca("other"));
        let certificate = crate::certificate::Certificate::read(&der).unwrap();
        let key = index::issuer_key(certificate.subject);
        let anchors = [Anchor { fingerprint: Fingerprint::of(&der), certificate, key }];
        let ders = [crl(&other, 10), crl(&other, 400), crl(&anchor, 300), crl(&other, 20)];
        let kept = |order: [usize; 4]| {
            let crls = order.map(|index| ders[index].as_slice());
            let mut writer = Writer::default();
            let empty = writer.size();
            let now = UnixTime::since_unix_epoch(std::time::Duration::from_secs(1_780_000_000));
            let room = 300 * 25 + 30 * 25 + 3000;
            let (left_out, unproven) = revoked(&crls, &anchors, now, room, &mut writer, &mut Vec::new()).unwrap();
            assert!(writer.size() - empty <= room, "{} octets", writer.size() - empty);
            let [LeftOutCrl { index, fault: CrlFault::NoRoom { octets, room: told }, .. }] = left_out.as_slice() else {
                panic!("{left_out:?}")
            };
            assert!(*octets > 400 * 25 && *told == room);
            (order[*index], unproven.len())
        };
        assert_eq!(kept([0, 1, 2, 3]), (1, 2));
        assert_eq!(kept([3, 2, 1, 0]), (1, 2), "in whatever order they come");
    }
}
