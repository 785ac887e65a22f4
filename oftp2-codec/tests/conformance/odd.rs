//! Malformed and misplaced messages, each with its verdict at strict and at standard conformance.

use crate::corpus::{beginning, beginnings, message, peer, text};
use oftp2_codec::{
    Conformance, Deviation, Deviations,
    monitor::{Monitor, Notice, Pass, Peer, Settings, Violation},
    stb::HEADER_LENGTH,
};
use std::collections::BTreeSet;

/// What became of a message, written as `odd.txt` writes it.
fn verdict(monitor: &mut Monitor, from: Peer, stream: &[u8]) -> Result<String, Violation> {
    let (header, rest) = stream.split_first_chunk::<HEADER_LENGTH>().unwrap();
    let header = monitor.stream_header(from, *header)?;
    let Some(exchange_buffer) = rest.get(..header.exchange_buffer_length()) else { return Ok("waits".to_owned()) };
    let judgement = monitor.judge(from, exchange_buffer)?;
    let word = match (judgement.pass, judgement.notice) {
        (Pass::Drop, _) => "drops",
        (Pass::Forward, Notice::SessionEnded { .. }) => "ends",
        (Pass::Forward, _) => "passes",
    };
    Ok([word.to_owned(), numbers(judgement.deviations)].join(" ").trim_end().to_owned())
}

fn numbers(deviations: Deviations) -> String {
    let numbers: BTreeSet<&str> = deviations.iter().map(Deviation::number).collect();
    numbers.into_iter().collect::<Vec<_>>().join(" ")
}

#[test]
fn every_odd_message_has_its_verdict() {
    let text = text("dialogues", "odd");
    let mut failures = Vec::new();
    let mut cases = 0;
    for line in text.lines().filter(|line| line.contains(" | ")) {
        let [name, before, sent, strict, standard, _what] = line
            .splitn(6, '|')
            .map(str::trim)
            .collect::<Vec<_>>()
            .try_into()
            .unwrap_or_else(|_| panic!("six columns expected: {line}"));
        let (side, sent) = sent.split_once(": ").expect("side and message");
        cases += 1;
        'conformances: for (conformance, expected) in [(Conformance::Strict, strict), (Conformance::Standard, standard)]
        {
            let mut monitor = Monitor::new(Settings { conformance, ..Settings::default() });
            for (from, stream) in beginning(before) {
                if let Err(violation) = verdict(&mut monitor, from, &stream) {
                    // Only where beginnings.txt says so, and then there is nothing left to try.
                    assert!(beginnings().contains(&(before.to_owned(), false)), "{name}: {violation}");
                    assert_eq!(format!("{:02}", violation.reason.code()), expected, "{name}");
                    continue 'conformances;
                }
            }
            let (seen, sentence) = match verdict(&mut monitor, peer(side), &message(sent)) {
                Ok(verdict) => (verdict, String::new()),
                Err(violation) => {
                    assert_eq!(violation.offender, peer(side), "{name}");
                    assert!(monitor.has_ended(), "{name}");
                    (format!("{:02}", violation.reason.code()), violation.to_string())
                }
            };
            if seen != expected {
                failures.push(format!("{name} {conformance:?}: expected {expected}, was {seen} ({sentence})"));
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(cases >= 108, "{cases} cases");
}

#[test]
fn every_deviation_has_a_case() {
    let text = text("dialogues", "odd");
    for deviation in Deviation::ALL {
        let number = deviation.number();
        let shown = text.lines().filter_map(|line| line.split('|').nth(4)).any(|verdict| verdict.contains(number));
        assert!(shown, "{deviation}");
    }
}

#[test]
fn a_violation_names_command_field_and_place_in_one_sentence() {
    let sentence = |before: &str, side: &str, sent: &str| {
        let mut monitor = Monitor::new(Settings::default());
        for (from, stream) in beginning(before) {
            verdict(&mut monitor, from, &stream).unwrap();
        }
        verdict(&mut monitor, peer(side), &message(sent)).unwrap_err().to_string()
    };
    assert_eq!(
        sentence("ready", "I", "SSID V05 SSIDCRED=\"0A4\""),
        "Initiator broke RFC 5024, 5.3.2: SSIDCRED at 44 of SSID is \"0A4\", decimal digits expected; ESID 06"
    );
    assert_eq!(
        sentence("ready", "I", "SSID V05 SSIDSDEB=\"00127\""),
        "Initiator broke RFC 5024, 5.3.2: SSIDSDEB at 35 of SSID is \"00127\", 128 to 99999 expected; ESID 06"
    );
    assert_eq!(
        sentence("file offered", "I", "DATA V17"),
        "Initiator broke RFC 5024, 9.12 B: DATA in OPOP, nothing but ESID expected from this side; ESID 02"
    );
}

#[test]
fn a_violation_names_the_row_it_breaks() {
    for (before, side, sent, section, conformance) in [
        ("connected", "R", "stream 2000000552", "8.2", Conformance::Standard),
        ("idle", "R", "stream 1000FFFF", "5.3.11", Conformance::Standard),
        ("connected", "I", "SSID V05", "9.8", Conformance::Standard),
        ("session offered", "I", "SSID V05", "9.8", Conformance::Standard),
        ("challenge due", "I", "SFID V10", "9.8 L", Conformance::Standard),
        ("session offered", "R", "SSID V04", "9.8 D", Conformance::Standard),
        ("only receives", "I", "SFID V10", "9.12 A", Conformance::Standard),
        ("restart offered", "R", "SFPA V14 SFPAACNT=\"00000000000000004\"", "9.10 K", Conformance::Standard),
        ("file offered", "I", "SFID V10", "9.12 B", Conformance::Standard),
        ("turn given", "R", "CD V31", "9.12 B", Conformance::Standard),
        ("file offered", "R", "RTR V36", "9.10 C", Conformance::Standard),
        ("sending", "R", "EFPA V24", "9.11 B", Conformance::Standard),
        ("credit used up", "R", "EFNA V26", "9.11 B", Conformance::Standard),
        ("credit used up", "I", "DATA V17", "9.12 I", Conformance::Standard),
        ("sending", "I", "DATA V75", "5.3.6", Conformance::Standard),
        ("ready", "I", "SSID V05 SSIDCRED=\"000\"", "5.3.2", Conformance::Standard),
        ("sending", "R", "CDT V21", "9.10 P", Conformance::Strict),
        ("file ended", "R", "CDT V21", "9.10 C", Conformance::Strict),
        ("credit used up", "I", "EFID V50", "9.11 E", Conformance::Strict),
        ("no restart offered", "R", "SSID V06", "9.8 D", Conformance::Strict),
        ("sending", "I", "DATA V18", "7.3", Conformance::Strict),
    ] {
        let mut monitor = Monitor::new(Settings { conformance, ..Settings::default() });
        for (from, stream) in beginning(before) {
            verdict(&mut monitor, from, &stream).unwrap();
        }
        let violation = match verdict(&mut monitor, peer(side), &message(sent)) {
            Err(violation) => violation,
            Ok(verdict) => panic!("{before}, {sent}: {verdict}"),
        };
        assert_eq!(violation.section, section, "{before}, {sent}");
    }
}

#[test]
fn a_password_is_never_shown() {
    // Once with an octet that nobody lets pass, once with letters that strict conformance refuses.
    for (conformance, password) in [(Conformance::Standard, "5345435245543000"), (Conformance::Strict, "\"SECRETx \"")]
    {
        let mut monitor = Monitor::new(Settings { conformance, ..Settings::default() });
        for (from, stream) in beginning("ready") {
            verdict(&mut monitor, from, &stream).unwrap();
        }
        let ssid = message(&format!("SSID V05 SSIDPSWD={password}"));
        let violation = verdict(&mut monitor, Peer::Initiator, &ssid).unwrap_err();
        for shown in [violation.to_string(), format!("{violation:?}"), violation.text_for_offender()] {
            assert!(!shown.contains("SECRET"), "{shown}");
        }
        assert_eq!(violation.seen, "***");
        assert!(!format!("{monitor:?}").contains("SECRET"));
    }
    let mut monitor = Monitor::new(Settings::default());
    for (from, stream) in beginning("session offered") {
        verdict(&mut monitor, from, &stream).unwrap();
    }
    assert!(!format!("{monitor:?}").contains("SECRET01"));
}

#[test]
fn only_the_password_is_hidden() {
    let mut monitor = Monitor::new(Settings { conformance: Conformance::Strict, ..Settings::default() });
    for (from, stream) in beginning("ready") {
        verdict(&mut monitor, from, &stream).unwrap();
    }
    let ssid = message("SSID V05 SSIDCODE=\"own_code                 \"");
    let violation = verdict(&mut monitor, Peer::Initiator, &ssid).unwrap_err();
    assert_eq!(violation.seen.trim_end(), "own_code");
}
