//! What of the configuration is for outgoing sessions, and what happens when it changes.

use std::net::{TcpListener, TcpStream};

use serde_json::json;
use tests::harness::{Chain, Held, PATIENCE, Plan, Trouble, free_port, made_octets, until};
use tests::station::{OutgoingFile, Security, Settings, Via};

use crate::scene::{SIZE, arrived, event, file, http_refusal, recorded, told};

fn count(chain: &Chain, code: &str) -> usize {
    chain.client().lines().iter().filter(|line| line.contains(&format!(" {code} "))).count()
}

fn hold(chain: &Chain, dataset: &str) -> Result<Held, Trouble> {
    let settings = Settings { via: Some(chain.http()), ..chain.inside_settings() };
    let file = OutgoingFile::from_octets(dataset, made_octets(SIZE));
    Held::start(&chain.called_at(0), &Security::Plain, &settings, file, 100_000)
}

fn closed(address: &str) -> bool {
    until(PATIENCE, || TcpStream::connect(address).is_err().then_some(())).is_some()
}

#[test]
fn without_an_entry_outgoing_is_off_and_one_line_says_so() -> Result<(), Trouble> {
    let chain = Plan::new()
        .poll_every(1)
        .outgoing()?
        .configure(|config| config["clients"][0]["address"] = json!("192.0.2.99"))
        .start()?;
    chain.client_says("outgoing-off")?;
    let port = chain.config["clients"][0]["listen_port"].as_u64().unwrap();
    assert!(TcpStream::connect(format!("127.0.0.1:{port}")).is_err());
    // Another configuration that does not ask for it either is no news.
    let mark = chain.client().mark();
    chain.reconfigure(|config| config["limits"] = json!({ "max_sessions": 77 }));
    told(chain.client(), mark, "configuration-taken")?;
    assert_eq!(count(&chain, "outgoing-off"), 1);
    // Incoming sessions are not touched by that.
    let report = chain.send(file("IN"));
    assert!(report.went_well(true), "{report:?}");
    Ok(())
}

/// Of several entries that one counts whose address is of this host; `::1` is 127.0.0.1 by another name.
#[test]
fn the_entry_with_an_address_of_the_host_is_taken_in_each_of_its_forms() -> Result<(), Trouble> {
    for address in ["127.0.0.1", "::1", "::ffff:127.0.0.1"] {
        let chain = Plan::new()
            .outgoing()?
            .configure(move |config| {
                let mut own = config["clients"][0].clone();
                own["address"] = json!(address);
                config["clients"][0]["address"] = json!("192.0.2.99");
                config["clients"].as_array_mut().unwrap().push(own);
            })
            .start()?;
        let line = chain.client_says("outgoing-port-open")?;
        let at = format!("127.0.0.1:{}", chain.config["clients"][1]["listen_port"]);
        assert!(line.contains(&at), "{address}: {line}");
        let partner = chain.partner_listens(0)?;
        let report = chain.call_via(Via::Http(at), &chain.called_at(0), file("TAKEN"))?;
        arrived(&chain, 0, "TAKEN", &report, &partner);
    }
    Ok(())
}

#[test]
fn a_changed_entry_moves_the_listener_and_no_session_notices() -> Result<(), Trouble> {
    let chain = Plan::new().poll_every(1).outgoing()?.start()?;
    let partner = chain.partner_listens(0)?;
    let held = hold(&chain, "HELD")?;
    let new = free_port()?;
    let mark = chain.client().mark();
    chain.reconfigure(|config| config["clients"][0]["listen_port"] = json!(new));
    let line = told(chain.client(), mark, "outgoing-port-open")?;
    assert!(line.contains(&new.to_string()), "{line}");
    assert!(closed(&chain.proxy_address()), "the old port is still open");
    let via = Via::Http(format!("127.0.0.1:{new}"));
    let report = chain.call_via(via, &chain.called_at(0), file("MOVED"))?;
    arrived(&chain, 0, "MOVED", &report, &partner);
    let report = held.go_on()?;
    arrived(&chain, 0, "HELD", &report, &partner);
    Ok(())
}

#[test]
fn a_removed_entry_closes_the_listener_and_no_session_notices() -> Result<(), Trouble> {
    let chain = Plan::new().poll_every(1).outgoing()?.start()?;
    let partner = chain.partner_listens(0)?;
    let held = hold(&chain, "HELD")?;
    let mark = chain.client().mark();
    chain.reconfigure(|config| config["clients"] = json!([]));
    told(chain.client(), mark, "outgoing-off")?;
    assert!(closed(&chain.proxy_address()), "the port is still open");
    let report = held.go_on()?;
    arrived(&chain, 0, "HELD", &report, &partner);
    // And back again.
    let mark = chain.client().mark();
    chain.reconfigure(|_| {});
    told(chain.client(), mark, "outgoing-port-open")?;
    let report = chain.call(file("BACK"))?;
    arrived(&chain, 0, "BACK", &report, &partner);
    Ok(())
}

#[test]
fn a_port_that_somebody_else_has_is_told_of_and_incoming_sessions_go_on() -> Result<(), Trouble> {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let chain = Plan::new()
        .poll_every(1)
        .outgoing()?
        .configure(move |config| config["clients"][0]["listen_port"] = json!(port))
        .start()?;
    let line = told(chain.client(), Default::default(), "outgoing-port-unavailable")?;
    assert!(line.contains(&port.to_string()), "{line}");
    event(&chain, "outgoing-port-unavailable");
    let report = chain.send(file("IN"));
    assert!(report.went_well(true), "{report:?}");
    Ok(())
}

#[test]
fn a_partner_that_no_longer_stands_loses_its_outgoing_session() -> Result<(), Trouble> {
    let chain = Plan::new().poll_every(1).outgoing()?.start()?;
    let partner = chain.partner_listens(0)?;
    let held = hold(&chain, "HELD")?;
    let mark = chain.client().mark();
    chain.reconfigure(|config| config["partners"][0]["enabled"] = json!(false));
    told(chain.client(), mark, "session-withdrawn")?;
    let report = held.go_on()?;
    assert!(!report.went_well(false), "{report:?}");
    assert!(partner.next_session(PATIENCE).is_some_and(|taken| !taken.went_well(false)));
    let report = chain.call(file("NEVER"))?;
    assert!(matches!(http_refusal(&report), Some((403, _))), "{report:?}");
    Ok(())
}

#[test]
fn an_outgoing_ip_that_the_host_does_not_have_ends_the_proxyserver_with_an_event() -> Result<(), Trouble> {
    let mut chain =
        Plan::new().outgoing()?.configure(|config| config["outgoing_ip"] = json!("192.0.2.99")).prepare()?;
    chain.start_server()?;
    chain.start_client()?;
    let line = told(chain.server(), Default::default(), "outgoing-ip-unavailable")?;
    assert!(line.contains("192.0.2.99"), "{line}");
    // The exit code of its own.
    assert_eq!(chain.server().wait_for_end()?.code(), Some(11));
    let event = event(&chain, "outgoing-ip-unavailable");
    assert_eq!((&event["severity"], &event["component"]), (&json!("fatal"), &json!("proxyserver")), "{event}");
    Ok(())
}

#[test]
fn a_partners_own_outgoing_ip_that_the_host_does_not_have_fails_that_partner_alone() -> Result<(), Trouble> {
    let chain = Plan::new()
        .partners(&["ACME", "HOME"])
        .outgoing()?
        .configure(|config| config["partners"][0]["outgoing_ip"] = json!("192.0.2.99"))
        .start()?;
    let (_acme, home) = (chain.partner_listens(0)?, chain.partner_listens(1)?);
    let report = chain.call(file("NEVER"))?;
    assert!(matches!(http_refusal(&report), Some((502, _))), "{report:?}");
    let line = told(chain.server(), Default::default(), "call-source-unavailable")?;
    assert!(line.contains("192.0.2.99"), "{line}");
    event(&chain, "call-source-unavailable");
    recorded(&chain, "call-source-unavailable");
    let report = chain.call_via(chain.http(), &chain.called_at(1), file("HOME"))?;
    arrived(&chain, 1, "HOME", &report, &home);
    assert!(chain.server().status().is_none());
    Ok(())
}

#[test]
fn partners_are_called_where_no_address_to_listen_on_is_configured() -> Result<(), Trouble> {
    let chain = Plan::new().outgoing()?.poll_every(1).start()?;
    let mut config = chain.config.clone();
    config["listen"]["addresses"] = json!([]);
    chain.scripted_backend().set_config(config);
    let line = chain.server_says("partner-port-closed")?;
    assert!(line.contains("names no address to listen on"), "{line}");
    let partner = chain.partner_listens(0)?;
    let report = chain.call(file("CALLED"))?;
    arrived(&chain, 0, "CALLED", &report, &partner);
    assert_eq!(count(&chain, "snapshot-refused"), 0);
    let mark = chain.server().mark();
    chain.scripted_backend().set_config(chain.config.clone());
    chain.wait_until_open(mark)
}
