//! A gate that is out of processes or descriptors refuses what is new, tells it, and goes on when it may again.

use std::fs;
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::process::Command;

use tests::harness::{Chain, Process, Trouble};

use crate::running::{finishes, hold, serves};

/// Sets a soft limit of a daemon's gate, as the user whom it runs as.
fn limit(daemon: &Process, what: &str, soft: &str) -> Result<(), Trouble> {
    let mut command = Command::new("prlimit");
    let (user, group) = (id(daemon, "Uid:"), id(daemon, "Gid:"));
    if nix::unistd::Uid::effective().is_root() {
        command.uid(user).gid(group);
    }
    command.args(["--pid", &daemon.pid().to_string(), &format!("--{what}={soft}:")]);
    Process::run("prlimit", &mut command).map(drop)
}

/// The first number behind a word in the status of the gate.
fn id(daemon: &Process, word: &str) -> u32 {
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(word)).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

/// The gate's limit is `low`; a caller is not served and it is told; one session goes on; later new ones come in.
fn refuses_only_what_is_new(what: &str, low: impl Fn(&Process) -> usize, words: &str) -> Result<(), Trouble> {
    let chain = Chain::start()?;
    let held = hold(&chain, "IN-FLIGHT")?;
    let mark = chain.server().mark();
    limit(chain.server(), what, &low(chain.server()).to_string())?;
    let refused = TcpStream::connect(chain.partner_address()).unwrap();
    let told = |line: &str| line.contains(" limit-reached ") && line.contains(words);
    chain.server().wait_after(mark, words, told)?;
    drop(refused);
    finishes(&chain, held, "IN-FLIGHT")?;
    limit(chain.server(), what, "1024")?;
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
