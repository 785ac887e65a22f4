//! Makes the certificates of `certificates.txt` with rcgen, each when it is first asked for.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, CrlDistributionPoint, CustomExtension, DistinguishedName, DnType,
    DnValue, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, Issuer, KeyPair, KeyUsagePurpose, NameConstraints,
    RsaKeySize, SanType, SerialNumber,
};

use super::{date, fixture, hex, rows};

/// One made certificate, its key, and what it was made of.
pub struct Made {
    pub der: Vec<u8>,
    pub key: Rc<KeyPair>,
    pub params: CertificateParams,
}

struct Recipe {
    issuer: String,
    key: String,
    valid: String,
    subject: String,
    details: String,
}

pub struct Forge {
    recipes: HashMap<String, Recipe>,
    made: RefCell<HashMap<String, Rc<Made>>>,
}

impl Forge {
    pub fn open() -> Self {
        let mut recipes = HashMap::new();
        for [name, issuer, key, valid, subject, details] in rows::<6>("certificates.txt") {
            let recipe = Recipe { issuer, key, valid, subject, details };
            assert!(recipes.insert(name.clone(), recipe).is_none(), "{name} stands there twice");
        }
        Self { recipes, made: RefCell::default() }
    }

    pub fn names(&self) -> impl Iterator<Item = &String> {
        self.recipes.keys()
    }

    /// The DER form: of a certificate in the table, or of a fixture (`openssl/NAME`), or octets (`junk:HEX`).
    /// `NAME+junk` has an octet after its end, `NAME-cut` lacks its last.
    pub fn der(&self, name: &str) -> Vec<u8> {
        if let Some(name) = name.strip_suffix("+junk") {
            return [self.der(name), vec![0]].concat();
        }
        if let Some(name) = name.strip_suffix("-cut") {
            let mut der = self.der(name);
            der.pop();
            return der;
        }
        match name.split_once(['/', ':']) {
            Some(("openssl", file)) => fixture(file),
            Some(("junk", octets)) => hex(octets),
            _ => self.made(name).der.clone(),
        }
    }

    pub fn made(&self, name: &str) -> Rc<Made> {
        if let Some(made) = self.made.borrow().get(name) {
            return Rc::clone(made);
        }
        let made = Rc::new(self.make(name));
        self.made.borrow_mut().insert(name.to_owned(), Rc::clone(&made));
        made
    }

    fn make(&self, name: &str) -> Made {
        let recipe = self.recipes.get(name).unwrap_or_else(|| panic!("no certificate {name}"));
        let key = match recipe.key.strip_prefix('=') {
            Some(other) => Rc::clone(&self.made(other).key),
            None => Rc::new(key(&recipe.key)),
        };
        let (params, tampered) = params(name, recipe);
        let certificate = match recipe.issuer.as_str() {
            "-" => params.self_signed(&*key),
            issuer => {
                // `NAME as OTHER`: the name of one, the key of the other.
                let (named, keyed) =
                    issuer.split_once(" as ").map_or((issuer, issuer), |(keyed, named)| (named, keyed));
                let (named, keyed) = (self.made(named), self.made(keyed));
                params.signed_by(&*key, &Issuer::from_params(&named.params, &*keyed.key))
            }
        };
        let mut der = certificate.unwrap_or_else(|error| panic!("{name}: {error}")).der().to_vec();
        if tampered {
            // Inside the signature, so that it stays well-formed.
            let at = der.len() - 3;
            der[at] ^= 1;
        }
        Made { der, key, params }
    }
}

fn key(kind: &str) -> KeyPair {
    match kind {
        "p256" => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256),
        "p384" => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384),
        "p521" => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P521_SHA512),
        "ed25519" => KeyPair::generate_for(&rcgen::PKCS_ED25519),
        "rsa2048" => KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, RsaKeySize::_2048),
        "rsa2048-sha384" => KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA384, RsaKeySize::_2048),
        "rsa3072-sha512" => KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA512, RsaKeySize::_3072),
        other => panic!("no kind of key {other}"),
    }
    .unwrap()
}

fn params(name: &str, recipe: &Recipe) -> (CertificateParams, bool) {
    let mut params = CertificateParams::default();
    let valid = if recipe.valid.is_empty() { "2020-01-01/2040-01-01" } else { &recipe.valid };
    let (from, until) = valid.split_once('/').unwrap();
    params.not_before = date!(from);
    params.not_after = date!(until);
    params.distinguished_name = distinguished_name(&recipe.subject);
    // The serial number of a certificate that gives none is made of its name, so that CRLs can list it.
    params.serial_number = Some(SerialNumber::from_slice(&serial_of(name)));
    let mut tampered = false;
    for detail in recipe.details.split_whitespace() {
        let (what, value) = detail.split_once('=').unwrap_or((detail, ""));
        let values = || value.split(',');
        match what {
            "ca" if value.is_empty() => params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained),
            "ca" => params.is_ca = IsCa::Ca(BasicConstraints::Constrained(value.parse().unwrap())),
            "no-ca" => params.is_ca = IsCa::ExplicitNoCa,
            "usage" => params.key_usages = values().map(usage).collect(),
            "eku" => params.extended_key_usages = values().map(purpose).collect(),
            "san" => params.subject_alt_names = values().map(alternative_name).collect(),
            "permit" => constraints(&mut params).permitted_subtrees = values().map(subtree).collect(),
            "exclude" => constraints(&mut params).excluded_subtrees = values().map(subtree).collect(),
            "cdp" => {
                let uris = values().map(str::to_owned).collect();
                params.crl_distribution_points.push(CrlDistributionPoint { uris });
            }
            "serial" => params.serial_number = Some(SerialNumber::from_slice(&hex(value))),
            "extension" => params.custom_extensions.push(extension(value, false)),
            "critical" => params.custom_extensions.push(extension(value, true)),
            "tampered" => tampered = true,
            other => panic!("{name}: no detail {other}"),
        }
    }
    (params, tampered)
}

pub fn serial_of(name: &str) -> Vec<u8> {
    let mut serial = vec![0x01];
    serial.extend(name.bytes().take(18));
    serial
}

/// `CN=…; O=…` in the order of the encoding. A value may begin with `printable:`, `teletex:`, `bmp:`, `universal:` or
/// `ia5:`; otherwise it is UTF-8. In `{…}` are hex digits of UTF-8.
fn distinguished_name(text: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    for part in text.split(';').map(str::trim).filter(|part| !part.is_empty()) {
        let (kind, value) = part.split_once('=').unwrap();
        let kind = match kind {
            "CN" => DnType::CommonName,
            "O" => DnType::OrganizationName,
            "OU" => DnType::OrganizationalUnitName,
            "C" => DnType::CountryName,
            "L" => DnType::LocalityName,
            "serialNumber" => DnType::CustomDnType(vec![2, 5, 4, 5]),
            "DC" => DnType::CustomDnType(vec![0, 9, 2342, 19_200_300, 100, 1, 25]),
            "emailAddress" => DnType::CustomDnType(vec![1, 2, 840, 113_549, 1, 9, 1]),
            "2.5.4.99" => DnType::CustomDnType(vec![2, 5, 4, 99]),
            other => panic!("no attribute type {other}"),
        };
        let value = match value.split_once(':') {
            Some(("printable", text)) => DnValue::PrintableString(text.try_into().unwrap()),
            Some(("teletex", text)) => DnValue::TeletexString(text.try_into().unwrap()),
            Some(("bmp", text)) => DnValue::BmpString(text.try_into().unwrap()),
            Some(("universal", text)) => DnValue::UniversalString(text.try_into().unwrap()),
            Some(("ia5", text)) => DnValue::Ia5String(text.try_into().unwrap()),
            _ => DnValue::Utf8String(match value.strip_prefix('{').and_then(|value| value.strip_suffix('}')) {
                Some(digits) => String::from_utf8(hex(digits)).unwrap(),
                None => value.to_owned(),
            }),
        };
        name.push(kind, value);
    }
    name
}

fn usage(text: &str) -> KeyUsagePurpose {
    match text {
        "digitalSignature" => KeyUsagePurpose::DigitalSignature,
        "keyEncipherment" => KeyUsagePurpose::KeyEncipherment,
        "keyAgreement" => KeyUsagePurpose::KeyAgreement,
        "keyCertSign" => KeyUsagePurpose::KeyCertSign,
        "cRLSign" => KeyUsagePurpose::CrlSign,
        "decipherOnly" => KeyUsagePurpose::DecipherOnly,
        other => panic!("no key usage {other}"),
    }
}

fn purpose(text: &str) -> ExtendedKeyUsagePurpose {
    match text {
        "clientAuth" => ExtendedKeyUsagePurpose::ClientAuth,
        "serverAuth" => ExtendedKeyUsagePurpose::ServerAuth,
        "emailProtection" => ExtendedKeyUsagePurpose::EmailProtection,
        "any" => ExtendedKeyUsagePurpose::Any,
        other => ExtendedKeyUsagePurpose::Other(other.split('.').map(|number| number.parse().unwrap()).collect()),
    }
}

fn alternative_name(text: &str) -> SanType {
    match text.split_once(':').unwrap() {
        ("dns", name) => SanType::DnsName(name.try_into().unwrap()),
        ("ip", address) => SanType::IpAddress(address.parse().unwrap()),
        ("email", address) => SanType::Rfc822Name(address.try_into().unwrap()),
        ("uri", uri) => SanType::URI(uri.try_into().unwrap()),
        (other, _) => panic!("no kind of name {other}"),
    }
}

fn constraints(params: &mut CertificateParams) -> &mut NameConstraints {
    let empty = NameConstraints { permitted_subtrees: Vec::new(), excluded_subtrees: Vec::new() };
    params.name_constraints.get_or_insert(empty)
}

fn subtree(text: &str) -> GeneralSubtree {
    match text.split_once(':').unwrap() {
        ("dns", name) => GeneralSubtree::DnsName(name.to_owned()),
        ("email", name) => GeneralSubtree::Rfc822Name(name.to_owned()),
        ("dir", name) => GeneralSubtree::DirectoryName(distinguished_name(name)),
        ("ip", network) => {
            let (address, length) = network.split_once('/').unwrap();
            GeneralSubtree::IpAddress(CidrSubnet::from_addr_prefix(address.parse().unwrap(), length.parse().unwrap()))
        }
        (other, _) => panic!("no kind of name {other}"),
    }
}

/// `1.2.3:HEX`.
fn extension(text: &str, critical: bool) -> CustomExtension {
    let (identifier, value) = text.split_once(':').unwrap();
    let identifier: Vec<u64> = identifier.split('.').map(|number| number.parse().unwrap()).collect();
    let mut extension = CustomExtension::from_oid_content(&identifier, hex(value));
    extension.set_criticality(critical);
    extension
}
