//! The identity that partners see is replaced while sessions run: no restart, no refused handshake.

use std::net::TcpStream;

use rustls::ClientConnection;
use tests::harness::{Mark, PATIENCE, Plan, Trouble, made_octets};
use tests::pki::{self, KeyKind, Wanted};
use tests::station::{self, Connection, Identity, OutgoingFile, Security};

use crate::running::{count, finishes, hold, of_role, wait_for_sessions};

#[test]
fn an_identity_is_replaced_while_sessions_run_and_handshakes_are_under_way() -> Result<(), Trouble> {
    let chain = Plan::new().poll_every(1).start()?;
    let pem = |member: &str| chain.config["identity"][member].as_str().unwrap().to_owned();
    let old = Identity { chain_pem: pem("certificate_chain_pem"), key_pem: pem("private_key_pem") };
    let old = pki::fingerprint(&old).expect("a certificate");
    let held = hold(&chain, "IN-FLIGHT")?;
    let roles = || [of_role(chain.server(), "switchboard"), of_role(chain.client(), "agent")].concat();
    let before = roles();
    let hosts = &["localhost", "127.0.0.1"];
    let wanted = Wanted { name: "Proxy", hosts, key: KeyKind::Rsa2048, ..Wanted::default() };
    let new = chain.authority.issue(&wanted)?;
    // Its process has been forked with the snapshot of before; not one octet of its handshake has been sent.
    let under_way = TcpStream::connect(chain.partner_address()).unwrap();
    wait_for_sessions(chain.server(), 2);

    let mut config = chain.config.clone();
    config["identity"]["certificate_chain_pem"] = new.chain_pem.clone().into();
    config["identity"]["private_key_pem"] = new.key_pem.clone().into();
    let mark = chain.client().mark();
    chain.scripted_backend().set_config(config);
    chain.client().wait_after(mark, "configuration-taken", |line| line.contains(" configuration-taken "))?;

    // Those that come now see the new one, as soon as the DMZ has it.
    let new = pki::fingerprint(&new).expect("a certificate");
    assert_ne!(new, old);
    let file = |name: &str| vec![OutgoingFile::from_octets(name, made_octets(1000))];
    let mut seen = String::new();
    for attempt in 0..100 {
        let report = chain.send(file(&format!("AFTER-{attempt}")));
        assert!(report.went_well(true), "{report:?}\n{}", chain.server().last_lines(20));
        seen = report.peer_fingerprints[0].clone();
        if seen == new {
            break;
        }
        assert_eq!(seen, old);
    }
    assert_eq!(seen, new, "the new certificate is shown");

    // The one that was under way is shown the old certificate, and its handshake is still signed by the old key.
    let Security::Tls(tls) = chain.security() else { unreachable!("partners use TLS") };
    let handshake = ClientConnection::new(tls.client()?, tls.server_name()?).unwrap();
    let connection = Connection::new(under_way, Some(handshake.into()), PATIENCE).unwrap();
    let report = station::send_on(connection, &chain.settings(), file("UNDER-WAY"));
    assert!(report.went_well(true), "{report:?}\n{}", chain.server().last_lines(20));
    assert_eq!(report.peer_fingerprints[0], old);

    finishes(&chain, held, "IN-FLIGHT")?;
    assert_eq!(roles(), before, "nothing was restarted");
    for daemon in [chain.server(), chain.client()] {
        assert_eq!(count(daemon, "signing-refused") + count(daemon, "link-down"), 0);
        assert!(daemon.lines_after(Mark::default()).iter().all(|line| !line.contains("PRIVATE KEY")));
    }
    Ok(())
}
