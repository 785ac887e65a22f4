//! An open directory whose files are reached through it, and through nothing else.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::fcntl::{OFlag, open, openat, renameat};
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, unlinkat};

/// A directory, opened once. The gate holds it without reading; the role it is handed to opens the files in it.
///
/// Names are single ones: no `/`, not `.` or `..`, so that nothing outside is reached (a symbolic link that the
/// administrator put there is followed).
#[derive(Debug)]
pub struct Directory(OwnedFd);

impl Directory {
    /// Opens a directory. What may be done in it is decided when a file in it is opened.
    ///
    /// # Errors
    /// It does not exist, is not a directory, or may not be entered.
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self(open(path, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?))
    }

    /// Opens a file in it for reading.
    ///
    /// # Errors
    /// As `openat`; `InvalidInput` for a name that is not a single one.
    pub fn open_file(&self, name: &str) -> io::Result<File> {
        self.open_with(name, OFlag::O_RDONLY, Mode::empty())
    }

    /// Reads a whole file of at most `at_most` octets. No more than that is ever read.
    ///
    /// # Errors
    /// As [`Directory::open_file`]; `FileTooLarge` when it has more.
    pub fn read(&self, name: &str, at_most: usize) -> io::Result<Vec<u8>> {
        read_bounded(self.open_file(name)?, at_most)
    }

    /// Makes a file that must not exist yet, with exactly this mode.
    ///
    /// # Errors
    /// As `openat`, `AlreadyExists` above all; `InvalidInput` for a name that is not a single one.
    pub fn create_new(&self, name: &str, mode: u32) -> io::Result<File> {
        let file =
            self.open_with(name, OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL, Mode::from_bits_truncate(mode))?;
        nix::sys::stat::fchmod(&file, Mode::from_bits_truncate(mode))?; // whatever the umask took away
        Ok(file)
    }

    /// Opens a file for appending, made with this mode (less the umask) if it does not exist.
    ///
    /// # Errors
    /// As `openat`; `InvalidInput` for a name that is not a single one.
    pub fn append(&self, name: &str, mode: u32) -> io::Result<File> {
        self.open_with(name, OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_APPEND, Mode::from_bits_truncate(mode))
    }

    /// Writes a file as a whole: under `name` there is the old or the new content, also after a loss of power.
    ///
    /// # Errors
    /// As `openat`, `write`, `fsync` and `renameat`; the old file then stands.
    pub fn replace(&self, name: &str, content: &[u8], mode: u32) -> io::Result<()> {
        let new = format!("{name}.new");
        match self.remove(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = self.create_new(&new, mode)?;
        let written = file.write_all(content).and_then(|()| file.sync_all()).and_then(|()| self.rename(&new, name));
        if written.is_err() {
            let _ = self.remove(&new);
        }
        written?;
        self.open_with_self()?.sync_all()
    }

    /// Gives a file in it another name, in the place of one that has it.
    ///
    /// # Errors
    /// As `renameat`; `InvalidInput` for a name that is not a single one.
    pub fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        Ok(renameat(&self.0, single(from)?, &self.0, single(to)?)?)
    }

    /// Removes a file in it.
    ///
    /// # Errors
    /// As `unlinkat`; `InvalidInput` for a name that is not a single one.
    pub fn remove(&self, name: &str) -> io::Result<()> {
        Ok(unlinkat(&self.0, single(name)?, UnlinkatFlags::NoRemoveDir)?)
    }

    fn open_with(&self, name: &str, flags: OFlag, mode: Mode) -> io::Result<File> {
        // Non-blocking: opening a FIFO that was put there must not hang a role; on a file it changes nothing.
        let flags = flags | OFlag::O_CLOEXEC | OFlag::O_NOCTTY | OFlag::O_NONBLOCK;
        Ok(File::from(openat(&self.0, single(name)?, flags, mode)?))
    }

    /// The directory itself, opened so that it can be synced, which O_PATH does not allow.
    fn open_with_self(&self) -> io::Result<File> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        Ok(File::from(openat(&self.0, ".", flags, Mode::empty())?))
    }
}

/// Reads all of `source`, at most `at_most` octets, into one allocation that is never moved (so that a secret leaves no
/// copy behind).
pub(crate) fn read_bounded(mut source: File, at_most: usize) -> io::Result<Vec<u8>> {
    let mut content = vec![0; at_most.saturating_add(1)];
    let mut len = 0;
    while let Some(room) = content.get_mut(len..).filter(|room| !room.is_empty()) {
        match source.read(room) {
            Ok(0) => break,
            Ok(read) => len += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    if len > at_most {
        content.fill(0);
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    content.truncate(len);
    Ok(content)
}

fn single(name: &str) -> io::Result<&str> {
    if name.is_empty() || name == "." || name == ".." || name.contains('/') {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not the name of a file in a directory"));
    }
    Ok(name)
}

impl AsFd for Directory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Takes over a directory descriptor that was inherited or came by a channel.
impl From<OwnedFd> for Directory {
    fn from(fd: OwnedFd) -> Self {
        Self(fd)
    }
}

impl From<Directory> for OwnedFd {
    fn from(directory: Directory) -> Self {
        directory.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn files_are_made_read_replaced_and_removed_through_it() {
        let folder = tempfile::tempdir().unwrap();
        let directory = Directory::open(folder.path()).unwrap();
        directory.create_new("key", 0o600).unwrap().write_all(b"secret").unwrap();
        let mode = std::fs::metadata(folder.path().join("key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(directory.create_new("key", 0o600).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(directory.read("key", 6).unwrap(), b"secret");
        assert_eq!(directory.read("key", 5).unwrap_err().kind(), io::ErrorKind::FileTooLarge);

        std::fs::write(folder.path().join("key.new"), "left over").unwrap();
        directory.replace("key", b"other", 0o640).unwrap();
        assert_eq!(std::fs::read(folder.path().join("key")).unwrap(), b"other");
        directory.append("log", 0o600).unwrap().write_all(b"a").unwrap();
        directory.append("log", 0o600).unwrap().write_all(b"b").unwrap();
        assert_eq!(directory.read("log", 10).unwrap(), b"ab");
        directory.remove("log").unwrap();
        assert_eq!(directory.open_file("log").unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn no_name_leads_out_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let directory = Directory::open(folder.path()).unwrap();
        for name in ["", ".", "..", "/etc/passwd", "../x", "a/b"] {
            assert_eq!(directory.open_file(name).unwrap_err().kind(), io::ErrorKind::InvalidInput, "{name:?}");
        }
        assert!(Directory::open(&folder.path().join("missing")).is_err());
    }
}
