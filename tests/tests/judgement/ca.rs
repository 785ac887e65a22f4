//! Certificate authorities whose certificates and CRLs can be whatever a scenario needs.

use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, CrlDistributionPoint,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, PublicKeyData,
    RevokedCertParams, SerialNumber, SignatureAlgorithm,
};
use rustls::pki_types::CertificateDer;
use tests::station::{Identity, sha256};

pub const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A self-signed CA.
pub struct Ca(CertifiedIssuer<'static, KeyPair>);

impl Ca {
    pub fn new(name: &str) -> Self {
        let mut params = named(name);
        params.not_before = (SystemTime::now() - DAY).into();
        params.not_after = (SystemTime::now() + 3650 * DAY).into();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub fn pem(&self) -> String {
        self.0.pem()
    }

    pub fn fingerprint(&self) -> String {
        sha256(self.0.der())
    }

    /// A partner's certificate as it should be.
    pub fn issue(&self, name: &str) -> Identity {
        self.issue_as(partner(name))
    }

    /// A certificate with these fields.
    pub fn issue_as(&self, params: CertificateParams) -> Identity {
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        Identity { chain_pem: certificate.pem(), key_pem: key.serialize_pem() }
    }

    /// A certificate over somebody's public key.
    pub fn certify(&self, name: &str, key: &impl PublicKeyData) -> CertificateDer<'static> {
        partner(name).signed_by(key, &self.0).unwrap().der().clone()
    }

    /// The CRL of now that revokes these serial numbers, and ends in so long.
    pub fn crl(&self, revoked: &[u64], left: Duration) -> Vec<u8> {
        self.crl_of(revoked, Duration::ZERO, SystemTime::now() + left)
    }

    /// A CRL that was made so long ago.
    pub fn crl_of(&self, revoked: &[u64], age: Duration, until: SystemTime) -> Vec<u8> {
        let listed = |serial: &u64| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: (SystemTime::now() - DAY).into(),
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: (SystemTime::now() - age).into(),
            next_update: until.into(),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: revoked.iter().map(listed).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let issuer: &Issuer<'_, KeyPair> = &self.0;
        params.signed_by(issuer).unwrap().der().to_vec()
    }
}

/// A partner's certificate as it should be: for a year, TLS client and server, serial number 100.
pub fn partner(name: &str) -> CertificateParams {
    let mut params = named(name);
    params.serial_number = Some(SerialNumber::from(100));
    params.not_before = (SystemTime::now() - DAY).into();
    params.not_after = (SystemTime::now() + 365 * DAY).into();
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params
}

/// The same, with a distribution point.
pub fn partner_with_crl_at(name: &str, url: &str) -> CertificateParams {
    let mut params = partner(name);
    params.crl_distribution_points = vec![CrlDistributionPoint { uris: vec![url.to_owned()] }];
    params
}

fn named(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

/// An RSA public key of 1024 bits that nobody has the private key of.
pub struct WeakKey;

impl PublicKeyData for WeakKey {
    /// RSAPublicKey (RFC 8017, A.1.1): modulus and 65537.
    fn der_bytes(&self) -> &[u8] {
        const MODULUS: usize = 128;
        const KEY: [u8; 7 + MODULUS + 5] = {
            let mut key = [0xa5; 7 + MODULUS + 5];
            let head = [0x30, 0x81, (3 + 1 + MODULUS + 5) as u8, 0x02, 0x81, (1 + MODULUS) as u8, 0x00];
            let mut at = 0;
            while at < head.len() {
                key[at] = head[at];
                at += 1;
            }
            let tail = [0x02, 0x03, 0x01, 0x00, 0x01];
            at = 0;
            while at < tail.len() {
                key[head.len() + MODULUS + at] = tail[at];
                at += 1;
            }
            key
        };
        &KEY
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &rcgen::PKCS_RSA_SHA256
    }
}
