//! The SQLite file: tokens (as hashes), events, session records, status and CRL URLs.

mod carried;
mod crls;
mod retention;
mod system_log;

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use license::SecurityToken;
use rusqlite::{Connection, OptionalExtension, params};
use seonapi_client::{SessionRecord, Status};
use serde::{Deserialize, Serialize};

pub use carried::{Carried, DownloadedCrl};
pub use system_log::{Entry, State, Wanted};

use crate::replacing::owned_as_its_folder;

/// Version of the tables; a file with a higher one is of a later release.
const VERSION: i64 = 4;
const TABLES: &str = "
    CREATE TABLE token (
        sha256 TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, created TEXT NOT NULL, enabled INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE event (
        number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, time TEXT NOT NULL, received TEXT NOT NULL,
        token TEXT NOT NULL, json TEXT NOT NULL
    ) STRICT;
    CREATE TABLE session (
        number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, ended TEXT NOT NULL, received TEXT NOT NULL,
        token TEXT NOT NULL, json TEXT NOT NULL
    ) STRICT;
    CREATE TABLE status (
        token TEXT NOT NULL, host TEXT NOT NULL, received TEXT NOT NULL, json TEXT NOT NULL,
        PRIMARY KEY (token, host)
    ) STRICT;
    CREATE TABLE crl_url (
        url TEXT PRIMARY KEY, certificate_sha256 TEXT NOT NULL, issuer TEXT NOT NULL, received TEXT NOT NULL,
        token TEXT NOT NULL
    ) STRICT;
";
/// Since version 2. Times are seconds since 1970 (UTC); what is of the last good CRL is NULL while there is none.
const CRL_TABLE: &str = "
    CREATE TABLE crl_download (
        url TEXT PRIMARY KEY, tried INTEGER NOT NULL, failures INTEGER NOT NULL, trouble TEXT,
        sha256 TEXT, issuer TEXT, this_update INTEGER, next_update INTEGER, der BLOB
    ) STRICT;
";

/// Since version 3: alarms that wait (times are seconds since 1970, UTC), and what administrators made of events.
const REVIEW_TABLES: &str = "
    ALTER TABLE event ADD COLUMN state TEXT NOT NULL DEFAULT 'new';
    CREATE TABLE alarm (event INTEGER PRIMARY KEY, tries INTEGER NOT NULL, due INTEGER NOT NULL) STRICT;
    CREATE TABLE review (
        number INTEGER PRIMARY KEY, event INTEGER NOT NULL, time TEXT NOT NULL, who TEXT NOT NULL, state TEXT NOT NULL,
        note TEXT
    ) STRICT;
    CREATE INDEX event_time ON event (time);
    CREATE INDEX session_ended ON session (ended);
    CREATE INDEX review_event ON review (event);
";

/// Since version 4: whether an anchor proves a downloaded CRL. Of older ones it is found out at the next start.
const PROOF: &str = "ALTER TABLE crl_download ADD COLUMN proven INTEGER NOT NULL DEFAULT 0;";

/// The opened SQLite file. Its calls wait for the disk: never call them on the runtime's thread.
pub struct Store(Mutex<Connection>);

/// Why the store did not do what it should.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// SQLite says so.
    #[error("the database says: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// The file cannot be made or opened.
    #[error("the database {0} cannot be used: {1}")]
    File(String, std::io::Error),
    /// There is none.
    #[error("there is no database {0}; `seon_backend serve` and `token new` make it")]
    NotThere(String),
    /// It was written by a later release.
    #[error("the database has version {0}, and this release knows versions up to {VERSION}")]
    Newer(i64),
    /// What was stored is not JSON: a bug, or somebody wrote into the file.
    #[error("a row of the database is damaged: {0}")]
    Damaged(#[from] serde_json::Error),
    /// The name is given already.
    #[error("there is a token with the name {0:?} already")]
    NameTaken(String),
    /// The work ended before it was done: a bug.
    #[error("work on the database ended badly: {0}")]
    Interrupted(String),
    /// No such event.
    #[error("there is no event {0:?}; `seon_backend events` shows the number of each")]
    NoSuchEvent(String),
    /// No such token.
    #[error("there is no token with the name {0:?}; `seon_backend token list` shows them")]
    NoSuchToken(String),
}

/// What is known of the token of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It is known, by this name.
    Good(String),
    /// It is known, and disabled.
    Disabled(String),
    /// It is not known.
    Unknown,
}

/// A token as `token list` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenLine {
    /// Its name.
    pub name: String,
    /// SHA-256 over its printed form.
    pub sha256: String,
    /// When it was made.
    pub created: String,
    /// Whether it is accepted.
    pub enabled: bool,
}

impl Store {
    /// Opens the file; makes it, for its owner alone, where there is none.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let unusable = |error| StoreError::File(path.display().to_string(), error);
        let new = !path.exists();
        let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path);
        file.map_err(unusable)?;
        if new {
            owned_as_its_folder(path).map_err(unusable)?;
        }
        let mut connection = Connection::open(path)?;
        // The commands for tokens work beside a running backend.
        connection.busy_timeout(Duration::from_secs(10))?;
        let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        let version: i64 = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
        if version > VERSION {
            return Err(StoreError::Newer(version));
        }
        // Each release adds to what the one before it left.
        let releases = [TABLES, CRL_TABLE, REVIEW_TABLES, PROOF];
        for tables in releases.iter().skip(usize::try_from(version).unwrap_or_default()) {
            transaction.execute_batch(tables)?;
        }
        if version < VERSION {
            transaction.pragma_update(None, "user_version", VERSION)?;
        }
        transaction.commit()?;
        Ok(Self(Mutex::new(connection)))
    }

    /// Opens the file that must be there.
    pub fn open_existing(path: &Path) -> Result<Self, StoreError> {
        if path.exists() {
            return Self::open(path);
        }
        Err(StoreError::NotThere(path.display().to_string()))
    }

    /// Stores the hash of a new token under a name; without one, under the beginning of its hash.
    pub fn add_token(&self, token: &SecurityToken, name: Option<&str>) -> Result<String, StoreError> {
        let sha256 = token.sha256_hex();
        let name = name.map_or_else(|| sha256.chars().take(12).collect(), str::to_owned);
        let added = self.lock().execute(
            "INSERT INTO token (sha256, name, created, enabled) VALUES (?1, ?2, ?3, 1) ON CONFLICT DO NOTHING",
            params![sha256, name, now()],
        )?;
        if added == 0 { Err(StoreError::NameTaken(name)) } else { Ok(name) }
    }

    /// All tokens, the oldest first.
    pub fn tokens(&self) -> Result<Vec<TokenLine>, StoreError> {
        let connection = self.lock();
        let mut rows = connection.prepare("SELECT name, sha256, created, enabled FROM token ORDER BY created, name")?;
        let lines = rows.query_map([], |row| {
            Ok(TokenLine { name: row.get(0)?, sha256: row.get(1)?, created: row.get(2)?, enabled: row.get(3)? })
        })?;
        Ok(lines.collect::<Result<_, _>>()?)
    }

    /// Enables or disables the token with this name; at once, also for a running backend.
    pub fn enable_token(&self, name: &str, enabled: bool) -> Result<(), StoreError> {
        match self.lock().execute("UPDATE token SET enabled = ?2 WHERE name = ?1", params![name, enabled])? {
            0 => Err(StoreError::NoSuchToken(name.to_owned())),
            _ => Ok(()),
        }
    }

    /// What is known of the token with this hash.
    pub fn standing(&self, sha256: &str) -> Result<Standing, StoreError> {
        let connection = self.lock();
        let mut rows = connection.prepare_cached("SELECT name, enabled FROM token WHERE sha256 = ?1")?;
        let found = rows.query_row([sha256], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
        Ok(match found {
            Some((name, true)) => Standing::Good(name),
            Some((name, false)) => Standing::Disabled(name),
            None => Standing::Unknown,
        })
    }

    /// Stores the session records whose `id` is new, all or none.
    pub fn add_sessions(&self, token: &str, sessions: &[SessionRecord]) -> Result<(), StoreError> {
        let mut connection = self.lock();
        let transaction = connection.transaction()?;
        for session in sessions {
            let ended = session.ended.to_rfc3339_opts(SecondsFormat::Millis, true);
            transaction
                .prepare_cached(
                    "INSERT INTO session (id, ended, received, token, json) VALUES (?1, ?2, ?3, ?4, ?5)
                     ON CONFLICT DO NOTHING",
                )?
                .execute(params![session.id.to_string(), ended, now(), token, serde_json::to_string(session)?])?;
        }
        Ok(transaction.commit()?)
    }

    /// Stores the newest status of a proxyclient.
    pub fn put_status(&self, token: &str, status: &Status) -> Result<(), StoreError> {
        let host = status.client.host.as_deref().unwrap_or_default();
        self.lock().execute(
            "INSERT OR REPLACE INTO status (token, host, received, json) VALUES (?1, ?2, ?3, ?4)",
            params![token, host, now(), serde_json::to_string(status)?],
        )?;
        Ok(())
    }

    /// The last `most` session records, the oldest of them first.
    pub fn sessions(&self, most: u32) -> Result<Vec<SessionRecord>, StoreError> {
        self.last("SELECT json FROM (SELECT json, ended, number FROM session ORDER BY ended DESC, number DESC LIMIT ?1) ORDER BY ended, number", most)
    }

    /// The newest status of each proxyclient, with the time it was received.
    pub fn statuses(&self) -> Result<Vec<(String, Status)>, StoreError> {
        let connection = self.lock();
        let mut rows = connection.prepare("SELECT received, json FROM status ORDER BY host, token")?;
        let found = rows.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))?;
        found
            .map(|row| row.map_err(StoreError::from).and_then(|(time, json)| Ok((time, serde_json::from_str(&json)?))))
            .collect()
    }

    fn last<T: serde::de::DeserializeOwned>(&self, query: &str, most: u32) -> Result<Vec<T>, StoreError> {
        let connection = self.lock();
        let mut rows = connection.prepare(query)?;
        let found = rows.query_map([most], |row| row.get::<_, String>(0))?;
        found.map(|json| json.map_err(StoreError::from).and_then(|json| Ok(serde_json::from_str(&json)?))).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        // A transaction of a thread that panicked was rolled back when it was dropped.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// SQLite has no unsigned numbers.
fn signed(number: u64) -> i64 {
    number.try_into().unwrap_or(i64::MAX)
}

fn unsigned(number: i64) -> u64 {
    number.try_into().unwrap_or_default()
}

fn now() -> String {
    written(Utc::now())
}

/// Such texts sort as the times do.
fn written(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Millis, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_oldest_goes_with_all_that_belongs_to_it() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("x.sqlite")).unwrap();
        let event = |number: u32| {
            let id = format!("00000000-0000-4000-8000-{number:012}");
            serde_json::from_value(serde_json::json!({
                "id": id, "time": "2026-03-01T00:00:00Z", "severity": "error", "component": "proxyserver", "pid": 7,
                "message": "told",
            }))
            .unwrap()
        };
        let events: Vec<seonapi_client::Event> = (1..=10).map(event).collect();
        store.add_events("t", &events, true).unwrap();
        store.review("1", State::Closed, "me", None).unwrap();
        store.review("10", State::Closed, "me", None).unwrap();
        assert_eq!(store.keep(10, 10).unwrap(), (0, 0));
        assert_eq!(store.keep(4, 10).unwrap(), (6, 0));
        let (kept, older) = store.events(&Wanted::default(), 100).unwrap();
        assert_eq!(kept.iter().map(|entry| entry.number).collect::<Vec<_>>(), [7, 8, 9, 10]);
        assert_eq!((older, store.due_alarms(0, 100).unwrap().len(), kept[3].reviews.len()), (0, 4, 1));
        let reviews: i64 = store.lock().query_row("SELECT count(*) FROM review", [], |row| row.get(0)).unwrap();
        assert_eq!(reviews, 1);
    }

    #[test]
    fn a_database_of_version_1_is_brought_up_to_date_with_all_it_holds() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("seon_backend.sqlite");
        let old = Connection::open(&path).unwrap();
        old.execute_batch(TABLES).unwrap();
        old.pragma_update(None, "user_version", 1).unwrap();
        old.execute("INSERT INTO crl_url VALUES ('http://crl.example/1', '', 'CN=CA', '', 't')", []).unwrap();
        drop(old);
        for _ in 0..2 {
            let store = Store::open(&path).unwrap();
            assert_eq!(store.crl_points().unwrap(), [("http://crl.example/1".to_owned(), "CN=CA".to_owned())]);
            store.put_crl_trouble("http://crl.example/1", 7, "not there").unwrap();
        }
        let downloads = Store::open(&path).unwrap().crl_downloads().unwrap();
        assert_eq!((downloads.len(), downloads[0].failures, downloads[0].tried), (1, 2, 7));
        assert_eq!(downloads[0].trouble.as_deref(), Some("not there"));
        // Whether an anchor proves a CRL of an earlier version is not known yet.
        let hash = seonapi_client::Fingerprint::of(b"CRL");
        let columns = "url, tried, failures, sha256, issuer, this_update, next_update, der";
        let values = format!("'http://crl.example/2', 7, 0, '{hash}', 'CN=CA', 1, 2, x'30'");
        let store = Store::open(&path).unwrap();
        store.lock().execute(&format!("INSERT INTO crl_download ({columns}) VALUES ({values})"), []).unwrap();
        let proven = |store: &Store| store.crl_downloads().unwrap()[1].crl.as_ref().is_some_and(|crl| crl.proven);
        assert!(!proven(&store));
        store.put_crl_proof(hash, true).unwrap();
        assert!(proven(&Store::open(&path).unwrap()));
        // Nobody names the second one.
        Store::open(&path).unwrap().forget_crls(&[], Utc::now()).unwrap();
        assert_eq!(Store::open(&path).unwrap().crl_downloads().unwrap().len(), 1);
    }
}
