//! Certificates for tests and the demonstration: a certificate authority and what it issues, made anew each time.

use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationList, CertificateRevocationListParams, CertifiedIssuer,
    CrlDistributionPoint, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ECDSA_P521_SHA512, PKCS_ED25519, PKCS_RSA_SHA256,
    RevocationReason, RevokedCertParams, SerialNumber,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::station::{Identity, sha256};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Kind of key of a certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KeyKind {
    /// ECDSA on P-256.
    #[default]
    P256,
    /// ECDSA on P-384.
    P384,
    /// ECDSA on P-521.
    P521,
    /// Ed25519.
    Ed25519,
    /// RSA of 2048 bits.
    Rsa2048,
}

/// When a certificate is valid.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Validity {
    /// From yesterday for a year.
    #[default]
    Now,
    /// It ended yesterday.
    Expired,
    /// It begins tomorrow.
    NotYet,
}

/// What a certificate is for (extended key usage).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Purpose {
    /// TLS server and client, as OFTP2 certificates are.
    #[default]
    Both,
    /// TLS server only.
    Server,
    /// TLS client only.
    Client,
    /// It does not say.
    Unsaid,
}

/// What to issue; the rest is as usual.
#[derive(Clone, Debug, Default)]
pub struct Wanted<'a> {
    /// Common name.
    pub name: &'a str,
    /// Host names and addresses it is for.
    pub hosts: &'a [&'a str],
    /// Key.
    pub key: KeyKind,
    /// Time.
    pub validity: Validity,
    /// Usage.
    pub purpose: Purpose,
    /// Where its issuer's list of revoked certificates is said to be.
    pub crl_url: Option<&'a str>,
    /// Serial number, for who wants to revoke it; none: a random one.
    pub serial: Option<&'a [u8]>,
}

/// A certificate authority.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    above: Option<String>,
}

impl Authority {
    /// A self-signed one, valid from yesterday for ten years.
    pub fn new(name: &str) -> Result<Self, rcgen::Error> {
        Self::of_kind(name, KeyKind::default())
    }

    /// As [`Authority::new`], with that kind of key.
    pub fn of_kind(name: &str, key: KeyKind) -> Result<Self, rcgen::Error> {
        let issuer = CertifiedIssuer::self_signed(authority(name)?, key.generate()?)?;
        Ok(Self { issuer, above: None })
    }

    /// One below this one; its certificates come with its own in their chain.
    pub fn intermediate(&self, name: &str) -> Result<Self, rcgen::Error> {
        let issuer = CertifiedIssuer::signed_by(authority(name)?, KeyPair::generate()?, &self.issuer)?;
        let above = format!("{}{}", issuer.pem(), self.above.as_deref().unwrap_or(""));
        Ok(Self { issuer, above: Some(above) })
    }

    /// Its own certificate.
    pub fn certificate_pem(&self) -> String {
        self.issuer.pem()
    }

    /// SHA-256 of its own certificate's DER form, as the configuration names it.
    pub fn fingerprint(&self) -> String {
        sha256(self.issuer.der())
    }

    /// Issues a certificate with a new key.
    pub fn issue(&self, wanted: &Wanted<'_>) -> Result<Identity, rcgen::Error> {
        let key = wanted.key.generate()?;
        let certificate = wanted.params()?.signed_by(&key, &self.issuer)?;
        let chain_pem = format!("{}{}", certificate.pem(), self.above.as_deref().unwrap_or(""));
        Ok(Identity { chain_pem, key_pem: key.serialize_pem() })
    }

    /// The list (DER) of this authority's revoked certificates, issued yesterday, good for a month.
    pub fn revoke(&self, serials: &[Vec<u8>]) -> Result<Vec<u8>, rcgen::Error> {
        Ok(self.list(serials)?.der().to_vec())
    }

    /// Such a list as PEM.
    pub fn revoke_pem(&self, serials: &[Vec<u8>]) -> Result<String, rcgen::Error> {
        self.list(serials)?.pem()
    }

    fn list(&self, serials: &[Vec<u8>]) -> Result<CertificateRevocationList, rcgen::Error> {
        let revoked = |serial: &Vec<u8>| RevokedCertParams {
            serial_number: SerialNumber::from_slice(serial),
            revocation_time: (SystemTime::now() - DAY).into(),
            reason_code: Some(RevocationReason::KeyCompromise),
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: (SystemTime::now() - DAY).into(),
            next_update: (SystemTime::now() + 30 * DAY).into(),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let issuer: &Issuer<'_, KeyPair> = &self.issuer;
        list.signed_by(issuer)
    }
}

/// A certificate that nobody but its own key has signed.
pub fn self_signed(wanted: &Wanted<'_>) -> Result<Identity, rcgen::Error> {
    let key = wanted.key.generate()?;
    let certificate = wanted.params()?.self_signed(&key)?;
    Ok(Identity { chain_pem: certificate.pem(), key_pem: key.serialize_pem() })
}

/// SHA-256 of the first certificate's DER form in a chain, 64 hex digits, as the configuration names it.
pub fn fingerprint(identity: &Identity) -> Option<String> {
    CertificateDer::from_pem_slice(identity.chain_pem.as_bytes()).ok().map(|certificate| sha256(&certificate))
}

impl KeyKind {
    fn generate(self) -> Result<KeyPair, rcgen::Error> {
        KeyPair::generate_for(match self {
            Self::P256 => &PKCS_ECDSA_P256_SHA256,
            Self::P384 => &PKCS_ECDSA_P384_SHA384,
            Self::P521 => &PKCS_ECDSA_P521_SHA512,
            Self::Ed25519 => &PKCS_ED25519,
            Self::Rsa2048 => &PKCS_RSA_SHA256,
        })
    }
}

impl Wanted<'_> {
    fn params(&self) -> Result<CertificateParams, rcgen::Error> {
        let mut params = named(self.name, self.hosts)?;
        let now = SystemTime::now();
        let (from, until) = match self.validity {
            Validity::Now => (now - DAY, now + 365 * DAY),
            Validity::Expired => (now - 30 * DAY, now - DAY),
            Validity::NotYet => (now + DAY, now + 30 * DAY),
        };
        (params.not_before, params.not_after) = (from.into(), until.into());
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = match self.purpose {
            Purpose::Both => vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth],
            Purpose::Server => vec![ExtendedKeyUsagePurpose::ServerAuth],
            Purpose::Client => vec![ExtendedKeyUsagePurpose::ClientAuth],
            Purpose::Unsaid => Vec::new(),
        };
        params.serial_number = self.serial.map(SerialNumber::from_slice);
        params.use_authority_key_identifier_extension = true;
        params.crl_distribution_points =
            self.crl_url.iter().map(|url| CrlDistributionPoint { uris: vec![(*url).to_owned()] }).collect();
        Ok(params)
    }
}

fn authority(name: &str) -> Result<CertificateParams, rcgen::Error> {
    let mut params = named(name, &[])?;
    params.not_before = (SystemTime::now() - DAY).into();
    params.not_after = (SystemTime::now() + 3650 * DAY).into();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

fn named(name: &str, hosts: &[&str]) -> Result<CertificateParams, rcgen::Error> {
    let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
    let mut params = CertificateParams::new(hosts)?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    Ok(params)
}
