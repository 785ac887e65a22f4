//! Handshake signatures that were presented already, so that each is taken once, also after a restart.
//!
//! Two generations of a fixed number of digests, each a file in the state directory: when the younger is full it becomes
//! the older one. So at least the last [`REMEMBERED`] are known, and never more than twice as many. Beside them the last
//! few of each certificate are known for longer, so that one partner's many signatures do not make the others' forgotten.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fs::File;
use std::io;

use proxydaemon::descriptors::Directory;

use super::appending::Appending;

/// Signatures that are surely remembered.
pub const REMEMBERED: usize = 100_000;
/// Signatures of one certificate that are remembered whatever others do.
const OF_CERTIFICATE: usize = 64;
/// Certificates for which that holds: the last ones that were seen.
const MOST_CERTIFICATES: usize = 10_000;

const YOUNG: &str = "spent.young";
const OLD: &str = "spent.old";
const CERTIFICATES: &str = "spent.certificates";

/// SHA-256, of a signature or a certificate.
type Digest = [u8; DIGEST];

const DIGEST: usize = 32;
/// In the files: certificate, then signature.
const ENTRY: usize = 2 * DIGEST;

/// The memory.
#[derive(Debug)]
pub struct Spent {
    directory: Directory,
    young: HashSet<Digest>,
    old: HashSet<Digest>,
    certificates: Certificates,
    file: Appending<File>,
    /// What is not on disk yet.
    unkept: Vec<u8>,
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
        let mut certificates = Certificates::default();
        let mut read = |name, most| {
            let entries = read(&directory, name, most)?;
            for (certificate, digest) in &entries {
                certificates.add(*certificate, *digest);
            }
            io::Result::Ok(entries)
        };
        read(CERTIFICATES, MOST_CERTIFICATES * OF_CERTIFICATE)?;
        let old = read(OLD, 2 * generation)?;
        let young = read(YOUNG, 2 * generation)?;
        // What a power cut left unfinished at the end would put all that follows out of step.
        let file = Appending::new(directory.append(YOUNG, 0o600)?, (young.len() * ENTRY) as u64);
        let digests = |entries: Vec<(Digest, Digest)>| entries.into_iter().map(|(_, digest)| digest).collect();
        let (young, old) = (digests(young), digests(old));
        Ok(Self { directory, young, old, certificates, file, unkept: Vec::new(), generation })
    }

    /// Takes the digest of a signature that the key of `certificate` (its SHA-256) made; `false` when it was presented
    /// before. To be asked only for a certificate that stands: what anybody can make must not fill the memory.
    ///
    /// # Errors
    /// When it cannot be kept on disk. It is then remembered until the process ends, and counts as taken.
    pub fn take(&mut self, digest: Digest, certificate: Digest) -> (bool, io::Result<()>) {
        if self.old.contains(&digest) || self.certificates.has(&certificate, &digest) || !self.young.insert(digest) {
            return (false, Ok(()));
        }
        self.certificates.add(certificate, digest);
        // Whatever the disk does, memory is bounded.
        let full = self.young.len() >= self.generation;
        if full {
            self.old = std::mem::take(&mut self.young);
        }
        if self.unkept.len() < self.generation * ENTRY {
            self.unkept.extend_from_slice(&certificate);
            self.unkept.extend_from_slice(&digest);
        }
        (true, self.keep())
    }

    fn keep(&mut self) -> io::Result<()> {
        let full = (self.generation * ENTRY) as u64;
        if self.file.whole() >= full {
            self.turn()?;
        }
        self.file.append(&self.unkept)?;
        self.unkept.clear();
        if self.file.whole() >= full { self.turn() } else { Ok(()) }
    }

    /// On disk the younger generation becomes the older one.
    fn turn(&mut self) -> io::Result<()> {
        self.directory.replace(CERTIFICATES, &self.certificates.entries(), 0o600)?;
        self.directory.rename(YOUNG, OLD)?;
        self.file = Appending::new(self.directory.append(YOUNG, 0o600)?, 0);
        Ok(())
    }
}

/// The newest signatures of each certificate.
#[derive(Debug, Default)]
struct Certificates {
    known: HashMap<Digest, Recent>,
    clock: u64,
}

#[derive(Debug, Default)]
struct Recent {
    seen: u64,
    digests: VecDeque<Digest>,
}

impl Certificates {
    fn has(&self, certificate: &Digest, digest: &Digest) -> bool {
        self.known.get(certificate).is_some_and(|recent| recent.digests.contains(digest))
    }

    fn add(&mut self, certificate: Digest, digest: Digest) {
        self.clock += 1;
        let recent = self.known.entry(certificate).or_default();
        recent.seen = self.clock;
        if !recent.digests.contains(&digest) {
            recent.digests.push_back(digest);
        }
        if recent.digests.len() > OF_CERTIFICATE {
            recent.digests.pop_front();
        }
        if self.known.len() > MOST_CERTIFICATES
            && let Some(longest_ago) =
                self.known.iter().min_by_key(|(_, recent)| recent.seen).map(|(certificate, _)| *certificate)
        {
            self.known.remove(&longest_ago);
        }
    }

    /// As they stand in a file, those seen longest ago first.
    fn entries(&self) -> Vec<u8> {
        let mut by_age: Vec<_> = self.known.iter().collect();
        by_age.sort_by_key(|(_, recent)| recent.seen);
        by_age
            .into_iter()
            .flat_map(|(certificate, recent)| recent.digests.iter().flat_map(move |digest| [certificate, digest]))
            .flatten()
            .copied()
            .collect()
    }
}

fn read(directory: &Directory, name: &str, most: usize) -> io::Result<Vec<(Digest, Digest)>> {
    let octets = match directory.read(name, (most + 1) * ENTRY) {
        Ok(octets) => octets,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let entry = |entry: &[u8]| Some((entry.get(..DIGEST)?.try_into().ok()?, entry.get(DIGEST..)?.try_into().ok()?));
    Ok(octets.chunks_exact(ENTRY).filter_map(entry).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARTNER: Digest = [0xaa; DIGEST];

    fn digest(number: u8) -> Digest {
        [number; DIGEST]
    }

    fn open(scratch: &tempfile::TempDir) -> Spent {
        Spent::load_with(Directory::open(scratch.path()).unwrap(), 3).unwrap()
    }

    /// Another partner with each number.
    fn certificate(number: u8) -> Digest {
        [number ^ 0x55; DIGEST]
    }

    #[test]
    fn a_signature_is_taken_once_also_after_a_restart() {
        let scratch = tempfile::tempdir().unwrap();
        let mut spent = open(&scratch);
        assert!(spent.take(digest(1), PARTNER).0);
        assert!(!spent.take(digest(1), PARTNER).0);
        let mut spent = open(&scratch);
        assert!(!spent.take(digest(1), PARTNER).0);
        for number in 2..=5 {
            let (taken, kept) = spent.take(digest(number), PARTNER);
            assert!(taken);
            kept.unwrap();
        }
        let mut spent = open(&scratch);
        for number in 1..=5 {
            assert!(!spent.take(digest(number), PARTNER).0, "{number}");
        }
    }

    #[test]
    fn many_signatures_of_one_partner_do_not_make_those_of_another_forgotten() {
        let scratch = tempfile::tempdir().unwrap();
        let mut spent = open(&scratch);
        assert!(spent.take(digest(1), PARTNER).0);
        for number in 2..=200 {
            assert!(spent.take(digest(number), certificate(0)).0);
        }
        assert!(!spent.take(digest(1), PARTNER).0);
        assert!(!open(&scratch).take(digest(1), PARTNER).0, "after a restart");
        // Of the one with the many, the oldest are forgotten.
        assert!(spent.take(digest(2), certificate(0)).0);
        assert!(spent.young.len() <= 3 && spent.old.len() <= 3);
        assert_eq!(spent.certificates.known.len(), 2);
    }

    #[test]
    fn certificates_are_bounded_and_the_one_seen_longest_ago_goes() {
        let mut certificates = Certificates::default();
        let numbered = |number: usize| {
            let mut octets = [0; DIGEST];
            octets[..8].copy_from_slice(&(number as u64).to_be_bytes());
            octets
        };
        for number in 0..MOST_CERTIFICATES {
            certificates.add(numbered(number), digest(1));
        }
        certificates.add(numbered(0), digest(2));
        certificates.add(numbered(MOST_CERTIFICATES), digest(1));
        assert_eq!(certificates.known.len(), MOST_CERTIFICATES);
        assert!(certificates.has(&numbered(0), &digest(1)));
        assert!(!certificates.has(&numbered(1), &digest(1)));
    }

    #[test]
    fn a_torn_end_of_the_file_is_cut_off() {
        let scratch = tempfile::tempdir().unwrap();
        std::fs::write(scratch.path().join(YOUNG), [&PARTNER[..], &digest(1), &[9; 5]].concat()).unwrap();
        assert!(open(&scratch).take(digest(2), PARTNER).0);
        let mut again = open(&scratch);
        assert!(!again.take(digest(1), PARTNER).0);
        assert!(!again.take(digest(2), PARTNER).0);
    }

    #[test]
    fn with_the_disk_full_memory_holds_and_what_is_missing_is_written_later() {
        let scratch = tempfile::tempdir().unwrap();
        let mut spent = open(&scratch);
        spent.file = Appending::new(File::options().append(true).open("/dev/full").unwrap(), 0);
        let (taken, kept) = spent.take(digest(1), PARTNER);
        assert!(taken);
        kept.unwrap_err();
        assert!(!spent.take(digest(1), PARTNER).0);
        spent.file = Appending::new(spent.directory.append(YOUNG, 0o600).unwrap(), 0);
        spent.take(digest(2), PARTNER).1.unwrap();
        let mut again = open(&scratch);
        assert!(!again.take(digest(1), PARTNER).0 && !again.take(digest(2), PARTNER).0);
    }

    #[test]
    fn memory_is_bounded_where_the_generations_cannot_turn() {
        let scratch = tempfile::tempdir().unwrap();
        let mut spent = open(&scratch);
        // A directory stands where the older generation belongs: the rename fails.
        std::fs::create_dir(scratch.path().join(OLD)).unwrap();
        let mut failed = 0;
        for number in 1..=100 {
            let (taken, kept) = spent.take(digest(number), certificate(number));
            assert!(taken);
            failed += usize::from(kept.is_err());
            assert!(spent.young.len() <= 3 && spent.old.len() <= 3 && spent.unkept.len() <= 3 * ENTRY);
        }
        assert!(failed > 90);
        assert!(std::fs::metadata(scratch.path().join(YOUNG)).unwrap().len() <= 6 * ENTRY as u64);
        // And it can be read again when it can turn.
        std::fs::remove_dir(scratch.path().join(OLD)).unwrap();
        spent.take(digest(101), PARTNER).1.unwrap();
        assert!(!open(&scratch).take(digest(101), PARTNER).0);
    }
}
