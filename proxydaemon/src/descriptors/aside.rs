//! What a process keeps and does not look at, outside the memory that its children inherit.
//!
//! A fork looks at each page that a process has, and so does the end of each child: what a gate keeps for thousands of sessions would
//! make every new one dearer.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::sealed::create;

/// A piece is cut into slots of so many octets, which lie anywhere: what one leaves is room for any other.
const SLOT: usize = 512;

/// A memory file with pieces of any size. It takes as much memory as it once had to hold, and none when it is empty.
#[derive(Debug)]
pub struct Aside {
    file: File,
    free: Vec<u32>,
    /// Slots of the file so far.
    end: u32,
}

/// Where a piece lies.
#[derive(Debug)]
pub struct Place {
    /// Most pieces have one slot.
    first: u32,
    others: Vec<u32>,
    octets: usize,
}

impl Place {
    fn slots(&self) -> impl Iterator<Item = u32> {
        std::iter::once(self.first).chain(self.others.iter().copied())
    }
}

const fn offset(slot: u32) -> u64 {
    slot as u64 * SLOT as u64
}

impl Aside {
    /// An empty one.
    ///
    /// # Errors
    /// Out of descriptors or memory.
    pub fn new() -> io::Result<Self> {
        Ok(Self { file: create(c"aside")?.into(), free: Vec::new(), end: 0 })
    }

    /// Puts a piece aside.
    ///
    /// # Errors
    /// Out of memory; nothing is kept then.
    pub fn put(&mut self, octets: &[u8]) -> io::Result<Place> {
        let further = octets.len().div_ceil(SLOT).saturating_sub(1);
        let place = Place {
            first: self.take_slot(),
            others: (0..further).map(|_| self.take_slot()).collect(),
            octets: octets.len(),
        };
        let write = |(slot, piece): (u32, &[u8])| self.file.write_all_at(piece, offset(slot));
        let written = place.slots().zip(octets.chunks(SLOT)).try_for_each(write);
        match written {
            Ok(()) => Ok(place),
            Err(error) => {
                self.remove(place);
                Err(error)
            }
        }
    }

    fn take_slot(&mut self) -> u32 {
        self.free.pop().unwrap_or_else(|| {
            self.end += 1;
            self.end - 1
        })
    }

    /// The piece that lies there.
    ///
    /// # Errors
    /// The kernel has lost it, as it may with memory that it had put on a disk.
    pub fn get(&self, place: &Place) -> io::Result<Vec<u8>> {
        let mut octets = vec![0; place.octets];
        let mut pieces = place.slots().zip(octets.chunks_mut(SLOT));
        pieces.try_for_each(|(slot, piece)| self.file.read_exact_at(piece, offset(slot)))?;
        Ok(octets)
    }

    /// Gives the place of a piece free.
    pub fn remove(&mut self, place: Place) {
        self.free.extend(place.slots());
        // Cutting a memory file cannot fail; if it did, its slots would be taken again all the same.
        if self.free.len() as u64 == u64::from(self.end) && self.file.set_len(0).is_ok() {
            self.free = Vec::new();
            self.end = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(number: usize) -> Vec<u8> {
        vec![u8::try_from(number % 251).unwrap(); number * 73 % 1500]
    }

    #[test]
    fn pieces_of_all_sizes_are_there_until_they_are_removed() {
        let mut aside = Aside::new().unwrap();
        let mut places: Vec<_> = (0..200).map(|number| (number, aside.put(&piece(number)).unwrap())).collect();
        for round in 0..3 {
            for (number, place) in &places {
                assert_eq!(aside.get(place).unwrap(), piece(*number), "round {round}");
            }
            for (_, place) in places.extract_if(.., |(number, _)| *number % 3 == round).collect::<Vec<_>>() {
                aside.remove(place);
            }
            places.extend(
                (0..200)
                    .filter(|number| number % 3 == round)
                    .map(|number| (number, aside.put(&piece(number)).unwrap())),
            );
        }
        for (_, place) in places {
            aside.remove(place);
        }
        assert_eq!((aside.end, aside.file.metadata().unwrap().len()), (0, 0), "nothing is kept, and no memory");
    }

    #[test]
    fn growing_pieces_take_the_room_of_those_that_went() {
        let mut aside = Aside::new().unwrap();
        let _stays = aside.put(b"so that it is never empty").unwrap();
        for size in 1..100 {
            let places: Vec<_> = (0..20).map(|_| aside.put(&vec![7; size * SLOT]).unwrap()).collect();
            places.into_iter().for_each(|place| aside.remove(place));
        }
        assert_eq!(aside.end, 1 + 20 * 99, "what the largest took together, and not more");
    }
}
