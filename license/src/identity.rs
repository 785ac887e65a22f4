//! The identity key of a proxyserver: made once, kept in its state directory, and the origin of its Proxy ID.

use std::fmt;
use std::fs::{DirBuilder, File};
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::Mode;
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchown, fsync, geteuid, linkat, unlinkat};
use zeroize::Zeroizing;

use crate::hex;
use crate::proxy_id::ProxyId;

/// Name of the identity key within the state directory: PKCS#8, DER.
pub const IDENTITY_FILE: &str = "seon_proxyserver.key";
/// A P-256 key takes 138 octets; whatever is longer is another file.
const LONGEST: u64 = 1024;

/// The P-256 key that a proxyserver shows on the link. Zeroized on drop, never printed.
pub struct IdentityKey {
    pkcs8: Zeroizing<Vec<u8>>,
    spki: Vec<u8>,
    proxy_id: ProxyId,
}

/// Why there is no identity key. Each is a sentence that names the file.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// There is none yet.
    #[error("there is no identity key {0}; `seon_proxyserver2 -L` makes it")]
    Missing(PathBuf),
    /// The state directory cannot be made or opened.
    #[error("the state directory {path} cannot be used: {error}; name one that this user may write with --state-dir")]
    Directory {
        /// The state directory.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// Reading failed.
    #[error("the identity key {path} cannot be read: {error}")]
    Read {
        /// The key's file.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// Making it failed.
    #[error("the identity key {path} cannot be made: {error}")]
    Create {
        /// The key's file.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// Group or others have access.
    #[error(
        "the identity key {path} has mode {mode:04o}, but nobody except its owner may have access; if it was never \
         exposed: chmod 600 {path}; otherwise remove it and have the licence issued for the new Proxy ID"
    )]
    Exposed {
        /// The key's file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It belongs to another user.
    #[error(
        "the identity key {path} belongs to user {owner}, this program runs as user {user}; start it as the right \
         user, or chown {user} {path}"
    )]
    Owner {
        /// The key's file.
        path: PathBuf,
        /// User ID of its owner.
        owner: u32,
        /// User ID of this process.
        user: u32,
    },
    /// A link, a directory, a device.
    #[error("the identity key {0} is not an ordinary file; remove it, and a new key is made")]
    NoFile(PathBuf),
    /// Not a P-256 key.
    #[error(
        "the identity key {0} is damaged (no P-256 key in PKCS#8, DER); bring it back from a backup, or remove it \
         and have the licence issued for the new Proxy ID"
    )]
    Damaged(PathBuf),
}

impl IdentityKey {
    /// Reads the identity key of this state directory. Where there is none, makes the directory (mode 0700) and
    /// the key (mode 0600). Of several processes that do so at once, all get the same key.
    ///
    /// The file must belong to this process's user, or, for root, to the owner of the directory; root makes it for
    /// that owner, so that `-L` run by root spoils nothing for a daemon that runs as somebody else.
    pub fn load_or_create(directory: &Path) -> Result<Self, IdentityError> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(|error| in_directory(directory, error))?;
        let opened = File::open(directory).map_err(|error| in_directory(directory, error))?;
        Self::load_or_create_at(opened.as_fd(), directory)
    }

    /// Reads the identity key of this state directory; fails where there is none.
    pub fn load(directory: &Path) -> Result<Self, IdentityError> {
        let opened = File::open(directory).map_err(|error| in_directory(directory, error))?;
        Self::load_at(opened.as_fd(), directory)
    }

    /// As [`IdentityKey::load_or_create`], in a directory that is open already; `directory` is for messages only.
    pub fn load_or_create_at(opened: BorrowedFd<'_>, directory: &Path) -> Result<Self, IdentityError> {
        match Self::load_at(opened, directory) {
            Err(IdentityError::Missing(path)) => {
                create(opened, &path)?;
                // What counts is what is there now: another process may have been faster.
                Self::load_at(opened, directory)
            }
            answer => answer,
        }
    }

    /// As [`IdentityKey::load`], in a directory that is open already; `directory` is for messages only.
    pub fn load_at(opened: BorrowedFd<'_>, directory: &Path) -> Result<Self, IdentityError> {
        let path = directory.join(IDENTITY_FILE);
        let pkcs8 = read(opened, &path)?;
        let Ok(pair) = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &pkcs8) else {
            return Err(IdentityError::Damaged(path));
        };
        let spki: Result<PublicKeyX509Der<'_>, _> = pair.public_key().as_der();
        let spki = spki.map_err(|_| IdentityError::Damaged(path))?.as_ref().to_vec();
        Ok(Self { proxy_id: ProxyId::of_spki(&spki), pkcs8, spki })
    }

    /// The private key as PKCS#8, DER.
    pub fn pkcs8(&self) -> &[u8] {
        &self.pkcs8
    }

    /// The public key as SubjectPublicKeyInfo, DER.
    pub fn spki(&self) -> &[u8] {
        &self.spki
    }

    /// The Proxy ID of this key.
    pub fn proxy_id(&self) -> ProxyId {
        self.proxy_id
    }
}

impl fmt::Debug for IdentityKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IdentityKey(private ***, {})", self.proxy_id)
    }
}

fn read(directory: BorrowedFd<'_>, path: &Path) -> Result<Zeroizing<Vec<u8>>, IdentityError> {
    let unreadable = |error: std::io::Error| IdentityError::Read { path: path.to_owned(), error };
    // Without O_NONBLOCK a FIFO in the key's place would hold the daemon for ever.
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    let file = match openat(directory, IDENTITY_FILE, flags, Mode::empty()) {
        Ok(descriptor) => File::from(descriptor),
        Err(Errno::ENOENT) => return Err(IdentityError::Missing(path.to_owned())),
        Err(Errno::ELOOP) => return Err(IdentityError::NoFile(path.to_owned())),
        Err(Errno::EACCES) => return Err(unreachable_owner(directory, path)),
        Err(error) => return Err(unreadable(error.into())),
    };
    let about = file.metadata().map_err(unreadable)?;
    if !about.is_file() {
        return Err(IdentityError::NoFile(path.to_owned()));
    }
    let user = geteuid().as_raw();
    let owner_of_directory = owner(directory).map_err(unreadable)?.0;
    if about.uid() != user && !(user == 0 && about.uid() == owner_of_directory) {
        return Err(IdentityError::Owner { path: path.to_owned(), owner: about.uid(), user });
    }
    if about.mode() & 0o077 != 0 {
        return Err(IdentityError::Exposed { path: path.to_owned(), mode: about.mode() & 0o7777 });
    }
    // Its capacity is final from the start, so that no copy stays behind in freed memory.
    let mut pkcs8 = Zeroizing::new(Vec::with_capacity(LONGEST as usize + 1));
    file.take(LONGEST + 1).read_to_end(&mut pkcs8).map_err(unreadable)?;
    Ok(pkcs8)
}

/// What to say about a file that this user may not open: whose it is, where that can be seen.
fn unreachable_owner(directory: BorrowedFd<'_>, path: &Path) -> IdentityError {
    let user = geteuid().as_raw();
    match nix::sys::stat::fstatat(directory, IDENTITY_FILE, AtFlags::AT_SYMLINK_NOFOLLOW) {
        Ok(about) if about.st_uid != user => IdentityError::Owner { path: path.to_owned(), owner: about.st_uid, user },
        _ => IdentityError::Read { path: path.to_owned(), error: Errno::EACCES.into() },
    }
}

/// Puts a new key in its place as a whole or not at all; leaves one that is there already.
fn create(directory: BorrowedFd<'_>, path: &Path) -> Result<(), IdentityError> {
    let failed = |error: std::io::Error| IdentityError::Create { path: path.to_owned(), error };
    let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING)
        .and_then(|pair| pair.to_pkcs8v1())
        .map_err(|_| failed(std::io::Error::other("no key could be generated")))?;
    let mut mark = [0; 8];
    aws_lc_rs::rand::fill(&mut mark)
        .map_err(|_| failed(std::io::Error::other("the system gives no random numbers")))?;
    let draft = format!(".{IDENTITY_FILE}.{}", hex::encode(&mark));
    let written = write_draft(directory, &draft, key.as_ref())
        .and_then(|()| linkat(directory, draft.as_str(), directory, IDENTITY_FILE, AtFlags::empty()));
    let removed = unlinkat(directory, draft.as_str(), UnlinkatFlags::NoRemoveDir);
    match written {
        Ok(()) => removed.and_then(|()| fsync(directory)).map_err(|error| failed(error.into())),
        Err(Errno::EEXIST) => Ok(()),
        Err(error) => Err(failed(error.into())),
    }
}

fn write_draft(directory: BorrowedFd<'_>, name: &str, key: &[u8]) -> Result<(), Errno> {
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
    let mut file = File::from(openat(directory, name, flags, Mode::S_IRUSR | Mode::S_IWUSR)?);
    if geteuid().is_root() {
        let (user, group) = owner(directory).map_err(errno)?;
        fchown(&file, Some(Uid::from_raw(user)), Some(Gid::from_raw(group)))?;
    }
    file.write_all(key).and_then(|()| file.sync_all()).map_err(errno)
}

fn owner(directory: BorrowedFd<'_>) -> std::io::Result<(u32, u32)> {
    let about = File::from(directory.try_clone_to_owned()?).metadata()?;
    Ok((about.uid(), about.gid()))
}

fn errno(error: std::io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}

fn in_directory(path: &Path, error: std::io::Error) -> IdentityError {
    IdentityError::Directory { path: path.to_owned(), error }
}
