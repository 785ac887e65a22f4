//! Peers that are slow on purpose: one octet a second in TLS, an Exchange Buffer that is never whole.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use rustls::{ClientConnection, StreamOwned};
use serde_json::json;
use tests::harness::{PATIENCE, Plan, Trouble, until};
use tests::station::{TlsSettings, TlsVersions, Trust};

use crate::running::{count, finishes, hold, serves, wait_for_sessions};

/// A ClientHello that is announced with 512 octets.
const HELLO_BEGUN: [u8; 6] = [22, 3, 1, 2, 0, 1];

fn is_over(stream: &mut TcpStream) -> bool {
    stream.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    match stream.read(&mut [0; 64]) {
        Ok(0) => true,
        Ok(_) => false,
        Err(error) => !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
    }
}

#[test]
fn one_octet_a_second_of_a_tls_handshake_ends_with_the_handshake_timeout() -> Result<(), Trouble> {
    let chain = Plan::new().configure(|config| config["limits"] = json!({ "handshake_timeout_s": 10 })).start()?;
    let held = hold(&chain, "IN-FLIGHT")?;
    let mut stream = TcpStream::connect(chain.partner_address()).unwrap();
    let mut sent = 0;
    for octet in HELLO_BEGUN.into_iter().chain([0; 54]) {
        // Each wait for an end takes a second.
        if stream.write_all(&[octet]).is_err() || is_over(&mut stream) {
            break;
        }
        sent += 1;
    }
    assert!(sent < 60, "it was let go on");
    chain.server_says("handshake-timeout")?;
    assert_eq!(count(chain.server(), "handshake-timeout"), 1, "one line");
    wait_for_sessions(chain.server(), 1);
    finishes(&chain, held, "IN-FLIGHT")?;
    serves(&chain, "NEXT");
    Ok(())
}

#[test]
fn an_exchange_buffer_that_is_never_whole_ends_with_the_inactivity_timeout() -> Result<(), Trouble> {
    let chain = Plan::new().configure(|config| config["limits"] = json!({ "inactivity_timeout_s": 6 })).start()?;
    let partner = TlsSettings {
        identity: Some(chain.partners[0].identity.clone()),
        trust: Trust::Authorities(chain.authority.certificate_pem()),
        versions: TlsVersions::Both,
    };
    let socket = TcpStream::connect(chain.partner_address()).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut tls = StreamOwned::new(ClientConnection::new(partner.client()?, partner.server_name()?).unwrap(), socket);
    let mut welcome = [0; 23];
    tls.read_exact(&mut welcome).expect("the SSRM comes");
    assert_eq!(welcome[4], b'I', "RFC 5024, 5.3.1");
    // A stream header that announces an SSID, and a part of it.
    tls.write_all(b"\x10\0\0\x41X5").unwrap();
    let mut rest = Vec::new();
    while !rest.windows(3).any(|octets| octets == b"F09") {
        let mut octets = [0; 256];
        match tls.read(&mut octets) {
            Ok(count @ 1..) => rest.extend_from_slice(&octets[..count]),
            end => panic!("no ESID 09 but {end:?}: {rest:?}\n{}", chain.server().last_lines(20)),
        }
    }
    drop(tls);
    // Both sides watch; the inside heard nothing of the buffer at all and may be first.
    let daemons = [chain.server(), chain.client()];
    let told = until(PATIENCE, || daemons.iter().any(|daemon| count(daemon, "session-timeout") == 1).then_some(()));
    assert!(told.is_some(), "{}\n{}", chain.server().last_lines(20), chain.client().last_lines(20));
    wait_for_sessions(chain.server(), 0);
    wait_for_sessions(chain.client(), 0);
    serves(&chain, "NEXT");
    Ok(())
}
