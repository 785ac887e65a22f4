//! A role that stands still: the gate ends it when it does not take its messages; sessions need nobody.

use std::net::TcpStream;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use tests::harness::{Chain, PATIENCE, Plan, Trouble};

use crate::running::{finishes, hold, of_role, serves};

/// Ten seconds of patience, a restart, a link.
const ANEW: Duration = Duration::from_secs(120);

#[test]
fn a_switchboard_that_stands_still_is_ended_and_sessions_go_on() -> Result<(), Trouble> {
    let limits = json!({ "max_unverified": 2000, "max_sessions_per_address": 1000 });
    let chain = Plan::new().configure(|config| config["limits"] = limits).start()?;
    let held = hold(&chain, "IN-FLIGHT")?;
    let switchboard = of_role(chain.server(), "switchboard").remove(0);
    let mark = chain.server().mark();
    kill(Pid::from_raw(switchboard.pid), Signal::SIGSTOP).unwrap();
    // Each caller is a message; its socket takes some hundreds.
    let stuck = |line: &str| line.contains(" role-died ") && line.contains("has taken no message");
    let mut callers = Vec::new();
    let line = loop {
        let caller = TcpStream::connect(chain.partner_address());
        if let Some(line) = chain.server().lines_after(mark).into_iter().find(|line| stuck(line)) {
            break line;
        }
        match caller {
            Ok(caller) if callers.len() < 600 => callers.push(caller),
            // There are enough; or it was ended this moment, and the port is closed.
            _ => break chain.server().wait_within(ANEW, mark, "has taken no message", stuck)?,
        }
    };
    println!("{line}");
    drop(callers);
    chain.server().wait_within(ANEW, mark, "anew", |line| line.contains(" partner-port-open "))?;
    assert_ne!(of_role(chain.server(), "switchboard").remove(0).pid, switchboard.pid);
    finishes(&chain, held, "IN-FLIGHT")?;
    serves(&chain, "NEXT");
    Ok(())
}

#[test]
fn sessions_end_in_order_while_the_agent_stands_still_and_their_records_come_later() -> Result<(), Trouble> {
    let chain = Chain::start()?;
    let held = hold(&chain, "IN-FLIGHT")?;
    let agent = Pid::from_raw(of_role(chain.client(), "agent").remove(0).pid);
    kill(agent, Signal::SIGSTOP).unwrap();
    finishes(&chain, held, "IN-FLIGHT")?;
    chain.client_says("session-ended")?;
    assert!(chain.scripted_backend().session_records().is_empty(), "nobody is there to bring it");
    kill(agent, Signal::SIGCONT).unwrap();
    chain.scripted_backend().wait_for_record("the session", PATIENCE, |record| record["outcome"] == "completed")?;
    serves(&chain, "NEXT");
    assert_eq!(of_role(chain.client(), "agent").remove(0).pid, agent.as_raw());
    Ok(())
}
