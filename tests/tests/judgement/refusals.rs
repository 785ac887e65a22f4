//! Each refusal: its code in the log with what was presented, its alert on the wire in both TLS versions, one event and
//! one record.

use std::collections::HashMap;
use std::time::SystemTime;

use rcgen::{CustomExtension, DnType, ExtendedKeyUsagePurpose, PublicKeyData};
use rustls::AlertDescription;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Value, json};
use tests::harness::scripted_backend::Answer;
use tests::harness::{Chain, LogLine, PATIENCE, Plan, Trouble, made_octets, until};
use tests::pki;
use tests::station::{Identity, OutgoingFile, Settings, TlsVersions, sha256};

use crate::ca::{Ca, DAY, WeakKey, partner};
use crate::caller::{Shown, VERSIONS, call};

/// A chain whose backend also gives these CRLs.
pub fn start_with_crls(plan: Plan, crls: Vec<Vec<u8>>) -> Result<Chain, Trouble> {
    let hashes: Vec<String> = crls.iter().map(|crl| sha256(crl)).collect();
    let mut chain = plan.configure(move |config| config["trust"]["crls"] = json!(hashes)).prepare()?;
    serve_crls(&chain, crls);
    chain.start_server()?;
    chain.start_client()?;
    chain.wait_until_open(Default::default())?;
    Ok(chain)
}

/// These CRLs, from now on.
pub fn serve_crls(chain: &Chain, crls: Vec<Vec<u8>>) {
    let crls: HashMap<String, Vec<u8>> = crls.into_iter().map(|crl| (sha256(&crl), crl)).collect();
    chain.scripted_backend().set_script(move |request| {
        let crl = crls.get(request.path.strip_prefix("/proxy/v1/crls/")?)?;
        let headers = vec![("Content-Type".to_owned(), "application/pkix-crl".to_owned())];
        Some(Answer { status: 200, headers, body: crl.clone() })
    });
}

fn by_subject(name: &str, ca: &Ca) -> Value {
    json!({ "name": name, "subjects": [format!("CN={name}")], "issuers": [ca.fingerprint()], "revocation": "off" })
}

/// Waits for the records of that many refusals: the peer knows of each before anybody else does.
fn wait_for_refused(chain: &Chain, count: usize) {
    let refused = || {
        let records = chain.scripted_backend().session_records();
        records.iter().filter(|record| record["outcome"] == "refused").count()
    };
    assert!(
        until(PATIENCE, || (refused() >= count).then_some(())).is_some(),
        "{count} refusals, {} records",
        refused()
    );
}

/// A whole session passes, and so everything that was told before it has been delivered.
fn deliver(chain: &Chain) -> Result<(), Trouble> {
    let report = chain.send(vec![OutgoingFile::from_octets("LAST", made_octets(100))]);
    assert!(report.went_well(true), "{report:?}");
    let is_last = |record: &Value| record["files"][0]["dataset_name"] == "LAST";
    chain.scripted_backend().wait_for_record("the last session", PATIENCE, is_last)?;
    Ok(())
}

fn end_entity(shown: &Shown) -> Option<CertificateDer<'static>> {
    match shown {
        Shown::Nothing => None,
        Shown::Identity(identity) => Some(CertificateDer::from_pem_slice(identity.chain_pem.as_bytes()).unwrap()),
        Shown::WithoutItsKey(certificate) => Some(certificate.clone()),
    }
}

#[test]
fn each_refusal_has_its_code_its_alert_one_event_and_what_was_presented_in_both_tls_versions() -> Result<(), Trouble> {
    let (ca, without_crl, with_old_crl) = (Ca::new("Partners"), Ca::new("No CRL"), Ca::new("Old CRL"));
    let stranger = Ca::new("Strangers");
    let mut configured = vec![
        by_subject("EXPIRED", &ca),
        by_subject("EARLY", &ca),
        by_subject("WEAK", &ca),
        by_subject("SERVER", &ca),
        by_subject("CRITICAL", &ca),
        by_subject("KEYLESS", &ca),
        by_subject("REVOKED", &ca),
        by_subject("DISABLED", &ca),
        by_subject("ELSEWHERE", &ca),
        by_subject("NO-CRL", &without_crl),
        by_subject("OLD-CRL", &with_old_crl),
    ];
    configured[6]["revocation"] = json!("require");
    configured[7]["enabled"] = json!(false);
    configured[8]["allow_from"] = json!(["192.0.2.0/24", "2001:db8::/32"]);
    configured[9]["revocation"] = json!("require");
    configured[10]["revocation"] = json!("require");
    let anchors = [ca.pem(), without_crl.pem(), with_old_crl.pem()];
    let plan = Plan::new().configure(move |config| {
        config["trust"]["anchors_pem"].as_array_mut().unwrap().extend(anchors.map(Value::from));
        config["partners"].as_array_mut().unwrap().extend(configured);
    });
    let crls = vec![ca.crl(&[100], DAY), with_old_crl.crl_of(&[], 2 * DAY, SystemTime::now() - DAY)];
    let chain = start_with_crls(plan, crls)?;

    let of = |name: &str, change: &dyn Fn(&mut rcgen::CertificateParams)| {
        let mut params = partner(name);
        change(&mut params);
        Shown::Identity(ca.issue_as(params))
    };
    let now = SystemTime::now();
    let spki = |shown: &Shown| sha256(&end_entity(shown).unwrap());
    let p256 = rcgen::KeyPair::generate().unwrap();
    assert_eq!(WeakKey.der_bytes().len(), 140);
    use AlertDescription as Alert;
    let cases: Vec<(&str, Alert, Shown)> = vec![
        (
            "partner-certificate-expired",
            Alert::CertificateExpired,
            of("EXPIRED", &|c| c.not_after = (now - DAY / 2).into()),
        ),
        (
            "partner-certificate-not-yet-valid",
            Alert::CertificateExpired,
            of("EARLY", &|c| c.not_before = (now + DAY).into()),
        ),
        ("partner-certificate-revoked", Alert::CertificateRevoked, of("REVOKED", &|_| {})),
        ("partner-certificate-issuer-unknown", Alert::UnknownCA, Shown::Identity(stranger.issue("REVOKED"))),
        (
            "partner-certificate-not-pinned",
            Alert::UnknownCA,
            Shown::Identity(pki::self_signed(&pki::Wanted { name: "SELF", ..pki::Wanted::default() })?),
        ),
        (
            "partner-certificate-key-too-weak",
            Alert::UnsupportedCertificate,
            Shown::WithoutItsKey(ca.certify("WEAK", &WeakKey)),
        ),
        (
            "partner-certificate-usage",
            Alert::UnsupportedCertificate,
            of("SERVER", &|c| c.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]),
        ),
        (
            "partner-certificate-chain-invalid",
            Alert::BadCertificate,
            of("CRITICAL", &|c| {
                let mut unknown = CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 1, 1], vec![5, 0]);
                unknown.set_criticality(true);
                c.custom_extensions = vec![unknown];
            }),
        ),
        (
            "partner-handshake-signature-invalid",
            Alert::DecryptError,
            Shown::WithoutItsKey(ca.certify("KEYLESS", &p256)),
        ),
        ("partner-unknown", Alert::AccessDenied, of("NOBODY", &|_| {})),
        ("partner-disabled", Alert::AccessDenied, of("DISABLED", &|_| {})),
        ("partner-address-refused", Alert::AccessDenied, of("ELSEWHERE", &|_| {})),
        ("crl-missing", Alert::UnknownCA, Shown::Identity(without_crl.issue("NO-CRL"))),
        ("crl-expired", Alert::UnknownCA, Shown::Identity(with_old_crl.issue("OLD-CRL"))),
        ("partner-certificate-missing", Alert::CertificateRequired, Shown::Nothing),
    ];
    let mut wrong = Vec::new();
    for (code, alert, shown) in &cases {
        for version in VERSIONS {
            let got = call(&chain.partner_address(), shown, version);
            if got.alert != Some(*alert) || !got.welcome.is_empty() {
                wrong.push(format!("{code}: {alert:?} expected in {:?}, {got:?}", version.version));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    wait_for_refused(&chain, cases.len() * VERSIONS.len());
    deliver(&chain)?;
    let events = chain.scripted_backend().events();
    let records = chain.scripted_backend().session_records();
    for (code, _, shown) in &cases {
        let told: Vec<_> = events.iter().filter(|event| event["code"] == *code).collect();
        assert_eq!(told.len(), VERSIONS.len(), "one event for each of two refusals, {code}: {told:#?}");
        let line = LogLine::read(&chain.server_says(code)?).expect("a line of the log");
        assert_eq!((line.code.as_deref(), line.level.as_str()), (Some(*code), "ERROR"));
        assert!(line.message.starts_with("peer=127.0.0.1:"), "{}", line.message);
        let of_code = |record: &&Value| {
            let detail = record["detail"].as_str().unwrap_or_default();
            record["outcome"] == "refused" && detail.starts_with(&format!("{code}: "))
        };
        assert_eq!(records.iter().filter(of_code).count(), VERSIONS.len(), "{code}: {records:#?}");
        if end_entity(shown).is_none() {
            continue;
        }
        let fingerprint = format!("sha256={}", spki(shown));
        for part in ["subject=\"CN=", "issuer=\"CN=", "serial=", "valid=2", &fingerprint] {
            assert!(line.message.contains(part), "{code}: {part} is missing in {}", line.message);
        }
        assert!(told.iter().all(|event| event["message"].as_str().unwrap().contains(&fingerprint)), "{told:#?}");
    }
    let message = |code: &str| chain.server_says(code);
    assert!(message("partner-certificate-key-too-weak")?.contains("1024"), "the size");
    assert!(message("partner-disabled")?.contains("DISABLED"), "the partner");
    assert!(message("crl-missing")?.contains("CN=No CRL"), "whose CRL");
    Ok(())
}

#[test]
fn text_of_a_certificate_cannot_forge_or_hide_a_line_of_the_log() -> Result<(), Trouble> {
    let chain = Chain::start()?;
    let ca = Ca::new("Strangers");
    let mut params = partner("x");
    let evil = "A\" sha256=00\r\n2026-01-01T00:00:00Z INFO gate[1] - session-ended \u{202e}gnp.\u{1b}[2K";
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, evil);
    let got = call(&chain.partner_address(), &Shown::Identity(ca.issue_as(params)), VERSIONS[1]);
    assert_eq!(got.alert, Some(AlertDescription::UnknownCA));
    let line = chain.server_says("partner-certificate-issuer-unknown")?;
    assert!(line.contains("issuer=\"CN=Strangers\""), "{line}");
    for line in chain.server().lines() {
        assert!(!line.contains(['\r', '\u{1b}', '\u{202e}']) && !line.starts_with("2026-01-01T00:00:00Z"), "{line:?}");
    }
    Ok(())
}

#[test]
fn a_refusal_by_the_inside_is_one_event_and_one_record_too() -> Result<(), Trouble> {
    // The other one has the last session: when the place of the held one is free again, its partner cannot know.
    let plan = Plan::new().partners(&["ACME", "FULL"]);
    let chain = plan.configure(|config| config["partners"][1]["max_sessions"] = json!(1)).start()?;
    let full = &chain.partners[1];
    let file = OutgoingFile::from_octets("HELD", made_octets(1_000_000));
    let security = chain.security_with(Some(full.identity.clone()), TlsVersions::Both);
    let settings = Settings { code: full.code.clone(), ..chain.settings() };
    let held = tests::harness::Held::start(&chain.partner_address(), &security, &settings, file, 500_000)?;
    let shown = Shown::Identity(Identity::clone(&full.identity));
    for version in VERSIONS {
        let got = call(&chain.partner_address(), &shown, version);
        assert!(got.alert.is_none() && got.welcome.is_empty(), "closed without ESID: {got:?}");
    }
    let report = held.go_on()?;
    assert!(report.went_well(true), "{report:?}");
    wait_for_refused(&chain, VERSIONS.len());
    deliver(&chain)?;
    let code = "partner-sessions-full";
    let events = chain.scripted_backend().events();
    let of_full = |event: &&serde_json::Value| event["code"] == code && event["partner"] == full.name.as_str();
    assert_eq!(events.iter().filter(of_full).count(), 2, "{events:#?}");
    let records = chain.scripted_backend().session_records();
    let refused: Vec<_> = records.iter().filter(|record| record["outcome"] == "refused").collect();
    assert_eq!(refused.len(), 2, "{records:#?}");
    let misconduct = chain.server().lines().iter().filter(|line| line.contains("link-message-invalid")).count();
    assert_eq!(misconduct, 0, "{}", chain.server().last_lines(20));
    Ok(())
}
