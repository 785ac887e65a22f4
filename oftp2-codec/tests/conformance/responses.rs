//! Responses to files of the same session.

use crate::{corpus::message, rows::after};
use oftp2_codec::{
    Conformance, Deviation,
    monitor::{Monitor, Notice, Peer},
    stb::HEADER_LENGTH,
};

fn judge(monitor: &mut Monitor, from: Peer, text: &str) -> (Notice, Vec<Deviation>) {
    let judgement =
        monitor.judge(from, &message(text)[HEADER_LENGTH..]).unwrap_or_else(|violation| panic!("{violation}"));
    (judgement.notice, judgement.deviations.iter().collect())
}

/// Sends this many files that ask for a signed response, and gives the turn.
fn send_files(count: usize) -> Monitor {
    let mut monitor = after("idle", Conformance::Standard);
    for number in 0..count {
        judge(&mut monitor, Peer::Initiator, &format!("SFID V11 SFIDDSN=\"{:26}\"", format!("FILE-{number}")));
        judge(&mut monitor, Peer::Responder, "SFPA V13");
        judge(&mut monitor, Peer::Initiator, "DATA V17");
        judge(&mut monitor, Peer::Initiator, "EFID V22");
        judge(&mut monitor, Peer::Responder, "EFPA V24");
    }
    judge(&mut monitor, Peer::Initiator, "CD V31");
    monitor
}

/// An unsigned response of the Responder to the file of this number.
fn unsigned(monitor: &mut Monitor, number: usize) -> Vec<Deviation> {
    let (_, deviations) =
        judge(monitor, Peer::Responder, &format!("EERP V32 EERPDSN=\"{:26}\"", format!("FILE-{number}")));
    judge(monitor, Peer::Initiator, "RTR V36");
    deviations
}

#[test]
fn the_last_files_of_a_session_are_known_and_no_more() {
    // Thirty-two are kept, so that a session of a day stays as small as one of a minute.
    assert_eq!(unsigned(&mut send_files(33), 0), []);
    assert_eq!(unsigned(&mut send_files(33), 1), [Deviation::UnsignedResponse]);
    assert_eq!(unsigned(&mut send_files(32), 0), [Deviation::UnsignedResponse]);
}

#[test]
fn a_deviation_is_told_once() {
    let mut monitor = send_files(2);
    assert_eq!(unsigned(&mut monitor, 0), [Deviation::UnsignedResponse]);
    assert_eq!(unsigned(&mut monitor, 1), []);
}

#[test]
fn a_refused_file_is_not_answered() {
    let mut monitor = after("file ended", Conformance::Standard);
    judge(&mut monitor, Peer::Responder, "EFNA V26");
    judge(&mut monitor, Peer::Initiator, "CD V31");
    let signed = "EERP V32 EERPHSHL=0001 EERPSIGL=FF0001EE";
    assert_eq!(judge(&mut monitor, Peer::Responder, signed).1, []);
}

#[test]
fn the_file_answered_is_named_as_its_sfid_did() {
    let mut monitor = after("file taken", Conformance::Standard);
    judge(&mut monitor, Peer::Initiator, "CD V31");
    let as_in_sfid = "EERP V32 EERPDEST=\"O0013000000RECEIVER      \" EERPORIG=\"O00130000000PARTNRADMZ001\"";
    let (notice, deviations) = judge(&mut monitor, Peer::Responder, as_in_sfid);
    assert_eq!(deviations, [Deviation::ResponseNotSwapped]);
    let Notice::EndToEndResponse { file, .. } = notice else { panic!("{notice:?}") };
    assert_eq!(file.originator.as_str(), "O00130000000PARTNRADMZ001");
    assert_eq!(file.destination.as_str(), "O0013000000RECEIVER");
}
