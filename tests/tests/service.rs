//! The daemons as services of systemd: what they tell it, and the units that start them.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};
use seonapi_client::Limits;
use tests::harness::{Mark, Plan, Process, Scratch, ServiceManager, Trouble, binary, made_octets};
use tests::station::OutgoingFile;

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
    let mut serve = backend_of(&scratch);
    let manager = ServiceManager::new(&scratch, "manager").unwrap();
    let backend = Process::start("seon_backend", manager.starts(&mut serve)).unwrap();
    let ready = manager.hears("READY=1").unwrap();
    assert!(ready.contains("STATUS=listening on 127.0.0.1:"), "{ready}");
    manager.hears("WATCHDOG=1").unwrap();
    manager.hears("WATCHDOG=1").unwrap();
    drop(backend);
    manager.hears("STOPPING=1").unwrap();
}

/// The command that serves a new configuration of this backend.
fn backend_of(scratch: &Scratch) -> Command {
    let folder = scratch.path().join("backend");
    let proxy_id = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015adpx";
    let mut init = Command::new(binary("seon_backend").unwrap());
    Process::run("seon_backend init", init.arg("init").arg(&folder).args(["--proxy-id", proxy_id])).unwrap();
    let mut serve = Command::new(binary("seon_backend").unwrap());
    serve.args(["serve", "--listen", "127.0.0.1:0", "--config"]).arg(folder.join("seon_backend.toml"));
    serve
}

/// What the unit sets there.
fn setting(name: &str, key: &str) -> String {
    let unit = unit(name);
    let value = unit.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    value.unwrap_or_else(|| panic!("{name}: no {key}=")).to_owned()
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

/// The kernel's killing one session leaves the others, and the time to stop is that of a drain with what follows it.
#[test]
fn the_units_of_the_daemons_give_a_drain_its_time_and_outlive_a_session_without_memory() {
    // A session that is told to end has 13 s, agents 10 s for the last reports, and there is room.
    let after_the_drain = Duration::from_secs(30);
    for name in &UNITS[..2] {
        assert_eq!(setting(name, "OOMPolicy"), "continue", "{name}");
        assert_eq!(setting(name, "KillMode"), "mixed", "{name}");
        let stop = Duration::from_secs(setting(name, "TimeoutStopSec").parse().unwrap());
        assert!(stop >= Limits::default().drain_timeout + after_the_drain, "{name}: {stop:?}");
    }
}

/// Whether units can be looked at here; a line tells where not.
fn has_systemd_analyze() -> bool {
    let has = Command::new("systemd-analyze").arg("--version").output().is_ok();
    if !has {
        println!("skipped: there is no systemd-analyze here");
    }
    has
}

#[test]
fn the_daemons_and_their_sessions_live_under_the_call_filters_of_their_units() -> Result<(), Trouble> {
    if !has_systemd_analyze() {
        return Ok(());
    }
    let mut chain = Plan::new().prepare()?;
    let mut command = chain.server_command()?;
    // So the filter does bind: the first call of the daemon's own confinement ends it.
    let killed = start_under(&call_filter("@system-service"), "proxyserver", &mut command)?.wait_for_end()?;
    assert_eq!(killed.signal(), Some(nix::libc::SIGSYS), "{killed:?}");
    std::fs::remove_file(chain.scratch.path().join("proxyserver/seon_proxyserver2.pid")).unwrap();
    let server = start_under(&call_filter(&calls_of("seon_proxyserver2")), "proxyserver", &mut command)?;
    server.wait_for_text(" link-listening ")?;
    chain.server = Some(server);
    let mut command = chain.client_command()?;
    chain.client = Some(start_under(&call_filter(&calls_of("seon_proxyclient2")), "proxyclient", &mut command)?);
    chain.wait_until_open(Mark::default())?;
    let report = chain.send(vec![OutgoingFile::from_octets("INVOICES", made_octets(100_000))]);
    assert!(report.went_well(true), "{report:?}\n{}", chain.server().last_lines(20));
    let scratch = Scratch::new()?;
    let manager = ServiceManager::new(&scratch, "manager")?;
    let mut serve = backend_of(&scratch);
    let _backend = start_under(&call_filter(&calls_of("seon_backend")), "seon_backend", manager.starts(&mut serve))?;
    manager.hears("READY=1").map(drop)
}

/// Starts it as systemd does: the filter stays with its thread, and with what that thread starts.
fn start_under(filter: &BpfProgram, name: &str, command: &mut Command) -> Result<Process, Trouble> {
    let started = thread::scope(|scope| {
        let start = || {
            for filter in [&write_execute_filter(), filter] {
                seccompiler::apply_filter(filter).unwrap();
            }
            Process::start(name, command)
        };
        scope.spawn(start).join()
    });
    started.unwrap()
}

fn calls_of(name: &str) -> String {
    setting(name, "SystemCallFilter")
}

/// What `SystemCallFilter=` makes of this machine's groups: calls that it does not name kill.
fn call_filter(stated: &str) -> BpfProgram {
    let (groups, named): (Vec<_>, Vec<_>) = stated.split_whitespace().partition(|word| word.starts_with('@'));
    // As systemd 252 has it, wherever this runs; `@default` is permitted always.
    let lacked = |call: &String| call.starts_with("landlock_") || call == "seccomp";
    let mut calls: BTreeSet<String> = members(groups.into_iter().chain(["@default"]));
    calls.retain(|call| !lacked(call));
    calls.extend(named.into_iter().map(str::to_owned));
    let numbers = call_numbers();
    let rules = calls.iter().filter_map(|call| Some((*numbers.get(call)?, Vec::new()))).collect();
    let architecture = std::env::consts::ARCH.try_into().unwrap();
    let filter = SeccompFilter::new(rules, SeccompAction::KillProcess, SeccompAction::Allow, architecture);
    filter.unwrap().try_into().unwrap()
}

/// What systemd makes of `MemoryDenyWriteExecute=yes`: no memory that is written and executed, none that becomes executable.
fn write_execute_filter() -> BpfProgram {
    let executable = u64::from(nix::libc::PROT_EXEC.cast_unsigned());
    let both = executable | u64::from(nix::libc::PROT_WRITE.cast_unsigned());
    let protection = |bits| {
        let has = SeccompCondition::new(2, SeccompCmpArgLen::Dword, SeccompCmpOp::MaskedEq(bits), bits).unwrap();
        vec![SeccompRule::new(vec![has]).unwrap()]
    };
    let rules = BTreeMap::from([
        (nix::libc::SYS_mmap, protection(both)),
        (nix::libc::SYS_mprotect, protection(executable)),
        (nix::libc::SYS_pkey_mprotect, protection(executable)),
    ]);
    let refused = SeccompAction::Errno(nix::libc::EPERM.cast_unsigned());
    let architecture = std::env::consts::ARCH.try_into().unwrap();
    SeccompFilter::new(rules, SeccompAction::Allow, refused, architecture).unwrap().try_into().unwrap()
}

/// The calls of groups, those of the groups in them included.
fn members<'a>(groups: impl Iterator<Item = &'a str>) -> BTreeSet<String> {
    let mut calls = BTreeSet::new();
    let mut seen = BTreeSet::new();
    let mut wanted: Vec<String> = groups.map(str::to_owned).collect();
    while let Some(group) = wanted.pop() {
        if !seen.insert(group.clone()) {
            continue;
        }
        let mut show = Command::new("systemd-analyze");
        let shown = Process::run("systemd-analyze", show.args(["syscall-filter", &group])).unwrap();
        for word in shown.lines().skip(1).map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            if word.starts_with('@') {
                wanted.push(word.to_owned());
            } else {
                calls.insert(word.to_owned());
            }
        }
    }
    calls
}

/// The numbers of this machine's calls, as the compiler has them that builds the programs.
fn call_numbers() -> BTreeMap<String, i64> {
    let mut gcc = Command::new("gcc");
    gcc.args(["-dM", "-E", "-include", "sys/syscall.h", "-x", "c", "/dev/null"]);
    let defined = Process::run("gcc", &mut gcc).unwrap();
    let number = |line: &str| {
        let (name, number) = line.strip_prefix("#define __NR_")?.split_once(' ')?;
        Some((name.to_owned(), number.trim().parse().ok()?))
    };
    let numbers: BTreeMap<_, _> = defined.lines().filter_map(number).collect();
    assert!(numbers.contains_key("seccomp"), "gcc tells no numbers of system calls");
    numbers
}

#[test]
fn systemd_finds_nothing_wrong_with_the_units() {
    if !has_systemd_analyze() {
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
