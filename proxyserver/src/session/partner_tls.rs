//! The handshake with a partner, who calls or is called: its certificate is judged inside the handshake, our signature
//! comes from the inside.

use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use proxydaemon::descriptors::Mapping;
use proxylink::message::Refused;
use proxylink::pairing::{Chain, TlsFacts};
use proxylink::situation::Situation;
use proxylink::snapshot::MinimumTls;
use relay::tls::{HandshakeError, Tls};
use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, Error, ServerConfig, SupportedProtocolVersion};
use verification::possession::HandshakeSignature;
use verification::{CertificateFacts, VerifiedPartner};

use super::explain::{self, failed};
use super::key_exchange::PostQuantum;
use super::questions::Questions;
use super::remote_key::Identity;
use super::verifier::{PartnerVerifier, Seen, Who};
use crate::prepared::{Head, Prepared};
use crate::target::{Host, Target};

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

/// What a handshake needs, whoever called.
pub struct Handshake<'a> {
    /// The snapshot that the session began with.
    pub snapshot: &'a Arc<Mapping>,
    /// The same, opened.
    pub prepared: &'a Prepared<'a>,
    /// To the switchboard.
    pub questions: &'a Arc<Mutex<Questions>>,
    /// When it must be done.
    pub deadline: Instant,
}

/// Does the whole handshake with a partner that called.
///
/// # Errors
/// [`Unanswered`]; the TLS alert has gone out by then.
pub fn accept(
    socket: TcpStream,
    peer: SocketAddr,
    handshake: &Handshake<'_>,
    orders: &mut dyn relay::Orders,
) -> Result<Answered, Unanswered> {
    let seen = Arc::new(Mutex::new(Seen::default()));
    let verifier = PartnerVerifier::new(Who::Caller(peer.ip()), handshake.snapshot, &seen);
    let config =
        server(handshake, verifier).map_err(|error| Unanswered { refused: failed(error.to_string()), shown: None })?;
    let outcome = Tls::accept(socket, Arc::new(config), handshake.deadline, orders);
    conclude(outcome, &seen, |error| explain::caller(error, handshake.questions))
}

/// Does the whole handshake with a partner that we called, and waits for its first word: in TLS 1.3 it looks at our
/// certificate only when our handshake is done.
///
/// # Errors
/// [`Unanswered`]; the TLS alert has gone out by then.
pub fn connect(
    socket: TcpStream,
    partner: &str,
    peer: SocketAddr,
    handshake: &Handshake<'_>,
    orders: &mut dyn relay::Orders,
) -> Result<Answered, Unanswered> {
    let seen = Arc::new(Mutex::new(Seen::default()));
    let verifier = PartnerVerifier::new(Who::Called(partner.to_owned()), handshake.snapshot, &seen);
    let identity = Identity::new(&handshake.prepared.head, Arc::clone(handshake.questions), PostQuantum::default());
    let asked = identity.asked();
    let config = client(handshake, verifier, identity)
        .map_err(|error| Unanswered { refused: failed(error.to_string()), shown: None })?;
    let name = name_of(partner, peer, handshake.prepared);
    let outcome = Tls::connect(socket, Arc::new(config), name, handshake.deadline, orders);
    let head = &handshake.prepared.head;
    let explain = |error: &HandshakeError| naming_ours(explain::called(error, handshake.questions, asked.get()), head);
    let mut answered = conclude(outcome, &seen, explain)?;
    if !asked.get() {
        // RFC 5024, 2.1: authentication by certificates is a matter of agreement. Ours is not wanted here.
        log::info!("peer={peer} partner={partner}: the partner asks for no certificate of ours");
    }
    match answered.tls.await_words(handshake.deadline, orders) {
        Ok(tls) => {
            answered.tls = tls;
            Ok(answered)
        }
        Err(error) => {
            let shown = answered.chain.0.first().and_then(|der| CertificateFacts::read(der).ok()).map(Box::new);
            Err(Unanswered { refused: naming_ours(explain::silent(&error), head), shown })
        }
    }
}

/// Which certificate of ours it is that the partner refuses.
fn naming_ours(refused: Refused, head: &Head) -> Refused {
    let ours = || CertificateFacts::read(head.identity.0.first()?).ok();
    match (refused.situation, ours()) {
        (Situation::OwnCertificateRefused, Some(ours)) => {
            Refused { text: format!("{}; ours is {ours}", refused.text), ..refused }
        }
        _ => refused,
    }
}

fn conclude(
    outcome: Result<Tls, HandshakeError>,
    seen: &Mutex<Seen>,
    explain: impl FnOnce(&HandshakeError) -> Refused,
) -> Result<Answered, Unanswered> {
    let seen = std::mem::take(&mut *seen.lock().unwrap_or_else(PoisonError::into_inner));
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
        (Err(error), ..) => Err(Unanswered { refused: explain(&error), shown }),
        (Ok(_), ..) => Err(Unanswered { refused: failed("the handshake ended without a judgement".to_owned()), shown }),
    }
}

static VERSIONS: [&SupportedProtocolVersion; 2] = [&rustls::version::TLS13, &rustls::version::TLS12];

fn versions(prepared: &Prepared<'_>) -> &'static [&'static SupportedProtocolVersion] {
    match prepared.head.minimum_tls {
        MinimumTls::Tls12 => &VERSIONS,
        MinimumTls::Tls13 => &VERSIONS[..1],
    }
}

fn server(handshake: &Handshake<'_>, verifier: PartnerVerifier) -> Result<ServerConfig, Error> {
    let post_quantum = PostQuantum::default();
    let provider = post_quantum.prefer_in(&proxylink::tls::provider());
    let identity = Identity::new(&handshake.prepared.head, Arc::clone(handshake.questions), post_quantum);
    let mut config = ServerConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(versions(handshake.prepared))?
        .with_client_cert_verifier(Arc::new(verifier))
        .with_cert_resolver(Arc::new(identity));
    // A resumed session would not be judged again.
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    Ok(config)
}

fn client(handshake: &Handshake<'_>, verifier: PartnerVerifier, identity: Identity) -> Result<ClientConfig, Error> {
    let mut config = ClientConfig::builder_with_provider(proxylink::tls::provider())
        .with_protocol_versions(versions(handshake.prepared))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_cert_resolver(Arc::new(identity));
    // A resumed session would not be judged again.
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// The name that is sent to a called partner (SNI): its `server_name`, or its host where that is a name. What the
/// certificate must say is the judgement's business.
fn name_of(partner: &str, peer: SocketAddr, prepared: &Prepared<'_>) -> ServerName<'static> {
    let configured = prepared.policy.partner_named(partner);
    let server_name = configured.and_then(|partner| partner.server_name()).map(str::to_owned);
    let name = server_name.or_else(|| match Target::read(configured?.address()?)?.host {
        Host::Name(name) => Some(name),
        Host::Address(_) => None,
    });
    name.and_then(|name| ServerName::try_from(name).ok()).unwrap_or_else(|| ServerName::IpAddress(peer.ip().into()))
}
