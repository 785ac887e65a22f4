//! The commands that need no running backend.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::backend::{Folder, text};
use crate::crl_download::{Ca, HOUR};

#[test]
fn init_leaves_a_folder_alone_that_is_not_empty() {
    let folder = Folder::new();
    let before = folder.config();
    let output = folder.run(&["init", "b"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("is not empty; nothing was changed"), "{output:?}");
    assert_eq!(folder.config(), before);
}

#[test]
fn private_keys_that_init_makes_are_the_owners_alone() {
    let folder = Folder::new();
    for key in ["https/key.pem", "identity/key.pem"] {
        assert_eq!(fs::metadata(folder.path(key)).unwrap().permissions().mode() & 0o777, 0o600, "{key}");
    }
}

#[test]
fn a_backend_is_trusted_under_each_name_that_init_was_given() {
    let folder = Folder::with(&["--host", "backend.example", "--host", "192.0.2.1"]);
    let serving = folder.serve();
    let request = b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    for (name, trusted) in
        [("backend.example", true), ("192.0.2.1", true), ("localhost", true), ("::1", true), ("other.example", false)]
    {
        assert_eq!(folder.raw_to(name, &serving, request).starts_with("HTTP/1.1 404"), trusted, "{name}");
    }
}

#[test]
fn a_host_that_no_certificate_can_name_is_told_before_anything_is_made() {
    let folder = Folder::new();
    for (host, advice) in [
        ("bücher.example", "xn--"),
        ("backend.example:8443", "without"),
        ("https://backend.example", "without"),
        ("a b", "without"),
        ("*.*.example", "without"),
        ("", "without"),
    ] {
        let output = folder.run(&["init", "c", "--host", host]);
        let said = text(&output.stderr);
        assert!(!output.status.success() && said.contains("--host") && said.contains(advice), "{host}: {said}");
        assert!(!folder.beside("c").exists(), "{host}");
    }
    let hosts = ["--host", "xn--bcher-kva.example", "--host", "*.example", "--host", "2001:db8::1"];
    let output = folder.run(&[&["init", "c"], &hosts[..]].concat());
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn init_writes_the_address_to_serve_on_and_leaves_the_proxy_id_to_be_filled_in() {
    let folder = Folder::new();
    let output = folder.run(&["init", "c", "--listen", "0.0.0.0:443"]);
    assert!(output.status.success() && text(&output.stdout).contains("fill in its proxy_id"), "{output:?}");
    let config = fs::read_to_string(folder.path("../c/seon_backend.toml")).unwrap();
    assert!(config.contains("\nlisten = \"0.0.0.0:443\"\n") && config.contains("\nproxy_id = \"\"\n"), "{config}");
}

#[test]
fn a_fingerprint_is_that_of_the_der_form() {
    use rustls_pki_types::CertificateDer;
    use rustls_pki_types::pem::PemObject;
    let folder = Folder::new();
    let output = folder.run(&["fingerprint", "b/identity/chain.pem"]);
    let der = CertificateDer::from_pem_file(folder.path("identity/chain.pem")).unwrap();
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &der);
    let expected: String = hash.as_ref().iter().map(|octet| format!("{octet:02x}")).collect();
    assert_eq!(text(&output.stdout), format!("{expected}\n"));
    let output = folder.run(&["fingerprint", "b/identity/key.pem"]);
    assert!(output.status.code() == Some(1) && text(&output.stderr).contains("has no certificate"), "{output:?}");
}

#[test]
fn the_database_of_a_later_release_is_left_alone() {
    let folder = Folder::new();
    folder.token("inside1");
    let connection = rusqlite::Connection::open(folder.path("seon_backend.sqlite")).unwrap();
    connection.pragma_update(None, "user_version", 99).unwrap();
    drop(connection);
    let output = folder.run(&["token", "list", "--config", "b/seon_backend.toml"]);
    assert!(output.status.code() == Some(1) && text(&output.stderr).contains("version 99"), "{output:?}");
}

#[test]
fn a_port_that_is_taken_is_told() {
    let folder = Folder::new();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = port.local_addr().unwrap().to_string();
    let output = folder.run(&["serve", "--config", "b/seon_backend.toml", "--listen", &address]);
    assert_eq!(output.status.code(), Some(8));
    assert!(text(&output.stderr).contains(&format!("cannot listen on {address}")), "{output:?}");
}

#[test]
fn each_crl_of_the_folder_is_looked_at_before_serving() {
    let folder = Folder::new();
    let (first, second, third, fourth) = (Ca::new("First"), Ca::new("Second"), Ca::new("Third"), Ca::new("Fourth"));
    let anchors = [&first, &second, &third, &fourth].map(|ca| ca.0.pem()).concat();
    fs::write(folder.path("anchors.pem"), anchors).unwrap();
    folder.change_config("anchors = []", "anchors = [\"anchors.pem\"]");
    let crl = |name: &str, octets: &[u8]| fs::write(folder.path("crls").join(name), octets).unwrap();
    let check = || {
        let output = folder.run(&["serve", "--check", "--config", "b/seon_backend.toml", "--listen", "127.0.0.1:0"]);
        (output.status.code(), text(&output.stdout))
    };
    let told = |said: &str, word: &str, parts: &[&str]| {
        let begin = format!("{word:<7} CRL: b/crls/");
        let one = |line: &&str| line.starts_with(&begin) && parts.iter().all(|part| line.contains(part));
        assert_eq!(said.lines().filter(one).count(), 1, "{word} {parts:?}: {said}");
    };

    crl("1.crl", first.crl(2 * HOUR, Ok(24 * HOUR)).der());
    crl("1.old.crl", first.crl(3 * HOUR, Ok(24 * HOUR)).der());
    crl("2.pem", second.crl(HOUR, Ok(24 * HOUR)).pem().unwrap().as_bytes());
    crl("3.crl", third.crl(30 * 24 * HOUR, Ok(5 * 24 * HOUR)).der());
    crl("foreign.crl", Ca::new("Foreign").crl(HOUR, Ok(24 * HOUR)).der());
    crl("namesake.crl", Ca::new("First").crl(HOUR, Ok(24 * HOUR)).der());
    let (code, said) = check();
    assert_eq!(code, Some(0), "{said}");
    told(&said, "OK", &["1.crl: of \"CN=First\", nextUpdate 20"]);
    told(&said, "OK", &["1.old.crl: a newer one of the same issuer counts"]);
    told(&said, "OK", &["2.pem: of \"CN=Second\", nextUpdate 20"]);
    told(&said, "WARNING", &["3.crl: of \"CN=Third\", nextUpdate 20", "7 days or fewer are left"]);
    told(&said, "OK", &["foreign.crl: of \"CN=Foreign\""]);
    told(&said, "WARNING", &["namesake.crl: the key of \"CN=First\", whose name it carries, did not sign it"]);
    assert_eq!(said.matches(" CRL: ").count(), 6, "each is told once: {said}");
    assert!(!said.contains("WARNING configuration: "), "{said}");

    let mut altered = first.crl(HOUR, Ok(24 * HOUR)).der().to_vec();
    altered.truncate(altered.len() - 1);
    crl("ended.crl", fourth.crl(2 * HOUR, Err(HOUR)).der());
    crl("cut.crl", &altered);
    crl("certificate.crl", first.0.der());
    crl("text.crl", b"<html>");
    let (code, said) = check();
    assert_eq!(code, Some(3), "{said}");
    told(&said, "WRONG", &["ended.crl: of \"CN=Fourth\", it has ended, nextUpdate was 20"]);
    told(&said, "WRONG", &["cut.crl: it cannot be read as a CRL: "]);
    told(&said, "WRONG", &["certificate.crl: it cannot be read as a CRL: "]);
    told(&said, "WRONG", &["text.crl: it is neither DER nor PEM"]);
    assert_eq!(said.matches("WRONG ").count(), 4, "{said}");
}
