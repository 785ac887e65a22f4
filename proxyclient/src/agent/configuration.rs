//! Fetches the configuration: at start as soon as it can be had, then every 60 s; each CRL once. What is wrong is told
//! when it begins and when it ends.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use proxylink::situation::Situation;
use seonapi_client::{ApiError, ConfigAnswer, Etag, Fingerprint, ProxyConfig, SeonApi};
use tokio::sync::mpsc;

use super::Event;
use super::in_force::{InForce, Unusable};

/// Between two questions, as the contract has it.
const EVERY: Duration = Duration::from_secs(60);
/// Between two questions while there is no configuration at all.
const AT_START: Duration = Duration::from_secs(5);

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

/// Asks for ever.
pub async fn poll(api: Arc<SeonApi>, events: mpsc::Sender<Event>) {
    let mut poller = Poller { api, known: None, crls: HashMap::new(), missing: false, told: None, in_force: false };
    loop {
        for polled in poller.ask().await {
            if events.send(Event::Polled(polled)).await.is_err() {
                return;
            }
        }
        tokio::time::sleep(if poller.in_force { EVERY } else { AT_START }).await;
    }
}

struct Poller {
    api: Arc<SeonApi>,
    /// The last configuration that was good, with its name.
    known: Option<(Option<Etag>, Box<ProxyConfig>)>,
    crls: HashMap<Fingerprint, Vec<u8>>,
    /// A CRL could not be had; ask for it with the next question.
    missing: bool,
    /// What was told last of what is wrong, so that it is not told every minute.
    told: Option<(Situation, String)>,
    in_force: bool,
}

impl Poller {
    async fn ask(&mut self) -> Vec<Polled> {
        let mut polled = Vec::new();
        let etag = self.known.as_ref().and_then(|(etag, _)| etag.as_ref());
        match self.api.config(etag).await {
            Ok(ConfigAnswer::NotModified) => {
                self.well(&mut polled);
                if self.missing
                    && let Some((etag, config)) = self.known.take()
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
        let crls = self.crls(&config, polled).await;
        let name = etag.as_ref().map(|etag| etag.as_str().to_owned());
        let built = {
            let config = config.clone();
            // Hundreds of CRLs take a while; signatures must not wait for that.
            tokio::task::spawn_blocking(move || InForce::new(&config, crls)).await
        };
        match built {
            Ok(Ok(in_force)) => {
                self.well(polled);
                for text in &in_force.left_out {
                    polled.push(Polled::Tell(Situation::CrlLeftOut, text.clone()));
                }
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

    /// The CRLs that the configuration names, those that are new fetched singly.
    async fn crls(&mut self, config: &ProxyConfig, polled: &mut Vec<Polled>) -> Vec<Vec<u8>> {
        self.crls.retain(|hash, _| config.trust.crls.contains(hash));
        self.missing = false;
        for hash in &config.trust.crls {
            if self.crls.contains_key(hash) {
                continue;
            }
            match self.api.crl(hash).await {
                Ok(crl) => {
                    self.crls.insert(*hash, crl);
                }
                Err(error) => {
                    self.missing = true;
                    polled.push(Polled::Tell(Situation::CrlLeftOut, format!("{hash}: {error}; it is asked for again")));
                }
            }
        }
        config.trust.crls.iter().filter_map(|hash| self.crls.get(hash).cloned()).collect()
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
