//! Sessions that crash again and again, and many sessions: the gate executes itself anew, and nobody else notices.

use std::ops::Range;
use std::path::PathBuf;
use std::thread;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
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

/// Where the code of a gate lies, and the number of the memory file that holds it, where the kernel has large pages for it.
fn code_of(gate: &Process) -> Option<(String, Option<String>)> {
    let maps = std::fs::read_to_string(format!("/proc/{}/maps", gate.pid())).ok()?;
    maps.lines().find_map(|line| {
        let [place, may, _, _, number, path, ..] = line.split_whitespace().collect::<Vec<_>>()[..] else { return None };
        let in_memory = path.contains("memfd:program");
        let is_code = may == "r-xp" && (in_memory || path.contains("/seon_proxy"));
        is_code.then(|| (place.to_owned(), in_memory.then(|| number.to_owned())))
    })
}

#[test]
fn sessions_beyond_256_get_another_layout_and_all_of_them_finish() -> Result<(), Trouble> {
    /// More than one and more than two generations.
    const SESSIONS: [usize; 2] = [270, 560];
    // The receive daemon has a connection and a file of each.
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, most, most).unwrap();
    let chain = Plan::new()
        .configure(|config| {
            config["limits"] = json!({
                "max_sessions": 1000, "max_sessions_per_address": 1000, "max_unverified": 1000,
                "handshake_timeout_s": 120, "pairing_timeout_s": 120,
            });
        })
        .start()?;
    let content = |number: usize| made_octets(50_000 + number);
    let hold = |number: usize| {
        let file = OutgoingFile::from_octets(&format!("FILE-{number}"), content(number));
        let settings = Settings { patience: 4 * PATIENCE, ..chain.settings() };
        Held::start(&chain.partner_address(), &chain.security(), &settings, file, 1)
    };
    let gates = [chain.server(), chain.client()];
    let Some(mut codes) = gates.iter().map(|gate| code_of(gate)).collect::<Option<Vec<_>>>() else {
        println!("skipped: without root nobody looks into a gate");
        return Ok(());
    };
    let mut held = Vec::new();
    for (sessions_now, shares_code) in SESSIONS.into_iter().zip([true, false]) {
        held.extend(hold_all(held.len()..sessions_now, hold)?);
        for (gate, (place, file)) in gates.iter().zip(&mut codes) {
            let (place_now, file_now) = until(PATIENCE, || code_of(gate).filter(|(now, _)| now != place))
                .unwrap_or_else(|| panic!("the layout is the same\n{}", gate.last_lines(10)));
            // Where there are no large pages, all execute the program's file.
            assert_eq!(file_now == *file, shares_code || file.is_none(), "{sessions_now}: {place} {place_now}");
            assert_eq!(sessions(gate).len(), sessions_now, "{}", gate.last_lines(10));
            let itself = table::Entry::of(gate.pid()).expect("the gate runs");
            assert_eq!((itself.name.as_str(), itself.threads), ("gate", 1));
            (*place, *file) = (place_now, file_now);
        }
    }
    for (number, held) in held.into_iter().enumerate() {
        let report = held.go_on()?;
        assert!(report.went_well(true), "{report:?}\n{}", chain.server().last_lines(20));
        let received = std::fs::read(chain.received(&format!("FILE-{number}"))).unwrap();
        assert_eq!(sha256(&received), sha256(&content(number)));
    }
    for gate in gates {
        // Those of before were reaped, too, and nobody is to be bothered with it.
        wait_for_sessions(gate, 0);
        let faults: Vec<_> = gate.lines().into_iter().filter(|line| !line.contains(" INFO ")).collect();
        assert!(faults.is_empty(), "{faults:#?}");
        gate.signal(Signal::SIGTERM);
        assert!(gate.wait_for_end()?.success(), "{}", gate.last_lines(10));
    }
    Ok(())
}

/// Sessions with these numbers, four at a time.
fn hold_all(numbers: Range<usize>, hold: impl Fn(usize) -> Result<Held, Trouble> + Sync) -> Result<Vec<Held>, Trouble> {
    let (numbers, hold) = (numbers.collect::<Vec<_>>(), &hold);
    let hold_part = |part: &[usize]| part.iter().map(|number| hold(*number)).collect::<Result<Vec<_>, _>>();
    thread::scope(|scope| {
        let parts = numbers.chunks(numbers.len().div_ceil(4)).map(|part| scope.spawn(move || hold_part(part)));
        let parts: Vec<_> = parts.collect();
        let parts: Result<Vec<_>, _> = parts.into_iter().map(|part| part.join().expect("it holds its part")).collect();
        parts.map(|parts| parts.into_iter().flatten().collect())
    })
}
