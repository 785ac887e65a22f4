//! The rows of RFC 5024, 9.8 to 9.12 that move a session on.

use crate::corpus::{beginning, message, peer, text};
use oftp2_codec::{
    Conformance,
    monitor::{Monitor, Pass, Peer, Settings},
    stb::HEADER_LENGTH,
};

pub fn after(before: &str, conformance: Conformance) -> Monitor {
    let mut monitor = Monitor::new(Settings { conformance, ..Settings::default() });
    for (from, stream) in beginning(before) {
        monitor.judge(from, &stream[HEADER_LENGTH..]).unwrap_or_else(|violation| panic!("{before}: {violation}"));
    }
    monitor
}

#[test]
fn every_row_leads_where_the_table_says() {
    let mut rows = 0;
    for line in text("dialogues", "rows").lines().filter(|line| !line.is_empty()) {
        let [row, before, sent, phase, speaker] =
            line.split('|').map(str::trim).collect::<Vec<_>>().try_into().expect("five columns");
        let (side, sent) = sent.split_once(": ").expect("side and message");
        for conformance in [Conformance::Strict, Conformance::Standard] {
            let mut monitor = after(before, conformance);
            let judgement = monitor
                .judge(peer(side), &message(sent)[HEADER_LENGTH..])
                .unwrap_or_else(|violation| panic!("{row} {before}: {violation}"));
            assert_eq!(judgement.pass, Pass::Forward, "{row} {before}");
            assert_eq!(monitor.phase().to_string(), phase, "{row} {before}");
            assert_eq!(monitor.speaker(), peer(speaker), "{row} {before}");
        }
        rows += 1;
    }
    assert_eq!(rows, 40);
}

#[test]
fn a_turn_given_unasked_may_end_the_session_and_may_not_be_given_back() {
    for (before, may_give, may_end) in
        [("turn given", false, true), ("turn handed over", true, false), ("response taken", true, false)]
    {
        let give = after(before, Conformance::Strict).judge(Peer::Responder, b"R");
        assert_eq!(give.is_ok(), may_give, "{before}");
        let end = after(before, Conformance::Strict).judge(Peer::Responder, b"F00000\r").unwrap();
        assert_eq!(end.deviations.is_empty(), may_end, "{before}");
    }
}
