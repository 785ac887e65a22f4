//! Every valid message, whole, cut and split.

use crate::corpus::{self, Message, VECTORS, framed};
use oftp2_codec::{
    Conformance, Deviation,
    command::{Command, CommandName},
    reason::SessionEndReason,
    stb::Framer,
};

fn read(message: &Message) -> Command<'_> {
    let (command, deviations) = Command::read(message.level, &message.octets, Conformance::Strict)
        .unwrap_or_else(|error| panic!("{}: {error}", message.name));
    assert!(deviations.is_empty(), "{}: {deviations:?}", message.name);
    assert_eq!(command.name(), message.command, "{}", message.name);
    command
}

#[test]
fn all_eighteen_commands_have_vectors() {
    assert_eq!(VECTORS.len(), 70);
    for command in CommandName::ALL {
        assert!(VECTORS.iter().any(|message| message.command == *command), "{command}");
    }
}

#[test]
fn every_vector_is_read_word_by_word_and_written_again_octet_for_octet() {
    for message in VECTORS.iter() {
        let mut written = Vec::new();
        read(message).write(message.level, &mut written).unwrap();
        // The one thing that is not kept is the eighth bit of a carriage return.
        let expected: Vec<u8> = match message.octets.split_last() {
            Some((0x8D, rest)) => [rest, b"\r"].concat(),
            _ => message.octets.clone(),
        };
        assert_eq!(written, expected, "{}", message.name);
    }
}

/// What is left when a message is cut short and still passes: the tolerances for octets that are left out at the end.
fn may_be_cut_to(message: &Message, length: usize) -> Option<Deviation> {
    let whole = message.octets.len();
    let is_signed = ["EERPSIG", "NERPSIG"]
        .iter()
        .any(|name| message.fields.iter().any(|field| field.name == *name && !field.at.is_empty()));
    let starts = |field: &str| message.fields.iter().any(|f| f.name == field && f.at.start == length);
    match message.command {
        // A session that ends at level 5 may do so in the form of the lower levels, here without its carriage return.
        CommandName::Esid if whole > 4 && length == 3 => Some(Deviation::SessionEndOfOtherLevel),
        CommandName::Ssrm | CommandName::Ssid | CommandName::Esid if length == whole - 1 => {
            Some(Deviation::CarriageReturnMissing)
        }
        CommandName::Cdt if length == 1 => Some(Deviation::CreditCutShort),
        CommandName::Sfid if starts("SFIDDESCL") => Some(Deviation::LengthLeftOut),
        CommandName::Sfna if starts("SFNAREASL") => Some(Deviation::LengthLeftOut),
        CommandName::Efna if starts("EFNAREASL") => Some(Deviation::LengthLeftOut),
        CommandName::Eerp if starts("EERPHSHL") || (starts("EERPSIGL") && !is_signed) => Some(Deviation::LengthLeftOut),
        CommandName::Nerp if starts("NERPREASL") || starts("NERPHSHL") || (starts("NERPSIGL") && !is_signed) => {
            Some(Deviation::LengthLeftOut)
        }
        _ => None,
    }
}

#[test]
fn a_message_cut_short_is_refused_by_its_length_or_is_a_deviation_of_the_list() {
    for message in VECTORS.iter().filter(|message| message.command != CommandName::Data) {
        for length in 1..message.octets.len() {
            let cut = &message.octets[..length];
            let strict = Command::read(message.level, cut, Conformance::Strict);
            let error = strict.expect_err(&format!("{} cut to {length}", message.name));
            let standard = Command::read(message.level, cut, Conformance::Standard);
            match may_be_cut_to(message, length) {
                Some(deviation) => {
                    let (_, deviations) = standard.unwrap_or_else(|e| panic!("{} cut to {length}: {e}", message.name));
                    assert!(deviations.contains(deviation), "{} cut to {length}: {deviations:?}", message.name);
                }
                None => {
                    let error = standard.expect_err(&format!("{} cut to {length}", message.name));
                    // Four octets are the other form of an ESID, whose last one must then be a carriage return.
                    let expected = match message.command {
                        CommandName::Esid if length == 4 => SessionEndReason::InvalidData,
                        _ => SessionEndReason::ExchangeBufferSize,
                    };
                    assert_eq!(error.reason, expected, "{} cut to {length}", message.name);
                }
            }
            assert_eq!(error.reason, SessionEndReason::ExchangeBufferSize, "{} cut to {length}", message.name);
        }
    }
}

#[test]
fn a_data_buffer_cut_within_a_subrecord_is_refused_and_between_two_is_not() {
    for message in VECTORS.iter().filter(|message| message.command == CommandName::Data) {
        for length in 1..message.octets.len() {
            let between = message.fields.iter().any(|f| f.name != "octets" && f.at.start == length);
            let result = Command::read(message.level, &message.octets[..length], Conformance::Standard);
            match result {
                Ok(_) => assert!(between, "{} cut to {length}", message.name),
                Err(error) => {
                    assert!(!between, "{} cut to {length}", message.name);
                    assert_eq!(error.reason, SessionEndReason::ExchangeBufferSize);
                }
            }
        }
    }
}

#[test]
fn a_message_with_one_octet_more_is_refused_by_its_length() {
    for message in VECTORS.iter().filter(|message| message.command != CommandName::Data) {
        let longer = [message.octets.as_slice(), b"\r"].concat();
        let error = Command::read(message.level, &longer, Conformance::Standard)
            .expect_err(&format!("{} and an octet", message.name));
        assert_eq!(error.reason, SessionEndReason::ExchangeBufferSize, "{}", message.name);
    }
}

#[test]
fn a_stream_split_at_any_octet_gives_the_same_buffer() {
    for message in VECTORS.iter() {
        let stream = framed(&message.octets);
        for split in 0..=stream.len() {
            let (mut first, mut second) = stream.split_at(split);
            let mut framer = Framer::new();
            let whole_at_once = framer.push(&mut first).unwrap().map(<[u8]>::to_vec);
            assert_eq!(whole_at_once.is_some(), split == stream.len(), "{} split at {split}", message.name);
            let whole = whole_at_once.or_else(|| framer.push(&mut second).unwrap().map(<[u8]>::to_vec));
            assert_eq!(whole.as_deref(), Some(message.octets.as_slice()), "{} split at {split}", message.name);
            assert!(framer.capacity() <= message.octets.len(), "{} split at {split}", message.name);
        }
    }
}

#[test]
fn a_stream_cut_short_holds_no_more_than_came() {
    for message in VECTORS.iter() {
        let stream = framed(&message.octets);
        for length in 0..stream.len() {
            let mut framer = Framer::new();
            assert!(framer.push(&mut &stream[..length]).unwrap().is_none());
            assert_eq!(framer.octets_held(), length, "{}", message.name);
        }
    }
}

#[test]
fn an_announcement_reserves_nothing() {
    let mut framer = Framer::new();
    assert!(framer.push(&mut &[0x10, 0x01, 0x86, 0xA3, b'D'][..]).unwrap().is_none());
    assert_eq!(framer.capacity(), 1);
}

#[test]
fn the_file_of_rfc_2204_comes_out_of_its_three_buffers() {
    let mut file = Vec::new();
    let mut ends = Vec::new();
    for name in ["V70", "V71", "V72"] {
        let Command::Data(data) = read(corpus::vector(name)) else { panic!("{name} is no data") };
        for subrecord in oftp2_codec::subrecord::subrecords(data.subrecords()) {
            subrecord.expand_into(&mut file);
            if subrecord.ends_record {
                ends.push(file.len());
            }
        }
    }
    assert_eq!((file.len(), ends.len()), (359, 9));
    assert!(file.starts_with(b"\"It's a Snark!\" was the sound that first came to their ears,"));
    // The empty record is where two records end at one place.
    assert_eq!(ends.windows(2).filter(|pair| pair[0] == pair[1]).count(), 1);
}
