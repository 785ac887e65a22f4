//! The log as the gate writes it, for itself and for its children.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use log::kv::{Error, Key, Source, Value, VisitSource};
use log::{LevelFilter, Log, Record};
use log4rs::append::console::{ConsoleAppender, Target};
use log4rs::config::{Appender, Config, Root};
use nix::unistd::Pid;

use super::appender::{Opening, SeonAppender};
use super::field::Fields;
use super::layout::SeonLayout;
use super::logrc::{self, LogrcError};
use super::record::word;
use super::{ChildRecord, FATAL, SINK, Sink, Threshold, install, level, order, session_of, set_level, value_of};

/// A `.logrc` larger than this is not one.
const LARGEST_LOGRC: usize = 256 * 1024;

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The `.logrc` is wrong.
    #[error(transparent)]
    Logrc(#[from] LogrcError),
    /// The `.logrc` is there and cannot be read.
    #[error("{path} cannot be read: {source}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system answered.
        source: io::Error,
    },
    /// There is no `.logrc`, and the default log file cannot be written.
    #[error(
        "the log file {path} cannot be written: {source}; name another place in {logrc}, or log to the terminal with -d"
    )]
    Unwritable {
        /// The file, to whose name the date is added.
        path: PathBuf,
        /// Where another one can be named.
        logrc: PathBuf,
        /// What the system answered.
        source: io::Error,
    },
}

/// The directory of this binary, whatever the working directory.
///
/// # Errors
/// `/proc` is not mounted.
pub fn binary_directory() -> io::Result<PathBuf> {
    let binary = std::fs::read_link("/proc/self/exe")?;
    Ok(binary.parent().unwrap_or(Path::new("/")).to_owned())
}

/// Whether a log could be started, and what it would be; for `--check`. Makes and writes no file.
///
/// # Errors
/// As [`GateLog::start`].
pub fn look(stem: &str, directory: &Path, foreground: bool) -> Result<String, LogError> {
    let (path, default_path) = paths(stem, directory);
    if let Some(text) = text_of(&path)? {
        let logrc::Read { level, .. } = logrc::read(&path, &text, directory, &default_path, Opening::ToLook)?;
        return Ok(format!("{} is sound; level {level}", path.display()));
    }
    let absent = format!("there is no {}; level INFO", path.display());
    if foreground {
        return Ok(format!("{absent}, standard error"));
    }
    match nix::unistd::access(directory, nix::unistd::AccessFlags::W_OK) {
        Ok(()) => {
            Ok(format!("{absent}, {} (with the date in its name) or the terminal with -d", default_path.display()))
        }
        Err(error) => Err(LogError::Unwritable { path: default_path, logrc: path, source: error.into() }),
    }
}

/// The `.logrc`, and the log file where none is named.
fn paths(stem: &str, directory: &Path) -> (PathBuf, PathBuf) {
    (directory.join(format!("{stem}.logrc")), directory.join(format!("{stem}.log")))
}

/// The text of the `.logrc`; none where there is no such file.
fn text_of(path: &Path) -> Result<Option<String>, LogError> {
    let unreadable = |source| LogError::Unreadable { path: path.to_owned(), source };
    match std::fs::File::open(path).and_then(|file| crate::descriptors::read_bounded(file, LARGEST_LOGRC)) {
        Ok(text) => String::from_utf8(text)
            .map(Some)
            .map_err(|_| unreadable(io::Error::new(io::ErrorKind::InvalidData, "it is not text in UTF-8"))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(unreadable(source)),
    }
}

/// The log of a gate. From its start on, all records of this process are written.
#[derive(Debug)]
pub struct GateLog {
    note: Option<String>,
    directories: Vec<PathBuf>,
    begun: Begun,
}

/// How a log was started, for a gate that executes itself anew.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct Begun {
    stem: String,
    directory: PathBuf,
    foreground: bool,
    /// What the `.logrc` said; none when there was none.
    logrc: Option<String>,
    level: Threshold,
    /// The level that comes back, and after how long, when the present one is lent.
    former: Option<(Threshold, Duration)>,
}

impl GateLog {
    /// Starts the log as `STEM.logrc` in `directory` says. Without that file, a daemon in the foreground logs to
    /// standard error and one in the background to `STEM-DATE.log` in `directory`, at level INFO.
    ///
    /// Starts no thread. To be called as the user that the daemon runs as, who has to open a new file each day, and before
    /// anything is confined, since the time zone is read now.
    ///
    /// # Errors
    /// The `.logrc` is wrong (with line and column) or unreadable, or a log file cannot be opened.
    pub fn start(stem: &str, directory: &Path, foreground: bool) -> Result<Self, LogError> {
        let logrc = text_of(&paths(stem, directory).0)?;
        let (stem, directory) = (stem.to_owned(), directory.to_owned());
        Self::begin(Begun { stem, directory, foreground, logrc, level: level(), former: None }, Opening::AtTheStart)
    }

    fn begin(begun: Begun, opening: Opening) -> Result<Self, LogError> {
        let (path, default_path) = paths(&begun.stem, &begun.directory);
        let Some(text) = &begun.logrc else {
            return Self::start_by_default(path, default_path, begun, opening);
        };
        let logrc::Read { config, level, directories } =
            logrc::read(&path, text, &begun.directory, &default_path, opening)?;
        Ok(Self::start_with(config, level, None, directories, begun))
    }

    fn start_by_default(logrc: PathBuf, path: PathBuf, begun: Begun, opening: Opening) -> Result<Self, LogError> {
        let builder = Appender::builder();
        let mut directories = Vec::new();
        let (appender, place) = if begun.foreground {
            let console = ConsoleAppender::builder().target(Target::Stderr).encoder(Box::new(SeonLayout)).build();
            (builder.build("default", Box::new(console)), "standard error".to_owned())
        } else {
            let file = SeonAppender::open(path.clone(), Box::new(SeonLayout), opening)
                .map_err(|source| LogError::Unwritable { path: path.clone(), logrc: logrc.clone(), source })?;
            directories.extend(path.parent().map(Path::to_owned));
            (builder.build("default", Box::new(file)), format!("{} (with the date in its name)", path.display()))
        };
        let root = Root::builder().appender("default").build(LevelFilter::Trace);
        let (config, _) = Config::builder().appender(appender).build_lossy(root);
        let note = format!("there is no {}; logging at level INFO to {place}", logrc.display());
        Ok(Self::start_with(config, Threshold::Info, Some(note), directories, begun))
    }

    fn start_with(
        config: Config,
        level: Threshold,
        note: Option<String>,
        directories: Vec<PathBuf>,
        begun: Begun,
    ) -> Self {
        install(Sink::Gate(GateSink { log4rs: log4rs::Logger::new(config) }));
        set_level(level);
        Self { note, directories, begun }
    }

    /// How it was started, with the level it has now.
    pub fn begun(&self) -> Begun {
        Begun { level: level(), former: order::former(), ..self.begun.clone() }
    }

    /// Starts the log as it was before this process executed itself anew, by the `.logrc` as it was at the daemon's start. A
    /// daily file that cannot be opened is tried again with each line; without another one, which is told, standard error takes the
    /// lines: the daemon serves on.
    pub fn resume(begun: Begun) -> Self {
        let (threshold, former) = (begun.level, begun.former);
        let log = Self::begin(begun.clone(), Opening::Again).unwrap_or_else(|error| {
            let console = ConsoleAppender::builder().target(Target::Stderr).encoder(Box::new(SeonLayout)).build();
            let appender = Appender::builder().build("default", Box::new(console));
            let root = Root::builder().appender("default").build(LevelFilter::Trace);
            let (config, _) = Config::builder().appender(appender).build_lossy(root);
            let log = Self::start_with(config, threshold, None, Vec::new(), begun);
            log::error!("{error}; logging to standard error");
            log
        });
        set_level(threshold);
        if let Some(former) = former {
            order::take_over(former);
        }
        log
    }

    /// The directories in which a log file is opened anew, each day or after an exec.
    pub fn directories(&self) -> &[PathBuf] {
        &self.directories
    }

    /// What an administrator should know about the choice of the log: that there is no `.logrc`.
    pub fn note(&self) -> Option<&str> {
        self.note.as_deref()
    }

    /// Writes a record of the child `pid`, whose role the gate knows, whatever the gate's own threshold is: the child
    /// judged by its own. A line before it tells how many records the child had to drop.
    pub fn write(&self, pid: Pid, role: &str, record: &ChildRecord) {
        let Ok(sink) = SINK.read() else { return };
        let Sink::Gate(gate) = &*sink else { return };
        let session = record.session.as_deref();
        let origin = |code| Origin { role, pid: pid.as_raw(), session, code, fields: &record.fields };
        if record.lost > 0 {
            let loss = origin(Some("log-records-dropped"));
            let lost = record.lost;
            gate.write(
                &Record::builder()
                    .level(log::Level::Error)
                    .key_values(&loss)
                    .args(format_args!(
                        "{lost} records of this process were lost, as it logged faster than they were written"
                    ))
                    .build(),
            );
            if record.message.is_empty() {
                return;
            }
        }
        let origin = origin(record.code.as_deref());
        let target = if record.level == Threshold::Fatal { FATAL } else { &record.target };
        gate.write(
            &Record::builder()
                .level(record.level.as_level())
                .target(target)
                .key_values(&origin)
                .args(format_args!("{}", record.message))
                .build(),
        );
    }
}

/// Tells how many messages of a child that flooded were not read.
pub fn tell_dropped(pid: Pid, role: &str, count: u64) {
    log::error!(code = "log-records-dropped";
        "{count} records of process {pid} ({role}) were lost, as it logged faster than any process may");
}

pub(super) struct GateSink {
    log4rs: log4rs::Logger,
}

impl GateSink {
    /// Writes a record of the gate itself.
    pub(super) fn log(&self, record: &Record<'_>) {
        let [code, session] = [value_of(record, "code"), session_of(record)].map(|known| known.map(|text| word(&text)));
        let fields = Fields::of(record);
        let origin = Origin { session: session.as_deref(), fields: &fields, ..Origin::of_gate(code.as_deref()) };
        self.write(&record.to_builder().key_values(&origin).build());
    }

    fn write(&self, record: &Record<'_>) {
        self.log4rs.log(record);
    }
}

/// Who a record is from and what it is about, as the keys that the layouts read.
pub(super) struct Origin<'a> {
    role: &'a str,
    pid: i32,
    session: Option<&'a str>,
    code: Option<&'a str>,
    fields: &'a Fields,
}

impl<'a> Origin<'a> {
    pub(super) fn of_gate(code: Option<&'a str>) -> Self {
        Self { role: "gate", pid: Pid::this().as_raw(), session: None, code, fields: Fields::NONE }
    }
}

impl Source for Origin<'_> {
    fn visit<'kvs>(&'kvs self, visitor: &mut dyn VisitSource<'kvs>) -> Result<(), Error> {
        visitor.visit_pair(Key::from("role"), Value::from(self.role))?;
        visitor.visit_pair(Key::from("pid"), Value::from(self.pid))?;
        if let Some(session) = self.session {
            visitor.visit_pair(Key::from("session"), Value::from(session))?;
        }
        if let Some(code) = self.code {
            visitor.visit_pair(Key::from("code"), Value::from(code))?;
        }
        for (field, value) in self.fields.iter() {
            visitor.visit_pair(Key::from(field.name()), Value::from(value))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_only_looks_empties_no_log_and_still_tells_mistakes() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("plain.log");
        std::fs::write(&log, "what a running daemon has written\n").unwrap();
        let logrc = |details: &str| {
            let text = format!(
                "appenders:\n  plain:\n    kind: file\n    path: {}\n    {details}\nroot:\n  appenders: [plain]\n",
                log.display()
            );
            std::fs::write(folder.path().join("seon.logrc"), text).unwrap();
            look("seon", folder.path(), false).map_err(|error| error.to_string())
        };
        assert!(logrc("append: false").unwrap().contains("is sound"));
        assert_eq!(std::fs::read_to_string(&log).unwrap(), "what a running daemon has written\n");
        assert!(logrc("apend: false").unwrap_err().contains("apend"));
        std::fs::remove_file(&log).unwrap();
        std::fs::create_dir(&log).unwrap();
        assert!(logrc("append: false").unwrap_err().contains("plain.log"));
    }
}
