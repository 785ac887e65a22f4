//! Whom and what the proxy refuses, and how it says so: to the peer, in the log, in the session record.

use std::net::SocketAddr;
use std::sync::Arc;

use serde_json::{Value, json};
use tests::harness::{Chain, INSIDE_CODE, PATIENCE, Plan, Trouble, made_octets};
use tests::pki::{self, Authority, Purpose, Validity, Wanted};
use tests::station::{
    self, Command, Failure, Identity, OutgoingFile, Receiver, Report, Security, Settings, Store, Tamper, TlsVersions,
};

fn file(name: &str) -> Vec<OutgoingFile> {
    vec![OutgoingFile::from_octets(name, made_octets(1000))]
}

fn call(chain: &Chain, identity: Option<Identity>, versions: TlsVersions) -> Report {
    let security = chain.security_with(identity, versions);
    station::send(&chain.partner_address(), &security, &chain.settings(), file("NEVER"))
}

#[test]
fn certificates_that_do_not_stand_are_refused_within_the_handshake_and_reported() -> Result<(), Trouble> {
    let chain = Plan::new()
        .configure(|config| {
            let partner = json!({ "name": "SERVER", "subjects": ["CN=SERVER"] });
            config["partners"].as_array_mut().unwrap().push(partner);
        })
        .start()?;
    let servers_only = Wanted { name: "SERVER", purpose: Purpose::Server, ..Wanted::default() };
    let servers_only = chain.authority.issue(&servers_only)?;
    let issue = |wanted: Wanted<'_>| chain.authority.issue(&Wanted { name: "ACME", ..wanted });
    let stranger = Authority::new("Strangers")?.issue(&Wanted { name: "ACME", ..Wanted::default() })?;
    let cases: [(&str, Option<Identity>); 6] = [
        ("partner-certificate-expired", Some(issue(Wanted { validity: Validity::Expired, ..Wanted::default() })?)),
        ("partner-certificate-not-yet-valid", Some(issue(Wanted { validity: Validity::NotYet, ..Wanted::default() })?)),
        ("partner-certificate-usage", Some(servers_only)),
        ("partner-certificate-issuer-unknown", Some(stranger)),
        ("partner-unknown", Some(issue(Wanted::default())?)),
        ("partner-certificate-missing", None),
    ];
    for (code, identity) in cases {
        for versions in [TlsVersions::Tls12, TlsVersions::Tls13] {
            let report = call(&chain, identity.clone(), versions);
            let alert = matches!(report.failure, Some(Failure::Tls(rustls::Error::AlertReceived(_))));
            assert!(alert && report.agreement.is_none(), "{code} {versions:?}: {report:?}");
        }
        let line = chain.server_says(code)?;
        assert!(line.contains("127.0.0.1"), "who it was: {line}");
        let record = chain.scripted_backend().wait_for_record("the record of a refusal", PATIENCE, |record| {
            record["outcome"] == "refused" && record["detail"].as_str().is_some_and(|detail| detail.contains(code))
        });
        assert!(record.is_ok(), "{code}: {:?}", chain.scripted_backend().session_records());
    }
    let report = chain.send(file("STILL"));
    assert!(report.went_well(true), "{report:?}");
    Ok(())
}

#[test]
fn a_pinned_self_signed_certificate_is_a_partner_and_another_one_of_the_same_name_is_not() -> Result<(), Trouble> {
    let pinned = pki::self_signed(&Wanted { name: "PINNED", ..Wanted::default() })?;
    let other = pki::self_signed(&Wanted { name: "PINNED", ..Wanted::default() })?;
    let configured = pinned.clone();
    let chain = Plan::new()
        .configure(move |config| {
            config["trust"]["pinned_pem"] = json!([configured.chain_pem]);
            config["partners"] = json!([{ "name": "PINNED", "certificate_sha256": [pki::fingerprint(&configured)] }]);
        })
        .start()?;
    let security = chain.security_with(Some(pinned), TlsVersions::Both);
    let report = station::send(&chain.partner_address(), &security, &chain.settings(), file("PINNED"));
    assert!(report.went_well(true), "{report:?}");
    let report = call(&chain, Some(other), TlsVersions::Both);
    assert!(matches!(report.failure, Some(Failure::Tls(_))), "{report:?}");
    Ok(())
}

#[test]
fn a_partner_outside_its_addresses_is_refused() -> Result<(), Trouble> {
    let chain =
        Plan::new().configure(|config| config["partners"][0]["allow_from"] = json!(["192.0.2.0/24"])).start()?;
    let report = chain.send(file("NEVER"));
    assert!(report.failure.is_some() && report.agreement.is_none(), "{report:?}");
    let line = chain.server_says("partner-address-refused")?;
    assert!(line.contains("in no partner's allow_from (192.0.2.0/24)"), "{line}");
    Ok(())
}

#[test]
fn another_partners_code_is_refused_with_esid_03() -> Result<(), Trouble> {
    let chain = Plan::new().partners(&["ACME", "OTHER"]).start()?;
    let settings = Settings { code: chain.partners[1].code.clone(), ..chain.settings() };
    let report = station::send(&chain.partner_address(), &chain.security(), &settings, file("NEVER"));
    assert!(matches!(report.failure, Some(Failure::Esid { code: 3, .. })), "{report:?}");
    // Which codes it may use only the administrator is told.
    let own = &chain.partners[0].code;
    assert!(!format!("{:?}", report.failure).contains(own), "{report:?}");
    let line = chain.client_says("ssid-code-refused")?;
    assert!(line.contains(&format!("a code of this partner expected: {own};")), "{line}");
    // The message did not pass, and its code is told all the same.
    let foreign = &chain.partners[1].code;
    assert!(line.contains(&format!(" code={foreign} ")), "{line}");
    let record =
        chain.scripted_backend().wait_for_record("the refusal", PATIENCE, |record| record["outcome"] == "violation")?;
    assert_eq!(record["ssid_code"], json!(foreign), "{record}");
    Ok(())
}

#[test]
fn a_peer_without_codes_of_its_own_may_not_use_one_that_a_partner_lists() -> Result<(), Trouble> {
    let chain = Plan::new()
        .partners(&["ACME", "OTHER"])
        .configure(|config| {
            config["unknown_partners"] = json!("accept");
            config["partners"][0]["ssid_codes"] = json!([]);
            config["partners"][1]["enabled"] = json!(false);
        })
        .start()?;
    let foreign = chain.partners[1].code.clone();
    let stranger = chain.authority.issue(&Wanted { name: "STRANGER", ..Wanted::default() })?;
    let acme = chain.partners[0].identity.clone();
    for (partner, identity, own) in [(json!("ACME"), acme, "ONE"), (Value::Null, stranger, "TWO")] {
        let security = chain.security_with(Some(identity), TlsVersions::Both);
        let send = |code: &str, name| {
            let settings = Settings { code: code.to_owned(), ..chain.settings() };
            station::send(&chain.partner_address(), &security, &settings, file(name))
        };
        let mark = chain.client().mark();
        let report = send(&foreign, "NEVER");
        // RFC 5024, 5.3.14: 03, user code not known. Whose it is the partner is not told.
        assert!(matches!(report.failure, Some(Failure::Esid { code: 3, .. })), "{report:?}");
        assert!(!format!("{:?}", report.failure).contains("OTHER"), "{report:?}");
        let told = chain.client().wait_after(mark, "the refusal", |line| line.contains(" ssid-code-refused "))?;
        let named = format!("{foreign} is listed under OTHER");
        assert!(told.contains(&format!(" code={foreign} ")) && told.contains(&named), "{told}");
        let record = chain.scripted_backend().wait_for_record("a violation", PATIENCE, |record| {
            record["outcome"] == "violation" && record["partner"] == partner
        })?;
        assert_eq!(record["ssid_code"], json!(foreign), "{record}");
        let report = send("O0013000000NOBODYS", own);
        assert!(report.went_well(true), "{report:?}");
    }
    let line = chain.server_says("ssid-code-refused")?;
    assert!(line.contains("this one is listed under another partner;"), "{line}");
    Ok(())
}

#[test]
fn a_buffer_size_agreed_above_the_limit_ends_the_session_with_esid_10() -> Result<(), Trouble> {
    let scratch = tempfile::tempdir().unwrap();
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let settings = Settings { patience: PATIENCE, buffer_size: 99_999, ..Settings::new(INSIDE_CODE, "INSIDE") };
    let receiver = Receiver::start(any, &Security::Plain, settings, Some(Store::new(scratch.path()).unwrap()), vec![])?;
    let chain = Plan::new()
        .receive_daemon_at(receiver.address())
        .configure(|config| config["limits"] = json!({ "max_exchange_buffer": 4096 }))
        .start()?;
    let settings = Settings { buffer_size: 8192, ..chain.settings() };
    let report = station::send(&chain.partner_address(), &chain.security(), &settings, file("NEVER"));
    let answered = receiver.next_session(PATIENCE).expect("the receive daemon's session ends");
    assert!(matches!(answered.failure, Some(Failure::Esid { code: 10, .. })), "{answered:?}");
    assert!(matches!(report.failure, Some(Failure::Esid { code: 10, .. })), "{report:?}");
    assert!(report.agreement.is_none(), "the second SSID does not pass");
    let said = chain.client_says("exchange-buffer-too-large")?;
    assert!(
        said.contains("(Initiator 8192, Responder 99999)") && said.contains("max_exchange_buffer = 4096"),
        "{said}"
    );
    let settings = Settings { buffer_size: 4096, ..chain.settings() };
    let report = station::send(&chain.partner_address(), &chain.security(), &settings, file("SMALL"));
    assert!(report.went_well(true), "{report:?}");
    Ok(())
}

/// What a partner does wrong, the ESID it gets for that, and what the other side gets.
#[test]
fn a_partner_that_breaks_the_protocol_gets_its_esid_and_the_receive_daemon_99() -> Result<(), Trouble> {
    let scratch = tempfile::tempdir().unwrap();
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let settings = Settings { patience: PATIENCE, ..Settings::new(INSIDE_CODE, "INSIDE") };
    let receiver = Receiver::start(any, &Security::Plain, settings, Some(Store::new(scratch.path()).unwrap()), vec![])?;
    let chain = Plan::new().receive_daemon_at(receiver.address()).start()?;
    let on = |name: &'static str, octets: Vec<u8>| -> Tamper {
        Arc::new(move |command, stb| if command.name() == name { octets.clone() } else { stb })
    };
    let twice: Tamper = Arc::new(|command, stb| match command {
        Command::Sfid(_) => [stb.clone(), stb].concat(),
        _ => stb,
    });
    let blank_code: Tamper = Arc::new(|command, mut stb| {
        if let (Command::Sfid(_), Some(octet)) = (command, stb.get_mut(4 + 1)) {
            *octet = 0;
        }
        stb
    });
    let cases: [(&str, Tamper, u8); 6] = [
        ("an unknown command", on("CD", vec![0x10, 0, 0, 5, b'Z']), 1),
        ("a second SFID within a file", twice, 2),
        ("EFPA by the Speaker", on("EFID", vec![0x10, 0, 0, 6, b'4', b'N']), 2),
        ("NUL in a dataset name", blank_code, 6),
        ("a CD that is too long", on("CD", vec![0x10, 0, 0, 6, b'R', b'R']), 7),
        ("a stream header of 100004 octets", on("DATA", vec![0x10, 0x01, 0x86, 0xa4]), 7),
    ];
    for (number, (what, tamper, expected)) in cases.into_iter().enumerate() {
        let settings = Settings { tamper: Some(tamper), ..chain.settings() };
        let name = format!("FILE-{number}");
        let report = station::send(&chain.partner_address(), &chain.security(), &settings, file(&name));
        assert!(matches!(report.failure, Some(Failure::Esid { code, .. }) if code == expected), "{what}: {report:?}");
        let answered = receiver.next_session(PATIENCE).expect("the receive daemon's session ends");
        assert!(matches!(answered.failure, Some(Failure::Esid { code: 99, .. })), "{what}: {answered:?}");
    }
    let violations = |record: &Value| record["outcome"] == "violation";
    chain.scripted_backend().wait_for_record("a violation", PATIENCE, violations)?;
    let said = chain.server_says("oftp2-protocol-violation")?;
    assert!(said.contains("9.") || said.contains("5."), "the rule's section is named: {said}");
    Ok(())
}

#[test]
fn a_receive_daemon_that_breaks_the_protocol_gets_its_esid_and_the_partner_99() -> Result<(), Trouble> {
    let scratch = tempfile::tempdir().unwrap();
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let tamper: Tamper = Arc::new(|command, stb| match command {
        Command::Sfpa { .. } => vec![0x10, 0, 0, 5, b'P'],
        _ => stb,
    });
    let settings = Settings { patience: PATIENCE, tamper: Some(tamper), ..Settings::new(INSIDE_CODE, "INSIDE") };
    let receiver = Receiver::start(any, &Security::Plain, settings, Some(Store::new(scratch.path()).unwrap()), vec![])?;
    let chain = Plan::new().receive_daemon_at(receiver.address()).start()?;
    let report = chain.send(file("A"));
    assert!(matches!(report.failure, Some(Failure::Esid { code: 99, .. })), "{report:?}");
    let answered = receiver.next_session(PATIENCE).expect("the receive daemon's session ends");
    assert!(matches!(answered.failure, Some(Failure::Esid { code: 2, .. })), "{answered:?}");
    Ok(())
}

#[test]
fn a_peer_that_never_finishes_its_handshake_is_closed_in_time() -> Result<(), Trouble> {
    let chain = Plan::new().configure(|config| config["limits"] = json!({ "handshake_timeout_s": 10 })).start()?;
    let mut silent = station::connect(&chain.partner_address(), &Security::Plain, PATIENCE)?;
    // An alert of TLS may come first.
    while !silent.receive_octets()?.is_empty() {}
    chain.server_says("handshake-timeout")?;
    assert!(chain.send(file("STILL")).went_well(true));
    Ok(())
}

#[test]
fn a_peer_that_speaks_no_tls_is_told_nothing_and_logged_once() -> Result<(), Trouble> {
    let chain = Chain::start()?;
    let mut plain = station::connect(&chain.partner_address(), &Security::Plain, PATIENCE)?;
    plain.send_octets(b"\x10\0\0\x17IODETTE FTP READY \r")?;
    while plain.receive_octets().is_ok_and(|octets| !octets.is_empty()) {}
    chain.server_says("handshake-failed")?;
    assert!(chain.send(file("STILL")).went_well(true));
    let told = chain.server().lines().iter().filter(|line| line.contains(" handshake-failed ")).count();
    assert_eq!(told, 1);
    Ok(())
}
