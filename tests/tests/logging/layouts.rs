//! What the layouts make of a session, a refusal and a violation, in the files that the daemons write.

use std::path::PathBuf;

use serde_json::{Value, json};
use tests::harness::{Chain, INSIDE_CODE, Mark, Plan, Process, Trouble, made_octets};
use tests::pki::{self, Authority, Wanted};
use tests::station::{self, OutgoingFile, Rule, Settings, TlsVersions};

use crate::written;

const LOGRC: &str = "\
appenders:
  terminal:
    kind: console
    target: stderr
    encoder: { kind: seon_layout }
  json:
    kind: seon_appender
    path: logs/day.json
    encoder: { kind: seon_json }
  eve:
    kind: seon_appender
    path: logs/eve.json
    encoder: { kind: seon_eve }
  alerts:
    kind: seon_appender
    path: logs/alerts.json
    encoder: { kind: seon_eve }
    filters: [{ kind: seon_alerts }]
root:
  level: info
  appenders: [terminal, json, eve, alerts]
";

/// A chain whose daemons log in all layouts, in a working directory that is not theirs.
fn start() -> Result<(Chain, PathBuf, PathBuf), Trouble> {
    let mut chain = Plan::new().prepare()?;
    chain.scratch.write("proxyserver/seon_proxyserver.logrc", LOGRC)?;
    chain.scratch.write("proxyclient/seon_proxyclient.logrc", LOGRC)?;
    let logs = |daemon| chain.scratch.directory(&format!("{daemon}/logs"));
    let (server, client) = (logs("proxyserver")?, logs("proxyclient")?);
    chain.server = Some(Process::start("proxyserver", chain.server_command()?.current_dir("/"))?);
    chain.server().wait_for_text(" link-listening ")?;
    chain.client = Some(Process::start("proxyclient", chain.client_command()?.current_dir("/"))?);
    chain.wait_until_open(Mark::default())?;
    Ok((chain, server, client))
}

/// Waits for the JSON line in which that member has that value.
fn object(directory: &std::path::Path, stem: &str, pointer: &str, value: &str) -> Result<Value, Trouble> {
    let is_it = |line: &str| {
        let object: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        object.pointer(pointer).is_some_and(|found| found == value)
    };
    let line = written::wait_for(directory, stem, "json", value, is_it)?;
    Ok(serde_json::from_str(&line).unwrap())
}

/// Takes members away that differ each time, having seen that they are there.
fn without(mut object: Value, names: &[&str]) -> Value {
    for name in names {
        assert!(object.as_object_mut().unwrap().remove(*name).is_some(), "no {name} in {object}");
    }
    object
}

#[test]
fn a_session_is_told_with_all_that_is_known_of_it() -> Result<(), Trouble> {
    let (chain, server, client) = start()?;
    let files = ["INVOICES", "ORDERS"].map(|name| OutgoingFile::from_octets(name, made_octets(1000)));
    assert!(chain.send(files.into()).went_well(true));
    let fingerprint = pki::fingerprint(&chain.partners[0].identity);
    for logs in [&server, &client] {
        let told = object(logs, "day", "/code", "session-ended")?;
        let told = without(told, &["time", "host", "pid", "session", "message", "certificate_serial", "peer"]);
        let told = without(told, &["tls_cipher", "tls_key_exchange"]);
        let expected = json!({
            "level": "INFO", "role": "session", "code": "session-ended",
            "local": chain.partner_address(), "direction": "incoming", "partner": "ACME",
            "certificate_subject": "CN=ACME",
            "certificate_issuer": "CN=Certificate Authority of the Partners",
            "certificate_sha256": fingerprint,
            "tls_version": "TLSv1.3", "oftp2_code": chain.partners[0].code, "oftp2_reply_code": INSIDE_CODE,
            "oftp2_files": ["INVOICES", "ORDERS"], "oftp2_file_count": 2,
        });
        assert_eq!(told, expected);
    }
    // One flow in the events of both daemons.
    let [outside, inside] =
        [&server, &client].map(|logs| object(logs, "eve", "/oftp2/situation", "session-ended").unwrap());
    assert!(outside["flow_id"].is_u64());
    for member in ["flow_id", "src_ip", "src_port", "dest_ip", "dest_port", "proto", "tls", "event_type"] {
        assert_eq!(outside[member], inside[member], "{member}");
    }
    assert_eq!((&outside["event_type"], &outside["dest_ip"]), (&json!("oftp2"), &json!("127.0.0.1")));
    assert_eq!(outside["tls"]["version"], "TLS 1.3");
    assert_eq!(outside["oftp2"]["files"], json!(["INVOICES", "ORDERS"]));
    // Who came in is known from the first line on.
    let paired = object(&client, "eve", "/oftp2/situation", "session-paired")?;
    for member in ["flow_id", "src_port", "dest_port", "tls"] {
        assert_eq!(paired[member], inside[member], "{member}");
    }
    let engine = object(&server, "eve", "/engine/code", "server-started")?;
    assert_eq!((&engine["event_type"], &engine["engine"]["role"]), (&json!("engine"), &json!("gate")));
    Ok(())
}

#[test]
fn a_refused_code_is_told_though_its_message_did_not_pass() -> Result<(), Trouble> {
    let (chain, server, client) = start()?;
    let settings = Settings { code: "O0013000000OTHER".to_owned(), ..chain.settings() };
    let file = OutgoingFile::from_octets("NEVER", made_octets(10));
    let report = station::send(&chain.partner_address(), &chain.security(), &settings, vec![file]);
    assert!(report.failure.is_some(), "{report:?}");
    for logs in [&server, &client] {
        let told = object(logs, "day", "/code", "ssid-code-refused")?;
        assert_eq!(told["oftp2_code"], "O0013000000OTHER", "{told}");
        let alert = object(logs, "alerts", "/oftp2/situation", "ssid-code-refused")?;
        assert_eq!(alert["oftp2"]["code"], "O0013000000OTHER", "{alert}");
    }
    Ok(())
}

#[test]
fn a_refused_certificate_is_an_alert_with_its_facts() -> Result<(), Trouble> {
    let (chain, server, _) = start()?;
    // Its own text cannot break out of its place.
    let name = "A\"C\\ME\n{\u{202e}";
    let stranger = Authority::new("Strangers")?.issue(&Wanted { name, ..Wanted::default() })?;
    let security = chain.security_with(Some(stranger.clone()), TlsVersions::Both);
    let file = OutgoingFile::from_octets("NEVER", made_octets(10));
    let report = station::send(&chain.partner_address(), &security, &chain.settings(), vec![file]);
    assert!(report.failure.is_some());
    let code = "partner-certificate-issuer-unknown";
    let alert = object(&server, "alerts", "/oftp2/situation", code)?;
    assert_eq!(alert["event_type"], "alert");
    assert_eq!((&alert["alert"]["category"], &alert["alert"]["severity"]), (&json!("Partner refused"), &json!(2)));
    assert_eq!(alert["alert"]["action"], "blocked");
    assert!(alert["alert"]["signature_id"].is_u64() && alert["alert"]["signature"].is_string(), "{alert}");
    assert_eq!((&alert["src_ip"], &alert["proto"]), (&json!("127.0.0.1"), &json!("TCP")));
    assert_eq!(format!("127.0.0.1:{}", alert["dest_port"]), chain.partner_address());
    assert_eq!(alert["tls"]["issuerdn"], "CN=Strangers");
    let subject = alert["tls"]["subject"].as_str().unwrap();
    assert!(subject.starts_with("CN=A") && !subject.contains(['\n', '\u{202e}']), "{subject}");
    let fingerprint = alert["tls"]["fingerprint"].as_str().unwrap().replace(':', "");
    assert_eq!(Some(fingerprint), pki::fingerprint(&stranger));
    // The filter leaves the others out.
    for line in written::lines(&server, "alerts", "json") {
        let event: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(event["event_type"], "alert", "{line}");
    }
    Ok(())
}

#[test]
fn a_violation_is_an_alert_that_names_partner_code_and_file() -> Result<(), Trouble> {
    let (chain, server, _) = start()?;
    let rule = Rule::named("buffer-too-long").expect("it is a rule");
    let settings: Settings = chain.settings().misbehaving(rule);
    let file = OutgoingFile::from_octets("BROKEN", made_octets(100_000));
    let report = station::send(&chain.partner_address(), &chain.security(), &settings, vec![file]);
    assert!(report.failure.is_some());
    let alert = object(&server, "alerts", "/oftp2/situation", "oftp2-protocol-violation")?;
    assert_eq!(alert["alert"]["category"], "OFTP2 protocol violation");
    assert_eq!((&alert["oftp2"]["partner"], &alert["oftp2"]["files"]), (&json!("ACME"), &json!(["BROKEN"])));
    assert_eq!(alert["oftp2"]["code"], chain.partners[0].code);
    assert_eq!(alert["tls"]["subject"], "CN=ACME");
    assert!(alert["oftp2"]["message"].as_str().unwrap().contains("RFC 5024"), "{alert}");
    Ok(())
}
