//! What an X.509 certificate says (RFC 5280, 4.1), of versions 1 to 3. Reads only; nothing is judged here.

use rustls_pki_types::UnixTime;

use crate::der::{self, Malformed, Reader};
use crate::key::KeyKind;

/// A certificate's fields, borrowed from its DER form.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Certificate<'a> {
    pub(crate) version: u8,
    /// The INTEGER's content.
    pub(crate) serial: &'a [u8],
    /// Content of the AlgorithmIdentifier.
    pub(crate) signature_algorithm: &'a [u8],
    /// Content of the Name.
    pub(crate) issuer: &'a [u8],
    pub(crate) not_before: UnixTime,
    pub(crate) not_after: UnixTime,
    /// Content of the Name.
    pub(crate) subject: &'a [u8],
    /// SubjectPublicKeyInfo with tag and length.
    pub(crate) spki: &'a [u8],
    pub(crate) extensions: Extensions<'a>,
}

/// The extensions that matter here (RFC 5280, 4.2.1).
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Extensions<'a> {
    pub(crate) key_usage: Option<KeyUsage>,
    pub(crate) basic_constraints: Option<BasicConstraints>,
    /// KeyPurposeIds.
    pub(crate) extended_key_usage: Option<&'a [u8]>,
    /// GeneralNames.
    pub(crate) subject_alternative_names: Option<&'a [u8]>,
    /// NameConstraints.
    pub(crate) name_constraints: Option<&'a [u8]>,
    /// DistributionPoints.
    pub(crate) distribution_points: Option<&'a [u8]>,
    /// Identifier of the first critical extension that nobody here understands.
    pub(crate) unknown_critical: Option<&'a [u8]>,
}

/// RFC 5280, 4.2.1.9.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BasicConstraints {
    pub(crate) ca: bool,
    /// CAs that may stand between this one and the end entity.
    pub(crate) path_length: Option<u8>,
}

/// RFC 5280, 4.2.1.3. Bit 0 is the highest of the first octet.
#[derive(Debug, Clone, Copy)]
pub(crate) struct KeyUsage(u8);

impl KeyUsage {
    pub(crate) const fn digital_signature(self) -> bool {
        self.0 & 0x80 != 0
    }

    pub(crate) const fn key_cert_sign(self) -> bool {
        self.0 & 0x04 != 0
    }

    pub(crate) const fn crl_sign(self) -> bool {
        self.0 & 0x02 != 0
    }
}

impl<'a> Certificate<'a> {
    pub(crate) fn read(der: &'a [u8]) -> Result<Self, Malformed> {
        let mut certificate = Reader::new(der::only(der, der::SEQUENCE, "the certificate")?);
        let mut tbs = Reader::new(certificate.expect(der::SEQUENCE, "the certificate's body")?);
        let outer_algorithm = certificate.expect(der::SEQUENCE, "the signature algorithm")?;
        certificate.bits("the signature")?;
        certificate.end("the certificate")?;

        let version = match tbs.optional(der::constructed(0), "the version")? {
            None => 1,
            Some(version) => match der::only(version, der::INTEGER, "the version")? {
                [0] => 1,
                [1] => 2,
                [2] => 3,
                _ => return Err(Malformed("the version")),
            },
        };
        let serial = tbs.expect(der::INTEGER, "the serial number")?;
        let signature_algorithm = tbs.expect(der::SEQUENCE, "the signature algorithm")?;
        if signature_algorithm != outer_algorithm {
            // RFC 5280, 4.1.1.2: both must be the same.
            return Err(Malformed("the signature algorithm, which stands there twice and differs"));
        }
        let issuer = tbs.expect(der::SEQUENCE, "the issuer")?;
        let mut validity = Reader::new(tbs.expect(der::SEQUENCE, "the validity")?);
        let not_before = validity.time("notBefore")?;
        let not_after = validity.time("notAfter")?;
        validity.end("the validity")?;
        let subject = tbs.expect(der::SEQUENCE, "the subject")?;
        let spki = tbs.element(der::SEQUENCE, "the public key")?.whole;
        // Unique identifiers of version 2: nobody uses them, and they change nothing here.
        tbs.optional(der::context(1), "the issuer's unique identifier")?;
        tbs.optional(der::context(2), "the subject's unique identifier")?;
        let extensions = match tbs.optional(der::constructed(3), "the extensions")? {
            None => Extensions::default(),
            Some(_) if version < 3 => return Err(Malformed("extensions in a certificate before version 3")),
            Some(list) => Extensions::read(der::only(list, der::SEQUENCE, "the extensions")?)?,
        };
        tbs.end("the certificate's body")?;
        Ok(Self { version, serial, signature_algorithm, issuer, not_before, not_after, subject, spki, extensions })
    }

    pub(crate) fn key(&self) -> KeyKind {
        KeyKind::of(self.spki)
    }

    /// Issuer and subject are the same octets. Says nothing about the signature.
    pub(crate) fn is_self_issued(&self) -> bool {
        self.issuer == self.subject
    }

    pub(crate) fn is_ca(&self) -> bool {
        self.extensions.basic_constraints.is_some_and(|constraints| constraints.ca)
    }
}

/// One extension: identifier, critical, value.
pub(crate) fn extension<'a>(list: &mut Reader<'a>) -> Result<(&'a [u8], bool, &'a [u8]), Malformed> {
    let mut extension = Reader::new(list.expect(der::SEQUENCE, "an extension")?);
    let identifier = extension.expect(der::OBJECT_IDENTIFIER, "an extension's identifier")?;
    let critical = extension.next_is(der::BOOLEAN) && extension.boolean("an extension's critical flag")?;
    let value = extension.expect(der::OCTET_STRING, "an extension's value")?;
    extension.end("an extension")?;
    Ok((identifier, critical, value))
}

impl<'a> Extensions<'a> {
    fn read(list: &'a [u8]) -> Result<Self, Malformed> {
        let mut list = Reader::new(list);
        let mut this = Self::default();
        let mut seen: Vec<&[u8]> = Vec::new();
        while !list.is_empty() {
            let (identifier, critical, value) = extension(&mut list)?;
            if seen.contains(&identifier) {
                // RFC 5280, 4.2: none twice.
                return Err(Malformed("an extension that stands there twice"));
            }
            seen.push(identifier);
            match identifier {
                [0x55, 0x1d, 15] => this.key_usage = Some(KeyUsage::read(value)?),
                [0x55, 0x1d, 17] => {
                    let names = der::only(value, der::SEQUENCE, "subjectAltName")?;
                    this.subject_alternative_names = Some(each_readable(names, "subjectAltName")?);
                }
                [0x55, 0x1d, 19] => this.basic_constraints = Some(BasicConstraints::read(value)?),
                [0x55, 0x1d, 30] => this.name_constraints = Some(der::only(value, der::SEQUENCE, "nameConstraints")?),
                [0x55, 0x1d, 31] => {
                    this.distribution_points = Some(der::only(value, der::SEQUENCE, "cRLDistributionPoints")?)
                }
                [0x55, 0x1d, 37] => {
                    this.extended_key_usage = Some(der::only(value, der::SEQUENCE, "extendedKeyUsage")?)
                }
                _ if critical && this.unknown_critical.is_none() => this.unknown_critical = Some(identifier),
                _ => {}
            }
        }
        Ok(this)
    }

    /// Whether a purpose is among the extended key usages, or any (2.5.29.37.0). `None` when there is no such extension.
    pub(crate) fn allows_purpose(&self, purpose: &[u8]) -> Result<Option<bool>, Malformed> {
        const ANY: &[u8] = &[0x55, 0x1d, 0x25, 0x00];
        let Some(list) = self.extended_key_usage else { return Ok(None) };
        let mut list = Reader::new(list);
        let mut found = false;
        while !list.is_empty() {
            let listed = list.expect(der::OBJECT_IDENTIFIER, "extendedKeyUsage")?;
            found |= listed == purpose || listed == ANY;
        }
        Ok(Some(found))
    }

    /// The DNS names among the alternative names, as they stand there. What is not ASCII is left out.
    pub(crate) fn dns_names(&self) -> impl Iterator<Item = &'a str> {
        general_names(self.subject_alternative_names.unwrap_or_default(), der::context(2))
    }

    /// The URIs of all CRL distribution points, as they stand there.
    pub(crate) fn crl_uris(&self) -> Vec<&'a str> {
        self.distribution_point_names().flat_map(|names| general_names(names, der::context(6))).collect()
    }

    /// The full names (GeneralNames) of the CRL distribution points. Points with reasons or another issuer are left out:
    /// what they name is not the issuer's complete CRL.
    pub(crate) fn distribution_point_names(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let mut points = Reader::new(self.distribution_points.unwrap_or_default());
        let points = std::iter::from_fn(move || points.expect(der::SEQUENCE, "a distribution point").ok());
        points.filter_map(|point| {
            let mut point = Reader::new(point);
            let name = point.optional(der::constructed(0), "a distribution point's name").ok().flatten()?;
            let full = Reader::new(name).expect(der::constructed(0), "a full name").ok()?;
            point.is_empty().then_some(full)
        })
    }
}

/// The list, if it is nothing but whole values of context-specific tags, as GeneralNames are: partners are told by what
/// stands in it.
fn each_readable<'a>(list: &'a [u8], what: &'static str) -> Result<&'a [u8], Malformed> {
    let mut values = Reader::new(list);
    while !values.is_empty() {
        if values.any(what)?.tag & 0xc0 != 0x80 {
            return Err(Malformed(what));
        }
    }
    Ok(list)
}

/// The ASCII names of one kind.
fn general_names(list: &[u8], tag: u8) -> impl Iterator<Item = &str> {
    let mut list = Reader::new(list);
    std::iter::from_fn(move || {
        while !list.is_empty() {
            let element = list.any("a general name").ok()?;
            if element.tag == tag
                && let Ok(text) = str::from_utf8(element.content)
                && text.is_ascii()
            {
                return Some(text);
            }
        }
        None
    })
}

impl BasicConstraints {
    fn read(value: &[u8]) -> Result<Self, Malformed> {
        let mut fields = Reader::new(der::only(value, der::SEQUENCE, "basicConstraints")?);
        let ca = fields.next_is(der::BOOLEAN) && fields.boolean("basicConstraints")?;
        let path_length = match fields.optional(der::INTEGER, "basicConstraints")? {
            None => None,
            Some([length @ ..=127]) => Some(*length),
            Some([0, length]) => Some(*length),
            Some(_) => return Err(Malformed("basicConstraints")),
        };
        fields.end("basicConstraints")?;
        Ok(Self { ca, path_length })
    }
}

impl KeyUsage {
    fn read(value: &[u8]) -> Result<Self, Malformed> {
        match der::only(value, der::BIT_STRING, "keyUsage")? {
            [0..=7, first, ..] => Ok(Self(*first)),
            [0] => Ok(Self(0)),
            _ => Err(Malformed("keyUsage")),
        }
    }
}
