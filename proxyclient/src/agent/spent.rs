//! Handshake signatures that were presented already, so that each is taken once, also after a restart.
//!
//! Two generations of a fixed number of 32-octet digests, each a file in the state directory: when the younger is full it
//! becomes the older one. So at least the last [`REMEMBERED`] are known, and never more than twice as many.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Write};

use proxydaemon::descriptors::Directory;

/// Signatures that are surely remembered.
pub const REMEMBERED: usize = 100_000;

const YOUNG: &str = "signatures.young";
const OLD: &str = "signatures.old";
const DIGEST: usize = 32;

/// The memory.
#[derive(Debug)]
pub struct Spent {
    directory: Directory,
    young: HashSet<[u8; DIGEST]>,
    old: HashSet<[u8; DIGEST]>,
    file: File,
    generation: usize,
}

impl Spent {
    /// Reads what is remembered, or begins anew.
    ///
    /// # Errors
    /// When the state directory cannot be read or written.
    pub fn load(directory: Directory) -> io::Result<Self> {
        Self::load_with(directory, REMEMBERED)
    }

    fn load_with(directory: Directory, generation: usize) -> io::Result<Self> {
        let young = read(&directory, YOUNG, generation)?;
        let old = read(&directory, OLD, generation)?;
        let file = directory.append(YOUNG, 0o600)?;
        // What a power cut left unfinished at the end would put all that follows out of step.
        let length = file.metadata()?.len();
        file.set_len(length - length % DIGEST as u64)?;
        Ok(Self { directory, young, old, file, generation })
    }

    /// Takes a signature's digest; `false` when it was presented before.
    ///
    /// # Errors
    /// When it cannot be kept on disk. It is then remembered until the process ends, and counts as taken.
    pub fn take(&mut self, digest: [u8; DIGEST]) -> (bool, io::Result<()>) {
        if self.old.contains(&digest) || !self.young.insert(digest) {
            return (false, Ok(()));
        }
        (true, self.keep(&digest))
    }

    fn keep(&mut self, digest: &[u8; DIGEST]) -> io::Result<()> {
        self.file.write_all(digest)?;
        if self.young.len() >= self.generation {
            self.directory.rename(YOUNG, OLD)?;
            self.old = std::mem::take(&mut self.young);
            self.file = self.directory.append(YOUNG, 0o600)?;
        }
        Ok(())
    }
}

fn read(directory: &Directory, name: &str, generation: usize) -> io::Result<HashSet<[u8; DIGEST]>> {
    match directory.read(name, generation * 2 * DIGEST) {
        Ok(octets) => Ok(octets.chunks_exact(DIGEST).filter_map(|chunk| chunk.try_into().ok()).collect()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(HashSet::new()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(number: u8) -> [u8; DIGEST] {
        [number; DIGEST]
    }

    #[test]
    fn a_signature_is_taken_once_also_after_a_restart() {
        let scratch = tempfile::tempdir().unwrap();
        let open = || Spent::load_with(Directory::open(scratch.path()).unwrap(), 3).unwrap();
        let mut spent = open();
        assert!(spent.take(digest(1)).0);
        assert!(!spent.take(digest(1)).0);
        let mut spent = open();
        assert!(!spent.take(digest(1)).0);
        for number in 2..=5 {
            let (taken, kept) = spent.take(digest(number));
            assert!(taken);
            kept.unwrap();
        }
        let mut spent = open();
        for number in 1..=5 {
            assert!(!spent.take(digest(number)).0, "{number}");
        }
        // Beyond what is surely remembered the oldest may come again.
        for number in 6..=9 {
            assert!(spent.take(digest(number)).0);
        }
        assert!(spent.take(digest(1)).0);
    }

    #[test]
    fn a_torn_end_of_the_file_is_cut_off() {
        let scratch = tempfile::tempdir().unwrap();
        std::fs::write(scratch.path().join(YOUNG), [&digest(1)[..], &[9; 5]].concat()).unwrap();
        let open = || Spent::load_with(Directory::open(scratch.path()).unwrap(), 3).unwrap();
        assert!(open().take(digest(2)).0);
        let mut again = open();
        assert!(!again.take(digest(1)).0);
        assert!(!again.take(digest(2)).0);
    }
}
