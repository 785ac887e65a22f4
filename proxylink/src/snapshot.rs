//! The snapshot: what the DMZ is told of the configuration. It has no field for a private key, the security token, the
//! backend or the receive daemon.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use verification::PolicySource;

use crate::pairing::Chain;

/// Largest snapshot in octets, without its CRLs.
pub const LARGEST: usize = 32 * 1024 * 1024;

/// CRLs that one snapshot may name.
pub const MOST_CRLS: usize = 1024;

/// Octets of all CRLs of a snapshot.
pub const LARGEST_CRLS: usize = 512 * 1024 * 1024;

/// Everything the DMZ needs to serve partners for one proxyclient.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Grows with every snapshot of one link.
    pub number: u64,
    /// Where partners may connect.
    pub listen: Vec<SocketAddr>,
    /// Certificates shown to partners, end entity first.
    pub identity: Chain,
    /// TLS SignatureSchemes that the identity's key can make, best first.
    pub signature_schemes: Vec<u16>,
    /// Lowest TLS version offered.
    pub minimum_tls: MinimumTls,
    /// Source address of outgoing sessions.
    pub outgoing_ip: Option<IpAddr>,
    /// Bounds.
    pub limits: Limits,
    /// Whom to trust; its CRLs are empty and come separately, by the hashes in `crls`.
    pub policy: PolicySource,
    /// SHA-256 of the CRLs in force.
    pub crls: Vec<[u8; 32]>,
}

/// Lowest version of TLS for partners.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum MinimumTls {
    /// RFC 5246.
    Tls12,
    /// RFC 8446.
    Tls13,
}

/// The limits of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Sessions at once.
    pub max_sessions: u32,
    /// Sessions at once from one address.
    pub max_sessions_per_address: u32,
    /// Connections that have not finished the TLS handshake.
    pub max_unverified: u32,
    /// From accept to the end of the partner's handshake.
    pub handshake_timeout: Duration,
    /// From the pairing request to the end of the data connection's handshake.
    pub pairing_timeout: Duration,
    /// Without any octet of OFTP2.
    pub inactivity_timeout: Duration,
    /// For sessions to end when a daemon stops.
    pub drain_timeout: Duration,
    /// Largest Exchange Buffer that two peers may agree on, 128 to 99999 octets.
    pub max_exchange_buffer: u32,
    /// First refusal time of an address with repeated faults; zero = off.
    pub offender_refuse: Duration,
}
