//! Fetches the configuration: at start as soon as it can be had, then every 60 s; each CRL once. What is wrong is told
//! when it begins and when it ends.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use proxylink::situation::Situation;
use seonapi_client::{ApiError, ConfigAnswer, Etag, Fingerprint, ProxyConfig, SeonApi};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::Event;
use super::in_force::{Crls, InForce, Unusable};

/// Between two questions while there is no configuration at all.
const AT_START: Duration = Duration::from_secs(5);
/// CRLs that are asked for at the same time.
const CRLS_AT_ONCE: usize = 4;

/// What came of a question.
pub enum Polled {
    /// A new configuration is to come into force.
    New { config: Arc<InForce>, etag: Option<String> },
    /// A situation began or ended.
    Tell(Situation, String),
    /// The backend refuses the token, and there never was a configuration.
    TokenRefused(String),
    /// A question was answered, or not; the heartbeat is due.
    Done,
}

/// Asks for ever, with this pause.
pub async fn poll(api: Arc<SeonApi>, events: mpsc::Sender<Event>, every: Duration) {
    let mut poller = Poller::new(api);
    loop {
        for polled in poller.ask().await {
            if events.send(Event::Polled(polled)).await.is_err() {
                return;
            }
        }
        tokio::time::sleep(if poller.in_force { every } else { AT_START.min(every) }).await;
    }
}

/// Fetches the configuration once, with its CRLs, for `explain`.
///
/// # Errors
/// Why there is none, in a sentence.
pub async fn once(api: SeonApi) -> Result<Arc<InForce>, String> {
    let mut reasons = Vec::new();
    for polled in Poller::new(Arc::new(api)).ask().await {
        match polled {
            Polled::New { config, .. } => return Ok(config),
            Polled::Tell(situation, text) => reasons.push(format!("{situation}: {text}")),
            Polled::TokenRefused(text) => reasons.push(text),
            Polled::Done => {}
        }
    }
    Err(reasons.join("; "))
}

struct Poller {
    api: Arc<SeonApi>,
    /// The last configuration that was good, with its name.
    known: Option<(Option<Etag>, Box<ProxyConfig>)>,
    crls: HashMap<Fingerprint, Arc<Vec<u8>>>,
    /// CRLs that could not be had, to be asked for with the next question.
    missing: HashSet<Fingerprint>,
    /// CRLs that are left out, as they were told.
    left_out: HashSet<String>,
    /// What was told last of what is wrong, so that it is not told every minute.
    told: Option<(Situation, String)>,
    in_force: bool,
}

impl Poller {
    fn new(api: Arc<SeonApi>) -> Self {
        Self {
            api,
            known: None,
            crls: HashMap::new(),
            missing: HashSet::new(),
            left_out: HashSet::new(),
            told: None,
            in_force: false,
        }
    }

    async fn ask(&mut self) -> Vec<Polled> {
        let mut polled = Vec::new();
        let etag = self.known.as_ref().and_then(|(etag, _)| etag.as_ref());
        match self.api.config(etag).await {
            Ok(ConfigAnswer::NotModified) => {
                self.well(&mut polled);
                if !self.missing.is_empty()
                    && let Some((etag, config)) = self.known.clone()
                    && self.fetch_crls(&config, &mut polled).await
                {
                    self.take(etag, config, &mut polled).await;
                }
            }
            Ok(ConfigAnswer::Config { etag, config, .. }) => self.take(etag, config, &mut polled).await,
            Err(error) if error.refuses_token() && !self.in_force => {
                polled.push(Polled::TokenRefused(error.to_string()));
            }
            Err(error) => {
                let situation = match &error {
                    ApiError::TokenRefused { .. } => Situation::TokenRefused,
                    ApiError::Config(_) | ApiError::NotJson { .. } => Situation::ConfigurationInvalid,
                    _ => Situation::BackendDown,
                };
                self.wrong(situation, error.to_string(), &mut polled);
            }
        }
        polled.push(Polled::Done);
        polled
    }

    async fn take(&mut self, etag: Option<Etag>, config: Box<ProxyConfig>, polled: &mut Vec<Polled>) {
        self.fetch_crls(&config, polled).await;
        let named = |hash: &Fingerprint| Some((*hash.as_octets(), Arc::clone(self.crls.get(hash)?)));
        let crls: Crls = config.trust.crls.iter().filter_map(named).collect();
        let name = etag.as_ref().map(|etag| etag.as_str().to_owned());
        let built = {
            let config = config.clone();
            // Hundreds of CRLs take a while; signatures must not wait for that.
            tokio::task::spawn_blocking(move || InForce::new(&config, crls)).await
        };
        match built {
            Ok(Ok(in_force)) => {
                self.well(polled);
                self.tell_left_out(&in_force, polled);
                self.known = Some((etag, config));
                self.in_force = true;
                polled.push(Polled::New { config: Arc::new(in_force), etag: name });
            }
            Ok(Err(unusable)) => {
                let situation = match unusable {
                    Unusable::Invalid(_) => Situation::ConfigurationInvalid,
                    Unusable::Unsupported(_) => Situation::ConfigurationUnsupported,
                };
                self.wrong(situation, unusable.to_string(), polled);
            }
            Err(error) => self.wrong(Situation::ConfigurationInvalid, error.to_string(), polled),
        }
    }

    /// Fetches the CRLs that the configuration names and that are new, a few at a time. Whether there are more than before.
    async fn fetch_crls(&mut self, config: &ProxyConfig, polled: &mut Vec<Polled>) -> bool {
        self.crls.retain(|hash, _| config.trust.crls.contains(hash));
        self.missing.retain(|hash| config.trust.crls.contains(hash));
        let before = self.crls.len();
        let new: HashSet<_> = config.trust.crls.iter().filter(|hash| !self.crls.contains_key(hash)).copied().collect();
        let (mut new, mut asked) = (new.into_iter(), JoinSet::new());
        loop {
            while asked.len() < CRLS_AT_ONCE
                && let Some(hash) = new.next()
            {
                let api = Arc::clone(&self.api);
                asked.spawn(async move { (hash, api.crl(&hash).await) });
            }
            let Some(answered) = asked.join_next().await else { break };
            let Ok((hash, answer)) = answered else { continue };
            match answer {
                Ok(crl) => {
                    self.crls.insert(hash, Arc::new(crl));
                    self.missing.remove(&hash);
                }
                Err(error) => {
                    if self.missing.insert(hash) {
                        let text = format!("{hash}: {error}; it is asked for again");
                        polled.push(Polled::Tell(Situation::CrlLeftOut, text));
                    }
                }
            }
        }
        self.crls.len() > before
    }

    /// Each once, as long as it is left out.
    fn tell_left_out(&mut self, in_force: &InForce, polled: &mut Vec<Polled>) {
        let (ordinary, told): (Vec<_>, Vec<_>) = in_force.left_out.iter().partition(|crl| crl.fault.is_ordinary());
        ordinary.iter().for_each(|crl| log::debug!("{crl}"));
        let told: HashSet<_> = told.iter().map(ToString::to_string).collect();
        for text in told.difference(&self.left_out) {
            polled.push(Polled::Tell(Situation::CrlLeftOut, text.clone()));
        }
        self.left_out = told;
    }

    fn wrong(&mut self, situation: Situation, text: String, polled: &mut Vec<Polled>) {
        let told = (situation, text);
        if self.told.as_ref() != Some(&told) {
            polled.push(Polled::Tell(told.0, told.1.clone()));
            self.told = Some(told);
        }
    }

    fn well(&mut self, polled: &mut Vec<Polled>) {
        if let Some((Situation::BackendDown | Situation::TokenRefused, _)) = self.told.take() {
            polled.push(Polled::Tell(Situation::BackendUp, format!("{} answers again", self.api.base())));
        }
    }
}
