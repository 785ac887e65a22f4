//! The daemons as services of systemd: what they tell it, and the units that start them.

use std::path::Path;
use std::process::Command;

use tests::harness::{Mark, Plan, Process, Scratch, ServiceManager, binary};

const UNITS: [&str; 3] = ["seon_proxyserver2", "seon_proxyclient2", "seon_backend"];

#[test]
fn a_service_manager_hears_when_the_daemons_are_ready_linked_and_alive() {
    let mut chain = Plan::new().prepare().unwrap();
    let (server, client) = (
        ServiceManager::new(&chain.scratch, "server").unwrap(),
        ServiceManager::new(&chain.scratch, "client").unwrap(),
    );
    let mut command = chain.server_command().unwrap();
    let started = Process::start("proxyserver", server.starts(&mut command)).unwrap();
    let ready = server.hears("READY=1").unwrap();
    assert!(ready.contains(&format!("MAINPID={}", started.pid())), "{ready}");
    assert!(ready.contains("STATUS=no proxyclient is linked, the partner port is closed"), "{ready}");
    chain.server = Some(started);
    let mut command = chain.client_command().unwrap();
    chain.client = Some(Process::start("proxyclient", client.starts(&mut command)).unwrap());
    client.hears("READY=1").unwrap();
    chain.wait_until_open(Mark::default()).unwrap();
    let open = format!("STATUS=linked, the partner port is open at [{}]", chain.partner_address());
    server.hears(&open).unwrap();
    client.hears(&open).unwrap();
    for manager in [&server, &client] {
        // It is said again and again.
        manager.hears("WATCHDOG=1").unwrap();
        manager.hears("WATCHDOG=1").unwrap();
    }
    // The client tells of the server's end before it ends itself.
    drop(chain.server.take());
    client.hears("STATUS=not linked to the proxyserver").unwrap();
    client.hears("STOPPING=1").unwrap();
}

#[test]
fn a_service_manager_hears_when_the_backend_is_ready_and_alive() {
    let scratch = Scratch::new().unwrap();
    let folder = scratch.path().join("backend");
    let proxy_id = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015adpx";
    let mut init = Command::new(binary("seon_backend").unwrap());
    Process::run("seon_backend init", init.arg("init").arg(&folder).args(["--proxy-id", proxy_id])).unwrap();
    let manager = ServiceManager::new(&scratch, "manager").unwrap();
    let mut serve = Command::new(binary("seon_backend").unwrap());
    serve.args(["serve", "--listen", "127.0.0.1:0", "--config"]).arg(folder.join("seon_backend.toml"));
    let backend = Process::start("seon_backend", manager.starts(&mut serve)).unwrap();
    let ready = manager.hears("READY=1").unwrap();
    assert!(ready.contains("STATUS=listening on 127.0.0.1:"), "{ready}");
    manager.hears("WATCHDOG=1").unwrap();
    manager.hears("WATCHDOG=1").unwrap();
    drop(backend);
    manager.hears("STOPPING=1").unwrap();
}

fn unit(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../etc/systemd").join(format!("{name}.service"));
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn the_units_start_the_programs_with_options_that_they_have() {
    for name in UNITS {
        let unit = unit(name);
        let start = unit.lines().find_map(|line| line.strip_prefix("ExecStart=")).unwrap();
        let mut words = start.split_whitespace();
        assert!(words.next().unwrap().ends_with(&format!("/{name}")), "{start}");
        let help = |words: &[&str]| {
            let mut command = Command::new(binary(name).unwrap());
            Process::run(name, command.args(words).arg("--help")).unwrap()
        };
        let words: Vec<_> = words.collect();
        let subcommand = words.first().filter(|word| !word.starts_with('-'));
        let help = help(subcommand.as_slice().iter().map(|word| **word).collect::<Vec<_>>().as_slice());
        for option in words.iter().filter(|word| word.starts_with('-')) {
            assert!(
                help.contains(&format!("{option},"))
                    || help.contains(&format!("{option} "))
                    || help.contains(&format!("{option}\n")),
                "{option}\n{help}"
            );
        }
    }
}

/// Exit codes after which starting again changes nothing are those of the table.
#[test]
fn the_units_name_exit_codes_of_the_table() {
    for name in UNITS {
        let unit = unit(name);
        let codes = unit.lines().find_map(|line| line.strip_prefix("RestartPreventExitStatus=")).unwrap();
        for code in codes.split_whitespace() {
            let code = command_line::exit::ExitCode::from_number(code.parse().unwrap());
            assert!(code.is_some_and(|code| code.is_of_a_program()), "{name}: {code:?}");
        }
    }
}

#[test]
fn systemd_finds_nothing_wrong_with_the_units() {
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        println!("skipped: there is no systemd-analyze here");
        return;
    }
    let scratch = Scratch::new().unwrap();
    for name in UNITS {
        // Where the program is here, and not where it will be.
        let program = binary(name).unwrap();
        let text: Vec<_> = unit(name)
            .lines()
            .map(|line| match line.strip_prefix("ExecStart=").and_then(|start| start.split_once(' ')) {
                Some((_, options)) => format!("ExecStart={} {options}", program.display()),
                None => line.to_owned(),
            })
            .collect();
        let file = scratch.write(&format!("{name}.service"), text.join("\n") + "\n").unwrap();
        let said = Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&file).output().unwrap();
        let about_it: Vec<_> = String::from_utf8_lossy(&said.stderr)
            .lines()
            .filter(|line| line.contains(name))
            .map(str::to_owned)
            .collect();
        assert!(said.status.success() && about_it.is_empty(), "{name}: {} {about_it:?}", said.status);
        // Exposure of 2.0 of 10 at most, where this version can tell it of a file.
        let mut security = Command::new("systemd-analyze");
        let said = security.args(["security", "--offline=true", "--threshold=20"]).arg(&file).output().unwrap();
        let told = String::from_utf8_lossy(&said.stderr);
        if !told.contains("unrecognized option") {
            let table = String::from_utf8_lossy(&said.stdout);
            assert!(said.status.success(), "{name}: {}{told}", table.lines().last().unwrap_or_default());
        }
    }
}
