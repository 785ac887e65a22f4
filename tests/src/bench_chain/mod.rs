//! `cargo bench-chain`: what the whole chain costs, beside the same chain of HAProxy, stunnel and nginx.
//!
//! Two hops each, the same certificates, a CRL checked on the outer hop, mutual TLS 1.3 between the hops, the same OFTP2
//! load in rounds in which all take turns, and one table. The load shares the machine with whoever is measured and is the
//! same for all; CPU is that of the measured processes alone.

mod against;
mod chain;
mod copies;
mod fairness;
mod figures;
mod growth;
mod haproxy;
mod load;
mod network;
mod nginx;
pub mod oftp2;
pub mod options;
pub mod partner;
mod proxy;
mod report;
pub mod sink;
mod stunnel;
mod table;
mod topology;
mod usage;
mod world;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::harness::{Trouble, is_interrupted};
use crate::pki::KeyKind;
use chain::Field;
use options::{Measure, Options};
use table::Table;
use topology::{Peer, Topology};
use world::World;

/// Measures what `options` ask for, prints it, and writes it down.
pub fn run(options: &Options) -> Result<(), Trouble> {
    raise_descriptors();
    if let [at, to] = options.copy[..] {
        return copies::serve(at, to);
    }
    match &options.against {
        Some(revision) => against::run(options, revision),
        None => network::within(|| measure(options)),
    }
}

fn measure(options: &Options) -> Result<(), Trouble> {
    let ecdsa = World::new(KeyKind::P256)?;
    let present = present(options);
    let rsa = World::new(KeyKind::Rsa2048)?;
    let mut of_chain = None;
    if chain::MEASURES.iter().any(|measure| options.wants(*measure)) {
        let field = Field {
            ecdsa: (ecdsa.caller()?, start(&present, &ecdsa)?),
            rsa: if options.wants(Measure::Sessions) { Some((rsa.caller()?, start(&present, &rsa)?)) } else { None },
        };
        let mut table = Table::default();
        for round in 0..options.rounds {
            if is_interrupted() {
                return Err(Trouble("interrupted".into()));
            }
            eprintln!("round {} of {}", round + 1, options.rounds);
            chain::round(&field, options, round, &mut table)?;
        }
        of_chain = Some((field, table));
    }
    // Whatever becomes of the others, what was measured of the chain is shown.
    let others = fairness_and_growth(options, &ecdsa, &present);
    if let Some((field, mut table)) = of_chain {
        let idle =
            if options.wants(Measure::Idle) { chain::idle_sessions(&field, options, &mut table) } else { Ok(()) };
        let complete = chain::MEASURES.iter().all(|measure| options.wants(*measure)) && options.peers.is_empty();
        report::show("chain", &[table.markdown(), table.verdicts(&chain::TARGETS)], options, complete && idle.is_ok())?;
        idle?;
    }
    others
}

fn fairness_and_growth(options: &Options, ecdsa: &World, present: &[Peer]) -> Result<(), Trouble> {
    if options.wants(Measure::Fairness) {
        let (caller, topologies) = (ecdsa.caller()?, start(present, ecdsa)?);
        let mut table = Table::default();
        for _ in 0..options.rounds {
            fairness::round(&caller, &topologies, options, &mut table)?;
        }
        let complete = options.peers.is_empty();
        report::show("fairness", &[table.markdown(), table.verdicts(&fairness::TARGETS)], options, complete)?;
    }
    if growth::MEASURES.iter().any(|measure| options.wants(*measure)) {
        // The proxy last: sessions of anybody cost more for minutes after its idle processes.
        // Configurations have chains of their own.
        let wanted = options.wants(Measure::AtOnce) || options.wants(Measure::BesideIdle);
        let beside: Vec<Peer> =
            [Peer::Haproxy, Peer::Proxy].into_iter().filter(|peer| wanted && present.contains(peer)).collect();
        let (caller, topologies) = (ecdsa.caller()?, start(&beside, ecdsa)?);
        let mut table = Table::default();
        if options.wants(Measure::AtOnce) {
            let copies = Peer::Copies.start(ecdsa, None).map_err(chain::of(Peer::Copies))?;
            growth::sessions_at_once(&caller, topologies.iter().chain([&copies]), options, &mut table)?;
        }
        if options.wants(Measure::Configurations) {
            growth::configurations(ecdsa, &caller, options, &mut table)?;
        }
        if options.wants(Measure::BesideIdle) {
            for topology in &topologies {
                growth::beside_idle(&caller, topology, options, &mut table)?;
            }
        }
        let complete = growth::MEASURES.iter().all(|measure| options.wants(*measure)) && options.peers.is_empty();
        report::show("growth", &[table.markdown(), growth::verdicts(&table)], options, complete)?;
    }
    Ok(())
}

/// Thousands of idle sessions take some descriptors each, four of them where a hop is made of two services. Without the
/// right to more, whoever runs out of them is told of.
fn raise_descriptors() {
    if setrlimit(Resource::RLIMIT_NOFILE, DESCRIPTORS, DESCRIPTORS).is_err()
        && let Ok((_, most)) = getrlimit(Resource::RLIMIT_NOFILE)
    {
        // Lowering or keeping it is always allowed.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, most, most);
    }
}

const DESCRIPTORS: u64 = 65_536;

/// Those that are wanted and installed.
fn present(options: &Options) -> Vec<Peer> {
    let wanted = Peer::USUAL.into_iter().filter(|peer| options.wants_peer(*peer));
    wanted
        .filter(|peer| match peer.version() {
            Ok(_) => true,
            Err(trouble) => {
                println!("{} is skipped: {trouble}", peer.name());
                false
            }
        })
        .collect()
}

fn start(peers: &[Peer], world: &World) -> Result<Vec<Topology>, Trouble> {
    peers.iter().map(|peer| peer.start(world, None).map_err(chain::of(*peer))).collect()
}
