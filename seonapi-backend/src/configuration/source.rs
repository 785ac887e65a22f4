//! The configuration file as it is written; names and defaults are those of the contract where it has them.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use chrono::{DateTime, Utc};
use license::ProxyId;
use seonapi_client::{Client, Limits, Listen, Partner, ReceiveDaemon, Revocation, TlsVersion, Tunnel, UnknownPartners};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::journal::Level;

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
    /// Events that are kept, the newest.
    #[serde(default = "million", deserialize_with = "rows")]
    pub keep_events: u32,
    /// Session records that are kept, the newest.
    #[serde(default = "million", deserialize_with = "rows")]
    pub keep_sessions: u32,
    /// The backend's own log, to whose name the date is added; none is standard error.
    #[serde(default)]
    pub log_file: Option<PathBuf>,
    /// Least level that is written to it.
    #[serde(default)]
    pub log_level: Level,
    /// Program to start for each new event of severity `error` or `fatal`.
    #[serde(default)]
    pub event_script: Option<PathBuf>,
    /// Seconds that one run of it may take.
    #[serde(default = "minute", deserialize_with = "seconds_of_a_run")]
    pub event_script_timeout_s: u32,
    /// Runs of it at once.
    #[serde(default = "two", deserialize_with = "at_once")]
    pub event_script_at_once: u32,
    /// What is posted such an event, instead of a program.
    #[serde(default)]
    pub web_hook: Option<WebHook>,
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

/// Where each new event of severity `error` or `fatal` is posted to.
#[derive(Debug, Serialize, Deserialize)]
pub struct WebHook {
    /// An https URL; http is for this host alone, unless `allow_http`.
    pub url: String,
    /// CA certificates that the other side's one must come from, PEM, instead of the system's.
    #[serde(default)]
    pub ca: Option<PathBuf>,
    /// File with a secret that is sent along.
    #[serde(default)]
    pub secret_file: Option<PathBuf>,
    /// Credential of the service manager with that secret, instead of a file.
    #[serde(default)]
    pub secret_credential: Option<String>,
    /// The header that the secret is sent in.
    #[serde(default = "secret_header")]
    pub secret_header: String,
    /// Whether an http URL may lead to another host.
    #[serde(default)]
    pub allow_http: bool,
    /// Seconds that one call may take.
    #[serde(default = "ten", deserialize_with = "seconds_of_a_run")]
    pub timeout_s: u32,
    /// Calls for one event, until one is answered well.
    #[serde(default = "six", deserialize_with = "tries")]
    pub tries: u32,
    /// Calls at once.
    #[serde(default = "two", deserialize_with = "at_once")]
    pub at_once: u32,
}

/// Events with this text in their message are not stored.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
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

impl Ignore {
    /// Whether its time is now.
    pub fn is_in_force(&self, now: DateTime<Utc>) -> bool {
        self.from.is_none_or(|from| from <= now) && self.until.is_none_or(|until| now <= until)
    }
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

const fn million() -> u32 {
    1_000_000
}

const fn minute() -> u32 {
    60
}

const fn two() -> u32 {
    2
}

const fn six() -> u32 {
    6
}

const fn ten() -> u32 {
    10
}

fn secret_header() -> String {
    "X-Seon-Secret".to_owned()
}

fn within<'de, D: Deserializer<'de>>(deserializer: D, least: u32, most: u32) -> Result<u32, D::Error> {
    match i64::deserialize(deserializer)?.try_into() {
        Ok(number) if (least..=most).contains(&number) => Ok(number),
        _ => Err(D::Error::custom(format_args!("a number from {least} to {most} expected"))),
    }
}

fn seconds_of_a_run<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    within(deserializer, 1, 3600)
}

fn rows<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    within(deserializer, 100, 100_000_000)
}

fn at_once<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    within(deserializer, 1, 16)
}

fn tries<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    within(deserializer, 1, 20)
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
