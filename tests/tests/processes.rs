//! The processes of both daemons, as `ps` shows them, and what the death of one costs.

use std::os::unix::fs::FileExt;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use tests::harness::{Chain, Held, LogLine, PATIENCE, Plan, Process, Trouble, made_octets, table, until};
use tests::station::{OutgoingFile, Report, Security, Settings, TlsSettings, TlsVersions, sha256};

const HALF: u64 = 500_000;

fn whole() -> Vec<u8> {
    made_octets(1_000_000)
}

fn hold(chain: &Chain, dataset: &str) -> Result<Held, Trouble> {
    let file = OutgoingFile::from_octets(dataset, whole());
    Held::start(&chain.partner_address(), &chain.security(), &chain.settings(), file, HALF)
}

fn arrived(chain: &Chain, report: &Report, dataset: &str) {
    assert!(report.went_well(true), "{report:?}\n{}", chain.client().last_lines(20));
    assert_eq!(sha256(&std::fs::read(chain.received(dataset)).unwrap()), sha256(&whole()));
}

/// The processes of a daemon that are named after a role.
fn of_role(daemon: &Process, role: &str) -> Vec<table::Entry> {
    table::below(daemon.pid()).into_iter().filter(|entry| entry.name.starts_with(role)).collect()
}

fn wait_for_sessions(daemon: &Process, count: usize) -> Vec<table::Entry> {
    let found = until(PATIENCE, || Some(of_role(daemon, "session")).filter(|found| found.len() == count));
    found.unwrap_or_else(|| panic!("not {count} sessions but {:?}", table::below(daemon.pid())))
}

fn strike(entry: &table::Entry) {
    kill(Pid::from_raw(entry.pid), Signal::SIGKILL).unwrap();
}

#[test]
fn there_is_one_process_for_each_session_on_each_side_named_after_its_role() -> Result<(), Trouble> {
    let chain = Chain::start()?;
    for (daemon, role) in [(chain.server(), "switchboard"), (chain.client(), "agent")] {
        let gate = table::Entry::of(daemon.pid()).expect("the gate runs");
        assert_eq!(gate.name, "gate");
        assert_eq!(gate.threads, 1, "the gate forks and therefore has one thread");
        assert_eq!(of_role(daemon, role).len(), 1, "{:?}", table::below(daemon.pid()));
        assert!(of_role(daemon, "session").is_empty());
    }
    let held: Vec<Held> = ["ONE", "TWO", "THREE"].iter().map(|name| hold(&chain, name)).collect::<Result<_, _>>()?;
    for daemon in [chain.server(), chain.client()] {
        let sessions = wait_for_sessions(daemon, 3);
        assert!(sessions.iter().all(|session| session.parent == daemon.pid()), "{sessions:?}");
        assert_eq!(table::Entry::of(daemon.pid()).expect("the gate runs").threads, 1);
    }
    for (session, name) in held.into_iter().zip(["ONE", "TWO", "THREE"]) {
        arrived(&chain, &session.go_on()?, name);
    }
    wait_for_sessions(chain.server(), 0);
    wait_for_sessions(chain.client(), 0);
    Ok(())
}

/// Sockets that a process has open.
fn sockets(pid: i32) -> usize {
    let open = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().filter_map(Result::ok);
    let sockets = open.filter_map(|fd| std::fs::read_link(fd.path()).ok());
    sockets.filter(|link| link.to_string_lossy().starts_with("socket:")).count()
}

/// The second of two sessions has its two connections and its log; its roles have nothing of it.
fn nothing_is_left_of_pairing(chain: &Chain, hold: impl Fn(&str) -> Result<Held, Trouble>) -> Result<(), Trouble> {
    // What is opened once, as by the first session, does not count.
    let first = hold("FIRST")?;
    let roles = [(chain.server(), "switchboard"), (chain.client(), "agent")];
    let before = roles.map(|(daemon, role)| sockets(of_role(daemon, role)[0].pid));
    let second = hold("SECOND")?;
    for daemon in [chain.server(), chain.client()] {
        for session in wait_for_sessions(daemon, 2) {
            let three = || (sockets(session.pid) == 3).then_some(());
            assert!(until(PATIENCE, three).is_some(), "{session:?}: {} sockets", sockets(session.pid));
        }
    }
    for ((daemon, role), before) in roles.into_iter().zip(before) {
        let pid = of_role(daemon, role)[0].pid;
        let as_before = || (sockets(pid) <= before).then_some(());
        assert!(until(PATIENCE, as_before).is_some(), "{role}: {} sockets, {before} before", sockets(pid));
    }
    for held in [first, second] {
        let report = held.go_on()?;
        assert!(report.went_well(true), "{report:?}");
    }
    Ok(())
}

#[test]
fn a_session_that_is_paired_has_its_two_connections_and_the_log_and_its_role_nothing_of_it() -> Result<(), Trouble> {
    let chain = Chain::start()?;
    nothing_is_left_of_pairing(&chain, |dataset| hold(&chain, dataset))?;
    for dataset in ["FIRST", "SECOND"] {
        assert_eq!(sha256(&std::fs::read(chain.received(dataset)).unwrap()), sha256(&whole()));
    }
    Ok(())
}

#[test]
fn an_outgoing_session_too_in_both_tls_versions() -> Result<(), Trouble> {
    for versions in [TlsVersions::Tls12, TlsVersions::Tls13] {
        let chain = Plan::new().outgoing()?.start()?;
        let security = TlsSettings { versions, ..chain.called_security(0)? };
        let _partner = chain.partner_listens_with(0, security, chain.called_settings(0)?)?;
        let settings = Settings { via: Some(chain.http()), ..chain.inside_settings() };
        nothing_is_left_of_pairing(&chain, |dataset| {
            let file = OutgoingFile::from_octets(dataset, whole());
            Held::start(&chain.called_at(0), &Security::Plain, &settings, file, HALF)
        })?;
    }
    Ok(())
}

#[test]
fn no_secret_is_seen_in_the_table_of_processes() -> Result<(), Trouble> {
    let mut chain = Plan::new().prepare()?;
    chain.start_server()?;
    let token = std::fs::read_to_string(chain.scratch.path().join("token")).unwrap();
    // The token itself, not a file with it: it has to be overwritten.
    let mut command = chain.client_command()?;
    let mut arguments: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
    for argument in &mut arguments {
        if argument.to_string_lossy().starts_with('@') {
            *argument = token.trim().into();
        }
    }
    command = std::process::Command::new(command.get_program());
    chain.client = Some(Process::start("proxyclient", command.args(arguments))?);
    chain.wait_until_open(tests::harness::Mark::default())?;
    let mut shown = table::below(chain.client().pid());
    shown.extend(table::Entry::of(chain.client().pid()));
    assert!(!shown.is_empty());
    assert!(shown.iter().all(|entry| !entry.command_line.contains(token.trim())), "{shown:?}");
    Ok(())
}

#[test]
fn a_killed_session_ends_that_session_only() -> Result<(), Trouble> {
    for side in ["server", "client"] {
        let chain = Chain::start()?;
        let daemon = if side == "server" { chain.server() } else { chain.client() };
        let struck = hold(&chain, "STRUCK")?;
        let victim = wait_for_sessions(daemon, 1).remove(0);
        let other = hold(&chain, "OTHER")?;
        wait_for_sessions(daemon, 2);
        strike(&victim);
        let report = struck.go_on()?;
        assert!(report.failure.is_some(), "{side}: {report:?}");
        arrived(&chain, &other.go_on()?, "OTHER");
        arrived(&chain, &chain.send(vec![OutgoingFile::from_octets("NEXT", whole())]), "NEXT");
        wait_for_sessions(chain.server(), 0);
        wait_for_sessions(chain.client(), 0);
    }
    Ok(())
}

#[test]
fn a_killed_switchboard_or_agent_is_started_anew_and_sessions_in_flight_finish() -> Result<(), Trouble> {
    for (side, role) in [("server", "switchboard"), ("client", "agent")] {
        let chain = Chain::start()?;
        let daemon = if side == "server" { chain.server() } else { chain.client() };
        let held = hold(&chain, "IN-FLIGHT")?;
        let told = |code: &str| {
            let events = || chain.scripted_backend().events();
            let found = until(PATIENCE, || events().iter().any(|event| event["code"] == code).then_some(()));
            assert!(found.is_some(), "{role}: {code}: {:?}", events());
        };
        // The system log hears of the proxyserver's start. What an agent has heard last dies with it.
        told("server-started");
        let (mark, victim) = (chain.server().mark(), of_role(daemon, role).remove(0));
        strike(&victim);
        daemon.wait_for_text(" role-died ")?;
        let anew = until(PATIENCE, || of_role(daemon, role).into_iter().find(|entry| entry.pid != victim.pid));
        assert!(anew.is_some(), "{role} was not started anew: {:?}", table::below(daemon.pid()));
        chain.wait_until_open(mark)?;
        arrived(&chain, &held.go_on()?, "IN-FLIGHT");
        arrived(&chain, &chain.send(vec![OutgoingFile::from_octets("NEXT", whole())]), "NEXT");
        // And of the death, from the successor.
        told("role-died");
    }
    Ok(())
}

#[test]
fn a_killed_role_is_started_anew_though_the_starter_ignores_its_children() -> Result<(), Trouble> {
    let chain = Plan::new().prepare()?;
    let daemon = chain.server_command()?;
    let mut command = std::process::Command::new("sh");
    command.args(["-c", "trap '' CHLD; exec \"$0\" \"$@\""]).arg(daemon.get_program()).args(daemon.get_args());
    let server = Process::start("proxyserver", &mut command)?;
    server.wait_for_text(" link-listening ")?;
    let before = of_role(&server, "switchboard");
    before.iter().for_each(strike);
    server.wait_for_text(" role-died ")?;
    let anew = until(PATIENCE, || Some(of_role(&server, "switchboard")).filter(|now| now.len() == 1 && *now != before));
    assert!(before.len() == 1 && anew.is_some(), "{:?}", table::below(server.pid()));
    Ok(())
}

#[test]
fn each_line_of_a_session_names_it_and_its_process() -> Result<(), Trouble> {
    let chain = Chain::start()?;
    arrived(&chain, &chain.send(vec![OutgoingFile::from_octets("A", whole())]), "A");
    let ended = LogLine::read(&chain.client_says("session-ended")?).expect("a line of the log");
    let session = ended.session.expect("it names its session");
    assert_eq!(ended.role, "session");
    chain.server_says("session-ended")?;
    let seen: Vec<LogLine> = chain.server().lines().iter().filter_map(|line| LogLine::read(line)).collect();
    assert!(seen.iter().any(|line| line.session.as_ref() == Some(&session)), "one name on both sides: {seen:?}");
    Ok(())
}

#[test]
fn a_stop_signal_lets_sessions_end_and_a_second_one_does_not() -> Result<(), Trouble> {
    for twice in [false, true] {
        let chain = Plan::new().configure(|config| config["limits"] = json!({ "drain_timeout_s": 60 })).start()?;
        let held = hold(&chain, "DRAINED")?;
        chain.server().signal(Signal::SIGTERM);
        chain.server_says("stop-requested")?;
        chain.server_says("partner-port-closed")?;
        if twice {
            chain.server().signal(Signal::SIGTERM);
            let report = held.go_on()?;
            assert!(report.failure.is_some(), "{report:?}");
        } else {
            arrived(&chain, &held.go_on()?, "DRAINED");
        }
        assert!(chain.server().wait_for_end()?.success(), "{}", chain.server().last_lines(10));
        assert!(chain.client().wait_for_end()?.success(), "{}", chain.client().last_lines(10));
    }
    Ok(())
}

/// Of one process: an area of its memory.
struct Area {
    may: String,
    what: String,
    large_kib: u64,
}

/// `None` without the right to look.
fn areas(pid: i32) -> Option<Vec<Area>> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps")).ok()?;
    let mut areas: Vec<Area> = Vec::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            [span, may, _, _, _, what @ ..] if span.contains('-') => {
                areas.push(Area { may: (*may).to_owned(), what: what.join(" "), large_kib: 0 });
            }
            ["ShmemPmdMapped:", kib, _] => {
                areas.last_mut().expect("an area").large_kib = kib.parse().expect("a number")
            }
            _ => {}
        }
    }
    Some(areas)
}

#[test]
fn code_lies_in_large_pages_and_is_never_writable() -> Result<(), Trouble> {
    let chain = Chain::start()?;
    let held = hold(&chain, "HELD")?;
    for daemon in [chain.server(), chain.client()] {
        let [session] = <[_; 1]>::try_from(wait_for_sessions(daemon, 1)).expect("one was waited for");
        let Some(areas) = areas(session.pid) else {
            println!("skipped: without root nobody looks into a session");
            continue;
        };
        let writable_code: Vec<&str> = areas
            .iter()
            .filter(|area| area.may.contains('w') && area.may.contains('x'))
            .map(|area| &*area.what)
            .collect();
        assert_eq!(writable_code, [""; 0], "{}", session.name);
        let said = daemon.lines();
        let lacks = |line: &str| ["this kernel", "this processor", "this host"].iter().any(|what| line.contains(what));
        let small = |line: &&String| line.contains("do not all lie in large pages") && lacks(line);
        if let Some(line) = said.iter().find(small) {
            println!("skipped: {line}");
            continue;
        }
        let code = areas.iter().find(|area| area.may == "r-xp" && area.what.starts_with("/memfd:program"));
        let code = code.unwrap_or_else(|| panic!("no code in a memory file, and no word of it: {said:?}"));
        assert!(code.large_kib >= 2048, "{} KiB of {}", code.large_kib, code.what);
    }
    arrived(&chain, &held.go_on()?, "HELD");
    Ok(())
}

/// By what name the kernel was told to execute a process; none without the right to look into it.
fn executed_as(pid: i32) -> Option<String> {
    const AT_EXECFN: u64 = 31;
    let vector = std::fs::read(format!("/proc/{pid}/auxv")).ok()?;
    let words: Vec<u64> = vector.chunks_exact(8).map(|word| u64::from_ne_bytes(word.try_into().unwrap())).collect();
    let address = words.chunks_exact(2).find(|pair| pair[0] == AT_EXECFN)?[1];
    let memory = std::fs::File::open(format!("/proc/{pid}/mem")).ok()?;
    let mut text = [0; 64];
    let read = memory.read_at(&mut text, address).ok()?;
    Some(String::from_utf8_lossy(text[..read].split(|octet| *octet == 0).next()?).into_owned())
}

#[test]
fn a_daemon_executes_itself_once_more_so_that_freed_memory_is_joined() -> Result<(), Trouble> {
    if cfg!(not(all(target_env = "gnu", target_pointer_width = "64"))) {
        println!("skipped: another allocator, or another auxiliary vector");
        return Ok(());
    }
    let chain = Chain::start()?;
    for daemon in [chain.server(), chain.client()] {
        // What the harness has started is the gate itself, so the PID has stayed.
        match executed_as(daemon.pid()) {
            Some(name) => assert_eq!(name, "/proc/self/exe"),
            None if nix::unistd::Uid::effective().is_root() => panic!("root looks into every process"),
            None => println!("skipped: without root nobody looks into a gate"),
        }
        let told = daemon.lines();
        assert!(!told.iter().any(|line| line.contains("more memory than they need")), "{told:?}");
    }
    Ok(())
}
