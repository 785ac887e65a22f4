//! TLS of the station: which certificate it shows, whom it believes, which versions it speaks.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme};
use rustls::{SupportedProtocolVersion, version};

use super::failure::Failure;

/// Certificate chain and private key, as PEM.
#[derive(Clone)]
pub struct Identity {
    /// Own certificate first, then its issuers.
    pub chain_pem: String,
    /// PKCS#8, PKCS#1 or SEC1.
    pub key_pem: String,
}

/// Whom the station believes.
#[derive(Clone, Debug)]
pub enum Trust {
    /// Who shows a certificate of one of these certificate authorities (PEM). Whatever name it bears: OFTP2 partners
    /// are told by their certificate.
    Authorities(String),
    /// As before, and the certificate must bear this name (RFC 5024 asks for none).
    Named(String, String),
    /// Anybody; a test station may.
    Anybody,
}

/// Versions of TLS that are offered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum TlsVersions {
    /// 1.2 and 1.3.
    #[default]
    Both,
    /// 1.2 alone.
    #[value(name = "1.2")]
    Tls12,
    /// 1.3 alone.
    #[value(name = "1.3")]
    Tls13,
}

impl TlsVersions {
    fn list(self) -> Vec<&'static SupportedProtocolVersion> {
        match self {
            Self::Both => vec![&version::TLS13, &version::TLS12],
            Self::Tls12 => vec![&version::TLS12],
            Self::Tls13 => vec![&version::TLS13],
        }
    }
}

/// What a station needs for TLS, at either end.
#[derive(Clone)]
pub struct TlsSettings {
    /// The certificate to show; a station that calls may have none.
    pub identity: Option<Identity>,
    /// Whose certificate is taken. A station that answers asks its callers for one unless this is `Anybody`.
    pub trust: Trust,
    /// Versions.
    pub versions: TlsVersions,
}

impl TlsSettings {
    /// For a station that calls.
    pub fn client(&self) -> Result<Arc<ClientConfig>, Failure> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier: Arc<dyn ServerCertVerifier> = match &self.trust {
            Trust::Authorities(pem) => Arc::new(Authorities { inner: server_verifier(pem, &provider)?, named: false }),
            Trust::Named(pem, _) => Arc::new(Authorities { inner: server_verifier(pem, &provider)?, named: true }),
            Trust::Anybody => Arc::new(Anybody(provider.clone())),
        };
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&self.versions.list())
            .map_err(Failure::Tls)?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let mut config = match &self.identity {
            Some(identity) => {
                let (chain, key) = identity.der()?;
                builder.with_client_auth_cert(chain, key).map_err(Failure::Tls)?
            }
            None => builder.with_no_client_auth(),
        };
        config.resumption = Resumption::disabled();
        Ok(Arc::new(config))
    }

    /// The name that a calling station asks for; rustls wants one even when nobody checks it.
    pub fn server_name(&self) -> Result<ServerName<'static>, Failure> {
        let name = match &self.trust {
            Trust::Named(_, name) => name.as_str(),
            Trust::Authorities(_) | Trust::Anybody => "oftp2.invalid",
        };
        ServerName::try_from(name.to_owned())
            .map_err(|_| Failure::Setting(format!("\"{name}\" is neither a host name nor an address")))
    }

    /// For a station that answers.
    pub fn server(&self) -> Result<Arc<ServerConfig>, Failure> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&self.versions.list())
            .map_err(Failure::Tls)?;
        let builder = match &self.trust {
            Trust::Authorities(pem) | Trust::Named(pem, _) => {
                let verifier = WebPkiClientVerifier::builder_with_provider(roots(pem)?.into(), provider)
                    .build()
                    .map_err(|error| Failure::Setting(format!("certificate authorities: {error}")))?;
                builder.with_client_cert_verifier(verifier)
            }
            Trust::Anybody => builder.with_no_client_auth(),
        };
        let Some(identity) = &self.identity else {
            return Err(Failure::Setting("a station that answers with TLS needs a certificate and its key".into()));
        };
        let (chain, key) = identity.der()?;
        let mut config = builder.with_single_cert(chain, key).map_err(Failure::Tls)?;
        config.send_tls13_tickets = 0;
        Ok(Arc::new(config))
    }
}

impl Identity {
    fn der(&self) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), Failure> {
        let key = PrivateKeyDer::from_pem_slice(self.key_pem.as_bytes())
            .map_err(|error| Failure::Setting(format!("private key: {error}")))?;
        Ok((certificates(&self.chain_pem)?, key))
    }
}

fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, Failure> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(Failure::Setting("no certificate in what should hold one".into())),
        Err(error) => Err(Failure::Setting(format!("certificates: {error}"))),
    }
}

fn roots(pem: &str) -> Result<RootCertStore, Failure> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(pem)? {
        roots.add(certificate).map_err(Failure::Tls)?;
    }
    Ok(roots)
}

fn server_verifier(pem: &str, provider: &Arc<CryptoProvider>) -> Result<Arc<WebPkiServerVerifier>, Failure> {
    WebPkiServerVerifier::builder_with_provider(roots(pem)?.into(), provider.clone())
        .build()
        .map_err(|error| Failure::Setting(format!("certificate authorities: {error}")))
}

/// A chain to one of the authorities; the name counts only when one was asked for.
#[derive(Debug)]
struct Authorities {
    inner: Arc<WebPkiServerVerifier>,
    named: bool,
}

impl ServerCertVerifier for Authorities {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        match self.inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if !self.named => Ok(ServerCertVerified::assertion()),
            judged => judged,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// No judgement on who it is; the handshake's signature is still checked.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
