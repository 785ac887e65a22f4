//! Buffers that cost nothing until they are touched and can be given back to the kernel.

use std::io;
use std::num::NonZeroUsize;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering};

use nix::libc;
use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mmap_anonymous, munmap};

use crate::large_pages;

/// A private buffer of fixed capacity straight from the kernel, all zero until written.
///
/// Only pages that were touched occupy memory, and [`Pages::give_back`] returns them: an idle session holds none.
#[derive(Debug)]
pub struct Pages {
    start: NonNull<libc::c_void>,
    capacity: NonZeroUsize,
    /// A part of what the gate has reserved for each of its children.
    reserved: bool,
}

impl Pages {
    /// A buffer of `capacity` octets.
    ///
    /// # Errors
    /// The capacity is zero, or the kernel refuses (address space limit).
    pub fn new(capacity: usize) -> io::Result<Self> {
        let capacity = NonZeroUsize::new(capacity).ok_or(io::ErrorKind::InvalidInput)?;
        match reserve::take(capacity) {
            Some(start) => Ok(Self { start, capacity, reserved: true }),
            None => Self::map(capacity),
        }
    }

    fn map(capacity: NonZeroUsize) -> io::Result<Self> {
        // SAFETY: a new anonymous mapping at an address the kernel chooses touches no existing object.
        let start = unsafe {
            mmap_anonymous(None, capacity, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, MapFlags::MAP_PRIVATE)
        }?;
        // One touched octet must not cost a huge page of 2 MiB. A kernel without huge pages refuses, which is as good.
        // SAFETY: the advice concerns our own mapping alone and changes no content.
        let _ = unsafe { madvise(start, capacity.get(), MmapAdvise::MADV_NOHUGEPAGE) };
        Ok(Self { start, capacity, reserved: false })
    }

    /// Returns all memory to the kernel. Every octet is zero afterwards; the capacity stays.
    pub fn give_back(&mut self) {
        // SAFETY: the range is our own private anonymous mapping, nothing else borrows it (`&mut self`), and the kernel
        // fills dropped pages with zeros, which are valid octets.
        let given_back = unsafe { madvise(self.start, self.capacity.get(), MmapAdvise::MADV_DONTNEED) };
        if given_back.is_err() {
            self.fill(0); // cannot happen with a mapping of our own; the promise of zeros holds all the same
        }
    }
}

impl Deref for Pages {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: `start` points to `capacity` readable, initialised (zeroed by the kernel) octets until `drop`.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr().cast(), self.capacity.get()) }
    }
}

impl DerefMut for Pages {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`, writable as well, and `&mut self` makes this the only reference.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr().cast(), self.capacity.get()) }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // What was reserved goes with the process.
        if !self.reserved {
            // SAFETY: the mapping is ours and no reference into it outlives `self`.
            let _ = unsafe { munmap(self.start, self.capacity.get()) };
        }
    }
}

// SAFETY: the mapping belongs to this object alone and is reached through borrows of it, like a `Box<[u8]>`.
unsafe impl Send for Pages {}
// SAFETY: as above; a shared reference gives reading only.
unsafe impl Sync for Pages {}

/// Memory for the buffers of each child, mapped once by the gate: a process that lives for one session pays for each mapping
/// when it is made, and more when it is taken away while another processor knows of it.
pub(crate) mod reserve {
    use super::*;

    /// Six buffers of a session with Exchange Buffers of the usual size. Not a page of it is used before it is touched.
    const OCTETS: usize = 3 * 1024 * 1024;
    /// Pages of all processors that Linux runs on are multiples of it, or smaller.
    const STEP: usize = 64 * 1024;

    /// What has not been taken yet, in this process: each child has the whole.
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    static END: AtomicUsize = AtomicUsize::new(0);

    /// Maps it. The gate itself must not use it any more, as its children would inherit what it wrote.
    pub(super) fn prepare() -> io::Result<()> {
        let octets = NonZeroUsize::new(OCTETS).ok_or(io::ErrorKind::InvalidInput)?;
        let pages = std::mem::ManuallyDrop::new(Pages::map(octets)?);
        let start = pages.start.as_ptr().expose_provenance();
        NEXT.store(start.next_multiple_of(STEP), Ordering::Relaxed);
        END.store(start + OCTETS, Ordering::Relaxed);
        Ok(())
    }

    /// Octets of it that were reserved and are not taken.
    pub(crate) fn left() -> u64 {
        END.load(Ordering::Relaxed).saturating_sub(NEXT.load(Ordering::Relaxed)) as u64
    }

    /// A part that nobody else has, all zero; none when there is not enough, or nothing was reserved.
    pub(super) fn take(capacity: NonZeroUsize) -> Option<NonNull<libc::c_void>> {
        let end = END.load(Ordering::Relaxed);
        let behind = |start: usize| start.checked_add(capacity.get().checked_next_multiple_of(STEP)?);
        let taken =
            NEXT.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |start| behind(start).filter(|next| *next <= end));
        NonNull::new(std::ptr::with_exposed_provenance_mut(taken.ok()?))
    }
}

/// For a process that serves one session and ends with it: it gets no huge pages, whatever it touches.
///
/// Where its code lies in such pages it could not use those either, and [`Pages`] alone are kept from them; a heap is smaller until a
/// gate has thousands of children. (To advise that the code be excepted has the kernel keep a list of all processes for its
/// collector of huge pages, which costs each session some percent.)
pub(crate) fn stay_small() {
    if !large_pages::in_use() {
        // SAFETY: passes integers only. A kernel without huge pages refuses, which is as good.
        unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0) };
    }
}

/// For a gate, before its first child: reserves the memory of its children's [`Pages`]. Where the kernel refuses it, each of them asks
/// for its own.
pub fn reserve_for_children() {
    if let Err(error) = reserve::prepare() {
        log::info!("no memory is reserved for sessions, which costs each of them a little: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Octets of this mapping that occupy memory, as the kernel counts them.
    fn resident(pages: &Pages) -> usize {
        let wanted = format!("{:x}-", pages.start.as_ptr() as usize);
        let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let mut lines = smaps.lines().skip_while(|line| !line.starts_with(&wanted));
        let rss = lines.find(|line| line.starts_with("Rss:")).unwrap();
        rss.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
    }

    #[test]
    fn memory_is_taken_when_touched_and_given_back() {
        let mut pages = Pages::new(1 << 20).unwrap();
        assert_eq!(pages.len(), 1 << 20);
        // A guard page before and after would be needed to keep the kernel from merging neighbours; resident() would then
        // count theirs too. Comparing before and after is enough.
        let before = resident(&pages);
        pages[..256 * 1024].fill(7);
        assert!(resident(&pages) >= before + 256 * 1024);
        pages.give_back();
        assert!(resident(&pages) < before + 256 * 1024);
        assert!(pages.iter().all(|octet| *octet == 0));
    }

    #[test]
    fn no_capacity_is_refused() {
        assert_eq!(Pages::new(0).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
}
