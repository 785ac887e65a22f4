//! What the types refuse to hold, and commands to write.

use crate::corpus::vector;
use oftp2_codec::{
    Conformance,
    command::{Command, Inconsistent, Level, Protection, ReleaseLevel, Security},
    field::{
        BufferSize, Credit, Decimal, FileDate, FileTime, FreeText, IdentificationCode, LongBinary, Password, Text,
        escaped,
    },
    stb::{StreamHeader, StreamHeaderError},
};

#[test]
fn numbers_outside_their_range_are_refused() {
    assert!(BufferSize::new(127).is_err() && BufferSize::new(100_000).is_err());
    assert_eq!((BufferSize::new(128).unwrap().octets(), BufferSize::new(99_999).unwrap().octets()), (128, 99_999));
    assert!(Credit::new(0).is_err() && Credit::new(1000).is_err());
    assert_eq!((Credit::new(1).unwrap().buffers(), Credit::new(999).unwrap().buffers()), (1, 999));
    assert_eq!(
        (BufferSize::new(128).unwrap().to_string(), Credit::new(7).unwrap().to_string()),
        ("128".into(), "7".into())
    );
    assert_eq!(Decimal::<3>::new(42).unwrap().to_string(), "42");
    assert!(Decimal::<3>::new(1000).is_err());
    assert_eq!(Decimal::<17>::new(99_999_999_999_999_999).unwrap().get(), 99_999_999_999_999_999);
    assert!(Decimal::<17>::new(100_000_000_000_000_000).is_err());
}

#[test]
fn texts_outside_their_format_are_refused() {
    assert!(Text::<8>::new("NINE CHAR").is_err());
    assert!(Text::<8>::new("ü").is_err() && Text::<8>::new("\u{1b}").is_err());
    assert!(IdentificationCode::new(&"A".repeat(26)).is_err());
    assert!(FreeText::new(&"A".repeat(1000)).is_err() && FreeText::new(&"A".repeat(999)).is_ok());
    assert!(LongBinary::new(&[0; 65_536]).is_err() && LongBinary::new(&[0; 65_535]).is_ok());
}

#[test]
fn days_and_hours_that_do_not_exist_are_refused() {
    assert!(FileDate::new(2024, 2, 29).is_ok() && FileDate::new(2023, 2, 29).is_err());
    assert!(FileDate::new(1900, 2, 29).is_err() && FileDate::new(2000, 2, 29).is_ok());
    assert!(FileDate::new(2024, 4, 31).is_err() && FileDate::new(2024, 0, 1).is_err());
    assert!(FileDate::new(2024, 13, 1).is_err() && FileDate::new(2024, 1, 0).is_err());
    // The century is not known: a 29 February that one of them has.
    assert!(FileDate::from_digits(b"000229").is_ok() && FileDate::from_digits(b"230229").is_err());
    assert!(FileTime::new(23, 59, 59, 9999).is_ok());
    assert!(
        FileTime::new(24, 0, 0, 1).is_err()
            && FileTime::new(0, 60, 0, 1).is_err()
            && FileTime::new(0, 0, 60, 1).is_err()
    );
    assert_eq!(FileTime::new(1, 2, 3, 4).unwrap().to_string(), "0102030004");
    assert_eq!(FileTime::new(1, 2, 3, 4).unwrap().without_counter().to_string(), "010203");
    assert_eq!(FileDate::new(2024, 2, 29).unwrap().without_century().to_string(), "240229");
}

#[test]
fn a_protection_that_contradicts_itself_is_refused() {
    let new = Protection::new;
    assert_eq!(new(Security::Encrypted, 0, false, true, false), Err(Inconsistent::CipherSuite));
    assert_eq!(new(Security::None, 100, false, false, false), Err(Inconsistent::CipherSuite));
    assert_eq!(new(Security::Signed, 2, false, false, false), Err(Inconsistent::Envelope));
    assert_eq!(new(Security::None, 0, true, false, false), Err(Inconsistent::Envelope));
    // An envelope around nothing carries certificates (RFC 5024, 10.4).
    assert!(new(Security::None, 0, false, true, false).unwrap().enveloped());
    assert_eq!(new(Security::None, 0, false, false, false), Ok(Protection::NONE));
}

#[test]
fn there_is_no_level_three() {
    assert!(ReleaseLevel::from_digit(3).is_none() && ReleaseLevel::from_digit(0).is_none());
    assert_eq!(ReleaseLevel::from_digit(7).unwrap().level(), None);
    assert_eq!(ReleaseLevel::from_digit(4).unwrap().level(), Some(Level::L4));
}

#[test]
fn codes_are_the_same_whatever_blanks_surround_them() {
    let code = |text| IdentificationCode::new(text).unwrap();
    assert_eq!(code("OWN"), code("  OWN"));
    assert_ne!(code("O0013ABC           SUB001"), code("O0013ABC SUB001"));
    assert_eq!(code("OWN ").to_string(), "OWN");
    assert_eq!(Text::<8>::new(" TEXT").unwrap().to_string(), "TEXT");
}

#[test]
fn a_password_prints_as_stars() {
    let password = Password::new("SECRET01").unwrap();
    assert_eq!((format!("{password}"), format!("{password:?}")), ("***".to_owned(), "***".to_owned()));
    let (ssid, _) = Command::read(Level::L5, &vector("V03").octets, Conformance::Strict).unwrap();
    assert!(!format!("{ssid:?}").contains("SECRET"));
    let (response, _) = Command::read(Level::L5, &vector("V09").octets, Conformance::Strict).unwrap();
    assert_eq!(format!("{response:?}"), "Aurp(Aurp(20 octets))");
}

#[test]
fn what_a_level_cannot_say_is_not_written() {
    let (at_five, at_four) = (vector("V11"), vector("V42"));
    let (secured, _) = Command::read(Level::L5, &at_five.octets, Conformance::Strict).unwrap();
    let (plain, _) = Command::read(Level::L4, &at_four.octets, Conformance::Strict).unwrap();
    let mut out = b"before".to_vec();
    assert_eq!(secured.write(Level::L4, &mut out).unwrap_err().field, "SFIDSEC");
    // A date with its century has no place at level 2.
    assert_eq!(plain.write(Level::L2, &mut out).unwrap_err().field, "SFIDDATE");
    let (response, _) = Command::read(Level::L5, &vector("V33").octets, Conformance::Strict).unwrap();
    assert_eq!(response.write(Level::L4, &mut out).unwrap_err().field, "EERPSIG");
    let (challenge, _) = Command::read(Level::L5, &vector("V08").octets, Conformance::Strict).unwrap();
    assert_eq!(challenge.write(Level::L4, &mut out).unwrap_err().field, "command octet");
    assert_eq!(out, b"before");
    plain.write(Level::L5, &mut out).unwrap();
    assert_eq!(out.len(), 6 + 165);
}

#[test]
fn texts_for_people_are_left_out_below_level_five() {
    for (name, expected) in [("V29", &b"F99\r"[..]), ("V16", b"306Y"), ("V27", b"521")] {
        let (command, _) = Command::read(Level::L5, &vector(name).octets, Conformance::Strict).unwrap();
        let mut out = Vec::new();
        command.write(Level::L4, &mut out).unwrap();
        assert_eq!(out, expected, "{name}");
    }
}

#[test]
fn stream_headers_are_decided_on_their_four_octets() {
    assert_eq!(StreamHeader::read([0x10, 0, 0, 5]).unwrap().exchange_buffer_length(), 1);
    let largest = StreamHeader::read([0x10, 0x01, 0x86, 0xA3]).unwrap();
    assert_eq!((largest.exchange_buffer_length(), largest.stream_length()), (99_999, 100_003));
    assert_eq!(StreamHeader::read([0x10, 0x01, 0x86, 0xA4]), Err(StreamHeaderError::Length(100_004)));
    assert_eq!(StreamHeader::read([0x10, 0, 0, 4]), Err(StreamHeaderError::Length(4)));
    assert_eq!(StreamHeader::read([0x10, 0xFF, 0xFF, 0xFF]), Err(StreamHeaderError::Length(0xFF_FFFF)));
    for version in (0..=15).filter(|version| *version != 1) {
        assert_eq!(StreamHeader::read([version << 4, 0, 0, 5]), Err(StreamHeaderError::Version(version)));
    }
    for flags in 1..=15 {
        let header = StreamHeader::read([0x10 | flags, 0, 0, 5]).unwrap();
        assert!(header.flags_were_set());
        assert_eq!(header.octets(), [0x10, 0, 0, 5]);
    }
    assert!(StreamHeader::before(0).is_none() && StreamHeader::before(100_000).is_none());
    assert_eq!(StreamHeader::before(99_999).unwrap().octets(), [0x10, 0x01, 0x86, 0xA3]);
}

#[test]
fn what_came_from_a_peer_is_escaped_and_cut_short() {
    assert_eq!(escaped(b"A\"\x1b[2J\xff\n"), r#"A\"\x1b[2J\xff\n"#);
    assert_eq!(escaped(&[b'A'; 40]), format!("{}...", "A".repeat(32)));
    let text = FreeText::from_octets(b"gro\xc3\x9f \x1b[2J\xff \xe2\x80\xae").unwrap();
    assert_eq!(text.to_string(), r"groß \u{1b}[2J\xff \u{202e}");
}

#[test]
fn a_text_of_a_peer_is_quoted_cut_and_leaves_its_quotation_by_no_trick() {
    let quoted = |text: &[u8]| FreeText::from_octets(text).unwrap().quoted();
    assert_eq!(quoted(b""), "");
    assert_eq!(quoted("zurück".as_bytes()), ", \"zurück\"");
    assert_eq!(quoted(b"a\" b\nc\xFF"), ", \"a' b\\u{a}c\\xff\"");
    assert_eq!(quoted("ü".repeat(200).as_bytes()), format!(", \"{}\"", "ü".repeat(200)));
    assert_eq!(quoted("ü".repeat(201).as_bytes()), format!(", \"{}...\"", "ü".repeat(200)));
}
