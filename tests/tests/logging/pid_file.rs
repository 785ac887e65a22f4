//! The PID file: one daemon of a kind beside each program.

use std::fs;
use std::path::Path;
use std::process::Command;

use tests::harness::{Plan, Trouble};

use crate::daemon::{Daemon, run};

fn said(output: &std::process::Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A process that has ended and was waited for.
fn gone() -> u32 {
    let mut child = Command::new("true").spawn().unwrap();
    child.wait().unwrap();
    child.id()
}

#[test]
fn a_running_daemon_is_named_a_stale_file_too_and_replaced_on_demand() -> Result<(), Trouble> {
    let chain = Plan::new().prepare()?;
    for command in [chain.server_command()?, chain.client_command()?] {
        let program = Path::new(command.get_program());
        let name = program.file_name().unwrap().to_str().unwrap();
        let file = program.with_extension("pid");
        let with = |option: &str| {
            let mut more = Command::new(program);
            more.args(command.get_args()).arg(option);
            more
        };

        let (daemon, _) = Daemon::start(&command);
        for again in [run(&command), run(&with("--replace-stale-pid"))] {
            let text = said(&again);
            let running = format!("{} names process {}, which is a running {name}", file.display(), daemon.pid);
            assert_eq!(again.status.code(), Some(6), "{text}");
            assert!(text.contains(&running), "{text}");
            assert!(daemon.is_there());
        }
        daemon.end();
        assert!(!file.exists(), "the end removes it");

        let gone = gone();
        let stale = |content: String, why: &str| {
            fs::write(&file, content).unwrap();
            let refused = run(&command);
            let text = said(&refused);
            assert_eq!(refused.status.code(), Some(7), "{text}");
            let stale = format!("{} is stale: {why}", file.display());
            assert!(text.contains(&stale) && text.contains("--replace-stale-pid"), "{text}");
        };
        stale(std::process::id().to_string(), &format!("process {} is another program", std::process::id()));
        stale(gone.to_string(), &format!("there is no process {gone}"));
        let (daemon, _) = Daemon::start(&with("--replace-stale-pid"));
        assert_eq!(fs::read_to_string(&file).unwrap(), format!("{}\n", daemon.pid));
    }
    Ok(())
}
