//! Start and end of the daemons, the link, and the host that they run on.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use nix::sys::signal::Signal;
use seccompiler::{SeccompAction, SeccompFilter};
use serde_json::json;
use tests::harness::{Chain, Held, Mark, PATIENCE, Plan, Process, Trouble, made_octets, until};
use tests::station::OutgoingFile;

/// An address that no host has (RFC 5737).
const NOBODYS: &str = "192.0.2.1";

/// Waits until the backend has an event with this code.
fn has_event(chain: &Chain, code: &str) {
    let found = || chain.scripted_backend().events().iter().any(|event| event["code"] == code).then_some(());
    assert!(until(PATIENCE, found).is_some(), "{code}: {:#?}", chain.scripted_backend().events());
}

#[test]
fn start_and_end_are_told_and_a_session_that_has_to_end_with_them() -> Result<(), Trouble> {
    let chain = Plan::new().configure(|config| config["limits"] = json!({ "drain_timeout_s": 1 })).start()?;
    chain.server_says("server-started")?;
    chain.client_says("client-started")?;
    has_event(&chain, "server-started");
    has_event(&chain, "client-started");
    has_event(&chain, "partner-port-open");
    let file = OutgoingFile::from_octets("STOPPED", made_octets(2_000_000));
    let held = Held::start(&chain.partner_address(), &chain.security(), &chain.settings(), file, 500_000)?;
    chain.server().signal(Signal::SIGTERM);
    chain.server_says("stop-requested")?;
    chain.server_says("session-stopped")?;
    let report = held.go_on()?;
    assert!(report.failure.is_some(), "{report:?}");
    assert!(chain.server().wait_for_end()?.success());
    assert!(chain.server().wait_for_text(" server-stopped ").is_ok());
    // The proxyclient follows its server, when its own session has ended.
    assert!(chain.client().wait_for_end()?.success());
    assert!(chain.client().wait_for_text(" client-stopped ").is_ok());
    has_event(&chain, "client-stopped");
    has_event(&chain, "partner-port-closed");
    Ok(())
}

#[test]
fn a_proxyclient_without_a_server_says_where_it_looks_for_it() -> Result<(), Trouble> {
    let mut chain = Plan::new().prepare()?;
    chain.start_client()?;
    let line = chain.client_says("link-unreachable")?;
    assert!(line.contains(&chain.link_address()), "{line}");
    has_event(&chain, "link-unreachable");
    Ok(())
}

#[test]
fn a_proxyserver_that_nobody_links_to_says_so_when_it_lasts() -> Result<(), Trouble> {
    let mut chain = Plan::new().prepare()?;
    chain.start_server()?;
    let missing = |line: &str| line.contains(" inside-missing ");
    chain.server().wait_within(Duration::from_secs(60) + PATIENCE, Mark::default(), "inside-missing", missing)?;
    // It reaches the system log with the client that comes at last.
    chain.start_client()?;
    chain.wait_until_open(Mark::default())?;
    has_event(&chain, "inside-missing");
    Ok(())
}

#[test]
fn an_outgoing_ip_that_the_dmz_host_does_not_have_ends_the_proxyserver() -> Result<(), Trouble> {
    let mut chain = Plan::new().configure(|config| config["outgoing_ip"] = json!(NOBODYS)).prepare()?;
    chain.start_server()?;
    chain.start_client()?;
    let line = chain.server_says("outgoing-ip-unavailable")?;
    assert!(line.contains(NOBODYS), "{line}");
    assert_eq!(chain.server().wait_for_end()?.code(), Some(11));
    has_event(&chain, "outgoing-ip-unavailable");
    Ok(())
}

#[test]
fn an_address_for_partners_that_another_program_holds_is_tried_until_it_is_free() -> Result<(), Trouble> {
    let mut chain = Plan::new().prepare()?;
    let holder = TcpListener::bind(chain.partner_address()).unwrap();
    chain.start_server()?;
    chain.start_client()?;
    let line = chain.server_says("partner-port-unavailable")?;
    assert!(line.contains(&chain.partner_address()), "{line}");
    has_event(&chain, "partner-port-unavailable");
    drop(holder);
    chain.wait_until_open(Mark::default())
}

#[test]
fn an_identity_key_that_others_can_read_is_not_used() -> Result<(), Trouble> {
    let chain = Plan::new().prepare()?;
    let key = chain.scratch.path().join("state/proxyserver/seon_proxyserver.key");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    let server = Process::start("proxyserver", &mut chain.server_command()?)?;
    let line = server.wait_for_text(" identity-unreadable ")?;
    assert!(line.contains(" FATAL ") && line.contains("chmod 600"), "{line}");
    assert_eq!(server.wait_for_end()?.code(), Some(10));
    Ok(())
}

/// A kernel without Landlock, as far as the daemon can see: a filter that its starter hands down answers for it.
#[test]
fn a_kernel_that_cannot_confine_all_is_told_at_the_start() -> Result<(), Trouble> {
    const NOT_THERE: u32 = nix::libc::ENOSYS as u32;
    let rules = BTreeMap::from([(nix::libc::SYS_landlock_create_ruleset, Vec::new())]);
    let architecture = std::env::consts::ARCH.try_into().unwrap();
    let filter =
        SeccompFilter::new(rules, SeccompAction::Allow, SeccompAction::Errno(NOT_THERE), architecture).unwrap();
    let program: seccompiler::BpfProgram = filter.try_into().unwrap();
    // The filter stays with its thread, and with what that thread starts.
    let in_a_thread = std::thread::spawn(move || {
        let mut chain = Plan::new().prepare()?;
        seccompiler::apply_filter(&program).unwrap();
        chain.start_server()?;
        let line = chain.server_says("confinement-incomplete")?;
        assert!(line.to_lowercase().contains("landlock"), "{line}");
        Ok(())
    });
    in_a_thread.join().unwrap()
}
