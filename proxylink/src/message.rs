//! All that may pass on the control connection, one enum per direction. A message's place is its number on the wire.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::pairing::{KeyHash, PairingRequest, SessionId};
use crate::record::{Report, SessionReport};
use crate::situation::Situation;

/// How often either side pings.
pub const PING_EVERY: std::time::Duration = std::time::Duration::from_secs(15);

/// Without any message for this long the link is dead.
pub const DEAD_AFTER: std::time::Duration = std::time::Duration::from_secs(45);

/// What the DMZ may say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromServer {
    /// First message: who this is.
    Hello(ServerHello),
    /// Heartbeat, every [`PING_EVERY`].
    Ping,
    /// The link ends; nothing follows. `situation` tells an orderly end from a refusal.
    Goodbye(Goodbye),
    /// The snapshot with this number is in force.
    SnapshotTaken(u64),
    /// The snapshot with this number is not taken; the one before stays.
    SnapshotRefused(u64, String),
    /// CRLs of a snapshot that are not here yet, by SHA-256.
    WantCrls(Vec<[u8; 32]>),
    /// Partners can connect at these addresses; none = the port is closed.
    Listening(Vec<SocketAddr>),
    /// A handshake needs a signature of the proxy's identity.
    Sign(SessionId, SignRequest),
    /// A partner's handshake is done: judge it, and connect a session.
    Pair(SessionId, Box<PairingRequest>),
    /// A session that was asked for (signature or pairing) has ended before it was paired.
    Gone(SessionId),
    /// Something happened that belongs into the system log.
    Report(Report),
    /// A session that ended before the inside took part.
    Record(Box<SessionReport>),
    /// Sessions at this moment.
    Sessions(u32),
    /// An outgoing session that was asked for with [`FromClient::Call`] will not be. Nothing more comes of it.
    CallFailed(SessionId, Box<CallFailed>),
    /// The answer to [`FromClient::Check`]; the connection ends behind it.
    Checked(Checked),
}

/// What the inside may say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromClient {
    /// First message: who this is.
    Hello(ClientHello),
    /// Heartbeat, every [`PING_EVERY`].
    Ping,
    /// The link ends; nothing follows.
    Goodbye(Goodbye),
    /// A part of something large.
    Part(Part),
    /// The signature that was asked for, or why there is none.
    Signed(SessionId, Result<serde_bytes::ByteBuf, Refused>),
    /// The partner stands, and the inside's session with this key is about to connect.
    Paired(SessionId, KeyHash),
    /// The inside does not take the session.
    PairRefused(SessionId, Refused),
    /// Call this partner for an inside station. The answer is [`FromServer::Sign`] and [`FromServer::Pair`] with the same
    /// session, or [`FromServer::CallFailed`].
    Call(SessionId, Call),
    /// Nobody waits for it any more, because of this: give an outgoing session up that is not paired yet.
    CallOff(SessionId, Situation),
    /// In the place of an introduction: would the link stand? The answer is [`FromServer::Checked`] or a goodbye.
    Check(Check),
}

/// What `--check` asks a proxyserver.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// Addresses that should be of its host: to listen on, to call from. At most [`MOST_CHECKED`].
    pub addresses: Vec<IpAddr>,
}

/// What a proxyserver answers to that.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checked {
    /// Who it is.
    pub hello: ServerHello,
    /// Whether a proxyclient is linked at this moment.
    pub linked: bool,
    /// Those of the addresses that cannot be used, and why.
    pub absent: Vec<(IpAddr, String)>,
}

/// For a name service to answer. One whose first server is silent asks the second after five seconds (resolv.conf(5)).
pub const RESOLVED_WITHIN: std::time::Duration = std::time::Duration::from_secs(15);

/// Addresses that one [`Check`] may name.
pub const MOST_CHECKED: usize = 64;

/// An outgoing session that the inside asks for. It names a partner and nothing else: address, source address and name
/// to check stand in the snapshot, so that the DMZ calls nobody who is not configured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    /// Name of the partner in the snapshot's policy.
    pub partner: String,
}

/// Why a call came to nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallFailed {
    /// What happened, in a sentence that can be told to the inside station too.
    pub refused: Refused,
    /// What the DMZ's session saw of the partner, when there was one.
    pub record: Option<SessionReport>,
}

/// The proxyserver's introduction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerHello {
    /// Version of the program.
    pub version: String,
    /// Process id of the gate.
    pub pid: u32,
    /// Name of the host.
    pub host: String,
    /// End of the licence, seconds since 1970 (UTC).
    pub licensed_until: i64,
}

/// The proxyclient's introduction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientHello {
    /// Random octets that name this run of the agent: the same one comes back after a break, another one is a second
    /// proxyclient with the same token.
    pub instance: [u8; 16],
    /// Version of the program.
    pub version: String,
    /// Process id of the gate.
    pub pid: u32,
    /// Name of the host.
    pub host: String,
}

/// Why the link ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Goodbye {
    /// [`Situation::LinkGoodbye`] when a daemon ends; a refusal otherwise.
    pub situation: Situation,
    /// One sentence.
    pub text: String,
}

/// Why something was not done for a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// What it was.
    pub situation: Situation,
    /// One sentence.
    pub text: String,
}

/// A signature that a handshake needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignRequest {
    /// SHA-256 of the end-entity certificate whose key is meant.
    pub certificate: [u8; 32],
    /// TLS SignatureScheme.
    pub scheme: u16,
    /// The octets to sign, not hashed.
    #[serde(with = "serde_bytes")]
    pub message: Vec<u8>,
}

/// What a [`Part`] belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Whole {
    /// The snapshot with this number, postcard of [`crate::snapshot::Snapshot`].
    Snapshot(u64),
    /// The CRL with this SHA-256, DER.
    Crl([u8; 32]),
}

/// At most [`crate::frame::PART`] octets of something large, in order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// What it belongs to.
    pub of: Whole,
    /// Octets of the whole; at most [`LARGEST_WHOLE`].
    pub total: u32,
    /// Where these octets stand in it.
    pub offset: u32,
    /// The octets.
    #[serde(with = "serde_bytes")]
    pub octets: Vec<u8>,
}

/// Largest whole that may be sent in parts, in octets (a CRL may have 64 MiB).
pub const LARGEST_WHOLE: u32 = 64 * 1024 * 1024;

/// Puts parts together, each whole in order and bounded.
#[derive(Debug, Default)]
pub struct Assembly {
    current: Option<(Whole, u32, Vec<u8>)>,
}

/// A part that does not follow on the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a part of something large does not follow on the one before")]
pub struct OutOfStep;

impl Assembly {
    /// Takes the next part; the whole when it is complete.
    ///
    /// # Errors
    /// [`OutOfStep`] when another whole begins before this one is complete, or an offset or length does not fit.
    pub fn take(&mut self, part: Part) -> Result<Option<(Whole, Vec<u8>)>, OutOfStep> {
        let (of, total, mut octets) = match self.current.take() {
            None if part.offset == 0 && part.total <= LARGEST_WHOLE => (part.of, part.total, Vec::new()),
            Some((of, total, octets)) if of == part.of && total == part.total => (of, total, octets),
            _ => return Err(OutOfStep),
        };
        if part.offset as usize != octets.len()
            || part.octets.len() > crate::frame::PART
            || part.octets.len() > total as usize - octets.len()
            || (part.octets.is_empty() && total != 0)
        {
            return Err(OutOfStep);
        }
        octets.extend(part.octets);
        if octets.len() == total as usize {
            return Ok(Some((of, octets)));
        }
        self.current = Some((of, total, octets));
        Ok(None)
    }
}

/// Cuts something large into its parts.
pub fn parts(of: Whole, octets: &[u8]) -> impl Iterator<Item = Part> {
    let total = u32::try_from(octets.len()).unwrap_or(u32::MAX);
    let empty = octets.is_empty().then_some(&[][..]);
    octets.chunks(crate::frame::PART).chain(empty).enumerate().map(move |(place, chunk)| Part {
        of,
        total,
        offset: u32::try_from(place * crate::frame::PART).unwrap_or(u32::MAX),
        octets: chunk.to_vec(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_make_the_whole_again() {
        for length in [0, 1, 65_536, 65_537, 200_000] {
            let octets: Vec<u8> = (0..length).map(|n| (n % 251) as u8).collect();
            let mut assembly = Assembly::default();
            let mut whole = None;
            for part in parts(Whole::Snapshot(3), &octets) {
                assert_eq!(whole, None);
                whole = assembly.take(part).unwrap();
            }
            assert_eq!(whole, Some((Whole::Snapshot(3), octets)));
        }
    }

    #[test]
    fn parts_out_of_step_are_refused() {
        let octets = vec![1; 100_000];
        let all: Vec<_> = parts(Whole::Crl([1; 32]), &octets).collect();
        assert_eq!(Assembly::default().take(all[1].clone()), Err(OutOfStep));
        let mut assembly = Assembly::default();
        assert_eq!(assembly.take(all[0].clone()), Ok(None));
        assert_eq!(assembly.take(all[0].clone()), Err(OutOfStep));
        let mut too_long = all[0].clone();
        too_long.total = 10;
        assert_eq!(Assembly::default().take(too_long), Err(OutOfStep));
    }
}
