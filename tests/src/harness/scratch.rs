//! A directory for one run, removed at its end, which the daemons may use even when the harness runs as root.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};

use nix::unistd::{Uid, User};
use tempfile::TempDir;

use super::Trouble;

/// Whom daemons run as when the harness is root.
const UNPRIVILEGED: &str = "nobody";

/// The directory. All that is made in it by the harness belongs to the user whom the daemons run as.
pub struct Scratch {
    directory: TempDir,
    user: Option<User>,
}

impl Scratch {
    /// A new, empty one.
    pub fn new() -> Result<Self, Trouble> {
        let directory = TempDir::with_prefix("seon-proxy-").map_err(Trouble::io("scratch directory"))?;
        let user = if Uid::effective().is_root() { User::from_name(UNPRIVILEGED).unwrap_or(None) } else { None };
        let scratch = Self { directory, user };
        scratch.give(scratch.path())?;
        Ok(scratch)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// `-u USER` when the harness is root, since a daemon that is root would refuse to start; nothing otherwise.
    pub fn user_options(&self) -> Vec<String> {
        self.user.iter().flat_map(|user| ["-u".to_owned(), user.name.clone()]).collect()
    }

    /// A directory in it, made with those above it.
    pub fn directory(&self, name: &str) -> Result<PathBuf, Trouble> {
        let mut path = self.path().to_owned();
        for part in Path::new(name) {
            path.push(part);
            if !path.is_dir() {
                fs::create_dir(&path).map_err(Trouble::at(&path))?;
                self.give(&path)?;
            }
        }
        Ok(path)
    }

    /// A file in it, readable for its owner only.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> Result<PathBuf, Trouble> {
        let path = self.path().join(name);
        fs::write(&path, content).map_err(Trouble::at(&path))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).map_err(Trouble::at(&path))?;
        self.give(&path)?;
        Ok(path)
    }

    /// A program in a directory of its own, since daemons look for their files beside themselves.
    pub fn install(&self, binary: &Path, directory: &str) -> Result<PathBuf, Trouble> {
        let installed = self.directory(directory)?.join(binary.file_name().unwrap_or_default());
        if !installed.exists() && fs::hard_link(binary, &installed).is_err() {
            // Another file system: a copy does as well.
            fs::copy(binary, &installed).map_err(Trouble::at(&installed))?;
        }
        Ok(installed)
    }

    fn give(&self, path: &Path) -> Result<(), Trouble> {
        match &self.user {
            Some(user) => chown(path, Some(user.uid.as_raw()), Some(user.gid.as_raw())).map_err(Trouble::at(path)),
            None => Ok(()),
        }
    }
}
