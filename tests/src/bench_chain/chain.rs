//! The measures of the chain, in rounds in which all topologies take turns.

use super::figures::milliseconds;
use super::load::{self, Bulk};
use super::oftp2::Shape;
use super::options::{Measure, Options};
use super::partner::Caller;
use super::table::{Bound, Table, Target};
use super::topology::{Peer, Topology};
use super::usage::{family, kernel_kib, proportional_kib};
use crate::harness::Trouble;

/// Buffers as large as HAProxy and stunnel are measured with, and as much credit as there is.
pub const LARGE: Shape = Shape { buffer: 65_535, credit: 999 };
/// What older stations agree on.
pub const SMALL: Shape = Shape { buffer: 4096, credit: 99 };

const CPU_8: &str = "8 sessions, CPU s/GiB";
const MIB_8: &str = "8 sessions, MiB/s";
const MIB_SMALL: &str = "8 sessions, buffers of 4,096, credit 99, MiB/s";
const ECDSA: &str = "sessions/s, ECDSA";
const RSA: &str = "sessions/s, RSA-2048";
const PSS_1000: &str = "idle session of 1,000, KiB PSS";

/// What the figures should be.
pub const TARGETS: [Target; 10] = [
    target(CPU_8, Some(Peer::Haproxy), Bound::AtMost, 0.55, 0.42),
    target(CPU_8, Some(Peer::Stunnel), Bound::AtMost, 0.38, 0.28),
    target(MIB_8, Some(Peer::Haproxy), Bound::AtLeast, 1.7, 2.1),
    target(MIB_8, Some(Peer::Stunnel), Bound::AtLeast, 2.2, 2.8),
    target(MIB_SMALL, Some(Peer::Stunnel), Bound::AtLeast, 2.0, 2.3),
    target(ECDSA, Some(Peer::Haproxy), Bound::AtLeast, 1.0, 1.3),
    target(ECDSA, Some(Peer::Stunnel), Bound::AtLeast, 1.4, 1.7),
    target(RSA, Some(Peer::Haproxy), Bound::AtLeast, 0.9, 1.2),
    target("idle session of 200, KiB PSS", None, Bound::AtMost, 300.0, 220.0),
    target(PSS_1000, None, Bound::AtMost, 300.0, 220.0),
];

const fn target(row: &'static str, beside: Option<Peer>, bound: Bound, least: f64, beyond: f64) -> Target {
    Target { row, beside, bound, least, beyond }
}

/// The parts of this table.
pub const MEASURES: [Measure; 5] =
    [Measure::Throughput, Measure::Small, Measure::Sessions, Measure::Latency, Measure::Idle];

/// So often within a round everybody's sessions are counted: a busy machine changes from one second to the next.
const SESSION_TURNS: u32 = 3;

/// Everything that is running, with partners for it.
pub struct Field {
    /// With ECDSA certificates.
    pub ecdsa: (Caller, Vec<Topology>),
    /// With RSA certificates; only where sessions are counted.
    pub rsa: Option<(Caller, Vec<Topology>)>,
}

/// Measures what is wanted of this table in one round, but for idle sessions.
pub fn round(field: &Field, options: &Options, round: u32, table: &mut Table) -> Result<(), Trouble> {
    let (caller, topologies) = &field.ecdsa;
    let mib = options.amount(1024, 128);
    if options.wants(Measure::Throughput) {
        for sessions in [8, 1, 64] {
            for topology in in_turn(topologies, round) {
                bulk(caller, topology, table, Bulk { sessions, shape: LARGE, mib }, &plural(sessions))?;
            }
        }
    }
    if options.wants(Measure::Small) {
        for topology in in_turn(topologies, round) {
            let plan = Bulk { sessions: 8, shape: SMALL, mib: mib / 4 };
            bulk(caller, topology, table, plan, "8 sessions, buffers of 4,096, credit 99")?;
        }
    }
    if options.wants(Measure::Sessions) {
        let count = options.amount(700, 200);
        for turn in round * SESSION_TURNS..(round + 1) * SESSION_TURNS {
            for (kind, (caller, topologies)) in [("ECDSA", Some(&field.ecdsa)), ("RSA-2048", field.rsa.as_ref())]
                .into_iter()
                .filter_map(|(kind, field)| Some((kind, field?)))
            {
                for topology in in_turn_without_large(topologies, turn) {
                    sessions(caller, topology, table, count, kind)?;
                }
            }
        }
    }
    if options.wants(Measure::Latency) {
        for topology in in_turn_without_large(topologies, round) {
            let waits = load::small_files(caller, topology.address, options.amount(300, 50))?;
            table.add("file of 1 KiB, p50 ms", topology.peer, milliseconds(&waits, 0.5));
            table.add("file of 1 KiB, p99 ms", topology.peer, milliseconds(&waits, 0.99));
        }
    }
    Ok(())
}

/// Memory of idle sessions, and what sessions cost after them. Once, as memory differs little from round to round; and last of all, as
/// sessions cost more for minutes, those of daemons that are started anew too, after thousands of processes have come and gone.
pub fn idle_sessions(field: &Field, options: &Options, table: &mut Table) -> Result<(), Trouble> {
    let (caller, topologies) = &field.ecdsa;
    let counts = if options.quick { vec![50] } else { vec![200, 1000, 5000] };
    for count in &counts {
        for topology in in_turn_without_large(topologies, 0) {
            match idle(caller, topology, table, *count) {
                Err(trouble) if topology.peer != Peer::Proxy => println!("no {count} idle sessions: {trouble}"),
                done => done?,
            }
        }
    }
    if options.wants(Measure::Sessions) {
        let kind = format!("ECDSA, after {} idle ones", thousands(counts.into_iter().max().unwrap_or_default()));
        for turn in 0..SESSION_TURNS {
            for topology in in_turn_without_large(topologies, turn) {
                sessions(caller, topology, table, options.amount(700, 200), &kind)?;
            }
        }
    }
    Ok(())
}

/// Beginning with another one each turn, forwards and backwards, so that nobody always comes after the same one.
fn in_turn(topologies: &[Topology], turn: u32) -> impl Iterator<Item = &Topology> {
    ordered(topologies.iter().collect(), turn)
}

/// Without the one that differs in moving data alone.
fn in_turn_without_large(topologies: &[Topology], turn: u32) -> impl Iterator<Item = &Topology> {
    ordered(topologies.iter().filter(|topology| topology.peer != Peer::HaproxyLarge).collect(), turn)
}

fn ordered<T>(mut all: Vec<T>, turn: u32) -> impl Iterator<Item = T> {
    let first = turn as usize % all.len().max(1);
    all.rotate_left(first);
    if turn % 2 == 1 {
        all.reverse();
    }
    all.into_iter()
}

fn plural(sessions: usize) -> String {
    if sessions == 1 { "1 session".to_owned() } else { format!("{sessions} sessions") }
}

fn bulk(caller: &Caller, topology: &Topology, table: &mut Table, plan: Bulk, name: &str) -> Result<(), Trouble> {
    let moved = load::bulk(caller, topology.address, &topology.roots, plan).map_err(of(topology.peer))?;
    table.add(&format!("{name}, MiB/s"), topology.peer, moved.mib_per_second);
    table.add(&format!("{name}, CPU s/GiB"), topology.peer, moved.cpu_per_gib);
    Ok(())
}

fn sessions(caller: &Caller, topology: &Topology, table: &mut Table, count: usize, kind: &str) -> Result<(), Trouble> {
    let called = load::sessions(caller, topology.address, &topology.roots, count).map_err(of(topology.peer))?;
    table.add(&format!("sessions/s, {kind}"), topology.peer, called.per_second);
    table.add(&format!("session to SSID, {kind}, p50 ms"), topology.peer, milliseconds(&called.waits, 0.5));
    table.add(&format!("session to SSID, {kind}, p99 ms"), topology.peer, milliseconds(&called.waits, 0.99));
    table.add(&format!("session, {kind}, CPU ms"), topology.peer, called.cpu_ms);
    Ok(())
}

fn idle(caller: &Caller, topology: &Topology, table: &mut Table, count: usize) -> Result<(), Trouble> {
    let name = thousands(count);
    let memory = || (proportional_kib(&family(&topology.roots)), kernel_kib());
    load::settle(&topology.roots);
    let before = memory();
    let partners = load::idle(caller, topology.address, count).map_err(of(topology.peer))?;
    // Buffers go back to the kernel after a second without traffic.
    std::thread::sleep(std::time::Duration::from_secs(3));
    load::settle(&topology.roots);
    let after = memory();
    load::end(partners);
    load::settle(&topology.roots);
    let each = |before: Option<f64>, after: Option<f64>| Some((after? - before?) / count as f64);
    if let Some(kib) = each(before.0, after.0) {
        table.add(&format!("idle session of {name}, KiB PSS"), topology.peer, kib);
    }
    if let Some(kib) = each(before.1, after.1) {
        table.add(&format!("idle session of {name}, KiB in the kernel"), topology.peer, kib);
    }
    Ok(())
}

/// 5000 as 5,000.
pub fn thousands(count: usize) -> String {
    if count < 1000 { count.to_string() } else { format!("{},{:03}", count / 1000, count % 1000) }
}

/// Whose trouble it is.
pub fn of(peer: Peer) -> impl Fn(Trouble) -> Trouble {
    move |trouble| Trouble(format!("{}: {trouble}", peer.name()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_turns_nobody_always_comes_after_the_same_one() {
        let turns: Vec<Vec<char>> = (0..4).map(|turn| ordered(vec!['a', 'b', 'c', 'd'], turn).collect()).collect();
        assert_eq!(
            turns.iter().map(|turn| turn.iter().collect()).collect::<Vec<String>>(),
            ["abcd", "adcb", "cdab", "cbad"]
        );
        assert_eq!(ordered(Vec::<char>::new(), 1).count(), 0);
    }
}
