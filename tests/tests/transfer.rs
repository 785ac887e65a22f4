//! Files from a partner through the built daemons into a receive daemon.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;
use tests::harness::{Chain, INSIDE_CODE, LogLine, PATIENCE, Plan, Process, Trouble, made_octets, table, until};
use tests::pki::{KeyKind, Wanted};
use tests::station::{
    self, Event, Level, OutgoingFile, Receiver, Report, Security, Settings, Store, TlsVersions, sha256,
};

fn arrived(chain: &Chain, report: &Report, dataset: &str, content: &[u8]) {
    assert!(report.went_well(true), "{report:?}\n{}", chain.client().last_lines(20));
    assert!(fs::read(chain.received(dataset)).unwrap() == content, "{dataset} is not what was sent");
}

/// A receive daemon in this process, which tells what it saw.
fn inside(settings: Settings, directory: &Path, outbox: Vec<OutgoingFile>) -> Receiver {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let store = Store::new(directory).unwrap();
    Receiver::start(any, &Security::Plain, settings, Some(store), outbox).unwrap()
}

/// What a daemon complained of: the first ten lines.
fn faults(daemon: &Process) -> String {
    let faulty = |line: &String| LogLine::read(line).is_none_or(|line| line.level != "INFO");
    daemon.lines().into_iter().filter(faulty).take(10).map(|line| format!("{line}\n")).collect()
}

fn inside_settings() -> Settings {
    Settings { buffer_size: 99_999, credit: 999, patience: PATIENCE, ..Settings::new(INSIDE_CODE, "INSIDE") }
}

#[test]
fn one_file_arrives_byte_for_byte_and_is_recorded() -> Result<(), Trouble> {
    let chain = Chain::start()?;
    let content = made_octets(5_000_000);
    let report = chain.send(vec![OutgoingFile::from_octets("INVOICES", content.clone())]);
    arrived(&chain, &report, "INVOICES", &content);
    assert!(report.protection.starts_with("TLSv1.3"), "{}", report.protection);

    let record = chain.scripted_backend().wait_for_record("a session record", PATIENCE, |_| true)?;
    assert_eq!(record["direction"], "incoming");
    assert_eq!(record["partner"], "ACME");
    assert_eq!(record["ssid_code"], chain.partners[0].code);
    assert_eq!(record["outcome"], "completed");
    assert_eq!(record["certificate_sha256"], json!(tests::pki::fingerprint(&chain.partners[0].identity)));
    assert_eq!(record["files"].as_array().map(Vec::len), Some(1), "{record}");
    assert_eq!(record["files"][0]["dataset_name"], "INVOICES");
    assert_eq!(record["files"][0]["bytes"], 5_000_000);
    assert_eq!(record["files"][0]["direction"], "from_partner");
    assert_eq!(record["files"][0]["result"], "acknowledged");
    assert!(record["bytes_from_partner"].as_u64().unwrap() > 5_000_000, "{record}");
    assert!(record["tls_version"].is_string() && record["cipher_suite"].is_string(), "{record}");
    Ok(())
}

#[test]
fn every_tls_version_and_kind_of_partner_key_carries_a_file() -> Result<(), Trouble> {
    let chain = Plan::new().configure(|config| config["unknown_partners"] = json!("accept")).start()?;
    let settings = Settings { code: "O0013000000SOMEBODY".into(), ..chain.settings() };
    for key in [KeyKind::P256, KeyKind::P384, KeyKind::Ed25519, KeyKind::Rsa2048] {
        let identity = chain.authority.issue(&Wanted { name: "Somebody", key, ..Wanted::default() })?;
        for versions in [TlsVersions::Tls12, TlsVersions::Tls13] {
            let security = chain.security_with(Some(identity.clone()), versions);
            let name = format!("{key:?}-{versions:?}").to_uppercase();
            let file = OutgoingFile::from_octets(&name, made_octets(100_000));
            let report = station::send(&chain.partner_address(), &security, &settings, vec![file]);
            arrived(&chain, &report, &name, &made_octets(100_000));
        }
    }
    Ok(())
}

#[test]
fn a_proxy_with_an_rsa_certificate_serves_both_tls_versions() -> Result<(), Trouble> {
    let authority = tests::pki::Authority::new("Proxy Authority")?;
    let identity = authority.issue(&Wanted { name: "Proxy", key: KeyKind::Rsa2048, ..Wanted::default() })?;
    let shown = identity.clone();
    let chain = Plan::new()
        .configure(move |config| {
            config["identity"] = json!({ "certificate_chain_pem": shown.chain_pem, "private_key_pem": shown.key_pem });
        })
        .start()?;
    for versions in [TlsVersions::Tls12, TlsVersions::Tls13] {
        let Security::Tls(mut tls) = chain.security_with(Some(chain.partners[0].identity.clone()), versions) else {
            unreachable!("it is TLS");
        };
        tls.trust = station::Trust::Authorities(authority.certificate_pem());
        let name = format!("{versions:?}").to_uppercase();
        let file = OutgoingFile::from_octets(&name, made_octets(1000));
        let report = station::send(&chain.partner_address(), &Security::Tls(tls), &chain.settings(), vec![file]);
        arrived(&chain, &report, &name, &made_octets(1000));
    }
    Ok(())
}

#[test]
fn several_files_and_an_empty_one_go_in_one_session() -> Result<(), Trouble> {
    let chain = Chain::start()?;
    let sizes = [0, 1, 63, 64, 1024, 100_000, 3_000_000];
    let name = |size: usize| format!("SIZE-{size}");
    let files = sizes.iter().map(|size| OutgoingFile::from_octets(&name(*size), made_octets(*size))).collect();
    let report = chain.send(files);
    for size in sizes {
        arrived(&chain, &report, &name(size), &made_octets(size));
    }
    Ok(())
}

#[test]
fn every_buffer_size_and_credit_passes_at_level_5() -> Result<(), Trouble> {
    let chain = Chain::start()?;
    for (buffer_size, credit) in [(128, 1), (128, 999), (2048, 7), (99_999, 1), (99_999, 999)] {
        let name = format!("B{buffer_size}-C{credit}");
        let settings = Settings { buffer_size, credit, ..chain.settings() };
        let file = OutgoingFile::from_octets(&name, made_octets(300_000));
        let report = station::send(&chain.partner_address(), &chain.security(), &settings, vec![file]);
        arrived(&chain, &report, &name, &made_octets(300_000));
        let agreed = report.agreement.unwrap();
        assert_eq!((agreed.level, agreed.buffer_size, agreed.credit), (Level::Five, buffer_size.into(), credit.into()));
    }
    Ok(())
}

#[test]
fn files_go_both_ways_in_one_session() -> Result<(), Trouble> {
    let scratch = tempfile::tempdir().unwrap();
    let outbox = vec![OutgoingFile::from_octets("BACK", made_octets(700_000))];
    let receiver = inside(inside_settings(), &scratch.path().join("inside"), outbox);
    let chain = Plan::new().receive_daemon_at(receiver.address()).start()?;
    let store = Store::new(scratch.path().join("partner")).unwrap();
    let file = OutgoingFile::from_octets("THERE", made_octets(400_000));
    let report =
        station::exchange(&chain.partner_address(), &chain.security(), &chain.settings(), vec![file], Some(store));
    assert!(report.went_well(true), "{report:?}\n{}", chain.client().last_lines(20));
    assert_eq!(report.received[0].sha256, sha256(&made_octets(700_000)));
    let answered = receiver.next_session(PATIENCE).expect("the receive daemon's session ends");
    assert!(answered.went_well(true), "{answered:?}");
    assert_eq!(answered.received[0].sha256, sha256(&made_octets(400_000)));
    Ok(())
}

/// What the sockets of three connections hold at most, with the buffer that is being sent; the last figure of tcp(7)'s
/// `tcp_rmem` and `tcp_wmem` is the largest size of one. Where that is more than the 98 MB that a credit of 999 lets a partner
/// send, only the memory of the sessions tells who stores what comes.
fn held_on_the_way() -> u64 {
    let largest = |name: &str| -> u64 {
        let sizes = std::fs::read_to_string(format!("/proc/sys/net/ipv4/{name}")).unwrap();
        sizes.split_whitespace().nth(2).unwrap().parse().unwrap()
    };
    3 * (largest("tcp_rmem") + largest("tcp_wmem")) + 99_999
}

/// A receive daemon that stops reading makes the partner stop sending: nothing in between stores what comes.
#[test]
fn a_receive_daemon_that_pauses_makes_the_partner_pause() -> Result<(), Trouble> {
    const FILE: usize = 150_000_000;
    let scratch = tempfile::tempdir().unwrap();
    let (go, wait) = channel::<()>();
    let wait = Mutex::new(Some(wait));
    let pauses = move |event: &Event| {
        if let Event::Progress { done, .. } = event
            && *done > 1_000_000
            && let Some(wait) = wait.lock().unwrap().take()
        {
            // The scenario may have failed: then it goes on.
            let _ = wait.recv();
        }
        Ok(())
    };
    let settings = Settings { observer: Some(Arc::new(pauses)), ..inside_settings() };
    let receiver = inside(settings, scratch.path(), Vec::new());
    let chain = Plan::new().receive_daemon_at(receiver.address()).start()?;

    let sent = Arc::new(AtomicU64::new(0));
    let seen = sent.clone();
    let counts = move |event: &Event| {
        if let Event::Progress { done, .. } = event {
            seen.store(*done, Ordering::SeqCst);
        }
        Ok(())
    };
    let settings = Settings { observer: Some(Arc::new(counts)), buffer_size: 99_999, credit: 999, ..chain.settings() };
    let (to, security) = (chain.partner_address(), chain.security());
    let file = OutgoingFile::from_octets("LARGE", made_octets(FILE));
    let sum = sha256(&made_octets(FILE));
    let partner = thread::spawn(move || station::send(&to, &security, &settings, vec![file]));

    // Until it has stood still for a second.
    let last = Mutex::new((Instant::now(), 0));
    let paused = until(PATIENCE, || {
        let (now, mut last) = (sent.load(Ordering::SeqCst), last.lock().unwrap());
        if now == 0 || now != last.1 {
            *last = (Instant::now(), now);
        }
        (last.0.elapsed() > Duration::from_secs(1)).then_some(now)
    });
    let paused = paused.expect("the partner pauses");
    assert!(paused < held_on_the_way(), "{paused} octets were taken while nobody read them");
    for daemon in [chain.server(), chain.client()] {
        for session in table::below(daemon.pid()).iter().filter(|entry| entry.name.starts_with("session")) {
            let memory = session.own_memory().expect("the session runs");
            assert!(memory < 8_000_000, "{} octets in {session:?}", memory);
        }
    }
    drop(go);
    let report = partner.join().unwrap();
    assert!(report.went_well(true), "{report:?}");
    let answered = receiver.next_session(PATIENCE).expect("the receive daemon's session ends");
    assert_eq!(answered.received[0].sha256, sum);
    Ok(())
}

#[test]
fn two_hundred_sessions_at_once_move_one_file_each() -> Result<(), Trouble> {
    const SESSIONS: usize = 200;
    let chain = Plan::new()
        .configure(|config| {
            // Times are for a machine that has nothing else to do; this one may have.
            config["limits"] = json!({
                "max_sessions_per_address": 1000, "max_unverified": 1000,
                "handshake_timeout_s": 120, "pairing_timeout_s": 120,
            });
        })
        .start()?;
    let content = |n: usize| made_octets(100_000 + n);
    let partners: Vec<_> = (0..SESSIONS)
        .map(|n| {
            let settings = Settings { patience: 4 * PATIENCE, ..chain.settings() };
            let (to, security) = (chain.partner_address(), chain.security());
            let file = OutgoingFile::from_octets(&format!("FILE-{n}"), content(n));
            thread::spawn(move || station::send(&to, &security, &settings, vec![file]))
        })
        .collect();
    let reports: Vec<Report> = partners.into_iter().map(|partner| partner.join().unwrap()).collect();
    let failed: Vec<_> = reports.iter().filter(|report| !report.went_well(true)).collect();
    assert!(
        failed.is_empty(),
        "{} of {SESSIONS} failed: {:?}\n{}\n{}",
        failed.len(),
        failed.iter().filter_map(|report| report.failure.as_ref()).map(ToString::to_string).collect::<BTreeSet<_>>(),
        faults(chain.server()),
        faults(chain.client()),
    );
    for n in 0..SESSIONS {
        let sum = sha256(&fs::read(chain.received(&format!("FILE-{n}"))).unwrap());
        assert_eq!(sum, sha256(&content(n)), "FILE-{n}");
    }
    Ok(())
}
