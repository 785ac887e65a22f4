//! What became of a session and of each file in it.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use super::command::FileId;
use super::failure::Failure;
use super::negotiation::Agreement;

/// A session that has ended, one way or the other.
#[derive(Debug, Default)]
pub struct Report {
    /// The other end, once connected.
    pub peer: Option<SocketAddr>,
    /// TLS version and cipher suite, or that there is none.
    pub protection: String,
    /// SHA-256 of the other end's certificates, its own first; none without TLS.
    pub peer_fingerprints: Vec<String>,
    /// What both SSIDs agreed on, when it came to that.
    pub agreement: Option<Agreement>,
    /// Files that were begun to be sent, in order.
    pub sent: Vec<Sent>,
    /// Files that were to be sent and were not begun.
    pub unsent: usize,
    /// Files that came complete, in order.
    pub received: Vec<Received>,
    /// Files that this end refused.
    pub declined: usize,
    /// All octets of the session, when they were wanted.
    pub transcript: Option<Transcript>,
    /// Why the session ended early; none when it ended with ESID 00.
    pub failure: Option<Failure>,
}

/// The octets of one connection, without TLS.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Transcript {
    /// What was sent.
    pub sent: Vec<u8>,
    /// What came.
    pub received: Vec<u8>,
    /// Where in `sent` a rule was broken on purpose.
    pub misbehaved_at: Option<usize>,
}

impl fmt::Debug for Transcript {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { sent, received, misbehaved_at } = self;
        write!(f, "{} octets sent, {} received, misbehaved at {misbehaved_at:?}", sent.len(), received.len())
    }
}

/// A file that was begun to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// Which.
    pub file: FileId,
    /// Its size.
    pub octets: u64,
    /// SHA-256 of its content in hexadecimal, when it was sent whole.
    pub sha256: Option<String>,
    /// What the other end said.
    pub outcome: Outcome,
    /// An EERP came for it.
    pub responded: bool,
}

/// What the other end said to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing: the session ended within the file.
    Incomplete,
    /// EFPA.
    Accepted,
    /// SFNA or EFNA.
    Refused {
        /// SFNAREAS or EFNAREAS.
        reason: u8,
        /// SFNARRTR.
        retry: bool,
    },
    /// EFPA, and later NERP with this reason.
    NotDelivered(u8),
}

/// A file that came complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// Which.
    pub file: FileId,
    /// Its size.
    pub octets: u64,
    /// SHA-256 of its content in hexadecimal.
    pub sha256: String,
    /// Where it lies.
    pub path: PathBuf,
}

impl Report {
    /// Whether the session ended normally, every file went through and, where `with_responses`, every file sent was
    /// answered with an End to End Response.
    pub fn went_well(&self, with_responses: bool) -> bool {
        let through = |sent: &Sent| sent.outcome == Outcome::Accepted && (sent.responded || !with_responses);
        self.failure.is_none() && self.unsent == 0 && self.declined == 0 && self.sent.iter().all(through)
    }

    /// Notes an EERP, or a NERP with its reason, for a file of this session. Those for files of other sessions are
    /// legal (RFC 5024, 4.3.6) and change nothing here.
    pub(super) fn responded(&mut self, file: &FileId, negative: Option<u8>) {
        let Some(level) = self.agreement.as_ref().map(|agreement| agreement.level) else { return };
        for sent in self.sent.iter_mut().filter(|sent| sent.file.at_level(level) == *file) {
            match negative {
                None => sent.responded = true,
                Some(reason) => sent.outcome = Outcome::NotDelivered(reason),
            }
        }
    }
}
