//! What the gate prepares once for the confinement of all its sessions.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;

use nix::unistd::{SysconfVar, sysconf};

use super::filter::SessionFilter;
use super::{ConfineError, landlock, step};

/// The bounds of a session as far as they are the same for all. Made by the gate, entered by each session for itself.
#[derive(Debug)]
pub struct Bounds {
    pub(super) filter: SessionFilter,
    /// Landlock's, where the kernel has it.
    pub(super) rules: Option<OwnedFd>,
    /// `/dev/null`.
    pub(super) null: OwnedFd,
    pub(super) gate: MemoryOf,
}

impl Bounds {
    /// Compiles the call filter and opens what sessions will need.
    ///
    /// # Errors
    /// Out of descriptors, or `/dev/null` or `/proc` is missing.
    pub fn prepare() -> Result<Self, ConfineError> {
        let null = OpenOptions::new().read(true).write(true).open("/dev/null").map_err(step("/dev/null"))?;
        Ok(Self {
            filter: SessionFilter::compile()?,
            rules: landlock::nothing()?,
            null: null.into(),
            gate: MemoryOf::this_process().map_err(step("memory"))?,
        })
    }

    /// What a child has to keep open until it is confined.
    pub fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        let always = [self.null.as_fd(), self.gate.0.as_fd()];
        always.into_iter().chain(self.rules.as_ref().map(AsFd::as_fd)).collect()
    }
}

/// Tells the memory of the process that made it, to its children too.
#[derive(Debug)]
pub(super) struct MemoryOf(File);

impl MemoryOf {
    fn this_process() -> io::Result<Self> {
        Ok(Self(File::open("/proc/self/statm")?))
    }

    /// Octets of what RLIMIT_DATA bounds.
    pub(super) fn data(&self) -> io::Result<u64> {
        let mut line = [0; 160];
        let length = self.0.read_at(&mut line, 0)?;
        // proc_pid_statm(5): size resident shared text lib data dt, in pages.
        let line = str::from_utf8(line.get(..length).unwrap_or_default()).unwrap_or_default();
        let pages = line.split_whitespace().nth(5).and_then(|data| data.parse::<u64>().ok());
        let pages = pages.ok_or_else(|| io::Error::other("/proc/self/statm does not tell the size of the data"))?;
        let page = sysconf(SysconfVar::PAGE_SIZE)?.and_then(|size| u64::try_from(size).ok());
        Ok(pages.saturating_mul(page.unwrap_or(4096)))
    }
}
