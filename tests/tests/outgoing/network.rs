//! Outgoing sessions with partner, DMZ and inside as hosts of their own: source addresses, names, time-outs, firewall.

use std::net::{IpAddr, SocketAddr};
use std::process::Command;
use std::sync::Arc;

use serde_json::json;
use tests::harness::{Chain, Host, Network, PATIENCE, Plan, Trouble, network};
use tests::station::{Receiver, Report};

use crate::scene::{arrived, event, file, http_refusal, recorded, told};

fn start(network: &Arc<Network>, edit: impl FnOnce(&mut serde_json::Value) + 'static) -> Result<Chain, Trouble> {
    Plan::new().partners(&["ACME", "HOME"]).in_network(network.clone()).outgoing()?.configure(edit).start()
}

/// The peer that a partner saw.
fn seen_by(chain: &Chain, partner: &Receiver, number: usize, dataset: &str) -> Result<IpAddr, Trouble> {
    let report = chain.call_via(chain.http(), &chain.called_at(number), file(dataset))?;
    let taken: Report = arrived(chain, number, dataset, &report, partner);
    Ok(taken.peer.expect("it was connected").ip())
}

#[test]
fn partners_are_called_from_outgoing_ip_and_the_dmz_opens_no_connection_inwards() -> Result<(), Trouble> {
    let Some(network) = Network::new_or_skip("partners are called from outgoing_ip")? else { return Ok(()) };
    let network = Arc::new(network);
    let chain = start(&network, |config| {
        config["outgoing_ip"] = json!(network::DMZ_SECOND);
        config["partners"][1]["outgoing_ip"] = json!(network::DMZ);
    })?;
    let (acme, home) = (chain.partner_listens(0)?, chain.partner_listens(1)?);
    assert_eq!(seen_by(&chain, &acme, 0, "COMMON")?, network::DMZ_SECOND);
    assert_eq!(seen_by(&chain, &home, 1, "OWN")?, network::DMZ);
    let record =
        chain.scripted_backend().wait_for_record("a record", PATIENCE, |record| record["partner"] == "ACME")?;
    assert_eq!(record["peer_address"], chain.called_at(0), "{record}");

    // A file comes in at the same time of life, and then the firewall is asked.
    let report = chain.send(file("IN"));
    assert!(report.went_well(true), "{report:?}");
    let counted = network.counted()?;
    assert!(counted.opened_by_inside >= 4, "the control connection and three data connections: {counted:?}");
    assert_eq!(counted.refused_to_dmz, 0, "{counted:?}");
    network.prove_that_the_firewall_counts()
}

#[test]
fn an_ipv6_partner_is_called_from_an_ipv6_outgoing_ip() -> Result<(), Trouble> {
    let Some(network) = Network::new_or_skip("an IPv6 partner is called")? else { return Ok(()) };
    if !network::has_ipv6() {
        network::skipped("an IPv6 partner is called", "this machine has no IPv6");
        return Ok(());
    }
    let network = Arc::new(network);
    let chain = start(&network, |config| {
        config["outgoing_ip"] = json!(network::DMZ_SECOND_V6);
        let port = config["partners"][0]["address"].as_str().unwrap().rsplit(':').next().unwrap().to_owned();
        config["partners"][0]["address"] = json!(format!("[{}]:{port}", network::PARTNER_V6));
    })?;
    let acme = chain.partner_listens(0)?;
    assert_eq!(seen_by(&chain, &acme, 0, "SIX")?, network::DMZ_SECOND_V6);
    // The common address is of one family: who has only the other one cannot be called from it, and is told so.
    let home = chain.partner_listens(1)?;
    let report = chain.call_via(chain.http(), &chain.called_at(1), file("NEVER"))?;
    assert!(matches!(http_refusal(&report), Some((502, _))), "{report:?}");
    drop(home);
    Ok(())
}

/// Nobody inside knows the name; the DMZ does.
#[test]
fn a_name_is_resolved_in_the_dmz_and_its_addresses_are_tried_in_turn() -> Result<(), Trouble> {
    let Some(network) = Network::new_or_skip("a name is resolved in the DMZ")? else { return Ok(()) };
    let network = Arc::new(network);
    let mut chain = Plan::new()
        .in_network(network.clone())
        .outgoing()?
        .configure(|config| {
            let port = config["partners"][0]["address"].as_str().unwrap().rsplit(':').next().unwrap().to_owned();
            config["partners"][0]["address"] = json!(format!("oftp2.acme.example:{port}"));
        })
        .prepare()?;
    // The first address has no host; whoever tries the first one alone fails.
    let hosts =
        format!("127.0.0.1 localhost\n198.51.100.99 oftp2.acme.example\n{} oftp2.acme.example\n", network::PARTNER);
    let hosts = chain.scratch.write("hosts", hosts)?;
    chain.start_server_with_hosts(&hosts)?;
    chain.start_client()?;
    chain.wait_until_open(Default::default())?;
    chain.client_says("outgoing-port-open")?;
    let port: u16 = chain.called_at(0).rsplit(':').next().unwrap().parse().unwrap();
    let at = SocketAddr::new(network::PARTNER, port);
    let acme = chain.partner_listens_at(at, 0, chain.called_security(0)?, chain.called_settings(0)?)?;
    for (via, name) in [(chain.http(), "HTTP"), (chain.socks5(), "SOCKS5")] {
        let report = chain.call_via(via, &chain.called_at(0), file(name))?;
        arrived(&chain, 0, name, &report, &acme);
    }
    // Its address is not what stands in the configuration: the inside resolves nothing, and so does not know it.
    let report = chain.call_via(chain.http(), &at.to_string(), file("NEVER"))?;
    assert!(matches!(http_refusal(&report), Some((403, _))), "{report:?}");
    Ok(())
}

#[test]
fn a_host_that_drops_what_comes_ends_in_a_time_out() -> Result<(), Trouble> {
    let Some(network) = Network::new_or_skip("a host that drops what comes")? else { return Ok(()) };
    let network = Arc::new(network);
    let mut drop_all = Command::new("ip");
    // The partner's host takes no connection, and says nothing of it.
    drop_all.args(["route", "replace", "blackhole", &network::DMZ.to_string()]);
    let chain = start(&network, |config| config["limits"] = json!({ "handshake_timeout_s": 3 }))?;
    network.host(Host::Partner).run("ip route", &mut drop_all)?;
    let report = chain.call(file("NEVER"))?;
    assert!(matches!(http_refusal(&report), Some((502 | 504, _))), "{report:?}");
    told(chain.server(), Default::default(), "call-timeout")?;
    event(&chain, "call-timeout");
    let record = recorded(&chain, "call-timeout");
    assert_eq!(record["outcome"], "timeout", "{record}");
    Ok(())
}

#[test]
fn an_outgoing_ip_that_goes_missing_ends_the_proxyserver_or_fails_one_partner() -> Result<(), Trouble> {
    let Some(network) = Network::new_or_skip("an outgoing_ip that goes missing")? else { return Ok(()) };
    let network = Arc::new(network);
    let chain = start(&network, |config| {
        config["outgoing_ip"] = json!(network::DMZ);
        config["partners"][0]["outgoing_ip"] = json!(network::DMZ_SECOND);
    })?;
    let (acme, home) = (chain.partner_listens(0)?, chain.partner_listens(1)?);
    assert_eq!(seen_by(&chain, &acme, 0, "BEFORE")?, network::DMZ_SECOND);
    network.host(Host::Dmz).ip(&format!("address delete {}/24 dev partner", network::DMZ_SECOND))?;
    let report = chain.call(file("NEVER"))?;
    assert!(matches!(http_refusal(&report), Some((502, _))), "{report:?}");
    told(chain.server(), Default::default(), "call-source-unavailable")?;
    assert_eq!(seen_by(&chain, &home, 1, "STILL")?, network::DMZ);
    assert!(chain.server().status().is_none());
    Ok(())
}
