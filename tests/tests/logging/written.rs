//! The files that a daemon's log is written to.

use std::fs;
use std::path::{Path, PathBuf};

use tests::harness::{PATIENCE, Trouble, until};

/// The dated files `STEM-DATE.EXTENSION` in a directory, oldest first; there are two when midnight passes.
pub fn files(directory: &Path, stem: &str, extension: &str) -> Vec<PathBuf> {
    let ours = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let date = name.strip_prefix(stem).and_then(|rest| rest.strip_suffix(extension));
        // -2026-03-01.
        date.is_some_and(|date| date.len() == 12 && date.starts_with("-20"))
    };
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(ours).collect();
    files.sort();
    files
}

/// All whole lines in them.
pub fn lines(directory: &Path, stem: &str, extension: &str) -> Vec<String> {
    let read = |path: &PathBuf| fs::read_to_string(path).unwrap_or_default();
    let text: String = files(directory, stem, extension).iter().map(read).collect();
    text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')).map(str::to_owned).collect()
}

/// Waits for a line that `wanted` takes.
pub fn wait_for(
    directory: &Path,
    stem: &str,
    extension: &str,
    what: &str,
    wanted: impl Fn(&str) -> bool,
) -> Result<String, Trouble> {
    let found = || lines(directory, stem, extension).into_iter().find(|line| wanted(line));
    until(PATIENCE, found).ok_or_else(|| {
        let seen = lines(directory, stem, extension).join("\n  ");
        Trouble(format!("no \"{what}\" in {}/{stem}-DATE.{extension}:\n  {seen}", directory.display()))
    })
}
