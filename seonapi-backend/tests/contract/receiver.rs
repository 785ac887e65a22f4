//! A web server for alarms: keeps every request, and answers as it is told.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use rustls_pki_types::PrivatePkcs8KeyDer;

const DEADLINE: Duration = Duration::from_secs(90);

/// It, running until the test ends.
pub struct Web {
    pub address: SocketAddr,
    requests: Mutex<Receiver<String>>,
    answers: Arc<Mutex<VecDeque<String>>>,
    /// PEM of the authority behind its certificate.
    pub ca: String,
}

impl Web {
    pub fn http() -> Self {
        Self::start(None, String::new())
    }

    /// With a certificate for `localhost`.
    pub fn https() -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "alarm CA");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let own = CertificateParams::new(vec!["localhost".to_owned()]).unwrap().signed_by(&key, &ca).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![own.der().clone()], PrivatePkcs8KeyDer::from(key.serialize_der()).into())
            .unwrap();
        Self::start(Some(Arc::new(tls)), ca.pem())
    }

    fn start(tls: Option<Arc<ServerConfig>>, ca: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, requests) = channel();
        let answers: Arc<Mutex<VecDeque<String>>> = Arc::default();
        let scripted = answers.clone();
        std::thread::spawn(move || {
            for socket in listener.incoming() {
                let Ok(socket) = socket else { return };
                let (tls, sender, scripted) = (tls.clone(), sender.clone(), scripted.clone());
                std::thread::spawn(move || {
                    let answer = || scripted.lock().unwrap().pop_front().unwrap_or_else(|| "204 No Content".to_owned());
                    match tls {
                        Some(tls) => {
                            let connection = ServerConnection::new(tls).unwrap();
                            converse(StreamOwned::new(connection, socket), &answer, &|request| {
                                sender.send(request).is_ok()
                            });
                        }
                        None => converse(socket, &answer, &|request| sender.send(request).is_ok()),
                    }
                });
            }
        });
        Self { address, requests: Mutex::new(requests), answers, ca }
    }

    /// The next calls are answered so, one after the other; all others with 204. Nothing: never.
    pub fn answer(&self, statuses: &[&str]) {
        self.answers.lock().unwrap().extend(statuses.iter().map(|&status| status.to_owned()));
    }

    /// The next request: head and body.
    pub fn request(&self) -> String {
        self.requests.lock().unwrap().recv_timeout(DEADLINE).unwrap()
    }

    /// Whether one has come that was not asked for.
    pub fn is_quiet(&self) -> bool {
        self.requests.lock().unwrap().try_recv().is_err()
    }
}

fn converse(mut stream: impl Read + Write, answer: &dyn Fn() -> String, tell: &dyn Fn(String) -> bool) {
    let mut reader = BufReader::new(&mut stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).unwrap_or(0) == 0 {
            return;
        }
    }
    let length = head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body).unwrap();
    let status = answer();
    assert!(tell(head + &String::from_utf8(body).unwrap()));
    if status.is_empty() {
        // Until the other end has had enough.
        let _ = reader.read(&mut [0]);
        return;
    }
    let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    let _ = stream.write_all(answer.as_bytes()).and_then(|()| stream.flush());
}
