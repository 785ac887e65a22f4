//! Format X (text of fixed length), format T (UTF-8 of variable length) and format U (octets of variable length).

use super::FieldError;
use std::fmt;

/// Format X(N): text of N octets, left-justified, filled up with spaces (RFC 5024, 5.3).
///
/// Holds printable ASCII. The RFC's own set is smaller; which characters pass is decided on reading.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Text<const N: usize>([u8; N]);

impl<const N: usize> Text<N> {
    /// Spaces only.
    pub const BLANK: Self = Self([b' '; N]);

    /// The text filled up with spaces.
    ///
    /// # Errors
    /// It is longer than N octets or not printable ASCII.
    pub fn new(text: &str) -> Result<Self, FieldError> {
        let mut octets = [b' '; N];
        octets
            .get_mut(..text.len())
            .ok_or(FieldError { expected: "a text no longer than its field expected" })?
            .copy_from_slice(text.as_bytes());
        Self::from_octets(octets)
    }

    /// The octets of a field as they came.
    ///
    /// # Errors
    /// They are not printable ASCII.
    pub fn from_octets(octets: [u8; N]) -> Result<Self, FieldError> {
        if octets.iter().all(|octet| matches!(octet, 0x20..=0x7E)) {
            Ok(Self(octets))
        } else {
            Err(FieldError { expected: "printable ASCII characters expected" })
        }
    }

    /// All N octets, fill-up included.
    pub fn octets(&self) -> &[u8; N] {
        &self.0
    }

    /// The text without the spaces around it.
    pub fn as_str(&self) -> &str {
        // Only printable ASCII is ever stored.
        std::str::from_utf8(&self.0).unwrap_or_default().trim_matches(' ')
    }

    /// Whether there are spaces only.
    pub fn is_blank(&self) -> bool {
        self.as_str().is_empty()
    }

    pub(super) fn has_leading_blanks(&self) -> bool {
        self.0.first() == Some(&b' ') && !self.is_blank()
    }

    pub(super) fn has_inner_blanks(&self) -> bool {
        self.as_str().contains(' ')
    }

    /// Whether every character is of the RFC's set: digits, capitals, `/ - . & ( )` and space (RFC 5024, 5.3).
    pub(super) fn is_within_set(&self) -> bool {
        self.0
            .iter()
            .all(|octet| matches!(octet, b' ' | b'&' | b'(' | b')' | b'-' | b'.' | b'/' | b'0'..=b'9' | b'A'..=b'Z'))
    }
}

impl<const N: usize> fmt::Display for Text<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl<const N: usize> fmt::Debug for Text<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.as_str())
    }
}

/// SSIDPSWD (RFC 5024, 5.3.2): prints as `***` in every build.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Password(Text<8>);

impl Password {
    /// No password.
    pub const BLANK: Self = Self(Text::BLANK);

    /// A password of at most 8 printable ASCII characters.
    ///
    /// # Errors
    /// It is longer, or holds other characters.
    pub fn new(password: &str) -> Result<Self, FieldError> {
        Text::new(password).map(Self)
    }

    pub(super) fn from_text(text: Text<8>) -> Self {
        Self(text)
    }

    pub(super) fn text(&self) -> &Text<8> {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Format T (RFC 5024, 5.3): a text of at most 999 octets behind its length, meant for a person.
///
/// UTF-8 by the RFC; what is not is kept as it came and shown escaped.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct FreeText(Vec<u8>);

impl FreeText {
    /// The largest number of octets that three digits of length can announce.
    pub const LARGEST: usize = 999;

    /// A text.
    ///
    /// # Errors
    /// It is longer than 999 octets.
    pub fn new(text: &str) -> Result<Self, FieldError> {
        Self::from_octets(text.as_bytes())
    }

    /// The beginning of a text: as many whole characters as fit.
    pub fn shortened(text: &str) -> Self {
        let end = text.char_indices().map(|(at, c)| at + c.len_utf8()).take_while(|end| *end <= Self::LARGEST).last();
        Self(text.as_bytes().get(..end.unwrap_or(0)).unwrap_or_default().to_vec())
    }

    /// The octets as they came.
    ///
    /// # Errors
    /// They are more than 999.
    pub fn from_octets(octets: &[u8]) -> Result<Self, FieldError> {
        if octets.len() > Self::LARGEST {
            return Err(FieldError { expected: "a text of at most 999 octets expected" });
        }
        Ok(Self(octets.to_vec()))
    }

    /// The octets.
    pub fn octets(&self) -> &[u8] {
        &self.0
    }

    /// Whether there is no text.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What is put behind the rest of a log line: `, "text"` with at most 200 characters of it, nothing for no text.
    pub fn quoted(&self) -> String {
        const SHOWN: usize = 200;
        if self.is_empty() {
            return String::new();
        }
        // A quotation mark in it ends no quotation.
        let text = readable(&self.0).replace('"', "'");
        let end = text.char_indices().nth(SHOWN).map(|(end, _)| end);
        match end.and_then(|end| text.get(..end)) {
            Some(beginning) => format!(", \"{beginning}...\""),
            None => format!(", \"{text}\""),
        }
    }

    /// Whether it is what the RFC wants.
    pub fn is_utf8(&self) -> bool {
        std::str::from_utf8(&self.0).is_ok()
    }
}

impl fmt::Display for FreeText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&readable(&self.0))
    }
}

impl fmt::Debug for FreeText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

/// Format U(n) behind a binary length of two octets: a challenge, a hash, a signature; at most 65,535 octets.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct LongBinary(Vec<u8>);

impl LongBinary {
    /// These octets.
    ///
    /// # Errors
    /// They are more than 65,535.
    pub fn new(octets: &[u8]) -> Result<Self, FieldError> {
        if octets.len() > usize::from(u16::MAX) {
            return Err(FieldError { expected: "at most 65535 octets expected" });
        }
        Ok(Self(octets.to_vec()))
    }

    /// The octets.
    pub fn octets(&self) -> &[u8] {
        &self.0
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for LongBinary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} octets", self.0.len())
    }
}

/// What came from a peer, for a log line: printable ASCII as it is, everything else as `\xNN`, at most 32 octets.
pub fn escaped(octets: &[u8]) -> String {
    const SHOWN: usize = 32;
    let mut text: String = octets.iter().take(SHOWN).flat_map(|octet| octet.escape_ascii()).map(char::from).collect();
    if octets.len() > SHOWN {
        text.push_str("...");
    }
    text
}

/// UTF-8 as it is but for control characters and what turns the reading direction; all else escaped.
fn readable(octets: &[u8]) -> String {
    let mut text = String::new();
    for chunk in octets.utf8_chunks() {
        for c in chunk.valid().chars() {
            let misleading =
                matches!(c, '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2066}'..='\u{2069}' | '\u{FEFF}');
            if c.is_control() || misleading {
                text.extend(c.escape_unicode());
            } else {
                text.push(c);
            }
        }
        text.extend(chunk.invalid().iter().flat_map(|octet| octet.escape_ascii()).map(char::from));
    }
    text
}
