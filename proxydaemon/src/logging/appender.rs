//! The kind `seon_appender`: one file a day for all processes of a daemon, one write for each line.
//!
//! | Setting | Meaning |
//! | --- | --- |
//! | `path` | the file, to which the date is added before the extension: `/var/log/seon.log` is written as `/var/log/seon-2026-03-01.log`; relative to the directory of the binary; by default named after the program, beside the binary |
//! | `encoder` | the layout, by default `seon_layout` |
//!
//! A full disk does not stop anything: what could not be written is counted, and told once writing works again.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context;
use chrono::{DateTime, Local, NaiveDate};
use log::{Level, Record};
use log4rs::append::Append;
use log4rs::append::file::FileAppender;
use log4rs::config::{Deserialize, Deserializers};
use log4rs::encode::writer::simple::SimpleWriter;
use log4rs::encode::{Encode, EncoderConfig};
use nix::unistd::{AccessFlags, access};

use super::gate::Origin;
use super::layout::SeonLayout;
use super::loss;
use crate::state_directory;

/// When the files of a log are opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Opening {
    /// At the daemon's start, which a mistake stops.
    AtTheStart,
    /// By a gate that has executed itself anew: nothing stops it, and nothing that was written is lost.
    Again,
    /// For `--check`, beside a daemon that may be running: a mistake is told, nothing is written, and no file made.
    ToLook,
}

#[derive(Debug)]
pub(super) struct SeonAppender {
    encoder: Box<dyn Encode>,
    file: Mutex<DailyFile>,
}

impl SeonAppender {
    /// Opens today's file. For a daemon that is running, `opening` says so, one that cannot be opened is tried again with each line.
    pub(super) fn open(path: PathBuf, encoder: Box<dyn Encode>, opening: Opening) -> io::Result<Self> {
        let mut file = DailyFile { path, today: None, lost: 0, torn: false };
        let opened = match opening {
            Opening::ToLook => could_be_opened(&dated(&file.path, Local::now().date_naive())),
            Opening::AtTheStart | Opening::Again => file.of(Local::now()).map(drop),
        };
        match (opened, opening) {
            (Err(error), Opening::AtTheStart | Opening::ToLook) => Err(error),
            _ => Ok(Self { encoder, file: Mutex::new(file) }),
        }
    }

    fn encoded(&self, record: &Record<'_>) -> anyhow::Result<Vec<u8>> {
        let mut line = SimpleWriter(Vec::with_capacity(256));
        self.encoder.encode(&mut line, record)?;
        Ok(line.0)
    }

    fn append_at(&self, now: DateTime<Local>, record: &Record<'_>) -> anyhow::Result<()> {
        let line = self.encoded(record)?;
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        if file.lost > 0 && file.of(now).is_ok() {
            let text = format!("{} lines were lost here because the log could not be written", file.lost);
            let origin = Origin::of_gate(Some("log-records-dropped"));
            let loss = self.encoded(
                &Record::builder().level(Level::Error).key_values(&origin).args(format_args!("{text}")).build(),
            )?;
            if file.write(now, &loss).is_ok() {
                file.lost = 0;
            }
        }
        if let Err(error) = file.write(now, &line) {
            file.lost += 1;
            loss::count(&file.path, &error);
        }
        Ok(())
    }
}

impl Append for SeonAppender {
    fn append(&self, record: &Record<'_>) -> anyhow::Result<()> {
        self.append_at(Local::now(), record)
    }

    fn flush(&self) {}
}

/// The file of the day.
struct DailyFile {
    path: PathBuf,
    today: Option<Today>,
    lost: u64,
    /// The last line was written in part, as a disk that fills up makes it.
    torn: bool,
}

struct Today {
    date: NaiveDate,
    path: PathBuf,
    file: File,
    /// Second in which it was last seen under its name.
    seen: i64,
}

impl DailyFile {
    /// Writes one line. What fails leaves no half line that the next could be taken for a part of.
    fn write(&mut self, now: DateTime<Local>, line: &[u8]) -> io::Result<()> {
        let torn = self.torn;
        let mut file = self.of(now)?;
        if torn {
            file.write_all(b"\n")?;
            self.torn = false;
            file = self.of(now)?;
        }
        match file.write(line) {
            Ok(written) if written == line.len() => Ok(()),
            Ok(written) => {
                let rest = line.get(written..).unwrap_or_default();
                file.write_all(rest).inspect_err(|_| self.torn = true)
            }
            Err(error) => Err(error),
        }
    }

    /// The open file for this moment: a new one on a new day, and when it was moved away or removed (looked at once a
    /// second).
    fn of(&mut self, now: DateTime<Local>) -> io::Result<&File> {
        let (date, second) = (now.date_naive(), now.timestamp());
        let today = match self.today.take() {
            Some(today) if today.date == date && (today.seen == second || today.is_in_place()) => {
                Today { seen: second, ..today }
            }
            _ => {
                self.torn = false; // half a line stays in the old file
                let path = dated(&self.path, date);
                let mut options = OpenOptions::new();
                let file = options.append(true).create(true).mode(0o640).open(&path)?;
                Today { date, path, file, seen: second }
            }
        };
        Ok(&self.today.insert(today).file)
    }
}

impl Today {
    fn is_in_place(&self) -> bool {
        match (std::fs::metadata(&self.path), self.file.metadata()) {
            (Ok(named), Ok(open)) => (named.dev(), named.ino()) == (open.dev(), open.ino()),
            (Err(error), _) => error.kind() != io::ErrorKind::NotFound,
            _ => true,
        }
    }
}

impl fmt::Debug for DailyFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DailyFile").field("path", &self.path).field("lost", &self.lost).finish_non_exhaustive()
    }
}

/// Whether a start could open this file. It need not be there; its directory must be.
fn could_be_opened(path: &Path) -> io::Result<()> {
    match OpenOptions::new().append(true).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let directory = path.parent().filter(|path| !path.as_os_str().is_empty()).unwrap_or(Path::new("."));
            Ok(access(directory, AccessFlags::W_OK | AccessFlags::X_OK)?)
        }
        opened => opened.map(drop),
    }
}

/// The path with the date before its extension.
fn dated(path: &Path, date: NaiveDate) -> PathBuf {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let extension = path.extension().map(|extension| format!(".{}", extension.to_string_lossy())).unwrap_or_default();
    path.with_file_name(format!("{stem}-{}{extension}", date.format("%Y-%m-%d")))
}

/// `kind: seon_appender` in a `.logrc`.
pub(super) struct AppenderDeserializer {
    /// The directory of the binary.
    pub(super) directory: PathBuf,
    /// The file when the `.logrc` names none.
    pub(super) default_path: PathBuf,
    /// The directories of the files that were opened.
    pub(super) opened: Arc<Mutex<Vec<PathBuf>>>,
    pub(super) opening: Opening,
}

#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AppenderConfig {
    path: Option<PathBuf>,
    encoder: Option<EncoderConfig>,
}

impl Deserialize for AppenderDeserializer {
    type Trait = dyn Append;
    type Config = AppenderConfig;

    fn deserialize(&self, config: AppenderConfig, all: &Deserializers) -> anyhow::Result<Box<dyn Append>> {
        let encoder = match config.encoder {
            Some(encoder) => all.deserialize::<dyn Encode>(&encoder.kind, encoder.config)?,
            None => Box::new(SeonLayout),
        };
        let path = config.path.map_or_else(|| self.default_path.clone(), |path| self.directory.join(path));
        anyhow::ensure!(path.file_name().is_some(), "path {} does not name a file", path.display());
        let today = dated(&path, Local::now().date_naive());
        let directory = path.parent().map(Path::to_owned);
        let appender = SeonAppender::open(path, encoder, self.opening)
            .with_context(|| format!("{} cannot be opened", today.display()))?;
        self.opened.lock().unwrap_or_else(PoisonError::into_inner).extend(directory);
        Ok(Box::new(appender))
    }
}

/// `kind: file` of log4rs, for whoever does not start the daemon: with `append: false` it would begin its file anew, and what was
/// written since the daemon's start would be gone.
pub(super) struct FileAgainDeserializer {
    pub(super) opening: Opening,
}

#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FileConfig {
    path: String,
    encoder: Option<EncoderConfig>,
    #[serde(rename = "append")]
    _append: Option<bool>,
}

impl Deserialize for FileAgainDeserializer {
    type Trait = dyn Append;
    type Config = FileConfig;

    fn deserialize(&self, config: FileConfig, all: &Deserializers) -> anyhow::Result<Box<dyn Append>> {
        let mut builder = FileAppender::builder().append(true);
        if let Some(encoder) = config.encoder {
            builder = builder.encoder(all.deserialize::<dyn Encode>(&encoder.kind, encoder.config)?);
        }
        let failed = |error: io::Error| anyhow::Error::msg(format!("{} cannot be opened: {error}", config.path));
        if self.opening == Opening::ToLook {
            // What stands in the environment is put in by log4rs alone.
            if !config.path.contains("$ENV{") {
                file_could_be_opened(Path::new(&config.path)).map_err(failed)?;
            }
            return Ok(Box::new(Nowhere));
        }
        Ok(Box::new(builder.build(&config.path).map_err(failed)?))
    }
}

/// The same for the file of log4rs, which makes the directories that are not there.
fn file_could_be_opened(path: &Path) -> io::Result<()> {
    match OpenOptions::new().append(true).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => state_directory::may_be_made(path),
        opened => opened.map(drop),
    }
}

/// Stands where only a look was taken.
#[derive(Debug)]
struct Nowhere;

impl Append for Nowhere {
    fn append(&self, _record: &Record<'_>) -> anyhow::Result<()> {
        Ok(())
    }

    fn flush(&self) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::{Days, TimeDelta};

    fn say(appender: &SeonAppender, now: DateTime<Local>, text: &str) {
        let origin = Origin::of_gate(Some("a-code"));
        let mut builder = Record::builder();
        appender.append_at(now, &builder.key_values(&origin).args(format_args!("{text}")).build()).unwrap();
    }

    fn messages(path: &Path) -> Vec<String> {
        let text = std::fs::read_to_string(path).unwrap();
        assert!(text.is_empty() || text.ends_with('\n'));
        text.lines().map(|line| line.split_whitespace().skip(4).collect::<Vec<_>>().join(" ")).collect()
    }

    fn scratch() -> (tempfile::TempDir, PathBuf, DateTime<Local>) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("seon.log");
        (folder, path, Local::now())
    }

    #[test]
    fn a_new_day_is_a_new_file() {
        let (_folder, path, now) = scratch();
        let appender = SeonAppender::open(path.clone(), Box::new(SeonLayout), Opening::AtTheStart).unwrap();
        let tomorrow = now.checked_add_days(Days::new(1)).unwrap();
        say(&appender, now, "one");
        say(&appender, tomorrow, "two");
        say(&appender, tomorrow, "three");
        assert_eq!(messages(&dated(&path, now.date_naive())), ["a-code one"]);
        assert_eq!(messages(&dated(&path, tomorrow.date_naive())), ["a-code two", "a-code three"]);
    }

    #[test]
    fn the_date_stands_before_the_extension() {
        let date = NaiveDate::from_ymd_opt(2026, 3, 1).unwrap();
        assert_eq!(dated(Path::new("/var/log/seon.log"), date), Path::new("/var/log/seon-2026-03-01.log"));
        assert_eq!(dated(Path::new("/var/log/seon"), date), Path::new("/var/log/seon-2026-03-01"));
    }

    #[test]
    fn a_full_disk_is_counted_and_told_when_writing_works_again() {
        let (_folder, path, now) = scratch();
        let today = dated(&path, now.date_naive());
        std::os::unix::fs::symlink("/dev/full", &today).unwrap();
        let appender = SeonAppender::open(path.clone(), Box::new(SeonLayout), Opening::AtTheStart).unwrap();
        for _ in 0..5 {
            say(&appender, now, "into the void");
        }
        std::fs::remove_file(&today).unwrap();
        let later = now.checked_add_signed(TimeDelta::seconds(1)).unwrap();
        let today = dated(&path, later.date_naive());
        say(&appender, later, "here again");
        say(&appender, later, "and again");
        let loss = "log-records-dropped 5 lines were lost here because the log could not be written";
        assert_eq!(messages(&today), [loss, "a-code here again", "a-code and again"]);
    }

    #[test]
    fn a_file_that_was_moved_away_is_made_anew() {
        let (folder, path, now) = scratch();
        let appender = SeonAppender::open(path.clone(), Box::new(SeonLayout), Opening::AtTheStart).unwrap();
        say(&appender, now, "one");
        let moved = folder.path().join("moved");
        std::fs::rename(dated(&path, now.date_naive()), &moved).unwrap();
        let later = now.checked_add_signed(TimeDelta::seconds(1)).unwrap();
        say(&appender, later, "two");
        assert_eq!(messages(&moved), ["a-code one"]);
        assert_eq!(messages(&dated(&path, later.date_naive())), ["a-code two"]);
    }

    #[test]
    fn half_a_line_ends_before_the_next_begins() {
        let (_folder, path, now) = scratch();
        let mut file = DailyFile { path: path.clone(), today: None, lost: 0, torn: false };
        file.of(now).unwrap().write_all(b"half").unwrap();
        file.torn = true;
        file.write(now, b"whole\n").unwrap();
        assert_eq!(std::fs::read(dated(&path, now.date_naive())).unwrap(), b"half\nwhole\n");
    }
}
