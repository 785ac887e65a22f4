//! What `--check` looks at on both daemons alike: user, PID file, log, state directory. It makes no file, and
//! leaves a running daemon alone.

use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use command_line::Findings;
use command_line::exit::ExitCode;
use nix::unistd::{AccessFlags, Pid, Uid, access};

use crate::logging::{self, binary_directory};
use crate::pid_file::{PidFile, Present};
use crate::state_directory;
use crate::user::{self, User};

/// The daemon whose start is looked at.
#[derive(Debug)]
pub struct DaemonCheck<'a> {
    /// Name of the program, as the process list shows it.
    pub program: &'static str,
    /// Name of its `.logrc`, without the ending.
    pub stem: &'static str,
    /// `-d`.
    pub foreground: bool,
    /// `-u`.
    pub user: Option<&'a str>,
    /// PID file; by default `PROGRAM.pid` beside the program.
    pub pid_file: Option<&'a Path>,
    /// The state directory.
    pub state_dir: &'a Path,
}

impl DaemonCheck<'_> {
    /// Looks at all of it. `as_started` is called with the rights that a start would have for its ports, and with the PID
    /// of the daemon that runs already; then this process becomes the user that the daemon would run as, for good.
    ///
    /// False when nothing further can be looked at, as it would be done as root; that has been told.
    pub fn run<W: Write>(
        &self,
        findings: &mut Findings<W>,
        as_started: impl FnOnce(&mut Findings<W>, Option<Pid>),
    ) -> bool {
        let user = match user::for_start(self.user) {
            Ok(user) => user,
            Err(error) => {
                findings.wrong(ExitCode::Privileges, "user", error, "start it with -u and a user without privileges");
                findings.skip("all the rest", "it would be done as root");
                return false;
            }
        };
        let directory = match binary_directory() {
            Ok(directory) => directory,
            Err(error) => {
                findings.wrong(ExitCode::Failure, "program", error, "mount /proc");
                return false;
            }
        };
        let running = self.pid_file(findings, &directory);
        as_started(findings, running);
        // With the rights of the start: it is made, and given to the user, before that one's rights are all that is left.
        let may_be_made = state_directory::may_be_made(self.state_dir);
        if let Some(user) = &user
            && let Err(error) = user.become_user()
        {
            findings.wrong(ExitCode::Privileges, "user", error, "see whether root may change its user here");
            return false;
        }
        findings
            .ok("user", user.as_ref().map_or_else(|| format!("user {}", Uid::effective()), |user| user.name.clone()));
        log(findings, self.stem, &directory, self.foreground);
        self.state_directory(findings, user.as_ref(), may_be_made);
        true
    }

    /// The daemon that runs already.
    fn pid_file<W: Write>(&self, findings: &mut Findings<W>, directory: &Path) -> Option<Pid> {
        const SUBJECT: &str = "PID file";
        let path = match self.pid_file {
            Some(path) => std::env::current_dir().unwrap_or_default().join(path),
            None => directory.join(format!("{}.pid", self.program)),
        };
        let shown = path.display();
        match PidFile::look(&path, self.program) {
            Ok(Present::Running(pid)) => {
                findings.ok(SUBJECT, format_args!("{shown}: the daemon runs as process {pid}"));
                return Some(pid);
            }
            Ok(Present::Stale(why)) => {
                let to_do = "remove the file, or start with --replace-stale-pid";
                findings.wrong(ExitCode::PidFile, SUBJECT, format_args!("{shown} is stale: {why}"), to_do);
            }
            Ok(Present::Free) => match writable(&parent(&path)) {
                Ok(()) => findings.ok(SUBJECT, format_args!("{shown}: no daemon runs, and it can be made")),
                Err(error) => {
                    let seen = format!("{shown} cannot be made: {error}");
                    findings.wrong(ExitCode::PidFile, SUBJECT, seen, "name another place with --pid-file");
                }
            },
            Err(error) => {
                findings.wrong(ExitCode::PidFile, SUBJECT, error, "remove what is there, or name another --pid-file");
            }
        }
        None
    }

    fn state_directory<W: Write>(&self, findings: &mut Findings<W>, user: Option<&User>, may_be_made: io::Result<()>) {
        const SUBJECT: &str = "state directory";
        let (shown, owner) = (self.state_dir.display(), user.map_or_else(Uid::effective, |user| user.uid));
        match std::fs::metadata(self.state_dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => match may_be_made {
                Ok(()) => findings.ok(SUBJECT, format_args!("{shown} is not there yet; the first start makes it")),
                Err(error) => {
                    let seen = format!("{shown} is not there yet, and cannot be made: {error}");
                    let to_do = format!("make it for user {owner} alone, or name another one with --state-dir");
                    findings.wrong(ExitCode::Identity, SUBJECT, seen, to_do);
                }
            },
            Err(error) => {
                let to_do = "give the user of the daemon access to it, or name another one with --state-dir";
                findings.wrong(ExitCode::Identity, SUBJECT, format_args!("{shown}: {error}"), to_do);
            }
            Ok(found) if found.uid() != owner.as_raw() => {
                let seen = format!("{shown} belongs to user {}, and the daemon runs as user {owner}", found.uid());
                findings.wrong(ExitCode::Identity, SUBJECT, seen, format_args!("chown {owner} {shown}"));
            }
            Ok(_) => match writable(self.state_dir) {
                Ok(()) => findings.ok(SUBJECT, format_args!("{shown} can be written")),
                Err(error) => {
                    let to_do = format!("chmod u+rwx {shown}, and see that its file system is not read-only");
                    findings.wrong(ExitCode::Identity, SUBJECT, format_args!("{shown}: {error}"), to_do);
                }
            },
        }
    }
}

fn log<W: Write>(findings: &mut Findings<W>, stem: &str, directory: &Path, foreground: bool) {
    match logging::look(stem, directory, foreground) {
        Ok(seen) => findings.ok("log", seen),
        Err(error) => {
            let to_do = "correct the file at the place that is named, or give the daemon's user the right to it";
            findings.wrong(ExitCode::Configuration, "log", error, to_do);
        }
    }
}

/// Whether this process may make files in the directory.
fn writable(directory: &Path) -> io::Result<()> {
    Ok(access(directory, AccessFlags::W_OK | AccessFlags::X_OK)?)
}

fn parent(path: &Path) -> PathBuf {
    path.parent().unwrap_or(Path::new("/")).to_owned()
}
