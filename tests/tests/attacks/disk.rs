//! A full disk, for the log and for the spool: traffic goes on, and the loss is told when writing works again.

use std::cell::Cell;
use std::fs;
use std::path::PathBuf;

use tests::harness::{Chain, Mark, PATIENCE, Plan, Process, Trouble, until};

use crate::exhaustion::limit_of;
use crate::running::{count, finishes, hold, of_role, serves};

const LOGRC: &str = "\
appenders:
  terminal: { kind: console, target: stderr, encoder: { kind: seon_layout } }
  day: { kind: seon_appender, path: logs/day.log }
root: { level: info, appenders: [terminal, day] }
";

/// The names that a daemon's log may have in the course of this test, which may see midnight.
fn names(chain: &Chain, daemon: &str) -> Result<[PathBuf; 2], Trouble> {
    let logs = chain.scratch.directory(&format!("{daemon}/logs"))?;
    let today = chrono::Local::now().date_naive();
    Ok([today, today + chrono::Days::new(1)].map(|date| logs.join(format!("day-{}.log", date.format("%Y-%m-%d")))))
}

#[test]
fn a_full_disk_under_the_log_stops_nothing_and_the_loss_is_told() -> Result<(), Trouble> {
    let mut chain = Plan::new().prepare()?;
    let mut full = Vec::new();
    for daemon in ["proxyserver", "proxyclient"] {
        chain.scratch.write(&format!("{daemon}/seon_{daemon}.logrc"), LOGRC)?;
        for name in names(&chain, daemon)? {
            // Every write there ends with ENOSPC.
            std::os::unix::fs::symlink("/dev/full", &name).unwrap();
            full.push(name);
        }
    }
    chain.start_server()?;
    chain.start_client()?;
    chain.wait_until_open(Mark::default())?;
    let held = hold(&chain, "IN-FLIGHT")?;
    serves(&chain, "WITHOUT-A-LOG");
    for name in &full {
        fs::remove_file(name).unwrap();
    }
    let lost = |name: &PathBuf| {
        let text = fs::read_to_string(name).ok()?;
        text.lines().find(|line| line.contains(" log-records-dropped ")).map(str::to_owned)
    };
    let sessions = Cell::new(0);
    let told = until(PATIENCE, || {
        let told: Vec<String> = full.iter().filter_map(lost).collect();
        if told.len() == 2 {
            return Some(told);
        }
        // The next line says it, once the file is looked for again; there has to be one.
        serves(&chain, &format!("WITH-A-LOG-{}", sessions.replace(sessions.get() + 1)));
        None
    });
    let (told, sessions) = (told.expect("both daemons tell how many lines were lost"), sessions.get());
    println!("{told:#?}, {sessions} sessions later");
    finishes(&chain, held, "IN-FLIGHT")?;
    Ok(())
}

#[test]
fn a_full_disk_under_the_spool_loses_no_record_while_the_backend_is_there() -> Result<(), Trouble> {
    let chain = Chain::start()?;
    let held = hold(&chain, "IN-FLIGHT")?;
    let agent = of_role(chain.client(), "agent").remove(0);
    // No octet more in any file; the terminal is none.
    limit_of(agent.pid, "fsize", "0")?;
    serves(&chain, "WITHOUT-A-SPOOL");
    let told = |process: &Process, what: &str| process.wait_for(what, |line| line.contains(what)).map(drop);
    told(chain.client(), " spool-unwritable ")?;
    let is = |name: &'static str| move |record: &serde_json::Value| record["files"][0]["dataset_name"] == name;
    chain.scripted_backend().wait_for_record("a session meanwhile", PATIENCE, is("WITHOUT-A-SPOOL"))?;
    limit_of(agent.pid, "fsize", "unlimited")?;
    serves(&chain, "WITH-A-SPOOL");
    told(chain.client(), "reports are kept on disk again")?;
    finishes(&chain, held, "IN-FLIGHT")?;
    chain.scripted_backend().wait_for_record("the held session", PATIENCE, is("IN-FLIGHT"))?;
    assert_eq!(count(chain.client(), "role-died"), 0, "the bound for files kills nobody");
    assert_eq!(of_role(chain.client(), "agent").remove(0).pid, agent.pid);
    Ok(())
}
