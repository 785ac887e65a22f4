//! What compiling says of a policy: mistakes with their place, CRLs that are left out, what ends when, who may come from
//! where.

use std::net::IpAddr;

use verification::{
    CertificateDer, CrlFault, Der, Expiring, Fingerprint, PartnerSource, Peer, Policy, PolicySource, Presented,
    Refusal, Revocation, UnknownPartners, Warning, compile, judge, judge_again,
};

use crate::table::judgements::World;
use crate::table::{fixture, time};

fn fingerprint(world: &World, name: &str) -> Fingerprint {
    Fingerprint::of(&world.forge.der(name))
}

/// Two anchors, one pin, two partners.
fn source(world: &World) -> PolicySource {
    let der = |name: &str| Der(world.forge.der(name));
    let mut acme = PartnerSource::named("ACME");
    acme.subjects = vec!["CN=ACME,O=ACME AG,C=DE".to_owned(), "dns:oftp.acme.example".to_owned()];
    acme.issuers = vec![fingerprint(world, "root")];
    acme.certificate_sha256 = vec![fingerprint(world, "acme")];
    let mut beta = PartnerSource::named("Beta");
    beta.subjects = vec!["dns:oftp.beta.example".to_owned()];
    beta.issuers = vec![fingerprint(world, "other-root"), fingerprint(world, "root")];
    beta.certificate_sha256 = vec![fingerprint(world, "self-p256")];
    PolicySource {
        anchors: vec![der("root"), der("other-root")],
        pinned: vec![der("self-p256")],
        partners: vec![acme, beta],
        ..PolicySource::default()
    }
}

#[test]
fn every_mistake_in_a_policy_is_told_with_its_place() {
    let world = World::open();
    type Spoil = fn(&mut PolicySource, &World);
    let mistakes: &[(Spoil, &str, &str)] = &[
        (
            |source, _| source.anchors[1].0 = vec![1, 2, 3],
            "anchors[1]",
            "not a readable X.509 certificate: the certificate",
        ),
        (|source, _| source.anchors[0].0.clear(), "anchors[0]", "not a readable X.509 certificate"),
        (|source, world| source.anchors.push(Der(world.forge.der("acme"))), "anchors[2]", "is not a CA's certificate"),
        (
            |source, world| source.anchors.push(Der(world.forge.der("denies-ca"))),
            "anchors[2]",
            "\"CN=Denies CA,O=Test,C=DE\" is not a CA's",
        ),
        (|source, _| source.pinned.push(Der(b"-----BEGIN".to_vec())), "pinned[1]", "not a readable X.509 certificate"),
        (
            |source, world| source.pinned[0].0.extend(world.forge.der("acme")),
            "pinned[0]",
            "not a readable X.509 certificate",
        ),
        (|source, _| source.partners[1].name.clear(), "partners[1].name", "\"\" is empty or taken"),
        (|source, _| source.partners[1].name = "ACME".to_owned(), "partners[1].name", "\"ACME\" is empty or taken"),
        (|source, _| source.partners[1].subjects.push(String::new()), "partners[1].subjects[1]", "a name is expected"),
        (
            |source, _| source.partners[0].subjects[0] = "ACME".to_owned(),
            "partners[0].subjects[0]",
            "\"ACME\" has no `=`",
        ),
        (
            |source, _| source.partners[0].subjects[0] = "CN=ACME, Inc".to_owned(),
            "partners[0].subjects[0]",
            "\"Inc\" has no `=`: a comma inside a value",
        ),
        (
            |source, _| source.partners[0].subjects[0] = "Company=ACME".to_owned(),
            "partners[0].subjects[0]",
            "\"Company\" is no attribute type",
        ),
        (
            |source, _| source.partners[0].subjects[0] = "CN=\"ACME\"".to_owned(),
            "partners[0].subjects[0]",
            "the value of CN is not written as RFC 4514 has it",
        ),
        (
            |source, _| source.partners[0].subjects[1] = "dns:".to_owned(),
            "partners[0].subjects[1]",
            "\"\" is no DNS name",
        ),
        (
            |source, _| source.partners[0].subjects[1] = "dns:oftp acme".to_owned(),
            "partners[0].subjects[1]",
            "\"oftp acme\" is no DNS name",
        ),
        (
            |source, _| source.partners[0].subjects[1] = "dns:oftp.*.example".to_owned(),
            "partners[0].subjects[1]",
            "is no DNS name",
        ),
        (
            |source, world| source.partners[1].issuers[0] = fingerprint(world, "rsa-root"),
            "partners[1].issuers[0]",
            "is none of the anchors",
        ),
        (
            |source, _| source.partners[0].issuers.clear(),
            "partners[0].issuers",
            "with more than one anchor, subjects need issuers",
        ),
        (
            |source, _| source.partners[0].ssid_codes = vec!["O0013".to_owned(), "O".repeat(26)],
            "partners[0].ssid_codes[1]",
            "1 to 25 characters",
        ),
        (
            |source, _| source.partners[0].ssid_codes = vec![String::new()],
            "partners[0].ssid_codes[0]",
            "1 to 25 characters",
        ),
        (
            |source, _| source.partners[1].server_name = Some("not a name".to_owned()),
            "partners[1].server_name",
            "neither a DNS name nor an IP address",
        ),
        (
            |source, world| source.partners[1].certificate_sha256.push(fingerprint(world, "acme")),
            "partners[1].certificate_sha256[1]",
            "is also that of partner \"ACME\"; whose session is it?",
        ),
        (|source, _| source.partners[1].subjects.push("c=DE + o=nobody".to_owned()), "", ""),
        (
            |source, _| source.partners[1].subjects.push("cn=acme, o=ACME  ag, c=de".to_owned()),
            "partners[1].subjects[1]",
            "is also that of partner \"ACME\"",
        ),
        (
            |source, _| source.partners[1].subjects.push("dns:OFTP.acme.example".to_owned()),
            "partners[1].subjects[1]",
            "is also that of partner \"ACME\"",
        ),
        (
            // Under different anchors it is not.
            |source, world| {
                source.partners[1].subjects.push("dns:OFTP.acme.example".to_owned());
                source.partners[1].issuers = vec![fingerprint(world, "other-root")];
            },
            "",
            "",
        ),
        (
            // Twice with one partner it is not.
            |source, world| {
                source.partners[0].subjects.push("dns:OFTP.acme.example".to_owned());
                source.partners[0].certificate_sha256.push(fingerprint(world, "acme"));
            },
            "",
            "",
        ),
        (
            // The same anchor twice is one anchor.
            |source, world| {
                source.anchors[1] = Der(world.forge.der("root"));
                source.partners[1].issuers.clear();
            },
            "",
            "",
        ),
    ];
    assert!(compile(&source(&world), time("2026-06-01")).is_ok());
    for (spoil, place, reason) in mistakes {
        let mut source = source(&world);
        spoil(&mut source, &world);
        match compile(&source, time("2026-06-01")) {
            Ok(_) => assert_eq!(*place, "", "{reason}"),
            Err(error) => {
                assert_eq!(error.place, *place, "{error}");
                assert!(error.to_string().contains(reason), "{error}");
            }
        }
    }
}

#[test]
fn every_bad_crl_is_left_out_for_its_reason_and_no_other() {
    let world = World::open();
    let left_out = |crl: &str| -> Option<String> {
        let compiled =
            compile(&world.source(&format!("openssl crl={crl},openssl/good.crl.der")), time("2026-06-01")).unwrap();
        let bad: Vec<_> = compiled.left_out.iter().filter(|left_out| !left_out.fault.is_ordinary()).collect();
        assert!(bad.iter().all(|left_out| left_out.index == 0), "{crl}: {bad:?}");
        bad.first().map(|left_out| left_out.fault.to_string())
    };
    for (crl, reason) in [
        ("openssl/delta.crl.der", "it is a delta CRL; complete ones are needed"),
        ("openssl/delta-quiet.crl.der", "it is a delta CRL; complete ones are needed"),
        ("openssl/indirect.crl.der", "it is an indirect CRL, which speaks for other issuers"),
        ("openssl/reasons.crl.der", "it covers only some reasons or certificates in a way that is not supported"),
        ("openssl/attributes.crl.der", "it covers only some reasons or certificates in a way that is not supported"),
        ("openssl/relative.crl.der", "it covers only some reasons or certificates in a way that is not supported"),
        ("openssl/critical.crl.der", "its critical extension 1.2.3.4 is not understood here"),
        ("openssl/sha1.crl.der", "it is signed by SHA-1 with RSA; SHA-256 is the least"),
        ("junk:", "it cannot be read as a CRL: the CRL"),
        ("junk:3000", "it cannot be read as a CRL: the CRL's body"),
        ("openssl/leaf.der", "it cannot be read as a CRL: the signature algorithm"),
    ] {
        assert_eq!(left_out(crl).as_deref(), Some(reason), "{crl}");
    }
    for good in ["v1", "users", "cas", "not-critical", "rsa-good", "rsa-pss", "rsa-sha512"] {
        assert_eq!(left_out(&format!("openssl/{good}.crl.der")), None, "{good}");
    }
}

#[test]
fn forged_superseded_early_and_unproven_crls_are_told_apart() {
    let world = World::open();
    let crls = "root-may,root-june,root-old,root-july,root-forged,root-tampered,foreign,issuing-may,no-crl-root-may";
    let source = world.source(&format!("any-root crl={crls}"));
    let compiled = compile(&source, time("2026-06-15")).unwrap();
    let root = || "CN=Root,O=Test,C=DE".to_owned();
    let by = Fingerprint::of(&source.crls[1].0);
    let faults: Vec<_> = compiled.left_out.iter().map(|left_out| (left_out.index, left_out.fault.clone())).collect();
    assert_eq!(
        faults,
        [
            (0, CrlFault::Superseded { by }),
            (2, CrlFault::Superseded { by }),
            (3, CrlFault::NotYetValid(time("2026-07-01"))),
            (4, CrlFault::SignatureWrong { issuer: root() }),
            (5, CrlFault::SignatureWrong { issuer: root() }),
            (8, CrlFault::SignerNotAllowed { issuer: "CN=No CRL Root,O=Test,C=DE".to_owned() }),
        ]
    );
    // What another key than the anchor's signed may be proven by a chain that shows that key.
    assert_eq!(compiled.unproven, [4, 5, 6, 7]);
    assert!(
        compiled
            .left_out
            .iter()
            .all(|left_out| left_out.fingerprint == Fingerprint::of(&source.crls[left_out.index].0))
    );
    let ordinary: Vec<_> =
        compiled.left_out.iter().filter(|left_out| left_out.fault.is_ordinary()).map(|it| it.index).collect();
    assert_eq!(ordinary, [0, 2, 3]);
}

#[test]
fn what_ends_is_listed_and_warned_of_in_time() {
    let world = World::open();
    let mut source = world.source("any-root crl=root-may");
    source.pinned.push(Der(world.forge.der("self-old")));
    let compiled = compile(&source, time("2026-05-15")).unwrap();
    let find = |what, name: &str| {
        compiled.expiries.iter().find(|expiry| expiry.what == what && expiry.name == name).unwrap().clone()
    };
    assert_eq!(compiled.expiries.len(), source.anchors.len() + 2);
    let pin = find(Expiring::Pin, "CN=Self,O=ACME AG,C=DE");
    assert_eq!(pin.until, time("2026-06-01"));
    for (now, due) in [
        ("2026-05-01", None),
        ("2026-05-02", Some(Warning::Days(30))),
        ("2026-05-24T23:59:59Z", Some(Warning::Days(30))),
        ("2026-05-25", Some(Warning::Days(7))),
        ("2026-05-31", Some(Warning::Days(1))),
        ("2026-06-01", Some(Warning::Days(1))),
        ("2026-06-01T00:00:01Z", Some(Warning::Ended)),
        ("2030-01-01", Some(Warning::Ended)),
    ] {
        assert_eq!(pin.due(time(now)), due, "{now}");
    }
    // This CRL lives for two months: the warning of 30 days fits, and each of the others.
    let crl = find(Expiring::Crl, "CN=Root,O=Test,C=DE");
    assert_eq!((crl.since, crl.until), (time("2026-05-01"), time("2026-07-01")));
    assert_eq!(crl.due(time("2026-06-01")), Some(Warning::Days(30)));
    // One of a week is not told of before its last day.
    let week = verification::Expiry { since: time("2026-06-24"), ..crl };
    assert_eq!(week.due(time("2026-06-24")), None);
    assert_eq!(week.due(time("2026-06-30")), Some(Warning::Days(1)));
    assert!(week.to_string().starts_with("CRL \"CN=Root,O=Test,C=DE\" (sha256 "), "{week}");
    assert!(week.to_string().ends_with("ends 2026-07-01T00:00:00Z"), "{week}");
    let seen = verification::Expiry::read(Expiring::Partner, &world.forge.der("acme-old")).unwrap();
    assert_eq!((seen.name.as_str(), seen.until), ("CN=ACME,O=ACME AG,C=DE", time("2026-06-01")));
}

#[test]
fn the_gate_knows_from_where_nobody_may_come() {
    let networks = |lists: &[(&str, bool)]| {
        let partners = lists.iter().enumerate().map(|(number, (list, enabled))| {
            let mut partner = PartnerSource::named(format!("partner {number}"));
            partner.allow_from = list.split_whitespace().map(|network| network.parse().unwrap()).collect();
            partner.enabled = *enabled;
            partner
        });
        PolicySource { partners: partners.collect(), ..PolicySource::default() }
    };
    let restricted =
        networks(&[("192.0.2.0/24 198.51.100.7", true), ("2001:db8::/32 192.0.2.128/25", true), ("10.0.0.0/8", false)]);
    let open = networks(&[("192.0.2.0/24", true), ("", true)]);
    let accepting = PolicySource { unknown_partners: UnknownPartners::Accept, ..restricted.clone() };
    let nobody = PolicySource::default();
    for (address, in_restricted) in [
        ("192.0.2.0", true),
        ("192.0.2.200", true),
        ("192.0.2.255", true),
        ("192.0.3.0", false),
        ("192.0.1.255", false),
        ("198.51.100.7", true),
        ("198.51.100.8", false),
        ("::ffff:198.51.100.7", true),
        ("10.1.2.3", false),
        ("2001:db8::", true),
        ("2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", true),
        ("2001:db9::", false),
        ("::1", false),
    ] {
        let address: IpAddr = address.parse().unwrap();
        let answers = |source: &PolicySource| {
            let image = compile(source, time("2026-06-01")).unwrap().image;
            let policy = Policy::open(&image).unwrap();
            (policy.admits_address(address), policy.prefers_address(address))
        };
        assert_eq!(answers(&restricted), (in_restricted, in_restricted), "{address}");
        assert!(answers(&open).0, "{address}");
        assert!(answers(&accepting).0, "{address}");
        assert_eq!(answers(&accepting).1, in_restricted, "{address}");
        assert_eq!(answers(&nobody), (false, false), "{address}");
    }
    let named = |source: &PolicySource| {
        let image = compile(source, time("2026-06-01")).unwrap().image;
        Policy::open(&image).unwrap().preferred_addresses()
    };
    assert_eq!(named(&restricted), "192.0.2.0/24, 198.51.100.7/32, 2001:db8::/32");
    assert_eq!(named(&nobody), "");
    let many = networks(&[
        ("10.7.0.0/16 10.6.0.0/16 10.5.0.0/16 10.4.0.0/16", true),
        ("10.1.0.0/16 10.2.0.0/16 0.0.0.0/8", true),
    ]);
    assert_eq!(named(&many), "0.0.0.0/8, 10.1.0.0/16, 10.2.0.0/16, 10.4.0.0/16, 10.5.0.0/16 and 2 more");
}

#[test]
fn a_partner_is_found_with_all_that_was_configured() {
    let mut source = PolicySource { revocation: Revocation::Require, ..PolicySource::default() };
    for number in 0..300 {
        source.partners.push(PartnerSource::named(format!("partner {number}")));
    }
    source.partners[77] = PartnerSource {
        name: "Müller & Söhne".to_owned(),
        enabled: false,
        ssid_codes: vec!["O0013000000ACME".to_owned(), "O00130000001".to_owned()],
        max_sessions: Some(0),
        conformance: verification::Conformance::Strict,
        revocation: Some(Revocation::Off),
        address: Some("oftp.example:6619".to_owned()),
        server_name: Some("oftp.example".to_owned()),
        outgoing_ip: Some("2001:db8::7".parse().unwrap()),
        extended_key_usage: verification::ExtendedKeyUsage::Ignore,
        ..PartnerSource::named("")
    };
    let image = compile(&source, time("2026-06-01")).unwrap().image;
    let policy = Policy::open(&image).unwrap();
    assert_eq!(policy.partner_count(), 300);
    assert_eq!(policy.partners().count(), 300);
    for number in (0..300).filter(|number| *number != 77) {
        let partner = policy.partner_named(&format!("partner {number}")).unwrap();
        assert_eq!((partner.index(), partner.enabled(), partner.max_sessions()), (number, true, None));
        assert_eq!((partner.address(), partner.server_name(), partner.outgoing_ip()), (None, None, None));
        assert_eq!(partner.revocation(), Revocation::Require);
    }
    let partner = policy.partner_named("Müller & Söhne").unwrap();
    assert_eq!((partner.index(), partner.enabled(), partner.max_sessions()), (77, false, Some(0)));
    assert_eq!(partner.ssid_codes().collect::<Vec<_>>(), ["O0013000000ACME", "O00130000001"]);
    assert_eq!(partner.conformance(), verification::Conformance::Strict);
    assert_eq!(partner.extended_key_usage(), verification::ExtendedKeyUsage::Ignore);
    assert_eq!(partner.revocation(), Revocation::Off);
    assert_eq!((partner.address(), partner.server_name()), (Some("oftp.example:6619"), Some("oftp.example")));
    assert_eq!(partner.outgoing_ip(), Some("2001:db8::7".parse().unwrap()));
    assert!(policy.partner_named("partner 77").is_none());
    assert!(policy.partner(300).is_none());
}

#[test]
fn whose_a_code_is_is_known_for_all_partners_that_list_one() {
    let mut source = PolicySource::default();
    let none = compile(&source, time("2026-06-01")).unwrap().image;
    assert_eq!(Policy::open(&none).unwrap().holder_of_code("O0013000000ACME"), Ok(None));
    for number in 0..300 {
        let codes = vec![format!("CODE {number}"), format!("  SECOND{number} "), "SHARED".to_owned()];
        let enabled = number % 2 == 0;
        source.partners.push(PartnerSource {
            enabled,
            ssid_codes: codes,
            ..PartnerSource::named(format!("Müller {number}"))
        });
        source.partners.push(PartnerSource::named(format!("without {number}")));
    }
    let image = compile(&source, time("2026-06-01")).unwrap().image;
    let policy = Policy::open(&image).unwrap();
    let holder = |code: &str| policy.holder_of_code(code).unwrap();
    for number in 0..300 {
        let name = Some(format!("Müller {number}"));
        // RFC 5024, 5.4: compared without the blanks that fill a code up.
        assert_eq!(holder(&format!("CODE {number}")), name);
        assert_eq!(holder(&format!("SECOND{number}                ")), name);
    }
    assert_eq!(holder("SHARED"), Some("Müller 0".to_owned()));
    for nobodys in ["", "CODE", "CODE 300", "CODE  7", "code 7", "SECOND7X", "A", "Z", &"X".repeat(26)] {
        assert_eq!(holder(nobodys), None, "{nobodys}");
    }
    let list = policy.listed_codes();
    // 601 rows, and the name of the first partner.
    for end in 0..4 + 601 * 33 + 9 {
        let read = |from: u64, octets: &mut [u8]| {
            let found = list[..end].get(from as usize..).and_then(|rest| rest.get(..octets.len()));
            found.map(|found| octets.copy_from_slice(found)).is_some()
        };
        let cut = verification::holder_of_code(read, "SHARED");
        assert!(cut.is_err(), "{end} octets: {cut:?}");
    }
}

#[test]
fn a_verified_partner_knows_what_is_configured_for_it() {
    let world = World::open();
    let mut source = source(&world);
    source.partners[0].ssid_codes = vec!["O0013000000ACME".to_owned()];
    source.partners[0].max_sessions = Some(3);
    let image = compile(&source, time("2026-06-01")).unwrap().image;
    let policy = Policy::open(&image).unwrap();
    let chain = [CertificateDer::from(world.forge.der("acme"))];
    let presented = Presented { chain: &chain, peer: Peer::Caller };
    let partner = judge(presented, &policy, time("2026-06-01"), "192.0.2.1".parse().unwrap()).unwrap();
    assert_eq!((partner.name(), partner.index(), partner.max_sessions()), (Some("ACME"), Some(0), Some(3)));
    assert!(partner.may_use_code("O0013000000ACME"));
    assert!(
        !partner.may_use_code("O0013000000ACM")
            && !partner.may_use_code("O0013000000HOME")
            && !partner.may_use_code("")
    );
    assert_eq!(partner.fingerprint(), Fingerprint::of(&chain[0]));
    assert_eq!(partner.facts().subject, "CN=ACME,O=ACME AG,C=DE");
}

#[test]
fn only_urls_of_the_verified_chain_are_told() {
    let world = World::open();
    let image = compile(&world.source("plain"), time("2026-06-01")).unwrap().image;
    let policy = Policy::open(&image).unwrap();
    // The other certificate comes along and is nobody's issuer; ldap is nothing that a backend may fetch.
    let chain =
        [CertificateDer::from(world.forge.der("acme-cdp")), CertificateDer::from(world.forge.der("acme-cdp-other"))];
    let presented = Presented { chain: &chain, peer: Peer::Caller };
    let partner = judge(presented, &policy, time("2026-06-01"), "192.0.2.1".parse().unwrap()).unwrap();
    let [point] = partner.crl_points() else { panic!("{:?}", partner.crl_points()) };
    assert_eq!(point.url, "http://crl.example/1.crl");
    assert_eq!(point.certificate, Fingerprint::of(&chain[0]));
    assert_eq!(point.issuer, "CN=Root,O=Test,C=DE");
    assert_eq!(partner.facts().crl_uris, ["http://crl.example/1.crl", "ldap://crl.example/1"]);
}

#[test]
fn a_running_session_is_judged_again_by_everything_but_time() {
    let world = World::open();
    let from: IpAddr = "192.0.2.1".parse().unwrap();
    let code = |chain: &str, policy: &str, established: &str, now: &str| {
        let chain: Vec<_> = chain.split(' ').map(|name| CertificateDer::from(world.forge.der(name))).collect();
        let image = compile(&world.source(policy), time(now)).unwrap().image;
        let policy = Policy::open(&image).unwrap();
        let presented = Presented { chain: &chain, peer: Peer::Caller };
        judge_again(presented, &policy, time(established), time(now), from).map_err(|refusal| refusal.code()).map(drop)
    };
    for (name, chain, policy, established, now, verdict) in [
        ("nothing changed", "acme", "plain", "2026-06-01", "2026-06-02", Ok(())),
        ("the certificate ended meanwhile", "acme-old", "plain", "2026-05-31", "2026-06-02", Ok(())),
        ("the anchor ended meanwhile", "acme-short-root", "any-root", "2026-12-31", "2027-01-02", Ok(())),
        ("the pin ended meanwhile", "self-old", "pins", "2026-05-31", "2026-06-02", Ok(())),
        ("the CRL ended meanwhile", "acme", "require crl=root-may", "2026-06-30", "2026-07-02", Ok(())),
        ("it had ended before", "acme-old", "plain", "2026-06-02", "2026-06-03", Err("partner-certificate-expired")),
        (
            "a new CRL revokes it",
            "acme",
            "require crl=root-may,root-june",
            "2026-05-31",
            "2026-06-01",
            Err("partner-certificate-revoked"),
        ),
        (
            "a new CRL revokes its CA",
            "acme-issuing issuing",
            "prefer crl=root-issuing",
            "2026-04-01",
            "2026-06-01",
            Err("partner-certificate-revoked"),
        ),
        ("its CRL is gone", "acme", "require", "2026-06-01", "2026-06-02", Err("crl-missing")),
        ("the anchor is gone", "acme", "pins", "2026-06-01", "2026-06-02", Err("partner-certificate-not-pinned")),
        ("the pin is gone", "self-p256", "plain", "2026-06-01", "2026-06-02", Err("partner-certificate-not-pinned")),
        ("the partner is gone", "delta", "plain", "2026-06-01", "2026-06-02", Err("partner-unknown")),
        ("the partner is disabled", "beta", "restricted", "2026-06-01", "2026-06-02", Err("partner-disabled")),
        (
            "the address is no longer allowed",
            "gamma",
            "restricted",
            "2026-06-01",
            "2026-06-02",
            Err("partner-address-refused"),
        ),
    ] {
        assert_eq!(code(chain, policy, established, now), verdict, "{name}");
    }
}

#[test]
fn a_large_crl_revokes_what_it_lists_and_nothing_else() {
    // 20,000 entries of all lengths, made here, so that the expectation does not come from our own reader.
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let root = params.self_signed(&key).unwrap();
    let issuer = rcgen::Issuer::from_params(&params, &key);
    let serial = |number: u32| {
        let mut serial = vec![0x11; usize::try_from(number % 17).unwrap()];
        serial.extend(number.wrapping_mul(2_654_435_761).to_be_bytes());
        rcgen::SerialNumber::from(serial)
    };
    let entry = |number| rcgen::RevokedCertParams {
        serial_number: serial(number),
        revocation_time: rcgen::date_time_ymd(2026, 1, 1),
        reason_code: None,
        invalidity_date: None,
    };
    let crl = rcgen::CertificateRevocationListParams {
        this_update: rcgen::date_time_ymd(2026, 5, 1),
        next_update: rcgen::date_time_ymd(2026, 7, 1),
        crl_number: rcgen::SerialNumber::from(1),
        issuing_distribution_point: None,
        revoked_certs: (0..40_000).step_by(2).map(entry).collect(),
        key_identifier_method: rcgen::KeyIdMethod::Sha256,
    };
    let source = PolicySource {
        anchors: vec![Der(root.der().to_vec())],
        crls: vec![Der(crl.signed_by(&issuer).unwrap().der().to_vec())],
        revocation: Revocation::Require,
        unknown_partners: UnknownPartners::Accept,
        ..PolicySource::default()
    };
    let compiled = compile(&source, time("2026-06-01")).unwrap();
    assert!(compiled.left_out.is_empty());
    let policy = Policy::open(&compiled.image).unwrap();
    let leaf_key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    for number in (0..400).chain(39_800..40_000) {
        let mut leaf = rcgen::CertificateParams::default();
        leaf.serial_number = Some(serial(number));
        let chain = [CertificateDer::from(leaf.signed_by(&leaf_key, &issuer).unwrap().der().to_vec())];
        let presented = Presented { chain: &chain, peer: Peer::Caller };
        let verdict = judge(presented, &policy, time("2026-06-01"), "192.0.2.1".parse().unwrap());
        let revoked = matches!(verdict, Err(Refusal::CertificateRevoked { .. }));
        assert_eq!((revoked, verdict.is_ok()), (number % 2 == 0, number % 2 == 1), "{number}: {verdict:?}");
    }
}

/// A CRL as CAs make it in May 2026, with these entries and names of its distribution point.
fn crl_of(issuer: &rcgen::Issuer<'_, rcgen::KeyPair>, number: u64, serials: &[Vec<u8>], names: usize) -> Vec<u8> {
    let entry = |serial: &Vec<u8>| rcgen::RevokedCertParams {
        serial_number: rcgen::SerialNumber::from_slice(serial),
        revocation_time: rcgen::date_time_ymd(2026, 5, 1),
        reason_code: None,
        invalidity_date: None,
    };
    let uris = (0..names).map(|name| format!("http://crl.example/{name}")).collect();
    let distribution_point = rcgen::CrlDistributionPoint { uris };
    let params = rcgen::CertificateRevocationListParams {
        this_update: rcgen::date_time_ymd(2026, 5, 1),
        next_update: rcgen::date_time_ymd(2026, 7, 1),
        crl_number: rcgen::SerialNumber::from(number),
        issuing_distribution_point: (names > 0)
            .then_some(rcgen::CrlIssuingDistributionPoint { distribution_point, scope: None }),
        revoked_certs: serials.iter().map(entry).collect(),
        key_identifier_method: rcgen::KeyIdMethod::Sha256,
    };
    params.signed_by(issuer).unwrap().der().to_vec()
}

#[test]
fn crls_that_others_make_under_an_issuers_name_do_not_hide_its_own() {
    let ca = |name: &str, algorithm: &'static rcgen::SignatureAlgorithm| {
        let mut params = rcgen::CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        (params, rcgen::KeyPair::generate_for(algorithm).unwrap())
    };
    let p256 = &rcgen::PKCS_ECDSA_P256_SHA256;
    let (root_params, root_key) = ca("Root", p256);
    let root_der = root_params.self_signed(&root_key).unwrap().der().to_vec();
    let root = rcgen::Issuer::new(root_params, root_key);
    let (params, key) = ca("Issuing", p256);
    let issuing_der = params.signed_by(&key, &root).unwrap().der().to_vec();
    let issuing = rcgen::Issuer::new(params, key);
    let (params, key) = ca("Issuing", p256);
    let stranger = rcgen::Issuer::new(params, key);

    let serial = vec![0x12, 0x34];
    let own = crl_of(&issuing, 1, std::slice::from_ref(&serial), 0);
    let others = (0..40).map(|number| crl_of(&stranger, 100 + number, &[], 0));
    let source = PolicySource {
        anchors: vec![Der(root_der)],
        crls: others.chain([own]).map(Der).collect(),
        revocation: Revocation::Prefer,
        unknown_partners: UnknownPartners::Accept,
        ..PolicySource::default()
    };
    let compiled = compile(&source, time("2026-06-01")).unwrap();
    assert_eq!(compiled.left_out, []);
    let leaf_key = rcgen::KeyPair::generate_for(p256).unwrap();
    let mut leaf = rcgen::CertificateParams::default();
    leaf.serial_number = Some(rcgen::SerialNumber::from_slice(&serial));
    let leaf = leaf.signed_by(&leaf_key, &issuing).unwrap().der().to_vec();
    let chain = [CertificateDer::from(leaf), CertificateDer::from(issuing_der)];
    let known = verification::KnownSignatures::default();
    let policy = Policy::open(&compiled.image).unwrap();
    // As sessions judge, and as the agent does, who remembers: the first time and again.
    for policy in [policy, policy.remembering(&known), policy.remembering(&known)] {
        let presented = Presented { chain: &chain, peer: Peer::Caller };
        let verdict = judge(presented, &policy, time("2026-06-01"), "192.0.2.1".parse().unwrap());
        assert!(matches!(verdict, Err(Refusal::CertificateRevoked { .. })), "{verdict:?}");
    }
}

#[test]
fn what_would_cost_each_judgement_too_much_is_left_out() {
    let (params, key) = (rcgen::CertificateParams::default(), rcgen::KeyPair::generate().unwrap());
    let p256 = rcgen::Issuer::new(params, key);
    let (params, key) =
        (rcgen::CertificateParams::default(), rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap());
    let ed25519 = rcgen::Issuer::new(params, key);
    let serials: Vec<_> = (1_u32..=60_000).map(|serial| serial.to_be_bytes().to_vec()).collect();
    let left_out = |crl: Vec<u8>| {
        let source = PolicySource { crls: vec![Der(crl)], ..PolicySource::default() };
        let compiled = compile(&source, time("2026-06-01")).unwrap();
        compiled.left_out.first().map(|left_out| left_out.fault.to_string())
    };
    assert_eq!(left_out(crl_of(&p256, 1, &[], 64)), None);
    let names = "it cannot be read as a CRL: issuingDistributionPoint, of more than 64 names";
    assert_eq!(left_out(crl_of(&p256, 1, &[], 65)).as_deref(), Some(names));
    assert_eq!(left_out(crl_of(&p256, 1, &serials, 0)), None, "a digest of it is kept");
    assert_eq!(left_out(crl_of(&ed25519, 1, &serials[..10_000], 0)), None);
    let told = left_out(crl_of(&ed25519, 1, &serials, 0)).unwrap();
    assert!(told.starts_with("it is signed with Ed25519 by none of the anchors"), "{told}");
}

#[test]
fn crls_beside_the_source_count_as_those_inside() {
    let world = World::open();
    let with = world.source("require crl=root-may,root-forged");
    let without = PolicySource { crls: Vec::new(), ..with.clone() };
    let crls: Vec<&[u8]> = with.crls.iter().map(AsRef::as_ref).collect();
    let beside = verification::compile_with_crls(&without, &crls, time("2026-06-01")).unwrap();
    let inside = compile(&with, time("2026-06-01")).unwrap();
    assert_eq!(beside.image, inside.image);
    assert_eq!(beside.left_out, inside.left_out);
}

#[test]
fn the_image_does_not_change_with_the_order_of_crls() {
    let world = World::open();
    let image = |crls: &str| compile(&world.source(&format!("require crl={crls}")), time("2026-06-01")).unwrap();
    let judged = |compiled: &verification::Compiled, name: &str| {
        let chain = [CertificateDer::from(world.forge.der(name))];
        let policy = Policy::open(&compiled.image).unwrap();
        judge(
            Presented { chain: &chain, peer: Peer::Caller },
            &policy,
            time("2026-06-01"),
            "192.0.2.1".parse().unwrap(),
        )
    };
    let (one, other) =
        (image("root-hold,root-may,root-june,root-forged"), image("root-forged,root-june,root-may,root-hold"));
    for name in ["acme", "gamma", "acme-plain"] {
        assert_eq!(judged(&one, name), judged(&other, name), "{name}");
    }
    assert_eq!(one.left_out.len(), other.left_out.len());
}

#[test]
fn an_image_of_another_kind_or_length_is_not_opened() {
    let world = World::open();
    let image = compile(&source(&world), time("2026-06-01")).unwrap().image;
    assert!(Policy::open(&image).is_ok());
    for length in (0..image.len()).step_by(7) {
        assert!(Policy::open(&image[..length]).is_err(), "{length}");
    }
    assert!(Policy::open(&[image.as_slice(), &[0]].concat()).is_err());
    assert!(Policy::open(&fixture("leaf.der")).is_err());
}
