//! There is nothing to steal: memory, command line, environment and log of every process while sessions run.

use std::ffi::OsString;
use std::process::Command;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tests::harness::{Chain, Mark, PATIENCE, Plan, Process, Trouble, until};

use crate::memory::{Memory, contains};
use crate::running::{family, finishes, hold, of_role, wait_for_sessions};
use crate::secrets::{self, PASSWORD, Secret, USER};

/// A chain whose client got token and URL on its command line, the URL with user and password.
fn start() -> Result<Chain, Trouble> {
    let mut chain = Plan::new().prepare()?;
    chain.start_server()?;
    let token = std::fs::read_to_string(chain.scratch.path().join("token")).unwrap();
    let usual = chain.client_command()?;
    let arguments = usual.get_args().map(|argument| match argument.to_string_lossy() {
        url if url.starts_with("https://") => {
            url.replacen("https://", &format!("https://{USER}:{PASSWORD}@"), 1).into()
        }
        file if file.starts_with('@') => token.trim().into(),
        _ => OsString::from(argument),
    });
    chain.client = Some(Process::start("proxyclient", Command::new(usual.get_program()).args(arguments))?);
    chain.wait_until_open(Mark::default())?;
    Ok(chain)
}

/// Those of `secrets` that a process has in its memory; none when nobody may look.
fn found(pid: i32, secrets: &[Secret]) -> Option<Vec<String>> {
    match Memory::of(pid) {
        Ok(memory) => {
            assert!(memory.size() > 0, "nothing of process {pid} could be read");
            Some(secrets.iter().filter(|one| memory.holds(&one.octets)).map(|one| one.name.clone()).collect())
        }
        Err(error) => {
            println!("skipped: the memory of process {pid} may not be read here: {error}");
            None
        }
    }
}

#[test]
fn no_process_in_the_dmz_holds_a_private_key_or_the_token_in_its_memory() -> Result<(), Trouble> {
    let chain = start()?;
    let held = [hold(&chain, "ONE")?, hold(&chain, "TWO")?];
    for daemon in [chain.server(), chain.client()] {
        wait_for_sessions(daemon, 2);
    }
    let of_inside = [secrets::identity(&chain), secrets::token(&chain), secrets::password()].concat();
    let of_link = secrets::link(&chain);
    let all = [of_inside.clone(), of_link.clone()].concat();
    let (switchboard, agent) = (of_role(chain.server(), "switchboard"), of_role(chain.client(), "agent"));
    let mut wrong = Vec::new();
    for daemon in [chain.server(), chain.client()] {
        for entry in family(daemon) {
            // What a role works with is there, or this search would find nothing anywhere.
            let (forbidden, own) = if switchboard.contains(&entry) {
                (&of_inside, of_link.as_slice())
            } else if agent.contains(&entry) {
                (&of_link, of_inside.as_slice())
            } else {
                (&all, [].as_slice())
            };
            let (Some(leaks), Some(works_with)) = (found(entry.pid, forbidden), found(entry.pid, own)) else {
                return Ok(());
            };
            assert_eq!(own.is_empty(), works_with.is_empty(), "{entry:?}: {works_with:?}");
            wrong.extend(leaks.into_iter().map(|leak| format!("{}[{}]: {leak}", entry.name, entry.pid)));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    for (session, dataset) in held.into_iter().zip(["ONE", "TWO"]) {
        finishes(&chain, session, dataset)?;
    }
    Ok(())
}

#[test]
fn nothing_secret_stands_in_command_lines_and_environments_and_nothing_would_be_in_a_core() -> Result<(), Trouble> {
    let chain = start()?;
    let held = hold(&chain, "ONE")?;
    let all = [secrets::identity(&chain), secrets::token(&chain), secrets::password(), secrets::link(&chain)].concat();
    for daemon in [chain.server(), chain.client()] {
        wait_for_sessions(daemon, 1);
        for entry in family(daemon) {
            for file in ["cmdline", "environ"] {
                let octets = std::fs::read(format!("/proc/{}/{file}", entry.pid)).unwrap();
                for secret in &all {
                    assert!(!contains(&octets, &secret.octets), "{} in {file} of {entry:?}", secret.name);
                }
            }
            let limits = std::fs::read_to_string(format!("/proc/{}/limits", entry.pid)).unwrap();
            let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
            let sizes: Vec<&str> = core.split_whitespace().skip(4).take(2).collect();
            assert_eq!(sizes, ["0", "0"], "{entry:?} may leave a core: {core}");
        }
    }
    finishes(&chain, held, "ONE")
}

#[test]
fn nothing_secret_stands_in_the_logs_at_trace() -> Result<(), Trouble> {
    let chain = start()?;
    let mut told = Vec::new();
    for daemon in [chain.server(), chain.client()] {
        told.push(daemon.mark());
        for entry in family(daemon) {
            // Signal 20: TRACE. Children that come later inherit the level of their gate.
            kill(Pid::from_raw(entry.pid), Signal::SIGTSTP).unwrap();
        }
    }
    for (daemon, mark) in [chain.server(), chain.client()].into_iter().zip(told) {
        daemon.wait_after(mark, "the new level", |line| line.contains("TRACE"))?;
    }
    finishes(&chain, hold(&chain, "TRACED")?, "TRACED")?;
    let texts: Vec<Secret> =
        [secrets::identity(&chain), secrets::token(&chain), secrets::password(), secrets::link(&chain)].concat();
    for daemon in [chain.server(), chain.client()] {
        let deep = until(PATIENCE, || daemon.lines().iter().any(|line| line.contains(" TRACE ")).then_some(()));
        assert!(deep.is_some(), "nothing was told at TRACE:\n{}", daemon.last_lines(20));
        let log = daemon.lines().join("\n").to_lowercase();
        for secret in &texts {
            let hex: String = secret.octets.iter().map(|octet| format!("{octet:02x}")).collect();
            let list = format!("{:?}", secret.octets);
            let list = list.trim_matches(['[', ']']).to_owned();
            let plain = String::from_utf8(secret.octets.clone()).ok().map(|text| text.to_lowercase());
            for form in [Some(hex), Some(list), plain].into_iter().flatten() {
                assert!(!contains(log.as_bytes(), form.as_bytes()), "{} stands in the log", secret.name);
            }
        }
    }
    Ok(())
}
