//! A gate that is out of processes, descriptors or memory refuses what is new, tells it, and goes on when it may again.

use std::fs;
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::process::Command;

use tests::harness::{Chain, Process, Trouble};
use tests::station::OutgoingFile;

use crate::running::{count, finishes, hold, serves};

/// Sets a soft limit of a daemon's gate, as the user whom it runs as.
fn limit(daemon: &Process, what: &str, soft: &str) -> Result<(), Trouble> {
    limit_of(daemon.pid(), what, soft)
}

/// The same of any process.
pub fn limit_of(pid: i32, what: &str, soft: &str) -> Result<(), Trouble> {
    let mut command = Command::new("prlimit");
    let (user, group) = (id(pid, "Uid:"), id(pid, "Gid:"));
    if nix::unistd::Uid::effective().is_root() {
        command.uid(user).gid(group);
    }
    command.args([
        "--pid",
        &pid.to_string(),
        &format!("--{what}={}", if soft.contains(':') { soft.to_owned() } else { format!("{soft}:") }),
    ]);
    Process::run("prlimit", &mut command).map(drop)
}

/// The first number behind a word in the status of a process.
fn id(pid: i32, word: &str) -> u32 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(word)).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

/// A soft limit of a daemon's gate as it is.
fn soft_limit(daemon: &Process, what: &str) -> String {
    let name = if what == "nproc" { "Max processes" } else { "Max open files" };
    let limits = fs::read_to_string(format!("/proc/{}/limits", daemon.pid())).unwrap();
    let line = limits.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.split_whitespace().next().unwrap().to_owned()
}

/// The gate's limit is `low`; a caller is not served and it is told; one session goes on; later new ones come in.
fn refuses_only_what_is_new(what: &str, low: impl Fn(&Process) -> usize, words: &str) -> Result<(), Trouble> {
    let chain = Chain::start()?;
    let held = hold(&chain, "IN-FLIGHT")?;
    let mark = chain.server().mark();
    let before = soft_limit(chain.server(), what);
    limit(chain.server(), what, &low(chain.server()).to_string())?;
    let refused = TcpStream::connect(chain.partner_address()).unwrap();
    let told = |line: &str| line.contains(" limit-reached ") && line.contains(words);
    chain.server().wait_after(mark, words, told)?;
    drop(refused);
    finishes(&chain, held, "IN-FLIGHT")?;
    limit(chain.server(), what, &before)?;
    serves(&chain, "NEXT");
    Ok(())
}

#[test]
fn a_gate_without_processes_refuses_the_new_session_only() -> Result<(), Trouble> {
    // The user has more than one already.
    refuses_only_what_is_new("nproc", |_| 1, "no process or descriptor")
}

#[test]
fn a_gate_without_descriptors_refuses_the_new_session_only() -> Result<(), Trouble> {
    let open = |gate: &Process| fs::read_dir(format!("/proc/{}/fd", gate.pid())).unwrap().count();
    refuses_only_what_is_new("nofile", open, "Too many open files")
}

/// Less than a session needs, and hard, so that nobody widens it again: its process ends before it has read
/// anything, and that is told.
#[test]
fn a_gate_without_memory_for_sessions_refuses_the_new_session_only() -> Result<(), Trouble> {
    for (of_server, told) in [(true, "its process could not begin"), (false, "cannot be confined")] {
        let chain = Chain::start()?;
        let held = hold(&chain, "IN-FLIGHT")?;
        let daemon = if of_server { chain.server() } else { chain.client() };
        let mark = daemon.mark();
        let bytes = (u64::from(id(daemon.pid(), "VmData:")) + 4096) * 1024;
        limit(daemon, "data", &format!("{bytes}:{bytes}"))?;
        let report = chain.send(vec![OutgoingFile::from_octets("NEVER", *b"words")]);
        assert!(report.failure.is_some(), "{report:?}");
        let line = daemon.wait_after(mark, told, |line| line.contains(told))?;
        println!("{line}");
        finishes(&chain, held, "IN-FLIGHT")?;
        assert_eq!(count(daemon, "role-died"), 0);
        assert_eq!(count(daemon, "session-crashed"), 0);
    }
    Ok(())
}
