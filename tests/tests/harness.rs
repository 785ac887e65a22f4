//! The harness itself: what the scenarios rely on.

use std::process::Command;

use tests::harness::scripted_backend::Answer;
use tests::harness::{PATIENCE, Process, Scratch, ScriptedBackend, free_port, table};
use tests::pki::{Authority, Wanted};

fn shell(script: &str) -> Process {
    Process::start("sh", Command::new("sh").args(["-c", script])).unwrap()
}

#[test]
fn lines_of_both_outputs_are_waited_for_and_an_early_end_is_told() {
    let process = shell("echo one; echo two >&2; read never; exit 3");
    process.wait_for_text("one").unwrap();
    process.wait_for_text("two").unwrap();
    let trouble = process.wait_for_text("three").unwrap_err();
    assert!(trouble.0.contains("exit status: 3") && trouble.0.contains("  two"), "{trouble}");
}

#[test]
fn a_mark_leaves_out_what_was_said_before() {
    let process = shell("echo one; exec sleep 100");
    process.wait_for_text("one").unwrap();
    let mark = process.mark();
    assert_eq!(process.lines().len(), 1);
    drop(process);
    let process = shell("echo one; echo two");
    process.wait_for_text("two").unwrap();
    assert!(process.wait_after(mark, "one", |line| line == "one").is_err());
}

#[test]
fn a_dropped_process_leaves_nothing_behind_even_if_it_will_not_go() {
    let process = shell("trap '' TERM; sleep 1000 & echo started; while :; do sleep 1000; done");
    process.wait_for_text("started").unwrap();
    let pid = process.pid();
    let family = table::below(pid);
    assert!(family.iter().any(|entry| entry.name == "sleep" && entry.command_line == "sleep 1000"), "{family:?}");
    drop(process);
    assert!(table::Entry::of(pid).is_none());
    assert!(family.iter().all(|entry| !entry.still_there()), "{family:?}");
}

#[test]
fn ports_are_handed_out_once() {
    let mut ports: Vec<u16> = (0..100).map(|_| free_port().unwrap()).collect();
    ports.sort_unstable();
    ports.dedup();
    assert_eq!(ports.len(), 100);
}

#[test]
fn a_scratch_directory_goes_with_all_that_is_in_it() {
    let scratch = Scratch::new().unwrap();
    let directory = scratch.directory("one/two").unwrap();
    let file = scratch.write("one/file", "content").unwrap();
    assert!(directory.is_dir() && file.is_file());
    let path = scratch.path().to_owned();
    drop(scratch);
    assert!(!path.exists());
}

/// With curl where there is one: a client that was not written here.
#[test]
fn the_scripted_backend_speaks_http_over_tls() {
    if Command::new("curl").arg("--version").output().is_err() {
        return;
    }
    let scratch = Scratch::new().unwrap();
    let authority = Authority::new("Authority of the Backend").unwrap();
    let ca = scratch.write("ca.pem", authority.certificate_pem()).unwrap();
    let wanted = Wanted { name: "Backend", hosts: &["127.0.0.1"], ..Wanted::default() };
    let backend = ScriptedBackend::start(authority.issue(&wanted).unwrap(), "seon_token").unwrap();
    backend.set_config(serde_json::json!({ "version": 1 }));
    let curl = |arguments: &[&str]| {
        let mut command = Command::new("curl");
        command.args(["--silent", "--show-error", "--include", "--cacert"]).arg(&ca).args(arguments);
        Process::run("curl", command.arg(format!("{}/proxy/v1/config", backend.url()))).unwrap()
    };
    let answer = curl(&["-H", "X-Seon-Token: seon_token"]);
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with(r#"{"version":1}"#), "{answer}");
    let etag = answer.lines().find_map(|line| line.strip_prefix("ETag: ")).unwrap().trim().to_owned();
    let answer = curl(&["-H", "X-Seon-Token: seon_token", "-H", &format!("If-None-Match: {etag}")]);
    assert!(answer.starts_with("HTTP/1.1 304"), "{answer}");
    assert!(curl(&[]).starts_with("HTTP/1.1 401"));
    backend.set_script(|_| Some(Answer::problem(503, "later")));
    assert!(curl(&["-H", "X-Seon-Token: seon_token"]).starts_with("HTTP/1.1 503"));
    let seen = backend
        .wait_for("the configuration with its tag", PATIENCE, |request| request.header("if-none-match") == Some(&etag));
    assert_eq!(seen.unwrap().method, "GET");
    assert_eq!(backend.requests().len(), 4);
}
