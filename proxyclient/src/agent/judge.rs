//! The second judgement: what the DMZ presents is verified again, from the octets of the handshake, and the partner is
//! named here.

use std::time::{SystemTime, UNIX_EPOCH};

use proxylink::message::Refused;
use proxylink::pairing::PairingRequest;
use proxylink::situation::Situation;
use rustls::pki_types::{CertificateDer, UnixTime};
use verification::{CertificateFacts, Peer, Policy, Presented, Refusal, VerifiedPartner};

use super::spent::Spent;

/// A partner that stands, with what is said of it in record and log.
#[derive(Debug)]
pub struct Judged {
    /// The partner.
    pub partner: VerifiedPartner,
    /// CRL distribution points of the chain.
    pub crl_urls: Vec<(String, [u8; 32], String)>,
}

/// Judges a pairing request.
///
/// # Errors
/// The refusal, with its situation.
pub fn judge(request: &PairingRequest, policy: &[u8], spent: &mut Spent) -> Result<Judged, Refused> {
    let chain: Vec<_> = request.chain.0.iter().map(|der| CertificateDer::from(der.as_slice())).collect();
    let end_entity = chain.first().ok_or_else(|| Refused {
        situation: Situation::CertificateMissing,
        text: "the DMZ presents no certificate".to_owned(),
    })?;
    let possession =
        request.signature.verify(end_entity, Peer::Caller.direction()).map_err(|refusal| told(&refusal))?;
    let (first_time, kept) = spent.take(*possession.digest());
    if !first_time {
        return Err(Refused {
            situation: Situation::SignatureReplayed,
            text: "this handshake signature was presented before".to_owned(),
        });
    }
    if let Err(error) = kept {
        Situation::SpoolUnwritable.tell(format_args!("the memory of handshake signatures: {error}"));
    }
    let policy = Policy::open(policy)
        .map_err(|error| Refused { situation: Situation::PairingRefused, text: error.to_string() })?;
    let partner =
        verification::judge(Presented { chain: &chain, peer: Peer::Caller }, &policy, now(), request.peer.ip())
            .map_err(|refusal| told(&refusal))?;
    Ok(Judged { partner, crl_urls: crl_urls(&chain) })
}

/// Judges a running session again, by a newer policy; expiry alone does not end a session.
///
/// # Errors
/// Why it no longer stands.
pub fn still_stands(
    chain: &[Vec<u8>],
    peer: std::net::IpAddr,
    established: UnixTime,
    policy: &[u8],
) -> Result<(), Refused> {
    let chain: Vec<_> = chain.iter().map(|der| CertificateDer::from(der.as_slice())).collect();
    let policy = Policy::open(policy)
        .map_err(|error| Refused { situation: Situation::PairingRefused, text: error.to_string() })?;
    let presented = Presented { chain: &chain, peer: Peer::Caller };
    match verification::judge_again(presented, &policy, established, now(), peer) {
        Ok(_) => Ok(()),
        Err(refusal) => Err(told(&refusal)),
    }
}

fn told(refusal: &Refusal) -> Refused {
    Refused {
        situation: Situation::by_code(refusal.code()).unwrap_or(Situation::CertificateChainInvalid),
        text: refusal.to_string(),
    }
}

fn crl_urls(chain: &[CertificateDer<'_>]) -> Vec<(String, [u8; 32], String)> {
    chain
        .iter()
        .filter_map(|der| CertificateFacts::read(der).ok())
        .flat_map(|facts| {
            let (fingerprint, issuer) = (*facts.fingerprint.as_bytes(), facts.issuer.clone());
            facts.crl_urls().map(|url| (url.to_owned(), fingerprint, issuer.clone())).collect::<Vec<_>>()
        })
        .collect()
}

/// The time, for judgements.
pub fn now() -> UnixTime {
    UnixTime::since_unix_epoch(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}
