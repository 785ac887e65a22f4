//! The log: log4rs in the gate alone; children send their records to it over one shared socket.
//!
//! All processes log with the macros of [`log`] (and [`fatal!`](crate::fatal)), with two keys that become columns:
//! `log::info!(code = "link-up", session = id; "client {name}")`, and with those of [`Field`]. Other keys are not written.
//!
//! A `.logrc` names appenders and layouts by their kinds: `seon_appender` (module `appender`), `seon_layout` (`layout`),
//! `seon_json` (`seon_json`), `seon_eve` (`eve`), `seon_alerts` (`alerts_only`), and those of log4rs itself: `console`,
//! `file`, `pattern`, `threshold`.

mod advice;
mod alerts_only;
mod appender;
mod child;
mod eve;
mod field;
mod gate;
mod json;
mod layout;
mod logrc;
pub mod loss;
mod order;
mod pattern;
mod quota;
mod record;
mod seon_json;

use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Once, PoisonError, RwLock};

pub use advice::set_advice;
pub use child::{ChildLog, LogSocket};
pub use eve::{Alert, set_alerts};
pub use field::{Field, Fields, set_fields};
pub use gate::{Begun, GateLog, LogError, binary_directory, look, tell_dropped};
pub use log;
use log::{Level, LevelFilter, Log, Metadata, Record};
pub use order::{LevelOrder, change_level};
pub use record::{ChildRecord, FromChild, MAX_PAYLOAD};

/// The target that ranks a record of level Error as FATAL; `log` has no such level.
pub const FATAL: &str = "FATAL";

/// Logs at level FATAL: what ends the process. Takes what the macros of [`log`] take.
#[macro_export]
macro_rules! fatal {
    ($($arguments:tt)+) => {
        $crate::logging::log::error!(target: $crate::logging::FATAL, $($arguments)+)
    };
}

/// The level of a line, and the least level that is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
#[repr(u8)]
pub enum Threshold {
    /// Each step; for the developers.
    Trace,
    /// What helps to find an error.
    Debug,
    /// What an administrator wants to know.
    Info,
    /// What may become an error. No signal sets it; a `.logrc` may.
    Warn,
    /// What failed.
    Error,
    /// What ends the process.
    Fatal,
}

impl Threshold {
    const ALL: [Self; 6] = [Self::Trace, Self::Debug, Self::Info, Self::Warn, Self::Error, Self::Fatal];

    /// The level that one of the signals 20 to 24 chooses.
    pub fn from_signal(number: i32) -> Option<Self> {
        match number {
            20 => Some(Self::Trace),
            21 => Some(Self::Debug),
            22 => Some(Self::Info),
            23 => Some(Self::Error),
            24 => Some(Self::Fatal),
            _ => None,
        }
    }

    /// The signal that chooses this level; none for WARN.
    pub fn signal(self) -> Option<i32> {
        (20..=24).find(|number| Self::from_signal(*number) == Some(self))
    }

    /// Its name as in the log, in capitals.
    pub fn name(self) -> &'static str {
        match self {
            Self::Trace => "TRACE",
            Self::Debug => "DEBUG",
            Self::Info => "INFO",
            Self::Warn => "WARN",
            Self::Error => "ERROR",
            Self::Fatal => "FATAL",
        }
    }

    /// The level of a record of [`log`].
    fn of(metadata: &Metadata<'_>) -> Self {
        match metadata.level() {
            Level::Error if metadata.target() == FATAL => Self::Fatal,
            Level::Error => Self::Error,
            Level::Warn => Self::Warn,
            Level::Info => Self::Info,
            Level::Debug => Self::Debug,
            Level::Trace => Self::Trace,
        }
    }

    /// The level in terms of [`log`].
    fn as_level(self) -> Level {
        match self {
            Self::Trace => Level::Trace,
            Self::Debug => Level::Debug,
            Self::Info => Level::Info,
            Self::Warn => Level::Warn,
            Self::Error | Self::Fatal => Level::Error,
        }
    }
}

impl fmt::Display for Threshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The name of no level.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is no log level; levels are trace, debug, info, warn, error and fatal")]
pub struct UnknownLevel(String);

impl FromStr for Threshold {
    type Err = UnknownLevel;

    fn from_str(name: &str) -> Result<Self, UnknownLevel> {
        let found = Self::ALL.into_iter().find(|level| level.name().eq_ignore_ascii_case(name));
        found.ok_or_else(|| UnknownLevel(name.to_owned()))
    }
}

impl TryFrom<String> for Threshold {
    type Error = UnknownLevel;

    fn try_from(name: String) -> Result<Self, UnknownLevel> {
        name.parse()
    }
}

impl From<Threshold> for String {
    fn from(level: Threshold) -> Self {
        level.name().to_ascii_lowercase()
    }
}

static THRESHOLD: AtomicU8 = AtomicU8::new(Threshold::Info as u8);

/// Sets the least level this process logs. Children forked later start with it.
pub fn set_level(threshold: Threshold) {
    THRESHOLD.store(threshold as u8, Ordering::Relaxed);
    log::set_max_level(match threshold {
        Threshold::Trace => LevelFilter::Trace,
        Threshold::Debug => LevelFilter::Debug,
        Threshold::Info => LevelFilter::Info,
        Threshold::Warn => LevelFilter::Warn,
        Threshold::Error | Threshold::Fatal => LevelFilter::Error,
    });
}

/// The least level this process logs.
pub fn level() -> Threshold {
    let number = THRESHOLD.load(Ordering::Relaxed);
    Threshold::ALL.into_iter().find(|level| *level as u8 == number).unwrap_or(Threshold::Info)
}

static SESSION: RwLock<String> = RwLock::new(String::new());

/// Sets the session id of all records of this process that name no other: for a session process.
pub fn set_session(id: &str) {
    id.clone_into(&mut SESSION.write().unwrap_or_else(PoisonError::into_inner));
}

/// Tells the gate of records that were dropped last, when no later record will. At the end of a child.
pub(crate) fn tell_lost() {
    if let Sink::Child(child) = &*SINK.read().unwrap_or_else(PoisonError::into_inner) {
        child.tell_lost();
    }
}

/// Libraries whose inner life is no concern of an administrator's log, whatever the threshold, and might carry what must
/// not be in one; with the least level that is let through.
const LIBRARIES: [(&str, Threshold); 9] = [
    ("rustls", Threshold::Debug),
    ("tokio_rustls", Threshold::Debug),
    ("reqwest", Threshold::Warn),
    ("hyper", Threshold::Warn),
    ("hyper_util", Threshold::Warn),
    ("tower", Threshold::Warn),
    ("tokio", Threshold::Warn),
    ("mio", Threshold::Warn),
    // Tells an error with each connection that fails, of which the caller tells once what it was and what to do.
    ("rustls_platform_verifier", Threshold::Fatal),
];

/// Where the records of this process go. A fork inherits the gate's and replaces it, which [`log`] alone cannot do.
enum Sink {
    Nowhere,
    Gate(gate::GateSink),
    Child(std::sync::Arc<child::ChildSink>),
}

static SINK: RwLock<Sink> = RwLock::new(Sink::Nowhere);

/// In a new child: nothing is logged until it has a log of its own. The descriptors of the parent's log will be closed,
/// and their numbers may come back as a connection to a peer.
pub(crate) fn leave_to_parent() {
    order::leave_to_parent();
    replace(Sink::Nowhere);
}

fn replace(sink: Sink) {
    let old = std::mem::replace(&mut *SINK.write().unwrap_or_else(PoisonError::into_inner), sink);
    // In a child the old one is the parent's: its destructors must not run here.
    std::mem::forget(old);
}

fn install(sink: Sink) {
    static ONCE: Once = Once::new();
    replace(sink);
    ONCE.call_once(|| {
        // Fails only when a program brought its own logger, which none of ours does.
        let _ = log::set_logger(&Dispatch);
        // Without the backtrace that the usual hook may print: to read the symbols it opens files, for which a confined
        // session would be killed.
        std::panic::set_hook(Box::new(|panic| fatal!(code = "internal-fault"; "{panic}")));
    });
    set_level(level());
}

struct Dispatch;

impl Log for Dispatch {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let library = metadata.target().split("::").next().unwrap_or_default();
        let least = LIBRARIES.iter().find(|(name, _)| *name == library).map_or(Threshold::Trace, |(_, least)| *least);
        Threshold::of(metadata) >= level().max(least)
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        match &*SINK.read().unwrap_or_else(PoisonError::into_inner) {
            Sink::Nowhere => {}
            Sink::Gate(gate) => gate.log(record),
            Sink::Child(child) => child.log(record),
        }
    }

    fn flush(&self) {}
}

/// What a record says under `key`.
fn value_of(record: &Record<'_>, key: &str) -> Option<String> {
    let value = record.key_values().get(log::kv::Key::from(key))?;
    Some(value.to_string()).filter(|text| !text.is_empty())
}

/// The session a record belongs to: its own, or that of the process.
fn session_of(record: &Record<'_>) -> Option<String> {
    value_of(record, "session").or_else(|| {
        let session = SESSION.read().unwrap_or_else(PoisonError::into_inner);
        Some(session.clone()).filter(|id| !id.is_empty())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_and_levels_name_each_other() {
        for number in 20..=24 {
            assert_eq!(Threshold::from_signal(number).unwrap().signal(), Some(number));
        }
        assert_eq!(Threshold::from_signal(19), None);
        assert_eq!(Threshold::from_signal(25), None);
        assert_eq!(Threshold::Warn.signal(), None);
    }

    #[test]
    fn levels_are_read_in_any_case_and_nothing_else_is() {
        assert_eq!("fatal".parse::<Threshold>().unwrap(), Threshold::Fatal);
        assert_eq!("Info".parse::<Threshold>().unwrap(), Threshold::Info);
        assert!("verbose".parse::<Threshold>().unwrap_err().to_string().contains("trace, debug, info"));
    }

    #[test]
    fn fatal_ranks_above_error() {
        let of = |target| Threshold::of(&Metadata::builder().level(Level::Error).target(target).build());
        assert_eq!(of(FATAL), Threshold::Fatal);
        assert_eq!(of("proxyserver::gate"), Threshold::Error);
        assert!(Threshold::Fatal > Threshold::Error && Threshold::Debug > Threshold::Trace);
    }

    #[test]
    fn libraries_do_not_flood_the_log() {
        let enabled = |target, level| Dispatch.enabled(&Metadata::builder().level(level).target(target).build());
        assert!(!enabled("hyper::proto::h1", Level::Info));
        assert!(enabled("hyper::proto::h1", Level::Warn));
        assert!(enabled("hyperspace", Level::Info));
    }
}
