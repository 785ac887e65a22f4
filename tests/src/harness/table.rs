//! The table of processes as `ps` shows it, from /proc.

use std::collections::HashSet;
use std::fs;

/// One process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its id.
    pub pid: i32,
    /// Its parent's id.
    pub parent: i32,
    /// Its name (`comm`).
    pub name: String,
    /// Its command line, arguments parted by spaces.
    pub command_line: String,
    /// Number of its threads.
    pub threads: usize,
    /// When it started, in ticks since boot: with the id it names a process for good.
    started: u64,
}

impl Entry {
    /// The process of that id, unless it has ended.
    pub fn of(pid: i32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name stands in parentheses and may hold anything.
        let (before, after) = stat.rsplit_once(')')?;
        let name = before.split_once('(')?.1.to_owned();
        let fields: Vec<&str> = after.split_whitespace().collect();
        // Z and X: ended, not yet waited for.
        if matches!(fields.first(), Some(&"Z" | &"X") | None) {
            return None;
        }
        let parent = fields.get(1)?.parse().ok()?;
        let threads = fields.get(17)?.parse().ok()?;
        let started = fields.get(19)?.parse().ok()?;
        let command_line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let command_line = String::from_utf8_lossy(&command_line).replace('\0', " ").trim_end().to_owned();
        Some(Self { pid, parent, name, command_line, threads, started })
    }

    /// Whether it still runs.
    pub fn still_there(&self) -> bool {
        Self::of(self.pid).is_some_and(|now| now.started == self.started)
    }
}

impl Entry {
    /// Octets of memory that are its own (`RssAnon`); none when it has ended.
    pub fn own_memory(&self) -> Option<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
        let kibibytes: u64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
        Some(kibibytes * 1024)
    }
}

/// All processes that descend from `pid`, without itself.
pub fn below(pid: i32) -> Vec<Entry> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let all: Vec<Entry> =
        processes.filter_map(|process| process.file_name().to_str()?.parse().ok()).filter_map(Entry::of).collect();
    let mut family = HashSet::from([pid]);
    loop {
        let found: Vec<i32> = all
            .iter()
            .filter(|entry| family.contains(&entry.parent) && !family.contains(&entry.pid))
            .map(|entry| entry.pid)
            .collect();
        if found.is_empty() {
            break;
        }
        family.extend(found);
    }
    all.into_iter().filter(|entry| entry.pid != pid && family.contains(&entry.pid)).collect()
}
