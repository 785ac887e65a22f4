//! Buffers that cost nothing until they are touched and can be given back to the kernel.

use std::io;
use std::num::NonZeroUsize;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

use nix::libc;
use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mmap_anonymous, munmap};

/// A private buffer of fixed capacity straight from the kernel, all zero until written.
///
/// Only pages that were touched occupy memory, and [`Pages::give_back`] returns them: an idle session holds none.
#[derive(Debug)]
pub struct Pages {
    start: NonNull<libc::c_void>,
    capacity: NonZeroUsize,
}

impl Pages {
    /// A buffer of `capacity` octets.
    ///
    /// # Errors
    /// The capacity is zero, or the kernel refuses (address space limit).
    pub fn new(capacity: usize) -> io::Result<Self> {
        let capacity = NonZeroUsize::new(capacity).ok_or(io::ErrorKind::InvalidInput)?;
        // SAFETY: a new anonymous mapping at an address the kernel chooses touches no existing object.
        let start = unsafe {
            mmap_anonymous(None, capacity, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, MapFlags::MAP_PRIVATE)
        }?;
        // One touched octet must not cost a huge page of 2 MiB. A kernel without huge pages refuses, which is as good.
        // SAFETY: the advice concerns our own mapping alone and changes no content.
        let _ = unsafe { madvise(start, capacity.get(), MmapAdvise::MADV_NOHUGEPAGE) };
        Ok(Self { start, capacity })
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
        // SAFETY: the mapping is ours and no reference into it outlives `self`.
        let _ = unsafe { munmap(self.start, self.capacity.get()) };
    }
}

// SAFETY: the mapping belongs to this object alone and is reached through borrows of it, like a `Box<[u8]>`.
unsafe impl Send for Pages {}
// SAFETY: as above; a shared reference gives reading only.
unsafe impl Sync for Pages {}

/// For a gate, before its first child: has the allocator ask the kernel for memory in larger pieces, and keep what is free
/// at the end of the heap until [`trim`]. A session takes and frees some hundred KiB in its handshake, and once is enough.
pub fn for_short_lives() {
    #[cfg(target_env = "gnu")]
    {
        const PIECE: libc::c_int = 256 * 1024;
        // SAFETY: the calls set parameters of the allocator; the process has one thread.
        unsafe {
            libc::mallopt(libc::M_TOP_PAD, PIECE);
            libc::mallopt(libc::M_TRIM_THRESHOLD, 8 * PIECE);
        }
    }
}

/// Gives what the allocator holds free back to the kernel, as far as whole pages are free.
///
/// It would keep them for later: of what a handshake took and freed an idle session needs nothing.
pub fn trim() {
    // SAFETY: may be called at any time by any thread; it touches free memory of the allocator alone.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0);
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
    fn free_memory_of_the_allocator_is_given_back() {
        let own = || {
            let status = std::fs::read_to_string("/proc/self/status").unwrap();
            let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
            line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap()
        };
        let before = own();
        // Pieces too small to be mapped each on its own; the last one keeps the others from being the heap's end.
        let pieces: Vec<Vec<u8>> = (0..1024).map(|_| vec![7; 16 * 1024]).collect();
        let last = vec![7; 64];
        let with = own();
        assert!(before + 12 * 1024 < with, "{before} KiB before, {with} with the pieces");
        drop(pieces);
        trim();
        // Half of it is room for what other threads of the test program take meanwhile.
        assert!(own() < before + 8 * 1024, "{before} KiB before, {with} with the pieces, {} after", own());
        assert_eq!(last.len(), 64);
    }

    #[test]
    fn no_capacity_is_refused() {
        assert_eq!(Pages::new(0).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
}
