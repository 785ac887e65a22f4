//! A bundle: the whole configuration of a backend in one file, to keep it or to take it to another host.
//!
//! It is JSON, for its owner alone. It holds the configuration file as it is written, every file that this names within
//! its folder, the CRLs, and of the database what proxyclients need to go on: the security tokens (as hashes) and the
//! CRLs with their distribution points. It holds private keys and the secret of the web-hook only if that was asked for.
//! The system log and the session records stay in the database.

mod export;
mod import;
mod settle;
mod targets;

use std::fs::File;
use std::io::Read;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub use export::export;
pub use import::import;
pub use settle::{alone, settled};

use crate::store::Carried;

/// The form of a bundle; another number is of another release.
const VERSION: u32 = 1;
/// More than all CRLs that anybody has.
const LONGEST: u64 = 1024 * 1024 * 1024;

/// All of it.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Bundle {
    seon_backend_bundle: u32,
    /// When it was made.
    made: String,
    /// Whether private keys are among the files.
    with_private_keys: bool,
    /// The configuration file as it is written.
    configuration: String,
    /// The files that it names.
    files: Vec<Packed>,
    /// What comes from the database.
    database: Carried,
}

/// A file of a bundle: either as text, or in base64 where it is none.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Packed {
    /// Relative to the configuration file.
    path: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    base64: Option<Octets>,
}

impl Packed {
    fn new(path: String, octets: Vec<u8>) -> Self {
        match String::from_utf8(octets) {
            Ok(text) => Self { path, text: Some(text), base64: None },
            Err(error) => Self { path, text: None, base64: Some(Octets(error.into_bytes())) },
        }
    }

    /// What is in it; none where it is said twice or not at all.
    fn octets(&self) -> Option<&[u8]> {
        match (&self.text, &self.base64) {
            (Some(text), None) => Some(text.as_bytes()),
            (None, Some(Octets(octets))) => Some(octets),
            _ => None,
        }
    }
}

/// Octets that stand in a bundle in base64.
#[derive(Debug)]
pub struct Octets(pub Vec<u8>);

/// Reads a bundle; fails with the place of the first thing in it that does not fit.
fn read(path: &Path) -> Result<Bundle, String> {
    let shown = path.display();
    let mut octets = Vec::new();
    let read = File::open(path).and_then(|file| file.take(LONGEST + 1).read_to_end(&mut octets));
    read.map_err(|error| format!("{shown} cannot be read: {error}"))?;
    if octets.len() as u64 > LONGEST {
        return Err(format!("{shown} is longer than {LONGEST} octets, which no bundle is"));
    }
    // What it is comes before what it holds: another release may have other members.
    let any: serde_json::Value =
        serde_json::from_slice(&octets).map_err(|error| format!("{shown}: no JSON: {error}"))?;
    match any.get("seon_backend_bundle").map(|version| (version, version.as_u64())) {
        Some((_, Some(version))) if version == u64::from(VERSION) => {}
        Some((version, _)) => {
            return Err(format!("{shown}: seon_backend_bundle: this release knows version {VERSION}, not {version}"));
        }
        None => return Err(format!("{shown}: no bundle: seon_backend_bundle is missing")),
    }
    drop(any);
    let mut deserializer = serde_json::Deserializer::from_slice(&octets);
    serde_path_to_error::deserialize(&mut deserializer)
        .map_err(|error| format!("{shown}: {}: {}", error.path(), error.inner()))
}

impl Serialize for Octets {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Octets {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        STANDARD.decode(text).map(Self).map_err(|error| serde::de::Error::custom(format_args!("no base64: {error}")))
    }
}
