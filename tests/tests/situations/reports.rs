//! Reports that the disk or the backend does not take.

use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::unistd::{Uid, User};
use tests::harness::scripted_backend::Answer;
use tests::harness::{Mark, PATIENCE, Plan, Process, Trouble, made_octets, table};
use tests::station::OutgoingFile;

#[test]
fn a_spool_that_cannot_be_written_is_told_and_nothing_else_suffers() -> Result<(), Trouble> {
    let mut chain = Plan::new().prepare()?;
    chain.start_server()?;
    // Without its signal, a limit on the size of files is like a disk that is full.
    let client = chain.client_command()?;
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""]).arg(client.get_program()).args(client.get_args());
    chain.client = Some(Process::start("proxyclient", &mut command)?);
    chain.wait_until_open(Mark::default())?;
    let agent = table::below(chain.client().pid()).into_iter().find(|entry| entry.name.starts_with("agent"));
    let agent = agent.expect("the agent runs").pid.to_string();
    let mut limit = Command::new("prlimit");
    if let Some(nobody) = User::from_name("nobody").unwrap().filter(|_| Uid::effective().is_root()) {
        limit.uid(nobody.uid.as_raw()).gid(nobody.gid.as_raw());
    }
    Process::run("prlimit", limit.args(["--fsize=0:", "--pid", &agent]))?;
    let report = chain.send(vec![OutgoingFile::from_octets("A", made_octets(1000))]);
    assert!(report.failure.is_none(), "{report:?}");
    chain.client_says("spool-unwritable")?;
    chain.scripted_backend().wait_for_record("the record", PATIENCE, |_| true)?;
    let report = chain.send(vec![OutgoingFile::from_octets("B", made_octets(1000))]);
    assert!(report.failure.is_none(), "{report:?}");
    Ok(())
}

#[test]
fn a_report_that_the_backend_refuses_for_ever_is_told() -> Result<(), Trouble> {
    let mut chain = Plan::new().prepare()?;
    chain
        .scripted_backend()
        .set_script(|request| (request.path == "/proxy/v1/events").then(|| Answer::problem(400, "no such severity")));
    chain.start_server()?;
    chain.start_client()?;
    let line = chain.client_says("report-refused")?;
    assert!(line.contains("no such severity"), "{line}");
    Ok(())
}
