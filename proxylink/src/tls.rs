//! TLS of the link: version 1.3 only, both ends authenticated by raw public keys (RFC 7250). No certificate authority,
//! nothing that expires, no resumption.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use rustls::client::AlwaysResolvesClientRawPublicKeys;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{
    CryptoProvider, SupportedKxGroup, WebPkiSupportedAlgorithms, verify_tls13_signature_with_raw_key,
};
use rustls::pki_types::{
    CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, SubjectPublicKeyInfoDer, UnixTime,
};
use rustls::server::AlwaysResolvesServerRawPublicKeys;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::sign::{CertifiedKey, Signer, SigningKey};
use rustls::{
    CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, DistinguishedName, Error, NamedGroup,
    OtherError, ServerConfig, ServerConnection, SignatureAlgorithm, SignatureScheme,
};

use crate::pairing::{KeyHash, TlsFacts};

/// The one crypto provider of the project.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// The same, with the one cipher suite and these groups of a data connection. Both ends are ours, so nothing is left to choose:
/// octets that go twice through AES within the proxy cost a quarter less of it with keys of 128 bits than with 256.
fn provider_of_data(groups: Vec<&'static dyn SupportedKxGroup>) -> Arc<CryptoProvider> {
    use rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256;
    Arc::new(CryptoProvider {
        cipher_suites: vec![TLS13_AES_128_GCM_SHA256],
        kx_groups: groups,
        ..rustls::crypto::aws_lc_rs::default_provider()
    })
}

/// How the keys of a data connection are agreed: no weaker than those of the partner's connection, which carries the same octets.
///
/// The inside, which is the TLS client, offers this one group; the DMZ takes either.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyExchange {
    /// X25519MLKEM768: who records it today cannot read it with the computers of tomorrow.
    PostQuantum,
    /// X25519, for a twenty-fifth of a session's CPU less.
    Classical,
}

const BOTH: [KeyExchange; 2] = [KeyExchange::PostQuantum, KeyExchange::Classical];

impl KeyExchange {
    /// Of a data connection that carries on what was agreed with a partner. Classical only where that is known to be, and no stronger
    /// than X25519.
    pub fn no_weaker_than(partner: &TlsFacts) -> Self {
        const CLASSICAL: [NamedGroup; 2] = [NamedGroup::X25519, NamedGroup::secp256r1];
        let agreed = Some(partner.key_exchange.as_str());
        if CLASSICAL.iter().any(|group| group.as_str() == agreed) { Self::Classical } else { Self::PostQuantum }
    }

    fn group(self) -> &'static dyn SupportedKxGroup {
        use rustls::crypto::aws_lc_rs::kx_group::{X25519, X25519MLKEM768};
        match self {
            Self::PostQuantum => X25519MLKEM768,
            Self::Classical => X25519,
        }
    }
}

/// Name that TLS wants for the server; the key decides, so it means nothing and is not sent.
pub fn server_name() -> ServerName<'static> {
    ServerName::IpAddress(std::net::Ipv4Addr::UNSPECIFIED.into())
}

/// Which keys of the other side TLS itself lets through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accept {
    /// Any key, proven: the control connection's server says in a message of the link why it does not take one.
    Any,
    /// This key only.
    Only(KeyHash),
}

/// Another key than the one that TLS lets through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it shows the key {seen}, and {expected} is expected")]
pub struct WrongKey {
    /// The one that was shown.
    pub seen: KeyHash,
    /// The one that was expected.
    pub expected: KeyHash,
}

impl WrongKey {
    /// The two keys, where this is what ended a handshake.
    pub fn of(error: &Error) -> Option<Self> {
        match error {
            Error::InvalidCertificate(CertificateError::Other(OtherError(inner))) => inner.downcast_ref().copied(),
            _ => None,
        }
    }

    /// A sentence on a server, whose keys are known as Proxy IDs; `error` is of its handshake. None where the key of the
    /// server is not what ended it.
    pub fn of_server(error: &std::io::Error) -> Option<String> {
        let inner = error.get_ref()?.downcast_ref::<Error>()?;
        match (Self::of(inner), inner) {
            (Some(Self { seen, expected }), _) => {
                Some(format!("its Proxy ID is {seen}px, and the configuration expects {expected}px"))
            }
            (None, Error::InvalidCertificate(_)) => Some("it does not prove the key of its Proxy ID".to_owned()),
            _ => None,
        }
    }
}

/// The key that the other side proved.
pub fn proven_key(presented: Option<&[CertificateDer<'_>]>) -> Option<KeyHash> {
    presented.and_then(<[_]>::first).map(|spki| KeyHash::of_spki(spki))
}

/// TLS server of the link with the key in `pkcs8`.
///
/// # Errors
/// When the key is none that TLS can use.
pub fn server(pkcs8: &[u8], accepted: Accept) -> Result<ServerConfig, Error> {
    let provider = provider();
    let key = own_key(&provider, pkcs8)?;
    server_with(provider, key, accepted)
}

fn server_with(provider: Arc<CryptoProvider>, key: Arc<CertifiedKey>, accepted: Accept) -> Result<ServerConfig, Error> {
    let mut config = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(Arc::new(ExpectedKeys::new(accepted, &provider)))
        .with_cert_resolver(Arc::new(AlwaysResolvesServerRawPublicKeys::new(key)));
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    config.max_early_data_size = 0;
    Ok(config)
}

/// TLS client of the link with the key in `pkcs8`, for the one server whose key is `expected`.
///
/// # Errors
/// When the key is none that TLS can use.
pub fn client(pkcs8: &[u8], expected: KeyHash) -> Result<ClientConfig, Error> {
    let provider = provider();
    let key = own_key(&provider, pkcs8)?;
    client_with(provider, key, expected)
}

fn client_with(
    provider: Arc<CryptoProvider>,
    key: Arc<CertifiedKey>,
    expected: KeyHash,
) -> Result<ClientConfig, Error> {
    let mut config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(ExpectedKeys::new(Accept::Only(expected), &provider)))
        .with_client_cert_resolver(Arc::new(AlwaysResolvesClientRawPublicKeys::new(key)));
    config.resumption = rustls::client::Resumption::disabled();
    config.enable_sni = false;
    Ok(config)
}

/// Shakes hands with itself, as on either kind of connection, with two keys that are gone afterwards.
///
/// For a gate, before it forks the first session: the cryptographic library prepares each algorithm at its first use. What
/// the gate has prepared its sessions inherit; otherwise each of them would do it again, in pages of its own.
///
/// # Errors
/// TLS does not work here: no session could be served.
pub fn rehearse() -> Result<(), Error> {
    let (client_key, server_key) = (SessionKey::generate()?, SessionKey::generate()?);
    let of_data = BOTH.map(|exchange| provider_of_data(vec![exchange.group()]));
    for provider in [provider()].into_iter().chain(of_data) {
        let client = client_with(Arc::clone(&provider), client_key.certified(), server_key.hash())?;
        let server = server_with(provider, server_key.certified(), Accept::Only(client_key.hash()))?;
        let client = ClientConnection::new(Arc::new(client), server_name())?;
        shake_hands(client, ServerConnection::new(Arc::new(server))?)?;
    }
    Ok(())
}

fn shake_hands(mut client: ClientConnection, mut server: ServerConnection) -> Result<(), Error> {
    let failed = |error: std::io::Error| Error::General(error.to_string());
    while client.is_handshaking() || server.is_handshaking() {
        let mut octets = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut octets).map_err(failed)?;
        }
        if octets.is_empty() {
            return Err(Error::HandshakeNotComplete);
        }
        server.read_tls(&mut octets.as_slice()).map_err(failed)?;
        server.process_new_packets()?;
        octets.clear();
        while server.wants_write() {
            server.write_tls(&mut octets).map_err(failed)?;
        }
        client.read_tls(&mut octets.as_slice()).map_err(failed)?;
        client.process_new_packets()?;
    }
    Ok(())
}

/// A key for one data connection: made for it, gone with its process.
///
/// It signs by itself: as PKCS #8 for the provider it would be written, read and checked once more.
pub struct SessionKey {
    pair: Arc<Ed25519KeyPair>,
    spki: Vec<u8>,
    hash: KeyHash,
}

impl SessionKey {
    /// Makes a fresh Ed25519 key: of a key that signs once and is verified once it costs least.
    ///
    /// # Errors
    /// When the system has no random numbers.
    pub fn generate() -> Result<Self, Error> {
        let failed = |_| Error::FailedToGetRandomBytes;
        let pair = Ed25519KeyPair::generate().map_err(failed)?;
        let spki: PublicKeyX509Der<'_> = pair.public_key().as_der().map_err(failed)?;
        let spki = spki.as_ref().to_vec();
        Ok(Self { pair: Arc::new(pair), hash: KeyHash::of_spki(&spki), spki })
    }

    /// What the other side must expect.
    pub const fn hash(&self) -> KeyHash {
        self.hash
    }

    /// TLS server of a data connection, for exactly this client.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn server(&self, expected: KeyHash) -> Result<ServerConfig, Error> {
        server_with(provider_of_data(BOTH.map(KeyExchange::group).to_vec()), self.certified(), Accept::Only(expected))
    }

    /// TLS client of a data connection, for exactly this server.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn client(&self, expected: KeyHash, exchange: KeyExchange) -> Result<ClientConfig, Error> {
        client_with(provider_of_data(vec![exchange.group()]), self.certified(), expected)
    }

    fn certified(&self) -> Arc<CertifiedKey> {
        let key = SessionSigner { pair: Arc::clone(&self.pair), spki: self.spki.clone() };
        Arc::new(CertifiedKey::new(vec![CertificateDer::from(self.spki.clone())], Arc::new(key)))
    }
}

impl fmt::Debug for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionKey").field("hash", &self.hash).finish_non_exhaustive()
    }
}

/// Signs with a [`SessionKey`].
#[derive(Clone)]
struct SessionSigner {
    pair: Arc<Ed25519KeyPair>,
    spki: Vec<u8>,
}

impl fmt::Debug for SessionSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionSigner").finish_non_exhaustive()
    }
}

impl SigningKey for SessionSigner {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        offered.contains(&SignatureScheme::ED25519).then(|| Box::new(self.clone()) as Box<dyn Signer>)
    }

    fn public_key(&self) -> Option<SubjectPublicKeyInfoDer<'_>> {
        Some(SubjectPublicKeyInfoDer::from(self.spki.as_slice()))
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::ED25519
    }
}

impl Signer for SessionSigner {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        Ok(self.pair.sign(message).as_ref().to_vec())
    }

    fn scheme(&self) -> SignatureScheme {
        SignatureScheme::ED25519
    }
}

fn own_key(provider: &CryptoProvider, pkcs8: &[u8]) -> Result<Arc<CertifiedKey>, Error> {
    let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(pkcs8.to_vec()));
    let key = provider.key_provider.load_private_key(der)?;
    let spki = key.public_key().ok_or_else(|| Error::General("the key does not tell its public half".to_owned()))?;
    Ok(Arc::new(CertifiedKey::new(vec![CertificateDer::from(spki.to_vec())], key)))
}

/// Accepts the raw public keys that it was made for.
#[derive(Debug)]
struct ExpectedKeys {
    accepted: Accept,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ExpectedKeys {
    fn new(accepted: Accept, provider: &CryptoProvider) -> Self {
        Self { accepted, algorithms: provider.signature_verification_algorithms }
    }

    fn check(&self, presented: &CertificateDer<'_>) -> Result<(), Error> {
        let Accept::Only(expected) = self.accepted else { return Ok(()) };
        let seen = KeyHash::of_spki(presented);
        if seen == expected {
            return Ok(());
        }
        Err(CertificateError::Other(OtherError(Arc::new(WrongKey { seen, expected }))).into())
    }

    fn check_signature(
        &self,
        message: &[u8],
        presented: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let spki = SubjectPublicKeyInfoDer::from(presented.as_ref());
        verify_tls13_signature_with_raw_key(message, &spki, signed, &self.algorithms)
    }
}

impl ServerCertVerifier for ExpectedKeys {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.check(end_entity).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("the link speaks TLS 1.3 only".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.check_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

impl ClientCertVerifier for ExpectedKeys {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.check(end_entity).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("the link speaks TLS 1.3 only".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.check_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}
