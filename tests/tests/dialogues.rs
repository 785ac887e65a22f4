//! One dialogue of each kind through the built proxy: both ends see what they should, the files arrive octet for octet,
//! and the session record lists them. Buffer sizes and credits are tried in `transfer.rs`, what breaks the protocol in
//! `misbehaviour.rs`.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tests::harness::{
    Chain, INSIDE_CODE, INSIDE_PASSWORD, PATIENCE, Plan, Process, Trouble, binary, free_port, made_octets, until,
};
use tests::station::{
    self, Event, Failure, Format, Level, Outcome, OutgoingFile, Receiver, Report, Security, Settings, Store, sha256,
};

/// The chain with a receive daemon that a scenario makes anew for each session.
struct Ends {
    chain: Chain,
    daemon: SocketAddr,
    scratch: tempfile::TempDir,
    /// Session records that a scenario has looked at.
    seen: usize,
}

impl Ends {
    fn start() -> Result<Self, Trouble> {
        let daemon = SocketAddr::from(([127, 0, 0, 1], free_port()?));
        let chain = Plan::new().receive_daemon_at(daemon).start()?;
        Ok(Self { chain, daemon, scratch: tempfile::tempdir().unwrap(), seen: 0 })
    }

    fn inside(&self) -> Settings {
        let settings = Settings::new(INSIDE_CODE, INSIDE_PASSWORD);
        Settings { buffer_size: 99_999, credit: 999, compression: true, patience: PATIENCE, ..settings }
    }

    fn received(&self, dataset: &str) -> PathBuf {
        self.scratch.path().join("inside").join(dataset)
    }

    /// The partner calls, with files for the receive daemon, which has others for it.
    fn session(
        &self,
        partner: &Settings,
        inside: Settings,
        there: Vec<OutgoingFile>,
        back: Vec<OutgoingFile>,
    ) -> Result<(Report, Report), Trouble> {
        let inside_store = Store::new(self.scratch.path().join("inside")).unwrap();
        let partner_store = Store::new(self.scratch.path().join("partner")).unwrap();
        let receiver = Receiver::start(self.daemon, &Security::Plain, inside, Some(inside_store), back)?;
        let (to, security) = (self.chain.partner_address(), self.chain.security());
        let called = station::exchange(&to, &security, partner, there, Some(partner_store));
        let answered = receiver.next_session(PATIENCE);
        let answered = answered.ok_or_else(|| Trouble(format!("no session came inside: {called:?}")))?;
        Ok((called, answered))
    }

    /// The next session record: outcome, and of each file name, octets, direction and result.
    fn record(&mut self) -> (Value, Vec<Value>) {
        let next = || self.chain.scripted_backend().session_records().get(self.seen).cloned();
        let record = until(PATIENCE, next).expect("a session record");
        self.seen += 1;
        let files = record["files"].as_array().cloned().unwrap_or_default();
        let told = |file: Value| json!([file["dataset_name"], file["bytes"], file["direction"], file["result"]]);
        (record["outcome"].clone(), files.into_iter().map(told).collect())
    }
}

fn file(name: &str, size: usize) -> OutgoingFile {
    OutgoingFile::from_octets(name, made_octets(size))
}

/// Records behind their lengths, as format V has them on disk, and their octets without the lengths.
fn records(count: usize) -> (Vec<u8>, usize) {
    let mut octets = Vec::new();
    let mut held = 0;
    for n in 0..count {
        let record = made_octets(n * 7 % 300);
        octets.extend_from_slice(&u16::try_from(record.len()).unwrap().to_be_bytes());
        octets.extend_from_slice(&record);
        held += record.len();
    }
    (octets, held)
}

#[test]
fn files_go_both_ways_and_an_empty_one_is_a_file_too() -> Result<(), Trouble> {
    let mut ends = Ends::start()?;
    let there = vec![file("FIRST", 1), file("EMPTY", 0), file("THIRD", 200_000)];
    let (called, answered) = ends.session(&ends.chain.settings(), ends.inside(), there, vec![file("BACK", 70_000)])?;
    assert!(called.went_well(true) && answered.went_well(true), "{called:?}\n{answered:?}");
    for (name, size) in [("FIRST", 1), ("EMPTY", 0), ("THIRD", 200_000)] {
        assert!(fs::read(ends.received(name)).unwrap() == made_octets(size), "{name}");
    }
    assert_eq!(called.received[0].sha256, sha256(&made_octets(70_000)));
    let (outcome, files) = ends.record();
    assert_eq!(outcome, "completed");
    assert_eq!(
        files,
        [
            json!(["FIRST", 1, "from_partner", "acknowledged"]),
            json!(["EMPTY", 0, "from_partner", "acknowledged"]),
            json!(["THIRD", 200_000, "from_partner", "acknowledged"]),
            json!(["BACK", 70_000, "to_partner", "acknowledged"]),
        ]
    );
    Ok(())
}

#[test]
fn a_broken_file_of_every_format_is_taken_up_where_it_broke() -> Result<(), Trouble> {
    let mut ends = Ends::start()?;
    let (variable, held) = records(4000);
    let formats = [
        ("UNSTRUCTURED", Format::Unstructured, made_octets(500_000), 500_000),
        ("TEXT", Format::Text, made_octets(500_000), 500_000),
        ("FIXED", Format::Fixed(80), made_octets(480_000), 480_000),
        ("VARIABLE", Format::Variable(300), variable, held),
    ];
    for (name, format, content, octets) in formats {
        let mut whole = OutgoingFile::from_octets(name, content.clone());
        whole.format = format;
        let breaks = |event: &Event| match event {
            Event::Progress { done, .. } if *done > 200_000 => Err("as planned".to_owned()),
            _ => Ok(()),
        };
        let breaking = Settings { observer: Some(Arc::new(breaks)), credit: 4, ..ends.chain.settings() };
        let (called, _) = ends.session(&breaking, ends.inside(), vec![whole.clone()], vec![])?;
        assert!(matches!(called.failure, Some(Failure::Dropped(_))), "{name}: {called:?}");
        assert!(!ends.received(name).exists(), "half a file has no name");
        let (outcome, files) = ends.record();
        assert_eq!(outcome, "aborted", "{name}");
        assert_eq!((&files[0][0], &files[0][3]), (&json!(name), &json!("incomplete")));
        assert!(files[0][1].as_u64().is_some_and(|came| came > 100_000), "{name}: {files:?}");

        let from = Arc::new(Mutex::new(0));
        let seen = from.clone();
        let watches = move |event: &Event| {
            if let Event::FileStarted { from, .. } = event {
                *seen.lock().unwrap() = *from;
            }
            Ok(())
        };
        let watching = Settings { observer: Some(Arc::new(watches)), ..ends.chain.settings() };
        let (called, answered) = ends.session(&watching, ends.inside(), vec![whole], vec![])?;
        assert!(called.went_well(true) && answered.went_well(false), "{name}: {called:?}\n{answered:?}");
        let from = *from.lock().unwrap();
        assert!(from > 100_000, "{name}: taken up at {from}");
        assert!(fs::read(ends.received(name)).unwrap() == content, "{name}");
        // What had come before does not pass again.
        let (outcome, files) = ends.record();
        assert_eq!(outcome, "completed", "{name}");
        assert_eq!(files, [json!([name, octets as u64 - from, "from_partner", "acknowledged"])]);
    }
    Ok(())
}

#[test]
fn a_refused_file_is_recorded_as_refused_and_the_next_one_arrives() -> Result<(), Trouble> {
    let mut ends = Ends::start()?;
    let inside = ends.scratch.path().join("inside");
    fs::create_dir_all(&inside).unwrap();
    fs::write(inside.join("TWICE"), b"before").unwrap();
    let there = vec![file("TWICE", 10), file("ONCE", 10)];
    let (called, answered) = ends.session(&ends.chain.settings(), ends.inside(), there, vec![])?;
    assert_eq!(called.sent[0].outcome, Outcome::Refused { reason: 13, retry: false });
    assert_eq!(called.sent[1].outcome, Outcome::Accepted);
    assert!(called.failure.is_none() && answered.failure.is_none(), "{called:?}\n{answered:?}");
    assert_eq!(fs::read(inside.join("TWICE")).unwrap(), b"before");
    let (outcome, files) = ends.record();
    assert_eq!(outcome, "completed");
    assert_eq!(files[0], json!(["TWICE", 0, "from_partner", "refused"]));
    assert_eq!(files[1], json!(["ONCE", 10, "from_partner", "acknowledged"]));
    let said = ends.chain.client_says("file-refused")?;
    assert!(said.contains("file \"TWICE\" refused by the inside: SFNA 13 duplicate file, retry N, \"this"), "{said}");
    Ok(())
}

#[test]
fn eerp_and_nerp_pass_signed_and_unsigned() -> Result<(), Trouble> {
    let mut ends = Ends::start()?;
    for (name, negative, signed) in
        [("EERP", None, false), ("EERP-SIGNED", None, true), ("NERP", Some(34), false), ("NERP-SIGNED", Some(34), true)]
    {
        let signature: Option<Arc<[u8]>> = signed.then(|| made_octets(2000).into());
        let inside = Settings { negative_response: negative, signature, transcript: true, ..ends.inside() };
        let partner = Settings { transcript: true, ..ends.chain.settings() };
        let mut content = file(name, 5000);
        // SHA-256 makes the hash (cipher suite 04).
        content.signed_response = signed.then_some(4);
        let (called, answered) = ends.session(&partner, inside, vec![content], vec![])?;
        assert!(called.failure.is_none() && answered.failure.is_none(), "{called:?}\n{answered:?}");
        assert_eq!(called.sent[0].responded, negative.is_none(), "{name}");
        let outcome = negative.map_or(Outcome::Accepted, Outcome::NotDelivered);
        assert_eq!(called.sent[0].outcome, outcome, "{name}");
        let (called, answered) = (called.transcript.unwrap(), answered.transcript.unwrap());
        assert!(called.received == answered.sent && called.sent == answered.received, "{name}: octet for octet");
        if signed {
            let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &made_octets(5000));
            let wanted = [&[0, 32], hash.as_ref(), &2000_u16.to_be_bytes(), &made_octets(2000)].concat();
            assert!(called.received.windows(wanted.len()).any(|octets| octets == wanted), "{name}: hash and signature");
        }
        let (outcome, files) = ends.record();
        assert_eq!(outcome, "completed", "{name}");
        assert_eq!(files, [json!([name, 5000, "from_partner", "acknowledged"])]);
    }
    Ok(())
}

#[test]
fn secure_authentication_passes_both_ways_before_the_files() -> Result<(), Trouble> {
    let mut ends = Ends::start()?;
    let inside = Settings { authentication: true, transcript: true, ..ends.inside() };
    let partner = Settings { authentication: true, transcript: true, ..ends.chain.settings() };
    let (called, answered) = ends.session(&partner, inside, vec![file("AUTHENTIC", 3000)], vec![])?;
    assert!(called.went_well(true) && answered.went_well(false), "{called:?}\n{answered:?}");
    assert!(called.agreement.as_ref().unwrap().authentication);
    let (called, answered) = (called.transcript.unwrap(), answered.transcript.unwrap());
    assert!(called.received == answered.sent && called.sent == answered.received, "octet for octet");
    let (outcome, files) = ends.record();
    assert_eq!(
        (outcome, files),
        (json!("completed"), vec![json!(["AUTHENTIC", 3000, "from_partner", "acknowledged"])])
    );

    // One side alone: the monitor sees it in the second SSID.
    let partner = Settings { authentication: true, ..ends.chain.settings() };
    let (called, answered) = ends.session(&partner, ends.inside(), vec![file("NEVER", 1)], vec![])?;
    assert!(matches!(called.failure, Some(Failure::Esid { code: 12, .. })), "{called:?}");
    assert!(answered.failure.is_some(), "{answered:?}");
    Ok(())
}

#[test]
fn every_format_passes_at_every_level_with_compression_and_without() -> Result<(), Trouble> {
    let mut ends = Ends::start()?;
    let (mut variable, held) = records(200);
    // Something to compress, and a record that is longer than a buffer.
    variable.extend_from_slice(&[0x10, 0]);
    variable.extend_from_slice(&[b' '; 4096]);
    let held = held + 4096;
    let spaces = [made_octets(1000), vec![b' '; 7000]].concat();
    for level in [Level::One, Level::Two, Level::Four, Level::Five] {
        for compression in [false, true] {
            let partner = Settings { level, compression, buffer_size: 1024, credit: 3, ..ends.chain.settings() };
            let contents = [
                (Format::Unstructured, &spaces, 8000),
                (Format::Text, &spaces, 8000),
                (Format::Fixed(80), &spaces, 8000),
                (Format::Variable(4096), &variable, held),
            ];
            let named = |format: &Format| {
                let format = format!("{format:?}").to_uppercase();
                format!("{}-{}-{compression}", format.split('(').next().unwrap_or_default(), level as u8).to_uppercase()
            };
            let files = contents.iter().map(|(format, content, _)| {
                let mut file = OutgoingFile::from_octets(&named(format), content.as_slice());
                file.format = *format;
                file
            });
            let (called, answered) = ends.session(&partner, ends.inside(), files.collect(), vec![])?;
            assert!(called.went_well(true) && answered.went_well(false), "{level:?}: {called:?}\n{answered:?}");
            let agreed = called.agreement.unwrap();
            assert_eq!((agreed.level, agreed.compression), (level, compression));
            ends.chain.client().wait_for_text(&format!(" level={} TLS", level as u8))?;
            if level != Level::Five {
                ends.chain.client().wait_for_text(&format!("D49: level {} over TLS", level as u8))?;
            }
            let (outcome, files) = ends.record();
            assert_eq!(outcome, "completed");
            for ((format, content, octets), told) in contents.iter().zip(files) {
                assert!(&fs::read(ends.received(&named(format))).unwrap() == *content, "{}", named(format));
                assert_eq!(told, json!([named(format), octets, "from_partner", "acknowledged"]));
            }
        }
    }
    Ok(())
}

#[test]
fn an_echo_gives_each_file_back_in_the_session_it_came_in() -> Result<(), Trouble> {
    let mut command = Command::new(binary("oftp2_station")?);
    command.args(["echo", "--listen", "127.0.0.1:0", "--eerp", "--code", INSIDE_CODE, "--password", INSIDE_PASSWORD]);
    let echo = Process::start("echo", &mut command)?;
    let line = echo.wait_for_text("listening on ")?;
    let daemon = line.trim_start_matches("listening on ").parse().expect("an address");
    let chain = Plan::new().receive_daemon_at(daemon).start()?;
    let (variable, held) = records(50);
    let mut records = OutgoingFile::from_octets("RECORDS", variable.clone());
    records.format = Format::Variable(300);
    let scratch = tempfile::tempdir().unwrap();
    let store = Store::new(scratch.path()).unwrap();
    let files = vec![file("ONE", 1000), records];
    let (to, security) = (chain.partner_address(), chain.security());
    let report = station::exchange(&to, &security, &chain.settings(), files, Some(store));
    assert!(report.went_well(true), "{report:?}\n{}", echo.last_lines(20));
    assert_eq!(fs::read(scratch.path().join("ONE")).unwrap(), made_octets(1000));
    assert_eq!(fs::read(scratch.path().join("RECORDS")).unwrap(), variable);
    assert!(report.received.iter().all(|file| file.file.destination == chain.partners[0].code), "{report:?}");
    let record = chain.scripted_backend().wait_for_record("a session record", PATIENCE, |_| true)?;
    let files = record["files"].as_array().cloned().unwrap_or_default();
    let told: Vec<_> =
        files.iter().map(|file| json!([file["dataset_name"], file["bytes"], file["direction"]])).collect();
    assert_eq!(
        told,
        [
            json!(["ONE", 1000, "from_partner"]),
            json!(["RECORDS", held, "from_partner"]),
            json!(["ONE", 1000, "to_partner"]),
            json!(["RECORDS", held, "to_partner"]),
        ]
    );
    Ok(())
}
