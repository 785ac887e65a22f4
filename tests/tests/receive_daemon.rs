//! The receive daemon down, silent, gone in the middle: the partner gets an orderly end and the log a reason.

use std::io::Read;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread;

use serde_json::json;
use tests::harness::{Chain, INSIDE_CODE, PATIENCE, Plan, Trouble, free_port, made_octets};
use tests::station::{self, Event, Failure, OutgoingFile, Receiver, Security, Settings, Store};

fn file() -> Vec<OutgoingFile> {
    vec![OutgoingFile::from_octets("A", made_octets(2_000_000))]
}

/// Waits for the session record, and for that outcome in it.
fn recorded(chain: &Chain, outcome: &str) -> Result<(), Trouble> {
    let record = chain.scripted_backend().wait_for_record("a session record", PATIENCE, |_| true)?;
    assert_eq!(record["outcome"], outcome, "{record}\n{}", chain.server().last_lines(3));
    Ok(())
}

#[test]
fn a_receive_daemon_that_is_down_closes_the_partners_connection_before_any_message() -> Result<(), Trouble> {
    let nobody = SocketAddr::from(([127, 0, 0, 1], free_port()?));
    let chain = Plan::new().receive_daemon_at(nobody).start()?;
    let report = chain.send(file());
    assert!(matches!(report.failure, Some(Failure::Closed("without ESID"))), "no SSRM, TLS closed: {report:?}");
    assert!(report.agreement.is_none());
    let said = chain.client_says("receive-daemon-unreachable")?;
    assert!(said.contains(&nobody.to_string()), "{said}");
    let in_dmz = chain.server_says("receive-daemon-unreachable")?;
    assert!(!in_dmz.contains(&nobody.to_string()), "where it is, the DMZ does not learn: {in_dmz}");
    Ok(())
}

#[test]
fn a_silent_receive_daemon_ends_in_a_time_out() -> Result<(), Trouble> {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    thread::spawn(move || {
        let held: Vec<_> = silent.incoming().collect();
        drop(held);
    });
    let chain = Plan::new()
        .receive_daemon_at(address)
        .configure(|config| config["limits"] = json!({ "inactivity_timeout_s": 5 }))
        .start()?;
    let report = chain.send(file());
    assert!(matches!(report.failure, Some(Failure::Closed(_))), "no SSRM has passed, so no ESID: {report:?}");
    let said = chain.client_says("session-timeout")?;
    assert!(said.contains("no SSRM of the inside came in time"), "{said}");
    recorded(&chain, "timeout")?;
    Ok(())
}

#[test]
fn a_receive_daemon_that_closes_in_the_middle_gives_the_partner_esid_08() -> Result<(), Trouble> {
    let scratch = tempfile::tempdir().unwrap();
    let leaves = |event: &Event| match event {
        Event::Progress { done, .. } if *done > 100_000 => Err("as planned".to_owned()),
        _ => Ok(()),
    };
    let settings = Settings { observer: Some(Arc::new(leaves)), ..Settings::new(INSIDE_CODE, "INSIDE") };
    let store = Store::new(scratch.path()).unwrap();
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let receiver = Receiver::start(any, &Security::Plain, settings, Some(store), Vec::new())?;
    let chain = Plan::new().receive_daemon_at(receiver.address()).start()?;
    let report = chain.send(file());
    assert!(matches!(report.failure, Some(Failure::Esid { code: 8, .. })), "{report:?}");
    chain.client_says("receive-daemon-lost")?;
    recorded(&chain, "aborted")?;
    Ok(())
}

#[test]
fn a_partner_that_leaves_in_the_middle_gives_the_receive_daemon_an_orderly_end() -> Result<(), Trouble> {
    let scratch = tempfile::tempdir().unwrap();
    let settings = Settings { patience: PATIENCE, ..Settings::new(INSIDE_CODE, "INSIDE") };
    let store = Store::new(scratch.path()).unwrap();
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let receiver = Receiver::start(any, &Security::Plain, settings, Some(store), Vec::new())?;
    let chain = Plan::new().receive_daemon_at(receiver.address()).start()?;
    let leaves = |event: &Event| match event {
        Event::Progress { done, .. } if *done > 100_000 => Err("as planned".to_owned()),
        _ => Ok(()),
    };
    let settings = Settings { observer: Some(Arc::new(leaves)), ..chain.settings() };
    let report = station::send(&chain.partner_address(), &chain.security(), &settings, file());
    assert!(matches!(report.failure, Some(Failure::Dropped(_))), "{report:?}");
    let answered = receiver.next_session(PATIENCE).expect("the receive daemon's session ends");
    assert!(matches!(answered.failure, Some(Failure::Esid { code: 99, .. })), "{answered:?}");
    chain.client_says("partner-lost")?;
    recorded(&chain, "aborted")?;
    Ok(())
}

#[test]
fn a_partner_that_says_nothing_after_the_handshake_ends_in_esid_09() -> Result<(), Trouble> {
    let chain = Plan::new().configure(|config| config["limits"] = json!({ "inactivity_timeout_s": 5 })).start()?;
    let mut silent = station::connect(&chain.partner_address(), &chain.security(), PATIENCE)?;
    assert_eq!(silent.receive()?, station::Command::Ssrm);
    match silent.receive()? {
        station::Command::Esid { reason, .. } => assert_eq!(reason, 9),
        other => panic!("{other:?}"),
    }
    silent.close();
    recorded(&chain, "timeout")?;
    Ok(())
}

/// Nobody speaks before the receive daemon does: what it says first reaches the partner without a word of the proxy.
#[test]
fn the_ready_message_is_the_receive_daemons_own() -> Result<(), Trouble> {
    let chain = Chain::start()?;
    let mut partner = station::connect(&chain.partner_address(), &chain.security(), PATIENCE)?;
    let octets = partner.receive_octets()?;
    assert_eq!(octets, b"\x10\0\0\x17IODETTE FTP READY \r");
    Ok(())
}

#[test]
fn a_receive_daemon_that_reads_and_never_answers_holds_nobody_else_up() -> Result<(), Trouble> {
    let deaf = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = deaf.local_addr().unwrap();
    thread::spawn(move || {
        for mut stream in deaf.incoming().flatten() {
            thread::spawn(move || {
                let mut sink = Vec::new();
                stream.read_to_end(&mut sink)
            });
        }
    });
    let chain = Plan::new()
        .receive_daemon_at(address)
        .configure(|config| config["limits"] = json!({ "inactivity_timeout_s": 5 }))
        .start()?;
    let callers: Vec<_> = (0..5)
        .map(|_| {
            let (to, security, settings) = (chain.partner_address(), chain.security(), chain.settings());
            thread::spawn(move || station::send(&to, &security, &settings, file()))
        })
        .collect();
    for caller in callers {
        let report = caller.join().unwrap();
        assert!(matches!(report.failure, Some(Failure::Closed(_))), "{report:?}");
    }
    Ok(())
}
