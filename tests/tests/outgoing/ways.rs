//! A file out to a partner, by each way in which a station can name one.

use serde_json::json;
use tests::harness::{Host, PATIENCE, Plan, Trouble, free_port, made_octets, network};
use tests::pki;
use tests::station::{self, OutgoingFile, Receiver, Security, Settings, Store};

use crate::scene::{SIZE, arrived, file, http_refusal};

#[test]
fn a_file_goes_out_by_connect_and_is_recorded() -> Result<(), Trouble> {
    let chain = Plan::new().outgoing()?.start()?;
    chain.client_says("outgoing-port-open")?;
    let partner = chain.partner_listens(0)?;
    let report = chain.call(file("INVOICES"))?;
    assert_eq!(report.protection, "plain TCP");
    let taken = arrived(&chain, 0, "INVOICES", &report, &partner);
    assert_eq!(report.agreement.as_ref().unwrap().peer_code, chain.partners[0].code);

    // The partner saw the proxy's certificate, which the DMZ has no key for.
    let identity = chain.config["identity"]["certificate_chain_pem"].as_str().unwrap().to_owned();
    let shown = pki::fingerprint(&station::Identity { chain_pem: identity, key_pem: String::new() });
    assert_eq!(taken.peer_fingerprints.first(), shown.as_ref());
    assert!(taken.protection.starts_with("TLSv1.3"), "{}", taken.protection);

    let record = chain.scripted_backend().wait_for_record("a session record", PATIENCE, |_| true)?;
    assert_eq!(record["direction"], "outgoing", "{record}");
    assert_eq!(record["partner"], "ACME");
    assert_eq!(record["ssid_code"], chain.partners[0].code);
    assert_eq!(record["outcome"], "completed");
    assert_eq!(record["peer_address"], chain.called_at(0));
    assert_eq!(record["certificate_sha256"], json!(pki::fingerprint(&chain.partners[0].identity)));
    assert_eq!(record["files"][0]["dataset_name"], "INVOICES");
    assert_eq!(record["files"][0]["direction"], "to_partner");
    assert_eq!(record["files"][0]["bytes"], SIZE);
    assert_eq!(record["files"][0]["result"], "acknowledged");
    assert!(record["bytes_to_partner"].as_u64().unwrap() > SIZE as u64, "{record}");
    assert!(record["tls_version"].is_string() && record["cipher_suite"].is_string(), "{record}");
    Ok(())
}

#[test]
fn socks5_and_connect_name_a_partner_by_host_name_and_by_both_kinds_of_address() -> Result<(), Trouble> {
    let chain = Plan::new()
        .partners(&["NAMED", "FOUR", "SIX"])
        .outgoing()?
        .configure(|config| {
            for (partner, host) in [(0, "localhost"), (2, "[::1]")] {
                let address = &mut config["partners"][partner]["address"];
                let port = address.as_str().unwrap().rsplit(':').next().unwrap().to_owned();
                *address = json!(format!("{host}:{port}"));
            }
        })
        .start()?;
    for (number, host) in ["localhost", "127.0.0.1", "[::1]"].into_iter().enumerate() {
        if host == "[::1]" && !network::has_ipv6() {
            network::skipped("a partner named by an IPv6 address", "this machine has no IPv6");
            continue;
        }
        let to = chain.called_at(number);
        assert!(to.starts_with(host), "{to}");
        let listen = to.replace("localhost", "127.0.0.1").parse().unwrap();
        let (security, settings) = (chain.called_security(number)?, chain.called_settings(number)?);
        let partner = chain.partner_listens_at(listen, number, security, settings)?;
        for (via, name) in [(chain.socks5(), "SOCKS5"), (chain.http(), "HTTP")] {
            let report = chain.call_via(via, &to, file(name))?;
            arrived(&chain, number, name, &report, &partner);
        }
    }
    Ok(())
}

/// The partner's name in the configuration does as well as its address.
#[test]
fn a_partner_is_called_by_its_name_in_the_configuration() -> Result<(), Trouble> {
    let chain = Plan::new().outgoing()?.start()?;
    let partner = chain.partner_listens(0)?;
    let port = chain.called_at(0).rsplit(':').next().unwrap().to_owned();
    for (via, name) in [(chain.http(), "HTTP"), (chain.socks5(), "SOCKS5")] {
        let report = chain.call_via(via, &format!("ACME:{port}"), file(name))?;
        arrived(&chain, 0, name, &report, &partner);
    }
    Ok(())
}

/// Two partners behind one address: the name says which is meant, and only that one is taken.
#[test]
fn partners_that_share_an_address_are_told_apart_by_their_names() -> Result<(), Trouble> {
    let chain = Plan::new()
        .partners(&["ACME", "HOME"])
        .outgoing()?
        .configure(|config| config["partners"][1]["address"] = config["partners"][0]["address"].clone())
        .start()?;
    let partner = chain.partner_listens(0)?;
    let address = chain.called_at(0);
    let report = chain.call_via(chain.http(), &address, file("NEVER"))?;
    let (status, sentence) = http_refusal(&report).expect("nobody can say which is meant");
    assert!(status == 403 && sentence.contains("ACME") && sentence.contains("HOME"), "{status} {sentence}");
    let port = address.rsplit(':').next().unwrap();
    let report = chain.call_via(chain.http(), &format!("ACME:{port}"), file("MEANT"))?;
    arrived(&chain, 0, "MEANT", &report, &partner);
    let report = chain.call_via(chain.http(), &format!("HOME:{port}"), file("NEVER"))?;
    assert!(matches!(http_refusal(&report), Some((502, _))), "ACME answers for HOME: {report:?}");
    Ok(())
}

#[test]
fn the_partners_own_port_leads_to_it_without_any_request() -> Result<(), Trouble> {
    let ports = [free_port()?, free_port()?];
    let chain = Plan::new()
        .partners(&["ACME", "HOME"])
        .outgoing()?
        .configure(move |config| {
            for (partner, port) in ports.into_iter().enumerate() {
                config["partners"][partner]["listen_port"] = json!(port);
            }
        })
        .start()?;
    chain.client_says("outgoing-port-open")?;
    for (number, port) in ports.into_iter().enumerate() {
        let partner = chain.partner_listens(number)?;
        let to = format!("127.0.0.1:{port}");
        let settings = chain.inside_settings();
        let report = station::send(&to, &Security::Plain, &settings, file("DIRECT"));
        arrived(&chain, number, "DIRECT", &report, &partner);
        assert_eq!(report.agreement.unwrap().peer_code, chain.partners[number].code);
    }
    Ok(())
}

#[test]
fn files_go_both_ways_in_one_outgoing_session() -> Result<(), Trouble> {
    let chain = Plan::new().outgoing()?.start()?;
    let store = Store::new(&chain.taken_by(0, "")?).unwrap();
    let back = OutgoingFile::from_octets("BACK", made_octets(700_000));
    let security = Security::Tls(chain.called_security(0)?);
    let listen = chain.called_at(0).parse().unwrap();
    let partner = Receiver::start(listen, &security, chain.called_settings(0)?, Some(store), vec![back])?;
    let own = Store::new(&chain.scratch.directory("fetched")?).unwrap();
    let settings = Settings { via: Some(chain.http()), ..chain.inside_settings() };
    let report = chain.at(Host::Inside, || {
        Ok(station::exchange(&chain.called_at(0), &Security::Plain, &settings, file("THERE"), Some(own)))
    })?;
    arrived(&chain, 0, "THERE", &report, &partner);
    assert_eq!(report.received[0].sha256, station::sha256(&made_octets(700_000)));
    let record = chain.scripted_backend().wait_for_record("a session record", PATIENCE, |_| true)?;
    let mut directions: Vec<_> = record["files"].as_array().unwrap().iter().map(|file| &file["direction"]).collect();
    directions.sort_by_key(|direction| direction.to_string());
    assert_eq!(directions, ["from_partner", "to_partner"], "{record}");
    Ok(())
}

/// As people try a set-up: two commands, and the proxy between them.
#[test]
fn the_station_command_calls_through_the_proxy() -> Result<(), Trouble> {
    let chain = Plan::new().outgoing()?.start()?;
    let partner = chain.partner_listens(0)?;
    let sent = chain.scratch.write("sent", made_octets(SIZE))?;
    for scheme in ["http", "socks5"] {
        let mut send = std::process::Command::new(env!("CARGO_BIN_EXE_oftp2_station"));
        send.args(["send", "--to", &chain.called_at(0), "--code", tests::harness::INSIDE_CODE]);
        send.args(["--dataset", scheme]).arg(format!("--via={scheme}://{}", chain.proxy_address())).arg(&sent);
        let said = tests::harness::Process::run("oftp2_station send --via", &mut send)?;
        assert!(said.contains("session ended normally"), "{said}");
        assert!(partner.next_session(PATIENCE).unwrap().went_well(false));
    }
    let mut refused = std::process::Command::new(env!("CARGO_BIN_EXE_oftp2_station"));
    refused.args(["send", "--to", "127.0.0.1:1", "--code", "X"]).arg(format!("--via=http://{}", chain.proxy_address()));
    let output = refused.output().unwrap();
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("the proxy refused: HTTP/1.1 403"), "{output:?}");
    Ok(())
}
