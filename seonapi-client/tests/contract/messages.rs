//! What the proxyclient tells, and what a backend refuses of it.

use seonapi_client::{CrlUrl, Event, EventMessage, Fingerprint, SessionRecord, Status};
use serde_json::{Value, json};

fn event() -> Value {
    json!({"id": "0191c2f0-0000-7000-8000-000000000001", "time": "2026-03-01T01:00:00+01:00", "severity": "fatal",
        "component": "proxyserver", "pid": 1, "message": "gone"})
}

#[test]
fn times_are_told_in_utc() {
    let event: Event = serde_json::from_value(event()).unwrap();
    assert_eq!(serde_json::to_value(&event).unwrap()["time"], "2026-03-01T00:00:00.000Z");
}

#[test]
fn an_event_that_is_not_one_is_refused() {
    for (member, value) in [
        ("id", json!("{0191c2f0-0000-7000-8000-000000000001}")),
        ("id", json!("0191c2f0000070008000000000000001")),
        ("time", json!("yesterday")),
        ("time", json!("2026-03-01")),
        ("severity", json!("warning")),
        ("component", json!("station")),
        ("pid", json!(-1)),
        ("message", json!("x".repeat(4097))),
        ("message", json!(null)),
    ] {
        let mut json = event();
        json[member] = value;
        assert!(serde_json::from_value::<Event>(json.clone()).is_err(), "{json}");
    }
    for member in ["id", "time", "severity", "component", "pid", "message"] {
        let mut json = event();
        json.as_object_mut().unwrap().remove(member);
        assert!(serde_json::from_value::<Event>(json).is_err(), "without {member}");
    }
}

#[test]
fn a_long_message_is_cut_so_that_no_backend_refuses_it() {
    assert_eq!(EventMessage::new("ä".repeat(4096)).as_str(), "ä".repeat(4096));
    let cut = EventMessage::new("ä".repeat(4097));
    assert_eq!(cut.as_str(), "ä".repeat(4095) + "…");
}

#[test]
fn only_urls_that_the_contract_lets_pass_can_be_told() {
    let certificate = Fingerprint::of(b"certificate");
    let longest = format!("http://{}", "x".repeat(2041));
    for url in ["http://crl.example/ca.crl", "HTTPS://crl.example/", longest.as_str()] {
        let told = CrlUrl::new(url, certificate, "CN=CA").unwrap();
        assert_eq!((told.url(), told.certificate(), told.issuer()), (url, certificate, "CN=CA"));
    }
    for url in [
        "ldap://crl.example/cn=CA",
        "file:///etc/passwd",
        "http://",
        "http:///x",
        "http://a b",
        "http://a\nb",
        "",
        &format!("{longest}x"),
    ] {
        assert!(CrlUrl::new(url, certificate, "CN=CA").is_err(), "{url}");
        let json = json!({"url": url, "certificate_sha256": certificate, "issuer": "CN=CA"});
        assert!(serde_json::from_value::<CrlUrl>(json).is_err(), "{url}");
    }
}

#[test]
fn a_session_record_needs_five_members_only() {
    let json = json!({"id": "0191c2f0-0000-7000-8000-000000000001", "direction": "outgoing",
        "started": "2026-03-01T00:00:00Z", "ended": "2026-03-01T00:00:01Z", "outcome": "violation"});
    serde_json::from_value::<SessionRecord>(json.clone()).unwrap();
    for member in ["id", "direction", "started", "ended", "outcome"] {
        let mut json = json.clone();
        json.as_object_mut().unwrap().remove(member);
        assert!(serde_json::from_value::<SessionRecord>(json).is_err(), "without {member}");
    }
}

#[test]
fn a_file_is_told_in_the_words_of_the_contract() {
    let json = json!({"id": "0191c2f0-0000-7000-8000-000000000001", "direction": "incoming",
        "partner": "ACME", "ssid_code": "O0013000000ACME", "peer_address": "203.0.113.7",
        "certificate_sha256": Fingerprint::of(b"certificate"), "tls_version": "1.3", "cipher_suite": "TLS_AES_256_GCM_SHA384",
        "started": "2026-03-01T00:00:00.000Z", "ended": "2026-03-01T00:00:01.000Z", "outcome": "completed",
        "detail": "normal end", "bytes_from_partner": 10, "bytes_to_partner": 20,
        "files": [{"dataset_name": "INVOICES", "direction": "from_partner", "bytes": 5, "result": "acknowledged"}]});
    let record: SessionRecord = serde_json::from_value(json.clone()).unwrap();
    assert_eq!(serde_json::to_value(&record).unwrap(), json);
}

#[test]
fn a_status_with_a_server_is_told_in_the_words_of_the_contract() {
    let json = json!({"client": {"host": "inside1", "pid": 1, "version": "0.1.0", "config_etag": "\"x\""}, "link": "up",
        "server": {"proxy_id": "px", "pid": 2, "version": "0.1.0", "listening": ["0.0.0.0:6619"],
            "licensed_until": "2026-12-31T23:59:59.000Z", "sessions": 3}});
    let status: Status = serde_json::from_value(json.clone()).unwrap();
    assert_eq!(serde_json::to_value(&status).unwrap(), json);
}
