//! Outgoing sessions that run: judged again by each new configuration, also by an agent that did not see them begin, and
//! ended with the daemon.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use tests::harness::{Chain, Held, PATIENCE, Plan, Trouble, made_octets, table, until};
use tests::station::{Failure, OutgoingFile, Security, Settings};

/// So long a file that the order to end its session comes before its end, however busy the machine is.
const LONG: usize = 80_000_000;

fn start(drain: u32) -> Result<Chain, Trouble> {
    let limits = json!({ "drain_timeout_s": drain });
    let plan = Plan::new().partners(&["ACME", "OTHER"]).outgoing()?.poll_every(1);
    let chain = plan.configure(move |config| config["limits"] = limits).start()?;
    chain.client_says("outgoing-port-open")?;
    Ok(chain)
}

fn hold(chain: &Chain, partner: usize) -> Result<Held, Trouble> {
    let settings = Settings { via: Some(chain.http()), ..chain.inside_settings() };
    let file = OutgoingFile::from_octets("LONG", made_octets(LONG));
    Held::start(&chain.called_at(partner), &Security::Plain, &settings, file, 500_000)
}

fn ends_with_05(held: Held) -> Result<(), Trouble> {
    let report = held.go_on()?;
    assert!(matches!(report.failure, Some(Failure::Esid { code: 5, .. })), "{report:?}");
    Ok(())
}

#[test]
fn a_called_partner_that_no_longer_stands_loses_its_session_also_by_the_next_agent() -> Result<(), Trouble> {
    let chain = start(60)?;
    let (_acme, _other) = (chain.partner_listens(0)?, chain.partner_listens(1)?);
    let (first, second) = (hold(&chain, 0)?, hold(&chain, 1)?);
    chain.reconfigure(|config| config["partners"][1]["enabled"] = json!(false));
    let line = chain.client_says("session-withdrawn")?;
    assert!(line.contains("partner-disabled"), "{line}");
    ends_with_05(second)?;
    // What an agent has heard last dies with it; the record of this session is not to be that.
    chain.scripted_backend().wait_for_record("OTHER", PATIENCE, |record| record["partner"] == "OTHER")?;

    let gate = chain.client().pid();
    let agent = || table::below(gate).into_iter().find(|entry| entry.name.starts_with("agent")).map(|entry| entry.pid);
    let (before, mark) = (agent().expect("it runs"), chain.client().mark());
    kill(Pid::from_raw(before), Signal::SIGKILL).unwrap();
    assert!(until(PATIENCE, || agent().filter(|pid| *pid != before)).is_some());
    chain.client().wait_after(mark, "link-up", |line| line.contains(" link-up "))?;
    chain.reconfigure(|config| config["partners"][0]["certificate_sha256"] = json!(["0".repeat(64)]));
    let withdrawn = |line: &str| line.contains(" session-withdrawn ") && line.contains("partner-unknown");
    chain.client().wait_after(mark, "session-withdrawn", withdrawn)?;
    ends_with_05(first)?;
    for partner in ["ACME", "OTHER"] {
        let record =
            chain.scripted_backend().wait_for_record(partner, PATIENCE, |record| record["partner"] == partner)?;
        assert_eq!((&record["direction"], &record["outcome"]), (&json!("outgoing"), &json!("aborted")));
        assert_eq!(record["ssid_code"], format!("O0013000000{partner}"));
        assert_eq!(record["files"][0]["direction"], "to_partner");
    }
    Ok(())
}

#[test]
fn an_outgoing_session_gets_the_time_to_drain_and_then_esid_05() -> Result<(), Trouble> {
    let chain = start(1)?;
    let _acme = chain.partner_listens(0)?;
    let held = hold(&chain, 0)?;
    chain.client().signal(Signal::SIGTERM);
    chain.client().wait_for_text("sessions are told to end")?;
    ends_with_05(held)?;
    assert!(chain.client().wait_for_end()?.success());
    let record =
        chain.scripted_backend().wait_for_record("it", PATIENCE, |record| record["direction"] == "outgoing")?;
    assert_eq!(record["outcome"], "aborted");
    Ok(())
}
