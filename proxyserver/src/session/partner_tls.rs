//! The handshake with a calling partner: certificate required, judged inside the handshake, signature from the inside.

use std::net::{IpAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use proxydaemon::descriptors::Mapping;
use proxylink::message::Refused;
use proxylink::pairing::{Chain, TlsFacts};
use proxylink::situation::Situation;
use proxylink::snapshot::MinimumTls;
use relay::tls::{HandshakeError, Tls};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, Error, PeerIncompatible, ServerConfig, SignatureScheme};
use verification::possession::{self, HandshakeSignature, Version};
use verification::{CertificateFacts, Peer, Presented, Refusal, VerifiedPartner};

use super::key_exchange::PostQuantum;
use super::questions::Questions;
use super::remote_key::Identity;
use crate::prepared::Prepared;

/// A partner whose handshake is done and whom the judgement let through.
pub struct Answered {
    /// The connection.
    pub tls: Tls,
    /// Who it is, by this side's judgement.
    pub partner: VerifiedPartner,
    /// What it showed.
    pub chain: Chain,
    /// How it proved its key.
    pub signature: HandshakeSignature,
    /// What was agreed.
    pub facts: TlsFacts,
}

/// Why there is no partner.
pub struct Unanswered {
    /// What happened, in a sentence for the administrator.
    pub refused: Refused,
    /// The certificate that was shown, if one was.
    pub shown: Option<Box<CertificateFacts>>,
}

/// Does the whole handshake, at the latest by `deadline`.
///
/// # Errors
/// [`Unanswered`]; the TLS alert has gone out by then.
pub fn accept(
    socket: TcpStream,
    source: IpAddr,
    snapshot: &Arc<Mapping>,
    prepared: &Prepared<'_>,
    questions: &Arc<Mutex<Questions>>,
    deadline: Instant,
    orders: &mut dyn relay::Orders,
) -> Result<Answered, Unanswered> {
    let seen = Arc::new(Mutex::new(Seen::default()));
    let verifier = PartnerVerifier { snapshot: Arc::clone(snapshot), source, seen: Arc::clone(&seen) };
    let config = config(prepared, verifier, questions)
        .map_err(|error| Unanswered { refused: failed(error.to_string()), shown: None })?;
    let outcome = Tls::accept(socket, Arc::new(config), deadline, orders);
    let seen = std::mem::take(&mut *seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
    let shown = seen.chain.first().and_then(|der| CertificateFacts::read(der).ok()).map(Box::new);
    match (outcome, seen.partner, seen.signature) {
        (Ok(tls), Some(Ok(partner)), Some(signature)) => {
            let facts = tls.facts();
            let chain = Chain(seen.chain.into_iter().map(serde_bytes::ByteBuf::from).collect());
            Ok(Answered { tls, partner, chain, signature, facts })
        }
        (_, Some(Err(refusal)), _) => {
            let situation = Situation::by_code(refusal.code()).unwrap_or(Situation::CertificateChainInvalid);
            Err(Unanswered { refused: Refused { situation, text: refusal.to_string() }, shown })
        }
        (Err(error), ..) => Err(Unanswered { refused: explain(&error, questions), shown }),
        (Ok(_), ..) => Err(Unanswered { refused: failed("the handshake ended without a judgement".to_owned()), shown }),
    }
}

fn config(
    prepared: &Prepared<'_>,
    verifier: PartnerVerifier,
    questions: &Arc<Mutex<Questions>>,
) -> Result<ServerConfig, Error> {
    let post_quantum = PostQuantum::default();
    let provider = post_quantum.prefer_in(&proxylink::tls::provider());
    let identity = Identity::new(&prepared.head, Arc::clone(questions), post_quantum);
    let versions: &[_] = match prepared.head.minimum_tls {
        MinimumTls::Tls12 => &[&rustls::version::TLS13, &rustls::version::TLS12],
        MinimumTls::Tls13 => &[&rustls::version::TLS13],
    };
    let mut config = ServerConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(versions)?
        .with_client_cert_verifier(Arc::new(verifier))
        .with_cert_resolver(Arc::new(identity));
    // A resumed session would not be judged again.
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    Ok(config)
}

/// What the verifier saw, for log and pairing.
#[derive(Debug, Default)]
struct Seen {
    chain: Vec<Vec<u8>>,
    partner: Option<Result<VerifiedPartner, Refusal>>,
    signature: Option<HandshakeSignature>,
}

#[derive(Debug)]
struct PartnerVerifier {
    snapshot: Arc<Mapping>,
    source: IpAddr,
    seen: Arc<Mutex<Seen>>,
}

impl PartnerVerifier {
    fn judge(&self, chain: &[CertificateDer<'_>], now: UnixTime) -> Result<VerifiedPartner, Refusal> {
        let prepared = Prepared::open(&self.snapshot).map_err(|_| Refusal::PolicyUnreadable)?;
        verification::judge(Presented { chain, peer: Peer::Caller }, &prepared.policy, now, self.source)
    }

    fn remember(&self, signature: HandshakeSignature) {
        if let Ok(mut seen) = self.seen.lock() {
            seen.signature = Some(signature);
        }
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
        let chain: Vec<_> = std::iter::once(end_entity).chain(intermediates).map(|der| der.as_ref().to_vec()).collect();
        let borrowed: Vec<_> = chain.iter().map(|der| CertificateDer::from(der.as_slice())).collect();
        let judged = self.judge(&borrowed, now);
        let answer = match &judged {
            Ok(_) => Ok(ClientCertVerified::assertion()),
            Err(refusal) => Err(refusal.tls_error()),
        };
        if let Ok(mut seen) = self.seen.lock() {
            seen.chain = chain;
            seen.partner = Some(judged);
        }
        answer
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let valid = possession::verify_tls12(message, cert, dss)?;
        self.remember(HandshakeSignature::new(Version::Tls12, message, dss));
        Ok(valid)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let valid = possession::verify_tls13(message, cert, dss)?;
        self.remember(HandshakeSignature::new(Version::Tls13, message, dss));
        Ok(valid)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        possession::supported_schemes()
    }
}

/// A sentence for each way in which a handshake fails.
fn explain(error: &HandshakeError, questions: &Arc<Mutex<Questions>>) -> Refused {
    let refused = |situation, text: &str| Refused { situation, text: text.to_owned() };
    match error {
        HandshakeError::Refused(Error::NoCertificatesPresented) => {
            refused(Situation::CertificateMissing, "a client certificate is required and none was shown")
        }
        // The judgement's own refusals are told before: this is the signature with the certificate's key.
        HandshakeError::Refused(Error::InvalidCertificate(_)) => refused(
            Situation::HandshakeSignatureInvalid,
            "the signature in the handshake was not made by the key of the certificate",
        ),
        HandshakeError::Refused(Error::PeerIncompatible(reason)) => Refused {
            situation: Situation::TlsTooOld,
            text: match reason {
                PeerIncompatible::NoKxGroupsInCommon => {
                    "the offer has no ECDHE group of ours (static RSA and DHE are not accepted)".to_owned()
                }
                PeerIncompatible::NoCipherSuitesInCommon => {
                    "the offer has no cipher suite of ours (ECDHE with AES-GCM or ChaCha20; static RSA, DHE and CBC are not accepted)".to_owned()
                }
                PeerIncompatible::SignatureAlgorithmsExtensionRequired => {
                    "the offer is that of TLS 1.0 or 1.1; TLS 1.2 is the least".to_owned()
                }
                other => format!("the offer does not fit: {other:?}"),
            },
        },
        HandshakeError::Refused(Error::General(reason)) => {
            // Only our own signer reports in this form; it has the situation.
            let asked = questions.lock().ok().and_then(|mut questions| questions.take_failure());
            asked.unwrap_or_else(|| refused(Situation::SigningFailed, reason))
        }
        HandshakeError::TimedOut => refused(Situation::HandshakeTimeout, "the handshake was not finished in time"),
        HandshakeError::Ordered(_) => refused(Situation::SessionStopped, "the daemon ends"),
        other => failed(other.to_string()),
    }
}

fn failed(text: String) -> Refused {
    Refused { situation: Situation::HandshakeFailed, text }
}
