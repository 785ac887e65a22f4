//! What holds for every input, one function each. Run by the fuzz targets on what the fuzzer finds, and by the ordinary
//! tests on the seeds and on seeds spoilt a little.

use oftp2_codec::{
    Conformance,
    command::{Command, Level},
    monitor::{Monitor, Notice, Pass, Peer, Settings},
    reason::SessionEndReason,
    stb::{Framer, HEADER_LENGTH, LARGEST_EXCHANGE_BUFFER},
    subrecord,
};

/// A stream gives the same buffers however it is cut; at most one of them is held, in at most twice the memory that has
/// come of it.
///
/// The first octet says how it is cut.
pub fn framing(input: &[u8]) {
    let Some((cut, stream)) = input.split_first() else { return };
    let whole = buffers(stream, stream.len().max(1));
    let pieces = buffers(stream, usize::from(*cut) + 1);
    assert_eq!(whole, pieces);
}

fn buffers(stream: &[u8], piece: usize) -> Vec<Vec<u8>> {
    let mut framer = Framer::new();
    let mut buffers = Vec::new();
    let mut received = 0;
    for mut octets in stream.chunks(piece) {
        received += octets.len();
        loop {
            match framer.push(&mut octets) {
                Ok(Some(buffer)) => buffers.push(buffer.to_vec()),
                Ok(None) => break,
                Err(error) => {
                    buffers.push(error.to_string().into_bytes());
                    return buffers;
                }
            }
        }
        assert!(octets.is_empty());
        assert!(framer.capacity() <= (2 * received).min(LARGEST_EXCHANGE_BUFFER));
    }
    buffers
}

/// What strict conformance reads, standard conformance reads as the same; what is read can be written and read again.
///
/// The first octet chooses the level.
pub fn command(input: &[u8]) {
    let Some((level, buffer)) = input.split_first() else { return };
    let level = Level::ALL[usize::from(*level) % Level::ALL.len()];
    let strict = Command::read(level, buffer, Conformance::Strict);
    let standard = Command::read(level, buffer, Conformance::Standard);
    match (&strict, &standard) {
        (Ok((strict, _)), Ok((standard, _))) => assert_eq!(strict, standard),
        (Ok(_), Err(error)) => panic!("only strict conformance reads it: {error}"),
        (Err(_), Ok((_, deviations))) => assert!(!deviations.is_empty()),
        (Err(error), Err(_)) => assert!(error.to_string().len() < 1000),
    }
    let Ok((command, _)) = standard else { return };
    // An ESID may have come in the form of level 5, with a text that lower levels have no room for.
    let level = if let Command::Esid(_) = command { Level::L5 } else { level };
    let mut written = Vec::new();
    command.write(level, &mut written).expect("what was read can be written");
    let (again, _) = Command::read(level, &written, Conformance::Standard).expect("what was written can be read");
    assert_eq!(command, again);
}

/// Stepping over subrecords and reading them one by one come to the same.
pub fn subrecords(input: &[u8]) {
    let (mut octets, mut file, mut records) = (0, Vec::new(), vec![0u64]);
    for subrecord in subrecord::subrecords(input) {
        octets += 1 + subrecord.octets.len();
        subrecord.expand_into(&mut file);
        if let Some(open) = records.last_mut() {
            *open += subrecord.count as u64;
        }
        if subrecord.ends_record {
            records.push(0);
        }
    }
    assert_eq!(file.len() as u64, records.iter().sum());
    match subrecord::walk(input) {
        Ok(walk) => {
            assert_eq!((walk.units, walk.ends, octets), (file.len() as u64, records.len() as u64 - 1, input.len()));
            assert_eq!(Some(&walk.before_first_end), records.first());
            assert_eq!(Some(&walk.after_last_end), records.last());
            if let [_, between @ .., _] = records.as_slice() {
                assert_eq!(walk.longest_between, between.iter().copied().max().unwrap_or(0));
                assert_eq!(walk.shortest_between, between.iter().copied().min().unwrap_or(u64::MAX));
            }
        }
        Err(torn) => {
            assert_eq!(torn.position, octets);
            assert!(torn.left < torn.announced);
        }
    }
}

/// Two peers at a time: the same notices come out however the stream is cut, nothing passes after the end, and what the
/// monitor sends itself is an ESID.
///
/// The first octet chooses the conformance; then follow pieces of the stream: two octets of length, of which the first
/// bit tells who sends, and as many octets.
pub fn monitor(input: &[u8]) {
    let Some((conformance, mut rest)) = input.split_first() else { return };
    let conformance = if conformance % 2 == 0 { Conformance::Standard } else { Conformance::Strict };
    let mut pieces = Vec::new();
    while let [high, low, behind @ ..] = rest {
        let from = if high & 0x80 == 0 { Peer::Initiator } else { Peer::Responder };
        let length = usize::from(u16::from_be_bytes([high & 0x7F, *low])).min(behind.len());
        let (piece, next) = behind.split_at(length);
        pieces.push((from, piece));
        rest = next;
    }
    let whole = Session::run(conformance, pieces.iter().copied());
    let single =
        Session::run(conformance, pieces.iter().flat_map(|(from, piece)| piece.chunks(1).map(|one| (*from, one))));
    assert_eq!(whole, single);
}

/// The stream that [`monitor`] reads.
pub fn pieces<'a>(conformance: Conformance, messages: impl Iterator<Item = (Peer, &'a [u8])>) -> Vec<u8> {
    let mut input = vec![u8::from(conformance == Conformance::Strict)];
    for (from, octets) in messages {
        for piece in octets.chunks(0x7FFF) {
            let [high, low] = (piece.len() as u16).to_be_bytes();
            input.push(if from == Peer::Responder { high | 0x80 } else { high });
            input.push(low);
            input.extend_from_slice(piece);
        }
    }
    input
}

struct Session {
    monitor: Monitor,
    framers: [Framer; 2],
    told: Vec<String>,
    ended: bool,
}

impl Session {
    fn run<'a>(conformance: Conformance, pieces: impl Iterator<Item = (Peer, &'a [u8])>) -> Vec<String> {
        let settings = Settings { conformance, ..Settings::default() };
        let mut session = Self {
            monitor: Monitor::new(settings),
            framers: [Framer::new(), Framer::new()],
            told: Vec::new(),
            ended: false,
        };
        for (from, piece) in pieces {
            if session.push(from, piece).is_none() {
                break;
            }
        }
        session.end();
        session.told
    }

    /// None when the stream cannot be followed any further.
    fn push(&mut self, from: Peer, mut octets: &[u8]) -> Option<()> {
        let framer = &mut self.framers[usize::from(from == Peer::Responder)];
        loop {
            let buffer = match framer.push(&mut octets) {
                Ok(Some(buffer)) => buffer,
                Ok(None) => return Some(()),
                Err(_) => return None,
            };
            let header = oftp2_codec::stb::StreamHeader::before(buffer.len()).expect("a legal length").octets();
            if let Err(violation) = self.monitor.stream_header(from, header) {
                self.told.push(violation.to_string());
                return None;
            }
            match self.monitor.judge(from, buffer) {
                Ok(judgement) => {
                    if self.ended {
                        assert_eq!((judgement.pass, &judgement.notice), (Pass::Drop, &Notice::Nothing));
                    } else {
                        assert_eq!(judgement.pass, Pass::Forward);
                    }
                    self.told.push(format!("{:?} {:?}", judgement.notice, judgement.deviations));
                }
                Err(violation) => {
                    assert!(!self.ended, "a violation after the end: {violation}");
                    assert_eq!(violation.offender, from);
                    assert!(violation.to_string().len() < 1000);
                    self.told.push(violation.to_string());
                }
            }
            self.ended = self.monitor.has_ended();
        }
    }

    fn end(&mut self) {
        for to in [Peer::Initiator, Peer::Responder] {
            if let Some(stream) = self.monitor.session_end(to, SessionEndReason::Unspecified, "the end") {
                let (command, _) = Command::read(Level::L5, &stream[HEADER_LENGTH..], Conformance::Standard)
                    .expect("an ESID of our own can be read");
                assert!(matches!(command, Command::Esid(_)));
                assert!(self.monitor.session_end(to, SessionEndReason::Unspecified, "").is_none());
            }
        }
    }
}
