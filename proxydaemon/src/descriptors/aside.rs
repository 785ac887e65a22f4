//! What a process keeps and does not look at, outside the memory that its children inherit.
//!
//! A fork looks at each page that a process has, and so does the end of each child: what a gate keeps for thousands of sessions would
//! make every new one dearer.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::sealed::create;

/// Pieces lie at multiples of it.
const STEP: usize = 512;

/// A memory file with pieces of any size. What was taken out makes room for the next piece as long.
#[derive(Debug)]
pub struct Aside {
    file: File,
    /// Places that are free, by the steps they have.
    free: BTreeMap<u64, Vec<u64>>,
    /// Steps of the file so far.
    end: u64,
}

/// Where a piece lies.
#[derive(Debug, PartialEq, Eq)]
pub struct Place {
    start: u64,
    octets: usize,
}

impl Place {
    const fn steps(&self) -> u64 {
        (if self.octets == 0 { 1 } else { self.octets.div_ceil(STEP) }) as u64
    }

    const fn offset(&self) -> u64 {
        self.start * STEP as u64
    }
}

impl Aside {
    /// An empty one.
    ///
    /// # Errors
    /// Out of descriptors or memory.
    pub fn new() -> io::Result<Self> {
        Ok(Self { file: create(c"aside")?.into(), free: BTreeMap::new(), end: 0 })
    }

    /// Puts a piece aside.
    ///
    /// # Errors
    /// Out of memory; nothing is kept then.
    pub fn put(&mut self, octets: &[u8]) -> io::Result<Place> {
        let mut place = Place { start: self.end, octets: octets.len() };
        if let Some(start) = self.free.get_mut(&place.steps()).and_then(Vec::pop) {
            place.start = start;
        } else {
            self.end += place.steps();
        }
        match self.file.write_all_at(octets, place.offset()) {
            Ok(()) => Ok(place),
            Err(error) => {
                self.remove(place);
                Err(error)
            }
        }
    }

    /// The piece that lies there.
    ///
    /// # Errors
    /// The kernel has lost it, which it does not.
    pub fn get(&self, place: &Place) -> io::Result<Vec<u8>> {
        let mut octets = vec![0; place.octets];
        self.file.read_exact_at(&mut octets, place.offset())?;
        Ok(octets)
    }

    /// Gives the place of a piece free.
    pub fn remove(&mut self, place: Place) {
        self.free.entry(place.steps()).or_default().push(place.start);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_of_all_sizes_are_there_until_they_are_removed() {
        let mut aside = Aside::new().unwrap();
        let piece = |number: usize| vec![u8::try_from(number % 251).unwrap(); number * 73 % 1500];
        let mut places: Vec<_> = (0..200).map(|number| (number, aside.put(&piece(number)).unwrap())).collect();
        for round in 0..3 {
            for (number, place) in &places {
                assert_eq!(aside.get(place).unwrap(), piece(*number), "round {round}");
            }
            // Every third one goes, and another as long comes.
            let size = aside.end;
            for (_, place) in places.extract_if(.., |(number, _)| *number % 3 == round).collect::<Vec<_>>() {
                aside.remove(place);
            }
            places.extend(
                (0..200)
                    .filter(|number| number % 3 == round)
                    .map(|number| (number, aside.put(&piece(number)).unwrap())),
            );
            assert_eq!(aside.end, size, "what was free is taken first");
        }
        assert_eq!(aside.file.metadata().unwrap().len().div_ceil(STEP as u64), aside.end);
    }
}
