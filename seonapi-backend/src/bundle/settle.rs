//! Replacing several files at once: everything is written beside the old files first; then a list of what takes whose name
//! is the moment from which on it counts. Who finds such a list finishes the work, whatever ended the one who began it.
//! What then cannot be done keeps nobody from reading what is there.

use std::fmt;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use seonapi_client::CrlUrl;
use serde::{Deserialize, Serialize};

use crate::Failure;
use crate::replacing::{folder_of, replace, sync_folder};
use crate::store::{Store, TokenLine};

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
    /// What comes into the database when all files are there, so that no token counts before its configuration does.
    #[serde(default)]
    pub(super) database: Option<IntoDatabase>,
}

/// What comes into a database.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct IntoDatabase {
    /// The SQLite file.
    pub(super) path: PathBuf,
    /// The security tokens, as hashes.
    pub(super) tokens: Vec<TokenLine>,
    /// The distribution points that proxyclients told.
    pub(super) crl_urls: Vec<CrlUrl>,
}

/// Nobody changes the folder while this lives.
pub struct Settled {
    _folder: Option<File>,
    unfinished: Option<String>,
}

impl Settled {
    /// Why an import that was begun is not finished, and what to do about it; none where nothing is left to be done.
    pub fn unfinished(&self) -> Option<&str> {
        self.unfinished.as_deref()
    }
}

/// Waits until no import is under way in the folder of this configuration file, and finishes one that was cut off, as
/// far as it can be finished.
///
/// # Errors
/// One is still under way after ten seconds.
pub fn settled(config: &Path) -> Result<Settled, Failure> {
    let folder = folder_of(config);
    // Where there is no folder there is nothing to wait for; who reads it will say so.
    let Ok(locked) = File::open(&folder) else { return Ok(Settled { _folder: None, unfinished: None }) };
    let mut unfinished = None;
    if folder.join(LIST).exists() {
        lock(&locked, &folder, File::try_lock)?;
        unfinished = finish(&folder).err();
    }
    lock(&locked, &folder, File::try_lock_shared)?;
    Ok(Settled { _folder: Some(locked), unfinished })
}

/// Keeps everybody else out of the folder, for who changes something in it.
///
/// # Errors
/// Somebody else is in it for longer than ten seconds, or an import that was cut off cannot be finished.
pub fn alone(folder: &Path) -> Result<File, Failure> {
    let locked = File::open(folder).map_err(|error| format!("{} cannot be read: {error}", folder.display()))?;
    lock(&locked, folder, File::try_lock)?;
    finish(folder)?;
    Ok(locked)
}

/// Writes the list: from here on it counts, and [`finish`] does it. What fails leaves none. Only for who is [`alone`].
pub(super) fn begin(folder: &Path, list: &List) -> Result<(), Failure> {
    let path = folder.join(LIST);
    replace(&path, &serde_json::to_vec(list)?, 0o600).inspect_err(|_| {
        // It may be there and only not yet on the disk.
        let _ = fs::remove_file(&path);
    })?;
    Ok(())
}

/// Does what is on the list, where there is one; gives the number of new tokens. Only for who is [`alone`].
///
/// # Errors
/// A step cannot be done: what is in the way, and what to do.
pub(super) fn finish(folder: &Path) -> Result<usize, String> {
    let path = folder.join(LIST);
    let unfinished = |place: &Path, reason: &dyn fmt::Display| {
        format!(
            "an import into {} is checked and begun, and cannot be finished: {}: {reason}; mend that, and the next \
             command goes on with it, or remove {} to leave everything as it is now",
            folder.display(),
            place.display(),
            path.display()
        )
    };
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(unfinished(&path, &error)),
    };
    let list: List = serde_json::from_slice(&text).map_err(|error| unfinished(&path, &error))?;
    for (draft, name) in &list.renames {
        let place = folder.join(name);
        let renamed = absent_is_done(fs::rename(folder.join(draft), &place)).and_then(|()| sync_folder(&place));
        renamed.map_err(|error| unfinished(&place, &error))?;
    }
    for name in &list.removals {
        let place = folder.join(name);
        absent_is_done(fs::remove_file(&place)).map_err(|error| unfinished(&place, &error))?;
    }
    let mut new_tokens = 0;
    if let Some(IntoDatabase { path, tokens, crl_urls }) = &list.database {
        let place = folder.join(path);
        let taken = Store::open(&place).and_then(|store| store.take(tokens, crl_urls, &[]));
        new_tokens = taken.map_err(|error| unfinished(&place, &error))?;
    }
    let removed = fs::remove_file(&path).and_then(|()| sync_folder(&path));
    removed.map_err(|error| unfinished(&path, &error))?;
    Ok(new_tokens)
}

fn absent_is_done(done: io::Result<()>) -> io::Result<()> {
    match done {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
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
                database: None,
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

    #[test]
    fn tokens_count_when_all_files_are_there_and_not_before() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let token = TokenLine {
            name: "inside1".to_owned(),
            sha256: "0".repeat(64),
            created: "2026-03-01T00:00:00Z".to_owned(),
            enabled: true,
        };
        let tokens = || Store::open(&at("x.sqlite")).unwrap().tokens().unwrap();
        let list = List {
            renames: vec![(".toml".into(), "seon_backend.toml".into())],
            database: Some(IntoDatabase { path: "x.sqlite".into(), tokens: vec![token.clone()], crl_urls: Vec::new() }),
            ..List::default()
        };
        fs::write(at(".toml"), "new").unwrap();
        fs::create_dir(at("seon_backend.toml")).unwrap();
        begin(folder.path(), &list).ok().unwrap();
        let reason = finish(folder.path()).unwrap_err();
        for part in [at("seon_backend.toml"), at(LIST)] {
            assert!(reason.contains(&format!("{}", part.display())), "{reason}");
        }
        assert_eq!(tokens(), []);
        // Who only reads is not kept from it.
        assert_eq!(settled(&at("seon_backend.toml")).ok().unwrap().unfinished(), Some(reason.as_str()));
        fs::remove_dir(at("seon_backend.toml")).unwrap();
        assert_eq!(finish(folder.path()), Ok(1));
        assert_eq!((tokens(), at(LIST).exists()), (vec![token], false));
    }

    #[test]
    fn a_list_that_cannot_be_written_is_not_begun() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join(LIST)).unwrap();
        let failure = begin(folder.path(), &List::default()).err().unwrap();
        assert!(failure.lines[0].contains(LIST), "{:?}", failure.lines);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
