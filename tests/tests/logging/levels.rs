//! Log levels of single processes.

use std::process::Command;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tests::harness::{Chain, Held, LogLine, Mark, Process, Trouble, made_octets, table};
use tests::station::OutgoingFile;

fn file(name: &str) -> OutgoingFile {
    OutgoingFile::from_octets(name, made_octets(500_000))
}

/// The lines of a daemon's log with that level and role.
fn lines(daemon: &Process, level: &str, role: &str) -> Vec<LogLine> {
    let all = daemon.lines();
    let lines = all.iter().filter_map(|line| LogLine::read(line));
    lines.filter(|line| line.level == level && line.role == role).collect()
}

fn role(daemon: &Process, name: &str) -> table::Entry {
    let below = table::below(daemon.pid());
    below.into_iter().find(|entry| entry.name.starts_with(name)).expect("it runs")
}

/// What `PROGRAM --log-level …` says, and whether it went well.
fn log_level(program: &Command, arguments: &[&str]) -> (bool, String) {
    let output = Command::new(program.get_program()).arg("--log-level").args(arguments).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).trim().to_owned())
}

#[test]
fn a_session_starts_with_the_level_of_its_gate_and_the_others_keep_theirs() -> Result<(), Trouble> {
    let chain = Chain::start()?;
    let gate = Pid::from_raw(chain.server().pid());
    kill(gate, Signal::try_from(21).unwrap()).unwrap();
    let told = chain.server_says("log-level-changed")?;
    let told = LogLine::read(&told).expect("a line of the log");
    assert_eq!((told.level.as_str(), told.pid), ("DEBUG", gate.as_raw()), "{told:?}");
    assert!(told.message.contains(&std::process::id().to_string()), "by whom: {told:?}");
    assert!(chain.send(vec![file("ONE")]).went_well(true));
    chain.server_says("session-ended")?;
    assert!(!lines(chain.server(), "DEBUG", "session").is_empty(), "{}", chain.server().last_lines(20));
    assert!(lines(chain.server(), "DEBUG", "switchboard").is_empty());
    assert!(lines(chain.client(), "DEBUG", "session").is_empty());

    kill(gate, Signal::try_from(24).unwrap()).unwrap();
    let fatal = chain.server().wait_for("FATAL", |line| line.contains("the log level is FATAL now"))?;
    assert_eq!(LogLine::read(&fatal).expect("a line of the log").level, "FATAL");
    Ok(())
}

#[test]
fn the_signals_of_the_original_change_the_level_of_any_single_process() -> Result<(), Trouble> {
    let chain = Chain::start()?;
    let held = Held::start(&chain.partner_address(), &chain.security(), &chain.settings(), file("HELD"), 100_000)?;
    for (daemon, roles) in
        [(chain.server(), ["gate", "switchboard", "session"]), (chain.client(), ["gate", "agent", "session"])]
    {
        for name in roles {
            let pid = if name == "gate" { daemon.pid() } else { role(daemon, name).pid };
            for (number, level) in [(20, "TRACE"), (21, "DEBUG"), (23, "ERROR"), (24, "FATAL"), (22, "INFO")] {
                kill(Pid::from_raw(pid), Signal::try_from(number).unwrap()).unwrap();
                let (process, text) = (format!("{name}[{pid}]"), format!("the log level is {level} now"));
                let told = daemon.wait_for(&text, |line| line.contains(&process) && line.contains(&text))?;
                let told = LogLine::read(&told).expect("a line of the log");
                assert_eq!((told.level.as_str(), told.code.as_deref()), (level, Some("log-level-changed")));
            }
        }
    }
    assert!(held.go_on()?.went_well(true), "the session did not suffer");
    Ok(())
}

#[test]
fn a_level_can_be_lent_to_any_single_process_and_goes_back_by_itself() -> Result<(), Trouble> {
    let chain = Chain::start()?;
    let held = Held::start(&chain.partner_address(), &chain.security(), &chain.settings(), file("HELD"), 100_000)?;
    for (daemon, command, roles) in [
        (chain.server(), chain.server_command()?, ["gate", "switchboard", "session"]),
        (chain.client(), chain.client_command()?, ["gate", "agent", "session"]),
    ] {
        for name in roles {
            let pid = if name == "gate" { daemon.pid() } else { role(daemon, name).pid };
            let (well, said) = log_level(&command, &[&pid.to_string(), "DEBUG", "--for", "1s"]);
            assert!(well && said.contains(&pid.to_string()), "{said}");
            let process = format!("{name}[{pid}]");
            let lent =
                daemon.wait_for("lent", |line| line.contains(&process) && line.contains("DEBUG now, for 1 s"))?;
            assert_eq!(LogLine::read(&lent).expect("a line of the log").level, "DEBUG");
            let back = |line: &str| line.contains(&process) && line.contains("the log level is INFO again");
            let back = daemon.wait_after(Mark::default(), "INFO again", back)?;
            assert_eq!(LogLine::read(&back).expect("a line of the log").level, "INFO");
        }
    }
    assert!(held.go_on()?.went_well(true), "the session did not suffer");
    Ok(())
}

#[test]
fn a_level_stays_without_a_time_and_each_level_is_taken() -> Result<(), Trouble> {
    let chain = Chain::start()?;
    let (command, pid) = (chain.client_command()?, chain.client().pid().to_string());
    for level in ["trace", "Debug", "ERROR", "fatal", "warn", "info"] {
        let (well, said) = log_level(&command, &[&pid, level]);
        assert!(well, "{said}");
        let level = level.to_uppercase();
        let told = chain.client().wait_for_text(&format!("the log level is {level} now,"))?;
        assert_eq!(LogLine::read(&told).expect("a line of the log").level, level, "{told}");
    }
    Ok(())
}

#[test]
fn another_program_is_refused_by_name_and_not_harmed() -> Result<(), Trouble> {
    let chain = Chain::start()?;
    let (server, client) = (chain.server_command()?, chain.client_command()?);
    for (command, foreign, ours, theirs) in [
        (&server, chain.client(), "seon_proxyserver2", "seon_proxyclient2"),
        (&client, chain.server(), "seon_proxyclient2", "seon_proxyserver2"),
    ] {
        let (well, said) = log_level(command, &[&foreign.pid().to_string(), "debug"]);
        let expected = format!("{ours}: process {} is no {ours} but {theirs}; nothing was sent to it", foreign.pid());
        assert_eq!((well, said), (false, expected));
        assert_eq!(foreign.status(), None);
    }
    let daemon = chain.receive_daemon.as_ref().expect("it was started");
    let (well, said) = log_level(&server, &[&daemon.pid().to_string(), "debug"]);
    assert!(!well && said.contains("but oftp2_station"), "{said}");
    assert_eq!(daemon.status(), None);
    Ok(())
}
