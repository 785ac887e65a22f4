//! What ends when, and which warning is due. The clock, and the memory of what was told, are the caller's.

use std::fmt;

use rustls_pki_types::UnixTime;

use crate::certificate::Certificate;
use crate::facts::{CertificateFacts, Unreadable};
use crate::fingerprint::Fingerprint;
use crate::name::Name;
use crate::revocation::crl::Crl;
use crate::time::rfc3339;

const DAY: u64 = 86_400;

/// Days before the end at which a warning is due, each once.
pub const WARNINGS: [u32; 3] = [30, 7, 1];

/// What ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Expiring {
    /// The certificate that the proxy itself shows, or one of its chain.
    Identity,
    /// A configured CA certificate.
    Anchor,
    /// A pinned certificate.
    Pin,
    /// A partner's certificate that was seen.
    Partner,
    /// A CRL, at its `nextUpdate`.
    Crl,
}

impl fmt::Display for Expiring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Identity => "own certificate",
            Self::Anchor => "anchor",
            Self::Pin => "pinned certificate",
            Self::Partner => "partner certificate",
            Self::Crl => "CRL",
        })
    }
}

/// Something that ends, and its name for the sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expiry {
    /// What kind of thing.
    pub what: Expiring,
    /// Subject, or issuer of a CRL; escaped.
    pub name: String,
    /// SHA-256 of its DER form. With the warning it says what was told already.
    pub fingerprint: Fingerprint,
    /// When it began.
    pub since: UnixTime,
    /// Its last second.
    pub until: UnixTime,
}

/// A warning that is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Warning {
    /// So many days or fewer are left.
    Days(u32),
    /// It has ended.
    Ended,
}

impl Expiry {
    /// Of a certificate.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read(what: Expiring, der: &[u8]) -> Result<Self, Unreadable> {
        let facts = CertificateFacts::read(der)?;
        let (since, until) = (facts.not_before, facts.not_after);
        Ok(Self { what, name: facts.subject, fingerprint: facts.fingerprint, since, until })
    }

    pub(crate) fn of(what: Expiring, certificate: &Certificate<'_>, fingerprint: Fingerprint) -> Self {
        let name = display(certificate.subject);
        Self { what, name, fingerprint, since: certificate.not_before, until: certificate.not_after }
    }

    pub(crate) fn of_crl(crl: &Crl<'_>, fingerprint: Fingerprint) -> Option<Self> {
        let name = display(crl.issuer);
        Some(Self { what: Expiring::Crl, name, fingerprint, since: crl.this_update, until: crl.next_update? })
    }

    /// The warning that is due at this time: the latest of those whose time has come.
    ///
    /// What lives for less than twice a warning's days is not warned of that early, so that a CRL of a week is not told
    /// of on each of its days.
    pub fn due(&self, now: UnixTime) -> Option<Warning> {
        let left = match self.until.as_secs().checked_sub(now.as_secs()) {
            None => return Some(Warning::Ended),
            Some(left) => left,
        };
        let life = self.until.as_secs().saturating_sub(self.since.as_secs());
        let days = WARNINGS.into_iter().filter(|days| {
            let seconds = u64::from(*days) * DAY;
            left <= seconds && life >= 2 * seconds
        });
        days.min().map(Warning::Days)
    }
}

fn display(name: &[u8]) -> String {
    Name::read(name).map(|name| name.display()).unwrap_or_default()
}

impl fmt::Display for Expiry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} \"{}\" (sha256 {}) ends {}", self.what, self.name, self.fingerprint, rfc3339(self.until))
    }
}
