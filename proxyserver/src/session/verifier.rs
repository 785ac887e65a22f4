//! What rustls asks about a partner's certificate and signature, answered by the judgement.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex};

use proxydaemon::descriptors::Mapping;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};
use verification::possession::{self, HandshakeSignature, Version};
use verification::{Peer, Presented, Refusal, VerifiedPartner};

use crate::prepared::Prepared;

/// What the verifier saw, for log and pairing.
#[derive(Debug, Default)]
pub struct Seen {
    /// The certificates that came.
    pub chain: Vec<Vec<u8>>,
    /// The judgement on them.
    pub partner: Option<Result<VerifiedPartner, Refusal>>,
    /// How the partner proved its key.
    pub signature: Option<HandshakeSignature>,
}

/// Who is judged.
#[derive(Debug)]
pub enum Who {
    /// Somebody who called from this address.
    Caller(IpAddr),
    /// The partner of this name, whom we called.
    Called(String),
}

/// Has rustls ask the judgement, and keeps what pairing needs.
#[derive(Debug)]
pub struct PartnerVerifier {
    who: Who,
    snapshot: Arc<Mapping>,
    seen: Arc<Mutex<Seen>>,
}

impl PartnerVerifier {
    /// Judges by this snapshot.
    pub fn new(who: Who, snapshot: &Arc<Mapping>, seen: &Arc<Mutex<Seen>>) -> Self {
        Self { who, snapshot: Arc::clone(snapshot), seen: Arc::clone(seen) }
    }

    fn judge(&self, chain: &[CertificateDer<'_>], now: UnixTime) -> Result<VerifiedPartner, Refusal> {
        let prepared = Prepared::open(&self.snapshot).map_err(|_| Refusal::PolicyUnreadable)?;
        let (peer, source) = match &self.who {
            Who::Caller(source) => (Peer::Caller, *source),
            // Where a called partner is says nothing about who it is, and is not asked.
            Who::Called(partner) => (Peer::Called { partner }, IpAddr::V6(Ipv6Addr::UNSPECIFIED)),
        };
        verification::judge(Presented { chain, peer }, &prepared.policy, now, source)
    }

    /// Judges what was shown; the refusal in the form that makes the right alert.
    fn judge_shown(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        let chain: Vec<_> = std::iter::once(end_entity).chain(intermediates).map(|der| der.as_ref().to_vec()).collect();
        let borrowed: Vec<_> = chain.iter().map(|der| CertificateDer::from(der.as_slice())).collect();
        let judged = self.judge(&borrowed, now);
        let answer = judged.as_ref().map(drop).map_err(Refusal::tls_error);
        if let Ok(mut seen) = self.seen.lock() {
            seen.chain = chain;
            seen.partner = Some(judged);
        }
        answer
    }

    fn prove(
        &self,
        version: Version,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let valid = match version {
            Version::Tls12 => possession::verify_tls12(message, cert, dss)?,
            Version::Tls13 => possession::verify_tls13(message, cert, dss)?,
        };
        if let Ok(mut seen) = self.seen.lock() {
            seen.signature = Some(HandshakeSignature::new(version, message, dss));
        }
        Ok(valid)
    }
}

impl ClientCertVerifier for PartnerVerifier {
    /// Empty: strangers learn nothing about who is trusted.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.judge_shown(end_entity, intermediates, now).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.prove(Version::Tls12, message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.prove(Version::Tls13, message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        possession::supported_schemes()
    }
}

impl ServerCertVerifier for PartnerVerifier {
    /// The name is that of the policy, which the judgement reads itself.
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.judge_shown(end_entity, intermediates, now).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.prove(Version::Tls12, message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.prove(Version::Tls13, message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        possession::supported_schemes()
    }
}
