//! Secrets from files: `@FILE` on the command line, or a credential of the service manager.

use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use crate::descriptors::{Directory, Mapping, SealedFile};

/// No token, URL or password is longer.
const LONGEST: usize = 16 * 1024;

/// Why a secret cannot be had. Names the place, never the content.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// The file or its directory cannot be opened or read.
    #[error("{path} cannot be read: {source}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system answered.
        source: io::Error,
    },
    /// More than 16 KiB.
    #[error("{0} has more than 16 KiB, which no secret has")]
    TooLarge(PathBuf),
    /// Nothing in it.
    #[error("{0} is empty")]
    Empty(PathBuf),
    /// Not text.
    #[error("{0} is not text (UTF-8 without control characters)")]
    NotText(PathBuf),
    /// `@` without a file name, or a path that ends in `/` or `..`.
    #[error("{0:?} does not name a file after the @")]
    NoFile(String),
}

/// Where a secret is. Located by the gate, which opens the directory and does not look; read by the role that needs it,
/// at each of its starts anew.
pub enum Secret {
    /// It stood on the command line itself and is kept in a memory file, so that the gate's own memory does not hold it.
    Given(SealedFile),
    /// It is in a file.
    File {
        /// The directory of the file, open.
        directory: Directory,
        /// The name of the file in it.
        name: String,
        /// The whole path, for messages.
        path: PathBuf,
    },
}

/// A [`Secret`] without its descriptor, for a gate that executes itself anew. Names its place and holds nothing of it.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub enum Kept {
    /// As [`Secret::Given`].
    Given,
    /// As [`Secret::File`].
    File {
        /// The name of the file.
        name: String,
        /// The whole path.
        path: PathBuf,
    },
}

impl Secret {
    /// What has to be kept beside [`Secret::descriptor`] to take it over.
    pub fn kept(&self) -> Kept {
        match self {
            Self::Given(_) => Kept::Given,
            Self::File { name, path, .. } => Kept::File { name: name.clone(), path: path.clone() },
        }
    }

    /// Takes over what [`Secret::kept`] and [`Secret::descriptor`] gave.
    pub fn take_over(kept: Kept, descriptor: OwnedFd) -> Self {
        match kept {
            Kept::Given => Self::Given(descriptor.into()),
            Kept::File { name, path } => Self::File { directory: descriptor.into(), name, path },
        }
    }

    /// Locates a secret: `@FILE` or the secret itself from the option, or else the service manager's credential `name`
    /// (systemd's LoadCredential), or else none. A relative FILE is one of the present directory.
    ///
    /// # Errors
    /// The directory of the file cannot be opened. (Whether the file is there shows when it is read.)
    pub fn locate(option: Option<&str>, name: &str) -> Result<Option<Self>, CredentialError> {
        Self::locate_with(option, name, std::env::var_os("CREDENTIALS_DIRECTORY").as_deref())
    }

    fn locate_with(
        option: Option<&str>,
        name: &str,
        credentials: Option<&OsStr>,
    ) -> Result<Option<Self>, CredentialError> {
        match option {
            Some(option) => match option.strip_prefix('@') {
                Some(file) => Self::in_file(Path::new(file)).map(Some),
                None => SealedFile::write("credential", option.as_bytes())
                    .map(|file| Some(Self::Given(file)))
                    .map_err(|source| CredentialError::Unreadable { path: "(memory)".into(), source }),
            },
            None => {
                let Some(path) = credentials.map(|directory| Path::new(directory).join(name)) else {
                    return Ok(None);
                };
                if path.exists() { Self::in_file(&path).map(Some) } else { Ok(None) }
            }
        }
    }

    fn in_file(path: &Path) -> Result<Self, CredentialError> {
        let no_file = || CredentialError::NoFile(path.to_string_lossy().into_owned());
        let name = path.file_name().and_then(OsStr::to_str).ok_or_else(no_file)?.to_owned();
        let unreadable = |source| CredentialError::Unreadable { path: path.to_owned(), source };
        let path = std::path::absolute(path).map_err(unreadable)?;
        let parent = path.parent().ok_or_else(no_file)?;
        let directory = Directory::open(parent).map_err(unreadable)?;
        Ok(Self::File { directory, name, path })
    }

    /// The descriptor to keep in [`close_all_but`](crate::descriptors::close_all_but) until it has been read.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        match self {
            Self::Given(file) => file.as_fd(),
            Self::File { directory, .. } => directory.as_fd(),
        }
    }

    /// Reads it: text, without the line break at its end. The caller wipes it after use; no other copy is left.
    ///
    /// # Errors
    /// The file cannot be read, is empty, larger than 16 KiB, or not text.
    pub fn read(&self) -> Result<String, CredentialError> {
        let (directory, name, path) = match self {
            Self::Given(file) => return given(file),
            Self::File { directory, name, path } => (directory, name, path),
        };
        let content = directory.read(name, LONGEST).map_err(|source| match source.kind() {
            io::ErrorKind::FileTooLarge => CredentialError::TooLarge(path.clone()),
            _ => CredentialError::Unreadable { path: path.clone(), source },
        })?;
        let mut text = String::from_utf8(content).map_err(|_| CredentialError::NotText(path.clone()))?;
        text.truncate(text.trim_end_matches(['\r', '\n']).len());
        if text.is_empty() {
            return Err(CredentialError::Empty(path.clone()));
        }
        if text.chars().any(char::is_control) {
            return Err(CredentialError::NotText(path.clone()));
        }
        Ok(text)
    }
}

/// Reads what stood on the command line.
fn given(file: &SealedFile) -> Result<String, CredentialError> {
    let unreadable = |source| CredentialError::Unreadable { path: "(memory)".into(), source };
    let mapping = Mapping::new(file, LONGEST).map_err(unreadable)?;
    String::from_utf8(mapping.to_vec()).map_err(|_| CredentialError::NotText("(memory)".into()))
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Given(_) => f.write_str("Given(***)"),
            Self::File { path, .. } => write!(f, "File({})", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(content: &[u8]) -> Result<String, CredentialError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        std::fs::write(&path, content).unwrap();
        let option = format!("@{}", path.display());
        Secret::locate_with(Some(&option), "token", None).unwrap().unwrap().read()
    }

    #[test]
    fn the_line_break_at_the_end_is_not_part_of_it() {
        assert_eq!(read(b"sesame\n").unwrap(), "sesame");
        assert_eq!(read(b"sesame\r\n").unwrap(), "sesame");
        assert_eq!(read(b" open sesame ").unwrap(), " open sesame ");
    }

    #[test]
    fn what_cannot_be_a_secret_is_refused() {
        assert!(matches!(read(b""), Err(CredentialError::Empty(_))));
        assert!(matches!(read(b"\n"), Err(CredentialError::Empty(_))));
        assert!(matches!(read(b"two\nlines\n"), Err(CredentialError::NotText(_))));
        assert!(matches!(read(b"\xff\xfe"), Err(CredentialError::NotText(_))));
        assert!(matches!(read(&[b'x'; LONGEST + 1]), Err(CredentialError::TooLarge(_))));
        assert_eq!(read(&[b'x'; LONGEST]).unwrap().len(), LONGEST);
    }

    #[test]
    fn an_option_goes_before_a_credential_and_none_is_none() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("token"), "from systemd").unwrap();
        let credentials = Some(folder.path().as_os_str());
        let locate = |option, name| Secret::locate_with(option, name, credentials).unwrap();
        assert_eq!(locate(Some("given"), "token").unwrap().read().unwrap(), "given");
        assert_eq!(locate(None, "token").unwrap().read().unwrap(), "from systemd");
        assert!(locate(None, "url").is_none());
        assert!(Secret::locate_with(None, "token", None).unwrap().is_none());
    }

    #[test]
    fn what_is_taken_over_reads_the_same() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("token"), "sesame\n").unwrap();
        for option in ["open".to_owned(), format!("@{}/token", folder.path().display())] {
            let secret = Secret::locate_with(Some(&option), "token", None).unwrap().unwrap();
            let (kept, descriptor) = (secret.kept(), secret.descriptor().try_clone_to_owned().unwrap());
            let expected = secret.read().unwrap();
            drop(secret);
            assert_eq!(Secret::take_over(kept, descriptor).read().unwrap(), expected);
        }
    }

    #[test]
    fn messages_name_the_place_and_never_the_content() {
        let missing = Secret::locate_with(Some("@/no-such-directory/token"), "token", None).unwrap_err();
        assert!(missing.to_string().contains("/no-such-directory/token"), "{missing}");
        assert!(matches!(Secret::locate_with(Some("@"), "token", None), Err(CredentialError::NoFile(_))));
        assert_eq!(format!("{:?}", Secret::Given(SealedFile::write("credential", b"sesame").unwrap())), "Given(***)");
    }
}
