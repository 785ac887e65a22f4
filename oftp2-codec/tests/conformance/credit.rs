//! Credit as a monitor can know it (RFC 5024, 9.10 actions 12 and 13, 9.12 actions 7 and 8).

use crate::corpus::{message, vector};
use oftp2_codec::{
    Conformance, Deviation,
    monitor::{Monitor, Peer, Phase, Settings},
    reason::SessionEndReason,
    stb::HEADER_LENGTH,
};

/// A file is being sent; the window is five.
fn sending(conformance: Conformance) -> Monitor {
    let mut monitor = Monitor::new(Settings { conformance, ..Settings::default() });
    for (from, text) in [
        (Peer::Responder, "V01"),
        (Peer::Initiator, "V05"),
        (Peer::Responder, "V06 SSIDCRED=\"005\""),
        (Peer::Initiator, "V10"),
        (Peer::Responder, "V13"),
    ] {
        monitor.judge(from, &message(text)[HEADER_LENGTH..]).unwrap();
    }
    monitor
}

fn data(monitor: &mut Monitor, buffers: usize) -> Result<(), SessionEndReason> {
    for _ in 0..buffers {
        monitor.judge(Peer::Initiator, &vector("V39").octets).map_err(|violation| violation.reason)?;
    }
    Ok(())
}

fn credit(monitor: &mut Monitor) -> Result<bool, SessionEndReason> {
    let judgement = monitor.judge(Peer::Responder, b"C  ").map_err(|violation| violation.reason)?;
    Ok(judgement.deviations.contains(Deviation::EarlyCredit))
}

#[test]
fn credit_given_when_it_is_used_up_is_exact_at_both_conformances() {
    for conformance in [Conformance::Strict, Conformance::Standard] {
        let mut monitor = sending(conformance);
        for _ in 0..3 {
            data(&mut monitor, 5).unwrap();
            assert_eq!(monitor.phase(), Phase::OpoWfc);
            assert_eq!(credit(&mut monitor), Ok(false));
        }
        data(&mut monitor, 5).unwrap();
        assert_eq!(data(&mut monitor, 1), Err(SessionEndReason::ProtocolViolation));
    }
}

#[test]
fn credit_given_early_crosses_buffers_that_its_receiver_could_still_pay_for() {
    // The Listener gives credit after three buffers; the fourth has passed the monitor by then. The Speaker sends its
    // fifth, is out of credit, gets the CDT and has five again: six in all.
    let mut monitor = sending(Conformance::Standard);
    data(&mut monitor, 4).unwrap();
    assert_eq!(credit(&mut monitor), Ok(true));
    data(&mut monitor, 6).unwrap();
    assert_eq!(data(&mut monitor, 1), Err(SessionEndReason::ProtocolViolation));
}

#[test]
fn credit_given_early_is_a_violation_of_the_listener_when_strict() {
    let mut monitor = sending(Conformance::Strict);
    data(&mut monitor, 4).unwrap();
    let violation = monitor.judge(Peer::Responder, b"C  ").unwrap_err();
    assert_eq!((violation.section, violation.offender), ("9.10 P", Peer::Responder));
    assert_eq!(violation.reason, SessionEndReason::ProtocolViolation);
}

#[test]
fn credit_left_over_is_gone_with_its_file() {
    let mut monitor = sending(Conformance::Standard);
    assert_eq!(credit(&mut monitor), Ok(true));
    data(&mut monitor, 1).unwrap();
    for (from, text) in [
        (Peer::Initiator, "V50"),
        (Peer::Responder, "V21"),
        (Peer::Responder, "V24"),
        (Peer::Initiator, "V10"),
        (Peer::Responder, "V13"),
    ] {
        monitor.judge(from, &message(text)[HEADER_LENGTH..]).unwrap_or_else(|violation| panic!("{violation}"));
    }
    data(&mut monitor, 5).unwrap();
    assert_eq!(data(&mut monitor, 1), Err(SessionEndReason::ProtocolViolation));
}

#[test]
fn credit_that_an_early_end_of_file_did_not_wait_for_is_the_listeners_duty() {
    let mut monitor = sending(Conformance::Standard);
    data(&mut monitor, 5).unwrap();
    let end = monitor.judge(Peer::Initiator, &vector("V50").octets).unwrap();
    assert!(end.deviations.contains(Deviation::EndOfFileWithoutCredit));
    let due = monitor.judge(Peer::Responder, b"C  ").unwrap();
    assert!(due.deviations.is_empty(), "{:?}", due.deviations);
    // One was due; the next one is its own idea.
    let further = monitor.judge(Peer::Responder, b"C  ").unwrap();
    assert!(further.deviations.contains(Deviation::CreditAfterEndOfFile));
    assert_eq!(monitor.phase(), Phase::Clop);
    monitor.judge(Peer::Responder, b"4N").unwrap();
}
