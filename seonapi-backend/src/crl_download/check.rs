//! Whether a CRL that was fetched may take the place of the one before: form, signature, issuer, dates.

use std::time::Duration;

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use seonapi_client::Fingerprint;
use verification::{Compiled, CrlFault, Der, Expiring, PolicySource, UnixTime, compile_with_crls};

use super::time;

/// A CRL that is good, in words. Times are seconds since 1970 (UTC).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Good {
    /// SHA-256 of its DER form.
    pub sha256: Fingerprint,
    /// Its issuer, RFC 4514 form, escaped.
    pub issuer: String,
    /// When it was made.
    pub this_update: u64,
    /// When a newer one must be there.
    pub next_update: u64,
    /// Whether the key of an anchor signed it. All others are checked by the proxies only, with the chains that partners
    /// show.
    pub proven: bool,
}

/// Who names a distribution point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NamedBy {
    /// The configuration alone.
    Configuration,
    /// A certificate of this issuer alone, as a proxyclient told.
    Certificate {
        /// Its name, RFC 4514 form, escaped.
        issuer: String,
    },
    /// Both.
    Both {
        /// As above.
        issuer: String,
    },
}

impl NamedBy {
    /// Of a place that the configuration names or not, and a certificate of this issuer or none.
    pub fn of(configured: bool, issuer: Option<String>) -> Self {
        match (configured, issuer) {
            (_, None) => Self::Configuration,
            (true, Some(issuer)) => Self::Both { issuer },
            (false, Some(issuer)) => Self::Certificate { issuer },
        }
    }

    /// Whether the administrator names it.
    pub fn is_configured(&self) -> bool {
        !matches!(self, Self::Certificate { .. })
    }
}

/// Checks a CRL by the proxies' own code. One that the key of an anchor signed is good, whoever names its place: many
/// certificates may name one place, and what they say of its issuer is no better than this proof. Of another one the
/// place must be right.
pub fn check(der: &[u8], anchors_pem: &[String], named_by: &NamedBy, now: u64) -> Result<Good, String> {
    let compiled = compiled(der, anchors_pem, now)?;
    judge(&compiled, Fingerprint::of(der), named_by, now)
}

/// Whether the key of an anchor signed this CRL.
pub fn is_proven(der: &[u8], anchors_pem: &[String], now: u64) -> bool {
    compiled(der, anchors_pem, now).is_ok_and(|compiled| {
        compiled.unproven.is_empty() && compiled.left_out.iter().all(|left_out| left_out.fault.is_ordinary())
    })
}

/// Whether a good CRL may take the place of the one at hand, which an anchor proves by now or not.
pub fn may_replace(good: &Good, old: &Good, old_proven: bool, named_by: &NamedBy) -> Result<(), String> {
    match (good.proven, old_proven) {
        // Whoever answers in the place's name could otherwise make a revocation vanish.
        (false, true) => Err(format!(
            "no anchor proves it, and an anchor proves the one at hand, which therefore stays; they are of \"{}\" and \"{}\"",
            good.issuer, old.issuer
        )),
        // Nor may one that nobody proves, and that says to be new, keep the right one away.
        (true, false) => Ok(()),
        // Whoever answers in the place's name could otherwise bring back the time before a revocation.
        _ if same_name(&good.issuer, &old.issuer) && good.this_update < old.this_update => Err(format!(
            "it is of {}, older than the one at hand, of {}",
            time(good.this_update),
            time(old.this_update)
        )),
        // The same with a CRL of another anchor, which is right in itself.
        (true, true) if expected(old, named_by) && !expected(good, named_by) => Err(format!(
            "it is of \"{}\", and the one at hand of \"{}\", as the certificate that names its place",
            good.issuer, old.issuer
        )),
        _ => Ok(()),
    }
}

fn compiled(der: &[u8], anchors_pem: &[String], now: u64) -> Result<Compiled, String> {
    let at = UnixTime::since_unix_epoch(Duration::from_secs(now));
    let anchors = anchors_pem.iter().flat_map(|pem| CertificateDer::pem_slice_iter(pem.as_bytes()));
    let anchors = anchors.filter_map(Result::ok).map(|anchor| Der::from(anchor.to_vec())).collect();
    let source = PolicySource { anchors, ..PolicySource::default() };
    compile_with_crls(&source, &[der], at).map_err(|error| error.to_string())
}

/// The judgement on a CRL that was compiled alone.
fn judge(compiled: &Compiled, sha256: Fingerprint, named_by: &NamedBy, now: u64) -> Result<Good, String> {
    let proven = compiled.unproven.is_empty();
    // A CA that has changed its key signs with one that is no anchor's (RFC 4210, 4.4). Such a CRL may be kept as one that
    // is not proven: it then counts for certificates of that very key.
    let of_another_key = |fault: &CrlFault| !proven && matches!(fault, CrlFault::SignatureWrong { .. });
    let faults = || compiled.left_out.iter().map(|left_out| &left_out.fault);
    if let Some(fault) = faults().find(|fault| !of_another_key(fault)) {
        return Err(fault.to_string());
    }
    // RFC 5280, 5.1.2.5: there must be a nextUpdate.
    let ends = compiled.expiries.iter().find(|expiry| expiry.what == Expiring::Crl).ok_or("it has no nextUpdate")?;
    match named_by {
        _ if proven => {}
        NamedBy::Configuration => {
            let foreign = || format!("its issuer \"{}\" is none of the anchors", ends.name);
            return Err(faults().next().map_or_else(foreign, ToString::to_string));
        }
        NamedBy::Certificate { issuer } if !same_name(issuer, &ends.name) => {
            return Err(format!(
                "if its place is right, name the URL under known_crl_urls of the configuration: it is of \"{}\", and \
                 the certificate that names its place of \"{issuer}\"",
                ends.name
            ));
        }
        // The administrator named the place, or the certificate the issuer.
        NamedBy::Both { .. } | NamedBy::Certificate { .. } => {}
    }
    let (this_update, next_update) = (ends.since.as_secs(), ends.until.as_secs());
    if next_update < now {
        return Err(format!("it has ended, nextUpdate was {}", time(next_update)));
    }
    Ok(Good { sha256, issuer: ends.name.clone(), this_update, next_update, proven })
}

/// Whether it is of the issuer that the certificate names.
fn expected(crl: &Good, named_by: &NamedBy) -> bool {
    match named_by {
        NamedBy::Configuration => false,
        NamedBy::Certificate { issuer } | NamedBy::Both { issuer } => same_name(&crl.issuer, issuer),
    }
}

/// Whether two names in RFC 4514 form are the same, whatever the case and the runs of spaces (RFC 5280, 7.1). As text, this
/// is only nearly so; but it only keeps out what is obviously another CA's. What counts is decided by the proxies, by
/// signature.
fn same_name(one: &str, other: &str) -> bool {
    let folded = |name: &str| name.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase();
    folded(one) == folded(other)
}

#[cfg(test)]
mod tests {
    use verification::{Expiry, LeftOutCrl};

    use super::*;

    const NOW: u64 = 1_000_000;

    fn told(issuer: &str) -> NamedBy {
        NamedBy::of(false, Some(issuer.to_owned()))
    }

    fn both(issuer: &str) -> NamedBy {
        NamedBy::of(true, Some(issuer.to_owned()))
    }

    /// What verification says of a CRL of `CN=Example CA`.
    fn said(unproven: bool, faults: &[CrlFault]) -> Compiled {
        let fingerprint = verification::Fingerprint::of(b"CRL");
        let at = |seconds| UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        let left_out = faults.iter().map(|fault| LeftOutCrl { index: 0, fingerprint, fault: fault.clone() });
        Compiled {
            image: Vec::new(),
            left_out: left_out.collect(),
            unproven: if unproven { vec![0] } else { Vec::new() },
            expiries: vec![Expiry {
                what: Expiring::Crl,
                name: "CN=Example CA".to_owned(),
                fingerprint,
                since: at(NOW - 10),
                until: at(NOW + 10),
            }],
        }
    }

    fn good(issuer: &str, this_update: u64, proven: bool) -> Good {
        Good {
            sha256: Fingerprint::of(issuer.as_bytes()),
            issuer: issuer.to_owned(),
            this_update,
            next_update: NOW + 10,
            proven,
        }
    }

    #[test]
    fn what_no_anchor_proves_is_taken_from_the_right_place_only() {
        let wrong = || CrlFault::SignatureWrong { issuer: "CN=Example CA".to_owned() };
        let ahead = CrlFault::NotYetValid(UnixTime::since_unix_epoch(Duration::from_secs(NOW + 1)));
        let (proven, foreign) = (said(false, &[]), said(true, &[]));
        // Of a CA that has changed its key, kept and told; and left out as it was told of before.
        let (changed, left_out) = (said(true, &[wrong()]), said(false, &[wrong()]));
        let rows = [
            (&proven, NamedBy::Configuration, None),
            (&proven, told("CN=Another"), None),
            (&proven, both("CN=Another"), None),
            (&foreign, NamedBy::Configuration, Some("is none of the anchors")),
            (&foreign, told("CN=Example CA"), None),
            (&foreign, told("cn=EXAMPLE  ca"), None),
            (&foreign, told("CN=Another"), Some("if its place is right, name the URL under known_crl_urls")),
            (&foreign, both("CN=Another"), None),
            (&changed, NamedBy::Configuration, Some("did not sign it")),
            (&changed, told("CN=Example CA"), None),
            (&changed, told("CN=Another"), Some("and the certificate that names its place")),
            (&changed, both("CN=Another"), None),
            (&said(true, &[wrong(), ahead]), both("CN=Example CA"), Some("lies ahead")),
            (&left_out, told("CN=Example CA"), Some("did not sign it")),
            (&left_out, both("CN=Example CA"), Some("did not sign it")),
        ];
        for (said, named_by, trouble) in rows {
            let judged = judge(said, Fingerprint::of(b"CRL"), &named_by, NOW);
            match (&judged, trouble) {
                (Ok(good), None) => assert_eq!(good.proven, said.unproven.is_empty(), "{named_by:?}"),
                (Err(told), Some(trouble)) if told.contains(trouble) => {}
                _ => panic!("{:?}, {named_by:?}: {judged:?}, {trouble:?} expected", said.left_out),
            }
        }
        assert!(
            judge(&proven, Fingerprint::of(b"CRL"), &told("CN=Example CA"), NOW + 11)
                .unwrap_err()
                .contains("has ended")
        );
    }

    #[test]
    fn what_an_anchor_proves_gives_way_only_to_what_is_as_good() {
        let x = told("CN=X");
        let (older, newer) = (NOW - 9, NOW - 5);
        // New, at hand, whether an anchor proves that one, the place, why not.
        let rows = [
            (good("CN=X", newer, true), good("CN=X", older, true), x.clone(), None),
            (good("CN=X", older, true), good("cn=x", newer, true), x.clone(), Some("older than the one at hand")),
            (good("CN=X", older, false), good("CN=X", newer, false), x.clone(), Some("older than the one at hand")),
            (
                good("CN=X", newer, false),
                good("CN=X", older, true),
                x.clone(),
                Some("an anchor proves the one at hand"),
            ),
            (good("CN=X", newer, false), good("CN=X", older, true), both("CN=X"), Some("an anchor proves the one")),
            (good("CN=X", older, true), good("CN=X", newer, false), x.clone(), None),
            (good("CN=Y", newer, true), good("CN=X", older, true), x.clone(), Some("and the one at hand of \"CN=X\"")),
            (good("CN=X", older, true), good("CN=Y", newer, true), x.clone(), None),
            (good("CN=Y", newer, true), good("CN=Z", older, true), x, None),
            (good("CN=Y", newer, true), good("CN=Z", older, true), NamedBy::Configuration, None),
            (good("CN=Y", newer, false), good("CN=X", older, false), both("CN=X"), None),
        ];
        for (good, old, named_by, trouble) in rows {
            let judged = may_replace(&good, &old, old.proven, &named_by);
            match (&judged, trouble) {
                (Ok(()), None) => {}
                (Err(told), Some(trouble)) if told.contains(trouble) => {}
                _ => panic!("{good:?} for {old:?}: {judged:?}, {trouble:?} expected"),
            }
        }
    }
}
