//! The configuration in force, read again when something of it changes.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use crate::configuration::{Configuration, Inputs};
use crate::journal::say;
use crate::place::Mistake;

/// The configuration in force.
pub struct Current {
    path: PathBuf,
    in_force: RwLock<Arc<Configuration>>,
    seen: Mutex<Inputs>,
}

impl Current {
    /// Reads the configuration for the first time; fails with everything that is wrong with it.
    pub fn load(path: &Path) -> Result<Self, Vec<Mistake>> {
        let inputs = Inputs::read(path);
        let configuration = Configuration::make(&inputs)?;
        configuration.warnings.iter().for_each(|warning| say("WARN", warning));
        let in_force = RwLock::new(Arc::new(configuration));
        Ok(Self { path: path.to_owned(), in_force, seen: Mutex::new(inputs) })
    }

    /// The configuration in force.
    pub fn get(&self) -> Arc<Configuration> {
        self.in_force.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads the file again where it, or a file that it names, has changed. One with mistakes changes nothing; they
    /// are told once.
    pub fn refresh(&self) -> Arc<Configuration> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let inputs = Inputs::read(&self.path);
        if inputs == *seen {
            return self.get();
        }
        match Configuration::make(&inputs) {
            Ok(configuration) => self.replace(configuration),
            Err(mistakes) => {
                mistakes.iter().for_each(|mistake| say("ERROR", mistake));
                say("ERROR", "the configuration has mistakes; the last good one stays in force");
            }
        }
        *seen = inputs;
        self.get()
    }

    fn replace(&self, configuration: Configuration) {
        let old = self.get();
        configuration.warnings.iter().for_each(|warning| say("WARN", warning));
        if (old.listen, &old.database) != (configuration.listen, &configuration.database) {
            say("WARN", "`listen` and `database` take effect at the next start");
        }
        *self.in_force.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(configuration);
        say("INFO", "the configuration has changed; the new one is in force");
    }
}
