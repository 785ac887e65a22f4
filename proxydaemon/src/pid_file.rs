//! The PID file: one daemon of a kind in one directory.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::libc;
use nix::unistd::Pid;

use crate::descriptors;
use crate::title;
use crate::user::User;

/// What an existing file whose process is gone is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stale {
    /// The start is refused and the file named.
    Refuse,
    /// The file is taken over (`--replace-stale-pid`).
    Replace,
}

/// Why no PID file could be made.
#[derive(Debug, thiserror::Error)]
pub enum PidFileError {
    /// The process in it lives and is one of ours.
    #[error(
        "{path} names process {pid}, which is a running {program}; end that one first (kill {pid}), or wait for it if it has been told to end: \
         its sessions get their time, and a second kill ends them at once"
    )]
    Running {
        /// The file.
        path: PathBuf,
        /// The process.
        pid: Pid,
        /// Its program.
        program: String,
    },
    /// Left over from a process that is gone.
    #[error("{path} is stale: {why}. Remove the file, or start with --replace-stale-pid")]
    Stale {
        /// The file.
        path: PathBuf,
        /// Why it is stale.
        why: Leftover,
    },
    /// It can be neither read nor made.
    #[error("the PID file {path} cannot be {action}: {source}")]
    Impossible {
        /// The file.
        path: PathBuf,
        /// "created", "read" or "removed".
        action: &'static str,
        /// What the system answered.
        source: io::Error,
    },
}

/// Why a PID file is stale.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Leftover {
    /// No process has that number.
    Gone(Pid),
    /// The number now belongs to another program.
    Other {
        /// The number.
        pid: Pid,
        /// The program that has it.
        program: String,
    },
    /// The number belongs to a process of another user, who hides what it is (`hidepid`, `ProtectProc=`). A daemon in this
    /// place would be this user's, or visible.
    Foreign(Pid),
    /// There is no number in it.
    NoNumber,
}

impl fmt::Display for Leftover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gone(pid) => write!(f, "there is no process {pid}"),
            Self::Other { pid, program } => write!(f, "process {pid} is another program ({program})"),
            Self::Foreign(pid) => {
                write!(
                    f,
                    "process {pid} is another user's, and what it is cannot be seen here; it is none of this user's daemons"
                )
            }
            Self::NoNumber => f.write_str("there is no process number in it"),
        }
    }
}

/// What is in the place of a PID file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Present {
    /// Nothing.
    Free,
    /// The file of a running process of the same program.
    Running(Pid),
    /// A file left over.
    Stale(Leftover),
}

/// A PID file of this process. Removed when dropped, by the process that made it and no other.
#[derive(Debug)]
pub struct PidFile {
    path: PathBuf,
    owner: Pid,
}

impl PidFile {
    /// Makes the file with the number of this process; for a daemon in the background after [`crate::background::enter`].
    ///
    /// `program` is the name under which the process list shows this program (first word of its title). A file that names
    /// this very process (after an exec) is its own.
    ///
    /// # Errors
    /// It names a running process of the same program, it is stale (unless it shall be replaced), or it cannot be made.
    pub fn create(path: &Path, program: &str, stale: Stale) -> Result<Self, PidFileError> {
        Self::create_for(path, program, stale, None)
    }

    /// The same for a daemon that is going to be this user, who can then remove it from a sticky folder, too.
    ///
    /// # Errors
    /// As [`PidFile::create`].
    pub fn create_for(path: &Path, program: &str, stale: Stale, user: Option<&User>) -> Result<Self, PidFileError> {
        let impossible = |action| move |source| PidFileError::Impossible { path: path.to_owned(), action, source };
        // Twice at most: a second stale file in the place of the one just removed is somebody else's doing.
        for last in [false, true] {
            match write_new(path, user) {
                Ok(()) => return Ok(Self { path: path.to_owned(), owner: Pid::this() }),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(impossible("created")(error)),
            }
            let why = match judge(path, program) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue, // removed meanwhile
                Err(error) => return Err(impossible("read")(error)),
                Ok(Existing::Ours) => return Ok(Self { path: path.to_owned(), owner: Pid::this() }),
                Ok(Existing::Running(pid)) => {
                    return Err(PidFileError::Running { path: path.to_owned(), pid, program: program.to_owned() });
                }
                Ok(Existing::Stale(why)) => why,
            };
            if stale == Stale::Refuse || last {
                return Err(PidFileError::Stale { path: path.to_owned(), why });
            }
            std::fs::remove_file(path).map_err(impossible("removed"))?;
        }
        Err(impossible("created")(io::ErrorKind::AlreadyExists.into()))
    }

    /// What is at `path`, for `--check`; nothing is changed.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn look(path: &Path, program: &str) -> Result<Present, PidFileError> {
        match judge(path, program) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Present::Free),
            Err(source) => Err(PidFileError::Impossible { path: path.to_owned(), action: "read", source }),
            Ok(Existing::Ours) => Ok(Present::Running(Pid::this())),
            Ok(Existing::Running(pid)) => Ok(Present::Running(pid)),
            Ok(Existing::Stale(why)) => Ok(Present::Stale(why)),
        }
    }

    /// The file of this process, made before it executed itself anew.
    pub fn take_over(path: PathBuf) -> Self {
        Self { path, owner: Pid::this() }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Removes it now, to learn whether that worked.
    ///
    /// # Errors
    /// As `unlink`; a file that is gone already is none.
    pub fn remove(mut self) -> io::Result<()> {
        self.remove_own()
    }

    fn remove_own(&mut self) -> io::Result<()> {
        let owner = std::mem::replace(&mut self.owner, Pid::from_raw(0));
        if owner != Pid::this() || number_in(&self.path).ok().flatten() != Some(owner) {
            return Ok(()); // a child's copy, or somebody took the file over
        }
        match std::fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        let _ = self.remove_own();
    }
}

fn write_new(path: &Path, user: Option<&User>) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(0o644).custom_flags(libc::O_NOFOLLOW).open(path)?;
    let owned = user.map_or(Ok(()), |user| fchown(&file, Some(user.uid.as_raw()), Some(user.gid.as_raw())));
    // What was not written would be a stale file to the next start.
    owned.and_then(|()| file.write_all(format!("{}\n", Pid::this()).as_bytes())).inspect_err(|_| {
        let _ = std::fs::remove_file(path);
    })
}

#[derive(Debug, PartialEq, Eq)]
enum Existing {
    Ours,
    Running(Pid),
    Stale(Leftover),
}

fn judge(path: &Path, program: &str) -> io::Result<Existing> {
    let Some(pid) = number_in(path)? else {
        return Ok(Existing::Stale(Leftover::NoNumber));
    };
    if pid == Pid::this() {
        return Ok(Existing::Ours);
    }
    Ok(of_process(pid, program, nix::sys::signal::kill(pid, None), title::program_of(pid)))
}

/// What a file that names this process is, by what the system answers: whether it can be sent a signal, and what it runs.
fn of_process(pid: Pid, program: &str, signal: Result<(), Errno>, runs: io::Result<String>) -> Existing {
    match (signal, runs) {
        (Err(Errno::ESRCH), _) => Existing::Stale(Leftover::Gone(pid)),
        (_, Ok(other)) if other != program => Existing::Stale(Leftover::Other { pid, program: other }),
        // After a restart of the machine the number commonly belongs to one of the system's own.
        (Err(Errno::EPERM), Err(_)) => Existing::Stale(Leftover::Foreign(pid)),
        // Who hides its name may be one of ours: better refuse than run twice.
        _ => Existing::Running(pid),
    }
}

/// The number in the file; `None` when there is none, as in a file that a full disk left empty.
fn number_in(path: &Path) -> io::Result<Option<Pid>> {
    let mut options = OpenOptions::new();
    let file: File = options.read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path)?;
    let content = match descriptors::read_bounded(file, 64) {
        Err(error) if error.kind() == io::ErrorKind::FileTooLarge => return Ok(None),
        content => content?,
    };
    let number = std::str::from_utf8(&content).ok().and_then(|text| text.trim().parse::<i32>().ok());
    Ok(number.filter(|number| *number > 0).map(Pid::from_raw))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("seon.pid");
        (folder, path)
    }

    /// A process that has ended and was reaped.
    fn gone() -> u32 {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        child.id()
    }

    #[test]
    fn it_is_made_and_removed_again() {
        let (_folder, path) = scratch();
        let file = PidFile::create(&path, "seon", Stale::Refuse).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), format!("{}\n", std::process::id()));
        drop(file);
        assert!(!path.exists());
    }

    #[test]
    fn a_file_that_names_this_process_is_its_own() {
        let (_folder, path) = scratch();
        let before = PidFile::create(&path, "seon", Stale::Refuse).unwrap();
        std::mem::forget(before); // as an exec does
        let again = PidFile::create(&path, "seon", Stale::Refuse).unwrap();
        std::mem::forget(again);
        PidFile::take_over(path.clone()).remove().unwrap();
        assert!(!path.exists());
    }

    #[test]
    fn a_stale_one_is_named_and_replaced_on_demand() {
        let (_folder, path) = scratch();
        let gone = gone();
        std::fs::write(&path, format!("{gone}\n")).unwrap();
        let told = PidFile::create(&path, "seon", Stale::Refuse).unwrap_err().to_string();
        assert!(told.contains(&format!("there is no process {gone}")), "{told}");
        assert!(told.contains("--replace-stale-pid") && told.contains("seon.pid"), "{told}");
        let _file = PidFile::create(&path, "seon", Stale::Replace).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), format!("{}\n", std::process::id()));
    }

    #[test]
    fn nonsense_and_foreign_processes_are_stale() {
        let (_folder, path) = scratch();
        for content in ["", "no number", "-1", "0", "99999999999999", &"1".repeat(100)] {
            std::fs::write(&path, content).unwrap();
            let error = PidFile::create(&path, "seon", Stale::Refuse).unwrap_err();
            assert!(matches!(error, PidFileError::Stale { why: Leftover::NoNumber, .. }), "{content:?}: {error}");
        }
        std::fs::write(&path, std::os::unix::process::parent_id().to_string()).unwrap();
        let error = PidFile::create(&path, "seon", Stale::Refuse).unwrap_err();
        assert!(matches!(error, PidFileError::Stale { why: Leftover::Other { .. }, .. }), "{error}");
    }

    #[test]
    fn a_process_that_is_hidden_is_none_of_ours_where_it_is_another_users() {
        let pid = Pid::from_raw(93);
        let hidden = || Err(io::Error::from(io::ErrorKind::NotFound));
        let cases = [
            (Ok(()), Ok("seon"), Existing::Running(pid)),
            (Err(Errno::EPERM), Ok("seon"), Existing::Running(pid)),
            (Ok(()), hidden(), Existing::Running(pid)),
            (Err(Errno::EPERM), hidden(), Existing::Stale(Leftover::Foreign(pid))),
            (Err(Errno::ESRCH), hidden(), Existing::Stale(Leftover::Gone(pid))),
            (Err(Errno::EPERM), Ok("sshd"), Existing::Stale(Leftover::Other { pid, program: "sshd".to_owned() })),
        ];
        for (signal, runs, expected) in cases {
            assert_eq!(of_process(pid, "seon", signal, runs.map(str::to_owned)), expected, "{signal:?}");
        }
    }

    #[test]
    fn a_running_one_stops_the_start_even_when_stale_ones_are_replaced() {
        let (_folder, path) = scratch();
        let parent = std::os::unix::process::parent_id();
        let program = title::program_of(Pid::from_raw(i32::try_from(parent).unwrap())).unwrap();
        std::fs::write(&path, parent.to_string()).unwrap();
        let told = PidFile::create(&path, &program, Stale::Replace).unwrap_err().to_string();
        assert!(told.contains(&parent.to_string()) && told.contains(&program), "{told}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), parent.to_string());
    }

    #[test]
    fn a_file_taken_over_by_another_stays() {
        let (_folder, path) = scratch();
        let file = PidFile::create(&path, "seon", Stale::Refuse).unwrap();
        std::fs::write(&path, "1\n").unwrap();
        drop(file);
        assert!(path.exists());
    }

    #[test]
    fn an_impossible_place_is_named() {
        let path = Path::new("/proc/no-such-place/seon.pid");
        let told = PidFile::create(path, "seon", Stale::Refuse).unwrap_err().to_string();
        assert!(told.contains("/proc/no-such-place/seon.pid cannot be created"), "{told}");
    }
}
