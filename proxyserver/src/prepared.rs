//! The prepared snapshot: what the switchboard writes into a sealed memory file, the gate maps, and every session reads.
//!
//! Layout: four octets of length (little-endian), a small head (postcard), then the policy's flat image. Opening it costs
//! the same however many partners it holds.

use proxylink::pairing::Chain;
use proxylink::snapshot::{Limits, MinimumTls, Snapshot};
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, SocketAddr};
use verification::Policy;

/// The part of a snapshot that is read whole.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Head {
    /// Number of the snapshot.
    pub number: u64,
    /// Where partners may connect.
    pub listen: Vec<SocketAddr>,
    /// Certificates shown to partners.
    pub identity: Chain,
    /// What the identity's key can sign.
    pub signature_schemes: Vec<u16>,
    /// Lowest TLS version offered.
    pub minimum_tls: MinimumTls,
    /// Source address of outgoing sessions.
    pub outgoing_ip: Option<IpAddr>,
    /// Bounds.
    pub limits: Limits,
}

/// A prepared snapshot, opened.
pub struct Prepared<'a> {
    /// The small part.
    pub head: Head,
    /// Whom to trust.
    pub policy: Policy<'a>,
}

/// The octets are no prepared snapshot.
#[derive(Debug, thiserror::Error)]
#[error("a prepared snapshot of {0} octets cannot be read")]
pub struct Unreadable(usize);

/// The octets of a prepared snapshot.
pub fn write(snapshot: &Snapshot, image: &[u8]) -> Vec<u8> {
    let head = Head {
        number: snapshot.number,
        listen: snapshot.listen.clone(),
        identity: snapshot.identity.clone(),
        signature_schemes: snapshot.signature_schemes.clone(),
        minimum_tls: snapshot.minimum_tls,
        outgoing_ip: snapshot.outgoing_ip,
        limits: snapshot.limits.clone(),
    };
    let head = postcard::to_allocvec(&head).unwrap_or_default();
    let mut octets = Vec::with_capacity(4 + head.len() + image.len());
    octets.extend(u32::try_from(head.len()).unwrap_or(0).to_le_bytes());
    octets.extend(head);
    octets.extend(image);
    octets
}

impl<'a> Prepared<'a> {
    /// Opens it.
    ///
    /// # Errors
    /// [`Unreadable`] when the octets were not made by [`write()`].
    pub fn open(octets: &'a [u8]) -> Result<Self, Unreadable> {
        let unreadable = || Unreadable(octets.len());
        let (length, rest) = octets.split_first_chunk::<4>().ok_or_else(unreadable)?;
        let length = usize::try_from(u32::from_le_bytes(*length)).map_err(|_| unreadable())?;
        let (head, image) = rest.split_at_checked(length).ok_or_else(unreadable)?;
        Ok(Self {
            head: postcard::from_bytes(head).map_err(|_| unreadable())?,
            policy: Policy::open(image).map_err(|_| unreadable())?,
        })
    }
}
