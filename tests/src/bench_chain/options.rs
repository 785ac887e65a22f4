//! What is to be measured.

use std::net::SocketAddr;

use clap::{Parser, ValueEnum};

use super::topology::Peer;

/// Measures the whole chain beside the same chain of HAProxy, stunnel and nginx, and writes docs/performance.md
#[derive(Clone, Debug, Parser)]
#[command(name = "cargo bench-chain")]
pub struct Options {
    /// Measure this only; what is not measured stays as it is in docs/performance.md
    #[arg(long, value_delimiter = ',')]
    pub measure: Vec<Measure>,
    /// Beside these only
    #[arg(long, value_delimiter = ',')]
    pub peers: Vec<Peer>,
    /// How often everything is measured; medians are shown
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=99))]
    pub rounds: u32,
    /// Small amounts and few sessions: whether it works, and figures with much noise. Writes nothing
    #[arg(long)]
    pub quick: bool,
    /// Only print, write nothing
    #[arg(long)]
    pub no_write: bool,
    /// Compare codec and chain with those of an earlier commit, which is built for it, and nothing else
    #[arg(long, value_name = "REVISION")]
    pub against: Option<String>,
    /// What it starts itself: connects whoever comes to the first address to the second one
    #[arg(long, hide = true, num_args = 2, action = clap::ArgAction::Set)]
    pub copy: Vec<SocketAddr>,
}

/// A part of what is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Measure {
    /// MiB/s and CPU s/GiB with 1, 8 and 64 sessions
    Throughput,
    /// The same with 8 sessions, buffers of 4,096 octets and a credit of 99
    Small,
    /// Sessions a second with ECDSA and with RSA certificates
    Sessions,
    /// Time to move one file of 1 KiB
    Latency,
    /// Memory of an idle session
    Idle,
    /// How cost grows with sessions that move data at once
    AtOnce,
    /// How cost grows with partners, anchors and CRLs
    Configurations,
    /// How cost grows with idle sessions
    BesideIdle,
    /// Others while 8 sessions move data
    Fairness,
}

impl Options {
    /// Whether this is to be measured.
    pub fn wants(&self, measure: Measure) -> bool {
        self.measure.is_empty() || self.measure.contains(&measure)
    }

    /// Whether this one is to be measured.
    pub fn wants_peer(&self, peer: Peer) -> bool {
        peer == Peer::Proxy || self.peers.is_empty() || self.peers.contains(&peer)
    }

    /// An amount, or a small one if it is only to be seen that it works.
    pub fn amount<T>(&self, usual: T, quick: T) -> T {
        if self.quick { quick } else { usual }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_sound() {
        <Options as clap::CommandFactory>::command().debug_assert();
        let options = Options::parse_from(["bench-chain", "--measure", "small,idle", "--peers", "haproxy"]);
        assert!(options.wants(Measure::Idle) && !options.wants(Measure::AtOnce));
        assert!(options.wants_peer(Peer::Proxy) && !options.wants_peer(Peer::Nginx));
        let copy = ["bench-chain", "--copy", "127.0.0.1:1", "127.0.0.1:2"];
        assert_eq!(Options::parse_from(copy).copy.len(), 2);
        assert!(Options::try_parse_from(copy.iter().chain(&copy[1..])).is_err());
        assert!(Options::try_parse_from(&copy[..3]).is_err());
    }
}
