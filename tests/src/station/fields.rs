//! The field formats of RFC 5024, 5.3 (`X`, `9`, `U`, `T`), written and read. Only this file indexes octets.

use super::failure::Malformed;

/// A command that is being written, field after field.
pub(super) struct Writer<'a>(pub &'a mut Vec<u8>);

impl Writer<'_> {
    /// `X(width)`: left-justified, spaces at the right. What is longer is cut, as the field has no more room.
    pub fn text(&mut self, value: &str, width: usize) {
        let octets = value.as_bytes();
        let shown = octets.get(..width).unwrap_or(octets);
        self.0.extend_from_slice(shown);
        self.0.resize(self.0.len() + width - shown.len(), b' ');
    }

    /// `9(width)`: right-justified, zeros at the left. A value that needs more digits is all nines.
    pub fn digits(&mut self, value: u64, width: usize) {
        let written = format!("{value:0width$}");
        if written.len() > width {
            self.0.resize(self.0.len() + width, b'9');
        } else {
            self.0.extend_from_slice(written.as_bytes());
        }
    }

    /// `Y` or `N`.
    pub fn yes(&mut self, value: bool) {
        self.0.push(if value { b'Y' } else { b'N' });
    }

    /// `9(3)` octets of UTF-8, then those octets: a text of level 5.
    pub fn long_text(&mut self, value: &str) {
        let end = value.char_indices().map(|(at, c)| at + c.len_utf8()).take_while(|end| *end <= 999).last();
        let shown = value.get(..end.unwrap_or(0)).unwrap_or("");
        self.digits(shown.len() as u64, 3);
        self.0.extend_from_slice(shown.as_bytes());
    }

    /// `U(2)` octets of a binary value, then those octets.
    pub fn binary(&mut self, value: &[u8]) {
        let length = u16::try_from(value.len()).unwrap_or(u16::MAX);
        self.0.extend_from_slice(&length.to_be_bytes());
        self.0.extend_from_slice(value.get(..usize::from(length)).unwrap_or(value));
    }
}

/// A command that is being read, field after field. Its refusals name command, field and position.
pub(super) struct Reader<'a> {
    command: &'static str,
    octets: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// Begins behind the command octet.
    pub fn new(command: &'static str, octets: &'a [u8]) -> Self {
        Self { command, octets, at: 1 }
    }

    /// The next `width` octets as they are (`U`).
    pub fn octets(&mut self, field: &'static str, width: usize) -> Result<&'a [u8], Malformed> {
        let found = self.octets.get(self.at..self.at + width).ok_or_else(|| {
            let length = self.octets.len();
            Malformed::size(format!("{} has {length} octets and ends within {field} at {}", self.command, self.at))
        })?;
        self.at += width;
        Ok(found)
    }

    /// `X(width)`, without the padding on either side (partners that pad at the left exist).
    pub fn text(&mut self, field: &'static str, width: usize) -> Result<String, Malformed> {
        let at = self.at;
        let found = self.octets(field, width)?;
        if found.iter().any(|octet| !(0x20..0x7f).contains(octet)) {
            return Err(self.invalid(field, at, found, "printable characters"));
        }
        Ok(String::from_utf8_lossy(found).trim_matches(' ').to_owned())
    }

    /// `9(width)`; blanks at the left count as zeros.
    pub fn digits(&mut self, field: &'static str, width: usize) -> Result<u64, Malformed> {
        let at = self.at;
        let found = self.octets(field, width)?;
        let shown = String::from_utf8_lossy(found).into_owned();
        match shown.trim_start_matches(' ') {
            "" => Ok(0),
            number if number.bytes().all(|octet| octet.is_ascii_digit()) => {
                number.parse().map_err(|_| self.invalid(field, at, found, "digits"))
            }
            _ => Err(self.invalid(field, at, found, "digits")),
        }
    }

    /// `Y` or `N`.
    pub fn yes(&mut self, field: &'static str) -> Result<bool, Malformed> {
        let at = self.at;
        match self.octets(field, 1)? {
            b"Y" => Ok(true),
            b"N" => Ok(false),
            found => Err(self.invalid(field, at, found, "Y or N")),
        }
    }

    /// One octet out of a closed set.
    pub fn one_of(&mut self, field: &'static str, allowed: &str) -> Result<char, Malformed> {
        let at = self.at;
        let found = self.octets(field, 1)?;
        match found {
            [octet] if allowed.as_bytes().contains(octet) => Ok(char::from(*octet)),
            _ => Err(self.invalid(field, at, found, allowed)),
        }
    }

    /// A text of level 5 behind its three digits of length; absent when the command ends here (old partners).
    pub fn long_text(&mut self, field: &'static str) -> Result<String, Malformed> {
        if self.is_at_end() {
            return Ok(String::new());
        }
        let length = usize::try_from(self.digits(field, 3)?).unwrap_or(usize::MAX);
        Ok(String::from_utf8_lossy(self.octets(field, length)?).into_owned())
    }

    /// A binary value of level 5 behind its two octets of length; absent when the command ends here (old partners).
    pub fn binary(&mut self, field: &'static str) -> Result<Vec<u8>, Malformed> {
        if self.is_at_end() {
            return Ok(Vec::new());
        }
        let length = self.octets(field, 2)?.iter().fold(0, |length, octet| length << 8 | usize::from(*octet));
        Ok(self.octets(field, length)?.to_vec())
    }

    /// A carriage return, `0D` or `8D`; missing at the end with some partners, a line feed with others.
    pub fn carriage_return(&mut self, field: &'static str) -> Result<(), Malformed> {
        if self.is_at_end() {
            return Ok(());
        }
        let at = self.at;
        match self.octets(field, 1)? {
            [0x0d | 0x8d | 0x0a] => Ok(()),
            found => Err(self.invalid(field, at, found, "a carriage return")),
        }
    }

    /// That nothing follows the last field.
    pub fn end(&self) -> Result<(), Malformed> {
        if self.is_at_end() {
            return Ok(());
        }
        let more = self.octets.len().saturating_sub(self.at);
        Err(Malformed::size(format!("{more} octets follow the {} octets of {}", self.at, self.command)))
    }

    fn is_at_end(&self) -> bool {
        self.at >= self.octets.len()
    }

    fn invalid(&self, field: &str, at: usize, found: &[u8], allowed: &str) -> Malformed {
        let command = self.command;
        Malformed::data(format!(
            "{field} is \"{}\" at octet {at} of {command}, {allowed} expected",
            found.escape_ascii()
        ))
    }
}
