//! The calls of the contract, as a backend sees them and as it may answer.

use crate::backend::{Answer, Backend, TOKEN, answer};
use seonapi_client::{
    ApiError, ClientStatus, Component, ConfigAnswer, CrlUrl, CrlUrlsTaken, Etag, Event, EventMessage, EventsTaken,
    Fingerprint, LinkState, Severity, Status,
};

const CONFIG: &str = r#"{"version": 1,
  "proxy_id": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015adpx",
  "listen": {"tls_port": 6619},
  "identity": {"certificate_chain_pem": "chain", "private_key_pem": "key"},
  "trust": {}, "receive_daemon": {"host": "127.0.0.1"}}"#;
const JSON: &str = "content-type: application/json";
const PROBLEM: &str = "content-type: application/problem+json";

fn event(number: u128) -> Event {
    Event {
        id: uuid::Uuid::from_u128(number),
        time: "2026-03-01T00:00:00.5Z".parse().unwrap(),
        severity: Severity::Error,
        component: Component::Proxyclient,
        pid: 42,
        host: None,
        code: Some("link-down".to_owned()),
        message: EventMessage::new("the link is down"),
        session_id: None,
        partner: None,
        peer_address: None,
    }
}

async fn config_error(answer: Answer) -> ApiError {
    let backend = Backend::plain(vec![answer]).await;
    backend.client().config(None).await.unwrap_err()
}

#[tokio::test]
async fn the_configuration_is_asked_for_again_by_its_etag() {
    let answers =
        vec![answer("200 OK", &[JSON, "etag: \"one\""], CONFIG.as_bytes()), answer("304 Not Modified", &[], b"")];
    let backend = Backend::plain(answers).await;
    let api = backend.client();
    let ConfigAnswer::Config { etag, config, size } = api.config(None).await.unwrap() else {
        panic!("a configuration expected")
    };
    assert_eq!((config.listen.tls_port, size), (6619, CONFIG.len()));
    let etag = etag.unwrap();
    assert_eq!(etag.as_str(), "\"one\"");
    assert!(matches!(api.config(Some(&etag)).await.unwrap(), ConfigAnswer::NotModified));
    let [first, second] = backend.requests().try_into().unwrap();
    assert_eq!(first.line, "GET /index.php/proxy/v1/config HTTP/1.1");
    assert_eq!((first.header("if-none-match"), first.header("x-seon-token")), (None, Some(TOKEN)));
    assert_eq!(second.header("if-none-match"), Some("\"one\""));
}

#[tokio::test]
async fn a_304_that_nobody_asked_for_is_no_answer() {
    let error = config_error(answer("304 Not Modified", &[], b"")).await;
    assert!(matches!(error, ApiError::Status { status: 304, .. }), "{error}");
}

#[tokio::test]
async fn credentials_of_the_url_travel_beside_the_token() {
    let backend = Backend::plain(vec![answer("304 Not Modified", &[], b"")]).await;
    let api = backend.client_at(&format!("http://us%40er:p%C3%A4ss@{}/seon/index.php", backend.address));
    api.config(Some(&Etag::new("\"x\"").unwrap())).await.unwrap();
    let [request] = backend.requests().try_into().unwrap();
    assert_eq!(request.line, "GET /seon/index.php/proxy/v1/config HTTP/1.1");
    // base64 of "us@er:päss" in UTF-8 (RFC 7617, 2).
    assert_eq!(request.header("authorization"), Some("Basic dXNAZXI6cMOkc3M="));
    assert_eq!(request.header("x-seon-token"), Some(TOKEN));
}

#[tokio::test]
async fn without_credentials_there_is_no_authorization() {
    let backend = Backend::plain(vec![answer("200 OK", &[JSON], CONFIG.as_bytes())]).await;
    backend.client().config(None).await.unwrap();
    assert_eq!(backend.requests()[0].header("authorization"), None);
}

#[tokio::test]
async fn a_refused_token_is_told_from_missing_credentials() {
    let problem = br#"{"title": "unknown token", "status": 401}"#;
    for (status, header, body, refused) in [
        ("401 Unauthorized", PROBLEM, problem.as_slice(), true),
        ("401 Unauthorized", "content-type: Application/Problem+JSON; charset=utf-8", problem, true),
        ("401 Unauthorized", PROBLEM, b"broken", true),
        ("403 Forbidden", PROBLEM, br#"{"title": "disabled", "status": 403}"#, true),
        ("403 Forbidden", "content-type: text/html", b"<html>", true),
        ("401 Unauthorized", "content-type: text/html", b"<html>", false),
        ("401 Unauthorized", JSON, problem, false),
    ] {
        let error = config_error(answer(status, &[header], body)).await;
        assert_eq!(error.refuses_token(), refused, "{status} {header}: {error}");
        assert_eq!(matches!(error, ApiError::CredentialsRefused), !refused, "{status} {header}: {error}");
    }
}

#[tokio::test]
async fn other_answers_leave_the_caller_with_the_status() {
    for status in ["500 Internal Server Error", "404 Not Found", "204 No Content", "206 Partial Content"] {
        let error = config_error(answer(status, &[JSON], CONFIG.as_bytes())).await;
        let expected: u16 = status[..3].parse().unwrap();
        assert!(matches!(error, ApiError::Status { status, .. } if status == expected), "{error}");
    }
}

#[tokio::test]
async fn a_refusal_of_the_backend_is_told_from_one_of_a_web_server_in_front() {
    let problem = br#"{"title": "bad request", "status": 400}"#;
    for (header, body, from_backend) in [
        (PROBLEM, problem.as_slice(), true),
        (PROBLEM, b"broken", true),
        ("content-type: text/html", b"<html>", false),
        (JSON, problem, false),
    ] {
        let error = config_error(answer("400 Bad Request", &[header], body)).await;
        let expected = from_backend;
        assert!(matches!(error, ApiError::Status { is_problem, .. } if is_problem == expected), "{header}: {error}");
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let other = Backend::plain(vec![answer("200 OK", &[JSON], CONFIG.as_bytes())]).await;
    let location = format!("location: http://{}/proxy/v1/config", other.address);
    let error = config_error(answer("302 Found", &[&location], b"")).await;
    assert!(matches!(error, ApiError::Status { status: 302, .. }), "{error}");
    assert!(other.requests().is_empty(), "the token would have gone to another host");
}

#[tokio::test]
async fn a_body_that_is_not_json_is_told_with_its_place() {
    let cut = &CONFIG.as_bytes()[..CONFIG.len() - 1];
    for (body, place) in
        [(b"".as_slice(), (1, 0)), (b"<html>", (1, 1)), (b"{\n \"version\": 1,}", (2, 15)), (cut, (5, 54))]
    {
        let error = config_error(answer("200 OK", &[JSON], body)).await;
        let ApiError::NotJson { line, column, .. } = error else { panic!("{error}") };
        assert_eq!((line, column), place, "{}", String::from_utf8_lossy(body));
    }
    let doubled = CONFIG.repeat(2);
    assert!(matches!(
        config_error(answer("200 OK", &[JSON], doubled.as_bytes())).await,
        ApiError::NotJson { line: 5, .. }
    ));
}

#[tokio::test]
async fn an_invalid_configuration_is_told_with_its_member() {
    let body = CONFIG.replace("6619", "66190");
    let error = config_error(answer("200 OK", &[JSON], body.as_bytes())).await;
    let ApiError::Config(error) = error else { panic!("{error}") };
    assert_eq!((error.path.as_str(), error.line), ("listen.tls_port", 3));
}

#[tokio::test]
async fn an_answer_longer_than_agreed_is_not_read_to_its_end() {
    let announced = b"HTTP/1.1 200 OK\r\ncontent-length: 16777217\r\n\r\n".to_vec();
    let unannounced = b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n".to_vec();
    for octets in [announced, unannounced] {
        let error = config_error(Answer::Endless(octets)).await;
        assert!(matches!(error, ApiError::AnswerTooLarge { limit: 16_777_216 }), "{error}");
    }
}

#[tokio::test]
async fn silence_ends_a_call() {
    for octets in ["", "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n12345"] {
        let error = config_error(Answer::Silent(octets.as_bytes().to_vec())).await;
        assert!(matches!(error, ApiError::TimedOut(_)), "{octets:?}: {error}");
    }
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_no_answer() {
    for octets in ["", "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n12345", "nonsense\r\n\r\n"] {
        let error = config_error(Answer::Octets(octets.as_bytes().to_vec())).await;
        assert!(matches!(error, ApiError::Broken(_)), "{octets:?}: {error}");
    }
}

#[tokio::test]
async fn a_closed_port_is_unreachable() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://user:secret@{}/", listener.local_addr().unwrap());
    drop(listener);
    let trust = seonapi_client::CaTrust::Certificates(vec![crate::backend::Ca::new().certificate()]);
    let error = crate::backend::client(&url, &trust).config(None).await.unwrap_err();
    assert!(matches!(error, ApiError::Unreachable(_)), "{error}");
    let said = format!("{error} {error:?}");
    assert!(!said.contains("secret") && !said.contains(TOKEN), "{said}");
}

#[tokio::test]
async fn a_crl_comes_with_the_hash_that_was_asked_for() {
    let right = Fingerprint::of(b"a CRL");
    let answers = vec![
        answer("200 OK", &["content-type: application/pkix-crl"], b"a CRL"),
        answer("200 OK", &["content-type: application/pkix-crl"], b"another"),
        answer("404 Not Found", &[], b""),
    ];
    let backend = Backend::plain(answers).await;
    let api = backend.client();
    assert_eq!(api.crl(&right).await.unwrap(), b"a CRL");
    assert_eq!(
        api.crl(&right).await.unwrap_err(),
        ApiError::WrongHash { asked: right, found: Fingerprint::of(b"another") }
    );
    assert_eq!(api.crl(&right).await.unwrap_err(), ApiError::NoSuchCrl(right));
    assert_eq!(backend.requests()[0].line, format!("GET /index.php/proxy/v1/crls/{right} HTTP/1.1"));
}

#[tokio::test]
async fn events_are_told_as_the_contract_writes_them() {
    let backend =
        Backend::plain(vec![answer("202 Accepted", &[JSON], br#"{"stored":1,"ignored":0,"duplicate":0}"#)]).await;
    let taken = backend.client().add_events(&[event(7)]).await.unwrap();
    assert_eq!(taken, EventsTaken { stored: 1, ignored: 0, duplicate: 0 });
    let [request] = backend.requests().try_into().unwrap();
    assert_eq!(request.line, "POST /index.php/proxy/v1/events HTTP/1.1");
    assert_eq!(request.header("content-type"), Some("application/json"));
    let expected = r#"{"events":[{"id":"00000000-0000-0000-0000-000000000007","time":"2026-03-01T00:00:00.500Z","#
        .to_owned()
        + r#""severity":"error","component":"proxyclient","pid":42,"code":"link-down","message":"the link is down","#
        + r#""session_id":null,"partner":null,"peer_address":null}]}"#;
    assert_eq!(request.body, expected);
}

#[tokio::test]
async fn more_events_than_fit_into_one_request_go_in_several() {
    let taken = answer("202 Accepted", &[JSON], br#"{"stored":1000,"ignored":0,"duplicate":0}"#);
    let backend = Backend::plain(vec![taken]).await;
    let events: Vec<Event> = (0..2001).map(event).collect();
    assert_eq!(backend.client().add_events(&events).await.unwrap().stored, 3000);
    let requests = backend.requests();
    let counts: Vec<usize> = requests.iter().map(|request| request.body.matches("\"id\"").count()).collect();
    assert_eq!(counts, [1000, 1000, 1]);
    assert!(requests.iter().all(|request| request.body.len() <= 1024 * 1024));
}

#[tokio::test]
async fn crl_urls_are_told_in_bounded_requests() {
    let backend = Backend::plain(vec![answer("202 Accepted", &[JSON], br#"{"added":2,"known":1}"#)]).await;
    let url = CrlUrl::new("http://crl.example/ca.crl", Fingerprint::of(b"certificate"), "CN=Example CA").unwrap();
    let taken = backend.client().add_crl_urls(&vec![url; 65]).await.unwrap();
    assert_eq!(taken, CrlUrlsTaken { added: 4, known: 2 });
    let [first, second] = backend.requests().try_into().unwrap();
    assert_eq!((first.body.matches("\"url\"").count(), second.body.matches("\"url\"").count()), (64, 1));
    let expected = format!(
        r#"{{"crl_urls":[{{"url":"http://crl.example/ca.crl","certificate_sha256":"{}","issuer":"CN=Example CA"}}]}}"#,
        Fingerprint::of(b"certificate")
    );
    assert_eq!(second.body, expected);
}

#[tokio::test]
async fn what_is_answered_with_202_is_taken_whatever_the_body_says() {
    for body in [br#"{"stored":-1}"#.as_slice(), b"", b"<html>Accepted</html>"] {
        let backend = Backend::plain(vec![answer("202 Accepted", &[JSON], body)]).await;
        assert_eq!(backend.client().add_events(&[event(1)]).await.unwrap(), EventsTaken::default());
    }
}

#[tokio::test]
async fn a_backend_that_takes_no_request_of_that_size_is_told_apart() {
    let backend = Backend::plain(vec![answer("413 Content Too Large", &[], b"")]).await;
    assert_eq!(backend.client().add_events(&[event(1)]).await.unwrap_err(), ApiError::RequestTooLarge);
}

#[tokio::test]
async fn what_a_backend_says_is_escaped_before_it_is_repeated() {
    let problem = "{\"title\": \"bad\\n\\u001b[31m\", \"status\": 400, \"detail\": \"events[0].time\"}";
    let backend = Backend::plain(vec![answer("400 Bad Request", &[PROBLEM], problem.as_bytes())]).await;
    let said = backend.client().add_sessions(&[session()]).await.unwrap_err().to_string();
    assert!(said.contains("400") && said.contains("events[0].time") && !said.contains(['\n', '\u{1b}']), "{said}");
}

fn session() -> seonapi_client::SessionRecord {
    let json = r#"{"id": "00000000-0000-0000-0000-000000000001", "direction": "incoming",
        "started": "2026-03-01T00:00:00Z", "ended": "2026-03-01T00:00:01Z", "outcome": "completed"}"#;
    serde_json::from_str(json).unwrap()
}

#[tokio::test]
async fn sessions_and_status_are_told() {
    let backend = Backend::plain(vec![answer("202 Accepted", &[], b""), answer("204 No Content", &[], b"")]).await;
    let api = backend.client();
    api.add_sessions(&[session()]).await.unwrap();
    let client = ClientStatus { host: Some("inside1".to_owned()), pid: Some(1), ..ClientStatus::default() };
    api.put_status(&Status { client, link: LinkState::Down, server: None }).await.unwrap();
    let [sessions, status] = backend.requests().try_into().unwrap();
    assert_eq!(sessions.line, "POST /index.php/proxy/v1/sessions HTTP/1.1");
    assert_eq!(status.line, "PUT /index.php/proxy/v1/status HTTP/1.1");
    assert_eq!(status.header("content-type"), Some("application/json"));
    assert_eq!(status.body, r#"{"client":{"host":"inside1","pid":1,"config_etag":null},"link":"down","server":null}"#);
}
