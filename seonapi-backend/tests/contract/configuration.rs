//! The configuration file: what is good, what is told of a bad one, and what happens when it changes.

use std::fs;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose};
use seonapi_client::{ConfigAnswer, Fingerprint};

use crate::backend::{Folder, PROXY_ID};

pub fn ca(name: &str) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// The line of the file that holds this text, from 1.
fn line_of(folder: &Folder, part: &str) -> usize {
    1 + folder.config().lines().position(|line| line.contains(part)).unwrap()
}

/// A folder whose partner list begins with these lines.
fn with_partners(partners: &str) -> Folder {
    let folder = Folder::new();
    let text = folder.config() + "\n" + partners;
    folder.set_config(&text);
    folder
}

#[test]
fn what_init_makes_is_good() {
    let folder = Folder::new();
    let (good, said) = folder.check();
    assert!(
        good && said.ends_with("is good: 0 partner(s), 0 anchor(s), 0 pinned certificate(s), 0 CRL(s)\n"),
        "{said}"
    );
}

#[test]
fn the_proxy_id_must_be_filled_in() {
    let folder = Folder::new();
    folder.change_config(PROXY_ID, "");
    let (good, said) = folder.check();
    let line = line_of(&folder, "proxy_id");
    assert!(!good && said.contains(&format!("b/seon_backend.toml:{line}: proxy.proxy_id: not a Proxy ID")), "{said}");
}

#[test]
fn every_member_that_is_none_is_told_with_its_line() {
    let folder = with_partners("[[partners]]\nname = \"ACME\"\nallow_form = []\n");
    folder.change_config("tls_port = 6619", "tls_port = 6619\ntlsport = 1");
    let (good, said) = folder.check();
    assert!(!good);
    for (member, field) in [("tlsport", "listen.tlsport"), ("allow_form", "partners[0].allow_form")] {
        let line = line_of(&folder, member);
        assert!(said.contains(&format!(":{line}: {field}: there is no such member")), "{field}: {said}");
    }
}

#[test]
fn a_wrong_value_is_told_with_line_and_field() {
    for (old, new, field, reason) in [
        ("tls_port = 6619", "tls_port = 66190", "listen.tls_port", "1 to 65535"),
        ("tls_port = 6619", "tls_port = \"x\"", "listen.tls_port", "invalid type"),
        ("listen = \"127.0.0.1:8443\"", "listen = \"localhost\"", "backend.listen", "invalid socket address"),
        ("revocation = \"off\"", "revocation = \"never\"", "trust.revocation", "unknown variant"),
        ("host = \"127.0.0.1\"", "host = \"a b\"", "receive_daemon.host", "neither a host name"),
        ("anchors = []", "anchors = [\"nowhere.pem\"]", "trust.anchors[0]", "nowhere.pem cannot be read"),
        ("pinned = []", "pinned = [\"https/key.pem\"]", "trust.pinned[0]", "has no certificate"),
        ("crls = \"crls\"", "crls = \"nowhere\"", "trust.crls", "nowhere"),
        (
            "private_key = \"identity/key.pem\"",
            "private_key = \"identity/chain.pem\"",
            "identity.private_key",
            "no unencrypted private key",
        ),
        (
            "private_key = \"identity/key.pem\"",
            "private_key = \"https/key.pem\"",
            "identity.private_key",
            "not that of the first certificate",
        ),
        (
            "private_key = \"https/key.pem\"",
            "private_key = \"identity/key.pem\"",
            "backend.private_key",
            "not that of the first certificate",
        ),
    ] {
        let folder = Folder::new();
        folder.change_config(old, &format!("{new} # mark"));
        let (good, said) = folder.check();
        let line = line_of(&folder, "# mark");
        assert!(
            !good && said.contains(&format!("b/seon_backend.toml:{line}: {field}: ")) && said.contains(reason),
            "{new}: {said}"
        );
    }
}

#[test]
fn what_is_no_toml_is_told_with_its_line() {
    let folder = Folder::new();
    folder.change_config("tls_port = 6619", "tls_port = ");
    let (good, said) = folder.check();
    assert!(!good && said.contains(&format!("b/seon_backend.toml:{}: ", line_of(&folder, "tls_port = "))), "{said}");
}

#[test]
fn all_mistakes_are_told_at_once() {
    let folder = Folder::new();
    folder.change_config("anchors = []", "anchors = [\"one.pem\"]");
    folder.change_config("pinned = []", "pinned = [\"two.pem\"]");
    folder.change_config("tls_port = 6619", "tls_port = 6619\nunknown = 1");
    let (good, said) = folder.check();
    assert!(!good && said.contains("one.pem") && said.contains("two.pem") && said.contains("listen.unknown"), "{said}");
}

#[test]
fn what_the_proxies_would_refuse_is_refused_here() {
    let certificate = Fingerprint::of(b"certificate");
    for (partners, field) in [
        ("[[partners]]\nname = \"A\"\n[[partners]]\nname = \"A\" # mark\n".to_owned(), "partners[1].name"),
        (
            format!(
                "[[partners]]\nname = \"A\"\ncertificate_sha256 = [\"{certificate}\"]\n[[partners]]\nname = \"B\"\ncertificate_sha256 = [\"{certificate}\"] # mark\n"
            ),
            "partners[1].certificate_sha256[0]",
        ),
        (
            format!("[[partners]]\nname = \"A\"\nsubjects = [\"CN=A\"]\nissuers = [\"{certificate}\"] # mark\n"),
            "partners[0].issuers[0]",
        ),
        (
            "[[partners]]\nname = \"A\"\nlisten_port = 3310\n[[partners]]\nname = \"B\"\nlisten_port = 3310 # mark\n"
                .to_owned(),
            "partners[1].listen_port",
        ),
    ] {
        let folder = with_partners(&partners);
        let (good, said) = folder.check();
        let line = line_of(&folder, "# mark");
        assert!(!good && said.contains(&format!("b/seon_backend.toml:{line}: {field}: ")), "{partners}: {said}");
    }
}

#[test]
fn what_the_proxyclient_would_not_take_over_is_refused_here() {
    let callable = |name: &str| {
        format!("[[partners]]\nname = \"{name}\"\naddress = \"{name}.example:6619\"\nlisten_port = 3310 # {name}\n")
    };
    let many: String = (0..65).map(|_| "\"127.0.0.1\", ").collect();
    let rows = [
        ("[limits]", "[limits]\nmax_sessions = 0 # mark".to_owned(), "limits.max_sessions: 0 lets no session be"),
        ("[limits]", "[limits]\npairing_timeout_s = 0 # mark".to_owned(), "limits.pairing_timeout_s: 0 lets no"),
        ("tls_port = 6619", format!("tls_port = 6619\naddresses = [{many}] # mark"), "listen.addresses: there are 65"),
        (
            "tls_port = 6619",
            "tls_port = 6619\nproxy_protocol_from = [\"127.0.0.1\"] # mark".to_owned(),
            "listen.proxy_protocol_from: it is not served by this version",
        ),
        (
            "[limits]",
            callable("a") + &callable("mark") + "[limits]",
            "partners[1].listen_port: 3310 is that of partners[0] too",
        ),
    ];
    for (old, new, told) in rows {
        let folder = Folder::new();
        folder.change_config(&format!("\n{old}\n"), &format!("\n{new}\n"));
        let (good, said) = folder.check();
        let line = line_of(&folder, "# mark");
        assert!(!good && said.contains(&format!("b/seon_backend.toml:{line}: {told}")), "{told}: {said}");
        assert_eq!(said.matches(&format!("toml:{line}: ")).count(), 1, "told once: {said}");
    }
}

#[test]
fn a_certificate_that_cannot_issue_is_told_as_the_file_that_holds_it() {
    let folder = Folder::new();
    fs::write(folder.path("ca.pem"), ca("first").pem() + &ca("second").pem()).unwrap();
    folder.change_config("anchors = []", "anchors = [\"ca.pem\",\n  \"identity/chain.pem\"]");
    let (good, said) = folder.check();
    let line = line_of(&folder, "  \"identity/chain.pem\"]");
    assert!(!good && said.contains(&format!(":{line}: trust.anchors[1]: ")), "{said}");
}

#[test]
fn several_certificates_in_a_file_and_comments_between_them_are_served_one_by_one() {
    let folder = Folder::new();
    fs::write(folder.path("ca.pem"), format!("first:\n{}\nsecond:\n{}", ca("first").pem(), ca("second").pem()))
        .unwrap();
    folder.change_config("anchors = []", "anchors = [\"ca.pem\"]");
    let (good, said) = folder.check();
    assert!(good && said.contains("2 anchor(s)"), "{said}");
}

#[test]
fn serving_does_not_begin_with_mistakes() {
    let folder = Folder::new();
    folder.change_config("tls_port = 6619", "tls_port = 0");
    let output = folder.run(&["serve", "--config", "b/seon_backend.toml", "--listen", "127.0.0.1:0"]);
    assert_eq!(output.status.code(), Some(3));
    assert!(
        output.stdout.is_empty() && String::from_utf8_lossy(&output.stderr).contains("listen.tls_port"),
        "{output:?}"
    );
}

#[tokio::test]
async fn a_changed_file_is_served_and_a_broken_one_changes_nothing() {
    let folder = Folder::new();
    let token = folder.token("inside1");
    let serving = folder.serve();
    let api = folder.client(&serving, &token);
    let port = async || match api.config(None).await.unwrap() {
        ConfigAnswer::Config { config, etag, .. } => (config.listen.tls_port, etag.unwrap().as_str().to_owned()),
        ConfigAnswer::NotModified => panic!("a configuration expected"),
    };
    let (first, first_etag) = port().await;
    assert_eq!(first, 6619);

    folder.change_config("tls_port = 6619", "tls_port = 6620");
    let (second, second_etag) = port().await;
    assert_eq!(second, 6620);
    assert_ne!(first_etag, second_etag);
    serving.wait_for("INFO the configuration has changed; the new one is in force");

    folder.change_config("tls_port = 6620", "tls_port = 0");
    assert_eq!(port().await, (6620, second_etag.clone()));
    assert_eq!(port().await, (6620, second_etag));
    let told = serving.count("listen.tls_port: 0 is no port", "the last good one stays in force");
    assert_eq!(told, 1);

    folder.change_config("tls_port = 0", "tls_port = 6619");
    assert_eq!(port().await, (6619, first_etag));
}

#[tokio::test]
async fn a_file_that_the_configuration_names_is_read_again_too() {
    let folder = Folder::new();
    let token = folder.token("inside1");
    fs::write(folder.path("ca.pem"), ca("first").pem()).unwrap();
    folder.change_config("anchors = []", "anchors = [\"ca.pem\"]");
    let serving = folder.serve();
    let api = folder.client(&serving, &token);
    let anchors = async || match api.config(None).await.unwrap() {
        ConfigAnswer::Config { config, .. } => config.trust.anchors_pem,
        ConfigAnswer::NotModified => panic!("a configuration expected"),
    };
    assert_eq!(anchors().await.len(), 1);
    let both = [ca("first").pem(), ca("second").pem()];
    fs::write(folder.path("ca.pem"), both.concat()).unwrap();
    let served: Vec<String> = anchors().await.iter().map(|pem| pem.replace('\r', "")).collect();
    assert_eq!(served, both.map(|pem| pem.replace('\r', "")));
    fs::remove_file(folder.path("ca.pem")).unwrap();
    assert_eq!(anchors().await.len(), 2);
    serving.wait_for("trust.anchors[0]: ca.pem cannot be read");
}
