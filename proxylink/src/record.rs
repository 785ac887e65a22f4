//! What is told about a session or an event, in the form in which it crosses between processes. The agent turns it into
//! what the Seon API wants.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::pairing::{Direction, SessionId, TlsFacts};
use crate::situation::Situation;

/// Milliseconds since 1970 (UTC).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct UnixMillis(pub i64);

/// Files that one record lists; what a session moves beyond is counted in `detail`.
pub const MOST_FILES: usize = 1000;

/// Octets of a [`SessionReport::detail`], and of another text that goes with it, as a session of the DMZ says them.
pub const LONGEST_DETAIL: usize = 8 * 1024;

/// One event: a situation with its particulars.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// When it happened.
    pub time: UnixMillis,
    /// What it was.
    pub situation: Situation,
    /// Process that tells it.
    pub pid: u32,
    /// One or two sentences, escaped, at most 2048 octets.
    pub text: String,
    /// Session it belongs to.
    pub session: Option<SessionId>,
    /// Partner it is about.
    pub partner: Option<String>,
    /// Address of the peer.
    pub peer: Option<SocketAddr>,
}

/// How a session ended, in the words of the Seon API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SessionOutcome {
    /// Ended by ESID 00.
    Completed,
    /// Ended before its time.
    Aborted,
    /// Never began.
    Refused,
    /// A peer broke the protocol.
    Violation,
    /// A peer was silent.
    Timeout,
}

/// Which way a file went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum FileDirection {
    /// From the partner to the inside.
    FromPartner,
    /// From the inside to the partner.
    ToPartner,
}

/// What became of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum FileResult {
    /// EFPA.
    Acknowledged,
    /// SFNA or EFNA.
    Refused,
    /// The session ended first.
    Incomplete,
}

/// One file of a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileReport {
    /// SFIDDSN, without padding, escaped.
    pub dataset_name: String,
    /// Which way it went.
    pub direction: FileDirection,
    /// Octets of the virtual file that passed.
    pub octets: u64,
    /// What became of it.
    pub result: FileResult,
}

/// The session record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionReport {
    /// The session.
    pub id: SessionId,
    /// Who called whom.
    pub direction: Direction,
    /// The partner, when it was named.
    pub partner: Option<String>,
    /// SSIDCODE of the partner, when it came.
    pub ssid_code: Option<String>,
    /// Address of the partner; unspecified (`[::]:0`) when a called one was not reached.
    pub peer: SocketAddr,
    /// What was called, `host:port` as configured. Of outgoing sessions, said by the inside.
    pub called: Option<String>,
    /// SHA-256 of the partner's certificate.
    pub certificate: Option<[u8; 32]>,
    /// What TLS agreed with the partner.
    pub tls: Option<TlsFacts>,
    /// When the connection was accepted or opened.
    pub started: UnixMillis,
    /// When the session ended.
    pub ended: UnixMillis,
    /// How it ended.
    pub outcome: SessionOutcome,
    /// The situation that ended it.
    pub situation: Situation,
    /// Particulars of the end.
    pub detail: String,
    /// Octets of OFTP2 that came from the partner.
    pub octets_from_partner: u64,
    /// Octets of OFTP2 that went to the partner.
    pub octets_to_partner: u64,
    /// The files, at most [`MOST_FILES`].
    pub files: Vec<FileReport>,
}
