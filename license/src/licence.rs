//! The licence file.
//!
//! ```text
//! seon-proxy-licence: 1
//! licensee: Example GmbH
//! proxy-id: ba78…15adpx
//! valid-from: 2026-01-01T00:00:00Z
//! valid-until: 2026-12-31T23:59:59Z
//! signature: 4f0c…
//! client: ed25519:cfd2…2da0 inside1
//! ```
//!
//! The issuer's Ed25519 signature (128 hex digits) is over all lines above it, each without white space at its end and
//! with one line feed; so a file that passed through another editor still holds. Below it the administrator writes
//! one line for each proxyclient that may link. Empty lines and lines that begin with `#` may stand anywhere.

use std::io::Read;
use std::path::Path;
use std::time::SystemTime;

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};

use crate::hex;
use crate::issuer::{IssuerKey, IssuerSecret};
use crate::link_key::ClientKey;
use crate::proxy_id::ProxyId;
use crate::refusal::LicenceError;

const HEAD: &str = "seon-proxy-licence";
const VERSION: &str = "1";
/// A licence takes half a kilobyte, and each client a hundred octets.
const LONGEST: u64 = 1024 * 1024;

/// A licence that its issuer signed; not yet judged by whom and when it is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Licence {
    grant: Grant,
    clients: Vec<Client>,
}

/// What an issuer grants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// To whom, one line.
    pub licensee: String,
    /// The one proxyserver that may run with it.
    pub proxy_id: ProxyId,
    /// First moment of validity, to the second.
    pub valid_from: DateTime<Utc>,
    /// Last moment of validity, to the second.
    pub valid_until: DateTime<Utc>,
}

/// Why a grant cannot be issued.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GrantError {
    /// The licensee cannot stand in its line.
    #[error("the licensee must be one line of text that is not empty")]
    Licensee,
    /// It would never be valid.
    #[error("the licence would end ({until}) before it begins ({from})")]
    NeverValid {
        /// First moment of validity.
        from: DateTime<Utc>,
        /// Last moment of validity.
        until: DateTime<Utc>,
    },
}

/// A proxyclient that may link: one `client:` line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    /// Its public link key.
    pub key: ClientKey,
    /// What the administrator wrote behind the key.
    pub name: Option<String>,
}

/// A licence that lets this proxyserver run now; only [`Licence::check`] makes one.
#[derive(Debug, Clone)]
pub struct ValidLicence(Licence);

impl Licence {
    /// Reads the licence file at `path`; see [`Licence::read`].
    pub fn load(path: &Path, issuer: &IssuerKey) -> Result<Self, LicenceError> {
        let no_access = |error| LicenceError::NoAccess { path: path.to_owned(), error };
        let file = match std::fs::File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(LicenceError::Missing(path.to_owned()));
            }
            Err(error) => return Err(no_access(error)),
        };
        Self::from_file(file, issuer).map_err(|error| match error {
            LicenceError::Gone(error) => no_access(std::io::Error::other(error)),
            error => error,
        })
    }

    /// As [`Licence::load`], of a file that is open already.
    pub fn from_file(file: std::fs::File, issuer: &IssuerKey) -> Result<Self, LicenceError> {
        let mut octets = Vec::new();
        file.take(LONGEST + 1).read_to_end(&mut octets).map_err(|error| LicenceError::Gone(error.to_string()))?;
        if octets.len() as u64 > LONGEST {
            return Err(unreadable(1, "the file is longer than any licence (1 MiB)"));
        }
        let text = String::from_utf8(octets).map_err(|error| {
            let read = error.as_bytes().get(..error.utf8_error().valid_up_to()).unwrap_or_default();
            unreadable(1 + read.iter().filter(|octet| **octet == b'\n').count(), "not a text in UTF-8")
        })?;
        Self::read(&text, issuer)
    }

    /// Reads a licence and checks its signature. Whose it is and when it is valid is left to [`Licence::check`].
    pub fn read(text: &str, issuer: &IssuerKey) -> Result<Self, LicenceError> {
        let mut fields = Fields::default();
        let mut signed = String::new();
        let mut lines = text.lines().enumerate().map(|(at, line)| (at + 1, line.trim_end()));
        let signature = loop {
            let Some((line, content)) = lines.next() else {
                return Err(unreadable(text.lines().count() + 1, "the line `signature:` is missing"));
            };
            match field(line, content)? {
                Some(("signature", value)) => {
                    break hex::decode(value)
                        .ok_or_else(|| unreadable(line, "a signature of 128 hex digits expected"))?;
                }
                Some((name, value)) => fields.take(line, name, value)?,
                None => {}
            }
            signed.push_str(content);
            signed.push('\n');
        };
        if !issuer.has_signed(&signed, &signature) {
            return Err(LicenceError::SignatureWrong { issuer: issuer.to_string() });
        }
        let grant = fields.grant(signed.lines().count() + 1)?;
        let clients =
            lines.filter_map(|(line, content)| client(line, content).transpose()).collect::<Result<_, _>>()?;
        Ok(Self { grant, clients })
    }

    /// Whether the proxyserver `own` may run with this licence at the time `now`.
    pub fn check(&self, own: ProxyId, now: SystemTime) -> Result<ValidLicence, LicenceError> {
        let now = DateTime::<Utc>::from(now);
        if self.grant.proxy_id != own {
            return Err(LicenceError::OtherProxy { licensed: self.grant.proxy_id, own });
        }
        if now < self.grant.valid_from {
            return Err(LicenceError::NotYetValid { from: self.grant.valid_from, now });
        }
        if now > self.grant.valid_until {
            return Err(LicenceError::Expired { until: self.grant.valid_until, now, own });
        }
        if self.clients.is_empty() {
            return Err(LicenceError::NoClient);
        }
        Ok(ValidLicence(self.clone()))
    }

    /// What the issuer granted.
    pub fn grant(&self) -> &Grant {
        &self.grant
    }

    /// The proxyclients that may link.
    pub fn clients(&self) -> &[Client] {
        &self.clients
    }

    /// Whole days until the licence ends, rounded down; negative once it has ended.
    pub fn days_left(&self, now: SystemTime) -> i64 {
        let left = self.grant.valid_until - DateTime::<Utc>::from(now);
        left.num_seconds().div_euclid(TimeDelta::days(1).num_seconds())
    }
}

impl ValidLicence {
    /// The licence itself.
    pub fn as_licence(&self) -> &Licence {
        &self.0
    }

    /// What the issuer granted.
    pub fn grant(&self) -> &Grant {
        self.0.grant()
    }

    /// The proxyclients that may link; at least one.
    pub fn clients(&self) -> &[Client] {
        self.0.clients()
    }

    /// The proxyclient with this public key (SubjectPublicKeyInfo, DER); `None` for one that may not link.
    pub fn client(&self, spki: &[u8]) -> Option<&Client> {
        self.clients().iter().find(|client| client.key.matches_spki(spki))
    }

    /// Whole days until the licence ends, rounded down; negative once it has ended.
    pub fn days_left(&self, now: SystemTime) -> i64 {
        self.0.days_left(now)
    }

    /// Whether it has ended since it was checked.
    pub fn has_expired(&self, now: SystemTime) -> bool {
        DateTime::<Utc>::from(now) > self.grant().valid_until
    }
}

impl Grant {
    /// The text of the licence, signed; `client:` lines may be added below.
    pub fn issue(&self, issuer: &IssuerSecret) -> Result<String, GrantError> {
        if self.licensee.trim().is_empty() || self.licensee.chars().any(char::is_control) {
            return Err(GrantError::Licensee);
        }
        if self.valid_until < self.valid_from {
            return Err(GrantError::NeverValid { from: self.valid_from, until: self.valid_until });
        }
        let signed = format!(
            "{HEAD}: {VERSION}\nlicensee: {}\nproxy-id: {}\nvalid-from: {}\nvalid-until: {}\n",
            self.licensee.trim(),
            self.proxy_id,
            self.valid_from.to_rfc3339_opts(SecondsFormat::Secs, true),
            self.valid_until.to_rfc3339_opts(SecondsFormat::Secs, true),
        );
        let signature = hex::encode(&issuer.sign(&signed));
        Ok(format!("{signed}signature: {signature}\n"))
    }
}

/// The lines above the signature, each at most once.
#[derive(Default)]
struct Fields<'a> {
    version: Option<(usize, &'a str)>,
    licensee: Option<(usize, &'a str)>,
    proxy_id: Option<(usize, &'a str)>,
    valid_from: Option<(usize, &'a str)>,
    valid_until: Option<(usize, &'a str)>,
}

impl<'a> Fields<'a> {
    fn take(&mut self, line: usize, name: &str, value: &'a str) -> Result<(), LicenceError> {
        let place = match name {
            HEAD => &mut self.version,
            "licensee" => &mut self.licensee,
            "proxy-id" => &mut self.proxy_id,
            "valid-from" => &mut self.valid_from,
            "valid-until" => &mut self.valid_until,
            "client" => return Err(unreadable(line, "`client:` lines belong below the signature")),
            _ => return Err(unreadable(line, "no such line in a licence of this version")),
        };
        match place.replace((line, value)) {
            None => Ok(()),
            Some((first, _)) => Err(unreadable(line, &format!("`{name}:` stands in line {first} already"))),
        }
    }

    /// `end` is the line of the signature, where something that is missing would be missed.
    fn grant(&self, end: usize) -> Result<Grant, LicenceError> {
        let required = |field: Option<(usize, &'a str)>, name: &str| {
            field.ok_or_else(|| unreadable(end, &format!("the line `{name}:` is missing above the signature")))
        };
        let time = |field, name| -> Result<DateTime<Utc>, LicenceError> {
            let (line, value) = required(field, name)?;
            let parsed = DateTime::parse_from_rfc3339(value);
            parsed.map(|time| time.to_utc()).map_err(|_| unreadable(line, "a time as 2026-12-31T23:59:59Z expected"))
        };
        let (line, version) = required(self.version, HEAD)?;
        if version != VERSION {
            return Err(unreadable(line, &format!("version {VERSION} expected")));
        }
        let (line, proxy_id) = required(self.proxy_id, "proxy-id")?;
        Ok(Grant {
            licensee: required(self.licensee, "licensee")?.1.to_owned(),
            proxy_id: proxy_id.parse().map_err(|error| unreadable(line, &format!("{error}")))?,
            valid_from: time(self.valid_from, "valid-from")?,
            valid_until: time(self.valid_until, "valid-until")?,
        })
    }
}

/// Name and value of a line; `None` for an empty one and for a comment.
fn field(line: usize, content: &str) -> Result<Option<(&str, &str)>, LicenceError> {
    if content.is_empty() || content.starts_with('#') {
        return Ok(None);
    }
    let (name, value) = content.split_once(':').ok_or_else(|| unreadable(line, "`name: value` expected"))?;
    Ok(Some((name, value.trim())))
}

fn client(line: usize, content: &str) -> Result<Option<Client>, LicenceError> {
    let wrong = |reason: String| LicenceError::UnreadableClient { line, reason };
    if content.is_empty() || content.starts_with('#') {
        return Ok(None);
    }
    let Some(value) = content.strip_prefix("client:") else {
        return Err(wrong("only `client:` lines may stand below the signature".to_owned()));
    };
    let (key, name) = value.trim().split_once(char::is_whitespace).unwrap_or((value.trim(), ""));
    let key = key.parse().map_err(|error| wrong(format!("{error}")))?;
    let name = name.trim();
    Ok(Some(Client { key, name: (!name.is_empty()).then(|| name.to_owned()) }))
}

fn unreadable(line: usize, reason: &str) -> LicenceError {
    LicenceError::Unreadable { line, reason: reason.to_owned() }
}
