//! Date and time of a Virtual File: part of its name, set by its originator (RFC 5024, 1.5.2).

use super::FieldError;
use std::fmt;

/// SFIDDATE and its like: CCYYMMDD at levels 4 and 5, YYMMDD below (RFC 5024, 5.3.3). Always a day of the calendar.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct FileDate {
    digits: [u8; 8],
    has_century: bool,
}

impl FileDate {
    /// A date with its century, as levels 4 and 5 want it.
    ///
    /// # Errors
    /// There is no such day, or the year has more than four digits.
    pub fn new(year: u16, month: u8, day: u8) -> Result<Self, FieldError> {
        Self::from_digits(format!("{year:04}{month:02}{day:02}").as_bytes())
    }

    /// The date from 8 digits (CCYYMMDD) or 6 (YYMMDD).
    ///
    /// # Errors
    /// Another number of octets, other octets than digits, or no such day.
    pub fn from_digits(octets: &[u8]) -> Result<Self, FieldError> {
        const EXPECTED: FieldError = FieldError { expected: "a day of the calendar expected" };
        let (digits, has_century): ([u8; 8], bool) = match octets {
            [c, e, y, z, m, n, d, f] => ([*c, *e, *y, *z, *m, *n, *d, *f], true),
            // The century is not known; 2000 has every 29 February that any century has.
            [y, z, m, n, d, f] => ([b'2', b'0', *y, *z, *m, *n, *d, *f], false),
            _ => return Err(EXPECTED),
        };
        let [c, e, y, z, m, n, d, f] = digits;
        let (Some(century), Some(year), Some(month), Some(day)) = (pair(c, e), pair(y, z), pair(m, n), pair(d, f))
        else {
            return Err(EXPECTED);
        };
        let leap = if year == 0 { century % 4 == 0 } else { year % 4 == 0 };
        let days = match month {
            1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
            4 | 6 | 9 | 11 => 30,
            2 => 28 + u8::from(leap),
            _ => 0,
        };
        if !(1..=days).contains(&day) {
            return Err(EXPECTED);
        }
        Ok(Self { digits, has_century })
    }

    /// The same date as levels 1 and 2 write it.
    #[must_use]
    pub fn without_century(self) -> Self {
        let [_, _, rest @ ..] = self.digits;
        let [y, z, m, n, d, f] = rest;
        Self { digits: [b'2', b'0', y, z, m, n, d, f], has_century: false }
    }

    /// The digits as they stand in the command: 8 with century, else 6.
    pub fn digits(&self) -> &[u8] {
        let [_, _, short @ ..] = &self.digits;
        if self.has_century { &self.digits } else { short }
    }
}

/// SFIDTIME and its like: HHMMSScccc at levels 4 and 5, cccc being a counter; HHMMSS below (RFC 5024, 5.3.3).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct FileTime {
    digits: [u8; 10],
    has_counter: bool,
}

impl FileTime {
    /// A time with its counter, as levels 4 and 5 want it.
    ///
    /// # Errors
    /// There is no such time of day, or the counter has more than four digits.
    pub fn new(hour: u8, minute: u8, second: u8, counter: u16) -> Result<Self, FieldError> {
        Self::from_digits(format!("{hour:02}{minute:02}{second:02}{counter:04}").as_bytes())
    }

    /// The time from 10 digits (HHMMSScccc) or 6 (HHMMSS).
    ///
    /// # Errors
    /// Another number of octets, other octets than digits, or no such time of day.
    pub fn from_digits(octets: &[u8]) -> Result<Self, FieldError> {
        const EXPECTED: FieldError = FieldError { expected: "a time of day expected" };
        let (digits, has_counter): ([u8; 10], bool) = match octets {
            [h, i, m, n, s, t] => ([*h, *i, *m, *n, *s, *t, b'0', b'0', b'0', b'0'], false),
            [h, i, m, n, s, t, a, b, c, d] => ([*h, *i, *m, *n, *s, *t, *a, *b, *c, *d], true),
            _ => return Err(EXPECTED),
        };
        let [h, i, m, n, s, t, counter @ ..] = digits;
        let valid = matches!(pair(h, i), Some(0..=23))
            && matches!(pair(m, n), Some(0..=59))
            && matches!(pair(s, t), Some(0..=59))
            && counter.iter().all(u8::is_ascii_digit);
        if valid { Ok(Self { digits, has_counter }) } else { Err(EXPECTED) }
    }

    /// The same time as levels 1 and 2 write it.
    #[must_use]
    pub fn without_counter(self) -> Self {
        let [h, i, m, n, s, t, ..] = self.digits;
        Self { digits: [h, i, m, n, s, t, b'0', b'0', b'0', b'0'], has_counter: false }
    }

    /// The digits as they stand in the command: 10 with the counter, else 6.
    pub fn digits(&self) -> &[u8] {
        let [short @ .., _, _, _, _] = &self.digits;
        if self.has_counter { &self.digits } else { short }
    }

    /// The counter is 0000, where the RFC counts from 0001.
    pub(super) fn has_counter_zero(&self) -> bool {
        self.has_counter && self.digits.ends_with(b"0000")
    }
}

fn pair(tens: u8, ones: u8) -> Option<u8> {
    (tens.is_ascii_digit() && ones.is_ascii_digit()).then(|| (tens - b'0') * 10 + (ones - b'0'))
}

macro_rules! shown_as_digits {
    ($($name:ident)*) => {
        $(
            impl fmt::Display for $name {
                fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.write_str(std::str::from_utf8(self.digits()).unwrap_or_default())
                }
            }

            impl fmt::Debug for $name {
                fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    write!(f, "{self}")
                }
            }
        )*
    };
}

shown_as_digits!(FileDate FileTime);
