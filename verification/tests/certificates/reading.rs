//! Our own reading of certificates against another's (x509-parser), for every certificate of the tables and fixtures, and
//! against changed octets: what both can read, both read alike.

use proptest::prelude::*;
use verification::{CertificateFacts, KeyKind};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::public_key::PublicKey;

use crate::table::folder;
use crate::table::forge::Forge;

fn all() -> Vec<(String, Vec<u8>)> {
    let forge = Forge::open();
    let mut all: Vec<_> = forge.names().map(|name| (name.clone(), forge.der(name))).collect();
    for entry in std::fs::read_dir(folder().join("openssl")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if name.ends_with(".der") && !name.ends_with(".crl.der") && !name.ends_with(".key.der") {
            all.push((name, std::fs::read(path).unwrap()));
        }
    }
    all
}

/// What differs between the two readings; `None` where one of them cannot read it. Of a `changed` certificate the other
/// library reads some names that DER does not allow; we may know fewer of them, and none that it does not know.
fn compare(der: &[u8], changed: bool) -> Option<Result<(), String>> {
    let ours = CertificateFacts::read(der).ok()?;
    let (rest, theirs) = X509Certificate::from_der(der).ok()?;
    let same = |what: &str, same: bool| if same { Ok(()) } else { Err(format!("{what} of {ours}")) };
    let seconds = |time: i64| u64::try_from(time).unwrap_or(0);
    let mut serial = theirs.raw_serial().iter().copied().skip_while(|octet| *octet == 0).collect::<Vec<_>>();
    if serial.is_empty() {
        serial.push(0);
    }
    let serial: Vec<_> = serial.iter().take(32).map(|octet| format!("{octet:02x}")).collect();
    let names = theirs.subject_alternative_name().ok().flatten();
    let names = names.map(|names| names.value.general_names.clone()).unwrap_or_default();
    let dns: Vec<_> = names
        .iter()
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some(name.escape_default().to_string()),
            _ => None,
        })
        .collect();
    // One name that the other library cannot read, an address of five octets for example, makes it read none after it.
    let comparable = !names.iter().any(|name| matches!(name, GeneralName::Invalid(..)));
    let compared = same("trailing octets", rest.is_empty())
        .and(same("version", u32::from(ours.version) == theirs.version().0 + 1))
        .and(same("serial number", ours.serial.trim_end_matches('…') == serial.join(":")))
        .and(same("notBefore", ours.not_before.as_secs() == seconds(theirs.validity().not_before.timestamp())))
        .and(same("notAfter", ours.not_after.as_secs() == seconds(theirs.validity().not_after.timestamp())))
        .and(same("CA", ours.is_ca == theirs.is_ca()))
        .and(same("DNS names", !comparable || ours.dns_names.iter().all(|name| dns.contains(name))))
        .and(same("number of DNS names", changed || ours.dns_names.len() == dns.len()))
        .and(same(
            "key",
            match (&ours.key, theirs.public_key().parsed()) {
                (KeyKind::Rsa(bits), Ok(PublicKey::RSA(key))) => {
                    let modulus: Vec<_> = key.modulus.iter().copied().skip_while(|octet| *octet == 0).collect();
                    let unused = modulus.first().map_or(0, |octet| octet.leading_zeros());
                    *bits == u32::try_from(modulus.len() * 8).unwrap() - unused.min(8)
                }
                (KeyKind::Ec(_), Ok(PublicKey::EC(_))) => true,
                (_, Err(_)) | (KeyKind::Other(_), _) => true,
                (KeyKind::Rsa(_) | KeyKind::Ec(_), _) => false,
                _ => true,
            },
        ));
    Some(compared)
}

#[test]
fn every_certificate_is_read_as_another_library_reads_it() {
    let all = all();
    assert!(all.len() > 150, "{}", all.len());
    let mut compared = 0;
    for (name, der) in &all {
        if let Some(verdict) = compare(der, false) {
            assert_eq!(verdict, Ok(()), "{name}");
            compared += 1;
        } else {
            // The one with the same extension twice is refused by us.
            assert_eq!(name, "acme-twice");
        }
    }
    assert_eq!(compared, all.len() - 1);
}

#[test]
fn what_is_told_of_a_certificate_is_complete_and_on_one_line() {
    let forge = Forge::open();
    let facts = CertificateFacts::read(&forge.der("odette")).unwrap();
    assert_eq!(facts.odette_id.as_deref(), Some("O0013000000ODETTE"));
    assert_eq!(facts.subject, "CN=Odette,serialNumber=O0013000000ODETTE,O=Odette,C=DE");
    assert_eq!(facts.issuer, "CN=Root,O=Test,C=DE");
    assert_eq!(facts.key, KeyKind::Ec(256));
    let line = facts.to_string();
    assert_eq!(
        line,
        format!(
            "subject=\"CN=Odette,serialNumber=O0013000000ODETTE,O=Odette,C=DE\" issuer=\"CN=Root,O=Test,C=DE\" \
             serial=01:6f:64:65:74:74:65 valid=2020-01-01T00:00:00Z/2040-01-01T00:00:00Z sha256={} key=\"P-256\" \
             odette=\"O0013000000ODETTE\"",
            facts.fingerprint
        )
    );
    for (_, der) in all() {
        let Ok(facts) = CertificateFacts::read(&der) else { continue };
        let line = facts.to_string();
        assert!(line.chars().all(|character| !character.is_control()), "{line}");
        assert!(line.matches('"').count().is_multiple_of(2), "{line}");
    }
}

/// More of them where `PROPTEST_CASES` asks for it.
fn at_least(cases: u32) -> ProptestConfig {
    let default = ProptestConfig::default();
    ProptestConfig { cases: default.cases.max(cases), failure_persistence: None, ..default }
}

proptest! {
    #![proptest_config(at_least(3000))]

    #[test]
    fn changed_certificates_are_read_alike_or_not_at_all(
        which in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        thread_local! {
            static ALL: Vec<(String, Vec<u8>)> = all();
        }
        ALL.with(|all| {
            let (name, der) = which.get(all);
            let mut der = der.clone();
            for (at, to) in &changes {
                let at = at.index(der.len());
                der[at] = *to;
            }
            if let Some(verdict) = compare(&der, true) {
                prop_assert_eq!(verdict, Ok(()), "{}", name);
            }
            Ok(())
        })?;
    }
}
