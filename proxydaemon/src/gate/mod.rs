//! What the gates of both daemons do alike: end their sessions step by step, restart a role that died, keep messages for a
//! role that cannot take them, wait, confine themselves.
//!
//! Decisions here are made from times that the caller gives, and are therefore tested without waiting.

mod backlog;
mod crashes;
mod ending;
mod generation;
mod overdue;
mod peak;
mod ports;
mod reaper;
mod restart;
mod waiting;

use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use crate::confine::{ConfineError, RoleNeeds, confine_role};
use crate::descriptors::Directory;
use crate::large_pages::Copies;
use crate::logging::GateLog;
use crate::pid_file::PidFile;
use crate::{heap, large_pages, memory};

pub use backlog::{Backlog, Keep, Put};
pub use crashes::Crashes;
pub use ending::{EndingPlan, Step};
pub use generation::{Generation, Renewal};
pub use overdue::Overdue;
pub use peak::Peak;
pub use ports::{Ports, Unavailable, lacks_family};
pub use reaper::Reaper;
pub use restart::RoleRestart;
pub use waiting::{Wanted, wait};

/// Messages of one role that are heard before anything else, signals above all, gets its turn.
pub const HEARD_AT_ONCE: usize = 64;
/// Messages of one role that are heard when nothing may be left unheard, as when it has ended: more than a socket holds.
pub const ALL_THAT_WAIT: usize = 16_384;
/// Log records that are written before anything else gets its turn.
pub const LOGGED_AT_ONCE: usize = 256;
/// More than a program takes to begin.
const LONGEST_EXECUTION: Duration = Duration::from_secs(30);

/// Prepares a gate for many children that live for a moment: their memory, and where the code of all of them lies. Before the first
/// of them; what cannot be is told, and each of them costs more for it. `earlier`: the copies of the code of
/// the gate that has executed itself anew. Returns those that are in use, for the next one.
#[must_use]
pub fn prepare_for_children(earlier: Option<Copies>) -> Copies {
    heap::for_short_lives();
    memory::reserve_for_children();
    // What cannot be is told at the daemon's start.
    let level = if earlier.is_some() { log::Level::Debug } else { log::Level::Info };
    let mut copies = earlier.unwrap_or_default();
    match large_pages::use_for_the_program(&mut copies) {
        Ok(()) => log::debug!("code and constants lie in {} MiB of large pages", copies.octets() >> 20),
        Err(error) => log::log!(
            level,
            "code and constants do not all lie in large pages; all works, at more CPU for each session: {error}"
        ),
    }
    copies
}

/// The moment at which the gate before this one ended, when that was `executed` by the clock on the wall. Times that were left then
/// count from it. Now, if that clock says something else than a moment ago.
pub fn ended_at(executed: SystemTime) -> Instant {
    let (now, took) = (Instant::now(), executed.elapsed().unwrap_or_default());
    if took > LONGEST_EXECUTION { now } else { now.checked_sub(took).unwrap_or(now) }
}

/// Confines a gate before it forks the first child: it writes beneath the directories of its log files, its PID file and
/// `further`, and nowhere else. `already`: it was confined before it executed itself.
///
/// # Errors
/// A directory cannot be opened, or a step failed.
pub fn confine(log: &GateLog, pid_file: &PidFile, further: &[&Path], already: bool) -> Result<(), ConfineError> {
    if already {
        return confine_role(&RoleNeeds::of_gate(&[]), true);
    }
    let own = pid_file.path().parent();
    let paths = log.directories().iter().map(AsRef::as_ref).chain(own).chain(further.iter().copied());
    let directories: std::io::Result<Vec<_>> = paths.map(Directory::open).collect();
    let directories = directories.map_err(|source| ConfineError::Step { step: "directories", source })?;
    let write: Vec<_> = directories.iter().map(std::os::fd::AsFd::as_fd).collect();
    confine_role(&RoleNeeds::of_gate(&write), already)
}
