//! `--check`, with the rights of the one who starts it.

use std::path::Path;

use command_line::Findings;
use nix::unistd::Uid;
use proxydaemon::check::DaemonCheck;
use proxydaemon::logging;

use crate::Test;

pub const TESTS: &[Test] =
    tests![a_state_directory_must_be_there_or_makeable, the_terminal_needs_no_folder_that_can_be_written];

fn a_state_directory_must_be_there_or_makeable() {
    let root = Uid::effective().is_root();
    let scratch = tempfile::tempdir().unwrap();
    let pid_file = scratch.path().join("x.pid");
    // What is said of it.
    let said = |state_dir: &Path| {
        let mut out = Vec::new();
        let check =
            DaemonCheck { program: "x", stem: "x", foreground: true, user: None, pid_file: Some(&pid_file), state_dir };
        check.run(&mut Findings::new(&mut out), |_, _| {});
        let out = String::from_utf8(out).unwrap();
        out.lines().find(|line| line.contains(" state directory: ")).unwrap_or_default().to_owned()
    };
    if root {
        assert_eq!(said(scratch.path()), "", "nothing is looked at as root");
        return;
    }
    let absent = scratch.path().join("lib/seon");
    let line = said(&absent);
    assert!(line.starts_with("OK ") && line.ends_with("lib/seon is not there yet; the first start makes it"), "{line}");
    assert!(!scratch.path().join("lib").exists());
    let line = said(Path::new("/nonexist/x"));
    assert!(
        line.starts_with("WRONG ") && line.contains(": /nonexist/x is not there yet, and cannot be made: /: "),
        "{line}"
    );
    assert!(line.contains(". To do: make it for user "), "{line}");
}

fn the_terminal_needs_no_folder_that_can_be_written() {
    if Uid::effective().is_root() {
        return;
    }
    let look = |foreground| logging::look("seon", Path::new("/"), foreground).map_err(|error| error.to_string());
    assert_eq!(look(true), Ok("there is no /seon.logrc; level INFO, standard error".to_owned()));
    let told = look(false).unwrap_err();
    assert!(told.contains("/seon.log cannot be written") && told.ends_with("or log to the terminal with -d"), "{told}");
}
