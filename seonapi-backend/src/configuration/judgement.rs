//! Mistakes that only the meaning shows: what two partners claim, what points to nothing, what the proxies would refuse.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use seonapi_client::{Fingerprint, Partner, ProxyConfig, Refusal};
use verification::{Compiled, Der, Expiring, Expiry, PartnerSource, PolicySource, UnixTime, compile_with_crls};

use super::Certificate;
use super::crl_file::{CrlFile, CrlState, sentence};
use crate::place::{Document, Mistake};

/// The certificates and CRLs of a configuration, with the members or files that they come from.
pub struct Material {
    /// What the proxy shows partners.
    pub identity: Vec<Certificate>,
    /// CA certificates that may issue partner certificates.
    pub anchors: Vec<Certificate>,
    /// Partner certificates trusted as they are.
    pub pinned: Vec<Certificate>,
    /// CRLs in force: hash, file, DER.
    pub crls: Vec<(Fingerprint, PathBuf, Vec<u8>)>,
}

/// Adds everything that is wrong with this configuration though each member is right alone, and warns of what ends. What
/// becomes of the CRLs is handed back.
pub fn check(
    document: &Document<'_>,
    proxy: &ProxyConfig,
    material: &Material,
    mistakes: &mut Vec<Mistake>,
    warnings: &mut Vec<String>,
) -> Vec<CrlFile> {
    for Refusal { place, reason } in proxy.refusals() {
        mistakes.push(document.mistake(&place, reason));
    }
    warnings.extend(proxy.not_in_force());
    ports(document, proxy, mistakes);
    let now = UnixTime::now();
    let crls: Vec<&[u8]> = material.crls.iter().map(|(_, _, der)| der.as_slice()).collect();
    match compile_with_crls(&policy(proxy, material), &crls, now) {
        Ok(compiled) => {
            let identity = material.identity.iter().filter_map(|own| Expiry::read(Expiring::Identity, &own.der).ok());
            let others = compiled.expiries.iter().filter(|expiry| expiry.what != Expiring::Crl).cloned();
            warnings.extend(identity.chain(others).filter_map(|expiry| sentence(&expiry, now)));
            let crl = |(index, (_, file, der)): (usize, &(Fingerprint, PathBuf, Vec<u8>))| CrlFile {
                file: file.clone(),
                state: crl_state(&compiled, index, verification::Fingerprint::of(der)),
            };
            material.crls.iter().enumerate().map(crl).collect()
        }
        Err(error) => {
            mistakes.push(document.mistake(&field(&error.place, material), error.fault));
            Vec::new()
        }
    }
}

fn crl_state(compiled: &Compiled, index: usize, fingerprint: verification::Fingerprint) -> CrlState {
    let mut faults = compiled.left_out.iter().filter(|left_out| left_out.index == index).map(|one| &one.fault);
    let ends = || compiled.expiries.iter().find(|one| one.what == Expiring::Crl && one.fingerprint == fingerprint);
    match faults.clone().find(|fault| !fault.is_ordinary()).or_else(|| faults.next()).cloned() {
        None => CrlState::Counts(ends().cloned()),
        Some(fault) if fault.is_ordinary() => CrlState::Waits(fault),
        Some(fault) if compiled.unproven.contains(&index) => CrlState::Doubted(fault),
        Some(fault) => CrlState::LeftOut(fault),
    }
}

/// The policy as both proxies will make it of this configuration.
fn policy(proxy: &ProxyConfig, material: &Material) -> PolicySource {
    let ders = |certificates: &[Certificate]| certificates.iter().map(|one| Der::from(one.der.to_vec())).collect();
    PolicySource {
        anchors: ders(&material.anchors),
        pinned: ders(&material.pinned),
        crls: Vec::new(),
        revocation: revocation(proxy.trust.revocation),
        unknown_partners: match proxy.unknown_partners {
            seonapi_client::UnknownPartners::Refuse => verification::UnknownPartners::Refuse,
            seonapi_client::UnknownPartners::Accept => verification::UnknownPartners::Accept,
        },
        partners: proxy.partners.iter().map(partner).collect(),
    }
}

fn partner(partner: &Partner) -> PartnerSource {
    let fingerprints = |list: &[Fingerprint]| list.iter().map(|one| (*one.as_octets()).into()).collect();
    PartnerSource {
        name: partner.name.clone(),
        enabled: partner.enabled,
        certificate_sha256: fingerprints(&partner.certificate_sha256),
        subjects: partner.subjects.clone(),
        issuers: fingerprints(&partner.issuers),
        ssid_codes: partner.ssid_codes.clone(),
        allow_from: partner.allow_from.iter().filter_map(|range| range.to_string().parse().ok()).collect(),
        max_sessions: partner.max_sessions,
        extended_key_usage: match partner.extended_key_usage {
            seonapi_client::ExtendedKeyUsage::Require => verification::ExtendedKeyUsage::Require,
            seonapi_client::ExtendedKeyUsage::Ignore => verification::ExtendedKeyUsage::Ignore,
        },
        revocation: partner.revocation.map(revocation),
        conformance: match partner.conformance {
            seonapi_client::Conformance::Standard => verification::Conformance::Standard,
            seonapi_client::Conformance::Strict => verification::Conformance::Strict,
        },
        address: partner.address.as_ref().map(ToString::to_string),
        server_name: partner.server_name.clone(),
        outgoing_ip: partner.outgoing_ip,
    }
}

fn revocation(rule: seonapi_client::Revocation) -> verification::Revocation {
    match rule {
        seonapi_client::Revocation::Require => verification::Revocation::Require,
        seonapi_client::Revocation::Prefer => verification::Revocation::Prefer,
        seonapi_client::Revocation::Off => verification::Revocation::Off,
    }
}

/// The member of the file for a place in the policy, which counts certificates where the file counts files.
fn field(place: &str, material: &Material) -> String {
    let (list, index) = place.split_once('[').unwrap_or((place, ""));
    let index = index.split(']').next().and_then(|index| index.parse::<usize>().ok());
    let certificates = match list {
        "anchors" => &material.anchors,
        "pinned" => &material.pinned,
        _ => return place.to_owned(),
    };
    index.and_then(|index| certificates.get(index)).map_or_else(|| place.to_owned(), |one| one.field.clone())
}

/// No port of a proxyclient may be asked for twice.
fn ports(document: &Document<'_>, proxy: &ProxyConfig, mistakes: &mut Vec<Mistake>) {
    let common = proxy.clients.iter().map(|client| client.listen_port).collect::<BTreeSet<_>>();
    let mut taken = BTreeMap::new();
    for (at, partner) in proxy.partners.iter().enumerate() {
        let Some(port) = partner.listen_port else { continue };
        let field = format!("partners[{at}].listen_port");
        if common.contains(&port) {
            mistakes.push(document.mistake(&field, format!("port {port} is a listen_port in clients already")));
        }
        // Of partners that can be called it was told above.
        if let Some(other) = taken.insert(port, &partner.name)
            && !mistakes.iter().any(|mistake| mistake.field == field)
        {
            mistakes.push(document.mistake(&field, format!("port {port} is that of partner {other:?} already")));
        }
    }
}
