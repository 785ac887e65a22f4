//! The configuration of the proxy, as the backend serves it. Order and names are those of the contract.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use serde::de::{Error as _, IgnoredAny};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::{ApiError, ConfigError, reason};
use crate::value::{Cidr, Fingerprint, HostPort, PrivateKeyPem, check_host, plain, shown};

/// The whole configuration of the proxy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProxyConfig {
    /// Version of this form: always 1.
    #[serde(deserialize_with = "version_1")]
    pub version: u32,
    /// Proxy ID of the one DMZ server that may be linked to; 64 hex digits and `px`.
    #[serde(deserialize_with = "proxy_id")]
    pub proxy_id: String,
    /// Where the DMZ server listens to partners.
    pub listen: Listen,
    /// Source address of outgoing connections; `None` leaves it to the system.
    #[serde(default)]
    pub outgoing_ip: Option<IpAddr>,
    /// The OFTP2 station inside.
    pub receive_daemon: ReceiveDaemon,
    /// Plain TCP through the same link.
    #[serde(default)]
    pub tunnels: Vec<Tunnel>,
    /// The proxyclients.
    #[serde(default)]
    pub clients: Vec<Client>,
    /// What the proxy shows partners.
    pub identity: Identity,
    /// Whom the proxy trusts.
    #[serde(default)]
    pub trust: Trust,
    /// What becomes of a valid certificate that matches no partner.
    #[serde(default)]
    pub unknown_partners: UnknownPartners,
    /// The partners.
    #[serde(default)]
    pub partners: Vec<Partner>,
    /// Bounds of number, time and size.
    #[serde(default)]
    pub limits: Limits,
}

impl ProxyConfig {
    /// Reads a configuration and tells the exact place of what is wrong in it.
    pub fn from_json(json: &[u8]) -> Result<Self, ApiError> {
        from_json(json)
    }
}

fn from_json<T>(json: &[u8]) -> Result<T, ApiError>
where
    T: serde::de::DeserializeOwned,
{
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    // The category of the error does not tell: `null` in an enum's place counts as a syntax error there.
    let value = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        match serde_json::from_slice::<IgnoredAny>(json) {
            Ok(_) => ApiError::Config(ConfigError::of(error)),
            Err(error) => not_json(&error),
        }
    })?;
    deserializer.end().map_err(|error| not_json(&error))?;
    Ok(value)
}

fn not_json(error: &serde_json::Error) -> ApiError {
    ApiError::NotJson { line: error.line(), column: error.column(), reason: reason(error) }
}

/// Where the DMZ server listens to partners.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listen {
    /// Addresses it binds.
    #[serde(default = "everywhere")]
    pub addresses: Vec<IpAddr>,
    /// Its OFTP2 TLS port, 1 to 65535; 6619 is the registered one.
    #[serde(deserialize_with = "port")]
    pub tls_port: u16,
    /// Load balancers whose connections begin with a PROXY protocol v2 header.
    #[serde(default)]
    pub proxy_protocol_from: Vec<Cidr>,
}

/// The OFTP2 station inside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceiveDaemon {
    /// DNS name or address.
    #[serde(deserialize_with = "host")]
    pub host: String,
    /// TCP port, 1 to 65535.
    #[serde(default = "oftp_port", deserialize_with = "port")]
    pub port: u16,
    /// Whether it gets a PROXY protocol v2 header with the partner's address and TLS facts.
    #[serde(default)]
    pub proxy_protocol: bool,
}

/// Plain TCP through the link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tunnel {
    /// Its name in messages.
    pub name: String,
    /// From where it leads.
    pub direction: TunnelDirection,
    /// Where it listens.
    #[serde(deserialize_with = "socket_address")]
    pub listen: SocketAddr,
    /// Where it leads.
    pub connect: HostPort,
    /// Who may use it; never empty.
    #[serde(deserialize_with = "not_empty")]
    pub allow_from: Vec<Cidr>,
    /// Connections at once.
    #[serde(default = "tunnel_sessions")]
    pub max_sessions: u32,
}

/// From where a tunnel leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TunnelDirection {
    /// Listens in the DMZ and connects inside.
    Incoming,
    /// Listens inside and connects from the DMZ.
    Outgoing,
}

/// What one proxyclient is told; it takes the entry whose address is one of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Client {
    /// Its name in messages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// One of its addresses; see [`Client::is_at`].
    pub address: IpAddr,
    /// Port for outgoing sessions of inside stations, 1 to 65535.
    #[serde(deserialize_with = "port")]
    pub listen_port: u16,
    /// Inside stations that may use that port.
    #[serde(default = "loopback")]
    pub allow_from: Vec<Cidr>,
}

impl Client {
    /// Whether the entry is that of a host with this address. `::1` counts as `127.0.0.1`, and an IPv4-mapped
    /// address as its IPv4 form, on both sides.
    pub fn is_at(&self, address: IpAddr) -> bool {
        plain(self.address) == plain(address)
    }
}

/// What the proxy shows partners, as server and as client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The certificate and those that lead from it to its CA, PEM.
    pub certificate_chain_pem: String,
    /// Its private key: PKCS#8, PKCS#1 or SEC1, unencrypted. It never leaves the proxyclient.
    pub private_key_pem: PrivateKeyPem,
}

/// Whom the proxy trusts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Trust {
    /// CA certificates that may issue partner certificates, PEM.
    pub anchors_pem: Vec<String>,
    /// Partner certificates trusted as they are, PEM.
    pub pinned_pem: Vec<String>,
    /// CRLs in force.
    pub crls: Vec<Fingerprint>,
    /// CRL distribution points that the backend knows already.
    pub known_crl_urls: Vec<String>,
    /// What a certificate needs to count as not revoked.
    pub revocation: Revocation,
    /// Oldest TLS version that partners may use.
    pub min_tls_version: TlsVersion,
}

/// What a certificate needs to count as not revoked. One that is revoked is refused unless this is `Off`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Revocation {
    /// A current CRL of its issuer.
    Require,
    /// Nothing; without a current CRL it is accepted with a warning.
    #[default]
    Prefer,
    /// Nothing, and CRLs are not looked at.
    Off,
}

/// A TLS version.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum TlsVersion {
    /// TLS 1.2.
    #[default]
    #[serde(rename = "1.2")]
    Tls12,
    /// TLS 1.3.
    #[serde(rename = "1.3")]
    Tls13,
}

/// What becomes of a valid certificate that matches no partner.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UnknownPartners {
    /// It is refused.
    #[default]
    Refuse,
    /// It is accepted on the anchors alone.
    Accept,
}

/// A partner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Partner {
    /// Its name in messages, records and proxy requests.
    pub name: String,
    /// Whether it may have sessions at all.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// Its certificates: any of these. They tell who it is; trust comes from a pin or a chain.
    #[serde(default)]
    pub certificate_sha256: Vec<Fingerprint>,
    /// RFC 4514 subject names, or `dns:NAME`: any of these, from a chain to one of `issuers`.
    #[serde(default)]
    pub subjects: Vec<String>,
    /// Trust anchors that may issue its certificates.
    #[serde(default)]
    pub issuers: Vec<Fingerprint>,
    /// Identification codes it may use in SSID; empty = any that no other partner lists.
    #[serde(default, deserialize_with = "identification_codes")]
    pub ssid_codes: Vec<String>,
    /// Source addresses of its incoming sessions; empty = any.
    #[serde(default)]
    pub allow_from: Vec<Cidr>,
    /// Its OFTP2 TLS listener, for outgoing sessions.
    #[serde(default)]
    pub address: Option<HostPort>,
    /// Name to check in its server certificate; `None` = pinned or subject match alone.
    #[serde(default, deserialize_with = "server_name")]
    pub server_name: Option<String>,
    /// Extra port on the proxyclient that leads to this partner without any proxy request.
    #[serde(default, deserialize_with = "optional_port")]
    pub listen_port: Option<u16>,
    /// Sessions at once; `None` = the common limit alone.
    #[serde(default)]
    pub max_sessions: Option<u32>,
    /// Source address instead of the common one.
    #[serde(default)]
    pub outgoing_ip: Option<IpAddr>,
    /// How exactly it must follow RFC 5024.
    #[serde(default)]
    pub conformance: Conformance,
    /// Whether its certificate must name the purpose.
    #[serde(default)]
    pub extended_key_usage: ExtendedKeyUsage,
    /// Instead of the common one.
    #[serde(default)]
    pub revocation: Option<Revocation>,
}

/// How exactly a partner must follow RFC 5024.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Conformance {
    /// What working partners are known to do is tolerated and told.
    #[default]
    Standard,
    /// Word by word.
    Strict,
}

/// Whether a certificate must name the purpose it is used for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ExtendedKeyUsage {
    /// Where the extension is there, it must hold the purpose.
    #[default]
    Require,
    /// It is not looked at.
    Ignore,
}

/// Bounds of number, time and size.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// Sessions at once.
    pub max_sessions: u32,
    /// Sessions at once from one address.
    pub max_sessions_per_address: u32,
    /// Connections that have not finished the TLS handshake.
    pub max_unverified: u32,
    /// For the partner's whole TLS handshake.
    #[serde(rename = "handshake_timeout_s", with = "seconds")]
    pub handshake_timeout: Duration,
    /// From the partner's verification to the receive daemon.
    #[serde(rename = "pairing_timeout_s", with = "seconds")]
    pub pairing_timeout: Duration,
    /// Without any Exchange Buffer.
    #[serde(rename = "inactivity_timeout_s", with = "seconds")]
    pub inactivity_timeout: Duration,
    /// For sessions in flight when a daemon ends.
    #[serde(rename = "drain_timeout_s", with = "seconds")]
    pub drain_timeout: Duration,
    /// Largest Exchange Buffer that may be agreed on, 128 to 99999 octets.
    #[serde(deserialize_with = "exchange_buffer")]
    pub max_exchange_buffer: u32,
    /// First refusal time of an address with repeated faults, doubling up to 256 times that; zero = off.
    #[serde(rename = "offender_refuse_s", with = "seconds")]
    pub offender_refuse: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_sessions: 1000,
            max_sessions_per_address: 20,
            max_unverified: 100,
            handshake_timeout: Duration::from_secs(30),
            pairing_timeout: Duration::from_secs(10),
            inactivity_timeout: Duration::from_secs(300),
            drain_timeout: Duration::from_secs(60),
            max_exchange_buffer: 99_999,
            offender_refuse: Duration::ZERO,
        }
    }
}

fn everywhere() -> Vec<IpAddr> {
    vec![Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()]
}

fn loopback() -> Vec<Cidr> {
    "127.0.0.0/8".parse().into_iter().collect()
}

fn oftp_port() -> u16 {
    3305
}

fn tunnel_sessions() -> u32 {
    100
}

fn yes() -> bool {
    true
}

fn version_1<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    match u32::deserialize(deserializer)? {
        1 => Ok(1),
        other => Err(D::Error::custom(format!("version {other} is not known here, 1 expected"))),
    }
}

fn proxy_id<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    match text.strip_suffix("px").map(str::parse::<Fingerprint>) {
        Some(Ok(_)) => Ok(text),
        _ => Err(D::Error::custom(format!("{} is no Proxy ID: 64 hex digits and `px` expected", shown(&text)))),
    }
}

fn port<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u16, D::Error> {
    let number = i64::deserialize(deserializer)?;
    let port = u16::try_from(number).ok().filter(|port| *port != 0);
    port.ok_or_else(|| D::Error::custom(format!("{number} is no port: 1 to 65535 expected")))
}

fn optional_port<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u16>, D::Error> {
    #[derive(Deserialize)]
    #[serde(transparent)]
    struct Port(#[serde(deserialize_with = "port")] u16);
    Ok(Option::<Port>::deserialize(deserializer)?.map(|port| port.0))
}

fn host<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    check_host(&text).map_err(D::Error::custom)?;
    Ok(text)
}

fn server_name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    text.as_deref().map_or(Ok(()), check_host).map_err(D::Error::custom)?;
    Ok(text)
}

fn socket_address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SocketAddr, D::Error> {
    let text = String::deserialize(deserializer)?;
    let address = text.parse().ok().filter(|address: &SocketAddr| address.port() != 0);
    address.ok_or_else(|| D::Error::custom(format!("{} is not address:port", shown(&text))))
}

fn not_empty<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Cidr>, D::Error> {
    let ranges = Vec::deserialize(deserializer)?;
    if ranges.is_empty() {
        return Err(D::Error::custom("at least one address range expected"));
    }
    Ok(ranges)
}

fn identification_codes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(transparent)]
    struct Code(#[serde(deserialize_with = "identification_code")] String);
    Ok(Vec::<Code>::deserialize(deserializer)?.into_iter().map(|code| code.0).collect())
}

fn identification_code<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text.chars().count() > 25 {
        return Err(D::Error::custom(format!("{} has more than 25 characters (RFC 5024, 5.4)", shown(&text))));
    }
    Ok(text)
}

fn exchange_buffer<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    let size = i64::deserialize(deserializer)?;
    let fitting = u32::try_from(size).ok().filter(|size| (128..=99_999).contains(size));
    fitting.ok_or_else(|| D::Error::custom(format!("{size} is no Exchange Buffer size: 128 to 99999 expected")))
}

mod seconds {
    use super::*;

    pub(super) fn serialize<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(time.as_secs())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        u32::deserialize(deserializer).map(|seconds| Duration::from_secs(seconds.into()))
    }
}
