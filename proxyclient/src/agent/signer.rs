//! The signer: the one place that touches the identity's private key. It signs handshakes of partners and nothing else.

use std::collections::HashSet;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use proxylink::message::{Refused, SignRequest};
use proxylink::pairing::SessionId;
use proxylink::situation::Situation;
use rustls::SignatureScheme;
use rustls::sign::SigningKey;
use tokio::sync::Semaphore;
use verification::signing_request::{self, Kind};
use verification::{Direction, Fingerprint};

use super::in_force::IdentityKey;
use super::judge;

/// Signatures that are made at the same time off the loop; the others wait in the order in which they came.
const AT_ONCE: usize = 2;
/// Signatures that may wait. Beyond, the DMZ asks for more than it can have sessions.
const MOST_WAITING: usize = 4096;
/// Sessions whose one signature is remembered.
const MOST_REMEMBERED: usize = 65_536;

/// Whose handshake a signature is for.
#[derive(Clone, Copy)]
pub enum Handshake<'a> {
    /// A partner came to us.
    Caller,
    /// We call a partner.
    Called {
        /// Its name in the policy.
        partner: &'a str,
        /// By which it is judged.
        policy: &'a [u8],
    },
}

impl Handshake<'_> {
    /// Which end of the connection the partner is.
    const fn direction(self) -> Direction {
        match self {
            Self::Caller => Direction::Caller,
            Self::Called { .. } => Direction::Called,
        }
    }
}

/// A signature on its way.
pub enum Signing<Work> {
    /// Here it is.
    Made(Result<Vec<u8>, Refused>),
    /// Takes a while, off the loop of the agent.
    Work(Work),
}

/// Signs: what takes long off the loop of the agent.
pub struct Signer {
    current: Option<IdentityKey>,
    /// A replaced key stays usable for handshakes that began with it.
    previous: Vec<(IdentityKey, Instant)>,
    tls12: bool,
    places: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
    /// Sessions that had their signature; the older half is forgotten when it grows too large.
    signed: HashSet<SessionId>,
    signed_before: HashSet<SessionId>,
}

impl Signer {
    /// Without a key yet.
    pub fn new() -> Self {
        Self {
            current: None,
            previous: Vec::new(),
            tls12: false,
            places: Arc::new(Semaphore::new(AT_ONCE)),
            waiting: Arc::new(Semaphore::new(MOST_WAITING)),
            signed: HashSet::new(),
            signed_before: HashSet::new(),
        }
    }

    /// A new configuration: its key, and how long the one before may still be asked for.
    pub fn use_key(&mut self, key: IdentityKey, tls12: bool, overlap: Duration) {
        let now = Instant::now();
        self.previous.retain(|(_, until)| *until > now);
        if let Some(old) = self.current.replace(key)
            && self.current.as_ref().is_some_and(|new| new.certificate != old.certificate)
        {
            self.previous.push((old, now + overlap));
        }
        self.tls12 = tls12;
    }

    /// Checks a request and makes the signature, or gives the work that makes it.
    ///
    /// # Errors
    /// What is wrong with it; the DMZ host is then suspect, unless it merely asks for too many.
    pub fn sign(
        &mut self,
        session: SessionId,
        handshake: Handshake<'_>,
        request: SignRequest,
    ) -> Result<Signing<impl Future<Output = Result<Vec<u8>, Refused>> + Send + use<>>, Refused> {
        let refuse = |text: String| Refused { situation: Situation::SigningRefused, text };
        if self.signed.contains(&session) || self.signed_before.contains(&session) {
            return Err(refuse("a second signature for the same handshake".to_owned()));
        }
        let kind = signing_request::recognise(&request.message, handshake.direction(), self.tls12)
            .map_err(|error| refuse(error.to_string()))?;
        if let (Kind::CertificateVerify12 { server_chain, client_chain }, Handshake::Called { partner, policy }) =
            (kind, handshake)
        {
            let own = client_chain.first().map(|own| *Fingerprint::of(own).as_bytes());
            if own != Some(request.certificate) {
                return Err(refuse("the handshake shows another certificate of ours".to_owned()));
            }
            // TLS 1.2: the octets tell whom the signature would convince.
            judge::is_partners(&server_chain, partner, policy)?;
        }
        let key =
            self.key(request.certificate).ok_or_else(|| refuse("for a certificate that is not ours".to_owned()))?;
        if self.signed.len() >= MOST_REMEMBERED {
            self.signed_before = std::mem::take(&mut self.signed);
        }
        if is_quick(request.scheme) {
            self.signed.insert(session);
            return Ok(Signing::Made(make(key.as_ref(), &request)));
        }
        let waiting = Arc::clone(&self.waiting).try_acquire_owned().map_err(|_| Refused {
            situation: Situation::SigningFailed,
            text: format!("more than {MOST_WAITING} signatures are asked for at once"),
        })?;
        self.signed.insert(session);
        let places = Arc::clone(&self.places);
        Ok(Signing::Work(async move {
            let failed = |text: String| Refused { situation: Situation::SigningFailed, text };
            let place = places.acquire_owned().await.map_err(|error| failed(error.to_string()))?;
            let signature = tokio::task::spawn_blocking(move || make(key.as_ref(), &request)).await;
            drop((place, waiting));
            signature.map_err(|error| failed(error.to_string()))?
        }))
    }

    /// SHA-256 of the certificates that partners may be shown now.
    pub fn certificates(&self) -> Vec<[u8; 32]> {
        let now = Instant::now();
        let previous = self.previous.iter().filter(|(_, until)| *until > now).map(|(key, _)| key);
        self.current.iter().chain(previous).map(|key| key.certificate).collect()
    }

    fn key(&self, certificate: [u8; 32]) -> Option<Arc<dyn SigningKey>> {
        let now = Instant::now();
        let previous = self.previous.iter().filter(|(_, until)| *until > now).map(|(key, _)| key);
        self.current
            .iter()
            .chain(previous)
            .find(|key| key.certificate == certificate)
            .map(|identity| Arc::clone(&identity.key))
    }
}

/// Whether a signature takes less than it takes two threads to agree on it.
fn is_quick(scheme: u16) -> bool {
    matches!(SignatureScheme::from(scheme), SignatureScheme::ECDSA_NISTP256_SHA256 | SignatureScheme::ED25519)
}

fn make(key: &dyn SigningKey, request: &SignRequest) -> Result<Vec<u8>, Refused> {
    let scheme = SignatureScheme::from(request.scheme);
    let signer = key.choose_scheme(&[scheme]).ok_or_else(|| Refused {
        situation: Situation::SigningRefused,
        text: format!("the identity's key does not sign by {scheme:?}"),
    })?;
    signer
        .sign(&request.message)
        .map_err(|error| Refused { situation: Situation::SigningFailed, text: error.to_string() })
}
