//! The start of a whole daemon as its starter's terminal sees it, with everything beside the binary.

use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use nix::libc;
use nix::poll::PollFlags;
use nix::unistd::Uid;
use proxydaemon::Pid;
use proxydaemon::descriptors::wait_ready;
use proxydaemon::exit::ExitCode;
use proxydaemon::launch::Launch;
use proxydaemon::pid_file::Stale;
use proxydaemon::signals::{Signal, Signals};
use proxydaemon::title;

use crate::Test;
use crate::family::{next_signal, soon};

pub const TESTS: &[Test] = tests![
    a_daemon_runs_once_in_a_directory,
    a_stale_pid_file_stops_the_start_until_it_shall_be_replaced,
    a_broken_logrc_stops_the_start,
    root_without_a_user_is_refused,
];

const PROGRAM: &str = "seon_test2";
/// `-u`, if set.
const USER: &str = "PROXYDAEMON_TEST_USER";
/// `--replace-stale-pid`, if set.
const REPLACE: &str = "PROXYDAEMON_TEST_REPLACE";

/// A daemon: starts as ours do, logs a line, and ends at TERM.
pub fn daemon() {
    title::prepare().unwrap();
    let signals = Signals::block().unwrap();
    let user = std::env::var(USER).ok();
    let stale = if std::env::var_os(REPLACE).is_some() { Stale::Replace } else { Stale::Refuse };
    let user = user.as_deref();
    let launch =
        Launch { program: PROGRAM, stem: "seon_test", foreground: false, user, pid_file: None, stale, keep: &[] };
    let launched = match launch.enter(signals).and_then(|entered| entered.settle()) {
        Ok(launched) => launched,
        Err(not) => {
            eprint!("{}", not.text);
            std::process::exit(not.code.number());
        }
    };
    log::info!(code = "server-started"; "uid {}", Uid::effective());
    launched.starter.ready();
    while next_signal(&signals.descriptor().unwrap()).signal != Signal::Terminate {}
    launched.pid_file.remove().unwrap();
}

/// A directory with a binary in it.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::copy(std::env::current_exe().unwrap(), folder.path().join(PROGRAM)).unwrap();
        if Uid::effective().is_root() {
            // As the set-up page has it.
            chown(folder.path(), Some(0), Some(65534)).unwrap();
            std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o1770)).unwrap();
        }
        Self(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The command that starts the daemon, as nobody when root starts it.
    fn command(&self) -> Command {
        let mut command = Command::new(self.path(PROGRAM));
        command
            .env(crate::TEST, "launching::daemon")
            .env_remove(crate::AS_NOBODY)
            .current_dir("/")
            .stdin(Stdio::null());
        if Uid::effective().is_root() {
            command.env(USER, "nobody");
        }
        command
    }

    fn pid(&self) -> Pid {
        let number = std::fs::read_to_string(self.path("seon_test2.pid")).unwrap();
        Pid::from_raw(number.trim().parse().unwrap())
    }

    /// Ends the daemon and waits until it is gone.
    fn end(&self) {
        let pid = self.pid();
        // SAFETY: passes integers only.
        let number = unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) };
        // SAFETY: opened just now, if at all (-1 is refused by poll), and nobody else owns it.
        let process = unsafe { OwnedFd::from_raw_fd(i32::try_from(number).unwrap()) };
        proxydaemon::signals::order_terminate(pid).unwrap();
        assert!(wait_ready(&process, PollFlags::POLLIN, Some(soon())).unwrap());
        assert!(!self.path("seon_test2.pid").exists(), "it may remove what root has made for it");
    }
}

fn code_and_text(output: Output) -> (Option<i32>, String) {
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

fn a_daemon_runs_once_in_a_directory() {
    let place = Place::new();
    let (code, text) = code_and_text(place.command().output().unwrap());
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("there is no") && text.contains("seon_test.logrc"), "{text}");
    let pid = place.pid();
    assert_eq!(title::program_of(pid).unwrap(), PROGRAM);
    assert_eq!(std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap(), "gate\n");

    let (code, text) = code_and_text(place.command().output().unwrap());
    assert_eq!(code, Some(ExitCode::AlreadyRunning.number()), "{text}");
    assert!(text.contains(&pid.to_string()) && text.contains(PROGRAM), "{text}");
    assert_eq!(place.pid(), pid);

    place.end();
    assert!(!place.path("seon_test2.pid").exists());
    let user = if Uid::effective().is_root() { 65534 } else { Uid::effective().as_raw() };
    let mut logs = Vec::new();
    for entry in std::fs::read_dir(place.0.path()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "log") {
            assert_eq!(path.metadata().unwrap().uid(), user);
            logs.push(std::fs::read_to_string(path).unwrap());
        }
    }
    assert!(logs.concat().ends_with(&format!("gate[{pid}] - server-started uid {user}\n")), "{logs:?}");
}

fn a_stale_pid_file_stops_the_start_until_it_shall_be_replaced() {
    let place = Place::new();
    let mut gone = Command::new("true").spawn().unwrap();
    gone.wait().unwrap();
    std::fs::write(place.path("seon_test2.pid"), gone.id().to_string()).unwrap();
    let (code, text) = code_and_text(place.command().output().unwrap());
    assert_eq!(code, Some(ExitCode::PidFile.number()), "{text}");
    assert!(text.contains("stale") && text.contains("--replace-stale-pid"), "{text}");
    let (code, text) = code_and_text(place.command().env(REPLACE, "1").output().unwrap());
    assert_eq!(code, Some(0), "{text}");
    assert_ne!(place.pid().to_string(), gone.id().to_string());
    place.end();
}

fn a_broken_logrc_stops_the_start() {
    let place = Place::new();
    std::fs::write(place.path("seon_test.logrc"), "root:\n  level: loud\n  appenders: [a]\n").unwrap();
    let (code, text) = code_and_text(place.command().output().unwrap());
    assert_eq!(code, Some(ExitCode::Configuration.number()), "{text}");
    assert!(text.contains("seon_test.logrc:2:3: ") && text.contains("loud"), "{text}");
    assert!(!place.path("seon_test2.pid").exists());
}

fn root_without_a_user_is_refused() {
    let place = Place::new();
    let (code, text) = code_and_text(place.command().env_remove(USER).output().unwrap());
    if Uid::effective().is_root() {
        assert_eq!(code, Some(ExitCode::Privileges.number()), "{text}");
        assert!(text.contains("started as root") && text.contains("-u USER"), "{text}");
        assert!(!place.path("seon_test2.pid").exists());
    } else {
        assert_eq!(code, Some(0), "{text}");
        place.end();
    }
}
