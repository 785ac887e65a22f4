//! Why a session did not go well: a buffer that cannot be read, and everything that ends a session early.

use std::io;
use std::path::PathBuf;

use super::reason::{self, esid};
use super::via::ProxyRefusal;

/// An Exchange Buffer that breaks RFC 5024, and the ESID reason that says so.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}; ESID {esid:02}")]
pub struct Malformed {
    /// Reason of the ESID for the one who sent it.
    pub esid: u8,
    /// Command, field and position.
    pub what: String,
}

impl Malformed {
    pub(super) fn data(what: String) -> Self {
        Self { esid: esid::DATA, what }
    }

    pub(super) fn size(what: String) -> Self {
        Self { esid: esid::SIZE, what }
    }

    pub(super) fn out_of_place(command: &str, state: &str) -> Self {
        Self { esid: esid::PROTOCOL, what: format!("{command} does not belong into state {state}") }
    }
}

/// Why a session ended early, or did not begin.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Socket trouble.
    #[error("{doing}: {source}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// The system's answer.
        source: io::Error,
    },
    /// TLS trouble: a certificate refused here or there, no common cipher suite.
    #[error("TLS: {0}")]
    Tls(rustls::Error),
    /// The proxy on the way did not open it.
    #[error("the proxy refused: {0}")]
    Proxy(ProxyRefusal),
    /// The other end closed without ESID.
    #[error("the other end closed the connection {0}")]
    Closed(&'static str),
    /// Nothing came for as long as the station waits.
    #[error("nothing came for {0} s")]
    Silent(u64),
    /// The other end broke the protocol; it has been told.
    #[error("the other end broke the protocol: {0}")]
    Violation(#[from] Malformed),
    /// The other end ended the session with an error.
    #[error("the other end ended the session: ESID {code:02} ({}){}", reason::of_session(*code), quoted(text))]
    Esid {
        /// ESIDREAS.
        code: u8,
        /// ESIDREAST.
        text: String,
    },
    /// A file of one's own cannot be read.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// A setting is out of its bounds.
    #[error("{0}")]
    Setting(String),
    /// The caller's own observer wanted the connection dropped.
    #[error("dropped: {0}")]
    Dropped(String),
}

impl Failure {
    pub(super) fn io(doing: &'static str) -> impl Fn(io::Error) -> Self {
        move |source| Self::Io { doing, source }
    }

    /// The ESID reason that the other end gets, when there is still somebody to get it.
    pub(super) fn esid(&self) -> Option<u8> {
        match self {
            Self::Violation(malformed) => Some(malformed.esid),
            Self::Silent(_) => Some(esid::TIME_OUT),
            Self::File { .. } | Self::Setting(_) => Some(esid::UNSPECIFIED),
            Self::Io { .. }
            | Self::Tls(_)
            | Self::Proxy(_)
            | Self::Closed(_)
            | Self::Esid { .. }
            | Self::Dropped(_) => None,
        }
    }
}

fn quoted(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!(": \"{}\"", text.escape_debug()) }
}
