//! The snapshot: what the DMZ is told of the configuration. It has no field for a private key, the security token, the
//! backend or the receive daemon.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use verification::PolicySource;

use crate::pairing::Chain;

/// Largest snapshot in octets, without its CRLs.
pub const LARGEST: usize = 32 * 1024 * 1024;

/// Addresses to listen on that one snapshot may name: each is a descriptor of the gate.
pub const MOST_LISTENED: usize = 64;

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

/// What the configuration can say: 32 bits of seconds. Longer ones could not be added to a time.
const LONGEST: Duration = Duration::from_secs(u32::MAX as u64);

impl Limits {
    /// Whether each is within what the configuration can say; whoever made them up could otherwise end a process by them.
    ///
    /// # Errors
    /// A sentence that names the one that is not.
    pub fn check(&self) -> Result<(), String> {
        let times = [
            ("handshake_timeout_s", self.handshake_timeout),
            ("pairing_timeout_s", self.pairing_timeout),
            ("inactivity_timeout_s", self.inactivity_timeout),
            ("drain_timeout_s", self.drain_timeout),
            ("offender_refuse_s", self.offender_refuse),
        ];
        if let Some((name, time)) = times.iter().find(|(_, time)| *time > LONGEST) {
            return Err(format!("limits.{name} is {} s; {} s are the most", time.as_secs(), LONGEST.as_secs()));
        }
        if !(128..=99_999).contains(&self.max_exchange_buffer) {
            return Err(format!("limits.max_exchange_buffer is {}, not 128 to 99999", self.max_exchange_buffer));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_that_no_configuration_can_say_are_refused_by_name() {
        let second = Duration::from_secs(1);
        let sound = Limits {
            max_sessions: 1,
            max_sessions_per_address: 1,
            max_unverified: 1,
            handshake_timeout: LONGEST,
            pairing_timeout: LONGEST,
            inactivity_timeout: LONGEST,
            drain_timeout: LONGEST,
            max_exchange_buffer: 128,
            offender_refuse: LONGEST,
        };
        assert_eq!(sound.check(), Ok(()));
        let wrong = [
            ("handshake_timeout_s", Limits { handshake_timeout: LONGEST + second, ..sound.clone() }),
            ("pairing_timeout_s", Limits { pairing_timeout: Duration::MAX, ..sound.clone() }),
            ("inactivity_timeout_s", Limits { inactivity_timeout: Duration::MAX, ..sound.clone() }),
            ("drain_timeout_s", Limits { drain_timeout: Duration::MAX, ..sound.clone() }),
            ("offender_refuse_s", Limits { offender_refuse: Duration::MAX, ..sound.clone() }),
            ("max_exchange_buffer", Limits { max_exchange_buffer: 127, ..sound.clone() }),
            ("max_exchange_buffer", Limits { max_exchange_buffer: 100_000, ..sound }),
        ];
        for (name, limits) in wrong {
            let text = limits.check().unwrap_err();
            assert!(text.contains(name), "{text}");
        }
    }
}
