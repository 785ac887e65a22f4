//! Why a licence does not let the proxyserver run: one stable code and one sentence each.

use std::path::PathBuf;

use chrono::{DateTime, SecondsFormat, Utc};

use crate::proxy_id::ProxyId;

/// Why a licence is refused. Each prints as one sentence that says what was seen and what to do.
#[derive(Debug, thiserror::Error)]
pub enum LicenceError {
    /// There is no such file.
    #[error(
        "there is no licence file {0}; have a licence issued for this Proxy ID and put it there, or name it with -l"
    )]
    Missing(PathBuf),
    /// The file is there and cannot be read.
    #[error("the licence file {path} cannot be read: {error}; give this user the right to read it")]
    NoAccess {
        /// The licence file.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// It was there, and cannot be opened or read any more.
    #[error("the licence file cannot be read: {0}; put it there again, readable for the user of the proxyserver")]
    Gone(String),
    /// The text is no licence, from this line on.
    #[error("the licence is damaged: line {line}: {reason}; put the file there again as it was issued")]
    Unreadable {
        /// Number of the line, from 1; one more than there are where something is missing at the end.
        line: usize,
        /// What was found and what was expected.
        reason: String,
    },
    /// A `client:` line is wrong.
    #[error("line {line} of the licence is no client line: {reason}")]
    UnreadableClient {
        /// Number of the line, from 1.
        line: usize,
        /// What was found and what was expected.
        reason: String,
    },
    /// Not signed by the issuer this build accepts, or changed since.
    #[error(
        "the signature of the licence is wrong: it was changed after it was issued, or another issuer than {issuer} \
         issued it; put the file there again as it was issued"
    )]
    SignatureWrong {
        /// Public key of the accepted issuer.
        issuer: String,
    },
    /// Issued for another proxyserver.
    #[error("the licence is for Proxy ID {licensed}, this proxyserver has {own}; have one issued for {own}")]
    OtherProxy {
        /// The Proxy ID that the licence names.
        licensed: ProxyId,
        /// The Proxy ID of this proxyserver.
        own: ProxyId,
    },
    /// Its time has not come.
    #[error(
        "the licence is valid from {} only, and it is {}; wait until then, or set the clock right",
        moment(*from), moment(*now)
    )]
    NotYetValid {
        /// First moment of validity.
        from: DateTime<Utc>,
        /// The time of the judgement.
        now: DateTime<Utc>,
    },
    /// Its time is over.
    #[error(
        "the licence was valid until {}, and it is {}; have a new one issued for Proxy ID {own}",
        moment(*until), moment(*now)
    )]
    Expired {
        /// Last moment of validity.
        until: DateTime<Utc>,
        /// The time of the judgement.
        now: DateTime<Utc>,
        /// The Proxy ID of this proxyserver.
        own: ProxyId,
    },
    /// It names no proxyclient.
    #[error(
        "the licence names no proxyclient that may link; add the `client:` line that the proxyclient prints below \
         the signature"
    )]
    NoClient,
}

/// A time as the licence writes it, to the second.
pub fn moment(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Secs, true)
}

impl LicenceError {
    /// All codes, in the order of the alphabet, each with a sentence for the manual.
    pub const CODES: [(&'static str, &'static str); 7] = [
        ("licence-expired", "It has ended; install a new one."),
        ("licence-missing", "There is no licence file where one is looked for; put it there, or name it with -l."),
        ("licence-no-client", "It has no line of a proxyclient; add the one that the proxyclient prints."),
        ("licence-not-yet-valid", "It begins later; see the date in it, and the clock of the host."),
        ("licence-other-proxy", "It is for another Proxy ID; have one issued for that of this proxyserver."),
        (
            "licence-signature-wrong",
            "It was changed, or another issuer signed it; put it there again as it was issued.",
        ),
        ("licence-unreadable", "It cannot be read, or a line of it cannot be understood; the line says which."),
    ];

    /// The stable name of the situation, for logs and events.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Missing(_) => "licence-missing",
            Self::NoAccess { .. } | Self::Gone(_) | Self::Unreadable { .. } | Self::UnreadableClient { .. } => {
                "licence-unreadable"
            }
            Self::SignatureWrong { .. } => "licence-signature-wrong",
            Self::OtherProxy { .. } => "licence-other-proxy",
            Self::NotYetValid { .. } => "licence-not-yet-valid",
            Self::Expired { .. } => "licence-expired",
            Self::NoClient => "licence-no-client",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_in_the_table_for_the_manual() {
        let id = ProxyId::of_spki(b"key");
        let now = DateTime::<Utc>::UNIX_EPOCH;
        let (line, reason) = (1, String::new());
        let all = [
            LicenceError::Missing(PathBuf::new()),
            LicenceError::NoAccess { path: PathBuf::new(), error: std::io::ErrorKind::PermissionDenied.into() },
            LicenceError::Gone(String::new()),
            LicenceError::Unreadable { line, reason: reason.clone() },
            LicenceError::UnreadableClient { line, reason },
            LicenceError::SignatureWrong { issuer: String::new() },
            LicenceError::OtherProxy { licensed: id, own: id },
            LicenceError::NotYetValid { from: now, now },
            LicenceError::Expired { until: now, now, own: id },
            LicenceError::NoClient,
        ];
        let mut codes: Vec<_> = all.iter().map(LicenceError::code).collect();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes, LicenceError::CODES.map(|(code, _)| code));
    }
}
