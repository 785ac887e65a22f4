//! Revocation as a living thing, with a real web server: the partner's certificate names it, the inside tells the backend,
//! the backend fetches, and the next session is refused.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;
use tests::harness::{Backend, Chain, PATIENCE, Plan, Trouble, made_octets, until};
use tests::station::{self, Failure, Identity, OutgoingFile, Report, Settings, TlsVersions};

use crate::ca::{Ca, DAY, partner_with_crl_at};
use crate::running::start_polling;

/// A web server with one document.
struct Site {
    address: SocketAddr,
    document: Arc<Mutex<Vec<u8>>>,
}

impl Site {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let site = Self { address: listener.local_addr().unwrap(), document: Arc::default() };
        let document = site.document.clone();
        thread::spawn(move || {
            for socket in listener.incoming().map_while(Result::ok) {
                let mut socket = BufReader::new(socket);
                let mut line = String::new();
                while socket.read_line(&mut line).is_ok_and(|read| read > 2) {
                    line.clear();
                }
                let document = document.lock().unwrap().clone();
                let head =
                    format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", document.len());
                // Who asked may have gone.
                let _ = socket.get_mut().write_all(&[head.as_bytes(), &document].concat());
            }
        });
        site
    }

    fn publish(&self, crl: Vec<u8>) {
        *self.document.lock().unwrap() = crl;
    }
}

fn call(chain: &Chain, identity: &Identity, dataset: &str) -> Report {
    let security = chain.security_with(Some(identity.clone()), TlsVersions::Both);
    let settings = Settings { code: "O0013000000RUNNER".into(), ..chain.settings() };
    let file = OutgoingFile::from_octets(dataset, made_octets(100));
    station::send(&chain.partner_address(), &security, &settings, vec![file])
}

#[test]
fn a_certificate_revoked_between_two_sessions_is_refused_as_soon_as_the_backend_has_the_crl() -> Result<(), Trouble> {
    let (ca, site) = (Ca::new("Partners"), Site::start());
    let url = format!("http://localhost:{}/partners.crl", site.address.port());
    site.publish(ca.crl(&[7], DAY));
    let (pem, issuer) = (ca.pem(), ca.fingerprint());
    let mut chain = Plan::new()
        .configure(move |config| {
            config["trust"]["anchors_pem"].as_array_mut().unwrap().push(json!(pem));
            config["trust"]["revocation"] = json!("prefer");
            let runner = json!({ "name": "RUNNER", "subjects": ["CN=RUNNER"], "issuers": [issuer] });
            config["partners"].as_array_mut().unwrap().push(runner);
        })
        .with_seon_backend()
        .prepare()?;
    let Backend::Seon { process, config, .. } = &chain.backend else { panic!("this plan has seon_backend") };
    let database = "database = \"seon_backend.sqlite\"";
    let text = std::fs::read_to_string(config).unwrap();
    assert!(text.contains(database), "{text}");
    let more = format!("{database}, crl_interval_s = 1, allow_private_crl_addresses = true");
    std::fs::write(config, text.replacen(database, &more, 1)).unwrap();
    process.wait_for_text("the new one is in force")?;
    start_polling(&mut chain)?;
    let Backend::Seon { process, .. } = &chain.backend else { panic!("this plan has seon_backend") };

    let identity = ca.issue_as(partner_with_crl_at("RUNNER", &url));
    let report = call(&chain, &identity, "FIRST");
    assert!(report.went_well(true), "{report:?}");
    // It was told by the inside, fetched, and is in the configuration.
    process.wait_for_text("the CRL of \"CN=Partners\"")?;
    let report = call(&chain, &identity, "SECOND");
    assert!(report.went_well(true), "{report:?}");

    let mark = process.mark();
    site.publish(ca.crl(&[7, 100], DAY));
    process.wait_after(mark, "the new CRL", |line| line.contains("the CRL of \"CN=Partners\""))?;
    let fetched = Instant::now();
    let refused = until(PATIENCE, || {
        let report = call(&chain, &identity, "NEVER");
        matches!(report.failure, Some(Failure::Tls(_))).then_some(report)
    });
    let report = refused.expect("a revoked certificate is refused");
    let alert = rustls::Error::AlertReceived(rustls::AlertDescription::CertificateRevoked);
    assert!(matches!(&report.failure, Some(Failure::Tls(error)) if *error == alert), "{report:?}");
    assert!(fetched.elapsed() < Duration::from_secs(60), "what is promised for the usual interval");
    let line = chain.server_says("partner-certificate-revoked")?;
    assert!(line.contains("CN=RUNNER"), "{line}");
    Ok(())
}
