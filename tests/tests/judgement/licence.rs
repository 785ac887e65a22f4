//! A licence that ends soon is told to the log and to the backend.

use std::path::Path;
use std::process::Command;

use chrono::{Days, Utc};
use serde_json::Value;
use tests::harness::{PATIENCE, Plan, Process, Trouble, binary};

#[test]
fn a_licence_that_ends_within_a_week_is_one_event() -> Result<(), Trouble> {
    let mut chain = Plan::new().prepare()?;
    let licence = std::fs::read_to_string(chain.scratch.path().join("seon_proxy.lic")).unwrap();
    let client = licence.lines().find(|line| line.starts_with("client:")).expect("the client stands in it");
    let day = |days| (Utc::now() + Days::new(days)).format("%Y-%m-%d").to_string();
    let mut issue = Command::new(binary("seon_license")?);
    issue.args(["issue", "--licensee", "Harness", "--from", "2020-01-01", "--until", &day(5)]);
    issue.args(["--proxy-id", &chain.proxy_id, "--client", client]);
    issue.arg("--issuer-key").arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("../etc/seon_community_issuer.key"));
    chain.scratch.write("seon_proxy.lic", Process::run("seon_license issue", &mut issue)?)?;
    chain.start_server()?;
    // Nobody is linked yet who could bring it to the backend.
    let line = chain.server_says("licence-expires")?;
    assert!(line.contains(&day(5)) || line.contains(&day(6)), "until when: {line}");
    chain.start_client()?;
    let told = |event: &Value| event["code"] == "licence-expires";
    let events = |request: &tests::harness::scripted_backend::Request| {
        request.path == "/proxy/v1/events"
            && request.json()["events"].as_array().is_some_and(|events| events.iter().any(told))
    };
    chain.scripted_backend().wait_for("the event", PATIENCE, events)?;
    let all = chain.scripted_backend().events();
    assert_eq!(all.iter().filter(|event| told(event)).count(), 1, "{all:#?}");
    assert!(all.iter().filter(|event| told(event)).all(|event| event["component"] == "proxyserver"), "{all:#?}");
    Ok(())
}
