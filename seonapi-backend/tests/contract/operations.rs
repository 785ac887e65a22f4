//! Each operation of the contract.

use nix::sys::signal::Signal;
use seonapi_client::{
    ApiError, ClientStatus, ConfigAnswer, CrlUrl, CrlUrlsTaken, Etag, Event, EventsTaken, Fingerprint, LinkState,
    ServerStatus, SessionRecord, Status,
};

use crate::backend::{Folder, PROXY_ID, text};

/// An event; `message` as it stands in JSON.
pub fn event(number: u32, message: &str) -> Event {
    let json = format!(
        r#"{{"id": "00000000-0000-4000-8000-{number:012}", "time": "2026-03-01T00:00:{:02}Z", "severity": "error",
            "component": "proxyserver", "pid": 7, "code": "link-down", "partner": "ACME", "message": "{message}"}}"#,
        number % 60
    );
    serde_json::from_str(&json).unwrap()
}

fn session(number: u32) -> SessionRecord {
    let json = format!(
        r#"{{"id": "00000000-0000-4000-8000-{number:012}", "direction": "incoming", "partner": "ACME",
            "started": "2026-03-01T00:00:00Z", "ended": "2026-03-01T00:01:00Z", "outcome": "completed",
            "bytes_from_partner": 10, "files": [{{"dataset_name": "INVOICES", "direction": "from_partner", "bytes": 5}}]}}"#
    );
    serde_json::from_str(&json).unwrap()
}

#[tokio::test]
async fn the_configuration_is_served_and_recognised_by_its_etag() {
    let folder = Folder::new();
    let token = folder.token("inside1");
    let serving = folder.serve();
    let api = folder.client(&serving, &token);
    let ConfigAnswer::Config { etag: Some(etag), config, .. } = api.config(None).await.unwrap() else {
        panic!("a configuration with an ETag expected")
    };
    assert_eq!((config.proxy_id.as_str(), config.listen.tls_port), (PROXY_ID, 6619));
    assert!(config.identity.private_key_pem.reveal().contains("PRIVATE KEY"));
    assert!(matches!(api.config(Some(&etag)).await.unwrap(), ConfigAnswer::NotModified));
    let other = Etag::new("\"another\"").unwrap();
    assert!(matches!(api.config(Some(&other)).await.unwrap(), ConfigAnswer::Config { .. }));
    serving.wait_for("GET /seonapi/index.php/proxy/v1/config if-none-match=no 200");
    serving.wait_for("GET /seonapi/index.php/proxy/v1/config if-none-match=yes 304");
    assert_eq!(serving.end(Signal::SIGTERM), Some(0));
}

#[tokio::test]
async fn operations_are_found_without_the_prefix_too() {
    let folder = Folder::new();
    let token = folder.token("inside1");
    let serving = folder.serve();
    let answer = folder.call(&serving, "GET /proxy/v1/config", &token, "");
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("\r\netag: \""), "{answer}");
    let answer = folder.call(&serving, "GET /proxy/v2/config", &token, "");
    assert!(answer.starts_with("HTTP/1.1 404") && answer.contains("application/problem+json"), "{answer}");
    let answer = folder.call(&serving, "DELETE /proxy/v1/config", &token, "");
    assert!(answer.starts_with("HTTP/1.1 405") && answer.contains("application/problem+json"), "{answer}");
}

#[tokio::test]
async fn events_are_stored_once_and_listed_in_the_order_of_their_times() {
    let folder = Folder::new();
    let token = folder.token("inside1");
    let serving = folder.serve();
    let api = folder.client(&serving, &token);
    let taken = api.add_events(&[event(2, "second"), event(1, "first"), event(1, "first")]).await.unwrap();
    assert_eq!(taken, EventsTaken { stored: 2, ignored: 0, duplicate: 1 });
    let taken = api.add_events(&[event(1, "changed"), event(3, "third\\u001b")]).await.unwrap();
    assert_eq!(taken, EventsTaken { stored: 1, ignored: 0, duplicate: 1 });

    let listed = text(&folder.run(&["events", "--config", "b/seon_backend.toml"]).stdout);
    let expected = "2 new       2026-03-01T00:00:01.000Z ERROR proxyserver[7] partner=ACME link-down first\n\
        1 new       2026-03-01T00:00:02.000Z ERROR proxyserver[7] partner=ACME link-down second\n\
        3 new       2026-03-01T00:00:03.000Z ERROR proxyserver[7] partner=ACME link-down third\\u{1b}\n";
    assert_eq!(listed, expected);
    let listed = text(&folder.run(&["events", "--json", "--last", "1", "--config", "b/seon_backend.toml"]).stdout);
    assert_eq!(serde_json::from_str::<Event>(&listed).unwrap(), event(3, "third\\u001b"));
}

#[tokio::test]
async fn what_was_stored_outlives_a_restart() {
    let folder = Folder::new();
    let token = folder.token("inside1");
    let serving = folder.serve();
    folder.client(&serving, &token).add_events(&[event(1, "first")]).await.unwrap();
    assert_eq!(serving.end(Signal::SIGINT), Some(0));
    let serving = folder.serve();
    let taken = folder.client(&serving, &token).add_events(&[event(1, "first")]).await.unwrap();
    assert_eq!(taken, EventsTaken { stored: 0, ignored: 0, duplicate: 1 });
}

#[tokio::test]
async fn of_events_and_session_records_the_newest_are_kept() {
    let folder = Folder::new();
    let token = folder.token("inside1");
    folder.change_config("[backend]", "[backend]\nkeep_events = 100\nkeep_sessions = 100");
    let serving = folder.serve();
    let api = folder.client(&serving, &token);
    api.add_events(&(1..=150).map(|number| event(number, "told")).collect::<Vec<_>>()).await.unwrap();
    api.add_sessions(&(1..=120).map(session).collect::<Vec<_>>()).await.unwrap();
    assert_eq!(serving.end(Signal::SIGTERM), Some(0));
    let serving = folder.serve();
    serving.wait_for("the oldest 50 event(s) and 20 session record(s)");
    let lines = |what: &str| {
        let listed = folder.run(&[what, "--last", "1000", "--json", "--config", "b/seon_backend.toml"]);
        text(&listed.stdout).lines().count()
    };
    assert_eq!((lines("events"), lines("sessions")), (100, 100));
}

#[tokio::test]
async fn who_takes_all_places_of_an_address_is_told_and_others_go_on_afterwards() {
    let folder = Folder::new();
    let token = folder.token("inside1");
    let serving = folder.serve();
    let silent: Vec<_> = (0..129).map(|_| std::net::TcpStream::connect(serving.address).unwrap()).collect();
    let line = serving.wait_for("too many connections");
    assert!(line.contains(" WARN no TLS with 127.0.0.1:"), "{line}");
    drop(silent);
    let end = std::time::Instant::now() + std::time::Duration::from_secs(90);
    // That they are gone is noticed one by one.
    while let Err(error) = folder.client(&serving, &token).config(None).await {
        assert!(std::time::Instant::now() < end, "{error}");
    }
}

#[tokio::test]
async fn session_records_are_stored_once() {
    let folder = Folder::new();
    let token = folder.token("inside1");
    let serving = folder.serve();
    let api = folder.client(&serving, &token);
    api.add_sessions(&[session(1), session(2)]).await.unwrap();
    api.add_sessions(&[session(2)]).await.unwrap();
    let listed = text(&folder.run(&["sessions", "--config", "b/seon_backend.toml", "--json"]).stdout);
    let listed: Vec<SessionRecord> = listed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(listed, [session(1), session(2)]);
    let listed = text(&folder.run(&["sessions", "--config", "b/seon_backend.toml"]).stdout);
    assert!(listed.contains("completed from ACME - 1 file, 10 octets from the partner, 0 to it\n"), "{listed}");
}

#[tokio::test]
async fn the_newest_status_of_each_client_is_kept() {
    let folder = Folder::new();
    let token = folder.token("inside1");
    let serving = folder.serve();
    let api = folder.client(&serving, &token);
    let status = |host: &str, link, sessions| Status {
        client: ClientStatus { host: Some(host.to_owned()), pid: Some(1), ..ClientStatus::default() },
        link,
        server: Some(ServerStatus { proxy_id: Some(PROXY_ID.to_owned()), sessions, ..ServerStatus::default() }),
    };
    api.put_status(&status("inside1", LinkState::Down, 0)).await.unwrap();
    api.put_status(&status("inside1", LinkState::Up, 3)).await.unwrap();
    api.put_status(&Status { server: None, ..status("inside2", LinkState::Down, 0) }).await.unwrap();
    let listed = text(&folder.run(&["status", "--config", "b/seon_backend.toml"]).stdout);
    let lines: Vec<&str> = listed.lines().collect();
    assert_eq!(lines.len(), 2, "{listed}");
    assert!(
        lines[0].contains(&format!("inside1[1] - link up, proxyserver {PROXY_ID}[0] - with 3 session(s)")),
        "{listed}"
    );
    assert!(lines[1].ends_with("inside2[1] - link down"), "{listed}");
}

#[tokio::test]
async fn a_told_crl_url_is_known_from_then_on() {
    let folder = Folder::new();
    let token = folder.token("inside1");
    folder.change_config("crls = \"crls\"", "known_crl_urls = [\"http://crl.example/1\"]");
    let serving = folder.serve();
    let api = folder.client(&serving, &token);
    let url = |url: &str| CrlUrl::new(url, Fingerprint::of(b"certificate"), "CN=CA").unwrap();
    let told = [url("http://crl.example/1"), url("http://crl.example/2"), url("http://crl.example/2")];
    assert_eq!(api.add_crl_urls(&told).await.unwrap(), CrlUrlsTaken { added: 1, known: 2 });
    assert_eq!(api.add_crl_urls(&told).await.unwrap(), CrlUrlsTaken { added: 0, known: 3 });
    let ConfigAnswer::Config { config, .. } = api.config(None).await.unwrap() else {
        panic!("a configuration expected")
    };
    assert_eq!(config.trust.known_crl_urls, ["http://crl.example/1", "http://crl.example/2"]);
    let listed = text(&folder.run(&["crl-urls", "--config", "b/seon_backend.toml"]).stdout);
    assert!(listed.lines().any(|line| line.split(' ').next() == Some("http://crl.example/2")), "{listed}");
}

#[tokio::test]
async fn crls_are_served_from_their_folder_as_it_changes() {
    let folder = Folder::new();
    let token = folder.token("inside1");
    // Any DER SEQUENCE will do here; whether it is a good CRL is judged by the proxies.
    let (der, pem_body) = (vec![0x30, 0x03, 0x02, 0x01, 0x05], "MAMCAQU=");
    std::fs::write(folder.path("crls/no.crl"), "neither").unwrap();
    let serving = folder.serve();
    serving.wait_for("no.crl is left out: it is neither DER nor PEM");
    let api = folder.client(&serving, &token);
    assert_eq!(api.crl(&Fingerprint::of(&der)).await.unwrap_err(), ApiError::NoSuchCrl(Fingerprint::of(&der)));
    std::fs::write(
        folder.path("crls/ca.pem"),
        format!("-----BEGIN X509 CRL-----\n{pem_body}\n-----END X509 CRL-----\n"),
    )
    .unwrap();
    let ConfigAnswer::Config { config, .. } = api.config(None).await.unwrap() else {
        panic!("a configuration expected")
    };
    assert_eq!(config.trust.crls, [Fingerprint::of(&der)]);
    assert_eq!(api.crl(&Fingerprint::of(&der)).await.unwrap(), der);
    std::fs::write(folder.path("crls/ca.pem"), [0x30, 0x00]).unwrap();
    assert_eq!(api.crl(&Fingerprint::of(&der)).await.unwrap_err(), ApiError::NoSuchCrl(Fingerprint::of(&der)));
    let answer = folder.call(&serving, "GET /proxy/v1/crls/%2e%2e%2fseon_backend.toml", &token, "");
    assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
}

#[tokio::test]
async fn a_body_that_is_not_what_the_contract_says_is_refused_as_a_whole() {
    let folder = Folder::new();
    let token = folder.token("inside1");
    let serving = folder.serve();
    let good = serde_json::to_string(&event(1, "first")).unwrap();
    for (path, body, place) in [
        ("POST /proxy/v1/events", format!("{{\"events\": [{good}, {{}}]}}"), "events[1]: missing field `id`"),
        (
            "POST /proxy/v1/events",
            format!("{{\"events\": [{}]}}", good.replace("error", "warning")),
            "events[0].severity: ",
        ),
        ("POST /proxy/v1/events", format!("{{\"events\": [{good}]"), "line 1"),
        ("POST /proxy/v1/events", format!("{{\"events\": [{good}]}}}}"), "trailing characters"),
        ("POST /proxy/v1/events", "{}".to_owned(), "missing field `events`"),
        ("POST /proxy/v1/sessions", "{\"sessions\": [{\"id\": \"x\"}]}".to_owned(), "sessions[0].id: "),
        ("POST /proxy/v1/crl-urls", "{\"crl_urls\": [{\"url\": \"ldap://x\"}]}".to_owned(), "crl_urls[0].url: "),
        ("PUT /proxy/v1/status", "{\"client\": {}, \"link\": \"sideways\"}".to_owned(), "link: unknown variant"),
    ] {
        let answer = folder.call(&serving, path, &token, &body);
        assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("application/problem+json"), "{path}: {answer}");
        assert!(answer.contains(place), "{path}: {answer}");
    }
    let listed = folder.run(&["events", "--config", "b/seon_backend.toml"]);
    assert!(listed.stdout.is_empty(), "{listed:?}");
}

#[tokio::test]
async fn unknown_members_of_a_body_are_ignored() {
    let folder = Folder::new();
    let token = folder.token("inside1");
    let serving = folder.serve();
    let good = serde_json::to_string(&event(1, "first")).unwrap().replacen('{', "{\"future\": [1], ", 1);
    let answer = folder.call(&serving, "POST /proxy/v1/events", &token, &format!("{{\"x\": 1, \"events\": [{good}]}}"));
    assert!(answer.starts_with("HTTP/1.1 202") && answer.contains("\"stored\":1"), "{answer}");
}

#[tokio::test]
async fn more_than_the_contract_allows_is_refused_with_413() {
    let folder = Folder::new();
    let token = folder.token("inside1");
    let serving = folder.serve();
    let events = |count: u32| {
        let list: Vec<Event> = (0..count).map(|number| event(number, "x")).collect();
        format!("{{\"events\": {}}}", serde_json::to_string(&list).unwrap())
    };
    let urls = |count: usize| {
        let url = CrlUrl::new("http://crl.example/1", Fingerprint::of(b"certificate"), "CN=CA").unwrap();
        format!("{{\"crl_urls\": {}}}", serde_json::to_string(&vec![url; count]).unwrap())
    };
    let padded = |body: String, length: usize| body.clone() + &" ".repeat(length - body.len());
    for (path, body, status) in [
        ("POST /proxy/v1/events", events(1001), "413"),
        ("POST /proxy/v1/events", events(1000), "202"),
        ("POST /proxy/v1/events", padded(events(1), 1024 * 1024 + 1), "413"),
        ("POST /proxy/v1/events", padded(events(1), 1024 * 1024), "202"),
        ("POST /proxy/v1/crl-urls", urls(65), "413"),
        ("POST /proxy/v1/crl-urls", urls(64), "202"),
        ("POST /proxy/v1/crl-urls", padded(urls(1), 256 * 1024 + 1), "413"),
        ("POST /proxy/v1/crl-urls", padded(urls(1), 256 * 1024), "202"),
    ] {
        let answer = folder.call(&serving, path, &token, &body);
        let start: String = answer.chars().take(300).collect();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{path}, {} octets: {start}", body.len());
    }
}
