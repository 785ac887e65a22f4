//! How cost grows: with sessions that move data, with sessions that are idle, and with partners, anchors and CRLs.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::chain::{LARGE, of, thousands};
use super::figures::milliseconds;
use super::load::{self, Bulk};
use super::options::{Measure, Options};
use super::partner::Caller;
use super::proxy;
use super::table::Table;
use super::topology::{Peer, Topology};
use super::usage::proportional_kib;
use super::world::World;
use crate::harness::{Trouble, table as processes, until};
use crate::pki::{Authority, KeyKind};
use crate::station::sha256;

/// The parts of this table.
pub const MEASURES: [Measure; 3] = [Measure::AtOnce, Measure::Configurations, Measure::BesideIdle];

/// Rows of growth and how far each may be from the row it is compared with.
const BOUNDS: [(&str, &str, f64); 9] = [
    ("sessions at once: 512, CPU s/GiB", "sessions at once: 1, CPU s/GiB", 1.15),
    ("sessions at once: 512, CPU s/GiB", "sessions at once: 8, CPU s/GiB", 1.15),
    ("beside 0 idle: sessions/s", "beside 1,000 idle: sessions/s", 1.15),
    ("beside 0 idle: sessions/s", "beside 5,000 idle: sessions/s", 1.15),
    ("beside 5,000 idle: CPU ms of a session", "beside 0 idle: CPU ms of a session", 1.15),
    (
        "beside 5,000 idle: CPU ms of the gates for a session, two forks among them",
        "beside 0 idle: CPU ms of the gates for a session, two forks among them",
        1.15,
    ),
    (
        "5,000 partners, 500 anchors, 100 CRLs of 50,000: CPU ms of a session",
        "5 partners, 5 anchors, 5 CRLs: CPU ms of a session",
        1.1,
    ),
    (
        "5,000 partners, 500 anchors, 100 CRLs of 50,000: CPU ms of the gates for a session, two forks among them",
        "5 partners, 5 anchors, 5 CRLs: CPU ms of the gates for a session, two forks among them",
        1.1,
    ),
    (
        "5,000 partners, 500 anchors, 100 CRLs of 50,000: one session alone to SSID, p50 ms",
        "5 partners, 5 anchors, 5 CRLs: one session alone to SSID, p50 ms",
        1.1,
    ),
];

/// Fork, what a gate's own pages cost after it, and all else that the gates do for a session.
const OF_GATES: &str = "CPU ms of the gates for a session, two forks among them";

/// Whether cost grows no further than it should, of what was measured, and how far that of HAProxy grows.
pub fn verdicts(table: &Table) -> String {
    let line = |(row, beside, most): &(&str, &str, f64)| {
        let growth = |peer| Some(table.median(row, peer)? / table.median(beside, peer)?);
        let ratio = growth(Peer::Proxy)?;
        let verdict = if ratio <= *most { "met" } else { "NOT met" };
        let [other, floor] = [Peer::Haproxy, Peer::Copies]
            .map(|peer| growth(peer).map_or_else(|| "–".to_owned(), |ratio| format!("{ratio:.2}")));
        Some(format!("| {row} ÷ {beside} | {ratio:.2} | {other} | {floor} | ≤ {most} | {verdict} |\n"))
    };
    let lines: String = BOUNDS.iter().filter_map(line).collect();
    if lines.is_empty() {
        lines
    } else {
        format!(
            "| Growth | proxy | HAProxy | copies alone | To be met | |\n| --- | ---: | ---: | ---: | ---: | --- |\n{lines}"
        )
    }
}

/// How much a configuration holds.
#[derive(Clone, Copy, Debug)]
struct Amount {
    name: &'static str,
    partners: usize,
    anchors: usize,
    crls: usize,
    revoked: usize,
}

const FEW: Amount = Amount { name: "5 partners, 5 anchors, 5 CRLs", partners: 5, anchors: 5, crls: 5, revoked: 5 };
const MANY: Amount = Amount {
    name: "5,000 partners, 500 anchors, 100 CRLs of 50,000",
    partners: 5000,
    anchors: 500,
    crls: 100,
    revoked: 50_000,
};
const MANY_QUICKLY: Amount =
    Amount { name: "500 partners, 50 anchors, 10 CRLs of 500", partners: 500, anchors: 50, crls: 10, revoked: 500 };

/// What each of many sessions moves at least.
const MIB_OF_ONE: u64 = 16;

/// Of what takes minutes each time.
const MOST_ROUNDS: u32 = 3;

fn rounds(options: &Options) -> u32 {
    options.rounds.min(MOST_ROUNDS)
}

/// Transfers of 1 to 512 sessions at once. Each moves so much that what it needs for its first octets does not count.
pub fn sessions_at_once<'a>(
    caller: &Caller,
    topologies: impl Iterator<Item = &'a Topology> + Clone,
    options: &Options,
    table: &mut Table,
) -> Result<(), Trouble> {
    let plain = caller.plain();
    let everybody: Vec<i32> = topologies.clone().flat_map(|topology| topology.roots.iter().copied()).collect();
    for _ in 0..rounds(options) {
        for sessions in options.amount(vec![1, 8, 64, 256, 512], vec![1, 16]) {
            let mib = options.amount(2048.max(MIB_OF_ONE * sessions as u64), 64);
            for topology in topologies.clone() {
                let (peer, address, roots) = (topology.peer, topology.address, &topology.roots);
                let caller = if peer == Peer::Copies { &plain } else { caller };
                load::settle(&everybody); // what those before have left to be done
                let plan = Bulk { sessions, shape: LARGE, mib };
                let moved = load::bulk(caller, address, roots, plan).map_err(of(peer))?;
                table.add(&format!("sessions at once: {sessions}, CPU s/GiB"), peer, moved.cpu_per_gib);
                table.add(&format!("sessions at once: {sessions}, MiB/s"), peer, moved.mib_per_second);
            }
        }
    }
    Ok(())
}

/// New sessions beside idle ones; all that are beside few of them before those that are beside many.
pub fn beside_idle(caller: &Caller, topology: &Topology, options: &Options, table: &mut Table) -> Result<(), Trouble> {
    let (peer, address, roots) = (topology.peer, topology.address, &topology.roots);
    let mut partners = Vec::new();
    for count in options.amount(vec![0, 1000, 5000], vec![0, 20]) {
        partners.extend(load::idle(caller, address, count - partners.len()).map_err(of(peer))?);
        for _ in 0..rounds(options) {
            load::settle(roots);
            let called = load::sessions(caller, address, roots, options.amount(1000, 100)).map_err(of(peer))?;
            let name = |what: &str| format!("beside {} idle: {what}", thousands(count));
            table.add(&name("sessions/s"), peer, called.per_second);
            table.add(&name("CPU ms of a session"), peer, called.cpu_ms);
            if peer == Peer::Proxy {
                table.add(&name(OF_GATES), peer, called.roots_cpu_ms);
            }
            table.add(&name("CPU ms of the kernel's own threads for a session"), peer, called.kernel_cpu_ms);
        }
    }
    load::end(partners);
    load::settle(roots);
    Ok(())
}

/// The chain with a small configuration and with a large one.
pub fn configurations(world: &World, caller: &Caller, options: &Options, table: &mut Table) -> Result<(), Trouble> {
    for amount in [FEW, options.amount(MANY, MANY_QUICKLY)] {
        configuration(world, caller, options, amount, table)?;
    }
    Ok(())
}

fn configuration(
    world: &World,
    caller: &Caller,
    options: &Options,
    amount: Amount,
    table: &mut Table,
) -> Result<(), Trouble> {
    let material = Material::make(amount)?;
    let topology = proxy::start(world, None, Some(1))?;
    let Some(chain) = topology.chain() else { return Ok(()) };
    let name = |what: &str| format!("{}: {what}", amount.name);
    let add = |table: &mut Table, what: &str, value: f64| table.add(&name(what), Peer::Proxy, value);
    let mut crls = material.crls.clone();
    crls.push(world.crl.clone());
    proxy::serve(chain, crls);
    let mut config = chain.config.clone();
    material.add_to(&mut config);
    let gate = chain.server().pid();
    let before = snapshot_of(gate);
    let begun = Instant::now();
    chain.scripted_backend().set_config(config);
    // Sessions go on while it is taken over: how long does the slowest wait?
    let accepting = thread::scope(|scope| {
        let taken_over = scope.spawn(|| in_force(gate, before.as_ref(), begun));
        let mut slowest = Duration::ZERO;
        while !taken_over.is_finished() {
            slowest = load::handshakes(caller, topology.address, 5)?.into_iter().fold(slowest, Duration::max);
        }
        let took = taken_over.join().map_err(|_| Trouble("the waiting thread panicked".into()))??;
        Ok::<_, Trouble>((took, slowest))
    });
    let (took, slowest) = accepting?;
    add(table, "taken over, s (asked for every second)", took.as_secs_f64());
    add(table, "slowest new session meanwhile, ms", slowest.as_secs_f64() * 1000.0);
    load::settle(&topology.roots);
    for (role, kib) in memory_of_roles(&topology.roots) {
        add(table, &format!("MiB PSS of {role}"), kib / 1024.0);
    }
    let called = load::sessions(caller, topology.address, &topology.roots, options.amount(1000, 100))?;
    add(table, "sessions/s", called.per_second);
    add(table, "CPU ms of a session", called.cpu_ms);
    add(table, OF_GATES, called.roots_cpu_ms);
    let waits = load::handshakes(caller, topology.address, options.amount(200, 30))?;
    add(table, "one session alone to SSID, p50 ms", milliseconds(&waits, 0.5));
    Ok(())
}

/// Which prepared snapshot a gate has mapped.
fn snapshot_of(gate: i32) -> Option<String> {
    let maps = std::fs::read_to_string(format!("/proc/{gate}/maps")).ok()?;
    maps.lines().find(|line| line.contains("memfd:snapshot")).map(str::to_owned)
}

/// Waits until the gate has another snapshot.
fn in_force(gate: i32, before: Option<&String>, begun: Instant) -> Result<Duration, Trouble> {
    let another = until(Duration::from_secs(300), || snapshot_of(gate).filter(|now| Some(now) != before));
    another.map(|_| begun.elapsed()).ok_or_else(|| Trouble("the configuration was not taken over".into()))
}

/// KiB of gates, switchboard and agent.
fn memory_of_roles(roots: &[i32]) -> Vec<(String, f64)> {
    let mut roles = Vec::new();
    for (daemon, root) in ["proxyserver", "proxyclient"].iter().zip(roots) {
        roles.extend(proportional_kib(&[*root]).map(|kib| (format!("gate of the {daemon}"), kib)));
        for process in processes::below(*root) {
            let role = process.command_line.rsplit(": ").next().unwrap_or_default().to_owned();
            if role == "switchboard" || role == "agent" {
                roles.extend(proportional_kib(&[process.pid]).map(|kib| (role, kib)));
            }
        }
    }
    roles
}

/// What fills a configuration.
struct Material {
    anchors: Vec<String>,
    crls: Vec<Vec<u8>>,
    partners: Vec<Value>,
}

impl Material {
    fn make(amount: Amount) -> Result<Self, Trouble> {
        let (mut anchors, mut crls) = (Vec::new(), Vec::new());
        for number in 0..amount.anchors {
            let authority = Authority::of_kind(&format!("Anchor {number}"), KeyKind::P256)?;
            if number < amount.crls {
                // Serials of 16 octets, as certificate authorities give them.
                let serials: Vec<Vec<u8>> =
                    (1..=amount.revoked as u128).map(|serial| (serial << 64 | 1).to_be_bytes().to_vec()).collect();
                crls.push(authority.revoke(&serials)?);
            }
            anchors.push(authority.certificate_pem());
        }
        let partner = |number: usize| {
            json!({
                "name": format!("PARTNER {number}"),
                "certificate_sha256": [sha256(format!("partner {number}").as_bytes())],
                "ssid_codes": [format!("O0013{number:010}PARTNER")],
            })
        };
        Ok(Self { anchors, crls, partners: (0..amount.partners).map(partner).collect() })
    }

    fn add_to(&self, config: &mut Value) {
        let more = |place: &mut Value, values: Vec<Value>| {
            if let Some(array) = place.as_array_mut() {
                array.extend(values);
            }
        };
        more(&mut config["trust"]["anchors_pem"], self.anchors.iter().map(|pem| json!(pem)).collect());
        more(&mut config["trust"]["crls"], self.crls.iter().map(|crl| json!(sha256(crl))).collect());
        more(&mut config["partners"], self.partners.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_name_rows_that_are_measured() {
        let of_gates = BOUNDS.iter().flat_map(|(row, beside, _)| [row, beside]).filter(|row| row.contains("gates"));
        assert_eq!(of_gates.clone().count(), 4);
        assert!(of_gates.clone().all(|row| row.ends_with(OF_GATES)));
        let of_configurations = BOUNDS.iter().filter(|(row, ..)| row.contains("partners"));
        assert!(of_configurations.clone().all(|(row, ..)| row.starts_with(MANY.name)));
        assert!(of_configurations.clone().all(|(_, beside, _)| beside.starts_with(FEW.name)));
    }
}
