//! The link between both daemons: who may link, what happens when one of them goes, what strangers get.

use std::ffi::OsString;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use license::{LinkKey, SecurityToken};
use nix::sys::signal::Signal;
use serde_json::json;
use tests::harness::scripted_backend::Answer;
use tests::harness::{Chain, Held, Mark, PATIENCE, Plan, Process, Recorder, Trouble, made_octets, until};
use tests::station::{OutgoingFile, Report, sha256};

/// The link's preamble: magic, version, kind, pairing token.
const PREAMBLE: usize = 42;

fn file(name: &str) -> OutgoingFile {
    OutgoingFile::from_octets(name, made_octets(1_000_000))
}

fn hold(chain: &Chain, dataset: &str) -> Result<Held, Trouble> {
    Held::start(&chain.partner_address(), &chain.security(), &chain.settings(), file(dataset), 500_000)
}

fn arrived(chain: &Chain, report: &Report, dataset: &str) {
    assert!(report.went_well(true), "{report:?}\n{}", chain.server().last_lines(20));
    assert_eq!(sha256(&std::fs::read(chain.received(dataset)).unwrap()), sha256(&made_octets(1_000_000)));
}

fn is_open(address: &str) -> bool {
    TcpStream::connect(address).is_ok()
}

/// Says `octets` to an address and returns what comes back until it closes.
fn say(address: &str, octets: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // The other end may close before it has read all of it.
    let _ = stream.write_all(octets);
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Ok(_) => answer,
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => answer,
        Err(error) => panic!("{address} did not close: {error}"),
    }
}

fn count(process: &Process, code: &str) -> usize {
    process.lines().iter().filter(|line| line.contains(&format!(" {code} "))).count()
}

/// The value behind an option that is there.
fn replace(arguments: &mut [OsString], option: &str, value: OsString) {
    let place = arguments.iter().position(|argument| argument == option).expect("the option is given");
    arguments[place + 1] = value;
}

/// The backend has the configuration for whoever shows that token, too: what is tried is the proxyserver.
fn take_token_too(chain: &Chain, token: &SecurityToken) {
    let (config, token) = (chain.config.clone(), token.reveal().to_owned());
    chain.scripted_backend().set_script(move |request| {
        let asked = request.path == "/proxy/v1/config" && request.header("x-seon-token") == Some(&token);
        let mut answer = Answer::json(200, &config);
        answer.headers.push(("ETag".into(), "\"1\"".into()));
        asked.then_some(answer)
    });
}

/// The client as usual, but for `-S`.
fn client_through(chain: &Chain, address: SocketAddr) -> Result<Process, Trouble> {
    let usual = chain.client_command()?;
    let mut arguments: Vec<OsString> = usual.get_args().map(ToOwned::to_owned).collect();
    replace(&mut arguments, "-S", address.to_string().into());
    Process::start("proxyclient", Command::new(usual.get_program()).args(arguments))
}

/// The port is the kernel's for a moment longer, while a session that was just forked still has what it gives up first.
fn closes(address: &str) -> bool {
    until(PATIENCE, || (!is_open(address)).then_some(())).is_some()
}

#[test]
fn partners_are_listened_to_only_while_a_client_is_linked() -> Result<(), Trouble> {
    let mut chain = Plan::new().prepare()?;
    chain.start_server()?;
    assert!(!is_open(&chain.partner_address()), "open before any client is linked");
    chain.start_client()?;
    chain.server_says("link-up")?;
    chain.wait_until_open(Mark::default())?;
    assert!(is_open(&chain.partner_address()));

    let mark = chain.server().mark();
    chain.client().signal(Signal::SIGTERM);
    chain.server().wait_after(mark, "partner-port-closed", |line| line.contains(" partner-port-closed "))?;
    assert!(closes(&chain.partner_address()), "open after the client has gone");
    assert!(chain.client().wait_for_end()?.success(), "{}", chain.client().last_lines(10));

    let mark = chain.server().mark();
    chain.start_client()?;
    chain.wait_until_open(mark)?;
    arrived(&chain, &chain.send(vec![file("AGAIN")]), "AGAIN");
    Ok(())
}

#[test]
fn a_client_that_is_killed_closes_the_partner_port_at_once_and_sessions_in_flight_go_on() -> Result<(), Trouble> {
    let mut chain = Chain::start()?;
    let held = hold(&chain, "IN-FLIGHT")?;
    let mark = chain.server().mark();
    // The gate ends without a word; its sessions have connections of their own.
    chain.client().signal(Signal::SIGKILL);
    chain.server().wait_after(mark, "partner-port-closed", |line| line.contains(" partner-port-closed "))?;
    assert!(closes(&chain.partner_address()));
    arrived(&chain, &held.go_on()?, "IN-FLIGHT");
    chain.client().wait_for_end()?;
    let mark = chain.server().mark();
    // It could not do that itself any more, and the next one asks for it.
    std::fs::remove_file(chain.scratch.path().join("proxyclient/seon_proxyclient2.pid")).unwrap();
    chain.start_client()?;
    chain.wait_until_open(mark)?;
    arrived(&chain, &chain.send(vec![file("AGAIN")]), "AGAIN");
    Ok(())
}

#[test]
fn a_daemon_that_runs_already_is_not_started_twice() -> Result<(), Trouble> {
    let chain = Chain::start()?;
    for mut command in [chain.client_command()?, chain.server_command()?] {
        let second = Process::start("a second one", &mut command)?;
        second.wait_for_text(".pid names process")?;
        assert!(!second.wait_for_end()?.success(), "{}", second.last_lines(10));
    }
    arrived(&chain, &chain.send(vec![file("STILL")]), "STILL");
    for daemon in [chain.client(), chain.server()] {
        assert!(daemon.status().is_none(), "{}", daemon.last_lines(10));
    }
    Ok(())
}

#[test]
fn a_server_that_ends_ends_its_client_after_its_last_session() -> Result<(), Trouble> {
    let chain = Chain::start()?;
    let held = hold(&chain, "IN-FLIGHT")?;
    chain.server().signal(Signal::SIGTERM);
    chain.client_says("link-goodbye")?;
    assert!(chain.client().status().is_none(), "it waits for its session");
    arrived(&chain, &held.go_on()?, "IN-FLIGHT");
    assert!(chain.client().wait_for_end()?.success(), "{}", chain.client().last_lines(10));
    assert!(chain.server().wait_for_end()?.success(), "{}", chain.server().last_lines(10));
    Ok(())
}

#[test]
fn a_server_that_stays_away_ends_its_client_which_says_so() -> Result<(), Trouble> {
    let chain = Chain::start()?;
    chain.server().signal(Signal::SIGKILL);
    let gone = |line: &str| line.contains(" link-gone ");
    chain.client().wait_within(Duration::from_secs(45) + PATIENCE, Mark::default(), "link-gone", gone)?;
    assert!(chain.client().wait_for_end()?.success(), "{}", chain.client().last_lines(10));
    let events = chain.scripted_backend().events();
    assert!(events.iter().any(|event| event["code"] == "link-gone" && event["severity"] == "error"), "{events:#?}");
    Ok(())
}

#[test]
fn a_cut_control_connection_comes_back_and_sessions_in_flight_go_on() -> Result<(), Trouble> {
    let mut chain = Plan::new().prepare()?;
    chain.start_server()?;
    let wire = Recorder::start(chain.link_address().parse().unwrap())?;
    chain.client = Some(client_through(&chain, wire.address())?);
    chain.wait_until_open(Mark::default())?;
    let held = hold(&chain, "IN-FLIGHT")?;
    let mark = chain.server().mark();
    wire.cut_first();
    chain.client_says("link-down")?;
    chain.wait_until_open(mark)?;
    arrived(&chain, &held.go_on()?, "IN-FLIGHT");
    arrived(&chain, &chain.send(vec![file("NEXT")]), "NEXT");
    Ok(())
}

#[test]
fn a_cut_data_connection_ends_both_sides_of_its_session() -> Result<(), Trouble> {
    let mut chain = Plan::new().prepare()?;
    chain.start_server()?;
    let wire = Recorder::start(chain.link_address().parse().unwrap())?;
    chain.client = Some(client_through(&chain, wire.address())?);
    chain.wait_until_open(Mark::default())?;
    let held = hold(&chain, "CUT")?;
    wire.cut_all_but_first();
    let report = held.go_on()?;
    assert!(report.failure.is_some(), "{report:?}");
    chain.client_says("data-connection-lost")?;
    let record = chain.scripted_backend().wait_for_record("a session record", PATIENCE, |_| true)?;
    assert_eq!(record["outcome"], "aborted", "{record}");
    assert_eq!(record["files"][0]["result"], "incomplete", "{record}");
    Ok(())
}

#[test]
fn a_second_use_of_a_pairing_token_and_a_guessed_one_are_refused() -> Result<(), Trouble> {
    let mut chain = Plan::new().prepare()?;
    chain.start_server()?;
    let wire = Recorder::start(chain.link_address().parse().unwrap())?;
    chain.client = Some(client_through(&chain, wire.address())?);
    chain.wait_until_open(Mark::default())?;
    let held = hold(&chain, "FIRST")?;
    let said = wire.wait_for(2, PREAMBLE)?;
    let used = said[1][..PREAMBLE].to_vec();
    assert_eq!(&used[..8], b"SEONLINK");
    assert!(used[10..].iter().any(|octet| *octet != 0), "the second connection has a pairing token");

    let mut guessed = used.clone();
    guessed[PREAMBLE - 1] ^= 1;
    for (preamble, refused) in [(used, 1), (guessed, 2)] {
        let answer = say(&chain.link_address(), &preamble);
        assert!(answer.is_empty(), "nothing is answered to it: {answer:?}");
        let seen = until(PATIENCE, || (count(chain.server(), "data-connection-refused") == refused).then_some(()));
        assert!(seen.is_some(), "one line each:\n{}", chain.server().last_lines(20));
    }
    arrived(&chain, &held.go_on()?, "FIRST");
    arrived(&chain, &chain.send(vec![file("NEXT")]), "NEXT");
    Ok(())
}

#[test]
fn nonsense_on_the_link_port_is_refused_with_one_line_each_and_disturbs_nobody() -> Result<(), Trouble> {
    let chain = Chain::start()?;
    let held = hold(&chain, "IN-FLIGHT")?;
    let nonsense: [&[u8]; 4] = [
        b"GET / HTTP/1.1\r\nHost: proxy\r\n\r\n012345678901234567890123456789",
        &[0; 200],
        b"SEONLINK\x09\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
        b"SEONLINK\x01\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0no TLS at all, only text",
    ];
    for (number, octets) in nonsense.into_iter().enumerate() {
        say(&chain.link_address(), octets);
        let seen = until(PATIENCE, || (count(chain.server(), "link-refused") == number + 1).then_some(()));
        assert!(seen.is_some(), "one line for each of {}:\n{}", number + 1, chain.server().last_lines(20));
    }
    // One that says nothing is closed too.
    say(&chain.link_address(), b"");
    arrived(&chain, &held.go_on()?, "IN-FLIGHT");
    arrived(&chain, &chain.send(vec![file("NEXT")]), "NEXT");
    assert_eq!(count(chain.server(), "link-down"), 0);
    Ok(())
}

#[test]
fn a_client_whose_key_is_not_licensed_does_not_link() -> Result<(), Trouble> {
    let mut chain = Plan::new().prepare()?;
    chain.start_server()?;
    let other = SecurityToken::new_random().unwrap();
    take_token_too(&chain, &other);
    chain.scratch.write("token", other.reveal())?;
    chain.start_client()?;
    chain.server_says("link-client-unlicensed")?;
    assert!(!is_open(&chain.partner_address()));
    assert_eq!(count(chain.server(), "link-up"), 0);
    Ok(())
}

#[test]
fn a_server_with_another_proxy_id_is_not_linked_to() -> Result<(), Trouble> {
    let other = format!("{}px", "ab".repeat(32));
    let configured = other.clone();
    let mut chain = Plan::new().configure(move |config| config["proxy_id"] = json!(configured)).prepare()?;
    chain.start_server()?;
    chain.start_client()?;
    let line = chain.client_says("link-server-wrong")?;
    let (seen, expected) = (format!("its Proxy ID is {}", chain.proxy_id), format!("expects {other}"));
    assert!(line.contains(&seen) && line.contains(&expected), "{line}");
    assert!(!is_open(&chain.partner_address()));
    assert_eq!(count(chain.server(), "link-up"), 0);
    Ok(())
}

#[test]
fn a_second_client_is_refused_by_name_and_the_first_one_serves_on() -> Result<(), Trouble> {
    let mut chain = Plan::new().prepare()?;
    let token = SecurityToken::new_random().unwrap();
    let line = license::client_line(&LinkKey::derive(&token), Some("second"));
    let licence = std::fs::read_to_string(chain.scratch.path().join("seon_proxy.lic")).unwrap();
    chain.scratch.write("seon_proxy.lic", format!("{licence}{line}\n"))?;
    chain.start_server()?;
    chain.start_client()?;
    chain.wait_until_open(Mark::default())?;

    take_token_too(&chain, &token);
    let file_with_token = chain.scratch.write("second-token", token.reveal())?;
    let second = second_client(&chain, Some(format!("@{}", file_with_token.display())))?;
    is_refused_as_second(&chain, &second)
}

#[test]
fn a_second_client_with_the_same_token_does_not_take_the_link_from_the_first() -> Result<(), Trouble> {
    let chain = Chain::start()?;
    let second = second_client(&chain, None)?;
    is_refused_as_second(&chain, &second)
}

/// Another client as usual, with a state of its own and perhaps another token.
fn second_client(chain: &Chain, token: Option<String>) -> Result<Process, Trouble> {
    let state = chain.scratch.directory("state/second")?;
    let usual = chain.client_command()?;
    let mut arguments: Vec<OsString> = usual.get_args().map(ToOwned::to_owned).collect();
    replace(&mut arguments, "--state-dir", state.into_os_string());
    if let Some(token) = token {
        replace(&mut arguments, "-T", token.into());
    }
    let installed = chain.scratch.install(Path::new(usual.get_program()), "second")?;
    Process::start("second proxyclient", Command::new(installed).args(arguments))
}

fn is_refused_as_second(chain: &Chain, second: &Process) -> Result<(), Trouble> {
    chain.server_says("link-second-client")?;
    second.wait_for_text(" link-second-client ")?;
    arrived(chain, &chain.send(vec![file("FIRST")]), "FIRST");
    assert_eq!(count(chain.server(), "link-up"), 1);
    assert_eq!(count(chain.server(), "link-down"), 0);
    Ok(())
}

#[test]
fn a_proxyserver_without_a_usable_licence_says_so_and_ends() -> Result<(), Trouble> {
    let chain = Plan::new().prepare()?;
    let good = std::fs::read_to_string(chain.scratch.path().join("seon_proxy.lic")).unwrap();
    let without_client: String =
        good.lines().filter(|line| !line.starts_with("client:")).map(|line| format!("{line}\n")).collect();
    let cases = [
        ("altered", good.replacen("Harness", "Somebody", 1)),
        ("for another Proxy ID", good.replacen(&chain.proxy_id[..8], "00000000", 1)),
        ("without a client", without_client),
        ("empty", String::new()),
    ];
    for (what, licence) in cases {
        chain.scratch.write("seon_proxy.lic", licence)?;
        let server = Process::start("proxyserver", &mut chain.server_command()?)?;
        // The Proxy ID helps to get a licence.
        server.wait_for_text(&chain.proxy_id)?;
        assert!(!server.wait_for_end()?.success(), "{what}");
    }
    std::fs::remove_file(chain.scratch.path().join("seon_proxy.lic")).unwrap();
    let server = Process::start("proxyserver", &mut chain.server_command()?)?;
    server.wait_for_text(&chain.proxy_id)?;
    assert!(!server.wait_for_end()?.success());
    Ok(())
}
