//! The CRLs of an image: found by issuer, newest first, with sorted serial numbers.
//!
//! A CRL whose issuer is an anchor is proven when it is compiled. One of an issuer that is not known yet, which a partner's
//! chain may show as an intermediate, keeps its digest and signature and is proven by that chain's key each time.

use std::cmp::Ordering;

use rustls_pki_types::UnixTime;

use super::RevocationReason;
use super::crl::{Crl, MOST_POINT_NAMES, Scope};
use crate::certificate::Certificate;
use crate::der::{self, Reader};
use crate::fingerprint::sha256;
use crate::judgement::Clock;
use crate::name::Name;
use crate::policy::{Fields, Policy, Record, Reference, Section, Table, Writer};
use crate::signature;

/// Width of a serial number's key: RFC 5280, 4.1.2.2 allows 20 octets. Longer ones are known by a hash.
const SERIAL: usize = 20;
const NUMBER: usize = 20;
const ENTRY: usize = SERIAL + 4 + 1;
const KEY: usize = 32;
const CRL_ROW: usize = KEY + 8 + NUMBER + 32 + 1 + 8 + 5 * 12;

/// Signatures of unproven CRLs that one certificate may cost. As many as there can be CRLs (`proxylink::snapshot::MOST_CRLS`): whoever
/// makes CRLs under another issuer's name costs it time, but cannot hide its own CRL.
const MOST_PROOFS: usize = 1024;

const ONLY_USERS: u8 = 1;
const ONLY_CAS: u8 = 2;
const NEXT_UPDATE: u8 = 4;
const NOT_PROVEN: [u8; 32] = [0; 32];

/// One revoked certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Entry {
    pub(crate) serial: [u8; SERIAL],
    pub(crate) since: UnixTime,
    pub(crate) reason: u8,
}

/// A serial number (content of the INTEGER) as it is looked for.
pub(crate) fn serial_key(content: &[u8]) -> [u8; SERIAL] {
    let magnitude = der::magnitude(content);
    padded(magnitude).unwrap_or_else(|| {
        let (key, _) = sha256(magnitude).split_first_chunk().map_or(([0; SERIAL], ()), |(key, _)| (*key, ()));
        key
    })
}

fn padded<const N: usize>(magnitude: &[u8]) -> Option<[u8; N]> {
    let mut out = [0; N];
    let start = N.checked_sub(magnitude.len())?;
    out.get_mut(start..)?.copy_from_slice(magnitude);
    Some(out)
}

/// Key of an issuer: names are compared by RFC 5280, 7.1.
pub(crate) fn issuer_key(name: &[u8]) -> Option<[u8; KEY]> {
    Some(sha256(&Name::read(name).ok()?.canonical()))
}

/// Octets that [`write()`] adds to an image, or a few more.
pub(crate) fn size(crl: &Crl<'_>, digested: &[u8], entries: usize) -> usize {
    let point = crl.scope.point.map_or(0, <[u8]>::len);
    CRL_ROW + point + crl.algorithm.len() + digested.len() + crl.signature.len() + entries.saturating_mul(ENTRY)
}

/// Writes a CRL into the image. `proven_by` is the key (SubjectPublicKeyInfo) that made its signature, if that is known.
/// `None` when it is too large for an image.
pub(crate) fn write(
    writer: &mut Writer,
    crl: &Crl<'_>,
    digested: &[u8],
    entries: &mut [Entry],
    proven_by: Option<&[u8]>,
) -> Option<()> {
    entries.sort_unstable();
    let mut table = Vec::with_capacity(entries.len() * ENTRY);
    for entry in entries.iter() {
        table.extend_from_slice(&entry.serial);
        table.extend_from_slice(&u32::try_from(entry.since.as_secs()).unwrap_or(u32::MAX).to_be_bytes());
        table.push(entry.reason);
    }
    let flags =
        [(crl.scope.only_users, ONLY_USERS), (crl.scope.only_cas, ONLY_CAS), (crl.next_update.is_some(), NEXT_UPDATE)];
    let number = padded::<NUMBER>(crl.number).unwrap_or([0xff; NUMBER]);
    // The newest comes first: later dates and higher numbers sort before earlier and lower ones.
    let mut record = Record::default()
        .octets(&issuer_key(crl.issuer)?)
        .octets(&(u64::MAX - crl.this_update.as_secs()).to_be_bytes())
        .octets(&number.map(|octet| !octet))
        .octets(&proven_by.map_or(NOT_PROVEN, sha256))
        .u8(flags.iter().filter(|(set, _)| *set).fold(0, |flags, (_, bit)| flags | bit))
        .u64(crl.next_update.map_or(0, |next_update| next_update.as_secs()))
        .reference(match crl.scope.point {
            Some(point) => writer.keep(point)?,
            None => Reference::NONE,
        });
    for octets in [crl.algorithm, if proven_by.is_some() { &[] } else { digested }, crl.signature, &table] {
        record = record.reference(writer.keep(octets)?);
    }
    writer.row(Section::Crls, record);
    Some(())
}

/// What the CRLs say of one certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    Revoked {
        since: UnixTime,
        reason: RevocationReason,
    },
    Clear,
    /// The newest CRL does not list it, and is no longer current.
    Expired {
        next_update: Option<UnixTime>,
    },
    /// No CRL. `signer_not_allowed`: there is one, by an issuer that may not sign CRLs.
    Missing {
        signer_not_allowed: bool,
    },
}

/// Who issued a certificate, by the chain.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Issuer<'a> {
    pub(crate) spki: &'a [u8],
    /// Its `keyUsage`, if it has any, includes cRLSign. Anchors were looked at when the policy was compiled.
    pub(crate) may_sign_crls: bool,
}

struct Listed<'a> {
    proven_by: [u8; 32],
    scope: Scope<'a>,
    next_update: Option<UnixTime>,
    algorithm: &'a [u8],
    digested: &'a [u8],
    signature: &'a [u8],
    entries: Table<'a>,
}

/// Whether a certificate is revoked, by the newest CRL of its issuer that speaks for it. Without an issuer (a pinned
/// certificate) only proven CRLs of that name count. `None` when the image cannot be read.
pub(crate) fn standing(
    policy: &Policy<'_>,
    certificate: &Certificate<'_>,
    issuer: Option<Issuer<'_>>,
    clock: Clock,
) -> Option<Standing> {
    let Some(key) = issuer_key(certificate.issuer) else {
        return Some(Standing::Missing { signer_not_allowed: false });
    };
    let issuer_hash = issuer.map(|issuer| sha256(issuer.spki));
    let points = named_points(certificate);
    let mut proofs = 0;
    let mut signer_not_allowed = false;
    for row in policy.crls(CRL_ROW).with_key(&key) {
        let (this_update, listed) = Listed::read(policy, row)?;
        let of_another = listed.proven_by != NOT_PROVEN && issuer_hash.is_some_and(|issuer| issuer != listed.proven_by);
        if this_update > clock.now || of_another || !listed.covers(certificate, &points) {
            continue;
        }
        match issuer {
            _ if listed.proven_by != NOT_PROVEN => {}
            Some(issuer) if proofs < MOST_PROOFS => {
                proofs += 1;
                if !listed.is_proven_by(issuer.spki, policy) {
                    continue;
                }
                if !issuer.may_sign_crls {
                    signer_not_allowed = true;
                    continue;
                }
            }
            _ => continue,
        }
        return listed.standing(certificate, clock);
    }
    Some(Standing::Missing { signer_not_allowed })
}

/// Names of the certificate's distribution points, as many as are compared.
fn named_points<'a>(certificate: &Certificate<'a>) -> Vec<&'a [u8]> {
    certificate.extensions.distribution_point_names().flat_map(names).take(MOST_POINT_NAMES).collect()
}

impl<'a> Listed<'a> {
    fn read(policy: &Policy<'a>, row: &'a [u8]) -> Option<(UnixTime, Self)> {
        let mut row = Fields::new(row);
        let this_update = crate::policy::seconds(u64::MAX - u64::from_be_bytes(row.array()?));
        row.take(NUMBER)?;
        let proven_by = row.array()?;
        let flags = row.u8()?;
        let next_update = row.u64()?;
        let point = row.reference()?;
        let mut octets = || policy.heap(row.reference()?);
        let (algorithm, digested, signature, entries) = (octets()?, octets()?, octets()?, octets()?);
        let scope =
            Scope { only_users: flags & ONLY_USERS != 0, only_cas: flags & ONLY_CAS != 0, point: policy.heap(point) };
        let next_update = (flags & NEXT_UPDATE != 0).then(|| crate::policy::seconds(next_update));
        Some((
            this_update,
            Self { proven_by, scope, next_update, algorithm, digested, signature, entries: Table::new(entries, ENTRY) },
        ))
    }

    /// Whether this key made it. What is remembered is not verified again, be it right or wrong.
    fn is_proven_by(&self, spki: &[u8], policy: &Policy<'_>) -> bool {
        let verifies = || signature::verifies(spki, self.algorithm, self.digested, self.signature);
        match policy.known() {
            Some(known) => known.or_find_out(&[spki, self.algorithm, self.digested, self.signature], verifies),
            None => verifies(),
        }
    }

    /// RFC 5280, 6.3.3 (b). `points` are those of the certificate.
    fn covers(&self, certificate: &Certificate<'_>, points: &[&[u8]]) -> bool {
        let is_ca = certificate.is_ca();
        if (self.scope.only_users && is_ca) || (self.scope.only_cas && !is_ca) {
            return false;
        }
        let Some(point) = self.scope.point else { return true };
        names(point).any(|name| points.contains(&name))
    }

    fn standing(&self, certificate: &Certificate<'_>, clock: Clock) -> Option<Standing> {
        let serial = serial_key(certificate.serial);
        let serial_of = |row: &[u8]| row.get(..SERIAL).map_or(Ordering::Greater, |row| row.cmp(&serial));
        let index = self.entries.first(serial_of);
        if let Some(row) = self.entries.row(index).filter(|row| serial_of(row) == Ordering::Equal) {
            let mut row = Fields::new(row.get(SERIAL..)?);
            let since = crate::policy::seconds(u64::from(u32::from_be_bytes(row.array()?)));
            return Some(Standing::Revoked { since, reason: RevocationReason(row.u8()?) });
        }
        Some(match self.next_update {
            Some(next_update) if clock.valid_at <= next_update => Standing::Clear,
            next_update => Standing::Expired { next_update },
        })
    }
}

/// The names of GeneralNames, each with tag and length.
pub(super) fn names(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut list = Reader::new(list);
    std::iter::from_fn(move || list.any("a general name").ok().map(|name| name.whole))
}
