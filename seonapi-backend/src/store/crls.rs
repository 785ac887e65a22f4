//! CRLs: the distribution points that proxyclients told, and what was downloaded from them.

use std::collections::HashSet;

use chrono::{DateTime, TimeDelta, Utc};
use rusqlite::{Connection, OptionalExtension, ToSql, params};
use seonapi_client::{CrlUrl, CrlUrlsTaken, Fingerprint};

use super::{Store, StoreError, now, signed, unsigned, written};
use crate::crl_download::{Download, Good};

/// CRL URLs that are kept, fetched from and served; partners have a few hundred CAs between them. Each stands in the
/// configuration of the proxies, which take 16 MiB of it: so many of 2 KiB are an eighth. A database of an earlier release
/// may hold more; the first ones count.
const CRL_URLS: i64 = 1000;
/// A distribution point that brought nothing good for so long a time is forgotten. A certificate that still names it has
/// it told again; without this, whoever tells enough of them would fill the table for good.
const IN_VAIN: TimeDelta = TimeDelta::days(30);
/// Least number of tries for that, about one a day: the backend may have been away meanwhile.
const TRIES_IN_VAIN: i64 = 30;

/// Whether one more CRL URL may be stored.
pub(super) fn has_room(connection: &Connection) -> Result<bool, StoreError> {
    let stored: i64 = connection.query_row("SELECT count(*) FROM crl_url", [], |row| row.get(0))?;
    Ok(stored < CRL_URLS)
}

impl Store {
    /// Stores the CRL URLs that are new, while there is room; `known` are those of the configuration.
    pub fn add_crl_urls(&self, token: &str, urls: &[CrlUrl], known: &[String]) -> Result<CrlUrlsTaken, StoreError> {
        let mut taken = CrlUrlsTaken::default();
        let mut connection = self.lock();
        let transaction = connection.transaction()?;
        for url in urls {
            let added = if known.iter().any(|known| known == url.url()) || !has_room(&transaction)? {
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
                _ => taken.added += 1,
            }
        }
        transaction.commit()?;
        Ok(taken)
    }

    /// The CRL URLs that proxyclients told us, in the order in which they were received.
    pub fn crl_urls(&self) -> Result<Vec<String>, StoreError> {
        Ok(self.crl_points()?.into_iter().map(|(url, _)| url).collect())
    }

    /// The same, each with the issuer of the certificate that names it.
    pub fn crl_points(&self) -> Result<Vec<(String, String)>, StoreError> {
        let connection = self.lock();
        let mut rows =
            connection.prepare_cached("SELECT url, issuer FROM crl_url ORDER BY received, rowid LIMIT ?1")?;
        let points = rows.query_map([CRL_URLS], |row| Ok((row.get(0)?, row.get(1)?)))?;
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

    /// Forgets told distribution points that were tried in vain for too long, and gives their URLs; and what came of those
    /// that nobody names any more. Those of the configuration stay.
    pub fn forget_crls(&self, configured: &[String], now: DateTime<Utc>) -> Result<Vec<String>, StoreError> {
        let mut connection = self.lock();
        let transaction = connection.transaction()?;
        let urls = |query: &str, parameters: &[&dyn ToSql]| -> Result<Vec<String>, StoreError> {
            let mut rows = transaction.prepare_cached(query)?;
            let urls = rows.query_map(parameters, |row| row.get(0))?.collect::<Result<Vec<String>, _>>()?;
            Ok(urls.into_iter().filter(|url| !configured.contains(url)).collect())
        };
        let received = written(now - IN_VAIN);
        let in_vain = urls(
            "SELECT url FROM crl_url JOIN crl_download USING (url)
             WHERE received <= ?1 AND failures >= ?2 AND sha256 IS NULL",
            &[&received, &TRIES_IN_VAIN],
        )?;
        for url in &in_vain {
            transaction.execute("DELETE FROM crl_url WHERE url = ?1", [url])?;
        }
        for url in urls("SELECT url FROM crl_download WHERE url NOT IN (SELECT url FROM crl_url)", &[])? {
            transaction.execute("DELETE FROM crl_download WHERE url = ?1", [url])?;
        }
        transaction.commit()?;
        Ok(in_vain)
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
    fn crl_urls_have_their_bound_and_are_given_in_the_order_of_their_reception() {
        let (_folder, store) = store();
        let all: Vec<CrlUrl> = (0..CRL_URLS + 5).rev().map(url).collect();
        let taken = store.add_crl_urls("t", &all, &[]).unwrap();
        assert_eq!((taken.added, taken.known), (1000, 5));
        let first: Vec<_> = all.iter().take(1000).map(|url| url.url().to_owned()).collect();
        assert_eq!(store.crl_urls().unwrap(), first);
        // One that comes with a bundle, too.
        store.take(&[], &[url("carried")], &[]).unwrap();
        assert!(!store.carried().unwrap().crl_urls.contains(&url("carried")));
    }

    #[test]
    fn of_more_crl_urls_than_that_in_an_older_database_the_first_ones_count() {
        let (_folder, store) = store();
        store.lock().execute_batch("BEGIN").unwrap();
        for number in (0..1200).rev() {
            let received = format!("2026-03-01T00:{:02}:{:02}.000Z", number / 60, number % 60);
            let insert = "INSERT INTO crl_url VALUES (?1, '', 'CN=CA', ?2, 't')";
            store.lock().execute(insert, params![url(number).url(), received]).unwrap();
        }
        store.lock().execute_batch("COMMIT").unwrap();
        assert_eq!(store.add_crl_urls("t", &[url("new")], &[]).unwrap(), CrlUrlsTaken { added: 0, known: 1 });
        let served = store.crl_urls().unwrap();
        assert_eq!((served.len(), served[0].as_str(), served[999].as_str()), (1000, url(0).url(), url(999).url()));
        // What was fetched from a later one stays.
        store.put_crl(url(1100).url(), 7, &crl(b"CRL", false), b"CRL").unwrap();
        assert!(store.forget_crls(&[], Utc::now()).unwrap().is_empty());
        assert_eq!(store.downloaded_crls().unwrap(), [Fingerprint::of(b"CRL")]);
    }

    #[test]
    fn what_brings_nothing_good_for_a_month_is_forgotten_and_may_be_told_again() {
        let (_folder, store) = store();
        let told = ["dead", "seldom-tried", "once-good", "configured"].map(url);
        store.add_crl_urls("t", &told, &[]).unwrap();
        store.put_crl(told[2].url(), 7, &crl(b"CRL", false), b"CRL").unwrap();
        for (url, tries) in told.iter().zip([30, 29, 30, 30]) {
            (0..tries).for_each(|_| store.put_crl_trouble(url.url(), 7, "not there").unwrap());
        }
        let forgotten = |days| {
            let configured = [told[3].url().to_owned()];
            store.forget_crls(&configured, Utc::now() + TimeDelta::days(days) + TimeDelta::minutes(1)).unwrap()
        };
        assert!(forgotten(29).is_empty());
        assert_eq!(forgotten(30), [told[0].url()]);
        assert_eq!(store.crl_urls().unwrap(), [1, 2, 3].map(|at| told[at].url()));
        assert_eq!(store.crl_downloads().unwrap().len(), 3);
        assert_eq!(store.add_crl_urls("t", &told, &[]).unwrap(), CrlUrlsTaken { added: 1, known: 3 });
        assert!(forgotten(60).is_empty(), "it was not tried yet");
    }
}
