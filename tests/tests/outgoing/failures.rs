//! A call that comes to nothing: what the inside station, the log, the system log and the session record say of it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;

use serde_json::{Value, json};
use tests::harness::{Chain, Plan, Trouble};
use tests::pki::Authority;
use tests::station::{Failure, TlsSettings, TlsVersions, Trust};

use crate::scene::{event, file, http_refusal, recorded, socks5_refusal, told};

/// Calls ACME both ways: CONNECT is refused with 502 and a sentence that names the situation or says it, SOCKS5 with
/// that code (RFC 1928, 6); log, event and record have the situation. Returns the record.
fn fails_with(chain: &Chain, code: &str, socks5: u8) -> Result<Value, Trouble> {
    let mark = chain.client().mark();
    let report = chain.call(file("NEVER"))?;
    let refused = http_refusal(&report);
    assert!(matches!(&refused, Some((502 | 504, sentence)) if !sentence.is_empty()), "{code}: {report:?}");
    let report = chain.call_via(chain.socks5(), &chain.called_at(0), file("NEVER"))?;
    assert_eq!(socks5_refusal(&report), Some(socks5), "{code}: {report:?}");
    let said = chain.client().wait_after(mark, code, |line| line.contains(code));
    let line = said.map_err(|trouble| Trouble(format!("{trouble}\n{}", chain.server().last_lines(20))))?;
    assert!(line.contains("ACME"), "whom: {line}");
    event(chain, code);
    let record = recorded(chain, code);
    assert_eq!((&record["direction"], &record["partner"]), (&json!("outgoing"), &json!("ACME")), "{record}");
    assert_ne!(record["outcome"], "completed", "{record}");
    Ok(record)
}

fn with_address(address: String) -> Result<Plan, Trouble> {
    Ok(Plan::new().outgoing()?.configure(move |config| config["partners"][0]["address"] = json!(address)))
}

/// Where ACME is called, something else listens that does this with each caller.
fn answered_by(chain: &Chain, serve: impl Fn(TcpStream) + Send + Sync + Copy + 'static) {
    let at: SocketAddr = chain.called_at(0).parse().unwrap();
    let listener = TcpListener::bind(at).unwrap();
    thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            thread::spawn(move || serve(socket));
        }
    });
}

#[test]
fn a_name_that_nobody_knows() -> Result<(), Trouble> {
    // RFC 6761, 6.4: never a host.
    let chain = with_address("oftp2.invalid:6619".into())?.start()?;
    let record = fails_with(&chain, "call-name-unknown", 4)?;
    assert_eq!(record["peer_address"], "oftp2.invalid:6619", "{record}");
    told(chain.server(), Default::default(), "call-name-unknown")?;
    Ok(())
}

#[test]
fn a_host_that_refuses() -> Result<(), Trouble> {
    let chain = Plan::new().outgoing()?.start()?;
    let record = fails_with(&chain, "call-refused", 5)?;
    assert_eq!(record["peer_address"], chain.called_at(0), "{record}");
    Ok(())
}

#[test]
fn a_host_that_cannot_be_reached() -> Result<(), Trouble> {
    // RFC 1122, 3.2.1.3: no host has that address (class E), and no system sends there.
    let chain = with_address("255.255.255.255:6619".into())?.start()?;
    fails_with(&chain, "call-unreachable", 3)?;
    Ok(())
}

#[test]
fn a_partner_that_is_silent_in_the_handshake() -> Result<(), Trouble> {
    let chain =
        Plan::new().outgoing()?.configure(|config| config["limits"] = json!({ "handshake_timeout_s": 2 })).start()?;
    answered_by(&chain, |mut socket| {
        // Reads and says nothing.
        let _ = socket.read_to_end(&mut Vec::new());
    });
    let record = fails_with(&chain, "handshake-timeout", 6)?;
    assert_eq!(record["outcome"], "timeout", "{record}");
    Ok(())
}

#[test]
fn something_else_that_listens_there() -> Result<(), Trouble> {
    let chain = Plan::new().outgoing()?.start()?;
    answered_by(&chain, |mut socket| {
        // It may have closed already.
        let _ = socket.write_all(b"220 smtp.acme.example ESMTP\r\n");
        let _ = socket.read_to_end(&mut Vec::new());
    });
    fails_with(&chain, "handshake-failed", 1)?;
    Ok(())
}

#[test]
fn a_partner_that_answers_with_an_alert() -> Result<(), Trouble> {
    let chain = Plan::new().outgoing()?.start()?;
    answered_by(&chain, |mut socket| {
        // RFC 8446, 6: a fatal alert, internal_error. Whoever called may have closed already.
        let _ = socket.read(&mut [0; 16]);
        let _ = socket.write_all(&[21, 3, 3, 0, 2, 2, 80]);
        let _ = socket.read_to_end(&mut Vec::new());
    });
    let record = fails_with(&chain, "call-alert", 1)?;
    assert!(record["detail"].as_str().unwrap().contains("InternalError"), "which one: {record}");
    Ok(())
}

/// Their alert is told as what it is; the one for our certificate has a code of its own, in both TLS versions.
#[test]
fn our_certificate_is_refused_by_them() -> Result<(), Trouble> {
    let chain = Plan::new().outgoing()?.start()?;
    for versions in [TlsVersions::Tls12, TlsVersions::Tls13] {
        let trust = Trust::Authorities(Authority::new("Somebody Else")?.certificate_pem());
        let security = TlsSettings { trust, versions, ..chain.called_security(0)? };
        let partner = chain.partner_listens_with(0, security, chain.called_settings(0)?)?;
        let mark = chain.server().mark();
        let report = chain.call(file("NEVER"))?;
        assert!(report.agreement.is_none() && report.failure.is_some(), "{versions:?}: {report:?}");
        let line = told(chain.server(), mark, "own-certificate-refused")?;
        assert!(line.to_lowercase().contains("unknown"), "which alert: {line}");
        let whose = ["; ours is subject=", "; the partner's own, which is not refused, is subject="];
        assert!(whose.iter().all(|part| line.contains(part)) && !line.contains("shown was"), "whose: {line}");
        drop(partner);
    }
    event(&chain, "own-certificate-refused");
    let record = recorded(&chain, "own-certificate-refused");
    assert_eq!(record["partner"], "ACME", "{record}");
    Ok(())
}

#[test]
fn ssrm_never_came() -> Result<(), Trouble> {
    let chain =
        Plan::new().outgoing()?.configure(|config| config["limits"] = json!({ "handshake_timeout_s": 10 })).start()?;
    let tls = chain.called_security(0)?.server()?;
    let listener = TcpListener::bind(chain.called_at(0).parse::<SocketAddr>().unwrap()).unwrap();
    // The first caller waits for SSRM in vain, the second one sees the connection closed.
    thread::spawn(move || {
        for (number, socket) in listener.incoming().flatten().enumerate() {
            let tls = rustls::ServerConnection::new(tls.clone()).unwrap();
            let mut stream = rustls::StreamOwned::new(tls, socket);
            let mut octet = [0];
            if number == 0 {
                let _ = stream.read(&mut octet);
            } else {
                while stream.conn.is_handshaking() && stream.conn.complete_io(&mut stream.sock).is_ok() {}
                stream.conn.send_close_notify();
                let _ = stream.conn.complete_io(&mut stream.sock);
            }
        }
    });
    for _ in 0..2 {
        let report = chain.call(file("NEVER"))?;
        assert!(report.agreement.is_none(), "{report:?}");
        // No ESID can come before SSRM: a refusal of the proxy, or the end of the connection.
        let told = matches!(report.failure, Some(Failure::Proxy(_) | Failure::Closed(_) | Failure::Io { .. }));
        assert!(told, "{report:?}");
        recorded(&chain, "call-silent");
    }
    event(&chain, "call-silent");
    Ok(())
}

/// RFC 5024, 5.3.2: ESID may answer instead of SSRM; what the partner says is for the station to see.
#[test]
fn a_partner_that_ends_the_session_at_once_is_heard() -> Result<(), Trouble> {
    let chain = Plan::new().outgoing()?.start()?;
    let settings = tests::station::Settings { peer_password: Some("OTHER".into()), ..chain.called_settings(0)? };
    let partner = chain.partner_listens_with(0, chain.called_security(0)?, settings)?;
    let report = chain.call(file("NEVER"))?;
    // RFC 5024, 5.3.14: 04, invalid password.
    assert!(matches!(report.failure, Some(Failure::Esid { code: 4, .. })), "{report:?}");
    drop(partner);
    Ok(())
}

/// On the partner's own port there is no protocol to refuse in: the connection ends, and the rest tells why.
#[test]
fn on_the_partners_own_port_a_failed_call_ends_the_connection() -> Result<(), Trouble> {
    let port = tests::harness::free_port()?;
    let chain =
        Plan::new().outgoing()?.configure(move |config| config["partners"][0]["listen_port"] = json!(port)).start()?;
    chain.client_says("outgoing-port-open")?;
    let to = format!("127.0.0.1:{port}");
    let settings = chain.inside_settings();
    let report = tests::station::send(&to, &tests::station::Security::Plain, &settings, file("NEVER"));
    assert!(matches!(report.failure, Some(Failure::Closed(_) | Failure::Io { .. })), "{report:?}");
    recorded(&chain, "call-refused");
    event(&chain, "call-refused");
    Ok(())
}
