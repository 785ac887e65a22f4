//! Reads one CRL (RFC 5280, 5.1), of version 1 or 2, without building anything of its size but the table of serials.

use rustls_pki_types::UnixTime;

use super::CrlFault;
use super::index::{Entry, names, serial_key};
use crate::certificate;
use crate::der::{self, Malformed, Reader};
use crate::signature;

/// Distinguishing octets of the identifiers below 2.5.29.
const CRL_NUMBER: u8 = 20;
const REASON_CODE: u8 = 21;
const HOLD_INSTRUCTION: u8 = 23;
const INVALIDITY_DATE: u8 = 24;
const DELTA_CRL_INDICATOR: u8 = 27;
const ISSUING_DISTRIBUTION_POINT: u8 = 28;
const CERTIFICATE_ISSUER: u8 = 29;

/// Names of distribution points that are compared: of a CRL's own, and of all of a certificate's. CAs have a handful.
pub(crate) const MOST_POINT_NAMES: usize = 64;

/// A CRL's fields. Nothing is verified yet.
#[derive(Debug, Clone)]
pub(crate) struct Crl<'a> {
    /// Content of the Name.
    pub(crate) issuer: &'a [u8],
    pub(crate) this_update: UnixTime,
    pub(crate) next_update: Option<UnixTime>,
    /// Magnitude of the CRL number, empty where there is none.
    pub(crate) number: &'a [u8],
    pub(crate) scope: Scope<'a>,
    /// Content of the AlgorithmIdentifier.
    pub(crate) algorithm: &'a [u8],
    /// What the signature is over.
    pub(crate) signed: &'a [u8],
    pub(crate) signature: &'a [u8],
    entries: &'a [u8],
}

/// Which certificates of its issuer a CRL speaks for (RFC 5280, 5.2.5).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Scope<'a> {
    pub(crate) only_users: bool,
    pub(crate) only_cas: bool,
    /// GeneralNames of the distribution point: only certificates that name it too.
    pub(crate) point: Option<&'a [u8]>,
}

impl From<Malformed> for CrlFault {
    fn from(malformed: Malformed) -> Self {
        Self::Unreadable(malformed.0)
    }
}

impl<'a> Crl<'a> {
    pub(crate) fn read(der: &'a [u8]) -> Result<Self, CrlFault> {
        let mut list = Reader::new(der::only(der, der::SEQUENCE, "the CRL")?);
        let body = list.element(der::SEQUENCE, "the CRL's body")?;
        let outer_algorithm = list.expect(der::SEQUENCE, "the signature algorithm")?;
        let signature = list.bits("the signature")?;
        list.end("the CRL")?;

        let mut tbs = Reader::new(body.content);
        // RFC 5280, 5.1.2.1 wants version 2. Tolerated: version 1, which simple CAs still make.
        let version_2 = match tbs.optional(der::INTEGER, "the version")? {
            None | Some([0]) => false,
            Some([1]) => true,
            Some(_) => return Err(CrlFault::Unreadable("the version")),
        };
        let algorithm = tbs.expect(der::SEQUENCE, "the signature algorithm")?;
        if algorithm != outer_algorithm {
            return Err(CrlFault::Unreadable("the signature algorithm, which stands there twice and differs"));
        }
        let issuer = tbs.expect(der::SEQUENCE, "the issuer")?;
        let this_update = tbs.time("thisUpdate")?;
        let next_update = if tbs.next_is(der::UTC_TIME) || tbs.next_is(der::GENERALIZED_TIME) {
            Some(tbs.time("nextUpdate")?)
        } else {
            None
        };
        let entries = tbs.optional(der::SEQUENCE, "the revoked certificates")?.unwrap_or_default();
        let extensions = tbs.optional(der::constructed(0), "the extensions")?;
        tbs.end("the CRL's body")?;

        let mut this = Self {
            issuer,
            this_update,
            next_update,
            number: &[],
            scope: Scope::default(),
            algorithm,
            signed: body.whole,
            signature,
            entries,
        };
        match extensions {
            Some(_) if !version_2 => return Err(CrlFault::Unreadable("extensions in a CRL of version 1")),
            Some(extensions) => this.read_extensions(der::only(extensions, der::SEQUENCE, "the extensions")?)?,
            None => {}
        }
        Ok(this)
    }

    fn read_extensions(&mut self, list: &'a [u8]) -> Result<(), CrlFault> {
        let mut list = Reader::new(list);
        let mut point_seen = false;
        while !list.is_empty() {
            let (identifier, critical, value) = certificate::extension(&mut list)?;
            match identifier {
                [0x55, 0x1d, CRL_NUMBER] => {
                    self.number = der::magnitude(der::only(value, der::INTEGER, "the CRL number")?)
                }
                [0x55, 0x1d, DELTA_CRL_INDICATOR] => return Err(CrlFault::Delta),
                [0x55, 0x1d, ISSUING_DISTRIBUTION_POINT] => {
                    if std::mem::replace(&mut point_seen, true) {
                        return Err(CrlFault::Unreadable("an extension that stands there twice"));
                    }
                    self.scope = Scope::read(value)?;
                }
                other if critical => return Err(CrlFault::CriticalExtension(der::dotted(other))),
                _ => {}
            }
        }
        Ok(())
    }

    /// What it revokes, in its own order.
    pub(crate) fn entries(&self) -> impl Iterator<Item = Result<Entry, CrlFault>> + use<'a> {
        let mut entries = Reader::new(self.entries);
        std::iter::from_fn(move || (!entries.is_empty()).then(|| read_entry(&mut entries)))
    }

    /// What is kept to verify the signature later.
    pub(crate) fn digested(&self) -> Result<Vec<u8>, CrlFault> {
        signature::digested(self.algorithm, self.signed)
            .ok_or_else(|| CrlFault::SignatureAlgorithm(signature::name(self.algorithm).0))
    }
}

fn read_entry(entries: &mut Reader<'_>) -> Result<Entry, CrlFault> {
    let mut entry = Reader::new(entries.expect(der::SEQUENCE, "an entry")?);
    let serial = serial_key(entry.expect(der::INTEGER, "an entry's serial number")?);
    let since = entry.time("an entry's revocation date")?;
    let extensions = entry.optional(der::SEQUENCE, "an entry's extensions")?.unwrap_or_default();
    entry.end("an entry")?;
    let mut reason = 0;
    let mut extensions = Reader::new(extensions);
    while !extensions.is_empty() {
        let (identifier, critical, value) = certificate::extension(&mut extensions)?;
        match identifier {
            [0x55, 0x1d, REASON_CODE] => match der::only(value, der::ENUMERATED, "a reason code")? {
                [code] => reason = *code,
                _ => return Err(CrlFault::Unreadable("a reason code")),
            },
            [0x55, 0x1d, CERTIFICATE_ISSUER] => return Err(CrlFault::Indirect),
            [0x55, 0x1d, HOLD_INSTRUCTION | INVALIDITY_DATE] => {}
            other if critical => return Err(CrlFault::CriticalExtension(der::dotted(other))),
            _ => {}
        }
    }
    Ok(Entry { serial, since, reason })
}

impl<'a> Scope<'a> {
    /// IssuingDistributionPoint.
    fn read(value: &'a [u8]) -> Result<Self, CrlFault> {
        const WHAT: &str = "issuingDistributionPoint";
        let mut fields = Reader::new(der::only(value, der::SEQUENCE, WHAT)?);
        let mut scope = Self::default();
        let (mut attributes, mut reasons, mut indirect) = (false, false, false);
        let mut last = None;
        while !fields.is_empty() {
            let field = fields.any(WHAT)?;
            if last.is_some_and(|last| field.tag & 0x1f <= last) {
                return Err(CrlFault::Unreadable(WHAT));
            }
            last = Some(field.tag & 0x1f);
            let flag = || match field.content {
                [0x00] => Ok(false),
                [0xff] => Ok(true),
                _ => Err(CrlFault::Unreadable(WHAT)),
            };
            match field.tag {
                0xa0 => {
                    let mut name = Reader::new(field.content);
                    let full = name.optional(der::constructed(0), WHAT)?.ok_or(CrlFault::Partial)?;
                    if names(full).nth(MOST_POINT_NAMES).is_some() {
                        return Err(CrlFault::Unreadable("issuingDistributionPoint, of more than 64 names"));
                    }
                    scope.point = Some(full);
                    name.end(WHAT)?;
                }
                0x81 => scope.only_users = flag()?,
                0x82 => scope.only_cas = flag()?,
                0x83 => reasons = true,
                0x84 => indirect = flag()?,
                0x85 => attributes = flag()?,
                _ => return Err(CrlFault::Unreadable(WHAT)),
            }
        }
        if indirect {
            return Err(CrlFault::Indirect);
        }
        // Users and CAs only, both at once, is nobody.
        if reasons || attributes || (scope.only_users && scope.only_cas) {
            return Err(CrlFault::Partial);
        }
        Ok(scope)
    }
}
