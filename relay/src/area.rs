//! A stretch of memory for octets on their way: added at the back, taken from the front.
//!
//! It lies in pages that the kernel hands out when they are first touched, so that a session which says little costs
//! little, and that go back to the kernel when a transfer is over.

use std::io;

use proxydaemon::memory::Pages;

/// Octets that have come and have not gone yet, contiguous, within a fixed capacity.
pub(crate) struct Area {
    pages: Pages,
    start: usize,
    end: usize,
    touched: bool,
}

impl Area {
    /// An empty area for at most `capacity` octets. No memory is used before octets come.
    pub(crate) fn new(capacity: usize) -> io::Result<Self> {
        Ok(Self { pages: Pages::new(capacity)?, start: 0, end: 0, touched: false })
    }

    pub(crate) fn len(&self) -> usize {
        self.end - self.start
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// How many octets may still be added.
    pub(crate) fn room(&self) -> usize {
        self.pages.len() - self.len()
    }

    pub(crate) fn filled(&self) -> &[u8] {
        &self.pages[self.start..self.end]
    }

    pub(crate) fn filled_mut(&mut self) -> &mut [u8] {
        &mut self.pages[self.start..self.end]
    }

    /// Where the next octets go: at least `wanted` of them, or all the room there is when that is less.
    /// Moves what is there to the front only when it must.
    pub(crate) fn spare(&mut self, wanted: usize) -> &mut [u8] {
        let wanted = wanted.min(self.room());
        if self.pages.len() - self.end < wanted {
            self.pages.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        self.touched |= wanted > 0;
        &mut self.pages[self.end..]
    }

    /// Says that the first `octets` of [`Area::spare`] have been filled.
    pub(crate) fn added(&mut self, octets: usize) {
        debug_assert!(self.end + octets <= self.pages.len());
        self.end += octets;
    }

    /// Copies `octets` to the back. They must fit: the caller has looked at [`Area::room`].
    pub(crate) fn add(&mut self, octets: &[u8]) {
        self.spare(octets.len())[..octets.len()].copy_from_slice(octets);
        self.added(octets.len());
    }

    /// Takes `octets` from the front.
    pub(crate) fn take(&mut self, octets: usize) {
        debug_assert!(octets <= self.len());
        self.start += octets;
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
        }
    }

    /// Takes `octets` out of the middle, `position` octets behind the front.
    pub(crate) fn cut(&mut self, position: usize, octets: usize) {
        if position == 0 {
            return self.take(octets);
        }
        self.pages.copy_within(self.start + position + octets..self.end, self.start + position);
        self.end -= octets;
    }

    /// Forgets all octets.
    pub(crate) fn clear(&mut self) {
        self.take(self.len());
    }

    /// Whether pages are held for nothing.
    pub(crate) fn is_idle(&self) -> bool {
        self.touched && self.is_empty()
    }

    /// Gives the pages back to the kernel if no octets are there.
    pub(crate) fn give_back(&mut self) {
        if self.is_idle() {
            self.pages.give_back();
            self.touched = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn octets_stay_in_order_while_the_front_moves() {
        let mut area = Area::new(8).unwrap();
        let capacity = area.room();
        area.add(b"abcdef");
        area.take(4);
        assert_eq!(area.filled(), b"ef");
        let rest = vec![b'x'; capacity - 2];
        area.add(&rest);
        assert_eq!(area.room(), 0);
        assert_eq!(area.filled(), [b"ef", &rest[..]].concat());
    }

    #[test]
    fn a_piece_is_cut_out_of_the_middle() {
        let mut area = Area::new(64).unwrap();
        area.add(b"judgedDROPPEDbehind");
        area.cut(6, 7);
        assert_eq!(area.filled(), b"judgedbehind");
        area.cut(0, 6);
        assert_eq!(area.filled(), b"behind");
    }

    #[test]
    fn pages_go_back_only_when_nothing_is_in_them() {
        let mut area = Area::new(64).unwrap();
        assert!(!area.is_idle());
        area.add(b"x");
        area.give_back();
        assert_eq!(area.filled(), b"x");
        area.take(1);
        assert!(area.is_idle());
        area.give_back();
        assert!(!area.is_idle());
        area.add(b"y");
        assert_eq!(area.filled(), b"y");
    }
}
