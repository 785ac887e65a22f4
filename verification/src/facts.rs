//! What a certificate says of itself, for log line, event, session record and `explain`. All text is escaped and bounded.

use std::fmt;

use rustls_pki_types::UnixTime;

use crate::certificate::Certificate;
use crate::der::{self, Malformed};
use crate::fingerprint::Fingerprint;
use crate::key::KeyKind;
use crate::name::{self, Name};
use crate::time::rfc3339;

/// Longest URL of a CRL distribution point that is told (the Seon API's bound).
const URL: usize = 2048;
/// Most URLs taken from one certificate.
const URLS: usize = 64;

/// A certificate that cannot be read: what could not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a readable X.509 certificate: {0}")]
pub struct Unreadable(pub(crate) &'static str);

impl From<Malformed> for Unreadable {
    fn from(malformed: Malformed) -> Self {
        Self(malformed.0)
    }
}

/// A certificate in words. Nothing here is verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFacts {
    /// RFC 4514 form, controls and direction marks as hex pairs, at most 512 characters.
    pub subject: String,
    /// As `subject`.
    pub issuer: String,
    /// Hex pairs with colons.
    pub serial: String,
    /// First second of validity.
    pub not_before: UnixTime,
    /// Last second of validity.
    pub not_after: UnixTime,
    /// SHA-256 of the DER form.
    pub fingerprint: Fingerprint,
    /// The public key's kind and size.
    pub key: KeyKind,
    /// X.509 version, 1 to 3.
    pub version: u8,
    /// Basic constraints say that it is a CA.
    pub is_ca: bool,
    /// The Odette identification: the subject's serialNumber, at most 64 characters, escaped.
    pub odette_id: Option<String>,
    /// The DNS names among the alternative names.
    pub dns_names: Vec<String>,
    /// URIs of the CRL distribution points, of any scheme; at most 64, each at most 2048 characters.
    pub crl_uris: Vec<String>,
}

impl CertificateFacts {
    /// Reads one certificate, of version 1 to 3.
    pub fn read(der: &[u8]) -> Result<Self, Unreadable> {
        let certificate = Certificate::read(der)?;
        let subject = Name::read(certificate.subject)?;
        let printable = |uri: &&str| uri.len() <= URL && uri.bytes().all(|octet| octet.is_ascii_graphic());
        Ok(Self {
            odette_id: subject
                .text(name::SERIAL_NUMBER)
                .map(|text| name::bounded(text.escape_default().to_string(), 64)),
            subject: subject.display(),
            issuer: Name::read(certificate.issuer)?.display(),
            serial: serial(certificate.serial),
            not_before: certificate.not_before,
            not_after: certificate.not_after,
            fingerprint: Fingerprint::of(der),
            key: certificate.key(),
            version: certificate.version,
            is_ca: certificate.is_ca(),
            dns_names: certificate
                .extensions
                .dns_names()
                .take(URLS)
                .map(|name| name::bounded(name.escape_default().to_string(), 256))
                .collect(),
            crl_uris: certificate
                .extensions
                .crl_uris()
                .into_iter()
                .filter(printable)
                .take(URLS)
                .map(str::to_owned)
                .collect(),
        })
    }

    /// The URLs among the distribution points that a backend may fetch: http and https.
    pub fn crl_urls(&self) -> impl Iterator<Item = &str> {
        self.crl_uris.iter().map(String::as_str).filter(|uri| {
            let scheme = uri.split_once("://").map(|(scheme, _)| scheme);
            scheme.is_some_and(|scheme| scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https"))
        })
    }
}

impl fmt::Display for CertificateFacts {
    /// One line: `subject="…" issuer="…" serial=… valid=…/… sha256=… key=…`, and `odette=…` where there is one.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "subject=\"{}\" issuer=\"{}\" serial={} valid={}/{} sha256={} key=\"{}\"",
            quoted(&self.subject),
            quoted(&self.issuer),
            self.serial,
            rfc3339(self.not_before),
            rfc3339(self.not_after),
            self.fingerprint,
            self.key
        )?;
        self.odette_id.as_ref().map_or(Ok(()), |identification| write!(f, " odette=\"{}\"", quoted(identification)))
    }
}

/// Text that cannot end the quotation it stands in. RFC 4514 text has its quotes behind a backslash already.
fn quoted(text: &str) -> String {
    text.replace("\\\"", "\\22").replace('"', "\\22")
}

/// A serial number as people compare it: hex pairs with colons, leading zeros away, at most 32 octets.
pub(crate) fn serial(content: &[u8]) -> String {
    let magnitude = der::magnitude(content);
    if magnitude.is_empty() {
        return "00".to_owned();
    }
    let pairs: Vec<String> = magnitude.iter().take(32).map(|octet| format!("{octet:02x}")).collect();
    pairs.join(":") + if magnitude.len() > 32 { "…" } else { "" }
}
