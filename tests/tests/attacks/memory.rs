//! What another process has in its memory.

use std::fs::{self, File};
use std::io::{self, BufRead};
use std::os::unix::fs::FileExt;

/// All that a process has mapped and can be read, but for the unaltered parts of files.
pub struct Memory {
    areas: Vec<Vec<u8>>,
}

impl Memory {
    /// Reads it; an error when this program may not, or the process has ended.
    pub fn of(pid: i32) -> io::Result<Self> {
        let memory = File::open(format!("/proc/{pid}/mem"))?;
        let maps = fs::read_to_string(format!("/proc/{pid}/maps"))?;
        let areas = maps.lines().filter_map(area).filter_map(|(from, to)| read(&memory, from, to)).collect();
        Ok(Self { areas })
    }

    /// Octets that were read.
    pub fn size(&self) -> usize {
        self.areas.iter().map(Vec::len).sum()
    }

    /// Whether these octets stand in it.
    pub fn holds(&self, wanted: &[u8]) -> bool {
        self.areas.iter().any(|area| contains(area, wanted))
    }
}

/// An area of `maps` that may hold secrets: `from-to rwxp offset device inode path`.
fn area(line: &str) -> Option<(u64, u64)> {
    let mut words = line.split_whitespace();
    let (from, to) = words.next()?.split_once('-')?;
    let rights = words.next()?;
    let path = words.nth(3).unwrap_or_default();
    let of_a_file = path.starts_with('/') && !path.starts_with("/memfd:");
    let worth_reading = rights.starts_with('r') && (rights.contains('w') || !of_a_file);
    let address = |text| u64::from_str_radix(text, 16).ok();
    Some((address(from)?, address(to)?)).filter(|_| worth_reading)
}

/// None for what the kernel does not give (`[vvar]`).
fn read(memory: &File, from: u64, to: u64) -> Option<Vec<u8>> {
    let mut octets = vec![0; usize::try_from(to.checked_sub(from)?).ok()?];
    memory.read_exact_at(&mut octets, from).ok()?;
    Some(octets)
}

/// As `windows().any()`, and quick without optimisation, too.
pub fn contains(octets: &[u8], wanted: &[u8]) -> bool {
    let Some(first) = wanted.first() else { return true };
    let mut rest = octets;
    // Stops behind the next octet that is the first one wanted.
    while rest.skip_until(*first).is_ok_and(|skipped| skipped > 0) {
        let from = octets.len() - rest.len() - 1;
        if octets.get(from..).is_some_and(|here| here.starts_with(wanted)) {
            return true;
        }
    }
    false
}

#[test]
fn octets_are_found_wherever_they_stand() {
    for octets in [b"abc....".as_slice(), b"..aabc..", b"....abc"] {
        assert!(contains(octets, b"abc"), "{octets:?}");
    }
    assert!(!contains(b"ababab", b"abc"));
}
