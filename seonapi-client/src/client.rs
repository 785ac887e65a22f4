//! The calls of the Seon API.

use std::time::Duration;

use aws_lc_rs::digest;
use reqwest::header::{ACCEPT, CONTENT_TYPE, ETAG, HeaderMap, HeaderName, HeaderValue, IF_NONE_MATCH};
use reqwest::{Method, RequestBuilder, Response, StatusCode, redirect, retry};
use rustls::crypto::CryptoProvider;
use serde::Serialize;
use zeroize::Zeroizing;

use crate::base_url::BaseUrl;
use crate::config::ProxyConfig;
use crate::error::{ApiError, Problem, SetupError};
use crate::message::{
    CrlUrl, CrlUrlsTaken, Event, EventsTaken, MAX_CRL_URLS, MAX_CRL_URLS_BODY, MAX_EVENTS, MAX_EVENTS_BODY,
    MAX_SESSIONS, SessionRecord, Status,
};
use crate::trust::CaTrust;
use crate::value::{Fingerprint, shown};

/// The header that carries the security token.
pub const TOKEN_HEADER: &str = "x-seon-token";
/// Most octets of a configuration.
const MAX_CONFIG: u64 = 16 * 1024 * 1024;
/// Most octets of a CRL.
const MAX_CRL: u64 = 64 * 1024 * 1024;
/// Most octets of any other answer.
const MAX_ANSWER: u64 = 1024 * 1024;
/// Connections are kept for the next call of the same round only: idle until the next poll, a firewall would drop
/// them silently.
const KEEP: Duration = Duration::from_secs(15);

/// A client of one backend with one security token. Cloning it is cheap and shares its connections.
#[derive(Clone)]
pub struct SeonApi {
    http: reqwest::Client,
    base: BaseUrl,
    token: HeaderValue,
    timeouts: Timeouts,
}

/// How long a call may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// For name, TCP and TLS.
    pub connect: Duration,
    /// Between two octets of an answer.
    pub read: Duration,
    /// From the call to the last octet of the answer.
    pub total: Duration,
}

impl Default for Timeouts {
    /// 10 s to connect, 30 s of silence, 120 s in all (64 MiB at 4.5 Mbit/s).
    fn default() -> Self {
        Self { connect: Duration::from_secs(10), read: Duration::from_secs(30), total: Duration::from_secs(120) }
    }
}

/// What names one state of the configuration; opaque.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Etag(HeaderValue);

impl Etag {
    /// As the backend wrote it, with its quotes.
    pub fn as_str(&self) -> &str {
        self.0.to_str().unwrap_or_default()
    }

    /// An ETag that was kept; `None` for a text that cannot be one.
    pub fn new(text: &str) -> Option<Self> {
        HeaderValue::from_str(text).ok().and_then(Self::of)
    }

    fn of(value: HeaderValue) -> Option<Self> {
        (value.len() <= 1024 && value.to_str().is_ok_and(|text| !text.is_empty())).then_some(Self(value))
    }
}

/// The answer to the question for the configuration.
#[derive(Debug, Clone)]
pub enum ConfigAnswer {
    /// The one that was named is still the right one.
    NotModified,
    /// Here it is.
    Config {
        /// Its name for the next question. Tolerated: a backend that sends none is asked for the whole each time.
        etag: Option<Etag>,
        /// The configuration.
        config: Box<ProxyConfig>,
        /// Octets of its JSON text.
        size: usize,
    },
}

impl SeonApi {
    /// A client; it connects at its first call. Redirects are not followed, and proxies that the environment names
    /// are not used: the token goes to the given URL or nowhere.
    pub fn new(base: BaseUrl, token: &str, trust: &CaTrust, timeouts: Timeouts) -> Result<Self, SetupError> {
        let mut token = HeaderValue::from_str(token).map_err(|_| SetupError::Token)?;
        token.set_sensitive(true);
        let builder = reqwest::Client::builder()
            .user_agent(concat!("seonapi-client/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(timeouts.connect)
            .read_timeout(timeouts.read)
            .timeout(timeouts.total)
            .redirect(redirect::Policy::none())
            .referer(false)
            .no_proxy()
            .retry(retry::never())
            .pool_idle_timeout(KEEP)
            .tcp_nodelay(true);
        let builder = match trust.tls()? {
            Some(tls) => builder.tls_backend_preconfigured(tls),
            None => {
                // reqwest takes the process's provider here, and panics without one.
                if CryptoProvider::get_default().is_none() {
                    // It fails where another thread was faster: there is one then.
                    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
                }
                builder
            }
        };
        let http = builder.build().map_err(|error| SetupError::Tls(innermost(&error)))?;
        Ok(Self { http, base, token, timeouts })
    }

    /// The backend's URL, for messages.
    pub fn base(&self) -> &BaseUrl {
        &self.base
    }

    /// Asks for the configuration; with `known`, only for one that is another than that.
    pub async fn config(&self, known: Option<&Etag>) -> Result<ConfigAnswer, ApiError> {
        let mut request = self.request(Method::GET, "/proxy/v1/config");
        if let Some(etag) = known {
            request = request.header(IF_NONE_MATCH, etag.0.clone());
        }
        let response = self.send(request.header(ACCEPT, "application/json")).await?;
        match response.status() {
            // A 304 that nobody asked for would leave the caller without any configuration.
            StatusCode::NOT_MODIFIED if known.is_some() => Ok(ConfigAnswer::NotModified),
            StatusCode::OK => {
                let etag = response.headers().get(ETAG).cloned().and_then(Etag::of);
                // It holds a private key.
                let json = Zeroizing::new(self.body(response, MAX_CONFIG).await?);
                let config = Box::new(ProxyConfig::from_json(&json)?);
                Ok(ConfigAnswer::Config { etag, config, size: json.len() })
            }
            _ => Err(self.refusal(response, "200 or 304").await),
        }
    }

    /// Asks for a CRL, DER. What comes has that hash.
    pub async fn crl(&self, asked: &Fingerprint) -> Result<Vec<u8>, ApiError> {
        let request = self.request(Method::GET, &format!("/proxy/v1/crls/{asked}"));
        let response = self.send(request.header(ACCEPT, "application/pkix-crl")).await?;
        match response.status() {
            StatusCode::OK => {
                // Piece by piece as they come: a large CRL in one go would hold up whoever shares this thread.
                let mut hash = digest::Context::new(&digest::SHA256);
                let der = self.body_seen(response, MAX_CRL, |chunk| hash.update(chunk)).await?;
                let found = Fingerprint::from_digest(&hash.finish());
                if found != *asked {
                    return Err(ApiError::WrongHash { asked: *asked, found });
                }
                Ok(der)
            }
            StatusCode::NOT_FOUND => Err(ApiError::NoSuchCrl(*asked)),
            _ => Err(self.refusal(response, "200").await),
        }
    }

    /// Tells CRL distribution points, in as many requests as the contract's bounds ask for. After an error some may
    /// have arrived; telling them again does no harm.
    pub async fn add_crl_urls(&self, urls: &[CrlUrl]) -> Result<CrlUrlsTaken, ApiError> {
        let mut taken = CrlUrlsTaken::default();
        for body in bodies("crl_urls", &texts(urls)?, MAX_CRL_URLS, MAX_CRL_URLS_BODY) {
            let answer: CrlUrlsTaken = self.post("/proxy/v1/crl-urls", body).await?;
            taken.added = taken.added.saturating_add(answer.added);
            taken.known = taken.known.saturating_add(answer.known);
        }
        Ok(taken)
    }

    /// Tells events, in as many requests as the contract's bounds ask for. After an error some may have arrived;
    /// the backend drops those that come again.
    pub async fn add_events(&self, events: &[Event]) -> Result<EventsTaken, ApiError> {
        self.add_event_texts(&texts(events)?).await
    }

    /// The same for events that are JSON texts already, each as an [`Event`] is serialized.
    pub async fn add_event_texts(&self, events: &[impl AsRef<[u8]>]) -> Result<EventsTaken, ApiError> {
        let mut taken = EventsTaken::default();
        for body in bodies("events", events, MAX_EVENTS, MAX_EVENTS_BODY) {
            let answer: EventsTaken = self.post("/proxy/v1/events", body).await?;
            taken.stored = taken.stored.saturating_add(answer.stored);
            taken.ignored = taken.ignored.saturating_add(answer.ignored);
            taken.duplicate = taken.duplicate.saturating_add(answer.duplicate);
        }
        Ok(taken)
    }

    /// Tells session records; see [`SeonApi::add_events`].
    pub async fn add_sessions(&self, sessions: &[SessionRecord]) -> Result<(), ApiError> {
        self.add_session_texts(&texts(sessions)?).await
    }

    /// The same for session records that are JSON texts already, each as a [`SessionRecord`] is serialized.
    pub async fn add_session_texts(&self, sessions: &[impl AsRef<[u8]>]) -> Result<(), ApiError> {
        for body in bodies("sessions", sessions, MAX_SESSIONS, MAX_EVENTS_BODY) {
            let request = self.request(Method::POST, "/proxy/v1/sessions").header(CONTENT_TYPE, "application/json");
            let response = self.send(request.body(body)).await?;
            if response.status() != StatusCode::ACCEPTED {
                return Err(self.refusal(response, "202").await);
            }
        }
        Ok(())
    }

    /// Tells the state of this client and of the server it is linked to.
    pub async fn put_status(&self, status: &Status) -> Result<(), ApiError> {
        let response = self.send(self.request(Method::PUT, "/proxy/v1/status").json(status)).await?;
        match response.status() {
            StatusCode::NO_CONTENT => Ok(()),
            _ => Err(self.refusal(response, "204").await),
        }
    }

    /// What the backend counts; nothing when it does not count as agreed, since it has taken all of it nevertheless.
    async fn post<T: serde::de::DeserializeOwned + Default>(&self, path: &str, body: Vec<u8>) -> Result<T, ApiError> {
        let request = self.request(Method::POST, path).header(CONTENT_TYPE, "application/json").body(body);
        let response = self.send(request).await?;
        match response.status() {
            StatusCode::ACCEPTED => {
                let counts = self.body(response, MAX_ANSWER).await.unwrap_or_default();
                Ok(serde_json::from_slice(&counts).unwrap_or_default())
            }
            _ => Err(self.refusal(response, "202").await),
        }
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        // reqwest makes HTTP Basic of the URL's user and password, and takes them out of it.
        let mut headers = HeaderMap::new();
        headers.insert(HeaderName::from_static(TOKEN_HEADER), self.token.clone());
        self.http.request(method, self.base.operation(path)).headers(headers)
    }

    async fn send(&self, request: RequestBuilder) -> Result<Response, ApiError> {
        request.send().await.map_err(|error| self.error(error))
    }

    /// The body, read no further than `limit` octets.
    async fn body(&self, response: Response, limit: u64) -> Result<Vec<u8>, ApiError> {
        self.body_seen(response, limit, |_| ()).await
    }

    /// As [`SeonApi::body`]; `see` gets each piece as it comes.
    async fn body_seen(
        &self,
        mut response: Response,
        limit: u64,
        mut see: impl FnMut(&[u8]),
    ) -> Result<Vec<u8>, ApiError> {
        if response.content_length().is_some_and(|length| length > limit) {
            return Err(ApiError::AnswerTooLarge { limit });
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.error(error))? {
            if body.len() as u64 + chunk.len() as u64 > limit {
                return Err(ApiError::AnswerTooLarge { limit });
            }
            see(&chunk);
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    /// What an answer means that is not the expected one.
    async fn refusal(&self, response: Response, expected: &'static str) -> ApiError {
        let status = response.status();
        let media_type = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
        let media_type = media_type.split(';').next().unwrap_or("").trim();
        let is_problem = media_type.eq_ignore_ascii_case(Problem::MEDIA_TYPE);
        let problem = match self.body(response, MAX_ANSWER).await {
            Ok(body) if is_problem => serde_json::from_slice::<Problem>(&body).ok(),
            _ => None,
        };
        let said = problem.as_ref().map(Problem::shown);
        match status {
            // Whether it is one is told by its type: a backend that words it badly means the token all the same.
            StatusCode::UNAUTHORIZED if !is_problem => ApiError::CredentialsRefused,
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                ApiError::TokenRefused { status: status.as_u16(), reason: said.unwrap_or_else(|| shown("")) }
            }
            StatusCode::PAYLOAD_TOO_LARGE => ApiError::RequestTooLarge,
            _ => ApiError::Status {
                status: status.as_u16(),
                expected,
                is_problem,
                reason: said.map(|said| format!(": {said}")).unwrap_or_default(),
            },
        }
    }

    fn error(&self, error: reqwest::Error) -> ApiError {
        ApiError::of(error, self.timeouts.connect, self.timeouts.total)
    }
}

impl std::fmt::Debug for SeonApi {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SeonApi({}, token ***)", self.base)
    }
}

/// Each item as JSON.
fn texts(items: &[impl Serialize]) -> Result<Vec<Vec<u8>>, ApiError> {
    let text = |item| serde_json::to_vec(item).map_err(|error| ApiError::Request(error.to_string()));
    items.iter().map(text).collect()
}

/// The items as JSON bodies `{"member": […]}`, each within both bounds; an item that is too large alone goes alone.
fn bodies(member: &str, items: &[impl AsRef<[u8]>], most: usize, octets: usize) -> Vec<Vec<u8>> {
    let head = format!("{{\"{member}\":[");
    let mut bodies: Vec<Vec<u8>> = Vec::new();
    let mut count = 0;
    for item in items {
        let json = item.as_ref();
        match bodies.last_mut() {
            Some(body) if count < most && body.len() + json.len() + ",]}".len() <= octets => {
                body.push(b',');
                body.extend_from_slice(json);
                count += 1;
            }
            _ => {
                bodies.push([head.as_bytes(), json].concat());
                count = 1;
            }
        }
    }
    bodies.iter_mut().for_each(|body| body.extend_from_slice(b"]}"));
    bodies
}

fn innermost(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_keep_both_bounds_and_lose_nothing() {
        let items: Vec<String> = (0..7).map(|number| "x".repeat(number)).collect();
        let bodies = bodies("events", &texts(&items).unwrap(), 3, 26);
        let read: Vec<serde_json::Value> = bodies.iter().map(|body| serde_json::from_slice(body).unwrap()).collect();
        let sizes: Vec<usize> = read.iter().map(|body| body["events"].as_array().unwrap().len()).collect();
        // {"events":["","x","xx"]} has 24 octets, with "xxx","xxxx" it has 26, the two last ones need one each.
        assert_eq!(sizes, [3, 2, 1, 1]);
        let all: Vec<_> = read.iter().flat_map(|body| body["events"].as_array().unwrap().clone()).collect();
        assert_eq!(all, items);
        assert!(bodies.iter().all(|body| body.len() <= 26));
    }

    #[test]
    fn nothing_to_tell_is_no_request() {
        assert!(bodies("events", &[] as &[&[u8]], 3, 26).is_empty());
    }
}
