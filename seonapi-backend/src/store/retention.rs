//! What keeps the database from growing for ever: the oldest goes.

use rusqlite::params;

use super::{Store, StoreError};

/// Rows that go in one transaction, so that nobody waits long for it.
const AT_ONCE: u32 = 5000;
/// Proxyclients whose status is kept; each has one.
const STATUSES: u32 = 1000;

impl Store {
    /// Keeps so many events (with all that belongs to them) and session records; gives how many went.
    pub fn keep(&self, events: u32, sessions: u32) -> Result<(usize, usize), StoreError> {
        let gone = (self.shorten("event", events)?, self.shorten("session", sessions)?);
        let connection = self.lock();
        connection.execute("DELETE FROM review WHERE event NOT IN (SELECT number FROM event)", [])?;
        connection.execute("DELETE FROM alarm WHERE event NOT IN (SELECT number FROM event)", [])?;
        connection.execute(
            "DELETE FROM status WHERE rowid NOT IN (SELECT rowid FROM status ORDER BY received DESC LIMIT ?1)",
            [STATUSES],
        )?;
        Ok(gone)
    }

    fn shorten(&self, table: &str, most: u32) -> Result<usize, StoreError> {
        let query = format!(
            "DELETE FROM {table} WHERE number IN (
                 SELECT number FROM {table}
                 WHERE number <= (SELECT number FROM {table} ORDER BY number DESC LIMIT 1 OFFSET ?1)
                 ORDER BY number LIMIT ?2)"
        );
        let mut all = 0;
        loop {
            // The lock is given back in between.
            let gone = self.lock().execute(&query, params![most, AT_ONCE])?;
            all += gone;
            if gone == 0 {
                return Ok(all);
            }
        }
    }
}
