//! All that may pass between the processes of the proxyserver: one enum per direction, each message one datagram of a
//! SEQPACKET pair. The stronger side (gate over switchboard over session) ends the weaker one on anything else.

use std::net::{IpAddr, SocketAddr};

use proxylink::message::{CallFailed, Refused, SignRequest};
use proxylink::pairing::{KeyHash, PairingRequest, SessionId};
use proxylink::particulars::ShownCertificate;
use proxylink::record::SessionReport;
use proxylink::situation::Situation;
use serde::{Deserialize, Serialize};

/// Largest message between two processes, in octets: a pairing request with the transcript of a TLS 1.2 handshake. What a
/// session may say can be passed on over the link, with the session's name.
pub const LARGEST: usize = proxylink::frame::LARGEST - proxylink::frame::AROUND;

// The name of a session, and the numbers of two variants.
const _: () = assert!(LARGEST + size_of::<SessionId>() + 2 * 5 <= proxylink::frame::LARGEST);

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
    /// The session that was asked for with [`FromSwitchboard::Call`] was forked; the descriptor is the switchboard's end
    /// of its socket pair.
    Called { session: SessionId },
    /// That session cannot be.
    NotCalled { session: SessionId, refused: Refused },
}

/// What a session that calls a partner is to do.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Errand {
    /// Its name, given by the inside.
    pub session: SessionId,
    /// Name of the partner in the snapshot's policy.
    pub partner: String,
    /// The partner's addresses, at least one, at most [`MOST_ADDRESSES`]; tried in turn.
    pub to: Vec<SocketAddr>,
    /// The address to call from.
    pub from: Option<IpAddr>,
}

/// Addresses of one host that are tried.
pub const MOST_ADDRESSES: usize = 8;

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
    /// Fork a session that calls a partner. The answer is [`ToSwitchboard::Called`] or [`ToSwitchboard::NotCalled`].
    Call(Errand),
    /// End this session that calls a partner: nobody waits for it any more. That is no fault of its peer's.
    GiveUp(SessionId),
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
    /// The session that a partner opened ends before it was paired, with its record, and what the certificate that was shown
    /// says, for the log.
    Refused(Box<SessionReport>, Option<ShownCertificate>),
    /// As before, of the session that was to call a partner.
    CallFailed(Box<CallFailed>, Option<ShownCertificate>),
}

impl FromSession {
    /// Whether nothing may follow: the session is paired, or ends.
    pub const fn is_last(&self) -> bool {
        matches!(self, Self::Linked | Self::Refused(..) | Self::CallFailed(..))
    }
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
