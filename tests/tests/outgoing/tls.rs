//! TLS towards the partner that is called: versions, and keys on both sides.

use serde_json::json;
use tests::harness::{Plan, Trouble};
use tests::pki::{Authority, KeyKind, Wanted};
use tests::station::{TlsSettings, TlsVersions, Trust};

use crate::scene::{arrived, file, http_refusal, told};

const KEYS: [KeyKind; 5] = [KeyKind::P256, KeyKind::P384, KeyKind::P521, KeyKind::Ed25519, KeyKind::Rsa2048];
const VERSIONS: [TlsVersions; 2] = [TlsVersions::Tls12, TlsVersions::Tls13];

/// The proxy signs as client with each kind of key, in TLS 1.2 over the whole transcript.
#[test]
fn each_kind_of_identity_key_signs_in_both_tls_versions() -> Result<(), Trouble> {
    for key in KEYS {
        let authority = Authority::new("Proxy Authority")?;
        let identity = authority.issue(&Wanted { name: "Proxy", key, ..Wanted::default() })?;
        let chain = Plan::new()
            .outgoing()?
            .configure(move |config| {
                let (chain, key) = (identity.chain_pem, identity.key_pem);
                config["identity"] = json!({ "certificate_chain_pem": chain, "private_key_pem": key });
            })
            .start()?;
        for versions in VERSIONS {
            let trust = Trust::Authorities(authority.certificate_pem());
            let security = TlsSettings { trust, versions, ..chain.called_security(0)? };
            let partner = chain.partner_listens_with(0, security, chain.called_settings(0)?)?;
            let name = format!("{key:?}-{versions:?}").to_uppercase();
            let report = chain.call(file(&name))?;
            let taken = arrived(&chain, 0, &name, &report, &partner);
            let version = if versions == TlsVersions::Tls12 { "TLSv1.2" } else { "TLSv1.3" };
            assert!(taken.protection.starts_with(version), "{}", taken.protection);
        }
    }
    Ok(())
}

#[test]
fn each_kind_of_partner_key_is_taken_in_both_tls_versions() -> Result<(), Trouble> {
    let chain = Plan::new()
        .outgoing()?
        .configure(|config| {
            let partner = config["partners"][0].as_object_mut().unwrap();
            partner.remove("certificate_sha256");
            partner.insert("subjects".into(), json!(["CN=ACME"]));
        })
        .start()?;
    for key in KEYS {
        let identity = chain.authority.issue(&Wanted { name: "ACME", key, ..Wanted::default() })?;
        for versions in VERSIONS {
            let security = TlsSettings { identity: Some(identity.clone()), versions, ..chain.called_security(0)? };
            let partner = chain.partner_listens_with(0, security, chain.called_settings(0)?)?;
            let name = format!("{key:?}-{versions:?}").to_uppercase();
            let report = chain.call(file(&name))?;
            arrived(&chain, 0, &name, &report, &partner);
        }
    }
    Ok(())
}

/// In TLS 1.2 the proxy signs all that was said before, both chains included; they may be long.
#[test]
fn long_chains_on_both_sides_pass_in_both_tls_versions() -> Result<(), Trouble> {
    let names: Vec<String> = (0..100).map(|number| format!("oftp2-{number:03}.factory.acme.example")).collect();
    let hosts: Vec<&str> = names.iter().map(String::as_str).collect();
    let of_proxy = Authority::new("Proxy Root")?;
    let issuing = of_proxy.intermediate("Proxy Intermediate")?.intermediate("Proxy Issuer")?;
    let identity =
        issuing.issue(&Wanted { name: "Proxy", hosts: &hosts, key: KeyKind::Rsa2048, ..Wanted::default() })?;
    let chain = Plan::new()
        .outgoing()?
        .configure(move |config| {
            let (chain, key) = (identity.chain_pem, identity.key_pem);
            config["identity"] = json!({ "certificate_chain_pem": chain, "private_key_pem": key });
            let partner = config["partners"][0].as_object_mut().unwrap();
            partner.remove("certificate_sha256");
            partner.insert("subjects".into(), json!(["CN=ACME"]));
        })
        .start()?;
    let issuing = chain.authority.intermediate("Partners' Intermediate")?.intermediate("Partners' Issuer")?;
    let wanted = Wanted { name: "ACME", hosts: &hosts, key: KeyKind::Rsa2048, ..Wanted::default() };
    let identity = issuing.issue(&wanted)?;
    for versions in VERSIONS {
        let trust = Trust::Authorities(of_proxy.certificate_pem());
        let security = TlsSettings { identity: Some(identity.clone()), trust, versions };
        let partner = chain.partner_listens_with(0, security, chain.called_settings(0)?)?;
        let name = format!("{versions:?}").to_uppercase();
        let report = chain.call(file(&name))?;
        let taken = arrived(&chain, 0, &name, &report, &partner);
        assert_eq!(taken.peer_fingerprints.len(), 3, "the proxy shows its whole chain");
    }
    Ok(())
}

#[test]
fn the_least_version_of_the_configuration_holds_for_partners_that_are_called() -> Result<(), Trouble> {
    let chain =
        Plan::new().outgoing()?.configure(|config| config["trust"]["min_tls_version"] = json!("1.3")).start()?;
    let old = TlsSettings { versions: TlsVersions::Tls12, ..chain.called_security(0)? };
    let partner = chain.partner_listens_with(0, old, chain.called_settings(0)?)?;
    let report = chain.call(file("NEVER"))?;
    assert!(matches!(http_refusal(&report), Some((502, _))), "{report:?}");
    drop(partner);
    let line = told(chain.server(), Default::default(), "tls-too-old")?;
    assert!(line.contains("TLS 1."), "{line}");

    let partner = chain.partner_listens(0)?;
    let report = chain.call(file("LATER"))?;
    arrived(&chain, 0, "LATER", &report, &partner);
    Ok(())
}
