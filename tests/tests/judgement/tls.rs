//! TLS with partners: versions, the least of them, key exchange, no resumption, and what is too old.

use std::io::{Read, Write};
use std::net::TcpStream;

use rustls::crypto::aws_lc_rs::kx_group;
use rustls::{AlertDescription, HandshakeKind, NamedGroup, version};
use serde_json::json;
use tests::harness::{Chain, PATIENCE, Plan, Trouble};
use tests::station::Identity;

use crate::caller::{Offer, Shown, VERSIONS, call, call_again, call_with, config};

fn acme(chain: &Chain) -> Shown {
    Shown::Identity(Identity::clone(&chain.partners[0].identity))
}

#[test]
fn both_versions_are_served_with_the_best_key_exchange_and_no_ticket() -> Result<(), Trouble> {
    let chain = Chain::start()?;
    let cases = [
        (&version::TLS13, vec![kx_group::X25519MLKEM768, kx_group::X25519], NamedGroup::X25519MLKEM768),
        // The partner would like another one better; it knows this one too.
        (&version::TLS13, vec![kx_group::X25519, kx_group::X25519MLKEM768], NamedGroup::X25519MLKEM768),
        (&version::TLS13, vec![kx_group::SECP256R1, kx_group::X25519MLKEM768], NamedGroup::X25519MLKEM768),
        (&version::TLS13, vec![kx_group::SECP256R1], NamedGroup::secp256r1),
        (&version::TLS12, vec![kx_group::X25519, kx_group::X25519MLKEM768], NamedGroup::X25519),
        (&version::TLS12, vec![kx_group::X25519], NamedGroup::X25519),
        (&version::TLS12, vec![kx_group::SECP384R1], NamedGroup::secp384r1),
    ];
    for (version, groups, expected) in cases {
        let mark = chain.client().mark();
        let got = call_with(&chain.partner_address(), &acme(&chain), Offer { version, groups });
        assert!(got.alert.is_none() && !got.welcome.is_empty(), "{got:?}");
        assert_eq!((got.group, got.tickets), (Some(expected), 0), "{got:?}");
        let name = if version.version == rustls::ProtocolVersion::TLSv1_3 { "TLSv1.3 " } else { "TLSv1.2 " };
        let line = chain.client().wait_after(mark, "session-paired", |line| line.contains(" session-paired "))?;
        assert!(line.contains(name) && line.contains(expected.as_str().unwrap()), "{expected:?}: {line}");
    }
    Ok(())
}

#[test]
fn a_second_call_is_a_whole_handshake_again() -> Result<(), Trouble> {
    let chain = Chain::start()?;
    for version in VERSIONS {
        let config = config(&acme(&chain), Offer { version, groups: vec![kx_group::X25519] });
        for call in 1..=3 {
            let got = call_again(&chain.partner_address(), &config);
            assert!(!got.welcome.is_empty() && got.kind == Some(HandshakeKind::Full), "call {call}: {got:?}");
        }
    }
    Ok(())
}

#[test]
fn the_least_version_of_the_configuration_holds() -> Result<(), Trouble> {
    let chain = Plan::new().configure(|config| config["trust"]["min_tls_version"] = json!("1.3")).start()?;
    let got = call(&chain.partner_address(), &acme(&chain), VERSIONS[0]);
    assert_eq!(got.alert, Some(AlertDescription::ProtocolVersion), "{got:?}");
    let line = chain.server_says("tls-too-old")?;
    assert!(line.contains("127.0.0.1"), "{line}");
    let got = call(&chain.partner_address(), &acme(&chain), VERSIONS[1]);
    assert!(!got.welcome.is_empty(), "{got:?}");
    Ok(())
}

/// A ClientHello (RFC 5246, 7.4.1.2) of this version, with these cipher suites and extensions.
fn client_hello(version: u16, suites: &[u16], extensions: &[(u16, &[u8])]) -> Vec<u8> {
    let mut body = version.to_be_bytes().to_vec();
    body.extend([0x11; 32]);
    body.push(0); // no session
    let suites: Vec<u8> = suites.iter().flat_map(|suite| suite.to_be_bytes()).collect();
    body.extend(u16::try_from(suites.len()).unwrap().to_be_bytes());
    body.extend(suites);
    body.extend([1, 0]); // no compression
    let mut listed = Vec::new();
    for (kind, content) in extensions {
        listed.extend(kind.to_be_bytes());
        listed.extend(u16::try_from(content.len()).unwrap().to_be_bytes());
        listed.extend(*content);
    }
    body.extend(u16::try_from(listed.len()).unwrap().to_be_bytes());
    body.extend(listed);
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    let handshake = [&[1], &length[1..], body.as_slice()].concat();
    let length = u16::try_from(handshake.len()).unwrap().to_be_bytes();
    [&[22, 3, 1], length.as_slice(), handshake.as_slice()].concat()
}

#[test]
fn too_old_an_offer_is_told_in_a_sentence() -> Result<(), Trouble> {
    let chain = Chain::start()?;
    const SIGNATURE_ALGORITHMS: (u16, &[u8]) = (13, &[0, 4, 4, 3, 8, 4]);
    const X25519: (u16, &[u8]) = (10, &[0, 2, 0, 29]);
    const POINTS: (u16, &[u8]) = (11, &[1, 0]);
    let cases: [(&str, Vec<u8>, &str); 4] = [
        // TLS 1.0 with ECDHE and CBC, as stations of 2008 have it.
        ("TLS 1.0", client_hello(0x0301, &[0xc013, 0x002f], &[X25519, POINTS]), "TLS 1."),
        // TLS 1.2, RSA key exchange with AES-GCM: no forward secrecy.
        ("static RSA", client_hello(0x0303, &[0x009c, 0x009d], &[SIGNATURE_ALGORITHMS, X25519, POINTS]), "static RSA"),
        // TLS 1.2, ECDHE with AES-CBC.
        ("CBC", client_hello(0x0303, &[0xc013, 0xc014, 0xc009], &[SIGNATURE_ALGORITHMS, X25519, POINTS]), "CBC"),
        // TLS 1.2, only a curve that is too small (secp192r1).
        (
            "curve",
            client_hello(0x0303, &[0xc02f, 0xc02b], &[SIGNATURE_ALGORITHMS, (10, &[0, 2, 0, 19]), POINTS]),
            "ECDHE",
        ),
    ];
    for (what, hello, sentence) in cases {
        let mark = chain.server().mark();
        let mut socket = TcpStream::connect(chain.partner_address()).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.write_all(&hello).unwrap();
        let mut answer = Vec::new();
        socket.read_to_end(&mut answer).unwrap();
        // An alert record, fatal: handshake_failure (40) or protocol_version (70).
        assert!(answer.first() == Some(&21) && matches!(answer.get(5..7), Some([2, 40 | 70])), "{what}: {answer:?}");
        let line = chain.server().wait_after(mark, "tls-too-old", |line| line.contains(" tls-too-old "))?;
        assert!(line.contains(sentence), "{what}: {line}");
    }
    Ok(())
}
