//! Whether a CRL that was fetched may take the place of the one before: form, signature, issuer, dates.

use std::time::Duration;

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use seonapi_client::Fingerprint;
use verification::{Der, Expiring, PolicySource, UnixTime, compile_with_crls};

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
}

/// Checks a CRL by the proxies' own code. The signature is checked where an anchor has the issuer's name; that of another
/// CA only the proxies can check, with the chains that partners show, so it must at least carry the name of `issuer`, the
/// issuer of the certificate that named the distribution point.
pub fn check(der: &[u8], anchors_pem: &[String], issuer: Option<&str>, now: u64) -> Result<Good, String> {
    let at = UnixTime::since_unix_epoch(Duration::from_secs(now));
    let anchors = anchors_pem.iter().flat_map(|pem| CertificateDer::pem_slice_iter(pem.as_bytes()));
    let anchors = anchors.filter_map(Result::ok).map(|anchor| Der::from(anchor.to_vec())).collect();
    let source = PolicySource { anchors, ..PolicySource::default() };
    let compiled = compile_with_crls(&source, &[der], at).map_err(|error| error.to_string())?;
    if let Some(left_out) = compiled.left_out.first() {
        return Err(left_out.fault.to_string());
    }
    // RFC 5280, 5.1.2.5: there must be a nextUpdate.
    let ends = compiled.expiries.iter().find(|expiry| expiry.what == Expiring::Crl).ok_or("it has no nextUpdate")?;
    match issuer {
        Some(issuer) if issuer != ends.name => {
            return Err(format!(
                "it is of \"{}\", and the certificate that names its place of \"{issuer}\"",
                ends.name
            ));
        }
        None if !compiled.unproven.is_empty() => {
            return Err(format!("its issuer \"{}\" is none of the anchors", ends.name));
        }
        _ => {}
    }
    let (this_update, next_update) = (ends.since.as_secs(), ends.until.as_secs());
    if next_update < now {
        return Err(format!("it has ended, nextUpdate was {}", time(next_update)));
    }
    Ok(Good { sha256: Fingerprint::of(der), issuer: ends.name.clone(), this_update, next_update })
}
