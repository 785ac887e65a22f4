//! Reason codes against the tables of RFC 5024, 5.3.5, 5.3.10, 5.3.11 and 5.3.14.

use oftp2_codec::{
    command::Level,
    reason::{FileRefusalReason, NegativeEndReason, SessionEndReason},
};

/// Which levels have the code: 1 and 2, 4, 5.
fn levels(exists: impl Fn(Level) -> bool) -> [bool; 3] {
    assert_eq!(exists(Level::L1), exists(Level::L2));
    [exists(Level::L1), exists(Level::L4), exists(Level::L5)]
}

const ALL: [bool; 3] = [true, true, true];
const FROM_4: [bool; 3] = [false, true, true];
const ONLY_5: [bool; 3] = [false, false, true];
const NONE: [bool; 3] = [false, false, false];

#[test]
fn refusals_of_files_exist_where_the_tables_have_them() {
    for code in 0..=99 {
        let reason = FileRefusalReason::from_code(code).unwrap();
        let (start, end) = match code {
            1..=6 | 10..=13 | 99 => (ALL, ALL),
            14 => (FROM_4, FROM_4),
            15..=20 => (ONLY_5, ONLY_5),
            21..=23 => (NONE, ONLY_5),
            _ => (NONE, NONE),
        };
        assert_eq!(levels(|level| reason.exists_at_start(level)), start, "SFNA {code}");
        assert_eq!(levels(|level| reason.exists_at_end(level)), end, "EFNA {code}");
        assert_eq!(reason.code(), code);
    }
    assert_eq!(FileRefusalReason::LISTED.len(), 21);
    assert!(FileRefusalReason::from_code(100).is_none());
}

#[test]
fn ends_of_sessions_exist_where_the_table_has_them() {
    for code in 0..=99 {
        let reason = SessionEndReason::from_code(code).unwrap();
        let expected = match code {
            0..=10 | 99 => ALL,
            11 | 12 => ONLY_5,
            _ => NONE,
        };
        assert_eq!(levels(|level| reason.exists_at(level)), expected, "ESID {code}");
    }
    assert_eq!(SessionEndReason::LISTED.len(), 14);
    assert_eq!(SessionEndReason::ProtocolViolation.to_string(), "02 protocol violation");
}

#[test]
fn negative_responses_exist_where_the_table_has_them() {
    for code in 0..=99 {
        let reason = NegativeEndReason::from_code(code).unwrap();
        let expected = match code {
            3 | 4 | 9 | 11..=16 | 20..=24 | 35 | 36 | 50 | 90 | 99 => FROM_4,
            25..=34 => ONLY_5,
            _ => NONE,
        };
        assert_eq!(levels(|level| reason.exists_at(level)), expected, "NERP {code}");
    }
    assert_eq!(NegativeEndReason::LISTED.len(), 29);
}

#[test]
fn a_refused_file_is_told_to_its_originator() {
    for (refusal, response) in
        [(1, 11), (6, 16), (10, 20), (13, 23), (14, 24), (20, 30), (21, 31), (22, 33), (23, 32), (99, 99), (7, 99)]
    {
        let refusal = FileRefusalReason::from_code(refusal).unwrap();
        assert_eq!(NegativeEndReason::from_refusal(refusal).code(), response, "{refusal}");
    }
}
