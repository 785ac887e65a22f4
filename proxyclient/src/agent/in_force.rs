//! A configuration in force: what the agent made of it, checked as a whole.

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use license::ProxyId;
use proxydaemon::descriptors::SealedFile;
use proxylink::pairing::Chain;
use proxylink::snapshot::{Limits, MinimumTls, Snapshot};
use rustls::SignatureScheme;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::sign::{CertifiedKey, SigningKey};
use seonapi_client::{ProxyConfig, Reason, Refusal, TlsVersion};
use verification::{Cidr, Der, Expiring, Expiry, LeftOutCrl, PartnerSource, Policy, PolicySource};

use crate::outgoing::{Callable, Callables, Target};

/// Signatures that TLS 1.2 and 1.3 know and we make, best first.
const SCHEMES: [SignatureScheme; 10] = [
    SignatureScheme::ED25519,
    SignatureScheme::ECDSA_NISTP256_SHA256,
    SignatureScheme::ECDSA_NISTP384_SHA384,
    SignatureScheme::ECDSA_NISTP521_SHA512,
    SignatureScheme::RSA_PSS_SHA256,
    SignatureScheme::RSA_PSS_SHA384,
    SignatureScheme::RSA_PSS_SHA512,
    SignatureScheme::RSA_PKCS1_SHA256,
    SignatureScheme::RSA_PKCS1_SHA384,
    SignatureScheme::RSA_PKCS1_SHA512,
];

// What is not refused here the DMZ must take; it would end the link as if it were attacked.
const _: () = assert!(seonapi_client::MOST_LISTENED <= proxylink::snapshot::MOST_LISTENED);

/// Why a configuration is not taken over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unusable {
    /// A place in it is wrong.
    Invalid(String),
    /// It asks for something that is not built.
    Unsupported(String),
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(text) | Self::Unsupported(text) => f.write_str(text),
        }
    }
}

/// The identity's private key, with the certificate it belongs to.
#[derive(Clone)]
pub struct IdentityKey {
    /// SHA-256 of the end-entity certificate.
    pub certificate: [u8; 32],
    /// Signs.
    pub key: Arc<dyn SigningKey>,
}

/// CRLs by their SHA-256. They are large: whoever has them shares them.
pub type Crls = HashMap<[u8; 32], Arc<Vec<u8>>>;

/// A configuration in force.
pub struct InForce {
    /// The one server to link to.
    pub proxy_id: ProxyId,
    /// What goes to the DMZ, without its number.
    pub snapshot: Snapshot,
    /// The same policy, compiled for the second judgement.
    pub policy: Vec<u8>,
    /// The codes that partners list, for sessions of those that list none.
    pub codes: SealedFile,
    /// Signs handshakes.
    pub identity: IdentityKey,
    /// Where the receive daemon is.
    pub receive_daemon: (String, u16),
    /// The CRLs at hand, by SHA-256, for the DMZ to ask for.
    pub crls: Crls,
    /// CRL URLs that the backend knows.
    pub known_crl_urls: Vec<String>,
    /// The entries of proxyclients, for outgoing sessions.
    pub clients: Vec<seonapi_client::Client>,
    /// The partners that can be called.
    pub callables: Callables,
    /// What of the configuration is not in force, in a sentence.
    pub not_in_force: Option<String>,
    /// CRLs that are not used, and why.
    pub left_out: Vec<LeftOutCrl>,
    /// When own certificate, anchors, pins and CRLs end.
    pub expiries: Vec<Expiry>,
}

impl InForce {
    /// Checks everything and brings it into the form that is worked with. `crls` are those at hand, no more than the DMZ
    /// takes.
    ///
    /// # Errors
    /// [`Unusable`] with the exact place.
    pub fn new(config: &ProxyConfig, crls: Crls) -> Result<Self, Unusable> {
        if let Some(refusal) = config.refusals().into_iter().next() {
            return Err(refusal.into());
        }
        for (index, client) in config.clients.iter().enumerate() {
            networks(&format!("clients[{index}]"), &client.allow_from)?;
        }
        let invalid = |place: &str, text: &dyn fmt::Display| Unusable::Invalid(format!("{place}: {text}"));
        let proxy_id = config.proxy_id.parse().map_err(|error| invalid("proxy_id", &error))?;
        let chain = certificates("identity.certificate_chain_pem", &config.identity.certificate_chain_pem)?;
        let (identity, signature_schemes) = identity(&chain, config.identity.private_key_pem.reveal())?;
        let policy = policy(config)?;
        let now = UnixTime::since_unix_epoch(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default());
        let ders: Vec<&[u8]> = crls.values().map(|crl| crl.as_slice()).collect();
        let compiled = verification::compile_with_crls(&policy, &ders, now)
            .map_err(|error| Unusable::Invalid(error.to_string()))?;
        let codes = listed_codes(&compiled.image)?;
        let own = chain.iter().filter_map(|own| Expiry::read(Expiring::Identity, own).ok());
        let expiries = own.chain(compiled.expiries).collect();
        let listen =
            config.listen.addresses.iter().map(|&address| SocketAddr::new(address, config.listen.tls_port)).collect();
        let limits = &config.limits;
        let limits = Limits {
            max_sessions: limits.max_sessions,
            max_sessions_per_address: limits.max_sessions_per_address,
            max_unverified: limits.max_unverified,
            handshake_timeout: limits.handshake_timeout,
            pairing_timeout: limits.pairing_timeout,
            inactivity_timeout: limits.inactivity_timeout,
            drain_timeout: limits.drain_timeout,
            max_exchange_buffer: limits.max_exchange_buffer,
            offender_refuse: limits.offender_refuse,
        };
        limits.check().map_err(Unusable::Invalid)?;
        Ok(Self {
            proxy_id,
            snapshot: Snapshot {
                number: 0,
                listen,
                identity: Chain(
                    chain.iter().map(|certificate| serde_bytes::ByteBuf::from(certificate.to_vec())).collect(),
                ),
                signature_schemes,
                minimum_tls: match config.trust.min_tls_version {
                    TlsVersion::Tls12 => MinimumTls::Tls12,
                    TlsVersion::Tls13 => MinimumTls::Tls13,
                },
                outgoing_ip: config.outgoing_ip,
                limits,
                policy,
                crls: crls.keys().copied().collect(),
            },
            policy: compiled.image,
            codes,
            identity,
            crls,
            receive_daemon: (config.receive_daemon.host.clone(), config.receive_daemon.port),
            clients: config.clients.clone(),
            callables: callables(config)?,
            known_crl_urls: config.trust.known_crl_urls.clone(),
            not_in_force: config.not_in_force(),
            left_out: compiled.left_out,
            expiries,
        })
    }
}

impl From<Refusal> for Unusable {
    fn from(refusal: Refusal) -> Self {
        match refusal.reason {
            Reason::Invalid(_) => Self::Invalid(refusal.to_string()),
            Reason::NotServed => Self::Unsupported(refusal.to_string()),
        }
    }
}

fn certificates(place: &str, pem: &str) -> Result<Vec<CertificateDer<'static>>, Unusable> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(Unusable::Invalid(format!("{place}: no certificate stands in it"))),
        Err(error) => Err(Unusable::Invalid(format!("{place}: not PEM: {error}"))),
    }
}

fn identity(chain: &[CertificateDer<'static>], pem: &str) -> Result<(IdentityKey, Vec<u16>), Unusable> {
    let invalid = |text: String| Unusable::Invalid(format!("identity.private_key_pem: {text}"));
    // The error of the reader may quote its input, which is a secret.
    let der = PrivateKeyDer::from_pem_slice(pem.as_bytes())
        .map_err(|_| invalid("no unencrypted private key (PKCS#8, PKCS#1 or SEC1) stands in it".to_owned()))?;
    let provider = proxylink::tls::provider();
    let key = provider
        .key_provider
        .load_private_key(der)
        .map_err(|_| invalid("the key is of no kind that TLS can use".to_owned()))?;
    let end_entity = chain.first().ok_or_else(|| invalid("there is no certificate for it".to_owned()))?;
    CertifiedKey::new(chain.to_vec(), Arc::clone(&key))
        .keys_match()
        .map_err(|_| invalid("the key does not belong to identity.certificate_chain_pem".to_owned()))?;
    let schemes = SCHEMES
        .iter()
        .filter(|&&scheme| key.choose_scheme(&[scheme]).is_some())
        .map(|&scheme| u16::from(scheme))
        .collect();
    Ok((IdentityKey { certificate: *verification::Fingerprint::of(end_entity).as_bytes(), key }, schemes))
}

fn policy(config: &ProxyConfig) -> Result<PolicySource, Unusable> {
    let trust = &config.trust;
    Ok(PolicySource {
        anchors: ders("trust.anchors_pem", &trust.anchors_pem)?,
        pinned: ders("trust.pinned_pem", &trust.pinned_pem)?,
        crls: Vec::new(),
        revocation: revocation(trust.revocation),
        unknown_partners: match config.unknown_partners {
            seonapi_client::UnknownPartners::Refuse => verification::UnknownPartners::Refuse,
            seonapi_client::UnknownPartners::Accept => verification::UnknownPartners::Accept,
        },
        partners: config.partners.iter().enumerate().map(partner).collect::<Result<_, _>>()?,
    })
}

/// The list of codes as sessions get it.
fn listed_codes(image: &[u8]) -> Result<SealedFile, Unusable> {
    let invalid = |text: String| Unusable::Invalid(format!("the list of identification codes: {text}"));
    let policy = Policy::open(image).map_err(|error| invalid(error.to_string()))?;
    SealedFile::write("codes", policy.listed_codes()).map_err(|error| invalid(error.to_string()))
}

/// Enabled partners with an address.
fn callables(config: &ProxyConfig) -> Result<Callables, Unusable> {
    let invalid = |index: usize, text: String| Unusable::Invalid(format!("partners[{index}].{text}"));
    let mut all = Vec::new();
    for (index, partner) in config.partners.iter().enumerate().filter(|(_, partner)| partner.enabled) {
        let Some(address) = &partner.address else { continue };
        let address =
            Target::read(&address.to_string()).map_err(|error| invalid(index, format!("address: {error}")))?;
        let (name, own_port, max_sessions) = (partner.name.clone(), partner.listen_port, partner.max_sessions);
        all.push(Callable { name, address, own_port, max_sessions });
    }
    Ok(Callables::new(all))
}

fn ders(place: &str, pems: &[String]) -> Result<Vec<Der>, Unusable> {
    let mut all = Vec::new();
    for (index, pem) in pems.iter().enumerate() {
        let found = certificates(&format!("{place}[{index}]"), pem)?;
        all.extend(found.into_iter().map(|certificate| Der::from(certificate.to_vec())));
    }
    Ok(all)
}

const fn revocation(value: seonapi_client::Revocation) -> verification::Revocation {
    match value {
        seonapi_client::Revocation::Require => verification::Revocation::Require,
        seonapi_client::Revocation::Prefer => verification::Revocation::Prefer,
        seonapi_client::Revocation::Off => verification::Revocation::Off,
    }
}

/// Networks as they are compared; what cannot be is a mistake rather than nobody.
fn networks(of: &str, allow_from: &[seonapi_client::Cidr]) -> Result<Vec<Cidr>, Unusable> {
    let network = |(place, network): (usize, &seonapi_client::Cidr)| {
        let read = network.to_string().parse::<Cidr>();
        read.map_err(|error| Unusable::Invalid(format!("{of}.allow_from[{place}]: {error}")))
    };
    allow_from.iter().enumerate().map(network).collect()
}

fn partner((index, partner): (usize, &seonapi_client::Partner)) -> Result<PartnerSource, Unusable> {
    let fingerprints = |values: &[seonapi_client::Fingerprint]| {
        values.iter().map(|value| verification::Fingerprint::from(*value.as_octets())).collect()
    };
    let allow_from = networks(&format!("partners[{index}]"), &partner.allow_from)?;
    Ok(PartnerSource {
        name: partner.name.clone(),
        enabled: partner.enabled,
        certificate_sha256: fingerprints(&partner.certificate_sha256),
        subjects: partner.subjects.clone(),
        issuers: fingerprints(&partner.issuers),
        ssid_codes: partner.ssid_codes.clone(),
        allow_from,
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
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, Issuer, KeyPair};

    use super::*;

    const PROXY_ID: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015adpx";

    fn crl(issuer: &Issuer<'_, KeyPair>) -> Vec<u8> {
        let params = rcgen::CertificateRevocationListParams {
            this_update: rcgen::date_time_ymd(2020, 1, 1),
            next_update: rcgen::date_time_ymd(2050, 1, 1),
            crl_number: rcgen::SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: Vec::new(),
            key_identifier_method: rcgen::KeyIdMethod::Sha256,
        };
        params.signed_by(issuer).unwrap().der().to_vec()
    }

    fn made(crls: Vec<Vec<u8>>, ca: &CertifiedIssuer<'static, KeyPair>) -> InForce {
        let own = |name: &str| {
            let key = KeyPair::generate().unwrap();
            let certificate = CertificateParams::new(vec![name.to_owned()]).unwrap().self_signed(&key).unwrap();
            (certificate.pem(), key.serialize_pem())
        };
        let ((proxy, key), (pin, _)) = (own("proxy.example"), own("partner.example"));
        let config = serde_json::json!({
            "version": 1,
            "proxy_id": PROXY_ID,
            "listen": { "tls_port": 6619 },
            "receive_daemon": { "host": "127.0.0.1", "port": 3305 },
            "identity": { "certificate_chain_pem": proxy, "private_key_pem": key },
            "trust": { "anchors_pem": [ca.pem()], "pinned_pem": [pin] },
        });
        let config: ProxyConfig = serde_json::from_value(config).unwrap();
        let hash = |crl: &Vec<u8>| *verification::Fingerprint::of(crl).as_bytes();
        let crls = crls.into_iter().map(|crl| (hash(&crl), Arc::new(crl))).collect();
        InForce::new(&config, crls).map_err(|unusable| unusable.to_string()).unwrap()
    }

    fn ca() -> CertifiedIssuer<'static, KeyPair> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
    }

    #[test]
    fn own_certificate_anchors_pins_and_crls_are_watched_for_their_end() {
        let ca = ca();
        let in_force = made(vec![crl(&ca)], &ca);
        let watched: HashSet<_> = in_force.expiries.iter().map(|expiry| expiry.what).collect();
        assert_eq!(watched, HashSet::from([Expiring::Identity, Expiring::Anchor, Expiring::Pin, Expiring::Crl]));
        assert!(in_force.left_out.is_empty());
    }

    #[test]
    fn a_bad_crl_is_left_out_alone() {
        let (one, other) = (ca(), ca());
        let in_force = made(vec![b"nonsense".to_vec(), crl(&one), crl(&other)], &one);
        let left_out: Vec<_> = in_force.left_out.iter().map(ToString::to_string).collect();
        assert_eq!(left_out.len(), 2, "not readable; signed by a namesake: {left_out:?}");
        let watched = in_force.expiries.iter().filter(|expiry| expiry.what == Expiring::Crl).count();
        assert_eq!(watched, 2, "that of the namesake counts for what its own key made");
    }

    #[test]
    fn what_the_dmz_would_not_take_is_refused_before_it_is_sent() {
        let config = |limits: serde_json::Value| {
            let text = serde_json::json!({
                "version": 1, "proxy_id": PROXY_ID, "listen": { "tls_port": 6619 },
                "identity": { "certificate_chain_pem": "", "private_key_pem": "" },
                "receive_daemon": { "host": "localhost" }, "limits": limits
            });
            ProxyConfig::from_json(text.to_string().as_bytes()).unwrap()
        };
        let refused = |config: &ProxyConfig| InForce::new(config, Crls::new()).err().unwrap().to_string();
        let mut everywhere = config(serde_json::json!({}));
        everywhere.listen.addresses = vec!["127.0.0.1".parse().unwrap(); 65];
        assert!(refused(&everywhere).starts_with("listen.addresses: there are 65"));
        let silent = config(serde_json::json!({ "inactivity_timeout_s": 0 }));
        assert!(refused(&silent).starts_with("limits.inactivity_timeout_s: 0"));
    }

    #[test]
    fn enabled_partners_with_an_address_can_be_called() {
        let partner = |name: &str, port: u16, enabled: bool| {
            let address = format!("{name}.example:6619");
            serde_json::json!({ "name": name, "enabled": enabled, "address": address, "listen_port": port })
        };
        let callables = |partners: Vec<serde_json::Value>| {
            let text = serde_json::json!({
                "version": 1, "proxy_id": PROXY_ID, "listen": { "tls_port": 6619 },
                "identity": { "certificate_chain_pem": "", "private_key_pem": "" },
                "receive_daemon": { "host": "localhost" }, "partners": partners
            });
            let config = ProxyConfig::from_json(text.to_string().as_bytes()).unwrap();
            callables(&config).map(|all| all.iter().map(|one| one.name.clone()).collect::<Vec<_>>())
        };
        let mut nowhere = partner("b", 1, true);
        nowhere["address"] = serde_json::Value::Null;
        assert_eq!(callables(vec![partner("a", 1, true), nowhere, partner("c", 1, false)]), Ok(vec!["a".to_owned()]));
    }
}
