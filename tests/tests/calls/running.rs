//! Calls that come to a session.

use std::net::{TcpListener, ToSocketAddrs};

use proxylink::situation::Situation;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tests::harness::{Chain, Plan, Trouble};
use tests::station::{Command, TlsVersions};
use verification::{Fingerprint, PartnerSource};

use crate::inside::{Called, Inside, is_proven, partner, snapshot};
use crate::partner::{Partner, answer, honest, honest_at, ssid, tls, usual};

/// A proxyserver with a scripted inside.
pub fn linked() -> Result<(Chain, Inside), Trouble> {
    let mut chain = Plan::new().prepare()?;
    chain.start_server()?;
    let inside = Inside::link(&chain);
    Ok((chain, inside))
}

/// The inside station's part of a whole session.
fn hold_session(called: &mut Called) {
    assert!(matches!(called.data.receive().unwrap(), Command::Ssrm));
    called.data.send(&ssid("O0013000000INSIDE")).unwrap();
    assert!(matches!(called.data.receive().unwrap(), Command::Ssid(_)));
    called.data.send(&Command::Esid { reason: 0, text: String::new() }).unwrap();
}

#[test]
fn a_partner_is_called_from_the_configured_address_in_either_version_of_tls() -> Result<(), Trouble> {
    let (chain, mut inside) = linked()?;
    let own =
        CertificateDer::from_pem_slice(chain.config["identity"]["certificate_chain_pem"].as_str().unwrap().as_bytes());
    let own = own.unwrap();
    for (versions, version, source) in
        [(TlsVersions::Tls12, "TLSv1.2", None), (TlsVersions::Tls13, "TLSv1.3", Some("127.0.0.2"))]
    {
        let acme = honest(usual(&chain, versions), chain.partners[0].code.clone());
        // A name and an address are both called.
        let address = if source.is_some() { acme.at() } else { format!("localhost:{}", acme.address.port()) };
        let mut wanted = snapshot(&chain, vec![partner(&chain, &address)]);
        wanted.outgoing_ip = Some("127.0.0.3".parse().unwrap());
        wanted.policy.partners[0].outgoing_ip = source.map(|source| source.parse().unwrap());
        inside.give(wanted);
        let mut called = inside.connect("ACME").unwrap();
        assert_eq!((called.request.peer, called.request.tls.version.as_str()), (acme.address, version));
        assert_eq!(called.request.tls.key_exchange == "X25519MLKEM768", version == "TLSv1.3");
        assert!(is_proven(&called.request), "{version}");
        let signed = called.signed.take().expect("a signature of ours was needed");
        assert_eq!(signed.certificate, *Fingerprint::of(&own).as_bytes());
        hold_session(&mut called);
        let (from, shown) = acme.outcome();
        assert_eq!(from, called.request.local);
        assert_eq!(from.ip().to_string(), source.unwrap_or("127.0.0.3"));
        assert_eq!(shown.first().map(Vec::as_slice), Some(own.as_ref()));
        // The DMZ's last word on the data connection.
        let rest = called.data.receive_octets().unwrap();
        assert_eq!(rest.first(), Some(&0xc1), "a closing frame: {rest:?}");
    }
    Ok(())
}

#[test]
fn the_family_of_the_source_address_chooses_among_the_addresses_of_a_name() -> Result<(), Trouble> {
    // A host without IPv6 has nothing to choose.
    let Ok(listener) = TcpListener::bind("[::1]:0") else { return Ok(()) };
    let port = listener.local_addr().unwrap().port();
    let has_both = ("localhost", port).to_socket_addrs().is_ok_and(|mut found| found.any(|to| to.is_ipv6()));
    let address = if has_both { format!("localhost:{port}") } else { format!("[::1]:{port}") };
    let (chain, mut inside) = linked()?;
    let acme = honest_at(listener, usual(&chain, TlsVersions::Both), chain.partners[0].code.clone());
    let mut wanted = snapshot(&chain, vec![partner(&chain, &address)]);
    wanted.outgoing_ip = Some("::1".parse().unwrap());
    inside.give(wanted);
    let mut called = inside.connect("ACME").unwrap();
    hold_session(&mut called);
    assert_eq!(acme.outcome().0, called.request.local);
    assert!(called.request.local.is_ipv6() && called.request.peer.is_ipv6());
    Ok(())
}

#[test]
fn a_partner_that_wants_no_certificate_is_served_and_that_is_told() -> Result<(), Trouble> {
    let (chain, mut inside) = linked()?;
    for versions in [TlsVersions::Tls12, TlsVersions::Tls13] {
        let mark = chain.server().mark();
        let config = tls(&chain.partners[0].identity, None, versions);
        let acme = honest(config, chain.partners[0].code.clone());
        inside.give(snapshot(&chain, vec![partner(&chain, &acme.at())]));
        let mut called = inside.connect("ACME").unwrap();
        assert_eq!(called.signed, None);
        assert!(is_proven(&called.request));
        hold_session(&mut called);
        assert_eq!(acme.outcome().1, Vec::<Vec<u8>>::new());
        chain.server().wait_after(mark, "the line", |line| line.contains("asks for no certificate of ours"))?;
    }
    Ok(())
}

#[test]
fn a_called_partner_with_a_code_that_is_not_its_own_is_ended() -> Result<(), Trouble> {
    let (chain, mut inside) = linked()?;
    let acme = {
        let config = usual(&chain, TlsVersions::Both);
        Partner::serving(move |socket| {
            let mut connection = answer(socket, config).unwrap();
            connection.send(&Command::Ssrm).unwrap();
            connection.receive().unwrap();
            connection.send(&ssid("O0013000000OTHER")).unwrap();
            connection.receive()
        })
    };
    inside.give(snapshot(&chain, vec![partner(&chain, &acme.at())]));
    let mut called = inside.connect("ACME").unwrap();
    assert!(matches!(called.data.receive().unwrap(), Command::Ssrm));
    called.data.send(&ssid("O0013000000INSIDE")).unwrap();
    // ESIDREAS 03: user code not known (RFC 5024, 5.3.16). The station inside learns that it is over.
    assert!(matches!(acme.outcome(), Ok(Command::Esid { reason: 3, .. })));
    assert!(matches!(called.data.receive(), Ok(Command::Esid { reason: 99, .. })));
    chain.server_says("ssid-code-refused")?;
    Ok(())
}

#[test]
fn calls_count_as_sessions_and_take_no_place_of_an_address() -> Result<(), Trouble> {
    let (chain, mut inside) = linked()?;
    let keeping = |chain: &Chain| {
        let config = usual(chain, TlsVersions::Both);
        Partner::serving(move |socket| {
            let mut connection = answer(socket, config).unwrap();
            connection.send(&Command::Ssrm).unwrap();
            connection.wait_for_close();
        })
    };
    let stations = [keeping(&chain), keeping(&chain)];
    let named = |place: usize, at: &str| PartnerSource { name: format!("P{place}"), ..partner(&chain, at) };
    // Each of them is trusted by the same certificate, so only one at a time may list it.
    let with = |place: usize, at: &str| {
        let mut wanted = snapshot(&chain, vec![named(place, at)]);
        wanted.limits.max_sessions = 2;
        wanted.limits.max_sessions_per_address = 1;
        wanted.limits.max_unverified = 1;
        wanted
    };
    let mut open = Vec::new();
    for (place, station) in stations.iter().enumerate() {
        inside.give(with(place, &station.at()));
        open.push(inside.connect(&format!("P{place}")).unwrap());
    }
    let failed = inside.failure("P1");
    assert_eq!(failed.refused.situation, Situation::LimitReached);
    assert!(failed.refused.text.contains("max_sessions"), "{}", failed.refused.text);
    assert_eq!(failed.record, None);
    drop(open);
    stations.into_iter().for_each(Partner::outcome);
    Ok(())
}
