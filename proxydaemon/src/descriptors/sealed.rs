//! Memory files that nobody can change any more, to hand a prepared snapshot from one role to another.

use std::fs::File;
use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::ops::Deref;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::libc;
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

/// Without these a mapping could change under its reader, or vanish (SIGBUS).
fn required() -> SealFlag {
    SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_WRITE
}

/// An unnamed file in memory whose content and size are fixed for ever.
#[derive(Debug)]
pub struct SealedFile(OwnedFd);

impl SealedFile {
    /// Makes one with this content. `name` shows in `/proc/PID/maps` and means nothing else.
    ///
    /// # Errors
    /// Out of descriptors or memory; `InvalidInput` for a name with a zero octet.
    pub fn write(name: &str, content: &[u8]) -> io::Result<Self> {
        let name = std::ffi::CString::new(name)?;
        let mut file = File::from(create(&name)?);
        file.write_all(content)?;
        // By write, not through a mapping: a writable mapping would make the seal fail with EBUSY.
        fcntl(&file, FcntlArg::F_ADD_SEALS(required() | SealFlag::F_SEAL_SEAL))?;
        Ok(Self(file.into()))
    }
}

/// A memory file of which nothing is code.
pub(super) fn create(name: &std::ffi::CStr) -> io::Result<OwnedFd> {
    use nix::sys::memfd::{MFdFlags, memfd_create};
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let no_exec = MFdFlags::from_bits_retain(libc::MFD_NOEXEC_SEAL);
    match memfd_create(name, flags | no_exec) {
        Err(Errno::EINVAL) => Ok(memfd_create(name, flags)?), // before Linux 6.3
        made => Ok(made?),
    }
}

impl AsFd for SealedFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Takes over one that survived an exec. Whoever maps it finds out whether it is sealed.
impl From<OwnedFd> for SealedFile {
    fn from(fd: OwnedFd) -> Self {
        Self(fd)
    }
}

impl From<SealedFile> for OwnedFd {
    fn from(file: SealedFile) -> Self {
        file.0
    }
}

/// The content of a sealed memory file, mapped for reading and inherited by children without a copy.
#[derive(Debug)]
pub struct Mapping {
    /// `None` for an empty file, which cannot be mapped.
    mapped: Option<(NonNull<libc::c_void>, NonZeroUsize)>,
}

impl Mapping {
    /// Maps `file`, which may come from a process that is not trusted. The descriptor is not needed afterwards.
    ///
    /// # Errors
    /// `InvalidData` when the file is not a memory file with all its seals set, or larger than `at_most` octets.
    pub fn new(file: impl AsFd, at_most: usize) -> io::Result<Self> {
        let refused = |why| io::Error::new(io::ErrorKind::InvalidData, why);
        let seals = fcntl(&file, FcntlArg::F_GET_SEALS).map_err(|_| refused("not a memory file that can be sealed"))?;
        if !SealFlag::from_bits_retain(seals).contains(required()) {
            return Err(refused("a memory file that is not sealed against change"));
        }
        // The size is read after the seals were seen: from then on it is fixed.
        let size = usize::try_from(nix::sys::stat::fstat(&file)?.st_size).unwrap_or(usize::MAX);
        if size > at_most {
            return Err(refused("a memory file larger than agreed"));
        }
        let Some(size) = NonZeroUsize::new(size) else {
            return Ok(Self { mapped: None });
        };
        // SAFETY: a new mapping at an address the kernel chooses touches no existing object.
        let start = unsafe { mmap(None, size, ProtFlags::PROT_READ, MapFlags::MAP_PRIVATE, &file, 0) }?;
        Ok(Self { mapped: Some((start, size)) })
    }
}

impl Deref for Mapping {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self.mapped {
            None => &[],
            // SAFETY: mapped readable with this size until `drop`; the seals, checked before mapping, keep everybody from
            // writing to the file or shrinking it, so the octets behind the reference never change.
            Some((start, size)) => unsafe { std::slice::from_raw_parts(start.as_ptr().cast(), size.get()) },
        }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        if let Some((start, size)) = self.mapped {
            // SAFETY: the mapping is ours and no reference into it outlives `self`.
            let _ = unsafe { munmap(start, size.get()) };
        }
    }
}

// SAFETY: the mapping belongs to this object and nobody can write to it.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::memfd::{MFdFlags, memfd_create};

    #[test]
    fn content_survives_the_descriptor_and_cannot_be_changed() {
        let sealed = SealedFile::write("snapshot", b"partners").unwrap();
        let mapping = Mapping::new(&sealed, 100).unwrap();
        let mut file = File::from(OwnedFd::from(sealed));
        assert_eq!(file.write(b"x").unwrap_err().raw_os_error(), Some(libc::EPERM));
        assert_eq!(file.set_len(0).unwrap_err().raw_os_error(), Some(libc::EPERM));
        drop(file);
        assert_eq!(&*mapping, b"partners");
    }

    #[test]
    fn an_empty_file_is_an_empty_mapping() {
        let sealed = SealedFile::write("empty", b"").unwrap();
        assert!(Mapping::new(&sealed, 0).unwrap().is_empty());
    }

    #[test]
    fn what_could_still_change_is_refused() {
        let refused = |file: &dyn AsFd| Mapping::new(file.as_fd(), 100).unwrap_err().kind();
        assert_eq!(refused(&tempfile::tempfile().unwrap()), io::ErrorKind::InvalidData);
        let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
        for missing in [SealFlag::F_SEAL_SHRINK, SealFlag::F_SEAL_GROW, SealFlag::F_SEAL_WRITE] {
            let file = memfd_create(c"half", flags).unwrap();
            fcntl(&file, FcntlArg::F_ADD_SEALS(required() - missing)).unwrap();
            assert_eq!(refused(&file), io::ErrorKind::InvalidData, "without {missing:?}");
        }
    }

    #[test]
    fn a_larger_one_than_agreed_is_refused() {
        let sealed = SealedFile::write("large", &[0; 11]).unwrap();
        assert_eq!(Mapping::new(&sealed, 10).unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert_eq!(Mapping::new(&sealed, 11).unwrap().len(), 11);
    }
}
