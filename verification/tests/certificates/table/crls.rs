//! Makes the CRLs of `crls.txt` with rcgen.

use std::collections::HashMap;

use rcgen::{
    CertificateRevocationListParams, CrlDistributionPoint, CrlIssuingDistributionPoint, CrlScope, Issuer, KeyIdMethod,
    RevocationReason, RevokedCertParams, SerialNumber,
};

use super::forge::{Forge, serial_of};
use super::{date, fixture, hex, rows};

pub struct Crls {
    recipes: HashMap<String, [String; 6]>,
}

impl Crls {
    pub fn open() -> Self {
        let mut recipes = HashMap::new();
        for [name, cells @ ..] in rows::<7>("crls.txt") {
            assert!(recipes.insert(name.clone(), cells).is_none(), "{name} stands there twice");
        }
        Self { recipes }
    }

    /// The DER form: of a CRL in the table, of a fixture (`openssl/NAME`), or octets (`junk:HEX`).
    pub fn der(&self, name: &str, forge: &Forge) -> Vec<u8> {
        match name.split_once(['/', ':']) {
            Some(("openssl", file)) => return fixture(file),
            Some(("junk", octets)) => return hex(octets),
            _ => {}
        }
        let [issuer, this_update, next_update, number, revoked, details] =
            self.recipes.get(name).unwrap_or_else(|| panic!("no CRL {name}"));
        let (keyed, named) = issuer.split_once(" as ").unwrap_or((issuer, issuer));
        let (keyed, named) = (forge.made(keyed), forge.made(named));
        let mut tampered = false;
        let mut params = CertificateRevocationListParams {
            this_update: date!(this_update),
            next_update: date!(next_update),
            crl_number: SerialNumber::from(number.parse::<u64>().unwrap()),
            issuing_distribution_point: None,
            revoked_certs: revoked.split_whitespace().map(revocation).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        for detail in details.split_whitespace() {
            let (what, value) = detail.split_once('=').unwrap_or((detail, ""));
            let point = || CrlIssuingDistributionPoint {
                distribution_point: CrlDistributionPoint { uris: value.split(',').map(str::to_owned).collect() },
                scope: None,
            };
            match what {
                "point" => params.issuing_distribution_point = Some(point()),
                "users" => params.issuing_distribution_point.as_mut().unwrap().scope = Some(CrlScope::UserCertsOnly),
                "cas" => params.issuing_distribution_point.as_mut().unwrap().scope = Some(CrlScope::CaCertsOnly),
                "tampered" => tampered = true,
                other => panic!("{name}: no detail {other}"),
            }
        }
        // rcgen makes no CRL for an issuer that may not sign any; here that is sometimes wanted.
        let mut allowed = named.params.clone();
        allowed.key_usages.clear();
        let crl = params.signed_by(&Issuer::from_params(&allowed, &*keyed.key));
        let mut der = crl.unwrap_or_else(|error| panic!("{name}: {error}")).der().to_vec();
        if tampered {
            let at = der.len() - 3;
            der[at] ^= 1;
        }
        der
    }
}

/// A certificate's name or `0xHEX`, a reason in parentheses, a date behind `@`.
fn revocation(entry: &str) -> RevokedCertParams {
    let (entry, on) = entry.split_once('@').unwrap_or((entry, "2026-05-01"));
    let (who, reason) = entry.trim_end_matches(')').split_once('(').unwrap_or((entry, ""));
    RevokedCertParams {
        serial_number: match who.strip_prefix("0x") {
            Some(digits) => SerialNumber::from_slice(&hex(digits)),
            None => SerialNumber::from_slice(&serial_of(who)),
        },
        revocation_time: date!(on),
        reason_code: match reason {
            "" => None,
            "keyCompromise" => Some(RevocationReason::KeyCompromise),
            "superseded" => Some(RevocationReason::Superseded),
            "certificateHold" => Some(RevocationReason::CertificateHold),
            "cessationOfOperation" => Some(RevocationReason::CessationOfOperation),
            other => panic!("no reason {other}"),
        },
        invalidity_date: None,
    }
}
