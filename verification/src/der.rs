//! Reads DER (X.690): definite lengths in their shortest form, tags of one octet. Nothing else in this crate takes a
//! certificate or CRL apart by offsets. Never allocates, never panics.

use std::time::Duration;

use rustls_pki_types::UnixTime;

pub(crate) const BOOLEAN: u8 = 0x01;
pub(crate) const INTEGER: u8 = 0x02;
pub(crate) const BIT_STRING: u8 = 0x03;
pub(crate) const OCTET_STRING: u8 = 0x04;
pub(crate) const OBJECT_IDENTIFIER: u8 = 0x06;
pub(crate) const ENUMERATED: u8 = 0x0a;
pub(crate) const UTC_TIME: u8 = 0x17;
pub(crate) const GENERALIZED_TIME: u8 = 0x18;
pub(crate) const SEQUENCE: u8 = 0x30;
pub(crate) const SET: u8 = 0x31;
/// `[n]` of a primitive value.
pub(crate) const fn context(n: u8) -> u8 {
    0x80 | n
}
/// `[n]` of a constructed value.
pub(crate) const fn constructed(n: u8) -> u8 {
    0xa0 | n
}

/// What is wrong with the octets: the part that could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed(pub(crate) &'static str);

/// One value with its tag.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Element<'a> {
    pub(crate) tag: u8,
    pub(crate) content: &'a [u8],
    /// Tag, length and content.
    pub(crate) whole: &'a [u8],
}

/// Takes values one after the other.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) const fn new(octets: &'a [u8]) -> Self {
        Self { rest: octets }
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(crate) fn next_is(&self, tag: u8) -> bool {
        self.rest.first() == Some(&tag)
    }

    /// The next value, whatever it is.
    pub(crate) fn any(&mut self, what: &'static str) -> Result<Element<'a>, Malformed> {
        let malformed = Malformed(what);
        let (&[tag, first], after) = self.rest.split_first_chunk::<2>().ok_or(malformed)?;
        if tag & 0x1f == 0x1f {
            return Err(malformed);
        }
        let (length, after) = if first < 0x80 {
            (usize::from(first), after)
        } else {
            let count = usize::from(first & 0x7f);
            // X.690, 10.1: no indefinite form. Four octets of length are 4 GiB.
            if count == 0 || count > 4 {
                return Err(malformed);
            }
            let (digits, after) = after.split_at_checked(count).ok_or(malformed)?;
            let length = digits.iter().fold(0_usize, |length, digit| length << 8 | usize::from(*digit));
            if digits.first() == Some(&0) || length < 0x80 {
                return Err(malformed);
            }
            (length, after)
        };
        let (content, rest) = after.split_at_checked(length).ok_or(malformed)?;
        let (whole, _) = self.rest.split_at_checked(self.rest.len() - rest.len()).ok_or(malformed)?;
        self.rest = rest;
        Ok(Element { tag, content, whole })
    }

    /// The next value, which must have this tag.
    pub(crate) fn element(&mut self, tag: u8, what: &'static str) -> Result<Element<'a>, Malformed> {
        if !self.next_is(tag) {
            return Err(Malformed(what));
        }
        self.any(what)
    }

    /// The content of the next value, which must have this tag.
    pub(crate) fn expect(&mut self, tag: u8, what: &'static str) -> Result<&'a [u8], Malformed> {
        Ok(self.element(tag, what)?.content)
    }

    /// The content of the next value if it has this tag.
    pub(crate) fn optional(&mut self, tag: u8, what: &'static str) -> Result<Option<&'a [u8]>, Malformed> {
        if self.next_is(tag) { self.expect(tag, what).map(Some) } else { Ok(None) }
    }

    pub(crate) fn end(&self, what: &'static str) -> Result<(), Malformed> {
        if self.is_empty() { Ok(()) } else { Err(Malformed(what)) }
    }

    /// The octets of the next BIT STRING, which must be whole octets.
    pub(crate) fn bits(&mut self, what: &'static str) -> Result<&'a [u8], Malformed> {
        match self.expect(BIT_STRING, what)?.split_first() {
            Some((0, octets)) => Ok(octets),
            _ => Err(Malformed(what)),
        }
    }

    /// A BOOLEAN; DER knows 00 and ff only.
    pub(crate) fn boolean(&mut self, what: &'static str) -> Result<bool, Malformed> {
        match self.expect(BOOLEAN, what)? {
            [0x00] => Ok(false),
            [0xff] => Ok(true),
            _ => Err(Malformed(what)),
        }
    }

    /// UTCTime or GeneralizedTime in the form of RFC 5280, 4.1.2.5: seconds given, `Z`. Before 1970 is 1970.
    pub(crate) fn time(&mut self, what: &'static str) -> Result<UnixTime, Malformed> {
        let element = self.any(what)?;
        let seconds = match element.tag {
            UTC_TIME => read_time(element.content, 2),
            GENERALIZED_TIME => read_time(element.content, 4),
            _ => None,
        };
        let seconds = u64::try_from(seconds.ok_or(Malformed(what))?).unwrap_or(0);
        Ok(UnixTime::since_unix_epoch(Duration::from_secs(seconds)))
    }
}

/// The one value that the octets hold, and nothing after it.
pub(crate) fn only<'a>(octets: &'a [u8], tag: u8, what: &'static str) -> Result<&'a [u8], Malformed> {
    let mut reader = Reader::new(octets);
    let content = reader.expect(tag, what)?;
    reader.end(what)?;
    Ok(content)
}

/// An INTEGER's content as the magnitude it has: leading zeros away, so that two encodings of a number are one.
pub(crate) fn magnitude(content: &[u8]) -> &[u8] {
    let zeros = content.iter().take_while(|octet| **octet == 0).count();
    content.get(zeros..).unwrap_or_default()
}

/// An OBJECT IDENTIFIER's content in dotted form. Wrong or very long ones are shown as they can be.
pub(crate) fn dotted(oid: &[u8]) -> String {
    let mut numbers = Vec::new();
    let mut number = 0_u64;
    for octet in oid.iter().take(64) {
        number = number.wrapping_shl(7) | u64::from(octet & 0x7f);
        if octet & 0x80 == 0 {
            if numbers.is_empty() {
                let first = (number / 40).min(2);
                numbers.push(first.to_string());
                number -= first * 40;
            }
            numbers.push(number.to_string());
            number = 0;
        }
    }
    numbers.join(".")
}

fn read_time(text: &[u8], year_digits: usize) -> Option<i64> {
    let (digits, [b'Z']) = text.split_at_checked(year_digits + 10)? else { return None };
    let number = |from: usize, count: usize| -> Option<i64> {
        digits
            .get(from..from + count)?
            .iter()
            .try_fold(0_i64, |number, digit| digit.is_ascii_digit().then(|| number * 10 + i64::from(digit - b'0')))
    };
    let year = match (number(0, year_digits)?, year_digits) {
        (year, 4) => year,
        (year, _) if year < 50 => 2000 + year,
        (year, _) => 1900 + year,
    };
    let at = |place: usize| number(year_digits + 2 * place, 2);
    let (month, day, hour, minute, second) = (at(0)?, at(1)?, at(2)?, at(3)?, at(4)?);
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days_in_month = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        _ => return None,
    };
    if !(1..=days_in_month).contains(&day) || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    Some(crate::time::days_from_civil(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_have_their_shortest_form() {
        let content = |octets: &[u8]| Reader::new(octets).any("it").map(|element| element.content.len());
        let with = |header: &[u8], length: usize| [header, vec![0; length].as_slice()].concat();
        for (octets, length) in [
            (with(&[4, 0], 0), Some(0)),
            (with(&[4, 0x7f], 127), Some(127)),
            (with(&[4, 0x81, 0x80], 128), Some(128)),
            (with(&[4, 0x82, 1, 0], 256), Some(256)),
            (with(&[4, 0x83, 1, 0, 0], 65_536), Some(65_536)),
            (with(&[4, 0x81, 0x7f], 127), None),
            (with(&[4, 0x82, 0, 0x80], 128), None),
            (with(&[4, 0x80, 0, 0], 0), None),
            (with(&[4, 0x85, 0, 0, 0, 0, 1], 1), None),
            (with(&[4, 0x84, 0xff, 0xff, 0xff, 0xff], 9), None),
            (with(&[4, 2], 1), None),
            (with(&[0x1f, 0x81, 1], 1), None),
            (vec![4], None),
            (vec![], None),
        ] {
            assert_eq!(content(&octets).ok(), length, "{:02x?}", &octets[..octets.len().min(6)]);
        }
    }

    #[test]
    fn times_are_those_of_rfc_5280() {
        let read = |tag: u8, text: &str| {
            let octets = [&[tag, u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
            Reader::new(&octets).time("it").map(|time| time.as_secs()).ok()
        };
        for (tag, text, seconds) in [
            (UTC_TIME, "700101000000Z", Some(0)),
            (UTC_TIME, "491231235959Z", Some(2_524_607_999)),
            (UTC_TIME, "500101000000Z", Some(0)), // 1950
            (UTC_TIME, "000229120000Z", Some(951_825_600)),
            (UTC_TIME, "010229120000Z", None),
            (UTC_TIME, "200431000000Z", None),
            (UTC_TIME, "201301000000Z", None),
            (UTC_TIME, "200100000000Z", None),
            (UTC_TIME, "200101240000Z", None),
            (UTC_TIME, "200101006000Z", None),
            (UTC_TIME, "200101000060Z", None),
            (UTC_TIME, "2001010000Z", None),
            (UTC_TIME, "200101000000", None),
            (UTC_TIME, "200101000000+0100", None),
            (UTC_TIME, "2001010000-1Z", None),
            (GENERALIZED_TIME, "20500101000000Z", Some(2_524_608_000)),
            (GENERALIZED_TIME, "99991231235959Z", Some(253_402_300_799)),
            (GENERALIZED_TIME, "19491231235959Z", Some(0)),
            (GENERALIZED_TIME, "20200101000000.5Z", None),
            (GENERALIZED_TIME, "200101000000Z", None),
            (INTEGER, "200101000000Z", None),
        ] {
            assert_eq!(read(tag, text), seconds, "{text}");
        }
    }

    #[test]
    fn identifiers_are_written_with_dots() {
        for (octets, text) in [
            (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d][..], "1.2.840.113549"),
            (&[0x55, 0x1d, 0x25, 0x00], "2.5.29.37.0"),
            (&[0x88, 0x37], "2.999"),
            (&[0x00], "0.0"),
            (&[0x27], "0.39"),
            (&[0x28], "1.0"),
            (&[], ""),
        ] {
            assert_eq!(dotted(octets), text);
        }
    }
}
