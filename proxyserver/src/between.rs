//! All that may pass between the processes of the proxyserver: one enum per direction, each message one datagram of a
//! SEQPACKET pair. The stronger side (gate over switchboard over session) ends the weaker one on anything else.

use std::net::SocketAddr;

use proxylink::message::{Refused, SignRequest};
use proxylink::pairing::{KeyHash, PairingRequest, SessionId};
use proxylink::particulars::ShownCertificate;
use proxylink::record::SessionReport;
use proxylink::situation::Situation;
use serde::{Deserialize, Serialize};

/// Largest message between two processes, in octets: a pairing request with the transcript of a TLS 1.2 handshake.
pub const LARGEST: usize = proxylink::frame::LARGEST;

/// Gate to switchboard.
#[derive(Debug, Serialize, Deserialize)]
pub enum ToSwitchboard {
    /// A session was forked; the descriptor is the switchboard's end of its socket pair.
    Session { session: SessionId, peer: SocketAddr, local: SocketAddr },
    /// The process of a session has ended.
    SessionEnded { session: SessionId, crashed: bool },
    /// Partners can connect here; none = the port is closed.
    Listening(Vec<SocketAddr>),
    /// The snapshot's addresses cannot be listened on; the link must end.
    ListenFailed(String),
    /// Something happened that belongs into the system log.
    Report { situation: Situation, text: String, peer: Option<SocketAddr> },
    /// How many sessions there are.
    Sessions(u32),
    /// Answer to [`FromSwitchboard::OpenLicence`]: the descriptor is the licence file; without one, why there is none.
    Licence(Option<String>),
    /// The daemon ends: take leave of the inside.
    Stop,
}

/// Switchboard to gate.
#[derive(Debug, Serialize, Deserialize)]
pub enum FromSwitchboard {
    /// The descriptor is a sealed memory file with a prepared snapshot; it is in force from now on.
    Snapshot { number: u64 },
    /// No client is linked any more: nothing new may come in.
    Unlinked,
    /// This session's peer is verified by the inside.
    Verified(SessionId),
    /// Kill this session: it did what it may not do.
    Kill(SessionId),
    /// The licence has ended: no new sessions.
    LicenceExpired,
    /// A licence that was installed since is valid: new sessions again.
    LicenceValid,
    /// Open the licence file, to see whether it was changed.
    OpenLicence,
}

/// Session to switchboard.
#[derive(Debug, Serialize, Deserialize)]
pub enum FromSession {
    /// The partner's handshake needs a signature. Once per session.
    Sign(SignRequest),
    /// The partner's handshake is done. Once per session.
    Pair(Box<PairingRequest>),
    /// The data connection's handshake is done: the token is spent.
    Linked,
    /// The session ends before it was paired, with its record, and what the certificate that was shown says, for the log.
    Refused(Box<SessionReport>, Option<ShownCertificate>),
}

/// Switchboard to session.
#[derive(Debug, Serialize, Deserialize)]
pub enum ToSession {
    /// Answer to [`FromSession::Sign`].
    Signed(Result<serde_bytes::ByteBuf, Refused>),
    /// The inside's session is about to connect with this key.
    Paired(KeyHash),
    /// The descriptor is a data connection that brought the token; its preamble has been read.
    DataConnection,
    /// The inside does not take the session, or nothing can be asked of it.
    Refused(Refused),
}
