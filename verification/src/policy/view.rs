//! Reads a compiled policy in place. Nothing is parsed when it is opened; each question costs a binary search.

use std::cmp::Ordering;
use std::net::IpAddr;

use rustls_pki_types::{TrustAnchor, UnixTime};

use super::codes::{CodesUnreadable, holder_of_code};
use super::image::{Fields, Image, ImageError, Reference, Section, Table};
use super::source::{Conformance, ExtendedKeyUsage, Revocation, UnknownPartners};
use crate::address::{Cidr, Position};
use crate::der;
use crate::fingerprint::{Fingerprint, sha256};
use crate::known::KnownSignatures;

/// Widths of the rows.
pub(crate) const PARTNER_KEY_ROW: usize = 32 + 4;
pub(crate) const ANCHOR_ROW: usize = 32 + 32 + 3 * 12 + 2 * 8 + 1;
pub(crate) const PARTNER_ROW: usize = 12 + 1 + 1 + 4 + 6 * 12;
pub(crate) const NETWORK_ROW: usize = 1 + 16 + 16;
pub(crate) const SETTINGS_ROW: usize = 2;

/// Bits of a partner's flags.
pub(crate) const ENABLED: u8 = 1;
pub(crate) const IGNORE_EXTENDED_KEY_USAGE: u8 = 2;
pub(crate) const STRICT: u8 = 4;
pub(crate) const LIMITED: u8 = 8;
pub(crate) const MATCHES_CERTIFICATES: u8 = 16;

/// Bits of the common flags.
pub(crate) const ACCEPT_UNKNOWN: u8 = 1;
pub(crate) const ANY_ADDRESS: u8 = 2;

/// What a key in the table of names is of.
pub(crate) const SUBJECT_KEY: u8 = 0;
pub(crate) const DNS_KEY: u8 = 1;

/// Key of a canonical subject or of a lower-case DNS name.
pub(crate) fn name_key(kind: u8, octets: &[u8]) -> [u8; 32] {
    sha256(&[&[kind], octets].concat())
}

/// A compiled policy, borrowed from its image.
#[derive(Debug, Clone, Copy)]
pub struct Policy<'a> {
    image: Image<'a>,
    settings: Settings,
    known: Option<&'a KnownSignatures>,
}

#[derive(Debug, Clone, Copy)]
struct Settings {
    accept_unknown: bool,
    any_address: bool,
    revocation: Revocation,
}

impl<'a> Policy<'a> {
    /// Opens an image that [`compile`](super::compile) made. Costs the same whatever its size.
    ///
    /// # Errors
    /// When the octets are no image of this version, or are cut short.
    pub fn open(image: &'a [u8]) -> Result<Self, ImageError> {
        let image = Image::open(image)?;
        let mut row = Fields::new(image.table(Section::Settings, SETTINGS_ROW).row(0).unwrap_or_default());
        let (flags, revocation) = row.u8().zip(row.u8()).ok_or(ImageError::Section(Section::Settings as usize))?;
        let settings = Settings {
            accept_unknown: flags & ACCEPT_UNKNOWN != 0,
            any_address: flags & ANY_ADDRESS != 0,
            // What cannot be understood is the stricter one.
            revocation: revocation_of(revocation).unwrap_or(Revocation::Require),
        };
        Ok(Self { image, settings, known: None })
    }

    /// The same, with a judgement that does not verify a certificate's signature twice.
    #[must_use]
    pub const fn remembering(self, known: &'a KnownSignatures) -> Self {
        Self { known: Some(known), ..self }
    }

    /// Signatures that need not be verified again.
    pub(crate) const fn known(&self) -> Option<&'a KnownSignatures> {
        self.known
    }

    /// Whether anybody may come from this address. `false` only when it is certain that every certificate would be
    /// refused from there: then the connection need not be served at all.
    pub fn admits_address(&self, address: IpAddr) -> bool {
        self.settings.any_address || self.prefers_address(address)
    }

    /// Whether the address lies inside some enabled partner's `allow_from`.
    pub fn prefers_address(&self, address: IpAddr) -> bool {
        inside(self.image.table(Section::Networks, NETWORK_ROW), address)
    }

    /// From where enabled partners may come, in words: the first few networks, and how many there are besides. Empty where
    /// there is none.
    pub fn preferred_addresses(&self) -> String {
        listed(self.image.table(Section::Networks, NETWORK_ROW))
    }

    /// What becomes of a trusted certificate that belongs to no partner.
    pub const fn unknown_partners(&self) -> UnknownPartners {
        if self.settings.accept_unknown { UnknownPartners::Accept } else { UnknownPartners::Refuse }
    }

    /// The rule on revocation where a partner has none of its own.
    pub const fn revocation(&self) -> Revocation {
        self.settings.revocation
    }

    /// How many partners there are; the index of the last one is one less.
    pub fn partner_count(&self) -> u32 {
        u32::try_from(self.image.table(Section::Partners, PARTNER_ROW).len()).unwrap_or(u32::MAX)
    }

    /// The partner with this index, which is its place in the configuration.
    pub fn partner(&self, index: u32) -> Option<PartnerView<'a>> {
        let row = self.image.table(Section::Partners, PARTNER_ROW).row(usize::try_from(index).ok()?)?;
        PartnerView::read(*self, index, row)
    }

    /// The partner with this name.
    pub fn partner_named(&self, name: &str) -> Option<PartnerView<'a>> {
        let found =
            self.image.table(Section::PartnerNames, PARTNER_KEY_ROW).with_key(&sha256(name.as_bytes())).next()?;
        self.partner(Fields::new(found).u32()?).filter(|partner| partner.name == name)
    }

    /// All partners, in the configuration's order.
    pub fn partners(&self) -> impl Iterator<Item = PartnerView<'a>> + use<'a> {
        let this = *self;
        (0..this.partner_count()).filter_map(move |index| this.partner(index))
    }

    /// The list of all partners' identification codes, as [`holder_of_code`] reads it.
    pub fn listed_codes(&self) -> &'a [u8] {
        self.image.section(Section::Codes)
    }

    /// The name of a partner that lists this identification code, enabled or not.
    ///
    /// # Errors
    /// As [`holder_of_code`].
    pub fn holder_of_code(&self, code: &str) -> Result<Option<String>, CodesUnreadable> {
        let list = self.listed_codes();
        let read = |from: u64, octets: &mut [u8]| {
            let rest = usize::try_from(from).ok().and_then(|from| list.get(from..));
            let found = rest.and_then(|rest| rest.get(..octets.len()));
            found.map(|found| octets.copy_from_slice(found)).is_some()
        };
        holder_of_code(read, code)
    }

    pub(crate) fn is_pinned(&self, fingerprint: &Fingerprint) -> bool {
        self.image.table(Section::Pins, 32).contains(fingerprint.as_bytes())
    }

    pub(crate) fn partner_of_certificate(&self, fingerprint: &Fingerprint) -> Option<u32> {
        let found = self.image.table(Section::Fingerprints, PARTNER_KEY_ROW).with_key(fingerprint.as_bytes()).next()?;
        Fields::new(found).u32()
    }

    /// Partners that list this subject or DNS name, whatever the issuer.
    pub(crate) fn partners_of_name(&self, key: &[u8; 32]) -> impl Iterator<Item = u32> + use<'a> {
        self.image.table(Section::Names, PARTNER_KEY_ROW).with_key(key).filter_map(|row| Fields::new(row).u32())
    }

    pub(crate) fn has_anchors(&self) -> bool {
        self.image.table(Section::Anchors, ANCHOR_ROW).len() > 0
    }

    /// The anchors with this subject (content of the Name, compared octet by octet as chains are built).
    pub(crate) fn anchors_named(&self, subject: &[u8]) -> impl Iterator<Item = AnchorView<'a>> + use<'a> {
        let this = *self;
        self.image.table(Section::Anchors, ANCHOR_ROW).with_key(&sha256(subject)).filter_map(move |row| {
            let mut row = Fields::new(row);
            Some(AnchorView {
                fingerprint: Fingerprint::from(row.array::<32>()?),
                subject: this.image.heap(row.reference()?)?,
                spki: this.image.heap(row.reference()?)?,
                name_constraints: this.image.heap(row.reference()?),
                not_before: time(row.u64()?),
                not_after: time(row.u64()?),
                path_length: row.u8()?,
            })
        })
    }

    pub(crate) fn crls(&self, width: usize) -> Table<'a> {
        self.image.table(Section::Crls, width)
    }

    pub(crate) fn heap(&self, reference: Reference) -> Option<&'a [u8]> {
        self.image.heap(reference)
    }

    fn text(&self, reference: Reference) -> Option<&'a str> {
        str::from_utf8(self.heap(reference)?).ok()
    }
}

pub(crate) const fn time(seconds: u64) -> UnixTime {
    UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds))
}

pub(crate) const fn revocation_number(revocation: Revocation) -> u8 {
    match revocation {
        Revocation::Require => 0,
        Revocation::Prefer => 1,
        Revocation::Off => 2,
    }
}

const fn revocation_of(number: u8) -> Option<Revocation> {
    match number {
        0 => Some(Revocation::Require),
        1 => Some(Revocation::Prefer),
        2 => Some(Revocation::Off),
        _ => None,
    }
}

/// Networks in rows of family, first and last address, sorted and not overlapping.
fn inside(networks: Table<'_>, address: IpAddr) -> bool {
    let Position { family, number } = Position::of(address);
    let number = number.to_be_bytes();
    let last = |row: &[u8]| -> Ordering {
        let mut row = Fields::new(row);
        let (row_family, _, last) = (row.u8(), row.take(16), row.take(16));
        (row_family, last).cmp(&(Some(family), Some(number.as_slice())))
    };
    let Some(row) = networks.row(networks.first(last)) else { return false };
    let mut row = Fields::new(row);
    row.u8() == Some(family) && row.take(16).is_some_and(|first| first <= number.as_slice())
}

/// Such networks in words: the first few, and how many there are besides.
fn listed(networks: Table<'_>) -> String {
    const MOST: usize = 5;
    let network = |row: &[u8]| {
        let mut row = Fields::new(row);
        let family = row.u8()?;
        let mut number = || Some(u128::from_be_bytes(row.take(16)?.try_into().ok()?));
        let (first, last) = (Position { family, number: number()? }, Position { family, number: number()? });
        // One network of those that were merged holds the others.
        Cidr::of_range(first, last)
    };
    let first = (0..networks.len().min(MOST)).filter_map(|index| network(networks.row(index)?));
    let mut text = first.map(|network| network.to_string()).collect::<Vec<_>>().join(", ");
    if networks.len() > MOST {
        text += &format!(" and {} more", networks.len() - MOST);
    }
    text
}

/// An anchor, as chains are built to it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AnchorView<'a> {
    pub(crate) fingerprint: Fingerprint,
    pub(crate) subject: &'a [u8],
    pub(crate) spki: &'a [u8],
    pub(crate) name_constraints: Option<&'a [u8]>,
    pub(crate) not_before: UnixTime,
    pub(crate) not_after: UnixTime,
    /// CAs that may stand below it; 255 is any number.
    pub(crate) path_length: u8,
}

impl<'a> AnchorView<'a> {
    pub(crate) fn trust_anchor(&self) -> Option<TrustAnchor<'a>> {
        Some(TrustAnchor {
            subject: self.subject.into(),
            subject_public_key_info: der::only(self.spki, der::SEQUENCE, "the public key").ok()?.into(),
            name_constraints: self.name_constraints.map(Into::into),
        })
    }
}

/// One partner of a policy.
#[derive(Debug, Clone, Copy)]
pub struct PartnerView<'a> {
    policy: Policy<'a>,
    index: u32,
    name: &'a str,
    flags: u8,
    revocation: Option<Revocation>,
    max_sessions: u32,
    ssid_codes: &'a [u8],
    networks: &'a [u8],
    issuers: &'a [u8],
    address: Option<&'a str>,
    server_name: Option<&'a str>,
    outgoing_ip: Option<&'a str>,
}

impl<'a> PartnerView<'a> {
    fn read(policy: Policy<'a>, index: u32, row: &'a [u8]) -> Option<Self> {
        let mut row = Fields::new(row);
        Some(Self {
            policy,
            index,
            name: policy.text(row.reference()?)?,
            flags: row.u8()?,
            revocation: revocation_of(row.u8()?),
            max_sessions: row.u32()?,
            ssid_codes: policy.heap(row.reference()?)?,
            networks: policy.heap(row.reference()?)?,
            issuers: policy.heap(row.reference()?)?,
            address: policy.text(row.reference()?),
            server_name: policy.text(row.reference()?),
            outgoing_ip: policy.text(row.reference()?),
        })
    }

    /// Its place in the configuration.
    pub const fn index(&self) -> u32 {
        self.index
    }

    /// Its unique name.
    pub const fn name(&self) -> &'a str {
        self.name
    }

    /// Whether it may have sessions.
    pub const fn enabled(&self) -> bool {
        self.flags & ENABLED != 0
    }

    /// Identification codes that it may use in SSID; none: any that no other partner lists.
    pub fn ssid_codes(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        let mut codes = Fields::new(self.ssid_codes);
        std::iter::from_fn(move || str::from_utf8(codes.counted()?).ok())
    }

    /// Most sessions at once.
    pub const fn max_sessions(&self) -> Option<u32> {
        if self.flags & LIMITED != 0 { Some(self.max_sessions) } else { None }
    }

    /// How strictly RFC 5024 is held against its messages.
    pub const fn conformance(&self) -> Conformance {
        if self.flags & STRICT != 0 { Conformance::Strict } else { Conformance::Standard }
    }

    /// Whether the extended key usage must fit.
    pub const fn extended_key_usage(&self) -> ExtendedKeyUsage {
        if self.flags & IGNORE_EXTENDED_KEY_USAGE != 0 { ExtendedKeyUsage::Ignore } else { ExtendedKeyUsage::Require }
    }

    /// The rule on revocation for its certificates: its own or the common one.
    pub fn revocation(&self) -> Revocation {
        self.revocation.unwrap_or(self.policy.revocation())
    }

    /// `host:port` for outgoing sessions.
    pub const fn address(&self) -> Option<&'a str> {
        self.address
    }

    /// Name to check in the certificate that it shows when called.
    pub const fn server_name(&self) -> Option<&'a str> {
        self.server_name
    }

    /// Local address for outgoing sessions, where it has one of its own.
    pub fn outgoing_ip(&self) -> Option<IpAddr> {
        self.outgoing_ip?.parse().ok()
    }

    /// Whether an incoming session may come from this address.
    pub fn allows_address(&self, address: IpAddr) -> bool {
        self.networks.is_empty() || inside(Table::new(self.networks, NETWORK_ROW), address)
    }

    /// From where it may come, in words: the first few networks, and how many there are besides.
    pub(crate) fn allowed_addresses(&self) -> String {
        listed(Table::new(self.networks, NETWORK_ROW))
    }

    /// Whether certificates or subjects are configured that tell this partner.
    pub(crate) const fn matches_certificates(&self) -> bool {
        self.flags & MATCHES_CERTIFICATES != 0
    }

    /// Whether this anchor may issue for the partner. Without a list there is one anchor only.
    pub(crate) fn trusts_issuer(&self, anchor: &Fingerprint) -> bool {
        self.issuers.is_empty() || Table::new(self.issuers, 32).contains(anchor.as_bytes())
    }
}
