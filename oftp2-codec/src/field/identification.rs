//! Identification codes (RFC 5024, 5.4).

use super::{FieldError, Text};
use std::{
    fmt,
    hash::{Hash, Hasher},
    str::FromStr,
};

/// SSIDCODE, SFIDDEST, SFIDORIG and their like: 25 octets, built by ISO 6523 (RFC 5024, 5.4).
///
/// ```text
/// 0   SIOOID  F X(1)   O, or anything else for a code of one's own
/// 1   SIOICD  V 9(4)   international code designator
/// 5   SIOORG  V X(14)  organisation
/// 19  SIOCSA  V X(6)   computer sub-address
/// ```
///
/// Two codes are equal when their 25 octets are, the spaces at either end left aside.
#[derive(Clone, Copy)]
pub struct IdentificationCode(Text<25>);

impl IdentificationCode {
    /// A code of at most 25 printable ASCII characters, filled up with spaces.
    ///
    /// # Errors
    /// It is longer, or holds other characters.
    pub fn new(code: &str) -> Result<Self, FieldError> {
        Text::new(code).map(Self)
    }

    pub(super) fn from_text(text: Text<25>) -> Self {
        Self(text)
    }

    /// The text of all 25 octets.
    pub fn text(&self) -> &Text<25> {
        &self.0
    }

    /// The code without the spaces around it.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// Whether a code that claims to be Odette's has the inner form of one. A code of another kind may be anything but
    /// blank.
    pub(super) fn is_well_formed(&self) -> bool {
        let [agency, a, b, c, d, organisation, ..] = self.0.octets();
        match agency {
            b'O' => [a, b, c, d].iter().all(|digit| digit.is_ascii_digit()) && *organisation != b' ',
            _ => !self.0.is_blank(),
        }
    }
}

impl PartialEq for IdentificationCode {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for IdentificationCode {}

impl Hash for IdentificationCode {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl FromStr for IdentificationCode {
    type Err = FieldError;

    fn from_str(code: &str) -> Result<Self, FieldError> {
        Self::new(code)
    }
}

impl fmt::Display for IdentificationCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for IdentificationCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.as_str())
    }
}
