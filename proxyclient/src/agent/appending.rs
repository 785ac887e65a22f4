//! A file that only grows at its end, by whole pieces: what a full disk cut short is cut off again, so that nothing that
//! follows is out of step.

use std::fs::File;
use std::io::{self, Write};

/// What is appended to.
pub trait Store: Write {
    /// Cuts it to that length.
    ///
    /// # Errors
    /// As `ftruncate`.
    fn cut(&mut self, length: u64) -> io::Result<()>;
}

impl Store for File {
    fn cut(&mut self, length: u64) -> io::Result<()> {
        self.set_len(length)
    }
}

/// A store, and how much of it is whole.
#[derive(Debug)]
pub struct Appending<S> {
    store: S,
    whole: u64,
    torn: bool,
}

impl<S: Store> Appending<S> {
    /// Takes over a store (opened for appending) whose first `whole` octets count; what follows them goes with the first
    /// piece that is appended.
    pub const fn new(store: S, whole: u64) -> Self {
        Self { store, whole, torn: true }
    }

    /// Appends a piece, as a whole or not at all.
    ///
    /// # Errors
    /// As `write` and `ftruncate`.
    pub fn append(&mut self, piece: &[u8]) -> io::Result<()> {
        if self.torn {
            self.store.cut(self.whole)?;
            self.torn = false;
        }
        if let Err(error) = self.store.write_all(piece) {
            self.torn = self.store.cut(self.whole).is_err();
            return Err(error);
        }
        self.whole += piece.len() as u64;
        Ok(())
    }

    /// Makes it empty.
    ///
    /// # Errors
    /// As `ftruncate`.
    pub fn clear(&mut self) -> io::Result<()> {
        self.store.cut(0)?;
        (self.whole, self.torn) = (0, false);
        Ok(())
    }

    /// Octets that count.
    pub const fn whole(&self) -> u64 {
        self.whole
    }

    /// What is appended to.
    pub const fn store(&self) -> &S {
        &self.store
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A disk with so much room, which may refuse to cut.
    #[derive(Default)]
    struct Disk {
        octets: Vec<u8>,
        room: usize,
        stuck: bool,
    }

    impl Write for Disk {
        fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
            let taken = octets.len().min(self.room - self.octets.len());
            if taken == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.octets.extend_from_slice(&octets[..taken]);
            Ok(taken)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Store for Disk {
        fn cut(&mut self, length: u64) -> io::Result<()> {
            if self.stuck {
                return Err(io::ErrorKind::Other.into());
            }
            self.octets.truncate(usize::try_from(length).unwrap());
            Ok(())
        }
    }

    #[test]
    fn a_piece_that_does_not_fit_leaves_nothing_behind() {
        let mut file = Appending::new(Disk { room: 6, ..Disk::default() }, 0);
        file.append(b"1234").unwrap();
        assert_eq!(file.append(b"5678").unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert_eq!(file.store().octets, b"1234");
        file.store.room = 100;
        file.append(b"9999").unwrap();
        assert_eq!(file.store().octets, b"12349999");
        assert_eq!(file.whole(), 8);
    }

    #[test]
    fn nothing_follows_a_torn_piece_before_it_is_cut_off() {
        let mut file = Appending::new(Disk { room: 6, ..Disk::default() }, 0);
        file.append(b"1234").unwrap();
        file.store.stuck = true;
        assert!(file.append(b"5678").is_err());
        file.store.room = 100;
        assert!(file.append(b"9999").is_err());
        assert_eq!(file.store().octets, b"123456");
        file.store.stuck = false;
        file.append(b"9999").unwrap();
        assert_eq!(file.store().octets, b"12349999");
    }

    #[test]
    fn what_was_torn_before_goes() {
        let disk = Disk { octets: b"1234xx".to_vec(), room: 100, stuck: false };
        let mut file = Appending::new(disk, 4);
        file.append(b"5678").unwrap();
        assert_eq!(file.store().octets, b"12345678");
        file.clear().unwrap();
        assert_eq!((file.store().octets.len(), file.whole()), (0, 0));
    }
}
