//! Evil processes: each says to the one above it what it may not say, and is ended with a line; nobody else notices.

use std::time::Duration;

use attempts::{OF_INSIDE_SESSION, OF_SESSION, OF_SWITCHBOARD, address};
use serde_json::json;
use tests::harness::{Chain, PATIENCE, Plan, Process, Trouble, table, until};

use crate::calling::{call_from, handshake_from};
use crate::running::{finishes, hold, of_role, serves, wait_for_sessions};

/// A role that is ended is started anew after a pause, and linked again after another.
const ANEW: Duration = Duration::from_secs(90);

/// The words of an evil session and the line that they cost it.
const OF_SESSION_TOLD: [(&str, &str); 26] = [
    ("sign twice", "out of turn"),
    ("sign after pairing", "out of turn"),
    ("linked at once", "out of turn"),
    ("pair twice", "out of turn"),
    ("pair for another peer", "named another peer"),
    ("pair at another port", "named another peer"),
    ("a record of another session", "named another peer"),
    ("a record of another peer", "named another peer"),
    ("words after its record", "after its last word"),
    // It is not served any more.
    ("silence after its record", "handshake-failed"),
    ("an unknown kind", "no message between these processes"),
    ("a message cut", "no message between these processes"),
    ("something behind a message", "no message between these processes"),
    ("too large to sign", "larger than any handshake needs"),
    ("too large a chain", "larger than any handshake needs"),
    ("a pairing as large as the channel", "larger than any handshake needs"),
    ("a long name of a cipher", "larger than any handshake needs"),
    ("a long word at its end", "larger than any handshake needs"),
    ("too large for the channel", "larger than agreed"),
    ("a descriptor that nobody wants", "descriptor"),
    ("too many descriptors", "descriptor"),
    ("a flood of questions", "out of turn"),
    ("a log record cut", "sent what it may not send"),
    ("a payload in the log", "sent what it may not send"),
    ("a descriptor in the log", "sent what it may not send"),
    ("an end of the log", "SYS"),
];

fn roles(chain: &Chain) -> Vec<i32> {
    let roles = [of_role(chain.server(), "switchboard"), of_role(chain.client(), "agent")].concat();
    roles.iter().map(|entry| entry.pid).collect()
}

fn nobody_was_deaf(daemon: &Process) {
    for line in daemon.lines() {
        assert!(!line.contains("nobody minded"), "{line}");
        assert!(!line.starts_with("2026-01-01T00:00:00Z"), "a forged line: {line}");
    }
}

#[test]
fn an_evil_session_of_the_dmz_is_ended_with_a_line_and_nobody_else_notices() -> Result<(), Trouble> {
    let limits = json!({ "handshake_timeout_s": 10, "pairing_timeout_s": 5 });
    let chain = Plan::new().with_evil_server().configure(|config| config["limits"] = limits).start()?;
    let held = hold(&chain, "IN-FLIGHT")?;
    let before = roles(&chain);
    let mut silent = Vec::new();
    assert_eq!(OF_SESSION_TOLD.map(|(words, _)| words), OF_SESSION, "each has its row");
    for (place, (words, told)) in OF_SESSION_TOLD.into_iter().enumerate() {
        let mark = chain.server().mark();
        let stream = call_from(address(2, place), &chain.partner_address());
        let line = chain.server().wait_after(mark, told, |line| line.contains(told) && !line.contains(" DEBUG "))?;
        println!("{words}: {line}");
        if words == "silence after its record" {
            silent.push(stream);
        } else {
            // Its own process: the one to whom nobody listens may go meanwhile.
            let title = format!(" session {}", stream.local_addr().unwrap());
            let is_it = |entry: &table::Entry| entry.command_line.ends_with(&title);
            let gone = until(PATIENCE, || (!of_role(chain.server(), "session").iter().any(is_it)).then_some(()));
            assert!(gone.is_some(), "{words}: {:?}", of_role(chain.server(), "session"));
        }
        assert_eq!(roles(&chain), before, "{words}: no role has died");
    }
    // One to whom nobody listens any more, and who does not end, is ended when no session can be in set-up still.
    let line = chain.server().wait_for_text("neither verified nor over in time")?;
    assert!(line.contains(" session-misconduct "), "{line}");
    wait_for_sessions(chain.server(), 1);
    finishes(&chain, held, "IN-FLIGHT")?;
    serves(&chain, "NEXT");
    nobody_was_deaf(chain.server());
    let unlinked = chain.server().lines().into_iter().find(|line| line.contains(" link-down "));
    assert_eq!(unlinked, None);
    Ok(())
}

#[test]
fn an_evil_switchboard_is_ended_with_a_line_and_sessions_go_on() -> Result<(), Trouble> {
    let chain = Plan::new().with_evil_server().start()?;
    let held = hold(&chain, "IN-FLIGHT")?;
    for (place, words) in OF_SWITCHBOARD.iter().enumerate() {
        let (mark, before) = (chain.server().mark(), of_role(chain.server(), "switchboard"));
        let _stream = call_from(address(3, place), &chain.partner_address());
        let line = chain.server().wait_after(mark, words, |line| {
            ["the switchboard is ended: ", "sent what it may not send", "has shut its log down"]
                .iter()
                .any(|told| line.contains(told))
        })?;
        println!("{words}: {line}");
        chain.server().wait_after(mark, words, |line| line.contains(" role-died "))?;
        let open = |line: &str| line.contains(" partner-port-open ");
        chain.server().wait_within(ANEW, mark, "partner-port-open", open)?;
        assert_ne!(of_role(chain.server(), "switchboard"), before, "{words}");
    }
    finishes(&chain, held, "IN-FLIGHT")?;
    serves(&chain, "NEXT");
    Ok(())
}

#[test]
fn an_evil_session_of_the_inside_is_ended_with_a_line_and_nobody_else_notices() -> Result<(), Trouble> {
    let chain = Plan::new().with_evil_client().start()?;
    let held = hold(&chain, "IN-FLIGHT")?;
    let before = roles(&chain);
    for (place, words) in OF_INSIDE_SESSION.iter().enumerate() {
        let mark = chain.client().mark();
        let heard = handshake_from(address(4, place), &chain);
        assert!(heard.is_empty(), "{words}: the partner heard {heard:?}");
        let told = |line: &str| match *words {
            "an end of the log" => line.contains(" session-crashed ") && line.contains("SYS"),
            "words after its last one" => line.contains("after its last word"),
            record if record.contains("record") => line.contains("sent what it may not send"),
            _ => line.contains("spoke out of turn") || line.contains("ended before it was paired"),
        };
        let line = chain.client().wait_after(mark, words, told)?;
        println!("{words}: {line}");
        assert_eq!(roles(&chain), before, "{words}: no role has died");
    }
    // Those that are deaf to the order to end, too, are ended by force.
    let over = until(ANEW, || (of_role(chain.client(), "session").len() == 1).then_some(()));
    assert!(over.is_some(), "{:?}", of_role(chain.client(), "session"));
    chain.client().wait_for_text("it was told to end and did not")?;
    finishes(&chain, held, "IN-FLIGHT")?;
    serves(&chain, "NEXT");
    nobody_was_deaf(chain.client());
    Ok(())
}
