//! Reading a `.logrc`: log4rs' own format, with errors that name the place, and nothing passed over in silence.
//!
//! The file is YAML, `seon_proxyserver.logrc` or `seon_proxyclient.logrc` in the directory of the program. Read once, at the
//! start, and its text kept for a gate that executes itself anew; `refresh_rate` is refused. Unknown members anywhere are errors.
//!
//! | Member | Meaning |
//! | --- | --- |
//! | `appenders.NAME.kind` | `seon_appender`; of log4rs: `console`, `file` |
//! | `appenders.NAME.encoder.kind` | `seon_layout`, `seon_json`, `seon_eve`; of log4rs: `pattern`, which is what `console` and `file` have without an encoder and which shows neither process nor code |
//! | `appenders.NAME.filters` | a list, each with a `kind`: `seon_alerts`; of log4rs: `threshold` with `level` (`error` lets FATAL through as well) |
//! | `root.level` | least level that the processes start with: `trace`, `debug`, `info` (the default), `warn`, `error`, `fatal`; signals and `--log-level` change it |
//! | `root.appenders` | names of those that are written; at least one |
//! | `loggers.MODULE.level` | least level of one module (as that of `root`, or `off`), which can only leave out more than the level of the process does |
//! | `loggers.MODULE.appenders`, `loggers.MODULE.additive` | further appenders for it; whether those of `root` get it too (by default they do) |
//!
//! `seon_appender` has the settings `path` and `encoder`, `console` has `target` (`stdout`, `stderr`) and `encoder`, `file`
//! has `path`, `append` and `encoder`. The kinds of ours besides have none. The user that the daemon runs as opens the files,
//! the directories of which must exist.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use log::LevelFilter;
use log4rs::append::{Append, AppenderConfig};
use log4rs::config::{Appender, Config, Deserializers, Logger, Root};
use log4rs::filter::Filter;
use serde::Deserialize;

use super::Threshold;
use super::alerts_only::FilterDeserializer;
use super::appender::{AppenderDeserializer, FileAgainDeserializer, Opening};
use super::eve::EveDeserializer;
use super::layout::LayoutDeserializer;
use super::pattern::PatternDeserializer;
use super::seon_json::JsonDeserializer;

/// What is wrong with a `.logrc`, and where.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}:{line}:{column}: {message}", path.display())]
pub struct LogrcError {
    /// The file.
    pub path: PathBuf,
    /// The line, from 1.
    pub line: usize,
    /// The column, from 1.
    pub column: usize,
    /// What is wrong.
    pub message: String,
}

/// The file as log4rs documents it. `refresh_rate` is not taken: it would start a thread in the gate, which forks.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Logrc {
    #[serde(default)]
    appenders: BTreeMap<String, AppenderConfig>,
    root: RootSection,
    #[serde(default)]
    loggers: BTreeMap<String, LoggerSection>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RootSection {
    #[serde(default = "info")]
    level: Threshold,
    appenders: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LoggerSection {
    level: LoggerLevel,
    #[serde(default)]
    appenders: Vec<String>,
    #[serde(default = "yes")]
    additive: bool,
}

/// The least level of a module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
enum LoggerLevel {
    Off,
    Of(Threshold),
}

impl TryFrom<String> for LoggerLevel {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        if name.eq_ignore_ascii_case("off") {
            return Ok(Self::Off);
        }
        name.parse().map(Self::Of).map_err(|error| format!("{error}, or off for a module"))
    }
}

impl LoggerLevel {
    /// For log4rs, which does not know FATAL. A FATAL record is one of the daemon and of no module, so nothing of the module
    /// is left at that level.
    fn filter(self) -> LevelFilter {
        match self {
            Self::Off | Self::Of(Threshold::Fatal) => LevelFilter::Off,
            Self::Of(level) => level.as_level().to_level_filter(),
        }
    }
}

fn info() -> Threshold {
    Threshold::Info
}

fn yes() -> bool {
    true
}

/// What a `.logrc` says.
#[derive(Debug)]
pub(super) struct Read {
    /// For log4rs.
    pub(super) config: Config,
    /// The threshold to start with.
    pub(super) level: Threshold,
    /// Where a log file is opened anew: each day, or when the gate executes itself anew.
    pub(super) directories: Vec<PathBuf>,
}

/// Reads the file's text. Opens the files it names.
///
/// `directory` is that of the binary, `default_path` the log file of an appender without `path`.
pub(super) fn read(
    path: &Path,
    text: &str,
    directory: &Path,
    default_path: &Path,
    opening: Opening,
) -> Result<Read, LogrcError> {
    let at = |(line, column), message| LogrcError { path: path.to_owned(), line, column, message };
    let logrc: Logrc = serde_yaml::from_str(text).map_err(|error| {
        let place = error.location().map_or((1, 1), |place| (place.line(), place.column()));
        at(place, error.to_string())
    })?;

    let mut kinds = Deserializers::default();
    kinds.insert("seon_layout", LayoutDeserializer);
    kinds.insert("seon_json", JsonDeserializer);
    kinds.insert("seon_eve", EveDeserializer);
    kinds.insert("seon_alerts", FilterDeserializer);
    let (directory, default_path) = (directory.to_owned(), default_path.to_owned());
    let directories = Arc::new(Mutex::new(Vec::new()));
    let opened = Arc::clone(&directories);
    kinds.insert("seon_appender", AppenderDeserializer { directory, default_path, opened, opening });
    kinds.insert("pattern", PatternDeserializer { opening });
    if opening != Opening::AtTheStart {
        kinds.insert("file", FileAgainDeserializer { opening });
    }

    let mut config = Config::builder();
    for (name, section) in logrc.appenders {
        let wrong = |error: anyhow::Error| {
            let message = format!("{error:#}");
            at(place_within(text, &name, &message), format!("appender {name}: {message}"))
        };
        let mut appender = Appender::builder();
        for filter in section.filters {
            appender = appender.filter(kinds.deserialize::<dyn Filter>(&filter.kind, filter.config).map_err(wrong)?);
        }
        let append = kinds.deserialize::<dyn Append>(&section.kind, section.config).map_err(wrong)?;
        config = config.appender(appender.build(name, append));
    }
    if logrc.root.appenders.is_empty() {
        return Err(at(place_of(text, "root"), "root has no appender, so nothing would be logged".to_owned()));
    }
    for (name, section) in logrc.loggers {
        let logger = Logger::builder().additive(section.additive).appenders(section.appenders);
        config = config.logger(logger.build(name, section.level.filter()));
    }
    // The threshold is judged before a record gets here, since a signal can change it.
    let root = Root::builder().appenders(logrc.root.appenders).build(LevelFilter::Trace);
    let config = config.build(root).map_err(|errors| {
        let missing = errors.errors().first().map(ToString::to_string).unwrap_or_default();
        let name = missing.rsplit('`').nth(1).unwrap_or_default().to_owned();
        at(last_place_of(text, &name), missing)
    })?;
    let mut directories = std::mem::take(&mut *directories.lock().unwrap_or_else(PoisonError::into_inner));
    directories.extend(directories_of_log4rs(text));
    Ok(Read { config, level: logrc.root.level, directories })
}

/// The directories of the files that log4rs' own kinds of appenders write, as far as they are there.
fn directories_of_log4rs(text: &str) -> Vec<PathBuf> {
    #[derive(Deserialize)]
    struct Files {
        #[serde(default)]
        appenders: BTreeMap<String, FileSection>,
    }
    #[derive(Deserialize)]
    struct FileSection {
        kind: String,
        path: Option<serde_yaml::Value>,
    }
    let Ok(Files { appenders }) = serde_yaml::from_str(text) else { return Vec::new() };
    let foreign = appenders.into_values().filter(|section| section.kind != "seon_appender");
    let path = |section: FileSection| std::path::absolute(section.path?.as_str()?).ok();
    let parent = |path: PathBuf| path.parent().filter(|directory| directory.is_dir()).map(Path::to_owned);
    foreign.filter_map(path).filter_map(parent).collect()
}

/// Line and column of what a message about an appender names, or of the appender itself.
fn place_within(text: &str, name: &str, message: &str) -> (usize, usize) {
    let start = place_of(text, name);
    let named = message.split('`').nth(1).or_else(|| {
        let named = message.strip_prefix("Unknown field ").or_else(|| message.strip_prefix("Unknown variant "))?;
        named.split(['.', ' ', ',']).next()
    });
    let of_path = message.contains("cannot be opened") || message.contains("does not name a file");
    let named = if of_path { Some("path") } else { named };
    let Some(named) = named.filter(|named| !named.is_empty()) else { return start };
    let (line, column) = start;
    let indent = |line: &str| line.len() - line.trim_start().len();
    // Its own lines: those that stand further to the right.
    let own = text.lines().enumerate().skip(line);
    let mut own = own.take_while(|(_, line)| line.trim().is_empty() || indent(line) >= column);
    let found = own.find_map(|(number, line)| line.find(named).map(|at| (number + 1, at + 1)));
    found.unwrap_or(start)
}

/// Line and column where a key stands. The values below it were read without their places.
fn place_of(text: &str, key: &str) -> (usize, usize) {
    find(text.lines().enumerate(), |line| {
        let bare = line.trim_start().trim_start_matches(['"', '\'']);
        bare.strip_prefix(key).is_some_and(|rest| rest.trim_start_matches(['"', '\'']).starts_with(':'))
    })
}

/// Line and column of the last line that mentions a name.
fn last_place_of(text: &str, name: &str) -> (usize, usize) {
    let lines: Vec<_> = text.lines().enumerate().collect();
    find(lines.into_iter().rev(), |line| line.contains(name))
}

fn find<'a>(lines: impl Iterator<Item = (usize, &'a str)>, wanted: impl Fn(&str) -> bool) -> (usize, usize) {
    let mut lines = lines.filter(|(_, line)| wanted(line));
    lines.next().map_or((1, 1), |(number, line)| (number + 1, 1 + line.len() - line.trim_start().len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOUND: &str = "\
appenders:
  day:
    kind: seon_appender
    path: day.log
    encoder:
      kind: seon_layout
  terminal:
    kind: console
    target: stderr
root:
  level: fatal
  appenders: [day, terminal]
loggers:
  rustls:
    level: warn
";

    fn read_text(text: &str) -> Result<Read, LogrcError> {
        let folder = tempfile::tempdir().unwrap();
        read(
            Path::new("/opt/seon/seon.logrc"),
            text,
            folder.path(),
            &folder.path().join("seon.log"),
            Opening::AtTheStart,
        )
    }

    #[test]
    fn a_sound_file_is_taken_with_our_level_and_kinds() {
        let Read { config, level, directories } = read_text(SOUND).unwrap();
        assert_eq!(directories.len(), 1, "of seon_appender alone, which opens a file each day: {directories:?}");
        assert_eq!(level, Threshold::Fatal);
        assert_eq!((config.appenders().len(), config.loggers().len()), (2, 1));
        assert_eq!(config.root().level(), LevelFilter::Trace);
    }

    #[test]
    fn a_module_takes_the_levels_that_root_takes_and_off() {
        for (name, filter) in [
            ("fatal", LevelFilter::Off),
            ("off", LevelFilter::Off),
            ("Error", LevelFilter::Error),
            ("warn", LevelFilter::Warn),
            ("info", LevelFilter::Info),
            ("debug", LevelFilter::Debug),
            ("trace", LevelFilter::Trace),
        ] {
            let Read { config, .. } = read_text(&SOUND.replace("level: warn", &format!("level: {name}"))).unwrap();
            assert_eq!(config.loggers()[0].level(), filter, "{name}");
        }
    }

    #[test]
    fn a_look_makes_no_file_and_finds_what_could_not_be_made() {
        let folder = tempfile::tempdir().unwrap();
        let look = |text: &str| {
            let path = folder.path();
            read(Path::new("/opt/seon/seon.logrc"), text, path, &path.join("seon.log"), Opening::ToLook).map(drop)
        };
        let file = |path: &str| {
            let plain = format!("  plain:\n    kind: file\n    path: {}/{path}\n", folder.path().display());
            SOUND.replacen("  day:\n", &format!("{plain}  day:\n"), 1)
        };
        look(SOUND).unwrap();
        look(&file("new/plain.log")).unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        std::fs::write(folder.path().join("taken"), "").unwrap();
        for (text, line) in [
            (SOUND.replace("path: day.log", "path: no/day.log"), 4),
            (SOUND.replace("path: day.log", "path: taken/day.log"), 4),
            (file("taken/plain.log"), 4),
            (file(""), 4),
        ] {
            let told = look(&text).unwrap_err();
            assert!(told.line == line && told.message.contains("cannot be opened"), "{told}");
        }
    }

    #[test]
    fn the_folders_of_all_files_are_known() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log4rs.log");
        let file = format!("appenders:\n  plain:\n    kind: file\n    path: {}\n", path.display());
        let Read { directories, .. } = read_text(&SOUND.replacen("appenders:\n", &file, 1)).unwrap();
        assert_eq!(directories.len(), 2, "{directories:?}");
        assert!(directories.contains(&folder.path().to_owned()), "{directories:?}");
    }

    #[test]
    fn every_error_names_its_place() {
        let cases = [
            ("kind: seon_appender", "kind: seon_apender", 3, 11, "seon_apender"),
            ("path: day.log", "file: day.log", 4, 5, "Unknown field file"),
            ("path: day.log", "path: no/such/folder/day.log", 4, 5, "cannot be opened"),
            ("kind: seon_layout", "kind: seon_jason", 6, 13, "seon_jason"),
            ("kind: seon_layout", "kind: seon_json\n      pretty: yes", 7, 7, "pretty"),
            ("target: stderr", "target: printer", 9, 13, "printer"),
            ("path: day.log", "path: ..", 4, 5, "does not name a file"),
            ("[day, terminal]", "[day, night]", 12, 3, "night"),
            ("[day, terminal]", "[]", 10, 1, "no appender"),
            ("level: fatal", "level: verbose", 11, 3, "no log level"),
            ("appenders:\n  day", "refresh_rate: 30 seconds\nappenders:\n  day", 1, 1, "refresh_rate"),
            ("target: stderr", "target: [", 11, 0, ""),
            ("level: warn", "level: verbose", 15, 5, "no log level"),
            ("target: stderr", "encoder: { pattern: \"{zzz} {l}\" }", 9, 26, "unknown formatter `zzz`"),
            ("target: stderr", "encoder: { pattern: \"{m} {l\" }", 9, 26, "expected '"),
            ("target: stderr", "encoder: { pattern: \"{d(%Q)} {m}\" }", 9, 26, "`%Q` is no format of a time"),
        ];
        for (sound, broken, line, column, message) in cases {
            assert_eq!(SOUND.matches(sound).count(), 1, "{sound}");
            let error = read_text(&SOUND.replace(sound, broken)).unwrap_err();
            let told = error.to_string();
            assert!(told.contains(message), "{broken}: {told}");
            assert!(told.starts_with(&format!("/opt/seon/seon.logrc:{}:{}: ", error.line, error.column)), "{told}");
            if column > 0 {
                assert_eq!((error.line, error.column), (line, column), "{broken}: {told}");
            }
        }
    }
}
