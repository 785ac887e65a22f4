//! Sessions that never come to be because something inside does not do its part.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, SockaddrIn, bind, getsockname, listen, socket};
use nix::unistd::Pid;
use serde_json::json;
use tests::harness::{Chain, Held, PATIENCE, Plan, Process, Trouble, made_octets, table, until};
use tests::station::OutgoingFile;

/// A process that does nothing for a while.
struct Stopped(Pid);

impl Stopped {
    fn process(pid: i32) -> Self {
        kill(Pid::from_raw(pid), Signal::SIGSTOP).unwrap();
        Self(Pid::from_raw(pid))
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        // It may have ended.
        let _ = kill(self.0, Signal::SIGCONT);
    }
}

fn of_role(daemon: &Process, role: &str) -> Option<i32> {
    table::below(daemon.pid()).into_iter().find(|entry| entry.name.starts_with(role)).map(|entry| entry.pid)
}

fn file() -> Vec<OutgoingFile> {
    vec![OutgoingFile::from_octets("A", made_octets(1000))]
}

fn with_short_patience(plan: Plan) -> Result<Chain, Trouble> {
    let limits = json!({ "handshake_timeout_s": 8, "pairing_timeout_s": 8 });
    plan.configure(|config| config["limits"] = limits).start()
}

#[test]
fn an_agent_that_does_not_sign_costs_the_handshake() -> Result<(), Trouble> {
    let chain = with_short_patience(Plan::new())?;
    let agent = Stopped::process(of_role(chain.client(), "agent").expect("the agent runs"));
    let report = chain.send(file());
    assert!(report.failure.is_some() && report.agreement.is_none(), "{report:?}");
    chain.server_says("signing-failed")?;
    drop(agent);
    Ok(())
}

#[test]
fn an_inside_that_forks_no_session_costs_the_pairing() -> Result<(), Trouble> {
    let chain = with_short_patience(Plan::new())?;
    let gate = Stopped::process(chain.client().pid());
    let report = chain.send(file());
    assert!(report.failure.is_some() && report.agreement.is_none(), "{report:?}");
    chain.server_says("pairing-timeout")?;
    drop(gate);
    Ok(())
}

/// A port that takes no connection and refuses none: its queue is full.
fn full_port() -> (OwnedFd, Vec<TcpStream>, SocketAddr) {
    let port = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
    bind(port.as_raw_fd(), &SockaddrIn::from(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0))).unwrap();
    listen(&port, Backlog::new(0).unwrap()).unwrap();
    let bound: SockaddrIn = getsockname(port.as_raw_fd()).unwrap();
    let address = SocketAddr::from(SocketAddrV4::new(bound.ip(), bound.port()));
    let mut waiting = Vec::new();
    while let Ok(connection) = TcpStream::connect_timeout(&address, Duration::from_millis(500)) {
        assert!(waiting.len() < 100, "the queue never fills");
        waiting.push(connection);
    }
    (port, waiting, address)
}

#[test]
fn a_session_inside_that_crashes_before_it_is_paired_costs_the_pairing() -> Result<(), Trouble> {
    let (_port, _waiting, address) = full_port();
    let limits = json!({ "pairing_timeout_s": 120 });
    let chain = Plan::new().receive_daemon_at(address).configure(|config| config["limits"] = limits).start()?;
    let (to, security, settings) = (chain.partner_address(), chain.security(), chain.settings());
    let call = thread::spawn(move || tests::station::send(&to, &security, &settings, file()));
    let session = until(PATIENCE, || of_role(chain.client(), "session")).expect("it waits for the receive daemon");
    kill(Pid::from_raw(session), Signal::SIGABRT).unwrap();
    chain.client_says("session-crashed")?;
    let line = chain.server_says("pairing-refused")?;
    assert!(line.contains("process"), "{line}");
    assert!(call.join().unwrap().failure.is_some());
    Ok(())
}

#[test]
fn a_running_session_that_does_not_obey_and_is_killed_leaves_a_record() -> Result<(), Trouble> {
    let chain = Chain::start()?;
    let file = OutgoingFile::from_octets("STUCK", made_octets(2_000_000));
    let held = Held::start(&chain.partner_address(), &chain.security(), &chain.settings(), file, 500_000)?;
    let session = Stopped::process(until(PATIENCE, || of_role(chain.client(), "session")).expect("it runs"));
    chain.client().signal(Signal::SIGHUP);
    let detail = |record: &serde_json::Value| record["detail"].as_str().unwrap_or_default().to_owned();
    let told = |record: &serde_json::Value| detail(record).contains("ended without a record");
    chain.scripted_backend().wait_for_record("of the session that was killed", PATIENCE, told)?;
    assert!(chain.client().wait_for_end()?.success());
    let stopped = |event: &serde_json::Value| event["code"] == "client-stopped";
    assert!(chain.scripted_backend().events().iter().any(stopped), "{:#?}", chain.scripted_backend().events());
    drop((held, session));
    Ok(())
}

#[test]
fn a_running_session_whose_process_is_killed_leaves_a_line_an_event_and_a_record() -> Result<(), Trouble> {
    let chain = Chain::start()?;
    for (of, crashes) in [("inside", false), ("inside", true), ("dmz", false)] {
        let file = OutgoingFile::from_octets("KILLED", made_octets(2_000_000));
        let held = Held::start(&chain.partner_address(), &chain.security(), &chain.settings(), file, 500_000)?;
        let daemon = if of == "inside" { chain.client() } else { chain.server() };
        let session = until(PATIENCE, || of_role(daemon, "session")).expect("it runs");
        let (signal, code) =
            if crashes { (Signal::SIGABRT, "session-crashed") } else { (Signal::SIGKILL, "session-killed") };
        let before = daemon.lines().iter().filter(|line| line.contains(code)).count();
        kill(Pid::from_raw(session), signal).unwrap();
        let told = || (daemon.lines().iter().filter(|line| line.contains(code)).count() > before).then_some(());
        assert!(until(PATIENCE, told).is_some(), "{of} {code}");
        assert!(held.go_on()?.failure.is_some());
        let component = if of == "inside" { "proxyclient" } else { "proxyserver" };
        let event = |event: &serde_json::Value| event["code"] == code && event["component"] == component;
        let events = || chain.scripted_backend().events();
        assert!(until(PATIENCE, || events().iter().any(event).then_some(())).is_some(), "{of} {code}: {:#?}", events());
    }
    // Inside it is the agent that writes the record; where the DMZ's process went, its partner inside does.
    let partner = |record: &serde_json::Value| record["partner"].is_string();
    let records = || chain.scripted_backend().session_records();
    let three = || (records().iter().filter(|record| partner(record)).count() == 3).then_some(());
    assert!(until(PATIENCE, three).is_some(), "{:#?}", records());
    let told = |record: &serde_json::Value| record["detail"].as_str().unwrap_or_default().to_owned();
    let of_code = |code: &str| records().iter().filter(|record| told(record).starts_with(code)).count();
    assert_eq!((of_code("session-killed"), of_code("session-crashed")), (1, 1), "{:#?}", records());
    Ok(())
}
