//! Handshakes in memory, and what a DMZ session takes from them: the chain and the signature with what it is over.

use std::sync::{Arc, Mutex};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, DistinguishedName, Error, ServerConfig, ServerConnection,
    SignatureScheme, SupportedProtocolVersion,
};
use tests::station::Identity;
use verification::possession::{self, HandshakeSignature, Version};

/// The signatures of a handshake.
#[derive(Debug, Default)]
pub struct Signatures {
    pub of_client: Option<HandshakeSignature>,
    pub of_server: Option<HandshakeSignature>,
}

/// A handshake of these two, which both prove their keys.
pub fn between(client: &Identity, server: &Identity, version: &'static SupportedProtocolVersion) -> Signatures {
    let seen = Arc::new(Mutex::new(Signatures::default()));
    let provider = Arc::new(aws_lc_rs::default_provider());
    let (chain, key) = der(client);
    let client = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[version])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Witness(seen.clone())))
        .with_client_auth_cert(chain, key)
        .unwrap();
    let (chain, key) = der(server);
    let server = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_client_cert_verifier(Arc::new(Witness(seen.clone())))
        .with_single_cert(chain, key)
        .unwrap();
    let mut client = ClientConnection::new(Arc::new(client), ServerName::try_from("proxy.invalid").unwrap()).unwrap();
    let mut server = ServerConnection::new(Arc::new(server)).unwrap();
    while client.is_handshaking() || server.is_handshaking() {
        let mut octets = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut octets).unwrap();
        }
        let mut rest = octets.as_slice();
        while !rest.is_empty() {
            server.read_tls(&mut rest).unwrap();
            server.process_new_packets().unwrap();
        }
        let mut octets = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut octets).unwrap();
        }
        let mut rest = octets.as_slice();
        while !rest.is_empty() {
            client.read_tls(&mut rest).unwrap();
            client.process_new_packets().unwrap();
        }
    }
    std::mem::take(&mut *seen.lock().unwrap())
}

/// The chain of an identity.
pub fn chain(identity: &Identity) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(identity.chain_pem.as_bytes()).map(Result::unwrap).collect()
}

fn der(identity: &Identity) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    (chain(identity), PrivateKeyDer::from_pem_slice(identity.key_pem.as_bytes()).unwrap())
}

#[derive(Debug)]
struct Witness(Arc<Mutex<Signatures>>);

impl Witness {
    fn keep(&self, of_client: bool, version: Version, message: &[u8], signed: &DigitallySignedStruct) {
        let signature = Some(HandshakeSignature::new(version, message, signed));
        let mut seen = self.0.lock().unwrap();
        if of_client { seen.of_client = signature } else { seen.of_server = signature }
    }
}

impl ClientCertVerifier for Witness {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.keep(true, Version::Tls12, message, signed);
        possession::verify_tls12(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.keep(true, Version::Tls13, message, signed);
        possession::verify_tls13(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        possession::supported_schemes()
    }
}

impl ServerCertVerifier for Witness {
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
        self.keep(false, Version::Tls12, message, signed);
        possession::verify_tls12(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.keep(false, Version::Tls13, message, signed);
        possession::verify_tls13(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        possession::supported_schemes()
    }
}
