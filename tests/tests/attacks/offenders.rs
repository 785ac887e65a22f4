//! `offender_refuse_s`: an address that is at fault again and again is refused for a time that grows; nobody else is.

use std::io::{Read, Write};
use std::net::IpAddr;

use serde_json::json;
use tests::harness::{Chain, Mark, PATIENCE, Plan, Trouble, until};

use crate::calling::{call_from, handshake_from};
use crate::running::{count, finishes, hold, of_role, serves};

const OFFENDER: [u8; 4] = [127, 0, 9, 1];

/// Says what is no TLS, and waits until the proxy has closed. Whether it answered, which only a session does.
fn offend(chain: &Chain, from: [u8; 4]) -> bool {
    let mut stream = call_from(IpAddr::from(from), &chain.partner_address());
    let _ = stream.write_all(b"GET / HTTP/1.1\r\n\r\n");
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    !answer.is_empty()
}

fn told(chain: &Chain, mark: Mark, words: &str) -> Result<String, Trouble> {
    chain.server().wait_after(mark, words, |line| line.contains(" offender-refused ") && line.contains(words))
}

#[test]
fn an_address_with_repeated_faults_is_refused_for_a_time_that_grows_and_nobody_else_is() -> Result<(), Trouble> {
    let plan = Plan::new().partners(&["ACME", "ROAMING"]).configure(|config| {
        config["partners"][0]["allow_from"] = json!(["127.0.0.1/32"]);
        config["limits"] = json!({ "offender_refuse_s": 20 });
    });
    let chain = plan.start()?;
    let held = hold(&chain, "IN-FLIGHT")?;
    for number in 1..=3 {
        assert_eq!(count(chain.server(), "offender-refused"), 0, "after {number} faults");
        assert!(offend(&chain, OFFENDER), "a session answers with an alert");
        let all = until(PATIENCE, || (count(chain.server(), "handshake-failed") == number).then_some(()));
        assert!(all.is_some(), "{}", chain.server().last_lines(10));
    }
    let line = told(&chain, Mark::default(), "address=127.0.9.1: 3 faults; nothing is taken from there for 20 s")?;
    println!("{line}");
    // Refused at accept: no process, no answer, no line.
    for _ in 0..5 {
        assert!(!offend(&chain, OFFENDER), "{}", chain.server().last_lines(10));
    }
    assert_eq!(count(chain.server(), "handshake-failed"), 3);
    let over = told(&chain, Mark::default(), "5 connections were refused")?;
    println!("{over}");
    // Others of the same network, and addresses of partners whatever they did, come in.
    for _ in 0..5 {
        assert!(offend(&chain, [127, 0, 0, 1]), "an address of allow_from is not refused");
    }
    assert!(offend(&chain, [127, 0, 9, 2]), "another address is not refused");
    // A wrong certificate is a fault as well, and the next refusal is twice as long.
    let mark = chain.server().mark();
    handshake_from(IpAddr::from(OFFENDER), &chain);
    let line = told(&chain, mark, "4 faults; nothing is taken from there for 40 s")?;
    println!("{line}");
    finishes(&chain, held, "IN-FLIGHT")?;
    serves(&chain, "NEXT");
    let event = until(PATIENCE, || {
        chain.scripted_backend().events().into_iter().find(|event| event["code"] == "offender-refused")
    });
    let event = event.expect("the system log is told");
    assert!(event["peer_address"].as_str().is_some_and(|peer| peer.contains("127.0.9.1")), "{event}");
    Ok(())
}

/// A crash is its peer's fault, whoever that is.
#[test]
fn an_address_whose_sessions_crash_is_refused_though_it_is_a_partners() -> Result<(), Trouble> {
    let plan = Plan::new().with_evil_server().configure(|config| {
        config["partners"][0]["allow_from"] = json!(["127.0.0.0/8"]);
        config["limits"] = json!({ "offender_refuse_s": 3600 });
    });
    let chain = plan.start()?;
    let held = hold(&chain, "IN-FLIGHT")?;
    let execute = attempts::ATTEMPTS.iter().position(|attempt| *attempt == "execute").unwrap();
    let offender = attempts::address(1, execute);
    for number in 1..=3 {
        let _stream = call_from(offender, &chain.partner_address());
        let crashed = until(PATIENCE, || (count(chain.server(), "session-crashed") == number).then_some(()));
        assert!(crashed.is_some(), "{}", chain.server().last_lines(10));
    }
    told(&chain, Mark::default(), "3 faults; nothing is taken from there for 3600 s")?;
    let mut stream = call_from(offender, &chain.partner_address());
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    assert!(matches!(stream.read(&mut [0; 1]), Ok(0) | Err(_)));
    assert_eq!(count(chain.server(), "session-crashed"), 3);
    assert_eq!(of_role(chain.server(), "session").len(), 1);
    finishes(&chain, held, "IN-FLIGHT")?;
    serves(&chain, "NEXT");
    Ok(())
}
