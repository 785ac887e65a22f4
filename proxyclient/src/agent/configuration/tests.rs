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
