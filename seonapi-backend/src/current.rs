//! The configuration in force, read again when something of it changes.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use chrono::Utc;

use crate::Failure;
use crate::bundle::settled;
use crate::configuration::{Configuration, Inputs, Reader};
use crate::ignore::Ignored;
use crate::journal::{self, Level, say};
use crate::place::Mistake;
use crate::store::Store;

/// The configuration in force.
pub struct Current {
    path: PathBuf,
    in_force: RwLock<Arc<Configuration>>,
    seen: Mutex<Inputs>,
    /// Why an import is not finished, as it was told last.
    unfinished: Mutex<Option<String>>,
    ignored: Ignored,
}

impl Current {
    /// Reads the configuration for the first time; fails with everything that is wrong with it.
    pub fn load(path: &Path) -> Result<Self, Vec<Mistake>> {
        let whole = |reason| Mistake { file: path.to_owned(), line: 1, field: String::new(), reason };
        let settled =
            settled(path).map_err(|Failure { lines, .. }| lines.into_iter().map(whole).collect::<Vec<_>>())?;
        let inputs = Inputs::read(path, Reader::Service);
        // Where what is there is good, the first look tells this, in the log that is then open.
        let unfinished = settled.unfinished().map(|reason| whole(reason.to_owned()));
        drop(settled);
        let configuration = Configuration::make(&inputs)
            .map_err(|mistakes| unfinished.into_iter().chain(mistakes).collect::<Vec<_>>())?;
        configuration.all_warnings().for_each(|warning| say(Level::Warn, warning));
        let in_force = RwLock::new(Arc::new(configuration));
        Ok(Self {
            path: path.to_owned(),
            in_force,
            seen: Mutex::new(inputs),
            unfinished: Mutex::default(),
            ignored: Ignored::default(),
        })
    }

    /// The configuration in force.
    pub fn get(&self) -> Arc<Configuration> {
        self.in_force.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The text of the ignore entry that takes an event with this message, and how many it has taken.
    pub fn ignores(&self, message: &str) -> Option<(String, u64)> {
        self.ignored.take(&self.get().ignore, message, Utc::now())
    }

    /// Removes the entries of the ignore list whose time is over.
    pub fn remove_expired(&self, store: &Store) {
        self.ignored.remove_expired(store, &self.path, &self.get().ignore, Utc::now());
    }

    /// Reads the file again where it, or a file that it names, has changed. One with mistakes changes nothing; they
    /// are told once.
    pub fn refresh(&self) -> Arc<Configuration> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        // Half of an import is no configuration where there is a whole one.
        let inputs = match settled(&self.path) {
            Ok(settled) => {
                self.tell_unfinished(settled.unfinished());
                if settled.unfinished().is_some() {
                    return self.get();
                }
                Inputs::read(&self.path, Reader::Service)
            }
            Err(Failure { lines, .. }) => {
                lines
                    .iter()
                    .for_each(|line| say(Level::Warn, format_args!("the configuration is not looked at: {line}")));
                return self.get();
            }
        };
        if inputs == *seen {
            return self.get();
        }
        match Configuration::make(&inputs) {
            Ok(configuration) => self.replace(configuration),
            Err(mistakes) => {
                mistakes.iter().for_each(|mistake| say(Level::Error, mistake));
                say(Level::Error, "the configuration has mistakes; the last good one stays in force");
            }
        }
        *seen = inputs;
        self.get()
    }

    /// Tells once that an import cannot be finished, again where the reason is another one, and once that it is.
    fn tell_unfinished(&self, reason: Option<&str>) {
        let mut told = self.unfinished.lock().unwrap_or_else(PoisonError::into_inner);
        if told.as_deref() == reason {
            return;
        }
        match reason {
            Some(reason) => say(
                Level::Error,
                format_args!(
                    "{reason}; until then what is in force stays, and at a start the files that are there count"
                ),
            ),
            None => say(Level::Info, "no import is left to be finished"),
        }
        *told = reason.map(str::to_owned);
    }

    fn replace(&self, configuration: Configuration) {
        let old = self.get();
        configuration.all_warnings().for_each(|warning| say(Level::Warn, warning));
        if (old.listen, &old.database) != (configuration.listen, &configuration.database) {
            say(Level::Warn, "`listen` and `database` take effect at the next start");
        }
        if old.log_file != configuration.log_file
            && let Err(error) = journal::write_to(configuration.log_file.as_deref())
        {
            say(Level::Error, format_args!("the log stays where it is, log_file cannot be opened: {error}"));
        }
        // A level that a signal chose stays until the file chooses another one.
        if old.log_level != configuration.log_level {
            journal::set_level(configuration.log_level, "the configuration");
        }
        *self.in_force.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(configuration);
        say(Level::Info, "the configuration has changed; the new one is in force");
    }
}
