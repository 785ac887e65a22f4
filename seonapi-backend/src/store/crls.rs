//! CRLs: the distribution points that proxyclients told, and what was downloaded from them.

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
            "SELECT url, tried, failures, trouble, sha256, issuer, this_update, next_update FROM crl_download
             ORDER BY url",
        )?;
        let downloads = rows.query_map([], |row| {
            let sha256: Option<String> = row.get(4)?;
            let crl = match sha256.and_then(|sha256| sha256.parse().ok()) {
                Some(sha256) => {
                    let (this_update, next_update) = (unsigned(row.get(6)?), unsigned(row.get(7)?));
                    Some(Good { sha256, issuer: row.get(5)?, this_update, next_update })
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
        let Good { sha256, issuer, this_update, next_update } = good;
        self.lock().execute(
            "INSERT INTO crl_download (url, tried, failures, sha256, issuer, this_update, next_update, der)
             VALUES (?1, ?2, 0, ?3, ?4, ?5, ?6, ?7)
             ON CONFLICT (url) DO UPDATE SET tried = ?2, failures = 0, trouble = NULL, sha256 = ?3, issuer = ?4,
             this_update = ?5, next_update = ?6, der = ?7",
            params![url, signed(tried), sha256.to_string(), issuer, signed(*this_update), signed(*next_update), der],
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

    /// The downloaded CRLs, in the order of their hashes.
    pub fn downloaded_crls(&self) -> Result<Vec<Fingerprint>, StoreError> {
        let connection = self.lock();
        let mut rows = connection
            .prepare_cached("SELECT DISTINCT sha256 FROM crl_download WHERE sha256 IS NOT NULL ORDER BY sha256")?;
        let hashes: Vec<String> = rows.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
        Ok(hashes.iter().filter_map(|hash| hash.parse().ok()).collect())
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

    #[test]
    fn crl_urls_have_their_bound() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("x.sqlite")).unwrap();
        let url = |number: i64| {
            CrlUrl::new(&format!("http://crl.example/{number}"), Fingerprint::of(b"certificate"), "CN=CA").unwrap()
        };
        let all: Vec<CrlUrl> = (0..CRL_URLS + 5).map(url).collect();
        let taken = store.add_crl_urls("t", &all, &[]).unwrap();
        assert_eq!((taken.added, taken.known), (10_000, 5));
    }
}
