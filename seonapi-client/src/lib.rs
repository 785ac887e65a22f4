//! Client of the Seon API: what the proxyclient asks of the backend and tells it.
//!
//! The types are those of the contract; each is read strictly (a wrong value is refused with its exact place) and
//! generously (a member that nobody knows is ignored, a missing one has its default). The backend uses them too.

mod base_url;
mod client;
mod config;
mod error;
mod message;
mod refusal;
mod trust;
mod value;

pub use base_url::{BaseUrl, BaseUrlError};
pub use client::{ConfigAnswer, Etag, SeonApi, TOKEN_HEADER, Timeouts};
pub use config::{
    Client, Conformance, ExtendedKeyUsage, Identity, Limits, Listen, Partner, ProxyConfig, ReceiveDaemon, Revocation,
    TlsVersion, Trust, Tunnel, TunnelDirection, UnknownPartners,
};
pub use error::{ApiError, ConfigError, Problem, SetupError};
pub use message::{
    ClientStatus, Component, CrlUrl, CrlUrlError, CrlUrls, CrlUrlsTaken, Event, EventMessage, Events, EventsTaken,
    FileDirection, FileRecord, FileResult, LinkState, MAX_CRL_URLS, MAX_CRL_URLS_BODY, MAX_EVENTS, MAX_EVENTS_BODY,
    MAX_SESSIONS, Outcome, ServerStatus, SessionDirection, SessionRecord, Sessions, Severity, Status,
};
pub use refusal::{MOST_LISTENED, MOST_OWN_PORTS, Reason, Refusal};
pub use trust::CaTrust;
pub use value::{Cidr, Fingerprint, HostPort, PrivateKeyPem, ValueError, plain};
