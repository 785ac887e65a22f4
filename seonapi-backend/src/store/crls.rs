//! CRLs: the distribution points that proxyclients told, and what was downloaded from them.

use std::collections::HashSet;

use rusqlite::{OptionalExtension, params};
use seonapi_client::{CrlUrl, CrlUrlsTaken, Fingerprint};

use super::{Store, StoreError, now, signed, unsigned};
use crate::crl_download::{Download, Good};

/// CRL URLs that are kept; partners have a few hundred CAs between them. Each stands in the configuration of the proxies.
const CRL_URLS: i64 = 10_000;
impl Store {
    /// Stores the CRL URLs that are new, while there is room; `known` are those of the configuration.
    pub fn add_crl_urls(&self, token: &str, urls: &[CrlUrl], known: &[String]) -> Result<CrlUrlsTaken, StoreError> {
        let mut taken = CrlUrlsTaken::default();
        let mut connection = self.lock();
        let transaction = connection.transaction()?;
        let mut room =
            CRL_URLS - transaction.query_row("SELECT count(*) FROM crl_url", [], |row| row.get::<_, i64>(0))?;
        for url in urls {
            let added = if room <= 0 || known.iter().any(|known| known == url.url()) {
                0
            } else {
                transaction.execute(
                    "INSERT INTO crl_url (url, certificate_sha256, issuer, received, token) VALUES (?1, ?2, ?3, ?4, ?5)
                     ON CONFLICT DO NOTHING",
                    params![url.url(), url.certificate().to_string(), url.issuer(), now(), token],
                )?
            };
            match added {
                0 => taken.known += 1,
                _ => (room, taken.added) = (room - 1, taken.added + 1),
            }
        }
        transaction.commit()?;
        Ok(taken)
    }

    /// The CRL URLs that proxyclients told us, in the order of their names.
    pub fn crl_urls(&self) -> Result<Vec<String>, StoreError> {
        let connection = self.lock();
        let mut rows = connection.prepare_cached("SELECT url FROM crl_url ORDER BY url")?;
        let urls = rows.query_map([], |row| row.get(0))?;
        Ok(urls.collect::<Result<_, _>>()?)
    }

    /// The same, each with the issuer of the certificate that names it.
    pub fn crl_points(&self) -> Result<Vec<(String, String)>, StoreError> {
        let connection = self.lock();
        let mut rows = connection.prepare_cached("SELECT url, issuer FROM crl_url ORDER BY received, url")?;
        let points = rows.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(points.collect::<Result<_, _>>()?)
    }

    /// What came of the distribution points that were tried.
    pub fn crl_downloads(&self) -> Result<Vec<Download>, StoreError> {
        let connection = self.lock();
        let mut rows = connection.prepare_cached(
            "SELECT url, tried, failures, trouble, sha256, issuer, this_update, next_update, proven FROM crl_download
             ORDER BY url",
        )?;
        let downloads = rows.query_map([], |row| {
            let sha256: Option<String> = row.get(4)?;
            let crl = match sha256.and_then(|sha256| sha256.parse().ok()) {
                Some(sha256) => {
                    let (this_update, next_update) = (unsigned(row.get(6)?), unsigned(row.get(7)?));
                    Some(Good { sha256, issuer: row.get(5)?, this_update, next_update, proven: row.get(8)? })
                }
                None => None,
            };
            let (tried, failures) = (unsigned(row.get(1)?), unsigned(row.get(2)?));
            Ok(Download { url: row.get(0)?, tried, failures, trouble: row.get(3)?, crl })
        })?;
        Ok(downloads.collect::<Result<_, _>>()?)
    }

    /// Stores a CRL that is good, in the place of the one before.
    pub fn put_crl(&self, url: &str, tried: u64, good: &Good, der: &[u8]) -> Result<(), StoreError> {
        let Good { sha256, issuer, this_update, next_update, proven } = good;
        let (tried, this_update, next_update) = (signed(tried), signed(*this_update), signed(*next_update));
        self.lock().execute(
            "INSERT INTO crl_download (url, tried, failures, sha256, issuer, this_update, next_update, proven, der)
             VALUES (?1, ?2, 0, ?3, ?4, ?5, ?6, ?7, ?8)
             ON CONFLICT (url) DO UPDATE SET tried = ?2, failures = 0, trouble = NULL, sha256 = ?3, issuer = ?4,
             this_update = ?5, next_update = ?6, proven = ?7, der = ?8",
            params![url, tried, sha256.to_string(), issuer, this_update, next_update, proven, der],
        )?;
        Ok(())
    }

    /// Stores why a try brought nothing; the last good CRL stays.
    pub fn put_crl_trouble(&self, url: &str, tried: u64, trouble: &str) -> Result<(), StoreError> {
        self.lock().execute(
            "INSERT INTO crl_download (url, tried, failures, trouble) VALUES (?1, ?2, 1, ?3)
             ON CONFLICT (url) DO UPDATE SET tried = ?2, failures = failures + 1, trouble = ?3",
            params![url, signed(tried), trouble],
        )?;
        Ok(())
    }

    /// Forgets what came of distribution points that nobody names any more.
    pub fn forget_crl_downloads(&self, named: impl Fn(&str) -> bool) -> Result<(), StoreError> {
        let connection = self.lock();
        let mut rows = connection.prepare_cached("SELECT url FROM crl_download")?;
        let urls: Vec<String> = rows.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
        for url in urls.iter().filter(|url| !named(url)) {
            connection.execute("DELETE FROM crl_download WHERE url = ?1", [url])?;
        }
        Ok(())
    }

    /// Stores whether an anchor proves a downloaded CRL.
    pub fn put_crl_proof(&self, sha256: Fingerprint, proven: bool) -> Result<(), StoreError> {
        let connection = self.lock();
        let mut row = connection.prepare_cached("UPDATE crl_download SET proven = ?2 WHERE sha256 = ?1")?;
        row.execute(params![sha256.to_string(), proven])?;
        Ok(())
    }

    /// The downloaded CRLs: those that an anchor proves before the others, and each in the order in which the
    /// distribution points were received. Where they are too many or too large, the proxies leave out the last ones, and
    /// whoever tells many distribution points must not drive out what was there before.
    pub fn downloaded_crls(&self) -> Result<Vec<Fingerprint>, StoreError> {
        let connection = self.lock();
        // Points that only the configuration names were never received, and come first.
        let mut rows = connection.prepare_cached(
            "SELECT download.sha256 FROM crl_download AS download LEFT JOIN crl_url AS told ON told.url = download.url
             WHERE download.sha256 IS NOT NULL
             ORDER BY download.proven DESC, told.received, told.rowid, download.rowid",
        )?;
        let hashes: Vec<String> = rows.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
        let mut seen = HashSet::new();
        let crls = hashes.iter().filter_map(|hash| hash.parse().ok());
        Ok(crls.filter(|crl| seen.insert(*crl)).collect())
    }

    /// The DER form of a downloaded CRL.
    pub fn downloaded_crl(&self, sha256: Fingerprint) -> Result<Option<Vec<u8>>, StoreError> {
        let connection = self.lock();
        let mut rows = connection.prepare_cached("SELECT der FROM crl_download WHERE sha256 = ?1 LIMIT 1")?;
        Ok(rows.query_row([sha256.to_string()], |row| row.get(0)).optional()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> (tempfile::TempDir, Store) {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("x.sqlite")).unwrap();
        (folder, store)
    }

    fn url(number: impl std::fmt::Display) -> CrlUrl {
        CrlUrl::new(&format!("http://crl.example/{number}"), Fingerprint::of(b"certificate"), "CN=CA").unwrap()
    }

    fn crl(der: &[u8], proven: bool) -> Good {
        let sha256 = Fingerprint::of(der);
        Good { sha256, issuer: "CN=CA".to_owned(), this_update: 1, next_update: 2, proven }
    }

    #[test]
    fn crls_that_an_anchor_proves_are_served_first_and_of_the_others_the_oldest() {
        let (_folder, store) = store();
        store.add_crl_urls("t", &["z", "y", "x", "w"].map(url), &[]).unwrap();
        // One after the other was fetched; the last two are of the same CRL.
        for (name, der, proven) in [
            ("w", "newest", false),
            ("x", "proven", true),
            ("y", "older", false),
            ("z", "oldest", false),
            ("configured", "configured", true),
            ("again", "configured", true),
        ] {
            store.put_crl(url(name).url(), 7, &crl(der.as_bytes(), proven), der.as_bytes()).unwrap();
        }
        let served = |order: [&str; 5]| {
            assert_eq!(store.downloaded_crls().unwrap(), order.map(|der| Fingerprint::of(der.as_bytes())));
        };
        served(["configured", "proven", "oldest", "older", "newest"]);
        store.put_crl_proof(Fingerprint::of(b"newest"), true).unwrap();
        store.put_crl_proof(Fingerprint::of(b"configured"), false).unwrap();
        served(["proven", "newest", "configured", "oldest", "older"]);
    }

    #[test]
    fn crl_urls_have_their_bound() {
        let (_folder, store) = store();
        let all: Vec<CrlUrl> = (0..CRL_URLS + 5).map(url).collect();
        let taken = store.add_crl_urls("t", &all, &[]).unwrap();
        assert_eq!((taken.added, taken.known), (10_000, 5));
    }
}
