//! What the configuration asks of a session, and which buffers may come at all.

use crate::corpus::{beginning, message, vector};
use oftp2_codec::{
    Deviation::CharacterOutsideSet,
    field::IdentificationCode,
    monitor::{ForeignCodes, Monitor, Peer, Place, Settings, Violation},
    reason::SessionEndReason,
    stb::{HEADER_LENGTH, StreamHeader},
};
use std::sync::Arc;

fn run(settings: Settings, before: &str) -> Result<Monitor, Violation> {
    let mut monitor = Monitor::new(settings);
    for (from, stream) in beginning(before) {
        monitor.judge(from, &stream[HEADER_LENGTH..])?;
    }
    Ok(monitor)
}

fn permitting(peer: Peer, codes: &[&str]) -> Settings {
    let codes = codes.iter().map(|code| IdentificationCode::new(code).unwrap()).collect();
    Settings { permitted_codes: Some((peer, codes)), ..Settings::default() }
}

#[test]
fn a_code_that_is_not_the_partners_is_refused_with_03() {
    for (peer, codes) in [
        (Peer::Initiator, ["O0013000000RECEIVER", "O00130000000PARTNRADMZ002"]),
        (Peer::Responder, ["O00130000000PARTNRADMZ001", "O0013000000RECEIVERS"]),
    ] {
        let violation = run(permitting(peer, &codes), "idle").unwrap_err();
        assert_eq!((violation.offender, violation.reason), (peer, SessionEndReason::UserCodeNotKnown));
        let [one, other] = codes;
        let told = format!("a code of this partner expected: {one}, {other}; ESID 03");
        let violation_text = violation.to_string();
        assert!(violation_text.contains("SSIDCODE at 2 of SSID") && violation_text.ends_with(&told), "{violation}");
        // Whose codes those are is nothing that the offender may learn.
        assert_eq!(violation.text_for_offender(), "SSIDCODE at 2 of SSID: a code of this partner expected");
    }
    let many: Vec<String> = (1..=7).map(|number| format!("CODE{number}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let violation = run(permitting(Peer::Initiator, &many), "idle").unwrap_err();
    assert!(violation.to_string().contains("expected: CODE1, CODE2, CODE3, CODE4, CODE5 and 2 more;"), "{violation}");
}

#[test]
fn a_code_of_the_partner_passes_wherever_its_blanks_stand() {
    let settings = permitting(Peer::Responder, &["OTHER", "  O0013000000RECEIVER"]);
    assert!(run(settings, "idle").is_ok());
    // No code at all allows every code.
    assert!(run(permitting(Peer::Responder, &[]), "idle").is_ok());
}

/// One partner lists these.
#[derive(Debug)]
struct Acme(IdentificationCode);

impl ForeignCodes for Acme {
    fn whose(&self, code: &IdentificationCode) -> Option<String> {
        (*code == self.0).then(|| "ACME".to_owned())
    }
}

#[test]
fn who_has_no_codes_may_use_any_but_those_of_others() {
    let foreign = |peer, codes: &[&str], code| Settings {
        foreign_codes: Some(Arc::new(Acme(IdentificationCode::new(code).unwrap()))),
        ..permitting(peer, codes)
    };
    for (peer, code) in [(Peer::Initiator, "O00130000000PARTNRADMZ001"), (Peer::Responder, "O0013000000RECEIVER")] {
        let violation = run(foreign(peer, &[], code), "idle").unwrap_err();
        assert_eq!((violation.offender, violation.reason), (peer, SessionEndReason::UserCodeNotKnown));
        let told = format!("is \"{code}\", a code of this partner expected: this one is listed under ACME; ESID 03");
        assert!(violation.to_string().ends_with(&told), "{violation}");
        assert_eq!(violation.text_for_offender(), "SSIDCODE at 2 of SSID: a code of this partner expected");
        // Where both list it, both may use it; the other side may use what it likes.
        assert!(run(foreign(peer, &["OTHER", code], code), "idle").is_ok());
        assert!(run(foreign(peer.other(), &[], code), "idle").is_ok());
        assert!(run(foreign(peer, &[], "OTHER"), "idle").is_ok());
    }
}

#[test]
fn a_buffer_agreed_above_the_limit_is_refused_with_10() {
    // The smaller one counts: 128 of 10000 and 128.
    let limit = |octets| Settings { largest_exchange_buffer: octets, ..Settings::default() };
    assert!(run(limit(128), "idle").is_ok());
    let violation = run(limit(2047), "authentication begins").unwrap_err();
    assert_eq!((violation.offender, violation.reason), (Peer::Responder, SessionEndReason::Incompatible));
    assert!(run(limit(2048), "authentication begins").is_ok());
}

#[test]
fn the_limit_of_the_configuration_is_told_as_that_and_not_as_a_broken_rule() {
    let settings = Settings { largest_exchange_buffer: 4096, ..Settings::default() };
    let violation = run(settings, "sending, large buffer").unwrap_err();
    assert!(violation.of_own_limit);
    assert_eq!(
        violation.to_string(),
        "SSIDSDEB at 35 of SSID is \"10000 (Initiator 10000, Responder 20000)\", a data buffer within the limit \
         configured here expected: limits.max_exchange_buffer = 4096; ESID 10"
    );
    assert!(!violation.text_for_offender().contains("4096"));
    assert!(!run(permitting(Peer::Initiator, &["OTHER"]), "idle").unwrap_err().of_own_limit);
}

/// The longest buffer that a header may announce.
fn longest(before: &str, from: Peer) -> usize {
    let allowed = |length: usize| {
        let header = StreamHeader::before(length).unwrap();
        run(Settings::default(), before).unwrap().stream_header(from, header.octets()).is_ok()
    };
    let (mut shortest_refused, mut longest_allowed) = (100_000, 1);
    while shortest_refused - longest_allowed > 1 {
        let middle = usize::midpoint(shortest_refused, longest_allowed);
        if allowed(middle) { longest_allowed = middle } else { shortest_refused = middle }
    }
    longest_allowed
}

#[test]
fn a_header_that_announces_more_than_can_come_is_refused_before_its_buffer() {
    // The longest of the short commands is an SFID with 999 octets of description.
    for (before, from, expected) in [
        ("connected", Peer::Responder, 1164),
        ("ready", Peer::Initiator, 1164),
        ("challenge due", Peer::Responder, 65_538),
        ("challenge due", Peer::Initiator, 2048),
        ("idle", Peer::Initiator, 99_999),
        ("idle", Peer::Responder, 1164),
        ("turn given", Peer::Responder, 99_999),
        ("sending", Peer::Initiator, 1164),
        ("sending, large buffer", Peer::Initiator, 10_000),
        ("idle at level 4", Peer::Initiator, 2048),
        // What still comes after the end has to be taken off the line, whatever it is.
        ("ended", Peer::Initiator, 99_999),
        ("turned away", Peer::Initiator, 99_999),
    ] {
        assert_eq!(longest(before, from), expected, "{before}, {from}");
    }
}

#[test]
fn every_legal_message_is_no_longer_than_may_come() {
    for (name, _) in crate::corpus::beginnings() {
        let mut monitor = Monitor::new(Settings::default());
        for (from, stream) in beginning(&name) {
            let header = stream.first_chunk().unwrap();
            monitor.stream_header(from, *header).unwrap_or_else(|violation| panic!("{name}: {violation}"));
            monitor.judge(from, &stream[HEADER_LENGTH..]).unwrap();
        }
    }
}

#[test]
fn a_long_signed_response_passes() {
    let hash = vec![7; 64];
    let signature = vec![9; 9000];
    let mut response = vector("V32").octets[..106].to_vec();
    for part in [&hash, &signature] {
        response.extend((part.len() as u16).to_be_bytes());
        response.extend(part);
    }
    let mut monitor = run(Settings::default(), "turn given").unwrap();
    let header = StreamHeader::before(response.len()).unwrap();
    monitor.stream_header(Peer::Responder, header.octets()).unwrap();
    monitor.judge(Peer::Responder, &response).unwrap();
}

#[test]
fn a_deviation_of_a_field_has_its_first_place() {
    let mut monitor = run(Settings::default(), "ready").unwrap();
    let ssid = message("SSID V05 SSIDPSWD=\"secret  \" SSIDUSER=\"site    \"");
    assert!(monitor.judge(Peer::Initiator, &ssid[HEADER_LENGTH..]).unwrap().deviations.contains(CharacterOutsideSet));
    let place = |monitor: &Monitor, peer| {
        monitor.place_of(peer, CharacterOutsideSet).map(|Place { field, position }| (field, position))
    };
    assert_eq!(place(&monitor, Peer::Initiator), Some(("SSIDPSWD", 27)));
    assert_eq!(place(&monitor, Peer::Responder), None);
    monitor.judge(Peer::Responder, &message("SSID V06")[HEADER_LENGTH..]).unwrap();
    let sfid = message("SFID V10 SFIDDSN=\"small                     \"");
    monitor.judge(Peer::Initiator, &sfid[HEADER_LENGTH..]).unwrap();
    assert_eq!(place(&monitor, Peer::Initiator), Some(("SSIDPSWD", 27)));
}

#[test]
fn flags_are_told_with_the_next_buffer_of_their_side_and_once() {
    let mut monitor = run(Settings::default(), "credit used up").unwrap();
    monitor.stream_header(Peer::Responder, [0x1F, 0, 0, 7]).unwrap();
    let other = monitor.stream_header(Peer::Initiator, [0x10, 0, 0, 7]).unwrap();
    assert!(!other.flags_were_set());
    let judgement = monitor.judge(Peer::Responder, b"C  ").unwrap();
    assert_eq!(judgement.deviations.iter().map(|deviation| deviation.number()).collect::<Vec<_>>(), ["D28"]);
    monitor.stream_header(Peer::Initiator, [0x1F, 0, 0, 18]).unwrap();
    let data = message("V39");
    assert!(!monitor.judge(Peer::Initiator, &data[HEADER_LENGTH..]).unwrap().deviations.is_empty());
    monitor.stream_header(Peer::Initiator, [0x1F, 0, 0, 18]).unwrap();
    assert!(monitor.judge(Peer::Initiator, &data[HEADER_LENGTH..]).unwrap().deviations.is_empty());
}
