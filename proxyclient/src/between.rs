//! All that may pass between the processes of the proxyclient: one enum per direction, each message one datagram of a
//! SEQPACKET pair. The stronger side ends the weaker one on anything else.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use proxylink::message::Refused;
use proxylink::pairing::{Direction, KeyHash, SessionId, TlsFacts, Token};
use proxylink::particulars::{Particulars, ShownCertificate};
use proxylink::record::{Report, SessionReport, UnixMillis};
use proxylink::snapshot::Limits;
use serde::{Deserialize, Serialize};
use verification::Cidr;

use crate::outgoing::Target;

/// Largest message between two processes, in octets: a session record with all its files.
pub const LARGEST: usize = 160 * 1024;

/// Gate to agent.
#[derive(Debug, Serialize, Deserialize)]
pub enum ToAgent {
    /// The session that was asked for is forked; the descriptor is the agent's end of its socket pair.
    Forked(SessionId),
    /// It could not be forked.
    NotForked(SessionId, String),
    /// The process of a session has ended; whether an agent was given the record that it wrote.
    SessionEnded { session: SessionId, how: HowEnded, recorded: bool },
    /// The record of a session that has ended.
    Record(Box<SessionReport>),
    /// Something that belongs into the system log.
    Report(Report),
    /// A session that was running before this agent was started, with what its predecessor wanted kept.
    Running(SessionId, serde_bytes::ByteBuf),
    /// An inside station has connected, and a session is forked for it; the descriptor is the agent's end of its pair.
    Station {
        /// The session's name, made by the gate.
        session: SessionId,
        /// Where the station is.
        station: SocketAddr,
        /// Where the port leads at which it came.
        leads: Leads,
    },
    /// The daemon ends: nothing new is taken.
    Draining,
    /// The last session has ended: take leave of the DMZ, deliver what there is, end.
    Stop,
}

/// How the process of a session ended, as far as others have to tell it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum HowEnded {
    /// By a fault, which also stands in the log.
    Crashed,
    /// Killed, and not by the gate.
    Killed,
    /// By itself, or as it was told to.
    Otherwise,
}

/// Why the agent has a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum WhyEnd {
    /// Its partner no longer stands, which the agent has told.
    Withdrawn,
    /// It must not come to be, or nobody knows of it any more.
    GivenUp,
}

/// Agent to gate.
#[derive(Debug, Serialize, Deserialize)]
pub enum FromAgent {
    /// Fork a session.
    Fork(SessionId),
    /// End this session.
    End(SessionId, WhyEnd),
    /// Keep this for the session, unread, until it ends, for the agent's successor. At most [`LARGEST`] octets.
    Remember(SessionId, serde_bytes::ByteBuf),
    /// Listen to inside stations like this from now on, or not at all. Sessions are not touched.
    Stations(Option<Box<Stations>>),
    /// This station has named a partner, and is silent no more.
    Named(SessionId),
    /// Nothing new is taken any more; end with the last session, at the latest after so many seconds.
    Drain { seconds: u64, why: Drain },
    /// How long sessions get when a signal ends the daemon.
    DrainTimeout { seconds: u64 },
    /// How things stand, for whoever looks at the service.
    Standing(Standing),
    /// It has its secrets, and the first question for the configuration is over, whatever came of it.
    Begun,
    /// It is there, with its spool open, and reads. It is told nothing before.
    Reads,
}

/// How things stand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Standing {
    /// No link to the proxyserver stands.
    Unlinked,
    /// It stands, and partners can connect at these addresses of it; none = they cannot.
    Linked(Vec<SocketAddr>),
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unlinked => f.write_str("not linked to the proxyserver"),
            Self::Linked(open) if open.is_empty() => f.write_str("linked, the partner port is closed"),
            Self::Linked(open) => write!(f, "linked, the partner port is open at {open:?}"),
        }
    }
}

/// How the gate listens to inside stations.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stations {
    /// Address of this host.
    pub address: IpAddr,
    /// Its ports, and where each leads.
    pub ports: Vec<(u16, Leads)>,
    /// Whose connections are read at all.
    pub allow_from: Vec<Cidr>,
    /// From accept to the end of the station's request.
    pub request_timeout: Duration,
    /// Stations at once that have not named a partner.
    pub most_silent: u32,
}

/// Where a port for inside stations leads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Leads {
    /// To the partner that the station names.
    Anywhere,
    /// To this partner, without any request.
    To(String),
}

/// Why the agent has the daemon end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Drain {
    /// The server took leave, or is gone for too long.
    ServerGone,
    /// The backend refused the token at start.
    TokenRefused,
    /// The command line names something that cannot be used (CA file, token).
    Unusable,
}

/// Agent to session.
#[derive(Debug, Serialize, Deserialize)]
pub enum ToSession {
    /// What it is to do; always first. A descriptor comes with it where the partner lists no codes: those of others.
    Assignment(Box<Assignment>),
    /// The DMZ knows the session's key: connect.
    Go,
    /// The partner whom the station named is being called.
    Calling(Box<Calling>),
    /// The called partner stands, and the DMZ knows the session's key; the descriptor is the data connection. A second one
    /// as for an [`Assignment`].
    Join(Box<Assignment>),
    /// The station gets no session.
    Refused(Box<NotCalled>),
}

/// A call that has begun.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Calling {
    /// The partner.
    pub partner: String,
    /// Its address as configured.
    pub called: String,
    /// How long it may take until the partner stands.
    pub within: Duration,
}

/// A call that came to nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotCalled {
    /// Why.
    pub refused: Refused,
    /// What the DMZ says it saw of the partner.
    pub seen: Option<Seen>,
}

/// What was seen of a called partner that did not stand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// Where it is; unspecified when it was not reached.
    pub peer: SocketAddr,
    /// SHA-256 of the certificate it showed.
    pub certificate: Option<[u8; 32]>,
    /// What TLS agreed.
    pub tls: Option<TlsFacts>,
}

/// Session to agent.
#[derive(Debug, Serialize, Deserialize)]
pub enum FromSession {
    /// The receive daemon is connected; this is the session's key for the data connection.
    Key(KeyHash),
    /// It cannot be served.
    Failed(Refused),
    /// The data connection stands.
    Linked,
    /// The station wants this; the session's key for the data connection.
    Asks {
        /// What it named; nothing on a partner's own port.
        target: Option<Target>,
        /// For the DMZ, once the partner stands.
        key: KeyHash,
    },
    /// The station has closed its connection.
    Left,
}

impl FromSession {
    /// Whether nothing may follow: the session runs, or ends.
    pub const fn is_last(&self) -> bool {
        matches!(self, Self::Linked | Self::Failed(_) | Self::Left)
    }
}

/// Words of a session to its agent: a key or what a station wants, and the last one. One more may cross with the agent's.
pub const MOST_WORDS: usize = 3;

/// Everything a session of the inside is told. It resolves no name and reads no file.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Assignment {
    /// Its name.
    pub session: SessionId,
    /// Address of the control connection: data connections go there and nowhere else.
    pub link: SocketAddr,
    /// Who called whom.
    pub direction: Direction,
    /// Finds the DMZ session.
    pub token: Token,
    /// Key of the DMZ session on the data connection.
    pub dmz_key: KeyHash,
    /// Addresses of the receive daemon, tried in turn. None in an outgoing session.
    pub receive_daemon: Vec<SocketAddr>,
    /// Name of the partner, when it has one.
    pub partner: Option<String>,
    /// Identification codes it may use; empty = any that no other partner lists, and the list of those comes along.
    pub ssid_codes: Vec<String>,
    /// Whether RFC 5024 holds word by word.
    pub strict: bool,
    /// Where the partner is.
    pub peer: SocketAddr,
    /// Where it called, in the DMZ.
    pub local: SocketAddr,
    /// What its certificate says, for the log.
    pub shown: ShownCertificate,
    /// Its address as configured, in an outgoing session.
    pub called: Option<String>,
    /// SHA-256 of the partner's certificate.
    pub certificate: [u8; 32],
    /// The Odette identification in its subject, escaped.
    pub odette: Option<String>,
    /// What TLS agreed with the partner.
    pub tls: TlsFacts,
    /// Bounds.
    pub limits: Limits,
    /// When the session began here.
    pub started: UnixMillis,
}

impl Assignment {
    /// The same for the log.
    pub fn particulars(&self) -> Particulars {
        Particulars {
            local: Some(self.local),
            direction: Some(self.direction),
            partner: self.partner.clone(),
            shown: Some(self.shown.clone()),
            certificate: Some(self.certificate),
            tls: Some(self.tls.clone()),
            ..Particulars::of_peer(self.peer)
        }
    }
}
