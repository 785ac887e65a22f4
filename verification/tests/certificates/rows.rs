//! Certificates as data: each row of the tables gets its verdict, for its reason.

use std::collections::HashSet;

use crate::table::judgements::{self, World};
use verification::{KnownSignatures, Policy, Refusal, compile};

#[test]
fn every_row_has_its_verdict() {
    let world = World::open();
    let rows = judgements::all();
    let mut wrong = Vec::new();
    for row in &rows {
        let image = row.image(&world);
        let judged = row.judge(&image, &row.chain(&world));
        wrong.extend(row.differs(&judged, &world));
    }
    assert!(wrong.is_empty(), "{} of {} rows:\n{}", wrong.len(), rows.len(), wrong.join("\n"));
}

/// A signature that is known to be right says nothing of time, revocation, anchors and partners.
#[test]
fn every_row_has_its_verdict_when_its_signatures_are_known() {
    let (world, known) = (World::open(), KnownSignatures::default());
    let rows = judgements::all();
    let mut wrong = Vec::new();
    // The second time each finds what all the others have left.
    for row in rows.iter().chain(&rows) {
        let image = row.image(&world);
        let policy = Policy::open(&image).expect("a whole image").remembering(&known);
        wrong.extend(row.differs(&row.judge_by(policy, &row.chain(&world)), &world));
    }
    assert!(wrong.is_empty(), "{} of {} rows:\n{}", wrong.len(), rows.len(), wrong.join("\n"));
}

#[test]
fn there_are_enough_rows_with_names_of_their_own() {
    let rows = judgements::all();
    let names: HashSet<_> = rows.iter().map(|row| &row.name).collect();
    assert_eq!(names.len(), rows.len());
    assert!(rows.len() >= 150, "{}", rows.len());
}

#[test]
fn every_code_of_a_judgement_has_a_row() {
    let shown: HashSet<_> = judgements::all()
        .iter()
        .filter_map(|row| Some(row.verdict.strip_prefix("refused ")?.split_once(": ")?.0.to_owned()))
        .collect();
    for code in Refusal::CODES {
        // The handshake's proof is no part of a judgement; a damaged image is never compiled.
        let elsewhere = ["partner-handshake-signature-invalid", "snapshot-refused"].contains(code);
        assert_eq!(shown.contains(*code), !elsewhere, "{code}");
    }
}

#[test]
fn a_policy_that_crossed_the_link_judges_the_same() {
    let world = World::open();
    for row in judgements::all() {
        let source = world.source(&row.policy);
        let octets = postcard::to_allocvec(&source).unwrap();
        let crossed: verification::PolicySource = postcard::from_bytes(&octets).unwrap();
        assert_eq!(crossed, source, "{}", row.name);
        assert_eq!(
            compile(&crossed, row.time).unwrap().image,
            compile(&source, row.time).unwrap().image,
            "{}",
            row.name
        );
    }
}

#[test]
fn every_refusal_tells_the_peer_by_a_fitting_alert() {
    // RFC 8446, 6.2: what a partner's administrator will read in its log.
    const ALERTS: &[(&str, &str)] = &[
        ("partner-certificate-missing", "CertificateRequired"),
        ("partner-certificate-unreadable", "BadCertificate"),
        ("partner-certificate-expired", "CertificateExpired"),
        ("partner-certificate-not-yet-valid", "CertificateExpired"),
        ("partner-certificate-revoked", "CertificateRevoked"),
        ("partner-certificate-issuer-unknown", "UnknownCA"),
        ("partner-certificate-not-pinned", "UnknownCA"),
        ("partner-certificate-key-too-weak", "UnsupportedCertificate"),
        ("partner-certificate-signature-invalid", "BadCertificate UnsupportedCertificate"),
        ("partner-certificate-usage", "UnsupportedCertificate"),
        ("partner-certificate-chain-invalid", "BadCertificate UnsupportedCertificate"),
        ("partner-certificate-name-mismatch", "BadCertificate AccessDenied"),
        ("crl-missing", "UnknownCA"),
        ("crl-expired", "UnknownCA"),
        ("partner-unknown", "AccessDenied"),
        ("partner-disabled", "AccessDenied"),
        ("partner-address-refused", "AccessDenied"),
    ];
    let world = World::open();
    for row in judgements::all().iter().filter(|row| row.is_refusal()) {
        let Err(refusal) = row.judge(&row.image(&world), &row.chain(&world)) else { panic!("{}", row.name) };
        let (_, fitting) = ALERTS.iter().find(|(code, _)| *code == refusal.code()).unwrap();
        let alert = format!("{:?}", refusal.alert());
        assert!(fitting.split(' ').any(|fitting| fitting == alert), "{}: {alert}", row.name);
        if let rustls::Error::InvalidCertificate(error) = refusal.tls_error() {
            assert_eq!(rustls::AlertDescription::from(error), refusal.alert(), "{}", row.name);
        } else {
            assert_eq!(refusal, Refusal::CertificateMissing, "{}", row.name);
        }
    }
}
