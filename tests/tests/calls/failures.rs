//! Calls that come to nothing: each has its situation and a sentence for the station that wanted it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use nix::sys::signal::Signal;
use proxylink::message::{FromClient, FromServer};
use proxylink::pairing::Direction;
use proxylink::record::SessionOutcome;
use proxylink::situation::Situation;
use tests::harness::{Chain, PATIENCE, Trouble, until};
use tests::pki::{self, Authority, Purpose, Validity, Wanted};
use tests::station::{Command, Identity, TlsVersions};
use verification::PartnerSource;

use crate::inside::{Inside, partner, snapshot};
use crate::partner::{Partner, answer, tls, usual};
use crate::running::linked;

/// Calls the partner there, which must fail, and checks what does not depend on why.
fn fails(chain: &Chain, inside: &mut Inside, at: &str) -> (Situation, String) {
    inside.give(snapshot(chain, vec![partner(chain, at)]));
    let failed = inside.failure("ACME");
    let (situation, text) = (failed.refused.situation, failed.refused.text);
    if let Some(record) = failed.record {
        assert_eq!((record.direction, record.situation), (Direction::Outgoing, situation));
        assert!(record.detail.contains(&text), "{}", record.detail);
        let reached: Option<SocketAddr> = at.parse().ok().filter(|_| situation != Situation::CallRefused);
        assert_eq!(record.peer, reached.unwrap_or("[::]:0".parse().unwrap()), "{text}");
    }
    assert!(chain.server_says(situation.code()).unwrap().contains(&text));
    (situation, text)
}

#[test]
fn what_cannot_be_reached_is_told_with_its_reason() -> Result<(), Trouble> {
    let (chain, mut inside) = linked()?;
    // RFC 6761, 6.4: `invalid` never exists.
    let (situation, text) = fails(&chain, &mut inside, "partner.invalid:6619");
    assert_eq!(situation, Situation::CallNameUnknown);
    assert!(text.contains("partner.invalid"), "{text}");

    let deserted = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (situation, text) = fails(&chain, &mut inside, &deserted.to_string());
    assert_eq!((situation, text), (Situation::CallRefused, format!("{deserted} refuses the connection")));

    for nobody in ["OTHER", &deserted.to_string()] {
        assert_eq!(inside.failure(nobody).refused.situation, Situation::TargetRefused, "{nobody}");
    }
    let disabled = PartnerSource { enabled: false, ..partner(&chain, "127.0.0.1:1") };
    inside.give(snapshot(&chain, vec![disabled]));
    assert_eq!(inside.failure("ACME").refused.situation, Situation::TargetRefused);
    inside.give(snapshot(&chain, vec![PartnerSource { address: None, ..partner(&chain, "127.0.0.1:1") }]));
    assert_eq!(inside.failure("ACME").refused.situation, Situation::CallUnreachable);
    // Of another family than its own address to call from.
    let mut wanted = snapshot(&chain, vec![partner(&chain, "127.0.0.1:1")]);
    wanted.policy.partners[0].outgoing_ip = Some("::1".parse().unwrap());
    inside.give(wanted);
    let failed = inside.failure("ACME");
    assert_eq!(failed.refused.situation, Situation::CallUnreachable);
    assert!(failed.refused.text.contains("family"), "{}", failed.refused.text);
    Ok(())
}

#[test]
fn who_calls_before_there_is_a_snapshot_hears_just_that() -> Result<(), Trouble> {
    let (_chain, mut inside) = linked()?;
    let refused = inside.failure("ACME").refused;
    // Of its certificate nothing is known.
    assert_eq!(refused.situation, Situation::LinkDown);
    assert_eq!(refused.text, "the proxyserver has no configuration yet");
    Ok(())
}

#[test]
fn many_calls_at_once_get_an_answer_each() -> Result<(), Trouble> {
    let (chain, mut inside) = linked()?;
    let deserted = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut wanted = snapshot(&chain, vec![partner(&chain, &deserted.to_string())]);
    wanted.limits.max_sessions = 1000;
    inside.give(wanted);
    let mut called: Vec<_> = (0..150).map(|_| inside.call("ACME")).collect();
    while !called.is_empty() {
        match inside.hear() {
            Some(FromServer::CallFailed(session, failed)) => {
                assert_eq!(failed.refused.situation, Situation::CallRefused, "{}", failed.refused.text);
                let place = called.iter().position(|called| *called == session).expect("one answer each");
                called.swap_remove(place);
            }
            other => panic!("{other:?}"),
        }
    }
    Ok(())
}

#[test]
fn a_partners_own_source_address_that_is_missing_fails_this_partner_alone() -> Result<(), Trouble> {
    let (chain, mut inside) = linked()?;
    let mut wanted = snapshot(&chain, vec![partner(&chain, "127.0.0.1:1")]);
    // RFC 5737: no host has it.
    wanted.policy.partners[0].outgoing_ip = Some("192.0.2.1".parse().unwrap());
    inside.give(wanted);
    let failed = inside.failure("ACME");
    assert_eq!(failed.refused.situation, Situation::CallSourceUnavailable);
    assert!(failed.refused.text.contains("192.0.2.1"), "{}", failed.refused.text);
    assert_eq!(failed.record.map(|record| record.outcome), Some(SessionOutcome::Refused));
    assert!(TcpStream::connect(chain.partner_address()).is_ok(), "the others are served");
    Ok(())
}

#[test]
fn a_common_source_address_that_is_missing_ends_the_proxyserver_and_is_told() -> Result<(), Trouble> {
    let (chain, mut inside) = linked()?;
    let mut wanted = snapshot(&chain, Vec::new());
    wanted.outgoing_ip = Some("192.0.2.1".parse().unwrap());
    inside.give(wanted);
    let goodbye = inside.hear();
    assert!(matches!(goodbye, Some(FromServer::Goodbye(_))), "{goodbye:?}");
    let told: Vec<_> = inside.reports.iter().map(|report| (report.situation, report.text.clone())).collect();
    let event = told.iter().find(|(situation, _)| *situation == Situation::OutgoingIpUnavailable);
    assert!(event.is_some_and(|(_, text)| text.contains("192.0.2.1")), "{told:?}");
    drop(inside);
    assert_eq!(chain.server().wait_for_end()?.code(), Some(11), "{}", chain.server().last_lines(10));
    chain.server_says("outgoing-ip-unavailable")?;
    Ok(())
}

#[test]
fn what_is_silent_in_tcp_tls_or_oftp2_is_given_up_in_time() -> Result<(), Trouble> {
    let (chain, mut inside) = linked()?;
    let in_time = |inside: &mut Inside, at: &str, seconds: u64| {
        let mut wanted = snapshot(&chain, vec![partner(&chain, at)]);
        wanted.limits.handshake_timeout = Duration::from_secs(seconds);
        inside.give(wanted);
        let failed = inside.failure("ACME");
        (failed.refused.situation, failed.record.unwrap().outcome)
    };
    // A queue that is full answers nobody.
    let (full, _queue) = full_queue();
    let answered = in_time(&mut inside, &full.to_string(), 2);
    assert_eq!(answered, (Situation::CallTimeout, SessionOutcome::Timeout));

    let silent = Partner::serving(|mut socket| socket.read_to_end(&mut Vec::new()).map(drop));
    let answered = in_time(&mut inside, &silent.at(), 2);
    assert_eq!(answered, (Situation::HandshakeTimeout, SessionOutcome::Timeout));

    for versions in [TlsVersions::Tls12, TlsVersions::Tls13] {
        let config = usual(&chain, versions);
        let station = Partner::serving(move |socket| answer(socket, config).map(|mut tls| tls.receive().err()));
        // Time enough for TLS, however busy the machine is.
        let answered = in_time(&mut inside, &station.at(), 10);
        assert_eq!(answered, (Situation::CallSilent, SessionOutcome::Timeout));
    }
    Ok(())
}

/// An address whose connections wait for ever, and what fills it.
fn full_queue() -> (SocketAddr, (TcpListener, Vec<TcpStream>)) {
    use nix::sys::socket::{Backlog, listen};
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listen(&listener, Backlog::new(0).unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    let connected = || TcpStream::connect_timeout(&address, Duration::from_millis(200)).ok();
    let queue = std::iter::from_fn(connected).take(20).collect();
    (address, (listener, queue))
}

#[test]
fn a_called_partner_with_the_wrong_certificate_is_refused_by_an_alert() -> Result<(), Trouble> {
    let (chain, mut inside) = linked()?;
    let acme = &chain.partners[0].identity;
    let issue = |wanted: Wanted<'_>| chain.authority.issue(&Wanted { name: "ACME", ..wanted });
    let stranger = Authority::new("Strangers")?.issue(&Wanted { name: "ACME", ..Wanted::default() })?;
    let listed = |identity: &Identity, mut source: PartnerSource| {
        source.certificate_sha256 = vec![pki::fingerprint(identity).unwrap().parse().unwrap()];
        source
    };
    let named = issue(Wanted { hosts: &["oftp.acme.example"], ..Wanted::default() })?;
    let expired = issue(Wanted { validity: Validity::Expired, ..Wanted::default() })?;
    let caller = issue(Wanted { purpose: Purpose::Client, ..Wanted::default() })?;
    let other = |source| PartnerSource { server_name: Some("oftp.other.example".into()), ..source };
    type Change<'a> = Box<dyn Fn(PartnerSource) -> PartnerSource + 'a>;
    let cases: [(&str, &Identity, Change<'_>, Situation); 6] = [
        ("expired", &expired, Box::new(|source| listed(&expired, source)), Situation::CertificateExpired),
        ("a stranger's", &stranger, Box::new(|source| source), Situation::CertificateIssuerUnknown),
        ("nobody's", &named, Box::new(|source| source), Situation::PartnerUnknown),
        ("for clients only", &caller, Box::new(|source| listed(&caller, source)), Situation::CertificateUsage),
        (
            "of another name",
            &named,
            Box::new(|source| other(listed(&named, source))),
            Situation::CertificateNameMismatch,
        ),
        (
            "the proxy's own",
            acme,
            Box::new(|source| PartnerSource { name: "OTHER".into(), ..source }),
            Situation::PartnerUnknown,
        ),
    ];
    for versions in [TlsVersions::Tls12, TlsVersions::Tls13] {
        for (what, identity, change, expected) in &cases {
            let config = tls(identity, None, versions);
            let station =
                Partner::serving(move |socket| answer(socket, config).and_then(|mut tls| tls.receive()).err());
            let mut source = change(partner(&chain, &station.at()));
            if source.name == "OTHER" {
                // Called is one who shows the certificate of another.
                source = PartnerSource { certificate_sha256: Vec::new(), subjects: vec!["CN=OTHER".into()], ..source };
            }
            let name = source.name.clone();
            inside.give(snapshot(&chain, vec![source]));
            let failed = inside.failure(&name);
            assert_eq!(failed.refused.situation, *expected, "{what}: {}", failed.refused.text);
            let record = failed.record.unwrap();
            assert!(record.certificate.is_some() && record.detail.contains("shown was"), "{}", record.detail);
            let seen = station.outcome().map(|failure| failure.to_string()).unwrap_or_default();
            assert!(seen.to_lowercase().contains("alert"), "{what}: {seen}");
        }
    }
    Ok(())
}

#[test]
fn a_partner_that_refuses_our_certificate_is_told_from_one_that_refuses_otherwise() -> Result<(), Trouble> {
    let (chain, mut inside) = linked()?;
    let strangers = Authority::new("Strangers")?.certificate_pem();
    for versions in [TlsVersions::Tls12, TlsVersions::Tls13] {
        let config = tls(&chain.partners[0].identity, Some(strangers.clone()), versions);
        let station = Partner::serving(move |socket| answer(socket, config).err());
        let (situation, text) = fails(&chain, &mut inside, &station.at());
        assert_eq!(situation, Situation::OwnCertificateRefused, "{text}");
        assert!(text.contains("UnknownCA") && text.contains("; ours is subject="), "{text}");
        assert!(station.outcome().is_some());
    }
    // RFC 8446, 6: level fatal, handshake_failure.
    let station = Partner::serving(|mut socket: TcpStream| {
        let mut hello = [0; 5];
        socket.read_exact(&mut hello).unwrap();
        socket.write_all(&[21, 3, 3, 0, 2, 2, 40]).unwrap();
        let _ = socket.read_to_end(&mut Vec::new());
    });
    let (situation, text) = fails(&chain, &mut inside, &station.at());
    assert_eq!(situation, Situation::CallAlert);
    assert!(text.contains("HandshakeFailure"), "{text}");
    Ok(())
}

#[test]
fn what_is_too_old_or_no_tls_or_no_oftp2_is_told_so() -> Result<(), Trouble> {
    let (chain, mut inside) = linked()?;
    let saying = |octets: &'static [u8]| {
        Partner::serving(move |mut socket: TcpStream| {
            let mut hello = [0; 5];
            socket.read_exact(&mut hello).unwrap();
            socket.write_all(octets).unwrap();
            let _ = socket.read_to_end(&mut Vec::new());
        })
    };
    // RFC 8446, 6: level fatal, protocol_version.
    let (situation, _) = fails(&chain, &mut inside, &saying(&[21, 3, 1, 0, 2, 2, 70]).at());
    assert_eq!(situation, Situation::TlsTooOld);
    let (situation, text) = fails(&chain, &mut inside, &saying(b"SSH-2.0-OpenSSH_9.2\r\n").at());
    assert_eq!(situation, Situation::HandshakeFailed);
    assert!(text.contains("no TLS"), "{text}");
    let config = usual(&chain, TlsVersions::Tls12);
    let only_12 = Partner::serving(move |socket| answer(socket, config).err());
    let mut wanted = snapshot(&chain, vec![partner(&chain, &only_12.at())]);
    wanted.minimum_tls = proxylink::snapshot::MinimumTls::Tls13;
    inside.give(wanted);
    assert_eq!(inside.failure("ACME").refused.situation, Situation::TlsTooOld);

    let config = usual(&chain, TlsVersions::Both);
    let closing = Partner::serving(move |socket| answer(socket, config).unwrap().close());
    let (situation, text) = fails(&chain, &mut inside, &closing.at());
    assert_eq!(situation, Situation::CallSilent);
    assert!(text.contains("without SSRM"), "{text}");
    Ok(())
}

#[test]
fn the_inside_may_refuse_or_call_off_and_a_session_that_dies_is_told() -> Result<(), Trouble> {
    let (chain, mut inside) = linked()?;
    let holding = || {
        let config = usual(&chain, TlsVersions::Both);
        Partner::serving(move |socket| {
            let mut connection = answer(socket, config).unwrap();
            connection.send(&Command::Ssrm).unwrap();
            connection.wait_for_close();
        })
    };
    let failed = |inside: &mut Inside, session| match inside.hear() {
        Some(FromServer::CallFailed(of, failed)) if of == session => failed,
        other => panic!("{other:?}"),
    };
    let station = holding();
    inside.give(snapshot(&chain, vec![partner(&chain, &station.at())]));
    let session = inside.call("ACME");
    inside.up_to_pairing(session).unwrap();
    inside.refuse(session, Situation::PartnerSessionsFull);
    let refused = failed(&mut inside, session);
    assert_eq!(refused.refused.situation, Situation::PartnerSessionsFull);
    assert!(refused.record.is_some_and(|record| record.tls.is_some()));
    station.outcome();

    let station = holding();
    inside.give(snapshot(&chain, vec![partner(&chain, &station.at())]));
    let session = inside.call("ACME");
    inside.up_to_pairing(session).unwrap();
    inside.say(FromClient::CallOff(session, Situation::StationLeft));
    assert_eq!(failed(&mut inside, session).refused.situation, Situation::StationLeft);
    station.outcome();

    let (full, _queue) = full_queue();
    inside.give(snapshot(&chain, vec![partner(&chain, &full.to_string())]));
    let session = inside.call("ACME");
    let calling = || child_of(chain.server().pid(), &format!("session {full}"));
    let pid = until(PATIENCE, calling).expect("a process calls");
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    let died = failed(&mut inside, session);
    assert_eq!((died.refused.situation, died.record), (Situation::SessionAborted, None));
    let session = inside.call("ACME");
    until(PATIENCE, calling).expect("a process calls");
    // Whatever the reason inside, it is the one in the log.
    let mark = chain.server().mark();
    inside.say(FromClient::CallOff(session, Situation::SessionStopped));
    assert_eq!(failed(&mut inside, session).refused.situation, Situation::SessionStopped);
    chain.server().wait_after(mark, "the reason", |line| line.contains(" session-stopped "))?;
    assert!(until(PATIENCE, || calling().is_none().then_some(())).is_some(), "it still calls");
    Ok(())
}

#[test]
fn a_lost_link_and_the_end_of_the_daemon_take_calls_in_set_up_along() -> Result<(), Trouble> {
    let (chain, mut inside) = linked()?;
    let (full, _queue) = full_queue();
    inside.give(snapshot(&chain, vec![partner(&chain, &full.to_string())]));
    let calling = || child_of(chain.server().pid(), &format!("session {full}"));
    inside.call("ACME");
    until(PATIENCE, calling).expect("a process calls");
    drop(inside);
    assert!(until(PATIENCE, || calling().is_none().then_some(())).is_some(), "it still calls");
    chain.server_says("link-down")?;

    let mut inside = Inside::link(&chain);
    let mut wanted = snapshot(&chain, vec![partner(&chain, &full.to_string())]);
    wanted.limits.drain_timeout = Duration::from_secs(1);
    inside.give(wanted);
    inside.call("ACME");
    until(PATIENCE, calling).expect("a process calls");
    chain.server().signal(Signal::SIGTERM);
    drop(inside);
    assert!(chain.server().wait_for_end()?.success(), "{}", chain.server().last_lines(10));
    Ok(())
}

#[test]
fn a_gate_that_executes_itself_anew_keeps_its_calls() -> Result<(), Trouble> {
    let (chain, mut inside) = linked()?;
    let (full, _queue) = full_queue();
    inside.give(snapshot(&chain, vec![partner(&chain, &full.to_string())]));
    let calling = || children_of(chain.server().pid(), &format!("session {full}"));
    // The oldest one stays.
    let stays = inside.call("ACME");
    let oldest = until(PATIENCE, || calling().first().copied()).expect("a process calls");
    // One that has been killed may still be there when its end is told. (The runtime of Rust swallows a first SEGV.)
    let mut known = vec![oldest];
    for _ in 0..5 {
        let session = inside.call("ACME");
        let pid = until(PATIENCE, || calling().into_iter().find(|pid| !known.contains(pid))).expect("a process calls");
        known.push(pid);
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), Signal::SIGABRT).unwrap();
        match inside.hear() {
            Some(FromServer::CallFailed(of, failed)) if of == session => {
                assert_eq!(failed.refused.situation, Situation::SessionAborted);
            }
            other => panic!("{other:?}"),
        }
    }
    chain.server_says("gate-anew")?;
    chain.server().wait_for_text("the gate has executed itself anew; 1 sessions go on")?;
    assert!(until(PATIENCE, || (calling() == [oldest]).then_some(())).is_some(), "{:?}", calling());
    inside.say(FromClient::CallOff(stays, Situation::StationLeft));
    assert!(until(PATIENCE, || calling().is_empty().then_some(())).is_some(), "it still calls");
    let answer = inside.hear();
    assert!(matches!(&answer, Some(FromServer::CallFailed(of, _)) if *of == stays), "{answer:?}");
    Ok(())
}

#[test]
fn calls_that_are_called_off_are_no_fault_of_the_partner() -> Result<(), Trouble> {
    let (chain, mut inside) = linked()?;
    let (full, _queue) = full_queue();
    let mut wanted = snapshot(&chain, vec![partner(&chain, &full.to_string())]);
    wanted.limits.offender_refuse = Duration::from_secs(3600);
    inside.give(wanted);
    let calling = || children_of(chain.server().pid(), &format!("session {full}"));
    for _ in 0..4 {
        let session = inside.call("ACME");
        until(PATIENCE, || calling().first().copied()).expect("a process calls");
        inside.say(FromClient::CallOff(session, Situation::StationLeft));
        assert!(until(PATIENCE, || calling().is_empty().then_some(())).is_some(), "it still calls");
        assert!(matches!(inside.hear(), Some(FromServer::CallFailed(of, _)) if of == session));
    }
    // It still comes in: what is no TLS gets an alert, which nobody gets who is refused at accept.
    let mut caller = TcpStream::connect(chain.partner_address()).unwrap();
    caller.set_read_timeout(Some(PATIENCE)).unwrap();
    caller.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    assert_ne!(caller.read(&mut [0; 8]).unwrap_or(0), 0, "{}", chain.server().last_lines(10));
    Ok(())
}

/// The child of this process whose title ends so.
fn child_of(parent: i32, title: &str) -> Option<i32> {
    children_of(parent, title).first().copied()
}

/// The children of this process whose titles end so, the oldest first.
fn children_of(parent: i32, title: &str) -> Vec<i32> {
    let children = std::fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap_or_default();
    let has_title = |pid: &i32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).trim_end_matches(['\0', ' ']).ends_with(title)
    };
    children.split_whitespace().filter_map(|pid| pid.parse().ok()).filter(has_title).collect()
}
