//! What the proxyclient asks for: the configuration and CRLs.

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use axum::extract::{Path, State};
use axum::http::header::{CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use seonapi_client::Fingerprint;

use super::Shared;
use super::answer::{Refused, on_disk, refused};
use crate::configuration::read_crl;

/// `getConfig`
pub async fn config(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Result<Response, Refused> {
    let made = on_disk(&shared, |shared| {
        let mut proxy = shared.current.refresh().proxy.clone();
        // What was told stays told; otherwise the proxyclient would tell it with each certificate.
        for url in shared.store.crl_urls()? {
            if !proxy.trust.known_crl_urls.contains(&url) {
                proxy.trust.known_crl_urls.push(url);
            }
        }
        for crl in shared.store.downloaded_crls()? {
            if !proxy.trust.crls.contains(&crl) {
                proxy.trust.crls.push(crl);
            }
        }
        Ok(serde_json::to_vec(&proxy)?)
    });
    let json = made.await?;
    let hash: String = digest(&SHA256, &json).as_ref().iter().map(|octet| format!("{octet:02x}")).collect();
    let etag = format!("\"{hash}\"");
    if names(&headers, &etag) {
        return Ok((StatusCode::NOT_MODIFIED, [(ETAG, etag)]).into_response());
    }
    Ok((StatusCode::OK, [(ETAG, etag), (CONTENT_TYPE, "application/json".to_owned())], json).into_response())
}

/// `getCrl`
pub async fn crl(State(shared): State<Arc<Shared>>, Path(sha256): Path<String>) -> Result<Response, Refused> {
    let missing = || refused(StatusCode::NOT_FOUND, "no such CRL", None);
    let Ok(fingerprint) = sha256.parse::<Fingerprint>() else { return Err(missing()) };
    let found = on_disk(&shared, move |shared| {
        let current = shared.current.get();
        // A file that was replaced since has another hash, and a new configuration names it.
        let der = current.crls.get(&fingerprint).and_then(|file| read_crl(file).ok());
        match der.filter(|der| Fingerprint::of(der) == fingerprint) {
            Some(der) => Ok(Some(der)),
            None => shared.store.downloaded_crl(fingerprint),
        }
    });
    let der = found.await?.ok_or_else(missing)?;
    Ok(([(CONTENT_TYPE, "application/pkix-crl")], der).into_response())
}

/// Whether `If-None-Match` names this ETag (RFC 9110, 13.1.2: a list, compared weakly, or `*`).
fn names(headers: &HeaderMap, etag: &str) -> bool {
    let values = headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    values
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .any(|named| named == "*" || named.strip_prefix("W/").unwrap_or(named) == etag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_etag_is_found_in_every_form_of_if_none_match() {
        for (value, found) in [
            ("\"a\"", true),
            ("W/\"a\"", true),
            ("\"b\", \"a\"", true),
            ("*", true),
            ("\"b\"", false),
            ("a", false),
            ("", false),
        ] {
            let headers: HeaderMap = [(IF_NONE_MATCH, value.parse().unwrap())].into_iter().collect();
            assert_eq!(names(&headers, "\"a\""), found, "{value}");
        }
        assert!(!names(&HeaderMap::new(), "\"a\""));
    }
}
