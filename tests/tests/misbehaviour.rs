//! Every rule that a station can break, broken through the built proxy: who breaks it is told by its reason, or it
//! passes octet for octet and the log tells it once; nothing of what is wrong reaches the other side.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;

use serde_json::{Value, json};
use tests::harness::{Chain, INSIDE_CODE, INSIDE_PASSWORD, LogLine, PATIENCE, Plan, Trouble, free_port, made_octets};
use tests::station::{
    self, Answer, Failure, Format, Level, Outcome, OutgoingFile, Receiver, Report, Rule, Security, Settings, Store,
    Transcript, Transfers,
};

/// What is expected of the log of the DMZ: for a violation the section of RFC 5024 (a table's row where there is one), for
/// what passes its number in the project's list of deviations.
const EXPECTED: &[(&str, &str)] = &[
    ("stream-version", "8.2"),
    ("stream-flags", "D28"),
    ("stream-length-short", "8.2"),
    ("stream-length-long", "8.2"),
    ("unknown-command", "5.3.11"),
    ("lower-case-command", "5.3.11"),
    ("nerp-below-level-four", "5.3.11"),
    ("secd-unasked", "9.12 B"),
    ("wrong-length", "5.3.8"),
    ("command-too-long", "5.3.12"),
    ("ready-text", "5.3.1"),
    ("ready-line-feed", "D04"),
    ("ready-cr-missing", "D03"),
    ("end-instead-of-ready", "D23"),
    ("ssrm-by-caller", "9.8"),
    ("file-before-ssid", "9.8"),
    ("cr-missing", "D03"),
    ("line-feed", "D04"),
    ("level-three", "5.3.2"),
    ("buffer-size-below", "5.3.2"),
    ("number-with-blanks", "D06"),
    ("mode-unknown", "5.3.2"),
    ("mode-clash", "9.8 D"),
    ("restart-raised", "D55"),
    ("special-logic", "D18"),
    ("credit-zero", "5.3.2"),
    ("credit-raised", "9.8 D"),
    ("authentication-blank", "D51"),
    ("authentication-differs", "9.8 D"),
    ("second-ssid", "9.12 B"),
    ("auch-before-secd", "9.8 L"),
    ("file-before-authentication", "9.8 L"),
    ("auch-length", "5.3.17"),
    ("aurp-short", "5.3.18"),
    ("aurp-wrong", ""),
    ("restart-not-agreed", "9.12 A"),
    ("file-by-receiver-only", "9.12 A"),
    ("sfid-by-listener", "9.10 C"),
    ("lower-case-field", "D10"),
    ("leading-blanks", "D09"),
    ("control-character", "5.3.3"),
    ("bad-date", "5.3.3"),
    ("bad-time", "5.3.3"),
    ("counter-zero", "D13"),
    ("format-unknown", "5.3.3"),
    ("record-length-given", "D35"),
    ("security-unknown", "5.3.3"),
    ("envelope-missing", "5.3.3"),
    ("sign-blank", "5.3.3"),
    ("lengths-left-out", "D07"),
    ("description-short", "5.3.3"),
    ("text-not-utf8", "D30"),
    ("sfpa-beyond", "9.10 K"),
    ("cd-by-listener", "9.10 C"),
    ("rtr-unasked", "9.10 C"),
    ("eerp-by-listener", "9.10 C"),
    ("esid-by-listener", "D22"),
    ("reason-not-listed", "D29"),
    ("retry-blank", "5.3.5"),
    ("data-before-sfpa", "9.12 B"),
    ("data-without-file", "9.12 B"),
    ("data-without-credit", "9.12 I"),
    ("buffer-too-long", "5.3.6"),
    ("subrecord-too-long", "5.3.6"),
    ("data-empty", "D57"),
    ("compression-unasked", "D40"),
    ("end-of-record-missing", "D25"),
    ("record-ended-early", "D52"),
    ("cdt-early", "D15"),
    ("cdt-short", "D05"),
    ("cdt-after-efid", "D16"),
    ("cdt-before-sfpa", "9.10 C"),
    ("cdt-by-speaker", "9.12 B"),
    ("efid-without-file", "9.12 B"),
    ("efid-without-credit", "D16"),
    ("efpa-early", "9.11 B"),
    ("efpa-by-speaker", "9.12 B"),
    ("sfpa-by-speaker", "9.12 B"),
    ("record-count-wrong", "D59"),
    ("octet-count-wrong", "D59"),
    ("efpa-blank", "5.3.9"),
    ("response-length", "5.3.13"),
    ("response-cut-short", "D07"),
    ("hash-unsigned", "5.3.13"),
    ("response-before-rtr", "9.12 B"),
    ("nerp-reason", "D29"),
    ("cd-before-rtr", "9.10 C"),
    ("turn-kept", "9.12 B"),
    ("cd-loop", "9.12 B"),
    ("end-after-start", "D21"),
    ("esid-short-form", "D02"),
    ("esid-cr-missing", "D03"),
    ("esid-not-listed", "D54"),
];

/// A rule, and what it takes to break it.
struct Case {
    rule: &'static Rule,
    expected: &'static str,
    dataset: String,
    /// Whether the partner breaks it; else the receive daemon.
    by_partner: bool,
    partner: Settings,
    inside: Settings,
    file: OutgoingFile,
    refused: bool,
}

impl Case {
    fn new(number: usize, name: &str, expected: &'static str, chain: &Chain) -> Self {
        let rule = Rule::named(name).unwrap_or_else(|| panic!("there is no rule {name}"));
        let inside_answers = ["mode-clash", "restart-raised", "credit-raised", "authentication-differs"];
        let by_partner = match rule.on {
            "SSID" => !inside_answers.contains(&name),
            command => matches!(command, "SECD" | "AURP" | "SFID" | "DATA" | "EFID" | "CD" | "RTR" | "ESID"),
        };
        let dataset = format!("RULE-{number}");
        let mut file = OutgoingFile::from_octets(&dataset, made_octets(1000));
        let partner = Settings { buffer_size: 128, transcript: true, ..chain.settings() };
        let inside = Settings::new(INSIDE_CODE, INSIDE_PASSWORD);
        let inside = Settings { patience: PATIENCE, transcript: true, credit: 999, ..inside };
        let (mut partner, mut inside, mut refused) = (partner, inside, false);
        match name {
            "nerp-below-level-four" => partner.level = Level::Two,
            "mode-clash" => partner.transfers = Transfers::Send,
            "restart-raised" => partner.restart = false,
            "text-not-utf8" => file.description = "Ueberweisung".into(),
            "reason-not-listed" | "retry-blank" => refused = true,
            "data-without-credit" => partner.credit = 2,
            "compression-unasked" | "record-ended-early" | "efid-without-credit" | "end-of-record-missing" => {
                // One DATA, with room left.
                partner.credit = 1;
                file = OutgoingFile::from_octets(&dataset, made_octets(100));
            }
            "nerp-reason" => inside.negative_response = Some(34),
            "turn-kept" => inside.ask_for_turn = true,
            _ if matches!(rule.on, "SECD" | "AUCH" | "AURP") => {
                (partner.authentication, inside.authentication) = (true, true);
            }
            _ => {}
        }
        if by_partner {
            partner = partner.misbehaving(rule);
        } else {
            inside = inside.misbehaving(rule);
        }
        Self { rule, expected, dataset, by_partner, partner, inside, file, refused }
    }

    /// What the record must say of the file; none when no SFID was to pass.
    fn result(&self) -> Option<&'static str> {
        match (self.rule.answer, self.rule.on, self.rule.name) {
            (Answer::Efna(_), ..) => Some("refused"),
            (_, "SSRM" | "SSID", _) if !matches!(self.rule.answer, Answer::Passes) => None,
            (_, _, "end-instead-of-ready" | "end-after-start") => None,
            (_, _, "esid-by-listener" | "data-before-sfpa") => Some("incomplete"),
            (_, _, "reason-not-listed") => Some("refused"),
            (Answer::Passes, ..) => Some("acknowledged"),
            (_, "SECD" | "AUCH" | "AURP" | "SFID", _) => None,
            (_, "SFPA" | "SFNA" | "DATA" | "EFID" | "EFPA", _) => Some("incomplete"),
            _ => Some("acknowledged"),
        }
    }
}

/// One ESID with reason 99 in one Stream Transmission Buffer, and nothing else.
fn is_neutral_end(octets: &[u8]) -> bool {
    let length = octets.first_chunk::<4>().map(|header| u32::from_be_bytes(*header) & 0x00ff_ffff);
    length.is_some_and(|length| length as usize == octets.len()) && octets[4..].starts_with(b"F99")
}

fn transcripts(case: &Case, partner: &Report, inside: &Report) -> (Transcript, Transcript) {
    let (partner, inside) = (partner.transcript.clone().unwrap(), inside.transcript.clone().unwrap());
    if case.by_partner { (partner, inside) } else { (inside, partner) }
}

/// All that can be seen at both ends.
fn check_ends(case: &Case, partner: &Report, inside: &Report) {
    let told = format!("{}: {partner:?}\n{inside:?}", case.rule.name);
    let (offender, other) = transcripts(case, partner, inside);
    let end = if case.by_partner { &partner.failure } else { &inside.failure };
    let broken_at = offender.misbehaved_at.unwrap_or_else(|| panic!("the rule was not broken: {told}"));
    match case.rule.answer {
        Answer::Esid(reason) => {
            // Before a sound SSRM has passed nobody knows what a side understands: it is closed without a word.
            let closed = case.rule.on == "SSRM" && matches!(end, Some(Failure::Closed(_)));
            assert!(closed || matches!(end, Some(Failure::Esid { code, .. }) if *code == reason), "{told}");
            let (before, after) = other.received.split_at_checked(broken_at).expect(&told);
            assert!(before == &offender.sent[..broken_at], "{told}");
            let untold = after.is_empty() && case.rule.on == "SSRM";
            assert!(untold || is_neutral_end(after), "{:?} {told}", after.escape_ascii().to_string());
        }
        Answer::Passes | Answer::StationEsid(_) | Answer::Efna(_) => {
            let mut sent = offender.sent;
            if case.rule.name == "stream-flags" {
                // The stream header is the one thing that the proxy writes anew.
                sent[broken_at] = 0x10;
            }
            assert!(other.received == sent, "{told}");
        }
    }
    match case.rule.answer {
        Answer::StationEsid(reason) => {
            assert!(matches!(end, Some(Failure::Esid { code, .. }) if *code == reason), "{told}");
        }
        Answer::Efna(reason) => {
            assert_eq!(partner.sent[0].outcome, Outcome::Refused { reason, retry: false }, "{told}");
        }
        Answer::Esid(_) | Answer::Passes => {}
    }
}

/// The lines about this session in the log of the daemon that judges first: the proxyserver for what comes from the
/// partner, the proxyclient for what comes from the receive daemon.
fn check_log(case: &Case, lines: &[LogLine]) {
    let rule = case.rule.name;
    let with =
        |code: &str| -> Vec<&LogLine> { lines.iter().filter(|line| line.code.as_deref() == Some(code)).collect() };
    let offender = if case.by_partner { "Initiator" } else { "Responder" };
    let all = || format!("{rule}: {lines:#?}");
    if let Answer::Esid(_) = case.rule.answer {
        let broken = with("oftp2-protocol-violation");
        assert_eq!(broken.len(), 1, "{}", all());
        let named = format!("{offender} broke RFC 5024, {}: ", case.expected);
        assert!(broken[0].message.contains(&named), "{named}? {}", all());
        return;
    }
    assert!(with("oftp2-protocol-violation").is_empty(), "{}", all());
    if !case.expected.is_empty() {
        let by = if case.by_partner { "partner" } else { "inside" };
        let named = format!("from the {by}: {}: ", case.expected);
        let told = with("oftp2-deviation-tolerated").into_iter().filter(|line| line.message.contains(&named)).count();
        assert_eq!(told, 1, "{named}? {}", all());
    }
}

fn check_record(case: &Case, record: &Value) {
    let rule = case.rule.name;
    let violation = matches!(case.rule.answer, Answer::Esid(_));
    assert_eq!(record["outcome"] == "violation", violation, "{rule}: {record}");
    let files = record["files"].as_array().cloned().unwrap_or_default();
    match case.result() {
        None => assert!(files.is_empty(), "{rule}: {record}"),
        Some(result) => {
            assert_eq!(files.len(), 1, "{rule}: {record}");
            let name =
                if case.rule.name == "lower-case-field" { case.dataset.to_lowercase() } else { case.dataset.clone() };
            assert_eq!(files[0]["dataset_name"], json!(name), "{rule}: {record}");
            assert_eq!(files[0]["direction"], "from_partner", "{rule}: {record}");
            assert_eq!(files[0]["result"], result, "{rule}: {record}");
            if result == "acknowledged" {
                let OutgoingFile { content: station::Content::Octets(octets), .. } = &case.file else {
                    unreachable!("it is in memory")
                };
                assert_eq!(files[0]["bytes"], json!(octets.len()), "{rule}: {record}");
            }
        }
    }
}

#[test]
fn every_rule_has_its_scenario() {
    let rules: BTreeSet<_> = Rule::all().iter().map(|rule| rule.name).filter(|name| *name != "silence").collect();
    let expected: BTreeSet<_> = EXPECTED.iter().map(|(name, _)| *name).collect();
    assert_eq!(rules, expected);
}

#[test]
fn who_breaks_a_rule_is_told_or_it_passes_and_is_told_once() -> Result<(), Trouble> {
    let scratch = tempfile::tempdir().unwrap();
    let daemon = SocketAddr::from(([127, 0, 0, 1], free_port()?));
    let chain = Plan::new().receive_daemon_at(daemon).start()?;
    let mut sessions: Vec<(String, Case)> = Vec::new();
    let mut faults = Vec::new();
    for (number, (name, expected)) in EXPECTED.iter().enumerate() {
        let case = Case::new(number, name, expected, &chain);
        let store = Store::new(scratch.path().join(name)).unwrap();
        if case.refused {
            fs::write(store.path_of(&case.dataset), b"here already").unwrap();
        }
        let receiver = Receiver::start(daemon, &Security::Plain, case.inside.clone(), Some(store), vec![])?;
        let judge = if case.by_partner { chain.server() } else { chain.client() };
        let mark = judge.mark();
        let partner =
            station::send(&chain.partner_address(), &chain.security(), &case.partner, vec![case.file.clone()]);
        let inside = receiver.next_session(PATIENCE).unwrap_or_else(|| panic!("{name}: no session came inside"));
        // The last line about a session is the one that says how it ended.
        let ended = |line: &str| {
            LogLine::read(line).filter(|line| {
                let codes = ["session-ended", "session-aborted", "oftp2-protocol-violation"];
                line.role == "session" && line.code.as_deref().is_some_and(|code| codes.contains(&code))
            })
        };
        // The session before may still be talked about in the log of the other daemon.
        let of_this = |line: &str| {
            let session = ended(line).and_then(|line| line.session)?;
            sessions.iter().all(|(seen, _)| *seen != session).then_some(session)
        };
        let end = judge.wait_after(mark, name, |line| of_this(line).is_some())?;
        let session = of_this(&end).expect("it has just been found");
        let lines = judge.lines_after(mark);
        let lines: Vec<_> = lines.iter().filter_map(|line| LogLine::read(line)).collect();
        let lines: Vec<_> = lines.into_iter().filter(|line| line.session.as_ref() == Some(&session)).collect();
        // All rules are tried before the first one that failed is told.
        let checked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            check_ends(&case, &partner, &inside);
            check_log(&case, &lines);
        }));
        if checked.is_err() {
            faults.push(*name);
        }
        sessions.push((session, case));
    }
    for (session, case) in sessions {
        let of_session = |record: &Value| record["id"].as_str().is_some_and(|id| id.contains(&session));
        let record = chain.scripted_backend().wait_for_record(case.rule.name, PATIENCE, of_session)?;
        let checked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| check_record(&case, &record)));
        if checked.is_err() {
            faults.push(case.rule.name);
        }
    }
    assert!(faults.is_empty(), "{faults:?}");
    Ok(())
}

#[test]
fn a_partner_that_falls_silent_gets_esid_09_and_so_does_the_receive_daemon() -> Result<(), Trouble> {
    let scratch = tempfile::tempdir().unwrap();
    let daemon = SocketAddr::from(([127, 0, 0, 1], free_port()?));
    let chain = Plan::new()
        .receive_daemon_at(daemon)
        .configure(|config| config["limits"] = json!({ "inactivity_timeout_s": 5 }))
        .start()?;
    let settings = Settings { patience: PATIENCE, ..Settings::new(INSIDE_CODE, INSIDE_PASSWORD) };
    let store = Store::new(scratch.path()).unwrap();
    let receiver = Receiver::start(daemon, &Security::Plain, settings, Some(store), vec![])?;
    let silent = chain.settings().misbehaving(Rule::named("silence").expect("it is a rule"));
    let file = OutgoingFile { format: Format::Text, ..OutgoingFile::from_octets("NEVER", *b"words\r\n") };
    let report = station::send(&chain.partner_address(), &chain.security(), &silent, vec![file]);
    assert!(matches!(report.failure, Some(Failure::Esid { code: 9, .. })), "{report:?}");
    let inside = receiver.next_session(PATIENCE).expect("the receive daemon's session ends");
    assert!(matches!(inside.failure, Some(Failure::Esid { code: 9, .. })), "{inside:?}");
    chain.scripted_backend().wait_for_record("a time-out", PATIENCE, |record| record["outcome"] == "timeout")?;
    Ok(())
}
