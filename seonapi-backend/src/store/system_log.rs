//! The system log: events, the alarms that wait, and what administrators made of them.

use chrono::{DateTime, SecondsFormat, Utc};
use rusqlite::{Connection, Row, params};
use seonapi_client::{Event, Severity};
use serde::Serialize;

use super::{Store, StoreError, now};
use crate::alarm::{self, Waiting};

/// Alarms that may wait; a flood of bad events is in the system log anyway.
const WAITING: i64 = 1000;

/// What became of a batch of events.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Added {
    /// New ones.
    pub stored: u64,
    /// Alarms that wait because of them.
    pub alarms: u64,
    /// Alarms that are not given because too many wait.
    pub left_out: u64,
}

/// How far an administrator is with an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, clap::ValueEnum)]
pub enum State {
    /// Nobody looked at it.
    #[serde(rename = "new")]
    #[value(help = "Nobody looked at it")]
    New,
    /// Somebody does.
    #[serde(rename = "in review")]
    #[value(name = "in-review", alias = "in review", alias = "in_review", help = "Somebody looks at it")]
    InReview,
    /// It is done with.
    #[serde(rename = "closed")]
    #[value(help = "It is done with")]
    Closed,
}

/// An event as it stands in the system log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// Its number here.
    pub number: i64,
    /// How far it is.
    pub state: State,
    /// When it was received.
    pub received: String,
    /// Name of the token it came with; empty where the backend tells it itself.
    pub token: String,
    /// The event.
    #[serde(flatten)]
    pub event: Event,
    /// Each change of its state, the oldest first.
    pub reviews: Vec<Review>,
}

/// A change of state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Review {
    /// When.
    pub time: String,
    /// By whom.
    pub who: String,
    /// To which state.
    pub state: State,
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// Which events are wanted; what is not said does not matter.
#[derive(Debug, Default)]
pub struct Wanted {
    /// Not earlier.
    pub from: Option<DateTime<Utc>>,
    /// Not later.
    pub to: Option<DateTime<Utc>>,
    /// Of one of these.
    pub severities: Vec<Severity>,
    /// About this partner.
    pub partner: Option<String>,
    /// With this code.
    pub code: Option<String>,
    /// In one of these states.
    pub states: Vec<State>,
}

impl State {
    /// As it is stored and shown.
    pub fn name(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::InReview => "in review",
            Self::Closed => "closed",
        }
    }

    fn stored(name: &str) -> Self {
        [Self::InReview, Self::Closed].into_iter().find(|state| state.name() == name).unwrap_or(Self::New)
    }
}

impl Store {
    /// Stores the events whose `id` is new, all or none; with `alarms`, also that the bad ones are to be told.
    pub fn add_events(&self, token: &str, events: &[Event], alarms: bool) -> Result<Added, StoreError> {
        let mut added = Added::default();
        let mut connection = self.lock();
        let transaction = connection.transaction()?;
        let mut places =
            WAITING - transaction.query_row("SELECT count(*) FROM alarm", [], |row| row.get::<_, i64>(0))?;
        for event in events {
            let new = transaction
                .prepare_cached(
                    "INSERT INTO event (id, time, received, token, json) VALUES (?1, ?2, ?3, ?4, ?5)
                     ON CONFLICT DO NOTHING",
                )?
                .execute(params![event.id.to_string(), at(event.time), now(), token, serde_json::to_string(event)?])?;
            if new == 0 {
                continue;
            }
            added.stored += 1;
            if !alarms || !alarm::is_for(event) {
                continue;
            }
            if places <= 0 {
                added.left_out += 1;
                continue;
            }
            let number = transaction.last_insert_rowid();
            transaction.execute("INSERT INTO alarm (event, tries, due) VALUES (?1, 0, 0)", [number])?;
            (places, added.alarms) = (places - 1, added.alarms + 1);
        }
        transaction.commit()?;
        Ok(added)
    }

    /// The first `most` alarms whose time (in seconds since 1970, UTC) has come.
    pub fn due_alarms(&self, now: u64, most: usize) -> Result<Vec<Waiting>, StoreError> {
        let connection = self.lock();
        let mut rows = connection.prepare_cached(
            "SELECT event.number, event.json, alarm.tries FROM alarm JOIN event ON event.number = alarm.event
             WHERE alarm.due <= ?1 ORDER BY alarm.event LIMIT ?2",
        )?;
        let found = rows.query_map(params![super::signed(now), i64::try_from(most).unwrap_or(i64::MAX)], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?, row.get::<_, u32>(2)?))
        })?;
        found
            .map(|row| {
                let (number, json, tries) = row?;
                Ok(Waiting { number, event: serde_json::from_str(&json)?, tries })
            })
            .collect()
    }

    /// The alarm has come through, or will not.
    pub fn forget_alarm(&self, number: i64) -> Result<(), StoreError> {
        self.lock().execute("DELETE FROM alarm WHERE event = ?1", [number])?;
        Ok(())
    }

    /// None is wanted any more; gives how many waited.
    pub fn forget_alarms(&self) -> Result<usize, StoreError> {
        Ok(self.lock().execute("DELETE FROM alarm", [])?)
    }

    /// Another try is due at this time, in seconds since 1970 (UTC).
    pub fn postpone_alarm(&self, number: i64, tries: u32, due: u64) -> Result<(), StoreError> {
        self.lock().execute(
            "UPDATE alarm SET tries = ?2, due = ?3 WHERE event = ?1",
            params![number, tries, super::signed(due)],
        )?;
        Ok(())
    }

    /// The last `most` of the wanted events, the oldest of them first, and how many older ones there are.
    pub fn events(&self, wanted: &Wanted, most: u32) -> Result<(Vec<Entry>, u64), StoreError> {
        let connection = self.lock();
        let (condition, values) = wanted.sql();
        let values = rusqlite::params_from_iter(values);
        let all: i64 =
            connection.query_row(&format!("SELECT count(*) FROM event WHERE {condition}"), values.clone(), |row| {
                row.get(0)
            })?;
        let query = format!(
            "SELECT * FROM (SELECT number, state, received, token, json, time FROM event WHERE {condition}
             ORDER BY time DESC, number DESC LIMIT {most}) ORDER BY time, number"
        );
        let entries = entries(&connection, &query, values)?;
        let older = super::unsigned(all).saturating_sub(entries.len() as u64);
        Ok((entries, older))
    }

    /// The event with this number or `id`.
    pub fn event(&self, name: &str) -> Result<Entry, StoreError> {
        let query = "SELECT number, state, received, token, json FROM event WHERE id = ?1 OR number = ?2";
        let connection = self.lock();
        let found = entries(&connection, query, params![name.to_ascii_lowercase(), name.parse::<i64>().ok()])?;
        found.into_iter().next().ok_or_else(|| StoreError::NoSuchEvent(name.to_owned()))
    }

    /// Sets the state of the event with this number or `id`, and keeps by whom and why.
    pub fn review(&self, name: &str, state: State, who: &str, note: Option<&str>) -> Result<Entry, StoreError> {
        let number = self.event(name)?.number;
        let mut connection = self.lock();
        let transaction = connection.transaction()?;
        transaction.execute("UPDATE event SET state = ?2 WHERE number = ?1", params![number, state.name()])?;
        transaction.execute(
            "INSERT INTO review (event, time, who, state, note) VALUES (?1, ?2, ?3, ?4, ?5)",
            params![number, now(), who, state.name(), note],
        )?;
        transaction.commit()?;
        drop(connection);
        self.event(name)
    }
}

impl Wanted {
    /// A condition with numbered places, and what stands there.
    fn sql(&self) -> (String, Vec<String>) {
        let mut conditions = vec!["1".to_owned()];
        let mut values = Vec::new();
        let mut place = |value: String| {
            values.push(value);
            format!("?{}", values.len())
        };
        if let Some(from) = self.from {
            conditions.push(format!("time >= {}", place(at(from))));
        }
        if let Some(to) = self.to {
            conditions.push(format!("time <= {}", place(at(to))));
        }
        if let Some(partner) = &self.partner {
            conditions.push(format!("json_extract(json, '$.partner') = {}", place(partner.clone())));
        }
        if let Some(code) = &self.code {
            conditions.push(format!("json_extract(json, '$.code') = {}", place(code.clone())));
        }
        if !self.severities.is_empty() {
            let names: Vec<_> = self.severities.iter().map(|one| place(format!("{one:?}").to_lowercase())).collect();
            conditions.push(format!("json_extract(json, '$.severity') IN ({})", names.join(", ")));
        }
        if !self.states.is_empty() {
            let names: Vec<_> = self.states.iter().map(|one| place(one.name().to_owned())).collect();
            conditions.push(format!("state IN ({})", names.join(", ")));
        }
        (conditions.join(" AND "), values)
    }
}

fn entries(connection: &Connection, query: &str, values: impl rusqlite::Params) -> Result<Vec<Entry>, StoreError> {
    let mut rows = connection.prepare(query)?;
    let found = rows.query_map(values, |row| {
        Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?, row.get(2)?, row.get(3)?, row.get::<_, String>(4)?))
    })?;
    found
        .map(|row| {
            let (number, state, received, token, json) = row?;
            let event = serde_json::from_str(&json)?;
            let state = State::stored(&state);
            Ok(Entry { number, state, received, token, event, reviews: reviews(connection, number)? })
        })
        .collect()
}

fn reviews(connection: &Connection, event: i64) -> Result<Vec<Review>, StoreError> {
    let query = "SELECT time, who, state, note FROM review WHERE event = ?1 ORDER BY number";
    let mut rows = connection.prepare_cached(query)?;
    let found = rows.query_map([event], |row: &Row<'_>| {
        let state: String = row.get(2)?;
        Ok(Review { time: row.get(0)?, who: row.get(1)?, state: State::stored(&state), note: row.get(3)? })
    })?;
    Ok(found.collect::<Result<_, _>>()?)
}

/// As times stand in the file, so that their order is that of the texts.
fn at(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Millis, true)
}
