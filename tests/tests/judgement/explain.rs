//! `seon_proxyclient2 explain`: would this partner come in, and if not, why.

use std::process::{Command, Output};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::json;
use tests::harness::{Chain, Plan, Trouble};
use tests::pki::{Validity, Wanted};

fn explain(chain: &Chain, certificate: &[u8], address: Option<&str>) -> Result<(Option<i32>, String), Trouble> {
    explain_with(chain, certificate, &address.map_or(Vec::new(), |address| vec!["--address", address]))
}

fn explain_with(chain: &Chain, certificate: &[u8], further: &[&str]) -> Result<(Option<i32>, String), Trouble> {
    let file = chain.scratch.write("shown", certificate)?;
    let usual = chain.client_command()?;
    let arguments: Vec<_> = usual.get_args().map(ToOwned::to_owned).collect();
    let behind = |option: &str| {
        let place = arguments.iter().position(|argument| argument == option).expect("the option is given");
        arguments[place + 1].clone()
    };
    let mut command = Command::new(usual.get_program());
    command.args(["explain", "--certificate"]).arg(file).arg("-U").arg(behind("-U")).arg("-T").arg(behind("-T"));
    command.arg("--ca-file").arg(behind("--ca-file"));
    command.args(further);
    let Output { status, stdout, stderr } = command.output().unwrap();
    let said = String::from_utf8([stdout, stderr].concat()).unwrap();
    Ok((status.code(), said))
}

#[test]
fn who_would_come_in_and_who_not_is_told_with_the_reason() -> Result<(), Trouble> {
    let chain =
        Plan::new().configure(|config| config["partners"][0]["allow_from"] = json!(["192.0.2.0/24"])).prepare()?;
    let acme = chain.partners[0].identity.chain_pem.clone();
    let (code, said) = explain(&chain, acme.as_bytes(), None)?;
    assert_eq!(code, Some(0), "{said}");
    for part in ["verdict: comes in", "partner: ACME", "subject=\"CN=ACME\"", "chain to anchor", "O0013000000ACME"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let der = CertificateDer::from_pem_slice(acme.as_bytes()).unwrap();
    let (code, said) = explain(&chain, &der, Some("192.0.2.7"))?;
    assert!(code == Some(0) && said.contains("from 192.0.2.7"), "{code:?}: {said}");

    let (code, said) = explain(&chain, &der, Some("198.51.100.7"))?;
    assert_eq!(code, Some(1), "{said}");
    for part in ["verdict: refused", "partner: ACME", "reason: partner-address-refused: ", "198.51.100.7", "advice: "] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let expired = chain.authority.issue(&Wanted { name: "ACME", validity: Validity::Expired, ..Wanted::default() })?;
    let (code, said) = explain(&chain, expired.chain_pem.as_bytes(), None)?;
    assert!(code == Some(1) && said.contains("reason: partner-certificate-expired: "), "{code:?}: {said}");

    let (code, said) = explain(&chain, b"neither", None)?;
    assert!(code == Some(1) && said.contains("neither PEM nor DER"), "{code:?}: {said}");
    Ok(())
}

#[test]
fn a_called_partner_is_judged_as_the_one_that_is_called() -> Result<(), Trouble> {
    let chain = Plan::new().partners(&["ACME", "OTHER"]).configure(|config| {
        config["partners"][0]["address"] = json!("oftp.acme.example:6619");
        config["partners"][1]["enabled"] = json!(false);
    });
    let chain = chain.prepare()?;
    let acme = chain.partners[0].identity.chain_pem.clone();
    let (code, said) = explain_with(&chain, acme.as_bytes(), &["--called", "ACME"])?;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("verdict: accepted, called at oftp.acme.example:6619\npartner: ACME"), "{said}");
    let (code, said) = explain_with(&chain, acme.as_bytes(), &["--called", "OTHER"])?;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("verdict: refused") && said.contains("partner-certificate-name-mismatch"), "{said}");
    let (code, said) = explain_with(&chain, acme.as_bytes(), &["--called", "NOBODY"])?;
    assert!(code == Some(1) && said.contains("no partner of this name"), "{code:?}: {said}");
    Ok(())
}

#[test]
fn without_a_configuration_there_is_no_verdict() -> Result<(), Trouble> {
    let chain = Plan::new().prepare()?;
    chain.scripted_backend().set_config(json!({ "version": 1 }));
    let acme = chain.partners[0].identity.chain_pem.clone();
    let (code, said) = explain(&chain, acme.as_bytes(), None)?;
    assert!(code == Some(1) && said.contains("configuration-invalid"), "{code:?}: {said}");
    assert!(!said.contains("verdict"), "{said}");
    Ok(())
}
