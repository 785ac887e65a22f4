//! What can go wrong between client and backend: whose turn it is, in one sentence each.
//!
//! No message holds the token, the URL's password or anything from it; what the backend wrote is escaped and cut.

use std::error::Error as _;
use std::path::PathBuf;
use std::time::Duration;

use rustls::CertificateError;
use serde::{Deserialize, Serialize};

use crate::value::{Fingerprint, shown};

/// Why a call of the backend failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApiError {
    /// 401 with a problem document, or 403: the backend itself refuses the token.
    #[error("the backend refuses the security token ({status}): {reason}")]
    TokenRefused {
        /// 401 for an unknown token, 403 for a disabled one.
        status: u16,
        /// What the backend says about it.
        reason: String,
    },
    /// 401 without a problem document: a web server in front wants user and password.
    #[error("a web server in front of the backend wants a user and password (401); put them right into the URL")]
    CredentialsRefused,
    /// No connection.
    #[error("the backend cannot be reached: {0}")]
    Unreachable(String),
    /// Connected, and no connection by TLS.
    #[error("no TLS connection with the backend: {0}")]
    Tls(String),
    /// It took too long.
    #[error("the backend does not answer in time ({0})")]
    TimedOut(String),
    /// The connection ended in the middle of an answer, or what came is not HTTP.
    #[error("the answer of the backend broke off: {0}")]
    Broken(String),
    /// An answer that the contract does not have here.
    #[error("the backend answers {status} where {expected} was expected{reason}")]
    Status {
        /// The status.
        status: u16,
        /// What the contract has here.
        expected: &'static str,
        /// Whether it came as a problem document, so from the backend and not from a web server in front of it.
        is_problem: bool,
        /// What the backend says about it, with a colon before it; or nothing.
        reason: String,
    },
    /// 413.
    #[error("the backend takes nothing of that size (413)")]
    RequestTooLarge,
    /// A body longer than the contract allows.
    #[error("the answer of the backend is longer than {limit} octets")]
    AnswerTooLarge {
        /// Most octets that are read.
        limit: u64,
    },
    /// The body is not JSON at all.
    #[error("the answer of the backend is not JSON: line {line}, column {column}: {reason}")]
    NotJson {
        /// Line in the body, from 1.
        line: usize,
        /// Column in that line, from 1.
        column: usize,
        /// What was wrong there.
        reason: String,
    },
    /// JSON, and no configuration.
    #[error("the configuration is invalid: {0}")]
    Config(ConfigError),
    /// 404 for a CRL.
    #[error("the backend has no CRL {0}")]
    NoSuchCrl(Fingerprint),
    /// A CRL with another hash than the one asked for.
    #[error("the backend sent something with hash {found} as CRL {asked}")]
    WrongHash {
        /// The hash that was asked for.
        asked: Fingerprint,
        /// The hash of what came.
        found: Fingerprint,
    },
    /// The request could not be made: a bug.
    #[error("the request could not be made, which is a fault of this program: {0}")]
    Request(String),
}

/// A place in a JSON text that is not as it must be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path} (line {line}, column {column}): {reason}")]
pub struct ConfigError {
    /// The member, as `partners[2].allow_from[0]`; `.` for the whole.
    pub path: String,
    /// Line where the value ends, from 1.
    pub line: usize,
    /// Column where the value ends, from 1.
    pub column: usize,
    /// What was found and what was expected.
    pub reason: String,
}

/// Why a client could not be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SetupError {
    /// The CA file cannot be used.
    #[error("the CA file {path} cannot be used: {reason}")]
    CaFile {
        /// The file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// The TLS library refuses.
    #[error("TLS with the backend cannot be set up: {0}")]
    Tls(String),
    /// The token cannot be sent in a header.
    #[error("the security token has characters that cannot be sent")]
    Token,
}

/// The member of the configuration that holds a private key.
const SECRET: &str = "identity";

/// A problem document, RFC 9457.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// URI of the kind of problem.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// The kind of problem in words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// This occurrence in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

impl Problem {
    /// Media type of a problem document.
    pub const MEDIA_TYPE: &str = "application/problem+json";

    /// Title and detail as they may stand in a message of ours.
    pub(crate) fn shown(&self) -> String {
        match &self.detail {
            Some(detail) => format!("{} {}", shown(&self.title), shown(detail)),
            None => shown(&self.title),
        }
    }
}

impl ApiError {
    /// Whether the backend itself refuses this token, so that asking again is of no use.
    pub fn refuses_token(&self) -> bool {
        matches!(self, Self::TokenRefused { .. })
    }

    /// Tells what failed in a call; `limits` are the time-outs in force.
    pub(crate) fn of(error: reqwest::Error, connect: Duration, total: Duration) -> Self {
        let error = error.without_url();
        let mut causes = Vec::new();
        let mut cause: Option<&(dyn std::error::Error + 'static)> = error.source();
        while let Some(this) = cause {
            if let Some(tls) = tls_within(this) {
                return Self::Tls(tls_sentence(tls));
            }
            causes.push(this.to_string());
            cause = this.source();
        }
        // The innermost one is what the system said; those above it only say where.
        let reason = causes.pop().unwrap_or_else(|| error.to_string());
        match () {
            () if error.is_timeout() && error.is_connect() => {
                Self::TimedOut(format!("no connection within {} s", connect.as_secs_f64()))
            }
            () if error.is_timeout() => Self::TimedOut(format!("silent, or not done within {} s", total.as_secs_f64())),
            () if error.is_connect() => Self::Unreachable(reason),
            () if error.is_builder() => Self::Request(reason),
            () => Self::Broken(reason),
        }
    }
}

impl ConfigError {
    pub(crate) fn of(error: serde_path_to_error::Error<serde_json::Error>) -> Self {
        let path = error.path().to_string();
        let error = error.into_inner();
        let mut reason = reason(&error);
        // serde repeats the value that it did not expect; here that could be a private key.
        if path.starts_with(SECRET) && !reason.starts_with("missing field") {
            "it is of another type or form than it must be; its value is not repeated here".clone_into(&mut reason);
        }
        Self { path, line: error.line(), column: error.column(), reason }
    }
}

/// The reason without the place that serde_json puts behind it; it may repeat foreign text, which is escaped.
pub(crate) fn reason(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    let text = text.strip_suffix(&place).unwrap_or(&text);
    let escaped = |character: char| match character.is_control() {
        true => character.escape_debug().collect(),
        false => character.to_string(),
    };
    text.chars().take(300).map(escaped).collect()
}

/// The TLS error that this is or wraps; several I/O errors may lie around it, which `source` steps over.
fn tls_within<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a rustls::Error> {
    let inner = error.downcast_ref::<std::io::Error>().and_then(|error| error.get_ref());
    match inner {
        Some(inner) => tls_within(inner),
        None => error.downcast_ref(),
    }
}

fn tls_sentence(error: &rustls::Error) -> String {
    let rustls::Error::InvalidCertificate(refusal) = error else { return error.to_string() };
    match refusal {
        // The signature is wrong where a CA was made anew under its old name.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "its certificate is not issued by a CA that is trusted here; give the file of its CA".to_owned()
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "its certificate has expired".to_owned(),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "its certificate is not valid yet".to_owned()
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "its certificate is for another host name than the URL has".to_owned()
        }
        CertificateError::Revoked => "its certificate is revoked".to_owned(),
        other => format!("its certificate is refused: {other}"),
    }
}
