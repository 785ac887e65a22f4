//! The allocator of a program that has secrets on its command line.
//!
//! Between the kernel's copy of the command line, which [`title::wipe_arguments`](crate::title::wipe_arguments) writes over, and the
//! place that a secret is kept in, the standard library and the reader of the options take copies of it and free them as they are.
//! A child that is forked later would have them in its memory.

use std::alloc::{GlobalAlloc, Layout, System};
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicBool, Ordering};

use zeroize::Zeroize;

/// Whether freed memory is wiped. From a program's first instruction.
static WIPES: AtomicBool = AtomicBool::new(true);

/// The system's allocator, which writes zeros over what is freed until [`no_more`]. For `#[global_allocator]`.
pub struct Wiping;

/// From now on freed memory stays as it was: each secret of the command line is where it will be kept, and wiped elsewhere.
pub fn no_more() {
    WIPES.store(false, Ordering::Relaxed);
}

fn wipes() -> bool {
    WIPES.load(Ordering::Relaxed)
}

// SAFETY: each piece of memory comes from the system's allocator, and goes back to it with the layout that it was taken with.
unsafe impl GlobalAlloc for Wiping {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller has promised what it asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, piece: *mut u8, layout: Layout) {
        if wipes() {
            // SAFETY: the caller has promised that the piece has this size and that nobody refers to it any more.
            let octets = unsafe { std::slice::from_raw_parts_mut(piece.cast::<MaybeUninit<u8>>(), layout.size()) };
            octets.zeroize();
        }
        // SAFETY: as the caller has promised.
        unsafe { System.dealloc(piece, layout) };
    }

    unsafe fn realloc(&self, piece: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if !wipes() {
            // SAFETY: as the caller has promised.
            return unsafe { System.realloc(piece, layout, size) };
        }
        // The system's would leave the old piece as it was where it moves it.
        // SAFETY: the caller has promised that the size is not 0 and within bounds for this alignment; both pieces are as large as
        // what is copied, and the old one is freed once, when it has been copied.
        unsafe {
            let new = System.alloc(Layout::from_size_align_unchecked(size, layout.align()));
            if !new.is_null() {
                new.copy_from_nonoverlapping(piece, layout.size().min(size));
                self.dealloc(piece, layout);
            }
            new
        }
    }
}
