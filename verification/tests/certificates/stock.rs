//! Where the verifier that comes with rustls surprises, and what is judged here instead. Each surprise is shown by the stock
//! verifier itself: should a later version of it behave, its row says so by failing.

use std::sync::Arc;

use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use verification::{Peer, Policy, Presented, compile, judge};

use crate::table::judgements::World;
use crate::table::time;

/// What the stock verifier is told to do about revocation.
#[derive(Clone, Copy)]
enum Stock {
    /// As it comes.
    Plain,
    /// `allow_unknown_revocation_status`.
    AllowUnknown,
    /// `enforce_revocation_expiration`.
    EnforceExpiration,
    /// Both.
    AllowUnknownEnforceExpiration,
}

struct Surprise {
    what: &'static str,
    chain: &'static str,
    crls: &'static str,
    stock: Stock,
    stock_says: &'static str,
    /// `require` or `prefer`, and the code of our refusal, or `accepted`.
    ours: &'static [(&'static str, &'static str)],
}

const SURPRISES: &[Surprise] = &[
    Surprise {
        what: "without any CRL nothing is checked, whatever the policy",
        chain: "acme",
        crls: "",
        stock: Stock::EnforceExpiration,
        stock_says: "accepted",
        ours: &[("require", "crl-missing"), ("prefer", "accepted")],
    },
    Surprise {
        what: "with one CRL, every other issuer needs one too",
        chain: "acme",
        crls: "other-may",
        stock: Stock::Plain,
        stock_says: "UnknownRevocationStatus",
        ours: &[("require", "crl-missing"), ("prefer", "accepted")],
    },
    Surprise {
        what: "where unknown is allowed, whoever lacks a CRL is accepted without a word",
        chain: "acme-silent issuing-silent",
        crls: "no-crl-may",
        stock: Stock::AllowUnknown,
        stock_says: "accepted",
        ours: &[("require", "crl-missing"), ("prefer", "accepted")],
    },
    Surprise {
        what: "a stale CRL clears as if it were fresh",
        chain: "acme",
        crls: "root-old",
        stock: Stock::Plain,
        stock_says: "accepted",
        ours: &[("require", "crl-expired"), ("prefer", "accepted")],
    },
    Surprise {
        what: "where expiry counts, a stale CRL refuses everybody, even where unknown is allowed",
        chain: "acme",
        crls: "root-old",
        stock: Stock::AllowUnknownEnforceExpiration,
        stock_says: "ExpiredRevocationList",
        ours: &[("require", "crl-expired"), ("prefer", "accepted")],
    },
    Surprise {
        what: "where expiry counts, a stale CRL does not even say that somebody is revoked",
        chain: "gamma",
        crls: "root-old",
        stock: Stock::EnforceExpiration,
        stock_says: "ExpiredRevocationList",
        ours: &[("require", "partner-certificate-revoked"), ("prefer", "partner-certificate-revoked")],
    },
    Surprise {
        what: "a forged CRL refuses everybody of that issuer",
        chain: "acme",
        crls: "root-forged-empty",
        stock: Stock::AllowUnknown,
        stock_says: "BadSignature",
        ours: &[("require", "crl-missing"), ("prefer", "accepted")],
    },
    Surprise {
        what: "a forged CRL refuses everybody even beside the right one",
        chain: "acme",
        crls: "root-forged-empty,root-may",
        stock: Stock::AllowUnknown,
        stock_says: "BadSignature",
        ours: &[("require", "accepted"), ("prefer", "accepted")],
    },
    Surprise {
        what: "of two CRLs the first counts, not the newest",
        chain: "acme",
        crls: "root-may,root-june",
        stock: Stock::Plain,
        stock_says: "accepted",
        ours: &[("require", "partner-certificate-revoked"), ("prefer", "partner-certificate-revoked")],
    },
    Surprise {
        what: "a CRL of version 1 fails the whole configuration",
        chain: "acme",
        crls: "openssl/v1.crl.der,root-may",
        stock: Stock::AllowUnknown,
        stock_says: "not built",
        ours: &[("require", "accepted"), ("prefer", "accepted")],
    },
    Surprise {
        what: "an unreadable CRL fails the whole configuration",
        chain: "acme",
        crls: "junk:3000,root-may",
        stock: Stock::AllowUnknown,
        stock_says: "not built",
        ours: &[("require", "accepted"), ("prefer", "accepted")],
    },
    Surprise {
        what: "keyUsage is not looked at",
        chain: "acme-encipher",
        crls: "",
        stock: Stock::Plain,
        stock_says: "accepted",
        ours: &[("prefer", "partner-certificate-usage")],
    },
    Surprise {
        what: "keyUsage of CAs is not looked at",
        chain: "acme-no-sign issuing-no-sign",
        crls: "",
        stock: Stock::Plain,
        stock_says: "accepted",
        ours: &[("prefer", "partner-certificate-usage")],
    },
];

fn stock(surprise: &Surprise, world: &World, now: UnixTime) -> String {
    let mut roots = RootCertStore::empty();
    roots.add(world.forge.der("root").into()).unwrap();
    roots.add(world.forge.der("other-root").into()).unwrap();
    let crls: Vec<_> = world
        .source(&format!("prefer crl={}", surprise.crls))
        .crls
        .into_iter()
        .map(|crl| CertificateRevocationListDer::from(crl.0))
        .collect();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).with_crls(crls);
    let builder = match surprise.stock {
        Stock::Plain => builder,
        Stock::AllowUnknown => builder.allow_unknown_revocation_status(),
        Stock::EnforceExpiration => builder.enforce_revocation_expiration(),
        Stock::AllowUnknownEnforceExpiration => {
            builder.allow_unknown_revocation_status().enforce_revocation_expiration()
        }
    };
    let Ok(verifier) = builder.build() else { return "not built".to_owned() };
    let chain: Vec<CertificateDer<'_>> = surprise.chain.split(' ').map(|name| world.forge.der(name).into()).collect();
    match verifier.verify_client_cert(&chain[0], &chain[1..], now) {
        Ok(_) => "accepted".to_owned(),
        Err(error) => format!("{error:?}"),
    }
}

fn ours(surprise: &Surprise, rule: &str, world: &World, now: UnixTime) -> String {
    let image = compile(&world.source(&format!("{rule} crl={}", surprise.crls)), now).unwrap().image;
    let chain: Vec<CertificateDer<'_>> = surprise.chain.split(' ').map(|name| world.forge.der(name).into()).collect();
    let presented = Presented { chain: &chain, peer: Peer::Caller };
    match judge(presented, &Policy::open(&image).unwrap(), now, "192.0.2.1".parse().unwrap()) {
        Ok(_) => "accepted".to_owned(),
        Err(refusal) => refusal.code().to_owned(),
    }
}

#[test]
fn each_surprise_of_the_stock_verifier_is_none_of_ours() {
    let world = World::open();
    let now = time("2026-06-15");
    for surprise in SURPRISES {
        let said = stock(surprise, &world, now);
        assert!(said.contains(surprise.stock_says), "{}: the stock verifier says {said}", surprise.what);
        for (rule, expected) in surprise.ours {
            assert_eq!(ours(surprise, rule, &world, now), *expected, "{}: {rule}", surprise.what);
        }
    }
}

#[test]
fn where_the_stock_verifier_guesses_the_reason_is_told() {
    let world = World::open();
    let now = time("2026-06-15");
    let chain: [CertificateDer<'_>; 1] = [world.forge.der("openssl/rsa1024.der").into()];
    // RSA-1024 is refused by its size, not as a handshake signature that is wrong.
    let image = compile(&world.source("openssl"), now).unwrap().image;
    let presented = Presented { chain: &chain, peer: Peer::Caller };
    let refusal = judge(presented, &Policy::open(&image).unwrap(), now, "192.0.2.1".parse().unwrap()).unwrap_err();
    assert_eq!(refusal.code(), "partner-certificate-key-too-weak");
    // The stock verifier takes the certificate, as it never looks at the key.
    let mut roots = RootCertStore::empty();
    roots.add(world.forge.der("openssl/root.der").into()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let stock = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
    assert!(stock.verify_client_cert(&chain[0], &[], now).is_ok());
}
