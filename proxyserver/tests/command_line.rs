//! The command line of `seon_proxyserver2`, as the administrator knows it.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_seon_proxyserver2")).args(arguments).output().unwrap()
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn help_shows_the_options_of_the_original_and_sets_the_others_apart() {
    let help = out(&run(&["-h"]));
    let (known, beyond) = help.split_once("Beyond the original:").expect("a heading of its own");
    for option in
        ["-v, --version", "-i, --listen <[IP]:PORT>", "-L, --proxy-id", "-l, --licence <FILE>", "-V, --validity"]
    {
        assert!(known.contains(option), "{option} in {known}");
    }
    for option in ["-d, --foreground", "-u, --user <USER>", "--state-dir <DIR>", "--pid-file <FILE>"] {
        assert!(beyond.contains(option), "{option} in {beyond}");
    }
    assert!(known.contains("2878") && known.contains("/etc/seon_proxy.lic"), "the defaults: {known}");
}

#[test]
fn the_version_is_told_with_name_and_build_date() {
    let version = out(&run(&["-v"]));
    assert!(version.starts_with("seon_proxyserver2, built 20"), "{version}");
    assert!(version.trim_end().ends_with(env!("CARGO_PKG_VERSION")), "{version}");
}

#[test]
fn the_proxy_id_comes_with_a_key_that_only_its_owner_reads_and_stays() {
    let scratch = tempfile::tempdir().unwrap();
    let arguments = ["-L", "--state-dir", text(scratch.path())];
    let first = run(&arguments);
    assert!(first.status.success(), "{}", err(&first));
    let id = out(&first).trim().to_owned();
    assert_eq!((id.len(), id.ends_with("px")), (66, true), "{id}");
    assert_eq!(out(&run(&arguments)).trim(), id);
    let keys: Vec<_> = std::fs::read_dir(scratch.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(keys.len(), 1);
    assert_eq!(std::fs::metadata(&keys[0]).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn without_a_licence_it_says_so_with_the_proxy_id_and_ends_with_its_code() {
    let scratch = tempfile::tempdir().unwrap();
    let state = text(scratch.path());
    let id = out(&run(&["-L", "--state-dir", state])).trim().to_owned();
    let missing = scratch.path().join("none.lic");
    let answer = run(&["-V", "-l", text(&missing), "--state-dir", state]);
    assert_eq!(answer.status.code(), Some(4), "{}", err(&answer));
    assert!(err(&answer).contains(&id) && err(&answer).contains("none.lic"), "{}", err(&answer));
}

#[test]
fn a_wrong_command_line_is_told_with_what_was_expected() {
    for (arguments, expected) in [
        (vec!["-i", "2878"], "[IP]:PORT"),
        (vec!["-i", "127.0.0.1:70000"], "no port"),
        (vec!["--unknown"], "--unknown"),
        (vec!["-l"], "FILE"),
    ] {
        let answer = run(&arguments);
        assert_eq!(answer.status.code(), Some(2), "{arguments:?}");
        assert!(err(&answer).contains(expected), "{arguments:?}: {}", err(&answer));
    }
}

#[test]
fn root_without_a_user_to_become_is_refused() {
    if !nix::unistd::Uid::effective().is_root() {
        return; // an ordinary user cannot show this
    }
    let scratch = tempfile::tempdir().unwrap();
    let answer = run(&["-d", "-i", "127.0.0.1:0", "--state-dir", text(scratch.path())]);
    assert_eq!(answer.status.code(), Some(9), "{}", err(&answer));
    assert!(err(&answer).contains("-u"), "{}", err(&answer));
}
