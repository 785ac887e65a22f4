//! What the proxyclient tells the backend: events, session records, CRL URLs, its status.

use chrono::{DateTime, SecondsFormat, Utc};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

use crate::value::{Fingerprint, ValueError, shown};

/// Most events in one request.
pub const MAX_EVENTS: usize = 1000;
/// Most octets in one request with events.
pub const MAX_EVENTS_BODY: usize = 1024 * 1024;
/// Most session records in one request.
pub const MAX_SESSIONS: usize = 1000;
/// Most CRL URLs in one request.
pub const MAX_CRL_URLS: usize = 64;
/// Most octets in one request with CRL URLs.
pub const MAX_CRL_URLS_BODY: usize = 256 * 1024;
/// Most characters in the message of an event.
const MAX_MESSAGE: usize = 4096;
/// Most characters of a CRL URL.
const MAX_URL: usize = 2048;

/// A line of the system log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Names this event for ever; the backend takes each once.
    #[serde(with = "id")]
    pub id: Uuid,
    /// When it happened; sent to the millisecond.
    #[serde(with = "time")]
    pub time: DateTime<Utc>,
    /// How bad it is.
    pub severity: Severity,
    /// Which program tells it.
    pub component: Component,
    /// Process ID of who tells it.
    pub pid: u32,
    /// Host of that process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Stable kebab-case name of the situation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// What happened, in words.
    pub message: EventMessage,
    /// The session it belongs to.
    #[serde(default)]
    pub session_id: Option<String>,
    /// The partner it is about.
    #[serde(default)]
    pub partner: Option<String>,
    /// The address it is about.
    #[serde(default)]
    pub peer_address: Option<String>,
}

/// How bad an event is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// Something did not work.
    Error,
    /// The daemon ends.
    Fatal,
}

/// Which program tells something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Component {
    /// `seon_proxyserver2`.
    Proxyserver,
    /// `seon_proxyclient2`.
    Proxyclient,
    /// `seon_backend` in its own system log. The contract does not have it: no proxyclient sends it.
    Backend,
}

/// The text of an event: at most 4096 characters, so that no backend refuses it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct EventMessage(String);

impl EventMessage {
    /// The text; of a longer one the end is replaced by `…`.
    pub fn new(text: impl Into<String>) -> Self {
        let mut text = text.into();
        if let Some((end, _)) = text.char_indices().nth(MAX_MESSAGE) {
            text.truncate(end);
            text.pop();
            text.push('…');
        }
        Self(text)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<'de> Deserialize<'de> for EventMessage {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text.chars().count() > MAX_MESSAGE {
            return Err(D::Error::custom("more than 4096 characters"));
        }
        Ok(Self(text))
    }
}

/// The body of a request with events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Events {
    /// The events, in the order of their times for each process.
    pub events: Vec<Event>,
}

/// What became of the events.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventsTaken {
    /// New in the system log.
    pub stored: u64,
    /// Matched by the backend's ignore list.
    pub ignored: u64,
    /// Known already.
    pub duplicate: u64,
}

/// One ended session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionRecord {
    /// Names this session for ever; the backend takes each once.
    #[serde(with = "id")]
    pub id: Uuid,
    /// Who opened it.
    pub direction: SessionDirection,
    /// With which partner, where that was found out.
    #[serde(default)]
    pub partner: Option<String>,
    /// Identification code the partner used.
    #[serde(default)]
    pub ssid_code: Option<String>,
    /// The partner's address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer_address: Option<String>,
    /// The partner's certificate.
    #[serde(default)]
    pub certificate_sha256: Option<Fingerprint>,
    /// TLS version with the partner.
    #[serde(default)]
    pub tls_version: Option<String>,
    /// Cipher suite with the partner.
    #[serde(default)]
    pub cipher_suite: Option<String>,
    /// First moment.
    #[serde(with = "time")]
    pub started: DateTime<Utc>,
    /// Last moment.
    #[serde(with = "time")]
    pub ended: DateTime<Utc>,
    /// How it ended.
    pub outcome: Outcome,
    /// Why it ended so, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Octets of OFTP2 that came from the partner.
    #[serde(default)]
    pub bytes_from_partner: u64,
    /// Octets of OFTP2 that went to the partner.
    #[serde(default)]
    pub bytes_to_partner: u64,
    /// The files that were offered.
    #[serde(default)]
    pub files: Vec<FileRecord>,
}

/// Who opened a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SessionDirection {
    /// The partner.
    Incoming,
    /// An inside station.
    Outgoing,
}

/// How a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// As RFC 5024 has it.
    Completed,
    /// Before its end, by either station or by us.
    Aborted,
    /// Before it began.
    Refused,
    /// By a message that must not pass.
    Violation,
    /// By silence.
    Timeout,
}

/// One file of a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRecord {
    /// Virtual File Dataset Name.
    #[serde(default)]
    pub dataset_name: String,
    /// Its way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub direction: Option<FileDirection>,
    /// Octets of it that passed.
    #[serde(default)]
    pub bytes: u64,
    /// What became of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<FileResult>,
}

/// The way of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileDirection {
    /// To us.
    FromPartner,
    /// From us.
    ToPartner,
}

/// What became of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FileResult {
    /// Taken whole.
    Acknowledged,
    /// Not taken.
    Refused,
    /// Cut off.
    Incomplete,
}

/// The body of a request with session records.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sessions {
    /// The records.
    pub sessions: Vec<SessionRecord>,
}

/// A CRL distribution point seen in a certificate; only such as the contract lets pass.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CrlUrl {
    #[serde(deserialize_with = "crl_url")]
    url: String,
    certificate_sha256: Fingerprint,
    issuer: String,
}

/// Why a distribution point is not sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(transparent)]
pub struct CrlUrlError(ValueError);

impl CrlUrl {
    /// A distribution point; `issuer` is the issuer name of the certificate in RFC 4514 form. Fails for anything but
    /// http and https URLs of at most 2048 characters.
    pub fn new(url: &str, certificate: Fingerprint, issuer: &str) -> Result<Self, CrlUrlError> {
        check_crl_url(url).map_err(CrlUrlError)?;
        Ok(Self { url: url.to_owned(), certificate_sha256: certificate, issuer: issuer.to_owned() })
    }

    /// The URL.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The certificate that names it.
    pub fn certificate(&self) -> Fingerprint {
        self.certificate_sha256
    }

    /// Issuer name of that certificate.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }
}

/// The body of a request with CRL URLs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CrlUrls {
    /// The URLs.
    pub crl_urls: Vec<CrlUrl>,
}

/// What became of the CRL URLs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CrlUrlsTaken {
    /// New to the backend.
    pub added: u64,
    /// Known already.
    pub known: u64,
}

/// Heartbeat of a proxyclient and of the proxyserver it is linked to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The proxyclient.
    pub client: ClientStatus,
    /// Whether it is linked.
    pub link: LinkState,
    /// The proxyserver it is linked to.
    #[serde(default)]
    pub server: Option<ServerStatus>,
}

/// Whether a proxyclient is linked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LinkState {
    /// It is.
    Up,
    /// It is not.
    Down,
}

/// A proxyclient.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ClientStatus {
    /// Its host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Process ID of its gate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// Its version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// ETag of the configuration in force.
    pub config_etag: Option<String>,
}

/// A proxyserver.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ServerStatus {
    /// Its Proxy ID.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy_id: Option<String>,
    /// Process ID of its gate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// Its version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Where it listens to partners.
    pub listening: Vec<String>,
    /// Until when it is licensed.
    #[serde(with = "optional_time")]
    pub licensed_until: Option<DateTime<Utc>>,
    /// Sessions now.
    pub sessions: u32,
}

fn crl_url<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    check_crl_url(&text).map_err(D::Error::custom)?;
    Ok(text)
}

fn check_crl_url(text: &str) -> Result<(), ValueError> {
    if text.chars().count() > MAX_URL {
        return Err(ValueError(format!("the URL has more than {MAX_URL} characters")));
    }
    let host = text.split_once("://").map(|(scheme, rest)| (scheme.to_ascii_lowercase(), rest));
    match host {
        Some((scheme, rest))
            if (scheme == "http" || scheme == "https")
                && !rest.is_empty()
                && !rest.starts_with('/')
                && !text.chars().any(|character| character.is_control() || character.is_whitespace()) =>
        {
            Ok(())
        }
        _ => Err(ValueError(format!("{} is no http or https URL", shown(text)))),
    }
}

mod id {
    use super::*;

    pub(super) fn serialize<S: Serializer>(id: &Uuid, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(id)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Uuid, D::Error> {
        let text = String::deserialize(deserializer)?;
        // The other forms that the crate reads (braces, without hyphens) are not those of RFC 9562, section 4.
        let id = Uuid::try_parse(&text).ok().filter(|_| text.len() == 36);
        id.ok_or_else(|| D::Error::custom(format!("{} is no UUID", shown(&text))))
    }
}

mod time {
    use super::*;

    pub(super) fn serialize<S: Serializer>(time: &DateTime<Utc>, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&time.to_rfc3339_opts(SecondsFormat::Millis, true))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<DateTime<Utc>, D::Error> {
        let text = String::deserialize(deserializer)?;
        let time = DateTime::parse_from_rfc3339(&text);
        time.map(|time| time.to_utc())
            .map_err(|_| D::Error::custom(format!("{} is no time: 2026-12-31T12:00:00Z expected", shown(&text))))
    }
}

mod optional_time {
    use super::*;

    pub(super) fn serialize<S: Serializer>(time: &Option<DateTime<Utc>>, serializer: S) -> Result<S::Ok, S::Error> {
        match time {
            Some(time) => super::time::serialize(time, serializer),
            None => serializer.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<DateTime<Utc>>, D::Error> {
        #[derive(Deserialize)]
        #[serde(transparent)]
        struct Time(#[serde(with = "super::time")] DateTime<Utc>);
        Ok(Option::<Time>::deserialize(deserializer)?.map(|time| time.0))
    }
}
