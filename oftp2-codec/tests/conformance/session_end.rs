//! The ESID that the proxy itself sends: to whom, when, and in which form.

use crate::corpus::{beginning, message};
use oftp2_codec::{
    Conformance,
    monitor::{Monitor, Peer, Settings},
    reason::SessionEndReason,
    stb::HEADER_LENGTH,
};

const LONG: &[u8] = b"\x10\x00\x00\x0dF99002go\r";
const SHORT: &[u8] = b"\x10\x00\x00\x08F99\r";

fn at(before: &str) -> Monitor {
    let mut monitor = Monitor::new(Settings::default());
    for (from, stream) in beginning(before) {
        monitor.judge(from, &stream[HEADER_LENGTH..]).unwrap();
    }
    monitor
}

fn end(monitor: &mut Monitor, to: Peer) -> Option<Vec<u8>> {
    monitor.session_end(to, SessionEndReason::Unspecified, "go")
}

#[test]
fn nobody_gets_one_before_the_ready_message() {
    for to in [Peer::Initiator, Peer::Responder] {
        assert_eq!(end(&mut at("connected"), to), None);
    }
}

#[test]
fn the_form_is_that_of_the_lowest_level_still_possible() {
    for (before, to_initiator, to_responder) in [
        ("ready", SHORT, SHORT),
        // The Initiator has said 5; what the Responder can is not known.
        ("session offered", LONG, SHORT),
        ("idle", LONG, LONG),
        ("sending", LONG, LONG),
        ("idle at level 4", SHORT, SHORT),
        ("idle at level 1", SHORT, SHORT),
    ] {
        assert_eq!(end(&mut at(before), Peer::Initiator).as_deref(), Some(to_initiator), "{before}");
        assert_eq!(end(&mut at(before), Peer::Responder).as_deref(), Some(to_responder), "{before}");
    }
}

#[test]
fn each_side_gets_one_only_and_then_everything_is_dropped() {
    let mut monitor = at("idle");
    assert!(end(&mut monitor, Peer::Initiator).is_some());
    assert!(end(&mut monitor, Peer::Initiator).is_none());
    assert!(end(&mut monitor, Peer::Responder).is_some());
    assert!(monitor.has_ended());
    let judgement = monitor.judge(Peer::Initiator, b"R").unwrap();
    assert_eq!(judgement.pass, oftp2_codec::monitor::Pass::Drop);
}

#[test]
fn nobody_gets_one_after_an_esid_has_passed() {
    let mut monitor = at("ended");
    assert_eq!(end(&mut monitor, Peer::Initiator), None);
    assert_eq!(end(&mut monitor, Peer::Responder), None);
}

#[test]
fn a_malformed_esid_is_not_answered_and_the_other_side_is_told() {
    let mut monitor = at("idle");
    monitor.judge(Peer::Initiator, b"F0X000\r").unwrap_err();
    assert_eq!(end(&mut monitor, Peer::Initiator), None);
    assert_eq!(end(&mut monitor, Peer::Responder).as_deref(), Some(LONG));
}

#[test]
fn a_malformed_esid_keeps_the_reason_that_can_be_read() {
    let malformed: [(&[u8], Option<u8>); 6] = [
        // The length counts letters: the text is one octet longer.
        ("F04010Paßwort: 1\r".as_bytes(), Some(4)),
        (b"F08099too long\r", Some(8)),
        (b"F03000\r\r", Some(3)),
        (b"F4200", Some(42)),
        (b"F0X000\r", None),
        (b"F", None),
    ];
    for (esid, reason) in malformed {
        let violation = at("idle").judge(Peer::Responder, esid).unwrap_err();
        assert_eq!(violation.session_end.map(SessionEndReason::code), reason, "{violation}");
        let mut strict = Monitor::new(Settings { conformance: Conformance::Strict, ..Settings::default() });
        strict.judge(Peer::Responder, b"IODETTE FTP READY \r").unwrap();
        assert_eq!(strict.judge(Peer::Responder, esid).unwrap_err().session_end, None);
    }
    assert_eq!(at("idle").judge(Peer::Initiator, b"Z04000\r").unwrap_err().session_end, None);
}

#[test]
fn after_a_violation_both_sides_are_told() {
    let mut monitor = at("idle");
    monitor.judge(Peer::Initiator, b"Z").unwrap_err();
    assert_eq!(end(&mut monitor, Peer::Initiator).as_deref(), Some(LONG));
    assert_eq!(end(&mut monitor, Peer::Responder).as_deref(), Some(LONG));
}

#[test]
fn a_text_too_long_is_cut_between_letters() {
    let stream = at("idle").session_end(Peer::Initiator, SessionEndReason::TimeOut, &"ü".repeat(600)).unwrap();
    assert_eq!(&stream[HEADER_LENGTH..HEADER_LENGTH + 6], b"F09998");
    assert_eq!(stream.len(), HEADER_LENGTH + 7 + 998);
}

#[test]
fn when_the_answer_is_refused_both_levels_are_known() {
    for (answer, form) in [("SSID V06 SSIDCRED=\"101\"", LONG), ("SSID V41 SSIDCRED=\"101\"", SHORT)] {
        let mut monitor = at("session offered");
        monitor.judge(Peer::Responder, &message(answer)[HEADER_LENGTH..]).unwrap_err();
        assert_eq!(end(&mut monitor, Peer::Initiator).as_deref(), Some(form), "{answer}");
        assert_eq!(end(&mut monitor, Peer::Responder).as_deref(), Some(form), "{answer}");
    }
}
