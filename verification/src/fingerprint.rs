//! SHA-256 over the DER form: how configuration, log and backend name a certificate, an anchor or a CRL.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::digest;
use serde::{Deserialize, Serialize};

/// SHA-256 of a DER form. Text is 64 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// Of these octets.
    pub fn of(der: &[u8]) -> Self {
        Self(sha256(der))
    }

    /// The 32 octets.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl From<[u8; 32]> for Fingerprint {
    fn from(octets: [u8; 32]) -> Self {
        Self(octets)
    }
}

pub(crate) fn sha256(octets: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    for (to, from) in out.iter_mut().zip(digest::digest(&digest::SHA256, octets).as_ref()) {
        *to = *from;
    }
    out
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|octet| write!(f, "{octet:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Text that is no fingerprint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a SHA-256 fingerprint: 64 lower-case hex digits expected")]
pub struct NotAFingerprint;

impl FromStr for Fingerprint {
    type Err = NotAFingerprint;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (pairs, []) = text.as_bytes().as_chunks::<2>() else { return Err(NotAFingerprint) };
        if pairs.len() != 32 {
            return Err(NotAFingerprint);
        }
        let digit = |octet: u8| match octet {
            b'0'..=b'9' => Ok(octet - b'0'),
            b'a'..=b'f' => Ok(octet - b'a' + 10),
            _ => Err(NotAFingerprint),
        };
        let mut octets = [0; 32];
        for (octet, &[high, low]) in octets.iter_mut().zip(pairs) {
            *octet = digit(high)? << 4 | digit(low)?;
        }
        Ok(Self(octets))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_64_lower_case_digits_and_nothing_else() {
        let text = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(Fingerprint::of(b"").to_string(), text);
        assert_eq!(text.parse(), Ok(Fingerprint::of(b"")));
        for wrong in [
            "",
            "00",
            &text[1..],
            &text.to_uppercase(),
            &format!("{text}0"),
            &format!("{text}00"),
            &text.replace('e', "g"),
        ] {
            assert_eq!(wrong.parse::<Fingerprint>(), Err(NotAFingerprint), "{wrong}");
        }
    }
}
