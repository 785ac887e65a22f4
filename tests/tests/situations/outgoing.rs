//! Why an inside station cannot call a partner: the entry of the proxyclient's host in `clients`.

use std::net::TcpListener;

use serde_json::json;
use tests::harness::{Chain, Mark, Plan, Trouble, made_octets};
use tests::station::OutgoingFile;

/// An address that no host has (RFC 5737).
const NOBODYS: &str = "192.0.2.1";

/// Starts the daemons as they are configured.
fn start(mut chain: Chain) -> Result<Chain, Trouble> {
    chain.start_server()?;
    chain.start_client()?;
    chain.wait_until_open(Mark::default())?;
    Ok(chain)
}

#[test]
fn without_an_entry_for_this_host_outgoing_sessions_are_off_and_that_is_told() -> Result<(), Trouble> {
    let entry = |config: &mut serde_json::Value| config["clients"][0]["address"] = json!(NOBODYS);
    let chain = start(Plan::new().outgoing()?.configure(entry).prepare()?)?;
    let line = chain.client_says("outgoing-off")?;
    assert!(line.contains(NOBODYS), "{line}");
    Ok(())
}

#[test]
fn a_port_for_inside_stations_that_another_program_holds_is_tried_until_it_is_free() -> Result<(), Trouble> {
    let chain = Plan::new().outgoing()?.prepare()?;
    let holder = TcpListener::bind(chain.proxy_address()).unwrap();
    let chain = start(chain)?;
    let line = chain.client_says("outgoing-port-unavailable")?;
    assert!(line.contains(&chain.proxy_address()), "{line}");
    drop(holder);
    chain.client_says("outgoing-port-open")?;
    Ok(())
}

#[test]
fn a_station_that_may_not_call_is_refused_and_told() -> Result<(), Trouble> {
    let others = |config: &mut serde_json::Value| config["clients"][0]["allow_from"] = json!([NOBODYS]);
    let chain = start(Plan::new().outgoing()?.configure(others).prepare()?)?;
    chain.client_says("outgoing-port-open")?;
    let report = chain.call(vec![OutgoingFile::from_octets("A", made_octets(10))])?;
    assert!(report.failure.is_some() && report.agreement.is_none(), "{report:?}");
    let line = chain.client_says("outgoing-station-refused")?;
    assert!(line.contains("127.0.0.1"), "{line}");
    Ok(())
}
