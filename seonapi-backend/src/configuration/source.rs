//! The configuration file as it is written; names and defaults are those of the contract where it has them.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use chrono::{DateTime, Utc};
use license::ProxyId;
use seonapi_client::{Client, Limits, Listen, Partner, ReceiveDaemon, Revocation, TlsVersion, Tunnel, UnknownPartners};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The whole file.
#[derive(Debug, Serialize, Deserialize)]
pub struct Source {
    /// The backend itself.
    pub backend: Backend,
    /// The proxy as a whole.
    pub proxy: Proxy,
    /// What the proxy shows partners.
    pub identity: KeyFiles,
    /// Where the proxyserver listens to partners.
    pub listen: Listen,
    /// The OFTP2 station inside.
    pub receive_daemon: ReceiveDaemon,
    /// Whom the proxy trusts.
    #[serde(default)]
    pub trust: Trust,
    /// Bounds of number, time and size.
    #[serde(default)]
    pub limits: Limits,
    /// The proxyclients.
    #[serde(default)]
    pub clients: Vec<Client>,
    /// The partners.
    #[serde(default)]
    pub partners: Vec<Partner>,
    /// Plain TCP through the link.
    #[serde(default)]
    pub tunnels: Vec<Tunnel>,
}

/// The part of the file that tells where the backend keeps its things; readable while the rest has mistakes.
#[derive(Debug, Deserialize)]
pub struct BackendOnly {
    /// The backend itself.
    pub backend: Backend,
}

/// The backend itself.
#[derive(Debug, Serialize, Deserialize)]
pub struct Backend {
    /// Where it serves HTTPS; port 0 takes any free one.
    pub listen: SocketAddr,
    /// Its HTTPS certificate and those that lead to its CA, PEM.
    pub certificate_chain: PathBuf,
    /// The private key of that certificate, PEM.
    pub private_key: PathBuf,
    /// The SQLite file.
    pub database: PathBuf,
    /// Program to start for each new event of severity `error` or `fatal`.
    #[serde(default)]
    pub event_script: Option<PathBuf>,
    /// Events that are not worth storing.
    #[serde(default)]
    pub ignore: Vec<Ignore>,
    /// Seconds between two fetches of a CRL from its distribution point; one that ends earlier is fetched earlier.
    #[serde(default = "hour", deserialize_with = "some_seconds")]
    pub crl_interval_s: u32,
    /// Whether CRLs are fetched from this host and from private networks too.
    #[serde(default)]
    pub allow_private_crl_addresses: bool,
}

/// Events with this text in their message are not stored.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Ignore {
    /// Part of the message; upper and lower case do not matter.
    #[serde(deserialize_with = "not_empty")]
    pub text: String,
    /// First moment at which it counts.
    #[serde(default, serialize_with = "write_time", deserialize_with = "read_time")]
    pub from: Option<DateTime<Utc>>,
    /// Last moment at which it counts.
    #[serde(default, serialize_with = "write_time", deserialize_with = "read_time")]
    pub until: Option<DateTime<Utc>>,
}

/// The proxy as a whole.
#[derive(Debug, Serialize, Deserialize)]
pub struct Proxy {
    /// The one proxyserver that may be linked to.
    #[serde(serialize_with = "write_proxy_id", deserialize_with = "read_proxy_id")]
    pub proxy_id: ProxyId,
    /// Source address of outgoing connections.
    #[serde(default)]
    pub outgoing_ip: Option<IpAddr>,
    /// What becomes of a valid certificate that matches no partner.
    #[serde(default)]
    pub unknown_partners: UnknownPartners,
}

/// A certificate chain and its key.
#[derive(Debug, Serialize, Deserialize)]
pub struct KeyFiles {
    /// The certificate and those that lead to its CA, PEM.
    pub certificate_chain: PathBuf,
    /// The private key of that certificate, PEM.
    pub private_key: PathBuf,
}

/// Whom the proxy trusts.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Trust {
    /// CA certificates that may issue partner certificates, PEM; several may stand in one file.
    pub anchors: Vec<PathBuf>,
    /// Partner certificates trusted as they are, PEM; several may stand in one file.
    pub pinned: Vec<PathBuf>,
    /// Folder with the CRLs in force, DER or PEM.
    pub crls: Option<PathBuf>,
    /// CRL distribution points that need not be told.
    pub known_crl_urls: Vec<String>,
    /// What a certificate needs to count as not revoked.
    pub revocation: Revocation,
    /// Oldest TLS version that partners may use.
    pub min_tls_version: TlsVersion,
}

const fn hour() -> u32 {
    3600
}

fn some_seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    match u32::deserialize(deserializer)? {
        seconds @ 1..=86_400 => Ok(seconds),
        _ => Err(D::Error::custom("a number of seconds from 1 to 86400 expected")),
    }
}

fn not_empty<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text.trim().is_empty() {
        return Err(D::Error::custom("an empty text would match every event"));
    }
    Ok(text)
}

fn read_time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<DateTime<Utc>>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let time = DateTime::parse_from_rfc3339(&text);
    time.map(|time| Some(time.to_utc())).map_err(|_| D::Error::custom("a time as \"2026-12-31T12:00:00Z\" expected"))
}

fn write_time<S: Serializer>(time: &Option<DateTime<Utc>>, serializer: S) -> Result<S::Ok, S::Error> {
    time.map(|time| time.to_rfc3339()).serialize(serializer)
}

fn read_proxy_id<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ProxyId, D::Error> {
    String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
}

fn write_proxy_id<S: Serializer>(proxy_id: &ProxyId, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(proxy_id)
}
