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

/// The example that ships, held against the structures: each member stands there, and what it shows can be read.
#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use serde::de::Visitor;
    use serde::forward_to_deserialize_any;

    use super::*;
    use crate::place::Document;

    const EXAMPLE: &str = include_str!("../../../etc/seon_backend.toml");

    /// What the proxyclient does not serve, and nobody is told to set.
    const NOT_IN_USE: [&str; 3] = ["tunnels", "proxy_protocol", "proxy_protocol_from"];

    /// Reads nothing, but keeps which members a structure asks for.
    struct Asked<'a>(&'a mut &'static [&'static str]);

    impl<'de> Deserializer<'de> for Asked<'_> {
        type Error = serde::de::value::Error;

        fn deserialize_struct<V: Visitor<'de>>(
            self,
            _name: &'static str,
            members: &'static [&'static str],
            _visitor: V,
        ) -> Result<V::Value, Self::Error> {
            *self.0 = members;
            Err(Self::Error::custom("asked"))
        }

        fn deserialize_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Self::Error> {
            Err(Self::Error::custom("no structure"))
        }

        forward_to_deserialize_any! {
            bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
            newtype_struct seq tuple tuple_struct map enum identifier ignored_any
        }
    }

    fn members<T: for<'de> Deserialize<'de>>() -> impl Iterator<Item = &'static str> {
        let mut members: &[&str] = &[];
        assert!(T::deserialize(Asked(&mut members)).is_err() && !members.is_empty());
        members.iter().copied().filter(|member| !NOT_IN_USE.contains(member))
    }

    /// The headers and members of the example, those that are commented out included.
    fn lines() -> impl Iterator<Item = &'static str> {
        let is_member = |line: &str| {
            line.split_once(" = ")
                .is_some_and(|(name, _)| name.bytes().all(|c| c.is_ascii_lowercase() || b"_0123456789".contains(&c)))
        };
        EXAMPLE
            .lines()
            .map(|line| line.strip_prefix("# ").unwrap_or(line))
            .filter(move |line| (line.starts_with('[') && line.ends_with(']')) || is_member(line))
    }

    #[test]
    fn the_example_has_every_member_in_its_section() {
        let mut found = BTreeSet::new();
        let mut section = "";
        for line in lines() {
            match line.split_once(" = ") {
                Some((member, _)) => assert!(found.insert((section, member)), "{section}.{member} stands twice"),
                None => section = line.trim_matches(['[', ']']),
            }
            found.insert((section, ""));
        }
        let mut expected: BTreeSet<_> = members::<Source>().map(|section| (section, "")).collect();
        let mut add = |section, members: &mut dyn Iterator<Item = &'static str>| {
            expected.extend(members.map(|member| (section, member)));
        };
        let sections = ["web_hook", "ignore"];
        add("backend", &mut members::<Backend>().filter(|member| !sections.contains(member)));
        add("backend.web_hook", &mut members::<WebHook>().chain([""]));
        add("backend.ignore", &mut members::<Ignore>().chain([""]));
        add("proxy", &mut members::<Proxy>());
        add("identity", &mut members::<KeyFiles>());
        add("listen", &mut members::<Listen>());
        add("receive_daemon", &mut members::<ReceiveDaemon>());
        add("trust", &mut members::<Trust>());
        add("limits", &mut members::<Limits>());
        add("clients", &mut members::<Client>());
        add("partners", &mut members::<Partner>());
        assert_eq!(found, expected);
    }

    #[test]
    fn what_the_example_has_commented_out_can_be_read_and_names_the_defaults() {
        let text: String = lines().map(|line| format!("{line}\n")).collect();
        let document = Document::parse(Path::new("example"), &text).unwrap();
        let source: Source = document.read().unwrap();
        let unknown = document.unknown_members(&serde_json::to_value(&source).unwrap());
        assert!(unknown.is_empty(), "{unknown:?}");
        assert_eq!(source.limits, Limits::default());
        let least: Partner = serde_json::from_str(r#"{ "name": "ACME" }"#).unwrap();
        let shown = &source.partners[0];
        assert_eq!((shown.enabled, shown.conformance), (least.enabled, least.conformance));
        assert_eq!(shown.extended_key_usage, least.extended_key_usage);
    }
}
