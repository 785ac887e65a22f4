//! Buffers that cost nothing until they are touched and can be given back to the kernel; and what keeps the memory of a gate's
//! many children small, which share what it has until they write to it.

use std::hint::black_box;
use std::io;
use std::num::NonZeroUsize;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering};

use nix::libc;
use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mmap_anonymous, munmap};
use nix::unistd::{SysconfVar, getpid, gettid, sysconf};

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

/// For a gate, before its first child. Has the allocator ask the kernel for memory in larger pieces, and keep what is free
/// at the end of the heap until [`give_back_unused`]: a session takes and frees some hundred KiB in its handshake, and once is enough.
/// And reserves the memory of its children's [`Pages`]; where the kernel refuses it, each of them asks for its own.
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
    if let Err(error) = reserve::prepare() {
        log::info!("no memory is reserved for sessions, which costs each of them a little: {error}");
    }
}

/// For a gate, when all is there that it will keep: takes the holes in its heap, for good.
///
/// What its start has freed lies between what it keeps. A child would put there what it needs, and get a copy of each of those
/// pages for it; so it takes memory from the end of the heap, where few pages hold all of it. Costs the gate the holes, and some 40 KiB.
pub fn fill_holes() {
    #[cfg(target_env = "gnu")]
    {
        /// Smaller than what the allocator maps apart.
        const LARGEST: usize = 96 * 1024;
        /// Up to here the allocator keeps lists of holes of the same size, and rounds to multiples of [`STEP`].
        const SMALL: usize = 1024;
        const STEP: usize = 16;
        /// More than the start of a gate leaves. Another allocator, which somebody has put in the place of the usual one, may have its
        /// memory in another order and never come to the end of it.
        const MOST: usize = 4 * 1024 * 1024;
        let sizes = std::iter::successors(Some(LARGEST / 2), |size| Some(size / 2)).take_while(|size| *size > SMALL);
        let mut taken = 0;
        // SAFETY: memory is taken from the allocator, and the first piece given back to it once; none of it is ever looked at.
        // `sbrk(0)` tells the end of the heap and changes nothing.
        unsafe {
            let probe = black_box(libc::malloc(LARGEST));
            let end = probe.addr();
            libc::free(probe);
            let heap = libc::sbrk(0).addr();
            if !(heap.saturating_sub(MOST)..heap).contains(&end) {
                return; // not at the end of the heap
            }
            for size in sizes.chain((1..=SMALL / STEP).rev().map(|steps| steps * STEP)) {
                // The piece that comes from the end stays taken, too: freed, it would be the next hole.
                while taken < MOST && (1..end).contains(&black_box(libc::malloc(size)).addr()) {
                    taken += size;
                }
            }
        }
    }
    // A child's stack grows into fresh pages then, where the start was deep, not into copies.
    give_back_stack();
}

/// Gives what is held for later back to the kernel, as far as whole pages hold nothing: free memory of the allocator, and the
/// stack that is not in use.
///
/// An idle session needs nothing of what its handshake took and freed.
pub fn give_back_unused() {
    // SAFETY: may be called at any time by any thread; it touches free memory of the allocator alone.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0);
    }
    give_back_stack();
}

/// Below the frame that is executing lies nothing that anybody will read. For the main thread alone, whose stack has room below it.
#[inline(never)]
fn give_back_stack() {
    /// Room for the frames of what is called here.
    const ROOM: usize = 4096;
    /// Deeper than a session ever gets; nothing else is mapped that near below a stack.
    const DEEPEST: usize = 512 * 1024;
    if gettid() != getpid() {
        return;
    }
    let Some(page) = sysconf(SysconfVar::PAGE_SIZE).ok().flatten().and_then(|size| usize::try_from(size).ok()) else {
        return;
    };
    let here = 0_u8;
    let end = (&raw const here).addr().saturating_sub(ROOM) / page * page;
    let start = std::ptr::without_provenance_mut(end.saturating_sub(DEEPEST));
    // SAFETY: the octets from `start` to `end` belong to the main thread's stack (it is this one), as far as they are mapped: the
    // kernel maps nothing else within 128 MiB of its start. They lie below every frame that returns, so nothing refers to them, and
    // dropped pages read as zeros.
    unsafe { libc::madvise(start, DEEPEST, libc::MADV_DONTNEED) };
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
        give_back_unused();
        // Half of it is room for what other threads of the test program take meanwhile.
        assert!(own() < before + 8 * 1024, "{before} KiB before, {with} with the pieces, {} after", own());
        assert_eq!(last.len(), 64);
    }

    #[test]
    fn no_capacity_is_refused() {
        assert_eq!(Pages::new(0).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
}
