//! Sessions that crash again and again: the gate executes itself anew, and nobody else notices.

use std::path::PathBuf;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tests::harness::{Chain, Held, PATIENCE, Plan, Process, Trouble, made_octets, table, until};
use tests::station::{OutgoingFile, Receiver, Report, Security, Settings, sha256};

const HALF: u64 = 500_000;
/// So many within an hour are too many.
const CRASHES: usize = 5;

fn whole() -> Vec<u8> {
    made_octets(1_000_000)
}

/// Who calls whom, and what runs for it.
enum Stage {
    /// A partner calls.
    In(Chain),
    /// A station inside calls a partner, which listens.
    Out { chain: Chain, _partner: Receiver },
}

impl Stage {
    fn incoming() -> Result<Self, Trouble> {
        Chain::start().map(Self::In)
    }

    fn outgoing() -> Result<Self, Trouble> {
        let chain = Plan::new().outgoing()?.start()?;
        let _partner = chain.partner_listens(0)?;
        Ok(Self::Out { chain, _partner })
    }

    fn chain(&self) -> &Chain {
        let (Self::In(chain) | Self::Out { chain, .. }) = self;
        chain
    }

    fn hold(&self, dataset: &str) -> Result<Held, Trouble> {
        let (file, chain) = (OutgoingFile::from_octets(dataset, whole()), self.chain());
        match self {
            Self::In(_) => Held::start(&chain.partner_address(), &chain.security(), &chain.settings(), file, HALF),
            Self::Out { .. } => {
                let settings = Settings { via: Some(chain.http()), ..chain.inside_settings() };
                Held::start(&chain.called_at(0), &Security::Plain, &settings, file, HALF)
            }
        }
    }

    fn send(&self, dataset: &str) -> Result<Report, Trouble> {
        let file = vec![OutgoingFile::from_octets(dataset, whole())];
        match self {
            Self::In(chain) => Ok(chain.send(file)),
            Self::Out { chain, .. } => chain.call(file),
        }
    }

    fn received(&self, dataset: &str) -> Result<PathBuf, Trouble> {
        match self {
            Self::In(chain) => Ok(chain.received(dataset)),
            Self::Out { chain, .. } => chain.taken_by(0, dataset),
        }
    }
}

fn sessions(daemon: &Process) -> Vec<table::Entry> {
    table::below(daemon.pid()).into_iter().filter(|entry| entry.name.starts_with("session")).collect()
}

fn wait_for_sessions(daemon: &Process, count: usize) -> Vec<table::Entry> {
    let found = until(PATIENCE, || Some(sessions(daemon)).filter(|found| found.len() == count));
    found.unwrap_or_else(|| panic!("not {count} sessions but {:?}", table::below(daemon.pid())))
}

#[test]
fn a_gate_whose_sessions_crash_executes_itself_anew_and_sessions_in_flight_finish() -> Result<(), Trouble> {
    executes_itself_anew(Stage::incoming)
}

/// The ports for stations inside and their sessions outlive it, too.
#[test]
fn a_gate_whose_outgoing_sessions_crash_executes_itself_anew_and_those_in_flight_finish() -> Result<(), Trouble> {
    executes_itself_anew(Stage::outgoing)
}

fn executes_itself_anew(start: impl Fn() -> Result<Stage, Trouble>) -> Result<(), Trouble> {
    for side in ["server", "client"] {
        let stage = start()?;
        let chain = stage.chain();
        let (daemon, role) = if side == "server" { (chain.server(), "switchboard") } else { (chain.client(), "agent") };
        let in_flight = stage.hold("IN-FLIGHT")?;
        let kept = wait_for_sessions(daemon, 1).remove(0).pid;
        let role_before = table::below(daemon.pid()).into_iter().find(|entry| entry.name.starts_with(role));
        let role_before = role_before.expect("the role runs").pid;
        for number in 1..=CRASHES {
            let struck = stage.hold(&format!("STRUCK-{number}"))?;
            let victim =
                wait_for_sessions(daemon, 2).into_iter().find(|entry| entry.pid != kept).expect("a second one");
            // Not SEGV, whose first delivery only ends a handler of the language.
            kill(Pid::from_raw(victim.pid), Signal::SIGABRT).unwrap();
            let report = struck.go_on()?;
            assert!(report.failure.is_some(), "{side}: {report:?}");
            wait_for_sessions(daemon, 1);
        }
        daemon.wait_for_text(" gate-anew ")?;
        daemon.wait_for_text("has executed itself anew; 1 sessions go on")?;

        let gate = table::Entry::of(daemon.pid()).expect("the gate runs");
        assert_eq!((gate.name.as_str(), gate.threads), ("gate", 1));
        let below = table::below(daemon.pid());
        for pid in [kept, role_before] {
            assert!(below.iter().any(|entry| entry.pid == pid), "{side}: {pid} is gone: {below:?}");
        }
        for dataset in ["NEXT", "OVER-NEXT"] {
            let report = stage.send(dataset)?;
            assert!(report.went_well(true), "{side}: {report:?}\n{}", daemon.last_lines(20));
        }
        let report = in_flight.go_on()?;
        assert!(report.went_well(true), "{side}: {report:?}\n{}", daemon.last_lines(20));
        assert_eq!(sha256(&std::fs::read(stage.received("IN-FLIGHT")?).unwrap()), sha256(&whole()));
        // The new gate reaps what the old one has forked, and still ends as it should.
        wait_for_sessions(daemon, 0);
        chain.server().signal(Signal::SIGTERM);
        assert!(chain.server().wait_for_end()?.success(), "{}", chain.server().last_lines(10));
        assert!(chain.client().wait_for_end()?.success(), "{}", chain.client().last_lines(10));
    }
    Ok(())
}
