//! Whom the client takes for the backend.

use crate::backend::{Backend, Ca, answer};
use seonapi_client::{ApiError, BaseUrl, CaTrust, ConfigAnswer, Etag, SeonApi, SetupError, Timeouts};

async fn ask(backend: &Backend, trust: &CaTrust) -> Result<ConfigAnswer, ApiError> {
    let api = crate::backend::client(&format!("https://127.0.0.1:{}/", backend.address.port()), trust);
    api.config(Etag::new("\"x\"").as_ref()).await
}

async fn with_certificate_of(ca: &Ca, host: &str, until: i32) -> Backend {
    Backend::tls(vec![answer("304 Not Modified", &[], b"")], ca.server(host, until)).await
}

#[tokio::test]
async fn a_backend_of_the_given_ca_is_trusted() {
    let ca = Ca::new();
    let backend = with_certificate_of(&ca, "127.0.0.1", 4095).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.pem");
    // Several, and the right one not first.
    std::fs::write(&file, Ca::new().pem() + &ca.pem()).unwrap();
    for trust in [CaTrust::File(file), CaTrust::Certificates(vec![ca.certificate()])] {
        assert!(matches!(ask(&backend, &trust).await, Ok(ConfigAnswer::NotModified)));
    }
}

#[tokio::test]
async fn any_other_is_refused_before_the_token_is_sent() {
    let ca = Ca::new();
    let right = CaTrust::Certificates(vec![ca.certificate()]);
    let wrong = CaTrust::Certificates(vec![Ca::new().certificate()]);
    for (host, until, trust, reason) in [
        ("127.0.0.1", 4095, &wrong, "not issued by a CA that is trusted"),
        ("backend.example", 4095, &right, "another host name"),
        ("127.0.0.1", 2024, &right, "expired"),
    ] {
        let backend = with_certificate_of(&ca, host, until).await;
        let error = ask(&backend, trust).await.unwrap_err();
        assert!(matches!(&error, ApiError::Tls(said) if said.contains(reason)), "{reason}: {error}");
        assert!(backend.requests().is_empty());
    }
}

#[tokio::test]
async fn the_authorities_of_the_system_do_not_hold_our_own() {
    let backend = with_certificate_of(&Ca::new(), "127.0.0.1", 4095).await;
    let url: BaseUrl = format!("https://127.0.0.1:{}/", backend.address.port()).parse().unwrap();
    match SeonApi::new(url, "token", &CaTrust::System, Timeouts::default()) {
        Ok(api) => {
            let error = api.config(None).await.unwrap_err();
            assert!(matches!(error, ApiError::Tls(_)), "{error}");
            assert!(backend.requests().is_empty());
        }
        // A host without any authority cannot have a client that trusts them.
        Err(error) => assert!(matches!(error, SetupError::Tls(_)), "{error}"),
    }
}

#[tokio::test]
async fn something_else_than_tls_is_told_as_that() {
    let backend = Backend::plain(vec![answer("200 OK", &[], b"")]).await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut socket, b"SSH-2.0-OpenSSH_9.2\r\n").await.unwrap();
    });
    drop(backend);
    let trust = CaTrust::Certificates(vec![Ca::new().certificate()]);
    let error = crate::backend::client(&format!("https://127.0.0.1:{port}/"), &trust).config(None).await.unwrap_err();
    assert!(matches!(error, ApiError::Tls(_)), "{error}");
}

#[test]
fn a_ca_file_that_is_none_is_told_with_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.pem");
    let url: BaseUrl = "https://127.0.0.1/".parse().unwrap();
    let make = || SeonApi::new(url.clone(), "token", &CaTrust::File(file.clone()), Timeouts::default());
    for text in
        [None, Some(""), Some("no certificate"), Some("-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n")]
    {
        if let Some(text) = text {
            std::fs::write(&file, text).unwrap();
        }
        let error = make().unwrap_err();
        assert!(matches!(&error, SetupError::CaFile { path, .. } if *path == file), "{text:?}: {error}");
    }
    std::fs::write(&file, "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n").unwrap();
    assert!(make().unwrap_err().to_string().contains("ca.pem"));
}

#[test]
fn a_token_that_no_header_can_carry_is_refused() {
    let trust = CaTrust::Certificates(vec![Ca::new().certificate()]);
    let made = SeonApi::new("https://host/".parse().unwrap(), "a\nb", &trust, Timeouts::default());
    assert_eq!(made.unwrap_err(), SetupError::Token);
}

/// The environment belongs to a process, so this one is made for the test below: it trusts a CA as the system's, and is
/// told of proxies that nobody listens at.
#[tokio::test]
#[ignore = "run by the_authorities_of_the_system_are_trusted_and_proxies_of_the_environment_are_not_used"]
async fn in_an_environment_of_its_own() {
    let url: BaseUrl = std::env::var("URL_OF_THE_TEST").unwrap().parse().unwrap();
    let api = SeonApi::new(url, "token", &CaTrust::System, Timeouts::default()).unwrap();
    let answer = api.config(Etag::new("\"x\"").as_ref()).await;
    assert!(matches!(answer, Ok(ConfigAnswer::NotModified)), "{answer:?}");
}

#[tokio::test]
async fn the_authorities_of_the_system_are_trusted_and_proxies_of_the_environment_are_not_used() {
    let ca = Ca::new();
    let backend = with_certificate_of(&ca, "127.0.0.1", 4095).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.pem");
    std::fs::write(&file, ca.pem()).unwrap();
    let mut child = std::process::Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "trust::in_an_environment_of_its_own", "--ignored"]);
    child
        .env("SSL_CERT_FILE", &file)
        .env_remove("SSL_CERT_DIR")
        .env("URL_OF_THE_TEST", format!("https://{}/", backend.address));
    for name in ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"] {
        child.env(name, "http://127.0.0.1:1");
    }
    let output = tokio::task::spawn_blocking(move || child.output().unwrap()).await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
    assert_eq!(backend.requests().len(), 1);
}
