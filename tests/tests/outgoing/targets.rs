//! Only configured partners can be called: the proxy is no way to anywhere else.

use std::net::{TcpListener, TcpStream};

use serde_json::json;
use tests::harness::{PATIENCE, Plan, Trouble, free_port};

use crate::scene::{arrived, event, file, http_refusal, say, socks5_refusal, told, until_closed};

/// A host where something listens that nobody may reach through the proxy.
struct Decoy(TcpListener);

impl Decoy {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        Self(listener)
    }

    fn port(&self) -> u16 {
        self.0.local_addr().unwrap().port()
    }

    fn assert_untouched(&self) {
        let error = self.0.accept().expect_err("somebody was connected to the decoy");
        assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
    }
}

fn port_of(address: &str) -> &str {
    address.rsplit(':').next().unwrap()
}

#[test]
fn what_is_no_partners_address_is_refused_in_both_protocols_and_told() -> Result<(), Trouble> {
    let chain = Plan::new()
        .partners(&["ACME", "GONE"])
        .outgoing()?
        .configure(|config| config["partners"][1]["enabled"] = json!(false))
        .start()?;
    let decoy = Decoy::new();
    let partner = chain.partner_listens(0)?;
    let disabled = chain.partner_listens(1)?;
    let (acme, gone) = (chain.called_at(0), chain.called_at(1));
    let port = port_of(&acme);
    let decoy_port = decoy.port();
    let targets = [
        // Something else on the partner's host, and on the proxy's own hosts.
        format!("127.0.0.1:{decoy_port}"),
        format!("ACME:{decoy_port}"),
        chain.receive_address.to_string(),
        chain.link_address(),
        chain.partner_address(),
        chain.proxy_address(),
        // The right port somewhere else, and spellings that some resolver would take for the partner's address.
        format!("localhost:{decoy_port}"),
        format!("127.0.0.2:{port}"),
        format!("127.1:{port}"),
        format!("2130706433:{port}"),
        format!("0x7f000001:{port}"),
        format!("127.0.0.1.evil.example:{port}"),
        format!("ACMEX:{port}"),
        format!("[::1]:{port}"),
        format!("0.0.0.0:{port}"),
        "169.254.169.254:80".into(),
        "partner.example:6619".into(),
        // A partner that is disabled, by both of its names.
        gone.clone(),
        format!("GONE:{}", port_of(&gone)),
    ];
    for target in &targets {
        let report = chain.call_via(chain.http(), target, file("NEVER"))?;
        let refused = http_refusal(&report);
        assert!(matches!(&refused, Some((403, sentence)) if !sentence.is_empty()), "{target}: {report:?}");
        let report = chain.call_via(chain.socks5(), target, file("NEVER"))?;
        // RFC 1928, 6: connection not allowed by ruleset.
        assert_eq!(socks5_refusal(&report), Some(2), "{target}: {report:?}");
    }
    decoy.assert_untouched();
    let first = event(&chain, "outgoing-target-refused");
    assert!(first["message"].as_str().unwrap().contains("127.0.0.1"), "{first}");
    told(chain.client(), Default::default(), "outgoing-target-refused")?;
    // Nobody was called, and who may be called still is.
    drop(disabled);
    let report = chain.call(file("STILL"))?;
    arrived(&chain, 0, "STILL", &report, &partner);
    assert!(partner.next_session(std::time::Duration::ZERO).is_none());
    Ok(())
}

#[test]
fn http_knows_connect_alone() -> Result<(), Trouble> {
    let chain = Plan::new().outgoing()?.start()?;
    let decoy = Decoy::new();
    let (acme, elsewhere) = (chain.called_at(0), format!("127.0.0.1:{}", decoy.port()));
    let requests = [
        format!("GET http://{elsewhere}/ HTTP/1.1\r\nHost: {elsewhere}\r\n\r\n"),
        format!("GET http://{acme}/ HTTP/1.1\r\nHost: {acme}\r\n\r\n"),
        format!("POST / HTTP/1.1\r\nHost: {acme}\r\nContent-Length: 0\r\n\r\n"),
        format!("OPTIONS * HTTP/1.1\r\nHost: {acme}\r\n\r\n"),
        // One target in the request line and another one in Host: the request line counts (RFC 9112, 3.2.3).
        format!("CONNECT {elsewhere} HTTP/1.1\r\nHost: {acme}\r\n\r\n"),
        format!("CONNECT http://{acme}/ HTTP/1.1\r\nHost: {acme}\r\n\r\n"),
        format!("CONNECT {acme}@{elsewhere} HTTP/1.1\r\nHost: {acme}\r\n\r\n"),
        format!("CONNECT 127.0.0.1 HTTP/1.1\r\nHost: {acme}\r\n\r\n"),
        format!("CONNECT {acme} HTTP/2.0\r\nHost: {acme}\r\n\r\n"),
    ];
    for request in requests {
        let answer = String::from_utf8_lossy(&say(&chain, request.as_bytes())).into_owned();
        let status: u16 = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        assert!(answer.starts_with("HTTP/1.1 ") && (400..=505).contains(&status), "{request}: {answer}");
    }
    decoy.assert_untouched();
    Ok(())
}

#[test]
fn socks5_knows_connect_without_authentication_alone() -> Result<(), Trouble> {
    let chain = Plan::new().outgoing()?.start()?;
    let port = port_of(&chain.called_at(0)).parse::<u16>().unwrap().to_be_bytes();
    let request = |command: u8| [[5, command, 0, 1, 127, 0, 0, 1].as_slice(), &port].concat();
    // Greeting and request; the answer that is expected (RFC 1928, 3 and 6).
    let cases: [(&str, Vec<u8>, Vec<u8>); 5] = [
        ("BIND", [[5, 1, 0].as_slice(), &request(2)].concat(), vec![5, 0, 5, 7]),
        ("UDP ASSOCIATE", [[5, 1, 0].as_slice(), &request(3)].concat(), vec![5, 0, 5, 7]),
        ("a kind of address that there is not", [5, 1, 0, 5, 1, 0, 9, 1, 1, 1, 1, 0, 80].to_vec(), vec![5, 0, 5, 8]),
        ("password or nothing", vec![5, 1, 2], vec![5, 0xff]),
        ("no method at all", vec![5, 0], vec![5, 0xff]),
    ];
    for (what, octets, expected) in cases {
        let answer = say(&chain, &octets);
        assert!(answer.starts_with(&expected), "{what}: {answer:02x?}");
    }
    Ok(())
}

/// A partner's own port leads to that partner, whatever is said on it.
#[test]
fn a_partners_own_port_takes_no_request() -> Result<(), Trouble> {
    let port = free_port()?;
    let chain =
        Plan::new().outgoing()?.configure(move |config| config["partners"][0]["listen_port"] = json!(port)).start()?;
    let decoy = Decoy::new();
    let partner = chain.partner_listens(0)?;
    let elsewhere = format!("127.0.0.1:{}", decoy.port());
    let via = tests::station::Via::Http(format!("127.0.0.1:{port}"));
    let report = chain.call_via(via, &elsewhere, file("NEVER"))?;
    assert!(report.agreement.is_none() && report.failure.is_some(), "{report:?}");
    decoy.assert_untouched();
    drop(partner);
    Ok(())
}

#[test]
fn a_station_from_elsewhere_is_refused_before_it_says_anything() -> Result<(), Trouble> {
    let port = free_port()?;
    let chain = Plan::new()
        .outgoing()?
        .configure(move |config| {
            config["clients"][0]["allow_from"] = json!(["192.0.2.0/24"]);
            config["partners"][0]["listen_port"] = json!(port);
        })
        .start()?;
    let partner = chain.partner_listens(0)?;
    // It says nothing at all, and is let go all the same; so on the partner's own port.
    assert_eq!(say(&chain, b""), b"");
    let mut own = TcpStream::connect(("127.0.0.1", port)).unwrap();
    own.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(until_closed(&mut own), b"");
    let report = chain.call(file("NEVER"))?;
    assert!(report.agreement.is_none() && http_refusal(&report).is_none(), "{report:?}");
    let line = told(chain.client(), Default::default(), "outgoing-station-refused")?;
    assert!(line.contains("127.0.0.1"), "{line}");
    event(&chain, "outgoing-station-refused");
    assert!(partner.next_session(std::time::Duration::ZERO).is_none());
    Ok(())
}
