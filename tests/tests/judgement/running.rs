//! What a new configuration does to sessions that run and to those that come; and what is told once, not each time.

use std::time::SystemTime;

use serde_json::{Value, json};
use tests::harness::{Chain, Held, Mark, PATIENCE, Plan, Process, Trouble, made_octets};
use tests::station::{self, Failure, OutgoingFile, Security, Settings, TlsVersions, sha256};

use crate::ca::{Ca, DAY, partner};
use crate::caller::{Shown, VERSIONS, call};
use crate::refusals::serve_crls;

/// Starts the chain with a client that asks for its configuration each second.
pub fn start_polling(chain: &mut Chain) -> Result<(), Trouble> {
    chain.start_server()?;
    let mut command = chain.client_command()?;
    command.args(["--poll-interval", "1"]);
    chain.client = Some(Process::start("proxyclient", &mut command)?);
    chain.wait_until_open(Mark::default())
}

/// A partner of this CA, by its name.
fn by_subject(name: &str, ca: &Ca) -> Value {
    json!({ "name": name, "subjects": [format!("CN={name}")], "issuers": [ca.fingerprint()] })
}

fn plan(ca: &Ca, revocation: &str, crls: &[Vec<u8>]) -> Plan {
    let (pem, partner, revocation) = (ca.pem(), by_subject("RUNNER", ca), revocation.to_owned());
    let crls: Vec<String> = crls.iter().map(|crl| sha256(crl)).collect();
    Plan::new().configure(move |config| {
        config["trust"]["anchors_pem"].as_array_mut().unwrap().push(json!(pem));
        config["trust"]["revocation"] = json!(revocation);
        config["trust"]["crls"] = json!(crls);
        config["partners"][0]["revocation"] = json!("off");
        config["partners"].as_array_mut().unwrap().push(partner);
    })
}

/// So long a file that the order to end its session comes before its end, however busy the machine is.
const LONG: usize = 80_000_000;

fn runner(chain: &Chain, ca: &Ca) -> (Security, Settings) {
    let security = chain.security_with(Some(ca.issue("RUNNER")), TlsVersions::Both);
    (security, Settings { code: "O0013000000RUNNER".into(), ..chain.settings() })
}

/// Lets a session run, changes the configuration, and sees how the session ends.
fn withdrawn_by(revocation: &str, change: impl Fn(&mut Value, &Ca) -> Vec<Vec<u8>>, why: &str) -> Result<(), Trouble> {
    let ca = Ca::new("Partners");
    let before = vec![ca.crl_of(&[7], DAY, SystemTime::now() + DAY)];
    let mut chain = plan(&ca, revocation, &before).prepare()?;
    serve_crls(&chain, before);
    start_polling(&mut chain)?;
    let (security, settings) = runner(&chain, &ca);
    let file = OutgoingFile::from_octets("NEVER-WHOLE", made_octets(LONG));
    let held = Held::start(&chain.partner_address(), &security, &settings, file, 500_000)?;
    let mut config = chain.config.clone();
    let crls = change(&mut config, &ca);
    if !crls.is_empty() {
        config["trust"]["crls"] = json!(crls.iter().map(|crl| sha256(crl)).collect::<Vec<_>>());
        serve_crls(&chain, crls);
    }
    chain.scripted_backend().set_config(config);
    let line = chain.client_says("session-withdrawn")?;
    assert!(line.contains(why), "{line}");
    let report = held.go_on()?;
    assert!(matches!(report.failure, Some(Failure::Esid { code: 5, .. })), "{report:?}");
    // The one that stays a partner comes in, and its session is the last that is told.
    let report = chain.send(vec![OutgoingFile::from_octets("LAST", made_octets(100))]);
    assert!(report.went_well(true), "{report:?}");
    let is_last = |record: &Value| record["files"][0]["dataset_name"] == "LAST";
    chain.scripted_backend().wait_for_record("the last session", PATIENCE, is_last)?;
    // What the peers know already, their sessions' processes may still have to write.
    let of_runner = |record: &Value| record["partner"] == "RUNNER";
    chain.scripted_backend().wait_for_record("the withdrawn session", PATIENCE, of_runner)?;
    let events = chain.scripted_backend().events();
    let told: Vec<_> = events.iter().filter(|event| event["code"] == "session-withdrawn").collect();
    assert_eq!(told.len(), 1, "{events:#?}");
    assert_eq!(told[0]["partner"], "RUNNER");
    let records = chain.scripted_backend().session_records();
    let of_runner: Vec<_> = records.iter().filter(|record| of_runner(record)).collect();
    assert!(of_runner.len() == 1 && of_runner[0]["outcome"] == "aborted", "{records:#?}");
    Ok(())
}

#[test]
fn a_revoked_partners_running_session_ends_with_esid_05() -> Result<(), Trouble> {
    withdrawn_by("require", |_, ca| vec![ca.crl(&[7, 100], DAY)], "partner-certificate-revoked")
}

#[test]
fn a_disabled_partners_running_session_ends_with_esid_05() -> Result<(), Trouble> {
    let disable = |config: &mut Value, _: &Ca| {
        config["partners"][1]["enabled"] = json!(false);
        Vec::new()
    };
    withdrawn_by("off", disable, "partner-disabled")
}

#[test]
fn a_removed_partners_running_session_ends_with_esid_05() -> Result<(), Trouble> {
    let remove = |config: &mut Value, _: &Ca| {
        config["partners"].as_array_mut().unwrap().remove(1);
        Vec::new()
    };
    withdrawn_by("off", remove, "partner-unknown")
}

#[test]
fn a_session_whose_anchor_is_removed_ends_with_esid_05() -> Result<(), Trouble> {
    let remove = |config: &mut Value, _: &Ca| {
        config["trust"]["anchors_pem"].as_array_mut().unwrap().remove(1);
        config["partners"].as_array_mut().unwrap().remove(1);
        Vec::new()
    };
    withdrawn_by("off", remove, "partner-certificate-issuer-unknown")
}

#[test]
fn a_session_whose_pin_is_removed_ends_with_esid_05() -> Result<(), Trouble> {
    let pinned = tests::pki::self_signed(&tests::pki::Wanted { name: "PINNED", ..Default::default() })?;
    let (pem, fingerprint) = (pinned.chain_pem.clone(), tests::pki::fingerprint(&pinned));
    let mut chain = Plan::new()
        .configure(move |config| {
            config["trust"]["pinned_pem"] = json!([pem]);
            let partner = json!({ "name": "PINNED", "certificate_sha256": [fingerprint] });
            config["partners"].as_array_mut().unwrap().push(partner);
        })
        .prepare()?;
    start_polling(&mut chain)?;
    let security = chain.security_with(Some(pinned), TlsVersions::Both);
    let settings = Settings { code: "O0013000000PINNED".into(), ..chain.settings() };
    let file = OutgoingFile::from_octets("NEVER-WHOLE", made_octets(LONG));
    let held = Held::start(&chain.partner_address(), &security, &settings, file, 500_000)?;
    let mut config = chain.config.clone();
    config["trust"]["pinned_pem"] = json!([]);
    chain.scripted_backend().set_config(config);
    let line = chain.client_says("session-withdrawn")?;
    assert!(line.contains("partner-certificate-not-pinned"), "{line}");
    let report = held.go_on()?;
    assert!(matches!(report.failure, Some(Failure::Esid { code: 5, .. })), "{report:?}");
    Ok(())
}

#[test]
fn doubts_left_out_crls_and_near_ends_are_events_once_and_not_for_each_session_or_poll() -> Result<(), Trouble> {
    let (ca, old, namesake) = (Ca::new("Partners"), Ca::new("Old CRL"), Ca::new("Partners"));
    let forged = namesake.crl(&[], DAY);
    // Nineteen days of twenty-five are over: seven days or fewer are left, not thirty of less than sixty.
    let expired = old.crl_of(&[], 3 * DAY, SystemTime::now() - DAY);
    let crls = vec![forged.clone(), expired];
    let (pem, other, hashes) = (old.pem(), by_subject("OTHER", &old), crls.iter().map(|crl| sha256(crl)));
    let hashes: Vec<_> = hashes.collect();
    let mut chain = plan(&ca, "prefer", &[])
        .configure(move |config| {
            config["trust"]["anchors_pem"].as_array_mut().unwrap().push(json!(pem));
            config["trust"]["crls"] = json!(hashes);
            config["partners"].as_array_mut().unwrap().push(other);
        })
        .prepare()?;
    serve_crls(&chain, crls);
    start_polling(&mut chain)?;
    let mut params = partner("RUNNER");
    params.not_before = (SystemTime::now() - 19 * DAY).into();
    params.not_after = (SystemTime::now() + 6 * DAY).into();
    let ending = ca.issue_as(params);
    for name in ["RUNNER-1", "RUNNER-2"] {
        let security = chain.security_with(Some(ending.clone()), TlsVersions::Both);
        let file = OutgoingFile::from_octets(name, made_octets(100));
        let report = station::send(&chain.partner_address(), &security, &runner(&chain, &ca).1, vec![file]);
        assert!(report.went_well(true), "{report:?}");
    }
    let other = Shown::Identity(old.issue("OTHER"));
    for version in VERSIONS {
        assert!(!call(&chain.partner_address(), &other, version).welcome.is_empty());
    }
    // The same again, and some polls later.
    let polls = || {
        let requests = chain.scripted_backend().requests();
        requests.iter().filter(|request| request.path == "/proxy/v1/config").count()
    };
    let before = polls();
    assert!(tests::harness::until(PATIENCE, || (polls() >= before + 2).then_some(())).is_some());
    let report = chain.send(vec![OutgoingFile::from_octets("LAST", made_octets(100))]);
    assert!(report.went_well(true), "{report:?}");
    let is_last = |record: &Value| record["files"][0]["dataset_name"] == "LAST";
    chain.scripted_backend().wait_for_record("the last session", PATIENCE, is_last)?;
    let events = chain.scripted_backend().events();
    for (code, part) in [
        ("crl-missing", "CN=Partners"),
        ("crl-expired", "CN=Old CRL"),
        ("crl-left-out", &sha256(&forged)),
        ("expiry-warning", "partner certificate \"CN=RUNNER\""),
    ] {
        let told = |event: &&Value| {
            event["code"] == code && event["message"].as_str().is_some_and(|message| message.contains(part))
        };
        assert_eq!(events.iter().filter(told).count(), 1, "{code}: {events:#?}");
    }
    let taken = events.iter().filter(|event| event["code"] == "configuration-taken").count();
    assert_eq!(taken, 1, "an unchanged configuration is not taken again: {events:#?}");
    Ok(())
}
