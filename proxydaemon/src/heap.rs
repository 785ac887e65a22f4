//! The heap of a gate and of its children: few pages that change, whoever takes memory and frees it.
//!
//! A child shares the pages of its gate until one of them writes there; then the page is copied, and the child keeps the old one
//! for as long as it lives. What counts is therefore not how much a gate takes and frees between two forks, which is little, but on how many
//! pages it lies.

use std::ffi::{CStr, OsString};
use std::hint::black_box;
use std::os::unix::ffi::OsStringExt;
use std::sync::OnceLock;

use nix::libc;
use nix::unistd::{SysconfVar, getpid, gettid, sysconf};

use crate::{anew, title};

/// What glibc reads before a program's first instruction, assignments separated by colons.
const TUNABLES: &str = "GLIBC_TUNABLES";
/// How many freed pieces of each size a thread keeps for itself.
const KEPT_BY_A_THREAD: &str = "glibc.malloc.tcache_count";

/// Why freed pieces are not joined, where they could be.
static NOT_JOINED: OnceLock<String> = OnceLock::new();

/// Has the allocator give each freed piece back to its neighbours at once, in place of keeping it for the next of its size: what is
/// taken next lies where memory was freed last, not wherever a piece of that size was freed some time.
///
/// That can be told at a program's start alone. So it executes the program once more, with the same command line, and returns in the
/// new one. It returns at once where the administrator has set the same for this program, and where it cannot be.
/// [`for_short_lives`] tells the log why.
///
/// For a daemon that is about to start, before it opens, blocks or starts anything, writes its title, or reads what can be read once.
/// `program` is shown as its short name, in the place of that of the executable.
pub fn have_freed_pieces_joined(program: &str) {
    let told = std::env::var_os(TUNABLES).unwrap_or_default().into_vec();
    let decided = told.windows(KEPT_BY_A_THREAD.len()).any(|part| part == KEPT_BY_A_THREAD.as_bytes());
    let why = if cfg!(not(target_env = "gnu")) {
        return;
    } else if told_by_the_kernel(libc::AT_BASE) == 0 {
        "the program has no dynamic loader of its own, or was started through it".to_owned()
    } else if executed_as_itself() {
        // Whatever strips the environment, the program is executed once.
        title::set_short_name(program);
        if told_by_the_kernel(libc::AT_SECURE) != 0 {
            "the kernel starts the program in secure mode (setuid, capabilities, a transition of SELinux or AppArmor), in which the C library \
             heeds no such setting"
                .to_owned()
        } else if decided {
            return;
        } else {
            format!("something takes {TUNABLES} out of the environment")
        }
    } else if decided {
        return;
    } else {
        let mut value = told;
        if !value.is_empty() {
            value.push(b':');
        }
        value.extend(format!("{KEPT_BY_A_THREAD}=0").bytes());
        format!("the program cannot execute itself: {}", anew::execute_with(TUNABLES, OsString::from_vec(value)))
    };
    let _ = NOT_JOINED.set(why);
}

/// A word of the auxiliary vector; 0 when it has none of these.
fn told_by_the_kernel(what: libc::c_ulong) -> usize {
    // SAFETY: reads what the kernel has told this process; any number may be asked for.
    usize::try_from(unsafe { libc::getauxval(what) }).unwrap_or_default()
}

/// Whether it was this program that had the kernel execute it. Said by the kernel, not by the environment.
fn executed_as_itself() -> bool {
    let text = std::ptr::with_exposed_provenance::<libc::c_char>(told_by_the_kernel(libc::AT_EXECFN));
    // SAFETY: a text that the kernel has put above the environment on the stack, ended by zero; or, where the program was started
    // through the loader, its first argument. Nobody writes there before the title is written, which is later.
    !text.is_null() && unsafe { CStr::from_ptr(text) } == anew::EXECUTABLE
}

/// For a gate, before its first child. Has the allocator ask the kernel for memory in larger pieces, and keep what is free
/// at the end of the heap until [`give_back_unused`]: a session takes and frees some hundred KiB in its handshake, and once is enough.
/// Has small freed pieces joined, too (see [`have_freed_pieces_joined`]).
pub fn for_short_lives() {
    #[cfg(target_env = "gnu")]
    {
        const PIECE: libc::c_int = 256 * 1024;
        // SAFETY: the calls set parameters of the allocator; the process has one thread.
        unsafe {
            libc::mallopt(libc::M_TOP_PAD, PIECE);
            libc::mallopt(libc::M_TRIM_THRESHOLD, 8 * PIECE);
            libc::mallopt(libc::M_MXFAST, 0);
        }
    }
    if let Some(why) = NOT_JOINED.get() {
        log::info!("idle sessions take a third more memory than they need: {why}");
    } else if std::env::var_os(TUNABLES).is_some() {
        log::debug!("freed memory is joined at once, or as {TUNABLES} says");
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
}
