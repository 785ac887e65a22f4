//! The command line of `seon_proxyclient2`, as the administrator knows it.

use std::process::{Command, Output};

fn run(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_seon_proxyclient2"));
    command.env_remove("CREDENTIALS_DIRECTORY").args(arguments).output().unwrap()
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn without_options_it_prints_its_help() {
    let answer = run(&[]);
    let help = out(&answer) + &err(&answer);
    let (known, beyond) = help.split_once("Beyond the original:").expect("a heading of its own");
    for option in ["-U, --url", "-S, --server <HOST[:PORT]>", "-T, --token", "-v, --version", "-d, --foreground"] {
        assert!(known.contains(option), "{option} in {known}");
    }
    for option in ["-u, --user <USER>", "--ca-file <FILE>", "--state-dir <DIR>", "--print-client-line"] {
        assert!(beyond.contains(option), "{option} in {beyond}");
    }
}

#[test]
fn the_version_is_told_with_name_and_build_date() {
    let version = out(&run(&["-v"]));
    assert!(version.starts_with("seon_proxyclient2, built 20"), "{version}");
    assert!(version.trim_end().ends_with(env!("CARGO_PKG_VERSION")), "{version}");
}

#[test]
fn the_client_line_comes_from_the_token_wherever_that_stands() {
    let token = license::SecurityToken::new_random().unwrap();
    let expected = license::client_line(&license::LinkKey::derive(&token), None);
    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join("token");
    std::fs::write(&file, format!("{}\n", token.reveal())).unwrap();
    let in_file = format!("@{}", file.display());
    for given in [token.reveal(), in_file.as_str()] {
        let answer = run(&["--print-client-line", "-T", given]);
        assert_eq!(out(&answer).trim(), expected, "{}", err(&answer));
    }
    // As the service manager hands it over.
    let answer = Command::new(env!("CARGO_BIN_EXE_seon_proxyclient2"))
        .arg("--print-client-line")
        .env("CREDENTIALS_DIRECTORY", scratch.path())
        .output()
        .unwrap();
    assert_eq!(out(&answer).trim(), expected, "{}", err(&answer));
}

#[test]
fn a_weak_or_mistyped_token_is_refused_and_not_repeated() {
    let token = license::SecurityToken::new_random().unwrap();
    let mut mistyped = token.reveal().to_owned();
    let last = mistyped.pop().unwrap();
    mistyped.push(if last == 'a' { 'b' } else { 'a' });
    for wrong in ["secret", mistyped.as_str()] {
        let answer = run(&["--print-client-line", "-T", wrong]);
        assert_eq!(answer.status.code(), Some(2), "{}", err(&answer));
        assert!(!err(&answer).contains(wrong), "{}", err(&answer));
    }
}

#[test]
fn what_is_missing_is_named() {
    let token = license::SecurityToken::new_random().unwrap();
    let answer = run(&["-d", "-S", "127.0.0.1:1", "-T", token.reveal()]);
    assert_eq!(answer.status.code(), Some(2));
    assert!(err(&answer).contains("-U"), "{}", err(&answer));
    let answer = run(&["-d", "-U", "https://127.0.0.1/", "-T", token.reveal()]);
    assert!(err(&answer).contains("-S"), "{}", err(&answer));
    let answer = run(&["-d", "-S", "dmz:x", "-U", "https://127.0.0.1/", "-T", token.reveal()]);
    assert!(err(&answer).contains("HOST[:PORT]"), "{}", err(&answer));
}
