//! What holds for everything the types can hold.

use crate::{
    dialogues::{Line, legal},
    fuzz::promises,
};
use oftp2_codec::{
    Conformance,
    command::{
        Auch, Aurp, Cd, Cdt, Command, Data, Eerp, Efid, Efna, Efpa, Esid, FileFormat, Level, Nerp, Protection,
        ReleaseLevel, Rtr, Secd, Security, Sfid, Sfna, Sfpa, Ssid, Ssrm, Transfers,
    },
    field::{
        BufferSize, Credit, Decimal, FileDate, FileTime, FreeText, IdentificationCode, LongBinary, Password, Text,
    },
    monitor::Notice,
    reason::{FileRefusalReason, NegativeEndReason, SessionEndReason},
    subrecord::{self, Packed, Packing},
};
use proptest::{collection::vec, prelude::*, sample::select};

fn level() -> impl Strategy<Value = Level> {
    select(&Level::ALL[..])
}

fn text<const N: usize>() -> impl Strategy<Value = Text<N>> {
    vec(0x20..=0x7Eu8, 0..=N).prop_map(|octets| Text::new(&String::from_utf8(octets).unwrap()).unwrap())
}

fn code() -> impl Strategy<Value = IdentificationCode> {
    "[ -~]{0,25}".prop_map(|code| IdentificationCode::new(&code).unwrap())
}

fn decimal<const N: u32>(digits: u32) -> impl Strategy<Value = Decimal<N>> {
    (0..10u64.pow(digits)).prop_map(|number| Decimal::new(number).unwrap())
}

fn free_text(level: Level) -> impl Strategy<Value = FreeText> {
    let largest = if level == Level::L5 { 999 } else { 0 };
    vec(any::<u8>(), 0..=largest).prop_map(|octets| FreeText::from_octets(&octets).unwrap())
}

fn binary(level: Level) -> impl Strategy<Value = LongBinary> {
    let largest = if level == Level::L5 { 300 } else { 0 };
    vec(any::<u8>(), 0..=largest).prop_map(|octets| LongBinary::new(&octets).unwrap())
}

fn date(level: Level) -> impl Strategy<Value = FileDate> {
    (0..=9999u16, 1..=12u8, 1..=28u8).prop_map(move |(year, month, day)| {
        let date = FileDate::new(year, month, day).unwrap();
        if level >= Level::L4 { date } else { date.without_century() }
    })
}

fn time(level: Level) -> impl Strategy<Value = FileTime> {
    (0..24u8, 0..60u8, 0..60u8, 0..=9999u16).prop_map(move |(hour, minute, second, counter)| {
        let time = FileTime::new(hour, minute, second, counter).unwrap();
        if level >= Level::L4 { time } else { time.without_counter() }
    })
}

fn protection(level: Level) -> BoxedStrategy<Protection> {
    if level < Level::L5 {
        return Just(Protection::NONE).boxed();
    }
    let security = select(vec![Security::None, Security::Encrypted, Security::Signed, Security::EncryptedAndSigned]);
    (security, 0..=99u8, any::<bool>(), any::<bool>(), any::<bool>())
        .prop_filter_map("contradicting", |(security, suite, compressed, enveloped, signed)| {
            Protection::new(security, suite, compressed, enveloped, signed).ok()
        })
        .boxed()
}

fn ssid() -> impl Strategy<Value = Command<'static>> {
    let levels: Vec<ReleaseLevel> = (0..=9).filter_map(ReleaseLevel::from_digit).collect();
    let transfers = select(vec![Transfers::Send, Transfers::Receive, Transfers::Both]);
    let flags = (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>());
    let limits = (128..=99_999u32, 1..=999u16);
    (select(levels), code(), "[ -~]{0,8}", limits, transfers, flags, text()).prop_map(
        |(level, code, password, (octets, buffers), transfers, flags, user)| {
            let (compression, restart, special_logic, authentication) = flags;
            Command::Ssid(Ssid {
                level,
                code,
                password: Password::new(&password).unwrap(),
                buffer_size: BufferSize::new(octets).unwrap(),
                transfers,
                compression,
                restart,
                special_logic,
                credit: Credit::new(buffers).unwrap(),
                authentication: authentication && level >= Level::L5.into(),
                user,
            })
        },
    )
}

fn sfid(level: Level) -> impl Strategy<Value = Command<'static>> {
    let formats = vec![FileFormat::Fixed, FileFormat::Variable, FileFormat::Unstructured, FileFormat::Text];
    let long = level == Level::L5;
    let sizes =
        (decimal(if long { 13 } else { 7 }), decimal(if long { 13 } else { 0 }), decimal(if long { 17 } else { 9 }));
    let name = (text(), date(level), time(level), text(), code(), code());
    // Up to the limit that the RFC sets for secured files of format V.
    let record_length = (0..=65_536u64).prop_map(|length| Decimal::new(length).unwrap());
    (name, select(formats), record_length, sizes, protection(level), free_text(level)).prop_map(
        |(name, format, record_length, (size, original_size, restart), protection, description)| {
            let (dataset, date, time, user, destination, originator) = name;
            Command::Sfid(Box::new(Sfid {
                dataset,
                date,
                time,
                user,
                destination,
                originator,
                format,
                record_length,
                size,
                original_size,
                restart,
                protection,
                description,
            }))
        },
    )
}

fn eerp(level: Level) -> impl Strategy<Value = Command<'static>> {
    (text(), date(level), time(level), text(), code(), code(), binary(level), binary(level)).prop_map(
        |(dataset, date, time, user, destination, originator, hash, signature)| {
            Command::Eerp(Box::new(Eerp { dataset, date, time, user, destination, originator, hash, signature }))
        },
    )
}

fn nerp(level: Level) -> impl Strategy<Value = Command<'static>> {
    let name = (text(), date(level), time(level), code(), code(), code());
    (name, 0..=99u8, free_text(level), binary(level), binary(level)).prop_map(
        |(name, reason, text, hash, signature)| {
            let (dataset, date, time, destination, originator, creator) = name;
            let reason = NegativeEndReason::from_code(reason).unwrap();
            Command::Nerp(Box::new(Nerp {
                dataset,
                date,
                time,
                destination,
                originator,
                creator,
                reason,
                text,
                hash,
                signature,
            }))
        },
    )
}

fn efid(level: Level) -> impl Strategy<Value = Command<'static>> {
    let (records, units) = if level == Level::L5 { (17, 17) } else { (9, 12) };
    (decimal(records), decimal(units)).prop_map(|(records, units)| Command::Efid(Efid { records, units }))
}

/// Any command that exists at this level, holding anything it can hold there.
fn command(level: Level) -> BoxedStrategy<Command<'static>> {
    let mut commands = vec![
        Just(Command::Ssrm(Ssrm)).boxed(),
        ssid().boxed(),
        sfid(level).boxed(),
        decimal(if level == Level::L5 { 17 } else { 9 })
            .prop_map(|answer_count| Command::Sfpa(Sfpa { answer_count }))
            .boxed(),
        (0..=99u8, any::<bool>(), free_text(level))
            .prop_map(|(reason, retry, text)| {
                Command::Sfna(Sfna { reason: FileRefusalReason::from_code(reason).unwrap(), retry, text })
            })
            .boxed(),
        Just(Command::Cdt(Cdt)).boxed(),
        efid(level).boxed(),
        any::<bool>().prop_map(|change_direction| Command::Efpa(Efpa { change_direction })).boxed(),
        (0..=99u8, free_text(level))
            .prop_map(|(reason, text)| {
                Command::Efna(Efna { reason: FileRefusalReason::from_code(reason).unwrap(), text })
            })
            .boxed(),
        (0..=99u8, free_text(level))
            .prop_map(|(reason, text)| {
                Command::Esid(Esid { reason: SessionEndReason::from_code(reason).unwrap(), text })
            })
            .boxed(),
        Just(Command::Cd(Cd)).boxed(),
        Just(Command::Rtr(Rtr)).boxed(),
        eerp(level).boxed(),
    ];
    if level >= Level::L4 {
        commands.push(nerp(level).boxed());
    }
    if level == Level::L5 {
        commands.push(Just(Command::Secd(Secd)).boxed());
        commands.push(binary(level).prop_map(|challenge| Command::Auch(Auch { challenge })).boxed());
        commands.push(any::<[u8; 20]>().prop_map(|response| Command::Aurp(Aurp { response })).boxed());
    }
    proptest::strategy::Union::new(commands).boxed()
}

fn levels_and_commands() -> impl Strategy<Value = (Level, Command<'static>)> {
    level().prop_flat_map(|level| (Just(level), command(level)))
}

/// Packs records as a Speaker does; gives out the data buffers.
fn pack(records: &[Vec<u8>], packing: Packing) -> Vec<Vec<u8>> {
    let (mut buffers, mut buffer) = (Vec::new(), vec![b'D']);
    for record in records {
        let mut rest = record.as_slice();
        while packing.pack(&mut buffer, &mut rest, true) == Packed::BufferFull {
            buffers.push(std::mem::replace(&mut buffer, vec![b'D']));
        }
    }
    buffers.push(buffer);
    buffers
}

proptest! {
    #[test]
    fn what_is_written_is_read_as_the_same((level, command) in levels_and_commands()) {
        let mut written = Vec::new();
        command.write(level, &mut written).unwrap();
        let (read, _) = Command::read(level, &written, Conformance::Standard).unwrap();
        prop_assert_eq!(&read, &command);
        let mut again = Vec::new();
        read.write(level, &mut again).unwrap();
        prop_assert_eq!(again, written);
    }

    #[test]
    fn data_is_written_as_it_is_read(records in vec(vec(any::<u8>(), 0..200), 0..5), level in level()) {
        for buffer in pack(&records, Packing { buffer_size: 99_999, compression: false }) {
            let data = Data::new(&buffer[1..]).unwrap();
            let mut written = Vec::new();
            Command::Data(data).write(level, &mut written).unwrap();
            prop_assert_eq!(&written, &buffer);
        }
    }

    #[test]
    fn no_octets_make_reading_panic(octets in vec(any::<u8>(), 0..300), level in level()) {
        let strict = Command::read(level, &octets, Conformance::Strict);
        let standard = Command::read(level, &octets, Conformance::Standard);
        prop_assert!(strict.is_err() || standard.is_ok());
    }

    #[test]
    fn notices_do_not_depend_on_how_the_stream_is_cut(which in 0..19usize, cuts in vec(1..40usize, 1..30)) {
        let dialogue = &legal()[which];
        let mut whole = Line::new(Conformance::Strict);
        let mut pieces = Line::new(Conformance::Strict);
        let mut cuts = cuts.iter().cycle();
        for (from, octets) in &dialogue.messages {
            whole.push(*from, octets);
            let mut rest = octets.as_slice();
            while !rest.is_empty() {
                let (piece, later) = rest.split_at(rest.len().min(*cuts.next().unwrap()));
                pieces.push(*from, piece);
                rest = later;
            }
        }
        prop_assert_eq!(whole.notices, pieces.notices);
    }

    #[test]
    fn packed_records_come_out_as_they_went_in(
        records in vec(prop_oneof![vec(any::<u8>(), 0..300), vec(0..2u8, 0..300)], 0..12),
        buffer_size in 128..400usize,
        compression: bool,
    ) {
        let (mut out, mut record) = (Vec::new(), Vec::new());
        for buffer in pack(&records, Packing { buffer_size, compression }) {
            prop_assert!(buffer.len() <= buffer_size);
            let walk = subrecord::walk(&buffer[1..]).unwrap();
            prop_assert!(compression || !walk.compressed);
            for subrecord in subrecord::subrecords(&buffer[1..]) {
                subrecord.expand_into(&mut record);
                if subrecord.ends_record {
                    out.push(std::mem::take(&mut record));
                }
            }
        }
        prop_assert!(record.is_empty());
        prop_assert_eq!(out, records);
    }

    #[test]
    fn long_records_are_walked_as_they_are_read(lengths in vec(0..3000usize, 1..6)) {
        let records: Vec<Vec<u8>> = lengths.iter().map(|length| vec![b'A'; *length]).collect();
        for buffer in pack(&records, Packing { buffer_size: 99_999, compression: false }) {
            promises::subrecords(&buffer[1..]);
        }
    }

    #[test]
    fn a_file_without_records_packs_as_tightly_as_can_be(length in 1..2000usize, buffer_size in 128..400usize) {
        let octets: Vec<u8> = (0..length).map(|n| n as u8).collect();
        let buffers = pack(std::slice::from_ref(&octets), Packing { buffer_size, compression: false });
        // Most octets in a buffer of N: whole subrecords of 64, and what is left but for its header.
        let room = buffer_size - 1;
        let most = room / 64 * 63 + (room % 64).saturating_sub(1);
        prop_assert_eq!(buffers.len(), length.div_ceil(most));
    }
}

#[test]
fn ends_of_record_among_full_subrecords_are_seen() {
    // Every second, every fourth of eight: no combination of them may look like none.
    for length in [63, 126, 252, 504] {
        let records = vec![vec![b'A'; length]; 40];
        for buffer in pack(&records, Packing { buffer_size: 99_999, compression: false }) {
            promises::subrecords(&buffer[1..]);
            assert_eq!(subrecord::walk(&buffer[1..]).unwrap().ends, 40);
        }
    }
}

#[test]
fn records_and_octets_are_counted_as_they_pass() {
    // Real octets through a real session: what the monitor counts is what the Speaker packed.
    for name in ["S05", "S11", "S15", "S16"] {
        let dialogue = legal().into_iter().find(|dialogue| dialogue.name.starts_with(name)).unwrap();
        let mut line = Line::new(Conformance::Strict);
        dialogue.messages.iter().for_each(|(from, octets)| line.push(*from, octets));
        let counted = line.notices.iter().find_map(|notice| match notice {
            Notice::FileEnded { counted, .. } => Some((counted.records, counted.units, counted.buffers)),
            _ => None,
        });
        let expected = match name {
            "S05" => (3, 5, 1),
            "S11" => (1, 80, 1),
            "S15" => (9, 359, 3),
            _ => (1, 807, 1),
        };
        assert_eq!(counted, Some(expected), "{name}");
    }
}
