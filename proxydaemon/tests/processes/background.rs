//! Into the background, and what the starter's terminal sees.

use std::io::Write;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use nix::unistd::{getpgid, getsid};
use proxydaemon::Pid;
use proxydaemon::background::{Starter, enter};
use proxydaemon::exit::ExitCode;
use proxydaemon::pid_file::{PidFile, Stale};
use proxydaemon::signals::Signals;

use crate::Test;

pub const TESTS: &[Test] = tests![
    a_ready_daemon_lets_the_starter_end_well,
    a_failure_reaches_the_terminal_and_the_exit_code,
    a_daemon_that_dies_is_told,
    a_failure_in_the_foreground_reaches_the_terminal,
];

/// How the daemon below shall behave.
const BEHAVE: &str = "PROXYDAEMON_TEST_BEHAVE";
/// Where it tells what it is.
const FOLDER: &str = "PROXYDAEMON_TEST_FOLDER";

/// A daemon: goes into the background, makes its PID file, tells what it is, and behaves as told.
pub fn daemon() {
    let folder = PathBuf::from(std::env::var_os(FOLDER).unwrap());
    let behave = std::env::var(BEHAVE).unwrap();
    let signals = Signals::block().unwrap();
    let kept = std::fs::File::create(folder.join("kept")).unwrap();
    let starter = if behave == "foreground" { Starter::foreground() } else { enter(signals, &[kept.as_fd()]).unwrap() };
    let pid_file = PidFile::create(&folder.join("pid"), "test", Stale::Refuse).unwrap();
    let null = (0..=2).all(|fd| std::fs::read_link(format!("/proc/self/fd/{fd}")).unwrap() == Path::new("/dev/null"));
    let own = Pid::this();
    let facts = [
        std::env::current_dir().unwrap() == Path::new("/"),
        null,
        getsid(None) != Ok(own) && getpgid(None) != Ok(own),
        std::fs::File::open("/dev/tty").is_err(),
    ];
    std::fs::write(folder.join("facts"), format!("{facts:?}")).unwrap();
    (&kept).write_all(b"kept").unwrap();
    let open = std::fs::read_dir("/proc/self/fd").unwrap();
    let open = open.filter_map(|fd| std::fs::read_link(fd.unwrap().path()).ok()).filter(|file| file.ends_with("lock"));
    std::fs::write(folder.join("locks"), open.count().to_string()).unwrap();
    match behave.as_str() {
        "ready" => {
            starter.note("a note for the administrator");
            starter.ready();
        }
        "fail" | "foreground" => {
            starter.failed("no licence: do this", ExitCode::Licence);
            drop(pid_file);
            std::process::exit(ExitCode::Licence.number());
        }
        _ => std::process::abort(),
    }
}

fn start(behave: &str) -> (Output, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let mut command = crate::program("background::daemon");
    command.env(BEHAVE, behave).env(FOLDER, folder.path()).current_dir(folder.path()).stdin(Stdio::null());
    // As of a script that sees to it that it runs once: a descriptor that is inherited.
    let lock = std::fs::File::create(folder.path().join("lock")).unwrap();
    nix::fcntl::fcntl(&lock, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty())).unwrap();
    // Ends only when nobody holds the pipes any more: the daemon must have let them go.
    (command.output().unwrap(), folder)
}

fn facts(folder: &tempfile::TempDir) -> String {
    std::fs::read_to_string(folder.path().join("facts")).unwrap()
}

fn a_ready_daemon_lets_the_starter_end_well() {
    let (output, folder) = start("ready");
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "a note for the administrator\n");
    assert!(output.stdout.is_empty());
    assert_eq!(facts(&folder), "[true, true, true, true]");
    assert_eq!(std::fs::read_to_string(folder.path().join("locks")).unwrap(), "0", "of the starter's own files");
    assert_eq!(std::fs::read_to_string(folder.path().join("kept")).unwrap(), "kept");
}

fn a_failure_reaches_the_terminal_and_the_exit_code() {
    let (output, _folder) = start("fail");
    assert_eq!(output.status.code(), Some(ExitCode::Licence.number()));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "no licence: do this\n");
}

fn a_daemon_that_dies_is_told() {
    let (output, _folder) = start("die");
    assert_eq!(output.status.code(), Some(ExitCode::Internal.number()));
    assert!(String::from_utf8_lossy(&output.stderr).contains("ended before it was ready"), "{output:?}");
}

fn a_failure_in_the_foreground_reaches_the_terminal() {
    let (output, folder) = start("foreground");
    assert_eq!(output.status.code(), Some(ExitCode::Licence.number()));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "no licence: do this\n");
    assert!(facts(&folder).starts_with("[false, false, "), "{}", facts(&folder));
    assert_eq!(std::fs::read_to_string(folder.path().join("locks")).unwrap(), "1", "which a child has otherwise");
    assert!(!folder.path().join("pid").exists());
}
