//! What of the database goes along when a configuration is taken to another host.

use std::collections::BTreeSet;

use chrono::DateTime;
use rusqlite::params;
use seonapi_client::CrlUrl;
use serde::{Deserialize, Serialize};

use super::crls::has_room;
use super::{Store, StoreError, TokenLine, now, signed};
use crate::bundle::Octets;
use crate::crl_download::Good;

/// What proxyclients need to go on with another backend.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Carried {
    /// The security tokens, as hashes.
    pub tokens: Vec<TokenLine>,
    /// The distribution points that proxyclients told.
    pub crl_urls: Vec<CrlUrl>,
    /// The CRLs that were downloaded.
    pub downloaded_crls: Vec<DownloadedCrl>,
}

/// A CRL that was downloaded.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DownloadedCrl {
    /// Where it came from.
    pub url: String,
    /// Its DER form.
    pub base64: Octets,
}

impl Store {
    /// All of it.
    pub fn carried(&self) -> Result<Carried, StoreError> {
        let tokens = self.tokens()?;
        let connection = self.lock();
        let mut rows =
            connection.prepare("SELECT url, certificate_sha256, issuer FROM crl_url ORDER BY received, rowid")?;
        let points = rows
            .query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get::<_, String>(2)?)))?;
        let mut crl_urls = Vec::new();
        for point in points {
            let (url, certificate, issuer) = point?;
            // One that is none could not have been told.
            let known = certificate.parse().ok().and_then(|certificate| CrlUrl::new(&url, certificate, &issuer).ok());
            crl_urls.extend(known);
        }
        let mut rows = connection.prepare("SELECT url, der FROM crl_download WHERE der IS NOT NULL ORDER BY url")?;
        let crls = rows.query_map([], |row| Ok(DownloadedCrl { url: row.get(0)?, base64: Octets(row.get(1)?) }))?;
        let downloaded_crls = crls.collect::<Result<_, _>>()?;
        Ok(Carried { tokens, crl_urls, downloaded_crls })
    }

    /// What is wrong with tokens that come from elsewhere: the place and the reason of each.
    pub fn mistakes_in(&self, tokens: &[TokenLine]) -> Result<Vec<(String, String)>, StoreError> {
        let here = self.tokens()?;
        let (mut names, mut hashes) = (BTreeSet::new(), BTreeSet::new());
        let mut mistakes = Vec::new();
        for (at, token) in tokens.iter().enumerate() {
            let mut wrong = |member: &str, reason: String| mistakes.push((format!("tokens[{at}].{member}"), reason));
            let is_hash =
                |text: &str| text.len() == 64 && text.bytes().all(|octet| matches!(octet, b'0'..=b'9' | b'a'..=b'f'));
            if !is_hash(&token.sha256) {
                wrong("sha256", "64 hex digits expected".to_owned());
            }
            if !hashes.insert(&token.sha256) {
                wrong("sha256", "it stands here twice".to_owned());
            }
            if token.name.is_empty() || token.name.chars().any(char::is_control) {
                wrong("name", "one line that is not empty expected".to_owned());
            }
            if !names.insert(&token.name) {
                wrong("name", format!("{:?} stands here twice", token.name));
            }
            if DateTime::parse_from_rfc3339(&token.created).is_err() {
                wrong("created", "a time as 2026-12-31T12:00:00Z expected".to_owned());
            }
            if here.iter().any(|one| one.name == token.name && one.sha256 != token.sha256) {
                wrong("name", format!("the database here has another token with the name {:?}", token.name));
            }
        }
        Ok(mistakes)
    }

    /// Takes what is not here yet, all or nothing; gives the number of new tokens. What is here stays as it is, also a token
    /// that was disabled here.
    pub fn take(
        &self,
        tokens: &[TokenLine],
        crl_urls: &[CrlUrl],
        crls: &[(String, Good, Vec<u8>)],
    ) -> Result<usize, StoreError> {
        let mut connection = self.lock();
        let transaction = connection.transaction()?;
        let mut new = 0;
        for TokenLine { name, sha256, created, enabled } in tokens {
            new += transaction.execute(
                "INSERT INTO token (sha256, name, created, enabled) VALUES (?1, ?2, ?3, ?4) ON CONFLICT (sha256) DO NOTHING",
                params![sha256, name, created, enabled],
            )?;
        }
        for url in crl_urls {
            if !has_room(&transaction)? {
                break;
            }
            transaction.execute(
                "INSERT INTO crl_url (url, certificate_sha256, issuer, received, token) VALUES (?1, ?2, ?3, ?4, '')
                 ON CONFLICT DO NOTHING",
                params![url.url(), url.certificate().to_string(), url.issuer(), now()],
            )?;
        }
        for (url, Good { sha256, issuer, this_update, next_update, proven }, der) in crls {
            // Never tried: it is fetched anew as soon as somebody looks.
            transaction.execute(
                "INSERT INTO crl_download (url, tried, failures, sha256, issuer, this_update, next_update, proven, der)
                 VALUES (?1, 0, 0, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT DO NOTHING",
                params![url, sha256.to_string(), issuer, signed(*this_update), signed(*next_update), proven, der],
            )?;
        }
        transaction.commit()?;
        Ok(new)
    }
}
