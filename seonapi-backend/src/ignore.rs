//! The ignore list at work: which events it takes and how many, and entries whose time is over.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use aws_lc_rs::digest::{SHA256, digest};
use chrono::{DateTime, SecondsFormat, Utc};
use nix::unistd::geteuid;
use seonapi_client::{Component, Event, EventMessage, Severity};
use uuid::Uuid;

use crate::bundle::alone;
use crate::configuration::{Configuration, Ignore};
use crate::journal::{Level, escaped, say};
use crate::replacing::{folder_of, replace};
use crate::store::{Store, StoreError};

/// Code of the line in the system log.
const EXPIRED: &str = "ignore-entry-expired";

/// What the entries of the ignore list took so far.
#[derive(Default)]
pub struct Ignored {
    counts: Mutex<BTreeMap<Ignore, u64>>,
    removed: Mutex<BTreeSet<Ignore>>,
}

impl Ignored {
    /// The text of the entry that takes an event with this message, now, and how many it has taken with this one.
    pub fn take(&self, list: &[Ignore], message: &str, now: DateTime<Utc>) -> Option<(String, u64)> {
        let lower = message.to_lowercase();
        let entry = list.iter().find(|entry| entry.is_in_force(now) && lower.contains(&entry.text.to_lowercase()))?;
        let mut counts = lock(&self.counts);
        let count = counts.entry(entry.clone()).or_default();
        *count += 1;
        Some((entry.text.clone(), *count))
    }

    /// Removes the entries whose time is over from the file, each with a line in the system log.
    pub fn remove_expired(&self, store: &Store, file: &Path, list: &[Ignore], now: DateTime<Utc>) {
        lock(&self.removed).retain(|entry| list.contains(entry));
        lock(&self.counts).retain(|entry, _| list.contains(entry));
        for entry in list.iter().filter(|entry| entry.until.is_some_and(|until| until < now)) {
            if lock(&self.removed).contains(entry) {
                continue;
            }
            if let Err(error) = self.tell(store, entry, now) {
                // It will be told the next time.
                say(Level::Error, format_args!("an ignore entry that is over cannot be told: {error}"));
                continue;
            }
            if let Err(reason) = remove(file, entry) {
                let (file, text) = (file.display(), escaped(&entry.text));
                say(
                    Level::Warn,
                    format_args!("the ignore entry \"{text}\" counts no more, but still stands in {file}: {reason}"),
                );
            }
            lock(&self.removed).insert(entry.clone());
        }
    }

    fn tell(&self, store: &Store, entry: &Ignore, now: DateTime<Utc>) -> Result<(), StoreError> {
        let count = lock(&self.counts).get(entry).copied().unwrap_or_default();
        let until = entry.until.map(time).unwrap_or_default();
        let message = format!(
            "the ignore entry {:?} was good until {until} and is removed; since the backend started it took {count} event(s)",
            entry.text
        );
        let event = Event {
            id: name_of(entry),
            time: now,
            severity: Severity::Info,
            component: Component::Backend,
            pid: std::process::id(),
            host: fs::read_to_string("/proc/sys/kernel/hostname").ok().map(|name| name.trim().to_owned()),
            code: Some(EXPIRED.to_owned()),
            message: EventMessage::new(message),
            session_id: None,
            partner: None,
            peer_address: None,
        };
        if store.add_events("", std::slice::from_ref(&event), false)?.stored > 0 {
            say(Level::Info, format_args!("{EXPIRED} {}", escaped(event.message.as_str())));
        }
        Ok(())
    }
}

/// The same for the same entry, so that its end is told once, whatever happens in between.
fn name_of(entry: &Ignore) -> Uuid {
    let text = format!("{EXPIRED}\n{:?}\n{:?}\n{}", entry.from, entry.until, entry.text);
    let hash = digest(&SHA256, text.as_bytes());
    let mut octets = [0; 16];
    octets.iter_mut().zip(hash.as_ref()).for_each(|(octet, hashed)| *octet = *hashed);
    // RFC 9562, 5.8: for whatever one likes.
    uuid::Builder::from_custom_bytes(octets).into_uuid()
}

/// Takes the entry out of the configuration file, and changes nothing else of it.
fn remove(file: &Path, entry: &Ignore) -> Result<(), String> {
    let by_hand = |reason: &str| format!("{reason}; remove it by hand");
    // An import at this moment must not be undone.
    let _alone = alone(&folder_of(file)).map_err(|failure| by_hand(&failure.lines.join(", ")))?;
    let file = fs::canonicalize(file).map_err(|error| by_hand(&error.to_string()))?;
    let about = fs::metadata(&file).map_err(|error| by_hand(&error.to_string()))?;
    if about.uid() != geteuid().as_raw() {
        return Err(by_hand("the file belongs to another user"));
    }
    let text = fs::read_to_string(&file).map_err(|error| by_hand(&error.to_string()))?;
    match Configuration::without(&file, &text, entry) {
        Some(changed) => replace(&file, changed.as_bytes(), about.mode() & 0o7777).map_err(|error| by_hand(&error)),
        None => Err(by_hand("it does not stand there as a table [[backend.ignore]] of its own")),
    }
}

fn time(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::AutoSi, true)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(text: &str, from: Option<&str>, until: Option<&str>) -> Ignore {
        let time = |text: &str| text.parse().unwrap();
        Ignore { text: text.to_owned(), from: from.map(time), until: until.map(time) }
    }

    #[test]
    fn an_entry_takes_what_holds_its_text_whatever_the_case_within_its_time() {
        let (start, end) = ("2026-03-01T00:00:00Z", "2026-03-02T00:00:00Z");
        let list = [entry("Verbindung STRASSE ü", Some(start), Some(end))];
        for (message, now, taken) in [
            ("die verbindung strasse Ü ist weg", start, true),
            ("VERBINDUNG strasse ü", end, true),
            ("verbindung strasse u", start, false),
            ("verbindung", start, false),
            ("verbindung strasse ü", "2026-02-28T23:59:59Z", false),
            ("verbindung strasse ü", "2026-03-02T00:00:01Z", false),
        ] {
            let took = Ignored::default().take(&list, message, now.parse().unwrap());
            assert_eq!(took.is_some(), taken, "{message} at {now}");
        }
    }

    #[test]
    fn each_entry_counts_for_itself() {
        let (ignored, list, now) = (Ignored::default(), [entry("a", None, None), entry("b", None, None)], Utc::now());
        let took: Vec<_> = ["a", "b", "xA", "c"].iter().map(|message| ignored.take(&list, message, now)).collect();
        let took: Vec<_> = took.iter().map(|took| took.as_ref().map(|(text, count)| (text.as_str(), *count))).collect();
        assert_eq!(took, [Some(("a", 1)), Some(("b", 1)), Some(("a", 2)), None]);
    }
}
