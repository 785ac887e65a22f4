//! Giving up what a process does not need, before it reads the first octet from the network.
//!
//! [`confine_session`] leaves a session nothing but the descriptors it holds. [`confine_role`] is milder, for a process
//! with a runtime, name resolution or children. What the kernel does not have is passed over, and [`kernel_lacks`] says so
//! once at start.

mod bounds;
mod filter;
mod landlock;

use std::io;
use std::os::fd::BorrowedFd;

use nix::libc;
use nix::sys::resource::{Resource, setrlimit};

pub use bounds::Bounds;
pub use filter::FilterError;
pub use landlock::{Ports, SYSTEM_FILES};

use crate::checked;
use crate::descriptors;
use crate::memory;
use crate::user::{User, UserError};

/// Why a process is not confined. It must not go on then.
#[derive(Debug, thiserror::Error)]
pub enum ConfineError {
    /// One step failed.
    #[error("cannot be confined: {step}: {source}")]
    Step {
        /// Which one.
        step: &'static str,
        /// What the kernel answered.
        source: io::Error,
    },
    /// The user could not be changed.
    #[error(transparent)]
    User(#[from] UserError),
    /// Landlock refused the rules.
    #[error("cannot be confined: landlock: {0}")]
    Landlock(#[from] ::landlock::RulesetError),
    /// The system call filter was refused.
    #[error(transparent)]
    Filter(#[from] FilterError),
}

fn step(step: &'static str) -> impl FnOnce(io::Error) -> ConfineError {
    move |source| ConfineError::Step { step, source }
}

/// What a session keeps, and how much more it may take.
#[derive(Debug)]
pub struct SessionNeeds<'a> {
    /// The descriptors it works with, beside the log. All others are closed; 0 to 2 become `/dev/null`.
    pub keep: &'a [BorrowedFd<'a>],
    /// Its log, the one socket that it shares with other processes: it may write there, and not shut it down.
    pub log: BorrowedFd<'a>,
    /// The user to become, when the gate still is root.
    pub user: Option<&'a User>,
    /// Prepared by the gate.
    pub bounds: &'a Bounds,
    /// Octets of memory it may take beyond what the gate has.
    pub memory: u64,
}

/// Descriptors a session may have open at once, those it starts with included.
const SESSION_DESCRIPTORS: u64 = 32;

/// Confines a session, step by step; the order matters. Afterwards there are no files, no new sockets, no other process.
///
/// # Errors
/// A step failed; the session must end without having read anything.
pub fn confine_session(needs: &SessionNeeds<'_>) -> Result<(), ConfineError> {
    let Bounds { filter, rules, null, gate } = needs.bounds;
    descriptors::put_on_standard(null).map_err(step("standard descriptors"))?;
    let inherited = gate.data().map_err(step("memory"))?;
    if let Some(user) = needs.user {
        user.become_user()?;
    }
    no_new_privileges().map_err(step("no new privileges"))?;
    not_dumpable().map_err(step("not dumpable"))?; // after the user: a change of user decides it anew
    limit(Resource::RLIMIT_CORE, 0).map_err(step("no core dump"))?;
    limit(Resource::RLIMIT_FSIZE, 0).map_err(step("no files"))?;
    limit(Resource::RLIMIT_NPROC, 0).map_err(step("no processes"))?; // does not bind root, whom the filter binds
    limit(Resource::RLIMIT_NOFILE, SESSION_DESCRIPTORS).map_err(step("few descriptors"))?;
    // Unlike RLIMIT_AS it does not count the snapshot, which is mapped for reading.
    // What is reserved for it is no room beyond that.
    let most = inherited.saturating_sub(memory::reserve::left()).saturating_add(needs.memory);
    limit(Resource::RLIMIT_DATA, most).map_err(step("memory"))?;
    memory::stay_small();
    if let Some(rules) = rules {
        landlock::enforce(rules).map_err(step("landlock"))?;
    }
    // What the gate prepared was needed until here.
    descriptors::close_all_but(&[needs.keep, &[needs.log]].concat()).map_err(step("descriptors"))?;
    Ok(filter.install(needs.log)?)
}

/// What a role with a runtime, or the gate, goes on needing.
#[derive(Debug)]
pub struct RoleNeeds<'a> {
    /// It is the gate: forks, executes itself anew, signals its children, and sets the bounds that its children cannot
    /// widen. All other roles do none of it.
    pub gate: bool,
    /// Directories (and files) beneath which it reads, beside [`SYSTEM_FILES`]. The gate reads everywhere, as its
    /// children need it.
    pub read: &'a [BorrowedFd<'a>],
    /// Directories beneath which it reads, writes, makes and removes files.
    pub write: &'a [BorrowedFd<'a>],
    /// TCP ports it connects to. Not for the gate, whose sessions connect where their role says.
    pub connect: Ports<'a>,
}

/// Confines a role, milder than a session: it keeps its descriptors, sockets, threads and the files it names.
///
/// For the gate before it forks the first child, and once only: an exec keeps it (`already`), and sixteen times is the
/// most the kernel takes.
///
/// # Errors
/// A step failed.
pub fn confine_role(needs: &RoleNeeds<'_>, already: bool) -> Result<(), ConfineError> {
    no_new_privileges().map_err(step("no new privileges"))?;
    not_dumpable().map_err(step("not dumpable"))?;
    limit(Resource::RLIMIT_CORE, 0).map_err(step("no core dump"))?;
    if already {
        return Ok(());
    }
    landlock::role(needs)?;
    Ok(filter::install_for_role(needs.gate)?)
}

fn no_new_privileges() -> io::Result<()> {
    // SAFETY: passes integers only.
    checked(i64::from(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) })).map(drop)
}

/// Nobody but root reads this process's memory, and it leaves no core dump.
fn not_dumpable() -> io::Result<()> {
    // SAFETY: passes integers only.
    checked(i64::from(unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) })).map(drop)
}

fn limit(resource: Resource, most: u64) -> io::Result<()> {
    Ok(setrlimit(resource, most, most)?)
}

/// What this kernel cannot do for the confinement, in one sentence for the log at start; `None` when it has everything.
pub fn kernel_lacks() -> Option<String> {
    let lacking: Vec<&str> = [filter::lacks(), landlock::lacks()].into_iter().flatten().collect();
    if lacking.is_empty() {
        return None;
    }
    Some(format!("this kernel does not confine the processes as far as it could: {}", lacking.join("; ")))
}

impl<'a> RoleNeeds<'a> {
    /// The needs of a gate: beneath `write` its log, its PID file and whatever its children write.
    pub fn of_gate(write: &'a [BorrowedFd<'a>]) -> Self {
        Self { gate: true, read: &[], write, connect: Ports::Any }
    }
}
