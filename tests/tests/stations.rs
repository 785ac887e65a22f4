//! The ports of the proxyclient for inside stations: where they are, who may use them, and how many may be silent there.
//! No proxyserver is needed: a station whose request is read is told that there is no link.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Instant;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tests::harness::{Chain, PATIENCE, Plan, Trouble, free_port, table, until};

fn plan(edit: impl FnOnce(&mut Value) + 'static) -> Result<Chain, Trouble> {
    let mut chain = Plan::new().outgoing()?.poll_every(1).configure(edit).prepare()?;
    chain.start_client()?;
    Ok(chain)
}

fn connect(address: &str) -> TcpStream {
    let station = TcpStream::connect(address).unwrap();
    station.set_read_timeout(Some(PATIENCE)).unwrap();
    station
}

/// What a station is told until its connection ends; one that is closed with something unread is reset.
fn told(mut station: TcpStream) -> String {
    let mut told = Vec::new();
    if let Err(error) = station.read_to_end(&mut told) {
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}");
    }
    String::from_utf8_lossy(&told).into_owned()
}

/// Asks for the partner, and is told that there is no link: the port serves.
fn is_served(chain: &Chain, address: &str) {
    let mut station = connect(address);
    write!(station, "CONNECT {} HTTP/1.1\r\n\r\n", chain.called_at(0)).unwrap();
    let told = told(station);
    assert!(told.starts_with("HTTP/1.1 503 Service Unavailable (link-down)"), "{told}");
}

fn is_closed(address: &str) {
    let closed = until(PATIENCE, || TcpStream::connect(address).is_err().then_some(()));
    assert!(closed.is_some(), "{address} is still open");
}

fn event(chain: &Chain, code: &str) -> Value {
    let found = until(PATIENCE, || chain.scripted_backend().events().into_iter().find(|event| event["code"] == code));
    found.unwrap_or_else(|| panic!("no event {code}: {:?}", chain.scripted_backend().events()))
}

#[test]
fn without_an_entry_for_this_host_outgoing_sessions_are_off_and_a_line_says_so() -> Result<(), Trouble> {
    let chain = plan(|config| config["clients"][0]["address"] = json!("192.0.2.1"))?;
    let line = chain.client_says("outgoing-off")?;
    assert!(line.contains("there are entries for 192.0.2.1"), "{line}");
    event(&chain, "outgoing-off");
    assert!(TcpStream::connect(format!("127.0.0.1:{}", chain.config["clients"][0]["listen_port"])).is_err());
    // An address that counts as one of every host's.
    let mark = chain.client().mark();
    chain.reconfigure(|config| config["clients"][0]["address"] = json!("::ffff:127.0.0.1"));
    let open = chain.client().wait_after(mark, "outgoing-port-open", |line| line.contains(" outgoing-port-open "))?;
    assert!(open.contains("address=127.0.0.1:"), "{open}");
    event(&chain, "outgoing-port-open");
    // None at all.
    let mark = chain.client().mark();
    chain.reconfigure(|config| config["clients"] = json!([]));
    chain.client().wait_after(mark, "outgoing-off", |line| line.contains(" outgoing-off "))?;
    is_closed(&chain.proxy_address().replace("192.0.2.1", "127.0.0.1"));
    Ok(())
}

#[test]
fn a_changed_entry_moves_the_ports_and_leaves_stations_alone() -> Result<(), Trouble> {
    let (own, moved) = (free_port()?, free_port()?);
    let chain = plan(move |config| config["partners"][0]["listen_port"] = json!(own))?;
    let first = chain.proxy_address();
    chain.client().wait_for("both ports", |line| line.contains(&format!("127.0.0.1:{own}: it leads to ACME")))?;
    is_served(&chain, &first);
    let mut kept = connect(&first);
    kept.write_all(b"CONNECT ").unwrap();
    assert_eq!(told(connect(&format!("127.0.0.1:{own}"))), "", "on a port of its own there is nothing to tell it in");

    chain.reconfigure(|config| {
        config["clients"][0]["listen_port"] = json!(moved);
        config["partners"][0]["enabled"] = json!(false);
    });
    chain
        .client()
        .wait_for("the port moves", |line| line.contains(&format!("outgoing-port-open address=127.0.0.1:{moved}")))?;
    is_closed(&first);
    is_closed(&format!("127.0.0.1:{own}"));
    let disabled = {
        let mut station = connect(&format!("127.0.0.1:{moved}"));
        write!(station, "CONNECT ACME:1 HTTP/1.1\r\n\r\n").unwrap();
        told(station)
    };
    assert!(disabled.starts_with("HTTP/1.1 403 "), "{disabled}");
    write!(kept, "{} HTTP/1.1\r\n\r\n", chain.called_at(0)).unwrap();
    let kept = told(kept);
    assert!(kept.starts_with("HTTP/1.1 403 "), "it is heard still, and by the new configuration: {kept}");
    Ok(())
}

#[test]
fn an_address_that_is_taken_is_told_and_opened_once_it_is_free() -> Result<(), Trouble> {
    let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = other.local_addr().unwrap().port();
    let chain = plan(move |config| config["clients"][0]["listen_port"] = json!(port))?;
    let line = chain.client_says("outgoing-port-unavailable")?;
    assert!(line.contains(&format!("address=127.0.0.1:{port}")), "{line}");
    event(&chain, "outgoing-port-unavailable");
    drop(other);
    chain.client_says("outgoing-port-open")?;
    is_served(&chain, &chain.proxy_address());
    Ok(())
}

#[test]
fn who_is_in_no_allow_from_is_closed_before_anything_is_read() -> Result<(), Trouble> {
    let chain = plan(|_| {})?;
    chain.client_says("outgoing-port-open")?;
    let address = chain.proxy_address();
    let from = "127.0.0.2".parse().unwrap();
    let mut stranger =
        proxydaemon::descriptors::connect(address.parse().unwrap(), Some(from), Instant::now() + PATIENCE).unwrap();
    stranger.set_nonblocking(false).unwrap();
    stranger.set_read_timeout(Some(PATIENCE)).unwrap();
    // It may be closed already.
    let _ = write!(stranger, "CONNECT {} HTTP/1.1\r\n\r\n", chain.called_at(0));
    assert_eq!(told(stranger), "");
    let line = chain.client_says("outgoing-station-refused")?;
    assert!(line.contains("peer=127.0.0.2:"), "{line}");
    event(&chain, "outgoing-station-refused");
    is_served(&chain, &address);
    Ok(())
}

#[test]
fn silent_stations_take_nobodys_place_and_are_told_when_their_time_is_over() -> Result<(), Trouble> {
    let chain = plan(|config| config["limits"] = json!({ "max_unverified": 3, "handshake_timeout_s": 15 }))?;
    chain.client_says("outgoing-port-open")?;
    let address = chain.proxy_address();
    let mut silent: Vec<_> = (0..4).map(|_| connect(&address)).collect();
    let oldest = silent.remove(0);
    // The fourth waits to be accepted until the first has had time enough to name a partner.
    assert_eq!(told(oldest), "", "the oldest one goes");
    let line = chain.client_says("limit-reached")?;
    assert!(line.contains("max_unverified"), "{line}");
    is_served(&chain, &address);
    // Another one has gone for it; the youngest begins a request, and does not end it.
    let mut begun = silent.pop().unwrap();
    begun.write_all(b"CONNECT acme").unwrap();
    let told = told(begun);
    assert!(told.starts_with("HTTP/1.1 408 Request Timeout"), "{told}");
    chain.client_says("outgoing-request-invalid")?;
    Ok(())
}

#[test]
fn a_gate_that_executes_itself_anew_keeps_ports_and_stations() -> Result<(), Trouble> {
    let chain = plan(|_| {})?;
    chain.client_says("outgoing-port-open")?;
    let address = chain.proxy_address();
    let gate = chain.client().pid();
    let sessions = || -> Vec<i32> {
        let below = table::below(gate).into_iter().filter(|entry| entry.name.starts_with("session"));
        below.map(|entry| entry.pid).collect()
    };
    let mut kept = connect(&address);
    kept.write_all(b"CONNECT ").unwrap();
    let kept_pid = until(PATIENCE, || sessions().first().copied()).expect("it has a process");
    for _ in 0..5 {
        let struck = connect(&address);
        let victim = until(PATIENCE, || sessions().into_iter().find(|pid| *pid != kept_pid)).expect("it has a process");
        kill(Pid::from_raw(victim), Signal::SIGABRT).unwrap();
        assert_eq!(told(struck), "");
        assert!(until(PATIENCE, || (sessions().len() == 1).then_some(())).is_some(), "{:?}", table::below(gate));
    }
    chain.client().wait_for_text("has executed itself anew; 1 sessions go on")?;
    is_served(&chain, &address);
    write!(kept, "{} HTTP/1.1\r\n\r\n", chain.called_at(0)).unwrap();
    assert!(told(kept).starts_with("HTTP/1.1 503 "));
    // It still hears of new places.
    let moved = free_port()?;
    chain.reconfigure(|config| config["clients"][0]["listen_port"] = json!(moved));
    chain
        .client()
        .wait_for("the port moves", |line| line.contains(&format!("outgoing-port-open address=127.0.0.1:{moved}")))?;
    is_closed(&address);
    Ok(())
}
