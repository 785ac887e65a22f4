//! Replacing several files at once: everything is written beside the old files first; then a list of what takes whose name
//! is the moment from which on it counts. Who finds such a list finishes the work, whatever ended the one who began it.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::Failure;
use crate::replacing::{folder_of, replace, sync_folder};

/// The list, beside the configuration file.
const LIST: &str = ".seon_backend-import.json";
/// An import holds the folder only while files take their names.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is still to be done. Paths are relative to the folder.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct List {
    /// What takes the name of what, in this order.
    pub(super) renames: Vec<(PathBuf, PathBuf)>,
    /// What goes.
    pub(super) removals: Vec<PathBuf>,
}

/// Nobody changes the folder while this lives.
pub struct Settled {
    _folder: Option<File>,
}

/// Waits until no import is under way in the folder of this configuration file, and finishes one that was cut off.
///
/// # Errors
/// One is still under way after ten seconds, or cannot be finished.
pub fn settled(config: &Path) -> Result<Settled, Failure> {
    let folder = folder_of(config);
    // Where there is no folder there is nothing to wait for; who reads it will say so.
    let Ok(locked) = File::open(&folder) else { return Ok(Settled { _folder: None }) };
    if folder.join(LIST).exists() {
        lock(&locked, &folder, File::try_lock)?;
        finish(&folder).map_err(|error| cut_off(&folder, &error))?;
    }
    lock(&locked, &folder, File::try_lock_shared)?;
    Ok(Settled { _folder: Some(locked) })
}

/// Keeps everybody else out of the folder, for who changes something in it.
///
/// # Errors
/// Somebody else is in it for longer than ten seconds, or an import that was cut off cannot be finished.
pub fn alone(folder: &Path) -> Result<File, Failure> {
    let locked = File::open(folder).map_err(|error| format!("{} cannot be read: {error}", folder.display()))?;
    lock(&locked, folder, File::try_lock)?;
    finish(folder).map_err(|error| cut_off(folder, &error))?;
    Ok(locked)
}

/// Does what is on the list, now and whatever happens. Only for who is [`alone`].
pub(super) fn commit(folder: &Path, list: &List) -> Result<(), Failure> {
    replace(&folder.join(LIST), &serde_json::to_vec(list)?, 0o600)?;
    finish(folder).map_err(|error| cut_off(folder, &error))
}

fn finish(folder: &Path) -> io::Result<()> {
    let path = folder.join(LIST);
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let list: List = serde_json::from_slice(&text)?;
    for (draft, name) in &list.renames {
        absent_is_done(fs::rename(folder.join(draft), folder.join(name)))?;
        sync_folder(&folder.join(name))?;
    }
    for name in &list.removals {
        absent_is_done(fs::remove_file(folder.join(name)))?;
    }
    fs::remove_file(&path)?;
    sync_folder(&path)
}

fn absent_is_done(done: io::Result<()>) -> io::Result<()> {
    match done {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

fn cut_off(folder: &Path, error: &io::Error) -> Failure {
    format!(
        "an import into {} is checked and begun, and cannot be finished: {error}; it goes on with the next command",
        folder.display()
    )
    .into()
}

fn lock(folder: &File, shown: &Path, attempt: impl Fn(&File) -> Result<(), TryLockError>) -> Result<(), Failure> {
    let end = Instant::now() + PATIENCE;
    loop {
        match attempt(folder) {
            Ok(()) => return Ok(()),
            Err(TryLockError::WouldBlock) if Instant::now() < end => std::thread::sleep(Duration::from_millis(20)),
            Err(TryLockError::WouldBlock) => {
                return Err(format!("{} is in use by an import or export; try again", shown.display()).into());
            }
            // A file system without locks: everybody is alone on it.
            Err(TryLockError::Error(_)) => return Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_that_was_cut_off_anywhere_is_finished_by_whoever_comes_next() {
        for done in 0..=3 {
            let folder = tempfile::tempdir().unwrap();
            let at = |name: &str| folder.path().join(name);
            fs::write(at("seon_backend.toml"), "old").unwrap();
            fs::write(at("a"), "old").unwrap();
            fs::write(at("gone"), "old").unwrap();
            fs::write(at(".a"), "new").unwrap();
            fs::write(at(".toml"), "new").unwrap();
            let list = List {
                renames: vec![(".a".into(), "a".into()), (".toml".into(), "seon_backend.toml".into())],
                removals: vec!["gone".into()],
            };
            fs::write(at(LIST), serde_json::to_vec(&list).unwrap()).unwrap();
            // As many steps as were done before the power went.
            if done > 0 {
                fs::rename(at(".a"), at("a")).unwrap();
            }
            if done > 1 {
                fs::rename(at(".toml"), at("seon_backend.toml")).unwrap();
            }
            if done > 2 {
                fs::remove_file(at("gone")).unwrap();
            }
            let _settled = settled(&at("seon_backend.toml")).ok().unwrap();
            let read = |name: &str| fs::read_to_string(at(name)).unwrap();
            assert_eq!((read("a"), read("seon_backend.toml")), ("new".to_owned(), "new".to_owned()), "after {done}");
            assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "after {done}");
        }
    }
}
