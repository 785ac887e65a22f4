//! A log file with its day in its name: `seon_backend.log` is written as `seon_backend-2026-03-01.log`.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use chrono::{DateTime, Local, NaiveDate};

/// The file of the day. What it cannot take is counted, and told once it can write again.
pub struct DailyFile {
    path: PathBuf,
    today: Option<(NaiveDate, PathBuf, File)>,
    lost: u64,
}

impl DailyFile {
    /// Opens the file of this day; makes it where there is none.
    pub fn open(path: &Path, now: DateTime<Local>) -> io::Result<Self> {
        let mut file = Self { path: path.to_owned(), today: None, lost: 0 };
        file.of(now)?;
        Ok(file)
    }

    /// Appends a line. One that cannot be written is for the caller to put elsewhere.
    pub fn write(&mut self, now: DateTime<Local>, line: &[u8]) -> io::Result<()> {
        let written = self.try_write(now, line);
        if written.is_err() {
            self.lost += 1;
        }
        written
    }

    fn try_write(&mut self, now: DateTime<Local>, line: &[u8]) -> io::Result<()> {
        let lost = self.lost;
        let mut file = self.of(now)?;
        if lost > 0 {
            // It begins a line of its own: a disk that filled up may have cut the last one.
            let told = format!("\n{lost} line(s) went to standard error because this file could not be written\n");
            file.write_all(told.as_bytes())?;
            self.lost = 0;
            file = self.of(now)?;
        }
        file.write_all(line)
    }

    /// The open file: another one on another day, and a new one when it was moved away or removed.
    fn of(&mut self, now: DateTime<Local>) -> io::Result<&File> {
        let date = now.date_naive();
        let today = match self.today.take() {
            Some((day, path, file)) if day == date && is_at(&file, &path) => (day, path, file),
            _ => {
                let path = dated(&self.path, date);
                let file = OpenOptions::new().append(true).create(true).mode(0o640).open(&path)?;
                (date, path, file)
            }
        };
        Ok(&self.today.insert(today).2)
    }
}

fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), std::fs::metadata(path)) {
        (Ok(open), Ok(named)) => (open.dev(), open.ino()) == (named.dev(), named.ino()),
        _ => false,
    }
}

fn dated(path: &Path, date: NaiveDate) -> PathBuf {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    match path.extension() {
        Some(extension) => path.with_file_name(format!("{stem}-{date}.{}", extension.to_string_lossy())),
        None => path.with_file_name(format!("{stem}-{date}")),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use chrono::TimeZone;

    use super::*;

    fn at(day: u32) -> DateTime<Local> {
        Local.with_ymd_and_hms(2026, 3, day, 12, 0, 0).unwrap()
    }

    #[test]
    fn each_day_has_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = DailyFile::open(&folder.path().join("seon_backend.log"), at(1)).unwrap();
        file.write(at(1), b"one\n").unwrap();
        file.write(at(2), b"two\n").unwrap();
        file.write(at(2), b"three\n").unwrap();
        let read = |day: u32| fs::read_to_string(folder.path().join(format!("seon_backend-2026-03-0{day}.log")));
        assert_eq!((read(1).unwrap(), read(2).unwrap()), ("one\n".to_owned(), "two\nthree\n".to_owned()));
    }

    #[test]
    fn a_file_that_was_moved_away_is_made_anew() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = DailyFile::open(&folder.path().join("log"), at(1)).unwrap();
        file.write(at(1), b"one\n").unwrap();
        fs::rename(folder.path().join("log-2026-03-01"), folder.path().join("old")).unwrap();
        file.write(at(1), b"two\n").unwrap();
        assert_eq!(fs::read_to_string(folder.path().join("log-2026-03-01")).unwrap(), "two\n");
    }

    #[test]
    fn lines_that_cannot_be_written_are_counted_and_told() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("inner");
        fs::create_dir(&inner).unwrap();
        let mut file = DailyFile::open(&inner.join("log"), at(1)).unwrap();
        fs::remove_dir_all(&inner).unwrap();
        assert!(file.write(at(1), b"one\n").is_err() && file.write(at(1), b"two\n").is_err());
        fs::create_dir(&inner).unwrap();
        file.write(at(1), b"three\n").unwrap();
        let said = fs::read_to_string(inner.join("log-2026-03-01")).unwrap();
        assert!(said.contains("\n2 line(s) went to standard error") && said.ends_with("\nthree\n"), "{said}");
    }
}
