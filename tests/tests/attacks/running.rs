//! Sessions that run while something is attacked, and the processes that serve them.

use tests::harness::{Chain, Held, PATIENCE, Process, Trouble, made_octets, table, until};
use tests::station::{OutgoingFile, sha256};

const SIZE: usize = 1_000_000;

/// A session of the first partner that waits in the middle of its file.
pub fn hold(chain: &Chain, dataset: &str) -> Result<Held, Trouble> {
    let half = SIZE as u64 / 2;
    Held::start(&chain.partner_address(), &chain.security(), &chain.settings(), file(dataset), half)
}

/// It goes on, and its file is whole behind the proxy.
pub fn finishes(chain: &Chain, held: Held, dataset: &str) -> Result<(), Trouble> {
    let report = held.go_on()?;
    assert!(report.went_well(true), "{dataset}: {report:?}\n{}", chain.server().last_lines(20));
    is_whole(chain, dataset);
    Ok(())
}

/// The first partner gets in and sends a file.
pub fn serves(chain: &Chain, dataset: &str) {
    let report = chain.send(vec![file(dataset)]);
    assert!(report.went_well(true), "{dataset}: {report:?}\n{}", chain.server().last_lines(20));
    is_whole(chain, dataset);
}

fn file(dataset: &str) -> OutgoingFile {
    OutgoingFile::from_octets(dataset, made_octets(SIZE))
}

fn is_whole(chain: &Chain, dataset: &str) {
    assert_eq!(sha256(&std::fs::read(chain.received(dataset)).unwrap()), sha256(&made_octets(SIZE)), "{dataset}");
}

/// The gate of a daemon and all below it.
pub fn family(daemon: &Process) -> Vec<table::Entry> {
    let mut family = table::below(daemon.pid());
    family.extend(table::Entry::of(daemon.pid()));
    family
}

/// The processes of a daemon that are named after a role.
pub fn of_role(daemon: &Process, role: &str) -> Vec<table::Entry> {
    family(daemon).into_iter().filter(|entry| entry.name.starts_with(role)).collect()
}

/// Waits until a daemon has so many sessions.
pub fn wait_for_sessions(daemon: &Process, count: usize) -> Vec<table::Entry> {
    let found = until(PATIENCE, || Some(of_role(daemon, "session")).filter(|found| found.len() == count));
    found.unwrap_or_else(|| panic!("not {count} sessions but {:?}", table::below(daemon.pid())))
}

/// Lines of a log with that code.
pub fn count(process: &Process, code: &str) -> usize {
    process.lines().iter().filter(|line| line.contains(&format!(" {code} "))).count()
}
