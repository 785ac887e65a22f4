//! Whole sessions that break no rule, octets cut as a network might.

use crate::corpus::{message, peer, text};
use oftp2_codec::{
    Conformance, Deviations,
    monitor::{Monitor, Notice, Pass, Peer, Settings},
    stb::Framer,
};

/// One session of `legal.txt`.
pub struct Dialogue {
    pub name: String,
    pub messages: Vec<(Peer, Vec<u8>)>,
    pub ends_normally: bool,
}

pub fn legal() -> Vec<Dialogue> {
    let text = text("dialogues", "legal");
    let mut dialogues: Vec<Dialogue> = Vec::new();
    for line in text.lines().filter(|line| !line.is_empty()) {
        if let Some(name) = line.strip_prefix("== ") {
            dialogues.push(Dialogue { name: name.to_owned(), messages: Vec::new(), ends_normally: false });
            continue;
        }
        let dialogue = dialogues.last_mut().expect("a dialogue has a name");
        match line {
            "ends normally" => dialogue.ends_normally = true,
            "aborts" => {}
            _ => {
                let (side, what) = line.split_once(": ").expect("side and message");
                dialogue.messages.push((peer(side), message(what)));
            }
        }
    }
    dialogues
}

/// A connection with a monitor behind it, as the relay has one.
pub struct Line {
    monitor: Monitor,
    initiator: Framer,
    responder: Framer,
    pub notices: Vec<Notice>,
    pub deviations: Deviations,
}

impl Line {
    pub fn new(conformance: Conformance) -> Self {
        Self {
            monitor: Monitor::new(Settings { conformance, ..Settings::default() }),
            initiator: Framer::new(),
            responder: Framer::new(),
            notices: Vec::new(),
            deviations: Deviations::NONE,
        }
    }

    pub fn push(&mut self, from: Peer, mut octets: &[u8]) {
        let framer = match from {
            Peer::Initiator => &mut self.initiator,
            Peer::Responder => &mut self.responder,
        };
        while let Some(exchange_buffer) = framer.push(&mut octets).unwrap() {
            let header = oftp2_codec::stb::StreamHeader::before(exchange_buffer.len()).unwrap();
            self.monitor.stream_header(from, header.octets()).unwrap();
            let judgement = self.monitor.judge(from, exchange_buffer).unwrap_or_else(|violation| panic!("{violation}"));
            assert_eq!(judgement.pass, Pass::Forward);
            self.notices.push(judgement.notice);
            self.deviations = self.deviations.union(judgement.deviations);
        }
    }
}

#[test]
fn there_are_all_nineteen() {
    assert_eq!(legal().len(), 19);
}

#[test]
fn legal_sessions_pass_at_both_conformances_without_a_deviation() {
    for conformance in [Conformance::Standard, Conformance::Strict] {
        for dialogue in legal() {
            let mut line = Line::new(conformance);
            for (from, octets) in &dialogue.messages {
                assert!(!line.monitor.has_ended(), "{}", dialogue.name);
                line.push(*from, octets);
            }
            assert_eq!(line.notices.len(), dialogue.messages.len(), "{}", dialogue.name);
            assert!(line.deviations.is_empty(), "{}: {:?}", dialogue.name, line.deviations);
            assert!(line.monitor.has_ended(), "{}", dialogue.name);
            let Some(Notice::SessionEnded { normal, .. }) = line.notices.last() else { panic!("{}", dialogue.name) };
            assert_eq!(*normal, dialogue.ends_normally, "{}", dialogue.name);
        }
    }
}

#[test]
fn notices_are_the_same_however_the_stream_is_cut() {
    for dialogue in legal() {
        let mut whole = Line::new(Conformance::Standard);
        for (from, octets) in &dialogue.messages {
            whole.push(*from, octets);
        }
        let mut single = Line::new(Conformance::Standard);
        for (from, octets) in &dialogue.messages {
            octets.iter().for_each(|octet| single.push(*from, std::slice::from_ref(octet)));
        }
        // As much in one write as one side sends before the other answers.
        let mut joined = Line::new(Conformance::Standard);
        for run in dialogue.messages.chunk_by(|one, next| one.0 == next.0) {
            let octets: Vec<u8> = run.iter().flat_map(|(_, octets)| octets.clone()).collect();
            joined.push(run[0].0, &octets);
        }
        assert_eq!(whole.notices, single.notices, "{}", dialogue.name);
        assert_eq!(whole.notices, joined.notices, "{}", dialogue.name);
    }
}

#[test]
fn the_notices_of_a_session_tell_its_record() {
    let dialogue = legal().into_iter().find(|dialogue| dialogue.name.starts_with("S01")).unwrap();
    let mut line = Line::new(Conformance::Standard);
    dialogue.messages.iter().for_each(|(from, octets)| line.push(*from, octets));
    let agreement = line.monitor.agreement().unwrap();
    assert_eq!(agreement.initiator.as_str(), "O00130000000PARTNRADMZ001");
    assert_eq!(agreement.responder.as_str(), "O0013000000RECEIVER");
    assert_eq!((agreement.buffer_size.octets(), agreement.credit.buffers()), (2048, 10));
    assert!(agreement.compression && agreement.restart && agreement.authentication);
    let Some(Notice::FileOffered(offer)) = line.notices.get(9) else { panic!("{:?}", line.notices.get(9)) };
    assert_eq!(offer.file.dataset.as_str(), "INVOIC-2024");
    assert_eq!((offer.from, offer.size.get()), (Peer::Initiator, 1));
    let Some(Notice::FileEnded { records: 0, units: 11, counted }) = line.notices.get(12) else {
        panic!("{:?}", line.notices.get(12))
    };
    assert_eq!((counted.units, counted.buffers), (11, 1));
    let Some(Notice::EndToEndResponse { from: Peer::Responder, file, signed: false }) = line.notices.get(15) else {
        panic!("{:?}", line.notices.get(15))
    };
    assert_eq!(**file, offer.file);
}
