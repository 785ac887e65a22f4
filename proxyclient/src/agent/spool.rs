//! Reports that the backend does not have yet: in memory and, so that a restart loses nothing, in a file of JSON lines.
//!
//! Bounded. What comes when it is full is dropped and counted; what cannot be written to disk stays in memory, and the
//! loss of safety is told when it begins and when it ends.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Write};

use proxydaemon::descriptors::Directory;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A queue of reports of one kind.
#[derive(Debug)]
pub struct Spool<T> {
    directory: Directory,
    name: &'static str,
    most: usize,
    waiting: VecDeque<T>,
    file: Option<File>,
    /// Delivered entries that still stand at the beginning of the file.
    delivered: usize,
    dropped: u64,
    trouble: Option<String>,
}

const LARGEST_FILE: usize = 256 * 1024 * 1024;

impl<T: Serialize + DeserializeOwned> Spool<T> {
    /// Opens the spool in the file `name`, with what it holds, for at most `most` reports.
    ///
    /// # Errors
    /// When the file is there and cannot be read.
    pub fn open(directory: Directory, name: &'static str, most: usize) -> io::Result<Self> {
        let waiting = match directory.read(name, LARGEST_FILE) {
            // A line that a power cut left unfinished is passed over.
            Ok(octets) => octets
                .split(|&octet| octet == b'\n')
                .filter_map(|line| serde_json::from_slice(line).ok())
                .take(most)
                .collect(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => VecDeque::new(),
            Err(error) => return Err(error),
        };
        let mut spool = Self { directory, name, most, waiting, file: None, delivered: 0, dropped: 0, trouble: None };
        spool.rewrite();
        Ok(spool)
    }

    /// Adds a report; `false` when the spool is full and it was dropped (and counted).
    pub fn add(&mut self, report: T) -> bool {
        if self.waiting.len() >= self.most {
            self.dropped += 1;
            return false;
        }
        let line = serde_json::to_vec(&report);
        self.waiting.push_back(report);
        match (line, &mut self.file) {
            (Ok(mut line), Some(file)) => {
                line.push(b'\n');
                if let Err(error) = file.write_all(&line) {
                    self.trouble = Some(error.to_string());
                    self.file = None;
                }
            }
            _ => self.rewrite(),
        }
        true
    }

    /// The oldest reports, at most `most`.
    pub fn oldest(&self, most: usize) -> impl Iterator<Item = &T> {
        self.waiting.iter().take(most)
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// The oldest `count` are delivered.
    pub fn delivered(&mut self, count: usize) {
        let count = count.min(self.waiting.len());
        self.waiting.drain(..count);
        self.delivered += count;
        // Rewriting costs what is left, so it pays when that is no more than what goes.
        if self.waiting.is_empty() || self.delivered > self.waiting.len() || self.file.is_none() {
            self.rewrite();
        }
    }

    /// How many were dropped since the last question.
    pub const fn take_dropped(&mut self) -> u64 {
        std::mem::replace(&mut self.dropped, 0)
    }

    /// Why reports cannot be kept on disk, while that is so.
    pub fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    fn rewrite(&mut self) {
        let mut content = Vec::new();
        for report in &self.waiting {
            if serde_json::to_writer(&mut content, report).is_ok() {
                content.push(b'\n');
            }
        }
        let written =
            self.directory.replace(self.name, &content, 0o600).and_then(|()| self.directory.append(self.name, 0o600));
        match written {
            Ok(file) => {
                self.file = Some(file);
                self.delivered = 0;
                self.trouble = None;
            }
            Err(error) => {
                self.file = None;
                self.trouble = Some(error.to_string());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(scratch: &tempfile::TempDir, most: usize) -> Spool<u32> {
        Spool::open(Directory::open(scratch.path()).unwrap(), "reports", most).unwrap()
    }

    #[test]
    fn what_is_not_delivered_outlives_a_restart_in_order() {
        let scratch = tempfile::tempdir().unwrap();
        let mut spool = open(&scratch, 10);
        for report in 1..=5 {
            assert!(spool.add(report));
        }
        spool.delivered(2);
        let spool = open(&scratch, 10);
        // What was delivered may come once more, what was not is never missing.
        let left: Vec<_> = spool.oldest(10).copied().collect();
        assert!(left.ends_with(&[3, 4, 5]), "{left:?}");
        let mut spool = spool;
        spool.delivered(left.len());
        assert_eq!(open(&scratch, 10).len(), 0);
    }

    #[test]
    fn a_full_spool_drops_the_newest_and_counts() {
        let scratch = tempfile::tempdir().unwrap();
        let mut spool = open(&scratch, 2);
        assert_eq!([spool.add(1), spool.add(2), spool.add(3), spool.add(4)], [true, true, false, false]);
        assert_eq!(spool.oldest(9).copied().collect::<Vec<_>>(), [1, 2]);
        assert_eq!(spool.take_dropped(), 2);
        assert_eq!(spool.take_dropped(), 0);
    }

    #[test]
    fn a_line_cut_by_a_power_failure_is_passed_over() {
        let scratch = tempfile::tempdir().unwrap();
        std::fs::write(scratch.path().join("reports"), "1\n2\n\"cut").unwrap();
        assert_eq!(open(&scratch, 9).oldest(9).copied().collect::<Vec<_>>(), [1, 2]);
    }
}
