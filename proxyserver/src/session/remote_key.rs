//! The identity's key as a session sees it: a question to the inside. The key itself is never in the DMZ.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use proxylink::message::SignRequest;
use rustls::client::ResolvesClientCert;
use rustls::pki_types::CertificateDer;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::{CertifiedKey, Signer, SigningKey};
use rustls::{Error, SignatureAlgorithm, SignatureScheme};

use super::key_exchange::PostQuantum;
use super::questions::Questions;
use crate::prepared::Head;

/// Shows the identity's chain and asks for its signatures.
#[derive(Debug)]
pub struct Identity {
    certified: Arc<CertifiedKey>,
    post_quantum: PostQuantum,
    asked: Asked,
}

/// Whether a called partner has asked for our certificate.
#[derive(Debug, Clone, Default)]
pub struct Asked(Arc<AtomicBool>);

impl Asked {
    /// Whether it has until now.
    pub fn get(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl Identity {
    /// The identity of this snapshot, with the session's way to ask.
    pub fn new(head: &Head, questions: Arc<Mutex<Questions>>, post_quantum: PostQuantum) -> Self {
        let chain: Vec<_> = head.identity.0.iter().map(|der| CertificateDer::from(der.to_vec())).collect();
        let certificate = chain.first().map_or([0; 32], |der| *verification::Fingerprint::of(der).as_bytes());
        let schemes = head.signature_schemes.iter().map(|&scheme| SignatureScheme::from(scheme)).collect();
        let key = Arc::new(RemoteKey { certificate, schemes, questions });
        Self { certified: Arc::new(CertifiedKey::new(chain, key)), post_quantum, asked: Asked::default() }
    }

    /// Tells later whether the partner asked for it.
    pub fn asked(&self) -> Asked {
        self.asked.clone()
    }
}

impl ResolvesServerCert for Identity {
    fn resolve(&self, client_hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.post_quantum.look_at(&client_hello);
        Some(Arc::clone(&self.certified))
    }
}

impl ResolvesClientCert for Identity {
    /// Whatever issuers the partner names: it has one certificate to show.
    fn resolve(&self, _issuers: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.asked.0.store(true, Ordering::Relaxed);
        Some(Arc::clone(&self.certified))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

#[derive(Debug)]
struct RemoteKey {
    certificate: [u8; 32],
    schemes: Vec<SignatureScheme>,
    questions: Arc<Mutex<Questions>>,
}

impl SigningKey for RemoteKey {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        let scheme = *self.schemes.iter().find(|scheme| offered.contains(scheme))?;
        Some(Box::new(RemoteSigner { certificate: self.certificate, scheme, questions: Arc::clone(&self.questions) }))
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        match self.schemes.first() {
            Some(
                SignatureScheme::ECDSA_NISTP256_SHA256
                | SignatureScheme::ECDSA_NISTP384_SHA384
                | SignatureScheme::ECDSA_NISTP521_SHA512,
            ) => SignatureAlgorithm::ECDSA,
            Some(SignatureScheme::ED25519) => SignatureAlgorithm::ED25519,
            _ => SignatureAlgorithm::RSA,
        }
    }
}

#[derive(Debug)]
struct RemoteSigner {
    certificate: [u8; 32],
    scheme: SignatureScheme,
    questions: Arc<Mutex<Questions>>,
}

impl Signer for RemoteSigner {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        let request =
            SignRequest { certificate: self.certificate, scheme: self.scheme.into(), message: message.to_vec() };
        let mut questions = self.questions.lock().map_err(|_| Error::General("signing failed before".to_owned()))?;
        questions.sign(request).map_err(|reason| Error::General(reason.text))
    }

    fn scheme(&self) -> SignatureScheme {
        self.scheme
    }
}
