//! In the background: where the log goes, what the terminal is told, and files that are wrong.

use std::fs;
use std::path::Path;
use std::process::Command;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tests::harness::scripted_backend::Answer;
use tests::harness::{Chain, LogLine, PATIENCE, Plan, Trouble, until};
use tests::station::OutgoingFile;

use crate::daemon::{Daemon, run};
use crate::written;

fn read(line: &str) -> LogLine {
    LogLine::read(line).unwrap_or_else(|| panic!("no line of a log: {line}"))
}

#[test]
fn without_a_logrc_there_is_a_note_and_a_dated_file_beside_each_program() -> Result<(), Trouble> {
    let chain = Plan::new().prepare()?;
    let (server, said) = Daemon::start(&chain.server_command()?);
    let note = format!("there is no {}/seon_proxyserver.logrc", server.directory.display());
    assert!(said.contains(&note) && said.contains("level INFO"), "{said}");
    let (client, said) = Daemon::start(&chain.client_command()?);
    assert!(said.contains("seon_proxyclient.logrc"), "{said}");
    let of_server = |what: &str| {
        written::wait_for(&server.directory, "seon_proxyserver", "log", what, |line| {
            read(line).code.as_deref() == Some(what)
        })
    };
    of_server("partner-port-open")?;
    let file = OutgoingFile::from_octets("ONE", *b"one");
    assert!(chain.send(vec![file]).went_well(true));
    assert_eq!(read(&of_server("session-ended")?).role, "session");
    let of_client = |what: &str| {
        written::wait_for(&client.directory, "seon_proxyclient", "log", what, |line| {
            read(line).code.as_deref() == Some(what)
        })
    };
    assert_eq!(read(&of_client("session-paired")?).role, "agent");
    client.end();
    server.end();
    of_server("server-stopped")?;
    of_client("client-stopped")?;
    assert!(!server.directory.join("seon_proxyserver2.pid").exists());
    Ok(())
}

#[test]
fn the_examples_that_ship_are_taken_as_they_are_and_with_all_that_they_offer() -> Result<(), Trouble> {
    let etc = Path::new(env!("CARGO_MANIFEST_DIR")).join("../etc");
    for all in [false, true] {
        let chain = Plan::new().prepare()?;
        for (daemon, stem) in [("proxyserver", "seon_proxyserver"), ("proxyclient", "seon_proxyclient")] {
            let mut text = fs::read_to_string(etc.join(format!("{stem}.logrc"))).unwrap();
            if all {
                // What is behind a # and no sentence, which has one blank before it.
                let offered = |line: &str| {
                    let behind = line.trim_start().strip_prefix('#');
                    behind.is_some_and(|behind| !behind.starts_with(' ') || behind.starts_with("  "))
                };
                let lines =
                    text.lines().map(|line| if offered(line) { line.replacen('#', "", 1) } else { line.into() });
                text = lines.collect::<Vec<_>>().join("\n");
                text = text.replace("appenders: [day]", "appenders: [day, json, eve, terminal]");
            }
            chain.scratch.directory(daemon)?;
            chain.scratch.write(&format!("{daemon}/{stem}.logrc"), text)?;
        }
        let (server, said) = Daemon::start(&chain.server_command()?);
        assert_eq!(said, "", "nothing to note");
        let (client, said) = Daemon::start(&chain.client_command()?);
        assert_eq!(said, "", "nothing to note");
        for (daemon, stem, code) in
            [(&server, "seon_proxyserver", "partner-port-open"), (&client, "seon_proxyclient", "link-up")]
        {
            let with_code = |line: &str| line.contains(code);
            written::wait_for(&daemon.directory, stem, "log", code, with_code)?;
            if all {
                written::wait_for(&daemon.directory, stem, "json", code, with_code)?;
                assert_eq!(written::files(&daemon.directory, &format!("{stem}-eve"), "json").len(), 1);
            }
        }
    }
    Ok(())
}

#[test]
fn a_token_or_ca_file_that_cannot_be_used_stands_on_the_terminal_and_in_the_exit_code() -> Result<(), Trouble> {
    let chain = Plan::new().poll_every(60).prepare()?;
    let sound = chain.client_command()?;
    let start = |option: &str, value: &str| {
        let given: Vec<_> = sound.get_args().map(|argument| argument.to_str().unwrap().to_owned()).collect();
        let place = given.iter().position(|argument| argument == option).unwrap() + 1;
        let mut command = Command::new(sound.get_program());
        command.args(&given[..place]).arg(value).args(&given[place + 1..]);
        let output = run(&command);
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    chain.scripted_backend().set_script(|_| Some(Answer::problem(401, "unknown")));
    for (option, value, code, said) in [
        ("-T", "hunter2", 2, "-T: the security token must begin with `seon_`"),
        ("-T", "@/no/such/token", 2, "/no/such/token"),
        ("-U", "ftp://x", 2, "-U: "),
        ("--ca-file", "/no/such/ca.pem", 2, "/no/such/ca.pem"),
        // All that it was given is sound, and the backend does not know the token.
        ("--poll-interval", "7", 5, "refuses the security token (401)"),
    ] {
        let (ended, told) = start(option, value);
        assert_eq!(ended, Some(code), "{option} {value}: {told}");
        assert!(told.contains(said) && !told.contains("hunter2"), "{option} {value}: {told}");
        assert!(!Path::new(sound.get_program()).with_extension("pid").exists(), "{told}");
    }
    let deaths = written::lines(Path::new(sound.get_program()).parent().unwrap(), "seon_proxyclient", "log");
    assert!(!deaths.iter().any(|line| line.contains(" role-died ")), "nothing died: {deaths:?}");
    Ok(())
}

const SOUND: &str = "\
appenders:
  day:
    kind: seon_appender
    path: day.log
    encoder:
      kind: seon_eve
root:
  level: info
  appenders: [day]
";

#[test]
fn a_broken_logrc_stops_the_start_with_line_and_column() -> Result<(), Trouble> {
    let chain = Plan::new().prepare()?;
    let cases = [
        ("level: info", "level: loud", "8:3", "\"loud\" is no log level"),
        ("kind: seon_eve", "kind: seon_eva", "6:13", "seon_eva"),
        ("kind: seon_eve", "kind: seon_eve\n      pretty: true", "7:7", "Unknown field pretty"),
        ("kind: seon_appender", "kind: seon_apender", "3:11", "seon_apender"),
        ("path: day.log", "path: /no/such/place/day.log", "4:5", "/no/such/place/day-2"),
        ("appenders: [day]", "appenders: [night]", "9:3", "night"),
        ("root:\n", "root:\n  colour: red\n", "8:3", "colour"),
        ("root:\n", "\troot:\n", "7:", "tab"),
        ("encoder:\n", "encoder: {\n", "", ""),
    ];
    let daemons = [
        (chain.server_command()?, "proxyserver/seon_proxyserver.logrc"),
        (chain.client_command()?, "proxyclient/seon_proxyclient.logrc"),
    ];
    for (command, logrc) in daemons {
        for (sound, broken, place, said) in cases {
            assert_eq!(SOUND.matches(sound).count(), 1, "{sound}");
            let path = chain.scratch.write(logrc, SOUND.replace(sound, broken))?;
            let output = run(&command);
            let told = String::from_utf8_lossy(&output.stderr).into_owned();
            let at = format!("{}:{place}", path.display());
            assert!(told.contains(&at) && told.contains(said), "{broken}: {told}");
            // Line and column stand there, whatever they are.
            let numbers: Vec<&str> = told.split_once(&format!("{}:", path.display())).unwrap().1.split(':').collect();
            assert!(numbers[0].parse::<u32>().is_ok() && numbers[1].parse::<u32>().is_ok(), "{told}");
            assert_eq!(output.status.code(), Some(3), "{told}");
            assert!(!Path::new(command.get_program()).with_extension("pid").exists(), "it left its PID file");
        }
    }
    Ok(())
}

#[test]
fn a_full_disk_stops_nothing_and_is_told_when_there_is_room_again() -> Result<(), Trouble> {
    let chain = Plan::new().prepare()?;
    let directory = chain.scratch.directory("proxyserver")?;
    // Writing to this device answers what a full disk does. Today's file, and tomorrow's, should midnight pass.
    let now = chrono::Local::now();
    let dates = [now, now + chrono::Duration::days(1)].map(|time| time.format("%Y-%m-%d").to_string());
    for date in &dates {
        std::os::unix::fs::symlink("/dev/full", directory.join(format!("seon_proxyserver-{date}.log"))).unwrap();
    }
    let (server, _) = Daemon::start(&chain.server_command()?);
    let mut chain: Chain = chain;
    chain.start_client()?;
    let gate = Pid::from_raw(server.pid);
    chain.client_says("link-up")?;
    // The system log tells it while the disk is full.
    let told = |event: &serde_json::Value| {
        event["code"] == "log-records-dropped"
            && event["message"].as_str().is_some_and(|text| text.contains("No space"))
    };
    let events = || chain.scripted_backend().events();
    assert!(until(PATIENCE, || events().iter().any(told).then_some(())).is_some(), "{:#?}", events());
    for date in &dates {
        fs::remove_file(directory.join(format!("seon_proxyserver-{date}.log"))).unwrap();
    }
    let told = until(PATIENCE, || {
        // Something to log, until the file is looked for again.
        kill(gate, Signal::try_from(22).unwrap()).unwrap();
        written::lines(&directory, "seon_proxyserver", "log")
            .into_iter()
            .find(|line| line.contains("log-records-dropped"))
    });
    let told = read(&told.expect("the loss is told"));
    assert!(
        told.message
            .contains("lines were lost here because the log could not be written. To do: See whether the disk is full"),
        "{told:?}"
    );
    let lost: u32 = told.message.split(' ').next().unwrap().parse().unwrap();
    assert!(lost >= 3, "start, link and port at least: {told:?}");
    assert!(server.is_there());
    Ok(())
}
