//! The certificate of the partner that is called is judged as that of one who calls.

use serde_json::json;
use tests::harness::scripted_backend::Answer;
use tests::harness::{Chain, PATIENCE, Plan, Trouble};
use tests::pki::{self, Authority, Purpose, Validity, Wanted};
use tests::station::{Failure, Identity, Settings, TlsSettings, TlsVersions, sha256};

use crate::scene::{arrived, event, file, http_refusal, recorded, socks5_refusal, told};

const VERSIONS: [TlsVersions; 2] = [TlsVersions::Tls12, TlsVersions::Tls13];

/// ACME shows that certificate when it is called, and is not believed for that reason.
fn refused_with(chain: &Chain, identity: &Identity, code: &str) -> Result<(), Trouble> {
    for versions in VERSIONS {
        let security = TlsSettings { identity: Some(identity.clone()), versions, ..chain.called_security(0)? };
        let partner = chain.partner_listens_with(0, security, chain.called_settings(0)?)?;
        let mark = chain.server().mark();
        let report = chain.call(file("NEVER"))?;
        let refused = http_refusal(&report);
        assert!(matches!(&refused, Some((502, sentence)) if !sentence.is_empty()), "{code} {versions:?}: {report:?}");
        let report = chain.call_via(chain.socks5(), &chain.called_at(0), file("NEVER"))?;
        assert!(socks5_refusal(&report).is_some_and(|code| code != 0), "{code} {versions:?}: {report:?}");
        let line = told(chain.server(), mark, code)?;
        assert!(line.contains(&chain.called_at(0)), "whom: {line}");
        for taken in partner.next_sessions(2, PATIENCE) {
            assert!(taken.agreement.is_none() && taken.received.is_empty(), "no OFTP2 before the judgement: {taken:?}");
        }
    }
    let record = recorded(chain, code);
    assert_eq!((&record["outcome"], &record["partner"]), (&json!("refused"), &json!("ACME")), "{record}");
    event(chain, code);
    Ok(())
}

fn by_subject(plan: Plan) -> Plan {
    plan.configure(|config| {
        for partner in config["partners"].as_array_mut().unwrap() {
            let partner = partner.as_object_mut().unwrap();
            partner.remove("certificate_sha256");
            let subject = format!("CN={}", partner["name"].as_str().unwrap());
            partner.insert("subjects".into(), json!([subject]));
        }
    })
}

#[test]
fn certificates_that_do_not_stand_are_refused_within_the_handshake() -> Result<(), Trouble> {
    let chain = by_subject(Plan::new().partners(&["ACME", "HOME"]).outgoing()?).start()?;
    let issue = |wanted: Wanted<'_>| chain.authority.issue(&Wanted { name: "ACME", ..wanted });
    let stranger = Authority::new("Strangers")?.issue(&Wanted { name: "ACME", ..Wanted::default() })?;
    refused_with(
        &chain,
        &issue(Wanted { validity: Validity::Expired, ..Wanted::default() })?,
        "partner-certificate-expired",
    )?;
    let not_yet = issue(Wanted { validity: Validity::NotYet, ..Wanted::default() })?;
    refused_with(&chain, &not_yet, "partner-certificate-not-yet-valid")?;
    let caller = issue(Wanted { purpose: Purpose::Client, ..Wanted::default() })?;
    refused_with(&chain, &caller, "partner-certificate-usage")?;
    refused_with(&chain, &stranger, "partner-certificate-issuer-unknown")?;
    // Valid, and another partner's: who was called must answer.
    refused_with(&chain, &chain.partners[1].identity, "partner-certificate-name-mismatch")?;

    let server = issue(Wanted { purpose: Purpose::Server, ..Wanted::default() })?;
    let security = TlsSettings { identity: Some(server), ..chain.called_security(0)? };
    let partner = chain.partner_listens_with(0, security, chain.called_settings(0)?)?;
    let report = chain.call(file("STILL"))?;
    arrived(&chain, 0, "STILL", &report, &partner);
    Ok(())
}

#[test]
fn a_pinned_certificate_stands_and_another_one_of_its_name_does_not() -> Result<(), Trouble> {
    let pinned = pki::self_signed(&Wanted { name: "ACME", ..Wanted::default() })?;
    let other = pki::self_signed(&Wanted { name: "ACME", ..Wanted::default() })?;
    let (pem, fingerprint) = (pinned.chain_pem.clone(), pki::fingerprint(&pinned));
    let chain = Plan::new()
        .outgoing()?
        .configure(move |config| {
            config["trust"]["pinned_pem"] = json!([pem]);
            config["trust"]["anchors_pem"] = json!([]);
            config["partners"][0]["certificate_sha256"] = json!([fingerprint]);
        })
        .start()?;
    for versions in VERSIONS {
        let security = TlsSettings { identity: Some(pinned.clone()), versions, ..chain.called_security(0)? };
        let partner = chain.partner_listens_with(0, security, chain.called_settings(0)?)?;
        let name = format!("{versions:?}").to_uppercase();
        let report = chain.call(file(&name))?;
        arrived(&chain, 0, &name, &report, &partner);
    }
    refused_with(&chain, &other, "partner-certificate-not-pinned")
}

#[test]
fn a_revoked_certificate_is_refused() -> Result<(), Trouble> {
    let authority = Authority::new("Revoking")?;
    let identity = authority.issue(&Wanted { name: "ACME", serial: Some(&[42]), ..Wanted::default() })?;
    let crl = authority.revoke(&[vec![42]])?;
    let (pem, hash, fingerprint) = (authority.certificate_pem(), sha256(&crl), pki::fingerprint(&identity));
    let mut chain = Plan::new()
        .outgoing()?
        .configure(move |config| {
            config["trust"] = json!({ "anchors_pem": [pem], "revocation": "require", "crls": [hash] });
            config["partners"][0]["certificate_sha256"] = json!([fingerprint]);
        })
        .prepare()?;
    chain.scripted_backend().set_script(move |request| {
        request.path.strip_prefix("/proxy/v1/crls/")?;
        let headers = vec![("Content-Type".to_owned(), "application/pkix-crl".to_owned())];
        Some(Answer { status: 200, headers, body: crl.clone() })
    });
    chain.start_server()?;
    chain.start_client()?;
    chain.client_says("outgoing-port-open")?;
    chain.wait_until_open(Default::default())?;
    refused_with(&chain, &identity, "partner-certificate-revoked")
}

#[test]
fn server_name_is_held_against_the_certificate_where_it_is_given() -> Result<(), Trouble> {
    let chain = by_subject(Plan::new().outgoing()?)
        .configure(|config| config["partners"][0]["server_name"] = json!("oftp2.acme.example"))
        .start()?;
    let issue = |hosts| chain.authority.issue(&Wanted { name: "ACME", hosts, ..Wanted::default() });
    refused_with(&chain, &issue(&["oftp2.home.example"])?, "partner-certificate-name-mismatch")?;
    refused_with(&chain, &issue(&[])?, "partner-certificate-name-mismatch")?;
    let identity = Some(issue(&["oftp2.acme.example"])?);
    let partner = chain.partner_listens_with(
        0,
        TlsSettings { identity, ..chain.called_security(0)? },
        chain.called_settings(0)?,
    )?;
    let report = chain.call(file("NAMED"))?;
    arrived(&chain, 0, "NAMED", &report, &partner);
    Ok(())
}

#[test]
fn a_called_partner_must_answer_with_a_code_of_its_own() -> Result<(), Trouble> {
    let chain = Plan::new().partners(&["ACME", "HOME"]).outgoing()?.start()?;
    let settings = Settings { code: chain.partners[1].code.clone(), ..chain.called_settings(0)? };
    let partner = chain.partner_listens_with(0, chain.called_security(0)?, settings)?;
    let report = chain.call(file("NEVER"))?;
    assert!(report.sent.is_empty(), "{report:?}");
    assert!(matches!(report.failure, Some(Failure::Esid { .. })), "{report:?}");
    let taken = partner.next_session(PATIENCE).unwrap();
    // RFC 5024, 5.3.14: 03, user code not known.
    assert!(matches!(taken.failure, Some(Failure::Esid { code: 3, .. })), "{taken:?}");
    let line = told(chain.client(), Default::default(), "ssid-code-refused")?;
    assert!(line.contains(&chain.partners[1].code), "{line}");
    let record = recorded(&chain, "ssid-code-refused");
    assert_eq!(record["partner"], "ACME", "{record}");
    assert_eq!(record["outcome"], "violation", "{record}");
    assert_eq!(record["ssid_code"], json!(chain.partners[1].code), "{record}");
    Ok(())
}

#[test]
fn a_called_partner_without_codes_may_not_answer_with_one_that_another_lists() -> Result<(), Trouble> {
    let chain = Plan::new()
        .partners(&["ACME", "HOME"])
        .outgoing()?
        .configure(|config| config["partners"][0]["ssid_codes"] = json!([]))
        .start()?;
    let foreign = &chain.partners[1].code;
    let settings = Settings { code: foreign.clone(), ..chain.called_settings(0)? };
    let partner = chain.partner_listens_with(0, chain.called_security(0)?, settings)?;
    chain.call(file("NEVER"))?;
    let taken = partner.next_session(PATIENCE).unwrap();
    // RFC 5024, 5.3.14: 03, user code not known.
    assert!(matches!(taken.failure, Some(Failure::Esid { code: 3, .. })), "{taken:?}");
    let line = told(chain.client(), Default::default(), "ssid-code-refused")?;
    assert!(line.contains(&format!("{foreign} is listed under HOME")), "{line}");
    assert_eq!(recorded(&chain, "ssid-code-refused")["ssid_code"], json!(foreign));
    drop(partner);
    let partner = chain.partner_listens_with(0, chain.called_security(0)?, chain.called_settings(0)?)?;
    let report = chain.call(file("OWN"))?;
    arrived(&chain, 0, "OWN", &report, &partner);
    Ok(())
}
