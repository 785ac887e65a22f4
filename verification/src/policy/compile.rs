//! Turns the plain policy into its image, once for each configuration. Everything that can be wrong with a policy is found
//! here, with its place.

use std::collections::HashMap;
use std::fmt;

use rustls_pki_types::UnixTime;

use super::codes;
use super::image::{LARGEST_IMAGE, Packer, Record, Reference, Section, Writer};
use super::source::{Conformance, ExtendedKeyUsage, PartnerSource, PolicySource, UnknownPartners};
use super::view::{self, DNS_KEY, SUBJECT_KEY, name_key};
use crate::address::{Cidr, Position};
use crate::certificate::Certificate;
use crate::expiry::{Expiring, Expiry};
use crate::facts::Unreadable;
use crate::fingerprint::{Fingerprint, sha256};
use crate::name::{Name, NotAName};
use crate::revocation::{CrlFault, index};

/// A compiled policy.
#[derive(Debug, Clone)]
pub struct Compiled {
    /// What [`Policy::open`](super::Policy::open) reads.
    pub image: Vec<u8>,
    /// CRLs that do not count, or only in part, by their index in the source.
    pub left_out: Vec<LeftOutCrl>,
    /// CRLs that no anchor proves: they count for chains that show the key which signed them. By index.
    pub unproven: Vec<usize>,
    /// When anchors, pins and CRLs end.
    pub expiries: Vec<Expiry>,
}

/// A CRL that does not count, or only in part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftOutCrl {
    /// Its place in the source.
    pub index: usize,
    /// SHA-256 of its DER form.
    pub fingerprint: Fingerprint,
    /// Why.
    pub fault: CrlFault,
}

impl fmt::Display for LeftOutCrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.fault {
            fault @ CrlFault::SignatureWrong { .. } => write!(f, "CRL {} is in doubt: {fault}", self.fingerprint),
            fault => write!(f, "CRL {} is left out: {fault}", self.fingerprint),
        }
    }
}

/// What is wrong with a policy, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {fault}")]
pub struct PolicyError {
    /// Such as `partners[3].issuers[0]`.
    pub place: String,
    /// What is wrong there.
    pub fault: PolicyFault,
}

/// What can be wrong with a policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyFault {
    /// An anchor or pin.
    #[error("{0}")]
    Certificate(#[from] Unreadable),
    /// An anchor that cannot issue.
    #[error("\"{0}\" is not a CA's certificate; a partner's own belongs among the pinned ones")]
    NotACa(String),
    /// No name, or one that another partner has.
    #[error("the partner needs a name of its own, {0:?} is empty or taken")]
    PartnerName(String),
    /// A subject that is no name.
    #[error("{0}")]
    Subject(#[from] NotAName),
    /// `dns:` followed by something else than a DNS name.
    #[error("{0:?} is no DNS name")]
    DnsName(String),
    /// An issuer that is not there.
    #[error("{0} is none of the anchors")]
    IssuerUnknown(Fingerprint),
    /// Subjects without an issuer among several.
    #[error("with more than one anchor, subjects need issuers, so that no other anchor can make this partner")]
    IssuersMissing,
    /// An identification code that does not fit in SSID.
    #[error("{0:?} is no identification code: 1 to 25 characters")]
    SsidCode(String),
    /// A name to check that is none.
    #[error("{0:?} is neither a DNS name nor an IP address")]
    ServerName(String),
    /// Two partners for one certificate, subject or DNS name.
    #[error("{what} is also that of partner {other:?}; whose session is it?")]
    Ambiguous {
        /// What both have.
        what: String,
        /// The partner that has it too.
        other: String,
    },
    /// More than an image can hold.
    #[error("larger than can be held")]
    TooLarge,
}

/// An anchor that was read.
pub(crate) struct Anchor<'a> {
    pub(crate) fingerprint: Fingerprint,
    pub(crate) certificate: Certificate<'a>,
    /// As issuer of CRLs.
    pub(crate) key: Option<[u8; 32]>,
}

pub(crate) fn at(place: impl fmt::Display) -> impl FnOnce(PolicyFault) -> PolicyError {
    move |fault| PolicyError { place: place.to_string(), fault }
}

/// Compiles a policy with the CRLs that it holds. `now` decides which of several CRLs counts.
///
/// # Errors
/// The first thing that is wrong, with its place. A bad CRL is no error, nor is one for which there is no room: it is left
/// out alone.
pub fn compile(source: &PolicySource, now: UnixTime) -> Result<Compiled, PolicyError> {
    let crls: Vec<&[u8]> = source.crls.iter().map(AsRef::as_ref).collect();
    compile_with_crls(source, &crls, now)
}

/// As [`compile`], with the CRLs given beside the source (whose own are not looked at).
///
/// # Errors
/// As [`compile`].
pub fn compile_with_crls(source: &PolicySource, crls: &[&[u8]], now: UnixTime) -> Result<Compiled, PolicyError> {
    let mut expiries = Vec::new();
    let mut writer = Writer::default();
    let anchors = anchors(source, &mut writer, &mut expiries)?;
    pins(source, &mut writer, &mut expiries)?;
    partners(source, &anchors, &mut writer)?;
    let listed = codes::write(&source.partners).ok_or_else(|| at("the identification codes")(PolicyFault::TooLarge))?;
    writer.row(Section::Codes, Record::default().octets(&listed));
    settings(source, &mut writer);
    let room = LARGEST_IMAGE.saturating_sub(writer.size());
    let (left_out, unproven) = super::crls::revoked(crls, &anchors, now, room, &mut writer, &mut expiries)?;
    for section in
        [Section::Pins, Section::Fingerprints, Section::Names, Section::Anchors, Section::PartnerNames, Section::Crls]
    {
        writer.sort(section);
    }
    if writer.size() > LARGEST_IMAGE {
        return Err(at("the policy")(PolicyFault::TooLarge));
    }
    Ok(Compiled { image: writer.finish(), left_out, unproven, expiries })
}

fn read<'a>(place: &str, index: usize, der: &'a [u8]) -> Result<(Certificate<'a>, Name), PolicyError> {
    let read = || -> Result<_, Unreadable> {
        let certificate = Certificate::read(der)?;
        Name::read(certificate.issuer)?;
        Ok((certificate, Name::read(certificate.subject)?))
    };
    read().map_err(|unreadable| at(format!("{place}[{index}]"))(unreadable.into()))
}

fn anchors<'a>(
    source: &'a PolicySource,
    writer: &mut Writer,
    expiries: &mut Vec<Expiry>,
) -> Result<Vec<Anchor<'a>>, PolicyError> {
    let mut anchors: Vec<Anchor<'_>> = Vec::new();
    for (index, der) in source.anchors.iter().enumerate() {
        let fingerprint = Fingerprint::of(&der.0);
        if anchors.iter().any(|anchor| anchor.fingerprint == fingerprint) {
            continue;
        }
        let (certificate, subject) = read("anchors", index, &der.0)?;
        let fail = |fault| at(format!("anchors[{index}]"))(fault);
        // Of version 1, or silent: an administrator may know better. One that denies it is a mistake.
        let extensions = &certificate.extensions;
        let denies = extensions.basic_constraints.is_some_and(|constraints| !constraints.ca)
            || extensions.key_usage.is_some_and(|usage| !usage.key_cert_sign());
        if denies || subject.is_empty() {
            return Err(fail(PolicyFault::NotACa(subject.display())));
        }
        let mut record = Record::default().octets(&sha256(certificate.subject)).octets(fingerprint.as_bytes());
        for octets in [Some(certificate.subject), Some(certificate.spki), extensions.name_constraints] {
            record = record.reference(match octets {
                Some(octets) => writer.keep(octets).ok_or_else(|| fail(PolicyFault::TooLarge))?,
                None => Reference::NONE,
            });
        }
        let path_length = extensions.basic_constraints.and_then(|constraints| constraints.path_length);
        let record = record
            .u64(certificate.not_before.as_secs())
            .u64(certificate.not_after.as_secs())
            .u8(path_length.unwrap_or(u8::MAX));
        writer.row(Section::Anchors, record);
        expiries.push(Expiry::of(Expiring::Anchor, &certificate, fingerprint));
        anchors.push(Anchor { fingerprint, certificate, key: index::issuer_key(certificate.subject) });
    }
    Ok(anchors)
}

fn pins(source: &PolicySource, writer: &mut Writer, expiries: &mut Vec<Expiry>) -> Result<(), PolicyError> {
    for (index, der) in source.pinned.iter().enumerate() {
        let (certificate, _) = read("pinned", index, &der.0)?;
        let fingerprint = Fingerprint::of(&der.0);
        writer.row(Section::Pins, Record::default().octets(fingerprint.as_bytes()));
        expiries.push(Expiry::of(Expiring::Pin, &certificate, fingerprint));
    }
    Ok(())
}

/// What was given to one partner already, to find out whether another claims it.
#[derive(Default)]
struct Claims {
    certificates: HashMap<Fingerprint, usize>,
    names: HashMap<[u8; 32], Vec<usize>>,
    partner_names: HashMap<String, usize>,
}

fn partners(source: &PolicySource, anchors: &[Anchor<'_>], writer: &mut Writer) -> Result<(), PolicyError> {
    let mut claims = Claims::default();
    for (number, partner) in source.partners.iter().enumerate() {
        let place = format!("partners[{number}]");
        let index = u32::try_from(number).map_err(|_| at(&place)(PolicyFault::TooLarge))?;
        if partner.name.is_empty() || claims.partner_names.insert(partner.name.clone(), number).is_some() {
            return Err(at(format!("{place}.name"))(PolicyFault::PartnerName(partner.name.clone())));
        }
        let key = |octets: &[u8; 32]| Record::default().octets(octets).u32(index);
        writer.row(Section::PartnerNames, key(&sha256(partner.name.as_bytes())));

        for (position, fingerprint) in partner.certificate_sha256.iter().enumerate() {
            match claims.certificates.insert(*fingerprint, number) {
                Some(other) if other != number => {
                    let what = format!("certificate {fingerprint}");
                    let other = named(source, other);
                    return Err(at(format!("{place}.certificate_sha256[{position}]"))(PolicyFault::Ambiguous {
                        what,
                        other,
                    }));
                }
                _ => writer.row(Section::Fingerprints, key(fingerprint.as_bytes())),
            }
        }
        for (position, issuer) in partner.issuers.iter().enumerate() {
            if !anchors.iter().any(|anchor| anchor.fingerprint == *issuer) {
                return Err(at(format!("{place}.issuers[{position}]"))(PolicyFault::IssuerUnknown(*issuer)));
            }
        }
        if !partner.subjects.is_empty() && partner.issuers.is_empty() && anchors.len() > 1 {
            return Err(at(format!("{place}.issuers"))(PolicyFault::IssuersMissing));
        }
        for (position, subject) in partner.subjects.iter().enumerate() {
            let fail = |fault| at(format!("{place}.subjects[{position}]"))(fault);
            let subject_key = subject_key(subject).map_err(fail)?;
            let holders = claims.names.entry(subject_key).or_default();
            let rival = holders.iter().copied().find(|other| {
                *other != number && source.partners.get(*other).is_some_and(|other| share_an_issuer(other, partner))
            });
            if let Some(other) = rival {
                let (what, other) = (format!("subject {subject:?}"), named(source, other));
                return Err(fail(PolicyFault::Ambiguous { what, other }));
            }
            holders.push(number);
            writer.row(Section::Names, key(&subject_key));
        }
        for (position, code) in partner.ssid_codes.iter().enumerate() {
            // An identification code is 1 to 25 octets of printable ASCII (RFC 5024, 5.4, as working partners use it).
            if code.trim().is_empty()
                || code.len() > codes::LONGEST
                || !code.bytes().all(|octet| matches!(octet, 0x20..=0x7e))
            {
                return Err(at(format!("{place}.ssid_codes[{position}]"))(PolicyFault::SsidCode(code.clone())));
            }
        }
        if let Some(name) = &partner.server_name
            && rustls_pki_types::ServerName::try_from(name.as_str()).is_err()
        {
            return Err(at(format!("{place}.server_name"))(PolicyFault::ServerName(name.clone())));
        }
        let record = record(partner, writer).ok_or_else(|| at(&place)(PolicyFault::TooLarge))?;
        writer.row(Section::Partners, record);
    }
    Ok(())
}

fn named(source: &PolicySource, index: usize) -> String {
    source.partners.get(index).map(|partner| partner.name.clone()).unwrap_or_default()
}

/// No list means the only anchor there is.
fn share_an_issuer(one: &PartnerSource, other: &PartnerSource) -> bool {
    one.issuers.is_empty()
        || other.issuers.is_empty()
        || one.issuers.iter().any(|issuer| other.issuers.contains(issuer))
}

fn subject_key(subject: &str) -> Result<[u8; 32], PolicyFault> {
    let Some(name) = subject.strip_prefix("dns:") else {
        return Ok(name_key(SUBJECT_KEY, &subject.parse::<Name>()?.canonical()));
    };
    // A wildcard is compared with the very same wildcard; it matches no other name.
    let checked = name.strip_prefix("*.").unwrap_or(name);
    if rustls_pki_types::DnsName::try_from(checked).is_err() {
        return Err(PolicyFault::DnsName(name.to_owned()));
    }
    Ok(name_key(DNS_KEY, name.to_ascii_lowercase().as_bytes()))
}

fn record(partner: &PartnerSource, writer: &mut Writer) -> Option<Record> {
    let flags = [
        (partner.enabled, view::ENABLED),
        (partner.extended_key_usage == ExtendedKeyUsage::Ignore, view::IGNORE_EXTENDED_KEY_USAGE),
        (partner.conformance == Conformance::Strict, view::STRICT),
        (partner.max_sessions.is_some(), view::LIMITED),
        (!(partner.certificate_sha256.is_empty() && partner.subjects.is_empty()), view::MATCHES_CERTIFICATES),
    ];
    let mut codes = Packer::default();
    partner.ssid_codes.iter().for_each(|code| codes.add(code.as_bytes()));
    let mut issuers: Vec<[u8; 32]> = partner.issuers.iter().map(|issuer| *issuer.as_bytes()).collect();
    issuers.sort_unstable();
    let outgoing_ip = partner.outgoing_ip.map(|address| address.to_string());
    let mut record = Record::default()
        .reference(writer.keep(partner.name.as_bytes())?)
        .u8(flags.iter().filter(|(set, _)| *set).fold(0, |flags, (_, bit)| flags | bit))
        .u8(partner.revocation.map_or(u8::MAX, view::revocation_number))
        .u32(partner.max_sessions.unwrap_or(u32::MAX));
    for octets in [codes.finish(), merged(&partner.allow_from).concat(), issuers.concat()] {
        record = record.reference(writer.keep(&octets)?);
    }
    for text in [&partner.address, &partner.server_name, &outgoing_ip] {
        record = record.reference(match text {
            Some(text) => writer.keep(text.as_bytes())?,
            None => Reference::NONE,
        });
    }
    Some(record)
}

/// Rows of family, first and last address; sorted, overlapping ones made one.
fn merged(networks: &[Cidr]) -> Vec<Vec<u8>> {
    let mut ranges: Vec<(Position, Position)> = networks.iter().map(Cidr::range).collect();
    ranges.sort_unstable();
    let mut merged: Vec<(Position, Position)> = Vec::new();
    for (first, last) in ranges {
        match merged.last_mut() {
            Some((_, end)) if first <= *end => *end = last.max(*end),
            _ => merged.push((first, last)),
        }
    }
    let row = |(first, last): (Position, Position)| {
        [&[first.family], first.number.to_be_bytes().as_slice(), last.number.to_be_bytes().as_slice()].concat()
    };
    merged.into_iter().map(row).collect()
}

fn settings(source: &PolicySource, writer: &mut Writer) {
    let accept_unknown = source.unknown_partners == UnknownPartners::Accept;
    let enabled = || source.partners.iter().filter(|partner| partner.enabled);
    let any_address = accept_unknown || enabled().any(|partner| partner.allow_from.is_empty());
    let flags = [(accept_unknown, view::ACCEPT_UNKNOWN), (any_address, view::ANY_ADDRESS)];
    let flags = flags.iter().filter(|(set, _)| *set).fold(0, |flags, (_, bit)| flags | bit);
    writer.row(Section::Settings, Record::default().u8(flags).u8(view::revocation_number(source.revocation)));
    let networks: Vec<Cidr> = enabled().flat_map(|partner| partner.allow_from.iter().copied()).collect();
    for row in merged(&networks) {
        writer.row(Section::Networks, Record::default().octets(&row));
    }
}
