//! Two stations that keep to the RFC's word, deciding at random: whatever they do is legal, at strict conformance too, and
//! what the monitor tells of it is what they did.

use oftp2_codec::{
    Conformance,
    command::{
        Auch, Aurp, Cd, Cdt, Command, Data, Eerp, Efid, Efna, Efpa, Esid, FileFormat, Level, Nerp, Protection,
        ReleaseLevel, Rtr, Secd, Security, Sfid, Sfna, Sfpa, Ssid, Ssrm, Transfers,
    },
    field::{
        BufferSize, Credit, Decimal, FileDate, FileTime, FreeText, IdentificationCode, LongBinary, Password, Text,
    },
    monitor::{Monitor, Notice, Pass, Peer, Settings},
    reason::{FileRefusalReason, NegativeEndReason, SessionEndReason},
    stb::StreamHeader,
    subrecord::{Packed, Packing},
};
use proptest::{collection::vec, prelude::*};

/// Decisions, one octet each; when they run out, always the first choice.
struct Choices<'a>(std::slice::Iter<'a, u8>);

impl Choices<'_> {
    fn below(&mut self, limit: usize) -> usize {
        usize::from(self.0.next().copied().unwrap_or(0)) % limit
    }

    fn yes(&mut self) -> bool {
        self.below(2) == 1
    }

    fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }
}

/// Both stations and what is between them.
struct Session<'a> {
    choices: Choices<'a>,
    monitor: Monitor,
    level: Level,
    buffer_size: usize,
    window: u16,
    compression: bool,
    restart: bool,
    speaker: Peer,
    files: usize,
}

fn code(peer: Peer) -> IdentificationCode {
    IdentificationCode::new(match peer {
        Peer::Initiator => "O00130000000PARTNRADMZ001",
        Peer::Responder => "O0013000000RECEIVER",
    })
    .unwrap()
}

impl<'a> Session<'a> {
    fn start(choices: &'a [u8]) -> Self {
        let mut choices = Choices(choices.iter());
        let offered = choices.one(&[Level::L5, Level::L4, Level::L2, Level::L1]);
        let answered = choices.one(&[Level::L5, Level::L4, Level::L2, Level::L1]);
        let level = offered.min(answered);
        let authentication = level == Level::L5 && choices.yes();
        let buffer_sizes = (choices.one(&[128, 200, 4096, 99_999]), choices.one(&[128, 1000, 99_999]));
        let window: u16 = choices.one(&[1, 2, 7, 999]);
        let (compression, restart) = (choices.yes(), choices.yes());
        let ssid = |peer, level: Level, octets: u32, credit, authentication| {
            Command::Ssid(Ssid {
                level: ReleaseLevel::from(level),
                code: code(peer),
                password: Password::new("SECRET").unwrap(),
                buffer_size: BufferSize::new(octets).unwrap(),
                transfers: Transfers::Both,
                compression,
                restart,
                special_logic: false,
                credit: Credit::new(credit).unwrap(),
                authentication,
                user: Text::BLANK,
            })
        };
        let mut session = Self {
            choices,
            monitor: Monitor::new(Settings { conformance: Conformance::Strict, ..Settings::default() }),
            level,
            buffer_size: buffer_sizes.0.min(buffer_sizes.1) as usize,
            window,
            compression,
            restart,
            speaker: Peer::Initiator,
            files: 0,
        };
        session.send(Peer::Responder, &Command::Ssrm(Ssrm));
        let offer = ssid(Peer::Initiator, offered, buffer_sizes.0, 999, authentication);
        session.send_at(offered, Peer::Initiator, &offer);
        let answer = ssid(Peer::Responder, answered, buffer_sizes.1, window, authentication);
        let notice = session.send_at(answered, Peer::Responder, &answer);
        let Notice::SessionAgreed(agreement) = notice else { panic!("{notice:?}") };
        assert_eq!((agreement.level, agreement.credit.buffers()), (level, window));
        assert_eq!(agreement.buffer_size.octets() as usize, session.buffer_size);
        if authentication {
            session.authenticate();
        }
        session
    }

    fn authenticate(&mut self) {
        let challenge = || Command::Auch(Auch { challenge: LongBinary::new(&[0x30; 300]).unwrap() });
        for challenged in [Peer::Initiator, Peer::Responder] {
            self.send(challenged, &Command::Secd(Secd));
            self.send(challenged.other(), &challenge());
            self.send(challenged, &Command::Aurp(Aurp { response: [7; 20] }));
        }
    }

    fn send(&mut self, from: Peer, command: &Command<'_>) -> Notice {
        self.send_at(self.level, from, command)
    }

    fn send_at(&mut self, level: Level, from: Peer, command: &Command<'_>) -> Notice {
        let mut buffer = Vec::new();
        command.write(level, &mut buffer).unwrap();
        let header = StreamHeader::before(buffer.len()).unwrap().octets();
        self.monitor.stream_header(from, header).unwrap_or_else(|violation| panic!("{violation}"));
        let judgement = self.monitor.judge(from, &buffer).unwrap_or_else(|violation| panic!("{violation}"));
        assert_eq!(judgement.pass, Pass::Forward);
        assert!(judgement.deviations.is_empty(), "{command:?}: {:?}", judgement.deviations);
        judgement.notice
    }

    /// Files, responses and turns until the choices say to end.
    fn run(mut self) {
        // Whether the turn has just been given without being asked for.
        let mut given = false;
        for _ in 0..20 {
            match self.choices.below(5) {
                0 if given => break,
                0 | 1 if !given => given = self.give_turn(),
                2 => {
                    self.respond();
                    given = false;
                }
                _ => {
                    self.file();
                    given = false;
                }
            }
        }
        if !given {
            self.give_turn();
        }
        let end = Command::Esid(Esid { reason: SessionEndReason::NormalEnd, text: FreeText::default() });
        let notice = self.send(self.speaker, &end);
        assert!(matches!(notice, Notice::SessionEnded { normal: true, .. }), "{notice:?}");
        assert!(self.monitor.has_ended());
    }

    fn give_turn(&mut self) -> bool {
        self.send(self.speaker, &Command::Cd(Cd));
        self.speaker = self.speaker.other();
        true
    }

    fn stamp(&self) -> (FileDate, FileTime) {
        let date = FileDate::new(2026, 11, 20).unwrap();
        let time = FileTime::new(12, 30, 59, self.files as u16 + 1).unwrap();
        if self.level >= Level::L4 { (date, time) } else { (date.without_century(), time.without_counter()) }
    }

    fn respond(&mut self) {
        let (date, time) = self.stamp();
        // Not a file of this session, so that nothing is known of it.
        let dataset = Text::new("FROM-ANOTHER-SESSION").unwrap();
        let (destination, originator) = (code(self.speaker.other()), code(self.speaker));
        let sealed = self.level == Level::L5 && self.choices.yes();
        let binary = |octets: &[u8]| LongBinary::new(if sealed { octets } else { &[] }).unwrap();
        let (hash, signature) = (binary(&[1; 32]), binary(&[2; 500]));
        let command = if self.level >= Level::L4 && self.choices.yes() {
            Command::Nerp(Box::new(Nerp {
                dataset,
                date,
                time,
                destination,
                originator,
                creator: originator,
                reason: NegativeEndReason::NotDelivered,
                text: FreeText::default(),
                hash,
                signature,
            }))
        } else {
            let user = Text::BLANK;
            Command::Eerp(Box::new(Eerp { dataset, date, time, user, destination, originator, hash, signature }))
        };
        match self.send(self.speaker, &command) {
            Notice::EndToEndResponse { signed, file, .. } | Notice::NegativeEndResponse { signed, file, .. } => {
                assert_eq!((signed, file.originator, file.destination), (sealed, destination, originator));
            }
            notice => panic!("{notice:?}"),
        }
        self.send(self.speaker.other(), &Command::Rtr(Rtr));
    }

    fn file(&mut self) {
        let (speaker, listener) = (self.speaker, self.speaker.other());
        self.files += 1;
        let format =
            self.choices.one(&[FileFormat::Unstructured, FileFormat::Fixed, FileFormat::Variable, FileFormat::Text]);
        let hidden = self.level == Level::L5 && self.choices.yes();
        let records = self.records(format, hidden);
        let one_record = hidden || matches!(format, FileFormat::Unstructured | FileFormat::Text);
        let had = if self.restart { self.choices.below(3) as u64 } else { 0 };
        let (date, time) = self.stamp();
        let protection =
            if hidden { Protection::new(Security::Encrypted, 4, true, true, false).unwrap() } else { Protection::NONE };
        let record_length = match format {
            FileFormat::Fixed => 70,
            FileFormat::Variable => 150,
            _ => 0,
        };
        let sfid = Command::Sfid(Box::new(Sfid {
            dataset: Text::new(&format!("FILE-{}", self.files)).unwrap(),
            date,
            time,
            user: Text::BLANK,
            destination: code(listener),
            originator: code(speaker),
            format,
            record_length: Decimal::new(record_length).unwrap(),
            size: Decimal::new(1).unwrap(),
            original_size: Decimal::ZERO,
            restart: Decimal::new(had).unwrap(),
            protection,
            description: FreeText::default(),
        }));
        let notice = self.send(speaker, &sfid);
        assert!(matches!(&notice, Notice::FileOffered(offer) if offer.from == speaker), "{notice:?}");
        if self.choices.below(6) == 5 {
            let refusal = Sfna { reason: FileRefusalReason::DuplicateFile, retry: false, text: FreeText::default() };
            self.send(listener, &Command::Sfna(refusal));
            return;
        }
        let restart = had.min(self.choices.below(3) as u64);
        self.send(listener, &Command::Sfpa(Sfpa { answer_count: Decimal::new(restart).unwrap() }));
        let sent: u64 = records.iter().map(|record| record.len() as u64).sum();
        self.data(&records);
        let (records_in_all, before) = match format {
            _ if one_record => (0, restart * 1024),
            FileFormat::Fixed => (restart + records.len() as u64, restart * record_length),
            // As much as nobody between can know.
            _ => (restart + records.len() as u64, restart * 100),
        };
        let efid = Efid { records: Decimal::new(records_in_all).unwrap(), units: Decimal::new(before + sent).unwrap() };
        match self.send(speaker, &Command::Efid(efid)) {
            Notice::FileEnded { records, units, counted } => {
                assert_eq!((records, units, counted.units), (records_in_all, before + sent, sent));
            }
            notice => panic!("{notice:?}"),
        }
        self.answer_end(listener);
    }

    fn answer_end(&mut self, listener: Peer) {
        match self.choices.below(4) {
            0 | 1 => drop(self.send(listener, &Command::Efpa(Efpa { change_direction: false }))),
            2 => {
                self.send(listener, &Command::Efpa(Efpa { change_direction: true }));
                self.send(self.speaker, &Command::Cd(Cd));
                self.speaker = listener;
            }
            _ => {
                let refusal = Efna { reason: FileRefusalReason::InvalidByteCount, text: FreeText::default() };
                self.send(listener, &Command::Efna(refusal));
            }
        }
    }

    fn records(&mut self, format: FileFormat, hidden: bool) -> Vec<Vec<u8>> {
        let octets = |length: usize| -> Vec<u8> { (0..length).map(|n| (n / 5) as u8).collect() };
        match format {
            FileFormat::Fixed if !hidden => vec![octets(70); self.choices.below(20)],
            FileFormat::Variable if !hidden => {
                (0..self.choices.below(20)).map(|_| octets(self.choices.below(151))).collect()
            }
            _ => vec![octets(self.choices.below(256) * self.choices.below(20))],
        }
    }

    /// Sends records as data buffers; the Listener gives credit when it is used up, and not before.
    fn data(&mut self, records: &[Vec<u8>]) {
        let packing = Packing { buffer_size: self.buffer_size, compression: self.compression };
        let (mut buffers, mut buffer) = (Vec::new(), vec![b'D']);
        for record in records {
            let mut rest = record.as_slice();
            while packing.pack(&mut buffer, &mut rest, true) == Packed::BufferFull {
                buffers.push(std::mem::replace(&mut buffer, vec![b'D']));
            }
        }
        if buffer.len() > 1 {
            buffers.push(buffer);
        }
        let mut credit = self.window;
        for buffer in buffers {
            self.send(self.speaker, &Command::Data(Data::new(&buffer[1..]).unwrap()));
            credit -= 1;
            if credit == 0 {
                self.send(self.speaker.other(), &Command::Cdt(Cdt));
                credit = self.window;
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn whatever_two_right_stations_do_is_legal(choices in vec(any::<u8>(), 0..400)) {
        Session::start(&choices).run();
    }
}
