//! A TLS client that shows what it is told to, signs as it likes, and tells what it got for that.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, SupportedKxGroup, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::sign::{CertifiedKey, Signer, SigningKey, SingleCertAndKey};
use rustls::{
    AlertDescription, ClientConfig, ClientConnection, DigitallySignedStruct, Error, HandshakeKind, SignatureAlgorithm,
    SignatureScheme, SupportedProtocolVersion, version,
};
use tests::harness::PATIENCE;
use tests::station::Identity;

/// Both versions that are served.
pub const VERSIONS: [&SupportedProtocolVersion; 2] = [&version::TLS12, &version::TLS13];

/// What is shown as client certificate.
pub enum Shown {
    /// None.
    Nothing,
    /// This one, signed with its key.
    Identity(Identity),
    /// This one, with octets in the signature's place that no key has made.
    WithoutItsKey(CertificateDer<'static>),
}

/// How it offers.
pub struct Offer {
    pub version: &'static SupportedProtocolVersion,
    /// Key exchange groups, all there are when empty.
    pub groups: Vec<&'static dyn SupportedKxGroup>,
}

/// What came of it.
#[derive(Debug)]
pub struct Got {
    /// The alert that ended it.
    pub alert: Option<AlertDescription>,
    /// The first octets of OFTP2: the session is open.
    pub welcome: Vec<u8>,
    pub group: Option<rustls::NamedGroup>,
    /// TLS 1.3 session tickets that came.
    pub tickets: u32,
    /// Whether it was a whole handshake or a resumed one.
    pub kind: Option<HandshakeKind>,
}

/// Calls with this version.
pub fn call(address: &str, shown: &Shown, version: &'static SupportedProtocolVersion) -> Got {
    call_with(address, shown, Offer { version, groups: Vec::new() })
}

/// Calls with this offer.
pub fn call_with(address: &str, shown: &Shown, offer: Offer) -> Got {
    call_again(address, &config(shown, offer))
}

/// What a client keeps from one call to the next; sessions and tickets too.
pub fn config(shown: &Shown, offer: Offer) -> Arc<ClientConfig> {
    let mut provider = aws_lc_rs::default_provider();
    if !offer.groups.is_empty() {
        provider.kx_groups = offer.groups;
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[offer.version])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody(aws_lc_rs::default_provider())));
    let mut config = match shown {
        Shown::Nothing => builder.with_no_client_auth(),
        Shown::Identity(identity) => {
            let chain = CertificateDer::pem_slice_iter(identity.chain_pem.as_bytes()).map(Result::unwrap).collect();
            let key = PrivateKeyDer::from_pem_slice(identity.key_pem.as_bytes()).unwrap();
            // Not looked at by rustls, which would not show every certificate.
            let certified = CertifiedKey::new(chain, aws_lc_rs::sign::any_supported_type(&key).unwrap());
            builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(certified)))
        }
        Shown::WithoutItsKey(certificate) => {
            let certified = CertifiedKey::new(vec![certificate.clone()], Arc::new(NoKey));
            builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(certified)))
        }
    };
    // Offered, so that it shows whether anything comes of it.
    config.resumption = Resumption::in_memory_sessions(8);
    Arc::new(config)
}

/// Calls, and reads until OFTP2 begins or the connection ends.
pub fn call_again(address: &str, config: &Arc<ClientConfig>) -> Got {
    let mut tls = ClientConnection::new(config.clone(), ServerName::try_from("proxy.invalid").unwrap()).unwrap();
    let mut socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut got = Got { alert: None, welcome: Vec::new(), group: None, tickets: 0, kind: None };
    loop {
        while tls.wants_write() {
            if tls.write_tls(&mut socket).is_err() {
                break;
            }
        }
        let read = tls.read_tls(&mut socket);
        match tls.process_new_packets() {
            Ok(_) => {}
            Err(Error::AlertReceived(alert)) => {
                got.alert = Some(alert);
                return got;
            }
            Err(error) => panic!("{error}"),
        }
        got.group = tls.negotiated_key_exchange_group().map(|group| group.name());
        got.tickets = tls.tls13_tickets_received();
        got.kind = tls.handshake_kind();
        let mut octets = [0; 256];
        if let Ok(length @ 1..) = tls.reader().read(&mut octets) {
            got.welcome = octets[..length].to_vec();
            tls.send_close_notify();
            // It may have been closed already.
            let _ = tls.write_tls(&mut socket).and_then(|_| socket.flush());
            return got;
        }
        match read {
            Ok(1..) => {}
            Ok(0) => return got,
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return got,
            Err(error) => panic!("{error}"),
        }
    }
}

#[derive(Debug)]
struct NoKey;

impl SigningKey for NoKey {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        let wanted = [SignatureScheme::RSA_PSS_SHA256, SignatureScheme::ECDSA_NISTP256_SHA256];
        wanted.into_iter().find(|scheme| offered.contains(scheme)).map(|scheme| Box::new(Octets(scheme)) as _)
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::RSA
    }
}

#[derive(Debug)]
struct Octets(SignatureScheme);

impl Signer for Octets {
    fn sign(&self, _: &[u8]) -> Result<Vec<u8>, Error> {
        Ok(vec![0x5a; 128])
    }

    fn scheme(&self) -> SignatureScheme {
        self.0
    }
}

#[derive(Debug)]
struct Anybody(CryptoProvider);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
