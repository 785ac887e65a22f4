//! A backend on loopback that answers each question as it is told.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;

use rcgen::{CertificateParams, KeyPair};
use seonapi_client::{CaTrust, Timeouts};

use super::*;

/// Status, further header lines, body.
type Answer = (u16, &'static str, String);

/// A poller whose questions are answered like this, one after the other, and what came of each.
fn ask(answers: Vec<Answer>) -> Vec<Vec<String>> {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let questions = answers.len();
    std::thread::spawn(move || {
        for (status, headers, body) in answers {
            let (mut socket, _) = listener.accept().unwrap();
            let mut lines = BufReader::new(socket.try_clone().unwrap()).lines();
            while lines.next().is_some_and(|line| !line.unwrap().is_empty()) {}
            let length = body.len();
            let head = format!("HTTP/1.1 {status} x\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n");
            socket.write_all((head + &body).as_bytes()).unwrap();
        }
    });
    let key = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let trust = CaTrust::Certificates(vec![key.cert.der().clone()]);
    let url = format!("http://{address}").parse().unwrap();
    let api = Arc::new(SeonApi::new(url, "token", &trust, Timeouts::default()).unwrap());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut poller = Poller::new(api);
        let mut all = Vec::new();
        for _ in 0..questions {
            all.push(poller.ask().await.iter().filter_map(shown).collect());
        }
        all
    })
}

fn shown(polled: &Polled) -> Option<String> {
    match polled {
        Polled::New { etag, .. } => Some(format!("new {etag:?}")),
        Polled::Renamed(etag) => Some(format!("renamed {etag:?}")),
        Polled::Tell(situation, _) => Some(situation.code().to_owned()),
        Polled::TokenRefused(_) => Some("token refused".to_owned()),
        Polled::Done => None,
    }
}

/// A configuration with that port for partners.
fn config(port: u16) -> String {
    static OWN: std::sync::LazyLock<(String, String)> = std::sync::LazyLock::new(|| {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec!["proxy.example".to_owned()]).unwrap().self_signed(&key).unwrap();
        (certificate.pem(), key.serialize_pem())
    });
    serde_json::json!({
        "version": 1,
        "proxy_id": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015adpx",
        "listen": { "tls_port": port },
        "receive_daemon": { "host": "127.0.0.1", "port": 3305 },
        "identity": { "certificate_chain_pem": OWN.0, "private_key_pem": OWN.1 },
        "trust": { "pinned_pem": [OWN.0] },
    })
    .to_string()
}

fn problem(status: u16, detail: &str) -> Answer {
    let body = format!(r#"{{"title":"t","status":{status},"detail":"{detail}"}}"#);
    (status, "Content-Type: application/problem+json\r\n", body)
}

const NO_NAME: &str = "";
const A: &str = "ETag: \"a\"\r\n";
const B: &str = "ETag: \"b\"\r\n";

#[test]
fn the_same_configuration_sent_again_is_no_new_one() {
    let again = ask(vec![(200, NO_NAME, config(1)), (200, NO_NAME, config(1)), (200, NO_NAME, config(2))]);
    assert_eq!(again, [vec!["new None"], vec![], vec!["new None"]]);
    let named = ask(vec![(200, A, config(1)), (200, A, config(1)), (200, B, config(1)), (200, B, config(1))]);
    assert_eq!(named, [vec!["new Some(\"\\\"a\\\"\")"], vec![], vec!["renamed Some(\"\\\"b\\\"\")"], vec![]]);
}

#[test]
fn a_backend_that_words_the_same_differently_is_told_once() {
    let ways = ask(vec![
        (200, A, config(1)),
        problem(503, "try in 60 s"),
        problem(503, "try in 59 s"),
        problem(500, "fault 17"),
        problem(500, "fault 18"),
        (200, A, "<html>12:00".to_owned()),
        (200, A, "  <html>12:01".to_owned()),
        (304, A, String::new()),
    ]);
    let told = ["backend-down", "", "backend-down", "", "backend-up configuration-invalid", "", "configuration-mended"];
    assert_eq!(ways[1..].iter().map(|told| told.join(" ")).collect::<Vec<_>>(), told);
}

#[test]
fn each_of_two_troubles_is_told_when_it_begins_and_when_it_ends() {
    let invalid = || config(1).replace("\"version\":1", "\"version\":2");
    let ways = ask(vec![
        (200, A, config(1)),
        (200, B, invalid()),
        problem(503, ""),
        (200, B, invalid()),
        (200, A, config(1)),
        problem(503, ""),
        (200, B, invalid()),
        (304, A, String::new()),
        (200, B, invalid()),
        (200, B, config(2)),
    ]);
    assert_eq!(
        ways[1..].iter().map(|told| told.join(" ")).collect::<Vec<_>>(),
        [
            "configuration-invalid",
            "backend-down",
            "backend-up",
            "configuration-mended",
            "backend-down",
            "backend-up configuration-invalid",
            "configuration-mended",
            "configuration-invalid",
            "configuration-mended new Some(\"\\\"b\\\"\")",
        ]
    );
}
