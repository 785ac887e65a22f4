//! Reads `policies.txt`: blocks of settings, each with a name, and what a row changes of them.

use std::collections::HashMap;

use verification::{
    Conformance, Der, ExtendedKeyUsage, Fingerprint, PartnerSource, PolicySource, Revocation, UnknownPartners,
};

use super::crls::Crls;
use super::forge::Forge;
use super::text;

pub struct Policies {
    blocks: HashMap<String, Vec<String>>,
}

impl Policies {
    pub fn open() -> Self {
        let mut blocks: HashMap<String, Vec<String>> = HashMap::new();
        let mut current = String::new();
        for line in text("policies.txt").lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty()) {
            match line.strip_prefix("policy ") {
                Some(name) => {
                    current = name.trim().to_owned();
                    assert!(blocks.insert(current.clone(), Vec::new()).is_none(), "{current} stands there twice");
                }
                None => blocks.get_mut(&current).unwrap().push(line.trim().to_owned()),
            }
        }
        Self { blocks }
    }

    /// A policy by its name, followed by changes: `NAME crl=A,B revocation=require unknown=accept`.
    pub fn source(&self, cell: &str, forge: &Forge, crls: &Crls) -> PolicySource {
        let mut words = cell.split_whitespace();
        let name = words.next().unwrap();
        let mut source = PolicySource::default();
        for line in self.blocks.get(name).unwrap_or_else(|| panic!("no policy {name}")) {
            let (key, value) = line.split_once(' ').unwrap_or((line, ""));
            setting(&mut source, key, value.trim(), forge, crls);
        }
        for word in words {
            let (key, value) = word.split_once('=').unwrap();
            setting(&mut source, key, &value.replace(',', " "), forge, crls);
        }
        source
    }
}

fn setting(source: &mut PolicySource, key: &str, value: &str, forge: &Forge, crls: &Crls) {
    let der = |name: &str| Der(forge.der(name));
    let fingerprint = |name: &str| Fingerprint::of(&forge.der(name));
    match key {
        "anchors" => source.anchors.extend(value.split_whitespace().map(der)),
        "pinned" => source.pinned.extend(value.split_whitespace().map(der)),
        "crl" => source.crls.extend(value.split_whitespace().map(|name| Der(crls.der(name, forge)))),
        "revocation" => source.revocation = revocation(value),
        "unknown" => {
            source.unknown_partners = match value {
                "accept" => UnknownPartners::Accept,
                "refuse" => UnknownPartners::Refuse,
                other => panic!("unknown {other}"),
            }
        }
        "partner" => source.partners.push(PartnerSource::named(value)),
        _ => {
            let partner = source.partners.last_mut().unwrap_or_else(|| panic!("{key} before any partner"));
            match key {
                "subject" => partner.subjects.push(value.to_owned()),
                "certificates" => partner.certificate_sha256.extend(value.split_whitespace().map(fingerprint)),
                "issuers" => partner.issuers.extend(value.split_whitespace().map(fingerprint)),
                "allow_from" => partner
                    .allow_from
                    .extend(value.split_whitespace().map(|network| network.parse::<verification::Cidr>().unwrap())),
                "codes" => partner.ssid_codes.extend(value.split_whitespace().map(str::to_owned)),
                "disabled" => partner.enabled = false,
                "any_usage" => partner.extended_key_usage = ExtendedKeyUsage::Ignore,
                "strict" => partner.conformance = Conformance::Strict,
                "max_sessions" => partner.max_sessions = Some(value.parse().unwrap()),
                "server_name" => partner.server_name = Some(value.to_owned()),
                "its_revocation" => partner.revocation = Some(revocation(value)),
                other => panic!("no setting {other}"),
            }
        }
    }
}

fn revocation(value: &str) -> Revocation {
    match value {
        "require" => Revocation::Require,
        "prefer" => Revocation::Prefer,
        "off" => Revocation::Off,
        other => panic!("revocation {other}"),
    }
}
