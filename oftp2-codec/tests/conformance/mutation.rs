//! Every octet of every field replaced by all 256 values, and the answer compared with the RFC's tables as
//! `tests/vectors/fields.txt` has them.
//!
//! The rules are written down here a second time, over the octets of a field and from its format alone.

use crate::corpus::{Message, VECTORS, octets, text};
use oftp2_codec::{
    Conformance,
    command::{Command, CommandName, Level},
    reason::SessionEndReason,
};
use std::collections::HashMap;

/// Whether a message may pass at each conformance.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Passes {
    strict: bool,
    standard: bool,
}

const NEVER: Passes = Passes { strict: false, standard: false };

fn both(passes: bool) -> Passes {
    Passes { strict: passes, standard: passes }
}

fn formats() -> HashMap<String, String> {
    text("vectors", "fields")
        .lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(field, format)| (field.to_owned(), format.trim().to_owned()))
        .collect()
}

/// By its format alone, whether a field may hold `value` where the vector had `original`.
fn by_format(format: &str, level: Level, value: &[u8], original: &[u8]) -> Passes {
    let (format, details) = format.split_once(' ').unwrap_or((format, ""));
    match format {
        "X" => plain_text(value, false),
        "code" => code(value),
        "9" => {
            let range: Vec<u64> = details.split(' ').filter_map(|limit| limit.parse().ok()).collect();
            number(value).map_or(NEVER, |number| match range.as_slice() {
                [least, most] if !(least..=most).contains(&&number) => NEVER,
                _ => Passes { strict: value.iter().all(u8::is_ascii_digit), standard: true },
            })
        }
        "oneof" => both(quoted(details).iter().any(|allowed| allowed == value)),
        "blank" => Passes { strict: value.iter().all(|octet| *octet == b' '), standard: true },
        "CR" => Passes { strict: matches!(value, [0x0D | 0x8D]), standard: matches!(value, [0x0A | 0x0D | 0x8D]) },
        "date" => both(date(value)),
        "time" => {
            let valid = time(value);
            Passes { strict: valid && !(value.len() == 10 && value.ends_with(b"0000")), standard: valid }
        }
        "codes" => {
            let digits = value.iter().all(u8::is_ascii_digit);
            Passes { strict: digits && listed(details, level, number(value).unwrap_or(100)), standard: digits }
        }
        "method" => Passes { strict: matches!(value, b"0" | b"1"), standard: value.iter().all(u8::is_ascii_digit) },
        "suite" => both(value.iter().all(u8::is_ascii_digit)),
        "length" => match (number(value), number(original)) {
            (Some(announced), Some(right)) if announced == right => {
                Passes { strict: value.iter().all(u8::is_ascii_digit), standard: true }
            }
            _ => NEVER,
        },
        "size" => both(value == original),
        "T" => Passes { strict: std::str::from_utf8(value).is_ok(), standard: true },
        "U" => both(true),
        _ => panic!("no format {format}"),
    }
}

fn quoted(list: &str) -> Vec<Vec<u8>> {
    list.split('"').skip(1).step_by(2).map(|value| value.as_bytes().to_vec()).collect()
}

fn printable(value: &[u8]) -> bool {
    value.iter().all(|octet| (0x20..0x7F).contains(octet))
}

/// Only characters of the set, no blank at the front, none inside unless allowed.
fn plain_text(value: &[u8], blanks_inside: bool) -> Passes {
    let in_set = value.iter().all(|octet| b" &()-./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ".contains(octet));
    let text = String::from_utf8_lossy(value).trim_end_matches(' ').to_owned();
    let blanks = if blanks_inside { text.starts_with(' ') } else { text.contains(' ') };
    Passes { strict: in_set && !blanks, standard: printable(value) }
}

fn code(value: &[u8]) -> Passes {
    let Passes { strict, standard } = plain_text(value, true);
    let formed = match value[0] {
        b' ' => false,
        b'O' => value[1..5].iter().all(u8::is_ascii_digit) && value[5] != b' ',
        _ => true,
    };
    Passes { strict: strict && formed, standard }
}

/// Blanks and then digits.
fn number(value: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(value).ok()?.trim_start_matches(' ');
    if text.is_empty() {
        return Some(0);
    }
    if text.bytes().all(|octet| octet.is_ascii_digit()) { text.parse().ok() } else { None }
}

fn digits(value: &[u8]) -> Option<u32> {
    if value.iter().all(u8::is_ascii_digit) { std::str::from_utf8(value).ok()?.parse().ok() } else { None }
}

fn date(value: &[u8]) -> bool {
    let (year, rest) = value.split_at(value.len() - 4);
    let (Some(year), Some(month), Some(day)) = (digits(year), digits(&rest[..2]), digits(&rest[2..])) else {
        return false;
    };
    // The first years of a century are only known with it.
    let leap = if value.len() == 6 { year % 4 == 0 } else { year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) };
    let days = [31, if leap { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    (1..=12).contains(&month) && (1..=days[month as usize - 1]).contains(&day)
}

fn time(value: &[u8]) -> bool {
    let parts: Vec<Option<u32>> = value.chunks(2).map(digits).collect();
    matches!(parts[..3], [Some(0..=23), Some(0..=59), Some(0..=59)]) && parts.iter().all(Option::is_some)
}

/// Whether the code is in one of the ranges that this level has.
fn listed(table: &str, level: Level, code: u64) -> bool {
    let columns = match level {
        Level::L1 | Level::L2 => 1,
        Level::L4 => 2,
        Level::L5 => 3,
    };
    table.split('/').take(columns).flat_map(str::split_whitespace).any(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        (first.parse().unwrap()..=last.parse().unwrap()).contains(&code)
    })
}

/// What fields of one command say about each other.
fn ties(message: &Message, octets: &[u8]) -> Passes {
    let at = |field: &str| &octets[message.field(field)];
    match (message.command, message.level) {
        (CommandName::Ssid, _) => match (at("SSIDLEV"), octets[47]) {
            ([b'1' | b'2' | b'4'], first) => {
                Passes { strict: octets[47..52].iter().all(|octet| *octet == b' '), standard: first != b'Y' }
            }
            (_, b' ') => Passes { strict: false, standard: true },
            (_, answer) => both(matches!(answer, b'Y' | b'N')),
        },
        (CommandName::Sfid, Level::L5) => {
            let secured = at("SFIDSEC") != b"00";
            let hidden = secured || at("SFIDCOMP") != b"0";
            let length = number(at("SFIDLRECL")).unwrap_or(0);
            let contradiction = (secured && at("SFIDCIPH") == b"00")
                || (hidden && at("SFIDENV") == b"0")
                || (hidden && at("SFIDFMT") == b"V" && length > 65_536);
            Passes { strict: !contradiction && record_length_fits(at("SFIDFMT"), length), standard: !contradiction }
        }
        (CommandName::Sfid, _) => {
            let length = number(at("SFIDLRECL")).unwrap_or(0);
            Passes { strict: record_length_fits(at("SFIDFMT"), length), standard: true }
        }
        _ => both(true),
    }
}

fn record_length_fits(format: &[u8], length: u64) -> bool {
    !matches!(format, b"U" | b"T") || length == 0
}

#[test]
fn every_octet_of_every_field_passes_as_the_tables_say() {
    let formats = formats();
    let (mut tried, mut refused) = (0, 0);
    for message in VECTORS.iter().filter(|message| message.command != CommandName::Data) {
        for field in message.fields.iter().skip(1) {
            let format = formats.get(&field.name).unwrap_or_else(|| panic!("no format for {}", field.name));
            let original = &message.octets[field.at.clone()];
            for position in field.at.clone() {
                for value in 0..=u8::MAX {
                    let mut mutated = message.octets.clone();
                    mutated[position] = value;
                    // Octet 47 of an SSID is SSIDAUTH or reserved by its level, which the ties look at.
                    let by_format = match field.name.as_str() {
                        "SSIDAUTH" => both(true),
                        "SSIDRSV1" if position == 47 => both(true),
                        // A text that takes in the carriage return is one whose carriage return is left out.
                        "ESIDREASL"
                            if number(&mutated[field.at.clone()]) == number(original).map(|right| right + 1) =>
                        {
                            Passes { strict: false, standard: true }
                        }
                        // One that takes in the zero lengths of hash and signature leaves them out.
                        "NERPREASL" if matches!(left_after_text(message, &mutated), Some(0 | 2)) => {
                            Passes { strict: false, standard: true }
                        }
                        _ => by_format(format, message.level, &mutated[field.at.clone()], original),
                    };
                    let ties = ties(message, &mutated);
                    for (conformance, passes) in [
                        (Conformance::Strict, by_format.strict && ties.strict),
                        (Conformance::Standard, by_format.standard && ties.standard),
                    ] {
                        let result = Command::read(message.level, &mutated, conformance);
                        let place = || {
                            format!(
                                "{} {} {position}={value:02X} {conformance:?}: {result:?}",
                                message.name, field.name
                            )
                        };
                        assert_eq!(result.is_ok(), passes, "{}", place());
                        tried += 1;
                        if let Err(error) = &result {
                            refused += 1;
                            let by_length = matches!(format.as_str(), "length" | "size");
                            let allowed = error.reason == SessionEndReason::InvalidData
                                || (by_length && error.reason == SessionEndReason::ExchangeBufferSize);
                            assert!(allowed, "{}", place());
                            assert!(
                                by_length || conformance == Conformance::Strict || names_field(error.field, field),
                                "{}",
                                place()
                            );
                        }
                    }
                }
            }
        }
    }
    assert!(tried > 1_000_000 && refused > 500_000, "{tried} tried, {refused} refused");
}

/// Octets behind NERPREAST, if it is as long as the changed NERPREASL announces.
fn left_after_text(message: &Message, mutated: &[u8]) -> Option<usize> {
    let length = message.field("NERPREASL");
    let announced = number(&mutated[length.clone()])?;
    mutated.len().checked_sub(length.end + announced as usize)
}

/// A refusal names the field that was changed, or one that no longer goes together with it.
fn names_field(named: &str, changed: &crate::corpus::Field) -> bool {
    named == changed.name
        || matches!(
            (changed.name.as_str(), named),
            ("SFIDSEC", "SFIDCIPH" | "SFIDENV")
                | ("SFIDCOMP", "SFIDENV")
                | ("SFIDFMT" | "SFIDSEC" | "SFIDCOMP", "SFIDLRECL")
                | ("SSIDLEV", "SSIDRSV1" | "SSIDAUTH")
        )
}

#[test]
fn an_unknown_first_octet_is_refused_at_every_level() {
    let known: Vec<u8> = octets("\"IXHJAS23DCT45FREPN\"");
    assert_eq!(known.len(), 18);
    for level in Level::ALL {
        for first in 0..=u8::MAX {
            let exists = match first {
                b'N' => level >= Level::L4,
                b'J' | b'A' | b'S' => level == Level::L5,
                _ => known.contains(&first),
            };
            match Command::read(level, &[first], Conformance::Standard) {
                Ok((command, _)) => assert!(exists, "{level}: {command:?}"),
                Err(error) => {
                    let unknown = error.reason == SessionEndReason::CommandNotRecognised;
                    assert_eq!(unknown, !exists, "{first:02X} at {level}: {error}");
                }
            }
        }
    }
}
