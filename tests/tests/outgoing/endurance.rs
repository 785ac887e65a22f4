//! Many at once, both directions at once, and somebody who leaves in the middle.

use std::ffi::OsString;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tests::harness::{Chain, Held, PATIENCE, Plan, Process, Recorder, Trouble, made_octets, table, until};
use tests::station::{self, Event, Failure, OutgoingFile, Report, Security, Settings};

use crate::scene::{SIZE, arrived, file, http_refusal, recorded, told, until_closed};

/// A station that calls ACME and waits in the middle of its file.
fn hold(chain: &Chain, dataset: &str) -> Result<Held, Trouble> {
    let settings = Settings { via: Some(chain.http()), ..chain.inside_settings() };
    let file = OutgoingFile::from_octets(dataset, made_octets(SIZE));
    Held::start(&chain.called_at(0), &Security::Plain, &settings, file, 100_000)
}

/// An observer that leaves, without a word, once so much of a file has passed.
fn leaves_in_the_middle(settings: Settings) -> Settings {
    let leaves = |event: &Event| match event {
        Event::Progress { done, .. } if *done > 100_000 => Err("as planned".to_owned()),
        _ => Ok(()),
    };
    Settings { observer: Some(Arc::new(leaves)), ..settings }
}

#[test]
fn both_directions_with_the_same_partner_at_once() -> Result<(), Trouble> {
    let chain = Plan::new().outgoing()?.start()?;
    let partner = chain.partner_listens(0)?;
    let in_settings = chain.settings();
    let made = OutgoingFile::from_octets("IN", made_octets(SIZE));
    let coming = Held::start(&chain.partner_address(), &chain.security(), &in_settings, made, 100_000)?;
    let going = hold(&chain, "OUT")?;
    let report = coming.go_on()?;
    assert!(report.went_well(true), "{report:?}");
    assert!(std::fs::read(chain.received("IN")).unwrap() == made_octets(SIZE));
    arrived(&chain, 0, "OUT", &going.go_on()?, &partner);
    for direction in ["incoming", "outgoing"] {
        let of_it = |record: &Value| record["direction"] == direction && record["outcome"] == "completed";
        let record = chain.scripted_backend().wait_for_record(direction, PATIENCE, of_it)?;
        assert_eq!(record["partner"], "ACME", "{record}");
    }
    Ok(())
}

#[test]
fn two_hundred_outgoing_sessions_at_once_move_one_file_each() -> Result<(), Trouble> {
    const SESSIONS: usize = 200;
    let chain = Plan::new()
        .outgoing()?
        .configure(|config| {
            // Times are for a machine that has nothing else to do; this one may have.
            config["limits"] = json!({ "handshake_timeout_s": 120, "pairing_timeout_s": 120 });
        })
        .start()?;
    let partner = chain.partner_listens(0)?;
    let settings = Settings { via: Some(chain.http()), patience: 4 * PATIENCE, ..chain.inside_settings() };
    let to = chain.called_at(0);
    let stations: Vec<_> = (0..SESSIONS)
        .map(|number| {
            let (to, settings) = (to.clone(), settings.clone());
            let file = OutgoingFile::from_octets(&format!("FILE-{number}"), made_octets(100_000 + number));
            thread::spawn(move || station::send(&to, &Security::Plain, &settings, vec![file]))
        })
        .collect();
    let reports: Vec<Report> = stations.into_iter().map(|station| station.join().unwrap()).collect();
    let failed: Vec<_> = reports.iter().filter(|report| !report.went_well(true)).collect();
    let first: Vec<_> = failed.iter().take(3).map(|report| format!("{:?}", report.failure)).collect();
    assert!(failed.is_empty(), "{} of {SESSIONS} failed: {first:?}\n{}", failed.len(), chain.client().last_lines(20));
    assert_eq!(partner.next_sessions(SESSIONS, PATIENCE).len(), SESSIONS);
    for number in 0..SESSIONS {
        let content = std::fs::read(chain.taken_by(0, &format!("FILE-{number}"))?).unwrap();
        assert!(content == made_octets(100_000 + number), "FILE-{number}");
    }
    Ok(())
}

#[test]
fn a_partner_has_no_more_sessions_than_it_may_in_both_directions_together() -> Result<(), Trouble> {
    let chain = Plan::new().outgoing()?.configure(|config| config["partners"][0]["max_sessions"] = json!(1)).start()?;
    let partner = chain.partner_listens(0)?;
    let held = hold(&chain, "HELD")?;
    let report = chain.call(file("NEVER"))?;
    assert!(matches!(http_refusal(&report), Some((503, _))), "{report:?}");
    let report = chain.send(file("NEVER"));
    assert!(!report.went_well(false), "{report:?}");
    arrived(&chain, 0, "HELD", &held.go_on()?, &partner);
    // That it has ended is known a moment after its station knows.
    let next = || chain.call(file("NEXT")).ok().filter(|report| http_refusal(report).is_none());
    let report = until(PATIENCE, next).expect("the place is free again");
    arrived(&chain, 0, "NEXT", &report, &partner);
    Ok(())
}

#[test]
fn a_station_that_leaves_in_mid_file_gives_the_partner_an_orderly_end() -> Result<(), Trouble> {
    let chain = Plan::new().outgoing()?.start()?;
    let partner = chain.partner_listens(0)?;
    let settings = leaves_in_the_middle(Settings { via: Some(chain.http()), ..chain.inside_settings() });
    let report = station::send(&chain.called_at(0), &Security::Plain, &settings, file("CUT"));
    assert!(matches!(report.failure, Some(Failure::Dropped(_))), "{report:?}");
    let taken = partner.next_session(PATIENCE).expect("the partner's session ends");
    // RFC 5024, 5.3.14: 99, unspecified. What became of the station is nothing to the partner.
    assert!(matches!(taken.failure, Some(Failure::Esid { code: 99, .. })), "{taken:?}");
    let aborted = |record: &Value| record["outcome"] == "aborted" && record["direction"] == "outgoing";
    let record = chain.scripted_backend().wait_for_record("the session", PATIENCE, aborted)?;
    assert_eq!(record["files"][0]["result"], "incomplete", "{record}");
    Ok(())
}

#[test]
fn a_partner_that_leaves_in_mid_file_gives_the_station_an_orderly_end() -> Result<(), Trouble> {
    let chain = Plan::new().outgoing()?.start()?;
    let settings = leaves_in_the_middle(chain.called_settings(0)?);
    let partner = chain.partner_listens_with(0, chain.called_security(0)?, settings)?;
    let report = chain.call(file("CUT"))?;
    assert!(matches!(report.failure, Some(Failure::Esid { .. })), "{report:?}");
    drop(partner);
    let record = recorded(&chain, "partner-lost");
    assert_eq!(record["outcome"], "aborted", "{record}");
    // The file is sent again in the next session.
    let partner = chain.partner_listens(0)?;
    let report = chain.call(file("CUT"))?;
    assert!(report.went_well(true), "{report:?}");
    drop(partner);
    Ok(())
}

/// The station goes while the partner is being called: nothing is left of it on either side.
#[test]
fn a_station_that_leaves_during_the_set_up_is_called_off() -> Result<(), Trouble> {
    let chain = Plan::new().outgoing()?.start()?;
    let listener = TcpListener::bind(chain.called_at(0).parse::<SocketAddr>().unwrap()).unwrap();
    let (arrived, arrival) = channel();
    let silent = thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        arrived.send(()).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        // The handshake begins, and ends without an answer.
        socket.read_to_end(&mut Vec::new()).map(drop)
    });
    let target = chain.called_at(0);
    let tries = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n");
    let mut station = TcpStream::connect(chain.proxy_address()).unwrap();
    station.write_all(tries.as_bytes()).unwrap();
    arrival.recv_timeout(PATIENCE).expect("the partner is called");
    drop(station);
    silent.join().unwrap().expect("the call is given up");
    told(chain.client(), Default::default(), "outgoing-station-left")?;
    recorded(&chain, "outgoing-station-left");
    Ok(())
}

/// The link breaks while the partner is being called; sessions that stand do not notice.
#[test]
fn a_link_that_is_lost_during_the_set_up_fails_that_call_alone() -> Result<(), Trouble> {
    let mut chain = Plan::new().partners(&["ACME", "HOME"]).outgoing()?.prepare()?;
    chain.start_server()?;
    let link = Recorder::start(chain.link_address().parse().unwrap())?;
    chain.client = Some(client_through(&chain, link.address())?);
    chain.wait_until_open(Default::default())?;
    chain.client_says("outgoing-port-open")?;
    let home = chain.partner_listens(1)?;
    let settings = Settings { via: Some(chain.http()), ..chain.inside_settings() };
    let held_file = OutgoingFile::from_octets("HELD", made_octets(SIZE));
    let held = Held::start(&chain.called_at(1), &Security::Plain, &settings, held_file, 100_000)?;

    let listener = TcpListener::bind(chain.called_at(0).parse::<SocketAddr>().unwrap()).unwrap();
    let (arrived_there, arrival) = channel();
    let silent = thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        arrived_there.send(()).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.read_to_end(&mut Vec::new()).map(drop)
    });
    let (to, calling) = (chain.called_at(0), settings.clone());
    let caller = thread::spawn(move || station::send(&to, &Security::Plain, &calling, file("NEVER")));
    arrival.recv_timeout(PATIENCE).expect("the partner is called");
    let mark = chain.server().mark();
    link.cut_first();
    let report = caller.join().unwrap();
    assert!(matches!(report.failure, Some(Failure::Proxy(_))), "{report:?}");
    silent.join().unwrap().expect("the call is given up in the DMZ");
    arrived(&chain, 1, "HELD", &held.go_on()?, &home);

    told(chain.server(), mark, "partner-port-open")?;
    let report = chain.call_via(chain.http(), &chain.called_at(1), file("AGAIN"))?;
    arrived(&chain, 1, "AGAIN", &report, &home);
    Ok(())
}

/// The client as usual, but for `-S`.
fn client_through(chain: &Chain, address: SocketAddr) -> Result<Process, Trouble> {
    let usual = chain.client_command()?;
    let mut arguments: Vec<OsString> = usual.get_args().map(ToOwned::to_owned).collect();
    let place = arguments.iter().position(|argument| argument == "-S").expect("-S is given");
    arguments[place + 1] = address.to_string().into();
    Process::start("proxyclient", Command::new(usual.get_program()).args(arguments))
}

/// Stations that connect and say nothing are many, and those that call are served all the same.
#[test]
fn a_storm_of_silent_stations_keeps_nobody_from_calling() -> Result<(), Trouble> {
    const STORM: usize = 30;
    let chain =
        Plan::new().outgoing()?.configure(|config| config["limits"] = json!({ "max_unverified": 20 })).start()?;
    let partner = chain.partner_listens(0)?;
    let held = hold(&chain, "HELD")?;
    let mut storm: Vec<_> = (0..STORM).map(|_| TcpStream::connect(chain.proxy_address()).unwrap()).collect();
    let report = chain.call(file("MEANWHILE"))?;
    arrived(&chain, 0, "MEANWHILE", &report, &partner);
    // The first ones had to go, without a word.
    storm[0].set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(until_closed(&mut storm[0]), b"");
    told(chain.client(), Default::default(), "limit-reached")?;
    arrived(&chain, 0, "HELD", &held.go_on()?, &partner);
    Ok(())
}

/// Agent and switchboard die; who is being called is lost, sessions that stand go on, and calls are made again.
#[test]
fn the_death_of_a_role_costs_no_outgoing_session() -> Result<(), Trouble> {
    let chain = Plan::new().outgoing()?.start()?;
    let partner = chain.partner_listens(0)?;
    for (daemon, role) in [(chain.client(), "agent"), (chain.server(), "switchboard")] {
        let dataset = role.to_uppercase();
        let held = hold(&chain, &dataset)?;
        let family = table::below(daemon.pid());
        let victim = family.iter().find(|entry| entry.name == role).unwrap_or_else(|| panic!("{family:?}"));
        let mark = chain.server().mark();
        kill(Pid::from_raw(victim.pid), Signal::SIGKILL).unwrap();
        told(chain.server(), mark, "partner-port-open")?;
        arrived(&chain, 0, &dataset, &held.go_on()?, &partner);
        let again = format!("AFTER-{dataset}");
        let report = chain.call(file(&again))?;
        arrived(&chain, 0, &again, &report, &partner);
    }
    Ok(())
}

#[test]
fn a_proxyclient_that_ends_lets_outgoing_sessions_end_and_takes_no_new_ones() -> Result<(), Trouble> {
    let chain = Plan::new().outgoing()?.start()?;
    let partner = chain.partner_listens(0)?;
    let held = hold(&chain, "HELD")?;
    chain.client().signal(Signal::SIGTERM);
    told(chain.client(), Default::default(), "stop-requested")?;
    let closed = || TcpStream::connect(chain.proxy_address()).is_err().then_some(());
    until(PATIENCE, closed).expect("the port for stations closes");
    arrived(&chain, 0, "HELD", &held.go_on()?, &partner);
    assert!(chain.client().wait_for_end()?.success(), "{}", chain.client().last_lines(10));
    Ok(())
}
