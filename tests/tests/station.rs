//! The station with itself: what it promises, before it is used to try anything else.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tests::pki::{self, Authority, KeyKind, Validity, Wanted};
use tests::station::{
    self, Command, Event, Failure, Format, Identity, Level, Outcome, OutgoingFile, Receiver, Report, Security,
    Settings, Store, Tamper, TlsSettings, TlsVersions, Transfers, Trust,
};

const PATIENCE: Duration = Duration::from_secs(90);

fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

fn acme() -> Settings {
    Settings { patience: PATIENCE, ..Settings::new("O0013000000ACME", "SECRET") }
}

fn home() -> Settings {
    Settings { patience: PATIENCE, ..Settings::new("O0013000000HOME", "GEHEIM") }
}

fn octets(count: usize) -> Vec<u8> {
    (0..count as u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

/// ACME sends `files` to HOME; both reports.
fn session(
    directory: &Path,
    acme: &Settings,
    home: Settings,
    security: (&Security, &Security),
    files: Vec<OutgoingFile>,
) -> (Report, Report) {
    let store = Store::new(directory).unwrap();
    let receiver = Receiver::start(loopback(), security.1, home, Some(store), Vec::new()).unwrap();
    let sent = station::send(&receiver.address().to_string(), security.0, acme, files);
    (sent, receiver.next_session(PATIENCE).expect("the receiver ends its session"))
}

fn plain(directory: &Path, acme: &Settings, home: Settings, files: Vec<OutgoingFile>) -> (Report, Report) {
    session(directory, acme, home, (&Security::Plain, &Security::Plain), files)
}

#[test]
fn several_files_of_all_sizes_arrive_byte_for_byte_and_are_answered() {
    let scratch = tempfile::tempdir().unwrap();
    let sizes = [0, 1, 62, 63, 64, 1023, 1024, 8191, 8192, 100_000, 3_000_000];
    let files: Vec<_> =
        sizes.iter().map(|size| OutgoingFile::from_octets(&format!("SIZE-{size}"), octets(*size))).collect();
    let (sent, received) = plain(scratch.path(), &acme(), home(), files);
    assert!(sent.went_well(true), "{sent:?}");
    assert!(received.went_well(false), "{received:?}");
    assert_eq!(received.received.len(), sizes.len());
    for (size, (sent, received)) in sizes.iter().zip(sent.sent.iter().zip(&received.received)) {
        assert_eq!(fs::read(&received.path).unwrap(), octets(*size));
        assert_eq!(Some(&received.sha256), sent.sha256.as_ref());
        assert_eq!(received.sha256, station::sha256(&octets(*size)));
    }
}

#[test]
fn every_level_buffer_size_and_credit_carries_a_file() {
    let scratch = tempfile::tempdir().unwrap();
    let mut name = 0;
    for level in [Level::One, Level::Two, Level::Four, Level::Five] {
        for (buffer_size, credit) in [(128, 1), (128, 999), (2048, 7), (99_999, 1), (99_999, 999)] {
            name += 1;
            let acme = Settings { level, buffer_size, credit, ..acme() };
            let home = Settings { buffer_size: 99_999, credit: 999, ..home() };
            let file = OutgoingFile::from_octets(&format!("FILE-{name}"), octets(300_000));
            let (sent, received) = plain(scratch.path(), &acme, home, vec![file]);
            assert!(sent.went_well(true) && received.went_well(false), "{level:?} {buffer_size} {credit}: {sent:?}");
            let agreed = sent.agreement.unwrap();
            assert_eq!((agreed.level, agreed.buffer_size, agreed.credit), (level, buffer_size.into(), credit.into()));
            assert_eq!(received.received[0].sha256, station::sha256(&octets(300_000)));
        }
    }
}

#[test]
fn the_lower_terms_of_both_are_agreed_on() {
    let scratch = tempfile::tempdir().unwrap();
    let acme = Settings { buffer_size: 4096, credit: 64, compression: true, restart: true, ..acme() };
    let home = Settings { buffer_size: 2048, credit: 10, restart: false, level: Level::Four, ..home() };
    let (sent, _) = plain(scratch.path(), &acme, home, vec![OutgoingFile::from_octets("A", octets(10_000))]);
    let agreed = sent.agreement.unwrap();
    assert_eq!((agreed.level, agreed.buffer_size, agreed.credit), (Level::Four, 2048, 10));
    assert_eq!((agreed.compression, agreed.restart), (false, false));
}

#[test]
fn compressed_buffers_and_fixed_records_arrive_byte_for_byte() {
    let scratch = tempfile::tempdir().unwrap();
    let content = [vec![b' '; 5000], octets(5000), vec![0; 70]].concat();
    let mut records = OutgoingFile::from_octets("RECORDS", octets(8000));
    records.format = Format::Fixed(80);
    let mut text = OutgoingFile::from_octets("TEXT", *b"one\r\ntwo\r\n");
    text.format = Format::Text;
    let files = vec![OutgoingFile::from_octets("BLANKS", content.clone()), records, text];
    let both = |settings| Settings { compression: true, buffer_size: 256, ..settings };
    let (sent, received) = plain(scratch.path(), &both(acme()), both(home()), files);
    assert!(sent.went_well(true), "{sent:?}");
    let arrived: Vec<_> = received.received.iter().map(|file| fs::read(&file.path).unwrap()).collect();
    assert_eq!(arrived, [content, octets(8000), b"one\r\ntwo\r\n".to_vec()]);
}

#[test]
fn files_go_both_ways_in_one_session() {
    let scratch = tempfile::tempdir().unwrap();
    let (acmes, homes) = (scratch.path().join("acme"), scratch.path().join("home"));
    for ask_for_turn in [false, true] {
        let name = format!("THERE-{ask_for_turn}").to_uppercase();
        let home = Settings { ask_for_turn, ..home() };
        let outbox = vec![OutgoingFile::from_octets("BACK", octets(20_000))];
        let receiver =
            Receiver::start(loopback(), &Security::Plain, home, Some(Store::new(&homes).unwrap()), outbox).unwrap();
        let to = receiver.address().to_string();
        let files = vec![
            OutgoingFile::from_octets(&name, octets(10_000)),
            OutgoingFile::from_octets(&format!("{name}-2"), octets(10)),
        ];
        let store = Store::new(acmes.join(&name)).unwrap();
        let called = station::exchange(&to, &Security::Plain, &acme(), files, Some(store));
        let answered = receiver.next_session(PATIENCE).unwrap();
        assert!(called.went_well(true) && answered.went_well(true), "{called:?} {answered:?}");
        assert_eq!(called.received[0].sha256, station::sha256(&octets(20_000)));
        assert_eq!(answered.received.len(), 2);
    }
}

#[test]
fn a_broken_file_is_taken_up_where_it_broke() {
    let scratch = tempfile::tempdir().unwrap();
    let file = OutgoingFile::from_octets("BROKEN", octets(500_000));
    let breaks = |event: &Event| match event {
        Event::Progress { done, .. } if *done > 200_000 => Err("as planned".to_owned()),
        _ => Ok(()),
    };
    let breaking = Settings { observer: Some(Arc::new(breaks)), credit: 4, ..acme() };
    let (sent, _) = plain(scratch.path(), &breaking, home(), vec![file.clone()]);
    assert!(matches!(sent.failure, Some(Failure::Dropped(_))), "{sent:?}");
    assert_eq!(sent.sent[0].outcome, Outcome::Incomplete);
    assert!(!scratch.path().join("BROKEN").exists(), "half a file has no name");

    let from = Arc::new(Mutex::new(None));
    let seen = from.clone();
    let watches = move |event: &Event| {
        if let Event::FileStarted { from, .. } = event {
            *seen.lock().unwrap() = Some(*from);
        }
        Ok(())
    };
    let watching = Settings { observer: Some(Arc::new(watches)), ..acme() };
    let (sent, received) = plain(scratch.path(), &watching, home(), vec![file]);
    assert!(sent.went_well(true), "{sent:?}");
    let from = from.lock().unwrap().unwrap();
    assert!(from > 0 && from % 1024 == 0, "taken up at {from}");
    assert_eq!(received.received[0].sha256, station::sha256(&octets(500_000)));
    assert_eq!(fs::read(scratch.path().join("BROKEN")).unwrap(), octets(500_000));
}

#[test]
fn a_file_that_is_there_already_is_refused_and_the_next_one_taken() {
    let scratch = tempfile::tempdir().unwrap();
    fs::write(scratch.path().join("TWICE"), b"before").unwrap();
    let files = vec![OutgoingFile::from_octets("TWICE", octets(10)), OutgoingFile::from_octets("ONCE", octets(10))];
    let (sent, received) = plain(scratch.path(), &acme(), home(), files);
    assert_eq!(sent.sent[0].outcome, Outcome::Refused { reason: 13, retry: false });
    assert_eq!(sent.sent[1].outcome, Outcome::Accepted);
    assert!(sent.failure.is_none() && !sent.went_well(false));
    assert_eq!(received.received.len(), 1);
    assert_eq!(fs::read(scratch.path().join("TWICE")).unwrap(), b"before");
}

#[test]
fn a_full_disk_refuses_the_file_and_not_the_session() {
    if !Path::new("/dev/full").exists() {
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let mut file = OutgoingFile::from_octets("FULL", octets(10_000));
    file.stamp = ("20240229".into(), "1121040001".into());
    std::os::unix::fs::symlink("/dev/full", scratch.path().join(".FULL.202402291121040001.part")).unwrap();
    let (sent, received) = plain(scratch.path(), &acme(), home(), vec![file]);
    assert!(matches!(sent.sent[0].outcome, Outcome::Refused { reason: 12, .. }), "{sent:?}");
    assert!(sent.failure.is_none() && received.failure.is_none(), "{received:?}");
}

#[test]
fn a_wrong_code_a_wrong_password_and_two_senders_end_with_their_reasons() {
    let scratch = tempfile::tempdir().unwrap();
    let cases = [
        (acme(), Settings { peer_code: Some("O0013000000OTHER".into()), ..home() }, 3),
        (acme(), Settings { peer_password: Some("OTHER".into()), ..home() }, 4),
        (Settings { transfers: Transfers::Send, ..acme() }, Settings { transfers: Transfers::Send, ..home() }, 10),
    ];
    for (acme, home, expected) in cases {
        let (sent, received) = plain(scratch.path(), &acme, home, vec![OutgoingFile::from_octets("A", octets(1))]);
        assert!(matches!(sent.failure, Some(Failure::Esid { code, .. }) if code == expected), "{sent:?}");
        assert!(matches!(received.failure, Some(Failure::Violation(_))), "{received:?}");
        assert_eq!(sent.unsent, 1);
    }
}

#[test]
fn a_station_that_misbehaves_is_told_why() {
    let scratch = tempfile::tempdir().unwrap();
    let unknown_command: Tamper =
        Arc::new(|command, stb| if *command == Command::Cd { vec![0x10, 0, 0, 5, b'Z'] } else { stb });
    let second_sfid: Tamper =
        Arc::new(|command, stb| if matches!(command, Command::Sfid(_)) { [stb.clone(), stb].concat() } else { stb });
    let long_data: Tamper = Arc::new(|command, stb| match command {
        Command::Data(_) => [&[0x10, 0, 0x20, 5, b'D'][..], &[0; 8192]].concat(),
        _ => stb,
    });
    for (what, tamper, expected) in [("command", unknown_command, 1), ("SFID", second_sfid, 2), ("DATA", long_data, 7)]
    {
        let acme = Settings { tamper: Some(tamper), ..acme() };
        let file = OutgoingFile::from_octets("A", octets(100));
        let (sent, received) = plain(&scratch.path().join(what), &acme, home(), vec![file]);
        assert!(matches!(sent.failure, Some(Failure::Esid { code, .. }) if code == expected), "{what}: {sent:?}");
        assert!(matches!(received.failure, Some(Failure::Violation(_))), "{what}: {received:?}");
    }
}

fn tls(authority: &Authority, identity: Option<Identity>, versions: TlsVersions) -> Security {
    let trust = Trust::Authorities(authority.certificate_pem());
    Security::Tls(TlsSettings { identity, trust, versions })
}

#[test]
fn files_go_over_mutual_tls_with_every_kind_of_key_and_version() {
    let scratch = tempfile::tempdir().unwrap();
    let authority = Authority::new("Partners").unwrap();
    let mut name = 0;
    for key in [KeyKind::P256, KeyKind::P384, KeyKind::Ed25519, KeyKind::Rsa2048] {
        for versions in [TlsVersions::Tls12, TlsVersions::Tls13] {
            name += 1;
            let identity = |name| authority.issue(&Wanted { name, key, ..Wanted::default() }).unwrap();
            let acmes = identity("ACME");
            let security =
                (tls(&authority, Some(acmes.clone()), versions), tls(&authority, Some(identity("HOME")), versions));
            let file = OutgoingFile::from_octets(&format!("TLS-{name}"), octets(400_000));
            let (sent, received) = session(scratch.path(), &acme(), home(), (&security.0, &security.1), vec![file]);
            assert!(sent.went_well(true), "{key:?} {versions:?}: {sent:?}");
            assert_eq!(received.received[0].sha256, station::sha256(&octets(400_000)));
            let version = if versions == TlsVersions::Tls12 { "TLSv1.2" } else { "TLSv1.3" };
            assert!(sent.protection.starts_with(version), "{}", sent.protection);
            assert_eq!(pki::fingerprint(&acmes).as_ref(), received.peer_fingerprints.first());
        }
    }
}

#[test]
fn an_expired_a_foreign_and_a_missing_certificate_are_refused() {
    let scratch = tempfile::tempdir().unwrap();
    let (authority, foreign) = (Authority::new("Partners").unwrap(), Authority::new("Strangers").unwrap());
    let homes = authority.issue(&Wanted { name: "HOME", ..Wanted::default() }).unwrap();
    let expired = Wanted { name: "ACME", validity: Validity::Expired, ..Wanted::default() };
    let cases = [
        Some(authority.issue(&expired).unwrap()),
        Some(foreign.issue(&Wanted { name: "ACME", ..Wanted::default() }).unwrap()),
        Some(pki::self_signed(&Wanted { name: "ACME", ..Wanted::default() }).unwrap()),
        None,
    ];
    for identity in cases {
        let security =
            (tls(&authority, identity, TlsVersions::Both), tls(&authority, Some(homes.clone()), TlsVersions::Both));
        let file = OutgoingFile::from_octets("A", octets(1));
        let (sent, received) = session(scratch.path(), &acme(), home(), (&security.0, &security.1), vec![file]);
        assert!(matches!(sent.failure, Some(Failure::Tls(rustls::Error::AlertReceived(_)))), "{sent:?}");
        assert!(matches!(received.failure, Some(Failure::Tls(_))), "{received:?}");
        assert!(received.received.is_empty());
    }
}

#[test]
fn two_hundred_stations_call_at_once() {
    let scratch = tempfile::tempdir().unwrap();
    let store = Store::new(scratch.path()).unwrap();
    let receiver = Receiver::start(loopback(), &Security::Plain, home(), Some(store), Vec::new()).unwrap();
    let to = receiver.address().to_string();
    let callers: Vec<_> = (0..200)
        .map(|n| {
            let to = to.clone();
            std::thread::spawn(move || {
                let file = OutgoingFile::from_octets(&format!("FILE-{n}"), octets(1000 + n));
                station::send(&to, &Security::Plain, &acme(), vec![file])
            })
        })
        .collect();
    for caller in callers {
        let sent = caller.join().unwrap();
        assert!(sent.went_well(true), "{sent:?}");
    }
    let received = receiver.next_sessions(200, PATIENCE);
    assert!(received.iter().all(|report| report.went_well(false)));
    for n in 0..200 {
        assert_eq!(fs::read(scratch.path().join(format!("FILE-{n}"))).unwrap(), octets(1000 + n));
    }
}
