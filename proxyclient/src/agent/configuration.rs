//! Fetches the configuration: at start as soon as it can be had, then every 60 s; each CRL once. What is wrong is told
//! when it begins and when it ends.

use std::collections::HashSet;
use std::mem::Discriminant;
use std::sync::Arc;
use std::time::Duration;

use proxylink::situation::Situation;
use seonapi_client::{ApiError, ConfigAnswer, Etag, Fingerprint, ProxyConfig, SeonApi};
use tokio::sync::mpsc;

use super::Event;
use super::crls::CrlStore;
use super::in_force::{InForce, Unusable};

/// Between two questions while there is no configuration at all.
const AT_START: Duration = Duration::from_secs(5);
/// How long a configuration waits for its CRLs. One that disables a partner must not wait for a slow one; what has not come
/// by then is worked with when it is there.
const FETCHING: Duration = Duration::from_secs(30);
/// The same while there is no configuration at all, and nobody comes in. Whoever started the daemon waits, too, and a service
/// manager commonly for no more than 90 s.
const FETCHING_AT_START: Duration = Duration::from_secs(60);

/// What came of a question.
pub enum Polled {
    /// A new configuration is to come into force.
    New { config: Arc<InForce>, etag: Option<String> },
    /// The one in force has this name now.
    Renamed(Option<String>),
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
            Polled::Renamed(_) | Polled::Done => {}
        }
    }
    Err(reasons.join("; "))
}

struct Poller {
    api: Arc<SeonApi>,
    /// The last configuration that was good, with its name.
    known: Option<(Option<Etag>, Box<ProxyConfig>)>,
    crls: CrlStore,
    /// CRLs that are left out when all is compiled, as they were told.
    left_out: HashSet<String>,
    /// What is wrong on the way to the backend, as it was told: not its words, in which it may count or tell the time.
    away: Option<(Situation, Discriminant<ApiError>, Option<u16>)>,
    /// What is wrong with its configuration, and where.
    invalid: Option<(Situation, String)>,
    in_force: bool,
}

impl Poller {
    fn new(api: Arc<SeonApi>) -> Self {
        Self {
            api,
            known: None,
            crls: CrlStore::new(),
            left_out: HashSet::new(),
            away: None,
            invalid: None,
            in_force: false,
        }
    }

    async fn ask(&mut self) -> Vec<Polled> {
        let mut polled = Vec::new();
        let etag = self.known.as_ref().and_then(|(etag, _)| etag.as_ref());
        match self.api.config(etag).await {
            Ok(ConfigAnswer::NotModified) => self.same(&mut polled).await,
            // Tolerated: a backend that sends the whole each time, without a name or whatever name it was told.
            Ok(ConfigAnswer::Config { etag, config, .. }) if self.is_known(&config) => {
                self.rename(etag, &mut polled);
                self.same(&mut polled).await;
            }
            Ok(ConfigAnswer::Config { etag, config, .. }) => {
                self.answers(&mut polled);
                let told = self.crls.name(&config.trust.crls);
                polled.extend(told.map(|text| Polled::Tell(Situation::CrlLeftOut, text)));
                self.fetch_crls(&mut polled).await;
                self.take(etag, config, &mut polled).await;
            }
            Err(error) if error.refuses_token() && !self.in_force => {
                polled.push(Polled::TokenRefused(error.to_string()));
            }
            Err(error @ ApiError::Config(_)) => {
                self.answers(&mut polled);
                let text = error.to_string();
                self.is_invalid(Situation::ConfigurationInvalid, text.clone(), text, &mut polled);
            }
            Err(error @ ApiError::NotJson { .. }) => {
                self.answers(&mut polled);
                // It may be any page, with the time of day in it.
                self.is_invalid(Situation::ConfigurationInvalid, String::new(), error.to_string(), &mut polled);
            }
            Err(error) => self.is_away(&error, &mut polled),
        }
        polled.push(Polled::Done);
        polled
    }

    fn is_known(&self, config: &ProxyConfig) -> bool {
        self.known.as_ref().is_some_and(|(_, known)| **known == *config)
    }

    fn rename(&mut self, etag: Option<Etag>, polled: &mut Vec<Polled>) {
        let Some((known, _)) = &mut self.known else { return };
        if *known != etag {
            polled.push(Polled::Renamed(etag.as_ref().map(|etag| etag.as_str().to_owned())));
            *known = etag;
        }
    }

    /// The known one is still the right one; CRLs of it may be lacking.
    async fn same(&mut self, polled: &mut Vec<Polled>) {
        self.answers(polled);
        self.is_good(polled);
        if let Some((_, config)) = &self.known {
            // One that was refused in between may have named others.
            self.crls.name(&config.trust.crls);
        }
        if self.crls.waits()
            && let Some((etag, config)) = self.known.clone()
            && self.fetch_crls(polled).await
        {
            self.take(etag, config, polled).await;
        }
    }

    async fn take(&mut self, etag: Option<Etag>, config: Box<ProxyConfig>, polled: &mut Vec<Polled>) {
        let crls = self.crls.at_hand();
        let name = etag.as_ref().map(|etag| etag.as_str().to_owned());
        let built = {
            let config = config.clone();
            // Hundreds of CRLs take a while; signatures must not wait for that.
            tokio::task::spawn_blocking(move || InForce::new(&config, crls)).await
        };
        match built {
            Ok(Ok(in_force)) => {
                self.is_good(polled);
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
                let text = unusable.to_string();
                self.is_invalid(situation, text.clone(), text, polled);
            }
            Err(error) => {
                let text = error.to_string();
                self.is_invalid(Situation::ConfigurationInvalid, text.clone(), text, polled);
            }
        }
    }

    /// Fetches the CRLs that are lacking. Whether there are others than before.
    async fn fetch_crls(&mut self, polled: &mut Vec<Polled>) -> bool {
        let api = &self.api;
        let ask = |hash: Fingerprint| {
            let api = Arc::clone(api);
            async move { api.crl(&hash).await }
        };
        let within = if self.in_force { FETCHING } else { FETCHING_AT_START };
        self.crls.fetch(within, ask, |text| polled.push(Polled::Tell(Situation::CrlLeftOut, text))).await
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

    /// No configuration can be had, nor the word that there is no other.
    fn is_away(&mut self, error: &ApiError, polled: &mut Vec<Polled>) {
        let (situation, status) = match error {
            ApiError::TokenRefused { status, .. } => (Situation::TokenRefused, Some(*status)),
            ApiError::Status { status, .. } => (Situation::BackendDown, Some(*status)),
            _ => (Situation::BackendDown, None),
        };
        let away = Some((situation, std::mem::discriminant(error), status));
        if self.away != away {
            polled.push(Polled::Tell(situation, error.to_string()));
            self.away = away;
        }
    }

    /// The backend answers, whatever its configuration is worth.
    fn answers(&mut self, polled: &mut Vec<Polled>) {
        if self.away.take().is_some() {
            polled.push(Polled::Tell(Situation::BackendUp, format!("{} answers again", self.api.base())));
        }
    }

    /// Its configuration cannot be worked with, for what is wrong at this place.
    fn is_invalid(&mut self, situation: Situation, place: String, text: String, polled: &mut Vec<Polled>) {
        let invalid = Some((situation, place));
        if self.invalid != invalid {
            polled.push(Polled::Tell(situation, text));
            self.invalid = invalid;
        }
    }

    fn is_good(&mut self, polled: &mut Vec<Polled>) {
        if let Some((situation, _)) = self.invalid.take() {
            let text = format!("{situation} has ended: the backend's configuration is good again");
            polled.push(Polled::Tell(Situation::ConfigurationMended, text));
        }
    }
}

#[cfg(test)]
mod tests;
