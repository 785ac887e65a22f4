//! Calls that come to nothing, whoever is to blame: the station is told in its protocol, the administrator by a line, an
//! event and a session record.

use proxylink::message::{CallFailed, FromServer, Refused};
use proxylink::pairing::SessionId;
use proxylink::record::SessionReport;
use proxylink::situation::Situation;
use serde_json::{Value, json};
use tests::harness::{Chain, PATIENCE, Trouble};

use crate::calls::{Caller, prepare, record_of};
use tokio::io::AsyncWriteExt;

use crate::dmz::{Dmz, run};

/// The DMZ says that a call comes to nothing.
pub fn fail(dmz: &Dmz, session: SessionId, situation: Situation, record: Option<SessionReport>) {
    let refused = Refused { situation, text: "so it\nis".to_owned() };
    dmz.outbox.send(&FromServer::CallFailed(session, Box::new(CallFailed { refused, record }))).unwrap();
}

fn event(chain: &Chain, code: &str) -> Result<Value, Trouble> {
    let found = || chain.scripted_backend().events().into_iter().find(|event| event["code"] == code);
    tests::harness::until(PATIENCE, found).ok_or_else(|| Trouble(format!("no event {code}")))
}

#[test]
fn each_failure_of_a_call_reaches_the_station_in_its_protocol_and_the_records() -> Result<(), Trouble> {
    let (mut chain, _, own_port) = prepare()?;
    let address = chain.proxy_address();
    let socks = b"\x05\x01\0\x05\x01\0\x03\x04ACME\x19\xdb";
    run(async {
        let mut dmz = Dmz::start(&mut chain).await?;
        chain.client_says("outgoing-port-open")?;
        for (situation, status, reply, outcome) in [
            (Situation::CallNameUnknown, "502 Bad Gateway", 4, "refused"),
            (Situation::CallRefused, "502 Bad Gateway", 5, "refused"),
            (Situation::CallTimeout, "504 Gateway Timeout", 6, "timeout"),
            (Situation::CallUnreachable, "502 Bad Gateway", 3, "refused"),
            (Situation::CallSourceUnavailable, "502 Bad Gateway", 1, "refused"),
            (Situation::CallAlert, "502 Bad Gateway", 1, "refused"),
            (Situation::OwnCertificateRefused, "502 Bad Gateway", 1, "refused"),
            (Situation::CertificateExpired, "502 Bad Gateway", 1, "refused"),
        ] {
            let code = situation.code();
            let mut station = Caller::connect(&address, "ACME:6619").await;
            let session = dmz.called_acme().await;
            fail(&dmz, session, situation, None);
            let told = station.rest().await;
            assert!(told.starts_with(&format!("HTTP/1.1 {status} ({code})")), "{told}");
            assert!(told.ends_with(" so it\\\\nis\\n"), "{told}");
            let record = record_of(&chain, session)?;
            assert_eq!((&record["direction"], &record["outcome"]), (&json!("outgoing"), &json!(outcome)));
            assert_eq!(
                (&record["partner"], &record["peer_address"]),
                (&json!("ACME"), &json!("oftp.acme.example:6619"))
            );
            let line = chain.client_says(code)?;
            assert!(line.contains("partner=ACME called=oftp.acme.example:6619 station=127.0.0.1:"), "{line}");
            assert_eq!(event(&chain, code)?["partner"], "ACME");

            let mut station = Caller::saying(&address, socks).await;
            let session = dmz.called_acme().await;
            fail(&dmz, session, situation, None);
            station.expect(&[5, 0, 5, reply, 0, 1, 0, 0, 0, 0, 0, 0]).await;
            assert_eq!(station.rest().await, "");

            let mut station = Caller::at(&format!("127.0.0.1:{own_port}")).await;
            let (session, _) = dmz.called().await;
            fail(&dmz, session, situation, None);
            assert_eq!(station.rest().await, "", "on a port of its own there is nothing to tell it in");
        }
        Ok(())
    })
}

#[test]
fn nobody_but_enabled_partners_can_be_asked_for() -> Result<(), Trouble> {
    let (mut chain, _, _) = prepare()?;
    let (address, off_at) = (chain.proxy_address(), chain.called_at(2));
    run(async {
        let mut dmz = Dmz::start(&mut chain).await?;
        chain.client_says("outgoing-port-open")?;
        let backend = chain.backend.url().replace("https://", "");
        let backend = backend.split('/').next().unwrap().to_owned();
        for target in ["oftp.acme.example:25", "ACME:25", "localhost:6619", "OFF:6619", &off_at, &backend, "[::1]:2878"]
        {
            let told = Caller::connect(&address, target).await.rest().await;
            assert!(told.starts_with("HTTP/1.1 403 Forbidden (outgoing-target-refused)"), "{target}: {told}");
            chain
                .client()
                .wait_for(target, |line| line.contains("outgoing-target-refused") && line.contains(target))?;
        }
        let mut station = Caller::saying(&address, b"\x05\x01\0\x05\x01\0\x01\x7f\0\0\x01\x0b\x3e").await;
        station.expect(b"\x05\0\x05\x02\0\x01\0\0\0\0\0\0").await;
        event(&chain, "outgoing-target-refused")?;

        let requests: [(&[u8], &str); 6] = [
            (b"GET http://oftp.acme.example:6619/ HTTP/1.1\r\n\r\n", "HTTP/1.1 405 "),
            (b"CONNECT ACME:6619 HTTP/1.1\r\n\r\nearly", "HTTP/1.1 400 "),
            (b"CONNECT ACME HTTP/1.1\r\n\r\n", "HTTP/1.1 400 "),
            (b"\x05\x01\x02", "\\x05\\xff"),
            (b"\x05\x01\0\x05\x02\0\x03\x04ACME\x19\xdb", "\\x05\\x00\\x05\\x07"),
            (b"\x16\x03\x01\x02\0\x01", ""),
        ];
        for (octets, expected) in requests {
            let told = Caller::saying(&address, octets).await.rest().await;
            assert!(told.starts_with(expected) && (told.is_empty() == expected.is_empty()), "{told}");
        }
        let line = chain.client_says("outgoing-request-invalid")?;
        assert!(line.contains("station=127.0.0.1:"), "{line}");
        event(&chain, "outgoing-request-invalid")?;
        // Of all this nothing reached the DMZ: the next call is the first.
        let _station = Caller::connect(&address, "ACME:6619").await;
        dmz.called_acme().await;
        Ok(())
    })
}

#[test]
fn a_station_that_leaves_or_speaks_while_the_partner_is_called_gives_the_call_up() -> Result<(), Trouble> {
    let (mut chain, _, own_port) = prepare()?;
    let address = chain.proxy_address();
    run(async {
        let mut dmz = Dmz::start(&mut chain).await?;
        chain.client_says("outgoing-port-open")?;
        let mut station = Caller::connect(&address, "ACME:6619").await;
        let session = dmz.called_acme().await;
        station.0.shutdown().await.unwrap();
        assert_eq!(dmz.called_off(session).await, Situation::StationLeft);
        chain.client_says("outgoing-station-left")?;
        assert_eq!(record_of(&chain, session)?["outcome"], "aborted");

        let mut station = Caller::at(&format!("127.0.0.1:{own_port}")).await;
        let (session, _) = dmz.called().await;
        station.0.write_all(b"\x10\0\0\x05R").await.unwrap();
        assert_eq!(dmz.called_off(session).await, Situation::StationRequestInvalid);
        assert_eq!(station.rest().await, "");
        assert_eq!(record_of(&chain, session)?["outcome"], "refused");
        Ok(())
    })
}

#[test]
fn limits_the_link_and_the_end_of_the_daemon_are_told_as_503() -> Result<(), Trouble> {
    let (mut chain, _, _) = prepare()?;
    chain.reconfigure(|config| config["partners"][0]["max_sessions"] = json!(1));
    let address = chain.proxy_address();
    run(async {
        let mut dmz = Dmz::start(&mut chain).await?;
        chain.client_says("outgoing-port-open")?;
        let mut first = Caller::connect(&address, "ACME:6619").await;
        let session = dmz.called_acme().await;
        let second = Caller::connect(&address, "ACME:6619").await.rest().await;
        assert!(second.starts_with("HTTP/1.1 503 Service Unavailable (partner-sessions-full)"), "{second}");
        drop(dmz);
        let lost = first.rest().await;
        assert!(lost.starts_with("HTTP/1.1 503 Service Unavailable (link-down)"), "{lost}");
        assert_eq!(record_of(&chain, session)?["outcome"], "aborted");
        let without = Caller::connect(&address, "ACME:6619").await.rest().await;
        assert!(without.starts_with("HTTP/1.1 503 Service Unavailable (link-down)"), "{without}");
        Ok(())
    })
}

#[test]
fn when_the_daemon_ends_waiting_stations_are_told_and_the_port_is_closed() -> Result<(), Trouble> {
    let (mut chain, _, _) = prepare()?;
    let address = chain.proxy_address();
    run(async {
        let mut dmz = Dmz::start(&mut chain).await?;
        chain.client_says("outgoing-port-open")?;
        let mut silent = Caller::saying(&address, b"CONNECT ").await;
        let mut calling = Caller::connect(&address, "ACME:6619").await;
        dmz.called_acme().await;
        chain.client().signal(nix::sys::signal::Signal::SIGTERM);
        for station in [&mut calling, &mut silent] {
            let told = station.rest().await;
            assert!(told.starts_with("HTTP/1.1 503 Service Unavailable (session-stopped)"), "{told}");
        }
        assert!(chain.client().wait_for_end()?.success());
        assert!(std::net::TcpStream::connect(&address).is_err(), "the port is closed");
        Ok(())
    })
}
