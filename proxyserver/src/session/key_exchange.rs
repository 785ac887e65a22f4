//! Post-quantum key exchange where the partner knows it too, whatever order it would like.
//!
//! rustls follows the client's order, and a partner's library may name X25519 first out of habit. So the groups without a
//! post-quantum part are not usable in TLS 1.3 for a partner that offers the hybrid one. Where it sent no key share for
//! that, this costs a round trip (HelloRetryRequest).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustls::crypto::{ActiveKeyExchange, CompletedKeyExchange, CryptoProvider, SupportedKxGroup};
use rustls::ffdhe_groups::FfdheGroup;
use rustls::server::ClientHello;
use rustls::{Error, NamedGroup, ProtocolVersion};

/// Whether this session's partner offers the hybrid group; known from its ClientHello on.
#[derive(Debug, Clone, Default)]
pub struct PostQuantum(Arc<AtomicBool>);

impl PostQuantum {
    /// Looks at what the partner offers. rustls asks for the certificate before it chooses a group.
    pub fn look_at(&self, offer: &ClientHello<'_>) {
        let known = offer.named_groups().is_some_and(|groups| groups.contains(&NamedGroup::X25519MLKEM768));
        self.0.store(known, Ordering::Relaxed);
    }

    /// The same provider, with groups that heed what the partner offers. For one session and so one process: what rustls
    /// wants to be static lives as long as that.
    pub fn prefer_in(&self, provider: &CryptoProvider) -> CryptoProvider {
        let heeding = |group: &&'static dyn SupportedKxGroup| -> &'static dyn SupportedKxGroup {
            if group.name() == NamedGroup::X25519MLKEM768 {
                return *group;
            }
            Box::leak(Box::new(Classical { group: *group, better: self.clone() }))
        };
        CryptoProvider { kx_groups: provider.kx_groups.iter().map(heeding).collect(), ..provider.clone() }
    }
}

/// A group without a post-quantum part.
#[derive(Debug)]
struct Classical {
    group: &'static dyn SupportedKxGroup,
    better: PostQuantum,
}

impl SupportedKxGroup for Classical {
    fn start(&self) -> Result<Box<dyn ActiveKeyExchange>, Error> {
        self.group.start()
    }

    fn start_and_complete(&self, peer_pub_key: &[u8]) -> Result<CompletedKeyExchange, Error> {
        self.group.start_and_complete(peer_pub_key)
    }

    fn ffdhe_group(&self) -> Option<FfdheGroup<'static>> {
        self.group.ffdhe_group()
    }

    fn name(&self) -> NamedGroup {
        self.group.name()
    }

    fn fips(&self) -> bool {
        self.group.fips()
    }

    fn usable_for_version(&self, version: ProtocolVersion) -> bool {
        let better = version == ProtocolVersion::TLSv1_3 && self.better.0.load(Ordering::Relaxed);
        !better && self.group.usable_for_version(version)
    }
}
