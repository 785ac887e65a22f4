//! What is shown of a partner that came in: who it is by its certificate, the Odette identification included.

use rcgen::DnType;
use serde_json::{Value, json};
use tests::harness::{PATIENCE, Plan, Trouble, made_octets};
use tests::station::{self, OutgoingFile, Settings, TlsVersions};

use crate::ca::{Ca, partner};

/// `serialNumber` (X.520), where the Odette CA writes its identification.
const SERIAL_NUMBER: &[u64] = &[2, 5, 4, 5];

#[test]
fn the_odette_identification_of_a_certificate_stands_in_log_and_record() -> Result<(), Trouble> {
    let ca = Ca::new("Odette");
    let mut params = partner("ACME GmbH");
    params.distinguished_name.push(DnType::CustomDnType(SERIAL_NUMBER.to_vec()), "O0013000000ACME\"\n1");
    let identity = ca.issue_as(params);
    let (pem, fingerprint) = (ca.pem(), tests::pki::fingerprint(&identity));
    let chain = Plan::new()
        .configure(move |config| {
            config["trust"]["anchors_pem"].as_array_mut().unwrap().push(json!(pem));
            let odette = json!({ "name": "ODETTE", "certificate_sha256": [fingerprint] });
            config["partners"].as_array_mut().unwrap().push(odette);
        })
        .start()?;
    let security = chain.security_with(Some(identity), TlsVersions::Both);
    let settings = Settings { code: "O0013000000ODETTE".into(), ..chain.settings() };
    let file = OutgoingFile::from_octets("ODETTE", made_octets(100));
    let report = station::send(&chain.partner_address(), &security, &settings, vec![file]);
    assert!(report.went_well(true), "{report:?}");
    let line = chain.client_says("session-paired")?;
    assert!(line.contains("subject=\"") && line.contains("CN=ACME GmbH"), "{line}");
    assert!(line.contains("odette=\"O0013000000ACME") && !line.contains("ACME\"\n"), "{line}");
    let of_it = |record: &Value| record["partner"] == "ODETTE";
    let record = chain.scripted_backend().wait_for_record("its session", PATIENCE, of_it)?;
    let detail = record["detail"].as_str().unwrap_or_default();
    assert!(detail.contains("odette=\"O0013000000ACME") && detail.contains("TLSv1.3"), "{detail}");
    assert!(!detail.contains('\n'), "{detail}");
    Ok(())
}
