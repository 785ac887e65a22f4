//! What others feel of bulk data: while 8 sessions move files, how long another session's turn of credit takes, and how
//! long a new session waits.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use super::chain::{LARGE, of};
use super::figures::milliseconds;
use super::load;
use super::options::Options;
use super::partner::Caller;
use super::table::{Bound, Table, Target};
use super::topology::{Peer, Topology};
use crate::harness::Trouble;

const TURN: &str = "turn of credit beside 8 bulk sessions, p99 ms";
const SESSION: &str = "new session beside 8 bulk sessions, p99 ms";

/// What the figures should be.
pub const TARGETS: [Target; 2] = [
    Target { row: TURN, beside: Some(Peer::Haproxy), bound: Bound::AtMost, least: 2.0, beyond: 1.0 },
    Target { row: SESSION, beside: Some(Peer::Haproxy), bound: Bound::AtMost, least: 2.0, beyond: 1.0 },
];

/// Measures all topologies once.
pub fn round(caller: &Caller, topologies: &[Topology], options: &Options, table: &mut Table) -> Result<(), Trouble> {
    let (turns, sessions) = (options.amount(1000, 100), options.amount(300, 30));
    for topology in topologies.iter().filter(|topology| topology.peer != Peer::HaproxyLarge) {
        let (address, peer) = (topology.address, topology.peer);
        let stop = AtomicBool::new(false);
        let probed = thread::scope(|scope| {
            scope.spawn(|| load::bulk_until(caller, address, 8, LARGE, &stop));
            let turns = load::turns(caller, address, turns);
            let sessions = load::handshakes(caller, address, sessions);
            stop.store(true, Ordering::Relaxed);
            Ok((turns?, sessions?))
        });
        let (turns, sessions) = probed.map_err(of(peer))?;
        table.add("turn of credit beside 8 bulk sessions, p50 ms", peer, milliseconds(&turns, 0.5));
        table.add(TURN, peer, milliseconds(&turns, 0.99));
        table.add("new session beside 8 bulk sessions, p50 ms", peer, milliseconds(&sessions, 0.5));
        table.add(SESSION, peer, milliseconds(&sessions, 0.99));
        load::settle(&topology.roots);
    }
    Ok(())
}
